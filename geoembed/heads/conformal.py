"""Split-conformal radii: how far off a fitted model is on rows that it has not seen."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.scalars import is_number

__all__ = ["check_coverage", "conformal_radius", "rows_needed"]


def check_coverage(coverage: Any) -> float | None:
    """Return a coverage if it is None or strictly between 0 and 1.

    Parameters
    ----------
    coverage : float or None
        Nominal share of intervals that hold the truth.

    Returns
    -------
    float or None
        The same.

    Raises
    ------
    OptionError
        If it is anything else.

    Examples
    --------
    >>> check_coverage(0.9)
    0.9
    """
    if coverage is None:
        return None
    number = is_number(coverage)
    if not number or not 0.0 < float(coverage) < 1.0:
        raise OptionError(
            f"coverage={coverage!r} is no share strictly between 0 and 1, such as 0.9, nor None."
        )
    return float(coverage)


def rows_needed(coverage: float) -> int:
    """Return how many calibration rows a finite interval of a coverage needs.

    Parameters
    ----------
    coverage : float
        Strictly between 0 and 1.

    Returns
    -------
    int
        The smallest m with (m + 1) coverage <= m.

    Examples
    --------
    >>> rows_needed(0.9)
    9
    """
    # The rounding keeps 0.9 / 0.1 from being 9.000000000000002 and so 10 rows.
    return math.ceil(round(coverage / (1.0 - coverage), 9))


def conformal_radius(errors: NDArray[Any], coverage: float) -> NDArray[np.float64]:
    """Return the radius of the interval around a prediction that has a nominal coverage.

    Parameters
    ----------
    errors : array of shape (m, t)
        Absolute errors on m calibration rows, which the model has not learned from.
    coverage : float
        Strictly between 0 and 1.

    Returns
    -------
    ndarray of shape (t,), float64
        The ceil((m + 1) coverage)-th smallest error of every column; infinite if m is too small.

    Notes
    -----
    If a new row and the calibration rows are exchangeable, the interval holds the truth with a
    probability of at least `coverage`, and at most `coverage` + 1 / (m + 1) if no errors are
    equal (Lei, G'Sell, Rinaldo, Tibshirani, Wasserman: Distribution-free predictive inference
    for regression. JASA 2018, theorem 2). Places far from all calibration rows are not
    exchangeable with them: see the guide on validation in space.

    Examples
    --------
    >>> conformal_radius(np.arange(1.0, 20.0)[:, None], 0.9).tolist()
    [18.0]
    """
    count = len(errors)
    rank = math.ceil(round((count + 1) * coverage, 9))
    if rank > count:
        return np.full(errors.shape[1], np.inf)
    ordered = np.partition(np.asarray(errors, dtype=np.float64), rank - 1, axis=0)
    return np.asarray(ordered[rank - 1])
