"""Segments derived from features: shares that sum to one, found again, and the same each time."""

import numpy as np
import pytest
from geoembed_systems.pictures.segments import SegmentModel

from geoembed.errors import OptionError, TableError


def blobs(count=60, classes=4, width=6, apart=20.0, seed=0):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, width)) * apart
    truth = random.integers(classes, size=count)
    return centres[truth] + random.normal(size=(count, width)), truth


@pytest.mark.parametrize("shape", [(30, 6), (30, 2, 6), (30, 2, 5, 6), (30, 5, 6)])
def test_shares_are_of_each_feature_not_negative_and_sum_to_one(shape):
    features = np.random.default_rng(1).normal(size=shape)
    shares = SegmentModel.fit(features, classes=7).transform(features)
    assert shares.shape == (*shape[:-1], 7)
    assert shares.dtype == np.float32
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=-1), 1.0, atol=1e-6)


def test_classes_that_lie_far_apart_are_found():
    features, truth = blobs()
    shares = SegmentModel.fit(features, classes=4).transform(features)
    found = shares.argmax(axis=1)
    # One class of its own for each blob, whatever its number.
    pairs = set(zip(truth.tolist(), found.tolist(), strict=True))
    assert len(pairs) == 4 == len({first for first, _ in pairs}) == len({last for _, last in pairs})
    assert shares.max(axis=1).min() > 0.9
    sizes = np.bincount(found)
    assert (np.diff(sizes) <= 0).all(), "the largest class comes first"


def test_shares_are_a_softmax_of_squared_distances_to_the_centres():
    features, _ = blobs(apart=1.0)
    model = SegmentModel.fit(features, classes=3)
    for row, share in zip(features[:10], model.transform(features[:10]), strict=True):
        standard = (row - features.mean(axis=0)) / features.std(axis=0)
        far = np.array([((standard - centre) ** 2).sum() for centre in model.centres])
        raised = np.exp(-far / model.temperature)
        np.testing.assert_allclose(share, raised / raised.sum(), rtol=1e-4)


@pytest.mark.parametrize("width", [2, 32, 256])
def test_a_feature_is_spread_over_two_classes_at_most_however_many_columns_there_are(width):
    features = np.random.default_rng(2).normal(size=(600, width))
    shares = SegmentModel.fit(features, classes=8).transform(features).astype(np.float64)
    entropy = -(shares * np.log(shares + 1e-300)).sum(axis=1)
    assert 1.5 < np.exp(entropy.mean()) < 2.01


def test_units_of_a_column_do_not_matter():
    features, _ = blobs(apart=2.0)
    other = features * [1e-4, 1.0, 1e4, 7.0, 1.0, 1.0] + [0.0, 50.0, 0.0, 0.0, 0.0, 0.0]
    shares = [SegmentModel.fit(each, classes=3).transform(each) for each in (features, other)]
    np.testing.assert_allclose(*shares, atol=1e-3)


def test_the_same_features_give_the_same_classes():
    features, _ = blobs(apart=1.0)
    one, two = (SegmentModel.fit(features, classes=5, random_state=3) for _ in range(2))
    np.testing.assert_array_equal(one.centres, two.centres)
    assert one.temperature == two.temperature
    assert not np.array_equal(one.centres, SegmentModel.fit(features, 5, 4).centres)


def test_many_features_are_sampled_and_all_are_shared_out():
    features, truth = blobs(count=30_000, width=2)
    shares = SegmentModel.fit(features, classes=4).transform(features)
    assert len(shares) == 30_000
    assert len(set(zip(truth.tolist(), shares.argmax(axis=1).tolist(), strict=True))) == 4


def test_blocks_of_rows_make_no_difference(monkeypatch):
    features, _ = blobs(apart=1.0)
    model = SegmentModel.fit(features, classes=3)
    whole = model.transform(features)
    monkeypatch.setattr("geoembed_systems.pictures.segments._BLOCK", 30)
    np.testing.assert_allclose(model.transform(features), whole, rtol=1e-5)


def test_a_model_comes_back_from_its_state():
    features, _ = blobs()
    model = SegmentModel.fit(features, classes=3)
    again = SegmentModel.from_state(*model.to_state())
    np.testing.assert_array_equal(again.transform(features), model.transform(features))


def test_fewer_different_features_than_classes_are_refused_and_auto_takes_what_there_is():
    features = np.repeat(np.eye(3), 10, axis=0)
    with pytest.raises(OptionError, match=r"classes=4 are more than .* different features, 3"):
        SegmentModel.fit(features, classes=4)
    model = SegmentModel.fit(features)
    assert model.classes == 3
    np.testing.assert_allclose(model.transform(np.eye(3)).max(axis=1), 1.0, atol=1e-6)


def test_features_that_are_all_the_same_are_one_class():
    model = SegmentModel.fit(np.ones((5, 4)))
    np.testing.assert_array_equal(model.transform(np.ones((2, 4))), np.ones((2, 1)))


@pytest.mark.parametrize("classes", [0, -1, 2.5, True, "many"])
def test_classes_are_counted(classes):
    with pytest.raises(OptionError, match=f"classes={classes!r} is neither"):
        SegmentModel.fit(np.eye(4), classes)


def test_features_that_cannot_be_used_are_refused():
    with pytest.raises(TableError, match="shape .0, 4. hold no classes"):
        SegmentModel.fit(np.zeros((0, 4)))
    with pytest.raises(TableError, match="not finite"):
        SegmentModel.fit(np.array([[0.0, np.nan], [1.0, 2.0]]))
    with pytest.raises(TableError, match="one a row"):
        SegmentModel.fit(np.zeros(4))
    with pytest.raises(OptionError, match=r"shape \(2, 5\) .* length 4"):
        SegmentModel.fit(np.eye(4)).transform(np.zeros((2, 5)))
