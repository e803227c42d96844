"""Saving heads to folders, and loading them with every part checked."""

import json
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import sklearn
import torch
from pyproj import CRS
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import geoembed as ge
from geoembed.encoders.network import LocationNetwork
from geoembed.errors import OptionError, SavedHeadError
from geoembed.extending.specs import LocationEncoderSpec
from geoembed.heads import (
    GeoembedHeadWarning,
    LocationClassifier,
    LocationRegressor,
    make_head,
)
from geoembed.heads.saving import folders
from geoembed.heads.saving.description import bounding_box, plain, read_description
from geoembed.heads.saving.store import load_head
from geoembed.heads.saving.trust import check_contents, is_trusted
from geoembed.splits.block_splits import SpatialBlockKFold


@pytest.fixture(scope="module")
def cities():
    table = ge.data.load_cities().head(160)[["name", "population", "lon", "lat", "geometry"]]
    table["north"] = np.sin(np.radians(table["lat"]))
    table["wood"] = (1.0 + table["north"]) / 2.0
    table["rest"] = 1.0 - table["wood"]
    table["side"] = np.where(table["lon"] > 40, "east", "west")
    table["part"] = np.where(table["lat"] > 25, "north", "south")
    return table


@pytest.fixture
def saved(cities, tmp_path):
    head = LocationRegressor("xyz").fit(cities, "north")
    return head.save(tmp_path / "model")


def rewrite(folder, **changes):
    facts = json.loads((folder / "head.json").read_text())
    (folder / "head.json").write_text(json.dumps(facts | changes))


HEADS = {
    "ridge": (lambda: LocationRegressor("xyz"), "north"),
    "several": (lambda: LocationRegressor("xyz", coverage=None), ["north", "wood"]),
    "extras": (lambda: LocationRegressor("xyz", extra_columns=["population", "side"]), "north"),
    "knn": (lambda: LocationRegressor("xyz", "knn"), "north"),
    "kernel": (lambda: LocationRegressor("xyz", "kernel"), "north"),
    "gbm": (lambda: LocationRegressor("xyz", "gbm"), "north"),
    "gp": (lambda: LocationRegressor("xyz", "gp"), "north"),
    "pipeline": (
        lambda: LocationRegressor(
            make_pipeline(ge.LocationFeaturizer("xyz", crs=CRS(4326)), StandardScaler())
        ),
        "north",
    ),
    "blocks": (
        lambda: LocationRegressor("xyz", calibration=SpatialBlockKFold(3, block_km=2000)),
        "north",
    ),
    "logistic": (lambda: LocationClassifier("xyz", top_k=2), "side"),
    "mlp": (lambda: LocationClassifier("xyz", "mlp"), "side"),
    "landcover": (lambda: make_head("landcover", featurizer="xyz"), ["wood", "rest"]),
    "region": (lambda: make_head("region", featurizer="xyz"), ["side", "part"]),
}


