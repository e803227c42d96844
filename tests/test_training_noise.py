"""Noise on places: in metres, everywhere on the Earth, against independent geometry."""

import math

import numpy as np
import pytest
from scipy import stats

from geoembed.errors import OptionError
from geoembed.geodesy import EARTH_RADIUS_KM, great_circle_km
from geoembed.training.noise import add_noise
from geoembed.training.randomness import generator

PLACES = {
    "equator": (10.0, 0.0),
    "mid": (2.35, 48.86),
    "far north": (-40.0, 84.0),
    "nearly the pole": (77.0, 89.9999),
    "north pole": (120.0, 90.0),
    "south pole": (-33.0, -90.0),
    "antimeridian": (180.0, -17.0),
    "other side of it": (-180.0, 66.0),
}


def moved_by_hand(lon, lat, east_m, north_m):
    """The great circle from a place by metres east and north: spherical trigonometry, a scalar."""
    angle = math.hypot(east_m, north_m) / (EARTH_RADIUS_KM * 1000.0)
    bearing = math.atan2(east_m, north_m)
    phi, lam = math.radians(lat), math.radians(lon)
    end = math.asin(
        math.sin(phi) * math.cos(angle) + math.cos(phi) * math.sin(angle) * math.cos(bearing)
    )
    turn = math.atan2(
        math.sin(bearing) * math.sin(angle) * math.cos(phi),
        math.cos(angle) - math.sin(phi) * math.sin(end),
    )
    return math.degrees(lam + turn), math.degrees(end)


@pytest.mark.parametrize("sigma", [150.0, 1000.0, 400_000.0])
def test_each_place_moves_along_its_great_circle(sigma):
    rng = np.random.default_rng(3)
    lonlat = np.stack([rng.uniform(-180, 180, 300), rng.uniform(-88, 88, 300)], axis=1)
    got = add_noise(lonlat, sigma, np.random.default_rng(7))
    drawn = np.random.default_rng(7).standard_normal((300, 2)) * sigma
    expected = np.array(
        [moved_by_hand(*place, *move) for place, move in zip(lonlat, drawn, strict=True)]
    )
    apart_m = 1000.0 * great_circle_km(*got.T, *expected.T)
    assert apart_m.max() < 1e-6


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("sigma", [150.0, 1000.0])
def test_distances_are_rayleigh_in_metres_everywhere(name, sigma):
    lonlat = np.tile(PLACES[name], (4000, 1)).astype(np.float64)
    got = add_noise(lonlat, sigma, generator(1, "batch noise", 5))
    metres = 1000.0 * great_circle_km(*lonlat.T, *got.T)
    assert stats.kstest(metres / sigma, "rayleigh").pvalue > 1e-3
    assert np.abs(got[:, 0]).max() <= 180.0
    assert np.abs(got[:, 1]).max() <= 90.0


def test_east_and_north_have_the_same_spread_far_north():
    lonlat = np.tile([25.0, 80.0], (20_000, 1))
    got = add_noise(lonlat, 150.0, np.random.default_rng(0))
    metres = np.radians(got - lonlat) * EARTH_RADIUS_KM * 1000.0
    metres[:, 0] *= np.cos(np.radians(80.0))
    np.testing.assert_allclose(metres.std(axis=0), 150.0, rtol=0.02)
    assert abs(np.corrcoef(metres.T)[0, 1]) < 0.03
    assert np.abs(metres.mean(axis=0)).max() < 4.0


def test_at_a_pole_every_direction_is_as_likely():
    got = add_noise(np.tile([50.0, 90.0], (4000, 1)), 150.0, np.random.default_rng(0))
    assert stats.kstest(got[:, 0] / 360.0 + 0.5, "uniform").pvalue > 1e-3
    assert got[:, 1].max() < 90.0


def test_half_of_the_places_on_the_antimeridian_come_out_on_each_side():
    got = add_noise(np.tile([180.0, 10.0], (4000, 1)), 150.0, np.random.default_rng(0))
    assert abs((got[:, 0] < 0).mean() - 0.5) < 0.03
    assert np.abs(got[:, 0]).min() > 179.98


def test_no_noise_is_the_same_array_and_draws_nothing():
    lonlat = np.array([[181.0, 3.0]])
    rng = np.random.default_rng(0)
    assert add_noise(lonlat, 0.0, rng) is lonlat
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("sigma", [-1.0, float("nan")])
def test_a_spread_below_zero_is_refused(sigma):
    with pytest.raises(OptionError, match="standard deviation of at least 0"):
        add_noise(np.zeros((1, 2)), sigma, np.random.default_rng(0))
