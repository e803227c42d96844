"""Links of shares: identities of compositional data, and a projection found by an optimiser."""

import numpy as np
import pytest
from scipy.optimize import minimize

from geoembed.errors import OptionError
from geoembed.heads.models.links import (
    alr,
    alr_inverse,
    ilr,
    ilr_inverse,
    nearest_shares,
    replace_zeros,
)


@pytest.fixture
def shares():
    return np.random.default_rng(0).dirichlet(np.full(5, 0.7), 200)


def test_zeros_are_replaced_and_ratios_of_the_rest_are_kept(shares):
    shares[:, 1] = 0.0
    shares[0] = [0.0, 0.0, 1.0, 0.0, 0.0]
    shares[1] = [0.25, 0.0, 0.25, 0.25, 0.25]
    shares /= shares.sum(axis=1, keepdims=True)
    kept = shares.copy()
    replaced = replace_zeros(shares, 0.01)
    np.testing.assert_array_equal(shares, kept)
    np.testing.assert_allclose(replaced.sum(axis=1), 1.0, rtol=0, atol=1e-15)
    assert (replaced > 0).all()
    np.testing.assert_array_equal(replaced[:, 1], 0.01)
    np.testing.assert_allclose(replaced[0], [0.01, 0.01, 0.96, 0.01, 0.01])
    np.testing.assert_allclose(replaced[1], [0.2475, 0.01, 0.2475, 0.2475, 0.2475])
    large = (shares[:, [0, 2]] >= 0.01).all(axis=1)
    np.testing.assert_allclose(
        replaced[large, 0] / replaced[large, 2], shares[large, 0] / shares[large, 2], rtol=1e-12
    )


def test_without_zeros_nothing_changes(shares):
    inside = replace_zeros(shares, 0.01)
    np.testing.assert_allclose(replace_zeros(inside, 1e-3), inside, rtol=1e-14)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 0.2, 1.0, float("nan")])
def test_an_epsilon_that_leaves_no_room_is_refused(shares, epsilon):
    with pytest.raises(OptionError, match=r"must be above 0 and below 1 / 5"):
        replace_zeros(shares, epsilon)


def test_additive_log_ratios_are_ratios_and_come_back(shares):
    shares = replace_zeros(shares, 1e-6)
    for reference in range(5):
        ratios = alr(shares, reference)
        assert ratios.shape == (200, 4)
        others = [at for at in range(5) if at != reference]
        np.testing.assert_allclose(
            np.exp(ratios), shares[:, others] / shares[:, [reference]], rtol=1e-12
        )
        np.testing.assert_allclose(alr_inverse(ratios, reference), shares, rtol=0, atol=1e-15)


def test_isometric_log_ratios_keep_aitchison_distances_and_come_back(shares):
    shares = replace_zeros(shares, 1e-6)
    coordinates = ilr(shares)
    assert coordinates.shape == (200, 4)
    np.testing.assert_allclose(ilr_inverse(coordinates), shares, rtol=0, atol=1e-15)
    # Aitchison's distance: over all pairs of classes, the differences of log-ratios.
    first, second = np.log(shares[:100]), np.log(shares[100:])
    pairs = [(i, j) for i in range(5) for j in range(i)]
    squares = sum((first[:, i] - first[:, j] - second[:, i] + second[:, j]) ** 2 for i, j in pairs)
    np.testing.assert_allclose(
        np.linalg.norm(coordinates[:100] - coordinates[100:], axis=1),
        np.sqrt(squares / 5),
        rtol=1e-12,
    )
    # Scaling a row changes nothing.
    np.testing.assert_allclose(ilr(shares * 7.0), coordinates, atol=1e-12)


def test_two_classes_are_the_logit():
    shares = np.array([[0.2, 0.8], [0.5, 0.5]])
    logit = np.log(shares[:, 0] / shares[:, 1])
    np.testing.assert_allclose(alr(shares, 1)[:, 0], logit, atol=1e-15)
    np.testing.assert_allclose(ilr(shares)[:, 0], logit / np.sqrt(2), atol=1e-15)


def test_extreme_ratios_stay_finite_shares():
    for back in (alr_inverse(np.array([[1e4, -1e4]]), 0), ilr_inverse(np.array([[1e4, -1e4]]))):
        assert np.isfinite(back).all()
        assert back.sum() == pytest.approx(1.0, abs=1e-12)


def test_the_nearest_shares_are_those_of_an_optimiser():
    rng = np.random.default_rng(1)
    for row in rng.normal(0.25, 0.6, (15, 4)):
        found = minimize(
            lambda shares, row=row: ((shares - row) ** 2).sum(),
            np.full(4, 0.25),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda shares: shares.sum() - 1},
            tol=1e-14,
        )
        np.testing.assert_allclose(nearest_shares(row[None])[0], found.x, atol=1e-6)


def test_shares_are_their_own_nearest_and_none_is_farther_than_before(shares):
    np.testing.assert_allclose(nearest_shares(shares), shares, atol=1e-15)
    rng = np.random.default_rng(2)
    values = rng.normal(0.2, 1.0, (200, 5))
    nearest = nearest_shares(values)
    assert (nearest >= 0).all()
    np.testing.assert_allclose(nearest.sum(axis=1), 1.0, atol=1e-12)
    before = np.linalg.norm(values - shares, axis=1)
    assert (np.linalg.norm(nearest - shares, axis=1) <= before + 1e-12).all()
