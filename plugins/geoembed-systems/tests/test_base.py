"""What all systems share, with a system that learns by counting."""

import pickle
import warnings

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from geoembed_systems.cells.adaptive import adaptive_partition
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.shared.base import System
from geoembed_systems.shared.pooling import log_normalised, pool_views
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import geoembed as ge
from geoembed.errors import CoordinateError, OptionError, TableError
from geoembed.geodesy import distance_km
from geoembed.geolocation.queries import UnreadablePictureWarning

TOWNS = np.array([[2.35, 48.86], [-58.4, -34.6], [139.7, 35.7], [28.0, -26.2], [151.2, -33.9]])


class NearestCentre(System):
    """Answers with the cell whose mean feature is nearest."""

    title = "Nearest centre"

    def __init__(
        self,
        *,
        scale=1.0,
        image_encoder="geoclip.v1",
        weights=None,
        allow_download=False,
        crops="none",
        crop_pooling="mean",
        device="auto",
        random_state=0,
        progress=None,
    ):
        self.scale = scale
        self.image_encoder = image_encoder
        self.weights = weights
        self.allow_download = allow_download
        self.crops = crops
        self.crop_pooling = crop_pooling
        self.device = device
        self.random_state = random_state
        self.progress = progress

    def _fit(self, features, lonlat, scenes):
        self.seen_scenes_ = scenes
        self.partition_ = adaptive_partition(lonlat, t_max=50, t_min=5)
        cell, pooled = self.partition_.locate(lonlat), features.pooled.mean(axis=1)
        if self.scale < 0:
            raise OptionError("scale is negative")
        self.centres_ = np.stack(
            [pooled[cell == number].mean(axis=0) for number in range(len(self.partition_))]
        )

    def _log_scores(self, features):
        away = ((features.pooled[:, :, None] - self.centres_) ** 2).sum(axis=-1)
        return pool_views(
            log_normalised((-self.scale * away).astype(np.float32)), self.crop_pooling
        )

    def _state(self):
        return {"centres": self.centres_}, {}

    def _restore(self, tensors, config):
        self.centres_ = tensors["centres"]


def make_world(rows=400, seed=0, width=6):
    """Towns that look different: features (n, d), places (n, 2), numbers of towns (n,)."""
    rng = np.random.default_rng(seed)
    town = rng.integers(len(TOWNS), size=rows)
    looks = np.random.default_rng(99).normal(size=(len(TOWNS), width)) * 3
    features = looks[town] + rng.normal(0, 0.3, (rows, width))
    return features.astype(np.float32), TOWNS[town] + rng.normal(0, 0.05, (rows, 2)), town


@pytest.fixture(scope="module")
def fitted():
    features, lonlat, _ = make_world()
    return NearestCentre().fit(features, lonlat)


def test_a_world_of_towns_is_learned(fitted):
    features, lonlat, town = make_world(seed=1)
    found = fitted.predict(features)
    assert found.shape == (400, 2)
    assert found.dtype == np.float64
    away = distance_km(*found.T, *TOWNS[town].T)
    assert (away < 50).mean() > 0.95
    assert fitted.score(features, lonlat) == (distance_km(*found.T, *lonlat.T) <= 25).mean()
    assert fitted.score(features, lonlat, threshold_km=0) == 0.0


def test_probabilities_and_cells_belong_together(fitted):
    features = make_world(seed=1)[0]
    proba = fitted.predict_proba(features)
    assert proba.shape == (400, len(fitted.partition_))
    assert proba.dtype == np.float32
    assert np.allclose(proba.sum(axis=1), 1.0, atol=1e-5)
    cells = fitted.predict_cells(features)
    assert cells.dtype == np.int64
    assert (cells == proba.argmax(axis=1)).all()
    assert (fitted.predict(features) == fitted.partition_.means[cells]).all()


def test_blocks_do_not_change_answers(fitted, monkeypatch):
    features = make_world(seed=1)[0]
    proba, cells = fitted.predict_proba(features), fitted.predict_cells(features)
    table = fitted.localize(features[:20], radii=False)
    monkeypatch.setattr("geoembed_systems.shared.contract._VALUES_AT_ONCE", 40)
    assert (fitted.predict_proba(features) == proba).all()
    assert (fitted.predict_cells(features) == cells).all()
    pd.testing.assert_frame_equal(fitted.localize(features[:20], radii=False), table)


