"""Folds and linear probes that `choose_layers.py` and `landcover_table.py` share."""

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Array = NDArray[np.floating]
Rows = NDArray[np.intp]
Alphas = tuple[float, ...]

RANGE_ALPHAS = (0.1, 1.0, 10.0)
# Columns of the land-cover table.
COVER = (
    "broadleaf_tree",
    "needleleaf_tree",
    "c3_grass",
    "c4_grass",
    "shrub",
    "urban",
    "inland_water",
    "bare_soil",
    "land_ice",
)


def r2(seen: Array, predicted: Array) -> Array:
    """Return R2 of every column."""
    left = ((seen - predicted) ** 2).sum(axis=0)
    return 1.0 - left / ((seen - seen.mean(axis=0)) ** 2).sum(axis=0)


def random_split(count: int, seed: int) -> tuple[Rows, Rows]:
    """Return training and test rows exactly as RANGE draws them."""
    generator = torch.Generator().manual_seed(seed)
    train, test = torch.utils.data.random_split(range(count), [0.8, 0.2], generator=generator)
    return np.array(train.indices), np.array(test.indices)


def random_folds(lonlat: Array, folds: int, seed: int) -> Rows:
    """Return the fold of every row, drawn row by row."""
    return np.random.default_rng(seed).permutation(len(lonlat)) % folds


def block_folds(lonlat: Array, folds: int, seed: int, degrees: float = 10.0) -> Rows:
    """Return the fold of every row: whole blocks, shuffled, the fullest dealt out first."""
    cells = np.floor((lonlat + np.array([180.0, 90.0])) / degrees).astype(int)
    _, block, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(counts))
    fold, filled = np.empty(len(counts), dtype=int), np.zeros(folds, dtype=int)
    for one in order[np.argsort(-counts[order], kind="stable")]:
        fold[one] = filled.argmin()
        filled[fold[one]] += counts[one]
    return fold[block.ravel()]


class Moments:
    """Counts, sums and products of rows: what ridge regression needs, added and taken away."""

    def __init__(self, *parts: Array) -> None:
        self.parts = parts

    @classmethod
    def of(cls, Z: Array, Y: Array, counts: Array | None = None) -> Self:
        """Sum rows; with `counts`, each stands for so many rows and its Y is their sum."""
        if counts is None:
            return cls(np.float64(len(Z)), Z.sum(axis=0), Y.sum(axis=0), Z.T @ Z, Z.T @ Y)
        root = Z * np.sqrt(counts)[:, None]
        return cls(counts.sum(), counts @ Z, Y.sum(axis=0), root.T @ root, Z.T @ Y)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(*(a + b for a, b in zip(self.parts, other.parts, strict=True)))

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(*(a - b for a, b in zip(self.parts, other.parts, strict=True)))

    def ridge(self, alphas: Alphas) -> list[tuple[Array, Array]]:
        """Return weights (d, t) and constants (t,) for every penalty; the intercept is free."""
        n, z, y, zz, zy = self.parts
        centred, right = zz - np.outer(z, z / n), zy - np.outer(z, y / n)
        weights = [_solve(centred, right, alpha) for alpha in alphas]
        return [(w, (y - z @ w) / n) for w in weights]


def kernel_ridge(K: Array, across: Array, Y: Array, alphas: Alphas) -> list[Array]:
    """Return predictions (m, t) for every penalty from products of rows.

    `K` (n, n) are those of the training rows, `across` (m, n) those of the rows to predict with
    them. For fewer rows than columns; the intercept is free.
    """
    mean, centre = K.mean(axis=0), Y.mean(axis=0)
    across = across - across.mean(axis=1, keepdims=True) - mean + mean.mean()
    K = K - mean - mean[:, None] + mean.mean()
    return [across @ _solve(K, Y - centre, alpha) + centre for alpha in alphas]


def _solve(matrix: Array, right: Array, alpha: float) -> Array:
    penalised = matrix.copy()
    penalised.flat[:: len(matrix) + 1] += alpha
    factor = cho_factor(penalised, lower=True, overwrite_a=True, check_finite=False)
    return cho_solve(factor, right, check_finite=False)


def range_v1(
    vectors: Array, place: Rows, y: Array, train: Rows, test: Rows
) -> tuple[float, float, float]:
    """Return test R2, penalty and cross-validated R2 of ``RidgeCV(alphas=(0.1, 1, 10), cv=3)``.

    Those of scikit-learn after ``MinMaxScaler``, both in float64, to six digits; but a place
    that has several rows is multiplied once, and each third of the training rows is summed once.
    `vectors` (p, d) has a row a place, and `place` (n,) says which belongs to a row of `y`.
    """
    seen = np.unique(place[train])
    Z = vectors - vectors[seen].min(axis=0)
    top = Z[seen].max(axis=0)
    Z = Z[:, top > 0] / top[top > 0]
    Z -= Z[seen].mean(axis=0)  # keeps digits; the intercept is free
    fit = (_ByRows if len(train) <= Z.shape[1] else _ByColumns)(Z, place, y, train)
    scores = np.zeros(len(RANGE_ALPHAS))
    for held in range(3):
        rows, predicted = fit(held, RANGE_ALPHAS, test)
        scores += [_r2(y[rows], one) / 3 for one in predicted]
    best = int(scores.argmax())
    rows, predicted = fit(None, (RANGE_ALPHAS[best],), test)
    return _r2(y[rows], predicted[0]), RANGE_ALPHAS[best], float(scores[best])


def _r2(seen: Array, predicted: Array) -> float:
    return float(r2(seen[:, None], predicted[:, None])[0])


class _ByColumns:
    """Fit without a third of the training rows and predict it, or fit all and predict the test."""

    def __init__(self, Z: Array, place: Rows, y: Array, train: Rows) -> None:
        self.Z, self.place, self.thirds = Z, place, np.array_split(train, 3)
        self.moments = []
        for rows in self.thirds:
            counts = np.bincount(place[rows], minlength=len(Z))
            sums = np.bincount(place[rows], weights=y[rows], minlength=len(Z))
            here = np.flatnonzero(counts)
            self.moments.append(Moments.of(Z[here], sums[here, None], counts[here].astype(float)))
        self.all = self.moments[0] + self.moments[1] + self.moments[2]

    def __call__(self, held: int | None, alphas: Alphas, test: Rows) -> tuple[Rows, list[Array]]:
        rows = test if held is None else self.thirds[held]
        moments = self.all if held is None else self.all - self.moments[held]
        fits = moments.ridge(alphas)
        return rows, [(self.Z @ w + c)[self.place[rows], 0] for w, c in fits]


class _ByRows:
    """The same where there are fewer rows than columns."""

    def __init__(self, Z: Array, place: Rows, y: Array, train: Rows) -> None:
        self.rows, self.y, self.train = Z[place], y, train
        self.kernel = self.rows[train] @ self.rows[train].T
        self.thirds = np.array_split(np.arange(len(train)), 3)

    def __call__(self, held: int | None, alphas: Alphas, test: Rows) -> tuple[Rows, list[Array]]:
        y = self.y[self.train, None]
        if held is None:
            across = self.rows[test] @ self.rows[self.train].T
            return test, [p[:, 0] for p in kernel_ridge(self.kernel, across, y, alphas)]
        ask = self.thirds[held]
        learn = np.setdiff1d(np.arange(len(self.train)), ask)
        K, across = self.kernel[np.ix_(learn, learn)], self.kernel[np.ix_(ask, learn)]
        return self.train[ask], [p[:, 0] for p in kernel_ridge(K, across, y[learn], alphas)]