@pytest.mark.parametrize("case", HEADS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_head_predicts_the_same(cities, tmp_path, case):
    make, target = HEADS[case]
    head = make().fit(cities, target)
    head.save(tmp_path / "model")
    loaded = load_head(tmp_path / "model")
    pd.testing.assert_frame_equal(
        loaded.predict_columns(cities), head.predict_columns(cities), check_exact=True
    )
    assert repr(loaded.get_params()["model"]) == repr(head.get_params()["model"])


def test_another_process_predicts_the_same_bits(cities, tmp_path):
    cities[["geometry"]].to_parquet(tmp_path / "places.parquet")
    head = LocationRegressor(ge.LocationFeaturizer()).fit(cities, "north")
    head.save(tmp_path / "model")
    code = """
import sys, geopandas, numpy
from geoembed.heads.saving.store import load_head
head = load_head("model")
numpy.save("there.npy", head.predict_interval(geopandas.read_parquet("places.parquet")))
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)
    here = head.predict_interval(cities)
    assert np.load(tmp_path / "there.npy").tobytes() == here.tobytes()


def test_the_description_says_what_it_is(cities, tmp_path):
    head = LocationClassifier("geoclip.v1", random_state=3).fit(cities, "side")
    scores = {"accuracy": np.float64(0.75), "of": float("nan")}
    folder = head.save(tmp_path / "model", scores=scores, provenance={"table": "cities"})
    assert sorted(path.name for path in folder.iterdir()) == ["head.json", "state.skops"]
    facts = read_description(folder)
    encoder = ge.load_encoder("geoclip.v1", layers="best")
    assert (facts["head"], facts["distribution"]) == ("classify", f"geoembed {ge.__version__}")
    assert facts["class"] == "geoembed.heads.location:LocationClassifier"
    assert facts["targets"] == ["side"]
    assert facts["classes"] == ["east", "west"]
    assert facts["parameters"]["random_state"] == 3
    assert facts["encoders"] == [
        {
            "name": "geoclip.v1",
            "owner": f"geoembed {ge.__version__}",
            "weights_sha256": encoder.weights_sha256,
            "dimension": encoder.dimension,
            "options": encoder.options(),
        }
    ]
    assert facts["rows"] == len(cities)
    np.testing.assert_allclose(facts["bounds"], cities.total_bounds)
    assert facts["scores"] == {"accuracy": 0.75, "of": None}
    assert facts["provenance"] == {"table": "cities"}
    assert facts["versions"]["scikit-learn"] == sklearn.__version__
    assert facts["state"]["bytes"] == (folder / "state.skops").stat().st_size


def test_loaded_encoders_are_saved_by_name(cities, tmp_path):
    encoder = ge.load_encoder("geoclip.v1", layers="scales", normalize=True)
    head = LocationRegressor(encoder).fit(cities, "north")
    loaded = load_head(head.save(tmp_path / "model"))
    assert loaded.featurizer_.encoder == "geoclip.v1"
    assert (loaded.featurizer_.layers, loaded.featurizer_.normalize) == ("scales", True)
    assert loaded.featurizer.encoder == "geoclip.v1"
    assert head.featurizer is encoder
    np.testing.assert_array_equal(loaded.predict(cities), head.predict(cities))


def test_layers_stay_the_ones_learned_from(cities, tmp_path):
    """What is best may change; the model does not."""
    head = LocationRegressor(ge.LocationFeaturizer("xyz", layers="best", device="cpu"))
    loaded = load_head(head.fit(cities, "north").save(tmp_path / "model"))
    assert (loaded.featurizer.layers, loaded.featurizer_.layers) == ("best", "final")
    assert loaded.featurizer_.device == "auto"


def test_only_a_saved_head_is_replaced(cities, saved, tmp_path):
    head = LocationRegressor("xyz", coverage=None).fit(cities, "wood")
    with pytest.raises(SavedHeadError, match="model exists already. Pass overwrite=True"):
        head.save(saved)
    assert read_description(saved)["targets"] == ["north"]
    head.save(saved, overwrite=True)
    assert load_head(saved).target_names_ == ("wood",)
    (saved / "map.tif").touch()
    with pytest.raises(SavedHeadError, match="holds other things than a saved head: 'map.tif'"):
        head.save(saved, overwrite=True)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "state.skops").touch()
    with pytest.raises(SavedHeadError, match="other things than a saved head: 'state.skops'"):
        head.save(tmp_path / "own", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(SavedHeadError, match="file is a file. Give the name of a folder"):
        head.save(tmp_path / "file", overwrite=True)
    with pytest.raises(SavedHeadError, match="There is no folder .*nowhere to write model to"):
        head.save(tmp_path / "nowhere" / "model")
    (tmp_path / "empty").mkdir()
    assert load_head(head.save(tmp_path / "empty")).target_names_ == ("wood",)


def test_a_link_stays_one(cities, saved, tmp_path):
    (tmp_path / "latest").symlink_to(saved)
    head = LocationRegressor("xyz", coverage=None).fit(cities, "wood")
    head.save(tmp_path / "latest", overwrite=True)
    assert (tmp_path / "latest").is_symlink()
    assert load_head(saved).target_names_ == ("wood",)


def test_a_failure_leaves_what_was_there(cities, saved, tmp_path, monkeypatch):
    before = (saved / "head.json").read_bytes()
    head = LocationRegressor("xyz", coverage=None).fit(cities, "wood")

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("skops.io.dump", fail)
        with pytest.raises(SavedHeadError, match="cannot be written: No space left on device"):
            head.save(saved, overwrite=True)
    # The old folder has made way, and the new one does not come.
    rename = folders.Path.rename

    def rename_once(path, target):
        if path.name == "new":
            fail()
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(folders.Path, "rename", rename_once)
        with pytest.raises(SavedHeadError, match="No space left on device"):
            head.save(saved, overwrite=True)
    assert (saved / "head.json").read_bytes() == before
    assert load_head(saved).target_names_ == ("north",)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


KILLED = """
import os, pathlib, signal, sys
from geoembed.heads import load_head
head = load_head(sys.argv[1])
rename = pathlib.Path.rename
def killed(self, to):
    done = rename(self, to)
    if sys.argv[2] == "writing" or self.name == "model":
        os.kill(os.getpid(), signal.SIGKILL)
    return done
pathlib.Path.rename = killed
if sys.argv[2] == "writing":
    import skops.io
    skops.io.dump = lambda *_: killed(pathlib.Path(sys.argv[1]), sys.argv[1])
head.save(sys.argv[1], overwrite=True)
"""


@pytest.mark.parametrize("at", ["writing", "renaming"])
def test_what_a_killed_process_leaves_goes_with_the_next_one(cities, saved, tmp_path, at):
    before = (saved / "head.json").read_bytes()
    killed = subprocess.run([sys.executable, "-c", KILLED, saved, at], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert saved.exists() == (at == "writing")
    head = LocationRegressor("xyz", coverage=None).fit(cities, "wood")
    # The one that had been moved away is there again, and is not replaced unasked.
    with pytest.raises(SavedHeadError, match=r"exists already\. Pass overwrite=True"):
        head.save(saved)
    assert (saved / "head.json").read_bytes() == before
    head.save(saved, overwrite=True)
    assert load_head(saved).target_names_ == ("wood",)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_unfitted_head_is_not_saved(tmp_path):
    with pytest.raises(sklearn.exceptions.NotFittedError, match="not fitted"):
        LocationRegressor("xyz").save(tmp_path / "model")


# -- what is wrong with a folder ------------------------------------------------------------------


def test_what_is_no_saved_head(saved, tmp_path):
    with pytest.raises(SavedHeadError, match="There is no folder .*nowhere"):
        load_head(tmp_path / "nowhere")
    with pytest.raises(SavedHeadError, match="holds no saved head: there is no head.json in it"):
        load_head(tmp_path)
    with pytest.raises(SavedHeadError, match="is a file, and a saved head is a folder"):
        load_head(saved / "state.skops")


@pytest.mark.parametrize("text", ['{"format": "geo', "", "\xff"])
def test_a_damaged_description(saved, text):
    (saved / "head.json").write_text(text, encoding="latin-1")
    with pytest.raises(SavedHeadError, match="head.json is damaged"):
        load_head(saved)


def test_a_description_of_something_else(saved):
    rewrite(saved, format="a poem")
    with pytest.raises(SavedHeadError, match="describes no head of geoembed"):
        load_head(saved)
    rewrite(saved, format="geoembed head", format_version=2, geoembed="9.0")
    with pytest.raises(SavedHeadError, match="in format 2, written by geoembed 9.0.*Update"):
        load_head(saved)
    rewrite(saved, format_version=1, encoders=None)
    with pytest.raises(SavedHeadError, match="head.json is damaged: 'encoders' is missing"):
        load_head(saved)


def test_a_state_that_is_cut_off_changed_or_gone(saved):
    state = saved / "state.skops"
    whole = state.read_bytes()
    state.write_bytes(whole[:-1])
    with pytest.raises(SavedHeadError, match="state.skops is damaged: it has .* bytes"):
        load_head(saved)
    middle = len(whole) // 2
    state.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(SavedHeadError, match="is not the file that was saved: its SHA-256"):
        load_head(saved)
    state.unlink()
    with pytest.raises(SavedHeadError, match="is not whole: there is no state.skops in it"):
        load_head(saved)


def test_a_state_with_the_right_hash_that_is_no_archive(saved):
    (saved / "state.skops").write_bytes(b"nothing")
    facts = read_description(saved)["state"]
    facts |= {"bytes": 7, "sha256": folders.sha256(saved / "state.skops")}
    rewrite(saved, state=facts)
    with pytest.raises(SavedHeadError, match="cannot be loaded: BadZipFile.*saved with python"):
        load_head(saved)


def test_a_state_of_another_head(cities, saved, tmp_path):
    other = LocationClassifier("xyz").fit(cities, "side").save(tmp_path / "other")
    (other / "state.skops").replace(saved / "state.skops")
    rewrite(saved, state=read_description(other)["state"])
    with pytest.raises(SavedHeadError, match="holds LocationClassifier, and head.json says"):
        load_head(saved)


def test_a_class_that_is_not_here(saved):
    rewrite(saved, **{"class": "geoembed_gone.head:Head", "distribution": "geoembed-gone 1.2"})
    expected = "class geoembed_gone.head.Head from geoembed-gone 1.2, which is not among"
    with pytest.raises(SavedHeadError, match=expected):
        load_head(saved)
    rewrite(saved, **{"class": "geoembed.heads.location:Gone"})
    with pytest.raises(SavedHeadError, match="which is not among the heads registered here"):
        load_head(saved)
    # A class of ours that is no head.
    rewrite(saved, **{"class": "geoembed.featurizer:LocationFeaturizer"})
    with pytest.raises(SavedHeadError, match="which is not among the heads registered here"):
        load_head(saved)


def test_another_version_of_scikit_learn_is_told(saved, cities):
    versions = read_description(saved)["versions"] | {"scikit-learn": "1.0.1"}
    rewrite(saved, versions=versions)
    with pytest.warns(GeoembedHeadWarning, match="saved with scikit-learn 1.0.1, and"):
        head = load_head(saved)
    assert head.predict(cities).shape == (len(cities),)


# -- encoders --------------------------------------------------------------------------------------


def write_weights(path, seed):
    torch.manual_seed(seed)
    network = LocationNetwork((1.0, 4.0), frequencies=4, hidden=(8, 8), output=6)
    safetensors.torch.save_file(network.state_dict(), path)


def test_weights_that_are_not_those_learned_from(cities, tmp_path):
    weights = tmp_path / "weights.safetensors"
    write_weights(weights, seed=0)
    head = LocationRegressor(str(weights)).fit(cities, "north")
    folder, before = head.save(tmp_path / "model"), head.predict(cities)
    kept = weights.rename(tmp_path / "moved.safetensors")
    with pytest.raises(ge.GeoembedError, match="There is no weights file or folder"):
        load_head(folder)
    loaded = load_head(folder, encoder=kept)
    np.testing.assert_array_equal(loaded.predict(cities), before)
    write_weights(weights, seed=1)
    with pytest.raises(SavedHeadError, match="weights_sha256 .* predictions would be nonsense"):
        load_head(folder)
    with pytest.raises(OptionError, match="the encoder 'xyz' offers only layers='final'"):
        load_head(folder, encoder="xyz")


def test_a_relative_path_is_found_from_anywhere(cities, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_weights("weights.safetensors", seed=0)
    folder = LocationRegressor("weights.safetensors").fit(cities, "north").save("model")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_head(folder).predict(cities).shape == (len(cities),)


def test_an_encoder_that_is_not_registered_here(saved):
    (encoder,) = read_description(saved)["encoders"]
    rewrite(saved, encoders=[encoder | {"name": "far.v1", "owner": "geoembed-far 2.0"}])
    # The description tells names for people; the state decides.
    assert load_head(saved).featurizer_.encoder == "xyz"
    rewrite(saved, encoders=[])
    with pytest.raises(SavedHeadError, match="names 0 encoders, and the head has 1"):
        load_head(saved)
    rewrite(saved, encoders=[encoder])
    with pytest.raises(SavedHeadError, match=r"needs the encoder 'xyz'.*no encoder named 'gone'"):
        load_head(saved, encoder="gone")


class North(ge.LocationEncoder):
    def _encode_block(self, lonlat):
        return lonlat[:, 1:]


def test_an_encoder_without_a_name_is_not_saved(cities, tmp_path):
    for name, match in [("north.v1", "could not be found again"), ("xyz", "loads another encoder")]:
        spec = LocationEncoderSpec(name=name, factory="m:a", dimension=1, summary="Latitude")
        head = LocationRegressor(North(spec)).fit(cities, "north")
        with pytest.raises(SavedHeadError, match=match):
            head.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_one_name_cannot_stand_for_two_encoders(cities, tmp_path):
    from sklearn.pipeline import make_union

    both = make_union(ge.LocationFeaturizer("xyz"), ge.LocationFeaturizer("geoclip.v1"))
    folder = LocationRegressor(both).fit(cities, "north").save(tmp_path / "model")
    assert len(read_description(folder)["encoders"]) == 2
    np.testing.assert_equal(load_head(folder).predict(cities).shape, (len(cities),))
    with pytest.raises(OptionError, match="stands for one encoder, and the head has 2"):
        load_head(folder, encoder="xyz")


# -- trust -----------------------------------------------------------------------------------------

MODULE = """
from pathlib import Path
from sklearn.linear_model import Ridge
class OwnRidge(Ridge):
    pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import own_models

    yield own_models
    del sys.modules["own_models"]


def test_types_of_ones_own_need_trust(cities, own, tmp_path):
    head = LocationRegressor("xyz", own.OwnRidge()).fit(cities, "north")
    with pytest.warns(GeoembedHeadWarning, match=r"trusted=\['own_models.OwnRidge'\] to load_head"):
        folder = head.save(tmp_path / "model")
    expected = r"holds types that are not trusted: own_models.OwnRidge\. .*pass trusted="
    with pytest.raises(SavedHeadError, match=expected):
        load_head(folder)
    for trusted in (["own_models.OwnRidge"], [own.OwnRidge]):
        loaded = load_head(folder, trusted=trusted)
        np.testing.assert_array_equal(loaded.predict(cities), head.predict(cities))


def test_functions_are_not_run(cities, tmp_path):
    """A file that names a function does not get it loaded, whatever package it is from."""
    for function in (os.getcwd, ge.encode):
        step = FunctionTransformer(function)
        head = LocationRegressor("xyz").fit(cities, "north")
        head.model_.step_ = step
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folder = head.save(tmp_path / "model", overwrite=True)
        with pytest.raises(SavedHeadError, match="holds types that are not trusted"):
            load_head(folder)


def test_functions_made_on_the_fly_are_not_saved(cities, tmp_path):
    step = FunctionTransformer(lambda X: X)
    head = LocationRegressor(make_pipeline(ge.LocationFeaturizer("xyz"), step)).fit(cities, "north")
    with pytest.raises(SavedHeadError, match="<lambda>', which cannot be found again"):
        head.save(tmp_path / "model")
    head = LocationRegressor("xyz").fit(cities, "north")
    head.model_.generator_ = (i for i in range(3))
    with pytest.raises(SavedHeadError, match="cannot be saved without pickle"):
        head.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "trusted"),
    [
        ("geoembed.heads.location.LocationRegressor", True),
        ("geoembed.splits.block_splits.SpatialBlockKFold", True),
        ("sklearn.model_selection._split.ShuffleSplit", True),
        ("sklearn.gaussian_process.kernels.RBF", True),
        ("geoembed.cli.main.main", False),
        ("geoembed.heads.saving.store.os", False),
        ("geoembed.gone.Head", False),
        ("sklearn.utils._testing.assert_allclose", False),
        ("sklearn.gaussian_process.kernels.itemgetter", False),
        ("builtins.eval", False),
        ("os", False),
    ],
)
def test_what_is_trusted(name, trusted):
    assert is_trusted(name) is trusted


