"""One training step of a global batch, over any number of processes and parts."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoembed.errors import OptionError
from geoembed.training.anchoring import Anchor
from geoembed.training.batches import Batch
from geoembed.training.distributed import Processes
from geoembed.training.model import GeolocationModel
from geoembed.training.moving import StepResult, WeightMover, error_with_rows
from geoembed.training.noise import add_noise
from geoembed.training.objective import Contrast, contrastive_loss
from geoembed.training.precision import compile_networks, networks_in
from geoembed.training.queue import PlaceQueue
from geoembed.training.randomness import generator
from geoembed.training.recomputing import Encoded
from geoembed.training.settings import TrainingSettings

__all__ = ["TrainingStep"]

_Inputs = TypeVar("_Inputs")

# On CPUs the layers of this many rows at a time stay nearer to the cores: 3 % less time than all.
_CPU_ROWS: Final = 2304


class TrainingStep:
    """Moves the weights of a model by one global batch at a time.

    Gradients are those of one process on the global batch, for any number of processes and any
    ``accumulate``: embeddings are gathered, each process computes the loss of its own pictures
    against all places, the gradients with respect to the embeddings are summed and taken back
    through each process's own parts.

    Parameters
    ----------
    model : GeolocationModel
        As training starts, the same in every process; on its device. Trained in place.
    settings : TrainingSettings
        Of the run.
    processes : Processes, optional
        Alone when left out.
    training_lonlat : array of shape (n, 2), float64, optional
        Training places, degrees; only for ``objective.anchor`` with ``anchor_away_km``.

    Raises
    ------
    OptionError
        If nothing is trained, or the anchor needs training places and has none.

    Examples
    --------
    >>> from geoembed.training.model import build_model
    >>> settings = TrainingSettings(
    ...     data={"kind": "bluemarble"},
    ...     location={"frequencies": 8, "hidden": [8], "output": 4},
    ...     image={"head": [8]},
    ...     objective={"queue": 6},
    ...     loop={"batch": 2},
    ... )
    >>> model = build_model(settings, device="cpu", feature_dimension=16, backbone=False)
    >>> step = TrainingStep(model, settings)
    >>> batch = Batch(
    ...     ids=np.arange(2),
    ...     lonlat=np.array([[2.35, 48.86], [-70.0, -20.0]]),
    ...     views=torch.ones(2, 1, 16),
    ...     valid=np.array([True, True]),
    ... )
    >>> step(batch, 0, lr=1e-3).skipped
    False
    """

    def __init__(
        self,
        model: GeolocationModel,
        settings: TrainingSettings,
        processes: Processes | None = None,
        *,
        training_lonlat: NDArray[np.float64] | None = None,
    ) -> None:
        self.model, self.settings = model, settings
        self.processes = processes or Processes(device=model.device)
        self.queue = PlaceQueue(settings.objective.queue, settings.seed)
        self._anchor: Anchor | None = None
        if settings.objective.anchor:
            self._anchor = Anchor(model, settings.objective, settings.seed, training_lonlat)
        weights = [parameter for _, parameter in model.trained()]
        if not weights:
            raise OptionError(
                "Nothing is trained: location.train and image.train are both 'none', and "
                "objective.learn_temperature is false. Let at least one be trained."
            )
        self.mover = WeightMover(model, settings, self.processes)
        if settings.loop.compile:
            compile_networks(model)

    def __call__(self, batch: Batch, step: int, lr: float) -> StepResult:
        """Move the weights by one global batch.

        Parameters
        ----------
        batch : Batch
            This process's part of it.
        step : int
            Number of the step, from 0: noise is drawn by it.
        lr : float
            Learning rate.

        Returns
        -------
        StepResult
            The same in every process.

        Raises
        ------
        TrainingError
            If the loss or the gradient is no number, the loss is larger than ``loop.max_loss``,
            or no picture of the batch could be read. Weights, optimiser and queue are then as
            before, and its ``ids`` are the batch's rows, in all processes. Also if another
            process has ended.
        """
        contrast = self._contrast(batch)
        self.mover.clear()
        told = self._differentiate(batch, contrast, step)
        scale = self.model.logit_scale.detach().exp().reshape(1)
        moved = self.mover.move(told, scale, lr=lr, step=step, ids=contrast.ids)
        if self.model.logit_scale.requires_grad:
            with torch.no_grad():
                self.model.logit_scale.clamp_(max=math.log(self.settings.objective.max_scale))
        queries = int(contrast.valid.sum()) * batch.views.shape[1]
        self.queue.enqueue(contrast.lonlat[: len(contrast)], contrast.ids)
        loss, correct, inverse_temperature = moved.values
        return StepResult(
            loss, correct / queries, inverse_temperature, moved.grad_norm, moved.skipped
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds.

        Returns
        -------
        dict
            The states of model, optimiser, scaler and queue, and of the anchor where there is one.
        """
        state = {
            "model": self.model.state_dict(),
            **self.mover.state_dict(),
            "queue": self.queue.state_dict(),
        }
        if self._anchor is not None:
            # The encoder that the run started from, wherever it has gone since.
            state["anchor"] = self._anchor.network.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, bit for bit.

        Parameters
        ----------
        state : mapping
            Of a step with the same settings.

        Raises
        ------
        TrainingError
            If the queue has another size.
        """
        self.queue.load_state_dict(state["queue"])
        self.model.load_state_dict(state["model"])
        self.mover.load_state_dict(state)
        if self._anchor is not None:
            self._anchor.network.load_state_dict(state["anchor"])

    def _contrast(self, batch: Batch) -> Contrast:
        """What the global batch is, from everybody's part."""
        count = len(batch) if self.processes.world == 1 else self.settings.loop.batch
        # One exchange: float64 holds row numbers, and true and false, exactly.
        rows = np.column_stack([batch.ids, batch.lonlat, batch.valid])
        rows = self.processes.gather(torch.from_numpy(rows), count).numpy()
        ids, valid = rows[:, 0].astype(np.int64), rows[:, 3].astype(np.bool_)
        if not valid.any():
            raise error_with_rows("No picture of the batch could be read", ids)
        lonlat = np.concatenate([rows[:, 1:3], self.queue.lonlat])
        return Contrast(ids, lonlat, valid, self.queue.ids)

    def _differentiate(self, batch: Batch, contrast: Contrast, step: int) -> Tensor:
        """Add this process's part to the gradients; return its part of loss and right answers."""
        objective, processes = self.settings.objective, self.processes
        places, own = self._encode_places(contrast, step)
        images = self._encode_views(batch.views)
        views = batch.views.shape[1]
        count, size = len(contrast), len(contrast.lonlat)
        image_leaf = _gather_views(processes, images.values, count, views).requires_grad_()
        place_leaf = _gather_places(processes, places.values, count, size).requires_grad_()
        scale = self.model.logit_scale
        wanted = [image_leaf, place_leaf, *([scale] if scale.requires_grad else [])]
        loss = contrastive_loss(image_leaf, place_leaf, scale, contrast, objective, own)
        got = torch.autograd.grad(
            self.mover.scale(loss.value), wanted, allow_unused=True, materialize_grads=True
        )
        by_image, by_place = got[0].contiguous(), got[1].contiguous()
        if scale.requires_grad:
            scale.grad = got[2]
        # Only the other direction makes gradients for pictures of other processes.
        processes.sum_([by_image, by_place] if objective.symmetric else [by_place])
        images.backward(by_image[own.start * views : own.stop * views])
        queue = processes.share(size - count)
        if processes.world > 1:
            by_place = torch.cat(
                [by_place[own], by_place[count + queue.start : count + queue.stop]]
            )
        places.backward(by_place)
        value = loss.value.detach()
        if self._anchor is not None:
            value = value + self._pull(self._anchor, step)
        return torch.stack([value, loss.correct.to(value)])

    def _encode_places(
        self, contrast: Contrast, step: int
    ) -> tuple[Encoded[NDArray[np.float64]], slice]:
        """Encode this process's places of batch and queue; say which of the batch they are."""
        objective, seed = self.settings.objective, self.settings.seed
        count = len(contrast)
        batch = add_noise(
            contrast.lonlat[:count], objective.batch_noise_m, generator(seed, "batch noise", step)
        )
        queue = add_noise(
            contrast.lonlat[count:], objective.queue_noise_m, generator(seed, "queue noise", step)
        )
        own = self.processes.share(count)
        mine = np.concatenate([batch[own], queue[self.processes.share(len(queue))]])
        parts = np.array_split(mine, self._parts(len(mine)))
        return self._encoded(self.model.encode_places, parts), own

    def _encode_views(self, views: Tensor) -> Encoded[Tensor]:
        """Encode this process's views; a frozen backbone runs once."""
        views_in_row = views.flatten(0, 1)
        parts = list(views_in_row.tensor_split(self._parts(len(views_in_row))))
        backbone = self.model.backbone
        if views.ndim == 5 and backbone is not None and self.model.image_encoder.tower is None:
            with torch.no_grad(), self._networks():
                parts = [backbone.features(part).to(self.model.device) for part in parts]
        return self._encoded(self.model.encode_views, parts)

    def _encoded(
        self, encode: Callable[[_Inputs], Tensor], parts: Sequence[_Inputs]
    ) -> Encoded[_Inputs]:
        keep = self.settings.loop.accumulate == 1
        return Encoded(encode, parts, self._networks, keep=keep)

    def _parts(self, rows: int) -> int:
        """In how many parts so many rows are encoded."""
        accumulate = self.settings.loop.accumulate
        if accumulate > 1 or self.model.device.type != "cpu":
            return accumulate
        return max(1, -(-rows // _CPU_ROWS))

    def _pull(self, anchor: Anchor, step: int) -> Tensor:
        """Add the gradient of staying near the start; return this process's part of the loss."""
        places = anchor.places(step)
        weight = self.settings.objective.anchor / len(places)
        mine = places[self.processes.share(len(places))]
        total = torch.zeros((), device=self.model.device)
        for part in np.array_split(mine, self.settings.loop.accumulate):
            with self._networks():
                embeddings = self.model.encode_places(part)
            drift = weight * anchor.drift(part, embeddings)
            if drift.requires_grad:
                torch.autograd.backward(self.mover.scale(drift))
            total = total + drift.detach()
        return total

    def _networks(self) -> AbstractContextManager[object]:
        return networks_in(self.settings.loop.precision, self.model.device)


def _gather_views(processes: Processes, values: Tensor, count: int, views: int) -> Tensor:
    """Collect the embeddings of views by picture, since pictures are what processes share out."""
    width = values.shape[1]
    return processes.gather(values.view(-1, views, width), count).reshape(-1, width)


def _gather_places(processes: Processes, values: Tensor, count: int, size: int) -> Tensor:
    """Collect the embeddings of the batch's places, then of the queue's; each is shared out."""
    if processes.world == 1:
        return values
    own = processes.share(count)
    mine = own.stop - own.start
    return torch.cat(
        [processes.gather(values[:mine], count), processes.gather(values[mine:], size - count)]
    )
