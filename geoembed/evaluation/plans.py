"""The folds of a comparison: random and spatial side by side, the same for every encoder."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold

from geoembed.coordinates import Places
from geoembed.errors import OptionError, TargetError
from geoembed.evaluation.tasks import Task
from geoembed.splits.block_splits import SpatialBlockKFold
from geoembed.splits.folds import check_n_splits
from geoembed.splits.separation import nearest_train_km

__all__ = [
    "ON_ABSENT",
    "Fold",
    "Plan",
    "check_plan",
    "make_plans",
    "random_folds",
    "spatial_folds",
]

Rows = NDArray[np.intp]

ON_ABSENT: Final = ("raise", "wrong")

# Sides of blocks that are tried if none is given, km: the largest of which every fold gets some.
_SIDES: Final = (500.0, 250.0, 100.0, 50.0, 25.0, 10.0, 5.0, 2.5, 1.0)
_BLOCKS_A_FOLD: Final = 4
_SHOWN: Final = 5


@dataclass(frozen=True, eq=False)
class Fold:
    """Positions of the rows to learn from and of those to test on.

    Parameters
    ----------
    repeat, number : int
        Which repetition of the split, and which fold of it, from 0.
    train, test : array of int
        Rows.
    validation : array of int or None
        Rows that a model may watch while it learns.
    """

    repeat: int
    number: int
    train: Rows
    test: Rows
    validation: Rows | None = None

    @property
    def key(self) -> str:
        """What it is called in a folder of finished folds."""
        return f"{self.repeat:03d}-{self.number:03d}"


@dataclass(frozen=True, eq=False)
class Plan:
    """A split: all its folds.

    Parameters
    ----------
    name : str
        ``"random"``, ``"spatial"`` or another.
    folds : tuple of Fold
        At least one.
    how : str
        How the rows were divided, for people.
    nearest_km : float
        Median distance from a tested place to the nearest one learned from.
    absent : str
        Which labels of tested rows are not among those learned from; empty if none is.
    """

    name: str
    folds: tuple[Fold, ...]
    how: str
    nearest_km: float
    absent: str = ""

    @property
    def test_share(self) -> float:
        """Rows tested for each row learned from, the mean over folds."""
        return float(np.mean([len(fold.test) / len(fold.train) for fold in self.folds]))

    def digest(self) -> str:
        """Return a digest of all folds, by which a changed split is noticed."""
        digest = hashlib.sha256()
        for fold in self.folds:
            for rows in (fold.train, fold.test, fold.validation):
                values = np.asarray([] if rows is None else rows, dtype="<i8")
                digest.update(len(values).to_bytes(8, "little") + values.tobytes())
        return digest.hexdigest()


def make_plans(
    X: Any,
    places: Places,
    task: Task,
    splits: Mapping[str, Any] | None,
    *,
    n_splits: int = 5,
    block_km: float | None = None,
    buffer_km: float = 0.0,
    seeds: Sequence[int] = (0,),
    on_absent: str = "raise",
) -> list[Plan]:
    """Divide the rows.

    Parameters
    ----------
    X : GeoDataFrame
        The places, for splitters.
    places : Places
        The same.
    task : Task
        What is predicted.
    splits : mapping of str to splitter or to sequence of (train, test), optional
        Random folds and folds of blocks of the Earth if not given.
    n_splits : int
        Number of folds of these two.
    block_km, buffer_km : float
        Of the blocks; a side that gives every fold some blocks if not given.
    seeds : sequence of int
        The two are repeated with each.
    on_absent : {"raise", "wrong"}
        What becomes of rows whose label is not among those learned from: an error, or they count
        as wrong.

    Returns
    -------
    list of Plan

    Raises
    ------
    OptionError
        If an option does not fit the places, as when they lie in fewer blocks than folds.
    TargetError
        If there are fewer rows than folds, or a fold leaves nothing to score or to learn.
    """
    if on_absent not in ON_ABSENT:
        raise OptionError(f"on_absent={on_absent!r} is not one of: {', '.join(ON_ABSENT)}.")
    if splits is None:
        raw = _two_splits(X, places, task, n_splits, block_km, buffer_km, seeds)
    else:
        if not isinstance(splits, Mapping) or not splits:
            raise OptionError(
                f"splits={splits!r} must map names to splitters, such as "
                "{'random': KFold(5), 'spatial': SpatialBlockKFold(5)}."
            )
        if len(seeds) > 1:
            raise OptionError("seeds= repeats the usual splits; with splits= give every fold.")
        raw = {name: _given_folds(name, way, X, task) for name, way in splits.items()}
    return [
        check_plan(name, folds, how, places, task, on_absent) for name, (folds, how) in raw.items()
    ]


def check_plan(
    name: str, folds: Sequence[Fold], how: str, places: Places, task: Task, on_absent: str
) -> Plan:
    """Refuse folds that nothing can be learned or scored on.

    Parameters
    ----------
    name : str
        Of the split.
    folds : sequence of Fold
        To check.
    how : str
        How the rows were divided, for people.
    places : Places
        One a row.
    task : Task
        What is predicted.
    on_absent : {"raise", "wrong"}
        What becomes of labels that are not learned.

    Returns
    -------
    Plan

    Raises
    ------
    TargetError
        If test rows do not vary, a label is absent, or there is one label to learn.
    OptionError
        If there is no fold, or rows are both learned from and tested.
    """
    if not folds:
        raise OptionError(f"The split {name!r} has no folds.")
    missing: dict[Any, int] = {}
    for fold in folds:
        where = f"fold {fold.number + 1} of the {name} split"
        parts = (
            fold.train,
            fold.test,
            fold.test[:0] if fold.validation is None else fold.validation,
        )
        every = np.concatenate(parts)
        if len(np.unique(every)) < len(every):
            raise OptionError(f"A row is both learned from and tested in {where}.")
        if not len(fold.train) or not len(fold.test):
            raise OptionError(
                f"There is nothing to {'test' if len(fold.train) else 'learn'} in {where}."
            )
        if task.kind == "classification":
            for label, count in _absent(task.values, fold, where).items():
                missing[label] = missing.get(label, 0) + count
        elif not np.ptp(task.values[fold.test].reshape(len(fold.test), -1), axis=0).any():
            raise TargetError(
                f"The target is the same in all {len(fold.test):,} rows that {where} tests, so "
                "that R2 is not defined. Take fewer folds, or other blocks."
            )
    absent = _say_absent(name, missing)
    if absent and on_absent == "raise":
        raise TargetError(
            f"{absent} Join or drop these labels, take fewer folds or other blocks, or count these "
            "rows as wrong with on_absent='wrong'."
        )
    nearest = [nearest_train_km(places, fold.train, fold.test) for fold in folds]
    return Plan(name, tuple(folds), how, float(np.median(np.concatenate(nearest))), absent)


def random_folds(places: Places, task: Task, count: int, seeds: Sequence[int]) -> list[Fold]:
    """Deal the rows out at random; labels evenly over the folds, as far as there are enough.

    Parameters
    ----------
    places : Places
        One a row.
    task : Task
        What is predicted.
    count : int
        Number of folds.
    seeds : sequence of int
        The rows are dealt out once with each.

    Returns
    -------
    list of Fold
    """
    kind = KFold
    if task.kind == "classification":
        largest = np.unique(task.values, return_counts=True)[1].max()
        kind = StratifiedKFold if largest >= count else KFold
    folds = []
    for repeat, seed in enumerate(seeds):
        splitter = kind(count, shuffle=True, random_state=seed)
        folds += _folds(splitter.split(places.lonlat, task.values), repeat)
    return folds


def spatial_folds(
    X: Any, count: int, block_km: float, buffer_km: float, seeds: Sequence[int]
) -> list[Fold]:
    """Deal out blocks of the Earth.

    Parameters
    ----------
    X : GeoDataFrame
        The places.
    count : int
        Number of folds.
    block_km, buffer_km : float
        As in `geoembed.SpatialBlockKFold`.
    seeds : sequence of int
        The blocks are dealt out once with each.

    Returns
    -------
    list of Fold
    """
    folds = []
    for repeat, seed in enumerate(seeds):
        blocks = SpatialBlockKFold(count, block_km=block_km, buffer_km=buffer_km, random_state=seed)
        folds += _folds(blocks.split(X), repeat)
    return folds


def _two_splits(
    X: Any,
    places: Places,
    task: Task,
    n_splits: int,
    block_km: float | None,
    buffer_km: float,
    seeds: Sequence[int],
) -> dict[str, tuple[list[Fold], str]]:
    count = check_n_splits(n_splits)
    if len(places) < 2 * count:
        raise TargetError(
            f"The table has {len(places):,} row{'s' * (len(places) != 1)}, and {count} folds need "
            f"{2 * count} at least, two to test in each. Get more places, or take fewer folds."
        )
    side = _side(X, count) if block_km is None else block_km
    random = random_folds(places, task, count, seeds)
    spatial = spatial_folds(X, count, side, buffer_km, seeds)
    times = f", {len(seeds)} times" if len(seeds) > 1 else ""
    apart = f", {buffer_km:g} km apart" if buffer_km else ""
    return {
        "random": (random, f"{count} random folds{times}"),
        "spatial": (spatial, f"{count} folds of blocks of {side:g} km{apart}{times}"),
    }


def _side(X: Any, count: int) -> float:
    for side in _SIDES:
        blocks = len(np.unique(SpatialBlockKFold(count, block_km=side).block_ids(X)))
        if blocks >= _BLOCKS_A_FOLD * count:
            return side
    return _SIDES[-1]


def _given_folds(name: str, way: Any, X: Any, task: Task) -> tuple[list[Fold], str]:
    """Folds of a splitter, or as they are given; and how that is said."""
    by_splitter = hasattr(way, "split")
    try:
        folds = _folds(way.split(X, task.values) if by_splitter else way, 0)
    except (TypeError, ValueError, IndexError) as error:
        if isinstance(error, OptionError | TargetError):
            raise
        raise OptionError(
            f"splits: {name!r} gives no folds ({error}). Give a scikit-learn splitter, or a list "
            "of (train, test) positions."
        ) from error
    # Long ones are shown over several lines.
    return folds, " ".join(str(way).split()) if by_splitter else f"{len(folds)} folds as given"


def _folds(parts: Any, repeat: int) -> list[Fold]:
    folds = []
    with warnings.catch_warnings():
        # A label with fewer rows than there are folds is dealt with in `check_plan`.
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (train, test) in enumerate(parts):
            rows = (np.asarray(train, dtype=np.intp), np.asarray(test, dtype=np.intp))
            folds.append(Fold(repeat, number, *rows))
    return folds


def _absent(labels: NDArray[Any], fold: Fold, where: str) -> dict[Any, int]:
    """Labels of tested rows that are not learned, and how many rows carry each."""
    learned = np.unique(labels[fold.train])
    if len(learned) < 2:
        raise TargetError(
            f"All {len(fold.train):,} rows to learn from in {where} carry the label "
            f"{learned[0].item()!r}. Take fewer folds or other blocks."
        )
    tested, counts = np.unique(labels[fold.test], return_counts=True)
    new = ~np.isin(tested, learned)
    return dict(zip(tested[new].tolist(), counts[new].tolist(), strict=True))


def _say_absent(name: str, missing: Mapping[Any, int]) -> str:
    if not missing:
        return ""
    shown = ", ".join(f"{label!r} ({rows} rows)" for label, rows in list(missing.items())[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return (
        f"{len(missing)} label{'s are' if len(missing) > 1 else ' is'} absent from the rows to "
        f"learn from in some fold of the {name} split: {shown}{more}."
    )
