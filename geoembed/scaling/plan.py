"""What is to become of a large table, part by part: the manifest of an output folder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import pyarrow as pa

from geoembed.errors import TableError
from geoembed.scaling.listing import SourceFile, is_local, locate, open_parquet
from geoembed.scaling.part import MANIFEST, OWN_FOLDER, WORK_FOLDER, Part, PartDone
from geoembed.scaling.storing import write_whole
from geoembed.streaming.workspace import differences

__all__ = ["OutputFolder", "job_id", "plan_parts"]

_FORMAT: Final = "geoembed-folder-1"
_READERS: Final = 16


def plan_parts(files: Sequence[SourceFile]) -> list[Part]:
    """Return one part a row group that has rows, in the order of the files.

    Folders that are values of partition columns are kept. Where there are no rows at all, one
    part without rows keeps the columns.
    """
    parts: list[Part] = []
    for file in files:
        first = 0
        for group, rows in enumerate(file.groups):
            if rows:
                parts.append(Part(_name(file, len(parts)), file.url, group, first, rows))
            first += rows
    if not parts:
        parts = [Part(_name(files[0], 0), files[0].url, None, 0, 0)]
    return parts


def _name(file: SourceFile, number: int) -> str:
    return f"{file.hive}/part-{number:06d}.parquet".lstrip("/")


def job_id(request: Mapping[str, Any]) -> str:
    """Return a digest of what decides what is in an output folder."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]


