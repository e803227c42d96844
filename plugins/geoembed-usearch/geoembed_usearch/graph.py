"""The graph itself: its shape, its numbers, how it is walked and how it is built."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.scalars import check_count

if TYPE_CHECKING:
    from usearch.index import Index

__all__ = ["KINDS", "Shape", "empty_graph", "numbers_of", "view_graph", "walk"]

# The package's names of the kinds of numbers, and the largest of those that are whole.
KINDS: Final = {"float16": "f16", "int8": "i8"}
_LARGEST: Final = 127.0


@dataclass(frozen=True)
class Shape:
    """What decides the form of a graph.

    Parameters
    ----------
    dtype : {"float16", "int8"}
        In which it keeps vectors.
    connectivity : int
        Neighbours a place, at least 2.
    expansion_add : int
        Candidates followed while it is built, at least 1.

    Raises
    ------
    OptionError
        If one of them does not fit.

    Examples
    --------
    >>> Shape("int8").row_bytes(512)
    744
    """

    dtype: str = "float16"
    connectivity: int = 16
    expansion_add: int = 128

    def __post_init__(self) -> None:
        if self.dtype not in KINDS:
            raise OptionError(f"dtype={self.dtype!r} is not one of: {', '.join(KINDS)}.")
        check_count("connectivity", self.connectivity, 2)
        check_count("expansion_add", self.expansion_add, 1)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields in plain types."""
        return asdict(self)

    def row_bytes(self, width: int) -> int:
        """Return about how many bytes of a file a vector of `width` values takes."""
        # The vector; its key and level; two neighbours' numbers of four bytes a connection on the
        # ground, and about one in all levels above.
        links = 2 * self.connectivity * 4 + 4 * self.connectivity
        return width * np.dtype(self.dtype).itemsize + 40 + links


def numbers_of(vectors: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Turn vectors into the numbers that a graph keeps; angles stay as they are but for rounding.

    Parameters
    ----------
    vectors : array of shape (m, d)
        Finite.
    dtype : {"float16", "int8"}
        Of whole numbers each vector takes the full range of 127, which is some four times finer
        than to scale all of them alike: only angles are compared.

    Returns
    -------
    array of shape (m, d)
        Of that type.

    Examples
    --------
    >>> numbers_of(np.array([[0.1, -0.2]]), "int8").tolist()
    [[64, -127]]
    """
    values = np.ascontiguousarray(vectors, dtype=np.float32)
    largest = np.abs(values).max(axis=1, keepdims=True)
    # Queries may be of any length: a very long one would be infinite in half precision.
    scaled = values / np.where(largest == 0.0, 1.0, largest)
    if dtype == "int8":
        return np.rint(scaled * _LARGEST).astype(np.int8)
    return scaled.astype(np.float16)


def empty_graph(width: int, shape: Shape) -> "Index":
    """Make a graph without rows."""
    # Not at the top: where usearch's wheel is loaded before pyproj's, PROJ reads no numbers any
    # more ("non double value", pyproj issue 801). geoembed's rooms have imported pyproj by now.
    from usearch.index import Index

    return Index(
        ndim=width,
        metric="cos",
        dtype=KINDS[shape.dtype],
        connectivity=shape.connectivity,
        expansion_add=shape.expansion_add,
        # Rows are found by walking only; a table of them would have to be made at every opening.
        enable_key_lookups=False,
    )


def view_graph(path: Path, width: int, shape: Shape, rows: int) -> "Index":
    """Map a graph from its file.

    Parameters
    ----------
    path : Path
        Written by the package.
    width, shape, rows
        What it must be.

    Returns
    -------
    usearch.index.Index
        Read-only.

    Raises
    ------
    ValueError
        If its header says that it is something else; what.
    """
    from usearch.index import Index

    header = Index.metadata(str(path))
    if header is None:
        raise ValueError("it is no graph of usearch")
    expected = {"dimensions": width, "kind_scalar": KINDS[shape.dtype], "count_present": rows}
    for fact, wanted in expected.items():
        found = header.get(fact)
        plain = getattr(found, "name", found)
        if str(plain).lower() != str(wanted):
            raise ValueError(f"its {fact} is {plain}, expected {wanted}")
    if getattr(header.get("kind_metric"), "name", "") != "Cos":
        raise ValueError(f"its metric is {header.get('kind_metric')}, expected the cosine")
    graph = empty_graph(width, shape)
    graph.view(str(path))
    return graph


def walk(
    graph: "Index", queries: NDArray[Any], count: int, expansion: int, threads: int
) -> NDArray[np.int64]:
    """Walk over the graph.

    Parameters
    ----------
    graph : usearch.index.Index
        At least `count` rows.
    queries : array of shape (m, d)
        In the numbers of the graph.
    count : int
        Rows a query.
    expansion : int
        Candidates followed, at least `count`.
    threads : int
        0 takes every core.

    Returns
    -------
    rows : array of shape (m, count), int64
        Nearest first. Where a walk ended early, for a graph is not connected everywhere, -1
        follows.
    """
    graph.expansion_search = expansion  # type: ignore[misc]
    matches: Any = graph.search(queries, count, threads=threads)
    rows = np.full((len(queries), count), -1, dtype=np.int64)
    if len(queries) == 1:  # the package answers in another shape than for many
        found = np.asarray(matches.keys).reshape(-1)
        rows[0, : len(found)] = found
        return rows
    counts = np.asarray(matches.counts).astype(np.int64)
    np.copyto(
        rows, np.asarray(matches.keys), where=np.arange(count) < counts[:, None], casting="unsafe"
    )
    return rows
