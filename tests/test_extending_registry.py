"""Looking up names and factories."""

import sys

import pytest

from geoembed.errors import MissingExtraError, PluginError, UnknownNameError
from geoembed.extending.baselines import BASELINES
from geoembed.extending.registry import (
    location_encoder_spec,
    location_encoder_specs,
    plugin_report,
    resolve_factory,
    weights_specs,
)
from geoembed.testing import isolated_plugins


@pytest.fixture(autouse=True)
def built_ins_only():
    with isolated_plugins():
        yield


def test_unknown_encoder_gives_close_matches():
    with pytest.raises(
        UnknownNameError, match=r"named 'geoclp\.v1'\. Close matches: 'geoclip\.v1'"
    ):
        location_encoder_spec("geoclp.v1")


def test_unknown_encoder_is_a_key_error():
    with pytest.raises(KeyError, match="There is no encoder named 'nothing like it'"):
        location_encoder_spec("nothing like it")


def test_the_registry_cannot_be_changed_through_its_answers():
    location_encoder_specs().clear()
    assert "geoclip.v1" in location_encoder_specs()


def test_weights_specs():
    assert list(weights_specs()) == ["geoclip.v1", "bluemarble.v1"]


def test_report_of_the_built_ins():
    (info,) = plugin_report()
    assert (info.name, info.version, info.source) == ("geoembed", "0.1.0", "built-in")
    assert (info.status, info.error) == ("loaded", "")
    assert "register_location_encoders" in info.hooks
    names = ("geoclip.v1", *(spec.name for spec in BASELINES), "bluemarble.v1")
    assert info.registered["location encoder"] == names
    assert 0.0 <= info.seconds < 1.0


def test_factory_whose_module_is_missing():
    expected = r"'no_such:load' of geoembed-x 1\.0 cannot be imported: ModuleNotFoundError: No mod"
    with pytest.raises(PluginError, match=expected) as caught:
        resolve_factory("no_such:load", owner="geoembed-x 1.0")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_factory_whose_module_exits(tmp_path, monkeypatch):
    (tmp_path / "leaves_early.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match="cannot be imported: SystemExit: 3"):
        resolve_factory("leaves_early:load")


def test_factory_that_misses_an_extra_says_which(tmp_path, monkeypatch):
    source = "from geoembed.optional import import_optional\n"
    source += "import_optional('no_such', extra='maps', purpose='Drawing')\n"
    (tmp_path / "wants_more.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match=r'pip install "geoembed\[maps\]"'):
        resolve_factory("wants_more:load")
    assert "wants_more" not in sys.modules


@pytest.mark.parametrize("attribute", ["no_such", "pi"])
def test_factory_that_is_not_there_or_not_callable(attribute):
    expected = f"the module 'math' has no callable '{attribute}'"
    with pytest.raises(PluginError, match=expected):
        resolve_factory(f"math:{attribute}")


def test_factory_that_is_no_name():
    with pytest.raises(PluginError, match=r"give a string 'package\.module:attribute'"):
        resolve_factory("math.hypot")
