"""Lines of a run: what stands in them, what is cut off, trackers, curves, bad pictures."""

import csv
import json
import sys
import time
import types

import pytest

from geoembed.errors import MissingExtraError, TrainingError
from geoembed.training.bad_pictures import gather_bad, write_bad
from geoembed.training.checkpoint import CheckpointWarning
from geoembed.training.curves import draw_curves
from geoembed.training.distributed import Processes
from geoembed.training.logs import COLUMNS, RunLog, read_metrics
from geoembed.training.moving import StepResult
from geoembed.training.progressing import Means, Pace, Progress
from geoembed.training.run_folder import RunFolder
from geoembed.training.settings import TrainingSettings
from geoembed.training.trackers import open_trackers


@pytest.fixture
def folder(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.prepare(resume=False)
    return run


def write(folder, rows=0, steps=(10, 20, 30), **options):
    log = RunLog(folder, rows=rows, **options)
    for step in steps:
        log.metrics(step, step / 8, {"lr": 1e-3 / 3, "loss": 5.0 / step, "skipped": 0})
    log.metrics(steps[-1], steps[-1] / 8, {"val_within_25": 3.25, "val_median_km": 800.125})
    log.close()
    return log


def test_both_files_hold_the_same(folder):
    write(folder)
    with folder.metrics_csv.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == list(COLUMNS)
    rows = read_metrics(folder)
    assert [row["step"] for row in rows] == [10, 20, 30, 30]
    for line, row in zip(table, rows, strict=True):
        # Every digit: what is read is what was.
        assert {name: float(text) for name, text in line.items() if text} == row
    assert rows[0]["lr"] == 1e-3 / 3
    assert rows[3] == {"step": 30, "epoch": 3.75, "val_within_25": 3.25, "val_median_km": 800.125}


@pytest.mark.parametrize("rows", [0, 1, 2, 4])
def test_lines_after_the_checkpoint_are_cut_and_come_again(folder, rows):
    write(folder)
    whole = folder.metrics_csv.read_bytes(), folder.metrics_jsonl.read_bytes()
    # What a killed process was writing.
    for path in (folder.metrics_csv, folder.metrics_jsonl):
        path.write_bytes(path.read_bytes() + b'{"step": 4')
    kept = read_metrics(folder)[:rows]
    log = RunLog(folder, rows=rows)
    assert read_metrics(folder) == kept
    assert log.rows == rows
    log.close()
    if rows == 2:
        log = RunLog(folder, rows=2)
        log.metrics(30, 30 / 8, {"lr": 1e-3 / 3, "loss": 5.0 / 30, "skipped": 0})
        log.metrics(30, 30 / 8, {"val_within_25": 3.25, "val_median_km": 800.125})
        log.close()
        assert (folder.metrics_csv.read_bytes(), folder.metrics_jsonl.read_bytes()) == whole


def test_lost_lines_are_told(folder):
    write(folder)
    folder.metrics_jsonl.write_text("")
    with pytest.warns(CheckpointWarning, match="has seen 3 lines of metrics.csv, and 0 are there"):
        RunLog(folder, rows=3).close()


def test_speed_is_kept_apart_and_never_cut(folder):
    for rows in (0, 0):
        log = RunLog(folder, rows=rows)
        log.speed("2024-05-01T12:00:00+00:00", 10, 2.5, 102.4, 0.03125)
        log.close()
    lines = folder.speed_csv.read_text().splitlines()
    assert lines[0] == "time,step,seconds,pictures_per_s,wait_share"
    assert lines[1:] == ["2024-05-01T12:00:00+00:00,10,2.500,102.4,0.0312"] * 2


def test_a_full_disk_is_told(folder, monkeypatch):
    log = RunLog(folder)

    class Full:
        name = "metrics.csv"

        def write(self, text):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    log._csv.close()
    log._csv = Full()
    with pytest.raises(TrainingError, match="cannot be written: No space left on device. Make"):
        log.metrics(1, 0.1, {"loss": 1.0})
    log.close()


def test_a_log_that_cannot_be_opened_is_told(folder):
    folder.metrics_csv.mkdir()
    with pytest.raises(TrainingError, match="metrics.csv cannot be"):
        RunLog(folder)


def test_means_are_those_since_the_last_line():
    means = Means()
    results = [StepResult(4.0, 0.5, 14.0, 2.0, False), StepResult(2.0, 0.25, 15.0, 4.0, False)]
    for result in results:
        means.add(result, lr=0.5)
    progress = Progress(step=2, means=means)
    again = Progress.from_state(json.loads(json.dumps(progress.to_state())))
    assert again == progress
    expected = {
        "lr": 0.5, "loss": 3.0, "accuracy": 0.375, "scale": 15.0, "grad_norm": 3.0, "skipped": 0,
    }  # fmt: skip
    assert means.take() == expected
    assert means == Means()
    assert again.means.take() == expected


def test_a_step_that_overflowed_counts_but_not_its_gradient():
    means = Means()
    means.add(StepResult(4.0, 0.5, 14.0, float("inf"), True), lr=0.5)
    assert means.take()["grad_norm"] == float("inf")
    means.add(StepResult(4.0, 0.5, 14.0, float("inf"), True), lr=0.5)
    means.add(StepResult(4.0, 0.5, 14.0, 3.0, False), lr=0.5)
    taken = means.take()
    assert (taken["grad_norm"], taken["skipped"]) == (3.0, 1)


def test_the_share_of_waiting(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("geoembed.training.progressing.time.perf_counter", lambda: clock[0])
    pace = Pace(batch=50)

    def feed():
        for _ in range(4):
            clock[0] += 1.0  # reading
            yield "batch"

    for _ in pace.waiting(feed()):
        clock[0] += 3.0  # the step
        pace.pause(0.0)
    clock[0] += 10.0  # a validation
    pace.pause(10.0)
    assert pace.seconds == pytest.approx(16.0)
    assert pace.wait_share == pytest.approx(0.25)
    assert pace.pictures_per_s == pytest.approx(4 * 50 / 16)
    pace.restart()
    assert (pace.steps, pace.seconds, pace.wait_share) == (0, 0.0, 0.0)


def test_the_best_and_how_long_ago_it_was():
    progress = Progress(step=5)
    assert progress.judge("within_25", {"within_25": 2.0}, 1.0)
    progress.step = 10
    assert not progress.judge("within_25", {"within_25": 2.0}, 2.0)
    assert not progress.judge("within_25", {"within_25": 1.0}, 3.0)
    assert progress.worse == 2
    assert progress.best == {
        "step": 5, "epoch": 1.0, "metric": "within_25", "value": 2.0, "scores": {"within_25": 2.0},
    }  # fmt: skip
    assert progress.judge("within_25", {"within_25": 3.0}, 4.0)
    assert progress.worse == 0


def test_the_best_is_compared_by_the_score_that_is_asked_for_now():
    progress = Progress()
    assert progress.judge("median_km", {"median_km": 900.0, "within_25": 2.0}, 1.0)
    assert not progress.judge("within_25", {"median_km": 800.0, "within_25": 1.0}, 2.0)
    assert progress.judge("within_25", {"median_km": 950.0, "within_25": 3.0}, 3.0)


# -- trackers --------------------------------------------------------------------------------------

SETTINGS = TrainingSettings.model_validate({"name": "a run", "data": {"kind": "bluemarble"}})


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder.tensorboard))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_gets_the_same_numbers_and_forgets_what_comes_again(folder, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    write(folder, trackers=open_trackers(folder, SETTINGS, 0))
    found = scalars(folder)
    assert [step for step, _ in found["train/loss"]] == [10, 20, 30]
    assert found["train/loss"][0][1] == pytest.approx(0.5)
    assert found["validation/median_km"] == [(30, 800.125)]
    # Resumed after step 10. Files are read in the order of their names, which count seconds.
    time.sleep(1.1)
    write(folder, rows=1, steps=(20, 30), trackers=open_trackers(folder, SETTINGS, 10))
    assert [step for step, _ in scalars(folder)["train/loss"]] == [10, 20, 30]


def test_without_tensorboard(folder, monkeypatch):
    monkeypatch.setattr("geoembed.training.trackers.find_spec", lambda name: None)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert open_trackers(folder, SETTINGS, 0) == []


class Wandb(types.ModuleType):
    """As much of Weights & Biases as is used."""

    def __init__(self, broken=""):
        super().__init__("wandb")
        self.asked, self.logged, self.broken, self.finished = [], [], broken, 0
        self.id = "abc123"

    def init(self, **options):
        if self.broken:
            raise RuntimeError(self.broken)
        self.asked.append(options)
        return self

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch):
    module = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(
        "geoembed.training.trackers.find_spec", lambda name: name if name == "wandb" else None
    )
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return module


