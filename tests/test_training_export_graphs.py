"""What `export_graph` takes, and what it refuses: sources, names and targets of single files."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from geoembed.encoders import load_encoder
from geoembed.encoders.architecture import LocationArchitecture
from geoembed.encoders.network import LocationNetwork
from geoembed.training import card_measures
from geoembed.training.export import export_graph, export_run, read_model
from geoembed.training.model_folder import write_model_folder
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
