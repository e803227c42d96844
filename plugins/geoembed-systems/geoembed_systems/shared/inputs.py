"""What comes beside pictures, checked: places and scenes."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.coordinates import read_places
from geoembed.errors import CoordinateError, OptionError, TableError
from geoembed.scalars import is_number

__all__ = ["check_km", "check_places", "check_scenes", "counted"]


def counted(count: int, noun: str) -> str:
    """Say how many there are of something.

    Parameters
    ----------
    count : int
        How many.
    noun : str
        One of them; more of them end in s.

    Returns
    -------
    str
        Such as ``"1 place"`` and ``"2,000 places"``.

    Examples
    --------
    >>> counted(1, "place"), counted(2000, "place")
    ('1 place', '2,000 places')
    """
    return f"{count:,} {noun}" + "s" * (count != 1)


def check_places(points: Any, pictures: int) -> NDArray[np.float64]:
    """Read where pictures were taken.

    Parameters
    ----------
    points : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
        One place a picture, in order.
    pictures : int
        How many there are.

    Returns
    -------
    array of shape (n, 2), float64
        Longitude and latitude, degrees, WGS 84.

    Raises
    ------
    CoordinateError
        If places cannot be read, or there is not one a picture.

    Examples
    --------
    >>> check_places([[2.35, 48.86]], 1).tolist()
    [[2.35, 48.86]]
    """
    lonlat: NDArray[np.float64] = read_places(points).lonlat
    if len(lonlat) != pictures:
        raise CoordinateError(
            f"{counted(len(lonlat), 'place')} for {counted(pictures, 'picture')}: give one place "
            "a picture, in order."
        )
    return lonlat


def check_scenes(scenes: Any, pictures: int) -> NDArray[np.object_] | None:
    """Read what pictures show.

    Parameters
    ----------
    scenes : array of shape (n,), list, Series or None
        One label a picture, in order; None or NaN where it is not known.
    pictures : int
        How many there are.

    Returns
    -------
    array of shape (n,), object, or None
        None for a missing label; None for everything if nothing was given.

    Raises
    ------
    TableError
        If there is not one label a picture.

    Examples
    --------
    >>> check_scenes(["indoor", float("nan")], 2).tolist()
    ['indoor', None]
    """
    if scenes is None:
        return None
    if isinstance(scenes, str) or np.ndim(scenes) != 1:
        raise TableError("scenes= is not one-dimensional: give one label a picture, in order.")
    labels = np.array(pd.Series(list(scenes), dtype=object), dtype=object)
    if len(labels) != pictures:
        raise TableError(
            f"{counted(len(labels), 'scene')} for {counted(pictures, 'picture')}: give one label "
            "a picture, in order; None where it is not known."
        )
    labels[pd.isna(labels)] = None
    return labels


def check_km(name: str, value: Any) -> float:
    """Return a distance of at least 0, or raise OptionError.

    Parameters
    ----------
    name : str
        What it is called.
    value : object
        As given.

    Returns
    -------
    float
        Kilometres.

    Raises
    ------
    OptionError
        If it is something else.

    Examples
    --------
    >>> check_km("distinct_km", 25)
    25.0
    """
    if not is_number(value) or not 0 <= value < np.inf:
        raise OptionError(f"{name}={value!r} does not fit: give kilometres, 0 or more.")
    return float(value)
