"""Which rows are trained on and which are held out, and nested shares of the former."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.evaluation.geolocation.words import counted
from geoembed.splits import spatial_holdout
from geoembed.training.randomness import generator
from geoembed.training.settings import DataSettings

__all__ = ["Split", "split_rows"]

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a data set; every row is in exactly one of the four.

    Parameters
    ----------
    train : ndarray of int64
        Rows to train on, ascending.
    validation : ndarray of int64
        Rows that are held out, ascending.
    left_out : ndarray of int64
        Rows nearer to a held-out one than the buffer, ascending.
    unused : ndarray of int64
        Rows that a `DataSettings.fraction` below 1 leaves away, ascending.
    """

    train: Rows
    validation: Rows
    left_out: Rows
    unused: Rows

    def sizes(self) -> dict[str, int]:
        """Count the rows of each part.

        Returns
        -------
        dict
            By the name of the part.
        """
        parts = ("train", "validation", "left_out", "unused")
        return {part: len(getattr(self, part)) for part in parts}


def split_rows(lonlat: NDArray[np.float64], settings: DataSettings) -> Split:
    """Hold out whole blocks of the Earth, and take a share of the other rows.

    Parameters
    ----------
    lonlat : ndarray of float64, shape (n, 2)
        Longitude and latitude of every row, degrees, WGS 84.
    settings : DataSettings
        `validation` is the share that is held out, met as nearly as whole blocks of `block_km` or
        `block_deg` allow; rows within `buffer_km` of a held-out one are left out; `fraction` of
        the rest is trained on. `split_seed` decides which blocks and which rows.

    Returns
    -------
    Split
        With at least one row to train on, and one that is held out if `validation` is above 0.

    Raises
    ------
    OptionError
        If nothing would be left to train on or to hold out: too few places, one block only, or a
        buffer that is too wide.
    CoordinateError
        If a place is not valid.

    Notes
    -----
    Rows of a smaller `fraction` are among those of a larger one, and held-out rows are the same
    for all. Held-out places are whole blocks: places on both sides of a border may be close
    unless there is a buffer.

    Examples
    --------
    >>> lonlat = np.array([[0.5, 0.5], [0.6, 0.5], [60.0, 10.0], [61.0, 10.0], [-70.0, -20.0]])
    >>> split = split_rows(lonlat, DataSettings(path="x", validation=0.4))
    >>> split.sizes()
    {'train': 3, 'validation': 2, 'left_out': 0, 'unused': 0}
    """
    n = len(lonlat)
    if not n:
        raise OptionError("The data have no rows: there is nothing to train on.")
    everything = np.arange(n, dtype=np.int64)
    train, held = everything, everything[:0]
    if settings.validation:
        train, held = _hold_out(lonlat, settings)
    rest = np.ones(n, dtype=np.bool_)
    rest[train] = rest[held] = False
    kept = np.sort(train[_chosen(len(train), settings)])
    return Split(kept, held, np.flatnonzero(rest), np.setdiff1d(train, kept, assume_unique=True))


def _hold_out(lonlat: NDArray[np.float64], settings: DataSettings) -> tuple[Rows, Rows]:
    # Blocks are of one kind.
    block_km = None if settings.block_deg else settings.block_km
    try:
        train, held = spatial_holdout(
            lonlat,
            settings.validation,
            block_km=block_km,
            block_deg=settings.block_deg or None,
            buffer_km=settings.buffer_km,
            random_state=settings.split_seed,
        )
    except OptionError as error:
        raise OptionError(
            f"The {counted(len(lonlat), 'place')} cannot be split into training and validation "
            f"(data.validation = {settings.validation:g}; 0 holds out none): {error}"
        ) from error
    return train.astype(np.int64), held.astype(np.int64)


def _chosen(n: int, settings: DataSettings) -> Rows:
    """Positions of the share that is trained on: the first of one permutation."""
    if settings.fraction == 1.0:
        return np.arange(n, dtype=np.int64)
    keys = generator(settings.split_seed, "fraction").bit_generator.random_raw(n)
    return np.argsort(keys, kind="stable")[: max(round(settings.fraction * n), 1)]
