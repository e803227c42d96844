"""Search through the vectors of a gallery: the contract, and the exact one."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from geoembed.devices import resolve_device
from geoembed.errors import OptionError
from geoembed.scalars import is_whole

if TYPE_CHECKING:
    from geoembed.galleries.gallery import Gallery

__all__ = ["ExactIndex", "Found", "GalleryIndex", "positions_of"]

Found = tuple[NDArray[np.float32], NDArray[np.int64]]

# Scores held at a time (64 MB), and values of a block that are widened to float32 (64 MB).
_SCORES: Final = 2**24
_VALUES: Final = 2**24
# Queries at a time.
_QUERIES: Final = 1024
# Up to so many queries a CPU multiplies the gallery with them instead of them with the gallery.
_FEW: Final = 8
# A part of the gallery that is asked for again and again is kept, up to so many bytes; of larger
# ones so many rows are gathered at a time.
_PART: Final = 512 * 2**20
_GATHERED: Final = 2**16
# Neighbouring scores whose maximum is looked at before each of them is.
_GROUP: Final = 256


class GalleryIndex(ABC):
    """Finds the rows of a gallery whose vectors have the largest dot products with a query.

    A plugin subclasses it, keeps what it needs in ``__init__(embeddings, **options)`` and writes
    `_search`. Checks of queries come from here, and so does the search among some rows, which
    looks at each of them; an index that knows better writes `_among` as well. One that keeps
    files with a gallery writes `for_gallery` and `save`.

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

    @classmethod
    def for_gallery(
        cls, gallery: "Gallery", *, progress: bool | None = None, **options: Any
    ) -> Self:
        """Make the index of a gallery; what `Gallery.index` calls.

        Parameters
        ----------
        gallery : Gallery
            Its vectors are indexed. Where it lies in a folder, files of an index belong into the
            folder ``indexes`` there.
        progress : bool, optional
            Show a progress bar, where making it takes long.
        **options
            Those of the index.

        Returns
        -------
        GalleryIndex
            Ready to be searched.
        """
        return cls(gallery.embeddings, device=gallery.device, **options)

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the index, plain types: how it was built, how much it finds."""
        return {}

    def save(self, folder: Path) -> None:  # noqa: B027 - most indexes keep no files
        """Keep the index with a gallery that was just saved; nothing where it has no files.

        Parameters
        ----------
        folder : Path
            Where the gallery now lies, with the same vectors.
        """

    def search(self, queries: ArrayLike, k: int, rows: ArrayLike | None = None) -> Found:
        """Find the best rows of every query.

        Parameters
        ----------
        queries : array of shape (m, d)
            Finite.
        k : int
            How many rows a query, from 1 to the number of rows.
        rows : array of shape (r,), int, optional
            Search only among these positions: distinct, ascending, at least k.

        Returns
        -------
        scores : array of shape (m, k), float32
            Dot products, falling.
        rows : array of shape (m, k), int64
            Their rows; of equal scores the lower row comes first.

        Raises
        ------
        OptionError
            If a shape does not fit, a value is not finite, k is out of range, or rows are not
            positions in order.
        """
        vectors = np.asarray(queries, dtype=np.float32)
        length, width = self.embeddings.shape
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
        among = None if rows is None else _ascending(rows, length)
        most = length if among is None else len(among)
        whole = is_whole(k)
        if not whole or not 1 <= k <= most:
            where = "the gallery has" if among is None else "rows= holds"
            raise OptionError(f"k={k!r} does not fit: {where} {most:,} places, so 1 to it.")
        if not len(vectors):
            return np.empty((0, int(k)), np.float32), np.empty((0, int(k)), np.int64)
        if among is None or len(among) == length:
            return self._search(vectors, int(k))
        return self._among(vectors, int(k), among)

    @abstractmethod
    def _search(self, queries: NDArray[np.float32], k: int) -> Found:
        """Return scores and rows (m, k) for checked queries; m and k are at least 1."""

    def _among(self, queries: NDArray[np.float32], k: int, rows: NDArray[np.int64]) -> Found:
        """Return the same of a part, given by its rows: here by a look at each of them."""
        if len(rows) * self.embeddings[:1].nbytes <= _PART:
            scores, found = self._part(rows).search(queries, k)
            return scores, rows[found]
        best: Found | None = None
        for start in range(0, len(rows), _GATHERED):
            some = rows[start : start + _GATHERED]
            part = ExactIndex(self.embeddings[some], device=self.device)
            scores, found = part.search(queries, min(k, len(some)))
            found = some[found]
            if best is not None:
                # Rows seen before come first, so that of equal scores the lower row stays first.
                scores = np.concatenate([best[0], scores], axis=1)
                found = np.concatenate([best[1], found], axis=1)
                order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
                scores = np.take_along_axis(scores, order, axis=1)
                found = np.take_along_axis(found, order, axis=1)
            best = scores, found
        assert best is not None
        return best

    def _part(self, rows: NDArray[np.int64]) -> "ExactIndex":
        """Gather a part; the last one is kept, for many blocks of queries ask for the same."""
        kept: tuple[NDArray[np.int64], ExactIndex] | None = self.__dict__.get("_kept_part")
        if kept is None or not np.array_equal(kept[0], rows):
            kept = rows.copy(), ExactIndex(self.embeddings[rows], device=self.device)
            self.__dict__["_kept_part"] = kept
        return kept[1]


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
        step = max(k, _SCORES // max(2, len(queries)))
        if self._table.dtype != torch.float32:
            step = max(k, min(step, _VALUES // width))
        best: tuple[Tensor, Tensor] | None = None
        for start in range(0, rows, step):
            block = self._table[start : start + step].float()
            some = _top(_products(queries, block), min(k, len(block)))
            some = some[0], some[1] + start
            if best is not None:
                # Rows seen before come first, so that of equal scores the lower row stays first.
                joined = torch.cat([best[0], some[0]], dim=1), torch.cat([best[1], some[1]], dim=1)
                order = torch.sort(joined[0], dim=1, descending=True, stable=True).indices[:, :k]
                some = joined[0].gather(1, order), joined[1].gather(1, order)
            best = some
        assert best is not None
        return best[0].cpu().numpy(), best[1].cpu().numpy()


def positions_of(rows: ArrayLike, length: int) -> NDArray[np.int64]:
    """Return distinct positions, ascending.

    Parameters
    ----------
    rows : array of int or bool
        Positions in any order, or a mask of length `length`.
    length : int
        How many rows there are.

    Returns
    -------
    array of int64
        At least one.

    Raises
    ------
    OptionError
        If they are no positions, or none.

    Examples
    --------
    >>> positions_of([3, 1, 3], 5).tolist()
    [1, 3]
    """
    array = np.asarray(rows)
    if array.dtype == np.bool_ and array.shape == (length,):
        array = np.flatnonzero(array)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise OptionError(
            f"rows= must be positions, at least one, or a mask of {length:,} with at least one "
            f"True; got {array.dtype} of shape {array.shape}."
        )
    if array.min() < 0 or array.max() >= length:
        raise OptionError(f"rows= must lie between 0 and {length - 1:,}; some do not.")
    return np.unique(array).astype(np.int64)


def _ascending(rows: ArrayLike, length: int) -> NDArray[np.int64]:
    array = np.asarray(rows)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise OptionError(
            f"rows= must be positions, at least one; got {array.dtype} of shape {array.shape}."
        )
    array = array.astype(np.int64, copy=False)
    if array[0] < 0 or array[-1] >= length or (np.diff(array) <= 0).any():
        raise OptionError(f"rows= must ascend, each once, between 0 and {length - 1:,}.")
    return array


def _products(queries: Tensor, block: Tensor) -> Tensor:
    """Return the dot product of every query (m, d) with every row (n, d), as (m, n).

    A few queries are multiplied as columns on CPUs, a single one beside a column of zeros: MKL
    then reads the gallery as fast as memory gives it, up to four times as fast as by rows.
    """
    if queries.device.type != "cpu" or len(queries) > _FEW:
        return queries @ block.T
    columns = functional.pad(queries, (0, 0, 0, max(0, 2 - len(queries))))
    return (block @ columns.T)[:, : len(queries)].T.contiguous()


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
