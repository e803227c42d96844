"""Principal components of many vectors in bounded memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from geoembed.errors import OptionError

__all__ = ["principal_components"]

Floats = npt.NDArray[np.float64]

# Rows turned into float64 at a time.
_BLOCK = 16_384
# Directions are found on so many rows at most; more change colours by less than an eye can see.
_FIT_ROWS = 40_000


def principal_components(
    embedding: npt.NDArray[Any], weights: Floats, count: int = 3
) -> tuple[Floats, Floats]:
    """Project rows on their first principal components.

    Parameters
    ----------
    embedding : ndarray of shape (n, d)
        Finite values, ``d >= count``.
    weights : ndarray of shape (n,)
        How much each row counts for mean and covariance; positive.
    count : int, default 3
        How many components.

    Returns
    -------
    scores : ndarray of shape (n, count), float64
        The sign of a component is the one that makes its largest loading positive.
    explained : ndarray of shape (count,)
        Share of the weighted variance that each holds.

    Raises
    ------
    OptionError
        If all rows are the same.

    Notes
    -----
    Of more than 40,000 rows, a random sample of that size (the same at each call) decides the
    directions; all rows are projected.

    Examples
    --------
    >>> line = np.outer(np.arange(4.0), [3.0, 4.0, 0.0])
    >>> scores, explained = principal_components(line, np.ones(4))
    >>> scores[:, 0].round(6).tolist()
    [-7.5, -2.5, 2.5, 7.5]
    """
    fitted = slice(None) if len(embedding) <= _FIT_ROWS else _sample(len(embedding))
    mean, covariance = _moments(embedding[fitted], weights[fitted])
    total = float(np.trace(covariance))
    if not total > 1e-12 * float(mean @ mean):
        raise OptionError("embedding has the same vector in every row: there is nothing to show.")
    variance, directions = np.linalg.eigh(covariance)
    directions = directions[:, ::-1][:, :count]
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(count)])
    scores = [(block - mean) @ directions for block in _blocks(embedding)]
    return np.concatenate(scores), np.maximum(variance[::-1][:count], 0) / total


def _sample(rows: int) -> npt.NDArray[np.intp]:
    # Every k-th row of a regular grid would follow its lines; a fixed seed repeats itself as well.
    return np.sort(np.random.default_rng(0).choice(rows, _FIT_ROWS, replace=False))


def _moments(embedding: npt.NDArray[Any], weights: Floats) -> tuple[Floats, Floats]:
    """Weighted mean and covariance, in float64."""
    share = weights / weights.sum()
    width = embedding.shape[1]
    mean, second = np.zeros(width), np.zeros((width, width))
    # Around a first row, so that a large common offset costs no digits.
    origin = embedding[0].astype(np.float64)
    for start, block in zip(range(0, len(embedding), _BLOCK), _blocks(embedding), strict=True):
        centred = block - origin
        part = share[start : start + _BLOCK]
        mean += part @ centred
        second += centred.T @ (centred * part[:, None])
    return mean + origin, second - np.outer(mean, mean)


def _blocks(embedding: npt.NDArray[Any]) -> Iterator[Floats]:
    for start in range(0, len(embedding), _BLOCK):
        yield embedding[start : start + _BLOCK].astype(np.float64)
