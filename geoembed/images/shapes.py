"""What a CLIP looks like: sizes and activation, from open_clip's and Hugging Face's configs."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from geoembed.errors import OptionError, WeightsError
from geoembed.optional import import_optional

__all__ = [
    "GELU",
    "QUICK_GELU",
    "ClipShape",
    "ImageShape",
    "TextShape",
    "architecture_shape",
    "compare_shapes",
    "shape_from_hugging_face",
    "shape_from_open_clip",
]

QUICK_GELU: Final = "quick_gelu"
GELU: Final = "gelu"

# What open_clip's configurations of plain CLIPs say; anything else builds another network.
_MODEL_KEYS: Final = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale"}
# Dropping patches happens in training only.
_VISION_KEYS: Final = {
    *("image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio", "patch_dropout"),
}
_TEXT_KEYS: Final = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}

# What Hugging Face's CLIP takes for what its config.json leaves out.
_HF_VISION: Final[dict[str, Any]] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": QUICK_GELU,
    "layer_norm_eps": 1e-5,
}
_HF_TEXT: Final[dict[str, Any]] = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": QUICK_GELU,
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
# The end of a text in CLIP's vocabulary; 2 is what transformers took for "the largest token".
_END_OF_TEXT: Final = (2, 49407)


@dataclass(frozen=True, kw_only=True)
class ImageShape:
    """The vision transformer.

    Parameters
    ----------
    size, patch : int
        Height and width of the pixels it takes, and of a patch of them.
    width, layers, heads, mlp : int
        Length of a token, blocks, attention heads, length of the hidden layer of a block.
    """

    size: int
    patch: int
    width: int
    layers: int
    heads: int
    mlp: int


@dataclass(frozen=True, kw_only=True)
class TextShape:
    """The text transformer.

    Parameters
    ----------
    context, vocabulary : int
        Tokens that it reads at once, and that there are.
    width, layers, heads, mlp : int
        Length of a token, blocks, attention heads, length of the hidden layer of a block.
    """

    context: int
    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp: int


@dataclass(frozen=True, kw_only=True)
class ClipShape:
    """A plain CLIP: two transformers, whose outputs are projected to vectors of one length.

    Parameters
    ----------
    dimension : int
        Length of the vectors.
    activation : {"quick_gelu", "gelu"}
        Of both transformers. Weights do not show it, and those trained with the one give wrong
        vectors with the other without any error: it is always compared.
    image : ImageShape
        The vision transformer.
    text : TextShape
        The text transformer.
    """

    dimension: int
    activation: str
    image: ImageShape
    text: TextShape


def architecture_shape(architecture: str) -> ClipShape:
    """Return the shape of one of open_clip's named architectures.

    Parameters
    ----------
    architecture : str
        Such as ``"ViT-L-14-quickgelu"``.

    Returns
    -------
    ClipShape
        Its sizes and activation.

    Raises
    ------
    MissingExtraError
        If open_clip is not installed.
    OptionError
        If open_clip has no such architecture, or it is no plain CLIP of two transformers.

    Examples
    --------
    >>> architecture_shape("ViT-L-14-quickgelu").image.width
    1024
    """
    open_clip = import_optional("open_clip", extra="image", purpose="Encoding pictures")
    config = open_clip.get_model_config(architecture)
    if config is None:
        raise OptionError(
            f"open_clip has no architecture named {architecture!r}; open_clip.list_models() lists "
            "those it has."
        )
    try:
        return shape_from_open_clip(config, f"the architecture {architecture!r}")
    except WeightsError as error:
        raise OptionError(str(error)) from error


def shape_from_open_clip(config: Mapping[str, Any], where: str) -> ClipShape:
    """Read a shape from the configuration of an open_clip model.

    Parameters
    ----------
    config : mapping
        As open_clip's ``model_configs/*.json`` or ``model_cfg`` of ``open_clip_config.json``.
    where : str
        What it was read from, for messages.

    Returns
    -------
    ClipShape
        Its sizes and activation.

    Raises
    ------
    WeightsError
        If it describes anything but a plain CLIP of two transformers.

    Examples
    --------
    >>> vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16}
    >>> text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    >>> config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    >>> shape_from_open_clip(config, "an example").activation
    'gelu'
    """
    try:
        vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
        strange = sorted({*config} - _MODEL_KEYS | {*vision} - _VISION_KEYS | {*text} - _TEXT_KEYS)
        if strange:
            raise WeightsError(
                f"Expected a plain CLIP of two transformers, but {where} sets "
                f"{', '.join(strange)}. Towers of other kinds come as plugins "
                "(register_image_encoders; geoembed-timm is one)."
            )
        width = vision["width"]
        return ClipShape(
            dimension=config["embed_dim"],
            activation=QUICK_GELU if config.get("quick_gelu", False) else GELU,
            image=ImageShape(
                size=vision.get("image_size", 224),
                patch=vision["patch_size"],
                width=width,
                layers=vision["layers"],
                heads=width // vision.get("head_width", 64),
                mlp=int(width * vision.get("mlp_ratio", 4.0)),
            ),
            text=TextShape(
                context=text.get("context_length", 77),
                vocabulary=text.get("vocab_size", 49408),
                width=text["width"],
                layers=text["layers"],
                heads=text["heads"],
                mlp=int(text["width"] * text.get("mlp_ratio", 4.0)),
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{where} is no configuration of an open_clip CLIP: {type(error).__name__}: {error}"
        ) from error


def shape_from_hugging_face(config: Mapping[str, Any], where: str) -> ClipShape:
    """Read a shape from a Hugging Face ``config.json``.

    Parameters
    ----------
    config : mapping
        With ``model_type`` ``"clip"``, ``vision_config`` and ``text_config``.
    where : str
        What it was read from, for messages.

    Returns
    -------
    ClipShape
        Its sizes and activation.

    Raises
    ------
    WeightsError
        If it is not the configuration of a CLIP, its two activations differ, or it sets what
        this library does not compute with: another epsilon, channel count or end-of-text token.

    Examples
    --------
    >>> shape_from_hugging_face({"model_type": "clip"}, "an example").image.patch
    32
    """
    if config.get("model_type") != "clip":
        raise WeightsError(
            f"{where} declares model_type {config.get('model_type')!r}, expected 'clip': a whole "
            "CLIP with both towers, in the layout of openai/clip-vit-large-patch14."
        )
    vision = _merged(_HF_VISION, config, "vision_config", where)
    text = _merged(_HF_TEXT, config, "text_config", where)
    fixed = {
        "vision_config.layer_norm_eps": (vision["layer_norm_eps"], (1e-5,)),
        "text_config.layer_norm_eps": (text["layer_norm_eps"], (1e-5,)),
        "vision_config.num_channels": (vision["num_channels"], (3,)),
        "text_config.eos_token_id": (text["eos_token_id"], _END_OF_TEXT),
        "text_config.hidden_act": (text["hidden_act"], (vision["hidden_act"],)),
        "vision_config.hidden_act": (vision["hidden_act"], (QUICK_GELU, GELU)),
    }
    for key, (value, allowed) in fixed.items():
        if value not in allowed:
            choices = " or ".join(map(repr, allowed))
            raise WeightsError(f"{where} sets {key} to {value!r}, expected {choices}.")
    return ClipShape(
        dimension=config.get("projection_dim", 512),
        activation=vision["hidden_act"],
        image=ImageShape(
            size=vision["image_size"],
            patch=vision["patch_size"],
            width=vision["hidden_size"],
            layers=vision["num_hidden_layers"],
            heads=vision["num_attention_heads"],
            mlp=vision["intermediate_size"],
        ),
        text=TextShape(
            context=text["max_position_embeddings"],
            vocabulary=text["vocab_size"],
            width=text["hidden_size"],
            layers=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            mlp=text["intermediate_size"],
        ),
    )


def compare_shapes(got: ClipShape, expected: ClipShape) -> list[str]:
    """Say in words where a shape differs from the one expected.

    Parameters
    ----------
    got, expected : ClipShape
        The two shapes.

    Returns
    -------
    list of str
        One text a difference; empty if they are equal.

    Examples
    --------
    >>> small = architecture_shape("ViT-B-32-quickgelu")
    >>> compare_shapes(architecture_shape("ViT-B-32"), small)
    ['activation gelu, expected quick_gelu']
    """
    found = []
    for part in ("", "image", "text"):
        one, other = (getattr(shape, part) if part else shape for shape in (got, expected))
        for field in fields(one):
            value, wanted = getattr(one, field.name), getattr(other, field.name)
            if not isinstance(value, ImageShape | TextShape) and value != wanted:
                found.append(f"{part} {field.name} {value}, expected {wanted}".strip())
    return found


def _merged(
    defaults: Mapping[str, Any], config: Mapping[str, Any], key: str, where: str
) -> dict[str, Any]:
    """Lay a part of a config over its defaults; ``*_config_dict`` of old files wins, as there."""
    merged = dict(defaults)
    for name in (key, f"{key}_dict"):
        part = config.get(name) or {}
        if not isinstance(part, Mapping):
            raise WeightsError(f"{where} sets {name} to {type(part).__name__}, expected a table.")
        merged.update(part)
    return merged
