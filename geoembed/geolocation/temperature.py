"""The temperature that turns scores into a density, fitted on pairs whose truth is known."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from geoembed.errors import OptionError
from geoembed.geolocation.density import EarthDensity, with_background
from geoembed.geolocation.plain import Plain
from geoembed.geolocation.scoring import score_blocks
from geoembed.scalars import is_number

__all__ = ["Temperature", "fit_temperature"]

# Scores are cosines: below the least, one place takes all; above the largest, none stands out.
_LEAST: Final = 1e-3
_LARGEST: Final = 10.0

# Fewer pairs fit the chance among them.
_FEWEST_PAIRS: Final = 10

# The loss may have two valleys where truths lie far from all places: looked at before going down.
_LOOKS: Final = 13

# Scores of a query are gathered into so many bins, each kept with its mean: what that does to a
# sum of exponentials is below half a percent at the least temperature.
_BINS: Final = 4096


@dataclass(frozen=True)
class Temperature(Plain):
    """What scores are divided by, and how that was found.

    Parameters
    ----------
    tau : float
        The temperature, above 0.
    calibrated : bool
        Whether it was fitted on held-out pairs; if not, nothing made with it is a probability.
    pairs : int
        On how many.
    nats : float
        Mean negative log density of the truths there, in nats per square kilometre; NaN if not
        calibrated.
    prior_nats : float
        The same for the prior alone: what `nats` is to be compared with.

    Raises
    ------
    OptionError
        If `tau` is not a number above 0.

    Examples
    --------
    >>> Temperature.trained(39.69).tau
    0.025195263290501386
    >>> Temperature.from_dict(Temperature(0.1).to_dict()) == Temperature(0.1)
    True
    """

    _called: ClassVar[str] = "temperature"

    tau: float
    calibrated: bool = False
    pairs: int = 0
    nats: float | None = None
    prior_nats: float | None = None

    def __post_init__(self) -> None:
        number = is_number(self.tau)
        if not number or not (np.isfinite(self.tau) and self.tau > 0.0):
            raise OptionError(f"tau={self.tau!r} does not fit: give a temperature above 0.")

    @classmethod
    def trained(cls, logit_scale: float) -> Self:
        """Take the temperature that an image encoder was trained with: 1 / `logit_scale`.

        It says how sure the model was among the other places of its training batches, not how
        often it is right: not calibrated.

        Parameters
        ----------
        logit_scale : float
            What cosines were multiplied with; 39.69 for GeoCLIP.

        Returns
        -------
        Temperature
            Not calibrated.
        """
        return cls(1.0 / float(logit_scale))


def fit_temperature(
    density: EarthDensity,
    queries: NDArray[Any],
    embeddings: NDArray[Any] | None,
    truth: ArrayLike,
) -> Temperature:
    """Find the temperature under which the truths of held-out queries are likeliest.

    Parameters
    ----------
    density : EarthDensity
        Of the gallery that will be used.
    queries : array of shape (m, d)
        Finite; of pictures that nothing was trained on, taken as those to come will be.
    embeddings : array of shape (n, d) or None
        The gallery's unit vectors, in the order of the density's places; None where queries are
        their scores at those places.
    truth : array of shape (m, 2)
        Where they were taken, degrees, WGS 84, finite.

    Returns
    -------
    Temperature
        Calibrated.

    Raises
    ------
    OptionError
        If there are fewer than 10 pairs, or shapes do not fit.

    Notes
    -----
    Minimises the mean negative log of `EarthDensity.log_density`: one number against many
    pairs, so that nothing is overfitted. Thirteen temperatures from 0.001 to 10 are tried
    first, then the best is narrowed down.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> lonlat = np.column_stack([rng.uniform(-20, 40, 40), rng.uniform(-30, 30, 40)])
    >>> places = np.eye(40)
    >>> queries = places + rng.normal(0, 0.3, places.shape)
    >>> density = EarthDensity(lonlat, cell_km=500)
    >>> 0.05 < fit_temperature(density, queries, places, lonlat).tau < 0.5
    True
    """
    wanted = np.asarray(truth, dtype=np.float64).reshape(-1, 2)
    if len(wanted) != len(queries):
        raise OptionError(f"{len(wanted):,} truths for {len(queries):,} queries: give one each.")
    if len(wanted) < _FEWEST_PAIRS:
        raise OptionError(
            f"{len(wanted)} pairs are too few to fit a temperature: give {_FEWEST_PAIRS} or more."
        )
    if not np.isfinite(wanted).all():
        raise OptionError("truth holds coordinates that are not finite: leave out such pairs.")

    pairs = [
        _Pair(row[density.rows], density.place_km2, *cell)
        for some, scores in score_blocks(queries, embeddings)
        for row, cell in zip(scores, _cells(density, wanted[some]), strict=True)
    ]

    def loss(log_tau: float) -> float:
        densities = np.array([pair.density(np.exp(log_tau)) for pair in pairs])
        return -float(with_background(densities).mean())

    tried = np.linspace(np.log(_LEAST), np.log(_LARGEST), _LOOKS)
    at = int(np.argmin([loss(log_tau) for log_tau in tried]))
    low, high = tried[max(at - 1, 0)], tried[min(at + 1, len(tried) - 1)]
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-3})
    # At an endless temperature, what is left of the scores is nothing.
    prior = loss(np.log(1e9))
    return Temperature(float(np.exp(found.x)), True, len(wanted), float(found.fun), prior)


class _Pair:
    """What the density at one truth depends on, whatever the temperature."""

    def __init__(
        self,
        scores: NDArray[np.float32],
        km2: NDArray[np.float64],
        places: NDArray[np.intp],
        shares: NDArray[np.float64],
    ) -> None:
        exact = scores.astype(np.float64)
        top, bottom = exact.max(), exact.min()
        width = max(top - bottom, np.finfo(np.float64).tiny) / _BINS
        bins = np.minimum(((top - exact) / width).astype(np.intp), _BINS - 1)
        area = np.bincount(bins, km2)
        filled = area > 0.0
        self._area = area[filled]
        self._below = np.bincount(bins, km2 * (exact - top))[filled] / self._area
        self._truth_below, self._shares = exact[places] - top, shares

    def density(self, tau: float) -> float:
        """Density at the truth, per square kilometre."""
        total = self._area @ np.exp(self._below / tau)
        return float(self._shares @ np.exp(self._truth_below / tau) / total)


def _cells(
    density: EarthDensity, truth: NDArray[np.float64]
) -> list[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Places that speak for the cells of truths, and their shares."""
    means = density.means_at(truth)
    edges = means.indptr
    return [(means.indices[start:end], means.data[start:end]) for start, end in pairwise(edges)]
