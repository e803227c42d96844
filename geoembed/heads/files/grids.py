"""The cells of a raster to be predicted: where they lie, and which are wanted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from rasterio.transform import Affine

from geoembed.coordinates import read_places
from geoembed.crs import WGS84, name_crs, settle_crs
from geoembed.errors import CoordinateError, OptionError
from geoembed.parts import decompose

__all__ = ["Grid", "make_grid", "make_mask"]

# More cells than this are a typing error of the resolution rather than a map.
_MOST_CELLS: Final = 20_000_000_000
# A cell centre has to come back to itself, within this share of a cell.
_RETURN: Final = 0.01


@dataclass(frozen=True, eq=False)
class Grid:
    """A raster's cells in a CRS.

    Parameters
    ----------
    crs : pyproj.CRS
        Geographic or projected.
    west, north : float
        Corner of the first cell, in units of the CRS.
    step : (float, float)
        Width and height of a cell, positive, in units of the CRS.
    width, height : int
        Number of columns and rows.
    """

    crs: CRS
    west: float
    north: float
    step: tuple[float, float]
    width: int
    height: int

    @property
    def transform(self) -> Affine:
        """From (column, row) to coordinates of the CRS, as rasterio wants it."""
        return Affine(self.step[0], 0.0, self.west, 0.0, -self.step[1], self.north)

    def centres(self, first: int, stop: int) -> NDArray[np.float64]:
        """Return the lon/lat of the cells of rows `first` to `stop`, NaN off the Earth.

        Parameters
        ----------
        first, stop : int
            Rows, the last one excluded.

        Returns
        -------
        array of shape ((stop - first) * width, 2), float64
            Degrees, WGS 84, row by row.
        """
        east = self.west + (np.arange(self.width) + 0.5) * self.step[0]
        north = self.north - (np.arange(first, stop) + 0.5) * self.step[1]
        cells = np.column_stack([np.tile(east, len(north)), np.repeat(north, len(east))])
        if self._back is None:
            return read_places(cells, crs=self.crs).lonlat
        lonlat = read_places(cells, crs=self.crs, on_invalid="nan").lonlat
        # Outside its outline a projection may still answer, with places that lie elsewhere.
        back = np.column_stack(self._back.transform(*lonlat.T))
        lost = ~(np.abs(back - cells) <= _RETURN * np.asarray(self.step)).all(axis=1)
        lonlat[lost] = np.nan
        return lonlat

    @cached_property
    def _back(self) -> Transformer | None:
        if self.crs.is_geographic:
            return None
        return Transformer.from_crs(WGS84, self.crs, always_xy=True)


def make_grid(
    bounds: Sequence[float] | None, within: Any, crs: Any, resolution: float | Sequence[float]
) -> Grid:
    """Lay cells over bounds, or over the bounds of polygons.

    Parameters
    ----------
    bounds : (west, south, east, north) or None
        In units of `crs`; in degrees, a west beyond the east crosses the antimeridian.
    within : geometries or None
        Give the bounds if there are none.
    crs : anything pyproj takes
        Of the raster.
    resolution : float or (float, float)
        Width and height of a cell, in units of `crs`.

    Returns
    -------
    Grid
        Whose lines lie on multiples of the resolution, wide enough for the bounds.

    Raises
    ------
    OptionError
        If neither is given, the bounds are empty or off the Earth, or the resolution does not fit.

    Examples
    --------
    >>> grid = make_grid((5.9, 45.8, 10.5, 47.8), None, "EPSG:4326", 0.1)
    >>> grid.width, grid.height
    (46, 20)
    """
    system = settle_crs(None, crs, "crs=", must_carry=False) or WGS84
    step = _check_resolution(resolution)
    if bounds is None:
        if within is None:
            raise OptionError("A raster needs bounds= (west, south, east, north) or within=.")
        bounds = _bounds_of(within, system)
    west, south, east, north = _check_bounds(bounds, system)
    # A hair less, so that bounds on a grid line do not reach into the next cell.
    left, top = _down(west / step[0]), _up(north / step[1])
    width, height = _up(east / step[0]) - left, top - _down(south / step[1])
    if width * height > _MOST_CELLS:
        raise OptionError(
            f"resolution={resolution!r} gives {width:,} x {height:,} cells. It is in units of "
            f"{name_crs(system)}: {'degrees' if system.is_geographic else 'mostly metres'}."
        )
    grid_north = top * step[1]
    if system.is_geographic and (grid_north > 90.0 or grid_north - height * step[1] < -90.0):
        # Cells that would reach over a pole: keep their size, start at the bound itself.
        grid_north = min(grid_north, 90.0)
        height = min(height, math.floor((grid_north + 90.0) / step[1] + 1e-9))
    return Grid(system, left * step[0], grid_north, step, width, height)


def make_mask(within: Any) -> "Mask | None":
    """Prepare polygons for the question which cells lie in them.

    Parameters
    ----------
    within : GeoDataFrame, GeoSeries, geometry, sequence of geometries, or None
        Polygons; without a CRS of their own, longitude and latitude on WGS 84.

    Returns
    -------
    Mask or None
        None if all cells are wanted.

    Raises
    ------
    CoordinateError
        If there are no polygons in it.

    Examples
    --------
    >>> mask = make_mask(shapely.box(0, 0, 10, 10))
    >>> mask.contains(np.array([[5.0, 5.0], [15.0, 5.0]])).tolist()
    [True, False]
    """
    return None if within is None else Mask(_polygons(within))


class Mask:
    """Polygons in longitude and latitude, edges straight, unwrapped at the antimeridian.

    Parameters
    ----------
    polygons : ndarray of object
        Shapely polygons.
    """

    def __init__(self, polygons: NDArray[np.object_]) -> None:
        self._area = shapely.union_all(polygons)
        shapely.prepare(self._area)
        self._west, _, self._east, _ = shapely.bounds(self._area)

    def contains(self, lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which places lie inside.

        Parameters
        ----------
        lonlat : array of shape (n, 2)
            Degrees, WGS 84; NaN is outside.

        Returns
        -------
        array of bool, shape (n,)
            True inside; the edge is outside.
        """
        inside = np.zeros(len(lonlat), dtype=np.bool_)
        for turn in (0.0, 360.0, -360.0):
            lon = lonlat[:, 0] + turn
            near = (lon >= self._west) & (lon <= self._east) & ~inside
            inside[near] = shapely.contains_xy(self._area, lon[near], lonlat[near, 1])
        return inside

    def digest(self) -> str:
        """Return what tells these polygons from others, for a run that is gone on with."""
        import hashlib

        return hashlib.sha256(shapely.to_wkb(self._area)).hexdigest()


