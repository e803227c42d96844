"""Find better places than a gallery holds: local grids, coarse to fine, then an ascent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoembed.containing import inside_of
from geoembed.encoders.base import LocationEncoder
from geoembed.errors import OptionError
from geoembed.geodesy import great_circle_km, to_unit_vectors
from geoembed.geolocation.ascent import climb
from geoembed.geolocation.scoring import Score, scorer
from geoembed.geolocation.tangent import hexagonal, points_around, stretch_of
from geoembed.scalars import check_count

__all__ = ["Refined", "refine"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

# Places that are encoded in one go: bounds memory to some 50 MB whatever the number of queries.
_AT_ONCE: Final = 16384

# Each grid is so many times finer than the one before.
_FINER: Final = 3.0


@dataclass(frozen=True)
class Refined:
    """Refined places of one query, best first.

    Parameters
    ----------
    scores : array of shape (k,), float64
        Dot product of the query with the unit vector of each place; falling.
    lonlat : array of shape (k, 2), float64
        Degrees, WGS 84.
    start : array of shape (k,), int
        Which of the query's starts each place was found from.
    start_scores : array of shape (k,), float64
        Score of that start; never above `scores`.
    """

    scores: Floats
    lonlat: Floats
    start: Rows
    start_scores: Floats


def refine(
    queries: ArrayLike,
    starts: Sequence[ArrayLike],
    encoder: LocationEncoder,
    *,
    within: Any = None,
    reach_km: float = 40.0,
    step_km: float = 10.0,
    beam: int = 4,
    finest_km: float = 0.02,
    max_steps: int = 30,
) -> list[Refined]:
    """Search around the best places of a gallery for places that fit better.

    A hexagonal grid is laid around every start and scored. Around the best `beam` points of a
    query a grid three times finer follows, and from the best of those an ascent on the encoder
    itself: the place moves to the top of a paraboloid fitted to the scores around it, and the
    step shrinks until it is below `finest_km`.

    Parameters
    ----------
    queries : array of shape (m, d)
        Vectors of pictures, texts or places; finite.
    starts : sequence of m arrays of shape (k, 2)
        For every query the places to start from, degrees, WGS 84. Twelve places no two of which
        lie within 25 km are what was measured. k may differ between queries and be 0.
    encoder : LocationEncoder
        The one that the queries were trained with.
    within : polygons or callable, optional
        Answers never leave it, see `geoembed.containing.inside_of`.
    reach_km : float
        No answer is further from its start. Half the diagonal of a grid's cells and a little
        more: the default goes with the grid of 45 km in ``geoclip.100k+land45``.
    step_km : float
        Spacing of the first grid. It has to be within what the encoder can tell apart: GeoCLIP's
        cosine falls to 0.5 at 11 km.
    beam : int
        How many candidates of a query are followed.
    finest_km : float
        The ascent stops when its step is below this.
    max_steps : int
        The ascent stops after so many steps at the latest.

    Returns
    -------
    list of m Refined
        For every start the best place found from it (the start itself, if nothing is better),
        best first. Two starts may lead to one place.

    Raises
    ------
    OptionError
        If shapes do not fit, a value is not finite, a start lies outside `within` or an option
        is not positive.

    Notes
    -----
    About 650 places are encoded for a query with twelve starts: half a second of one core where
    it was measured. What it gains with known truth stands in ``docs/figures/known_truth.md``.

    Grids follow the encoder's own map where it has one (`geoembed.geolocation.tangent.stretch_of`):
    near the poles, GeoCLIP tells apart what lies east and west far better than north and south.

    Examples
    --------
    >>> from geoembed.encoders import load_encoder
    >>> encoder = load_encoder("geoclip.v1", normalize=True)
    >>> query = encoder.encode(lon=[-72.545], lat=[-13.163])
    >>> found = refine(query, [[[-72.40, -13.05]]], encoder)[0]
    >>> found.lonlat.round(3).tolist()
    [[-72.545, -13.163]]
    """
    _check_positive(reach_km=reach_km, step_km=step_km, finest_km=finest_km)
    _check_counts(beam=beam, max_steps=max_steps)
    vectors = np.asarray(queries)
    places = [_read_starts(number, one) for number, one in enumerate(starts)]
    _check_queries(vectors, places, encoder)
    inside = inside_of(within)
    area = len(hexagonal(reach_km, step_km))
    found: list[Refined] = []
    first = 0
    while first < len(places):
        # As many queries as fit, one at least.
        counts = np.cumsum([len(one) * area for one in places[first:]])
        last = first + max(1, int(np.searchsorted(counts, _AT_ONCE, side="right")))
        score = scorer(vectors[first:last], encoder, inside)
        some = _Search(places[first:last], score, reach_km, partial(stretch_of, encoder))
        some.look_around(reach_km, step_km)
        some.look_closer(0.7 * step_km, step_km / _FINER, beam)
        some.climb(beam, step_km / _FINER**2, finest_km, max_steps)
        found += some.results()
        first = last
    return found


class _Search:
    """The state of a search for a few queries: the best place found from every start."""

    def __init__(
        self,
        starts: list[Floats],
        score: Score,
        reach_km: float,
        stretch: Callable[[Floats], Floats],
    ) -> None:
        counts = np.array([len(one) for one in starts], dtype=np.intp)
        self.edges = np.concatenate([[0], np.cumsum(counts)])
        self.query = np.repeat(np.arange(len(starts)), counts)
        self.starts = np.concatenate([np.empty((0, 2)), *starts])
        self.score, self.reach_km, self.stretch = score, reach_km, stretch
        self.start_scores = score(self.starts, self.query)
        if np.isneginf(self.start_scores).any():
            at = int(np.argmin(self.start_scores))
            raise OptionError(
                f"{np.isneginf(self.start_scores).sum():,} starts lie outside within=, the first "
                f"for query {self.query[at]} at {self.starts[at].tolist()}. Search only the part "
                "of the gallery that lies inside."
            )
        self.best, self.best_scores = self.starts.copy(), self.start_scores.copy()
        # Candidates: places that are followed, each with its start.
        self.points, self.scores = self.starts.copy(), self.start_scores.copy()
        self.owner = np.arange(len(self.starts))

    def look_around(self, radius_km: float, spacing_km: float) -> None:
        """Score a grid around every start; what is nearer to another start is that one's."""
        points, centre = self._grids(self.starts, radius_km, spacing_km)
        self._add(*self._own(points, centre))

    def look_closer(self, radius_km: float, spacing_km: float, beam: int) -> None:
        """Score a grid around the best candidates of every query."""
        kept = self._front(beam)
        points, centre = self._grids(self.points[kept], radius_km, spacing_km)
        owner = self.owner[kept[centre]]
        self.points, self.scores, self.owner = (
            self.points[kept],
            self.scores[kept],
            self.owner[kept],
        )
        self._add(points, owner)

    def climb(self, beam: int, step_km: float, finest_km: float, max_steps: int) -> None:
        """Climb from the best candidates of every query."""
        kept = self._front(beam)
        owner = self.owner[kept]

        def score(lonlat: Floats, rows: Rows) -> Floats:
            return self._allowed(lonlat, owner[rows])

        points, scores = climb(
            score,
            self.points[kept],
            self.scores[kept],
            step_km,
            finest_km,
            max_steps,
            self.stretch(self.points[kept]),
        )
        self._remember(points, scores, owner)

    def results(self) -> list[Refined]:
        """Sort what was found from every start."""
        found = []
        for start, end in pairwise(self.edges):
            order = np.argsort(-self.best_scores[start:end], kind="stable")
            rows = start + order
            found.append(
                Refined(self.best_scores[rows], self.best[rows], order, self.start_scores[rows])
            )
        return found

    def _grids(self, centres: Floats, radius_km: float, spacing_km: float) -> tuple[Floats, Rows]:
        """Lay grids around places, without the places; return also whose each point is."""
        # Rounded, so that neighbours share a grid.
        stretches = np.exp2(np.round(np.log2(self.stretch(centres)) * 4.0) / 4.0)
        grids = [hexagonal(radius_km, spacing_km, float(s))[1:] for s in stretches]
        centre = np.repeat(np.arange(len(centres)), [len(grid) for grid in grids])
        offsets = np.concatenate([np.empty((0, 2)), *grids])
        return points_around(centres[centre], offsets), centre

    def _front(self, beam: int) -> Rows:
        """Rows of the best candidates of every query."""
        order = np.lexsort((-self.scores, self.query[self.owner]))
        rank = np.arange(len(order)) - np.searchsorted(
            self.query[self.owner[order]], self.query[self.owner[order]]
        )
        front: Rows = order[rank < beam]
        return front

    def _own(self, points: Floats, owner: Rows) -> tuple[Floats, Rows]:
        """Leave out points that are nearer to another start of their query."""
        kept = np.ones(len(points), dtype=np.bool_)
        units, middle = to_unit_vectors(points), to_unit_vectors(self.starts)
        edges = np.searchsorted(owner, self.edges)
        for number, (begin, end) in enumerate(pairwise(edges)):
            rivals = middle[self.edges[number] : self.edges[number + 1]]
            nearness = units[begin:end] @ rivals.T
            mine = owner[begin:end] - self.edges[number]
            if len(nearness):
                kept[begin:end] = nearness[np.arange(end - begin), mine] >= nearness.max(axis=1)
        return points[kept], owner[kept]

    def _allowed(self, points: Floats, owner: Rows) -> Floats:
        """Scores; minus infinity beyond the reach of the start."""
        scores = np.full(len(points), -np.inf)
        away = great_circle_km(*self.starts[owner].T, *points.T)
        near = np.flatnonzero(away <= self.reach_km * (1.0 + 1e-9))
        scores[near] = self.score(points[near], self.query[owner[near]])
        return scores

    def _add(self, points: Floats, owner: Rows) -> None:
        scores = self._allowed(points, owner)
        fine = np.isfinite(scores)
        self.points = np.concatenate([self.points, points[fine]])
        self.scores = np.concatenate([self.scores, scores[fine]])
        self.owner = np.concatenate([self.owner, owner[fine]])
        self._remember(points, scores, owner)

    def _remember(self, points: Floats, scores: Floats, owner: Rows) -> None:
        """Keep for every start the best place ever scored."""
        order = np.lexsort((scores, owner))
        # Written in rising order, so that the best one stays.
        better = order[scores[order] > self.best_scores[owner[order]]]
        self.best[owner[better]] = points[better]
        self.best_scores[owner[better]] = scores[better]


