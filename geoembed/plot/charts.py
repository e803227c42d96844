"""Charts of comparisons: scores with their spread, and maps of where the errors are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from geoembed.errors import OptionError, unknown_name
from geoembed.plot.artists import add_colour_bar, draw, write
from geoembed.plot.axes import INK, import_matplotlib, world_axes
from geoembed.plot.rows import check_rows, fitting_extent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["error_map", "score_chart"]

# From the palette of Okabe and Ito, which every kind of colour vision tells apart; marks differ
# as well.
_STYLES: Final = (
    ("#d55e00", "o"),
    ("#0072b2", "s"),
    ("#009e73", "D"),
    ("#cc79a7", "^"),
    ("#e69f00", "v"),
    ("#56b4e9", "P"),
)
_FAINT: Final = "#c9d0d5"
_QUIET: Final = "#6b767d"
# R2 and accuracy end here, and so do bars.
_HIGHEST: Final = 1.0
# A score far below would squeeze the others together: it is a mark at the edge.
_LOWEST: Final = -0.1
# Least width of a column of numbers beside the chart, and width of a letter of its head, points.
_COLUMN: Final = 42
_LETTER: Final = 6
_NEEDED: Final = ("label", "split", "mean", "sd")


def score_chart(
    table: pd.DataFrame,
    *,
    metric: str = "score",
    by: str | None = None,
    ax: "Axes | None" = None,
    title: str | None = None,
) -> "Axes":
    """Show scores as dots with their spread, a line an encoder, splits side by side.

    Parameters
    ----------
    table : DataFrame
        A row an encoder and split: ``label``, ``split``, ``mean`` and ``sd`` of the score, such
        as `geoembed.evaluation.Comparison.table`; ``dimension`` is written beside the label if it
        is there.
    metric : str
        What the score is, for the axis.
    by : str, optional
        The split that encoders are sorted by, the best on top; the last one if not given.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if not given.
    title : str, optional
        Stands above the chart.

    Returns
    -------
    matplotlib.axes.Axes
        The chart, with the means in words at its right. What is far below 0 is an arrow at its
        left edge; bars end at 1, which no score exceeds.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    OptionError
        If the table is empty or lacks a column, or a pair of label and split stands there twice.
    UnknownNameError
        If `by` is no split of the table.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "label": ["xyz", "xyz", "geoclip.v1", "geoclip.v1"],
    ...         "split": ["random", "spatial"] * 2,
    ...         "mean": [0.7, 0.4, 0.9, 0.6],
    ...         "sd": [0.02, 0.1, 0.01, 0.08],
    ...     }
    ... )
    >>> ax = score_chart(table, metric="R2")
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['xyz', 'geoclip.v1']
    """
    means, spreads = _check_table(table)
    splits = list(means.columns)
    by = splits[-1] if by is None else by
    if by not in splits:
        raise unknown_name("split", by, splits)
    order = means[by].sort_values(kind="stable", na_position="first").index
    means, spreads = means.loc[order], spreads.loc[order]

    ax = _new_chart(len(order), len(splits)) if ax is None else ax
    left = _left_end(means, spreads)
    gap = min(0.26, 0.62 / len(splits))
    for at, name in enumerate(splits):
        rows = np.arange(len(order)) + gap * ((len(splits) - 1) / 2 - at)
        _draw_split(ax, rows, means[name], spreads[name], _STYLES[at % len(_STYLES)], name, left)
    for row in range(len(order) - 1):
        ax.axhline(row + 0.5, color=_FAINT, linewidth=0.5, zorder=1)
    _label_rows(ax, table, means, by)
    right = min(float(np.nanmax((means + spreads.fillna(0.0)).to_numpy())), _HIGHEST)
    ax.set_xlim(left, right + 0.02 * (right - left))
    ax.set_xlabel(
        _scale_name(metric, bool(np.isfinite(spreads.to_numpy()).any())), fontsize=9, color=INK
    )
    _dress(ax, title)
    return ax


def error_map(
    lon: npt.ArrayLike,
    lat: npt.ArrayLike,
    errors: Mapping[str, npt.ArrayLike],
    *,
    label: str = "error",
    size: float | None = None,
    cmap: str = "viridis",
    title: str | None = None,
) -> "Axes":
    """Show where errors are: one map a split, one above the other, with one scale of colours.

    Parameters
    ----------
    lon, lat : array_like of shape (n,)
        Degrees, WGS 84; longitude any turn, latitude in [-90, 90].
    errors : mapping of str to array_like of shape (n,)
        Name of a split -> the error of every place, not negative; places without one are left
        out, and the caption counts them.
    label : str
        What the error is, for the scale.
    size : float, optional
        Area of a dot in points squared; from the number of places if not given.
    cmap : str
        Name of a matplotlib colour map.
    title : str, optional
        Stands above the first map.

    Returns
    -------
    matplotlib.axes.Axes
        The first map; its figure has the others.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    OptionError
        If there are no errors, lengths differ, or a split has errors at fewer than 3 places.
    CoordinateError
        If a latitude is outside [-90, 90].

    Notes
    -----
    Large errors are drawn over small ones, so that one place that errs is seen among many that
    do not; colours end at the 98th percentile of all errors.

    Examples
    --------
    >>> lon, lat = np.array([0.0, 90.0, -90.0]), np.array([0.0, 40.0, 10.0])
    >>> ax = error_map(lon, lat, {"random": [0.1, 0.2, 0.3]}, title="Three places")
    >>> ax.get_title(loc="left")
    'Three places'
    """
    if not errors:
        raise OptionError("errors={} has no split: there is nothing to show.")
    parts = {
        name: check_rows(lon, lat, np.asarray(values, dtype=np.float64).reshape(-1, 1))
        for name, values in errors.items()
    }
    every = np.concatenate([rows.embedding[:, 0] for rows in parts.values()])
    top = float(np.percentile(every, 98.0)) or float(every.max()) or 1.0
    extents = [fitting_extent(rows, None) for rows in parts.values()]
    extent = max(extents, key=lambda e: (e[2] - e[0]) * (e[3] - e[1]))
    axes = _stacked(extent, len(parts))
    for at, (ax, (name, rows)) in enumerate(zip(axes, parts.items(), strict=True)):
        world_axes(ax, extent=extent, borders=False)
        order = np.argsort(rows.embedding[:, 0], kind="stable")
        ordered = type(rows)(rows.lon[order], rows.lat[order], rows.embedding[order], rows.left_out)
        values = ordered.embedding[:, 0].astype(np.float64)
        limits = (0.0, top)
        style = {"cmap": cmap, "vmin": 0.0, "vmax": top}
        area = float(np.clip(30_000 / len(values), 1.0, 30.0)) if size is None else size
        drawn = draw(ax, ordered, values, kind="points", size=area, **style)
        add_colour_bar(ax, drawn, values, limits, label=label)
        write(ax, ordered, f"{name.capitalize()} split", title if at == 0 else None)
    return axes[0]


def _check_table(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means and spreads, a row a label and a column a split, both in the order of the table."""
    missing = [name for name in _NEEDED if name not in table.columns]
    if missing or not len(table):
        what = f"lacks {', '.join(map(repr, missing))}" if missing else "is empty"
        raise OptionError(f"The table of scores {what}: it needs a row an encoder and split.")
    if table.duplicated(["label", "split"]).any():
        twice = table[table.duplicated(["label", "split"])].iloc[0]
        raise OptionError(
            f"{twice['label']!r} stands twice in the table for the split {twice['split']!r}."
        )
    labels, splits = table["label"].unique(), table["split"].unique()
    means, spreads = (
        table.pivot(index="label", columns="split", values=part)
        .reindex(index=labels, columns=splits)
        .astype(np.float64)
        for part in ("mean", "sd")
    )
    return means, spreads


