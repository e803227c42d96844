"""A spec for any model of timm, made of what timm itself declares."""

import re

import timm
import torch

from geoembed.errors import OptionError, unknown_name
from geoembed.extending import ImageEncoderSpec, Preprocessing

__all__ = ["timm_spec"]


def timm_spec(model: str, *, fit: str | None = None) -> ImageEncoderSpec:
    """Describe a model of timm for `geoembed.images.load_image_encoder`.

    Parameters
    ----------
    model : str
        Architecture and tag as timm names them, such as ``"vit_base_patch14_dinov2.lvd142m"``.
    fit : {"crop", "squash"}, optional
        How pictures become square. Default: as timm declares it.

    Returns
    -------
    ImageEncoderSpec
        Called ``timm.`` and the model's name, in letters that names may have.

    Raises
    ------
    UnknownNameError
        If timm has no such model with trained weights; lists close matches.
    OptionError
        If timm declares a preprocessing that geoembed does not do, such as a crop out of a larger
        picture, and `fit` does not settle it.

    Examples
    --------
    >>> spec = timm_spec("vit_small_patch14_dinov2.lvd142m")
    >>> spec.name, spec.dimension, spec.preprocessing.size
    ('timm.vit_small_patch14_dinov2-lvd142m', 384, 518)
    """
    known = timm.list_models(pretrained=True)
    if model not in known:
        raise unknown_name("pretrained timm model", model, known)
    config = timm.get_pretrained_cfg(model)
    declared = {"center": "crop", "squash": "squash"}.get(config.crop_mode)
    if fit is None and (declared is None or (declared == "crop" and config.crop_pct != 1.0)):
        raise OptionError(
            f"timm prepares pictures for {model!r} with crop_mode={config.crop_mode!r} and "
            f"crop_pct={config.crop_pct}; geoembed resizes the shorter side to the tower's size "
            "and crops (fit='crop'), or resizes both sides (fit='squash'). Choose one."
        )
    channels, height, width = config.input_size
    if (channels, height) != (3, width):
        raise OptionError(f"{model!r} takes {config.input_size}, expected 3 channels and a square.")
    return ImageEncoderSpec(
        name="timm." + re.sub(r"[^a-z0-9_-]+", "-", model.lower()),
        factory="geoembed_timm.encoder:load",
        architecture=config.architecture,
        pretrained=config.tag or "",
        dimension=_dimension(model, height),
        preprocessing=Preprocessing(
            size=height,
            mean=tuple(config.mean),
            std=tuple(config.std),
            interpolation=config.interpolation,
            fit=fit or declared or "crop",
        ),
        summary=f"timm's {model}: what a picture shows; knows nothing of places",
        licence=config.license or "",
    )


def _dimension(model: str, size: int) -> int:
    # The meta device computes shapes and holds no values.
    with torch.device("meta"), torch.no_grad():
        network = timm.create_model(model, num_classes=0).eval()
        return int(network(torch.empty(1, 3, size, size)).shape[1])
