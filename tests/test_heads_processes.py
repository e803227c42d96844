"""Gaussian processes whose kernels are fitted to a sample."""

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.utils.estimator_checks import parametrize_with_checks

from geoembed.heads.models.processes import ProcessClassifier, ProcessRegressor


def problem(rows, seed=0):
    random = np.random.default_rng(seed)
    X = random.uniform(-2, 2, size=(rows, 2))
    field = np.sin(2 * X[:, 0]) * X[:, 1]
    return X, field + 0.1 * random.normal(size=rows), field


def test_few_rows_are_scikit_learns_process():
    X, y, _ = problem(120)
    kernel = ConstantKernel() * Matern(nu=1.5) + WhiteKernel(0.1)
    theirs = GaussianProcessRegressor(kernel, normalize_y=True).fit(X[:80], y[:80])
    ours = ProcessRegressor().fit(X[:80], y[:80])
    np.testing.assert_allclose(ours.predict(X[80:]), theirs.predict(X[80:]))
    labels = np.where(y > 0.5, "high", np.where(y < -0.5, "low", "middle"))
    theirs = GaussianProcessClassifier(ConstantKernel() * Matern(nu=1.5))
    theirs.fit(X[:80], labels[:80])
    ours = ProcessClassifier().fit(X[:80], labels[:80])
    np.testing.assert_allclose(ours.predict_proba(X[80:]), theirs.predict_proba(X[80:]), atol=1e-9)


def test_all_rows_are_learned_from_with_the_kernel_of_a_sample():
    X, y, field = problem(900)
    whole = ProcessRegressor(kernel_rows=900).fit(X[:700], y[:700])
    some = ProcessRegressor(kernel_rows=200).fit(X[:700], y[:700])
    assert len(some.process_.X_train_) == 700
    assert some.process_.kernel_ == some.process_.kernel
    errors = [np.sqrt(np.mean((m.predict(X[700:]) - field[700:]) ** 2)) for m in (whole, some)]
    assert errors[1] < 0.05
    assert errors[1] < 1.1 * errors[0]
    # The noise that was put in is found: 0.1, over the spread of y.
    assert np.sqrt(some.process_.kernel_.k2.noise_level) * y.std() == pytest.approx(0.1, abs=0.02)


def test_labels_of_a_sample_that_holds_every_class():
    X, y, _ = problem(400)
    labels = np.where(y > 0.3, "high", "low").astype(object)
    labels[5] = "once"
    model = ProcessClassifier(kernel_rows=100).fit(X[:300], labels[:300])
    assert model.classes_.tolist() == ["high", "low", "once"]
    probabilities = model.predict_proba(X[300:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    assert (model.predict(X[300:]) == labels[300:]).mean() > 0.9
    two = ProcessClassifier(kernel_rows=100).fit(X[6:300], labels[6:300])
    assert len(two.processes_) == 1
    assert (two.predict(X[300:]) == labels[300:]).mean() > 0.9


@parametrize_with_checks([ProcessRegressor(), ProcessClassifier()])
def test_common_checks(estimator, check):
    check(estimator)
