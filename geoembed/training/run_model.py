"""The model of a training run, as an export takes it: from one of its checkpoints."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geoembed.encoders.architecture import LocationArchitecture
from geoembed.encoders.network import load_network
from geoembed.errors import TrainingError
from geoembed.images.frozen import FrozenTower, standing_alone
from geoembed.images.sides import read_image_side
from geoembed.training.checkpoint import find_checkpoint, read_checkpoint
from geoembed.training.config import load_settings
from geoembed.training.keeping import FORMAT
from geoembed.training.model import GeolocationModel
from geoembed.training.run_folder import RunFolder
from geoembed.training.run_story import run_story
from geoembed.training.settings import TrainingSettings
from geoembed.training.trained_model import Story, TrainedModel, model_name
from geoembed.weights import ModelFolder

__all__ = ["is_run", "model_of_run", "model_of_training"]


@dataclass(frozen=True)
class _Checkpoint(ModelFolder):
    """A checkpoint in place of a model folder: it holds the same."""

    held: Mapping[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.held)


def is_run(path: Path) -> bool:
    """Tell whether a path is the folder of a training run.

    Parameters
    ----------
    path : Path
        Any.

    Returns
    -------
    bool
        Whether it has settings and checkpoints.

    Examples
    --------
    >>> is_run(Path("nowhere"))
    False
    """
    folder = RunFolder(path)
    return folder.config.is_file() and folder.checkpoints.is_dir()


def model_of_run(path: str | Path, checkpoint: str | int = "best") -> TrainedModel:
    """Return the model of a run. Its data are not needed, nor is a registered backbone.

    A frozen tower that came from a model folder becomes the model's own.

    Parameters
    ----------
    path : str or path
        Folder of the run.
    checkpoint : {"best", "last"} or int
        Which one; an int is a step.

    Returns
    -------
    TrainedModel
        With the running mean of the weights, where the run keeps one. Name, summary, licence and
        training data are those that ``config.toml`` says now.

    Raises
    ------
    TrainingError
        If there is no such checkpoint, or it is damaged or of a newer geoembed.
    WeightsError
        If the model folder with the frozen tower is gone, or holds another one.
    """
    folder = RunFolder(path)
    file = find_checkpoint(folder.path, checkpoint)
    state = read_checkpoint(file)
    if state.get("format") != FORMAT:
        raise TrainingError(
            f"The checkpoint {file} has the format {state.get('format')!r}, this geoembed reads "
            f"{FORMAT}: update geoembed."
        )
    tensors: Mapping[str, Tensor] = state["ema"] or state["training"]["model"]
    config = {
        "model_type": "geoembed-geolocation",
        "format_version": 1,
        "location": state["location"],
        "image": state["image"],
    }
    architecture = LocationArchitecture.from_dict(state["location"])
    with torch.device("meta"):
        network = architecture.build()
    settings = load_settings(folder.config)
    as_trained = TrainingSettings.model_validate(json.loads(state["settings"]))
    side, taken = standing_alone(
        read_image_side(_Checkpoint(file, config, held=tensors)), settings.image.backbone
    )
    return TrainedModel(
        **_told(settings),
        architecture=architecture,
        network=load_network(network, tensors, str(file)).eval().requires_grad_(False),
        side=side,
        story=_with_tower(run_story(folder, as_trained, state), taken),
    )


def model_of_training(
    model: GeolocationModel, settings: TrainingSettings, story: Story | None = None
) -> TrainedModel:
    """Return a model that is being trained as an export takes it.

    Parameters
    ----------
    model : GeolocationModel
        Whose weights are shared.
    settings : TrainingSettings
        Of the run, for name, licence and training data.
    story : mapping, optional
        What the card tells of the run.

    Returns
    -------
    TrainedModel
        With both sides.

    Raises
    ------
    WeightsError
        If the model folder with the frozen tower is gone, or holds another one.
    """
    side, taken = standing_alone(model.image_side())
    return TrainedModel(
        **_told(settings),
        architecture=model.architecture,
        network=model.location_encoder,
        # From the weight itself: the scale in float32 and back would move its last digit.
        side=replace(side, scale=math.exp(model.logit_scale.item())),
        story=_with_tower(story or {}, taken),
    )


def _with_tower(story: Story, taken: FrozenTower | None) -> Story:
    """Tell whose tower a model carries: it has a licence and training data of its own."""
    if taken is None or taken.folder is None:
        return story
    words = {"licence": "licence", "training data": "training_data"}
    told = [f"{label}: {taken.folder.text(key) or 'not said'}" for label, key in words.items()]
    name = taken.folder.text("name") or taken.folder.path.name
    text = f"frozen, that of {name}; {'; '.join(told)}; SHA-256 {taken.sha256}"
    return {**story, "recipe": {**story.get("recipe", {}), "Picture tower": text}}


def _told(settings: TrainingSettings) -> dict[str, Any]:
    return {
        "name": model_name(settings.name),
        "summary": settings.summary,
        "licence": settings.licence,
        "training_data": settings.training_data,
    }
