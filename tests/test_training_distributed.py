"""Two processes over gloo: gradients of one, the same queue, and an end together."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from geoembed.errors import OptionError, TrainingError
from geoembed.training.batches import Batch
from geoembed.training.distributed import Processes, start_processes
from geoembed.training.model import build_model
from geoembed.training.queue import uniform_places
from geoembed.training.settings import TrainingSettings
from geoembed.training.step import TrainingStep

# Batch, accumulate, views, options. 9 pictures and 7 places in the queue do not halve.
CASES = {
    "one part": (12, 1, 1, {}),
    "four parts": (12, 4, 1, {}),
    "uneven, all options": (
        9, 3, 2, {"symmetric": True, "mask_km": 900.0, "smooth_km": 500.0, "queue": 7},
    ),
    "copies in the queue": (9, 1, 1, {"mask_own": True, "queue": 31}),
}  # fmt: skip

# It runs in each process, and here in one.
COMMON = """
import os, signal, sys
import numpy as np, torch
from geoembed.errors import TrainingError
from geoembed.training.batches import Batch
from geoembed.training.distributed import start_processes
from geoembed.training.model import build_model
from geoembed.training.queue import uniform_places
from geoembed.training.settings import TrainingSettings
from geoembed.training.step import TrainingStep
"""


def make_step(processes, size, accumulate, options):
    run = TrainingSettings.model_validate(
        {
            "data": {"kind": "features", "path": "unused"},
            "location": {"frequencies": 16, "hidden": [32, 32], "output": 16},
            "image": {"head": [24]},
            "objective": {"queue": 20, **options},
            "loop": {"batch": size, "accumulate": accumulate},
        }
    )
    model = build_model(run, feature_dimension=10, backbone=False)
    return TrainingStep(model, run, processes)


def run_steps(processes, size, accumulate, views, options, steps=3):
    """Gradient and loss of each step, then weights and queue."""
    step = make_step(processes, size, accumulate, options)
    told = []
    for number in range(steps):
        rng = np.random.default_rng(number)
        lonlat, ids = uniform_places(size, rng), np.arange(size) + number
        ids[-1] = ids[0]
        features = torch.from_numpy(rng.normal(size=(size, views, 10)).astype(np.float32))
        valid = np.ones(size, dtype=bool)
        valid[4] = False
        own = processes.share(size)
        batch = Batch(ids[own], lonlat[own], features[own], valid[own])
        result = step(batch, number, 1e-3)
        gradient = torch.cat([p.grad.flatten() for _, p in step.model.trained()])
        told.append((result.loss, result.accuracy, result.grad_norm, gradient.clone()))
    weights = torch.cat([p.detach().flatten() for _, p in step.model.trained()])
    queue = torch.from_numpy(np.column_stack([step.queue.lonlat, step.queue.ids]))
    return {"told": told, "weights": weights, "queue": queue}


def source_of(*functions):
    import inspect

    return COMMON + "\n".join(inspect.getsource(function) for function in functions)


STEPS = """
with start_processes("cpu") as processes:
    got = {name: run_steps(processes, *case) for name, case in CASES.items()}
    exchanged = {
        "any": (processes.any(processes.rank == 1), processes.any(False)),
        "gather": processes.gather(torch.arange(5)[processes.share(5)] > 2, 5),
        "broadcast": torch.full((2,), float(processes.rank)),
    }
    processes.broadcast_([exchanged["broadcast"]])
    processes.barrier()
    torch.save((got, exchanged), f"{sys.argv[1]}/rank{processes.rank}.pt")
"""

# Then rank 1 dies in the middle of a run, as by a kernel that lacks memory.
DYING = """
with start_processes("cpu") as processes:
    step = make_step(processes, 4, 1, {})
    for number in range(10**6):
        if number == 3 and processes.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        batch = Batch(np.arange(2), np.zeros((2, 2)), torch.ones(2, 1, 10), np.ones(2, dtype=bool))
        try:
            step(batch, number, 1e-3)
        except TrainingError as error:
            print(f"TrainingError: {error}", file=sys.stderr, flush=True)
            sys.exit(3)
"""


AGAIN = """
import time
for number in range(20):
    with start_processes("cpu") as processes:
        total = torch.tensor(float(processes.rank))
        processes.sum_([total])
        assert total == 1.0
        if processes.rank == 0:
            time.sleep(0.05)
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def start_by_hand(script, *arguments, world=2):
    """Start the processes as a cluster's launcher does."""
    port = str(free_port())
    return [
        subprocess.Popen(
            [sys.executable, script, *arguments],
            env=environment(
                RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world),
                MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
            ),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]  # fmt: skip


