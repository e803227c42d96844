"""Checkpoints: written whole or not at all, checked when they are read, the best one kept."""

import os
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, cast

import torch

from geoembed.errors import TrainingError

__all__ = [
    "CheckpointWarning",
    "checkpoint_path",
    "find_checkpoint",
    "last_whole_checkpoint",
    "list_checkpoints",
    "prune_checkpoints",
    "read_checkpoint",
    "sweep_checkpoints",
    "write_checkpoint",
]

_NAME: Final = re.compile(r"step-(\d{8,})\.pt")
_PARTIAL: Final = ".part"
_DAMAGED: Final = ".damaged"


class CheckpointWarning(UserWarning):
    """A checkpoint that is damaged, or a run that goes on but not bit for bit."""


def checkpoint_path(folder: Path, step: int) -> Path:
    """Say which file a checkpoint is.

    Parameters
    ----------
    folder : Path
        Of the checkpoints.
    step : int
        Steps that it holds.

    Returns
    -------
    Path
        Whether or not it is there.

    Examples
    --------
    >>> checkpoint_path(Path("run/checkpoints"), 1234).name
    'step-00001234.pt'
    """
    return folder / f"step-{step:08d}.pt"


def list_checkpoints(folder: Path) -> dict[int, Path]:
    """List the checkpoints of a folder.

    Parameters
    ----------
    folder : Path
        Of the checkpoints; it need not exist.

    Returns
    -------
    dict of int to Path
        Step to file, ascending. Files that were being written when a process was killed are none.

    Examples
    --------
    >>> list_checkpoints(Path("nowhere"))
    {}
    """
    found = {}
    if folder.is_dir():
        for path in folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                found[int(match[1])] = path
    return dict(sorted(found.items()))


def write_checkpoint(folder: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Write a checkpoint under another name, bring it to the disk, and then give it its name.

    Parameters
    ----------
    folder : Path
        Of the checkpoints.
    step : int
        Steps that it holds.
    state : mapping
        Tensors, numbers, texts, lists and dicts of them: what `torch.load` reads with
        ``weights_only=True``.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    TrainingError
        If it cannot be written, such as on a full disk. What was there before stays, and nothing
        partial is left.

    Examples
    --------
    >>> path = write_checkpoint(Path("checkpoints"), 7, {"step": 7})
    >>> read_checkpoint(path)
    {'step': 7}
    """
    target = checkpoint_path(folder, step)
    partial = target.with_name(f".{target.name}{_PARTIAL}")
    failure: OSError | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            noting = _Noting(file)
            try:
                torch.save(dict(state), cast("IO[bytes]", noting))
            finally:
                failure = noting.failure
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        _sync_folder(folder)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            partial.unlink()
        raise TrainingError(_not_written(folder, step, failure or error)) from error
    return target


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, every byte checked; no code of the file runs.

    Parameters
    ----------
    path : Path
        Of `write_checkpoint`.

    Returns
    -------
    dict
        Its state, tensors on the CPU.

    Raises
    ------
    TrainingError
        If there is no such file, or it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # torch does not check the sums that it writes.
            broken = archive.testzip()
        if broken is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {broken}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(f"There is no checkpoint {path}.") from error
    except Exception as error:  # torch raises many kinds on damaged files
        reason = " ".join(str(error).split())
        raise TrainingError(f"The checkpoint {path} cannot be read: {reason}") from error
    return dict(state)


def find_checkpoint(run: Path, which: str | int = "best") -> Path:
    """Find a checkpoint of a run.

    Parameters
    ----------
    run : Path
        Folder of the run.
    which : {"best", "last"} or int
        The best of the validations, which is the last one where there were none; the last one;
        or the one of a step.

    Returns
    -------
    Path
        Its file.

    Raises
    ------
    TrainingError
        If there is none; those that are there are listed.
    """
    from geoembed.training.run_folder import RunFolder

    folder = RunFolder(run)
    there = list_checkpoints(folder.checkpoints)
    step: int | None = max(there, default=None)
    if which == "best":
        step = folder.best_step(step)
    elif which != "last":
        step = int(which) if str(which).isdecimal() else None
    if step is None or step not in there:
        listed = ", ".join(f"{number:,}" for number in there) or "none"
        raise TrainingError(
            f"The run {run} has no checkpoint {which!r}. There are 'best', 'last', and the steps: "
            f"{listed}."
        )
    return there[step]


def last_whole_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Read the newest checkpoint that is whole.

    Parameters
    ----------
    folder : Path
        Of the checkpoints.

    Returns
    -------
    tuple of (Path, dict) or None
        None if there is no checkpoint.

    Raises
    ------
    TrainingError
        If there are checkpoints and all are damaged.

    Warns
    -----
    CheckpointWarning
        For every damaged one that is passed over.
    """
    reasons = []
    for path in reversed(list_checkpoints(folder).values()):
        try:
            state = read_checkpoint(path)
        except TrainingError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            warnings.warn(
                f"{reason} The run goes on from the one before, {path.name}.",
                CheckpointWarning,
                stacklevel=2,
            )
        return path, state
    if reasons:
        raise TrainingError(
            f"No checkpoint in {folder} is whole. Take the folder away to start anew. "
            + " ".join(reasons)
        )
    return None


def prune_checkpoints(folder: Path, keep_last: int, keep: Iterable[int] = ()) -> None:
    """Delete old checkpoints.

    Parameters
    ----------
    folder : Path
        Of the checkpoints.
    keep_last : int
        So many of the newest stay.
    keep : iterable of int
        Steps whose checkpoints stay too.
    """
    there = list_checkpoints(folder)
    for step in set(there) - set(list(there)[-keep_last:]) - set(keep):
        there[step].unlink(missing_ok=True)


def sweep_checkpoints(folder: Path, step: int) -> None:
    """Clear away what a killed process left, and set damaged checkpoints aside.

    Parameters
    ----------
    folder : Path
        Of the checkpoints.
    step : int
        That the run goes on from; later checkpoints are those that could not be read.
    """
    for path in folder.glob(f".step-*{_PARTIAL}"):
        path.unlink(missing_ok=True)
    for number, path in list_checkpoints(folder).items():
        if number > step:
            path.replace(path.with_name(path.name + _DAMAGED))


class _Noting:
    """A file that remembers why a write failed: torch tells of a wrong position in its place."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def flush(self) -> None:
        self._file.flush()


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk as well, where folders can be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _not_written(folder: Path, step: int, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    there = list_checkpoints(folder)
    good = f"{there[max(there)]} is the last good one" if there else "there is none yet"
    return (
        f"The checkpoint after step {step:,} cannot be written to {folder}: {reason}; {good}. Make "
        "room, then start again with --resume."
    )
