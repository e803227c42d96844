"""One run at a time in a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geoembed.errors import TableError

__all__ = ["locked_folder"]


@contextmanager
def locked_folder(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder for one process.

    The lock ends with the process, however it ends. Where there are no such locks, on Windows and
    some network file systems, nothing is held.

    Parameters
    ----------
    folder : Path
        It must be there.
    doing : str
        What runs do in it: ``"writing features"``.

    Yields
    ------
    None
        While it is held.

    Raises
    ------
    TableError
        If another process holds it.

    Examples
    --------
    >>> import tempfile
    >>> with locked_folder(Path(tempfile.mkdtemp()), "writing features"):
    ...     pass
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TableError(
                f"Another run is {doing} in {folder} right now: wait for it."
            ) from error
        except OSError:
            pass
        yield
    finally:
        os.close(handle)
