"""A file kept open: what its name means later, another file or none, does not change what it is."""

import os
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Final

from geoembed.errors import WeightsError

__all__ = ["HeldFile"]

# Only forked processes read it again; on Windows, where there are none, a file that is open can
# be neither renamed nor deleted.
_HOLDS: Final = hasattr(os, "fork") and hasattr(os, "pread")


class HeldFile:
    """A file that forked processes can read as their parent has, replaced or deleted meanwhile.

    Two are equal if they are of one file in one state.

    Parameters
    ----------
    path : Path
        Which; opened at once.

    Raises
    ------
    OSError
        If it cannot be opened.

    Examples
    --------
    >>> path = Path("model.onnx")
    >>> _ = path.write_bytes(b"old")
    >>> held = HeldFile(path)
    >>> _ = Path("other").write_bytes(b"new")
    >>> _ = Path("other").replace(path)
    >>> held.is_named(), held.read(), HeldFile(path).read()
    (False, b'old', b'new')
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = os.open(path, os.O_RDONLY)
        self._state = _state(os.fstat(self._handle))
        close = weakref.finalize(self, _close, self._handle, self._state)
        if not _HOLDS:
            close()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HeldFile):
            return NotImplemented
        return (self.path, self._state) == (other.path, other._state)

    def __hash__(self) -> int:
        return hash((self.path, self._state))

    def is_named(self) -> bool:
        """Tell whether the path still means this file, in the state in which it was opened."""
        try:
            return _state(self.path.stat()) == self._state
        except OSError:
            return False

    def read(self) -> bytes:
        """Read the file, whatever its path means by now.

        Returns
        -------
        bytes
            All of it.

        Raises
        ------
        WeightsError
            If it has been overwritten, or cannot be reached.
        """
        # Where it is not held, the process has closed all its files, as daemons do when they start.
        content = _read(self._handle, self._state[-1]) if self._is_held() else self._read_named()
        if content is None or not (self._is_held() or self.is_named()):
            raise WeightsError(
                f"{self.path} has been overwritten since this process, or the one that it was "
                "forked from, opened it. Start it again, and replace a file that is in use by "
                "renaming another to its name, as 'geoembed export' does."
            )
        return content

    def _is_held(self) -> bool:
        """Tell whether the handle is open, and its file as it was."""
        try:
            return _HOLDS and _state(os.fstat(self._handle)) == self._state
        except OSError:
            return False

    def _read_named(self) -> bytes | None:
        try:
            return self.path.read_bytes() if self.is_named() else None
        except OSError:
            return None


def _state(found: os.stat_result) -> tuple[int, int, int, int]:
    """Which file it is, when it was written, and its size, the last."""
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _read(handle: int, size: int) -> bytes:
    """Read from the start, whichever place other processes that share the handle are at."""
    blocks, done = [], 0
    while block := os.pread(handle, size - done, done):
        blocks.append(block)
        done += len(block)
    return b"".join(blocks)


def _close(handle: int, state: tuple[int, int, int, int]) -> None:
    """Close a handle, unless the process has closed it and its number is another file's by now."""
    with suppress(OSError):
        if _state(os.fstat(handle))[:2] == state[:2]:
            os.close(handle)
