"""Folders and frames of dask with `backend="onnx"`: no process of it imports torch."""

import json
import re
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pytest

import geoembed as ge
from geoembed.cli.main import main

pytest.importorskip("distributed")
pytest.importorskip("dask_geopandas")
onnx_export = pytest.importorskip("geoembed.training.onnx_export")
pytest.importorskip("onnxscript")

CITIES = ge.data.load_cities()[["name", "geometry"]].head(400).reset_index(drop=True)

# Workers and a frame of dask in one process of its own, which says who has imported torch.
SCRIPT = """
import sys
import dask_geopandas
from distributed import Client, SubprocessCluster
import geoembed as ge
from geoembed.scaling import embed_folder

options = {"encoder": sys.argv[2], "precision": "int8", "backend": "onnx"}
with SubprocessCluster(
    n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
) as cluster, Client(cluster) as client:
    report = embed_folder(sys.argv[1], "out", scheduler=client, batch_rows=50, **options)
    frame = dask_geopandas.read_parquet(sys.argv[1], split_row_groups=True)
    lazily = ge.embed(frame, layout="vector", **options).compute()
    lazily.to_parquet("lazily.parquet")
    there = client.run(eval, "'torch' in __import__('sys').modules")
    print(report.rows, len(there), sorted(set(there.values())), "torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """`geoclip.v1` in 8 bits, as the command exports it."""
    path = tmp_path_factory.mktemp("onnx") / "geoclip.onnx"
    loaded = ge.load_encoder("geoclip.v1", device="cpu")
    onnx_export.export_onnx(loaded, path, name="geoclip.v1", int8=True)
    return str(path)


def vectors_of(path):
    return np.stack(gpd.read_parquet(path)["embedding"])


def test_workers_and_frames_need_no_torch(encoder, tmp_path):
    CITIES.to_parquet(tmp_path / "in.parquet", row_group_size=50)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "in.parquet", encoder],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split("\n")[0] == "400 2 [False] False", done.stderr
    # In 8 bits a vector depends on its block: the same blocks here.
    here = ge.load_encoder(encoder, precision="int8", backend="onnx")
    lonlat = CITIES.geometry.get_coordinates().to_numpy()
    blocks = [here.encode(*lonlat[start : start + 50].T) for start in range(0, 400, 50)]
    for made in ("out", "lazily.parquet"):
        np.testing.assert_allclose(vectors_of(tmp_path / made), np.concatenate(blocks), atol=1e-5)


@pytest.mark.parametrize("engine", [[], ["--engine", "dask", "--workers", "0"]])
def test_the_command_computes_in_8_bits(encoder, tmp_path, monkeypatch, capsys, engine):
    monkeypatch.chdir(tmp_path)
    CITIES.to_parquet("in.parquet")
    target = "out" if engine else "out.parquet"
    command = ["embed", "in.parquet", "-o", target, "--encoder", encoder, *engine]
    assert main([*command, "--backend", "onnx", "--precision", "int8"]) == 0
    assert "400 rows of 512 values" in capsys.readouterr().out
    exact = ge.LocationFeaturizer("geoclip.v1").fit_transform(CITIES)
    made = vectors_of(target)
    lengths = np.linalg.norm(made, axis=1) * np.linalg.norm(exact, axis=1)
    cosines = (made * exact).sum(axis=1) / lengths
    assert cosines.mean() > 0.999
    assert np.abs(made - exact).max() > 1e-4, "these are not 8 bits"


def test_commands_take_the_precision_of_a_file_by_itself(encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    CITIES.to_parquet("in.parquet")
    for target, engine in (("o.parquet", []), ("out", ["--engine", "dask", "--workers", "0"])):
        command = ["embed", "in.parquet", "-o", target, "--encoder", encoder, *engine]
        assert main(command) == 0
        assert main([*command, "--force", "--precision", "float32"]) == 1
        said = capsys.readouterr().err
        assert "computes in int8, and precision='float32' is asked for" in said
        assert "On the command line: --precision int8." in said
    assert np.array_equal(vectors_of("o.parquet"), vectors_of("out"))
    CITIES.assign(north=CITIES.geometry.y).to_parquet("t.parquet")
    quick = ["--folds", "2", "--baselines", "none", "-o", "cmp", "-q"]
    encoders = ["--encoders", f"{encoder}:final,xyz"]
    assert main(["compare", "t.parquet", "-t", "north", *encoders, *quick]) == 0


def test_the_command_encoders_describes_files_in_8_bits_and_of_any_layers(
    encoder, tmp_path, monkeypatch, capsys
):
    assert main(["encoders", encoder, "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert (facts["name"], facts["dimension"], facts["weights_state"]) == (
        *("geoclip.v1", 512),
        "where you said",
    )
    monkeypatch.chdir(tmp_path)
    exported = ge.load_encoder("bluemarble.v1", layers="scales", device="cpu")
    onnx_export.export_onnx(exported, tmp_path / "s.onnx", name="my.v1")
    assert main(["encoders", "s.onnx"]) == 0
    said = capsys.readouterr().out
    assert "my.v1" in said
    assert "where you said" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--precision", "int8"],
            "precision='int8' is offered by onnxruntime only.*--backend onnx",
        ),
        (["--backend", "onnx", "--encoder", "xyz"], "backend='onnx': the encoder 'xyz' has no net"),
        (["--backend", "abacus"], "backend='abacus' is not one of: auto, torch, onnx"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    CITIES.to_parquet("in.parquet")
    for engine in ([], ["--engine", "dask", "--workers", "0"]):
        assert main(["embed", "in.parquet", "-o", "out.parquet", *engine, *words]) == 1
        assert re.search(message, capsys.readouterr().err, re.DOTALL)
