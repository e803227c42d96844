"""[L]kNN: what it learns, its probabilities against brute force, what it refuses."""

import numpy as np
import pytest
from geoembed_systems.density.spreading import LandOfMeans
from geoembed_systems.knn import KNNDensity
from geoembed_systems.pictures.features import PictureFeatures
from knn_places import FOUR_DEGREES_KM, anywhere, arc_km, unit

from geoembed.errors import OptionError, TableError


@pytest.fixture(scope="module")
def world():
    """Ten towns, each with a look of its own, and pictures of them; the rest is noise."""
    rng = np.random.default_rng(3)
    towns = anywhere(rng, 10)
    looks = rng.normal(size=(10, 16))
    of = np.arange(600) % 10
    features = looks[of] + 0.3 * rng.normal(size=(600, 16))
    lonlat = towns[of] + 0.05 * rng.normal(size=(600, 2))
    return features.astype(np.float32), lonlat


@pytest.mark.parametrize("kind", ["sphere", "grid"])
def test_it_learns_a_world_whose_answer_is_known(world, kind):
    features, lonlat = world
    learn, check = slice(0, 400), slice(400, None)
    system = KNNDensity(neighbours=20, kind=kind).fit(features[learn], lonlat[learn])
    assert system.score(features[check], lonlat[check], threshold_km=50.0) > 0.95


def test_a_feature_that_is_there_already_speaks_alone(world):
    features, lonlat = world
    lonlat = lonlat.copy()
    lonlat[7] = [151.2, -33.9]
    found = KNNDensity().fit(features, lonlat).predict(features[7:8])
    np.testing.assert_allclose(found, [[151.2, -33.9]])


def test_views_of_a_picture_are_searched_one_by_one(world):
    features, lonlat = world
    # Two views of town 0, one of town 1: their mean vector would be like neither.
    views = np.stack([features[0], features[10], features[1]])[None]
    system = KNNDensity(neighbours=5).fit(features, lonlat)
    found = system.predict(views)
    assert arc_km(found[0], lonlat[0]) < 50.0
    alone = np.stack([system.predict_proba(views[:, view])[0] for view in range(3)])
    np.testing.assert_allclose(system.predict_proba(views)[0], alone.mean(axis=0), atol=1e-6)


def test_a_thousand_votes_each_of_the_same_weight_keep_their_shares_at_the_ends_of_the_earth():
    """The density at means times land gave Chile 6.2 % of the mass, and 15 % to one border cell."""
    rng = np.random.default_rng(0)
    europe = np.column_stack([rng.uniform(-5, 25, 1200), rng.uniform(43, 55, 1200)])
    chile = np.array([-70.6, -33.4]) + rng.normal(scale=0.5, size=(36, 2))
    lonlat = np.concatenate([europe, chile])
    features = rng.normal(size=(1236, 8))
    for kind in ("sphere", "grid"):
        system = KNNDensity(neighbours=1236, exponent=0.0, kind=kind).fit(features, lonlat)
        [found] = system.predict_proba(features[:1])
        southern = system.partition_.means[:, 1] < 0.0
        assert southern.sum() > 1
        assert found[southern].sum() == pytest.approx(36 / 1236, abs=1e-6)
        # The land east of these places belongs to cells at their border, and no votes lie there.
        assert found.max() < 2.0 * system.partition_.counts.max() / 1236


def test_probabilities_are_votes_by_class_spread_over_the_land(world):
    features, lonlat = world
    # Towns have 60 pictures each: the last three have none that make a cell of their own.
    some = np.flatnonzero((np.arange(600) % 10 < 7) | (np.arange(600) < 30))
    features, lonlat = features[some], lonlat[some]
    system = KNNDensity(neighbours=12, exponent=3.0, t_max=30, t_min=8).fit(features, lonlat)
    rng = np.random.default_rng(5)
    queries = features[:10] + rng.normal(size=(10, 16)).astype(np.float32)
    means = system.partition_.means
    held = system.partition_.locate(lonlat)
    assert (held < 0).any()
    spread = LandOfMeans(means).spread(FOUR_DEGREES_KM).toarray()
    probabilities = system.predict_proba(queries)
    for query, found in zip(queries, probabilities, strict=True):
        squared = ((unit(features.astype(float)) - unit(query.astype(float))) ** 2).sum(axis=1)
        nearest = np.argsort(squared)[:12]
        total = sum(squared[row] ** -3.0 for row in nearest)
        expected = np.zeros(len(means))
        for row in nearest:
            away = [arc_km(mean, lonlat[row]) for mean in means]
            cell = held[row] if held[row] >= 0 else int(np.argmin(away))
            expected += squared[row] ** -3.0 / total * spread[cell]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    # No cell is impossible, however far away.
    assert (probabilities > 0.0).all()


def test_another_sigma_counts_at_once(world):
    features, lonlat = world
    system = KNNDensity(t_max=10, t_min=1).fit(features, lonlat)
    wide = system.predict_proba(features[:3])
    narrow = system.set_params(sigma=0.01).predict_proba(features[:3])
    again = KNNDensity(t_max=10, t_min=1, sigma=0.01).fit(features, lonlat)
    assert np.abs(wide - narrow).max() > 0.01
    np.testing.assert_array_equal(again.predict_proba(features[:3]), narrow)


