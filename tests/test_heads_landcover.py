"""LandCoverRegressor: shares from fields of a known form, errors by hand, tables in and out."""

import pickle

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.neighbors import KNeighborsRegressor

import geoembed as ge
from geoembed.errors import OptionError, TableError, TargetError
from geoembed.evaluation.cached import CachedEncoder
from geoembed.heads import GeoembedHeadWarning, LocationRegressor, make_head
from geoembed.heads.landcover import LandCoverRegressor
from geoembed.heads.models.softmax import PathSoftmax

LINKS = ["softmax", "identity", "alr", "ilr"]
CLASSES = ["wood", "grass", "water", "ice"]


def scattered(rng, n):
    return np.column_stack(
        [rng.uniform(-180, 180, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))]
    )


@pytest.fixture
def cover():
    """400 places whose shares are a softmax of a linear map of the unit vector."""
    rng = np.random.default_rng(0)
    lonlat = scattered(rng, 400)
    scores = ge.encode(*lonlat.T, encoder="xyz") @ rng.normal(size=(3, 4)) * 1.5
    frame = gpd.GeoDataFrame(
        softmax(scores.astype(float), axis=1),
        columns=CLASSES,
        geometry=gpd.points_from_xy(*lonlat.T),
        crs=4326,
        index=np.arange(400) + 7,
    )
    frame["soil"] = rng.choice(["clay", "sand"], 400)
    return frame


@pytest.fixture
def patchy(cover):
    """The same with noise and with zeros, as real shares have them."""
    noisy = cover[CLASSES] * np.random.default_rng(1).gamma(2.0, size=(400, 4))
    noisy = noisy.where(noisy.ge(0.15 * noisy.max(axis=1), axis=0), 0.0)
    cover[CLASSES] = noisy.div(noisy.sum(axis=1), axis=0)
    return cover


def head(link="softmax", **options):
    model = None if link == "softmax" else LinearRegression()
    return LandCoverRegressor("xyz", **{"model": model, "link": link, **options})


# --- known truth ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["harmonics.l10", "geoclip.v1"])
def linear_field(request):
    """1,500 places, an encoder, and 5 shares that are a softmax of a linear map of its vectors."""
    rng = np.random.default_rng(2)
    lonlat = scattered(rng, 1_500)
    encoder = CachedEncoder(ge.load_encoder(request.param), lonlat)
    vectors = encoder.encode(*lonlat.T).astype(float)
    vectors = (vectors - vectors.mean(axis=0)) / np.maximum(vectors.std(axis=0), 1e-9)
    slopes = rng.normal(size=(vectors.shape[1], 5)) / np.sqrt(vectors.shape[1])
    return encoder, lonlat, softmax(vectors @ slopes, axis=1)


@pytest.mark.parametrize("link", ["softmax", "alr", "ilr"])
def test_shares_of_a_linear_field_of_the_embedding_are_recovered(linear_field, link):
    encoder, lonlat, shares = linear_field
    model = "logistic" if link == "softmax" else "ridge"
    fitted = LandCoverRegressor(encoder, model, link=link, epsilon=1e-6, calibration=0.05)
    fitted.fit(lonlat[:1_000], shares[:1_000])
    report = fitted.report(lonlat[1_000:], shares[1_000:])
    assert (report["R2"] > 0.99).all()
    assert report.loc["all", "KL"] < 0.01


@pytest.mark.parametrize("link", LINKS)
def test_predictions_are_shares_whatever_was_learned(patchy, link):
    assert (patchy[CLASSES] == 0).any().any()
    got = head(link).fit(patchy, CLASSES).predict(patchy)
    assert got.shape == (400, 4)
    assert got.dtype == np.float64
    assert got.min() >= 0.0
    np.testing.assert_allclose(got.sum(axis=1), 1.0, rtol=0, atol=1e-9)
    assert r2_score(patchy[CLASSES], got) > 0.25


