"""How far a localizer's answers can be trusted: density, radii, credible regions, calibration."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from geoembed.coordinates import read_places
from geoembed.errors import CoordinateError, OptionError
from geoembed.galleries import Gallery
from geoembed.geolocation.asking import Asking
from geoembed.geolocation.calibration import (
    Assessment,
    Calibration,
    assess_scores,
    calibrate,
)
from geoembed.geolocation.density import EarthDensity
from geoembed.geolocation.regions import credible_regions
from geoembed.geolocation.scoring import score_blocks
from geoembed.geolocation.temperature import Temperature

__all__ = ["Trusting"]

Judge = Callable[[NDArray[np.float32], NDArray[np.float64]], Assessment]


class Trusting(Asking):
    """What a localizer knows of its own errors; see `geoembed.GeoLocalizer`."""

    calibration: Any

    def calibrate(
        self,
        images: Any = None,
        truth: Any = None,
        *,
        text: str | Sequence[str] | None = None,
        vectors: ArrayLike | None = None,
        refine: bool = False,
        random_state: int = 0,
    ) -> Calibration:
        """Learn from held-out photographs how far off answers are.

        Parameters
        ----------
        images, text, vectors
            As in `localize`; such as those to come, and none that anything was trained on. A few
            hundred make radii steady; 30 is the least.
        truth : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Where they were taken, one place a query, in order.
        refine : bool
            Whether answers will be refined: calibrate as you will ask.
        random_state : int
            Decides which pairs fit the temperature and which the radii.

        Returns
        -------
        Calibration
            Used by this localizer from now on; ``calibration.save("radius.json")`` keeps it, and
            ``GeoLocalizer(calibration="radius.json")`` takes it up again.

        Raises
        ------
        CoordinateError
            If there is not one place a query.
        OptionError
            If fewer than 30 queries have a vector.

        Examples
        --------
        >>> import geoembed as ge
        >>> rng = np.random.default_rng(0)
        >>> cities = ge.data.load_cities().sample(200, random_state=0)
        >>> places = ge.encode(cities["lon"], cities["lat"], normalize=True)
        >>> photos = places + rng.normal(0, 0.02, places.shape)  # stand in for photographs
        >>> localizer = ge.GeoLocalizer("cities").fit()
        >>> localizer.calibrate(vectors=photos, truth=cities).calibrated
        True
        """
        queries = self.ask(images, text=text, vectors=vectors)
        queries.tell()
        lonlat = read_places(truth).lonlat
        if len(lonlat) != len(queries):
            raise CoordinateError(
                f"truth has {len(lonlat):,} places and there are {len(queries):,} queries: give "
                "one place a query, in order."
            )
        good = queries.good
        asked = queries.vectors[good]
        learned = calibrate(
            self._density(self.gallery_),
            asked,
            self.gallery_.embeddings,
            lonlat[good],
            self._first_answers(asked, refine),
            seed=random_state,
        )
        self.calibration_ = replace(learned, gallery=self._space, refined=refine)
        return self.calibration_

    def regions(
        self,
        images: Any = None,
        *,
        text: str | Sequence[str] | None = None,
        vectors: ArrayLike | None = None,
        within: Any = None,
        shares: Sequence[float] = (0.5, 0.9),
    ) -> gpd.GeoDataFrame:
        """Return the smallest parts of the Earth that hold shares of the probability.

        Parameters
        ----------
        images, text, vectors
            As in `localize`.
        within : polygons, optional
            Where the queries are known to be from. Shares are not calibrated then.
        shares : sequence of float
            Strictly between 0 and 1.

        Returns
        -------
        GeoDataFrame
            EPSG:4326, a row a query and share, with the columns ``query``, ``share``, ``mass``
            (what the region holds, a cell too much at most), ``area_km2``, ``calibrated`` and
            ``geometry``. Queries with an error are left out.

        Notes
        -----
        Without a calibration the temperature is the one of training, and a share says how sure
        the model was among its training batches, not how often it is right: the column
        ``calibrated`` is False then.
        """
        queries = self.ask(images, text=text, vectors=vectors)
        queries.tell()
        gallery = self.gallery_ if within is None else self.gallery_.restrict(within)
        density, known = self._density(gallery, within), self._known(within)
        good = queries.vectors[queries.good]
        names = [n for n, fine in zip(queries.names, queries.good, strict=True) if fine]
        parts = [
            credible_regions(
                density,
                density.probabilities(scores, tau=known.temperature.tau),
                shares=shares,
                names=names[some],
            )
            for some, scores in score_blocks(good, gallery.embeddings)
        ]
        if not parts:
            raise OptionError("No query has a vector: there is nothing to draw regions of.")
        found = gpd.GeoDataFrame(pd.concat(parts, ignore_index=True), crs="EPSG:4326")
        found.insert(4, "calibrated", known.calibrated)
        return found

    def _judge(self, gallery: Gallery, within: Any, refine: bool) -> Judge:
        """Return what says how sure first answers are: (scores (m, n), places (m, 2)) to that."""
        known = self._known(within, refine)
        density = self._density(gallery, within)
        return lambda scores, predicted: assess_scores(density, scores, predicted, known)

    def _known(self, within: Any, refine: bool | None = None) -> Calibration:
        """Return as much of the calibration as holds for a question.

        What was learned of answers from everywhere promises nothing for a part of them, and what
        was learned of a gallery's places nothing for those between them. Without answers, as for
        regions, `refine` does not matter.
        """
        known = self._calibration
        fits = within is None and refine in (None, known.refined)
        return known if fits else Calibration(known.temperature)

    @abstractmethod
    def _first_answers(self, vectors: NDArray[np.float32], refine: bool) -> NDArray[np.float64]:
        """Return the first answer to every vector; written by the localizer."""

    def _density(self, gallery: Gallery, within: Any = None) -> EarthDensity:
        """Return the density of a gallery; the last two are kept, for they take seconds."""
        support = "land" if within is None or callable(within) else within
        kept: list[tuple[str, Any, EarthDensity]] = self.__dict__.setdefault("_kept_densities", [])
        for digest, of, density in kept:
            # The polygons themselves are kept: a number of theirs could be another's later.
            if digest == gallery.digest and of is support:
                return density
        density = EarthDensity(gallery.lonlat, support=support)
        kept[:] = [*kept[-1:], (gallery.digest, support, density)]
        return density

    @property
    def _calibration(self) -> Calibration:
        """What was learned, given, or else known from training alone."""
        learned: Calibration | None = getattr(self, "calibration_", None)
        given = self.calibration
        if learned is None and isinstance(given, str | Path):
            learned = Calibration.load(given)
        elif learned is None and isinstance(given, Calibration):
            learned = given
        if learned is not None:
            if learned.gallery not in ("", self._space):
                raise OptionError(
                    f"The calibration was learned with another gallery than {self.gallery_.name!r},"
                    " or with other weights: its radii promise nothing here. Calibrate again, or "
                    "take that gallery."
                )
            return learned
        if given is not None:
            raise OptionError(
                f"calibration={given!r:.60} is no Calibration and no file that one was saved to."
            )
        return Calibration(Temperature.trained(self._trained_scale()))

    @property
    def _space(self) -> str:
        """Digest of the gallery's places and of what encoded them."""
        gallery = self.gallery_
        encoder = gallery.weights_sha256 or gallery.encoder
        whole = (gallery.digest, encoder, gallery.layers)
        return sha256("\0".join(whole).encode()).hexdigest()
