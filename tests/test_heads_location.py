"""LocationRegressor and LocationClassifier on tables of places: what comes in, what goes out."""

import pickle

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GroupKFold, KFold
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import LinearSVC

import geoembed as ge
from geoembed.errors import CoordinateError, OptionError, TableError, TargetError
from geoembed.geodesy import to_unit_vectors
from geoembed.heads import GeoembedHeadWarning, LocationClassifier, LocationRegressor, predicting
from geoembed.heads.models.by_name import make_model, model_names


@pytest.fixture
def towns():
    """300 towns whose numbers are linear in the unit vector, with labels of a band of latitude."""
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 300), np.degrees(np.arcsin(rng.uniform(-1, 1, 300)))
    vectors = to_unit_vectors(np.column_stack([lon, lat]))
    frame = gpd.GeoDataFrame(
        {
            "height": 3.0 + vectors @ [1.0, -2.0, 0.5],
            "rain": vectors @ [-4.0, 0.0, 1.0],
            "band": np.where(lat > 25, "north", np.where(lat < -25, "south", "middle")),
            "soil": rng.choice(["clay", "sand"], 300),
        },
        geometry=gpd.points_from_xy(lon, lat),
        crs=4326,
        index=np.arange(300) // 2 * 2,  # labels of rows may repeat
    )
    frame.attrs["source"] = "test"
    return frame


def linear(**options):
    return LocationRegressor("xyz", LinearRegression(), **options)


def logistic(**options):
    return LocationClassifier("xyz", LogisticRegression(C=100.0), **options)


# --- numbers -------------------------------------------------------------------------------------


def test_a_linear_field_is_recovered_however_it_is_given(towns):
    kept = towns.copy(deep=True)
    places, other = towns.iloc[:200], towns.iloc[200:]
    for y in ("height", places["height"], places["height"].to_numpy()):
        head = linear().fit(places, y)
        predicted = head.predict(other)
        assert predicted.shape == (100,)
        assert predicted.dtype == np.float64
        np.testing.assert_allclose(predicted, other["height"], atol=1e-5)
    assert head.target_names_ == ()
    for y in (["height", "rain"], places[["height", "rain"]]):
        head = linear().fit(places, y)
        np.testing.assert_allclose(head.predict(other), other[["height", "rain"]], atol=1e-5)
        assert head.target_names_ == ("height", "rain")
    assert linear().fit(places, ["height"]).predict(other).shape == (100, 1)
    pd.testing.assert_frame_equal(towns, kept)


def test_every_kind_of_places_is_the_same(towns):
    lonlat = np.column_stack([towns.geometry.x, towns.geometry.y])
    table = pd.DataFrame(lonlat, columns=["lon", "lat"])
    expected = linear().fit(towns, "height").predict(towns)
    y = towns["height"].to_numpy()
    for places in (lonlat, lonlat.tolist(), table, towns.geometry, towns.to_crs(8857)):
        head = linear().fit(places, y)
        np.testing.assert_allclose(head.predict(places), expected, atol=1e-5)


def test_the_frame_is_as_it_was_with_predictions_behind(towns):
    kept = towns.copy(deep=True)
    head = linear(coverage=0.8).fit(towns, ["height", "rain"])
    got = head.predict_frame(towns.to_crs(3857))
    assert isinstance(got, gpd.GeoDataFrame)
    assert got.crs.to_epsg() == 3857
    assert got.attrs == {"source": "test"}
    assert list(got.columns) == [
        *towns.columns,
        *("predicted_height", "predicted_height_lower", "predicted_height_upper"),
        *("predicted_rain", "predicted_rain_lower", "predicted_rain_upper"),
    ]
    pd.testing.assert_index_equal(got.index, towns.index)
    np.testing.assert_allclose(got["predicted_rain"], head.predict(towns)[:, 1], atol=1e-5)
    ends = head.predict_interval(towns)
    assert ends.shape == (300, 2, 2)
    np.testing.assert_allclose(got["predicted_rain_lower"], ends[:, 1, 0], atol=1e-5)
    np.testing.assert_allclose(
        got["predicted_height_upper"] - got["predicted_height_lower"], 2 * head.radius_[0]
    )
    pd.testing.assert_frame_equal(towns, kept)