def test_log_ratios_of_both_kinds_are_the_same_least_squares(patchy):
    additive = head("alr").fit(patchy, CLASSES)
    isometric = head("ilr").fit(patchy, CLASSES)
    np.testing.assert_allclose(additive.predict(patchy), isometric.predict(patchy), atol=1e-5)
    assert CLASSES[additive.reference_] == patchy[CLASSES].mean().idxmax()
    assert isometric.reference_ is None


def test_the_identity_leaves_predictions_that_are_shares_alone(patchy):
    shares = patchy[CLASSES].to_numpy()
    neighbours = KNeighborsRegressor(5)
    got = head("identity", model=neighbours, coverage=None).fit(patchy, shares).predict(patchy)
    plain = LocationRegressor("xyz", neighbours, coverage=None).fit(patchy, shares)
    np.testing.assert_allclose(got, plain.predict(patchy), atol=1e-7)


def test_the_identity_is_never_further_from_the_truth_than_plain_regression(patchy):
    train, test = patchy.iloc[:100], patchy.iloc[100:]
    plain = LocationRegressor("xyz", LinearRegression(), coverage=None).fit(train, CLASSES)
    closed = head("identity", coverage=None).fit(train, CLASSES).predict(test)
    truth = test[CLASSES].to_numpy()
    errors = [np.linalg.norm(got - truth, axis=1) for got in (closed, plain.predict(test))]
    assert (errors[0] <= errors[1] + 1e-6).all()
    assert plain.predict(test).min() < 0.0


# --- what goes in --------------------------------------------------------------------------------


def test_every_way_of_giving_shares_is_the_same(patchy):
    kept = patchy.copy(deep=True)
    expected = head().fit(patchy, CLASSES).predict(patchy)
    for y in (patchy[CLASSES], patchy[CLASSES].to_numpy(), patchy[CLASSES].to_numpy().tolist()):
        np.testing.assert_array_equal(head().fit(patchy, y).predict(patchy), expected)
    # Within 0.1 % rows are rescaled.
    scaled = patchy[CLASSES].to_numpy() * np.linspace(0.9992, 1.0008, 400)[:, None]
    np.testing.assert_allclose(head().fit(patchy, scaled).predict(patchy), expected, atol=1e-4)
    pd.testing.assert_frame_equal(patchy, kept)


def test_names_of_classes(patchy):
    named, unnamed = head().fit(patchy, CLASSES), head().fit(patchy, patchy[CLASSES].to_numpy())
    assert named.classes_.tolist() == CLASSES
    assert named.target_names_ == tuple(CLASSES)
    assert unnamed.classes_.tolist() == ["0", "1", "2", "3"]
    assert unnamed.target_names_ == ()
    assert "predicted_3_upper" in unnamed.predict_columns(patchy)


def test_bad_shares_are_refused_and_nothing_is_lost(patchy):
    kept = patchy.copy(deep=True)
    for column, value, message in (
        ("wood", 0.9, r"1 of 400 rows of y do not sum to 1 within 0.1%: row 10 \(sum 1\."),
        ("wood", -0.25, r"1 of 400 rows of target 'wood' are negative: row 10 \(-0.25\)"),
        ("wood", np.nan, r"1 of 400 rows of target 'wood' are missing or not finite: row 10 \(nan"),
    ):
        wrong = patchy.copy()
        wrong.loc[10, CLASSES[1:]] = 0.3
        wrong.loc[10, column] = value
        before = wrong.copy(deep=True)
        with pytest.raises(TargetError, match=message):
            head().fit(wrong, CLASSES)
        pd.testing.assert_frame_equal(wrong, before)
    with pytest.raises(TargetError, match="They look like percentages: divide by 100"):
        head().fit(patchy, patchy[CLASSES] * 100)
    with pytest.raises(TargetError, match="at least two classes and y has 1"):
        head().fit(patchy, "wood")
    with pytest.raises(TableError, match="There is no column named 'wod'. Close matches: 'wood'"):
        head().fit(patchy, ["wod", "grass"])
    with pytest.raises(TargetError, match="would be named 'predicted_class', and so would"):
        head().fit(patchy, patchy[CLASSES].rename(columns={"ice": "class"}))
    pd.testing.assert_frame_equal(patchy, kept)


