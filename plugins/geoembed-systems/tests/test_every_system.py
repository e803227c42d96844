"""What all seven systems promise, asked of each of them: one world of towns, tiny networks."""

import tracemalloc

import geopandas as gpd
import matplotlib
import numpy as np
import pytest
from geoembed_systems import SYSTEMS, PictureFeatures, load_system
from sklearn.base import clone

from geoembed.errors import OptionError
from geoembed.extending.registry import resolve_factory
from geoembed.geodesy import distance_km

matplotlib.use("agg")

pytestmark = pytest.mark.usefixtures("one_thread")

TOWNS = np.array([[2.35, 48.86], [-58.4, -34.6], [139.7, 35.7], [28.0, -26.2], [151.2, -33.9]])
SCENES = np.array(["urban", "natural", "urban", "natural", "urban"], dtype=object)
LEARNING = {"epochs": 12.0, "batch_size": 64, "learning_rate": 0.02, "progress": False}
CELLS = {"t_max": 70, "t_min": 5, **LEARNING}
LEVELS = {"t_max": (200, 120, 70), "t_min": 5, **LEARNING}
SMALL_PAIR = {
    "location.projection": "sphere",
    "location.sigmas": [1.0, 4.0],
    "location.frequencies": 16,
    "location.hidden": [32],
    "location.output": 16,
    "image.head": [16],
}
OPTIONS = {
    "knn": {"neighbours": 10, "t_max": 70, "t_min": 5, "progress": False},
    "planet": CELLS,
    "cplanet": {"partitions": 3, "classes": 3, **CELLS},
    "isns": LEVELS,
    "translocator": {"width": 16, "layers": 1, **LEVELS},
    "geodecoder": {"width": 16, "layers": 1, **LEVELS},
    "geoclip": {"training": SMALL_PAIR, **CELLS},
}


def make_world(rows: int, seed: int) -> tuple[PictureFeatures, np.ndarray, np.ndarray]:
    """Pictures of five towns that look different, with patch tokens; places; towns."""
    rng = np.random.default_rng(seed)
    town = rng.integers(len(TOWNS), size=rows)
    looks = np.random.default_rng(99).normal(size=(len(TOWNS), 6)) * 2
    tokens = looks[town][:, None] + rng.normal(0, 0.6, (rows, 3, 6))
    lonlat = TOWNS[town] + rng.normal(0, 0.05, (rows, 2))
    return PictureFeatures(tokens.mean(axis=1), tokens=tokens), lonlat, town


def make_system(name):
    [spec] = [spec for spec in SYSTEMS if spec.name == name]
    return resolve_factory(spec.factory, owner="geoembed-systems")(**OPTIONS[name])


@pytest.fixture(scope="module", params=[spec.name for spec in SYSTEMS])
def fitted(request):
    features, lonlat, town = make_world(300, seed=0)
    return make_system(request.param).fit(features, lonlat, SCENES[town])


@pytest.fixture(scope="module")
def asked():
    return make_world(60, seed=1)


def test_answers_cells_and_probabilities_are_right_and_fit_together(fitted, asked):
    features, _, town = asked
    found = fitted.predict(features)
    assert (found.shape, found.dtype) == ((60, 2), np.float64)
    assert (distance_km(*found.T, *TOWNS[town].T) < 300).mean() > 0.95
    proba = fitted.predict_proba(features)
    assert (proba.shape, proba.dtype) == ((60, len(fitted.partition_)), np.float32)
    assert proba.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    cells = fitted.predict_cells(features)
    assert cells.dtype == np.int64
    assert (cells == proba.argmax(axis=1)).all()
    means = fitted.partition_.means[cells]
    if fitted.title == "GeoCLIP":
        return  # It answers with places; land of its density, in 50 km cells, adds up to others.
    assert (distance_km(*means.T, *TOWNS[town].T) < 300).mean() > 0.95


def test_localize_says_first_what_predict_says_with_radii_around_it(fitted, asked):
    features = asked[0].take(slice(8))
    found = fitted.localize(features, top_k=2)
    first = found[found["rank"] == 1]
    assert first["query"].tolist() == [str(row) for row in range(8)]
    assert first[["lon", "lat"]].to_numpy() == pytest.approx(fitted.predict(features))
    assert (first["radius_50_km"] > 0).all()
    assert (first["radius_50_km"] <= first["radius_90_km"]).all()
    assert not found["calibrated"].any()
    bare = fitted.localize(features, top_k=2, radii=False)
    assert bare["radius_90_km"].isna().all()
    assert bare["lon"].tolist() == found["lon"].tolist()


