"""The table of answers: a row a candidate, with what the place is called."""

from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.data import label_country, load_countries, nearest_city
from geoembed.geolocation.calibration import Assessment
from geoembed.geolocation.queries import Queries

__all__ = ["Answer", "answers_frame", "name_places"]

# Scores, best first, and places (k, 2) of one query.
Answer = tuple[NDArray[np.floating], NDArray[np.float64]]


# Order of the columns.
_COLUMNS = (
    *("query", "rank", "score", "lon", "lat", "place", "place_km"),
    *("radius_50_km", "radius_90_km", "calibrated", "no_signal", "error"),
)


def answers_frame(
    queries: Queries, answers: Sequence[Answer], assessment: Assessment | None
) -> gpd.GeoDataFrame:
    """Put the candidates of all queries into one table.

    Parameters
    ----------
    queries : Queries
        What was asked; those with an error get one row without a place.
    answers : sequence of (scores, lonlat)
        One a query that has a vector, in order.
    assessment : Assessment or None
        How sure the first answers of those are; None leaves radii open.

    Returns
    -------
    GeoDataFrame
        EPSG:4326, a row a candidate, see `geoembed.GeoLocalizer.localize`.
    """
    bad = (np.array([np.nan]), np.full((1, 2), np.nan))
    waiting = iter(answers)
    each = [bad if error else next(waiting) for error in queries.errors]
    counts = [len(scores) for scores, _ in each]
    lonlat = np.concatenate([np.empty((0, 2)), *(places for _, places in each)])
    rank = np.concatenate([np.empty(0, int), *(np.arange(1, count + 1) for count in counts)])
    error = np.repeat(np.array(queries.errors, dtype=object), counts)
    table = pd.DataFrame(
        {
            "query": np.repeat(np.array(queries.names, dtype=object), counts),
            "rank": pd.array(rank, dtype="Int64"),
            "score": np.concatenate([np.empty(0), *(scores for scores, _ in each)]),
            "lon": lonlat[:, 0],
            "lat": lonlat[:, 1],
            "error": error,
        }
    )
    table.loc[error != "", "rank"] = pd.NA
    placed = table["lon"].notna().to_numpy()
    table["place"], table["place_km"] = None, np.nan
    names, away = name_places(table.loc[placed, ["lon", "lat"]].to_numpy())
    table.loc[placed, "place"], table.loc[placed, "place_km"] = names, away
    _add_assessment(table, assessment)
    points = gpd.points_from_xy(table["lon"], table["lat"])
    frame = gpd.GeoDataFrame(table[list(_COLUMNS)], geometry=points, crs="EPSG:4326")
    frame.loc[~placed, "geometry"] = None
    return frame


def _add_assessment(table: pd.DataFrame, assessment: Assessment | None) -> None:
    """Write radii beside first answers; those of other ranks stay open."""
    first = (table["rank"] == 1).fillna(False).to_numpy(bool)
    table["radius_50_km"], table["radius_90_km"] = np.nan, np.nan
    table["calibrated"] = assessment is not None and assessment.calibrated
    table["no_signal"] = pd.array([pd.NA] * len(table), dtype="boolean")
    if assessment is None:
        return
    table.loc[first, "radius_50_km"] = assessment.radius_50_km
    table.loc[first, "radius_90_km"] = assessment.radius_90_km
    if assessment.no_signal is not None:
        table.loc[first, "no_signal"] = assessment.no_signal


def name_places(lonlat: NDArray[np.float64]) -> tuple[list[str], NDArray[np.float64]]:
    """Say what places are called: the nearest city of 50,000 people or more, and the country.

    Parameters
    ----------
    lonlat : array of shape (n, 2)
        Degrees, WGS 84, finite.

    Returns
    -------
    names : list of str
        Such as ``"Abancay, Peru"``. The country is the one that the place itself lies in; at sea,
        that of the city.
    km : array of shape (n,)
        Geodesic distance to that city.

    Examples
    --------
    >>> names, km = name_places(np.array([[-72.545, -13.163]]))
    >>> names, km.round().tolist()
    (['Abancay, Peru'], [64.0])
    """
    if not len(lonlat):
        return [], np.empty(0)
    cities = nearest_city(lonlat[:, 0], lonlat[:, 1])
    countries = label_country(lonlat[:, 0], lonlat[:, 1], column="name")
    named = load_countries().drop_duplicates("iso_a2").set_index("iso_a2")["name"]
    # Overseas departments have a code of their own and lie in their state's polygon.
    state = pd.Series(label_country(cities["lon"], cities["lat"], column="name"), dtype=object)
    of_city = cities["iso_a2"].map(named).fillna(state).fillna(cities["iso_a2"])
    names = [
        f"{city}, {here or there}"
        for city, here, there in zip(cities["name"], countries, of_city, strict=True)
    ]
    return names, cities["distance_km"].to_numpy()
