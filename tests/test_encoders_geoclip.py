"""The GeoCLIP encoder behind the common interface: options, files, pickling, golden vectors."""

import json
import pickle
from importlib.resources import files

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import geoembed as ge
from geoembed.devices import has_float64, resolve_device
from geoembed.encoders.network import LocationNetwork, build_network
from geoembed.errors import OptionError, UnknownNameError, WeightsError
from geoembed.extending import registry
from geoembed.testing import check_location_encoder
from geoembed.weights import load_tensors

LON, LAT = np.array([-74.006, 2.3522, 139.69, -68.15]), np.array([40.7128, 48.8566, 35.68, -16.5])


def small_network(seed=0):
    torch.manual_seed(seed)
    return LocationNetwork((1.0, 8.0), frequencies=8, hidden=(16, 12), output=4)


def test_it_keeps_the_contract_of_location_encoders():
    check_location_encoder("geoclip.v1")


def test_golden_vectors_beside_the_spec():
    spec = registry.location_encoder_spec("geoclip.v1")
    golden = json.loads(files("geoembed.extending").joinpath("golden/geoclip.v1.json").read_text())
    truth = np.array(golden["vectors"])
    for precision, tolerance in (("float64", 1e-9), ("float32", spec.tolerance)):
        got = ge.encode(golden["lon"], golden["lat"], precision=precision, dtype="float64")
        errors = np.linalg.norm(got - truth, axis=1) / np.linalg.norm(truth, axis=1)
        assert errors.max() <= tolerance
    assert golden["weights_sha256"] == ge.load_encoder("geoclip.v1").weights_sha256


def test_the_digest_in_use_is_the_pinned_one():
    spec = registry.location_encoder_spec("geoclip.v1")
    pinned = spec.weights.file("location_encoder").tensors_sha256
    assert ge.load_encoder("geoclip.v1", precision="float16").weights_sha256 == pinned


def test_vectors_are_not_normalised_and_of_the_published_size():
    # Norms from 0.17 to 0.50 were published for photo places; the open sea reaches 0.53.
    norms = np.linalg.norm(ge.encode(*np.random.default_rng(0).uniform(-80, 80, (2, 2000))), axis=1)
    assert 0.15 < norms.min() < norms.max() < 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "penultimate"}, "'penultimate' is not a layer"),
        ({"precision": "float8"}, r"precision='float8' is not one of: float32, float64"),
        ({"dtype": "int8"}, r"dtype='int8' is not one of: float32, float16, float64"),
        ({"seam": "sewn"}, r"seam='sewn' is not one of: as-trained, blend"),
        ({"device": "abacus"}, r"device='abacus' is not a device"),
        ({"block_size": 0}, r"block_size=0 is no whole number of at least 1"),
        ({"block_size": True}, r"block_size=True is no whole number"),
        ({"block_size": 1.5}, r"block_size=1.5 is no whole number"),
        ({"block_size": "x"}, r"block_size='x' is no whole number"),
        ({"normalize": "no"}, r"normalize='no' is not True or False"),
        ({"layer": "final"}, r"Unknown option of a location encoder: layer\. Known: layers"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        ge.load_encoder("geoclip.v1", **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_device_that_is_not_here_is_refused_with_those_that_are():
    with pytest.raises(OptionError, match=r"device='cuda' is not available here.*cpu"):
        resolve_device("cuda")


def test_devices_without_float64_form_phases_on_the_cpu(monkeypatch):
    monkeypatch.setattr("geoembed.encoders.geoclip.has_float64", lambda device: False)
    without = ge.encode(LON, LAT)
    monkeypatch.undo()
    np.testing.assert_array_equal(without, ge.encode(LON, LAT))
    assert not has_float64(torch.device("mps"))
    assert has_float64(torch.device("cpu"))


def test_feature_names_say_which_part():
    names = ge.load_encoder("geoclip.v1", layers="scale1+final").feature_names()
    assert names[0] == "geoclip.v1_scale1_000"
    assert names[511:513] == ["geoclip.v1_scale1_511", "geoclip.v1_000"]
    assert ge.load_encoder("geoclip.v1").feature_names("e")[-1] == "e_511"
    assert ge.load_encoder("geoclip.v1", layers="hidden0.1").feature_names()[7].endswith("_0007")


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_dtype_is_of_the_result_only(dtype):
    got = ge.encode(LON, LAT, dtype=dtype)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, ge.encode(LON, LAT), atol=3e-4)


def test_resolution_profile_tells_what_is_near():
    profile = ge.load_encoder("geoclip.v1").resolution_profile(
        2.3522, 48.8566, distances_km=[0, 0.11, 1.1, 11, 28]
    )
    assert list(profile.columns) == ["distance_km", "mean", "min", "max"]
    assert profile["mean"].iloc[0] == pytest.approx(1.0, abs=1e-6)
    # Around Paris 0.999, 0.94, 0.48 and 0.30 were measured on the released weights.
    np.testing.assert_allclose(profile["mean"].iloc[1:], [0.999, 0.94, 0.44, 0.28], atol=0.05)
    assert (profile["min"] <= profile["mean"]).all()
    assert (profile["mean"] <= profile["max"]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distances_km": [-1.0]}, "none negative"),
        ({"distances_km": [np.nan]}, "none negative"),
        ({"distances_km": ["far"]}, "none negative"),
        ({"bearings": 0}, "bearings=0 is no whole number of at least 1"),
        ({"bearings": 1.5}, "bearings=1.5 is no whole number of at least 1"),
    ],
)
def test_resolution_profile_refuses_nonsense(arguments, message):
    with pytest.raises(OptionError, match=message):
        ge.load_encoder("geoclip.v1").resolution_profile(0.0, 0.0, **arguments)


