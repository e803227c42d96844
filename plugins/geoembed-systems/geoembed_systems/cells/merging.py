"""Combinatorial partitions: coarse classes merged greedily, fine ones where they intersect."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from geoembed.coordinates import read_places
from geoembed.errors import OptionError, SavedHeadError, TableError
from geoembed.geodesy import from_unit_vectors, to_unit_vectors
from geoembed.scalars import is_whole
from geoembed_systems.cells.adaptive import Limits, adaptive_partition
from geoembed_systems.cells.adjacency import neighbouring_cells
from geoembed_systems.cells.greedy import Regions, merge_greedily
from geoembed_systems.cells.partition import Partition

__all__ = ["Combination", "combine_partitions"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Features worked on at once.
_BLOCK = 2**16


class Combination:
    """Several coarse partitions of the same cells, and the fine classes where they intersect.

    `combine_partitions` makes them. The idea is CPlaNet's (Seo, Weyand, Sim and Han 2018): coarse
    classes have many pictures each, and a place that lies in one class of each partition lies
    where they overlap.

    Parameters
    ----------
    base : Partition
        The cells that classes are made of.
    groups : array of shape (P, B), int64
        Class of each cell in each of the P partitions, every class from 0 on with a cell.
    fine : Partition
        Of the same cells; a class for every set of cells that no partition tells apart.

    Attributes
    ----------
    sizes : tuple of int
        Classes of each partition.
    classes : array of shape (P, F), int64
        The class of each partition that holds each fine class.

    Raises
    ------
    OptionError
        If they do not fit together.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> places, features = rng.uniform(0, 30, (500, 2)), rng.normal(size=(500, 4))
    >>> made = combine_partitions(places, features, partitions=3, classes=5, t_max=60, t_min=5)
    >>> len(made.base), made.sizes, len(made.fine)
    (21, (5, 5, 5), 18)
    >>> scores = made.scores([np.eye(5)[:1], np.eye(5)[:1], np.eye(5)[:1]])
    >>> scores.shape, float(scores[0, 0])  # the first fine class lies in the first of each
    ((1, 18), 3.0)
    """

    def __init__(self, base: Partition, groups: ArrayLike, fine: Partition) -> None:
        self.base, self.fine = base, fine
        self.groups: Ints = np.ascontiguousarray(groups, dtype=np.int64)
        if base.joined or self.groups.ndim != 2 or self.groups.shape[1] != len(base):
            raise OptionError(
                f"groups= have the shape {self.groups.shape}: give a class of each of the "
                f"{len(base):,} cells in each partition."
            )
        used = [np.unique(row) for row in self.groups]
        if not used or any((row != np.arange(len(row))).any() for row in used):
            raise OptionError("groups= must number the classes of each partition from 0.")
        self.sizes = tuple(len(row) for row in used)
        owner = _intersections(self.groups)
        if not (np.array_equal(fine.cells, base.cells) and np.array_equal(fine.owner, owner)):
            raise OptionError("fine= is not the partition into the intersections of groups=.")
        first = np.unique(owner, return_index=True)[1]
        self.classes: Ints = self.groups[:, first]

    def __len__(self) -> int:
        return len(self.sizes)

    def __repr__(self) -> str:
        coarse = " + ".join(f"{size:,}" for size in self.sizes)
        return (
            f"<Combination of {coarse} classes to {len(self.fine):,} of {len(self.base):,} cells>"
        )

    @property
    def digest(self) -> str:
        """The digest of the base, and a SHA-256 over the classes of its cells, joined by a dot."""
        return (
            f"{self.base.digest}.{hashlib.sha256(self.groups.astype('<i8').tobytes()).hexdigest()}"
        )

    def locate(self, points: Any) -> Ints:
        """Return the class of every place in each partition.

        Parameters
        ----------
        points : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places, as `geoembed.read_places` takes them.

        Returns
        -------
        array of shape (n, P), int64
            -1 where no class holds the place, in all of them.
        """
        cells = self.base.locate(points)
        return np.where(cells[:, None] >= 0, self.groups.T[cells], -1)

    def means(self, partition: int) -> Floats:
        """Return the mean of each class of one of the partitions, weighted by places.

        Parameters
        ----------
        partition : int
            Its number.

        Returns
        -------
        array of shape (classes, 2), float64
            Longitude and latitude, degrees.
        """
        weighted = to_unit_vectors(self.base.means) * self.base.counts[:, None]
        return from_unit_vectors(_summed(weighted, self.groups[partition]))

    def scores(self, scores: Sequence[ArrayLike]) -> NDArray[np.floating[Any]]:
        """Add up what the partitions say.

        Parameters
        ----------
        scores : sequence of P arrays of shape (n, classes of the partition)
            Of each picture, in each partition.

        Returns
        -------
        array of shape (n, F)
            Of the fine classes: the sum, over the partitions, of the score of the class that each
            lies in.

        Raises
        ------
        OptionError
            If shapes do not fit.
        """
        given = [np.asarray(each) for each in scores]
        shapes = [each.shape for each in given]
        if shapes != [(len(given[0]), size) for size in self.sizes]:
            raise OptionError(
                f"scores= have the shapes {shapes}: give one row a picture for each partition, of "
                f"{', '.join(map(str, self.sizes))} classes."
            )
        found: NDArray[np.floating[Any]] = np.take(given[0], self.classes[0], axis=1)
        for each, held in zip(given[1:], self.classes[1:], strict=True):
            found += np.take(each, held, axis=1)
        return found

    def to_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return what it is made of.

        Returns
        -------
        arrays : dict of str to array
            ``groups``, and those of the base and of the fine partition behind their name and a
            dot.
        config : dict
            Fit for JSON.
        """
        arrays: dict[str, NDArray[Any]] = {"groups": self.groups}
        config = {}
        for name, partition in (("base", self.base), ("fine", self.fine)):
            own, config[name] = partition.to_state()
            arrays |= {f"{name}.{key}": array for key, array in own.items()}
        return arrays, config

    @classmethod
    def from_state(cls, arrays: Mapping[str, Any], config: Mapping[str, Any]) -> Self:
        """Make it again from what `to_state` gave.

        Parameters
        ----------
        arrays : mapping of str to array or Tensor
            As given.
        config : mapping
            As given.

        Returns
        -------
        Combination
            Of equal partitions.

        Raises
        ------
        SavedHeadError
            If it was saved by another version, or is damaged.
        """
        made = {}
        for name in ("base", "fine"):
            prefix = f"{name}."
            own = {
                key.removeprefix(prefix): array
                for key, array in arrays.items()
                if key.startswith(prefix)
            }
            made[name] = Partition.from_state(own, config.get(name, {}))
        try:
            return cls(made["base"], np.array(arrays["groups"]), made["fine"])
        except (KeyError, OptionError) as error:
            raise SavedHeadError(f"The saved combination is damaged: {error}") from error


