"""How many candidates are followed is chosen by what is found for queries that are no rows."""

from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoembed.errors import OptionError
from geoembed.galleries.index import ExactIndex, Found
from geoembed_usearch.recall import (
    LEVELS,
    Asked,
    Measured,
    Search,
    mixed_queries,
    noisy_queries,
    truth_of,
)

__all__ = ["calibrate", "checked_queries"]

# What is tried, the cheapest first: candidates followed over the graph, and lists looked through.
# Lists alone do for dense grids, where many places near one answer are as good as it; the graph
# for places that lie apart.
_TRIED: Final = (
    (0, 8),
    (0, 16),
    (0, 32),
    (256, 0),
    (512, 0),
    (512, 16),
    (1024, 0),
    (1024, 32),
    (2048, 64),
)
# A query that resembles so many places at once is asked as pictures are: of vectors of real
# pictures and of such, about the same share is found.
_MIXED: Final = 16
# Queries of at least this cosine are to be answered well by the graph: photographs lie there.
_NEAREST: Final = 0.4
# Some hundreds of queries tell a share to within this.
_MARGIN: Final = 0.005

# (queries, k, candidates followed, lists looked through) -> scores and rows.
Follow = Callable[[NDArray[np.float32], int, int, int], Found]


def checked_queries(queries: ArrayLike, width: int) -> NDArray[np.float32]:
    """Return queries at length 1.

    Parameters
    ----------
    queries : array of shape (m, d)
        To be measured with.
    width : int
        What d must be.

    Returns
    -------
    array of shape (m, d), float32
        At least one.

    Raises
    ------
    OptionError
        If the shape does not fit, or some are not finite or zero.

    Examples
    --------
    >>> checked_queries([[3.0, 4.0]], 2).round(1).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    vectors = np.asarray(queries, dtype=np.float64)
    if vectors.ndim != 2 or vectors.shape[1] != width or not len(vectors):
        raise OptionError(
            f"queries have the shape {vectors.shape}: give (m, {width}), at least one, to measure "
            "with."
        )
    lengths = np.linalg.norm(vectors, axis=1)
    bad = ~(np.isfinite(lengths) & (lengths > 0))
    if bad.any():
        raise OptionError(
            f"{bad.sum():,} of {len(bad):,} queries are not finite or zero, the first is row "
            f"{int(np.argmax(bad))}. Leave them out."
        )
    unit: NDArray[np.float32] = (vectors / lengths[:, None]).astype(np.float32)
    return unit


def calibrate(
    embeddings: NDArray[Any],
    device: str,
    follow: Follow,
    target: float,
    queries: NDArray[np.float32] | None = None,
    expansion: int | None = None,
    lists: bool = True,
    graph: bool = True,
) -> dict[str, Any]:
    """Choose how many candidates are followed, and say what is found.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Unit vectors.
    device : str
        Where the exact search runs.
    follow : callable
        Searches the graph.
    target : float
        Share of the ten best that is to be found for queries at a cosine of 0.4 or more to a row,
        and for those that resemble 16 places at once.
    queries : array of shape (m, d), optional
        Of length 1; the target is held for them as well.
    expansion : int, optional
        Follow so many; nothing is chosen.
    lists : bool
        Whether there are lists.
    graph : bool
        Whether there is a graph of every place.

    Returns
    -------
    dict
        Plain types: ``target``, ``reached``, ``expansion_search``, ``lists_search``, ``far_below``
        (queries whose best row has a smaller cosine are too far off for the target), ``recall``, a
        list with what was found for each kind of queries, and ``times_exact``: so many times as
        fast as the exact search it was, 64 queries at a time.
    """
    kinds = [
        (f"cosine {level:g} to a row" if level else "random directions", level) for level in LEVELS
    ]
    named = [(name, noisy_queries(embeddings, level)) for name, level in kinds]
    mixed = (f"between {_MIXED} places", mixed_queries(embeddings, _MIXED))
    given = [] if queries is None else [("given", queries)]
    asked = truth_of(embeddings, device, [*named, mixed, *given])
    held = [a for a, (_, level) in zip(asked, kinds, strict=False) if level >= _NEAREST]
    held += asked[len(kinds) :]
    wanted = min(1.0, target + _MARGIN)
    depth = min(10, len(embeddings))
    tried = (
        [(expansion, 0)]
        if expansion
        else [
            (follow, look)
            for follow, look in _TRIED
            if (lists or not look) and (graph or not follow)
        ]
    )
    for settings in tried:
        search = partial(_followed, follow, settings)
        if all(kind.recall(search, depth) >= wanted for kind in reversed(held)):
            break
    measured = [kind.measured(search) for kind in asked]
    reached = [one for one, kind in zip(measured, asked, strict=True) if kind in held]
    return {
        "target": target,
        "reached": all(one.recall["recall@10"] >= target for one in reached),
        "expansion_search": settings[0],
        "lists_search": settings[1],
        "far_below": _far_below(asked[: len(kinds)], measured, target),
        "times_exact": _times_exact(embeddings, device, search, asked[1].vectors[:64]),
        "recall": [one.as_dict() for one in measured],
    }


def _times_exact(
    embeddings: NDArray[Any], device: str, search: Search, queries: NDArray[np.float32]
) -> float:
    exact, depth = ExactIndex(embeddings, device=device), min(10, len(embeddings))
    ratios = []
    for _ in range(3):
        start = perf_counter()
        exact.search(queries, depth)
        between = perf_counter()
        search(queries, depth)
        ratios.append((between - start) / (perf_counter() - between))
    return round(median(ratios), 1)


def _followed(
    follow: Follow, settings: tuple[int, int], queries: NDArray[np.float32], k: int
) -> Found:
    return follow(queries, k, *settings)


def _far_below(asked: list[Asked], measured: list[Measured], target: float) -> float:
    """Return the cosine of the best row below which the target is not reached; -1 if it always is.

    The first kind of queries that fails, from near to far, sets it: nearly all of its queries lie
    below. It does not reach into the kind before.
    """
    before = 1.0
    for kind, one in zip(asked, measured, strict=False):
        best = kind.scores[:, 0]
        if one.recall["recall@10"] < target:
            return round(min(float(np.quantile(best, 0.98)), before), 4)
        before = float(np.quantile(best, 0.02))
    return -1.0
