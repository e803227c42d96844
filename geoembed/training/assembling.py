"""The parts of a run, put together."""

from dataclasses import dataclass
from typing import Any, cast

from geoembed.errors import OptionError
from geoembed.extending.registry import image_encoder_specs
from geoembed.images.frozen import frozen_tower
from geoembed.training.batches import FeatureData, Feed, PictureData
from geoembed.training.distributed import Processes
from geoembed.training.ema import WeightAverage
from geoembed.training.feeds import FeatureFeed, ImageFeed
from geoembed.training.opening import open_data
from geoembed.training.order import GlobalOrder
from geoembed.training.pair import PairTask
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import Split, split_rows
from geoembed.training.tasks import LearningModel, Step, TrainingTask, Validation

__all__ = ["Parts", "assemble", "check_features"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """What a loop needs.

    Parameters
    ----------
    settings : TrainingSettings
        Of the run.
    processes : Processes
        That train together.
    data : PictureData or FeatureData
        Everything there is.
    split : Split
        Its rows.
    order : GlobalOrder
        Which rows make up the batch of a step.
    task : TrainingTask
        What a run trains.
    model : LearningModel
        What is trained.
    step : Step
        What moves its weights.
    feed : Feed
        What gives batches.
    average : WeightAverage
        The running mean of the weights.
    validator : Validation or None
        None where no place is held out.
    """

    settings: TrainingSettings
    processes: Processes
    data: PictureData | FeatureData
    split: Split
    order: GlobalOrder
    task: TrainingTask
    model: LearningModel
    step: Step
    feed: Feed
    average: WeightAverage
    validator: Validation | None


def assemble(
    settings: TrainingSettings,
    processes: Processes,
    data: PictureData | FeatureData | None = None,
    split: Split | None = None,
    task: TrainingTask | None = None,
) -> Parts:
    """Put the parts of a run together.

    Parameters
    ----------
    settings : TrainingSettings
        Of the run.
    processes : Processes
        That train together.
    data : PictureData or FeatureData, optional
        Opened by the settings when left out.
    split : Split, optional
        Made by the settings when left out.
    task : TrainingTask, optional
        What is trained: the pair of the settings when left out.

    Returns
    -------
    Parts
        As training starts.

    Raises
    ------
    OptionError
        If they do not fit together, such as a batch larger than there are training places.
    TableError, WeightsError, MissingWeightsError, UnknownNameError
        If data, weights or a gallery are not here, or damaged.

    Examples
    --------
    >>> from geoembed.training.config import load_settings
    >>> settings = load_settings("bluemarble", ["data.crops=300", "loop.batch=64"])
    >>> parts = assemble(settings, Processes())
    >>> len(parts.order) == len(parts.split.train), parts.order.batch_size
    (True, 64)
    """
    data = open_data(settings.data) if data is None else data
    split = split_rows(data.lonlat, settings.data) if split is None else split
    if settings.loop.batch < processes.world:
        raise OptionError(
            f"loop.batch = {settings.loop.batch} pictures cannot be shared by {processes.world} "
            "processes: take a larger batch."
        )
    if task is None:
        check_features(settings, data)
    order = GlobalOrder(split.train, settings.loop.batch, settings.seed)
    task = PairTask() if task is None else task
    model = task.build_model(settings, data, processes.device)
    step = task.build_step(model, settings, processes, data, split)
    held = len(split.validation)
    validator = task.build_validation(data, split, settings, processes) if held else None
    return Parts(
        settings=settings,
        processes=processes,
        data=data,
        split=split,
        order=order,
        task=task,
        model=model,
        step=step,
        feed=_feed(settings, processes, data, order, model),
        average=WeightAverage(model, settings.optimiser.ema),
        validator=validator,
    )


def check_features(settings: TrainingSettings, data: PictureData | FeatureData) -> None:
    """Refuse stored features of another tower than the one that the model would name.

    Parameters
    ----------
    settings : TrainingSettings
        Of the run.
    data : PictureData or FeatureData
        Pictures fit always, and so do features that do not know their tower.

    Raises
    ------
    OptionError
        If the tower is another one, or takes pictures that are prepared otherwise.
    """
    name = getattr(data, "tower", "")
    if not name:
        return
    backbone = settings.image.backbone
    known = frozen_tower(backbone)
    theirs = getattr(data, "tower_sha256", "")
    # A name says nothing of the weights: a folder has another one wherever it lies.
    by_digest = bool(theirs and known.sha256)
    if theirs != known.sha256 if by_digest else name != known.backbone:
        right = repr(name) if name in image_encoder_specs() else "the folder of that model"
        digests = f" (the digest of its tower is {known.sha256}, theirs is {theirs})"
        raise OptionError(
            f"The features are those of {name!r}, and image.backbone = "
            f"{backbone!r}{digests if by_digest else ''}: set image.backbone to {right}, or write "
            "features of the other one."
        )
    drawn = getattr(data, "preprocessing", known.preprocessing)
    if drawn != known.preprocessing:
        raise OptionError(
            f"The features are of pictures that were prepared as {drawn}, image.backbone = "
            f"{backbone!r} takes {known.preprocessing}: write the features anew."
        )


def _feed(
    settings: TrainingSettings,
    processes: Processes,
    data: PictureData | FeatureData,
    order: GlobalOrder,
    model: LearningModel,
) -> Feed:
    who: dict[str, Any] = {
        "seed": settings.seed,
        "rank": processes.rank,
        "world": processes.world,
        "max_bad": settings.data.max_bad,
    }
    if hasattr(data, "features"):
        return FeatureFeed(cast("FeatureData", data), order, settings.views, **who)
    preprocessing = getattr(model, "preprocessing", None)
    if preprocessing is None:
        raise OptionError(
            "The task trains on features of a frozen tower, and the data are pictures."
        )
    workers = settings.loop.workers
    return ImageFeed(data, order, settings.views, preprocessing, workers=workers, **who)
