"""Places of earlier batches, which serve as negatives."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoembed.errors import TrainingError
from geoembed.training.randomness import generator

__all__ = ["PlaceQueue", "uniform_places"]


def uniform_places(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw places evenly over the sphere.

    Parameters
    ----------
    count : int
        How many.
    rng : numpy.random.Generator
        Gives 2 `count` numbers.

    Returns
    -------
    array of shape (count, 2), float64
        Degrees, (lon, lat).

    Examples
    --------
    >>> uniform_places(2, np.random.default_rng(0)).round(1).tolist()
    [[49.3, -66.6], [-82.9, -75.2]]
    """
    u, v = rng.random((2, count))
    return np.stack([360.0 * u - 180.0, np.degrees(np.arcsin(2.0 * v - 1.0))], axis=1)


class PlaceQueue:
    """A ring of the last places that were put into it, and of the rows that they are of.

    Parameters
    ----------
    size : int
        How many places it holds, always; 0 holds none.
    seed : int
        Of the places that it starts with, which lie evenly over the sphere.

    Examples
    --------
    >>> queue = PlaceQueue(3, seed=0)
    >>> queue.enqueue(np.array([[1.0, 1.0], [2.0, 2.0]]), np.array([10, 20]))
    >>> queue.enqueue(np.array([[3.0, 3.0], [4.0, 4.0]]), np.array([30, 40]))
    >>> queue.lonlat.tolist(), queue.ids.tolist()
    ([[4.0, 4.0], [2.0, 2.0], [3.0, 3.0]], [40, 20, 30])
    """

    def __init__(self, size: int, seed: int) -> None:
        self._lonlat = uniform_places(size, generator(seed, "queue"))
        self._ids = _no_rows(size)
        self._position = 0

    @property
    def lonlat(self) -> NDArray[np.float64]:
        """The places, (size, 2), degrees, in the order of the ring."""
        return self._lonlat

    @property
    def ids(self) -> NDArray[np.int64]:
        """The rows of the data that the places are of, (size,); -1 for places of no row."""
        return self._ids

    def enqueue(self, lonlat: NDArray[np.float64], ids: NDArray[np.int64]) -> None:
        """Put places in, in the stead of the oldest.

        Parameters
        ----------
        lonlat : array of shape (n, 2), float64
            Degrees. Of more places than the queue holds the last ones stay.
        ids : array of shape (n,), int64
            Their rows.
        """
        size = len(self._lonlat)
        if size == 0:
            return
        if len(lonlat) >= size:
            self._lonlat, self._ids = lonlat[-size:].copy(), ids[-size:].copy()
            self._position = 0
            return
        # New arrays: whoever still holds the old ones keeps what he has.
        self._lonlat, self._ids = self._lonlat.copy(), self._ids.copy()
        oldest = (self._position + np.arange(len(lonlat))) % size
        self._lonlat[oldest], self._ids[oldest] = lonlat, ids
        self._position = (self._position + len(lonlat)) % size

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds.

        Returns
        -------
        dict
            The places, their rows, and where the oldest stands.
        """
        return {
            "lonlat": torch.from_numpy(self._lonlat.copy()),
            "ids": torch.from_numpy(self._ids.copy()),
            "position": self._position,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Parameters
        ----------
        state : mapping
            Of a queue of the same size. Where it holds no rows, the places are of none.

        Raises
        ------
        TrainingError
            If the sizes differ.
        """
        lonlat = state["lonlat"].numpy().astype(np.float64)
        if lonlat.shape != self._lonlat.shape:
            raise TrainingError(
                f"The checkpoint's queue holds {len(lonlat):,} places, this run's "
                f"{len(self._lonlat):,}: resume with objective.queue = {len(lonlat)}."
            )
        self._lonlat, self._position = lonlat, int(state["position"])
        # Checkpoints were once written without.
        self._ids = state["ids"].numpy().copy() if "ids" in state else _no_rows(len(lonlat))


def _no_rows(count: int) -> NDArray[np.int64]:
    return np.full(count, -1, dtype=np.int64)
