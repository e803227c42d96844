"""Scores of systems side by side: means over seeds, intervals, and what can be told apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.evaluation.geolocation import THRESHOLDS_KM
from geoembed_systems.benchmark.intervals import (
    draw_scores,
    interval_of,
    score_names,
    seed_means,
)
from geoembed_systems.benchmark.reading import BASELINES, Run

__all__ = ["LOWER_IS_BETTER", "SCORES", "UNCLEAR", "Scores", "compare", "mark_best", "score_runs"]

Floats = NDArray[np.float64]
# System and share of the training pictures.
Key = tuple[str, float]

SCORES: Final = score_names(THRESHOLDS_KM)
"""The scores in the order of every table."""
LOWER_IS_BETTER: Final = ("median_km", "mean_km")
UNCLEAR: Final = "cannot be told"
"""Verdict on a difference that other pictures, or another seed, may turn round."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What the runs came to, and all draws of their pictures.

    Parameters
    ----------
    table : DataFrame
        A row a system, fraction and score; see `score_runs`.
    seeds : mapping
        (system, fraction) -> seed -> its scores, in the order of `SCORES`.
    drawn : mapping
        (system, fraction) -> its scores on every draw, (resamples, scores).
    level : float
        Coverage of intervals.
    groups : int, optional
        How many groups pictures are drawn in; None where each is on its own.
    """

    table: pd.DataFrame
    seeds: Mapping[Key, Mapping[int, Floats]]
    drawn: Mapping[Key, Floats]
    level: float
    groups: int | None = None


def score_runs(
    runs: Sequence[Run],
    *,
    groups: NDArray[np.integer[Any]] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Scores:
    """Score systems over their seeds, with intervals.

    Parameters
    ----------
    runs : sequence of Run
        Failed ones are left out.
    groups : ndarray of int, shape (m,), optional
        Pictures that are drawn together; each on its own if not given.
    resamples, seed : int
        Of the bootstrap.
    level : float
        Coverage of its intervals.

    Returns
    -------
    Scores
        Its table has ``system``, ``title``, ``fraction``, ``baseline``, ``score``, ``unit``,
        ``value`` (mean over seeds), ``low`` and ``high`` (interval over pictures), ``seed_low``
        and ``seed_high`` (the least and the most of a seed) and ``seeds`` (how many); systems in
        the order of the runs, fractions ascending.

    Examples
    --------
    >>> runs = [
    ...     Run(system="planet", title="PlaNet", seed=s, fraction=1.0, km=np.full(50, 100.0 + s))
    ...     for s in range(3)
    ... ]
    >>> table = score_runs(runs, resamples=100).table.set_index("score")
    >>> table.loc["median_km", ["value", "seed_low", "seed_high"]].tolist()
    [101.0, 100.0, 102.0]
    """
    by_key: dict[Key, list[Run]] = {}
    for run in runs:
        if not run.failed:
            by_key.setdefault((run.system, run.fraction), []).append(run)
    order = list(dict.fromkeys(run.system for run in runs))
    keys = sorted(by_key, key=lambda key: (order.index(key[0]), key[1]))
    errors = {key: np.stack([run.km for run in by_key[key]]) for key in keys}
    drawn = draw_scores(errors, groups=groups, resamples=resamples, seed=seed) if errors else {}
    count = None if groups is None else len(np.unique(groups))
    seeds: dict[Key, dict[int, Floats]] = {}
    rows: list[dict[str, Any]] = []
    for key in keys:
        own = by_key[key]
        each = seed_means(errors[key])
        seeds[key] = {run.seed: scores for run, scores in zip(own, each, strict=True)}
        low, high = interval_of(errors[key], drawn[key], level=level, groups=count)
        facts = {
            "system": key[0],
            "title": own[0].title,
            "fraction": key[1],
            "baseline": key[0] in BASELINES,
        }
        rows += [
            {
                **facts,
                "score": name,
                "unit": "%" if name.startswith("within_") else "km" if "_km" in name else "points",
                "value": each[:, at].mean(),
                "low": low[at],
                "high": high[at],
                "seed_low": each[:, at].min(),
                "seed_high": each[:, at].max(),
                "seeds": len(own),
            }
            for at, name in enumerate(SCORES)
        ]
    return Scores(pd.DataFrame(rows), seeds, drawn, level, count)


def compare(scores: Scores, system: str, to: str, fraction: float) -> pd.DataFrame:
    """Compare two systems on the same pictures.

    Parameters
    ----------
    scores : Scores
        Of `score_runs`.
    system, to : str
        Whose scores, less whose.
    fraction : float
        Share of the training pictures that both have learned from.

    Returns
    -------
    DataFrame
        A row a score: ``score``, ``difference`` of the means over seeds, ``low`` and ``high`` of
        its interval over pictures, and ``verdict`` on `system`: ``"better"``, ``"worse"``, or
        ``"cannot be told"`` where the interval holds 0 or a seed says otherwise. Of pictures that
        are drawn in groups, there is no interval (NaN) where no draw has a gap, or there is a
        single group, which tells nothing.

    Notes
    -----
    Both are scored on the same draws, so that pictures that are hard for both do not count. Seeds
    are paired by their number; a system that ran with other seeds meets all seeds of the other.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> km = {"isns": rng.uniform(50, 90, 80), "planet": rng.uniform(20, 60, 80)}
    >>> runs = [Run(system=n, title=n, seed=0, fraction=1.0, km=e) for n, e in km.items()]
    >>> found = compare(score_runs(runs, resamples=200), "isns", "planet", 1.0)
    >>> found.set_index("score").loc[["within_1", "within_25", "median_km"], "verdict"].tolist()
    ['cannot be told', 'worse', 'worse']
    """
    ours, theirs = (system, fraction), (to, fraction)
    tail = 50.0 * (1.0 - scores.level)
    gaps = scores.drawn[ours] - scores.drawn[theirs]
    low, high = np.percentile(gaps, [tail, 100.0 - tail], axis=0)
    if scores.groups is not None:
        # No gap in any draw, as where none is near; and draws of a single group are all the same.
        same = (low == 0.0) & (high == 0.0) | (scores.groups == 1)
        low, high = np.where(same, np.nan, low), np.where(same, np.nan, high)
    a, b = scores.seeds[ours], scores.seeds[theirs]
    both = [(a[seed], b[seed]) for seed in a if seed in b]
    # Systems that draw nothing may have run once.
    pairs = both if len(both) > 1 else [(x, y) for x in a.values() for y in b.values()]
    each = np.stack([x - y for x, y in pairs])
    means = [np.mean(list(part.values()), axis=0) for part in (a, b)]
    rows = [
        {
            "score": name,
            "difference": float(means[0][at] - means[1][at]),
            "low": float(low[at]),
            "high": float(high[at]),
            "verdict": _verdict(name, low[at], high[at], each[:, at]),
        }
        for at, name in enumerate(SCORES)
    ]
    return pd.DataFrame(rows)


def mark_best(scores: Scores, fraction: float) -> dict[tuple[str, str], str]:
    """Say who is best in each score, and who cannot be told from that.

    Parameters
    ----------
    scores : Scores
        Of `score_runs`.
    fraction : float
        Share of the training pictures.

    Returns
    -------
    dict
        (system, score) -> ``"*"`` for the best system, ``"="`` for those that these pictures and
        seeds cannot tell from it. No score has marks that no system is told from the best in.
        Baselines take no part.
    """
    table = scores.table
    if not len(table):
        return {}
    own = table[(table["fraction"] == fraction) & ~table["baseline"]]
    marks: dict[tuple[str, str], str] = {}
    for name, rows in own.groupby("score", sort=False):
        values = rows.set_index("system")["value"]
        best = str(values.idxmin() if name in LOWER_IS_BETTER else values.idxmax())
        same = []
        for system in map(str, values.index.drop(best)):
            found = compare(scores, system, best, fraction).set_index("score")["verdict"]
            if found[str(name)] == UNCLEAR:
                same.append(system)
        if len(same) < len(values) - 1:
            marks[best, str(name)] = "*"
            marks |= {(system, str(name)): "=" for system in same}
    return marks


def _verdict(name: str, low: float, high: float, each: Floats) -> str:
    lower = name in LOWER_IS_BETTER
    if low > 0.0 and (each > 0.0).all():
        return "worse" if lower else "better"
    if high < 0.0 and (each < 0.0).all():
        return "better" if lower else "worse"
    return UNCLEAR
