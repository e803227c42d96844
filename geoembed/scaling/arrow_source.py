"""Streams of record batches as sources of places: where the geometries are, and in which CRS."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyproj import CRS
from pyproj.exceptions import CRSError

from geoembed.errors import CoordinateError, TableError
from geoembed.streaming.geoparquet import GeoColumn, read_geo_columns
from geoembed.streaming.sources import Source, check_names

__all__ = ["ArrowSource", "as_tables"]

# How messages call what has no file.
_NAME: Final = "the stream"
_EXTENSION: Final = b"ARROW:extension:name"
_EXTENSION_FACTS: Final = b"ARROW:extension:metadata"
# GeoArrow 0.2 -> the same as GeoParquet 1.1 calls it.
_ENCODINGS: Final = {
    "geoarrow.wkb": "WKB",
    "ogc.wkb": "WKB",
    **{
        f"geoarrow.{kind}": kind
        for kind in (
            *("point", "linestring", "polygon"),
            *("multipoint", "multilinestring", "multipolygon"),
        )
    },
}


class ArrowSource(Source):
    """Tables that come from elsewhere, read once and in order.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of all tables.
    tables : iterable of pyarrow.Table
        The rows.
    geometry_column : str or None
        Which column holds the geometries, as WKB unless the schema says something else; None
        looks for GeoParquet's metadata, then for GeoArrow's.
    """

    def __init__(
        self, schema: pa.Schema, tables: Iterable[pa.Table], geometry_column: str | None
    ) -> None:
        self.path = Path(_NAME)
        self.schema = schema
        self._tables = tables
        check_names(self.path, schema.names)
        self.geometries = _find_geometries(schema)
        if geometry_column is not None:
            self._check_columns(geometry_column)
            known = [g for g in self.geometries if g.name == geometry_column]
            self.geometries = known or [GeoColumn(geometry_column, None)]
        elif len(self.geometries) > 1 and b"geo" not in (schema.metadata or {}):
            named = ", ".join(repr(column.name) for column in self.geometries)
            raise CoordinateError(
                f"{_NAME} has several columns of geometries: {named}. Choose one with "
                "geometry_column=."
            )

    def settle(self, lon: str | None, lat: str | None, crs: Any) -> None:
        """Decide which columns hold the places; a column of bytes may be meant as geometries."""
        try:
            super().settle(lon, lat, crs)
        except CoordinateError as error:
            blobs = [f.name for f in self.schema if _is_binary(f.type)]
            if self.geometries or not blobs or lon is not None:
                raise
            raise CoordinateError(
                f"{error} If {blobs[0]!r} holds geometries as WKB: "
                f"geometry_column={blobs[0]!r}, crs='...'."
            ) from error

    def select(self, columns: list[str]) -> None:
        """Give only these columns."""
        self.schema = pa.schema([self.schema.field(name) for name in columns])

    def tables(self) -> Iterator[pa.Table]:
        """Give the rows in order."""
        for table in self._tables:
            yield table.select(self.schema.names)

    def read_places(
        self, table: pa.Table, first_row: int, *, crs: Any, **options: Any
    ) -> tuple[Any, Any]:
        """Read the places of some rows, also where a registered extension type hides them."""
        if self.lonlat is None:
            column = table.column(self.geometries[0].name)
            if isinstance(column.type, pa.BaseExtensionType):
                at = table.schema.get_field_index(self.geometries[0].name)
                plain = column.cast(column.type.storage_type)
                table = table.set_column(at, self.geometries[0].name, plain)
        return super().read_places(table, first_row, crs=crs, **options)


def as_tables(batches: Any) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """Take what engines call a stream of record batches.

    Parameters
    ----------
    batches : RecordBatchReader, Table, RecordBatch, Arrow stream or iterable
        Anything with ``__arrow_c_stream__``, or an iterable of record batches or tables.

    Returns
    -------
    (pyarrow.Schema, iterator of pyarrow.Table)
        An iterable that gives nothing has a schema without columns.

    Raises
    ------
    TableError
        If it is none of these, or holds something else.

    Examples
    --------
    >>> schema, tables = as_tables([pa.record_batch({"lon": [1.0], "lat": [2.0]})])
    >>> schema.names, [len(table) for table in tables]
    (['lon', 'lat'], [1])
    """
    if isinstance(batches, pa.RecordBatch):
        batches = [batches]
    if isinstance(batches, pa.Table):
        batches = batches.to_reader()
    if not isinstance(batches, pa.RecordBatchReader) and hasattr(batches, "__arrow_c_stream__"):
        batches = pa.RecordBatchReader.from_stream(batches)
    if isinstance(batches, pa.RecordBatchReader):
        return batches.schema, (pa.Table.from_batches([batch]) for batch in batches)
    if not isinstance(batches, Iterable) or isinstance(batches, str | bytes):
        raise TableError(
            f"embed_batches() takes record batches of Arrow (a RecordBatchReader, anything with "
            f"an Arrow stream, an iterable of record batches), got {type(batches).__name__}."
        )
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        return pa.schema([]), iter(())
    return _checked(first).schema, _joined(first, rest)


def _joined(first: Any, rest: Iterator[Any]) -> Iterator[pa.Table]:
    schema = first.schema
    yield _checked(first)
    for number, batch in enumerate(rest, start=1):
        table = _checked(batch)
        if not table.schema.equals(schema):
            raise TableError(
                f"Record batch {number:,} (the first is 0) has other columns than the first: "
                f"{_columns(table.schema)} instead of {_columns(schema)}."
            )
        yield table


def _checked(batch: Any) -> pa.Table:
    if isinstance(batch, pa.Table):
        return batch
    if isinstance(batch, pa.RecordBatch):
        return pa.Table.from_batches([batch])
    raise TableError(
        f"Among the record batches there is something else: {type(batch).__name__}. Give record "
        "batches or tables of pyarrow."
    )


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _find_geometries(schema: pa.Schema) -> list[GeoColumn]:
    marked = {column.name: column for column in map(_read_geoarrow, schema) if column}
    found = read_geo_columns(schema, _NAME)
    if not found:
        return list(marked.values())
    # Metadata of a file that the columns were read from speaks of the file's encoding.
    return [replace(column, encoding=marked.get(column.name, column).encoding) for column in found]


def _read_geoarrow(field: pa.Field) -> GeoColumn | None:
    """Read GeoArrow's marks, on the field or, where the type is registered, in the type."""
    metadata = field.metadata or {}
    name, facts = metadata.get(_EXTENSION, b"").decode(), metadata.get(_EXTENSION_FACTS, b"")
    if isinstance(field.type, pa.BaseExtensionType):
        name = field.type.extension_name
        facts = getattr(field.type, "__arrow_ext_serialize__", lambda: b"")()
    if name not in _ENCODINGS:
        return None
    try:
        crs = json.loads(facts or b"{}").get("crs")
        known = None if crs is None else CRS.from_user_input(crs)
    except (ValueError, AttributeError, CRSError) as error:
        raise TableError(
            f"The GeoArrow metadata of column {field.name!r} cannot be understood: {error}."
        ) from error
    return GeoColumn(field.name, known, _ENCODINGS[name])


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
