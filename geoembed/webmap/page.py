"""Put the page together: template, style, script and data in one file that loads nothing."""

import base64
import hashlib
import html
import json
import os
import secrets
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import geopandas as gpd

from geoembed import __version__
from geoembed.errors import OptionError
from geoembed.found import check_found, check_pictures, check_regions
from geoembed.webmap.outlines import pack_world
from geoembed.webmap.reading import STEP, pack_queries, pack_regions
from geoembed.webmap.thumbnails import thumbnails

__all__ = ["write_map"]

_TITLE: Final = "Places that photographs and texts point to"
_SUFFIXES: Final = (".html", ".htm")
_SCRIPTS: Final = ("d3-geo.min.js", "world.js", "drawing.js", "panels.js", "moving.js", "app.js")


def write_map(
    path: str | os.PathLike[str],
    found: gpd.GeoDataFrame,
    *,
    regions: gpd.GeoDataFrame | None = None,
    pictures: Mapping[str, Any] | None = None,
    title: str | None = None,
) -> Path:
    """Write the answers of a `geoembed.GeoLocalizer` as one HTML page with a map.

    The page is a single file that works offline: the world's outlines, names, candidates, regions
    and small copies of the photographs are in it, and its content security policy forbids it to
    load or send anything.

    Parameters
    ----------
    path : str or path
        Where to write, ending in ``.html``; an existing file is replaced.
    found : GeoDataFrame
        As `geoembed.GeoLocalizer.localize` returns it: the columns ``query``, ``rank`` (missing
        where there is no place), ``score``, ``lon`` and ``lat`` (degrees, WGS 84), and if there
        are any ``place``, ``place_km``, ``radius_50_km``, ``radius_90_km``, ``calibrated``,
        ``no_signal`` and ``error``.
    regions : GeoDataFrame, optional
        Credible regions, as `geoembed.geolocation.credible_regions` returns them: the columns
        ``query`` and ``share`` (in (0, 1), such as 0.5 and 0.9) and polygons in any CRS, cut at
        the antimeridian.
    pictures : mapping of str to PIL.Image.Image, optional
        Photograph of each query by its name; None where there is none. Copies of at most 480
        pixels are put in, without EXIF, so without the place that a camera wrote.
    title : str, optional
        Heading of the page.

    Returns
    -------
    Path
        The file: about 420 kB, and some 30 to 50 kB a photograph.

    Raises
    ------
    OptionError
        If `path` does not end in ``.html`` or its folder does not exist, or `regions` or
        `pictures` have a query that `found` has not.
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
    >>> write_map("desert.html", found, title="Where could it be?").name
    'desert.html'
    """
    target = Path(path)
    if target.suffix.lower() not in _SUFFIXES:
        raise OptionError(f"path={str(target)!r}: the page is an HTML file, so end it in .html.")
    if not target.parent.is_dir():
        raise OptionError(f"path={str(target)!r}: there is no folder {str(target.parent)!r}.")
    table = check_found(found)
    known = set(table["query"])
    queries = pack_queries(table, thumbnails(check_pictures(pictures, known)))
    shapes = pack_regions(check_regions(regions, known))
    for query in queries:
        query["regions"] = shapes.get(query["name"], [])
    page = _fill(title or _TITLE, {"queries": queries, "step": STEP, "world": pack_world()})
    _write(target, page)
    return target


def _fill(title: str, data: dict[str, Any]) -> str:
    """Fill the template; only the two pieces hashed here may run or style anything."""
    style, script = _static("page.css"), _script()
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "title": html.escape(title),
        "version": html.escape(__version__),
        "style": style,
        "script": script,
        "data": _json(data),
    }
    # In one pass over the template, so that a title with a placeholder in it stays a title.
    pieces = _static("page.html").split("%%")
    return "".join(parts[piece] if odd % 2 else piece for odd, piece in enumerate(pieces))


@cache
def _script() -> str:
    body = "\n".join(_static(name) for name in _SCRIPTS)
    return f'(() => {{ "use strict";\n{body}\n}})();'


@cache
def _static(name: str) -> str:
    return files("geoembed.webmap").joinpath("static", name).read_text(encoding="utf-8").strip()


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _json(data: dict[str, Any]) -> str:
    """Write JSON in which nothing can end the element it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _write(target: Path, page: str) -> None:
    """Under another name first, so that there is the whole page or the one before."""
    draft = target.with_name(f"{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        # A file name that is no valid text keeps a question mark there.
        draft.write_bytes(page.encode("utf-8", "replace"))
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
