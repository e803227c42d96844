"""Table file in, the same with predictions out, in bounded memory."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from geoembed import __version__
from geoembed.coordinates import Places
from geoembed.errors import OptionError, TableError, unknown_name
from geoembed.featurizer import LocationFeaturizer
from geoembed.heads.extras import check_extra_columns
from geoembed.heads.files.drafts import check_target, draft, kind_of
from geoembed.heads.files.vector_sink import VectorSink, geometry_type
from geoembed.progress import progress_bar
from geoembed.scaling.folder_source import open_table
from geoembed.streaming.csv_sink import CsvSink
from geoembed.streaming.geoparquet import CRS84, Summary, describe
from geoembed.streaming.parquet_sink import ParquetSink
from geoembed.streaming.request import as_path, check_batch_rows
from geoembed.streaming.run import cut
from geoembed.streaming.shape import Shape
from geoembed.streaming.sinks import Result
from geoembed.streaming.sources import Source

__all__ = ["PredictReport", "predict_file"]

# As many as a head featurizes at a time.
_ROWS: Final = 16_384


@dataclass(frozen=True)
class PredictReport:
    """What `predict_file` did.

    Parameters
    ----------
    target : Path
        The file that was written.
    rows : int
        Rows in it.
    empty : int
        Rows without a place, whose predictions are missing.
    columns : tuple of str
        Those that were added.
    seconds : float
        Time spent on reading, predicting and writing.
    """

    target: Path
    rows: int
    empty: int
    columns: tuple[str, ...]
    seconds: float


def predict_file(
    head: Any,
    source: "str | PathLike[str]",
    target: "str | PathLike[str]",
    *,
    overwrite: bool = False,
    force: bool = False,
    lon: str | None = None,
    lat: str | None = None,
    crs: Any = None,
    layer: str | None = None,
    on_invalid: str = "raise",
    batch_rows: int = _ROWS,
    progress: bool | None = None,
) -> PredictReport:
    """Predict at the places in a table file and write a table file, in bounded memory.

    Parameters
    ----------
    head : LocationHead
        Fitted.
    source : str or path
        Any file that `geoembed.embed_file` reads, or a folder of Parquet files or a pattern of
        them, with the head's extra columns.
    target : str or path
        ``.parquet`` or ``.geoparquet``: GeoParquet with all columns of the source. ``.csv``: the
        same as text, with columns ``lon`` and ``lat`` (degrees, WGS 84) instead of a geometry.
        ``.gpkg``, ``.fgb``, ``.geojson``, ``.geojsonl``: the same with its geometries, in their
        CRS, which geographic information systems open.
    overwrite : bool
        Replace columns of the source that have the name of a new one; else they are an error.
    force : bool
        Replace the target if it exists.
    lon, lat : str, optional
        Names of the coordinate columns, where they are not the usual ones, or are to be read
        instead of geometries.
    crs : any
        CRS of coordinates that do not carry one; see `geoembed.read_places`.
    layer : str, optional
        Layer of a GeoPackage that has several.
    on_invalid : {"raise", "nan"}
        What becomes of rows without a place: an error that names them, or missing predictions.
        Rows are counted from 0 through the whole file.
    batch_rows : int
        Rows at a time.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.

    Returns
    -------
    PredictReport
        Rows, columns, seconds.

    Raises
    ------
    TableError
        If the source is missing, empty, damaged or of no known kind; if a column or layer is
        missing, or a column of a new name exists and `overwrite` is false; if the target exists
        and `force` is false, is the source or one of its files, or cannot be written.
    CoordinateError
        If places cannot be read, have no CRS, or are invalid with ``on_invalid="raise"``.
    OptionError
        If an option is not one of those offered.
    NotFittedError
        If the head has not been fitted.

    Notes
    -----
    The target appears under its name when it is whole; nothing is left of a run that fails. From
    CSV to CSV cells stay as they are spelled, unless the head needs extra columns.

    Examples
    --------
    >>> import geoembed as ge
    >>> from geoembed.heads.files.tables import predict_file
    >>> cities = ge.data.load_cities().head(200)
    >>> cities["north"] = cities["lat"].abs()
    >>> head = ge.LocationRegressor("xyz").fit(cities, "north")
    >>> cities[["name", "geometry"]].to_file("cities.gpkg")
    >>> predict_file(head, "cities.gpkg", "predicted.gpkg").columns
    ('predicted_north', 'predicted_north_lower', 'predicted_north_upper')
    """
    check_is_fitted(head)
    check_batch_rows(batch_rows)
    if on_invalid not in ("raise", "nan"):
        raise OptionError(f"on_invalid={on_invalid!r} is not one of: raise, nan.")
    read_from = as_path(source, "source")
    written_to = check_target(target, read_from, force=force)
    started = time.perf_counter()
    extras = check_extra_columns(getattr(head, "extra_columns", None))
    options = {"layer": layer, "lon": lon, "lat": lat, "crs": crs}
    # Cells as they are spelled suit CSV, numbers suit the extra columns.
    typed = bool(extras) or kind_of(written_to) != "csv"
    with closing(open_table(read_from, typed=typed, **options)) as opened:
        run = _Run(head, opened, written_to, extras, overwrite, on_invalid, crs)
        run.go(batch_rows, progress)
    return PredictReport(
        target=as_path(target, "target"),
        rows=run.rows,
        empty=run.empty,
        columns=run.names,
        seconds=time.perf_counter() - started,
    )


class _Run:
    """One file to be made from another."""

    def __init__(
        self,
        head: Any,
        source: Source,
        target: Path,
        extras: list[str],
        overwrite: bool,
        on_invalid: str,
        crs: Any,
    ) -> None:
        self._head, self._source, self._target = head, source, target
        self._extras, self._overwrite = extras, overwrite
        self._kind = kind_of(target)
        for name in extras:
            if name not in source.schema.names:
                known = source.schema.names
                raise TableError(str(unknown_name(f"column in {source.path.name}", name, known)))
        featurizer = getattr(head, "featurizer_", None)
        self._geometry, samples = "point", 32
        if isinstance(featurizer, LocationFeaturizer):
            self._geometry, samples = featurizer.geometry, featurizer.samples
        self._reading = {
            "crs": crs, "geometry": self._geometry, "samples": samples, "on_invalid": on_invalid,
        }  # fmt: skip
        self._summary = Summary()
        self.names: tuple[str, ...] = ()
        self.rows = self.empty = 0

    def go(self, batch_rows: int, progress: bool | None) -> None:
        """Make the file, or leave nothing."""
        tables = cut(self._source.tables(), batch_rows)
        first = self._first_predicted(tables)
        with (
            draft(self._target) as folder,
            progress_bar(
                progress,
                text=f"predicting {self._target.name}",
                unit="row",
                total=self._source.rows,
            ) as bar,
        ):
            try:
                self._write(folder, self._batches(chain(first, tables), bar.update))
            except OSError as error:
                cause = os.strerror(error.errno) if error.errno else str(error)
                raise TableError(f"{self._target} cannot be written: {cause}.") from error

    def _first_predicted(self, tables: Iterator[pa.Table]) -> list[pa.Table]:
        """Read on until a row has a place; its predictions say which columns there will be."""
        read: list[pa.Table] = []
        start = 0
        for table in tables:
            read.append(table)
            places, geoms = self._source.read_places(table, start, **self._reading)
            start += len(table)
            at = np.flatnonzero(places.valid)[:1]
            if len(at):
                row = self._predict(table, places, geoms, at)
                self._settle(row)
                return read
        raise TableError(f"None of the {start:,} rows of {self._source.path} has a place.")

    def _settle(self, predicted: pa.Table) -> None:
        self.names = tuple(predicted.schema.names)
        # A file that holds geometries of its own kind keeps them, as Parquet does.
        kind = "parquet" if self._kind == "vector" else self._kind
        self._shape = Shape(
            self._source,
            kind,
            list(self.names),
            overwrite=self._overwrite,
            choice=self._geometry,
            otherwise="rename what is there",
        )
        self._fields = list(predicted.schema)
        self._schema = pa.schema(
            [*self._shape.schema, *self._fields], metadata=self._shape.schema.metadata
        )

    def _batches(
        self, tables: Iterator[pa.Table], done: Callable[[int], object]
    ) -> Iterator[pa.Table]:
        for table in tables:
            places, geoms = self._source.read_places(table, self.rows, **self._reading)
            at = np.flatnonzero(places.valid)
            predicted = self._predict(table, places, geoms, at) if len(at) else None
            columns = self._shape.columns(table, places, geoms, None, self._summary)
            for field in self._fields:
                values = pa.nulls(len(table), field.type)
                if predicted is not None:
                    values = _spread(predicted.column(field.name), at, len(table))
                columns = columns.append_column(field, values.cast(field.type))
            self.rows += len(table)
            self.empty += len(table) - len(at)
            yield columns.cast(self._schema)
            done(len(table))

    def _predict(
        self,
        table: pa.Table,
        places: Places,
        geoms: NDArray[np.object_] | None,
        at: NDArray[np.intp],
    ) -> pa.Table:
        """Predict at some rows; whole rows are looked at, so that errors name those of the file."""
        index = places.index[at]
        extras = table.select(self._extras).take(pa.array(at)).to_pandas().set_axis(index)
        crs: Any
        if geoms is None:
            points, crs = gpd.points_from_xy(*places.lonlat[at].T), CRS84
        else:
            points, crs = geoms[at], self._source.geometries[0].crs
        name = "geometry"
        while name in extras.columns:
            name += "_"
        extras[name] = gpd.GeoSeries(points, index=index, crs=crs)
        columns = self._head.predict_columns(gpd.GeoDataFrame(extras, geometry=name))
        return pa.table({str(name): _arrow(columns[name]) for name in columns.columns})

    def _write(self, folder: Path, batches: Iterator[pa.Table]) -> None:
        data = folder / f"data{self._target.suffix.lower()}"
        if self._kind == "vector":
            geometry = self._shape.geometries[0]
            sink = VectorSink(data, self._schema, geometry, geometry_type(self._source))
            sink.write(batches, layer=self._target.stem)
        else:
            self._write_rows(data, batches)
        with data.open("rb") as file:
            os.fsync(file.fileno())
        data.replace(self._target)

    def _write_rows(self, data: Path, batches: Iterator[pa.Table]) -> None:
        # The files that embeddings are written to, with none in them.
        result = Result(self._schema, "columns", (), 0, "float32")
        sink = (ParquetSink if self._kind == "parquet" else CsvSink)(data, result)
        with closing(sink):
            for batch in batches:
                sink.append(batch, np.empty((len(batch), 0), dtype=np.float32))
            metadata = {b"geoembed_head": json.dumps(self._provenance()).encode()}
            if self._shape.geometries:
                metadata[b"geo"] = describe(self._shape.geometries, self._summary, whole=True)
            sink.finish(metadata, lambda rows: None)

    def _provenance(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "head": repr(self._head),
            "columns": list(self.names),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def _spread(values: pa.ChunkedArray, at: NDArray[np.intp], rows: int) -> pa.ChunkedArray:
    """Put values to the rows they are of; the others become missing."""
    place = np.zeros(rows, dtype=np.int64)
    place[at] = np.arange(len(at))
    missing = np.ones(rows, dtype=np.bool_)
    missing[at] = False
    return values.take(pa.array(place, mask=missing))


def _arrow(values: "pd.Series[Any]") -> pa.Array:
    """Turn a column of predictions into plain Arrow values: labels as what they are."""
    array = pa.array(values, from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    return array.cast(pa.string()) if pa.types.is_large_string(array.type) else array
