"""Tell pictures that say nothing about where they were taken."""

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoembed.errors import OptionError
from geoembed.geolocation.plain import Plain
from geoembed.heads.conformal import check_coverage, conformal_radius, rows_needed

__all__ = ["SignalTest", "fit_signal_test", "shuffled_queries"]

Floats = NDArray[np.float64]

_FEWEST: Final = 2


@dataclass(frozen=True)
class SignalTest(Plain):
    """Above which information a picture is taken to say something about its place.

    Parameters
    ----------
    threshold : float
        Nats, as `EarthDensity.information` gives them.
    false_alarm : float
        Share of queries without any signal that exceed it all the same.
    queries : int
        On how many queries without a signal it rests.

    Examples
    --------
    >>> test = fit_signal_test(np.linspace(0.0, 1.0, 101), false_alarm=0.05)
    >>> test.no_signal([0.5, 2.0]).tolist()
    [True, False]
    """

    _called: ClassVar[str] = "signal test"

    threshold: float
    false_alarm: float
    queries: int = 0

    def no_signal(self, information: ArrayLike) -> NDArray[np.bool_]:
        """Flag queries that tell no more than noise does.

        Parameters
        ----------
        information : array of shape (m,)
            Nats, with the temperature and density that the test was made with.

        Returns
        -------
        array of bool, shape (m,)
            True where no signal is seen; also where the information is NaN.
        """
        return np.asarray(~(np.asarray(information, dtype=np.float64) > self.threshold))


def fit_signal_test(information: ArrayLike, *, false_alarm: float = 0.05) -> SignalTest:
    """Set the threshold from queries that say nothing about a place.

    Parameters
    ----------
    information : array of shape (m,)
        Nats of such queries: pictures of white walls and close-ups, or `shuffled_queries`.
    false_alarm : float
        Share of such queries that may pass for having a signal, strictly between 0 and 1.

    Returns
    -------
    SignalTest
        Its threshold is the ceil((m + 1) (1 - false_alarm))-th smallest value: on average over
        exchangeable queries, at most `false_alarm` of them exceed it.

    Raises
    ------
    OptionError
        If there are too few queries (19 for 0.05) or a value is not finite.

    Examples
    --------
    >>> fit_signal_test(np.arange(19.0), false_alarm=0.05).threshold
    18.0
    """
    values = np.asarray(information, dtype=np.float64)
    share = check_coverage(false_alarm)
    if share is None:
        raise OptionError("false_alarm=None is no share strictly between 0 and 1, such as 0.05.")
    if values.ndim != 1 or not np.isfinite(values).all():
        raise OptionError("information must be one finite number a query.")
    if len(values) < rows_needed(1.0 - share):
        raise OptionError(
            f"{len(values)} queries are too few for false_alarm={share:g}: give "
            f"{rows_needed(1.0 - share)} or more."
        )
    threshold = float(conformal_radius(values[:, None], 1.0 - share)[0])
    return SignalTest(threshold, share, len(values))


def shuffled_queries(queries: ArrayLike, count: int, *, seed: int = 0) -> Floats:
    """Make queries that are like real ones value by value and say nothing as a whole.

    The queries are turned to their principal axes, each axis is dealt out anew among the
    queries, and the result is turned back: means and variances along every direction stay, what
    goes together does not.

    Parameters
    ----------
    queries : array of shape (m, d)
        Real ones, at least 2, finite.
    count : int
        How many to make.
    seed : int
        Of the dealing.

    Returns
    -------
    array of shape (count, d), float64
        Each with the length of a real one.

    Raises
    ------
    OptionError
        If there are fewer than 2 queries or a value is not finite.

    Examples
    --------
    >>> real = np.random.default_rng(0).normal(size=(50, 4))
    >>> shuffled_queries(real, 3).shape
    (3, 4)
    """
    real = np.asarray(queries, dtype=np.float64)
    if real.ndim != 2 or len(real) < _FEWEST or not np.isfinite(real).all():
        raise OptionError(f"queries must be an array (m, d), finite, m at least {_FEWEST}.")
    rng = np.random.default_rng(seed)
    mean = real.mean(axis=0)
    _, _, axes = np.linalg.svd(real - mean, full_matrices=False)
    along = (real - mean) @ axes.T
    dealt = np.take_along_axis(along, rng.integers(len(real), size=(count, along.shape[1])), axis=0)
    made = mean + dealt @ axes
    lengths = np.linalg.norm(real, axis=1)[rng.integers(len(real), size=count)]
    norms = np.linalg.norm(made, axis=1)
    return np.asarray(made * (lengths / np.where(norms == 0.0, 1.0, norms))[:, None])
