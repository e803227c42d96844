"""Encoders as ONNX files and programs of torch.export: the same vectors, any number of places."""

import json
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from geoembed.encoders import load_encoder
from geoembed.encoders.architecture import LocationArchitecture
from geoembed.encoders.layers import parse_layers
from geoembed.encoders.projections import project
from geoembed.errors import MissingExtraError, OptionError, TrainingError
from geoembed.geodesy import wrap_longitude
from geoembed.training import onnx_export
from geoembed.training.graph import LocationGraph, Projection, graph_of
from geoembed.training.graph_parity import check_parity, parity_places
from geoembed.training.onnx_export import export_onnx, onnx_run
from geoembed.training.program_export import PROVENANCE, export_program

PROJECTIONS = ("equal-earth", "plate-carree", "sphere")
PLACES = parity_places(300)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A function: options of an architecture to the folder of a model of it."""

    def write(name="tiny.v1", **fields):
        torch.manual_seed(3)
        small = {"sigmas": (1.0, 16.0, 256.0), "frequencies": 16, "hidden": (24, 24), "output": 8}
        architecture = LocationArchitecture(**{**small, **fields})
        folder = tmp_path_factory.mktemp("models") / name
        folder.mkdir()
        config = {
            "model_type": "geoembed-location-encoder",
            "format_version": 1,
            "name": name,
            "licence": "CC0-1.0",
            "location": architecture.to_dict(),
            "image": None,
        }
        (folder / "config.json").write_text(json.dumps(config), "utf-8")
        save_file(
            {f"location_encoder.{k}": t for k, t in architecture.build().state_dict().items()},
            folder / "model.safetensors",
        )
        return folder

    return write


def wrapped(lonlat):
    return np.column_stack([wrap_longitude(lonlat[:, 0]), lonlat[:, 1]])


@pytest.mark.parametrize("name", PROJECTIONS)
def test_projection_is_that_of_the_encoders(name):
    axes = Projection(name)(*torch.from_numpy(PLACES).T)
    expected = project(wrapped(PLACES), name)
    assert np.abs(torch.stack(axes, 1).numpy() - expected).max() <= 4e-16


def test_an_unknown_projection_is_refused():
    with pytest.raises(OptionError, match="mercator.*is not one of: equal-earth"):
        Projection("mercator")


@pytest.mark.parametrize("encoding", ["rff", "none"])
@pytest.mark.parametrize("projection", PROJECTIONS)
def test_graph_computes_what_the_network_computes(projection, encoding):
    torch.manual_seed(0)
    architecture = LocationArchitecture(
        projection=projection, encoding=encoding, frequencies=16, hidden=(32, 32), output=8
    )
    network = architecture.build().eval()
    places = wrapped(PLACES)
    parts = parse_layers("hidden0.1+scale2+final", network.shape)
    graph = LocationGraph(network, projection, parts=parts)
    with torch.inference_mode():
        tensors = network.parts(torch.from_numpy(project(places, projection)), parts)
        got = graph(*torch.from_numpy(places).T)
    # Projections may differ in the last digit, which 256 waves turn into ten digits.
    assert torch.allclose(got, torch.cat(tensors, 1), rtol=0, atol=1e-6)
    assert graph.dimension == got.shape[1] == 32 + 8 + 8


def test_graph_of_the_released_encoder_gives_its_very_values():
    encoder = load_encoder("geoclip.v1", device="cpu")
    places = wrapped(PLACES[:64])
    with torch.inference_mode():
        got = graph_of(encoder)(*torch.from_numpy(places).T).numpy()
    assert np.abs(got - encoder.encode(*places.T)).max() <= 1e-6


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"precision": "bfloat16"}, "precision='bfloat16' cannot be exported.*'float32'"),
        ({"seam": "blend"}, "seam='blend' cannot be exported.*'as-trained'"),
    ],
)
def test_what_a_graph_cannot_hold_is_refused(tiny, options, match):
    with pytest.raises(OptionError, match=match):
        graph_of(load_encoder(tiny(), device="cpu", **options))


def test_an_encoder_without_a_network_is_refused(tmp_path):
    with pytest.raises(OptionError, match="'xyz' has no network"):
        export_program(load_encoder("xyz"), tmp_path / "xyz.pt2")


@pytest.fixture(scope="module", params=["equal-earth", "sphere"])
def exported(request, tiny, tmp_path_factory):
    """An encoder, the file it was exported to, and what the export found."""
    encoder = load_encoder(tiny(projection=request.param), device="cpu")
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return encoder, path, export_onnx(encoder, path)


def test_onnx_gives_the_vectors_of_the_encoder(exported):
    encoder, path, parity = exported
    assert parity.places == 2000
    assert parity.worst < 1e-5
    run = onnx_run(path)
    lonlat = parity_places(500)
    expected = encoder.encode(*lonlat.T)
    for count in (1, 2, 500, 0):
        got = run(lonlat[:count, 0].copy(), lonlat[:count, 1].copy())
        assert got.shape == (count, 8)
        apart = np.linalg.norm(got - expected[:count], axis=1)
        assert (apart < 1e-5 * np.linalg.norm(expected[:count], axis=1)).all()


def test_onnx_of_float64_layers_and_unit_vectors(tiny, tmp_path):
    options = {"precision": "float64", "layers": "scales+hidden1.0", "normalize": True}
    encoder = load_encoder(tiny(encoding="none"), device="cpu", dtype="float64", **options)
    assert export_onnx(encoder, tmp_path / "model.onnx").worst < 1e-12
    got = onnx_run(tmp_path / "model.onnx")(np.array([7.5]), np.array([46.9]))
    assert got.dtype == np.float64
    assert np.linalg.norm(got) == pytest.approx(1.0, abs=1e-12)


def test_onnx_gives_nan_where_a_place_is_none(exported):
    _, path, _ = exported
    lon = np.array([np.nan, 0.0, 0.0, np.inf, 10.0])
    lat = np.array([0.0, 91.0, np.nan, 0.0, -90.0])
    got = onnx_run(path)(lon, lat)
    assert np.isnan(got).all(axis=1).tolist() == [True, True, True, True, False]
    assert np.isfinite(got[4]).all()


def test_onnx_says_what_it_takes_and_where_it_comes_from(exported):
    encoder, path, _ = exported
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert [(i.name, i.type.tensor_type.elem_type) for i in model.graph.input] == [
        ("lon", onnx.TensorProto.DOUBLE),
        ("lat", onnx.TensorProto.DOUBLE),
    ]
    assert {i.type.tensor_type.shape.dim[0].dim_param for i in model.graph.input} == {"n"}
    facts = {prop.key: prop.value for prop in model.metadata_props}
    assert facts["weights_sha256"] == encoder.weights_sha256
    assert facts["licence"] == "CC0-1.0"
    assert "degrees" in facts["input"]
    # Nothing lies beside it.
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]


def test_no_constant_of_the_projection_is_rounded(exported):
    """The exporter rounds numbers of Python's: off by 1e-4 of a row at sigma = 256."""
    _, path, _ = exported
    graph = onnx.load(path).graph
    scalars = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if not tensor.dims and tensor.data_type == onnx.TensorProto.DOUBLE
    ]
    assert np.float64(np.pi / 180) in scalars
    assert np.float64(np.float32(np.pi / 180)) not in scalars


