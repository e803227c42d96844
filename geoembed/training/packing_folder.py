"""The folder that shards are packed into: what was asked for, what is done, one run at a time."""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from geoembed.errors import TableError
from geoembed.training.locking import locked_folder
from geoembed.training.shard_folder import PACKED, REQUEST
from geoembed.training.shard_index import INDEX_SUFFIX

__all__ = ["BAD_PICTURES", "PackingFolder"]

BAD_PICTURES: Final = "bad_pictures.csv"
"""Lists what was not packed: row of the manifest, name, reason."""

_REPORT: Final = ".done.json"
_OURS: Final = ("shard-*.tar", f"shard-*.tar{INDEX_SUFFIX}", f"shard-*{_REPORT}")
_DRAFTS: Final = ("shard-*.part", *(f"{name}.part" for name in (PACKED, REQUEST, BAD_PICTURES)))


class PackingFolder:
    """A folder that is being packed into, or was.

    A shard is done when its tar is there, whole, and a report beside it says what is in it. The
    list of shards takes the reports' place when all are done.

    Parameters
    ----------
    folder : Path
        It need not exist.
    request : mapping
        Everything that decides what is in the shards; fit for JSON.
    shards : int
        How many there will be.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any], shards: int) -> None:
        self.folder = folder
        self._request = dict(request)
        self._shards = shards

    def tar(self, number: int) -> Path:
        """Say where a shard lies.

        Parameters
        ----------
        number : int
            Of the shard, from 0.

        Returns
        -------
        Path
            Its tar.
        """
        return self.folder / f"shard-{number:06d}.tar"

    @contextmanager
    def taken(self, *, force: bool) -> Iterator[dict[int, dict[str, Any]]]:
        """Take the folder for one run.

        Parameters
        ----------
        force : bool
            Remove the shards of an earlier packing that was asked for something else, or the same.

        Yields
        ------
        dict
            Reports of the shards that are done, by number.

        Raises
        ------
        TableError
            If another run has taken it, it holds other tars, or was packed otherwise.
        """
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with locked_folder(self.folder, "packing"):
            with _told(self.folder):
                if force:
                    self._clear()
                self._check()
                for part in (path for pattern in _DRAFTS for path in self.folder.glob(pattern)):
                    part.unlink(missing_ok=True)
                reports = self._reports()
            yield reports

    def report(self, number: int, report: Mapping[str, Any]) -> None:
        """Write down that a shard is done.

        Parameters
        ----------
        number : int
            Of the shard.
        report : mapping
            What `write_shard` gave.
        """
        with _told(self.folder):
            _write(self._report_path(number), report)

    def finish(self, reports: Sequence[Mapping[str, Any]]) -> None:
        """Write the lists of shards and of bad pictures, and remove the reports.

        Parameters
        ----------
        reports : sequence of mapping
            Of all shards, in order.
        """
        with _told(self.folder):
            self._write_lists(reports)

    def _write_lists(self, reports: Sequence[Mapping[str, Any]]) -> None:
        draft = self.folder / f"{BAD_PICTURES}.part"
        with draft.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["row", "name", "reason"])
            for report in reports:
                rows.writerows(report["bad"])
        draft.replace(self.folder / BAD_PICTURES)
        facts = {
            "pictures": sum(report["pictures"] for report in reports),
            "bad": sum(len(report["bad"]) for report in reports),
            "bytes": sum(report["bytes"] for report in reports),
        }
        _write(self.folder / PACKED, {**facts, "shards": list(reports)})
        for path in self.folder.glob(f"shard-*{_REPORT}"):
            path.unlink(missing_ok=True)

    def _check(self) -> None:
        request = self.folder / REQUEST
        try:
            before = json.loads(request.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if any(self.folder.glob("*.tar")):
                raise TableError(
                    f"{self.folder} holds tars that this command did not write: choose another "
                    "folder."
                ) from None
            _write(request, self._request)
            return
        except ValueError as error:
            raise TableError(
                f"{request} is damaged: {error}. Start again with force=True (--force), or "
                "choose another folder."
            ) from error
        differences = [
            f"{key} was {before.get(key)!r} and is {self._request.get(key)!r}"
            for key in sorted({*before, *self._request})
            if before.get(key) != self._request.get(key)
        ]
        if differences:
            raise TableError(
                f"{self.folder} was packed from something else: {'; '.join(differences)}. Ask for "
                "the same, choose another folder, or start again with force=True (--force)."
            )

    def _reports(self) -> dict[int, dict[str, Any]]:
        """Reports of those shards that are done; what else there is is done again."""
        packed = self.folder / PACKED
        found: dict[int, dict[str, Any]] = {}
        with suppress(OSError, ValueError, KeyError, TypeError):
            shards = json.loads(packed.read_text(encoding="utf-8"))["shards"]
            found = dict(enumerate(shards)) if len(shards) == self._shards else {}
        listed = bool(found)
        for number in range(0 if listed else self._shards):
            with suppress(OSError, ValueError):
                path = self._report_path(number)
                found[number] = dict(json.loads(path.read_text(encoding="utf-8")))
        good = {number: report for number, report in found.items() if self._is_done(number, report)}
        if listed and len(good) < self._shards:
            # A shard of a finished packing is gone: the others' reports take the list's place.
            for number, report in good.items():
                self.report(number, report)
            packed.unlink()
        return good

    def _is_done(self, number: int, report: Mapping[str, Any]) -> bool:
        try:
            size = self.tar(number).stat().st_size
        except OSError:
            size = 0
        return bool(size == report.get("bytes"))

    def _report_path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}{_REPORT}"

    def _clear(self) -> None:
        # The request goes last: without it, tars are somebody else's.
        for name in (PACKED, BAD_PICTURES):
            (self.folder / name).unlink(missing_ok=True)
        if (self.folder / REQUEST).exists():
            for pattern in _OURS:
                for path in self.folder.glob(pattern):
                    path.unlink(missing_ok=True)
        (self.folder / REQUEST).unlink(missing_ok=True)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Say what the system does not allow."""
    try:
        yield
    except OSError as error:
        raise TableError(
            f"{folder} cannot be written: {error.strerror or error}. Finished shards stay: pack "
            "again when that is mended, and it goes on."
        ) from error


def _write(path: Path, value: Any) -> None:
    draft = path.with_name(f"{path.name}.part")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
