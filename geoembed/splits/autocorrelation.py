"""How far values at places resemble each other: a size for blocks that fits the target."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from scipy.optimize import nnls
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

from geoembed.columns import name_rows
from geoembed.coordinates import Places
from geoembed.errors import TableError, TargetError
from geoembed.geodesy import EARTH_RADIUS_KM, to_unit_vectors
from geoembed.splits.blocks import equal_area_blocks
from geoembed.splits.folds import check_n_splits, check_seed, read_rows

__all__ = ["autocorrelation_range_km", "suggest_block_km"]

Floats = NDArray[np.float64]

# 2,000 places make two million pairs.
_PLACES = 2000
_FEWEST = 50

_BINS = 24
_FEWEST_PAIRS = 30

# The exponential model has reached 95 % of its sill at three times its scale.
_PRACTICAL = 3.0

# Less of the variance that depends on distance, or a variogram that rises less clearly than
# this (R2), is what noise looks like.
_LEAST_SHARE = 0.05
_LEAST_EXPLAINED = 0.5

_BLOCKS_A_FOLD = 4


def autocorrelation_range_km(
    points: Any,
    y: ArrayLike | str,
    *,
    crs: Any = None,
    geometry: str = "point",
    random_state: Any = 0,
) -> float:
    """Estimate the distance beyond which values at places no longer resemble each other.

    Parameters
    ----------
    points : GeoDataFrame, DataFrame, geometries, array of shape (n, 2) or Places
        50 places or more, as `geoembed.read_places` takes them.
    y : str or array_like, shape (n,) or (n, k)
        Numbers or labels, or the name of a column of `points`. Of several columns the mean.
    crs : optional
        CRS of coordinates that do not carry one.
    geometry : {"point", "representative_point", "centroid"}
        What stands for a geometry that is not a point.
    random_state : int, RandomState or None
        Seed of the sample of 2,000 places that is looked at where there are more.

    Returns
    -------
    float
        Kilometres on the sphere, at most half the largest distance between two places: a
        longer range cannot be told from a trend. 0 where neighbours are no more alike than
        others.

    Raises
    ------
    CoordinateError
        If `points` cannot be read as places, or holds invalid ones.
    TableError
        If `y` names no column of `points`.
    TargetError
        If there are fewer than 50 places, values are missing or infinite, or all
        values or all places are equal.

    Notes
    -----
    The practical range (95 % of the sill) of an exponential variogram with a nugget, fitted by
    least squares to the mean half squared differences in 24 classes of distance, wider with
    distance. Numbers are replaced by their ranks, so that a few huge cities do not decide;
    labels differ by 0 or 1. Cressie (1993), "Statistics for spatial data", chapter 2.

    Examples
    --------
    >>> from geoembed.data import load_cities
    >>> cities = load_cities()
    >>> 500 < autocorrelation_range_km(cities, "iso_a2") < 5000
    True
    """
    places = read_rows(points, crs, geometry)
    return _range_km(places.lonlat, *_values(points, y, places), random_state)


def suggest_block_km(
    points: Any,
    y: ArrayLike | str,
    *,
    n_splits: int = 5,
    crs: Any = None,
    geometry: str = "point",
    random_state: Any = 0,
) -> float:
    """Suggest the side of blocks from the range over which the target resembles itself.

    Parameters
    ----------
    points : GeoDataFrame, DataFrame, geometries, array of shape (n, 2) or Places
        50 places or more, as `geoembed.read_places` takes them.
    y : str or array_like, shape (n,) or (n, k)
        Numbers or labels, or the name of a column of `points`.
    n_splits : int
        Number of folds the blocks are for.
    crs : optional
        CRS of coordinates that do not carry one.
    geometry : {"point", "representative_point", "centroid"}
        What stands for a geometry that is not a point.
    random_state : int, RandomState or None
        Seed of the sample of places.

    Returns
    -------
    float
        Kilometres, two significant digits: the range; or less, where fewer than four blocks a
        fold would hold places; or twice the median distance to the nearest place, where there
        is no range or a shorter one.

    Raises
    ------
    CoordinateError
        If `points` cannot be read as places, or holds invalid ones.
    OptionError
        If `n_splits` is no whole number from 2 on.
    TableError
        If `y` names no column of `points`.
    TargetError
        If there are fewer than 50 places, values are missing or infinite, or all
        values or all places are equal.

    See Also
    --------
    autocorrelation_range_km : The range itself.

    Examples
    --------
    >>> from geoembed.data import load_cities
    >>> cities = load_cities()
    >>> suggest_block_km(cities, cities["lat"].abs())
    4800.0
    """
    wanted = _BLOCKS_A_FOLD * check_n_splits(n_splits)
    places = read_rows(points, crs, geometry)
    block_km = _range_km(places.lonlat, *_values(points, y, places), random_state)
    block_km = max(block_km, 2.0 * _spacing_km(places.lonlat), 1.0)
    while block_km > 1.0 and _occupied(places.lonlat, block_km) < wanted:
        block_km *= 0.9
    return float(f"{block_km:.2g}")


def _values(points: Any, y: Any, places: Places) -> tuple[Floats, str]:
    """Values to compare, (n, k), and how: ranks by their squares, labels by being equal."""
    what = "y"
    if isinstance(y, str):
        if not isinstance(points, pd.DataFrame) or y not in points.columns:
            raise TableError(f"y={y!r} is no column of the places. Name one, or pass the values.")
        y, what = points[y], f"Column {y!r}"
    table = pd.DataFrame(y)
    if len(table) != len(places):
        raise TargetError(f"{what} holds {len(table):,} values for {len(places):,} places.")
    if len(table) and (places.lonlat == places.lonlat[0]).all():
        raise TargetError(f"All {len(table):,} places are one and the same: there is no range.")
    if len(table) < _FEWEST:
        raise TargetError(
            f"No range can be seen in {len(table):,} places, {_FEWEST} are needed. Choose "
            "block_km= by what you know of the target."
        )
    numeric = all(is_numeric_dtype(kind) and not is_bool_dtype(kind) for kind in table.dtypes)
    if not numeric and table.shape[1] > 1:
        raise TargetError(f"{what} must be numbers, or one column of labels.")
    if numeric:
        values = table.astype(np.float64).to_numpy(na_value=np.nan)
        bad = ~np.isfinite(values).all(axis=1)
    else:
        values = pd.factorize(table.iloc[:, 0])[0][:, None].astype(np.float64)
        bad = table.isna().any(axis=1).to_numpy()
    if bad.any():
        raise TargetError(
            f"{what} is missing or infinite in {bad.sum():,} of {len(bad):,} rows: "
            f"{name_rows(places.index, bad)}. Drop them first."
        )
    varies = (values != values[0]).any(axis=0)
    if not varies.any():
        raise TargetError(f"{what} is the same everywhere: nothing depends on distance.")
    if not numeric:
        return values, "hamming"
    ranks = rankdata(values[:, varies], axis=0)
    return (ranks - ranks.mean(axis=0)) / ranks.std(axis=0), "sqeuclidean"


def _range_km(lonlat: Floats, values: Floats, metric: str, random_state: Any) -> float:
    if len(lonlat) > _PLACES:
        rows = check_seed(random_state).choice(len(lonlat), _PLACES, replace=False)
        lonlat, values = lonlat[rows], values[rows]
    chord = pdist(to_unit_vectors(lonlat))
    km = 2.0 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2.0, 1.0))
    return _fit_range(*_variogram(km, pdist(values, metric)))


def _variogram(km: Floats, difference: Floats) -> tuple[Floats, Floats]:
    """Mean distance and mean difference of pairs in classes of distance."""
    reach = km.max() / 2.0
    shortest = max(np.quantile(km, 1e-3), 1e-3 * reach)
    edges = np.geomspace(shortest, reach, _BINS)
    # Pairs nearer than the first edge are a class as well; those beyond the reach are none.
    bins = np.digitize(km, edges)
    counts = np.bincount(bins, minlength=_BINS + 1)[:_BINS]
    full = counts >= _FEWEST_PAIRS
    means = [
        np.bincount(bins, weights=of, minlength=_BINS + 1)[:_BINS][full] / counts[full]
        for of in (km, difference)
    ]
    return means[0], means[1]


def _fit_range(km: Floats, difference: Floats) -> float:
    """Range of the exponential variogram that fits best; 0 if it is no better than a constant."""
    if len(km) < 4:
        return 0.0  # all places lie at a few distances: nothing to see
    fits = []
    for reach in np.geomspace(km[0], km[-1], 200):
        rising = 1.0 - np.exp(-_PRACTICAL * km / reach)
        design = np.stack([np.ones_like(km), rising], axis=1)
        (nugget, sill), residual = nnls(design, difference)
        fits.append((residual, float(reach), sill / (nugget + sill)))
    residual, reach, share = min(fits)
    explained = 1.0 - residual**2 / ((difference - difference.mean()) ** 2).sum()
    return reach if share > _LEAST_SHARE and explained > _LEAST_EXPLAINED else 0.0


def _spacing_km(lonlat: Floats) -> float:
    """Median distance from a place to the nearest other place."""
    places = np.unique(lonlat, axis=0)
    distance, _ = cKDTree(to_unit_vectors(places)).query(to_unit_vectors(places), k=2)
    return EARTH_RADIUS_KM * float(np.median(distance[:, 1]))


def _occupied(lonlat: Floats, block_km: float) -> int:
    return len(np.unique(equal_area_blocks(lonlat, block_km)))
