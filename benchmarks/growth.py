"""How cost grows: the figures that stand in series, as a table and as a picture."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from figures import Figure, number

__all__ = ["draw_growth", "growth_table", "series_of"]

# A series by its name: its axis, and (how much, cost in seconds) from the smallest on.
Series = dict[str, tuple[str, list[tuple[float, float]]]]

_SECONDS: Final = {"s": 1.0, "ms": 1e-3, "h": 3600.0}
_AXES: Final = {
    "rows": "rows",
    "places": "places of the gallery",
    "k": "answers wanted, k",
    "workers": "workers",
}
# Ink, lines of the grid, and colours of series that can be told apart on either ground.
_THEMES: Final = {
    "light": (
        "#333c42",
        "#d5dbdf",
        ("#1b6ca8", "#c2571a", "#4a8a3c", "#8a4f9e", "#7a6a1f", "#a3324b"),
    ),
    "dark": (
        "#d6dde2",
        "#4a545b",
        ("#6cb6ee", "#f0995f", "#8ccf7e", "#cf9be0", "#d8c873", "#f08a9d"),
    ),
}
_DPI: Final = 150


def series_of(figures: Iterable[Figure]) -> Series:
    """Return the series of two points or more, in the order of the figures."""
    found: dict[tuple[str, str], dict[float, float]] = {}
    for figure in figures:
        growth = figure.growth
        if growth is not None and figure.unit in _SECONDS:
            points = found.setdefault((growth.series, growth.axis), {})
            points[growth.at] = figure.value * _SECONDS[figure.unit]
    return {
        name: (axis, sorted(points.items()))
        for (name, axis), points in found.items()
        if len(points) > 1
    }


def growth_table(figures: Iterable[Figure]) -> str:
    """Return the series as a Markdown table: cost, and how many times the first."""
    lines = [
        "| what | how much | cost | a piece | times the first | cost, times the first |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, (axis, points) in series_of(figures).items():
        first, cheapest = points[0]
        for at, cost in points:
            piece = "" if axis in ("k", "workers") else _time(cost / at)
            cells = [
                name,
                f"{axis} = {at:g}"
                if axis == "k"
                else f"{at:,.0f} {axis if at != 1 else axis[:-1]}",
                _time(cost),
                piece,
                number(at / first),
                number(cost / cheapest),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw_growth(figures: Iterable[Figure], folder: Path) -> list[Path]:
    """Draw cost over size, one panel an axis, for light and for dark pages; transparent PNGs.

    Dashed lines are in proportion to the last point of the first series.
    """
    from matplotlib.figure import Figure as Sheet

    series = series_of(figures)
    axes = [axis for axis in _AXES if any(axis == each for each, _ in series.values())]
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for theme, (ink, faint, colours) in _THEMES.items():
        columns, rows = min(2, len(axes)) or 1, (len(axes) + 1) // 2 or 1
        sheet = Sheet(figsize=(4.2 * columns, 3.8 * rows), layout="constrained")
        panels = sheet.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(axes) :]:
            panel.remove()
        for panel, axis in zip(panels, axes, strict=False):
            chosen = {name: points for name, (each, points) in series.items() if each == axis}
            _draw_panel(panel, axis, chosen, ink, colours)
            _dress(panel, ink, faint)
        path = folder / f"bench_growth_{theme}.png"
        # Nothing of the moment goes into the file: the same figures are the same bytes.
        sheet.savefig(path, dpi=_DPI, transparent=True, metadata={"Software": None})
        written.append(path)
    return written


def _draw_panel(
    panel: Any,
    axis: str,
    series: dict[str, list[tuple[float, float]]],
    ink: str,
    colours: tuple[str, ...],
) -> None:
    """Draw the series of one axis, and what would be in proportion to the first of them."""
    for number_, (name, points) in enumerate(series.items()):
        at, cost = zip(*points, strict=True)
        colour = colours[number_ % len(colours)]
        panel.plot(at, cost, "o-", color=colour, markersize=4, linewidth=1.6, label=name)
    at, cost = zip(*next(iter(series.values())), strict=True)
    panel.set(xlabel=_AXES[axis], ylabel="seconds", xscale="linear" if axis == "workers" else "log")
    if axis != "k":
        # The last point has the least of what every call costs, whatever its size; of workers it is
        # the first that the others are held against.
        anchor, power = (0, -1) if axis == "workers" else (-1, 1)
        line = [cost[anchor] * (each / at[anchor]) ** power for each in at]
        panel.plot(at, line, "--", color=ink, linewidth=0.9, alpha=0.7, label="in proportion")
    if axis in ("k", "workers"):
        ticks = sorted({each for points in series.values() for each, _ in points})
        panel.set_xticks(ticks, [f"{each:g}" for each in ticks])
        panel.xaxis.set_minor_locator(_no_ticks())
        panel.set_ylim(0, 1.1 * max(each for points in series.values() for _, each in points))
    else:
        panel.set_yscale("log")
    legend = panel.legend(
        fontsize=6.5, frameon=False, labelcolor=ink, loc="lower left", bbox_to_anchor=(-0.02, 1.0)
    )
    legend.set_in_layout(True)


def _dress(panel: Any, ink: str, faint: str) -> None:
    panel.patch.set_alpha(0.0)
    panel.tick_params(colors=ink, which="both", labelsize=7.5)
    for label in (panel.xaxis.label, panel.yaxis.label):
        label.set(color=ink, fontsize=8.5)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(ink)
    panel.grid(True, color=faint, linewidth=0.6)
    panel.set_axisbelow(True)


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _time(seconds: float) -> str:
    """Write a time in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds / 1e-9)} ns"
