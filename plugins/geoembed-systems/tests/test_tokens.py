"""Patch tokens of towers, told by what the towers pool; and fewer of them."""

import numpy as np
import open_clip
import pytest
import torch
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.pictures.tokens import coarser_tokens, features_and_tokens, needs_patches

from geoembed.errors import OptionError
from geoembed.extending.image_specs import ImageEncoderSpec, Preprocessing
from geoembed.images import ImageEncoder, load_image_encoder
from geoembed.images.towers import tower_of
from geoembed.testing import tiny_clip_spec, write_tiny_clip


class Mean(ImageEncoder):
    weights_sha256 = ""

    def _encode_pixels(self, pixels):
        return pixels.mean(dim=(2, 3))


@pytest.fixture
def without_patches():
    spec = ImageEncoderSpec(
        name="mean.colour",
        factory="tests:none",
        dimension=3,
        preprocessing=Preprocessing(size=8, mean=(0.0,) * 3, std=(1.0,) * 3),
        summary="The mean colour of a picture",
    )
    return tower_of(Mean(spec, device="cpu"))


def random_pixels(count, size):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_the_feature_of_a_trained_tower_is_made_of_its_tokens():
    tower = tower_of(load_image_encoder("bluemarble.v1", device="cpu"))
    pixels = random_pixels(5, tower.preprocessing.size)
    features, tokens = features_and_tokens(tower, pixels)
    torch.testing.assert_close(features, tower.features(pixels))
    half = tower.dimension // 2
    assert tokens.shape[2] == half
    torch.testing.assert_close(tokens.mean(dim=1), features[:, :half], rtol=1e-5, atol=1e-6)


def test_tokens_of_a_clip_are_those_of_open_clip(tmp_path):
    folder = write_tiny_clip(tmp_path)
    encoder = load_image_encoder(tiny_clip_spec(), weights=folder, device="cpu")
    pixels = random_pixels(2, 224)
    features, tokens = features_and_tokens(tower_of(encoder), pixels)
    reference = open_clip.create_model(f"local-dir:{folder}").eval().visual
    reference.output_tokens = True
    with torch.no_grad():
        expected_features, expected_tokens = reference(pixels)
    torch.testing.assert_close(features, expected_features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tokens, expected_tokens, rtol=1e-4, atol=1e-5)


def test_a_tower_without_patches_is_refused_with_the_names_of_those_that_have_some(
    without_patches,
):
    with pytest.raises(OptionError, match=r"'mean.colour' gives none.*CLIPs.*bluemarble.*timm"):
        needs_patches(without_patches)
    with pytest.raises(OptionError, match="PictureFeatures"):
        features_and_tokens(without_patches, random_pixels(1, 8))


def test_coarser_tokens_are_means_over_blocks_of_neighbouring_patches():
    rng = np.random.default_rng(0)
    grid = rng.normal(size=(3, 2, 6, 6, 5)).astype(np.float32)
    shares = rng.random((3, 2, 6, 6, 4)).astype(np.float32)
    features = PictureFeatures(
        np.ones((3, 2, 7)),
        tokens=grid.reshape(3, 2, 36, 5),
        segments=shares.reshape(3, 2, 36, 4),
        names=["a", "b", "c"],
    )
    coarse = coarser_tokens(features, 2)
    for token, (row, column) in enumerate([(0, 0), (0, 3), (3, 0), (3, 3)]):
        block = np.s_[:, :, row : row + 3, column : column + 3]
        np.testing.assert_allclose(
            coarse.tokens[:, :, token], grid[block].mean(axis=(2, 3)), atol=1e-6
        )
        np.testing.assert_allclose(
            coarse.segments[:, :, token], shares[block].mean(axis=(2, 3)), atol=1e-6
        )
    assert coarse.names == features.names
    np.testing.assert_array_equal(coarse.pooled, features.pooled)


def test_segments_of_whole_pictures_and_errors_stay_as_they_are():
    tokens = np.ones((2, 4, 3))
    tokens[1] = np.nan
    features = PictureFeatures(
        np.array([[1.0], [np.nan]]), tokens, np.array([[0.5], [np.nan]]), errors=["", "gone"]
    )
    coarse = coarser_tokens(features, 1)
    assert coarse.errors == ["", "gone"]
    assert coarse.tokens[:, 0, 0, 0].tolist()[0] == 1.0
    assert np.isnan(coarse.tokens[1]).all()
    assert coarse.segments.shape == (2, 1, 1)


@pytest.mark.parametrize(
    ("shape", "side", "told"),
    [
        (None, 2, "no patch tokens"),
        ((3, 15, 2), 2, "15 tokens are no square grid"),
        ((3, 16, 2), 3, "side=3 does not divide the 4 patches"),
        ((3, 16, 2), 0, "side=0 is no whole number"),
    ],
)
def test_what_cannot_become_coarser_is_refused(shape, side, told):
    tokens = None if shape is None else np.zeros(shape)
    with pytest.raises(OptionError, match=told):
        coarser_tokens(PictureFeatures(np.zeros((3, 4)), tokens=tokens), side)
