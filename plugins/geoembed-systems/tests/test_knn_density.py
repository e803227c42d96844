"""[L]kNN: weights, densities and votes against brute force; where the grid goes wrong."""

import math

import numpy as np
import pytest
from geoembed_systems.density import spreading
from geoembed_systems.density.grid import grid_peaks
from geoembed_systems.density.sphere import Neighbours, find_neighbours, sphere_peaks, weigh
from geoembed_systems.density.spreading import LandOfMeans
from knn_places import FOUR_DEGREES_KM, anywhere, arc_km, unit
from scipy.ndimage import gaussian_filter

from geoembed.geodesy import EARTH_RADIUS_KM, to_unit_vectors
from geoembed.geolocation.density import EarthDensity


def neighbours(lonlat, weights=None):
    """Neighbours of one picture of one view, first ranked first."""
    lonlat = np.asarray(lonlat, dtype=np.float64)
    weights = np.ones(len(lonlat)) if weights is None else np.asarray(weights, dtype=np.float64)
    rows = np.arange(len(lonlat))
    return Neighbours(rows[None], lonlat[None], (weights / weights.sum())[None, None])


def on_sphere(found, **options):
    return sphere_peaks(
        found, **{"sigma_km": FOUR_DEGREES_KM, "pooling": "mean", "snap_km": 100.0, **options}
    )


def on_grid(found, **options):
    return grid_peaks(found, **{"sigma": 4.0, "pooling": "mean", "snap_km": 100.0, **options})


# -- weights and neighbours ------------------------------------------------------------------------


def test_weights_are_a_power_of_the_squared_distance():
    squared = [0.3, 0.35, 0.7, 1.9]
    raw = [1.0 / value**10 for value in squared]
    np.testing.assert_allclose(weigh(squared, 10.0), np.array(raw) / sum(raw), rtol=1e-12)


def test_weights_stay_finite_where_powers_overflow():
    weights = weigh([[1e-9, 1e-9, 2.0], [0.0, 0.0, 1e-30]], 60.0)
    np.testing.assert_allclose(weights, [[0.5, 0.5, 0.0], [1 / 3] * 3], rtol=1e-12)


def test_an_exponent_of_0_weighs_all_neighbours_the_same():
    np.testing.assert_allclose(weigh([0.0, 1.0, 2.0, 3.0], 0.0), 0.25)


def test_neighbours_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    features = unit(rng.normal(size=(700, 12)).astype(np.float32))
    queries = unit(rng.normal(size=(9, 1, 12)).astype(np.float32))
    lonlat = anywhere(rng, 700)
    found = find_neighbours(queries, features, lonlat, neighbours=40, exponent=10.0)
    for picture, query in enumerate(queries[:, 0].astype(np.float64)):
        squared = [((query - row) ** 2).sum() for row in features.astype(np.float64)]
        best = np.argsort(squared)[:40]
        assert found.rows[picture].tolist() == best.tolist()
        raw = np.array([squared[row] ** -10.0 for row in best])
        np.testing.assert_allclose(found.weights[picture, 0], raw / raw.sum(), rtol=1e-4)
        np.testing.assert_array_equal(found.lonlat[picture], lonlat[best])


def test_distances_of_close_features_keep_their_digits():
    """1 - cos in float32 would make them 0, 6e-8 or 1.2e-7, and weights a thousand times wrong."""
    turns = np.radians([0.010, 0.012, 0.020])
    features = np.column_stack([np.cos(turns), np.sin(turns)]).astype(np.float32)
    query = np.array([[[1.0, 0.0]]], dtype=np.float32)
    found = find_neighbours(query, features, np.zeros((3, 2)), neighbours=3, exponent=10.0)
    raw = (1.0 / (2.0 * np.sin(turns / 2.0)) ** 2) ** 10
    np.testing.assert_allclose(found.weights[0, 0], raw / raw.sum(), rtol=1e-3)


# -- the density on the sphere ---------------------------------------------------------------------


def test_the_peak_is_that_of_a_double_loop_over_great_circles():
    rng = np.random.default_rng(1)
    for _ in range(20):
        lonlat = anywhere(rng, 30)
        weights = rng.uniform(0.1, 1.0, 30) ** 3
        density = [
            sum(
                weight * math.exp(-(arc_km(here, there) ** 2) / (2 * FOUR_DEGREES_KM**2))
                for there, weight in zip(lonlat, weights, strict=True)
            )
            for here in lonlat
        ]
        peak = lonlat[int(np.argmax(density))]
        near = [there for there in lonlat if arc_km(peak, there) <= 100.0]
        np.testing.assert_array_equal(on_sphere(neighbours(lonlat, weights)), near[:1])


