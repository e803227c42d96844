"""backend="onnx": the vectors of an encoder from onnxruntime, and no torch."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading

import geopandas as gpd
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from onnx import helper
from safetensors.torch import save_file
from shapely.geometry import LineString, box
from sklearn.base import clone

import geoembed as ge
from geoembed.encoders.architecture import LocationArchitecture
from geoembed.encoders.onnx_file import PROBE
from geoembed.errors import (
    CoordinateError,
    MissingExtraError,
    MissingWeightsError,
    OptionError,
    UnknownNameError,
    WeightsError,
)
from geoembed.evaluation.cached import CachedEncoder
from geoembed.training.onnx_export import export_onnx

RANDOM = np.random.default_rng(0)
LON, LAT = RANDOM.uniform(-180, 180, 500), RANDOM.uniform(-90, 90, 500)


def tiny_folder(folder, **fields):
    """A model folder whose network differs from a real one in size alone."""
    torch.manual_seed(5)
    small = {"frequencies": 64, "hidden": (128, 128), "output": 64}
    architecture = LocationArchitecture(**{**small, **fields})
    folder.mkdir(parents=True)
    config = {
        "model_type": "geoembed-location-encoder",
        "format_version": 1,
        "licence": "CC0-1.0",
        "training_data": "none",
        "location": architecture.to_dict(),
        "image": None,
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    state = architecture.build().state_dict()
    tensors = {f"location_encoder.{key}": value for key, value in state.items()}
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """The folder of a tiny model, and files that were exported from it."""
    room = tmp_path_factory.mktemp("onnx")
    folder = tiny_folder(room / "tiny")
    for name, layers, int8 in (
        ("final", "final", False),
        ("parts", "scales+final", False),
        ("small", "final", True),
    ):
        encoder = ge.load_encoder(folder, layers=layers, device="cpu")
        export_onnx(encoder, room / f"{name}.onnx", name="tiny.v1", int8=int8)
    return room


def in_a_fresh_process(code, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def far(got, expected):
    """Largest error of a row, of the length of the row."""
    apart = np.linalg.norm(got - expected, axis=1) / np.linalg.norm(expected, axis=1)
    return apart.max()


def cosines(got, expected):
    norms = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
    return (got * expected).sum(axis=1) / norms


# --- without torch -------------------------------------------------------------------

EVERYTHING = """
import sys
import geopandas as gpd, numpy as np, geoembed as ge
from shapely.geometry import box
file, table, out = sys.argv[1:]
featurizer = ge.LocationFeaturizer(file, normalize=True)
towns = gpd.GeoDataFrame(geometry=gpd.points_from_xy([7.5, 0.0], [46.9, 0.0]), crs=4326)
vectors = featurizer.fit_transform(towns.to_crs(3857))
assert vectors.shape == (2, 64) == (len(towns), len(featurizer.get_feature_names_out()))
areas = gpd.GeoSeries([box(0, 0, 1, 1)], crs=4326)
ge.LocationFeaturizer(file, geometry="sample", seam="blend").transform(areas)
ge.embed(towns, file, layout="vector")
ge.encode([1.0], [2.0], encoder=file, backend="onnx")
ge.load_encoder(file).resolution_profile(7.5, 46.9, distances_km=[1.0], bearings=4)
ge.embed_file(table, out, encoder=file, progress=False)
assert "onnxruntime" in sys.modules
print("torch" in sys.modules, len(gpd.pd.read_parquet(out)))
"""


def test_nothing_on_the_way_from_places_to_vectors_imports_torch(room, tmp_path):
    table = tmp_path / "places.csv"
    pd.DataFrame({"lon": LON, "lat": LAT}).to_csv(table)
    said = in_a_fresh_process(EVERYTHING, room / "final.onnx", table, tmp_path / "out.parquet")
    assert said.split() == ["False", "500"]


HEADS = """
import sys
import geoembed as ge
file, folder = sys.argv[1:]
cities = ge.data.load_cities().head(60)
head = ge.LocationRegressor(ge.LocationFeaturizer(file)).fit(cities, "lat")
head.save(folder)
again = ge.load_head(folder)
assert (again.predict([[7.5, 46.9]]) == head.predict([[7.5, 46.9]])).all()
print("skops.io" in sys.modules, "torch" in sys.modules)
# What was passed over for that is there for those who want it.
import sklearn.externals.array_api_compat.torch
print("torch" in sys.modules)
"""


def test_heads_are_fitted_saved_loaded_and_used_without_torch(room, tmp_path):
    said = in_a_fresh_process(HEADS, room / "final.onnx", tmp_path / "head")
    assert said.split() == ["True", "False", "True"]


NAMED = """
import sys
import geoembed as ge
featurizer = ge.LocationFeaturizer("bluemarble.v1", backend="onnx", precision="int8")
print("torch" in sys.modules, *featurizer.transform([[7.5, 46.9]])[0])
print("torch" in sys.modules)
"""


def test_a_name_is_exported_once_and_then_needs_no_torch(own_cache, monkeypatch):
    featurizer = ge.LocationFeaturizer("bluemarble.v1", backend="onnx", precision="int8")
    first = featurizer.transform([[7.5, 46.9]])
    (made,) = (own_cache / "onnx").iterdir()
    assert made.name.startswith("bluemarble.v1-int8-")
    assert cosines(first, ge.encode(7.5, 46.9, encoder="bluemarble.v1"))[0] > 0.99
    assert list(featurizer.get_feature_names_out()[[0, -1]]) == [
        "bluemarble.v1_000",
        "bluemarble.v1_255",
    ]
    sha = ge.load_encoder("bluemarble.v1").weights_sha256
    assert featurizer._load().weights_sha256 == sha
    before, *again, after = in_a_fresh_process(NAMED).split()
    assert (before, after) == ("False", "False")
    np.testing.assert_array_equal(np.array(again, np.float32), first[0])
    assert [made] == list((own_cache / "onnx").iterdir())
    # One bit of the weights: it is seen, and the file is made again.
    content = bytearray(made.read_bytes())
    content[len(content) // 2] ^= 1
    made.write_bytes(content)
    monkeypatch.setattr("geoembed.encoders.onnx_cache._found", {})
    np.testing.assert_array_equal(featurizer.transform([[7.5, 46.9]]), first)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import geoembed as ge
from geoembed.errors import MissingExtraError
for options in (
    {"backend": "onnx", "precision": "int8", "layers": "scales"},
    {"backend": "onnx", "precision": "float64"},
    {},
):
    for name in ("bluemarble.v1", sys.argv[1]):
        if name == "bluemarble.v1" or not options:
            try:
                ge.load_encoder(name, **options)
            except MissingExtraError as error:
                print(error)
"""


