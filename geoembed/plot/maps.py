"""Embeddings on a map: as colours, and as similarity to one place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pyproj import Geod

from geoembed.errors import CoordinateError, OptionError
from geoembed.plot.artists import add_colour_bar, draw, mark, write
from geoembed.plot.axes import import_matplotlib, new_axes, world_axes
from geoembed.plot.components import principal_components
from geoembed.plot.rows import Rows, check_rows, find_grid, fitting_extent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["embedding_map", "similarity_map"]

Floats = npt.NDArray[np.float64]

# Neither black nor neon: outlines stay visible over the darkest colour, and every colour goes a
# little towards its own grey.
_DARKEST, _LIGHTEST, _GREY = 0.08, 0.94, 0.14


@dataclass(frozen=True)
class _Target:
    """What is compared with: a vector, the place it stands for, and how far its row is."""

    vector: Floats
    place: tuple[float, float] | None
    away_km: float


def embedding_map(
    lon: npt.ArrayLike,
    lat: npt.ArrayLike,
    embedding: npt.ArrayLike,
    *,
    ax: "Axes | None" = None,
    extent: Sequence[float] | None = None,
    kind: str = "auto",
    size: float | None = None,
    percentiles: tuple[float, float] = (2.0, 98.0),
    borders: bool = False,
    title: str | None = None,
) -> "Axes":
    """Show an embedding as colours: its first three principal components as red, green and blue.

    Places with similar vectors get similar colours, as far as three numbers can tell. The
    caption says how much of the variance they hold.

    Parameters
    ----------
    lon, lat : array_like of shape (n,)
        Degrees, WGS 84; longitude any turn, latitude in [-90, 90].
    embedding : array_like of shape (n, d)
        One vector a place, at least 3 rows and 3 columns. Rows with a missing or infinite value
        are left out, and the caption counts them.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure if not given.
    extent : sequence of 4 floats, optional
        West, south, east and north in degrees, as in `world_axes`; around the places if not
        given.
    kind : {"auto", "grid", "points"}
        ``"grid"`` fills the cells of a regular grid, such as `geoembed.data.land_grid` lays; if
        the places are on land, the picture is cut along the coast, where the nearest cell fills
        what is left free. ``"points"`` draws a dot a place. ``"auto"`` takes the grid if there
        is one.
    size : float, optional
        Area of a dot in points squared; from the number of places if not given.
    percentiles : (float, float)
        Scores of each component between these percentiles spread over the range of its colour;
        those beyond are clipped. The colours are softened a little afterwards.
    borders : bool, default False
        Draw land borders between countries.
    title : str, optional
        Stands above the map.

    Returns
    -------
    matplotlib.axes.Axes
        The map.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    OptionError
        If lengths differ, fewer than 3 finite rows or 3 columns are left, all rows are the same,
        or an option is not one of those offered.
    CoordinateError
        If a latitude is outside [-90, 90].

    Notes
    -----
    On a grid, rows count by the cosine of their latitude, so that the crowded rows near the poles
    decide neither components nor colours. The sign of a component is the one that makes its largest
    loading positive: equal input gives equal colours, while other places, or another model, may
    turn a colour round.

    Examples
    --------
    >>> import numpy as np
    >>> lon, lat = np.array([0.0, 90.0, 0.0, -90.0]), np.array([0.0, 0.0, 80.0, 0.0])
    >>> ax = embedding_map(lon, lat, np.eye(4), title="Four places")
    >>> ax.get_title(loc="left")
    'Four places'
    """
    low, high = _check_percentiles(percentiles)
    _check_size(size)
    rows = check_rows(lon, lat, embedding)
    if rows.embedding.shape[1] < 3:
        raise OptionError(
            f"embedding has {rows.embedding.shape[1]} columns: three principal components need "
            "at least 3."
        )
    regular = find_grid(rows.lon, rows.lat, kind) is not None
    weights = np.cos(np.radians(rows.lat)) + 1e-9 if regular else np.ones(len(rows.lat))
    scores, explained = principal_components(rows.embedding, weights)
    colours = _stretch(scores, weights, low, high)

    ax = world_axes(ax, extent=fitting_extent(rows, extent), borders=borders)
    draw(ax, rows, colours, kind=kind, size=size)
    shares = ", ".join(f"{share:.0%}" for share in explained)
    write(ax, rows, f"Principal components 1, 2, 3 as RGB: {shares} of the variance", title)
    return ax


def similarity_map(
    lon: npt.ArrayLike,
    lat: npt.ArrayLike,
    embedding: npt.ArrayLike,
    to: npt.ArrayLike,
    *,
    name: str | None = None,
    ax: "Axes | None" = None,
    extent: Sequence[float] | None = None,
    kind: str = "auto",
    size: float | None = None,
    cmap: str = "viridis",
    vmin: float | None = None,
    vmax: float | None = None,
    borders: bool = False,
    title: str | None = None,
) -> "Axes":
    """Show how similar each place is to one place, or to one vector, by cosine similarity.

    Parameters
    ----------
    lon, lat : array_like of shape (n,)
        Degrees, WGS 84; longitude any turn, latitude in [-90, 90].
    embedding : array_like of shape (n, d)
        One vector a place. Rows with a missing or infinite value are left out, rows of zeros
        too, and the caption counts them.
    to : (lon, lat) or array_like of shape (d,)
        Two numbers are a place in degrees: it is marked, the vector of the row nearest to it is
        compared, and the caption says how far that row is. Any other length is the vector itself.
    name : str, optional
        Written beside the mark, or into the caption if `to` is a vector.
    ax, extent, kind, size, borders, title
        As in `embedding_map`.
    cmap : str, default "viridis"
        Name of a matplotlib colour map.
    vmin, vmax : float, optional
        Similarities at the ends of the colour map; if not given, the 1st and the 99.9th
        percentile. Values beyond take the colour of the end.

    Returns
    -------
    matplotlib.axes.Axes
        The map; its figure has a colour bar as well.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    OptionError
        If lengths differ, fewer than 3 usable rows are left, `to` is neither a place nor a vector
        of d finite numbers, or an option is not one of those offered.
    CoordinateError
        If a latitude is outside [-90, 90].

    Examples
    --------
    >>> import numpy as np
    >>> lon, lat = np.array([0.0, 90.0, 0.0]), np.array([0.0, 0.0, 80.0])
    >>> ax = similarity_map(lon, lat, np.eye(3), to=(0.0, 0.0), name="Null Island")
    >>> ax.texts[0].get_text()
    'Null Island'
    """
    rows = _without_zeros(check_rows(lon, lat, embedding))
    _check_size(size)
    find_grid(rows.lon, rows.lat, kind)  # a kind that does not fit leaves no empty figure behind
    target = _compare_to(rows, to)
    values = _cosine(rows.embedding, target.vector)
    limits = _check_limits(values, vmin, vmax)
    style = {"cmap": _check_cmap(cmap), "vmin": limits[0], "vmax": limits[1]}

    extent = fitting_extent(rows, extent)
    # Room for the colour bar beside the map.
    ax = new_axes(extent, right=0.8) if ax is None else ax
    world_axes(ax, extent=extent, borders=borders)
    drawn = draw(ax, rows, values, kind=kind, size=size, **style)
    add_colour_bar(ax, drawn, values, limits)
    if target.place is not None:
        mark(ax, target.place, name)
    subject = name or ("the marked place" if target.place else "a vector")
    far = f" (nearest row {target.away_km:,.0f} km away)" if target.away_km >= 1 else ""
    write(ax, rows, f"Cosine similarity to {subject}{far}", title)
    return ax


def _check_percentiles(percentiles: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in percentiles)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not 0 <= low < high <= 100:
        raise OptionError(
            f"percentiles={percentiles!r} does not fit: give two numbers, 0 <= low < high <= 100."
        )
    return low, high


def _check_size(size: float | None) -> None:
    if size is not None and not size > 0:
        raise OptionError(f"size={size!r} is not a positive area, in points squared.")


def _stretch(scores: Floats, weights: Floats, low: float, high: float) -> Floats:
    """Spread each column between its weighted percentiles over the range of a colour."""
    colours = np.empty_like(scores)
    for column, values in enumerate(scores.T):
        order = np.argsort(values)
        reached = np.cumsum(weights[order])
        bottom, top = np.interp(np.array([low, high]) / 100 * reached[-1], reached, values[order])
        width = top - bottom if top > bottom else 1.0
        colours[:, column] = np.clip((values - bottom) / width, 0.0, 1.0)
    colours += _GREY * (colours.mean(axis=1, keepdims=True) - colours)
    return _DARKEST + (_LIGHTEST - _DARKEST) * colours


def _check_limits(values: Floats, vmin: float | None, vmax: float | None) -> tuple[float, float]:
    low, high = np.percentile(values, [1.0, 99.9])
    low, high = (float(low) if vmin is None else vmin, float(high) if vmax is None else vmax)
    if not low <= high:
        raise OptionError(f"vmin={low:.4g} lies above vmax={high:.4g}: nothing would be drawn.")
    return low, high


def _check_cmap(cmap: str) -> Any:
    colour_maps = import_matplotlib("pyplot").colormaps
    if cmap not in colour_maps:
        raise OptionError(
            f"cmap={cmap!r} is not the name of a colour map of matplotlib, such as 'viridis' or "
            "'magma'."
        )
    return colour_maps[cmap]


def _without_zeros(rows: Rows) -> Rows:
    some = np.any(rows.embedding != 0, axis=1)
    if some.all():
        return rows
    if np.count_nonzero(some) < 3:
        raise OptionError("A map of similarity needs at least 3 rows that are not all zeros.")
    left_out = rows.left_out + int(np.count_nonzero(~some))
    return Rows(rows.lon[some], rows.lat[some], rows.embedding[some], left_out)


def _compare_to(rows: Rows, to: npt.ArrayLike) -> _Target:
    width = rows.embedding.shape[1]
    try:
        numbers = np.asarray(to, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty((0, 0))
    finite = bool(np.isfinite(numbers).all())
    if finite and numbers.shape == (2,):
        return _nearest_row(rows, float(numbers[0]), float(numbers[1]))
    if finite and numbers.shape == (width,) and numbers.any():
        return _Target(numbers, None, 0.0)
    raise OptionError(
        f"to must be a place, (lon, lat), or a vector of {width} finite numbers that are not all "
        f"zero: got {to!r:.60}."
    )


def _nearest_row(rows: Rows, lon: float, lat: float) -> _Target:
    if abs(lat) > 90:
        raise CoordinateError(
            f"to=({lon!r}, {lat!r}): a latitude lies in [-90, 90]. The order is lon, lat."
        )
    nearest = int(np.argmax(_unit_vectors(rows.lon, rows.lat) @ _unit_vectors(lon, lat)))
    _, _, metres = Geod(ellps="WGS84").inv(lon, lat, rows.lon[nearest], rows.lat[nearest])
    vector = rows.embedding[nearest].astype(np.float64)
    return _Target(vector, (lon, lat), float(metres) / 1000)


def _unit_vectors(lon: Any, lat: Any) -> Floats:
    lam, phi = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def _cosine(embedding: npt.NDArray[Any], vector: Floats) -> Floats:
    vector = vector / np.linalg.norm(vector)
    cosine = np.empty(len(embedding))
    # In blocks, because products with a float64 vector copy the embedding into float64.
    for start in range(0, len(embedding), 16_384):
        block = embedding[start : start + 16_384].astype(np.float64)
        cosine[start : start + len(block)] = block @ vector / np.linalg.norm(block, axis=1)
    return np.clip(cosine, -1.0, 1.0)
