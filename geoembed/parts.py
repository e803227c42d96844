"""Geometries taken apart: simple parts, edges, and integrals along the edges.

The groundwork of `geoembed.geometries`, which says how geometries are read: edges
straight in lon/lat, the short way over the antimeridian, poles enclosed.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoembed.geodesy import to_unit_vectors

__all__ = [
    "NODES",
    "Floats",
    "Geometries",
    "Rows",
    "as_array",
    "blocks",
    "crosses",
    "decompose",
    "edges",
    "explode",
    "pieces",
    "polygon_areas",
    "polygon_normals",
    "ranks",
    "short_way",
    "sums",
]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Geometries = NDArray[np.object_]

# Three Gauss-Legendre nodes on [0, 1] and their weights: on edges of at most
# _LONGEST degrees they integrate sines and cosines to one part in 10^13.
NODES = ((0.5 - np.sqrt(0.15), 5 / 18), (0.5, 8 / 18), (0.5 + np.sqrt(0.15), 5 / 18))
_LONGEST = 5.0

# Steps this close to a whole turn are the rim of a map (-180 to 180), or a ring along the
# antimeridian whose vertices rounded to different sides of it.
_SEAM = 1e-9

# Below this area, over the square of the perimeter, rounding decides about the centroid.
_THINNEST = 1e-10

# Coordinates worked on at once: bounds the memory, however many geometries there are.
_BLOCK = 2**18


def as_array(geoms: Sequence[Any] | Geometries) -> Geometries:
    """Copy into an object array, without letting NumPy look inside the geometries."""
    array = np.empty(len(geoms), dtype=object)
    array[:] = geoms
    return array


def blocks(geoms: Geometries) -> Iterator[slice]:
    """Cut the rows into runs of about 260,000 coordinates."""
    if len(geoms):
        ends = np.cumsum(shapely.get_num_coordinates(geoms) + 1)
        cuts = np.unique(np.searchsorted(ends, np.arange(0, ends[-1], _BLOCK)))
        for start, stop in zip(cuts, [*cuts[1:], len(geoms)], strict=True):
            yield slice(int(start), int(stop))


def explode(geoms: Geometries, owner: Rows | None = None) -> tuple[Geometries, Rows]:
    """List the points, lines and polygons that make up the geometries, and whose they are."""
    owner = np.arange(len(geoms)) if owner is None else owner
    while True:
        geoms, inner = shapely.get_parts(geoms, return_index=True)
        owner = owner[inner]
        if not (shapely.get_type_id(geoms) > shapely.GeometryType.POLYGON).any():
            break
    for index in np.flatnonzero(shapely.get_type_id(geoms) == shapely.GeometryType.LINEARRING):
        # A ring on its own is judged by whether it crosses itself, and cannot be mended.
        geoms[index] = shapely.LineString(geoms[index])
    filled = ~shapely.is_empty(geoms)
    return geoms[filled], owner[filled]


def decompose(geoms: Geometries) -> tuple[Geometries, Rows]:
    """List the valid parts of the highest dimension with any extent; polygons unwrapped."""
    parts, owner = explode(geoms)
    for index in np.flatnonzero(crosses(parts)):
        parts[index] = _unwrap_polygon(parts[index])
    invalid = ~shapely.is_valid(parts)
    # Polygons without area and lines without length are invalid, and come back as less.
    parts[invalid] = shapely.make_valid(parts[invalid])
    parts, owner = explode(parts, owner)
    slivers = shapely.area(parts) < _THINNEST * shapely.length(parts) ** 2
    slivers &= shapely.get_dimensions(parts) == 2
    parts[slivers] = shapely.get_exterior_ring(parts[slivers])
    dimension = shapely.get_dimensions(parts)
    highest = np.zeros(len(geoms), dtype=dimension.dtype)
    np.maximum.at(highest, owner, dimension)
    top = dimension == highest[owner]
    return parts[top], owner[top]


def edges(curves: Geometries) -> tuple[Floats, Floats, Rows]:
    """Start and step of every edge, both (e, 2) in degrees, and the curve it belongs to."""
    lonlat, curve = shapely.get_coordinates(curves, return_index=True)
    joined = curve[1:] == curve[:-1]
    return lonlat[:-1][joined], np.diff(lonlat, axis=0)[joined], curve[:-1][joined]


def pieces(start: Floats, step: Floats) -> tuple[Floats, Floats, Rows]:
    """Cut edges into equal pieces of at most 5 degrees; say which edge each is of."""
    count = np.maximum(np.ceil(np.abs(step).max(axis=1) / _LONGEST), 1.0).astype(np.intp)
    edge = np.repeat(np.arange(len(start)), count)
    step = step[edge] / count[edge, None]
    return start[edge] + ranks(count)[:, None] * step, step, edge


def ranks(counts: Rows) -> Rows:
    """0, 1, ... count - 1 for each count, one run after the other."""
    numbers: Rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return numbers


def sums(values: Floats | Sequence[Floats], group: Rows, size: int = 0) -> Floats:
    """Add up the rows of `values` (k, n) by group: (k, groups)."""
    return np.stack([np.bincount(group, row, size) for row in values])


def short_way(step: Floats) -> Floats:
    """Turn steps that jump over the antimeridian into the short ones they stand for."""
    dlon = step[:, 0]
    return np.stack([dlon - np.where(_jumps(dlon), 360.0 * np.sign(dlon), 0.0), step[:, 1]], axis=1)


def _jumps(dlon: Floats) -> NDArray[np.bool_]:
    """Steps of longitude that are shorter the other way round the Earth."""
    return (np.abs(dlon) > 180.0) & (np.abs(dlon) < 360.0 - _SEAM)


def crosses(parts: Geometries) -> NDArray[np.bool_]:
    """Tell which parts are polygons with an edge that may jump over the antimeridian."""
    crossing = np.zeros(len(parts), dtype=np.bool_)
    areal = np.flatnonzero(shapely.get_type_id(parts) == shapely.GeometryType.POLYGON)
    rings, part = shapely.get_rings(parts[areal], return_index=True)
    _, step, ring = edges(rings)
    crossing[areal[part[ring[np.abs(step[:, 0]) > 180.0]]]] = True
    return crossing


def _turns(dlon: Floats, jumps: NDArray[np.bool_]) -> Floats:
    """What to add to the longitudes behind each step."""
    return np.cumsum(np.where(jumps, -360.0 * np.sign(dlon), 0.0))


def _unwrap_polygon(polygon: Any) -> Any:
    """Redraw a polygon over the antimeridian in longitudes without jumps."""
    shell = shapely.make_valid(_unwrap_ring(polygon.exterior))
    # A hole may have been unwrapped into another turn than its shell.
    holes = [
        shapely.transform(hole, lambda lonlat, turn=turn: lonlat + np.array([turn, 0.0]))
        for hole in (shapely.make_valid(_unwrap_ring(ring)) for ring in polygon.interiors)
        for turn in (-360.0, 0.0, 360.0)
    ]
    return shapely.difference(shell, shapely.union_all(holes))


def _unwrap_ring(ring: Any) -> Any:
    """Polygon of a ring without jumps; one that winds round a pole is closed over it."""
    lonlat = shapely.get_coordinates(ring)
    dlon = np.diff(lonlat[:, 0])
    seams = np.abs(np.abs(dlon) - 360.0) <= _SEAM
    turns = _turns(dlon, _jumps(dlon) | seams)
    if seams.any() and (turns[-1] != 0.0 or np.ptp(lonlat[1:, 0] + turns) <= _SEAM):
        # Without them the ring would not close or have no width: they are the map's rim.
        turns = _turns(dlon, _jumps(dlon))
    lonlat[1:, 0] += turns
    if turns[-1] != 0.0:
        pole = 90.0 if to_unit_vectors(lonlat)[:, 2].mean() >= 0.0 else -90.0
        rim = np.array([[lonlat[-1, 0], pole], [lonlat[0, 0], pole], lonlat[0]])
        lonlat = np.concatenate([lonlat, rim])
    return shapely.Polygon(lonlat)


def polygon_areas(polygons: Geometries) -> Floats:
    """Areas of polygons on the unit sphere.

    Parameters
    ----------
    polygons : ndarray of object, shape (n,)
        Valid shapely Polygons in lon/lat degrees without jumps, rings stored either way round.

    Returns
    -------
    ndarray of float64, shape (n,)
        Steradians.
    """
    rings, polygon = shapely.get_rings(polygons, return_index=True)
    signed = _ring_areas(rings)
    areas: Floats = sums([np.abs(signed) * _shell_or_hole(polygon)], polygon, len(polygons))[0]
    return areas


def polygon_normals(polygons: Geometries, origin: Floats) -> Floats:
    """Integrate the outward normal over polygons on the unit sphere.

    Parameters
    ----------
    polygons : ndarray of object, shape (n,)
        As for `polygon_areas`.
    origin : ndarray of float64, shape (n, 2)
        A place close to each polygon, in degrees.

    Returns
    -------
    ndarray of float64, shape (3, n)
        Along axes up, east and north at the origin.

    Notes
    -----
    Half the integral of r x dr along the boundary (Stokes' theorem).
    """
    rings, polygon = shapely.get_rings(polygons, return_index=True)
    sign = np.sign(_ring_areas(rings)) * _shell_or_hole(polygon)
    start, step, ring = edges(rings)
    start, step, edge = pieces(start, step)
    ring = ring[edge]
    normals = sums(_edge_normals(start, step, origin, polygon[ring]), ring, len(rings))
    return sums(sign * normals, polygon, len(polygons))


def _shell_or_hole(polygon: Rows) -> Floats:
    """1 for the first ring of each polygon, its shell, and -1 for the others."""
    return np.where(np.diff(polygon, prepend=-1) > 0, 1.0, -1.0)


def _ring_areas(rings: Geometries) -> Floats:
    """Area between each ring and its first latitude, in steradians; positive anticlockwise."""
    start, step, ring = edges(rings)
    first = np.unique(ring, return_index=True)[1]
    phi0 = np.radians(start[first, 1])[ring]
    dlon, dlat = np.radians(step).T
    climb = np.radians(start[:, 1]) + dlat / 2.0 - phi0
    # The mean of sin along an edge is that of its middle, times sinc; less sin of phi0,
    # written without the difference of large numbers.
    above = 2.0 * np.cos(phi0 + climb / 2.0) * np.sin(climb / 2.0)
    above += np.sin(phi0 + climb) * (np.sinc(dlat / (2.0 * np.pi)) - 1.0)
    areas: Floats = sums([-above * dlon], ring, len(rings))[0]
    return areas


def _edge_normals(start: Floats, step: Floats, origin: Floats, at: Rows) -> Floats:
    """Half the integral of r x dr along edges, shape (3, e); `at` tells each edge's origin.

    Everything is a difference to the origin, so that nothing large cancels.
    """
    phi0 = np.radians(origin[:, 1])
    sin0, cos0 = np.sin(phi0)[at], np.cos(phi0)[at]
    offset, (dlon, dlat) = start - origin[at], np.radians(step).T
    normals = np.zeros((3, len(start)))
    for node, weight in NODES:
        half_turn, half_climb = np.radians(offset + node * step).T / 2.0
        sin_half, sin_climb = np.sin(half_turn), 2.0 * np.sin(half_climb) * np.cos(half_climb)
        versine, sin_turn = 2.0 * sin_half**2, 2.0 * sin_half * np.cos(half_turn)
        fall = 2.0 * np.sin(half_climb) ** 2  # 1 - cos, as the versine is of the turn
        sin = sin0 * (1.0 - fall) + cos0 * sin_climb
        cos = cos0 * (1.0 - fall) - sin0 * sin_climb
        up = -fall - cos * cos0 * versine
        east = cos * sin_turn
        north = sin_climb + cos * sin0 * versine
        d_up = -cos0 * east * dlon + (sin * cos0 * versine - sin_climb) * dlat
        d_east = cos * (1.0 - versine) * dlon - sin * sin_turn * dlat
        d_north = sin0 * east * dlon + (1.0 - fall - sin * sin0 * versine) * dlat
        normals[0] += weight / 2.0 * (east * d_north - north * d_east)
        normals[1] += weight / 2.0 * (north * d_up - up * d_north)
        normals[2] += weight / 2.0 * (up * d_east - east * d_up)
    return normals
