"""Polygons in lon/lat laid on the grid of a raster, whatever its projection does to them."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoembed.geodesy import wrap_longitude
from geoembed.geometries import sample_points
from geoembed.parts import edges as edges_of
from geoembed.parts import ranks, sums
from geoembed.targets.coverage import Edges
from geoembed.targets.grids import EQUATOR_M, Grid, authalic_sine

__all__ = ["Samples", "areas_m2", "lay"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Geometries = NDArray[np.object_]

# Degrees: edges are cut into pieces no longer, to follow their curve on the grid.
_LONGEST = 0.5
# An edge whose middle is this far off, as a share of its length, is torn by the projection.
_TORN = 0.25
# Degrees that shapes keep away from the meridian along which a world map is cut.
_SEAM = 1e-7
# Places that stand for a shape that cannot be drawn: some for each of its cells, at least, at most.
_EACH, _LEAST, _MOST = 16, 4096, 2**20


@dataclass(frozen=True, eq=False)
class Samples:
    """Places spread evenly over shapes that a projection tears.

    Parameters
    ----------
    lonlat : ndarray of float64, shape (k, 2)
        Degrees.
    part : ndarray of intp, shape (k,)
        Number of the shape.
    area : ndarray of float64, shape (k,)
        Square metres that each place stands for.
    """

    lonlat: Floats
    part: Rows
    area: Floats


@dataclass(frozen=True, eq=False)
class _Rings:
    """Corners of closed rings in degrees, no two over half a degree apart."""

    lonlat: Floats
    ring: Rows
    following: Rows
    part: Rows
    turned: NDArray[np.bool_]

    def edges(self, pixels: Floats, chosen: NDArray[np.bool_]) -> tuple[Edges, Rows]:
        """Edges between pixel coordinates of the corners, for the chosen parts."""
        kept = np.flatnonzero(chosen[self.part])
        start, stop = pixels[kept], pixels[self.following[kept]]
        turned = self.turned[kept][:, None]
        part = self.part[kept]
        parts, first = np.unique(part, return_index=True)
        ends = np.append(first, len(part))
        return Edges(np.where(turned, stop, start), np.where(turned, start, stop), ends), parts


def areas_m2(parts: Geometries) -> Floats:
    """Areas on the ellipsoid of simple polygons without jumps, in square metres."""
    return _areas(_rings(parts), len(parts))


def lay(grid: Grid, parts: Geometries) -> tuple[list[tuple[Edges, Rows]], Samples | None]:
    """Lay polygons on a grid.

    Parameters
    ----------
    grid : Grid
        Of the raster.
    parts : ndarray of object, shape (p,)
        Simple polygons in degrees without jumps; longitudes may leave [-180, 180].

    Returns
    -------
    laid : list of (Edges, ndarray of intp)
        Shapes in pixel coordinates, and the part that each of them is of.
    samples : Samples or None
        Places for parts that cannot be drawn as shapes, if there are any.

    Notes
    -----
    On grids of parallels and meridians rows are counted by area, so that shares of cells are
    shares of their area on the Earth. Elsewhere a part that the projection tears is cut
    along the meridian opposite to that of the projection and at the rim of the raster; if that
    does not help, places spread over it take its part.
    """
    rings = _rings(parts)
    if grid.straight:
        return _lay_straight(grid, rings, len(parts)), None
    laid = []
    for turn in _turns(grid):
        pixels, whole = _project(grid, rings, len(parts), turn)
        if whole.any():
            laid.append(rings.edges(pixels, whole))
        if grid.degrees or whole.all():
            continue
        pieces, of = _cut(grid, parts[~whole])
        of = np.flatnonzero(~whole)[of]
        rings = _rings(pieces)
        pixels, whole = _project(grid, rings, len(pieces), turn)
        if whole.any():
            edges, piece = rings.edges(pixels, whole)
            laid.append((edges, of[piece]))
        if not whole.all():
            return laid, _sample(grid, pieces[~whole], of[~whole])
    return laid, None


def _turns(grid: Grid) -> list[int]:
    """Turns of longitude in which parts may meet the raster: they reach beyond 180 degrees."""
    return [*range(grid.turns[0] - 1, grid.turns[-1] + 2)] if grid.degrees else [0]


def _lay_straight(grid: Grid, rings: _Rings, count: int) -> list[tuple[Edges, Rows]]:
    """Lay rings on a grid of parallels and meridians, in each turn that meets it."""
    transform = grid.raster.transform
    moved = grid.to_crs(rings.lonlat)
    column, row = (moved[:, 0] - transform.c) / transform.a, grid.even_rows(moved[:, 1])
    parts, first = np.unique(rings.part, return_index=True)
    low, high = np.full(count, np.nan), np.full(count, np.nan)
    if len(parts):
        low[parts] = np.minimum.reduceat(column, first)
        high[parts] = np.maximum.reduceat(column, first)
    laid = []
    for turn in _turns(grid):
        shift = 360.0 * turn / transform.a
        chosen = (high + shift > 0.0) & (low + shift < grid.columns)
        if chosen.any():
            laid.append(rings.edges(np.stack([column + shift, row], axis=1), chosen))
    return laid


def _rings(parts: Geometries) -> _Rings:
    if not len(parts):
        none = np.empty(0, dtype=np.intp)
        return _Rings(np.empty((0, 2)), none, none, none, none.astype(np.bool_))
    curves, of = shapely.get_rings(parts, return_index=True)
    start, step, ring = edges_of(curves)
    # Around the first corner, where the products are small.
    middle = start[:, 0] + step[:, 0] / 2.0 - start[np.unique(ring, return_index=True)[1], 0][ring]
    anticlockwise = sums([middle * step[:, 1]], ring, len(curves))[0] > 0.0
    shell = np.diff(of, prepend=-1) > 0
    length = np.abs(step).max(axis=1)
    if (length > _LONGEST).any():
        count = np.maximum(np.ceil(length / _LONGEST), 1.0).astype(np.intp)
        edge = np.repeat(np.arange(len(start)), count)
        step = step[edge] / count[edge, None]
        start, ring = start[edge] + ranks(count)[:, None] * step, ring[edge]
    following = np.arange(1, len(start) + 1)
    first = np.unique(ring, return_index=True)[1]
    following[np.append(first[1:], len(ring)) - 1] = first
    return _Rings(start, ring, following, of[ring], (anticlockwise != shell)[ring])


def _areas(rings: _Rings, count: int) -> Floats:
    """Integrate q along the edges, as straight there as on a grid of parallels."""
    q = authalic_sine(rings.lonlat[:, 1])
    # Less that of each part's first corner: small differences, and no digits lost.
    _, first, which = np.unique(rings.part, return_index=True, return_inverse=True)
    q -= q[first][which]
    width = np.radians(rings.lonlat[rings.following, 0] - rings.lonlat[:, 0])
    strip = (q + q[rings.following]) / 2.0 * width * np.where(rings.turned, 1.0, -1.0)
    areas: Floats = sums([strip], rings.part, count)[0] * (EQUATOR_M**2 / 2.0)
    return areas


def _project(grid: Grid, rings: _Rings, count: int, turn: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Pixel coordinates of all corners, and which parts come out in one piece."""
    pixels = grid.to_pixels(rings.lonlat, turn)
    if not len(pixels):
        return pixels, np.ones(count, dtype=np.bool_)
    ends = pixels[rings.following]
    middle = grid.to_pixels((rings.lonlat + rings.lonlat[rings.following]) / 2.0, turn)
    length = np.abs(ends - pixels).max(axis=1)
    off = np.abs(middle - (pixels + ends) / 2.0).max(axis=1)
    # Written so that a NaN counts as torn; a thousandth of a cell is no tear.
    torn = ~(off <= np.maximum(_TORN * length, 1e-3))
    return pixels, np.bincount(rings.part, torn, count) == 0


