"""Towers below trained layers: what goes into the head, frozen, whatever lies on top."""

import copy
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from torch import nn

from geoembed.errors import OptionError, PluginError
from geoembed.extending.image_specs import ImageEncoderSpec, Preprocessing
from geoembed.images import ImageEncoder, load_image_encoder
from geoembed.images.sides import image_side_of
from geoembed.images.towers import tower_of
from geoembed.testing import tiny_clip_spec, write_tiny_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def encoder(folder):
    return load_image_encoder(tiny_clip_spec(), weights=folder, device="cpu")


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(6, 3, 224, 224, generator=torch.Generator().manual_seed(0))


class Mean(ImageEncoder):
    weights_sha256 = ""

    def _encode_pixels(self, pixels):
        return pixels.mean(dim=(2, 3))


def mean_spec(**changes):
    return ImageEncoderSpec(
        name="mean.colour",
        factory="tests:none",
        dimension=3,
        preprocessing=Preprocessing(size=8, mean=(0.0,) * 3, std=(1.0,) * 3),
        summary="The mean colour of a picture",
        **changes,
    )


def test_the_tower_of_a_clip_gives_its_projected_feature(folder, encoder, pixels):
    tower = tower_of(encoder)
    assert (tower.dimension, tower.preprocessing) == (768, encoder.preprocessing)
    reference = open_clip.create_model(f"local-dir:{folder}").eval()
    with torch.no_grad():
        expected = reference.encode_image(pixels)
        texts = reference.encode_text(open_clip.get_tokenizer("ViT-L-14")(["a fjord", "a desert"]))
    torch.testing.assert_close(tower.features(pixels), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        tower.text_features(["a fjord", "a desert"]), texts, rtol=1e-4, atol=1e-5
    )
    assert tower.parameters == sum(p.numel() for p in encoder.network.parameters()) > 1000


def test_the_head_on_the_features_gives_the_encoders_vectors(encoder, pixels):
    head = image_side_of("geoclip.v1").network
    got = head(tower_of(encoder).features(pixels)).numpy()
    # The tower takes more pictures at a time, which rounds otherwise on some CPUs.
    np.testing.assert_allclose(got, encoder.encode_pixels(pixels), rtol=0, atol=2e-6)


def test_the_digest_is_that_of_the_tower_alone(folder, encoder, tmp_path):
    bare = replace(tiny_clip_spec(), name="tiny.bare", weights=None, dimension=768)
    same = load_image_encoder(bare, weights=folder, device="cpu")
    other = load_image_encoder(bare, weights=write_tiny_clip(tmp_path, seed=1), device="cpu")
    assert tower_of(same).sha256 == tower_of(encoder).sha256 == same.weights_sha256
    assert len(tower_of(same).sha256) == 64
    assert tower_of(other).sha256 != tower_of(same).sha256
    assert encoder.weights_sha256 != tower_of(encoder).sha256


def test_features_are_frozen_exact_and_fit_under_trained_layers(encoder, pixels):
    tower = tower_of(encoder)
    expected = tower.features(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tower.features(pixels), expected)
    assert not expected.requires_grad
    assert not expected.is_inference()
    layer = nn.Linear(768, 2)
    layer(expected).sum().backward()
    torch.testing.assert_close(layer.weight.grad[0], expected.sum(dim=0))


