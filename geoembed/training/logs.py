"""What a run measures, line by line: metrics.csv, metrics.jsonl, speed.csv, and trackers.

The two tables of metrics hold nothing that depends on the clock, so that equal runs write equal
files, resumed or not. How fast it went stands in a table of its own.
"""

import csv
import io
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from geoembed.errors import TrainingError
from geoembed.training.checkpoint import CheckpointWarning
from geoembed.training.run_folder import RunFolder
from geoembed.training.trackers import Tracker
from geoembed.training.validation import SCORES

__all__ = ["COLUMNS", "RunLog", "read_metrics"]

_TRAIN: Final = ("lr", "loss", "accuracy", "scale", "grad_norm", "skipped")
COLUMNS: Final = ("step", "epoch", *_TRAIN, *(f"val_{name}" for name in SCORES))
"""Columns of metrics.csv and keys of metrics.jsonl."""

_SPEED: Final = ("time", "step", "seconds", "pictures_per_s", "wait_share")


class RunLog:
    """Writes the lines of a run.

    Parameters
    ----------
    folder : RunFolder
        Of the run.
    rows : int
        Lines that stay of what is there: those that the checkpoint has seen. What a killed
        process wrote after its last checkpoint is cut off, since it comes again.
    trackers : sequence of Tracker
        That get the same numbers.

    Raises
    ------
    TrainingError
        If a file cannot be written.

    Warns
    -----
    CheckpointWarning
        If fewer lines are there than the checkpoint has seen.

    Examples
    --------
    >>> folder = RunFolder("run")
    >>> folder.prepare(resume=False)
    >>> log = RunLog(folder)
    >>> log.metrics(10, 0.5, {"lr": 1e-3, "loss": 4.25})
    >>> log.close()
    >>> print(folder.metrics_jsonl.read_text(), end="")
    {"step": 10, "epoch": 0.5, "lr": 0.001, "loss": 4.25}
    """

    def __init__(
        self, folder: RunFolder, *, rows: int = 0, trackers: Sequence[Tracker] = ()
    ) -> None:
        self._trackers = trackers
        # A table has its heading above them.
        lines = _cut(folder.metrics_csv, rows + 1 if rows else 0)
        kept = min(max(0, lines - 1), _cut(folder.metrics_jsonl, rows))
        if kept < rows:
            warnings.warn(
                f"The checkpoint has seen {rows:,} lines of {folder.metrics_csv.name}, and "
                f"{kept:,} are there: the others are lost.",
                CheckpointWarning,
                stacklevel=2,
            )
        self.rows = rows
        self._csv = _open(folder.metrics_csv)
        self._jsonl = _open(folder.metrics_jsonl)
        self._speed = _open(folder.speed_csv)
        for file, columns in ((self._csv, COLUMNS), (self._speed, _SPEED)):
            if file.tell() == 0:
                _write(file, _line(columns))

    def metrics(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Write a line of metrics.

        Parameters
        ----------
        step : int
            Steps that have been taken.
        epoch : float
            The same in epochs.
        values : mapping of str to float
            Some of the `COLUMNS`.
        """
        row: dict[str, Any] = {"step": step, "epoch": epoch, **values}
        _write(self._csv, _line([row.get(name, "") for name in COLUMNS]))
        _write(self._jsonl, json.dumps(row) + "\n")
        self.rows += 1
        for tracker in self._trackers:
            tracker.log(step, {"epoch": epoch, **values})

    def speed(
        self, time: str, step: int, seconds: float, pictures_per_s: float, wait_share: float
    ) -> None:
        """Write a line of how fast it went since the last one.

        Parameters
        ----------
        time : str
            Now.
        step : int
            Steps that have been taken.
        seconds : float
            Since the last line.
        pictures_per_s : float
            Of all processes together.
        wait_share : float
            Share of the time that was spent waiting for data.
        """
        numbers = (f"{seconds:.3f}", f"{pictures_per_s:.1f}", f"{wait_share:.4f}")
        _write(self._speed, _line([time, step, *numbers]))
        for tracker in self._trackers:
            tracker.log(step, {"pictures_per_s": pictures_per_s, "wait_share": wait_share})

    def sync(self) -> None:
        """Bring every line to the disk: a checkpoint relies on them."""
        for file in (self._csv, self._jsonl, self._speed):
            try:
                os.fsync(file.fileno())
            except OSError as error:
                raise _unwritable(file.name, error) from error

    def close(self) -> None:
        """Close files and trackers."""
        for file in (self._csv, self._jsonl, self._speed):
            with suppress(OSError):
                file.close()
        for tracker in self._trackers:
            tracker.close()


def read_metrics(folder: RunFolder) -> list[dict[str, float]]:
    """Read the lines of metrics.jsonl.

    Parameters
    ----------
    folder : RunFolder
        Of a run, which may be going on.

    Returns
    -------
    list of dict
        Without a last line that is not whole yet.

    Examples
    --------
    >>> read_metrics(RunFolder("nowhere"))
    []
    """
    try:
        lines = folder.metrics_jsonl.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines[:-1]]


def _cut(path: Path, lines: int) -> int:
    """Cut a file behind so many whole lines; return how many are left."""
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise _unwritable(str(path), error) from error
    position = at = 0
    for at in range(lines + 1):
        if at == lines:
            break
        end = whole.find(b"\n", position)
        if end < 0:
            break
        position = end + 1
    if position < len(whole):
        with path.open("r+b") as file:
            file.truncate(position)
    return at


def _open(path: Path) -> IO[str]:
    try:
        file = path.open("a", encoding="utf-8", newline="")
        file.seek(0, io.SEEK_END)
    except OSError as error:
        raise _unwritable(str(path), error) from error
    return file


def _line(values: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _write(file: IO[str], line: str) -> None:
    try:
        file.write(line)
        file.flush()
    except OSError as error:
        raise _unwritable(file.name, error) from error


def _unwritable(name: str, error: OSError) -> TrainingError:
    return TrainingError(
        f"{name} cannot be written: {error.strerror or error}. Make room, then start again with "
        "--resume: the run goes on from its last checkpoint, or starts anew if it has none yet."
    )
