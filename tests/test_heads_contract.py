"""scikit-learn's common checks on every head, and what else an estimator owes its users."""

import pickle

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_validate
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

import geoembed as ge
from geoembed.heads import (
    LandCoverRegressor,
    LocationClassifier,
    LocationRegressor,
    RegionClassifier,
)
from geoembed.heads.models.links import alr, alr_inverse
from geoembed.heads.reading import read_numbers


class AnyMatrixFeaturizer(ge.LocationFeaturizer):
    """Reads any numeric matrix as places, and puts the matrix beside their vectors."""

    def __init__(self, encoder="xyz"):
        super().__init__(encoder)

    def _load(self):
        return ge.load_encoder(self.encoder)

    def _read(self, X, *, reset):
        X = validate_data(self, X, reset=reset, dtype=np.float64)
        mixed = np.arctan(X @ np.vander(np.linspace(0.3, 1.0, X.shape[1]), 2)) / (np.pi / 2)
        return ge.read_places(mixed * [179.0, 89.0])

    def transform(self, X):
        matrix = validate_data(self, X, reset=False, dtype=np.float64)
        return np.hstack([super().transform(X), matrix]).astype(np.float32)


class AnyTargetLandCover(LandCoverRegressor):
    """Learns any numbers as shares: their log-ratios to one more class, and back."""

    def _encode_target(self, target):
        numbers = read_numbers(target)
        self.any_flat_ = target.values.ndim == 1
        self.spread_ = 1.0 + np.abs(numbers).max()
        target = type(target)(
            alr_inverse(numbers / self.spread_, numbers.shape[1]), (), target.index
        )
        return super()._encode_target(target)

    def _calibrate(self, features, encoded):
        self._forget_calibration()

    def _predict_features(self, features):
        shares = super()._predict_features(features)
        numbers = alr(shares, shares.shape[1] - 1) * self.spread_
        return numbers[:, 0] if self.any_flat_ else numbers

    def score(self, X, y, sample_weight=None):
        return LocationRegressor.score(self, X, y, sample_weight)


HEADS = [
    LocationRegressor(AnyMatrixFeaturizer()),
    LocationClassifier(AnyMatrixFeaturizer()),
    RegionClassifier(AnyMatrixFeaturizer()),
    AnyTargetLandCover(AnyMatrixFeaturizer()),
]

# Exempted checks and why; each has a test of ours in its place.
EXEMPT = {
    # Rows are drawn to choose the penalty and to calibrate: a row that is there twice is drawn
    # twice, one of weight 2 once. In its place: the test of weights below, without drawing.
    "check_sample_weight_equivalence_on_dense_data": "rows held out are drawn row by row",
    # Products of float32 matrices depend on their shape in the last digit, and the check allows
    # 1e-7. In its place: the test of single rows below.
    "check_methods_subset_invariance": "float32 products of the kernel",
}


def exempt(estimator):
    """Say which checks a head is exempted from: the second only where a kernel is the model."""
    kernel = isinstance(estimator, LandCoverRegressor)
    return dict(list(EXEMPT.items())[: 2 if kernel else 1])


# The checks' tables are small and hold equal rows, of which heads warn.
@pytest.mark.filterwarnings("ignore::geoembed.heads.GeoembedHeadWarning")
@parametrize_with_checks(HEADS, expected_failed_checks=exempt)
def test_common_checks(estimator, check):
    check(estimator)


def test_at_most_five_exemptions():
    assert len(EXEMPT) <= 5


# --- what the exempted checks are about ----------------------------------------------------------


def test_a_row_alone_is_predicted_as_among_others():
    lonlat = np.random.default_rng(0).uniform(-60, 60, (200, 2))
    north = (lonlat[:, 1] + 90) / 180
    head = LandCoverRegressor("xyz").fit(lonlat, np.column_stack([north, 1 - north]))
    alone = np.vstack([head.predict(row[None]) for row in lonlat[:20]])
    np.testing.assert_allclose(alone, head.predict(lonlat)[:20], rtol=0, atol=1e-5)


@pytest.fixture
def towns():
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-180, 180, 240), np.degrees(np.arcsin(rng.uniform(-1, 1, 240)))
    warm = np.sin(np.radians(lat)) + 0.1 * rng.normal(size=240)
    return gpd.GeoDataFrame(
        {
            "warm": warm,
            "band": np.where(lat > 20, "north", np.where(lat < -20, "south", "middle")),
            "wood": np.clip(warm / 2 + 0.5, 0, 1),
            "ice": 1 - np.clip(warm / 2 + 0.5, 0, 1),
        },
        geometry=gpd.points_from_xy(lon, lat),
        crs=4326,
    )


TARGETS = {"LocationRegressor": "warm", "LandCoverRegressor": ["wood", "ice"]}
PLAIN = [
    LocationRegressor("harmonics.l10", Ridge(1e-3), coverage=None),
    LandCoverRegressor("harmonics.l10", Ridge(1e-3), link="ilr", coverage=None),
    LocationClassifier("harmonics.l10", LogisticRegression(), calibration=None),
    RegionClassifier("harmonics.l10", LogisticRegression(), calibration=None),
]


def names_of(heads):
    return [type(head).__name__ for head in heads]


