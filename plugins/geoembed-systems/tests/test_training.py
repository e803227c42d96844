"""Class heads through the core's loop: losses by hand, options, seeds, resuming."""

import math

import numpy as np
import pytest
import torch
from geoembed_systems.learning.task import ClassHead, HeadsModel, HeadsTask, smoothed_loss
from geoembed_systems.learning.training import TrainingOptions, train_heads
from geoembed_systems.pictures.features import PictureFeatures
from torch import nn

from geoembed.errors import OptionError, TrainingError
from geoembed.geodesy import distance_km

MEANS = np.array([[0.0, 0.0], [3.0, 1.0], [179.0, 60.0], [-179.5, 60.0]])


class Linear(nn.Module):
    def __init__(self, width=4, classes=4):
        super().__init__()
        self.layer = nn.Linear(width, classes)

    def forward(self, rows):
        return {"cell": self.layer(rows)}


def world(rows=80, seed=0):
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 4, rows)
    features = np.eye(4)[cells] + rng.normal(0.0, 0.1, (rows, 4))
    return PictureFeatures(features), MEANS[cells], ClassHead("cell", cells, 4, means=MEANS)


def answer(logits):
    return MEANS[logits["cell"].argmax(dim=1)]


def learn(features, lonlat, head, facts=None, **options):
    given = {"epochs": 20, "batch": 16, "lr": 0.1, "device": "cpu", "progress": False, **options}
    return train_heads(
        "example", Linear, features, lonlat, [head],
        answer=answer, facts=facts or {}, options=TrainingOptions(**given),
    )  # fmt: skip


def test_smoothed_targets_follow_great_circles_across_the_antimeridian():
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.5]])
    units = HeadsModel(Linear(), [world()[2]], answer, 75.0).units_0
    got = smoothed_loss(logits, torch.tensor([3]), units, tau_km=75.0).item()
    km = [distance_km(*MEANS[3], *mean) for mean in MEANS]
    weights = [math.exp(-d / 75.0) for d in km]
    assert weights[2] / weights[3] > 0.3  # 84 km away, on the other side of the antimeridian
    logs = logits.double().log_softmax(1)[0].tolist()
    expected = -sum(w * log for w, log in zip(weights, logs, strict=True)) / sum(weights)
    # The core's kilometres are those of the ellipsoid.
    assert got == pytest.approx(expected, rel=5e-3)


def test_smoothing_over_almost_nothing_is_the_plain_cross_entropy():
    logits, targets = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    units = HeadsModel(Linear(), [world()[2]], answer, 1.0).units_0
    smooth = smoothed_loss(logits, targets, units, tau_km=1e-3)
    torch.testing.assert_close(
        smooth, nn.functional.cross_entropy(logits, targets, reduction="none")
    )


def test_the_loss_weighs_heads_and_leaves_out_pictures_without_a_class():
    class Two(nn.Module):
        def forward(self, rows):
            return {"coarse": rows[:, :2], "fine": rows[:, 2:]}

    heads = [
        ClassHead("coarse", np.array([0, 1, -1]), 2, weight=0.25),
        ClassHead("fine", np.array([-1, 2, 0]), 3, weight=2.0),
    ]
    model = HeadsTask(Two, heads, answer, {}).build_model(
        TrainingOptions().settings("x", 3), None, "cpu"
    )
    rows = np.arange(3)
    assert model.has_terms(rows).tolist() == [[True, False], [True, True], [False, True]]
    assert model.term_weights.tolist() == [0.25, 2.0]
    losses, right = model.terms(torch.eye(5)[:3], rows)
    assert losses[1, 1].item() == pytest.approx(math.log(3.0))
    assert losses[2, 1].item() == pytest.approx(math.log(2.0 + math.e) - 1.0)
    assert right[2].item()


def test_a_known_world_is_learned_and_seeds_decide():
    features, lonlat, head = world()
    network, run = learn(features, lonlat, head)
    again, _ = learn(features, lonlat, head)
    other, _ = learn(features, lonlat, head, seed=1)
    assert run.ended == "steps"
    assert not network.training
    fresh, _, truth = world(seed=5)
    right = network(torch.from_numpy(fresh.pooled[:, 0]))["cell"].argmax(1).numpy()
    assert (right == truth.targets).mean() > 0.95
    assert torch.equal(network.layer.weight, again.layer.weight)
    assert not torch.equal(network.layer.weight, other.layer.weight)


def test_every_view_is_seen():
    features, lonlat, head = world()
    # Only the second view tells anything.
    views = np.stack([np.zeros_like(features.pooled[:, 0]), features.pooled[:, 0]], axis=1)
    network, _ = learn(PictureFeatures(views), lonlat, head)
    right = network(torch.from_numpy(views[:, 1]))["cell"].argmax(1).numpy()
    assert (right == head.targets).mean() > 0.95


def test_a_run_goes_on_and_refuses_other_facts(tmp_path):
    features, lonlat, head = world()
    whole, _ = learn(features, lonlat, head, epochs=4, overrides={"optimiser.schedule": "constant"})
    kept = {"folder": tmp_path / "run", "overrides": {"optimiser.schedule": "constant"}}
    learn(features, lonlat, head, epochs=2, **kept)
    network, run = learn(features, lonlat, head, epochs=4, resume=True, **kept)
    assert torch.equal(network.layer.weight, whole.layer.weight)
    assert (run.folder / "metrics.csv").is_file()
    with pytest.raises(TrainingError, match="t_max: 'nothing' -> 5"):
        learn(features, lonlat, head, facts={"t_max": 5}, epochs=6, resume=True, **kept)


def test_held_out_places_choose_the_best_weights(tmp_path):
    rng = np.random.default_rng(0)
    features, _, head = world(200)
    lonlat = np.column_stack([rng.uniform(-170, 170, 200), rng.uniform(-60, 60, 200)])
    _, run = learn(
        features, lonlat, head, epochs=3, folder=tmp_path / "run",
        overrides={"validation.every": 1.0, "data.validation": 0.3},
    )  # fmt: skip
    assert run.best["metric"] == "median_km"
    assert run.metrics["median_km"] > 0.0


def test_means_of_the_weights_are_what_comes_back():
    features, lonlat, head = world()
    plain, _ = learn(features, lonlat, head, epochs=2)
    mean, _ = learn(features, lonlat, head, epochs=2, overrides={"optimiser.ema": 0.9})
    assert not torch.equal(plain.layer.weight, mean.layer.weight)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("objective.queue", "training= has 'objective.queue': name a setting"),
        ("loop.epoch", "epochs"),
        ("epochs", "training= has 'epochs'"),
    ],
)
def test_overrides_of_something_else_are_refused(name, match):
    with pytest.raises(OptionError, match=match):
        TrainingOptions(overrides={name: 1}).settings("x", 10)


def test_heads_that_tell_nothing_apart_are_refused():
    with pytest.raises(OptionError, match="'cell' has 1 class: there is nothing to tell apart"):
        ClassHead("cell", np.zeros(3, dtype=np.int64), 1)
    with pytest.raises(OptionError, match="run from 0 to 3, and its classes from 0 to 2"):
        ClassHead("cell", np.array([0, 3]), 3)
    features, lonlat, _ = world()
    none = ClassHead("cell", np.full(80, -1), 4)
    with pytest.raises(OptionError, match="No picture lies in a cell"):
        learn(features, lonlat, none)
