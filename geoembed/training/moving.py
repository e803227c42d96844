"""From the gradients of all processes to weights that have moved: checks, clipping, optimiser."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import get_total_norm

from geoembed.errors import OptionError, TrainingError
from geoembed.training.distributed import Processes, sum_gradients
from geoembed.training.optimising import build_optimiser
from geoembed.training.precision import drop_tiny, gradient_scaler
from geoembed.training.settings import TrainingSettings
from geoembed.training.tasks import LearningModel

__all__ = ["Moved", "StepResult", "WeightMover", "error_with_rows"]

# Steps between looks for weights that have decayed to nothing: it takes thousands to get there.
_DROP_EVERY: Final = 100
# So many rows of a batch are named.
_SHOWN: Final = 10


@dataclass(frozen=True)
class StepResult:
    """What a step tells, of the global batch and before the weights moved.

    Parameters
    ----------
    loss : float
        Mean over the valid queries, with the anchor's term where there is one.
    accuracy : float
        Share of the valid queries to which no other place was as similar as their own; of a
        classifier, share of the pictures whose class was right.
    scale : float
        Inverse of the temperature; 1 where there is none.
    grad_norm : float
        Length of the gradient over all trained weights, before it was clipped.
    skipped : bool
        Whether the weights stayed as they were because float16 gradients overflowed.
    """

    loss: float
    accuracy: float
    scale: float
    grad_norm: float
    skipped: bool


@dataclass(frozen=True)
class Moved:
    """What came of a move.

    Parameters
    ----------
    values : list of float
        What was told, summed over all processes, and then what each knows; before the move.
    grad_norm : float
        Length of the gradient before it was clipped.
    skipped : bool
        Whether float16 gradients overflowed, so that no weight has moved.
    """

    values: list[float]
    grad_norm: float
    skipped: bool


class WeightMover:
    """Moves the trained weights of a model by the gradients of all processes.

    Parameters
    ----------
    model : LearningModel
        Whose weights are moved.
    settings : TrainingSettings
        Of the run: optimiser, precision, largest loss.
    processes : Processes
        That train together.

    Raises
    ------
    OptionError
        If no weight of the model is trained.
    """

    def __init__(
        self, model: LearningModel, settings: TrainingSettings, processes: Processes
    ) -> None:
        self.settings, self.processes = settings, processes
        self.weights = [parameter for _, parameter in model.trained()]
        if not self.weights:
            raise OptionError("The model has no weight that is trained.")
        drop_tiny(model.parameters())
        self.optimiser = build_optimiser(self.weights, settings.optimiser)
        self.scaler = gradient_scaler(settings.loop.precision, model.device)

    def clear(self) -> None:
        """Forget the gradients of the step before."""
        for weight in self.weights:
            weight.grad = None

    def scale(self, loss: Tensor) -> Tensor:
        """Return a loss as gradients are to be taken of it: larger under float16."""
        scaled: Tensor = self.scaler.scale(loss)
        return scaled

    def move(
        self,
        told: Tensor,
        known: Tensor,
        *,
        lr: float,
        step: int,
        ids: NDArray[np.int64],
    ) -> Moved:
        """Sum gradients over the processes, look at them, and let the optimiser step.

        Parameters
        ----------
        told : Tensor of shape (a,)
            This process's part of the loss, and then of other sums.
        known : Tensor of shape (b,)
            What all processes know alike.
        lr : float
            Learning rate.
        step : int
            Number of the step, from 0.
        ids : array of int64
            Rows of the global batch, for the error.

        Returns
        -------
        Moved
            The same in every process.

        Raises
        ------
        TrainingError
            If the loss or the gradient is no number, or the loss is larger than ``loop.max_loss``.
            Nothing has moved then, and its ``ids`` are the rows.
        """
        self.processes.sum_([told])
        gradients = sum_gradients(self.weights, self.processes)
        self.scaler.unscale_(self.optimiser)
        norm = get_total_norm(gradients).reshape(1)
        # One wait for the device, before anything moves.
        *values, grad_norm = torch.cat([told, known.to(told), norm.to(told)]).tolist()
        overflow = self.scaler.is_enabled() and not math.isfinite(grad_norm)
        self._check(values[0], grad_norm if not overflow else 0.0, step, ids)
        longest = self.settings.optimiser.clip_norm
        if 0.0 < longest < grad_norm < math.inf:
            torch._foreach_mul_(gradients, longest / grad_norm)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if step % _DROP_EVERY == 0:
            drop_tiny(self.weights)
        return Moved(values, grad_norm, overflow)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of optimiser and scaler.

        Returns
        -------
        dict
            For a checkpoint.
        """
        return {"optimiser": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave.

        Parameters
        ----------
        state : mapping
            Of a mover of the same weights.
        """
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])

    def _check(self, loss: float, grad_norm: float, step: int, ids: NDArray[np.int64]) -> None:
        """Stop before weights move on something that is no number."""
        largest = self.settings.loop.max_loss
        if not math.isfinite(loss):
            what = f"The loss of step {step:,} is {loss}"
        elif loss > largest:
            what = f"The loss of step {step:,} is {loss:g}, larger than loop.max_loss = {largest:g}"
        elif not math.isfinite(grad_norm):
            what = f"The gradient of step {step:,} has the length {grad_norm}"
        else:
            return
        raise error_with_rows(f"{what}; no weight has moved by it", ids)


def error_with_rows(what: str, ids: NDArray[np.int64]) -> TrainingError:
    """Build an error that carries the rows of the batch.

    Parameters
    ----------
    what : str
        What is wrong, without a full stop.
    ids : array of int64
        Rows of the global batch.

    Returns
    -------
    TrainingError
        With ``ids``.

    Examples
    --------
    >>> error_with_rows("The loss is nan", np.arange(2)).ids.tolist()
    [0, 1]
    """
    shown = ", ".join(map(str, ids[:_SHOWN].tolist())) + (", ..." if len(ids) > _SHOWN else "")
    error = TrainingError(
        f"{what}. Rows of the batch: {shown}. Look at these pictures and places; lower "
        "optimiser.lr or set optimiser.clip_norm if they are right."
    )
    error.ids = ids  # type: ignore[attr-defined]
    return error
