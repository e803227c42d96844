"""Patch tokens: what a tower has seen where in a picture, before that becomes one feature."""

from torch import Tensor

from geoembed.errors import OptionError
from geoembed.images.towers import Tower

__all__ = ["features_and_tokens", "needs_patches"]


def needs_patches(tower: Tower) -> None:
    """Refuse a tower without patch tokens.

    Parameters
    ----------
    tower : Tower
        Of an image encoder, as `geoembed.images.towers.tower_of` gives it.

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
            "towers give PictureFeatures(pooled, tokens=...)."
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
        One vector a patch, row by row from the upper left.

    Raises
    ------
    OptionError
        If the tower has no patches.
    """
    needs_patches(tower)
    return tower.patch_tokens(pixels)
