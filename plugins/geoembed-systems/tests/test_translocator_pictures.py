"""TransLocator on pictures, with the tokens of their tower and without."""

import numpy as np
import pytest
from geoembed_systems.pictures.reading import read_picture_features
from translocator_towns import TOWNS, accuracy, system, towns

from geoembed.images import load_image_encoder
from geoembed.testing import tiny_clip_spec, write_tiny_clip

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    weights = write_tiny_clip(tmp_path_factory.mktemp("clip"))
    return load_image_encoder(tiny_clip_spec(), weights=weights)


def coloured(town, seed=0):
    """Return pictures whose colour tells the town."""
    random = np.random.default_rng(seed)
    colours = np.random.default_rng(1).integers(0, 256, (len(TOWNS), 3))
    return [
        np.clip(colours[each] + random.normal(0, 4, (48, 64, 3)), 0, 255).astype(np.uint8)
        for each in town
    ]


def test_pictures_are_learned_with_the_tokens_of_their_tower(clip):
    town, lonlat = towns(54)
    options = {"t_max": (30, 15, 8), "t_min": 2, "epochs": 15, "batch_size": 16}
    fitted = system(**options, image_encoder=clip).fit(coloured(town), lonlat)
    assert fitted.fusion_ == "layers"
    unseen, there = towns(18, seed=3)
    assert accuracy(fitted, coloured(unseen, seed=3), there) > 0.95


def test_a_system_that_learned_from_pooled_features_reads_pictures_without_their_tokens(clip):
    town, lonlat = towns(54)
    pooled = clip_features(clip, coloured(town))
    options = {"t_max": (30, 15, 8), "t_min": 2, "epochs": 40, "batch_size": 16}
    fitted = system(**options, image_encoder=clip).fit(pooled, lonlat)
    assert fitted.fusion_ == "gated"
    unseen, there = towns(18, seed=3)
    assert accuracy(fitted, coloured(unseen, seed=3), there) > 0.95


def clip_features(clip, pictures):
    return read_picture_features(pictures, image_encoder=clip, progress=False).pooled
