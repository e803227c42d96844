"""Refinement: known truth is found, walls hold, nothing gets worse."""

import numpy as np
import pytest
import shapely

from geoembed.data import is_land
from geoembed.encoders import load_encoder
from geoembed.encoders.base import LocationEncoder
from geoembed.errors import OptionError
from geoembed.extending.specs import LocationEncoderSpec
from geoembed.geodesy import (
    EARTH_RADIUS_KM,
    distance_km,
    from_unit_vectors,
    great_circle_km,
    to_unit_vectors,
)
from geoembed.geolocation.ascent import climb
from geoembed.geolocation.refining import refine
from geoembed.geolocation.tangent import hexagonal, points_around, stretch_of


class Smooth(LocationEncoder):
    """Random features of a Gaussian kernel on the sphere: no seam, similarity 0.6 at 10 km."""

    def _encode_block(self, lonlat):
        rng = np.random.default_rng(0)
        frequencies = rng.normal(size=(3, 128)) * EARTH_RADIUS_KM / 10.0
        phases = to_unit_vectors(lonlat) @ frequencies
        return np.hstack([np.cos(phases), np.sin(phases)])


@pytest.fixture(scope="module")
def smooth():
    spec = LocationEncoderSpec(
        name="smooth", factory="tests:Smooth", dimension=256, summary="Kernel features"
    )
    return Smooth(spec, normalize=True)


@pytest.fixture(scope="module")
def geoclip():
    return load_encoder("geoclip.v1", normalize=True)


# Inland, on the antimeridian, beside it, at a pole, near the other.
TRUTHS = np.array(
    [[12.3, 45.6], [180.0, -16.5], [-179.99, 66.1], [40.0, 90.0], [-100.0, -89.97], [-70.1, -30.2]]
)


def beside(truth, km=22.0):
    """Starts a stretch away, at every azimuth in turn."""
    angles = np.arange(len(truth)) * 1.1
    return points_around(truth, km * np.column_stack([np.cos(angles), np.sin(angles)]))


class TestTangent:
    def test_hexagons_leave_no_gap(self):
        lattice = hexagonal(50.0, 10.0)
        rng = np.random.default_rng(0)
        inside = rng.uniform(-30, 30, size=(500, 2))
        away = np.linalg.norm(inside[:, None] - lattice, axis=2).min(axis=1)
        assert away.max() <= 10.0 / np.sqrt(3.0) + 1e-9
        assert lattice[0].tolist() == [0.0, 0.0]
        assert np.hypot(*lattice.T).max() <= 50.0 + 1e-6

    def test_a_stretched_lattice_keeps_its_density(self):
        plain, narrow = hexagonal(60.0, 4.0), hexagonal(60.0, 4.0, 3.0)
        assert len(narrow) == pytest.approx(len(plain), rel=0.05)
        assert np.diff(np.unique(narrow[:, 0].round(6))).min() < 1.0

    @pytest.mark.parametrize("place", TRUTHS.tolist())
    def test_points_lie_as_far_as_asked(self, place):
        offsets = hexagonal(80.0, 20.0)
        points = points_around(np.array(place), offsets)
        away = great_circle_km(*place, *points.T)
        np.testing.assert_allclose(away, np.hypot(*offsets.T), atol=1e-6)
        assert (np.abs(points[:, 0]) <= 180.0).all()
        assert (np.abs(points[:, 1]) <= 90.0).all()

    def test_east_is_east(self):
        moved = points_around(np.array([[10.0, 50.0]]), np.array([[5.0, 0.0]]))
        assert moved[0, 0] > 10.0
        assert moved[0, 1] == pytest.approx(50.0, abs=0.01)

    def test_stretch_follows_the_map(self, geoclip, smooth):
        places = np.array([[0.0, 0.0], [10.0, 87.0], [0.0, 90.0]])
        low, high, pole = stretch_of(geoclip, places)
        # Equal Earth keeps areas, and its parallels at the equator are 0.8615 of their length.
        assert low**2 == pytest.approx(0.8615**2, rel=1e-3)
        assert high > 3.0
        assert pole == 10.0
        assert stretch_of(smooth, places).tolist() == [1.0, 1.0, 1.0]


