"""What is due at a step: how many steps there are, the learning rate, checkpoints, validations."""

import math

from geoembed.training.order import GlobalOrder
from geoembed.training.settings import TrainingSettings

__all__ = [
    "checkpoint_due",
    "count_validations",
    "learning_rate",
    "total_steps",
    "validation_due",
]


def total_steps(settings: TrainingSettings, order: GlobalOrder) -> int:
    """Say how many steps a run takes.

    Parameters
    ----------
    settings : TrainingSettings
        ``loop.steps``, or ``loop.epochs`` rounded up to whole steps.
    order : GlobalOrder
        Of the run.

    Returns
    -------
    int
        0 or more.

    Examples
    --------
    >>> settings = TrainingSettings(data={"kind": "bluemarble"}, loop={"epochs": 3.0, "batch": 2})
    >>> total_steps(settings, GlobalOrder(range(5), batch=2, seed=0))
    8
    """
    return settings.loop.steps or math.ceil(settings.loop.epochs * order.steps_per_epoch)


def learning_rate(settings: TrainingSettings, step: int, order: GlobalOrder) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    settings : TrainingSettings
        Its `optimiser` section says how the rate changes, its `loop` when the run ends.
    step : int
        Number of the step, from 0.
    order : GlobalOrder
        Says in which epoch the step begins.

    Returns
    -------
    float
        A function of what is given alone, so that it needs no state in a checkpoint. Over
        ``warmup_steps`` it grows in equal parts to what the schedule says, which counts from the
        start of the run for ``"step"``, and from the end of the warm-up for ``"cosine"``.

    Examples
    --------
    >>> settings = TrainingSettings(
    ...     data={"kind": "bluemarble"},
    ...     optimiser={"lr": 1.0, "gamma": 0.5, "warmup_steps": 2},
    ...     loop={"batch": 2},
    ... )
    >>> order = GlobalOrder(range(6), batch=2, seed=0)
    >>> [learning_rate(settings, step, order) for step in range(7)]
    [0.5, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]
    """
    optimiser = settings.optimiser
    warmup = optimiser.warmup_steps
    rate = optimiser.lr
    if optimiser.schedule == "step":
        # Whole numbers: the last digit of a quotient must not move the end of an epoch.
        rate *= optimiser.gamma ** (step * order.batch_size // len(order))
    elif optimiser.schedule == "cosine" and step >= warmup:
        done = (step - warmup) / max(1, total_steps(settings, order) - warmup)
        lowest = optimiser.final_lr
        rate *= lowest + (1.0 - lowest) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    return rate * min(1.0, (step + 1) / warmup) if warmup else rate


def checkpoint_due(settings: TrainingSettings, done: int, order: GlobalOrder) -> bool:
    """Tell whether a checkpoint is written after so many steps, apart from the last one.

    Parameters
    ----------
    settings : TrainingSettings
        ``loop.save_every``; 0 is at the end of every epoch.
    done : int
        Steps that have been taken, 1 or more.
    order : GlobalOrder
        Of the run.

    Returns
    -------
    bool
        Whether it is.

    Examples
    --------
    >>> settings = TrainingSettings(data={"kind": "bluemarble"}, loop={"batch": 2})
    >>> order = GlobalOrder(range(5), batch=2, seed=0)
    >>> [done for done in range(1, 9) if checkpoint_due(settings, done, order)]
    [3, 5, 8]
    """
    every = settings.loop.save_every
    return done % every == 0 if every else _crossed(done, order, 1.0)


def validation_due(settings: TrainingSettings, done: int, order: GlobalOrder) -> bool:
    """Tell whether held-out places are looked up after so many steps, apart from the last one.

    Parameters
    ----------
    settings : TrainingSettings
        ``validation.every``, in epochs; 0 is at the end of the run only.
    done : int
        Steps that have been taken, 1 or more.
    order : GlobalOrder
        Of the run.

    Returns
    -------
    bool
        Whether they are.

    Examples
    --------
    >>> settings = TrainingSettings(
    ...     data={"kind": "bluemarble"}, loop={"batch": 2}, validation={"every": 2.0}
    ... )
    >>> order = GlobalOrder(range(5), batch=2, seed=0)
    >>> [done for done in range(1, 11) if validation_due(settings, done, order)]
    [5, 10]
    """
    every = settings.validation.every
    return bool(every) and _crossed(done, order, every)


def count_validations(settings: TrainingSettings, order: GlobalOrder) -> int:
    """Say how often held-out places are looked up in a run that goes to its end.

    Parameters
    ----------
    settings : TrainingSettings
        ``validation.every``, in epochs, and when the run ends.
    order : GlobalOrder
        Of the run.

    Returns
    -------
    int
        Those of `validation_due`, and one at the end where the last step is none of them.

    Examples
    --------
    >>> settings = TrainingSettings(
    ...     data={"kind": "bluemarble"},
    ...     loop={"batch": 2, "epochs": 5.0},
    ...     validation={"every": 2.0},
    ... )
    >>> count_validations(settings, GlobalOrder(range(5), batch=2, seed=0))  # 5, 10 and the last
    3
    """
    steps = total_steps(settings, order)
    every = settings.validation.every
    if not every or not steps:
        return 1
    span = every * len(order)
    # A step reaches one multiple at most, unless multiples are nearer than steps.
    due = steps if order.batch_size >= span else int(steps * order.batch_size // span)
    return due + (not validation_due(settings, steps, order))


def _crossed(done: int, order: GlobalOrder, epochs: float) -> bool:
    """Whether the last step has reached another multiple of so many epochs."""
    span = epochs * len(order)
    return done * order.batch_size // span > (done - 1) * order.batch_size // span
