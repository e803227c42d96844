"""Polygons that answers must lie in."""

from collections.abc import Callable
from typing import Any, Final

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from geoembed.errors import CoordinateError, OptionError
from geoembed.parts import decompose

__all__ = ["Inside", "inside_of", "polygons_of"]

# Places (n, 2), degrees -> which of them are allowed.
Inside = Callable[[NDArray[np.float64]], NDArray[np.bool_]]

# Pieces that the diagonal of a projected polygon's box is worth.
_PIECES: Final = 200


def inside_of(within: Any) -> Inside | None:
    """Make a test for places out of polygons.

    Parameters
    ----------
    within : GeoDataFrame, GeoSeries, shapely polygon, sequence of those, callable or None
        Where answers may lie. Without a CRS: lon/lat, WGS 84, and longitudes may go beyond 180
        where a polygon crosses the antimeridian. A callable is taken as it is.

    Returns
    -------
    callable or None
        Takes an array of shape (n, 2) and returns n flags: in a polygon or on its border. None
        for None.

    Raises
    ------
    OptionError
        If there are no polygons, or something else is given.

    Examples
    --------
    >>> inside = inside_of(shapely.box(170, -10, 190, 10))
    >>> inside(np.array([[-175.0, 0.0], [-165.0, 0.0]]))
    array([ True, False])
    """
    if within is None:
        return None
    if callable(within) and not isinstance(within, gpd.GeoSeries | gpd.GeoDataFrame):
        test: Inside = within
        return test
    parts = shapely.get_parts(polygons_of(within))
    shapely.prepare(parts)
    tree = shapely.STRtree(parts)

    def inside(lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
        found = np.zeros(len(lonlat), dtype=np.bool_)
        for turn in (0.0, 360.0, -360.0):
            rows = np.flatnonzero(~found)
            lon, lat = lonlat[rows, 0] + turn, lonlat[rows, 1]
            near, part = tree.query(shapely.points(lon, lat))
            # Polygon by polygon: only the polygon's side of the question can be prepared.
            order = np.argsort(part, kind="stable")
            near, part = near[order], part[order]
            for one, mine in zip(*_groups(part, near), strict=True):
                found[rows[mine[shapely.intersects_xy(parts[one], lon[mine], lat[mine])]]] = True
        return found

    return inside


def _groups(
    labels: NDArray[np.intp], values: NDArray[np.intp]
) -> tuple[NDArray[np.intp], list[NDArray[np.intp]]]:
    """Distinct sorted labels, and the values of each."""
    distinct, first = np.unique(labels, return_index=True)
    return distinct, np.split(values, first[1:]) if len(distinct) else []


def polygons_of(within: Any, name: str = "within") -> NDArray[np.object_]:
    """Read polygons in lon/lat from anything that holds some.

    Edges are straight in the CRS that they come in. Over the antimeridian they go the short way,
    and a ring that winds round a pole encloses it, as in `geoembed.geometries`.

    Parameters
    ----------
    within : GeoDataFrame, GeoSeries, shapely polygon or sequence of those
        Brought to WGS 84 if a CRS says that it is something else; missing and empty ones are
        left out.
    name : str
        What the caller calls it, for messages.

    Returns
    -------
    array of shapely polygons
        At least one, each valid, without jumps: longitudes may go beyond 180.

    Raises
    ------
    OptionError
        If there are no polygons, or something else is among them.
    CoordinateError
        If they cannot be brought to WGS 84.

    Examples
    --------
    >>> len(polygons_of([shapely.box(0, 0, 1, 1), None]))
    1
    """
    if isinstance(within, gpd.GeoDataFrame):
        within = within.geometry
    if isinstance(within, gpd.GeoSeries):
        if within.crs is not None and not within.crs.equals("EPSG:4326"):
            try:
                within = _dense(within).to_crs("EPSG:4326")
            except Exception as error:
                raise CoordinateError(f"{name}= cannot be brought to lon/lat: {error}.") from error
        listed = list(within)
    elif isinstance(within, shapely.Geometry):
        listed = [within]
    else:
        try:
            listed = list(within)
        except TypeError:
            listed = [within]
    if not all(one is None or isinstance(one, shapely.Geometry) for one in listed):
        raise OptionError(
            f"{name}={within!r:.60} holds no polygons: give a GeoDataFrame, a GeoSeries or "
            "shapely polygons in lon/lat."
        )
    # Filled one by one: NumPy would take a list of multipolygons apart.
    geometries: NDArray[np.object_] = np.empty(len(listed), dtype=object)
    geometries[:] = listed
    geometries = geometries[~(shapely.is_missing(geometries) | shapely.is_empty(geometries))]
    if not len(geometries) or not (shapely.get_dimensions(geometries) == 2).all():
        raise OptionError(f"{name}= must hold polygons, at least one, and nothing else.")
    parts, _ = decompose(geometries)
    polygons: NDArray[np.object_] = parts[
        shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    ]
    if not len(polygons):
        raise OptionError(f"{name}= holds polygons without any area.")
    return polygons


def _dense(series: gpd.GeoSeries) -> gpd.GeoSeries:
    """Give long edges of a projected CRS corners between, so that they keep their course."""
    if not series.crs.is_projected:
        return series
    west, south, east, north = series.bounds.to_numpy().T
    longest = np.hypot(east - west, north - south) / _PIECES
    usable = np.isfinite(longest) & (longest > 0)
    shapes = series.to_numpy().copy()
    shapes[usable] = shapely.segmentize(shapes[usable], longest[usable])
    return gpd.GeoSeries(shapes, crs=series.crs)
