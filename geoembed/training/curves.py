"""The curves of a run as a picture: loss, learning rate, and how held-out places are found."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from geoembed.evaluation.geolocation.metrics import THRESHOLDS_KM
from geoembed.optional import import_optional
from geoembed.plot.axes import INK
from geoembed.training.logs import read_metrics
from geoembed.training.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_curves"]

# From the palette of Okabe and Ito, which every kind of colour vision tells apart.
_COLOURS: Final = ("#cc79a7", "#e69f00", "#009e73", "#0072b2", "#d55e00")
_TRAIN: Final = "#0072b2"
_HELD_OUT: Final = "#d55e00"
_FAINT: Final = "#c9d0d5"
_QUIET: Final = "#6b767d"
_SIZE: Final = (8.0, 10.0)
_EDGES: Final = {"left": 0.11, "right": 0.91, "bottom": 0.05, "top": 0.955, "hspace": 0.14}
_DPI: Final = 120
# The last mark stands on the edge, and is drawn whole.
_LINE: Final[dict[str, Any]] = {"linewidth": 1.4, "markersize": 3.5, "clip_on": False}
# Marks of more validations than this would run into each other.
_MARKED: Final = 40
# Least distance between names at the right edge, in shares of the axis.
_APART: Final = 0.055

Row = dict[str, float]


def draw_curves(folder: str | Path, title: str = "") -> Path:
    """Draw the metrics of a run as ``curves.png`` in its folder.

    Parameters
    ----------
    folder : str or Path
        Of a run, which may be going on.
    title : str
        Stands above the picture.

    Returns
    -------
    Path
        The picture: loss of training batches and of held-out pictures, learning rate, share of
        held-out pictures within each distance, and their median error, all over the steps.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> lines = ['{"step": 10, "epoch": 0.5, "lr": 0.001, "loss": 4.2}', ""]
    >>> _ = Path("metrics.jsonl").write_text(chr(10).join(lines))
    >>> draw_curves(".").name
    'curves.png'
    """
    run = RunFolder(folder)
    rows = read_metrics(run)
    # A figure of its own: nothing of the caller's pyplot is touched.
    figures = import_optional("matplotlib.figure", extra="plot", purpose="Drawing curves")
    figure = figures.Figure(figsize=_SIZE)
    # Fixed edges: to find fitting ones takes as long as to draw.
    axes = figure.subplots(
        4, 1, sharex=True, height_ratios=(3, 1.4, 3, 2), gridspec_kw=dict(_EDGES)
    )
    _draw_loss(axes[0], rows)
    _draw_rate(axes[1], rows)
    _draw_shares(axes[2], rows)
    _draw_median(axes[3], rows)
    for ax in axes:
        ax.yaxis.set_label_coords(-0.09, 0.5)
    axes[-1].set_xlabel("steps", fontsize=9, color=INK)
    axes[-1].set_xlim(0, max((row["step"] for row in rows), default=1))
    axes[-1].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    partial = run.curves.with_name(f".{run.curves.name}.part")
    figure.savefig(partial, dpi=_DPI, format="png")
    partial.replace(run.curves)
    return run.curves


def _draw_loss(ax: "Axes", rows: list[Row]) -> None:
    for name, label, colour in (
        ("loss", "training batches", _TRAIN),
        ("val_loss", "held-out pictures", _HELD_OUT),
    ):
        steps, values = _series(rows, name)
        marker = "o" if name.startswith("val") and len(steps) <= _MARKED else ""
        if steps:
            ax.plot(steps, values, marker=marker, color=colour, label=label, **_LINE)
    if ax.lines:
        ax.legend(fontsize=8, frameon=False, labelcolor=INK, loc="upper right")
    _finish(ax, "loss")


def _draw_rate(ax: "Axes", rows: list[Row]) -> None:
    steps, values = _series(rows, "lr")
    ax.plot(steps, values, color=_TRAIN, **_LINE)
    _finish(ax, "learning rate")
    ax.set_ylim(bottom=0.0)
    ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    ax.yaxis.get_offset_text().set(fontsize=8, color=INK)


def _draw_shares(ax: "Axes", rows: list[Row]) -> None:
    ends: list[tuple[float, str, str]] = []
    for km, colour in zip(THRESHOLDS_KM, _COLOURS, strict=True):
        steps, values = _series(rows, f"val_within_{km:g}")
        if steps:
            marker = "o" if len(steps) <= _MARKED else ""
            ax.plot(steps, values, marker=marker, color=colour, **_LINE)
            ends.append((values[-1], f"{km:,.0f} km", colour))
    _finish(ax, "held-out pictures within, %")
    ax.set_ylim(bottom=0.0)
    if not ends:
        return _say_nothing(ax)
    top = ax.get_ylim()[1]
    # Names beside the ends of their curves, moved apart where those meet.
    lowest = -1.0
    for value, name, colour in sorted(ends):
        lowest = max(value / top, lowest + _APART)
        ax.annotate(
            name,
            (1.0, lowest),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=colour,
            annotation_clip=False,
        )
    return None


def _draw_median(ax: "Axes", rows: list[Row]) -> None:
    steps, values = _series(rows, "val_median_km")
    _finish(ax, "median error, km")
    if not steps:
        return _say_nothing(ax)
    marker = "o" if len(steps) <= _MARKED else ""
    ax.plot(steps, values, marker=marker, color=_HELD_OUT, **_LINE)
    ax.set_ylim(0.0, 1.05 * max(*values, 1.0))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    best = min(range(len(values)), key=values.__getitem__)
    text = f"best: {values[best]:,.0f} km after {steps[best]:,.0f} steps"
    ax.set_title(text, loc="right", fontsize=8, color=INK)
    return None


def _series(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    found = [row for row in rows if row.get(name) is not None]
    return [row["step"] for row in found], [row[name] for row in found]


def _say_nothing(ax: "Axes") -> None:
    ax.text(
        0.5,
        0.5,
        "not validated yet",
        transform=ax.transAxes,
        ha="center",
        va="center",
        fontsize=9,
        color=_QUIET,
    )


def _finish(ax: Any, label: str) -> None:
    ax.set_ylabel(label, fontsize=9, color=INK)
    ax.tick_params(labelsize=8, labelcolor=INK, color=_QUIET)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set(color=_QUIET, linewidth=0.6)
    ax.grid(color=_FAINT, linewidth=0.5)
    ax.set_axisbelow(True)
