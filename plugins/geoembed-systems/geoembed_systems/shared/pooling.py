"""Several views of a picture, one answer: their scores pooled."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.images.views import view_count

__all__ = ["POOLINGS", "check_crops", "check_pooling", "log_normalised", "pool_views"]

Floats = NDArray[np.float32]

POOLINGS: Final = ("mean", "max")


def check_pooling(how: str) -> None:
    """Refuse a way to pool views that is not offered.

    Parameters
    ----------
    how : str
        As given.

    Raises
    ------
    OptionError
        If it is none of `POOLINGS`.

    Examples
    --------
    >>> check_pooling("mean")
    """
    if how not in POOLINGS:
        raise OptionError(f"crop_pooling={how!r} is not offered: choose 'mean' or 'max'.")


def check_crops(crops: str) -> int:
    """Return how many views test-time crops make of a picture.

    Parameters
    ----------
    crops : {"none", "five", "ten-crop"}
        As given.

    Returns
    -------
    int
        1, 5 or 10.

    Raises
    ------
    OptionError
        If it is something else.

    Examples
    --------
    >>> check_crops("five")
    5
    """
    try:
        return view_count(crops)
    except (OptionError, TypeError) as error:  # a list is no key
        raise OptionError(
            f"crops={crops!r} is not offered: choose 'none', 'five' or 'ten-crop'."
        ) from error


def log_normalised(logits: Floats) -> Floats:
    """Return log-probabilities of classes from their logits.

    Parameters
    ----------
    logits : array of shape (..., C), float32
        Finite.

    Returns
    -------
    array of the same shape, float32
        The exponentials of the last axis sum to 1.

    Examples
    --------
    >>> np.exp(log_normalised(np.log(np.array([[1.0, 3.0]], np.float32)))).round(3).tolist()
    [[0.25, 0.75]]
    """
    found: Floats = logits - logits.max(axis=-1, keepdims=True)
    # A sum of ten thousand in float32 loses digits that float64 keeps.
    total = np.exp(found).sum(axis=-1, keepdims=True, dtype=np.float64)
    found -= np.log(total).astype(np.float32)
    return found


def pool_views(log_p: Floats, how: str = "mean") -> Floats:
    """Make one distribution of those of a picture's views.

    Parameters
    ----------
    log_p : array of shape (n, V, C), float32
        Log-probabilities of C classes in V views of n pictures.
    how : {"mean", "max"}
        The mean of the probabilities; or the largest of each class, scaled to sum to 1.

    Returns
    -------
    array of shape (n, C), float32
        Log-probabilities; of one view its own, untouched.

    Raises
    ------
    OptionError
        If `how` is something else.

    Examples
    --------
    >>> views = np.log(np.array([[[0.5, 0.5], [0.9, 0.1]]], np.float32))
    >>> np.exp(pool_views(views)).round(3)
    array([[0.7, 0.3]], dtype=float32)
    >>> np.exp(pool_views(views, "max")).round(3)
    array([[0.643, 0.357]], dtype=float32)
    """
    check_pooling(how)
    if log_p.shape[1] == 1:
        return log_p[:, 0]
    largest = log_p.max(axis=1)
    if how == "max":
        return log_normalised(largest)
    # What no view thinks possible stays impossible: its largest is no number to divide by.
    safe = np.where(np.isfinite(largest), largest, np.float32(0.0))
    summed = np.exp(log_p - safe[:, None]).sum(axis=1)
    with np.errstate(divide="ignore"):
        pooled: Floats = safe + np.log(summed) - np.float32(np.log(log_p.shape[1]))
    return pooled
