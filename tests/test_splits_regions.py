"""Regions held out whole: from a column, from groups, from polygons."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely import box
from sklearn import config_context
from sklearn.dummy import DummyRegressor
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut, cross_validate

from geoembed.data import load_cities, load_countries
from geoembed.errors import OptionError, TableError, TargetError
from geoembed.splits import LeaveRegionOut, nearest_train_km


@pytest.fixture(scope="module")
def cities():
    cities = load_cities().head(1500)
    continents = load_countries().drop_duplicates("iso_a2").set_index("iso_a2")["continent"]
    return cities.assign(continent=cities["iso_a2"].map(continents)).dropna(subset="continent")


def test_regions_from_a_column_are_those_of_scikit_learn(cities):
    splits = list(LeaveRegionOut("continent").split(cities))
    expected = list(LeaveOneGroupOut().split(cities, groups=cities["continent"]))
    assert len(splits) == len(expected) == LeaveRegionOut("continent").get_n_splits(cities)
    for (train, test), (their_train, their_test) in zip(splits, expected, strict=True):
        np.testing.assert_array_equal(train, their_train)
        np.testing.assert_array_equal(test, their_test)


def test_regions_from_groups_are_the_same(cities):
    expected = LeaveRegionOut("continent").fold_ids(cities)
    for groups in (cities["continent"], cities["continent"].tolist(), np.asarray(expected)):
        np.testing.assert_array_equal(LeaveRegionOut().fold_ids(cities, groups), expected)
    lonlat = cities[["lon", "lat"]].to_numpy()
    np.testing.assert_array_equal(LeaveRegionOut().fold_ids(lonlat, cities["continent"]), expected)


def test_regions_in_folds_stay_whole_and_keep_the_buffer(cities):
    splitter = LeaveRegionOut("iso_a2", n_splits=4, buffer_km=100)
    country = cities["iso_a2"].to_numpy()
    tested = []
    for train, test in splitter.split(cities):
        assert not set(country[train]) & set(country[test])
        assert nearest_train_km(cities, train, test).min() > 100
        tested.append(test)
    assert sorted(np.concatenate(tested)) == list(range(len(cities)))
    largest = cities["iso_a2"].value_counts().iloc[0]
    assert np.ptp([len(test) for test in tested]) <= largest
    again = LeaveRegionOut("iso_a2", n_splits=4, random_state=1)
    assert (again.fold_ids(cities) != splitter.fold_ids(cities)).any()


SQUARES = gpd.GeoDataFrame(
    {"zone": ["west", "east", "west"]},
    geometry=[box(170, -5, 180, 5), box(-180, -5, -170, 5), box(160, -5, 170, 5)],
    crs=4326,
    index=["a", "b", "c"],
)


def test_regions_from_polygons_in_another_crs():
    places = [[171, 0], [181, 0], [165, 1], [-175, 2]]
    zones = LeaveRegionOut(SQUARES.to_crs(3857), column="zone")
    assert zones.region_labels(places).tolist() == ["west", "east", "west", "east"]
    assert zones.fold_ids(places).tolist() == [1, 0, 1, 0]
    assert LeaveRegionOut(SQUARES).region_labels(places).tolist() == ["a", "b", "c", "b"]


def test_a_place_in_no_polygon_is_named_or_goes_to_the_nearest():
    places = pd.DataFrame({"lon": [171, 175, -171, -169.9], "lat": 0}, index=["p", "q", "r", "s"])
    with pytest.raises(TargetError, match="regions= gives no region to 1 of 4 places: row 's'"):
        LeaveRegionOut(SQUARES, column="zone").split(places)
    near = LeaveRegionOut(SQUARES, column="zone", nearest_km=20)
    assert near.region_labels(places).tolist() == ["west", "west", "east", "east"]


def test_countries_of_the_shipped_table(cities):
    splitter = LeaveRegionOut(load_countries(), column="continent", nearest_km=50)
    found = splitter.region_labels(cities)
    # Labels of the table are by country code, and France is in South America as well.
    assert (found == cities["continent"]).mean() > 0.99


def test_scikit_learn_takes_them(cities):
    X, y = cities, cities["lat"]
    column = cross_validate(DummyRegressor(), X, y, cv=LeaveRegionOut("continent"))
    groups = cross_validate(DummyRegressor(), X, y, cv=LeaveRegionOut(), groups=cities["continent"])
    np.testing.assert_array_equal(column["test_score"], groups["test_score"])
    search = GridSearchCV(
        DummyRegressor(), {"strategy": ["mean", "median"]}, cv=LeaveRegionOut("continent")
    ).fit(X, y)
    assert search.n_splits_ == cities["continent"].nunique()


def test_metadata_routing_passes_groups_on(cities):
    with config_context(enable_metadata_routing=True):
        scores = cross_validate(
            DummyRegressor(),
            cities,
            cities["lat"],
            cv=LeaveRegionOut(),
            params={"groups": cities["continent"]},
        )
    assert len(scores["test_score"]) == cities["continent"].nunique()


# --- bad input -------------------------------------------------------------------------

PLACES = [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]


@pytest.mark.parametrize(
    ("splitter", "X", "groups", "error", "message"),
    [
        (LeaveRegionOut(), PLACES, None, OptionError, "needs a label a place.*groups="),
        (LeaveRegionOut(), PLACES, list("aab"), TargetError, "3 labels for 4 places"),
        (
            LeaveRegionOut(),
            PLACES,
            ["a", None, "b", np.nan],
            TargetError,
            "no region to 2 of 4 places: rows 1, 3. Drop them",
        ),
        (LeaveRegionOut(), PLACES, list("aaaa"), TargetError, "All 4 places are in the region 'a'"),
        (
            LeaveRegionOut(),
            PLACES,
            list("aaab"),
            TargetError,
            r"1 of 2 regions have fewer than min_places=2 places: 'b' \(1\). Pass n_splits=",
        ),
        (
            LeaveRegionOut(n_splits=3),
            PLACES,
            list("aabb"),
            OptionError,
            "n_splits=3 needs 3 regions at least, and the 4 places are in 2",
        ),
        (LeaveRegionOut(n_splits=1), PLACES, list("aabb"), OptionError, "n_splits=1 must be"),
        (LeaveRegionOut("zone"), PLACES, None, TableError, "names a column, and X is no table"),
        (
            LeaveRegionOut("zone"),
            pd.DataFrame(PLACES, columns=["lon", "lat"]),
            None,
            TableError,
            "regions='zone' is no column of X. It has: 'lon', 'lat'",
        ),
        (LeaveRegionOut("lon"), PLACES, list("aabb"), OptionError, "Regions are given twice"),
        (
            LeaveRegionOut(column="x"),
            PLACES,
            list("aabb"),
            OptionError,
            "column='x' is about polygons",
        ),
        (LeaveRegionOut(min_places=0), PLACES, list("aabb"), OptionError, "min_places=0 must be"),
        (LeaveRegionOut(7), PLACES, None, OptionError, "regions=7 must be the name"),
    ],
)
def test_labels_that_do_not_fit_are_refused(splitter, X, groups, error, message):
    with pytest.raises(error, match=message):
        splitter.split(X, groups=groups)


def test_a_region_of_one_place_may_be_asked_for():
    splits = list(LeaveRegionOut(min_places=1).split(PLACES, groups=list("aaab")))
    assert splits[1][1].tolist() == [3]


def test_the_number_of_folds_needs_the_places():
    assert LeaveRegionOut(n_splits=3).get_n_splits() == 3
    with pytest.raises(OptionError, match="number of regions depends on the places"):
        LeaveRegionOut("zone").get_n_splits()
