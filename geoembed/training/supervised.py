"""Training of any model whose loss is a mean over pictures, such as a classifier of cells."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoembed.errors import OptionError
from geoembed.training.batches import Batch, FeatureData, PictureData
from geoembed.training.distributed import Processes
from geoembed.training.moving import StepResult, WeightMover, error_with_rows
from geoembed.training.precision import networks_in
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import Split
from geoembed.training.tasks import LearningModel, TrainingTask
from geoembed.training.validation import score_places
from geoembed.training.validation_places import query_rows

__all__ = ["PlaceValidation", "SupervisedModel", "SupervisedStep", "SupervisedTask"]

# Held-out pictures answered at a time.
_ROWS: Final = 512


class SupervisedModel(LearningModel):
    """A model that says of every picture how wrong it is, in one term or several, and where it is.

    Parameters
    ----------
    weights : sequence of H floats
        Of the terms in the loss.

    Examples
    --------
    >>> class Nothing(SupervisedModel):
    ...     has_terms = terms = places = None
    >>> Nothing([0.5, 2.0]).term_weights.tolist()
    [0.5, 2.0]
    """

    def __init__(self, weights: Any) -> None:
        super().__init__()
        self.register_buffer(
            "term_weights", torch.as_tensor(weights, dtype=torch.float32), persistent=False
        )

    term_weights: Tensor

    @abstractmethod
    def has_terms(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which terms rows take part in.

        Parameters
        ----------
        rows : array of shape (b,), int64
            Rows of the data.

        Returns
        -------
        array of bool, shape (b, H)
            A row counts in the mean of the terms that it has.
        """

    @abstractmethod
    def terms(self, views: Tensor, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Say how wrong each view is.

        Parameters
        ----------
        views : Tensor of shape (b, 3, size, size) or (b, d)
            Pixels or features, on the model's device.
        rows : array of shape (b,), int64
            Row of the data that each is of.

        Returns
        -------
        losses : Tensor of shape (b, H)
            Of each view in each term; anything finite where its row has no such term.
        right : Tensor of bool, shape (b,)
            Whether its answer is right.
        """

    @abstractmethod
    def places(self, views: Tensor) -> NDArray[np.float64]:
        """Answer pictures.

        Parameters
        ----------
        views : Tensor of shape (b, V, 3, size, size) or (b, V, d)
            V views of each.

        Returns
        -------
        array of shape (b, 2), float64
            Longitude and latitude, degrees, WGS 84.
        """


class SupervisedStep:
    """Moves the weights of a supervised model by one global batch at a time.

    The loss is the sum over the terms of ``weight * mean over the pictures that have the term``,
    of the global batch: it and its gradients are the same for any number of processes and parts.

    Parameters
    ----------
    model : SupervisedModel
        As training starts, the same in every process; on its device. Trained in place.
    settings : TrainingSettings
        Of the run.
    processes : Processes, optional
        Alone when left out.

    Raises
    ------
    OptionError
        If no weight is trained.
    """

    def __init__(
        self,
        model: SupervisedModel,
        settings: TrainingSettings,
        processes: Processes | None = None,
    ) -> None:
        self.model, self.settings = model, settings
        self.processes = processes or Processes(device=model.device)
        self.mover = WeightMover(model, settings, self.processes)
        if settings.loop.compile:
            for child in model.children():
                child.compile()

    def __call__(self, batch: Batch, step: int, lr: float) -> StepResult:
        """Move the weights by one global batch.

        Parameters
        ----------
        batch : Batch
            This process's part of it.
        step : int
            Number of the step, from 0.
        lr : float
            Learning rate.

        Returns
        -------
        StepResult
            The same in every process. ``accuracy`` is of the pictures that have any term.

        Raises
        ------
        TrainingError
            As the step of the pair: see `geoembed.training.moving.WeightMover.move`; or if no
            picture of the batch could be read.
        """
        there = self.model.has_terms(batch.ids) & batch.valid[:, None]
        ids, everywhere = self._gather(batch, there)
        counts = everywhere.sum(axis=0) * batch.views.shape[1]
        self.mover.clear()
        told = self._differentiate(batch, there, counts)
        moved = self.mover.move(told, told.new_ones(1), lr=lr, step=step, ids=ids)
        loss, right, scale = moved.values
        asked = int(everywhere.any(axis=1).sum()) * batch.views.shape[1]
        return StepResult(loss, right / max(asked, 1), scale, moved.grad_norm, moved.skipped)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds.

        Returns
        -------
        dict
            The states of model, optimiser and scaler.
        """
        return {"model": self.model.state_dict(), **self.mover.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, bit for bit.

        Parameters
        ----------
        state : mapping
            Of a step with the same settings.
        """
        self.model.load_state_dict(state["model"])
        self.mover.load_state_dict(state)

    def _gather(
        self, batch: Batch, there: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rows of the global batch, and which terms they have."""
        count = len(batch) if self.processes.world == 1 else self.settings.loop.batch
        mine = torch.from_numpy(np.column_stack([batch.ids, batch.valid, there]).astype(np.int64))
        rows = self.processes.gather(mine, count).numpy()
        if not rows[:, 1].any():
            raise error_with_rows("No picture of the batch could be read", rows[:, 0])
        return rows[:, 0], rows[:, 2:].astype(np.bool_)

    def _differentiate(
        self, batch: Batch, there: NDArray[np.bool_], counts: NDArray[np.int64]
    ) -> Tensor:
        """Add this process's part to the gradients; return its part of loss and right answers."""
        model = self.model
        share = model.term_weights / torch.from_numpy(np.maximum(counts, 1)).to(model.term_weights)
        rows = np.repeat(batch.ids, batch.views.shape[1])
        seen = torch.from_numpy(np.repeat(there, batch.views.shape[1], axis=0)).to(model.device)
        views = batch.views.flatten(0, 1)
        told = torch.zeros(2, device=model.device)
        for part in np.array_split(np.arange(len(rows)), self.settings.loop.accumulate):
            if not len(part):
                continue
            some = slice(part[0], part[-1] + 1)
            with self._networks():
                losses, right = model.terms(views[some].to(model.device), rows[some])
            kept = torch.where(seen[some], losses.float(), 0.0)
            loss = (kept * share).sum()
            if loss.requires_grad:
                torch.autograd.backward(self.mover.scale(loss))
            told += torch.stack([loss.detach(), (right & seen[some].any(dim=1)).sum().to(loss)])
        return told

    def _networks(self) -> AbstractContextManager[object]:
        return networks_in(self.settings.loop.precision, self.model.device)


class PlaceValidation:
    """Scores the answers to held-out pictures; for features of a frozen tower.

    Parameters
    ----------
    data : FeatureData
        Of the run.
    split : Split
        Its `validation` rows are answered, as many as ``validation.queries`` says.
    settings : TrainingSettings
        Of the run.
    processes : Processes
        That share the work.

    Raises
    ------
    OptionError
        If the data are pictures.
    """

    def __init__(
        self,
        data: PictureData | FeatureData,
        split: Split,
        settings: TrainingSettings,
        processes: Processes,
    ) -> None:
        if not hasattr(data, "features"):
            raise OptionError("Held-out pictures are scored by their features, and there are none.")
        features: Any = data
        self.data = features
        self.settings, self.processes = settings, processes
        rows = query_rows(split.validation, settings)
        self.rows = rows[self.data.valid[rows]]
        self.bad: Mapping[int, str] = {}

    def __call__(self, model: SupervisedModel) -> dict[str, float]:
        """Score a model.

        Parameters
        ----------
        model : SupervisedModel
            Left as it is.

        Returns
        -------
        dict of str to float
            `geoembed.training.validation.SCORES`; the loss is of the first view of each picture,
            and no number where none of the pictures has a target.
        """
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad(), networks_in(self.settings.loop.precision, model.device):
                mine = self._answer(model)
        finally:
            model.train(was_training)
        told = self.processes.gather(mine, len(self.rows)).numpy()
        terms = told[:, 2:]
        count = np.isfinite(terms).sum(axis=0)
        loss = math.nan
        if count.any():
            means = np.nansum(terms, axis=0) / np.maximum(count, 1)
            loss = float((means * model.term_weights.cpu().numpy()).sum())
        return score_places(self.data.lonlat[self.rows], told[:, :2], loss)

    def _answer(self, model: SupervisedModel) -> Tensor:
        """Places and losses of this process's rows, (m, 2 + H); NaN where there is no target."""
        mine = self.rows[self.processes.share(len(self.rows))]
        found = [torch.empty(0, 2 + len(model.term_weights), dtype=torch.float64)]
        for start in range(0, len(mine), _ROWS):
            rows = mine[start : start + _ROWS]
            numbers = np.tile(np.arange(self.data.views), (len(rows), 1))
            views = torch.from_numpy(self.data.features(rows, numbers)).to(model.device)
            losses = model.terms(views[:, 0], rows)[0].double().cpu()
            losses[~torch.from_numpy(model.has_terms(rows))] = torch.nan
            found.append(torch.cat([torch.from_numpy(model.places(views)), losses], dim=1))
        return torch.cat(found)


class SupervisedTask(TrainingTask):
    """Train a `SupervisedModel`; a subclass writes `facts` and `build_model`.

    The guide "train" has a whole one.

    Examples
    --------
    >>> class Cells(SupervisedTask):
    ...     def facts(self):
    ...         return {"cells": 12}
    ...
    ...     def build_model(self, settings, data, device): ...
    >>> Cells().facts()
    {'cells': 12}
    """

    def build_step(
        self,
        model: SupervisedModel,
        settings: TrainingSettings,
        processes: Processes,
        data: PictureData | FeatureData,
        split: Split,
    ) -> SupervisedStep:
        """Build the step of a mean over pictures.

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
        SupervisedStep
            Called with a batch, the number of the step and the learning rate.
        """
        return SupervisedStep(model, settings, processes)

    def build_validation(
        self,
        data: PictureData | FeatureData,
        split: Split,
        settings: TrainingSettings,
        processes: Processes,
    ) -> PlaceValidation:
        """Build what scores answers to held-out pictures; called where there are some.

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
        PlaceValidation
            Called with the model.
        """
        return PlaceValidation(data, split, settings, processes)
