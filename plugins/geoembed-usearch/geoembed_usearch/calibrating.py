"""How many candidates are followed is chosen by what is found for queries that are no rows."""

from collections.abc import Callable, Sequence
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
    Search,
    mixed_queries,
    noisy_queries,
    truth_of,
)
from geoembed_usearch.steps import REDUCED, TRIED, Step, choose_steps, least_cosine

__all__ = ["calibrate", "checked_queries", "offer", "questions"]

# A query that resembles so many places at once is asked as pictures are: of vectors of real
# pictures and of such, about the same share is found.
_MIXED: Final = 16
_SUMS: Final = f"between {_MIXED} places"
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
        If they are no numbers, the shape does not fit, or some are not finite or zero.

    Examples
    --------
    >>> checked_queries([[3.0, 4.0]], 2).round(1).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    try:
        vectors = np.asarray(queries, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"queries= is no array of numbers ({error}): give (m, {width})."
        ) from error
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


def questions(
    embeddings: NDArray[Any], device: str, given: NDArray[np.float32] | None = None
) -> list[Asked]:
    """Make the queries that an index is measured with, and answer them exactly.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Unit vectors.
    device : str
        Where the exact search runs.
    given : array of shape (m, d), optional
        Some more, of length 1.

    Returns
    -------
    list of Asked
        Rows with noise, the nearest first, sums of rows, and those given.
    """
    named = [(_name(level), noisy_queries(embeddings, level)) for level in LEVELS]
    named.append((_SUMS, mixed_queries(embeddings, _MIXED)))
    if given is not None:
        named.append(("given", given))
    return truth_of(embeddings, device, named)


def calibrate(
    asked: list[Asked],
    embeddings: NDArray[Any],
    device: str,
    follow: Follow,
    target: float,
    offered: Sequence[Step],
) -> dict[str, Any]:
    """Choose how many candidates are followed, and say what is found.

    Parameters
    ----------
    asked : list of Asked
        See `questions`. The target is held for queries at a cosine of 0.4 or more to a row, for
        those that resemble 16 places at once, and for those given.
    embeddings : array of shape (n, d)
        Unit vectors.
    device : str
        Where the exact search runs.
    follow : callable
        Searches in some steps.
    target : float
        Share of the ten best that is to be found.
    offered : sequence of Step
        What can be tried, the cheapest first, see `offer`.

    Returns
    -------
    dict
        Plain types: ``target``, ``reached``, ``missed`` (kinds of queries for which it is not),
        ``steps`` (candidates followed over the graph, lists looked through, the cosine of the
        best row from which that is enough, and candidates among the reduced vectors), the largest
        of each (``expansion_search``, ``lists_search``, ``reduced_search``), ``far_below`` (queries
        whose best row has a smaller cosine are too far off for the target), ``recall``, a list with
        what was found for each kind of queries, and ``times_exact``: so many times as fast as the
        exact search it was, 64 queries at a time, at a cosine of 0.6.
    """
    near = [_name(level) for level in LEVELS if level >= _NEAREST]
    held = [kind for kind in asked if kind.name in (*near, _SUMS, "given")]
    wanted, depth = min(1.0, target + _MARGIN), min(10, len(embeddings))
    tried: list[Step] = []
    shares: list[list[tuple[Any, Any]]] = []

    def attempt(step: Step) -> dict[str, float]:
        tried.append(step)
        shares.append([kind.shares(partial(_stepped, follow, [step]), depth) for kind in asked])
        return {kind.name: one[1].mean() for kind, one in zip(asked, shares[-1], strict=True)}

    for step in offered:
        means = attempt(step)
        enough = all(means[kind.name] >= wanted for kind in held)
        if enough:
            break
    if offered[0].reduced:
        # Each of these compares all rows: the one that is enough is worth its time, and one more
        # for queries that are further off.
        tried, shares, enough = tried[-1:], shares[-1:], False
        if tried != [offered[-1]]:
            attempt(offered[-1])
    # What no step finds well cannot be waited for: it is said, and does not hold up the rest.
    lost = _SUMS if means[_SUMS] < wanted else ""
    counted = [at for at, kind in enumerate(asked) if kind.name != lost]
    steps = choose_steps(
        [
            step._replace(least=least_cosine([share[at] for at in counted], wanted))
            for step, share in zip(tried, shares, strict=True)
        ],
        nearest=float(np.median(asked[0].scores[:, 0])),
        enough=enough,
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
        "reduced_search": max(step.reduced for step in steps),
        "far_below": steps[-1].least,
        "times_exact": _times_exact(embeddings, device, search, asked[1].vectors[:64]),
        "recall": [one.as_dict() for one in measured],
    }


def offer(
    expansion: int | None = None, *, lists: bool = True, graph: bool = True, reduced: bool = False
) -> list[Step]:
    """Return the steps that can be tried.

    Parameters
    ----------
    expansion : int, optional
        Follow so many candidates; nothing is chosen.
    lists, graph, reduced : bool
        What there is; reduced vectors make the others needless.

    Returns
    -------
    list of Step
        The cheapest first.

    Examples
    --------
    >>> [step.reduced for step in offer(reduced=True)][:3]
    [64, 128, 192]
    """
    if expansion:
        return [Step(expansion, 0)]
    if reduced:
        return [Step(0, 0, reduced=count) for count in REDUCED]
    # Without a graph a step differs by its lists alone; without lists by its walk.
    steps = [Step(follow * graph, look * lists) for follow, look in TRIED]
    return [step for step in dict.fromkeys(steps) if step.expansion or step.lists]


def _name(level: float) -> str:
    return f"cosine {level:g} to a row" if level else "random directions"


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
