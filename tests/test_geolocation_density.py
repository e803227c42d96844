"""The density over the Earth: what must not change it, and what it must be by hand."""

import pickle

import numpy as np
import pytest
import shapely
from scipy.special import softmax

from geoembed.errors import CoordinateError, OptionError
from geoembed.geodesy import great_circle_km
from geoembed.geolocation.cells import EarthCells
from geoembed.geolocation.density import EarthDensity
from geoembed.geolocation.scoring import score_blocks


def spots(places):
    """Polygons of some metres around places: the support is then their cells alone."""
    return shapely.buffer(shapely.points(places), 1e-5)


@pytest.fixture(scope="module")
def gallery():
    """400 places, 300 of them crowded around one, and unit vectors of 16 values."""
    rng = np.random.default_rng(3)
    crowd = np.column_stack([rng.normal(2.35, 0.2, 300), rng.normal(48.86, 0.2, 300)])
    spread = np.column_stack([rng.uniform(-180, 180, 100), rng.uniform(-60, 75, 100)])
    vectors = rng.normal(size=(400, 16))
    return np.concatenate([crowd, spread]), vectors / np.linalg.norm(vectors, axis=1)[:, None]


@pytest.fixture(scope="module")
def density(gallery):
    return EarthDensity(gallery[0], cell_km=100.0)


@pytest.fixture(scope="module")
def queries():
    vectors = np.random.default_rng(4).normal(size=(5, 16))
    return vectors / np.linalg.norm(vectors, axis=1)[:, None]


class TestCells:
    @pytest.mark.parametrize("km", [50.0, 333.0, 2000.0])
    def test_they_cover_the_sphere_once(self, km):
        cells = EarthCells(km)
        everything = np.arange(len(cells))
        assert cells.areas(everything).sum() == pytest.approx(4 * np.pi * 6371.0088**2, rel=1e-12)
        assert (cells.locate(cells.centres(everything)) == everything).all()
        west, south, east, north = cells.bounds(everything).T
        assert ((west < east) & (south < north)).all()
        assert west.min() == -180.0
        assert east.max() == 180.0

    def test_areas_are_those_of_their_boxes(self):
        cells = EarthCells(500.0)
        some = np.array([0, 7, 900, len(cells) - 1])
        west, south, east, north = np.radians(cells.bounds(some)).T
        by_hand = 6371.0088**2 * (east - west) * (np.sin(north) - np.sin(south))
        np.testing.assert_allclose(cells.areas(some), by_hand, rtol=1e-12)

    def test_they_are_nearly_equal(self):
        cells = EarthCells(50.0)
        areas = cells.areas(np.arange(len(cells)))
        assert areas.min() / 2500.0 > 0.95
        assert areas.max() / 2500.0 < 1.06

    def test_corners_of_the_world(self):
        cells = EarthCells(100.0)
        corners = np.array([[180.0, 0.0], [-180.0, 0.0], [0.0, 90.0], [17.0, -90.0]])
        east, west, north, south = cells.locate(corners)
        assert east == west
        assert north >= len(cells) - 3
        assert south < 3

    def test_polygons_beyond_the_antimeridian(self):
        cells = EarthCells(200.0)
        far = cells.touching(shapely.box(178, -2, 182, 2))
        near = cells.touching([shapely.box(178, -2, 180, 2), shapely.box(-180, -2, -178, 2)])
        assert (far == near).all()

    @pytest.mark.parametrize("km", [0.0, -1.0, np.nan, "50", True, 1e9])
    def test_sizes_that_do_not_fit(self, km):
        with pytest.raises(OptionError, match="cell_km"):
            EarthCells(km)

    def test_unknown_support(self):
        with pytest.raises(OptionError, match="support='sea' is not offered"):
            EarthCells(500.0).touching("sea")