def test_tables_without_geometry_and_arrays(towns):
    table = pd.DataFrame({"lat": towns.geometry.y, "lon": towns.geometry.x, "rain": towns["rain"]})
    head = linear().fit(table, "rain")
    assert head.n_features_in_ == 2
    assert list(head.feature_names_in_) == ["lon", "lat"]
    assert type(head.predict_frame(table)) is pd.DataFrame
    got = head.predict_frame([[13.4, 52.5], [2.35, 48.9]])
    assert isinstance(got, gpd.GeoDataFrame)
    assert list(got.columns) == [
        "geometry",
        *(f"predicted_rain{x}" for x in ("", "_lower", "_upper")),
    ]
    assert got.crs.to_epsg() == 4326
    assert list(linear().fit(table, table["rain"].to_numpy()).predict_columns(table).columns) == [
        "predicted",
        "predicted_lower",
        "predicted_upper",
    ]
    several = linear().fit(table, table[["rain", "rain"]].to_numpy())
    assert list(several.predict_columns(table).columns[::3]) == ["predicted_0", "predicted_1"]
    series = head.predict_frame(towns.geometry)
    assert series.columns[0] == "geometry"


def test_rows_without_a_place_are_named_or_left_open(towns):
    head = linear().fit(towns, "height")
    places = towns.head(4).copy()
    places.iloc[1, places.columns.get_loc("geometry")] = None
    with pytest.raises(CoordinateError, match="1 of 4 rows hold no usable place"):
        head.predict_frame(places)
    with pytest.raises(CoordinateError, match="1 of 4 rows hold no usable place"):
        linear().fit(places, "height")
    got = head.predict_frame(places, on_invalid="nan")
    assert got["predicted_height"].isna().tolist() == [False, True, False, False]
    assert list(got.index) == [0, 0, 2, 2]
    np.testing.assert_allclose(
        got["predicted_height"].iloc[[0, 2, 3]], towns["height"].iloc[[0, 2, 3]], atol=1e-5
    )
    with pytest.raises(OptionError, match="on_invalid='drop' is not offered"):
        head.predict_frame(places, on_invalid="drop")
    assert list(head.predict_frame(places.iloc[:0]).columns) == list(got.columns)
    nowhere = places.iloc[[1]]
    assert head.predict_frame(nowhere, on_invalid="nan")["predicted_height"].isna().all()
    labels = logistic().fit(towns, "band").predict_frame(places, on_invalid="nan")
    assert labels["predicted_band"].isna().tolist() == [False, True, False, False]


def test_columns_that_exist_are_refused_unless_told(towns):
    head = linear().fit(towns, "height")
    once = head.predict_frame(towns)
    message = "already has the columns 'predicted_height'.*overwrite=True to replace, or rename"
    with pytest.raises(TableError, match=message):
        head.predict_frame(once)
    assert list(head.predict_frame(once, overwrite=True).columns) == list(once.columns)


def test_blocks_change_nothing(towns, monkeypatch):
    head = linear().fit(towns, ["height", "rain"])
    whole, columns = head.predict(towns), head.predict_columns(towns)
    monkeypatch.setattr(predicting, "_BLOCK_ROWS", 7)
    np.testing.assert_allclose(head.predict(towns), whole, atol=1e-6)
    pd.testing.assert_frame_equal(head.predict_columns(towns), columns, atol=1e-6)
    labels = logistic().fit(towns, "band")
    assert isinstance(labels.predict_columns(towns)["predicted_band"].dtype, pd.CategoricalDtype)
    assert len(labels.predict_frame(towns)) == 300


def test_the_score_is_r2_of_columns_or_values(towns):
    head = linear().fit(towns, "height")
    noisy = towns.assign(height=towns["height"] + np.linspace(-1, 1, 300))
    weights = np.linspace(0, 1, 300)
    for y in ("height", noisy["height"], noisy["height"].to_numpy()):
        assert head.score(noisy, y) == pytest.approx(r2_score(noisy["height"], head.predict(noisy)))
    assert head.score(noisy, "height", weights) == pytest.approx(
        r2_score(noisy["height"], head.predict(noisy), sample_weight=weights)
    )


# A field without noise drives the noise of a Gaussian process to the end of its range.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", model_names("regression"))
def test_every_named_model_learns_one_number_and_several(towns, name):
    for y in ("height", ["height", "rain"]):
        head = LocationRegressor("xyz", name, coverage=None, random_state=1).fit(towns[::2], y)
        assert head.predict(towns).shape == ((300,) if y == "height" else (300, 2))
        assert head.score(towns, y) > (0.99 if name in {"ridge", "gp"} else 0.8)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", model_names("classification"))
def test_every_named_model_learns_labels(towns, name):
    head = LocationClassifier("xyz", name, random_state=1).fit(towns, "band")
    assert head.score(towns, "band") > 0.8
    assert head.predict_proba(towns).shape == (300, 3)


# --- intervals, and rows that calibrate ----------------------------------------------------------


