"""Everything that held-out pairs teach about how far off answers are, in one object."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoembed.errors import OptionError
from geoembed.geodesy import distance_km
from geoembed.geolocation.density import EarthDensity
from geoembed.geolocation.radius import ConformalRadius, fit_radius
from geoembed.geolocation.scoring import score_blocks
from geoembed.geolocation.signal import SignalTest, fit_signal_test, shuffled_queries
from geoembed.geolocation.temperature import Temperature, fit_temperature

__all__ = ["Assessment", "Calibration", "assess", "assess_scores", "calibrate"]

Floats = NDArray[np.float64]

_COVERAGES: Final = (0.5, 0.9)
# Of the pairs, for the temperature; the rest, which it has not seen, for the radii.
_FOR_TEMPERATURE: Final = 1.0 / 3.0
_NOISE_QUERIES: Final = 400
_FEWEST_FOR_TEMPERATURE: Final = 10


@dataclass(frozen=True)
class Calibration:
    """A temperature, radii and a test for pictures without a signal.

    Parameters
    ----------
    temperature : Temperature
        Of the density.
    radii : tuple of ConformalRadius
        One a coverage, rising; empty if not calibrated.
    signal : SignalTest, optional
        None if not calibrated.
    gallery : str
        Digest of the gallery that answers came from; empty if not known.
    refined : bool
        Whether those answers were refined.

    Examples
    --------
    >>> rough = Calibration(Temperature.trained(39.69))
    >>> rough.calibrated, Calibration.from_dict(rough.to_dict()) == rough
    (False, True)
    """

    temperature: Temperature
    radii: tuple[ConformalRadius, ...] = ()
    signal: SignalTest | None = None
    gallery: str = ""
    refined: bool = False

    @property
    def calibrated(self) -> bool:
        """Whether it rests on held-out pairs."""
        return self.temperature.calibrated and bool(self.radii)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold.

        Returns
        -------
        dict
            For `from_dict`.
        """
        return {
            "temperature": self.temperature.to_dict(),
            "radii": [radius.to_dict() for radius in self.radii],
            "signal": None if self.signal is None else self.signal.to_dict(),
            "gallery": self.gallery,
            "refined": self.refined,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make it again.

        Parameters
        ----------
        values : dict
            From `to_dict`.

        Returns
        -------
        Calibration
            Equal to the one that they were taken from.

        Raises
        ------
        OptionError
            If a value is missing or does not fit.
        """
        try:
            signal = values["signal"]
            return cls(
                Temperature.from_dict(values["temperature"]),
                tuple(ConformalRadius.from_dict(radius) for radius in values["radii"]),
                None if signal is None else SignalTest.from_dict(signal),
                str(values.get("gallery", "")),
                bool(values.get("refined", False)),
            )
        except (KeyError, TypeError) as error:
            raise OptionError(
                f"No calibration can be made of {values!r:.80}: {type(error).__name__}, {error}. "
                "Give what Calibration.to_dict or save made."
            ) from error

    def save(self, path: str | Path) -> None:
        """Write it as JSON.

        Parameters
        ----------
        path : str or Path
            The file; one that is there is replaced.

        Raises
        ------
        OptionError
            If the file cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        try:
            Path(path).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise OptionError(
                f"The calibration cannot be written to {path}: {error.strerror}."
            ) from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        Calibration
            As it was saved.

        Raises
        ------
        OptionError
            If the file cannot be read or holds something else.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise OptionError(
                f"The calibration {path} cannot be read: {error.strerror}. Give a file that "
                "Calibration.save wrote."
            ) from error
        except ValueError as error:
            raise OptionError(f"{path} is not JSON: {error}.") from error
        return cls.from_dict(values)


@dataclass(frozen=True)
class Assessment:
    """How sure an answer is, a value a query.

    Parameters
    ----------
    radius_50_km, radius_90_km : array of shape (m,)
        Around the predicted places. With a calibration, conformal radii of these coverages;
        without one, what the density gathers under the trained temperature.
    information : array of shape (m,)
        Nats by which a query narrows the Earth down.
    no_signal : array of bool, shape (m,), or None
        Queries that tell no more than noise; None without a calibration.
    calibrated : bool
        Whether all this rests on held-out pairs.
    """

    radius_50_km: Floats
    radius_90_km: Floats
    information: Floats
    no_signal: NDArray[np.bool_] | None
    calibrated: bool

    @classmethod
    def joined(cls, parts: Sequence["Assessment"]) -> Self:
        """Join those of some queries after the other, one at least, made with one calibration."""
        quiet = [part.no_signal for part in parts if part.no_signal is not None]
        return cls(
            np.concatenate([part.radius_50_km for part in parts]),
            np.concatenate([part.radius_90_km for part in parts]),
            np.concatenate([part.information for part in parts]),
            np.concatenate(quiet) if quiet else None,
            parts[0].calibrated,
        )


def calibrate(
    density: EarthDensity,
    queries: ArrayLike,
    embeddings: NDArray[Any] | None,
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    coverages: Sequence[float] = _COVERAGES,
    false_alarm: float = 0.05,
    seed: int = 0,
) -> Calibration:
    """Learn from held-out pairs how far off answers are.

    A third of the pairs, drawn at random, fits the temperature; the others, which it has not
    seen, the radii. The test for a signal is made of shuffled queries.

    Parameters
    ----------
    density : EarthDensity
        Of the gallery that will be used.
    queries : array of shape (m, d)
        Finite; pictures that nothing was trained on, taken as those to come will be.
    embeddings : array of shape (n, d) or None
        The gallery's unit vectors; None where queries are their scores at all places.
    truth : array of shape (m, 2)
        Where they were taken, degrees, WGS 84.
    predicted : array of shape (m, 2)
        What is answered for them, made in the way that will be used: refined or not.
    coverages : sequence of float
        Nominal coverages of the radii; 0.5 and 0.9 are what `assess` gives.
    false_alarm : float
        Share of queries without a signal that pass for having one.
    seed : int
        Of the split and the shuffling.

    Returns
    -------
    Calibration
        To be saved beside the gallery.

    Raises
    ------
    OptionError
        If there are fewer than 30 pairs, or shapes or values do not fit.

    Notes
    -----
    The guarantee is that of split conformal prediction; see `ConformalRadius` for what it says
    and does not.
    """
    vectors = np.asarray(queries)
    true, answers = (np.asarray(x, dtype=np.float64).reshape(-1, 2) for x in (truth, predicted))
    if not len(vectors) == len(true) == len(answers):
        raise OptionError(
            f"{len(vectors):,} queries, {len(true):,} truths and {len(answers):,} predictions: "
            "give one each."
        )
    if len(vectors) < 3 * _FEWEST_FOR_TEMPERATURE:
        raise OptionError(
            f"{len(vectors)} pairs are too few to calibrate with: give "
            f"{3 * _FEWEST_FOR_TEMPERATURE} or more."
        )
    order = np.random.default_rng(seed).permutation(len(vectors))
    count = round(len(vectors) * _FOR_TEMPERATURE)
    first, rest = order[:count], order[count:]
    temperature = fit_temperature(density, vectors[first], embeddings, true[first])
    scales, _ = _measure(density, vectors[rest], embeddings, answers[rest], temperature.tau)
    errors = distance_km(*true[rest].T, *answers[rest].T)
    radii = tuple(fit_radius(errors, scales[:, 0], coverage=share) for share in sorted(coverages))
    noise = shuffled_queries(vectors, _NOISE_QUERIES, seed=seed)
    quiet = [
        density.information(scores, tau=temperature.tau)
        for _, scores in score_blocks(noise, embeddings)
    ]
    signal = fit_signal_test(np.concatenate(quiet), false_alarm=false_alarm)
    return Calibration(temperature, radii, signal)


def assess(
    density: EarthDensity,
    queries: ArrayLike,
    embeddings: NDArray[Any] | None,
    predicted: ArrayLike,
    calibration: Calibration,
) -> Assessment:
    """Say how sure answers are.

    Parameters
    ----------
    density : EarthDensity
        Of the gallery in use.
    queries : array of shape (m, d)
        Finite.
    embeddings : array of shape (n, d) or None
        The gallery's unit vectors; None where queries are their scores at all places.
    predicted : array of shape (m, 2)
        The answers, degrees, WGS 84.
    calibration : Calibration
        From `calibrate`, or an uncalibrated one with the trained temperature.

    Returns
    -------
    Assessment
        One value a query.

    Raises
    ------
    OptionError
        If shapes or values do not fit, or a calibration lacks the coverages 0.5 and 0.9.

    Examples
    --------
    >>> density = EarthDensity([[2.35, 48.86], [-58.4, -34.6]], cell_km=200)
    >>> rough = Calibration(Temperature(0.05))
    >>> sure = assess(density, np.eye(2)[:1], np.eye(2), [[2.35, 48.86]], rough)
    >>> bool(sure.radius_50_km[0] < sure.radius_90_km[0]), sure.calibrated
    (True, False)
    """
    vectors = np.asarray(queries)
    answers = np.asarray(predicted, dtype=np.float64).reshape(-1, 2)
    parts = [
        assess_scores(density, scores, answers[some], calibration)
        for some, scores in score_blocks(vectors, embeddings)
    ]
    return Assessment.joined(parts)


def assess_scores(
    density: EarthDensity,
    scores: NDArray[np.float32],
    predicted: Floats,
    calibration: Calibration,
) -> Assessment:
    """Do the same where the scores at all places are there.

    Parameters
    ----------
    density : EarthDensity
        Of the gallery in use.
    scores : array of shape (m, n)
        Of every query at every place of the gallery.
    predicted : array of shape (m, 2)
        The answers, degrees, WGS 84.
    calibration : Calibration
        As in `assess`.

    Returns
    -------
    Assessment
        One value a query.

    Raises
    ------
    OptionError
        As `assess`.
    """
    tau = calibration.temperature.tau
    scales, information = density.measure(scores, predicted, tau=tau, shares=_COVERAGES)
    if not calibration.calibrated:
        return Assessment(scales[:, 0], scales[:, 1], information, None, False)
    known = {radius.coverage: radius for radius in calibration.radii}
    if any(share not in known for share in _COVERAGES):
        raise OptionError(
            f"The calibration has radii for {sorted(known)}: 0.5 and 0.9 are needed here."
        )
    half, most = (known[share].radii_km(scales[:, 0]) for share in _COVERAGES)
    quiet = None if calibration.signal is None else calibration.signal.no_signal(information)
    return Assessment(half, most, information, quiet, True)


def _measure(
    density: EarthDensity,
    queries: NDArray[Any],
    embeddings: NDArray[Any] | None,
    predicted: Floats,
    tau: float,
) -> tuple[Floats, Floats]:
    """Radii of the density (m, 2) for half and nine tenths, and information (m,)."""
    radii = np.empty((len(queries), len(_COVERAGES)))
    information = np.empty(len(queries))
    for some, scores in score_blocks(queries, embeddings):
        radii[some], information[some] = density.measure(
            scores, predicted[some], tau=tau, shares=_COVERAGES
        )
    return radii, information
