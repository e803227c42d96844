"""From the finished cells of a comparison to its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from geoembed.coordinates import Places
from geoembed.evaluation.cells import Cell
from geoembed.evaluation.comparison import Comparison
from geoembed.evaluation.contenders import Contender
from geoembed.evaluation.plans import Plan
from geoembed.evaluation.spread import paired_difference
from geoembed.evaluation.tasks import Task

__all__ = ["Run", "tabulate"]


@dataclass(frozen=True, eq=False)
class Run:
    """All cells of one encoder.

    Parameters
    ----------
    contender : Contender
        The encoder.
    identity : mapping
        What its cells are filed under.
    cells : mapping
        (split, key of the fold) -> cell.
    seconds_encode : float
        To compute the vectors of all places; NaN if that is not known.
    """

    contender: Contender
    identity: Mapping[str, Any]
    cells: Mapping[tuple[str, str], Cell]
    seconds_encode: float


def tabulate(
    runs: Sequence[Run],
    plans: Sequence[Plan],
    task: Task,
    places: Places,
    *,
    notes: Sequence[str],
    request: Mapping[str, Any],
) -> Comparison:
    """Put a comparison together.

    Parameters
    ----------
    runs : sequence of Run
        One an encoder.
    plans : sequence of Plan
        The splits.
    task : Task
        What is predicted.
    places : Places
        One a row.
    notes : sequence of str
        What the reader should know.
    request : mapping
        What was asked for, for provenance.

    Returns
    -------
    Comparison
    """
    folds = pd.DataFrame([row for run in runs for plan in plans for row in _folds(run, plan)])
    table = pd.concat([_rank(runs, plan, task, len(places)) for plan in plans], ignore_index=True)
    errors = {
        f"{run.contender.label} ({plan.name})": _errors(run, plan, len(places))
        for run in runs
        for plan in plans
    }
    return Comparison(
        table=table,
        folds=folds,
        targets=_targets(runs, plans, task),
        errors=gpd.GeoDataFrame(
            errors, geometry=shapely.points(places.lonlat), index=places.index, crs="EPSG:4326"
        ),
        metric=task.metric,
        title=task.title,
        error_name=task.error_name,
        splits={plan.name: plan.how for plan in plans},
        test_shares={plan.name: plan.test_share for plan in plans},
        plain=tuple(run.contender.label for run in runs if run.contender.plain),
        notes=list(notes),
        provenance={
            "request": dict(request),
            "encoders": [{**run.identity, "seconds": _known(run)} for run in runs],
        },
    )


def _known(run: Run) -> float | None:
    return None if np.isnan(run.seconds_encode) else run.seconds_encode


def _folds(run: Run, plan: Plan) -> list[dict[str, Any]]:
    cells = [(fold, run.cells[plan.name, fold.key]) for fold in plan.folds]
    return [
        {
            "label": run.contender.label,
            "split": plan.name,
            "repeat": fold.repeat,
            "fold": fold.number,
            "score": cell.score,
            "n_train": len(fold.train),
            "n_test": len(fold.test),
            "seconds": cell.seconds,
        }
        for fold, cell in cells
    ]


def _rank(runs: Sequence[Run], plan: Plan, task: Task, rows: int) -> pd.DataFrame:
    """Rows of the table for one split, the best first."""
    tested = np.concatenate([fold.test for fold in plan.folds])
    lines = []
    for run in runs:
        cells = [run.cells[plan.name, fold.key] for fold in plan.folds]
        scores = np.array([cell.score for cell in cells])
        # Over initialisations where there is one fold of several.
        spread = scores if len(scores) > 1 else np.array(cells[0].scores)
        encoder = run.contender.encoder
        lines.append(
            {
                "label": run.contender.label,
                "encoder": encoder.name,
                "layers": encoder.layers,
                "model": run.contender.model or "",
                "dimension": encoder.dimension if run.contender.model != "mean" else 0,
                "split": plan.name,
                "mean": scores.mean(),
                "sd": spread.std(ddof=1) if len(spread) > 1 else np.nan,
                "pooled": task.pooled(np.sum([cell.lost for cell in cells], axis=0), tested),
                "folds": len(cells),
                "n": rows,
                "n_train": round(np.mean([len(fold.train) for fold in plan.folds])),
                "n_test": round(np.mean([len(fold.test) for fold in plan.folds])),
                "seconds_encode": run.seconds_encode,
                "seconds": np.mean([cell.seconds for cell in cells]),
                "scores": scores,
            }
        )
    table = pd.DataFrame(lines).sort_values("mean", ascending=False, kind="stable")
    best = table["scores"].iloc[0]
    gaps = [paired_difference(best, scores, plan.test_share) for scores in table["scores"]]
    table["behind"] = [gap.mean for gap in gaps]
    table["within_spread"] = [gap.within_spread for gap in gaps]
    return table.drop(columns="scores")


def _targets(runs: Sequence[Run], plans: Sequence[Plan], task: Task) -> pd.DataFrame:
    """R2 of every target, over the folds in which it varies."""
    lines = []
    columns = [] if task.kind == "classification" or len(task.columns) == 1 else task.columns
    for plan in plans:
        for run in runs:
            cells = [run.cells[plan.name, fold.key] for fold in plan.folds]
            for at, name in enumerate(columns):
                found = [cell.parts[at] for cell in cells]
                parts = np.array([part for part in found if part is not None])
                lines.append(
                    {
                        "label": run.contender.label,
                        "split": plan.name,
                        "target": name,
                        "mean": parts.mean() if len(parts) else np.nan,
                        "sd": parts.std(ddof=1) if len(parts) > 1 else np.nan,
                    }
                )
    return pd.DataFrame(lines, columns=["label", "split", "target", "mean", "sd"])


def _errors(run: Run, plan: Plan, rows: int) -> Any:
    """Error of every row, the mean over repetitions; NaN where a row was not tested."""
    total, count = np.zeros(rows), np.zeros(rows)
    for fold in plan.folds:
        total[fold.test] += run.cells[plan.name, fold.key].errors
        count[fold.test] += 1.0
    return np.divide(total, count, out=np.full(rows, np.nan), where=count > 0)
