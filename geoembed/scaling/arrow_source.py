"""Streams of record batches as sources of places: where the geometries are, and in which CRS."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import pyarrow as pa
from pyproj import CRS
from pyproj.exceptions import CRSError

from geoembed.columns import find_coordinate_columns
from geoembed.crs import name_crs
from geoembed.errors import CoordinateError, TableError
from geoembed.streaming.geoparquet import WKT, GeoColumn, read_geo_columns
from geoembed.streaming.sources import Source, check_names

__all__ = ["ArrowSource", "as_tables"]

# How messages call what has no file.
_NAME: Final = "the stream"
# A longer list of columns helps nobody.
_NAMED: Final = 5
_EXTENSION: Final = b"ARROW:extension:name"
_EXTENSION_FACTS: Final = b"ARROW:extension:metadata"
# GeoArrow 0.2 -> the same as GeoParquet 1.1 calls it.
_ENCODINGS: Final = {
    "geoarrow.wkb": "WKB",
    "ogc.wkb": "WKB",
    "geoarrow.wkt": WKT,
    **{
        f"geoarrow.{kind}": kind
        for kind in (
            *("point", "linestring", "polygon"),
            *("multipoint", "multilinestring", "multipolygon"),
        )
    },
}


# GeoArrow 0.2 as well, but nothing here reads them.
_UNREAD: Final = ("geoarrow.box", "geoarrow.geometry", "geoarrow.geometrycollection")


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
        found = _find_geometries(schema)
        self._unread = [column for column in found if column.encoding in _UNREAD]
        self.geometries = [column for column in found if column.encoding not in _UNREAD]
        # Where all columns that a file's metadata speaks of are lost, it says nothing.
        self._by_file = bool(read_geo_columns(schema, _NAME, lost=True))
        self._chosen = geometry_column is not None
        if geometry_column is not None:
            self._check_columns(geometry_column)
            known = [column for column in found if column.name == geometry_column]
            self.geometries = [
                self._as_read(known[0] if known else GeoColumn(geometry_column, None))
            ]
        elif len(self.geometries) > 1 and not self._by_file:
            named = ", ".join(repr(column.name) for column in self.geometries)
            raise CoordinateError(
                f"{_NAME} has several columns of geometries: {named}. Choose one with "
                "geometry_column=."
            )

    def _as_read(self, column: GeoColumn) -> GeoColumn:
        """Take bytes for well-known binary, whatever mark they have; refuse what cannot be read."""
        if column.encoding not in _UNREAD:
            return column
        if _is_binary(_stored(self.schema.field(column.name).type)):
            return replace(column, encoding="WKB")
        raise _unreadable(column)

    def settle(self, lon: str | None, lat: str | None, crs: Any) -> None:
        """Decide which columns hold the places; a column of bytes may be meant as geometries."""
        if lon is None and lat is None and not self._chosen:
            self._check_found()
        try:
            super().settle(lon, lat, crs)
        except CoordinateError as error:
            blobs = [f.name for f in self.schema if _is_binary(_stored(f.type))]
            if self.geometries or not blobs or lon is not None:
                raise
            raise CoordinateError(
                f"{error} If {blobs[0]!r} holds geometries as WKB: "
                f"geometry_column={blobs[0]!r}, crs='...'."
            ) from error

    def _check_found(self) -> None:
        """Raise where the geometries that the metadata speaks of cannot be had."""
        names = self.schema.names
        if self._unread and not self.geometries and find_coordinate_columns(names) is None:
            raise _unreadable(self._unread[0])
        try:
            if self._by_file:
                read_geo_columns(self.schema, _NAME)
        except TableError as error:
            raise TableError(
                f"{error} Choose another with geometry_column=, or name coordinate columns: "
                "lon='...', lat='...'."
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
    batches : RecordBatchReader, Table, RecordBatch, GeoDataFrame, Arrow stream or iterable
        Anything with ``__arrow_c_stream__``, or an iterable of record batches, tables or
        GeoDataFrames.

    Returns
    -------
    (pyarrow.Schema, iterator of pyarrow.Table)
        An iterable that gives nothing has a schema without columns. All tables have the schema,
        its metadata too.

    Raises
    ------
    TableError
        If it is none of these, or holds something else; while it is read, if a batch has other
        columns than the first, or geometries in another CRS or encoding.

    Examples
    --------
    >>> schema, tables = as_tables([pa.record_batch({"lon": [1.0], "lat": [2.0]})])
    >>> schema.names, [len(table) for table in tables]
    (['lon', 'lat'], [1])
    """
    if isinstance(batches, pa.RecordBatch | gpd.GeoDataFrame):
        batches = [batches]
    if isinstance(batches, pa.Table):
        batches = batches.to_reader()
    if not isinstance(batches, pa.RecordBatchReader) and hasattr(batches, "__arrow_c_stream__"):
        batches = _read_stream(batches)
    if isinstance(batches, pa.RecordBatchReader):
        return batches.schema, (pa.Table.from_batches([batch]) for batch in batches)
    if not isinstance(batches, Iterable) or isinstance(batches, str | bytes):
        raise TableError(
            f"embed_batches() takes record batches of Arrow (a RecordBatchReader, anything with "
            f"an Arrow stream, an iterable of record batches), got {type(batches).__name__}."
        )
    rest = iter(batches)
    for first in rest:
        table = _checked(first)
        return table.schema, _joined(table, rest)
    return pa.schema([]), iter(())


