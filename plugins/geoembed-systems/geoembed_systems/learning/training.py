"""How a system learns: its class heads through the core's training loop."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geoembed.errors import OptionError, TrainingError
from geoembed.training.checkpoint import checkpoint_path, read_checkpoint
from geoembed.training.config import load_settings
from geoembed.training.loop import RunResult, train
from geoembed.training.memory_data import FeatureArray
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import Split, split_rows
from geoembed_systems.learning.task import Answer, ClassHead, HeadsTask
from geoembed_systems.pictures.features import PictureFeatures

__all__ = ["TrainingOptions", "train_heads"]

# Sections of the core's settings that mean something to a classifier of features.
_SECTIONS: Final = ("data.", "views.", "optimiser.", "loop.", "validation.")
_RECIPE: Final = {
    "data": {"kind": "features", "path": "memory"},
    "optimiser": {"name": "adamw", "schedule": "cosine"},
    "objective": {"queue": 0},
    "validation": {"every": 0.0},
}


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How long and how fast a system learns.

    Parameters
    ----------
    epochs : float
        Passes over the pictures.
    batch : int
        Pictures a step; fewer pictures than that make one step a pass.
    lr : float
        Learning rate at the start; it falls to 0 along a cosine.
    weight_decay : float
        Of AdamW.
    smooth_km : float
        If above 0, cells near the true one share its target, exp(-(d_i - d_true) / smooth_km).
    validation : float
        Share of the places that is held out in whole blocks and looked up meanwhile.
    seed : int
        Of weights and order.
    device : str
        As of `geoembed.devices.resolve_device`.
    precision : {"float32", "bfloat16", "float16"}
        Of the network.
    folder : str or Path, optional
        Of the run: log, curves, checkpoints; one that is gone afterwards if not given.
    resume : bool
        Go on from the last checkpoint in `folder`.
    progress : bool, optional
        Show a progress bar; None shows one on a terminal.
    overrides : mapping of str to any
        Settings of the core's loop, such as ``{"optimiser.schedule": "constant"}``; the last word.

    Examples
    --------
    >>> TrainingOptions(epochs=2.0, overrides={"loop.log_every": 5}).settings("x", 100).loop.epochs
    2.0
    """

    epochs: float = 30.0
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 1e-2
    smooth_km: float = 0.0
    validation: float = 0.0
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    folder: "str | Path | None" = None
    resume: bool = False
    progress: bool | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, system: str, rows: int) -> TrainingSettings:
        """Return them as settings of the core's loop.

        Parameters
        ----------
        system : str
            What the run is called.
        rows : int
            Pictures to learn from; no batch is larger.

        Returns
        -------
        TrainingSettings
            Whose sections ``location``, ``image`` and ``objective`` mean nothing here.

        Raises
        ------
        OptionError
            If a value is out of range, or an override names something else.
        """
        table: dict[str, Any] = {section: dict(values) for section, values in _RECIPE.items()}
        table |= {"name": system, "seed": self.seed}
        table["data"] |= {"validation": self.validation}
        table["optimiser"] |= {"lr": self.lr, "weight_decay": self.weight_decay}
        table["loop"] = {
            "epochs": self.epochs,
            "batch": max(2, min(self.batch, rows)),
            "device": self.device,
            "precision": self.precision,
            # What falls back to it is a bad batch, which happens at the start or not at all.
            "max_loss": 1e4,
        }
        for name, value in self.overrides.items():
            if not str(name).startswith(_SECTIONS) or str(name).count(".") != 1:
                raise OptionError(
                    f"training= has {name!r}: name a setting of the core's loop in one of the "
                    f"sections {', '.join(section[:-1] for section in _SECTIONS)}, such as "
                    "'optimiser.schedule'."
                )
            section, key = name.split(".")
            table.setdefault(section, {})[key] = value
        return load_settings(table)