def test_weights_and_biases_only_where_it_is_asked_for(folder, monkeypatch, wandb):
    assert open_trackers(folder, SETTINGS, 0) == []
    monkeypatch.setenv("WANDB_MODE", "offline")
    write(folder, trackers=open_trackers(folder, SETTINGS, 0))
    (options,) = wandb.asked
    assert (options["name"], options["project"], options["id"]) == ("a run", "geoembed", None)
    assert options["config"]["loop.batch"] == 512
    assert wandb.logged[0] == {
        "step": 10, "train/epoch": 1.25, "train/lr": 1e-3 / 3, "train/loss": 0.5,
        "train/skipped": 0,
    }  # fmt: skip
    assert wandb.finished == 1
    # The same run goes on.
    open_trackers(folder, SETTINGS, 10)
    assert wandb.asked[1]["id"] == "abc123"


def test_weights_and_biases_that_fails_costs_no_run(folder, monkeypatch, wandb):
    monkeypatch.setenv("WANDB_API_KEY", "key")
    wandb.broken = "no network"
    with pytest.warns(UserWarning, match="Weights & Biases is left out from here on: no network"):
        trackers = open_trackers(folder, SETTINGS, 0)
    write(folder, trackers=trackers)
    assert wandb.logged == []


def test_a_tracker_that_fails_later_costs_no_run(folder, monkeypatch, wandb):
    monkeypatch.setenv("WANDB_API_KEY", "key")
    log = RunLog(folder, trackers=open_trackers(folder, SETTINGS, 0))
    log.metrics(10, 1.25, {"loss": 0.5})
    monkeypatch.setattr(Wandb, "log", lambda self, values: 1 / 0)
    with pytest.warns(UserWarning, match="Weights & Biases is left out from here on: division"):
        log.metrics(20, 2.5, {"loss": 0.25})
    # Once is enough, and whoever failed is not asked to end in order.
    log.metrics(30, 3.75, {"loss": 0.125})
    log.close()
    assert (len(wandb.logged), wandb.finished) == (1, 0)
    assert [row["step"] for row in read_metrics(folder)] == [10, 20, 30]


