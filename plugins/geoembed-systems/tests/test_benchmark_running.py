"""Runs of the benchmark: each in its own process, kept, redone, and never in each other's way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from geoembed_systems.benchmark import one_run, running
from geoembed_systems.benchmark.data import BenchmarkData
from geoembed_systems.benchmark.measuring import learned_numbers, peak_mb, score_places
from geoembed_systems.benchmark.presets import SYSTEMS, find_preset, options_for
from geoembed_systems.benchmark.reading import read_results
from geoembed_systems.benchmark.running import run_benchmark
from geoembed_systems.pictures.features import PictureFeatures

from geoembed.errors import OptionError, UnknownNameError
from geoembed.geodesy import distance_km, spherical_mean

SHORT = {"planet": {"epochs": 1, "t_max": 40, "t_min": 2}}


def toy(seed: int = 0) -> BenchmarkData:
    rng = np.random.default_rng(seed)
    places = rng.uniform([-60, -40], [60, 60], (120, 2))
    looks = np.column_stack([places / 30.0, rng.normal(size=(120, 3))])
    errors = [""] * 30
    errors[4] = "no such file"
    return BenchmarkData(
        name="toy",
        title="Features that are places",
        train=PictureFeatures(looks[:90]),
        test=PictureFeatures(looks[90:], errors=errors),
        train_lonlat=places[:90],
        test_lonlat=places[90:],
        facts={"of": "nothing"},
    )


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """Two good systems and one that cannot be; one at two shares of the data."""
    room = tmp_path_factory.mktemp("room")
    ask = {"folder": room, "threads": 1, "progress": False}
    run_benchmark(toy(), systems=["knn", "planet", "geodecoder"], options=SHORT, **ask)
    run_benchmark(toy(), systems=["knn"], fractions=(1.0, 0.5), **ask)
    return room


@pytest.fixture
def started(monkeypatch) -> list[str]:
    """Names of the runs that are started; none runs."""
    names: list[str] = []
    monkeypatch.setattr(running, "_run", lambda _room, job, _data: names.append(running._name(job)))
    return names


def record_of(room: Path) -> dict:
    return json.loads((room / "results.json").read_text())


def stamps(room: Path) -> dict[str, int]:
    return {
        str(path.relative_to(room)): path.stat().st_mtime_ns
        for path in (room / "runs").glob("*/*/predictions.npy")
    }


def test_the_record_says_what_ran_on_what(room):
    record = record_of(room)
    assert record["format"] == 1
    assert record["data"]["digest"] == toy().digest
    assert record["data"]["of"] == "nothing"
    assert record["machine"]["threads"] == 1
    runs = record["runs"]
    assert [(run["system"], run["fraction"]) for run in runs] == [
        ("knn", 1.0), ("knn", 0.5), ("planet", 1.0), ("geodecoder", 1.0),
        ("mean-point", 1.0), ("mean-point", 0.5), ("chance", 1.0), ("chance", 0.5),
    ]  # fmt: skip
    for run in runs:
        assert run["train_rows"] == (90 if run["fraction"] == 1.0 else 45)
        assert run["test_rows"] == 30
    # What a run had to say stands beside it.
    assert "no such file" in " ".join(runs[0]["notes"])
    knn, planet = runs[0], runs[2]
    assert planet["options"] == SHORT["planet"]
    assert (knn["parameters"], knn["cells"]) == (None, None)
    assert planet["parameters"] == (5 + 1) * planet["cells"]
    for run in (knn, planet):
        # Torch alone takes more, and no such run takes gigabytes.
        assert 100.0 < run["peak_mb"] < 4000.0
        assert run["fit_s"] > 0.0
        assert run["predict_s"] > 0.0


def test_scores_are_those_of_the_predictions(room):
    truth = np.load(room / "test_lonlat.npy")
    np.testing.assert_array_equal(truth, toy().test_lonlat)
    for run in record_of(room)["runs"]:
        if "failed" in run:
            continue
        found = np.load(room / run["predictions"])
        away = distance_km(*truth.T, *found.T)
        looks = run["system"] in ("knn", "planet")
        assert np.isnan(away).tolist() == [looks and row == 4 for row in range(30)]
        away[np.isnan(away)] = 20_004.0
        assert run["scores"]["within_750"] == pytest.approx(100 * (away <= 750).mean())
        assert run["scores"]["median_km"] == pytest.approx(np.median(away))
        assert run["scores"]["mean_km"] == pytest.approx(away.mean())
    # The features are the places, up to noise.
    assert record_of(room)["runs"][0]["scores"]["median_km"] < 2500


def test_the_two_baselines_look_at_no_picture(room):
    mean = np.load(room / "runs" / "mean-point" / "f100-s0" / "predictions.npy")
    assert (mean == spherical_mean(toy().train_lonlat)).all()
    chance = np.load(room / "runs" / "chance" / "f100-s0" / "predictions.npy")
    known = {tuple(place) for place in toy().train_lonlat}
    assert {tuple(place) for place in chance} <= known
    assert len({tuple(place) for place in chance}) > 15


def test_a_system_that_cannot_run_says_why_and_keeps_no_other_from_running(room):
    failed = [run for run in record_of(room)["runs"] if "failed" in run]
    assert [run["system"] for run in failed] == ["geodecoder"]
    assert "tokens" in failed[0]["failed"].lower()
    told = json.loads((room / "runs/geodecoder/f100-s0/failed.json").read_text())
    assert "Traceback" in told["traceback"]


def test_the_report_reads_what_was_written(room):
    results = read_results(room)
    assert len(results.runs) == 8
    good = [run for run in results.runs if not run.failed]
    assert {run.system: run.missing for run in good}["planet"] == 1
    assert {run.system: run.missing for run in good}["chance"] == 0


def test_what_is_there_is_kept_and_what_failed_is_tried_again(room, started):
    before = stamps(room)
    ask = {"folder": room, "threads": 1, "progress": False}
    run_benchmark(toy(), systems=["knn"], fractions=(1.0, 0.5), **ask)
    run_benchmark(toy(), systems=["planet", "geodecoder"], options=SHORT, **ask)
    assert started == ["geodecoder/f100-s0"]
    assert stamps(room) == before
    # Runs that were not asked for this time stand in the record all the same.
    assert len(record_of(room)["runs"]) == 8


def test_a_run_that_was_stopped_or_damaged_is_run_again(room, started):
    cut = room / "runs" / "knn" / "f100-s0" / "run.json"
    whole = cut.read_text()
    cut.write_text(whole[: len(whole) // 2])
    gone = room / "runs" / "planet" / "f100-s0" / "predictions.npy"
    kept = gone.read_bytes()
    gone.unlink()
    try:
        run_benchmark(
            toy(), folder=room, systems=["knn", "planet"], options=SHORT, threads=1, progress=False
        )
    finally:
        cut.write_text(whole)
        gone.write_bytes(kept)
    assert started == ["knn/f100-s0", "planet/f100-s0"]


def test_other_options_or_other_data_are_run_anew_and_never_mixed(room, started):
    whole = (room / "results.json").read_text()
    changed = {"planet": {**SHORT["planet"], "epochs": 2}}
    record = run_benchmark(
        toy(), folder=room, systems=["knn", "planet"], options=changed, threads=1, progress=False
    )
    assert started == ["planet/f100-s0"]
    # The one that is there has other options.
    assert "planet" not in {run["system"] for run in record["runs"]}
    record = run_benchmark(toy(1), folder=room, systems=["knn"], threads=1, progress=False)
    assert {run["system"] for run in record["runs"]} == set()
    (room / "results.json").write_text(whole)


def test_without_resuming_all_is_run(room, started):
    run_benchmark(
        toy(), folder=room, systems=["knn"], resume=False, seeds=(0, 0), threads=1, progress=False
    )
    assert started == ["knn/f100-s0", "mean-point/f100-s0", "chance/f100-s0"]


def test_a_process_that_is_killed_is_told_as_such(tmp_path, monkeypatch):
    (tmp_path / "killed.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(running, "_MODULE", "killed")
    record = run_benchmark(
        toy(), folder=tmp_path / "room", systems=["knn"], threads=1, progress=False
    )
    first = record["runs"][0]
    assert first["system"] == "knn"
    assert "ended by SIGKILL, as where memory runs out" in first["failed"]
    assert [run["system"] for run in record["runs"][1:]] == ["mean-point", "chance"]


def test_a_stopped_benchmark_leaves_no_process_behind(tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(running, "_MODULE", "slow")
    waited = subprocess.Popen.wait

    def interrupted(process, timeout=None):
        if timeout is None and not (tmp_path / "stopped").exists():
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
                time.sleep(0.02)
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt
        return waited(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(toy(), folder=tmp_path / "room", systems=["knn"], threads=1, progress=False)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert not (tmp_path / "room" / "runs" / "knn" / "f100-s0" / "run.json").exists()


def test_a_run_ends_with_the_process_that_has_started_it(room, tmp_path):
    job = json.loads((room / "runs" / "knn" / "f50-s0" / "job.json").read_text())
    code = (
        "import os, time\n"
        "from geoembed_systems.benchmark.one_run import _end_with\n"
        "_end_with(os.getppid() + 1)\n"
        "time.sleep(60)\n"
    )
    assert job["parent"] == os.getpid()
    start = time.monotonic()
    path = os.pathsep.join(filter(None, sys.path))
    ended = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    assert ended.returncode == 1
    assert time.monotonic() - start < 50


def test_a_job_can_be_run_by_hand(room, tmp_path):
    job = json.loads((room / "runs" / "knn" / "f50-s0" / "job.json").read_text())
    del job["parent"]
    (tmp_path / "job.json").write_text(json.dumps(job))
    assert one_run.main([str(tmp_path / "job.json")]) == 0
    assert "no such file" in json.loads((tmp_path / "run.json").read_text())["notes"][0]
    again = np.load(tmp_path / "predictions.npy")
    np.testing.assert_array_equal(
        again, np.load(room / "runs" / "knn" / "f50-s0" / "predictions.npy")
    )
    (tmp_path / "job.json").write_text(json.dumps({**job, "options": {"neighbours": 0}}))
    assert one_run.main([str(tmp_path / "job.json")]) == 1
    assert "neighbours=0" in json.loads((tmp_path / "failed.json").read_text())["message"]
    (tmp_path / "job.json").write_text(json.dumps({**job, "options": {"neighbors": 5}}))
    assert one_run.main([str(tmp_path / "job.json")]) == 1
    told = json.loads((tmp_path / "failed.json").read_text())["message"]
    assert told.startswith("TypeError: ")


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"systems": ["planets"]}, UnknownNameError, "Close matches: 'planet'"),
        ({"systems": []}, OptionError, "systems= names none"),
        ({"seeds": ()}, OptionError, "seeds="),
        ({"seeds": (-1,)}, OptionError, r"seeds=\[-1\]"),
        ({"fractions": ()}, OptionError, "fractions= names none"),
        ({"fractions": (0.5, 2.0)}, OptionError, "fraction=2.0"),
        ({"threads": 0}, OptionError, "threads=0"),
        ({"options": {"planet": {"t_mex": 5}}}, UnknownNameError, "option of planet named 't_mex'"),
        ({"options": {"planet": {"random_state": 5}}}, UnknownNameError, "random_state"),
        ({"options": {"isns": {}}}, UnknownNameError, "system among those that run named 'isns'"),
        ({"options": {"planet": {"weights": {1, 2}}}}, OptionError, "JSON cannot hold"),
    ],
)
def test_what_is_mistyped_is_told_before_anything_runs(tmp_path, asked, error, message):
    with pytest.raises(error, match=message):
        run_benchmark(toy(), folder=tmp_path / "room", **{"systems": ["planet"], **asked})
    assert not (tmp_path / "room").exists()


def test_every_preset_fits_its_class():
    assert [preset.name for preset in SYSTEMS] == [
        "knn", "planet", "cplanet", "isns", "translocator", "geodecoder", "geoclip",
    ]  # fmt: skip
    for preset in SYSTEMS:
        kind = preset.load()
        assert kind.title == preset.title
        system = kind(**options_for(preset, "bluemarble"))
        assert {**system.get_params(), **preset.options} == system.get_params()
        assert options_for(preset, "mine") == {}
        assert find_preset(preset.name) is preset


def test_learned_numbers_are_those_of_the_networks():
    from torch import nn

    class Fitted:
        pass

    system = Fitted()
    assert learned_numbers(system) is None
    system.network_, system.other_ = nn.Linear(3, 2), nn.Linear(2, 1)
    system.parameters_ = 99
    assert learned_numbers(system) == 8 + 3


def test_a_place_without_an_answer_costs_half_the_earth():
    truth = np.zeros((2, 2))
    scores = score_places(truth, np.array([[0.0, 0.0], [np.nan, np.nan]]))
    assert scores["within_1"] == scores["within_2500"] == 50.0
    assert scores["mean_km"] == pytest.approx(10_002.0)


def test_memory_is_that_of_the_process():
    before = peak_mb()
    held = np.ones(50_000_000)
    assert held.sum() == 50_000_000
    assert peak_mb() - before + 400.0 * (before > 2000.0) > 250.0
    assert sys.platform != "linux" or peak_mb() > 400.0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands memory on to a child")
def test_memory_is_not_that_of_the_process_that_started_it():
    held = np.ones(150_000_000)
    code = "from geoembed_systems.benchmark.measuring import peak_mb; print(peak_mb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < peak_mb() - 0.4 * held.nbytes / 1e6


def test_signals_have_names():
    assert running._why(-signal.SIGTERM) == "its process was ended by SIGTERM"
    assert running._why(3) == "its process ended with 3 and said nothing"
