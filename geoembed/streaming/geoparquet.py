"""GeoParquet metadata, and geometries in Arrow columns.

Written to the specification GeoParquet 1.1.0, https://geoparquet.org/releases/v1.1.0/.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError

from geoembed.errors import TableError

__all__ = [
    "CRS84",
    "GEOMETRY_COLUMN",
    "GeoColumn",
    "Summary",
    "decode_geometries",
    "describe",
    "encode_points",
    "read_geo_columns",
]

GEOMETRY_COLUMN: Final = "geometry"
CRS84: Final = CRS.from_user_input("OGC:CRS84")
_VERSION: Final = "1.1.0"
_TYPE_NAMES: Final = {
    "POINT": "Point",
    "LINESTRING": "LineString",
    "LINEARRING": "LineString",
    "POLYGON": "Polygon",
    "MULTIPOINT": "MultiPoint",
    "MULTILINESTRING": "MultiLineString",
    "MULTIPOLYGON": "MultiPolygon",
    "GEOMETRYCOLLECTION": "GeometryCollection",
}

Geometries = NDArray[np.object_]


@dataclass(frozen=True)
class GeoColumn:
    """A column of geometries.

    Parameters
    ----------
    name : str
        Of the column.
    crs : pyproj.CRS or None
        What its coordinates are in; None where the file leaves it open.
    encoding : str
        ``"WKB"``, or a native encoding of GeoParquet 1.1: ``"point"`` and so on.
    facts : mapping
        What GeoParquet metadata says about the column.
    """

    name: str
    crs: CRS | None
    encoding: str = "WKB"
    facts: Mapping[str, Any] | None = None


def read_geo_columns(schema: pa.Schema, file: str) -> list[GeoColumn]:
    """Read what a Parquet schema says about its geometry columns; the primary one first.

    Raises TableError if there is GeoParquet metadata that cannot be understood.
    """
    text = (schema.metadata or {}).get(b"geo")
    if text is None:
        return []
    try:
        geo = json.loads(text)
        primary, columns = geo["primary_column"], geo["columns"]
        found = [_read_column(name, facts) for name, facts in columns.items()]
    except (ValueError, KeyError, TypeError, AttributeError, CRSError) as error:
        raise TableError(
            f"The GeoParquet metadata of {file} cannot be understood: {type(error).__name__}: "
            f"{error}. Write the file anew with a tool that knows GeoParquet 1.0 or 1.1."
        ) from error
    there = [column for column in found if column.name in schema.names]
    if primary not in [column.name for column in there]:
        raise TableError(
            f"{file} names {primary!r} as its geometry column, but has no such column."
        )
    return sorted(there, key=lambda column: column.name != primary)


def _read_column(name: str, facts: Mapping[str, Any]) -> GeoColumn:
    # A missing CRS means longitude and latitude, null means unknown; early versions wrote WKT.
    crs = facts.get("crs", "OGC:CRS84")
    known = None if crs is None else CRS.from_user_input(crs)
    return GeoColumn(name, known, facts.get("encoding", "WKB"), facts)


def decode_geometries(column: pa.ChunkedArray, geo: GeoColumn) -> Geometries:
    """Turn a column into shapely geometries, None where there is none.

    Raises TableError if the bytes are no geometries.
    """
    try:
        if geo.encoding.upper() == "WKB":
            wkb = column.cast(pa.large_binary()) if column.type != pa.binary() else column
            return np.asarray(shapely.from_wkb(wkb.to_numpy(zero_copy_only=False)))
        marked = {"ARROW:extension:name": f"geoarrow.{geo.encoding.lower()}"}
        field = pa.field(geo.name, column.type, metadata=marked)
        table = pa.table([column], schema=pa.schema([field]))
        return np.asarray(gpd.GeoDataFrame.from_arrow(table).geometry.array, dtype=object)
    except (shapely.errors.ShapelyError, pa.ArrowException, TypeError, ValueError) as error:
        raise TableError(
            f"The column {geo.name!r} holds something else than geometries encoded as "
            f"{geo.encoding}: {error}."
        ) from error


def encode_points(lonlat: NDArray[np.float64]) -> tuple[pa.Array, Geometries]:
    """Make points of lon/lat (n, 2): as WKB, and as geometries; none where it is NaN."""
    points = shapely.points(lonlat)
    points[np.isnan(lonlat).any(axis=1)] = None
    return pa.array(shapely.to_wkb(points), pa.binary()), points


class Summary:
    """Kinds and extent of the geometries that went by.

    Examples
    --------
    >>> summary = Summary()
    >>> summary.add(shapely.points([[1.0, 2.0], [3.0, 0.0]]))
    >>> summary.types, summary.bbox
    (['Point'], [1.0, 0.0, 3.0, 2.0])
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.types: list[str] = list(state["types"]) if state else []
        self.bbox: list[float] | None = state["bbox"] if state else None

    def state(self) -> dict[str, Any]:
        """Return what `Summary` takes to go on from here; fit for JSON."""
        return {"types": list(self.types), "bbox": self.bbox}

    def add(self, geoms: Geometries) -> None:
        """Take in more geometries; None and empty ones have no part in the extent."""
        geoms = geoms[~shapely.is_missing(geoms)]
        for kind, height in set(zip(shapely.get_type_id(geoms), shapely.has_z(geoms), strict=True)):
            name = _TYPE_NAMES[shapely.GeometryType(kind).name] + " Z" * bool(height)
            self.types = sorted({*self.types, name})
        extended = geoms[~shapely.is_empty(geoms)]
        if not len(extended):
            return
        bounds = shapely.total_bounds(extended)
        if not np.isfinite(bounds).all():
            return
        if self.bbox is not None:
            bounds = np.append(
                np.minimum(bounds[:2], self.bbox[:2]), np.maximum(bounds[2:], self.bbox[2:])
            )
        self.bbox = bounds.tolist()


def describe(columns: list[GeoColumn], summary: Summary, *, whole: bool) -> bytes:
    """Write GeoParquet metadata.

    Parameters
    ----------
    columns : list of GeoColumn
        Of the file to describe, the primary one first.
    summary : Summary
        Of the geometries in the primary column.
    whole : bool
        Whether every row of the source is in the file; else what the source says about the
        extent of further columns is left out.

    Returns
    -------
    bytes
        JSON, for the key ``geo`` of the file's metadata.
    """
    primary = columns[0]
    facts = _facts(primary) | {"geometry_types": summary.types, "bbox": summary.bbox}
    described = {primary.name: {key: v for key, v in facts.items() if key != "bbox" or v}}
    for column in columns[1:]:
        further = _facts(column)
        if not whole:
            further.pop("bbox", None)
        described[column.name] = further
    geo = {"version": _VERSION, "primary_column": primary.name, "columns": described}
    return json.dumps(geo).encode()


def _facts(column: GeoColumn) -> dict[str, Any]:
    facts = dict(column.facts or {})
    facts["encoding"] = column.encoding
    facts["crs"] = column.crs.to_json_dict() if column.crs is not None else None
    facts.setdefault("geometry_types", [])
    return facts
