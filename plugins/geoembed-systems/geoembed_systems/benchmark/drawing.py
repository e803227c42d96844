"""Pictures of a benchmark: scores with their intervals, and how many lie within which distance."""

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.evaluation.geolocation import THRESHOLDS_KM
from geoembed.plot.axes import INK, import_matplotlib
from geoembed_systems.benchmark.comparing import SCORES
from geoembed_systems.benchmark.fractions import draw_fractions
from geoembed_systems.benchmark.reading import BASELINES
from geoembed_systems.benchmark.styles import (
    FAINT,
    QUIET,
    dress,
    km_text,
    save_figure,
    style_of,
)
from geoembed_systems.benchmark.tabulating import SHARES, lacks_intervals, score_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from geoembed_systems.benchmark.report import BenchmarkReport

__all__ = ["draw_errors", "draw_report", "draw_systems"]

Floats = NDArray[np.float64]

_FARTHEST: Final = 20_004.0
# The axis of distances starts where the first pictures of any system are, but not nearer than this.
_NEAREST: Final = 0.1
# Share of a panel that its column of numbers takes.
_COLUMN: Final = 0.34
# Letters of a caption that fit under the panels.
_WIDTH: Final = 165


def draw_report(report: "BenchmarkReport", folder: Path) -> list[Path]:
    """Draw all pictures of a report.

    Parameters
    ----------
    report : BenchmarkReport
        With at least one run that succeeded.
    folder : Path
        Of the files.

    Returns
    -------
    list of Path
        ``systems.png``, ``errors.png``, and ``fractions.png`` where there are several fractions.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    drawn = [folder / "systems.png", folder / "errors.png"]
    save_figure(draw_systems(report), drawn[0])
    save_figure(draw_errors(report), drawn[1])
    if len(report.fractions) > 1:
        drawn.append(folder / "fractions.png")
        save_figure(draw_fractions(report), drawn[2])
    return drawn


def draw_systems(report: "BenchmarkReport") -> Any:
    """Draw the table: a line a system, a panel a score, the numbers beside the dots.

    Parameters
    ----------
    report : BenchmarkReport
        With at least one run that succeeded.

    Returns
    -------
    matplotlib.figure.Figure
        Dots are means over seeds, lines their intervals over pictures, and rings the seeds.
    """
    table = report.table()
    marks = report.marks()
    names = [*SHARES, "median_km"]
    pyplot = import_matplotlib("pyplot")
    figure, axes = pyplot.subplots(
        1,
        len(names),
        sharey=True,
        figsize=(11.0, 1.75 + 0.36 * len(table)),
        layout="constrained",
    )
    for name, ax in zip(names, axes, strict=True):
        _draw_panel(ax, table, name, marks, report)
    axes[0].set_yticks(range(len(table)), list(table["title"]), fontsize=9, color=INK)
    axes[0].set_ylim(len(table) - 0.4, -0.6)
    figure.suptitle(
        f"Geolocation on {report.data_name}",
        x=0.005,
        ha="left",
        fontsize=12,
        fontweight="bold",
        color=INK,
    )
    figure.supxlabel(_caption(report, table), x=0.005, ha="left", fontsize=8, color=QUIET)
    return figure


def draw_errors(report: "BenchmarkReport") -> Any:
    """Draw how many pictures each system puts within every distance.

    Parameters
    ----------
    report : BenchmarkReport
        With at least one run that succeeded.

    Returns
    -------
    matplotlib.figure.Figure
        Means over seeds.
    """
    errors = report.errors()
    titles = report.titles
    figure, ax = import_matplotlib("pyplot").subplots(figsize=(9.5, 4.6), layout="constrained")
    # So near is one picture in 200 of the best seed.
    nearest = min(float(np.sort(km, axis=1)[:, km.shape[1] // 200].min()) for km in errors.values())
    start = float(np.clip(0.5 * nearest, _NEAREST, 100.0))
    for at, (system, km) in enumerate(errors.items()):
        style = style_of(system, list(errors))
        x, y = _steps(km, start)
        ax.plot(
            x,
            y,
            style.line,
            color=style.colour,
            linewidth=style.width,
            label=titles[system],
            zorder=3 if system in BASELINES else 20 - at,
        )
    for threshold in THRESHOLDS_KM:
        if threshold > start:
            _mark_distance(ax, threshold)
    ax.set_xscale("log")
    ax.set(xlim=(start, _FARTHEST), ylim=(0.0, 100.0))
    ax.xaxis.set_major_formatter(import_matplotlib("ticker").FuncFormatter(km_text))
    ax.set_xlabel("distance from the truth, km", fontsize=9, color=INK)
    ax.set_ylabel("test pictures within it, %", fontsize=9, color=INK)
    dress(ax)
    ax.legend(
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        fontsize=8.5,
        frameon=False,
        labelcolor=INK,
        handlelength=3.2,
    )
    ax.set_title(
        f"Errors on {report.data_name}",
        loc="left",
        fontsize=12,
        fontweight="bold",
        color=INK,
        pad=20,
    )
    return figure


def _draw_panel(
    ax: "Axes",
    table: pd.DataFrame,
    name: str,
    marks: dict[tuple[str, str], str],
    report: "BenchmarkReport",
) -> None:
    order = list(table["system"])
    low, high = _window(table, name)
    for at, row in enumerate(table.to_dict("records")):
        colour = style_of(row["system"], order).colour
        seeds = report.scores.seeds[row["system"], row["fraction"]].values()
        values = [scores[SCORES.index(name)] for scores in seeds]
        if not low <= row[name] <= high:
            # A baseline far off would squeeze the systems together: it is a mark at the edge.
            edge, mark = (high, ">") if row[name] > high else (low, "<")
            ax.plot([edge], [at], mark, color=colour, markersize=5.5, zorder=5, clip_on=False)
        else:
            _draw_row(ax, at, row, name, values, colour, (low, high))
        mark = marks.get((row["system"], name), "")
        text = score_text(row[name], name)
        ax.annotate(
            text,
            (1.0, at),
            xycoords=("axes fraction", "data"),
            xytext=(-9, 0),
            textcoords="offset points",
            ha="right",
            va="center_baseline",
            fontsize=8.5,
            fontweight="bold" if mark == "*" else "normal",
            color=INK,
        )
        if mark == "=":
            ax.annotate(
                mark,
                (1.0, at),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="center_baseline",
                fontsize=8.5,
                color=INK,
            )
    _limit(ax, low, high)
    share = name.removeprefix("within_")
    title = "median error, km" if name == "median_km" else f"within {km_text(float(share))} km, %"
    ax.set_title(title, loc="left", fontsize=9, color=INK)
    dress(ax, grid="x")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    for at in range(len(table) - 1):
        ax.axhline(at + 0.5, color=FAINT, linewidth=0.4, zorder=1)


def _draw_row(
    ax: "Axes",
    at: int,
    row: dict[Any, Any],
    name: str,
    seeds: list[float],
    colour: str,
    window: tuple[float, float],
) -> None:
    ends = np.clip([row[f"{name}_low"], row[f"{name}_high"]], *window)
    if not np.isnan(ends).any():
        ax.hlines(at, *ends, color=colour, linewidth=2.2, alpha=0.6, zorder=3)
    if len(seeds) > 1:
        ax.plot(
            seeds,
            np.full(len(seeds), at + 0.27),
            "o",
            markersize=2.6,
            markerfacecolor="white",
            markeredgecolor=colour,
            markeredgewidth=0.8,
            zorder=4,
        )
    ax.plot([row[name]], [at], "D", color=colour, markersize=5.0, zorder=5)


def _window(table: pd.DataFrame, name: str) -> tuple[float, float]:
    """Between which values a panel shows dots: those of the systems, and baselines not far off."""
    own = table[~table["system"].isin(BASELINES)]
    own = own if len(own) else table
    # Where draws give no interval, seeds still have values.
    low = float(np.nanmin(own[[f"{name}_low", f"{name}_seed_low"]]))
    high = float(np.nanmax(own[[f"{name}_high", f"{name}_seed_high"]]))
    if high == low:
        # All alike, and no interval: room towards where shares may be.
        low, high = (low, low + 1.0) if low < 50.0 else (low - 1.0, low)
    span = high - low
    for value in table.loc[table["system"].isin(BASELINES), name]:
        if low - 0.5 * span < value < high + 0.5 * span:
            low, high = min(low, value), max(high, value)
    # Shares begin at zero, unless all are far from it.
    if name != "median_km" and low < 0.5 * high:
        low = 0.0
    pad = 0.06 * (high - low)
    return max(low - pad, 0.0 if low else -pad), high + pad


def _limit(ax: "Axes", low: float, high: float) -> None:
    """Leave room for the numbers; ticks stand only below the dots."""
    ax.set_xlim(low, low + (high - low) / (1.0 - _COLUMN))
    ticker = import_matplotlib("ticker")
    locator = ticker.MaxNLocator(nbins=3, steps=[1, 2, 5, 10])
    ticks = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
    # Thousands are wide.
    ax.set_xticks(ticks[::2] if high >= 1000.0 else ticks)
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(km_text))


def _caption(report: "BenchmarkReport", table: pd.DataFrame) -> str:
    seeds = int(table["seeds"].max())
    over = f"means over {seeds} seeds (rings below)" if seeds > 1 else "one seed"
    none = " No line: every draw says the same." if lacks_intervals(table) else ""
    text = (
        f"Dots: {over}. Lines: {100 * report.level:g} % intervals over {report.drawn_from} "
        f"({int(table['test_rows'].max()):,} test pictures). Arrows: beyond. Bold: best; =: not "
        f"told from it.{none}"
    )
    return fill(text, width=_WIDTH)


def _steps(km: Floats, start: float) -> tuple[Floats, Floats]:
    """Corners of the curve of all seeds together, percent."""
    values = np.sort(km.ravel())
    share = 100.0 * np.arange(1, len(values) + 1) / len(values)
    x = np.repeat(np.maximum(values, start), 2)
    y = np.stack([np.concatenate([[0.0], share[:-1]]), share], axis=1).ravel()
    return np.concatenate([[start], x, [_FARTHEST]]), np.concatenate([[0.0], y, [100.0]])


def _mark_distance(ax: "Axes", km: float) -> None:
    ax.axvline(km, color=FAINT, linewidth=0.8, zorder=1)
    ax.annotate(
        f"{km_text(km)} km",
        (km, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        fontsize=7.5,
        color=QUIET,
    )