@pytest.mark.parametrize("link", LINKS)
def test_a_class_that_is_nowhere_is_kept_with_a_warning(patchy, link):
    patchy["rock"] = 0.0
    with pytest.warns(GeoembedHeadWarning, match="The share of 'rock' is 0 in all 400 rows"):
        fitted = head(link).fit(patchy, [*CLASSES, "rock"])
    assert fitted.predict(patchy)[:, 4].max() < 0.02
    assert np.isfinite(fitted.score(patchy, [*CLASSES, "rock"]))


def test_rows_of_one_place_with_different_shares_are_reported(patchy):
    twice = pd.concat([patchy, patchy.head(50).assign(wood=1.0, grass=0.0, water=0.0, ice=0.0)])
    with pytest.warns(GeoembedHeadWarning, match=r"place \(.* places\) with a row of another"):
        fitted = head().fit(twice, CLASSES)
    means = twice[CLASSES].groupby(twice.index).transform("mean")
    assert fitted.shared_places_.score == pytest.approx(r2_score(twice[CLASSES], means))
    assert fitted.score(twice, CLASSES) <= fitted.shared_places_.score


@pytest.mark.parametrize("link", LINKS)
def test_weights_of_rows_count(cover, link):
    wrong = cover.copy()
    wrong.loc[wrong.index[200:], CLASSES] = [0.0, 0.0, 0.0, 1.0]
    weights = (np.arange(400) < 200).astype(float)
    fitted = head(link, coverage=None).fit(wrong, CLASSES, sample_weight=weights)
    assert fitted.score(cover, CLASSES) > 0.85
    assert head(link, coverage=None).fit(wrong, CLASSES).score(cover, CLASSES) < 0.5


def test_extra_columns_join_the_vectors(cover):
    clay = (cover["soil"] == "clay").to_numpy()
    cover[CLASSES] = np.where(clay[:, None], cover[CLASSES], cover[CLASSES[::-1]])
    assert head().fit(cover, CLASSES).score(cover, CLASSES) < 0.6
    plain = head(extra_columns="soil").fit(cover, CLASSES)
    assert plain.score(cover, CLASSES) > head().fit(cover, CLASSES).score(cover, CLASSES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"link": "clr"}, "link='clr' is not offered: choose 'softmax', 'identity', 'alr', 'ilr'"),
        (
            {"link": "softmax", "model": "knn"},
            "learns with model='kernel' or 'logistic', and model='knn' is another",
        ),
        ({"link": "softmax", "model": Ridge()}, r"or 'logistic', and model=Ridge\(\) is another"),
        ({"link": "ilr", "model": "logistic"}, "model='logistic' is not offered for regression"),
        ({"link": "ilr", "epsilon": 0.25}, "epsilon=0.25 must be above 0 and below 1 / 4"),
        ({"link": "alr", "epsilon": 0.0}, "epsilon=0.0 must be above 0 and below 1 / 4"),
        ({"link": "alr", "epsilon": "small"}, "epsilon='small' must be above 0 and below 1 / 4"),
        ({"coverage": 1.0}, "coverage=1.0 is no share strictly between 0 and 1"),
    ],
)
def test_options_are_checked(patchy, options, message):
    with pytest.raises(OptionError, match=message):
        LandCoverRegressor("xyz", **options).fit(patchy, CLASSES)


@pytest.mark.parametrize("name", ["ridge", "kernel", "knn", "mlp", "gbm"])
@pytest.mark.parametrize("classes", [2, 4])
def test_named_models_learn_shares_of_two_and_of_more_classes(cover, name, classes):
    shares = cover[CLASSES[:classes]].to_numpy()
    shares = shares / shares.sum(axis=1, keepdims=True)
    fitted = LandCoverRegressor("xyz", name, link="ilr", coverage=None).fit(cover, shares)
    assert fitted.score(cover, shares) > 0.8


