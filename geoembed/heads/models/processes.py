"""Gaussian processes whose kernels are fitted to a sample of the rows."""

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from geoembed.heads.models.paths import drawn

__all__ = ["ProcessClassifier", "ProcessRegressor"]


class ProcessRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Gaussian-process regression of numbers, in seconds for thousands of rows.

    The kernel (a constant times Matern 3/2, and noise) is fitted by its likelihood, which takes
    tens of factorisations of a matrix of n x n, on a sample; with that kernel all rows are learned
    from, which takes two.

    Parameters
    ----------
    kernel_rows : int
        Rows that the kernel is fitted to, drawn at random where there are more.
    random_state : int, RandomState or None
        Decides which.

    Attributes
    ----------
    process_ : sklearn.gaussian_process.GaussianProcessRegressor
        Fitted to all rows.
    n_features_in_ : int
        Columns of X.

    Examples
    --------
    >>> X = np.linspace(0.0, 3.0, 40)[:, None]
    >>> model = ProcessRegressor(kernel_rows=20).fit(X, np.sin(X[:, 0]))
    >>> model.predict([[1.5]]).round(2)
    array([1.])
    """

    def __init__(self, *, kernel_rows: int = 500, random_state: Any = 0) -> None:
        self.kernel_rows = kernel_rows
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the kernel to a sample, and with it all rows.

        Parameters
        ----------
        X : array of shape (n, d)
            Features, of about one scale.
        y : array of shape (n,) or (n, t)
            Numbers to predict.

        Returns
        -------
        ProcessRegressor
            Itself.
        """
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, ensure_min_samples=2)
        random = check_random_state(self.random_state)
        kernel = ConstantKernel() * Matern(nu=1.5) + WhiteKernel(0.1)
        process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=random)
        if len(X) > self.kernel_rows:
            some = drawn(np.arange(len(X)), self.kernel_rows, None, random)
            fitted = _fit(process, X[some], y[some]).kernel_
            process = GaussianProcessRegressor(fitted, optimizer=None, normalize_y=True)
        self.process_ = _fit(process, X, y)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predict the targets.

        Parameters
        ----------
        X : array of shape (n, d)
            Features.

        Returns
        -------
        array of shape (n,) or (n, t)
            Means of the process.
        """
        check_is_fitted(self)
        return np.asarray(self.process_.predict(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class ProcessClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Gaussian-process classification, in seconds a class for thousands of rows.

    One process a class, that class against the others; their probabilities are divided by their
    sum. Each has a kernel of its own (a constant times Matern 3/2), fitted to a sample.

    Parameters
    ----------
    kernel_rows : int
        Rows that kernels are fitted to, drawn at random where there are more, each class by its
        share but one row at least.
    random_state : int, RandomState or None
        Decides which.

    Attributes
    ----------
    classes_ : array of shape (k,)
        Labels, sorted.
    processes_ : list of sklearn.gaussian_process.GaussianProcessClassifier
        Fitted to all rows, one a class; of two classes, that of the second alone.
    n_features_in_ : int
        Columns of X.

    Examples
    --------
    >>> X = np.linspace(-1.0, 1.0, 40)[:, None]
    >>> model = ProcessClassifier(kernel_rows=20).fit(X, np.where(X[:, 0] > 0, "east", "west"))
    >>> model.predict([[0.5], [-0.5]]).tolist()
    ['east', 'west']
    """

    def __init__(self, *, kernel_rows: int = 500, random_state: Any = 0) -> None:
        self.kernel_rows = kernel_rows
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Fit every kernel to a sample, and with it all rows.

        Parameters
        ----------
        X : array of shape (n, d)
            Features, of about one scale.
        y : array of shape (n,)
            Labels, two classes at least.

        Returns
        -------
        ProcessClassifier
            Itself.
        """
        X, labels = validate_data(self, X, y, ensure_min_samples=2)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        random = check_random_state(self.random_state)
        some = drawn(np.arange(len(X)), self.kernel_rows, codes, random)
        told_apart = range(1, 2) if len(self.classes_) <= 2 else range(len(self.classes_))
        self.processes_ = []
        for code in told_apart:
            process = GaussianProcessClassifier(ConstantKernel() * Matern(nu=1.5))
            if len(some) < len(X):
                fitted = _fit(process, X[some], codes[some] == code).kernel_
                process = GaussianProcessClassifier(fitted, optimizer=None)
            self.processes_.append(_fit(process, X, codes == code))
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict probabilities.

        Parameters
        ----------
        X : array of shape (n, d)
            Features.

        Returns
        -------
        array of shape (n, k)
            In the order of `classes_`; each row sums to 1.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        each = np.column_stack([process.predict_proba(X)[:, 1] for process in self.processes_])
        if each.shape[1] == 1:
            return np.column_stack([1.0 - each, each])
        return np.asarray(each / each.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels: the most probable class.

        Parameters
        ----------
        X : array of shape (n, d)
            Features.

        Returns
        -------
        array of shape (n,)
            Members of `classes_`.
        """
        likeliest = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[likeliest])


def _fit(process: Any, X: NDArray[Any], y: NDArray[Any]) -> Any:
    with warnings.catch_warnings():
        # A kernel at a bound, such as next to no noise, is what such rows ask for.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return process.fit(X, y)
