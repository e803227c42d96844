"""Weighted quantiles of many values, without sorting all of them."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["weighted_quantiles"]

Floats = NDArray[np.float64]

# Values are gathered into so many bins, of which one is sorted.
_BINS: Final = 4096


def weighted_quantiles(values: Floats, weights: Floats, shares: Floats) -> Floats:
    """Return the values up to which shares of the weight lie, without sorting all of them.

    Parameters
    ----------
    values : array of shape (n,)
        Not negative.
    weights : array of shape (n,)
        Not negative, one at least above 0.
    shares : array of shape (k,)
        Between 0 and 1.

    Returns
    -------
    array of shape (k,)
        For each share the smallest of `values` up to which so much weight lies.

    Examples
    --------
    >>> weighted_quantiles(np.array([3.0, 1.0, 2.0]), np.ones(3), np.array([0.5])).tolist()
    [2.0]
    """
    width = max(float(values.max()), np.finfo(np.float64).tiny) / _BINS
    bins = np.minimum((values / width).astype(np.intp), _BINS - 1)
    gathered = np.cumsum(np.bincount(bins, weights, _BINS))
    found = np.empty(len(shares))
    for number, wanted in enumerate(shares * gathered[-1]):
        bin_ = int(np.searchsorted(gathered, wanted))
        members = np.flatnonzero(bins == bin_)
        members = members[np.argsort(values[members])]
        below = gathered[bin_ - 1] if bin_ else 0.0
        at = int(np.searchsorted(below + np.cumsum(weights[members]), wanted))
        found[number] = values[members[min(at, len(members) - 1)]]
    return found
