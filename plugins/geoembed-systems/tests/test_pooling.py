"""Views pooled, against the plain formulas."""

import numpy as np
import pytest
from geoembed_systems.shared.pooling import log_normalised, pool_views

from geoembed.errors import OptionError


def make_views(seed=0):
    logits = np.random.default_rng(seed).normal(0, 4, (7, 3, 11))
    p = np.exp(logits)
    p /= p.sum(axis=-1, keepdims=True)
    return logits.astype(np.float32), p


def test_log_probabilities_are_those_of_the_softmax():
    logits, p = make_views()
    assert np.exp(log_normalised(logits)) == pytest.approx(p, rel=1e-5)
    assert log_normalised(logits).dtype == np.float32


def test_logits_are_left_as_they_are():
    logits, _ = make_views()
    before = logits.copy()
    log_normalised(logits)
    assert (logits == before).all()


def test_large_logits_do_not_overflow():
    found = log_normalised(np.array([[1e4, 1e4, -1e4]], np.float32))
    assert np.exp(found).round(6).tolist() == [[0.5, 0.5, 0.0]]


def test_the_mean_is_of_probabilities():
    logits, p = make_views()
    pooled = pool_views(log_normalised(logits), "mean")
    assert np.exp(pooled) == pytest.approx(p.mean(axis=1), rel=1e-5)
    assert pooled.dtype == np.float32


def test_the_largest_is_scaled_to_sum_to_one():
    logits, p = make_views()
    largest = p.max(axis=1)
    expected = largest / largest.sum(axis=1, keepdims=True)
    assert np.exp(pool_views(log_normalised(logits), "max")) == pytest.approx(expected, rel=1e-5)


def test_one_view_stays_as_it_is():
    log_p = log_normalised(make_views()[0])[:, :1]
    assert (pool_views(log_p, "mean") == log_p[:, 0]).all()
    assert (pool_views(log_p, "max") == log_p[:, 0]).all()


@pytest.mark.parametrize("how", ["mean", "max"])
def test_what_no_view_thinks_possible_stays_impossible(how):
    with np.errstate(divide="ignore"):
        log_p = np.log(np.array([[[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]]], np.float32))
    found = np.exp(pool_views(log_p, how))
    assert found[0, 2] == 0.0
    assert found.sum() == pytest.approx(1.0)


def test_another_way_is_refused():
    with pytest.raises(OptionError, match="crop_pooling='median' is not offered"):
        pool_views(np.zeros((1, 2, 3), np.float32), "median")
