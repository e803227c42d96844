"""From scores at places to a density over the Earth that crowded places cannot tilt."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.spatial import KDTree

from geoembed.errors import CoordinateError, OptionError
from geoembed.geodesy import EARTH_RADIUS_KM, to_unit_vectors
from geoembed.geolocation.cells import EarthCells
from geoembed.geolocation.quantiles import weighted_quantiles

__all__ = ["EarthDensity", "with_background"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

# Where a quarter of a disc's area each lies, as squares of the distance from its middle.
_QUARTERS: Final = np.array([0.125, 0.375, 0.625, 0.875])

# Beyond five radii of its disc, an atom is as good as a point.
_SPREAD_MATTERS: Final = 25.0

# Share of truths that the density is allowed to know nothing about: wrong coordinates, ships.
_BACKGROUND: Final = 0.01
# Probabilities of cells that are held at a time: 32 MB an array.
_VALUES_AT_ONCE: Final = 4_000_000
_SPHERE_KM2: Final = 4.0 * np.pi * EARTH_RADIUS_KM**2


class EarthDensity:
    """A density over the Earth, made from the scores of a gallery's places.

    The Earth is cut into cells of equal area. A cell that holds places takes the mean of what
    they say, so that a thousand places in a city have one cell's say; a cell without any takes
    what the nearest place says. Places that occur twice count once.

    With equal prior odds for every square kilometre, the probability of a cell is its area times
    exp(score / tau), normalised. A model trained by contrast against random other places, as
    GeoCLIP is, learns scores for which score / tau is, but for a constant of the picture, the
    logarithm of how much likelier a place has become: that is why it may be multiplied with a
    prior of one's own, and why the photographers' crowding must not enter a second time.

    Parameters
    ----------
    lonlat : array of shape (n, 2)
        The gallery's places, degrees, WGS 84.
    cell_km : float
        Side of a cell.
    support : {"land", "sphere"} or polygons
        Where pictures may come from: land at 1:50 million and the cells of all places (small
        islands, coasts), everywhere, or the cells that polygons touch.

    Attributes
    ----------
    cells : EarthCells
        All of them.
    cell : array of shape (c,), int
        Numbers of the cells in the support, ascending.
    areas_km2 : array of shape (c,), float64
        Theirs.
    rows : array of shape (u,), int
        A row of the gallery for every distinct place in the support.
    place_km2 : array of shape (u,), float64
        What each stands for: its part of its cell, and the empty cells that it is nearest to.

    Raises
    ------
    CoordinateError
        If a place is not finite or none lies in the support.
    OptionError
        If an option is not one of those offered.

    Examples
    --------
    >>> density = EarthDensity([[2.35, 48.86], [2.36, 48.85], [-58.4, -34.6]], cell_km=200)
    >>> p = density.probabilities([[0.3, 0.3, 0.3]], tau=0.025)
    >>> even = density.areas_km2 / density.areas_km2.sum()
    >>> round(float(p.sum()), 12), bool(np.allclose(p, even))
    (1.0, True)
    """

    def __init__(self, lonlat: ArrayLike, *, cell_km: float = 50.0, support: Any = "land") -> None:
        places = np.asarray(lonlat, dtype=np.float64)
        if places.ndim != 2 or places.shape[1] != 2 or not len(places):
            raise CoordinateError(f"Places must have the shape (n, 2), got {places.shape}.")
        if not np.isfinite(places).all():
            raise CoordinateError("Places must be finite: leave out rows that are not.")
        self.cells = EarthCells(cell_km)
        self._rows = len(places)
        # Adding 0.0 turns -0.0 into 0.0.
        distinct, first = np.unique(places + 0.0, axis=0, return_index=True)
        home = self.cells.locate(distinct)
        cell = self.cells.touching(support)
        if isinstance(support, str):
            cell = np.union1d(cell, home)
        kept = np.isin(home, cell)
        if not kept.any():
            raise CoordinateError("support= holds none of the places.")
        self.rows: Rows = first[kept]
        places, home = distinct[kept], home[kept]
        self.cell: Rows = cell
        self.areas_km2 = self.cells.areas(cell)
        self._lay_out(places, np.searchsorted(cell, home))

    def _lay_out(self, places: Floats, home: Rows) -> None:
        """Share every cell's area among its places, or give it to the nearest one."""
        crowd = np.bincount(home, minlength=len(self.cell))
        empty = np.flatnonzero(crowd == 0)
        centres = self.cells.centres(self.cell[empty])
        tree = KDTree(to_unit_vectors(places))
        nearest = tree.query(to_unit_vectors(centres))[1] if len(empty) else empty
        # An atom is a place within its cell, or an empty cell.
        self._atom_place: Rows = np.concatenate([np.arange(len(places)), nearest])
        self._atom_cell: Rows = np.concatenate([home, empty])
        self._atom_km2 = np.concatenate([self.areas_km2[home] / crowd[home], self.areas_km2[empty]])
        self._atom_units = to_unit_vectors(np.concatenate([places, centres]))
        self.place_km2 = np.zeros(len(places))
        np.add.at(self.place_km2, self._atom_place, self._atom_km2)
        share = self._atom_km2 / self.areas_km2[self._atom_cell]
        self._cell_means = csr_array(
            (share, (self._atom_cell, self._atom_place)), shape=(len(self.cell), len(places))
        )

    def __len__(self) -> int:
        return len(self.cell)

    def __repr__(self) -> str:
        return (
            f"<EarthDensity of {len(self.rows):,} places in {len(self.cell):,} cells of "
            f"{self.cells.cell_km:g} km>"
        )

    def probabilities(self, scores: ArrayLike, *, tau: float) -> Floats:
        """Return the probability of every cell.

        Parameters
        ----------
        scores : array of shape (m, n)
            Of every query at every place of the gallery, in its order; cosines.
        tau : float
            Temperature: what scores are divided by. The values are probabilities in earnest only
            if it is calibrated, see `geoembed.geolocation.temperature`.

        Returns
        -------
        array of shape (m, c), float64
            Rows sum to 1; columns as `cell`.

        Raises
        ------
        OptionError
            If the shape does not fit, a score is not finite or `tau` is not positive.
        """
        return self._masses(self._likelihoods(scores, tau))

    def log_density(self, scores: ArrayLike, lonlat: ArrayLike, *, tau: float) -> Floats:
        """Return the logarithm of the density at one place a query.

        Parameters
        ----------
        scores, tau
            As in `probabilities`.
        lonlat : array of shape (m, 2)
            Degrees, WGS 84.

        Returns
        -------
        array of shape (m,), float64
            In nats per square kilometre. One part in a hundred of the probability is spread
            evenly over the sphere, so that a place outside the support has a density too.

        Raises
        ------
        OptionError
            As `probabilities`, and if there is not one place a query.
        """
        truth = np.asarray(lonlat, dtype=np.float64).reshape(-1, 2)
        likelihood = self._likelihoods(scores, tau)
        if len(truth) != len(likelihood):
            raise OptionError(
                f"{len(truth):,} places for {len(likelihood):,} queries: give one each."
            )
        total = likelihood @ self.place_km2
        density = np.asarray(self.means_at(truth).multiply(likelihood).sum(axis=1)).ravel() / total
        return with_background(density)

    def means_at(self, lonlat: NDArray[np.float64]) -> csr_array:
        """Return what takes values at places to values of cells.

        Parameters
        ----------
        lonlat : array of shape (m, 2)
            Degrees, WGS 84.

        Returns
        -------
        sparse array of shape (m, u)
            Row by row the weights of the distinct places in the cell of a place, summing to 1;
            the nearest place alone where the cell is empty, nothing outside the support.
        """
        number = self.cells.locate(lonlat)
        at = np.minimum(np.searchsorted(self.cell, number), len(self.cell) - 1)
        rows = self._cell_means[at]
        inside = self.cell[at] == number
        return csr_array(rows.multiply(inside[:, None]))

    def information(self, scores: ArrayLike, *, tau: float) -> Floats:
        """Tell how much a query narrows the Earth down.

        Parameters
        ----------
        scores, tau
            As in `probabilities`.

        Returns
        -------
        array of shape (m,), float64
            Nats: the Kullback-Leibler divergence from the prior, at least 0. The whole support
            shrinks to a part of exp(-information).
        """
        return self._information(self._likelihoods(scores, tau))

    def radii_km(
        self,
        scores: ArrayLike,
        lonlat: ArrayLike,
        *,
        tau: float,
        shares: Sequence[float] = (0.5, 0.9),
    ) -> Floats:
        """Return how far around a place one must go to gather shares of the probability.

        Parameters
        ----------
        scores, tau
            As in `probabilities`.
        lonlat : array of shape (m, 2)
            One place a query: what was predicted.
        shares : sequence of float
            Strictly between 0 and 1.

        Returns
        -------
        array of shape (m, len(shares)), float64
            Kilometres on the sphere. Never below what half of a place's share of its cell needs.

        Raises
        ------
        OptionError
            As `probabilities`, and if there is not one place a query or a share is out of range.
        """
        return self.measure(scores, lonlat, tau=tau, shares=shares)[0]

    def measure(
        self,
        scores: ArrayLike,
        lonlat: ArrayLike,
        *,
        tau: float,
        shares: Sequence[float] = (0.5, 0.9),
    ) -> tuple[Floats, Floats]:
        """Return what `radii_km` and `information` do, in less time than both.

        Parameters
        ----------
        scores, lonlat, tau, shares
            As in `radii_km`.

        Returns
        -------
        radii : array of shape (m, len(shares)), float64
            Kilometres.
        information : array of shape (m,), float64
            Nats.

        Raises
        ------
        OptionError
            As `radii_km`.
        """
        wanted = np.asarray(shares, dtype=np.float64)
        if wanted.ndim != 1 or not ((wanted > 0.0) & (wanted < 1.0)).all():
            raise OptionError(f"shares={shares!r}: give shares strictly between 0 and 1.")
        places = np.asarray(lonlat, dtype=np.float64).reshape(-1, 2)
        likelihood = self._likelihoods(scores, tau)
        if len(places) != len(likelihood):
            raise OptionError(
                f"{len(places):,} places for {len(likelihood):,} queries: give one each."
            )
        middle = to_unit_vectors(places)
        radii = np.empty((len(places), len(wanted)))
        for query, row in enumerate(likelihood):
            mass = row[self._atom_place] * self._atom_km2
            radii[query] = self._quantiles(middle[query], mass, wanted)
        return radii, self._information(likelihood)

    def _masses(self, likelihood: Floats) -> Floats:
        """Probability of every cell, (m, c)."""
        mass = np.asarray((self._cell_means @ likelihood.T).T) * self.areas_km2
        mass /= mass.sum(axis=1, keepdims=True)
        return mass

    def _information(self, likelihood: Floats) -> Floats:
        """Nats of every query; some at a time, for there may be few places and many cells."""
        step = max(1, _VALUES_AT_ONCE // len(self))
        parts = [
            self._nats(self._masses(likelihood[start : start + step]))
            for start in range(0, len(likelihood), step)
        ]
        return np.concatenate([np.empty(0), *parts])

    def _nats(self, mass: Floats) -> Floats:
        prior = self.areas_km2 / self.areas_km2.sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            nats = np.where(mass > 0.0, mass * np.log(mass / prior), 0.0).sum(axis=1)
        return np.asarray(np.maximum(nats, 0.0))

    def _quantiles(self, middle: Floats, mass: Floats, shares: Floats) -> Floats:
        """Weighted quantiles of the distance; every atom is spread over its own area."""
        # What is lighter lies in the last millionth, which moves no radius and is most atoms.
        heavy = np.flatnonzero(mass > 1e-6 * mass.sum() / len(mass))
        units, weight = self._atom_units[heavy], mass[heavy]
        # Chords: arcs follow them, and need not be computed for all. Of near ones the difference
        # of vectors keeps the digits that their product has lost.
        chord = np.sqrt(np.maximum(2.0 - 2.0 * (units @ middle), 0.0))
        spread = self._atom_km2[heavy] / (np.pi * EARTH_RADIUS_KM**2)
        near = chord**2 < _SPREAD_MATTERS * spread
        exact = ((units[near] - middle) ** 2).sum(axis=1)
        wide = np.sqrt(exact[:, None] + spread[near, None] * _QUARTERS).ravel()
        chord = np.concatenate([wide, chord[~near]])
        weight = np.concatenate([np.repeat(weight[near] / 4.0, 4), weight[~near]])
        found = np.minimum(weighted_quantiles(chord, weight, shares), 2.0)
        radii: Floats = 2.0 * EARTH_RADIUS_KM * np.arcsin(found / 2.0)
        return radii

    def _likelihoods(self, scores: ArrayLike, tau: float) -> Floats:
        """exp(score / tau) at every distinct place, (m, u), the largest of a row being 1."""
        values = np.atleast_2d(np.asarray(scores))
        if values.ndim != 2 or values.shape[1] != self._rows:
            raise OptionError(
                f"scores have the shape {values.shape}: give (m, {self._rows:,}), one a place of "
                "the gallery."
            )
        if not (np.isfinite(tau) and tau > 0.0):
            raise OptionError(f"tau={tau!r} does not fit: give a temperature above 0.")
        picked = values[:, self.rows].astype(np.float64)
        if not np.isfinite(picked).all():
            raise OptionError("scores hold values that are not finite: leave out such queries.")
        picked -= picked.max(axis=1, keepdims=True)
        picked /= tau
        return np.asarray(np.exp(picked, out=picked))


def with_background(density: Floats) -> Floats:
    """Return the logarithm of a density of which a hundredth is spread over the sphere.

    Parameters
    ----------
    density : array of any shape
        Per square kilometre.

    Returns
    -------
    array of the same shape
        Nats; finite where the density is 0.

    Examples
    --------
    >>> with_background(np.array([0.0, 1.0])).round(2).tolist()
    [-24.66, -0.01]
    """
    return np.asarray(np.log((1.0 - _BACKGROUND) * density + _BACKGROUND / _SPHERE_KM2))
