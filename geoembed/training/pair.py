"""The task of GeoCLIP: a location encoder and an image side that find each other."""

from typing import Any

import torch

from geoembed.training.batches import FeatureData, PictureData
from geoembed.training.distributed import Processes
from geoembed.training.model import GeolocationModel, build_model
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import Split
from geoembed.training.step import TrainingStep
from geoembed.training.tasks import TrainingTask
from geoembed.training.validation import Validator

__all__ = ["PairTask"]


class PairTask(TrainingTask):
    """Train what the settings say; the task of a run that names none.

    Examples
    --------
    >>> PairTask().facts()
    {}
    """

    def facts(self) -> dict[str, Any]:
        """Return nothing: the settings say it all."""
        return {}

    def build_model(
        self,
        settings: TrainingSettings,
        data: PictureData | FeatureData,
        device: torch.device,
    ) -> GeolocationModel:
        """Build the pair; of pictures with its frozen backbone."""
        features = getattr(data, "dimension", None)
        return build_model(
            settings,
            device=device,
            feature_dimension=features,
            backbone=features is None,
            backbone_sha256=getattr(data, "tower_sha256", ""),
        )

    def build_step(
        self,
        model: GeolocationModel,
        settings: TrainingSettings,
        processes: Processes,
        data: PictureData | FeatureData,
        split: Split,
    ) -> TrainingStep:
        """Build the contrastive step."""
        return TrainingStep(model, settings, processes, training_lonlat=data.lonlat[split.train])

    def build_validation(
        self,
        data: PictureData | FeatureData,
        split: Split,
        settings: TrainingSettings,
        processes: Processes,
    ) -> Validator:
        """Build the retrieval of held-out places."""
        return Validator(data, split, settings, processes)

    def describe(self, model: GeolocationModel) -> dict[str, Any]:
        """Return the architecture of both sides."""
        return {"location": model.architecture.to_dict(), "image": model.image_side().config()}