class TestClimb:
    def test_top_of_a_paraboloid_in_few_steps(self):
        calls = []

        def hill(lonlat, rows):
            calls.append(len(lonlat))
            return -(great_circle_km(*lonlat.T, 10.0, 50.0) ** 2)

        start = np.array([[10.03, 50.02]])
        place, score = climb(hill, start, hill(start, None), 1.0, 0.001, 50)
        assert great_circle_km(*place[0], 10.0, 50.0) < 0.002
        assert score[0] > -1e-5
        assert len(calls) < 12

    def test_a_ridge(self):
        def ridge(lonlat, rows):
            x, y = (lonlat[:, 0] - 10.0) * 71.0, (lonlat[:, 1] - 50.0) * 111.0
            return -(((x - y) * 8.0) ** 2) - (x + y) ** 2 / 50.0

        start = np.array([[10.05, 50.02]])
        place, _ = climb(ridge, start, ridge(start, None), 1.0, 0.005, 80)
        assert great_circle_km(*place[0], 10.0, 50.0) < 0.2

    def test_nothing_worse_than_the_start(self):
        rng = np.random.default_rng(1)
        starts = np.column_stack([rng.uniform(-180, 180, 50), rng.uniform(-90, 90, 50)])
        noise = {}

        def rough(lonlat, rows):
            return np.array([noise.setdefault(tuple(p), rng.normal()) for p in lonlat.tolist()])

        before = rough(starts, None)
        places, after = climb(rough, starts, before, 1.0, 0.01, 10)
        assert (after >= before).all()
        np.testing.assert_array_equal(rough(places, None), after)

    def test_steps_are_limited(self):
        calls = []

        def slope(lonlat, rows):
            calls.append(1)
            return lonlat[:, 1]

        start = np.array([[0.0, 0.0]])
        climb(slope, start, np.array([0.0]), 1.0, 0.01, 7)
        assert len(calls) == 7


