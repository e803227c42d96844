"""The card of an exported model: everything stands on it, and what it measures is measured."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geoembed.encoders import load_encoder
from geoembed.galleries import places_of
from geoembed.geodesy import destination, distance_km
from geoembed.training import card_measures
from geoembed.training.card import card_text
from geoembed.training.card_measures import lowest_cosine, similarity_by_distance
from geoembed.training.model import build_model
from geoembed.training.model_folder import stored
from geoembed.training.run_model import model_of_training
from geoembed.training.settings import TrainingSettings
from geoembed.training.trained_model import model_of_name

STORY = {
    "data": {"pictures": "6,000", "held out": "600 in 31 blocks"},
    "recipe": {"optimiser": "Adam, 3e-05"},
    "results": {"median distance": "1,234 km | far"},
}


@pytest.fixture(scope="module")
def model():
    settings = TrainingSettings.model_validate(
        {
            "name": "small.v1",
            "summary": "A small pair",
            "licence": "CC0-1.0",
            "training_data": "Random pictures of nothing",
            "data": {"kind": "bluemarble"},
            "location": {"sigmas": [1.0, 16.0], "frequencies": 8, "hidden": [16], "output": 10},
            "image": {"tower": "convnet", "size": 16, "widths": [8, 16], "head": [12]},
        }
    )
    return model_of_training(build_model(settings), settings, STORY)


@pytest.fixture(scope="module")
def card(model):
    return card_text(model, model.tensors(), format="geoembed")


def section(text, title):
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_section_says_what_is_known(model, card):
    assert card.startswith("---\nlicense: cc0-1.0\nlibrary_name: geoembed\ntags:\n- geospatial\n")
    assert "\n# small.v1\n\nA small pair\n" in card
    what = section(card, "What it is")
    for text in ("equal-earth", "sigma = 1, 16", "hidden layers 16", "pictures of 16 pixels"):
        assert text in what
    assert model.location_sha256() in what
    data = section(card, "Data")
    assert "Random pictures of nothing" in data
    assert "| held out | 600 in 31 blocks |" in data
    assert "| optimiser | Adam, 3e-05 |" in section(card, "Recipe")
    # A bar would open another column.
    assert "| median distance | 1,234 km \\| far |" in section(card, "Results")
    assert section(card, "Licence").strip() == "CC0-1.0"
    assert "torn at the antimeridian" in section(card, "Limits")


def test_what_is_not_known_is_said(model):
    bare = replace(model, licence="", training_data="", story={}, summary="")
    card = card_text(bare, model.tensors(), format="geoembed")
    assert "license: other\n" in card
    assert "license_name" not in card
    assert "Not stated. Ask whoever trained it" in section(card, "Licence")
    assert section(card, "Data").strip() == "Not stated."
    assert section(card, "Recipe").strip() == "Not recorded."
    assert "Not measured on held-out places." in section(card, "Results")


def test_a_licence_of_its_own_words_is_named(model):
    card = card_text(replace(model, licence='Ask "us"'), model.tensors(), format="geoembed")
    assert 'license: other\nlicense_name: "Ask \\"us\\""\n' in card


def test_a_map_without_seams_has_no_such_limit(model):
    made = replace(model.architecture, projection="sphere")
    whole = replace(model, architecture=made, network=made.build())
    assert "torn" not in card_text(whole, whole.tensors(), format="geoembed")


def test_the_code_on_the_card_runs(model, card, tmp_path, monkeypatch):
    from geoembed.training.model_folder import write_model_folder

    folder = tmp_path / "folder"
    folder.mkdir()
    write_model_folder(model, folder)
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.S)
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 20), "seagreen").save("picture.jpg")
    found = {}
    exec(code.replace("path/to/this/folder", str(folder)).replace("grid(100", "grid(2000"), found)
    assert found["vectors"].shape == (1, 10)
    assert len(found["answers"])


@pytest.mark.parametrize("images", [True, False])
def test_the_card_of_a_geoclip_folder_shows_the_package(images, monkeypatch):
    monkeypatch.setattr(card_measures, "PLACES", 5)
    model = model_of_name("geoclip.v1")
    card = card_text(model, model.tensors(), format="geoclip", images=images)
    loading = section(card, "How to load it")
    assert ("GeoCLIP.from_pretrained" in loading) == images
    assert ("LocationEncoder.from_pretrained" in loading) == (not images)
    assert ("image side" in section(card, "What it is")) == images
    assert "library_name: geoclip\n" in card
    assert "NeurIPS 2023" in card


def test_similarity_is_that_of_encoded_places(monkeypatch):
    monkeypatch.setattr(card_measures, "PLACES", 30)
    found = similarity_by_distance(model_of_name("geoclip.v1"))
    encoder = load_encoder("geoclip.v1", device="cpu", normalize=True)
    cities = places_of("cities").lonlat
    cities = cities[np.linspace(0, len(cities) - 1, 30).astype(int)]
    for km, cosine in found.items():
        total = 0.0
        for number, (lon, lat) in enumerate(cities):
            other = destination(lon, lat, 90.0 * number, km)
            assert distance_km(lon, lat, *other) == pytest.approx(km, rel=1e-6)
            pair = encoder.encode([lon, float(other[0])], [lat, float(other[1])])
            total += float(pair[0] @ pair[1])
        assert cosine == pytest.approx(total / 30, abs=1e-4)
    assert list(found) == [1.0, 10.0, 100.0, 1000.0]
    assert found[1.0] > 0.98 > found[10.0] > found[100.0] > found[1000.0]


def test_half_precision_is_measured_and_told(monkeypatch):
    monkeypatch.setattr(card_measures, "PLACES", 20)
    model = model_of_name("geoclip.v1")
    tensors = stored(model.tensors(), "float16")
    cosine = lowest_cosine(model, tensors)
    assert 0.99999 < cosine < 1.0
    card = card_text(model, tensors, format="geoembed")
    assert f"vectors of float32 weights is {int(cosine * 1e6) / 1e6} or more." in card
    assert "| weights | float16 and float32 |" in card
    assert "float16" not in card_text(model, model.tensors(), format="geoembed")
    # Weights that are far off are seen.
    off = {key: -tensor if ".head." in key else tensor for key, tensor in tensors.items()}
    assert lowest_cosine(model, off) == pytest.approx(-1.0, abs=1e-4)


def test_cards_name_no_paths_of_this_machine(card):
    assert str(Path.home()) not in card
    assert torch.__file__ not in card
