"""Candidates of a graph are scored with the gallery's own vectors."""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from geoembed.galleries.index import Found

__all__ = ["best_of"]

# Values gathered at a time (64 MB).
_VALUES: Final = 2**24


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
    step = max(1, _VALUES // (ordered.shape[1] * embeddings.shape[1]))
    for start in range(0, len(queries), step):
        some = slice(start, start + step)
        used = ~idle[some]
        # Only what is there: some queries have three times as many candidates as others.
        table = _gathered(embeddings, ordered[some][used])
        ends = np.cumsum(used.sum(axis=1))
        parts = np.split(table, ends[:-1])
        products = [part @ query for part, query in zip(parts, queries[some], strict=True)]
        scores[some][used] = np.concatenate(products)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ordered, order, axis=1)


def _gathered(embeddings: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    if not embeddings.flags.writeable:  # which torch does not take
        return np.asarray(embeddings[rows], dtype=np.float32)
    with torch.inference_mode():
        table = torch.from_numpy(embeddings).index_select(0, torch.from_numpy(rows))
        return table.float().numpy()
