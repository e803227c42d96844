"""Tests of the plugin, run against geoembed itself."""

# --8<-- [start:tests]
import geoembed_template
import numpy as np
import pytest

import geoembed
from geoembed.cli.main import main
from geoembed.testing import check_light_import, check_location_encoder, isolated_plugins


@pytest.fixture(autouse=True)
def only_this_plugin():
    with isolated_plugins(geoembed_template):
        yield


def test_encoder_keeps_the_contract():
    check_location_encoder("template.xyz")


def test_encoder_gives_known_values():
    got = geoembed.encode(lon=[0, 90, 0], lat=[0, 0, 90], encoder="template.xyz")
    np.testing.assert_allclose(got, [[1, 0, 0], [0, 1, 0], [0, 0, 1]], atol=1e-7)


def test_command_prints_the_antipode(capsys):
    assert main(["antipode", "--lon", "-74", "--lat", "40.5"]) == 0
    assert capsys.readouterr().out == "106.000000 -40.500000\n"


def test_importing_the_plugin_is_light():
    check_light_import("geoembed_template")


# --8<-- [end:tests]
