"""Files that are made batch by batch and can be gone on with: what they share, and .npy."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from geoembed.errors import TableError

__all__ = ["GrowingFile", "NpySink", "Result", "Sink", "Vectors", "lost"]

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


def lost(path: Path) -> TableError:
    """Build the error for a file of an unfinished run that is not what its manifest says."""
    return TableError(
        f"{path}, a file of an unfinished run, is missing or cut off. Start again with force=True "
        "(--force) instead of resume."
    )


class Sink(ABC):
    """A file under construction, in a folder of its own.

    Parameters
    ----------
    data : Path
        The file.
    result : Result
        What it is to hold.
    state : mapping, optional
        What `state` returned, to go on from there: everything behind it is thrown away.
    """

    def __init__(self, data: Path, result: Result, state: Mapping[str, Any] | None = None) -> None:
        self.data = data
        self.result = result
        self.rows = 0 if state is None else int(state["rows"])

    def append(self, table: pa.Table, vectors: Vectors) -> None:
        """Write rows: columns of the result's schema, and an array (n, dimension) in C order."""
        if len(vectors):
            self._append(table, vectors)
            self.rows += len(vectors)

    @abstractmethod
    def _append(self, table: pa.Table, vectors: Vectors) -> None: ...

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return how far the file is; fit for JSON."""

    @abstractmethod
    def sync(self) -> None:
        """Have everything written so far on the disk."""

    @abstractmethod
    def abandon(self, state: Mapping[str, Any]) -> None:
        """Leave on the disk what was there when `state` was returned, however the rest failed."""

    @abstractmethod
    def finish(self, metadata: Mapping[bytes, bytes], done: Callable[[int], object]) -> None:
        """Complete the file; `metadata` goes where the format has room for it.

        `done` is called with numbers of rows, where that takes time.
        """

    @abstractmethod
    def close(self) -> None:
        """Close what is open."""


class GrowingFile(Sink):
    """A file that rows are simply added to, and that can be cut back to a length."""

    def __init__(self, data: Path, result: Result, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, result, state)
        if state is not None and not (data.exists() and data.stat().st_size >= state["bytes"]):
            raise lost(data)
        self.file: BinaryIO = data.open("w+b" if state is None else "r+b")
        if state is not None:
            self.file.truncate(state["bytes"])
            self.file.seek(state["bytes"])

    def append(self, table: pa.Table, vectors: Vectors) -> None:
        """Write rows, and empty Python's buffer: what `state` speaks of outlives this process."""
        super().append(table, vectors)
        self.file.flush()

    def state(self) -> dict[str, Any]:
        """Return rows and bytes."""
        return {"rows": self.rows, "bytes": self.file.tell()}

    def sync(self) -> None:
        """Have everything written so far on the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def abandon(self, state: Mapping[str, Any]) -> None:
        """Cut the file back, below Python's buffer: after a failed write that cannot be emptied."""
        os.ftruncate(self.file.fileno(), state["bytes"])
        os.fsync(self.file.fileno())

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class NpySink(GrowingFile):
    """An array of shape (rows, dimension) that ``numpy.load(mmap_mode="r")`` opens."""

    def __init__(self, data: Path, result: Result, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(data, result, state)
        if state is None:
            self._write_header()

    def _append(self, table: pa.Table, vectors: Vectors) -> None:
        self.file.write(np.ascontiguousarray(vectors).data)

    def finish(self, metadata: Mapping[bytes, bytes], done: Callable[[int], object]) -> None:
        """Put the number of rows into the header, which NumPy pads so that it keeps its length."""
        self.file.seek(0)
        self._write_header()
        self.file.seek(0, os.SEEK_END)

    def _write_header(self) -> None:
        described = {
            "descr": np.dtype(self.result.dtype).str,
            "fortran_order": False,
            "shape": (self.rows, self.result.dimension),
        }
        np.lib.format.write_array_header_1_0(self.file, described)
