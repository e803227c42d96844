"""A whole plugin in one file, as the documentation shows it."""

# --8<-- [start:encoder]
import numpy as np
import pytest
import typer

import geoembed
from geoembed.extending import LocationEncoderSpec, hookimpl
from geoembed.testing import check_location_encoder, isolated_plugins


class DaylightEncoder(geoembed.LocationEncoder):
    """Hours between sunrise and sunset at the two solstices and the equinox."""

    declinations = np.radians([-23.44, 0.0, 23.44])

    def _encode_block(self, lonlat):
        lat = np.radians(lonlat[:, 1:])
        # The sunrise equation; beyond the polar circles the sun stays up, or down.
        cosine = np.clip(-np.tan(lat) * np.tan(self.declinations), -1.0, 1.0)
        return np.degrees(np.arccos(cosine)) * 2.0 / 15.0


# --8<-- [end:encoder]


# --8<-- [start:plugin]
class DaylightPlugin:
    """In a package of its own these would be functions of the module."""

    @hookimpl
    def register_location_encoders(self, register):
        register(
            LocationEncoderSpec(
                name="daylight.v1",
                factory=f"{__name__}:DaylightEncoder",
                dimension=3,
                summary="Hours of daylight in December, March and June",
            )
        )

    @hookimpl
    def register_commands(self, cli):
        @cli.command()
        def daylight(lat: float) -> None:
            """Print the hours of daylight at a latitude.

            Example:
                geoembed daylight 60.17
            """
            hours = geoembed.encode(lon=[0.0], lat=[lat], encoder="daylight.v1")[0]
            typer.echo("December {:.1f} h, March {:.1f} h, June {:.1f} h".format(*hours))


# --8<-- [end:plugin]


# --8<-- [start:tests]
@pytest.fixture(autouse=True)
def plugin():
    with isolated_plugins(DaylightPlugin()):
        yield


def test_contract():
    check_location_encoder("daylight.v1")


def test_known_values():
    hours = geoembed.encode(lon=[0.0, 0.0], lat=[0.0, 80.0], encoder="daylight.v1")
    np.testing.assert_allclose(hours, [[12, 12, 12], [0, 12, 24]], atol=1e-5)


def test_command(capsys):
    from geoembed.cli.main import main

    assert main(["daylight", "60.17"]) == 0
    assert capsys.readouterr().out == "December 5.5 h, March 12.0 h, June 18.5 h\n"


# --8<-- [end:tests]