def test_an_encoder_is_pickled_by_recipe():
    encoder = ge.load_encoder("geoclip.v1", layers="scales", normalize=True, dtype="float16")
    packed = pickle.dumps(encoder)
    assert len(packed) < 1000
    again = pickle.loads(packed)
    assert again.options() == encoder.options()
    np.testing.assert_array_equal(again.encode(LON, LAT), encoder.encode(LON, LAT))


def test_weights_are_shared_within_a_process():
    one, other = ge.load_encoder("geoclip.v1"), ge.load_encoder("geoclip.v1", layers="scales")
    assert one.network is other.network


def test_a_loaded_encoder_takes_no_further_options():
    encoder = ge.load_encoder("geoclip.v1")
    assert ge.load_encoder(encoder) is encoder
    with pytest.raises(OptionError, match="is loaded already and takes no further options: layers"):
        ge.load_encoder(encoder, layers="scales")


@pytest.mark.parametrize("kind", ["pth", "safetensors", "folder", "full model folder"])
def test_a_local_file_or_folder_is_as_good_as_a_name(tmp_path, kind):
    network = small_network()
    state = network.state_dict()
    if kind == "pth":
        path = tmp_path / "mine.pth"
        torch.save(state, path)
    elif kind == "safetensors":
        path = tmp_path / "mine.safetensors"
        save_file(state, path)
    else:
        path = tmp_path / "My Model"
        path.mkdir()
        full = kind != "folder"
        model_type = "geoclip-geolocation" if full else "geoclip-location-encoder"
        config = {"model_type": model_type, "format_version": 1, "sigma": [1, 8]}
        (path / "config.json").write_text(json.dumps(config))
        if full:
            state = {f"location_encoder.{key}": value for key, value in state.items()}
            state["image_encoder.mlp.0.weight"] = torch.zeros(2, 2)
            state["logit_scale"] = torch.zeros(())
        save_file(state, path / "model.safetensors")

    encoder = ge.load_encoder(str(path), layers="hidden0.1+final")
    assert encoder.dimension == 12 + 4
    assert encoder.name in {"local.mine", "local.my-model"}
    points = torch.from_numpy(encoder.project(np.column_stack([LON, LAT])))
    with torch.inference_mode():
        np.testing.assert_allclose(encoder.encode(LON, LAT)[:, 12:], network(points), atol=1e-6)
    assert ge.load_encoder(str(path), layers="best").layers == "hidden0.0+hidden.1"
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.encode(LON, LAT), encoder.encode(LON, LAT))
    assert ge.LocationFeaturizer(path).fit_transform(np.column_stack([LON, LAT])).shape == (4, 4)


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file(small_network(0).state_dict(), path)
    first = ge.encode(LON, LAT, encoder=path)
    save_file(small_network(1).state_dict(), path)
    assert not np.array_equal(ge.encode(LON, LAT, encoder=path), first)


