"""Files of vectors that grow slice by slice, and can be gone on with when that was stopped."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import TableError

__all__ = ["Draft"]


class Draft:
    """An array in a file that is not whole yet, and a note of what is in it.

    Beside ``vectors.npy`` lie ``vectors.npy.part``, and ``vectors.npy.part.done`` with the first
    row of every slice that is done. A slice is noted when it is in the file: a process that is
    killed loses the slices that it was at work on.

    Parameters
    ----------
    path : Path
        What the file is to be called when it is whole; its folder is made if it is not there.
    shape : tuple of int
        Of the array, (n, d).
    dtype : str
        Of its values.
    rows : int
        Of a slice. What was done in other slices is not gone on with.

    Attributes
    ----------
    missing : list of int
        First rows of the slices that were missing when it was opened.
    done : int
        Rows that are done.

    Raises
    ------
    BlockingIOError
        If another process is making the same file.
    TableError
        If the folder cannot be written, or has no room for it.

    Examples
    --------
    >>> draft = Draft(Path("v.npy"), (5, 2), "float32", rows=2)
    >>> draft.keep(2, np.ones((2, 2)))
    >>> draft.close()
    >>> again = Draft(Path("v.npy"), (5, 2), "float32", rows=2)
    >>> again.missing, again.done
    ([0, 4], 2)
    >>> for start in again.missing:
    ...     again.keep(start, np.zeros((min(2, 5 - start), 2)))
    >>> again.finish()
    >>> np.load("v.npy").sum()
    np.float32(4.0)
    """

    def __init__(self, path: Path, shape: tuple[int, int], dtype: str, rows: int) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._rows = rows
        facts = {"shape": list(shape), "dtype": dtype, "rows": rows}
        starts = range(0, shape[0], rows)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._log = _lock(path.with_name(f"{path.name}.part.done"))
        except BlockingIOError:
            raise
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            known = _read_log(self._log, facts, starts)
            vectors = None if known is None else self._reopen(shape, dtype)
            if vectors is None or known is None:
                known, vectors = set(), self._start(shape, dtype)
                self._log.seek(0)
                self._log.truncate()
                self._note(json.dumps(facts))
        except OSError as error:
            self.close()
            raise self._unwritable(error) from error
        self._vectors: Any = vectors
        self.missing = [start for start in starts if start not in known]
        self.done = sum(min(rows, shape[0] - start) for start in known)

    def keep(self, start: int, vectors: NDArray[np.floating[Any]]) -> None:
        """Put a slice into the file, and note that it is there.

        Parameters
        ----------
        start : int
            Its first row.
        vectors : array of shape (m, d)
            Its values.
        """
        self._vectors[start : start + len(vectors)] = vectors
        self._vectors.flush()
        self._note(str(start))
        self.done += len(vectors)

    def finish(self) -> None:
        """Give the file its name; all of it must be done."""
        self._vectors.flush()
        self._vectors = None
        os.replace(self._part, self._path)
        Path(self._log.name).unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the file; what is in it stays."""
        self._vectors = None
        self._log.close()

    def _start(self, shape: tuple[int, int], dtype: str) -> Any:
        vectors = np.lib.format.open_memmap(self._part, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate") and vectors.size:
            # A mapped file that meets a full disk while it is filled kills the process.
            with self._part.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, self._part.stat().st_size)
        return vectors

    def _reopen(self, shape: tuple[int, int], dtype: str) -> Any:
        with suppress(OSError, ValueError, EOFError):
            found = np.load(self._part, mmap_mode="r+", allow_pickle=False)
            if found.shape == shape and found.dtype == dtype:
                return found
        return None

    def _note(self, line: str) -> None:
        self._log.write(line + "\n")
        self._log.flush()
        os.fsync(self._log.fileno())

    def _unwritable(self, error: OSError) -> TableError:
        cause = os.strerror(error.errno) if error.errno else str(error)
        return TableError(f"The vectors {self._path} cannot be written: {cause}.")


def _lock(path: Path) -> IO[str]:
    """Open the note of a draft for this process alone."""
    try:
        import fcntl
    except ImportError as error:  # no such locks on Windows
        raise BlockingIOError(f"{path} cannot be locked") from error
    while True:
        file = path.open("a+", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        # Whoever had it has finished meanwhile, and removed it.
        file.close()


def _read_log(log: IO[str], facts: dict[str, Any], starts: Sequence[int]) -> set[int] | None:
    """Return the slices that are done; None if there is no note, or one of something else."""
    log.seek(0)
    # What follows the last line's end was being written when the process was killed.
    *lines, _ = log.read().split("\n")
    with suppress(ValueError, IndexError):
        if json.loads(lines[0]) == facts:
            known = {int(line) for line in lines[1:]}
            return known if known <= set(starts) else None
    return None
