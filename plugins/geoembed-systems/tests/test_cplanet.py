"""CPlaNet: a world whose answer is known, scores by enumeration, saving, bad input."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from geoembed_systems.cplanet import CPlaNet
from geoembed_systems.pictures.features import PictureFeatures

from geoembed.errors import OptionError, SavedHeadError
from geoembed.geodesy import great_circle_km

TOWNS = 24
QUICK: dict[str, Any] = {
    "partitions": 4,
    "t_max": 45,
    "t_min": 5,
    "epochs": 25,
    "batch_size": 100,
    "learning_rate": 0.03,
    "progress": False,
    "device": "cpu",
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def world(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features that name the town, places in it, and its number."""
    drawn = np.random.default_rng(7)
    towns = np.column_stack([drawn.uniform(-170, 170, TOWNS), drawn.uniform(-60, 70, TOWNS)])
    names = drawn.normal(size=(TOWNS, 16))
    rng = np.random.default_rng(seed)
    # As many pictures of each, so that no cell holds two towns.
    town = rng.permutation(np.arange(count) % TOWNS)
    places = towns[town] + rng.normal(0.0, 0.02, (count, 2))
    return names[town] + rng.normal(0.0, 0.2, (count, 16)), places, towns[town]


@pytest.fixture(scope="module")
def fitted() -> CPlaNet:
    """Return a system that knows the world."""
    features, places, _ = world(1_000, seed=0)
    return CPlaNet(**QUICK).fit(features, places)


def test_it_learns_a_world_whose_answer_is_known(fitted: CPlaNet) -> None:
    features, places, towns = world(500, seed=1)
    found = fitted.predict(features)
    right = great_circle_km(*found.T, *towns.T) < 25.0
    assert right.mean() > 0.95
    assert (fitted.predict_cells(features) == fitted.partition_.locate(places)).mean() > 0.95
    # None of the partitions could tell it alone.
    assert max(fitted.combination_.sizes) < TOWNS / 2
    assert len(fitted.partition_) > TOWNS * 0.9


def test_scores_are_those_of_enumerating_the_intersections(fitted: CPlaNet) -> None:
    features, _, _ = world(40, seed=2)
    with torch.no_grad():
        logits = fitted.network_(torch.tensor(features, dtype=torch.float32))
    shares = [torch.softmax(rows.double(), dim=1).numpy() for rows in logits.values()]
    groups = fitted.combination_.groups
    scores = np.zeros((40, len(fitted.partition_)))
    fine = 0
    for key in product(*(range(size) for size in fitted.combination_.sizes)):
        cells = np.flatnonzero((key == groups.T).all(axis=1))
        if len(cells):
            number = fitted.partition_.owner[cells[0]]
            scores[:, number] = sum(rows[:, c] for rows, c in zip(shares, key, strict=True))
            fine += 1
    assert fine == len(fitted.partition_)
    wanted = scores / scores.sum(axis=1, keepdims=True)
    got = fitted.predict_proba(features)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(got.sum(axis=1), 1.0, rtol=1e-5)
    assert np.array_equal(fitted.predict(features), fitted.partition_.means[scores.argmax(axis=1)])


def test_a_product_is_the_product_of_the_probabilities(fitted: CPlaNet, tmp_path: Path) -> None:
    features, _, towns = world(200, seed=3)
    with torch.no_grad():
        logits = fitted.network_(torch.tensor(features, dtype=torch.float32))
    shares = [torch.softmax(rows.double(), dim=1).numpy() for rows in logits.values()]
    together = np.ones((200, len(fitted.partition_)))
    for rows, held in zip(shares, fitted.combination_.classes, strict=True):
        together *= rows[:, held]
    wanted = together / together.sum(axis=1, keepdims=True)
    other = CPlaNet.load(fitted.save(tmp_path / "saved"))
    other.combine = "product"
    np.testing.assert_allclose(other.predict_proba(features), wanted, rtol=1e-3, atol=1e-7)
    right = great_circle_km(*other.predict(features).T, *towns.T) < 25.0
    assert right.mean() > 0.95


def test_views_are_pooled(fitted: CPlaNet) -> None:
    features, _, _ = world(30, seed=4)
    views = np.stack([features, features + 0.3], axis=1)
    single = [fitted.predict_proba(views[:, number]) for number in range(2)]
    np.testing.assert_allclose(fitted.predict_proba(views), np.mean(single, axis=0), atol=1e-6)