def train_heads(
    system: str,
    network: Callable[[], nn.Module],
    features: PictureFeatures,
    lonlat: NDArray[np.float64],
    heads: Sequence[ClassHead],
    *,
    answer: Answer,
    facts: Mapping[str, Any],
    options: TrainingOptions,
) -> tuple[nn.Module, RunResult]:
    """Train the class heads of a system through the core's loop.

    Parameters
    ----------
    system : str
        Its registered name.
    network : callable
        Builds an ``nn.Module`` that takes rows (b, ``features.layout.width``) and returns a dict
        of logits (b, classes), one a head.
    features : PictureFeatures
        Of the pictures; each step sees one view of each, drawn anew every pass.
    lonlat : array of shape (n, 2), float64
        Where they were taken, degrees, WGS 84.
    heads : sequence of ClassHead
        What is learned: the loss is the sum of ``weight * mean cross-entropy`` over the pictures
        that have a class. The last head's answers count as right or wrong in the log.
    answer : callable
        Logits by head to places (b, 2), for held-out pictures.
    facts : mapping
        What makes the system what it is, fit for JSON: a run goes on with equal ones only.
    options : TrainingOptions
        How long and how fast.

    Returns
    -------
    network : nn.Module
        Trained, on the CPU, in evaluation mode; the best one where places are held out.
    RunResult
        Of the core's loop.

    Raises
    ------
    OptionError
        If no picture has a class, or an option does not fit.
    TrainingError
        As `geoembed.training.loop.train`.

    Examples
    --------
    >>> from torch import nn
    >>> class Linear(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = nn.Linear(2, 2)
    ...
    ...     def forward(self, rows):
    ...         return {"cell": self.layer(rows)}
    >>> rng = np.random.default_rng(0)
    >>> cells = rng.integers(0, 2, 50)
    >>> means = np.array([[0.0, 0.0], [90.0, 0.0]])
    >>> trained, run = train_heads(
    ...     "example",
    ...     Linear,
    ...     PictureFeatures(np.eye(2)[cells]),
    ...     means[cells],
    ...     [ClassHead("cell", cells, 2, means=means)],
    ...     answer=lambda logits: means[logits["cell"].argmax(dim=1)],
    ...     facts={},
    ...     options=TrainingOptions(epochs=3, lr=0.1, progress=False),
    ... )
    >>> run.ended
    'steps'
    """
    if not any((head.targets >= 0).any() for head in heads):
        raise OptionError("No picture lies in a cell: there is nothing to learn from.")
    if options.folder is None and os.environ.get("WORLD_SIZE", "1") != "1":
        raise OptionError("Several processes train together: name a run_folder= that all see.")
    settings = options.settings(system, len(features))
    data = FeatureArray(lonlat, list(features.names), features.flat())
    if settings.data.validation:
        split = split_rows(lonlat, settings.data)
    else:
        nothing = np.empty(0, dtype=np.int64)
        split = Split(np.arange(len(data)), nothing, nothing, nothing)
    task = HeadsTask(network, heads, answer, {"system": system, **facts}, options.smooth_km)
    with ExitStack() as stack:
        folder = options.folder
        if folder is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="geoembed-"))
        result = train(
            settings,
            folder,
            resume=options.resume,
            data=data,
            split=split,
            task=task,
            progress=options.progress if options.folder or options.progress else False,
        )
        trained = _read_network(task, settings, result)
    return trained, result


def _read_network(task: HeadsTask, settings: TrainingSettings, result: RunResult) -> nn.Module:
    """Read the weights that the run has come to; of every process from the same file."""
    step = result.best["step"] if result.best else result.step
    path = checkpoint_path(Path(result.folder) / "checkpoints", step)
    if not path.exists():
        raise TrainingError(f"The run in {result.folder} has no checkpoint of step {step:,}.")
    state = read_checkpoint(path)
    # The data are needed by models that look at them, and this one does not.
    model = task.build_model(settings, None, torch.device("cpu"))  # type: ignore[arg-type]
    model.load_state_dict(state["ema"] or state["training"]["model"])
    return model.network.eval()
