"""Projections that location encoders use as their first step, in float64."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.geodesy import to_unit_vectors

__all__ = [
    "EQUAL_EARTH_COEFFICIENTS",
    "GEOCLIP_SCALE",
    "PROJECTIONS",
    "equal_earth",
    "project",
]

PROJECTIONS: Final = ("equal-earth", "plate-carree", "sphere")

# Šavrič, Patterson and Jenny, "The Equal Earth map projection", IJGIS 33(3), 2019, table 1.
EQUAL_EARTH_COEFFICIENTS: Final = (1.340264, -0.081106, 0.000893, 0.003796)

# GeoCLIP multiplies both axes by this over 180, which brings them near [-1, 1].
GEOCLIP_SCALE: Final = 66.50336 / 180.0

_HALF_SQRT3: Final = np.sqrt(3.0) / 2.0


def equal_earth(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project lon/lat to the plane by Equal Earth on a sphere of radius 1.

    Parameters
    ----------
    lonlat : array of shape (n, 2), float64
        Longitude and latitude in degrees, WGS 84. Longitude is not wrapped, so that
        180 and -180 lie on opposite edges of the map; latitude in [-90, 90].

    Returns
    -------
    array of shape (n, 2), float64
        Easting in [-2.707, 2.707] and northing in [-1.318, 1.318], in radii.

    Notes
    -----
    Equations 2 to 4 of Šavrič, Patterson and Jenny (2019). Everything is float64, the square
    root of three too: with a float32 root the worst embedding moves by 5e-5. Equals PROJ's
    ``+proj=eqearth +R=1`` to 1e-12.

    Examples
    --------
    >>> equal_earth(np.array([[180.0, 0.0], [0.0, 90.0]])).round(6) + 0.0
    array([[2.70663 , 0.      ],
           [0.      , 1.317363]])
    """
    a1, a2, a3, a4 = EQUAL_EARTH_COEFFICIENTS
    lon = np.deg2rad(lonlat[:, 0])
    theta = np.arcsin(_HALF_SQRT3 * np.sin(np.deg2rad(lonlat[:, 1])))
    square = theta * theta
    sixth = square * square * square
    slope = a1 + 3.0 * a2 * square + sixth * (7.0 * a3 + 9.0 * a4 * square)
    projected = np.empty_like(lonlat)
    projected[:, 0] = lon * np.cos(theta) / (_HALF_SQRT3 * slope)
    projected[:, 1] = theta * (a1 + a2 * square + sixth * (a3 + a4 * square))
    return projected


def project(lonlat: NDArray[np.float64], projection: str) -> NDArray[np.float64]:
    """Project lon/lat to what a location network takes.

    Parameters
    ----------
    lonlat : array of shape (n, 2), float64
        Longitude and latitude in degrees, WGS 84.
    projection : {"equal-earth", "plate-carree", "sphere"}
        ``"equal-earth"`` is GeoCLIP's: `equal_earth` times `GEOCLIP_SCALE`. ``"plate-carree"`` is
        longitude and latitude over 180. ``"sphere"`` is the unit vector of the place over pi,
        which has no seam and no poles.

    Returns
    -------
    array of shape (n, 2), or (n, 3) for the sphere, float64
        One unit is about 20,000 km along the equator in each, so that one sigma means the same
        distances in all of them.

    Raises
    ------
    OptionError
        If there is no such projection.

    Examples
    --------
    >>> project(np.array([[90.0, -45.0]]), "plate-carree").tolist()
    [[0.5, -0.25]]
    >>> project(np.array([[180.0, 0.0], [-180.0, 0.0]]), "sphere").round(6).tolist()
    [[-0.31831, 0.0, 0.0], [-0.31831, -0.0, 0.0]]
    """
    if projection == "equal-earth":
        return equal_earth(lonlat) * GEOCLIP_SCALE
    if projection == "plate-carree":
        return lonlat / 180.0
    if projection == "sphere":
        return to_unit_vectors(lonlat) / np.pi
    raise OptionError(f"projection={projection!r} is not one of: {', '.join(PROJECTIONS)}.")
