"""How much the training pictures matter: scores over nested shares of them."""

from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from geoembed.plot.axes import INK, import_matplotlib
from geoembed_systems.benchmark.making import shares_told
from geoembed_systems.benchmark.reading import BASELINES
from geoembed_systems.benchmark.styles import QUIET, dress, km_text, spread_labels, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from geoembed_systems.benchmark.report import BenchmarkReport

__all__ = ["draw_fractions", "tabulate_fractions"]

# What is drawn: score, and its axis.
_PANELS: Final = (
    ("median_km", "median error, km (less is better)"),
    ("within_750", "within 750 km, % of the test pictures"),
)
# Height of a line of labels, inches.
_LINE: Final = 0.165
# Letters of the caption that fit under the panels.
_WIDTH: Final = 165


def tabulate_fractions(report: "BenchmarkReport") -> pd.DataFrame:
    """Put the tables of all fractions below each other, system by system.

    Parameters
    ----------
    report : BenchmarkReport
        With at least one run that succeeded.

    Returns
    -------
    DataFrame
        The columns of `geoembed_systems.benchmark.report.BenchmarkReport.table`; a row a system
        and fraction, systems in the order of the table of the largest fraction, fractions
        ascending.
    """
    parts = pd.concat([report.table(each) for each in report.fractions], ignore_index=True)
    order = list(report.table()["system"])
    order += [name for name in report.systems if name not in order]
    parts["rank"] = parts["system"].map(order.index)
    parts = parts.sort_values(["rank", "fraction"], kind="stable", ignore_index=True)
    return parts.drop(columns="rank")


def draw_fractions(report: "BenchmarkReport") -> Any:
    """Draw the median error and the share within 750 km over the share of training pictures.

    Parameters
    ----------
    report : BenchmarkReport
        With runs of several fractions.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels; lines are means over seeds, bands reach from the least to the most of a seed.
    """
    table = tabulate_fractions(report)
    figure, axes = import_matplotlib("pyplot").subplots(
        1, 2, figsize=(11.0, 4.6), layout="constrained"
    )
    for (name, label), ax in zip(_PANELS, axes, strict=True):
        _draw_panel(ax, _near(table, name), name, list(report.systems))
        ax.set_title(label, loc="left", fontsize=9.5, color=INK)
    figure.suptitle(
        f"How many training pictures it takes, on {report.data_name}",
        x=0.005,
        ha="left",
        fontsize=12,
        fontweight="bold",
        color=INK,
    )
    figure.supxlabel(_caption(table, report), x=0.005, ha="left", fontsize=8, color=QUIET)
    figure.canvas.draw()
    for (name, _), ax in zip(_PANELS, axes, strict=True):
        _label_ends(ax, _near(table, name), name, report)
    return figure


def _draw_panel(ax: "Axes", table: pd.DataFrame, name: str, systems: list[str]) -> None:
    for system, own in table.groupby("system", sort=False):
        style = style_of(str(system), systems)
        x = own["fraction"].to_numpy(np.float64)
        z = 3 if system in BASELINES else 12 if system == "geoclip" else 6
        low, high = (own[f"{name}_seed_{end}"].to_numpy(np.float64) for end in ("low", "high"))
        if system not in BASELINES and (own["seeds"] > 1).any():
            ax.fill_between(x, low, high, color=style.colour, alpha=0.13, linewidth=0, zorder=z - 1)
        ax.plot(
            x,
            own[name],
            style.line,
            marker=style.mark or None,
            markersize=5.0,
            markeredgecolor="white",
            markeredgewidth=0.6,
            color=style.colour,
            linewidth=style.width,
            zorder=z,
        )
    ax.set_xscale("log")
    rows = table.drop_duplicates("fraction").sort_values("fraction")
    ticks = rows["fraction"].to_list()
    texts = [
        f"{100 * share:g} %\n{count:,}"
        for share, count in zip(ticks, rows["train_rows"], strict=True)
    ]
    ax.set_xticks(ticks, texts)
    ax.xaxis.set_minor_locator(import_matplotlib("ticker").NullLocator())
    # Room for the names of the lines at the right.
    ax.set_xlim(min(ticks) / 1.12, max(ticks) * (max(ticks) / min(ticks)) ** 0.36)
    if name.startswith("within_"):
        ax.set_ylim(bottom=0.0)
    ax.yaxis.set_major_formatter(import_matplotlib("ticker").FuncFormatter(km_text))
    ax.set_xlabel("training pictures", fontsize=9, color=INK)
    dress(ax)


def _near(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Leave out baselines so far off that they would squeeze the lines of the systems together."""
    own = table[~table["system"].isin(BASELINES)]
    if not len(own):
        return table
    low, high = float(own[f"{name}_seed_low"].min()), float(own[f"{name}_seed_high"].max())
    span = high - low
    far = (table[name] < low - span) | (table[name] > high + 0.6 * span)
    return table[
        ~table["system"].isin(table.loc[far, "system"]) | table["system"].isin(own["system"])
    ]


def _label_ends(ax: "Axes", table: pd.DataFrame, name: str, report: "BenchmarkReport") -> None:
    """Write each system's name beside the end of its line."""
    last = table.sort_values("fraction").groupby("system", sort=False).tail(1)
    low, high = ax.get_ylim()
    inches = ax.get_window_extent().height / ax.figure.dpi
    heights = spread_labels(last[name].tolist(), _LINE / inches * (high - low))
    # Neither below the axis nor above the panel.
    edge = 0.02 * (high - low)
    lift = max(0.0, low + edge - min(heights)) - max(0.0, max(heights) - high + edge)
    step = (max(report.fractions) / min(report.fractions)) ** 0.1
    for row, height in zip(last.to_dict("records"), heights, strict=True):
        ax.annotate(
            row["title"],
            (row["fraction"], row[name]),
            xytext=(row["fraction"] * step, height + lift),
            textcoords="data",
            va="center",
            fontsize=8.5,
            fontweight="bold" if row["system"] == "geoclip" else "normal",
            color=INK,
            arrowprops={
                "arrowstyle": "-",
                "color": style_of(row["system"], report.systems).colour,
                "linewidth": 0.9,
                "shrinkA": 2,
                "shrinkB": 3,
                "relpos": (0.0, 0.5),
            },
            zorder=15,
        )


def _caption(table: pd.DataFrame, report: "BenchmarkReport") -> str:
    seeds = int(table["seeds"].max())
    over = f"Means over {seeds} seeds; bands reach from the least to the most of a seed. "
    text = (over if seeds > 1 else "One seed. ") + "Each share holds the smaller ones."
    text = f"{text} {shares_told(report.results.data)}".rstrip()
    far = []
    last = table[table["fraction"] == table["fraction"].max()]
    for (name, _), unit in zip(_PANELS, ("km", "%"), strict=True):
        drawn = set(_near(table, name)["system"])
        far += [
            f"{row['title']} ({row[name]:,.0f} {unit})"
            for row in last.to_dict("records")
            if row["system"] not in drawn
        ]
    text = f"{text} Too far off to be drawn: {', '.join(far)}." if far else text
    return fill(text, width=_WIDTH)
