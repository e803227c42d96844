"""PlaNet: one softmax over adaptive cells."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoembed_systems.cells.adaptive import Limits, Partition, adaptive_partition
from geoembed_systems.learning.estimator import LearningSystem, check_cells
from geoembed_systems.learning.heads_network import HeadsNetwork, check_hidden, column_statistics
from geoembed_systems.learning.task import ClassHead
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.shared.pooling import pool_views

__all__ = ["PlaNet"]

Floats = NDArray[np.float64]

_HEAD = "cell"


class PlaNet(LearningSystem):
    """Tell which cell of an adaptive partition a picture was taken in.

    PlaNet of Weyand, Kostrikov and Philbin (2016): S2 cells with more than `t_max` pictures are
    cut into four, those with fewer than `t_min` are dropped; a classifier learns the cells by
    cross-entropy, and answers with the mean place of the likeliest cell's pictures. Theirs is an
    Inception network that learns as a whole; here the tower is frozen and a linear classifier
    learns on its features, which are shifted and scaled by column first. That and `hidden` are
    ours.

    Parameters
    ----------
    t_max, t_min : int or "auto"
        Most and fewest pictures in a cell, see `auto_limits`. The paper has
        10,000 and 50, and 26,263 cells of 91 million pictures.
    partition : Partition, optional
        Cells that are there already, made of such places; `t_max` and `t_min` do not matter then.
    hidden : int
        Units of a hidden layer before the classifier; 0 for none.
    epochs, batch_size, learning_rate, weight_decay, smooth_km, precision
        As `LearningSystem`.
    run_folder, resume, training
        As `LearningSystem`.
    image_encoder, weights, allow_download, crops, crop_pooling, device, random_state, progress
        As `System`.

    Attributes
    ----------
    partition_ : Partition
        The cells.
    network_ : HeadsNetwork
        With one classifier, ``"cell"``.

    Notes
    -----
    Pictures in dropped cells teach nothing, as in the paper. Scenes are not used: `fit` takes them,
    as it does for all systems, and leaves them alone.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> towns = np.array([[10.0, 50.0], [100.0, 15.0], [-70.0, -30.0]])
    >>> of = np.arange(90) % 3
    >>> features = np.eye(3)[of] + rng.normal(scale=0.1, size=(90, 3))
    >>> system = PlaNet(t_max=40, t_min=5, batch_size=30, learning_rate=0.1, device="cpu")
    >>> system.fit(features, towns[of]).predict(np.eye(3)).round(6).tolist()
    [[10.0, 50.0], [100.0, 15.0], [-70.0, -30.0]]
    """

    title: ClassVar[str] = "PlaNet"

    def __init__(
        self,
        *,
        t_max: Limits = "auto",
        t_min: Limits = "auto",
        partition: Partition | None = None,
        hidden: int = 0,
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
        self.t_max = t_max
        self.t_min = t_min
        self.partition = partition
        self.hidden = hidden
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
        given = self.partition
        partition = (
            adaptive_partition(lonlat, t_max=self.t_max, t_min=self.t_min)
            if given is None
            else given
        )
        targets = partition.locate(lonlat)
        if given is not None:
            check_cells(targets >= 0, "partition")
        self.partition_ = partition
        self._learn(
            "planet",
            features,
            lonlat,
            [ClassHead(_HEAD, targets, len(partition), means=partition.means)],
            answer=lambda logits: self._means(logits[_HEAD].argmax(dim=1).cpu().numpy()),
            facts={"partition": partition.digest, "hidden": self.hidden},
            network=lambda: self._network(column_statistics(features)),
        )

    def _build(self) -> nn.Module:
        return self._network()

    def _network(self, statistics: tuple[Any, Any] | None = None) -> HeadsNetwork:
        groups = [{_HEAD: len(self.partition_)}]
        return HeadsNetwork(self.layout_, groups, hidden=self.hidden, statistics=statistics)

    @torch.inference_mode()
    def _logits(self, features: PictureFeatures) -> Tensor:
        """Return logits of every view, (n, V, cells)."""
        network, rows = self._ready(features)
        logits: Tensor = network(rows)[_HEAD]
        return logits.reshape(len(features), features.views, -1)

    def _log_scores(self, features: PictureFeatures) -> NDArray[np.float32]:
        log_p = torch.log_softmax(self._logits(features), dim=2).cpu().numpy()
        return pool_views(log_p, self.crop_pooling)

    def _predict(self, features: PictureFeatures) -> Floats:
        if features.views > 1:
            return super()._predict(features)
        # The largest logit is the likeliest cell: no softmax is needed.
        return self._means(self._logits(features)[:, 0].argmax(dim=1).cpu().numpy())

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._network_state(), {}

    def _restore(self, tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self._restore_network(tensors)
