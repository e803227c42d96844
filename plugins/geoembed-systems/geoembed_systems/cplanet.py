"""CPlaNet: several coarse classifications whose intersections are fine."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoembed.devices import resolve_device
from geoembed.errors import OptionError
from geoembed_systems.base import System
from geoembed_systems.cells import Limits
from geoembed_systems.features import PictureFeatures
from geoembed_systems.merging import Combination, combine_partitions
from geoembed_systems.pooling import log_normalised, pool_views
from geoembed_systems.task import ClassHead
from geoembed_systems.training import TrainingOptions, train_heads

__all__ = ["COMBINING", "CPlaNet", "CPlaNetNetwork"]

Floats = NDArray[np.float64]

COMBINING: Final = ("sum", "product")

# Values of a channel that vary less than this, relative to their size, say nothing.
_CONSTANT: Final = 1e-6


class CPlaNetNetwork(nn.Module):
    """Pooled features, standardised, to the logits of several partitions.

    Parameters
    ----------
    length : int
        Of a feature.
    sizes : sequence of int
        Classes of each partition.
    hidden : int
        Units of a layer that all heads share; 0: there is none, and the heads are linear.
    moments : tuple of two arrays of shape (length,), optional
        Mean and standard deviation of each channel; part of the network's state.

    Examples
    --------
    >>> network = CPlaNetNetwork(4, [3, 5], hidden=0)
    >>> {name: tuple(rows.shape) for name, rows in network(torch.zeros(2, 4)).items()}
    {'partition-0': (2, 3), 'partition-1': (2, 5)}
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        length: int,
        sizes: Sequence[int],
        *,
        hidden: int,
        moments: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    ) -> None:
        super().__init__()
        centre, scale = moments or (np.zeros(length), np.ones(length))
        self.register_buffer("centre", torch.tensor(centre, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.shared = (
            nn.Sequential(nn.Linear(length, hidden), nn.ReLU()) if hidden else nn.Identity()
        )
        self.heads = nn.ModuleList(nn.Linear(hidden or length, size) for size in sizes)

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the logits of each partition, from rows of shape (b, length)."""
        seen = self.shared((rows - self.centre) / self.scale)
        return {_name(number): head(seen) for number, head in enumerate(self.heads)}


class CPlaNet(System):
    """Classify pictures into several coarse partitions at once, and answer where they intersect.

    Theirs (Seo, Weyand, Sim and Han, ECCV 2018): coarse partitions of the same S2 cells, each
    merged from neighbouring cells by another mix of geographic and visual distance, so that each
    class has many pictures; a classifier for each, their losses summed; the score of a fine class
    is the sum, over the partitions, of the score of the class that contains it; the answer is the
    mean place of the fine class with the highest score.

    Ours, as the paper's code is not public: which cells are merged, what is near and what is kept
    apart (`geoembed_systems.merging.combine_partitions`); scores are probabilities, or with
    ``combine="product"`` their logarithms; fine classes are the non-empty intersections, nearly
    always single cells, and cells that no partition tells apart are one class. The probability of
    a fine class is its share of all scores: these are spread more widely than PlaNet's, since each
    partition speaks for all the cells of a class; `calibrate` measures what they are worth.

    Parameters
    ----------
    partitions : int
        How many, at least 2. The paper takes 5.
    classes : int or "auto"
        Of each partition; ``"auto"``: a quarter of the cells.
    visual : sequence of float, optional
        For each partition, the share of the visual distance in [0, 1]; from 0 to 1 in equal steps
        if not given.
    jitter : float
        Spread of the random sizes that make partitions differ the more.
    combine : {"sum", "product"}
        Whether probabilities are added (theirs) or multiplied, as if partitions were independent.
    hidden : int
        Units of a layer that the classifiers share; 0: they are linear.
    t_max, t_min : int or "auto"
        Most places in a cell, and fewest in one that is kept, before cells are merged. Together
        with ``"auto"`` of the other one as `geoembed_systems.cells.auto_limits` says.
    epochs, batch_size, learning_rate, weight_decay, smooth_km, precision, run_folder, resume
        As `geoembed_systems.training.TrainingOptions` takes them; `smooth_km` smooths the targets
        of all partitions, by the means of their classes.
    training : mapping, optional
        Settings of the core's loop, such as ``{"optimiser.schedule": "constant"}``.
    image_encoder, weights, allow_download, crops, crop_pooling, device, random_state, progress
        As `geoembed_systems.base.System` takes them. Of features with several views, the means
        tell how alike places look.

    Attributes
    ----------
    combination_ : Combination
        The partitions; ``partition_`` is its fine one, whose classes may have several cells.
    notes_ : tuple of str
        How many classes and cells there are.
    network_ : CPlaNetNetwork
        On the CPU, between answers.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> towns = np.array([[2.35, 48.86], [-58.4, -34.6], [139.7, 35.7], [18.4, -33.9]])
    >>> town = rng.integers(0, 4, 400)
    >>> places = towns[town] + rng.normal(0, 0.1, (400, 2))
    >>> features = np.eye(4)[town] + rng.normal(0, 0.1, (400, 4))
    >>> system = CPlaNet(partitions=3, classes=2, t_max=120, t_min=5, jitter=1.0)
    >>> system = system.set_params(learning_rate=0.05, progress=False)
    >>> system.fit(features, places).notes_
    ('3 partitions of 2, 2 and 2 classes, which make 4 of 4 cells',)
    >>> system.predict(features[:1]).round() == towns[town[:1]].round()
    array([[ True,  True]])
    """

    title: ClassVar[str] = "CPlaNet"

    def __init__(
        self,
        *,
        partitions: int = 5,
        classes: int | str = "auto",
        visual: Sequence[float] | None = None,
        jitter: float = 0.25,
        combine: str = "sum",
        hidden: int = 0,
        t_max: Limits = "auto",
        t_min: Limits = "auto",
        epochs: float = 30.0,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        smooth_km: float = 0.0,
        precision: str = "float32",
        run_folder: str | Path | None = None,
        resume: bool = False,
        training: Mapping[str, Any] | None = None,
        image_encoder: Any = "geoclip.v1",
        weights: str | Path | None = None,
        allow_download: bool = False,
        crops: str = "none",
        crop_pooling: str = "mean",
        device: str = "auto",
        random_state: int = 0,
        progress: bool | None = None,
    ) -> None:
        self.partitions = partitions
        self.classes = classes
        self.visual = visual
        self.jitter = jitter
        self.combine = combine
        self.hidden = hidden
        self.t_max = t_max
        self.t_min = t_min
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.smooth_km = smooth_km
        self.precision = precision
        self.run_folder = run_folder
        self.resume = resume
        self.training = training
        self.image_encoder = image_encoder
        self.weights = weights
        self.allow_download = allow_download
        self.crops = crops
        self.crop_pooling = crop_pooling
        self.device = device
        self.random_state = random_state
        self.progress = progress

    def _fit(self, features: PictureFeatures, lonlat: Floats, scenes: Any) -> None:
        self._check_options()
        combination = combine_partitions(
            lonlat,
            features.pooled.mean(axis=1),
            partitions=self.partitions,
            classes=self.classes,
            visual=self.visual,
            jitter=self.jitter,
            t_max=self.t_max,
            t_min=self.t_min,
            seed=self.random_state,
        )
        targets = combination.locate(lonlat)
        heads = [
            ClassHead(_name(number), targets[:, number], size, means=combination.means(number))
            for number, size in enumerate(combination.sizes)
        ]
        means = combination.fine.means

        def answer(logits: dict[str, Tensor]) -> Floats:
            given = [logits[_name(number)].float().cpu().numpy() for number in range(len(heads))]
            found: Floats = means[_log_scores(combination, given, self.combine).argmax(axis=1)]
            return found

        length = features.layout.pooled
        network, _ = train_heads(
            "cplanet",
            partial(
                CPlaNetNetwork,
                length,
                combination.sizes,
                hidden=self.hidden,
                moments=_moments(features.pooled),
            ),
            features,
            lonlat,
            heads,
            answer=answer,
            facts={
                "combination": combination.digest,
                "hidden": self.hidden,
                "combine": self.combine,
            },
            options=self._options(),
        )
        assert isinstance(network, CPlaNetNetwork)
        self.network_, self.combination_ = network, combination
        self.partition_, self.notes_ = combination.fine, (_describe(combination),)

    def _log_scores(self, features: PictureFeatures) -> NDArray[np.float32]:
        device = resolve_device(self.device)
        network = self.network_.to(device).eval()
        with torch.inference_mode():
            rows = torch.from_numpy(features.pooled).to(device).flatten(0, 1)
            logits = [each.float().cpu().numpy() for each in network(rows).values()]
        found = _log_scores(self.combination_, logits, self.combine)
        return pool_views(found.reshape(len(features), features.views, -1), self.crop_pooling)

    def _read(self, given: Any, *, crops: str) -> PictureFeatures:
        read = super()._read(given, crops=crops)
        # Tokens and segments mean nothing to it.
        return PictureFeatures(read.pooled, errors=read.errors, names=read.names)

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        arrays, combination = self.combination_.to_state()
        tensors: dict[str, Any] = {f"cells.{name}": array for name, array in arrays.items()}
        weights = self.network_.state_dict()
        tensors |= {f"network.{name}": tensor for name, tensor in weights.items()}
        return tensors, {"combination": combination, "hidden": self.hidden}

    def _restore(self, tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        parts: dict[str, dict[str, Any]] = {"cells": {}, "network": {}}
        for name, values in tensors.items():
            part, _, own = name.partition(".")
            parts[part][own] = values
        combination = Combination.from_state(parts["cells"], config["combination"])
        combination.fine.check(self.partition_.digest)
        weights = {name: torch.tensor(values) for name, values in parts["network"].items()}
        network = CPlaNetNetwork(
            len(weights["centre"]), combination.sizes, hidden=int(config["hidden"])
        )
        network.load_state_dict(weights)
        self.network_, self.combination_ = network.eval(), combination
        self.notes_ = (_describe(combination),)

    def _check_options(self) -> None:
        if self.combine not in COMBINING:
            raise OptionError(
                f"combine={self.combine!r} is not offered: choose one of "
                f"{', '.join(map(repr, COMBINING))}."
            )
        whole = isinstance(self.hidden, int | np.integer) and not isinstance(self.hidden, bool)
        if not whole or self.hidden < 0:
            raise OptionError(f"hidden={self.hidden!r}: give a number of units, or 0 for none.")

    def _options(self) -> TrainingOptions:
        overrides = dict(self.training or {})
        return TrainingOptions(
            epochs=self.epochs,
            batch=self.batch_size,
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            smooth_km=self.smooth_km,
            validation=overrides.get("data.validation", 0.0),
            seed=self.random_state,
            device=self.device,
            precision=self.precision,
            folder=self.run_folder,
            resume=self.resume,
            progress=self.progress,
            overrides=overrides,
        )


def _name(number: int) -> str:
    return f"partition-{number}"


def _log_scores(
    combination: Combination, logits: Sequence[NDArray[np.float32]], combine: str
) -> NDArray[np.float32]:
    """Return log-probabilities of the fine classes from the logits of each partition."""
    log_p = [log_normalised(each) for each in logits]
    if combine == "product":
        return log_normalised(combination.scores(log_p).astype(np.float32, copy=False))
    summed = combination.scores([np.exp(each) for each in log_p])
    # Ten thousand terms: in float64.
    summed /= summed.sum(axis=1, keepdims=True, dtype=np.float64)
    with np.errstate(divide="ignore"):  # What no partition thinks possible is not.
        found: NDArray[np.float32] = np.log(summed, out=summed)
    return found


def _moments(pooled: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation of each channel, (n, V, d) -> (d,) each."""
    rows = pooled.reshape(-1, pooled.shape[-1])
    centre = rows.mean(axis=0, dtype=np.float64)
    scale = rows.std(axis=0, dtype=np.float64)
    # A channel that never changes stays as it is.
    scale[scale < _CONSTANT * np.maximum(np.abs(centre), 1.0)] = 1.0
    return centre.astype(np.float32), scale.astype(np.float32)


def _describe(combination: Combination) -> str:
    *most, last = (f"{size:,}" for size in combination.sizes)
    return (
        f"{len(combination)} partitions of {', '.join(most)} and {last} classes, which make "
        f"{len(combination.fine):,} of {len(combination.base):,} cells"
    )
