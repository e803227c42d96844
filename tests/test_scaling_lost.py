"""Schedulers and workers that are not there, or are lost midway: an error soon, nothing lost."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import geopandas as gpd
import numpy as np
import pytest

import geoembed as ge
from geoembed.cli.main import main
from geoembed.errors import OptionError, WorkerError
from geoembed.scaling import embed_folder, engine, joining, processes

distributed = pytest.importorskip("distributed")

CITIES = ge.data.load_cities()[["name", "geometry"]].head(2000).reset_index(drop=True)
# Busy machines start processes slowly.
PATIENCE = 60


def until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "nothing has come of it"
        time.sleep(0.01)


class Cluster:
    """A scheduler and workers, each a process that can be killed."""

    def __init__(self, folder, workers):
        self.file = folder / "scheduler.json"
        self.scheduler = self.start("scheduler", "--port", "0")
        until(lambda: self.file.exists() and self.file.read_text().endswith("}"))
        self.address = json.loads(self.file.read_text())["address"]
        self.workers = [
            self.start("worker", "--no-nanny", "--nthreads", "1") for _ in range(workers)
        ]

    def start(self, kind, *words):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words]
        command += ["--scheduler-file", str(self.file), "--host", "127.0.0.1", "--no-dashboard"]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=self.file.parent, **silent)

    def kill_when(self, true, processes):
        def kill():
            until(true)
            for process in processes:
                process.send_signal(signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        return thread

    def close(self):
        for process in [self.scheduler, *self.workers]:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path):
    made = []

    def make(workers):
        made.append(Cluster(tmp_path, workers))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def source(tmp_path):
    """80 parts, each of which takes a moment."""
    CITIES.to_parquet(tmp_path / "in.parquet", row_group_size=25)
    return tmp_path / "in.parquet"


@pytest.mark.parametrize("lost", ["workers", "scheduler"])
def test_all_workers_or_the_scheduler_killed_midway_end_the_run_and_the_same_call_goes_on(
    cluster, source, tmp_path, monkeypatch, capfd, lost
):
    monkeypatch.setattr(engine, "_WORKERS_SECONDS", 60.0)
    there = cluster(2)
    out = tmp_path / "out"
    asked = {"encoder": "xyz", "progress": False}

    def begun():
        if len(list(out.glob("part-*"))) < 3:
            return False
        monkeypatch.setattr(engine, "_WORKERS_SECONDS", 1.0)
        return True

    dying = [there.scheduler] if lost == "scheduler" else there.workers
    killer = there.kill_when(begun, dying)
    told = {
        "workers": rf"All workers of the scheduler at {there.address} are gone, and none has come",
        "scheduler": rf"The scheduler at {there.address} cannot be reached any more",
    }
    with pytest.raises(WorkerError, match=told[lost]) as failed:
        embed_folder(source, out, scheduler=there.address, **asked)
    killer.join()
    # An error of ours, and no traceback of dask's beside it.
    assert "Traceback" not in capfd.readouterr().err
    done = int(re.match(r"(\d+) of 80 parts are done and kept", failed.value.__notes__[0])[1])
    assert 3 <= done < 80, "they were lost after the end"
    report = embed_folder(source, out, workers=0, **asked)
    assert report.resumed >= 25 * done
    assert (report.rows, report.redone) == (2000, ())
    expected = ge.LocationFeaturizer("xyz").fit_transform(CITIES)
    np.testing.assert_array_equal(np.stack(gpd.read_parquet(out)["embedding"]), expected)


def test_a_scheduler_without_workers_is_told(cluster, source, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "_WORKERS_SECONDS", 0.5)
    there = cluster(0)
    with pytest.raises(WorkerError, match=rf"at {there.address} has no workers. Start some: dask"):
        embed_folder(source, tmp_path / "out", encoder="xyz", scheduler=there.address)


@pytest.fixture
def listener():
    """Something that is no scheduler: it says what it is told to everyone who connects."""
    server = socket.create_server(("127.0.0.1", 0))
    words, taken = [], []

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            taken.append(connection)
            # Who only looks whether somebody listens is gone by now.
            with suppress(OSError):
                connection.sendall(b"".join(words))
                if words:
                    connection.shutdown(socket.SHUT_WR)

    threading.Thread(target=serve, daemon=True).start()
    yield f"tcp://127.0.0.1:{server.getsockname()[1]}", words
    # A thread that waits in accept() keeps a socket open that is only closed.
    server.shutdown(socket.SHUT_RDWR)
    for each in [server, *taken]:
        each.close()


def test_what_is_no_scheduler_is_told_soon(listener, source, tmp_path, monkeypatch):
    address, words = listener
    monkeypatch.setattr(joining, "_ANSWER_SECONDS", 1.0)
    asked = {"encoder": "xyz", "scheduler": address}
    with pytest.raises(WorkerError, match=f"What listens at {address} has not answered in 1 s"):
        embed_folder(source, tmp_path / "out", **asked)
    words.append(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(WorkerError, match=f"What answers at {address} is no scheduler of dask"):
        embed_folder(source, tmp_path / "out", **asked)


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("tcp://127.0.0.1:9", WorkerError, "No scheduler answers at tcp://127.0.0.1:9: Connection"),
        ("nonsense", OptionError, "scheduler='nonsense' is no address.*such|look like tcp://10"),
        ("127.0.0.1", OptionError, "scheduler='127.0.0.1' is no address of a scheduler: missing p"),
        ("carrier://pigeon:1", OptionError, "unknown address scheme 'carrier'"),
    ],
)
def test_no_scheduler_there_is_one_quick_line(
    source, tmp_path, capsys, monkeypatch, address, error, message
):
    monkeypatch.setattr(joining, "_REFUSED_SECONDS", 0.3)
    started = time.monotonic()
    with pytest.raises(error, match=message):
        embed_folder(source, tmp_path / "out", encoder="xyz", scheduler=address)
    command = ["embed", str(source), "-o", str(tmp_path / "out"), "--encoder", "xyz"]
    assert main([*command, "--engine", "dask", "--scheduler", address]) == 1
    assert time.monotonic() - started < 5, "that is not soon"
    out, err = capsys.readouterr()
    assert out == ""
    assert re.match(f"geoembed: error: .*{address}", err)
    assert "Traceback" not in err
    assert "kept" not in err, "nothing was done"


def test_a_scheduler_that_is_just_being_started_is_waited_for(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    server = []
    later = threading.Timer(0.4, lambda: server.append(socket.create_server(("127.0.0.1", port))))
    later.start()
    joining._knock("there", "127.0.0.1", port)
    later.join()
    server[0].close()


def test_what_an_earlier_run_left_on_the_scheduler_is_not_taken_for_done(cluster, source, tmp_path):
    """Its parts may be gone: they were thrown away, and are to be made again."""
    out = tmp_path / "out"
    asked = {"encoder": "xyz", "progress": False}
    with distributed.Client(cluster(1).address, set_as_default=False) as client:
        kept = []
        submit = client.submit

        def keep(function, *arguments, key, **options):
            # A second future of the same task: the scheduler keeps what came of it.
            kept.append(submit(function, *arguments, key=key, **options))
            return submit(function, *arguments, key=key, **options)

        client.submit = keep
        embed_folder(source, out, scheduler=client, **asked)
        embed_folder(source, out, scheduler=client, force=True, **asked)
    assert len(list(out.glob("part-*"))) == 80


def test_workers_of_its_own_end_when_the_run_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\n"
        "from geoembed.scaling.joining import connect\n"
        "with connect(None, 1) as cluster:\n"
        "    client = cluster._client\n"
        "    worker, = client.scheduler_info()['workers'].values()\n"
        "    pid = client.run_on_scheduler(os.getpid)\n"
        "    print(pid, client.scheduler.address, worker['id'], worker['nanny'], flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as run:
        pid, *addresses = run.stdout.readline().split()
        run.kill()
    assert len(addresses) == 3
    try:
        until(lambda: not any(map(answers, addresses)))
    finally:
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGTERM)


def test_a_process_whose_starter_is_gone_before_it_looks_ends_too(tmp_path, monkeypatch):
    start = processes._start
    # Started by somebody who is not its parent, as after an adoption.
    monkeypatch.setattr(os, "getpid", os.getppid)
    options = {"kind": "Scheduler", "host": "127.0.0.1", "dashboard": False}
    scheduler = start([], options, tmp_path)
    monkeypatch.undo()
    try:
        scheduler.wait(timeout=PATIENCE)
    finally:
        scheduler.kill()
        scheduler.wait()


def test_a_scheduler_that_does_not_start_here_is_told(monkeypatch):
    monkeypatch.setattr(processes, "_HOST", "nowhere.invalid")
    told = r"The scheduler of dask does not start on this machine: .*(Name|nodename|resolution)"
    with pytest.raises(WorkerError, match=told), joining.connect(None, 1):
        pass


def answers(address):
    host, _, port = address.removeprefix("tcp://").partition(":")
    with suppress(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5).close()
        return True
    return False