def test_where_torch_is_missing_it_is_said_how_to_do_without(room, own_cache):
    int8, float64, named, given = in_a_fresh_process(WITHOUT_TORCH, room / "tiny").splitlines()
    assert int8 == (
        f"The encoder 'bluemarble.v1' is not among the ONNX files in {own_cache}/onnx yet, and "
        "putting it there needs torch, which is not installed here. Export it once where torch is, "
        "and give the file in place of the name: "
        "geoembed export bluemarble.v1 --format onnx --int8 --layers scales -o bluemarble.v1.onnx"
    )
    assert float64.endswith(
        f"where torch is, with this version, and copy the folder {own_cache}/onnx"
    )
    said = "computes with torch, which is not installed here. Install it with: pip install torch;"
    assert named.startswith(f"The encoder 'bluemarble.v1' {said}")
    assert given.startswith(f"The encoder '{room / 'tiny'}' {said}")


KILLED_EXPORT = """
import os, signal
import geoembed as ge
from geoembed.training import onnx_export
onnx_export.check_parity = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
ge.load_encoder("bluemarble.v1", backend="onnx")
"""


def test_what_a_killed_export_left_in_the_cache_is_cleared_by_the_next_one(own_cache, monkeypatch):
    killed = subprocess.run([sys.executable, "-c", KILLED_EXPORT], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = (own_cache / "onnx").iterdir()
    assert left.is_dir()
    monkeypatch.setattr("geoembed.encoders.onnx_cache._found", {})
    ge.load_encoder("bluemarble.v1", backend="onnx", precision="int8")
    (made,) = (own_cache / "onnx").iterdir()
    assert made.suffix == ".onnx"


def test_a_file_in_the_cache_serves_where_no_weights_are(own_cache, monkeypatch):
    expected = ge.encode(7.5, 46.9, encoder="bluemarble.v1", backend="onnx")
    monkeypatch.setattr("geoembed.encoders.onnx_cache._found", {})
    monkeypatch.setattr("geoembed.encoders.geoclip.model_of_spec", fails_for_missing)
    got = ge.encode(7.5, 46.9, encoder="bluemarble.v1", backend="onnx")
    np.testing.assert_array_equal(got, expected)
    with pytest.raises(MissingWeightsError, match="bluemarble.v1"):
        ge.load_encoder("bluemarble.v1", backend="onnx", precision="float64")
    assert len(list((own_cache / "onnx").iterdir())) == 1  # and nothing half made


def test_a_file_that_is_deleted_from_the_cache_is_made_again_by_the_same_process(
    own_cache, monkeypatch
):
    from geoembed.encoders import onnx_cache

    def make(stem, name, layers, precision):
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_suffix(".onnx").touch()
        return stem.with_suffix(".onnx")

    monkeypatch.setattr(onnx_cache, "_make", make)
    spec = ge.load_encoder("bluemarble.v1").spec
    first = onnx_cache.cached_file(spec, layers="final", precision="int8")
    first.unlink()
    assert onnx_cache.cached_file(spec, layers="final", precision="int8").exists()


def fails_for_missing(spec):
    from geoembed.weights import missing_weights

    raise missing_weights(spec)


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "cache"))
    match = r"'bluemarble.v1' cannot be kept .*GEOEMBED_CACHE.*geoembed export bluemarble.v1"
    with pytest.raises(WeightsError, match=match):
        ge.load_encoder("bluemarble.v1", backend="onnx")


