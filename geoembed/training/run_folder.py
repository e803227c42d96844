"""The folder of a run: what lies where, and what is written once."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from geoembed.errors import TrainingError
from geoembed.training.settings import TrainingSettings
from geoembed.training.settings_text import settings_toml

__all__ = ["RunFolder"]

_LOCK: Final = ".lock"


class RunFolder:
    """Names the files of a run, and writes the small ones whole or not at all.

    Parameters
    ----------
    path : str or Path
        The folder; it need not exist.

    Attributes
    ----------
    config, environment, data, best, bad_pictures, bad_batch : Path
        What it was asked for; what it ran on; what it was trained on; which checkpoint is the
        best; pictures that could not be read; the batch that stopped it.
    metrics_csv, metrics_jsonl, speed_csv, curves : Path
        What was measured.
    checkpoints, tensorboard : Path
        Folders.

    Examples
    --------
    >>> RunFolder("runs/a").metrics_csv.name
    'metrics.csv'
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().absolute()
        self.config = self.path / "config.toml"
        self.environment = self.path / "environment.json"
        self.data = self.path / "data.json"
        self.best = self.path / "best.json"
        self.bad_pictures = self.path / "bad_pictures.csv"
        self.bad_batch = self.path / "bad_batch.json"
        self.metrics_csv = self.path / "metrics.csv"
        self.metrics_jsonl = self.path / "metrics.jsonl"
        self.speed_csv = self.path / "speed.csv"
        self.curves = self.path / "curves.png"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"

    def holds_run(self) -> bool:
        """Tell whether a run has been started here.

        Returns
        -------
        bool
            One whose parts did not fit together has not been.
        """
        return self.config.exists() or any(self.checkpoints.glob("step-*.pt"))

    def prepare(self, *, resume: bool) -> None:
        """Make the folder.

        Parameters
        ----------
        resume : bool
            Whether a run that is there is to go on.

        Raises
        ------
        TrainingError
            If a run is there and is not to go on, or the folder cannot be made.
        """
        if self.holds_run() and not resume:
            raise TrainingError(
                f"{self.path} holds a run already. Go on with it (--resume, resume=True), or "
                "choose another folder."
            )
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(
                f"The run's folder {self.path} cannot be made: {error.strerror or error}."
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing the same run, for the length of a block.

        Yields
        ------
        None

        Raises
        ------
        TrainingError
            If another process is training here.
        """
        try:
            import fcntl
        except ImportError:  # not on this system
            yield
            return
        with (self.path / _LOCK).open("w") as file:
            try:
                # The system lets go when the process ends, however it ends.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TrainingError(
                    f"Another process is training in {self.path}. Wait for it, stop it, or choose "
                    "another folder."
                ) from error
            except OSError:
                pass  # some network disks have no locks
            yield

    def write_settings(self, settings: TrainingSettings) -> None:
        """Write `config`.

        Parameters
        ----------
        settings : TrainingSettings
            Of the run.
        """
        self.write_text(self.config, settings_toml(settings))

    def write_json(self, path: Path, document: Mapping[str, Any]) -> None:
        """Write a file as JSON.

        Parameters
        ----------
        path : Path
            One of the folder's.
        document : mapping
            Fit for JSON.
        """
        self.write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")

    def write_text(self, path: Path, text: str) -> None:
        """Write a file whole, or leave it as it was.

        Parameters
        ----------
        path : Path
            One of the folder's.
        text : str
            Its content.

        Raises
        ------
        TrainingError
            If it cannot be written.
        """
        partial = path.with_name(f".{path.name}.part")
        try:
            with partial.open("w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise TrainingError(
                f"{path} cannot be written: {error.strerror or error}. What was there is as it was."
            ) from error

    def read_json(self, path: Path) -> dict[str, Any] | None:
        """Read a file that `write_json` wrote.

        Parameters
        ----------
        path : Path
            One of the folder's.

        Returns
        -------
        dict or None
            None if there is no such file.

        Raises
        ------
        TrainingError
            If it holds something else.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise TrainingError(f"{path} cannot be read: {error}.") from error
        if not isinstance(found, dict):
            raise TrainingError(f"{path} holds no JSON object.")
        return found

    def best_step(self, last: int | None) -> int | None:
        """Say which checkpoint is the best.

        Parameters
        ----------
        last : int or None
            Step of the last checkpoint: the best where nothing was validated.

        Returns
        -------
        int or None
            Its step.
        """
        best = self.read_json(self.best)
        return last if best is None else int(best["step"])
