"""Graphs are built block by block, in bounded memory; a killed build goes on where it was."""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.galleries import GalleryCacheWarning
from geoembed.progress import progress_bar
from geoembed_usearch.graph import Shape, empty_graph, numbers_of
from geoembed_usearch.keeping import FORMAT, Home, save_graph

if TYPE_CHECKING:
    from usearch.index import Index

__all__ = ["build_graph", "insertion_blocks", "sweep"]

# Rows of one piece: neighbours in the gallery's order, and in its file.
_PIECE: Final = 16
# Rows added between two looks at the clock.
_ROWS: Final = 16_384
# A checkpoint may take one part in so many of the time.
_SHARE: Final = 20.0


def insertion_blocks(rows: int, done: int = 0) -> Iterator[NDArray[np.int64]]:
    """Give the rows of a gallery in the order in which they join the graph.

    Galleries are often in order, such as grids from south to north. A graph that grows along such
    an order has parts that no walk reaches: of 145,000 places of a grid 7 % were not found by
    their own vectors, and 0.1 % where pieces of 64 rows came in random order. Pieces rather
    than rows, so that a file that is larger than memory is read in runs.

    Parameters
    ----------
    rows : int
        How many there are.
    done : int
        How many of the order are there already.

    Yields
    ------
    array of int64
        Each row once; of one number of rows the order is always the same.

    Examples
    --------
    >>> sorted(np.concatenate(list(insertion_blocks(100))).tolist()) == list(range(100))
    True
    """
    pieces = np.random.default_rng(rows).permutation(-(-rows // _PIECE))
    step = _ROWS // _PIECE
    before = 0
    for start in range(0, len(pieces), step):
        some = pieces[start : start + step, None] * _PIECE + np.arange(_PIECE)
        block = some[some < rows].astype(np.int64)
        skipped = max(0, min(len(block), done - before))
        before += len(block)
        if skipped < len(block):
            yield block[skipped:]


def build_graph(
    embeddings: NDArray[Any],
    identity: dict[str, Any],
    shape: Shape,
    home: Home | None,
    *,
    threads: int,
    progress: bool | None,
    checkpoint: float,
) -> "Index":
    """Add every row to a graph, or those that an earlier build did not come to.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Unit vectors, perhaps memory-mapped: read once, block by block.
    identity : dict
        Which vectors they are.
    shape : Shape
        Of the graph.
    home : Home or None
        Where the part that is done is kept meanwhile.
    threads : int
        0 takes every core. The first 16,384 rows are added on one.
    progress : bool or None
        Show a progress bar.
    checkpoint : float
        Seconds between two times that the part is kept, at least; saving it takes a twentieth of
        the time at most.

    Returns
    -------
    usearch.index.Index
        In memory, with every row.
    """
    total, width = embeddings.shape
    kept = None if home is None else _Unfinished(home, identity, shape)
    graph = None if kept is None else kept.load(width, total)
    graph = empty_graph(width, shape) if graph is None else graph
    done = len(graph)
    wait, last = checkpoint, monotonic()
    with progress_bar(progress, text="indexing", unit="place", total=total, done=done) as bar:
        for rows in insertion_blocks(total, done):
            part = numbers_of(embeddings[rows], shape.dtype)
            # Rows that join at the same time may miss one another. Among few rows that loses up to
            # one in a hundred where threads wait for cores, so the first block joins row by row.
            side_by_side = threads if len(graph) >= _ROWS else 1
            graph.add(rows.astype(np.uint64), part, threads=side_by_side)
            bar.update(len(rows))
            if kept is not None and monotonic() - last >= wait and len(graph) < total:
                start = monotonic()
                if not kept.save(graph):
                    kept = None
                last = monotonic()
                wait = max(checkpoint, _SHARE * (last - start))
    return graph


def sweep(home: Home, dtype: str) -> None:
    """Remove what builds left in a folder once a graph is whole.

    Parameters
    ----------
    home : Home
        The folder.
    dtype : str
        Of the graph.
    """
    part = home.unfinished(dtype)
    for left in part.parent.glob(part.name + "*"):
        with suppress(OSError):
            left.unlink(missing_ok=True)


class _Unfinished:
    """The part of a graph that is done, in a file of its own with a description beside it."""

    def __init__(self, home: Home, identity: dict[str, Any], shape: Shape) -> None:
        self.description = home.unfinished(shape.dtype).with_suffix(".part.json")
        # By turns: the one that the description names stays whole while the other is written.
        self.files = [self.description.with_suffix(suffix) for suffix in (".0", ".1")]
        self.turn = 0
        self.shape = shape
        self.facts = {"format": FORMAT, "vectors": identity, **shape.as_dict()}

    def load(self, width: int, total: int) -> "Index | None":
        """Return what an earlier build came to; None if it was of something else, or is torn."""
        try:
            facts = json.loads(self.description.read_text(encoding="utf-8"))
            rows, size, turn = (facts.pop(fact) for fact in ("rows", "bytes", "turn"))
            path = self.files[turn]
            if facts != self.facts or path.stat().st_size != size or not 0 < rows <= total:
                return None
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
            return None
        graph = empty_graph(width, self.shape)
        try:
            graph.load(str(path))
        except Exception:  # the package raises what it likes for a damaged file
            return None
        self.turn = 1 - turn
        return graph if len(graph) == rows else None

    def save(self, graph: "Index") -> bool:
        """Keep what is done so far; say whether that went well."""
        path = self.files[self.turn]
        try:
            save_graph(graph, path)
            document = {**self.facts, "rows": len(graph), "bytes": path.stat().st_size}
            _replace_text(self.description, json.dumps({**document, "turn": self.turn}))
        except OSError as error:
            path.unlink(missing_ok=True)
            warnings.warn(
                f"The part of the index that is done cannot be kept in {path.parent} "
                f"({error.strerror or error}): if the build ends early, it goes on from the one "
                "before, or begins anew.",
                GalleryCacheWarning,
                stacklevel=2,
            )
            return False
        self.turn = 1 - self.turn
        self.files[self.turn].unlink(missing_ok=True)
        return True


def _replace_text(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text + "\n", encoding="utf-8")
    os.replace(new, path)
