"""Places spread evenly over the sphere: one spiral from pole to pole, without a seam."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.geodesy import EARTH_RADIUS_KM
from geoembed.scalars import is_number

__all__ = ["SPHERE_KM2", "lattice_blocks", "lattice_size"]

SPHERE_KM2: Final = 4.0 * np.pi * EARTH_RADIUS_KM**2

_GOLDEN: Final = (1.0 + 5.0**0.5) / 2.0
# Offset of the first and last place from the poles that keeps the places there apart as well
# (Keinert, Innmann, Saenger, Stamminger: Spherical Fibonacci mapping. ACM TOG 34, 2015).
_OFFSET: Final = 0.5
_BLOCK: Final = 500_000


def lattice_size(spacing_km: float) -> int:
    """Return how many places cover the sphere, one a square of that side.

    Parameters
    ----------
    spacing_km : float
        Side of the square whose area each place stands for.

    Returns
    -------
    int
        At least 12.

    Raises
    ------
    OptionError
        If the spacing is not between 0.1 km and 5000 km.

    Examples
    --------
    >>> lattice_size(45.0)
    251884
    """
    number = is_number(spacing_km)
    if not number or not 0.1 <= spacing_km <= 5000.0:
        raise OptionError(
            f"spacing_km={spacing_km!r} does not fit: give kilometres between 0.1 and 5000."
        )
    return max(12, round(float(SPHERE_KM2) / float(spacing_km) ** 2))


def lattice_blocks(
    count: int, south: float = -90.0, north: float = 90.0
) -> Iterator[NDArray[np.float64]]:
    """Yield places of the Fibonacci lattice, from north to south, in blocks.

    Every place stands for the same area of the sphere. Distances between neighbours vary little
    and nowhere show a pole or an antimeridian.

    Parameters
    ----------
    count : int
        Places on the whole sphere.
    south, north : float
        Only places between these latitudes, degrees.

    Yields
    ------
    array of shape (m, 2), float64
        Longitude in [-180, 180) and latitude, degrees.

    Notes
    -----
    Gonzalez: Measurement of areas on a sphere using Fibonacci and latitude-longitude lattices.
    Mathematical Geosciences 42, 2010.

    Examples
    --------
    >>> places = np.concatenate(list(lattice_blocks(1000)))
    >>> len(places), int(np.sum(places[:, 1] > 30))
    (1000, 250)
    """
    # z falls evenly with the position: those of a band of latitudes are a run of positions.
    first = max(0, int(np.floor((1.0 - np.sin(np.radians(north))) / 2.0 * count - 1.0)))
    last = min(count, int(np.ceil((1.0 - np.sin(np.radians(south))) / 2.0 * count + 1.0)))
    for start in range(first, last, _BLOCK):
        position = np.arange(start, min(start + _BLOCK, last), dtype=np.float64)
        z = 1.0 - 2.0 * (position + _OFFSET) / count
        lat = np.degrees(np.arcsin(z))
        lon = 360.0 * np.mod(position / _GOLDEN, 1.0) - 180.0
        kept = (lat >= south) & (lat <= north)
        yield np.column_stack([lon[kept], lat[kept]])
