"""The best places of a gallery for a query, no two of them close together."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from geoembed.geodesy import distance_km

__all__ = ["Search", "distinct_of_scores", "distinct_rows", "thin"]

# (queries, k) -> scores (m, k), best first, and rows of the gallery (m, k).
Search = Callable[[NDArray[np.float32], int], tuple[NDArray[np.float32], NDArray[np.int64]]]

# Photographers crowd: the nearest fifty places to a landmark may lie in one city.
_FIRST: Final = 16
_MORE: Final = 8


def distinct_rows(
    search: Search,
    queries: NDArray[np.float32],
    lonlat: NDArray[np.float64],
    top_k: int,
    distinct_km: float,
) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Find the best rows for every query, skipping those close to a better one.

    Parameters
    ----------
    search : callable
        Finds the best rows of a gallery.
    queries : array of shape (m, d)
        Finite.
    lonlat : array of shape (n, 2), float64
        The gallery's places, degrees, WGS 84.
    top_k : int
        How many rows a query at most.
    distinct_km : float
        Least geodesic distance between two of them; 0 for any.

    Returns
    -------
    list of (scores, rows)
        For every query, best first; fewer than `top_k` rows where the gallery has no more that
        are far enough apart.
    """
    found: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = [
        (np.empty(0, np.float32), np.empty(0, np.int64))
    ] * len(queries)
    open_ones = np.arange(len(queries))
    k = min(len(lonlat), top_k if distinct_km == 0 else _FIRST * top_k)
    while len(open_ones):
        scores, rows = search(queries[open_ones], k)
        unfinished = []
        for position, query in enumerate(open_ones):
            kept = thin(lonlat[rows[position]], top_k, distinct_km)
            found[query] = scores[position, kept], rows[position, kept]
            if len(kept) < top_k and k < len(lonlat):
                unfinished.append(query)
        open_ones = np.array(unfinished, dtype=np.intp)
        k = min(len(lonlat), _MORE * k)
    return found


def distinct_of_scores(
    scores: NDArray[np.float32], lonlat: NDArray[np.float64], top_k: int, distinct_km: float
) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Do the same where the scores of all rows are there.

    Parameters
    ----------
    scores : array of shape (m, n)
        Of every query at every row.
    lonlat, top_k, distinct_km
        As in `distinct_rows`.

    Returns
    -------
    list of (scores, rows)
        As from `distinct_rows`.
    """

    def search(some: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        # What is asked for comes back in order; of equal scores the lower row is first.
        least = -np.partition(-some, k - 1, axis=1)[:, k - 1]
        rows = np.empty((len(some), k), dtype=np.int64)
        for number, (row, limit) in enumerate(zip(some, least, strict=True)):
            near = np.flatnonzero(row >= limit)
            rows[number] = near[np.argsort(-row[near], kind="stable")][:k]
        return np.take_along_axis(some, rows, axis=1), rows

    return distinct_rows(search, scores, lonlat, top_k, distinct_km)


def thin(lonlat: NDArray[np.float64], most: int, distinct_km: float) -> NDArray[np.intp]:
    """Return positions of the first places that keep their distance from those before them.

    Parameters
    ----------
    lonlat : array of shape (n, 2)
        Places, best first.
    most : int
        How many to return at most.
    distinct_km : float
        Least geodesic distance between two of them.

    Returns
    -------
    array of int
        Ascending.
    """
    if distinct_km == 0:
        return np.arange(min(most, len(lonlat)))
    left = np.arange(len(lonlat))
    kept: list[int] = []
    while len(left) and len(kept) < most:
        best = left[0]
        kept.append(int(best))
        away = distance_km(lonlat[best, 0], lonlat[best, 1], lonlat[left, 0], lonlat[left, 1])
        left = left[away >= distinct_km]
        left = left[left > best]
    return np.array(kept, dtype=np.intp)
