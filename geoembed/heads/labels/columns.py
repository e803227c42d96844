"""The columns of labels that a classifier adds to a table."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["label_columns"]


def label_columns(
    name: str,
    chosen: NDArray[np.intp],
    probabilities: NDArray[np.float64],
    labels: NDArray[Any],
    *,
    kind: str,
    top_k: int,
    sets: NDArray[np.object_] | None,
) -> dict[str, Any]:
    """Return the columns of predictions of one level.

    Parameters
    ----------
    name : str
        Name of the column of the chosen label.
    chosen : array of int, shape (m,)
        The chosen label, which stands first whatever its probability.
    probabilities : array of shape (m, k)
        Of every label.
    labels : array of shape (k,)
        The labels; they may repeat.
    kind : {"probability", "score"}
        What the numbers are called.
    top_k : int
        How many labels a place.
    sets : array of str, shape (m,), or None
        From `join_labels`.

    Returns
    -------
    dict
        Name -> categories, numbers or texts of shape (m,).

    Examples
    --------
    >>> shares = np.array([[0.2, 0.8]])
    >>> labels = np.array(["a", "b"])
    >>> list(label_columns("x", np.array([1]), shares, labels, kind="score", top_k=2, sets=None))
    ['x', 'x_score', 'x_2', 'x_2_score']
    """
    categories, numbers = np.unique(labels, return_inverse=True)
    rows, codes, left = np.arange(len(probabilities)), chosen, None
    columns: dict[str, Any] = {}
    for rank in range(1, min(top_k, len(labels)) + 1):
        if rank > 1:
            left = probabilities.copy() if left is None else left
            left[rows, codes] = -1.0
            codes = left.argmax(axis=1)
        stem = name if rank == 1 else f"{name}_{rank}"
        dtype = pd.CategoricalDtype(pd.Index(categories))
        columns[stem] = pd.Categorical.from_codes(numbers[codes], dtype=dtype)
        columns[f"{stem}_{kind}"] = probabilities[rows, codes]
        if rank == 1 and sets is not None:
            columns[f"{name}_set"] = sets
    return columns
