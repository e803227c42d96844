"""Polygons that answers must lie in."""

from collections.abc import Callable
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from geoembed.errors import CoordinateError, OptionError

__all__ = ["Inside", "inside_of"]

# Places (n, 2), degrees -> which of them are allowed.
Inside = Callable[[NDArray[np.float64]], NDArray[np.bool_]]


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
    parts = shapely.get_parts(_polygons(within))
    shapely.prepare(parts)
    tree = shapely.STRtree(parts)

    def inside(lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
        found = np.zeros(len(lonlat), dtype=np.bool_)
        for turn in (0.0, 360.0, -360.0):
            rows = np.flatnonzero(~found)
            points = shapely.points(lonlat[rows, 0] + turn, lonlat[rows, 1])
            found[rows[tree.query(points, predicate="intersects")[0]]] = True
        return found

    return inside


def _polygons(within: Any) -> NDArray[np.object_]:
    if isinstance(within, gpd.GeoDataFrame):
        within = within.geometry
    if isinstance(within, gpd.GeoSeries):
        if within.crs is not None and not within.crs.equals("EPSG:4326"):
            try:
                within = within.to_crs("EPSG:4326")
            except Exception as error:
                raise CoordinateError(f"within= cannot be brought to lon/lat: {error}.") from error
        geometries = within.to_numpy()
    elif isinstance(within, shapely.Geometry):
        geometries = np.array([within], dtype=object)
    else:
        try:
            geometries = np.array(list(within), dtype=object)
        except TypeError:
            geometries = np.array([within], dtype=object)
    if not all(
        geometry is None or isinstance(geometry, shapely.Geometry) for geometry in geometries
    ):
        raise OptionError(
            f"within={within!r:.60} holds no polygons: give a GeoDataFrame, a GeoSeries or "
            "shapely polygons in lon/lat."
        )
    geometries = geometries[~(shapely.is_missing(geometries) | shapely.is_empty(geometries))]
    if not len(geometries) or not (shapely.get_dimensions(geometries) == 2).all():
        raise OptionError("within= must hold polygons, at least one, and nothing else.")
    polygons: NDArray[np.object_] = geometries
    return polygons
