"""Neighbours chosen on rows held out, however few rows there are."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

import geoembed as ge
from geoembed.heads.models.neighbours import (
    FewFolds,
    NeighboursClassifier,
    NeighboursRegressor,
    choose_neighbours,
)


def problem(rows, seed=0):
    random = np.random.default_rng(seed)
    X = random.uniform(size=(rows, 2))
    return X, np.sin(5 * X[:, 0]) + 0.1 * random.normal(size=rows)


def test_with_rows_enough_it_is_scikit_learns():
    X, y = problem(120)
    ours = choose_neighbours(NeighboursRegressor, 0).fit(X[:100], y[:100])
    folds = KFold(3, shuffle=True, random_state=0)
    grid = {"n_neighbors": [1, 3, 5, 10, 20]}
    theirs = GridSearchCV(KNeighborsRegressor(weights="distance"), grid, cv=folds)
    theirs.fit(X[:100], y[:100])
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_array_equal(ours.predict(X[100:]), theirs.predict(X[100:]))
    labels = np.where(y > 0, "high", "low")
    ours = NeighboursClassifier(5, weights="distance").fit(X[:100], labels[:100])
    theirs = KNeighborsClassifier(5, weights="distance").fit(X[:100], labels[:100])
    np.testing.assert_array_equal(ours.predict_proba(X[100:]), theirs.predict_proba(X[100:]))


@pytest.mark.parametrize("rows", [2, 3, 7, 29])
def test_few_rows_do(rows):
    X, y = problem(rows)
    places = ge.read_places(X).lonlat
    numbers = ge.LocationRegressor("xyz", "knn", coverage=None).fit(places, y)
    np.testing.assert_allclose(numbers.predict(places), y, atol=1e-6)
    labels = np.where(np.arange(rows) % 2, "odd", "even")
    head = ge.LocationClassifier("xyz", "knn", calibration=None).fit(places, labels)
    assert head.predict(places).tolist() == labels.tolist()


def test_all_rows_are_neighbours_where_there_are_fewer():
    X, y = problem(7)
    all_of_them = KNeighborsRegressor(7).fit(X, y)
    many = NeighboursRegressor(20).fit(X, y)
    np.testing.assert_allclose(many.predict(X), all_of_them.predict(X))
    assert many.kneighbors()[1].shape == (7, 6)
    assert many.kneighbors(X)[1].shape == (7, 7)


def test_folds_have_two_rows_at_least():
    assert FewFolds(3).get_n_splits() == 3
    for rows, sizes in {2: [2], 3: [3], 4: [2, 2], 5: [3, 2], 6: [2, 2, 2], 10: [4, 3, 3]}.items():
        X = np.zeros((rows, 1))
        tested = [test for _, test in FewFolds(3, random_state=1).split(X)]
        assert [len(test) for test in tested] == sizes
        assert FewFolds(3).get_n_splits(X) == len(sizes)
        assert sorted(np.concatenate(tested).tolist()) == list(range(rows))
