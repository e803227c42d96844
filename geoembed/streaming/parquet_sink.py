"""Write Parquet batch by batch, so that a run that is broken off loses no finished batch."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geoembed.streaming.sinks import Result, Sink, Vectors, lost
from geoembed.streaming.vectors import vector_columns, vector_fields

__all__ = ["ParquetSink"]


class ParquetSink(Sink):
    """A Parquet file, one row group a batch.

    A Parquet file has its index at the end, so one that is torn off cannot be read, and nothing
    can be added to one. Every batch therefore becomes a file of its own in the folder ``parts``,
    in Arrow's own format, which is written and read without any encoding; `finish` stitches them
    together, one in memory at a time. The parts stay until the folder is removed, so a run that
    is killed while it stitches loses nothing either.

    Vectors are split into byte streams and compressed, which takes a sixth off the trained
    embeddings and makes them faster to read; half floats are not split, as older readers cannot
    put those together again.
    """

    def __init__(self, data: Path, result: Result, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, result, state)
        self._parts = data.parent / "parts"
        self._parts.mkdir(exist_ok=True)
        self._count = 0 if state is None else int(state["parts"])
        # Those of an earlier run may have come no further than the system's memory.
        self._synced = 0
        for number in range(self._count):
            if not self._path(number).exists():
                raise lost(self._path(number))
        self._remove_from(self._count)
        self._added = vector_fields(result.names, result.layout, result.dimension, result.dtype)
        self._schema = pa.schema([*result.schema, *self._added])

    def state(self) -> dict[str, Any]:
        """Return rows and parts."""
        return {"rows": self.rows, "parts": self._count}

    def _append(self, table: pa.Table, vectors: Vectors) -> None:
        added = vector_columns(vectors, self._added, self.result.layout)
        whole = pa.table([*table.columns, *added], schema=self._schema)
        path = self._path(self._count)
        draft = path.with_suffix(".new")
        with pa.OSFile(str(draft), "wb") as file, pa.ipc.new_file(file, whole.schema) as writer:
            writer.write_table(whole)
        draft.replace(path)
        self._count += 1

    def sync(self) -> None:
        """Have every part on the disk, and the finished file if it is there."""
        paths = [self._path(number) for number in range(self._synced, self._count)]
        for path in [*paths, self.data]:
            if path.exists():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        self._synced = self._count

    def abandon(self, state: Mapping[str, Any]) -> None:
        """Remove the parts behind `state`, and have the others on the disk."""
        self._remove_from(int(state["parts"]))
        self._count = int(state["parts"])
        self.data.unlink(missing_ok=True)
        self.sync()

    def finish(self, metadata: Mapping[bytes, bytes], done: Callable[[int], object]) -> None:
        """Stitch the parts together; `metadata` joins that of the result's schema."""
        kept = {**(self.result.schema.metadata or {}), **metadata}
        schema = self._schema.with_metadata(kept)
        with pq.ParquetWriter(self.data, schema, **_settings(self.result)) as writer:
            for number in range(self._count):
                with pa.OSFile(str(self._path(number))) as file:
                    part = pa.ipc.open_file(file).read_all()
                writer.write_table(part.replace_schema_metadata(kept), row_group_size=len(part))
                done(len(part))

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _path(self, number: int) -> Path:
        return self._parts / f"{number:06d}.arrow"

    def _remove_from(self, number: int) -> None:
        for path in self._parts.iterdir():
            if path.suffix == ".new" or int(path.stem) >= number:
                with suppress(FileNotFoundError):
                    path.unlink()


def _settings(result: Result) -> dict[str, Any]:
    """Writer settings: nothing that looks for repetition where there is none."""
    leaves = result.names
    if result.layout == "vector":
        leaves = (f"{result.names[0]}.list.element",)
    others = [field.name for field in result.schema if not pa.types.is_binary(field.type)]
    settings: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": others,
        "write_statistics": others,
    }
    if result.dtype != "float16":
        settings["column_encoding"] = dict.fromkeys(leaves, "BYTE_STREAM_SPLIT")
    return settings
