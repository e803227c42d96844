"""A run that is broken off goes on as if nothing had happened: killed, stopped, cut short."""

import hashlib
import inspect
import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from geoembed.errors import TrainingError
from geoembed.training.checkpoint import (
    CheckpointWarning,
    find_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from geoembed.training.keeping import Keeper
from geoembed.training.loop import train
from geoembed.training.packing import pack
from geoembed.training.resuming import check_settings
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import split_rows
from geoembed.training.step import TrainingStep
from geoembed.training.stopping import RunStopped

SETTINGS = {"steps": 20, "save_every": 4}


class Memory:
    """Features of places that a small network can learn, in memory."""

    views, dimension = 2, 6

    def __init__(self, count=120, stop_at=None):
        rng = np.random.default_rng(5)
        self.lonlat = np.stack([rng.uniform(-180, 180, count), rng.uniform(-60, 70, count)], 1)
        self.names = [f"picture {row}" for row in range(count)]
        self.digest = hashlib.sha256(self.lonlat.tobytes()).hexdigest()
        self.valid = np.ones(count, dtype=bool)
        self.valid[3] = False
        lon, lat = np.radians(self.lonlat).T
        parts = [np.cos(lon), np.sin(lon), np.sin(lat), np.cos(2 * lon), np.sin(2 * lon), lat]
        self._features = np.stack(parts, 1).astype(np.float32)
        self.stop_at, self.asked = stop_at or {}, 0

    def __len__(self):
        return len(self.lonlat)

    def features(self, rows, views):
        if len(views[0]) == 1:  # a batch, and no validation
            if (number := self.stop_at.get(self.asked)) is not None:
                signal.raise_signal(number)
            self.asked += 1
        return self._features[rows][:, None] + 0.05 * views[:, :, None].astype(np.float32)


def settings_of(**loop):
    return TrainingSettings.model_validate(
        {
            "data": {"kind": "features", "path": "unused", "validation": 0.2, "max_bad": 0.1},
            "views": {"count": 1},
            "location": {"frequencies": 8, "hidden": [16], "output": 8},
            "image": {"head": [12]},
            "objective": {"queue": 24},
            "optimiser": {"lr": 1e-2, "ema": 0.9, "warmup_steps": 3, "clip_norm": 1.0},
            "loop": {"batch": 16, "log_every": 3, "device": "cpu", **loop},
            "validation": {"every": 1.0},
        }
    )


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Drawing takes longer than all steps."""
    monkeypatch.setattr(Keeper, "draw", lambda self: None)


def state_of(folder, step):
    return read_checkpoint(find_checkpoint(folder, step))


def assert_same(one, other, where=""):
    """Bit for bit, whatever it is made of."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for at, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{at}]")
    else:
        assert one == other, where


