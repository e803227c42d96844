"""Small copies of photographs, with nothing in them but the picture."""

import base64
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from geoembed.errors import PictureError
from geoembed.optional import import_optional

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["shrink", "thumbnails"]

SIDE: Final = 480  # pixels
_QUALITY: Final = 80
# Behind what is transparent.
_GROUND: Final = (255, 255, 255)


def thumbnails(pictures: Mapping[str, Any]) -> dict[str, str]:
    """Turn pictures into data URIs of small JPEG files.

    Parameters
    ----------
    pictures : mapping of str to PIL.Image.Image
        Picture of each query.

    Returns
    -------
    dict of str to str
        Data URI of each.

    Raises
    ------
    PictureError
        If a picture cannot be decoded.

    Examples
    --------
    >>> from PIL import Image
    >>> found = thumbnails({"a.jpg": Image.new("RGB", (20, 10))})
    >>> found["a.jpg"][:23]
    'data:image/jpeg;base64,'
    """
    found = {}
    for name, picture in pictures.items():
        file = BytesIO()
        shrink(picture, SIDE, name).save(file, "JPEG", quality=_QUALITY, optimize=True)
        data = base64.b64encode(file.getvalue()).decode("ascii")
        found[name] = f"data:image/jpeg;base64,{data}"
    return found


def shrink(picture: Any, side: int, name: str = "picture") -> "Image":
    """Copy a picture, upright, RGB, at most so large, without EXIF, comments or profiles.

    Parameters
    ----------
    picture : PIL.Image.Image
        Any mode; it is not changed.
    side : int
        Width and height at most, pixels.
    name : str
        What to call it in errors.

    Returns
    -------
    PIL.Image.Image
        The pixels alone: where a photograph was taken is not written into a page by accident.

    Raises
    ------
    PictureError
        If it cannot be decoded.

    Examples
    --------
    >>> from PIL import Image
    >>> shrink(Image.new("L", (1000, 500)), 480).size
    (480, 240)
    """
    pil = import_optional("PIL.Image", extra="image", purpose="Pictures on a map")
    ops = import_optional("PIL.ImageOps", extra="image", purpose="Pictures on a map")
    try:
        small = _eight_bits(picture)
        small.thumbnail((side, side))
        small = ops.exif_transpose(small).convert("RGBA")
    except (OSError, ValueError, SyntaxError) as error:
        raise PictureError(f"pictures[{name!r:.80}] cannot be decoded: {error}.") from error
    bare: Image = pil.new("RGB", small.size, _GROUND)
    bare.paste(small, mask=small.getchannel("A"))
    return bare


def _eight_bits(picture: "Image") -> "Image":
    """Copy a picture; greys of 16 bits are scaled, where Pillow would cut them off at 255."""
    deep = picture.mode.startswith("I;16") or (
        picture.mode == "I" and picture.getextrema()[1] > 255  # type: ignore[operator]
    )
    return picture.point(lambda value: value * (1 / 256)).convert("L") if deep else picture.copy()
