"""What a run trains: the model, the step that moves it and what looks at it, in one object."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

if TYPE_CHECKING:
    from geoembed.training.batches import Batch, FeatureData, PictureData
    from geoembed.training.distributed import Processes
    from geoembed.training.moving import StepResult
    from geoembed.training.settings import TrainingSettings
    from geoembed.training.splitting import Split

__all__ = ["LearningModel", "Step", "TrainingTask", "Validation"]


class LearningModel(nn.Module):
    """A model as a run sees it: weights on a device, some of which are trained.

    A model that is trained on pictures, and not on features, also has ``preprocessing``.

    Examples
    --------
    >>> model = LearningModel()
    >>> model.layer = nn.Linear(2, 1)
    >>> [name for name, _ in model.trained()], model.device
    (['layer.weight', 'layer.bias'], device(type='cpu'))
    """

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """Return the parameters that are trained.

        Returns
        -------
        list of (str, Parameter)
            Their names and themselves, in the order of the state dict.
        """
        return [(name, p) for name, p in self.named_parameters() if p.requires_grad]


class Step(Protocol):
    """Moves the weights of a model by one global batch at a time."""

    def __call__(self, batch: "Batch", step: int, lr: float) -> "StepResult":
        """Move the weights by this process's part of a global batch and those of the others."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds: the states of model and optimiser, and whatever else."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, bit for bit."""
        ...


class Validation(Protocol):
    """Looks at held-out rows with the weights as they are."""

    @property
    def bad(self) -> Mapping[int, str]:
        """Rows of held-out pictures that could not be read, and why."""
        ...

    def __call__(self, model: Any) -> dict[str, float]:
        """Score a model; `geoembed.training.validation.SCORES`, the same in every process."""
        ...


class TrainingTask(ABC):
    """What a run trains, where it is not a location encoder and an image side.

    Batches, order, learning rates, checkpoints, resuming, logs and processes are the loop's; a
    task says what the model is, how a batch moves it and how held-out rows score it. The sections
    ``data``, ``views``, ``optimiser``, ``loop`` and ``validation`` of the settings are the loop's;
    what else a task needs it brings itself, and names in `facts`.

    See Also
    --------
    geoembed.training.SupervisedTask : One whose loss is a mean over pictures.

    Examples
    --------
    >>> from geoembed.training.pair import PairTask
    >>> isinstance(PairTask(), TrainingTask)  # what a run trains that names no task
    True
    """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what makes this task what it is; a run goes on with equal facts only.

        Returns
        -------
        dict
            Fit for JSON.
        """

    @abstractmethod
    def build_model(
        self,
        settings: "TrainingSettings",
        data: "PictureData | FeatureData",
        device: torch.device,
    ) -> LearningModel:
        """Build the model that a run starts with.

        Parameters
        ----------
        settings : TrainingSettings
            Of the run; weights are drawn from its seed.
        data : PictureData or FeatureData
            Of the run.
        device : torch.device
            Where the model is to lie.

        Returns
        -------
        LearningModel
            The same in every process.
        """

    @abstractmethod
    def build_step(
        self,
        model: Any,
        settings: "TrainingSettings",
        processes: "Processes",
        data: "PictureData | FeatureData",
        split: "Split",
    ) -> Step:
        """Build what moves the weights.

        Parameters
        ----------
        model : LearningModel
            That `build_model` gave.
        settings : TrainingSettings
            Of the run.
        processes : Processes
            That train together.
        data : PictureData or FeatureData
            Of the run.
        split : Split
            Its rows.

        Returns
        -------
        Step
            Called with a batch, the number of the step and the learning rate.
        """

    @abstractmethod
    def build_validation(
        self,
        data: "PictureData | FeatureData",
        split: "Split",
        settings: "TrainingSettings",
        processes: "Processes",
    ) -> Validation:
        """Build what scores held-out rows; called where there are some.

        Parameters
        ----------
        data : PictureData or FeatureData
            Of the run.
        split : Split
            Its rows.
        settings : TrainingSettings
            Of the run.
        processes : Processes
            That train together.

        Returns
        -------
        Validation
            Called with the model.
        """

    def describe(self, model: Any) -> dict[str, Any]:
        """Return what checkpoints say of the model beside its weights.

        Parameters
        ----------
        model : LearningModel
            That `build_model` gave.

        Returns
        -------
        dict
            Fit for JSON.
        """
        return {}
