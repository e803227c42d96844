"""Views of a picture, whose features are averaged: the centre, five crops, ten crops."""

from typing import TYPE_CHECKING, Final

import torch

from geoembed.errors import OptionError
from geoembed.extending.image_specs import Preprocessing
from geoembed.images.decoding import upright_rgb
from geoembed.images.preprocessing import make_cropper, normalise, prepare, resized_size
from geoembed.optional import import_optional

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["VIEWS", "make_views", "view_count"]

# How many views each way of looking at a picture takes.
VIEWS: Final = {"none": 1, "five": 5, "ten-crop": 10}

# Ten-crop resizes to 256 pixels and cuts out 224; other sizes keep the ratio.
_RESIZED: Final = 256 / 224


def view_count(tta: str) -> int:
    """Return how many views a way of looking at a picture takes.

    Parameters
    ----------
    tta : {"none", "five", "ten-crop"}
        As for `make_views`.

    Returns
    -------
    int
        1, 5 or 10.

    Raises
    ------
    OptionError
        If it is none of these.

    Examples
    --------
    >>> view_count("ten-crop")
    10
    """
    if not isinstance(tta, str) or tta not in VIEWS:
        raise OptionError(f"tta={tta!r}: use one of {', '.join(map(repr, VIEWS))}.")
    return VIEWS[tta]


def make_views(
    image: "Image.Image", preprocessing: Preprocessing, tta: str = "none"
) -> torch.Tensor:
    """Cut the views out of a picture that a tower is to look at.

    Parameters
    ----------
    image : PIL.Image.Image
        As `read_pictures` gives it; others are turned upright and converted first.
    preprocessing : Preprocessing
        Of the tower.
    tta : {"none", "five", "ten-crop"}, default "none"
        ``"none"`` is `prepare`: the centre. ``"five"`` resizes the shorter side to 256 / 224 of
        the tower's size and takes the upper left, upper right, lower left and lower right corners
        and the centre. ``"ten-crop"`` adds the same five of the mirrored picture. With
        ``fit="squash"`` both sides are resized to that length.

    Returns
    -------
    torch.Tensor, shape (v, 3, size, size), float32
        Normalised as `prepare` does.

    Raises
    ------
    OptionError
        If `tta` is none of these.

    Notes
    -----
    Corners, centre and their order are those of torchvision's ``FiveCrop`` and ``TenCrop``.

    Examples
    --------
    >>> from PIL import Image
    >>> from geoembed.extending import Preprocessing
    >>> plain = Preprocessing(size=4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    >>> tuple(make_views(Image.new("RGB", (9, 6)), plain, "ten-crop").shape)
    (10, 3, 4, 4)
    """
    if view_count(tta) == 1:
        return prepare(image, preprocessing)[None]
    image = upright_rgb(image, copy=False)
    size = preprocessing.size
    shorter = round(size * _RESIZED)
    squash = preprocessing.fit == "squash"
    width, height = (shorter, shorter) if squash else resized_size(image.size, shorter)
    crop = make_cropper(image, (width, height), preprocessing)
    right, bottom = width - size, height - size
    # torchvision rounds half a pixel to even, as Python does.
    centre = (round(right / 2), round(bottom / 2))
    corners = [(0, 0), (right, 0), (0, bottom), (right, bottom), centre]
    views = [crop(left, top) for left, top in corners]
    if tta == "ten-crop":
        pillow = import_optional("PIL.Image", extra="image", purpose="Preparing pictures")
        flip = pillow.Transpose.FLIP_LEFT_RIGHT
        # What is on the left of the mirrored picture is on the right of this one.
        views += [crop(right - left, top).transpose(flip) for left, top in corners]
    return normalise(views, preprocessing)
