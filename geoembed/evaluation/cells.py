"""Finished cells of a comparison, encoder x split x fold, kept so that a stopped run goes on."""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from geoembed.errors import TableError
from geoembed.evaluation.cached import write_atomically

__all__ = ["Cell", "CellStore"]

_CELLS: Final = "cells"
_REQUEST: Final = "request.json"
# What `Comparison.save` writes beside the folder of cells.
OUTPUTS: Final = (
    "comparison.csv",
    "comparison.md",
    "comparison.json",
    "comparison.png",
    "errors.png",
)


@dataclass(frozen=True)
class Cell:
    """What came of one encoder on one fold of one split.

    Parameters
    ----------
    scores : list of float
        One for every initialisation of the model; most have one.
    parts : list of (float or None)
        R2 of every target, None where it does not vary; empty for labels.
    lost : list of float
        Sum of squared errors of every target, or number of wrong labels.
    errors : list of float
        Error of every test row.
    seconds : float
        To learn and predict.
    """

    scores: list[float]
    parts: list[float | None]
    lost: list[float]
    errors: list[float]
    seconds: float

    @property
    def score(self) -> float:
        """Mean over the initialisations."""
        return sum(self.scores) / len(self.scores)


class CellStore:
    """A folder of finished cells; or none, and nothing is kept.

    Parameters
    ----------
    folder : Path or None
        Where the results will lie; cells are kept in its folder ``cells``.
    request : mapping
        Everything that decides what is in the cells of any encoder; fit for JSON.
    force : bool
        Throw away what another request has left.

    Raises
    ------
    TableError
        If the folder holds the results of another request and `force` is false, or cannot be
        written to.
    """

    def __init__(self, folder: Path | None, request: Mapping[str, Any], *, force: bool) -> None:
        self.folder = folder
        self._cells = None if folder is None else folder / _CELLS
        self._facts: dict[str, dict[str, Any]] = {}
        if folder is None or self._cells is None:
            return
        if folder.exists() and not folder.is_dir():
            raise TableError(f"{folder} is a file; results are written into a folder.")
        wanted = json.loads(json.dumps(request))
        if force:
            shutil.rmtree(self._cells, ignore_errors=True)
            for name in OUTPUTS:
                (folder / name).unlink(missing_ok=True)
        else:
            self._check(folder, self._cells, wanted)
        self._cells.mkdir(parents=True, exist_ok=True)
        _write_json(self._cells / _REQUEST, wanted)

    @property
    def vectors(self) -> Path | None:
        """Folder for the vectors of the encoder at work."""
        return None if self._cells is None else self._cells / "vectors"

    def read(self, contender: Mapping[str, Any], split: str, key: str) -> Cell | None:
        """Return a finished cell; None if there is none, or it is damaged.

        Parameters
        ----------
        contender : mapping
            `geoembed.evaluation.contenders.Contender.identity`.
        split, key : str
            Which split, and which fold of it.

        Returns
        -------
        Cell or None
        """
        path = self._path(contender, split, key)
        if path is None:
            return None
        with suppress(OSError, ValueError, TypeError, KeyError):
            return Cell(**json.loads(path.read_text(encoding="utf-8")))
        return None

    def write(self, contender: Mapping[str, Any], split: str, key: str, cell: Cell) -> None:
        """Keep a finished cell.

        Parameters
        ----------
        contender : mapping
            `geoembed.evaluation.contenders.Contender.identity`.
        split, key : str
            Which split, and which fold of it.
        cell : Cell
            What came of it.
        """
        path = self._path(contender, split, key)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_json(path, asdict(cell))

    def note(self, contender: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Keep facts about a contender beside its cells.

        Parameters
        ----------
        contender : mapping
            `geoembed.evaluation.contenders.Contender.identity`.
        facts : mapping
            Fit for JSON.
        """
        self._facts[str(contender["label"])] = dict(facts)
        path = self._path(contender, "", "about")
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_json(path, {**contender, **facts})

    def facts(self, contender: Mapping[str, Any]) -> dict[str, Any]:
        """Return the facts about a contender that were kept.

        Parameters
        ----------
        contender : mapping
            `geoembed.evaluation.contenders.Contender.identity`.

        Returns
        -------
        dict
            Empty if there are none.
        """
        path = self._path(contender, "", "about")
        if path is not None:
            with suppress(OSError, ValueError):
                return dict(json.loads(path.read_text(encoding="utf-8")))
        return self._facts.get(str(contender["label"]), {})

    def _path(self, contender: Mapping[str, Any], split: str, key: str) -> Path | None:
        if self._cells is None:
            return None
        text = json.dumps(contender, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        stem = re.sub(r"[^a-z0-9.]+", "-", str(contender["label"]).lower()).strip("-.")
        name = f"{split}-{key}" if split else key
        return self._cells / f"{stem}-{digest}" / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', name)}.json"

    @staticmethod
    def _check(folder: Path, cells: Path, wanted: dict[str, Any]) -> None:
        if not cells.exists():
            taken = [name for name in OUTPUTS if (folder / name).exists()]
            if taken:
                raise TableError(
                    f"{folder} holds {taken[0]} of another comparison. Choose another folder, or "
                    "replace it with force=True (--force)."
                )
            return
        try:
            before = json.loads((cells / _REQUEST).read_text(encoding="utf-8"))
            changed = [
                name for name in {**before, **wanted} if before.get(name) != wanted.get(name)
            ]
        except (OSError, ValueError, AttributeError) as error:
            raise TableError(
                f"{cells} is no folder of a comparison, or is damaged ({error}). Choose another "
                "folder, or replace it with force=True (--force)."
            ) from error
        if changed:
            said = "; ".join(_change(name, before.get(name), wanted.get(name)) for name in changed)
            raise TableError(
                f"{folder} holds another comparison, which cannot be gone on with: {said}. Choose "
                "another folder, or start anew with force=True (--force)."
            )


def _change(name: str, old: Any, new: Any) -> str:
    short = max(len(str(old)), len(str(new))) <= 60
    return f"{name} was {old!r} and is {new!r}" if short else f"{name} is not the same"


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, allow_nan=False)
    write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))
