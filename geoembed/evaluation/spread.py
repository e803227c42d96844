"""Which differences between scores are larger than their spread over folds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from geoembed.errors import OptionError

__all__ = ["Difference", "paired_difference"]


@dataclass(frozen=True)
class Difference:
    """The difference of two scores over the same folds.

    Parameters
    ----------
    mean : float
        Of the differences, fold by fold.
    low, high : float
        Ends of the interval that holds the true difference at the stated confidence; infinite
        with a single fold.
    folds : int
        Number of folds.
    """

    mean: float
    low: float
    high: float
    folds: int

    @property
    def within_spread(self) -> bool:
        """Whether the interval holds 0: the folds do not tell which of the two is better."""
        return bool(self.low <= 0.0 <= self.high)


def paired_difference(
    first: ArrayLike, second: ArrayLike, test_share: float, *, confidence: float = 0.95
) -> Difference:
    """Compare two scores over the same folds by a corrected paired t-test.

    Parameters
    ----------
    first, second : array_like of shape (k,)
        Scores, fold by fold, in one order.
    test_share : float
        Rows tested for each row learned from in a fold, 1 / (k - 1) in k folds.
    confidence : float
        Of the interval, more than 0 and less than 1.

    Returns
    -------
    Difference
        Of the first less the second.

    Raises
    ------
    OptionError
        If there are not equally many scores, or none.

    Notes
    -----
    Folds share most of their training rows, so their scores are no independent samples, and a
    plain t-test finds differences where there are none. The variance of the mean difference is
    taken as (1 / k + n_test / n_train) times the variance over folds, after C. Nadeau and Y. Bengio
    (2003), "Inference for the generalization error", Machine Learning 52; with repeated folds, k
    counts all of them. The interval has k - 1 degrees of freedom.

    Examples
    --------
    >>> paired_difference([0.8, 0.9, 0.85], [0.5, 0.6, 0.56], test_share=0.5).within_spread
    False
    >>> paired_difference([0.8, 0.5, 0.85], [0.5, 0.6, 0.56], test_share=0.5).within_spread
    True
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise OptionError(
            f"Scores are compared fold by fold: got {a.shape} and {b.shape}, expected two arrays "
            "of one length."
        )
    if not 0.0 < confidence < 1.0:
        raise OptionError(f"confidence={confidence!r} must lie between 0 and 1.")
    off: NDArray[np.float64] = a - b
    mean, count = float(off.mean()), len(off)
    if count == 1:
        return Difference(mean, -np.inf, np.inf, 1)
    width = student.ppf(0.5 + confidence / 2.0, count - 1) * np.sqrt(
        (1.0 / count + test_share) * off.var(ddof=1)
    )
    return Difference(mean, mean - float(width), mean + float(width), count)
