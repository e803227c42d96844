"""CPlaNet: several coarse classifications whose intersections are fine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoembed.errors import OptionError
from geoembed_systems.cells.adaptive import Limits
from geoembed_systems.cells.merging import Combination, combine_partitions
from geoembed_systems.learning.estimator import LearningSystem
from geoembed_systems.learning.heads_network import HeadsNetwork, check_hidden, column_statistics
from geoembed_systems.learning.task import ClassHead
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.shared.naming import named, under
from geoembed_systems.shared.pooling import log_normalised, pool_views

__all__ = ["COMBINING", "CPlaNet"]

Floats = NDArray[np.float64]

COMBINING: Final = ("sum", "product")


class CPlaNet(LearningSystem):
    """Classify pictures into several coarse partitions at once, and answer where they intersect.

    Theirs (Seo, Weyand, Sim and Han, ECCV 2018): coarse partitions of the same S2 cells, each
    merged from neighbouring cells by another mix of geographic and visual distance, so that each
    class has many pictures; a classifier for each, their losses summed; the score of a fine class
    is the sum, over the partitions, of the score of the class that contains it; the answer is the
    mean place of the fine class with the highest score.

    Ours, as the paper's code is not public: which cells are merged, what is near and what is kept
    apart (`geoembed_systems.cells.merging.combine_partitions`); scores are probabilities, or with
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
        with ``"auto"`` of the other one as `auto_limits` says.
    epochs, batch_size, learning_rate, weight_decay, smooth_km, precision
        As `LearningSystem`; `smooth_km` smooths the targets of all
        partitions, by the means of their classes.
    run_folder, resume, training
        As `LearningSystem`.
    image_encoder, weights, allow_download, crops, crop_pooling, device, random_state, progress
        As `System`. Of features with several views, the means tell how alike
        places look.

    Attributes
    ----------
    combination_ : Combination
        The partitions; ``partition_`` is its fine one, whose classes may have several cells.
    notes_ : tuple of str
        How many classes and cells there are.
    network_ : HeadsNetwork
        With one classifier a partition, ``"partition-0"`` and so on.

    Notes
    -----
    Scenes are not used: `fit` takes them, as it does for all systems, and leaves them alone.

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
        check_hidden(self.hidden)
        if self.combine not in COMBINING:
            raise OptionError(
                f"combine={self.combine!r} is not offered: choose one of "
                f"{', '.join(map(repr, COMBINING))}."
            )
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

        self.combination_, self.partition_ = combination, combination.fine
        self._learn(
            "cplanet",
            features,
            lonlat,
            heads,
            answer=answer,
            facts={
                "combination": combination.digest,
                "hidden": self.hidden,
                "combine": self.combine,
            },
            network=lambda: self._network(column_statistics(features)),
        )
        self.notes_ = (_describe(combination),)

    def _build(self) -> nn.Module:
        return self._network()

    def _network(self, statistics: tuple[Any, Any] | None = None) -> HeadsNetwork:
        group = {_name(number): size for number, size in enumerate(self.combination_.sizes)}
        return HeadsNetwork(self.layout_, [group], hidden=self.hidden, statistics=statistics)

    @torch.inference_mode()
    def _log_scores(self, features: PictureFeatures) -> NDArray[np.float32]:
        network, rows = self._ready(features)
        logits = [each.float().cpu().numpy() for each in network(rows).values()]
        found = _log_scores(self.combination_, logits, self.combine)
        return pool_views(found.reshape(len(features), features.views, -1), self.crop_pooling)

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        arrays, config = self.combination_.to_state()
        return named("cells.", arrays) | self._network_state(), {"combination": config}

    def _restore(self, tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        cells = under("cells.", tensors)
        self.combination_ = Combination.from_state(cells, config["combination"])
        self.combination_.fine.check(self.partition_.digest)
        self._restore_network(tensors)
        self.notes_ = (_describe(self.combination_),)


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


def _describe(combination: Combination) -> str:
    *most, last = (f"{size:,}" for size in combination.sizes)
    return (
        f"{len(combination)} partitions of {', '.join(most)} and {last} classes, which make "
        f"{len(combination.fine):,} of {len(combination.base):,} cells"
    )
