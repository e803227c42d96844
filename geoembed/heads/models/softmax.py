"""Softmax regression whose penalty is chosen along a path: the default model of classes."""

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from geoembed.errors import OptionError, TargetError
from geoembed.heads.models.descent import (
    CrossEntropy,
    Directions,
    Point,
    curvature_of,
    descend,
    shares_of,
)
from geoembed.heads.models.paths import (
    Array,
    Scale,
    affine,
    drawn,
    read_penalties,
    read_weights,
    splits,
)
from geoembed.heads.models.walk import Trial, retrace, walk

__all__ = ["PathSoftmax"]


class PathSoftmax(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Multinomial logistic regression; the penalty is chosen on rows held out.

    Minimises ``sum(w * cross_entropy) + alpha / 2 * sum(b**2)``, where the weights b are those of
    the standardised columns of X and the intercepts are free. It walks from strong to weak
    penalties, each solution the start of the next, until the cross-entropy on the rows held out
    has turned; all rows are then fitted by the same way down to the best penalty. `fit_fractions`
    learns shares of classes in the same way.

    Parameters
    ----------
    alphas : "auto", float or array of float
        Penalties to choose from; one is taken as it is. ``"auto"``: two a decade, from 0.01 times
        the sum of weights in the direction that helps, until the loss turns. A weaker penalty
        must gain 0.1 % to be taken.
    validation : "auto", float, int, array of bool, splitter or iterable of pairs
        Rows to choose the penalty on, as for `PathRidge`. Shares and folds keep at least one row
        of every class to learn from.
    class_weight : {None, "balanced"} or dict
        ``"balanced"`` multiplies weights such that every class weighs the same in total; a dict
        holds factors by label, 1 where there is none.
    path_rows : int
        The path is walked on at most so many rows drawn from those to learn from, and at most a
        quarter as many of those held out; and once more on as many of all rows, from where the
        last fit, of all, starts.
    scale_floor : float
        As for `PathRidge`.
    tol : float
        A fit stops when a step improves its mean loss by less than this share, or than this many
        nats where the loss is below 1.
    max_iter : int
        Most steps of a fit.
    random_state : int, RandomState or None
        Decides which rows are held out and drawn.

    Attributes
    ----------
    classes_ : array of shape (k,)
        Labels, sorted; 0 to k - 1 after `fit_fractions` without names.
    coef_ : array of shape (k, d), or (1, d) for two classes, float64
        Weights of the columns of X as they are.
    intercept_ : array of shape (k,), or (1,) for two classes, float64
        Constants.
    alpha_ : float
        Chosen penalty.
    path_ : dict
        ``"alphas"`` of shape (p,), falling, and ``"cross_entropy"`` of shape (p,): the mean on the
        rows held out, in nats. Both are empty if nothing was to be chosen.
    n_iter_ : int
        Steps of the last fit.
    n_features_in_ : int
        Columns of X.

    See Also
    --------
    PathRidge : The same for numbers.

    Notes
    -----
    The minimum is that of `sklearn.linear_model.LogisticRegression` on standardised columns with
    ``C = 1 / alpha``, and with ``C = 2 / alpha`` for two classes, of which that class fits the
    difference alone.

    Each step of L-BFGS goes through the rows once, in blocks, in the type of X. It works along
    the principal directions of at least two rows a column, each scaled by what the curvature of
    the loss is for each class: tens of steps do for thousands of columns that all but depend on
    one another.

    Descending further than to the default `tol` does not pay: on 20,000 rows of land, 200 regions
    without noise have a held-out loss of 0.1666 nats and an accuracy of 0.944, against 0.1693 and
    0.943 at a tolerance of 1e-6, in a fifth of the time; nine noisy shares 1.83536 against
    1.83529.

    The penalty of a sample serves all rows because it is not one a row: on 31 climate classes the
    best alpha was 44, 50, 64 and 60 for 2,000, 5,000, 20,000 and 60,000 rows.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> model = PathSoftmax().fit(X, np.where(X[:, 0] > 0, "east", "west"))
    >>> model.predict([[3.0, 0.0], [-3.0, 0.0]]).tolist()
    ['east', 'west']
    """

    # The first penalty of the path; None leaves it to the walk.
    _start: ClassVar[float | None] = None

    def __init__(
        self,
        alphas: Any = "auto",
        *,
        validation: Any = "auto",
        class_weight: Any = None,
        path_rows: int = 10_000,
        scale_floor: float = 0.1,
        tol: float = 3e-4,
        max_iter: int = 500,
        random_state: Any = 0,
    ) -> None:
        self.alphas = alphas
        self.validation = validation
        self.class_weight = class_weight
        self.path_rows = path_rows
        self.scale_floor = scale_floor
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Choose the penalty and fit all rows to their classes.

        Parameters
        ----------
        X : array of shape (n, d)
            Features; float32 stays float32.
        y : array of shape (n,)
            Labels, two classes at least.
        sample_weight : array of shape (n,), optional
            Weights of the rows, also of those held out.

        Returns
        -------
        PathSoftmax
            Itself.

        Raises
        ------
        OptionError
            If a parameter or the weights do not fit.
        TargetError
            If there is a single class, or fewer rows than folds.
        ValueError
            If X holds NaN or infinities, or y numbers that are no classes.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise TargetError(
                f"There is 1 class only, {self.classes_.tolist()[0]!r}, in all {len(X)} rows: "
                "nothing is to be told apart. Two classes at least are needed."
            )
        weights = read_weights(sample_weight, len(X))
        sums = np.bincount(codes, weights).astype(np.float64)
        weights = weights * self._class_weights(sums)[codes]
        return self._fit(X, y, codes, weights)

    def fit_fractions(
        self,
        X: Any,
        P: Any,
        sample_weight: ArrayLike | None = None,
        *,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Choose the penalty and fit all rows to their shares of classes.

        The cross-entropy to the shares is their Kullback-Leibler divergence and a constant.

        Parameters
        ----------
        X : array of shape (n, d)
            Features; float32 stays float32.
        P : array of shape (n, k)
            Shares in [0, 1], k >= 2, each row summing to 1 within 1e-4.
        sample_weight : array of shape (n,), optional
            Weights of the rows, also of those held out.
        classes : array of shape (k,), optional
            Names of the columns of P.

        Returns
        -------
        PathSoftmax
            Itself.

        Raises
        ------
        OptionError
            If a parameter or the weights do not fit.
        TargetError
            If P holds no shares, or has another number of rows, or columns than names.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        shares = np.asarray(P, dtype=X.dtype)
        if shares.ndim != 2 or len(shares) != len(X) or shares.shape[1] < 2:
            raise TargetError(
                f"P must have the shape ({len(X)}, k), a column for each of k >= 2 classes, "
                f"got {shares.shape}."
            )
        sums = shares.sum(axis=1, dtype=np.float64)
        if not (np.abs(sums - 1.0) <= 1e-4).all() or (shares < 0).any():
            wrong = ~(np.abs(sums - 1.0) <= 1e-4) | (shares < 0).any(axis=1)
            rows = np.flatnonzero(wrong)
            raise TargetError(
                f"P holds rows that are no shares: {len(rows):,} of {len(X):,} are negative "
                f"somewhere or do not sum to 1, the first at position {rows[0]}: "
                f"{shares[rows[0]].tolist()}."
            )
        names = np.arange(shares.shape[1]) if classes is None else np.asarray(classes)
        if names.shape != (shares.shape[1],):
            raise TargetError(f"classes= has the shape {names.shape} for {shares.shape[1]} shares.")
        self.classes_ = names
        return self._fit(X, shares, shares, read_weights(sample_weight, len(X)))

    def _class_weights(self, sums: Array) -> Array:
        """Return what the weights of the rows of every class are multiplied by."""
        if self.class_weight is None:
            return np.ones(len(sums))
        if isinstance(self.class_weight, Mapping):
            labels = self.classes_.tolist()
            return np.array([float(self.class_weight.get(label, 1.0)) for label in labels])
        if self.class_weight == "balanced":
            share = sums.sum() / np.count_nonzero(sums)
            return np.asarray(np.divide(share, sums, out=np.zeros_like(sums), where=sums > 0))
        raise OptionError(
            f"class_weight={self.class_weight!r} is not one of: None, 'balanced', or factors by "
            "label such as {'sea': 2.0}."
        )

    def _scale(self, X: Array, weights: Array) -> Scale:
        return Scale.of(X, weights, self.scale_floor)

    def _fit(self, X: Array, y: NDArray[Any], seen: NDArray[Any], weights: Array) -> Self:
        grid = read_penalties(self.alphas)
        random = check_random_state(self.random_state)
        scale = self._scale(X, weights)
        k, rows = len(self.classes_), int(self.path_rows)
        codes = seen if seen.ndim == 1 else None
        some = drawn(np.flatnonzero(weights > 0), max(rows, 2 * X.shape[1]), codes, random)
        directions = Directions.of(X, weights, scale, some)
        start = Point(np.zeros((X.shape[1], k)), _log_shares(seen, weights, k))
        curvature = curvature_of(start)

        everything = CrossEntropy(X, seen, weights, scale)
        path: list[tuple[float, float]] = []
        if grid is not None and len(grid) == 1:
            self.alpha_ = float(grid[0])
        else:
            trials = []
            for learned, held in splits(self.validation, X, y, codes, weights, random):
                parts = drawn(learned, rows, codes, random), drawn(held, rows // 4, codes, random)
                learn, judge = (CrossEntropy(X[at], seen[at], weights[at], scale) for at in parts)
                trials.append(Trial(learn, judge, start, directions, self.tol, self.max_iter))
            path, self.alpha_ = walk(trials, grid, self._start)
            path.sort(reverse=True)
            del trials
            taken = drawn(np.flatnonzero(weights > 0), rows, codes, random)
            few = len(taken) < len(X)
            start, curvature = retrace(
                CrossEntropy(X[taken], seen[taken], weights[taken], scale) if few else everything,
                start,
                [alpha for alpha, _ in path if alpha >= self.alpha_],
                directions,
                tol=self.tol,
                max_iter=self.max_iter,
            )
        best, self.n_iter_, reached = descend(
            everything,
            start,
            self.alpha_ / everything.total,
            directions,
            curvature,
            tolerance=self.tol,
            max_iter=self.max_iter,
        )
        if not reached:
            warnings.warn(
                f"PathSoftmax stopped after max_iter={self.max_iter} steps, before a step improved "
                f"the loss by less than tol={self.tol}.",
                ConvergenceWarning,
                stacklevel=3,
            )
        coef, intercept = scale.fold(best.weights, best.constants - best.constants.mean())
        if k == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        self.coef_, self.intercept_ = coef, intercept
        self.path_ = {
            "alphas": np.array([alpha for alpha, _ in path]),
            "cross_entropy": np.array([loss for _, loss in path]),
        }
        return self

    def decision_function(self, X: Any) -> Array:
        """Return scores, whose softmax are the probabilities.

        Parameters
        ----------
        X : array of shape (n, d)
            Features.

        Returns
        -------
        array of shape (n, k), or (n,) for two classes
            In the type of X; for two classes the score of the second less that of the first.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        scores = affine(X, self.coef_, self.intercept_)
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> Array:
        """Predict probabilities, or shares after `fit_fractions`.

        Parameters
        ----------
        X : array of shape (n, d)
            Features.

        Returns
        -------
        array of shape (n, k)
            In the type of X and in the order of `classes_`; each row sums to 1.
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            scores = np.column_stack([np.zeros_like(scores), scores])
        return shares_of(scores)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels: the most probable class, or that of the largest share.

        Parameters
        ----------
        X : array of shape (n, d)
            Features.

        Returns
        -------
        array of shape (n,)
            Members of `classes_`.
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            scores = np.column_stack([np.zeros_like(scores), scores])
        return np.asarray(self.classes_[scores.argmax(axis=1)])


def _log_shares(seen: NDArray[Any], weights: Array, k: int) -> Array:
    """Return the logarithms of the shares of all classes; an absent one has half a row."""
    if seen.ndim == 1:
        sums: Array = np.bincount(seen, weights, minlength=k).astype(np.float64)
    else:
        sums = weights @ seen.astype(np.float64)
    shares = sums + 0.5 * weights.sum() / len(weights)
    logs: Array = np.log(shares / shares.sum())
    logs -= logs.mean()
    return logs
