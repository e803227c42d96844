"""[L]kNN: the answer is where the most similar training pictures are densest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from geoembed.errors import OptionError, TableError
from geoembed.geodesy import EARTH_RADIUS_KM
from geoembed.geolocation.answers import Answer
from geoembed.geolocation.candidates import thin
from geoembed.scalars import is_number
from geoembed_systems.cells.adaptive import Limits, adaptive_partition
from geoembed_systems.density.grid import grid_peaks
from geoembed_systems.density.sphere import (
    Neighbours,
    densities,
    find_neighbours,
    sphere_peaks,
)
from geoembed_systems.density.spreading import LandOfMeans
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.shared.base import System
from geoembed_systems.shared.pooling import check_pooling, pool_views

__all__ = ["KNNDensity"]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

# The most similar neighbour within this distance of the maximum answers, as published.
_SNAP_KM: Final = 100.0
_DEGREE_KM: Final = np.pi / 180.0 * EARTH_RADIUS_KM
# Share of the density that is spread over the land, so that no cell is impossible.
_BACKGROUND: Final = 1e-12


class KNNDensity(System):
    """Look where the most similar training pictures were taken, and where they are densest.

    [L]kNN of Vo, Jacobs and Hays (2017): each of the 100 nearest neighbours puts a Gaussian around
    its place, weighted by 1 / distance^10. Nothing is trained; the training pictures are kept.

    Parameters
    ----------
    neighbours : int
        How many; all training pictures where there are fewer.
    sigma : float
        Standard deviation of the Gaussian, degrees of arc; 1 is 111.2 km.
    exponent : float
        How fast weights fall. The distance is squared Euclidean, between features of length 1, as
        FLANN gives it to the authors' code. At 0 all neighbours weigh the same.
    kind : {"sphere", "grid"}
        ``"sphere"`` is ours: Gaussians along great circles, compared at the neighbours themselves.
        ``"grid"`` is the original: sums in squares of a degree, blurred, then in squares of a tenth
        of a degree, for the sake of comparison. It ends at the antimeridian, and towards the poles
        its degrees of longitude shrink.
    storage : {"float32", "float16"}
        How features are kept. Half the memory and half the file; distances of close pictures lose
        digits.
    t_max, t_min : int or "auto"
        Most and fewest places in a cell of `partition_`, see `adaptive_partition`. Cells serve
        probabilities, not predictions.
    image_encoder, weights, allow_download, crops, crop_pooling, device, random_state, progress
        As `System`. Training pictures with several views are kept as the mean of these.

    Attributes
    ----------
    features_ : ndarray of shape (n, d)
        Unit vectors of the training pictures.
    places_ : ndarray of float64, shape (n, 2)
        Where those were taken.
    partition_ : Partition
        Cells of the training places.

    Notes
    -----
    Probabilities are ours. Neighbours vote for the cell that holds their place, or else for the
    one whose mean is nearest. What a cell gathers is spread as a Gaussian of `sigma` around its
    mean, over land, along great circles whatever `kind` is, and cut off beyond 3 sigma: each cell
    has what comes to lie on the land that is nearest to its own mean. So votes keep their mass,
    and a cell at the border of the training places gains none by the empty land behind it. A
    trillionth of the whole is spread evenly.

    ``score`` of `localize` is the density at a candidate, 1 where all neighbours lie at one place.
    Candidates are places of neighbours; the first is what `predict` returns.

    Scenes are not used: `fit` takes them, as it does for all systems, and leaves them alone.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> towns = np.array([[10.0, 50.0], [100.0, 15.0], [-70.0, -30.0]])
    >>> of = np.arange(90) % 3
    >>> features = np.eye(3)[of] + rng.normal(scale=0.1, size=(90, 3))
    >>> system = KNNDensity(neighbours=10).fit(features, towns[of])
    >>> system.predict(np.eye(3)).tolist()
    [[10.0, 50.0], [100.0, 15.0], [-70.0, -30.0]]
    """

    title: ClassVar[str] = "[L]kNN"

    features_: NDArray[np.floating[Any]]
    places_: Floats

    def __init__(
        self,
        *,
        neighbours: int = 100,
        sigma: float = 4.0,
        exponent: float = 10.0,
        kind: str = "sphere",
        storage: str = "float32",
        t_max: Limits = "auto",
        t_min: Limits = "auto",
        image_encoder: Any = "geoclip.v1",
        weights: str | Path | None = None,
        allow_download: bool = False,
        crops: str = "none",
        crop_pooling: str = "mean",
        device: str = "auto",
        random_state: int = 0,
        progress: bool | None = None,
    ) -> None:
        self.neighbours = neighbours
        self.sigma = sigma
        self.exponent = exponent
        self.kind = kind
        self.storage = storage
        self.t_max = t_max
        self.t_min = t_min
        self.image_encoder = image_encoder
        self.weights = weights
        self.allow_download = allow_download
        self.crops = crops
        self.crop_pooling = crop_pooling
        self.device = device
        self.random_state = random_state
        self.progress = progress

    def _fit(self, features: PictureFeatures, lonlat: Floats, scenes: Any) -> None:
        self._check_options()
        partition = adaptive_partition(lonlat, t_max=self.t_max, t_min=self.t_min)
        views = _unit(features)
        mean = views.mean(axis=1) if features.views > 1 else views[:, 0]
        self.features_ = _normalised(mean, features.names).astype(self.storage)
        self.places_ = np.array(lonlat, dtype=np.float64)
        self.partition_ = partition

    def _predict(self, features: PictureFeatures) -> Floats:
        return self._peaks(self._neighbours_of(features))

    def _peaks(self, found: Neighbours) -> Floats:
        if self.kind == "grid":
            return grid_peaks(found, sigma=self.sigma, pooling=self.crop_pooling, snap_km=_SNAP_KM)
        return sphere_peaks(found, **self._kernels, snap_km=_SNAP_KM)

    def _answers(
        self,
        features: PictureFeatures,
        log_scores: NDArray[np.float32],
        top_k: int,
        distinct_km: float,
    ) -> list[Answer]:
        """Return the places of neighbours where they are densest, what `predict` says first."""
        found = self._neighbours_of(features)
        first = self._peaks(found)
        candidates = np.concatenate([first[:, None], found.lonlat], axis=1)
        scores = densities(found, candidates, **self._kernels)
        if self.kind == "sphere":
            # The answer stands for the maximum that it was chosen for.
            scores[:, 0] = scores.max(axis=1)
        answers = []
        for lonlat, density in zip(candidates, scores, strict=True):
            order = np.append(0, 1 + np.argsort(-density[1:], kind="stable"))
            # A place is a candidate once, however many pictures were taken there.
            once = np.sort(np.unique(lonlat[order], axis=0, return_index=True)[1])
            order = order[once]
            kept = order[thin(lonlat[order], top_k, distinct_km)]
            answers.append((density[kept], lonlat[kept]))
        return answers

    def _log_scores(self, features: PictureFeatures) -> NDArray[np.float32]:
        """Return the logarithm of the mass of the votes in every cell, spread over land."""
        found = self._neighbours_of(features)
        spread, land = self._spread
        mass = (_votes(found, self._vote_of(found), len(land)) @ spread).toarray()
        logs = np.log((1.0 - _BACKGROUND) * mass + _BACKGROUND * land)
        views = logs.reshape(len(found), found.views, -1).astype(np.float32)
        return pool_views(views, self.crop_pooling)

    def _vote_of(self, found: Neighbours) -> Rows:
        """Return the cell that each neighbour votes for, (m, J)."""
        kept: Rows | None = self.__dict__.get("_kept_cells")
        if kept is None:
            kept = self.partition_.locate(self.places_)
            outside = kept < 0
            kept[outside] = self.partition_.nearest(self.places_[outside])
            self._kept_cells = kept
        return np.asarray(kept[found.rows])

    @property
    def _spread(self) -> tuple[csr_array, Floats]:
        """Where votes for each cell go, and shares of land; kept, for it takes a second."""
        sigma_km = self._kernels["sigma_km"]
        kept: tuple[float, csr_array, Floats] | None = self.__dict__.get("_kept_spread")
        if kept is None or kept[0] != sigma_km:
            land = LandOfMeans(self.partition_.means)
            kept = (sigma_km, land.spread(sigma_km), land.km2 / land.km2.sum())
            self._kept_spread = kept
        return kept[1:]

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"features": self.features_, "places": self.places_}, {}

    def _restore(self, tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self.features_ = np.asarray(tensors["features"])
        self.places_ = np.asarray(tensors["places"])

    @property
    def _kernels(self) -> dict[str, Any]:
        return {"sigma_km": float(self.sigma * _DEGREE_KM), "pooling": self.crop_pooling}

    def _neighbours_of(self, features: PictureFeatures) -> Neighbours:
        self._check_options()
        return find_neighbours(
            _unit(features),
            self.features_,
            self.places_,
            neighbours=self.neighbours,
            exponent=self.exponent,
            device=self.device,
        )

    def _check_options(self) -> None:
        check_pooling(self.crop_pooling)
        whole = isinstance(self.neighbours, int | np.integer)
        if not whole or isinstance(self.neighbours, bool) or self.neighbours < 1:
            raise OptionError(
                f"neighbours={self.neighbours!r} does not fit: give a number of 1 or more."
            )
        for name, positive in (("sigma", True), ("exponent", False)):
            value = getattr(self, name)
            if (
                not is_number(value)
                or not np.isfinite(value)
                or value < 0
                or (positive and value == 0)
            ):
                wanted = "above 0" if positive else "of 0 or more"
                raise OptionError(f"{name}={value!r} does not fit: give a number {wanted}.")
        for name, offered in (
            ("kind", ("sphere", "grid")),
            ("storage", ("float32", "float16")),
        ):
            value = getattr(self, name)
            if value not in offered:
                choice = " or ".join(map(repr, offered))
                raise OptionError(f"{name}={value!r} is not offered: give {choice}.")


def _unit(features: PictureFeatures) -> NDArray[np.float32]:
    """Return every view as a vector of length 1, (n, V, d)."""
    return _normalised(features.pooled, features.names)


def _normalised(vectors: NDArray[np.float32], names: Any) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    bad = np.flatnonzero(~(lengths > 0.0).reshape(len(vectors), -1).all(axis=1))
    if len(bad):
        raise TableError(
            f"Features of {len(bad):,} of {len(vectors):,} pictures are all 0, so nothing is like "
            f"them; the first is {names[bad[0]]!r}. Leave these pictures out."
        )
    return np.asarray(vectors / lengths, dtype=np.float32)


def _votes(found: Neighbours, cell: Rows, width: int) -> csr_array:
    """Sum the weights of every view of every picture by cell, (m * V, width); `cell` is (m, J)."""
    picture, view, at = np.nonzero(found.weights)
    rows = picture * found.views + view
    shape = (len(found) * found.views, width)
    return csr_array((found.weights[picture, view, at], (rows, cell[picture, at])), shape=shape)
