"""Rows on which a model chooses its penalty, or its number of neighbours: held out in space."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.splits import SpatialBlockKFold, spatial_holdout

__all__ = ["check_validation", "validation_pairs"]

Pairs = list[tuple[NDArray[np.intp], NDArray[np.intp]]]

# Sides of blocks to try, km: the first that gives enough blocks is taken. A hold-out of a fifth
# of 20 blocks is four of them, the least that is not a single landscape.
_SIDES_KM: Final = (500.0, 250.0, 100.0, 50.0, 25.0, 10.0, 5.0, 2.0, 1.0)
_BLOCKS: Final = 20
# Below this, one hold-out is a lottery: five folds; above, one hold-out says enough.
_FEW_ROWS: Final = 2_000
_FOLDS: Final = 5
_SHARE: Final = 0.2


def check_validation(validation: Any) -> None:
    """Check the parameter ``validation`` of a head.

    Parameters
    ----------
    validation : {"spatial", "random"} or splitter
        What was given.

    Raises
    ------
    OptionError
        If it is neither.

    Examples
    --------
    >>> check_validation("spatial")
    """
    if isinstance(validation, str):
        known = validation in ("spatial", "random")
    else:
        known = hasattr(validation, "split")
    if not known:
        raise OptionError(
            f"validation={validation!r} is not offered: choose 'spatial' or 'random', or give a "
            "splitter such as SpatialBlockKFold(5)."
        )


def validation_pairs(
    lonlat: NDArray[np.float64] | None,
    labels: NDArray[Any] | None,
    validation: Any,
    random_state: Any,
) -> Pairs | None:
    """Choose rows to learn from and rows to score, for the choice of a penalty.

    Parameters
    ----------
    lonlat : array of shape (n, 2) or None
        Places of the rows; None where they are not known.
    labels : array of shape (n,) or None
        Classes: rows of a class that is not learned from are not scored. None for numbers.
    validation : {"spatial", "random"} or splitter
        ``"spatial"``: whole blocks, of 500 km or as much smaller as it takes to have 20 of them;
        five folds below 2,000 rows, else one hold-out of a fifth.
    random_state : int, RandomState or None
        Decides which blocks are held out.

    Returns
    -------
    list of (array of int, array of int) or None
        Positions of rows; None leaves the choice to the model, which takes rows at random: so
        it is with ``"random"``, and where places are too few or too close for blocks.

    Examples
    --------
    >>> lonlat = np.random.default_rng(0).uniform(-60, 60, (300, 2))
    >>> len(validation_pairs(lonlat, None, "spatial", 0))
    5
    """
    if lonlat is None or (isinstance(validation, str) and validation == "random"):
        return None
    if isinstance(validation, str):
        pairs = _spatial(lonlat, random_state)
    else:
        pairs = [(np.asarray(a), np.asarray(b)) for a, b in validation.split(lonlat, labels)]
    if labels is not None:
        pairs = [(learn, score[np.isin(labels[score], labels[learn])]) for learn, score in pairs]
        # Of one class nothing can be learned.
        pairs = [(a, b) for a, b in pairs if len(b) and len(np.unique(labels[a])) > 1]
    return pairs or None


def _spatial(lonlat: NDArray[np.float64], random_state: Any) -> Pairs:
    for side in _SIDES_KM:
        folds = SpatialBlockKFold(_FOLDS, block_km=side, random_state=random_state)
        if len(np.unique(folds.block_ids(lonlat))) < _BLOCKS:
            continue
        if len(lonlat) < _FEW_ROWS:
            return list(folds.split(lonlat))
        return [spatial_holdout(lonlat, _SHARE, block_km=side, random_state=random_state)]
    return []
