"""From shares that sum to 1 to numbers without bounds, and back."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import helmert
from scipy.special import softmax

from geoembed.errors import OptionError
from geoembed.scalars import is_number

__all__ = ["LINKS", "alr", "alr_inverse", "ilr", "ilr_inverse", "nearest_shares", "replace_zeros"]

LINKS: Final = ("softmax", "identity", "alr", "ilr")
"""What ``link=`` of `geoembed.heads.landcover.LandCoverRegressor` takes."""


def replace_zeros(shares: NDArray[Any], epsilon: float) -> NDArray[np.float64]:
    """Raise zeros to a small share and shrink the rest of every row, so that rows still sum to 1.

    Parameters
    ----------
    shares : array of shape (n, k)
        Not negative; rows sum to 1.
    epsilon : float
        Shares below this become it; above 0 and below 1 / k.

    Returns
    -------
    ndarray of shape (n, k), float64
        All positive, rows sum to 1. Ratios between shares of at least `epsilon` are kept.

    Raises
    ------
    OptionError
        If `epsilon` is not above 0 and below 1 / k.

    Notes
    -----
    Multiplicative replacement: Martín-Fernández, Barceló-Vidal, Pawlowsky-Glahn: Dealing with
    zeros and missing values in compositional data sets using nonparametric imputation.
    Mathematical Geology 35, 2003, equation 6.

    Examples
    --------
    >>> replace_zeros(np.array([[0.0, 0.2, 0.8]]), 0.01).round(3).tolist()
    [[0.01, 0.198, 0.792]]
    """
    values = np.asarray(shares, dtype=np.float64)
    classes = values.shape[1]
    number = is_number(epsilon)
    if not number or not 0.0 < epsilon < 1.0 / classes:
        raise OptionError(
            f"epsilon={epsilon!r} must be above 0 and below 1 / {classes}, the share of each of "
            f"{classes} classes if all are equal."
        )
    small = values < epsilon
    kept = np.where(small, 0.0, values)
    rest = 1.0 - epsilon * small.sum(axis=1, keepdims=True)
    return np.where(small, epsilon, kept * (rest / kept.sum(axis=1, keepdims=True)))


def alr(shares: NDArray[Any], reference: int) -> NDArray[np.float64]:
    """Additive log-ratios: logarithms of every other share over that of a reference class.

    Parameters
    ----------
    shares : array of shape (n, k)
        All positive.
    reference : int
        Column of the reference class.

    Returns
    -------
    ndarray of shape (n, k - 1), float64
        In the order of the columns, without the reference.

    Notes
    -----
    Aitchison: The statistical analysis of compositional data. Journal of the Royal Statistical
    Society B 44, 1982.

    Examples
    --------
    >>> alr(np.array([[0.2, 0.4, 0.4]]), 2).round(3).tolist()
    [[-0.693, 0.0]]
    """
    logarithms = np.log(np.asarray(shares, dtype=np.float64))
    others = np.delete(logarithms, reference, axis=1)
    return np.asarray(others - logarithms[:, [reference]])


def alr_inverse(ratios: NDArray[Any], reference: int) -> NDArray[np.float64]:
    """Undo `alr`.

    Parameters
    ----------
    ratios : array of shape (n, k - 1)
        Any finite numbers.
    reference : int
        Column of the reference class.

    Returns
    -------
    ndarray of shape (n, k), float64
        Not negative, rows sum to 1.

    Examples
    --------
    >>> alr_inverse(np.log([[0.5, 1.0]]), 2).round(3).tolist()
    [[0.2, 0.4, 0.4]]
    """
    values = np.asarray(ratios, dtype=np.float64)
    return np.asarray(softmax(np.insert(values, reference, 0.0, axis=1), axis=1))


def ilr(shares: NDArray[Any]) -> NDArray[np.float64]:
    """Isometric log-ratios: coordinates of the logarithms on an orthonormal basis.

    Parameters
    ----------
    shares : array of shape (n, k)
        All positive.

    Returns
    -------
    ndarray of shape (n, k - 1), float64
        Distances between rows are Aitchison distances between the shares.

    Notes
    -----
    Egozcue, Pawlowsky-Glahn, Mateu-Figueras, Barceló-Vidal: Isometric logratio transformations
    for compositional data analysis. Mathematical Geology 35, 2003. The basis is Helmert's.

    Examples
    --------
    >>> ilr(np.array([[0.5, 0.25, 0.25]])).round(3).tolist()
    [[0.49, 0.283]]
    """
    logarithms = np.log(np.asarray(shares, dtype=np.float64))
    return np.asarray(logarithms @ helmert(logarithms.shape[1]).T)


def ilr_inverse(ratios: NDArray[Any]) -> NDArray[np.float64]:
    """Undo `ilr`.

    Parameters
    ----------
    ratios : array of shape (n, k - 1)
        Any finite numbers.

    Returns
    -------
    ndarray of shape (n, k), float64
        Not negative, rows sum to 1.

    Examples
    --------
    >>> ilr_inverse(ilr(np.array([[0.5, 0.25, 0.25]]))).round(3).tolist()
    [[0.5, 0.25, 0.25]]
    """
    values = np.asarray(ratios, dtype=np.float64)
    return np.asarray(softmax(values @ helmert(values.shape[1] + 1), axis=1))


def nearest_shares(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the shares that are nearest to rows of any numbers.

    Parameters
    ----------
    values : array of shape (n, k)
        Any finite numbers.

    Returns
    -------
    ndarray of shape (n, k), float64
        Not negative, rows sum to 1; the Euclidean projection onto the simplex. It is never
        further from any row of shares than `values` were.

    Notes
    -----
    Held, Wolfe, Crowder: Validation of subgradient optimization. Mathematical Programming 6,
    1974: a constant is subtracted from every row and what is negative then becomes zero.

    Examples
    --------
    >>> nearest_shares(np.array([[0.5, 0.7, -0.1]])).round(3).tolist()
    [[0.4, 0.6, 0.0]]
    """
    values = np.asarray(values, dtype=np.float64)
    ordered = -np.sort(-values, axis=1)
    excess = np.cumsum(ordered, axis=1) - 1.0
    counts = np.arange(1, values.shape[1] + 1)
    # The largest count of positive shares for which the smallest of them stays positive.
    positive = (ordered * counts > excess).sum(axis=1, keepdims=True)
    shift = np.take_along_axis(excess, positive - 1, axis=1) / positive
    return np.asarray(np.maximum(values - shift, 0.0))
