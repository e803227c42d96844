"""Nearest neighbours whose number is chosen on rows held out, however few rows there are."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import BaseCrossValidator, GridSearchCV, KFold
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

__all__ = ["FewFolds", "NeighboursClassifier", "NeighboursRegressor", "choose_neighbours"]

_NUMBERS: Final = [1, 3, 5, 10, 20]


class _AsManyAsThereAre:
    """Takes all rows for neighbours where there are fewer than asked for."""

    n_samples_fit_: int
    n_neighbors: int

    def kneighbors(
        self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> Any:
        asked = self.n_neighbors if n_neighbors is None else n_neighbors
        # Without X a row is not its own neighbour.
        there = self.n_samples_fit_ - (X is None)
        return super().kneighbors(X, min(asked, there), return_distance)  # type: ignore[misc]


class NeighboursRegressor(_AsManyAsThereAre, KNeighborsRegressor):  # type: ignore[misc]
    """`sklearn.neighbors.KNeighborsRegressor`, which may have fewer rows than neighbours.

    Examples
    --------
    >>> NeighboursRegressor(20, weights="distance").fit([[0.0], [2.0]], [0.0, 2.0]).predict([[1.0]])
    array([1.])
    """


class NeighboursClassifier(_AsManyAsThereAre, KNeighborsClassifier):  # type: ignore[misc]
    """`sklearn.neighbors.KNeighborsClassifier`, which may have fewer rows than neighbours.

    Examples
    --------
    >>> model = NeighboursClassifier(20, weights="distance").fit([[0.0], [2.0]], ["a", "b"])
    >>> model.predict([[0.5]])
    array(['a'], dtype='<U1')
    """


class FewFolds(BaseCrossValidator):  # type: ignore[misc]
    """Random folds of two rows at least; where that leaves one fold, all rows on both sides.

    Parameters
    ----------
    folds : int
        At most.
    random_state : int, RandomState or None
        Shuffles the rows.

    Examples
    --------
    >>> [len(test) for _, test in FewFolds(3).split(np.zeros((5, 1)))]
    [3, 2]
    """

    def __init__(self, folds: int = 3, *, random_state: Any = 0) -> None:
        self.folds = folds
        self.random_state = random_state

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield rows to learn from and rows to score."""
        folds = self.get_n_splits(X)
        if folds < 2:
            yield np.arange(len(X)), np.arange(len(X))
            return
        # Tables are often sorted.
        yield from KFold(folds, shuffle=True, random_state=self.random_state).split(X)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return self.folds if X is None else max(1, min(self.folds, len(X) // 2))


def choose_neighbours(
    kind: type[BaseEstimator], random_state: Any, pairs: Any = None
) -> BaseEstimator:
    """Make a model that chooses its number of neighbours.

    Parameters
    ----------
    kind : type
        `NeighboursRegressor` or `NeighboursClassifier`.
    random_state : int, RandomState or None
        Of random folds.
    pairs : list of (array of int, array of int), optional
        Rows to learn from and rows to score; three random folds without.

    Returns
    -------
    sklearn.model_selection.GridSearchCV
        Not fitted.

    Examples
    --------
    >>> model = choose_neighbours(NeighboursRegressor, 0).fit([[0.0], [1.0]], [0.0, 1.0])
    >>> model.predict([[0.1]])
    array([0.])
    """
    # Of equal scores the first wins, so the fewest neighbours are asked for.
    return GridSearchCV(
        # Equal places have distance 0: those count.
        kind(weights="distance"),
        {"n_neighbors": _NUMBERS},
        cv=FewFolds(3, random_state=random_state) if pairs is None else pairs,
    )
