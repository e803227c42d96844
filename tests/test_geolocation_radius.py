"""Conformal radii cover as often as they say; tests for a signal raise as few alarms."""

import json

import numpy as np
import pytest

from geoembed.errors import OptionError
from geoembed.geodesy import distance_km, from_unit_vectors
from geoembed.geolocation.calibration import Calibration, assess, calibrate
from geoembed.geolocation.density import EarthDensity
from geoembed.geolocation.radius import ConformalRadius, fit_radius
from geoembed.geolocation.signal import SignalTest, fit_signal_test, shuffled_queries
from geoembed.geolocation.temperature import Temperature


@pytest.fixture(scope="module")
def world():
    """A gallery whose vectors fall off over 300 km, and noisy pictures of known places."""
    rng = np.random.default_rng(12)
    lonlat = from_unit_vectors(rng.normal(size=(1500, 3)))
    frequencies = rng.normal(size=(3, 64)) * 20.0

    def encode(places):
        lon, lat = np.radians(places).T
        units = np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
        phases = units @ frequencies
        return np.hstack([np.cos(phases), np.sin(phases)]) / 8.0

    truth = from_unit_vectors(rng.normal(size=(6000, 3)))
    queries = encode(truth)
    # Pictures differ in how clear they are.
    clear = rng.uniform(0.3, 2.0, size=(len(truth), 1))
    queries = queries + clear * rng.normal(size=queries.shape) / np.sqrt(queries.shape[1])
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    vectors = encode(lonlat)
    density = EarthDensity(lonlat, cell_km=300.0, support="sphere")
    predicted = lonlat[(queries @ vectors.T).argmax(axis=1)]
    return density, vectors, queries, truth, predicted


@pytest.fixture(scope="module")
def measured(world):
    """Errors and scales of the 6,000 pictures, at a temperature from elsewhere."""
    density, vectors, queries, truth, predicted = world
    scale = density.radii_km(queries @ vectors.T, predicted, tau=0.1, shares=(0.5,))[:, 0]
    return distance_km(*truth.T, *predicted.T), scale


class TestRadius:
    @pytest.mark.parametrize("coverage", [0.5, 0.9])
    def test_nominal_coverage_over_20_resplits(self, measured, coverage):
        error, scale = measured
        rng = np.random.default_rng(1)
        covered = []
        for _ in range(20):
            order = rng.permutation(len(error))
            seen, unseen = order[:5000], order[5000:]
            radius = fit_radius(error[seen], scale[seen], coverage=coverage)
            covered.append((error[unseen] <= radius.radii_km(scale[unseen])).mean())
        assert np.mean(covered) == pytest.approx(coverage, abs=0.02)

    def test_unclear_pictures_get_larger_radii(self, measured):
        error, scale = measured
        assert np.corrcoef(np.log(scale), np.log(error + 1.0))[0, 1] > 0.3

    def test_by_hand(self):
        radius = fit_radius([5.0, 1.0, 3.0, 2.0], [1.0, 1.0, 1.0, 1.0], coverage=0.5)
        assert radius.factor == 3.0  # the third of five ranks
        assert radius.pairs == 4

    def test_half_way_around_the_earth_at_most(self):
        assert ConformalRadius(0.9, np.inf).radii_km([1.0]).tolist() == [20_003.9315]

    def test_a_scale_of_zero(self):
        radius = fit_radius([1.0] * 9, [0.0] * 9, coverage=0.9)
        assert np.isfinite(radius.factor)
        assert radius.radii_km([0.0])[0] == pytest.approx(1.0)

    @pytest.mark.parametrize("factor", [2.5, np.inf])
    def test_json(self, factor):
        radius = ConformalRadius(0.9, factor, 100)
        text = json.dumps(radius.to_dict(), allow_nan=False)
        assert ConformalRadius.from_dict(json.loads(text)) == radius

    def test_bad_input(self):
        with pytest.raises(OptionError, match="8 pairs are too few for a coverage of 0.9: give 9"):
            fit_radius([1.0] * 8, [1.0] * 8)
        with pytest.raises(OptionError, match="error_km must be finite"):
            fit_radius([np.nan] * 9, [1.0] * 9)
        with pytest.raises(OptionError, match="one number a pair"):
            fit_radius([1.0] * 9, [1.0] * 8)
        with pytest.raises(OptionError, match="strictly between 0 and 1"):
            fit_radius([1.0] * 9, [1.0] * 9, coverage=1.0)
        with pytest.raises(OptionError, match="give a share"):
            ConformalRadius(0.5, -1.0)
        with pytest.raises(OptionError, match="No radius can be made"):
            ConformalRadius.from_dict({"coverage": 0.5})


