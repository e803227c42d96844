"""Search through the vectors of a gallery: the contract, and the exact one."""

from abc import ABC, abstractmethod
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from geoembed.devices import resolve_device
from geoembed.errors import OptionError

__all__ = ["ExactIndex", "GalleryIndex"]

Found = tuple[NDArray[np.float32], NDArray[np.int64]]

# Scores held at a time (64 MB), and values of a block that are widened to float32 (64 MB).
_SCORES: Final = 2**24
_VALUES: Final = 2**24
# Queries at a time.
_QUERIES: Final = 1024
# Neighbouring scores whose maximum is looked at before each of them is.
_GROUP: Final = 256


class GalleryIndex(ABC):
    """Finds the rows of a gallery whose vectors have the largest dot products with a query.

    A plugin subclasses it, keeps what it needs in ``__init__(embeddings, **options)`` and writes
    `_search`. Checks of queries come from here.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Unit vectors, float32 or float16, perhaps memory-mapped.
    device : str
        ``"auto"`` or a device name; an index that knows no devices ignores it.

    Examples
    --------
    >>> class Linear(GalleryIndex):
    ...     def _search(self, queries, k):
    ...         scores = queries @ self.embeddings.T
    ...         rows = np.argsort(-scores, axis=1)[:, :k]
    ...         return np.take_along_axis(scores, rows, axis=1), rows
    >>> scores, rows = Linear(np.eye(3, dtype=np.float32)).search([[0.0, 1.0, 0.0]], 1)
    >>> rows.tolist()
    [[1]]
    """

    def __init__(self, embeddings: NDArray[np.floating[Any]], *, device: str = "auto") -> None:
        self.embeddings = embeddings
        self.device = device

    def search(self, queries: ArrayLike, k: int) -> Found:
        """Find the best rows of every query.

        Parameters
        ----------
        queries : array of shape (m, d)
            Finite.
        k : int
            How many rows a query, from 1 to the number of rows.

        Returns
        -------
        scores : array of shape (m, k), float32
            Dot products, falling.
        rows : array of shape (m, k), int64
            Their rows; of equal scores the lower row comes first.

        Raises
        ------
        OptionError
            If a shape does not fit, a value is not finite, or k is out of range.
        """
        vectors = np.asarray(queries, dtype=np.float32)
        rows, width = self.embeddings.shape
        if vectors.ndim != 2 or vectors.shape[1] != width:
            raise OptionError(
                f"queries have the shape {vectors.shape}: the gallery's vectors have {width} "
                f"values, so give (m, {width})."
            )
        bad = np.asarray(~np.isfinite(vectors).all(axis=1))
        if bad.any():
            raise OptionError(
                f"{bad.sum():,} of {len(bad):,} queries hold values that are not finite, the first "
                f"is row {int(np.argmax(bad))}. Leave them out."
            )
        whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
        if not whole or not 1 <= k <= rows:
            raise OptionError(f"k={k!r} does not fit: the gallery has {rows:,} places, so 1 to it.")
        if not len(vectors):
            return np.empty((0, int(k)), np.float32), np.empty((0, int(k)), np.int64)
        return self._search(vectors, int(k))

    @abstractmethod
    def _search(self, queries: NDArray[np.float32], k: int) -> Found:
        """Return scores and rows (m, k) for checked queries; m and k are at least 1."""


