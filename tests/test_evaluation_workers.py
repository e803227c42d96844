"""The vectors of a comparison on workers: the same ones, computed once, and kept."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import geoembed as ge
from geoembed.cli.main import main
from geoembed.errors import OptionError, TableError, WorkerError
from geoembed.evaluation import compare_encoders
from geoembed.evaluation import drafts as drafts_module
from geoembed.evaluation.cached import CachedEncoder
from geoembed.evaluation.contenders import adapt_encoder
from geoembed.evaluation.drafts import Draft
from geoembed.scaling import engine
from geoembed.scaling import places as places_module
from geoembed.scaling.places import PlaceWorkers, slice_rows

distributed = pytest.importorskip("distributed")

CITIES = ge.data.load_cities().head(1000).assign(north=lambda table: table["lat"].abs())
LONLAT = CITIES[["lon", "lat"]].to_numpy()
PATIENCE = 60


def until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "nothing has come of it"
        time.sleep(0.01)


class Slow:
    """Sines, 10 ms a block: so that there is time to be killed in."""

    # As if it stood in a script: it is sent to workers by value.
    __module__ = "__main__"

    def encode(self, lon, lat):
        import time

        import numpy as np

        time.sleep(0.01)
        return np.sin(np.stack([lon, lat], axis=1))


def slow():
    encoder = adapt_encoder(Slow(), "slow")
    encoder.block_size = 5
    return encoder


@pytest.fixture
def small_slices(monkeypatch):
    """Slices of one block, as if blocks were large."""
    monkeypatch.setattr(places_module, "_MOST_ROWS", 1)


class Processes:
    """A scheduler and two workers, started as a user would."""

    def __init__(self, folder):
        self.file = folder / "scheduler.json"
        self.scheduler = self.start("scheduler", "--port", "0")
        until(lambda: self.file.exists() and self.file.read_text().endswith("}"))
        self.address = json.loads(self.file.read_text())["address"]
        one = ("worker", "--nthreads", "1", "--no-nanny", "--memory-limit", "1.8GB")
        self.workers = [self.start(*one) for _ in range(2)]

    def start(self, kind, *words):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words]
        command += ["--scheduler-file", str(self.file), "--host", "127.0.0.1", "--no-dashboard"]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=self.file.parent, **silent)

    def close(self):
        for process in [self.scheduler, *self.workers]:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    made = Processes(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


# -- the same vectors -----------------------------------------------------------------------------


def test_vectors_of_workers_are_those_of_one_process_bit_by_bit(processes, small_slices):
    encoder = ge.load_encoder("geoclip.v1", block_size=64)
    with PlaceWorkers(processes.address) as hands:
        cached = CachedEncoder(encoder, CITIES, workers=hands)
    distinct = LONLAT[np.sort(np.unique(LONLAT, axis=0, return_index=True)[1])]
    np.testing.assert_array_equal(cached.encode(*distinct.T), encoder.encode(*distinct.T))
    with distributed.Client(processes.address, set_as_default=False) as client:
        asked = "__import__('geoembed.scaling.places', fromlist=['_'])._loaded.cache_info()[:2]"
        found = list(client.run(eval, asked).values())
        # Both have worked, and each has loaded the weights once for all its slices.
        assert [misses for _, misses in found] == [1, 1]
        assert sum(hits for hits, _ in found) == len(range(0, len(distinct), 64)) - 2


def test_a_comparison_is_the_same_with_workers_and_without(processes, tmp_path, capsys):
    asked = {"encoders": ["xyz", "wrap"], "baselines": ["mean"], "n_splits": 3}
    alone = compare_encoders(CITIES, "north", **asked)
    there = compare_encoders(CITIES, "north", **asked, scheduler=processes.address)
    timed = ["seconds_encode", "seconds"]
    assert set(timed) < set(alone.table)
    pd.testing.assert_frame_equal(there.table.drop(columns=timed), alone.table.drop(columns=timed))
    source, out = tmp_path / "cities.csv", tmp_path / "out"
    pd.DataFrame(CITIES.drop(columns="geometry")).to_csv(source, index=False)
    command = ["compare", str(source), "-t", "north", "-o", str(out), "--encoders", "xyz,wrap"]
    command += ["--baselines", "mean", "--folds", "3"]
    assert main([*command, "--engine", "dask", "--scheduler", processes.address]) == 0
    told = json.loads((out / "comparison.json").read_text())
    capsys.readouterr()
    # Where all is done, nobody is asked: there is no such scheduler.
    assert main([*command, "--engine", "dask", "--scheduler", "tcp://127.0.0.1:9"]) == 0
    assert json.loads((out / "comparison.json").read_text()) == told


def test_frames_of_dask_are_tables(small_slices):
    dd = pytest.importorskip("dask.dataframe")
    table = pd.DataFrame(CITIES[["lon", "lat", "north"]])
    asked = {"encoders": ["xyz"], "baselines": [], "n_splits": 3}
    there = compare_encoders(dd.from_pandas(table, npartitions=3), "north", **asked)
    alone = compare_encoders(table, "north", **asked)
    assert there.table["mean"].tolist() == alone.table["mean"].tolist()


def test_slices_are_whole_blocks_of_16_mb():
    for name, options, rows in [
        ("geoclip.v1", {"block_size": 3000}, 6000),
        ("geoclip.v1", {"block_size": 9000}, 9000),
        ("xyz", {}, 65_536),
    ]:
        assert slice_rows(ge.load_encoder(name, **options)) == rows


# -- what stops ------------------------------------------------------------------------------------


def test_all_workers_killed_midway_end_it_and_the_same_request_goes_on(
    tmp_path, small_slices, monkeypatch
):
    made = Processes(tmp_path)
    log = tmp_path / "vectors" / "*.done"
    asked = {"encoders": {"slow": slow()}, "baselines": [], "n_splits": 3, "cache": log.parent}

    def kill():
        until(lambda: [p for p in log.parent.glob("*.done") if p.read_text().count("\n") > 4])
        monkeypatch.setattr(engine, "_WORKERS_SECONDS", 0.5)
        for worker in made.workers:
            worker.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(WorkerError, match="All workers of the scheduler .* are gone") as lost:
            compare_encoders(CITIES, "north", scheduler=made.address, **asked)
    finally:
        killer.join()
        made.close()
    told = re.match(r"(\d+) of 1,000 vectors of 'slow' are done and kept", lost.value.__notes__[0])
    done, total = int(told[1]), 1000
    assert 20 <= done < total, "they were lost after the end"
    calls = []
    encode = Slow.encode
    monkeypatch.setattr(Slow, "encode", lambda *a: calls.append(len(a[1])) or encode(*a))
    found = compare_encoders(CITIES, "north", **asked)
    # What was done is not done again; a few places are asked for to know the encoder by.
    assert total - done <= sum(calls) < total - done + 20
    expected = compare_encoders(CITIES, "north", **{**asked, "cache": None})
    assert found.table["mean"].tolist() == expected.table["mean"].tolist()
    assert not list(log.parent.glob("*.part*"))


def test_a_killed_process_loses_only_the_slices_at_work(tmp_path, small_slices):
    script = tmp_path / "script.py"
    source = Path(__file__).read_text(encoding="utf-8")
    classes = source[source.index("class Slow:") : source.index("@pytest.fixture\ndef small")]
    script.write_text(
        "import sys, numpy as np\n"
        "from geoembed.evaluation.cached import CachedEncoder\n"
        "from geoembed.evaluation.contenders import adapt_encoder\n"
        "from geoembed.scaling import places\n"
        f"{classes}\n"
        "places._MOST_ROWS = 1\n"
        "CachedEncoder(slow(), np.load(sys.argv[1]), folder=sys.argv[2])\n"
    )
    np.save(tmp_path / "places.npy", LONLAT)
    folder = tmp_path / "vectors"
    run = subprocess.Popen([sys.executable, str(script), str(tmp_path / "places.npy"), str(folder)])
    noted = []
    until(lambda: noted.extend(folder.glob("*.done")) or (noted and _lines(noted[0]) > 3))
    run.kill()
    run.wait()
    done = 5 * (_lines(noted[0]) - 1)
    assert not list(folder.glob("*.npy")), "half a file has its name"
    again = CachedEncoder(slow(), LONLAT, folder=folder)
    fresh = CachedEncoder(slow(), LONLAT)
    np.testing.assert_array_equal(again._vectors, fresh._vectors)
    assert 15 <= done < len(fresh._vectors)
    assert np.isnan(again.seconds)
    assert [path.suffix for path in folder.iterdir()] == [".npy"]


def _lines(path):
    return path.read_text().count("\n")


# -- files that grow -------------------------------------------------------------------------------


def test_a_draft_of_something_else_is_begun_anew(tmp_path):
    def opened(rows=2, shape=(6, 1)):
        return Draft(tmp_path / "v.npy", shape, "float32", rows)

    draft = opened()
    draft.keep(2, np.ones((2, 1)))
    draft.close()
    with (tmp_path / "v.npy.part.done").open("a") as log:
        log.write("4")  # a line without its end: the process was killed
    draft = opened()
    assert draft.missing == [0, 4]
    draft.close()
    for change in ({"rows": 3}, {"shape": (7, 1)}):
        draft = opened(**change)
        assert draft.done == 0
        draft.close()
    draft = opened()
    draft.keep(0, np.ones((2, 1)))
    draft.close()
    os.truncate(tmp_path / "v.npy.part", 10)
    draft = opened()
    assert draft.missing == [0, 2, 4]
    draft.close()


def test_two_at_once_do_not_write_one_file(tmp_path, small_slices):
    first = slow()
    cached = CachedEncoder(first, LONLAT[:40], folder=tmp_path)
    cached.path.unlink()
    shape = cached._vectors.shape
    draft = Draft(cached.path, shape, "float32", slice_rows(first))
    with pytest.raises(BlockingIOError):
        Draft(cached.path, shape, "float32", slice_rows(first))
    second = CachedEncoder(slow(), LONLAT[:40], folder=tmp_path)
    np.testing.assert_array_equal(second._vectors, cached._vectors)
    draft.close()


def test_a_full_disk_and_a_folder_that_is_a_file_are_told(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(drafts_module.os, "posix_fallocate", full, raising=False)
    with pytest.raises(TableError, match=r"The vectors .*v.npy cannot be written: No space left"):
        Draft(tmp_path / "v.npy", (4, 2), "float32", 2)
    (tmp_path / "file").touch()
    with pytest.raises(TableError, match="cannot be written: "):
        CachedEncoder(ge.load_encoder("xyz"), LONLAT[:3], folder=tmp_path / "file")


# -- what is refused -------------------------------------------------------------------------------


class Foreign(Slow):
    """Of a module that workers do not have."""

    __module__ = "tests_of_ours"


def test_encoders_that_cannot_be_made_there_are_told(processes, monkeypatch):
    module = type(sys)("tests_of_ours")
    module.Foreign = Foreign
    monkeypatch.setitem(sys.modules, "tests_of_ours", module)
    with PlaceWorkers(processes.address) as hands:
        message = "'foreign' cannot be made on the worker at tcp.*tests_of_ours"
        with pytest.raises(WorkerError, match=message):
            CachedEncoder(adapt_encoder(Foreign(), "foreign"), LONLAT[:5], workers=hands)
        locked = Slow()
        locked.lock = threading.Lock()
        with pytest.raises(OptionError, match="'locked' cannot be sent to workers: .*lock"):
            CachedEncoder(adapt_encoder(locked, "locked"), LONLAT[:5], workers=hands)


def test_other_weights_there_are_told(processes, monkeypatch):
    encoder = ge.load_encoder("geoclip.v1")
    monkeypatch.setattr(type(encoder), "weights_sha256", property(lambda self: "f" * 64))
    with (
        PlaceWorkers(processes.address) as hands,
        pytest.raises(WorkerError, match="other weights on the worker at tcp://.*ffffffffffff"),
    ):
        CachedEncoder(encoder, LONLAT[:5], workers=hands)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"workers": -1}, OptionError, "workers=-1 is not a number of workers"),
        ({"workers": True}, OptionError, "workers=True is not a number of workers"),
        ({"workers": 2, "scheduler": "tcp://h:1"}, OptionError, "Give scheduler=.*not both"),
        ({"scheduler": "tcp://127.0.0.1:9"}, WorkerError, "No scheduler answers at tcp://127.0.0"),
    ],
)
def test_workers_that_cannot_be(options, error, message, monkeypatch):
    monkeypatch.setattr("geoembed.scaling.joining._REFUSED_SECONDS", 0.2)
    with pytest.raises(error, match=message):
        compare_encoders(CITIES, "north", encoders=["xyz"], baselines=[], **options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "2"], "--scheduler and --workers are for --engine dask"),
        (["--engine", "spark"], "--engine spark is not one of: dask"),
        (
            ["--engine", "dask", "--workers", "2", "--scheduler", "tcp://h:1"],
            "not both.\nOn the command line: --scheduler ADDRESS, --workers N.",
        ),
    ],
)
def test_the_command_says_what_does_not_fit(tmp_path, capsys, words, message):
    source = tmp_path / "t.csv"
    pd.DataFrame(CITIES.drop(columns="geometry")).to_csv(source, index=False)
    assert main(["compare", str(source), "-t", "north", "-o", str(tmp_path / "o"), *words]) == 1
    assert message in capsys.readouterr().err
