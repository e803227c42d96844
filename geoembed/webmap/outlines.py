"""The world as the page carries it: land, borders and names, small enough to send by mail."""

from functools import cache
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from geoembed.data import load_cities, load_countries, load_land, load_outlines

__all__ = ["encode_line", "encode_polygon", "pack_world"]

Degrees = NDArray[np.float64]

# One step of the outlines' coordinates, degrees: about 1.1 km, below what 1:50 million tells.
STEP: Final = 0.01
# Degrees that simplified outlines may be off: for the whole globe, and for a map zoomed in.
_TOLERANCES: Final = {"coarse": 0.12, "fine": 0.01}
# Names beside dots; the page shows as many as there is room for. Capitals come on top of these.
_CITIES: Final = 4_000


@cache
def pack_world() -> dict[str, Any]:
    """Return land, borders, countries' and cities' names; made once a process, in about 0.6 s.

    Returns
    -------
    dict
        ``step``; ``coarse`` and ``fine``, each with ``land`` (polygons) and ``borders`` (lines),
        encoded; ``countries``: name, lon, lat and radius in degrees of the largest circle inside
        the largest part; ``cities``: name, lon, lat, most populous first.

    Examples
    --------
    >>> world = pack_world()
    >>> sorted(world)
    ['cities', 'coarse', 'countries', 'fine', 'step']
    """
    land = load_land().geometry.array
    outlines = load_outlines().set_index("kind").geometry
    world: dict[str, Any] = {"step": STEP}
    for level, tolerance in _TOLERANCES.items():
        polygons = [encode_polygon(part, STEP) for part in shapely.simplify(land, tolerance)]
        lines = shapely.get_parts(shapely.simplify(outlines["border"], tolerance))
        encoded = [encode_line(shapely.get_coordinates(line), STEP) for line in lines]
        world[level] = {"land": [p for p in polygons if p], "borders": [b for b in encoded if b]}
    world["countries"] = _country_names()
    world["cities"] = _city_names()
    return world


def encode_polygon(polygon: shapely.Polygon, step: float) -> list[str]:
    """Encode the rings of a polygon, turned as d3 has them: exteriors clockwise, holes not.

    Parameters
    ----------
    polygon : shapely.Polygon
        Longitude and latitude, degrees.
    step : float
        What coordinates are rounded to, degrees.

    Returns
    -------
    list of str
        The exterior first; rings without area after rounding are left out, and everything if it
        is the exterior.

    Examples
    --------
    >>> encode_polygon(shapely.box(0, 0, 1, 1), 1.0)
    ['???AA??@']
    >>> encode_polygon(shapely.box(0, 0, 0.1, 0.1), 1.0)
    []
    """
    rings = [polygon.exterior, *polygon.interiors]
    encoded = [_encode_ring(shapely.get_coordinates(r), step, n > 0) for n, r in enumerate(rings)]
    return [ring for ring in encoded if ring] if encoded[0] else []


def encode_line(lonlat: Degrees, step: float) -> str:
    """Encode a line as differences of rounded coordinates, five bits a letter.

    The letters are those of the encoded polyline format, from ``?`` to ``~``; longitude comes
    first.

    Parameters
    ----------
    lonlat : array of shape (n, 2)
        Degrees.
    step : float
        What coordinates are rounded to, degrees.

    Returns
    -------
    str
        Empty if fewer than two different places are left.

    Examples
    --------
    >>> encode_line(np.array([[0.0, 0.0], [0.01, -0.02]]), 0.01)
    '??AB'
    """
    places = _on_steps(lonlat, step)
    return _letters(places) if len(places) > 1 else ""


def _encode_ring(lonlat: Degrees, step: float, anticlockwise: bool) -> str:
    """Encode a ring without its last place, which is its first."""
    places = _on_steps(lonlat, step)[:-1]
    if len(places) < 3:
        return ""
    lon, lat = (places - places[0]).T
    area = int(np.sum(lon * np.roll(lat, -1) - np.roll(lon, -1) * lat))
    if area == 0:
        return ""
    return _letters(places if (area > 0) == anticlockwise else places[::-1])


def _on_steps(lonlat: Degrees, step: float) -> NDArray[np.int64]:
    places = np.round(lonlat / step).astype(np.int64)
    moved = np.any(np.diff(places, axis=0, prepend=places[:1] - 1) != 0, axis=1)
    kept: NDArray[np.int64] = places[moved]
    return kept


def _letters(places: NDArray[np.int64]) -> str:
    """Differences as unsigned numbers (the sign in the lowest bit), cut into groups of 5 bits."""
    moves = np.diff(places, axis=0, prepend=np.zeros((1, 2), np.int64)).ravel()
    numbers = np.where(moves < 0, ~(moves << 1), moves << 1)[:, None]
    shifts = 5 * np.arange(7)
    groups = numbers >> shifts
    more = groups >> 5 > 0
    letters = (groups & 31) + np.where(more, 32, 0) + 63
    used = (groups > 0) | (shifts == 0)
    text: str = letters[used].astype(np.uint8).tobytes().decode("ascii")
    return text


def _country_names() -> list[list[Any]]:
    countries = load_countries()
    largest = [max(shape.geoms, key=lambda part: part.area) for shape in countries.geometry]
    # A line from the middle of the circle to where it touches the outline.
    radii = shapely.maximum_inscribed_circle(np.array(largest), tolerance=0.1)
    middles = shapely.get_coordinates(shapely.get_point(radii, 0))
    rows = zip(countries["name"], middles, shapely.length(radii), strict=True)
    named = [[name, *middle.round(2).tolist(), round(float(r), 2)] for name, middle, r in rows]
    return sorted(named, key=lambda row: -row[3])


def _city_names() -> list[list[Any]]:
    cities = load_cities()
    shown = cities[(np.arange(len(cities)) < _CITIES) | cities["capital"]]
    places = shown[["lon", "lat"]].to_numpy().round(2).tolist()
    return [[name, *place] for name, place in zip(shown["name"], places, strict=True)]
