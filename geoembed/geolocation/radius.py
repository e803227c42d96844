"""Radii that hold the truth as often as they say, by split conformal prediction."""

from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoembed.errors import OptionError
from geoembed.heads.conformal import check_coverage, conformal_radius, rows_needed

__all__ = ["ConformalRadius", "fit_radius"]

# No two places on the ellipsoid are further apart.
_FARTHEST_KM: Final = 20_003.9315

# Where a picture's own scale is zero, the error must still be divided by something.
_SMALLEST_KM: Final = 1e-3


@dataclass(frozen=True)
class ConformalRadius:
    """How many times a picture's own scale the error stays below, with a stated coverage.

    Parameters
    ----------
    coverage : float
        Nominal share of radii that hold the truth, strictly between 0 and 1.
    factor : float
        What scales are multiplied by; infinite where there were too few pairs.
    pairs : int
        On how many held-out pairs it rests.

    Raises
    ------
    OptionError
        If a value does not fit.

    Notes
    -----
    The coverage holds on average over pictures that are exchangeable with those of the
    calibration: taken by the same kind of people in the same kind of places. It is no statement
    about a single picture, nor about a region or a subject; for those, calibrate on such
    pictures.

    Examples
    --------
    >>> radius = fit_radius(np.arange(1.0, 20.0), np.ones(19), coverage=0.9)
    >>> radius.radii_km([1.0, 10.0]).tolist()
    [18.0, 180.0]
    """

    coverage: float
    factor: float
    pairs: int = 0

    def __post_init__(self) -> None:
        if check_coverage(self.coverage) is None or not self.factor >= 0.0:
            raise OptionError(
                f"coverage={self.coverage!r}, factor={self.factor!r}: give a share strictly "
                "between 0 and 1, and a factor that is not negative."
            )

    def radii_km(self, scale_km: ArrayLike) -> NDArray[np.float64]:
        """Return radii for pictures of given scales.

        Parameters
        ----------
        scale_km : array of shape (m,)
            The same quantity that was calibrated with, such as the density's 50 % radius.

        Returns
        -------
        array of shape (m,), float64
            Kilometres, 20,003.9 at most: half way around the Earth.
        """
        scale = np.maximum(np.asarray(scale_km, dtype=np.float64), _SMALLEST_KM)
        return np.minimum(scale * self.factor, _FARTHEST_KM)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; an infinite factor becomes None.

        Returns
        -------
        dict
            For `from_dict`.
        """
        values = asdict(self)
        values["factor"] = self.factor if np.isfinite(self.factor) else None
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make it again.

        Parameters
        ----------
        values : dict
            From `to_dict`.

        Returns
        -------
        ConformalRadius
            Equal to the one that they were taken from.

        Raises
        ------
        OptionError
            If a value is missing, unknown or does not fit.
        """
        try:
            known = dict(values)
            known["factor"] = np.inf if known["factor"] is None else known["factor"]
            return cls(**known)
        except (KeyError, TypeError) as error:
            raise OptionError(f"No radius can be made of {values!r}: {error}.") from error


def fit_radius(
    error_km: ArrayLike, scale_km: ArrayLike, *, coverage: float = 0.9
) -> ConformalRadius:
    """Calibrate a radius on held-out pairs.

    Parameters
    ----------
    error_km : array of shape (m,)
        Geodesic distance of every prediction from its truth.
    scale_km : array of shape (m,)
        What the pictures' radii are made from: large where the picture is unclear. It must not
        be fitted on these pairs.
    coverage : float
        Strictly between 0 and 1.

    Returns
    -------
    ConformalRadius
        Its factor is the ceil((m + 1) coverage)-th smallest ratio of error and scale.

    Raises
    ------
    OptionError
        If shapes do not fit, a value is negative or not finite, or there are too few pairs for
        a finite radius: 9 for 0.9, 99 for 0.99.

    Notes
    -----
    Split conformal prediction with a normalised score: Lei, G'Sell, Rinaldo, Tibshirani,
    Wasserman, "Distribution-free predictive inference for regression", JASA 2018, section 2 and
    5.2.

    Examples
    --------
    >>> fit_radius([10.0, 20.0, 30.0], [10.0, 10.0, 10.0], coverage=0.5).factor
    2.0
    """
    error = np.asarray(error_km, dtype=np.float64)
    scale = np.asarray(scale_km, dtype=np.float64)
    if error.ndim != 1 or error.shape != scale.shape:
        raise OptionError(
            f"error_km and scale_km have the shapes {error.shape} and {scale.shape}: give one "
            "number a pair each."
        )
    for name, values in (("error_km", error), ("scale_km", scale)):
        if not (np.isfinite(values) & (values >= 0.0)).all():
            raise OptionError(f"{name} must be finite and not negative: leave out other pairs.")
    share = check_coverage(coverage)
    if share is None:
        raise OptionError("coverage=None is no share strictly between 0 and 1, such as 0.9.")
    if len(error) < rows_needed(share):
        raise OptionError(
            f"{len(error)} pairs are too few for a coverage of {share:g}: give "
            f"{rows_needed(share)} or more."
        )
    ratio = error / np.maximum(scale, _SMALLEST_KM)
    return ConformalRadius(share, float(conformal_radius(ratio[:, None], share)[0]), len(error))
