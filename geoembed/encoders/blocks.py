"""Run an encoder over many points: in blocks that fit the cache, equal points only once."""

from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.progress import progress_bar

__all__ = ["Computes", "TakesRows", "encode_blocks", "encode_means", "encode_rows"]


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


class TakesRows(Protocol):
    """What vectors are assigned to: an array, or a file that takes rows in order."""

    def __setitem__(self, rows: slice, values: NDArray[np.floating[Any]], /) -> None:
        """Put vectors (m, dimension) into their rows."""


def encode_rows(
    encoder: Computes,
    lonlat: NDArray[np.float64],
    out: TakesRows,
    *,
    start: int = 0,
    progress: bool | None = None,
) -> None:
    """Encode points that are known to be distinct, in order, from some row on.

    Blocks are those of `encode_blocks`, so vectors have the same bits; nothing is held beside a
    block, as no equal points are looked for.

    Parameters
    ----------
    encoder : LocationEncoder
        What encodes.
    lonlat : array of shape (n, 2), float64
        Degrees, WGS 84; rows with NaN give rows of NaN.
    out : array of shape (n, dimension), or GrowingVectors
        Assigned block by block.
    start : int
        First row to encode, a multiple of the encoder's block size.
    progress : bool or None
        As in `encode_blocks`; the bar begins at `start`.
    """
    count, step = len(lonlat), encoder.blocks_of()
    with progress_bar(progress, text="embedding", unit="place", total=count, done=start) as bar:
        for first in range(start, count, step):
            rows = slice(first, min(first + step, count))
            out[rows] = encoder.finish(_values_or_nan(encoder, lonlat[rows]))
            bar.update(rows.stop - rows.start)


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
    with progress_bar(progress, text="embedding", unit="place", total=len(firsts)) as bar:
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
    if np.array_equal(owner, np.arange(len(out))):
        encode_blocks(encoder, lonlat, out, progress=progress)
        return
    starts = np.searchsorted(owner, np.arange(len(out) + 1))
    codes, firsts = _distinct_rows(lonlat, starts)
    # From here on only the rows that are the first with their points, one after the other.
    counts = np.diff(starts)[firsts]
    ends = np.cumsum(counts)
    needed = np.repeat(starts[:-1][firsts] - ends + counts, counts) + np.arange(counts.sum())
    step = encoder.blocks_of()
    row = 0
    with progress_bar(progress, text="embedding", unit="place", total=len(needed)) as bar:
        while row < len(firsts):
            begin = int(ends[row] - counts[row])
            # As many whole rows as fit a block, at least one.
            last = max(int(np.searchsorted(ends, begin + step, side="right")), row + 1)
            points = lonlat[needed[begin : ends[last - 1]]]
            edges = np.concatenate([[0], ends[row:last] - begin])
            sums = _row_sums(encoder, points, edges, step)
            with np.errstate(invalid="ignore", divide="ignore"):
                out[firsts[row:last]] = encoder.finish(sums / counts[row:last, None])
            bar.update(len(points))
            row = last
    if len(firsts) < len(out):
        _copy_repeats(out, codes, firsts, step)


def _row_sums(
    encoder: Computes,
    points: NDArray[np.float64],
    starts: NDArray[np.intp],
    step: int,
) -> NDArray[np.float64]:
    """Sum of the vectors of every row, in float64."""
    sums = np.zeros((len(starts) - 1, encoder.dimension))
    for begin in range(0, len(points), step):
        block = points[begin : begin + step]
        values = _values_or_nan(encoder, block)
        edges = np.clip(starts - begin, 0, len(block))
        for row in np.flatnonzero(np.diff(edges)):
            sums[row] += values[edges[row] : edges[row + 1]].sum(axis=0, dtype=np.float64)
    return sums


def _values_or_nan(encoder: Computes, block: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
    """Vectors of a block; rows of NaN for points that are NaN, which no encoder ever sees."""
    known = ~np.isnan(block).any(axis=1)
    if known.all():
        # A copy: whatever an encoder does to its block, the caller's places stay as they are.
        return encoder.values(np.array(block, order="C"))
    values = np.full((len(block), encoder.dimension), np.nan)
    if known.any():
        values[known] = encoder.values(np.ascontiguousarray(block[known]))
    return values


def _distinct(lonlat: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number every row by its distinct point; return also the first row of each, ascending.

    Points are compared bit for bit but for the sign of zero, so 180 and -180 stay apart.
    """
    # A complex number holds both coordinates, and pandas hashes those in linear time. Adding
    # 0.0 turns -0.0 into 0.0.
    keys = np.ascontiguousarray(lonlat + 0.0).view(np.complex128).ravel()
    codes = pd.factorize(keys, use_na_sentinel=False)[0].astype(np.intp, copy=False)
    return codes, _first_rows(codes)


def _distinct_rows(
    lonlat: NDArray[np.float64], starts: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number every row by the points it owns; return also the first row of each, ascending.

    Rows are compared by two hashes of 64 bits of their points and the points' places in the
    row: at a billion distinct rows the chance of one mistake is below 1e-20.
    """
    place = np.arange(len(lonlat)) - np.repeat(starts[:-1], np.diff(starts))
    hashes = {}
    bits = np.ascontiguousarray((lonlat + 0.0).T).view(np.uint64)
    for name, salt in (("one", np.uint64(0x9E3779B97F4A7C15)), ("two", np.uint64(0))):
        lon, lat = (pd.util.hash_array(axis ^ salt) for axis in bits)
        mixed = lon * np.uint64(3) + lat * np.uint64(5) + place.astype(np.uint64)
        total = np.concatenate([[np.uint64(0)], np.cumsum(pd.util.hash_array(mixed))])
        # Sums wrap around, and so do their differences.
        hashes[name] = total[starts[1:]] - total[starts[:-1]]
    frame = pd.DataFrame({**hashes, "count": np.diff(starts)})
    numbers = frame.groupby(list(frame), sort=False).ngroup()
    codes: NDArray[np.intp] = numbers.to_numpy().astype(np.intp, copy=False)
    return codes, _first_rows(codes)


def _first_rows(codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Row at which every code occurs first; codes count up from 0 in the order they occur."""
    firsts = np.zeros(codes.max(initial=-1) + 1, dtype=np.intp)
    # Written backwards, so that the first occurrence is the one that stays.
    firsts[codes[::-1]] = np.arange(len(codes) - 1, -1, -1, dtype=np.intp)
    return firsts


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