def test_without_calibration_there_are_no_intervals(towns):
    for options in ({"coverage": None}, {"calibration": None}):
        head = linear(**options).fit(towns, "height")
        assert head.radius_ is None
        assert list(head.predict_columns(towns).columns) == ["predicted_height"]
        with pytest.raises(OptionError, match="There are no intervals"):
            head.predict_interval(towns)


def test_too_few_rows_leave_the_intervals_open_and_say_so(towns):
    with pytest.warns(
        GeoembedHeadWarning,
        match=r"coverage=0.95 needs 19 rows to calibrate on and calibration=0.2 leaves 16 of 80",
    ):
        head = linear(coverage=0.95).fit(towns.head(80), "height")
    columns = head.predict_columns(towns)
    assert np.isneginf(columns["predicted_height_lower"]).all()
    assert np.isposinf(columns["predicted_height_upper"]).all()


def test_a_splitter_says_which_rows_calibrate(towns):
    noisy = towns.assign(height=towns["height"] + np.random.default_rng(0).normal(size=300))
    head = linear(calibration=KFold(3)).fit(noisy, "height")
    rest = linear(coverage=None).fit(noisy.iloc[100:], "height")
    np.testing.assert_allclose(head.predict(towns), rest.predict(towns), atol=1e-6)
    errors = np.sort(np.abs(rest.predict(noisy.head(100)) - noisy["height"].head(100)))
    np.testing.assert_allclose(head.radius_, errors[90], atol=1e-6)  # ceil(101 * 0.9) = 91


def test_the_seed_decides_which_rows_calibrate(towns):
    noisy = towns.assign(height=towns["height"] + np.random.default_rng(0).normal(size=300))
    radii = [linear(random_state=seed).fit(noisy, "height").radius_[0] for seed in (0, 0, 1)]
    assert radii[0] == radii[1] != radii[2]


def test_weights_of_rows_count(towns):
    wrong = towns.assign(height=np.where(np.arange(300) < 150, towns["height"], 1e3))
    weights = (np.arange(300) < 150).astype(float)
    head = linear(coverage=None).fit(wrong, "height", sample_weight=weights)
    np.testing.assert_allclose(head.predict(towns), towns["height"], atol=1e-4)
    with pytest.raises(OptionError, match=r"KNeighborsRegressor\(\) takes no sample_weight"):
        LocationRegressor("xyz", KNeighborsRegressor()).fit(towns, "height", sample_weight=weights)


# --- labels --------------------------------------------------------------------------------------


def test_labels_come_back_as_they_were(towns):
    head = logistic().fit(towns, "band")
    assert head.classes_.tolist() == ["middle", "north", "south"]
    assert head.score(towns, "band") > 0.95
    codes = np.searchsorted(head.classes_, towns["band"])
    for labels in (codes, codes == 1, pd.Categorical(towns["band"]), codes.astype(float)):
        numbered = logistic().fit(towns, labels)
        assert (numbered.predict(towns) == np.asarray(labels)).mean() > 0.95
    assert numbered.score(towns, codes.astype(float)) == pytest.approx(
        accuracy_score(codes, numbered.predict(towns))
    )


def test_the_frame_of_labels(towns):
    head = logistic(top_k=2).fit(towns, "band")
    got = head.predict_frame(towns)
    assert list(got.columns[-4:]) == [
        "predicted_band",
        "predicted_band_probability",
        "predicted_band_2",
        "predicted_band_2_probability",
    ]
    probabilities = head.predict_proba(towns)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-9)
    assert (got["predicted_band"] == head.predict(towns)).all()
    ordered = -np.sort(-probabilities, axis=1)
    np.testing.assert_allclose(got["predicted_band_probability"], ordered[:, 0])
    np.testing.assert_allclose(got["predicted_band_2_probability"], ordered[:, 1])
    columns = head.predict_columns(towns)
    assert columns["predicted_band"].cat.categories.tolist() == head.classes_.tolist()
    more = logistic(top_k=9).fit(towns, "band").predict_columns(towns)
    assert len(more.columns) == 6
    # Only what is calibrated is called a probability.
    assert "predicted_band_score" in logistic(calibration=None).fit(towns, "band").predict_columns(
        towns
    )


def test_probabilities_are_calibrated_without_a_coverage_too(towns):
    plain, without = (logistic(coverage=c).fit(towns, "band") for c in (0.9, None))
    assert without.temperature_ == plain.temperature_
    assert "predicted_band_probability" in without.predict_columns(towns)
    with pytest.warns(GeoembedHeadWarning, match="Calibration needs 9 rows to calibrate on"):
        few = logistic(coverage=None).fit(towns.iloc[::12], "band")
    assert few.temperature_ is None


