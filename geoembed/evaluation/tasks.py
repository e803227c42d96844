"""What is predicted in a comparison: guessed from the target, checked, and scored."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.errors import OptionError, TargetError
from geoembed.extending.registry import head_spec
from geoembed.heads import LocationHead
from geoembed.heads.duplicates import best_possible_score
from geoembed.heads.kinds import are_shares, guess_kind, may_be_codes
from geoembed.heads.reading import Target, read_labels, read_numbers, read_target
from geoembed.heads.shares import read_shares

__all__ = ["Outcome", "Task", "read_task"]

HEADS: Final = {
    "regression": "regress",
    "classification": "classify",
    "fractions": "landcover",
}


@dataclass(frozen=True)
class Outcome:
    """What came of predicting the test rows of one fold.

    Parameters
    ----------
    score : float
        Accuracy; or R2, the mean over the targets that vary among the test rows.
    parts : tuple of float
        R2 of every target, NaN where it does not vary; empty for labels.
    lost : tuple of float
        Sum of squared errors of every target, or the number of wrong labels.
    errors : array of shape (m,), float64
        Of every test row: 1 for a wrong label, the absolute error (mean over the targets), or
        half the sum of the absolute errors of shares, which is the share of the area that is put
        into a wrong class.
    """

    score: float
    parts: tuple[float, ...]
    lost: tuple[float, ...]
    errors: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Task:
    """A target that has been read, and how predictions of it are scored.

    Parameters
    ----------
    kind : {"regression", "classification", "fractions"}
        What is learned.
    values : array of shape (n,) or (n, t)
        Labels, or numbers (float64).
    names : tuple of str
        Of the targets; empty where they carry none.
    """

    kind: str
    values: NDArray[Any]
    names: tuple[str, ...]

    @property
    def metric(self) -> str:
        """Name of the score: ``"accuracy"`` or ``"R2"``."""
        return "accuracy" if self.kind == "classification" else "R2"

    @property
    def columns(self) -> tuple[str, ...]:
        """Name of every target, its number where it has none."""
        count = 1 if self.values.ndim == 1 else self.values.shape[1]
        return self.names or tuple(str(at) for at in range(count))

    @property
    def title(self) -> str:
        """What is predicted, for headings."""
        if not self.names:
            return "y"
        if len(self.names) <= 3:
            return ", ".join(self.names)
        return f"{self.names[0]} and {len(self.names) - 1} more"

    @property
    def holds_codes(self) -> bool:
        """Whether these are a few whole numbers, which may well be codes of classes."""
        # By value, unlike `geoembed fit`: tables of pandas often hold codes as 1.0 and 2.0.
        return self.kind == "regression" and self.values.ndim == 1 and may_be_codes(self.values)

    @property
    def error_name(self) -> str:
        """What the error of a place is, for maps."""
        if self.kind == "classification":
            return "share of wrong labels"
        if self.kind == "fractions":
            return "share of the area in a wrong class"
        return "absolute error" + ("" if len(self.columns) == 1 else ", mean over targets")

    def outcome(self, predicted: NDArray[Any], test: NDArray[np.intp]) -> Outcome:
        """Score predictions of the rows `test`.

        Parameters
        ----------
        predicted : array of shape (m,) or (m, t)
            Labels or numbers.
        test : array of int, shape (m,)
            Positions of the rows.

        Returns
        -------
        Outcome
        """
        truth = self.values[test]
        if self.kind == "classification":
            wrong = (np.asarray(predicted).reshape(-1) != truth).astype(np.float64)
            return Outcome(1.0 - float(wrong.mean()), (), (float(wrong.sum()),), wrong)
        truth = truth.reshape(len(test), -1)
        off = np.asarray(predicted, dtype=np.float64).reshape(truth.shape) - truth
        squares = (off**2).sum(axis=0)
        spread = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
        varies = np.ptp(truth, axis=0) > 0.0
        parts = np.full(len(spread), np.nan)
        parts[varies] = 1.0 - squares[varies] / spread[varies]
        sizes = np.abs(off)
        errors = sizes.sum(axis=1) / 2.0 if self.kind == "fractions" else sizes.mean(axis=1)
        return Outcome(float(parts[varies].mean()), tuple(parts), tuple(squares), errors)

    def pooled(self, lost: NDArray[np.float64], rows: NDArray[np.intp]) -> float:
        """Score of all tested rows together, from what was lost on them.

        Parameters
        ----------
        lost : array of shape (t,)
            Sums over the folds of `Outcome.lost`.
        rows : array of int
            Positions of the rows that were tested, as often as they were.

        Returns
        -------
        float
            Accuracy; or R2 about the mean of these rows, the mean over the targets that vary.
        """
        if self.kind == "classification":
            return 1.0 - float(lost[0]) / len(rows)
        truth = self.values[rows].reshape(len(rows), -1)
        varies = np.ptp(truth, axis=0) > 0.0
        spread = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
        return float((1.0 - lost[varies] / spread[varies]).mean())

    def shared_places(self, places: Any) -> str:
        """Say what rows of one place with different targets cost; empty if there are none.

        Parameters
        ----------
        places : Places
            One a row.

        Returns
        -------
        str
            A sentence for people.
        """
        found = best_possible_score(places, self.values, task=self.kind)
        return str(found) if found.rows else ""


def read_task(table: Any, target: Any, head: Any = None) -> Task:
    """Read the target of a comparison.

    Parameters
    ----------
    table : places
        A frame if `target` names columns of it.
    target : str, list of str, array, Series or DataFrame
        Columns of `table`, or the values.
    head : str, LocationHead or None
        What learns it. None guesses: labels are classified, several numbers whose rows sum to 1
        are fractions, other numbers are regressed.

    Returns
    -------
    Task
        Checked.

    Raises
    ------
    TableError
        If a column is not there.
    TargetError
        If values are missing, or not of the kind that is learned; if they are all the same.
    OptionError
        If `head` is no name and no head.

    Examples
    --------
    >>> table = pd.DataFrame({"lon": [0.0, 1.0], "lat": [0.0, 1.0], "soil": ["clay", "sand"]})
    >>> read_task(table, "soil").kind
    'classification'
    """
    found = read_target(table, target)
    if not len(found):
        raise TargetError("There is nothing to compare on: the table has no rows.")
    kind = _guess(table, target, found) if head is None else _task_of(head)
    if kind == "classification":
        return Task(kind, read_labels(found), found.names)
    values = read_shares(found) if kind == "fractions" else read_numbers(found)
    for at, column in enumerate(values.T):
        if kind == "regression" and (column == column[0]).all():
            raise TargetError(
                f"All {len(column):,} rows of {found.name(at)} hold {column[0]:g}: there is "
                "nothing to learn."
            )
    return Task(kind, values[:, 0] if found.values.ndim == 1 else values, found.names)


def _guess(table: Any, target: Any, found: Target) -> str:
    columns = _columns(table, target, found)
    kinds = [guess_kind(values, found.name(at)) for at, values in enumerate(columns)]
    if "labels" in kinds:
        # `geoembed fit` has a head for labels of several levels; comparisons have one score.
        if found.columns > 1:
            raise TargetError(
                f"The {found.columns} targets are not all numbers: compare on one column of "
                "labels, or on columns of numbers."
            )
        return "classification"
    if found.columns > 1 and are_shares(read_numbers(found)):
        return "fractions"
    return "regression"


def _columns(table: Any, target: Any, found: Target) -> list[Any]:
    """Return the targets with the types that they were given in; arrays of all have one."""
    if isinstance(target, pd.Series):
        return [target]
    if isinstance(target, pd.DataFrame):
        return [target.iloc[:, at] for at in range(found.columns)]
    if found.names:
        return [table[name] for name in found.names]
    return list(found.values.reshape(len(found), -1).T)


def _task_of(head: Any) -> str:
    if isinstance(head, str):
        return head_spec(head, takes="places").task
    if isinstance(head, LocationHead):
        from sklearn.base import is_classifier

        from geoembed.heads.landcover import LandCoverRegressor

        if isinstance(head, LandCoverRegressor):
            return "fractions"
        return "classification" if is_classifier(head) else "regression"
    raise OptionError(
        f"head={head!r} is no head: give a name, such as 'regress', 'classify' or 'landcover', or "
        "an unfitted head."
    )
