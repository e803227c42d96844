"""What an error in km is worth: shares within thresholds, GeoScore, tables by continent."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from geoembed.coordinates import read_places
from geoembed.data import label_country
from geoembed.errors import CoordinateError, OptionError
from geoembed.galleries.coverage import AT_SEA, THRESHOLDS_KM
from geoembed.geodesy import distance_km

__all__ = [
    "AT_SEA",
    "GEOSCORE_KM",
    "THRESHOLDS_KM",
    "check_thresholds",
    "continent_table",
    "errors_km",
    "geoscore",
    "name_threshold",
    "share_within",
    "summarise",
]

Floats = NDArray[np.float64]

GEOSCORE_KM: Final = 1492.7
"""Distance at which GeoScore has fallen to 1/e of 5000, in km."""

_BEST: Final = 5000.0
# What a summary holds beside the shares.
_REST: Final = ("median_km", "mean_km", "geoscore")


def errors_km(truth: ArrayLike, predicted: ArrayLike) -> Floats:
    """Measure how far every prediction is from the truth.

    Parameters
    ----------
    truth : array_like of shape (n, 2)
        Longitude and latitude, degrees, WGS 84; every row a place.
    predicted : array_like of shape (n, 2)
        The same; rows of NaN where there is no prediction.

    Returns
    -------
    ndarray of float64, shape (n,)
        Geodesic distance on the WGS 84 ellipsoid, km; NaN where there is no prediction.

    Raises
    ------
    CoordinateError
        If a shape is not (n, 2), lengths differ, a truth is missing, or a latitude is outside
        [-90, 90].

    Examples
    --------
    >>> errors_km([[-0.1276, 51.5072]], [[2.3522, 48.8566]]).round(3).tolist()
    [343.897]
    """
    there = read_places(truth).lonlat
    guessed = read_places(predicted, on_invalid="nan").lonlat
    if len(there) != len(guessed):
        raise CoordinateError(
            f"truth has {len(there):,} places and predicted has {len(guessed):,}: give one "
            "prediction a place, a row of NaN where there is none."
        )
    return distance_km(there[:, 0], there[:, 1], guessed[:, 0], guessed[:, 1])


def geoscore(km: ArrayLike) -> Floats:
    """Turn distances into points of the game GeoGuessr.

    Parameters
    ----------
    km : array_like
        Distances, km, not negative.

    Returns
    -------
    ndarray of float64, shape of `km`
        5000 exp(-km / 1492.7): 5000 on the spot, 1839.4 at 1492.7 km, not rounded.

    Notes
    -----
    The constant is that of the game's world map. It is read in the published configuration of
    PIGEON (Haas et al., CVPR 2024: ``DECAY_CONSTANT``), which measures great circles; here the
    distances are geodesics, at most 0.56 % away.

    Examples
    --------
    >>> geoscore([0.0, 1492.7]).round(1).tolist()
    [5000.0, 1839.4]
    """
    return _BEST * np.exp(-np.asarray(km, dtype=np.float64) / GEOSCORE_KM)


def check_thresholds(thresholds_km: Sequence[float]) -> tuple[float, ...]:
    """Return thresholds as floats, or raise OptionError unless they are positive and ascend.

    Examples
    --------
    >>> check_thresholds([1, 25])
    (1.0, 25.0)
    """
    try:
        values = tuple(float(value) for value in thresholds_km)
    except (TypeError, ValueError):
        values = ()
    ascending = all(low < high for low, high in pairwise(values))
    if not values or not all(np.isfinite(values)) or values[0] <= 0 or not ascending:
        raise OptionError(
            f"thresholds_km={thresholds_km!r} does not fit: give distances in km that are more "
            "than 0 and ascend, such as (1, 25, 200, 750, 2500)."
        )
    return values


def name_threshold(km: float) -> str:
    """Return what the share within a threshold is called.

    Examples
    --------
    >>> name_threshold(2500.0), name_threshold(0.5)
    ('within 2500 km', 'within 0.5 km')
    """
    return f"within {km:.10g} km"


def share_within(km: ArrayLike, thresholds_km: Sequence[float] = THRESHOLDS_KM) -> Floats:
    """Count how many errors are no larger than each threshold.

    Parameters
    ----------
    km : array_like of shape (n,)
        Errors in km; those that are NaN count as larger than every threshold.
    thresholds_km : sequence of float
        Ascending; an error that equals one is within it.

    Returns
    -------
    ndarray of float64
        Percent of the n errors, one a threshold; NaN if there are none.

    Examples
    --------
    >>> share_within([0.4, 1.0, 30.0, 9000.0]).tolist()
    [50.0, 50.0, 75.0, 75.0, 75.0]
    """
    errors = np.asarray(km, dtype=np.float64).ravel()
    if not errors.size:
        return np.full(len(thresholds_km), np.nan)
    ordered = np.sort(errors)  # NaN goes last
    within = np.searchsorted(ordered, np.asarray(thresholds_km, dtype=np.float64), side="right")
    return 100.0 * within / errors.size


def summarise(km: ArrayLike, thresholds_km: Sequence[float] = THRESHOLDS_KM) -> dict[str, float]:
    """Summarise errors in the numbers that papers report.

    Parameters
    ----------
    km : array_like of shape (n,)
        Errors in km, none of them NaN.
    thresholds_km : sequence of float
        Ascending.

    Returns
    -------
    dict of str to float
        ``"within 1 km"`` and so on in percent, ``"median_km"``, ``"mean_km"``, ``"geoscore"``;
        NaN if there are no errors.

    Examples
    --------
    >>> found = summarise([0.5, 100.0, 3000.0], [1, 200])
    >>> {name: round(value, 1) for name, value in found.items()}
    {'within 1 km': 33.3, 'within 200 km': 66.7, 'median_km': 100.0, 'mean_km': 1033.5, \
'geoscore': 3448.1}
    """
    errors = np.asarray(km, dtype=np.float64).ravel()
    shares = share_within(errors, thresholds_km)
    out = dict(zip(map(name_threshold, thresholds_km), shares.tolist(), strict=True))
    if not errors.size:
        return out | dict.fromkeys(_REST, np.nan)
    values = (np.median(errors), errors.mean(), geoscore(errors).mean())
    return out | dict(zip(_REST, map(float, values), strict=True))


def continent_table(
    truth: ArrayLike, km: ArrayLike, thresholds_km: Sequence[float] = THRESHOLDS_KM
) -> pd.DataFrame:
    """Summarise errors by the continent that the truth lies on.

    Parameters
    ----------
    truth : array_like of shape (n, 2)
        Longitude and latitude, degrees, WGS 84.
    km : array_like of shape (n,)
        Errors in km, none of them NaN.
    thresholds_km : sequence of float
        Ascending.

    Returns
    -------
    DataFrame
        A row a continent that has any, by name, then ``"at sea"``: ``continent``, ``n`` and the
        columns of `summarise`. Continents are those of `geoembed.data.load_countries`, at 1:50
        million; piers, reefs and islands too small for that scale are at sea.

    Examples
    --------
    >>> table = continent_table([[36.8, -1.3], [2.35, 48.86]], [10.0, 30.0], [25])
    >>> table[["continent", "n", "within 25 km"]].values.tolist()
    [['Africa', 1, 100.0], ['Europe', 1, 0.0]]
    """
    lon, lat = np.asarray(truth, dtype=np.float64).reshape(-1, 2).T
    errors = np.asarray(km, dtype=np.float64)
    labels = np.array(
        [AT_SEA if name is None else name for name in label_country(lon, lat, column="continent")],
        dtype=object,
    )
    names = sorted(set(labels) - {AT_SEA}) + [AT_SEA] * (AT_SEA in labels)
    rows: list[dict[str, Any]] = []
    for name in names:
        own = errors[labels == name]
        rows.append({"continent": name, "n": len(own), **summarise(own, thresholds_km)})
    columns = ["continent", "n", *map(name_threshold, thresholds_km), *_REST]
    return pd.DataFrame(rows, columns=columns)
