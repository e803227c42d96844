"""The splits of a protocol, on a table of places."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geoembed.coordinates import Places
from geoembed.evaluation.plans import Fold, Plan, check_plan, random_folds, spatial_folds
from geoembed.evaluation.protocols.reading import Protocol
from geoembed.evaluation.tasks import Task

__all__ = ["protocol_plans"]


def protocol_plans(
    protocol: Protocol, X: Any, places: Places, task: Task, *, seeds: int, on_absent: str
) -> list[Plan]:
    """Divide the rows as a protocol says.

    Parameters
    ----------
    protocol : Protocol
        Which splits.
    X : GeoDataFrame
        The places, for splitters.
    places : Places
        The same.
    task : Task
        What is predicted.
    seeds : int
        How often every split is made, with the protocol's seed and those that follow it.
    on_absent : {"raise", "wrong"}
        What becomes of labels that are not learned.

    Returns
    -------
    list of Plan

    Raises
    ------
    TargetError, OptionError
        If a split does not fit the rows.
    """
    plans = []
    for split in protocol.splits:
        every = range(split["seed"], split["seed"] + seeds)
        if split["kind"] == "torch-random-split":
            folds = [_random_split(len(places), split, r, seed) for r, seed in enumerate(every)]
        elif split["kind"] == "random-folds":
            folds = random_folds(places, task, split["folds"], every)
        else:
            folds = spatial_folds(X, split["folds"], split["block_km"], 0.0, every)
        how = _say(split, every)
        plans.append(check_plan(split["name"], folds, how, places, task, on_absent))
    return plans


def _random_split(rows: int, split: Mapping[str, Any], repeat: int, seed: int) -> Fold:
    """One random division as `torch.utils.data.random_split` makes it."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    shares = split["parts"]
    # The division runs in the order of the parts.
    every: Any = range(rows)
    made: Any = torch.utils.data.random_split(every, list(shares.values()), generator)
    parts = {name: np.asarray(p.indices, np.intp) for name, p in zip(shares, made, strict=True)}
    return Fold(repeat, 0, parts["train"], parts["test"], parts.get("validation"))


def _say(split: Mapping[str, Any], seeds: Sequence[int]) -> str:
    kind = split["kind"]
    if kind == "torch-random-split":
        shares = ", ".join(f"{share:.0%} {name}" for name, share in split["parts"].items())
        how = f"rows divided at random: {shares}"
    elif kind == "random-folds":
        how = f"{split['folds']} random folds"
    else:
        how = f"{split['folds']} folds of blocks of {split['block_km']:g} km"
    first, last = seeds[0], seeds[-1]
    return f"{how}; seed {first}" if first == last else f"{how}; seeds {first} to {last}"
