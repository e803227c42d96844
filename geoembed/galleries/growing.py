"""Vectors written row after row into a file, in bounded memory, so that a build can go on."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["GrowingVectors"]

# A build that is killed loses what it did since it last looked up: so many seconds, or bytes.
_SECONDS: Final = 5.0
_BYTES: Final = 512 * 2**20
# Written at a time: a copy in the file's type is made of so much.
_PIECE: Final = 16 * 2**20


class GrowingVectors:
    """An ``.npy`` file that takes rows in order.

    Rows are assigned as to an array, each after the one before. They are written and not mapped:
    what is written takes no memory of the process, and a disk that is full is an error and not the
    end of the process.

    Parameters
    ----------
    path : Path
        The file; made anew where nothing is done.
    shape : (int, int)
        Rows and values a row, when it is whole.
    dtype : str
        ``"float32"`` or ``"float16"``; what is assigned is rounded to it.
    done : int
        Rows that are in it already; what lies behind them is cut off.
    record : callable, optional
        Called with the number of rows that are safe on the disk, every few seconds and at the end.
        Rows that were assigned at once count when all of them are there: a build goes on with
        whole blocks, else its vectors would have other bits.

    Raises
    ------
    OSError
        If the disk has no room for the rows that are to come, before any is made.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "rows.npy")
    >>> with GrowingVectors(path, (3, 2), "float16") as rows:
    ...     rows[0:2] = np.ones((2, 2))
    ...     rows[2:3] = np.zeros((1, 2))
    >>> np.load(path).tolist()
    [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int],
        dtype: str,
        *,
        done: int = 0,
        record: Callable[[int], None] | None = None,
    ) -> None:
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        self.done = done
        self._record = record
        self._row_bytes = shape[1] * self.dtype.itemsize
        self._file = path.open("r+b" if done else "w+b")
        try:
            if not done:
                facts = np.lib.format.header_data_from_array_1_0(np.empty((0, 0), self.dtype))
                np.lib.format.write_array_header_1_0(self._file, facts | {"shape": shape})
                self._file.flush()
            self._start = _length_of_header(path)
            self._file.truncate(self._start + done * self._row_bytes)
            self._file.seek(0, os.SEEK_END)
            self._check_room()
        except BaseException:
            self._file.close()
            raise
        self._recorded, self._unsafe, self._then = done, 0, time.monotonic()

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, rows: slice, values: NDArray[Any]) -> None:
        start, stop, step = rows.indices(len(self))
        if start != self.done or step != 1 or np.shape(values) != (stop - start, self.shape[1]):
            raise ValueError(
                f"Rows {start:,} to {stop:,} with values {np.shape(values)} do not follow the "
                f"{self.done:,} rows of {self.shape} that are there."
            )
        piece = max(1, _PIECE // self._row_bytes)
        for first in range(0, stop - start, piece):
            some = np.ascontiguousarray(values[first : first + piece], dtype=self.dtype)
            self._file.write(some.data)
            self._unsafe += len(some)
            if self._unsafe * self._row_bytes > _BYTES:
                self._settle()
        self.done = stop
        if time.monotonic() - self._then > _SECONDS:
            self._settle()

    def __enter__(self) -> "GrowingVectors":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._settle()
            else:
                # What did not fit may not be written now either: then less is kept.
                with suppress(OSError):
                    self._settle()
        finally:
            with suppress(OSError):
                self._file.close()
        if kind is None and self.done != len(self):
            raise ValueError(f"{self.done:,} of {len(self):,} rows were written to {self.path}.")

    def _settle(self) -> None:
        """Bring what is written onto the disk, then record the rows that were assigned whole."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._record is not None and self.done > self._recorded:
            self._record(self.done)
        self._recorded, self._unsafe, self._then = self.done, 0, time.monotonic()

    def _check_room(self) -> None:
        needed = (len(self) - self.done) * self._row_bytes
        free = shutil.disk_usage(self.path.parent).free
        if free < needed:
            raise OSError(
                errno.ENOSPC,
                f"{os.strerror(errno.ENOSPC)}, {needed / 1e9:,.2f} GB are needed and "
                f"{free / 1e9:,.2f} GB are free",
            )


def _length_of_header(path: Path) -> int:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return file.tell()
