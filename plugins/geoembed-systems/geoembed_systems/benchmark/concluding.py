"""What the numbers of a benchmark say, in sentences that are made from them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from geoembed_systems.benchmark.comparing import UNCLEAR, compare
from geoembed_systems.benchmark.making import listed, other_machine, shares_told
from geoembed_systems.benchmark.reading import BASELINES, FARTHEST_KM
from geoembed_systems.benchmark.tabulating import SHARES, score_text, span_text

if TYPE_CHECKING:
    from geoembed_systems.benchmark.report import BenchmarkReport

__all__ = ["CLASSIFIERS", "conclude"]

CLASSIFIERS: Final = ("planet", "cplanet", "isns", "translocator", "geodecoder")
"""Systems that choose among cells; the paper asks whether they need more pictures than GeoCLIP."""
_WORDS: Final = {
    "mean-point": "the mean of the training places",
    "chance": "a random training place",
}


def conclude(report: "BenchmarkReport") -> list[str]:
    """Say what a benchmark tells.

    Parameters
    ----------
    report : BenchmarkReport
        Of any runs.

    Returns
    -------
    list of str
        Sentences: whether test pictures are training pictures; who has the smallest median error
        and whether GeoCLIP wins; who is best within each distance; whether the systems are better
        than places that look at no picture; what fewer training pictures do; what is missing;
        whether times compare.
    """
    failed = len(report.failed)
    told = report.cautions
    if report.good:
        table = report.table()
        own = table[~table["system"].isin(BASELINES)]
        if len(own):
            told += _ranking(report, own)
            told += _shares(report, own)
            told += _against_baselines(report, table, own)
        if len(report.fractions) > 1:
            told += _growth(report)
        told += _missing(report)
    if failed:
        told.append(f"{failed:,} of {len(report.results.runs):,} runs failed; they are listed.")
    if any(other_machine(run, report.results) for run in report.good):
        told.append(
            "Runs took place on machines, or with versions, that differ: times do not compare."
        )
    return told


def _ranking(report: "BenchmarkReport", own: pd.DataFrame) -> list[str]:
    best = own.iloc[0]
    told = [
        f"{best['title']} has the smallest median error on {report.data_name}: {_interval(best)}."
    ]
    if len(own) < 2:
        return told
    verdicts = {
        row["system"]: _gap(report, row["system"], best["system"])
        for row in own.iloc[1:].to_dict("records")
    }
    same = [name for name, gap in verdicts.items() if gap["verdict"] == UNCLEAR]
    titles = report.titles
    if best["system"] != "geoclip" and "geoclip" in verdicts:
        gap = verdicts["geoclip"]
        theirs = own[own["system"] == "geoclip"].iloc[0]
        more = f"{_km(gap['difference'])} km more ({_span(gap['low'], gap['high'])})"
        if gap["verdict"] == UNCLEAR:
            told.append(
                f"GeoCLIP's is {_interval(theirs)}, {more}, which these pictures and seeds cannot "
                f"tell from {best['title']}'s."
            )
        else:
            told.append(
                f"GeoCLIP does not win on this data: its median error is {_interval(theirs)}, "
                f"{more}."
            )
        same = [name for name in same if name != "geoclip"]
    elif best["system"] == "geoclip":
        clear = [titles[name] for name in verdicts if name not in same]
        if clear:
            told.append(f"That is told from {listed(clear)}.")
    if same:
        names = listed(titles[name] for name in same)
        told.append(f"Not told from {best['title']} by the median error: {names}.")
    if int(own["seeds"].max()) < 2:
        told.append("There is one seed, so that what another would change is not known.")
    return told


def _shares(report: "BenchmarkReport", own: pd.DataFrame) -> list[str]:
    if len(own) < 2:
        return []
    marks = report.marks()
    titles = report.titles
    told, alike = [], []
    for name in SHARES:
        km = name.removeprefix("within_")
        first = next((s for (s, score), mark in marks.items() if (score, mark) == (name, "*")), "")
        if not first:
            alike.append(f"{km} km ({own[name].min():.1f} to {own[name].max():.1f} %)")
            continue
        same = [titles[s] for (s, score), mark in marks.items() if (score, mark) == (name, "=")]
        value = float(own.loc[own["system"] == first, name].iloc[0])
        told.append(
            f"Within {km} km {titles[first]} places the most, {value:.1f} % of the pictures"
            + (f"; not told from it: {listed(same)}." if same else ", told from all others.")
        )
    if alike:
        told.append(f"No system is told from the best within {listed(alike)}.")
    return told


def _against_baselines(
    report: "BenchmarkReport", table: pd.DataFrame, own: pd.DataFrame
) -> list[str]:
    told = []
    for row in table[table["system"].isin(BASELINES)].to_dict("records"):
        not_better = [
            each["title"]
            for each in own.to_dict("records")
            if _gap(report, each["system"], row["system"])["verdict"] != "better"
        ]
        what = f"{_WORDS.get(row['system'], row['title'])} ({_km(row['median_km'])} km)"
        if not_better:
            told.append(
                f"By the median error, not told to be better than {what}: {listed(not_better)}."
            )
        else:
            told.append(f"Every system has a smaller median error than {what}.")
    return told


def _growth(report: "BenchmarkReport") -> list[str]:
    told = []
    small, large = report.fractions[0], report.fractions[-1]
    firsts = []
    for fraction in report.fractions:
        table = report.table(fraction)
        own = table[~table["system"].isin(BASELINES)]
        if len(own) > 1:
            best = own.iloc[0]
            firsts.append(f"{100 * fraction:g} % {best['title']} ({_km(best['median_km'])} km)")
    if firsts:
        told.append(f"The smallest median error with a share of the training pictures: at "
                    f"{'; at '.join(firsts)}.")  # fmt: skip
    for fraction in (small, large):
        found = _against_classifiers(report, fraction)
        if found:
            told.append(found)
    seen = shares_told(report.results.data)
    return [*told, seen] if seen else told


def _against_classifiers(report: "BenchmarkReport", fraction: float) -> str:
    table = report.table(fraction)
    rivals = table[table["system"].isin(CLASSIFIERS)]
    if "geoclip" not in set(table["system"]) or not len(rivals):
        return ""
    best = rivals.iloc[0]
    gap = _gap(report, "geoclip", best["system"], fraction)
    ends = _span(gap["low"], gap["high"], "+")
    clear = ", which cannot be told from none" if gap["verdict"] == UNCLEAR else ""
    return (
        f"At {100 * fraction:g} % ({int(best['train_rows']):,} pictures) GeoCLIP's median error "
        f"less that of the best system of cells, {best['title']}, is "
        f"{_km(gap['difference'], '+')} km ({ends}){clear}."
    )


def _missing(report: "BenchmarkReport") -> list[str]:
    lost = {run.title: 0 for run in report.good if run.missing}
    for run in report.good:
        if run.missing:
            lost[run.title] += run.missing
    if not lost:
        return []
    names = listed(f"{title} ({count:,})" for title, count in lost.items())
    return [
        f"Predictions are missing of {names}, over all runs: each is charged {FARTHEST_KM:,.0f} km."
    ]


def _gap(
    report: "BenchmarkReport", system: str, to: str, fraction: float | None = None
) -> dict[str, Any]:
    """Difference of the median errors, with its verdict."""
    at = report.fractions[-1] if fraction is None else fraction
    found: Sequence[dict[Any, Any]] = compare(report.scores, system, to, at).to_dict("records")
    return next({str(k): v for k, v in row.items()} for row in found if row["score"] == "median_km")


def _interval(row: "pd.Series[Any]") -> str:
    return f"{_km(row['median_km'])} km ({_span(row['median_km_low'], row['median_km_high'])})"


def _span(low: float, high: float, sign: str = "") -> str:
    return span_text(float(low), float(high), "median_km", sign)


def _km(value: float, sign: str = "") -> str:
    return score_text(float(value), "median_km", sign)
