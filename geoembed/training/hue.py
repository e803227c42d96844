"""Turning the hue of a picture: Pillow's numbers, in a fraction of its time."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.optional import import_optional

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["turn_hue"]

Bytes = NDArray[np.uint8]
Singles = NDArray[np.float32]

# The hues, of 256, at which each sixth of the colour wheel begins; 255 is 0 once more.
_SIXTHS: Final = (0, 43, 85, 128, 170, 213, 255)


def turn_hue(image: "Image.Image", levels: int) -> "Image.Image":
    """Turn the hue of every pixel, through HSV of 8 bits as Pillow has it.

    Parameters
    ----------
    image : PIL.Image.Image
        Of mode RGB.
    levels : int
        How far, in 255ths of the colour wheel, either way; it runs over at 256.

    Returns
    -------
    PIL.Image.Image
        Of mode RGB; level for level what Pillow's conversion to HSV, the sum, and its conversion
        back make of it.

    Notes
    -----
    Pillow converts one pixel after the other, which took 60 % of the time of a view. Here whole
    bands are computed, and what would need division is looked up: the hue depends on which level
    is the largest and how far the others are below it, saturation on the largest and the least.

    Examples
    --------
    >>> from PIL import Image
    >>> turn_hue(Image.new("RGB", (1, 1), (255, 0, 0)), 85).getpixel((0, 0))
    (0, 255, 0)
    """
    module: Any = import_optional("PIL.Image", extra="image", purpose="Preparing pictures")
    red, green, blue = (np.asarray(band).ravel() for band in image.split())
    largest = np.maximum(np.maximum(red, green), blue)
    least = np.minimum(np.minimum(red, green), blue)
    hue = _hue(red, green, blue, largest) + np.uint8(levels % 256)
    # NumPy looks up faster where it need not report an index that lies outside.
    found = _saturations().take(_pairs(largest, least), mode="clip")
    saturation, low = found.astype(np.uint8), (found >> 8).astype(np.uint8)
    middle = _middle(hue, saturation, largest)
    bands = _by_sixths(hue, largest, middle, low)
    size = image.size[::-1]
    turned: Image.Image = module.merge("RGB", [module.fromarray(b.reshape(size)) for b in bands])
    return turned


def _hue(red: Bytes, green: Bytes, blue: Bytes, largest: Bytes) -> Bytes:
    """Look up the hue; `before` and `after` are the neighbours of the largest on the wheel."""
    first = _bits(red == largest)
    second = _bits(green == largest) & ~first
    third = ~(first | second)
    before = first & blue | second & red | third & green
    after = first & green | second & blue | third & red
    index = _pairs(largest - before, largest - after)
    index += (second & np.uint8(1) | third & np.uint8(2)).astype(np.int64) << 16
    return _hues().take(index, mode="clip")


def _middle(hue: Bytes, saturation: Bytes, largest: Bytes) -> Bytes:
    """Compute the level that is neither the largest nor the least."""
    # Single precision rounds to the same level for each of the 256^3 inputs.
    middle = saturation.astype(np.float32)
    middle /= np.float32(255.0)
    middle *= _shares().take(hue.astype(np.int64), mode="clip")
    np.subtract(np.float32(1.0), middle, out=middle)
    middle *= largest
    middle += np.float32(0.5)
    return middle.astype(np.uint8)


def _by_sixths(hue: Bytes, largest: Bytes, middle: Bytes, least: Bytes) -> list[Bytes]:
    """Say which level red, green and blue take, by the sixth of the wheel."""
    # Bits of all pixels at once: to choose by an index would take longer than all the rest.
    sixth = [_bits(hue >= start) for start in _SIXTHS]
    sixth = [sixth[k] & ~sixth[k + 1] for k in range(6)]
    sixth[0] |= _bits(hue == 255)
    pairs = [sixth[5] | sixth[0], sixth[1] | sixth[2], sixth[3] | sixth[4]]
    others = [sixth[1] | sixth[4], sixth[0] | sixth[3], sixth[2] | sixth[5]]
    return [
        top & largest | half & middle | ~(top | half) & least
        for top, half in zip(pairs, others, strict=True)
    ]


def _bits(condition: NDArray[np.bool_]) -> Bytes:
    return np.negative(condition.view(np.uint8))


def _pairs(high: Bytes, low: Bytes) -> NDArray[np.int64]:
    index = high.astype(np.int64)
    index <<= 8
    index += low
    return index


@lru_cache(maxsize=1)
def _hues() -> Bytes:
    """Hue by the band of the largest level, and how far those before and after it are below."""
    before, after = np.meshgrid(np.arange(256.0), np.arange(256.0), indexing="ij")
    spread = np.maximum(np.maximum(before, after), 1.0)
    # The reference divides in single precision and goes on in double.
    less, more = ((gap / spread).astype(np.float32).astype(float) for gap in (after, before))
    sixths = np.stack([start + more - less for start in (0.0, 2.0, 4.0)]).astype(np.float32)
    turns = np.fmod(sixths.astype(float) / 6.0 + 1.0, 1.0).astype(np.float32)
    hues: Bytes = (turns.astype(float) * 255.0).astype(np.uint8)
    hues[:, 0, 0] = 0
    return hues.ravel()


@lru_cache(maxsize=1)
def _saturations() -> NDArray[np.uint16]:
    """Saturation by the largest and the least level, and the least that it gives, times 256."""
    largest, least = np.meshgrid(np.arange(256.0), np.arange(256.0), indexing="ij")
    spread = np.maximum(largest - least, 0.0)
    share = (spread / np.maximum(largest, 1.0)).astype(np.float32)
    saturation = (share.astype(float) * 255.0).astype(np.uint8)
    share = saturation.astype(np.float32) / np.float32(255.0)
    low = np.floor(largest * (1.0 - share.astype(float)) + 0.5)
    both: NDArray[np.uint16] = saturation + (low.astype(np.uint16) << 8)
    return both.ravel()


@lru_cache(maxsize=1)
def _shares() -> Singles:
    """Share of the saturation that the middle level loses, by the hue."""
    sixths = np.arange(256) * 6.0 / 255.0
    rest = (sixths - np.floor(sixths)).astype(np.float32)
    rising = np.floor(sixths) % 2 == 0
    shares: Singles = np.where(rising, np.float32(1.0) - rest, rest).astype(np.float32)
    return shares
