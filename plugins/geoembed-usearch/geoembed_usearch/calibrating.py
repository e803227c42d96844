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
from geoembed_usearch.recall import LEVELS, Search, mixed_queries, noisy_queries, truth_of
from geoembed_usearch.steps import TRIED, Step, choose_steps, least_cosine

__all__ = ["calibrate", "checked_queries"]

# A query that resembles so many places at once is asked as pictures are: of vectors of real
# pictures and of such, about the same share is found.
_MIXED: Final = 16
# Queries of at least this cosine are to be answered well by the graph: photographs lie there.
_NEAREST: Final = 0.4
# Some hundreds of queries tell a share to within this.
_MARGIN: Final = 0.005

# (queries, k, steps) -> scores and rows.
Follow = Callable[[NDArray[np.float32], int, list[Step]], Found]


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
        Searches in some steps.
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
        Plain types: ``target``, ``reached``, ``missed`` (kinds of queries for which it is not),
        ``steps`` (candidates followed over the graph, lists looked through, and the cosine of the
        best row from which that is enough), the largest of either (``expansion_search``,
        ``lists_search``), ``far_below`` (queries whose best row has a smaller cosine are too far
        off for the target), ``recall``, a list with what was found for each kind of queries, and
        ``times_exact``: so many times as fast as the exact search it was, 64 queries at a time, at
        a cosine of 0.6.
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
    wanted, depth = min(1.0, target + _MARGIN), min(10, len(embeddings))
    tried: list[Step] = []
    shares: list[list[tuple[Any, Any]]] = []
    for step in _offered(expansion, lists, graph):
        tried.append(step)
        shares.append([kind.shares(partial(_stepped, follow, [step]), depth) for kind in asked])
        means = {kind.name: one[1].mean() for kind, one in zip(asked, shares[-1], strict=True)}
        if all(means[kind.name] >= wanted for kind in held):
            break
    # What no step finds well cannot be waited for: it is said, and does not hold up the rest.
    lost = mixed[0] if means[mixed[0]] < wanted else ""
    counted = [at for at, kind in enumerate(asked) if kind.name != lost]
    steps = choose_steps(
        [
            step._replace(least=least_cosine([share[at] for at in counted], wanted))
            for step, share in zip(tried, shares, strict=True)
        ],
        nearest=float(np.median(asked[0].scores[:, 0])),
        enough=all(means[kind.name] >= wanted for kind in held),
    )
    search = partial(_stepped, follow, steps)
    sure = [kind for kind in held if kind.name != lost]
    # The queries that the first steps leave may be found less well than all of their kind.
    while len(steps) > 1 and any(kind.recall(search, depth) < target for kind in sure):
        steps = steps[1:]
        search = partial(_stepped, follow, steps)
    measured = [kind.measured(search) for kind in asked]
    missed = [
        kind.name
        for kind, one in zip(asked, measured, strict=True)
        if kind in held and one.recall["recall@10"] < target
    ]
    return {
        "target": target,
        "reached": not missed,
        "missed": missed,
        "steps": [list(step) for step in steps],
        "expansion_search": max(step.expansion for step in steps),
        "lists_search": max(step.lists for step in steps),
        "far_below": steps[-1].least,
        "times_exact": _times_exact(embeddings, device, search, asked[1].vectors[:64]),
        "recall": [one.as_dict() for one in measured],
    }


def _offered(expansion: int | None, lists: bool, graph: bool) -> list[Step]:
    if expansion:
        return [Step(expansion, 0)]
    # Without a graph a step differs by its lists alone; without lists by its walk.
    steps = [Step(follow * graph, look * lists) for follow, look in TRIED]
    return [step for step in dict.fromkeys(steps) if step.expansion or step.lists]


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


def _stepped(follow: Follow, steps: list[Step], queries: NDArray[np.float32], k: int) -> Found:
    return follow(queries, k, steps)
