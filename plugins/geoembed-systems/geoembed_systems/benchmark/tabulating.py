"""Tables of a benchmark: a row a system, a row a run, a row a system and fraction."""

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from geoembed_systems.benchmark.comparing import SCORES, Scores, compare
from geoembed_systems.benchmark.intervals import seed_means
from geoembed_systems.benchmark.published import published_rows
from geoembed_systems.benchmark.reading import BASELINES, Run

__all__ = [
    "NO_INTERVAL",
    "SHARES",
    "beside_published",
    "difference_table",
    "gap_texts",
    "lacks_intervals",
    "paper_table",
    "run_table",
    "score_text",
    "span_text",
]

SHARES: Final = tuple(name for name in SCORES if name.startswith("within_"))
"""The scores that are shares within a distance."""
NO_INTERVAL: Final = (
    "No interval: every draw says the same, all pictures or none, so that the draws do not tell "
    "what other blocks would."
)
"""Why there may be none."""
_PARTS: Final = ("low", "high", "seed_low", "seed_high")


def score_text(value: float, name: str, sign: str = "") -> str:
    """Write a score with as many digits as help.

    Parameters
    ----------
    value : float
        Percent, km or points, or a difference of them.
    name : str
        Which score.
    sign : {"", "+"}
        Whether more than zero gets a sign.

    Returns
    -------
    str
        Without unit.

    Examples
    --------
    >>> score_text(43.44, "within_750"), score_text(2344.4, "median_km", "+")
    ('43.4', '+2,344')
    """
    digits = 0 if name.endswith("_km") and abs(value) >= 100.0 else 1
    return f"{value:{sign},.{digits}f}"


def span_text(low: float, high: float, name: str, sign: str = "") -> str:
    """Write between which values a score lies.

    Parameters
    ----------
    low, high : float
        Ends; NaN where there is no interval.
    name : str
        Which score.
    sign : {"", "+"}
        Whether more than zero gets a sign.

    Returns
    -------
    str
        Both ends, or that there are none.

    Examples
    --------
    >>> span_text(0.04, 2.8, "within_25"), span_text(np.nan, np.nan, "within_25")
    ('0.0 to 2.8', 'no interval')
    """
    if np.isnan(low) or np.isnan(high):
        return "no interval"
    return f"{score_text(low, name, sign)} to {score_text(high, name, sign)}"


def lacks_intervals(table: pd.DataFrame) -> bool:
    """Tell whether a score of the paper's table has no interval.

    Parameters
    ----------
    table : DataFrame
        Of `paper_table`.

    Returns
    -------
    bool
        Whether an end is missing.
    """
    return bool(table[[f"{name}_low" for name in SCORES]].isna().any(axis=None))


def paper_table(runs: Sequence[Run], scores: Scores, fraction: float) -> pd.DataFrame:
    """Make the paper's table; see `geoembed_systems.benchmark.report.BenchmarkReport.table`.

    Parameters
    ----------
    runs : sequence of Run
        All of the benchmark.
    scores : Scores
        Of these runs.
    fraction : float
        Share of the training pictures.

    Returns
    -------
    DataFrame
        A row a system, the smallest median error first, baselines last.
    """
    table = scores.table
    rows = []
    for system, own in table[table["fraction"] == fraction].groupby("system", sort=False):
        good = [r for r in runs if (r.system, r.fraction, r.failed) == (system, fraction, "")]
        row: dict[str, Any] = {
            "system": system,
            "title": good[0].title,
            "fraction": fraction,
            "seeds": len(good),
            "train_rows": good[0].train_rows,
            "test_rows": len(good[0].km),
        }
        for score in own.to_dict("records"):
            row[score["score"]] = score["value"]
            row |= {f"{score['score']}_{part}": score[part] for part in _PARTS}
        rows.append(row | _costs(good))
    made = pd.DataFrame(rows)
    made["baseline"] = made["system"].isin(BASELINES)
    made = made.sort_values(["baseline", "median_km"], kind="stable", ignore_index=True)
    return made.drop(columns="baseline")


