"""Files that grow by batches and can be cut back to what was finished: .npy, CSV, Parquet."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["NpySink", "Result", "Sink"]

Vectors = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Result:
    """What a file is to hold.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the columns beside the embedding.
    layout : {"vector", "columns"}
        One column that holds whole vectors, or one column a value.
    names : tuple of str
        Columns of the embedding.
    dimension : int
        Length of a vector.
    dtype : str
        Of its values.
    """

    schema: pa.Schema
    layout: str
    names: tuple[str, ...]
    dimension: int
    dtype: str


class Sink(ABC):
    """A file under construction, in a folder of its own.

    Parameters
    ----------
    data : Path
        The file.
    result : Result
        What it is to hold.
    state : mapping, optional
        What `state` returned, to go on from there: everything behind it is cut off.
    """

    def __init__(self, data: Path, result: Result, state: Mapping[str, Any] | None = None) -> None:
        self.result = result
        self.rows = 0 if state is None else int(state["rows"])
        self.file: BinaryIO = data.open("w+b" if state is None else "r+b")
        if state is not None:
            for file, length in zip(self._files(), self._lengths(state), strict=True):
                file.truncate(length)
                file.seek(length)

    def state(self) -> dict[str, Any]:
        """Return how far the file is; fit for JSON."""
        return {"rows": self.rows, "bytes": self.file.tell()}

    def _files(self) -> list[BinaryIO]:
        return [self.file]

    def _lengths(self, state: Mapping[str, Any]) -> list[int]:
        return [state["bytes"]]

    def sync(self) -> None:
        """Have everything written so far on the disk."""
        for file in self._files():
            file.flush()
            os.fsync(file.fileno())

    def abandon(self, state: Mapping[str, Any]) -> None:
        """Leave on the disk what was there when `state` was returned, however the rest failed.

        Cut off below Python's buffers: after a failed write those could not be emptied. The
        file can only be closed afterwards.
        """
        for file, length in zip(self._files(), self._lengths(state), strict=True):
            os.ftruncate(file.fileno(), length)
            os.fsync(file.fileno())

    def append(self, table: pa.Table, vectors: Vectors) -> None:
        """Write rows: columns of the result's schema, and an array (n, dimension) in C order."""
        if len(vectors):
            self._append(table, vectors)
            # Out of Python's buffers, so that what `state` speaks of outlives this process.
            for file in self._files():
                file.flush()
            self.rows += len(vectors)

    @abstractmethod
    def _append(self, table: pa.Table, vectors: Vectors) -> None: ...

    @abstractmethod
    def finish(self, metadata: Mapping[bytes, bytes]) -> None:
        """Write what belongs at the end; `metadata` where the format has room for it."""

    def close(self) -> None:
        """Close the file."""
        for file in self._files():
            file.close()


class NpySink(Sink):
    """An array of shape (rows, dimension) that ``numpy.load(mmap_mode="r")`` opens."""

    # Magic, version, length and text; a multiple of 64, so that the values are aligned.
    _HEADER = 128

    def __init__(self, data: Path, result: Result, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, result, state)
        if state is None:
            self.file.write(self._header())

    def _append(self, table: pa.Table, vectors: Vectors) -> None:
        self.file.write(np.ascontiguousarray(vectors).data)

    def finish(self, metadata: Mapping[bytes, bytes]) -> None:
        """Put the number of rows into the header."""
        self.file.seek(0)
        self.file.write(self._header())
        self.file.seek(0, os.SEEK_END)

    def _header(self) -> bytes:
        # Always as long, whatever the number of rows; format version 1.0 of numpy.lib.format.
        shape = (self.rows, self.result.dimension)
        described = {"descr": np.dtype(self.result.dtype).str, "fortran_order": False}
        text = f"{described | {'shape': shape}}".encode("ascii")
        start = b"\x93NUMPY\x01\x00" + (self._HEADER - 10).to_bytes(2, "little")
        return start + text.ljust(self._HEADER - 11) + b"\n"
