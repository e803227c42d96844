"""Intervals and probabilities: nominal coverage, MAPIE's radii, scikit-learn's temperature."""

import numpy as np
import pytest
from mapie.regression import SplitConformalRegressor
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss

import geoembed as ge
from geoembed.errors import OptionError
from geoembed.geodesy import to_unit_vectors
from geoembed.heads import LocationClassifier, LocationRegressor
from geoembed.heads.conformal import check_coverage, conformal_radius, rows_needed
from geoembed.heads.landcover import LandCoverRegressor
from geoembed.heads.models.temperature import fit_temperature, soften


class KeptFeaturizer(ge.LocationFeaturizer):
    """Gives the same vectors as xyz, without anything that takes time in 40 fits."""

    def transform(self, X):
        return to_unit_vectors(X)


def scattered(rng, n):
    return np.column_stack(
        [rng.uniform(-180, 180, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))]
    )


@pytest.fixture(scope="module")
def world():
    """15,000 places with a bumpy field, noise that grows northwards, and shares of 4 classes."""
    rng = np.random.default_rng(5)
    places = scattered(rng, 15_000)
    vectors = to_unit_vectors(places)
    field = np.sin(4 * vectors).sum(axis=1) + np.exp(vectors[:, 2]) * rng.normal(size=15_000) / 3
    scores = vectors @ rng.normal(size=(3, 4)) * 2 + rng.normal(size=(15_000, 4))
    return places, field, softmax(scores, axis=1)


# --- the radius ----------------------------------------------------------------------------------


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("rows", [101, 200, 500, 1001])
def test_the_radius_is_that_of_mapie(coverage, rows):
    rng = np.random.default_rng(rows)
    x, y = rng.normal(size=(rows + 50, 3)), rng.normal(size=rows + 50)
    model = LinearRegression().fit(x[:50], y[:50])
    oracle = SplitConformalRegressor(model, confidence_level=coverage, prefit=True)
    oracle.conformalize(x[50:], y[50:])
    _, intervals = oracle.predict_interval(x[:3])
    radius = conformal_radius(np.abs(model.predict(x[50:]) - y[50:])[:, None], coverage)
    half = (intervals[:, 1, 0] - intervals[:, 0, 0]) / 2
    np.testing.assert_allclose(half, radius[0], rtol=0, atol=1e-12)


def test_the_radius_is_an_order_statistic_of_every_column():
    errors = np.column_stack([np.arange(1.0, 20.0), np.arange(19.0, 0.0, -1.0) * 10])
    # ceil(20 * 0.9) = 18, which floating point makes 18.000000000000004 of 20 * 0.9.
    assert conformal_radius(errors, 0.9).tolist() == [18.0, 180.0]
    assert conformal_radius(errors, 0.95).tolist() == [19.0, 190.0]
    assert conformal_radius(errors, 0.96).tolist() == [np.inf, np.inf]


@pytest.mark.parametrize(
    ("coverage", "rows"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)]
)
def test_as_many_rows_as_a_finite_radius_needs(coverage, rows):
    assert rows_needed(coverage) == rows
    assert np.isfinite(conformal_radius(np.ones((rows, 1)), coverage)).all()
    assert np.isinf(conformal_radius(np.ones((rows - 1, 1)), coverage)).all()


@pytest.mark.parametrize("coverage", [0.0, 1.0, 90, -0.1, True, "0.9", float("nan")])
def test_what_is_no_coverage_is_refused(coverage):
    with pytest.raises(OptionError, match="is no share strictly between 0 and 1"):
        check_coverage(coverage)
    assert check_coverage(None) is None


# --- coverage of heads ---------------------------------------------------------------------------

RESPLITS = 20


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_intervals_of_numbers_cover_at_their_nominal_rate(world, coverage):
    places, field, _ = world
    found = []
    for seed in range(RESPLITS):
        order = np.random.default_rng(seed).permutation(15_000)
        train, test = order[:10_000], order[10_000:]
        head = LocationRegressor(
            KeptFeaturizer(),
            LinearRegression(),
            coverage=coverage,
            calibration=0.5,
            random_state=seed,
        ).fit(places[train], field[train])
        low, high = head.predict_interval(places[test]).T
        found.append(((low <= field[test]) & (field[test] <= high)).mean())
    assert np.mean(found) == pytest.approx(coverage, abs=0.02)
    # Every single one has to be near as well: its deviation is that of 5,000 drawings, twice.
    assert np.abs(np.array(found) - coverage).max() < 5 * np.sqrt(2 * 0.25 / 5_000)


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_intervals_of_shares_cover_at_their_nominal_rate(world, coverage):
    places, _, shares = world
    found = []
    for seed in range(RESPLITS):
        order = np.random.default_rng(seed).permutation(15_000)
        train, test = order[:10_000], order[10_000:]
        head = LandCoverRegressor(
            KeptFeaturizer(),
            LinearRegression(),
            link="ilr",
            coverage=coverage,
            calibration=0.5,
            random_state=seed,
        ).fit(places[train], shares[train])
        ends = head.predict_interval(places[test])
        assert ends.min() >= 0.0
        assert ends.max() <= 1.0
        found.append(((ends[..., 0] <= shares[test]) & (shares[test] <= ends[..., 1])).mean(axis=0))
    np.testing.assert_allclose(np.mean(found, axis=0), coverage, rtol=0, atol=0.02)


