"""The two transformers of a CLIP, built by open_clip and filled from a checkpoint, strictly."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor, nn

from geoembed.errors import WeightsError
from geoembed.extending.image_specs import Preprocessing
from geoembed.images.checkpoints import Checkpoint
from geoembed.images.declared import compare_preprocessing
from geoembed.images.hugging_face import (
    HF_IGNORED,
    hugging_face_names,
    is_hugging_face,
    join_tensors,
    part_shapes,
)
from geoembed.images.shapes import QUICK_GELU, ClipShape, compare_shapes
from geoembed.optional import import_optional

__all__ = ["ClipTensors", "build_image_tower", "build_text_tower", "clip_bytes"]

# Longer lists of names help nobody.
_LISTED: Final = 3


class ClipTensors(Mapping[str, Tensor]):
    """Tensors of a checkpoint under open_clip's names, checked as a whole, read one at a time.

    Parameters
    ----------
    checkpoint : Checkpoint
        The opened file or folder.
    expected : ClipShape or None
        What it must hold; None takes what the configuration beside it says.
    preprocessing : Preprocessing
        What the tower will be given.

    Raises
    ------
    WeightsError
        If the checkpoint's size, activation or preprocessing differ from what is expected, or
        tensors are missing, left over or of another shape.
    """

    def __init__(
        self, checkpoint: Checkpoint, expected: ClipShape | None, preprocessing: Preprocessing
    ) -> None:
        self._checkpoint = checkpoint
        self.shape = _agreed_shape(checkpoint, expected, preprocessing)
        self._shapes = _tensor_shapes(self.shape)
        hugging_face = is_hugging_face(checkpoint.shapes)
        self._names = (
            hugging_face_names(self.shape)
            if hugging_face
            else {name: (name,) for name in self._shapes}
        )
        self._check(HF_IGNORED if hugging_face else frozenset())

    def __getitem__(self, name: str) -> Tensor:
        joined = join_tensors(name, self._checkpoint.read, self._names[name])
        # A copy: a mapped file that changes later must not change the tower.
        return joined.to(torch.float32, copy=True, memory_format=torch.contiguous_format)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def _check(self, ignored: frozenset[str]) -> None:
        found = self._checkpoint.shapes
        wanted: dict[str, tuple[int, ...]] = {}
        for name, parts in self._names.items():
            wanted |= part_shapes(name, parts, self._shapes[name])
        wrong = [
            f"{name} is {_times(found[name])}, expected {_times(shape)}"
            for name, shape in wanted.items()
            if name in found and found[name] != shape
        ]
        missing = [f"{name} is missing" for name in wanted if name not in found]
        extra = [f"{name} is left over" for name in found if name not in {*wanted, *ignored}]
        problems = wrong + missing + extra
        if problems:
            more = f", and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
            raise WeightsError(
                f"{self._checkpoint.path} does not hold the CLIP that is expected "
                f"({_described(self.shape)}): {'; '.join(problems[:_LISTED])}{more}."
            )


def build_image_tower(tensors: ClipTensors, dtype: torch.dtype) -> nn.Module:
    """Build the vision transformer with its projection and fill it.

    Parameters
    ----------
    tensors : ClipTensors
        Of the whole CLIP; only those of this tower are read.
    dtype : torch.dtype
        float32, bfloat16 or float16. Layer norms and embeddings stay float32 in all.

    Returns
    -------
    torch.nn.Module
        Pixels (n, 3, size, size) to features (n, dimension), on the CPU, for inference.
    """
    with torch.device("meta"):
        tower = _empty_image_tower(tensors.shape, dtype)
    return _filled(tower, tensors, "visual.", dtype)


def build_text_tower(tensors: ClipTensors, dtype: torch.dtype) -> nn.Module:
    """Build the text transformer with its projection and fill it.

    Parameters
    ----------
    tensors : ClipTensors
        Of the whole CLIP; only those of this tower are read.
    dtype : torch.dtype
        float32, bfloat16 or float16. Layer norms and embeddings stay float32 in all.

    Returns
    -------
    torch.nn.Module
        Tokens (n, context) to features (n, dimension), on the CPU, for inference.
    """
    with torch.device("meta"):
        tower = _empty_text_tower(tensors.shape, dtype)
    # The one buffer that is not saved: built again, since the meta device holds no values.
    tower.attn_mask = tower.build_causal_mask()
    return _filled(tower, tensors, "", dtype)


def clip_bytes(shape: ClipShape) -> int:
    """Return how many bytes a CLIP takes in float32.

    Parameters
    ----------
    shape : ClipShape
        Its sizes.

    Returns
    -------
    int
        Four for every number in both towers.

    Examples
    --------
    >>> from geoembed.images.shapes import architecture_shape
    >>> round(clip_bytes(architecture_shape("ViT-L-14-quickgelu")) / 1e9, 2)
    1.71
    """
    return 4 * sum(torch.Size(size).numel() for size in _tensor_shapes(shape).values())


def _filled(tower: nn.Module, tensors: ClipTensors, prefix: str, dtype: torch.dtype) -> nn.Module:
    own = {name: tensors[f"{prefix}{name}"] for name in tower.state_dict()}
    tower.load_state_dict(own, strict=True, assign=True)
    if dtype != torch.float32:
        _open_clip("model").convert_weights_to_lp(tower, dtype)
    return tower.eval().requires_grad_(False)


@lru_cache(maxsize=16)
def _tensor_shapes(shape: ClipShape) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a CLIP, in open_clip's names."""
    with torch.device("meta"):
        image = _empty_image_tower(shape, torch.float32).state_dict()
        text = _empty_text_tower(shape, torch.float32).state_dict()
    named = {f"visual.{name}": tensor for name, tensor in image.items()} | text
    return {name: tuple(tensor.shape) for name, tensor in named.items()} | {"logit_scale": ()}