def _cut(grid: Grid, parts: Geometries) -> tuple[Geometries, Rows]:
    """Cut parts along the projection's seam and around the raster; say whose the pieces are."""
    seam = _seam(grid)
    west, south, east, north = _bounds(grid)
    boxes = [
        shapely.box(
            max(seam + 360.0 * turn + _SEAM, west + 360.0 * around),
            south,
            min(seam + 360.0 * (turn + 1) - _SEAM, east + 360.0 * around),
            north,
        )
        for turn in range(-3, 3)
        for around in range(-2, 3)
        if max(seam + 360.0 * turn, west + 360.0 * around)
        < min(seam + 360.0 * (turn + 1), east + 360.0 * around)
    ]
    pieces = shapely.intersection(parts[:, None], np.array(boxes)[None, :])
    part = np.broadcast_to(np.arange(len(parts))[:, None], pieces.shape)
    pieces, of = shapely.get_parts(pieces.ravel(), return_index=True)
    of = part.ravel()[of]
    areal = shapely.area(pieces) > 0.0
    areal &= shapely.get_type_id(pieces) == shapely.GeometryType.POLYGON
    order = np.argsort(of[areal], kind="stable")
    return pieces[areal][order], of[areal][order]


def _seam(grid: Grid) -> float:
    """Longitude opposite to the central meridian."""
    operation = grid.raster.crs.coordinate_operation if grid.raster.crs else None
    for parameter in operation.params if operation else ():
        if "longitude" in parameter.name.lower():
            centre = np.degrees(float(parameter.value) * parameter.unit_conversion_factor)
            return float(wrap_longitude(centre + 180.0))
    return 180.0


