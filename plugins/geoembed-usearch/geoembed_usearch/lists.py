"""Lists: every place of a gallery belongs to one of some thousands of them, its guides."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from geoembed.progress import progress_bar
from geoembed_usearch.graph import Shape, empty_graph, numbers_of, walk
from geoembed_usearch.scoring import padded

if TYPE_CHECKING:
    from usearch.index import Index

__all__ = ["PLACES", "Lists"]

PLACES: Final = 64
"""Places a list, on average."""

# The fewest places that are worth it.
_LEAST: Final = 4096
# Rows looked up at a time, and candidates followed for each: guides are few, and rows lie near.
_ROWS: Final = 16_384
_FOLLOWED: Final = 32

Rows = NDArray[np.int64]


class Lists:
    """Some rows of a gallery, the guides, and for each of them the rows that lie nearest to it.

    A picture may resemble places in many parts of the world. A walk over a graph looks around in
    one of them; the guides of all parts are few enough to be compared one by one.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Unit vectors, perhaps memory-mapped.
    table : array of int64
        As `build` makes it: the number of guides, the guides, where each list starts and the last
        one ends, and the rows, list after list.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).standard_normal((5000, 8)).astype(np.float32)
    >>> vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    >>> table, guides = Lists.build(vectors, Shape(), threads=1, progress=False)
    >>> lists = Lists(vectors, table)
    >>> 7 in lists.candidates(vectors[7:8], 2)
    True
    """

    def __init__(self, embeddings: NDArray[Any], table: Rows) -> None:
        guides = int(table[0])
        self._embeddings = embeddings
        self._guides = table[1 : 1 + guides]
        self._starts = table[1 + guides : 2 + 2 * guides]
        self._rows = table[2 + 2 * guides :]
        self._vectors: torch.Tensor | None = None
        self._inside: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None
        self._longest: Rows | None = None
        if guides < 1 or len(self._rows) != len(embeddings) or self._starts[-1] != len(self._rows):
            raise ValueError("its lists are not those of so many rows")

    def __len__(self) -> int:
        """How many lists there are."""
        return len(self._guides)

    @staticmethod
    def build(
        embeddings: NDArray[Any], shape: Shape, *, threads: int, progress: bool | None
    ) -> "tuple[Rows, Index] | None":
        """Choose guides at random, and find the nearest of every row.

        Parameters
        ----------
        embeddings : array of shape (n, d)
            Unit vectors; read once, block by block.
        shape : Shape
            Of the graph of guides that finds the nearest.
        threads : int
            0 takes every core.
        progress : bool or None
            Show a progress bar.

        Returns
        -------
        table : array of int64
            See `Lists`.
        guides : usearch.index.Index
            A graph of the guides. Both are None for a gallery so small that nothing is gained.
        """
        total, width = embeddings.shape
        if total < _LEAST:
            return None
        count = total // PLACES
        rng = np.random.default_rng(total)
        guides = np.sort(rng.choice(total, count, replace=False)).astype(np.int64)
        graph = empty_graph(width, shape)
        order = rng.permutation(count)
        for start in range(0, count, _ROWS):
            some = order[start : start + _ROWS]
            numbers = numbers_of(embeddings[guides[some]], shape.dtype)
            # Guides that join at the same time may miss one another, see `build_graph`.
            graph.add(some.astype(np.uint64), numbers, threads=threads if start else 1)
        nearest = np.empty(total, dtype=np.int64)
        with progress_bar(progress, text="listing", unit="place", total=total) as bar:
            for start in range(0, total, _ROWS):
                numbers = numbers_of(embeddings[start : start + _ROWS], shape.dtype)
                found = walk(graph, numbers, 1, _FOLLOWED, threads)
                nearest[start : start + _ROWS] = np.maximum(found[:, 0], 0)
                bar.update(len(numbers))
        rows = np.argsort(nearest, kind="stable")
        starts = np.searchsorted(nearest[rows], np.arange(count + 1))
        table = np.concatenate([[count], guides, starts, rows]).astype(np.int64)
        return table, graph

    def most(self, count: int) -> int:
        """Return how many rows so many lists may hold.

        Parameters
        ----------
        count : int
            Of lists, at least 1.
        """
        if self._longest is None:
            self._longest = np.cumsum(-np.sort(-np.diff(self._starts)))
        return int(self._longest[min(count, len(self)) - 1])

    def candidates(self, queries: NDArray[np.float32], count: int) -> Rows:
        """Return the rows of the best lists.

        Parameters
        ----------
        queries : array of shape (m, d)
            Finite.
        count : int
            Lists a query.

        Returns
        -------
        array of shape (m, c), int64
            Distinct rows of each query; -1 where its lists are shorter than the longest.
        """
        return self._rows_of(self._scores(queries), count)

    @torch.inference_mode()
    def among(
        self, queries: NDArray[np.float32], count: int, inside: NDArray[np.bool_]
    ) -> tuple[Rows, NDArray[np.float32]]:
        """Return those that lie inside, of the best lists that hold any.

        Parameters
        ----------
        queries : array of shape (m, d)
            Finite.
        count : int
            Lists a query.
        inside : array of shape (n,), bool
            Which rows count.

        Returns
        -------
        candidates : array of shape (m, c), int64
            Distinct rows of each query; -1 where there are fewer.
        nearest : array of shape (m,), float32
            Score of the best guide, wherever it lies.
        """
        scores = self._scores(queries)
        nearest = scores.amax(dim=1).numpy()
        scores[:, ~torch.from_numpy(self._holding(inside))] = -torch.inf
        table = self._rows_of(scores, count)
        table[~inside[table]] = -1
        return table, nearest

    @torch.inference_mode()
    def _scores(self, queries: NDArray[np.float32]) -> torch.Tensor:
        """Compare queries with every guide."""
        if self._vectors is None:
            guides = np.asarray(self._embeddings[self._guides], dtype=np.float32)
            self._vectors = torch.from_numpy(guides)
        return torch.from_numpy(np.ascontiguousarray(queries)) @ self._vectors.T

    @torch.inference_mode()
    def _rows_of(self, scores: torch.Tensor, count: int) -> Rows:
        """Return the rows of the lists that score best."""
        lists = torch.topk(scores, min(count, scores.shape[1]), dim=1, sorted=False).indices.numpy()
        sizes = self._starts[lists + 1] - self._starts[lists]
        # Where in the rows each list's places are.
        flat = sizes.ravel()
        within = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)
        found = self._rows[np.repeat(self._starts[lists].ravel(), flat) + within]
        return padded(found, sizes.sum(axis=1))

    def _holding(self, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which lists hold a row that counts; the last answer is kept."""
        kept = self._inside  # once: another thread may put its own there
        if kept is None or kept[0] is not inside:
            sums = np.concatenate([[0], np.cumsum(inside[self._rows])])
            held = sums[self._starts[1:]] > sums[self._starts[:-1]]
            self._inside = kept = inside, held
        return kept[1]
