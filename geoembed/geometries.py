"""Lines, polygons and collections reduced to places: one point each, or many.

Geometries come in lon/lat degrees, and their edges are straight in lon/lat, as
in GeoJSON. Areas and lengths are measured on the sphere.

An edge that spans more than 180 degrees of longitude (179 to -179) is taken to
cross the antimeridian, so a polygon gives the same places whether or not it
has been cut there. A ring that winds round a pole that way encloses the pole on
its own side of the equator. Only edges of 360 degrees (-180 to 180, the rim of a
planar map) are taken the long way. Invalid polygons are made valid first; polygons
without area count as lines, lines without length as points.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely

from geoembed.geodesy import from_unit_vectors, to_unit_vectors, wrap_longitude
from geoembed.parts import (
    NODES,
    Floats,
    Geometries,
    Rows,
    as_array,
    blocks,
    crosses,
    decompose,
    edges,
    explode,
    pieces,
    polygon_areas,
    polygon_normals,
    ranks,
    short_way,
    sums,
)
from geoembed.scalars import check_count

__all__ = ["check_samples", "geodesic_centroids", "representative_points", "sample_points"]

# Resultants shorter than this, relative to area, length or count, have no direction.
_BALANCED = 1e-9

# Steradians.
_LEAST_AREA = 1e-300

# Steps of the R2 sequence (Roberts 2018): inverse powers of the root of x^3 = x + 1.
_R2 = (0.7548776662466927, 0.5698402909980532)
# Candidates drawn in one round for all polygons, and at most for one of them.
_ROUND = 2**20
_MOST_DRAWS = 2**17


def representative_points(geoms: Sequence[Any] | Geometries) -> Floats:
    """Find one point inside each geometry, in the lon/lat plane.

    Parameters
    ----------
    geoms : sequence of shapely geometries, length n
        In lon/lat degrees; None allowed.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        Longitude in [-180, 180] and latitude in degrees. Inside polygons, on lines, one
        of the points of a MultiPoint (`shapely.point_on_surface`); NaN for None and for
        empty geometries.

    Examples
    --------
    >>> from shapely import Polygon
    >>> fiji = Polygon([(177, -19), (-178, -19), (-178, -16), (177, -16)])
    >>> representative_points([fiji]).tolist()
    [[179.5, -17.5]]
    """
    geoms = as_array(geoms)
    parts, owner = explode(geoms)
    for row in np.unique(owner[crosses(parts)]):
        geoms[row] = shapely.geometrycollections(decompose(geoms[[row]])[0])
    points, row = shapely.get_coordinates(shapely.point_on_surface(geoms), return_index=True)
    lonlat = np.full((len(geoms), 2), np.nan)
    lonlat[row] = points
    return _wrapped(lonlat)


def geodesic_centroids(geoms: Sequence[Any] | Geometries) -> Floats:
    """Find the centroid of each geometry on the sphere.

    The centroid is the direction of the integral of the unit vectors: over the area of
    polygons, the length of lines, the members of a MultiPoint. Of a collection the
    parts of highest dimension count. It may lie outside the geometry: the centroid of
    a ring round a pole is the pole.

    Parameters
    ----------
    geoms : sequence of shapely geometries, length n
        In lon/lat degrees; None allowed.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        Longitude in [-180, 180] and latitude in degrees; a Point is returned as it is.
        NaN for None and for empty geometries. Where the integral has no direction (the
        whole globe, two antipodes) the planar centroid in lon/lat is given.

    Notes
    -----
    The integral of the outward normal over a surface is half the integral of r x dr
    along its boundary (Stokes), taken here along edges that are straight in lon/lat, in
    axes at a vertex of the geometry so that small polygons keep their digits.

    Examples
    --------
    >>> from shapely import box
    >>> geodesic_centroids([box(0, 60, 90, 90)]).round(3).tolist()
    [[45.0, 71.932]]
    """
    geoms = as_array(geoms)
    lonlat = np.full((len(geoms), 2), np.nan)
    for block in blocks(geoms):
        lonlat[block] = _centroids(geoms[block])
    return _wrapped(lonlat)


def sample_points(geoms: Sequence[Any] | Geometries, samples: int) -> tuple[Rows, Floats]:
    """Spread points evenly over each geometry, by area on the sphere.

    Parameters
    ----------
    geoms : sequence of shapely geometries, length n
        In lon/lat degrees; None allowed.
    samples : int
        Points for each geometry, at least 1.

    Returns
    -------
    owner : ndarray of intp, shape (m,)
        Position of the geometry that each point belongs to, ascending.
    lonlat : ndarray of float64, shape (m, 2)
        Longitude in [-180, 180] and latitude in degrees. `samples` points inside polygons
        (parts get their shares by area; slivers that fill less than about 1/4000 of
        their box get points along their boundary) or along lines (by length); a Point
        once as it is; the members of a MultiPoint, every k-th if there are more than
        `samples`. None and empty geometries get none.

    Raises
    ------
    OptionError
        If `samples` is not a whole number of at least 1.

    Notes
    -----
    Points come from the R2 low-discrepancy sequence in (lon, sin lat), where areas
    are true, so a geometry always gets the same points, whatever is beside it.

    Examples
    --------
    >>> from shapely import box
    >>> owner, lonlat = sample_points([box(10, 40, 20, 50), box(-5, 0, 5, 9)], 32)
    >>> lonlat.shape, owner[[0, 31, 32, 63]].tolist()
    ((64, 2), [0, 0, 1, 1])
    """
    check_samples(samples)
    geoms = as_array(geoms)
    owners, places = [np.empty(0, dtype=np.intp)], [np.empty((0, 2))]
    for block in blocks(geoms):
        parts, owner = decompose(geoms[block])
        dimension = shapely.get_dimensions(parts)
        for spread, of in ((_of_points, 0), (_along_lines, 1), (_inside_polygons, 2)):
            if (dimension == of).any():
                chosen, lonlat = spread(
                    parts[dimension == of], owner[dimension == of], int(samples)
                )
                owners.append(chosen + block.start)
                places.append(lonlat)
    owner, lonlat = np.concatenate(owners), np.concatenate(places)
    order = np.argsort(owner, kind="stable")
    return owner[order], _wrapped(lonlat[order])


def check_samples(samples: int) -> None:
    """Raise OptionError if `samples` is not a whole number of at least 1."""
    check_count("samples", samples)


def _wrapped(lonlat: Floats) -> Floats:
    lonlat[:, 0] = wrap_longitude(lonlat[:, 0])
    return lonlat


# --- centroids -----------------------------------------------------------------------


def _centroids(geoms: Geometries) -> Floats:
    parts, owner = decompose(geoms)
    dimension = shapely.get_dimensions(parts)
    lonlat = np.full((len(geoms), 2), np.nan)
    for centroids, of in ((_of_members, 0), (_of_lines, 1), (_of_polygons, 2)):
        rows, group = np.unique(owner[dimension == of], return_inverse=True)
        if len(rows):
            lonlat[rows] = centroids(parts[dimension == of], group)
    undecided = np.isnan(lonlat[:, 0]) & ~(shapely.is_missing(geoms) | shapely.is_empty(geoms))
    lonlat[undecided] = shapely.get_coordinates(shapely.centroid(geoms[undecided]))
    return lonlat


def _of_members(points: Geometries, owner: Rows) -> Floats:
    places = shapely.get_coordinates(points)
    lonlat = _directions(to_unit_vectors(places), np.ones(len(owner)), owner)
    alone = np.bincount(owner)[owner] == 1
    lonlat[owner[alone]] = places[alone]
    return lonlat


def _of_lines(lines: Geometries, owner: Rows) -> Floats:
    start, step, line = edges(lines)
    start, step, edge = pieces(start, short_way(step))
    vectors, lengths = np.zeros((len(start), 3)), np.zeros(len(start))
    for node, weight in NODES:
        lonlat = start + node * step
        length = weight * _length(step, lonlat[:, 1])
        vectors += length[:, None] * to_unit_vectors(lonlat)
        lengths += length
    return _directions(vectors, lengths, owner[line[edge]])


def _of_polygons(polygons: Geometries, owner: Rows) -> Floats:
    lonlat, part = shapely.get_coordinates(polygons, return_index=True)
    origin = lonlat[np.unique(owner[part], return_index=True)[1]]
    up, east, north = total = sums(polygon_normals(polygons, origin[owner]), owner)
    area = np.bincount(owner, polygon_areas(polygons))
    balanced = np.linalg.norm(total, axis=0) <= _BALANCED * area
    sine, cosine = np.sin(np.radians(origin[:, 1])), np.cos(np.radians(origin[:, 1]))
    outward = np.stack([up * cosine - north * sine, east, up * sine + north * cosine])
    lonlat = from_unit_vectors(outward.T)
    lonlat[:, 0] += origin[:, 0]
    lonlat[balanced] = np.nan
    return lonlat


def _directions(vectors: Floats, weights: Floats, owner: Rows) -> Floats:
    """Places of the summed vectors; NaN where they balance out."""
    total = sums(vectors.T, owner).T
    lonlat = from_unit_vectors(total)
    lonlat[np.linalg.norm(total, axis=1) <= _BALANCED * np.bincount(owner, weights)] = np.nan
    return lonlat


def _length(step: Floats, lat: Floats) -> Floats:
    """Length on the sphere, in degrees, of steps that are taken at latitude `lat`."""
    length: Floats = np.hypot(step[:, 0] * np.cos(np.radians(lat)), step[:, 1])
    return length


# --- samples -------------------------------------------------------------------------


def _of_points(points: Geometries, owner: Rows, samples: int) -> tuple[Rows, Floats]:
    counts = np.bincount(owner)
    rank, count = ranks(counts), counts[owner]
    chosen = (rank + 1) * samples // count > rank * samples // count
    return owner[chosen], shapely.get_coordinates(points)[chosen]


def _along_lines(lines: Geometries, owner: Rows, samples: int | Rows) -> tuple[Rows, Floats]:
    start, step, line = edges(lines)
    start, step, edge = pieces(start, short_way(step))
    rows, group = np.unique(owner[line[edge]], return_inverse=True)
    ends = _cumulative(_length(step, start[:, 1] + step[:, 1] / 2.0), group)
    starts = np.concatenate([[0.0], ends[:-1]])
    counts = np.broadcast_to(samples, rows.shape)
    chosen = np.repeat(np.arange(len(rows)), counts)
    target = chosen + (ranks(counts) + 0.5) / counts[chosen]
    piece = np.searchsorted(ends, target)
    along = (target - starts[piece]) / (ends[piece] - starts[piece])
    return rows[chosen], start[piece] + along[:, None] * step[piece]


def _cumulative(weights: Floats, group: Rows) -> Floats:
    """Running shares: the weights of group g run from g to g + 1."""
    return np.cumsum(weights / np.bincount(group, weights)[group])


def _inside_polygons(polygons: Geometries, owner: Rows, samples: int) -> tuple[Rows, Floats]:
    group = np.unique(owner, return_inverse=True)[1]
    # The floor keeps slivers below rounding from dividing zero by zero.
    area = np.maximum(polygon_areas(polygons), _LEAST_AREA)
    # Cumulative shares, rounded, give every part its points and each geometry all of them.
    ends = np.floor((_cumulative(area, group) - group) * samples + 0.5).astype(np.intp)
    starts = np.where(np.diff(group, prepend=-1) > 0, 0, np.roll(ends, 1))
    wanted = np.flatnonzero(ends > starts)
    part, lonlat = _draw(polygons[wanted], area[wanted], starts[wanted], (ends - starts)[wanted])
    return owner[wanted[part]], lonlat


def _draw(polygons: Geometries, area: Floats, first: Rows, counts: Rows) -> tuple[Rows, Floats]:
    """Draw from the sequence in each box, from place `first` on, until `counts` lie inside."""
    shapely.prepare(polygons)
    west, south, east, north = shapely.bounds(polygons).T
    low, high = np.sin(np.radians([south, north]))
    filled = np.clip(
        area / np.maximum(np.radians(east - west) * (high - low), _LEAST_AREA), 1e-9, 1.0
    )
    parts, places = [], []
    missing, drawn = counts.copy(), np.zeros_like(counts)
    active = np.arange(len(polygons))
    while len(active):
        draws = np.minimum(np.ceil(1.2 * missing[active] / filled[active]) + 8, _MOST_DRAWS)
        draws = draws.astype(np.intp)
        batch = active[: max(1, int(np.searchsorted(np.cumsum(draws), _ROUND)))]
        draws = draws[: len(batch)]
        part = np.repeat(batch, draws)
        place = first[part] + drawn[part] + ranks(draws)
        # Terms 0, 1, -1, 2, -2, ...: they lie in pairs opposite the middle of the box.
        term = np.where(place % 2 == 1, (place + 1) // 2, -(place // 2))
        lon = west[part] + (0.5 + term * _R2[0]) % 1.0 * (east - west)[part]
        sine = low[part] + (0.5 + term * _R2[1]) % 1.0 * (high - low)[part]
        lat = np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0)))
        hit = np.flatnonzero(shapely.contains_xy(polygons[part], lon, lat))
        hits = np.bincount(part[hit], minlength=len(polygons))
        hit = hit[ranks(hits[batch]) < missing[part[hit]]]
        parts.append(part[hit])
        places.append(np.stack([lon[hit], lat[hit]], axis=1))
        missing[batch] -= np.minimum(hits[batch], missing[batch])
        drawn[batch] += draws
        active = active[(missing[active] > 0) & (drawn[active] < _MOST_DRAWS)]
    part, lonlat = np.concatenate(parts), np.concatenate(places)
    sliver = np.flatnonzero(missing)
    if len(sliver):
        rings = shapely.get_exterior_ring(polygons[sliver])
        index, along = _along_lines(rings, np.arange(len(sliver)), counts[sliver])
        kept = missing[part] == 0
        part = np.concatenate([part[kept], sliver[index]])
        lonlat = np.concatenate([lonlat[kept], along])
    order = np.argsort(part, kind="stable")
    return part[order], lonlat[order]
