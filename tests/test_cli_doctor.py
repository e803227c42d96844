"""``geoembed doctor`` finds what is wrong and says what to do."""

import json
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from geoembed.cli import checkup
from geoembed.cli.main import main
from geoembed.extending import GeoembedPluginWarning, LocationEncoderSpec, hookimpl
from geoembed.testing import isolated_plugins


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GEOEMBED_OFFLINE", raising=False)
    # Whatever machine runs the tests, threads are none of its problems.
    monkeypatch.setattr(checkup, "_cores", lambda: 10_000)
    with isolated_plugins():
        yield


def doctor(capsys):
    code = main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    return code, found, {problem["what"]: problem for problem in found["problems"]}


def test_nothing_is_wrong_here(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("\nNothing is wrong.\n")
    assert "  geoclip.v1     in the distribution\n" in out
    assert "  bluemarble.v1  in the package\n" in out
    assert "devices: cpu" in out


def test_facts(capsys, tmp_path):
    code, found, _ = doctor(capsys)
    assert code == 0
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert found["geoembed"] == "0.1.0"
    assert found["packages"]["torch"]
    assert found["cache"] == {"folder": str(tmp_path / "cache"), "writable": True}
    assert found["offline"] is False
    assert found["threads"]["torch"] >= 1
    # Looking leaves nothing behind.
    assert not (tmp_path / "cache").exists()


def test_missing_weights(capsys, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("geoembed.weights.store.distribution", missing)
    code, _, problems = doctor(capsys)
    assert code == 1
    assert problems == {
        "the trained weights geoclip.v1 (44 MB) are not here": {
            "what": "the trained weights geoclip.v1 (44 MB) are not here",
            "do": "geoembed weights pull geoclip.v1",
            "essential": True,
        }
    }


def test_damaged_weights(capsys, monkeypatch):
    monkeypatch.setattr("geoembed.weights.store.digest_file", lambda path: "0" * 64)
    code, _, problems = doctor(capsys)
    assert code == 1
    remedies = {what.partition(" are damaged: ")[0]: p["do"] for what, p in problems.items()}
    assert remedies["the weights geoclip.v1"] == "geoembed weights pull geoclip.v1 --force"
    assert set(remedies) == {"the weights geoclip.v1", "the weights bluemarble.v1"}


def test_cache_that_cannot_be_written(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "file" / "cache"))
    code, found, problems = doctor(capsys)
    assert code == 0
    assert found["cache"]["writable"] is False
    assert next(iter(problems)).endswith("cannot be written")


def test_missing_and_old_packages(capsys, monkeypatch):
    def version(name):
        if name == "pyogrio":
            raise PackageNotFoundError(name)
        return {"pyproj": "3.5.9+local", "matplotlib": "3.7.0"}.get(name, "999")

    monkeypatch.setattr(checkup, "version", version)
    code, found, problems = doctor(capsys)
    assert code == 1
    assert found["packages"]["pyogrio"] is None
    assert problems["the package pyogrio is not installed"]["essential"]
    assert problems["pyproj 3.5.9+local is older than 3.6"]["essential"]
    assert not problems["matplotlib 3.7.0 is older than 3.8"]["essential"]


def test_more_threads_than_cores(capsys, monkeypatch):
    monkeypatch.setattr(checkup, "_cores", lambda: 0)
    code, _, problems = doctor(capsys)
    assert code == 0
    ((what, problem),) = problems.items()
    assert "threads on 0 cores" in what
    assert problem["do"] == "set OMP_NUM_THREADS=0"


class Broken:
    @hookimpl
    def register_location_encoders(self, register):
        raise ValueError("no reason")


class Unusable:
    @hookimpl
    def register_location_encoders(self, register):
        register(
            LocationEncoderSpec(name="bad.v1", factory="no_such:load", dimension=1, summary="s")
        )


def test_plugins_are_problems_that_the_rest_survives(capsys):
    with (
        pytest.warns(GeoembedPluginWarning, match="no reason"),
        isolated_plugins(Broken(), Unusable(), strict=False),
    ):
        code = main(["doctor"])
    out = capsys.readouterr().out
    assert code == 0
    assert "What is wrong, and what to do:\n  1. the plugin Broken 0 was left out" in out
    assert "2. the encoder bad.v1 cannot be used: The factory 'no_such:load' of Unusable 0" in out
    assert out.count("(the rest works)") == 2


def test_slow_plugins_are_named(capsys, monkeypatch):
    monkeypatch.setattr(checkup, "SLOW_PLUGIN", -1.0)
    with isolated_plugins(Unusable()):
        _, _, problems = doctor(capsys)
    assert any("the plugin Unusable takes 0.0 s to load" in what for what in problems)


def test_a_check_that_fails_is_a_problem(capsys, monkeypatch):
    def fails(findings):
        raise RuntimeError("driver gone")

    monkeypatch.setattr(checkup, "_devices", fails)
    code, _, problems = doctor(capsys)
    assert code == 1
    assert "the check of fails failed: RuntimeError: driver gone" in problems
