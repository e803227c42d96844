"""Points around places, laid out in kilometres east and north; right at poles and antimeridian."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from geoembed.encoders.base import LocationEncoder
from geoembed.geodesy import EARTH_RADIUS_KM, from_unit_vectors, to_unit_vectors

__all__ = ["HEXAGON", "hexagonal", "points_around", "stretch_of"]

Floats = NDArray[np.float64]

# The six corners of a hexagon of radius 1: east, north.
HEXAGON: Floats = np.column_stack(
    [np.cos(np.arange(6) * np.pi / 3.0), np.sin(np.arange(6) * np.pi / 3.0)]
)


@lru_cache(maxsize=256)
def hexagonal(radius_km: float, spacing_km: float, stretch: float = 1.0) -> Floats:
    """Lay a hexagonal lattice over a disc: the fewest points that leave no larger gap.

    Parameters
    ----------
    radius_km : float
        Of the disc.
    spacing_km : float
        Between neighbours. No point of the plane is further than 0.577 of it from the lattice.
    stretch : float
        Steps east are so many times shorter, steps north so many times longer; a point still
        stands for the same area.

    Returns
    -------
    array of shape (n, 2), float64
        Kilometres east and north of the centre, which comes first; ordered by distance. Kept
        for the next call: not to be written to.

    Examples
    --------
    >>> len(hexagonal(1.0, 1.0)), len(hexagonal(40.0, 8.0))
    (7, 91)
    """
    rows = int(np.ceil(radius_km * max(stretch, 1.0 / stretch) / spacing_km * 1.16)) + 1
    steps = np.arange(-2 * rows, 2 * rows + 1), np.arange(-rows, rows + 1)
    i, j = (axis.ravel() for axis in np.meshgrid(*steps))
    east, north = spacing_km * (i + 0.5 * j) / stretch, spacing_km * np.sqrt(0.75) * j * stretch
    lattice = np.column_stack([east, north])
    away = np.hypot(east, north)
    # The rounding keeps corners that lie on the rim.
    kept = np.flatnonzero(away <= radius_km * (1.0 + 1e-9))
    ordered: Floats = lattice[kept[np.argsort(away[kept].round(9), kind="stable")]]
    ordered.setflags(write=False)
    return ordered


def stretch_of(encoder: LocationEncoder, lonlat: Floats) -> Floats:
    """Tell how much more a step east changes what an encoder sees than a step north.

    An encoder that starts from a planar map, as GeoCLIP does from Equal Earth, sees places near
    the poles pulled apart along the parallel: at 87 degrees, a kilometre east is a hundred times
    as long on the map as a kilometre north. Grids follow it.

    Parameters
    ----------
    encoder : LocationEncoder
        If it has a method `project`, (n, 2) degrees to (n, 2) on a map, that is asked.
    lonlat : array of shape (n, 2), float64
        Degrees, WGS 84.

    Returns
    -------
    array of shape (n,), float64
        Square root of the ratio, in [0.1, 10]; 1 for encoders without a map.
    """
    project = getattr(encoder, "project", None)
    if project is None or not len(lonlat):
        return np.ones(len(lonlat))
    step = 1e-4  # degrees; the projection is smooth and in float64
    # Half a step inside the poles, where both directions exist.
    middle = np.column_stack([lonlat[:, 0], np.clip(lonlat[:, 1], step - 90.0, 90.0 - step)])
    east, north = np.array([step, 0.0]) / 2.0, np.array([0.0, step]) / 2.0
    across = np.linalg.norm(project(middle + east) - project(middle - east), axis=1)
    along = np.linalg.norm(project(middle + north) - project(middle - north), axis=1)
    ratio = across / np.cos(np.radians(middle[:, 1])) / along
    stretch: Floats = np.clip(np.sqrt(ratio), 0.1, 10.0)
    return stretch


def points_around(lonlat: Floats, offsets_km: Floats) -> Floats:
    """Move places by kilometres east and north, along great circles.

    Parameters
    ----------
    lonlat : array of shape (..., 2), float64
        Degrees, WGS 84.
    offsets_km : array of shape (..., 2), float64
        Kilometres east and north; broadcast against `lonlat`. At a pole, east and north are those
        of the longitude that the place has.

    Returns
    -------
    array of the common shape (..., 2), float64
        Degrees, longitude in [-180, 180]. An offset of zero gives the place itself, bit for bit.

    Notes
    -----
    On the sphere of radius 6371.0088 km, so that distances are within 0.56 % of geodesics.

    Examples
    --------
    >>> points_around(np.array([179.9, 0.0]), np.array([[0.0, 0.0], [22.239, 0.0]])).round(3)
    array([[ 179.9,    0. ],
           [-179.9,    0. ]])
    """
    places, offsets = np.broadcast_arrays(lonlat, offsets_km)
    shape = places.shape
    places, offsets = places.reshape(-1, 2), offsets.reshape(-1, 2)
    lon = np.radians(places[:, 0])
    up = to_unit_vectors(places)
    east = np.column_stack([-np.sin(lon), np.cos(lon), np.zeros_like(lon)])
    north = np.cross(up, east)
    km = np.hypot(*offsets.T)
    angle = km / EARTH_RADIUS_KM
    along = offsets / np.where(km == 0.0, 1.0, km)[:, None]
    heading = along[:, :1] * east + along[:, 1:] * north
    moved = from_unit_vectors(np.cos(angle)[:, None] * up + np.sin(angle)[:, None] * heading)
    moved[km == 0.0] = places[km == 0.0]
    return moved.reshape(shape)
