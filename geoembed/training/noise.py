"""Gaussian noise on places, in metres."""

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.geodesy import EARTH_RADIUS_KM, from_unit_vectors, to_unit_vectors

__all__ = ["add_noise"]


def add_noise(
    lonlat: NDArray[np.float64], sigma_m: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Move every place by Gaussian noise.

    East and north are drawn from N(0, `sigma_m`) in the tangent plane; the place then moves so
    far along the great circle in that direction. So the noise is as large at 80 degrees north as
    at the equator, and crosses poles and the antimeridian.

    Parameters
    ----------
    lonlat : array of shape (n, 2), float64
        Degrees, WGS 84.
    sigma_m : float
        Standard deviation along each axis, metres on the sphere of radius 6371.0088 km; at
        least 0.
    rng : numpy.random.Generator
        Gives 2 n numbers, east and north of each place in turn; none where `sigma_m` is 0.

    Returns
    -------
    array of shape (n, 2), float64
        Longitude in [-180, 180], latitude in [-90, 90]. `lonlat` itself where `sigma_m` is 0.

    Raises
    ------
    OptionError
        If `sigma_m` is negative or no number.

    Examples
    --------
    >>> place = np.array([[180.0, 0.0]])
    >>> add_noise(place, 150.0, np.random.default_rng(0)).round(4).tolist()
    [[-179.9998, -0.0002]]
    """
    if not sigma_m >= 0.0:
        raise OptionError(f"sigma_m={sigma_m!r}: noise needs a standard deviation of at least 0.")
    if sigma_m == 0.0:
        return lonlat
    move = rng.standard_normal((len(lonlat), 2)) * (sigma_m / (1000.0 * EARTH_RADIUS_KM))
    angle = np.hypot(move[:, 0], move[:, 1])
    lon, lat = np.radians(lonlat).T
    zero = np.zeros_like(lon)
    east = np.stack([-np.sin(lon), np.cos(lon), zero], axis=1)
    north = np.stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)], axis=1)
    tangent = move[:, :1] * east + move[:, 1:] * north
    # sinc(x / pi) is sin(x) / x, and 1 at 0: no place is lost to a division by its distance.
    along = np.sinc(angle / np.pi)[:, None] * tangent
    return from_unit_vectors(np.cos(angle)[:, None] * to_unit_vectors(lonlat) + along)
