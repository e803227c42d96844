"""Two galleries for geoembed: airports, and all landing strips."""

from collections.abc import Callable
from typing import Final

from geoembed.extending import GallerySpec, hookimpl

_SOURCE: Final = "airportsdata (Python package)"


@hookimpl
def register_galleries(register: Callable[[GallerySpec], None]) -> None:
    """Tell geoembed what the galleries are called and where their places are."""
    register(
        GallerySpec(
            name="airports",
            factory="geoembed_airports.places:airports",
            summary="Airports with an IATA code: those that people fly to",
            licence="MIT",
            source=_SOURCE,
        )
    )
    register(
        GallerySpec(
            name="airports.all",
            factory="geoembed_airports.places:landing_strips",
            summary="Airports, heliports and landing strips with an ICAO code",
            licence="MIT",
            source=_SOURCE,
        )
    )
