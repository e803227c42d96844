"""The commands that list: encoders and plugins."""

import json

import pytest

from geoembed.cli.main import main
from geoembed.cli.output import table
from geoembed.extending import GeoembedPluginWarning, LocationEncoderSpec, hookimpl
from geoembed.testing import isolated_plugins


class Extra:
    @hookimpl
    def register_location_encoders(self, register):
        register(LocationEncoderSpec(name="extra.v1", factory="m:a", dimension=7, summary="More"))


@pytest.fixture(autouse=True)
def plugin():
    with isolated_plugins(Extra()):
        yield


def test_encoders_table(capsys):
    assert main(["encoders"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "dimension", "weights", "licence", "summary"]
    assert rows[0].startswith("geoclip.v1              512  ")
    assert rows[1].split()[:5] == ["lonlat", "2", "none", "needed", "-"]
    assert rows[-1].split() == ["extra.v1", "7", "none", "needed", "-", "More"]


@pytest.mark.parametrize("pattern", ["extra*", "EXTRA.V1", "*tra.v?"])
def test_encoders_pattern(capsys, pattern):
    assert main(["encoders", pattern, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["name"], row["dimension"], row["owner"]) == ("extra.v1", 7, "Extra 0")
    assert (row["weights"], row["weights_state"]) == (None, "none needed")


def test_encoders_json_carries_the_facts(capsys):
    main(["encoders", "geoclip.v1", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["licence"] == "MIT"
    assert row["details"]["projection"].startswith("Equal Earth")
    assert row["weights"] == "geoclip.v1"


def test_a_folder_of_a_model_is_described(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "bluemarble.v1", "-o", "small"]) == 0
    capsys.readouterr()
    assert main(["encoders", "small", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert (facts["name"], facts["dimension"]) == ("local.small", 256)
    assert facts["weights_state"] == "where you said"


def test_an_onnx_file_is_described_as_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--format", "onnx", "--int8", "--layers", "scale0+final"]
    assert main(["export", "bluemarble.v1", "-o", "small.onnx", *options]) == 0
    capsys.readouterr()
    assert main(["encoders", "small.onnx", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    told = ("name", "dimension", "backend", "precision", "layers", "licence", "details")
    expected = ("bluemarble.v1", 512, "onnx", "int8", "scale0+final", "MIT", {})
    assert tuple(facts[key] for key in told) == expected
    assert len(facts["weights_sha256"]) == 64
    assert main(["encoders", "small.onnx"]) == 0
    _, row, _, last = capsys.readouterr().out.splitlines()
    assert row.startswith("bluemarble.v1        512  where you said  MIT ")
    assert last == "ONNX file, computes in int8, layers scale0+final"
    # Of registered encoders nothing is said that only files have.
    main(["encoders", "bluemarble.v1", "--json"])
    (facts,) = json.loads(capsys.readouterr().out)
    assert "precision" not in facts
    assert facts["details"]["weights"] == "float16 in the file, computed in float32"


def test_encoders_that_match_nothing(capsys):
    assert main(["encoders", "geoclip.v7"]) == 1
    expected = "geoembed: error: There is no encoder named 'geoclip.v7'. "
    expected += "Close matches: 'geoclip.v1'.\n"
    assert capsys.readouterr() == ("", expected)


def test_plugins_table(capsys):
    assert main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == [
        "name", "version", "source", "status", "hooks", "registered",
    ]  # fmt: skip
    assert "Extra     0        entry point  loaded  register_location_encoders" in out
    assert "location encoder extra.v1" in out


def test_plugins_table_explains_failures(capsys):
    class Broken:
        @hookimpl
        def register_location_encoders(self, register):
            raise ValueError("no reason")

    with (
        pytest.warns(GeoembedPluginWarning, match="no reason"),
        isolated_plugins(Broken(), strict=False),
    ):
        assert main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("\nBroken 0 failed: ValueError: no reason\n")


def test_table_of_nothing_is_its_header():
    assert table(["name", "size"], []) == "name  size"
