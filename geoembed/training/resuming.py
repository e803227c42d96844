"""Going on from a checkpoint: whether it fits, and what is no longer bit-exact."""

import json
import warnings
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from geoembed.errors import TrainingError
from geoembed.training.checkpoint import CheckpointWarning
from geoembed.training.settings import TrainingSettings
from geoembed.training.settings_text import differences

__all__ = ["FREE", "check_resumable", "check_settings"]

FREE: Final = (
    "name",
    "summary",
    "licence",
    "training_data",
    "data.path",
    "data.images",
    "data.max_bad",
    "image.weights",
    "loop.epochs",
    "loop.steps",
    "loop.workers",
    "loop.save_every",
    "loop.keep_last",
    "loop.log_every",
    "loop.patience",
    "loop.max_loss",
    "validation.",
)
"""Settings that may change on a resume; a name with a dot at its end is a section."""

# These may change too, but move the last digits.
_INEXACT: Final = ("loop.accumulate", "loop.device", "loop.compile", "loop.deterministic")


def check_settings(
    before: TrainingSettings, now: TrainingSettings, where: str, *, warn: bool = True
) -> None:
    """Refuse to go on with settings that make another run.

    Parameters
    ----------
    before, now : TrainingSettings
        Of the run that is there, and those given.
    where : str
        What holds the former.
    warn : bool
        Warn too; False where the checkpoint is checked later, which would say it once more.

    Raises
    ------
    TrainingError
        If others than the `FREE` settings differ; all are listed.

    Warns
    -----
    CheckpointWarning
        If the run goes on, but no longer bit for bit; or if its end moves under a cosine, and with
        it the rate.

    Examples
    --------
    >>> from geoembed.training.settings import DataSettings
    >>> data = DataSettings(kind="bluemarble")
    >>> check_settings(  # doctest: +ELLIPSIS
    ...     TrainingSettings(data=data), TrainingSettings(data=data, seed=1), "The checkpoint"
    ... )
    Traceback (most recent call last):
        ...
    geoembed.errors.TrainingError: The checkpoint is of other settings:
      seed: 0 -> 1
    ...
    """
    found = [line for line in differences(before, now) if not line.startswith(_prefixes(FREE))]
    inexact = [line for line in found if line.startswith(_prefixes(_INEXACT))]
    others = [line for line in found if line not in inexact]
    if others:
        listed = "".join(f"\n  {line}" for line in others)
        raise TrainingError(
            f"{where} is of other settings:{listed}\nGo on with those that it was started with, or "
            "start the new ones in another folder."
        )
    if not warn:
        return
    if inexact:
        _warn(inexact)
    if now.optimiser.schedule == "cosine" and _end(before) != _end(now):
        warnings.warn(
            "The run goes on to another end, and optimiser.schedule = 'cosine' takes the learning "
            "rate down to the end: this is not the run that would have gone there without a "
            f"break. {_end(before)} -> {_end(now)}. Train anew in another folder for that one.",
            CheckpointWarning,
            stacklevel=3,
        )


def _end(settings: TrainingSettings) -> str:
    loop = settings.loop
    return f"loop.steps = {loop.steps:,}" if loop.steps else f"loop.epochs = {loop.epochs:g}"


def check_resumable(
    state: Mapping[str, Any], settings: TrainingSettings, facts: Mapping[str, Any], where: str
) -> None:
    """Refuse a checkpoint of another run, and say if numbers will differ in their last digits.

    Parameters
    ----------
    state : mapping
        The checkpoint.
    settings : TrainingSettings
        Of the run that is to go on.
    facts : mapping
        ``"data"``, ``"order"`` and ``"world"`` of it: digests, and the number of processes; of
        data in memory ``"digests"``, those of names, places and features; ``"task"``, what the
        task says of itself; ``"tower"``, the digest of a frozen tower.
    where : str
        The checkpoint's file.

    Raises
    ------
    TrainingError
        If settings, task, frozen tower, data or rows differ.

    Warns
    -----
    CheckpointWarning
        If the number of processes differs: the order of samples stays, sums are rounded otherwise.
    """
    try:
        before = TrainingSettings.model_validate(json.loads(state["settings"]))
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
        raise TrainingError(
            f"The checkpoint {where} is of another version of geoembed, whose settings this one "
            f"does not know: {fields}. Go on with that version."
        ) from error
    check_settings(before, settings, f"The checkpoint {where}")
    _check_task(state.get("task", {}), facts.get("task", {}), where)
    _check_tower(state.get("image", {}).get("backbone_sha256", ""), facts.get("tower", ""), where)
    for key, what in (("data", "other data"), ("order", "other training rows")):
        if state[key] != facts[key]:
            raise TrainingError(
                f"The checkpoint {where} is of {what}: their digest was {state[key][:12]} and is "
                f"{facts[key][:12]}. {_differing(state, facts) if key == 'data' else ''}Bring the "
                "data that the run was started with, or start anew in another folder."
            )
    if state["world"] != facts["world"]:
        _warn([f"processes: {state['world']} -> {facts['world']}"])


def _check_task(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Refuse to go on with another task, or with other options of it."""
    if before == now:
        return
    missing = "nothing"
    changed = [
        f"\n  {name}: {before.get(name, missing)!r} -> {now.get(name, missing)!r}"
        for name in sorted({*before, *now})
        if before.get(name, missing) != now.get(name, missing)
    ]
    raise TrainingError(
        f"The checkpoint {where} is of another task:{''.join(changed)}\nGo on with the one that it "
        "was started with, or start anew in another folder."
    )


def _check_tower(before: str, now: str, where: str) -> None:
    """Refuse to go on with another frozen tower, whose name is the same; where both are known."""
    if before and now and before != now:
        raise TrainingError(
            f"The checkpoint {where} is of another frozen tower: the digest of its weights was "
            f"{before[:12]} and is {now[:12]}. Bring the weights that the run was started with "
            "(image.backbone, image.weights), or start anew in another folder."
        )


def _differing(state: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Say which parts of data in memory are others, where the checkpoint knows them."""
    before, now = state.get("digests", {}), facts.get("digests", {})
    parts = [name for name in now if now[name] != before.get(name)]
    if not before or not parts:
        return ""
    listed = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    return f"What differs: {listed}. "


def warn_inexact(found: list[str]) -> None:
    """Say that a run goes on, but no longer bit for bit.

    Parameters
    ----------
    found : list of str
        What has changed; nothing is said if nothing has.
    """
    if found:
        _warn(found)


def _warn(found: list[str]) -> None:
    warnings.warn(
        "The run goes on in the same order of samples, but its numbers are no longer bit for bit "
        f"those of a run without a break: {'; '.join(found)}.",
        CheckpointWarning,
        stacklevel=4,
    )


def _prefixes(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name if name.endswith(".") else f"{name}:" for name in names)
