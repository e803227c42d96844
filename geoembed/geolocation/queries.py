"""What is asked: photographs, texts or vectors, as rows with a name, a vector or an error."""

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.errors import OptionError

__all__ = [
    "Queries",
    "UnreadablePictureWarning",
    "fuse",
    "one_kind",
    "read_texts",
    "rename",
    "vector_queries",
]


# So many are named.
_TOLD: Final = 5


class UnreadablePictureWarning(UserWarning):
    """Some pictures could not be read, where the result has no column to say why."""


@dataclass(frozen=True)
class Queries:
    """What is asked, in order.

    Parameters
    ----------
    names : list of str
        What each query is called.
    vectors : array of shape (n, d), float32
        Directions in the space of the gallery; rows of NaN where there is an error.
    errors : list of str
        Why a query has no vector; empty where it has one.
    """

    names: list[str]
    vectors: NDArray[np.float32]
    errors: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def tell(self) -> None:
        """Warn of queries without a vector, by name and reason."""
        told = zip(self.names, self.errors, strict=True)
        bad = [f"{name}: {why.rstrip('.')}" for name, why in told if why]
        if bad:
            more = f"; and {len(bad) - _TOLD:,} more" if len(bad) > _TOLD else ""
            warnings.warn(
                f"{len(bad):,} of {len(self):,} queries have no vector: {'; '.join(bad[:_TOLD])}"
                f"{more}.",
                UnreadablePictureWarning,
                stacklevel=3,
            )

    @property
    def good(self) -> NDArray[np.bool_]:
        """Which queries have a vector."""
        return np.array([not error for error in self.errors], dtype=bool)


def one_kind(**given: Any) -> str:
    """Return which of images, text and vectors is given, or raise OptionError."""
    there = [name for name, value in given.items() if value is not None]
    if len(there) != 1:
        got = " and ".join(f"{name}=" for name in there) or "nothing"
        verb = "were" if there else "was"
        raise OptionError(
            f"Give one of {', '.join(f'{name}=' for name in given)}: {got} {verb} given."
        )
    return there[0]


def read_texts(text: Any) -> list[str]:
    """Return one text or several as a list, or raise OptionError."""
    texts = [text] if isinstance(text, str) else list(text)
    for position, one in enumerate(texts):
        if not isinstance(one, str):
            raise OptionError(f"text[{position}] is {type(one).__name__}, not text: {one!r:.60}.")
    if not texts:
        raise OptionError("text= holds no text.")
    return texts


def vector_queries(vectors: Any, dimension: int) -> Queries:
    """Take vectors of pictures or places as queries; a row that is not finite becomes an error.

    Parameters
    ----------
    vectors : array_like of shape (n, d) or (d,)
        In the space of the gallery, of any length: they are scaled to length 1, so that a score is
        a cosine, and radii do not depend on the length.
    dimension : int
        What d must be.

    Returns
    -------
    Queries
        Named by their position.

    Raises
    ------
    OptionError
        If the shape does not fit.
    """
    try:
        array = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise OptionError(f"vectors= cannot be read as numbers: {error}.") from error
    if array.ndim != 2 or array.shape[1] != dimension:
        raise OptionError(
            f"vectors= has the shape {np.shape(vectors)}: the gallery's vectors have {dimension} "
            f"values, so give an array of shape (n, {dimension})."
        )
    good = np.asarray(np.isfinite(array).all(axis=1) & array.any(axis=1))
    errors = ["" if fine else "the vector is zero or not finite" for fine in good]
    names = [str(position) for position in range(len(array))]
    unit = np.full_like(array, np.nan)
    # In float64: the square of a large float32 is infinite, that of a small one zero.
    exact = array[good].astype(np.float64)
    unit[good] = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return Queries(names, unit, errors)


def rename(queries: Queries, names: Sequence[str]) -> Queries:
    """Call queries something else; raise OptionError unless there is one text for each."""
    called = list(names)
    if len(called) != len(queries) or not all(isinstance(name, str) for name in called):
        raise OptionError(
            f"names= has {len(called):,} entries and there are {len(queries):,} queries: give one "
            "text a query."
        )
    return Queries(called, queries.vectors, queries.errors)


def fuse(queries: Queries, groups: Sequence[Hashable]) -> Queries:
    """Make one query of several photographs of one place: the mean of their vectors.

    The score of a place is then the mean of the photographs' scores. Photographs with an error
    are left out; a group of nothing else keeps their errors.

    Parameters
    ----------
    queries : Queries
        One a photograph.
    groups : sequence of length n
        What each photograph belongs to: the name of the query that it becomes part of.

    Returns
    -------
    Queries
        One a group, in the order of first appearance.

    Raises
    ------
    OptionError
        If there is not one group a photograph, or a group is missing.
    """
    labels = list(groups)
    if len(labels) != len(queries):
        raise OptionError(
            f"groups= has {len(labels):,} entries and there are {len(queries):,} queries: "
            "give one group a photograph."
        )
    codes, named = pd.factorize(pd.Series(labels, dtype=object))
    if (codes < 0).any():
        raise OptionError(
            f"groups= has no value at position {int(np.argmin(codes))}: give one group a "
            "photograph."
        )
    vectors = np.full((len(named), queries.vectors.shape[1]), np.nan, dtype=np.float32)
    errors = []
    for group in range(len(named)):
        members = np.flatnonzero(codes == group)
        good = members[queries.good[members]]
        if len(good):
            vectors[group] = queries.vectors[good].mean(axis=0, dtype=np.float64)
        reasons = dict.fromkeys(queries.errors[member] for member in members)
        errors.append("" if len(good) else "; ".join(reasons))
    return Queries([str(label) for label in named], vectors, errors)