def test_tensorboard_on_a_full_disk_costs_no_run(folder, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    (tracker,) = open_trackers(folder, SETTINGS, 0)
    writer = tracker._tracker._writer

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "add_scalar", full)
    with pytest.warns(UserWarning, match="TensorBoard is left out .*: .*No space left on device"):
        tracker.log(1, {"loss": 1.0})
    tracker.log(2, {"loss": 1.0})
    tracker.close()
    writer.close()


# -- curves ----------------------------------------------------------------------------------------


def test_curves_are_drawn_at_any_time(folder):
    assert draw_curves(folder.path) == folder.curves  # before the first line
    write(folder)
    with folder.metrics_jsonl.open("a") as file:
        file.write('{"step": 4')  # being written
    before = folder.curves.read_bytes()
    draw_curves(folder.path, "A run")
    assert folder.curves.read_bytes() != before
    assert folder.curves.read_bytes().startswith(b"\x89PNG")


def test_curves_without_matplotlib_name_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"Drawing curves needs.*geoembed\[plot\]"):
        draw_curves(folder.path)


# -- bad pictures ----------------------------------------------------------------------------------


class Data:
    names = ("a.jpg", 'b "quoted", é.jpg', "c.jpg")
    missing = ("lost.jpg",)
    reasons = ("There is no such file.",)


def listed(folder):
    with folder.bad_pictures.open(newline="", encoding="utf-8") as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


def test_bad_pictures_are_listed_with_reasons_and_stay_listed(folder):
    assert write_bad(folder, Data, {1: "It is empty."}) == 2
    first = [
        ("lost.jpg", "", "There is no such file."),
        ('b "quoted", é.jpg', "1", "It is empty."),
    ]
    assert listed(folder) == first
    # A resumed run, which has not met it again.
    assert write_bad(folder, Data, {0: "It is torn."}) == 3
    assert listed(folder) == [*first, ("a.jpg", "0", "It is torn.")]


def test_no_bad_pictures_are_a_list_as_well(folder):
    class Good:
        names = ("a.jpg",)

    assert write_bad(folder, Good, {}) == 0
    assert folder.bad_pictures.read_text() == "name,row,reason\n"


def test_what_each_process_found_is_put_together():
    found = [{3: "no file"}, {}, {11: "é, torn", 4: "x" * 300}]
    sent = []

    class Rank(Processes):
        def gather(self, tensor, count):
            sent.append(tensor)
            return tensor

    # What each would send; then what one gets who receives it all.
    for rank, bad in enumerate(found):
        gather_bad_alone(Rank(rank=rank, world=3), bad)
    sizes = [int(tensor) for tensor in sent[::2]]

    class Last(Processes):
        calls = 0

        def gather(self, tensor, count):
            import torch

            assert count == 3
            type(self).calls += 1
            if self.calls == 1:
                return torch.tensor(sizes)
            rows = torch.zeros(3, max(sizes), dtype=torch.uint8)
            for row, text in zip(rows, sent[1::2], strict=True):
                row[: text.shape[1]] = text[0]
            assert tensor.shape == (1, max(sizes))
            return rows

    together = gather_bad(Last(rank=2, world=3), found[2])
    assert together == {3: "no file", 11: "é, torn", 4: "x" * 300}


def gather_bad_alone(processes, bad):
    assert gather_bad(processes, bad) == bad
