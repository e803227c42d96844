"""What the arguments of `read_places` hold: numbers or geometries, their rows and their names.

Nothing is converted or judged here; that is what `geoembed.coordinates` does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from geopandas.array import GeometryArray, GeometryDtype
from numpy.typing import NDArray
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from geoembed.columns import (
    COORDINATE_COLUMNS,
    as_array,
    find_coordinate_columns,
    name_rows,
    read_numbers,
)
from geoembed.errors import CoordinateError

__all__ = ["Found", "find_input"]


@dataclass(frozen=True, eq=False)
class Found:
    """Coordinates or geometries as they were given.

    Parameters
    ----------
    index : pandas.Index, length n
        Labels of the rows.
    what : str
        Where the coordinates are, for messages: ``"column 'lat'"``.
    source : tuple of str
        Names of the columns they were read from.
    lonlat : ndarray of float64, shape (n, 2), or None
        In the CRS of the input, easting or longitude first; NaN where missing.
    geoms : ndarray of object, shape (n,), or None
        Shapely geometries or None; exactly one of `lonlat` and `geoms` is given.
    crs : pyproj.CRS or None
        The CRS that the input carries.
    carries_crs : bool
        Whether inputs of this kind can carry a CRS (geopandas objects), so that one
        without is an oversight.
    """

    index: pd.Index
    what: str
    source: tuple[str, ...] = ()
    lonlat: NDArray[np.float64] | None = None
    geoms: NDArray[np.object_] | None = None
    crs: CRS | None = None
    carries_crs: bool = False


def find_input(data: Any, lon: Any, lat: Any) -> Found:
    """Find coordinates or geometries in the arguments of `read_places`, which see."""
    if data is None and lon is None and lat is None:
        raise CoordinateError("There is nothing to read: give data, or lon= and lat=.")
    if (lon is None) != (lat is None):
        missing, given = ("lon", "lat") if lon is None else ("lat", "lon")
        raise CoordinateError(f"{given}= was given without {missing}=: give both.")
    if data is None:
        if isinstance(lon, str) or isinstance(lat, str):
            raise CoordinateError(
                f"lon={lon!r} and lat={lat!r} name columns, but there is no data to look into."
            )
        return _from_arrays(lon, lat)
    if lon is not None:
        return _from_named_columns(data, lon, lat)
    if isinstance(data, gpd.GeoDataFrame) and data.active_geometry_name in data.columns:
        return _from_geoseries(data.geometry)
    if isinstance(data, pd.DataFrame):
        return _from_frame(data)
    if isinstance(data, GeometryArray) or isinstance(getattr(data, "dtype", None), GeometryDtype):
        return _from_geoseries(gpd.GeoSeries(data))
    if isinstance(data, Mapping):
        return _from_mapping(data)
    return _from_sequence(data)


def _from_geoseries(series: Any) -> Found:
    name = "geometry" if series.name is None else str(series.name)
    return Found(
        index=series.index,
        what=f"column {name!r}",
        source=(name,),
        geoms=np.asarray(series.array, dtype=object),
        crs=series.crs,
        carries_crs=True,
    )


def _from_frame(frame: pd.DataFrame) -> Found:
    named = find_coordinate_columns(frame.columns)
    if named is not None:
        return _from_named_columns(frame, *named)
    geometric = [
        name
        for name, dtype in zip(frame.columns, frame.dtypes, strict=True)
        if isinstance(dtype, GeometryDtype)
    ]
    if len(geometric) == 1 and isinstance(geometric[0], str):
        return _from_geoseries(gpd.GeoSeries(frame[geometric[0]]))
    raise _no_coordinates(
        frame, [*geometric, *(c for c in frame.columns if _is_geometric(frame, c))]
    )


def _is_geometric(frame: pd.DataFrame, column: Any) -> bool:
    """Tell whether a column of objects starts with a geometry."""
    values = frame[column]
    if not isinstance(values, pd.Series) or values.dtype != object:
        return False
    first = values.dropna().head(1)
    return len(first) == 1 and isinstance(first.iloc[0], BaseGeometry)


def _no_coordinates(frame: pd.DataFrame, geometric: list[Any]) -> CoordinateError:
    if geometric:
        return CoordinateError(
            f"The frame keeps geometries in column {geometric[0]!r}, but has no active geometry "
            "and no coordinate columns. Make it a GeoDataFrame: geopandas.GeoDataFrame(frame, "
            f"geometry={geometric[0]!r}, crs='EPSG:4326'), with the CRS that applies."
        )
    columns = [str(column) for column in frame.columns]
    listed = ", ".join(map(repr, columns[:10])) + (", ..." if len(columns) > 10 else "")
    return CoordinateError(
        f"No pair of coordinate columns was found. Looked for {_aliases()} in any case, found "
        f"{listed or 'no columns at all'}. Name the columns: lon='...', lat='...'."
    )


def _aliases() -> str:
    return " and ".join("/".join(names) for names in COORDINATE_COLUMNS.values())


def _from_named_columns(data: Any, lon: Any, lat: Any) -> Found:
    if not isinstance(data, pd.DataFrame | Mapping):
        raise CoordinateError(
            f"lon= and lat= can only name columns of a table, and data is {_a(data)}. "
            "Give either data, or lon= and lat=."
        )
    if not (isinstance(lon, str) and isinstance(lat, str)):
        raise CoordinateError(
            "Together with data, lon= and lat= must be names of its columns. "
            "Give either data, or lon= and lat= as arrays."
        )
    if lon == lat:
        raise CoordinateError(f"lon= and lat= both name the column {lon!r}.")
    columns = list(data) if isinstance(data, Mapping) else list(data.columns)
    for name in (lon, lat):
        if columns.count(name) != 1:
            found = "no column" if name not in columns else f"{columns.count(name)} columns"
            listed = ", ".join(map(repr, columns[:10])) + (", ..." if len(columns) > 10 else "")
            raise CoordinateError(f"There is {found} named {name!r}. Columns: {listed}.")
    return _from_arrays(data[lon], data[lat], names=(lon, lat))


def _from_mapping(data: Mapping[Any, Any]) -> Found:
    named = find_coordinate_columns(data)
    if named is None:
        raise CoordinateError(
            f"The mapping has no pair of coordinates. Looked for {_aliases()} in any case, found "
            f"{', '.join(map(repr, list(data)[:10])) or 'nothing'}."
        )
    return _from_named_columns(data, *named)


def _from_arrays(lon: Any, lat: Any, names: tuple[str, str] | None = None) -> Found:
    whats = ("lon=", "lat=") if names is None else (f"Column {names[0]!r}", f"Column {names[1]!r}")
    index = _common_index(lon, lat)
    columns = []
    for values, what in zip((lon, lat), whats, strict=True):
        column = read_numbers(values, what, values.index if _is_series(values) else None)
        if column.ndim > 1:
            raise CoordinateError(
                f"{what} must be one-dimensional, got the shape {column.shape}. "
                "Flatten both, for example with .ravel()."
            )
        columns.append(np.atleast_1d(column))
    if len(columns[0]) != len(columns[1]):
        raise CoordinateError(
            f"{whats[0]} has {len(columns[0]):,} values and {whats[1]} {len(columns[1]):,}: "
            "they must be equally long."
        )
    return Found(
        index=pd.RangeIndex(len(columns[0])) if index is None else index,
        what=whats[1][0].lower() + whats[1][1:],
        source=() if names is None else names,
        lonlat=np.stack(columns, axis=1),
    )


def _common_index(lon: Any, lat: Any) -> pd.Index | None:
    """Labels that the two bring along, if any."""
    indexes = [values.index for values in (lon, lat) if _is_series(values)]
    equal = indexes[0].equals(indexes[-1]) if indexes else True
    if not equal and len(indexes[0]) == len(indexes[1]):
        raise CoordinateError(
            "lon= and lat= are Series with different indexes. Align them first, or pass their "
            ".to_numpy() if they belong together in this order."
        )
    return indexes[0] if indexes else None


def _from_sequence(data: Any) -> Found:
    """Read one geometry, a sequence of geometries, or pairs of numbers."""
    if isinstance(data, str | bytes | PathLike):
        raise CoordinateError(
            f"{str(data)!r} is not a table. Read a file first: geopandas.read_file(...)."
        )
    if isinstance(data, BaseGeometry):
        return _from_geometries([data])
    if isinstance(data, np.ndarray) and data.dtype == object and data.shape[1:] == (1,):
        data = data[:, 0]  # what np.asarray makes of a GeoDataFrame with one column
    if isinstance(data, list | tuple | pd.Series) or (
        isinstance(data, np.ndarray) and data.dtype == object and data.ndim == 1
    ):
        first = next((item for item in data if not _is_missing(item)), None)
        # Numbers that are all missing are NaN; None and nothing else is lost geometries.
        if isinstance(first, BaseGeometry) or (first is None and any(i is None for i in data)):
            return _from_geometries(data)
    return _from_pairs(data)


def _is_series(values: Any) -> bool:
    return isinstance(values, pd.Series)


def _is_missing(item: Any) -> bool:
    return item is None or item is pd.NA or (isinstance(item, float) and np.isnan(item))


def _from_geometries(data: Any) -> Found:
    geoms = np.empty(len(data), dtype=object)
    geoms[:] = [None if _is_missing(item) else item for item in data]
    index = data.index if _is_series(data) else pd.RangeIndex(len(geoms))
    wrong = ~(shapely.is_geometry(geoms) | shapely.is_missing(geoms))
    if wrong.any():
        kinds = name_rows(index, wrong, lambda at: type(geoms[at]).__name__)
        raise CoordinateError(f"Among the geometries there are other things: {kinds}.")
    return Found(index=index, what="the geometries", geoms=geoms)


def _from_pairs(data: Any) -> Found:
    array = as_array(data, "The array of places")
    if array.ndim == 0 and array.dtype == object:
        raise CoordinateError(
            f"Places cannot be read from {_a(data)}. Give a GeoDataFrame, GeoSeries, shapely "
            "geometries, a DataFrame with coordinate columns, an array of shape (n, 2) in the "
            "order (lon, lat), or lon= and lat=."
        )
    if array.shape == (0,):
        array = array.reshape(0, 2)
    if array.ndim != 2 or array.shape[1] != 2:
        raise CoordinateError(
            f"Places must have the shape (n, 2), got {array.shape}. {_remedy(array.shape)}"
        )
    whats = ("The first column (longitude)", "The second column (latitude)")
    columns = [read_numbers(array[:, at], what) for at, what in enumerate(whats)]
    index = data.index if isinstance(data, pd.Series) else pd.RangeIndex(len(array))
    return Found(index=index, what="the second column", lonlat=np.stack(columns, axis=1))


def _remedy(shape: tuple[int, ...]) -> str:
    if shape == (2,):
        return "One place is [[lon, lat]], of shape (1, 2)."
    if len(shape) == 2 and shape[1] == 3:
        return "Leave the third column out: data[:, :2]."
    if len(shape) == 2 and shape[0] == 2:
        return "Transpose it: data.T."
    return "Each row is one place: longitude, latitude."


def _a(data: Any) -> str:
    return f"an object of type {type(data).__name__}"