def test_tokens_and_segments_beside_the_features_change_nothing(fitted: CPlaNet) -> None:
    features, _, _ = world(30, seed=5)
    beside = PictureFeatures(features, tokens=np.ones((30, 4, 3)), segments=np.ones((30, 2)))
    assert np.array_equal(fitted.predict(beside), fitted.predict(features))


def test_pictures_without_features_are_nan_and_lose_nothing(fitted: CPlaNet) -> None:
    features, _, _ = world(5, seed=6)
    given = PictureFeatures(features, errors=["", "", "broken", "", ""])
    with pytest.warns(UserWarning, match="broken"):
        found = fitted.predict(given)
    assert np.isnan(found[2]).all()
    rest = [0, 1, 3, 4]
    assert np.array_equal(found[rest], fitted.predict(features[rest]))


def test_a_saved_system_answers_the_same(fitted: CPlaNet, tmp_path: Path) -> None:
    features, _, _ = world(50, seed=7)
    read = CPlaNet.load(fitted.save(tmp_path / "saved"))
    assert np.array_equal(read.predict_proba(features), fitted.predict_proba(features))
    assert read.notes_ == fitted.notes_
    assert read.combination_.digest == fitted.combination_.digest
    with pytest.raises(SavedHeadError, match="exists already"):
        fitted.save(tmp_path / "saved")


def test_weights_with_a_partition_of_other_data_are_refused(fitted: CPlaNet) -> None:
    features, places, _ = world(700, seed=8)
    other = CPlaNet(**QUICK | {"epochs": 1}).fit(features, places)
    tensors, config = fitted._state()
    with pytest.raises(OptionError, match="partition of other data"):
        other._restore({k: np.asarray(v) for k, v in tensors.items()}, config)


def test_equal_seeds_give_equal_systems() -> None:
    features, places, _ = world(300, seed=9)
    quick = QUICK | {"epochs": 2}
    one, same, other = (
        CPlaNet(**quick, random_state=seed).fit(features, places).predict_proba(features[:20])
        for seed in (0, 0, 1)
    )
    assert np.array_equal(one, same)
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_a_hidden_layer_and_smoothed_targets_learn_too() -> None:
    features, places, towns = world(1_000, seed=10)
    system = CPlaNet(**QUICK, hidden=32, smooth_km=200.0).fit(features, places)
    right = great_circle_km(*system.predict(features).T, *towns.T) < 25.0
    assert right.mean() > 0.95
    assert system.network_.trunks[0][0].out_features == 32


def test_held_out_places_pick_the_best_network(tmp_path: Path) -> None:
    features, places, _ = world(600, seed=11)
    training = {"data.validation": 0.3, "validation.every": 1.0}
    system = CPlaNet(**QUICK | {"epochs": 4}, training=training, run_folder=tmp_path / "run")
    assert len(system.fit(features, places).predict(features)) == 600
    assert (tmp_path / "run").is_dir()


def test_what_does_not_fit_is_refused(fitted: CPlaNet) -> None:
    features, places, _ = world(100, seed=13)
    with pytest.raises(OptionError, match="combine='mean' is not offered: choose one of 'sum', 'p"):
        CPlaNet(**QUICK, combine="mean").fit(features, places)
    for hidden in (-1, 2.5, None, True):
        with pytest.raises(OptionError, match=r"hidden=.* does not fit: give the units"):
            CPlaNet(**QUICK, hidden=hidden).fit(features, places)
    with pytest.raises(OptionError, match="fewer points than one cell needs"):
        CPlaNet(**QUICK).fit(features[:4], places[:4])
    with pytest.raises(OptionError, match="lie in one cell, and one class is nothing to learn"):
        CPlaNet(**QUICK).fit(features[:50], np.tile(places[:1], (50, 1)))
    with pytest.raises(OptionError, match="partitions=1: give 2 or more"):
        CPlaNet(**QUICK | {"partitions": 1}).fit(features, places)
    with pytest.raises(OptionError, match="has learned from"):
        fitted.predict(features[:, :5])
    with pytest.raises(OptionError, match="does not choose by scene"):
        fitted.predict(features[:2], scenes=["urban", "urban"])