# --- the same vectors ----------------------------------------------------------------


def test_places_of_every_kind_get_the_vectors_of_torch(room):
    frame = gpd.GeoDataFrame({"n": range(500)}, geometry=gpd.points_from_xy(LON, LAT), crs=4326)
    frame = pd.concat([frame, frame.iloc[:20]]).to_crs("ESRI:54030")  # and places twice
    frame.loc[frame.index[3], "geometry"] = None
    areas = gpd.GeoSeries([box(5, 45, 9, 48), LineString([(0, 0), (3, 3)])], crs=4326)
    cases = [
        ({"on_invalid": "nan"}, frame),
        ({"normalize": True, "dtype": "float64"}, np.column_stack([LON, LAT])),
        ({"block_size": 7, "dtype": "float16"}, pd.DataFrame({"lon": LON, "lat": LAT})),
        ({"seam": "blend"}, [[179.5, 3.0], [-180.0, 3.0], [12.0, 89.7], [200.0, 0.0]]),
        ({"geometry": "sample", "samples": 9, "normalize": True}, areas),
        ({"geometry": "centroid", "crs": 3857}, areas.to_crs(3857)),
    ]
    for options, places in cases:
        theirs = ge.LocationFeaturizer(room / "tiny", device="cpu", **options).transform(places)
        ours = ge.LocationFeaturizer(room / "final.onnx", **options).transform(places)
        assert ours.dtype == theirs.dtype
        nowhere = np.isnan(theirs).any(axis=1)
        np.testing.assert_array_equal(np.isnan(ours).all(axis=1), nowhere)
        close = 2e-3 if options.get("dtype") == "float16" else 2e-6
        assert far(ours[~nowhere], theirs[~nowhere]) < close, options
    table = ge.embed(frame, room / "final.onnx", backend="onnx", on_invalid="drop")
    assert list(table.columns[2:4]) == ["tiny.v1_000", "tiny.v1_001"]
    assert table.crs == frame.crs


