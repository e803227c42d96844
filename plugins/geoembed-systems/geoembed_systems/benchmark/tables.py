"""The report of a benchmark as a page of Markdown, and as JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from geoembed_systems.benchmark.making import how_made, other_machine, shares_told
from geoembed_systems.benchmark.published import CAUTION, published_rows
from geoembed_systems.benchmark.reading import BASELINES
from geoembed_systems.benchmark.tabulating import (
    NO_INTERVAL,
    SHARES,
    gap_texts,
    lacks_intervals,
    score_text,
    span_text,
)

if TYPE_CHECKING:
    from geoembed_systems.benchmark.report import BenchmarkReport

__all__ = [
    "COSTS",
    "FEWER",
    "SHOWN",
    "cost_cells",
    "score_cells",
    "sections",
    "to_dict",
    "to_markdown",
]

FEWER: Final = "With fewer training pictures"
"""Title of the part about fractions."""
SHOWN: Final = (*SHARES, "median_km")
"""Scores of the paper's table."""
# Differences that are listed: nearer ones are of hardly any picture on small data.
_COMPARED: Final = ("within_200", "within_750", "within_2500", "median_km")
COSTS: Final = ("parameters", "cells", "training, s", "query, ms", "memory, MB")
"""What `cost_cells` are called."""


def to_markdown(report: "BenchmarkReport", *, pictures: bool = True) -> str:
    """Write the page; see `geoembed_systems.benchmark.report.BenchmarkReport.to_markdown`."""
    lines = [f"# Geolocation systems on {report.data_name}", ""]
    lines += [f"- {sentence}" for sentence in report.conclusion]
    for title, own in sections(report, pictures=pictures).items():
        lines += ["", f"## {title}", "", *own]
    return "\n".join(lines) + "\n"


def sections(report: "BenchmarkReport", *, pictures: bool = True) -> dict[str, list[str]]:
    """Return the parts of the page below its conclusion.

    Parameters
    ----------
    report : BenchmarkReport
        Of any runs.
    pictures : bool
        Whether to show the pictures that `BenchmarkReport.save` writes.

    Returns
    -------
    dict of str to list of str
        Title -> lines of Markdown.
    """
    found: dict[str, list[str]] = {}
    if report.good:
        found["Scores"] = _scores(report, pictures)
        found["What they take"] = _costs(report)
        if len(report.table()) > 1:
            found[f"Against {report.titles[report.reference()]}"] = _differences(report)
        if len(report.fractions) > 1:
            found[FEWER] = _fractions(report, pictures)
        found["Beside what papers print"] = _published(report)
    if len(report.failed):
        found["Failed"] = [
            f"- {row['title']}, seed {row['seed']}, {100 * row['fraction']:g} %: {row['failed']}"
            for row in report.failed.to_dict("records")
        ]
    return found | {"How it was done": how_made(report)}


def to_dict(report: "BenchmarkReport") -> dict[str, Any]:
    """Collect it for JSON; see `geoembed_systems.benchmark.report.BenchmarkReport.to_dict`."""
    good = bool(report.good)
    return {
        "data": dict(report.results.data),
        "machine": dict(report.results.machine),
        "reference": report.reference() if good else None,
        "cautions": report.cautions,
        "conclusion": report.conclusion,
        "table": _records(report.table()) if good else [],
        "differences": _records(report.differences()) if good else [],
        "published": _records(published_rows()),
        "fractions": _records(report.fraction_table()) if good else [],
        "failed": _records(report.failed),
    }


def score_cells(row: Mapping[Any, Any], marks: Mapping[tuple[str, str], str]) -> list[str]:
    """Write the scores of a system with their intervals, for Markdown.

    Parameters
    ----------
    row : mapping
        Of the report's table.
    marks : mapping
        Of the report.

    Returns
    -------
    list of str
        Shares in percent, then the median error in km; the best of a column bold.
    """
    cells = []
    for name in SHOWN:
        text = score_text(row[name], name)
        mark = marks.get((row["system"], name), "")
        text = f"**{text}**" if mark == "*" else f"{text} {mark}".rstrip()
        cells.append(f"{text} ({span_text(row[f'{name}_low'], row[f'{name}_high'], name)})")
    return cells


def cost_cells(row: Mapping[Any, Any]) -> list[str]:
    """Write what a system takes.

    Parameters
    ----------
    row : mapping
        Of the report's table.

    Returns
    -------
    list of str
        Parameters, cells, seconds of training, milliseconds a query, memory in MB.
    """
    return [
        _count(row["parameters"]),
        _count(row["cells"]),
        _amount(row["fit_s"]),
        _amount(row["query_ms"]),
        _count(row["peak_mb"]),
    ]


