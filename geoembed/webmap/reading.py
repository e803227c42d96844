"""From the checked tables to what the page shows: queries, candidates, regions."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from geoembed.webmap.outlines import encode_polygon

__all__ = ["pack_queries", "pack_regions"]

_SHOWN: Final = ("lon", "lat", "score", "place", "place_km", "radius_50_km", "radius_90_km")
_DECIMALS: Final = {"lon": 6, "lat": 6, "place_km": 3, "radius_50_km": 3, "radius_90_km": 3}
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
        As `geoembed.found.check_found` returns it.
    pictures : mapping of str to str
        Data URI of a query's picture.

    Returns
    -------
    list of dict
        ``name``, ``error``, ``candidates`` (rank, lon, lat, score, place, place_km,
        radius_50_km, radius_90_km; None for what is missing), ``quiet`` (no location signal),
        ``calibrated`` (True, False or None if not said), and ``picture`` where there is one.

    Examples
    --------
    >>> from geoembed.found import check_found
    >>> row = {"query": "a", "rank": 1, "score": 0.25, "lon": 2.35, "lat": 48.86}
    >>> pack_queries(check_found(pd.DataFrame([row])), {})[0]["candidates"]
    [[1, 2.35, 48.86, 0.25, None, None, None, None]]
    """
    names, ranks = found["query"].to_numpy(), found["rank"].fillna(0).to_numpy(dtype=np.int64)
    # Two queries of one name stand side by side where ranks begin again.
    begins = (names != np.roll(names, 1)) | (ranks <= np.roll(ranks, 1))
    begins[0] = True
    rounded = found.round(_DECIMALS)
    columns = [_or_none(rounded[name]) for name in _SHOWN]
    rows = [list(row) for row in zip(ranks.tolist(), *columns, strict=True)]
    packed: list[dict[str, Any]] = []
    for row, (name, error) in enumerate(zip(names, found["error"], strict=True)):
        if begins[row]:
            packed.append({"name": name, "error": "", "candidates": []})
            packed[-1]["quiet"] = bool(found["no_signal"].iloc[row])
            packed[-1]["calibrated"] = found["calibrated"].iloc[row]
            if name in pictures:
                packed[-1]["picture"] = pictures[name]
        if error:
            packed[-1]["error"] = error
        else:
            packed[-1]["candidates"].append(rows[row])
    return packed


def pack_regions(
    regions: gpd.GeoDataFrame,
) -> dict[str, list[tuple[float, list[list[str]]]]]:
    """Encode the credible regions of every query, the largest share first.

    Parameters
    ----------
    regions : GeoDataFrame
        As `geoembed.found.check_regions` returns it.

    Returns
    -------
    dict
        Query to pairs of share and encoded polygons.

    Examples
    --------
    >>> box = gpd.GeoDataFrame(
    ...     {"query": ["a"], "share": [0.5]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326
    ... )
    >>> [(share, len(polygons)) for share, polygons in pack_regions(box)["a"]]
    [(0.5, 1)]
    """
    packed: dict[str, list[tuple[float, list[list[str]]]]] = {}
    for name, share, shape in zip(
        regions["query"], regions["share"], regions.geometry, strict=True
    ):
        polygons = [encode_polygon(part, STEP) for part in _parts(shape)]
        packed.setdefault(name, []).append((float(share), [p for p in polygons if p]))
    return packed


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


def _or_none(column: "pd.Series[Any]") -> list[Any]:
    return [None if pd.isna(value) else value for value in column.tolist()]
