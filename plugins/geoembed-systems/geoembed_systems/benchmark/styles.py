"""How pictures of a benchmark look: one colour, line and mark a system, in every picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from geoembed.plot.axes import INK, import_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "FAINT",
    "QUIET",
    "Style",
    "dress",
    "km_text",
    "save_figure",
    "spread_labels",
    "style_of",
]

QUIET: Final = "#6b767d"
FAINT: Final = "#c9d0d5"
_DPI: Final = 150


@dataclass(frozen=True)
class Style:
    """How a system is drawn.

    Parameters
    ----------
    colour, line, mark : str
        As matplotlib takes them.
    width : float
        Of its line, points.
    """

    colour: str
    line: str
    mark: str
    width: float = 1.5


# From the palette of Okabe and Ito, which every kind of colour vision tells apart; lines and marks
# differ as well, for print without colours.
_STYLES: Final = {
    "geoclip": Style("#d55e00", "-", "o", 2.4),
    "knn": Style(INK, "--", "s"),
    "planet": Style("#0072b2", "-", "^"),
    "cplanet": Style("#56b4e9", "--", "v"),
    "isns": Style("#009e73", "-", "D"),
    "translocator": Style("#cc79a7", "--", "P"),
    "geodecoder": Style("#e69f00", "-.", "X"),
    "mean-point": Style(QUIET, ":", "", 1.2),
    "chance": Style("#9aa4aa", ":", "", 1.2),
}
_OTHERS: Final = tuple(style for name, style in _STYLES.items() if style.mark and name != "geoclip")


def style_of(system: str, systems: Sequence[str]) -> Style:
    """Return how a system is drawn.

    Parameters
    ----------
    system : str
        Its name.
    systems : sequence of str
        All that are drawn: those without a style of their own take turns.

    Returns
    -------
    Style
        The same in every picture.

    Examples
    --------
    >>> style_of("planet", ["planet"]).colour, style_of("mine", ["mine"]).colour
    ('#0072b2', '#333c42')
    """
    if system in _STYLES:
        return _STYLES[system]
    strangers = [name for name in systems if name not in _STYLES]
    return _OTHERS[strangers.index(system) % len(_OTHERS)]


def dress(ax: "Axes", *, grid: str = "y") -> None:
    """Give axes the look of all charts here."""
    ax.tick_params(labelsize=8, labelcolor=INK, color=QUIET, length=3, width=0.6)
    ax.tick_params(which="minor", color=FAINT, length=2, width=0.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set(color=QUIET, linewidth=0.6)
    ax.grid(axis=grid, color=FAINT, linewidth=0.5, zorder=0)  # type: ignore[arg-type]
    ax.set_axisbelow(True)


def km_text(value: float, _: Any = None) -> str:
    """Write a distance for an axis.

    Examples
    --------
    >>> km_text(2500.0), km_text(0.5)
    ('2,500', '0.5')
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def spread_labels(heights: Sequence[float], least: float) -> list[float]:
    """Move labels apart that would lie over each other, as little as that takes.

    Parameters
    ----------
    heights : sequence of float
        Where they belong.
    least : float
        Between two of them.

    Returns
    -------
    list of float
        Where they go, in the order given.

    Examples
    --------
    >>> spread_labels([0.0, 0.1, 5.0], 1.0)
    [-0.45, 0.55, 5.0]
    """
    order = np.argsort(heights, kind="stable")
    # Runs of labels that touch, each around the mean of where its labels belong.
    runs: list[tuple[list[int], float]] = []
    for at in order:
        members, middle = [int(at)], float(heights[at])
        while runs and runs[-1][1] + 0.5 * least * (len(runs[-1][0]) + len(members)) > middle:
            before, where = runs.pop()
            weight = len(before) + len(members)
            middle = (where * len(before) + middle * len(members)) / weight
            members = before + members
        runs.append((members, middle))
    out = np.empty(len(heights))
    for members, middle in runs:
        out[members] = middle + least * (np.arange(len(members)) - 0.5 * (len(members) - 1))
    return [round(float(value), 10) for value in out]


def save_figure(figure: Any, path: Any) -> None:
    """Write a figure as PNG and close it."""
    from geoembed.evaluation.cached import write_atomically

    write_atomically(path, lambda draft: figure.savefig(draft, format="png", dpi=_DPI))
    import_matplotlib("pyplot").close(figure)