def combine_partitions(
    points: Any,
    features: ArrayLike | None = None,
    *,
    partitions: int = 5,
    classes: int | str = "auto",
    visual: Sequence[float] | None = None,
    jitter: float = 0.25,
    t_max: Limits = "auto",
    t_min: Limits = "auto",
    min_level: int = 0,
    max_level: int = 20,
    seed: int = 0,
) -> Combination:
    """Make coarse partitions of the same cells, each in another way.

    The cells are those of `adaptive_partition`. For each partition, the region with the fewest
    places is merged with the nearest of its neighbours, until `classes` are left. Cells that all
    partitions so far have in one class are kept apart as long as there is another neighbour, so
    that the intersections are nearly always single cells. The idea is CPlaNet's; how regions are
    merged and kept apart, what is near, and the defaults are ours.

    Parameters
    ----------
    points : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
        Places, as `geoembed.read_places` takes them.
    features : array of shape (n, d), optional
        Of the pictures taken there. Without, only geographic distances count.
    partitions : int
        How many, at least 2.
    classes : int or "auto"
        Of each partition; ``"auto"`` leaves a quarter of the cells, but 2 at least.
    visual : sequence of float, optional
        For each partition, the share of the visual distance in [0, 1]: cosine distance of the mean
        features, against great-circle distance of the mean places, each over its median between
        neighbouring cells. Without, from 0 to 1 in equal steps.
    jitter : float
        Spread of the random factors (log-normal) on the sizes by which the smallest region is
        found; the larger, the more partitions differ, and the less even classes are.
    t_max, t_min, min_level, max_level
        Of the cells, see `adaptive_partition`.
    seed : int
        Of those factors.

    Returns
    -------
    Combination
        The same for the same places in the same order.

    Raises
    ------
    CoordinateError
        If the places cannot be read.
    TableError
        If `features` do not fit the places, or are not finite.
    OptionError
        If an option does not fit, or as `adaptive_partition`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> combine_partitions(rng.uniform(0, 30, (2_000, 2)), partitions=3)
    <Combination of 49 + 49 + 49 classes to 198 of 199 cells>
    """
    places = read_places(points)
    shares = _shares(partitions, visual, jitter)
    base = adaptive_partition(
        places, t_max=t_max, t_min=t_min, min_level=min_level, max_level=max_level
    )
    cells = base.locate(places)
    sums = _summed_rows(to_unit_vectors(places.lonlat), cells, len(base))
    looks = None if features is None else _looks(features, cells, len(base))
    wanted = _wanted(classes, len(base))
    regions = Regions(sums, looks, neighbouring_cells(base))
    rng, sizes = np.random.default_rng(seed), base.counts.astype(np.float64)
    groups = np.empty((len(shares), len(base)), dtype=np.int64)
    for number, share in enumerate(shares):
        groups[number] = merge_greedily(
            regions,
            sizes * np.exp(jitter * rng.standard_normal(len(base))),
            wanted,
            share if looks is not None else 0.0,
            _intersections(groups[:number]) if number else None,
        )
    return Combination(base, groups, _fine(base, groups, sums))


