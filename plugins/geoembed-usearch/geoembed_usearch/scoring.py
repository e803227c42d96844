"""Candidates of a graph are scored with the gallery's own vectors."""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from geoembed.galleries.index import Found

__all__ = ["best_of", "padded"]

# Values gathered at a time (16 MB).
_VALUES: Final = 2**22
# So many rows are multiplied together at least: products of the last few of a table are summed in
# another order, so equal rows would have other scores there.
_TOGETHER: Final = 16


def best_of(
    embeddings: NDArray[Any], queries: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> Found:
    """Return the best of every query's candidates.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Of the gallery, perhaps memory-mapped.
    queries : array of shape (m, d)
        Finite.
    rows : array of shape (m, c), int64
        Candidates in any order, some perhaps twice; -1 is none.
    k : int
        How many to return, at most c.

    Returns
    -------
    scores : array of shape (m, k), float32
        Dot products, falling.
    rows : array of shape (m, k), int64
        Theirs; of equal scores the lower row first. Where there are fewer candidates than k, the
        last scores are minus infinity.

    Examples
    --------
    >>> queries = np.array([[0.6, 0.8, 0.0]], dtype=np.float32)
    >>> best_of(np.eye(3, dtype=np.float32), queries, np.array([[2, 1, 0]]), 2)[1].tolist()
    [[1, 0]]
    """
    # In the order of the gallery, so that of equal scores the lower row comes first, and so that
    # neighbours in the file are read together.
    ordered = np.sort(rows, axis=1)
    idle = ordered < 0
    idle[:, 1:] |= ordered[:, 1:] == ordered[:, :-1]
    scores = np.full(ordered.shape, -np.inf, dtype=np.float32)
    with torch.inference_mode():
        asked = torch.from_numpy(np.ascontiguousarray(queries))
        step = max(1, _VALUES // embeddings.shape[1] // _TOGETHER) * _TOGETHER
        for line, query in enumerate(asked):
            # Only what is there: some queries have three times as many candidates as others. Those
            # of one query are multiplied while they are in the cache.
            used = np.flatnonzero(~idle[line])
            for start in range(0, len(used), step):
                some = used[start : start + step]
                whole = np.pad(ordered[line, some], (0, -len(some) % _TOGETHER), mode="edge")
                products = torch.mv(_gathered(embeddings, whole), query)
                scores[line, some] = products[: len(some)].numpy()
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ordered, order, axis=1)


def padded(rows: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lay out the candidates of queries, which follow one another, in a table.

    Parameters
    ----------
    rows : array of shape (t,), int64
        Those of the first query, then those of the second, and so on.
    counts : array of shape (m,), int64
        How many each query has; together t.

    Returns
    -------
    array of shape (m, c), int64
        c is the largest count; -1 behind shorter ones.

    Examples
    --------
    >>> padded(np.array([4, 7, 9]), np.array([1, 2])).tolist()
    [[4, -1], [7, 9]]
    """
    table = np.full((len(counts), int(counts.max(initial=0))), -1, dtype=np.int64)
    line = np.repeat(np.arange(len(counts)), counts)
    column = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    table[line, column] = rows
    return table


def _gathered(embeddings: NDArray[Any], rows: NDArray[np.int64]) -> torch.Tensor:
    if not embeddings.flags.writeable:  # which torch does not take
        return torch.from_numpy(np.asarray(embeddings[rows], dtype=np.float32))
    return torch.from_numpy(embeddings).index_select(0, torch.from_numpy(rows)).float()
