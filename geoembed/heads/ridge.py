"""Ridge regression whose penalty is chosen along a path: the default model of numbers."""

from itertools import count
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from geoembed.heads.paths import (
    Array,
    Moments,
    Rows,
    Scale,
    affine,
    blocks,
    read_penalties,
    read_weights,
    splits,
)

__all__ = ["PathRidge"]

# Penalties over the sum of weights, which is the mean eigenvalue of Z'Z: steps of a quarter
# decade, a decade more at an end that turns out best, and where that stops.
_STEP: Final = 10.0**-0.25
_FIRST, _LAST = 10.0, 1e-6
_LIMITS: Final = {"float32": (1e-8, 1e5), "float64": (1e-12, 1e5)}


class PathRidge(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge regression; the penalty of each target is chosen on rows held out.

    Minimises ``sum(w * (y - Z @ b - c)**2) + alpha * sum(b**2)`` for every target, where Z are
    the standardised columns of X and the intercept c is free. The squared error on the rows held
    out is computed along a whole path of penalties from one eigendecomposition; the best is
    fitted to all rows. Neither X nor a scaled copy of it is ever held in float64.

    Parameters
    ----------
    alphas : "auto", float or array of float
        Penalties to choose from; one is taken as it is. ``"auto"``: four a decade, from 1e-6 to 10
        times the sum of weights, and further where the best lies at an end.
    validation : "auto", float, int, array of bool, splitter or iterable of pairs
        Rows to choose the penalty on: a share of the rows, a number of folds, a mask of shape (n,)
        that is True for the rows to hold out, or anything with ``split(X, y)``, such as a splitter
        in space, or its pairs of row numbers. ``"auto"``: five folds below 2,000 rows, where one
        hold-out is a lottery, else a tenth of the rows.
    per_target : bool
        Choose a penalty for each target; otherwise one for all, by the mean error relative to each
        target's variance.
    scale_floor : float
        A column that varies less than this share of the median column is scaled as if it varied
        that much; 0 standardises every column exactly. See Notes.
    random_state : int, RandomState or None
        Decides which rows are held out.

    Attributes
    ----------
    coef_ : array of shape (d,) or (t, d), float64
        Weights of the columns of X as they are.
    intercept_ : float or array of shape (t,), float64
        Constants.
    alpha_ : float or array of shape (t,)
        Chosen penalties, in the terms of `sklearn.linear_model.Ridge` on standardised columns.
    path_ : dict
        ``"alphas"`` of shape (p,), and ``"mse"`` of shape (p, t): the mean squared error on the
        rows held out. Both are empty if nothing was to be chosen.
    n_features_in_ : int
        Columns of X.

    See Also
    --------
    PathSoftmax : The same for classes and for shares of classes.

    Notes
    -----
    From n rows on d columns, the d x d matrix Z'Z is summed over blocks, n d^2 multiplications,
    and decomposed once a split; with fewer rows than columns the n x n matrix ZZ' takes its
    place. The same penalty serves the split and all rows: for weights of a given variance the
    best one does not depend on n.

    The floor of the scale is for embeddings, whose columns share a unit. Units of a network that
    are all but silent on the training rows would be blown up by standardising and ruin the
    prediction of any place that wakes them: on 1,000 rows of California housing, layer
    ``hidden.2``, a test R2 of 0.6 becomes less than 0. Bring columns of other units to a spread
    near 1 first.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> model = PathRidge().fit(X, X @ [1.0, -2.0, 0.0] + 5.0)
    >>> model.predict(np.ones((1, 3))).round(3).tolist()
    [4.0]
    """

    def __init__(
        self,
        alphas: Any = "auto",
        *,
        validation: Any = "auto",
        per_target: bool = True,
        scale_floor: float = 0.1,
        random_state: Any = 0,
    ) -> None:
        self.alphas = alphas
        self.validation = validation
        self.per_target = per_target
        self.scale_floor = scale_floor
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Choose the penalties and fit all rows.

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
        PathRidge
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
        grid = read_penalties(self.alphas)
        weights = read_weights(sample_weight, len(X))
        Y = np.asarray(y, dtype=np.float64).reshape(len(X), -1)
        # Targets on one scale: float32 products keep their digits, one penalty suits all.
        mean = np.average(Y, axis=0, weights=weights)
        spread = np.sqrt(np.average((Y - mean) ** 2, axis=0, weights=weights))
        spread[spread == 0] = 1.0
        Y = (Y - mean) / spread
        scale = Scale.of(X, weights, self.scale_floor)
        form = (_Dual if len(X) <= X.shape[1] else _Primal)(X, Y, weights, scale)

        alphas: Array = np.empty(0)
        errors: Array = np.empty((0, Y.shape[1]))
        if grid is not None and len(grid) == 1:
            chosen = np.repeat(grid, Y.shape[1])
        else:
            pairs = splits(self.validation, X, y, None, weights, self.random_state)
            alphas, errors = _walk(form, pairs, grid, float(weights.sum()), X.dtype.name)
            judged = errors if self.per_target else errors.mean(axis=1, keepdims=True)
            chosen = np.broadcast_to(alphas[judged.argmin(axis=0)], Y.shape[1])
        solution, constant = form.solve(chosen)
        coef, intercept = scale.fold(solution * spread, constant * spread + mean)

        single = np.ndim(y) == 1
        self.coef_ = coef[0] if single else coef
        self.intercept_ = float(intercept[0]) if single else intercept
        self.alpha_ = float(chosen[0]) if single else np.array(chosen)
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
            In the type of X, computed in float64.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        values = affine(X, np.atleast_2d(self.coef_), np.atleast_1d(self.intercept_))
        return values[:, 0] if self.coef_.ndim == 1 else values

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _walk(
    form: "_Primal | _Dual",
    pairs: list[tuple[Rows, Rows]],
    grid: NDArray[np.float64] | None,
    total: float,
    dtype: str,
) -> tuple[Array, Array]:
    """Return penalties in falling order and the mean squared error of each on the rows held out."""
    scored = form.splits(pairs)
    if grid is not None:
        return grid, _errors(form, scored, grid)
    steps = round(np.log(_LAST / _FIRST) / np.log(_STEP))
    alphas = total * _FIRST * _STEP ** np.arange(steps + 1)
    errors = _errors(form, scored, alphas)
    low, high = (total * limit for limit in _LIMITS[dtype])
    for _ in count():
        best = errors.argmin(axis=0)
        if (best == len(alphas) - 1).any() and alphas[-1] > low:
            further = alphas[-1] * _STEP ** np.arange(1, 5)
            alphas = np.concatenate([alphas, further])
            errors = np.vstack([errors, _errors(form, scored, further)])
        elif (best == 0).any() and alphas[0] < high:
            further = alphas[0] * _STEP ** -np.arange(4.0, 0.0, -1.0)
            alphas = np.concatenate([further, alphas])
            errors = np.vstack([_errors(form, scored, further), errors])
        else:
            break
    return alphas, errors


def _errors(form: "_Primal | _Dual", scored: list["_Split"], alphas: Array) -> Array:
    """Return mean squared errors of penalties, shape (p, t), over all rows held out."""
    sums = np.zeros((len(alphas), form.Y.shape[1]))
    total = 0.0
    for split in scored:
        # (d or n, p, t): the solution of every penalty and target in the basis of eigenvectors.
        shrunk = split.loads[:, None] / (split.spectrum[:, None] + alphas)[:, :, None]
        solutions = split.basis @ shrunk.reshape(len(shrunk), -1)
        for part in blocks(len(split.held), form.width + solutions.shape[1]):
            at = split.held[part]
            predicted = form.rows(split, at) @ solutions.astype(form.X.dtype, copy=False)
            off = predicted.reshape(len(at), len(alphas), -1) - (form.Y[at] - split.y)[:, None]
            sums += np.einsum("n,npt,npt->pt", form.weights[at], off, off)
        total += form.weights[split.held].sum()
    return sums / total


class _Split:
    """One split, decomposed: eigenvalues, eigenvectors, loads of the targets on them, means."""

    def __init__(self, matrix: Array, loads: Array, centre: Array, y: Array, held: Rows) -> None:
        spectrum, self.basis = eigh(matrix, driver="evd", overwrite_a=True, check_finite=False)
        self.spectrum = np.maximum(spectrum, 0.0)
        self.loads = self.basis.T @ loads
        self.centre, self.y, self.held = centre, y, held


class _Primal:
    """More rows than columns: everything from Z'Z and Z'Y."""

    def __init__(self, X: Array, Y: Array, weights: Array, scale: Scale) -> None:
        self.X, self.Y, self.weights, self.scale = X, Y, weights, scale
        self.width = X.shape[1]
        self.all: Moments | None = None

    def splits(self, pairs: list[tuple[Rows, Rows]]) -> list[_Split]:
        done = []
        everything = self._everything()
        for learned, held in pairs:
            rest = np.ones(len(self.X), dtype=np.bool_)
            rest[held] = False
            if np.array_equal(np.flatnonzero(rest & (self.weights > 0)), np.sort(learned)):
                moments = everything - self._moments(held)
            else:  # rows between the two are left out, as splitters with a buffer do
                moments = self._moments(learned)
            zz, zy, z, y = moments.centred()
            done.append(_Split(zz, zy, z, y, held))
        return done

    def rows(self, split: _Split, at: Rows) -> Array:
        """Return standardised rows about the mean of the rows learned from."""
        block = self.scale.apply(self.X[at])
        block -= split.centre.astype(block.dtype)
        return block

    def solve(self, alphas: Array) -> tuple[Array, Array]:
        zz, zy, z, y = self._everything().centred()
        solution = np.empty_like(zy)
        for alpha in np.unique(alphas):
            ours = alphas == alpha
            penalised = zz.copy()
            penalised.flat[:: len(zz) + 1] += alpha
            solution[:, ours] = _solve(penalised, zy[:, ours])
        return solution, y - z @ solution

    def _everything(self) -> Moments:
        if self.all is None:
            self.all = self._moments(np.arange(len(self.X)))
        return self.all

    def _moments(self, at: Rows) -> Moments:
        return Moments.of(self.X, self.Y, self.weights, self.scale, at)


class _Dual:
    """No more rows than columns: everything from ZZ'."""

    def __init__(self, X: Array, Y: Array, weights: Array, scale: Scale) -> None:
        self.X, self.Y, self.weights, self.scale = X, Y, weights, scale
        self.width = len(X)
        self.kernel = np.zeros((len(X), len(X)))
        for columns in blocks(X.shape[1], 2 * len(X)):
            block = (X[:, columns] - scale.shift[columns]) * scale.factor[columns]
            self.kernel += block @ block.T

    def splits(self, pairs: list[tuple[Rows, Rows]]) -> list[_Split]:
        return [self._split(learned, held) for learned, held in pairs]

    def rows(self, split: _Split, at: Rows) -> Array:
        """Return rows of ZZ' about the mean of the rows learned from."""
        block = self._centred(at, split.centre)
        return block.astype(self.X.dtype)

    def solve(self, alphas: Array) -> tuple[Array, Array]:
        everything = np.arange(len(self.X))
        split = self._split(everything, everything[:0])
        dual = split.basis @ (split.loads / (split.spectrum[:, None] + alphas))
        solution = np.zeros((self.X.shape[1], dual.shape[1]))
        mean = np.zeros(self.X.shape[1])
        for part in blocks(len(self.X), 2 * self.X.shape[1]):
            block = self.scale.apply(self.X[part]).astype(np.float64)
            solution += block.T @ dual[part]
            mean += split.centre[part] @ block
        solution -= mean[:, None] * dual.sum(axis=0)
        return solution, split.y - mean @ solution

    def _split(self, learned: Rows, held: Rows) -> _Split:
        share = np.zeros(len(self.X))
        share[learned] = self.weights[learned] / self.weights[learned].sum()
        y = share @ self.Y
        root = np.sqrt(self.weights[learned])
        matrix = self._centred(learned, share)[:, learned] * root * root[:, None]
        split = _Split(matrix, (self.Y[learned] - y) * root[:, None], share, y, held)
        basis = np.zeros((len(self.X), len(learned)))
        basis[learned] = split.basis * root[:, None]
        split.basis = basis
        return split

    def _centred(self, at: Rows, share: Array) -> Array:
        to_mean = self.kernel @ share
        centred: Array = self.kernel[at] - to_mean[at, None] - to_mean + share @ to_mean
        return centred


def _solve(matrix: Array, right: Array) -> Array:
    """Solve a symmetric system that may be positive definite only but for rounding."""
    try:
        factor = cho_factor(matrix, check_finite=False)
    except LinAlgError:
        spectrum, vectors = eigh(matrix, check_finite=False)
        kept = spectrum > spectrum[-1] * len(matrix) * np.finfo(np.float64).eps
        vectors = vectors[:, kept]
        solved: Array = vectors @ ((vectors.T @ right) / spectrum[kept, None])
        return solved
    return np.asarray(cho_solve(factor, right, check_finite=False))
