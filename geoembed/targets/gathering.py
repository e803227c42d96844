"""Cells under areas, with the square metres of each that lie inside: the way of all zonal sums."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoembed.targets.areas import Areas
from geoembed.targets.cells import read_cells, tile_numbers
from geoembed.targets.coverage import Windows, cover, cut_windows
from geoembed.targets.grids import Grid
from geoembed.targets.laying import areas_m2, lay
from geoembed.targets.raster import Raster

__all__ = ["Portion", "Totals", "gather"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

# Corners of the areas that are laid at once, and cells of the windows that are measured at
# once; together they bound the memory to some hundred megabytes.
_CORNERS = 2**20
_CELLS = 2**20


@dataclass(frozen=True, eq=False)
class Portion:
    """Some of the cells under some of the areas.

    Parameters
    ----------
    row : ndarray of intp, shape (m,)
        Row of the area.
    values : ndarray of float64, shape (bands, m)
        Values of the cell; NaN where there are none.
    area : ndarray of float64, shape (m,)
        Square metres of the cell that lie in the area.
    """

    row: Rows
    values: Floats
    area: Floats


@dataclass(frozen=True, eq=False)
class Totals:
    """Sizes of the areas, filled while they are gathered.

    Parameters
    ----------
    area : ndarray of float64, shape (n,)
        Square metres of each area.
    inside : ndarray of float64, shape (n,)
        Square metres of it that lie on the raster.
    """

    area: Floats
    inside: Floats


@dataclass(frozen=True, eq=False)
class _Cells:
    """Cells of one raster, the part that each lies under, and how much of it."""

    part: Rows
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    area: Floats


def gather(rasters: Sequence[Raster], areas: Areas, totals: Totals) -> Iterator[Portion]:
    """Find the cells under areas, and read them.

    Parameters
    ----------
    rasters : sequence of Raster
        Where several have a value for a place, the first gives it.
    areas : Discs or Outlines
        The areas.
    totals : Totals
        Of zeros; complete when the iterator is exhausted.

    Yields
    ------
    Portion
        Areas are taken in the order of the tiles of the first raster.
    """
    grids = [Grid(raster) for raster in rasters]
    for rows in _chunks(grids[0], areas):
        parts, owner = areas.parts(rows)
        if not len(parts):
            continue
        owner = rows[owner]
        totals.area[:] += np.bincount(owner, areas_m2(parts), len(areas))
        for number, grid in enumerate(grids):
            for cells in _cells(grid, parts):
                values = read_cells(grid.raster, cells.row, cells.column)
                free = _free(grids[: number + 1], cells)
                row, area = owner[cells.part[free]], cells.area[free]
                totals.inside[:] += np.bincount(row, area, len(areas))
                yield Portion(row, values[:, free], area)


def _chunks(grid: Grid, areas: Areas) -> Iterator[Rows]:
    """Rows of the areas in the order of the raster's tiles, some at a time."""
    rows = np.flatnonzero(areas.valid)
    if not len(rows):
        return
    pixels, inside = grid.locate(areas.centres()[rows])
    row, column = grid.cells_at(np.where(inside[:, None], pixels, 0.0))
    rows = rows[
        np.argsort(np.where(inside, tile_numbers(grid.raster, row, column), -1), kind="stable")
    ]
    ends = np.cumsum(areas.sizes()[rows])
    yield from np.split(
        rows, np.unique(np.searchsorted(ends, np.arange(_CORNERS, ends[-1], _CORNERS)))
    )


def _cells(grid: Grid, parts: NDArray[np.object_]) -> Iterator[_Cells]:
    laid, samples = lay(grid, parts)
    for edges, part in laid:
        windows = cut_windows(edges.boxes(), grid.raster.height, grid.columns, grid.raster.tile)
        for some in _batches(grid, windows):
            window, row, column, share = cover(edges, some)
            area = share * grid.cell_areas(row, column)
            if len(row):
                yield _Cells(part[some.shape[window]], row, column, area)
    if samples is not None:
        pixels, inside = grid.locate(samples.lonlat)
        row, column = grid.cells_at(pixels[inside])
        yield _Cells(samples.part[inside], row, column, samples.area[inside])


def _batches(grid: Grid, windows: Windows) -> Iterator[Windows]:
    """Windows in the order of tiles, as many at a time as fit into memory."""
    if not len(windows):
        return
    order = np.argsort(tile_numbers(grid.raster, windows.row, windows.column), kind="stable")
    ends = np.cumsum((windows.height * (windows.width + 1))[order])
    cuts = np.searchsorted(ends, np.arange(_CELLS, ends[-1], _CELLS))
    for some in np.split(order, np.unique(cuts)):
        if len(some):
            yield windows.take(some)


def _free(grids: list[Grid], cells: _Cells) -> NDArray[np.bool_]:
    """Which cells of the last grid lie where no earlier one has a value."""
    free = np.ones(len(cells.row), dtype=np.bool_)
    if len(grids) > 1:
        middle = np.stack([cells.column + 0.5, cells.row + 0.5], axis=1)
        lonlat = grids[-1].to_lonlat(middle)
        for grid in grids[:-1]:
            pixels, inside = grid.locate(np.where(np.isfinite(lonlat), lonlat, np.nan))
            inside &= free
            at = np.flatnonzero(inside)
            row, column = grid.cells_at(pixels[at])
            free[at] = np.isnan(read_cells(grid.raster, row, column)).any(axis=0)
    return free
