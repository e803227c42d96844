"""Temporary folders beside what is being made; those that killed processes left are cleared.

What is made in them gets its name when it is whole, or not at all.
"""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import Final

__all__ = ["draft_file", "draft_folder", "draft_room"]

_SUFFIX: Final = ".draft"
# What no lock and no process of this machine tells of is nobody's when it is a day old.
_STALE_SECONDS: Final = 24 * 3600
# Bytes. Names have up to 255, and what follows the target's takes about 90 where a host's is long.
_LONG: Final = 128


@contextmanager
def draft_room(target: Path, salvage: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Give an empty folder beside a target, gone afterwards; first clear what was left of others.

    A process that is killed leaves its folder. The next one that makes the same target removes it,
    and leaves the folders of those at work: they hold a lock that ends with the process. Where
    there are no such locks, the name says which process it is.

    Parameters
    ----------
    target : Path
        What is made in it, or a name that makings share; the folder around it must be there.
    salvage : callable, optional
        Called with every folder that was left of the same target, before it is removed; if it
        raises OSError, the folder stays.

    Yields
    ------
    Path
        Readable by its owner alone.

    Raises
    ------
    OSError
        If it cannot be made.

    Examples
    --------
    >>> target = Path("drawn.txt")
    >>> with draft_room(target) as room:
    ...     _ = (room / "drawn.txt").write_text("whole")
    ...     _ = (room / "drawn.txt").replace(target)
    >>> target.read_text(), room.exists()
    ('whole', False)
    """
    _clear(target, salvage)
    room, lock = _make(target)
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def draft_file(target: Path) -> Iterator[Path]:
    """Give a temporary path beside a file; the file is replaced when the block ends well.

    Parameters
    ----------
    target : Path
        What is written; the folder around it must be there.

    Yields
    ------
    Path
        To be written, with the name of `target`.

    Raises
    ------
    OSError
        If it cannot be written: the disk is full, the folder is write-protected.

    Examples
    --------
    >>> target = Path("vectors.onnx")
    >>> with draft_file(target) as draft:
    ...     _ = draft.write_bytes(b"whole")
    >>> target.read_bytes()
    b'whole'
    """
    with draft_room(target, partial(_put_back, target)) as room:
        draft = room / target.name
        yield draft
        _flush(draft)
        draft.replace(target)


@contextmanager
def draft_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside a folder; the folder is replaced when the block ends well.

    Parameters
    ----------
    target : Path
        What is written; the folder around it must be there. One that a killed process had moved
        away in order to replace it is there again.

    Yields
    ------
    Path
        An empty folder, for files.

    Raises
    ------
    OSError
        If it cannot be written: the disk is full, the parent folder is write-protected. What was
        there is as it was.

    Examples
    --------
    >>> target = Path("model")
    >>> with draft_folder(target) as draft:
    ...     _ = (draft / "config.json").write_text("{}")
    >>> [path.name for path in target.iterdir()]
    ['config.json']
    """
    with draft_room(target, partial(_put_back, target)) as room:
        draft = room / "new"
        draft.mkdir()
        yield draft
        for path in draft.iterdir():
            _flush(path)
        if target.exists():
            target.rename(room / "old")
        try:
            draft.rename(target)
        except OSError:
            if (room / "old").exists():
                (room / "old").rename(target)
            raise


def _put_back(target: Path, left: Path) -> None:
    """Rename what a killed process had moved away in order to replace it, unless it has."""
    if (left / "old").exists() and not target.exists():
        (left / "old").rename(target)


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _make(target: Path) -> tuple[Path, int | None]:
    while True:
        mark = f"{gethostname()}~{os.getpid()}~{secrets.token_hex(4)}"
        room = target.with_name(f"{_prefix(target)}~{mark}{_SUFFIX}")
        room.mkdir(mode=0o700)
        # Until it is held, another process may take it for one that was left.
        with suppress(BlockingIOError, FileNotFoundError):
            return room, _lock(room)


def _prefix(target: Path) -> str:
    """Say for which target a folder is: by its name, or by a digest where that is too long."""
    name = os.fsencode(target.name)
    return f".{hashlib.sha256(name).hexdigest()[:32] if len(name) > _LONG else target.name}"


def _clear(target: Path, salvage: Callable[[Path], None] | None) -> None:
    """Remove the folders of the same target that nobody works in."""
    for left in target.parent.glob(f".*~*~*~*{_SUFFIX}"):
        name, host, process, _ = left.name.rsplit("~", 3)
        if name != _prefix(target):
            continue
        # It is held, gone by now, or another user's.
        with suppress(OSError):
            lock = _lock(left)
            try:
                if _is_left(left, host, process, locks=lock is not None):
                    if salvage is not None:
                        salvage(left)
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                if lock is not None:
                    os.close(lock)


def _lock(room: Path) -> int | None:
    """Hold a folder that is there and that nobody holds; None where there are no such locks."""
    try:
        import fcntl
    except ImportError:  # on Windows
        return None
    handle = os.open(room, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        room.stat()
    except (BlockingIOError, FileNotFoundError):
        os.close(handle)
        raise
    except OSError:  # on some network file systems
        os.close(handle)
        return None
    return handle


def _is_left(room: Path, host: str, process: str, *, locks: bool) -> bool:
    """Tell whether nobody works in a folder that is held, or lies where nothing can be held."""
    if time.time() - room.stat().st_mtime > _STALE_SECONDS:
        return True
    # On file systems that machines share, a lock may hold on its own machine only.
    return host == gethostname() and (locks or not _may_run(process))


def _may_run(process: str) -> bool:
    if os.name != "posix" or not process.isdecimal():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return True