def test_a_rare_class_is_learned_of(towns):
    towns["rare"] = np.where(np.arange(300) == 17, "single", towns["band"])
    head = logistic().fit(towns, "rare")
    assert head.classes_.tolist() == ["middle", "north", "single", "south"]
    assert set(head.model_.classes_) == set(head.classes_)


def test_a_class_that_a_splitter_leaves_nothing_of_is_refused(towns):
    class ByBand(GroupKFold):
        def split(self, X, y=None, groups=None):
            return super().split(X, y, groups=y)

    with pytest.raises(TargetError, match="leaves no row of 1 class to learn from: '"):
        logistic(calibration=ByBand(3)).fit(towns, "band")


def test_a_model_without_probabilities_is_refused(towns):
    with pytest.raises(OptionError, match="LinearSVC.* gives no probabilities"):
        LocationClassifier("xyz", LinearSVC()).fit(towns, "band")


def test_what_are_no_labels_is_refused(towns):
    with pytest.raises(TargetError, match="target 'one' holds only one class, 'a'"):
        logistic().fit(towns.assign(one="a"), "one")
    with pytest.raises(TargetError, match="target 'height' holds no labels: Unknown label type"):
        logistic().fit(towns, "height")
    gap = towns.assign(band=towns["band"].where(np.arange(300) != 4))
    with pytest.raises(TargetError, match="1 of 300 rows of target 'band' have no label .*: row 4"):
        logistic().fit(gap, "band")
    for top_k in (0, 1.5, True, "2"):
        with pytest.raises(OptionError, match="top_k=.* is no whole number of at least 1"):
            logistic(top_k=top_k).fit(towns, "band")


# --- one place, several targets ------------------------------------------------------------------


def test_rows_of_one_place_with_different_targets_are_reported(towns):
    twice = pd.concat([towns, towns.head(30).assign(band="elsewhere", height=9.0)])
    with pytest.warns(
        GeoembedHeadWarning,
        match=r"60 of 330 rows share their place \(30 places\) .* than an accuracy of 0.9091",
    ):
        labels = logistic().fit(twice, "band")
    assert labels.shared_places_.score == pytest.approx(300 / 330)
    with pytest.warns(GeoembedHeadWarning, match="than a mean R2 of 0."):
        numbers = linear().fit(twice, "height")
    assert numbers.shared_places_.rows == 60
    # Equal targets, and rows that an extra column tells apart, are nothing to report.
    equal = pd.concat([towns, towns.head(30)])
    assert linear().fit(equal, "height").shared_places_.rows == 0
    apart = twice.assign(soil=["old"] * 300 + ["new"] * 30)
    assert linear(extra_columns="soil").fit(apart, "height").shared_places_.score == 1.0


# --- extra columns -------------------------------------------------------------------------------


def test_extra_columns_join_the_vectors(towns):
    towns["sum"] = towns["height"] + 2.0 * (towns["soil"] == "clay") + 0.1 * towns["rain"] ** 2
    towns["square"] = towns["rain"] ** 2
    plain = linear().fit(towns, "sum").score(towns, "sum")
    head = linear(extra_columns=["soil", "square"]).fit(towns, "sum")
    assert plain < 0.8
    assert head.score(towns, "sum") > 0.999999
    assert head.n_features_in_ == 1
    with pytest.raises(TableError, match="extra_columns: There is no column named 'square'"):
        head.predict(towns.drop(columns="square"))
    with pytest.raises(TableError, match="but X is GeoSeries: give a GeoDataFrame"):
        head.predict(towns.geometry)
    with pytest.raises(OptionError, match="no list of different column names"):
        linear(extra_columns=["soil", "soil"]).fit(towns, "sum")


# --- featurizers and options ---------------------------------------------------------------------


