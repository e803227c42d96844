"""How far a query is followed: a little at first, further where the answer is no good match."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["REDUCED", "TRIED", "Step", "choose_steps", "least_cosine", "steps_of"]

TRIED: Final = ((0, 8), (64, 8), (128, 16), (256, 32), (512, 32), (1024, 32))
"""Candidates followed over the graph, and lists looked through; the cheapest first.

Lists find the right part of the world, a walk finds places that lie apart; each finds what the
other misses, so both together find more than either does at ten times the cost.
"""

REDUCED: Final = (64, 128, 192, 256, 384, 512, 768, 1024)
"""Candidates among the reduced vectors; of none of them a comparison of all rows is spared."""

# Such a share of the queries of a kind is too few to tell how many of their best rows are found.
_FEW: Final = 0.02
# A further step has to reach queries that are so much further off.
_FURTHER: Final = 0.04
_MOST: Final = 3


class Step(NamedTuple):
    """How far queries are followed, and which of them are answered well by that.

    Parameters
    ----------
    expansion : int
        Candidates followed over the graph; 0 does without.
    lists : int
        Lists looked through; 0 does without.
    least : float
        Queries whose best found row has at least this cosine are answered well.
    reduced : int
        Candidates among the reduced vectors for up to ten rows; 0 does without.
    """

    expansion: int
    lists: int
    least: float = -1.0
    reduced: int = 0

    def count(self, k: int) -> int:
        """Return how many candidates among the reduced vectors it takes for `k` rows."""
        return max(2 * k, round(self.reduced * max(1.0, math.sqrt(k / 10))))

    def look(self, k: int) -> int:
        """Return how many lists it takes for `k` rows."""
        # The hundredth best is found as surely as the tenth only if more are looked through.
        return max(self.lists, -(-k * self.lists // 15))


def steps_of(facts: dict[str, Any], expansion: int | None = None) -> list[Step]:
    """Return the steps that an index was found to need.

    Parameters
    ----------
    facts : dict
        Its description.
    expansion : int, optional
        Follow so many candidates instead, in one step.

    Returns
    -------
    list of Step
        One or more.

    Examples
    --------
    >>> facts = {"steps": [[64, 8, 0.55, 0], [9, 9, 0.4, 0]], "lists_search": 9, "far_below": 0.4}
    >>> steps_of(facts, 100)
    [Step(expansion=100, lists=9, least=0.4, reduced=0)]
    """
    if expansion is not None:
        return [Step(expansion, int(facts["lists_search"]), float(facts["far_below"]))]
    return [Step(int(e), int(n), float(least), int(r)) for e, n, least, r in facts["steps"]]


def least_cosine(
    kinds: Sequence[tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]], target: float
) -> float:
    """Return the cosine of the best row from which a target is reached, whatever the queries.

    Parameters
    ----------
    kinds : sequence of (array of shape (m,), array of shape (m,))
        Of every query the cosine of its best found row, and the share found of its best rows.
    target : float
        Mean share that is to be found.

    Returns
    -------
    float
        -1 if every query will do.

    Examples
    --------
    >>> near, far = np.full(100, 0.9), np.full(100, 0.4)
    >>> least_cosine([(near, np.ones(100)), (far, np.full(100, 0.5))], 0.98)
    0.4001
    """
    least, before = -1.0, -2.0
    while least != before:  # what one kind excludes may have held up the mean of another
        before = least
        for best, share in kinds:
            order = np.argsort(-best, kind="stable")
            count = int((best >= least).sum())
            mean = np.cumsum(share[order][:count]) / np.arange(1, count + 1)
            # A few of a kind may lie above: they do not tell in its mean.
            fits = (mean >= target) | (np.arange(1, count + 1) <= _FEW * len(best))
            held = int(np.flatnonzero(fits)[-1]) + 1 if fits.any() else 0
            if held < count:
                least = float(best[order[held]]) + 1e-4
    return round(least, 4)


def choose_steps(
    tried: Sequence[Step], *, nearest: float = 0.9, enough: bool = False
) -> list[Step]:
    """Choose a few of the steps that were tried, the cheapest first.

    Parameters
    ----------
    tried : sequence of Step
        The cheapest first, each with what it answers well.
    nearest : float
        Cosine of the nearest queries that were tried: of still nearer ones nothing is known, so a
        step that answers none of these well is left out.
    enough : bool
        Whether the last one does for all queries that the target is held for: then it stays.

    Returns
    -------
    list of Step
        At most three, each for queries further off than the one before answers; the last reaches
        furthest.

    Examples
    --------
    >>> tried = [Step(0, 8, 2.0), Step(64, 8, 0.5), Step(128, 16, 0.49), Step(512, 32, -1.0)]
    >>> [step.expansion for step in choose_steps(tried)]
    [64, 512]
    """
    steps: list[Step] = []
    covered = nearest + _FURTHER
    for step in tried:
        if step.least <= covered - _FURTHER:
            steps.append(step)
            covered = step.least
    if enough and tried[-1].least < covered and tried[-1] not in steps:
        steps.append(tried[-1])
    if not steps:
        return [tried[-1]._replace(least=max(tried[-1].least, nearest))]
    while len(steps) > _MOST:
        gains = [before.least - step.least for before, step in pairwise(steps[:-1])]
        del steps[1 + int(np.argmin(gains))]
    return steps
