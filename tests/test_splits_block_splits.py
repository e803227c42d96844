"""Splits by blocks never leak, test every row once, and work wherever scikit-learn takes cv=."""

import pickle

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapely import box
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from geoembed.coordinates import read_places
from geoembed.data import load_cities
from geoembed.errors import CoordinateError, OptionError
from geoembed.geodesy import distance_km, great_circle_km, to_unit_vectors
from geoembed.splits import (
    BufferedLeaveOneBlockOut,
    SpatialBlockKFold,
    nearest_train_km,
    spatial_holdout,
)

often = settings(deadline=None, max_examples=50)

# Multiples of 1/64 keep every digit when turns are added.
PLACES = st.lists(
    st.tuples(
        st.integers(-180 * 64, 180 * 64).map(lambda k: k / 64),
        st.integers(-90 * 64, 90 * 64).map(lambda k: k / 64),
    ),
    min_size=2,
    max_size=60,
)
SIZES = st.sampled_from(
    [
        {},
        {"block_km": 100.0},
        {"block_km": 3000.0},
        {"block_deg": 10},
        {"block_deg": 45},
        {"h3_resolution": 0},
        {"h3_resolution": 2},
    ]
)


@pytest.fixture(scope="module")
def cities():
    return load_cities().head(1500)


def vectors(X):
    return to_unit_vectors(read_places(X).lonlat)


def model(regressor):
    return make_pipeline(FunctionTransformer(vectors), regressor)


def folds_of(splitter, X):
    return [test.tolist() for _, test in splitter.split(X)]


# --- never leak ------------------------------------------------------------------------


@often
@given(PLACES, SIZES, st.integers(2, 6), st.integers(0, 5), st.floats(0, 800))
def test_blocks_are_whole_and_every_row_is_tested_once(places, size, n_splits, seed, buffer_km):
    lonlat = read_places(places).lonlat
    splitter = SpatialBlockKFold(n_splits, random_state=seed, buffer_km=buffer_km, **size)
    blocks = splitter.block_ids(places)
    assume(len(np.unique(blocks)) >= n_splits)
    sizes, tested = np.unique(blocks, return_counts=True)[1], []
    try:
        splits = list(splitter.split(places))
    except OptionError as error:
        assert "leaves nothing to train on in fold" in str(error)  # noqa: PT017 - either is right
        return
    for train, test in splits:
        assert not np.intersect1d(blocks[train], blocks[test]).size
        assert len(train)
        assert (np.diff(train) > 0).all()
        assert (np.diff(test) > 0).all()
        between = distance_km(
            lonlat[train, None, 0], lonlat[train, None, 1], lonlat[test, 0], lonlat[test, 1]
        )
        assert buffer_km == 0 or between.min() > buffer_km
        np.testing.assert_allclose(
            nearest_train_km(places, train, test), between.min(axis=0), rtol=1e-12
        )
        # What is in neither set is near a test place: the buffer drops no more than it must.
        dropped = np.setdiff1d(np.arange(len(places)), np.concatenate([train, test]))
        near = distance_km(
            lonlat[dropped, None, 0], lonlat[dropped, None, 1], lonlat[test, 0], lonlat[test, 1]
        )
        assert not len(dropped) or near.min(axis=1).max() <= buffer_km
        tested.append(test)
    assert len(splits) == n_splits == splitter.get_n_splits()
    assert sorted(np.concatenate(tested).tolist()) == list(range(len(places)))
    lengths = [len(test) for test in tested]
    assert max(lengths) - min(lengths) <= sizes.max()


@often
@given(PLACES, SIZES, st.floats(1, 3000))
def test_each_block_is_left_out_once_with_a_buffer(places, size, buffer_km):
    lonlat = read_places(places).lonlat
    splitter = BufferedLeaveOneBlockOut(buffer_km, **size)
    blocks = splitter.block_ids(places)
    assume(len(np.unique(blocks)) >= 2)
    tested = []
    try:
        for train, test in splitter.split(places):
            assert len(set(blocks[test])) == 1
            between = distance_km(
                lonlat[train, None, 0], lonlat[train, None, 1], lonlat[test, 0], lonlat[test, 1]
            )
            assert between.min() > buffer_km
            tested.append(test)
    except OptionError as error:
        assert "leaves nothing to train on in fold" in str(error)  # noqa: PT017 - either is right
        return
    assert len(tested) == splitter.get_n_splits(places) == len(np.unique(blocks))
    assert sorted(np.concatenate(tested).tolist()) == list(range(len(places)))


