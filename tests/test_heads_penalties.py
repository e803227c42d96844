import numpy as np
import pytest
from sklearn.model_selection import KFold

import geoembed as ge
from geoembed.errors import OptionError
from geoembed.heads.penalties import validation_pairs
from geoembed.splits import SpatialBlockKFold


def scattered(rows, seed=0):
    random = np.random.default_rng(seed)
    return np.column_stack([random.uniform(-60, 60, rows), random.uniform(-50, 60, rows)])


def test_few_rows_get_five_folds_of_whole_blocks():
    lonlat = scattered(600)
    pairs = validation_pairs(lonlat, None, "spatial", 0)
    assert len(pairs) == 5
    block = SpatialBlockKFold(5, block_km=500).block_ids(lonlat)
    for learn, score in pairs:
        assert not set(block[learn]) & set(block[score])
    assert np.sort(np.concatenate([score for _, score in pairs])).tolist() == list(range(600))


def test_many_rows_get_one_hold_out_of_a_fifth():
    ((learn, score),) = validation_pairs(scattered(4000), None, "spatial", 0)
    assert len(score) == pytest.approx(800, abs=80)
    assert len(learn) + len(score) == 4000


def test_blocks_are_as_small_as_the_region_asks_for():
    city = np.array([13.4, 52.5]) + scattered(500) / 1000
    pairs = validation_pairs(city, None, "spatial", 0)
    assert len(pairs) == 5
    # Within one place there are no blocks: the model chooses rows at random.
    assert validation_pairs(np.zeros((500, 2)), None, "spatial", 0) is None


def test_random_and_unknown_places_leave_it_to_the_model():
    assert validation_pairs(scattered(50), None, "random", 0) is None
    assert validation_pairs(None, None, "spatial", 0) is None


def test_classes_that_are_not_learned_are_not_scored():
    lonlat = scattered(600)
    labels = np.where(lonlat[:, 0] > 50, "east", np.where(lonlat[:, 1] > 0, "north", "south"))
    for learn, score in validation_pairs(lonlat, labels, SpatialBlockKFold(5, block_km=3000), 0):
        assert set(labels[score]) <= set(labels[learn])


def test_a_splitter_of_ones_own_is_taken():
    assert len(validation_pairs(scattered(60), None, KFold(3), 0)) == 3


@pytest.mark.parametrize("validation", ["blocks", 5, None])
def test_nonsense_is_refused(validation):
    with pytest.raises(OptionError, match=r"choose 'spatial' or 'random', or give a splitter"):
        ge.LocationRegressor("xyz", validation=validation).fit(scattered(60), np.arange(60.0))


def test_a_penalty_chosen_in_space_is_stronger_and_serves_new_regions_better():
    # A smooth field, features that can tell neighbours, noise that is shared by neighbours.
    lonlat = scattered(1500)
    random = np.random.default_rng(1)
    sites = scattered(150, seed=2)
    nearest = np.argmin(np.hypot(*(lonlat[:, None] - sites[None]).transpose(2, 0, 1)), axis=1)
    y = np.sin(np.radians(2 * lonlat[:, 1])) + random.normal(size=150)[nearest]
    heads = {
        validation: ge.LocationRegressor("rff.s16", validation=validation, coverage=None)
        for validation in ("random", "spatial")
    }
    train, test = ge.splits.spatial_holdout(lonlat, 0.3, block_km=1000)
    scores = {}
    for name, head in heads.items():
        scores[name] = head.fit(lonlat[train], y[train]).score(lonlat[test], y[test])
    assert heads["spatial"].model_.alpha_ > heads["random"].model_.alpha_
    assert scores["spatial"] > scores["random"]


def test_row_numbers_do_not_stay_in_the_model():
    lonlat = scattered(300)
    for model in ("ridge", "knn"):
        head = ge.LocationRegressor("xyz", model, coverage=None).fit(lonlat, lonlat[:, 1])
        parameters = head.model_.get_params(deep=False)
        assert not any(isinstance(value, list) for value in parameters.values())