def _shares(partitions: Any, visual: Sequence[float] | None, jitter: float) -> list[float]:
    """Check how many partitions there are to be and how they differ."""
    if not isinstance(partitions, int | np.integer) or partitions < 2:
        raise OptionError(f"partitions={partitions!r}: give 2 or more, or there is no combination.")
    shares = np.linspace(0.0, 1.0, partitions) if visual is None else np.asarray(visual, float)
    if shares.shape != (partitions,) or not ((shares >= 0.0) & (shares <= 1.0)).all():
        raise OptionError(
            f"visual={visual!r} does not fit: give a share in [0, 1] for each of the {partitions} "
            "partitions."
        )
    if not 0.0 <= jitter < np.inf:
        raise OptionError(f"jitter={jitter!r} does not fit: give a number of 0 or more.")
    found: list[float] = shares.tolist()
    return found


def _wanted(classes: Any, cells: int) -> int:
    """Settle how many classes each partition gets."""
    if isinstance(classes, str) and classes == "auto":
        return max(2, cells // 4)
    if not is_whole(classes) or not 2 <= classes <= cells:
        raise OptionError(
            f"classes={classes!r} does not fit: give 2 to {cells:,}, as many as there are cells, "
            "or 'auto'."
        )
    return int(classes)


def _looks(features: ArrayLike, cells: Ints, count: int) -> Floats:
    """Add up the features of every cell's pictures, each of length 1."""
    given = np.asarray(features)
    if given.ndim != 2 or len(given) != len(cells):
        raise TableError(
            f"features= have the shape {given.shape}: give (n, d), one row for each of the "
            f"{len(cells):,} places."
        )
    found = np.zeros((count, given.shape[1]))
    for start in range(0, len(given), _BLOCK):
        block = given[start : start + _BLOCK].astype(np.float64)
        if not np.isfinite(block).all():
            raise TableError("features= hold values that are not finite: leave those rows out.")
        length = np.linalg.norm(block, axis=1, keepdims=True)
        unit = block / np.where(length > 0.0, length, 1.0)
        found += _summed_rows(unit, cells[start : start + _BLOCK], count)
    return found


def _summed_rows(values: Floats, cells: Ints, count: int) -> Floats:
    """Add up rows by cell, (n, d) -> (count, d); those in none (-1) are left out."""
    rows = np.flatnonzero(cells >= 0)
    held = csr_array((np.ones(len(rows)), (cells[rows], rows)), shape=(count, len(values)))
    found: Floats = held @ values
    return found


def _summed(values: Floats, owner: Ints) -> Floats:
    return _summed_rows(values, owner, int(owner.max()) + 1)


def _intersections(groups: Ints) -> Ints:
    """Number what no partition tells apart, by first cells, (P, B) -> (B,)."""
    _, first, found = np.unique(groups, axis=1, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[found.ravel()]


def _fine(base: Partition, groups: Ints, sums: Floats) -> Partition:
    """Make the partition into intersections; the base itself, where each is one cell."""
    owner = _intersections(groups)
    count = int(owner.max()) + 1
    if count == len(base):
        return base
    means = from_unit_vectors(_summed(sums, owner))
    # Of a single cell its own, to the last bit.
    alone = np.flatnonzero(np.bincount(owner)[owner] == 1)
    means[owner[alone]] = base.means[alone]
    counts = np.bincount(owner, base.counts).astype(np.int64)
    return Partition(
        base.cells, means, counts, places=base.places, options=base.options, owner=owner
    )
