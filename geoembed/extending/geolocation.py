"""The image encoder, galleries and index that geoembed itself registers."""

from collections.abc import Callable
from typing import Final

from geoembed.extending.builtin import GEOCLIP_V1
from geoembed.extending.gallery_specs import GallerySpec, IndexSpec
from geoembed.extending.hookspecs import hookimpl
from geoembed.extending.image_specs import ImageEncoderSpec, Preprocessing

__all__ = [
    "GALLERIES",
    "IMAGE_ENCODERS",
    "INDEXES",
    "OPENAI_CLIP_224",
    "register_galleries",
    "register_image_encoders",
    "register_indexes",
]

# Channel statistics of the pictures that OpenAI's CLIP learned from.
OPENAI_CLIP_224: Final = Preprocessing(
    size=224,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)

IMAGE_ENCODERS: Final = (
    ImageEncoderSpec(
        name="geoclip.v1",
        factory="geoembed.images.geoclip:load",
        dimension=512,
        preprocessing=OPENAI_CLIP_224,
        summary="GeoCLIP's image side: CLIP ViT-L/14 and the trained head; reads texts too",
        location_encoder="geoclip.v1",
        reads_text=True,
        architecture="ViT-L-14-quickgelu",
        pretrained="openai",
        weights=GEOCLIP_V1.weights,
        licence="MIT (the head, and CLIP)",
        paper=GEOCLIP_V1.paper,
        training_data=f"{GEOCLIP_V1.training_data}; the tower is frozen, as OpenAI published it",
        details={
            "tower": "CLIP ViT-L/14 at 224 pixels, QuickGELU, projected feature of 768 values",
            "head": "768-768-512, ReLU between",
            "temperature": "exp(3.6810) = 39.69",
            "half precision": "against float32 on random weights: cosine of bfloat16 >= 0.9998, of "
            "float16 >= 0.99999",
            "tower's weights": "about 1.7 GB in float32, not shipped and never fetched unasked",
        },
    ),
)

_GEOCLIP_PLACES: Final = "GeoCLIP's gallery of training places, MIT, distribution geoclip"

GALLERIES: Final = (
    GallerySpec(
        name="geoclip.100k",
        factory="geoembed.galleries.builders:geoclip_100k",
        summary="GeoCLIP's 100,000 places, 94,123 distinct ones; where photographers go",
        licence="MIT",
        source=_GEOCLIP_PLACES,
    ),
    GallerySpec(
        name="geoclip.100k+land45",
        factory="geoembed.galleries.builders:geoclip_100k_land45",
        summary="The same and a grid of 45 km over all land, for places that nobody photographs",
        licence="MIT; land: public domain",
        source=f"{_GEOCLIP_PLACES}; Natural Earth's land at 1:50 million",
    ),
    GallerySpec(
        name="cities",
        factory="geoembed.galleries.builders:city_places",
        summary="Cities of 50,000 people or more, capitals and each region's largest",
        licence="CC BY 4.0",
        source="GeoNames",
    ),
)

INDEXES: Final = (
    IndexSpec(
        name="exact",
        factory="geoembed.galleries.index:ExactIndex",
        summary="Every row is compared, in blocks, on any device",
        exact=True,
    ),
)


@hookimpl
def register_image_encoders(register: Callable[[ImageEncoderSpec], None]) -> None:
    """Register the image encoders that come with geoembed."""
    for spec in IMAGE_ENCODERS:
        register(spec)


@hookimpl
def register_galleries(register: Callable[[GallerySpec], None]) -> None:
    """Register the galleries that come with geoembed."""
    for spec in GALLERIES:
        register(spec)


@hookimpl
def register_indexes(register: Callable[[IndexSpec], None]) -> None:
    """Register the indexes that come with geoembed."""
    for spec in INDEXES:
        register(spec)