def test_trees_that_point_out_of_bounds(cities):
    X, y = cities[["lon", "lat"]].to_numpy(), cities["north"].to_numpy()
    for name, value in [("left", 10_000), ("right", 0), ("feature_idx", 2), ("feature_idx", -1)]:
        model = HistGradientBoostingRegressor(max_iter=3).fit(X, y)
        check_contents(model)
        model._predictors[1][0].nodes[name][0] = value
        with pytest.raises(SavedHeadError, match="points out of its own bounds"):
            check_contents([model])
    model = HistGradientBoostingRegressor(max_iter=1, categorical_features=[0])
    model.fit(np.c_[np.arange(len(X)) % 4, X[:, 1]], np.arange(len(X)) % 4)
    check_contents(model)
    (tree,) = model._predictors[0]
    tree.nodes["bitset_idx"] = 99
    with pytest.raises(SavedHeadError, match="points out of its own bounds"):
        check_contents(model)


class Tree:
    """A tree of neighbours with a state that can be chosen."""

    def __init__(self, state):
        self.state = state

    def __getstate__(self):
        return self.state


Tree.__name__ = "KDTree"


def test_trees_of_neighbours_that_point_out_of_bounds(cities):
    X = cities[["lon", "lat"]].to_numpy()
    model = KNeighborsRegressor(algorithm="kd_tree").fit(X, X[:, 0])
    check_contents(model)
    good = model._tree.__getstate__()
    check_contents(Tree(good))
    order, nodes = np.asarray(good[1]).copy(), np.asarray(good[2]).copy()
    order[3] = 10_000
    late = nodes.copy()
    late["idx_end"][1] = 10_000
    leafless = nodes.copy()
    leafless["is_leaf"] = 0
    bad = [
        (good[0], order, *good[2:]),
        (*good[:2], late, *good[3:]),
        (*good[:2], leafless, *good[3:]),
        good[:3],
        (*good[:6], 99, *good[7:]),
    ]
    for state in bad:
        with pytest.raises(SavedHeadError, match="points out of its own bounds"):
            check_contents(Tree(state))


# -- small things ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lonlat", "box"),
    [
        ([[10, 50]], (10, 50, 10, 50)),
        ([[-60, -10], [120, 40], [np.nan, np.nan]], (-60, -10, 120, 40)),
        ([[-180, 0], [180, 0]], (180, 0, -180, 0)),
        ([[170, 1], [-170, 2], [160, 3]], (160, 1, -170, 3)),
        ([[np.nan, np.nan]], None),
    ],
)
def test_bounding_box(lonlat, box):
    assert bounding_box(np.array(lonlat, dtype=np.float64)) == box


def test_plain_values():
    table = pd.DataFrame({"r2": [0.5, np.inf]}, index=["a", "b"])
    assert plain(table) == [{"index": "a", "r2": 0.5}, {"index": "b", "r2": None}]
    assert plain(("a", np.int64(3), {1: None})) == ["a", 3, {"1": None}]
    assert plain(BaseEstimator()) == "BaseEstimator()"
