"""Pixels that are in memory already: NumPy arrays and torch tensors as RGB pictures."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import PictureError
from geoembed.optional import import_optional

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["check_pixel_count", "image_from_array", "image_from_tensor", "is_tensor", "to_bytes"]

_MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}
_LAYOUT: Final = "(H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
_TENSOR_LAYOUT: Final = "(H, W), (1, H, W), (3, H, W) or (4, H, W)"
# Resizing with floats oversteps [0, 1] by rounding; a picture in [0, 255] by far more.
_OVERSTEP: Final = 1e-3


def is_tensor(value: object) -> bool:
    """Tell a torch tensor, without importing torch.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
        Whether it is one.

    Examples
    --------
    >>> is_tensor([1, 2])
    False
    """
    kinds = (kind for kind in type(value).__mro__ if kind.__name__ == "Tensor")
    return any(kind.__module__.partition(".")[0] == "torch" for kind in kinds)


def image_from_tensor(tensor: Any, *, max_pixels: int) -> "Image.Image":
    """Make a picture of a tensor, channels first.

    Parameters
    ----------
    tensor : torch.Tensor, shape (H, W), (1, H, W), (3, H, W) or (4, H, W)
        On any device; uint8, uint16, or floats in [0, 1].
    max_pixels : int
        Larger ones are refused.

    Returns
    -------
    PIL.Image.Image
        Of mode L, RGB or RGBA.

    Raises
    ------
    PictureError
        As `image_from_array`.

    Examples
    --------
    >>> import torch
    >>> image_from_tensor(torch.zeros(3, 4, 5), max_pixels=1000).size
    (5, 4)
    """
    shape = tuple(tensor.shape)
    if len(shape) == 4:
        raise PictureError(f"It is a batch of tensors, of shape {shape}: give its pictures singly.")
    if len(shape) == 3 and shape[0] not in _MODES and shape[2] in _MODES:
        raise PictureError(
            f"The tensor has the shape {shape}, which looks like channels last: use "
            ".permute(2, 0, 1), or give it as an array."
        )
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in _MODES):
        raise PictureError(f"The tensor has the shape {shape}: {_TENSOR_LAYOUT} can be read.")
    check_pixel_count(shape[-1], shape[-2], max_pixels)
    tensor = tensor.detach().cpu()
    # NumPy has no bfloat16; float32 holds every value of the smaller kinds.
    array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return image_from_array(
        array if array.ndim == 2 else np.moveaxis(array, 0, -1), max_pixels=max_pixels
    )


def image_from_array(array: NDArray[Any], *, max_pixels: int) -> "Image.Image":
    """Make a picture of an array, channels last.

    Parameters
    ----------
    array : ndarray, shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)
        Grey, RGB, or RGB with opacity; uint8 (0 to 255), uint16 (0 to 65535), or floats in [0, 1].
    max_pixels : int
        Larger ones are refused.

    Returns
    -------
    PIL.Image.Image
        Of mode L, RGB or RGBA; the array is copied.

    Raises
    ------
    PictureError
        If the shape or the type is another one, a value is NaN, masked or out of range, or the
        array has no pixels or more than `max_pixels`.

    Examples
    --------
    >>> import numpy as np
    >>> image_from_array(np.full((2, 3, 3), 0.5), max_pixels=1000).getpixel((0, 0))
    (128, 128, 128)
    """
    shape = array.shape
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in _MODES):
        first = array.ndim == 3 and shape[0] in _MODES
        remedy = " Channels come last: use np.moveaxis(array, 0, -1)." if first else ""
        raise PictureError(f"The array has the shape {shape}: {_LAYOUT} can be read.{remedy}")
    if array.size == 0:
        raise PictureError(f"The array has the shape {shape}: it has no pixels.")
    check_pixel_count(shape[1], shape[0], max_pixels)
    values = to_bytes(array)
    values = values[:, :, 0] if values.shape[2:] == (1,) else values
    module = import_optional("PIL.Image", extra="image", purpose="Reading pictures")
    image: Image.Image = module.fromarray(np.array(values, order="C"))
    return image


def check_pixel_count(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture that is too large to be held in memory safely.

    Parameters
    ----------
    width, height : int
        Its size.
    max_pixels : int
        The limit.

    Raises
    ------
    PictureError
        If it has more pixels.

    Examples
    --------
    >>> check_pixel_count(4000, 3000, max_pixels=200_000_000)
    """
    if width * height > max_pixels:
        raise PictureError(
            f"It has {width} x {height} pixels, more than the limit of {max_pixels:,}: such "
            "pictures can exhaust the memory. If you trust it, raise max_pixels=."
        )


def to_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale values to 0 to 255, by their type.

    Parameters
    ----------
    array : ndarray
        uint8, uint16, or floats in [0, 1].

    Returns
    -------
    ndarray of uint8
        Of the same shape, rounded to the nearest level.

    Raises
    ------
    PictureError
        If the type is another one, or a value is NaN, masked or out of range.

    Examples
    --------
    >>> import numpy as np
    >>> to_bytes(np.array([0, 257, 65535], dtype=np.uint16))
    array([  0,   1, 255], dtype=uint8)
    """
    if np.ma.is_masked(array):
        count = int(np.ma.getmaskarray(array).sum())
        raise PictureError(f"{count:,} of its {array.size:,} values are masked: fill them first.")
    array = np.asarray(array)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        # 65535 = 255 x 257, so this rounds exactly.
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind != "f":
        raise PictureError(
            f"Its values are of the type {array.dtype}, whose range is not known. Use uint8 (0 to "
            "255), uint16 (0 to 65535) or floats in [0, 1]."
        )
    return _from_floats(array)


def _from_floats(array: NDArray[Any]) -> NDArray[np.uint8]:
    wrong = array.size - int(np.isfinite(array).sum())
    if wrong:
        raise PictureError(f"{wrong:,} of its {array.size:,} values are NaN or infinite.")
    low, high = float(array.min()), float(array.max())
    if low < -_OVERSTEP or high > 1 + _OVERSTEP:
        raise PictureError(
            f"Its values run from {low:g} to {high:g}, and floats must lie in [0, 1]: scale them, "
            "or give them as uint8 (0 to 255)."
        )
    levels = np.clip(array.astype(np.float32), 0, 1) * np.float32(255) + np.float32(0.5)
    return levels.astype(np.uint8)
