"""Image encoders for geoembed: towers of timm, such as DINOv2 and SigLIP."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from geoembed.extending import ImageEncoderSpec, Preprocessing, hookimpl

if TYPE_CHECKING:
    from geoembed_timm.specs import timm_spec as timm_spec

__all__ = ["IMAGE_ENCODERS", "register_image_encoders", "timm_spec"]

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

_DINOV2 = {
    "pretrained": "lvd142m",
    "preprocessing": Preprocessing(size=518, **_IMAGENET),
    "licence": "Apache-2.0",
    "paper": "Oquab et al.: DINOv2: Learning Robust Visual Features without Supervision. TMLR "
    "2024. https://arxiv.org/abs/2304.07193",
    "training_data": "LVD-142M: 142 million curated pictures, no labels",
}


def _siglip(size: int) -> dict[str, Any]:
    return {
        "pretrained": "webli",
        # Trained on pictures resized whatever their shape; timm's own setting crops a little.
        "preprocessing": Preprocessing(size=size, **_HALF, fit="squash"),
        "licence": "Apache-2.0",
        "paper": "Zhai, Mustafa, Kolesnikov, Beyer: Sigmoid Loss for Language Image Pre-Training. "
        "ICCV 2023. https://arxiv.org/abs/2303.15343",
        "training_data": "WebLI: pictures and texts of the web",
    }


def _spec(name: str, architecture: str, dimension: int, what: str, more: Any) -> ImageEncoderSpec:
    return ImageEncoderSpec(
        name=f"timm.{name}",
        factory="geoembed_timm.encoder:load",
        architecture=architecture,
        dimension=dimension,
        summary=f"{what}: what a picture shows, by timm; knows nothing of places",
        **more,
    )


IMAGE_ENCODERS = (
    _spec("dinov2-s14", "vit_small_patch14_dinov2", 384, "DINOv2 ViT-S/14", _DINOV2),
    _spec("dinov2-b14", "vit_base_patch14_dinov2", 768, "DINOv2 ViT-B/14", _DINOV2),
    _spec("dinov2-l14", "vit_large_patch14_dinov2", 1024, "DINOv2 ViT-L/14", _DINOV2),
    _spec("siglip-b16", "vit_base_patch16_siglip_224", 768, "SigLIP ViT-B/16", _siglip(224)),
    _spec(
        "siglip-so400m-384",
        "vit_so400m_patch14_siglip_384",
        1152,
        "SigLIP ViT-SO400M/14",
        _siglip(384),
    ),
)


@hookimpl
def register_image_encoders(register: Callable[[ImageEncoderSpec], None]) -> None:
    """Tell geoembed what the encoders are called and where their code is."""
    for spec in IMAGE_ENCODERS:
        register(spec)


def __getattr__(name: str) -> Any:
    # Its module imports timm, and that torch.
    if name == "timm_spec":
        return import_module("geoembed_timm.specs").timm_spec
    raise AttributeError(f"module 'geoembed_timm' has no attribute {name!r}")
