"""Softmax regression by an exponential kernel: classes and shares whose borders bend."""

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from geoembed.heads.models.kernel_space import KernelSpace, check_kernel_parameters, kernel_between
from geoembed.heads.models.paths import Array, Scale, blocks
from geoembed.heads.models.softmax import PathSoftmax

__all__ = ["KernelSoftmax"]


class KernelSoftmax(PathSoftmax):
    """Multinomial logistic regression on kernel features; the penalty is chosen on rows held out.

    Minimises ``sum(w * cross_entropy) + alpha / 2 * |f|**2``, where the scores of the classes are
    functions f of the kernel ``exp(-|x - x'| / length)`` and free constants: they bend where the
    data bend and lean on near rows, which a linear model cannot.

    Parameters
    ----------
    alphas : "auto", float or array of float
        Penalties to choose from, as for `PathSoftmax`; ``"auto"`` starts at 0.01.
    validation : "auto", float, int, array of bool, splitter or iterable of pairs
        Rows to choose the penalty on, as for `PathRidge`.
    class_weight : {None, "balanced"} or dict
        As for `PathSoftmax`.
    length : float
        Length of the kernel, as a multiple of the median distance between two rows.
    components : int or None
        Wider vectors are projected onto so many principal directions first, which saves time in
        every prediction; None never does. Fewer rows than that are left as they are.
    landmarks : int
        Of how many rows, drawn at random, f is made if there are more; all rows have a say in it.
    path_rows : int
        As for `PathSoftmax`.
    tol : float
        As for `PathSoftmax`.
    max_iter : int
        Most steps of a fit.
    random_state : int, RandomState or None
        Decides which rows are held out and drawn.

    Attributes
    ----------
    classes_ : array of shape (k,)
        Labels, sorted; 0 to k - 1 after `fit_fractions` without names.
    support_ : array of shape (m, r)
        The landmarks, projected.
    dual_coef_ : array of shape (m, k), or (m, 1) for two classes, float64
        Their weights.
    intercept_ : array of shape (k,), or (1,) for two classes, float64
        Constants.
    alpha_ : float
        Chosen penalty.
    space_ : KernelSpace
        Mean of the rows, their principal directions, and the length of the kernel in units of X.
    path_ : dict
        As for `PathSoftmax`.
    n_iter_ : int
        Steps of the last fit.
    n_features_in_ : int
        Columns of X.

    See Also
    --------
    PathKernel : The same for numbers.
    PathSoftmax : The linear model.

    Notes
    -----
    A landmark is a feature: the features of a row are its kernel with the landmarks, times the
    inverse of a root of the landmarks' own kernel (Williams and Seeger: Using the Nystroem method
    to speed up kernel machines. NIPS 2000). With all rows as landmarks this is kernel logistic
    regression itself.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(size=(500, 2))
    >>> inside = np.hypot(X[:, 0] - 0.5, X[:, 1] - 0.5) < 0.3
    >>> model = KernelSoftmax().fit(X, inside)
    >>> model.predict([[0.5, 0.5], [0.1, 0.1], [0.9, 0.9]]).tolist()
    [True, False, False]
    """

    _start: ClassVar[float | None] = 1e-2

    def __init__(
        self,
        alphas: Any = "auto",
        *,
        validation: Any = "auto",
        class_weight: Any = None,
        length: float = 1.0,
        components: int | None = 512,
        landmarks: int = 2_000,
        path_rows: int = 10_000,
        tol: float = 3e-4,
        max_iter: int = 500,
        random_state: Any = 0,
    ) -> None:
        super().__init__(
            alphas,
            validation=validation,
            class_weight=class_weight,
            path_rows=path_rows,
            tol=tol,
            max_iter=max_iter,
            random_state=random_state,
        )
        self.length = length
        self.components = components
        self.landmarks = landmarks

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
        support = self.support_.astype(X.dtype, copy=False)
        scores = self.space_.sums(X, support, self.dual_coef_)
        scores += self.intercept_.astype(X.dtype)
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def _scale(self, X: Array, weights: Array) -> Scale:
        # The kernel has its own scale, which the penalty refers to.
        mean = np.average(X, axis=0, weights=weights)
        return Scale(mean.astype(X.dtype), np.ones(X.shape[1], dtype=X.dtype))

    def _fit(self, X: Array, y: NDArray[Any], seen: NDArray[Any], weights: Array) -> Self:
        check_kernel_parameters(self.length, components=self.components, landmarks=self.landmarks)
        random = check_random_state(self.random_state)
        counted = np.flatnonzero(weights > 0)
        space = KernelSpace.of(X, counted, self.components, self.length, random)
        V = space.project(X)
        drawn = random.permutation(counted)[: self.landmarks]
        support = V[np.sort(drawn)]
        between = kernel_between(support, space.length)
        root = cholesky(between, lower=True, overwrite_a=True, check_finite=False)
        features = np.empty((len(X), len(support)), dtype=X.dtype)
        narrow = root.astype(X.dtype)
        for rows in blocks(len(X), 2 * len(support)):
            block = space.kernel(V[rows], support).T
            features[rows] = solve_triangular(narrow, block, lower=True).T
        super()._fit(features, y, seen, weights)
        self.dual_coef_ = solve_triangular(root, self.coef_.T, lower=True, trans="T")
        self.space_, self.support_ = space, support
        del self.coef_
        return self
