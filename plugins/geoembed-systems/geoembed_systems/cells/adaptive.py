"""Adaptive S2 partitions: small cells where there are many places."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoembed.coordinates import read_places
from geoembed.errors import OptionError
from geoembed.geodesy import from_unit_vectors, to_unit_vectors
from geoembed.scalars import is_whole
from geoembed_systems.cells import s2
from geoembed_systems.cells.partition import Partition
from geoembed_systems.shared.inputs import counted

__all__ = ["Limits", "Partition", "adaptive_partition", "auto_limits"]

Floats = NDArray[np.float64]
Ids = NDArray[np.uint64]
Ints = NDArray[np.int64]

Limits = int | str
"""A number of places, or ``"auto"``: what `auto_limits` says."""


def auto_limits(places: int, t_max: Limits = "auto", t_min: Limits = "auto") -> tuple[int, int]:
    """Settle how many places a cell may hold, and how many it needs.

    Parameters
    ----------
    places : int
        How many there are.
    t_max, t_min : int or "auto"
        ``"auto"`` is ours: a four-hundredth of the places in a cell at most, but 20 to 10,000;
        and a tenth of `t_max` at least, but 1 to 50. From 4 million places on these are PlaNet's
        10,000 and 50.

    Returns
    -------
    t_max, t_min : int
        At least 1 each.

    Raises
    ------
    OptionError
        If one is no whole number of 1 or more, or a cell needs more places than it may hold.

    Examples
    --------
    >>> auto_limits(2_000), auto_limits(5_000_000), auto_limits(2_000, t_max=500)
    ((20, 2), (10000, 50), (500, 50))
    """
    for name, value in (("t_max", t_max), ("t_min", t_min)):
        whole = is_whole(value) and value >= 1
        if not whole and not (isinstance(value, str) and value == "auto"):
            raise OptionError(f"{name}={value!r} does not fit: give a number of places, or 'auto'.")
    most = min(10_000, max(20, places // 400)) if t_max == "auto" else int(t_max)
    least = max(1, min(50, most // 10)) if t_min == "auto" else int(t_min)
    if least > most:
        raise OptionError(
            f"t_min={least:,} is more than t_max={most:,}: no cell could hold as many places as "
            "one needs."
        )
    return most, least


def adaptive_partition(
    points: Any,
    *,
    t_max: Limits = "auto",
    t_min: Limits = "auto",
    min_level: int = 0,
    max_level: int = 20,
) -> Partition:
    """Cut the Earth into S2 cells, small where there are many places.

    Cells with more than `t_max` places are quartered, again and again; what then holds fewer than
    `t_min` is dropped. This is PlaNet's partition (Weyand, Kostrikov and Philbin 2016).

    Parameters
    ----------
    points : GeoDataFrame, GeoSeries, DataFrame, geometries or array of shape (n, 2)
        Places, as `geoembed.read_places` takes them.
    t_max : int or "auto"
        Most places in a cell. Cells of `max_level` may hold more: they are not cut any further.
    t_min : int or "auto"
        Fewest places in a cell that is kept. See `auto_limits`.
    min_level, max_level : int
        Levels of S2 that cells may have, 0 (a sixth of the Earth) to 30; 20 is 10 metres wide.

    Returns
    -------
    Partition
        The same for the same places in any order.

    Raises
    ------
    CoordinateError
        If the places cannot be read.
    OptionError
        If an option does not fit, there are fewer places than one cell needs, no cell is kept or
        only one.

    Notes
    -----
    4.7 million places take some 7 seconds and 0.8 GB.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> partition = adaptive_partition(rng.uniform(0, 30, (500, 2)), t_max=100, t_min=10)
    >>> bool((partition.counts <= 100).all()), bool((partition.counts >= 10).all())
    (True, True)
    """
    lonlat = read_places(points).lonlat
    most, least = auto_limits(len(lonlat), t_max, t_min)
    lowest, highest = s2.check_level("min_level", min_level), s2.check_level("max_level", max_level)
    if lowest > highest:
        raise OptionError(f"min_level={lowest} is above max_level={highest}: swap them.")
    if len(lonlat) < least:
        raise OptionError(
            f"{counted(len(lonlat), 'place')} and t_min={least:,}: fewer points than one cell "
            "needs. Give more places, or a smaller t_min=."
        )
    leaves = s2.cell_ids(lonlat)
    # By place within a leaf: sums then round alike, whatever the order of the input.
    order = np.lexsort((lonlat[:, 1], lonlat[:, 0], leaves))
    leaves, lonlat = leaves[order], lonlat[order]
    cells = _split(leaves, most, lowest, highest)
    start, stop = _spans(leaves, cells)
    kept = stop - start >= least
    cells, start, stop = cells[kept], start[kept], stop[kept]
    if len(cells) < 2:
        raise OptionError(_too_few(len(cells), len(lonlat), most, least, highest))
    return Partition(
        cells,
        _means(to_unit_vectors(lonlat), start, stop),
        stop - start,
        places=len(lonlat),
        options={"t_max": most, "t_min": least, "min_level": lowest, "max_level": highest},
    )


def _split(leaves: Ids, t_max: int, min_level: int, max_level: int) -> Ids:
    """Quarter cells until none holds too many; `leaves` ascend, and so do the cells."""
    wide = np.unique(s2.parents(leaves, min_level))
    done: list[Ids] = []
    for _ in range(min_level, max_level):
        start, stop = _spans(leaves, wide)
        crowded = stop - start > t_max
        done.append(wide[~crowded])
        wide = s2.children(wide[crowded]).ravel()
        if not len(wide):
            break
    return np.sort(np.concatenate([*done, wide]))


def _spans(leaves: Ids, cells: Ids) -> tuple[Ints, Ints]:
    """Return from which to which of the ascending leaves every cell holds."""
    start = np.searchsorted(leaves, s2.first_leaves(cells), side="left")
    stop = np.searchsorted(leaves, s2.last_leaves(cells), side="right")
    return start.astype(np.int64), stop.astype(np.int64)


def _means(units: Floats, start: Ints, stop: Ints) -> Floats:
    """Return the mean place of every span of rows; spans ascend and are not empty."""
    # reduceat adds up from each bound to the next: every second sum is of what lies between spans.
    bounds = np.column_stack([start, stop]).ravel()
    inside = bounds[bounds < len(units)]
    return from_unit_vectors(np.add.reduceat(units, inside, axis=0)[::2])


def _too_few(kept: int, places: int, t_max: int, t_min: int, max_level: int) -> str:
    """Say why there is nothing to tell apart."""
    if not kept:
        return (
            f"No cell is left: {places:,} places lie so far apart that none holds "
            f"t_min={t_min:,} of them. Give a smaller t_min= or a larger t_max=."
        )
    return (
        f"All {places:,} places that are kept lie in one cell, and one class is nothing to learn: "
        f"give a smaller t_max= (it is {t_max:,}) or t_min= ({t_min:,}), a larger max_level= "
        f"({max_level}), or places further apart."
    )
