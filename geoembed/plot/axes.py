"""The empty map: sea, land, outlines and degrees in plate carrée."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import shapely

from geoembed.data.loaders import load_land, load_outlines
from geoembed.data.lookup import check_extent
from geoembed.optional import import_optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path
    from matplotlib.transforms import Transform

__all__ = ["INK", "import_matplotlib", "land_paths", "new_axes", "world_axes"]

WORLD: Final = (-180.0, -90.0, 180.0, 90.0)
INK: Final = "#333c42"
_SEA: Final = "#e9eff3"
_LAND: Final = "#fbfaf7"
_COAST: Final = "#5d6a72"
_BORDER: Final = "#8b979e"
_FIGURE_WIDTH: Final = 10.0  # inches


def world_axes(
    ax: "Axes | None" = None,
    *,
    extent: Sequence[float] = WORLD,
    borders: bool = True,
) -> "Axes":
    """Draw an empty map: sea, land, coastlines, borders and degrees, in plate carrée.

    Parameters
    ----------
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure of fitting shape if not given.
    extent : sequence of 4 floats, default the whole globe
        West, south, east and north in degrees. An east that is not larger than west is taken one
        turn further on: ``(120, -60, -60, 60)`` shows the Pacific Ocean.
    borders : bool, default True
        Draw land borders between countries too.

    Returns
    -------
    matplotlib.axes.Axes
        Longitude runs to the right and latitude upwards, in degrees of equal length.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    OptionError
        If `extent` is not an extent.

    Examples
    --------
    >>> ax = world_axes(extent=(-30, 30, 60, 75))
    >>> [float(limit) for limit in ax.get_xlim()]
    [-30.0, 60.0]
    """
    west, south, east, north = check_extent(extent)
    ax = new_axes(extent) if ax is None else ax
    ax.set(xlim=(west, east), ylim=(south, north), aspect="equal", facecolor=_SEA)
    _draw_land(ax)
    _draw_outlines(ax, borders=borders)
    _label_degrees(ax)
    return ax


def import_matplotlib(module: str) -> Any:
    """Import a module of matplotlib, or say which extra installs it."""
    return import_optional(f"matplotlib.{module}", extra="plot", purpose="Drawing maps")


def land_paths(ax: "Axes") -> Iterator[tuple["Path", "Transform"]]:
    """Yield the land and its place on the axes, once for every turn of longitude in view."""
    for transform in _turns(ax):
        yield _land_path(), transform


def new_axes(extent: Sequence[float], *, right: float = 0.0) -> "Axes":
    """Make a figure whose shape fits the extent, with so many inches left free at the right."""
    west, south, east, north = check_extent(extent)
    # Half an inch for the degrees beside the map, 0.9 for degrees, caption and title.
    width = _FIGURE_WIDTH - 0.5 - right
    height = float(np.clip(width * (north - south) / (east - west), 2.0, 9.0))
    size = (_FIGURE_WIDTH, height + 0.9)
    _, ax = import_matplotlib("pyplot").subplots(figsize=size, layout="constrained")
    axes: Axes = ax
    return axes


def _turns(ax: "Axes") -> Iterator["Transform"]:
    """Yield the data transform moved by every whole turn that the axes show."""
    west, east = ax.get_xlim()
    affine = import_matplotlib("transforms").Affine2D
    for turn in range(int((west + 180) // 360), int(np.ceil((east + 180) / 360))):
        yield affine().translate(360 * turn, 0) + ax.transData


def _draw_land(ax: "Axes") -> None:
    patch = import_matplotlib("patches").PathPatch
    for path, transform in land_paths(ax):
        # A hairline in its own colour closes the seams where land is cut at the antimeridian.
        style = {"facecolor": _LAND, "edgecolor": _LAND, "linewidth": 0.3}
        ax.add_artist(patch(path, transform=transform, zorder=1, label="land", **style))


def _draw_outlines(ax: "Axes", *, borders: bool) -> None:
    lines = import_matplotlib("collections").LineCollection
    styles = {"coastline": (_COAST, 0.45, 3.0)}
    if borders:
        styles["border"] = (_BORDER, 0.3, 2.9)
    for kind, (colour, width, zorder) in styles.items():
        for transform in _turns(ax):
            drawn = lines(
                _outline_segments()[kind],
                colors=colour,
                linewidths=width,
                zorder=zorder,
                transform=transform,
                label=kind,
                capstyle="round",
            )
            ax.add_collection(drawn, autolim=False)


def _label_degrees(ax: "Axes") -> None:
    ticker = import_matplotlib("ticker")
    for axis, letters in ((ax.xaxis, "EW"), (ax.yaxis, "NS")):
        axis.set_major_locator(ticker.MaxNLocator(nbins=7, steps=[1, 2, 3, 6, 10]))
        axis.set_major_formatter(ticker.FuncFormatter(_degree_formatter(letters)))
    ax.tick_params(labelsize=8, labelcolor=INK, color=_BORDER, length=3, width=0.6)
    ax.spines[:].set(color=_BORDER, linewidth=0.6, zorder=5)


def _degree_formatter(letters: str) -> Any:
    def text(value: float, _: int | None = None) -> str:
        if letters == "EW":
            value = (value + 180) % 360 - 180
        value = round(value, 6) + 0.0
        on_the_line = value == 0 or (letters == "EW" and value == -180)
        letter = "" if on_the_line else letters[int(value < 0)]
        return f"{abs(value):g}°{letter}"

    return text


@cache
def _land_path() -> "Path":
    """All land as one compound path; holes run the other way round and stay empty."""
    path = import_matplotlib("path").Path
    rings = shapely.get_rings(load_land().geometry.normalize().array)
    vertices, ring = shapely.get_coordinates(rings, return_index=True)
    codes = np.full(len(vertices), path.LINETO, dtype=path.code_type)
    codes[np.diff(ring, prepend=-1) > 0] = path.MOVETO
    codes[np.diff(ring, append=len(rings)) > 0] = path.CLOSEPOLY
    compound: Path = path(vertices, codes)
    return compound


@cache
def _outline_segments() -> dict[str, list[npt.NDArray[np.float64]]]:
    outlines = load_outlines()
    return {
        kind: [shapely.get_coordinates(line) for line in shapely.get_parts(geometry)]
        for kind, geometry in zip(outlines["kind"], outlines.geometry, strict=True)
    }
