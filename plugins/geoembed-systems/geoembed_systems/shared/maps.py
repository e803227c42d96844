"""The probability of one picture on a map."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoembed.errors import OptionError
from geoembed.geolocation.density import EarthDensity
from geoembed.plot import world_axes
from geoembed.plot.artists import add_colour_bar
from geoembed.plot.axes import INK, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["density_map"]

# Pixels over the width of a map, and how many powers of ten its colours span.
_PIXELS: Final = 1800
_DECADES: Final = 5.0
_EXTENT: Final = (-180.0, -60.0, 180.0, 84.0)


def density_map(
    density: EarthDensity,
    mass: ArrayLike,
    *,
    ax: "Axes | None" = None,
    extent: Sequence[float] | None = None,
    cmap: str = "magma_r",
    title: str | None = None,
) -> "Axes":
    """Draw how probable every part of the Earth is.

    Parameters
    ----------
    density : EarthDensity
        Where its cells lie.
    mass : array of shape (c,)
        Probabilities of one picture, from `EarthDensity.probabilities`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if not given.
    extent : sequence of 4 floats, optional
        West, south, east and north in degrees; the land between 60 S and 84 N if not given.
    cmap : str
        Name of a matplotlib colour map.
    title : str, optional
        Stands above the map.

    Returns
    -------
    matplotlib.axes.Axes
        The map. Colours are logarithmic, over five powers of ten below the densest cell.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    OptionError
        If the shape does not fit, or `extent` is no extent.

    Examples
    --------
    >>> density = EarthDensity([[2.35, 48.86], [-58.4, -34.6]], cell_km=200)
    >>> mass = density.probabilities([[0.9, 0.1]], tau=0.1)[0]
    >>> density_map(density, mass, title="Somewhere").get_title(loc="left")
    'Somewhere'
    """
    values = np.asarray(mass, dtype=np.float64)
    if values.shape != (len(density),):
        raise OptionError(
            f"mass has the shape {values.shape}: give ({len(density):,},), one a cell."
        )
    wanted = _EXTENT if extent is None else extent
    # Room for the colour bar beside the map.
    ax = new_axes(wanted, right=0.8) if ax is None else ax
    world_axes(ax, extent=wanted, borders=False)
    (west, east), (south, north) = ax.get_xlim(), ax.get_ylim()
    step = (east - west) / _PIXELS
    lon = np.arange(west + step / 2, east, step)
    lat = np.arange(south + step / 2, north, step)
    picture = _densities(density, values, lon, lat)
    top = float(np.log10((values / density.areas_km2).max())) + 3.0
    limits = (top - _DECADES, top)
    drawn = ax.imshow(
        picture,
        origin="lower",
        extent=(west, east, south, north),
        interpolation="nearest",
        zorder=2,
        cmap=cmap,
        vmin=limits[0],
        vmax=limits[1],
    )
    ax.set(xlim=(west, east), ylim=(south, north))  # imshow moved them to the picture
    shown = picture.compressed()
    add_colour_bar(
        ax,
        drawn,
        shown if len(shown) else np.array([top]),
        limits,
        label="probability per 1,000 km², powers of ten",
    )
    sure = float(values.max())
    ax.set_xlabel(
        f"Probability density · likeliest cell of {density.cells.cell_km:g} km holds {sure:.1%}",
        fontsize=8,
        color=INK,
        loc="left",
    )
    if title:
        ax.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    return ax


def _densities(
    density: EarthDensity,
    mass: NDArray[np.float64],
    lon: NDArray[np.float64],
    lat: NDArray[np.float64],
) -> "np.ma.MaskedArray[Any, Any]":
    """Logarithm of the density at pixels, masked where the support has no cell or there is none."""
    pixels = np.column_stack([array.ravel() for array in np.meshgrid(lon, lat)])
    number = density.cells.locate(pixels)
    at = np.minimum(np.searchsorted(density.cell, number), len(density) - 1)
    there = (density.cell[at] == number) & (mass[at] > 0.0)
    with np.errstate(divide="ignore"):
        logs = np.log10(mass / density.areas_km2) + 3.0
    return np.ma.masked_where(~there, logs[at]).reshape(len(lat), len(lon))
