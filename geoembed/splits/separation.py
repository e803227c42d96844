"""How far test places are from training places, and keeping them apart."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from geoembed.coordinates import read_places
from geoembed.errors import OptionError
from geoembed.geodesy import EARTH_RADIUS_KM, distance_km, to_unit_vectors

__all__ = ["nearest_km", "nearest_train_km", "outside_buffer"]

Floats = NDArray[np.float64]

# The sphere is within 0.56 % of the ellipsoid (geodesy.great_circle_km), with a margin.
_FLATTENING = 1.0057


def nearest_train_km(
    points: Any,
    train: ArrayLike,
    test: ArrayLike,
    *,
    crs: Any = None,
    geometry: str = "point",
) -> Floats:
    """Measure how far each test place is from the nearest training place.

    Parameters
    ----------
    points : GeoDataFrame, DataFrame, geometries, array of shape (n, 2) or Places
        All places, as `geoembed.read_places` takes them; arrays are (lon, lat), WGS 84.
    train, test : array_like of int or of bool
        Positions of rows, as a splitter gives them, or masks of length n.
    crs : optional
        CRS of coordinates that do not carry one.
    geometry : {"point", "representative_point", "centroid"}
        What stands for a geometry that is not a point.

    Returns
    -------
    ndarray of float64, shape (n_test,)
        Kilometres, geodesics on WGS 84; infinite if `train` is empty.

    Raises
    ------
    CoordinateError
        If `points` cannot be read as places, or holds invalid ones.
    OptionError
        If `train` or `test` are neither positions nor masks that fit.

    Examples
    --------
    >>> places = [[179.5, 0.0], [-179.5, 0.0], [0.0, 0.0]]
    >>> nearest_train_km(places, train=[0, 2], test=[1]).round(3).tolist()
    [111.319]
    """
    if geometry == "sample":
        raise OptionError(
            "geometry='sample' gives many points a row: choose 'representative_point' or "
            "'centroid' here."
        )
    lonlat = read_places(points, crs=crs, geometry=geometry).lonlat
    chosen = [_rows(rows, name, len(lonlat)) for name, rows in (("train", train), ("test", test))]
    return nearest_km(lonlat[chosen[1]], lonlat[chosen[0]])


def nearest_km(places: Floats, others: Floats, *, within_km: float = np.inf) -> Floats:
    """Measure how far each place is from the nearest of others.

    Parameters
    ----------
    places, others : ndarray of float64, shapes (n, 2) and (m, 2)
        Longitude and latitude in degrees.
    within_km : float
        Distances beyond it are of no interest.

    Returns
    -------
    ndarray of float64, shape (n,)
        Kilometres, exact geodesics on WGS 84; infinite where it is certain that none of the
        others is within `within_km`.

    Examples
    --------
    >>> nearest_km(np.array([[0.0, 0.0]]), np.array([[0.0, 1.0], [0.0, -2.0]])).round(3).tolist()
    [110.574]
    """
    nearest = np.full(len(places), np.inf)
    if not len(places) or not len(others):
        return nearest
    # Equal places would crowd out the different ones among the nearest few.
    others = np.unique(others, axis=0)
    tree = cKDTree(to_unit_vectors(others))
    bound = _chord(within_km * _FLATTENING)
    rows, few = np.arange(len(places)), min(4, len(others))
    vectors = to_unit_vectors(places)
    while len(rows):
        chord, at = tree.query(vectors[rows], k=few, distance_upper_bound=bound)
        chord, at = chord.reshape(len(rows), few), at.reshape(len(rows), few)
        row, column = np.nonzero(np.isfinite(chord))
        km = np.full(chord.shape, np.inf)
        km[row, column] = distance_km(*places[rows[row]].T, *others[at[row, column]].T)
        nearest[rows] = km.min(axis=1)
        # The sphere's order is not quite the ellipsoid's: look further while the farthest one
        # found on the sphere is not certainly farther than the nearest on the ellipsoid.
        last = chord[:, -1]
        unsure = np.isfinite(last) & (last <= _chord(nearest[rows] * _FLATTENING))
        rows = rows[unsure & (few < len(others))]
        few = min(4 * few, len(others))
    return nearest


def outside_buffer(lonlat: Floats, test: NDArray[np.bool_], buffer_km: float) -> NDArray[np.bool_]:
    """Find the rows that may be trained on: farther from every test place than the buffer.

    Parameters
    ----------
    lonlat : ndarray of float64, shape (n, 2)
        Longitude and latitude in degrees.
    test : ndarray of bool, shape (n,)
        The rows that are tested.
    buffer_km : float
        Geodesic distance on WGS 84; 0 keeps every row that is not tested.

    Returns
    -------
    ndarray of bool, shape (n,)
        True for rows to train on.

    Examples
    --------
    >>> places = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    >>> outside_buffer(places, np.array([True, False, False]), 150).tolist()
    [False, False, True]
    """
    train = ~test
    if buffer_km > 0:
        rest = np.flatnonzero(train)
        near = nearest_km(lonlat[rest], lonlat[test], within_km=buffer_km) <= buffer_km
        train[rest[near]] = False
    return train


def _chord(km: Any) -> Any:
    """Chord of the unit sphere for a great circle; infinite from the antipode on."""
    angle = np.asarray(km) / EARTH_RADIUS_KM
    chord = np.where(angle < np.pi, 2.0 * np.sin(np.minimum(angle, np.pi) / 2.0), np.inf)
    # Rounding must not lose a neighbour that lies at the distance itself.
    return chord * (1.0 + 1e-12)


def _rows(rows: ArrayLike, name: str, n: int) -> NDArray[np.intp]:
    """Positions from positions or from a mask."""
    array = np.asarray(rows)
    if array.dtype == np.bool_ and array.shape == (n,):
        return np.flatnonzero(array)
    if array.ndim == 1 and (array.dtype.kind in "iu" or not array.size):
        positions = array.astype(np.intp)
        if ((positions >= 0) & (positions < n)).all():
            return positions
    raise OptionError(
        f"{name}= must be positions of rows from 0 to {n - 1}, or a mask of {n} True or False."
    )
