"""What all systems share: pictures and places in, the same answers out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from geoembed.coordinates import read_places
from geoembed.errors import CoordinateError, TableError
from geoembed_systems.cells import Partition
from geoembed_systems.features import Layout, PictureFeatures
from geoembed_systems.reading import read_picture_features

__all__ = ["System"]

Floats = NDArray[np.float64]


class System(BaseEstimator, ABC):  # type: ignore[misc]
    """A geolocalizer that learns from pictures and where they were taken.

    A subclass writes `_fit`, `_log_scores`, `_state` and `_restore`, and names in `needs_tokens`
    whether it takes patch tokens.

    Parameters
    ----------
    image_encoder : str or ImageEncoder
        What turns pictures into features, where pictures are given: a registered name, the folder
        of a trained model, or a loaded encoder. Its frozen tower is used.
    weights : str or Path, optional
        File or folder with the weights of its tower.
    allow_download : bool
        Whether those weights may be downloaded if they are not on this machine.
    crops : {"none", "five", "ten-crop"}
        Test-time crops of pictures.
    crop_pooling : {"mean", "max"}
        How the scores of a picture's views become one.
    device : str
        ``"auto"`` (CUDA, else MPS, else the CPU) or a device name.
    random_state : int
        Of weights, order and whatever else is drawn.
    progress : bool, optional
        Show progress bars; None shows them on a terminal when the work is long.

    Attributes
    ----------
    partition_ : Partition
        Cells that `predict_proba` and `predict_cells` speak of; the finest, where there are more.
    layout_ : Layout
        What the features were made of.
    lonlat_ : ndarray of float64, shape (n, 2)
        Only while fitting.
    """

    title: ClassVar[str]
    needs_tokens: ClassVar[bool] = False

    image_encoder: Any
    weights: str | Path | None
    allow_download: bool
    crops: str
    crop_pooling: str
    device: str
    random_state: int
    progress: bool | None

    partition_: Partition
    layout_: Layout

    def fit(self, images_or_features: Any, points: Any, scenes: Any = None) -> Self:
        """Learn where pictures are taken.

        Parameters
        ----------
        images_or_features : pictures, array of shape (n, d) or (n, V, d), or PictureFeatures
            Anything that `geoembed.images.read_pictures` reads, or features of a frozen tower.
        points : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Where they were taken, one place a picture, in order.
        scenes : array of shape (n,), optional
            What each shows, such as ``"indoor"``, ``"natural"`` or ``"urban"``.

        Returns
        -------
        System
            Itself.
        """
        features = self._read(images_or_features, crops="none")
        lonlat = read_places(points).lonlat
        if len(lonlat) != len(features):
            raise CoordinateError(
                f"There are {len(lonlat):,} places and {len(features):,} pictures: give one place "
                "a picture, in order."
            )
        if not features.good.any():
            raise TableError(f"No picture has features. The first: {features.errors[0]}")
        good = features.good
        self._fit(features.take(good), lonlat[good], None if scenes is None else scenes[good])
        self.layout_ = features.layout
        return self

    def predict(self, images_or_features: Any) -> Floats:
        """Predict where pictures were taken.

        Parameters
        ----------
        images_or_features : pictures, array of shape (n, d) or (n, V, d), or PictureFeatures
            As `fit` takes them.

        Returns
        -------
        array of shape (n, 2), float64
            Longitude and latitude, degrees, WGS 84; NaN where a picture has no features.
        """
        features = self._asked(images_or_features)
        found = np.full((len(features), 2), np.nan)
        good = features.good
        if good.any():
            found[good] = self._predict(features.take(good))
        return found

    def _predict(self, features: PictureFeatures) -> Floats:
        """Return the answer to every picture, (n, 2); the mean of the likeliest cell."""
        return self.partition_.means[self._log_scores(features).argmax(axis=1)]

    @abstractmethod
    def _fit(self, features: PictureFeatures, lonlat: Floats, scenes: Any) -> None:
        """Learn; sets `partition_`. No picture has an error."""

    @abstractmethod
    def _log_scores(self, features: PictureFeatures) -> NDArray[np.float32]:
        """Return log-probabilities of the cells of `partition_`, (n, cells), views pooled."""

    @abstractmethod
    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what was learned: tensors (or arrays), and what JSON can hold."""

    @abstractmethod
    def _restore(self, tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Take up what `_state` gave."""

    def _asked(self, images_or_features: Any) -> PictureFeatures:
        check_is_fitted(self, "partition_")
        features = self._read(images_or_features, crops=self.crops)
        features.check(self.layout_)
        return features

    def _read(self, given: Any, *, crops: str) -> PictureFeatures:
        return read_picture_features(
            given,
            image_encoder=self.image_encoder,
            weights=self.weights,
            allow_download=self.allow_download,
            device=self.device,
            crops=crops,
            tokens=self.needs_tokens,
            progress=self.progress,
        )
