"""The smallest real geoembed plugin: one location encoder, one command."""

# --8<-- [start:hooks]
from collections.abc import Callable

import typer

from geoembed.extending import LocationEncoderSpec, hookimpl


@hookimpl
def register_location_encoders(register: Callable[[LocationEncoderSpec], None]) -> None:
    """Tell geoembed what the encoder is called and where its code is."""
    register(
        LocationEncoderSpec(
            name="template.xyz",
            factory="geoembed_template.encoder:UnitSphereEncoder",
            dimension=3,
            summary="The point on the unit sphere: a baseline that has learned nothing",
            licence="MIT",
        )
    )


@hookimpl
def register_commands(cli: typer.Typer) -> None:
    """Add ``geoembed antipode``."""
    cli.command()(antipode)


def antipode(
    lon: float = typer.Option(help="Longitude in degrees."),
    lat: float = typer.Option(help="Latitude in degrees."),
) -> None:
    """Print the place on the other side of the Earth.

    Example:
        geoembed antipode --lon -74.006 --lat 40.7128
    """
    opposite = lon - 180.0 if lon > 0.0 else lon + 180.0
    typer.echo(f"{opposite:.6f} {-lat:.6f}")


# --8<-- [end:hooks]
