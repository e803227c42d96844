"""Scores: of arbitrary places, and of all places of a gallery."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.containing import Inside
from geoembed.encoders.base import LocationEncoder
from geoembed.encoders.blocks import encode_blocks

__all__ = ["Score", "score_blocks", "scorer"]

# Bounds what a block of queries takes to some 100 MB.
_VALUES_AT_ONCE: Final = 4_000_000

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

# Places (n, 2) and the query of each (n,) -> scores (n,), -inf where a place is not allowed.
Score = Callable[[Floats, Rows], Floats]


def scorer(
    queries: NDArray[np.floating], encoder: LocationEncoder, inside: Inside | None = None
) -> Score:
    """Make the function that refinement climbs.

    Parameters
    ----------
    queries : array of shape (m, d)
        Finite.
    encoder : LocationEncoder
        Its vectors are scaled to length 1 whatever its own option says.
    inside : callable, optional
        Places for which it says False are not encoded and score minus infinity.

    Returns
    -------
    callable
        Takes places (n, 2) and the number of the query that each is for.
    """
    exact = np.asarray(queries, dtype=np.float64)

    def score(lonlat: Floats, query: Rows) -> Floats:
        scores = np.full(len(lonlat), -np.inf)
        rows = np.arange(len(lonlat)) if inside is None else np.flatnonzero(inside(lonlat))
        vectors = np.empty((len(rows), encoder.dimension), dtype=np.float32)
        encode_blocks(encoder, lonlat[rows], vectors, progress=False)
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        products = np.einsum("ij,ij->i", vectors, exact[query[rows]], dtype=np.float64)
        scores[rows] = products / np.where(norms == 0.0, 1.0, norms)
        return scores

    return score


def score_blocks(
    queries: NDArray[Any], embeddings: NDArray[Any] | None
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Score many queries at every place, so many at a time that memory stays bounded.

    Parameters
    ----------
    queries : array of shape (m, d)
        Finite.
    embeddings : array of shape (n, d) or None
        Unit vectors; may be half precision and memory-mapped. None says that the queries are
        their scores at all places already, which is what a classifier of cells has.

    Yields
    ------
    slice
        Which queries.
    array of shape (b, n), float32
        Their scores.

    Examples
    --------
    >>> [scores.shape for _, scores in score_blocks(np.eye(3), np.eye(3))]
    [(3, 3)]
    >>> [scores.shape for _, scores in score_blocks(np.zeros((2, 5)), None)]
    [(2, 5)]
    """
    wanted = np.asarray(queries, dtype=np.float32)
    places = wanted.shape[1] if embeddings is None else len(embeddings)
    block = max(1, _VALUES_AT_ONCE // max(1, places))
    for start in range(0, len(wanted), block):
        some = slice(start, min(start + block, len(wanted)))
        if embeddings is None:
            yield some, wanted[some]
            continue
        step = max(1, _VALUES_AT_ONCE // max(1, embeddings.shape[1]))
        scores = np.empty((some.stop - some.start, len(embeddings)), dtype=np.float32)
        for first in range(0, len(embeddings), step):
            rows = np.asarray(embeddings[first : first + step], dtype=np.float32)
            scores[:, first : first + step] = wanted[some] @ rows.T
        yield some, scores
