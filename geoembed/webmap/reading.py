"""From the table of answers to what the page shows: queries, candidates, regions."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from geoembed.crs import WGS84
from geoembed.errors import CoordinateError, OptionError, TableError
from geoembed.geodesy import wrap_longitude
from geoembed.webmap.outlines import encode_polygon

__all__ = ["pack_queries", "pack_regions"]

_NEEDED: Final = ("query", "rank", "score", "lon", "lat")
_KILOMETRES: Final = ("place_km", "radius_50_km", "radius_90_km")
# Degrees; about 110 m, finer than regions are computed.
STEP: Final = 0.001
# Straight lines of the table are straight in degrees; those of a globe are great circles. This
# many degrees apart, the two cannot be told apart.
_DENSE: Final = 2.0
# A polygon wider than this is cut, so that no part covers half the globe, where inside and
# outside are a matter of opinion. The meridians are ones that no region's edge lies on.
_WIDE: Final = 120.0
_CUTS: Final = (-180.0, -89.937, 0.063, 90.063, 180.0)


def pack_queries(found: pd.DataFrame, pictures: Mapping[str, str]) -> list[dict[str, Any]]:
    """Collect the candidates of every query, in the table's order.

    Parameters
    ----------
    found : DataFrame
        As `geoembed.GeoLocalizer.localize` returns it.
    pictures : mapping of str to str
        Data URI of a query's picture.

    Returns
    -------
    list of dict
        ``name``, ``error``, ``candidates`` (rank, lon, lat, score, place, place_km,
        radius_50_km, radius_90_km; None for what is missing), and ``picture`` where there is one.

    Raises
    ------
    TableError
        If a column is missing, there is no row, or a candidate has no place or score.
    CoordinateError
        If a latitude is outside [-90, 90].

    Examples
    --------
    >>> row = {"query": "a", "rank": 1, "score": 0.25, "lon": 2.35, "lat": 48.86}
    >>> pack_queries(pd.DataFrame([row]), {})[0]["candidates"]
    [[1, 2.35, 48.86, 0.25, None, None, None, None]]
    """
    missing = [column for column in _NEEDED if column not in found.columns]
    if missing:
        raise TableError(
            f"The table of answers has no column {', '.join(map(repr, missing))}. Give the table "
            "that GeoLocalizer.localize returns."
        )
    if not len(found):
        raise TableError("The table of answers has no row: there is nothing to show.")
    placed = found["rank"].notna().to_numpy()
    _check_places(found, placed)
    names = np.array([str(name) for name in found["query"]], dtype=object)
    ranks = found["rank"].astype("Int64").fillna(0).to_numpy(dtype=np.int64)
    # Two queries of one name stand side by side where ranks begin again.
    begins = (names != np.roll(names, 1)) | (ranks <= np.roll(ranks, 1))
    begins[0] = True
    columns = [
        ranks.tolist(),
        wrap_longitude(_numbers(found, "lon")).round(6).tolist(),
        _numbers(found, "lat").round(6).tolist(),
        _numbers(found, "score").tolist(),
        _texts(found, "place"),
        *(_optional_numbers(found, column) for column in _KILOMETRES),
    ]
    rows = [list(row) for row in zip(*columns, strict=True)]
    errors = _texts(found, "error")
    packed: list[dict[str, Any]] = []
    for row, name in enumerate(names):
        if begins[row]:
            packed.append({"name": name, "error": "", "candidates": []})
            if name in pictures:
                packed[-1]["picture"] = pictures[name]
        if placed[row]:
            packed[-1]["candidates"].append(rows[row])
        else:
            packed[-1]["error"] = errors[row] or "no place was found"
    return packed


def pack_regions(
    regions: gpd.GeoDataFrame | None, known: set[str]
) -> dict[str, list[tuple[float, list[list[str]]]]]:
    """Encode the credible regions of every query, the largest share first.

    Parameters
    ----------
    regions : GeoDataFrame, optional
        Columns ``query``, ``mass`` (share in (0, 1)) and polygons.
    known : set of str
        Names of all queries.

    Returns
    -------
    dict
        Query to pairs of mass and encoded polygons.

    Raises
    ------
    TableError
        If a column is missing, a mass is no share, or a geometry is no polygon.
    OptionError
        If a query is none of the answers'.
    CoordinateError
        If there is no CRS, or a latitude is outside [-90, 90].

    Examples
    --------
    >>> box = gpd.GeoDataFrame(
    ...     {"query": ["a"], "mass": [0.5]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326
    ... )
    >>> [(mass, len(polygons)) for mass, polygons in pack_regions(box, {"a"})["a"]]
    [(0.5, 1)]
    """
    if regions is None or not len(regions):
        return {}
    degrees = _check_regions(regions, known)
    packed: dict[str, list[tuple[float, list[list[str]]]]] = {}
    table = degrees.sort_values("mass", ascending=False, kind="stable")
    for name, mass, shape in zip(table["query"], table["mass"], table.geometry, strict=True):
        if shape is None or shape.is_empty:
            continue
        polygons = [encode_polygon(part, STEP) for part in _parts(shape)]
        packed.setdefault(str(name), []).append((float(mass), [p for p in polygons if p]))
    return packed


def _check_places(found: pd.DataFrame, placed: np.ndarray) -> None:
    lonlat = np.stack([_numbers(found, "lon"), _numbers(found, "lat")], axis=1)
    numbers = np.column_stack([lonlat, _numbers(found, "score")])
    bad = np.flatnonzero(placed & ~np.isfinite(numbers).all(axis=1))
    if len(bad):
        raise TableError(
            f"{len(bad):,} of {int(placed.sum()):,} candidates have no finite lon, lat and score, "
            f"the first at row {found.index[bad[0]]!r}. Rows without a place have no rank."
        )
    outside = np.flatnonzero(placed & (np.abs(lonlat[:, 1]) > 90))
    if len(outside):
        raise CoordinateError(
            f"Latitudes must lie in [-90, 90]: {len(outside):,} do not, the first at row "
            f"{found.index[outside[0]]!r} ({float(lonlat[outside[0], 1])!r})."
        )


def _check_regions(regions: gpd.GeoDataFrame, known: set[str]) -> gpd.GeoDataFrame:
    if not isinstance(regions, gpd.GeoDataFrame) or not {"query", "mass"} <= set(regions.columns):
        raise TableError(
            "regions= must be a GeoDataFrame with the columns 'query', 'mass' and a geometry: got "
            f"{type(regions).__name__} with {', '.join(map(str, regions.columns))}."
        )
    strange = [name for name in dict.fromkeys(map(str, regions["query"])) if name not in known]
    if strange:
        raise OptionError(f"regions= has {strange[0]!r:.80}, which is no query of the answers.")
    mass = pd.to_numeric(regions["mass"], errors="coerce").to_numpy(dtype=float)
    if not ((mass > 0) & (mass < 1)).all():
        raise TableError("regions=: 'mass' is a share between 0 and 1, such as 0.5 and 0.9.")
    kinds = set(regions.geometry.geom_type.dropna()) - {"Polygon", "MultiPolygon"}
    if kinds:
        raise TableError(f"regions= holds {', '.join(sorted(kinds))}: only polygons are regions.")
    if regions.crs is None:
        raise CoordinateError("regions= has no CRS: set it with set_crs('EPSG:4326').")
    degrees = regions if regions.crs == WGS84 else regions.to_crs(WGS84)
    _, south, _, north = degrees.total_bounds
    if south < -90 or north > 90:
        raise CoordinateError(f"regions= reach latitudes {south:g} to {north:g}: beyond a pole.")
    return degrees


def _parts(shape: Any) -> list[Any]:
    """Polygons that a globe shows as the table means them."""
    parts = []
    for polygon in _polygons(shape if shape.is_valid else shapely.make_valid(shape)):
        west, _, east, _ = polygon.bounds
        pieces = [polygon]
        if east - west > _WIDE:
            tiles = [shapely.box(a, -90, b, 90) for a, b in pairwise(_CUTS)]
            pieces = _polygons(shapely.intersection(polygon, tiles))
        parts.extend(shapely.segmentize(pieces, _DENSE))
    return parts


def _polygons(shapes: Any) -> list[Any]:
    return [part for part in _flat(shapes) if part.geom_type == "Polygon" and not part.is_empty]


def _flat(shapes: Any) -> Any:
    """Parts of collections too: what a cut or a repair leaves may be nested."""
    return shapely.get_parts(shapely.get_parts(shapes))


def _numbers(found: pd.DataFrame, column: str) -> np.ndarray:
    try:
        return found[column].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise TableError(f"The column {column!r} does not hold numbers: {error}.") from error


def _optional_numbers(found: pd.DataFrame, column: str) -> list[float | None]:
    if column not in found.columns:
        return [None] * len(found)
    return [round(v, 3) if np.isfinite(v) else None for v in _numbers(found, column).tolist()]


def _texts(found: pd.DataFrame, column: str) -> list[str | None]:
    if column not in found.columns:
        return [None] * len(found)
    return [None if pd.isna(value) or value == "" else str(value) for value in found[column]]
