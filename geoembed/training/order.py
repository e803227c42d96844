"""The global order of samples: which rows make up the batch of a step, for every step there is."""

import hashlib
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoembed.errors import OptionError
from geoembed.training.randomness import generator

__all__ = ["GlobalOrder", "rank_part"]

Rows = NDArray[np.int64]

# A batch may begin in one epoch and end in the next: no more are looked at.
_KEPT = 2


class GlobalOrder:
    """The order in which a run sees its training rows, a function of the seed alone.

    The stream of samples is a permutation of all rows for epoch 0, then another for epoch 1, and
    so on. The global batch of step k is the stream from k B to (k + 1) B: batches are always full,
    and one may begin in an epoch and end in the next. In each epoch each row comes exactly once.

    Parameters
    ----------
    ids : array_like of int64, shape (n,)
        Training rows, each once.
    batch : int
        B, the size of the global batch; at most n.
    seed : int
        Of the permutations, 0 or more.

    Attributes
    ----------
    ids : ndarray of int64, shape (n,)
        Training rows.
    batch_size : int
        Size of the global batch.
    seed : int
        Of the permutations.

    Raises
    ------
    OptionError
        If there are fewer rows than `batch`, or one comes twice.

    Notes
    -----
    A permutation sorts 64-bit numbers of a counter-based bit generator, whose stream NumPy keeps
    from release to release, as it does not for `numpy.random.Generator.permutation`.

    Examples
    --------
    >>> order = GlobalOrder([10, 11, 12, 13, 14], batch=2, seed=0)
    >>> stream = np.concatenate([order.batch(step)[0] for step in range(5)])
    >>> sorted(stream[:5].tolist()), sorted(stream[5:].tolist())
    ([10, 11, 12, 13, 14], [10, 11, 12, 13, 14])
    >>> order.steps_per_epoch, order.epoch(5)
    (2.5, 2.0)
    """

    def __init__(self, ids: ArrayLike, batch: int, seed: int) -> None:
        self.ids: Rows = np.array(ids, dtype=np.int64).reshape(-1)
        self.batch_size = batch
        self.seed = seed
        self._permutations: dict[int, NDArray[Any]] = {}
        if batch < 1:
            raise OptionError(f"batch={batch!r} must be 1 or more.")
        if len(self.ids) < batch:
            raise OptionError(
                f"A batch of {batch:,} needs as many training rows, and there are "
                f"{len(self.ids):,}: take a smaller batch (loop.batch), hold out fewer places "
                "(data.validation), or bring more pictures."
            )
        ordered = np.sort(self.ids)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            raise OptionError(f"ids= holds row {twice[0]} twice: each comes once in an epoch.")

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        # Permutations are cheaper to make again than to send to another process.
        return {**self.__dict__, "_permutations": {}}

    @property
    def steps_per_epoch(self) -> float:
        """Steps that an epoch takes, n / B; seldom a whole number."""
        return len(self.ids) / self.batch_size

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what decides the order: the rows, the batch and the seed."""
        digest = hashlib.sha256(f"{self.batch_size} {self.seed} {len(self.ids)} ".encode())
        digest.update(np.ascontiguousarray(self.ids).astype("<i8").tobytes())
        return digest.hexdigest()

    def epoch(self, step: int) -> float:
        """Say how many epochs have passed before a step.

        Parameters
        ----------
        step : int
            Number of a step, from 0.

        Returns
        -------
        float
            step B / n.
        """
        return step * self.batch_size / len(self.ids)

    def batch(self, step: int) -> tuple[Rows, Rows]:
        """Return the global batch of a step.

        Parameters
        ----------
        step : int
            Number of the step, from 0.

        Returns
        -------
        rows : ndarray of int64, shape (B,)
            Rows of the data.
        epochs : ndarray of int64, shape (B,)
            The epoch that each of them belongs to.

        Raises
        ------
        OptionError
            If the step is below 0.
        """
        if step < 0:
            raise OptionError(f"step={step} is below 0: steps are counted from 0.")
        n = len(self.ids)
        # Python's integers: positions of long runs on large data exceed nothing.
        start = step * self.batch_size
        first, at = divmod(start, n)
        whole = self._permutation(first)[at : at + self.batch_size]
        epochs = np.full(self.batch_size, first, dtype=np.int64)
        if len(whole) < self.batch_size:
            epochs[len(whole) :] = first + 1
            rest = self._permutation(first + 1)[: self.batch_size - len(whole)]
            whole = np.concatenate([whole, rest])
        return self.ids[whole], epochs

    def _permutation(self, epoch: int) -> NDArray[Any]:
        """Return the positions of an epoch in their order; the last two epochs are kept."""
        if epoch not in self._permutations:
            while len(self._permutations) >= _KEPT:
                del self._permutations[next(iter(self._permutations))]
            self._permutations[epoch] = _shuffle(len(self.ids), self.seed, epoch)
        return self._permutations[epoch]


def rank_part(batch: int, rank: int, world: int) -> slice:
    """Say which part of the global batch a process takes.

    Parameters
    ----------
    batch : int
        Size of the global batch.
    rank : int
        Number of the process, from 0.
    world : int
        How many processes there are.

    Returns
    -------
    slice
        From r B // W to (r + 1) B // W: parts join without a gap, and their sizes differ by one
        at most.

    Examples
    --------
    >>> [rank_part(10, rank, 4) for rank in range(4)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 7, None), slice(7, 10, None)]
    """
    return slice(rank * batch // world, (rank + 1) * batch // world)


def _shuffle(n: int, seed: int, epoch: int) -> NDArray[Any]:
    keys = generator(seed, "order", epoch).bit_generator.random_raw(n)
    small = np.int32 if n <= np.iinfo(np.int32).max else np.int64
    return np.argsort(keys, kind="stable").astype(small)
