"""Reduced vectors: fewer numbers a place, of 8 bits, so few that all places are compared."""

from collections.abc import Iterator
from functools import cache
from time import perf_counter
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoembed.progress import progress_bar
from geoembed_usearch.scoring import padded

__all__ = ["Reduced"]

# So much of the variance is kept, in whole registers of so many numbers, at most so many: sums of
# more products could not be told apart in float32.
_VARIANCE: Final = 0.85
_REGISTER: Final = 64
_MOST: Final = 1024
_LARGEST: Final = 127
# Rows that the directions are learnt from, and rows reduced at a time.
_LEARNT: Final = 65_536
_ROWS: Final = 16_384
# Scores held at a time (4 MB, which stays in the cache), and neighbouring rows of which the best is
# looked at first.
_SCORES: Final = 2**20
_GROUP: Final = 64
_FEW: Final = 8
# One row in so many tells from which score on rows are candidates.
_STRIDE: Final = 16
# A query of which so many times as many are found is one that nothing can be told of.
_CROWD: Final = 16
_CLOSED: Final = 2**30

Rows = NDArray[np.int64]


class Reduced:
    """The vectors of a gallery along the directions in which they differ most.

    Noise along directions in which no place differs from another is left out, so the best rows of a
    query are among the best few hundred here, whichever parts of the world they lie in. Products of
    numbers of 8 bits are so fast that no row needs to be passed over.

    Parameters
    ----------
    table : array of shape (n, r), int8
        A row a place, as `build` makes it.
    basis : array of shape (d, r), float32
        The directions.

    Examples
    --------
    >>> vectors = np.random.default_rng(0).standard_normal((5000, 8)).astype(np.float32)
    >>> reduced = Reduced(**Reduced.build(vectors, progress=False))
    >>> 7 in reduced.candidates(vectors[7:8], 20)
    True
    """

    def __init__(self, table: NDArray[np.int8], basis: NDArray[np.float32]) -> None:
        if table.ndim != 2 or basis.ndim != 2 or table.shape[1] != basis.shape[1]:
            raise ValueError("its reduced vectors and their directions do not belong together")
        self._table = torch.from_numpy(table)
        self._basis = torch.from_numpy(np.ascontiguousarray(basis))
        self._part: tuple[Rows, Reduced] | None = None

    def __len__(self) -> int:
        """How many places there are."""
        return len(self._table)

    @staticmethod
    @torch.inference_mode()
    def build(embeddings: NDArray[Any], *, progress: bool | None) -> dict[str, NDArray[Any]]:
        """Learn the directions from some rows, and reduce all of them.

        Parameters
        ----------
        embeddings : array of shape (n, d)
            Unit vectors; read once, block by block.
        progress : bool or None
            Show a progress bar.

        Returns
        -------
        dict
            What `Reduced` is made of: ``table`` and ``basis``.
        """
        total = len(embeddings)
        picked = np.random.default_rng(total).choice(total, min(_LEARNT, total), replace=False)
        some = torch.from_numpy(np.asarray(embeddings[np.sort(picked)], dtype=np.float32))
        # What all rows have in common adds the same to all scores of a query.
        centre = some.mean(dim=0)
        some = some - centre
        basis = _directions((some.T @ some).numpy())
        largest = float((some @ basis).abs().max())
        scaled = basis * (_LARGEST / largest if largest > 0.0 else 1.0)
        table = np.empty((total, basis.shape[1]), dtype=np.int8)
        with progress_bar(progress, text="reducing", unit="place", total=total) as bar:
            for start in range(0, total, _ROWS):
                block = torch.from_numpy(
                    np.asarray(embeddings[start : start + _ROWS], dtype=np.float32)
                )
                values = ((block - centre) @ scaled).round_()
                table[start : start + len(block)] = values.clamp_(-_LARGEST, _LARGEST).numpy()
                bar.update(len(block))
        return {"table": table, "basis": basis.numpy()}

    def part(self, rows: Rows) -> "Reduced":
        """Return those of some rows; the last answer is kept.

        Parameters
        ----------
        rows : array of shape (r,), int64
            Positions.
        """
        kept = self._part  # once: another thread may put its own there
        if kept is None or not np.array_equal(kept[0], rows):
            kept_rows = rows.copy()
            table = self._table.index_select(0, torch.from_numpy(kept_rows))
            self._part = kept = kept_rows, Reduced(table.numpy(), self._basis.numpy())
        return kept[1]

    @torch.inference_mode()
    def candidates(self, queries: NDArray[np.float32], count: int) -> Rows:
        """Return the best rows, about so many.

        Parameters
        ----------
        queries : array of shape (m, d)
            Finite.
        count : int
            Rows a query. There will be somewhat more or fewer: from which score on a row is one of
            the best is told by a sixteenth of the rows.

        Returns
        -------
        array of shape (m, c), int64
            Distinct rows of each query in any order, -1 behind them. A query of which many more
            rows are as good, such as one of a gallery of equal places, has none.
        """
        values = torch.from_numpy(np.ascontiguousarray(queries)) @ self._basis
        largest = values.abs().amax(dim=1, keepdim=True)
        scale = torch.where(largest > 0.0, _LARGEST / largest, 0.0)
        numbers = (values * scale).round().to(torch.int8).T.contiguous()
        least = self._least(numbers, count)
        many, crowd = torch.zeros(len(queries), dtype=torch.int64), _CROWD * count
        found: list[tuple[Tensor, Tensor]] = []
        for start, scores in self._scores(numbers, 1):
            rows, lines = _at_least(scores, least)
            found.append((rows + start, lines))
            many += torch.bincount(lines, minlength=len(queries))
            # Rows of such a query would fill the memory.
            least[many > crowd] = _CLOSED
        rows, lines = torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])
        kept = many[lines] <= crowd
        rows, lines = rows[kept], lines[kept]
        order = torch.argsort(lines, stable=True)
        counts = torch.bincount(lines, minlength=len(queries))
        return padded(rows[order].numpy(), counts.numpy())

    def _least(self, numbers: Tensor, count: int) -> Tensor:
        """Return the score that about so many rows of each query reach."""
        maxima = []
        for _, scores in self._scores(numbers, _STRIDE):
            # The best of a few rows that lie far apart: of neighbours each may be one of the best.
            whole = len(scores) // _FEW * _FEW
            maxima.append(scores[:whole].view(_FEW, -1, scores.shape[1]).amax(dim=0))
            maxima.append(scores[whole:].clone())
        together = torch.cat(maxima).T.contiguous()
        rank = min(-(-count // _STRIDE), together.shape[1])
        return torch.topk(together, rank, dim=1).values[:, -1].contiguous()

    def _scores(self, numbers: Tensor, stride: int) -> Iterator[tuple[int, Tensor]]:
        """Yield for block after block of every so many rows where it starts, and its scores."""
        rows = max(_GROUP, _SCORES // numbers.shape[1] // _GROUP * _GROUP)
        whole = _whole_is_fast()
        # One array for all: new ones may be mapped anew each time, which takes as long as to fill
        # them.
        scores = torch.empty((rows, numbers.shape[1]), dtype=torch.int32 if whole else torch.float)
        multiply = _multiply_whole if whole else _multiply_wide
        for start in range(0, len(self._table), rows * stride):
            table = self._table[start : start + rows * stride : stride]
            yield start, multiply(table, numbers, scores[: len(table)])


def _directions(products: NDArray[np.float32]) -> Tensor:
    """Return those in which rows differ most, so many that they hold most of the variance."""
    variances, vectors = np.linalg.eigh(products.astype(np.float64))
    variances, vectors = np.maximum(variances[::-1], 0.0), vectors[:, ::-1]
    held = np.cumsum(variances) >= _VARIANCE * variances.sum()
    needed = int(np.argmax(held)) + 1
    whole = min(-(-needed // _REGISTER) * _REGISTER, _MOST, len(vectors))
    return torch.from_numpy(np.ascontiguousarray(vectors[:, :whole], dtype=np.float32))


def _at_least(scores: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and columns of a block where a column's least score is reached."""
    columns = scores.shape[1]
    whole = len(scores) // _GROUP * _GROUP
    groups = scores[:whole].view(-1, _GROUP, columns)
    # Few groups hold such a row, and only they are looked at row by row.
    group, column = torch.nonzero(groups.amax(dim=1) >= least, as_tuple=True)
    inside = groups[group, :, column] >= least[column, None]
    hit, at = torch.nonzero(inside, as_tuple=True)
    rest, last = torch.nonzero(scores[whole:] >= least, as_tuple=True)
    rows = torch.cat([group[hit] * _GROUP + at, rest + whole])
    return rows, torch.cat([column[hit], last])


def _multiply_whole(table: Tensor, numbers: Tensor, out: Tensor) -> Tensor:
    return torch._int_mm(table.contiguous(), numbers, out=out)


def _multiply_wide(table: Tensor, numbers: Tensor, out: Tensor) -> Tensor:
    """Do the same in float32, where all these sums are exact."""
    return torch.mm(table.float(), numbers.float(), out=out)


@cache
def _whole_is_fast() -> bool:
    """Try whether this processor multiplies numbers of 8 bits faster than those of 32."""
    table = torch.ones((8192, 128), dtype=torch.int8)
    numbers = torch.ones((128, 64), dtype=torch.int8)
    seconds = []
    for multiply, dtype in ((_multiply_whole, torch.int32), (_multiply_wide, torch.float)):
        out = torch.empty((8192, 64), dtype=dtype)
        try:
            multiply(table, numbers, out)
            rounds = []
            for _ in range(5):
                start = perf_counter()
                multiply(table, numbers, out)
                rounds.append(perf_counter() - start)
        except (AttributeError, RuntimeError):  # a torch or a processor without such products
            return False
        seconds.append(min(rounds))
    return seconds[0] < seconds[1]
