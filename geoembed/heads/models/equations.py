"""The two forms of ridge regression's equations: by columns, or by rows where those are fewer."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

from geoembed.heads.models.paths import Array, Moments, Rows, Scale, blocks
from geoembed.heads.models.threads import in_parallel, one_thread

__all__ = ["Dual", "Primal", "equations_of"]

_EPS: Final = np.finfo(np.float64).eps


def equations_of(X: Array, Y: Array, weights: Array, scale: Scale) -> "Primal | Dual":
    """Choose the form whose matrix is the smaller one."""
    return (Dual if len(X) <= X.shape[1] else Primal)(X, Y, weights, scale)


class Primal:
    """More rows than columns: everything from Z'Z and Z'Y.

    Parameters
    ----------
    X : array of shape (n, d)
        Features.
    Y : array of shape (n, t), float64
        Targets, of about one scale.
    weights : array of shape (n,)
        Of the rows.
    scale : Scale
        Standardises the columns.
    """

    def __init__(self, X: Array, Y: Array, weights: Array, scale: Scale) -> None:
        self.X, self.Y, self.weights, self.scale = X, Y, weights, scale
        self.all = self._moments(np.arange(len(X)))
        self.splits: list[_Split] = []

    def hold_out(self, pairs: list[tuple[Rows, Rows]]) -> None:
        """Prepare `errors` on the second rows of every pair, learned from the first."""
        self.splits = []
        for learned, held in pairs:
            rest = np.ones(len(self.X), dtype=np.bool_)
            rest[held] = False
            if np.array_equal(np.flatnonzero(rest & (self.weights > 0)), np.sort(learned)):
                moments = self.all - self._moments(held)
            else:  # rows between the two are left out, as splitters with a buffer do
                moments = self._moments(learned)
            self.splits.append(_Split(moments, held))

    def errors(self, alphas: Array) -> Array:
        """Return mean squared errors of penalties over all rows held out, shape (p, t)."""
        sums = np.zeros((len(alphas), self.Y.shape[1]))
        total = 0.0
        for split in self.splits:
            # (d, p, t): the solution of every penalty and target in the basis of eigenvectors.
            shrunk = split.loads[:, None] / (split.spectrum[:, None] + alphas)[:, :, None]
            solutions = (split.basis @ shrunk.reshape(len(shrunk), -1)).astype(self.X.dtype)
            for part in blocks(len(split.held), sum(solutions.shape)):
                at = split.held[part]
                block = self.scale.apply(self.X[at])
                block -= split.z.astype(block.dtype)
                off = (block @ solutions).reshape(len(at), len(alphas), -1)
                off = off - (self.Y[at] - split.y)[:, None]
                sums += np.einsum("n,npt,npt->pt", self.weights[at], off, off)
            total += self.weights[split.held].sum()
        return sums / total

    def solve(self, alphas: Array) -> tuple[Array, Array]:
        """Return weights (d, t) of standardised columns and constants, a penalty a target."""
        zz, zy, z, y = self.all.centred()
        solution = np.empty_like(zy)
        for alpha in np.unique(alphas):
            ours = alphas == alpha
            penalised = zz.copy()
            penalised.flat[:: len(zz) + 1] += alpha
            with one_thread():
                solution[:, ours] = _solve(penalised, zy[:, ours])
        return solution, y - z @ solution

    def _moments(self, at: Rows) -> Moments:
        return Moments.of(self.X, self.Y, self.weights, self.scale, at)


class _Split:
    """One split, decomposed: eigenvalues, eigenvectors, loads of the targets on them, means."""

    def __init__(self, moments: Moments, held: Rows) -> None:
        zz, zy, self.z, self.y = moments.centred()
        with one_thread():
            spectrum, self.basis = eigh(zz, driver="evd", overwrite_a=True, check_finite=False)
        self.spectrum = np.maximum(spectrum, 0.0)
        self.loads = self.basis.T @ zy
        self.held = held


class Dual:
    """No more rows than columns: everything from ZZ', decomposed once for all splits.

    What a model that has not seen some rows is off on them follows from the model of all rows.
    With R = V diag(alpha / (s + alpha)) V', which takes targets to their residuals, the residuals
    of rows T left out of the fit are ``inverse(R[T, T]) @ (R @ y)[T]``: the formula of one row
    left out (Allen: The relationship between variable selection and data augmentation and a
    method for prediction. Technometrics 16, 1974), for several.

    Parameters
    ----------
    X, Y, weights, scale
        As for `Primal`.
    """

    def __init__(self, X: Array, Y: Array, weights: Array, scale: Scale) -> None:
        self.X, self.weights, self.scale = X, weights, scale
        n = len(X)
        kernel = np.zeros((n, n))
        for columns in blocks(X.shape[1], 2 * n):
            block = (X[:, columns] - scale.shift[columns]) * scale.factor[columns]
            kernel += block @ block.T
        # About the weighted mean, and by the roots of the weights: rows of Z as least squares
        # counts them.
        self.share, self.root = weights / weights.sum(), np.sqrt(weights)
        to_mean = kernel @ self.share
        kernel += self.share @ to_mean
        kernel -= to_mean
        kernel -= to_mean[:, None]
        kernel *= self.root
        kernel *= self.root[:, None]
        self.y = self.share @ Y
        self.off = (Y - self.y) * self.root[:, None]
        # The intercept takes the direction of the roots of the weights, of eigenvalue 0, in which
        # nothing is penalised. Made the largest by far, it is the last.
        free = np.sqrt(self.share)
        kernel += (1.0 + np.trace(kernel)) * free * free[:, None]
        with one_thread():
            spectrum, basis = eigh(kernel, driver="evd", overwrite_a=True, check_finite=False)
        self.spectrum, self.basis = np.maximum(spectrum[:-1], 0.0), basis[:, :-1]
        self.loads = self.basis.T @ self.off
        self.left_out: list[tuple[Rows, NDArray[np.bool_]]] = []

    def hold_out(self, pairs: list[tuple[Rows, Rows]]) -> None:
        """Prepare `errors` on the second rows of every pair, learned from the first."""
        self.left_out = []
        for learned, held in pairs:
            rest = np.ones(len(self.X), dtype=np.bool_)
            rest[learned] = False
            # Rows that are neither learned from nor scored are left out as well.
            out = np.flatnonzero(rest)
            self.left_out.append((out, np.isin(out, held)))

    def errors(self, alphas: Array) -> Array:
        """Return mean squared errors of penalties over all rows held out, shape (p, t)."""
        sums = np.zeros((len(alphas), self.off.shape[1]))
        total = 0.0
        for out, scored in self.left_out:
            rows = self.basis[out]

            def squares(
                alpha: float, rows: Array = rows, scored: NDArray[np.bool_] = scored
            ) -> Array:
                kept = alpha / (self.spectrum + alpha)
                halves = rows * np.sqrt(kept)
                off = _solve(halves @ halves.T, rows @ (kept[:, None] * self.loads))
                return np.asarray((off[scored] ** 2).sum(axis=0))

            sums += in_parallel(squares, alphas)
            total += self.weights[out[scored]].sum()
        return sums / total

    def solve(self, alphas: Array) -> tuple[Array, Array]:
        """Return weights (d, t) of standardised columns and constants, a penalty a target."""
        dual = self.basis @ (self.loads / (self.spectrum[:, None] + alphas))
        dual *= self.root[:, None]
        solution = np.zeros((self.X.shape[1], dual.shape[1]))
        mean = np.zeros(self.X.shape[1])
        for part in blocks(len(self.X), 2 * self.X.shape[1]):
            block = self.scale.apply(self.X[part]).astype(np.float64)
            solution += block.T @ dual[part]
            mean += self.share[part] @ block
        solution -= mean[:, None] * dual.sum(axis=0)
        return solution, self.y - mean @ solution


def _solve(matrix: Array, right: Array) -> Array:
    """Solve a symmetric system that may be positive definite only but for rounding."""
    try:
        factor = cho_factor(matrix, check_finite=False)
    except LinAlgError:
        spectrum, vectors = eigh(matrix, check_finite=False)
        kept = spectrum > spectrum[-1] * len(matrix) * _EPS
        vectors = vectors[:, kept]
        solved: Array = vectors @ ((vectors.T @ right) / spectrum[kept, None])
        return solved
    return np.asarray(cho_solve(factor, right, check_finite=False))
