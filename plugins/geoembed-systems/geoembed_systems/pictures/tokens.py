"""Patch tokens: what a tower has seen where in a picture, before that becomes one feature."""

from math import isqrt

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geoembed.errors import OptionError
from geoembed.images.towers import Tower
from geoembed.scalars import check_count
from geoembed_systems.pictures.features import PictureFeatures

__all__ = ["coarser_tokens", "features_and_tokens", "needs_patches"]


def needs_patches(tower: Tower, instead: str = "") -> None:
    """Refuse a tower without patch tokens.

    Parameters
    ----------
    tower : Tower
        Of an image encoder, as `geoembed.images.towers.tower_of` gives it.
    instead : str
        A sentence to end the error with: what the caller does without.

    Raises
    ------
    OptionError
        If it gives none; says which do.
    """
    if tower.patches is None:
        raise OptionError(
            f"Patch tokens are needed, and the tower of the image encoder {tower.name!r} gives "
            "none. Those of CLIPs (such as 'geoclip.v1'), of models trained with a small network "
            "of their own (such as 'bluemarble.v1') and of the plugin geoembed-timm do; for other "
            f"towers give PictureFeatures(pooled, tokens=...). {instead}".rstrip()
        )


def features_and_tokens(tower: Tower, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features of prepared pixels, and their patch tokens, in one pass.

    Parameters
    ----------
    tower : Tower
        One that has patches.
    pixels : Tensor of shape (n, 3, size, size)
        As `geoembed.images.views.make_views` gives them; n at least 1.

    Returns
    -------
    features : Tensor of shape (n, d), float32
        As ``tower.features`` gives them.
    tokens : Tensor of shape (n, T, c), float32
        One vector a patch, row by row from the upper left: of a CLIP, what its last layer and
        norm give, not projected, the class token left out; of a small trained network, the
        positions of its last map, whose moments are its feature; of timm, what its model pools.

    Raises
    ------
    OptionError
        If the tower has no patches.
    """
    needs_patches(tower)
    return tower.patch_tokens(pixels)


def coarser_tokens(features: PictureFeatures, side: int) -> PictureFeatures:
    """Make fewer tokens: means over square blocks of patches.

    A ViT-L/14 gives 256 tokens of 1,024 numbers, one megabyte a picture; 4 x 4 blocks of them
    take a sixteenth. This is ours, for data that would not fit into memory. A system that has
    learned from coarser tokens is to be asked with coarser tokens.

    Parameters
    ----------
    features : PictureFeatures
        With T tokens of a square grid.
    side : int
        Of the grid of blocks; a divisor of the side of the grid of patches.

    Returns
    -------
    PictureFeatures
        With side x side tokens; segments of patches become those of blocks too.

    Raises
    ------
    OptionError
        If there are no tokens, their grid is not square, or `side` does not divide its side.

    Examples
    --------
    >>> features = PictureFeatures(np.zeros((5, 4)), tokens=np.zeros((5, 256, 3)))
    >>> coarser_tokens(features, 4).tokens.shape
    (5, 1, 16, 3)
    """
    check_count("side", side)
    if features.tokens is None:
        raise OptionError("These features have no patch tokens that could become fewer.")
    count = features.tokens.shape[2]
    whole = isqrt(count)
    if whole * whole != count:
        raise OptionError(f"{count:,} tokens are no square grid, and blocks of it cannot be told.")
    if whole % side:
        raise OptionError(f"side={side} does not divide the {whole} patches of a side.")
    segments = features.segments
    if segments is not None and segments.ndim == 4:
        segments = _block_means(segments, whole, side)
    return PictureFeatures(
        features.pooled,
        _block_means(features.tokens, whole, side),
        segments,
        errors=features.errors,
        names=features.names,
    )


def _block_means(values: NDArray[np.float32], whole: int, side: int) -> NDArray[np.float32]:
    """Means of (n, V, whole x whole, c) over blocks, (n, V, side x side, c)."""
    rows, views, _, length = values.shape
    step = whole // side
    blocks = values.reshape(rows, views, side, step, side, step, length)
    means: NDArray[np.float32] = blocks.mean(axis=(3, 5), dtype=np.float32)
    return means.reshape(rows, views, side * side, length)
