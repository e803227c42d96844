"""PathSoftmax against scikit-learn's LogisticRegression, brute force and known truth."""

import tracemalloc
import warnings

import numpy as np
import pytest
import skops.io
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

import geoembed as ge
from geoembed.errors import OptionError, TargetError
from geoembed.heads.models import paths
from geoembed.heads.models.descent import CrossEntropy, Point
from geoembed.heads.models.paths import Scale
from geoembed.heads.models.softmax import PathSoftmax

# As far down as float64 goes; without the floor of the scale, which scikit-learn has not.
EXACT = {"tol": 1e-16, "scale_floor": 0.0}


def problem(n=300, d=8, k=3, seed=0):
    """Correlated columns of several units and means, labels drawn from softmax of linear scores."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d)))
    scores = X @ rng.normal(size=(d, k)) / X.std() + rng.normal(size=k)
    labels = np.array(list("abcdefgh")[:k])[(scores + rng.gumbel(size=(n, k))).argmax(axis=1)]
    X = X * rng.uniform(0.2, 5.0, d) + rng.normal(0.0, 10.0, d)
    return X, labels, rng.uniform(0.0, 2.0, n)


def standardised(X, weights):
    mean = np.average(X, axis=0, weights=weights)
    return (X - mean) / np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights))


def logistic(alpha, Z, labels, weights=None, **options):
    strength = (2.0 if len(np.unique(labels)) == 2 else 1.0) / alpha
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000, **options)
    return model.fit(Z, labels, sample_weight=weights)


# --- one penalty ----------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize(("n", "d"), [(300, 8), (60, 100)])
@pytest.mark.parametrize("alpha", [0.1, 30.0])
def test_one_penalty_equals_logistic_regression_on_standardised_columns(n, d, k, alpha):
    X, labels, weights = problem(n, d, k)
    ours = PathSoftmax(alpha, **EXACT).fit(X, labels, sample_weight=weights)
    Z = standardised(X, weights)
    theirs = logistic(alpha, Z, labels, weights)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(Z), atol=1e-6)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(Z), atol=2e-5)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(Z))
    assert ours.coef_.shape == theirs.coef_.shape
    assert ours.intercept_.shape == theirs.intercept_.shape
    assert ours.alpha_ == alpha
    assert ours.path_["alphas"].shape == (0,)


def test_balanced_classes_weigh_the_same():
    X, labels, weights = problem(k=3)
    kept = (labels != "a") | (np.arange(300) % 5 == 0)
    X, labels, weights = X[kept], labels[kept], weights[kept]
    sums = {label: weights[labels == label].sum() for label in "abc"}
    balanced = weights * [weights.sum() / (3 * sums[label]) for label in labels]
    ours = PathSoftmax(1.0, class_weight="balanced", **EXACT).fit(X, labels, weights)
    same = PathSoftmax(1.0, **EXACT).fit(X, labels, balanced)
    np.testing.assert_allclose(ours.predict_proba(X), same.predict_proba(X), atol=1e-8)
    # With an intercept the mean probabilities are the shares that the weights stand for.
    shares = np.average(ours.predict_proba(X), axis=0, weights=balanced)
    np.testing.assert_allclose(shares, 1 / 3, atol=1e-6)


def test_factors_by_label_multiply_weights():
    X, labels, weights = problem(k=3)
    ours = PathSoftmax(1.0, class_weight={"b": 3.0}, **EXACT).fit(X, labels, weights)
    tripled = np.where(labels == "b", 3.0 * weights, weights)
    same = PathSoftmax(1.0, **EXACT).fit(X, labels, tripled)
    np.testing.assert_allclose(ours.predict_proba(X), same.predict_proba(X), atol=1e-8)


def test_shares_equal_labels_of_repeated_rows():
    X, _, weights = problem(n=60, d=4)
    counts = np.random.default_rng(5).multinomial(6, [0.5, 0.3, 0.2], size=60)
    ours = PathSoftmax(0.7, **EXACT).fit_fractions(X, counts / 6, sample_weight=6 * weights)
    Z = standardised(X, weights)
    rows, labels = np.repeat(np.arange(60), 3), np.tile([0, 1, 2], 60)
    theirs = logistic(0.7, Z[rows], labels, counts.ravel() * weights[rows])
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(Z), atol=1e-6)


@pytest.mark.parametrize("k", [2, 3])
def test_shares_of_one_class_are_labels(k):
    X, labels, weights = problem(k=k)
    hot = (labels[:, None] == np.unique(labels)).astype(float)
    whole = PathSoftmax(1.0, **EXACT).fit(X, labels, weights)
    shares = PathSoftmax(1.0, **EXACT).fit_fractions(X, hot, weights, classes=np.unique(labels))
    np.testing.assert_allclose(shares.coef_, whole.coef_, atol=1e-6)
    np.testing.assert_array_equal(shares.predict(X), whole.predict(X))
    counted = PathSoftmax(1.0).fit_fractions(X, hot)
    np.testing.assert_array_equal(counted.classes_, np.arange(k))


@pytest.mark.parametrize("kind", ["labels", "shares"])
def test_the_gradient_is_the_slope_of_the_loss(kind):
    X, labels, weights = problem(n=50, d=3)
    X[:, 0] += 1e4
    rng = np.random.default_rng(0)
    seen = np.unique(labels, return_inverse=True)[1]
    if kind == "shares":
        seen = rng.dirichlet(np.ones(3), 50)
    loss = CrossEntropy(X, seen, weights, Scale.of(X, weights, 0.0))
    at = Point(rng.normal(size=(3, 3)), rng.normal(size=3))
    value, slope = loss(at)
    assert loss.judge(at)[0] == pytest.approx(value)
    along = Point(rng.normal(size=(3, 3)), rng.normal(size=3))
    step = 1e-6
    ahead, behind = (
        loss(Point(at.weights + s * along.weights, at.constants + s * along.constants))[0]
        for s in (step, -step)
    )
    expected = np.vdot(slope.weights, along.weights) + slope.constants @ along.constants
    assert (ahead - behind) / (2 * step) == pytest.approx(expected, rel=1e-5)


def test_at_the_optimum_nothing_pulls():
    X, _, weights = problem(n=200, d=5)
    P = np.random.default_rng(0).dirichlet([0.3, 0.3, 0.3, 0.3], 200)
    P[P < 0.05] = 0.0
    P /= P.sum(axis=1, keepdims=True)
    model = PathSoftmax(2.0, **EXACT).fit_fractions(X, P, weights)
    deviation = np.sqrt(np.average((X - np.average(X, 0, weights)) ** 2, 0, weights))
    off = (model.predict_proba(X) - P) * weights[:, None]
    pull = standardised(X, weights).T @ off + 2.0 * (model.coef_ * deviation).T
    assert np.abs(pull).max() < 1e-4
    assert np.abs(off.sum(axis=0)).max() < 1e-4


# --- the path -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mask", "splitter"])
def test_the_path_is_what_logistic_regression_gives_on_each_training_part(kind):
    X, labels, weights = problem()
    alphas = np.array([30.0, 3.0])
    held = np.arange(300) % 4 == 0
    pairs = [(np.flatnonzero(~held), np.flatnonzero(held))] if kind == "mask" else None
    validation = held if kind == "mask" else KFold(3)
    pairs = pairs or list(KFold(3).split(X))
    model = PathSoftmax(alphas, validation=validation, **EXACT).fit(X, labels, weights)
    Z, expected = standardised(X, weights), []
    for alpha in alphas:
        fits = [logistic(alpha, Z[train], labels[train], weights[train]) for train, _ in pairs]
        losses = [
            log_loss(labels[test], fit.predict_proba(Z[test]), sample_weight=weights[test])
            for fit, (_, test) in zip(fits, pairs, strict=True)
        ]
        expected.append(np.average(losses, weights=[weights[test].sum() for _, test in pairs]))
    np.testing.assert_allclose(model.path_["alphas"], alphas)
    np.testing.assert_allclose(model.path_["cross_entropy"], expected, rtol=1e-6)
    assert model.alpha_ == alphas[np.argmin(expected)]


@pytest.mark.parametrize("noise", [0.0, 1.0, 30.0])
def test_the_walk_finds_the_turn_in_both_directions(noise):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 30))
    y = (X[:, 0] + noise * rng.normal(size=400)) > 0
    path = PathSoftmax().fit(X, y).path_
    alphas, losses = path["alphas"], path["cross_entropy"]
    assert (np.diff(alphas) < 0).all()
    best = losses.argmin()
    if noise:
        assert 0 < best < len(losses) - 1
    assert (noise < 1.0) == (alphas[best] < 1.0)
    assert (noise > 10.0) == (alphas[best] > 40.0)


def test_the_path_takes_a_sample_of_many_rows(monkeypatch):
    X, labels, weights = problem(n=3000)
    monkeypatch.setattr(paths, "FEW_ROWS", 100)
    whole = PathSoftmax().fit(X, labels, weights)
    sample = PathSoftmax(path_rows=400, tol=3e-5).fit(X, labels, weights)
    assert 0.05 < sample.alpha_ / whole.alpha_ < 20.0
    np.testing.assert_allclose(sample.predict_proba(X), whole.predict_proba(X), atol=0.05)
    # What is found in a sample serves all rows because the penalty is not one a row.
    fixed = PathSoftmax(sample.alpha_, tol=3e-5).fit(X, labels, weights)
    np.testing.assert_allclose(sample.predict_proba(X), fixed.predict_proba(X), atol=2e-2)


def test_the_tolerance_costs_next_to_nothing_on_rows_held_out():
    X, labels, weights = problem(n=3000)
    usual, exact = (
        PathSoftmax(**tol).fit(X[:2000], labels[:2000], weights[:2000]) for tol in ({}, EXACT)
    )
    losses = [
        log_loss(labels[2000:], m.predict_proba(X[2000:]), labels=m.classes_)
        for m in (usual, exact)
    ]
    assert losses[0] < 1.005 * losses[1]


def test_known_shares_are_recovered_from_columns_that_depend_on_one_another():
    rng = np.random.default_rng(0)
    lonlat = rng.uniform(-1, 1, size=(5000, 2))
    # Random ReLU features of two coordinates: condition number beyond 1e8.
    X = np.maximum(lonlat @ rng.normal(size=(2, 300)) + rng.normal(size=300), 0)
    X = X.astype(np.float32)
    scores = np.column_stack([np.sin(3 * lonlat[:, 0]), lonlat[:, 1] ** 2, np.zeros(5000)])
    truth = np.exp(2 * scores) / np.exp(2 * scores).sum(axis=1, keepdims=True)
    seen = np.array([rng.multinomial(50, p) for p in truth]) / 50
    model = PathSoftmax().fit_fractions(X[:4000], seen[:4000])
    predicted = model.predict_proba(X[4000:])
    assert predicted.dtype == np.float32
    assert np.abs(predicted - truth[4000:]).mean() < 0.01
    assert model.n_iter_ < 60


def test_few_places_of_many_countries():
    # All can be told apart: how the last fit comes to its penalty decides what it learns.
    cities = ge.data.load_cities().sample(1500, random_state=1)
    learned, new = cities.iloc[:1000], cities.iloc[1000:]
    new = new[new["iso_a2"].isin(learned["iso_a2"])]
    head = ge.LocationClassifier(ge.LocationFeaturizer(layers="final"), calibration=None)
    head.fit(learned, "iso_a2")
    assert head.score(learned, "iso_a2") > 0.99
    assert head.score(new, "iso_a2") > 0.88
    chances = head.predict_proba(new).astype(np.float64)
    chances /= chances.sum(axis=1, keepdims=True)
    assert log_loss(new["iso_a2"], chances, labels=head.classes_) < 0.5


# --- classes --------------------------------------------------------------------------------


def test_many_classes_some_of_a_single_row():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(520, 10))
    codes = np.concatenate([np.arange(520), rng.zipf(1.5, 1500) % 500])
    X = (centres[codes] + 0.3 * rng.normal(size=(len(codes), 10))).astype(np.float32)
    model = PathSoftmax().fit(X, codes)
    assert len(model.classes_) == 520
    probabilities = model.predict_proba(X)
    assert probabilities.shape == (2020, 520)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    assert model.score(X, codes) > 0.9


def test_one_row_at_least_of_every_class_is_learned_from():
    codes = np.array([0] * 50 + [1] * 3 + [2, 2] + [3])
    X, weights = np.zeros((56, 1)), np.ones(56)
    for validation in (0.5, 0.1, 5, 2):
        for seed in range(5):
            for learned, held in paths.splits(validation, X, codes, codes, weights, seed):
                assert set(codes[learned]) == {0, 1, 2, 3}
                assert 3 not in codes[held]
    ((_, held),) = paths.splits(0.1, X, codes, codes, weights, 0)
    assert (codes[held] == 0).sum() == 5
    few = paths.drawn(np.arange(56), 10, codes, np.random.RandomState(0))
    assert set(codes[few]) == {0, 1, 2, 3}
    assert 10 <= len(few) <= 14


@pytest.mark.parametrize("missing", ["among the rows learned from", "among the rows held out"])
def test_a_class_missing_in_one_part_of_a_given_split(missing):
    X, labels, _ = problem(k=4)
    held = np.arange(300) % 3 == 0
    held[labels == "d"] = missing == "among the rows learned from"
    model = PathSoftmax(validation=held).fit(X, labels)
    assert list(model.classes_) == ["a", "b", "c", "d"]
    assert np.isfinite(model.path_["cross_entropy"]).all()
    assert np.isfinite(model.predict_proba(X)).all()


def test_shares_of_an_absent_class_are_near_zero():
    X, labels, _ = problem(k=2)
    P = np.column_stack([labels == "a", labels == "b", np.zeros(300)]).astype(float)
    model = PathSoftmax().fit_fractions(X, P, classes=["a", "b", "never"])
    assert model.predict_proba(X)[:, 2].max() < 0.01


# --- columns --------------------------------------------------------------------------------


def test_constant_columns_have_no_weight():
    X, labels, _ = problem()
    wider = np.column_stack([X, np.full(300, 0.1), np.zeros(300)]).astype(np.float32)
    model = PathSoftmax(1.0, tol=1e-9).fit(wider, labels)
    assert (model.coef_[:, 8:] == 0).all()
    expected = PathSoftmax(1.0, tol=1e-9).fit(X, labels).predict_proba(X)
    np.testing.assert_allclose(model.predict_proba(wider), expected, atol=2e-3)


def test_float32_keeps_its_digits_where_means_are_large():
    rng = np.random.default_rng(0)
    year = rng.integers(1990, 2021, 500).astype(np.float32)
    X = np.column_stack([year, rng.normal(size=500).astype(np.float32)])
    labels = ((year - 2005) / 9 + X[:, 1] + rng.logistic(size=500)) > 0
    ours = PathSoftmax(1.0, tol=1e-9).fit(X, labels)
    theirs = PathSoftmax(1.0, **EXACT).fit(X.astype(np.float64), labels)
    assert ours.predict_proba(X).dtype == np.float32
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)


def test_no_copy_of_all_rows_is_made(monkeypatch):
    monkeypatch.setattr(paths, "_BLOCK_VALUES", 100_000)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40_000, 100)).astype(np.float32)
    labels = (X[:, :4] + rng.gumbel(size=(40_000, 4))).argmax(axis=1)
    tracemalloc.start()
    try:
        PathSoftmax(path_rows=4000).fit(X, labels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.6 * X.nbytes


def test_blocks_do_not_matter(monkeypatch):
    X, labels, weights = problem()
    whole = PathSoftmax(1.0, **EXACT).fit(X, labels, weights)
    monkeypatch.setattr(paths, "_BLOCK_VALUES", 1)  # blocks of 64 rows
    cut = PathSoftmax(1.0, **EXACT).fit(X, labels, weights)
    np.testing.assert_allclose(cut.predict_proba(X), whole.predict_proba(X), atol=1e-7)


# --- what does not fit ----------------------------------------------------------------------


def test_a_single_class_is_refused():
    with pytest.raises(TargetError, match="1 class only, 'sea', in all 5 rows"):
        PathSoftmax().fit(np.eye(5), ["sea"] * 5)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"alphas": -1.0}, OptionError, "alphas=-1.0 is neither 'auto' nor"),
        ({"class_weight": "even"}, OptionError, "class_weight='even' is not one of"),
        ({"validation": 301}, TargetError, r"more folds than there are rows \(300\)"),
        ({"validation": np.zeros(300, bool)}, OptionError, "or none to score, of the 300 rows"),
    ],
)
def test_parameters_that_do_not_fit(parameters, error, message):
    X, labels, _ = problem()
    with pytest.raises(error, match=message):
        PathSoftmax(**parameters).fit(X, labels)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([0.5, 0.5], r"P must have the shape \(3, k\).*got \(2,\)"),
        ([[1.0], [1.0], [1.0]], "k >= 2 classes"),
        ([[0.5, 0.5], [0.7, 0.2], [1, 0]], r"1 of 3 .* the first at position 1: \[0.7, 0.2\]"),
        ([[0.5, 0.5], [1.5, -0.5], [1, 0]], "1 of 3 are negative somewhere"),
        ([[0.5, 0.5], [np.nan, 1.0], [1, 0]], "1 of 3 are negative somewhere or do not sum to 1"),
    ],
)
def test_rows_that_are_no_shares(shares, message):
    with pytest.raises(TargetError, match=message):
        PathSoftmax().fit_fractions(np.eye(3), shares)
    with pytest.raises(TargetError, match=r"classes= has the shape \(3,\) for 2 shares"):
        PathSoftmax().fit_fractions(np.eye(3), [[1, 0]] * 3, classes=list("abc"))


def test_a_fit_that_stops_early_says_so():
    X, labels, _ = problem()
    with pytest.warns(ConvergenceWarning, match="stopped after max_iter=2 steps"):
        PathSoftmax(1e-3, max_iter=2).fit(X, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PathSoftmax().fit(X, labels)


# --- scikit-learn and saving ----------------------------------------------------------------

# In its place: test_shares_equal_labels_of_repeated_rows, at one penalty.
RANDOM_ROWS = {
    "check_sample_weight_equivalence_on_dense_data": "rows are held out by position, at random",
}


@parametrize_with_checks(
    [PathSoftmax(), PathSoftmax(10.0, tol=1e-16)],
    expected_failed_checks=lambda model: RANDOM_ROWS if model.alphas == "auto" else {},
)
def test_common_checks(estimator, check):
    check(estimator)


def test_skops_brings_it_back_without_trusting_anything():
    X, labels, _ = problem()
    model = PathSoftmax(validation=3).fit(X, labels)
    saved = skops.io.dumps(model)
    unknown = skops.io.get_untrusted_types(data=saved)
    assert all(name.startswith("geoembed.heads.models.softmax.") for name in unknown)
    back = skops.io.loads(saved, trusted=unknown)
    np.testing.assert_array_equal(back.predict_proba(X), model.predict_proba(X))
    assert list(back.classes_) == ["a", "b", "c"]
