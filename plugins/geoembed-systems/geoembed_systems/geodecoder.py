"""GeoDecoder: queries of scenes and hierarchies look at the patches of a picture."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoembed.devices import resolve_device
from geoembed.errors import OptionError
from geoembed.scalars import check_count
from geoembed_systems.cells.adaptive import Limits
from geoembed_systems.cells.nesting import Hierarchy
from geoembed_systems.learning.estimator import LearningSystem, nested_cells
from geoembed_systems.learning.product import hierarchical_logits
from geoembed_systems.networks.geodecoder_learning import (
    SCENE,
    answer_of,
    class_heads,
    decoded,
    level_names,
    moments_of,
    width_of,
    with_scenes,
)
from geoembed_systems.networks.geodecoder_network import GeoDecoderNetwork, Moments
from geoembed_systems.pictures.features import Layout, PictureFeatures
from geoembed_systems.pictures.scenes import Scenes, cluster_scenes, scenes_to_learn
from geoembed_systems.shared.naming import named, under
from geoembed_systems.shared.pooling import pool_views

__all__ = ["GeoDecoder"]

Floats = NDArray[np.float64]

_TOKENS: Final = ("patches", "pooled", "both")
# Where there are no patch tokens.
_INSTEAD: Final = "GeoDecoder(tokens='pooled') does without."


class GeoDecoder(LearningSystem):
    """GeoDecoder (Clark et al., CVPR 2023): a decoder with a query a scene and hierarchy.

    Learned queries, one for each pair of a scene and a partition, look at the patches of a
    picture, at each other, and think, layer after layer. From what they have become the scene is
    told; the queries of that scene then tell the cell of each partition.

    Parameters
    ----------
    t_max, t_min : int, sequence of int or "auto"
        Limits of the nested partitions, as of `nested_partitions`.
    hierarchy : Hierarchy, optional
        Partitions to learn instead of those of the training places.
    scenes : int
        How many scenes to make up where `fit` is given none: clusters of the pooled features
        (ours). 1 does without scenes. Where `fit` is given two different scenes or more, there are
        as many as those.
    tokens : {"patches", "pooled", "both"}
        What the queries look at. ``"patches"`` is the paper's, and needs patch tokens: pictures,
        or `PictureFeatures` that have some. ``"pooled"`` takes the pooled feature for the one
        token there is: attention then has nothing to choose from, and what is left is a network
        for each query (ours). ``"both"`` adds it to the patches (ours).
    layers, heads : int
        Of the decoder.
    width : int or "auto"
        Of the decoder, a multiple of `heads`. ``"auto"``: the length of a token, but 32 to 256.
    hidden : int or "auto"
        Width within the last step of a layer. ``"auto"``: twice `width`.
    dropout : float
        While learning.
    scene_weight : float
        Of the scenes' loss beside that of each partition, which is 1.
    epochs, batch_size, learning_rate, weight_decay, smooth_km, precision, run_folder, resume
        As of `LearningSystem`; `smooth_km` smooths all partitions.
    training : mapping, optional
        Settings of the core's training loop, such as ``{"optimiser.schedule": "constant"}``.
    image_encoder, weights, allow_download, crops, crop_pooling, device, random_state, progress
        As of `System`.

    Attributes
    ----------
    hierarchy_ : Hierarchy
        Partitions whose cells it tells; `partition_` is the finest.
    scenes_ : Scenes or None
        What scenes are called; None without scenes.
    network_ : GeoDecoderNetwork
        What was trained.
    run_ : RunResult
        What the run has come to; only after `fit`.
    sizes_ : dict
        What the network is made of.
    notes_ : tuple of str
        What was decided while fitting: what queries look at, and where scenes are from.

    Notes
    -----
    Theirs: queries by scene and partition; layers of attention to the patches, attention among
    the queries and two linear layers; scene logits that are averaged over the partitions and pick
    the queries that are read; a linear layer a partition; the product of a cell's probability and
    those of the cells that hold it. With 16 scenes and three partitions they
    have 48 queries. In the code that they have published, every layer starts from the learned
    queries again, so that only the last one counts; here each goes on from the one before.

    Ours: one linear layer shared by all queries gives the scene logits; while learning, the
    queries of the true scene are read where it is known, so that each scene learns from its own
    pictures from the first step on; norms stand before each step; channels of tokens are
    standardised by the training pictures, projected, and get a learned vector for where in the
    picture they are; and sizes, which suit features of a frozen tower and thousands of pictures,
    not millions.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> places = rng.uniform([-10, 36], [30, 60], (80, 2))
    >>> tokens = np.stack([places / 50.0, np.ones((80, 2))], axis=1)
    >>> features = PictureFeatures(tokens.mean(axis=1), tokens=tokens)
    >>> system = GeoDecoder(scenes=2, epochs=2, progress=False).fit(features, places)
    >>> system.predict(features.take(slice(3))).shape
    (3, 2)
    >>> system.predict_scenes(features.take([0])).item() in system.scenes_.names
    True
    """

    title: ClassVar[str] = "GeoDecoder"
    needs_tokens: ClassVar[bool] = True
    uses_tokens: ClassVar[bool] = True
    uses_scenes: ClassVar[bool] = True

    hierarchy_: Hierarchy
    scenes_: Scenes | None
    network_: GeoDecoderNetwork
    sizes_: dict[str, Any]
    notes_: tuple[str, ...]

    def __init__(
        self,
        *,
        t_max: Limits | Sequence[int] = "auto",
        t_min: Limits = "auto",
        hierarchy: Hierarchy | None = None,
        scenes: int = 3,
        tokens: str = "patches",
        layers: int = 2,
        heads: int = 4,
        width: int | str = "auto",
        hidden: int | str = "auto",
        dropout: float = 0.1,
        scene_weight: float = 1.0,
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
        self.scenes = scenes
        self.tokens = tokens
        self.layers = layers
        self.heads = heads
        self.width = width
        self.hidden = hidden
        self.dropout = dropout
        self.scene_weight = scene_weight
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

    def predict_scenes(self, images_or_features: Any) -> NDArray[np.object_]:
        """Return the scene whose queries are read for each picture.

        Parameters
        ----------
        images_or_features : pictures, PictureFeatures or array
            As `predict` takes them. Of several views, what the mean of their logits says.

        Returns
        -------
        array of shape (n,), object
            Names; None where a picture has no features.

        Raises
        ------
        OptionError
            If it has learned without scenes.
        """
        features, _ = self._asked(images_or_features)
        if self.scenes_ is None:
            raise OptionError("It has learned without scenes: give fit some, or scenes=2 or more.")
        found = np.full(len(features), None, dtype=object)
        rows = np.flatnonzero(features.good)
        for block, logits in self._decoded(features.take(rows), None):
            numbers = logits[SCENE].mean(dim=1).argmax(dim=1).tolist()
            found[rows[block]] = [self.scenes_.names[number] for number in numbers]
        return found

    def _fit(self, features: PictureFeatures, lonlat: Floats, scenes: Any) -> None:
        self._check_options()
        hierarchy = nested_cells(self.hierarchy, lonlat, t_max=self.t_max, t_min=self.t_min)
        classes = hierarchy.locate(lonlat)
        self.hierarchy_, self.partition_ = hierarchy, hierarchy.finest
        given, told = scenes_to_learn(scenes)
        self.scenes_, numbers = self._learn_scenes(features, given, scenes)
        self.sizes_ = self._sizes(features.layout)
        self.notes_ = (*self._notes(features.layout, given is not None), *told)
        self._learn(
            "geodecoder",
            with_scenes(features, numbers, self.scenes_),
            lonlat,
            class_heads(hierarchy, classes, self.scenes_, numbers, self.scene_weight),
            answer=answer_of(hierarchy),
            facts={
                "sizes": self.sizes_,
                "dropout": self.dropout,
                "hierarchy": hierarchy.digest,
                "scenes": list(self.scenes_.names) if self.scenes_ else [],
            },
            network=lambda: self._network(moments_of(features)),
        )

    def _build(self) -> GeoDecoderNetwork:
        return self._network(None)

    def _network(self, moments: Moments | None) -> GeoDecoderNetwork:
        layout = Layout(self.layout_.pooled, self.layout_.tokens)
        return GeoDecoderNetwork(layout, **self.sizes_, dropout=self.dropout, moments=moments)

    def _log_scores(self, features: PictureFeatures) -> NDArray[np.float32]:
        return self._scores(features, None)

    def _routed(self, features: PictureFeatures, scenes: Any) -> NDArray[np.float32]:
        if scenes is None:
            return self._scores(features, None)
        if self.scenes_ is None:
            raise OptionError("It has learned without scenes: leave scenes= out.")
        return self._scores(features, self.scenes_.encode(scenes))

    def _scores(
        self, features: PictureFeatures, numbers: NDArray[np.int64] | None
    ) -> NDArray[np.float32]:
        found = np.empty((len(features), len(self.partition_)), dtype=np.float32)
        names = level_names(len(self.hierarchy_))
        for block, logits in self._decoded(features, numbers):
            levels = [logits[name].flatten(0, 1) for name in names]
            product = hierarchical_logits(levels, self.hierarchy_.parents)
            log_p = torch.log_softmax(product, dim=1).reshape(-1, features.views, product.shape[1])
            found[block] = pool_views(log_p.cpu().numpy(), self.crop_pooling)
        return found

    def _decoded(
        self, features: PictureFeatures, numbers: NDArray[np.int64] | None
    ) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        return decoded(self.network_.to(resolve_device(self.device)), features, numbers)

    def _learn_scenes(
        self, features: PictureFeatures, given: Scenes | None, labels: Any
    ) -> tuple[Scenes | None, NDArray[np.int64]]:
        """Return what scenes are called, given or made up, and the number of each picture's."""
        if given is not None:
            return given, given.encode(labels)
        if self.scenes == 1:
            return None, np.full(len(features), -1, dtype=np.int64)
        labels = cluster_scenes(features, self.scenes, self.random_state, called="scenes")
        made = Scenes.learn(labels)
        return made, made.encode(labels)

    def _sizes(self, layout: Layout) -> dict[str, Any]:
        """Return what the network is made of, fit for JSON."""
        width = width_of(layout, self.tokens, self.heads) if self.width == "auto" else self.width
        return {
            "see": self.tokens,
            "classes": [len(partition) for partition in self.hierarchy_.partitions],
            "scenes": len(self.scenes_) if self.scenes_ else 1,
            "names": list(level_names(len(self.hierarchy_))),
            "layers": int(self.layers),
            "width": int(width),
            "heads": int(self.heads),
            "hidden": 2 * int(width) if self.hidden == "auto" else int(self.hidden),
        }

    def _notes(self, layout: Layout, labelled: bool) -> tuple[str, ...]:
        """Say in words what was decided while fitting."""
        patches = f"{layout.tokens[0]:,} patch tokens" if layout.tokens else ""
        pooled = "the pooled feature as a token"
        seen = {"patches": patches, "pooled": pooled, "both": f"{patches} and {pooled}"}
        source = "from labels" if labelled else "made up, clusters of the pooled features"
        scenes = f"{len(self.scenes_)} {source}" if self.scenes_ else "none"
        return (f"queries look at: {seen[self.tokens]}", f"scenes: {scenes}")

    def _check_options(self) -> None:
        if self.tokens not in _TOKENS:
            known = ", ".join(map(repr, _TOKENS))
            raise OptionError(f"tokens={self.tokens!r} is not offered: choose one of {known}.")
        for name in ("scenes", "layers", "heads"):
            check_count(name, getattr(self, name))
        for name in ("width", "hidden"):
            if getattr(self, name) != "auto":
                check_count(name, getattr(self, name))
        if self.width != "auto" and int(self.width) % self.heads:
            raise OptionError(f"width={self.width} is no multiple of heads={self.heads}.")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout={self.dropout!r}: give a number from 0 to below 1.")
        if not 0 <= self.scene_weight < math.inf:
            raise OptionError(f"scene_weight={self.scene_weight!r}: give 0 or more.")

    def _read(self, given: Any, *, crops: str) -> PictureFeatures:
        if self.tokens == "pooled":
            return self._read_parts(given, crops=crops, tokens=False).pooled_only()
        features = self._read_parts(given, crops=crops, tokens=True, instead=_INSTEAD)
        # Segments mean nothing to it.
        return features if features.segments is None else replace(features, segments=None)

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        arrays, hierarchy = self.hierarchy_.to_state()
        tensors = self._network_state() | named("hierarchy.", arrays)
        return tensors, {
            "hierarchy": hierarchy,
            "scenes": list(self.scenes_.names) if self.scenes_ else None,
            "sizes": self.sizes_,
            "notes": list(self.notes_),
        }

    def _restore(self, tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        arrays = under("hierarchy.", tensors)
        self.hierarchy_ = Hierarchy.from_state(arrays, config["hierarchy"])
        self.scenes_ = Scenes(tuple(config["scenes"])) if config["scenes"] else None
        self.sizes_, self.notes_ = dict(config["sizes"]), tuple(config["notes"])
        self._restore_network(tensors)