def _read_stream(stream: Any) -> pa.RecordBatchReader:
    try:
        if isinstance(stream, gpd.GeoDataFrame):
            # Its own stream, where pandas gives it one, knows no geometries.
            stream = stream.to_arrow()
        return pa.RecordBatchReader.from_stream(stream)
    except pa.ArrowException as error:
        raise TableError(
            f"The {type(stream).__name__} cannot be read as a stream of record batches: {error}."
        ) from error


def _joined(first: pa.Table, rest: Iterator[Any]) -> Iterator[pa.Table]:
    schema = last = first.schema
    yield first
    del first  # It may be large, and is done with.
    for number, batch in enumerate(rest, start=1):
        table = _checked(batch)
        if not table.schema.equals(schema, check_metadata=True):
            what = f"Record batch {number:,} (the first is 0)"
            if not table.schema.equals(last, check_metadata=True):
                _check_alike(what, table.schema, schema)
                last = table.schema
            _check_missing(what, table, schema)
            table = pa.Table.from_arrays(table.columns, schema=schema)
        yield table


def _check_alike(what: str, here: pa.Schema, there: pa.Schema) -> None:
    """Raise TableError unless columns and what is said about geometries are those of the first.

    Other metadata may differ: the index of a pandas table, the extent of a file.
    """
    if here.names != there.names:
        check_names(Path(what), here.names)
        raise TableError(f"{what} {_other_names(here.names, there.names)}.")
    if _marks(here) != _marks(there):
        _check_geometries(what, _declared(here), _declared(there))
    changed = [
        f"{one.name!r} as {one.type} and not as {other.type}"
        for one, other in zip(here, there, strict=True)
        if one.type != other.type
    ]
    if changed:
        raise TableError(f"{what} has other columns than the first: {_few(changed)}.")


def _other_names(here: list[str], there: list[str]) -> str:
    missing = [repr(name) for name in there if name not in here]
    more = [repr(name) for name in here if name not in there]
    if not missing and not more:
        at = next(at for at, name in enumerate(here) if name != there[at])
        return (
            f"has the columns of the first in another order: {here[at]!r} stands where the first "
            f"has {there[at]!r}. Select them in one order"
        )
    parts = [f"lacks {_few(missing)}"] if missing else []
    parts += [f"has {_few(more)} besides"] if more else []
    return f"has other columns than the first: it {' and '.join(parts)}"


def _few(parts: list[str]) -> str:
    more = f" and {len(parts) - _NAMED:,} more" if len(parts) > _NAMED else ""
    return ", ".join(parts[:_NAMED]) + more


