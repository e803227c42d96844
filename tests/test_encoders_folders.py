"""Encoders in model folders: both formats, other projections and encodings, half weights."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import geoembed as ge
from geoembed import weights
from geoembed.encoders.architecture import LocationArchitecture
from geoembed.encoders.folders import model_of
from geoembed.errors import OptionError, WeightsError
from geoembed.heads import LocationRegressor
from geoembed.heads.saving.store import load_head

LON = np.array([-74.006, 2.3522, 139.69, -68.15, 179.9999])
LAT = np.array([40.7128, 48.8566, 35.68, -16.5, 65.0])
SMALL = {"sigmas": (1.0, 8.0), "frequencies": 8, "hidden": (16, 12), "output": 4}


def write_folder(path, architecture, *, seed=0, half=False, full=True, **config):
    """Write a folder of the format "geoembed" and return the network in it."""
    torch.manual_seed(seed)
    network = architecture.build()
    state = network.state_dict()
    if half:
        exact = (".capsule.0.b",)
        state = {k: v if k.endswith(exact) else v.half() for k, v in state.items()}
        network.load_state_dict({k: v.float() for k, v in state.items()})
    state = {f"location_encoder.{key}": value for key, value in state.items()}
    if full:
        state["image_encoder.mlp.0.weight"] = torch.zeros(2, 2)
        state["logit_scale"] = torch.tensor(3.0)
    kind = "geoembed-geolocation" if full else "geoembed-location-encoder"
    described = {
        "model_type": kind,
        "format_version": 1,
        "name": "alps.v1",
        "location": architecture.to_dict(),
        **config,
    }
    path.mkdir()
    (path / "config.json").write_text(json.dumps(described))
    save_file(state, path / "model.safetensors")
    return network


def by_hand(network, architecture, lon, lat):
    """Vectors in float64, layer by layer, with a projection written down anew."""
    phi, lam = np.radians(lat), np.radians(lon)
    if architecture.projection == "sphere":
        flat = np.cos(phi)
        v = np.column_stack([flat * np.cos(lam), flat * np.sin(lam), np.sin(phi)]) / np.pi
    else:
        v = np.column_stack([lon / 180, lat / 180])
    total = 0.0
    for capsule in network.capsules:
        first, *rest = capsule.capsule
        x = v
        if architecture.encoding == "rff":
            phase = 2 * np.pi * v @ first.b.double().numpy().T
            x = np.hstack([np.cos(phase), np.sin(phase)])
        for linear in rest[::2]:
            w, b = (p.detach().double().numpy() for p in (linear.weight, linear.bias))
            x = np.maximum(x @ w.T + b, 0.0)
        w, b = (p.detach().double().numpy() for p in (capsule.head[0].weight, capsule.head[0].bias))
        total = total + x @ w.T + b
    return total


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("encoding", ["rff", "none"])
@pytest.mark.parametrize("projection", ["plate-carree", "sphere"])
def test_every_architecture_gives_what_its_description_says(tmp_path, projection, encoding, half):
    architecture = LocationArchitecture(projection=projection, encoding=encoding, **SMALL)
    network = write_folder(tmp_path / "alps", architecture, half=half)
    encoder = ge.load_encoder(str(tmp_path / "alps"))
    expected = by_hand(network, architecture, LON, LAT)
    np.testing.assert_allclose(encoder.encode(LON, LAT), expected, atol=2e-6)
    exact = ge.encode(LON, LAT, encoder=tmp_path / "alps", precision="float64", dtype="float64")
    np.testing.assert_allclose(exact, expected, atol=1e-12)
    assert encoder.architecture == architecture
    assert next(encoder.network.parameters()).dtype == torch.float32


def test_equal_earth_is_the_published_projection(tmp_path):
    architecture = LocationArchitecture(**SMALL)
    network = write_folder(tmp_path / "alps", architecture, full=False)
    save_file(network.state_dict(), tmp_path / "alps.safetensors")
    folder, file = (ge.load_encoder(tmp_path / name) for name in ("alps", "alps.safetensors"))
    np.testing.assert_array_equal(folder.encode(LON, LAT), file.encode(LON, LAT))
    assert folder.weights_sha256 == file.weights_sha256
    assert folder.weights_sha256 == weights.digest_tensors(network.state_dict())


def test_the_digest_is_that_of_the_folder_and_knows_the_projection(tmp_path):
    digests = set()
    for number, projection in enumerate(["equal-earth", "plate-carree"]):
        path = tmp_path / str(number)
        write_folder(path, LocationArchitecture(projection=projection, **SMALL))
        digests.add(ge.load_encoder(path).weights_sha256)
        folder = weights.read_model_folder(path)
        assert folder.location_sha256() == ge.load_encoder(path).weights_sha256
        assert folder.temperature() == pytest.approx(np.exp(3.0))
        assert set(folder.part("image_encoder.")) == {"mlp.0.weight"}
    # The same tensors, seen from other maps.
    assert len(digests) == 2


def test_what_the_folder_tells_goes_into_the_spec(tmp_path):
    told = {"summary": "Alps", "licence": "CC0", "paper": "none", "training_data": "snow"}
    write_folder(tmp_path / "Alps.v2", LocationArchitecture(**SMALL), **told)
    spec = ge.load_encoder(tmp_path / "Alps.v2").spec
    assert spec.name == "local.alps-v2"
    assert {key: getattr(spec, key) for key in told} == told
    assert spec.best_layers == "hidden0.0+hidden.1"
    write_folder(tmp_path / "plain", LocationArchitecture(**SMALL))
    spec = ge.load_encoder(tmp_path / "plain").spec
    assert spec.summary == "Location encoder alps.v1 read from plain"
    write_folder(tmp_path / "wrong", LocationArchitecture(**SMALL), licence=["MIT"])
    with pytest.raises(WeightsError, match=r"licence = \['MIT'\], no text"):
        ge.load_encoder(tmp_path / "wrong")


def test_it_works_wherever_a_name_does(tmp_path, monkeypatch):
    architecture = LocationArchitecture(projection="sphere", **SMALL)
    write_folder(tmp_path / "alps", architecture)
    monkeypatch.chdir(tmp_path)
    encoder = ge.load_encoder("alps", layers="best", normalize=True)
    again = pickle.loads(pickle.dumps(encoder))
    monkeypatch.chdir(tmp_path.parent)
    np.testing.assert_array_equal(again.encode(LON, LAT), encoder.encode(LON, LAT))
    assert repr(again) == repr(encoder)
    frame = ge.embed(pd.DataFrame({"lon": LON, "lat": LAT}), encoder=tmp_path / "alps")
    assert list(frame.columns[2:]) == [f"local.alps_{i:03d}" for i in range(4)]
    featurizer = ge.LocationFeaturizer(str(tmp_path / "alps"), layers="hidden.1")
    featurizer.fit(np.column_stack([LON, LAT]))
    assert list(featurizer.get_feature_names_out()[:1]) == ["local.alps_hidden0.1_000"]


def test_a_head_that_learned_from_it_is_saved_by_path_and_refuses_other_weights(tmp_path):
    write_folder(tmp_path / "alps", LocationArchitecture(**SMALL))
    cities = ge.data.load_cities().head(60).assign(north=lambda table: table["lat"].abs())
    head = LocationRegressor(str(tmp_path / "alps"), coverage=None).fit(cities, "north")
    folder = head.save(tmp_path / "head")
    np.testing.assert_array_equal(load_head(folder).predict(cities), head.predict(cities))
    write_folder(tmp_path / "other", LocationArchitecture(**SMALL), seed=1)
    with pytest.raises(ge.GeoembedError, match="with weights_sha256 .* and the one here"):
        load_head(folder, encoder=tmp_path / "other")


def test_the_sphere_has_no_seam_and_blending_changes_nothing(tmp_path):
    for name, projection in (("round", "sphere"), ("flat", "plate-carree")):
        write_folder(tmp_path / name, LocationArchitecture(projection=projection, **SMALL))
    seam = np.array([180.0, -180.0, 0.0, 77.0]), np.array([10.0, 10.0, 90.0, 90.0])
    trained, blended = (
        ge.encode(*seam, encoder=tmp_path / "round", seam=kind, dtype="float64")
        for kind in ("as-trained", "blend")
    )
    np.testing.assert_array_equal(trained, blended)
    np.testing.assert_allclose(trained[::2], trained[1::2], atol=1e-6)
    torn, mended = (
        ge.encode(*seam, encoder=tmp_path / "flat", seam=kind, dtype="float64")
        for kind in ("as-trained", "blend")
    )
    assert np.abs(torn[::2] - torn[1::2]).max(axis=1).min() > 1e-3
    np.testing.assert_allclose(mended[::2], mended[1::2], atol=1e-6)


def test_half_precision_without_fourier_features_is_refused(tmp_path):
    write_folder(tmp_path / "raw", LocationArchitecture(encoding="none", **SMALL))
    write_folder(tmp_path / "rff", LocationArchitecture(**SMALL))
    half, full = (
        ge.encode(LON, LAT, encoder=tmp_path / "rff", precision=kind, normalize=True)
        for kind in ("bfloat16", "float32")
    )
    assert (half * full).sum(axis=1).min() > 0.999
    with pytest.raises(OptionError, match="has no Fourier features and offers float32"):
        ge.load_encoder(tmp_path / "raw", precision="bfloat16")


# -- releases of the package geoclip --------------------------------------------------------------


def test_releases_of_geoclip_are_read_and_their_sigmas_known(tmp_path):
    geoclip = pytest.importorskip("geoclip")
    torch.manual_seed(0)
    theirs = geoclip.LocationEncoder(sigma=[2.0, 24.0], from_pretrained=False)
    config = {"model_type": "geoclip-location-encoder", "format_version": 1, "sigma": [2, 24]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    encoder = ge.load_encoder(tmp_path)
    assert encoder.architecture == LocationArchitecture(sigmas=(2.0, 24.0))
    again = geoclip.LocationEncoder.from_pretrained(tmp_path)
    with torch.inference_mode():
        expected = again(torch.from_numpy(np.column_stack([LAT, LON])).float())
    # Their projection and phases are float32.
    np.testing.assert_allclose(encoder.encode(LON, LAT), expected, atol=2e-4)
    (tmp_path / "config.json").write_text(json.dumps(config | {"sigma": [2]}))
    with pytest.raises(WeightsError, match=r"sigma = \[2\], and its tensors have 2 scales"):
        ge.load_encoder(tmp_path)


def test_sigmas_that_nobody_declares_are_measured(tmp_path):
    assert ge.load_encoder("geoclip.v1").architecture == LocationArchitecture()
    torch.manual_seed(0)
    odd = LocationArchitecture(sigmas=(3.0, 0.5), frequencies=256, hidden=(8,), output=2)
    save_file(odd.build().state_dict(), tmp_path / "odd.safetensors")
    sigmas = model_of(tmp_path / "odd.safetensors").architecture.sigmas
    assert sigmas[0] == pytest.approx(3.0, rel=0.15)
    assert sigmas[1] == 0.5


def test_loading_draws_no_random_numbers(tmp_path):
    write_folder(tmp_path / "alps", LocationArchitecture(**SMALL))
    before = torch.get_rng_state()
    ge.load_encoder(tmp_path / "alps")
    assert torch.equal(torch.get_rng_state(), before)


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"format_version": 2}, "format_version 2; this version reads"),
        ({"format_version": True}, "format_version True"),
        ({"model_type": "geoembed-other"}, "declares model_type 'geoembed-other'"),
        ({"location": None}, "does not say what the location encoder is made of"),
        ({"location": {}}, "cannot be built.*has or lacks: encoding, frequencies"),
        ({"location": {**SMALL, "projection": "mercator", "encoding": "rff"}}, "'mercator' is not"),
        ({"location": {**SMALL, "sigmas": 3, "projection": "sphere", "encoding": "rff"}}, "built"),
        (
            {"location": {**SMALL, "output": 5, "projection": "equal-earth", "encoding": "rff"}},
            "do not fit together.*size mismatch",
        ),
        (
            {"location": {**SMALL, "sigmas": [1], "projection": "equal-earth", "encoding": "rff"}},
            "do not fit together.*Unexpected key",
        ),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(tmp_path, config, message):
    write_folder(tmp_path / "alps", LocationArchitecture(**SMALL), **config)
    with pytest.raises(WeightsError, match=message):
        ge.load_encoder(tmp_path / "alps")


def test_a_folder_without_tensors_and_a_training_run(tmp_path):
    write_folder(tmp_path / "alps", LocationArchitecture(**SMALL))
    (tmp_path / "alps" / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="There is no weights file .*model.safetensors"):
        ge.load_encoder(tmp_path / "alps")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(WeightsError, match="Give a folder with config.json"):
        ge.load_encoder(tmp_path / "run")  # a run that has failed before its first checkpoint
    (tmp_path / "run" / "checkpoints" / "step-00000007.pt").touch()
    with pytest.raises(WeightsError, match="like a training run; type: geoembed export"):
        ge.load_encoder(tmp_path / "run")
    with pytest.raises(WeightsError, match="like a training run; type: geoembed export"):
        weights.read_model_folder(tmp_path / "run")
    with pytest.raises(WeightsError, match="There is no folder .* of a model"):
        weights.read_model_folder(tmp_path / "nowhere")
