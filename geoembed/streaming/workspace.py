"""The folder beside the target in which a file is made: its lock, its manifest, its end."""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from geoembed.errors import TableError

__all__ = ["Workspace", "differences", "fingerprint"]

_SUFFIX: Final = ".part"
_CONTENTS: Final = {
    *("data", "parts", "lock"),
    *("manifest.json", "manifest.new", "latest.json", "latest.new"),
}
_ENDS: Final = 1 << 20
# Linux gives every start of the system an identifier.
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def fingerprint(path: Path) -> dict[str, Any]:
    """Describe a file so that a change of it shows, without reading all of it.

    Size, time of the last change, and SHA-256 of its first and last mebibyte.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_ENDS))
        size = path.stat().st_size
        file.seek(max(0, size - _ENDS))
        digest.update(file.read(_ENDS))
    return {
        "size": size,
        "modified_ns": path.stat().st_mtime_ns,
        "sha256_of_ends": digest.hexdigest(),
    }


class Workspace:
    """A folder ``NAME.part`` beside the target, with the growing file and ``manifest.json``.

    The manifest speaks of what is on the disk, whatever happens. Beside it ``latest.json`` speaks
    of what was handed to the system since: that outlives the process, but not the system, so it
    counts only until the next start of the system.

    Parameters
    ----------
    target : Path
        The file to be made.
    request : mapping
        Everything that decides what is in it; fit for JSON.
    """

    def __init__(self, target: Path, request: Mapping[str, Any]) -> None:
        self.target = target
        self.folder = target.with_name(target.name + _SUFFIX)
        self.data = self.folder / "data"
        self._manifest = self.folder / "manifest.json"
        self._latest = self.folder / "latest.json"
        self._boot = _boot_id()
        self._request = json.loads(json.dumps(request))
        self._lock: Any = None

    def open(self, *, resume: bool, force: bool) -> dict[str, Any] | None:
        """Take the folder; return the progress to go on from, None for a new start.

        Raises
        ------
        TableError
            If an unfinished run lies there and neither was asked for, if what it was asked for
            is not what is asked for now, or if another process is at work on it.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise TableError(
                f"{self.folder} is a file, and a folder of that name is needed for work in "
                "progress. Move it, or choose another target."
            )
        left = self.folder.exists()
        self.folder.mkdir(exist_ok=True)
        strangers = sorted({entry.name for entry in self.folder.iterdir()} - _CONTENTS)
        if strangers:
            # It is removed in the end.
            raise TableError(
                f"{self.folder} is needed for work in progress, but holds other things: "
                f"{', '.join(map(repr, strangers[:3]))}. Move it, or choose another target."
            )
        self._take()
        with self.released_on_error():
            progress = self._progress(resume=resume, force=force)
            if progress is None:
                # Before anything is written: they must never speak of a newer run's files.
                self._manifest.unlink(missing_ok=True)
                self._latest.unlink(missing_ok=True)
                if resume and left:
                    warnings.warn(
                        f"There is nothing to go on with: no batch was finished in {self.folder}. "
                        "Starting anew.",
                        stacklevel=2,
                    )
        return progress

    def save(self, progress: Mapping[str, Any]) -> None:
        """Write the manifest; what it speaks of has to be on the disk already."""
        text = json.dumps({"request": self._request, "progress": progress}, indent=1)
        draft = self._manifest.with_suffix(".new")
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._manifest)

    def note(self, progress: Mapping[str, Any]) -> None:
        """Write down, quickly, what would outlive this process, but not the system."""
        if self._boot is None:
            return
        stamped = {"request": self._request, "progress": progress, "boot": self._boot}
        draft = self._latest.with_suffix(".new")
        draft.write_text(json.dumps(stamped), encoding="utf-8")
        draft.replace(self._latest)

    def publish(self) -> None:
        """Give the finished file its name, and remove the folder."""
        self.data.replace(self.target)
        _sync_folder(self.target.parent)
        self.discard()

    def discard(self) -> None:
        """Remove the folder and all in it."""
        self.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def released_on_error(self) -> Iterator[None]:
        """Let go of the folder if what is done inside fails."""
        try:
            yield
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let go of the folder, leaving it where it is."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _progress(self, *, resume: bool, force: bool) -> dict[str, Any] | None:
        manifest = self._read() if resume or not force else None
        if manifest is None:
            return None
        rows = _rows(manifest)
        if not resume:
            raise TableError(
                f"An unfinished run lies in {self.folder}: {rows:,} rows are done. Go on with "
                "resume=True (--resume), or start again with force=True (--force)."
            )
        changed = differences(manifest["request"], self._request)
        if changed:
            raise TableError(
                f"The unfinished run in {self.folder} cannot be gone on with, it was asked for "
                f"something else: {'; '.join(changed)}. Ask for the same, or start again with "
                "force=True (--force) instead of resume."
            )
        if "boot" not in manifest:
            # The files will be cut back: a note that speaks of more would become a lie.
            self._latest.unlink(missing_ok=True)
        return dict(manifest["progress"])

    def _read(self) -> dict[str, Any] | None:
        """Read how far a run came; None where nothing was finished."""
        try:
            manifest = json.loads(self._manifest.read_text(encoding="utf-8"))
        except FileNotFoundError:
            manifest = None
        except ValueError as error:
            raise TableError(
                f"The manifest of an unfinished run, {self._manifest}, is damaged: {error}. "
                "Start again with force=True (--force)."
            ) from error
        latest = self._read_latest()
        if latest is not None and (manifest is None or _rows(latest) > _rows(manifest)):
            return latest
        return manifest if manifest is not None and _rows(manifest) else None

    def _read_latest(self) -> dict[str, Any] | None:
        # One that a crash of the system has torn, or outdated, is none.
        with suppress(OSError, ValueError, KeyError, TypeError):
            latest = dict(json.loads(self._latest.read_text(encoding="utf-8")))
            if self._boot is not None and latest["boot"] == self._boot and _rows(latest):
                return latest
        return None

    def _take(self) -> None:
        try:
            import fcntl
        except ImportError:  # no such locks on Windows; the worst is two runs of one user
            return
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            raise TableError(
                f"Another run is writing {self.target} right now, in {self.folder}. Wait for it, "
                "or choose another target."
            ) from error


def _rows(manifest: Mapping[str, Any]) -> int:
    return int(manifest["progress"]["rows_read"])


def _boot_id() -> str | None:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def differences(before: Mapping[str, Any], now: Mapping[str, Any], at: str = "") -> list[str]:
    """Say what was asked for then and now, wherever it is not the same."""
    found = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{at}{key} ")
        # A stricter run has done the same as a laxer one, as far as it came.
        elif old != new and (key, old) != ("on_invalid", "raise"):
            found.append(f"{at}{key} was {old!r} and is {new!r}")
    return found


def _sync_folder(folder: Path) -> None:
    # Not every system lets a folder be opened; the rename itself is done.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
