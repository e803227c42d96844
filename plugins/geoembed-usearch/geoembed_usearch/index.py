"""An HNSW graph over the vectors of a gallery, kept beside the galleries in geoembed's cache."""

import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.galleries import GalleryCacheWarning, GalleryIndex
from geoembed.galleries.index import ExactIndex
from geoembed.progress import progress_bar
from geoembed.weights import cache_dir

if TYPE_CHECKING:
    from usearch.index import Index

__all__ = ["UsearchIndex"]

FORMAT: Final = 1

# Rows added at a time, and bytes hashed at a time.
_ROWS: Final = 50_000
_BYTES: Final = 2**24
# More candidates than are asked for: half precision confuses neighbours, exact scores do not.
_SPARE: Final = 16
# Beyond this share of the gallery a walk over the graph is no faster than looking at every row.
_MOST: Final = 0.1


class UsearchIndex(GalleryIndex):
    """Find the most similar rows by a walk over a graph: nearly always the best, much faster.

    The graph (HNSW; Malkov and Yashunin, arXiv:1603.09320) keeps vectors in half precision. It is
    built once and kept in geoembed's cache, from where it is memory-mapped. The rows that it finds
    are scored again with the gallery's own vectors, so scores are those of the exact search.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Unit vectors, float32 or float16, perhaps memory-mapped.
    device : str
        Where rows are compared one by one if more than a tenth of the gallery is asked for; the
        graph is searched on the CPU.
    connectivity : int
        Neighbours a place in the graph.
    expansion_add, expansion_search : int
        Candidates followed while the graph is built and while it is searched; more find more.
    threads : int
        Of building and searching; 0 takes every core.
    progress : bool, optional
        Show a progress bar while the graph is built.

    Examples
    --------
    >>> vectors = np.eye(8, dtype=np.float32)
    >>> scores, rows = UsearchIndex(vectors).search(vectors[3:4], 1)
    >>> rows.tolist()
    [[3]]
    """

    def __init__(
        self,
        embeddings: NDArray[np.floating[Any]],
        *,
        device: str = "auto",
        connectivity: int = 16,
        expansion_add: int = 128,
        expansion_search: int = 256,
        threads: int = 0,
        progress: bool | None = None,
    ) -> None:
        super().__init__(embeddings, device=device)
        self.threads = _whole("threads", threads, 0)
        self.shape = {
            "connectivity": _whole("connectivity", connectivity, 2),
            "expansion_add": _whole("expansion_add", expansion_add, 1),
        }
        self.expansion_search = _whole("expansion_search", expansion_search, 1)
        self._exact: ExactIndex | None = None
        self.path, self._graph = self._open(progress)

    def _search(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rows = len(self.embeddings)
        count = min(rows, k + _SPARE)
        if count > max(_MOST * rows, 2 * _SPARE):
            return self._one_by_one(queries, k)
        self._graph.expansion_search = max(self.expansion_search, count)
        # For one query the package answers in another shape than for many.
        asked = queries if len(queries) > 1 else np.repeat(queries, 2, axis=0)
        matches = self._graph.search(asked, count, threads=self.threads)
        found = np.asarray(matches.keys)[: len(queries)].astype(np.int64)
        short = np.asarray(matches.counts)[: len(queries)] < count
        scores = np.empty((len(queries), k), dtype=np.float32)
        best = np.empty((len(queries), k), dtype=np.int64)
        for row in np.flatnonzero(~short):
            # In the order of the gallery, so that of equal scores the lower row comes first.
            candidates = np.sort(found[row])
            exact = self.embeddings[candidates].astype(np.float32) @ queries[row]
            order = np.argsort(-exact, kind="stable")[:k]
            scores[row], best[row] = exact[order], candidates[order]
        if short.any():
            # The graph is not connected everywhere: a walk may end early.
            scores[short], best[short] = self._one_by_one(queries[short], k)
        return scores, best

    def _one_by_one(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if self._exact is None:
            self._exact = ExactIndex(self.embeddings, device=self.device)
        return self._exact.search(queries, k)

    def _open(self, progress: bool | None) -> "tuple[Path | None, Index]":
        """Map the graph from the cache, or build it and put it there."""
        facts = {"format": FORMAT, **self.shape, "vectors": _digest(self.embeddings)}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        path = cache_dir() / "indexes" / f"usearch-{key[:24]}.usearch"
        if path.is_file():
            try:
                return path, self._view(path)
            except Exception as error:  # the package raises what it likes for a damaged file
                warnings.warn(
                    f"The index {path} is damaged ({error}). It is built again.",
                    GalleryCacheWarning,
                    stacklevel=3,
                )
        graph = self._build(progress)
        try:
            _write(graph, path)
            return path, self._view(path)
        except OSError as error:
            warnings.warn(
                f"The index cannot be kept in {path.parent} ({error.strerror or error}): it is in "
                "memory only and will be built again next time. Mend the folder, or set "
                "GEOEMBED_CACHE to another one.",
                GalleryCacheWarning,
                stacklevel=3,
            )
            return None, graph

    def _empty(self) -> "Index":
        # Not at the top: where usearch's wheel is loaded before pyproj's, PROJ reads no numbers any
        # more ("non double value", pyproj issue 801). geoembed's rooms have imported pyproj by now.
        from usearch.index import Index

        return Index(ndim=self.embeddings.shape[1], metric="cos", dtype="f16", **self.shape)

    def _view(self, path: Path) -> "Index":
        described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if described["bytes"] != path.stat().st_size or described["sha256"] != _file_digest(path):
            raise ValueError("it is not what was written")
        graph = self._empty()
        graph.view(str(path))
        if graph.size != len(self.embeddings):
            raise ValueError(f"it holds {graph.size:,} of {len(self.embeddings):,} rows")
        return graph

    def _build(self, progress: bool | None) -> "Index":
        graph = self._empty()
        total = len(self.embeddings)
        with progress_bar(progress, text="indexing", unit="place", total=total) as bar:
            for start in range(0, total, _ROWS):
                part = np.asarray(self.embeddings[start : start + _ROWS], dtype=np.float16)
                keys = np.arange(start, start + len(part), dtype=np.uint64)
                graph.add(keys, part, threads=self.threads)
                bar.update(len(part))
        return graph


def _whole(name: str, value: object, least: int) -> int:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least:  # type: ignore[operator]
        raise OptionError(f"{name}={value!r} is no whole number of at least {least}.")
    return int(value)  # type: ignore[call-overload]


def _digest(embeddings: NDArray[np.floating[Any]]) -> str:
    """SHA-256 of type, shape and every value."""
    digest = hashlib.sha256(f"{embeddings.dtype}{embeddings.shape}".encode())
    step = max(1, _BYTES // (embeddings.shape[1] * embeddings.itemsize))
    for start in range(0, len(embeddings), step):
        digest.update(np.ascontiguousarray(embeddings[start : start + step]).data)
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(graph: "Index", path: Path) -> None:
    """Write under a temporary name, then rename: no half file is ever found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".usearch-", dir=path.parent) as folder:
        part = Path(folder, path.name)
        try:
            graph.save(str(part))
        except RuntimeError as error:
            raise OSError(str(error)) from error
        described = {"bytes": part.stat().st_size, "sha256": _file_digest(part)}
        text = json.dumps(described) + "\n"
        beside = part.with_suffix(".json")
        beside.write_text(text, encoding="utf-8")
        os.replace(part, path)
        os.replace(beside, path.with_suffix(".json"))
