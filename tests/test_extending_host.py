"""The plugin host inside one process."""

import threading
import warnings

import pytest

from geoembed.errors import DuplicateNameError, PluginError
from geoembed.extending import (
    GeoembedPluginWarning,
    LocationEncoderSpec,
    WeightsFile,
    WeightsSpec,
    hookimpl,
    manager,
)
from geoembed.extending.baselines import BASELINES
from geoembed.extending.host import PluginHost
from geoembed.extending.registry import location_encoder_specs, plugin_report
from geoembed.extending.sources import Part, PluginSource, built_in_source
from geoembed.testing import isolated_plugins

BUILT_IN = ["geoclip.v1", *(spec.name for spec in BASELINES), "bluemarble.v1"]


def spec(name, **facts):
    return LocationEncoderSpec(name=name, factory="m:a", dimension=3, summary="s", **facts)


class Registers:
    """A plugin object that registers the specs it is made with."""

    def __init__(self, *specs):
        self.specs = specs

    @hookimpl
    def register_location_encoders(self, register):
        self.register = register
        for one in self.specs:
            register(one)


class Other(Registers):
    pass


def test_hook_register_location_encoders_stamps_the_owner():
    with isolated_plugins(Registers(spec("mine.v1", owner="somebody else"))):
        specs = location_encoder_specs()
    assert list(specs) == [*BUILT_IN, "mine.v1"]
    assert specs["mine.v1"].owner == "Registers 0"
    assert specs["geoclip.v1"].owner == "geoembed 0.1.0"


def test_of_two_plugins_that_want_a_name_the_first_has_it():
    first, second = Registers(spec("mine.v1")), Other(spec("other.v1"), spec("mine.v1"))
    expected = "'mine.v1' belongs to Registers 0, and Other 0 wants it too"
    with (
        pytest.warns(GeoembedPluginWarning, match=expected),
        isolated_plugins(first, second, strict=False),
    ):
        names, report = list(location_encoder_specs()), plugin_report()
    assert names == [*BUILT_IN, "mine.v1"]
    assert [info.status for info in report] == ["loaded", "loaded", "failed"]


def test_strict_host_keeps_the_class_of_the_error():
    with (
        pytest.raises(DuplicateNameError, match=r"The plugin Registers 0 failed: .*'geoclip\.v1'"),
        isolated_plugins(Registers(spec("geoclip.v1"))),
    ):
        pass


def weights(sha256="0" * 64):
    file = WeightsFile(role="r", path="p/f.pth", size=1, sha256=sha256)
    facts = dict.fromkeys(("licence", "paper", "training_data"), "")
    return WeightsSpec(name="geoclip.v1", distribution="d", version="1", files=(file,), **facts)


def test_nobody_can_put_other_files_under_the_name_of_known_weights():
    with (
        pytest.raises(
            DuplicateNameError, match=r"the weights name 'geoclip\.v1' belongs to geoemb"
        ),
        isolated_plugins(Registers(spec("mine.v1", weights=weights()))),
    ):
        pass


def test_encoders_may_share_weights():
    shared = location_encoder_specs()["geoclip.v1"].weights
    with isolated_plugins(Registers(spec("mine.v1", weights=shared))):
        assert location_encoder_specs()["mine.v1"].weights == shared


def test_register_is_refused_after_the_hook():
    plugin = Registers()
    with (
        isolated_plugins(plugin),
        pytest.raises(PluginError, match="after its hook had returned"),
    ):
        plugin.register(spec("late.v1"))


def test_a_spec_class_is_not_a_spec():
    with (
        pytest.raises(PluginError, match="is registered as a LocationEncoderSpec"),
        isolated_plugins(Registers(LocationEncoderSpec)),
    ):
        pass


class Unhashable(Registers):
    __hash__ = None


def test_an_object_that_cannot_be_a_plugin_is_left_out():
    with (
        pytest.warns(GeoembedPluginWarning, match="TypeError: unhashable type: 'Unhashable'"),
        isolated_plugins(Unhashable(), Registers(spec("mine.v1")), strict=False),
    ):
        names = list(location_encoder_specs())
    assert names == [*BUILT_IN, "mine.v1"]


def test_an_entry_point_that_is_none_is_left_out():
    source = PluginSource("empty", "1", "entry point", (Part("empty:x", lambda: None),))
    host = PluginHost([built_in_source(), source])
    assert host.plugins[1].error == "empty:x has no function marked with @hookimpl"
    with pytest.warns(GeoembedPluginWarning, match="The plugin empty 1 was left out"):
        host.tell()


def test_failures_are_told_once():
    source = PluginSource("broken", "1", "entry point", (), problem="it is broken")
    host = PluginHost([source])
    with pytest.warns(GeoembedPluginWarning, match="it is broken") as caught:
        host.tell()
    assert [str(w.message) for w in caught] == [
        "The plugin broken 1 was left out: it is broken. Everything else works. "
        "Update it, or remove it with: pip uninstall broken"
    ]
    # A second warning would be an error here.
    host.tell()


def test_ctrl_c_while_loading_is_not_taken_for_a_failure():
    def interrupted():
        raise KeyboardInterrupt("by hand")

    source = PluginSource("slow", "1", "entry point", (Part("slow", interrupted),))
    with pytest.raises(KeyboardInterrupt, match="by hand"):
        PluginHost([source])


def test_a_failing_built_in_is_an_error():
    def fails():
        raise ValueError("ours to repair")

    source = PluginSource("geoembed", "1", "built-in", (Part("x", fails),))
    with pytest.raises(ValueError, match="ours to repair"):
        PluginHost([source])


def test_optional_hooks_of_newer_releases_are_accepted():
    class Newer(Registers):
        @hookimpl(optionalhook=True)
        def register_oracles(self, register):
            raise AssertionError("nobody calls it")

    with isolated_plugins(Newer(spec("newer.v1"))):
        assert "newer.v1" in location_encoder_specs()


@pytest.fixture
def fresh_host(monkeypatch):
    with manager.using(manager.host()):
        manager.reset()
        yield monkeypatch


def test_a_filter_that_turns_warnings_into_errors_does_not_undo_the_host(fresh_host):
    broken = PluginSource("broken", "1", "entry point", (), problem="it is broken")
    fresh_host.setattr(manager, "installed_sources", lambda: [broken])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(GeoembedPluginWarning, match="it is broken"):
            manager.host()
    assert list(location_encoder_specs()) == BUILT_IN


def test_the_host_is_built_once_by_many_threads(fresh_host):
    built = []
    fresh_host.setattr(manager, "installed_sources", lambda: built.append(1) or [])
    threads = [threading.Thread(target=location_encoder_specs) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1]
