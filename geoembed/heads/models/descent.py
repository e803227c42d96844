"""Cross-entropy of linear scores over blocks of rows, and its descent in whitened directions."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize

from geoembed.heads.models.paths import Array, Moments, Rows, Scale, blocks
from geoembed.heads.models.threads import one_thread

__all__ = ["CrossEntropy", "Directions", "Point", "curvature_of", "descend", "shares_of"]

# A column whose mean is this many spreads from 0, over the relative precision, loses digits when
# its shift is folded into the intercept: such columns are standardised in a copy of their own.
_FAR = 1e-5


def shares_of(scores: Array) -> Array:
    """Turn scores (n, k) into shares in place: exponentials that sum to 1 a row."""
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


@dataclass(frozen=True)
class Point:
    """Weights (d, k) of standardised columns and constants (k,), in float64."""

    weights: Array
    constants: Array


def curvature_of(start: Point) -> Array:
    """Return p (1 - p) of the shares of all rows."""
    shares = shares_of(start.constants[None].copy())[0]
    curvature: Array = shares * (1.0 - shares)
    return curvature


class CrossEntropy:
    """Mean cross-entropy of the shares ``softmax(Z W + b)`` to what was seen on some rows.

    `seen` are codes of classes (n,), or shares (n, k) whose rows sum to 1. Z is never formed: the
    standardisation is folded into W and b, and comes back by the chain rule.
    """

    def __init__(self, X: Array, seen: NDArray[Any], weights: Array, scale: Scale) -> None:
        self.X, self.seen, self.scale = X, seen, scale
        self.total = float(weights.sum())
        self.weights = weights / self.total
        far = np.abs(scale.shift * scale.factor) * np.finfo(X.dtype).eps > _FAR
        self.far = np.flatnonzero(far)
        self.apart = (X[:, self.far] - scale.shift[self.far]) * scale.factor[self.far]
        self.factor = scale.factor.astype(np.float64)[:, None]
        self.shift = scale.shift.astype(np.float64)

    def __call__(self, point: Point) -> tuple[float, Point]:
        """Return the mean cross-entropy and its gradient."""
        loss, through, sums = 0.0, np.zeros(point.weights.shape), np.zeros(len(point.constants))
        across = np.zeros((len(self.far), len(sums)))
        for rows, shares, weights, part in self._blocks(point):
            loss += part
            off = self._less_seen(shares, rows)
            factors = weights.astype(off.dtype)
            sums += factors @ off
            off *= factors[:, None]
            through += self.X[rows].T @ off
            across += self.apart[rows].T @ off
        gradient = self.factor * (through - np.outer(self.shift, sums))
        gradient[self.far] = across
        return loss, Point(gradient, sums)

    def judge(self, point: Point) -> tuple[float, Array]:
        """Return the mean cross-entropy and, for each class, the mean of p (1 - p)."""
        loss, spread = 0.0, np.zeros(len(point.constants))
        for _, shares, weights, part in self._blocks(point):
            loss += part
            shares *= 1.0 - shares
            spread += weights @ shares
        return loss, spread

    def _blocks(self, point: Point) -> Any:
        """Yield rows, their shares, their weights, and their part of the mean cross-entropy."""
        dtype = self.X.dtype
        folded = self.factor * point.weights
        folded[self.far] = 0.0
        constants = (point.constants - self.shift @ folded).astype(dtype)
        main, beside = folded.astype(dtype), point.weights[self.far].astype(dtype)
        for rows in blocks(len(self.X), sum(main.shape)):
            scores = self.X[rows] @ main
            scores += constants
            if len(self.far):
                scores += self.apart[rows] @ beside
            scores -= scores.max(axis=1, keepdims=True)
            weights = self.weights[rows]
            own = self._own(scores, rows)
            np.exp(scores, out=scores)
            sums = scores.sum(axis=1, keepdims=True)
            scores /= sums
            loss = float(weights @ (np.log(sums[:, 0]).astype(np.float64) - own))
            yield rows, scores, weights, loss

    def _own(self, scores: Array, rows: slice) -> Array:
        seen = self.seen[rows]
        if seen.ndim == 1:
            own = scores[np.arange(len(seen)), seen]
        else:
            own = np.einsum("nk,nk->n", scores, seen)
        return np.asarray(own, dtype=np.float64)

    def _less_seen(self, shares: Array, rows: slice) -> Array:
        seen = self.seen[rows]
        if seen.ndim == 1:
            shares[np.arange(len(seen)), seen] -= 1.0
        else:
            shares -= seen
        return shares


@dataclass(frozen=True)
class Directions:
    """Principal directions of the standardised columns (d, r) and the variance along each (r,)."""

    vectors: Array
    variance: Array

    @classmethod
    def of(cls, X: Array, weights: Array, scale: Scale, rows: Rows) -> Self:
        """Decompose some rows: Z'Z, or ZZ' if they are no more than the columns."""
        weights = weights[rows] / weights[rows].sum()
        if len(rows) > X.shape[1]:
            nothing = np.empty((len(X), 0))
            everywhere = np.zeros(len(X))
            everywhere[rows] = weights
            zz, *_ = Moments.of(X, nothing, everywhere, scale, rows).centred()
            with one_thread():
                variance, vectors = eigh(zz, driver="evd", overwrite_a=True, check_finite=False)
            return cls(vectors.astype(X.dtype), np.maximum(variance, 0.0))
        block = scale.apply(X[rows]).astype(np.float64)
        block -= weights @ block
        # Every row has its part in the span, whatever its weight.
        kernel = block @ block.T
        with one_thread():
            spectrum, vectors = eigh(kernel, driver="evd", overwrite_a=True, check_finite=False)
        kept = spectrum > spectrum[-1] * len(rows) * np.finfo(np.float64).eps
        spanned = block.T @ (vectors[:, kept] / np.sqrt(spectrum[kept]))
        return cls(spanned.astype(X.dtype), spectrum[kept] / len(rows))


def descend(
    loss: CrossEntropy,
    start: Point,
    penalty: float,
    directions: Directions,
    curvature: Array,
    *,
    tolerance: float,
    max_iter: int,
) -> tuple[Point, int, bool]:
    """Minimise ``loss + penalty / 2 * sum(weights**2)`` from a start.

    L-BFGS in coordinates in which the second derivative is close to the identity: along every
    principal direction and for every class, ``1 / sqrt(curvature * variance + penalty)``, where
    the curvature is a class's mean of p (1 - p).

    Returns
    -------
    (Point, int, bool)
        The minimum, the iterations, and whether the tolerance was reached.
    """
    shape = (len(directions.variance), len(curvature))
    step = 1.0 / np.sqrt(np.outer(directions.variance, curvature) + penalty)
    constant_step = 1.0 / np.sqrt(curvature)
    into = directions.vectors
    cut = shape[0] * shape[1]

    def point(flat: Array) -> tuple[Point, Array]:
        along = flat[:cut].reshape(shape) * step
        return Point(_product(into, along), flat[cut:] * constant_step), along

    def value(flat: Array) -> tuple[float, Array]:
        here, along = point(flat)
        entropy, slope = loss(here)
        back = _product(into.T, slope.weights) + penalty * along
        gradient = np.concatenate([(back * step).ravel(), slope.constants * constant_step])
        return entropy + 0.5 * penalty * float(np.vdot(along, along)), gradient

    first = (_product(into.T, start.weights) / step).ravel()
    # A change of the loss below its rounding says nothing of weights, which are right to the root
    # of that: who asks for so little goes on until no search finds anything lower.
    smallest = 0.0 if tolerance <= np.finfo(np.float64).eps else tolerance
    found = minimize(
        value,
        np.concatenate([first, start.constants / constant_step]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iter, "ftol": smallest, "gtol": 0.0, "maxcor": 10},
    )
    # Status 2 is a line search that found nothing below the rounding of the loss: the minimum.
    return point(found.x)[0], int(found.nit), found.status != 1


def _product(left: Array, right: Array) -> Array:
    return (left @ right.astype(left.dtype)).astype(np.float64)
