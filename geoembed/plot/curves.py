"""Errors of geolocation: how many lie within which distance, and where on Earth."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from geoembed.errors import OptionError
from geoembed.plot.artists import write
from geoembed.plot.axes import INK, import_matplotlib, new_axes, world_axes
from geoembed.plot.rows import check_rows, fitting_extent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cumulative_error_curve", "distance_error_map"]

Floats = npt.NDArray[np.float64]

_THRESHOLDS: Final = (1.0, 25.0, 200.0, 750.0, 2500.0)
# From the palette of Okabe and Ito, which every kind of colour vision tells apart.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_STYLES: Final = ("-", "--", "-.", ":")
_FAINT: Final = "#c9d0d5"
_QUIET: Final = "#6b767d"
# The axis starts here: nobody knows better where a photograph was taken.
_NEAREST_KM: Final = 0.1
_FARTHEST_KM: Final = 20_004.0
# Percent above which a label goes below its mark.
_HIGH: Final = 94.0


def cumulative_error_curve(
    errors_km: Mapping[str, npt.ArrayLike] | npt.ArrayLike,
    *,
    thresholds_km: Sequence[float] = _THRESHOLDS,
    ax: "Axes | None" = None,
    title: str | None = None,
) -> "Axes":
    """Show how many errors are no larger than every distance.

    Parameters
    ----------
    errors_km : mapping of str to array_like of shape (n,), or one array
        Name of a system -> its errors in km, not negative. NaN counts as larger than all.
    thresholds_km : sequence of float
        Marked, with the share within each beside the first curve.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if not given.
    title : str, optional
        Stands above the chart.

    Returns
    -------
    matplotlib.axes.Axes
        Distance on a logarithmic scale from 100 m to half the Earth's girth, percent upwards.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    OptionError
        If there are no errors, or one is negative.

    Examples
    --------
    >>> ax = cumulative_error_curve([0.5, 30.0, 800.0, 9000.0], title="Four pictures")
    >>> ax.get_title(loc="left")
    'Four pictures'
    """
    systems = errors_km if isinstance(errors_km, Mapping) else {"": errors_km}
    curves = {name: _sorted_errors(name, values) for name, values in systems.items()}
    if not curves:
        raise OptionError("errors_km={} has no system: there is nothing to show.")
    if ax is None:
        _, ax = import_matplotlib("pyplot").subplots(figsize=(8.0, 4.6), layout="constrained")
    axes: Axes = ax
    for at, (name, values) in enumerate(curves.items()):
        x, y = _steps(values)
        colour = _COLOURS[at % len(_COLOURS)]
        axes.plot(x, y, _STYLES[at % 4], color=colour, linewidth=1.8, label=name, zorder=4)
    _mark_thresholds(axes, thresholds_km, next(iter(curves.values())))
    axes.set_xscale("log")
    axes.set(xlim=(_NEAREST_KM, _FARTHEST_KM), ylim=(0.0, 100.0))
    axes.xaxis.set_major_formatter(import_matplotlib("ticker").FuncFormatter(_km))
    axes.set_xlabel("distance from the truth, km", fontsize=9, color=INK)
    axes.set_ylabel("pictures within it, %", fontsize=9, color=INK)
    axes.tick_params(labelsize=8, labelcolor=INK, color=_QUIET)
    axes.tick_params(which="minor", color=_FAINT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set(color=_QUIET, linewidth=0.6)
    axes.grid(axis="y", color=_FAINT, linewidth=0.5, zorder=0)
    if len(curves) > 1:
        axes.legend(loc="lower right", fontsize=8, frameon=False, labelcolor=INK)
    if title:
        # Above the names of the thresholds.
        axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=18)
    return axes


def distance_error_map(
    lon: npt.ArrayLike,
    lat: npt.ArrayLike,
    errors_km: npt.ArrayLike,
    *,
    thresholds_km: Sequence[float] = _THRESHOLDS,
    ax: "Axes | None" = None,
    extent: Sequence[float] | None = None,
    size: float | None = None,
    cmap: str = "viridis",
    title: str | None = None,
) -> "Axes":
    """Show where pictures were taken, coloured by how far the predictions are from there.

    Parameters
    ----------
    lon, lat : array_like of shape (n,)
        Where they were taken, degrees, WGS 84.
    errors_km : array_like of shape (n,)
        Errors in km, not negative; places without one are left out, and the caption counts them.
    thresholds_km : sequence of float
        Bounds of the colours, ascending; the legend counts the places of each.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if not given.
    extent : sequence of 4 floats, optional
        West, south, east and north in degrees; around the places if not given.
    size : float, optional
        Area of a dot in points squared; from the number of places if not given.
    cmap : str
        Name of a matplotlib colour map.
    title : str, optional
        Stands above the map.

    Returns
    -------
    matplotlib.axes.Axes
        The map. Large errors are drawn over small ones.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    OptionError
        If lengths differ, fewer than 3 places have an error, or one is negative.
    CoordinateError
        If a latitude is outside [-90, 90].

    Examples
    --------
    >>> lon, lat = np.array([0.0, 90.0, -90.0]), np.array([0.0, 40.0, 10.0])
    >>> ax = distance_error_map(lon, lat, [0.5, 30.0, 9000.0])
    >>> [text.get_text() for text in ax.get_legend().get_texts()][:2]
    ['up to 1 km: 1', '1 to 25 km: 0']
    """
    values = np.asarray(errors_km, dtype=np.float64).ravel()
    if (values < 0.0).any():
        raise OptionError("errors_km holds negative distances.")
    rows = check_rows(lon, lat, values.reshape(-1, 1))
    bounds = np.asarray(thresholds_km, dtype=np.float64)
    km = rows.embedding[:, 0].astype(np.float64)
    kinds = np.searchsorted(bounds, km, side="left")
    wide = fitting_extent(rows, extent)
    # Room for the legend beside the map.
    axes = new_axes(wide, right=1.6) if ax is None else ax
    world_axes(axes, extent=wide, borders=False)
    colours = (
        import_matplotlib("pyplot")
        .colormaps[cmap]
        .reversed()(np.linspace(0.0, 1.0, len(bounds) + 1))
    )
    area = float(np.clip(30_000 / len(km), 3.0, 36.0)) if size is None else size
    marks = []
    for kind, name in enumerate(_classes(bounds)):
        own = kinds == kind
        mark = axes.scatter(
            rows.lon[own],
            rows.lat[own],
            s=area,
            color=colours[kind],
            linewidths=0.3,
            edgecolors=INK,
            zorder=4 + kind / 100,
            label=f"{name}: {np.count_nonzero(own):,}",
        )
        marks.append(mark)
    axes.legend(
        handles=marks,
        loc="upper left",
        bbox_to_anchor=(1.005, 1.0),
        fontsize=8,
        frameon=False,
        labelcolor=INK,
        handletextpad=0.2,
    )
    write(axes, rows, "Distance of the prediction from where the picture was taken", title)
    return axes


def _sorted_errors(name: str, values: npt.ArrayLike) -> Floats:
    errors = np.sort(np.asarray(values, dtype=np.float64).ravel())
    what = f" of {name!r}" if name else ""
    if not errors.size:
        raise OptionError(f"There are no errors{what} to draw.")
    if (errors < 0.0).any():
        raise OptionError(f"The errors{what} hold negative distances.")
    return errors


def _steps(values: Floats) -> tuple[Floats, Floats]:
    """Corners of the curve: at every error the share jumps."""
    finite = values[np.isfinite(values)]
    share = 100.0 * np.arange(1, len(finite) + 1) / len(values)
    x = np.concatenate([[_NEAREST_KM], np.repeat(np.maximum(finite, _NEAREST_KM), 2)])
    before = np.concatenate([[0.0], share[:-1]]) if len(share) else share
    y = np.concatenate([[0.0], np.stack([before, share], axis=1).ravel()])
    last = y[-1] if len(y) else 0.0
    return np.append(x, _FARTHEST_KM), np.append(y, last)


def _mark_thresholds(ax: "Axes", thresholds_km: Sequence[float], values: Floats) -> None:
    for km in thresholds_km:
        share = 100.0 * np.searchsorted(values, km, side="right") / len(values)
        ax.axvline(km, color=_FAINT, linewidth=0.8, zorder=1)
        ax.plot(km, share, "o", color=INK, markersize=4, zorder=5)
        ax.annotate(
            f"{share:.1f} %",
            (km, share),
            xytext=(-4, 5 if share < _HIGH else -11),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=INK,
            zorder=6,
        )
        ax.annotate(
            f"{_km(km)} km",
            (km, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
            color=_QUIET,
        )


def _classes(bounds: Floats) -> list[str]:
    texts = [_km(float(value)) for value in bounds]
    between = [f"{low} to {high} km" for low, high in pairwise(texts)]
    return [f"up to {texts[0]} km", *between, f"over {texts[-1]} km"]


def _km(value: float, _: Any = None) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"