def _new_chart(rows: int, splits: int) -> "Axes":
    height = 1.5 + rows * (0.2 + 0.13 * splits)
    _, ax = import_matplotlib("pyplot").subplots(
        figsize=(9.0, max(height, 2.6)), layout="constrained"
    )
    axes: Axes = ax
    return axes


def _left_end(means: pd.DataFrame, spreads: pd.DataFrame) -> float:
    lowest = float(np.nanmin((means - spreads.fillna(0.0).clip(upper=0.3)).to_numpy()))
    highest = float(np.nanmax(means.to_numpy()))
    if lowest >= 0.0:
        # From zero on, unless all lie close together far from it.
        return 0.0 if lowest < 0.5 * highest else lowest - 0.15 * (highest - lowest) - 1e-3
    return max(lowest - 0.03 * (highest - lowest), min(_LOWEST, highest - 0.5))


def _draw_split(
    ax: "Axes", rows: Any, means: Any, spreads: Any, style: tuple[str, str], name: str, left: float
) -> None:
    colour, marker = style
    values, widths = means.to_numpy(), spreads.to_numpy()
    inside = values >= left
    known = inside & np.isfinite(widths)
    ax.hlines(
        rows[known],
        np.maximum(values - widths, left)[known],
        np.minimum(values + widths, _HIGHEST)[known],
        colors=colour,
        linewidth=1.6,
        alpha=0.55,
        zorder=3,
    )
    ax.plot(
        values[inside],
        rows[inside],
        marker,
        color=colour,
        markersize=5.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linestyle="none",
        zorder=4,
        label=name,
    )
    outside = ~inside & np.isfinite(values)
    ax.plot(
        np.full(outside.sum(), left + 0.01 * (_HIGHEST - left)),
        rows[outside],
        "<",
        color=colour,
        markersize=6,
        linestyle="none",
        zorder=5,
    )