class TestDensity:
    def test_rows_sum_to_one(self, gallery, density, queries):
        mass = density.probabilities(queries @ gallery[1].T, tau=0.1)
        np.testing.assert_allclose(mass.sum(axis=1), 1.0, rtol=1e-12)

    def test_duplicated_rows_change_nothing(self, gallery, density, queries):
        lonlat, vectors = gallery
        rows = np.random.default_rng(9).integers(len(lonlat), size=900)
        rows = np.concatenate([rows, np.arange(len(lonlat))])
        again = EarthDensity(lonlat[rows], cell_km=100.0)
        scores = queries @ vectors.T
        for tau in (0.01, 0.1, 1.0):
            one = density.probabilities(scores, tau=tau)
            other = again.probabilities(scores[:, rows], tau=tau)
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(
            density.radii_km(scores, lonlat[:5], tau=0.1),
            again.radii_km(scores[:, rows], lonlat[:5], tau=0.1),
        )

    def test_a_crowd_is_no_evidence(self, gallery, density):
        # Equal scores everywhere: what is left is area alone, however the places crowd.
        mass = density.probabilities(np.full((1, 400), 0.2), tau=0.025)[0]
        np.testing.assert_allclose(mass, density.areas_km2 / density.areas_km2.sum(), rtol=1e-12)

    def test_more_places_with_equal_scores_in_a_cell_change_nothing(self):
        two = np.array([[10.0, 50.0], [20.0, 50.0]])
        shifts = np.column_stack([np.linspace(0, 0.01, 50), np.zeros(50)])
        many = np.concatenate([two, two[0] + shifts[1:]])
        small = EarthDensity(two, cell_km=100.0, support=shapely.box(9, 49, 21, 51))
        large = EarthDensity(many, cell_km=100.0, support=shapely.box(9, 49, 21, 51))
        assert len(np.unique(large.cells.locate(many))) == 2
        one = small.probabilities([[0.5, 0.1]], tau=0.2)
        other = large.probabilities([np.r_[0.5, 0.1, np.full(49, 0.5)]], tau=0.2)
        np.testing.assert_allclose(one, other, rtol=1e-12)

    def test_by_hand(self):
        # Two cells far apart, one place each: their odds are areas times exp(score / tau).
        places = np.array([[1.0, 1.0], [91.0, 61.0]])
        density = EarthDensity(places, cell_km=500.0, support=spots(places))
        assert len(density) == 2
        scores = np.array([[0.3, 0.2]])
        nearest = np.argmin(
            great_circle_km(
                *density.cells.centres(density.cell)[:, None].transpose(2, 0, 1),
                *places[None].transpose(2, 0, 1),
            ),
            axis=1,
        )
        odds = density.areas_km2 * np.exp(scores[0, nearest] / 0.05)
        np.testing.assert_allclose(
            density.probabilities(scores, tau=0.05)[0], odds / odds.sum(), rtol=1e-12
        )

    def test_log_density_is_that_of_the_cell(self, gallery, density, queries):
        lonlat, vectors = gallery
        scores = queries @ vectors.T
        truth = lonlat[[0, 5, 350, 360, 399]]
        mass = density.probabilities(scores, tau=0.2)
        at = np.searchsorted(density.cell, density.cells.locate(truth))
        expected = 0.99 * mass[np.arange(5), at] / density.areas_km2[at] + 0.01 / 510065880.97
        np.testing.assert_allclose(
            density.log_density(scores, truth, tau=0.2), np.log(expected), rtol=1e-9
        )

    def test_truth_outside_the_support_has_the_background(self):
        density = EarthDensity([[10.0, 50.0]], cell_km=100.0, support=shapely.box(9, 49, 11, 51))
        nats = density.log_density([[0.3]], [[-100.0, 40.0]], tau=0.1)
        assert nats[0] == pytest.approx(np.log(0.01 / (4 * np.pi * 6371.0088**2)))

    def test_information(self, gallery, density, queries):
        scores = queries @ gallery[1].T
        flat, warm, cold = (density.information(scores, tau=tau) for tau in (1e6, 0.2, 0.02))
        assert (flat < 1e-9).all()
        assert (warm < cold).all()
        mass = density.probabilities(scores, tau=0.2)
        prior = density.areas_km2 / density.areas_km2.sum()
        np.testing.assert_allclose(warm, (mass * np.log(mass / prior)).sum(axis=1), rtol=1e-9)

    def test_places_outside_polygons_have_no_say(self):
        places = [[10.0, 50.0], [-100.0, 40.0]]
        density = EarthDensity(places, cell_km=100.0, support=shapely.box(9, 49, 11, 51))
        assert density.rows.tolist() == [0]
        np.testing.assert_allclose(
            density.probabilities([[0.1, 0.9]], tau=0.01)[0],
            density.areas_km2 / density.areas_km2.sum(),
        )

    def test_islands_stay(self):
        # 1:50 million does not know Pitcairn; a gallery's place there keeps its cell.
        pitcairn = [-130.1, -25.07]
        density = EarthDensity([pitcairn, [2.35, 48.86]], cell_km=100.0)
        assert density.cells.locate(np.array([pitcairn]))[0] in density.cell

    def test_pickles(self, density, gallery, queries):
        again = pickle.loads(pickle.dumps(density))
        scores = queries @ gallery[1].T
        np.testing.assert_array_equal(
            again.probabilities(scores, tau=0.1), density.probabilities(scores, tau=0.1)
        )

    def test_softmax_where_every_cell_has_a_place(self):
        places = np.array([[0.2, 0.2], [30.2, 0.2], [60.2, 0.2]])
        density = EarthDensity(places, cell_km=100.0, support=spots(places))
        # The three cells lie in one band, so their areas are equal.
        assert len(density) == 3
        scores = np.array([[0.1, 0.4, 0.2]])
        np.testing.assert_allclose(
            density.probabilities(scores, tau=0.3), softmax(scores / 0.3, axis=1), rtol=1e-12
        )


