"""Neighbouring regions merged into fewer ones, the smallest first."""

import heapq
from typing import Final

import numpy as np
from numpy.typing import NDArray

from geoembed.geodesy import EARTH_RADIUS_KM

__all__ = ["Regions", "merge_greedily"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Against a division by the length of a sum that has none.
_TINY: Final = 1e-300


class Regions:
    """Cells with what tells how far they are from each other.

    Parameters
    ----------
    sums : array of shape (B, 3), float64
        Sum of the unit vectors of each cell's places.
    visual : array of shape (B, d), float64, optional
        Sum of the features of each cell's pictures, each of length 1.
    pairs : array of shape (e, 2), int64
        Neighbours, each pair once; see `geoembed_systems.cells.adjacency.neighbouring_cells`.

    Examples
    --------
    >>> regions = Regions(np.eye(3), None, np.array([[0, 1], [1, 2]]))
    >>> regions.distances(0, np.array([1, 2]), share=0.0).round(3).tolist()
    [1.0, 1.0]
    """

    def __init__(self, sums: Floats, visual: Floats | None, pairs: Ints) -> None:
        self.sums, self.visual, self.pairs = sums.copy(), visual, pairs
        if visual is not None:
            self.visual = visual.copy()
        first, second = pairs.T
        self._km = _scale(_km(sums[first], sums[second]))
        self._cosine = (
            1.0 if visual is None else _scale(_cosine_distance(visual[first], visual[second]))
        )

    def copy(self) -> "Regions":
        """Return regions that can be merged without a trace in these, on the same scales."""
        other = object.__new__(Regions)
        other.__dict__ = self.__dict__ | {"sums": self.sums.copy()}
        if self.visual is not None:
            other.visual = self.visual.copy()
        return other

    def distances(self, one: int, others: Ints, share: float) -> Floats:
        """Return how far a region is from others.

        Parameters
        ----------
        one : int
            Row of the region.
        others : array of shape (k,), int64
            Rows of the others.
        share : float
            Of the visual distance, in [0, 1]; the rest is the geographic one's.

        Returns
        -------
        array of shape (k,), float64
            Great-circle distance of the means and cosine distance of the mean features, each over
            its median between neighbouring cells, weighted.
        """
        found = np.zeros(len(others))
        if share < 1.0 or self.visual is None:
            found += (1.0 - share) * _km(self.sums[one], self.sums[others]) / self._km
        if share > 0.0 and self.visual is not None:
            away = _cosine_distance(self.visual[one], self.visual[others])
            found += share * away / self._cosine
        return found

    def merge(self, kept: int, gone: int) -> None:
        """Add one region to another.

        Parameters
        ----------
        kept, gone : int
            Rows; the second is not to be asked for any more.
        """
        self.sums[kept] += self.sums[gone]
        if self.visual is not None:
            self.visual[kept] += self.visual[gone]


def merge_greedily(
    regions: Regions, sizes: Floats, classes: int, share: float, together: Ints | None = None
) -> Ints:
    """Merge the smallest region with its nearest neighbour, until few enough are left.

    Parameters
    ----------
    regions : Regions
        Of B cells; not changed.
    sizes : array of shape (B,), float64
        How large each cell is; a merged region is as large as its cells together.
    classes : int
        How many regions to leave, at least 1. There will be more only if no neighbours are left.
    share : float
        Of the visual distance, in [0, 1].
    together : array of shape (B,), int64, optional
        Cells with equal numbers were merged before, and are to be told apart now: a neighbour
        that holds one of the same number is taken only where all of them do.

    Returns
    -------
    array of shape (B,), int64
        Region of each cell, numbered from 0 by their first cells.

    Notes
    -----
    Of equal sizes or distances the region with the lowest first cell is taken. 10,000 cells take
    a second or two.

    Examples
    --------
    >>> units = np.array([[1.0, 0.0, 0.0], [0.99, 0.14, 0.0], [0.0, 1.0, 0.0], [0.0, 0.99, 0.14]])
    >>> regions = Regions(units, None, np.array([[0, 1], [1, 2], [2, 3]]))
    >>> merge_greedily(regions, np.ones(4), 2, share=0.0).tolist()
    [0, 0, 1, 1]
    """
    merged, size = regions.copy(), sizes.astype(np.float64)
    count = len(size)
    beside: list[set[int]] = [set() for _ in range(count)]
    for first, second in regions.pairs.tolist():
        beside[first].add(second)
        beside[second].add(first)
    held = [] if together is None else [{number} for number in together.tolist()]
    into = np.arange(count)
    heap = [(value, row) for row, value in enumerate(size.tolist())]
    heapq.heapify(heap)
    left = count
    while left > classes and heap:
        value, row = heapq.heappop(heap)
        # What has grown or gone since it was put there.
        if into[row] != row or value != size[row] or not beside[row]:
            continue
        others = np.array(sorted(beside[row]), dtype=np.int64)
        away = merged.distances(row, others, share)
        if held:
            clash = np.array([not held[row].isdisjoint(held[other]) for other in others.tolist()])
            away[clash & ~clash.all()] = np.inf
        nearest = int(others[away.argmin()])
        kept, gone = min(row, nearest), max(row, nearest)
        merged.merge(kept, gone)
        size[kept] += size[gone]
        into[gone] = kept
        for other in beside[gone]:
            beside[other].discard(gone)
            if other != kept:
                beside[other].add(kept)
                beside[kept].add(other)
        beside[gone] = set()
        if held:
            held[kept] |= held[gone]
        heapq.heappush(heap, (float(size[kept]), kept))
        left -= 1
    # A region points to a lower one: in ascending order each finds where that one has gone.
    for row in range(count):
        into[row] = into[into[row]]
    return np.unique(into, return_inverse=True)[1].astype(np.int64)


def _scale(distances: Floats) -> float:
    """Return the median; 1 where it says nothing."""
    middle = float(np.median(distances)) if len(distances) else 0.0
    return middle if middle > 0.0 else 1.0


def _directions(sums: Floats) -> Floats:
    length = np.linalg.norm(sums, axis=-1, keepdims=True)
    found: Floats = sums / np.maximum(length, _TINY)
    return found


def _km(one: Floats, others: Floats) -> Floats:
    # By the chord: the cosine of short distances has no digits left.
    chord = np.linalg.norm(_directions(one) - _directions(others), axis=-1)
    found: Floats = 2.0 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2.0, 1.0))
    return found


def _cosine_distance(one: Floats, others: Floats) -> Floats:
    # Half the squared chord, which is 1 - cosine, and never below 0.
    apart = _directions(one) - _directions(others)
    found: Floats = 0.5 * np.einsum("...d,...d->...", apart, apart)
    return found
