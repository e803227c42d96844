"""Nested partitions: coarse, middle and fine classes of the same places."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from geoembed.coordinates import read_places
from geoembed.errors import OptionError, SavedHeadError
from geoembed_systems.cells import s2
from geoembed_systems.cells.adaptive import Limits, adaptive_partition, auto_limits
from geoembed_systems.cells.partition import Partition

__all__ = ["Hierarchy", "nested_partitions"]

Ints = NDArray[np.int64]

# Of `t_max` of the fine partition: the ratios of the published 5,000 / 2,000 / 1,000.
_WIDER: Final = (5, 2, 1)


class Hierarchy:
    """Partitions of which each is nested in the one before it.

    `nested_partitions` makes them.

    Parameters
    ----------
    partitions : sequence of Partition
        Coarse to fine, two or more, made of the same places. Every cell of a finer one lies in a
        cell of each coarser one.

    Attributes
    ----------
    partitions : tuple of Partition
        As given.
    parents : tuple of array of shape (C,), int64
        For each coarser partition the class that holds each class of the finest.

    Raises
    ------
    OptionError
        If a cell lies in no cell of a coarser partition, or classes have several cells.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> nested = nested_partitions(rng.uniform(0, 30, (500, 2)), t_max=(300, 100), t_min=10)
    >>> [len(partition) for partition in nested.partitions]
    [4, 9]
    >>> nested.parents[0].tolist()
    [0, 0, 0, 0, 1, 1, 2, 3, 3]
    """

    def __init__(self, partitions: Sequence[Partition]) -> None:
        self.partitions = tuple(partitions)
        if len(self.partitions) < 2:
            raise OptionError(
                f"{len(self.partitions)} partition is no hierarchy: give two or more, coarse first."
            )
        if any(partition.joined for partition in self.partitions):
            raise OptionError("Classes of a hierarchy are single cells: some are made of several.")
        self.parents = tuple(
            _inside(self.finest, coarser, number)
            for number, coarser in enumerate(self.partitions[:-1])
        )

    @property
    def finest(self) -> Partition:
        """The last partition."""
        return self.partitions[-1]

    def __len__(self) -> int:
        return len(self.partitions)

    def __repr__(self) -> str:
        classes = " / ".join(f"{len(partition):,}" for partition in self.partitions)
        return f"<Hierarchy of {classes} classes>"

    @property
    def digest(self) -> str:
        """The digest of the finest partition and those above it, joined by dots."""
        return ".".join(partition.digest for partition in self.partitions)

    def locate(self, points: Any) -> Ints:
        """Return the class of every place in each partition.

        Parameters
        ----------
        points : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
            Places, as `geoembed.read_places` takes them.

        Returns
        -------
        array of shape (n, levels), int64
            Coarse to fine; -1 where no class holds the place.
        """
        places = read_places(points)
        return np.stack([partition.locate(places) for partition in self.partitions], axis=1)

    def to_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return what it is made of.

        Returns
        -------
        arrays : dict of str to array
            Those of each partition, behind its number and a dot.
        config : dict
            Fit for JSON.
        """
        arrays: dict[str, NDArray[Any]] = {}
        configs = []
        for number, partition in enumerate(self.partitions):
            own, config = partition.to_state()
            arrays |= {f"{number}.{name}": array for name, array in own.items()}
            configs.append(config)
        return arrays, {"partitions": configs}

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
        Hierarchy
            Of equal partitions.

        Raises
        ------
        SavedHeadError
            If it was saved by another version, or is damaged.
        """
        partitions = []
        for number, own in enumerate(config.get("partitions", ())):
            prefix = f"{number}."
            named = {
                name.removeprefix(prefix): array
                for name, array in arrays.items()
                if name.startswith(prefix)
            }
            partitions.append(Partition.from_state(named, own))
        try:
            return cls(partitions)
        except OptionError as error:
            raise SavedHeadError(f"The saved hierarchy is damaged: {error}") from error


def _inside(fine: Partition, coarse: Partition, number: int) -> Ints:
    """Return the class of `coarse` that holds each of `fine`."""
    starts, ends = s2.first_leaves(coarse.ids), s2.last_leaves(coarse.ids)
    at = np.searchsorted(starts, s2.first_leaves(fine.ids), side="right") - 1
    outside = (at < 0) | (s2.last_leaves(fine.ids) > ends[at])
    if outside.any():
        first = s2.tokens(fine.ids[outside][:1])[0]
        raise OptionError(
            f"{int(outside.sum()):,} of {len(fine):,} cells of the finest partition lie in no cell "
            f"of partition {number} (the first: S2 {first}): it is a partition of other data, or "
            "its t_min= has dropped what the finer one keeps."
        )
    return at.astype(np.int64)


def nested_partitions(
    points: Any,
    *,
    t_max: Limits | Sequence[int] = "auto",
    t_min: Limits = "auto",
    min_level: int = 0,
    max_level: int = 20,
) -> Hierarchy:
    """Cut the Earth into S2 cells, several times, each time finer.

    All partitions are cut from one tree, so that cells of a finer one lie within cells of a
    coarser one. The idea and the numbers (`t_min` 50; `t_max` 5,000, 2,000 and 1,000) are those of
    Mueller-Budack, Pustu-Iren and Ewerth (2018).

    Parameters
    ----------
    points : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
        Places, as `geoembed.read_places` takes them.
    t_max : sequence of int, int or "auto"
        Most places in a cell of each partition, coarse to fine. A single number is that of the
        finest of three; ``"auto"`` settles it by `auto_limits`. The middle and the coarse
        partition then take 2 and 5 times as many (ours, in the published ratios).
    t_min : int or "auto"
        Fewest places in a cell that is kept, in all partitions.
    min_level, max_level : int
        Levels of S2 that cells may have.

    Returns
    -------
    Hierarchy
        Coarse to fine.

    Raises
    ------
    CoordinateError
        If the places cannot be read.
    OptionError
        If an option does not fit, `t_max` does not fall, or a partition would have no or one
        class.

    Notes
    -----
    A cell that is kept has a parent that is kept: it holds `t_min` places, and so do all that it
    lies in.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> nested_partitions(rng.uniform(0, 30, (2_000, 2)))
    <Hierarchy of 36 / 114 / 199 classes>
    """
    places = read_places(points)
    if isinstance(t_max, str | int | np.integer):
        fine, least = auto_limits(len(places), t_max, t_min)
        limits = [factor * fine for factor in _WIDER]
    else:
        limits = list(t_max)
        if len(limits) < 2:
            raise OptionError(f"t_max={t_max!r}: give two limits or more, coarse first.")
        limits = [auto_limits(len(places), limit, 1)[0] for limit in limits]
        least = auto_limits(len(places), limits[-1], t_min)[1]
    if any(finer >= coarser for coarser, finer in pairwise(limits)):
        raise OptionError(f"t_max={tuple(limits)} does not fall: give the coarse limit first.")
    made = []
    for limit in limits:
        try:
            made.append(
                adaptive_partition(
                    places, t_max=limit, t_min=least, min_level=min_level, max_level=max_level
                )
            )
        except OptionError as error:
            raise OptionError(f"The partition with t_max={limit:,}: {error}") from error
    return Hierarchy(made)
