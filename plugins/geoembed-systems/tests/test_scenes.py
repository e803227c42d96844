"""Scenes: numbers of names and back, clusters, and what a CLIP's prompts tell."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.pictures.scenes import (
    PROMPTS,
    SCENES,
    Scenes,
    cluster_scenes,
    label_scenes_by_text,
    scenes_to_learn,
)
from PIL import Image

from geoembed.errors import OptionError
from geoembed.images import ImageEmbeddings, load_image_encoder, make_views
from geoembed.testing import tiny_clip_spec, write_tiny_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    weights = write_tiny_clip(tmp_path_factory.mktemp("clip"))
    return load_image_encoder(tiny_clip_spec(), weights=weights)


def test_names_are_sorted_and_numbers_follow_them():
    scenes = Scenes.learn(["urban", "natural", "urban", "indoor"])
    assert scenes.names == SCENES
    assert len(scenes) == 3
    assert scenes.encode(["natural", "indoor"]).tolist() == [1, 0]
    assert scenes.encode(["natural"]).dtype == np.int64


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, "", "  "])
def test_a_missing_label_is_minus_one(missing):
    scenes = Scenes.learn(["a", missing, "b"])
    assert scenes.names == ("a", "b")
    assert scenes.encode(["b", missing]).tolist() == [1, -1]


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["b", "a", "b"]),
        pd.Series(["b", "a", "b"], index=[7, 8, 9]),
        pd.Categorical(["b", "a", "b"]),
        [" b", "a ", "b"],
    ],
)
def test_labels_come_in_every_usual_form(labels):
    assert Scenes.learn(labels).encode(labels).tolist() == [1, 0, 1]


def test_whole_numbers_stay_the_same_scene_where_a_missing_one_made_them_floats():
    scenes = Scenes.learn(pd.Series([3, 5]))
    assert scenes.encode(pd.Series([5, None, 3])).tolist() == [1, -1, 0]


def test_an_unseen_scene_is_refused_with_the_known_ones():
    scenes = Scenes(("indoor", "urban"))
    with pytest.raises(OptionError, match=r"'desert', 'sea', first in row 1.*'indoor', 'urban'"):
        scenes.encode(["urban", "sea", "desert", "sea"])
    with pytest.raises(OptionError, match=r" and 4 others, first in row 0"):
        scenes.encode([f"unknown {row}" for row in range(9)])


def test_one_scene_is_refused():
    with pytest.raises(OptionError, match="only 'urban'.*2 different scenes"):
        Scenes.learn(["urban", None, "urban"])
    with pytest.raises(OptionError, match="no label at all"):
        Scenes.learn([None, np.nan])
    assert Scenes.learn(["urban"], at_least=1).names == ("urban",)


@pytest.mark.parametrize("labels", ["urban", [["a", "b"]], np.zeros((2, 2)), 3, [["a"], "b"]])
def test_labels_that_are_no_column_are_refused(labels):
    with pytest.raises(OptionError, match="one label a picture"):
        Scenes.learn(labels)


def test_counts_are_by_name():
    assert Scenes(("a", "b", "c")).counts(["b", "a", "b", None]) == {"a": 1, "b": 2, "c": 0}


def test_clusters_are_numbered_from_the_largest():
    random = np.random.default_rng(0)
    truth = random.permutation(np.repeat([0, 1, 2], [30, 20, 10]))
    pooled = np.eye(3)[truth] * 9 + random.normal(size=(60, 3)) * 0.1
    labels = cluster_scenes(pooled, count=3)
    assert labels.tolist() == [f"cluster-{number + 1}" for number in truth]
    views = np.repeat(pooled[:, None], 2, axis=1)
    assert cluster_scenes(views, count=3).tolist() == labels.tolist()


def test_a_picture_without_features_has_no_cluster():
    pooled = np.array([[0.0, 0], [0, 0.1], [np.nan, np.nan], [9, 9]])
    features = PictureFeatures(pooled, errors=["", "", "cannot be read", ""])
    assert cluster_scenes(features, count=2).tolist() == [
        "cluster-1",
        "cluster-1",
        None,
        "cluster-2",
    ]


@pytest.mark.parametrize(
    ("labels", "names", "told"),
    [
        (None, None, ()),
        (["b", None, "a", "b"], ("a", "b"), ()),
        (["b", None, "b"], None, ("scenes= holds 'b' alone: learned as if no scenes were given",)),
        ([None, ""], None, ("scenes= holds no label at all: learned as if no scenes were given",)),
    ],
)
def test_fewer_than_two_scenes_are_as_good_as_none_and_that_is_told(labels, names, told):
    known, notes = scenes_to_learn(labels)
    assert (None if known is None else known.names) == names
    assert notes == told


def test_more_clusters_than_pictures_are_refused():
    with pytest.raises(OptionError, match="^count=.* more than there are different features"):
        cluster_scenes(np.eye(2), count=3)


def test_the_prompts_speak_of_the_three_published_scenes():
    assert tuple(PROMPTS) == SCENES
    texts = [text for several in PROMPTS.values() for text in several]
    assert len(texts) == len({*texts})


def pictures(count):
    random = np.random.default_rng(5)
    return [random.integers(0, 256, (60, 80, 3), dtype=np.uint8) for _ in range(count)]


def by_hand(rows, texts_of):
    """Name the scene with the largest cosine, one picture and one prompt at a time."""
    answers = []
    for row in rows:
        cosines = {}
        for scene, prompts in PROMPTS.items():
            directions = [texts_of([prompt])[0].astype(np.float64) for prompt in prompts]
            mean = sum(each / np.sqrt((each**2).sum()) for each in directions)
            cosines[scene] = (row @ mean) / np.sqrt((row @ row) * (mean @ mean))
        answers.append(max(cosines, key=cosines.get))
    return answers


def test_prompts_are_compared_with_pictures_in_the_towers_own_space(clip):
    given = pictures(6)
    labels = label_scenes_by_text(given, clip, progress=False)
    pixels = np.concatenate([clip_pixels(clip, each) for each in given])
    rows = clip.tower.features(torch.from_numpy(pixels)).numpy().astype(np.float64)
    expected = by_hand(rows, lambda texts: clip.tower.text_features(texts).numpy())
    assert labels.tolist() == expected
    assert label_scenes_by_text(rows.astype(np.float32), clip).tolist() == expected


def clip_pixels(clip, picture):
    return make_views(Image.fromarray(picture), clip.preprocessing, "none").numpy()


def test_embeddings_are_compared_above_the_head(clip):
    embeddings = clip.encode_images([*pictures(4), b"no picture"], progress=False)
    labels = label_scenes_by_text(embeddings, clip)
    assert labels[-1] is None
    rows = embeddings.vectors[:4].astype(np.float64)
    assert labels[:4].tolist() == by_hand(rows, clip.encode_text)


def test_a_feature_that_is_a_prompts_own_shows_its_scene(clip):
    for scene, prompts in PROMPTS.items():
        own = clip.tower.text_features(list(prompts)).numpy()
        mean = (own / np.linalg.norm(own, axis=1, keepdims=True)).mean(axis=0)
        assert label_scenes_by_text(mean[None] * 3, clip).tolist() == [scene]


def test_prompts_of_ones_own(clip):
    beach, forest = clip.tower.text_features(["a beach", "a forest"]).numpy()
    prompts = {"sea": "a beach", "wood": ["a forest"]}
    labels = label_scenes_by_text(np.stack([forest, beach]), clip, prompts)
    assert labels.tolist() == ["wood", "sea"]


def test_pictures_that_cannot_be_read_have_no_scene(clip):
    labels = label_scenes_by_text([b"no picture", *pictures(1)], clip, progress=False)
    assert labels[0] is None
    assert labels[1] in SCENES


def test_prompts_that_do_not_do_are_refused(clip):
    with pytest.raises(OptionError, match="two scenes at least"):
        label_scenes_by_text(np.zeros((1, 768)), clip, {"sea": "a beach"})
    with pytest.raises(OptionError, match="'wood' has no text"):
        label_scenes_by_text(np.zeros((1, 768)), clip, {"sea": "a beach", "wood": []})


def test_features_of_another_encoder_are_refused(clip):
    with pytest.raises(OptionError, match="length 512, .* length 768"):
        label_scenes_by_text(np.ones((2, 512)), clip)
    embeddings = ImageEmbeddings(["a"], np.ones((1, 768), np.float32), [""])
    with pytest.raises(OptionError, match="length 768, .* length 512"):
        label_scenes_by_text(embeddings, clip)


def test_an_encoder_without_texts_is_refused(clip, monkeypatch):
    silent = replace(clip.tower, texts=None)
    monkeypatch.setattr(type(clip), "tower", silent)
    with pytest.raises(OptionError, match="reads no texts"):
        label_scenes_by_text(np.ones((1, 768)), clip)
