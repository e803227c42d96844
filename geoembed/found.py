"""The tables of answers and of their regions, checked: what every map of them starts from."""

from collections.abc import Collection, Mapping
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd

from geoembed.crs import WGS84
from geoembed.errors import CoordinateError, OptionError, TableError
from geoembed.geodesy import wrap_longitude

__all__ = ["check_found", "check_pictures", "check_regions"]

_NEEDED: Final = ("query", "rank", "score", "lon", "lat")
_OPTIONAL_NUMBERS: Final = ("place_km", "radius_50_km", "radius_90_km")
_OPTIONAL_TEXTS: Final = ("place", "error")
_OPTIONAL_FLAGS: Final = ("calibrated", "no_signal")


def check_found(found: pd.DataFrame) -> pd.DataFrame:
    """Check a table of answers and give its columns one form.

    Parameters
    ----------
    found : DataFrame
        As `geoembed.GeoLocalizer.localize` returns it: the columns ``query``, ``rank`` (missing
        where there is no place), ``score``, ``lon`` and ``lat`` (degrees, WGS 84), and if there
        are any ``place``, ``place_km``, ``radius_50_km``, ``radius_90_km``, ``calibrated``,
        ``no_signal`` and ``error``.

    Returns
    -------
    DataFrame
        Those columns and no other, with a fresh index: ``query`` text, ``rank`` float64 (NaN where
        there is no place), longitudes in [-180, 180], numbers float64, ``calibrated`` and
        ``no_signal`` True, False or None where nothing is said, ``place`` text or None, ``error``
        text, empty for a candidate and never empty for a row without a place.

    Raises
    ------
    TableError
        If a column is missing or holds no numbers, there is no row, or a candidate has no finite
        place and score.
    CoordinateError
        If a candidate's latitude is outside [-90, 90].

    Examples
    --------
    >>> row = {"query": "a", "rank": 1, "score": 0.25, "lon": 190.0, "lat": 48.86}
    >>> checked = check_found(pd.DataFrame([row]))
    >>> checked[["lon", "place", "error"]].values.tolist()
    [[-170.0, None, '']]
    """
    missing = [column for column in _NEEDED if column not in found.columns]
    if missing:
        raise TableError(
            f"The table of answers has no column {', '.join(map(repr, missing))}. Give the table "
            "that GeoLocalizer.localize returns."
        )
    if not len(found):
        raise TableError("The table of answers has no row: there is nothing to show.")
    names = [*_NEEDED[1:], *_OPTIONAL_NUMBERS]
    numbers = {name: _numbers(found, name) for name in names}
    placed = ~np.isnan(numbers["rank"])
    _check_places(found, placed, numbers)
    numbers["lon"] = wrap_longitude(numbers["lon"])
    texts = {name: _texts(found, name) for name in _OPTIONAL_TEXTS}
    texts["error"] = [
        "" if has_place else said or "no place was found"
        for has_place, said in zip(placed, texts["error"], strict=True)
    ]
    queries = [str(name) for name in found["query"]]
    columns = {name: pd.Series(text, dtype=object) for name, text in texts.items()}
    columns |= {name: _flags(found, name) for name in _OPTIONAL_FLAGS}
    return pd.DataFrame({"query": pd.Series(queries, dtype=object), **numbers, **columns})


