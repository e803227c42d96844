"""What a fitted system answers: places, cells, probabilities, the core's table of candidates."""

from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from geoembed.geodesy import distance_km
from geoembed.geolocation.answers import Answer, answers_frame
from geoembed.geolocation.calibration import Assessment
from geoembed.scalars import check_count
from geoembed_systems.shared.inputs import check_km, check_places
from geoembed_systems.shared.trusting import Trusting

__all__ = ["Answering"]


class Answering(Trusting):
    """What a system answers; see `geoembed_systems.shared.base.System`."""

    def predict(self, images_or_features: Any, scenes: Any = None) -> NDArray[np.float64]:
        """Predict where pictures were taken.

        Parameters
        ----------
        images_or_features : pictures, array of shape (n, d) or (n, V, d), or PictureFeatures
            As `fit` takes them; the views of a picture are pooled.
        scenes : array of shape (n,), optional
            What each shows, where it is known; only for systems that choose by scene.

        Returns
        -------
        array of shape (n, 2), float64
            Longitude and latitude, degrees, WGS 84; NaN where a picture has no features, with a
            warning.

        Raises
        ------
        NotFittedError
            Before `fit`.
        OptionError
            If features are of another layout than those it has learned from, or a scene was not
            among those learned.
        """
        features, known = self._asked(images_or_features, scenes)
        self._queries(features).tell()
        found = np.full((len(features), 2), np.nan)
        for rows, some, labels in self._blocks(features, known):
            if labels is None:
                found[rows] = self._predict(some)
            else:
                found[rows] = self._means(self._routed(some, labels).argmax(axis=1))
        return found

    def predict_proba(self, images_or_features: Any, scenes: Any = None) -> NDArray[np.float32]:
        """Return the probability of every cell.

        Parameters
        ----------
        images_or_features, scenes
            As `predict` takes them.

        Returns
        -------
        array of shape (n, cells), float32
            As the rows of ``partition_``; they sum to 1. NaN where a picture has no features.
        """
        features, known = self._asked(images_or_features, scenes)
        self._queries(features).tell()
        found = np.full((len(features), len(self.partition_)), np.nan, dtype=np.float32)
        for rows, some, labels in self._blocks(features, known):
            found[rows] = np.exp(self._routed(some, labels))
        return found

    def predict_cells(self, images_or_features: Any, scenes: Any = None) -> NDArray[np.int64]:
        """Return the likeliest cell of every picture.

        Parameters
        ----------
        images_or_features, scenes
            As `predict` takes them.

        Returns
        -------
        array of shape (n,), int64
            Rows of ``partition_``; -1 where a picture has no features.
        """
        features, known = self._asked(images_or_features, scenes)
        self._queries(features).tell()
        found = np.full(len(features), -1, dtype=np.int64)
        for rows, some, labels in self._blocks(features, known):
            found[rows] = self._routed(some, labels).argmax(axis=1)
        return found

    def localize(
        self,
        images_or_features: Any,
        scenes: Any = None,
        *,
        top_k: int = 5,
        distinct_km: float = 25.0,
        radii: bool = True,
    ) -> gpd.GeoDataFrame:
        """Find the most likely places of pictures.

        Parameters
        ----------
        images_or_features, scenes
            As `predict` takes them.
        top_k : int
            Candidates a picture at most; fewer where no more are far enough apart.
        distinct_km : float
            Least distance between two candidates of a picture, on the ellipsoid.
        radii : bool
            Whether to say how sure first answers are, which takes some hundredths of a second a
            picture.

        Returns
        -------
        GeoDataFrame
            The columns of `geoembed.GeoLocalizer.localize`, EPSG:4326, one row a candidate, best
            first. ``score`` is the probability of the candidate's cell. A picture without
            features has one row with an error and no place.

        Raises
        ------
        OptionError
            If an option is outside its range, and as `predict`.
        """
        check_count("top_k", top_k)
        check_km("distinct_km", distinct_km)
        features, known = self._asked(images_or_features, scenes)
        answers: list[Answer] = []
        parts: list[Assessment] = []
        for _, some, labels in self._blocks(features, known):
            log_scores = self._routed(some, labels)
            best = self._answers(some, log_scores, top_k, distinct_km)
            if radii:
                first = np.stack([lonlat[0] for _, lonlat in best])
                parts += self._assess(log_scores, first)
            answers += best
        return answers_frame(
            self._queries(features), answers, Assessment.joined(parts) if parts else None
        )

    def score(
        self, images_or_features: Any, points: Any, scenes: Any = None, threshold_km: float = 25.0
    ) -> float:
        """Return the share of pictures whose answer is near enough to the truth.

        Parameters
        ----------
        images_or_features, scenes
            As `predict` takes them.
        points : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Where they were taken, one place a picture, in order.
        threshold_km : float
            Near enough, on the ellipsoid.

        Returns
        -------
        float
            In [0, 1]. A picture without features counts as a miss.

        Raises
        ------
        CoordinateError
            If there is not one place a picture.
        """
        check_km("threshold_km", threshold_km)
        found = self.predict(images_or_features, scenes)
        lonlat = check_places(points, len(found))
        away = distance_km(found[:, 0], found[:, 1], lonlat[:, 0], lonlat[:, 1])
        return float(np.mean(away <= threshold_km))
