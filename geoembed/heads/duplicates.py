"""Rows of one place with different targets: how well anything that knows the place can do."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.columns import name_rows
from geoembed.coordinates import Places, read_places
from geoembed.errors import OptionError, TargetError

__all__ = ["SharedPlaces", "best_possible_score"]


@dataclass(frozen=True)
class SharedPlaces:
    """What rows of one place with different targets cost.

    Parameters
    ----------
    rows : int
        Rows that share their place with a row of another target.
    places : int
        Places that these rows lie at.
    total : int
        All rows.
    score : float
        The best score on these rows of any function of the place; 1.0 if there are no such rows.
    metric : {"accuracy", "R2"}
        What the score is; R2 is the mean over the targets that vary.
    named : str
        The first of the rows, by index label; empty if there are none.

    Examples
    --------
    >>> print(SharedPlaces(2, 1, 10, 0.9, "accuracy", "rows 3, 4"))
    2 of 10 rows share their place (1 place) with a row of another target: rows 3, 4. No function \
of the place can do better on these data than an accuracy of 0.9000.
    """

    rows: int
    places: int
    total: int
    score: float
    metric: str
    named: str = ""

    def __str__(self) -> str:
        if not self.rows:
            return "No two rows of one place have different targets."
        article = "an" if self.metric == "accuracy" else "a mean"
        return (
            f"{self.rows:,} of {self.total:,} rows share their place ({self.places:,} "
            f"place{'s' * (self.places > 1)}) with a row of another target: {self.named}. No "
            "function of the place can do better on these data than "
            f"{article} {self.metric} of {self.score:.4f}."
        )


def best_possible_score(
    places: Any, target: Any, *, task: str = "classification", beside: pd.DataFrame | None = None
) -> SharedPlaces:
    """Find rows of one place with different targets, and the best score they leave possible.

    Parameters
    ----------
    places : GeoDataFrame, GeoSeries, DataFrame, geometries, array of shape (n, 2) or Places
        Anything with a CRS, or (lon, lat) in degrees, WGS 84. Places are one if their coordinates
        are the same to the last digit; -180 and 180 degrees of longitude are the same, and a pole
        is one place.
    target : array, Series or DataFrame of shape (n,) or (n, t)
        Labels (of several levels if there are several columns) or finite numbers.
    task : {"classification", "regression", "fractions"}
        Whether labels or numbers are learned.
    beside : DataFrame, optional
        Further columns that tell rows of one place apart, such as the extra columns of a head.

    Returns
    -------
    SharedPlaces
        Its text is a sentence for people.

    Raises
    ------
    CoordinateError
        If `places` cannot be read, or some are invalid.
    TargetError
        If there is not one row of `target` a place.
    OptionError
        If `task` is not one of those offered.

    Notes
    -----
    A function of the place says the same for all rows of a place. The most accurate one says the
    commonest label there, so its accuracy is the share of the rows that carry it. The one with
    the highest R2 says the mean, so its R2 is 1 less the share of the squares that lies within
    places. Scores on other rows are not bounded by this, only on these.

    Examples
    --------
    >>> found = best_possible_score([[0, 0], [0, 0], [9, 9], [9, 9]], ["a", "b", "c", "c"])
    >>> found.rows, found.places, found.score
    (2, 1, 0.75)
    """
    if task not in ("classification", "regression", "fractions"):
        raise OptionError(
            f"task={task!r} is not offered: choose 'classification', 'regression' or 'fractions'."
        )
    read = read_places(places)
    values = pd.DataFrame(np.asarray(target).reshape(len(target), -1))
    if len(values) != len(read):
        raise TargetError(
            f"There are {len(read):,} places and {len(values):,} rows of the target: give one row "
            "for every place."
        )
    codes = _codes_of_places(read, beside)
    if task == "classification":
        labels = _codes(values)
        mixed, score = _mixed_labels(codes, labels)
        metric = "accuracy"
    else:
        mixed, score = _mixed_numbers(codes, values.to_numpy(dtype=np.float64))
        metric = "R2"
    rows = mixed[codes]
    named = name_rows(read.index, rows) if rows.any() else ""
    return SharedPlaces(int(rows.sum()), int(mixed.sum()), len(read), score, metric, named)


def _codes_of_places(places: Places, beside: pd.DataFrame | None) -> NDArray[np.intp]:
    """Number places, and rows told apart by further columns: equal ones alike."""
    if places.owner is None:
        lon, lat = places.lonlat.T
        at_pole = np.abs(lat) == 90.0
        # Adding zero makes -0.0 and 0.0 one.
        lon = np.where(at_pole, 0.0, np.where(lon == -180.0, 180.0, lon)) + 0.0
        table = pd.DataFrame({"lon": lon, "lat": lat + 0.0})
    else:
        starts = np.searchsorted(places.owner, np.arange(1, len(places)))
        table = pd.DataFrame(
            {"shape": [part.tobytes() for part in np.split(places.lonlat, starts)]}
        )
    if beside is not None:
        further = beside.reset_index(drop=True).set_axis(range(beside.shape[1]), axis=1)
        table = pd.concat([table, further], axis=1)
    return _codes(table)


def _codes(table: pd.DataFrame) -> NDArray[np.intp]:
    """Number the rows of a table: equal rows alike, missing values equal to each other."""
    groups = table.groupby(list(table.columns), sort=False, dropna=False, observed=True)
    return np.asarray(groups.ngroup(), dtype=np.intp)


def _mixed_labels(
    codes: NDArray[np.intp], labels: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], float]:
    """Return which places have several labels, and the best accuracy."""
    counts = pd.DataFrame({"place": codes, "label": labels}).value_counts(sort=False)
    by_place = counts.groupby(level="place")
    mixed = by_place.size().to_numpy() > 1
    return mixed, float(by_place.max().sum() / len(codes))


def _mixed_numbers(
    codes: NDArray[np.intp], numbers: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], float]:
    """Return which places have several values, and the best mean R2."""
    by_place = pd.DataFrame(numbers).groupby(codes)
    mixed = (by_place.max() != by_place.min()).any(axis=1).to_numpy()
    if not mixed.any():
        return mixed, 1.0
    means = by_place.mean().to_numpy()[codes]
    within = ((numbers - means) ** 2).sum(axis=0)
    total = ((numbers - numbers.mean(axis=0)) ** 2).sum(axis=0)
    varies = total > 0.0
    return mixed, float((1.0 - within[varies] / total[varies]).mean())