def check_regions(regions: gpd.GeoDataFrame | None, known: Collection[str]) -> gpd.GeoDataFrame:
    """Check credible regions, and bring them to degrees.

    Parameters
    ----------
    regions : GeoDataFrame, optional
        The column ``query``, ``share`` (in (0, 1), such as 0.5 and 0.9; ``mass`` if there is none)
        and polygons, in any CRS.
    known : collection of str
        Names of all queries.

    Returns
    -------
    GeoDataFrame
        EPSG:4326, ``query`` as text, ``share`` and the shapes that there are, the largest share
        first.

    Raises
    ------
    TableError
        If it is no GeoDataFrame, a column is missing, a share is none, or a geometry no polygon.
    OptionError
        If a query is none of the answers'.
    CoordinateError
        If there is no CRS, or a shape reaches beyond a pole.

    Examples
    --------
    >>> len(check_regions(None, {"a"}))
    0
    """
    if regions is None:
        empty = {"query": pd.Series(dtype=object), "share": pd.Series(dtype=np.float64)}
        return gpd.GeoDataFrame(empty, geometry=[], crs=WGS84)
    columns = set(getattr(regions, "columns", ()))
    # Cells are taken whole, so what a region holds is a little more than what was asked for.
    column = "share" if "share" in columns else "mass"
    if not isinstance(regions, gpd.GeoDataFrame) or not {"query", column} <= columns:
        raise TableError(
            "regions= must be a GeoDataFrame with the columns 'query', 'share' and a geometry: got "
            f"{type(regions).__name__} with {', '.join(map(str, columns)) or 'none'}."
        )
    names = [str(name) for name in regions["query"]]
    strange = [name for name in names if name not in known]
    if strange:
        raise OptionError(f"regions= has {strange[0]!r:.80}, which is no query of the answers.")
    share = pd.to_numeric(regions[column], errors="coerce").to_numpy(dtype=np.float64)
    if not ((share > 0) & (share < 1)).all():
        raise TableError(f"regions=: {column!r} lies between 0 and 1, such as 0.5 and 0.9.")
    kinds = set(regions.geometry.geom_type.dropna()) - {"Polygon", "MultiPolygon"}
    if kinds:
        raise TableError(f"regions= holds {', '.join(sorted(kinds))}: only polygons are regions.")
    if regions.crs is None:
        raise CoordinateError("regions= has no CRS: set it with set_crs('EPSG:4326').")
    degrees = regions if regions.crs == WGS84 else regions.to_crs(WGS84)
    _, south, _, north = degrees.total_bounds
    if south < -90 or north > 90:
        raise CoordinateError(f"regions= reach latitudes {south:g} to {north:g}: beyond a pole.")
    table = {"query": pd.Series(names, dtype=object), "share": share}
    checked = gpd.GeoDataFrame(table, geometry=degrees.geometry.array, crs=WGS84)
    shaped = ~(checked.geometry.isna() | checked.geometry.is_empty)
    return checked[shaped].sort_values("share", ascending=False, kind="stable", ignore_index=True)


def check_pictures(pictures: Mapping[str, Any] | None, known: Collection[str]) -> dict[str, Any]:
    """Check that pictures belong to queries and can be shown.

    Parameters
    ----------
    pictures : mapping of str to PIL.Image.Image or None, optional
        Picture of each query; None where there is none.
    known : collection of str
        Names of all queries.

    Returns
    -------
    dict of str to PIL.Image.Image
        Those that there are.

    Raises
    ------
    OptionError
        If a name is no query's, or a value no PIL picture.

    Examples
    --------
    >>> check_pictures({"a": None}, {"a"})
    {}
    """
    for name, picture in (pictures or {}).items():
        if name not in known:
            raise OptionError(
                f"pictures= has {name!r:.80}, which is no query of the table: its keys are the "
                "values of the column 'query'."
            )
        # Not isinstance: a table without pictures is drawn without Pillow.
        if picture is not None and not hasattr(picture, "thumbnail"):
            raise OptionError(
                f"pictures[{name!r:.80}] is {type(picture).__name__}: give PIL pictures, such as "
                "PIL.Image.open() returns."
            )
    return {name: picture for name, picture in (pictures or {}).items() if picture is not None}


def _check_places(
    found: pd.DataFrame, placed: np.ndarray, numbers: Mapping[str, np.ndarray]
) -> None:
    finite = np.isfinite(numbers["lon"] + numbers["lat"] + numbers["score"])
    bad = np.flatnonzero(placed & ~finite)
    if len(bad):
        raise TableError(
            f"{len(bad):,} of {int(placed.sum()):,} candidates have no finite lon, lat and score, "
            f"the first at row {found.index.tolist()[bad[0]]!r}. Rows without a place have no rank."
        )
    outside = np.flatnonzero(placed & (np.abs(numbers["lat"]) > 90))
    if len(outside):
        raise CoordinateError(
            f"Latitudes must lie in [-90, 90]: {len(outside):,} do not, the first at row "
            f"{found.index.tolist()[outside[0]]!r} ({float(numbers['lat'][outside[0]])!r}). The "
            "order is lon, lat."
        )


def _numbers(found: pd.DataFrame, column: str) -> np.ndarray:
    if column not in found.columns:
        return np.full(len(found), np.nan)
    try:
        return found[column].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise TableError(f"The column {column!r} does not hold numbers: {error}.") from error


def _texts(found: pd.DataFrame, column: str) -> list[str | None]:
    if column not in found.columns:
        return [None] * len(found)
    return [None if pd.isna(value) or value == "" else str(value) for value in found[column]]


def _flags(found: pd.DataFrame, column: str) -> "pd.Series[Any]":
    flags = found[column] if column in found.columns else [None] * len(found)
    return pd.Series([None if pd.isna(flag) else bool(flag) for flag in flags], dtype=object)
