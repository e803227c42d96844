"""Climb a smooth score over the Earth's surface without derivatives."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from geoembed.geolocation.scoring import Score
from geoembed.geolocation.tangent import HEXAGON, points_around

__all__ = ["climb"]

Floats = NDArray[np.float64]

# The centre and the corners of a hexagon of radius 1, on which the paraboloid is fitted.
_STENCIL: Final = np.concatenate([np.zeros((1, 2)), HEXAGON])

# Values on the stencil -> coefficients of 1, x, y, x², xy, y² (least squares, 7 values for 6).
_FIT: Final = np.linalg.pinv(
    np.column_stack(
        [
            np.ones(7),
            _STENCIL,
            _STENCIL[:, 0] ** 2,
            _STENCIL[:, 0] * _STENCIL[:, 1],
            _STENCIL[:, 1] ** 2,
        ]
    )
)

# A vertex is believed only so far from the centre, in steps: further out the fit is a guess.
_TRUST: Final = 1.5
# What becomes of the step when the top lies inside the hexagon, and when nothing is known.
_SHRINK, _HALVE = 4.0, 2.0


def climb(
    score: Score,
    starts: Floats,
    scores: Floats,
    step_km: float,
    finest_km: float,
    max_steps: int,
    stretch: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Climb from many places at once.

    Each step scores the corners of a hexagon around a place, fits a paraboloid and goes to its
    top, at most one and a half radii away; where the fit has no top, to the best corner. When the
    top lies inside, the next hexagon is four times smaller.

    Parameters
    ----------
    score : callable
        Takes places (n, 2) and the row of `starts` that each belongs to; minus infinity is a
        wall.
    starts : array of shape (k, 2)
        Degrees, WGS 84.
    scores : array of shape (k,)
        Theirs.
    step_km : float
        Radius of the first hexagon.
    finest_km : float
        A climb ends when its radius is below this.
    max_steps : int
        Or after so many hexagons.
    stretch : array of shape (k,), optional
        The hexagons are so many times narrower from west to east, and longer from south to
        north.

    Returns
    -------
    lonlat : array of shape (k, 2)
        The best place that was scored on the way; the start if none is better.
    scores : array of shape (k,)
        Theirs, never below those of the starts.

    Examples
    --------
    >>> from geoembed.geodesy import great_circle_km
    >>> hill = lambda lonlat, rows: -great_circle_km(*lonlat.T, 10.0, 50.0) ** 2
    >>> start = np.array([[10.3, 50.2]])
    >>> climb(hill, start, hill(start, None), 2.0, 0.001, 60)[0].round(4).tolist()
    [[10.0, 50.0]]
    """
    best, top = starts.copy(), scores.copy()
    centre = starts.copy()
    radius = np.full(len(starts), step_km)
    narrow = np.ones(len(starts)) if stretch is None else stretch
    shape = np.column_stack([1.0 / narrow, narrow])
    for _ in range(max_steps):
        rows = np.flatnonzero(radius >= finest_km)
        if not len(rows):
            break
        size = radius[rows, None] * shape[rows]
        points = points_around(centre[rows, None], size[:, None] * _STENCIL)
        values = score(points.reshape(-1, 2), np.repeat(rows, 7)).reshape(-1, 7)
        winner = values.argmax(axis=1)
        each = np.arange(len(rows))
        better = values[each, winner] > top[rows]
        best[rows[better]] = points[each, winner][better]
        top[rows[better]] = values[each, winner][better]
        centre[rows], shrink = _next(points, values, size, best[rows])
        radius[rows] /= shrink
    return best, top


def _next(points: Floats, values: Floats, size: Floats, best: Floats) -> tuple[Floats, Floats]:
    """Choose the next centres, and by what the radii are divided."""
    known = np.asarray(np.isfinite(values).all(axis=1))
    vertex, concave = _vertex(np.where(known[:, None], values, 0.0))
    away = np.hypot(*vertex.T)
    top = known & concave & np.isfinite(away)
    inside = top & (away <= 1.0)
    pull = np.minimum(1.0, _TRUST / np.where(away > 0.0, away, 1.0))
    offset = np.where(top[:, None], vertex * pull[:, None], 0.0)
    # Without a top to go to: from the best place known, closer if that is no corner of this one.
    centre = np.where(top[:, None], points_around(points[:, 0], size * offset), best)
    corner = ~top & (values.argmax(axis=1) > 0)
    shrink = np.where(inside, _SHRINK, np.where(top | corner, 1.0, _HALVE))
    return centre, shrink


def _vertex(values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Top of the paraboloid through values (n, 7), in radii from the centre, and if it has one."""
    _, x, y, xx, xy, yy = _FIT @ (values - values[:, :1]).T
    determinant = 4.0 * xx * yy - xy * xy
    concave = (xx < 0.0) & (yy < 0.0) & (determinant > 0.0)
    safe = np.where(concave, determinant, 1.0)
    top = np.column_stack([(xy * y - 2.0 * yy * x) / safe, (xy * x - 2.0 * xx * y) / safe])
    return top, concave
