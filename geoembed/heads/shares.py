"""Targets that are shares of classes: read, checked and rescaled."""

import warnings
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.columns import name_rows
from geoembed.errors import TargetError
from geoembed.heads.base import GeoembedHeadWarning
from geoembed.heads.reading import Target, read_numbers

__all__ = ["read_shares", "sums_to", "warn_of_absent"]

# Rounding to four digits of ten classes, or to float32, misses 1 by less.
_TOLERANCE: Final = 1e-3

# The last share is often 1 less the others, which rounds to just below 0.
_ROUNDING: Final = 1e-9


def read_shares(target: Target) -> NDArray[np.float64]:
    """Return targets as shares of classes, rows rescaled to sum to 1.

    Parameters
    ----------
    target : Target
        From `geoembed.heads.reading.read_target`, one column a class.

    Returns
    -------
    ndarray of shape (n, k), float64
        In [0, 1]; rows sum to 1.

    Raises
    ------
    TargetError
        If there are fewer than two classes, a value is no number, missing, not finite or below
        -1e-9, or rows do not sum to 1 within 0.1 %; the message names the first rows with what
        was found.

    Examples
    --------
    >>> from geoembed.heads.reading import read_target
    >>> read_shares(read_target(None, [[0.25, 0.75], [0.0, 1.0]])).tolist()
    [[0.25, 0.75], [0.0, 1.0]]
    """
    if target.columns < 2:
        raise TargetError(
            f"Shares need at least two classes and y has {target.columns}. For a single share add "
            "the rest as a class, 1 - share; for a number without bounds use LocationRegressor."
        )
    shares = read_numbers(target)
    below = shares < -_ROUNDING
    if below.any():
        column = int(np.flatnonzero(below.any(axis=0))[0])
        rows = below[:, column]
        named = name_rows(target.index, rows, lambda at: f"{shares[at, column]:g}")
        raise TargetError(
            f"{rows.sum():,} of {len(rows):,} rows of {target.name(column)} are negative: {named}. "
            "Shares are between 0 and 1: mend those rows, or leave them out."
        )
    shares = np.maximum(shares, 0.0)
    sums = shares.sum(axis=1)
    off = ~sums_to(shares, 1.0)
    if off.any():
        named = name_rows(target.index, off, lambda at: f"sum {sums[at]:g}")
        raise TargetError(
            f"{off.sum():,} of {len(off):,} rows of y do not sum to 1 within {_TOLERANCE:.1%}: "
            f"{named}. {_remedy(shares)}"
        )
    return np.asarray(shares / sums[:, None])


def sums_to(numbers: NDArray[np.float64], whole: float) -> NDArray[np.bool_]:
    """Tell which rows sum to a whole within 0.1 %, which is what shares are allowed.

    Parameters
    ----------
    numbers : array of shape (n, k)
        Of k columns.
    whole : float
        1, or 100 for percentages.

    Returns
    -------
    ndarray of shape (n,), bool
        False where a number is missing.

    Examples
    --------
    >>> sums_to(np.array([[30.0, 70.0], [0.3, 0.7]]), 100.0).tolist()
    [True, False]
    """
    off = np.abs(numbers.sum(axis=1) - whole)
    return np.asarray(off <= whole * (_TOLERANCE + _ROUNDING))


def warn_of_absent(shares: NDArray[np.float64], classes: NDArray[Any]) -> None:
    """Warn of classes whose share is zero in every row, which nothing can be learned of.

    Parameters
    ----------
    shares : array of shape (n, k)
        Of the training rows.
    classes : array of shape (k,)
        Names of the classes.

    Examples
    --------
    >>> warn_of_absent(np.array([[0.5, 0.5]]), np.array(["wood", "water"]))
    """
    absent = ~shares.any(axis=0)
    if absent.any():
        warnings.warn(
            f"The share of {', '.join(map(repr, classes[absent].tolist()))} is 0 in all "
            f"{len(shares):,} rows: nothing can be learned of it, and predictions of it mean "
            "nothing.",
            GeoembedHeadWarning,
            stacklevel=4,
        )


def _remedy(shares: NDArray[np.float64]) -> str:
    if sums_to(shares, 100.0).mean() > 0.5:
        return "They look like percentages: divide by 100."
    if (shares.sum(axis=1) < 1.0).all():
        return "A class may be missing: add a column of the rest, 1 - the sum of the others."
    return "Leave those rows out of X and y, or divide every row by its sum."
