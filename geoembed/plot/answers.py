"""The answers of a localizer on a map: candidates with their ranks, regions, radii, pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from geoembed.found import check_found, check_pictures, check_regions
from geoembed.geodesy import destination
from geoembed.plot.artists import add_colour_bar
from geoembed.plot.axes import INK, import_matplotlib, land_paths, new_axes, world_axes
from geoembed.plot.cards import Card, add_cards, cards_height, read_pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["answers_map"]

Floats = npt.NDArray[np.float64]

# Query, share, polygons.
_Shape = tuple[str, float, Any]

# From the palette of Okabe and Ito, dark enough for white numbers; letters tell queries apart too.
_COLOURS: Final = (
    "#b5480d",
    "#0072b2",
    "#00795a",
    "#a3457c",
    "#6a51a3",
    "#8a6d00",
    "#3b6f8f",
    "#5d4037",
)
_RADII: Final = {"radius_50_km": "-", "radius_90_km": (0, (5, 3))}
_FAINT: Final = "#9aa5ab"
# A map of less is more outline than map.
_LEAST_WIDTH, _LEAST_HEIGHT = 16.0, 9.0  # degrees
_WORLD: Final = (-180.0, -60.0, 180.0, 85.0)


@dataclass(frozen=True)
class _Query:
    """One query: its candidates in order of rank, or its error."""

    name: str
    table: pd.DataFrame
    error: str

    @property
    def lonlat(self) -> Floats:
        return np.asarray(self.table[["lon", "lat"]], dtype=np.float64)


def answers_map(
    found: gpd.GeoDataFrame,
    *,
    regions: gpd.GeoDataFrame | None = None,
    pictures: Mapping[str, Any] | None = None,
    ax: "Axes | None" = None,
    extent: Sequence[float] | None = None,
    title: str | None = None,
    score: str = "cosine similarity, no probability",
) -> "Axes":
    """Show where photographs and texts could be: candidates, credible regions, radii.

    Up to eight queries have their candidates numbered by rank, and a card each under the map.
    Of more, the best place of each is a dot in the colour of its score, the others are faint.

    Parameters
    ----------
    found : GeoDataFrame
        As `geoembed.GeoLocalizer.localize` returns it: the columns ``query``, ``rank`` (missing
        where there is no place), ``score``, ``lon`` and ``lat`` (degrees, WGS 84), and if there
        are any ``place``, ``radius_50_km``, ``radius_90_km`` and ``error``.
    regions : GeoDataFrame, optional
        Credible regions, as `geoembed.geolocation.credible_regions` returns them: the columns
        ``query`` and ``share`` (in (0, 1), such as 0.5 and 0.9) and polygons in any CRS, cut at
        the antimeridian.
    pictures : mapping of str to PIL.Image.Image, optional
        Photograph of each query by its name, upright, for the cards; None where there is none.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure with room for the cards if not given.
    extent : sequence of 4 floats, optional
        West, south, east and north in degrees, as in `world_axes`; around what is drawn if not
        given.
    title : str, optional
        Stands above the map.
    score : str
        What a score is, for the line under the map; the default is what `GeoLocalizer` gives.

    Returns
    -------
    matplotlib.axes.Axes
        The map.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    OptionError
        If `regions` or `pictures` have a query that `found` has not, or `extent` is none.
    TableError
        If `found` or `regions` lack a column, `found` has no row, or a candidate no finite place
        and score.
    CoordinateError
        If a latitude is outside [-90, 90], or `regions` has no CRS.
    PictureError
        If a picture cannot be decoded.

    Examples
    --------
    >>> row = {"query": "a desert road", "rank": 1, "score": 0.25, "lon": 15.3, "lat": -24.7}
    >>> found = gpd.GeoDataFrame([row], geometry=gpd.points_from_xy([15.3], [-24.7]), crs=4326)
    >>> ax = answers_map(found, title="Where could it be?")
    >>> ax.get_title(loc="left")
    'Where could it be?'
    """
    queries = _split(check_found(found))
    names = [query.name for query in queries]
    images = read_pictures(check_pictures(pictures, names))
    shapes = _shapes(check_regions(regions, names))
    extent = _fitting(queries, shapes) if extent is None else extent
    few = len(queries) <= len(_COLOURS)
    own = ax is None
    if ax is None:
        ax = new_axes(extent, right=0.0 if few else 0.8)
        ax.set_anchor("N")  # what is left free is left to the cards
    world_axes(ax, extent=extent, borders=True)
    colours = dict(zip(names, _COLOURS, strict=False)) if few else {}
    _draw_regions(ax, shapes, colours)
    if few:
        _draw_ranks(ax, queries, colours)
        figure: Any = ax.figure
        cards = _cards(queries, colours, images)
        if own:
            width, height = figure.get_size_inches()
            figure.set_size_inches(width, height + cards_height(cards))
        add_cards(ax, cards)
    else:
        _draw_best(ax, queries)
    _write(ax, queries, shapes, few, title, score)
    return ax


# -- reading --------------------------------------------------------------------------------------


def _split(table: pd.DataFrame) -> list[_Query]:
    """Split the table into queries, in order of first appearance."""
    queries = []
    for name, rows in table.groupby("query", sort=False):
        candidates = rows[rows["rank"].notna()].sort_values("rank", kind="stable")
        error = "" if len(candidates) else rows["error"].iloc[0]
        queries.append(_Query(str(name), candidates, error))
    return queries


def _shapes(regions: gpd.GeoDataFrame) -> list[_Shape]:
    rows = zip(regions["query"], regions["share"], regions.geometry, strict=True)
    return [(name, float(share), shape) for name, share, shape in rows]


# -- where ----------------------------------------------------------------------------------------


def _fitting(
    queries: Sequence[_Query], shapes: Sequence[_Shape]
) -> tuple[float, float, float, float]:
    """Find the smallest window around everything, over the antimeridian if that is shorter."""
    parts = [query.lonlat for query in queries if len(query.table)]
    parts += [ring for query in queries for ring, _ in _circles(query)]
    parts += [shapely.get_coordinates(shape) for _, _, shape in shapes]
    if not parts:
        return _WORLD
    lon, lat = np.concatenate(parts).T
    around = np.sort(np.unique(lon % 360))
    gaps = np.diff(around, append=around[0] + 360)
    widest = int(np.argmax(gaps))
    width = 360 - float(gaps[widest])
    if width > 200:
        south, north = float(lat.min()) - 2, float(lat.max()) + 2
        return -180.0, max(-90.0, min(_WORLD[1], south)), 180.0, min(90.0, max(_WORLD[3], north))
    west = float(around[(widest + 1) % len(around)])
    west = west - 360 if west >= 180 else west
    south, north = float(lat.min()), float(lat.max())
    margin = max(0.06 * max(width, north - south), 0.5)
    wide = min(360.0, max(width + 2 * margin, _LEAST_WIDTH, 1.7 * (north - south)))
    tall = max(north - south + 2 * margin, _LEAST_HEIGHT, wide / 2.6)
    middle = float(np.clip((south + north) / 2, -90 + tall / 2, 90 - tall / 2))
    west -= (wide - width) / 2
    west = west + 360 if west < -180 else west
    return west, max(-90.0, middle - tall / 2), west + wide, min(90.0, middle + tall / 2)


def _circles(query: _Query) -> list[tuple[Floats, Any]]:
    """Geodesic circles around the best place, shape (181, 2), with their line styles."""
    circles = []
    for column, style in _RADII.items():
        if len(query.table):
            km = float(query.table[column].iloc[0])
            if np.isfinite(km) and km > 0:
                lon, lat = query.lonlat[0]
                circle = destination(lon, lat, np.arange(0.0, 361.0, 2.0), min(km, 20_000.0))
                circles.append((np.stack(circle, axis=1), style))
    return circles


def _in_view(ax: "Axes", lon: Any) -> Any:
    """Longitudes as the axes count them."""
    west = ax.get_xlim()[0]
    return west + (np.asarray(lon) - west) % 360


# -- drawing --------------------------------------------------------------------------------------


def _draw_regions(ax: "Axes", shapes: Sequence[_Shape], colours: Mapping[str, str]) -> None:
    patches, paths = import_matplotlib("patches"), import_matplotlib("path")
    lines = import_matplotlib("collections").LineCollection
    thick = 1.0 if len(colours) in (1, 2) else 0.55
    smallest = {name: share for name, share, _ in shapes}  # the last of each
    for name, share, shape in shapes:
        colour, inner = colours.get(name, INK), share == smallest[name]
        rings = [
            shapely.get_coordinates(ring)
            for ring in shapely.get_rings(shapely.normalize(shapely.get_parts(shape)))
        ]
        if not rings:
            continue
        path = paths.Path.make_compound_path(*(paths.Path(ring, closed=True) for ring in rings))
        edges = [part for ring in rings for part in _without_cuts(ring)]
        style = {"linewidths": 0.9, "linestyles": "-" if inner else [(0, (4, 3))], "zorder": 3.6}
        for _, turn in land_paths(ax):
            fill = {"facecolor": colour, "alpha": thick * (0.3 if inner else 0.14), "linewidth": 0}
            ax.add_artist(
                patches.PathPatch(path, transform=turn, zorder=3.5, label="region", **fill)
            )
            drawn = lines(edges, colors=colour, transform=turn, label="region edge", **style)
            ax.add_collection(drawn, autolim=False)


def _without_cuts(ring: Floats) -> list[Floats]:
    """Cut a ring into lines that leave out what runs along the antimeridian."""
    cut = (np.abs(ring[1:, 0]) == 180) & (ring[1:, 0] == ring[:-1, 0])
    return [part for part in np.split(ring, np.flatnonzero(cut) + 1) if len(part) > 1]


def _draw_ranks(ax: "Axes", queries: Sequence[_Query], colours: Mapping[str, str]) -> None:
    """Draw candidates as numbered dots, the best of all queries on top, and their circles."""
    for query in queries:
        for ring, style in _circles(query):
            _draw_circle(ax, ring, style, colours[query.name])
    several = len(queries) > 1
    dots = [
        (int(rank), _mark(number, several), colours[query.name], *place)
        for number, query in enumerate(queries)
        for rank, place in zip(query.table["rank"], query.lonlat, strict=True)
    ]
    effects = import_matplotlib("patheffects")
    outline = [effects.withStroke(linewidth=2.2, foreground="white"), effects.Normal()]
    for at, (rank, letter, colour, lon, lat) in enumerate(sorted(dots, reverse=True)):
        zorder = 6 + at / (len(dots) + 1)
        size = (12.5 if rank == 1 else 10.5) + (3.0 if several else 0.0)
        x = float(_in_view(ax, lon))
        style = {"mfc": colour, "mec": "white", "mew": 1.3, "alpha": 1.0 if rank == 1 else 0.88}
        ax.plot(x, lat, "o", ms=size, zorder=zorder, label=f"{letter}{rank}", **style)
        text: dict[str, Any] = {"ha": "center", "va": "center", "color": "white", "weight": "bold"}
        ax.text(x, lat, f"{letter}{rank}", fontsize=7, zorder=zorder, clip_on=True, **text)
    if not several and len(queries[0].table):
        name = queries[0].table["place"].iloc[0]
        if isinstance(name, str):
            at_best = (float(_in_view(ax, queries[0].lonlat[0, 0])), queries[0].lonlat[0, 1])
            ax.annotate(
                name, at_best, xytext=(10, 7), textcoords="offset points", fontsize=10, zorder=8,
                fontweight="bold", color=INK, path_effects=outline, parse_math=False,
            )  # fmt: skip


def _draw_circle(ax: "Axes", ring: Floats, style: Any, colour: str) -> None:
    lon = _in_view(ax, ring[:, 0])
    jumps = np.flatnonzero(np.abs(np.diff(lon)) > 180) + 1
    parts = [
        np.stack(part)
        for part in zip(np.split(lon, jumps), np.split(ring[:, 1], jumps), strict=True)
    ]
    for part in parts:
        ax.plot(*part, color=colour, lw=1.3, ls=style, zorder=5, label="radius")


def _draw_best(ax: "Axes", queries: Sequence[_Query]) -> None:
    """Draw the best place of each query in the colour of its score, the others faintly."""
    placed = [query for query in queries if len(query.table)]
    if not placed:
        return
    others = np.concatenate([query.lonlat[1:] for query in placed])
    ax.plot(
        _in_view(ax, others[:, 0]), others[:, 1], "o", ms=2.5, mfc=_FAINT, mew=0, zorder=5,
        label="others",
    )  # fmt: skip
    best = np.array([query.lonlat[0] for query in placed])
    scores = np.array([float(query.table["score"].iloc[0]) for query in placed])
    order = np.argsort(scores, kind="stable")
    style: dict[str, Any] = {
        "cmap": "plasma_r",
        "edgecolors": "white",
        "linewidths": 0.7,
        "zorder": 6,
    }
    size = float(np.clip(6000 / len(placed), 14, 46))
    dots = ax.scatter(
        _in_view(ax, best[order, 0]), best[order, 1], c=scores[order], s=size, label="best", **style
    )
    add_colour_bar(ax, dots, scores, (scores.min(), scores.max()), label="score of the best place")


def _mark(number: int, several: bool) -> str:
    return chr(ord("A") + number) if several else ""


def _cards(
    queries: Sequence[_Query],
    colours: Mapping[str, str],
    images: Mapping[str, npt.NDArray[np.uint8]],
) -> list[Card]:
    cards = []
    for number, query in enumerate(queries):
        table = query.table
        places = [
            (int(rank), name if isinstance(name, str) else f"{lon:.2f}, {lat:.2f}", float(score))
            for rank, name, score, (lon, lat) in zip(
                table["rank"], table["place"], table["score"], query.lonlat, strict=True
            )
        ]
        mark = _mark(number, len(queries) > 1)
        picture = images.get(query.name)
        cards.append(Card(query.name, colours[query.name], mark, places, query.error, picture))
    return cards


def _write(
    ax: "Axes",
    queries: Sequence[_Query],
    shapes: Sequence[_Shape],
    few: bool,
    title: str | None,
    score: str,
) -> None:
    parts = ["Places by rank" if few else f"Best places of {len(queries):,} queries"]
    failed = sum(not len(query.table) for query in queries)
    if failed and not few:
        parts.append(f"{failed:,} without a place")
    shares = sorted({share for _, share, _ in shapes})
    if shares:
        parts.append(f"shaded: {' and '.join(f'{s:.0%}' for s in shares)} of the density")
    if few and any(_circles(query) for query in queries):
        parts.append("circles: radius of 50% and 90% around place 1")
    parts.append(f"score: {score}")
    ax.set_xlabel("; ".join(parts), fontsize=8, color=INK, loc="left")
    if title:
        ax.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, parse_math=False)
