"""The ways to ask a fitted head: arrays, columns, tables; block by block."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples, check_is_fitted

from geoembed.heads import frames
from geoembed.heads.reading import check_in_memory

__all__ = ["Predicting"]

# Rows featurized at a time when predicting: 4,096 values a row are then 256 MB.
_BLOCK_ROWS: Final = 16_384


class Predicting:
    """What can be predicted from once it is fitted; a head says how it does for features."""

    @abstractmethod
    def _features(self, X: Any) -> NDArray[np.float32]:
        """Return the features (n, d) of places."""

    @abstractmethod
    def _predict_features(self, features: NDArray[np.float32]) -> NDArray[Any]:
        """Predict from features (m, d): what `predict` returns for these rows."""

    @abstractmethod
    def _columns_from(self, features: NDArray[np.float32]) -> dict[str, Any]:
        """Return name -> values (m,) of the columns that `predict_frame` adds."""

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict at places.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places; with the extra columns, if there are any.

        Returns
        -------
        array of shape (n,) or (n, t)
            One row a place, in order.

        Raises
        ------
        CoordinateError
            If X cannot be read as places, or some are invalid.
        TableError
            If X is a frame of dask, which only `predict_frame` takes.
        NotFittedError
            If the head has not been fitted.
        """
        return self._in_blocks(X, self._predict_features)

    def predict_columns(self, X: Any) -> pd.DataFrame:
        """Predict at places, with the uncertainty, as a table.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places; with the extra columns, if there are any.

        Returns
        -------
        DataFrame
            The columns that `predict_frame` adds, with the index of X; labels are categories.
        """
        check_is_fitted(self)
        index = X.index if isinstance(getattr(X, "index", None), pd.Index) else None
        blocks = self._blocks(X, self._table_from)
        columns: pd.DataFrame = blocks[0]
        if len(blocks) > 1:
            columns = pd.concat(blocks, ignore_index=True)
        columns.index = pd.RangeIndex(len(columns)) if index is None else index
        return columns

    def predict_frame(
        self, X: Any, *, on_invalid: str = "raise", overwrite: bool = False
    ) -> pd.DataFrame:
        """Predict at places: the table, with predictions and their uncertainty as new columns.

        Parameters
        ----------
        X : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places; with the extra columns, if there are any. It is not changed. A frame of dask
            or dask-geopandas is worked through lazily, partition by partition.
        on_invalid : {"raise", "nan"}
            What becomes of rows without a usable place: an error that names them, or rows whose
            predictions are missing: labels that are whole numbers become floats then, and truth
            values pandas' nullable ones; of a frame of dask all do, whatever rows there are.
        overwrite : bool
            Replace columns of the new names; else they are an error.

        Returns
        -------
        GeoDataFrame or DataFrame
            Of the kind of X, with its index, order, CRS and columns; a GeoDataFrame of points
            for geometries and arrays.

        Raises
        ------
        CoordinateError
            If X cannot be read as places, or some are invalid and ``on_invalid="raise"``.
        TableError
            If a column of a new name exists and `overwrite` is false.
        """
        check_is_fitted(self)
        return frames.predict_frame(self, X, on_invalid=on_invalid, overwrite=overwrite)

    def _table_from(self, features: NDArray[np.float32]) -> pd.DataFrame:
        if len(features):
            return pd.DataFrame(self._columns_from(features))
        # Models refuse no rows at all; names and types of the columns are those of any row.
        any_row = np.zeros((1, features.shape[1]), dtype=np.float32)
        return pd.DataFrame(self._columns_from(any_row)).iloc[:0]

    def _blocks(self, X: Any, work: Callable[[NDArray[np.float32]], Any]) -> list[Any]:
        """Featurize X block by block, so that memory does not grow with its vectors."""
        check_is_fitted(self)
        check_in_memory(X)
        rows = _num_samples(X) if hasattr(X, "__len__") or hasattr(X, "shape") else 0
        if rows <= _BLOCK_ROWS:
            return [work(self._features(X))]
        starts = range(0, rows, _BLOCK_ROWS)
        parts = (_safe_indexing(X, slice(start, start + _BLOCK_ROWS)) for start in starts)
        return [work(self._features(part)) for part in parts]

    def _in_blocks(self, X: Any, work: Callable[[NDArray[np.float32]], Any]) -> NDArray[Any]:
        blocks = self._blocks(X, work)
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def _column(self, name: str) -> str:
        """Return the name of the column that holds a target's predictions."""
        return f"predicted_{name}" if name else "predicted"
