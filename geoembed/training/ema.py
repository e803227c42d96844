"""The running mean of the weights, which is validated and exported in their place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from geoembed.errors import TrainingError
from geoembed.training.tasks import LearningModel

__all__ = ["WeightAverage"]


class WeightAverage:
    """An exponential mean of the trained weights over the steps.

    After t steps the decay is min(decay, (1 + t) / (10 + t)): the random weights of the start are
    soon forgotten.

    Parameters
    ----------
    model : LearningModel
        As training starts; its trained weights are copied.
    decay : float
        Share of the mean that stays at a step; 0 keeps no mean, and the weights are used as they
        are.

    Examples
    --------
    >>> from geoembed.training.model import build_model
    >>> from geoembed.training.settings import TrainingSettings
    >>> settings = TrainingSettings(
    ...     data={"kind": "bluemarble"},
    ...     location={"frequencies": 2, "hidden": [2], "output": 2},
    ...     image={"head": [2]},
    ... )
    >>> model = build_model(settings, feature_dimension=2, backbone=False)
    >>> average = WeightAverage(model, decay=0.999)
    >>> with torch.no_grad():
    ...     _ = model.logit_scale.zero_()
    >>> average.update(step=0)
    >>> with average.in_place():
    ...     print(round(model.logit_scale.item(), 4))  # 0.1 ln(1 / 0.07)
    0.2659
    >>> model.logit_scale.item()
    0.0
    """

    def __init__(self, model: LearningModel, decay: float) -> None:
        self.model, self.decay = model, decay
        trained = model.trained() if decay else []
        self._names = [name for name, _ in trained]
        self._weights = [parameter.detach() for _, parameter in trained]
        self._means = [weight.clone() for weight in self._weights]

    def update(self, step: int) -> None:
        """Take in the weights after a step.

        Parameters
        ----------
        step : int
            Number of the step, from 0.
        """
        if self._means:
            keep = min(self.decay, (1.0 + step) / (10.0 + step))
            torch._foreach_lerp_(self._means, self._weights, 1.0 - keep)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the mean into the model for the length of a block.

        Yields
        ------
        None
            The weights come back when it ends.
        """
        kept = [weight.clone() for weight in self._weights]
        self._fill(self._weights, self._means)
        try:
            yield
        finally:
            self._fill(self._weights, kept)

    def state_dict(self) -> dict[str, Tensor] | None:
        """Return what a checkpoint holds.

        Returns
        -------
        dict or None
            The state dict of the model with the mean in it; None if there is no mean.
        """
        if not self._means:
            return None
        # What is not trained is the model's own: a file holds it once.
        return {**self.model.state_dict(), **dict(zip(self._names, self._means, strict=True))}

    def load_state_dict(self, state: Mapping[str, Tensor] | None) -> None:
        """Go on from what `state_dict` gave.

        Parameters
        ----------
        state : mapping or None
            Of a run of the same model and decay.

        Raises
        ------
        TrainingError
            If the checkpoint has no mean, and one is wanted.
        """
        if not self._means:
            return
        if state is None:
            raise TrainingError(
                f"optimiser.ema = {self.decay:g} wants the running mean of the weights, which the "
                "checkpoint does not hold: resume with optimiser.ema = 0."
            )
        self._fill(self._means, [state[name] for name in self._names])

    @staticmethod
    def _fill(targets: list[Tensor], values: list[Tensor]) -> None:
        for target, value in zip(targets, values, strict=True):
            target.copy_(value)
