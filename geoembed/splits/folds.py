"""What all spatial splitters share: reading places, dealing groups to folds, keeping a buffer."""

import numbers
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state

from geoembed.coordinates import Places, read_places
from geoembed.errors import OptionError
from geoembed.splits.separation import outside_buffer

__all__ = [
    "SpatialSplitter",
    "check_buffer",
    "check_n_splits",
    "check_seed",
    "deal",
    "is_number",
    "read_rows",
    "train_rows",
]

Ids = NDArray[np.int64]
Rows = NDArray[np.intp]


class SpatialSplitter(BaseCrossValidator):  # type: ignore[misc]
    """A splitter whose folds are whole groups of places, with a buffer round the tested ones.

    Subclasses have the parameters `buffer_km`, `crs` and `geometry`, and say in `_assign`
    which fold tests each row.
    """

    buffer_km: float
    crs: Any
    geometry: str

    @abstractmethod
    def _assign(self, X: Any, groups: Any) -> tuple[Places, Ids]:
        """Read the places, and the number of the fold that tests each."""

    def split(
        self, X: Any, y: Any = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[Rows, Rows]]:
        """Give the rows to train on and those to test on, fold by fold.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places, as `geoembed.read_places` takes them; arrays are (lon, lat), WGS 84.
        y : ignored
            There for scikit-learn's sake.
        groups : array_like, shape (n,), optional
            Labels of regions for `LeaveRegionOut`; the other splitters refuse them.

        Returns
        -------
        iterator of (train, test)
            Arrays of positions, ascending. Every row is in exactly one test set; a row within
            the buffer of a test place is in neither set of that fold.

        Raises
        ------
        CoordinateError
            If X cannot be read as places, or holds invalid ones.
        OptionError
            If a parameter is not one of those offered or does not fit the places: fewer
            blocks than folds, or, when its fold is reached, a buffer that leaves nothing to
            train on.
        TableError
            If X has no column of the name that regions are to be taken from.
        TargetError
            If labels of regions are missing, or there is only one region.
        """
        check_buffer(self.buffer_km)
        places, folds = self._assign(X, groups)
        return self._iterate(places, folds)

    def fold_ids(self, X: Any, groups: ArrayLike | None = None) -> Ids:
        """Say which fold tests each place, for a map.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places, as for `split`.
        groups : array_like, shape (n,), optional
            As for `split`.

        Returns
        -------
        ndarray of int64, shape (n,)
            Numbers of folds from 0, in the order in which `split` gives them.
        """
        return self._assign(X, groups)[1]

    def _iterate(self, places: Places, folds: Ids) -> Iterator[tuple[Rows, Rows]]:
        count = int(folds.max()) + 1
        for fold in range(count):
            test = folds == fold
            where = f" in fold {fold + 1} of {count}"
            yield train_rows(places, test, self.buffer_km, where), np.flatnonzero(test)


def read_rows(X: Any, crs: Any, geometry: str) -> Places:
    """Read places, one a row.

    Parameters
    ----------
    X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
        Places, as `geoembed.read_places` takes them.
    crs : optional
        CRS of coordinates that do not carry one.
    geometry : {"point", "representative_point", "centroid"}
        What stands for a geometry that is not a point.

    Returns
    -------
    Places
        All of them valid.

    Raises
    ------
    CoordinateError
        If X cannot be read as places, or holds invalid ones.
    OptionError
        If there is no place at all, or `geometry` gives many points a row.
    """
    if geometry == "sample" or (isinstance(X, Places) and X.owner is not None):
        raise OptionError(
            "geometry='sample' gives many points a row, which may lie in several blocks: choose "
            "'representative_point' or 'centroid' to split by."
        )
    places = read_places(X, crs=crs, geometry=geometry)
    if not len(places):
        raise OptionError("There is no place to split: the table has no rows.")
    return places


def train_rows(places: Places, test: NDArray[np.bool_], buffer_km: float, where: str) -> Rows:
    """Find the rows to train on.

    Parameters
    ----------
    places : Places
        All of them valid, one a row.
    test : ndarray of bool, shape (n,)
        The rows that are tested.
    buffer_km : float
        Rows this near to a tested one are left out.
    where : str
        Of which split errors speak.

    Returns
    -------
    ndarray of intp
        Positions, ascending; at least one.

    Raises
    ------
    OptionError
        If the buffer leaves none.
    """
    train = np.flatnonzero(outside_buffer(places.lonlat, test, buffer_km))
    if not len(train):
        raise OptionError(
            f"buffer_km={buffer_km:g} leaves nothing to train on{where}: every other place is "
            f"that near to one of the {test.sum():,} tested. Take a smaller buffer, or smaller "
            "test sets."
        )
    return train


def deal(sizes: Ids, n_splits: int, random_state: Any) -> Ids:
    """Deal out groups, in random order, each to the fold with the fewest rows so far.

    Parameters
    ----------
    sizes : ndarray of int, shape (g,)
        Rows of each group.
    n_splits : int
        Number of folds, at most g.
    random_state : int, RandomState or None
        Seed of the order.

    Returns
    -------
    ndarray of int64, shape (g,)
        The fold of each group; no fold is empty.

    Examples
    --------
    >>> folds = deal(np.array([5, 1, 1, 1, 2]), 2, random_state=0)
    >>> sorted(np.bincount(folds, weights=[5, 1, 1, 1, 2]).tolist())
    [5.0, 5.0]
    """
    folds = np.empty(len(sizes), dtype=np.int64)
    filled = np.zeros(n_splits, dtype=np.int64)
    for group in check_seed(random_state).permutation(len(sizes)):
        folds[group] = fewest = filled.argmin()
        filled[fewest] += sizes[group]
    return folds


def check_seed(random_state: Any) -> Any:
    """Make a RandomState of a seed, or say what a seed is."""
    try:
        return check_random_state(random_state)
    except ValueError as error:
        raise OptionError(
            f"random_state={random_state!r} must be a whole number, a RandomState or None."
        ) from error


def check_buffer(buffer_km: Any) -> None:
    """Check a distance to keep."""
    if not is_number(buffer_km) or not 0 <= buffer_km < np.inf:
        raise OptionError(f"buffer_km={buffer_km!r} must be a number of kilometres, 0 or more.")


def check_n_splits(n_splits: Any) -> int:
    """Check a number of folds."""
    whole = isinstance(n_splits, numbers.Integral) and not isinstance(n_splits, bool)
    if not whole or n_splits < 2:
        raise OptionError(f"n_splits={n_splits!r} must be a whole number, 2 or more.")
    return int(n_splits)


def is_number(value: Any) -> bool:
    """Whether it is a real number, and no boolean."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
