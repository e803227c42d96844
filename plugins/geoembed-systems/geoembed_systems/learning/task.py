"""What the core's training loop trains for a system: class heads on frozen features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from geoembed.errors import OptionError
from geoembed.geodesy import EARTH_RADIUS_KM, to_unit_vectors
from geoembed.training.batches import FeatureData, PictureData
from geoembed.training.settings import TrainingSettings
from geoembed.training.supervised import SupervisedModel, SupervisedTask

__all__ = ["ClassHead", "HeadsModel", "HeadsTask", "smoothed_loss"]

Answer = Callable[[dict[str, Tensor]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class ClassHead:
    """One classification of pictures.

    Parameters
    ----------
    name : str
        Of the head; the network's output is looked up by it.
    targets : array of shape (n,), int64
        Class of each row of the data; -1 where it has none, and so no part in the loss.
    classes : int
        How many there are.
    weight : float
        Of its mean cross-entropy in the loss.
    means : array of shape (classes, 2), optional
        Where the classes are, lon and lat in degrees: with them, targets can be smoothed.

    Raises
    ------
    OptionError
        If there are fewer than two classes, or a target is none of them.

    Examples
    --------
    >>> ClassHead("cell", np.array([0, 2, -1]), classes=3).name
    'cell'
    """

    name: str
    targets: NDArray[np.int64]
    classes: int
    weight: float = 1.0
    means: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        targets = np.asarray(self.targets)
        if self.classes < 2:
            raise OptionError(
                f"The head {self.name!r} has {self.classes} class: there is nothing to tell apart. "
                "Make smaller cells, or give pictures of more places."
            )
        if targets.ndim != 1 or targets.dtype.kind != "i":
            raise OptionError(f"Targets of the head {self.name!r} are no row of whole numbers.")
        if len(targets) and not (targets.min() >= -1 and targets.max() < self.classes):
            raise OptionError(
                f"Targets of the head {self.name!r} run from {targets.min()} to {targets.max()}, "
                f"and its classes from 0 to {self.classes - 1}."
            )


def smoothed_loss(logits: Tensor, targets: Tensor, units: Tensor, tau_km: float) -> Tensor:
    """Cross-entropy against targets that neighbours of the true class share.

    The target of class i is exp(-(d_i - d_true) / tau), normalised, d being the great-circle
    distance to the mean of class i (Haas et al. 2024, PIGEON, who measure from the picture's own
    place; here, from the mean of its class).

    Parameters
    ----------
    logits : Tensor of shape (b, classes)
        Of the head.
    targets : Tensor of shape (b,), int64
        True classes.
    units : Tensor of shape (classes, 3)
        Means of the classes on the unit sphere, float64.
    tau_km : float
        Distance over which a target falls to 1/e.

    Returns
    -------
    Tensor of shape (b,)
        Nats.

    Examples
    --------
    >>> units = torch.eye(3, dtype=torch.float64)
    >>> far = smoothed_loss(torch.zeros(1, 3), torch.tensor([0]), units, tau_km=10.0)
    >>> round(far.item(), 4)  # the others are 10,000 km away: log 3
    1.0986
    """
    # Of near classes the difference keeps the digits that the product of the vectors loses.
    chord = torch.cdist(units[targets], units, compute_mode="donot_use_mm_for_euclid_dist")
    km = 2.0 * EARTH_RADIUS_KM * torch.asin((chord / 2.0).clamp(max=1.0))
    wanted = torch.softmax(-km / tau_km, dim=1).to(torch.float32)
    return -(wanted * log_softmax(logits.float(), dim=1)).sum(dim=1)


class HeadsModel(SupervisedModel):
    """A network with class heads, as the core's loop trains it.

    Parameters
    ----------
    network : nn.Module
        Rows of features (b, width) to a dict of the heads' logits (b, classes).
    heads : sequence of ClassHead
        What the logits mean; the last one's answers count as right or wrong.
    answer : callable
        Logits to places, (b, 2).
    smooth_km : float
        If above 0, heads with means have smoothed targets.
    """

    def __init__(
        self, network: nn.Module, heads: Sequence[ClassHead], answer: Answer, smooth_km: float
    ) -> None:
        super().__init__([head.weight for head in heads])
        self.network = network
        self.heads, self.answer, self.smooth_km = list(heads), answer, smooth_km
        self._targets = np.column_stack([head.targets for head in heads]).astype(np.int64)
        for number, head in enumerate(heads):
            if head.means is not None and smooth_km:
                units = torch.from_numpy(to_unit_vectors(head.means))
                self.register_buffer(f"units_{number}", units, persistent=False)

    def has_terms(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which heads rows have a class in, (b, H)."""
        known: NDArray[np.bool_] = self._targets[rows] >= 0
        return known

    def terms(self, views: Tensor, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of each view in each head, and whether the last is right."""
        targets = torch.from_numpy(self._targets[rows]).to(views.device).clamp(min=0)
        logits = self.network(views)
        losses = []
        for number, head in enumerate(self.heads):
            own, wanted = logits[head.name], targets[:, number]
            units = getattr(self, f"units_{number}", None)
            losses.append(
                cross_entropy(own.float(), wanted, reduction="none")
                if units is None
                else smoothed_loss(own, wanted, units, self.smooth_km)
            )
        right = logits[self.heads[-1].name].argmax(dim=1) == targets[:, -1]
        return torch.stack(losses, dim=1), right

    def places(self, views: Tensor) -> NDArray[np.float64]:
        """Answer pictures by the mean logits of their views."""
        logits = self.network(views.flatten(0, 1))
        shape = views.shape[:2]
        return self.answer(
            {name: rows.unflatten(0, shape).mean(dim=1) for name, rows in logits.items()}
        )


class HeadsTask(SupervisedTask):
    """Train the class heads of a system.

    Parameters
    ----------
    network : callable
        Builds the network; weights are drawn under the run's seed.
    heads : sequence of ClassHead
        What it learns.
    answer : callable
        Logits of the heads to places, for held-out pictures.
    facts : mapping
        What makes the system what it is, fit for JSON.
    smooth_km : float
        Of smoothed targets; 0 smooths none.
    """

    def __init__(
        self,
        network: Callable[[], nn.Module],
        heads: Sequence[ClassHead],
        answer: Answer,
        facts: Mapping[str, Any],
        smooth_km: float = 0.0,
    ) -> None:
        self.network, self.heads, self.answer = network, heads, answer
        self._facts, self.smooth_km = dict(facts), smooth_km

    def facts(self) -> dict[str, Any]:
        """Return the system's own, and what the heads and the smoothing are."""
        heads = [[head.name, head.classes, head.weight] for head in self.heads]
        return {**self._facts, "heads": heads, "smooth_km": self.smooth_km}

    def build_model(
        self,
        settings: TrainingSettings,
        data: PictureData | FeatureData,
        device: torch.device,
    ) -> HeadsModel:
        """Build the network with new weights, whatever torch's generator is at."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = self.network()
        return HeadsModel(network, self.heads, self.answer, self.smooth_km).to(device)
