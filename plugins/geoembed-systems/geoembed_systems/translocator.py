"""TransLocator: pictures and their segmentation side by side, four heads that learn together."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from geoembed.devices import resolve_device
from geoembed.errors import OptionError
from geoembed_systems.base import System
from geoembed_systems.cells import Limits
from geoembed_systems.features import Layout, PictureFeatures
from geoembed_systems.nesting import Hierarchy, nested_partitions
from geoembed_systems.pooling import log_normalised, pool_views
from geoembed_systems.reading import read_picture_features
from geoembed_systems.scenes import Scenes
from geoembed_systems.segments import SegmentModel
from geoembed_systems.training import TrainingOptions, train_heads
from geoembed_systems.translocator_network import TransLocatorNetwork, moments
from geoembed_systems.translocator_streams import (
    FUSED,
    LEVELS,
    class_heads,
    notes,
    sizes_of,
    with_segments,
    without_tokens,
)

__all__ = ["FUSIONS", "TransLocator"]

FUSIONS: Final = ("auto", "layers", "gated")

# Values a block of rows holds in the network: what is larger leaves the processor's cache.
_BLOCK: Final = 2**19


class TransLocator(System):
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
    (`geoembed_systems.segments.SegmentModel`). Without scenes there is no scene head, nor its part
    of the loss.

    Parameters
    ----------
    t_max : int, sequence of 3 ints or "auto"
        Most places in a cell of the coarse, middle and fine partition; as
        `geoembed_systems.nesting.nested_partitions` takes it. The paper takes those of ISNs.
    t_min : int or "auto"
        Fewest places in a cell that is kept.
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
    epochs, batch_size, learning_rate, weight_decay, smooth_km, precision, run_folder, resume
        As `geoembed_systems.training.TrainingOptions` takes them; `smooth_km` smooths the targets
        of the three heads of cells.
    training : mapping, optional
        Settings of the core's loop, such as ``{"optimiser.schedule": "constant"}``.
    image_encoder, weights, allow_download, crops, crop_pooling, device, random_state, progress
        As `geoembed_systems.base.System` takes them.

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
        On the CPU, between answers.

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

    def __init__(
        self,
        *,
        t_max: Limits | Sequence[int] = "auto",
        t_min: Limits = "auto",
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

    def _fit(self, features: PictureFeatures, lonlat: NDArray[np.float64], scenes: Any) -> None:
        sizes = sizes_of(
            features.layout,
            width=self.width,
            heads=self.heads,
            layers=self.layers,
            dropout=self.dropout,
        )
        hierarchy = nested_partitions(lonlat, t_max=self.t_max, t_min=self.t_min)
        if len(hierarchy) != len(LEVELS):
            raise OptionError(
                f"t_max={self.t_max!r} makes {len(hierarchy)} partitions, and there are three "
                "heads of cells: give three limits, coarse first."
            )
        named = None if scenes is None else Scenes.learn(scenes)
        segments = None
        if features.segments is None:
            tokens = features.pooled if features.tokens is None else features.tokens
            # The type says more than fit does: it refuses other texts.
            classes: Any = self.segment_classes
            segments = SegmentModel.fit(tokens, classes, self.random_state)
        heads = class_heads(hierarchy, lonlat, named, scenes)
        seen = with_segments(features, segments)
        counts = {head.name: head.classes for head in heads}
        means = hierarchy.finest.means

        def answer(logits: Mapping[str, Tensor]) -> NDArray[np.float64]:
            found: NDArray[np.float64] = means[logits["fine"].argmax(dim=1).cpu().numpy()]
            return found

        network, _ = train_heads(
            "translocator",
            partial(TransLocatorNetwork.of, moments(seen), seen.layout, counts, **sizes),
            seen,
            lonlat,
            heads,
            answer=answer,
            facts={
                "sizes": sizes,
                "layout": seen.layout.to_dict(),
                "hierarchy": hierarchy.digest,
                "scenes": None if named is None else list(named.names),
                "segments": None if segments is None else segments.classes,
            },
            options=self._options(),
        )
        assert isinstance(network, TransLocatorNetwork)
        self.network_, self.fusion_, self._sizes_ = network, sizes["fusion"], sizes
        self.hierarchy_, self.partition_ = hierarchy, hierarchy.finest
        self.segments_, self.scenes_ = segments, named
        self.notes_ = notes(self.fusion_, segments, named)

    def _log_scores(self, features: PictureFeatures) -> NDArray[np.float32]:
        device = resolve_device(self.device)
        network = self.network_.to(device).eval()
        shape = (len(features), features.views, len(self.partition_))
        logits = np.empty(shape, dtype=np.float32)
        patches = network.layout.tokens[0] if network.layout.tokens else 0
        values = features.views * (1 + patches) * 2 * self._sizes_["width"]
        # An accelerator is kept busy by larger blocks only.
        step = max(1, (_BLOCK if device.type == "cpu" else 64 * _BLOCK) // values)
        for start in range(0, len(features), step):
            block = slice(start, start + step)
            rows = with_segments(features.take(block), self.segments_).flat()
            with torch.inference_mode():
                there = torch.from_numpy(rows).to(device).flatten(0, 1)
                found = network.scores(there, "fine").cpu().numpy()
            logits[block] = found.reshape(*rows.shape[:2], -1)
        return pool_views(log_normalised(logits), self.crop_pooling)

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
        read = partial(
            read_picture_features,
            given,
            image_encoder=self.image_encoder,
            weights=self.weights,
            allow_download=self.allow_download,
            device=self.device,
            crops=crops,
            progress=self.progress,
        )
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
        tensors: dict[str, Any] = {f"cells.{name}": array for name, array in cells.items()}
        weights = self.network_.state_dict()
        tensors |= {f"network.{name}": tensor for name, tensor in weights.items()}
        segments = None
        if self.segments_ is not None:
            arrays, segments = self.segments_.to_state()
            tensors |= {f"segments.{name}": array for name, array in arrays.items()}
        return tensors, {
            "layout": self.network_.layout.to_dict(),
            "sizes": self._sizes_,
            "classes": {name: head.out_features for name, head in self.network_.heads.items()},
            "hierarchy": hierarchy,
            "segments": segments,
            "scenes": None if self.scenes_ is None else list(self.scenes_.names),
        }

    def _restore(self, tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        def of(prefix: str) -> dict[str, Any]:
            return {
                name.removeprefix(prefix): array
                for name, array in tensors.items()
                if name.startswith(prefix)
            }

        sizes, scenes, segments = config["sizes"], config["scenes"], config["segments"]
        self.hierarchy_ = Hierarchy.from_state(of("cells."), config["hierarchy"])
        self.hierarchy_.finest.check(self.partition_.digest)
        self.scenes_ = None if scenes is None else Scenes(tuple(scenes))
        self.segments_ = (
            None if segments is None else SegmentModel.from_state(of("segments."), segments)
        )
        layout = Layout.from_dict(config["layout"])
        network = TransLocatorNetwork(layout, config["classes"], **sizes)
        network.load_state_dict({name: torch.tensor(each) for name, each in of("network.").items()})
        self.network_, self._sizes_, self.fusion_ = network.eval(), dict(sizes), sizes["fusion"]
        self.notes_ = notes(self.fusion_, self.segments_, self.scenes_)

    def _options(self) -> TrainingOptions:
        return TrainingOptions(
            epochs=self.epochs,
            batch=self.batch_size,
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            smooth_km=self.smooth_km,
            seed=self.random_state,
            device=self.device,
            precision=self.precision,
            folder=self.run_folder,
            resume=self.resume,
            progress=self.progress,
            overrides=self.training or {},
        )
