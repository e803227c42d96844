"""ISNs: nested partitions whose probabilities multiply, and an expert for every scene."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear

from geoembed.errors import OptionError
from geoembed_systems.cells.adaptive import Limits
from geoembed_systems.cells.nesting import Hierarchy
from geoembed_systems.learning.estimator import LearningSystem, nested_cells
from geoembed_systems.learning.heads_network import HeadsNetwork, check_hidden, column_statistics
from geoembed_systems.learning.product import hierarchical_logits
from geoembed_systems.learning.task import ClassHead
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.pictures.scenes import Scenes, scenes_to_learn
from geoembed_systems.shared.naming import named, under
from geoembed_systems.shared.pooling import pool_views

__all__ = ["ISNs"]

Floats = NDArray[np.float64]

_SCENE: Final = "scene"
_ROUTINGS: Final = ("argmax", "mixed")


class ISNs(LearningSystem):
    """Multiply what partitions of several sizes say, for each kind of scene by an expert.

    Individual scene networks of Mueller-Budack, Pustu-Iren and Ewerth (2018), f*: classifiers of
    three nested partitions learn together, their losses are added, and the probability of a fine
    cell is the product of its own and those of the coarser cells that it lies in. One expert
    learns the pictures of each scene; a picture is asked of the expert of its own.

    Theirs are ResNets that learn as a whole, and a network trained on Places365 tells the scenes.
    Here the tower is frozen, experts are linear classifiers on its features, shifted and scaled by
    column, and the scenes are told by one more classifier that learns the labels given to `fit`.
    All of them are one network and one run: each loss is the mean over the pictures of its scene,
    so that no expert sees the gradients of another. That, `hidden` and ``scene_routing="mixed"``
    are ours.

    Parameters
    ----------
    t_max : sequence of int, int or "auto"
        Most pictures in a cell of the coarse, the middle and the fine partition; a single one is
        that of the fine. See `nested_partitions`. The paper has 5,000,
        2,000 and 1,000.
    t_min : int or "auto"
        Fewest pictures in a cell that is kept; 50 in the paper.
    hierarchy : Hierarchy, optional
        Partitions that are there already, made of such places; `t_max` and `t_min` do not matter
        then.
    scene_routing : {"argmax", "mixed"}
        Ask the expert of the likeliest scene, or all of them, weighted by how likely their scenes
        are.
    hidden : int
        Units of a hidden layer of every expert before its classifiers; 0 for none.
    epochs, batch_size, learning_rate, weight_decay, smooth_km, precision
        As `LearningSystem`.
    run_folder, resume, training
        As `LearningSystem`.
    image_encoder, weights, allow_download, crops, crop_pooling, device, random_state, progress
        As `System`.

    Attributes
    ----------
    hierarchy_ : Hierarchy
        The partitions, coarse to fine.
    partition_ : Partition
        The finest of them.
    scenes_ : Scenes or None
        Those learned; None without two different scenes: one expert answers all.
    notes_ : tuple of str
        What was decided while fitting: how many experts there are, and why.
    network_ : HeadsNetwork
        A group of classifiers an expert; with scenes, the last group tells them.

    Notes
    -----
    A picture whose scene is not known teaches all experts. Without `scenes`, `fit` trains one
    expert: the paper's base model M(f*).

    Where scenes are given to `predict` and its like, they choose the expert themselves.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> towns = np.array([[10.0, 50.0], [12.0, 50.0], [-70.0, -30.0]])
    >>> of = np.arange(90) % 3
    >>> features = np.eye(3)[of] + rng.normal(scale=0.1, size=(90, 3))
    >>> system = ISNs(t_max=(70, 50, 40), t_min=5, batch_size=30, learning_rate=0.1, device="cpu")
    >>> system.fit(features, towns[of]).predict(np.eye(3)).round(6).tolist()
    [[10.0, 50.0], [12.0, 50.0], [-70.0, -30.0]]
    """

    title: ClassVar[str] = "ISNs"
    uses_scenes: ClassVar[bool] = True

    hierarchy_: Hierarchy
    scenes_: Scenes | None
    notes_: tuple[str, ...]

    def __init__(
        self,
        *,
        t_max: Limits | Sequence[int] = "auto",
        t_min: Limits = "auto",
        hierarchy: Hierarchy | None = None,
        scene_routing: str = "argmax",
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
        self.hierarchy = hierarchy
        self.scene_routing = scene_routing
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
        self._check_routing()
        hierarchy = nested_cells(self.hierarchy, lonlat, t_max=self.t_max, t_min=self.t_min)
        classes = hierarchy.locate(lonlat)
        self.scenes_, told = scenes_to_learn(scenes)
        experts = f"{len(self.scenes_)} experts, one a scene" if self.scenes_ else "one expert"
        self.notes_ = (experts, *told)
        self.hierarchy_, self.partition_ = hierarchy, hierarchy.finest
        codes = None if self.scenes_ is None else self.scenes_.encode(scenes)
        self._learn(
            "isns",
            features,
            lonlat,
            self._class_heads(classes, codes),
            answer=self._answer,
            facts={
                "hierarchy": hierarchy.digest,
                "hidden": self.hidden,
                "scenes": [] if self.scenes_ is None else list(self.scenes_.names),
            },
            network=lambda: self._network(column_statistics(features)),
        )

    def _class_heads(
        self, classes: NDArray[np.int64], codes: NDArray[np.int64] | None
    ) -> list[ClassHead]:
        """Return the scenes' classifier, and each expert's three; the last counts in the log."""
        heads = []
        if codes is not None and self.scenes_ is not None:
            heads.append(ClassHead(_SCENE, codes, len(self.scenes_)))
        for expert in range(self._experts):
            seen = np.ones(len(classes), bool) if codes is None else np.isin(codes, (expert, -1))
            for level, partition in enumerate(self.hierarchy_.partitions):
                targets = np.where(seen, classes[:, level], -1)
                name = _name(expert, level)
                heads.append(ClassHead(name, targets, len(partition), means=partition.means))
        return heads

    @property
    def _experts(self) -> int:
        return 1 if self.scenes_ is None else len(self.scenes_)

    def _build(self) -> nn.Module:
        return self._network()

    def _network(self, statistics: tuple[Any, Any] | None = None) -> HeadsNetwork:
        sizes = [len(partition) for partition in self.hierarchy_.partitions]
        groups = [
            {_name(expert, level): size for level, size in enumerate(sizes)}
            for expert in range(self._experts)
        ]
        if self.scenes_ is not None:
            groups.append({_SCENE: len(self.scenes_)})
        return HeadsNetwork(self.layout_, groups, hidden=self.hidden, statistics=statistics)

    def _answer(self, logits: dict[str, Tensor]) -> Floats:
        """Answer held-out pictures while learning: by the expert of the likeliest scene."""
        experts = torch.stack([self._product(logits, each) for each in range(self._experts)])
        scene = logits[_SCENE].argmax(dim=1) if _SCENE in logits else experts.new_zeros(1).long()
        chosen = experts[scene, torch.arange(experts.shape[1], device=experts.device)]
        return self._means(chosen.argmax(dim=1).cpu().numpy())

    def _product(self, logits: Mapping[str, Tensor], expert: int) -> Tensor:
        levels = [logits[_name(expert, level)] for level in range(len(self.hierarchy_))]
        return hierarchical_logits(levels, self.hierarchy_.parents)

    @torch.inference_mode()
    def _expert_logits(self, features: PictureFeatures, codes: NDArray[np.int64]) -> Tensor:
        """Return logits of fine cells by the expert of each picture, (n, V, cells)."""
        network, rows = self._ready(features)
        views: Tensor = network.standardised(rows).reshape(len(features), features.views, -1)
        found = views.new_empty((len(features), features.views, len(self.partition_)))
        for expert in np.unique(codes):
            own = torch.from_numpy(np.flatnonzero(codes == expert)).to(views.device)
            inner = network.trunks[int(expert)](views[own].flatten(0, 1))
            logits = linear(inner, *self._joined(network, int(expert)))
            found[own] = logits.reshape(len(own), features.views, -1)
        return found

    def _joined(self, network: Any, expert: int) -> tuple[Tensor, Tensor]:
        """Return weight and bias of one classifier whose logits are those of the product.

        Linear classifiers of one input may be added before they are applied: a fine cell's and
        those of the cells that it lies in. Kept, for all blocks of pictures ask for it.
        """
        kept: dict[int, tuple[Tensor, Tensor]] = self.__dict__.setdefault("_kept_joined", {})
        device = network.mean.device
        if expert not in kept or kept[expert][0].device != device:
            layers = [(head.weight.T, head.bias[None]) for head in network.heads[expert]]
            weight, bias = (
                hierarchical_logits(each, self.hierarchy_.parents)
                for each in zip(*layers, strict=True)
            )
            kept[expert] = weight.T.contiguous(), bias[0]
        return kept[expert]

    @torch.inference_mode()
    def scene_probabilities(self, images_or_features: Any) -> NDArray[np.float32]:
        """Return how likely each scene is.

        Parameters
        ----------
        images_or_features : pictures, array of shape (n, d) or (n, V, d), or PictureFeatures
            As `predict` takes them.

        Returns
        -------
        array of shape (n, scenes), float32
            As the names of ``scenes_``; the mean over the views of a picture. NaN where a picture
            has no features.

        Raises
        ------
        OptionError
            If no scenes were learned.
        """
        features, _ = self._asked(images_or_features)
        self._queries(features).tell()
        if self.scenes_ is None:
            raise OptionError("No scenes were learned: give fit() scenes= to tell them apart.")
        found = np.full((len(features), len(self.scenes_)), np.nan, dtype=np.float32)
        for rows, some, _ in self._blocks(features):
            found[rows] = self._scene_shares(some)
        return found

    @torch.inference_mode()
    def _scene_shares(self, features: PictureFeatures) -> NDArray[np.float32]:
        network, rows = self._ready(features)
        logits = network.group(self._experts, network.standardised(rows))[_SCENE]
        shares = torch.softmax(logits, dim=1).reshape(len(features), features.views, -1)
        return np.asarray(shares.mean(dim=1).cpu().numpy())

    def _codes(self, features: PictureFeatures, scenes: Any) -> NDArray[np.int64]:
        """Return the expert of each picture: of its known scene, else of the likeliest."""
        if self.scenes_ is None:
            if scenes is not None:
                raise OptionError(
                    "scenes= was given, and this system has learned from pictures without scenes: "
                    "leave it out, or fit again with scenes."
                )
            return np.zeros(len(features), dtype=np.int64)
        codes = np.full(len(features), -1) if scenes is None else self.scenes_.encode(scenes)
        if (codes < 0).any():
            codes = np.where(codes < 0, self._scene_shares(features).argmax(axis=1), codes)
        return codes

    def _log_scores(self, features: PictureFeatures) -> NDArray[np.float32]:
        return self._routed(features, None)

    def _routed(self, features: PictureFeatures, scenes: Any) -> NDArray[np.float32]:
        self._check_routing()
        if self.scene_routing == "argmax" or self.scenes_ is None:
            return self._by_expert(features, self._codes(features, scenes))
        shares = self._scene_shares(features)
        if scenes is not None:
            known = self.scenes_.encode(scenes)
            shares[known >= 0] = np.eye(self._experts, dtype=np.float32)[known[known >= 0]]
        mixed = np.zeros((len(features), len(self.partition_)), dtype=np.float32)
        for expert in range(self._experts):
            codes = np.full(len(features), expert)
            mixed += shares[:, [expert]] * np.exp(self._by_expert(features, codes))
        with np.errstate(divide="ignore"):
            return np.log(mixed)

    def _by_expert(
        self, features: PictureFeatures, codes: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        log_p = torch.log_softmax(self._expert_logits(features, codes), dim=2).cpu().numpy()
        return pool_views(log_p, self.crop_pooling)

    def _predict(self, features: PictureFeatures) -> Floats:
        self._check_routing()
        mixed = self.scene_routing == "mixed" and self.scenes_ is not None
        if mixed or features.views > 1:
            return super()._predict(features)
        # The largest sum of logits is the likeliest cell: no softmax is needed.
        logits = self._expert_logits(features, self._codes(features, None))
        return self._means(logits[:, 0].argmax(dim=1).cpu().numpy())

    def _check_routing(self) -> None:
        if self.scene_routing not in _ROUTINGS:
            raise OptionError(
                f"scene_routing={self.scene_routing!r} is not offered: choose 'argmax' or 'mixed'."
            )

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        arrays, config = self.hierarchy_.to_state()
        tensors = self._network_state() | named("hierarchy.", arrays)
        names = None if self.scenes_ is None else list(self.scenes_.names)
        return tensors, {"hierarchy": config, "scenes": names, "notes": list(self.notes_)}

    def _restore(self, tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        arrays = under("hierarchy.", tensors)
        self.hierarchy_ = Hierarchy.from_state(arrays, config["hierarchy"])
        names, self.notes_ = config["scenes"], tuple(config["notes"])
        self.scenes_ = None if names is None else Scenes(tuple(names))
        self._restore_network(tensors)


def _name(expert: int, level: int) -> str:
    return f"{expert}.{level}"
