"""Files of shards that each process keeps open for itself, and names of pictures over shards."""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["ShardFiles", "ShardNames"]

# Files that a process keeps open; systems allow a thousand or so.
_OPEN: Final = 128


class ShardNames(Sequence[str]):
    """Names of all rows, shard by shard; texts are made when they are asked for.

    Parameters
    ----------
    parts : list of pyarrow.StringArray
        Names of each shard.
    starts : ndarray of int64, shape (shards + 1,)
        The first row of each, and behind the last one.

    Examples
    --------
    >>> names = ShardNames([pa.array(["a", "b"]), pa.array(["c"])], np.array([0, 2, 3]))
    >>> names[2], names[-2:], len(names)
    ('c', ['b', 'c'], 3)
    """

    def __init__(self, parts: list[pa.StringArray], starts: NDArray[np.int64]) -> None:
        self._parts = parts
        self._starts = starts

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[row] for row in range(*at.indices(len(self)))]
        row = int(at) + (len(self) if at < 0 else 0)
        if not 0 <= row < len(self):
            raise IndexError(f"row {at} of {len(self)}")
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return str(self._parts[part][row - int(self._starts[part])])


class _Handle:
    """An open file that is closed when nobody reads from it any more."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def __del__(self) -> None:
        # Where opening failed there is no number.
        if hasattr(self, "number"):
            os.close(self.number)


class ShardFiles:
    """Files kept open, by each process for itself."""

    def __init__(self) -> None:
        self._reset()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._handles: OrderedDict[Path, _Handle] = OrderedDict()

    def read(self, path: Path, size: int, offset: int) -> bytes:
        """Read a part of a file.

        Parameters
        ----------
        path : Path
            The file.
        size, offset : int
            How many bytes, from where.

        Returns
        -------
        bytes
            Fewer than `size` where the file ends before.

        Raises
        ------
        OSError
            If the file cannot be opened or read.
        """
        handle = self._handle(path)
        if not hasattr(os, "pread"):  # Windows
            with self._lock, open(path, "rb") as file:
                file.seek(offset)
                return file.read(size)
        data = os.pread(handle.number, size, offset)
        # One call gives 2 GB at most, and less on some network file systems.
        while len(data) < size:
            more = os.pread(handle.number, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def _handle(self, path: Path) -> _Handle:
        if self._process != os.getpid():
            # A lock that another thread held when this process was forked stays locked.
            self._reset()
        with self._lock:
            handle = self._handles.get(path)
            if handle is None:
                handle = self._handles[path] = _Handle(path)
                if len(self._handles) > _OPEN:
                    self._handles.popitem(last=False)
            self._handles.move_to_end(path)
            return handle
