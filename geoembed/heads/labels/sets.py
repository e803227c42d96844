"""Sets of labels that hold the truth at a nominal rate, and their form in a column of text."""

import csv
from collections.abc import Sequence
from typing import Any

import numpy as np
from mapie.conformity_scores import LACConformityScore
from numpy.typing import NDArray

__all__ = ["conformal_threshold", "join_labels", "label_sets", "split_labels"]

# Keeps (m + 1) coverage from landing a rounding error above a whole number.
_SLACK = 1e-12

# Probabilities this little below the threshold are at it: what MAPIE takes for equal.
_EQUAL = float(np.finfo(np.float64).eps)


def conformal_threshold(
    probabilities: NDArray[Any], codes: NDArray[np.intp], coverage: float
) -> float:
    """Find how improbable a label may be to belong to a set of a nominal coverage.

    Parameters
    ----------
    probabilities : array of shape (m, k)
        Of m calibration rows, which the model has not learned from.
    codes : array of int, shape (m,)
        Column of the label of every row.
    coverage : float
        Strictly between 0 and 1; m must be at least `geoembed.heads.conformal.rows_needed`.

    Returns
    -------
    float
        The ceil((m + 1) coverage)-th smallest of 1 - probability of the label.

    Notes
    -----
    MAPIE's score and quantile for least ambiguous sets (Sadinle, Lei, Wasserman: Least ambiguous
    set-valued classifiers with bounded error levels. JASA 2019). If a new row and the calibration
    rows are exchangeable, its set holds the truth with a probability of at least `coverage`.
    These sets are the smallest on average: for the country of 5,495 places on land, from spherical
    harmonics, they hold 2.5 labels where 98 % are covered, adaptive sets (APS) 5.2. The latter
    keep to a nominal rate only by drawing lots, so that one place gets another set at each call.

    Examples
    --------
    >>> sure = np.linspace(0.1, 0.9, 9)
    >>> conformal_threshold(np.column_stack([sure, 1 - sure]), np.zeros(9, dtype=int), 0.5)
    0.5
    """
    score = LACConformityScore()
    values = np.asarray(probabilities, dtype=np.float64)
    scores = score.get_conformity_scores(codes, values, y_enc=codes)
    risk = np.array([1.0 - coverage + _SLACK])
    return float(score.get_conformity_score_quantiles(scores, risk, cv="prefit")[0])


def label_sets(
    probabilities: NDArray[np.float64], threshold: float, predicted: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Return the labels that belong to the set of every row.

    Parameters
    ----------
    probabilities : array of shape (m, k)
        Of every label.
    threshold : float
        From `conformal_threshold`; 1 takes all labels.
    predicted : array of int, shape (m,)
        A label that always belongs to the set, so that none is empty.

    Returns
    -------
    array of bool, shape (m, k)
        At least one True a row.

    Examples
    --------
    >>> shares = np.array([[0.6, 0.3, 0.1], [0.4, 0.3, 0.3]])
    >>> label_sets(shares, 0.5, np.array([0, 0])).tolist()
    [[True, False, False], [True, False, False]]
    """
    sets = np.asarray((1.0 - probabilities) - threshold <= _EQUAL)
    sets[np.arange(len(sets)), predicted] = True
    return sets


def join_labels(
    sets: NDArray[np.bool_], probabilities: NDArray[np.float64], names: Sequence[str]
) -> NDArray[np.object_]:
    """Write sets of labels as text, for files.

    Parameters
    ----------
    sets : array of bool, shape (m, k)
        Which labels belong to the set of every row.
    probabilities : array of shape (m, k)
        The most probable label stands first.
    names : sequence of str, length k
        Of the labels.

    Returns
    -------
    array of str, shape (m,)
        Labels with "; " between them. One that holds a semicolon, a quotation mark or a line break,
        or starts with a blank, is quoted as in CSV; `split_labels` reads them back.

    Examples
    --------
    >>> shares = np.array([[0.3, 0.6, 0.1]])
    >>> print(*join_labels(shares > 0.2, shares, ["wood", "water", "crop"]))
    water; wood
    """
    quoted = [_quote(name) for name in names]
    rows, codes = np.nonzero(sets)
    order = np.lexsort((-probabilities[rows, codes], rows))
    # Rows stay where they are: lexsort only orders the labels within each.
    written = [quoted[code] for code in codes[order].tolist()]
    ends = np.cumsum(sets.sum(axis=1)).tolist()
    texts = np.empty(len(sets), dtype=object)
    texts[:] = ["; ".join(written[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    return texts


def split_labels(text: str) -> list[str]:
    """Read the labels of a set that was written as text.

    Parameters
    ----------
    text : str
        A value of a column ``predicted_<target>_set``.

    Returns
    -------
    list of str
        The labels, the most probable first.

    Examples
    --------
    >>> split_labels('water; "wood; wet"')
    ['water', 'wood; wet']
    """
    # As one line, whatever breaks the quoted labels hold.
    return next(csv.reader([text], delimiter=";", skipinitialspace=True), [""])


def _quote(name: str) -> str:
    special = not name or name[0] == " " or any(sign in name for sign in ';"\r\n')
    doubled = name.replace('"', '""')
    return f'"{doubled}"' if special else name