def _read_starts(number: int, places: ArrayLike) -> Floats:
    try:
        read = np.asarray(places, dtype=np.float64)
    except (TypeError, ValueError):
        read = np.empty(0)
    if read.ndim != 2 or read.shape[1] != 2:
        raise OptionError(
            f"starts[{number}] has the shape {np.shape(read)}: give an array (k, 2) of lon and lat."
        )
    return read


def _check_positive(**options: float) -> None:
    for name, value in options.items():
        try:
            fine = bool(np.isfinite(float(value)) and float(value) > 0.0)
        except (TypeError, ValueError):
            fine = False
        if not fine:
            raise OptionError(f"{name}={value!r} does not fit: give kilometres above 0.")


def _check_counts(**options: int) -> None:
    for name, value in options.items():
        check_count(name, value)


def _check_queries(vectors: NDArray[Any], places: list[Floats], encoder: LocationEncoder) -> None:
    if vectors.ndim != 2 or vectors.shape[1] != encoder.dimension:
        raise OptionError(
            f"queries have the shape {vectors.shape}: {encoder.name!r} needs "
            f"(m, {encoder.dimension})."
        )
    if len(places) != len(vectors):
        raise OptionError(
            f"starts hold {len(places):,} arrays for {len(vectors):,} queries: give one each."
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise OptionError(
            f"{len(bad):,} of {len(vectors):,} queries hold values that are not finite, the first "
            f"is row {bad[0]}. Leave them out."
        )
    for number, one in enumerate(places):
        if not (np.isfinite(one).all() and (np.abs(one[:, 1]) <= 90.0).all()):
            raise OptionError(
                f"starts[{number}] hold coordinates that are no places: give lon and lat in "
                "degrees, finite, latitude in [-90, 90]."
            )