class OutputFolder:
    """A folder of part files, with a manifest that says what it is to hold.

    Which parts are done the parts say themselves: each carries the digest of its job in its
    footer, and a file that is torn has no footer. So nothing that a killed process leaves behind
    can contradict them.

    Parameters
    ----------
    target : str
        Address of the folder.

    Attributes
    ----------
    target : str
        As it was given.
    system : fsspec.AbstractFileSystem
        Where it is.
    path : str
        Its path there.
    """

    def __init__(self, target: str) -> None:
        self.system, self.path = locate(target)
        self.path = self.path.rstrip("/")
        self.target = target
        self._lock: Any = None

    def open(self, request: Mapping[str, Any], parts: Sequence[Part], *, force: bool) -> None:
        """Take the folder for a job: a new one, or the one that it was begun for.

        Raises
        ------
        TableError
            If it is a file, holds other things, or the parts of another job and not `force`.
        """
        if self.system.isfile(self.path):
            raise TableError(f"{self.target} is a file. Give the name of a folder.")
        try:
            before = self._read_manifest(request, parts)
            self._refuse_strangers(before)
            self.system.makedirs(f"{self.path}/{OWN_FOLDER}", exist_ok=True)
            self._take()
            if before is not None and not force:
                self._refuse_another(before, request)
            if before is not None and force:
                self._empty(before)
            self.write_manifest(request, parts)
        except OSError as error:
            self.release()
            raise TableError(f"{self.target} cannot be written: {error}.") from error
        except TableError:
            self.release()
            raise

    def write_manifest(
        self,
        request: Mapping[str, Any],
        parts: Sequence[Part],
        done: Mapping[str, PartDone] | None = None,
    ) -> None:
        """Write what the folder is to hold, or, with `done`, what it holds."""
        described = []
        for part in parts:
            facts: dict[str, Any] = {"name": part.name, "source": part.url, "group": part.group}
            if done is not None:
                there = done[part.name]
                facts |= {"rows": there.rows, "dropped": there.dropped, "size": there.size}
            described.append(facts)
        manifest = {
            "format": _FORMAT,
            "job": job_id(request),
            "finished": done is not None,
            "request": request,
            "parts": described,
        }
        text = json.dumps(manifest, indent=1).encode()
        write_whole(self.system, text, f"{self.path}/{MANIFEST}")

    def find_done(self, parts: Sequence[Part], job: str) -> tuple[dict[str, PartDone], list[str]]:
        """Return the parts that are whole, by name, and the names of files that are torn."""
        names = {str(name) for name in self._files()}
        there = [part for part in parts if part.name in names]
        with ThreadPoolExecutor(_READERS) as pool:
            looked = list(pool.map(lambda part: self._look(part, job), there))
        done = {found.name: found for found in looked if found is not None}
        return done, [part.name for part in there if part.name not in done]

    def finish(self, request: Mapping[str, Any], parts: Sequence[Part], done: Any) -> None:
        """Clear away what attempts that died have left, and write the last manifest."""
        self.clear_work()
        self.write_manifest(request, parts, done)

    def clear_work(self) -> None:
        """Remove what attempts have left that were killed."""
        with suppress(FileNotFoundError):
            self.system.rm(f"{self.path}/{WORK_FOLDER}", recursive=True)

    def release(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _files(self) -> list[str]:
        """Names of the files in the folder, but those of ours that are no parts."""
        self.system.invalidate_cache()
        if not self.system.isdir(self.path):
            return []
        start = len(self.path) + 1
        names = [str(path)[start:] for path in self.system.find(self.path)]
        return [n for n in names if not any(p.startswith((".", "_")) for p in n.split("/"))]

    def _read_manifest(
        self, request: Mapping[str, Any], parts: Sequence[Part]
    ) -> dict[str, Any] | None:
        """Read what the folder was begun for; None if it is new.

        A manifest that is torn is made again if all that is there is of this very request: on
        some stores a process that is killed leaves half of one.
        """
        try:
            manifest = json.loads(self.system.cat_file(f"{self.path}/{MANIFEST}"))
            return dict(manifest) if manifest["format"] == _FORMAT else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError) as error:
            if self._holds_only(parts, job_id(request)):
                return {"request": dict(request), "parts": [{"name": p.name} for p in parts]}
            raise TableError(
                f"The manifest {self.target}/{MANIFEST} is damaged: {error}. Choose another "
                "folder, or remove this one."
            ) from error

    def _holds_only(self, parts: Sequence[Part], job: str) -> bool:
        """Tell whether every file is a part of this job, whole or torn."""
        named = {part.name for part in parts}
        return all(name in named and self._may_be_of(name, job) for name in self._files())

    def _may_be_of(self, name: str, job: str) -> bool:
        """Tell whether a file is torn, or a part of this job."""
        try:
            with open_parquet(self.system, f"{self.path}/{name}") as file:
                metadata = file.metadata.metadata or {}
        except (TableError, OSError, pa.ArrowException):
            return True
        with suppress(KeyError, ValueError, AttributeError):
            return bool(json.loads(metadata[b"geoembed"]).get("job") == job)
        return False

    def _refuse_strangers(self, before: Mapping[str, Any] | None) -> None:
        ours = set() if before is None else {part["name"] for part in before["parts"]}
        strangers = sorted(set(self._files()) - ours)
        if strangers:
            held = ", ".join(map(repr, strangers[:3])) + (", ..." if len(strangers) > 3 else "")
            raise TableError(
                f"The output folder {self.target} is not empty: it holds {held}"
                f"{'' if before is None else ', besides the parts of a job'}. Choose a new folder, "
                "or move what is in it."
            )

    def _refuse_another(self, before: Mapping[str, Any], request: Mapping[str, Any]) -> None:
        """Refuse the folder of another job, unless that ended before it had made any part."""
        changed = differences(before["request"], json.loads(json.dumps(request)))
        # Where there is no lock, that job may be at its first part just now.
        if changed and (self._files() or self._lock is None):
            raise TableError(
                f"{self.target} holds the parts of another job: {'; '.join(changed[:5])}. "
                "Choose another folder, ask for the same to go on with it, or replace it "
                "with force=True (--force)."
            )

    def _empty(self, before: Mapping[str, Any]) -> None:
        ours = {part["name"] for part in before["parts"]}
        for name in self._files():
            if name in ours:
                self.system.rm_file(f"{self.path}/{name}")

    def _look(self, part: Part, job: str) -> PartDone | None:
        """Read the footer of a part; None if it is torn or of another job."""
        path = f"{self.path}/{part.name}"
        try:
            with open_parquet(self.system, path) as file:
                metadata = file.metadata
                rows = metadata.num_rows
                made = json.loads((metadata.metadata or {})[b"geoembed"])
            size = int(self.system.size(path))
        except (TableError, OSError, pa.ArrowException, KeyError, ValueError):
            return None
        same = (made.get("job"), made.get("source"), made.get("row_group")) == (
            job,
            part.url,
            part.group,
        )
        return PartDone(part.name, rows, part.rows - rows, size) if same else None

    def _take(self) -> None:
        """Keep other runs of this machine out; those of other machines do the same work twice."""
        if not is_local(self.system):
            return
        try:
            import fcntl
        except ImportError:  # no such locks on Windows
            return
        self._lock = open(f"{self.path}/{OWN_FOLDER}/lock", "w")  # noqa: SIM115 - held until release
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            raise TableError(
                f"Another run is filling {self.target} right now. Wait for it, or choose another "
                "folder."
            ) from error