def _label_rows(ax: "Axes", table: pd.DataFrame, means: pd.DataFrame, by: str) -> None:
    """Names at the left; at the right the means and the dimension, as columns of numbers."""
    count = len(means)
    ax.set_yticks(range(count), list(means.index), fontsize=9, color=INK)
    ax.set_ylim(-0.6, count - 0.4)
    end = -2
    for at, name in enumerate(means.columns):
        end += max(_COLUMN, _LETTER * len(str(name)) + 8)
        colour, marker = _STYLES[at % len(_STYLES)]
        texts = ["-" if np.isnan(value) else f"{value:.3f}" for value in means[name]]
        weight = "bold" if name == by else "normal"
        _write_column(ax, end, str(name), texts, colour, weight)
        # A mark beside the head of the column: the legend.
        ax.annotate(
            {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼", "P": "✚"}[marker],
            (1.0, count - 0.4),
            xycoords=("axes fraction", "data"),
            xytext=(end, 16),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color=colour,
            annotation_clip=False,
        )
    if "dimension" in table.columns:
        widths = table.drop_duplicates("label").set_index("label")["dimension"]
        found = [f"{widths[label]:,}" if widths[label] else "-" for label in means.index]
        _write_column(ax, end + _COLUMN, "values", found, _QUIET, "normal")


def _write_column(
    ax: "Axes", end: int, head: str, texts: list[str], colour: str, weight: str
) -> None:
    """Write numbers, and their head above them; `end` is their right end, points from the chart."""
    lines = [(float(row), text) for row, text in enumerate(texts)]
    for row, text in [*lines, (len(texts) - 0.4, head)]:
        ax.annotate(
            text,
            (1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(end, 4 if text == head else 0),
            textcoords="offset points",
            ha="right",
            va="baseline" if text == head else "center_baseline",
            fontsize=8.5,
            fontweight=weight,
            color=colour,
            annotation_clip=False,
        )


def _scale_name(metric: str, spread: bool) -> str:
    name = metric.replace("R2", "R²")
    return f"{name}, mean and standard deviation over the folds" if spread else name


def _dress(ax: "Axes", title: str | None) -> None:
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set(color=_QUIET, linewidth=0.6)
    ax.tick_params(axis="x", labelsize=8, labelcolor=INK, color=_QUIET, length=3, width=0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color=_FAINT, linewidth=0.6, zorder=0)
    ax.set_axisbelow(True)
    if title:
        ax.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)


def _stacked(extent: tuple[float, float, float, float], count: int) -> "list[Axes]":
    """Make a figure of maps, one above the other."""
    west, south, east, north = extent
    width = 10.0 - 1.3
    height = float(np.clip(width * (north - south) / (east - west), 2.0, 9.0))
    figure, axes = import_matplotlib("pyplot").subplots(
        count, 1, figsize=(10.0, count * (height + 0.75) + 0.2), layout="constrained", squeeze=False
    )
    del figure
    return list(axes[:, 0])
