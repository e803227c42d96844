"""Which cells of a partition are neighbours."""

from typing import Final

import numpy as np
import s2geometry
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from geoembed.errors import OptionError
from geoembed.geodesy import to_unit_vectors
from geoembed_systems.cells import s2
from geoembed_systems.cells.partition import Partition

__all__ = ["neighbouring_cells"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Where cells between them were dropped, or lie at sea, the nearest means are neighbours too.
_NEAREST: Final = 4


def neighbouring_cells(partition: Partition) -> Ints:
    """List the pairs of neighbours.

    Cells that share an edge are neighbours. Cells without places are in no partition, so that
    islands and cities lie apart: each cell is a neighbour of those with the four nearest means,
    too, and groups of cells that are still apart get the shortest link between them (ours).

    Parameters
    ----------
    partition : Partition
        Of single cells.

    Returns
    -------
    array of shape (e, 2), int64
        Numbers of classes, the lower one first; each pair once, in order. From any class one can
        come to any other.

    Raises
    ------
    OptionError
        If classes have several cells.

    Examples
    --------
    >>> from geoembed_systems.cells.adaptive import adaptive_partition
    >>> places = np.random.default_rng(0).uniform(0, 30, (500, 2))
    >>> neighbouring_cells(adaptive_partition(places, t_max=300, t_min=10)).tolist()
    [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    """
    if partition.joined:
        raise OptionError("Only single cells have neighbours: give the partition they are from.")
    count = len(partition)
    if count < 2:
        return np.empty((0, 2), dtype=np.int64)
    units = to_unit_vectors(partition.means)
    nearest = KDTree(units).query(units, k=min(_NEAREST + 1, count))[1].astype(np.int64)
    itself = np.repeat(np.arange(count), nearest.shape[1])
    pairs = _ordered(np.concatenate([_touching(partition), np.c_[itself, nearest.ravel()]]))
    while True:
        group = _groups(pairs, count)
        if not group.any():
            return pairs
        pairs = _ordered(np.concatenate([pairs, _links(units, group)]))


def _touching(partition: Partition) -> Ints:
    """List the cells that share an edge.

    Of two cells that touch, the smaller one has a neighbour of its own size within the other.
    """
    around = [s2geometry.S2CellId(number).GetEdgeNeighbors() for number in partition.ids.tolist()]
    beside = np.array([[each.id() for each in four] for four in around], dtype=np.uint64)
    firsts, lasts = s2.first_leaves(partition.ids), s2.last_leaves(partition.ids)
    at = np.searchsorted(firsts, s2.first_leaves(beside), side="right") - 1
    held = (at >= 0) & (s2.last_leaves(beside) <= lasts[at])
    cell = np.broadcast_to(np.arange(len(partition))[:, None], beside.shape)
    return np.c_[cell[held], at[held]].astype(np.int64)


def _ordered(pairs: Ints) -> Ints:
    """Sort pairs, each once, the lower number first."""
    pairs = np.sort(pairs, axis=1)
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)


def _groups(pairs: Ints, count: int) -> Ints:
    """Return the connected group of each cell, numbered from 0."""
    ones = np.ones(len(pairs), dtype=np.int8)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _links(units: Floats, group: Ints) -> Ints:
    """Return the shortest link of every group but the largest to a cell outside it."""
    links = []
    largest = np.bincount(group).argmax()
    for number in range(int(group.max()) + 1):
        if number == largest:
            continue
        inside, outside = np.flatnonzero(group == number), np.flatnonzero(group != number)
        away, nearest = KDTree(units[inside]).query(units[outside])
        best = int(away.argmin())
        links.append((inside[nearest[best]], outside[best]))
    return np.array(links, dtype=np.int64)
