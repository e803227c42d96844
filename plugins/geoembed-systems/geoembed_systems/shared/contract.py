"""What a system writes and what it gets: the contract between systems and what all share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from geoembed.errors import OptionError
from geoembed.geolocation.answers import Answer
from geoembed.geolocation.calibration import Calibration
from geoembed.geolocation.candidates import distinct_of_scores
from geoembed.geolocation.queries import Queries
from geoembed_systems.pictures.features import Layout, PictureFeatures
from geoembed_systems.pictures.reading import read_picture_features
from geoembed_systems.shared.inputs import check_scenes
from geoembed_systems.shared.pooling import check_pooling

if TYPE_CHECKING:
    from geoembed_systems.cells.adaptive import Partition

__all__ = ["Contract"]

Floats = NDArray[np.float64]

# Bounds what a block of pictures takes to some tens of megabytes an array.
_VALUES_AT_ONCE: Final = 8_000_000


class Contract(ABC):
    """What `geoembed_systems.shared.base.System` asks of its subclasses, and how they are asked."""

    title: ClassVar[str]
    needs_tokens: ClassVar[bool] = False
    #: Whether it looks at patch tokens and segments; where not, they are let go as they come in.
    uses_tokens: ClassVar[bool] = False
    #: Whether it learns the scenes that `fit` is given; where not, it leaves them alone.
    uses_scenes: ClassVar[bool] = False

    image_encoder: Any
    weights: str | Path | None
    allow_download: bool
    crops: str
    crop_pooling: str
    device: str
    random_state: int
    progress: bool | None

    partition_: "Partition"
    layout_: Layout
    rows_: int
    calibration_: Calibration

    @abstractmethod
    def _fit(self, features: PictureFeatures, lonlat: Floats, scenes: Any) -> None:
        """Learn; sets `partition_`.

        No picture has an error, places are finite, one a picture; scenes are None or an array of
        objects (n,), None where a scene is missing.
        """

    @abstractmethod
    def _log_scores(self, features: PictureFeatures) -> NDArray[np.float32]:
        """Return log-probabilities of the cells of `partition_`, (n, cells), views pooled.

        Rows sum to 1 as probabilities. Asked for in blocks of pictures without an error; -inf
        is allowed.
        """

    @abstractmethod
    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what was learned: tensors or arrays by name, and what JSON can hold.

        `partition_` need not be among it.
        """

    @abstractmethod
    def _restore(self, tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Take up what `_state` gave, tensors as numpy arrays; `partition_` is there already."""

    def _predict(self, features: PictureFeatures) -> Floats:
        """Return the answer to every picture, (n, 2); the mean of the likeliest cell.

        A system that answers with other places overrides this and `_answers`, so that the first
        answer of `localize` is what `predict` returns.
        """
        return self._means(self._log_scores(features).argmax(axis=1))

    def _answers(
        self,
        features: PictureFeatures,
        log_scores: NDArray[np.float32],
        top_k: int,
        distinct_km: float,
    ) -> list[Answer]:
        """Return scores and places of the best answers to every picture, best first."""
        means = self.partition_.means
        found = distinct_of_scores(np.exp(log_scores), means, top_k, distinct_km)
        return [(scores, means[rows]) for scores, rows in found]

    def _routed(self, features: PictureFeatures, scenes: Any) -> NDArray[np.float32]:
        """Return what `_log_scores` does where the scenes are known; None where they are not.

        A system that routes by scene overrides it. `scenes` is an array of objects (n,).
        """
        if scenes is not None:
            raise OptionError(
                f"{type(self).__name__} does not choose by scene when it answers: leave scenes= "
                "out."
            )
        return self._log_scores(features)

    def _means(self, cells: NDArray[np.integer[Any]]) -> Floats:
        return np.asarray(self.partition_.means[cells], dtype=np.float64)

    def _asked(self, images_or_features: Any, scenes: Any = None) -> tuple[PictureFeatures, Any]:
        """Read what is asked; say which pictures cannot be answered for."""
        check_is_fitted(self, "layout_")
        check_pooling(self.crop_pooling)
        features = self._read(images_or_features, crops=self.crops)
        if features.good.any():
            features.check(self.layout_)
        return features, check_scenes(scenes, len(features))

    def _blocks(
        self, features: PictureFeatures, scenes: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], PictureFeatures, Any]]:
        """Yield rows, features and scenes of pictures without an error, some at a time."""
        rows = np.flatnonzero(features.good)
        # What goes into a block, or what comes out of it, whichever is more.
        values = features.views * max(len(self.partition_), features.layout.width)
        step = max(1, _VALUES_AT_ONCE // max(1, values))
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            yield some, features.take(some), None if scenes is None else scenes[some]

    def _queries(self, features: PictureFeatures) -> Queries:
        """Return pictures as the core's queries; their vectors are never looked at."""
        return Queries(list(features.names), features.pooled[:, 0], list(features.errors))

    def _read(self, given: Any, *, crops: str) -> PictureFeatures:
        features = self._read_parts(given, crops=crops, tokens=self.needs_tokens)
        return features if self.uses_tokens else features.pooled_only()

    def _read_parts(
        self, given: Any, *, crops: str, tokens: bool, instead: str = ""
    ) -> PictureFeatures:
        """Read pictures or features, with all that they hold; tokens too where they are asked for.

        `instead` says what to do where there are none.
        """
        return read_picture_features(
            given,
            image_encoder=self.image_encoder,
            weights=self.weights,
            allow_download=self.allow_download,
            device=self.device,
            crops=crops,
            tokens=tokens,
            instead=instead,
            progress=self.progress,
        )
