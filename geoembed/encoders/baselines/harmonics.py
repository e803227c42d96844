"""Real spherical harmonics up to a degree, exact in float64."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoembed.encoders.baselines.base import BaselineEncoder, number_in_tag
from geoembed.extending.specs import LocationEncoderSpec

__all__ = ["HarmonicsEncoder", "spherical_harmonics"]


class HarmonicsEncoder(BaselineEncoder):
    """All real spherical harmonics up to the degree in the tag of the spec's name.

    Examples
    --------
    >>> import geoembed as ge
    >>> ge.load_encoder("harmonics.l10").dimension
    121

    Any other degree:

    >>> from geoembed.extending.baselines import harmonics_spec
    >>> HarmonicsEncoder(harmonics_spec(60)).encode(lon=[-74.0], lat=[40.7]).shape
    (1, 3721)
    """

    def __init__(self, spec: LocationEncoderSpec, **options: Any) -> None:
        super().__init__(spec, **options)
        self._degree = number_in_tag(spec, "l")

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        return spherical_harmonics(lonlat, self._degree)

    def _default_block_size(self) -> int:
        # About 1 MB of float64: twice the rate of 2,048 rows at degree 40, since the values of
        # a block are written and read again while they are still in the cache.
        return max(256, 131_072 // self.dimension)


def spherical_harmonics(lonlat: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """Evaluate all real spherical harmonics up to a degree.

    Parameters
    ----------
    lonlat : array of shape (n, 2), float64
        Longitude and latitude in degrees.
    degree : int
        The highest degree L, not negative.

    Returns
    -------
    array of shape (n, (L + 1) ** 2), float64
        Degree by degree, the orders from -l to l: ``Y[l, m]`` stands in column l * l + l + m.

    Notes
    -----
    Orthonormal over the unit sphere: the integral of ``Y[l, m] ** 2`` is 1. For m > 0 they are
    ``sqrt(2) P[l, m](sin lat) cos(m lon)``, for m < 0 the same with ``sin(|m| lon)``, without
    the Condon-Shortley phase ``(-1) ** m`` (as in geodesy). The fully normalised Legendre
    functions come from the recursion over the degree at fixed order, which is stable in this
    direction (the standard forward column method of Holmes and Featherstone, "A unified approach
    to the Clenshaw summation and the recursive computation of very high degree and order
    normalised associated Legendre functions", Journal of Geodesy 76, 2002). No factorial appears.

    Examples
    --------
    >>> spherical_harmonics(np.array([[0.0, 90.0]]), 1).round(6).tolist()
    [[0.282095, 0.0, 0.488603, 0.0]]
    """
    lon, lat = np.radians(lonlat).T
    north, outward = np.sin(lat), np.cos(lat)
    cosines, sines = _waves(lon, degree)
    first, second, diagonal = _coefficients(degree)
    # A row a harmonic while computing: every step then runs along all points at once.
    values = np.empty(((degree + 1) ** 2, len(lonlat)))
    before = last = sectoral = np.full((1, len(lonlat)), np.sqrt(0.25 / np.pi))
    values[0] = last[0]
    for l in range(1, degree + 1):  # noqa: E741 - the degree is l in every textbook
        legendre = np.empty((l + 1, len(lonlat)))
        np.multiply(last, north, out=legendre[:l])
        legendre[: l - 1] -= second[l, : l - 1, None] * before[: l - 1]
        legendre[:l] *= first[l, :l, None]
        sectoral = sectoral * outward * diagonal[l]
        legendre[l:] = sectoral
        middle = l * l + l
        np.multiply(legendre, cosines[: l + 1], out=values[middle : middle + l + 1])
        np.multiply(legendre[1:], sines[1 : l + 1], out=values[l * l : middle][::-1])
        before, last = last, legendre
    return values.T


def _waves(
    lon: NDArray[np.float64], degree: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosine and sine of every multiple of longitude, times sqrt(2) but for order 0."""
    turns = np.ones((degree + 1, len(lon)), dtype=np.complex128)
    turn = np.exp(1j * lon)
    for order in range(1, degree + 1):
        np.multiply(turns[order - 1], turn, out=turns[order])
    turns[1:] *= np.sqrt(2.0)
    return np.ascontiguousarray(turns.real), np.ascontiguousarray(turns.imag)


@lru_cache(maxsize=8)
def _coefficients(
    degree: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Factors of the recursion for every degree l and order m < l; ``a`` is taken out of ``b``."""
    l, m = np.ogrid[: degree + 1.0, : degree + 1.0]  # noqa: E741
    below = m < l
    gap = np.where(below, l * l - m * m, 1.0)
    first = np.where(below, np.sqrt(np.where(below, 4.0 * l * l - 1.0, 0.0) / gap), 0.0)
    older = np.where(m < l - 1.0, ((l - 1.0) ** 2 - m * m) / (4.0 * (l - 1.0) ** 2 - 1.0), 0.0)
    orders = np.arange(degree + 1.0)
    orders[0] = 1.0  # order 0 is where the recursion starts, not a step of it
    diagonal = np.sqrt((2.0 * orders + 1.0) / (2.0 * orders))
    return first, np.sqrt(older), diagonal
