"""``geoembed benchmark geolocation``: what it asks for, runs, prints and ends with."""

import json
import warnings
from pathlib import Path

import geoembed_systems
import numpy as np
import pandas as pd
import pytest
from geoembed_systems.benchmark import running
from geoembed_systems.benchmark.asking import (
    read_fractions,
    read_options,
    read_seeds,
    read_systems,
)
from geoembed_systems.benchmark.presets import find_preset
from pyproj import Geod

from geoembed.cli.app import build
from geoembed.cli.main import main
from geoembed.errors import OptionError, UnknownNameError
from geoembed.testing import isolated_plugins

NAMES = ["knn", "planet", "cplanet", "isns", "translocator", "geodecoder", "geoclip"]


@pytest.fixture(autouse=True)
def only_this_plugin(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with isolated_plugins(geoembed_systems):
        yield


def run(capsys, *arguments):
    code = main(["benchmark", "geolocation", *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out, told.err


def make_folder(failed=()):
    """Write a benchmark of three systems; GeoCLIP errs by half of what PlaNet does."""
    folder = Path("done")
    folder.mkdir()
    rng = np.random.default_rng(0)
    truth = rng.uniform([-100, -50], [100, 50], (40, 2))
    km = rng.uniform(300.0, 3000.0, 40)
    np.save(folder / "test_lonlat.npy", truth)
    runs = []
    for system, title, factor in (
        ("planet", "PlaNet", 1.0),
        ("geoclip", "GeoCLIP", 0.5),
        ("chance", "A random training place", 3.0),
    ):
        for seed in (0, 1):
            lon, lat, _ = Geod(ellps="WGS84").fwd(*truth.T, km * 0, 1000.0 * factor * km)
            one = {"system": system, "title": title, "seed": seed, "fraction": 1.0}
            if (system, seed) in failed:
                runs.append({**one, "failed": "TrainingError: the loss is not finite"})
                continue
            np.save(folder / f"{system}{seed}.npy", np.stack([lon, lat], axis=1))
            runs.append({**one, "predictions": f"{system}{seed}.npy", "fit_s": 12.0})
    record = {"format": 1, "data": {"title": "Toy"}, "machine": {}, "runs": runs}
    (folder / "results.json").write_text(json.dumps(record))
    return folder


def write_manifest(name, rows, seed):
    """Pictures of two towns, told apart by their features."""
    rng = np.random.default_rng(seed)
    town = np.arange(rows) % 2
    lonlat = np.array([[2.35, 48.86], [139.7, 35.7]])[town] + rng.normal(0, 0.05, (rows, 2))
    table = pd.DataFrame({"IMG_FILE": [f"{name}{row}" for row in range(rows)]})
    table[["LON", "LAT"]] = lonlat
    table.to_csv(f"{name}.csv", index=False)
    np.save(f"{name}.npy", (np.eye(4)[town] + rng.normal(0, 0.1, (rows, 4))).astype(np.float32))


TOY = ("-m", "train.csv", "--features", "train.npy", "--test", "test.csv")
TOY += ("--test-features", "test.npy", "--systems", "knn", "--threads", 1, "-o", "toy")


def test_the_command_is_there_with_a_short_summary(capsys):
    group = build().commands["benchmark"]
    command = group.commands["geolocation"]
    for each in (group, command):
        assert len(each.help.splitlines()[0]) <= 45
        assert "Example:" in each.help
    assert main(["benchmark", "geolocation", "--help"]) == 0
    assert "geoembed benchmark geolocation -o runs/systems --report-only" in capsys.readouterr().out


def test_lists_the_systems_and_their_options(capsys):
    code, out, err = run(capsys, "--list")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:8]] == NAMES
    own = find_preset("geoclip").options
    told = " ".join(lines).split("geoclip: ")[1]
    assert all(f"{name}={value!r}" in told for name, value in own.items())
    assert "exponent=" in " ".join(lines).split(" knn: ")[1].split(" planet: ")[0]
    code, out, _ = run(capsys, "--list", "--json")
    found = {each["name"]: each for each in json.loads(out)}
    assert list(found) == NAMES
    assert found["isns"]["options"]["scene_routing"] == "argmax"
    # The benchmark draws seeds and reads features itself.
    assert not {"random_state", "image_encoder", "resume"} & set(found["planet"]["options"])


def test_a_report_is_made_anew_without_running(capsys, monkeypatch):
    monkeypatch.setattr(running, "run_benchmark", None)
    code, out, err = run(capsys, "--report-only", "-o", make_folder())
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("Toy: percent of 40 pictures within, means over 2 seeds")
    assert lines[1].split()[:5] == ["system", "1", "km", "25", "km"]
    assert [line.split()[0] for line in lines[2:5]] == ["GeoCLIP", "PlaNet", "A"]
    assert "GeoCLIP has the smallest median error on Toy" in out
    assert "Im2GPS3k  14.11" in out
    page = Path("done/results.md").read_text()
    assert "## Against GeoCLIP" in page
    assert Path("done/systems.png").stat().st_size > 10_000


def test_json_is_printed_alone(capsys):
    code, out, err = run(capsys, "--report-only", "-o", make_folder(), "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [row["system"] for row in found["table"]] == ["geoclip", "planet", "chance"]
    assert found["table"][0]["median_km"] == pytest.approx(0.5 * found["table"][1]["median_km"])


def test_a_run_that_failed_makes_it_end_with_1_after_the_report(capsys):
    folder = make_folder(failed=[("planet", 1)])
    code, out, err = run(capsys, "--report-only", "-o", folder)
    assert code == 1
    assert "GeoCLIP has the smallest median error" in out
    assert "1 of 6 runs failed, such as PlaNet, seed 1, 100 %: TrainingError: the loss is" in err
    assert run(capsys, "--report-only", "-o", folder, "-q")[:2] == (1, "")


def test_nothing_to_report_is_told(capsys):
    code, _, err = run(capsys, "--report-only", "-o", "none")
    assert code == 1
    assert "results.json: give the folder of a benchmark that has run" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--systems", "planet,plonk"], "no system named 'plonk'"),
        (["--systems", ","], "names no system"),
        (["--seeds", "0,-1"], "seeds='0,-1' must be whole numbers"),
        (["--fractions", "5,120"], "fractions='5,120' must be percent"),
        (["--set", "planet"], "--set 'planet' cannot be read"),
        (["--set", "planet.tmax=5"], "no option of planet named 'tmax'. Close matches: 't_max'"),
        (["--systems", "knn", "--set", "planet.t_max=5"], "no system among those that run named"),
        (["--set", "all.tmax=5"], "no system that runs has the option 'tmax'"),
        (["--crops", "20"], "crops=20 does not fit"),
        (["-m", "none.csv", "--features", "none.npy"], "none.csv"),
    ],
)
def test_what_is_mistyped_is_told_before_anything_runs(capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(running, "run_benchmark", None)
    code, out, err = run(capsys, *arguments, "-o", "new")
    assert (code, out) == (1, "")
    assert message in err
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "photos"], "--images belongs to --manifest"),
        (["--tta", "five"], "--tta belongs to --manifest"),
        (["-m", "a.csv"], "Give one of --images FOLDER and --features FILE"),
        (["-m", "a.csv", "-i", "b", "--features", "c"], "Give one of --images FOLDER and"),
        (["-m", "a.csv", "-i", "b", "--crops", "200"], "--crops is about the Blue Marble"),
        (["-m", "a.csv", "-i", "b", "--test-images", "c"], "belong to --test TABLE"),
        (["-m", "a.csv", "--features", "b", "--test", "c"], "needs --test-features FILE"),
    ],
)
def test_usage_errors(capsys, arguments, message):
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in " ".join(err.split())


