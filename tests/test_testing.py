"""The checks for plugin authors find what they are there to find."""

import numpy as np
import pytest

import geoembed
from geoembed.errors import PluginError
from geoembed.extending import LocationEncoderSpec, hookimpl, manager
from geoembed.testing import check_light_import, check_location_encoder, isolated_plugins


class Good(geoembed.LocationEncoder):
    def _encode_block(self, lonlat):
        lon, lat = np.radians(lonlat).T
        return np.column_stack([np.cos(lat) * np.cos(lon), np.sin(lat)])


class Random(Good):
    def _encode_block(self, lonlat):
        return np.random.default_rng().random((len(lonlat), 2))


class NotFinite(Good):
    def _encode_block(self, lonlat):
        with np.errstate(divide="ignore"):
            return 1.0 / (90.0 - lonlat)


class SeesNeighbours(Good):
    def _encode_block(self, lonlat):
        values = super()._encode_block(lonlat)
        return values - values.mean(axis=0)


class ForgetsPrefix(Good):
    def feature_names(self, prefix=None):
        return ["a", "b"]


class SameNames(Good):
    def feature_names(self, prefix=None):
        return ["a", "a"]


class Lenient(Good):
    def __init__(self, spec, dtype="float32", colour="", **options):
        known = dtype if dtype in ("float32", "float16", "float64") else "float32"
        super().__init__(spec, dtype=known, **options)


class Narrow(Good):
    def _encode_block(self, lonlat):
        return np.zeros((len(lonlat), 1))


class Renamed(Good):
    @property
    def name(self):
        return "other"


BROKEN = {
    Narrow: r"'broken.v1' \(Narrow\) returned an array of shape \(11, 1\) for 11 places, "
    r"expected \(11, 2\)",
    Random: "two calls give different values",
    NotFinite: r"values are not finite at \(lon, lat\)",
    SeesNeighbours: "how many rows are encoded together changes values by",
    ForgetsPrefix: "feature_names does not use its prefix",
    SameNames: "feature_names gives 1 distinct names for 2 values",
    Lenient: r"the option \{'dtype': 'int8'\} is accepted, expected OptionError",
    Renamed: "the encoder of 'broken.v1' calls itself 'other'",
}


class Plugin:
    def __init__(self, encoder):
        factory = f"{__name__}:{encoder.__name__}"
        facts = {"name": "broken.v1", "dimension": 2, "summary": "s"}
        self.spec = LocationEncoderSpec(factory=factory, **facts)

    @hookimpl
    def register_location_encoders(self, register):
        register(self.spec)


def test_a_good_encoder_passes():
    with isolated_plugins(Plugin(Good)):
        check_location_encoder("broken.v1")


@pytest.mark.parametrize("encoder", BROKEN, ids=lambda encoder: encoder.__name__)
def test_a_broken_promise_is_named(encoder):
    with isolated_plugins(Plugin(encoder)), pytest.raises(AssertionError, match=BROKEN[encoder]):
        check_location_encoder("broken.v1")


def test_an_encoder_that_is_not_registered():
    spec = LocationEncoderSpec(name="free.v1", factory="m:a", dimension=2, summary="s")
    check_location_encoder(Good(spec))
    with pytest.raises(AssertionError, match="two calls give different values"):
        check_location_encoder(Random(spec))


def test_isolated_plugins_puts_the_host_back():
    before = manager.host()
    with isolated_plugins(Plugin(Good)) as inside:
        assert manager.host() is inside
    assert manager.host() is before


def test_isolated_plugins_is_strict():
    with pytest.raises(PluginError, match="has no function marked"), isolated_plugins(object()):
        pass


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import pandas", "importing module_under_test loads pandas"),
        ("raise ValueError('no')", "module_under_test cannot be imported:\n(.|\n)*ValueError: no"),
    ],
)
def test_check_light_import_finds(tmp_path, monkeypatch, source, message):
    (tmp_path / "module_under_test.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AssertionError, match=message):
        check_light_import("module_under_test")
