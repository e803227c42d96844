"""The temperature is found again where it is known."""

import json

import numpy as np
import pytest

from geoembed.errors import OptionError
from geoembed.geodesy import from_unit_vectors
from geoembed.geolocation.density import EarthDensity
from geoembed.geolocation.temperature import Temperature, fit_temperature


@pytest.fixture(scope="module")
def drawn():
    """Truths drawn from the very density that scores and a temperature of 0.07 make."""
    rng = np.random.default_rng(6)
    places = from_unit_vectors(rng.normal(size=(400, 3)))
    vectors = rng.normal(size=(400, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = rng.normal(size=(600, 32))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    density = EarthDensity(places, cell_km=500.0, support="sphere")
    mass = density.probabilities(queries @ vectors.T, tau=0.07)
    cells = [rng.choice(len(density), p=row) for row in mass]
    truth = density.cells.centres(density.cell[cells])
    return density, queries, vectors, truth


def test_the_temperature_that_truths_were_drawn_with(drawn):
    density, queries, vectors, truth = drawn
    found = fit_temperature(density, queries, vectors, truth)
    assert found.calibrated
    assert found.pairs == 600
    assert found.tau == pytest.approx(0.07, rel=0.05)


def test_nats_are_those_of_the_density(drawn):
    density, queries, vectors, truth = drawn
    found = fit_temperature(density, queries, vectors, truth)
    scores = queries @ vectors.T
    exact = -density.log_density(scores, truth, tau=found.tau).mean()
    assert found.nats == pytest.approx(exact, abs=1e-4)
    for tau in (0.8 * found.tau, 1.25 * found.tau):
        assert -density.log_density(scores, truth, tau=tau).mean() > exact
    assert found.prior_nats == pytest.approx(np.log(510065880.97), abs=1e-4)
    assert found.nats < found.prior_nats


def test_scores_that_say_nothing_get_no_say(drawn):
    density, queries, vectors, truth = drawn
    shuffled = np.random.default_rng(7).permutation(truth)
    found = fit_temperature(density, queries, vectors, shuffled)
    assert found.tau > 0.5
    assert found.nats == pytest.approx(found.prior_nats, abs=0.05)


def test_duplicated_places_change_nothing(drawn):
    density, queries, vectors, truth = drawn
    places = from_unit_vectors(np.random.default_rng(6).normal(size=(400, 3)))
    rows = np.r_[np.arange(400), np.zeros(50, dtype=int)]
    again = EarthDensity(places[rows], cell_km=500.0, support="sphere")
    one = fit_temperature(density, queries, vectors, truth)
    other = fit_temperature(again, queries, vectors[rows], truth)
    assert other.tau == pytest.approx(one.tau, rel=1e-6)


def test_json_and_trained():
    rough = Temperature.trained(39.69)
    assert not rough.calibrated
    assert rough.tau == pytest.approx(0.0252, abs=1e-4)
    assert Temperature.from_dict(json.loads(json.dumps(rough.to_dict()))) == rough


def test_bad_input(drawn):
    density, queries, vectors, truth = drawn
    with pytest.raises(OptionError, match="9 pairs are too few"):
        fit_temperature(density, queries[:9], vectors, truth[:9])
    with pytest.raises(OptionError, match="599 truths for 600 queries"):
        fit_temperature(density, queries, vectors, truth[1:])
    with pytest.raises(OptionError, match="not finite"):
        fit_temperature(density, queries, vectors, np.full((600, 2), np.nan))
    for tau in (0.0, -1.0, np.nan, "warm", True):
        with pytest.raises(OptionError, match="give a temperature above 0"):
            Temperature(tau)
    with pytest.raises(OptionError, match="No temperature can be made"):
        Temperature.from_dict({"warmth": 1.0})
