"""The walk of softmax regression from strong to weak penalties, judged on rows held out."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from geoembed.heads.models.descent import CrossEntropy, Directions, Point, curvature_of, descend
from geoembed.heads.models.paths import Array

__all__ = ["Trial", "retrace", "walk"]

# Penalties over the sum of weights: where the path starts, its steps of half a decade, its ends.
_START: Final = 1e-2
_STEP: Final = 10.0**-0.5
_WEAKEST, _STRONGEST = 1e-9, 1e3

# A loss that is lower by less than this share is no better: of equals the strongest penalty is
# taken. The path has turned when the loss rose by the other share, or was no better twice in a row.
_GAIN: Final = 1e-3
_RISE: Final = 5e-3

# Of the curvature at the start of a path so much is left at least.
_LEAST: Final = 1e-3


class Trial:
    """One split on its way along the path."""

    def __init__(
        self,
        learned: CrossEntropy,
        held: CrossEntropy,
        start: Point,
        directions: Directions,
        tol: float,
        max_iter: int,
    ) -> None:
        self.learned, self.held, self.directions = learned, held, directions
        self.tol, self.max_iter = tol, max_iter
        self.point, self.curvature = start, curvature_of(start)
        # Where classes are told apart for certain nothing is left of the curvature.
        self.least = _LEAST * self.curvature

    def advance(self, alpha: float) -> float:
        """Go on to another penalty; return the mean cross-entropy on the rows held out."""
        self.point, *_ = descend(
            self.learned,
            self.point,
            alpha / self.learned.total,
            self.directions,
            self.curvature,
            tolerance=self.tol,
            max_iter=self.max_iter,
        )
        loss, curvature = self.held.judge(self.point)
        self.curvature = np.maximum(curvature, self.least)
        return loss


def walk(
    trials: list[Trial], grid: NDArray[np.float64] | None, start: float | None = None
) -> tuple[list[tuple[float, float]], float]:
    """Walk along penalties until the loss on held-out rows turns; both ways if it rises at once.

    Without a grid it starts at `start`, or else at 0.01 times the sum of weights learned from.
    Returns pairs of a penalty and its loss, and the best penalty.
    """
    weight = np.array([trial.held.total for trial in trials])
    path: list[tuple[float, float]] = []
    best, least = np.nan, np.inf

    def follow(alphas: NDArray[np.float64]) -> None:
        nonlocal best, least
        stalled = 0
        for alpha in alphas:
            losses = [trial.advance(alpha) for trial in trials]
            loss = float(weight @ losses / weight.sum())
            path.append((float(alpha), loss))
            if loss > least * (1.0 + _RISE):
                return
            if loss < least * (1.0 - _GAIN):
                stalled = 0
                least, best = loss, float(alpha)
            else:
                stalled += 1
                if stalled == 2:
                    return

    if grid is not None:
        follow(grid)
        return path, best
    first = start or _START * float(np.mean([trial.learned.total for trial in trials]))
    follow(np.array([first]))
    marks = [(trial.point, trial.curvature) for trial in trials]
    follow(first * _STEP ** np.arange(1.0, 1 + _steps(_WEAKEST)))
    if path[0][1] == least:
        for trial, mark in zip(trials, marks, strict=True):
            trial.point, trial.curvature = mark
        follow(first * _STEP ** np.arange(-1.0, _steps(_STRONGEST) - 1, -1.0))
    return path, best


def retrace(
    learned: CrossEntropy,
    start: Point,
    alphas: Sequence[float],
    directions: Directions,
    *,
    tol: float,
    max_iter: int,
) -> tuple[Point, Array]:
    """Walk down penalties on other rows, with nothing to judge; return where it ends.

    Where classes can be told apart for certain, a weak penalty alone does not say what is learned:
    a descent ends as soon as the loss is near 0, and how it came there decides. So all rows must
    come to the best penalty in the way that was judged. Starting where a split left off does not
    do: rows and classes that the split has not seen are then learned along directions that tell
    little (1,200 cities of 140 countries: 2.4 nats on new rows instead of 0.22).
    """
    point, curvature = start, curvature_of(start)
    least = _LEAST * curvature
    for alpha in alphas:
        point, *_ = descend(
            learned,
            point,
            alpha / learned.total,
            directions,
            curvature,
            tolerance=tol,
            max_iter=max_iter,
        )
        curvature = np.maximum(learned.judge(point)[1], least)
    return point, curvature


def _steps(end: float) -> int:
    return round(float(np.log(end / _START) / np.log(_STEP)))