class Latitude(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.asarray(X.geometry.y)[:, None] if hasattr(X, "geometry") else np.asarray(X)[:, 1:]


def test_every_kind_of_featurizer(towns, tmp_path):
    vectors = linear().fit(towns, "height").predict(towns)
    for featurizer in (ge.load_encoder("xyz"), ge.LocationFeaturizer("xyz")):
        head = LocationRegressor(featurizer, LinearRegression()).fit(towns, "height")
        np.testing.assert_allclose(head.predict(towns), vectors, atol=1e-6)
        assert head.featurizer is featurizer
    own = LocationRegressor(Latitude(), LinearRegression()).fit(towns, towns.geometry.y.to_numpy())
    np.testing.assert_allclose(own.predict(towns), towns.geometry.y, atol=1e-4)
    best = LocationRegressor(coverage=None)
    assert best._make_featurizer().layers == "best"


def test_shapes_are_read_as_the_featurizer_says(towns):
    centres = towns.geometry.head(40)
    shapes = towns.head(40).set_geometry(
        [box(x, y, x + 0.1, y + 0.1) for x, y in zip(centres.x, centres.y, strict=True)], crs=4326
    )
    with pytest.raises(CoordinateError, match="representative_point"):
        linear().fit(shapes, "height")
    for geometry in ("representative_point", "sample"):
        featurizer = ge.LocationFeaturizer("xyz", geometry=geometry, samples=4)
        head = LocationRegressor(featurizer, Ridge(1e-6), coverage=None).fit(shapes, "height")
        got = head.predict_frame(shapes)
        assert (got.geometry == shapes.geometry).all()
        assert r2_score(shapes["height"], got["predicted_height"]) > 0.99
    several = [box(0, 0, 1, 1), box(10, 10, 11, 11)]
    assert head.predict_frame(several).geometry.tolist() == several


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"featurizer": Latitude}, "is no name of an encoder and no transformer"),
        ({"featurizer": 3}, "is no name of an encoder and no transformer"),
        (
            {"model": "rigde"},
            "model='rigde' is not offered for regression: choose 'ridge', 'kernel', 'knn'",
        ),
        ({"model": "logistic"}, "model='logistic' is not offered for regression"),
        ({"model": LogisticRegression()}, r"LogisticRegression\(\) is no estimator for regression"),
        ({"model": Ridge}, "is no estimator for regression: give a name"),
        ({"coverage": 90}, "coverage=90 is no share strictly between 0 and 1"),
        ({"calibration": 0.0}, "calibration=0.0 is no share strictly between 0 and 1"),
        ({"calibration": 1}, "calibration=1 is no share strictly between 0 and 1"),
        ({"calibration": "blocks"}, "no splitter such as SpatialBlockKFold"),
    ],
)
def test_options_are_checked_before_the_work(towns, options, message):
    with pytest.raises(OptionError, match=message):
        LocationRegressor(**{"featurizer": "xyz", **options}).fit(towns, "height")


def test_a_gaussian_process_refuses_more_rows_than_it_can_take():
    places = np.random.default_rng(0).uniform(-80, 80, (3_001, 2))
    with pytest.raises(OptionError, match="'gp' takes at most 3,000 rows and there are 3,001"):
        LocationRegressor("xyz", "gp").fit(places, places[:, 0])


def test_bad_targets_are_refused_and_nothing_is_lost(towns):
    kept = towns.copy(deep=True)
    gap = towns["height"].copy()
    gap.iloc[7] = np.nan
    for y, error, message in (
        (gap, TargetError, "1 of 300 rows of target 'height' are missing or not finite: row 6"),
        ("hieght", TableError, "There is no column named 'hieght'. Close matches: 'height'"),
        ("band", TargetError, "y is no table of numbers: could not convert string to float"),
        (np.zeros(3), TargetError, "X has 300 rows and y 3"),
        (None, TargetError, "y is None"),
    ):
        with pytest.raises(error, match=message):
            linear().fit(towns, y)
    with pytest.raises(
        TargetError, match="nothing to learn from: n_samples = 0, and a head needs two"
    ):
        linear().fit(towns.iloc[:0], "height")
    pd.testing.assert_frame_equal(towns, kept)


def test_vectors_that_are_not_finite_are_refused(towns):
    lonlat = np.array([[0.0, 0.0], [np.nan, 1.0], [2.0, 2.0]])
    featurizer = ge.LocationFeaturizer("xyz", on_invalid="nan")
    with pytest.raises(CoordinateError, match="1 of 3 rows have no finite vector: row 1"):
        LocationRegressor(featurizer, "knn").fit(lonlat, [1, 2, 3])


def test_pickles_predict_the_same(towns):
    for head in (linear().fit(towns, "height"), logistic().fit(towns, "band")):
        again = pickle.loads(pickle.dumps(head))
        np.testing.assert_array_equal(again.predict(towns), head.predict(towns))
        pd.testing.assert_frame_equal(again.predict_frame(towns), head.predict_frame(towns))


def test_a_model_is_a_clone_of_the_one_given(towns):
    model = KNeighborsClassifier(3)
    head = LocationClassifier("xyz", model).fit(towns, "band")
    assert head.model is model
    assert head.model_ is not model
    assert not hasattr(model, "classes_")
    assert make_model(model, "classification", 0) is not model