def assert_same_run(one, other, step):
    first, second = state_of(one, step), state_of(other, step)
    assert first["training"]["optimiser"]["state"][0]["step"] == step
    assert_same(first, second)
    for name in ("metrics.csv", "metrics.jsonl", "best.json", "bad_pictures.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(settings_of(**SETTINGS), folder, data=Memory(), progress=False)
    return folder


def go_on(folder, settings=None):
    settings = settings or settings_of(**SETTINGS)
    return train(settings, folder, resume=True, data=Memory(), progress=False)


def stop_after(folder, step, number=signal.SIGTERM):
    """Start a run, which gets a signal during a step."""
    data = Memory(stop_at={step - 1: number})
    with pytest.raises(RunStopped, match=f"after step {step}; go on with --resume") as stopped:
        train(settings_of(**SETTINGS), folder, data=data, progress=False)
    return stopped.value


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
@pytest.mark.parametrize("step", [1, 6, 10, 17])
def test_a_stopped_run_goes_on_bit_for_bit(whole, tmp_path, number, code, step):
    # One epoch has 6 steps: a stop at 10 is in its middle, and between two lines of the log.
    assert stop_after(tmp_path / "run", step, number).code == code
    assert find_checkpoint(tmp_path / "run", "last").name == f"step-{step:08d}.pt"
    assert go_on(tmp_path / "run").step == 20
    assert_same_run(tmp_path / "run", whole, 20)


def test_twice_as_many_steps_equal_two_halves(tmp_path):
    """Where the schedule does not look at the end, and the first half ends with a validation."""
    halves, whole = tmp_path / "halves", tmp_path / "whole"
    settings = {"save_every": 4, "log_every": 5}
    steps = 6 * 3  # three epochs, so that the end is a validation in both
    train(settings_of(steps=steps, **settings), halves, data=Memory(), progress=False)
    train(
        settings_of(steps=2 * steps, **settings), halves, resume=True, data=Memory(), progress=False
    )
    train(settings_of(steps=2 * steps, **settings), whole, data=Memory(), progress=False)
    assert_same_run(halves, whole, 2 * steps)


def test_a_run_that_is_over_stays_as_it_is(whole):
    before = {
        path: path.read_bytes() for path in whole.iterdir() if path.name.startswith("metrics")
    }
    assert go_on(whole).step == 20
    assert {path: path.read_bytes() for path in before} == before


def test_resuming_where_nothing_is_starts_anew(whole, tmp_path):
    go_on(tmp_path / "run")
    assert_same_run(tmp_path / "run", whole, 20)


def test_a_run_is_not_written_over(whole):
    with pytest.raises(TrainingError, match="holds a run already. Go on with it"):
        train(settings_of(**SETTINGS), whole, data=Memory(), progress=False)


def test_other_settings_are_refused_and_all_are_listed(whole):
    other = settings_of(**SETTINGS, batch=32).model_copy(update={"seed": 7})
    with pytest.raises(TrainingError, match="seed: 0 -> 7") as refused:
        go_on(whole, other)
    lines = str(refused.value).splitlines()
    assert lines[1:-1] == ["  seed: 0 -> 7", "  loop.batch: 16 -> 32"]
    assert "start the new ones in another folder" in lines[-1]


def test_other_settings_in_the_checkpoint_alone_are_refused(whole, tmp_path):
    other = settings_of(**SETTINGS).model_copy(update={"seed": 7})
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    last = find_checkpoint(whole, "last")
    (run / "checkpoints" / last.name).write_bytes(last.read_bytes())
    with pytest.raises(TrainingError, match=r"step-00000020.pt is of other settings:\n  seed: 0"):
        go_on(run, other)


def test_settings_of_another_version_are_told(whole, tmp_path):
    run = tmp_path / "run"
    state = state_of(whole, 20)
    settings = json.loads(state["settings"])
    settings["loop"]["colour"] = "blue"
    write_checkpoint(run / "checkpoints", 20, {**state, "settings": json.dumps(settings)})
    with pytest.raises(TrainingError, match=r"another version .* does not know: loop.colour"):
        go_on(run)
    write_checkpoint(run / "checkpoints", 20, {**state, "format": 2})
    with pytest.raises(TrainingError, match="has the format 2, this geoembed reads 1"):
        go_on(run)


@pytest.mark.parametrize(("count", "what"), [(121, "other data"), (120, "other training rows")])
def test_other_data_are_refused(whole, tmp_path, count, what):
    settings = settings_of(**SETTINGS)
    data = Memory(count)
    split = split_rows(data.lonlat, settings.data.model_copy(update={"split_seed": 9}))
    with pytest.raises(TrainingError, match=f"is of {what}: their digest was"):
        train(settings, whole, resume=True, data=data, split=split, progress=False)


def test_what_may_change_changes(whole, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(RunStopped, match="after step 5"):
        train(
            settings_of(**SETTINGS), run, data=Memory(stop_at={4: signal.SIGTERM}), progress=False
        )
    more = settings_of(steps=22, save_every=7, keep_last=5, patience=50)
    assert go_on(run, more).step == 22
    # The rates and batches are those of the run that was to be shorter.
    assert_same(state_of(run, 21)["settings"], more.model_dump_json())
    lines = (run / "metrics.csv").read_text().splitlines()
    expected = (whole / "metrics.csv").read_text().splitlines()
    assert lines[: len(expected) - 2] == expected[:-2]


@pytest.mark.parametrize(
    ("schedule", "loop", "told"),
    [
        ("cosine", {"steps": 9}, "loop.steps = 6 -> loop.steps = 9"),
        ("cosine", {"steps": 0, "epochs": 2.0}, "loop.steps = 6 -> loop.epochs = 2"),
        ("cosine", {"steps": 6, "epochs": 2.0}, None),  # steps decide
        ("step", {"steps": 9}, None),
    ],
)
def test_another_end_under_a_cosine_is_told(recwarn, schedule, loop, told):
    def settings(**loop):
        optimiser = settings_of().optimiser.model_copy(update={"schedule": schedule})
        return settings_of(**loop).model_copy(update={"optimiser": optimiser})

    check_settings(settings(steps=6), settings(**loop), "The checkpoint")
    said = [str(each.message) for each in recwarn if each.category is CheckpointWarning]
    assert len(said) == (told is not None)
    assert told is None or (told in said[0] and "not the run that would have gone" in said[0])


def test_everything_is_told_once_on_a_resume(tmp_path, recwarn):
    def settings(steps, accumulate):
        given = settings_of(steps=steps, accumulate=accumulate).model_dump()
        given["optimiser"]["schedule"] = "cosine"
        return TrainingSettings.model_validate(given)

    run = tmp_path / "run"
    train(settings(3, 1), run, data=Memory(), progress=False)
    go_on(run, settings(4, 2))
    said = [str(each.message) for each in recwarn if each.category is CheckpointWarning]
    assert len(said) == 2
    assert "loop.accumulate: 1 -> 2" in said[0]
    assert "loop.steps = 3 -> loop.steps = 4" in said[1]


def test_with_fewer_lines_than_the_checkpoint_has_seen(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(RunStopped, match="after step 10"):
        train(
            settings_of(**SETTINGS), run, data=Memory(stop_at={9: signal.SIGTERM}), progress=False
        )
    (run / "metrics.csv").unlink()
    with pytest.warns(CheckpointWarning, match="has seen 4 lines of metrics.csv, and 0 are there"):
        go_on(run)
    assert (run / "metrics.csv").read_text().splitlines()[1].startswith("12,")


def test_other_threads_are_told(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(RunStopped, match="after step 3"):
        train(
            settings_of(**SETTINGS), run, data=Memory(stop_at={2: signal.SIGTERM}), progress=False
        )
    document = json.loads((run / "environment.json").read_text())
    document["sessions"][0]["threads"] = 77
    (run / "environment.json").write_text(json.dumps(document))
    with pytest.warns(CheckpointWarning, match="no longer bit for bit.*threads: 77 -> "):
        go_on(run)
    sessions = json.loads((run / "environment.json").read_text())["sessions"]
    assert [session["from_step"] for session in sessions] == [0, 3]


# -- pictures, processes that read them, and shards ------------------------------------------------


def picture_settings(**data):
    return TrainingSettings.model_validate(
        {
            "data": {"validation": 0.2, **data},
            "views": {"min_area": 0.5},
            "location": {"frequencies": 4, "hidden": [8], "output": 4},
            "image": {"tower": "convnet", "size": 16, "widths": [4, 4], "head": [4]},
            "objective": {"queue": 8},
            "loop": {"batch": 8, "steps": 10, "save_every": 100, "log_every": 2, "workers": 2},
        }
    )


def write_shards(folder):
    rng = np.random.default_rng(0)
    pictures = folder / "pictures"
    pictures.mkdir()
    lines = ["IMG_FILE,LAT,LON"]
    for row in range(30):
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), np.uint8)).save(pictures / f"{row}.jpg")
        lines.append(f"{row}.jpg,{rng.uniform(-60, 60):.4f},{rng.uniform(-180, 180):.4f}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    pack(folder / "manifest.csv", pictures, folder / "shards", per_shard=7, progress=False)
    return {"kind": "shards", "path": str(folder / "shards")}


def test_with_shards_and_worker_processes_in_mid_epoch(tmp_path, monkeypatch):
    settings = picture_settings(**write_shards(tmp_path))
    train(settings, tmp_path / "whole", progress=False)

    call = TrainingStep.__call__

    def and_stop(self, batch, step, lr):
        if step == 4:
            signal.raise_signal(signal.SIGTERM)
        return call(self, batch, step, lr)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingStep, "__call__", and_stop)
        with pytest.raises(RunStopped, match="after step 5"):
            train(settings, tmp_path / "run", progress=False)
    # Other numbers of processes that read are no other run.
    none = settings.model_copy(update={"loop": settings.loop.model_copy(update={"workers": 0})})
    train(none, tmp_path / "run", resume=True, progress=False)
    first, second = (state_of(tmp_path / name, 10) for name in ("whole", "run"))
    del first["settings"], second["settings"]
    assert_same(first, second)
    for name in ("metrics.csv", "metrics.jsonl", "best.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()


# -- processes of their own ------------------------------------------------------------------------

IMPORTS = """
import hashlib, json, os, random, signal, sys, time
from pathlib import Path
import numpy as np
import torch
from geoembed.training.loop import train
from geoembed.training.settings import TrainingSettings
from geoembed.training.keeping import Keeper
Keeper.draw = lambda self: None  # longer than all steps
"""

# What a run imports and reads is here once; every attempt is a process of its own, forked from
# here, so that kills hit the run itself.
STEPS = 120
KILLS = """
folder, kills = Path(sys.argv[1]), int(sys.argv[2])
settings = settings_of(steps=STEPS, save_every=5, keep_last=2)
train(settings_of(steps=1), folder / "first", data=Memory(), progress=False)
rng = random.Random(0)


def attempt(where, seconds=None):
    child = os.fork()
    if child == 0:
        try:
            train(settings, where, resume=True, data=Memory(), progress=False)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    start = time.monotonic()
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status), time.monotonic() - start


code, whole_s = attempt(folder / "whole")
assert code == 0
killed, runs, seen = 0, 0, []
while killed < kills:
    # Each attempt gets a small part of a whole run's time, its start included.
    code, _ = attempt(folder / f"run-{runs}", rng.uniform(0.02, 0.4) * whole_s)
    assert code in (0, -signal.SIGKILL), code
    names = sorted(os.listdir(folder / f"run-{runs}" / "checkpoints")) if (
        folder / f"run-{runs}" / "checkpoints").exists() else []
    seen.append([name for name in names if name.endswith(".pt")][-1:])
    killed += code < 0
    runs += code == 0
code, _ = attempt(folder / f"run-{runs}")
assert code == 0, code
print(json.dumps({"runs": runs + 1, "seen": seen, "whole_s": whole_s}))
"""


def source_of(script):
    return IMPORTS + "\n".join(map(inspect.getsource, (Memory, settings_of))) + script


def run_script(script, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", source_of(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


@pytest.mark.slow
def test_twenty_kills_at_random_moments(tmp_path):
    done = run_script(KILLS.replace("STEPS", str(STEPS)), tmp_path, 20)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    # Some of the kills came early, some late, and a run went on from where it had come to.
    assert len({str(step) for step in told["seen"]}) >= 4
    for number in range(told["runs"]):
        assert_same_run(tmp_path / f"run-{number}", tmp_path / "whole", STEPS)
        assert not list((tmp_path / f"run-{number}" / "checkpoints").glob(".*"))


SIGNALS = """
def go(where):
    child = os.fork()
    if child == 0:
        code = 0
        try:
            train(settings_of(steps=100_000, save_every=20), where, data=Memory())
        except SystemExit as stop:
            print(stop)
            sys.stdout.flush()
            code = stop.code
        os._exit(code)
    return child


folder = Path(sys.argv[1])
train(settings_of(steps=1), folder / "first", data=Memory(), progress=False)
children = {number: go(folder / number.name) for number in (signal.SIGTERM, signal.SIGINT)}
codes = {}
for number, child in children.items():
    while not list((folder / number.name / "checkpoints").glob("*.pt")):
        time.sleep(0.05)
    os.kill(child, number)
    codes[number.name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(codes))
"""


def test_signals_from_outside_end_with_their_codes(tmp_path):
    done = run_script(SIGNALS, tmp_path)
    assert done.returncode == 0, done.stderr
    *told, codes = done.stdout.splitlines()
    assert json.loads(codes) == {"SIGTERM": 143, "SIGINT": 130}
    for name, line in zip(("SIGTERM", "SIGINT"), told, strict=True):
        step = read_checkpoint(find_checkpoint(tmp_path / name, "last"))["progress"]["step"]
        assert line == f"Stopped by {name} after step {step:,}; go on with --resume."
        assert line in done.stderr


WORLD = """
# One of the two is told to end, during its eighth step.
data = Memory(stop_at={7: signal.SIGTERM} if os.environ["RANK"] == "1" else {})
train(settings_of(steps=20, save_every=4), Path(sys.argv[1]), data=data, progress=False)
"""


def test_two_processes_stop_together_and_one_goes_on_and_says_so(tmp_path, whole):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = tmp_path / "run"
    script = [sys.executable, "-c", source_of(WORLD), str(run)]
    together = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    pair = [
        subprocess.Popen(
            script, env={**together, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in pair]
    assert [process.returncode for process in pair] == [143, 143], errors
    assert state_of(run, 8)["world"] == 2
    with pytest.warns(
        CheckpointWarning, match="no longer bit for bit.*processes: 2 -> 1"
    ) as warned:
        go_on(run)
    assert sum("processes: 2 -> 1" in str(each.message) for each in warned) == 1
    # The same batches in the same order: only sums are rounded in another way.
    one, other = (state_of(folder, 20)["training"] for folder in (run, whole))
    assert_same(one["queue"], other["queue"])
    for name, weight in one["model"].items():
        torch.testing.assert_close(weight, other["model"][name], rtol=1e-3, atol=1e-4)
    first = [
        json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["loss"]
        for folder in (run, whole)
    ]
    assert first[0] == pytest.approx(first[1], rel=1e-6)