def end(processes, seconds):
    """Wait for each; none may outlive the test."""
    try:
        return [process.communicate(timeout=seconds)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@dataclass
class Ended:
    """What two processes saved, and how they ended after one of them was killed."""

    saved: list
    codes: list
    errors: list
    seconds: float


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Two processes that save what they have computed; then one of them is killed."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "steps.py"
    script.write_text(source_of(make_step, run_steps) + f"\nCASES = {CASES!r}\n" + STEPS + DYING)
    processes = start_by_hand(script, str(folder))
    try:
        processes[1].wait(timeout=400)
    except subprocess.TimeoutExpired:
        end(processes, 0)
    killed = time.monotonic()
    errors = end(processes, 60)
    taken = time.monotonic() - killed
    files = [folder / f"rank{rank}.pt" for rank in range(2)]
    assert all(file.exists() for file in files), "\n".join(errors)
    saved = [torch.load(file, weights_only=True) for file in files]
    return Ended(saved, [process.returncode for process in processes], errors, taken)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_gradients_of_one(two_processes, name):
    truth = run_steps(Processes(), *CASES[name])
    for got, _ in two_processes.saved:
        pairs = zip(got[name]["told"], truth["told"], strict=True)
        for (loss, accuracy, norm, gradient), expected in pairs:
            assert loss == pytest.approx(expected[0], rel=1e-6)
            assert accuracy == pytest.approx(expected[1])
            assert norm == pytest.approx(expected[2], rel=1e-6)
            assert (gradient - expected[3]).norm() < 1e-6 * expected[3].norm()


@pytest.mark.parametrize("name", CASES)
def test_all_ranks_have_the_same_weights_and_queue(two_processes, name):
    truth = run_steps(Processes(), *CASES[name])
    (first, _), (second, _) = two_processes.saved
    assert first[name]["weights"].equal(second[name]["weights"])
    for got in (first, second):
        assert got[name]["queue"].equal(truth["queue"])


def test_what_processes_exchange(two_processes):
    for _, exchanged in two_processes.saved:
        assert exchanged["any"] == (True, False)
        assert exchanged["gather"].tolist() == [False, False, False, True, True]
        assert exchanged["broadcast"].tolist() == [0.0, 0.0]


def test_a_killed_process_ends_the_other_with_a_message(two_processes):
    assert two_processes.codes == [3, -9]
    assert two_processes.seconds < 30
    assert "TrainingError: Another process of this run has ended" in two_processes.errors[0]
    assert "process 0 of 2 ends too" in two_processes.errors[0]


def test_they_may_start_again_and_again(tmp_path):
    """A process that is quick to start anew does not meet what the slow one is about to close."""
    script = tmp_path / "again.py"
    script.write_text(COMMON + AGAIN)
    processes = start_by_hand(script)
    errors = end(processes, 120)
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)


def test_a_killed_process_ends_torchrun_with_a_message(tmp_path):
    script = tmp_path / "dying.py"
    script.write_text(source_of(make_step) + DYING)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
               f"--master-port={free_port()}", str(script)]  # fmt: skip
    ended = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode != 0
    assert "Another process of this run has ended" in ended.stderr
    assert "Signal 9 (SIGKILL)" in ended.stderr


def test_alone_nothing_is_exchanged(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with start_processes("cpu") as processes:
        assert (processes.rank, processes.world) == (0, 1)
        rows = torch.ones(3)
        assert processes.gather(rows, 3) is rows
        processes.sum_([rows])
        processes.broadcast_([rows])
        processes.barrier()
        assert rows.tolist() == [1.0, 1.0, 1.0]
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("count", [1, 5, 512, 513])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_shares_cover_everything_once(count, world):
    shares = [Processes(rank=rank, world=world).share(count) for rank in range(world)]
    rows = np.concatenate([np.arange(count)[share] for share in shares])
    np.testing.assert_array_equal(rows, np.arange(count))


def test_an_incomplete_environment_says_what_is_missing(monkeypatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(OptionError, match="RANK, MASTER_ADDR, MASTER_PORT is not set"),
        start_processes("cpu"),
    ):
        pass
    monkeypatch.setenv("WORLD_SIZE", "two")
    with (
        pytest.raises(OptionError, match="WORLD_SIZE='two' in the environment"),
        start_processes("cpu"),
    ):
        pass


def test_others_that_cannot_be_reached_are_an_error_that_says_so(monkeypatch):
    monkeypatch.setattr("geoembed.training.distributed._TIMEOUT", _seconds(1))
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    with (
        pytest.raises(TrainingError, match="could not be reached at the start"),
        start_processes("cpu"),
    ):
        pass
    assert not torch.distributed.is_initialized()


def _seconds(count):
    from datetime import timedelta

    return timedelta(seconds=count)
