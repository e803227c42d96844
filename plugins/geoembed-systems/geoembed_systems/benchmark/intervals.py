"""How sure scores are, and differences of scores: pictures drawn anew, all systems together."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.evaluation.geolocation import (
    THRESHOLDS_KM,
    bootstrap_intervals,
    geoscore,
    share_within,
)
from geoembed.evaluation.geolocation.intervals import check_resampling

__all__ = ["draw_scores", "interval_of", "score_names", "seed_means"]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Key = TypeVar("Key", bound=Hashable)

# Counts drawn at once: bounds the memory to some tens of megabytes.
_DRAWN: Final = 2_000_000
# Sums of equal numbers differ by no more than this, relative to them.
_ROUNDING: Final = 1e-9


def score_names(thresholds_km: Sequence[float] = THRESHOLDS_KM) -> tuple[str, ...]:
    """Name the scores in the order of every array here.

    Parameters
    ----------
    thresholds_km : sequence of float
        Ascending.

    Returns
    -------
    tuple of str
        Shares in percent, then ``median_km``, ``mean_km`` and ``geoscore``.

    Examples
    --------
    >>> score_names([25, 0.5])
    ('within_25', 'within_0.5', 'median_km', 'mean_km', 'geoscore')
    """
    shares = [f"within_{km:.10g}" for km in thresholds_km]
    return (*shares, "median_km", "mean_km", "geoscore")


def seed_means(km: Floats, thresholds_km: Sequence[float] = THRESHOLDS_KM) -> Floats:
    """Score every seed.

    Parameters
    ----------
    km : ndarray of shape (seeds, m)
        Errors of the same m pictures, km, none NaN.
    thresholds_km : sequence of float
        Ascending.

    Returns
    -------
    ndarray of float64, shape (seeds, scores)
        In the order of `score_names`; their mean is the score of a system.

    Examples
    --------
    >>> seed_means(np.array([[0.5, 30.0], [2.0, 60.0]]), [1, 50])[:, :3].tolist()
    [[50.0, 100.0, 15.25], [0.0, 50.0, 31.0]]
    """
    rows = [
        [*share_within(row, thresholds_km), np.median(row), row.mean(), geoscore(row).mean()]
        for row in km
    ]
    return np.asarray(rows, dtype=np.float64)


def draw_scores(
    errors: Mapping[Key, Floats],
    thresholds_km: Sequence[float] = THRESHOLDS_KM,
    *,
    groups: NDArray[np.integer] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[Key, Floats]:
    """Draw pictures with replacement, and score all systems on each draw.

    Parameters
    ----------
    errors : mapping to ndarrays of shape (seeds, m)
        System -> errors of the same m pictures, km, none NaN; as many seeds as there are.
    thresholds_km : sequence of float
        Ascending.
    groups : ndarray of int, shape (m,), optional
        Pictures of one group are drawn together, as they stand or fall together: those of one
        block of the Earth. Each on its own if not given.
    resamples : int
        How many draws.
    seed : int
        Of the draws. Equal input gives equal draws.

    Returns
    -------
    dict to ndarrays of float64, shape (resamples, scores)
        Means over the seeds, in the order of `score_names`. Row i of all systems is of the same
        draw: differences of rows are those of paired systems.

    Raises
    ------
    OptionError
        If systems have errors of different numbers of pictures, or of none, or `resamples` is not
        a positive whole number.

    Notes
    -----
    Seeds are kept and pictures drawn: the spread says what other pictures would change, not what
    other seeds would.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> near, far = rng.uniform(0, 100, (3, 400)), rng.uniform(100, 200, (3, 400))
    >>> drawn = draw_scores({"near": near, "far": far}, [1, 25], resamples=500)
    >>> bool((drawn["near"][:, 2] < drawn["far"][:, 2]).all())  # the medians
    True
    """
    check_resampling(resamples, 0.5)
    sizes = {values.shape[1] for values in errors.values()}
    if len(sizes) != 1 or not min(sizes) or any(not len(values) for values in errors.values()):
        raise OptionError(
            "Systems are compared on the same pictures: got errors of shapes "
            f"{[values.shape for values in errors.values()]}."
        )
    m = sizes.pop()
    group = np.arange(m) if groups is None else np.unique(groups, return_inverse=True)[1].ravel()
    if len(group) != m:
        raise OptionError(f"groups= has {len(group):,} entries for {m:,} pictures.")
    rng = np.random.default_rng(seed)
    worth = {key: _worth(values, thresholds_km) for key, values in errors.items()}
    order = {key: np.argsort(values, axis=1) for key, values in errors.items()}
    out = {key: np.empty((resamples, len(thresholds_km) + 3)) for key in errors}
    block = max(1, _DRAWN // m)
    for start in range(0, resamples, block):
        rows = slice(start, min(start + block, resamples))
        counts = _draw(rows.stop - start, group, rng)
        total = counts.sum(axis=1)
        for key, values in errors.items():
            # Shares, mean and GeoScore are means of what each picture is worth.
            means = counts @ worth[key] / total[:, None]
            middle = [
                _medians(row[at], counts[:, at]) for row, at in zip(values, order[key], strict=True)
            ]
            out[key][rows] = np.insert(means, -2, np.mean(middle, axis=0), axis=1)
    return out


def interval_of(
    km: Floats,
    drawn: Floats,
    thresholds_km: Sequence[float] = THRESHOLDS_KM,
    *,
    level: float = 0.95,
    groups: int | None = None,
) -> tuple[Floats, Floats]:
    """Say between which values the scores of a system lie.

    Parameters
    ----------
    km : ndarray of shape (seeds, m)
        Its errors.
    drawn : ndarray of shape (resamples, scores)
        From `draw_scores`.
    thresholds_km : sequence of float
        Of the draws.
    level : float
        Coverage, in (0, 1).
    groups : int, optional
        How many groups the pictures were drawn in; each on its own if not given.

    Returns
    -------
    low, high : ndarray of float64, shape (scores,)
        Percentiles of the draws. Of pictures that are drawn one by one, where each draw says the
        same, all pictures or none, it is the exact interval that
        `geoembed.evaluation.geolocation.bootstrap_intervals` gives; and so are all of a single
        seed. Of groups, a score that is the same in each draw has no interval: NaN.

    Notes
    -----
    An exact interval of as many trials as there are groups would be no interval of a share of
    pictures: with 16 groups it reaches from 0 to 20.6 % where no picture counts, and shrinks to a
    tenth of that with the first one that does.

    Examples
    --------
    >>> km = np.full((3, 60), 500.0)
    >>> low, high = interval_of(km, draw_scores({"a": km}, [1, 25])["a"], [1, 25])
    >>> high.round(1).tolist()  # none of 60 is within 1 km: up to 6 % may be
    [6.0, 6.0, 500.0, 500.0, 3576.8]
    """
    check_resampling(len(drawn), level)
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(drawn, [tail, 100.0 - tail], axis=0)
    if groups is not None:
        least, most = drawn.min(axis=0), drawn.max(axis=0)
        same = most - least <= _ROUNDING * np.abs(most)
        return np.where(same, np.nan, low), np.where(same, np.nan, high)
    one = len(km) == 1
    # One resample: only ends that are not drawn are wanted of it. Those depend on the count alone.
    known = bootstrap_intervals(
        km[0], thresholds_km, level=level, resamples=len(drawn) if one else 1
    )
    ends = np.array(list(known.values()))
    shares = np.stack([km <= threshold for threshold in thresholds_km])
    exact = np.full(len(low), one)
    exact[: len(shares)] |= shares.all(axis=(1, 2)) | ~shares.any(axis=(1, 2))
    low[exact], high[exact] = ends[exact].T
    return low, high


def _worth(km: Floats, thresholds_km: Sequence[float]) -> Floats:
    """What each picture adds to the shares, the mean and GeoScore, means over seeds: (m, k)."""
    columns = [100.0 * (km <= threshold).mean(axis=0) for threshold in thresholds_km]
    return np.stack([*columns, km.mean(axis=0), geoscore(km).mean(axis=0)], axis=1)


def _draw(draws: int, group: NDArray[np.intp], rng: np.random.Generator) -> Counts:
    """How often each picture is drawn, (draws, m)."""
    size = int(group.max()) + 1
    chosen = rng.integers(0, size, size=(draws, size))
    chosen += size * np.arange(draws)[:, None]
    counts = np.bincount(chosen.ravel(), minlength=draws * size).reshape(draws, size)
    return counts[:, group]


def _medians(km: Floats, counts: Counts) -> Floats:
    """Medians of ascending errors, each counted so often: (draws,)."""
    reached = counts.cumsum(axis=1)
    total = reached[:, -1:]
    low = (reached > (total - 1) // 2).argmax(axis=1)
    high = (reached > total // 2).argmax(axis=1)
    middle: Floats = 0.5 * (km[low] + km[high])
    return middle
