"""Tests of the plugin, run against geoembed itself; no trained weights are needed."""

from dataclasses import replace

import geoembed_timm
import numpy as np
import pytest
import timm
import torch
from geoembed_timm import timm_spec
from safetensors.torch import save_file

from geoembed.errors import (
    MissingWeightsError,
    OfflineError,
    OptionError,
    UnknownNameError,
    WeightsError,
)
from geoembed.images import list_image_encoders, load_image_encoder
from geoembed.images.towers import tower_of
from geoembed.testing import check_image_encoder, check_light_import, isolated_plugins

# timm's own miniature transformer: 160 pixels, 96 values.
TINY = "test_vit.r160_in1k"


@pytest.fixture(autouse=True)
def only_this_plugin():
    with isolated_plugins(geoembed_timm):
        yield


@pytest.fixture(scope="module")
def spec():
    return timm_spec(TINY, fit="crop")


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = timm.create_model(TINY).eval()
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)
    return model


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("timm")
    save_file(network.state_dict(), folder / "model.safetensors")
    return folder


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_the_encoders_are_known_by_their_names():
    names = list_image_encoders("timm.*")
    assert names == sorted(spec.name for spec in geoembed_timm.IMAGE_ENCODERS)
    assert "timm.dinov2-b14" in names


@pytest.mark.parametrize("spec", geoembed_timm.IMAGE_ENCODERS, ids=lambda spec: spec.name)
def test_what_is_registered_is_what_timm_declares(spec):
    made = timm_spec(f"{spec.architecture}.{spec.pretrained}", fit=spec.preprocessing.fit)
    assert made.dimension == spec.dimension
    assert made.preprocessing == spec.preprocessing
    assert made.licence == spec.licence.lower()
    assert made.architecture == spec.architecture


def test_features_are_those_of_timm(spec, weights, network, pixels):
    encoder = load_image_encoder(spec, weights=weights, device="cpu")
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features(pixels), pre_logits=True)
    np.testing.assert_allclose(encoder.encode_pixels(pixels), expected.numpy(), atol=1e-5)
    assert encoder.location_encoder == ""


def test_patch_tokens_are_what_timm_pools(spec, weights, network, pixels):
    tower = tower_of(load_image_encoder(spec, weights=weights, device="cpu"))
    features, tokens = tower.patch_tokens(pixels)
    np.testing.assert_allclose(features, tower.features(pixels), atol=1e-6)
    with torch.inference_mode():
        expected = network.forward_intermediates(
            pixels, indices=1, norm=True, output_fmt="NLC", intermediates_only=True
        )[0]
    assert tokens.shape == (2, 100, 64)  # 10 x 10 patches of 16 pixels, no class token
    np.testing.assert_allclose(tokens, expected.numpy(), atol=1e-5)


def test_tokens_of_a_convolutional_tower_are_the_positions_of_its_map(tmp_path):
    network = timm.create_model("test_convnext.r160_in1k").eval()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    conv = timm_spec("test_convnext.r160_in1k", fit="crop")
    tower = tower_of(load_image_encoder(conv, weights=tmp_path, device="cpu"))
    pixels = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    features, tokens = tower.patch_tokens(pixels)
    with torch.inference_mode():
        final = network.forward_features(pixels)[0].permute(1, 2, 0)
    np.testing.assert_allclose(tokens[0, 5], final[1, 0].numpy(), atol=1e-5)  # row 1 of 5 columns
    np.testing.assert_allclose(features, tower.features(pixels), atol=1e-6)


def test_it_keeps_the_contract(spec, weights):
    check_image_encoder(load_image_encoder(spec, weights=weights, device="cpu"))


@pytest.mark.parametrize(
    ("options", "cosine"),
    [
        ({"precision": "bfloat16"}, 0.999),
        ({"precision": "float16"}, 0.9999),
        ({"channels_last": True}, 0.999999),
    ],
)
def test_options_that_change_rounding_only(spec, weights, pixels, options, cosine):
    plain = load_image_encoder(spec, weights=weights, device="cpu")
    other = load_image_encoder(spec, weights=weights, device="cpu", **options)
    one, two = plain.encode_pixels(pixels), other.encode_pixels(pixels)
    cosines = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    assert cosines.min() > cosine
    assert other.weights_sha256 == plain.weights_sha256


def test_files_of_other_formats(spec, network, pixels, weights, tmp_path):
    torch.save(network.state_dict(), tmp_path / "model.pth")
    one = load_image_encoder(spec, weights=tmp_path / "model.pth", device="cpu")
    other = load_image_encoder(spec, weights=weights / "model.safetensors", device="cpu")
    np.testing.assert_array_equal(one.encode_pixels(pixels), other.encode_pixels(pixels))


def test_weights_that_do_not_fit_are_refused(spec, network, tmp_path):
    tensors = network.state_dict()
    path = tmp_path / "model.safetensors"
    save_file({**tensors, "pos_embed": torch.zeros(1, 50, 64)}, path)
    with pytest.raises(WeightsError, match=r"pos_embed is \(1, 50, 64\), expected \(1, 101, 64\)"):
        load_image_encoder(spec, weights=path)
    save_file({name: t for name, t in tensors.items() if "blocks.0" not in name}, path)
    with pytest.raises(WeightsError, match="does not hold the weights of timm's test_vit.r160"):
        load_image_encoder(spec, weights=path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read as tensors"):
        load_image_encoder(spec, weights=path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds none of model.safetensors, pytorch_model.bin"):
        load_image_encoder(spec, weights=tmp_path / "empty")
    with pytest.raises(WeightsError, match="There is no weights file or folder"):
        load_image_encoder(spec, weights=tmp_path / "nowhere.pth")


def test_weights_are_found_in_the_cache(spec, weights, no_cache, pixels, monkeypatch):
    with pytest.raises(MissingWeightsError, match="hf download timm/test_vit.r160_in1k"):
        load_image_encoder(spec)
    with pytest.raises(MissingWeightsError, match="0.35 GB, Apache-2.0"):
        load_image_encoder("timm.dinov2-b14")
    monkeypatch.setenv("GEOEMBED_OFFLINE", "1")
    with pytest.raises(OfflineError, match="timm/test_vit.r160_in1k was not downloaded"):
        load_image_encoder(spec, allow_download=True)
    snapshot = no_cache / "models--timm--test_vit.r160_in1k" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(weights / "model.safetensors")
    found = load_image_encoder(spec, device="cpu").encode_pixels(pixels)
    named = load_image_encoder(spec, weights=weights, device="cpu").encode_pixels(pixels)
    np.testing.assert_array_equal(found, named)


def test_specs_of_models_that_geoembed_cannot_prepare_for():
    with pytest.raises(OptionError, match="crop_pct=0.9; geoembed resizes the shorter side"):
        timm_spec("vit_base_patch16_siglip_224.webli")
    with pytest.raises(UnknownNameError, match="There is no pretrained timm model named 'vit_x'"):
        timm_spec("vit_x")


def test_texts_are_refused(spec, weights):
    encoder = load_image_encoder(replace(spec), weights=weights, device="cpu")
    with pytest.raises(OptionError, match="reads no texts"):
        encoder.encode_text(["a fjord"])


def test_importing_the_plugin_is_light():
    check_light_import("geoembed_timm")
    with pytest.raises(AttributeError, match="no attribute 'towers'"):
        geoembed_timm.towers  # noqa: B018
