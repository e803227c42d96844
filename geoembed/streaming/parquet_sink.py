"""Write Parquet so that a file that is broken off loses no finished row group."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from geoembed.streaming.footer import MAGIC, RawStructs, compose, row_groups
from geoembed.streaming.sinks import Result, Sink, Vectors

__all__ = ["ParquetSink"]

# Where the footer's share of each row group waits until the file is finished.
_GROUPS: Final = "row_groups"


class ParquetSink(Sink):
    """A Parquet file, one row group a batch.

    pyarrow writes every batch as a small file of its own at the end of the growing one; its
    footer is cut off, shifted and kept in a second file. `finish` puts them together. Nothing is
    written or encoded twice, and what is on the disk can be gone on with.

    Vectors are split into byte streams and compressed, which takes a sixth off the trained
    embeddings and makes them faster to read; half floats are not split, as older readers cannot
    put those together again.
    """

    def __init__(self, data: Path, result: Result, state: Mapping[str, Any] | None = None) -> None:
        self._groups: BinaryIO = (data.parent / _GROUPS).open("w+b" if state is None else "r+b")
        self._count = 0 if state is None else int(state["row_groups"])
        super().__init__(data, result, state)
        value = pa.from_numpy_dtype(result.dtype)
        kind = value
        if result.layout == "vector":
            kind = pa.list_(pa.field("element", value, nullable=False), result.dimension)
        added = [pa.field(name, kind, nullable=False) for name in result.names]
        self._schema = pa.schema([*result.schema, *added])
        self._settings = _settings(result)

    def state(self) -> dict[str, Any]:
        """Return how far the file is; fit for JSON."""
        groups = {"row_groups": self._count, "row_groups_bytes": self._groups.tell()}
        return super().state() | groups

    def _files(self) -> list[BinaryIO]:
        return [self.file, self._groups]

    def _lengths(self, state: Mapping[str, Any]) -> list[int]:
        return [state["bytes"], state["row_groups_bytes"]]

    def _append(self, table: pa.Table, vectors: Vectors) -> None:
        whole = pa.table([*table.columns, *self._vector_columns(vectors)], schema=self._schema)
        start = self.file.tell()
        footer = self._write(self._schema, whole)
        for group in row_groups(footer, start):
            self._groups.write(group)
            self._count += 1

    def finish(self, metadata: Mapping[bytes, bytes]) -> None:
        """Write the footer, with `metadata` beside that of the result's schema."""
        if self.rows == 0:
            self.file.write(MAGIC)
        kept = {**(self.result.schema.metadata or {}), **metadata}
        start = self.file.tell()
        template = self._write(self._schema.with_metadata(kept), None)
        self.file.truncate(start)
        self.file.seek(start)
        self._groups.seek(0)
        groups = RawStructs(self._count, self._groups.read())
        self.file.write(compose(template, groups, self.rows))

    def _write(self, schema: pa.Schema, table: pa.Table | None) -> bytes:
        """Write a Parquet file behind what is there, cut its footer off and return it."""
        with pq.ParquetWriter(self.file, schema, **self._settings) as writer:
            if table is not None:
                writer.write_table(table, row_group_size=len(table))
        end = self.file.seek(-8, os.SEEK_END)
        length = int.from_bytes(self.file.read(4), "little")
        self.file.seek(end - length)
        footer = self.file.read(length)
        self.file.truncate(end - length)
        self.file.seek(end - length)
        return footer

    def _vector_columns(self, vectors: Vectors) -> list[pa.Array]:
        if self.result.layout == "columns":
            return [pa.array(column) for column in vectors.T]
        kind = self._schema.field(self.result.names[0]).type
        return [pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=kind)]


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
        # It holds offsets that `footer` does not shift.
        "write_page_index": False,
    }
    if result.dtype != "float16":
        settings["column_encoding"] = dict.fromkeys(leaves, "BYTE_STREAM_SPLIT")
    return settings