def test_regions_hold_the_share_that_they_were_asked_for(fitted, asked):
    found = fitted.regions(asked[0].take(slice(3)), shares=(0.5, 0.9))
    assert isinstance(found, gpd.GeoDataFrame)
    assert found["query"].tolist() == [str(row) for row in range(3) for _ in range(2)]
    assert (found["mass"] >= found["share"] - 1e-6).all()
    assert found.geometry.is_valid.all()
    area = found["area_km2"].to_numpy().reshape(3, 2)
    assert (area[:, 0] <= area[:, 1]).all()


def test_a_map_of_one_picture_is_drawn(fitted, asked):
    ax = fitted.probability_map(asked[0].take([0]), title="Where?")
    assert ax.get_title(loc="left") == "Where?"
    matplotlib.pyplot.close(ax.figure)


def test_it_is_calibrated_saved_loaded_and_answers_the_same(fitted, asked, tmp_path):
    features, lonlat, _ = asked
    learned = fitted.calibrate(features, lonlat)
    try:
        found = fitted.localize(features.take(slice(5)))
        assert found["calibrated"].all()
        # Real pictures would be taken for noise by the hundred.
        assert learned.signal is None
        assert found["no_signal"].isna().all()
        again = load_system(fitted.save(tmp_path / "system"))
        assert type(again) is type(fitted)
        assert again.calibration_ == learned
        assert (again.predict(features) == fitted.predict(features)).all()
        assert (again.predict_proba(features) == fitted.predict_proba(features)).all()
        assert again.localize(features.take(slice(5))).equals(found)
        assert again.regions(features.take([0]))["calibrated"].all()
    finally:
        del fitted.calibration_


def test_a_clone_has_the_options_and_nothing_that_was_learned(fitted):
    twin = clone(fitted)
    assert twin.get_params() == fitted.get_params()
    assert not hasattr(twin, "partition_")


def test_tokens_are_taken_where_they_are_used_and_let_go_elsewhere(fitted, asked):
    features, _, _ = asked
    bare = features.pooled_only()
    assert (fitted.layout_.tokens is not None) == fitted.uses_tokens
    if fitted.uses_tokens:
        with pytest.raises(OptionError, match=rf"{type(fitted).__name__}\(.*\) does without"):
            fitted.predict(bare)
    else:
        assert fitted.layout_ == bare.layout
        assert (fitted.predict(bare) == fitted.predict(features)).all()


@pytest.mark.parametrize("name", ["planet", "isns", "geoclip"])
def test_what_looks_at_pooled_features_is_not_handed_tokens(name, monkeypatch):
    # Of 64 MB of tokens nothing is copied into the rows of a training run.
    rows = 200
    pooled, lonlat, _ = make_world(rows, seed=0)
    tokens = np.zeros((rows, 80, 1000), np.float32)
    wide = PictureFeatures(pooled.pooled, tokens=tokens[:, None])
    system = make_system(name).set_params(epochs=1.0)
    system.fit(pooled.take(slice(60)), lonlat[:60])  # what is imported and kept is not counted
    tracemalloc.start()
    system.fit(wide, lonlat)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


@pytest.mark.parametrize("name", [spec.name for spec in SYSTEMS])
def test_fit_refuses_crops_that_are_not_offered(name):
    features, lonlat, _ = make_world(60, seed=0)
    with pytest.raises(OptionError, match="crops='seven'"):
        make_system(name).set_params(crops="seven").fit(features, lonlat)
    with pytest.raises(OptionError, match="crop_pooling='median'"):
        make_system(name).set_params(crop_pooling="median").fit(features, lonlat)


@pytest.mark.parametrize("name", [spec.name for spec in SYSTEMS])
def test_one_scene_is_as_good_as_none_and_that_is_told(name, tmp_path):
    features, lonlat, _ = make_world(150, seed=0)
    system, other = make_system(name), make_system(name)
    if "t_max" in OPTIONS[name]:
        fewer = (100, 60, 40) if OPTIONS[name]["t_max"] == LEVELS["t_max"] else 40
        system, other = (each.set_params(t_max=fewer, random_state=3) for each in (system, other))
    if name != "knn":
        system, other = (each.set_params(epochs=1.0) for each in (system, other))
    labels = np.array(["urban"] * 149 + [None], dtype=object)
    system.fit(features, lonlat, labels)
    other.fit(features, lonlat)
    assert (system.predict_proba(features) == other.predict_proba(features)).all()
    if system.uses_scenes:
        told = "scenes= holds 'urban' alone: learned as if no scenes were given"
        assert system.notes_ == (*other.notes_, told)
        assert load_system(system.save(tmp_path / "system")).notes_ == system.notes_
    else:
        assert "Scenes are not used" in type(system).__doc__
