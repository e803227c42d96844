import pickle

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from mapie.classification import SplitConformalClassifier
from scipy.spatial import KDTree
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    LeaveOneGroupOut,
    cross_val_predict,
    cross_validate,
)
from sklearn.naive_bayes import GaussianNB

import geoembed as ge
from geoembed.errors import OptionError, TableError, TargetError
from geoembed.geodesy import from_unit_vectors, to_unit_vectors
from geoembed.heads.base import GeoembedHeadWarning
from geoembed.heads.labels.sets import split_labels
from geoembed.heads.regions import RegionClassifier

LEVELS = ["continent", "country", "part"]


def draw_places(rows, seed):
    vectors = np.random.default_rng(seed).normal(size=(rows, 3))
    return from_unit_vectors(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def draw_world(rows, seed, blur=0.0):
    """Places and the cells they lie in: nearest of 27 sites, of 9 and of 3, whose cells nest.

    Blurred places lie near the one that was labelled: labels are not certain near borders.
    """
    sites = to_unit_vectors(draw_places(27, seed=99))
    order = KDTree(sites[:9]).query(sites)[1]
    continent = KDTree(sites[:3]).query(sites[:9])[1][order]
    lonlat = draw_places(rows, seed)
    noise = np.random.default_rng(seed + 1000).normal(scale=blur, size=(rows, 3))
    cell = KDTree(sites).query(to_unit_vectors(lonlat) + noise)[1]
    table = pd.DataFrame(lonlat, columns=["lon", "lat"])
    table["continent"] = np.array(["Left", "Middle", "Right"])[continent[cell]]
    table["country"] = [f"country {code}" for code in order[cell]]
    # Every country has a part of this name.
    rank = pd.Series(np.arange(27)).groupby(order).cumcount().to_numpy()
    table["part"] = np.where(rank[cell] == 0, "Capital", [f"part {code}" for code in cell])
    return table


@pytest.fixture(scope="module")
def world():
    return draw_world(3000, seed=1, blur=0.05)


@pytest.fixture(scope="module")
def head(world):
    model = LogisticRegression(C=100.0, max_iter=200)
    return RegionClassifier("harmonics.l10", model, top_k=3).fit(world, LEVELS)


@pytest.fixture(scope="module")
def fresh():
    return draw_world(1500, seed=2, blur=0.05)


class TooSure(ClassifierMixin, BaseEstimator):
    """A good classifier whose probabilities are sharpened far too much."""

    def fit(self, X, y):
        self.inner_ = LogisticRegression(C=100.0, max_iter=200).fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict_proba(self, X):
        sharp = self.inner_.predict_proba(X) ** 3
        return sharp / sharp.sum(axis=1, keepdims=True)


def test_cells_of_known_sites_are_learned(head, fresh):
    clear = draw_world(2000, seed=3)
    report = head.report(clear, LEVELS)
    assert report.index.tolist() == LEVELS
    assert (report["accuracy"] > [0.95, 0.9, 0.85]).all()
    assert (report["top3_accuracy"] > 0.97).all()
    assert report["accuracy"].is_monotonic_decreasing
    assert head.score(clear, LEVELS) == report.loc["part", "accuracy"]
    # Beside the truth blurred as in the training table, probabilities are right.
    assert (head.report(fresh, LEVELS)["calibration_error"] < 0.035).all()


def test_classes_are_paths_of_the_table(head, world):
    paths = world[LEVELS].drop_duplicates()
    assert len(head.classes_) == len(paths) == 27
    assert set(head.classes_) == {" > ".join(path) for path in paths.to_numpy()}
    assert (head.paths_[2] == "Capital").sum() == 9


def test_predictions_fit_together_and_coarse_probabilities_are_sums(head, fresh):
    predicted = head.predict(fresh)
    assert predicted.shape == (1500, 3)
    assert {" > ".join(path) for path in predicted} <= set(head.classes_)
    finest = head.predict_proba(fresh)
    np.testing.assert_allclose(finest.sum(axis=1), 1.0)
    first = [path.split(" > ")[0] for path in head.classes_]
    for node, label in enumerate(head.level_labels("continent")):
        expected = finest[:, [name == label for name in first]].sum(axis=1)
        np.testing.assert_allclose(head.predict_proba(fresh, "continent")[:, node], expected)
    # From the top down: the most probable continent, whatever the parts say.
    continents = head.predict_proba(fresh, 0)
    assert (predicted[:, 0] == np.array(head.level_labels(0))[continents.argmax(axis=1)]).all()
    assert head.level_labels() == head.level_labels("part") == head.level_labels(-1)
    assert "Left > country 0 > Capital" in [*head.classes_]


def test_columns_of_every_level_and_sets_that_can_be_read_back(head, fresh):
    places = gpd.GeoDataFrame(
        {"id": range(200)},
        geometry=gpd.points_from_xy(fresh["lon"][:200], fresh["lat"][:200]),
        crs="EPSG:4326",
        index=range(1000, 1200),
    )
    frame = head.predict_frame(places)
    added = [name for name in frame.columns if name not in places.columns]
    assert added == [
        f"predicted_{level}{ending}"
        for level in LEVELS
        for ending in ("", "_probability", "_set", "_2", "_2_probability", "_3", "_3_probability")
    ]
    assert frame.index.equals(places.index)
    labels = frame[[f"predicted_{level}" for level in LEVELS]].to_numpy()
    np.testing.assert_array_equal(labels, head.predict(places))
    for level in LEVELS:
        members = head.predict_set(places, level)
        shares = head.predict_proba(places, level)
        known = np.array(head.level_labels(level))
        assert members.any(axis=1).all()
        for text, inside, share in zip(
            frame[f"predicted_{level}_set"], members, shares, strict=True
        ):
            expected = known[np.argsort(-share, kind="stable")]
            assert split_labels(text) == [name for name in expected if name in known[inside]]
    # Names that repeat are written as paths, and only those.
    written = {name for text in frame["predicted_part_set"] for name in split_labels(text)}
    assert any(name.endswith(" > Capital") for name in written)
    assert not any(" > " in name for name in written if not name.endswith(" > Capital"))
    columns = head.predict_columns(places)
    assert columns["predicted_part"].cat.categories.tolist() == sorted(set(head.paths_[2]))


def test_nested_sets_fit_together_and_hold_all_levels_at_the_nominal_rate(head, fresh):
    report = head.report(fresh, LEVELS)
    assert (report["coverage"] >= 0.88).all()
    assert report["coverage"].is_monotonic_decreasing
    parts = head.predict_set(fresh, "part")
    for level, name in enumerate(LEVELS[:2]):
        above = head.predict_set(fresh, name)
        prefixes = [" > ".join(path.split(" > ")[: level + 1]) for path in head.classes_]
        nodes = np.unique(prefixes, return_inverse=True)[1]
        expected = np.zeros_like(above)
        for at, node in enumerate(nodes):
            expected[:, node] |= parts[:, at]
        np.testing.assert_array_equal(above, expected)


def test_separate_sets_are_smaller_at_coarse_levels(head, world, fresh):
    separate = clone(head).set_params(sets="separate", coverage=0.95).fit(world, LEVELS)
    nested = clone(head).set_params(coverage=0.95).fit(world, LEVELS)
    assert separate.thresholds_.shape == (3,)
    assert nested.thresholds_.shape == (1,)
    ours, theirs = separate.report(fresh, LEVELS), nested.report(fresh, LEVELS)
    assert (ours["coverage"] >= 0.93).all()
    assert (ours["set_size"] <= theirs["set_size"]).all()
    assert ours.loc["continent", "set_size"] < theirs.loc["continent", "set_size"]
    assert ours.loc["part", "set_size"] == theirs.loc["part", "set_size"]


def test_label_sets_cover_at_the_nominal_rate_over_twenty_resplits():
    world = draw_world(12_000, seed=5, blur=0.1)
    covered, sizes = [], []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(12_000)
        table, test = world.iloc[order[:7000]], world.iloc[order[7000:]]
        head = RegionClassifier(
            "xyz", LinearDiscriminantAnalysis(), calibration=5000 / 7000 + 1e-3, random_state=seed
        ).fit(table, "part")
        report = head.report(test, "part")
        covered.append(report["coverage"].item())
        sizes.append(report["set_size"].item())
    assert np.mean(covered) >= 0.88
    # Not by taking everything: there are 19 labels.
    assert np.mean(covered) <= 0.92
    assert np.mean(sizes) < 4


def test_sets_are_those_of_mapie_on_the_rows_held_out(world, fresh):
    held = KFold(5, shuffle=True, random_state=3)
    head = RegionClassifier("xyz", LinearDiscriminantAnalysis(), calibration=held)
    head.fit(world, "country")
    table = world.iloc[next(held.split(world))[1]]

    class Calibrated(ClassifierMixin, BaseEstimator):
        classes_ = head.classes_
        n_features_in_ = 2

        def fit(self, X, y):
            return self

        def predict_proba(self, X):
            return head.predict_proba(X)

        def predict(self, X):
            return head.predict(X)

        def __sklearn_is_fitted__(self):
            return True

    oracle = SplitConformalClassifier(Calibrated(), confidence_level=0.9)
    oracle.conformalize(table[["lon", "lat"]].to_numpy(), table["country"].to_numpy())
    places = fresh[["lon", "lat"]].to_numpy()
    expected = oracle.predict_set(places)[1][:, :, 0]
    expected[np.arange(1500), head.predict_proba(places).argmax(axis=1)] = True
    np.testing.assert_array_equal(head.predict_set(places), expected)


def test_temperature_mends_probabilities_that_are_too_sure(world, fresh):
    head = RegionClassifier("xyz", TooSure()).fit(world, "part")
    assert head.temperature_ > 2
    mended = head.report(fresh, "part").iloc[0]
    shares = head.predict_proba(fresh)
    assert mended["log_loss"] == pytest.approx(log_loss(fresh["part"], shares))
    head.temperature_ = 1.0
    raw = head.report(fresh, "part").iloc[0]
    assert mended["accuracy"] == raw["accuracy"]
    assert mended["log_loss"] < 0.8 * raw["log_loss"]
    assert mended["calibration_error"] < 0.4 * raw["calibration_error"]
    assert mended["calibration_error"] < 0.04


def test_regions_straight_from_polygons():
    random = np.random.default_rng(0)
    lon, lat = random.uniform(-20, 50, 4000), random.uniform(-35, 36, 4000)
    inside = ge.data.label_country(lon, lat, column="continent") == "Africa"
    places = gpd.GeoSeries(gpd.points_from_xy(lon[inside], lat[inside]), crs="EPSG:4326")
    countries = ge.data.load_countries()
    countries = countries[countries["continent"] == "Africa"]
    model = LinearDiscriminantAnalysis()
    head = RegionClassifier(
        "rff.s16", model, label="name", rare="merge", other_label="a small country"
    )
    with pytest.warns(GeoembedHeadWarning, match="merged into 'a small country'"):
        head.fit(places.to_crs("ESRI:54034"), countries.to_crs("EPSG:3857"))
    assert head.target_names_ == ("name",)
    nairobi = head.predict_frame([[36.8, -1.3]])
    assert nairobi["predicted_name"].tolist() == ["Kenya"]
    names = ge.data.label_country(lon[inside], lat[inside], column="name").astype(str)
    assert head.score(places, names) == head.score(places, countries)
    assert head.score(places, countries) > 0.9
    at_sea = gpd.GeoSeries(gpd.points_from_xy([0.0, *lon[inside]], [0.0, *lat[inside]]), crs=4326)
    with pytest.raises(TargetError, match=r"1 of \d,\d+ places lie in no polygon.*: row 0"):
        head.fit(at_sea, countries)
    with pytest.warns(GeoembedHeadWarning, match="merged into"):
        head.set_params(nearest_km=800.0).fit(at_sea, countries)
    both = clone(head).set_params(label=["continent", "name"], coverage=None)
    with pytest.warns(GeoembedHeadWarning, match="merged into"):
        both.fit(places, countries)
    assert both.predict([[36.8, -1.3]]).tolist() == [["Africa", "Kenya"]]


def test_rare_classes_are_kept_merged_or_left_out_and_counted(world):
    few = world["part"].to_numpy().copy()
    few[:4], few[4:10] = "Islet", "Atoll"
    weights = np.linspace(1.0, 2.0, len(few))
    model = LinearDiscriminantAnalysis()
    kept = RegionClassifier("xyz", model).fit(world, few)
    assert kept.rare_ == {}
    assert {"Islet", "Atoll"} < set(kept.classes_)
    told = (
        r"2 classes of fewer than 10 rows \(10 of 3,000 rows\) {}: 'Atoll' \(6\), 'Islet' \(4\)\. "
        "See the attribute rare_"
    )
    with pytest.warns(GeoembedHeadWarning, match=told.format("merged into 'other'")):
        merged = RegionClassifier("xyz", model, rare="merge").fit(world, few)
    assert merged.rare_ == {"Atoll": 6, "Islet": 4}
    assert {"Islet", "Atoll"}.isdisjoint(merged.classes_)
    assert merged.n_rows_ == 3000
    report = merged.report(world, few).iloc[0]
    assert (report["unknown_rows"], report["labels"]) == (0, 20)
    with pytest.warns(GeoembedHeadWarning, match=told.format("left out")):
        left = RegionClassifier("xyz", GaussianNB(), rare="drop").fit(world, few, weights)
    assert left.n_rows_ == 2990
    assert left.report(world, few)["unknown_rows"].item() == 10
    same = RegionClassifier("xyz", GaussianNB()).fit(world[10:], few[10:], weights[10:])
    np.testing.assert_array_equal(left.predict_proba(world), same.predict_proba(world))
    with (
        pytest.warns(GeoembedHeadWarning, match="merged into"),
        pytest.raises(TargetError, match="There is only 1 class, 'other'"),
    ):
        RegionClassifier("xyz", model, rare="merge", min_rows=4000).fit(world, few)


def test_labels_that_were_not_learned_count_as_wrong(head, fresh):
    strange = fresh.copy()
    strange.loc[:149, "part"] = "Nowhere"
    strange.loc[:74, "continent"] = "Atlantis"
    report = head.report(strange, LEVELS)
    assert report["unknown_rows"].tolist() == [75, 75, 150]
    usual = head.report(fresh, LEVELS)
    assert report.loc["part", "accuracy"] < usual.loc["part", "accuracy"] - 0.05
    assert (report["coverage"] <= 1 - report["unknown_rows"] / 1500).all()
    with pytest.raises(TargetError, match="has learned 3 levels and y has 1"):
        head.score(fresh, "part")
    weights = np.r_[np.zeros(150), np.ones(1350)]
    assert head.score(strange, LEVELS, weights) == head.score(fresh[150:], LEVELS)


def test_numbers_and_truth_values_stay_what_they_are(world):
    code = world["country"].str[-1].astype(int)
    model = LinearDiscriminantAnalysis()
    head = RegionClassifier("xyz", model).fit(world, code)
    assert head.predict(world).dtype == code.dtype
    frame = head.predict_frame(world)
    assert frame["predicted_country"].dtype == code.dtype
    assert set(split_labels(frame["predicted_country_set"][0])) <= set(map(str, range(9)))
    with pytest.raises(TargetError, match="other_label='other' does not fit"):
        RegionClassifier("xyz", model, rare="merge", min_rows=400).fit(world, code)
    with pytest.warns(GeoembedHeadWarning, match="merged into -1"):
        RegionClassifier("xyz", model, rare="merge", min_rows=400, other_label=-1).fit(world, code)
    mixed = pd.DataFrame({"north": world["lat"] > 0, "code": code})
    both = RegionClassifier("xyz", model).fit(world, mixed)
    predicted = both.predict(world)
    assert {type(value) for value in predicted[0]} == {bool, int}
    assert both.predict_frame(world)["predicted_north"].dtype == bool


def test_without_calibration_there_are_scores_and_no_sets(world):
    model = LinearDiscriminantAnalysis()
    head = RegionClassifier("xyz", model, calibration=None).fit(world, "part")
    columns = head.predict_columns(world)
    assert list(columns) == ["predicted_part", "predicted_part_score"]
    with pytest.raises(OptionError, match="There are no label sets"):
        head.predict_set(world)
    report = head.report(world, "part")
    assert report[["set_size", "coverage"]].isna().all(axis=None)
    with pytest.warns(GeoembedHeadWarning, match="needs 99 rows to calibrate on"):
        small = RegionClassifier("xyz", model, coverage=0.99).fit(world[:200], "continent")
    # Nothing is known of the uncertainty: every label is possible.
    text = small.predict_columns(world)["predicted_continent_set"][0]
    assert sorted(split_labels(text)) == ["Left", "Middle", "Right"]
    unnamed = RegionClassifier("xyz", model).fit(world, world[LEVELS[:2]].to_numpy())
    assert unnamed.predict_columns(world[:2]).columns[:3].tolist() == [
        "predicted_0",
        "predicted_0_probability",
        "predicted_0_set",
    ]


def test_rows_without_a_place_keep_their_row(head, fresh):
    broken = fresh.copy()
    broken.loc[3, "lat"] = np.nan
    frame = head.predict_frame(broken, on_invalid="nan")
    assert frame.loc[3, [name for name in frame if name.startswith("predicted_")]].isna().all()
    assert len(frame) == 1500
    assert frame["predicted_part_set"].notna().sum() == 1499


def test_a_class_without_rows_in_a_fold_is_wrong_there_and_nothing_else(world):
    head = RegionClassifier("xyz", LinearDiscriminantAnalysis())
    places, country = world[["lon", "lat"]], world["country"]
    scores = cross_validate(head, places, country, groups=country, cv=LeaveOneGroupOut())
    assert scores["test_score"].tolist() == [0.0] * 9
    shuffled = cross_validate(
        head, places, world[LEVELS], cv=KFold(3, shuffle=True, random_state=0)
    )
    assert np.mean(shuffled["test_score"]) > 0.6


def test_the_head_is_an_estimator(head, world, fresh):
    again = pickle.loads(pickle.dumps(head))
    np.testing.assert_array_equal(again.predict_proba(fresh), head.predict_proba(fresh))
    assert clone(head).get_params()["sets"] == "nested"
    search = GridSearchCV(
        RegionClassifier("xyz", LogisticRegression(max_iter=200)),
        {"model__C": [1e-4, 100.0]},
        cv=2,
    ).fit(world[:600], world["country"][:600])
    assert search.best_params_ == {"model__C": 100.0}
    predicted = cross_val_predict(
        RegionClassifier("xyz", LinearDiscriminantAnalysis()), world, world["country"], cv=3
    )
    assert (predicted == world["country"]).mean() > 0.7


def test_bad_input_is_refused(world):
    head = RegionClassifier("xyz", LinearDiscriminantAnalysis())
    holes = world.copy()
    holes.loc[[2, 5], "country"] = None
    with pytest.raises(TargetError, match=r"2 of 3,000 rows of target 'country' have no label"):
        head.fit(holes, LEVELS)
    with pytest.raises(TargetError, match="There is only 1 class, 'a'"):
        head.fit(world, np.full(len(world), "a"))
    with pytest.raises(TableError, match="no column named 'county'"):
        head.fit(world, ["continent", "county"])
    with pytest.raises(TargetError, match="must not hold ' > '"):
        head.fit(world.assign(part="a > b"), LEVELS)
    with pytest.raises(OptionError, match="name the column of their labels"):
        head.fit(world, ge.data.load_countries())
    for options, message in (
        ({"sets": "both"}, "sets='both' is not offered: choose 'nested' or 'separate'"),
        ({"rare": "hide"}, "rare='hide' is not offered: choose 'keep', 'merge' or 'drop'"),
        ({"min_rows": 0}, "min_rows=0 is no whole number of at least 1"),
        ({"min_rows": 2.5}, "min_rows=2.5 is no whole number"),
        ({"top_k": 0}, "top_k=0 is no whole number"),
        ({"coverage": 90}, "coverage=90 is no share"),
    ):
        with pytest.raises(OptionError, match=message):
            clone(head).set_params(**options).fit(world, "part")


def test_blocks_of_rows_change_nothing(head, fresh, monkeypatch):
    whole = head.predict_columns(fresh)
    report = head.report(fresh, LEVELS)
    monkeypatch.setattr("geoembed.heads.predicting._BLOCK_ROWS", 400)
    labels = whole.select_dtypes(exclude="float")
    pd.testing.assert_frame_equal(head.predict_columns(fresh)[labels.columns], labels)
    pd.testing.assert_frame_equal(head.report(fresh, LEVELS), report, atol=1e-6)
