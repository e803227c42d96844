"""Polygons of S2 cells in longitude and latitude."""

from typing import Final

import numpy as np
import s2geometry
import shapely
from numpy.typing import ArrayLike, NDArray

from geoembed.geodesy import from_unit_vectors
from geoembed_systems.cells.s2 import levels

__all__ = ["cell_polygons"]

Floats = NDArray[np.float64]

# Edges are great circles, and curves on a map: how many straight pieces draw one.
_MOST_PIECES: Final = 64
_FEWEST_PIECES: Final = 4

# Vertices this close to a pole are the pole: its longitude is no one's.
_AT_POLE: Final = 1e-12
# Degrees: rounding that would leave slivers beyond the antimeridian.
_SEAM: Final = 1e-9
# Square degrees: parts of a cut that are smaller are rounding, leaf cells are larger.
_SLIVER: Final = 1e-16


def cell_polygons(ids: ArrayLike) -> NDArray[np.object_]:
    """Draw S2 cells.

    Parameters
    ----------
    ids : array of uint64, shape (n,)
        Of S2 cells.

    Returns
    -------
    array of shapely Polygon or MultiPolygon, shape (n,)
        Longitude and latitude in degrees, longitude in [-180, 180]: valid, cut at the
        antimeridian, closed over the poles.

    Examples
    --------
    >>> from geoembed_systems.cells.s2 import cell_ids
    >>> cell_polygons(cell_ids([[180.0, 0.0], [2.35, 48.86]], level=0))[0].geom_type
    'MultiPolygon'
    """
    numbers = np.asarray(ids, dtype=np.uint64)
    corners = np.empty((len(numbers), 4, 3))
    for row, number in enumerate(numbers.tolist()):
        cell = s2geometry.S2Cell(s2geometry.S2CellId(number))
        for k in range(4):
            corner = cell.GetVertex(k)
            corners[row, k] = corner.x(), corner.y(), corner.z()
    pieces = np.maximum(_FEWEST_PIECES, _MOST_PIECES >> levels(numbers))
    drawn = np.empty(len(numbers), dtype=np.object_)
    for count in np.unique(pieces):
        rows = np.flatnonzero(pieces == count)
        drawn[rows] = _draw(corners[rows], int(count))
    return drawn


def _draw(corners: Floats, count: int) -> NDArray[np.object_]:
    """Draw cells whose edges are cut into `count` pieces each, (n, 4, 3) -> (n,)."""
    share = (np.arange(count) / count)[:, None]
    ends = np.roll(corners, -1, axis=1)
    # Points of the chord lie below those of the great circle.
    points = corners[:, :, None] * (1.0 - share) + ends[:, :, None] * share
    units = points.reshape(len(corners) * 4 * count, 3)
    rings = from_unit_vectors(units).reshape(len(corners), 4 * count, 2)
    polar = (np.hypot(units[:, 0], units[:, 1]) < _AT_POLE).reshape(rings.shape[:2])
    odd = polar.any(axis=1) | (np.ptp(rings[:, :, 0], axis=1) > 180.0)
    drawn = np.empty(len(corners), dtype=np.object_)
    drawn[~odd] = shapely.polygons(rings[~odd])
    for row in np.flatnonzero(odd):
        drawn[row] = _cut(_unroll(rings[row], polar[row]))
    return drawn


def _unroll(ring: Floats, polar: NDArray[np.bool_]) -> Floats:
    """Give a ring longitudes without jumps, and a way along the pole where it meets one."""
    pole = np.sign(ring[:, 1].mean()) * 90.0
    corner = np.flatnonzero(polar)
    if len(corner):
        ring = np.roll(ring, -int(corner[0]), axis=0)[1:]
    step = np.diff(ring[:, 0], append=ring[0, 0])
    step -= 360.0 * np.round(step / 360.0)
    lon = ring[0, 0] + np.concatenate([[0.0], np.cumsum(step)])
    lat = ring[:, 1]
    # Longitudes that have gone once round the Earth do not come back to where they started.
    round_pole = not len(corner) and abs(lon[-1] - lon[0]) > 180.0
    if round_pole:
        lat = np.append(lat, lat[0])
    else:
        lon = lon[:-1]
    if round_pole or len(corner):
        lon = np.concatenate([lon, [lon[-1], lon[0]]])
        lat = np.concatenate([lat, [pole, pole]])
    seam = 180.0 * np.round(lon / 180.0)
    lon = np.where(np.abs(lon - seam) < _SEAM, seam, lon)
    return np.column_stack([lon, lat])


def _cut(ring: Floats) -> shapely.Geometry:
    """Bring a ring without jumps between -180 and 180 degrees."""
    world = shapely.box(-180.0, -90.0, 180.0, 90.0)
    turned = shapely.polygons([ring + np.array([turn, 0.0]) for turn in (-360.0, 0.0, 360.0)])
    parts = shapely.get_parts(shapely.intersection(turned, world))
    # What goes all round a pole may have been cut at another meridian than its own seam: joined.
    return shapely.union_all(parts[shapely.area(parts) > _SLIVER])
