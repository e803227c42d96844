"""A scheduler and workers in processes of their own: what they give, and what they survive."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

import geoembed as ge
from geoembed.errors import CoordinateError, OptionError, WorkerError
from geoembed.scaling import embed_folder, joining
from geoembed.streaming import embed_file

distributed = pytest.importorskip("distributed")
dask_geopandas = pytest.importorskip("dask_geopandas")

CITIES = ge.data.load_cities()[["name", "geometry"]].head(4000).reset_index(drop=True)
# Busy machines start processes slowly.
PATIENCE = 60


class Processes:
    """A scheduler and workers, each started as a user would."""

    def __init__(self, folder):
        self.file = folder / "scheduler.json"
        self.started = []
        self.scheduler = self.start("scheduler", "--port", "0")
        until(self.file.exists)
        self.address = distributed.Client(scheduler_file=str(self.file), set_as_default=False)
        self.client, self.address = self.address, self.address.scheduler.address

    def start(self, kind, *words, environment=None):
        environment = {**os.environ, "OMP_NUM_THREADS": "4", **(environment or {})}
        command = [sys.executable, "-m", "distributed.cli.dask_" + kind, *words]
        command += ["--scheduler-file", str(self.file), "--host", "127.0.0.1", "--no-dashboard"]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, env=environment, cwd=self.file.parent, **silent)
        self.started.append(process)
        return process

    def worker(self, name, memory="1.8GB", **environment):
        words = ["--nthreads", "1", "--memory-limit", memory, "--no-nanny", "--name", name]
        before = len(self.client.nthreads())
        process = self.start("worker", *words, environment=environment)
        until(lambda: len(self.client.nthreads()) > before)
        return process

    def stop(self, process):
        before = len(self.client.nthreads())
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: len(self.client.nthreads()) < before)

    def close(self):
        self.client.close()
        for process in self.started:
            process.kill()
        for process in self.started:
            process.wait()


def until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "nothing has come of it"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    made = Processes(tmp_path_factory.mktemp("cluster"))
    made.worker("one")
    made.worker("two")
    made.client.run(eval, "__import__('geoembed.scaling') and __import__('torch') and None")
    yield made
    made.close()


@pytest.fixture
def source(tmp_path):
    """8 partitions of 500 rows."""
    (tmp_path / "in").mkdir()
    for number in range(8):
        part = CITIES[number * 500 : number * 500 + 500]
        part.to_parquet(tmp_path / "in" / f"{number}.parquet")
    return tmp_path / "in"


def vectors_of(table):
    return np.stack(table["embedding"].to_numpy())


def test_partitions_equal_the_single_process_bit_by_bit(processes, source, tmp_path):
    CITIES.to_parquet(tmp_path / "one.parquet")
    embed_file(tmp_path / "one.parquet", tmp_path / "o.parquet", batch_rows=500, progress=False)
    expected = vectors_of(gpd.read_parquet(tmp_path / "o.parquet"))
    report = embed_folder(source, tmp_path / "out", scheduler=processes.address)
    assert (report.parts, report.rows) == (8, 4000)
    back = gpd.read_parquet(tmp_path / "out")
    np.testing.assert_array_equal(vectors_of(back), expected)
    # With repeated places deduplicated over all rows instead of by partition: the last digits.
    np.testing.assert_allclose(expected, ge.encode(CITIES.geometry.x, CITIES.geometry.y), atol=5e-6)
    # Weights were read once by each, and one thread of torch works, whatever was inherited.
    asked = (
        "(__import__('geoembed.encoders.geoclip', fromlist=['_'])._network.cache_info().misses,"
        " __import__('geoembed.encoders.sharing', fromlist=['_'])._loaded.cache_info().misses)"
    )
    assert set(processes.client.run(eval, asked).values()) == {(1, 1)}


def test_lazy_frames_are_computed_there(processes, source):
    with processes.client.as_current():
        frame = dask_geopandas.read_parquet(source)
        got = ge.embed(frame, layout="vector").compute()
        array = ge.LocationFeaturizer("xyz").fit_transform(frame).compute()
    blocks = [CITIES[n * 500 : n * 500 + 500] for n in range(8)]
    expected = pd.concat([ge.embed(block, layout="vector") for block in blocks])
    np.testing.assert_array_equal(vectors_of(got), vectors_of(expected))
    np.testing.assert_array_equal(array, ge.LocationFeaturizer("xyz").fit_transform(CITIES))


def test_a_worker_killed_midway_costs_no_row(processes, tmp_path):
    CITIES.to_parquet(tmp_path / "in.parquet", row_group_size=100)
    out = tmp_path / "out"
    third = processes.worker("three")
    at = []

    def kill():
        # When it has something in hand, and others are done.
        until(lambda: len(list(out.glob("part-*"))) >= 4)
        at.append(len(list(out.glob("part-*"))))
        third.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    report = embed_folder(tmp_path / "in.parquet", out, scheduler=processes.address)
    killer.join()
    third.wait()
    assert at[0] < 40, "it was killed after the end"
    assert (report.parts, report.rows, report.redone) == (40, 4000, ())
    assert sorted(p.name for p in (out / "_geoembed").iterdir()) == ["lock", "manifest.json"]
    CITIES.to_parquet(tmp_path / "one.parquet")
    embed_file(tmp_path / "one.parquet", tmp_path / "o.parquet", batch_rows=100, progress=False)
    expected = vectors_of(gpd.read_parquet(tmp_path / "o.parquet"))
    np.testing.assert_array_equal(vectors_of(gpd.read_parquet(out)), expected)


def test_an_error_on_a_worker_says_where_and_the_rest_goes_on_later(processes, source, tmp_path):
    place = source / "5.parquet"
    whole = gpd.read_parquet(place)
    broken = whole.copy()
    broken.loc[broken.index[7], "geometry"] = None
    broken.to_parquet(place)
    with pytest.raises(CoordinateError, match=r"5.parquet, rows 0 to 499.*row 7") as failed:
        embed_folder(source, tmp_path / "out", encoder="xyz", scheduler=processes.address)
    notes = failed.value.__notes__
    assert re.match(r"In .*/5.parquet, row group 0, on the worker at tcp://127", notes[0])
    assert re.match(r"\d of 8 parts are done and kept in .*The same call goes on", notes[1])


def test_batches_fit_the_memory_of_the_smallest_worker(processes, source, tmp_path):
    # Three quarters of 1.8 GB, less 1 GB, hold six copies of so many rows of 9,216 values.
    asked = {"layers": "hidden", "scheduler": processes.address}
    report = embed_folder(source / "1.parquet", tmp_path / "out", **asked)
    assert report.batch_rows == int(0.35e9 // 6 // (9216 * 4))
    small = processes.worker("small", memory="1.2GB")
    try:
        message = r"worker at tcp://.* has 0.0 GB a thread for data, and 0.2 GB are needed"
        with pytest.raises(WorkerError, match=message):
            embed_folder(source / "1.parquet", tmp_path / "new", **asked)
    finally:
        processes.stop(small)


def test_a_partition_too_large_for_a_worker_is_refused_there(processes):
    frame = dask_geopandas.from_geopandas(gpd.GeoDataFrame(
        geometry=gpd.points_from_xy(np.zeros(20_000), np.zeros(20_000)), crs=4326
    ), npartitions=1)  # fmt: skip
    with (
        processes.client.as_current(),
        pytest.raises(WorkerError, match=r"20,000 rows takes 1.5 GB.*tcp://127.*has 0.3 GB a thr"),
    ):
        ge.embed(frame, layers="hidden").compute()


@pytest.mark.parametrize(("version", "told"), [("0.0.1", "0.0.1 at tcp://"), (None, "none at tcp")])
def test_a_worker_with_another_version_or_none_is_named(processes, source, tmp_path, version, told):
    code = "import sys; sys.modules['geoembed'] = None"
    if version is not None:
        (tmp_path / "geoembed").mkdir()
        (tmp_path / "geoembed" / "__init__.py").write_text(f"__version__ = {version!r}")
        code = ""
    (tmp_path / "sitecustomize.py").write_text(code)
    odd = processes.worker("odd", PYTHONPATH=str(tmp_path))
    try:
        message = f"need the same geoembed, {ge.__version__} as here; there is {told}"
        with pytest.raises(WorkerError, match=message):
            embed_folder(source, tmp_path / "out", encoder="xyz", scheduler=processes.address)
        with processes.client.as_current(), pytest.raises(WorkerError, match=message):
            ge.embed(dask_geopandas.read_parquet(source), "xyz")
    finally:
        processes.stop(odd)


def test_other_weights_on_a_worker_are_told(processes, source, tmp_path, monkeypatch):
    from geoembed.encoders.geoclip import GeoCLIPEncoder

    monkeypatch.setattr(GeoCLIPEncoder, "weights_sha256", property(lambda self: "f" * 64))
    with pytest.raises(WorkerError, match="other weights on the worker at tcp://.*ffffffffffff"):
        embed_folder(source, tmp_path / "out", scheduler=processes.address)


def test_a_scheduler_that_is_not_there(source, tmp_path, monkeypatch):
    monkeypatch.setattr(joining, "_REFUSED_SECONDS", 0.5)
    asked = {"encoder": "xyz", "scheduler": "tcp://127.0.0.1:9"}
    with pytest.raises(WorkerError, match="No scheduler answers at tcp://127.0.0.1:9.*dask sched"):
        embed_folder(source, tmp_path / "out", **asked)
    with pytest.raises(OptionError, match="Give scheduler=.*not both"):
        embed_folder(source, tmp_path / "out", workers=2, **asked)


def test_workers_of_its_own_need_no_guard_around_a_script(source, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from geoembed.scaling import embed_folder\n"
        "report = embed_folder('in', 'out', encoder='xyz', workers=2)\n"
        "assert (report.parts, report.rows) == (8, 4000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    expected = ge.LocationFeaturizer("xyz").fit_transform(CITIES)
    np.testing.assert_array_equal(vectors_of(gpd.read_parquet(tmp_path / "out")), expected)
