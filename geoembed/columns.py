"""Columns of coordinates: finding them by name, reading them as numbers, naming their rows."""

import numbers
from collections.abc import Callable, Hashable, Iterable, Mapping
from decimal import Decimal
from textwrap import shorten
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.errors import CoordinateError

__all__ = ["COORDINATE_COLUMNS", "as_array", "find_coordinate_columns", "name_rows", "read_numbers"]

COORDINATE_COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"lon": ("lon", "longitude", "lng", "long"), "lat": ("lat", "latitude")}
)
"""Names under which coordinate columns are found, in any case, with or without blanks around."""

_SHOWN = 5


def find_coordinate_columns(columns: Iterable[Hashable]) -> tuple[str, str] | None:
    """Find the columns that hold longitude and latitude.

    Parameters
    ----------
    columns : iterable of hashable
        Column labels; those that are not strings are passed over.

    Returns
    -------
    (str, str) or None
        Names of the longitude and the latitude column as they are spelled in
        `columns`; None unless both are there. `COORDINATE_COLUMNS` lists the names.

    Raises
    ------
    CoordinateError
        If several columns could be the longitude, or the latitude; the message names them.

    Examples
    --------
    >>> find_coordinate_columns(["city", "Latitude", "LNG"])
    ('LNG', 'Latitude')
    >>> find_coordinate_columns(["city", "lat"]) is None
    True
    """
    names = [column for column in columns if isinstance(column, str)]
    found = {
        axis: [name for name in names if name.strip().casefold() in aliases]
        for axis, aliases in COORDINATE_COLUMNS.items()
    }
    for axis, candidates in zip(("longitude", "latitude"), found.values(), strict=True):
        if len(candidates) > 1:
            listed = ", ".join(map(repr, candidates))
            raise CoordinateError(
                f"Several columns could be the {axis}: {listed}. "
                "Name the two to use with lon= and lat=, or rename the others."
            )
    if not (found["lon"] and found["lat"]):
        return None
    return found["lon"][0], found["lat"][0]


def as_array(values: Any, what: str) -> NDArray[Any]:
    """Take values out of pandas, lists or tensors; masked arrays stay masked.

    Raises CoordinateError where NumPy cannot: ragged lists, tensors on a device.
    """
    dtype = getattr(values, "dtype", None)
    if isinstance(dtype, pd.api.extensions.ExtensionDtype):
        if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype):
            # Without a dtype, Arrow decimals and nullable integers would become objects.
            return np.asarray(pd.array(values).to_numpy(dtype=np.float64, na_value=np.nan))
        return np.asarray(values, dtype=object)
    try:
        array = np.asanyarray(values) if np.ma.isMaskedArray(values) else np.asarray(values)
        # NumPy makes text of a list's numbers when there is one text among them.
        mixed = array.dtype.kind in "SU" and isinstance(values, list | tuple)
        return np.asarray(values, dtype=object) if mixed else array
    except (TypeError, ValueError, RuntimeError) as error:
        raise CoordinateError(f"{what} cannot be read as an array of numbers: {error}") from error


def read_numbers(values: Any, what: str, index: pd.Index | None = None) -> NDArray[np.float64]:
    """Read real numbers of any kind as float64, with NaN where there is none.

    Parameters
    ----------
    values : array_like
        Numbers in a list, an array (masked values are missing), a pandas Series or
        array of any dtype (nullable and Arrow ones too), or as objects (Decimal,
        Fraction, None, pandas.NA).
    what : str
        What they are, as the start of a sentence: ``"Column 'lat'"``.
    index : pandas.Index, optional
        Labels that errors call rows by; positions when left out.

    Returns
    -------
    ndarray of float64
        In the shape of `values`.

    Raises
    ------
    CoordinateError
        If there is text, a boolean, a complex number, a date or any other thing that is
        not a real number; the message names the first five rows and what they hold.

    Examples
    --------
    >>> read_numbers([1, None, 2.5], "lon=").tolist()
    [1.0, nan, 2.5]
    """
    array = as_array(values, what)
    if array.dtype.kind in "fiu":
        return np.ma.filled(array.astype(np.float64), np.nan)
    if array.dtype.kind == "V":
        raise CoordinateError(
            f"{what} is an array of records. Pass its fields as lon=array['lon'], lat=array['lat']."
        )
    # Text, booleans, complex numbers, dates: as objects they name themselves in the error.
    return _read_objects(_as_objects(array), what, index)


def name_rows(
    index: pd.Index, rows: NDArray[np.bool_], note: Callable[[int], object] | None = None
) -> str:
    """Name the first five rows by index label, each with a note, and count the rest.

    Parameters
    ----------
    index : pandas.Index, length n
        Labels of all rows.
    rows : ndarray of bool, shape (n,)
        True for the rows to name.
    note : callable, optional
        Called with a row's position; what it returns is put in brackets behind the label.

    Returns
    -------
    str
        As a part of a sentence: ``"rows 3, 7, 8, 9, 12 and 40 more"``.

    Examples
    --------
    >>> name_rows(pd.Index(["a", "b", "c"]), np.array([True, False, True]))
    "rows 'a', 'c'"
    """
    positions = np.flatnonzero(rows)
    shown = positions[:_SHOWN]
    # tolist() turns NumPy scalars into the plain values whose repr a reader expects.
    labels = [repr(label) for label in index[shown].tolist()]
    if note is not None:
        labels = [f"{label} ({note(int(at))})" for label, at in zip(labels, shown, strict=True)]
    more = f" and {len(positions) - _SHOWN:,} more" if len(positions) > _SHOWN else ""
    return f"row{'s' if len(positions) > 1 else ''} {', '.join(labels)}{more}"


def _as_objects(array: NDArray[Any]) -> NDArray[Any]:
    """Turn an array into objects, with None where a value is masked."""
    # pandas keeps dates dates, where NumPy makes whole numbers of nanoseconds.
    flat = pd.Series(np.ma.getdata(array).reshape(-1)).astype(object).to_numpy(copy=True)
    flat[np.ma.getmaskarray(array).reshape(-1)] = None
    return np.asarray(flat.reshape(array.shape))


def _read_objects(objects: NDArray[Any], what: str, index: pd.Index | None) -> NDArray[np.float64]:
    missing = np.asarray(pd.isna(objects))
    real = {kind: _is_real(kind) for kind in set(map(type, objects[~missing].flat))}
    if not all(real.values()):
        flat = objects.reshape(-1)
        wrong = np.array([not real.get(type(value), True) for value in flat]) & ~missing.reshape(-1)
        index = pd.RangeIndex(objects.size) if index is None else index
        text = any(issubclass(kind, str | bytes) for kind in real)
        kinds = ", ".join(sorted(kind.__name__ for kind, good in real.items() if not good))
        raise CoordinateError(
            f"{what} holds {'text' if text else kinds} where numbers belong: "
            f"{name_rows(index, wrong, lambda at: shorten(repr(flat[at]), 40))}. Convert it first"
            + (", for example with pandas.to_numeric(..., errors='coerce')." if text else ".")
        )
    try:
        return np.where(missing, np.nan, objects).astype(np.float64)
    except OverflowError as error:
        raise CoordinateError(f"{what} holds a number too large to be one: {error}.") from error


def _is_real(kind: type) -> bool:
    return issubclass(kind, numbers.Real | Decimal) and not issubclass(kind, bool)
