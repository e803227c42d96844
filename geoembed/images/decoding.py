"""One encoded picture becomes an upright RGB picture, or an error that says what is wrong."""

import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from geoembed.errors import GeoembedError, PictureError
from geoembed.images.arrays import check_pixel_count, to_bytes
from geoembed.images.opening import describe_failure, open_header
from geoembed.optional import import_optional

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_PIXELS", "decode", "finish", "upright_rgb"]

# 16320 x 12240, the largest sensor of a phone, just fits. Decoded it takes 0.8 GB for a moment.
MAX_PIXELS: Final = 200_000_000

# Their decoders are done with the file when the pixels are there.
_COMPLETE: Final = {"JPEG", "PNG"}

# Of EXIF: 0th row and column of the picture as stored, seen from the upright one.
_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def _pillow() -> Any:
    return import_optional("PIL.Image", extra="image", purpose="Reading pictures")


def decode(
    source: "str | os.PathLike[str] | bytes", *, max_pixels: int, copy: bool = True
) -> "Image.Image":
    """Decode a picture: upright, RGB, its first frame.

    Parameters
    ----------
    source : path or bytes
        A file, or its content.
    max_pixels : int
        Larger ones are refused before they are decoded.
    copy : bool, default True
        As for `upright_rgb`.

    Returns
    -------
    PIL.Image.Image
        Of mode RGB, without metadata.

    Raises
    ------
    PictureError
        If it cannot be read; the message says why.
    MissingExtraError
        If it is a HEIC picture and ``pillow-heif`` is not installed.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (4, 3), 7).save(file, "PNG")
    >>> decode(file.getvalue(), max_pixels=100).getpixel((0, 0))
    (7, 7, 7)
    """
    with open_header(source) as image:
        # Objects of the other decoders may still want their file.
        return finish(image, max_pixels=max_pixels, copy=copy or image.format not in _COMPLETE)


def finish(image: "Image.Image", *, max_pixels: int, copy: bool = True) -> "Image.Image":
    """Decode the pixels of a picture that was opened, and make it upright and RGB.

    Parameters
    ----------
    image : PIL.Image.Image
        Decoded or not.
    max_pixels : int
        Larger ones are refused before they are decoded.
    copy : bool, default True
        As for `upright_rgb`.

    Returns
    -------
    PIL.Image.Image
        Of mode RGB, without metadata.

    Raises
    ------
    PictureError
        If it is too large, cannot be decoded, or cannot be converted.

    Examples
    --------
    >>> from PIL import Image
    >>> finish(Image.new("1", (4, 3)), max_pixels=100).mode
    'RGB'
    """
    check_pixel_count(image.width, image.height, max_pixels)
    try:
        image.load()
        return upright_rgb(image, copy=copy)
    except GeoembedError:
        raise
    except Exception as error:
        # As with the header: no error of one picture may end the others.
        raise PictureError(describe_failure(error, "its pixels")) from error


def upright_rgb(image: "Image.Image", *, copy: bool = True) -> "Image.Image":
    """Turn a picture as its EXIF says and convert it to RGB.

    What is transparent becomes white, as it is shown on paper. Colour profiles are not applied:
    the towers have learned from pictures read without them.

    Parameters
    ----------
    image : PIL.Image.Image
        Of any mode, loaded; it is left as it is.
    copy : bool, default True
        Whether a picture that is upright and RGB is copied, to be free of metadata and of its
        file. It takes half as long as decoding.

    Returns
    -------
    PIL.Image.Image
        Of mode RGB, without metadata, so that nothing turns it once more.

    Raises
    ------
    PictureError
        If its levels have no known range: 32-bit integers, or floats outside [0, 1].

    Examples
    --------
    >>> from PIL import Image
    >>> upright_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    turn = _TURNS.get(_orientation(image))
    upright = image.transpose(getattr(_pillow().Transpose, turn)) if turn else image
    rgb = _to_rgb(upright)
    if rgb is image and not copy:
        return image
    # A decoder's own object would keep its file.
    rgb = image.copy() if rgb is image else rgb
    rgb.info = {}
    return rgb


def _orientation(image: "Image.Image") -> Any:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:
        # Metadata too damaged to be read says nothing about how the picture is turned.
        return 1


def _to_rgb(image: "Image.Image") -> "Image.Image":
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if deep or image.mode == "F":
        return _from_deep(image)
    if image.mode == "I":
        raise PictureError(
            "Its levels are 32-bit integers, whose range is not known: convert it to 8 or 16 bit."
        )
    if image.has_transparency_data:
        return _on_white(image)
    if image.mode == "RGB":
        return image
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise PictureError(f"Its colours are {image.mode}: convert it to RGB.") from error


def _from_deep(image: "Image.Image") -> "Image.Image":
    values = np.asarray(image)
    if image.mode != "F":
        # Before Pillow 11 grey of 16 bit comes as 32 bit.
        values = values.astype(np.uint16)
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            values = np.where(values == clear, np.uint16(65535), values)
    grey: Image.Image = _pillow().fromarray(to_bytes(values))
    return grey.convert("RGB")


def _on_white(image: "Image.Image") -> "Image.Image":
    # Pillow converts premultiplied colours in one step only.
    image = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, "RGBA")).convert("RGBA")
    if image.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB")
    module = _pillow()
    white = module.new("RGBA", image.size, "white")
    composed: Image.Image = module.alpha_composite(white, image).convert("RGB")
    return composed
