"""The Earth in cells of nearly equal area, bounded by meridians and parallels."""

from functools import lru_cache
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from geoembed.containing import polygons_of
from geoembed.data import load_land
from geoembed.errors import OptionError
from geoembed.geodesy import EARTH_RADIUS_KM
from geoembed.scalars import is_number

__all__ = ["EarthCells"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

# Smaller cells would be tens of millions.
_SMALLEST_KM: Final = 5.0
_LARGEST_KM: Final = 2000.0


class EarthCells:
    """Cells of nearly equal area that cover the sphere without gaps.

    Bands of equal height in latitude are each cut into a whole number of equal cells, starting
    at the antimeridian, so that no cell lies across it.

    Parameters
    ----------
    cell_km : float
        Side of a cell, 5 to 2,000.

    Attributes
    ----------
    cell_km : float
        As given.

    Raises
    ------
    OptionError
        If `cell_km` is outside its range.

    Examples
    --------
    >>> cells = EarthCells(500.0)
    >>> len(cells), round(float(cells.areas(np.arange(len(cells))).sum()))
    (2038, 510065881)
    >>> cells.locate(np.array([[2.35, 48.86]])).tolist()
    [1767]
    """

    def __init__(self, cell_km: float = 50.0) -> None:
        fine = is_number(cell_km)
        if not fine or not _SMALLEST_KM <= float(cell_km) <= _LARGEST_KM:
            raise OptionError(
                f"cell_km={cell_km!r} does not fit: give kilometres from {_SMALLEST_KM:g} to "
                f"{_LARGEST_KM:,.0f}."
            )
        self.cell_km = float(cell_km)
        bands = max(2, round(np.pi * EARTH_RADIUS_KM / self.cell_km))
        self._edges = np.linspace(-90.0, 90.0, bands + 1)
        sines = np.sin(np.radians(self._edges))
        band_areas = 2.0 * np.pi * EARTH_RADIUS_KM**2 * np.diff(sines)
        # Three at a pole: a cell of half a turn and more would be no box on a map.
        height = np.pi * EARTH_RADIUS_KM / bands
        self._counts = np.maximum(3, np.round(band_areas / height**2)).astype(np.intp)
        self._firsts = np.concatenate([[0], np.cumsum(self._counts)])
        self._band_cell_areas = band_areas / self._counts

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def locate(self, lonlat: Floats) -> Rows:
        """Return the number of the cell of every place.

        Parameters
        ----------
        lonlat : array of shape (n, 2), float64
            Degrees, WGS 84.

        Returns
        -------
        array of shape (n,), int
            From 0, band by band from the south pole, from the antimeridian eastwards.
        """
        bands = len(self._counts)
        band = np.clip(np.floor((lonlat[:, 1] + 90.0) / 180.0 * bands), 0, bands - 1).astype(
            np.intp
        )
        count = self._counts[band]
        # 180 and -180 are one meridian.
        turn = np.mod(lonlat[:, 0] + 180.0, 360.0) / 360.0
        column = np.minimum((turn * count).astype(np.intp), count - 1)
        cells: Rows = self._firsts[band] + column
        return cells

    def areas(self, cells: Rows) -> Floats:
        """Return how large cells are.

        Parameters
        ----------
        cells : array of shape (n,), int
            Their numbers.

        Returns
        -------
        array of shape (n,), float64
            Square kilometres on the sphere of radius 6371.0088 km.
        """
        return self._band_cell_areas[self._bands(cells)]

    def bounds(self, cells: Rows) -> Floats:
        """Return where cells end.

        Parameters
        ----------
        cells : array of shape (n,), int
            Their numbers.

        Returns
        -------
        array of shape (n, 4), float64
            West, south, east and north, degrees.
        """
        band = self._bands(cells)
        width = 360.0 / self._counts[band]
        column = cells - self._firsts[band]
        return np.column_stack(
            [
                column * width - 180.0,
                self._edges[band],
                # Computed as its neighbour's west is, so that borders are shared exactly.
                np.where(column + 1 == self._counts[band], 180.0, (column + 1) * width - 180.0),
                self._edges[band + 1],
            ]
        )

    def centres(self, cells: Rows) -> Floats:
        """Return the middle of cells.

        Parameters
        ----------
        cells : array of shape (n,), int
            Their numbers.

        Returns
        -------
        array of shape (n, 2), float64
            Degrees.
        """
        west, south, east, north = self.bounds(cells).T
        return np.column_stack([(west + east) / 2.0, (south + north) / 2.0])

    def boxes(self, cells: Rows) -> NDArray[np.object_]:
        """Return cells as polygons.

        Parameters
        ----------
        cells : array of shape (n,), int
            Their numbers.

        Returns
        -------
        array of shapely polygons
            Boxes in lon/lat.
        """
        polygons: NDArray[np.object_] = shapely.box(*self.bounds(cells).T)
        return polygons

    def touching(self, support: Any) -> Rows:
        """Return the cells that a support touches.

        Parameters
        ----------
        support : {"land", "sphere"} or polygons
            Land at 1:50 million, all there is, or polygons in lon/lat as for
            `geoembed.containing.inside_of`.

        Returns
        -------
        array of int
            Ascending.

        Raises
        ------
        OptionError
            If it is something else.
        """
        if isinstance(support, str):
            if support == "sphere":
                return np.arange(len(self))
            if support == "land":
                return _land_cells(self.cell_km).copy()
            raise OptionError(
                f"support={support!r} is not offered: choose 'land', 'sphere' or give polygons."
            )
        return self._touching(polygons_of(support, "support"))

    def _touching(self, polygons: NDArray[np.object_]) -> Rows:
        everything = np.arange(len(self))
        tree = shapely.STRtree(self.boxes(everything))
        parts = shapely.get_parts(polygons)
        touched = np.zeros(len(self), dtype=np.bool_)
        for turn in (0.0, 360.0, -360.0):
            moved = shapely.transform(parts, lambda xy, turn=turn: xy + np.array([turn, 0.0]))
            touched[tree.query(moved, predicate="intersects")[1]] = True
        return np.flatnonzero(touched)

    def _bands(self, cells: Rows) -> Rows:
        bands: Rows = np.searchsorted(self._firsts, cells, side="right") - 1
        return bands


@lru_cache(maxsize=4)
def _land_cells(cell_km: float) -> Rows:
    cells = EarthCells(cell_km)
    return cells._touching(load_land().geometry.to_numpy())