def _empty_image_tower(shape: ClipShape, dtype: torch.dtype) -> nn.Module:
    image = shape.image
    tower: nn.Module = _open_clip("transformer").VisionTransformer(
        image_size=image.size,
        patch_size=image.patch,
        width=image.width,
        layers=image.layers,
        heads=image.heads,
        mlp_ratio=image.mlp / image.width,
        output_dim=shape.dimension,
        **_layers(shape, dtype),
    )
    return tower


def _empty_text_tower(shape: ClipShape, dtype: torch.dtype) -> Any:
    text = shape.text
    return _open_clip("transformer").TextTransformer(
        context_length=text.context,
        vocab_size=text.vocabulary,
        width=text.width,
        layers=text.layers,
        heads=text.heads,
        mlp_ratio=text.mlp / text.width,
        output_dim=shape.dimension,
        **_layers(shape, dtype),
    )


def _layers(shape: ClipShape, dtype: torch.dtype) -> dict[str, Any]:
    module = _open_clip("transformer")
    return {
        "act_layer": module.QuickGELU if shape.activation == QUICK_GELU else nn.GELU,
        "norm_layer": module.LayerNorm if dtype == torch.float32 else module.LayerNormFp32,
    }


def _agreed_shape(
    checkpoint: Checkpoint, expected: ClipShape | None, preprocessing: Preprocessing
) -> ClipShape:
    shape = expected if checkpoint.shape is None else checkpoint.shape
    if shape is None:
        raise WeightsError(
            f"{checkpoint.path} has no configuration beside it, and the spec names no "
            "architecture: sizes and activation are unknown. Give a folder with config.json or "
            "open_clip_config.json."
        )
    problems = compare_shapes(shape, expected) if expected is not None else []
    problems += compare_preprocessing(checkpoint.preprocessing, preprocessing)
    if shape.image.size != preprocessing.size and not problems:
        problems = [f"image size {shape.image.size}, expected {preprocessing.size}"]
    if problems:
        raise WeightsError(
            f"{checkpoint.path} holds another CLIP than the one that is expected: "
            f"{'; '.join(problems)}. Its vectors would be wrong."
        )
    return shape


def _described(shape: ClipShape) -> str:
    image = shape.image
    return (
        f"{image.layers} layers of width {image.width}, patches of {image.patch} pixels, pictures "
        f"of {image.size}, vectors of {shape.dimension}"
    )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _open_clip(module: str) -> ModuleType:
    return import_optional(f"open_clip.{module}", extra="image", purpose="Encoding pictures")
