"""Processes of our own: where workers put aside what they must, and what becomes of it."""

import subprocess
import sys

import pytest

from geoembed.errors import WorkerError

dask = pytest.importorskip("dask")
pytest.importorskip("distributed")

from geoembed.scaling.processes import own_processes  # noqa: E402

KILLED = """
import os, signal
from geoembed.scaling.processes import own_processes
with own_processes(0, 2**30):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_workers_put_aside_is_gone_afterwards_and_after_a_killed_run(tmp_path, monkeypatch):
    """The usual folder of dask is made where it is not there."""
    aside = tmp_path / "not" / "there"
    monkeypatch.setenv("DASK_TEMPORARY_DIRECTORY", str(aside))
    done = subprocess.run([sys.executable, "-c", KILLED], check=False)
    assert done.returncode == -9
    (left,) = aside.iterdir()
    with dask.config.set(temporary_directory=str(aside)), own_processes(0, 2**30) as address:
        assert address.startswith("tcp://127.0.0.1:")
        (folder,) = aside.iterdir()
        assert folder != left
        assert (folder / "scheduler.json").is_file()
    assert not list(aside.iterdir())


def test_no_room_for_it_is_told(tmp_path):
    (tmp_path / "file").touch()
    with (
        dask.config.set(temporary_directory=str(tmp_path / "file")),
        pytest.raises(WorkerError, match=r"aside in .*file: File exists.*DASK_TEMPORARY_DIRECTORY"),
        own_processes(0, 2**30),
    ):
        pass
