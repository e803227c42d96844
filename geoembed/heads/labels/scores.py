"""How good predicted labels, their probabilities and their sets are."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["calibration_error", "score_labels", "score_levels"]

_BINS: Final = 15

# A label that was given no probability at all costs this much, not infinity.
_FLOOR: Final = float(np.finfo(np.float64).eps)


def calibration_error(confidence: NDArray[Any], right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error.

    Parameters
    ----------
    confidence : array of shape (n,)
        Probability of the predicted label, in [0, 1].
    right : array of bool, shape (n,)
        Whether it is the true one.

    Returns
    -------
    float
        Mean distance between confidence and accuracy over 15 bins of equal width, weighted by
        their rows.

    Notes
    -----
    As in Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks. ICML 2017.

    Examples
    --------
    >>> calibration_error(np.array([0.75] * 4), np.array([True, True, True, False]))
    0.0
    """
    bins = np.clip(np.ceil(np.asarray(confidence) * _BINS).astype(np.intp) - 1, 0, _BINS - 1)
    gap = np.bincount(bins, confidence - right.astype(np.float64), _BINS)
    return float(np.abs(gap).sum() / len(bins))


def score_labels(
    truth: NDArray[np.intp],
    predicted: NDArray[np.intp],
    probabilities: NDArray[np.float64],
    sets: NDArray[np.bool_] | None,
) -> dict[str, float]:
    """Score the labels of one level.

    Parameters
    ----------
    truth : array of int, shape (n,)
        Number of the true label; a negative number of its own for every label that is not known.
    predicted : array of int, shape (n,)
        Number of the predicted label.
    probabilities : array of shape (n, k)
        Of every known label.
    sets : array of bool, shape (n, k), or None
        Labels in the set of every row.

    Returns
    -------
    dict
        ``rows``, ``unknown_rows`` (of labels that are not known), ``labels`` (that occur),
        ``accuracy``, ``balanced_accuracy`` (mean over the labels that occur), ``top3_accuracy``,
        ``log_loss`` (over rows of known labels), ``calibration_error``, ``set_size`` (mean),
        ``coverage`` (share of the sets that hold the truth). Rows of labels that are not known
        count as wrong, and as not covered. NaN where nothing can be said.

    Examples
    --------
    >>> shares = np.array([[0.9, 0.1], [0.6, 0.4]])
    >>> scores = score_labels(np.array([0, 1]), np.array([0, 0]), shares, shares > 0.2)
    >>> scores["accuracy"], scores["set_size"], scores["coverage"]
    (0.5, 1.5, 1.0)
    """
    rows = np.arange(len(truth))
    known = truth >= 0
    right = truth == predicted
    own = np.where(known, probabilities[rows, np.maximum(truth, 0)], -1.0)
    # Labels above the true one: equal ones count against it, so that a constant earns nothing.
    rank = (probabilities >= own[:, None]).sum(axis=1)
    labels, which = np.unique(truth, return_inverse=True)
    recall = np.bincount(which, right) / np.bincount(which)
    return {
        "rows": len(truth),
        "unknown_rows": int((~known).sum()),
        "labels": len(labels),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(recall.mean()),
        "top3_accuracy": float((known & (rank <= 3)).mean()),
        "log_loss": -float(np.log(np.maximum(own[known], _FLOOR)).mean())
        if known.any()
        else np.nan,
        "calibration_error": calibration_error(probabilities[rows, predicted], right),
        "set_size": np.nan if sets is None else float(sets.sum(axis=1).mean()),
        "coverage": np.nan
        if sets is None
        else float((known & sets[rows, np.maximum(truth, 0)]).mean()),
    }


def score_levels(
    truth: Sequence[NDArray[np.intp]],
    blocks: Sequence[Sequence[tuple[Any, Any, Any]]],
    names: Sequence[str],
    *,
    with_sets: bool,
) -> pd.DataFrame:
    """Score the labels of every level.

    Parameters
    ----------
    truth : sequence of arrays of int, shape (n,)
        As in `score_labels`, level by level.
    blocks : sequence of sequences of (array, array, array)
        Block by block of the rows and level by level: predicted labels, probabilities, sets.
    names : sequence of str
        Of the levels.
    with_sets : bool
        Whether the sets say anything.

    Returns
    -------
    DataFrame
        One row a level.

    Examples
    --------
    >>> shares = np.array([[0.9, 0.1]])
    >>> block = [(np.array([0]), shares, shares > 0.2)]
    >>> score_levels([np.array([0])], [block], ["land"], with_sets=True)["accuracy"].tolist()
    [1.0]
    """
    scores = []
    for level, codes in enumerate(truth):
        chosen, shares, sets = (
            np.concatenate([block[level][part] for block in blocks]) for part in range(3)
        )
        scores.append(score_labels(codes, chosen, shares, sets if with_sets else None))
    return pd.DataFrame(scores, index=pd.Index(names, name="level"))