class TestRefine:
    def test_known_truth_anywhere(self, smooth):
        found = refine(smooth.encode(*TRUTHS.T), beside(TRUTHS)[:, None], smooth)
        ends = np.stack([one.lonlat[0] for one in found])
        assert great_circle_km(*TRUTHS.T, *ends.T).max() < 0.05

    def test_with_the_trained_encoder(self, geoclip):
        rng = np.random.default_rng(11)
        drawn = from_unit_vectors(rng.normal(size=(100, 3)))
        truth = drawn[is_land(*drawn.T)][:8]
        starts = np.stack([beside(truth, 25.0), points_around(truth, np.array([300.0, 0.0]))], 1)
        found = refine(geoclip.encode(*truth.T), starts, geoclip)
        ends = np.stack([one.lonlat[0] for one in found])
        assert distance_km(*truth.T, *ends.T).max() < 1.0

    def test_never_below_the_start(self, smooth):
        rng = np.random.default_rng(2)
        queries = rng.normal(size=(6, 256))
        found = refine(queries, [beside(TRUTHS)] * 6, smooth)
        for query, one in zip(queries, found, strict=True):
            assert (one.scores >= one.start_scores).all()
            assert (np.diff(one.scores) <= 0.0).all()
            exact = smooth.encode(*one.lonlat.T).astype(float) @ query
            np.testing.assert_allclose(one.scores, exact, atol=1e-4)
            assert sorted(one.start.tolist()) == list(range(len(TRUTHS)))

    def test_never_out_of_reach(self, smooth):
        queries = np.random.default_rng(3).normal(size=(4, 256))
        starts = beside(TRUTHS)
        for one in refine(queries, [starts] * 4, smooth, reach_km=15.0):
            assert great_circle_km(*starts[one.start].T, *one.lonlat.T).max() <= 15.0 + 1e-6

    def test_never_out_of_the_polygon(self, smooth):
        # The truth lies just outside: the best place inside is on the border.
        truth = np.array([[180.2, 0.0]])
        wall = shapely.box(179.0, -1.0, 180.1, 1.0)
        starts = [[[179.9, 0.05], [-179.95, -0.05]]]
        found = refine(smooth.encode(*truth.T), starts, smooth, within=wall)[0]
        east = np.mod(found.lonlat[:, 0], 360.0)
        assert (shapely.intersects_xy(wall, east, found.lonlat[:, 1])).all()
        assert east[0] == pytest.approx(180.1, abs=0.02)
        free = refine(smooth.encode(*truth.T), starts, smooth)[0]
        assert free.lonlat[0] == pytest.approx([-179.8, 0.0], abs=0.001)

    def test_many_queries_are_as_one(self, smooth):
        queries, starts = smooth.encode(*TRUTHS.T), beside(TRUTHS)[:, None]
        together = refine(queries, starts, smooth)
        for at in range(len(TRUTHS)):
            alone = refine(queries[at : at + 1], starts[at : at + 1], smooth)[0]
            np.testing.assert_allclose(alone.scores, together[at].scores, rtol=1e-6)
            away = great_circle_km(*alone.lonlat.T, *together[at].lonlat.T)
            assert away.max() < 0.05

    def test_queries_without_starts(self, smooth):
        queries = smooth.encode(*TRUTHS[:2].T)
        none, some = refine(queries, [np.empty((0, 2)), beside(TRUTHS[1:2])], smooth)
        assert len(none.scores) == 0
        assert len(some.scores) == 1
        assert refine(np.empty((0, 256)), [], smooth) == []

    def test_longer_queries_end_in_the_same_place(self, smooth):
        queries, starts = smooth.encode(*TRUTHS[:1].T), beside(TRUTHS[:1])[None]
        one, ten = (refine(scale * queries, starts, smooth)[0] for scale in (1.0, 10.0))
        assert great_circle_km(*one.lonlat[0], *ten.lonlat[0]) < 0.05
        np.testing.assert_allclose(10.0 * one.scores, ten.scores, rtol=1e-6)


class TestBadInput:
    def test_a_start_outside(self, smooth):
        with pytest.raises(OptionError, match="1 starts lie outside within="):
            refine(
                smooth.encode(*TRUTHS[:1].T),
                [[[50.0, 50.0]]],
                smooth,
                within=shapely.box(0, 0, 10, 10),
            )

    def test_shapes(self, smooth):
        with pytest.raises(OptionError, match=r"needs \(m, 256\)"):
            refine(np.zeros((1, 5)), [[[0, 0]]], smooth)
        with pytest.raises(OptionError, match="2 arrays for 1 queries"):
            refine(np.zeros((1, 256)), [[[0, 0]], [[0, 0]]], smooth)

    @pytest.mark.parametrize("starts", [[0.0, 1.0], [[0.0, 1.0, 2.0]], "here", [[None, "x"]]])
    def test_starts(self, smooth, starts):
        with pytest.raises(OptionError, match=r"starts\[0\] has the shape"):
            refine(np.zeros((1, 256)), [starts], smooth)

    def test_values(self, smooth):
        with pytest.raises(OptionError, match="the first is row 1"):
            refine(np.array([[0.0] * 256, [np.nan] * 256]), [[[0, 0]], [[0, 0]]], smooth)
        with pytest.raises(OptionError, match=r"starts\[0\] hold coordinates that are no places"):
            refine(np.zeros((1, 256)), [[[0, 91]]], smooth)

    @pytest.mark.parametrize(
        "option",
        [
            {"reach_km": 0},
            {"step_km": -1.0},
            {"finest_km": np.nan},
            {"beam": 0},
            {"max_steps": 1.5},
        ],
    )
    def test_options(self, smooth, option):
        with pytest.raises(OptionError, match=next(iter(option))):
            refine(np.zeros((1, 256)), [[[0, 0]]], smooth, **option)
