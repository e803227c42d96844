"""GeoParquet metadata, and geometries in Arrow columns.

Written to the specification GeoParquet 1.1.0, https://geoparquet.org/releases/v1.1.0/.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError

from geoembed.columns import name_rows
from geoembed.crs import name_crs
from geoembed.errors import CoordinateError, TableError

__all__ = [
    "CRS84",
    "GEOMETRY_COLUMN",
    "WKT",
    "GeoColumn",
    "Summary",
    "check_srids",
    "decode_geometries",
    "describe",
    "encode_points",
    "read_geo_columns",
]

GEOMETRY_COLUMN: Final = "geometry"
# Well-known text, which GeoArrow knows and no file of GeoParquet may have.
WKT: Final = "geoarrow.wkt"
CRS84: Final = CRS.from_user_input("OGC:CRS84")
_VERSION: Final = "1.1.0"
# Where none of so many cells can be read, it is not the rows that are wrong, but the column.
_ALL_WRONG: Final = 100
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
        ``"WKB"``, or a native encoding of GeoParquet 1.1: ``"point"`` and so on; in memory also
        `WKT`.
    facts : mapping
        What GeoParquet metadata says about the column.
    """

    name: str
    crs: CRS | None
    encoding: str = "WKB"
    facts: Mapping[str, Any] | None = None


def read_geo_columns(schema: pa.Schema, file: str, *, lost: bool = False) -> list[GeoColumn]:
    """Read what a Parquet schema says about its geometry columns; the primary one first.

    Raises TableError if there is GeoParquet metadata that cannot be understood, or the primary
    column is not there; with `lost` that is no error, as in memory, where columns are dropped and
    metadata is kept.
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
    if not lost and primary not in [column.name for column in there]:
        raise TableError(
            f"{file} names {primary!r} as its geometry column, but has no such column."
        )
    return sorted(there, key=lambda column: column.name != primary)


def _read_column(name: str, facts: Mapping[str, Any]) -> GeoColumn:
    # A missing CRS means longitude and latitude, null means unknown; early versions wrote WKT.
    crs = facts.get("crs", "OGC:CRS84")
    known = None if crs is None else CRS.from_user_input(crs)
    return GeoColumn(name, known, facts.get("encoding", "WKB"), facts)


def decode_geometries(
    column: pa.ChunkedArray,
    geo: GeoColumn,
    *,
    first_row: int | None = None,
    on_invalid: str | None = None,
) -> Geometries:
    """Turn a column into shapely geometries, None where there is none.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        Its rows.
    geo : GeoColumn
        What is known of it.
    first_row : int, optional
        What errors count its rows from; without it they say how many, not which.
    on_invalid : {"raise", "nan"}, optional
        Whether a row of well-known binary or text that is none is an error, or None as a row
        without a geometry is; an error where nobody was asked, and where not one of many can be
        read.

    Returns
    -------
    ndarray of object

    Raises
    ------
    TableError
        If the bytes are no geometries.
    """
    try:
        if geo.encoding.upper() == "WKB":
            wkb = column.cast(pa.large_binary()) if column.type != pa.binary() else column
            return _parse(shapely.from_wkb, wkb, geo, first_row, on_invalid)
        if geo.encoding == WKT:
            wkt = column.cast(pa.large_string())
            return _parse(shapely.from_wkt, wkt, geo, first_row, on_invalid)
        marked = {"ARROW:extension:name": f"geoarrow.{geo.encoding.lower()}"}
        field = pa.field(geo.name, column.type, metadata=marked)
        table = pa.table([column], schema=pa.schema([field]))
        return np.asarray(gpd.GeoDataFrame.from_arrow(table).geometry.array, dtype=object)
    except TableError:
        raise
    except (shapely.errors.ShapelyError, pa.ArrowException, TypeError, ValueError) as error:
        raise TableError(
            f"The column {geo.name!r} holds something else than geometries encoded as "
            f"{geo.encoding}: {error}."
        ) from error


def _parse(
    parse: Callable[..., Any],
    column: pa.ChunkedArray,
    geo: GeoColumn,
    first_row: int | None,
    on_invalid: str | None,
) -> Geometries:
    cells = column.to_numpy(zero_copy_only=False)
    if on_invalid == "nan":
        read = np.asarray(parse(cells, on_invalid="ignore"))
        if not shapely.is_missing(read).all() or pd.notna(cells).sum() < _ALL_WRONG:
            return read
    try:
        return np.asarray(parse(cells))
    except shapely.errors.ShapelyError as error:
        read = parse(cells, on_invalid="ignore")
        wrong = shapely.is_missing(read) & pd.notna(cells)
        rows = f"{np.count_nonzero(wrong):,} of {len(cells):,} rows"
        if first_row is not None:
            index = pd.RangeIndex(first_row, first_row + len(cells))
            rows += f", {name_rows(index, wrong)}"
        remedy = ""
        if on_invalid == "raise" and not (wrong.all() and len(wrong) >= _ALL_WRONG):
            remedy = ", or pass on_invalid='nan' to keep them as rows of NaN"
        raise TableError(
            f"The column {geo.name!r} holds something else than geometries encoded as "
            f"{geo.encoding} in {rows}: {str(error).rstrip('.')}. Remove or correct them{remedy}."
        ) from error


def check_srids(geoms: Geometries, geo: GeoColumn, first_row: int) -> None:
    """Refuse geometries that say themselves that they are in another CRS than their column.

    Well-known binary as PostGIS writes it may have a number of EPSG in every row, its SRID.
    Numbers that EPSG does not know say nothing.

    Parameters
    ----------
    geoms : ndarray of object
        Geometries of shapely.
    geo : GeoColumn
        What is known of the column.
    first_row : int
        What errors count its rows from.

    Raises
    ------
    CoordinateError
        If there are any; the message names the first five rows.
    """
    srids = shapely.get_srid(geoms)
    carried = srids > 0
    if geo.crs is None or not carried.any():
        return
    others = [srid for srid in np.unique(srids[carried]).tolist() if _differs(srid, geo.crs)]
    if others:
        wrong = np.isin(srids, others)
        index = pd.RangeIndex(first_row, first_row + len(geoms))
        named = name_rows(index, wrong, lambda at: f"SRID {srids[at]}")
        raise CoordinateError(
            f"{np.count_nonzero(wrong):,} of {len(geoms):,} rows in column {geo.name!r} say that "
            f"they are in another CRS than {name_crs(geo.crs)}: {named}. State the CRS that they "
            "are in, or bring all to one first."
        )


@lru_cache(maxsize=32)
def _differs(srid: int, crs: CRS) -> bool:
    """Tell whether a number is of another CRS than this; heights and names aside."""
    if crs.to_epsg(min_confidence=20) == srid:
        return False
    try:
        return not crs.to_2d().equals(CRS.from_epsg(srid).to_2d(), ignore_axis_order=True)
    except CRSError:
        return False


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