def test_the_most_similar_neighbour_near_the_maximum_answers():
    # 89 km from the maximum, but ranked higher; what ranks highest of all is too far away.
    places = [[30.0, 0.0], [0.8, 0.0], [0.0, 0.0], [0.0, 0.1], [0.0, -0.1], [0.0, 0.0]]
    np.testing.assert_array_equal(on_sphere(neighbours(places)), [[0.8, 0.0]])
    np.testing.assert_array_equal(on_sphere(neighbours(places), snap_km=1.0), [[0.0, 0.0]])
    np.testing.assert_array_equal(on_grid(neighbours(places)), [[0.8, 0.0]])


def test_of_views_the_mean_density_decides_or_the_largest():
    # One view is sure of Lima, the two others lean towards Oslo and are not sure of it.
    lima, oslo, perth = [-77.0, -12.0], [10.7, 59.9], [115.9, -32.0]
    weights = np.array([[[0.7, 0.3, 0.0], [0.0, 0.55, 0.45], [0.0, 0.55, 0.45]]])
    found = Neighbours(np.arange(3)[None], np.array([[lima, oslo, perth]]), weights)
    for peaks in (on_sphere, on_grid):
        np.testing.assert_array_equal(peaks(found), [oslo])
        np.testing.assert_array_equal(peaks(found, pooling="max"), [lima])


# -- the original's grid ---------------------------------------------------------------------------


def blurred_peak(lonlat, weights, sigma):
    """The same with a histogram and scipy's filter: the middle of the densest square."""

    def densest(edges_lon, edges_lat, step):
        counted, _, _ = np.histogram2d(*lonlat.T, bins=[edges_lon, edges_lat], weights=weights)
        grid = gaussian_filter(counted, sigma / step, mode="constant", truncate=60.0)
        lon, lat = np.unravel_index(grid.argmax(), grid.shape)
        return edges_lon[lon] + step / 2, edges_lat[lat] + step / 2

    lon, lat = densest(np.arange(-180.0, 181.0), np.arange(-90.0, 91.0), 1.0)
    west, south = lon - 0.5 - 20.0, lat - 0.5 - 20.0
    fine = np.arange(401) / 10.0
    return densest(west + fine, south + fine, 0.1)


def test_the_grid_is_a_blurred_histogram_twice_over():
    rng = np.random.default_rng(2)
    for sigma in (4.0, 2.5):
        # Not on the edges of squares, where rounding decides.
        lonlat = np.floor(anywhere(rng, 40) * 0.9 * 10.0) / 10.0 + 0.03
        lonlat[:15] = lonlat[0] + np.round(rng.normal(scale=6.0, size=(15, 2)), 1)
        weights = rng.uniform(0.1, 1.0, 40)
        expected = blurred_peak(lonlat, weights, sigma)
        found = on_grid(neighbours(lonlat, weights), sigma=sigma, snap_km=0.0)
        np.testing.assert_allclose(found, [expected], atol=1e-9)


def test_places_on_the_last_edges_are_counted():
    for place in ([180.0, 10.0], [-180.0, 10.0], [20.0, 90.0], [20.0, -90.0]):
        found = on_grid(neighbours([place, place, [0.0, 0.0]]))
        np.testing.assert_array_equal(found, [place])


def test_across_the_antimeridian_the_grid_tears_a_town_apart_and_the_sphere_does_not():
    fiji = [[179.9, -17.0], [-179.9, -17.0]] * 3
    elsewhere = [[20.0, 50.0]] * 4
    found = neighbours(fiji + elsewhere)
    assert arc_km(on_sphere(found)[0], [180.0, -17.0]) < 50.0
    np.testing.assert_array_equal(on_grid(found), [[20.0, 50.0]])


def test_near_a_pole_the_grid_takes_degrees_for_kilometres_and_the_sphere_does_not():
    # Six places within 200 km of each other, 30 degrees of longitude apart.
    svalbard = [[lon, 88.5] for lon in range(-75, 100, 30)]
    assert max(arc_km(a, b) for a in svalbard for b in svalbard) < 340.0
    elsewhere = [[-60.0, -10.0]] * 4
    found = neighbours(svalbard + elsewhere)
    assert on_sphere(found)[0, 1] == 88.5
    np.testing.assert_array_equal(on_grid(found), [[-60.0, -10.0]])