def _scores(report: "BenchmarkReport", pictures: bool) -> list[str]:
    table, marks = report.table(), report.marks()
    header = ["system", *(f"{n.removeprefix('within_')} km, %" for n in SHARES), "median km"]
    rows = [[row["title"], *score_cells(row, marks)] for row in table.to_dict("records")]
    seeds = int(table["seeds"].max())
    over = f"Means over {seeds} seeds" if seeds > 1 else "One seed"
    drawn = report.drawn_from + ("" if report.blocks is None else ", as neighbours err together")
    lines = [
        f"Percent of {int(table['test_rows'].max()):,} test pictures within each distance, and the "
        f"median error. {over}, with the {100 * report.level:g} % interval over {drawn}. Bold: the "
        "best of a column; =: these pictures and seeds cannot tell it from the best. A column "
        "without marks tells no system from its best."
        + (f" {NO_INTERVAL}" if lacks_intervals(table) else ""),
        "",
        *_lines(header, rows),
    ]
    if seeds > 1:
        lines += ["", "From seed to seed:", "", *_seed_lines(table)]
    if pictures:
        lines += ["", "![Scores of all systems](systems.png)", ""]
        lines += ["![How many pictures are within which distance](errors.png)"]
    return lines


def _seed_lines(table: pd.DataFrame) -> list[str]:
    header = ["system", "seeds", *(f"{n.removeprefix('within_')} km, %" for n in SHARES)]
    rows = [
        [
            row["title"],
            str(row["seeds"]),
            *(span_text(row[f"{name}_seed_low"], row[f"{name}_seed_high"], name) for name in SHOWN),
        ]
        for row in table.to_dict("records")
    ]
    return _lines([*header, "median km"], rows)


def _costs(report: "BenchmarkReport") -> list[str]:
    rows = [[row["title"], *cost_cells(row)] for row in report.table().to_dict("records")]
    told = (
        "Parameters that are learned on top of the frozen tower; cells, or places of a gallery. "
        "Training and query are means over seeds, on features that are there already; a query is "
        "one picture of many asked at once. Memory is the most of the run's own process."
    )
    if any(other_machine(run, report.results) for run in report.good):
        told += " Not all runs took place on the same machine (see the end): times do not compare."
    return [told, "", *_lines(["system", *COSTS], rows)]


def _differences(report: "BenchmarkReport") -> list[str]:
    base = report.titles[report.reference()]
    found = report.differences()
    rows = []
    for title, own in found.groupby("title", sort=False):
        rows.append([str(title), *map(", ".join, gap_texts(own, _COMPARED))])
    header = [f"{n.removeprefix('within_')} km, points" for n in _COMPARED[:-1]]
    return [
        f"Each system's score less {base}'s, on the same pictures, with its {100 * report.level:g} "
        "% interval. A verdict is given where the interval leaves out 0 and every seed agrees. Of "
        "many comparisons, about 1 in 20 looks clear by chance.",
        "",
        *_lines(["system", *header, "median error, km"], rows),
    ]


def _fractions(report: "BenchmarkReport", pictures: bool) -> list[str]:
    table = report.fraction_table()
    lines = [
        "Nested shares of the training pictures: each holds the smaller ones. Means over seeds; in "
        "brackets the least and the most of a seed.",
    ]
    seen = shares_told(report.results.data)
    lines += ["", seen] if seen else []
    for name, what in (("median_km", "Median error, km"), ("within_750", "Within 750 km, %")):
        header = ["system", *(f"{100 * each:g} %" for each in report.fractions)]
        rows = []
        for title, own in table.groupby("title", sort=False):
            by = {row["fraction"]: row for row in own.to_dict("records")}
            rows.append([str(title), *(_grown(by.get(each), name) for each in report.fractions)])
        lines += ["", f"{what}:", "", *_lines(header, rows)]
    if pictures:
        lines += ["", "![Scores over the share of the training pictures](fractions.png)"]
    return lines


def _grown(row: Mapping[Any, Any] | None, name: str) -> str:
    if row is None:
        return "-"
    text = score_text(row[name], name)
    if row["seeds"] < 2:
        return text
    return f"{text} ({span_text(row[f'{name}_seed_low'], row[f'{name}_seed_high'], name)})"


def _published(report: "BenchmarkReport") -> list[str]:
    table = report.beside_published()
    table = table[~table["system"].isin(BASELINES)]
    header = ["system", "data", *(f"{n.removeprefix('within_')} km, %" for n in SHARES), "how"]
    rows = [
        [
            row["title"],
            f"**{row['data']}**" if row["source"] == "this run" else f"{row['data']}, published",
            *(f"{row[name]:.2f}".rstrip("0").rstrip(".") for name in SHARES),
            row["how"],
        ]
        for row in table.to_dict("records")
    ]
    sources = sorted(set(table["source"]) - {"this run"})
    told = f" Their source: {'; '.join(sources)}." if sources else ""
    return [f"{CAUTION}{told}", "", *_lines(header, rows, texts=(0, 1, len(header) - 1))]


def _count(value: Any) -> str:
    return "-" if value is None or pd.isna(value) else f"{float(value):,.0f}"


def _amount(value: Any) -> str:
    if pd.isna(value):
        return "-"
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.3g}"


def _lines(
    header: Sequence[str], rows: Iterable[Sequence[str]], texts: Sequence[int] = (0,)
) -> list[str]:
    rule = ["---" if at in texts else "--:" for at in range(len(header))]
    return ["| " + " | ".join(row) + " |" for row in [header, rule, *rows]]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=10))
    return rows