def target_of(head):
    return TARGETS.get(type(head).__name__, "band")


# Rows that are there twice have one place and one target.
@pytest.mark.parametrize("head", PLAIN, ids=names_of(PLAIN))
def test_whole_weights_are_rows_left_out_and_repeated(head, towns):
    weights = np.random.default_rng(1).integers(0, 4, 240)
    weights[:10] = 1  # every class has a row
    repeated = towns.loc[np.repeat(towns.index, weights)]
    weighted = clone(head).fit(towns, target_of(head), sample_weight=weights)
    plain = clone(head).fit(repeated, target_of(head))
    how = "predict_proba" if hasattr(head, "predict_proba") else "predict"
    np.testing.assert_allclose(
        getattr(weighted, how)(towns), getattr(plain, how)(towns), rtol=0, atol=2e-4
    )


# --- among scikit-learn's tools ------------------------------------------------------------------

EVERY = [
    LocationRegressor("xyz"),
    LandCoverRegressor("xyz"),
    LocationClassifier("xyz"),
    RegionClassifier("xyz"),
]
every_head = pytest.mark.parametrize("head", EVERY, ids=names_of(EVERY))


@every_head
def test_clones_and_pickles(head, towns):
    copy = clone(head)
    assert copy.get_params() == head.get_params()
    copy.fit(towns, target_of(head))
    again = pickle.loads(pickle.dumps(copy))
    pd.testing.assert_frame_equal(again.predict_frame(towns), copy.predict_frame(towns))
    assert not hasattr(clone(copy), "model_")
    with pytest.raises(NotFittedError, match="not fitted yet"):
        clone(copy).predict(towns)


@every_head
def test_fitting_again_forgets_what_was_learned(head, towns):
    head, y = clone(head), target_of(head)
    first = head.fit(towns.head(120), y).predict_columns(towns)
    head.fit(towns.tail(120), y)
    head.fit(towns.head(120), y)
    pd.testing.assert_frame_equal(head.predict_columns(towns), first)


@every_head
def test_cross_validation_on_a_frame(head, towns):
    y = towns[target_of(head)]
    kept = towns.copy(deep=True)
    folds = KFold(2, shuffle=True, random_state=0)
    scores = cross_validate(clone(head), towns, y, cv=folds, error_score="raise")
    assert scores["test_score"].min() > 0.2
    assert cross_val_predict(clone(head), towns, y, cv=folds).shape == y.shape
    pd.testing.assert_frame_equal(towns, kept)


def test_a_grid_over_the_featurizer_and_the_model(towns):
    head = LocationRegressor(ge.LocationFeaturizer("geoclip.v1"), coverage=None)
    towns = towns.head(60)
    grid = {
        "featurizer__layers": ["final", "scales"],
        "model": [Ridge(1.0), KNeighborsRegressor(3)],
    }
    search = GridSearchCV(head, grid, cv=2, error_score="raise").fit(towns, towns["warm"])
    assert len(search.cv_results_["params"]) == 4
    best = search.best_estimator_
    assert best.featurizer_.layers == search.best_params_["featurizer__layers"]
    assert type(best.model_) is type(search.best_params_["model"])
    assert search.predict(towns).shape == (60,)


def test_a_grid_over_the_parameters_of_a_model(towns):
    head = LocationClassifier("harmonics.l10", LogisticRegression(), extra_columns="warm")
    grid = {"model__C": [1e-6, 1.0], "calibration": [0.2, None], "top_k": [1]}
    search = GridSearchCV(head, grid, cv=3, error_score="raise").fit(towns, towns["band"])
    assert search.best_params_["model__C"] == 1.0
    assert search.score(towns, towns["band"]) > 0.9


def test_splitters_on_places_see_the_places(towns):
    head = LocationRegressor("harmonics.l10", calibration=ge.SpatialBlockKFold(4, block_km=2000))
    folds = ge.SpatialBlockKFold(3, block_km=2000)
    scores = cross_validate(head, towns, towns["warm"], cv=folds, error_score="raise")
    assert len(scores["test_score"]) == 3


def test_classes_that_a_fold_lacks(towns):
    towns["rare"] = np.where(np.arange(240) < 1, "single", towns["band"])
    folds = KFold(4)  # the first test part has the single row, which its training part lacks
    scores = cross_validate(
        LocationClassifier("xyz"), towns, towns["rare"], cv=folds, error_score="raise"
    )
    assert np.isfinite(scores["test_score"]).all()


def test_fewer_rows_than_folds_is_refused(towns):
    few = towns.head(3)
    with pytest.raises(ValueError, match="Cannot have number of splits n_splits=5 greater than"):
        cross_validate(LocationRegressor("xyz"), few, few["warm"], cv=5)


def test_a_head_in_a_pipeline_of_targets(towns):
    log = TransformedTargetRegressor(
        LocationRegressor("harmonics.l10"), func=np.exp, inverse_func=np.log
    )
    assert log.fit(towns, towns["warm"].to_numpy()).predict(towns).shape == (240,)
    several = MultiOutputRegressor(LocationRegressor("xyz", coverage=None))
    assert several.fit(towns, towns[["warm", "wood"]]).predict(towns).shape == (240, 2)
