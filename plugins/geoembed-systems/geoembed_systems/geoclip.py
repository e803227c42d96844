"""GeoCLIP: pictures and places learn one space, and a gallery of places is searched in it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import geopandas as gpd
import numpy as np
import torch
from numpy.typing import NDArray

from geoembed.errors import CoordinateError, OptionError
from geoembed.galleries import Gallery, GalleryPlaces
from geoembed.geolocation.calibration import Calibration
from geoembed.geolocation.queries import Queries
from geoembed.geolocation.scoring import score_blocks
from geoembed.training.loop import RunResult
from geoembed.training.memory_data import FeatureArray
from geoembed_systems.cells.adaptive import adaptive_partition
from geoembed_systems.pair.localizing import (
    GalleryDensity,
    SidesLocalizer,
    cell_areas,
    cell_log_shares,
    gallery_places,
)
from geoembed_systems.pair.sides import TrainedSides
from geoembed_systems.pair.training import backbone_name, geoclip_settings, train_sides
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.shared.base import System
from geoembed_systems.shared.trusting import CellDensity, density_slices

__all__ = ["GeoCLIP"]

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]


class GeoCLIP(System):
    """GeoCLIP (Vivanco Cepeda et al., NeurIPS 2023) on features of a frozen tower.

    A network for places and layers on top of the features learn, by contrast against the other
    places of a batch and a queue of earlier ones, to give a picture and its place like vectors.
    The answer is the place of a gallery whose vector is most similar.

    Training is the core's (`geoembed.training.train`), answers are those of
    `geoembed.GeoLocalizer`.

    Parameters
    ----------
    gallery : str, Path, Gallery or GalleryPlaces
        Where answers come from: ``"train"`` (places of the training pictures, as in the paper),
        ``"land"`` (a grid of all land), or the places of a registered gallery, of a gallery's
        folder, or of one in memory. They are encoded with the location network just trained.
    gallery_size : int
        ``"train"`` takes at most so many places, drawn at random; 0 takes all.
    spacing_km : float
        ``"land"``: of the grid.
    t_max, t_min : int or "auto"
        Limits of the cells that `predict_proba` and `predict_cells` speak of.
    recipe : str or Path
        Training settings to start from, by name or file: architecture, noise, queue and
        temperature. ``"geoclip-mp16"`` is the published one, ``"finetune-region"`` starts from
        the released weights and takes features of their tower.
    epochs, batch_size, learning_rate, weight_decay, smooth_km
        Of training; each may be None, for what the recipe says. A batch is at most all pictures.
        With a `learning_rate` weights move by AdamW under a cosine, as in the other systems; with
        None by the optimiser and schedule of the recipe.
    precision : {"float32", "bfloat16", "float16"}
        What the networks are trained in.
    run_folder : str or Path, optional
        Where the run's settings, checkpoints and metrics are kept; nowhere if not given.
    resume : bool
        Go on from the last checkpoint in `run_folder`.
    training : mapping, optional
        Settings that stand above all these, ``{"location.sigmas": [1.0, 4.0]}``. With
        ``"data.validation"`` above 0, blocks of the training places are held out and looked up
        while it trains; the weights that found most of them are kept.
    image_encoder, weights, allow_download, crops, device, random_state, progress
        As in `System`.
    crop_pooling : {"mean", "max"}
        ``"mean"`` scores a place by the mean of the cosines of a picture's views, as the authors
        do. With ``"max"`` the view speaks that is most similar to any place of the gallery, so
        that the first answer is that of the largest cosine of all views and places.

    Attributes
    ----------
    gallery_ : Gallery
        Places that answers come from, with their vectors.
    sides_ : TrainedSides
        The trained networks.
    run_ : RunResult
        What training has come to; not after loading.
    calibration_ : Calibration
        What `calibrate` learned; only after it was called.

    Notes
    -----
    Theirs: the model, the loss, the queue, noise on places, the gallery of training places and
    the mean over crops. Ours: copies of a picture's own place in the queue are no negatives, for
    the queue of few pictures soon holds each place; the queue is no longer than there are other
    places; and probabilities. `predict_proba` adds up, over the cells of an adaptive partition of
    the training places, the very density over the Earth that regions and radii come from; what
    lies in no cell counts for the one whose mean is nearest. `predict` is the gallery's best
    place, and need not lie in the likeliest cell.

    Scenes are not used: `fit` takes them, as it does for all systems, and leaves them alone.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> places = rng.uniform([-10, 36], [30, 60], (60, 2))
    >>> features = np.column_stack([places / 50.0, np.ones(60)])
    >>> small = {"location.hidden": [16], "location.frequencies": 8, "location.output": 8}
    >>> system = GeoCLIP(epochs=2, batch_size=20, training=small, progress=False)
    >>> system.fit(features, places).predict(features[:2]).shape
    (2, 2)
    """

    title: ClassVar[str] = "GeoCLIP"

    def __init__(
        self,
        gallery: Any = "train",
        *,
        gallery_size: int = 100_000,
        spacing_km: float = 100.0,
        t_max: int | str = "auto",
        t_min: int | str = "auto",
        recipe: str | Path = "geoclip-mp16",
        epochs: float | None = 30.0,
        batch_size: int | None = 256,
        learning_rate: float | None = 1e-3,
        weight_decay: float | None = 1e-2,
        smooth_km: float | None = 0.0,
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
        self.gallery = gallery
        self.gallery_size = gallery_size
        self.spacing_km = spacing_km
        self.t_max = t_max
        self.t_min = t_min
        self.recipe = recipe
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

    # -- learning ----------------------------------------------------------------------------------

    def _fit(self, features: PictureFeatures, lonlat: Floats, scenes: Any) -> None:
        places = gallery_places(
            self.gallery, lonlat, self.gallery_size, self.spacing_km, self.random_state
        )
        self.partition_ = adaptive_partition(lonlat, t_max=self.t_max, t_min=self.t_min)
        sides, self.run_ = self._train(features, lonlat)
        self._take_up(sides, sides.place_encoder(self.device).gallery(places))

    def _take_up(self, sides: TrainedSides, gallery: Gallery) -> None:
        self.sides_, self.gallery_ = sides, gallery
        for name in ("_kept_localizer", "_kept_areas"):
            self.__dict__.pop(name, None)

    def _train(self, features: PictureFeatures, lonlat: Floats) -> tuple[TrainedSides, RunResult]:
        own = {
            "seed": self.random_state,
            "image.backbone": backbone_name(self.image_encoder),
            "loop.epochs": self.epochs,
            "loop.batch": self.batch_size,
            "loop.precision": self.precision,
            "loop.device": self.device,
            "optimiser.lr": self.learning_rate,
            "optimiser.weight_decay": self.weight_decay,
            "objective.smooth_km": self.smooth_km,
        }
        if self.learning_rate is not None:
            own |= {"optimiser.name": "adamw", "optimiser.schedule": "cosine"}
        return train_sides(
            geoclip_settings(self.recipe, own, self.training or {}, len(lonlat)),
            FeatureArray(lonlat, list(features.names), features.pooled),
            folder=self.run_folder,
            resume=self.resume,
            progress=self.progress,
        )

    # -- answering ---------------------------------------------------------------------------------

    def _vectors(self, features: PictureFeatures) -> Queries:
        """Bring pictures into the space of the gallery, views pooled."""
        pooled = np.full((len(features), self.gallery_.embeddings.shape[1]), np.nan, np.float32)
        good = features.good
        if good.any():
            views = self.sides_.vectors(features.pooled[good], self.device)
            pooled[good] = self._pool(views)
        return Queries(list(features.names), pooled, list(features.errors))

    def _pool(self, views: Vectors) -> Vectors:
        n, count, width = views.shape
        if count == 1 or self.crop_pooling == "mean":
            # Shorter than 1: its products with places are the means of the cosines.
            return np.asarray(views.mean(axis=1))
        best = self.gallery_.search(views.reshape(-1, width), 1)[0].reshape(n, count)
        return np.asarray(views[np.arange(n), best.argmax(axis=1)])

    def _predict(self, features: PictureFeatures) -> Floats:
        return self._localizer.predict(self._vectors(features))

    def _log_scores(self, features: PictureFeatures) -> NDArray[np.float32]:
        localizer = self._localizer
        areas = self.__dict__.get("_kept_areas")
        if areas is None:
            areas = self._kept_areas = cell_areas(localizer.density_, self.partition_)
        vectors = self._vectors(features).vectors
        return cell_log_shares(localizer.density_, areas, vectors, self.gallery_, localizer.tau_)

    def _masses(self, features: PictureFeatures, scenes: Any) -> Iterator[tuple[Any, Floats]]:
        _refuse(scenes)
        density, tau = self._localizer.density_, self._localizer.tau_
        for rows, some, _ in self._blocks(features):
            vectors = self._vectors(some).vectors
            for part in density_slices(len(rows), density):
                for few, scores in score_blocks(vectors[part], self.gallery_.embeddings):
                    yield rows[part][few], density.probabilities(scores, tau=tau)

    @property
    def _density(self) -> CellDensity:
        return GalleryDensity(self._localizer.density_)

    @property
    def _localizer(self) -> SidesLocalizer:
        """The core's localizer, with the calibration as it is now."""
        kept: SidesLocalizer | None = self.__dict__.get("_kept_localizer")
        if kept is None:
            encoder = self.sides_.place_encoder(self.device)
            kept = self._kept_localizer = SidesLocalizer(
                self.gallery_, encoder=encoder, scale=self.sides_.scale, device=self.device
            )
        kept.calibration = getattr(self, "calibration_", None)
        return kept

    def localize(
        self,
        images_or_features: Any,
        scenes: Any = None,
        *,
        top_k: int = 5,
        distinct_km: float = 25.0,
        radii: bool = True,
        within: Any = None,
        refine: bool = False,
    ) -> gpd.GeoDataFrame:
        """Find the most likely places of pictures in the gallery, or around its best.

        Parameters
        ----------
        images_or_features : pictures, array of shape (n, d) or (n, V, d), or PictureFeatures
            As `fit` takes them.
        scenes : None
            It does not choose by scene.
        top_k, distinct_km, radii, within, refine
            As in `geoembed.GeoLocalizer.localize`.

        Returns
        -------
        GeoDataFrame
            As from `geoembed.GeoLocalizer.localize`; scores are cosines.

        Raises
        ------
        OptionError
            If features are of another layout than those it has learned from, or an option does
            not fit.
        CoordinateError
            If no place of the gallery lies in `within`.
        """
        _refuse(scenes)
        features, _ = self._asked(images_or_features)
        return self._localizer.localize(
            self._vectors(features),
            top_k=top_k,
            distinct_km=distinct_km,
            radii=radii,
            within=within,
            refine=refine,
        )

    def calibrate(
        self, images_or_features: Any, points: Any, *, random_state: int = 0
    ) -> Calibration:
        """Learn from held-out pictures how far off answers are.

        Parameters
        ----------
        images_or_features : pictures, array of shape (n, d) or (n, V, d), or PictureFeatures
            None that were trained on; 30 or more, a few hundred make radii steady.
        points : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Where they were taken, one place a picture, in order.
        random_state : int
            Decides which pairs fit the temperature and which the radii.

        Returns
        -------
        Calibration
            As from `geoembed.GeoLocalizer.calibrate`, but without its test for a signal, which
            would flag two of three held-out satellite crops; used by this system from now on, and
            saved with it.

        Raises
        ------
        CoordinateError
            If there is not one place a picture.
        OptionError
            If fewer than 30 pictures have features.
        """
        features, _ = self._asked(images_or_features)
        localizer = self._localizer
        learned = localizer.calibrate(
            self._vectors(features), truth=points, random_state=random_state
        )
        # It is this system that keeps it, and hands it on with each question.
        del localizer.calibration_
        self.calibration_ = replace(learned, signal=None)
        return self.calibration_

    # -- saving ------------------------------------------------------------------------------------

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        tensors, config = self.sides_.state()
        places, gallery = self.gallery_.places, self.gallery_
        arrays = {
            "gallery.lonlat": places.lonlat,
            "gallery.counts": places.counts,
            "gallery.embeddings": np.asarray(gallery.embeddings, dtype=np.float32),
        }
        named = {"name": places.name, "source": places.source, "version": places.version}
        return {**tensors, **arrays}, {**config, "scale": self.sides_.scale, "gallery": named}

    def _restore(self, tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        weights = {k: torch.as_tensor(v) for k, v in tensors.items() if "gallery." not in k}
        sides = TrainedSides.of_state(weights, config)
        lonlat, counts, vectors = (
            np.asarray(tensors[f"gallery.{part}"]) for part in ("lonlat", "counts", "embeddings")
        )
        if not len(lonlat) == len(counts) == len(vectors):
            raise CoordinateError(
                f"The saved gallery has {len(lonlat):,} places, {len(counts):,} counts and "
                f"{len(vectors):,} vectors: it is damaged."
            )
        places = GalleryPlaces(lonlat, counts, **config["gallery"])
        self._take_up(sides, sides.place_encoder(self.device).gallery_of(places, vectors))


def _refuse(scenes: Any) -> None:
    if scenes is not None:
        raise OptionError("GeoCLIP does not choose by scene when it answers: leave scenes= out.")
