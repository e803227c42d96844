"""PathRidge against scikit-learn's Ridge, brute force and known truth."""

import tracemalloc

import numpy as np
import pytest
import skops.io
from scipy.linalg import eigh
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.utils.estimator_checks import parametrize_with_checks

from geoembed.errors import OptionError, TargetError
from geoembed.heads.models import equations, paths
from geoembed.heads.models.equations import Dual, Primal
from geoembed.heads.models.paths import Scale
from geoembed.heads.models.ridge import PathRidge

WIDE_AND_LONG = pytest.mark.parametrize(("n", "d"), [(300, 20), (60, 150)])


def problem(n, d, targets=3, seed=0):
    """Columns of several units and means, targets that differ in noise, weights of rows."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d)))
    X = X * rng.uniform(0.2, 5.0, d) + rng.normal(0.0, 10.0, d)
    truth = rng.normal(size=(d, targets)) / X.std(axis=0)[:, None]
    Y = X @ truth + rng.normal(size=(n, targets)) * [0.1, 1.0, 30.0][:targets]
    return X, Y, rng.uniform(0.0, 2.0, n)


def standardised(X, weights):
    mean = np.average(X, axis=0, weights=weights)
    return (X - mean) / np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights))


# --- one penalty ----------------------------------------------------------------------------


@WIDE_AND_LONG
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3])
def test_one_penalty_equals_ridge_on_standardised_columns(n, d, alpha):
    X, Y, weights = problem(n, d)
    ours = PathRidge(alpha, scale_floor=0.0).fit(X, Y, sample_weight=weights)
    Z = standardised(X, weights)
    theirs = Ridge(alpha, solver="svd").fit(Z, Y, sample_weight=weights)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(Z), rtol=1e-9, atol=1e-9)
    deviation = np.sqrt(np.average((X - np.average(X, 0, weights)) ** 2, 0, weights))
    np.testing.assert_allclose(ours.coef_ * deviation, theirs.coef_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(X @ ours.coef_.T + ours.intercept_, ours.predict(X))
    assert ours.alpha_.tolist() == [alpha] * 3
    assert ours.path_["mse"].shape == (0, 3)


@WIDE_AND_LONG
def test_weights_count_rows(n, d):
    X, Y, _ = problem(n, d)
    counts = np.random.default_rng(1).integers(0, 3, n)
    weighted = PathRidge(2.0).fit(X, Y, sample_weight=counts)
    repeated = PathRidge(2.0).fit(np.repeat(X, counts, axis=0), np.repeat(Y, counts, axis=0))
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-8)


@pytest.mark.parametrize("kind", ["folds", "rows between", "most rows", "rows without weight"])
def test_the_two_forms_agree(kind):
    X, Y, weights = problem(50, 40)
    pairs = list(KFold(4, shuffle=True, random_state=0).split(X))
    if kind == "rows between":
        pairs = [(train[3:], test[:-2]) for train, test in pairs]
    elif kind == "most rows":
        pairs = [(np.arange(12), np.arange(12, 50)[::-1])]
    elif kind == "rows without weight":
        weights[::7] = 0.0
        pairs = [(train[weights[train] > 0], test[weights[test] > 0]) for train, test in pairs]
    scale = Scale.of(X, weights, 0.1)
    alphas = np.array([1e-2, 1.0, 50.0])
    forms = [form(X, Y, weights, scale) for form in (Primal, Dual)]
    for one, other in zip(*(form.solve(alphas) for form in forms), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8)
    for form in forms:
        form.hold_out(pairs)
    one, other = (form.errors(alphas) for form in forms)
    np.testing.assert_allclose(one, other, rtol=1e-8)


def test_of_many_columns_the_rows_are_decomposed_once(monkeypatch):
    decomposed = []
    monkeypatch.setattr(
        equations, "eigh", lambda matrix, **how: decomposed.append(1) or eigh(matrix, **how)
    )
    X, Y, _ = problem(60, 150)
    PathRidge(validation=5).fit(X, Y)
    assert len(decomposed) == 1


def test_a_single_target_is_a_vector():
    X, Y, _ = problem(100, 5)
    one = PathRidge().fit(X, Y[:, 1])
    assert one.coef_.shape == (5,)
    assert isinstance(one.intercept_, float)
    assert isinstance(one.alpha_, float)
    assert one.predict(X).shape == (100,)
    column = PathRidge().fit(X, Y[:, 1:2])
    assert column.predict(X).shape == (100, 1)
    np.testing.assert_allclose(column.predict(X)[:, 0], one.predict(X))


# --- the path -------------------------------------------------------------------------------


def brute_force(X, Y, weights, pairs, alphas):
    """Mean squared error on held-out rows of Ridge fitted to each training part."""
    mean = np.average(X, axis=0, weights=weights)
    Z = (X - mean) / np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights))
    errors, total = np.zeros((len(alphas), Y.shape[1])), 0.0
    for train, test in pairs:
        for row, alpha in enumerate(alphas):
            model = Ridge(alpha, solver="svd").fit(Z[train], Y[train], sample_weight=weights[train])
            errors[row] += weights[test] @ (model.predict(Z[test]) - Y[test]) ** 2
        total += weights[test].sum()
    return errors / total


@WIDE_AND_LONG
@pytest.mark.parametrize("kind", ["mask", "splitter", "pairs that leave rows out"])
def test_the_path_is_what_ridge_gives_on_each_training_part(n, d, kind):
    X, Y, weights = problem(n, d)
    alphas = np.array([100.0, 1.0, 1e-2])
    pairs = list(KFold(3).split(X))
    validation = KFold(3)
    if kind == "mask":
        validation = np.arange(n) % 4 == 0
        pairs = [(np.flatnonzero(~validation), np.flatnonzero(validation))]
    elif kind != "splitter":
        validation = pairs = [(train[:-10], test) for train, test in pairs]
    model = PathRidge(alphas, validation=validation, scale_floor=0.0).fit(X, Y, weights)
    expected = brute_force(X, Y, weights, pairs, alphas)
    np.testing.assert_allclose(model.path_["alphas"], alphas)
    np.testing.assert_allclose(model.path_["mse"], expected, rtol=1e-8)
    np.testing.assert_allclose(model.alpha_, alphas[expected.argmin(axis=0)])


def test_each_target_gets_its_penalty_or_all_the_same():
    X, Y, _ = problem(400, 30)
    each = PathRidge().fit(X, Y)
    assert each.alpha_[0] < each.alpha_[1] < each.alpha_[2]
    alone = [PathRidge().fit(X, Y[:, t]).predict(X) for t in range(3)]
    np.testing.assert_allclose(each.predict(X), np.column_stack(alone), rtol=1e-9)
    shared = PathRidge(per_target=False).fit(X, Y)
    assert len(set(shared.alpha_)) == 1
    relative = shared.path_["mse"] / Y.var(axis=0)
    assert shared.alpha_[0] == shared.path_["alphas"][relative.mean(axis=1).argmin()]


@WIDE_AND_LONG
def test_the_grid_goes_on_where_its_end_is_best(n, d):
    X, _, _ = problem(n, d)
    rng = np.random.default_rng(3)
    noise = PathRidge().fit(X, rng.normal(size=n))
    assert noise.alpha_ > 10.0 * n
    assert noise.predict(X).std() < 0.3
    if n > d:  # without noise the weakest penalty is the best
        exact = PathRidge().fit(X, X @ rng.normal(size=d))
        assert exact.alpha_ < 1e-6 * n
        assert exact.alpha_ in exact.path_["alphas"]
        assert (np.diff(exact.path_["alphas"]) < 0).all()


def test_a_known_truth_is_recovered_from_columns_that_depend_on_one_another():
    rng = np.random.default_rng(0)
    lonlat = rng.uniform(-1, 1, size=(4000, 2))
    # Random ReLU features of two coordinates: condition number beyond 1e8.
    features = np.maximum(lonlat @ rng.normal(size=(2, 400)) + rng.normal(size=400), 0)
    truth = np.sin(3 * lonlat[:, 0]) * lonlat[:, 1]
    seen = truth[:3000] + 0.1 * rng.normal(size=3000)
    model = PathRidge().fit(features[:3000].astype(np.float32), seen)
    predicted = model.predict(features[3000:].astype(np.float32))
    assert np.sqrt(np.mean((predicted - truth[3000:]) ** 2)) < 0.025


def test_few_rows_take_folds_and_many_one_share(monkeypatch):
    X, Y, _ = problem(200, 5)
    weights = np.ones(200)
    assert len(paths.splits("auto", X, Y, None, weights, 0)) == 5
    assert len(paths.splits("auto", X[:3], Y[:3], None, weights[:3], 0)) == 3
    monkeypatch.setattr(paths, "FEW_ROWS", 100)
    ((train, test),) = paths.splits("auto", X, Y, None, weights, 0)
    assert len(test) == 20
    assert sorted([*train, *test]) == list(range(200))
    again = paths.splits("auto", X, Y, None, weights, 0)
    np.testing.assert_array_equal(again[0][1], test)
    other = paths.splits("auto", X, Y, None, weights, 1)
    assert other[0][1].tolist() != test.tolist()


# --- columns --------------------------------------------------------------------------------


def test_constant_columns_have_no_weight():
    X, Y, _ = problem(100, 5)
    X = np.column_stack([X, np.full(100, 0.1), np.zeros(100)])
    for kind in (np.float64, np.float32):
        model = PathRidge(1.0).fit(X.astype(kind), Y)
        assert (model.coef_[:, 5:] == 0).all()
        np.testing.assert_allclose(
            model.predict(X), PathRidge(1.0).fit(X[:, :5], Y).predict(X[:, :5]), rtol=1e-4
        )


def test_no_column_varies():
    model = PathRidge().fit(np.ones((10, 3)), np.arange(10.0))
    np.testing.assert_allclose(model.predict(np.ones((2, 3))), 4.5)


def test_float32_keeps_its_digits_where_means_are_large():
    rng = np.random.default_rng(0)
    year = rng.integers(1990, 2021, 500).astype(np.float32)
    X = np.column_stack([year, rng.normal(size=500).astype(np.float32)])
    y = 0.1 * (year.astype(float) - 2000.0) + X[:, 1]
    model = PathRidge(1e-3).fit(X, y)
    assert model.predict(X).dtype == np.float32
    np.testing.assert_allclose(model.predict(X), y, atol=2e-5)


def test_the_unit_of_a_column_or_target_does_not_matter():
    X, Y, _ = problem(200, 8)
    units = 10.0 ** np.random.default_rng(0).integers(-4, 5, 8)
    model = PathRidge(scale_floor=0.0).fit(X, Y)
    other = PathRidge(scale_floor=0.0).fit(X * units + 7.0, Y * 1e6 - 3.0)
    np.testing.assert_allclose(
        other.predict(X * units + 7.0), model.predict(X) * 1e6 - 3.0, rtol=1e-6, atol=1.0
    )
    np.testing.assert_allclose(other.alpha_, model.alpha_, rtol=1e-9)


def test_silent_columns_do_not_ruin_places_that_wake_them():
    X, Y, _ = problem(200, 20, targets=1)
    X = X - X.mean(axis=0)
    silent = np.zeros((200, 1))
    silent[0] = 1e-3
    y = Y[:, 0] + 20 * (silent[:, 0] > 0)
    X = np.hstack([X, silent])
    awake = np.append(X[1, :-1], 1.0)[None]
    floored, exact = (PathRidge(1.0, scale_floor=f).fit(X, y) for f in (0.1, 0.0))
    assert abs(floored.predict(awake) - y[1]) < 1.0
    assert abs(exact.predict(awake) - y[1]) > 1000.0


def test_neither_a_float64_nor_a_scaled_copy_of_float32_is_made(monkeypatch):
    monkeypatch.setattr(paths, "_BLOCK_VALUES", 100_000)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40_000, 100)).astype(np.float32), rng.normal(size=(40_000, 2))
    tracemalloc.start()
    try:
        model = PathRidge().fit(X, y)
        model.predict(X)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.5 * X.nbytes


def test_blocks_do_not_matter(monkeypatch):
    X, Y, weights = problem(300, 20)
    whole = PathRidge().fit(X, Y, weights)
    monkeypatch.setattr(paths, "_BLOCK_VALUES", 1)  # blocks of 64 rows
    cut = PathRidge().fit(X, Y, weights)
    np.testing.assert_allclose(cut.path_["mse"], whole.path_["mse"], rtol=1e-9)
    np.testing.assert_allclose(cut.predict(X), whole.predict(X), rtol=1e-9)


# --- what does not fit ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"alphas": "best"}, OptionError, "alphas='best' is neither 'auto' nor"),
        ({"alphas": [1.0, 0.0]}, OptionError, "give a small one, such as 1e-8"),
        ({"alphas": []}, OptionError, "one or more positive numbers"),
        ({"validation": 0.0}, OptionError, "validation=0.0 is not one of: 'auto', a share"),
        ({"validation": 1}, OptionError, "validation=1 is no number of folds: give 2 or more"),
        ({"validation": 31}, TargetError, r"more folds than there are rows \(30\)"),
        ({"validation": "some"}, OptionError, "validation='some' is not one of"),
        ({"validation": True}, OptionError, "validation=True is not one of"),
        ({"validation": np.ones(30, bool)}, OptionError, "leaves no rows to learn from"),
        ({"validation": np.ones(9, bool)}, OptionError, "marks 9 rows, but X has 30"),
        ({"validation": 1e-9}, OptionError, "leaves no rows .* of the 30 rows"),
    ],
)
def test_parameters_that_do_not_fit(parameters, error, message):
    X, Y, _ = problem(30, 3)
    with pytest.raises(error, match=message):
        PathRidge(**parameters).fit(X, Y)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"sample_weight must have the shape \(30,\), got \(1,\)"),
        (np.full(30, -1.0), "not negative"),
        (np.full(30, np.nan), "must be finite"),
        (np.zeros(30), "not zero everywhere"),
    ],
)
def test_weights_that_do_not_fit(weights, message):
    X, Y, _ = problem(30, 3)
    with pytest.raises(OptionError, match=message):
        PathRidge().fit(X, Y, sample_weight=weights)


def test_missing_values_are_refused():
    X, Y, _ = problem(30, 3)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        PathRidge().fit(X, np.where(np.arange(3) == 1, np.nan, Y))
    X[2, 1] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        PathRidge().fit(X, Y)


def test_rows_without_weight_are_neither_learned_nor_scored():
    X, Y, weights = problem(60, 5)
    weights[::2] = 0.0
    spoiled = Y.copy()
    spoiled[::2] = 1e6
    model = PathRidge(validation=ShuffleSplit(3, random_state=0)).fit(X, spoiled, weights)
    clean = PathRidge(validation=ShuffleSplit(3, random_state=0)).fit(X, Y, weights)
    np.testing.assert_allclose(model.path_["mse"], clean.path_["mse"], rtol=1e-6)
    np.testing.assert_allclose(model.predict(X), clean.predict(X), rtol=1e-6)


# --- scikit-learn and saving ----------------------------------------------------------------

# Rows are held out at random by position, so that two equal rows and one row of weight 2 are
# split differently. In its place: test_weights_count_rows, at one penalty.
RANDOM_ROWS = {
    "check_sample_weight_equivalence_on_dense_data": "rows are held out by position, at random",
}


@parametrize_with_checks(
    [PathRidge(), PathRidge(1.0)],
    expected_failed_checks=lambda model: RANDOM_ROWS if model.alphas == "auto" else {},
)
def test_common_checks(estimator, check):
    check(estimator)


def test_skops_brings_it_back_without_trusting_anything():
    X, Y, _ = problem(100, 5)
    model = PathRidge(validation=3).fit(X, Y)
    saved = skops.io.dumps(model)
    unknown = skops.io.get_untrusted_types(data=saved)
    assert all(name.startswith("geoembed.heads.models.ridge.") for name in unknown)
    back = skops.io.loads(saved, trusted=unknown)
    np.testing.assert_array_equal(back.predict(X), model.predict(X))
    np.testing.assert_array_equal(back.path_["mse"], model.path_["mse"])
