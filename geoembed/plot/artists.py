"""The parts of a map beyond the empty one: picture or dots, colour bar, mark, caption."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from geoembed.plot.axes import INK, import_matplotlib, land_paths
from geoembed.plot.rows import Rows, all_on_land, find_grid, raster

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["add_colour_bar", "draw", "mark", "write"]

Floats = npt.NDArray[np.float64]


def draw(
    ax: "Axes", rows: Rows, values: Floats, *, kind: str, size: float | None, **style: Any
) -> Any:
    """Draw values of shape (n,) or colours of shape (n, 3), as a picture or as dots."""
    lon = _in_view(ax, rows.lon)
    grid = find_grid(lon, rows.lat, kind)
    if grid is None:
        area = float(np.clip(60_000 / len(lon), 1.0, 30.0)) if size is None else size
        return ax.scatter(lon, rows.lat, c=values, s=area, linewidths=0, zorder=4, **style)
    over_land = all_on_land(rows)
    picture = raster(grid, values, over_land=over_land)
    style |= {"origin": "lower", "extent": grid.edges, "interpolation": "nearest", "zorder": 2}
    limits = {"xlim": ax.get_xlim(), "ylim": ax.get_ylim()}
    if over_land:
        for path, transform in land_paths(ax):
            drawn = ax.imshow(picture, **style)
            drawn.set_clip_path(path, transform)
    else:
        drawn = ax.imshow(picture, **style)
    ax.set(**limits)  # imshow moved them to the picture
    return drawn


def _in_view(ax: "Axes", lon: Any) -> Any:
    """Longitudes as the axes count them, so that places over the antimeridian come into view."""
    middle = sum(ax.get_xlim()) / 2
    return np.where(lon < middle - 180, lon + 360, np.where(lon > middle + 180, lon - 360, lon))


def add_colour_bar(
    ax: "Axes",
    drawn: Any,
    values: Floats,
    limits: tuple[float, float],
    *,
    label: str = "cosine similarity",
) -> None:
    """Set the scale of the colours beside the map; pointed ends say that values lie beyond."""
    below, above = bool(values.min() < limits[0]), bool(values.max() > limits[1])
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}
    # Inset, so that it follows the map when equal degrees make it smaller than its room.
    inset = ax.inset_axes((1.015, 0.08, 0.016, 0.84))
    bar = ax.figure.colorbar(drawn, cax=inset, extend=extend.get((below, above), "neither"))
    bar.set_label(label, fontsize=8, color=INK)
    inset.tick_params(labelsize=8, labelcolor=INK, color=INK, length=3, width=0.6)
    bar.outline.set_visible(False)


def mark(ax: "Axes", place: tuple[float, float], name: str | None) -> None:
    """Mark a place, and write its name beside it."""
    lon = float(_in_view(ax, (place[0] + 180) % 360 - 180))
    ax.plot(lon, place[1], "o", ms=6, mfc="white", mec=INK, mew=1.4, zorder=6)
    if name:
        effects = import_matplotlib("patheffects")
        ax.annotate(
            name,
            (lon, place[1]),
            xytext=(7, 5),
            textcoords="offset points",
            fontsize=10,
            fontweight="bold",
            color=INK,
            zorder=7,
            path_effects=[effects.withStroke(linewidth=2.5, foreground="white")],
        )


def write(ax: "Axes", rows: Rows, caption: str, title: str | None) -> None:
    """Write the caption under the map, with the number of rows, and the title above it."""
    places = f"{len(rows.lon):,} places"
    left_out = f", {rows.left_out:,} left out (no usable values)" if rows.left_out else ""
    ax.set_xlabel(f"{caption} · {places}{left_out}", fontsize=8, color=INK, loc="left")
    if title:
        ax.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