def test_localize_gives_the_table_of_the_core(fitted):
    core = ge.GeoLocalizer("cities").fit()
    vectors = ge.encode([2.35, -58.4], [48.86, -34.6], normalize=True)
    expected = core.localize(vectors=vectors, top_k=2)
    features, _, town = make_world(seed=1)
    found = fitted.localize(features[:3], top_k=2)
    assert list(found.columns) == list(expected.columns)
    assert found.dtypes.astype(str).to_dict() == expected.dtypes.astype(str).to_dict()
    assert isinstance(found, gpd.GeoDataFrame)
    assert found.crs == expected.crs
    best = found[found["rank"] == 1]
    assert best["query"].tolist() == ["0", "1", "2"]
    assert best[["lon", "lat"]].to_numpy().tolist() == fitted.predict(features[:3]).tolist()
    proba = fitted.predict_proba(features[:3])
    assert best["score"].to_numpy() == pytest.approx(proba.max(axis=1))
    names = ["Paris", "Buenos Aires", "Tokyo", "Johannesburg", "Sydney"]
    away = distance_km(*best[["lon", "lat"]].to_numpy().T, *TOWNS[town[:3]].T)
    assert (away < 30).all(), names
    assert (best["radius_50_km"] <= best["radius_90_km"]).all()
    assert not found["calibrated"].any()
    assert found["no_signal"].isna().all()


def test_candidates_keep_their_distance(fitted):
    features = make_world(seed=1)[0][:10]
    found = fitted.localize(features, top_k=4, distinct_km=500.0, radii=False)
    assert found["radius_50_km"].isna().all()
    for _, rows in found.groupby("query"):
        assert rows["rank"].tolist() == [1, 2, 3, 4]
        assert rows["score"].is_monotonic_decreasing
        lonlat = rows[["lon", "lat"]].to_numpy()
        away = distance_km(*lonlat[:, None].T, *lonlat[None].T)
        assert away[~np.eye(4, dtype=bool)].min() >= 500.0


def test_fewer_candidates_are_given_where_there_are_no_more(fitted):
    found = fitted.localize(make_world(seed=1)[0][:1], top_k=100, distinct_km=500.0, radii=False)
    assert len(found) == len(TOWNS)


def test_pictures_with_an_error_are_kept_and_told(fitted):
    pooled = make_world(seed=1)[0][:3]
    pooled[1] = np.nan
    asked = PictureFeatures(pooled, errors=["", "is no picture", ""], names=["a", "b", "c"])
    with pytest.warns(UnreadablePictureWarning, match="1 of 3 queries.*b: is no picture"):
        found = fitted.predict(asked)
    assert np.isfinite(found).all(axis=1).tolist() == [True, False, True]
    with pytest.warns(UnreadablePictureWarning):
        assert np.isnan(fitted.predict_proba(asked)).all(axis=1).tolist() == [False, True, False]
    with pytest.warns(UnreadablePictureWarning):
        assert fitted.predict_cells(asked)[1] == -1
    table = fitted.localize(asked, top_k=1)
    assert table["query"].tolist() == ["a", "b", "c"]
    assert table["error"].tolist() == ["", "is no picture", ""]
    assert table["geometry"].isna().tolist() == [False, True, False]
    with pytest.warns(UnreadablePictureWarning):
        assert fitted.score(asked, np.nan_to_num(found), threshold_km=1e5) == 2 / 3


def test_nothing_but_errors_is_answered_with_errors(fitted):
    asked = PictureFeatures(np.full((2, 3), np.nan), errors=["bad", "bad"])
    with pytest.warns(UnreadablePictureWarning):
        assert np.isnan(fitted.predict(asked)).all()
    assert fitted.localize(asked)["error"].tolist() == ["bad", "bad"]


def test_fit_leaves_pictures_with_an_error_out_and_says_so():
    pooled, lonlat, _ = make_world()
    pooled[7] = np.nan
    errors = [""] * 400
    errors[7] = "is no picture"
    with pytest.warns(UnreadablePictureWarning, match="1 of 400 pictures have no features.*is no"):
        system = NearestCentre().fit(PictureFeatures(pooled, errors=errors), lonlat)
    assert system.rows_ == 399
    assert int(system.partition_.places) == 399