def test_ones_own_features_from_end_to_end(capsys):
    write_manifest("train", 60, 0)
    write_manifest("test", 16, 1)
    code, out, err = run(capsys, *TOY, "--fractions", "50,100", "--set", "knn.neighbours=20")
    assert code == 0, err
    # Places of one town lie beside each other, and that is told first.
    first, empty = out.splitlines()[:2]
    assert empty == ""
    record = json.loads(Path("toy/results.json").read_text())
    assert first.startswith(f"{record['data']['test_within_1_km']} of 16 test pictures (")
    assert "were taken within 1 km of a training picture" in first
    assert record["data"]["test_same_features"] == 0
    shown = {line.split("  ")[0]: line.split() for line in out.splitlines()[4:7]}
    # The nearest neighbours are of the right town, and that is within 25 km.
    assert shown["[L]kNN"][2].startswith("100.0")
    assert shown["Mean of the training places"][6] == "0.0"
    assert {run["fraction"] for run in record["runs"]} == {0.5, 1.0}
    assert record["runs"][0]["options"]["neighbours"] == 20
    assert Path("toy/fractions.png").is_file()

    # What is there is not run again, and is reported the same.
    file = Path("toy/runs/knn/f100-s0/run.json")
    before = file.stat().st_mtime_ns
    assert run(capsys, *TOY, "--fractions", "50,100", "--set", "knn.neighbours=20")[1] == out
    assert file.stat().st_mtime_ns == before


