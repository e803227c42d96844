"""Learning rates against torch's own schedulers; when checkpoints and validations are due."""

import math

import numpy as np
import pytest
import torch

from geoembed.training.order import GlobalOrder
from geoembed.training.schedule import (
    checkpoint_due,
    count_validations,
    learning_rate,
    total_steps,
    validation_due,
)
from geoembed.training.settings import TrainingSettings


def settings_of(optimiser=None, loop=None, validation=None):
    return TrainingSettings.model_validate(
        {
            "data": {"kind": "bluemarble"},
            "optimiser": optimiser or {},
            "loop": {"batch": 8, **(loop or {})},
            "validation": validation or {},
        }
    )


def rates(settings, order, count):
    return np.array([learning_rate(settings, step, order) for step in range(count)])


def torch_rates(make, count):
    """What torch's scheduler gives, stepped after every step of the optimiser."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-5)
    scheduler = make(optimiser)
    found = []
    for _ in range(count):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return np.array(found)


def test_constant():
    order = GlobalOrder(np.arange(40), batch=8, seed=0)
    found = rates(settings_of({"lr": 3e-5, "schedule": "constant"}), order, 12)
    assert (found == 3e-5).all()


def test_step_is_the_published_one():
    # Epochs of 5 steps, each of which multiplies the rate by 0.87.
    order = GlobalOrder(np.arange(40), batch=8, seed=0)
    found = rates(settings_of({"lr": 3e-5, "schedule": "step", "gamma": 0.87}), order, 23)
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.StepLR(o, 5, gamma=0.87), 23)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_step_changes_where_an_epoch_begins_within_a_batch():
    # 13 rows, 8 a step: epochs begin at the rows 13, 26, 39 of the stream, in steps 1, 3 and 4;
    # a step has the rate of the epoch that it begins in.
    order = GlobalOrder(np.arange(13), batch=8, seed=0)
    found = rates(settings_of({"lr": 1.0, "schedule": "step", "gamma": 0.5}), order, 8)
    assert found.tolist() == [0.5 ** (8 * step // 13) for step in range(8)]
    assert found.tolist() == [1.0, 1.0, 0.5, 0.5, 0.25, 0.125, 0.125, 0.0625]


def test_step_after_many_epochs_has_no_rounding_of_its_own():
    # 3 is no divisor in binary: k * (1 / 3) epochs would fall short of whole ones.
    order = GlobalOrder(np.arange(24), batch=8, seed=0)
    settings = settings_of({"lr": 1.0, "schedule": "step", "gamma": 0.5})
    for epoch in range(200):
        assert learning_rate(settings, 3 * epoch, order) == 0.5**epoch
        if epoch:
            assert learning_rate(settings, 3 * epoch - 1, order) == 0.5 ** (epoch - 1)


def test_cosine_is_torchs():
    order = GlobalOrder(np.arange(40), batch=8, seed=0)
    settings = settings_of({"lr": 3e-5, "schedule": "cosine", "final_lr": 0.1}, {"steps": 20})
    found = rates(settings, order, 20)
    expected = torch_rates(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20, eta_min=3e-6), 20
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert learning_rate(settings, 20, order) == pytest.approx(3e-6)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_warm_up_grows_in_equal_parts_and_never_is_zero(schedule):
    order = GlobalOrder(np.arange(400), batch=8, seed=0)
    settings = settings_of({"lr": 1.0, "schedule": schedule, "warmup_steps": 10}, {"steps": 110})
    found = rates(settings, order, 110)
    np.testing.assert_allclose(found[:10], np.arange(1, 11) / 10)
    assert found[10] == 1.0
    if schedule == "cosine":
        # From the end of the warm-up down to nothing.
        expected = [0.5 * (1 + math.cos(math.pi * step / 100)) for step in range(100)]
        np.testing.assert_allclose(found[10:], expected)


@pytest.mark.parametrize(
    ("loop", "steps"),
    [
        ({"epochs": 2.0}, 10),
        ({"epochs": 0.5}, 3),
        ({"epochs": 0.0}, 0),
        ({"epochs": 7.0, "steps": 4}, 4),
    ],
)
def test_total_steps(loop, steps):
    order = GlobalOrder(np.arange(40), batch=8, seed=0)
    assert total_steps(settings_of(loop=loop), order) == steps


def due(function, settings, order, count):
    return [done for done in range(1, count + 1) if function(settings, done, order)]


def test_checkpoints_are_due_after_every_epoch_or_so_many_steps():
    order = GlobalOrder(np.arange(20), batch=8, seed=0)  # 2.5 steps an epoch
    assert due(checkpoint_due, settings_of(), order, 10) == [3, 5, 8, 10]
    assert due(checkpoint_due, settings_of(loop={"save_every": 4}), order, 10) == [4, 8]


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (1.0, [3, 5, 8, 10]),
        (2.0, [5, 10]),
        (0.4, list(range(1, 11))),  # every step is one of them
        (0.1, list(range(1, 11))),  # more often than there are steps
        (0.5, [2, 3, 4, 5, 7, 8, 9, 10]),
        (0.0, []),
    ],
)
def test_validations_are_due_by_epochs_or_parts_of_them(every, expected):
    order = GlobalOrder(np.arange(20), batch=8, seed=0)
    settings = settings_of(validation={"every": every})
    assert due(validation_due, settings, order, 10) == expected


@pytest.mark.parametrize("rows", [20, 24, 29])  # 2.5, 3 and 3.625 steps an epoch
@pytest.mark.parametrize("every", [0.0, 0.1, 0.4, 0.5, 1.0, 2.0, 7.0])
def test_validations_are_counted_as_a_run_makes_them(rows, every):
    order = GlobalOrder(np.arange(rows), batch=8, seed=0)
    for loop in ({"epochs": 3.0}, {"epochs": 2.1}, {"epochs": 0.2}, {"steps": 11}):
        settings = settings_of(loop=loop, validation={"every": every})
        steps = total_steps(settings, order)
        made = {*due(validation_due, settings, order, steps), steps}
        assert count_validations(settings, order) == len(made), loop


def test_nothing_depends_on_where_a_run_was_resumed():
    order = GlobalOrder(np.arange(29), batch=8, seed=0)
    settings = settings_of({"schedule": "cosine", "warmup_steps": 3}, {"steps": 50})
    backwards = [learning_rate(settings, step, order) for step in reversed(range(50))]
    assert backwards[::-1] == rates(settings, order, 50).tolist()
