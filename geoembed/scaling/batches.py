"""Record batches in, record batches with a vector column out: one function for every engine."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from geoembed.encoders.sharing import shared_encoder
from geoembed.errors import OptionError, TableError
from geoembed.featurizer import encode_places
from geoembed.geometries import check_samples
from geoembed.scaling.arrow_source import ArrowSource, as_tables
from geoembed.streaming.request import check_batch_rows, check_choices
from geoembed.streaming.run import cut
from geoembed.streaming.vectors import provenance, usual_rows, vector_columns, vector_fields
from geoembed.tables import VECTOR_COLUMN, columns_to_replace

if TYPE_CHECKING:
    from geoembed.encoders.base import LocationEncoder

__all__ = ["embed_batches"]


def embed_batches(
    batches: Any,
    *,
    encoder: "str | LocationEncoder" = "geoclip.v1",
    layout: str = "vector",
    prefix: str | None = None,
    overwrite: bool = False,
    lon: str | None = None,
    lat: str | None = None,
    geometry_column: str | None = None,
    crs: Any = None,
    geometry: str = "point",
    samples: int = 32,
    on_invalid: str = "raise",
    batch_rows: int | None = None,
    **options: Any,
) -> pa.RecordBatchReader:
    """Embed a stream of record batches, in bounded memory.

    The function for engines that speak Arrow: Spark's ``mapInArrow``, Ray Data's ``map_batches``,
    DuckDB, polars, DataFusion. Weights are loaded once a process, when it is first called.

    Parameters
    ----------
    batches : RecordBatchReader, Table, RecordBatch, GeoDataFrame, Arrow stream or iterable
        Rows with their places: a `pyarrow.RecordBatchReader`, anything with
        ``__arrow_c_stream__`` (tables of pyarrow, polars and DuckDB, ``GeoDataFrame.to_arrow()``),
        a GeoDataFrame, or an iterable of record batches, tables or GeoDataFrames. It is read as
        the result is. All have the columns of the first, and their geometries its CRS; other
        metadata may differ, and the first's is kept.
    encoder : str or LocationEncoder
        Registered name, local path, or a loaded encoder.
    layout : {"vector", "columns"}
        One column of whole vectors, an Arrow fixed-size list; or one column a value.
    prefix : str, optional
        As in `geoembed.embed`: name of the vector column, or start of the columns' names.
    overwrite : bool
        Replace columns that have the name of a new one; else they are an error.
    lon, lat : str, optional
        Names of the coordinate columns, where they are not the usual ones, or are to be read
        instead of geometries.
    geometry_column : str, optional
        Name of the column of geometries, WKB unless the schema says something else. Without it
        GeoParquet's metadata is followed, then GeoArrow's (WKB, WKT, points, lines, polygons and
        multiples of them), then coordinate columns are taken.
    crs : any
        CRS of geometries or coordinates that do not carry one; see `geoembed.read_places`.
    geometry, samples
        What stands for a geometry that is not a point, as in `geoembed.LocationFeaturizer`.
    on_invalid : {"raise", "nan", "drop"}
        What becomes of rows without a place: an error that names them, vectors of NaN, or rows
        left out. Well-known binary or text that cannot be read is such a row. Rows are counted
        from 0 through the whole stream.
    batch_rows : int, optional
        Rows at a time, whatever the batches that come; by default as many as make 64 MB of
        vectors. Equal places are computed once within them. Fewer go out at once where the other
        columns make 64 MB before, or where dictionaries have more values together than their
        indices can count.
    **options
        Of the encoder: ``layers``, ``normalize``, ``precision``, ``dtype``, ``device``,
        ``seam``, ``block_size``; see `geoembed.LocationEncoder`.

    Returns
    -------
    pyarrow.RecordBatchReader
        The rows in order, all columns as they were and the embedding behind them. The metadata
        of its schema says under ``geoembed`` who made it. Nothing is computed until it is read.

    Raises
    ------
    TableError
        If `batches` are none, columns are missing, or a column of a new name exists and
        `overwrite` is false; while it is read, if a batch has other columns than the first, or
        geometries in another CRS or encoding, or there are bytes that are no geometry.
    CoordinateError
        If no places can be found or their CRS is unknown; while it is read, if some are invalid,
        or the SRID of a geometry (EWKB) contradicts the CRS.
    OptionError
        If an option is not one of those offered.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from geoembed.scaling import embed_batches
    >>> towns = pa.table({"name": ["Berlin"], "lon": [13.4], "lat": [52.5]})
    >>> embedded = embed_batches(towns).read_all()
    >>> embedded.column_names, embedded["embedding"].type.list_size
    (['name', 'lon', 'lat', 'embedding'], 512)
    """
    check_choices(layout=layout, geometry=geometry, on_invalid=on_invalid)
    check_samples(samples)
    if batch_rows is not None:
        check_batch_rows(batch_rows)
    if prefix is not None and not isinstance(prefix, str):
        raise OptionError(f"prefix={prefix!r} is not text such as {VECTOR_COLUMN!r}.")
    loaded = shared_encoder(encoder, **options)
    if layout == "vector":
        names = [VECTOR_COLUMN if prefix is None else prefix]
    else:
        names = loaded.feature_names(prefix)
    added = vector_fields(names, layout, loaded.dimension, loaded.dtype)
    made = provenance(loaded, layout=layout, names=names, geometry=geometry, samples=samples)
    schema, tables = as_tables(batches)
    metadata = {**(schema.metadata or {}), b"geoembed": json.dumps(made).encode()}
    if not schema.names:
        # Engines call their functions for partitions without a batch too.
        return pa.RecordBatchReader.from_batches(pa.schema(added, metadata=metadata), [])
    source = ArrowSource(schema, tables, geometry_column)
    source.settle(lon, lat, crs)
    kept = _kept(source, names, overwrite)
    whole = pa.schema([*(schema.field(name) for name in kept), *added], metadata=metadata)
    reading = {"crs": crs, "geometry": geometry, "samples": samples}
    rows = usual_rows(loaded) if batch_rows is None else batch_rows

    def embedded() -> Iterator[pa.RecordBatch]:
        first = 0
        on = "raise" if on_invalid == "raise" else "nan"
        for table in cut(source.tables(), rows):
            places, _ = source.read_places(table, first, on_invalid=on, **reading)
            first += len(table)
            vectors = encode_places(loaded, places, progress=False)
            if on_invalid == "drop" and not places.valid.all():
                table, vectors = table.filter(pa.array(places.valid)), vectors[places.valid]
            columns = [*table.select(kept).columns, *vector_columns(vectors, added, layout)]
            yield from _combine(pa.table(columns, schema=whole))

    return pa.RecordBatchReader.from_batches(whole, embedded())


def _combine(table: pa.Table) -> list[pa.RecordBatch]:
    """Make one batch of a table, or the few that its dictionaries allow.

    Dictionaries of many batches may have more values together than their indices can count; the
    type of a column is a promise, so that the rows are halved instead.
    """
    try:
        batches: list[pa.RecordBatch] = table.combine_chunks().to_batches()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        batches = table.to_batches()
        if len(batches) < 2:
            return batches
        half = len(batches) // 2
        parts = map(pa.Table.from_batches, (batches[:half], batches[half:]))
        return [batch for part in parts for batch in _combine(part)]
    return batches


def _kept(source: ArrowSource, names: list[str], overwrite: bool) -> list[str]:
    replaced = columns_to_replace(source.schema.names, names, overwrite=overwrite)
    lost = [column.name for column in source.geometries if column.name in replaced]
    if lost:
        raise TableError(
            f"The embedding cannot replace the geometry column {lost[0]!r}. Pass another prefix=."
        )
    return [name for name in source.schema.names if name not in replaced]