class ExactIndex(GalleryIndex):
    """Compare with every row, in blocks: memory does not grow with the gallery.

    Vectors of float16 are widened block by block; products are summed in float32.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Unit vectors, float32 or float16, perhaps memory-mapped. On another device than the CPU
        they are copied there once.
    device : str
        ``"auto"`` (CUDA, else MPS, else the CPU) or a device name.

    Examples
    --------
    >>> index = ExactIndex(np.eye(4, dtype=np.float32))
    >>> scores, rows = index.search([[0.6, 0.8, 0.0, 0.0]], 2)
    >>> rows.tolist(), scores.round(2).tolist()
    ([[1, 0]], [[0.800000011920929, 0.6000000238418579]])
    """

    def __init__(self, embeddings: NDArray[np.floating[Any]], *, device: str = "auto") -> None:
        super().__init__(embeddings, device=device)
        self._device = resolve_device(device)
        # A copy on write where the file may not be written: torch wants writable memory, and
        # nothing here writes.
        table = embeddings if embeddings.flags.writeable else np.array(embeddings, copy=True)
        self._table = torch.from_numpy(table).to(self._device)

    def _search(self, queries: NDArray[np.float32], k: int) -> Found:
        parts = [
            self._some(torch.from_numpy(np.ascontiguousarray(part)).to(self._device), k)
            for part in np.array_split(queries, -(-len(queries) // _QUERIES))
        ]
        return np.concatenate([s for s, _ in parts]), np.concatenate([r for _, r in parts])

    @torch.inference_mode()
    def _some(self, queries: Tensor, k: int) -> Found:
        rows, width = self._table.shape
        step = max(k, _SCORES // len(queries))
        if self._table.dtype != torch.float32:
            step = max(k, min(step, _VALUES // width))
        best: tuple[Tensor, Tensor] | None = None
        for start in range(0, rows, step):
            block = self._table[start : start + step].float()
            scores = queries @ block.T
            some = _top(scores, min(k, len(block)))
            some = some[0], some[1] + start
            if best is not None:
                # Rows seen before come first, so that of equal scores the lower row stays first.
                joined = torch.cat([best[0], some[0]], dim=1), torch.cat([best[1], some[1]], dim=1)
                order = torch.sort(joined[0], dim=1, descending=True, stable=True).indices[:, :k]
                some = joined[0].gather(1, order), joined[1].gather(1, order)
            best = some
        assert best is not None
        return best[0].cpu().numpy(), best[1].cpu().numpy()


def _top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best of every row, falling; of equal scores those of the lower columns."""
    width = scores.shape[1]
    # One more than asked for: if it is worse than the last, no other column has the last's score.
    values, columns = _candidates(scores, min(k + 1, width))
    if k < width:
        tied = torch.nonzero(values[:, k - 1] == values[:, k]).flatten().tolist()
        values, columns = values[:, :k].clone(), columns[:, :k].clone()
        for row in tied:
            values[row], columns[row] = _first_of_equal(scores[row], values[row, -1], k)
    columns, order = torch.sort(columns, dim=1)
    values = values.gather(1, order)
    order = torch.sort(values, dim=1, descending=True, stable=True).indices
    return values.gather(1, order), columns.gather(1, order)


def _candidates(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` best of every row, falling, in a quarter of the time of `torch.topk`.

    The best `count` values lie in those `count` groups of neighbours whose maxima are largest.
    """
    width = scores.shape[1]
    groups = width // _GROUP
    if count * _GROUP * 3 > width:
        values, columns = torch.topk(scores, count, dim=1)
        return values, columns
    grouped = scores[:, : groups * _GROUP].reshape(-1, groups, _GROUP)
    best = torch.topk(grouped.amax(dim=2), count, dim=1).indices
    # What is left over behind the last whole group is looked at as well.
    rest = torch.arange(groups * _GROUP, width, device=scores.device).expand(len(scores), -1)
    members = torch.arange(_GROUP, device=scores.device)
    inside = (best[:, :, None] * _GROUP + members).flatten(1)
    columns = torch.cat([inside, rest], dim=1)
    values, at = torch.topk(scores.gather(1, columns), count, dim=1)
    return values, columns.gather(1, at)


def _first_of_equal(scores: Tensor, last: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best of one row; of those that equal the last, the first."""
    above = torch.nonzero(scores > last).flatten()
    equal = torch.nonzero(scores == last).flatten()[: k - len(above)]
    columns = torch.cat([above, equal])
    return scores[columns], columns
