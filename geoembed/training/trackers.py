"""TensorBoard and Weights & Biases, where they are installed."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final, Protocol

from geoembed.training.run_folder import RunFolder
from geoembed.training.settings import TrainingSettings
from geoembed.training.settings_text import flat_settings

__all__ = ["Tracker", "open_trackers"]

_PROJECT: Final = "geoembed"
_ASKED: Final = ("WANDB_MODE", "WANDB_API_KEY")


class Tracker(Protocol):
    """What gets the numbers of a run beside its files."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take numbers of a step."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


def open_trackers(folder: RunFolder, settings: TrainingSettings, step: int) -> list[Tracker]:
    """Open what is installed and wanted.

    Parameters
    ----------
    folder : RunFolder
        Of the run. TensorBoard's files lie in its folder ``tensorboard``.
    settings : TrainingSettings
        Of the run.
    step : int
        At which it goes on: what TensorBoard holds of later steps is hidden.

    Returns
    -------
    list of Tracker
        TensorBoard if it is installed; Weights & Biases if it is, and ``WANDB_MODE`` or
        ``WANDB_API_KEY`` is set.

    Warns
    -----
    UserWarning
        If one of them cannot be started, or fails later: the run goes on without it.
    """
    found: list[Tracker] = []
    if find_spec("tensorboard") is not None:
        found.append(_Sheltered("TensorBoard", lambda: _TensorBoard(folder, step)))
    if any(os.environ.get(name) for name in _ASKED) and find_spec("wandb") is not None:
        found.append(_Sheltered("Weights & Biases", lambda: _WeightsAndBiases(folder, settings)))
    return found


class _Sheltered:
    """A tracker whose failures, such as a full disk or a server that is gone, cost no run."""

    def __init__(self, name: str, open_it: Callable[[], Tracker]) -> None:
        self._name = name
        self._tracker: Tracker | None = None
        with self._told():
            self._tracker = open_it()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if self._tracker is not None:
            with self._told():
                self._tracker.log(step, values)

    def close(self) -> None:
        if self._tracker is not None:
            with self._told():
                self._tracker.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, the run's own files hold the numbers
            self._tracker = None
            warnings.warn(
                f"{self._name} is left out from here on: {error}. Metrics are in the run's folder "
                "all the same.",
                UserWarning,
                stacklevel=4,
            )


class _TensorBoard:
    def __init__(self, folder: RunFolder, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Its types are not declared.
        writer: Any = SummaryWriter
        self._writer = writer(str(folder.tensorboard), purge_step=step + 1 if step else None)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in _grouped(values).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, folder: RunFolder, settings: TrainingSettings) -> None:
        import wandb  # type: ignore[import-not-found, unused-ignore]

        path = folder.path / "wandb.json"
        known = folder.read_json(path) or {}
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=settings.name,
            id=known.get("id"),
            resume="allow",
            dir=str(folder.path),
            config=flat_settings(settings),
        )
        folder.write_json(path, {"id": self._run.id})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **_grouped(values)})

    def close(self) -> None:
        self._run.finish()


def _grouped(values: Mapping[str, float]) -> dict[str, float]:
    return {
        f"validation/{name.removeprefix('val_')}" if name.startswith("val_") else f"train/{name}": v
        for name, v in values.items()
    }
