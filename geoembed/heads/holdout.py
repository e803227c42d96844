"""Rows that a model does not learn from, so that they can tell how far off it is."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from geoembed.errors import OptionError, TargetError
from geoembed.scalars import is_number

__all__ = ["check_calibration", "split"]


def check_calibration(calibration: Any) -> None:
    """Check the parameter ``calibration`` of a head.

    Parameters
    ----------
    calibration : float, splitter or None
        A share strictly between 0 and 1, something with ``split(X, y)``, or None.

    Raises
    ------
    OptionError
        If it is anything else.

    Examples
    --------
    >>> check_calibration(0.2)
    """
    if calibration is None or _is_splitter(calibration):
        return
    number = is_number(calibration)
    if not number or not 0.0 < float(calibration) < 1.0:
        raise OptionError(
            f"calibration={calibration!r} is no share strictly between 0 and 1, such as 0.2, no "
            "splitter such as SpatialBlockKFold(5), and not None."
        )


def split(
    X: Any, labels: NDArray[Any] | None, rows: int, calibration: Any, random_state: Any
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split rows into those to learn from and those to calibrate on.

    Parameters
    ----------
    X : places
        For a splitter.
    labels : array of shape (n,) or None
        Classes, of which every one keeps rows to learn from; None for numbers.
    rows : int
        Number of rows n.
    calibration : float or splitter
        A share, or a splitter whose first fold is taken.
    random_state : int, RandomState or None
        Decides which rows of a share are taken.

    Returns
    -------
    (array of int, array of int)
        Row numbers, ascending.

    Raises
    ------
    TargetError
        If a splitter's first training part lacks a class.

    Examples
    --------
    >>> learned, held = split(None, None, 10, 0.2, 0)
    >>> len(learned), len(held)
    (8, 2)
    """
    if _is_splitter(calibration):
        learned, held = next(iter(calibration.split(X, labels)))
        _check_classes(labels, learned, calibration)
        return np.sort(learned), np.sort(held)
    random = check_random_state(random_state)
    taken = np.zeros(rows, dtype=np.bool_)
    order = random.permutation(rows)
    if labels is None:
        taken[order[: round(rows * float(calibration))]] = True
    else:
        # Class by class, rounded down: a class of few rows keeps them all for learning.
        _, codes = np.unique(labels, return_inverse=True)
        place = np.empty(rows, dtype=np.intp)
        by_class = order[np.argsort(codes[order], kind="stable")]
        counts = np.bincount(codes)
        starts = np.cumsum(counts) - counts
        place[by_class] = np.arange(rows) - np.repeat(starts, counts)
        taken = place < np.floor(counts * float(calibration)).astype(np.intp)[codes]
    return np.flatnonzero(~taken), np.flatnonzero(taken)


def _is_splitter(calibration: Any) -> bool:
    # Texts can be split as well.
    return hasattr(calibration, "split") and not isinstance(calibration, str)


def _check_classes(labels: NDArray[Any] | None, learned: NDArray[np.intp], splitter: Any) -> None:
    if labels is None:
        return
    lost = sorted(set(np.unique(labels).tolist()) - set(np.unique(labels[learned]).tolist()))
    if lost:
        classes = f"class{'es' * (len(lost) > 1)}"
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        raise TargetError(
            f"calibration={splitter!r} leaves no row of {len(lost)} {classes} to learn from: "
            f"{', '.join(map(repr, lost[:5]))}{more}. Use smaller blocks, or a share such as 0.2."
        )
