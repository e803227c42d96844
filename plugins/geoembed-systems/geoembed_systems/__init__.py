"""Seven image geolocalizers side by side, as a plugin of geoembed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from geoembed.extending import HeadSpec, hookimpl

if TYPE_CHECKING:
    import typer

__all__ = ["SYSTEMS", "register_commands", "register_heads"]

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
