"""Frozen set-ups of benchmarks on geolocation: one TOML file each, read and checked here."""

from geoembed.evaluation.geolocation.protocols.reading import (
    GeolocationProtocol,
    PublishedResult,
    list_geolocation_protocols,
    load_geolocation_protocol,
)

__all__ = [
    "GeolocationProtocol",
    "PublishedResult",
    "list_geolocation_protocols",
    "load_geolocation_protocol",
]
