"""A graph is found where it lies, or built and put there."""

import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from numpy.typing import NDArray

from geoembed.errors import OptionError, TableError
from geoembed.galleries import Gallery, GalleryCacheWarning
from geoembed.galleries.store import INDEXES
from geoembed_usearch.building import build_graph, sweep
from geoembed_usearch.graph import Shape
from geoembed_usearch.keeping import (
    Home,
    MismatchError,
    Parts,
    identity_of_gallery,
    identity_of_vectors,
)
from geoembed_usearch.lists import Lists
from geoembed_usearch.reduced import Reduced

if TYPE_CHECKING:
    from usearch.index import Index

__all__ = ["Opened", "Opener"]

# Where it lies, the graph, what lies beside it, and its description.
Opened = tuple[Path | None, "Index", Parts, dict[str, Any]]
Calibrated = Callable[["Index | None", Parts], dict[str, Any]]

# Of fewer places the exact search is as fast as a comparison of all reduced vectors.
_REDUCED: Final = 50_000
# Where that is not so many times as fast as the exact search, as on processors without products of
# 8 bits, a graph may be better.
_TIMES: Final = 3.0
_MORE: Final = " More neighbours (connectivity=32, expansion_add=256) find more."


class Opener:
    """What decides which graph is meant, and how it is built if it is not there.

    Parameters
    ----------
    vectors : Gallery or array of shape (n, d)
        What is indexed.
    dtype : str
        Of the graph.
    options : dict
        Of its shape, as far as they were asked for.
    target : float or None
        Share that is to be found, as far as it was asked for.
    whole : bool
        Whether the graph has to hold every place, though lists or reduced vectors may be enough.
    threads : int
        0 takes every core.
    checkpoint : float
        Seconds after which a build keeps the part that is done.
    progress : bool or None
        Show a progress bar.
    """

    vectors: Gallery | NDArray[Any]
    dtype: str
    options: dict[str, int]
    threads: int
    checkpoint: float
    progress: bool | None

    def __init__(
        self,
        vectors: Gallery | NDArray[Any],
        dtype: str,
        options: dict[str, int],
        *,
        target: float | None,
        whole: bool,
        threads: int,
        checkpoint: float,
        progress: bool | None,
    ) -> None:
        self.shape = Shape(dtype, **options)
        self.dtype, self.options, self.whole = dtype, options, whole
        self.asked = {**options, "target": target, "graph_of": "places" if whole else None}
        self.threads, self.checkpoint, self.progress = threads, checkpoint, progress
        if isinstance(vectors, Gallery):
            self.embeddings = vectors.embeddings
            self.identity = identity_of_gallery(vectors)
        else:
            self.embeddings = vectors
            self.identity = identity_of_vectors(vectors)
        self.homes = [Home.in_cache(self.identity)]
        # Whose vectors were told by their values lies in no folder that says so.
        folder = vectors.folder if isinstance(vectors, Gallery) else None
        if folder is not None and "places_sha256" in self.identity:
            self.homes.insert(0, Home(folder / INDEXES))

    def find(self) -> Opened | None:
        """Map the graph from the first folder that has it.

        Raises
        ------
        OptionError
            If the one in a gallery's folder is of other vectors or options.
        TableError
            If that one is damaged or of another format.

        Warns
        -----
        GalleryCacheWarning
            If the one in the cache is any of these.
        """
        for home in self.homes:
            try:
                found = home.open(self.identity, self.dtype, self.asked)
            except Exception as error:  # the package raises what it likes for a damaged file
                self._complain(home, error)
                return None
            if found is not None:
                return found
        return None

    def make(self, calibrated: Calibrated) -> Opened:
        """Build the graph, and keep it in the first folder that takes it.

        Parameters
        ----------
        calibrated : callable
            Measures what a graph finds, and says what goes into the description.

        Warns
        -----
        GalleryCacheWarning
            If it cannot be kept, or does not find enough.
        """
        needed = self._needed(graph=self.whole or len(self.embeddings) < _REDUCED)
        troubles = [home.trouble(needed) for home in self.homes]
        home = next((h for h, no in zip(self.homes, troubles, strict=True) if not no), None)
        if home is None:
            _unkept(self.homes[-1], troubles[-1])
            return None, *self._built(None, calibrated)
        before = home.stamp(self.dtype)
        with home.alone(self.dtype):
            if home.stamp(self.dtype) != before:  # another process has built it meanwhile
                found = self.find()
                if found is not None:
                    return found
            graph, parts, facts = self._built(home, calibrated)
            try:
                home.publish(graph, parts, self.identity, self.shape, facts)
                sweep(home, self.dtype)
                found = home.open(self.identity, self.dtype, {})
            except OSError as error:
                _unkept(home, error.strerror or str(error))
                return None, graph, parts, facts
        assert found is not None
        return found

    def _needed(self, *, graph: bool) -> int:
        """Return how many bytes a graph of all places takes, or what lies beside one of guides."""
        rows, width = map(int, self.embeddings.shape)
        place = self.shape.row_bytes(width)
        # While what is done so far is replaced it lies there twice.
        return rows * (2 * place if graph else width + 16 + place // 32)

    def _built(
        self, home: Home | None, calibrated: Calibrated
    ) -> tuple["Index", Parts, dict[str, Any]]:
        start = perf_counter()
        listed = Lists.build(
            self.embeddings, self.shape, threads=self.threads, progress=self.progress
        )
        guides = None if listed is None else listed[1]
        parts: Parts = {} if listed is None else {"lists": listed[0]}
        seconds, graph_of = perf_counter() - start, "guides"
        facts = None if self.whole or guides is None else calibrated(None, parts)
        enough = facts is not None and facts["reached"]
        beside: tuple[Parts, dict[str, Any]] | None = None
        if facts is not None and not enough and len(self.embeddings) >= _REDUCED:
            start = perf_counter()
            more = parts | Reduced.build(self.embeddings, progress=self.progress)
            seconds += perf_counter() - start
            facts = calibrated(None, more)
            beside = more, facts
            # What they do not find well a graph does not either, in ten times the time.
            enough = facts["times_exact"] >= _TIMES
        if facts is None or not enough or guides is None:
            # The graph of all places takes ten times as long to build.
            start, graph_of = perf_counter(), "places"
            room = home is not None and not home.trouble(self._needed(graph=True))
            graph = build_graph(
                self.embeddings,
                self.identity,
                self.shape,
                home if room else None,
                threads=self.threads,
                progress=self.progress,
                checkpoint=self.checkpoint,
            )
            seconds += perf_counter() - start
            facts = calibrated(graph, parts)
            # Where no few directions tell places apart a walk finds little, and takes long.
            enough = beside is not None and _worth(beside[1]) > _worth(facts)
        if enough and guides is not None:
            graph, graph_of = guides, "guides"
            parts, facts = (parts, facts) if beside is None else beside
        if not facts["reached"]:
            warnings.warn(
                f"The index finds less than {facts['target']:.0%} of the ten best rows for queries "
                f"of some kinds ({', '.join(facts['missed'])}). Those whose best row has a cosine "
                f"below {max(0.0, facts['far_below']):g} are answered by the exact search."
                + (_MORE if graph_of == "places" else ""),
                GalleryCacheWarning,
                stacklevel=7,
            )
        known = {"rows": len(self.embeddings), "graph_of": graph_of, "seconds": round(seconds, 1)}
        return graph, parts, {**known, **self.shape.as_dict(), "metric": "cosine", **facts}

    def _complain(self, home: Home, error: Exception) -> None:
        where = home.description(self.dtype)
        if home.is_cache:
            warnings.warn(
                f"The index {where} cannot be used: {error}. It is built again.",
                GalleryCacheWarning,
                stacklevel=6,
            )
            return
        name = "usearch" if self.dtype == "float16" else f"usearch.{self.dtype}"
        # With what was asked for, else the same error would come again.
        wanted = {**self.options, "target": self.asked["target"]}
        wanted["graph"] = "always" if self.whole else None
        settings = "".join(f" --set {k}={v}" for k, v in wanted.items() if v is not None)
        remedy = (
            f"Build it again: geoembed gallery index {shlex.quote(str(home.folder.parent))} "
            f"--index {name}{settings} --force."
        )
        if isinstance(error, MismatchError):
            raise OptionError(f"The index {where} does not fit: {error}. {remedy}") from error
        raise TableError(f"The index {where} is damaged: {error}. {remedy}") from error


def _worth(facts: dict[str, Any]) -> tuple[int, float]:
    return -len(facts["missed"]), facts["times_exact"]


def _unkept(home: Home, why: str) -> None:
    warnings.warn(
        f"The index cannot be kept in {home.folder} ({why}): it is in memory only and will be "
        "built again next time. Mend the folder, or set GEOEMBED_CACHE to another one.",
        GalleryCacheWarning,
        stacklevel=8,
    )
