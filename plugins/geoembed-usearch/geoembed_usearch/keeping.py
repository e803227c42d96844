"""Where graphs lie: in a folder, each with a description, replaced as a whole."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.weights import cache_dir
from geoembed_usearch.graph import Shape, view_graph

if TYPE_CHECKING:
    from usearch.index import Index

    from geoembed.galleries import Gallery

__all__ = [
    "FORMAT",
    "Home",
    "MismatchError",
    "Parts",
    "identity_of_gallery",
    "identity_of_vectors",
]

FORMAT: Final = 4

# What lies beside a graph, by name.
Parts = dict[str, NDArray[Any]]

# Bytes hashed at a time.
_BYTES: Final = 2**24
# At an opening so many samples of so many bytes are checked, spread evenly: a millisecond.
_SAMPLES: Final = 32
_SAMPLE: Final = 2**15
# What descriptions call the digest of samples of the graph's file. It has nothing to do with their
# "parts", which are the files beside it; the word stays for indexes that took hours to build.
_OF_SAMPLES: Final = "parts_sha256"


class MismatchError(ValueError):
    """A file is whole, and belongs to something else: other vectors, other options."""


def identity_of_gallery(gallery: "Gallery") -> dict[str, Any]:
    """Say which vectors a gallery has, without reading them where its folder says so.

    Parameters
    ----------
    gallery : Gallery
        In a folder or in memory.

    Returns
    -------
    dict
        Plain types. Of a gallery whose folder holds another one by now, what its values say.
    """
    if gallery.folder is not None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            facts = json.loads((gallery.folder / "gallery.json").read_text(encoding="utf-8"))
            # Those of a gallery that was encoded just now say nothing of files.
            loaded = gallery.facts.get("sha256", facts["sha256"])
            if facts["places_sha256"] == gallery.facts["places_sha256"] and (
                facts["sha256"]["embeddings"] == loaded["embeddings"]
            ):
                return {
                    "embeddings_sha256": str(facts["sha256"]["embeddings"]),
                    "places_sha256": str(facts["places_sha256"]),
                    "shape": list(gallery.embeddings.shape),
                    "dtype": str(gallery.embeddings.dtype),
                }
    return identity_of_vectors(gallery.embeddings)


def identity_of_vectors(embeddings: NDArray[Any]) -> dict[str, Any]:
    """Say which vectors these are; every value is read.

    Parameters
    ----------
    embeddings : array of shape (n, d)
        Any.

    Returns
    -------
    dict
        Plain types.
    """
    digest = hashlib.sha256()
    step = max(1, _BYTES // max(1, embeddings[:1].nbytes))
    for start in range(0, len(embeddings), step):
        digest.update(np.ascontiguousarray(embeddings[start : start + step]).data)
    return {
        "values_sha256": digest.hexdigest(),
        "shape": list(embeddings.shape),
        "dtype": str(embeddings.dtype),
    }


@dataclass(frozen=True)
class Home:
    """A folder of graphs.

    Parameters
    ----------
    folder : Path
        Made when something is written.
    """

    folder: Path

    @classmethod
    def in_cache(cls, identity: dict[str, Any]) -> "Home":
        """Return the folder in geoembed's cache that belongs to some vectors."""
        text = json.dumps([FORMAT, identity], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()
        return cls(cache_dir() / "indexes" / key[:24])

    @property
    def is_cache(self) -> bool:
        """Whether it lies in geoembed's cache, where anything may be built again."""
        places = (cache_dir() / "indexes", cache_dir() / "galleries")
        return any(self.folder.is_relative_to(place) for place in places)

    def description(self, dtype: str) -> Path:
        """Return where the description of a graph lies."""
        return self.folder / f"usearch.{dtype}.json"

    def unfinished(self, dtype: str) -> Path:
        """Return where the part of a graph lies that is built so far."""
        return self.folder / f".usearch.{dtype}.part"

    def stamp(self, dtype: str) -> int:
        """Tell one description from the next; 0 if there is none."""
        try:
            return self.description(dtype).stat().st_mtime_ns
        except OSError:
            return 0

    def trouble(self, needed: int) -> str:
        """Say why nothing of `needed` bytes can be kept here; empty if it can."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            return error.strerror or str(error)
        if free < needed:
            return f"{needed / 1e9:,.1f} GB are needed, {free / 1e9:,.1f} GB are free"
        return ""

    def open(
        self, identity: dict[str, Any], dtype: str, options: dict[str, Any]
    ) -> "tuple[Path, Index, Parts, dict[str, Any]] | None":
        """Map the graph of some vectors.

        Parameters
        ----------
        identity : dict
            Of the vectors.
        dtype : str
            Of the graph.
        options : dict
            What its shape must be; None takes what is there.

        Returns
        -------
        path, graph, parts, description
            None if there is none. Parts are what lies beside the graph, by name.

        Raises
        ------
        MismatchError
            If it belongs to other vectors, or was built with other options.
        ValueError
            If it is damaged, or of another format.
        """
        text = self._text(dtype)
        while text is not None:
            try:
                return self._map(json.loads(text), identity, dtype, options)
            except Exception:
                # Another process may have put another one there meanwhile, and removed these files.
                before, text = text, self._text(dtype)
                if text == before:
                    raise
        return None

    def _text(self, dtype: str) -> str | None:
        try:
            return self.description(dtype).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _map(
        self, described: Any, identity: dict[str, Any], dtype: str, options: dict[str, Any]
    ) -> "tuple[Path, Index, Parts, dict[str, Any]]":
        if not isinstance(described, dict) or described.get("format") != FORMAT:
            found = described.get("format") if isinstance(described, dict) else None
            raise ValueError(f"it has the format {found!r}, this plugin reads {FORMAT}")
        if described["vectors"] != identity:
            raise MismatchError("it was built of other vectors")
        for option, wanted in {"dtype": dtype, "metric": "cosine", **options}.items():
            if wanted is not None and described[option] != wanted:
                raise MismatchError(
                    f"it was built with {option}={described[option]!r}, not {wanted!r}"
                )
        path = self.folder / described["graph"]
        if path.parent != self.folder or not path.is_file():
            raise ValueError(f"there is no {described['graph']} beside it")
        if described[_OF_SAMPLES] != _sampled_digest(path):
            raise ValueError("it is not what was written")
        shape = Shape(dtype, described["connectivity"], described["expansion_add"])
        rows, width = identity["shape"]
        if described["graph_of"] not in ("places", "guides"):
            raise ValueError(f"it is a graph of {described['graph_of']!r}")
        parts: Parts = {}
        for name, kept in described["parts"].items():
            beside = self.folder / kept["file"]
            if beside.parent != self.folder or not beside.is_file():
                raise ValueError(f"there is no {kept['file']} beside it")
            if kept["sha256"] != _sampled_digest(beside):
                raise ValueError(f"{kept['file']} is not what was written")
            # A change would stay in memory; torch takes no array that cannot be written.
            parts[name] = np.load(beside, mmap_mode="c")
        if described["graph_of"] == "guides":
            if "lists" not in parts:
                raise ValueError("its lists are not beside it")
            rows = int(parts["lists"][0])
        return path, view_graph(path, width, shape, rows), parts, described

    def publish(
        self,
        graph: "Index",
        parts: Parts,
        identity: dict[str, Any],
        shape: Shape,
        more: dict[str, Any],
    ) -> Path:
        """Write a graph with its description; the one that was there is replaced at the end.

        Raises
        ------
        OSError
            If the disk is full or the folder cannot be written; nothing is left behind.
        """

        def write(name: str, path: Path) -> None:
            if name:
                with path.open("wb") as file:
                    np.save(file, parts[name])
            else:
                save_graph(graph, path)

        self.folder.mkdir(parents=True, exist_ok=True)
        return self._put(["", *parts], write, identity, shape, more)

    def copy(self, path: Path, identity: dict[str, Any], described: dict[str, Any]) -> None:
        """Take a graph that lies elsewhere, for the same vectors under another identity."""
        shape = Shape(*(described[f] for f in ("dtype", "connectivity", "expansion_add")))
        parts = described["parts"]

        def write(name: str, new: Path) -> None:
            shutil.copyfile(path.parent / parts[name]["file"] if name else path, new)

        self.folder.mkdir(parents=True, exist_ok=True)
        with self.alone(shape.dtype):
            self._put(["", *parts], write, identity, shape, described)

    def _put(
        self,
        names: list[str],
        write: Callable[[str, Path], None],
        identity: dict[str, Any],
        shape: Shape,
        more: dict[str, Any],
    ) -> Path:
        """Have the graph (of no name) and its parts written, then give all of them their names."""
        written = {name: self._temporary(shape.dtype) for name in names}
        try:
            for name, file in written.items():
                write(name, file)
            return self._describe(written, identity, shape, more)
        finally:
            for file in written.values():
                file.unlink(missing_ok=True)

    def _describe(
        self, written: dict[str, Path], identity: dict[str, Any], shape: Shape, more: dict[str, Any]
    ) -> Path:
        graph = written[""]
        digests = {name: file_digest(file) for name, file in written.items()}
        # Of all of them: the same guides may have other parts, and never replace those of the index
        # that is still described.
        key = hashlib.sha256("".join(digests.values()).encode()).hexdigest()[:12]
        path = self.folder / f"usearch.{shape.dtype}-{key}.usearch"
        named = {
            name: path.with_suffix(f".{name}.npy" if name else path.suffix) for name in written
        }
        described = {
            **more,
            "format": FORMAT,
            "graph": path.name,
            "metric": "cosine",
            **shape.as_dict(),
            "vectors": identity,
            "usearch": version("usearch"),
            "bytes": sum(file.stat().st_size for file in written.values()),
            "sha256": digests[""],
            _OF_SAMPLES: _sampled_digest(graph),
            "parts": {  # these digests are of samples as well
                name: {"file": named[name].name, "sha256": _sampled_digest(file)}
                for name, file in written.items()
                if name
            },
        }
        fresh = [file for file in named.values() if not file.exists()]
        new = self._temporary(shape.dtype)
        try:
            new.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
            for name, file in written.items():
                file.chmod(0o644)
                os.replace(file, named[name])
            new.chmod(0o644)
            # From here on the new graph is found; until then the old one was.
            os.replace(new, self.description(shape.dtype))
        except BaseException:
            for file in fresh:
                file.unlink(missing_ok=True)
            raise
        finally:
            new.unlink(missing_ok=True)
        for old in self.folder.glob(f"usearch.{shape.dtype}-*"):
            if old not in named.values():
                with suppress(OSError):  # mapped by somebody on a system that forbids it
                    old.unlink()
        return path

    @contextmanager
    def alone(self, dtype: str) -> Iterator[None]:
        """Let one process at a time write a graph here; others wait, and then find it."""
        try:
            import fcntl
        except ImportError:  # no such locks on this system: they build side by side
            yield
            return
        with (self.folder / f".usearch.{dtype}.lock").open("w") as file:
            with suppress(OSError):  # some network folders know no locks
                fcntl.flock(file, fcntl.LOCK_EX)
                for left in self.folder.glob(f".usearch.{dtype}-*.new"):
                    left.unlink(missing_ok=True)  # of a process that was killed while it wrote
            yield

    def _temporary(self, dtype: str) -> Path:
        """Make an empty file; a finished one takes its final name from there."""
        handle, name = tempfile.mkstemp(prefix=f".usearch.{dtype}-", suffix=".new", dir=self.folder)
        os.close(handle)
        return Path(name)


def save_graph(graph: "Index", path: Path) -> None:
    """Write a graph; OSError where the package raises something else."""
    try:
        graph.save(str(path))
    except RuntimeError as error:
        raise OSError(str(error)) from error


def file_digest(path: Path) -> str:
    """Return the SHA-256 of all of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sampled_digest(path: Path) -> str:
    """Return a SHA-256 of the size of a file and of samples of its bytes."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for position in np.linspace(0, max(0, size - _SAMPLE), _SAMPLES, dtype=np.int64).tolist():
            file.seek(position)
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