@often
@given(PLACES, SIZES, st.integers(0, 5), st.floats(0.05, 0.95), st.floats(0, 300))
def test_a_holdout_takes_whole_blocks_and_keeps_the_buffer(places, size, seed, share, buffer_km):
    lonlat = read_places(places).lonlat
    blocks = SpatialBlockKFold(**size).block_ids(places)
    sizes = np.unique(blocks, return_counts=True)[1]
    assume(len(sizes) >= 2)
    try:
        train, test = spatial_holdout(places, share, random_state=seed, buffer_km=buffer_km, **size)
    except OptionError as error:
        assert "leaves nothing to train on:" in str(error)  # noqa: PT017 - either is right
        return
    assert len(train)
    assert len(test)
    assert not np.intersect1d(blocks[train], blocks[test]).size
    assert abs(len(test) - share * len(places)) <= sizes.max()
    between = distance_km(
        lonlat[train, None, 0], lonlat[train, None, 1], lonlat[test, 0], lonlat[test, 1]
    )
    assert buffer_km == 0 or between.min() > buffer_km
    if buffer_km == 0:
        assert len(train) + len(test) == len(places)


# --- what folds depend on --------------------------------------------------------------


@often
@given(PLACES, SIZES, st.lists(st.integers(-2, 2), min_size=60, max_size=60), st.randoms())
def test_turns_and_order_of_rows_do_not_matter(places, size, turns, random):
    splitter = SpatialBlockKFold(2, **size)
    assume(len(np.unique(splitter.block_ids(places))) >= 2)
    folds = splitter.fold_ids(places)
    turned = [(lon + 360.0 * k, lat) for (lon, lat), k in zip(places, turns, strict=False)]
    np.testing.assert_array_equal(splitter.fold_ids(turned), folds)
    order = list(range(len(places)))
    random.shuffle(order)
    np.testing.assert_array_equal(splitter.fold_ids([places[k] for k in order]), folds[order])


def test_a_seed_gives_the_same_folds_and_another_seed_others(cities):
    first = folds_of(SpatialBlockKFold(5, random_state=3), cities)
    assert folds_of(SpatialBlockKFold(5, random_state=3), cities) == first
    assert folds_of(SpatialBlockKFold(5, random_state=4), cities) != first
    drawn = SpatialBlockKFold(5, random_state=np.random.RandomState(3))
    assert folds_of(drawn, cities) == first
    assert folds_of(drawn, cities) != first
    np.testing.assert_array_equal(
        SpatialBlockKFold(random_state=3).block_ids(cities),
        SpatialBlockKFold(random_state=4).block_ids(cities),
    )


def test_folds_are_the_same_from_any_input(cities):
    splitter = SpatialBlockKFold(4, block_km=800)
    expected = folds_of(splitter, cities)
    lonlat = cities[["lon", "lat"]].to_numpy()
    plain = pd.DataFrame(cities[["lon", "lat"]])
    for X in (cities.to_crs("ESRI:54030"), cities.geometry, plain, lonlat, read_places(lonlat)):
        assert folds_of(splitter, X) == expected
    robinson = cities.to_crs("ESRI:54030").get_coordinates().to_numpy()
    assert folds_of(SpatialBlockKFold(4, block_km=800, crs="ESRI:54030"), robinson) == expected


def test_polygons_need_a_choice():
    squares = gpd.GeoSeries([box(x, 0, x + 1, 1) for x in range(0, 60, 6)], crs=4326)
    with pytest.raises(CoordinateError, match="no single points.*'representative_point'"):
        SpatialBlockKFold(2).split(squares)
    assert len(folds_of(SpatialBlockKFold(2, geometry="centroid"), squares)) == 2
    with pytest.raises(OptionError, match="geometry='sample' gives many points a row"):
        SpatialBlockKFold(2, geometry="sample").split(squares)
    with pytest.raises(OptionError, match="geometry='sample' gives many points a row"):
        SpatialBlockKFold(2).split(read_places(squares, geometry="sample"))


def test_folds_hold_equal_shares_of_the_cities(cities):
    lengths = [len(test) for test in folds_of(SpatialBlockKFold(5, block_km=500), cities)]
    assert max(lengths) - min(lengths) <= 15
    train, test = spatial_holdout(cities, 0.3)
    assert len(test) == pytest.approx(450, abs=2)
    assert len(train) + len(test) == 1500


def test_a_share_smaller_than_any_block_takes_the_smallest():
    places = [[0, 0]] * 10 + [[90, 0]] * 8
    train, test = spatial_holdout(places, 0.05)
    assert len(test) == 8
    assert len(train) == 10


# --- in scikit-learn -------------------------------------------------------------------


def test_cross_validate_takes_them_with_a_geodataframe(cities):
    y = cities["lat"].abs()
    for splitter, count in (
        (SpatialBlockKFold(4, buffer_km=50), 4),
        (BufferedLeaveOneBlockOut(200, block_km=5000), None),
    ):
        scores = cross_validate(
            model(Ridge()), cities, y, cv=splitter, scoring="neg_mean_absolute_error"
        )["test_score"]
        assert len(scores) == (count or splitter.get_n_splits(cities))
        assert np.isfinite(scores).all()
        assert len(cross_val_predict(model(Ridge()), cities, y, cv=splitter)) == len(cities)


def test_grid_search_takes_them_with_a_geodataframe(cities):
    search = GridSearchCV(
        model(KNeighborsRegressor()),
        {"kneighborsregressor__n_neighbors": [1, 5]},
        cv=SpatialBlockKFold(3, block_deg=10),
    ).fit(cities.to_crs(3857), cities["lat"].abs())
    assert search.n_splits_ == 3


