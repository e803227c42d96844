"""The run itself: read, encode, write, and remember how far it came."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from geoembed.errors import TableError
from geoembed.featurizer import encode_places
from geoembed.progress import progress_bar
from geoembed.streaming.csv_sink import CsvSink
from geoembed.streaming.geoparquet import Summary, describe
from geoembed.streaming.parquet_sink import ParquetSink
from geoembed.streaming.request import Request
from geoembed.streaming.shape import Shape
from geoembed.streaming.sinks import NpySink, Result, Sink
from geoembed.streaming.sources import Source
from geoembed.streaming.vectors import BATCH_BYTES, provenance, usual_rows
from geoembed.streaming.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tqdm import tqdm

    from geoembed.encoders.base import LocationEncoder

__all__ = ["Run", "cut"]

# What is finished is put on the disk this often: all that a crash of the system can take.
CHECKPOINT_SECONDS: float = 15.0

_SINKS: Final[dict[str, type[Sink]]] = {"parquet": ParquetSink, "csv": CsvSink, "npy": NpySink}


class Run:
    """One file to be made from another.

    Parameters
    ----------
    request : Request
        What is asked for.
    encoder : LocationEncoder
        What encodes.
    source : Source
        What is read.
    told : mapping, optional
        What else is written down beside the vectors about who made them.

    Attributes
    ----------
    rows_read : int
        Rows of the source that are done.
    resumed : int
        Those of them that an earlier run had done.
    rows : int
        Rows written.
    """

    def __init__(
        self,
        request: Request,
        encoder: "LocationEncoder",
        source: Source,
        told: "Mapping[str, Any] | None" = None,
    ) -> None:
        self._request, self._encoder, self._source = request, encoder, source
        self._told = dict(told or {})
        names = request.names(encoder)
        self._shape = Shape(
            source, request.kind, names, overwrite=request.overwrite, choice=request.geometry
        )
        self._result = Result(
            self._shape.schema,
            request.written_layout,
            tuple(names),
            encoder.dimension,
            encoder.dtype,
        )
        self._summary = Summary()
        self._places = {
            "crs": request.crs,
            "geometry": request.geometry,
            "samples": request.samples,
            "on_invalid": "raise" if request.on_invalid == "raise" else "nan",
        }
        self.rows_read = self.resumed = self.rows = 0

    def go(self, progress: bool | None) -> None:
        """Make the file; on the way out of any failure keep what is finished."""
        facts = self._request.facts(self._encoder, self._source.files())
        workspace = Workspace(self._request.written_to, facts)
        try:
            before = workspace.open(resume=self._request.resume, force=self._request.force)
            with workspace.released_on_error():
                self._sink = self._open_sink(workspace, before)
        except OSError as error:
            raise self._unwritable(error) from error
        self._last = before or {"rows_read": 0}
        try:
            self._work(workspace, progress)
            self._finish(progress)
        except BaseException as error:
            # Ctrl-C too: whatever stopped it, what is done is worth keeping.
            note = self._keep(workspace)
            if note is None and isinstance(error, KeyboardInterrupt):
                note = "No batch was finished yet: nothing is kept."
            raised = self._unwritable(error) if isinstance(error, OSError) else error
            if note:
                raised.add_note(note)
            if raised is error:
                raise
            raise raised from error
        workspace.publish()

    def _open_sink(self, workspace: Workspace, before: dict[str, Any] | None) -> Sink:
        state = None
        if before is not None:
            state = before["sink"]
            self._summary = Summary(before["summary"])
            self.rows_read = self.resumed = before["rows_read"]
        return _SINKS[self._request.kind](workspace.data, self._result, state)

    def _work(self, workspace: Workspace, progress: bool | None) -> None:
        rows = self._request.batch_rows or usual_rows(self._encoder)
        saved = time.monotonic()
        with self._bar(progress, "embedding", self._source.rows, self.resumed) as bar:
            for table in cut(self._source.tables(), rows, skip=self.rows_read):
                self._do(table)
                self._last = {
                    "rows_read": self.rows_read,
                    "sink": self._sink.state(),
                    "summary": self._summary.state(),
                }
                bar.update(len(table))
                if time.monotonic() - saved < CHECKPOINT_SECONDS:
                    workspace.note(self._last)
                    continue
                self._sink.sync()
                workspace.save(self._last)
                saved = time.monotonic()

    def _do(self, table: pa.Table) -> None:
        places, geoms = self._source.read_places(table, self.rows_read, **self._places)
        vectors = encode_places(self._encoder, places, progress=False)
        keep = None
        if self._request.on_invalid == "drop" and not places.valid.all():
            keep = places.valid
            vectors = vectors[keep]
        columns = self._shape.columns(table, places, geoms, keep, self._summary)
        self._sink.append(columns, vectors)
        self.rows_read += len(table)

    def _finish(self, progress: bool | None) -> None:
        self.rows = self._sink.rows
        metadata = {b"geoembed": json.dumps(self._provenance()).encode()}
        if self._shape.geometries:
            whole = self.rows == self.rows_read
            metadata[b"geo"] = describe(self._shape.geometries, self._summary, whole=whole)
        with self._bar(progress, "finishing", self.rows, 0) as bar:
            self._sink.finish(metadata, bar.update)
        self._sink.sync()
        self._sink.close()

    def _provenance(self) -> dict[str, Any]:
        request = self._request
        made = provenance(
            self._encoder,
            layout=request.written_layout,
            names=self._result.names,
            geometry=request.geometry,
            samples=request.samples,
        )
        return made | self._told

    def _keep(self, workspace: Workspace) -> str | None:
        """Note what is finished, or clean up where nothing is; say how to go on."""
        rows = self._last["rows_read"]
        if rows:
            # On a full disk the note of the last checkpoint has to do.
            with suppress(OSError):
                self._sink.abandon(self._last["sink"])
                workspace.save(self._last)
        with suppress(OSError):
            self._sink.close()
        if not rows:
            workspace.discard()
            return None
        workspace.release()
        return (
            f"{rows:,} rows are done and kept in {workspace.folder}. Go on with resume=True "
            "(--resume), or start again with force=True (--force), as a changed source requires."
        )

    def _unwritable(self, error: OSError) -> TableError:
        cause = os.strerror(error.errno) if error.errno else str(error)
        return TableError(f"{self._request.target} cannot be written: {cause}.")

    def _bar(self, progress: bool | None, what: str, total: int | None, done: int) -> "tqdm[Any]":
        text = f"{what} {self._request.target.name}"
        return progress_bar(progress, text=text, unit="row", total=total, done=done)


def cut(tables: "Iterable[pa.Table]", rows: int, *, skip: int = 0) -> Iterator[pa.Table]:
    """Cut a stream of tables into tables of `rows`, fewer where they hold much.

    What slices of a table share, a dictionary for one, is not what they hold.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        Of any length.
    rows : int
        Of the tables to give.
    skip : int
        Rows to leave out at the start.

    Yields
    ------
    pyarrow.Table
        None is empty.
    """
    parts: list[pa.Table] = []
    seen: set[Any] = set()
    count = size = looked_at = 0
    for table in tables:
        start = min(skip, len(table))
        skip -= start
        while start < len(table):
            part = table.slice(start, rows - count)
            start += len(part)
            count += len(part)
            size += part.nbytes
            parts.append(part)
            if count < rows and size >= BATCH_BYTES:
                size -= sum(
                    _shared_bytes(parts[at], seen, first=at == 0)
                    for at in range(looked_at, len(parts))
                )
                looked_at = len(parts)
            if count == rows or size >= BATCH_BYTES:
                yield pa.concat_tables(parts)
                parts, seen = [], set()
                count = size = looked_at = 0
    if parts:
        yield pa.concat_tables(parts)


def _shared_bytes(part: pa.Table, seen: set[Any], *, first: bool) -> int:
    """Count the bytes that a slice has whole, however short it is, but does not add to a batch.

    Those are dictionaries, and the texts of views: of the first slice all, for no cut makes them
    less, and of the others what has been seen before.
    """
    size = 0
    for column in part.columns:
        for chunk in column.chunks if _has_whole(column.type) else ():
            for key, nbytes in _whole(chunk):
                if first or key in seen:
                    size += nbytes
                seen.add(key)
    return size


@lru_cache(maxsize=1024)
def _has_whole(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return bool(
        pa.types.is_dictionary(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary_view(kind)
        or any(_has_whole(kind.field(i).type) for i in range(kind.num_fields))
    )


def _whole(array: pa.Array) -> Iterator[tuple[Any, int]]:
    """Give what slices of an array have whole: where it lies in memory, and its bytes."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(array, pa.DictionaryArray):
        words = array.dictionary
        yield tuple(buffer.address for buffer in words.buffers() if buffer), words.nbytes
    elif isinstance(array, pa.StringViewArray | pa.BinaryViewArray):
        for buffer in array.buffers()[2:]:
            yield buffer.address, buffer.size
    elif isinstance(array, pa.StructArray):
        for at in range(array.type.num_fields):
            yield from _whole(array.field(at))
    elif hasattr(array, "values"):  # Lists of all kinds, and maps.
        yield from _whole(array.values)
