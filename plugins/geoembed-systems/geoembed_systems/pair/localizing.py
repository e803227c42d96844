"""The core's localizer over the places of a trained GeoCLIP system, and its density by cell."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from geoembed.errors import OptionError
from geoembed.extending.registry import gallery_specs
from geoembed.galleries import Gallery, GalleryPlaces, places_of
from geoembed.galleries.builders import grid_places
from geoembed.geolocation.calibration import Assessment
from geoembed.geolocation.density import EarthDensity
from geoembed.geolocation.localizer import GeoLocalizer
from geoembed.geolocation.scoring import score_blocks
from geoembed.geolocation.trusting import Judge
from geoembed_systems.cells.adaptive import Partition
from geoembed_systems.pair.sides import PlaceEncoder
from geoembed_systems.shared.trusting import CellDensity, density_slices

__all__ = ["GalleryDensity", "SidesLocalizer", "cell_areas", "cell_log_shares", "gallery_places"]

Vectors = NDArray[np.float32]


class SidesLocalizer(GeoLocalizer):
    """A localizer whose location encoder lies in memory.

    Parameters
    ----------
    gallery : Gallery
        Encoded with `encoder`.
    encoder : PlaceEncoder
        The location side.
    scale : float
        What cosines were multiplied by in training.
    device : str
        Where the gallery is searched.

    Examples
    --------
    >>> from geoembed.encoders.architecture import LocationArchitecture
    >>> from geoembed.galleries import GalleryPlaces
    >>> made = LocationArchitecture(sigmas=(1.0,), hidden=(8,), output=4)
    >>> encoder = PlaceEncoder(made, made.build())
    >>> gallery = encoder.gallery(GalleryPlaces.of([[2.0, 48.0], [-58.0, -34.0]], name="two"))
    >>> localizer = SidesLocalizer(gallery, encoder=encoder, scale=14.0)
    >>> localizer.predict_vectors(gallery.embeddings).tolist()
    [[2.0, 48.0], [-58.0, -34.0]]
    """

    def __init__(
        self, gallery: Gallery, *, encoder: PlaceEncoder, scale: float, device: str = "auto"
    ) -> None:
        super().__init__(gallery, device=device, progress=False)
        self.encoder, self.scale = encoder, scale
        self.gallery_ = gallery

    @cached_property
    def _location_encoder(self) -> PlaceEncoder:
        return self.encoder

    def _trained_scale(self) -> float:
        return self.scale

    def _judge(self, gallery: Gallery, within: Any, refine: bool) -> Judge:
        # The core's blocks are as large as few places allow; the density has more cells.
        judge, density = super()._judge(gallery, within, refine), self._density(gallery, within)
        return lambda scores, predicted: Assessment.joined(
            [
                judge(scores[part], predicted[part])
                for part in density_slices(len(predicted), density)
            ]
        )

    @property
    def density_(self) -> EarthDensity:
        """The density over the Earth that its radii and regions come from."""
        return self._density(self.gallery_)

    @property
    def tau_(self) -> float:
        """Temperature of that density: as calibrated, else that of training."""
        return self._calibration.temperature.tau


class GalleryDensity(CellDensity):
    """The density of a gallery's own places, in place of one of cells.

    Parameters
    ----------
    earth : EarthDensity
        Of the gallery.
    """

    def __init__(self, earth: EarthDensity) -> None:
        self.earth = earth

    def scores(self, log_p: NDArray[np.floating]) -> NDArray[np.float32]:
        """Refuse: cells have no scores at the places of a gallery."""
        raise NotImplementedError("GeoCLIP scores places, and adds them up over cells.")

    def around_means(self, mass: NDArray[np.float64]) -> NDArray[np.float64]:
        """Leave probabilities as they are: places of a gallery are not means of cells.

        Parameters
        ----------
        mass : array of shape (m, c)
            Probabilities of the cells of `earth`.

        Returns
        -------
        array of shape (m, c), float64
            The same.
        """
        return mass


def gallery_places(
    given: Any, lonlat: NDArray[np.float64], size: int, spacing_km: float, seed: int
) -> GalleryPlaces:
    """Return the places that answers come from.

    Parameters
    ----------
    given : str, Path, Gallery or GalleryPlaces
        ``"train"``, ``"land"``, a registered gallery, a gallery's folder, or one in memory.
    lonlat : array of shape (n, 2), float64
        Where the training pictures were taken.
    size : int
        ``"train"`` takes at most so many places; 0 takes all.
    spacing_km : float
        ``"land"``: of the grid.
    seed : int
        Of the places that ``"train"`` takes.

    Returns
    -------
    GalleryPlaces
        Distinct ones.

    Raises
    ------
    OptionError
        If it is none of those.
    TableError
        If a folder is no gallery, or is damaged.

    Examples
    --------
    >>> lonlat = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
    >>> len(gallery_places("train", lonlat, 0, 100.0, 0))
    2
    """
    if isinstance(given, GalleryPlaces):
        return given
    if isinstance(given, Gallery):
        return given.places
    if isinstance(given, str) and given == "train":
        places = GalleryPlaces.of(lonlat, name="train", source="places of training pictures")
        if not size or len(places) <= size:
            return places
        drawn = np.random.default_rng(seed).permutation(len(places))[:size]
        return places.take(np.sort(drawn))
    if isinstance(given, str) and given == "land":
        return grid_places(spacing_km)
    if isinstance(given, str) and given in gallery_specs():
        return places_of(given)
    if isinstance(given, str | Path) and Path(given).expanduser().is_dir():
        return Gallery.load(Path(given).expanduser()).places
    raise OptionError(
        f"gallery={given!r:.60} is none of: 'train', 'land', a registered gallery "
        f"({', '.join(sorted(gallery_specs()))}), a gallery's folder, a Gallery."
    )


def cell_areas(density: EarthDensity, partition: Partition) -> csr_array:
    """Say how many square kilometres of each cell every place speaks for.

    Parameters
    ----------
    density : EarthDensity
        Of a gallery.
    partition : Partition
        A cell of the density belongs to the cell that holds its centre, else to the one whose
        mean is nearest.

    Returns
    -------
    sparse array of shape (classes, u)
        Columns as ``density.rows``; all of it sums to the area of the density's support.
    """
    centres = density.cells.centres(density.cell)
    home = partition.locate(centres)
    outside = home < 0
    home[outside] = partition.nearest(centres[outside])
    to_cell = csr_array(
        (density.areas_km2, (home, np.arange(len(density)))), shape=(len(partition), len(density))
    )
    return csr_array(to_cell @ density.means_at(centres))


def cell_log_shares(
    density: EarthDensity, areas: csr_array, vectors: Vectors, gallery: Gallery, tau: float
) -> NDArray[np.float32]:
    """Add the density up over the cells of a partition.

    Parameters
    ----------
    density : EarthDensity
        Of the gallery.
    areas : sparse array of shape (classes, u)
        Of `cell_areas`.
    vectors : array of shape (n, d), float32
        Of pictures, in the space of the gallery.
    gallery : Gallery
        Whose places are scored.
    tau : float
        Temperature.

    Returns
    -------
    array of shape (n, classes), float32
        Logarithms of probabilities; minus infinity where a cell has none.
    """
    found = np.empty((len(vectors), areas.shape[0]), dtype=np.float32)
    for some, scores in score_blocks(vectors, gallery.embeddings):
        # As EarthDensity weighs places; in float64, for shares span many powers of ten.
        picked = scores[:, density.rows].astype(np.float64)
        picked -= picked.max(axis=1, keepdims=True)
        mass = np.asarray((areas @ np.exp(picked / tau).T).T)
        with np.errstate(divide="ignore"):
            found[some] = np.log(mass / mass.sum(axis=1, keepdims=True))
    return found