def test_patch_tokens_of_a_clip_are_those_of_open_clip_after_the_last_norm(encoder, pixels):
    features, tokens = tower_of(encoder).patch_tokens(pixels)
    torch.testing.assert_close(features, tower_of(encoder).features(pixels), rtol=1e-5, atol=1e-6)
    seen = []
    handle = encoder.network.ln_post.register_forward_hook(lambda *call: seen.append(call[2]))
    expected = tower_of(encoder).features(pixels)  # in parts of four
    handle.remove()
    torch.testing.assert_close(tokens, torch.cat(seen)[:, 1:], rtol=1e-5, atol=1e-6)
    # What the class token becomes is no patch; it becomes the feature.
    torch.testing.assert_close(torch.cat(seen)[:, 0] @ encoder.network.proj, expected)
    assert tokens.shape[1] == (224 // encoder.network.patch_size[0]) ** 2
    assert not tokens.requires_grad
    assert not tokens.is_inference()


def test_asking_for_tokens_leaves_the_encoder_as_it_was(encoder, pixels):
    before = encoder.encode_pixels(pixels)
    tower_of(encoder).patch_tokens(pixels)
    assert not encoder.network.output_tokens
    np.testing.assert_array_equal(encoder.encode_pixels(pixels), before)


def test_patches_see_their_own_part_of_a_picture_most(encoder, pixels):
    changed = pixels[:1].clone()
    side = encoder.network.patch_size[0]
    changed[:, :, -side:, :side] += 3  # the lower left corner
    tower = tower_of(encoder)
    moved = (tower.patch_tokens(changed)[1] - tower.patch_tokens(pixels[:1])[1])[0].norm(dim=1)
    across = 224 // side
    assert moved.argmax() == across * (across - 1)  # row by row from the upper left


def test_patch_tokens_of_a_trained_tower_are_the_map_of_its_moments():
    encoder = load_image_encoder("bluemarble.v1", device="cpu")
    size = encoder.preprocessing.size
    pixels = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    features, tokens = tower_of(encoder).patch_tokens(pixels)
    torch.testing.assert_close(features, tower_of(encoder).features(pixels))
    moments = torch.cat([tokens.mean(1), (tokens.var(1, correction=0) + 1e-5).sqrt()], dim=1)
    torch.testing.assert_close(moments, features, rtol=1e-5, atol=1e-6)


def test_towers_without_patches_and_no_pixels_are_refused(encoder, pixels):
    tower = tower_of(Mean(mean_spec(), device="cpu"))
    with pytest.raises(OptionError, match="'mean.colour' gives no patch tokens"):
        tower.patch_tokens(torch.rand(3, 3, 8, 8))
    with pytest.raises(OptionError, match="There are no pixels"):
        tower_of(encoder).patch_tokens(pixels[:0])


def test_parts_and_no_pictures_at_all(encoder, pixels):
    tower = replace(tower_of(encoder), rows=4)
    torch.testing.assert_close(
        tower.features(pixels), tower_of(encoder).features(pixels), rtol=1e-5, atol=1e-6
    )
    assert tower.features(pixels[:0]).shape == (0, 768)


def test_half_precision_gives_float32_near_the_exact_ones(folder, encoder, pixels):
    half = load_image_encoder(tiny_clip_spec(), weights=folder, device="cpu", precision="bfloat16")
    got = tower_of(half).features(pixels)
    assert got.dtype == torch.float32
    cosine = torch.cosine_similarity(got, tower_of(encoder).features(pixels))
    assert 0.999 < cosine.min() < 1 - 1e-7


def test_an_encoder_without_a_head_is_its_own_tower():
    encoder = Mean(mean_spec(), device="cpu")
    tower = tower_of(encoder)
    pixels = torch.rand(3, 3, 8, 8)
    np.testing.assert_array_equal(tower.features(pixels), encoder.encode_pixels(pixels))
    assert (tower.dimension, tower.sha256, tower.name) == (3, "", "mean.colour")
    with pytest.raises(OptionError, match=r"tower of the image encoder 'mean.colour' reads no te"):
        tower.text_features(["a fjord"])


def test_a_tower_is_not_copied_with_a_model(encoder):
    tower = tower_of(encoder)
    assert copy.deepcopy({"backbone": tower})["backbone"] is tower


def test_an_encoder_that_claims_to_read_texts_and_does_not_is_a_plugin_error():
    encoder = Mean(mean_spec(reads_text=True), device="cpu")
    with pytest.raises(PluginError, match="'mean.colour' is registered as one that reads texts"):
        encoder.encode_text(["a fjord"])
    with pytest.raises(PluginError, match="write _encode_texts, or register it with reads_text"):
        tower_of(encoder).text_features(["a fjord"])
