"""GeoDecoder on a world whose answer is known, and its answers against enumeration."""

import copy

import numpy as np
import pytest
import torch
from geoembed_systems.cells.nesting import nested_partitions
from geoembed_systems.geodecoder import GeoDecoder
from geoembed_systems.pictures.features import PictureFeatures

from geoembed.errors import CoordinateError, OptionError, TableError, TrainingError
from geoembed.geolocation.queries import UnreadablePictureWarning

pytestmark = pytest.mark.usefixtures("one_thread")

TOWNS = np.array(
    [
        *([2.3, 48.9], [13.4, 52.5], [-3.7, 40.4], [28.0, -26.2], [36.8, -1.3], [3.4, 6.5]),
        *([139.7, 35.7], [77.2, 28.6], [151.2, -33.9], [-58.4, -34.6], [-99.1, 19.4]),
        [-74.0, 40.7],
    ]
)
SCENES = np.array(["north", "south", "west"], dtype=object)
CODES = np.random.default_rng(5).normal(size=(len(TOWNS), 8))


def world(count, seed):
    """Pictures of twelve towns: one patch, anywhere, tells the town, the others are noise."""
    rng = np.random.default_rng(seed)
    town = rng.integers(0, len(TOWNS), count)
    tokens = rng.normal(size=(count, 6, 8))
    tokens[np.arange(count), rng.integers(0, 6, count)] = 3 * CODES[town]
    features = PictureFeatures(tokens.mean(axis=1), tokens=tokens)
    return features, TOWNS[town] + rng.normal(0, 0.1, (count, 2)), town


def system(**changes):
    options = {
        "t_max": (200, 120, 60),
        "t_min": 5,
        "epochs": 12,
        "batch_size": 64,
        "learning_rate": 3e-3,
        "progress": False,
        "device": "cpu",
        **changes,
    }
    return GeoDecoder(**options)


@pytest.fixture(scope="module")
def learned():
    torch.set_num_threads(1)
    features, places, town = world(700, 1)
    return system().fit(features, places, scenes=SCENES[town % 3])


@pytest.fixture(scope="module")
def asked():
    return world(300, 2)


def test_it_learns_a_world_that_only_patches_tell(learned, asked):
    features, places, town = asked
    assert learned.score(features, places, threshold_km=150) > 0.95
    assert (learned.predict_scenes(features) == SCENES[town % 3]).mean() > 0.95


def test_it_learns_with_scenes_made_up(asked):
    features, places, _ = asked
    fitted = system(scenes=2).fit(*world(700, 1)[:2])
    assert fitted.score(features, places, threshold_km=150) > 0.95
    assert fitted.scenes_.names == ("cluster-1", "cluster-2")
    assert set(fitted.predict_scenes(features)) == {"cluster-1", "cluster-2"}
    assert "made up" in fitted.notes_[1]


def test_probabilities_are_the_product_over_the_cells_that_hold_each(learned, asked):
    features = asked[0].take(slice(20))
    with torch.no_grad():
        logits = learned.network_.answer(torch.from_numpy(features.flat()[:, 0]))
    p = {name: torch.softmax(values.double(), dim=1).numpy() for name, values in logits.items()}
    # Which cells hold a fine one is told by the places in it.
    _, places, _ = world(700, 1)
    expected = np.zeros((20, len(learned.partition_)))
    for coarse, middle, fine in learned.hierarchy_.locate(places):
        if fine >= 0:
            expected[:, fine] = p["fine"][:, fine] * p["middle"][:, middle] * p["coarse"][:, coarse]
    assert (expected > 0).all()
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(learned.predict_proba(features), expected, rtol=1e-3, atol=1e-6)


def test_views_are_pooled_into_one_distribution(learned, asked):
    features = asked[0]
    views = PictureFeatures(
        features.pooled[:40].reshape(20, 2, -1), features.tokens[:40].reshape(20, 2, 6, 8)
    )
    single = learned.predict_proba(features.take(slice(40))).reshape(20, 2, -1)
    np.testing.assert_allclose(learned.predict_proba(views), single.mean(axis=1), atol=1e-5)
    largest = copy.copy(learned).set_params(crop_pooling="max").predict_proba(views)
    expected = single.max(axis=1) / single.max(axis=1).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(largest, expected, atol=1e-5)