def difference_table(scores: Scores, order: pd.DataFrame, to: str, fraction: float) -> pd.DataFrame:
    """Compare every system of a table with one of them.

    Parameters
    ----------
    scores : Scores
        Of the runs.
    order : DataFrame
        Of `paper_table`.
    to : str
        What the others are compared with.
    fraction : float
        Share of the training pictures.

    Returns
    -------
    DataFrame
        ``system``, ``title`` and the columns of `geoembed_systems.benchmark.comparing.compare`.
    """
    parts = [
        compare(scores, system, to, fraction).assign(system=system, title=title)
        for system, title in zip(map(str, order["system"]), map(str, order["title"]), strict=True)
        if system != to
    ]
    columns = ["system", "title", "score", "difference", "low", "high", "verdict"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def beside_published(table: pd.DataFrame, data: str) -> pd.DataFrame:
    """Put the shares of a run above those that papers print.

    Parameters
    ----------
    table : DataFrame
        Of `paper_table`.
    data : str
        What the run's data is called.

    Returns
    -------
    DataFrame
        ``system``, ``title``, ``data``, ``within_1`` to ``within_2500`` in percent, ``how`` and
        ``source``. Only systems that ran have published rows.
    """
    ours = table[["system", "title", *SHARES]].copy()
    ours.insert(2, "data", data)
    ours["how"] = "frozen features, one code for all"
    ours["source"] = "this run"
    theirs = published_rows()
    theirs = theirs[theirs["system"].isin(table["system"])]
    return pd.concat([ours, theirs], ignore_index=True)


def gap_texts(differences: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, str]]:
    """Write the differences of one system.

    Parameters
    ----------
    differences : DataFrame
        Of `difference_table`, its rows of one system.
    names : sequence of str
        Which scores.

    Returns
    -------
    list of (str, str)
        Difference with its interval, and the verdict.
    """
    by_score = {str(row["score"]): row for row in differences.to_dict("records")}
    found = []
    for name in names:
        row = by_score[name]
        span = span_text(float(row["low"]), float(row["high"]), name, "+")
        value = score_text(float(row["difference"]), name, "+")
        found.append((f"{value} ({span})", str(row["verdict"])))
    return found


def run_table(runs: Sequence[Run]) -> pd.DataFrame:
    """List all runs, failed ones too.

    Parameters
    ----------
    runs : sequence of Run
        In any order.

    Returns
    -------
    DataFrame
        A row a run: its facts and scores; scores are missing where it failed. ``machine`` is the
        one of the run as JSON, empty where it is not known.

    Examples
    --------
    >>> runs = [Run(system="planet", title="PlaNet", seed=0, fraction=1.0, km=np.ones(3))]
    >>> run_table(runs)[["system", "within_1", "failed"]].values.tolist()
    [['planet', 100.0, '']]
    """
    rows = []
    for run in runs:
        scores = [np.nan] * len(SCORES) if run.failed else seed_means(run.km[None])[0].tolist()
        rows.append(
            {
                "system": run.system,
                "title": run.title,
                "seed": run.seed,
                "fraction": run.fraction,
                "train_rows": run.train_rows,
                "test_rows": len(run.km),
                **dict(zip(SCORES, scores, strict=True)),
                "missing": run.missing,
                "fit_s": run.fit_s,
                "predict_s": run.predict_s,
                "parameters": run.parameters,
                "cells": run.cells,
                "peak_mb": run.peak_mb,
                "machine": json.dumps(dict(run.machine)) if run.machine else "",
                "failed": run.failed,
            }
        )
    return pd.DataFrame(rows)


def _costs(runs: Sequence[Run]) -> dict[str, Any]:
    """Means over seeds, but the most of what is counted and of the memory."""
    found: dict[str, Any] = {
        name: max((v for run in runs if (v := getattr(run, name)) is not None), default=None)
        for name in ("parameters", "cells")
    }
    found |= {
        name: float(np.mean([getattr(run, name) for run in runs]))
        for name in ("fit_s", "predict_s")
    }
    found["query_ms"] = 1000.0 * found["predict_s"] / len(runs[0].km)
    found["peak_mb"] = max(run.peak_mb for run in runs)
    found["missing"] = sum(run.missing for run in runs)
    return found
