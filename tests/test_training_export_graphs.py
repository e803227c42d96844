"""What `export_graph` takes, and what it refuses: sources, names and targets of single files."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from geoembed.encoders import load_encoder
from geoembed.encoders.architecture import LocationArchitecture
from geoembed.encoders.network import LocationNetwork
from geoembed.errors import OptionError, WeightsError
from geoembed.training import card_measures
from geoembed.training.export import export_graph, export_run, read_model
from geoembed.training.model_folder import write_model_folder
from geoembed.training.onnx_export import export_onnx
from geoembed.training.trained_model import TrainedModel


@pytest.fixture(autouse=True)
def quick_cards(monkeypatch):
    monkeypatch.setattr(card_measures, "PLACES", 5)


@pytest.fixture
def weights(tmp_path):
    """A file of weights."""
    torch.manual_seed(0)
    network = LocationNetwork((1.0, 16.0), hidden=(8, 8), output=4)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_the_best_layers_of_a_registered_encoder_go_with_it(tmp_path):
    file, folder = tmp_path / "blue.onnx", tmp_path / "blue"
    export_graph("bluemarble.v1", file, layers="best", name="mine.v1")
    export_run("bluemarble.v1", folder)
    export_graph(folder, tmp_path / "again.onnx", layers="best")
    place = [7.5], [46.9]
    expected = load_encoder("bluemarble.v1", layers="best").encode(*place)
    assert expected.shape == (1, 256)
    for source in (file, folder, tmp_path / "again.onnx"):
        encoder = load_encoder(source, layers="best")
        assert (encoder.layers, encoder.spec.best_layers) == ("final", "final")
        assert np.abs(encoder.encode(*place) - expected).max() < 1e-5


def test_best_layers_that_nobody_has_chosen_are_those_of_a_network_of_that_depth(weights, tmp_path):
    assert read_model(weights).best_layers == ""
    architecture = LocationArchitecture(frequencies=8, hidden=(8, 8, 8), output=4)
    for name, chosen, expected in (("a", "", "hidden0.1+hidden.2"), ("b", "scales", "scales")):
        (tmp_path / name).mkdir()
        made = {"architecture": architecture, "network": architecture.build()}
        model = TrainedModel(name="a.v1", best_layers=chosen, **made)
        write_model_folder(model, tmp_path / name)
        assert load_encoder(tmp_path / name, layers="best").layers == expected
        assert read_model(tmp_path / name).best_layers == chosen


@pytest.mark.parametrize("name", ["bluemarble.v1", "geoclip.v1", "xyz"])
def test_other_weights_do_not_get_the_name_of_a_registered_encoder(weights, tmp_path, name):
    match = f"weights.safetensors is called '{name}' and holds other weights.*name='family.tag'"
    with pytest.raises(OptionError, match=match):
        export_graph(weights, tmp_path / "claim.onnx", name=name)
    assert not (tmp_path / "claim.onnx").exists()


def test_a_folder_of_rounded_weights_needs_a_name_of_its_own(tmp_path):
    export_run("geoclip.v1", tmp_path / "half", dtype="float16")
    with pytest.raises(OptionError, match="half is called 'geoclip.v1' and holds other weights"):
        export_graph(tmp_path / "half", tmp_path / "half.onnx")


def test_a_file_that_claims_the_name_of_an_encoder_without_weights_is_refused(weights, tmp_path):
    export_onnx(load_encoder(weights, device="cpu"), tmp_path / "claim.onnx", name="xyz")
    with pytest.raises(WeightsError, match="says that it is 'xyz' and holds other weights"):
        load_encoder(tmp_path / "claim.onnx")


@pytest.mark.parametrize(
    ("target", "format", "match"),
    [
        ("plain", "onnx", r"plain does not end in \.onnx.* Call it plain\.onnx"),
        ("model.bin", "onnx", r"does not end in \.onnx"),
        ("new/", "onnx", "new/ is a folder's name; this export is a file"),
        ("new.onnx/", "onnx", "new.onnx/ is a folder's name"),
        ("new/", "torch", "new/ is a folder's name"),
        ("weights.safetensors", "torch", "weights.safetensors is what is exported.*would be lost"),
        ("./linked", "torch", "linked is what is exported"),
    ],
)
def test_targets_that_nothing_would_know_or_that_are_the_source(
    weights, tmp_path, monkeypatch, target, format, match
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "linked").symlink_to(weights)
    before = weights.read_bytes()
    with pytest.raises(OptionError, match=match):
        export_graph(weights, target, format=format, overwrite=True)
    assert weights.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["linked", "weights.safetensors"]


def test_files_of_the_source_folder_stay_and_exports_in_it_may_be_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    architecture = LocationArchitecture(frequencies=8, hidden=(8,), output=4)
    model = TrainedModel(name="a.v1", architecture=architecture, network=architecture.build())
    (tmp_path / "a").mkdir()
    write_model_folder(model, tmp_path / "a")
    for name in ("model.safetensors", "config.json"):
        with pytest.raises(OptionError, match="or a part of it, and would be lost"):
            export_graph("a", f"a/{name}", format="torch", overwrite=True)
    for _ in range(2):
        export_graph("a", "a/a.pt2", format="torch", overwrite=True)


def test_endings_are_known_in_capitals_too(weights, tmp_path):
    export_graph(weights, tmp_path / "U.ONNX", name="mine.v1")
    encoder = load_encoder(tmp_path / "U.ONNX")
    assert (encoder.backend, encoder.name) == ("onnx", "mine.v1")
    for missing in ("none.ONNX", "none.SAFETENSORS"):
        with pytest.raises(WeightsError, match=f"no weights file or folder {missing}"):
            load_encoder(missing)


@pytest.mark.parametrize("name", ["file.onnx", "FILE.ONNX"])
def test_an_onnx_file_is_no_source(tmp_path, name):
    (tmp_path / name).write_bytes(b"whatever")
    match = f"{name} is an ONNX file, whose weights cannot be taken out again. Give what it was"
    for export in (export_graph, export_run):
        with pytest.raises(OptionError, match=match):
            export(tmp_path / name, tmp_path / "out.onnx")


FULL = """
import resource, sys
from geoembed.training.export import export_graph, export_run
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
source, target = sys.argv[1:]
for export in (export_graph, export_run):
    try:
        export(source, target)
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of this kind")
def test_folders_that_are_full_are_named(weights, tmp_path):
    command = [sys.executable, "-c", FULL, weights, tmp_path / "out.onnx"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("TrainingError The temporary folder ")
    assert first.endswith(" Make room there, or set TMPDIR to another folder.")
    assert second.startswith(f"TrainingError {tmp_path}/out.onnx cannot be written: ")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]
