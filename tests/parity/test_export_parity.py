"""Exported folders in the published package, and what it publishes here."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from geoclip import GeoCLIP
from geoclip import LocationEncoder as PublishedLocationEncoder
from geoclip.model import _hub as published_hub
from safetensors.torch import save_file
from torch.nn import functional

from geoembed.encoders import load_encoder
from geoembed.images import load_image_encoder
from geoembed.testing import tiny_clip_spec
from geoembed.training import card_measures
from geoembed.training.export import export_run
from geoembed.training.geoclip_format import write_geoclip_folder
from geoembed.training.graph_parity import parity_places
from geoembed.training.model import build_model
from geoembed.training.run_model import model_of_training
from geoembed.training.settings import TrainingSettings

LONLAT = parity_places(300)
LONLAT = LONLAT[np.abs(LONLAT[:, 0]) <= 180.0]
GALLERY = LONLAT[15:115]


@pytest.fixture(autouse=True)
def quick_cards(monkeypatch):
    monkeypatch.setattr(card_measures, "PLACES", 10)


@pytest.fixture(scope="module")
def trained():
    """A model as a run leaves it: everything of the released one moved, a scale added."""
    settings = TrainingSettings.model_validate(
        {
            "name": "moved.v1",
            "data": {"kind": "features", "path": "none"},
            "location": {"init": "geoclip.v1", "add_sigmas": [4096.0]},
            "image": {"init": "geoclip.v1"},
        }
    )
    model = build_model(settings, backbone=False, feature_dimension=768).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.02 * noise * parameter.std() if parameter.ndim else 0.1 * noise)
        model.location_encoder.LocEnc3.head[0].weight.normal_(0, 0.01, generator=generator)
    return model, model_of_training(model, settings)


def encoded(published):
    """Vectors of the published module at LONLAT; it takes latitude first, and float32."""
    with torch.inference_mode():
        return published(torch.from_numpy(LONLAT[:, ::-1].astype(np.float32))).numpy()


def exactly(published, lonlat):
    """The published capsules in float64, on points that are projected here."""
    exact = deepcopy(published).double()
    projected = torch.from_numpy(load_encoder("geoclip.v1", device="cpu").project(lonlat))
    with torch.inference_mode():
        return sum(exact._modules[f"LocEnc{i}"](projected) for i in range(exact.n)).numpy()


def test_the_published_location_encoder_loads_what_is_trained_here(trained, tmp_path):
    model, exported = trained
    write_geoclip_folder(exported, tmp_path)
    published = PublishedLocationEncoder.from_pretrained(tmp_path)
    assert published.sigma == [1, 16, 256, 4096]
    state = model.location_encoder.state_dict()
    assert set(published.state_dict()) == set(state)
    for key, tensor in published.state_dict().items():
        assert torch.equal(tensor, state[key]), key
    with torch.inference_mode():
        ours = model.encode_places(LONLAT).numpy()
    apart = np.linalg.norm(exactly(published, LONLAT) - ours, axis=1) / np.linalg.norm(ours, axis=1)
    assert apart.max() <= 5e-6


def test_the_published_location_encoder_loads_half_precision(trained, tmp_path):
    model, exported = trained
    write_geoclip_folder(exported, tmp_path, dtype="float16")
    published = PublishedLocationEncoder.from_pretrained(tmp_path).state_dict()
    for key, tensor in model.location_encoder.state_dict().items():
        exact = key.endswith(".capsule.0.b")
        assert torch.equal(published[key], tensor if exact else tensor.half().float()), key


@pytest.fixture(scope="module")
def whole(trained, tiny_clip, tmp_path_factory):
    """A full export, and the published model that was loaded from it on a tiny CLIP."""
    folder = tmp_path_factory.mktemp("whole")
    asked = []

    def no_download(**options):
        asked.append(options)
        return str(tiny_clip)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card_measures, "PLACES", 10)
        write_geoclip_folder(trained[1], folder, gallery=GALLERY)
        patch.setattr(published_hub, "snapshot_download", no_download)
        published = GeoCLIP.from_pretrained(folder)
    assert [(o["repo_id"], len(o["revision"])) for o in asked] == [
        ("openai/clip-vit-large-patch14", 40)
    ]
    return folder, published


def test_the_published_model_loads_a_full_export(trained, whole):
    model, _ = trained
    _, published = whole
    state = model.state_dict()
    got = published.state_dict()
    for key, tensor in state.items():
        assert torch.equal(got[key], tensor), key
    assert np.array_equal(published.gps_gallery.numpy(), GALLERY[:, ::-1].astype(np.float32))


def test_both_sides_give_the_same_logits(trained, whole, tiny_clip, sample_photo):
    model, _ = trained
    _, published = whole
    pixels = published.image_encoder.preprocess_image(sample_photo)
    tower = load_image_encoder(tiny_clip_spec(), weights=tiny_clip, device="cpu").tower
    # The package's float32 phases are too coarse for sigma = 4096.
    theirs = functional.normalize(torch.from_numpy(exactly(published.location_encoder, GALLERY)))
    with torch.inference_mode():
        pictures = functional.normalize(published.image_encoder(pixels)).double()
        expected = published.logit_scale.exp() * pictures @ theirs.T
        views = functional.normalize(model.encode_views(tower.features(pixels)))
        places = functional.normalize(model.encode_places(GALLERY))
        ours = model.logit_scale.exp() * views @ places.T
    assert (ours - expected).abs().max() <= 1e-5 * model.logit_scale.exp()


def test_what_is_published_is_read_bit_for_bit(tmp_path):
    """The released weights in the package's folder format, written from its own files."""
    (tmp_path / "theirs").mkdir()
    published = PublishedLocationEncoder()
    save_file(published.state_dict(), tmp_path / "theirs" / "model.safetensors")
    config = {"model_type": "geoclip-location-encoder", "format_version": 1, "sigma": [1, 16, 256]}
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(config), "utf-8")
    released = load_encoder("geoclip.v1", device="cpu")
    expected = released.encode(*LONLAT.T)
    export_run(tmp_path / "theirs", tmp_path / "own")
    export_run("geoclip.v1", tmp_path / "ours", format="geoclip", gallery="geoclip.100k")
    for folder in ("theirs", "own", "ours"):
        encoder = load_encoder(tmp_path / folder, device="cpu")
        assert np.array_equal(encoder.encode(*LONLAT.T), expected), folder
        assert encoder.weights_sha256 == released.weights_sha256


def test_the_published_float32_run_of_an_export_is_near(tmp_path):
    export_run("geoclip.v1", tmp_path / "out", format="geoclip")
    theirs = encoded(PublishedLocationEncoder.from_pretrained(tmp_path / "out"))
    ours = load_encoder(tmp_path / "out", device="cpu").encode(*LONLAT.T)
    apart = np.linalg.norm(theirs - ours, axis=1) / np.linalg.norm(ours, axis=1)
    assert apart.max() <= 2e-3
