"""Tabular columns that join the embedding: ``extra_columns=`` of a head."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from geoembed.columns import name_rows
from geoembed.errors import OptionError, TableError, unknown_name

__all__ = ["check_extra_columns", "encode_extras", "fit_extras"]


def check_extra_columns(names: Any) -> list[str]:
    """Return the parameter ``extra_columns`` as a list of names.

    Parameters
    ----------
    names : None, str or sequence of str
        What was given.

    Returns
    -------
    list of str
        Empty for None.

    Raises
    ------
    OptionError
        If it is neither, or names a column twice.

    Examples
    --------
    >>> check_extra_columns("elevation")
    ['elevation']
    """
    if names is None:
        return []
    listed = [names] if isinstance(names, str) else list(names)
    if not all(isinstance(name, str) for name in listed) or len(set(listed)) < len(listed):
        raise OptionError(
            f"extra_columns={names!r} is no list of different column names of X, "
            "such as ['elevation']."
        )
    return listed


def fit_extras(X: Any, names: Sequence[str]) -> ColumnTransformer:
    """Learn how to turn columns of X into numbers.

    Numbers are brought to mean 0 and standard deviation 1; text, booleans and categories become
    one column a value, where values never seen in training get zeros.

    Parameters
    ----------
    X : DataFrame
        With those columns.
    names : sequence of str
        At least one.

    Returns
    -------
    sklearn.compose.ColumnTransformer
        Fitted.

    Raises
    ------
    TableError
        If X is no frame, a column is not there, holds missing values, or text among numbers.

    Examples
    --------
    >>> frame = pd.DataFrame({"height": [0.0, 2.0], "soil": ["clay", "sand"]})
    >>> fit_extras(frame, ["height", "soil"]).transform(frame).tolist()
    [[-1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    """
    columns = _take(X, names)
    numeric = [name for name in names if _is_number(columns[name])]
    other = [name for name in names if name not in numeric]
    encoder = ColumnTransformer(
        [
            ("numbers", StandardScaler(), numeric),
            (
                "categories",
                OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32),
                other,
            ),
        ],
        sparse_threshold=0.0,
        verbose_feature_names_out=False,
    )
    try:
        return encoder.fit(columns)
    except TypeError as error:
        raise TableError(
            f"Columns {', '.join(map(repr, other))} cannot be read as categories: {error}. Values "
            "of a column must be of one kind."
        ) from error


def encode_extras(encoder: ColumnTransformer, X: Any, names: Sequence[str]) -> NDArray[np.float32]:
    """Turn columns of X into numbers, as `fit_extras` has learned it.

    Parameters
    ----------
    encoder : sklearn.compose.ColumnTransformer
        From `fit_extras`.
    X : DataFrame
        With the same columns, of the same kinds.
    names : sequence of str
        The columns.

    Returns
    -------
    ndarray of shape (n, k), float32
        One row a row of X.

    Raises
    ------
    TableError
        If X is no frame, a column is not there or of another kind, or holds missing values.

    Examples
    --------
    >>> frame = pd.DataFrame({"height": [0.0, 2.0]})
    >>> encode_extras(fit_extras(frame, ["height"]), frame, ["height"]).tolist()
    [[-1.0], [1.0]]
    """
    columns = _take(X, names)
    numeric = encoder.transformers_[0][2]
    for name in names:
        if _is_number(columns[name]) != (name in numeric):
            was = "numbers" if name in numeric else "text or categories"
            raise TableError(
                f"The column {name!r} held {was} when the head was fitted and holds "
                f"{columns[name].dtype} now."
            )
    if columns.empty:
        return np.empty((0, len(encoder.get_feature_names_out())), dtype=np.float32)
    return np.asarray(encoder.transform(columns), dtype=np.float32)


def _take(X: Any, names: Sequence[str]) -> pd.DataFrame:
    if not isinstance(X, pd.DataFrame):
        raise TableError(
            f"extra_columns names columns of X ({', '.join(map(repr, names))}), but X is "
            f"{type(X).__name__}: give a GeoDataFrame that has them."
        )
    for name in names:
        if name not in X.columns:
            raise TableError(
                f"extra_columns: {unknown_name('column', name, [str(c) for c in X.columns])}"
            )
    columns = pd.DataFrame({name: X[name] for name in names}, index=X.index)
    for name in names:
        values = columns[name]
        missing = values.isna().to_numpy()
        if _is_number(values):
            columns[name] = values.to_numpy(dtype=np.float64, na_value=np.nan)
            missing = ~np.isfinite(columns[name].to_numpy())
        else:
            columns[name] = values.astype(object)
        if missing.any():
            raise TableError(
                f"{missing.sum():,} of {len(missing):,} rows of the extra column {name!r} are "
                f"missing or not finite: {name_rows(X.index, missing)}. Fill them, for example "
                f"with the median, or leave the rows or the column out."
            )
    return columns


def _is_number(values: pd.Series) -> bool:
    return bool(
        pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    )
