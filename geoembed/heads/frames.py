"""Predictions beside the table they were made for."""

from functools import partial
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from geoembed.coordinates import Places, read_places
from geoembed.errors import OptionError
from geoembed.featurizer import LocationFeaturizer
from geoembed.partitions import is_lazy, map_frames
from geoembed.tables import columns_to_replace

__all__ = ["predict_frame", "read_as"]


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
    used = table if valid.all() else table[valid]
    columns = head.predict_columns(used)
    for name in columns.columns:
        if isinstance(columns[name].dtype, pd.CategoricalDtype):
            # Files and joins know texts better than categories.
            columns[name] = columns[name].astype(columns[name].cat.categories.dtype)
    if not valid.all():
        # By position: labels of rows may repeat.
        place = np.full(len(table), -1)
        place[valid] = np.arange(len(used))
        columns = columns.reset_index(drop=True).reindex(place)
        columns.index = table.index
    there = columns_to_replace(table.columns, columns.columns, overwrite=overwrite)
    joined: pd.DataFrame = pd.concat([table.drop(columns=there), columns], axis=1)
    joined.attrs = dict(table.attrs)
    return joined


def _predict_lazily(head: Any, X: Any, on_invalid: str, overwrite: bool) -> Any:
    """Predict partition by partition, where it is computed."""
    example = predict_frame(head, _example(X._meta), on_invalid="nan", overwrite=overwrite)
    empty = example.iloc[:0]
    work = partial(
        _predict_part, head=head, on_invalid=on_invalid, overwrite=overwrite, empty=empty
    )
    width = 8 * len(empty.columns)
    return map_frames(X, work, meta=empty, bytes_a_row=width, name="geoembed-predict")


def _predict_part(
    part: Any, *, head: Any, on_invalid: str, overwrite: bool, empty: pd.DataFrame
) -> pd.DataFrame:
    if not len(part):
        # Models refuse to predict for nothing.
        return empty
    return predict_frame(head, part, on_invalid=on_invalid, overwrite=overwrite)


def _example(meta: Any) -> Any:
    """Make up a table of two rows: predictions for it show which columns there will be."""
    from dask.dataframe.utils import meta_nonempty

    made = meta_nonempty(meta)
    if isinstance(made, gpd.GeoDataFrame | gpd.GeoSeries):
        # Dask makes up lines. A point in the middle of where the CRS is for is a place in any.
        area = None if made.crs is None else made.crs.area_of_use
        west, south, east, north = (0.0, 0.0, 0.0, 0.0) if area is None else area.bounds
        middle = gpd.points_from_xy([(west + east) / 2], [(south + north) / 2], crs=4326)
        points = (middle if made.crs is None else middle.to_crs(made.crs)).take([0] * len(made))
        if isinstance(made, gpd.GeoSeries):
            return gpd.GeoSeries(points, index=made.index, name=made.name)
        made = made.set_geometry(gpd.GeoSeries(points, index=made.index, name=made.geometry.name))
    return made


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