def test_a_random_split_flatters_on_a_field_with_a_known_range():
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-20, 20, (2, 600))
    apart = great_circle_km(lon[:, None], lat[:, None], lon, lat)
    covariance = np.exp(-3 * apart / 800) + 1e-9 * np.eye(600)
    field = np.linalg.cholesky(covariance) @ rng.normal(size=600)
    lonlat, nearest = np.column_stack([lon, lat]), model(KNeighborsRegressor(3))
    block = SpatialBlockKFold(5, block_km=800, buffer_km=800)
    random = cross_val_predict(nearest, lonlat, field, cv=5)
    spatial = cross_val_predict(nearest, lonlat, field, cv=block)
    assert r2_score(field, random) > 0.4
    # Beyond the range nothing can be known of it.
    assert r2_score(field, spatial) < 0.0


def test_they_clone_pickle_and_show_their_parameters(cities):
    splitter = SpatialBlockKFold(3, block_km=700, buffer_km=10)
    copy = pickle.loads(pickle.dumps(clone(splitter, safe=False)))
    assert folds_of(copy, cities) == folds_of(splitter, cities)
    assert repr(splitter).startswith("SpatialBlockKFold(block_deg=None, block_km=700")


# --- bad input -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("splitter", "message"),
    [
        (SpatialBlockKFold(1), "n_splits=1 must be a whole number, 2 or more"),
        (SpatialBlockKFold(2.0), "n_splits=2.0 must be a whole number"),
        (SpatialBlockKFold(True), "n_splits=True must be a whole number"),
        (SpatialBlockKFold(2, buffer_km=-1), "buffer_km=-1 must be a number of kilometres"),
        (SpatialBlockKFold(2, buffer_km=np.nan), "buffer_km=nan must be"),
        (SpatialBlockKFold(2, buffer_km="5"), "buffer_km='5' must be"),
        (SpatialBlockKFold(2, block_km=500, block_deg=5), "exclude each other"),
        (SpatialBlockKFold(2, random_state="x"), "random_state='x' must be a whole number"),
        (SpatialBlockKFold(2, geometry="middle"), "geometry='middle'"),
        (SpatialBlockKFold(4), r"n_splits=4 needs 4 blocks at least, and the 3 places lie in 3 "),
        (BufferedLeaveOneBlockOut(None), "buffer_km=None must be"),
        (BufferedLeaveOneBlockOut(block_deg=7), "block_deg=7 does not divide"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_the_first_fold(splitter, message):
    with pytest.raises(OptionError, match=message):
        splitter.split([[0, 0], [30, 0], [60, 0]])


def test_fewer_rows_than_folds_and_one_block_say_what_to_do(cities):
    with pytest.raises(OptionError, match="1 place lies in 1 .*too few places to split this way"):
        SpatialBlockKFold(2).split([[0, 0]])
    with pytest.raises(OptionError, match="no rows"):
        SpatialBlockKFold(2).split(cities.iloc[:0])
    near = [[2.35 + k / 1000, 48.85] for k in range(20)]
    one = r"20 places lie in 1 \(blocks of 500 km\). Choose smaller blocks"
    with pytest.raises(OptionError, match=rf"n_splits=3 needs 3 .*{one} or fewer folds"):
        SpatialBlockKFold(3).split(near)
    with pytest.raises(OptionError, match=rf"leaving one out needs 2 .*{one}\."):
        BufferedLeaveOneBlockOut().split(near)
    with pytest.raises(OptionError, match=rf"a hold-out needs 2 .*{one}\."):
        spatial_holdout(near)


def test_a_buffer_that_leaves_nothing_names_the_fold():
    places = [[0, 0], [8, 0], [16, 0]]
    with pytest.raises(OptionError, match="buffer_km=5000 leaves nothing to train on in fold 1 of"):
        next(BufferedLeaveOneBlockOut(5000).split(places))
    with pytest.raises(OptionError, match="leaves nothing to train on: every .*smaller buffer"):
        spatial_holdout(places, 0.3, buffer_km=5000)


def test_invalid_places_groups_and_a_missing_X_are_refused():
    frame = pd.DataFrame({"lon": [0.0, None], "lat": [1.0, 2.0]}, index=["a", "b"])
    with pytest.raises(CoordinateError, match="1 of 2 rows hold no usable place.*'b'"):
        SpatialBlockKFold(2).split(frame)
    with pytest.raises(OptionError, match="leave groups= out, or take LeaveRegionOut"):
        SpatialBlockKFold(2).split([[0, 0], [90, 0]], groups=[1, 2])
    with pytest.raises(OptionError, match="number of blocks depends on the places"):
        BufferedLeaveOneBlockOut().get_n_splits()


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1, np.nan, "0.2", True])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(OptionError, match="test_size=.* must be a share"):
        spatial_holdout([[0, 0], [90, 0]], share)