def test_blocks_of_rows_do_not_change_the_answers(learned, asked, monkeypatch):
    features = asked[0].take(slice(30))
    whole = learned.predict_proba(features)
    monkeypatch.setattr("geoembed_systems.networks.geodecoder_learning._VALUES_AT_ONCE", 7 * 300)
    np.testing.assert_allclose(learned.predict_proba(features), whole, atol=1e-6)
    np.testing.assert_array_equal(learned.predict(features).shape, (30, 2))


def test_scenes_that_are_known_choose_the_queries_and_unseen_ones_are_refused(learned, asked):
    features, _, town = asked
    scenes = SCENES[town % 3]
    told, free = learned.predict(features, scenes), learned.predict(features)
    assert (told == free).all(axis=1).mean() > 0.9
    wrong = SCENES[(town + 1) % 3]
    assert (learned.predict_proba(features, wrong) != learned.predict_proba(features)).any()
    np.testing.assert_array_equal(learned.predict(features, [None] * 300), free)
    with pytest.raises(OptionError, match="'moon'.*Known scenes: 'north', 'south', 'west'"):
        learned.predict(features, ["moon"] * 300)


def test_a_system_without_scenes_refuses_some(asked):
    features, places, _ = asked
    fitted = system(scenes=1, epochs=1).fit(features, places)
    with pytest.raises(OptionError, match="learned without scenes: leave scenes= out"):
        fitted.predict(features, ["north"] * 300)
    with pytest.raises(OptionError, match="learned without scenes: give fit some"):
        fitted.predict_scenes(features)


def test_the_same_seed_learns_the_same_and_another_does_not(asked):
    features, places, _ = asked
    one, two, other = (
        system(epochs=1, random_state=seed).fit(features, places).predict_proba(features)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.allclose(one, other, atol=1e-3)


def test_a_saved_system_answers_the_same(learned, asked, tmp_path):
    features, _, _ = asked
    folder = learned.save(tmp_path / "system")
    asked_for = ("predict_proba", "predict_scenes", "predict")
    again = GeoDecoder.load(folder)
    for name in asked_for:
        np.testing.assert_array_equal(
            getattr(again, name)(features), getattr(learned, name)(features)
        )
    assert again.notes_ == learned.notes_
    assert again.hierarchy_.digest == learned.hierarchy_.digest


def test_pooled_features_serve_as_one_token_where_that_is_asked_for(asked):
    rng = np.random.default_rng(0)
    town = rng.integers(0, len(TOWNS), 800)
    pooled = CODES[town] + rng.normal(0, 0.1, (800, 8))
    places = TOWNS[town] + rng.normal(0, 0.1, (800, 2))
    fitted = system(tokens="pooled", scenes=1).fit(pooled[:600], places[:600])
    assert fitted.score(pooled[600:], places[600:], threshold_km=150) > 0.95
    assert fitted.notes_ == ("queries look at: the pooled feature as a token", "scenes: none")
    assert fitted.scenes_ is None


def test_pooled_features_alone_are_refused_otherwise():
    features, places, _ = world(100, 1)
    with pytest.raises(OptionError, match=r"have none.*tokens=True.*tokens='pooled'"):
        system().fit(features.pooled, places)


def test_a_hierarchy_can_be_given_and_one_of_other_data_is_refused(asked):
    features, places, _ = asked
    own = nested_partitions(places, t_max=(100, 40), t_min=5)
    fitted = system(hierarchy=own, epochs=1).fit(features, places)
    assert fitted.hierarchy_ is own
    assert len(fitted.network_.heads) == 2
    sea = np.random.default_rng(0).normal([-140, -40], 0.5, (200, 2))
    other = nested_partitions(sea, t_max=(100, 40), t_min=5)
    with pytest.raises(OptionError, match="hierarchy= is a partition of other data: only 0 of 300"):
        system(hierarchy=other).fit(features, places)


def test_pictures_without_features_are_left_out_and_answered_with_nothing(asked):
    features, places, _ = asked
    pooled, tokens = features.pooled.copy(), features.tokens.copy()
    pooled[7], tokens[7] = np.nan, np.nan
    errors = ["It is damaged." if row == 7 else "" for row in range(300)]
    holed = PictureFeatures(pooled, tokens, errors=errors)
    with pytest.warns(UnreadablePictureWarning, match="1 of 300 pictures"):
        fitted = system(epochs=1).fit(holed, places)
    with pytest.warns(UnreadablePictureWarning, match="1 of 300 queries"):
        found = fitted.predict(holed)
    assert np.isnan(found).any(axis=1).nonzero()[0].tolist() == [7]
    assert fitted.predict_scenes(holed)[7] is None


def test_features_of_another_size_are_refused(learned):
    features, _, _ = world(5, 3)
    other = PictureFeatures(features.pooled[..., :4], tokens=features.tokens)
    with pytest.raises(OptionError, match="give features of the same image encoder"):
        learned.predict(other)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tokens": "all"}, "tokens='all' is not offered: choose one of 'patches', 'pooled'"),
        ({"scenes": 0}, "scenes=0 is no whole number"),
        ({"layers": 0}, "layers=0 is no whole number"),
        ({"heads": True}, "heads=True is no whole number"),
        ({"width": 30}, "width=30 is no multiple of heads=4"),
        ({"width": "wide"}, "width='wide' is no whole number"),
        ({"hidden": 0}, "hidden=0 is no whole number"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"scene_weight": -1}, "scene_weight=-1"),
        ({"hierarchy": "s2"}, "hierarchy='s2' is no Hierarchy"),
        ({"training": {"loop.steps_per_day": 3}}, "steps_per_day"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, told):
    features, places, _ = world(100, 1)
    with pytest.raises(OptionError, match=told):
        system(**options).fit(features, places)


