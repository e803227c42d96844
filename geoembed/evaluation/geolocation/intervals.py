"""How sure a score is: bootstrap intervals over the pictures that were evaluated."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from geoembed.errors import OptionError
from geoembed.evaluation.geolocation.metrics import (
    THRESHOLDS_KM,
    geoscore,
    name_threshold,
)
from geoembed.scalars import check_count

__all__ = ["bootstrap_intervals", "check_resampling"]

Floats = NDArray[np.float64]

# Drawn at once: bounds the memory to some tens of megabytes.
_DRAWN: Final = 4_000_000


def bootstrap_intervals(
    km: ArrayLike,
    thresholds_km: Sequence[float] = THRESHOLDS_KM,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Say between which values the scores lie if pictures of the same kind were drawn anew.

    Parameters
    ----------
    km : array_like of shape (n,)
        Errors in km, none of them NaN.
    thresholds_km : sequence of float
        Ascending.
    resamples : int
        How often n errors are drawn from the n, with replacement.
    level : float
        Coverage of the intervals, in (0, 1).
    seed : int
        Of the draws. Equal input gives equal intervals.

    Returns
    -------
    dict of str to (float, float)
        Low and high end for every name of `geoembed.evaluation.geolocation.summarise`, in its
        unit; NaN if there are no errors.

    Raises
    ------
    OptionError
        If `resamples` is not a positive whole number or `level` is outside (0, 1).

    Notes
    -----
    Percentile intervals; all scores are taken from the same draws. Where every error is within a
    threshold, or none is, each draw repeats that and the bootstrap would claim to be certain: the
    exact interval of Clopper and Pearson stands there instead. Pictures are taken to be drawn one
    by one: many pictures of one photographer make the truth less certain than this says.

    Examples
    --------
    >>> found = bootstrap_intervals([0.5] * 40 + [60.0] * 60, [1, 25, 200], seed=1)
    >>> [round(end) for end in found["within 1 km"]]
    [31, 50]
    >>> [round(end, 1) for end in found["within 200 km"]]
    [96.4, 100.0]
    """
    check_resampling(resamples, level)
    errors = np.sort(np.asarray(km, dtype=np.float64).ravel())
    names = [*map(name_threshold, thresholds_km), "median_km", "mean_km", "geoscore"]
    if not errors.size:
        return dict.fromkeys(names, (np.nan, np.nan))
    counts = np.searchsorted(errors, np.asarray(thresholds_km, np.float64), side="right")
    draws = _draw(errors, counts, resamples, np.random.default_rng(seed))
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(draws, [tail, 100.0 - tail], axis=0)
    for at, count in enumerate(counts):
        if count in (0, errors.size):
            low[at], high[at] = _exact(int(count), errors.size, level)
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def check_resampling(resamples: object, level: object) -> None:
    """Raise OptionError unless there is something to draw, and a level to draw it for."""
    check_count("resamples", resamples)
    if not isinstance(level, float | int) or not 0.0 < level < 1.0:
        raise OptionError(f"level={level!r} is not a share between 0 and 1, such as 0.95.")


def _draw(
    errors: Floats, counts: NDArray[np.intp], resamples: int, rng: np.random.Generator
) -> Floats:
    """All scores of all draws, shape (resamples, thresholds + 3); `errors` ascend."""
    n = errors.size
    middle = (n - 1) // 2, n // 2
    points = geoscore(errors)
    block = max(1, _DRAWN // n)
    out = np.empty((resamples, len(counts) + 3))
    for start in range(0, resamples, block):
        rows = slice(start, min(start + block, resamples))
        # Ranks, not errors: shares and medians of ascending errors need no more.
        ranks = rng.integers(0, n, size=(rows.stop - start, n), dtype=np.int32)
        for at, count in enumerate(counts):
            out[rows, at] = 100.0 * np.count_nonzero(ranks < count, axis=1) / n
        out[rows, -2] = errors[ranks].mean(axis=1)
        out[rows, -1] = points[ranks].mean(axis=1)
        ranks.partition(sorted(set(middle)), axis=1)
        out[rows, -3] = errors[ranks[:, list(middle)]].mean(axis=1)
    return out


def _exact(count: int, n: int, level: float) -> tuple[float, float]:
    """Interval of Clopper and Pearson for none or all of n, percent."""
    # One end is known, so that the whole error lies at the other, as in the two-sided interval.
    tail = (1.0 - level) / 2.0
    if count == 0:
        return 0.0, 100.0 * float(beta.ppf(1.0 - tail, 1, n))
    return 100.0 * float(beta.ppf(tail, n, 1)), 100.0
