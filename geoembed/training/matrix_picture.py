"""The picture of a matrix: how far every variant is from the base, seed by seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import pandas as pd

from geoembed.plot.axes import INK, import_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_matrix"]

# From the palette of Okabe and Ito, which every kind of colour vision tells apart.
_COLOURS: Final = {"better": "#009e73", "worse": "#d55e00"}
_UNCLEAR: Final = "#6b767d"
_FAINT: Final = "#c9d0d5"
_AXES: Final = {"median_km": "km of the median error", "loss": "of the loss"}


class _Result(Protocol):
    @property
    def variant(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...


def draw_matrix(
    results: Sequence[_Result],
    table: pd.DataFrame,
    metric: str,
    galleries: Mapping[str, bool],
    path: Path,
    *,
    title: str = "",
) -> None:
    """Draw differences to the base: a line a variant, a dot a seed, a bar for the 95 % interval.

    Parameters
    ----------
    results : sequence of MatrixResult
        What there is.
    table : DataFrame
        Of `geoembed.training.matrix_report.compare_runs`.
    metric : str
        Whose differences are drawn.
    galleries : mapping of str to bool
        Variant -> whether it is another gallery; those stand below a line.
    path : Path
        Of the picture, a PNG whatever it is called.
    title : str
        Stands above it.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    pyplot = import_matplotlib("pyplot")
    shown = table[table["difference"].notna()]
    figure, ax = pyplot.subplots(
        figsize=(9.0, 1.6 + 0.27 * max(len(shown), 3)), layout="constrained"
    )
    base = {r.seed: r.metrics[metric] for r in results if r.variant == "base" and r.metrics}
    names = list(shown["variant"])
    for at, row in enumerate(shown.to_dict("records")):
        own = [r for r in results if r.variant == row["variant"] and r.seed in base and r.metrics]
        _draw_row(ax, at, row, [r.metrics[metric] - base[r.seed] for r in own])
    for at in range(1, len(names)):
        if galleries[names[at]] and not galleries[names[at - 1]]:
            ax.axhline(at - 0.5, color=_UNCLEAR, linewidth=0.8)
    ax.axvline(0.0, color=INK, linewidth=1.0, zorder=1)
    _bound(ax, shown, results, base, metric)
    _dress(ax, names, metric, base, title)
    figure.savefig(path, format="png", dpi=150)
    pyplot.close(figure)


def _draw_row(ax: "Axes", at: int, row: Mapping[Any, Any], differences: Sequence[float]) -> None:
    colour = _COLOURS.get(row["verdict"], _UNCLEAR)
    if np.isfinite(row["low"]):
        ax.hlines(at, row["low"], row["high"], color=colour, linewidth=1.6, zorder=2)
    ax.plot([row["difference"]], [at], "D", color=colour, markersize=6, zorder=4)
    ax.plot(
        differences,
        [at] * len(differences),
        "o",
        markersize=3.5,
        markerfacecolor="white",
        markeredgecolor=colour,
        markeredgewidth=0.9,
        zorder=3,
    )


def _bound(
    ax: "Axes",
    shown: pd.DataFrame,
    results: Sequence[_Result],
    base: Mapping[int, float],
    metric: str,
) -> None:
    """Keep intervals of few seeds, which may be wide, from squeezing the dots together."""
    dots = [
        r.metrics[metric] - base[r.seed]
        for r in results
        if r.metrics and r.seed in base and r.variant in set(shown["variant"])
    ]
    low, high = min([0.0, *dots]), max([0.0, *dots])
    ends = shown[["low", "high"]].to_numpy()
    ends = ends[np.isfinite(ends)]
    room = 0.5 * (high - low) or 1.0
    left = max(low - room, min([low, *ends.tolist()]))
    right = min(high + room, max([high, *ends.tolist()]))
    pad = 0.03 * (right - left) or 1.0
    ax.set_xlim(left - pad, right + pad)


def _dress(
    ax: "Axes", names: Sequence[str], metric: str, base: Mapping[int, float], title: str
) -> None:
    ax.set_yticks(range(len(names)), names, fontsize=8.5)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="x", color=_FAINT, linewidth=0.5)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, colors=INK)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    what = _AXES.get(metric, f"points {metric.replace('_', ' ')} km")
    better = "less" if metric in _AXES else "more"
    mean = f" (base: {np.mean(list(base.values())):,.4g}; {better} is better)" if base else ""
    label = f"Difference to the base, {what}{mean}; dots are seeds, bars 95 % intervals"
    ax.set_xlabel(label, fontsize=9, color=INK)
    if title:
        ax.set_title(title, loc="left", fontsize=11, color=INK)