def test_program_gives_the_vectors_of_the_encoder(tiny, tmp_path):
    encoder = load_encoder(tiny(), device="cpu")
    assert export_program(encoder, tmp_path / "model.pt2").worst < 1e-5
    extra = {PROVENANCE: ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    assert json.loads(extra[PROVENANCE])["weights_sha256"] == encoder.weights_sha256
    for count in (0, 1, 7):
        places = torch.from_numpy(PLACES[20 : 20 + count])
        got = program(*places.T.contiguous()).numpy()
        assert np.abs(got - encoder.encode(*places.numpy().T)).max(initial=0) < 1e-6


def test_8_bits_are_a_quarter_of_the_size_and_near(tmp_path):
    torch.manual_seed(1)
    architecture = LocationArchitecture(frequencies=64, hidden=(128, 128), output=64)
    save_file(architecture.build().state_dict(), tmp_path / "model.safetensors")
    encoder = load_encoder(tmp_path / "model.safetensors", device="cpu")
    parity = export_onnx(encoder, tmp_path / "model.onnx", int8=True)
    assert parity.places == 5000
    assert 0.999 <= parity.cosine < 1.0
    exact = sum(tensor.nbytes for tensor in encoder.network.state_dict().values())
    assert (tmp_path / "model.onnx").stat().st_size < 0.5 * exact
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert kinds.count("MatMulInteger") == 9
    assert "MatMul" not in kinds
    assert "Gemm" not in kinds
    # Places that are none leave the others as they are, the scale of the batch included.
    run = onnx_run(tmp_path / "model.onnx")
    lon, lat = np.array([7.5, np.nan, 0.0, 0.0]), np.array([46.9, 0.0, 0.0, 95.0])
    got = run(lon, lat)
    assert np.isnan(got).all(axis=1).tolist() == [False, True, False, True]
    assert np.array_equal(got[[0, 2]], run(np.array([7.5, 0.0]), np.array([46.9, 0.0])))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.safetensors"]


def test_a_file_that_is_there_stays_unless_told(tiny, tmp_path):
    target = tmp_path / "model.bin"
    target.write_text("mine")
    encoder = load_encoder(tiny(), device="cpu")
    for export in (export_onnx, export_program):
        with pytest.raises(OptionError, match=r"model\.bin is there already.*overwrite=True"):
            export(encoder, target)
        with pytest.raises(OptionError, match="is a folder; this export is a file"):
            export(encoder, tmp_path)
    assert target.read_text() == "mine"
    export_program(encoder, target, overwrite=True)
    assert target.stat().st_size > 1000


def test_a_file_that_does_not_agree_fails_and_is_removed(tiny, tmp_path, monkeypatch):
    target = tmp_path / "model.onnx"
    target.write_text("before")
    honest = onnx_export.graph_of

    def wrong(encoder):
        graph = honest(encoder)
        graph.scales[0].frequencies = graph.scales[0].frequencies * (1 + 1e-4)
        return graph

    monkeypatch.setattr(onnx_export, "graph_of", wrong)
    match = r"model\.onnx is not the encoder: at lon .*allowed is 1e-05"
    with pytest.raises(TrainingError, match=match):
        export_onnx(load_encoder(tiny(), device="cpu"), target, overwrite=True)
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


KILLED = """
import os, signal, sys
import geoembed as ge
from geoembed.training import onnx_export
onnx_export.check_parity = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
onnx_export.export_onnx(ge.load_encoder(sys.argv[1], device="cpu"), sys.argv[2])
"""


def test_what_a_killed_export_left_is_cleared_by_the_next_one(tiny, tmp_path):
    folder, target = tiny(), tmp_path / "model.onnx"
    killed = subprocess.run([sys.executable, "-c", KILLED, folder, target], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert [path.name for path in left.iterdir()] == ["model.onnx"]
    export_onnx(load_encoder(folder, device="cpu"), target)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert target.is_file()


def test_parity_measures_the_worst_row_and_the_mean_cosine(tiny):
    encoder = load_encoder(tiny(), device="cpu")

    def off(lon, lat):
        vectors = encoder.encode(lon, lat)
        vectors[lat == PLACES[200, 1]] *= 1.5
        return vectors

    with pytest.raises(TrainingError, match=f"lat {PLACES[200, 1]:.3f} its vector is off by 5.0e-"):
        check_parity(encoder, off, "it", count=300)
    assert check_parity(encoder, off, "it", count=300, least_cosine=0.999999).cosine > 0.999999
    with pytest.raises(TrainingError, match="mean cosine similarity is -1.000000"):
        check_parity(encoder, lambda lon, lat: -encoder.encode(lon, lat), "it", least_cosine=0.9)
    with pytest.raises(TrainingError, match=r"it gives \(2000, 7\), the encoder \(2000, 8\)"):
        check_parity(encoder, lambda lon, lat: encoder.encode(lon, lat)[:, 1:], "it")


def test_parity_is_that_of_every_part_too(tiny):
    """A part a thousandth as long as the others is lost in the vector that they make up."""
    encoder = load_encoder(tiny(), device="cpu", layers="scales+final")
    honest = encoder.values
    encoder.values = lambda lonlat: honest(lonlat) * np.repeat([1e-3, 1.0, 1.0, 1.0], 8)

    def wrong(how):
        def run(lon, lat):
            vectors = encoder.values(wrapped(np.column_stack([lon, lat])))
            vectors[:, :8] = how(vectors[:, :8])
            return vectors

        return run

    def shifted(part):
        return part + 1e-3 * np.abs(part).max()

    assert check_parity(encoder, wrong(lambda part: part), "it", count=300).worst < 1e-6
    with pytest.raises(TrainingError, match=r"similarity of scale0 is -?0\..*at least 0\.999"):
        check_parity(encoder, wrong(np.flip), "it", count=300, least_cosine=0.999)
    with pytest.raises(TrainingError, match=r"its vector of scale0 is off by .*e-0.*is 1e-05"):
        check_parity(encoder, wrong(shifted), "it", count=300, tolerance=1e-5)
    # What is nothing in both is the same, and what only one of them has is not.
    encoder.values = lambda lonlat: honest(lonlat) * np.repeat([0.0, 1.0, 1.0, 1.0], 8)
    for options in ({"tolerance": 2e-5}, {"least_cosine": 0.9999}):
        check_parity(encoder, wrong(lambda part: part), "it", count=300, **options)
        with pytest.raises(TrainingError, match="is not the encoder"):
            check_parity(encoder, wrong(lambda part: part + 1e-5), "it", count=300, **options)


def test_a_missing_package_is_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"onnxscript.*geoembed\[onnx\]"):
        export_onnx(load_encoder(tiny(), device="cpu"), tmp_path / "model.onnx")


@pytest.mark.slow
def test_the_released_encoder_in_onnx(tmp_path):
    encoder = load_encoder("geoclip.v1", device="cpu")
    assert export_onnx(encoder, tmp_path / "geoclip.onnx").worst < 2e-6
