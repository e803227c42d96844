"""Files of indexes that lie in a gallery's folder: they are saved with it."""

import errno
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Final

from geoembed.errors import TableError
from geoembed.galleries.store import INDEXES

__all__ = ["staged_indexes"]

# Looks at a folder whose files come and go, and seconds between two. A build gives its files their
# names within milliseconds; what goes on for a second is none.
_LOOKS: Final = 20
_WAIT: Final = 0.05

# What tells a file from another one of its name.
_Stamp = tuple[int, int, int]


@contextmanager
def staged_indexes(source: Path | None, folder: str | Path) -> Iterator[Callable[[Path], None]]:
    """Copy a gallery's indexes beside the folder that it is saved to, to move them in at the end.

    They are copied first, because the gallery may be saved onto itself, and so that a full disk
    is met before anything is replaced. Files that are still being built, whose names begin with a
    dot, stay where they are. Where another process builds an index again meanwhile, the one from
    before or the new one is copied, with all of its files.

    Parameters
    ----------
    source : Path or None
        The gallery's folder.
    folder : str or Path
        What it is saved to.

    Yields
    ------
    callable
        Takes the folder once it is written, and moves them in.

    Raises
    ------
    TableError
        If they cannot be copied or moved in, or never stay as they are; nothing is left behind.
    """
    there = None if source is None else source / INDEXES
    if there is None or not _whole(there):
        yield lambda path: None
        return
    target = Path(folder).expanduser().absolute()
    made: Path | None = None
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=f".{target.name}.{INDEXES}-", dir=target.parent))
            copied = made / INDEXES
            copied.mkdir()
            _copy(there, copied)
        except OSError as error:
            raise TableError(
                f"The indexes of the gallery cannot be copied to {target.parent}: "
                f"{error.strerror or error}."
            ) from error

        def move(path: Path) -> None:
            if not any(copied.iterdir()):  # they were removed meanwhile
                return
            try:
                copied.replace(path / INDEXES)
            except OSError as error:
                raise TableError(
                    f"The gallery is saved to {path}, its indexes cannot be put there: "
                    f"{error.strerror or error}. They are built again when they are asked for."
                ) from error

        yield move
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _copy(there: Path, copied: Path) -> None:
    """Copy files until they are those that lie there.

    A description names the graph beside it, so a file of one build is of no use with one of the
    next. Files are replaced and never written into: what has the same stamps before and after it
    was copied lay there together.
    """
    done: dict[str, _Stamp] = {}
    for look in range(_LOOKS):
        if look > 1:  # the second finds no change nearly always
            sleep(_WAIT)
        found = _whole(there)
        if found == done:
            return
        for name in done.keys() - found.keys():
            (copied / name).unlink()
            del done[name]
        for name, stamp in found.items():
            if done.get(name) != stamp:
                with suppress(FileNotFoundError):  # removed just now: the next look tells
                    shutil.copyfile(there / name, copied / name)
                    done[name] = stamp
    raise OSError(errno.EBUSY, "another process changes them all the time")


def _whole(folder: Path) -> dict[str, _Stamp]:
    found: dict[str, _Stamp] = {}
    with suppress(FileNotFoundError, NotADirectoryError):
        for file in sorted(folder.iterdir()):
            if not file.name.startswith(".") and file.is_file():
                with suppress(FileNotFoundError):
                    told = file.stat()
                    found[file.name] = (told.st_ino, told.st_mtime_ns, told.st_size)
    return found
