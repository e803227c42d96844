"""``geoembed export``."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from geoembed.cli.main import main
from geoembed.encoders import load_encoder
from geoembed.encoders.architecture import LocationArchitecture
from geoembed.training import card_measures
from geoembed.training.model_folder import write_model_folder
from geoembed.training.onnx_export import onnx_run
from geoembed.training.trained_model import TrainedModel


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(card_measures, "PLACES", 5)


@pytest.fixture
def small(tmp_path):
    torch.manual_seed(0)
    architecture = LocationArchitecture(
        projection="sphere", sigmas=(1.0, 8.0), frequencies=8, hidden=(16,), output=6
    )
    folder = tmp_path / "small"
    folder.mkdir()
    model = TrainedModel(name="small.v1", architecture=architecture, network=architecture.build())
    write_model_folder(model, folder)
    return folder


def run(capsys, *arguments):
    assert main(["export", *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def complaint(capsys, *arguments, code=1):
    assert main(["export", *map(str, arguments)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_a_folder_of_a_registered_encoder(capsys, tmp_path):
    target = tmp_path / "mine"
    said = run(capsys, "geoclip.v1", "-o", target, "--dtype", "float16", "--name", "mine.v1")
    assert said == f"{target}: mine.v1, places and pictures, 20.9 MB\n"
    config = json.loads((target / "config.json").read_text("utf-8"))
    assert config["name"] == "mine.v1"
    tensors = load_file(target / "model.safetensors")
    assert tensors["location_encoder.LocEnc0.head.0.weight"].dtype == torch.float16
    released = load_encoder("geoclip.v1", device="cpu", normalize=True).encode([7.5], [46.9])
    got = load_encoder(target, device="cpu", normalize=True).encode([7.5], [46.9])
    assert float((released * got).sum()) > 0.99999


def test_the_format_of_the_package_geoclip(capsys, tmp_path):
    said = run(capsys, "geoclip.v1", "-o", tmp_path / "places", "--format", "geoclip")
    assert "geoclip.v1, places alone, 37.8 MB" in said
    options = ("--format", "geoclip", "--gallery", "geoclip.100k")
    said = run(capsys, "geoclip.v1", "-o", tmp_path / "whole", *options)
    assert "geoclip.v1, places and pictures" in said
    assert len((tmp_path / "whole" / "gallery.csv").read_text().splitlines()) == 94_124


def test_onnx(capsys, small, tmp_path):
    target = tmp_path / "small.onnx"
    said = run(capsys, small, "-o", target, "--format", "onnx", "--layers", "scales", "--normalize")
    assert "small.onnx: " in said
    assert "off the encoder's vectors by " in said
    assert "at most, at 2,000 places" in said
    encoder = load_encoder(small, device="cpu", layers="scales", normalize=True)
    vectors = onnx_run(target)(np.array([7.5]), np.array([46.9]))
    assert np.abs(vectors - encoder.encode([7.5], [46.9])).max() < 1e-6


def test_torch(capsys, small, tmp_path):
    target = tmp_path / "small.pt2"
    run(capsys, small, "-o", target, "--format", "torch")
    program = torch.export.load(target).module()
    vectors = program(torch.tensor([7.5]).double(), torch.tensor([46.9]).double()).numpy()
    expected = load_encoder(small, device="cpu").encode([7.5], [46.9])
    assert np.abs(vectors - expected).max() < 1e-6


def test_what_is_there_stays_unless_told(capsys, small):
    said = complaint(capsys, "geoclip.v1", "-o", small)
    assert "small is there already" in said
    assert "--overwrite" in said
    run(capsys, small, "-o", small, "--overwrite", "--name", "small.v2")
    assert load_encoder(small).spec.summary == "Location encoder small.v2 read from small"


def test_what_a_format_cannot_hold_is_told_in_words_of_the_command_line(capsys, small, tmp_path):
    said = complaint(capsys, small, "-o", tmp_path / "out", "--format", "geoclip")
    assert "location.projection is 'sphere'" in said
    assert "--format geoembed" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--format", "tflite"), "--format tflite is not one of: geoembed, geoclip, onnx, torch"),
        (("--layers", "scales"), "--layers goes with --format onnx or torch, not geoembed"),
        (("--normalize",), "--normalize goes with --format onnx or torch, not geoembed"),
        (("--int8",), "--int8 goes with --format onnx, not geoembed"),
        (("--format", "torch", "--int8"), "--int8 goes with --format onnx, not torch"),
        (("--format", "onnx", "--dtype", "float16"), "--dtype goes with --format geoembed or geo"),
        (("--format", "torch", "--gallery", "x"), "--gallery goes with --format geoembed or geo"),
        (("--gallery", "cities"), "gallery= belongs to format='geoclip'"),
        (("--dtype", "int4"), "dtype='int4' is not one of: float32, float16"),
        (("--checkpoint", "last"), "is no run, it has no checkpoints"),
        (("--checkpoint", "12"), "is no run, it has no checkpoints"),
    ],
)
def test_options_that_do_not_fit_are_named(capsys, small, tmp_path, arguments, match):
    said = complaint(capsys, small, "-o", tmp_path / "out", *arguments)
    assert match in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_a_folder_is_no_name_of_a_file(capsys, small, tmp_path, format):
    said = complaint(capsys, small, "-o", f"{tmp_path}/new/", "--format", format)
    assert "/new/ is a folder's name; this export is a file" in said
    assert not (tmp_path / "new").exists()


def test_a_name_that_is_taken_is_told_in_words_of_the_command_line(capsys, small, tmp_path):
    target = tmp_path / "out.onnx"
    said = complaint(capsys, small, "-o", target, "--format", "onnx", "--name", "xyz")
    assert "On the command line: --name family.tag." in said


def test_sources_that_are_none_are_named(capsys, tmp_path):
    said = complaint(capsys, "geoclip.v9", "-o", tmp_path / "out")
    assert "geoclip.v1" in said
    assert "--output" in complaint(capsys, "geoclip.v1", code=2)