def test_the_sphere_has_no_seam_to_blend(tmp_path):
    folder = tiny_folder(tmp_path / "round", projection="sphere", output=8, hidden=(16,))
    plain = ge.load_encoder(folder, device="cpu")
    export_onnx(plain, tmp_path / "round.onnx")
    seam = [179.9, -179.9], [10.0, 10.0]
    blended = ge.load_encoder(tmp_path / "round.onnx", seam="blend").encode(*seam)
    assert far(blended, plain.encode(*seam)) < 2e-6
    assert ge.load_encoder(tmp_path / "round.onnx").name == "local.round"


@pytest.mark.parametrize("layers", ["scales+final", "final", "final+scale1", "scale2", "scales"])
def test_layers_of_a_file_can_be_chosen(room, layers):
    ours = ge.load_encoder(room / "parts.onnx", layers=layers)
    theirs = ge.load_encoder(room / "tiny", layers=layers, device="cpu")
    assert ours.parts == theirs.parts
    assert ours.feature_names("x") == theirs.feature_names("x")
    assert far(ours.encode(LON, LAT), theirs.encode(LON, LAT)) < 2e-6


def test_int8_is_near_and_the_same_for_the_same_block(room):
    theirs = ge.encode(LON, LAT, encoder=room / "tiny", device="cpu")
    encoder = ge.load_encoder(room / "small.onnx", precision="int8")
    ours = encoder.encode(LON, LAT)
    assert 0.999 < cosines(ours, theirs).mean() < 0.9999999
    np.testing.assert_array_equal(encoder.encode(LON, LAT), ours)
    # A place alone: layers are scaled by it and not by the largest value of a block.
    alone = np.concatenate([encoder.encode(lon, lat) for lon, lat in zip(LON, LAT, strict=True)])
    assert cosines(alone, theirs).mean() > 0.999
    nowhere = encoder.encode([*LON[:9], np.nan], [*LAT[:9], 0.0], on_invalid="nan")
    np.testing.assert_array_equal(nowhere[:9], encoder.encode(LON[:9], LAT[:9]))


def test_the_fourier_step_is_not_rounded_to_8_bits(room):
    graph = onnx.load(room / "small.onnx").graph
    made_by = {name: node for node in graph.node for name in node.output}
    kinds = {node.op_type for node in graph.node}
    assert {"MatMulInteger", "Cos", "Sin"} <= kinds
    waiting = [node for node in graph.node if node.op_type in ("Cos", "Sin")]
    before = set()
    while waiting:
        node = waiting.pop()
        before.add(node.op_type)
        waiting += [made_by[name] for name in node.input if name in made_by]
    assert not [kind for kind in before if "Quantize" in kind or "Integer" in kind]
    assert "MatMul" not in before


# --- one encoder in many hands -------------------------------------------------------


def test_it_is_copied_and_pickled_by_recipe(room):
    featurizer = ge.LocationFeaturizer(room / "small.onnx", precision="int8", backend="onnx")
    expected = featurizer.transform([[7.5, 46.9]])
    for twin in (clone(featurizer), pickle.loads(pickle.dumps(featurizer))):
        np.testing.assert_array_equal(twin.transform([[7.5, 46.9]]), expected)
    encoder = pickle.loads(pickle.dumps(featurizer._load()))
    assert encoder.options()["backend"] == "onnx"
    assert len(pickle.dumps(encoder)) < 1000
    cached = CachedEncoder(encoder, [[7.5, 46.9]])
    np.testing.assert_array_equal(cached.encode(7.5, 46.9), expected)
    assert ge.LocationFeaturizer(encoder).transform([[7.5, 46.9]]).shape == (1, 64)
    assert "backend" not in ge.load_encoder(room / "tiny").options()


