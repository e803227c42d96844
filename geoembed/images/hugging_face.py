"""Names of tensors: from a Hugging Face CLIP's to open_clip's, with nothing left over."""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from geoembed.images.shapes import ClipShape

__all__ = ["HF_IGNORED", "hugging_face_names", "is_hugging_face", "join_tensors", "part_shapes"]

# Buffers that older releases of transformers saved: 0, 1, 2, ..., no weights.
HF_IGNORED: Final = frozenset(
    {"text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"}
)

# Our name -> theirs, inside a block of a transformer. Their three projections are one in ours.
_BLOCK: Final[dict[str, tuple[str, ...]]] = {
    "ln_1.{}": ("layer_norm1.{}",),
    "ln_2.{}": ("layer_norm2.{}",),
    "attn.in_proj_{}": ("self_attn.q_proj.{}", "self_attn.k_proj.{}", "self_attn.v_proj.{}"),
    "attn.out_proj.{}": ("self_attn.out_proj.{}",),
    "mlp.c_fc.{}": ("mlp.fc1.{}",),
    "mlp.c_proj.{}": ("mlp.fc2.{}",),
}
_PLAIN: Final = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    # The spelling is theirs.
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
}
# open_clip multiplies by these from the left, Hugging Face keeps them in a linear layer.
_TRANSPOSED: Final = frozenset({"visual.proj", "text_projection"})


def is_hugging_face(names: Mapping[str, object]) -> bool:
    """Tell whether names of tensors are those of a Hugging Face CLIP.

    Parameters
    ----------
    names : mapping with str keys
        Names of all tensors of a checkpoint.

    Returns
    -------
    bool
        Whether some start with ``vision_model.`` or ``text_model.``.

    Examples
    --------
    >>> is_hugging_face({"visual.proj": 0})
    False
    """
    return any(name.startswith(("vision_model.", "text_model.")) for name in names)


def hugging_face_names(shape: ClipShape) -> dict[str, tuple[str, ...]]:
    """Return, for every tensor of an open_clip CLIP, the tensors that it is made of.

    Parameters
    ----------
    shape : ClipShape
        How many blocks there are.

    Returns
    -------
    dict of str to tuple of str
        open_clip's name -> Hugging Face's names, in the order in which they are joined.

    Examples
    --------
    >>> from geoembed.images.shapes import architecture_shape
    >>> names = hugging_face_names(architecture_shape("ViT-L-14-quickgelu"))
    >>> names["visual.proj"]
    ('visual_projection.weight',)
    """
    names: dict[str, tuple[str, ...]] = {ours: (theirs,) for ours, theirs in _PLAIN.items()}
    towers = (
        ("visual.transformer.resblocks", "vision_model.encoder.layers", shape.image.layers),
        ("transformer.resblocks", "text_model.encoder.layers", shape.text.layers),
    )
    for ours, theirs, layers in towers:
        for layer in range(layers):
            for block, parts in _BLOCK.items():
                for kind in ("weight", "bias"):
                    names[f"{ours}.{layer}.{block.format(kind)}"] = tuple(
                        f"{theirs}.{layer}.{part.format(kind)}" for part in parts
                    )
    return names


def join_tensors(name: str, read: Callable[[str], Tensor], parts: tuple[str, ...]) -> Tensor:
    """Make a tensor of an open_clip CLIP from those of a file.

    Parameters
    ----------
    name : str
        open_clip's name.
    read : callable
        Gives a tensor by its name in the file.
    parts : tuple of str
        Names in the file: one and the same, or what `hugging_face_names` says.

    Returns
    -------
    Tensor
        Joined along the first axis, or turned over, as open_clip multiplies.

    Examples
    --------
    >>> parts = ("visual_projection.weight",)
    >>> join_tensors("visual.proj", lambda name: torch.zeros(2, 3), parts).shape
    torch.Size([3, 2])
    """
    tensors = [read(part) for part in parts]
    joined = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
    return joined.t() if name in _TRANSPOSED and parts != (name,) else joined


def part_shapes(
    name: str, parts: tuple[str, ...], shape: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the parts of a tensor must have: the reverse of `join_tensors`.

    Parameters
    ----------
    name : str
        open_clip's name.
    parts : tuple of str
        Names in the file: one and the same, or what `hugging_face_names` says.
    shape : tuple of int
        Of the tensor in open_clip.

    Returns
    -------
    dict of str to tuple of int
        Name in the file -> its shape.

    Examples
    --------
    >>> part_shapes("visual.proj", ("visual_projection.weight",), (3, 2))
    {'visual_projection.weight': (2, 3)}
    """
    if name in _TRANSPOSED and parts != (name,):
        shape = shape[::-1]
    if len(parts) > 1:
        shape = (shape[0] // len(parts), *shape[1:])
    return dict.fromkeys(parts, shape)
