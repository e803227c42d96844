"""What a run leaves on the disk, and how it goes on from there."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from geoembed.errors import MissingExtraError, TrainingError
from geoembed.training.assembling import Parts
from geoembed.training.bad_pictures import gather_bad, write_bad
from geoembed.training.checkpoint import (
    checkpoint_path,
    last_whole_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    sweep_checkpoints,
    write_checkpoint,
)
from geoembed.training.config import load_settings
from geoembed.training.curves import draw_curves
from geoembed.training.environment import changes, describe_environment
from geoembed.training.logs import RunLog
from geoembed.training.progressing import Progress
from geoembed.training.random_states import random_states, restore_random_states
from geoembed.training.resuming import check_resumable, check_settings, warn_inexact
from geoembed.training.run_folder import RunFolder
from geoembed.training.settings import TrainingSettings
from geoembed.training.trackers import open_trackers

__all__ = ["FORMAT", "Keeper", "check_folder"]

FORMAT: Final = 1
"""Of checkpoints."""


def check_folder(folder: RunFolder, settings: TrainingSettings, *, resume: bool) -> None:
    """Make a run's folder, or see whether a run in it can go on, before anything is loaded.

    Parameters
    ----------
    folder : RunFolder
        Of the run.
    settings : TrainingSettings
        Of the run.
    resume : bool
        Whether a run that is there is to go on.

    Raises
    ------
    TrainingError
        If a run is there and is not to go on, or is of other settings.
    """
    folder.prepare(resume=resume)
    if folder.config.exists():
        there = load_settings(folder.config)
        check_settings(there, settings, f"The run in {folder.path}", warn=False)


class Keeper:
    """Writes checkpoints and all that lies beside them; process 0 alone does.

    Every method is called by all processes.

    Parameters
    ----------
    parts : Parts
        Of the run.
    folder : RunFolder
        Checked by `check_folder`.

    Attributes
    ----------
    listed : int
        Pictures in bad_pictures.csv; 0 in processes that do not write.
    """

    def __init__(self, parts: Parts, folder: RunFolder) -> None:
        self.parts, self.folder = parts, folder
        self.log: RunLog | None = None
        self._writes = parts.processes.rank == 0
        self.listed = 0
        self._bad = -1

    def start(self) -> Progress:
        """Go on from the last whole checkpoint, or start where there is none.

        Returns
        -------
        Progress
            Of the checkpoint, or of a run that has not begun.

        Raises
        ------
        TrainingError
            If all checkpoints are damaged, or they are of another run.

        Warns
        -----
        CheckpointWarning
            If one is damaged, or numbers will differ in their last digits.
        """
        state = self._last_state()
        progress, rows = Progress(), 0
        if state is not None:
            progress, rows = Progress.from_state(state["progress"]), state["rows"]
            self.parts.step.load_state_dict(state["training"])
            self.parts.average.load_state_dict(state["ema"])
            restore_random_states(state["random"])
        if self._writes:
            sweep_checkpoints(self.folder.checkpoints, progress.step)
            self._describe(progress)
            self._write_best(progress)
            trackers = open_trackers(self.folder, self.parts.settings, progress.step)
            self.log = RunLog(self.folder, rows=rows, trackers=trackers)
        self._list_bad()
        return progress

    def save(self, progress: Progress) -> None:
        """Write a checkpoint, and then what depends on it.

        Parameters
        ----------
        progress : Progress
            Of the run.

        Raises
        ------
        TrainingError
            If it cannot be written; those before stay.
        """
        if self._writes:
            assert self.log is not None
            self.log.sync()
            folder = self.folder.checkpoints
            write_checkpoint(folder, progress.step, self._state(progress, self.log.rows))
            self._write_best(progress)
            best = [] if progress.best is None else [progress.best["step"]]
            prune_checkpoints(folder, self.parts.settings.loop.keep_last, best)
        self._list_bad()

    def draw(self) -> None:
        """Draw the curves, where matplotlib is installed."""
        if not self._writes:
            return
        settings = self.parts.settings
        try:
            draw_curves(self.folder.path, settings.name)
        except MissingExtraError as error:
            warnings.warn(f"curves.png is not drawn. {error}", UserWarning, stacklevel=2)
        except OSError as error:
            raise TrainingError(
                f"{self.folder.curves} cannot be written: {error.strerror or error}."
            ) from error

    def tell_bad_batch(self, step: int, error: TrainingError) -> None:
        """Write the rows of the batch that an error names.

        Parameters
        ----------
        step : int
            Number of the step.
        error : TrainingError
            With ``ids``; others are left alone.
        """
        ids = getattr(error, "ids", None)
        if ids is None or not self._writes:
            return
        data = self.parts.data
        document = {
            "step": step,
            "error": str(error),
            "ids": [int(row) for row in ids],
            "names": [str(data.names[row]) for row in ids],
            "lonlat": data.lonlat[ids].tolist(),
        }
        self.folder.write_json(self.folder.bad_batch, document)

    def close(self) -> None:
        """Close the log."""
        if self.log is not None:
            self.log.close()

    def _last_state(self) -> dict[str, Any] | None:
        """The last whole checkpoint; all processes read the one that process 0 has found."""
        processes, folder = self.parts.processes, self.folder.checkpoints
        found: tuple[Path, dict[str, Any]] | None = None
        step = torch.tensor([-1])
        if self._writes:
            found = last_whole_checkpoint(folder)
            if found is not None:
                step[0] = int(found[1]["progress"]["step"])
        processes.broadcast_([step])
        if int(step) < 0:
            return None
        path = checkpoint_path(folder, int(step))
        state = read_checkpoint(path) if found is None else found[1]
        if state.get("format") != FORMAT:
            raise TrainingError(
                f"The checkpoint {path} has the format {state.get('format')!r}, this geoembed "
                f"reads {FORMAT}: update geoembed."
            )
        if self._writes:
            facts = {**self._facts(), "tower": getattr(self.parts.model, "backbone_sha256", "")}
            check_resumable(state, self.parts.settings, facts, str(path))
        return state

    def _facts(self) -> dict[str, Any]:
        parts = self.parts
        return {
            "data": parts.data.digest,
            "digests": getattr(parts.data, "digests", {}),
            "order": parts.order.digest,
            "world": parts.processes.world,
            # As JSON gives it back: tuples are lists.
            "task": json.loads(json.dumps(parts.task.facts())),
        }

    def _state(self, progress: Progress, rows: int) -> dict[str, Any]:
        parts = self.parts
        return {
            "format": FORMAT,
            "settings": parts.settings.model_dump_json(),
            **parts.task.describe(parts.model),
            **self._facts(),
            "progress": progress.to_state(),
            "rows": rows,
            "training": parts.step.state_dict(),
            "ema": parts.average.state_dict(),
            "random": random_states(),
        }

    def _describe(self, progress: Progress) -> None:
        """Write what is asked for, what of, and where."""
        folder, parts = self.folder, self.parts
        folder.write_settings(parts.settings)
        folder.write_json(folder.data, _describe_data(parts))
        known = (folder.read_json(folder.environment) or {}).get("sessions", [])
        now = describe_environment(parts.processes, progress.step)
        if progress.step and known:
            # Their number was held against that of the checkpoint.
            told = changes({**known[-1], "processes": now["processes"]}, now)
            warn_inexact(told)
        folder.write_json(folder.environment, {"sessions": [*known, now]})

    def _write_best(self, progress: Progress) -> None:
        if progress.best is None:
            self.folder.best.unlink(missing_ok=True)
        else:
            self.folder.write_json(self.folder.best, progress.best)

    def _list_bad(self) -> None:
        parts = self.parts
        own = {
            **getattr(parts.feed, "bad", {}),
            **(parts.validator.bad if parts.validator is not None else {}),
        }
        bad = gather_bad(parts.processes, own)
        if self._writes and len(bad) != self._bad:
            self.listed = write_bad(self.folder, parts.data, bad)
            self._bad = len(bad)


def _describe_data(parts: Parts) -> Mapping[str, Any]:
    data, split = parts.data, parts.split
    lonlat = data.lonlat[split.train]
    found: dict[str, Any] = {
        "kind": parts.settings.data.kind,
        "path": parts.settings.data.path,
        "digest": data.digest,
        "rows": len(data),
        "split": split.sizes(),
        "training_bounds": np.concatenate([lonlat.min(axis=0), lonlat.max(axis=0)]).tolist(),
        "order": parts.order.digest,
        "missing": len(getattr(data, "missing", [])),
        "notes": list(getattr(data, "notes", [])),
    }
    if parts.task.facts():
        found["task"] = parts.task.facts()
    for name in ("views", "dimension", "tower_sha256"):
        if hasattr(data, name):
            found[name] = getattr(data, name)
    return found
