"""What the penalised linear models share: scales of columns, sums of products, held-out rows."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from geoembed.errors import OptionError, TargetError

__all__ = [
    "Moments",
    "Scale",
    "affine",
    "blocks",
    "read_penalties",
    "read_weights",
    "splits",
    "standardise_targets",
]

Array = NDArray[np.floating[Any]]
Rows = NDArray[np.intp]

# Values of X that are worked on at a time: 64 MB in float32.
_BLOCK_VALUES = 16_000_000

# Below this number of rows one hold-out is a lottery, and five folds cost little.
FEW_ROWS = 2000


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Cut rows of so many values into blocks of bounded memory."""
    step = max(64, _BLOCK_VALUES // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def affine(X: Array, coef: Array, intercept: Array) -> Array:
    """Return ``X @ coef.T + intercept``, computed in float64 by block, in the type of X.

    Weights of standardised columns folded into `coef` may cancel: float32 would lose digits.
    """
    out = np.empty((len(X), len(coef)), dtype=X.dtype)
    for rows in blocks(len(X), X.shape[1] + len(coef)):
        out[rows] = X[rows].astype(np.float64, copy=False) @ coef.T + intercept
    return out


@dataclass(frozen=True)
class Scale:
    """Shift and factor that standardise columns; a column that does not vary has the factor 0.

    Any shift and factor give the same model once they are folded into the weights; they decide
    only what the penalty means. A column that varies less than `floor` times the median column
    is scaled as if it varied that much.
    """

    shift: Array
    factor: Array

    @classmethod
    def of(cls, X: Array, weights: Array, floor: float) -> Self:
        """Measure the columns of X, in float64 and by block."""
        # About the first row: sums of squares about zero would cancel where means are large.
        origin = X[0].astype(np.float64)
        first, second = np.zeros(X.shape[1]), np.zeros(X.shape[1])
        for rows in blocks(len(X), 2 * X.shape[1]):
            block = X[rows].astype(np.float64)
            block -= origin
            first += weights[rows] @ block
            block *= block
            second += weights[rows] @ block
        mean = first / weights.sum()
        spread = np.sqrt(np.maximum(second / weights.sum() - mean**2, 0.0))
        # What rounding leaves of a constant column.
        varies = spread > 10 * np.finfo(X.dtype).eps * np.abs(mean + origin)
        if varies.any():
            spread = np.maximum(spread, floor * np.median(spread[varies]))
        factor = np.divide(1.0, spread, out=np.zeros_like(spread), where=varies)
        return cls((mean + origin).astype(X.dtype), factor.astype(X.dtype))

    def apply(self, block: Array) -> Array:
        """Return a standardised copy of some rows."""
        scaled: Array = (block - self.shift) * self.factor
        return scaled

    def fold(self, weights: Array, constant: Array) -> tuple[Array, Array]:
        """Turn weights (d, t) of standardised columns into (t, d) of those of X, and intercepts."""
        coef = (weights * self.factor.astype(np.float64)[:, None]).T
        return coef, constant - coef @ self.shift.astype(np.float64)


@dataclass(frozen=True)
class Moments:
    """Weighted sums over rows of standardised columns z and targets y, and of their products.

    They add up: those of all rows less those of a hold-out are those of the rest.
    """

    total: float
    z: Array
    y: Array
    zz: Array
    zy: Array

    @classmethod
    def of(cls, X: Array, Y: Array, weights: Array, scale: Scale, rows: Rows) -> Self:
        """Sum over some rows of X, standardised."""
        return cls.over(lambda at: scale.apply(X[at]), X.shape[1], Y, weights, rows)

    @classmethod
    def over(
        cls, features: Callable[[Rows], Array], d: int, Y: Array, weights: Array, rows: Rows
    ) -> Self:
        """Sum over some rows, whose d features are made by block: products in their type, sums in
        float64.
        """
        t = Y.shape[1]
        z, y = np.zeros(d), np.zeros(t)
        zz, zy = np.zeros((d, d)), np.zeros((d, t))
        for part in blocks(len(rows), 2 * d):
            at = rows[part]
            root = np.sqrt(weights[at])
            block, values = features(at), Y[at] * root[:, None]
            block *= root[:, None].astype(block.dtype)
            z += root.astype(block.dtype) @ block
            y += root @ values
            zz += block.T @ block
            zy += block.T @ values.astype(block.dtype)
        return cls(float(weights[rows].sum()), z, y, zz, zy)

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(
            self.total - other.total,
            self.z - other.z,
            self.y - other.y,
            self.zz - other.zz,
            self.zy - other.zy,
        )

    def centred(self) -> tuple[Array, Array, Array, Array]:
        """Return Z'Z and Z'Y about the means, and the means of z and y."""
        z, y = self.z / self.total, self.y / self.total
        return self.zz - np.outer(self.z, z), self.zy - np.outer(self.z, y), z, y


def standardise_targets(y: ArrayLike, weights: Array) -> tuple[Array, Array, Array]:
    """Return targets (n, t) in float64 about their means in units of their spread, and both.

    On one scale float32 products keep their digits, and one penalty suits all targets.
    """
    Y = np.asarray(y, dtype=np.float64).reshape(len(weights), -1)
    mean = np.average(Y, axis=0, weights=weights)
    spread = np.sqrt(np.average((Y - mean) ** 2, axis=0, weights=weights))
    spread[spread == 0] = 1.0
    return (Y - mean) / spread, mean, spread


def read_penalties(alphas: Any) -> NDArray[np.float64] | None:
    """Read ``alphas=``: None for "auto", else positive numbers in falling order.

    Raises
    ------
    OptionError
        If it is anything else.
    """
    if isinstance(alphas, str) and alphas == "auto":
        return None
    try:
        grid = np.unique(np.asarray(alphas, dtype=np.float64))[::-1]
    except (TypeError, ValueError):
        grid = np.empty(0)
    if not len(grid) or not (np.isfinite(grid).all() and (grid > 0).all()):
        raise OptionError(
            f"alphas={alphas!r} is neither 'auto' nor one or more positive numbers. "
            "For next to no penalty give a small one, such as 1e-8."
        )
    return grid


def read_weights(sample_weight: ArrayLike | None, rows: int) -> NDArray[np.float64]:
    """Read weights of rows: ones if there are none.

    Raises
    ------
    OptionError
        If their number differs from `rows`, if one is negative or not finite, or all are 0.
    """
    if sample_weight is None:
        return np.ones(rows)
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.ndim == 0:
        weights = np.full(rows, float(weights))
    if weights.shape != (rows,):
        raise OptionError(f"sample_weight must have the shape ({rows},), got {weights.shape}.")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise OptionError("sample_weight must be finite, not negative, and not zero everywhere.")
    return weights


def splits(
    validation: Any,
    X: Array,
    y: NDArray[Any],
    codes: Rows | None,
    weights: Array,
    random_state: Any,
) -> list[tuple[Rows, Rows]]:
    """Return pairs of rows to learn from and rows to score, for a parameter ``validation=``.

    Parameters
    ----------
    validation : "auto", float, int, array of bool, splitter or iterable of pairs
        See `PathRidge`.
    X, y : array
        Handed to a splitter.
    codes : array of int, shape (n,), or None
        Classes to share out evenly; one of a single row is never held out.
    weights : array of shape (n,)
        Weights of the rows; those of weight 0 are left out.
    random_state : int, RandomState or None
        Decides which rows are held out.

    Raises
    ------
    OptionError
        If `validation` is none of these, or does not fit the number of rows.
    TargetError
        If there are fewer rows than folds.
    """
    pairs = list(_pairs(validation, X, y, codes, random_state))
    counted = [(train[weights[train] > 0], test[weights[test] > 0]) for train, test in pairs]
    if not counted or any(not len(train) or not len(test) for train, test in counted):
        raise OptionError(
            f"validation={validation!r} leaves no rows to learn from, or none to score, of the "
            f"{len(X)} rows. Give alphas= one number if nothing is to be chosen."
        )
    return counted


def _pairs(
    validation: Any, X: Array, y: NDArray[Any], codes: Rows | None, random_state: Any
) -> Iterable[tuple[Rows, Rows]]:
    n = len(X)
    if isinstance(validation, str) and validation == "auto":
        validation = min(5, n) if n < FEW_ROWS else 0.1
    if isinstance(validation, int | np.integer) and not isinstance(validation, bool):
        return _folds(int(validation), n, codes, random_state)
    if isinstance(validation, float | np.floating) and 0.0 < float(validation) < 1.0:
        return [_apart(_share(float(validation), n, codes, random_state))]
    if hasattr(validation, "split") and not isinstance(validation, str):
        return list(validation.split(X, y))
    if getattr(validation, "dtype", None) == np.bool_ and np.ndim(validation) == 1:
        if len(validation) != n:
            raise OptionError(f"validation= marks {len(validation):,} rows, but X has {n:,}.")
        return [_apart(np.asarray(validation))]
    try:
        return [(_positions(train), _positions(test)) for train, test in validation]
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"validation={validation!r} is not one of: 'auto', a share between 0 and 1, a number "
            "of folds, a mask of the rows to hold out, a splitter, pairs of row numbers."
        ) from error


