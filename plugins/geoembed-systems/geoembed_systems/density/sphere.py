"""Neighbours of pictures, what each weighs, and where on the sphere they are densest."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from geoembed.galleries.index import ExactIndex
from geoembed.geodesy import EARTH_RADIUS_KM, great_circle_km, to_unit_vectors

__all__ = [
    "Neighbours",
    "densities",
    "find_neighbours",
    "kernel",
    "snap",
    "sphere_peaks",
    "weigh",
]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

# Squared distances below this are rounding of float32 unit vectors: the same feature. Its weight
# beats that of anything that can be told from it, and is finite.
_SAME: Final = 1e-12
# Below this, 2 - 2 cos has lost the digits that a power of ten would need.
_CLOSE: Final = 1e-2
# Values of the kernel held at a time (64 MB).
_VALUES: Final = 2**23


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The training pictures most like each of some pictures, the most similar first.

    Parameters
    ----------
    rows : array of shape (m, J), int64
        Of the training pictures; J is the number of views times that of neighbours.
    lonlat : array of shape (m, J, 2)
        Where they were taken, degrees, WGS 84.
    weights : array of shape (m, V, J)
        What each weighs for each view of the picture; they sum to 1 over J, and are 0 for
        neighbours of other views.

    Examples
    --------
    >>> found = Neighbours(np.zeros((1, 1), int), np.zeros((1, 1, 2)), np.ones((1, 1, 1)))
    >>> len(found), found.views
    (1, 1)
    """

    rows: Rows
    lonlat: Floats
    weights: Floats

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def views(self) -> int:
        """Views of a picture (V)."""
        return int(self.weights.shape[1])

    def take(self, rows: Any) -> "Neighbours":
        """Return those of some of the pictures.

        Parameters
        ----------
        rows : slice or array
            Which.

        Returns
        -------
        Neighbours
            In that order.
        """
        return Neighbours(self.rows[rows], self.lonlat[rows], self.weights[rows])


