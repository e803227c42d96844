"""Values of cells, read tile by tile: each tile once, whatever the order of the cells."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from geoembed.errors import TargetError
from geoembed.targets.raster import Raster, values_of

__all__ = ["read_cells", "tile_numbers"]

Floats = NDArray[np.float64]
Cells = NDArray[np.int64]

# Cells of the largest window that is read in one call, if tiles are smaller.
_RUN = 2**21


def tile_numbers(raster: Raster, row: Cells, column: Cells) -> Cells:
    """Number the tiles row by row: cells of one tile are read together."""
    across = -(-raster.width // raster.tile[1])
    numbers: Cells = row // raster.tile[0] * across + column // raster.tile[1]
    return numbers


def read_cells(raster: Raster, row: Cells, column: Cells) -> Floats:
    """Read the values of cells.

    Parameters
    ----------
    raster : Raster
        Where to read.
    row, column : ndarray of int, shape (m,)
        Cells on the raster, in any order, repeated or not.

    Returns
    -------
    ndarray of float64, shape (bands, m)
        Scaled values; NaN where they mean no data, are masked or are not finite.

    Raises
    ------
    TargetError
        If the file cannot be read there.
    """
    values = np.empty((len(raster.bands), len(row)))
    if not len(row):
        return values
    tile = tile_numbers(raster, row, column)
    order = np.argsort(tile, kind="stable")
    sorted_row, sorted_column = row[order], column[order]
    first = _runs(raster, tile[order])
    last = np.append(first[1:], len(order))
    # Windows are cut down to their cells: less to copy, and the same blocks.
    top, left = np.minimum.reduceat(sorted_row, first), np.minimum.reduceat(sorted_column, first)
    height = np.maximum.reduceat(sorted_row, first) - top + 1
    width = np.maximum.reduceat(sorted_column, first) - left + 1
    with raster.open() as dataset:
        types = [dataset.dtypes[band.number - 1] for band in raster.bands]
        stored = [np.empty(len(row), dtype=dtype) for dtype in types]
        valid = [np.ones(len(row), dtype=np.bool_) if b.masked else None for b in raster.bands]
        for at in range(len(first)):
            window = Window(int(left[at]), int(top[at]), int(width[at]), int(height[at]))
            cells = slice(first[at], last[at])
            inner = sorted_row[cells] - top[at], sorted_column[cells] - left[at]
            for band, found, flags in zip(raster.bands, stored, valid, strict=True):
                found[cells] = _read(dataset, raster, band.number, window)[inner]
                if flags is not None:
                    flags[cells] = dataset.read_masks(band.number, window=window)[inner] > 0
    for number, (band, found, flags) in enumerate(zip(raster.bands, stored, valid, strict=True)):
        scaled = values_of(found, band)
        if flags is not None:
            scaled[~flags] = np.nan
        values[number, order] = scaled
    return values


def _runs(raster: Raster, tile: Cells) -> NDArray[np.intp]:
    """Where runs of neighbouring tiles begin in ascending tile numbers; each run is one read."""
    across = -(-raster.width // raster.tile[1])
    first = np.flatnonzero(np.diff(tile, prepend=-1))
    numbers = tile[first]
    starts = (np.diff(numbers, prepend=-2) != 1) | (numbers % across == 0)
    begin = np.flatnonzero(starts)[np.cumsum(starts) - 1]
    longest = max(1, _RUN // (raster.tile[0] * raster.tile[1]))
    starts |= (np.arange(len(first)) - begin) % longest == 0
    runs: NDArray[np.intp] = first[starts]
    return runs


def _read(dataset: Any, raster: Raster, number: int, window: Window) -> NDArray[Any]:
    try:
        read: NDArray[Any] = dataset.read(number, window=window)
    except RasterioIOError as error:
        raise TargetError(
            f"Rows {window.row_off} to {window.row_off + window.height - 1}, columns "
            f"{window.col_off} to {window.col_off + window.width - 1} of band {number} of the "
            f"raster {raster.name} cannot be read: {error}. The file may be cut short."
        ) from error
    return read
