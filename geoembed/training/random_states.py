"""The global random generators of Python, NumPy and torch, around a run and in its checkpoints.

The pipeline draws by counters (`geoembed.training.randomness`); these are for what else may draw
in a process, such as layers of a plugin.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["random_states", "restore_random_states", "seeded"]


def random_states() -> dict[str, Any]:
    """Return the states of all generators, as a checkpoint holds them.

    Returns
    -------
    dict
        Of numbers, texts and tensors.

    Examples
    --------
    >>> before = random_states()
    >>> drawn = random.random(), np.random.random(), torch.rand(1)
    >>> restore_random_states(before)
    >>> drawn == (random.random(), np.random.random(), torch.rand(1))
    True
    """
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ),
        "torch": torch.get_rng_state(),
        # Of this process's GPU; asking for those of others would take memory on each.
        "cuda": torch.cuda.get_rng_state() if _uses_gpu() else None,
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Put all generators where they were.

    Parameters
    ----------
    states : mapping
        Of `random_states`. That of a GPU is left out where there is none.
    """
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed all generators for the length of a block; afterwards they are where they were.

    Parameters
    ----------
    seed : int
        At least 0, of any size.

    Yields
    ------
    None
    """
    before = random_states()
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed % 2**63)
    try:
        yield
    finally:
        restore_random_states(before)


def _uses_gpu() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