def _marks(schema: pa.Schema) -> list[Any]:
    """Return all that a schema says about geometries, as it is spelled."""
    fields = [field.metadata or {} for field in schema]
    return [
        (schema.metadata or {}).get(b"geo"),
        schema.types,
        [(marks.get(_EXTENSION), marks.get(_EXTENSION_FACTS)) for marks in fields],
    ]


def _declared(schema: pa.Schema) -> dict[str, GeoColumn]:
    return {column.name: column for column in _find_geometries(schema)}


def _check_geometries(what: str, here: dict[str, GeoColumn], there: dict[str, GeoColumn]) -> None:
    for name in {**there, **here}:
        one, other = here.get(name), there.get(name)
        if one is None or other is None or not _mean_the_same(one, other):
            raise TableError(
                f"{what} has in column {name!r} {_told(one)}, and the first {_told(other)}: bring "
                "them to one CRS and encoding, or call embed_batches() for each."
            )


def _mean_the_same(one: GeoColumn, other: GeoColumn) -> bool:
    if one.crs is None or other.crs is None:
        same = one.crs is other.crs
    else:
        # East comes before north in all of them, whatever the CRS says.
        same = one.crs == other.crs or one.crs.equals(other.crs, ignore_axis_order=True)
    return same and _kind(one) == _kind(other)


def _kind(column: GeoColumn) -> tuple[str, str]:
    return column.encoding.upper(), (column.facts or {}).get("edges", "planar")


def _told(column: GeoColumn | None) -> str:
    if column is None:
        return "nothing that is declared as geometries"
    _, edges = _kind(column)
    crs = "no CRS" if column.crs is None else name_crs(column.crs)
    bent = f" with {edges} edges" if edges != "planar" else ""
    return f"geometries as {column.encoding} in {crs}{bent}"


def _check_missing(what: str, table: pa.Table, schema: pa.Schema) -> None:
    """Raise TableError where the first batch promises values and this one has none."""
    for at, (here, there) in enumerate(zip(table.schema, schema, strict=True)):
        if here.nullable and not there.nullable and table.column(at).null_count:
            raise TableError(
                f"{what} has {table.column(at).null_count:,} missing values in column "
                f"{here.name!r}, and the first says that there are none. Make it nullable there."
            )


def _checked(batch: Any) -> pa.Table:
    if isinstance(batch, pa.Table):
        return batch
    if isinstance(batch, pa.RecordBatch):
        return pa.Table.from_batches([batch])
    if isinstance(batch, gpd.GeoDataFrame):
        return _read_stream(batch).read_all()
    stream = " pyarrow.table() makes one of it." if hasattr(batch, "__arrow_c_stream__") else ""
    raise TableError(
        f"Among the record batches there is something else: {type(batch).__name__}. Give record "
        f"batches or tables of pyarrow.{stream}"
    )


def _find_geometries(schema: pa.Schema) -> list[GeoColumn]:
    marked = {column.name: column for column in map(_read_geoarrow, schema) if column}
    found = read_geo_columns(schema, _NAME, lost=True)
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
    if name not in _ENCODINGS and name not in _UNREAD:
        return None
    try:
        told = json.loads(facts or b"{}") or {}
        crs, edges = told.get("crs"), told.get("edges")
        known = None if crs is None else CRS.from_user_input(crs)
    except (ValueError, AttributeError, CRSError) as error:
        raise TableError(
            f"The GeoArrow metadata of column {field.name!r} cannot be understood: {error}."
        ) from error
    encoding = _ENCODINGS.get(name, name)
    return GeoColumn(field.name, known, encoding, {"edges": edges} if edges else None)


def _unreadable(column: GeoColumn) -> CoordinateError:
    return CoordinateError(
        f"Column {column.name!r} of {_NAME} holds geometries as {column.encoding}, which is not "
        "read. Make well-known binary of it (geoarrow.wkb; ST_AsWKB, ST_AsBinary), or name "
        "coordinate columns: lon='...', lat='...'."
    )


def _stored(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_binary(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)
