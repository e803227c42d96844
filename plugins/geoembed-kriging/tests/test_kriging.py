"""Tests of the plugin, run against geoembed itself."""

import geoembed_kriging
import numpy as np
import pytest
from geoembed_kriging.head import KrigingRegressor, ResidualKriging
from sklearn.base import clone
from sklearn.linear_model import Ridge

import geoembed as ge
from geoembed.errors import OptionError
from geoembed.extending.registry import head_spec
from geoembed.geodesy import EARTH_RADIUS_KM, to_unit_vectors
from geoembed.testing import check_light_import, isolated_plugins


@pytest.fixture(autouse=True)
def only_this_plugin():
    with isolated_plugins(geoembed_kriging):
        yield


def sphere_field(places, reach_km, seed=0):
    """Draw a Gaussian field with an exponential covariance at places (n, 2)."""
    points = to_unit_vectors(places)
    chord = np.linalg.norm(points[:, None] - points[None], axis=-1)
    covariance = np.exp(-chord * EARTH_RADIUS_KM / reach_km) + 1e-9 * np.eye(len(places))
    return np.linalg.cholesky(covariance) @ np.random.default_rng(seed).normal(size=len(places))


@pytest.fixture(scope="module")
def stations():
    random = np.random.default_rng(1)
    places = np.column_stack([random.uniform(0, 30, 900), random.uniform(40, 60, 900)])
    return places, sphere_field(places, 400.0)


def test_the_head_is_known_by_its_name():
    assert head_spec("kriging").owner == "geoembed_kriging 0"
    head = ge.make_head("kriging", neighbours=5)
    assert isinstance(head, KrigingRegressor)
    assert clone(head).neighbours == 5


def test_neighbours_add_what_the_trend_cannot_know(stations):
    places, values = stations
    trend = ge.LocationRegressor("xyz").fit(places[:700], values[:700])
    kriging = KrigingRegressor("xyz").fit(places[:700], values[:700])
    assert trend.score(places[700:], values[700:]) < 0.5
    assert kriging.score(places[700:], values[700:]) > 0.7
    # Conformal intervals around it are narrower by as much.
    assert kriging.radius_[0] < 0.8 * trend.radius_[0]


def test_the_covariance_of_a_known_field_is_found(stations):
    places, values = stations
    head = KrigingRegressor("xyz", coverage=None).fit(places, values)
    assert 150 < head.model_.reach_km[0] < 1000


def test_far_from_all_places_the_trend_is_left_alone(stations):
    places, values = stations
    head = KrigingRegressor("xyz", coverage=None).fit(places, values)
    features = head._features(np.array([[-150.0, -40.0]]))
    trend = head.model_.trend.predict(features[:, :-3])
    assert head.predict([[-150.0, -40.0]])[0] == pytest.approx(np.ravel(trend)[0], abs=1e-6)


def test_it_is_simple_kriging():
    # Against the textbook's system with all places, the covariance being given.
    random = np.random.default_rng(2)
    places = np.column_stack([random.uniform(0, 10, 30), random.uniform(0, 10, 30)])
    points = to_unit_vectors(places).astype(np.float32)
    features = np.hstack([np.zeros((30, 1), np.float32), points])
    trend = Ridge().fit(features[:, :1], np.zeros(30))
    model = ResidualKriging(trend, neighbours=30).fit(features, random.normal(size=30))
    sill, reach, noise = model.covariances_[0] = (2.0, 0.05, 0.1)
    at = to_unit_vectors(np.array([[5.0, 5.0]])).astype(np.float32)
    exact = points.astype(np.float64)
    between = np.linalg.norm(exact[:, None] - exact[None], axis=-1)
    covariance = sill * np.exp(-between / reach) + noise * np.eye(30)
    towards = sill * np.exp(-np.linalg.norm(exact - at.astype(np.float64), axis=1) / reach)
    expected = towards @ np.linalg.solve(covariance, model.leftovers_[:, 0])
    got = model.predict(np.hstack([np.zeros((1, 1), np.float32), at]))
    assert got[0] == pytest.approx(expected, rel=1e-9)


def test_several_targets_and_constant_ones(stations):
    places, values = stations
    table = np.column_stack([values, np.ones(len(values))])
    predicted = KrigingRegressor("xyz", coverage=None).fit(places, table).predict(places[:10])
    assert predicted.shape == (10, 2)
    np.testing.assert_allclose(predicted[:, 1], 1.0, atol=1e-6)


def test_nonsense_is_refused(stations):
    places, values = stations
    with pytest.raises(OptionError, match="neighbours=0 is no whole number"):
        KrigingRegressor("xyz", neighbours=0).fit(places, values)


def test_importing_the_plugin_is_light():
    check_light_import("geoembed_kriging")