@pytest.mark.parametrize(
    ("model", "link"),
    [
        (None, "softmax"),
        ("kernel", "softmax"),
        ("logistic", "softmax"),
        (PathSoftmax(), "softmax"),
        ("ridge", "identity"),
        ("knn", "identity"),
        (Ridge(), "identity"),
    ],
)
def test_without_a_link_the_model_decides(cover, model, link):
    free, told = (
        LandCoverRegressor("xyz", model, link=at).fit(cover, CLASSES) for at in (None, link)
    )
    assert free.get_params()["link"] is None
    np.testing.assert_array_equal(free.predict(cover), told.predict(cover))


# --- what comes out ------------------------------------------------------------------------------


def test_the_frame_is_as_it_was_with_predictions_behind(patchy):
    kept = patchy.copy(deep=True)
    fitted = head().fit(patchy, CLASSES)
    got = fitted.predict_frame(patchy.to_crs(8857))
    assert got.crs.to_epsg() == 8857
    added = [f"predicted_{name}{end}" for name in CLASSES for end in ("", "_lower", "_upper")]
    assert list(got.columns) == [*patchy.columns, *added, "predicted_class"]
    shares = fitted.predict(patchy)
    np.testing.assert_allclose(got[[f"predicted_{name}" for name in CLASSES]], shares, atol=1e-6)
    assert (got["predicted_class"] == np.array(CLASSES)[shares.argmax(axis=1)]).all()
    ends = fitted.predict_interval(patchy)
    assert ends.shape == (400, 4, 2)
    np.testing.assert_allclose(got["predicted_water_lower"], ends[:, 2, 0], atol=1e-6)
    np.testing.assert_allclose(
        ends, np.clip(shares[..., None] + fitted.radius_[:, None] * [-1, 1], 0, 1), atol=1e-9
    )
    columns = fitted.predict_columns(patchy)
    assert columns["predicted_class"].cat.categories.tolist() == CLASSES
    pd.testing.assert_frame_equal(patchy, kept)


def test_without_enough_rows_intervals_say_nothing(patchy):
    with pytest.warns(GeoembedHeadWarning, match="needs 9 rows to calibrate on"):
        fitted = head().fit(patchy.head(30), CLASSES)
    columns = fitted.predict_columns(patchy)
    assert (columns["predicted_wood_lower"] == 0.0).all()
    assert (columns["predicted_wood_upper"] == 1.0).all()
    none = head(coverage=None).fit(patchy, CLASSES).predict_columns(patchy)
    assert list(none.columns) == [*(f"predicted_{name}" for name in CLASSES), "predicted_class"]


def test_the_report_against_errors_by_hand(patchy):
    fitted = head().fit(patchy, CLASSES)
    truth, got = patchy[CLASSES].to_numpy(), fitted.predict(patchy)
    report = fitted.report(patchy, CLASSES)
    assert list(report.index) == [*CLASSES, "all"]
    assert list(report.columns) == ["share", "R2", "RMSE", "MAE", "KL"]
    for at, name in enumerate(CLASSES):
        row = report.loc[name]
        assert row["share"] == pytest.approx(truth[:, at].mean())
        assert row["R2"] == pytest.approx(r2_score(truth[:, at], got[:, at]))
        assert row["RMSE"] == pytest.approx(root_mean_squared_error(truth[:, at], got[:, at]))
        assert row["MAE"] == pytest.approx(mean_absolute_error(truth[:, at], got[:, at]))
        assert row["KL"] >= 0.0
    ratios = np.log(np.where(truth > 0, truth, 1.0) / np.where(truth > 0, got, 1.0))
    assert report.loc["all", "KL"] == pytest.approx((truth * ratios).sum(axis=1).mean())
    assert report.loc["all", "share"] == pytest.approx(1.0)
    for column in ("R2", "RMSE", "MAE"):
        assert report.loc["all", column] == pytest.approx(report[column].iloc[:-1].mean())
    assert fitted.score(patchy, CLASSES) == pytest.approx(report.loc["all", "R2"])


