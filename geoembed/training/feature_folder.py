"""The folder of stored features while it is written: what it is to hold, and how far it is."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.errors import TableError
from geoembed.training.amounts import size_text
from geoembed.training.batches import TrainingData
from geoembed.training.feature_shards import FeatureShards
from geoembed.training.locking import locked_folder

__all__ = ["BAD_PICTURES", "FACTS", "ROWS", "FeatureFolder"]

FACTS: Final = "features.json"
"""What the features are of; a digest in it says that all of them are there."""

ROWS: Final = "rows.parquet"
"""Name, place, and whether there are features, of each row."""

BAD_PICTURES: Final = "bad_pictures.csv"
"""Rows without features: number, name, reason; without a number those that are no rows at all."""

_PROGRESS: Final = "progress.jsonl"


class FeatureFolder:
    """A folder that features are written into, row by row, and gone on with after any interruption.

    `keep` asks the disk to have what was written, and then notes the number of rows. So what is
    noted is whole, whatever ended the process; the rest is written again.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    facts : mapping
        Everything that decides what the features are; fit for JSON. With ``"rows"``, ``"views"``,
        ``"dimension"`` and ``"shard_rows"``.

    Attributes
    ----------
    done : int
        Rows that are there.
    bad : dict of int to str
        Why some of them have no features.
    finished : bool
        Whether all are there and listed.

    Examples
    --------
    >>> import tempfile
    >>> facts = {"rows": 5, "views": 1, "dimension": 2, "shard_rows": 5}
    >>> folder = FeatureFolder(Path(tempfile.mkdtemp()), facts)
    >>> with folder.taken():
    ...     folder.write(np.ones((3, 1, 2), np.float16), bad={1: "It is empty."})
    >>> folder.done, folder.bad
    (3, {1: 'It is empty.'})
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        self.done = 0
        self.bad: dict[int, str] = {}
        self.finished = False
        self._facts: dict[str, Any] = json.loads(json.dumps(facts))
        self._shards = FeatureShards(
            folder,
            rows=facts["rows"],
            views=facts["views"],
            dimension=facts["dimension"],
            per_shard=facts["shard_rows"],
        )
        self._written = 0
        self._unkept: dict[int, str] = {}

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take the folder for one run, and see how far it is.

        Yields
        ------
        None
            While it is held. What was written is kept, whatever ends it.

        Raises
        ------
        TableError
            If it holds something else, or features of something else (differences are listed),
            another run has taken it, or it cannot be written.
        """
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with locked_folder(self.folder, "writing features"):
            with _told(self.folder):
                self._check()
                self._read_progress()
            try:
                yield
            finally:
                # Whatever ended it: a full disk has been told of, or will be.
                with suppress(OSError, TableError):
                    self.keep()
                self._shards.close()

    def check_room(self) -> None:
        """Refuse to begin what the disk has no room for.

        Raises
        ------
        TableError
            If less is free than the features still need.
        """
        needed, free = self._shards.bytes_missing(), shutil.disk_usage(self.folder).free
        if needed > free:
            raise TableError(
                f"The features need {size_text(needed)} more, and {size_text(free)} are free "
                f"where {self.folder} lies. Make room, store fewer views, or choose another folder."
            )

    def write(self, features: NDArray[np.float16], bad: Mapping[int, str]) -> None:
        """Write the features of the next rows.

        Parameters
        ----------
        features : ndarray of float16, shape (n, K, dimension)
            Of so many rows.
        bad : mapping of int to str
            Why rows have none, by row.

        Raises
        ------
        TableError
            If the disk is full.
        """
        with _told(self.folder):
            self._shards.write(self._written, features)
        self._written += len(features)
        self._unkept |= bad

    def keep(self) -> None:
        """Have the disk take what was written, and note how far it is.

        Raises
        ------
        TableError
            If the disk is full.
        """
        if self._written == self.done:
            return
        with _told(self.folder):
            self._shards.sync()
            self._note(self._unkept)
        self.bad |= self._unkept
        self._unkept = {}
        self.done = self._written

    def finish(self, data: TrainingData) -> None:
        """List the rows and the bad pictures, and say that all is there.

        Parameters
        ----------
        data : TrainingData
            What the features are of.

        Raises
        ------
        TableError
            If the disk is full.
        """
        self.keep()
        names = [name.encode("utf-8", "backslashreplace").decode() for name in data.names]
        valid = np.ones(len(names), np.bool_)
        valid[list(self.bad)] = False
        rows = pd.DataFrame(
            {"name": names, "lon": data.lonlat[:, 0], "lat": data.lonlat[:, 1], "valid": valid}
        )
        missing: list[str] = getattr(data, "missing", [])
        reasons: list[str] = getattr(data, "reasons", [""] * len(missing))
        bad = pd.DataFrame(
            [
                *(("", name, reason) for name, reason in zip(missing, reasons, strict=True)),
                *((str(row), names[row], reason) for row, reason in sorted(self.bad.items())),
            ],
            columns=["row", "name", "reason"],
        )
        with _told(self.folder):
            for name, write in ((ROWS, rows.to_parquet), (BAD_PICTURES, bad.to_csv)):
                draft = self.folder / f"{name}.part"
                write(draft, index=False)
                draft.replace(self.folder / name)
            found = {"bad": len(self.bad), "sha256": list(self._shards.digests())}
            whole = json.dumps([self._facts, found, sorted(self.bad)])
            digest = hashlib.sha256(whole.encode()).hexdigest()
            _write_json(self.folder / FACTS, {**self._facts, **found, "digest": digest})
            (self.folder / _PROGRESS).unlink(missing_ok=True)
        self.finished = True

    def _check(self) -> None:
        path = self.folder / FACTS
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if any(not found.name.endswith(".part") for found in self.folder.iterdir()):
                raise TableError(
                    f"{self.folder} holds something else already: choose another folder."
                ) from None
            _write_json(path, self._facts)
            return
        except ValueError as error:
            raise TableError(
                f"{path} is damaged: {error}. Remove the folder, or choose another."
            ) from error
        self.finished = "digest" in there
        differences = list(_differences(there, self._facts))
        if differences:
            raise TableError(
                f"{self.folder} holds features of something else: {'; '.join(differences)}. Ask "
                "for the same, or choose another folder."
            )

    def _read_progress(self) -> None:
        """Read the notes, as far as they are whole, and cut off what is not."""
        path = self.folder / _PROGRESS
        if self.finished or not path.exists():
            return
        notes = path.read_bytes()
        whole = notes[: notes.rfind(b"\n") + 1]
        if len(whole) < len(notes):
            os.truncate(path, len(whole))
        for line in whole.splitlines():
            note = json.loads(line)
            self.done = note["rows"]
            self.bad |= {int(row): reason for row, reason in note["bad"].items()}
        self.bad = {row: reason for row, reason in self.bad.items() if row < self.done}
        self._written = self.done
        lost = self._shards.first_lost()
        if lost < self.done:
            # First the note, then the file: a new shard of zeros must never count as done.
            self._written = lost
            self.bad = {row: reason for row, reason in self.bad.items() if row < lost}
            self._note({})
            self.done = lost

    def _note(self, bad: Mapping[int, str]) -> None:
        with (self.folder / _PROGRESS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"rows": self._written, "bad": bad}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _differences(there: Mapping[str, Any], asked: Mapping[str, Any], at: str = "") -> Iterator[str]:
    for key, value in asked.items():
        found = there.get(key)
        if isinstance(value, dict) and isinstance(found, dict):
            yield from _differences(found, value, f"{at}{key}.")
        elif found != value:
            yield f"{at}{key} was {found!r} and is {value!r}"


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Say what the system does not allow."""
    try:
        yield
    except OSError as error:
        raise TableError(
            f"{folder} cannot be written: {error.strerror or error}. The features that are there "
            "stay: ask for the same when that is mended, and it goes on."
        ) from error


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    draft = path.with_name(f"{path.name}.part")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
