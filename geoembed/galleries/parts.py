"""Galleries that are not whole yet: who works on one, how far it is, and who may go on."""

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import gethostname
from typing import Any, Final

__all__ = ["OWN_FILES", "Part", "restore_folder", "sweep", "take_part", "temporary_folder"]

_LOCK: Final = "lock"
_PROGRESS: Final = "progress.json"

OWN_FILES: Final = frozenset({_LOCK, _PROGRESS})
"""What lies in a part besides the gallery."""

# Without a lock that tells, what is a day old is nobody's.
_STALE_SECONDS: Final = 24 * 3600
# So long work that was done is kept, for the one who comes back for it.
_KEPT_SECONDS: Final = 7 * 24 * 3600
# On file systems that machines share, a lock may hold on its own machine only: a part of another
# machine is nobody's only if nothing was done there for so long.
_ELSEWHERE_SECONDS: Final = 15 * 60


class Part:
    """A folder in which a gallery grows, held by this process.

    Parameters
    ----------
    path : Path
        Of the folder.
    identity : dict or None
        What decides the vectors bit by bit, plain types; None for one that nobody can go on with.
    done : int
        Rows of vectors that are in it.
    lock : int or None
        Handle of its lock; None where there are no locks.
    """

    def __init__(
        self, path: Path, identity: dict[str, Any] | None, done: int, lock: int | None
    ) -> None:
        self.path, self.identity, self.done = path, identity, done
        self._lock = lock

    def record(self, done: int) -> None:
        """Write down how many rows are safe on the disk."""
        self.done = done
        if self.identity is None:
            return
        text = json.dumps({"identity": self.identity, "rows": done})
        new = self.path / f"{_PROGRESS}.new"
        new.write_text(text, encoding="utf-8")
        new.replace(self.path / _PROGRESS)

    def keeps(self) -> bool:
        """Tell whether somebody could go on with what is in it."""
        return self.identity is not None and self.done > 0 and self.path.is_dir()

    def close(self) -> None:
        """Let go of it; remove it, unless it holds what somebody could go on with."""
        if not self.keeps():
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def take_part(folder: Path, identity: dict[str, Any] | None) -> tuple[Part, list[Path]]:
    """Take over what a killed build of the same gallery left, else begin.

    Parameters
    ----------
    folder : Path
        What the gallery becomes; parts lie beside it.
    identity : dict or None
        What decides its vectors bit by bit. None always begins.

    Returns
    -------
    part : Part
        Held by this process until it is closed.
    others : list of Path
        Parts of other galleries that were to become the same folder, and that nobody works on.

    Raises
    ------
    OSError
        If no folder can be made.
    """
    others: list[Path] = []
    for left in sorted(folder.parent.glob(".*~*~*~*.part")):
        if identity is None or left.name.rsplit("~", 3)[0] != f".{folder.name}":
            continue
        with suppress(OSError), _held(left) as lock:
            found, rows = _progress(left)
            if found == identity:
                # A rename succeeds for one only, also where there are no locks.
                mine = left.rename(folder.parent / _name(folder, ".part"))
                return Part(mine, identity, rows, lock.keep()), others
            others += [left] if rows else []
    path = temporary_folder(folder, ".part")
    return Part(path, identity, 0, _make_lock(path)), others


def temporary_folder(folder: Path, suffix: str) -> Path:
    """Make a folder beside another one, whose name says which process works in it."""
    path = folder.parent / _name(folder, suffix)
    path.mkdir(mode=0o700)
    return path


def sweep(folder: Path) -> None:
    """Remove what killed processes left beside a folder, but for work that can be gone on with.

    Galleries that were moved away and never replaced are put back, this one and its neighbours.

    Parameters
    ----------
    folder : Path
        A gallery's.
    """
    for left in folder.parent.glob(".*~*~*~*"):
        # Whoever wants to go on with a part must not find it held by this.
        if left.suffix not in (".part", ".old") or not _is_rest(left):
            continue
        with suppress(OSError), _held(left):
            if left.suffix == ".old":
                _put_back(left)
            if _is_rest(left):
                shutil.rmtree(left, ignore_errors=True)


def restore_folder(folder: Path) -> None:
    """Put a gallery back that a killed process had moved away in order to replace it.

    Parameters
    ----------
    folder : Path
        Where it lay.
    """
    for left in folder.parent.glob(".*~*~*~*.old"):
        if left.name.rsplit("~", 3)[0] == f".{folder.name}":
            with suppress(OSError), _held(left):
                _put_back(left)


def _put_back(left: Path) -> None:
    """Rename what was moved away to what it was called, unless something is there by now."""
    home = left.parent / left.name.rsplit("~", 3)[0][1:]
    if (left / "old").exists() and not home.exists():
        (left / "old").rename(home)


def _is_rest(left: Path) -> bool:
    """Tell whether nobody can go on with a temporary folder, or has come back for it in time."""
    try:
        age = time.time() - left.stat().st_mtime
    except OSError:  # somebody else has just removed or renamed it
        return False
    return age > _KEPT_SECONDS or not _progress(left)[1]


def _name(folder: Path, suffix: str) -> str:
    return f".{folder.name}~{gethostname()}~{os.getpid()}~{secrets.token_hex(4)}{suffix}"


def _make_lock(path: Path) -> int | None:
    try:
        import fcntl
    except ImportError:  # no such locks on Windows: names tell whose a part is
        return None
    # Under another name until it is held: whoever finds a lock finds it held.
    new = path / f"{_LOCK}.new"
    handle = os.open(new, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new.rename(path / _LOCK)
    except OSError:  # nor on some network file systems
        os.close(handle)
        new.unlink(missing_ok=True)
        return None
    return handle


class _Lock:
    """The handle of a lock, closed with a ``with`` block unless it is kept."""

    def __init__(self, handle: int | None) -> None:
        self._handle = handle

    def keep(self) -> int | None:
        handle, self._handle = self._handle, None
        return handle

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)


@contextmanager
def _held(left: Path) -> Iterator[_Lock]:
    """Hold a temporary folder that nobody works in; else raise OSError."""
    _, host, process, _ = left.name.rsplit("~", 3)
    try:
        import fcntl

        handle = os.open(left / _LOCK, os.O_RDWR)
    except (ImportError, OSError):
        if not _is_stale(left, host, process):
            raise BlockingIOError(f"Somebody works in {left}.") from None
        yield _Lock(None)
        return
    lock = _Lock(handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh = time.time() - left.stat().st_mtime < _ELSEWHERE_SECONDS
        if host != gethostname() and fresh:
            raise BlockingIOError(f"Somebody on {host} works in {left}.")
        # It may have been taken over and renamed since it was opened.
        if not os.path.samestat(os.fstat(handle), os.stat(left / _LOCK)):
            raise FileNotFoundError(left)
        yield lock
    finally:
        lock.close()


def _is_stale(path: Path, host: str, process: str) -> bool:
    """Whether the process that a name tells of is gone, or the folder is a day old."""
    try:
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            return True
        if os.name == "posix" and host == gethostname() and process.isdecimal():
            os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # another user's process, or somebody else has just removed the folder
    return False


def _progress(left: Path) -> tuple[dict[str, Any] | None, int]:
    """Read whose vectors a part holds, and how many rows; one that is torn holds none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        facts = json.loads((left / _PROGRESS).read_text(encoding="utf-8"))
        rows, width = int(facts["rows"]), facts["identity"]["bytes_a_row"]
        if (left / "embeddings.npy").stat().st_size >= rows * width:
            return dict(facts["identity"]), rows
    return None, 0
