"""Score predicted places against the truth: everything of an evaluation but the predicting."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from geoembed.coordinates import read_places
from geoembed.data import label_country
from geoembed.errors import OptionError, TableError
from geoembed.evaluation.geolocation.intervals import bootstrap_intervals, check_resampling
from geoembed.evaluation.geolocation.leakage import LEAK_M, Leaks, find_leaks
from geoembed.evaluation.geolocation.metrics import (
    AT_SEA,
    THRESHOLDS_KM,
    check_thresholds,
    continent_table,
    errors_km,
    summarise,
)
from geoembed.evaluation.geolocation.protocols import GeolocationProtocol
from geoembed.evaluation.geolocation.record import build_record, describe_gallery
from geoembed.evaluation.geolocation.report import GeolocationReport
from geoembed.evaluation.geolocation.words import counted
from geoembed.galleries.coverage import nearest_km

__all__ = ["evaluate_geolocation"]

Floats = NDArray[np.float64]

_NO_PLACE = "no place was predicted"


def evaluate_geolocation(
    truth: ArrayLike,
    predicted: ArrayLike,
    *,
    files: Sequence[str] | None = None,
    errors: Sequence[str] | None = None,
    gallery: Any = None,
    thresholds_km: Sequence[float] = THRESHOLDS_KM,
    leak_m: float = LEAK_M,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    protocol: GeolocationProtocol | None = None,
    facts: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> GeolocationReport:
    """Score predicted places against where the pictures were taken.

    Parameters
    ----------
    truth : array_like of shape (n, 2), GeoDataFrame or other places
        Where they were taken, as `geoembed.read_places` takes it; arrays are longitude and
        latitude in degrees, WGS 84.
    predicted : array_like of shape (n, 2) or other places
        What was predicted, in the same order; missing where there is no prediction.
    files : sequence of str, optional
        What the pictures are called; their positions if not given.
    errors : sequence of str, optional
        Why a picture has no prediction.
    gallery : Gallery or array_like of shape (m, 2), optional
        Where the answers were taken from, to look for leaks; anything with ``lonlat``.
    thresholds_km : sequence of float
        Ascending; 1, 25, 200, 750 and 2500 km if not given.
    leak_m : float
        A query so near to a place of the gallery counts as leaked, metres.
    resamples, level, seed
        Of `geoembed.evaluation.geolocation.bootstrap_intervals`.
    protocol : GeolocationProtocol, optional
        Published rows to compare with.
    facts : mapping, optional
        What the record says beside the rules of scoring; fit for JSON.
    notes : sequence of str
        What the reader should know.

    Returns
    -------
    GeolocationReport
        Scores with their intervals, by continent, leaks, and the record.

    Raises
    ------
    CoordinateError
        If lengths differ, a truth is missing, or a latitude is outside [-90, 90].
    TableError
        If there are no pictures, or none has a prediction.
    OptionError
        If an option is not one of those offered, or lengths differ.

    Examples
    --------
    >>> truth = [[2.35, 48.86], [36.82, -1.29], [-58.38, -34.60]]
    >>> predicted = [[2.35, 48.86], [36.90, -1.30], [-43.20, -22.90]]
    >>> report = evaluate_geolocation(truth, predicted)
    >>> report.table()[["score", "value"]].head(3).round(1).values.tolist()
    [['within 1 km', 33.3], ['within 25 km', 66.7], ['within 200 km', 66.7]]
    """
    thresholds = check_thresholds(thresholds_km)
    check_resampling(resamples, level)
    there = read_places(truth).lonlat
    guessed = read_places(predicted, on_invalid="nan").lonlat
    km = errors_km(there, guessed)
    rows = _rows(there, guessed, km, files, errors)
    known = np.isfinite(km)
    if not known.any():
        raise TableError(_nothing(rows))
    places = getattr(gallery, "lonlat", gallery)
    leaks = None if places is None else find_leaks(there, places, within_m=leak_m)
    nearest = None if places is None else nearest_km(there[known], places)
    if leaks is not None:
        rows.loc[leaks.rows, "leaked"] = True
    bounds = bootstrap_intervals(km[known], thresholds, resamples=resamples, level=level, seed=seed)
    record = build_record(
        **(dict(facts) if facts else {}),
        **({} if facts and "gallery" in facts else _gallery_facts(gallery)),
        thresholds_km=list(thresholds),
        rows=len(rows),
        evaluated=int(known.sum()),
        bootstrap={
            "resamples": resamples,
            "level": level,
            "seed": seed,
            "interval": "percentile; Clopper-Pearson where none or all are within",
        },
        leakage=None
        if leaks is None
        else {"within_m": leak_m, "queries": len(leaks), "exact": leaks.exact},
    )
    return GeolocationReport(
        rows=rows,
        scores=_scores(km, known, leaks, nearest, thresholds, bounds),
        continents=continent_table(there[known], km[known], thresholds),
        thresholds_km=thresholds,
        leaks=leaks,
        protocol=protocol,
        notes=[*notes, *_losses(km, thresholds)],
        record=record,
    )


def _rows(
    there: Floats,
    guessed: Floats,
    km: Floats,
    files: Sequence[str] | None,
    errors: Sequence[str] | None,
) -> pd.DataFrame:
    count = len(there)
    for name, given in (("files", files), ("errors", errors)):
        if given is not None and len(given) != count:
            raise OptionError(f"{name}= has {len(given):,} entries for {count:,} places.")
    if not count:
        raise TableError("There are no pictures to evaluate.")
    continents = label_country(there[:, 0], there[:, 1], column="continent")
    given_errors = [""] * count if errors is None else list(errors)
    return pd.DataFrame(
        {
            "file": [str(at) for at in range(count)] if files is None else list(files),
            "lon": there[:, 0],
            "lat": there[:, 1],
            "predicted_lon": guessed[:, 0],
            "predicted_lat": guessed[:, 1],
            "km": km,
            "continent": [AT_SEA if name is None else name for name in continents],
            "leaked": False,
            "error": [
                "" if np.isfinite(away) else why or _NO_PLACE
                for away, why in zip(km, given_errors, strict=True)
            ],
        }
    )


def _scores(
    km: Floats,
    known: NDArray[np.bool_],
    leaks: Leaks | None,
    nearest: Floats | None,
    thresholds: Sequence[float],
    bounds: Mapping[str, tuple[float, float]],
) -> pd.DataFrame:
    units = {"median_km": "km", "mean_km": "km", "geoscore": "points"}
    rows: list[dict[str, Any]] = [
        {
            "score": name,
            "unit": units.get(name, "%"),
            "value": value,
            "low": bounds[name][0],
            "high": bounds[name][1],
        }
        for name, value in summarise(km[known], thresholds).items()
    ]
    table = pd.DataFrame(rows)
    if nearest is not None:
        table["ceiling"] = list(summarise(nearest, thresholds).values())
    if leaks is not None and len(leaks):
        clean = known.copy()
        clean[leaks.rows] = False
        table["without_leaks"] = list(summarise(km[clean], thresholds).values())
    return table


def _gallery_facts(gallery: Any) -> dict[str, Any]:
    return {"gallery": describe_gallery(gallery)} if hasattr(gallery, "lonlat") else {}


def _losses(km: Floats, thresholds: Sequence[float]) -> list[str]:
    """Say what the shares would be if pictures without a prediction counted as misses."""
    lost = int(np.count_nonzero(np.isnan(km)))
    if not lost:
        return []
    kept = 1.0 - lost / len(km)
    shares = summarise(km[np.isfinite(km)], thresholds)
    texts = [f"{kept * value:.1f} % {name}" for name, value in shares.items() if "within" in name]
    return [
        f"without a prediction, and left out of the scores: {lost:,} of "
        f"{counted(len(km), 'picture')}; counted as misses: {', '.join(texts)}"
    ]


def _nothing(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    reasons = rows["error"].value_counts()
    why = "; ".join(f"{reason} ({count:,})" for reason, count in reasons.head(3).items())
    return (
        f"None of {counted(len(rows), 'picture')} can be evaluated: {why}. The first is "
        f"{first['file']!r}."
    )
