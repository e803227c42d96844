"""Regression by an exponential kernel: near vectors count more, however the field bends."""

from typing import Any, Final, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from geoembed.heads.models.kernel_space import (
    KernelSpace,
    check_kernel_parameters,
    exponential_kernel,
    kernel_between,
)
from geoembed.heads.models.paths import (
    Array,
    Moments,
    Rows,
    blocks,
    read_penalties,
    read_weights,
    splits,
    standardise_targets,
)

__all__ = ["PathKernel"]

# The path: from the middle to both sides by half decades, as long as it helps. Weaker penalties
# than the last would lean on differences of vectors that float32 does not hold.
_START: Final = 0.1
_STEP: Final = 10.0**-0.5
_LIMITS: Final = (1e-3, 1e3)
# A weaker penalty must gain this share: it is the riskier one.
_GAIN: Final = 1e-3


class PathKernel(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Kernel ridge regression; the penalty is chosen on rows held out.

    Minimises ``sum(w * (y - f(x) - c)**2) + alpha * |f|**2`` over the functions f of the kernel
    ``exp(-|x - x'| / length)`` with a free constant c: what geostatistics calls ordinary kriging
    with a nugget of ``alpha / w``, here by distances between vectors. It bends where the data
    bend and leans on near rows, which a linear model cannot.

    Parameters
    ----------
    alphas : "auto", float or array of float
        Penalties to choose from; one is taken as it is. ``"auto"``: two a decade from 0.1, in the
        direction that helps.
    validation : "auto", float, int, array of bool, splitter or iterable of pairs
        Rows to choose the penalty on, as for `PathRidge`.
    length : float
        Length of the kernel, as a multiple of the median distance between two rows.
    components : int or None
        Wider vectors are projected onto so many principal directions first, which saves time in
        every prediction; None never does. Fewer rows than that are left as they are.
    exact_rows : int
        Up to so many rows f is made of all of them. Their matrix is factorised: memory grows with
        the square of their number, time with the cube.
    landmarks : int
        Of how many rows, drawn at random, f is made if there are more than `exact_rows`; all rows
        still have a say in it.
    random_state : int, RandomState or None
        Decides which rows are held out and drawn.

    Attributes
    ----------
    support_ : array of shape (m, r)
        The rows that f is made of, about the mean, projected.
    dual_coef_ : array of shape (m,) or (m, t), float64
        Their weights.
    intercept_ : float or array of shape (t,), float64
        The constant c.
    alpha_ : float
        Chosen penalty, one for all targets.
    space_ : KernelSpace
        Mean of the rows, their principal directions, and the length of the kernel in units of X.
    path_ : dict
        ``"alphas"`` of shape (p,), falling, and ``"mse"`` of shape (p, t): the mean squared error
        on the rows held out. Both are empty if nothing was to be chosen.
    n_features_in_ : int
        Columns of X.

    See Also
    --------
    PathRidge : The linear model: faster from ten thousand rows on.

    Notes
    -----
    Columns keep their units: those of an embedding share one. Bring others to a spread near 1
    first.

    With landmarks the penalty is that of the same f, so that it means the same in both forms
    (Williams and Seeger: Using the Nystroem method to speed up kernel machines. NIPS 2000). The
    kernel is rough, as fields on the Earth are, and no few landmarks stand for all rows: where n
    allows, all rows are better.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(size=(500, 2))
    >>> ring = np.hypot(X[:, 0] - 0.5, X[:, 1] - 0.5)
    >>> model = PathKernel().fit(X, ring)
    >>> model.predict([[0.5, 0.5], [0.5, 0.9]]).round(1).tolist()
    [0.0, 0.4]
    """

    def __init__(
        self,
        alphas: Any = "auto",
        *,
        validation: Any = "auto",
        length: float = 1.0,
        components: int | None = 512,
        exact_rows: int = 10_000,
        landmarks: int = 3_000,
        random_state: Any = 0,
    ) -> None:
        self.alphas = alphas
        self.validation = validation
        self.length = length
        self.components = components
        self.exact_rows = exact_rows
        self.landmarks = landmarks
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Choose the penalty and fit all rows.

        Parameters
        ----------
        X : array of shape (n, d)
            Features; float32 stays float32.
        y : array of shape (n,) or (n, t)
            Numbers to predict.
        sample_weight : array of shape (n,), optional
            Weights of the rows, also of those held out.

        Returns
        -------
        PathKernel
            Itself.

        Raises
        ------
        OptionError
            If a parameter or the weights do not fit.
        TargetError
            If there are fewer rows than folds.
        ValueError
            If X or y hold NaN or infinities, or fewer than two rows.
        """
        X, y = validate_data(
            self,
            X,
            y,
            dtype=[np.float64, np.float32],
            multi_output=True,
            y_numeric=True,
            ensure_min_samples=2,
        )
        check_kernel_parameters(
            self.length,
            components=self.components,
            exact_rows=self.exact_rows,
            landmarks=self.landmarks,
        )
        grid = read_penalties(self.alphas)
        weights = read_weights(sample_weight, len(X))
        random = check_random_state(self.random_state)
        Y, mean, spread = standardise_targets(y, weights)

        counted = np.flatnonzero(weights > 0)
        space = KernelSpace.of(X, counted, self.components, self.length, random)
        V = space.project(X)
        form: _Form
        if len(counted) <= self.exact_rows:
            form = _Exact(V, Y, weights, space.length, counted)
        else:
            form = _Landmarks(
                V, Y, weights, space.length, random.permutation(counted), self.landmarks
            )
        path: dict[float, Array] = {}
        if grid is not None and len(grid) == 1:
            self.alpha_ = float(grid[0])
        else:
            pairs = splits(self.validation, X, y, None, weights, random)
            self.alpha_ = _walk(form, pairs, grid, path)
        self.support_, coef, constant = form.solution(self.alpha_)
        self.space_ = space

        single = np.ndim(y) == 1
        coef, constant = coef * spread, constant * spread + mean
        self.dual_coef_ = coef[:, 0] if single else coef
        self.intercept_ = float(constant[0]) if single else constant
        alphas = np.array(sorted(path, reverse=True))
        errors = np.array([path[alpha] for alpha in alphas]).reshape(len(alphas), Y.shape[1])
        self.path_ = {"alphas": alphas, "mse": errors * spread**2}
        return self

    def predict(self, X: Any) -> Array:
        """Predict the targets.

        Parameters
        ----------
        X : array of shape (n, d)
            Features.

        Returns
        -------
        array of shape (n,) or (n, t)
            In the type of X.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        coef = np.asarray(self.dual_coef_).reshape(len(self.support_), -1)
        out = self.space_.sums(X, self.support_.astype(X.dtype, copy=False), coef)
        out += np.atleast_1d(self.intercept_).astype(X.dtype)
        return out[:, 0] if np.ndim(self.dual_coef_) == 1 else out

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _walk(
    form: "_Form",
    pairs: list[tuple[Rows, Rows]],
    grid: NDArray[np.float64] | None,
    path: dict[float, Array],
) -> float:
    """Fill the path with errors on the rows held out, and return the best penalty."""
    prepared = [form.prepare(learned, held) for learned, held in pairs]
    total = sum(float(form.weights[held].sum()) for _, held in pairs)

    def judge(alpha: float) -> float:
        sums = sum((form.errors(split, alpha) for split in prepared), np.zeros(form.Y.shape[1]))
        path[alpha] = sums / total
        return float(path[alpha].mean())

    if grid is not None:
        return min(map(float, grid), key=judge)
    best, least = _START, judge(_START)
    for step, gain in ((_STEP, _GAIN), (1 / _STEP, 0.0)):
        alpha = best * step
        while _LIMITS[0] * 0.99 <= alpha <= _LIMITS[1]:
            error = judge(alpha)
            if not error < least * (1.0 - gain):
                break
            best, least = alpha, error
            alpha *= step
        if best != _START:
            break
    return best


class _Form(Protocol):
    """One of the two ways to the same f: made of all rows, or of landmarks."""

    Y: Array
    weights: Array

    def prepare(self, learned: Rows, held: Rows) -> Any:
        """Do what serves every penalty of a split."""

    def errors(self, split: Any, alpha: float) -> Array:
        """Return the weighted sum of squared errors on the rows held out, for every target."""

    def solution(self, alpha: float) -> tuple[Array, Array, Array]:
        """Return support, its weights (m, t) and the constants (t,), learned from all rows."""


class _Exact:
    """A weight for every row, from the factor of their kernel matrix."""

    def __init__(self, V: Array, Y: Array, weights: Array, length: float, counted: Rows) -> None:
        self.V, self.Y, self.weights, self.counted = V, Y, weights, counted
        self.kernel = np.empty((len(V), len(V)), dtype=V.dtype)
        # In float64: the same place twice must be at a distance of nothing.
        wide = V.astype(np.float64, copy=False)
        for rows in blocks(len(V), 2 * len(V)):
            self.kernel[rows] = exponential_kernel(wide[rows], wide, length)
        np.fill_diagonal(self.kernel, 1.0)

    def prepare(self, learned: Rows, held: Rows) -> tuple[Rows, Rows]:
        return learned, held

    def errors(self, split: tuple[Rows, Rows], alpha: float) -> Array:
        learned, held = split
        try:
            coef, constant = self._solve(learned, alpha)
        except LinAlgError:
            return np.full(self.Y.shape[1], np.inf)
        off = self.kernel[np.ix_(held, learned)] @ coef + constant - self.Y[held]
        return np.asarray(self.weights[held] @ off**2)

    def solution(self, alpha: float) -> tuple[Array, Array, Array]:
        while True:
            try:
                return self.V[self.counted], *self._solve(self.counted, alpha)
            except LinAlgError:  # a penalty given by hand, too weak for rounding
                alpha *= 10.0

    def _solve(self, at: Rows, alpha: float) -> tuple[Array, Array]:
        # Fortran order, so that the factor takes the matrix's own memory.
        matrix = np.asfortranarray(self.kernel[np.ix_(at, at)], dtype=np.float64)
        matrix[np.diag_indices(len(at))] += alpha / self.weights[at]
        factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        right = np.column_stack([self.Y[at], np.ones(len(at))])
        solved = cho_solve(factor, right, overwrite_b=True, check_finite=False)
        ones = solved[:, -1]
        # The constant that leaves weights of sum zero: that of generalised least squares.
        constant = solved[:, :-1].sum(axis=0) / ones.sum()
        return solved[:, :-1] - ones[:, None] * constant, constant


class _Landmarks:
    """Weights for some rows, from sums over all."""

    def __init__(
        self, V: Array, Y: Array, weights: Array, length: float, order: Rows, landmarks: int
    ) -> None:
        self.V, self.Y, self.weights, self.length = V, Y, weights, length
        self.support = V[order[:landmarks]]
        self.between = kernel_between(self.support, self.length)
        self.all = self._moments(order)

    def prepare(self, learned: Rows, held: Rows) -> tuple[Moments, Rows]:
        rest = np.ones(len(self.V), dtype=np.bool_)
        rest[learned] = False
        return self.all - self._moments(np.flatnonzero(rest & (self.weights > 0))), held

    def errors(self, split: tuple[Moments, Rows], alpha: float) -> Array:
        moments, held = split
        coef, constant = self._solve(moments, alpha)
        sums = np.zeros(self.Y.shape[1])
        for part in blocks(len(held), 2 * len(self.support)):
            at = held[part]
            off = self._rows(at) @ coef + constant - self.Y[at]
            sums += self.weights[at] @ off**2
        return sums

    def solution(self, alpha: float) -> tuple[Array, Array, Array]:
        return self.support, *self._solve(self.all, alpha)

    def _rows(self, at: Rows) -> Array:
        return exponential_kernel(self.V[at], self.support, self.length)

    def _moments(self, at: Rows) -> Moments:
        return Moments.over(self._rows, len(self.support), self.Y, self.weights, at)

    def _solve(self, moments: Moments, alpha: float) -> tuple[Array, Array]:
        zz, zy, z, y = moments.centred()
        factor = cho_factor(zz + alpha * self.between, overwrite_a=True, check_finite=False)
        coef = np.asarray(cho_solve(factor, zy, check_finite=False))
        return coef, y - z @ coef