def test_the_radius_of_a_head_is_that_of_mapie_on_the_rows_it_held_out(world):
    places, field, _ = world
    places, field = places[:2_000], field[:2_000]
    head = LocationRegressor("xyz", LinearRegression(), coverage=0.85).fit(places, field)
    held = np.ones(2_000, dtype=bool)
    order = np.random.RandomState(0).permutation(2_000)
    held[order[400:]] = False
    vectors = head.featurizer_.transform(places)
    oracle = SplitConformalRegressor(head.model_, confidence_level=0.85, prefit=True)
    oracle.conformalize(vectors[held], field[held])
    _, intervals = oracle.predict_interval(vectors[:5])
    np.testing.assert_allclose(
        intervals[..., 0], head.predict_interval(places[:5]), rtol=0, atol=1e-6
    )
    half = (intervals[:, 1, 0] - intervals[:, 0, 0]) / 2
    np.testing.assert_allclose(half, head.radius_[0], rtol=1e-6)


# --- probabilities -------------------------------------------------------------------------------


def test_softening_keeps_the_order_and_is_a_power():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 50)
    assert soften(probabilities, 1.0) is probabilities
    for temperature in (0.3, 2.5):
        powers = probabilities ** (1 / temperature)
        got = soften(probabilities, temperature)
        np.testing.assert_allclose(got, powers / powers.sum(axis=1, keepdims=True), rtol=1e-10)
        np.testing.assert_array_equal(got.argsort(axis=1), probabilities.argsort(axis=1))
    zeros = soften(np.array([[0.0, 0.0, 1.0], [0.0, 1e-40, 1.0]]), 3.0)
    assert np.isfinite(zeros).all()
    assert (zeros[:, 2] > 0.999).all()
    assert zeros[1, 0] <= zeros[1, 1]


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_a_temperature_that_was_put_in_is_found(factor):
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(40_000, 5)) * 2
    codes = (softmax(scores, axis=1).cumsum(axis=1) < rng.uniform(size=(40_000, 1))).sum(axis=1)
    found = fit_temperature(softmax(scores * factor, axis=1), codes)
    assert found == pytest.approx(factor, rel=0.03)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_temperature_is_that_of_scikit_learn(classes):
    rng = np.random.default_rng(classes)
    x = rng.normal(size=(3_000, 6))
    scores = x @ rng.normal(size=(6, classes)) + rng.gumbel(size=(3_000, classes)) * 1.5
    labels = scores.argmax(axis=1)
    model = LogisticRegression(C=10.0).fit(x[:40], labels[:40])  # far too sure of itself
    fitted = CalibratedClassifierCV(FrozenEstimator(model), method="temperature")
    fitted.fit(x[40:1_500], labels[40:1_500])
    found = fit_temperature(model.predict_proba(x[40:1_500]), labels[40:1_500])
    ours = soften(model.predict_proba(x[1_500:]), found)
    np.testing.assert_allclose(ours, fitted.predict_proba(x[1_500:]), rtol=0, atol=1e-4)


def test_calibrated_probabilities_of_a_head_are_better_and_the_labels_the_same(world):
    places, field, _ = world
    labels = np.digitize(field, [-1.0, 0.0, 1.0])
    model = LogisticRegression(C=1e6)
    # Only 20 rows to learn from leave the model far too sure of itself.
    head = LocationClassifier("harmonics.l10", model, calibration=0.95, random_state=1)
    head.fit(places[:1_000], labels[:1_000])
    test = slice(1_000, 4_000)
    raw = head.model_.predict_proba(head.featurizer_.transform(places[test]))
    calibrated = head.predict_proba(places[test])
    assert head.temperature_ > 1.5
    assert log_loss(labels[test], calibrated) < log_loss(labels[test], raw) - 0.1
    np.testing.assert_array_equal(raw.argmax(axis=1), calibrated.argmax(axis=1))
    np.testing.assert_allclose(calibrated.sum(axis=1), 1.0, atol=1e-12)
    # Of rows that are given a probability of p, a share of p is right.
    sure, right = calibrated.max(axis=1), calibrated.argmax(axis=1) == labels[test]
    assert sure.mean() == pytest.approx(right.mean(), abs=0.03)
