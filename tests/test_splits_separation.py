"""Distances between training and test places, against brute force on the ellipsoid."""

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoembed.coordinates import read_places
from geoembed.errors import CoordinateError, OptionError
from geoembed.geodesy import distance_km
from geoembed.splits.separation import nearest_km, nearest_train_km, outside_buffer

often = settings(deadline=None, max_examples=60)


def brute(places, others):
    return distance_km(
        places[:, None, 0], places[:, None, 1], others[None, :, 0], others[None, :, 1]
    ).min(axis=1)


def scattered(seed, n, spread):
    rng = np.random.default_rng(seed)
    lon = rng.normal(180, spread, n)
    return read_places(np.column_stack([lon, np.clip(rng.normal(0, spread, n), -90, 90)])).lonlat


@often
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([1e-3, 1.0, 60.0]))
def test_nearest_is_what_brute_force_finds(seed, n, spread):
    places, others = scattered(seed, 20, spread), scattered(seed + 1, n, spread)
    np.testing.assert_allclose(nearest_km(places, others), brute(places, others), rtol=1e-12)


def test_the_ellipsoid_decides_where_the_sphere_is_wrong():
    # On the sphere 30 places on a ring are all but equally near; on WGS 84 those north and south
    # are 0.6 % nearer than those east and west.
    angle = np.radians(np.arange(0, 360, 12.0))
    ring = 1.0 + 1e-4 * np.arange(30)
    others = np.column_stack([ring * np.sin(angle), ring * np.cos(angle)])
    others[:, 1] *= 1.003
    places = np.zeros((1, 2))
    np.testing.assert_allclose(nearest_km(places, others), brute(places, others), rtol=1e-12)


def test_antipodes_and_repeated_places():
    others = np.repeat([[0.0, 0.0]], 50, axis=0)
    found = nearest_km(np.array([[180.0, 0.0], [0.0, 0.0]]), others)
    np.testing.assert_allclose(found, [20003.931458623, 0.0], atol=1e-6)


@often
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 5000), st.sampled_from([0.1, 5.0, 60.0]))
def test_a_buffer_drops_exactly_what_is_near(seed, buffer_km, spread):
    lonlat = scattered(seed, 60, spread)
    test = np.arange(60) < 15
    train = outside_buffer(lonlat, test, buffer_km)
    np.testing.assert_array_equal(train, ~test & (brute(lonlat, lonlat[test]) > buffer_km))


def test_no_buffer_keeps_everything_else_even_the_same_place():
    lonlat = np.zeros((3, 2))
    assert outside_buffer(lonlat, np.array([True, False, False]), 0.0).tolist() == [
        False,
        True,
        True,
    ]


def test_nearest_training_place_of_a_frame_in_metres():
    lonlat = scattered(3, 40, 1.0)
    lonlat[:, 0] -= np.sign(lonlat[:, 0]) * 170
    frame = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*lonlat.T), crs=4326).to_crs(3857)
    mask = np.arange(40) < 30
    found = nearest_train_km(frame, mask, ~mask)
    np.testing.assert_allclose(found, brute(lonlat[30:], lonlat[:30]), rtol=1e-6)
    np.testing.assert_array_equal(found, nearest_train_km(frame, np.arange(30), np.arange(30, 40)))
    assert np.isinf(nearest_train_km(frame, [], [0])).all()
    assert nearest_train_km(frame, [0], []).shape == (0,)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([3], [0], "train= must be positions of rows from 0 to 2, or a mask of 3"),
        ([0], [-1], "test= must be positions"),
        ([True, False], [0], "train= must be positions"),
        ([0.5], [0], "train= must be positions"),
        ([[0]], [0], "train= must be positions"),
    ],
)
def test_rows_that_do_not_exist_are_refused(train, test, message):
    with pytest.raises(OptionError, match=message):
        nearest_train_km([[0, 0], [1, 1], [2, 2]], train, test)


def test_invalid_places_and_samples_are_refused():
    with pytest.raises(CoordinateError, match="1 of 2 rows hold no usable place"):
        nearest_train_km([[0, 0], [np.nan, 1]], [0], [1])
    with pytest.raises(OptionError, match="geometry='sample' gives many points a row"):
        nearest_train_km([[0, 0], [1, 1]], [0], [1], geometry="sample")
