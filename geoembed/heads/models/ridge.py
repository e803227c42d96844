"""Ridge regression whose penalty is chosen along a path: the default model of numbers."""

from itertools import count
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from geoembed.heads.models.equations import Dual, Primal, equations_of
from geoembed.heads.models.paths import (
    Array,
    Scale,
    affine,
    read_penalties,
    read_weights,
    splits,
    standardise_targets,
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
        Y, mean, spread = standardise_targets(y, weights)
        scale = Scale.of(X, weights, self.scale_floor)
        equations = equations_of(X, Y, weights, scale)

        alphas: Array = np.empty(0)
        errors: Array = np.empty((0, Y.shape[1]))
        if grid is not None and len(grid) == 1:
            chosen = np.repeat(grid, Y.shape[1])
        else:
            equations.hold_out(splits(self.validation, X, y, None, weights, self.random_state))
            alphas, errors = _walk(equations, grid, float(weights.sum()), X.dtype.name)
            judged = errors if self.per_target else errors.mean(axis=1, keepdims=True)
            chosen = np.broadcast_to(alphas[judged.argmin(axis=0)], Y.shape[1])
        solution, constant = equations.solve(chosen)
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
    equations: Primal | Dual,
    grid: NDArray[np.float64] | None,
    total: float,
    dtype: str,
) -> tuple[Array, Array]:
    """Return penalties in falling order and the mean squared error of each on the rows held out."""
    if grid is not None:
        return grid, equations.errors(grid)
    steps = round(np.log(_LAST / _FIRST) / np.log(_STEP))
    alphas = total * _FIRST * _STEP ** np.arange(steps + 1)
    errors = equations.errors(alphas)
    low, high = (total * limit for limit in _LIMITS[dtype])
    for _ in count():
        best = errors.argmin(axis=0)
        if (best == len(alphas) - 1).any() and alphas[-1] > low:
            further = alphas[-1] * _STEP ** np.arange(1, 5)
            alphas = np.concatenate([alphas, further])
            errors = np.vstack([errors, equations.errors(further)])
        elif (best == 0).any() and alphas[0] < high:
            further = alphas[0] * _STEP ** -np.arange(4.0, 0.0, -1.0)
            alphas = np.concatenate([further, alphas])
            errors = np.vstack([equations.errors(further), errors])
        else:
            break
    return alphas, errors
