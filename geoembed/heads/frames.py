"""Predictions beside the table they were made for."""

from collections.abc import Hashable
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyproj.exceptions import ProjError

from geoembed.coordinates import Places, read_places
from geoembed.errors import CoordinateError, OptionError
from geoembed.featurizer import LocationFeaturizer
from geoembed.partitions import Outline, is_lazy, map_frames
from geoembed.tables import columns_to_replace

__all__ = ["predict_frame", "read_as"]

# Every type that a head reads takes one of them; the day goes first, as periods take numbers amiss.
_VALUES: Final = (date(1970, 1, 1), 0, Decimal(0), "0")


def predict_frame(head: Any, X: Any, *, on_invalid: str, overwrite: bool) -> pd.DataFrame:
    """Predict at the places of a table; see `geoembed.heads.LocationHead.predict_frame`."""
    if on_invalid not in ("raise", "nan"):
        raise OptionError(f"on_invalid={on_invalid!r} is not offered: choose 'raise' or 'nan'.")
    if is_lazy(X):
        lazily: pd.DataFrame = _predict_lazily(head, X, on_invalid, overwrite)
        return lazily
    table = _as_table(head, X)
    valid = np.ones(len(table), dtype=np.bool_)
    if on_invalid == "nan":
        valid = read_as(head.featurizer_, table, "nan").valid
    columns = _columns(head, table if valid.all() else table[valid])
    if not valid.all():
        columns = _with_gaps(columns, valid)
        columns.index = table.index
    return _beside(table, columns, overwrite)


def _columns(head: Any, table: pd.DataFrame) -> pd.DataFrame:
    columns: pd.DataFrame = head.predict_columns(table)
    for name in columns.columns:
        if isinstance(columns[name].dtype, pd.CategoricalDtype):
            # Files and joins know texts better than categories.
            columns[name] = columns[name].astype(columns[name].cat.categories.dtype)
    return columns


def _with_gaps(columns: pd.DataFrame, valid: NDArray[np.bool_]) -> pd.DataFrame:
    """Spread rows over the valid ones; types that hold nothing missing become others that do."""
    # Truth values would become objects, of which neither masks nor the schema of a file are made.
    truths = [name for name in columns.columns if columns[name].dtype == np.bool_]
    columns = columns.astype(dict.fromkeys(truths, "boolean"))
    # By position: labels of rows may repeat.
    place = np.full(len(valid), -1)
    place[valid] = np.arange(len(columns))
    return columns.reset_index(drop=True).reindex(place)


def _beside(table: pd.DataFrame, columns: pd.DataFrame, overwrite: bool) -> pd.DataFrame:
    there = columns_to_replace(
        table.columns,
        columns.columns,
        overwrite=overwrite,
        otherwise="rename what is there",
    )
    joined: pd.DataFrame = pd.concat([table.drop(columns=there), columns], axis=1)
    joined.attrs = dict(table.attrs)
    return joined


def _predict_lazily(head: Any, X: Any, on_invalid: str, overwrite: bool) -> Any:
    """Predict partition by partition, where it is computed."""
    table = _as_table(head, X._meta)
    # What can be refused without a row is refused without one.
    read_as(head.featurizer_, table.iloc[:0], "nan")
    example = _example(table)
    columns = _columns(head, example[_usable(head.featurizer_, example)])
    if on_invalid == "nan":
        # Which partitions have invalid rows shows too late: all get the types that those need.
        columns = _with_gaps(columns.iloc[:0], np.zeros(1, dtype=np.bool_))
    columns = columns.iloc[:0].set_axis(table.index)
    empty = _beside(table, columns, overwrite)
    work = partial(
        _predict_part,
        head=head,
        on_invalid=on_invalid,
        overwrite=overwrite,
        empty=Outline(empty),
        types=columns.dtypes.to_dict(),
    )
    width = 8 * len(empty.columns)
    return map_frames(X, work, meta=empty, bytes_a_row=width, name="geoembed-predict")


