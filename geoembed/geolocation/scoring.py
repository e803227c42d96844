"""Scores of arbitrary places: how well an encoder's vectors there fit a query."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from geoembed.containing import Inside
from geoembed.encoders.base import LocationEncoder
from geoembed.encoders.blocks import encode_blocks

__all__ = ["Score", "scorer"]

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
