"""Votes for cells as a distribution over them: a Gaussian around each mean, added up over land."""

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, vstack
from scipy.spatial import KDTree

from geoembed.geodesy import EARTH_RADIUS_KM, to_unit_vectors
from geoembed.geolocation.density import EarthDensity

__all__ = ["LandOfMeans"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

# Where a Gaussian ends, standard deviations.
_CUT: Final = 3.0
# Pairs of means and pieces of land held at a time, at most (some 200 MB).
_PAIRS: Final = 2**23


class LandOfMeans:
    """The land that each of some means stands for: that which is nearest to it.

    It is that of the core's `EarthDensity` of these means, in pieces: an equal part of its own
    Earth cell of 50 km for every mean, and the other cells of 50 km, each as one point.

    Parameters
    ----------
    means : array of shape (C, 2)
        Longitude and latitude, degrees, WGS 84. Equal ones share their land.

    Attributes
    ----------
    km2 : array of shape (C,), float64
        Land of each mean, square kilometres; above 0, for a mean has a part of its own Earth cell
        also at sea.

    Raises
    ------
    CoordinateError
        If a mean is not finite, or the shape is another.

    Examples
    --------
    >>> land = LandOfMeans([[10.0, 50.0], [14.0, 50.0], [-70.0, -30.0]])
    >>> land.spread(445.0).toarray().round(2).tolist()
    [[0.6, 0.4, 0.0], [0.36, 0.64, 0.0], [0.0, 0.0, 1.0]]
    """

    def __init__(self, means: ArrayLike) -> None:
        given = np.asarray(means, dtype=np.float64)
        earth = EarthDensity(given)
        distinct = given[earth.rows]
        units = to_unit_vectors(distinct)
        empty = ~np.isin(earth.cell, earth.cells.locate(distinct))
        centres = to_unit_vectors(earth.cells.centres(earth.cell[empty]))
        nearest = KDTree(units).query(centres)[1] if empty.any() else np.empty(0, dtype=np.intp)
        away = earth.areas_km2[empty]
        own = earth.place_km2 - np.bincount(nearest, away, len(distinct))
        self._units: Floats = units
        self._pieces: Floats = np.concatenate([units, centres])
        self._owner: Rows = np.concatenate([np.arange(len(distinct)), nearest])
        self._piece_km2: Floats = np.concatenate([own, away])
        self._classes = _classes(given, distinct)
        self.km2: Floats = self._classes.T @ earth.place_km2

    def spread(self, sigma_km: float) -> csr_array:
        """Say where a Gaussian around each mean puts its mass.

        Parameters
        ----------
        sigma_km : float
            Standard deviation along great circles. It is cut off beyond 3 of these.

        Returns
        -------
        sparse array of shape (C, C), float64
            In row j, column i the share of the Gaussian around mean j, over land, that lies on
            the land of mean i. Rows sum to 1. Where sigma is much smaller than 50 km, all of it
            stays with its own mean.
        """
        pieces = KDTree(self._pieces)
        parts = 1 + len(self._units) * len(self._pieces) // _PAIRS
        shares = [
            self._shares(pieces, rows, sigma_km)
            for rows in np.array_split(np.arange(len(self._units)), parts)
        ]
        # From every class to its mean, and from there to the classes of each mean.
        to_mean = csr_array(self._classes.T > 0.0, dtype=np.float64)
        return csr_array(to_mean @ vstack(shares, format="csr") @ self._classes)

    def _shares(self, pieces: KDTree, rows: Rows, sigma_km: float) -> csr_array:
        """Rows of the matrix, for distinct means."""
        angle = min(_CUT * sigma_km / EARTH_RADIUS_KM, np.pi)
        chord = 2.0 * np.sin(angle / 2.0)
        some = KDTree(self._units[rows])
        pairs: Any = some.sparse_distance_matrix(pieces, chord, output_type="ndarray")
        arc = 2.0 * EARTH_RADIUS_KM * np.arcsin(np.minimum(pairs["v"] / 2.0, 1.0))
        weight = self._piece_km2[pairs["j"]] * np.exp(-0.5 * (arc / sigma_km) ** 2)
        shape = (len(rows), len(self._units))
        found = csr_array((weight, (pairs["i"], self._owner[pairs["j"]])), shape=shape)
        # Never 0: a piece of every mean's land lies at the mean.
        return csr_array(found.multiply(1.0 / found.sum(axis=1)[:, None]))


def _classes(means: Floats, distinct: Floats) -> csr_array:
    """Return (distinct, C): 1 over the number of classes of a mean, for each of these."""
    # As EarthDensity tells places apart; both are sorted alike. Adding 0.0 turns -0.0 into 0.0.
    _, of, counts = np.unique(means + 0.0, axis=0, return_inverse=True, return_counts=True)
    of = of.ravel()
    shape = (len(distinct), len(means))
    return csr_array((1.0 / counts[of], (of, np.arange(len(means)))), shape=shape)
