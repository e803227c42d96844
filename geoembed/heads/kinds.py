"""What kind of target a column is, where nobody says so: numbers or labels, shares, codes."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.errors import TargetError
from geoembed.heads.shares import sums_to

__all__ = ["are_shares", "guess_kind", "may_be_codes"]

# From this share of rows on the others are taken for mistakes in shares, not for numbers.
_MOSTLY: Final = 0.8
# As many different whole numbers may well be codes.
_FEW: Final = 20


def guess_kind(values: "pd.Series[Any] | NDArray[Any]", name: str) -> Literal["numbers", "labels"]:
    """Tell whether a target holds numbers or labels.

    Its type decides where it has one: truth values, text and categories, of numbers too, are
    labels. Of objects the values decide, as those may be numbers with missing ones among them, or
    decimals out of a file.

    Parameters
    ----------
    values : Series or array of shape (n,)
        Of the target.
    name : str
        What messages call it.

    Returns
    -------
    {"numbers", "labels"}

    Raises
    ------
    TargetError
        If it holds neither, such as times, or complex numbers.

    Examples
    --------
    >>> guess_kind(np.array([1.5, np.nan]), "target 'ph'")
    'numbers'
    >>> guess_kind(pd.Series([1, 2], dtype="category"), "target 'soil'")
    'labels'
    """
    column = pd.Series(values, copy=False)
    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(kind):
        return "labels"
    objects: Iterable[Any] = column.dropna() if pd.api.types.is_object_dtype(kind) else []
    if pd.api.types.is_complex_dtype(kind) or any(
        isinstance(value, complex | np.complexfloating) for value in objects
    ):
        raise TargetError(
            f"The {name} holds complex numbers, which no head learns. Give their real and "
            "imaginary parts as two targets."
        )
    if pd.api.types.is_numeric_dtype(kind):
        return "numbers"
    if pd.api.types.is_object_dtype(kind):
        numbers = all(
            isinstance(value, int | float | np.number | Decimal) and not isinstance(value, bool)
            for value in objects
        )
        return "numbers" if numbers else "labels"
    if pd.api.types.is_string_dtype(kind):
        return "labels"
    raise TargetError(
        f"The {name} holds {kind}, which is neither numbers nor labels. Convert it first."
    )


def are_shares(numbers: NDArray[np.float64], *, whole: float = 1.0) -> bool:
    """Tell whether the rows of several targets are shares: most of them sum to the whole.

    Parameters
    ----------
    numbers : array of shape (n, t), float64
        Of the targets.
    whole : float
        1, or 100 for percentages.

    Returns
    -------
    bool

    Examples
    --------
    >>> are_shares(np.array([[0.25, 0.75], [1.0, 0.0]]))
    True
    """
    return bool(sums_to(numbers, whole).mean() >= _MOSTLY)


def may_be_codes(numbers: "pd.Series[Any] | NDArray[Any]") -> bool:
    """Tell whether numbers are a few different whole ones, which may well be codes of classes.

    Parameters
    ----------
    numbers : Series or array of shape (n,)
        Without missing ones.

    Returns
    -------
    bool

    Examples
    --------
    >>> may_be_codes(np.array([1.0, 2.0, 1.0])), may_be_codes(np.array([1.0, 2.5]))
    (True, False)
    """
    values = np.asarray(numbers)
    return bool((values % 1 == 0).all()) and len(np.unique(values)) <= _FEW
