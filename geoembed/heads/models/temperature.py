"""Calibrated probabilities by one number: temperature scaling."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

__all__ = ["fit_temperature", "soften"]

# A probability of zero, as nearest neighbours give it, has no logarithm: it becomes this, or the
# smallest other of its row where that is smaller, so that the order stays.
_FLOOR = 1e-12

# Of the temperature, and of its inverse: models that are further off are no models.
_LARGEST = 100.0


def soften(probabilities: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Divide the logarithms of probabilities by a temperature, and normalise again.

    Parameters
    ----------
    probabilities : array of shape (n, k)
        Rows sum to 1.
    temperature : float
        Above 1 makes them flatter, below 1 sharper; 1 changes nothing.

    Returns
    -------
    array of shape (n, k), float64
        In the same order within every row.

    Examples
    --------
    >>> soften(np.array([[0.2, 0.8]]), 2.0).round(3).tolist()
    [[0.333, 0.667]]
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if temperature == 1.0:
        return values
    return np.asarray(softmax(_logarithms(values) / temperature, axis=1))


def fit_temperature(probabilities: NDArray[Any], codes: NDArray[np.intp]) -> float:
    """Find the temperature under which labels that were seen are likeliest.

    Parameters
    ----------
    probabilities : array of shape (n, k)
        Of a model that has not learned from these rows.
    codes : array of int, shape (n,)
        Column of the label of every row.

    Returns
    -------
    float
        Between 0.01 and 100.

    Notes
    -----
    Minimises the log-loss, which is convex in 1 / temperature.

    Examples
    --------
    >>> fit_temperature(np.array([[0.9, 0.1]] * 4), np.array([0, 0, 0, 1])) > 1.5
    True
    """
    logarithms = _logarithms(np.asarray(probabilities, dtype=np.float64))
    rows = np.arange(len(codes))

    def loss(log_inverse: float) -> float:
        return -float(log_softmax(logarithms * np.exp(log_inverse), axis=1)[rows, codes].mean())

    found = minimize_scalar(loss, bounds=(-np.log(_LARGEST), np.log(_LARGEST)), method="bounded")
    return float(np.exp(-found.x))


def _logarithms(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    zero = probabilities <= 0.0
    if not zero.any():
        return np.asarray(np.log(probabilities))
    smallest = np.where(zero, _FLOOR, probabilities).min(axis=1, keepdims=True)
    return np.asarray(np.log(np.where(zero, np.minimum(smallest, _FLOOR), probabilities)))
