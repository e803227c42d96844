"""Files, bytes and file objects, opened as pictures far enough to know what they are."""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final

from geoembed.errors import GeoembedError, PictureError
from geoembed.images.kinds import HEAD_BYTES, picture_format
from geoembed.optional import import_optional

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["describe_failure", "open_header", "read_bytes"]

_NEW_SUBFILE_TYPE: Final = 254
_REDUCED_RESOLUTION: Final = 1
# Uncompressed, 16 bit, four channels, and what else is in a file.
_BYTES_PER_PIXEL: Final = 8
_OTHER_BYTES: Final = 64 * 2**20
# Files reserve what they are asked for.
_CHUNK: Final = 2**20

_loading = threading.Lock()


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
        data = _read_all(file, most)
    except PictureError:
        raise
    except Exception as error:
        # File objects are of any kind, archives and sockets among them.
        raise PictureError(f"The file object cannot be read: {error}.") from error
    if len(data) > most:
        raise PictureError(
            f"The file object gives more than {most:,} bytes, more than a picture of "
            f"{max_pixels:,} pixels can have."
        )
    return data


def _read_all(file: IO[bytes], most: int) -> bytes:
    """Read to the end, or a little more than `most`; one call may give less than is there."""
    chunks = []
    length = 0
    while length <= most and (chunk := file.read(_CHUNK)):
        if not isinstance(chunk, bytes):
            raise PictureError("The file object gives text: open the picture with mode 'rb'.")
        chunks.append(chunk)
        length += len(chunk)
    return b"".join(chunks)


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
    path = os.path.expanduser(os.fsdecode(source))
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
    image = import_optional("PIL.Image", extra="image", purpose="Reading pictures")
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
    if type(error).__name__ == "DecompressionBombError":
        return f"Pillow takes it for a decompression bomb: {text} (PIL.Image.MAX_IMAGE_PIXELS)."
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return f"It is cut off: {text}."
    return f"It is damaged: reading {what} failed with {type(error).__name__}: {text}."
