import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.classification import SplitConformalClassifier
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, top_k_accuracy_score

from geoembed.heads.conformal import conformal_radius, rows_needed
from geoembed.heads.labels.columns import label_columns
from geoembed.heads.labels.scores import calibration_error, score_labels
from geoembed.heads.labels.sets import (
    conformal_threshold,
    join_labels,
    label_sets,
    split_labels,
)


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose features are its probabilities."""

    def __init__(self, classes=3):
        self.classes = classes

    def fit(self, X, y=None):
        self.classes_ = np.arange(self.classes)
        self.n_features_in_ = self.classes
        return self

    def predict_proba(self, X):
        return np.asarray(X)

    def predict(self, X):
        return np.asarray(X).argmax(axis=1)


def draw(rows, classes, seed, sharpness=1.0):
    """Probabilities, and labels that follow them after a change of sharpness."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(classes, 0.4), rows)
    true = shares**sharpness / (shares**sharpness).sum(axis=1, keepdims=True)
    codes = (true.cumsum(axis=1) < random.random((rows, 1))).sum(axis=1).clip(max=classes - 1)
    return shares, codes


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize(("rows", "classes"), [(40, 2), (99, 5), (1000, 30)])
@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset:UserWarning")
def test_sets_are_those_of_mapie(coverage, rows, classes):
    shares, codes = draw(rows, classes, seed=rows)
    new, _ = draw(500, classes, seed=1)
    oracle = SplitConformalClassifier(
        Given(classes).fit(None), confidence_level=coverage, conformity_score="lac"
    ).conformalize(shares, codes)
    expected = oracle.predict_set(new)[1][:, :, 0]
    found = label_sets(new, conformal_threshold(shares, codes, coverage), new.argmax(axis=1))
    # Ours are never empty: the predicted label is in each.
    expected[np.arange(500), new.argmax(axis=1)] = True
    np.testing.assert_array_equal(found, expected)


@given(
    coverage=st.sampled_from([0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 2 / 3]),
    spare=st.integers(0, 30),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_the_threshold_is_the_order_statistic_of_the_theorem(coverage, spare, seed):
    shares, codes = draw(rows_needed(coverage) + spare, 4, seed)
    errors = 1.0 - shares[np.arange(len(codes)), codes]
    expected = conformal_radius(errors[:, None], coverage)[0]
    assert conformal_threshold(shares, codes, coverage) == expected


def test_coverage_is_nominal_even_of_a_model_that_is_too_sure():
    covered = []
    for seed in range(20):
        shares, codes = draw(10_000, 12, seed, sharpness=0.5)
        threshold = conformal_threshold(shares[:5000], codes[:5000], 0.9)
        sets = label_sets(shares[5000:], threshold, shares[5000:].argmax(axis=1))
        covered.append(sets[np.arange(5000), codes[5000:]].mean())
    assert 0.89 < np.mean(covered) < 0.91


def test_no_set_is_empty_and_all_labels_fit_below_a_threshold_of_one():
    shares = np.array([[0.4, 0.3, 0.3], [0.0, 0.5, 0.5]])
    assert label_sets(shares, 0.1, np.array([2, 1])).tolist() == [
        [False, False, True],
        [False, True, False],
    ]
    assert label_sets(shares, 1.0, np.array([0, 1])).all()


labels = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(names=st.lists(labels, min_size=1, max_size=6), data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_labels_come_back_from_their_text_most_probable_first(names, data):
    size = len(names)
    rows = data.draw(st.lists(st.permutations(range(size)), min_size=1, max_size=4))
    shares = np.array(rows) / size
    sets = np.array(
        data.draw(
            st.lists(
                st.lists(st.booleans(), min_size=size, max_size=size),
                min_size=len(rows),
                max_size=len(rows),
            )
        )
    )
    sets[np.arange(len(rows)), shares.argmax(axis=1)] = True
    for text, members, share in zip(join_labels(sets, shares, names), sets, shares, strict=True):
        order = [at for at in np.argsort(-share) if members[at]]
        assert split_labels(text) == [names[at] for at in order]


def test_plain_labels_stay_plain_and_csv_readers_read_the_rest():
    text = join_labels(
        np.ones((1, 3), bool), np.array([[0.5, 0.3, 0.2]]), ["Côte d'Ivoire", "a; b", 'the "x"']
    )[0]
    assert text == 'Côte d\'Ivoire; "a; b"; "the ""x"""'
    row = next(csv.reader(io.StringIO(text), delimiter=";", skipinitialspace=True))
    assert row == ["Côte d'Ivoire", "a; b", 'the "x"']


def test_the_chosen_label_stands_first_and_the_rest_by_probability():
    shares = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    columns = label_columns(
        "x", np.array([0, 0]), shares, np.array(["a", "b", "a"]), kind="score", top_k=3, sets=None
    )
    assert list(columns) == ["x", "x_score", "x_2", "x_2_score", "x_3", "x_3_score"]
    assert [columns[name][0] for name in ("x", "x_2", "x_3")] == ["a", "b", "a"]
    assert columns["x_score"].tolist() == [0.2, 0.6]
    assert columns["x_2_score"].tolist() == [0.5, 0.3]
    assert columns["x"].categories.tolist() == ["a", "b"]


def test_scores_are_those_of_scikit_learn():
    shares, truth = draw(400, 6, seed=3)
    predicted = shares.argmax(axis=1)
    sets = shares > 0.15
    scores = score_labels(truth, predicted, shares, sets)
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, predicted), abs=1e-12)
    assert scores["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(truth, predicted), abs=1e-12
    )
    assert scores["top3_accuracy"] == top_k_accuracy_score(truth, shares, k=3)
    assert scores["log_loss"] == pytest.approx(log_loss(truth, shares), abs=1e-12)
    assert scores["set_size"] == sets.sum() / 400
    assert scores["coverage"] == np.mean(
        [members[code] for members, code in zip(sets, truth, strict=True)]
    )


def test_the_calibration_error_is_the_sum_over_bins_of_its_definition():
    shares, truth = draw(2000, 5, seed=4, sharpness=0.6)
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == truth
    expected = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(confidence, right) == pytest.approx(expected, abs=1e-12)
    assert expected > 0.05


def test_labels_that_were_not_learned_count_as_wrong():
    shares = np.array([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4], [0.9, 0.1]])
    scores = score_labels(np.array([0, 1, -1, -2]), shares.argmax(axis=1), shares, shares > 0)
    assert (scores["rows"], scores["unknown_rows"], scores["labels"]) == (4, 2, 4)
    assert scores["accuracy"] == scores["balanced_accuracy"] == scores["coverage"] == 0.5
    assert scores["top3_accuracy"] == 0.5
    assert scores["log_loss"] == pytest.approx(-np.log([0.7, 0.8]).mean())
    nothing = score_labels(np.array([-1]), np.array([0]), shares[:1], None)
    assert nothing["accuracy"] == 0.0
    assert np.isnan([nothing["log_loss"], nothing["set_size"], nothing["coverage"]]).all()
