"""How the GeoCLIP system trains: its settings over a recipe, and the core's run."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from geoembed.errors import OptionError
from geoembed.extending.registry import image_encoder_specs
from geoembed.training.config import load_settings, merge_tables
from geoembed.training.loop import RunResult, train
from geoembed.training.memory_data import FeatureArray
from geoembed.training.run_model import model_of_run
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import Split, split_rows
from geoembed_systems.pair.sides import TrainedSides

__all__ = ["backbone_name", "geoclip_settings", "train_sides"]

_IN_MEMORY: Final = "(given in Python)"
_DEFAULT_BACKBONE: Final = "geoclip.v1"
# Nobody goes on with a run in a temporary folder: one checkpoint, at its end.
_NEVER: Final = 10**9


def backbone_name(image_encoder: Any) -> str:
    """Name the tower that features come from, for whoever exports the run.

    Parameters
    ----------
    image_encoder : str, Path or ImageEncoder
        Of the system.

    Returns
    -------
    str
        A registered name or a folder; ``"geoclip.v1"`` where an encoder in memory has neither.

    Examples
    --------
    >>> backbone_name("bluemarble.v1")
    'bluemarble.v1'
    """
    if isinstance(image_encoder, str | Path):
        return str(image_encoder)
    name = getattr(image_encoder, "name", "")
    return name if name in image_encoder_specs() else _DEFAULT_BACKBONE


def geoclip_settings(
    recipe: str | Path, own: Mapping[str, Any], above: Mapping[str, Any], places: int
) -> TrainingSettings:
    """Lay options over a recipe.

    Parameters
    ----------
    recipe : str or Path
        Name or file.
    own : mapping
        Settings by dotted names; None leaves what the recipe says.
    above : mapping
        The same, with the last word.
    places : int
        How many there are to train on: neither is a batch larger, nor is the queue longer than
        there are others, unless `above` says so.

    Returns
    -------
    TrainingSettings
        Of a run on features in memory.

    Raises
    ------
    OptionError
        If settings are unknown or do not fit; all problems are told at once.
    UnknownNameError
        If there is no such recipe.

    Examples
    --------
    >>> settings = geoclip_settings("geoclip-mp16", {"loop.epochs": 3.0}, {}, 600)
    >>> settings.loop.epochs, settings.loop.batch, settings.objective.queue
    (3.0, 512, 88)
    """
    table: dict[str, Any] = {
        "base": str(recipe),
        "name": "geoclip",
        "data": {"kind": "features", "path": _IN_MEMORY, "validation": 0.0, "fraction": 1.0},
        "views": {"count": 1, "pool": 0},
        "image": {"tower": "backbone"},
        # Few pictures: the queue soon holds each of their places.
        "objective": {"mask_own": True},
    }
    given = {name: value for name, value in own.items() if value is not None}
    table = merge_tables(table, _nested({**given, **above}))
    settings = load_settings(table)
    fitted: dict[str, Any] = {}
    batch = settings.loop.batch
    if batch > places and "loop.batch" not in above:
        batch = fitted["loop.batch"] = max(places, 2)
    if settings.objective.queue > places - batch and "objective.queue" not in above:
        fitted["objective.queue"] = max(places - batch, 0)
    return load_settings(merge_tables(table, _nested(fitted))) if fitted else settings


def train_sides(
    settings: TrainingSettings,
    data: FeatureArray,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> tuple[TrainedSides, RunResult]:
    """Train both sides with the core's loop.

    Parameters
    ----------
    settings : TrainingSettings
        Of `geoclip_settings`.
    data : FeatureArray
        Features and places.
    folder : str or Path, optional
        Of the run; a temporary one if not given.
    resume : bool
        Go on from the last checkpoint in it.
    progress : bool, optional
        As in `geoembed.training.train`; without a folder, nothing is shown unless it is True.

    Returns
    -------
    sides : TrainedSides
        The best ones where places are held out, else those of the last step.
    result : RunResult
        What the run has come to.

    Raises
    ------
    OptionError
        If `resume` is asked for without a folder, or several processes train together without
        one; or settings and data do not fit.
    TrainingError
        As `geoembed.training.train`.
    """
    if folder is None:
        if resume:
            raise OptionError("resume=True goes on with the run in run_folder=: give that too.")
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise OptionError("Several processes train together: name a run_folder= that all see.")
        settings = settings.model_copy(
            update={"loop": settings.loop.model_copy(update={"save_every": _NEVER})}
        )
    split = split_rows(data.lonlat, settings.data) if settings.data.validation else _all(data)
    with ExitStack() as stack:
        where = folder or stack.enter_context(TemporaryDirectory(prefix="geoclip-"))
        shown = progress if folder or progress else False
        result = train(settings, where, resume=resume, data=data, split=split, progress=shown)
        model = model_of_run(result.folder, "best" if result.best else "last")
        return TrainedSides.of_model(model), result


def _all(data: FeatureArray) -> Split:
    none = np.empty(0, dtype=np.int64)
    return Split(np.arange(len(data), dtype=np.int64), none, none, none)


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Make tables of dotted names."""
    table: dict[str, Any] = {}
    for name, value in settings.items():
        for part in reversed(name.split(".")):
            value = {part: value}
        table = merge_tables(table, value)
    return table