def test_a_fitted_head_is_saved_and_loaded_with_it(room, tmp_path):
    featurizer = ge.LocationFeaturizer(str(room / "final.onnx"))
    head = ge.LocationRegressor(featurizer=featurizer).fit(np.column_stack([LON, LAT]), LAT)
    expected = head.predict([[7.5, 46.9]])
    head.save(tmp_path / "head")
    again = ge.load_head(tmp_path / "head")
    assert again.featurizer_.backend == "onnx"
    np.testing.assert_allclose(again.predict([[7.5, 46.9]]), expected)


def test_a_changed_file_is_read_anew(room, tmp_path):
    target = tmp_path / "any.onnx"
    shutil.copy(room / "final.onnx", target)
    loaded = ge.load_encoder(target)
    before = loaded.encode(7.5, 46.9)
    shutil.copy(room / "small.onnx", target)
    with pytest.raises(OptionError, match="computes in int8"):
        ge.encode(7.5, 46.9, encoder=target, precision="float32")
    after = ge.encode(7.5, 46.9, encoder=target, precision="int8")
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(loaded.encode(7.5, 46.9), before)


def test_many_threads_ask_at_once(room):
    encoder = ge.load_encoder(room / "final.onnx")
    expected = encoder.encode(LON, LAT)
    got = {}

    def ask(number):
        got[number] = encoder.encode(LON, LAT)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        np.testing.assert_array_equal(got[number], expected)