def test_data_that_do_not_fit_are_refused():
    features, places, _ = world(100, 1)
    with pytest.raises(CoordinateError, match="99 places for 100 pictures"):
        system().fit(features, places[:99])
    with pytest.raises(TableError, match="99 scenes for 100 pictures"):
        system().fit(features, places, scenes=["a"] * 99)
    with pytest.raises(OptionError, match=r"one|no two|cell"):
        system().fit(features, np.tile([[2.35, 48.86]], (100, 1)))


def test_errors_name_its_own_options_where_pictures_are_all_alike():
    _, places, _ = world(100, 1)
    alike = PictureFeatures(np.ones((100, 4)), tokens=np.ones((100, 2, 4)))
    with pytest.raises(OptionError, match="^scenes=3 are more than .* different features, 1:"):
        system(scenes=3).fit(alike, places)


def test_a_fit_that_fails_leaves_the_system_as_it_was(learned, asked):
    features = asked[0]
    fitted = copy.copy(learned)
    before = fitted.predict_proba(features)
    with pytest.raises(OptionError, match=r"one|no two|cell"):
        fitted.fit(features, np.tile([[2.35, 48.86]], (300, 1)), scenes=["a", "b"] * 150)
    np.testing.assert_array_equal(fitted.predict_proba(features), before)


def test_a_run_with_a_folder_learns_the_same_and_is_taken_up_where_it_ended(asked, tmp_path):
    features, places, _ = asked
    options = {"epochs": 2, "run_folder": tmp_path / "run"}
    fitted = system(**options).fit(features, places)
    expected = system(epochs=2).fit(features, places).predict_proba(features)
    np.testing.assert_array_equal(fitted.predict_proba(features), expected)
    again = system(resume=True, **options).fit(features, places)
    np.testing.assert_array_equal(again.predict_proba(features), expected)
    with pytest.raises(TrainingError, match="layers|sizes|differ|other"):
        system(resume=True, layers=1, **options).fit(features, places)


def test_pictures_go_all_the_way_through_the_frozen_tower_with_crops_at_test_time():
    rng = np.random.default_rng(0)
    town = np.arange(60) % 3
    colours = np.array([[220, 40, 40], [40, 220, 40], [40, 40, 220]])
    pictures = rng.integers(0, 36, (60, 48, 64, 3)) + colours[town][:, None, None]
    pictures = pictures.astype(np.uint8)
    fitted = system(
        t_max=(60, 45, 25),
        t_min=2,
        scenes=1,
        image_encoder="bluemarble.v1",
        crops="five",
        batch_size=30,
        epochs=12,
    ).fit(pictures, TOWNS[town] + rng.normal(0, 0.01, (60, 2)))
    asked_for = [*pictures[:6], "gone.jpg"]
    with pytest.warns(UnreadablePictureWarning, match=r"gone.jpg: There is no such file"):
        found = fitted.predict(asked_for)
    np.testing.assert_allclose(found[:6], TOWNS[town[:6]], atol=0.1)
    assert np.isnan(found[6]).all()
    table = fitted.localize(asked_for, top_k=1, radii=False)
    assert table["error"].iloc[-1] == "There is no such file."
