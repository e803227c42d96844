"""Pictures in, of any kind: a stream of upright RGB pictures, a bad one as an error text."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from geoembed.errors import GeoembedError, PictureError
from geoembed.images.arrays import image_from_array, image_from_tensor, is_tensor
from geoembed.images.decoding import MAX_PIXELS, decode, finish, upright_rgb
from geoembed.images.listing import Inputs, find_inputs, find_pictures, is_file_object, is_image
from geoembed.images.opening import read_bytes
from geoembed.images.workers import Ready, check_workers, map_ahead
from geoembed.optional import import_optional
from geoembed.scalars import check_count

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "MAX_PIXELS",
    "Inputs",
    "Picture",
    "find_inputs",
    "find_pictures",
    "map_pictures",
    "read_pictures",
]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture that was read, or what is wrong with it.

    Parameters
    ----------
    name : str
        Its path; for what has none ``"picture 3"``, counted from 0, or ``"row 3"`` with the label
        of a table's row.
    image : PIL.Image.Image or None
        Of mode RGB, upright, without metadata.
    error : str
        Why there is no image; empty if there is.
    """

    name: str
    image: "Image.Image | None"
    error: str


def read_pictures(
    source: Any,
    *,
    column: str | None = None,
    recursive: bool = False,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    ahead: int | None = None,
) -> Iterator[Picture]:
    """Read pictures, in order, as they are asked for.

    Turned as their EXIF says; grey, palette, 16-bit, CMYK and others are converted to RGB, what is
    transparent becomes white, of an animation the first frame is taken. A picture that cannot be
    read becomes one with an error; the others are read on. The position in the EXIF is not looked
    at: `read_gps` does that.

    Parameters
    ----------
    source : path, bytes, file object, PIL image, array, tensor, table or iterable
        A path, a pattern (``"photos/**/*.jpg"``) or a folder; one encoded picture as bytes or as
        a file opened in binary mode; a PIL image (its present frame); an array of shape (H, W),
        (H, W, 3) or (H, W, 4), or a tensor of shape (3, H, W), of uint8, uint16 or floats in
        [0, 1], or with one more dimension in front a batch of them; a Series or the column of a
        DataFrame; a mapping of names to pictures; or any iterable of single pictures, which is
        read as a stream.
    column : str, optional
        The column of a table that holds paths or pictures. Default: the only one that is called
        image, picture, photo, path, file, IMG_FILE or the like.
    recursive : bool, default False
        Whether a folder's folders are looked into.
    max_pixels : int, default 200 million
        Larger pictures get an error before they are decoded; 16320 x 12240 just passes.
    workers : int, optional
        Threads that decode what is encoded, beside the caller's work. Default: one for each core,
        at most 8. With 0 every picture is decoded when it is asked for. What is in memory as
        pixels is converted in the caller's thread, before the next one is taken.
    ahead : int, optional
        How many pictures are taken from the source beyond the one that is given. It bounds the
        memory, at 4 bytes a pixel. Default: twice the workers.

    Returns
    -------
    iterator of Picture
        One for each picture of the source, in its order.

    Raises
    ------
    PictureError
        At once: if a folder or pattern holds no picture, or `source` is of no kind that can be
        read.
    TableError
        At once: if the column does not exist, or none can be told.
    OptionError
        At once: if `max_pixels`, `workers` or `ahead` is not a whole number that fits.
    MissingExtraError
        At once: if Pillow is not installed. That pillow-heif is not is the error of HEIC pictures.

    Examples
    --------
    >>> import numpy as np
    >>> for picture in read_pictures([np.zeros((2, 3, 3), np.uint8), "missing.jpg"]):
    ...     print(picture.name, picture.error or picture.image.size, sep=": ")
    picture 0: (3, 2)
    missing.jpg: There is no such file.
    """
    return _stream(
        find_inputs(source, column=column, recursive=recursive),
        lambda picture: picture,
        _Options(max_pixels=max_pixels, copy=True),
        workers=workers,
        ahead=ahead,
    )


def map_pictures(
    source: Any,
    function: Callable[[Picture], T],
    *,
    column: str | None = None,
    recursive: bool = False,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    ahead: int | None = None,
) -> Iterator[T]:
    """Read pictures as `read_pictures` does, and do something with each where it is decoded.

    Parameters
    ----------
    source, column, recursive, max_pixels, workers, ahead
        As for `read_pictures`. What waits for the caller is what `function` returns.
    function : callable
        Takes a `Picture`; runs in a worker's thread. The picture's image is lent: it may carry
        metadata, and is to be copied if it is kept. Anything that `function` raises ends the
        stream.

    Returns
    -------
    iterator
        What `function` returns for each picture, in order.

    Raises
    ------
    PictureError, TableError, OptionError, MissingExtraError
        As `read_pictures` does.

    Examples
    --------
    >>> import numpy as np
    >>> list(map_pictures(np.zeros((2, 4, 5)), lambda picture: picture.error or picture.image.size))
    ['The array has the shape (2, 4, 5): (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) can be read.']
    """
    return _stream(
        find_inputs(source, column=column, recursive=recursive),
        function,
        _Options(max_pixels=max_pixels, copy=False),
        workers=workers,
        ahead=ahead,
    )


@dataclass(frozen=True)
class _Options:
    """How a picture is read."""

    max_pixels: int
    copy: bool


def _stream(
    inputs: Inputs,
    function: Callable[[Picture], T],
    options: _Options,
    *,
    workers: int | None,
    ahead: int | None,
) -> Iterator[T]:
    check_count("max_pixels", options.max_pixels, 1)
    threads = check_workers(workers)
    if ahead is not None:
        check_count("ahead", ahead, 0)
    # Without it no picture can be read: that is no error of a row.
    import_optional("PIL.Image", extra="image", purpose="Reading pictures")
    jobs = (_job(name, item, function, options) for name, item in inputs)
    return map_ahead(jobs, workers=threads, ahead=2 * threads if ahead is None else ahead)


def _job(
    name: str, item: Any, function: Callable[[Picture], T], options: _Options
) -> Callable[[], T] | Ready[T]:
    """Put off what a thread can decode; do the rest now, before the source can change it."""
    if is_file_object(item):
        try:
            item = read_bytes(item, max_pixels=options.max_pixels)
        except PictureError as error:
            return Ready(function(Picture(name, None, str(error))))
    elif isinstance(item, bytearray | memoryview):
        item = bytes(item)
    if isinstance(item, str | os.PathLike | bytes):
        return lambda: function(_read(name, item, decode, options))
    return Ready(function(_read(name, item, _convert, options)))


def _read(name: str, item: Any, how: Callable[..., "Image.Image"], options: _Options) -> Picture:
    try:
        image = how(item, max_pixels=options.max_pixels, copy=options.copy)
        return Picture(name, image, "")
    except GeoembedError as error:
        return Picture(name, None, str(error))


def _convert(item: Any, *, max_pixels: int, copy: bool) -> "Image.Image":
    """Make an upright RGB picture of pixels in memory."""
    if isinstance(item, np.ndarray):
        return upright_rgb(image_from_array(item, max_pixels=max_pixels), copy=False)
    if is_tensor(item):
        return upright_rgb(image_from_tensor(item, max_pixels=max_pixels), copy=False)
    if is_image(item):
        return finish(item, max_pixels=max_pixels, copy=copy)
    if item is None or (pd.api.types.is_scalar(item) and pd.isna(item)):
        raise PictureError("There is no picture: the value is missing.")
    raise PictureError(f"A picture cannot be read from an object of type {type(item).__name__}.")
