"""TransLocator: pictures and their segmentation side by side, four heads that learn together."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from geoembed.devices import resolve_device
from geoembed.errors import OptionError
from geoembed_systems.cells.adaptive import Limits
from geoembed_systems.cells.nesting import Hierarchy
from geoembed_systems.learning.estimator import LearningSystem, nested_cells
from geoembed_systems.networks.translocator_network import TransLocatorNetwork, moments
from geoembed_systems.networks.translocator_streams import (
    FUSED,
    LEVELS,
    class_heads,
    first_stream,
    notes,
    sizes_of,
    with_segments,
    without_tokens,
)
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.pictures.scenes import Scenes, scenes_to_learn
from geoembed_systems.pictures.segments import SegmentModel
from geoembed_systems.shared.naming import named, under
from geoembed_systems.shared.pooling import log_normalised, pool_views

__all__ = ["FUSIONS", "TransLocator"]

FUSIONS: Final = ("auto", "layers", "gated")

# Where there are no patch tokens.
_INSTEAD: Final = "TransLocator(fusion='gated') does without."

# Values a block of rows holds in the network: what is larger leaves the processor's cache.
_BLOCK: Final = 2**19


class TransLocator(LearningSystem):
    """Classify pictures into nested cells from two streams: what a tower saw, and its segments.

    Theirs (Pramanick et al., ECCV 2022): a stream of the picture and a stream of its semantic
    segmentation, whose class tokens are fused after every layer; heads for coarse, middle and
    fine cells and for the scene, trained together with the loss 0.5 coarse + 0.3 middle +
    0.2 fine + 1.0 scene; the answer is the likeliest fine cell.

    Ours: the streams lie on frozen features, so they are small. With patch tokens each stream is
    a transformer encoder of its own, and after each of its layers a linear map of both class
    tokens is added to each (``fusion_`` is ``"layers"``). Without, a dense stream each and a gate
    between the two (``"gated"``). The class token of the picture starts from its pooled feature.
    Where no segmentation is supplied, it is derived from the features
    (`SegmentModel`). Without two different scenes there is no scene
    head, nor its part of the loss.

    Parameters
    ----------
    t_max : int, sequence of 3 ints or "auto"
        Most places in a cell of the coarse, middle and fine partition; as
        `nested_partitions` takes it. The paper takes those of ISNs.
    t_min : int or "auto"
        Fewest places in a cell that is kept.
    hierarchy : Hierarchy, optional
        Three partitions to be used instead of new ones.
    fusion : {"auto", "layers", "gated"}
        ``"auto"``: after every layer where there are patch tokens, gated otherwise. ``"layers"``
        refuses features without tokens; ``"gated"`` leaves tokens out.
    segment_classes : int or "auto"
        Classes of a derived segmentation; 16, or as many as there are different features. Of no
        effect where `PictureFeatures.segments` are given.
    layers : int
        Of each stream.
    width : int or "auto"
        Of a token in both encoders, or of the gated vectors; a multiple of `heads`. ``"auto"``:
        the length of a token or pooled feature, rounded to a multiple of 64; 64 to 256 with
        tokens, 128 to 512 without. The paper trains two ViT-B, 12 layers of 768.
    heads : int
        Of the attention; they do nothing where fusion is gated.
    dropout : float
        Share of values left out in training, in [0, 1).
    epochs, batch_size, learning_rate, weight_decay, smooth_km, precision, run_folder, resume, \
    training
        As `LearningSystem` takes them; `smooth_km` smooths the targets
        of the three heads of cells.
    image_encoder, weights, allow_download, crops, crop_pooling, device, random_state, progress
        As `System` takes them.

    Attributes
    ----------
    fusion_ : {"layers", "gated"}
        How the streams meet.
    notes_ : tuple of str
        What was decided while fitting: the fusion, where segments are from, and whether scenes
        were learned.
    hierarchy_ : Hierarchy
        The three partitions; ``partition_`` is its finest.
    segments_ : SegmentModel or None
        What derives segments; None where they were given.
    scenes_ : Scenes or None
        The scenes that the scene head tells apart.
    network_ : TransLocatorNetwork
        Trained.
    run_ : RunResult
        What the run has come to; only after `fit`.
    sizes_ : dict
        What the network is made of.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> towns = np.array([[2.35, 48.86], [-58.4, -34.6], [139.7, 35.7], [18.4, -33.9]])
    >>> town = rng.integers(0, 4, 400)
    >>> places = towns[town] + rng.normal(0, 0.1, (400, 2))
    >>> features = np.eye(4)[town] + rng.normal(0, 0.1, (400, 4))
    >>> system = TransLocator(t_max=(200, 150, 120), width=16, epochs=20, learning_rate=0.02)
    >>> system.fit(features, places).fusion_
    'gated'
    >>> system.score(features, places, threshold_km=50.0) > 0.95
    True
    """

    title: ClassVar[str] = "TransLocator"
    uses_tokens: ClassVar[bool] = True
    uses_scenes: ClassVar[bool] = True

    hierarchy_: Hierarchy
    segments_: SegmentModel | None
    scenes_: Scenes | None
    network_: TransLocatorNetwork
    sizes_: dict[str, Any]
    fusion_: str
    notes_: tuple[str, ...]

    def __init__(
        self,
        *,
        t_max: Limits | Sequence[int] = "auto",
        t_min: Limits = "auto",
        hierarchy: Hierarchy | None = None,
        fusion: str = "auto",
        segment_classes: int | str = "auto",
        layers: int = 2,
        width: int | str = "auto",
        heads: int = 4,
        dropout: float = 0.1,
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
        self.fusion = fusion
        self.segment_classes = segment_classes
        self.layers = layers
        self.width = width
        self.heads = heads
        self.dropout = dropout
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

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Show the options that were set and, once fitted, how the streams are fused."""
        shown: str = super().__repr__(N_CHAR_MAX)
        fusion = getattr(self, "fusion_", None)
        return shown if fusion is None else f"<{shown}, fitted: {FUSED[fusion]}>"

    def predict_scenes(self, images_or_features: Any) -> NDArray[np.object_]:
        """Return the scene that the scene head sees in each picture.

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
            raise OptionError("It has learned without scenes: fit it with scenes= to ask for them.")
        found = np.full(len(features), None, dtype=object)
        numbers = self._logits(features.take(features.good), "scene").mean(axis=1).argmax(axis=1)
        found[features.good] = [self.scenes_.names[number] for number in numbers]
        return found

    def _fit(self, features: PictureFeatures, lonlat: NDArray[np.float64], scenes: Any) -> None:
        self.sizes_ = sizes_of(
            features.layout,
            width=self.width,
            heads=self.heads,
            layers=self.layers,
            dropout=self.dropout,
        )
        self.fusion_ = self.sizes_["fusion"]
        self.hierarchy_ = self._cells(lonlat)
        self.partition_ = self.hierarchy_.finest
        self.scenes_, told = scenes_to_learn(scenes)
        self.segments_ = self._segments(features)
        self.notes_ = (*notes(self.fusion_, self.segments_, self.scenes_), *told)
        heads = class_heads(self.hierarchy_, lonlat, self.scenes_, scenes)
        seen = with_segments(features, self.segments_)
        self._learn(
            "translocator",
            seen,
            lonlat,
            heads,
            answer=lambda logits: self._means(logits["fine"].argmax(dim=1).cpu().numpy()),
            facts={
                "sizes": self.sizes_,
                "layout": seen.layout.to_dict(),
                "hierarchy": self.hierarchy_.digest,
                "scenes": list(self.scenes_.names) if self.scenes_ else [],
                "segments": self.segments_.classes if self.segments_ else 0,
            },
            network=lambda: self._network().standardise(moments(seen)),
        )

    def _cells(self, lonlat: NDArray[np.float64]) -> Hierarchy:
        given = self.hierarchy
        made = nested_cells(given, lonlat, t_max=self.t_max, t_min=self.t_min)
        if len(made) != len(LEVELS):
            source = f"t_max={self.t_max!r}" if given is None else "hierarchy="
            raise OptionError(
                f"{source} makes {len(made)} partitions, and there are three heads of cells: give "
                "three, coarse first."
            )
        return made

    def _segments(self, features: PictureFeatures) -> SegmentModel | None:
        if features.segments is not None:
            return None
        # The type says more than fit does: it refuses other texts.
        classes: Any = self.segment_classes
        return SegmentModel.fit(
            first_stream(features), classes, self.random_state, called="segment_classes"
        )

    def _build(self) -> TransLocatorNetwork:
        return self._network()

    def _network(self) -> TransLocatorNetwork:
        layout, derived = self.layout_, self.segments_
        if derived is not None:
            patches = layout.tokens[:1] if layout.tokens else ()
            layout = replace(layout, segments=(*patches, derived.classes))
        counts = {} if self.scenes_ is None else {"scene": len(self.scenes_)}
        cells = zip(LEVELS, map(len, self.hierarchy_.partitions), strict=True)
        return TransLocatorNetwork(layout, counts | dict(cells), **self.sizes_)

    def _logits(self, features: PictureFeatures, head: str) -> NDArray[np.float32]:
        """Return the logits of one head for every view, (n, V, classes)."""
        device = resolve_device(self.device)
        network = self.network_.eval().to(device)
        found = np.empty((len(features), features.views, network.classes[head]), dtype=np.float32)
        patches = network.layout.tokens[0] if network.layout.tokens else 0
        values = features.views * (1 + patches) * 2 * self.sizes_["width"]
        # An accelerator is kept busy by larger blocks only.
        step = max(1, (_BLOCK if device.type == "cpu" else 64 * _BLOCK) // values)
        for start in range(0, len(features), step):
            block = slice(start, start + step)
            rows = with_segments(features.take(block), self.segments_).flat()
            with torch.inference_mode():
                there = torch.from_numpy(rows).to(device).flatten(0, 1)
                logits = network.scores(there, head).cpu().numpy()
            found[block] = logits.reshape(*rows.shape[:2], -1)
        return found

    def _log_scores(self, features: PictureFeatures) -> NDArray[np.float32]:
        return pool_views(log_normalised(self._logits(features, "fine")), self.crop_pooling)

    def _predict(self, features: PictureFeatures) -> NDArray[np.float64]:
        if features.views > 1:
            return super()._predict(features)
        # The largest logit is the likeliest cell: no softmax is needed.
        return self._means(self._logits(features, "fine")[:, 0].argmax(axis=1))

    def _asked(
        self, images_or_features: Any, scenes: Any = None
    ) -> tuple[PictureFeatures, NDArray[Any] | None]:
        check_is_fitted(self, "layout_")
        # As it has learned, whatever else the encoder or the features could give.
        features = self._read_for(self.fusion_, images_or_features, self.crops)
        return super()._asked(features, scenes)

    def _read(self, given: Any, *, crops: str) -> PictureFeatures:
        if self.fusion not in FUSIONS:
            raise OptionError(
                f"fusion={self.fusion!r} is not offered: choose one of "
                f"{', '.join(map(repr, FUSIONS))}."
            )
        return self._read_for(self.fusion, given, crops)

    def _read_for(self, fusion: str, given: Any, crops: str) -> PictureFeatures:
        read = partial(self._read_parts, given, crops=crops, instead=_INSTEAD)
        if fusion == "layers":
            return read(tokens=True)
        if fusion == "auto":
            # Whether there are tokens is told before any picture is read.
            with suppress(OptionError):
                return read(tokens=True)
        features = read(tokens=False)
        return without_tokens(features) if fusion == "gated" else features

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        cells, hierarchy = self.hierarchy_.to_state()
        tensors = self._network_state() | named("cells.", cells)
        segments = None
        if self.segments_ is not None:
            arrays, segments = self.segments_.to_state()
            tensors |= named("segments.", arrays)
        return tensors, {
            "sizes": self.sizes_,
            "hierarchy": hierarchy,
            "segments": segments,
            "scenes": None if self.scenes_ is None else list(self.scenes_.names),
            "notes": list(self.notes_),
        }

    def _restore(self, tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        scenes, segments = config["scenes"], config["segments"]
        self.hierarchy_ = Hierarchy.from_state(under("cells.", tensors), config["hierarchy"])
        self.hierarchy_.finest.check(self.partition_.digest)
        self.scenes_ = None if scenes is None else Scenes(tuple(scenes))
        self.segments_ = (
            None
            if segments is None
            else SegmentModel.from_state(under("segments.", tensors), segments)
        )
        self.sizes_ = dict(config["sizes"])
        self.fusion_ = self.sizes_["fusion"]
        self.notes_ = tuple(config["notes"])
        self._restore_network(tensors)
