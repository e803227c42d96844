"""Run an encoder over many points: in blocks that fit the cache, equal points only once."""

from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

__all__ = ["Computes", "encode_blocks", "encode_means"]

# Work shorter than this needs no progress bar.
_QUIET_SECONDS = 2.0


class Computes(Protocol):
    """What is needed of a `geoembed.encoders.base.LocationEncoder` to run it over many points."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    def values(self, lonlat: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        """Return raw vectors (m, dimension) of valid lon/lat (m, 2)."""

    def finish(self, values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Normalise raw vectors if that was asked for."""

    def blocks_of(self) -> int:
        """Return how many rows to compute at a time."""


def encode_blocks(
    encoder: Computes,
    lonlat: NDArray[np.float64],
    out: NDArray[np.floating[Any]],
    *,
    progress: bool | None = None,
) -> None:
    """Encode points into `out`, equal points once, without memory beyond a block.

    Vectors of points seen for the first time go straight to their rows; copies are made from
    there afterwards, so that no second array of distinct vectors is ever held.

    Parameters
    ----------
    encoder : LocationEncoder
        What encodes.
    lonlat : array of shape (n, 2), float64
        Degrees, WGS 84; rows with NaN give rows of NaN.
    out : array of shape (n, dimension)
        Written in place; values are cast to its type.
    progress : bool or None
        Show a bar; None shows one on a terminal when the work is long.
    """
    codes, firsts = _distinct(lonlat)
    step = encoder.blocks_of()
    with _bar(len(firsts), progress) as bar:
        for start in range(0, len(firsts), step):
            rows = firsts[start : start + step]
            contiguous = rows[-1] - rows[0] == len(rows) - 1
            target = slice(rows[0], rows[-1] + 1) if contiguous else rows
            out[target] = encoder.finish(_values_or_nan(encoder, lonlat[target]))
            bar.update(len(rows))
    if len(firsts) < len(lonlat):
        _copy_repeats(out, codes, firsts, step)


def encode_means(
    encoder: Computes,
    lonlat: NDArray[np.float64],
    owner: NDArray[np.intp],
    out: NDArray[np.floating[Any]],
    *,
    progress: bool | None = None,
) -> None:
    """Encode points and write the mean vector of every owner into its row of `out`.

    Parameters
    ----------
    encoder : LocationEncoder
        What encodes.
    lonlat : array of shape (m, 2), float64
        Degrees, WGS 84.
    owner : array of shape (m,), sorted
        Row of `out` each point belongs to. Rows that own no point, and rows one of whose points
        is NaN, become NaN.
    out : array of shape (n, dimension)
        Written in place.
    progress : bool or None
        As in `encode_blocks`.
    """
    starts = np.searchsorted(owner, np.arange(len(out) + 1))
    step = encoder.blocks_of()
    row = 0
    with _bar(len(lonlat), progress) as bar:
        while row < len(out):
            # As many whole rows as fit a block, at least one.
            last = int(np.searchsorted(starts, starts[row] + step, side="right")) - 1
            last = min(max(last, row + 1), len(out))
            first_point, end_point = starts[row], starts[last]
            sums, counts = _row_sums(
                encoder, lonlat[first_point:end_point], starts[row : last + 1] - first_point, step
            )
            with np.errstate(invalid="ignore", divide="ignore"):
                out[row:last] = encoder.finish(sums / counts[:, None])
            bar.update(int(end_point - first_point))
            row = last


def _row_sums(
    encoder: Computes,
    points: NDArray[np.float64],
    starts: NDArray[np.intp],
    step: int,
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Sum of the vectors, and number of the points, of every row; float64 for the sums."""
    sums = np.zeros((len(starts) - 1, encoder.dimension))
    counts = np.diff(starts)
    for begin in range(0, len(points), step):
        block = points[begin : begin + step]
        values = _values_or_nan(encoder, block)
        edges = np.clip(starts - begin, 0, len(block))
        for row in np.flatnonzero(np.diff(edges)):
            sums[row] += values[edges[row] : edges[row + 1]].sum(axis=0, dtype=np.float64)
    return sums, counts


def _values_or_nan(encoder: Computes, block: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
    """Vectors of a block; rows of NaN for points that are NaN, which no encoder ever sees."""
    known = ~np.isnan(block).any(axis=1)
    if known.all():
        return encoder.values(np.ascontiguousarray(block))
    values = np.full((len(block), encoder.dimension), np.nan)
    if known.any():
        values[known] = encoder.values(np.ascontiguousarray(block[known]))
    return values


def _distinct(lonlat: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number every row by its distinct point; return also the first row of each, ascending.

    Points are compared bit for bit but for the sign of zero, so 180 and -180 stay apart.
    """
    count = len(lonlat)
    # A complex number holds both coordinates, and pandas hashes those in linear time. Adding
    # 0.0 turns -0.0 into 0.0.
    keys = np.ascontiguousarray(lonlat + 0.0).view(np.complex128).ravel()
    codes, uniques = pd.factorize(keys, use_na_sentinel=False)
    firsts = np.full(len(uniques), count, dtype=np.intp)
    # Written backwards, so that the first occurrence is the one that stays.
    firsts[codes[::-1]] = np.arange(count - 1, -1, -1, dtype=np.intp)
    return codes.astype(np.intp, copy=False), firsts


def _copy_repeats(
    out: NDArray[np.floating[Any]],
    codes: NDArray[np.intp],
    firsts: NDArray[np.intp],
    step: int,
) -> None:
    repeated = np.ones(len(codes), dtype=bool)
    repeated[firsts] = False
    rows = np.flatnonzero(repeated)
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        out[some] = out[firsts[codes[some]]]


def _bar(total: int, progress: bool | None) -> "tqdm[Any]":
    return tqdm(
        total=total,
        unit="place",
        unit_scale=True,
        desc="embedding",
        # tqdm's None means: only where the output is a terminal.
        disable=None if progress is None else not progress,
        delay=_QUIET_SECONDS if progress is None else 0.0,
        leave=progress is True,
    )
