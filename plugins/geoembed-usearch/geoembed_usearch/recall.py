"""How much of what the exact search finds an approximate one finds, for queries not in it."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.galleries.index import ExactIndex

__all__ = [
    "LEVELS",
    "Asked",
    "Measured",
    "Search",
    "mixed_queries",
    "noisy_queries",
    "share_found",
    "truth_of",
]

LEVELS: Final = (0.9, 0.6, 0.4, 0.3, 0.0)
"""Cosines between queries and the rows that they are made of; the last are random directions."""

DEPTHS: Final = (1, 10, 100)
"""So many of the best rows are compared."""

_COUNT: Final = 256

# Products of the same vectors, summed in another order, differ by less.
_SAME: Final = 1e-6

# (queries, k) -> scores (m, k) and rows (m, k).
Search = Callable[[NDArray[np.float32], int], tuple[NDArray[np.float32], NDArray[np.int64]]]


@dataclass(frozen=True)
class Measured:
    """How much was found of one kind of queries.

    Parameters
    ----------
    queries : str
        What they are.
    count : int
        How many there were.
    best : float
        Median cosine of their best rows.
    recall : dict of str to float
        ``"recall@10"`` and so on: the share of the exact search's best rows that was found.
    """

    queries: str
    count: int
    best: float
    recall: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return plain types."""
        fields = asdict(self)
        return {**{k: v for k, v in fields.items() if k != "recall"}, **self.recall}


@dataclass(frozen=True)
class Asked:
    """Queries with the scores of what the exact search finds for them.

    Parameters
    ----------
    name : str
        What they are.
    vectors : array of shape (m, d), float32
        Of length 1.
    scores : array of shape (m, k), float32
        Falling.
    """

    name: str
    vectors: NDArray[np.float32]
    scores: NDArray[np.float32]

    def recall(self, search: Search, depth: int) -> float:
        """Return the share of the best rows, so many of them, that a search finds.

        Parameters
        ----------
        search : callable
            (queries, k) -> scores (m, k) of distinct rows, and the rows.
        depth : int
            How many of the best.
        """
        return share_found(search(self.vectors, depth)[0], self.scores[:, :depth])

    def shares(self, search: Search, depth: int) -> tuple[Any, Any]:
        """Return of every query the score of its best found row, and the share that was found.

        Parameters
        ----------
        search : callable
            As for `recall`.
        depth : int
            How many of the best.
        """
        scores, _ = search(self.vectors, depth)
        wanted = self.scores[:, depth - 1 : depth]
        return scores[:, 0], np.mean(scores >= wanted - _SAME, axis=1)

    def measured(self, search: Search) -> Measured:
        """Do so for 1, 10 and 100 of the best.

        Parameters
        ----------
        search : callable
            As for `recall`.
        """
        deepest = self.scores.shape[1]
        found = {
            f"recall@{depth}": round(self.recall(search, min(depth, deepest)), 4)
            for depth in DEPTHS
        }
        median = round(float(np.median(self.scores[:, 0])), 3)
        return Measured(self.name, len(self.vectors), median, found)


def noisy_queries(
    embeddings: NDArray[Any], cosine: float, count: int = _COUNT, seed: int = 0
) -> NDArray[np.float32]:
    """Make queries that lie at an angle to rows, in directions that no row has.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Unit vectors.
    cosine : float
        Between each query and the row that it is made of.
    count : int
        How many; not more than there are rows.
    seed : int
        Of the rows and of the directions.

    Returns
    -------
    array of shape (count, d), float32
        Of length 1.

    Examples
    --------
    >>> rows = np.eye(8, dtype=np.float32)
    >>> queries = noisy_queries(rows, 0.6, count=3)
    >>> (queries @ rows.T).max(axis=1).round(2) >= 0.6
    array([ True,  True,  True])
    """
    rng = np.random.default_rng([seed, round(cosine * 1000)])
    picked = np.sort(rng.choice(len(embeddings), min(count, len(embeddings)), replace=False))
    rows = np.asarray(embeddings[picked], dtype=np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    noise = rng.standard_normal(rows.shape)
    noise -= np.einsum("ij,ij->i", noise, rows)[:, None] * rows
    length = np.linalg.norm(noise, axis=1, keepdims=True)
    noise /= np.where(length == 0.0, 1.0, length)
    made: NDArray[np.float32] = (cosine * rows + np.sqrt(1.0 - cosine**2) * noise).astype(
        np.float32
    )
    return made


def mixed_queries(
    embeddings: NDArray[Any], places: int, count: int = _COUNT, seed: int = 0
) -> NDArray[np.float32]:
    """Make queries that resemble several places at once, as pictures do that could be from many.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Unit vectors.
    places : int
        Of so many random rows each query is a sum, with random weights.
    count : int
        How many.
    seed : int
        Of rows and weights.

    Returns
    -------
    array of shape (count, d), float32
        Of length 1.

    Examples
    --------
    >>> mixed_queries(np.eye(8, dtype=np.float32), 4, count=3).shape
    (3, 8)
    """
    rng = np.random.default_rng([seed, places])
    rows = rng.integers(len(embeddings), size=(count, places))
    weights = rng.dirichlet(np.ones(places), count)
    gathered = np.asarray(embeddings[rows.ravel()], dtype=np.float64).reshape(count, places, -1)
    mixed = np.einsum("mp,mpd->md", weights, gathered)
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    made: NDArray[np.float32] = (mixed / np.where(length == 0.0, 1.0, length)).astype(np.float32)
    return made


def truth_of(
    embeddings: NDArray[Any], device: str, queries: Iterable[tuple[str, NDArray[np.float32]]]
) -> list[Asked]:
    """Search exactly for every kind of queries, all at once.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Unit vectors.
    device : str
        Where they are compared.
    queries : iterable of (str, array of shape (m, d))
        What they are, and they themselves, of length 1.

    Returns
    -------
    list of Asked
        In that order.
    """
    named = list(queries)
    # The gallery is read once for all: of ten million places that is what takes the time.
    together = np.concatenate([vectors for _, vectors in named])
    exact = ExactIndex(embeddings, device=device)
    scores, _ = exact.search(together, min(DEPTHS[-1], len(embeddings)))
    ends = np.cumsum([len(vectors) for _, vectors in named])[:-1]
    parts = np.split(scores, ends)
    return [Asked(name, vectors, part) for (name, vectors), part in zip(named, parts, strict=True)]


def share_found(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Return the share of found rows that are as good as the last of those wanted.

    Rows are told by their scores, for any of several equal ones is as good as the others.

    Parameters
    ----------
    found, wanted : array of shape (m, k)
        Scores of distinct rows.

    Returns
    -------
    float
        In [0, 1].

    Examples
    --------
    >>> share_found(np.array([[0.9, 0.8], [0.9, 0.2]]), np.array([[0.9, 0.8], [0.9, 0.3]]))
    0.75
    """
    return float(np.mean(found >= wanted[:, -1:] - _SAME))