def weigh(squared: ArrayLike, exponent: float) -> Floats:
    """Turn squared distances into weights, 1 / squared^exponent, that sum to 1.

    They are formed as logarithms, so that no power overflows; a distance of 0 counts as 1e-12.

    Parameters
    ----------
    squared : array of shape (..., k)
        Squared Euclidean distances of unit vectors, not negative.
    exponent : float
        How fast weights fall.

    Returns
    -------
    array of the same shape, float64
        Sums to 1 along the last axis.

    Examples
    --------
    >>> weigh([1.0, 2.0], 1.0).round(4).tolist()
    [0.6667, 0.3333]
    >>> weigh([0.0, 1e-3, 1.0], 10.0).round(4).tolist()
    [1.0, 0.0, 0.0]
    """
    logs = -exponent * np.log(np.maximum(np.asarray(squared, dtype=np.float64), _SAME))
    weights = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def find_neighbours(
    queries: NDArray[np.float32],
    features: NDArray[np.floating[Any]],
    lonlat: Floats,
    *,
    neighbours: int,
    exponent: float,
    device: str = "auto",
) -> Neighbours:
    """Find the training pictures whose features are nearest, by an exact search.

    Parameters
    ----------
    queries : array of shape (m, V, d), float32
        Unit vectors, one a view of a picture.
    features : array of shape (n, d), float32 or float16
        Unit vectors of the training pictures.
    lonlat : array of shape (n, 2)
        Where those were taken.
    neighbours : int
        How many a view; all there are, where they are fewer.
    exponent : float
        Of the weights, see `weigh`.
    device : str
        Where the search runs.

    Returns
    -------
    Neighbours
        Of each picture; those of all of its views, sorted by distance.

    Examples
    --------
    >>> features = np.eye(3, dtype=np.float32)
    >>> found = find_neighbours(features[:1, None], features, np.zeros((3, 2)), neighbours=2,
    ...                         exponent=10)
    >>> found.rows.tolist(), found.weights.round(3).tolist()
    ([[0, 1]], [[[1.0, 0.0]]])
    """
    pictures, views, width = queries.shape
    count = min(neighbours, len(features))
    flat = queries.reshape(-1, width)
    cosines, rows = ExactIndex(features, device=device).search(flat, count)
    squared = np.maximum(2.0 - 2.0 * cosines.astype(np.float64), 0.0)
    query, place = np.nonzero(squared < _CLOSE)
    for some in np.array_split(np.arange(len(query)), 1 + len(query) * width // _VALUES):
        at = query[some], place[some]
        apart = flat[at[0]].astype(np.float64) - features[rows[at]]
        squared[at] = (apart**2).sum(axis=1)
    mine = np.zeros((pictures, views, views, count))
    each = np.arange(views)
    mine[:, each, each] = weigh(squared, exponent).reshape(pictures, views, count)
    weights = mine.reshape(pictures, views, -1)
    rows, squared = rows.reshape(pictures, -1), squared.reshape(pictures, -1)
    order = np.argsort(squared, axis=1, kind="stable")
    rows = np.take_along_axis(rows, order, axis=1)
    return Neighbours(rows, lonlat[rows], np.take_along_axis(weights, order[:, None], axis=2))


def kernel(cosines: torch.Tensor, sigma_km: float) -> torch.Tensor:
    """Return exp(-d^2 / (2 sigma^2)) of great-circle distances d, in place.

    Parameters
    ----------
    cosines : Tensor
        Of the angles between places, seen from the middle of the Earth; overwritten.
    sigma_km : float
        Standard deviation.

    Returns
    -------
    Tensor
        `cosines`, with other values.

    Examples
    --------
    >>> kernel(torch.tensor([1.0, 0.0], dtype=torch.float64), 444.8).tolist()[0]
    1.0
    """
    angle = cosines.clamp_(-1.0, 1.0).acos_()
    return angle.square_().mul_(-((EARTH_RADIUS_KM / sigma_km) ** 2) / 2.0).exp_()


def densities(found: Neighbours, lonlat: Floats, *, sigma_km: float, pooling: str) -> Floats:
    """Add up the kernels of the neighbours at places.

    Parameters
    ----------
    found : Neighbours
        Of some pictures.
    lonlat : array of shape (m, Q, 2)
        Where to look, Q places for each picture, degrees, WGS 84.
    sigma_km : float
        Standard deviation of the kernel on each neighbour, along great circles.
    pooling : {"mean", "max"}
        How the densities of a picture's views become one.

    Returns
    -------
    array of shape (m, Q), float64
        In [0, 1]: 1 where all neighbours lie at that place. Not scaled to an integral.

    Examples
    --------
    >>> places = np.array([[[0.0, 0.0], [90.0, 0.0]]])
    >>> found = Neighbours(np.arange(2)[None], places, np.array([[[0.4, 0.6]]]))
    >>> densities(found, places, sigma_km=444.8, pooling="mean").round(6).tolist()
    [[0.4, 0.6]]
    """
    width, asked = found.rows.shape[1], lonlat.shape[1]
    pooled = np.empty((len(found), asked))
    for some in np.array_split(np.arange(len(found)), 1 + len(found) * width * asked // _VALUES):
        part = found.take(some)
        near = kernel(_units(lonlat[some]) @ _units(part.lonlat).mT, sigma_km)
        each = near @ torch.from_numpy(part.weights).mT
        pooled[some] = (each.mean(dim=2) if pooling == "mean" else each.amax(dim=2)).numpy()
    return pooled


def sphere_peaks(found: Neighbours, *, sigma_km: float, pooling: str, snap_km: float) -> Floats:
    """Find where the neighbours are densest, looking at the places of the neighbours.

    Parameters
    ----------
    found : Neighbours
        Of some pictures.
    sigma_km, pooling
        As `densities` takes them.
    snap_km : float
        The answer is the most similar neighbour that lies within this distance of the maximum.

    Returns
    -------
    array of shape (m, 2), float64
        Longitude and latitude, degrees.

    Examples
    --------
    >>> places = np.array([[[0.0, 0.0], [90.0, 0.0], [90.0, 1.0]]])
    >>> found = Neighbours(np.arange(3)[None], places, np.array([[[0.4, 0.3, 0.3]]]))
    >>> sphere_peaks(found, sigma_km=444.8, pooling="mean", snap_km=100.0).tolist()
    [[90.0, 0.0]]
    """
    density = densities(found, found.lonlat, sigma_km=sigma_km, pooling=pooling)
    # Rounding must not decide between neighbours at one place: the most similar one is first.
    best = (density >= density.max(axis=1, keepdims=True) * (1.0 - 1e-12)).argmax(axis=1)
    return snap(found, np.take_along_axis(found.lonlat, best[:, None, None], axis=1)[:, 0], snap_km)


def _units(lonlat: Floats) -> torch.Tensor:
    return torch.from_numpy(to_unit_vectors(lonlat.reshape(-1, 2)).reshape(*lonlat.shape[:2], 3))


def snap(found: Neighbours, peak: Floats, snap_km: float) -> Floats:
    """Move maxima to the most similar neighbour near them.

    Parameters
    ----------
    found : Neighbours
        Of some pictures.
    peak : array of shape (m, 2)
        Where the density of each is largest.
    snap_km : float
        How near.

    Returns
    -------
    array of shape (m, 2), float64
        Places of neighbours; the maximum itself where none is so near.

    Examples
    --------
    >>> found = Neighbours(np.zeros((1, 1), int), np.zeros((1, 1, 2)), np.ones((1, 1, 1)))
    >>> [snap(found, np.array([[lon, 0.0]]), 100.0).tolist() for lon in (0.5, 5.0)]
    [[[0.0, 0.0]], [[5.0, 0.0]]]
    """
    away = great_circle_km(found.lonlat[..., 0], found.lonlat[..., 1], peak[:, :1], peak[:, 1:])
    near = np.asarray(away <= snap_km)
    first = np.take_along_axis(found.lonlat, near.argmax(axis=1)[:, None, None], axis=1)[:, 0]
    return np.where(near.any(axis=1, keepdims=True), first, peak)