def test_what_the_last_places_left_behind_is_forgotten_by_the_next_fit(world):
    features, lonlat = world
    system = KNNDensity().fit(features, lonlat)
    system.predict_proba(features[:2])
    system.fit(features, lonlat[::-1])
    fresh = KNNDensity().fit(features, lonlat[::-1])
    np.testing.assert_array_equal(system.predict_proba(features), fresh.predict_proba(features))


def test_the_first_candidate_is_what_predict_says(world):
    features, lonlat = world
    rng = np.random.default_rng(6)
    queries = (features[:6] + features[1:7]) + 0.5 * rng.normal(size=(6, 16)).astype(np.float32)
    for kind in ("sphere", "grid"):
        system = KNNDensity(kind=kind, exponent=2.0).fit(features, lonlat)
        table = system.localize(queries, top_k=3, radii=False)
        first = table[table["rank"] == 1][["lon", "lat"]].to_numpy()
        np.testing.assert_array_equal(first, system.predict(queries))
        assert (table["rank"] > 1).any()
        assert table["score"].between(0.0, 1.0).all()
    same = system.set_params(kind="sphere").localize(queries, top_k=4, distinct_km=0.0, radii=False)
    assert not same.duplicated(["query", "lon", "lat"]).any()
    for _, one in same.groupby("query"):
        assert one["score"].is_monotonic_decreasing


def test_fewer_pictures_than_neighbours_are_all_neighbours(world):
    features, lonlat = world
    few = KNNDensity(neighbours=100).fit(features[:50], lonlat[:50])
    all_of_them = KNNDensity(neighbours=50).fit(features[:50], lonlat[:50])
    np.testing.assert_array_equal(few.predict(features), all_of_them.predict(features))


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_what_is_saved_answers_alike(world, storage, tmp_path):
    features, lonlat = world
    system = KNNDensity(storage=storage, exponent=3.0).fit(features, lonlat)
    again = KNNDensity.load(system.save(tmp_path / "knn"))
    assert again.features_.dtype == storage
    assert again.get_params()["exponent"] == 3.0
    np.testing.assert_array_equal(again.predict(features), system.predict(features))
    np.testing.assert_array_equal(again.predict_proba(features), system.predict_proba(features))


def test_tokens_beside_pooled_features_change_nothing(world):
    features, lonlat = world
    tokens = np.random.default_rng(9).normal(size=(600, 4, 3))
    system = KNNDensity().fit(PictureFeatures(features, tokens=tokens), lonlat)
    plain = KNNDensity().fit(features, lonlat)
    np.testing.assert_array_equal(system.predict(features), plain.predict(features))


def test_half_precision_changes_few_answers(world):
    features, lonlat = world
    whole, half = (KNNDensity(storage=s).fit(features, lonlat) for s in ("float32", "float16"))
    rng = np.random.default_rng(7)
    queries = features + 0.3 * rng.normal(size=features.shape).astype(np.float32)
    same = (whole.predict(queries) == half.predict(queries)).all(axis=1)
    assert same.mean() > 0.95


def test_lengths_of_features_do_not_matter(world):
    features, lonlat = world
    lengths = np.random.default_rng(8).uniform(0.01, 100.0, (600, 1)).astype(np.float32)
    system = KNNDensity().fit(features, lonlat)
    scaled = KNNDensity().fit(features * lengths, lonlat)
    np.testing.assert_allclose(scaled.predict(features), system.predict(features))


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": 0}, "neighbours=0 does not fit: give a number of 1 or more"),
        ({"neighbours": 2.5}, r"neighbours=2\.5 does not fit"),
        ({"sigma": 0.0}, r"sigma=0\.0 does not fit: give a number above 0"),
        ({"sigma": float("nan")}, "sigma=nan does not fit"),
        ({"exponent": -1}, "exponent=-1 does not fit: give a number of 0 or more"),
        ({"kind": "disc"}, "kind='disc' is not offered: give 'sphere' or 'grid'"),
        ({"storage": "int8"}, "storage='int8' is not offered"),
        ({"crop_pooling": "median"}, "crop_pooling='median' is not offered"),
    ],
)
def test_options_that_do_not_fit_are_named(world, options, message):
    with pytest.raises(OptionError, match=message):
        KNNDensity(**options).fit(*world)


def test_too_few_places_for_one_cell_are_refused(world):
    features, lonlat = world
    with pytest.raises(OptionError, match="fewer points than one cell needs"):
        KNNDensity(t_max=50, t_min=10).fit(features[:5], lonlat[:5])


def test_all_places_in_one_cell_are_refused(world):
    features, _ = world
    with pytest.raises(OptionError, match="one cell"):
        KNNDensity().fit(features, np.tile([12.5, 41.9], (600, 1)))


def test_features_of_another_length_are_refused(world):
    features, lonlat = world
    system = KNNDensity().fit(features, lonlat)
    with pytest.raises(OptionError, match="length 9, and the system has learned from"):
        system.predict(features[:, :9])


def test_features_that_are_all_0_are_named(world):
    features, lonlat = world
    blank = features.copy()
    blank[3] = 0.0
    names = [f"picture {row}" for row in range(600)]
    with pytest.raises(TableError, match="1 of 600 pictures are all 0.*'picture 3'"):
        KNNDensity().fit(PictureFeatures(blank, names=names), lonlat)
    system = KNNDensity().fit(features, lonlat)
    with pytest.raises(TableError, match="all 0"):
        system.predict(blank[:5])
