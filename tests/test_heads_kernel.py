"""The kernel models against brute force, conditions of the minimum, and known truth."""

import tracemalloc

import numpy as np
import pytest
import skops.io
from scipy.spatial.distance import cdist, pdist
from scipy.special import softmax
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from sklearn.model_selection import KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from geoembed.errors import OptionError, TargetError
from geoembed.heads.models.kernel import PathKernel
from geoembed.heads.models.kernel_softmax import KernelSoftmax
from geoembed.heads.models.ridge import PathRidge
from geoembed.heads.models.softmax import PathSoftmax


def problem(n=200, d=4, seed=0):
    """Columns, two targets that bend, and weights of rows of which some are zero."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 5.0
    Y = np.column_stack([np.sin(2 * X[:, 0]) + 0.1 * X[:, 1], np.abs(X[:, 1] - 5.0)])
    return X, Y + 0.05 * rng.normal(size=Y.shape), rng.uniform(0.0, 2.0, n) * (rng.random(n) > 0.1)


def rings(n=600, seed=0):
    """Places in a square, and which of three rings they lie in."""
    X = np.random.default_rng(seed).uniform(-1.0, 1.0, size=(n, 2))
    return X, np.digitize(np.hypot(*X.T), [0.4, 0.8])


# --- numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1e-2, 1.0])
def test_numbers_are_kriged(alpha):
    X, Y, weights = problem()
    model = PathKernel(alpha, length=0.7).fit(X, Y, sample_weight=weights)
    # The equations of ordinary kriging with a nugget, one row at a time.
    kept = weights > 0
    length = 0.7 * np.median(pdist(X[kept]))
    assert model.space_.length == pytest.approx(length)
    n = kept.sum()
    left = np.ones((n + 1, n + 1))
    left[:n, :n] = np.exp(-cdist(X[kept], X[kept]) / length) + np.diag(alpha / weights[kept])
    left[n, n] = 0.0
    new = np.random.default_rng(1).normal(size=(30, 4)) + 5.0
    right = np.vstack([np.exp(-cdist(X[kept], new) / length), np.ones(30)])
    expected = np.linalg.solve(left, right)[:n].T @ Y[kept]
    np.testing.assert_allclose(model.predict(new), expected, rtol=1e-7, atol=1e-9)
    assert model.alpha_ == alpha
    assert model.path_["mse"].shape == (0, 2)


def test_the_kernel_is_the_roughest_of_matern():
    X, Y, _ = problem()
    model = PathKernel(0.5).fit(X, Y[:, 0])
    process = GaussianProcessRegressor(
        Matern(length_scale=model.space_.length, nu=0.5), alpha=0.5, optimizer=None
    ).fit(X, Y[:, 0] - model.intercept_)
    np.testing.assert_allclose(model.predict(X), process.predict(X) + model.intercept_, atol=1e-7)


def test_both_forms_agree_when_every_row_is_a_landmark():
    X, Y, weights = problem()
    new = problem(seed=1)[0]
    folds = list(KFold(3, shuffle=True, random_state=0).split(X))
    exact = PathKernel(validation=folds).fit(X, Y, weights)
    landmarks = PathKernel(validation=folds, exact_rows=1, landmarks=200).fit(X, Y, weights)
    assert landmarks.alpha_ == exact.alpha_
    np.testing.assert_allclose(landmarks.path_["mse"], exact.path_["mse"], rtol=1e-2)
    # The constant of the one is that of least squares, of the other of generalised ones.
    np.testing.assert_allclose(landmarks.predict(new), exact.predict(new), atol=0.02)


def test_few_landmarks_hear_all_rows():
    X, Y, _ = problem(2_000, 2)
    new, truth, _ = problem(500, 2, seed=1)
    Y = Y + 0.5 * np.random.default_rng(3).normal(size=Y.shape)
    few = PathKernel(exact_rows=100, landmarks=100).fit(X, Y)
    assert few.support_.shape == (100, 2)
    alone = PathKernel().fit(X[:100], Y[:100])
    assert few.score(new, truth) > alone.score(new, truth) + 0.1
    assert few.score(new, truth) < PathKernel().fit(X, Y).score(new, truth)


def test_the_path_is_that_of_refitting():
    X, Y, weights = problem()
    folds = list(KFold(3, shuffle=True, random_state=0).split(X))
    model = PathKernel(validation=folds, components=None).fit(X, Y, weights)
    assert (np.diff(model.path_["alphas"]) < 0).all()
    assert model.alpha_ in model.path_["alphas"]
    whole = np.median(pdist(X[weights > 0]))
    for alpha, errors in zip(*model.path_.values(), strict=True):
        sums = 0.0
        for learn, score in folds:
            some = weights[learn] > 0
            ratio = whole / np.median(pdist(X[learn][some]))
            part = PathKernel(alpha, length=ratio).fit(X[learn], Y[learn], weights[learn])
            sums += weights[score] @ (part.predict(X[score]) - Y[score]) ** 2
        np.testing.assert_allclose(errors, sums / weights.sum(), rtol=1e-6)


def test_the_path_goes_towards_noise_as_well():
    X = np.random.default_rng(0).normal(size=(300, 3))
    noise = np.random.default_rng(1).normal(size=300)
    model = PathKernel().fit(X, noise)
    assert model.alpha_ > 1.0
    assert model.predict(X).std() < 0.3


def test_it_bends_where_a_line_cannot():
    X, Y, _ = problem(800)
    new, truth, _ = problem(400, seed=1)
    assert PathKernel().fit(X, Y).score(new, truth) > PathRidge().fit(X, Y).score(new, truth) + 0.4


def test_wide_vectors_are_projected_and_lose_next_to_nothing():
    rng = np.random.default_rng(0)
    X, Y, _ = problem(400, 4)
    wide = (X @ rng.normal(size=(4, 300)) + 0.01 * rng.normal(size=(400, 300))).astype(np.float32)
    narrow = PathKernel(components=20).fit(wide[:300], Y[:300])
    assert narrow.support_.shape == (300, 20)
    assert narrow.space_.directions.shape == (300, 20)
    whole = PathKernel(components=None).fit(wide[:300], Y[:300])
    assert whole.support_.shape == (300, 300)
    np.testing.assert_allclose(narrow.predict(wide[300:]), whole.predict(wide[300:]), atol=0.02)
    assert narrow.predict(wide).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_place_twice_is_no_harm(dtype):
    X, Y, _ = problem(100)
    twice = np.vstack([X, X]).astype(dtype) * 1e3
    model = PathKernel(1e-3).fit(twice, np.vstack([Y, Y + 0.2]))
    np.testing.assert_allclose(model.predict(twice[:100]), Y + 0.1, atol=0.02)


def test_no_matrix_of_all_rows_is_made_with_landmarks():
    X = np.random.default_rng(0).normal(size=(20_000, 8)).astype(np.float32)
    tracemalloc.start()
    PathKernel(0.1, landmarks=100).fit(X, X[:, 0])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6


# --- classes and shares ---------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_shares_fulfil_the_condition_of_the_minimum(weighted):
    X, _, weights = problem(120, 3)
    shares = softmax(np.column_stack([np.sin(2 * X[:, 0]), X[:, 1] - 5, 0 * X[:, 2]]) * 2, axis=1)
    weights = weights if weighted else np.ones(120)
    model = KernelSoftmax(0.3, tol=1e-15, max_iter=5_000)
    model.fit_fractions(X, shares, sample_weight=weights)
    kept = weights > 0
    assert model.support_.shape == (kept.sum(), 3)
    # With a feature a row: alpha times a row's weight in f is what is left of it.
    left = weights[kept, None] * (shares - model.predict_proba(X))[kept]
    np.testing.assert_allclose(0.3 * model.dual_coef_, left, atol=1e-4)
    np.testing.assert_allclose(left.sum(axis=0), 0.0, atol=1e-5)


def test_rings_are_told_apart():
    X, labels = rings()
    new, truth = rings(seed=1)
    model = KernelSoftmax().fit(X, labels)
    assert model.score(new, truth) > 0.94
    assert PathSoftmax().fit(X, labels).score(new, truth) < 0.6
    assert model.classes_.tolist() == [0, 1, 2]
    np.testing.assert_allclose(model.predict_proba(new).sum(axis=1), 1.0)
    assert model.path_["cross_entropy"].min() < 0.3


def test_two_classes_have_one_score():
    X, labels = rings()
    model = KernelSoftmax().fit(X, labels == 1)
    assert model.decision_function(X).shape == (600,)
    assert model.dual_coef_.shape == (600, 1)
    np.testing.assert_array_equal(model.decision_function(X) > 0, model.predict(X))


def test_landmarks_are_features_and_all_rows_are_learned_from():
    X, labels = rings(3_000)
    new, truth = rings(seed=1)
    few = KernelSoftmax(landmarks=60).fit(X, labels)
    assert few.support_.shape == (60, 2)
    assert few.score(new, truth) > KernelSoftmax().fit(X[:60], labels[:60]).score(new, truth)


def test_rare_classes_can_weigh_as_much():
    X, labels = rings(300)
    rare = np.flatnonzero((labels != 0) | (np.arange(300) % 6 == 0))
    plain, balanced = (
        KernelSoftmax(1.0, class_weight=weight).fit(X[rare], labels[rare])
        for weight in (None, "balanced")
    )
    inside = labels == 0
    assert balanced.predict_proba(X)[inside, 0].mean() > plain.predict_proba(X)[inside, 0].mean()


# --- both -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0.0}, r"length=0\.0 is no positive number"),
        ({"length": "long"}, "length='long' is no positive number"),
        ({"components": 0}, "components=0 is no whole number of at least 1"),
        ({"landmarks": None}, "landmarks=None is no whole number of at least 1"),
        ({"landmarks": 2.5}, r"landmarks=2\.5 is no whole number"),
        ({"alphas": -1.0}, r"alphas=-1\.0 is neither 'auto' nor"),
    ],
)
def test_parameters_that_do_not_fit(options, message):
    X, labels = rings(50)
    for kind in (PathKernel, KernelSoftmax):
        with pytest.raises(OptionError, match=message):
            kind(**options).fit(X, labels)


def test_a_single_class_is_refused():
    with pytest.raises(TargetError, match="There is 1 class only"):
        KernelSoftmax().fit(np.eye(3), ["sea"] * 3)


def test_one_place_only_is_its_mean():
    model = PathKernel().fit(np.ones((4, 2)), [1.0, 2.0, 3.0, 6.0])
    np.testing.assert_allclose(model.predict([[1.0, 1.0]]), [3.0])


@pytest.mark.parametrize("kind", [PathKernel, KernelSoftmax])
def test_skops_brings_it_back_without_trusting_anything_else(kind):
    X, labels = rings(100)
    model = kind(validation=3, components=1).fit(X, labels)
    saved = skops.io.dumps(model)
    unknown = skops.io.get_untrusted_types(data=saved)
    assert all(name.startswith("geoembed.heads.models.kernel") for name in unknown)
    back = skops.io.loads(saved, trusted=unknown)
    np.testing.assert_array_equal(back.predict(X), model.predict(X))


# In its place: the weights of test_numbers_are_kriged and of the condition of the minimum.
RANDOM_ROWS = {
    "check_sample_weight_equivalence_on_dense_data": "rows are drawn by position, at random",
}


@parametrize_with_checks(
    [PathKernel(), PathKernel(1.0, exact_rows=5), KernelSoftmax()],
    expected_failed_checks=lambda model: RANDOM_ROWS,
)
def test_common_checks(estimator, check):
    check(estimator)
