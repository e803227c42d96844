"""What a head learns: targets read from columns, arrays and frames, checked row by row."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from geoembed.columns import name_rows
from geoembed.errors import TableError, TargetError, unknown_name
from geoembed.partitions import is_lazy

__all__ = [
    "Target",
    "check_in_memory",
    "check_names",
    "read_labels",
    "read_numbers",
    "read_target",
]


@dataclass(frozen=True, eq=False)
class Target:
    """Targets as they were given, one row a place.

    Parameters
    ----------
    values : ndarray of shape (n,) or (n, t)
        Numbers or labels, not yet checked.
    names : tuple of str
        Name of every target; empty where the input carries none.
    index : pandas.Index
        Labels of the rows, for messages.
    """

    values: NDArray[Any]
    names: tuple[str, ...]
    index: pd.Index

    def __len__(self) -> int:
        return len(self.index)

    @property
    def columns(self) -> int:
        """How many targets there are."""
        return 1 if self.values.ndim == 1 else self.values.shape[1]

    def name(self, column: int) -> str:
        """Return the name of a target, as messages call it."""
        return f"target {self.names[column]!r}" if self.names else f"column {column} of y"


def check_in_memory(X: Any, y: Any = None) -> None:
    """Refuse frames of dask: what is not made for them takes them for something else.

    Parameters
    ----------
    X : places
        What a head was given.
    y : optional
        What it was given to learn or to be scored by.

    Raises
    ------
    TableError
        If one of them is a frame or series of dask.

    Examples
    --------
    >>> check_in_memory([[13.4, 52.5]], [3.0])
    """
    lazy = [name for name, given in (("X", X), ("y", y)) if is_lazy(given)]
    if lazy:
        are, them = ("is a frame", "it") if len(lazy) == 1 else ("are frames", "them")
        raise TableError(
            f"{' and '.join(lazy)} {are} of dask, and heads are fitted and asked in memory: call "
            f"compute() on {them} first. Only predict_frame() takes a frame of dask as it is, "
            "partition by partition."
        )


def read_target(X: Any, y: Any) -> Target:
    """Find the targets of X.

    Parameters
    ----------
    X : places
        What a head was given; a frame if `y` names columns of it.
    y : str, list of str, array, Series or DataFrame
        The name of a column of X, or several; or the values, one row a row of X.

    Returns
    -------
    Target
        Not yet checked for values that are missing.

    Raises
    ------
    TableError
        If a named column is not there, or X or y is a frame of dask.
    TargetError
        If there is no y, its number of rows is not that of X, or its index holds X's labels in
        another order.

    Examples
    --------
    >>> frame = pd.DataFrame({"lon": [0.0, 1.0], "lat": [0.0, 1.0], "rain": [3.0, 4.0]})
    >>> read_target(frame, "rain").names
    ('rain',)
    """
    check_in_memory(X, y)
    if y is None:
        raise TargetError(
            "A head requires y to be passed, but the target y is None: give the name of a column "
            "of X, or an array with one value a row."
        )
    if isinstance(y, str) or _are_names(y):
        return _from_columns(X, [y] if isinstance(y, str) else list(y), flat=isinstance(y, str))
    index = X.index if isinstance(getattr(X, "index", None), pd.Index) else None
    names: tuple[str, ...] = ()
    if isinstance(y, pd.Series | pd.DataFrame):
        _check_alignment(index, y.index)
        columns: Sequence[Hashable] = [y.name] if isinstance(y, pd.Series) else list(y.columns)
        if all(column is not None for column in columns):
            names = tuple(str(column) for column in columns)
        index = y.index if index is None else index
    values = _as_array(y)
    if values.ndim == 0 or values.ndim > 2:
        raise TargetError(f"y should be a 1d array or a table, got the shape {values.shape}.")
    if index is None:
        index = pd.RangeIndex(len(values))
    elif len(index) != len(values):
        raise TargetError(
            f"X has {len(index):,} rows and y {len(values):,}: give one row of y for every place."
        )
    return Target(values, names, index)


def check_names(names: Sequence[str], taken: Sequence[str] = ()) -> None:
    """Refuse names of numbers whose predictions would get columns of the same name.

    Parameters
    ----------
    names : sequence of str
        Names of the targets or classes; each gives a column, a ``_lower`` and an ``_upper``.
    taken : sequence of str
        Names that the head gives to columns of its own, without ``predicted_``.

    Raises
    ------
    TargetError
        If two would be the same.

    Examples
    --------
    >>> check_names(["rain", "snow"])
    """
    seen = dict.fromkeys(taken, "a column of the head's own")
    for name in names:
        for column in (name, f"{name}_lower", f"{name}_upper"):
            if column in seen:
                raise TargetError(
                    f"The predictions of the target {name!r} would be named "
                    f"'predicted_{column}', and so would {seen[column]}: rename the target."
                )
            seen[column] = f"those of the target {name!r}"


def read_numbers(target: Target) -> NDArray[np.float64]:
    """Return the targets as finite numbers of shape (n, t), float64.

    Parameters
    ----------
    target : Target
        From `read_target`.

    Returns
    -------
    ndarray of shape (n, t), float64
        A copy.

    Raises
    ------
    TargetError
        If a value is no number, missing or not finite; the message names the first rows.

    Examples
    --------
    >>> read_numbers(read_target(None, [1, 2])).tolist()
    [[1.0], [2.0]]
    """
    values = target.values.reshape(len(target), -1)
    if np.iscomplexobj(values):
        raise TargetError("Complex data not supported: y holds complex numbers.")
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TargetError(f"y is no table of numbers: {error}") from error
    bad = ~np.isfinite(numbers)
    if bad.any():
        column = int(np.flatnonzero(bad.any(axis=0))[0])
        rows = bad[:, column]
        named = name_rows(target.index, rows, lambda at: f"{numbers[at, column]:g}")
        raise TargetError(
            f"{rows.sum():,} of {len(rows):,} rows of {target.name(column)} are missing or not "
            f"finite: {named}. Leave those rows out of X and y, or fill them."
        )
    return numbers


def read_labels(target: Target, *, minimum: int = 2) -> NDArray[Any]:
    """Return the targets as labels of shape (n,), none missing.

    Parameters
    ----------
    target : Target
        From `read_target`, one column.
    minimum : int
        How many different labels there must be.

    Returns
    -------
    ndarray of shape (n,)
        Text, whole numbers or booleans.

    Raises
    ------
    TargetError
        If there are several columns, a label is missing, there are fewer than `minimum` classes,
        or the values are no labels.

    Examples
    --------
    >>> read_labels(read_target(None, ["wood", "water"])).tolist()
    ['wood', 'water']
    """
    if target.columns != 1:
        raise TargetError(
            f"y should be a 1d array of labels, got {target.columns} columns. "
            "For labels of several levels use RegionClassifier."
        )
    values = target.values.reshape(-1)
    if target.values.ndim == 2 and not target.names:
        # Only one axis too many, as scikit-learn's own classifiers say it.
        column_or_1d(target.values, warn=True)
    missing = np.asarray(pd.isna(values))
    if values.dtype.kind == "f":
        missing = ~np.isfinite(values)
    if missing.any():
        raise TargetError(
            f"{missing.sum():,} of {len(values):,} rows of {target.name(0)} have no label (NaN, "
            f"None or infinite): {name_rows(target.index, missing)}. Leave those rows out of X "
            "and y."
        )
    if values.dtype == object:
        text = all(isinstance(value, str) for value in values)
        # Nullable types of pandas arrive as objects: whole numbers and booleans again.
        values = values.astype(str) if text else pd.Series(values).infer_objects().to_numpy()
    try:
        check_classification_targets(values)
        classes = np.unique(values)
    except (TypeError, ValueError) as error:
        raise TargetError(f"{target.name(0)} holds no labels: {error}") from error
    if len(classes) < minimum:
        raise TargetError(
            f"{target.name(0)} holds only one class, {classes[0].item()!r}: a classifier needs at "
            "least two. Check the column, or add places of another class."
        )
    return values


def _are_names(y: Any) -> bool:
    return isinstance(y, list | tuple) and len(y) > 0 and all(isinstance(name, str) for name in y)


def _from_columns(X: Any, names: list[str], *, flat: bool) -> Target:
    if not isinstance(X, pd.DataFrame):
        if not flat and (X is None or len(names) == _rows_of(X)):
            # A list of texts beside an array of places is a list of labels.
            return Target(np.asarray(names), (), pd.RangeIndex(len(names)))
        raise TableError(
            f"y={names if not flat else names[0]!r} names columns, but X is "
            f"{type(X).__name__}: give a GeoDataFrame that has them, or the values themselves."
        )
    for name in names:
        if list(X.columns).count(name) != 1:
            if name in X.columns:
                raise TableError(f"There are several columns named {name!r}: rename all but one.")
            if not flat and len(names) == len(X) and not set(names) & set(X.columns):
                return Target(np.asarray(names), (), X.index)
            raise TableError(str(unknown_name("column", name, [str(c) for c in X.columns])))
    values = _as_array(X[names[0]] if flat else X[names])
    return Target(values, tuple(names), X.index)


def _rows_of(X: Any) -> int:
    return len(X) if hasattr(X, "__len__") else -1


def _as_array(y: Any) -> NDArray[Any]:
    if isinstance(y, pd.Series | pd.DataFrame):
        kinds = [y.dtype] if isinstance(y, pd.Series) else list(y.dtypes)
        # Extension types (text, nullable integers, categories) have missing values of their own.
        if all(isinstance(kind, np.dtype) for kind in kinds):
            return np.asarray(y.to_numpy())
        return np.asarray(y.to_numpy(dtype=object, na_value=np.nan))
    if hasattr(y, "toarray"):
        raise TargetError("y is a sparse matrix; give a dense array, for example y.toarray().")
    array = np.asarray(y)
    # NumPy makes text of a list's numbers when there is one text among them.
    mixed = array.dtype.kind in "SU" and isinstance(y, list | tuple)
    return np.asarray(y, dtype=object) if mixed else array


def _check_alignment(index: pd.Index | None, other: pd.Index) -> None:
    """Refuse labels of X in another order: rows would be paired wrongly, and silently."""
    if index is None or len(index) != len(other) or index.equals(other):
        return
    if index.has_duplicates or other.has_duplicates:
        return
    if index.isin(other).all():
        raise TargetError(
            "X and y hold the same index labels in different orders, so pairing them row by row "
            "would be wrong. Align them first: y = y.loc[X.index]."
        )
