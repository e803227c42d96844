"""Principal components of many vectors in bounded memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from geoembed.errors import OptionError

__all__ = ["principal_components"]

Floats = npt.NDArray[np.float64]

# Rows turned into float64 at a time.
_BLOCK = 16_384
# Directions are found on so many numbers at most, 24,000 rows of 512: more rows change colours by
# less than an eye can see.
_FIT_VALUES = 24_000 * 512


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
        The sign of a component is the one that makes its largest loading positive. Zeros where
        fewer than `count` directions vary.
    explained : ndarray of shape (count,)
        Share of the weighted variance that each holds.

    Raises
    ------
    OptionError
        If all rows are the same.

    Notes
    -----
    Of more than 12 million numbers (24,000 rows of 512), a random sample of the rows, the same at
    each call, decides the directions; all rows are projected.

    Examples
    --------
    >>> line = np.outer(np.arange(4.0), [3.0, 4.0, 0.0])
    >>> scores, explained = principal_components(line, np.ones(4))
    >>> scores[:, 0].round(6).tolist()
    [-7.5, -2.5, 2.5, 7.5]
    """
    sample = _sample(len(embedding), max(_FIT_VALUES // embedding.shape[1], 10 * count))
    mean, directions, variance, total = _fit(embedding[sample], weights[sample], count)
    if not total > 1e-12 * float(mean @ mean):
        raise OptionError("embedding has the same vector in every row: there is nothing to show.")
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(count)])
    scores = [(block - mean) @ directions for block in _blocks(embedding)]
    return np.concatenate(scores), variance / total


def _sample(rows: int, most: int) -> Any:
    if rows <= most:
        return slice(None)
    # Every k-th row of a regular grid would follow its lines; a fixed seed repeats itself as well.
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def _fit(
    embedding: npt.NDArray[Any], weights: Floats, count: int
) -> tuple[Floats, Floats, Floats, float]:
    """Weighted mean, first directions (d, count), their variance, and the variance in all."""
    share = weights / weights.sum()
    # Around a first row, so that a large common offset costs no digits.
    origin = embedding[0].astype(np.float64)
    centred = embedding - origin
    mean = share @ centred
    centred -= mean
    centred *= np.sqrt(share)[:, None]
    # The products of rows and those of columns have the same eigenvalues: take the smaller square.
    by_columns = centred.shape[1] <= centred.shape[0]
    square = centred.T @ centred if by_columns else centred @ centred.T
    total, side = float(np.trace(square)), len(square)
    first = (max(side - count, 0), side - 1)
    variance, vectors = eigh(square, subset_by_index=first)
    directions = vectors if by_columns else centred.T @ vectors
    norms = np.linalg.norm(directions, axis=0)
    # Where nothing varies a direction would be rounding noise, and colours would amplify it.
    real = variance > 1e-12 * total
    directions = np.where(real, directions / np.where(real, norms, 1.0), 0.0)
    return mean + origin, directions[:, ::-1], np.where(real, variance, 0.0)[::-1], total


def _blocks(embedding: npt.NDArray[Any]) -> Iterator[Floats]:
    for start in range(0, len(embedding), _BLOCK):
        yield embedding[start : start + _BLOCK].astype(np.float64)
