"""An HNSW graph over the vectors of a gallery, kept with the gallery or in geoembed's cache."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoembed.errors import OptionError, TableError
from geoembed.galleries import Gallery, GalleryIndex
from geoembed.galleries.index import ExactIndex, Found
from geoembed.galleries.store import INDEXES
from geoembed.scalars import check_count, is_number
from geoembed_usearch.calibrating import calibrate, checked_queries, offer, questions
from geoembed_usearch.finding import WITHIN, Finder
from geoembed_usearch.keeping import Home, Parts, identity_of_gallery
from geoembed_usearch.lists import PLACES
from geoembed_usearch.opening import Opener
from geoembed_usearch.recall import Asked, truth_of
from geoembed_usearch.scoring import best_of
from geoembed_usearch.steps import Step, steps_of

if TYPE_CHECKING:
    from usearch.index import Index

__all__ = ["UsearchIndex", "UsearchInt8Index"]

# Beyond this share of the gallery a walk over the graph is no faster than looking at every row.
_MOST: Final = 0.1
# Queries at a time, scores of guides held at a time (256 MB), and candidates (32 MB, some times).
_QUERIES: Final = 1024
_SCORES: Final = 2**26
_CANDIDATES: Final = 2**22
# The share that is to be found if nothing else is asked for.
_TARGET: Final = 0.98
# A part of so few rows is looked at row by row at once: that takes no longer than a walk.
_FEW: Final = 20_000


class UsearchIndex(GalleryIndex):
    """Find the most similar rows among some candidates: nearly always the best, much faster.

    A graph (HNSW; Malkov and Yashunin, arXiv:1603.09320) keeps vectors in half precision: all of
    them, or some thousand guides with the lists of places that are nearest to each; where lists do
    not find enough, reduced vectors of all places lie beside it. It is built once and kept, in the
    gallery's folder or in geoembed's cache, from where it is memory-mapped. What it finds is scored
    again with the gallery's own vectors, so scores are those of the exact search. How much of what
    the exact search finds it finds as well is measured when it is built, for queries that are no
    rows of the gallery; it is followed so far that this is `target`: a little for queries that
    match a row well, further for others. Queries still further off, such as random directions, are
    answered by the exact search.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Unit vectors, float32 or float16, perhaps memory-mapped.
    device : str
        Where rows are compared one by one; the graph is searched on the CPU.
    connectivity : int, optional
        Neighbours a place in the graph; what is there if not given, else 16.
    expansion_add : int, optional
        Candidates followed while it is built; what is there if not given, else 128.
    expansion_search : int, optional
        Candidates followed while it is searched; as many as `target` takes if not given.
    target : float, optional
        Share of the ten best that is to be found, above 0 and below 1; what is there if not given,
        else 0.98.
    queries : array of shape (m, d), optional
        Such as those to come: the target is held for them as well. Only looked at when the index is
        built.
    graph : {"auto", "always"}
        Whether the graph holds every place even where lists, or reduced vectors, are enough; else
        it holds the guides of the lists only, a 64th of the places.
    far : {"exact", "index"}
        What answers queries for which the target is not reached.
    threads : int
        Of building and searching; 0 takes every core. The first 16,384 places join on one.
    checkpoint : float
        Seconds after which a build keeps the part that is done.
    rebuild : bool
        Build it again even if it is there.
    progress : bool, optional
        Show a progress bar while it is built.

    Attributes
    ----------
    path : Path or None
        Where the graph lies; None if it is in memory only.
    steps : list of Step
        Candidates followed over the graph, lists looked through, candidates among the reduced
        vectors, and the cosine of the best found row from which that is enough; queries that it is
        not enough for take the next step.
    answered : dict of str to int
        How many queries were answered so far by ``"index"`` and by ``"exact"`` search.

    Raises
    ------
    OptionError
        If an option does not fit, or the index in a gallery's folder is of other vectors or was
        built with other options.
    TableError
        If the index in a gallery's folder is damaged or of another format.

    Warns
    -----
    GalleryCacheWarning
        If an index in the cache is not what it should be (it is built again), it cannot be kept,
        or the target is not reached.

    Examples
    --------
    >>> vectors = np.eye(8, dtype=np.float32)
    >>> scores, rows = UsearchIndex(vectors).search(vectors[3:4], 1)
    >>> rows.tolist()
    [[3]]
    """

    _DTYPE = "float16"

    _finder: Finder

    def __init__(
        self,
        embeddings: NDArray[np.floating[Any]],
        *,
        device: str = "auto",
        connectivity: int | None = None,
        expansion_add: int | None = None,
        expansion_search: int | None = None,
        target: float | None = None,
        queries: ArrayLike | None = None,
        graph: str = "auto",
        far: str = "exact",
        threads: int = 0,
        checkpoint: float = 120.0,
        rebuild: bool = False,
        progress: bool | None = None,
        _gallery: Gallery | None = None,
    ) -> None:
        super().__init__(embeddings, device=device)
        for name, value, known in (
            ("graph", graph, ("auto", "always")),
            ("far", far, ("exact", "index")),
            ("rebuild", rebuild, (True, False)),
        ):
            if value not in known:
                raise OptionError(f"{name}={value!r} is not one of: {', '.join(map(str, known))}.")
        if target is not None and (not is_number(target) or not 0.0 < target < 1.0):
            raise OptionError(f"target={target!r} does not fit: give a share between 0 and 1.")
        if not is_number(checkpoint) or not checkpoint >= 0.0:
            raise OptionError(f"checkpoint={checkpoint!r} does not fit: give seconds, 0 or more.")
        self.far = far
        self.threads = check_count("threads", threads, 0)
        asked = {"connectivity": connectivity, "expansion_add": expansion_add}
        options = {name: value for name, value in asked.items() if value is not None}
        self._calibration: dict[str, Any] = {
            "target": _TARGET if target is None else float(target),
            "queries": None if queries is None else checked_queries(queries, embeddings.shape[1]),
            "expansion": None
            if expansion_search is None
            else check_count("expansion_search", expansion_search, 1),
        }
        self.answered = {"index": 0, "exact": 0}
        self._exact: ExactIndex | None = None
        self._asked: list[Asked] | None = None
        opener = Opener(
            embeddings if _gallery is None else _gallery,
            self._DTYPE,
            options,
            target=None if target is None else float(target),
            whole=graph == "always" or expansion_search is not None,
            threads=self.threads,
            checkpoint=checkpoint,
            progress=progress,
        )
        found = None if rebuild else opener.find()
        found = opener.make(self._calibrated) if found is None else found
        self.path, graph_, parts, self._facts = found
        self._finder = Finder(embeddings, self._DTYPE, self.threads, graph_, parts)
        self._asked = None
        self.steps = steps_of(self._facts, self._calibration["expansion"])

    @classmethod
    def for_gallery(cls, gallery: Gallery, *, progress: bool | None = None, **options: Any) -> Self:
        """Open the index that lies in a gallery's folder or in the cache, or build it.

        Parameters
        ----------
        gallery : Gallery
            What is searched.
        progress : bool, optional
            Show a progress bar while it is built.
        **options
            Those of the index.

        Returns
        -------
        UsearchIndex
            Memory-mapped where it could be kept.
        """
        return cls(
            gallery.embeddings,
            device=gallery.device,
            progress=progress,
            _gallery=gallery,
            **options,
        )

    @property
    def facts(self) -> dict[str, Any]:
        """How it was built, and how much it finds; plain types."""
        path = None if self.path is None else str(self.path)
        return {**self._facts, "path": path}

    def measure(self, queries: ArrayLike, name: str = "given") -> dict[str, Any]:
        """Measure how much of what the exact search finds is found for some queries.

        They are answered as `search` does, those too far off by the exact search itself. What
        `facts` tell of other queries is found without it.

        Parameters
        ----------
        queries : array of shape (m, d)
            Finite, none of them zero.
        name : str
            What they are.

        Returns
        -------
        dict
            ``queries``, ``count``, ``best`` (median cosine of their best rows), ``recall@1``,
            ``recall@10`` and ``recall@100``.
        """
        vectors = checked_queries(queries, self.embeddings.shape[1])
        (asked,) = truth_of(self.embeddings, self.device, [(name, vectors)])
        return asked.measured(self.search).as_dict()

    def save(self, folder: Path) -> None:
        """Keep the graph with a gallery that was just saved, if it is not there yet.

        Parameters
        ----------
        folder : Path
            Where the gallery lies, with the same vectors.

        Raises
        ------
        TableError
            If it cannot be written.
        """
        home = Home(folder / INDEXES)
        if self.path is None or home.description(self._DTYPE).exists():
            return
        identity = identity_of_gallery(Gallery.load(folder))
        try:
            try:
                home.copy(self.path, identity, self._facts)
            except FileNotFoundError:  # another process has built it again meanwhile
                found = Home(self.path.parent).open(self._facts["vectors"], self._DTYPE, {})
                if found is None:
                    raise
                home.copy(found[0], identity, found[3])
        except OSError as error:
            raise TableError(
                f"The index cannot be written to {home.folder}: {error.strerror or error}."
            ) from error

    # -- searching -------------------------------------------------------------------------------

    def _search(self, queries: NDArray[np.float32], k: int) -> Found:
        if self._deepest(k) > max(_MOST * len(self.embeddings), 32):
            return self._one_by_one(queries, k, None)
        return self._in_blocks(queries, k, None)

    def _among(self, queries: NDArray[np.float32], k: int, rows: NDArray[np.int64]) -> Found:
        count = self._finder.spare(k)
        deepest = max(self._deepest(k), *(step.expansion // 2 for step in self.steps))
        if len(rows) <= max(_FEW, 2 * count) or deepest > _MOST * len(self.embeddings):
            return self._one_by_one(queries, k, rows)
        return self._in_blocks(queries, k, rows)

    def _deepest(self, k: int) -> int:
        reduced = [step.count(k) for step in self.steps if step.reduced]
        return max(self._finder.spare(k), *reduced, 0)

    def _in_blocks(
        self, queries: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None
    ) -> Found:
        """Search for so many queries at a time that memory does not grow with their number."""
        guides = 1 if self._finder.lists is None else len(self._finder.lists)
        most = max(self._finder.most(k, step) for step in self.steps)
        block = max(1, min(_QUERIES, _SCORES // guides, _CANDIDATES // max(1, most)))
        found = [
            self._stepped(queries[start : start + block], k, rows)
            for start in range(0, len(queries), block)
        ]
        return np.concatenate([s for s, _ in found]), np.concatenate([r for _, r in found])

    def _stepped(
        self, queries: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None
    ) -> Found:
        """Follow queries further and further, as long as they are not answered well."""
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        best = np.full((len(queries), k), -1, dtype=np.int64)
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
        open_ = np.flatnonzero(lengths > 0.0)
        for step in self.steps:
            if not len(open_) or self._needless(step, k, rows):
                break
            some, found, well = self._step(queries[open_], k, step, rows)
            if step is not self.steps[-1] or self.far == "exact":
                well &= some[:, 0] >= step.least * lengths[open_]
            scores[open_[well]], best[open_[well]] = some[well], found[well]
            open_ = open_[~well]
        left = best[:, 0] < 0
        self.answered["index"] += int((~left).sum())
        if left.any():
            scores[left], best[left] = self._one_by_one(queries[left], k, rows)
        return scores, best

    def _needless(self, step: Step, k: int, rows: NDArray[np.int64] | None) -> bool:
        """Whether so many lists or candidates are wanted that all rows are looked at sooner."""
        look = step.look(k)
        scattered = look > step.lists and look * PLACES > _MOST * len(self.embeddings)
        if rows is None or not step.reduced:
            return scattered
        return scattered or WITHIN * step.count(k) > _MOST * len(rows)

    def _step(
        self, queries: NDArray[np.float32], k: int, step: Step, rows: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
        """Return scores and rows, and for which queries there are enough of them."""
        candidates, least = self._finder.find(queries, k, step, rows)
        if candidates.shape[1] < k:
            none = np.zeros((len(queries), k), dtype=np.int64)
            return none.astype(np.float32), none, np.zeros(len(queries), dtype=np.bool_)
        scores, best = best_of(self.embeddings, queries, candidates, k)
        return scores, best, (scores[:, 0] >= least) & np.isfinite(scores[:, -1])

    def _one_by_one(
        self, queries: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None
    ) -> Found:
        self.answered["exact"] += len(queries)
        if self._exact is None:
            self._exact = ExactIndex(self.embeddings, device=self.device)
        return self._exact.search(queries, k, rows)

    def _follow(self, queries: NDArray[np.float32], k: int, steps: list[Step]) -> Found:
        """Search in other steps than those that are found best, to find the best."""
        kept, self.steps, self.far = self.far, steps, "index"
        try:
            return self._search(queries, k)
        finally:
            self.far = kept

    def _calibrated(self, graph: "Index | None", parts: Parts) -> dict[str, Any]:
        self._finder = Finder(self.embeddings, self._DTYPE, self.threads, graph, parts)
        if self._asked is None:  # several ways may be tried, and the truth takes long
            self._asked = questions(self.embeddings, self.device, self._calibration["queries"])
        offered = offer(
            self._calibration["expansion"],
            lists="lists" in parts,
            graph=graph is not None,
            reduced="table" in parts,
        )
        known = calibrate(
            self._asked,
            self.embeddings,
            self.device,
            self._follow,
            self._calibration["target"],
            offered,
        )
        self.answered = {"index": 0, "exact": 0}
        return known


class UsearchInt8Index(UsearchIndex):
    """Do the same with a graph of 8 bits a value: three fifths of the room a place of the graph.

    Everything else is as in `UsearchIndex`; more candidates are scored again.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Unit vectors, float32 or float16, perhaps memory-mapped.
    **options
        Those of `UsearchIndex`.

    Examples
    --------
    >>> vectors = np.eye(8, dtype=np.float32)
    >>> UsearchInt8Index(vectors).search(vectors[3:4], 1)[1].tolist()
    [[3]]
    """

    _DTYPE = "int8"