def _bounds(grid: Grid) -> tuple[float, float, float, float]:
    """West, south, east and north of the raster with some margin; all longitudes if in doubt."""
    raster, nodes = grid.raster, 33
    column, row = np.meshgrid(
        np.linspace(0.0, raster.width, nodes), np.linspace(0.0, raster.height, nodes)
    )
    lonlat = grid.to_lonlat(np.stack([column.ravel(), row.ravel()], axis=1))
    lonlat = lonlat[np.isfinite(lonlat).all(axis=1)]
    poles = grid.locate(np.array([[0.0, 90.0], [0.0, -90.0]]))[1]
    if not len(lonlat):
        return -180.0, -90.0, 180.0, 90.0
    centre = lonlat[len(lonlat) // 2, 0]
    offset = wrap_longitude(lonlat[:, 0] - centre)
    margin = 2.0 / nodes
    tall, wide = np.ptp(lonlat[:, 1]) * margin, np.ptp(offset) * margin
    south = -90.0 if poles[1] else max(lonlat[:, 1].min() - tall, -90.0)
    north = 90.0 if poles[0] else min(lonlat[:, 1].max() + tall, 90.0)
    if poles.any() or np.ptp(offset) + 2.0 * wide > 300.0:
        return -180.0, south, 180.0, north
    return centre + offset.min() - wide, south, centre + offset.max() + wide, north


def _sample(grid: Grid, parts: Geometries, of: Rows) -> Samples:
    """Spread places over parts, by area, more of them where there are more cells."""
    areas = areas_m2(parts)
    middle = np.array([grid.raster.height // 2]), np.array([grid.raster.width // 2])
    cell = float(grid.cell_areas(*middle)[0])
    lonlat, part, weight = [np.empty((0, 2))], [np.empty(0, dtype=np.intp)], [np.empty(0)]
    for at, area in enumerate(areas):
        count = int(np.clip(_EACH * area / max(cell, 1e-9), _LEAST, _MOST))
        places = sample_points(parts[[at]], count)[1]
        lonlat.append(places)
        part.append(np.full(len(places), of[at]))
        weight.append(np.full(len(places), area / max(len(places), 1)))
    return Samples(np.concatenate(lonlat), np.concatenate(part), np.concatenate(weight))
