"""The position that a camera wrote into a picture: read on request, never used to predict one."""

import math
import os
from typing import Any, Final

from geoembed.errors import CoordinateError, PictureError
from geoembed.images.arrays import is_tensor
from geoembed.images.decoding import MAX_PIXELS
from geoembed.images.listing import is_file_object, is_image
from geoembed.images.opening import describe_failure, open_header, read_bytes

__all__ = ["read_gps"]

# Tags of EXIF 2.32, section 4.6.6.
_GPS: Final = 0x8825
_AXES: Final = (
    # name, tag of the letter, tag of the value, letters and their signs, limit
    ("longitude", 3, 4, {"E": 1, "EAST": 1, "W": -1, "WEST": -1}, 180.0),
    ("latitude", 1, 2, {"N": 1, "NORTH": 1, "S": -1, "SOUTH": -1}, 90.0),
)
_DATUM: Final = 18
_PARTS: Final = ("degrees", "minutes", "seconds")


def read_gps(source: Any) -> tuple[float, float] | None:
    """Read the position from a picture's EXIF.

    geoembed never uses it to predict: a benchmark whose pictures carry it, or a photograph that
    is to be published, can be checked with this.

    Parameters
    ----------
    source : path, bytes, file object or PIL image
        One picture; its pixels are not decoded. Arrays and tensors have no EXIF.

    Returns
    -------
    (float, float) or None
        Longitude and latitude in degrees, WGS 84; None where no position was written.

    Raises
    ------
    CoordinateError
        If one was written that is none: unreadable numbers (a denominator of 0), no letter for
        the hemisphere, minutes or seconds beyond 60, out of range, in the datum TOKYO, or exactly
        0, 0, which cameras write before they know where they are.
    PictureError
        If the picture cannot be read.
    MissingExtraError
        If it is a HEIC picture and ``pillow-heif`` is not installed.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> exif = Image.Exif()
    >>> exif[0x8825] = {1: "S", 2: (33.0, 51.0, 24.0), 3: "E", 4: (151.0, 12.0, 0.0)}
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif)
    >>> lon, lat = read_gps(file)
    >>> round(lon, 4), round(lat, 4)
    (151.2, -33.8567)
    """
    if is_file_object(source):
        source = read_bytes(source, max_pixels=MAX_PIXELS)
    elif isinstance(source, bytearray | memoryview):
        source = bytes(source)
    if is_image(source):
        tags = _gps_tags(source)
    elif isinstance(source, str | os.PathLike | bytes):
        with open_header(source) as image:
            tags = _gps_tags(image)
    elif is_tensor(source) or hasattr(source, "__array_interface__"):
        return None
    else:
        raise PictureError(
            f"No position can be read from an object of type {type(source).__name__}: give a "
            "path, bytes, a file object or a PIL image."
        )
    return _position(tags)


def _gps_tags(image: Any) -> dict[int, Any]:
    try:
        exif = image.getexif()
        # Written in memory it is the tags themselves, in a file the place where they are.
        written = exif.get(_GPS)
        return dict(written if isinstance(written, dict) else exif.get_ifd(_GPS))
    except Exception as error:
        # Damaged metadata raises whatever the parser trips over.
        raise PictureError(describe_failure(error, "its EXIF")) from error


def _position(tags: dict[int, Any]) -> tuple[float, float] | None:
    if not any(value in tags for _, _, value, _, _ in _AXES):
        return None
    datum = tags.get(_DATUM, "")
    if isinstance(datum, str) and datum.strip(" \0").upper().startswith("TOKYO"):
        raise CoordinateError(
            "The EXIF position is in the datum TOKYO, some 450 m from WGS 84: transform it from "
            "EPSG:4301 to EPSG:4326."
        )
    lon, lat = (_read_axis(tags, *axis) for axis in _AXES)
    if lon == 0 and lat == 0:
        raise CoordinateError(
            "The EXIF position is 0, 0: cameras write it before they know where they are."
        )
    return lon, lat


def _read_axis(
    tags: dict[int, Any], name: str, letter: int, value: int, signs: dict[str, int], limit: float
) -> float:
    what = f"The EXIF {name}"
    if value not in tags:
        raise CoordinateError(f"{what} is missing, and the other coordinate is there.")
    parts = _read_parts(tags[value], what)
    written = tags.get(letter)
    if isinstance(written, bytes):
        written = written.decode("latin-1")
    key = str(written or "").strip(" \0").upper()
    if key not in signs:
        shown = "none" if not key else repr(key)
        raise CoordinateError(
            f"{what} has no hemisphere: {' or '.join(list(signs)[::2])} was looked for, "
            f"{shown} was found."
        )
    degrees = math.fsum(part / 60.0**power for power, part in enumerate(parts))
    if degrees > limit:
        raise CoordinateError(
            f"{what} is {degrees:.5g} degrees, beyond {limit:g}: it was written as "
            f"{', '.join(f'{part:g}' for part in parts)}."
        )
    return signs[key] * degrees


def _read_parts(value: Any, what: str) -> list[float]:
    """Degrees, or degrees and minutes, or these and seconds, as numbers."""
    values = list(value) if isinstance(value, tuple | list) else [value]
    try:
        # A denominator of 0 comes as NaN.
        parts = [float(part) for part in values]
    except (TypeError, ValueError, ZeroDivisionError):
        parts = []
    if not 1 <= len(parts) <= 3 or not all(math.isfinite(part) for part in parts):
        raise CoordinateError(f"{what} cannot be read: it was written as {value!r:.80}.")
    for part, name in zip(parts, _PARTS, strict=False):
        bound = "less than 0" if part < 0 else "more than 60"
        if part < 0 or (name != "degrees" and part > 60):
            raise CoordinateError(f"{what} cannot be read: its {name} are {part:g}, {bound}.")
    return parts
