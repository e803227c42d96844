"""What the runs of a matrix say: tables of means and of differences to the base, and verdicts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from geoembed.errors import OptionError
from geoembed.evaluation.cached import write_atomically
from geoembed.evaluation.spread import paired_difference
from geoembed.training.matrix import BASE, Matrix

__all__ = ["MatrixResult", "compare_runs", "tabulate_runs", "write_report"]

_LOWER_IS_BETTER: Final = ("median_km", "loss")
_METRICS: Final = {
    "median_km": "median km",
    "within_1": "1 km",
    "within_25": "25 km",
    "within_200": "200 km",
    "within_750": "750 km",
    "within_2500": "2500 km",
    "loss": "loss",
}


@dataclass(frozen=True, kw_only=True)
class MatrixResult:
    """What one run, or one lookup in another gallery, came to.

    Parameters
    ----------
    variant : str
        Its name.
    seed : int
        Of the run.
    metrics : mapping of str to float
        Scores on the held-out places; empty if it failed.
    step : int
        Steps that were made.
    seconds : float or None
        That it took; None where it was interrupted in between.
    gallery : bool
        Whether a run of the base was looked up in another gallery.
    failed : str
        Why it failed; empty if it did not.
    """

    variant: str
    seed: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    seconds: float | None = None
    gallery: bool = False
    failed: str = ""


def tabulate_runs(results: Sequence[MatrixResult]) -> pd.DataFrame:
    """Return a table with a row a result.

    Parameters
    ----------
    results : sequence of MatrixResult
        In any order.

    Returns
    -------
    DataFrame
        ``variant``, ``seed``, ``gallery``, ``step``, ``seconds``, ``failed`` and a column a
        metric.

    Examples
    --------
    >>> tabulate_runs([MatrixResult(variant="base", seed=0, metrics={"loss": 2.0})])["loss"].item()
    2.0
    """
    rows = [{**asdict(result), **result.metrics} for result in results]
    return pd.DataFrame(rows).drop(columns="metrics")


def compare_runs(
    results: Sequence[MatrixResult], variants: Sequence[str], metric: str
) -> pd.DataFrame:
    """Compare every variant with the base, seed by seed.

    Parameters
    ----------
    results : sequence of MatrixResult
        Of all variants; those that failed or are missing are left out.
    variants : sequence of str
        Their order.
    metric : str
        What decides; ``median_km`` and ``loss`` are the better the lower.

    Returns
    -------
    DataFrame
        A row a variant: ``variant``, ``seeds`` (how many there are), mean ``m`` and standard
        deviation ``m_sd`` of every metric m, ``difference`` of `metric` to the base over the
        seeds that both have, ``low`` and ``high`` of its 95 % interval, and ``verdict``.

    Raises
    ------
    OptionError
        If no result has the metric.

    Notes
    -----
    Differences are paired by the seed, and their interval is that of a t-test with one degree of
    freedom less than there are seeds. Where it holds 0, the seeds do not tell.

    Examples
    --------
    >>> def result(variant, seed, km):
    ...     return MatrixResult(variant=variant, seed=seed, metrics={"median_km": km})
    >>> runs = [result("base", s, km) for s, km in enumerate([900.0, 910.0, 905.0])]
    >>> runs += [result("no queue", s, km) for s, km in enumerate([990.0, 1003.0, 996.0])]
    >>> compare_runs(runs, ["base", "no queue"], "median_km")["verdict"].tolist()
    ['', 'worse']
    """
    good = [result for result in results if not result.failed]
    metrics = [name for name in _METRICS if any(name in r.metrics for r in good)]
    metrics += sorted({name for r in good for name in r.metrics} - set(_METRICS))
    if metric not in metrics:
        raise OptionError(
            f"No run has the metric {metric!r}; there {'are' if metrics else 'is'} "
            f"{', '.join(metrics) or 'no result yet'}."
        )
    by_seed = {name: {r.seed: r.metrics for r in good if r.variant == name} for name in variants}
    base = by_seed.get(BASE, {})
    rows = []
    for name, runs in by_seed.items():
        row: dict[str, Any] = {"variant": name, "seeds": len(runs)}
        for each in metrics:
            values = np.array([m[each] for m in runs.values() if each in m], dtype=np.float64)
            row[each] = values.mean() if len(values) else np.nan
            row[f"{each}_sd"] = values.std(ddof=1) if len(values) > 1 else np.nan
        both = [seed for seed in runs if seed in base]
        row.update(difference=np.nan, low=np.nan, high=np.nan, verdict="" if name == BASE else "-")
        if both and name != BASE:
            ours, theirs = ([part[seed][metric] for seed in both] for part in (runs, base))
            gap = paired_difference(ours, theirs, test_share=0.0)
            row.update(difference=gap.mean, low=gap.low, high=gap.high)
            row["verdict"] = _verdict(gap.low, gap.high, len(both), metric)
        rows.append(row)
    return pd.DataFrame(rows)


def write_report(matrix: Matrix, results: Sequence[MatrixResult], folder: Path) -> pd.DataFrame:
    """Write what there is: ``results.csv``, ``.json``, ``.md`` and ``matrix.png``.

    Parameters
    ----------
    matrix : Matrix
        What was asked for.
    results : sequence of MatrixResult
        What there is of it so far.
    folder : Path
        Of the matrix.

    Returns
    -------
    DataFrame
        Of `compare_runs`, by the metric that the base's settings choose checkpoints by.

    Raises
    ------
    OptionError
        If there is no result yet.
    MissingExtraError
        If matplotlib is not installed; the tables are written before.
    """
    from geoembed.training.matrix_picture import draw_matrix

    metric = matrix.variants[0].settings.validation.metric
    table = compare_runs(results, [variant.name for variant in matrix.variants], metric)
    told = _tell(matrix, results, table, metric)
    facts = {
        "name": matrix.name,
        "summary": matrix.summary,
        "metric": metric,
        "seeds": list(matrix.seeds),
        "variants": {v.name: list(v.changed) for v in matrix.variants},
        "results": [asdict(result) for result in results],
        "table": json.loads(table.to_json(orient="records")),
    }
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "results.csv", tabulate_runs(results).to_csv(index=False))
    _write(folder / "results.json", text + "\n")
    _write(folder / "results.md", told)
    kinds = {variant.name: variant.gallery for variant in matrix.variants}
    write_atomically(
        folder / "matrix.png",
        lambda draft: draw_matrix(results, table, metric, kinds, draft, title=matrix.summary),
    )
    return table


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def _verdict(low: float, high: float, seeds: int, metric: str) -> str:
    if seeds == 1:
        return "one seed"
    if low <= 0.0 <= high:
        return "no clear difference"
    return "better" if (high < 0.0) == (metric in _LOWER_IS_BETTER) else "worse"


def _tell(matrix: Matrix, results: Sequence[MatrixResult], table: pd.DataFrame, metric: str) -> str:
    # Losses are of as many negatives as a variant trains with: no two are alike.
    metrics = [m for m in _METRICS if m in table.columns and (m != "loss" or m == metric)]
    shares = [name for name in metrics if name.startswith("within_")]
    said = f"Means over seeds {', '.join(map(str, matrix.seeds))}, with their standard deviation"
    lines = [
        f"# {matrix.summary or matrix.name}",
        "",
        f"{said}{'; shares in percent within a distance' if shares else ''}. The difference is "
        f"that of {_METRICS.get(metric, metric)} to the base, paired by the seed, with its 95 % "
        "interval: where it holds 0, these seeds do not tell. Of many comparisons, about 1 in 20 "
        "looks clear by chance.",
    ]
    kinds = {variant.name: variant.gallery for variant in matrix.variants}
    for gallery, title in ((False, "Trained"), (True, "The base's runs in other galleries")):
        part = table[[n == BASE or kinds[n] == gallery for n in table["variant"]]]
        if len(part) > 1 or not gallery:
            lines += ["", f"## {title}", "", *_rows(part, metrics, metric)]
    lines += ["", *_conclusions(table, kinds), "", "## What each changes", ""]
    lines += [f"- {v.name}: {'; '.join(v.changed)}" for v in matrix.variants if v.changed]
    if matrix.same:
        lines += ["", f"Left out, as the base is so already: {', '.join(matrix.same)}."]
    failed = [result for result in results if result.failed]
    if failed:
        lines += ["", "## Failed", ""]
        lines += [f"- {r.variant}, seed {r.seed}: {' '.join(r.failed.split())}" for r in failed]
    return "\n".join(lines) + "\n"


def _rows(table: pd.DataFrame, metrics: Sequence[str], metric: str) -> list[str]:
    names = ["variant", "runs", *(_METRICS[m] for m in metrics), "difference", "verdict"]
    lines = [_line(names), _line(["---", *["---:"] * (len(names) - 2), "---"])]
    for row in table.to_dict("records"):
        cells = [row["variant"], str(row["seeds"])]
        cells += [_spread(row[m], row[f"{m}_sd"]) for m in metrics]
        cells += [_interval(row["difference"], row["low"], row["high"]), row["verdict"]]
        lines.append(_line(cells))
    return lines


def _conclusions(table: pd.DataFrame, kinds: Mapping[str, bool]) -> list[str]:
    trained = table[[not kinds[name] for name in table["variant"]]]
    lines = []
    for verdict, words in (
        ("better", "Better than the base"),
        ("worse", "Worse than the base"),
        ("no clear difference", "No clear difference to the base"),
    ):
        names = trained.loc[trained["verdict"] == verdict, "variant"]
        if len(names):
            lines.append(f"- {words}: {'; '.join(names)}.")
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(mean: float, sd: float) -> str:
    if np.isnan(mean):
        return "-"
    return _number(mean) if np.isnan(sd) else f"{_number(mean)} ± {_number(sd)}"


def _interval(difference: float, low: float, high: float) -> str:
    if np.isnan(difference):
        return "-"
    told = f" ({_number(low, '+')} to {_number(high, '+')})" if np.isfinite(low) else ""
    return f"{_number(difference, '+')}{told}"


def _number(value: float, sign: str = "") -> str:
    digits = 0 if abs(value) >= 100.0 else 1 if abs(value) >= 10.0 else 2
    return f"{value:{sign},.{digits}f}"