def test_scenes_reach_the_system_in_order():
    pooled, lonlat, _ = make_world()
    labels = ["indoor"] * 399 + [np.nan]
    system = NearestCentre().fit(pooled, lonlat, pd.Series(labels, index=np.arange(400) + 9))
    assert system.seen_scenes_.tolist() == ["indoor"] * 399 + [None]


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"points": np.zeros((3, 2))}, CoordinateError, "3 places for 400 pictures: give"),
        ({"points": np.full((400, 2), np.nan)}, CoordinateError, "."),
        ({"points": [[2.0, 48.0]]}, CoordinateError, "^1 place for 400 pictures: give"),
        ({"scenes": ["indoor"]}, TableError, "^1 scene for 400 pictures: give"),
        ({"scenes": "indoor"}, TableError, "one label a picture"),
        ({"points": np.tile([2.0, 48.0], (400, 1))}, OptionError, "in one cell"),
    ],
)
def test_fit_refuses_what_does_not_fit(change, error, match):
    pooled, lonlat, _ = make_world()
    with pytest.raises(error, match=match):
        NearestCentre().fit(pooled, change.get("points", lonlat), change.get("scenes"))


def test_fit_refuses_pictures_of_which_none_has_features():
    with pytest.raises(TableError, match="No picture has features. The first: bad"):
        NearestCentre().fit(
            PictureFeatures(np.full((2, 3), np.nan), errors=["bad", "worse"]), [[0, 0], [1, 1]]
        )


def test_a_fit_that_fails_leaves_the_system_as_it_was(fitted):
    system = pickle.loads(pickle.dumps(fitted))
    features = make_world(seed=1)[0]
    before = system.predict(features)
    system.set_params(scale=-1.0)
    with pytest.raises(OptionError, match="scale is negative"):
        system.fit(*make_world(seed=5)[:2])
    system.set_params(scale=1.0)
    assert (system.predict(features) == before).all()


def test_a_system_answers_only_once_it_is_fitted():
    for ask in ("predict", "predict_proba", "predict_cells", "localize", "regions"):
        with pytest.raises(NotFittedError):
            getattr(NearestCentre(), ask)(np.zeros((2, 6)))


def test_features_of_another_size_are_refused(fitted):
    for ask in ("predict", "predict_proba", "localize", "regions"):
        with pytest.raises(OptionError, match="of length 7, and the system has learned from"):
            getattr(fitted, ask)(np.zeros((2, 7), np.float32))


def test_options_out_of_range_are_refused(fitted):
    features = make_world(seed=1)[0][:2]
    with pytest.raises(OptionError, match="top_k=0"):
        fitted.localize(features, top_k=0)
    with pytest.raises(OptionError, match="distinct_km=-1"):
        fitted.localize(features, distinct_km=-1)
    with pytest.raises(OptionError, match="threshold_km=nan"):
        fitted.score(features, TOWNS[:2], threshold_km=np.nan)
    with pytest.raises(CoordinateError, match="5 places for 2 pictures"):
        fitted.score(features, TOWNS)
    with pytest.raises(OptionError, match="does not choose by scene"):
        fitted.predict(features, scenes=["indoor", "urban"])
    with pytest.raises(OptionError, match="crop_pooling='median'"):
        clone(fitted).set_params(crop_pooling="median").fit(*make_world()[:2]).predict(features)


def test_views_are_pooled(fitted):
    features = make_world(seed=1)[0]
    views = np.stack([features[:10], features[10:20], features[20:30]], axis=1)
    single = [fitted.predict_proba(views[:, view]) for view in range(3)]
    assert fitted.predict_proba(views) == pytest.approx(np.mean(single, axis=0), abs=1e-6)
    largest = pickle.loads(pickle.dumps(fitted)).set_params(crop_pooling="max")
    expected = np.max(single, axis=0)
    expected /= expected.sum(axis=1, keepdims=True)
    assert largest.predict_proba(views) == pytest.approx(expected, abs=1e-6)


def test_a_system_is_an_estimator_of_scikit_learn(fitted):
    twin = clone(fitted.set_params(scale=2.0))
    fitted.set_params(scale=1.0)
    assert twin.scale == 2.0
    assert repr(twin) == "NearestCentre(scale=2.0)"
    assert not hasattr(twin, "partition_")


def test_what_is_kept_for_speed_is_not_pickled(fitted):
    fitted.localize(make_world(seed=1)[0][:1])
    assert "_kept_density" in fitted.__dict__
    assert "_kept_density" not in pickle.loads(pickle.dumps(fitted)).__dict__


def test_a_refit_forgets_the_density_of_the_old_cells():
    features, lonlat, _ = make_world()
    system = NearestCentre().fit(features, lonlat)
    old = system._density
    system.fit(features[:200], lonlat[:200])
    assert system._density is not old
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        system.localize(features[:2])