def test_a_system_that_cannot_learn_is_told_and_so_are_pictures_it_would_know(capsys):
    write_manifest("train", 60, 0)
    write_manifest("test", 16, 1)
    looks = np.load("test.npy")
    looks[:2] = np.load("train.npy")[[5, 9]]
    np.save("test.npy", looks)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, out, err = run(capsys, *TOY, "--set", "knn.neighbours=0")
    first = "LEAK: 2 of 16 test pictures (12.5 %) have the features of a training picture."
    assert out.startswith(first)
    assert err.splitlines()[0].startswith(f"geoembed: warning: {first}")
    assert Path("toy/results.md").read_text().splitlines()[2].startswith(f"- {first}")
    assert json.loads(Path("toy/results.json").read_text())["data"]["test_same_features"] == 2
    assert code == 1
    assert "1 of 3 runs failed, such as [L]kNN, seed 0, 100 %: neighbours=0" in err
    assert "Mean of the training places" in out
    assert "neighbours=0" in Path("toy/results.md").read_text()


def test_systems_are_read_in_the_order_given():
    assert read_systems(" isns,knn,isns ", NAMES) == ("isns", "knn")
    assert read_systems("all", NAMES) == tuple(NAMES)


def test_seeds_and_fractions_are_read_once_each():
    assert read_seeds("3, 1,3") == (3, 1)
    assert read_fractions("100,5%, 5") == (0.05, 1.0)
    for text in ("", "a", "1.5"):
        with pytest.raises(OptionError, match="seeds="):
            read_seeds(text)
    for text in ("", "0", "a"):
        with pytest.raises(OptionError, match="fractions="):
            read_fractions(text)


def test_options_are_read_as_toml_has_them_and_else_as_text():
    known = {"isns": ["t_max", "epochs", "device", "training"], "knn": ["device"]}
    given = ["isns.t_max=[50, 20, 10]", "all.device=cpu", "isns.epochs=2.5"]
    given += ['isns.training={"loop.batch" = 8}', "knn.device='cuda:1'"]
    assert read_options(given, known) == {
        "isns": {
            "t_max": [50, 20, 10],
            "device": "cpu",
            "epochs": 2.5,
            "training": {"loop.batch": 8},
        },
        "knn": {"device": "cuda:1"},
    }
    with pytest.raises(UnknownNameError, match="no system among those that run named 'planet'"):
        read_options(["planet.t_max=2"], known)
