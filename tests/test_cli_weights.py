"""``geoembed weights``."""

import json
from importlib.metadata import PackageNotFoundError

import pytest

from geoembed.cli.main import main
from geoembed.testing import isolated_plugins


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "cache"))
    with isolated_plugins():
        yield


@pytest.fixture
def no_distribution(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("geoembed.weights.store.distribution", missing)


def test_list_shows_the_provenance(capsys):
    assert main(["weights", "list"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("geoclip.v1\n")
    for fact in (
        "geoclip 1.3.0 (a wheel)",
        "43.8 MB",
        "MIT",
        "https://arxiv.org/abs/2309.16020",
        "MP-16",
        "in the distribution: ",
        "94b80ae3af89fca78539e129dd2929d321247f5ceeeb0a31bc2c31041a253394",
    ):
        assert fact in out


def test_list_json(capsys):
    assert main(["weights", "list", "--json"]) == 0
    row, shipped = json.loads(capsys.readouterr().out)
    assert (shipped["name"], shipped["found"]) == ("bluemarble.v1", "package")
    assert (row["name"], row["found"], row["size"]) == ("geoclip.v1", "distribution", 43_769_772)
    assert [file["role"] for file in row["files"]] == [
        "location_encoder", "image_mlp", "logit_scale", "gallery",
    ]  # fmt: skip
    assert row["files"][0]["path"].endswith("location_encoder_weights.pth")


@pytest.mark.usefixtures("no_distribution")
def test_list_says_what_to_type_where_weights_are_missing(capsys):
    assert main(["weights", "list"]) == 0
    out = capsys.readouterr().out
    assert "found          nowhere; type: geoembed weights pull geoclip.v1" in out


@pytest.mark.usefixtures("no_distribution")
def test_encoders_say_that_weights_are_missing(capsys):
    main(["encoders", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["weights_state"] == "missing"


def test_pull_unknown_name(capsys):
    assert main(["weights", "pull", "geoclip"]) == 1
    expected = "There is no set of weights named 'geoclip'. Close matches: 'geoclip.v1'."
    assert expected in capsys.readouterr().err


@pytest.mark.usefixtures("no_distribution")
def test_pull_offline_is_refused(capsys, monkeypatch):
    monkeypatch.setenv("GEOEMBED_OFFLINE", "1")
    assert main(["weights", "pull", "geoclip.v1"]) == 1
    out, err = capsys.readouterr()
    assert "43.8 MB" in out
    assert "GEOEMBED_OFFLINE is set" in err


@pytest.mark.usefixtures("no_distribution")
def test_pull_from_something_that_is_no_wheel(capsys, tmp_path):
    wheel = tmp_path / "geoclip-1.3.0-py3-none-any.whl"
    wheel.write_bytes(b"no zip")
    assert main(["weights", "pull", "geoclip.v1", "--from", str(wheel)]) == 1
    err = capsys.readouterr().err
    assert str(wheel) in err
    assert "Traceback" not in err