def test_weights_count_in_scores_and_reports(patchy):
    fitted = head().fit(patchy, CLASSES)
    half = np.arange(400) < 200
    expected = fitted.report(patchy[half], CLASSES)
    got = fitted.report(patchy, CLASSES, sample_weight=half.astype(float))
    pd.testing.assert_frame_equal(got, expected)
    assert fitted.score(patchy, CLASSES, half.astype(float)) == pytest.approx(
        fitted.score(patchy[half], CLASSES)
    )


def test_a_class_that_does_not_vary_has_no_r2_and_does_not_count(patchy):
    fitted = head().fit(patchy, CLASSES)
    dry = patchy.assign(water=0.0)
    dry = dry[dry[CLASSES].sum(axis=1) > 0]
    dry[CLASSES] = dry[CLASSES].div(dry[CLASSES].sum(axis=1), axis=0)
    report = fitted.report(dry, CLASSES)
    assert np.isnan(report.loc["water", "R2"])
    others = report.loc[["wood", "grass", "ice"], "R2"]
    assert report.loc["all", "R2"] == pytest.approx(others.mean())
    assert fitted.score(dry, CLASSES) == pytest.approx(others.mean())


def test_a_class_predicted_as_zero_that_is_there_makes_the_divergence_infinite(patchy):
    neighbour = KNeighborsRegressor(1)
    fitted = head("identity", model=neighbour, coverage=None).fit(patchy.head(50), CLASSES)
    report = fitted.report(patchy, CLASSES)
    assert np.isinf(report.loc["all", "KL"])
    assert np.isfinite(report["RMSE"]).all()


def test_true_shares_are_matched_by_name(patchy):
    fitted = head().fit(patchy, CLASSES)
    expected = fitted.score(patchy, CLASSES)
    assert fitted.score(patchy, CLASSES[::-1]) == pytest.approx(expected)
    assert fitted.score(patchy, patchy[CLASSES].to_numpy()) == pytest.approx(expected)
    renamed = patchy[CLASSES].rename(columns={"ice": "snow"})
    with pytest.raises(TargetError, match="y has the classes wood, .*, snow; the head was fitted"):
        fitted.score(patchy, renamed)
    with pytest.raises(TargetError, match="y has 2 classes; the head was fitted to 4"):
        fitted.report(patchy, np.full((400, 2), 0.5))


@pytest.mark.shared
def test_real_shares_are_learned(shared_data):
    table = pd.read_csv(shared_data / "landcover_cci" / "landcover_fractions.csv")
    classes = list(table.columns[2:11])
    table = table.assign(lon=(table["lon"] + 180) % 360 - 180).iloc[::4]
    even = np.arange(len(table)) % 2 == 0
    fitted = LandCoverRegressor(ge.LocationFeaturizer("geoclip.v1")).fit(table[even], classes)
    report = fitted.report(table[~even], classes)
    assert report.loc["all", "KL"] < 0.55
    assert report.loc[["broadleaf_tree", "bare_soil", "land_ice"], "R2"].min() > 0.55
    ends = fitted.predict_interval(table[~even])
    truth = table.loc[~even, classes].to_numpy()
    inside = ((ends[..., 0] <= truth + 1e-9) & (truth <= ends[..., 1] + 1e-9)).mean(axis=0)
    # 1,290 rows calibrate on 258: deviations of 0.02 are usual.
    assert np.abs(inside - 0.9).max() < 0.06


def test_it_is_a_registered_head_and_pickles(patchy):
    made = make_head("landcover", featurizer="xyz", link="ilr")
    assert isinstance(made, LandCoverRegressor)
    fitted = made.fit(patchy, CLASSES)
    again = pickle.loads(pickle.dumps(fitted))
    pd.testing.assert_frame_equal(again.predict_frame(patchy), fitted.predict_frame(patchy))
