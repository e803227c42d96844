"""The places of a validation: what is looked up, where answers come from, and negatives."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.galleries import Gallery, places_of
from geoembed.galleries.builders import grid_places
from geoembed.training.randomness import generator
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import Split

__all__ = ["gallery_places", "negatives", "query_rows"]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

# What is drawn here belongs to the split, as the held-out rows do, and not to the run's seed: runs
# of several seeds are asked the same.


def query_rows(held_out: Rows, settings: TrainingSettings) -> Rows:
    """Choose the held-out rows that are looked up.

    Parameters
    ----------
    held_out : ndarray of int64
        All held-out rows.
    settings : TrainingSettings
        ``validation.queries`` and ``data.split_seed``.

    Returns
    -------
    ndarray of int64
        Ascending; the same for runs that differ in their seed only.

    Examples
    --------
    >>> settings = TrainingSettings(data={"kind": "bluemarble"}, validation={"queries": 3})
    >>> len(query_rows(np.arange(100), settings))
    3
    """
    chosen = _some(len(held_out), settings.validation.queries, settings, "validation queries")
    return held_out[chosen]


def gallery_places(training: Floats, settings: TrainingSettings) -> Floats:
    """Return the places that answers come from.

    Parameters
    ----------
    training : ndarray of float64, shape (n, 2)
        Training places, degrees.
    settings : TrainingSettings
        ``validation.gallery`` and what belongs to it.

    Returns
    -------
    ndarray of float64, shape (m, 2)
        Distinct places.

    Raises
    ------
    UnknownNameError, TableError
        If there is no such gallery.
    OptionError
        If it has no place.

    Examples
    --------
    >>> settings = TrainingSettings(data={"kind": "bluemarble"})
    >>> gallery_places(np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]), settings).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    asked = settings.validation
    if asked.gallery == "train":
        distinct = np.unique(training, axis=0)
        lonlat = distinct[_some(len(distinct), asked.gallery_size, settings, "validation gallery")]
    elif asked.gallery == "land":
        lonlat = grid_places(asked.spacing_km).lonlat
    elif Path(asked.gallery).expanduser().is_dir():
        lonlat = Gallery.load(Path(asked.gallery).expanduser()).lonlat
    else:
        lonlat = places_of(asked.gallery).lonlat
    if not len(lonlat):
        raise OptionError(f"validation.gallery = {asked.gallery!r} has no place.")
    return lonlat


def negatives(
    lonlat: Floats, rows: Rows, split: Split, settings: TrainingSettings
) -> tuple[Floats, Rows]:
    """Draw the places that a held-out picture's own place is told from in the loss.

    Parameters
    ----------
    lonlat : ndarray of float64, shape (n, 2)
        Places of the data, degrees.
    rows : ndarray of int64, shape (q,)
        Rows that are looked up.
    split : Split
        Of the data.
    settings : TrainingSettings
        As many are drawn as a picture has negatives in training, the batch and the queue; all that
        there are if these are fewer.

    Returns
    -------
    places : ndarray of float64, shape (m, 2)
        From training and held-out places alike, so that they lie as the training's do.
    own : ndarray of int64, shape (q,)
        Position among them of each row's own place; -1 where it is not among them.

    Examples
    --------
    >>> settings = TrainingSettings(data={"kind": "bluemarble"}, loop={"batch": 2})
    >>> none = np.empty(0, np.int64)
    >>> split = Split(np.array([0, 2]), np.array([1]), none, none)
    >>> places, own = negatives(np.eye(3, 2), np.array([1]), split, settings)
    >>> places.tolist(), own.tolist()
    ([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [1])
    """
    everything = np.sort(np.concatenate([split.train, split.validation]))
    count = settings.loop.batch + settings.objective.queue - 1
    drawn = everything[_some(len(everything), count, settings, "validation negatives")]
    at = np.minimum(np.searchsorted(drawn, rows), len(drawn) - 1)
    return lonlat[drawn], np.where(drawn[at] == rows, at, -1)


def _some(n: int, most: int, settings: TrainingSettings, purpose: str) -> Rows:
    """Positions of at most so many of n, ascending; 0 takes all."""
    if not most or most >= n:
        return np.arange(n)
    keys = generator(settings.data.split_seed, purpose).bit_generator.random_raw(n)
    return np.sort(np.argsort(keys, kind="stable")[:most])