FORKED = """
import os, sys, warnings
from pathlib import Path
import numpy as np, geoembed as ge
from geoembed.encoders.onnx_file import open_onnx
warnings.simplefilter("ignore")  # that threads are running, which is what this is about
encoder = ge.load_encoder(sys.argv[1])
lon, lat = np.linspace(-180, 180, 3000), np.linspace(-90, 90, 3000)
expected = encoder.encode(lon, lat)
before = encoder._opened
child = os.fork()
if child == 0:
    same = np.array_equal(encoder.encode(lon, lat), expected)
    fresh = encoder._opened is not before and encoder._opened is open_onnx(encoder.path)
    os._exit(0 if same and fresh else 1)
assert encoder._opened is before
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_opens_the_file_again_for_the_threads_it_lacks(room):
    assert in_a_fresh_process(FORKED, room / "final.onnx", OMP_NUM_THREADS="2").strip() == "0"


def test_threads_are_those_of_the_environment_and_one_off_the_main_thread(monkeypatch):
    from geoembed.encoders.onnx_file import _threads

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert _threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert 1 <= _threads() <= (os.cpu_count() or 1)
    got = []
    thread = threading.Thread(target=lambda: got.append(_threads()))
    thread.start()
    thread.join()
    assert got == [1]
    # Whatever a worker has inherited: one thread computes one thread's worth.
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    thread = threading.Thread(target=lambda: got.append(_threads()))
    thread.start()
    thread.join()
    assert got == [1, 1]


def test_a_file_that_the_main_thread_has_opened_is_opened_anew_for_other_threads(room):
    from geoembed.encoders.onnx_file import open_onnx

    path, got = room / "final.onnx", []
    threads = [threading.Thread(target=lambda: got.append(open_onnx(path))) for _ in range(2)]
    on_main = open_onnx(path)
    for thread in threads:
        thread.start()
        thread.join()
    if "1" not in (os.environ.get("OMP_NUM_THREADS"), str(os.cpu_count())):
        assert on_main is not got[0]
    assert got[0] is got[1]


def test_a_file_computes_in_its_own_precision_where_nobody_says_one(room):
    for name, precision in (("small", "int8"), ("final", "float32")):
        assert ge.load_encoder(room / f"{name}.onnx").precision == precision
    own = ge.encode(LON, LAT, encoder=room / "small.onnx")
    np.testing.assert_array_equal(
        own, ge.encode(LON, LAT, encoder=room / "small.onnx", precision="int8")
    )


def test_workers_compute_in_the_precision_that_was_found_here(room, tmp_path):
    from geoembed.encoders.sharing import options_for_workers

    path = room / "small.onnx"
    found = options_for_workers(path, {"normalize": True}, ge.load_encoder(path, normalize=True))
    assert found == {"normalize": True, "precision": "int8"}
    loaded = ge.load_encoder(path)
    assert options_for_workers(loaded, {}, loaded) == {}
    assert options_for_workers("xyz", {}, ge.load_encoder("xyz")) == {}


# --- bad input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "options", "match"),
    [
        ("final.onnx", {"backend": "tflite"}, "backend='tflite' is not one of: auto, torch, onnx"),
        ("final.onnx", {"backend": "torch"}, r"final\.onnx is an ONNX file. Leave backend out"),
        ("final.onnx", {"device": "cuda"}, "device='cuda': backend='onnx' computes on the CPU"),
        ("final.onnx", {"precision": "bfloat16"}, "backend='onnx' offers float32, float64, int8"),
        ("final.onnx", {"precision": "float8"}, "precision='float8' is not one of: float32, fl"),
        ("final.onnx", {"precision": "int8"}, "computes in float32.*another file with --int8"),
        ("small.onnx", {}, "int8, and precision='float32' is asked.*Pass precision='int8', or ex"),
        ("final.onnx", {"layers": "scales"}, "without scale0, scale1, scale2.*--layers scales"),
        ("parts.onnx", {"layers": "hidden0+final"}, r"without hidden0\.0, hidden0\.1"),
        ("parts.onnx", {"layers": "scale7"}, "no scale 7; they count from 0 to 2"),
        ("final.onnx", {"dtype": "int8"}, "dtype='int8' is not one of: float32, float16"),
        ("final.onnx", {"seam": "torn"}, "seam='torn' is not one of"),
        ("final.onnx", {"block_size": 0}, "block_size=0"),
        ("tiny", {"backend": "onnx"}, "holds weights for torch.*geoembed export .*tiny --format"),
        ("tiny", {"precision": "int8"}, "precision='int8' is offered by onnxruntime only"),
        ("xyz", {"backend": "onnx"}, "'xyz' has no network that could be exported"),
        ("geoclip.v1", {"backend": "onnx", "device": "mps"}, "computes on the CPU"),
        ("geoclip.v1", {"backend": "onnx", "precision": "float16"}, "offers float32, float64, i"),
    ],
)
def test_what_it_does_not_offer_is_said(room, file, options, match):
    path = room / file
    source = path if path.exists() else file
    with pytest.raises(OptionError, match=match):
        ge.LocationFeaturizer(source, **options).fit([[7.5, 46.9]])


def test_options_and_names_that_there_are_not(room):
    with pytest.raises(OptionError, match="Unknown option of a location encoder: nornalize"):
        ge.load_encoder(room / "final.onnx", nornalize=True)
    with pytest.raises(UnknownNameError, match=r"Close matches: 'geoclip\.v1'"):
        ge.load_encoder("geoclip.v2", backend="onnx")
    with pytest.raises(OptionError, match="is loaded already and takes no further options: bac"):
        ge.LocationFeaturizer(ge.load_encoder("xyz"), backend="onnx").transform([[1, 2]])
    with pytest.raises(CoordinateError, match="latitude"):
        ge.encode([0.0], [91.0], encoder=room / "final.onnx")


def rewritten(room, target, change):
    """Copy a file with a change of its model or metadata."""
    model = onnx.load(room / "final.onnx")
    told = {prop.key: prop.value for prop in model.metadata_props}
    change(model, told)
    del model.metadata_props[:]
    helper.set_model_props(model, told)
    onnx.save(model, target)
    return target


def other_frequencies(model, told):
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.DOUBLE and list(tensor.dims)[:1] == [64]:
            values = onnx.numpy_helper.to_array(tensor) * 1.01
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    flat = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 2]
    values = onnx.numpy_helper.to_array(flat[0]) * 1.01
    flat[0].CopyFrom(onnx.numpy_helper.from_array(values, flat[0].name))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda model, told: told.clear(), "'format' is None, expected 'geoembed location encod"),
        (lambda model, told: told.update(format="geoembed location encoder 9"), "encoder 9', exp"),
        (lambda model, told: told.pop("weights_sha256"), "'weights_sha256' missing"),
        (lambda model, told: told.update(precision="int4"), "'precision' is 'int4'"),
        (lambda model, told: told.update(shape="{"), r"unreadable \(JSONDecodeError"),
        (lambda model, told: told.update(layers="last"), "unreadable .*'last' is not a layer"),
        (lambda model, told: told.update(dimension="9"), "'dimension' is '9', expected '64'"),
        (lambda model, told: told.update(encoder="other.v1"), "'feature_names' is 'tiny.v1_000"),
        (lambda model, told: told.update(probe="AAAA"), "unreadable|'probe' has"),
        (other_frequencies, f"vectors of 'tiny.v1' here: at lon {PROBE[0]}, .*Write it with: geo"),
    ],
)
def test_a_file_must_be_what_it_says(room, tmp_path, change, match):
    with pytest.raises(WeightsError, match=match):
        ge.load_encoder(rewritten(room, tmp_path / "bad.onnx", change))


def test_damaged_missing_and_foreign_files(room, tmp_path):
    with pytest.raises(WeightsError, match=r"There is no weights file or folder .*none\.onnx"):
        ge.load_encoder(tmp_path / "none.onnx")
    torn = tmp_path / "torn.onnx"
    torn.write_bytes((room / "final.onnx").read_bytes()[:20_000])
    with pytest.raises(WeightsError, match=r"torn\.onnx cannot be read as an ONNX file"):
        ge.load_encoder(torn)

    def claims(model, told):
        told["encoder"] = "geoclip.v1"
        told["feature_names"] = told["feature_names"].replace("tiny.v1", "geoclip.v1")

    match = "says that it is 'geoclip.v1' and holds other weights"
    with pytest.raises(WeightsError, match=match):
        ge.load_encoder(rewritten(room, tmp_path / "claims.onnx", claims))
    unit = ge.load_encoder(room / "tiny", normalize=True, device="cpu")
    export_onnx(unit, tmp_path / "unit.onnx")
    with pytest.raises(WeightsError, match="scaled to length 1.*without --normalize"):
        ge.load_encoder(tmp_path / "unit.onnx", normalize=True)


def test_without_onnxruntime_the_extra_is_named(room, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    shutil.copy(room / "final.onnx", tmp_path / "new.onnx")
    with pytest.raises(MissingExtraError, match=r"onnxruntime.*geoembed\[onnx\]"):
        ge.LocationFeaturizer(tmp_path / "new.onnx").transform([[7.5, 46.9]])


@pytest.mark.slow
def test_geoclip_in_int8_over_the_whole_gallery():
    lonlat = ge.load_gallery("geoclip.100k").lonlat
    theirs = ge.encode(*lonlat.T, device="cpu", progress=False)
    ours = ge.encode(*lonlat.T, backend="onnx", precision="int8", progress=False)
    assert len(ours) > 94_000  # of 100,000 places, the distinct ones
    assert cosines(ours, theirs).mean() >= 0.999
    exact = ge.encode(*lonlat[:5000].T, backend="onnx")
    assert far(exact, theirs[:5000]) < 1e-5
