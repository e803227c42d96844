"""Rows of one place with different targets, against functions of the place found by hand."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box
from sklearn.metrics import accuracy_score, r2_score

from geoembed.coordinates import read_places
from geoembed.errors import CoordinateError, OptionError, TargetError
from geoembed.heads.duplicates import SharedPlaces, best_possible_score


@pytest.fixture
def crowded():
    """300 rows at 40 places."""
    rng = np.random.default_rng(0)
    places = rng.uniform(-80, 80, (40, 2))
    return places[rng.integers(0, 40, 300)], rng


def test_the_best_accuracy_is_that_of_the_commonest_label_of_every_place(crowded):
    places, rng = crowded
    labels = rng.choice(["wood", "water", "town"], 300)
    commonest = pd.Series(labels).groupby([*places.T]).transform(lambda part: part.mode()[0])
    found = best_possible_score(places, labels)
    assert found.metric == "accuracy"
    assert found.score == pytest.approx(accuracy_score(labels, commonest), abs=1e-15)
    several = pd.Series(labels).groupby([*places.T]).transform("nunique") > 1
    assert (found.rows, found.total) == (several.sum(), 300)


@pytest.mark.parametrize("task", ["regression", "fractions"])
def test_the_best_r2_is_that_of_the_mean_of_every_place(crowded, task):
    places, rng = crowded
    numbers = rng.normal(size=(300, 3)) + places[:, :1] / 20
    means = pd.DataFrame(numbers).groupby([*places.T]).transform("mean")
    found = best_possible_score(places, numbers, task=task)
    assert found.metric == "R2"
    assert found.score == pytest.approx(r2_score(numbers, means), abs=1e-12)
    assert found.rows == 300


def test_labels_of_several_levels_differ_if_one_level_does():
    labels = pd.DataFrame({"continent": list("AAA"), "country": list("xyx")})
    found = best_possible_score([[0, 0]] * 3, labels)
    assert (found.rows, found.places, found.score) == (3, 1, pytest.approx(2 / 3))


def test_no_conflicts_is_a_score_of_one():
    for task, target in (("classification", ["a", "a", "b"]), ("regression", [1.0, 1.0, 2.0])):
        found = best_possible_score([[0, 0], [0, 0], [1, 1]], target, task=task)
        assert (found.rows, found.places, found.score, found.named) == (0, 0, 1.0, "")
        assert str(found) == "No two rows of one place have different targets."


def test_one_place_can_be_written_in_several_ways():
    same = [[180, 10], [-180, 10], [540, 10], [0, 90], [77, 90], [0.0, 0.0], [-0.0, -0.0]]
    found = best_possible_score(same, list("abcdefg"))
    assert (found.rows, found.places) == (7, 3)
    assert best_possible_score([[0, 1], [0, 1 + 1e-12]], ["a", "b"]).rows == 0


def test_places_in_another_crs_and_shapes():
    frame = gpd.GeoDataFrame(geometry=gpd.points_from_xy([5, 5], [50, 50]), crs=4326, index=[7, 8])
    found = best_possible_score(frame.to_crs(3857), ["a", "b"])
    assert found.named == "rows 7, 8"
    shapes = gpd.GeoSeries([box(0, 0, 1, 1), box(0, 0, 1, 1), box(0, 0, 2, 2)], crs=4326)
    sampled = read_places(shapes, geometry="sample", samples=4)
    assert best_possible_score(sampled, ["a", "b", "c"]).rows == 2


def test_further_columns_tell_rows_of_one_place_apart():
    beside = pd.DataFrame({"height": [1.0, 2.0, np.nan, np.nan], "soil": list("xxyy")})
    found = best_possible_score([[0, 0]] * 4, list("abcd"), beside=beside)
    assert (found.rows, found.places, found.score) == (2, 1, 0.75)


def test_a_constant_target_does_not_count():
    target = np.array([[0.0, 1.0], [0.0, 3.0], [0.0, 8.0]])
    found = best_possible_score([[0, 0], [0, 0], [1, 1]], target, task="regression")
    assert found.score == pytest.approx(r2_score(target[:, 1], [2.0, 2.0, 8.0]))


def test_the_sentence_says_what_where_and_the_best_score():
    found = best_possible_score([[0, 0]] * 7, [0, 1, 2, 3, 4, 5, 6], task="regression")
    assert str(found) == (
        "7 of 7 rows share their place (1 place) with a row of another target: rows 0, 1, 2, 3, 4 "
        "and 2 more. No function of the place can do better on these data than a mean R2 of 0.0000."
    )
    assert isinstance(found, SharedPlaces)


def test_bad_input_is_refused():
    with pytest.raises(OptionError, match="task='ranking' is not offered"):
        best_possible_score([[0, 0]], ["a"], task="ranking")
    with pytest.raises(TargetError, match="There are 2 places and 1 rows of the target"):
        best_possible_score([[0, 0], [1, 1]], ["a"])
    with pytest.raises(CoordinateError, match="1 of 2 rows hold no usable place"):
        best_possible_score([[0, 0], [np.nan, 1]], ["a", "b"])
