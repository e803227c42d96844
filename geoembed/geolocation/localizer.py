"""From photographs and texts to places: the estimator."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import geopandas as gpd
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from geoembed.coordinates import read_places
from geoembed.errors import CoordinateError, OptionError
from geoembed.galleries import Gallery
from geoembed.galleries.index import Found
from geoembed.geodesy import distance_km
from geoembed.geolocation.answers import Answer, answers_frame
from geoembed.geolocation.calibration import Assessment
from geoembed.geolocation.candidates import distinct_of_scores, distinct_rows, thin
from geoembed.geolocation.mapping import Mapping
from geoembed.geolocation.refining import refine as refine_places
from geoembed.geolocation.scoring import score_blocks
from geoembed.geolocation.trusting import Trusting
from geoembed.scalars import check_count, is_number

__all__ = ["GeoLocalizer"]

# Places that a refinement starts from; more find no better ones (docs/figures/known_truth.md).
_STARTS: Final = 12


class GeoLocalizer(Mapping, Trusting, BaseEstimator):  # type: ignore[misc]
    """Find where photographs were taken, and where texts could be.

    A query's vector is compared with those of all places of a gallery, which are encoded once and
    kept. Nothing is learned by `fit`: the encoders are trained.

    Parameters
    ----------
    gallery : str, Path or Gallery
        Registered name (then encoded with what `image_encoder` goes with), a saved gallery's
        folder, or a gallery.
    image_encoder : str, Path or ImageEncoder
        Registered name of what turns pictures and texts into vectors, the folder of a trained
        model, or a loaded one. It is loaded when a picture or text is first met.
    weights : str or Path, optional
        File or folder with the weights of the image encoder's tower.
    allow_download : bool
        Whether those weights may be downloaded if they are not on this machine.
    index : str
        Registered name of how the gallery is searched. An approximate one saves time where no
        radii are asked for: they need the scores of all places.
    tta : {"none", "five", "ten-crop"}
        Views of a picture whose scores are averaged; ``"ten-crop"`` is what the paper reports and
        takes ten times as long.
    device : str
        ``"auto"`` (CUDA, else MPS, else the CPU) or a device name.
    precision : {"float32", "bfloat16", "float16"}
        What the tower computes in.
    batch_size : int, optional
        Views encoded at a time.
    workers : int, optional
        Threads that decode pictures beside the model.
    calibration : Calibration, str or Path, optional
        What `calibrate` learned, or the file that it was saved to; radii then hold the truth as
        often as they say.
    progress : bool, optional
        Show progress bars; None shows them on a terminal when the work is long.

    Attributes
    ----------
    gallery_ : Gallery
        In use.
    image_encoder_ : ImageEncoder
        What encodes pictures and texts; loaded when first asked for.
    calibration_ : Calibration
        What `calibrate` learned; only after it was called.

    Examples
    --------
    >>> import geoembed as ge
    >>> localizer = ge.GeoLocalizer("cities").fit()
    >>> rio = ge.encode(lon=[-43.2], lat=[-22.9], normalize=True)
    >>> localizer.localize(vectors=rio, top_k=1)["place"].tolist()
    ['Rio de Janeiro, Brazil']
    """

    def __init__(
        self,
        gallery: Any = "geoclip.100k",
        *,
        image_encoder: Any = "geoclip.v1",
        weights: str | Path | None = None,
        allow_download: bool = False,
        index: str = "exact",
        tta: str = "none",
        device: str = "auto",
        precision: str = "float32",
        batch_size: int | None = None,
        workers: int | None = None,
        calibration: Any = None,
        progress: bool | None = None,
    ) -> None:
        self.gallery = gallery
        self.image_encoder = image_encoder
        self.weights = weights
        self.allow_download = allow_download
        self.index = index
        self.tta = tta
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.workers = workers
        self.calibration = calibration
        self.progress = progress

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Load the gallery; encode it if no cache has it.

        Parameters
        ----------
        X, y : ignored
            There for scikit-learn's sake.

        Returns
        -------
        GeoLocalizer
            Itself.
        """
        self.gallery_ = self._load_gallery()
        return self

    def localize(
        self,
        images: Any = None,
        *,
        text: str | Sequence[str] | None = None,
        vectors: ArrayLike | None = None,
        top_k: int = 5,
        within: Any = None,
        tta: str | None = None,
        distinct_km: float = 25.0,
        refine: bool = False,
        groups: Sequence[Hashable] | None = None,
        column: Any = None,
        radii: bool = True,
    ) -> gpd.GeoDataFrame:
        """Find the most likely places of photographs or texts.

        Parameters
        ----------
        images : path, folder, picture, or many of them; ImageEmbeddings or Queries
            As in `ask`.
        text : str or sequence of str
            Texts instead, such as ``"a fjord in winter"``.
        vectors : array of shape (n, d)
            Vectors instead, of any length, such as those of `geoembed.encode`.
        top_k : int
            Candidates a query at most; fewer are given where no more places are far enough apart.
        within : GeoDataFrame, GeoSeries or geometry, optional
            Only places in these polygons are considered. Radii are not calibrated then.
        tta : {"none", "five", "ten-crop"}, optional
            Views of a picture; the localizer's own if not given.
        distinct_km : float
            Least distance between two candidates of a query, on the ellipsoid.
        refine : bool
            Search beyond the gallery's places, around the best of them. It may change the first
            answer. Radii are calibrated only where `calibrate` was given the same.
        groups : sequence of length n, optional
            What each photograph belongs to: several of one group are one query.
        column : str, optional
            Column of a table that holds paths or pictures.
        radii : bool
            Whether to say how sure first answers are, which takes some hundredths of a second a
            query.

        Returns
        -------
        GeoDataFrame
            EPSG:4326, one row a candidate, best first, with the columns ``query`` (name of the
            picture, or the text), ``rank`` (from 1), ``score`` (cosine similarity, no
            probability), ``lon``, ``lat``, ``place`` (nearest city of 50,000 people or more, and
            country), ``place_km`` (how far that city is), ``radius_50_km`` and ``radius_90_km``
            (how far around the first answer the truth lies in half and in nine tenths of all
            cases; NaN for other ranks), ``calibrated`` (whether those radii rest on held-out
            photographs: if not, they are those of the model's own density, and how often they
            hold the truth is not known), ``no_signal`` (whether the picture tells no more than
            noise does; missing without a calibration), ``error`` and ``geometry``. A picture that
            cannot be read has one row with an error and no place.

        Raises
        ------
        OptionError
            If not exactly one of images, text and vectors is given, or an option is outside its
            range.
        CoordinateError
            If no place of the gallery lies in `within`.
        MissingWeightsError
            If pictures or texts are given and the tower's weights are not on this machine.

        Examples
        --------
        >>> import geoembed as ge
        >>> localizer = ge.GeoLocalizer("cities").fit()
        >>> lima = ge.encode(lon=[-77.04], lat=[-12.05], normalize=True)
        >>> localizer.localize(vectors=lima, top_k=2, distinct_km=100)["place"].tolist()
        ['Lima, Peru', 'Huacho, Peru']
        """
        check_is_fitted(self, "gallery_")
        check_count("top_k", top_k)
        _check_km("distinct_km", distinct_km)
        if top_k > len(self.gallery_):
            raise OptionError(
                f"top_k={top_k:,} is more than the gallery's {len(self.gallery_):,} places."
            )
        rows = None if within is None else self.gallery_.places.rows_within(within)
        queries = self.ask(
            images, text=text, vectors=vectors, tta=tta, column=column, groups=groups
        )
        good = queries.vectors[queries.good]
        wanted = max(top_k, _STARTS) if refine else top_k

        def refined(vectors: NDArray[np.float32], answers: list[Answer]) -> list[Answer]:
            return self._refine(vectors, answers, within, top_k, distinct_km) if refine else answers

        if not radii or not len(good):
            answers = refined(good, self._search(good, wanted, distinct_km, rows))
            return answers_frame(queries, answers, None)
        # Radii need the score of every place: with those at hand, no search is needed.
        gallery = self.gallery_ if rows is None else self.gallery_.take(rows)
        answers, parts, judge = [], [], self._judge(gallery, within, refine)
        for some, scores in score_blocks(good, gallery.embeddings):
            best = (
                self._pick(gallery, scores, wanted, distinct_km)
                if self.index == "exact"
                else self._search(good[some], wanted, distinct_km, rows)
            )
            best = refined(good[some], best)
            parts.append(judge(scores, np.stack([lonlat[0] for _, lonlat in best])))
            answers += best
        return answers_frame(queries, answers, Assessment.joined(parts))

    def _first_answers(self, vectors: NDArray[np.float32], refine: bool) -> NDArray[np.float64]:
        answers = self._search(vectors, _STARTS if refine else 1, 25.0 * refine)
        if refine:
            answers = self._refine(vectors, answers, None, 1, 0.0)
        return np.stack([lonlat[0] for _, lonlat in answers])

    def _search(
        self, vectors: NDArray[np.float32], top_k: int, distinct_km: float, rows: Any = None
    ) -> list[Answer]:
        """Return scores and places of the gallery's best for every vector, perhaps of a part."""
        lonlat = self.gallery_.lonlat if rows is None else self.gallery_.lonlat[rows]

        def search(some: NDArray[np.float32], k: int) -> Found:
            # The whole gallery's index is asked, for its parts have none.
            scores, found = self.gallery_.search(some, k, index=self.index, rows=rows)
            return scores, found if rows is None else np.searchsorted(rows, found)

        found = distinct_rows(search, vectors, lonlat, top_k, distinct_km)
        return [(scores, lonlat[best]) for scores, best in found]

    def _pick(
        self, gallery: Gallery, scores: NDArray[np.float32], top_k: int, distinct_km: float
    ) -> list[Answer]:
        """Do the same where the scores of all places are there."""
        found = distinct_of_scores(scores, gallery.lonlat, top_k, distinct_km)
        return [(best, gallery.lonlat[rows]) for best, rows in found]

    def _refine(
        self,
        vectors: NDArray[np.float32],
        starts: list[Answer],
        within: Any,
        top_k: int,
        distinct_km: float,
    ) -> list[Answer]:
        """Search around the gallery's best, and order what is found anew."""
        if not len(vectors):
            return []
        found = refine_places(
            vectors, [places for _, places in starts], self._location_encoder, within=within
        )
        kept = [thin(one.lonlat, top_k, distinct_km) for one in found]
        return [(one.scores[rows], one.lonlat[rows]) for one, rows in zip(found, kept, strict=True)]

    def kneighbors(
        self,
        images: Any = None,
        n_neighbors: int = 5,
        *,
        text: str | Sequence[str] | None = None,
        vectors: ArrayLike | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the gallery's rows that are most similar, however close together they lie.

        Parameters
        ----------
        images, text, vectors
            As in `localize`.
        n_neighbors : int
            How many rows a query.

        Returns
        -------
        scores : array of shape (m, n_neighbors), float32
            Cosine similarities, falling; NaN for a picture with an error.
        rows : array of shape (m, n_neighbors), int64
            Positions in `gallery_`; -1 for a picture with an error.
        """
        check_is_fitted(self, "gallery_")
        check_count("n_neighbors", n_neighbors)
        if n_neighbors > len(self.gallery_):
            raise OptionError(
                f"n_neighbors={n_neighbors:,} is more than the gallery's {len(self.gallery_):,} "
                "places."
            )
        queries = self.ask(images, text=text, vectors=vectors)
        queries.tell()
        scores = np.full((len(queries), n_neighbors), np.nan, dtype=np.float32)
        rows = np.full((len(queries), n_neighbors), -1, dtype=np.int64)
        good = queries.good
        if good.any():
            found = self.gallery_.search(queries.vectors[good], n_neighbors, index=self.index)
            scores[good], rows[good] = found
        return scores, rows

    def predict(self, images: Any) -> NDArray[np.float64]:
        """Predict where photographs were taken: the gallery's best place for each.

        Parameters
        ----------
        images : path, folder, picture, or many of them
            As in `localize`.

        Returns
        -------
        array of shape (n, 2), float64
            Longitude and latitude, degrees, WGS 84; NaN where a picture cannot be read.
        """
        return self._best(self.kneighbors(images, 1)[1])

    def predict_vectors(self, vectors: ArrayLike) -> NDArray[np.float64]:
        """Predict places from vectors, such as those of `encode`.

        Parameters
        ----------
        vectors : array of shape (n, d)
            In the space of the gallery.

        Returns
        -------
        array of shape (n, 2), float64
            Longitude and latitude, degrees, WGS 84; NaN where a vector is not finite.
        """
        return self._best(self.kneighbors(n_neighbors=1, vectors=vectors)[1])

    def score(self, images: Any, truth: Any, threshold_km: float = 25.0) -> float:
        """Return the share of photographs whose first answer is near enough to the truth.

        Parameters
        ----------
        images : path, folder, picture, or many of them
            As in `localize`.
        truth : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Where they were taken, one place a picture, in order.
        threshold_km : float
            Near enough, on the ellipsoid.

        Returns
        -------
        float
            In [0, 1]. A picture that cannot be read counts as a miss.
        """
        _check_km("threshold_km", threshold_km)
        lonlat = read_places(truth).lonlat
        found = self.predict(images)
        if len(found) != len(lonlat):
            raise CoordinateError(
                f"truth has {len(lonlat):,} places and there are {len(found):,} pictures: give one "
                "place a picture, in order."
            )
        away = distance_km(found[:, 0], found[:, 1], lonlat[:, 0], lonlat[:, 1])
        return float(np.mean(away <= threshold_km))

    def _best(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        first = rows[:, :1]
        return np.where(first < 0, np.nan, self.gallery_.lonlat[first[:, 0]])


def _check_km(name: str, value: Any) -> None:
    if not is_number(value) or not 0 <= value < np.inf:
        raise OptionError(f"{name}={value!r} does not fit: give kilometres, 0 or more.")