class TestSignal:
    def test_false_alarms_are_as_rare_as_stated(self):
        rng = np.random.default_rng(2)
        shares = []
        for _ in range(50):
            test = fit_signal_test(rng.gamma(2.0, size=400), false_alarm=0.05)
            shares.append((~test.no_signal(rng.gamma(2.0, size=2000))).mean())
        assert np.mean(shares) == pytest.approx(0.05, abs=0.01)

    def test_nan_has_no_signal(self):
        assert SignalTest(1.0, 0.05).no_signal([np.nan, 0.5, 1.5]).tolist() == [True, True, False]

    def test_shuffled_queries_keep_the_moments(self):
        rng = np.random.default_rng(3)
        real = rng.normal(size=(2000, 6)) @ rng.normal(size=(6, 6)) + 3.0
        made = shuffled_queries(real, 2000)
        np.testing.assert_allclose(made.mean(axis=0), real.mean(axis=0), atol=0.6)
        assert set(np.linalg.norm(made, axis=1).round(9)) <= set(
            np.linalg.norm(real, axis=1).round(9)
        )
        np.testing.assert_array_equal(made, shuffled_queries(real, 2000))

    def test_bad_input(self):
        with pytest.raises(OptionError, match="18 queries are too few"):
            fit_signal_test(np.arange(18.0))
        with pytest.raises(OptionError, match="one finite number"):
            fit_signal_test([np.nan] * 30)
        with pytest.raises(OptionError, match="at least 2"):
            shuffled_queries(np.ones((1, 3)), 5)
        with pytest.raises(OptionError, match="No signal test"):
            SignalTest.from_dict({"level": 1.0})


@pytest.fixture(scope="module")
def learned(world):
    density, vectors, queries, truth, predicted = world
    return calibrate(density, queries[:1500], vectors, truth[:1500], predicted[:1500])


class TestCalibration:
    def test_radii_cover_pictures_not_seen(self, world, learned):
        density, vectors, queries, truth, predicted = world
        fresh = slice(1500, 3500)
        sure = assess(density, queries[fresh], vectors, predicted[fresh], learned)
        error = distance_km(*truth[fresh].T, *predicted[fresh].T)
        assert sure.calibrated
        assert (error <= sure.radius_50_km).mean() == pytest.approx(0.5, abs=0.05)
        assert (error <= sure.radius_90_km).mean() == pytest.approx(0.9, abs=0.03)

    def test_the_flag(self, world, learned):
        density, vectors, queries, _, predicted = world
        noise = np.random.default_rng(8).normal(size=(400, queries.shape[1]))
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        quiet = assess(density, noise, vectors, predicted[:400], learned).no_signal
        real = assess(density, queries[3500:3900], vectors, predicted[3500:3900], learned).no_signal
        assert quiet.mean() > 0.85
        assert real.mean() < 0.6

    def test_uncalibrated(self, world):
        density, vectors, queries, _, predicted = world
        rough = Calibration(Temperature.trained(39.69))
        sure = assess(density, queries[:3], vectors, predicted[:3], rough)
        assert not sure.calibrated
        assert sure.no_signal is None
        assert (sure.radius_50_km <= sure.radius_90_km).all()

    def test_saved_and_loaded(self, learned, tmp_path):
        path = tmp_path / "calibration.json"
        learned.save(path)
        assert Calibration.load(path) == learned

    def test_bad_files(self, tmp_path):
        path = tmp_path / "calibration.json"
        path.write_text("not JSON")
        with pytest.raises(OptionError, match="is not JSON"):
            Calibration.load(path)
        path.write_text("{}")
        with pytest.raises(OptionError, match="can be made of {}: KeyError, 'signal'"):
            Calibration.load(path)
        with pytest.raises(OptionError, match=r"none\.json cannot be read: No such file"):
            Calibration.load(tmp_path / "none.json")

    def test_a_folder_that_is_not_there(self, learned, tmp_path):
        with pytest.raises(OptionError, match="cannot be written to .*: No such file"):
            learned.save(tmp_path / "none" / "calibration.json")

    def test_bad_input(self, world, learned):
        density, vectors, queries, truth, predicted = world
        with pytest.raises(OptionError, match="20 pairs are too few"):
            calibrate(density, queries[:20], vectors, truth[:20], predicted[:20])
        with pytest.raises(OptionError, match="give one each"):
            calibrate(density, queries[:40], vectors, truth[:39], predicted[:40])
        other = Calibration(learned.temperature, learned.radii[:1], learned.signal)
        with pytest.raises(OptionError, match=r"0.5 and 0.9 are needed"):
            assess(density, queries[:1], vectors, predicted[:1], other)