def _polygons(within: Any) -> NDArray[np.object_]:
    if isinstance(within, gpd.GeoDataFrame | gpd.GeoSeries):
        series = within.geometry
        if series.crs is None:
            raise CoordinateError("within= has no CRS: state it with set_crs(...).")
        geoms = np.asarray(series.to_crs(4326).array, dtype=object)
    else:
        single = isinstance(within, shapely.geometry.base.BaseGeometry)
        geoms = np.asarray(gpd.GeoSeries([within] if single else list(within)).array, dtype=object)
    geoms = geoms[~(shapely.is_missing(geoms) | shapely.is_empty(geoms))]
    parts = decompose(geoms)[0] if len(geoms) else geoms
    polygons = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    if not len(polygons):
        raise CoordinateError("within= holds no polygon: give polygons that cover the map.")
    return np.asarray(polygons, dtype=object)


def _bounds_of(within: Any, system: CRS) -> tuple[float, float, float, float]:
    west, south, east, north = shapely.total_bounds(_polygons(within))
    if system.is_geographic:
        return float(west), float(south), float(east), float(north)
    back = Transformer.from_crs(WGS84, system, always_xy=True)
    found = back.transform_bounds(west, south, east, north, densify_pts=101)
    if not np.isfinite(found).all():
        raise OptionError(
            f"The bounds of within= reach beyond what {name_crs(system)} covers: give bounds=."
        )
    return found


def _check_resolution(resolution: Any) -> tuple[float, float]:
    pair = [resolution, resolution] if np.ndim(resolution) == 0 else list(resolution)
    try:
        step = [float(value) for value in pair]
    except (TypeError, ValueError):
        step = []
    if len(step) != 2 or not all(math.isfinite(value) and value > 0.0 for value in step):
        raise OptionError(
            f"resolution={resolution!r} is not a positive number, or two (width, height), in "
            "units of crs=."
        )
    return step[0], step[1]


def _check_bounds(bounds: Sequence[float], system: CRS) -> tuple[float, float, float, float]:
    try:
        west, south, east, north = (float(value) for value in bounds)
    except (TypeError, ValueError):
        raise OptionError(
            f"bounds={bounds!r} are not four numbers: west, south, east, north."
        ) from None
    if system.is_geographic and west > east:
        east += 360.0
    finite = all(math.isfinite(value) for value in (west, south, east, north))
    if not finite or west >= east or south >= north:
        raise OptionError(
            f"bounds={tuple(bounds)!r} hold no cell: they are west, south, east, north, in units "
            f"of {name_crs(system)}."
        )
    if system.is_geographic and (south < -90.0 or north > 90.0 or east - west > 360.0):
        raise OptionError(
            f"bounds={tuple(bounds)!r} reach beyond the Earth: latitudes lie in [-90, 90], and "
            "longitudes go round once. For bounds in metres give the projected crs= they are in."
        )
    return west, south, east, north


def _down(value: float) -> int:
    return math.floor(value + 1e-9)


def _up(value: float) -> int:
    return math.ceil(value - 1e-9)
