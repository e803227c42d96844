"""One view of a picture as SimCLR draws it: a crop, and changed colours."""

from dataclasses import dataclass
from math import exp, log, sqrt
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from geoembed.extending.image_specs import Preprocessing
from geoembed.optional import import_optional
from geoembed.training.hue import turn_hue
from geoembed.training.settings import ViewSettings

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ViewDraw", "cut_view", "draw_view"]

# How often a crop is drawn before the centre is taken.
_TRIES: Final = 10
# The colour changes, in the order of their numbers in a draw.
_CHANGES: Final = ("brightness", "contrast", "saturation", "hue")
# Numbers of a draw: area and shape of every try, its place (2), whether to mirror, whether to
# change colours, the changes (4), their order (4), whether to drop the colours.
_NUMBERS: Final = 2 * _TRIES + 2 + 1 + 1 + 4 + 4 + 1

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class ViewDraw:
    """What was drawn for a view.

    Parameters
    ----------
    box : (int, int, int, int)
        Left, top, right and lower edge of the crop, in pixels of the picture.
    flip : bool
        Whether it is mirrored, left to right.
    changes : tuple of (str, float)
        ``"brightness"``, ``"contrast"`` and ``"saturation"`` with their factor, ``"hue"`` with
        turns of the colour wheel, in the order in which they are made.
    grey : bool
        Whether it loses its colours.
    """

    box: Box
    flip: bool = False
    changes: tuple[tuple[str, float], ...] = ()
    grey: bool = False


def draw_view(size: tuple[int, int], settings: ViewSettings, rng: np.random.Generator) -> ViewDraw:
    """Draw what a view shows of a picture.

    Parameters
    ----------
    size : (int, int)
        Width and height of the picture.
    settings : ViewSettings
        The ranges to draw from.
    rng : numpy.random.Generator
        Gives the numbers. All of them are taken at once, so that what one setting turns off does
        not move what the others draw.

    Returns
    -------
    ViewDraw
        The crop covers an even draw of `min_area` to 1 of the picture, and its width over height
        an even draw, in the logarithm, up to `max_ratio` either way. After ten draws that do not
        fit, the largest centred crop of an allowed shape is taken.

    Notes
    -----
    The distributions are those of torchvision's ``RandomResizedCrop``, ``ColorJitter`` and
    ``RandomGrayscale``.

    Examples
    --------
    >>> from geoembed.training.randomness import generator
    >>> plain = ViewSettings(min_area=1.0, max_ratio=1.0, jitter=0.0, greyscale=0.0)
    >>> draw_view((90, 60), plain, generator(0, "view", 0, 0)).box
    (15, 0, 75, 60)
    """
    # Only uniform doubles: NumPy keeps their stream from release to release.
    numbers = rng.random(_NUMBERS).tolist()
    tries, (x, y, flip, jitter), rest = numbers[: 2 * _TRIES], numbers[20:24], numbers[24:]
    factors, keys, grey = rest[:4], rest[4:8], rest[8]
    changes: list[tuple[str, float]] = []
    if jitter < settings.jitter:
        for at in sorted(range(4), key=keys.__getitem__):
            reach = getattr(settings, _CHANGES[at])
            if reach:
                centre = 0.0 if _CHANGES[at] == "hue" else 1.0
                low = max(centre - reach, 0.0) if centre else -reach
                changes.append((_CHANGES[at], low + factors[at] * (centre + reach - low)))
    return ViewDraw(
        box=_draw_box(size, settings, tries, (x, y)),
        flip=settings.flip and flip < 0.5,
        changes=tuple(changes),
        grey=grey < settings.greyscale,
    )


def cut_view(image: "Image.Image", draw: ViewDraw, preprocessing: Preprocessing) -> "Image.Image":
    """Make a view that was drawn.

    Parameters
    ----------
    image : PIL.Image.Image
        Upright, of mode RGB.
    draw : ViewDraw
        What to do.
    preprocessing : Preprocessing
        Of the tower: its size and how it resizes.

    Returns
    -------
    PIL.Image.Image
        Of mode RGB and size x size pixels.

    Notes
    -----
    Pixel for pixel what torchvision's functions of the same names make of Pillow's pictures.

    Examples
    --------
    >>> from PIL import Image
    >>> tower = Preprocessing(size=4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    >>> half = ViewDraw(box=(0, 0, 6, 6), changes=(("brightness", 0.5),))
    >>> cut_view(Image.new("RGB", (9, 6), (200, 100, 0)), half, tower).getpixel((0, 0))
    (100, 50, 0)
    """
    module = import_optional("PIL.Image", extra="image", purpose="Preparing pictures")
    resample = getattr(module.Resampling, preprocessing.interpolation.upper())
    size = preprocessing.size
    # Cut first: resizing a box would mix in pixels from beyond its edges.
    view = image.crop(draw.box).resize((size, size), resample)
    if draw.flip:
        view = view.transpose(module.Transpose.FLIP_LEFT_RIGHT)
    for what, amount in draw.changes:
        view = _change(view, what, amount)
    return view.convert("L").convert("RGB") if draw.grey else view


def _draw_box(
    size: tuple[int, int], settings: ViewSettings, tries: list[float], at: tuple[float, float]
) -> Box:
    width, height = size
    longest = log(settings.max_ratio)
    for area, shape in zip(tries[::2], tries[1::2], strict=True):
        pixels = width * height * (settings.min_area + area * (1.0 - settings.min_area))
        ratio = exp((2.0 * shape - 1.0) * longest)
        wide, high = round(sqrt(pixels * ratio)), round(sqrt(pixels / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left, top = int(at[0] * (width - wide + 1)), int(at[1] * (height - high + 1))
            return left, top, left + wide, top + high
    wide = min(width, round(height * settings.max_ratio))
    high = min(height, round(width * settings.max_ratio))
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high


def _change(view: "Image.Image", what: str, amount: float) -> "Image.Image":
    if what == "hue":
        # Cut towards zero, as the reference does.
        return turn_hue(view, int(amount * 255))
    module: Any = import_optional("PIL.Image", extra="image", purpose="Preparing pictures")
    if what == "saturation":
        grey = view.convert("L").convert("RGB")
        changed: Image.Image = module.blend(grey, view, amount)
        return changed
    level = 0
    if what == "contrast":
        values = np.asarray(view.convert("L"))
        level = int(int(values.sum()) / values.size + 0.5)
    # Blending with one level is a function of the level: 256 of them, not of every pixel.
    ramp = module.frombytes("L", (256, 1), bytes(range(256)))
    levels = module.blend(module.new("L", (256, 1), level), ramp, amount)
    return view.point(list(levels.tobytes()) * 3)
