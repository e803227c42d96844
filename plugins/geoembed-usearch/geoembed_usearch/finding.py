"""Candidates of queries: of the best lists, the best reduced vectors, a walk over the graph."""

from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed_usearch.graph import numbers_of, walk
from geoembed_usearch.lists import Lists
from geoembed_usearch.reduced import Reduced
from geoembed_usearch.steps import Step

if TYPE_CHECKING:
    from usearch.index import Index

__all__ = ["WITHIN", "Finder"]

# Candidates beyond those asked for, which the gallery's own vectors put in order: rounded numbers
# confuse neighbours, those of 8 bits more of them.
_SPARE: Final = {"float16": (1, 22), "int8": (2, 60)}

# A query that some guide matches so much better (as a cosine) than any row inside belongs
# elsewhere. What matches it inside does so by the way, in many lists: of the best rows in the south
# for rows of the north with noise, 16 lists found 0.83, though the cosines were those of others.
_ELSEWHERE: Final = 0.05
# So many times as many candidates among the reduced vectors of a part.
WITHIN: Final = 4

Rows = NDArray[np.int64]


class Finder:
    """Finds candidates in one or several ways.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Unit vectors.
    dtype : {"float16", "int8"}
        Of the graph.
    threads : int
        Of a walk; 0 takes every core.
    graph : usearch.index.Index or None
        Of every place, or of the guides, which no step walks over.
    parts : dict of str to array
        What lies beside it: ``"lists"``, see `Lists`; ``"table"`` and ``"basis"``, see `Reduced`.
    """

    def __init__(
        self,
        embeddings: NDArray[Any],
        dtype: str,
        threads: int,
        graph: "Index | None",
        parts: dict[str, NDArray[Any]],
    ) -> None:
        self.graph, self.dtype, self.threads = graph, dtype, threads
        self.lists = Lists(embeddings, parts["lists"]) if "lists" in parts else None
        self.reduced = Reduced(parts["table"], parts["basis"]) if "table" in parts else None
        self._rows = len(embeddings)
        if self.reduced is not None and len(self.reduced) != self._rows:
            raise ValueError("its reduced vectors are not those of so many rows")
        self._mask: tuple[Rows, NDArray[np.bool_]] | None = None
        # How far a walk goes is a field of the graph, and the package has room for one at a time.
        self._walking = Lock()

    def spare(self, k: int) -> int:
        """Return how many candidates the `k` best are chosen from at least."""
        times, more = _SPARE[self.dtype]
        return min(self._rows, times * k + more)

    def most(self, k: int, step: Step) -> int:
        """Return how many candidates a query has at most, but for very few.

        Parameters
        ----------
        k : int
            How many rows are wanted.
        step : Step
            How far queries are followed.
        """
        walked = max(step.expansion // 2, self.spare(k)) if step.expansion else 0
        listed = self.lists.most(2 * step.look(k)) if step.lists and self.lists is not None else 0
        reduced = 2 * WITHIN * max(step.count(k), self.spare(k)) if step.reduced else 0
        return walked + listed + reduced

    def find(
        self, queries: NDArray[np.float32], k: int, step: Step, rows: Rows | None = None
    ) -> tuple[Rows, NDArray[np.floating[Any]]]:
        """Return candidates.

        Parameters
        ----------
        queries : array of shape (m, d)
            Finite, none of them zero.
        k : int
            How many rows are wanted.
        step : Step
            How far queries are followed.
        rows : array of shape (r,), int64, optional
            Only these are wanted.

        Returns
        -------
        candidates : array of shape (m, c), int64
            Some perhaps twice; -1 is none.
        least : array of shape (m,)
            Where the best of them scores less, too few were found: minus infinity, or more where
            something tells so.
        """
        inside, count = None if rows is None else self._inside(rows), self.spare(k)
        candidates, least = [], np.full(len(queries), -np.inf)
        if step.expansion:
            depth = 0 if inside is None else max(step.expansion // 2, count)
            walked = self._walk(queries, k, depth, step.expansion)
            if inside is not None:
                walked[~inside[walked]] = -1
                # Where too few of them lie inside, the walk went elsewhere.
                least[(walked >= 0).sum(axis=1) < count] = np.inf
            candidates.append(walked)
        if step.lists and self.lists is not None:
            look = step.look(k)
            if inside is None:
                candidates.append(self.lists.candidates(queries, look))
            else:
                # Of the lists at the rim of a part only some places count.
                listed, nearest = self.lists.among(queries, 2 * look, inside)
                candidates.append(listed)
                lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
                least = np.maximum(least, nearest - _ELSEWHERE * lengths)
        if step.reduced and self.reduced is not None:
            candidates.append(self._reduced(queries, max(step.count(k), count), rows))
        return np.concatenate(candidates, axis=1), least

    def _reduced(self, queries: NDArray[np.float32], count: int, rows: Rows | None) -> Rows:
        assert self.reduced is not None
        if rows is None:
            return self.reduced.candidates(queries, count)
        # The best of a part may be poor matches, which are told apart less well: of half of a
        # gallery as many candidates as of all of it held 0.90 of the ten best for queries that
        # belong to the other half, four times as many 0.99.
        found = self.reduced.part(rows).candidates(queries, min(WITHIN * count, len(rows)))
        return np.where(found >= 0, rows[found], -1)

    def _walk(self, queries: NDArray[np.float32], k: int, depth: int, expansion: int) -> Rows:
        count = max(self.spare(k), depth)
        follow = max(expansion, 4 * k, 2 * self.spare(k), depth)
        numbers = numbers_of(queries, self.dtype)
        assert self.graph is not None
        with self._walking:
            return walk(self.graph, numbers, count, follow, self.threads)

    def _inside(self, rows: Rows) -> NDArray[np.bool_]:
        """Return a mask of the rows; the last one is kept."""
        kept = self._mask  # once: another thread may put its own there
        if kept is None or not np.array_equal(kept[0], rows):
            mask = np.zeros(self._rows, dtype=np.bool_)
            mask[rows] = True
            self._mask = kept = rows.copy(), mask
        return kept[1]
