"""A model of its own through the loop: losses by hand, parts, processes, resuming, refusals."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from geoembed.errors import OptionError, TrainingError
from geoembed.training.batches import Batch
from geoembed.training.checkpoint import list_checkpoints, read_checkpoint
from geoembed.training.loop import train
from geoembed.training.memory_data import FeatureArray
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import Split
from geoembed.training.supervised import SupervisedModel, SupervisedStep, SupervisedTask

CENTRES = np.array([[0.0, 10.0], [60.0, -20.0], [-100.0, 40.0]])


class Classifier(SupervisedModel):
    """Two terms: three classes, of which some rows have none; and two classes of weight 0.5."""

    def __init__(self, targets, width):
        super().__init__([1.0, 0.5])
        self.targets = targets
        self.layer = nn.Linear(width, 5)

    def has_terms(self, rows):
        return self.targets[rows] >= 0

    def terms(self, views, rows):
        targets = torch.from_numpy(self.targets[rows]).clamp(min=0)
        logits = self.layer(views)
        losses = [
            cross_entropy(logits[:, :3], targets[:, 0], reduction="none"),
            cross_entropy(logits[:, 3:], targets[:, 1], reduction="none"),
        ]
        return torch.stack(losses, dim=1), logits[:, :3].argmax(dim=1) == targets[:, 0]

    def places(self, views):
        return CENTRES[self.layer(views).mean(dim=1)[:, :3].argmax(dim=1)]


class Cells(SupervisedTask):
    def __init__(self, targets, **facts):
        self.targets, self.told = targets, facts

    def facts(self):
        return {"task": "cells", **self.told}

    def build_model(self, settings, data, device):
        torch.manual_seed(settings.seed)
        return Classifier(self.targets, data.dimension).to(device)


def world(rows=60):
    """Features that say which of three places a picture is from."""
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 3, rows)
    features = np.eye(3)[cells] + rng.normal(0.0, 0.05, (rows, 3))
    targets = np.column_stack([cells, cells % 2])
    targets[::7, 0] = -1
    targets[::11] = -1
    data = FeatureArray(CENTRES[cells], [str(row) for row in range(rows)], features[:, None])
    return data, targets


def settings(**loop):
    return TrainingSettings.model_validate(
        {
            "data": {"kind": "features", "path": "memory"},
            "optimiser": {"lr": 0.05, "schedule": "constant", "weight_decay": 0.0},
            "loop": {"batch": 12, "steps": 30, "device": "cpu", **loop},
            "validation": {"every": 2.0},
        }
    )


def everything_but(held, rows):
    nothing = np.empty(0, dtype=np.int64)
    return Split(np.setdiff1d(np.arange(rows), held), np.asarray(held), nothing, nothing)


def batch_of(data, rows, valid=None):
    rows = np.asarray(rows)
    views = torch.from_numpy(data.features(rows, np.zeros((len(rows), 1), dtype=np.int64)))
    valid = np.ones(len(rows), bool) if valid is None else valid
    return Batch(rows, data.lonlat[rows], views, valid)


def test_the_loss_is_the_weighted_sum_of_means_over_rows_that_have_the_term():
    data, targets = world()
    model = Cells(targets).build_model(settings(), data, "cpu")
    rows, valid = np.arange(12), np.ones(12, dtype=bool)
    valid[3] = False
    expected = 0.0
    with torch.no_grad():
        logits = model.layer(torch.from_numpy(data.features(rows, np.zeros((12, 1), int))[:, 0]))
    for columns, term, weight in ((slice(3), 0, 1.0), (slice(3, 5), 1, 0.5)):
        kept = [row for row in rows if valid[row] and targets[row, term] >= 0]
        own = [float(-logits[r, columns].log_softmax(0)[targets[r, term]]) for r in kept]
        expected += weight * np.mean(own)
    result = SupervisedStep(model, settings())(batch_of(data, rows, valid), 0, 1e-3)
    assert result.loss == pytest.approx(expected, rel=1e-6)
    asked = [row for row in rows if valid[row] and (targets[row] >= 0).any()]
    right = sum(int(logits[row, :3].argmax()) == targets[row, 0] for row in asked)
    # A row with the second term only counts, and its first answer is held against class 0.
    there = [row for row in asked if targets[row, 0] >= 0]
    assert abs(result.accuracy * len(asked) - right) <= len(asked) - len(there)


def test_parts_change_nothing():
    data, targets = world()
    gradients = []
    for accumulate in (1, 4):
        run = settings(accumulate=accumulate)
        model = Cells(targets).build_model(run, data, "cpu")
        SupervisedStep(model, run)(batch_of(data, np.arange(12)), 0, 1e-3)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert (gradients[0] - gradients[1]).norm() < 1e-6 * gradients[0].norm()


def test_a_run_learns_scores_held_out_rows_and_goes_on_bit_for_bit(tmp_path):
    data, targets = world()
    split = everything_but([0, 1, 2, 3, 4, 5, 6, 7], len(data))
    whole = train(settings(), tmp_path / "whole", data=data, split=split, task=Cells(targets))
    assert whole.metrics["within_25"] == 100.0
    assert whole.metrics["loss"] < 0.5 < whole.best["scores"]["loss"]
    two = tmp_path / "two"
    train(settings(steps=13), two, data=data, split=split, task=Cells(targets))
    train(settings(), two, data=data, split=split, task=Cells(targets), resume=True)
    last = [
        read_checkpoint(list_checkpoints(folder / "checkpoints")[30])
        for folder in (tmp_path / "whole", two)
    ]
    for key, tensor in last[0]["training"]["model"].items():
        assert torch.equal(tensor, last[1]["training"]["model"][key])
    assert last[0]["task"] == {"task": "cells"}


def test_another_task_does_not_go_on(tmp_path):
    data, targets = world()
    split = everything_but([], len(data))
    train(settings(steps=2), tmp_path, data=data, split=split, task=Cells(targets, cells=3))
    other = Cells(targets, cells=4)
    with pytest.raises(TrainingError, match=r"of another task:\n  cells: 3 -> 4\nGo on"):
        train(settings(steps=4), tmp_path, data=data, split=split, task=other, resume=True)


def test_a_loss_that_is_no_number_names_the_rows(tmp_path):
    data, targets = world()
    task = Cells(targets)
    model = task.build_model(settings(), data, "cpu")
    with torch.no_grad():
        model.layer.bias[0] = torch.nan
    with pytest.raises(TrainingError, match="The loss of step 0 is nan"):
        SupervisedStep(model, settings())(batch_of(data, np.arange(12)), 0, 1e-3)


def test_pictures_are_refused_by_a_model_of_features(tmp_path):
    class Pictures:
        lonlat, names, digest = CENTRES, ["a", "b", "c"], "x"

        def __len__(self):
            return 3

        def picture(self, row):
            raise AssertionError

    task = Cells(np.zeros((3, 2), dtype=np.int64))
    task.build_model = lambda *_: Classifier(task.targets, 3)
    with pytest.raises(OptionError, match="trains on features of a frozen tower"):
        train(settings(batch=2), tmp_path, data=Pictures(), split=everything_but([], 3), task=task)


TWO = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
import numpy as np, torch
spec = spec_from_file_location("cases", sys.argv[1])
cases = module_from_spec(spec)
spec.loader.exec_module(cases)
from geoembed.training.distributed import start_processes
data, targets = cases.world()
with start_processes("cpu") as processes:
    run = cases.settings(accumulate=2)
    model = cases.Cells(targets).build_model(run, data, "cpu")
    step = cases.SupervisedStep(model, run, processes)
    own = processes.share(12)
    result = step(cases.batch_of(data, np.arange(12)[own]), 0, 1e-3)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    told = (result.loss, result.accuracy, gradient)
    torch.save(told, f"{sys.argv[2]}/rank{processes.rank}.pt")
"""


def test_two_processes_give_the_gradients_of_one(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ended = subprocess.run(
        [*command, str(script), __file__, str(tmp_path)],
        env={**__import__("os").environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    data, targets = world()
    model = Cells(targets).build_model(settings(), data, "cpu")
    alone = SupervisedStep(model, settings())(batch_of(data, np.arange(12)), 0, 1e-3)
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    for rank in range(2):
        loss, accuracy, got = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert (loss, accuracy) == pytest.approx((alone.loss, alone.accuracy), rel=1e-6)
        assert (got - gradient).norm() < 1e-6 * gradient.norm()
