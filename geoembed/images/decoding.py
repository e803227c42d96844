"""One encoded picture becomes an upright RGB picture, or an error that says what is wrong."""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from geoembed.errors import GeoembedError, PictureError
from geoembed.images.arrays import check_pixel_count, to_bytes
from geoembed.images.kinds import HEAD_BYTES, picture_format
from geoembed.optional import import_optional

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "MAX_PIXELS",
    "decode",
    "describe_failure",
    "finish",
    "open_header",
    "read_bytes",
    "upright_rgb",
]

# 16320 x 12240, the largest sensor of a phone, just fits. Decoded it takes 0.8 GB for a moment.
MAX_PIXELS: Final = 200_000_000

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
_NEW_SUBFILE_TYPE: Final = 254
_REDUCED_RESOLUTION: Final = 1
# Uncompressed, 16 bit, four channels, and what else is in a file.
_BYTES_PER_PIXEL: Final = 8
_OTHER_BYTES: Final = 64 * 2**20

_loading = threading.Lock()


def _pillow() -> Any:
    return import_optional("PIL.Image", extra="image", purpose="Reading pictures")


def read_bytes(file: IO[bytes], *, max_pixels: int) -> bytes:
    """Read a file object from its start, if it can be rewound.

    Parameters
    ----------
    file : binary file object
        It stays open.
    max_pixels : int
        Sets how much is read at most: no picture of so many pixels is longer.

    Returns
    -------
    bytes
        All of it.

    Raises
    ------
    PictureError
        If it was opened as text, cannot be read, or does not end.

    Examples
    --------
    >>> import io
    >>> len(read_bytes(io.BytesIO(b"abc"), max_pixels=100))
    3
    """
    most = max_pixels * _BYTES_PER_PIXEL + _OTHER_BYTES
    try:
        if getattr(file, "seekable", lambda: False)():
            file.seek(0)
        data = file.read(most + 1)
    except Exception as error:
        # File objects are of any kind, archives and sockets among them.
        raise PictureError(f"The file object cannot be read: {error}.") from error
    if not isinstance(data, bytes):
        raise PictureError("The file object gives text: open the picture with mode 'rb'.")
    if len(data) > most:
        raise PictureError(
            f"The file object gives more than {most:,} bytes, more than a picture of "
            f"{max_pixels:,} pixels can have."
        )
    return data


@contextmanager
def open_header(source: "str | os.PathLike[str] | bytes") -> "Iterator[Image.Image]":
    """Open a picture without decoding its pixels.

    Parameters
    ----------
    source : path or bytes
        A file, or its content.

    Yields
    ------
    PIL.Image.Image
        Its size, mode and EXIF can be read; its pixels while the context lasts.

    Raises
    ------
    PictureError
        If there is no such file, or it is not a picture that can be read.
    MissingExtraError
        If it is a HEIC picture and ``pillow-heif`` is not installed.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (4, 3)).save(file, "PNG")
    >>> with open_header(file.getvalue()) as image:
    ...     image.size
    (4, 3)
    """
    with _open_file(source) as file:
        name = picture_format(file.read(HEAD_BYTES))
        file.seek(0)
        try:
            image = _decoder(name)(file, "")
        except GeoembedError:
            raise
        except Exception as error:
            # A decoder that trips over a broken file raises whatever it trips over.
            raise PictureError(describe_failure(error, f"a {name} picture")) from error
        _refuse_previews(image)
        yield image


def _open_file(source: "str | os.PathLike[str] | bytes") -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    path = os.path.expanduser(os.fspath(source))
    if not path:
        raise PictureError("The path is empty.")
    if "://" in path:
        raise PictureError("It is an address on the web: download the picture first.")
    if os.path.isdir(path):
        raise PictureError("It is a folder: give it by itself, and all its pictures are read.")
    if os.path.exists(path) and not os.path.isfile(path):
        # Opening a pipe would wait for whoever writes into it.
        raise PictureError("It is not a regular file: give what it yields as bytes.")
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise PictureError("There is no such file.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PictureError(f"The file cannot be opened: {reason}.") from error


def _decoder(name: str) -> Any:
    """Return the class that reads a format.

    Not by ``Image.open``: its limit of pixels is one variable for the whole process, with a
    warning at half of it; ours is an argument.
    """
    if name == "HEIF":
        heif = import_optional("pillow_heif", extra="heic", purpose="Reading HEIC pictures")
        return heif.HeifImageFile
    image = _pillow()
    with _loading:
        if name not in image.OPEN:
            image.init()
    if name not in image.OPEN:
        raise PictureError(f"It is a picture of the format {name}, which this Pillow cannot read.")
    return image.OPEN[name][0]


def _refuse_previews(image: "Image.Image") -> None:
    """Refuse raw files of cameras: they are TIFF files whose first picture is a thumbnail."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(_NEW_SUBFILE_TYPE) == _REDUCED_RESOLUTION:
        raise PictureError(
            "Its first picture is a reduced preview, as in raw files of cameras: develop it, and "
            "save it as JPEG."
        )


def decode(source: "str | os.PathLike[str] | bytes", *, max_pixels: int) -> "Image.Image":
    """Decode a picture: upright, RGB, its first frame.

    Parameters
    ----------
    source : path or bytes
        A file, or its content.
    max_pixels : int
        Larger ones are refused before they are decoded.

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
        return finish(image, max_pixels=max_pixels)


def finish(image: "Image.Image", *, max_pixels: int) -> "Image.Image":
    """Decode the pixels of a picture that was opened, and make it upright and RGB.

    Parameters
    ----------
    image : PIL.Image.Image
        Decoded or not.
    max_pixels : int
        Larger ones are refused before they are decoded.

    Returns
    -------
    PIL.Image.Image
        Another one, of mode RGB, without metadata.

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
        return upright_rgb(image)
    except GeoembedError:
        raise
    except Exception as error:
        # As with the header: no error of one picture may end the others.
        raise PictureError(describe_failure(error, "its pixels")) from error


def describe_failure(error: Exception, what: str) -> str:
    """Say why a picture could not be decoded, in a sentence.

    Parameters
    ----------
    error : Exception
        What the decoder raised.
    what : str
        What was being read.

    Returns
    -------
    str
        A sentence.

    Examples
    --------
    >>> describe_failure(OSError("image file is truncated (12 bytes not processed)"), "its pixels")
    'It is cut off: image file is truncated (12 bytes not processed).'
    """
    text = str(error).strip().rstrip(".") or "no reason given"
    if isinstance(error, MemoryError):
        return f"There is not enough memory to read {what}."
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return f"It is cut off: {text}."
    return f"It is damaged: reading {what} failed with {type(error).__name__}: {text}."


def upright_rgb(image: "Image.Image") -> "Image.Image":
    """Turn a picture as its EXIF says and convert it to RGB.

    What is transparent becomes white, as it is shown on paper. Colour profiles are not applied:
    the towers have learned from pictures read without them.

    Parameters
    ----------
    image : PIL.Image.Image
        Of any mode, loaded; it is left as it is.

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
    if rgb is image:
        # A decoder's own object would keep its file and metadata.
        rgb = image.copy()
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
