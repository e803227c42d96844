"""How far a system's answers can be trusted: its probabilities on the core's density."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import KDTree

from geoembed.errors import OptionError
from geoembed.geodesy import to_unit_vectors
from geoembed.geolocation.calibration import Assessment, Calibration, assess_scores, calibrate
from geoembed.geolocation.density import EarthDensity
from geoembed.geolocation.regions import credible_regions
from geoembed.geolocation.temperature import Temperature
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.shared.contract import Contract
from geoembed_systems.shared.inputs import check_places

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CellDensity", "Trusting", "density_slices"]

Floats = NDArray[np.float64]

# Beside the likeliest cell of a picture, what is less is nothing: a score must be finite.
_NOTHING: Final = 1e-35
# The Earth has 64,626 cells of 50 km with land: so many values of all of them are 32 MB an array,
# and a handful of arrays are held at a time.
_VALUES_AT_ONCE: Final = 4_000_000


def density_slices(pictures: int, density: EarthDensity) -> Iterator[slice]:
    """Cut pictures into parts whose probabilities of all cells of the Earth fit into memory.

    Parameters
    ----------
    pictures : int
        How many there are.
    density : EarthDensity
        Whose cells are asked for.

    Yields
    ------
    slice
        Of the pictures, in order.

    Examples
    --------
    >>> density = EarthDensity([[2.35, 48.86]], cell_km=500)
    >>> [part.stop - part.start for part in density_slices(7_000, density)]
    [4008, 2992]
    """
    step = max(1, _VALUES_AT_ONCE // len(density))
    for start in range(0, pictures, step):
        yield slice(start, min(start + step, pictures))


class CellDensity:
    """Probabilities of cells as scores of the core's density over the Earth.

    The probability of a cell is spread over the land that is nearest to its mean. With the
    temperature 1 the density holds there exactly what the system says; another one sharpens or
    flattens it.

    Parameters
    ----------
    means : array of shape (cells, 2)
        Degrees, WGS 84. Cells of one mean become one place.

    Attributes
    ----------
    earth : EarthDensity
        Of the distinct means.

    Examples
    --------
    >>> from geoembed.geodesy import to_unit_vectors
    >>> means = np.array([[2.35, 48.86], [-58.4, -34.6]])
    >>> density = CellDensity(means)
    >>> earth = density.earth
    >>> mass = earth.probabilities(density.scores(np.log([[0.25, 0.75]])), tau=1.0)
    >>> centres = to_unit_vectors(earth.cells.centres(earth.cell))
    >>> nearest = (centres @ to_unit_vectors(means).T).argmax(axis=1)
    >>> [round(float(mass[0, nearest == cell].sum()), 6) for cell in (0, 1)]
    [0.25, 0.75]
    """

    def __init__(self, means: Floats) -> None:
        # Adding 0.0 turns -0.0 into 0.0.
        distinct, place = np.unique(means + 0.0, axis=0, return_inverse=True)
        self.earth = EarthDensity(distinct)
        # The places are distinct and in order, so its rows are theirs.
        self._log_km2 = np.log(self.earth.place_km2)
        centres = to_unit_vectors(self.earth.cells.centres(self.earth.cell))
        self._chords: Floats = KDTree(to_unit_vectors(distinct)).query(centres)[0]
        cells = np.arange(len(means))
        self._places = csr_array(
            (np.ones(len(means)), (cells, place.ravel())), shape=(len(means), len(distinct))
        )

    def scores(self, log_p: NDArray[np.floating]) -> NDArray[np.float32]:
        """Turn log-probabilities of cells into scores of places.

        Parameters
        ----------
        log_p : array of shape (m, cells)
            -inf where a cell is impossible, one of each row finite.

        Returns
        -------
        array of shape (m, places), float32
            For `EarthDensity`, finite.
        """
        exact = np.asarray(log_p, dtype=np.float64)
        p = np.exp(exact - exact.max(axis=1, keepdims=True)) @ self._places
        return np.asarray(np.log(np.maximum(p, _NOTHING)) - self._log_km2, dtype=np.float32)

    def around_means(self, mass: Floats) -> Floats:
        """Make what lies nearer to a mean a millionth denser, so that regions grow around means.

        Parameters
        ----------
        mass : array of shape (m, c)
            Probabilities of the cells of `earth`: of one cell's land all equally dense.

        Returns
        -------
        array of shape (m, c), float64
            Two millionths less at most.
        """
        return np.asarray(mass * (1.0 - 1e-6 * self._chords))


class Trusting(Contract):
    """What a system knows of its own errors; see `geoembed_systems.shared.base.System`."""

    def calibrate(
        self, images_or_features: Any, points: Any, *, random_state: int = 0
    ) -> Calibration:
        """Learn from held-out pictures how far off answers are.

        Parameters
        ----------
        images_or_features
            As `predict` takes them; such as those to come, and none that the system was fitted
            on. A few hundred make radii steady; 30 is the least.
        points : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Where they were taken, one place a picture, in order.
        random_state : int
            Decides which pairs fit the temperature and which the radii.

        Returns
        -------
        Calibration
            Used by this system from now on, and saved with it.

        Raises
        ------
        CoordinateError
            If there is not one place a picture.
        OptionError
            If fewer than 30 pictures have features.

        Notes
        -----
        Whether a picture says anything at all is not told: ``no_signal`` of `localize` is missing
        with a calibration too. The core's test takes for noise what is no surer than features
        dealt out anew, and the systems are sure of those as well: of 501 held-out satellite crops
        it would flag 66 to 81 % with PlaNet, by its cells, and 89 % with [L]kNN. How far an answer
        can be trusted, its radii say.
        """
        features, _ = self._asked(images_or_features)
        self._queries(features).tell()
        lonlat = check_places(points, len(features))[features.good]
        asked = features.take(features.good)
        predicted = [self._predict(some) for _, some, _ in self._blocks(asked)]
        learned = calibrate(
            self._density.earth,
            self._place_scores(asked),
            None,
            lonlat,
            np.concatenate([np.empty((0, 2)), *predicted]),
            seed=random_state,
        )
        self.calibration_ = replace(learned, signal=None, gallery=self.partition_.digest)
        return self.calibration_

    def regions(
        self, images_or_features: Any, scenes: Any = None, *, shares: Sequence[float] = (0.5, 0.9)
    ) -> gpd.GeoDataFrame:
        """Return the smallest parts of the Earth that hold shares of the probability.

        Parameters
        ----------
        images_or_features, scenes
            As `predict` takes them.
        shares : sequence of float
            Strictly between 0 and 1.

        Returns
        -------
        GeoDataFrame
            The columns of `geoembed.GeoLocalizer.regions`, EPSG:4326, a row a picture and share:
            ``query``, ``share``, ``mass``, ``area_km2``, ``calibrated`` and ``geometry``.
            Pictures without features are left out, with a warning. Of land that is equally
            probable, what lies nearest to the mean of its cell is taken first.

        Raises
        ------
        OptionError
            If no picture has features, or a share is out of range.
        """
        features, known = self._asked(images_or_features, scenes)
        self._queries(features).tell()
        parts = [
            credible_regions(
                self._density.earth,
                self._density.around_means(mass),
                shares=shares,
                names=[features.names[row] for row in rows],
            )
            for rows, mass in self._masses(features, known)
        ]
        if not parts:
            raise OptionError("No picture has features: there is nothing to draw regions of.")
        found = gpd.GeoDataFrame(pd.concat(parts, ignore_index=True), crs="EPSG:4326")
        found.insert(4, "calibrated", self._calibration.calibrated)
        return found

    def probability_map(self, images_or_features: Any, scenes: Any = None, **style: Any) -> "Axes":
        """Show where on Earth a picture may have been taken: the density of the probability.

        Parameters
        ----------
        images_or_features, scenes
            One picture, as `predict` takes it.
        **style
            Options of `geoembed_systems.shared.maps.density_map`: ``ax``, ``extent``, ``cmap`` and
            ``title``.

        Returns
        -------
        matplotlib.axes.Axes
            The map; ``ax.figure.savefig("map.png")`` writes it.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        OptionError
            If there is not exactly one picture, or it has no features.
        """
        # Answering needs no matplotlib.
        from geoembed_systems.shared.maps import density_map

        features, known = self._asked(images_or_features, scenes)
        if len(features) != 1:
            raise OptionError(
                f"A map shows one picture, and {len(features):,} were given: draw one map each."
            )
        if features.errors[0]:
            raise OptionError(f"{features.names[0]} cannot be mapped: {features.errors[0]}")
        [(_, mass)] = self._masses(features, known)
        return density_map(self._density.earth, mass[0], **style)

    def _masses(self, features: PictureFeatures, scenes: Any) -> Iterator[tuple[Any, Floats]]:
        """Yield rows and probabilities of the density's cells, some pictures at a time."""
        tau = self._calibration.temperature.tau
        density = self._density
        for rows, some, labels in self._blocks(features, scenes):
            log_p = self._routed(some, labels)
            for part in density_slices(len(rows), density.earth):
                scores = density.scores(log_p[part])
                yield rows[part], density.earth.probabilities(scores, tau=tau)

    def _assess(self, log_p: NDArray[np.float32], predicted: Floats) -> list[Assessment]:
        """Say how sure answers (m, 2) are, by the log-probabilities of cells (m, cells)."""
        density, known = self._density, self._calibration
        return [
            assess_scores(density.earth, density.scores(log_p[part]), predicted[part], known)
            for part in density_slices(len(log_p), density.earth)
        ]

    def _place_scores(self, features: PictureFeatures) -> NDArray[np.float32]:
        blocks = [
            self._density.scores(self._log_scores(some)) for _, some, _ in self._blocks(features)
        ]
        empty = np.empty((0, len(self._density.earth.rows)), dtype=np.float32)
        return np.concatenate([empty, *blocks])

    @property
    def _calibration(self) -> Calibration:
        """What was learned; else the system's own probabilities, which promise nothing."""
        learned: Calibration | None = getattr(self, "calibration_", None)
        return Calibration(Temperature(1.0)) if learned is None else learned

    @property
    def _density(self) -> CellDensity:
        """The density of the cells; kept, for it takes seconds."""
        kept: tuple[str, CellDensity] | None = self.__dict__.get("_kept_density")
        if kept is None or kept[0] != self.partition_.digest:
            kept = (self.partition_.digest, CellDensity(self.partition_.means))
            self._kept_density = kept
        return kept[1]