# -- votes spread over land ------------------------------------------------------------------------


def drawn_shares(means, sigma_km, draws=400_000):
    """Shares of Gaussians over land by drawing places: what is nearest to which mean."""
    rng = np.random.default_rng(11)
    earth = EarthDensity(means)
    units = to_unit_vectors(np.asarray(means))
    found = np.zeros((len(means), len(means)))
    for row, mean in enumerate(units):
        # Evenly over the cap of 3 sigma: evenly in the height over its base.
        edge = math.cos(min(3.0 * sigma_km / EARTH_RADIUS_KM, math.pi))
        height, turn = rng.uniform(edge, 1.0, draws), rng.uniform(0.0, 2.0 * math.pi, draws)
        side = np.cross(mean, np.eye(3)[np.abs(mean).argmin()])
        side /= np.linalg.norm(side)
        away = np.sqrt(1.0 - height**2)[:, None]
        places = (
            height[:, None] * mean
            + away * np.cos(turn)[:, None] * side
            + away * np.sin(turn)[:, None] * np.cross(mean, side)
        )
        lonlat = np.column_stack(
            [
                np.degrees(np.arctan2(places[:, 1], places[:, 0])),
                np.degrees(np.arcsin(places[:, 2].clip(-1.0, 1.0))),
            ]
        )
        land = np.isin(earth.cells.locate(lonlat), earth.cell)
        weight = np.exp(-0.5 * (np.arccos(height) * EARTH_RADIUS_KM / sigma_km) ** 2) * land
        found[row] = np.bincount((places @ units.T).argmax(axis=1), weight, len(means))
    return found / found.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("means", "sigma_km"),
    [
        pytest.param([[10, 50], [14, 50], [12, 46], [40, 55], [-70, -30]], 445.0, id="inland"),
        pytest.param([[177.5, 66.5], [-177.0, 67.0], [-172.0, 65.5]], 300.0, id="antimeridian"),
        pytest.param([[0, -90], [170, -86], [-10, -86], [80, -82]], 445.0, id="pole"),
        pytest.param([[20, 0], [110, 30], [-60, -10]], 8000.0, id="all of the Earth"),
    ],
)
def test_a_vote_goes_where_places_drawn_around_it_lie(means, sigma_km):
    land = LandOfMeans(means)
    found = land.spread(sigma_km).toarray()
    np.testing.assert_allclose(found, drawn_shares(means, sigma_km), atol=0.012)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-12)
    # Land, and the cells of 50 km that hold means at sea.
    assert 1.4e8 < land.km2.sum() < 1.7e8


def test_a_vote_stays_with_its_cell_where_sigma_is_small_or_nothing_is_near():
    means = [[10.0, 50.0], [10.4, 50.0], [-70.0, -30.0], [-150.0, 0.0], [-150.0, 89.0]]
    land = LandOfMeans(means)
    np.testing.assert_allclose(land.spread(1.0).toarray(), np.eye(5), atol=1e-12)
    np.testing.assert_allclose(land.spread(445.0).toarray()[2:], np.eye(5)[2:], atol=1e-12)
    assert (land.km2 > 0.0).all()


def test_equal_means_share_what_is_spread_and_their_land():
    once, twice = (
        LandOfMeans([[10.0, 50.0], [14.0, 50.0], *more]) for more in ([], [[10.0, 50.0]])
    )
    near, far = once.spread(445.0).toarray()
    expected = [[near[0] / 2, near[1], near[0] / 2], [far[0] / 2, far[1], far[0] / 2]]
    np.testing.assert_allclose(twice.spread(445.0).toarray(), [*expected, expected[0]], rtol=1e-12)
    np.testing.assert_allclose(twice.km2, [once.km2[0] / 2, once.km2[1], once.km2[0] / 2])


def test_many_means_are_spread_in_parts_to_the_same_end(monkeypatch):
    land = LandOfMeans(anywhere(np.random.default_rng(4), 60))
    whole = land.spread(445.0).toarray()
    monkeypatch.setattr(spreading, "_PAIRS", 500_000)
    np.testing.assert_array_equal(land.spread(445.0).toarray(), whole)
