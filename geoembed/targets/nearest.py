"""The nearest polygon to a point, by geodesic distance to its boundary."""

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import KDTree

from geoembed.geodesy import EARTH_RADIUS_KM, distance_km, from_unit_vectors, to_unit_vectors
from geoembed.parts import edges, ranks

__all__ = ["nearest_parts"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Geometries = NDArray[np.object_]

# Degrees: pieces of boundaries are no longer, so that chords stand for them.
_PIECE = 0.1
# Chords on the sphere and geodesics differ by up to 0.56 %: room for that, on both sides.
_SLACK = 1.012
# Points whose candidates are in memory at once.
_BLOCK = 2_000


def nearest_parts(lonlat: Floats, parts: Geometries, owner: Rows, limit_km: float) -> Rows:
    """Find the polygon nearest to each of some points that lie in none.

    Parameters
    ----------
    lonlat : ndarray of float64, shape (n, 2)
        Degrees.
    parts : ndarray of object, shape (p,)
        Simple polygons in degrees without jumps.
    owner : ndarray of intp, shape (p,)
        Row of the polygon that each part is of.
    limit_km : float
        Farther polygons do not count.

    Returns
    -------
    ndarray of intp, shape (n,)
        Row, the first of equals; -1 where none is near enough.

    Notes
    -----
    Boundaries are cut into pieces of at most 0.1 degrees. A tree of their middles gives those
    that may be the nearest; on these the nearest place is found on the chord, and its distance
    is measured along the geodesic.
    """
    rows = np.full(len(lonlat), -1, dtype=np.intp)
    rings, of = shapely.get_rings(parts, return_index=True)
    start, step, ring = edges(rings)
    count = np.maximum(np.ceil(np.abs(step).max(axis=1) / _PIECE), 1.0).astype(np.intp)
    edge = np.repeat(np.arange(len(start)), count)
    step = step[edge] / count[edge, None]
    start = start[edge] + ranks(count)[:, None] * step
    row = owner[of[ring[edge]]]
    ends = to_unit_vectors(start), to_unit_vectors(start + step)
    tree = KDTree((ends[0] + ends[1]) / 2.0)
    reach = np.linalg.norm(ends[1] - ends[0], axis=1).max(initial=0.0) / 2.0
    # The longest chord that can be within the limit; a half turn and more is everywhere.
    farthest = 2.0 * np.sin(min(limit_km / EARTH_RADIUS_KM * _SLACK, np.pi) / 2.0) + reach
    for first in range(0, len(lonlat), _BLOCK):
        some = slice(first, first + _BLOCK)
        vectors = to_unit_vectors(lonlat[some])
        chord, _ = tree.query(vectors, distance_upper_bound=farthest)
        near = np.flatnonzero(np.isfinite(chord))
        if not len(near):
            continue
        candidates = tree.query_ball_point(vectors[near], (chord[near] + 2.0 * reach) * _SLACK)
        sizes = np.array([len(each) for each in candidates])
        point = np.repeat(near, sizes)
        piece = np.concatenate([np.asarray(each, dtype=np.intp) for each in candidates])
        closest = _closest(vectors[point], ends[0][piece], ends[1][piece])
        place = from_unit_vectors(closest)
        km = distance_km(*lonlat[some][point].T, *place.T)
        order = np.lexsort([row[piece], km, point])
        chosen, best = np.unique(point[order], return_index=True)
        best = order[best]
        within = km[best] <= limit_km
        rows[first + chosen[within]] = row[piece[best[within]]]
    return rows


def _closest(points: Floats, start: Floats, stop: Floats) -> Floats:
    """Place on each chord that is closest to its point."""
    chord = stop - start
    length = np.maximum((chord**2).sum(axis=1), 1e-300)
    along = np.clip(((points - start) * chord).sum(axis=1) / length, 0.0, 1.0)
    closest: Floats = start + along[:, None] * chord
    return closest
