"""How densely a gallery covers the Earth, and how near its places come to given ones."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pyproj import Geod
from scipy.spatial import KDTree

from geoembed.coordinates import read_places
from geoembed.data import label_country, load_countries
from geoembed.geodesy import distance_km, to_unit_vectors

__all__ = ["AT_SEA", "THRESHOLDS_KM", "Coverage", "coverage_of", "nearest_km"]

THRESHOLDS_KM: Final = (1.0, 25.0, 200.0, 750.0, 2500.0)
"""Street, city, region, country, continent: what papers on geolocation report."""

AT_SEA: Final = "at sea"

# Candidates for the nearest place: on the sphere their order may be another.
_CANDIDATES: Final = 4
_PERCENTILES: Final = (5, 50, 95)
# Places at a time: memory grows with their tree, and not with what is found for each.
_BLOCK: Final = 200_000


@dataclass(frozen=True)
class Coverage:
    """What `Gallery.coverage_report` found.

    Parameters
    ----------
    places, rows : int
        Distinct places, and rows of the source that they stand for.
    spacing_km : dict of int to float
        Percentile (5, 50, 95) -> distance from a place to the nearest other one, geodesic; NaN
        for a single place.
    continents : DataFrame
        One row a continent, with ``places``, ``share`` (of all) and ``per_1000_km2``; a last row
        counts those at sea.
    ceiling : dict of float to float
        Kilometres -> share of the given places with a place of the gallery so near; empty where
        none were given.
    truths : int
        How many were given.

    Examples
    --------
    >>> found = coverage_of(np.array([[0.0, 0.0], [0.0, 1.0]]), np.array([3, 1]))
    >>> found.places, found.rows, found.truths
    (2, 4, 0)
    """

    places: int
    rows: int
    spacing_km: dict[int, float]
    continents: pd.DataFrame
    ceiling: dict[float, float]
    truths: int

    def __str__(self) -> str:
        near, middle, far = (f"{self.spacing_km[p]:.3g} km" for p in _PERCENTILES)
        lines = [
            f"{self.places:,} places (of {self.rows:,} rows); nearest other place: {near} (5 %), "
            f"{middle} (median), {far} (95 %)",
            self.continents.to_string(float_format=lambda value: f"{value:.3g}"),
        ]
        if self.ceiling:
            found = ", ".join(f"{km:g} km {share:.1%}" for km, share in self.ceiling.items())
            lines.append(f"ceiling for {self.truths:,} given places: {found}")
        return "\n".join(lines)


def coverage_of(
    lonlat: NDArray[np.float64],
    counts: NDArray[np.int64],
    truth: NDArray[np.float64] | None = None,
) -> Coverage:
    """Measure the coverage of places.

    Parameters
    ----------
    lonlat : array of shape (n, 2)
        Distinct places, degrees, WGS 84.
    counts : array of shape (n,)
        Rows that each stands for.
    truth : array of shape (m, 2), optional
        Places that answers should come near.

    Returns
    -------
    Coverage
        The report.

    Examples
    --------
    >>> report = coverage_of(np.array([[0.0, 0.0], [0.0, 1.0]]), np.array([1, 1]))
    >>> round(report.spacing_km[50], 2)
    110.57
    """
    spacing = _spacing_km(lonlat) if len(lonlat) > 1 else np.full(1, np.nan)
    ceiling: dict[float, float] = {}
    if truth is not None:
        away = nearest_km(truth, lonlat)
        ceiling = {km: float(np.mean(away <= km)) for km in THRESHOLDS_KM}
    percentiles = np.percentile(spacing, _PERCENTILES)
    return Coverage(
        places=len(lonlat),
        rows=int(counts.sum()),
        spacing_km=dict(zip(_PERCENTILES, map(float, percentiles), strict=True)),
        continents=_continents(lonlat),
        ceiling=ceiling,
        truths=0 if truth is None else len(truth),
    )


def nearest_km(truth: ArrayLike, places: ArrayLike) -> NDArray[np.float64]:
    """Measure how near a gallery comes: what an answer from it is off by at least.

    Parameters
    ----------
    truth : array_like of shape (n, 2)
        Where the queries were taken: longitude and latitude, degrees, WGS 84.
    places : array_like of shape (m, 2)
        Of the gallery, at least one.

    Returns
    -------
    ndarray of float64, shape (n,)
        Geodesic distance to the nearest place, km.

    Raises
    ------
    CoordinateError
        If places cannot be read.

    Examples
    --------
    >>> nearest_km([[2.35, 48.86]], [[2.35, 48.87], [13.4, 52.5]]).round(3).tolist()
    [1.112]
    """
    there, gallery = read_places(truth).lonlat, read_places(places).lonlat
    candidates = np.arange(1, min(_CANDIDATES, len(gallery)) + 1)
    _, rows = KDTree(to_unit_vectors(gallery)).query(to_unit_vectors(there), k=candidates)
    lon, lat = there[:, :1], there[:, 1:]
    away = distance_km(lon, lat, gallery[rows, 0], gallery[rows, 1])
    nearest: NDArray[np.float64] = away.min(axis=1)
    return nearest


def _spacing_km(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure from every place to the nearest other one, block by block."""
    units = to_unit_vectors(lonlat)
    tree = KDTree(units)
    spacing = np.empty(len(lonlat))
    for start in range(0, len(lonlat), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(lonlat)))
        _, nearest = tree.query(units[rows], k=2)
        # Two places so close that rounding swaps them are neighbours of each other all the same.
        other = np.where(nearest[:, 0] == rows, nearest[:, 1], nearest[:, 0])
        spacing[rows] = distance_km(*lonlat[rows].T, *lonlat[other].T)
    return spacing


def _continents(lonlat: NDArray[np.float64]) -> pd.DataFrame:
    areas = _continent_areas()
    found = pd.Series(0, index=[*areas, AT_SEA])
    for start in range(0, len(lonlat), _BLOCK):
        block = lonlat[start : start + _BLOCK]
        names = pd.Series(label_country(*block.T, column="continent")).fillna(AT_SEA)
        found += names.value_counts().reindex(found.index, fill_value=0)
    density = [
        found[name] / areas[name] * 1000 if name in areas else np.nan for name in found.index
    ]
    return pd.DataFrame(
        {"places": found, "share": found / len(lonlat), "per_1000_km2": density}
    ).rename_axis("continent")


@cache
def _continent_areas() -> dict[str, float]:
    """Square kilometres by continent, in alphabetical order."""
    countries = load_countries()
    geod: Any = Geod(ellps="WGS84")
    km2 = [abs(geod.geometry_area_perimeter(shape)[0]) / 1e6 for shape in countries.geometry]
    return {
        str(k): float(v) for k, v in pd.Series(km2).groupby(countries["continent"]).sum().items()
    }
