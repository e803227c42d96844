"""Classes of few rows: kept, merged or left out, and always counted."""

import warnings
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError, TargetError
from geoembed.heads.base import GeoembedHeadWarning
from geoembed.heads.labels.hierarchy import join_paths
from geoembed.heads.labels.tree import Levels
from geoembed.scalars import check_count

__all__ = ["check_rare", "merge_levels", "rare_depths", "settle_rare"]

_CHOICES: Final = ("keep", "merge", "drop")
_SHOWN: Final = 5


def check_rare(rare: Any, min_rows: Any) -> None:
    """Check the parameters ``rare`` and ``min_rows`` of a head.

    Parameters
    ----------
    rare : {"keep", "merge", "drop"}
        What becomes of rare classes.
    min_rows : int
        Classes of fewer rows are rare.

    Raises
    ------
    OptionError
        If they are anything else.

    Examples
    --------
    >>> check_rare("merge", 10)
    """
    if rare not in _CHOICES:
        raise OptionError(f"rare={rare!r} is not offered: choose 'keep', 'merge' or 'drop'.")
    check_count("min_rows", min_rows)


def rare_depths(levels: Levels, min_rows: int) -> NDArray[np.intp]:
    """Find where on its path each row becomes one of few.

    Parameters
    ----------
    levels : tuple of arrays of shape (n,)
        From `geoembed.heads.labels.hierarchy.read_levels`.
    min_rows : int
        Paths of fewer rows are rare.

    Returns
    -------
    array of int, shape (n,)
        The coarsest level at which the row's path is rare; the number of levels if none is.

    Examples
    --------
    >>> levels = np.array(["a", "a", "a", "b"]), np.array(["x", "x", "y", "z"])
    >>> rare_depths(levels, 2).tolist()
    [2, 2, 1, 0]
    """
    common = np.zeros(len(levels[0]), dtype=np.intp)
    path = np.zeros(len(levels[0]), dtype=np.intp)
    for level in levels:
        codes = np.unique(level, return_inverse=True)[1].reshape(-1)
        path = np.unique(path * (codes.max() + 1) + codes, return_inverse=True)[1].reshape(-1)
        # What is rare at one level is so at all finer ones: counting levels finds the first.
        common += np.bincount(path)[path] >= min_rows
    return common


def merge_levels(levels: Levels, depths: NDArray[np.intp], other: Any) -> Levels:
    """Give rows one common label from a level on.

    Parameters
    ----------
    levels : tuple of arrays of shape (n,)
        From `geoembed.heads.labels.hierarchy.read_levels`.
    depths : array of int, shape (n,)
        From `rare_depths`.
    other : label
        The common one.

    Returns
    -------
    tuple of arrays of shape (n,)
        Copies.

    Raises
    ------
    TargetError
        If labels are numbers and `other` is text, or the other way round.

    Examples
    --------
    >>> merge_levels((np.array(["a", "b"]),), np.array([1, 0]), "other")[0].tolist()
    ['a', 'other']
    """
    merged = []
    for at, level in enumerate(levels):
        rest = np.asarray(other)
        rows = depths <= at
        if rows.any() and (rest.dtype.kind == "U") != (level.dtype.kind == "U"):
            raise TargetError(
                f"other_label={other!r} does not fit labels such as {level[0].item()!r}: give one "
                "of the same kind."
            )
        merged.append(np.where(rows, rest, level) if rows.any() else level)
    return tuple(merged)


def settle_rare(
    levels: Levels, rare: str, min_rows: int, other: Any
) -> tuple[Levels, NDArray[np.intp], dict[str, int]]:
    """Keep, merge or leave out rare classes, and warn of what was done.

    Parameters
    ----------
    levels : tuple of arrays of shape (n,)
        From `geoembed.heads.labels.hierarchy.read_levels`.
    rare : {"keep", "merge", "drop"}
        What becomes of rare classes.
    min_rows : int
        Classes of fewer rows are rare.
    other : label
        What they are merged into.

    Returns
    -------
    (tuple of arrays of shape (m,), array of int of shape (m,), dict)
        The labels to learn, their rows, and name -> rows of the classes merged or left out.

    Raises
    ------
    TargetError
        If all classes would be left out, or `other` is of another kind than the labels.

    Examples
    --------
    >>> settle_rare((np.array(["a", "b"]),), "keep", 2, "other")[2]
    {}
    """
    rows = np.arange(len(levels[0]))
    if rare == "keep" or not len(rows):
        return levels, rows, {}
    depths = rare_depths(levels, min_rows)
    few = depths < len(levels)
    names, counts = np.unique(join_paths(levels)[few].astype(str), return_counts=True)
    told = dict(zip(names.tolist(), counts.tolist(), strict=True))
    if not told:
        return levels, rows, {}
    if rare == "drop" and few.all():
        raise TargetError(f"All classes have fewer than min_rows={min_rows} rows.")
    merged = merge_levels(levels, depths, other) if rare == "merge" else levels
    listed = ", ".join(f"{name!r} ({count:,})" for name, count in [*told.items()][:_SHOWN])
    more = f" and {len(told) - _SHOWN:,} more" if len(told) > _SHOWN else ""
    fate = "left out" if rare == "drop" else f"merged into {other!r}"
    warnings.warn(
        f"{len(told):,} class{'es' * (len(told) > 1)} of fewer than {min_rows} rows ({few.sum():,} "
        f"of {len(rows):,} rows) {fate}: {listed}{more}. See the attribute rare_.",
        GeoembedHeadWarning,
        stacklevel=3,
    )
    if rare == "merge":
        return merged, rows, told
    return tuple(level[~few] for level in levels), rows[~few], told
