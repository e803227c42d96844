"""Seven image geolocalizers side by side, as a plugin of geoembed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from geoembed.extending import HeadSpec, hookimpl
from geoembed.lazy import resolver

if TYPE_CHECKING:
    import typer

    from geoembed_systems.cells.adaptive import Partition as Partition
    from geoembed_systems.cells.adaptive import adaptive_partition as adaptive_partition
    from geoembed_systems.cells.nesting import Hierarchy as Hierarchy
    from geoembed_systems.cells.nesting import nested_partitions as nested_partitions
    from geoembed_systems.cplanet import CPlaNet as CPlaNet
    from geoembed_systems.geoclip import GeoCLIP as GeoCLIP
    from geoembed_systems.geodecoder import GeoDecoder as GeoDecoder
    from geoembed_systems.isns import ISNs as ISNs
    from geoembed_systems.knn import KNNDensity as KNNDensity
    from geoembed_systems.pictures.features import PictureFeatures as PictureFeatures
    from geoembed_systems.pictures.reading import read_picture_features as read_picture_features
    from geoembed_systems.planet import PlaNet as PlaNet
    from geoembed_systems.shared.saving import load_system as load_system
    from geoembed_systems.translocator import TransLocator as TransLocator

# Resolved when first used: their modules import torch.
_HOME: Final = {
    "CPlaNet": "geoembed_systems.cplanet",
    "GeoCLIP": "geoembed_systems.geoclip",
    "GeoDecoder": "geoembed_systems.geodecoder",
    "Hierarchy": "geoembed_systems.cells.nesting",
    "ISNs": "geoembed_systems.isns",
    "KNNDensity": "geoembed_systems.knn",
    "Partition": "geoembed_systems.cells.partition",
    "PictureFeatures": "geoembed_systems.pictures.features",
    "PlaNet": "geoembed_systems.planet",
    "TransLocator": "geoembed_systems.translocator",
    "adaptive_partition": "geoembed_systems.cells.adaptive",
    "load_system": "geoembed_systems.shared.saving",
    "nested_partitions": "geoembed_systems.cells.nesting",
    "read_picture_features": "geoembed_systems.pictures.reading",
}

__all__ = sorted(["SYSTEMS", "register_commands", "register_heads", *_HOME])

__getattr__ = resolver(__name__, _HOME)

_COLUMNS: Final = (
    *("query", "rank", "score", "lon", "lat", "place", "place_km"),
    *("radius_50_km", "radius_90_km", "calibrated", "no_signal", "error"),
)


def _system(name: str, factory: str, summary: str) -> HeadSpec:
    return HeadSpec(
        name=name,
        task="geolocation",
        factory=f"geoembed_systems.{factory}",
        summary=summary,
        input_kind="pictures",
        output_columns=_COLUMNS,
    )


SYSTEMS: Final = (
    _system("knn", "knn:KNNDensity", "Pictures: density of the most similar ones' places"),
    _system("planet", "planet:PlaNet", "Pictures: one softmax over adaptive S2 cells"),
    _system("cplanet", "cplanet:CPlaNet", "Pictures: several coarse partitions, combined"),
    _system("isns", "isns:ISNs", "Pictures: three nested partitions, an expert a scene"),
    _system("translocator", "translocator:TransLocator", "Pictures and their segments, fused"),
    _system("geodecoder", "geodecoder:GeoDecoder", "Pictures: a query a scene and hierarchy"),
    _system("geoclip", "geoclip:GeoCLIP", "Pictures against encoded places, trained anew"),
)
"""The seven systems of GeoCLIP's comparison, in the order of the paper."""


@hookimpl
def register_heads(register: Callable[[HeadSpec], None]) -> None:
    """Tell geoembed what the systems are called and where their code is."""
    for spec in SYSTEMS:
        register(spec)


@hookimpl
def register_commands(cli: "typer.Typer") -> None:
    """Add ``geoembed benchmark``."""
    from geoembed_systems.benchmark.cli import app

    cli.add_typer(app, name="benchmark")
