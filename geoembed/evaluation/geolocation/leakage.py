"""Whether the answers were given away: queries that lie in, or right beside, the gallery."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from geoembed.coordinates import read_places
from geoembed.errors import OptionError
from geoembed.geodesy import EARTH_RADIUS_KM, distance_km, to_unit_vectors

__all__ = ["LEAK_M", "Leaks", "check_leak_distance", "find_leaks"]

LEAK_M: Final = 10.0
"""A query nearer than this to a place of the gallery counts as leaked, in metres."""

# Chords between unit vectors of geodetic latitudes are within 0.6 % of the ellipsoid.
_MARGIN: Final = 1.02
# The nearest of two places a nanometre apart does not matter.
_LEAST: Final = 1e-15


@dataclass(frozen=True, eq=False)
class Leaks:
    """Queries whose place is in the gallery, or so close that it might as well be.

    Parameters
    ----------
    rows : ndarray of int64, shape (k,)
        Positions of the queries, ascending.
    gallery_rows : ndarray of int64, shape (k,)
        The nearest place of the gallery for each.
    metres : ndarray of float64, shape (k,)
        Geodesic distance to it.
    queries : int
        How many queries there are.
    within_m : float
        What counted as leaked.
    """

    rows: NDArray[np.int64]
    gallery_rows: NDArray[np.int64]
    metres: NDArray[np.float64]
    queries: int
    within_m: float

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def share(self) -> float:
        """Percent of the queries; NaN if there are none."""
        return 100.0 * len(self) / self.queries if self.queries else float("nan")

    @property
    def exact(self) -> int:
        """How many are the very place of the gallery, within a centimetre."""
        return int(np.count_nonzero(self.metres < 0.01))


def find_leaks(truth: ArrayLike, places: ArrayLike, *, within_m: float = LEAK_M) -> Leaks:
    """Find the queries that are in the gallery, or within some metres of one of its places.

    A gallery that holds the places where the queries were taken gives the answer away, most of
    all within 1 km.

    Parameters
    ----------
    truth : array_like of shape (n, 2)
        Where the queries were taken: longitude and latitude, degrees, WGS 84.
    places : array_like of shape (m, 2)
        Of the gallery.
    within_m : float
        What counts as leaked, metres, geodesic; the limit itself counts.

    Returns
    -------
    Leaks
        Which queries, how near, and to which place.

    Raises
    ------
    OptionError
        If `within_m` is not a number from 0 to 100,000.
    CoordinateError
        If places cannot be read.

    Notes
    -----
    A search tree over unit vectors gives the candidates; their distances are then measured on the
    ellipsoid. 100,000 places and 3,000 queries take about 0.1 s.

    Examples
    --------
    >>> leaks = find_leaks([[2.35, 48.86], [13.4, 52.5]], [[2.35, 48.86005]])
    >>> leaks.rows.tolist(), leaks.metres.round(2).tolist()
    ([0], [5.56])
    """
    check_leak_distance(within_m, "within_m")
    there, gallery = read_places(truth).lonlat, read_places(places).lonlat
    reach = max(2.0 * np.sin(_MARGIN * within_m / 2000.0 / EARTH_RADIUS_KM), _LEAST)
    queries, vectors = to_unit_vectors(there), to_unit_vectors(gallery)
    tree = KDTree(vectors)
    chord, _ = tree.query(queries, distance_upper_bound=reach + _LEAST)
    near = np.flatnonzero(np.isfinite(chord))
    found = tree.query_ball_point(queries[near], reach)
    query = np.repeat(near, [len(rows) for rows in found])
    place = np.fromiter((row for rows in found for row in rows), np.int64, len(query))
    metres = 1000.0 * distance_km(*there[query].T, *gallery[place].T)
    within = metres <= within_m
    query, place, metres = query[within], place[within], metres[within]
    # The nearest place of every query first; equal distances go to the first row of the gallery.
    order = np.lexsort((place, metres, query))
    rows, first = np.unique(query[order], return_index=True)
    return Leaks(
        rows.astype(np.int64), place[order][first], metres[order][first], len(there), within_m
    )


def check_leak_distance(metres: object, option: str = "leak_m") -> None:
    """Raise OptionError unless `metres` is a number from 0 to 100,000."""
    if not isinstance(metres, int | float) or not 0.0 <= metres <= 100_000.0:
        raise OptionError(f"{option}={metres!r} is not a distance in metres, 0 to 100,000.")
