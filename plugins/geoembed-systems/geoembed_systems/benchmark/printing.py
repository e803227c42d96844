"""The report of a benchmark for a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from geoembed_systems.benchmark.reading import BASELINES
from geoembed_systems.benchmark.tables import COSTS, SHOWN, cost_cells
from geoembed_systems.benchmark.tabulating import (
    SHARES,
    gap_texts,
    lacks_intervals,
    score_text,
    span_text,
)

if TYPE_CHECKING:
    from geoembed_systems.benchmark.report import BenchmarkReport

__all__ = ["text_tables"]

Table = tuple[str, list[str], list[list[str]]]


def text_tables(report: "BenchmarkReport") -> list[Table]:
    """Return what is printed of a report.

    Parameters
    ----------
    report : BenchmarkReport
        Of any runs.

    Returns
    -------
    list of (title, header, rows)
        Rows as `geoembed.cli.output.table` takes them; none where every run failed.
    """
    if not report.good:
        return []
    found = [_scores(report), _intervals(report)]
    if len(report.table()) > 1:
        found.append(_differences(report))
    if len(report.fractions) > 1:
        found += [_grown(report, "median_km", "Median error, km, with a share of the pictures")]
        found += [_grown(report, "within_750", "Percent within 750 km, with a share of them")]
    return [*found, _published(report)]


def _scores(report: "BenchmarkReport") -> Table:
    table, marks = report.table(), report.marks()
    rows = []
    for row in table.to_dict("records"):
        scores = [
            score_text(row[name], name) + marks.get((row["system"], name), " ") for name in SHOWN
        ]
        rows.append([row["title"], *scores, *cost_cells(row)])
    seeds = int(table["seeds"].max())
    over = f"means over {seeds} seeds" if seeds > 1 else "one seed"
    title = (
        f"{report.data_name}: percent of {int(table['test_rows'].max()):,} pictures within, {over} "
        "(* best, = not told from it)"
    )
    return title, ["system", *_kilometres(), *COSTS], _right(rows)


def _intervals(report: "BenchmarkReport") -> Table:
    table = report.table()
    rows = [[row["title"], *_spans(row)] for row in table.to_dict("records")]
    title = f"{100 * report.level:g} % intervals over {report.drawn_from}"
    if lacks_intervals(table):
        title += " (no interval: every draw says the same)"
    return title, ["system", *_kilometres()], _right(rows)


def _differences(report: "BenchmarkReport") -> Table:
    base = report.titles[report.reference()]
    rows = []
    for title, own in report.differences().groupby("title", sort=False):
        gaps = gap_texts(own, ("within_750", "median_km"))
        rows.append([str(title), *(cell for gap in gaps for cell in gap)])
    header = ["system", "within 750 km, points", "", "median error, km", ""]
    return f"Less {base}, on the same pictures", header, rows


def _grown(report: "BenchmarkReport", name: str, title: str) -> Table:
    table = report.fraction_table()
    rows = []
    for system, own in table.groupby("title", sort=False):
        by = dict(zip(own["fraction"], own[name], strict=True))
        cells = [score_text(by[f], name) if f in by else "-" for f in report.fractions]
        rows.append([str(system), *cells])
    return title, ["system", *(f"{100 * each:g} %" for each in report.fractions)], _right(rows)


def _published(report: "BenchmarkReport") -> Table:
    table = report.beside_published()
    table = table[~table["system"].isin(BASELINES) & (table["source"] != "this run")]
    rows = [
        [row["title"], row["data"], *(f"{row[name]:5.2f}" for name in SHARES), row["how"]]
        for row in table.to_dict("records")
    ]
    title = "Percent within, as papers print it, on other data and with networks of their own"
    return title, ["system", "data", *_kilometres()[:-1], "how"], rows


def _kilometres() -> list[str]:
    return [*(f"{name.removeprefix('within_')} km" for name in SHARES), "median km"]


def _spans(row: Mapping[Any, Any]) -> list[str]:
    return [span_text(row[f"{name}_low"], row[f"{name}_high"], name) for name in SHOWN]


def _right(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Pad all columns but the first on the left: marks make numbers text to who prints them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        [row[0], *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    ]
