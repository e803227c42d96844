"""The model of a training run, as an export takes it."""

import math
from dataclasses import replace
from pathlib import Path

from geoembed.errors import TrainingError
from geoembed.training.model import GeolocationModel
from geoembed.training.settings import TrainingSettings
from geoembed.training.trained_model import Story, TrainedModel, model_name

__all__ = ["is_run", "model_of_run", "model_of_training"]


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
    return (path / "config.toml").is_file() and (path / "checkpoints").is_dir()


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
    """
    # From the weight itself: the scale in float32 and back would move its last digit.
    side = replace(model.image_side(), scale=math.exp(model.logit_scale.item()))
    return TrainedModel(
        name=model_name(settings.name),
        architecture=model.architecture,
        network=model.location_encoder,
        side=side,
        summary=settings.summary,
        licence=settings.licence,
        training_data=settings.training_data,
        story=story or {},
    )


def model_of_run(folder: Path, checkpoint: str | int = "best") -> TrainedModel:
    """Return the model of a run, from one of its checkpoints."""
    raise TrainingError(f"The run {folder} cannot be exported yet, checkpoint {checkpoint!r}.")
