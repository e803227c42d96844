"""What geoembed itself registers, through the hooks that everybody uses."""

from collections.abc import Callable

from geoembed.extending.baselines import BASELINES
from geoembed.extending.hookspecs import hookimpl
from geoembed.extending.specs import LocationEncoderSpec, WeightsFile, WeightsSpec

__all__ = ["GEOCLIP_V1_WEIGHTS", "register_location_encoders"]

_PAPER = (
    "Vivanco Cepeda, Nayak, Shah: GeoCLIP: Clip-Inspired Alignment between Locations and Images "
    "for Effective Worldwide Geo-localization. NeurIPS 2023. https://arxiv.org/abs/2309.16020"
)
_TRAINING_DATA = "MP-16: 4.72 million geotagged Flickr photos of the MediaEval Placing Task 2016"

# The files are the same, byte for byte, in the releases 1.1.0, 1.2.0 and 1.3.0.
GEOCLIP_V1_WEIGHTS = WeightsSpec(
    name="geoclip.v1",
    distribution="geoclip",
    version="1.3.0",
    files=(
        WeightsFile(
            role="location_encoder",
            path="geoclip/model/weights/location_encoder_weights.pth",
            size=37_806_041,
            sha256="94b80ae3af89fca78539e129dd2929d321247f5ceeeb0a31bc2c31041a253394",
            tensors_sha256="ffd9c44a25d06cb667c8557afbff9c12014d76a9da3b4d760e458d5d0cd3388f",
        ),
        WeightsFile(
            role="image_mlp",
            path="geoclip/model/weights/image_encoder_mlp_weights.pth",
            size=3_938_907,
            sha256="5342c391eec961796d04d02f2bd670bfa97b34ce32c656d0e0676581103c2c14",
            tensors_sha256="e772a6ca5ec3e87587482643787196631c384e95bf78edbc161ddb6e3847ccc8",
        ),
        WeightsFile(
            role="logit_scale",
            path="geoclip/model/weights/logit_scale_weights.pth",
            size=759,
            sha256="9568e2e09dd19083082bf285b2c0c126867e40dbd275a8ee8c621888b861904e",
            tensors_sha256="ff8cb6e6b5653ce8037ae639fbd859760880737d72ac87a476ab0ae1afe896dc",
        ),
        WeightsFile(
            role="gallery",
            path="geoclip/model/gps_gallery/coordinates_100K.csv",
            size=2_024_065,
            sha256="3a00b1ba58f13443db726533b6399b39609e292df09d4e58792fa5949d1838b1",
        ),
    ),
    licence="MIT",
    paper=_PAPER,
    training_data=_TRAINING_DATA,
)

GEOCLIP_V1 = LocationEncoderSpec(
    name="geoclip.v1",
    factory="geoembed.encoders.geoclip:load",
    dimension=512,
    summary="GeoCLIP's trained location encoder: what photos taken at a place look like",
    licence="MIT",
    paper=_PAPER,
    training_data=_TRAINING_DATA,
    weights=GEOCLIP_V1_WEIGHTS,
    # Chosen by cross-validation inside training parts: docs/choose.md.
    best_layers="hidden0.1+hidden.2",
    # Measured against the published capsules run in float64 on PROJ's Equal Earth.
    tolerance=2e-6,
    details={
        "projection": "Equal Earth, both axes times 66.50336 / 180",
        "encoding": "random Fourier features, 256 frequencies a scale, sigma = 1, 16, 256",
        "network": "three capsules of 512-1024-1024-1024 with ReLU, each with a head 1024-512; "
        "their outputs are summed",
        "parameters": "9.45 million",
        "cost": "18.87 MFLOP a point",
        "output": "512 values, not normalised: norms 0.17 to 0.53 over the globe; training and "
        "retrieval use the vector divided by its norm",
        "layers": "final (512), scales (1536), hidden (the ReLU layers, chosen)",
        "resolution": "around Paris the mean cosine over 24 directions is 0.999 at 0.1 km, 0.95 at "
        "1 km, 0.42 at 10 km and 0.27 at 30 km (resolution_profile)",
        "seams": "torn at the antimeridian and at the poles as trained; seam='blend' mends it",
    },
)


@hookimpl
def register_location_encoders(register: Callable[[LocationEncoderSpec], None]) -> None:
    """Register the encoders that come with geoembed."""
    for spec in (GEOCLIP_V1, *BASELINES):
        register(spec)