def test_wrong_keys_are_named():
    state = small_network().state_dict()
    with pytest.raises(
        WeightsError, match=r"the file x are not a GeoCLIP location encoder.*got \['0.weight'\]"
    ):
        build_network({"0.weight": torch.zeros(1)}, "the file x")
    with pytest.raises(WeightsError, match=r"do not fit together.*LocEnc1\.head\.0\.bias"):
        build_network({k: v for k, v in state.items() if k != "LocEnc1.head.0.bias"}, "the file x")
    with pytest.raises(WeightsError, match=r"do not fit together.*extra"):
        build_network({**state, "extra": torch.zeros(1)}, "the file x")
    with pytest.raises(WeightsError, match="do not fit together.*size mismatch"):
        build_network({**state, "LocEnc1.head.0.bias": torch.zeros(9)}, "the file x")


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("LocEnc0.head.0.bias", lambda t: t * float("nan"), "not finite"),
        ("LocEnc1.capsule.0.b", lambda t: t / 0.0, "not finite"),
        ("LocEnc0.head.0.weight", lambda t: t.to(torch.int64), "torch.int64, expected a floating"),
        ("LocEnc0.head.0.weight", lambda t: t.to(torch.complex64), "expected a floating"),
        ("LocEnc0.capsule.0.b", lambda t: t.sum(), r"has the shape \(\)"),
    ],
)
def test_values_that_would_give_nonsense_are_refused(key, change, message):
    state = small_network().state_dict()
    with pytest.raises(WeightsError, match=rf"the file x cannot be used: '{key}' .*{message}"):
        build_network({**state, key: change(state[key])}, "the file x")


@pytest.mark.parametrize("name", ["МОДЕЛЬ.safetensors", "Ünï 1.safetensors", "__.safetensors"])
def test_any_file_name_will_do(tmp_path, name):
    save_file(small_network().state_dict(), tmp_path / name)
    assert ge.load_encoder(tmp_path / name).name.startswith("local.")


@pytest.mark.parametrize("name", ["", None, 3])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(OptionError, match="is no name and no path of an encoder"):
        ge.load_encoder(name)


def test_paths_that_do_not_exist_and_folders_without_weights(tmp_path):
    with pytest.raises(WeightsError, match="There is no weights file or folder"):
        ge.load_encoder(tmp_path / "nothing.pth")
    with pytest.raises(WeightsError, match="holds no model.safetensors"):
        ge.load_encoder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert", "format_version": 1}')
    with pytest.raises(WeightsError, match="declares model_type 'bert'"):
        ge.load_encoder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="is not JSON"):
        ge.load_encoder(tmp_path)


def test_an_unknown_name_answers_with_close_matches():
    with pytest.raises(UnknownNameError, match=r"no encoder named 'geoclip\.v2'.*'geoclip\.v1'"):
        ge.load_encoder("geoclip.v2")
    assert ge.list_encoders("GEO*") == ["geoclip.v1"]
    assert ge.list_encoders("nothing*") == []


def test_subnormal_weights_are_zero_and_nothing_shows_it():
    """Some CPUs multiply with them a hundred times slower; the vectors are the same bit for bit."""
    tiny = torch.finfo(torch.float32).tiny
    published = load_tensors(registry.weights_specs()["geoclip.v1"], "location_encoder")
    count = sum(int(((t != 0) & (t.abs() < tiny)).sum()) for t in published.values())
    assert count > 10_000
    encoder = ge.load_encoder("geoclip.v1")
    for weight in encoder.network.parameters():
        assert not ((weight != 0) & (weight.abs() < tiny)).any()
    network = build_network(published, "the published weights")
    lonlat = np.column_stack([np.linspace(-180, 180, 300), np.linspace(-89, 89, 300)])
    with torch.inference_mode():
        raw = network(torch.from_numpy(encoder.project(lonlat))).numpy()
    np.testing.assert_array_equal(encoder.encode(*lonlat.T), raw)
