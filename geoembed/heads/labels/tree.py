"""The tree that labels of several levels form: sums up it, choices down it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.errors import OptionError

__all__ = ["SEPARATOR", "LabelTree", "Levels", "distinct_paths", "find_codes", "find_level"]

SEPARATOR: Final = " > "
"""What stands between the labels of a path: ``"Asia > Georgia"``."""

Levels = tuple[NDArray[Any], ...]


@dataclass(frozen=True, eq=False)
class LabelTree:
    """The tree of classes that are paths of labels.

    Parameters
    ----------
    paths : tuple of arrays of shape (k,)
        Label of every class at each level, coarse to fine; classes under one label are neighbours.

    Examples
    --------
    >>> continents = np.array(["America", "America", "Asia"])
    >>> tree = LabelTree((continents, np.array(["Georgia", "Peru", "Georgia"])))
    >>> tree.names(0), tree.names(1)
    (['America', 'Asia'], ['America > Georgia', 'Peru', 'Asia > Georgia'])
    >>> shares = np.array([[0.25, 0.3, 0.45]])
    >>> tree.sums(shares, 0).tolist(), [codes.tolist() for codes in tree.choose(shares)]
    ([[0.55, 0.45]], [[0], [1]])
    """

    paths: Levels

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def _starts(self) -> list[NDArray[np.intp]]:
        """First class of every label, level by level."""
        new = np.zeros(len(self.paths[0]), dtype=np.bool_)
        new[0] = True
        starts = []
        for labels in self.paths:
            new[1:] |= labels[1:] != labels[:-1]
            starts.append(np.flatnonzero(new))
        return starts

    def nodes(self, level: int) -> NDArray[np.intp]:
        """Return the number of the node of a level that each class belongs to."""
        starts = self._starts[level]
        return np.repeat(np.arange(len(starts)), np.diff(starts, append=len(self.paths[0])))

    def labels(self, level: int) -> NDArray[Any]:
        """Return the label of every node of a level; one stands twice if it has two parents."""
        return self.paths[level][self._starts[level]]

    def names(self, level: int) -> list[str]:
        """Return texts that tell the nodes of a level apart: labels; paths where those repeat."""
        labels = [str(label) for label in self.labels(level)]
        counts = pd.Series(labels).value_counts()
        prefixes = self.prefixes(level)
        return [
            label if counts[label] == 1 else prefix
            for label, prefix in zip(labels, prefixes, strict=True)
        ]

    def prefixes(self, level: int) -> list[str]:
        """Return the path of every node of a level, as text."""
        parts = [self.paths[above][self._starts[level]] for above in range(level + 1)]
        return [SEPARATOR.join(map(str, path)) for path in zip(*parts, strict=True)]

    def sums(self, probabilities: NDArray[np.float64], level: int) -> NDArray[np.float64]:
        """Add up the probabilities (m, k) of the classes under every node of a level."""
        if level == len(self) - 1:
            return probabilities
        return np.asarray(np.add.reduceat(probabilities, self._starts[level], axis=1))

    def widen(self, sets: NDArray[np.bool_], level: int) -> NDArray[np.bool_]:
        """Return which nodes of a level have a class in the sets (m, k)."""
        return np.asarray(np.logical_or.reduceat(sets, self._starts[level], axis=1))

    def take(self, chosen: Sequence[NDArray[np.intp]]) -> NDArray[Any]:
        """Return the labels of chosen nodes (m,) of each level: (m, levels), or (m,) of one."""
        columns = [self.labels(level)[nodes] for level, nodes in enumerate(chosen)]
        if len(columns) == 1:
            return columns[0]
        alike = len({column.dtype.kind for column in columns}) == 1
        return np.stack(columns if alike else [c.astype(object) for c in columns], axis=1)

    def choose(self, probabilities: NDArray[np.float64]) -> list[NDArray[np.intp]]:
        """Walk down the tree: the most probable node, the most probable one under it, and so on.

        Parameters
        ----------
        probabilities : array of shape (m, k)
            Of the classes.

        Returns
        -------
        list of arrays of int, shape (m,)
            Number of the chosen node, level by level.
        """
        chosen: list[NDArray[np.intp]] = []
        for level, starts in enumerate(self._starts):
            shares = self.sums(probabilities, level)
            if level:
                parents = np.searchsorted(self._starts[level - 1], starts, side="right") - 1
                shares = np.where(parents == chosen[-1][:, None], shares, -1.0)
            chosen.append(shares.argmax(axis=1))
        return chosen


def find_level(level: Any, names: Sequence[str], count: int) -> int:
    """Return the number of a level.

    Parameters
    ----------
    level : str, int or None
        Its name or number; None for the finest.
    names : sequence of str
        Names of the levels, if they have any.
    count : int
        How many there are.

    Returns
    -------
    int
        0 for the coarsest.

    Raises
    ------
    OptionError
        If there is no such level.

    Examples
    --------
    >>> find_level("country", ["continent", "country"], 2), find_level(None, [], 1)
    (1, 0)
    """
    if level is None:
        return count - 1
    if isinstance(level, str) and level in names:
        return list(names).index(level)
    if isinstance(level, int | np.integer) and -count <= level < count:
        return int(level) % count
    named = f": choose {', '.join(map(repr, names))}" if names else ""
    raise OptionError(f"level={level!r} is not one of the {count} levels{named}.")


def find_codes(
    tree: LabelTree, levels: Levels, merged: Collection[str], other: Any
) -> list[NDArray[np.intp]]:
    """Find labels in a tree.

    Parameters
    ----------
    tree : LabelTree
        Of the classes that were learned.
    levels : tuple of arrays of shape (n,)
        Labels from `read_levels`, of as many levels.
    merged : collection of str
        Names of classes that were merged before they were learned.
    other : label
        What they were merged into.

    Returns
    -------
    list of arrays of int, shape (n,)
        Number of the node, level by level. Labels that were not learned have negative numbers,
        one for each label; a row may be known at a coarse level and not at a finer one.

    Examples
    --------
    >>> tree = LabelTree((np.array(["a", "b", "b"]), np.array(["x", "x", "y"])))
    >>> levels = (np.array(["b", "a", "c"]), np.array(["y", "y", "x"]))
    >>> [codes.tolist() for codes in find_codes(tree, levels, (), "other")]
    [[1, 0, -1], [2, -1, -2]]
    """
    known = [
        {prefix: node for node, prefix in enumerate(tree.prefixes(level))}
        for level in range(len(tree))
    ]
    paths, rows = distinct_paths(levels)
    codes = np.empty((len(tree), len(paths)), dtype=np.intp)
    unknown: list[dict[str, int]] = [{} for _ in known]
    for at, given in enumerate(paths):
        path = given
        if SEPARATOR.join(given) in merged:
            path = _as_merged(given, str(other), known[-1])
        for level, nodes in enumerate(known):
            prefix = SEPARATOR.join(path[: level + 1])
            fresh = -1 - len(unknown[level])
            codes[level, at] = (
                nodes[prefix] if prefix in nodes else unknown[level].setdefault(prefix, fresh)
            )
    return list(codes[:, rows])


def _as_merged(path: tuple[str, ...], other: str, known: Collection[str]) -> tuple[str, ...]:
    for depth in reversed(range(len(path))):
        candidate = path[:depth] + (other,) * (len(path) - depth)
        if SEPARATOR.join(candidate) in known:
            return candidate
    return path


def distinct_paths(levels: Levels) -> tuple[list[tuple[str, ...]], NDArray[np.intp]]:
    """List the paths that occur.

    Parameters
    ----------
    levels : tuple of arrays of shape (n,)
        Labels, coarse to fine.

    Returns
    -------
    (list of tuple of str, array of int of shape (n,))
        The paths, and which is whose row.

    Examples
    --------
    >>> paths, rows = distinct_paths((np.array(["a", "a", "a"]), np.array(["x", "y", "x"])))
    >>> paths, rows.tolist()
    ([('a', 'x'), ('a', 'y')], [0, 1, 0])
    """
    texts, codes = [], []
    for level in levels:
        labels, inverse = np.unique(level, return_inverse=True)
        texts.append([str(label) for label in labels])
        codes.append(inverse.reshape(-1))
    table, rows = np.unique(np.column_stack(codes), axis=0, return_inverse=True)
    paths = [
        tuple(text[code] for text, code in zip(texts, row, strict=True)) for row in table.tolist()
    ]
    return paths, rows.reshape(-1)