def _predict_part(
    part: Any,
    *,
    head: Any,
    on_invalid: str,
    overwrite: bool,
    empty: Outline,
    types: dict[Hashable, Any],
) -> pd.DataFrame:
    if not len(part):
        # Models refuse to predict for nothing.
        rowless: pd.DataFrame = empty.frame
        return rowless
    predicted = predict_frame(head, part, on_invalid=on_invalid, overwrite=overwrite)
    other = {name: kind for name, kind in types.items() if predicted[name].dtype != kind}
    return predicted.astype(other) if other else predicted


def _usable(featurizer: Any, example: pd.DataFrame) -> NDArray[np.bool_]:
    try:
        return read_as(featurizer, example, "nan").valid
    except CoordinateError:
        # Texts for coordinates. The rows that are there say so, not one that is made up.
        return np.zeros(len(example), dtype=np.bool_)


def _example(table: pd.DataFrame) -> pd.DataFrame:
    """Make up a row for a table without any: predictions for it show which columns there will be.

    Dask would make up lines where places belong, and leave cells of nullable types empty.
    """
    # By position: names of columns may repeat.
    made = pd.DataFrame({at: _cell(table.iloc[:, at]) for at in range(table.shape[1])})
    made.columns = table.columns
    if isinstance(table, gpd.GeoDataFrame) and table.active_geometry_name in table.columns:
        made = gpd.GeoDataFrame(made, geometry=table.active_geometry_name)
    return made


def _cell(column: pd.Series) -> Any:
    """One value of the type of a column."""
    if isinstance(column, gpd.GeoSeries):
        return gpd.GeoSeries(_middle(column.crs))
    if isinstance(column.dtype, pd.CategoricalDtype):
        return pd.Series(column.dtype.categories[:1]).reindex([0]).astype(column.dtype)
    # Objects may be coordinates, and zero is one.
    for value in (0,) if column.dtype == object else _VALUES:
        try:
            return pd.Series([value]).astype(column.dtype)
        except (TypeError, ValueError, NotImplementedError):
            continue
    # Lists and the like, which no head reads.
    return pd.Series([None], dtype=object)


def _middle(crs: Any) -> Any:
    """A point in the middle of where a CRS is for, in this CRS: a place in any that has places."""
    if crs is None:
        return gpd.points_from_xy([0.0], [0.0])
    area = crs.area_of_use
    west, south, east, north = (0.0, 0.0, 0.0, 0.0) if area is None else area.bounds
    if east < west:
        # Around the antimeridian.
        east += 360.0
    try:
        return gpd.points_from_xy([(west + east) / 2], [(south + north) / 2], crs=4326).to_crs(crs)
    except ProjError:
        # Of no place on earth, in a column beside the places.
        return gpd.points_from_xy([0.0], [0.0], crs=crs)


def read_as(featurizer: Any, X: Any, on_invalid: str) -> Places:
    """Read X as a head's featurizer does.

    Parameters
    ----------
    featurizer : transformer
        Of places; a `LocationFeaturizer` says how it reads them.
    X : places
        As the head was given it.
    on_invalid : {"raise", "nan"}
        What becomes of rows without a usable place.

    Returns
    -------
    Places
        All rows of X.

    Raises
    ------
    CoordinateError
        If X cannot be read as places, or some are invalid and ``on_invalid="raise"``.

    Examples
    --------
    >>> read_as(LocationFeaturizer(), [[13.4, 52.5]], "raise").lonlat.tolist()
    [[13.4, 52.5]]
    """
    options = {}
    if isinstance(featurizer, LocationFeaturizer):
        options = {name: getattr(featurizer, name) for name in ("crs", "geometry", "samples")}
    return read_places(X, on_invalid=on_invalid, **options)


def _as_table(head: Any, X: Any) -> pd.DataFrame:
    if isinstance(X, gpd.GeoSeries):
        frame: pd.DataFrame = X.to_frame("geometry" if X.name is None else X.name)
        return frame
    if isinstance(X, pd.DataFrame):
        return X
    places = read_as(head.featurizer_, X, "nan")
    if places.owner is not None:
        # Shapes whose vectors are means over samples stay the shapes they are.
        shapes: Any = list(X)
    else:
        shapes = gpd.points_from_xy(*places.lonlat.T)
    made: pd.DataFrame = gpd.GeoDataFrame(geometry=shapes, index=places.index, crs="EPSG:4326")
    return made