def _positions(rows: ArrayLike) -> Rows:
    positions = np.asarray(rows)
    if positions.ndim != 1 or not np.issubdtype(positions.dtype, np.integer):
        raise TypeError("not row numbers")
    return positions


def _apart(held: NDArray[np.bool_]) -> tuple[Rows, Rows]:
    return np.flatnonzero(~held), np.flatnonzero(held)


def drawn(rows: Rows, most: int, codes: Rows | None, random: np.random.RandomState) -> Rows:
    """Draw about `most` of some rows, each class by its share but one row at least, if more."""
    if len(rows) <= most:
        return rows
    _, codes = np.unique(np.zeros(len(rows)) if codes is None else codes[rows], return_inverse=True)
    order, rank, size, label = _by_class(len(rows), codes, random)
    start = random.uniform(size=label.max() + 1)[label]
    taken = (rank == 0) | (rank + start < size * most / len(rows))
    return np.sort(rows[order[taken]])


def _share(share: float, n: int, codes: Rows | None, random_state: Any) -> NDArray[np.bool_]:
    """Hold out a share of each class; one row at least of every class stays."""
    random = check_random_state(random_state)
    order, rank, size, label = _by_class(n, codes, random)
    # A random start a class: rare classes are held out as often as others, on average.
    start = random.uniform(size=label.max() + 1)[label]
    held = np.empty(n, dtype=np.bool_)
    held[order] = ((rank + start) < share * size) & (rank < size - 1)
    return held


def _folds(folds: int, n: int, codes: Rows | None, random_state: Any) -> list[tuple[Rows, Rows]]:
    if folds < 2:
        raise OptionError(f"validation={folds} is no number of folds: give 2 or more.")
    if folds > n:
        raise TargetError(f"validation={folds} asks for more folds than there are rows ({n}).")
    order, _, size, _ = _by_class(n, codes, check_random_state(random_state))
    # Dealt out in turn, class by class. Only a row alone in its class is never held out.
    part = np.empty(n, dtype=np.intp)
    part[order] = np.where(size > 1, np.arange(n) % folds, -1)
    return [_apart(part == fold) for fold in range(folds) if (part == fold).any()]


def _by_class(
    n: int, codes: Rows | None, random: np.random.RandomState
) -> tuple[Rows, Rows, Rows, Rows]:
    """Return rows in random order within classes; rank within, size and code of their class."""
    order = random.permutation(n)
    codes = np.zeros(n, dtype=np.intp) if codes is None else codes
    order = order[np.argsort(codes[order], kind="stable")]
    counts = np.bincount(codes)
    starts = np.cumsum(counts) - counts
    return order, np.arange(n) - np.repeat(starts, counts), np.repeat(counts, counts), codes[order]