class TestRadii:
    def test_even_disc(self):
        # A density that is even over a cap: half of it lies within a known distance.
        rng = np.random.default_rng(0)
        cap = shapely.Point(20.0, 0.0).buffer(9.0, quad_segs=64)
        places = np.column_stack([rng.uniform(11, 29, 4000), rng.uniform(-9, 9, 4000)])
        places = places[shapely.contains_xy(cap, *places.T)]
        density = EarthDensity(places, cell_km=25.0, support=cap)
        found = density.radii_km(
            np.zeros((1, len(places))), [[20.0, 0.0]], tau=1.0, shares=(0.5, 0.9)
        )
        whole = 9.0 * 111.195
        np.testing.assert_allclose(found[0], whole * np.sqrt([0.5, 0.9]), rtol=0.03)

    def test_two_places(self):
        places = np.array([[0.2, 0.2], [30.2, 0.2]])
        density = EarthDensity(places, cell_km=20.0, support=spots(places))
        scores = np.array([[0.0, np.log(3.0)]])  # odds of one to three
        near, far = density.radii_km(scores, places[:1], tau=1.0, shares=(0.2, 0.5))[0]
        assert near < 12.0
        assert far == pytest.approx(great_circle_km(0.2, 0.2, 30.2, 0.2), rel=1e-3)

    def test_across_the_antimeridian(self):
        places = np.array([[179.9, 0.2], [-179.9, 0.2]])
        density = EarthDensity(places, cell_km=10.0, support=spots(places))
        found = density.radii_km(np.zeros((1, 2)), places[:1], tau=1.0, shares=(0.9,))
        assert found[0, 0] < 30.0

    def test_they_grow_with_the_share(self, gallery, density, queries):
        found = density.radii_km(
            queries @ gallery[1].T, gallery[0][:5], tau=0.1, shares=(0.1, 0.5, 0.9, 0.99)
        )
        assert (np.diff(found, axis=1) >= 0.0).all()

    @pytest.mark.parametrize("shares", [(0.0,), (1.0,), (0.5, np.nan), 0.5])
    def test_shares_that_do_not_fit(self, density, shares):
        with pytest.raises(OptionError, match="strictly between 0 and 1"):
            density.radii_km(np.zeros((1, 400)), [[0, 0]], tau=1.0, shares=shares)


class TestBadInput:
    @pytest.mark.parametrize("tau", [0.0, -1.0, np.nan, np.inf])
    def test_tau(self, density, tau):
        with pytest.raises(OptionError, match="give a temperature above 0"):
            density.probabilities(np.zeros((1, 400)), tau=tau)

    def test_scores(self, density):
        with pytest.raises(OptionError, match=r"\(1, 3\): give \(m, 400\)"):
            density.probabilities([[1.0, 2.0, 3.0]], tau=1.0)
        with pytest.raises(OptionError, match="not finite"):
            density.probabilities(np.full((1, 400), np.nan), tau=1.0)

    def test_one_place_a_query(self, density):
        with pytest.raises(OptionError, match="2 places for 1 queries"):
            density.log_density(np.zeros((1, 400)), [[0, 0], [1, 1]], tau=1.0)

    def test_places(self):
        with pytest.raises(CoordinateError, match="must be finite"):
            EarthDensity([[np.nan, 0.0]])
        with pytest.raises(CoordinateError, match="shape"):
            EarthDensity(np.empty((0, 2)))
        with pytest.raises(CoordinateError, match="none of the places"):
            EarthDensity([[10.0, 50.0]], support=shapely.box(-100, 30, -99, 31))


def test_blocks_hold_every_query_once(monkeypatch):
    monkeypatch.setattr("geoembed.geolocation.scoring._VALUES_AT_ONCE", 70)
    rng = np.random.default_rng(1)
    queries, vectors = rng.normal(size=(23, 8)), rng.normal(size=(30, 8)).astype(np.float16)
    blocks = list(score_blocks(queries, vectors))
    assert len(blocks) == 12
    joined = np.concatenate([scores for _, scores in blocks])
    np.testing.assert_allclose(joined, queries @ vectors.T.astype(float), rtol=1e-5, atol=1e-5)
