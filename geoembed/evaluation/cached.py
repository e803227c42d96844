"""Vectors of a table's places, computed once and looked up afterwards."""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoembed import __version__
from geoembed.coordinates import read_places
from geoembed.encoders.base import LocationEncoder
from geoembed.errors import OptionError
from geoembed.evaluation.drafts import Draft
from geoembed.progress import progress_bar
from geoembed.scaling.places import PlaceWorkers, slice_rows

__all__ = ["CachedEncoder", "write_atomically"]

Vectors = NDArray[np.floating[Any]]


class CachedEncoder(LocationEncoder):
    """An encoder that has the vectors of some places ready, so that every fold can use them.

    Behaves like the encoder that it wraps. Vectors of the places that it was made with are looked
    up; all others are computed when they are asked for, and not kept.

    Parameters
    ----------
    encoder : LocationEncoder
        What encodes.
    places : Places, GeoDataFrame, DataFrame, geometries or array of shape (n, 2)
        Places to have ready, as `geoembed.read_places` takes them; arrays are (lon, lat) in
        degrees, WGS 84. Equal places are computed once, invalid ones left out.
    folder : str or Path, optional
        Keep the vectors in a file of this folder, which is made if it is not there, and use the
        file instead of memory. The file is found again by the same encoder (name, options,
        SHA-256 of the weights), the same places and the same version of geoembed; one whose
        making was stopped is gone on with.
    workers : PlaceWorkers, optional
        Who computes them; this process if not given.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.

    Attributes
    ----------
    encoder : LocationEncoder
        The wrapped one.
    path : Path or None
        File of the vectors; None where they are in memory.
    seconds : float
        Time that it took to compute them; NaN where the file, or some of it, was there.

    Raises
    ------
    OptionError
        If `encoder` is no LocationEncoder.
    CoordinateError
        If `places` cannot be read as places.
    TableError
        If the folder cannot be written.
    WorkerError
        If the workers are not fit, or are lost again and again.

    Notes
    -----
    A vector is bit by bit the one that `geoembed.featurizer.encode_places` gives for all the
    places at once; in other blocks a matrix product may round its last bits differently. Two
    processes may make the same file: the second writes one of its own, and the last to finish
    gives its own the name.
    A pickle holds the recipe of the wrapped encoder and no vectors.

    Examples
    --------
    >>> import geoembed as ge
    >>> cities = ge.data.load_cities().head(100)
    >>> cached = CachedEncoder(ge.load_encoder("xyz"), cities)
    >>> head = ge.LocationRegressor(cached).fit(cities, cities["lat"].abs())
    >>> cached.encode(0.0, 90.0).round(6).tolist()  # not among the places: computed
    [[0.0, 0.0, 1.0]]
    """

    # The options are those of the wrapped encoder, which has checked them.
    supports_layers = True
    supports_precision = True

    def __init__(
        self,
        encoder: LocationEncoder,
        places: Any,
        *,
        folder: str | Path | None = None,
        workers: PlaceWorkers | None = None,
        progress: bool | None = None,
    ) -> None:
        if not isinstance(encoder, LocationEncoder):
            raise OptionError(
                f"encoder={encoder!r} is no LocationEncoder: pass geoembed.load_encoder(name)."
            )
        placement: dict[str, Any] = {"device": encoder.device, "block_size": encoder.block_size}
        super().__init__(encoder.spec, **encoder.options(), **placement)
        self.encoder = encoder
        lonlat = read_places(places, on_invalid="nan").lonlat
        lonlat = lonlat[np.isfinite(lonlat).all(axis=1)] + 0.0  # +0.0: -0.0 is the same place
        # In the order of the table, as the encoder itself would compute them.
        keys, firsts = np.unique(_keys(lonlat), return_index=True)
        self._rows = np.argsort(np.argsort(firsts))
        self._keys = keys
        ordered = lonlat[np.sort(firsts)]
        self.path: Path | None = None
        making = _Making(encoder, ordered, workers or PlaceWorkers(), progress)
        start = time.perf_counter()
        if folder is None:
            self._vectors: Vectors = making.in_memory()
            resumed = False
        else:
            self.path = Path(folder).expanduser() / f"{_digest(encoder, ordered)}.npy"
            self._vectors, resumed = making.in_file(self.path)
        self.seconds = np.nan if resumed else time.perf_counter() - start

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Label and width of every part of the vector, in order."""
        return self.encoder.parts

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.encoder.dimension

    @property
    def weights_sha256(self) -> str:
        """Digest of the weights of the wrapped encoder."""
        return self.encoder.weights_sha256

    def known(self, lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say which places are looked up.

        Parameters
        ----------
        lonlat : array of shape (n, 2), float64
            Degrees, WGS 84, longitude in [-180, 180].

        Returns
        -------
        array of bool, shape (n,)
            False where the vector would be computed.
        """
        return self._find(lonlat)[1]

    def values(self, lonlat: NDArray[np.float64]) -> Vectors:
        """Return vectors as the wrapped encoder finishes them: looked up, or else computed.

        Parameters
        ----------
        lonlat : array of shape (n, 2), float64
            Valid places, degrees, WGS 84, longitude in [-180, 180].

        Returns
        -------
        array of shape (n, dimension)
            Of the type `dtype`.
        """
        rows, known = self._find(lonlat)
        if known.all():
            return np.asarray(self._vectors[rows])
        out = np.empty((len(lonlat), self.dimension), dtype=self.dtype)
        out[known] = self._vectors[rows[known]]
        new = np.ascontiguousarray(lonlat[~known])
        out[~known] = self.encoder.finish(self.encoder.values(new))
        return out

    def finish(self, values: Vectors) -> Vectors:
        """Return the vectors as they are: the wrapped encoder has finished them.

        Parameters
        ----------
        values : array of shape (n, dimension)
            From `values`.

        Returns
        -------
        array of shape (n, dimension)
            The same array.
        """
        return values

    def blocks_of(self) -> int:
        """Return how many rows the wrapped encoder computes at a time.

        Returns
        -------
        int
            Rows.
        """
        return self.encoder.blocks_of()

    def _find(self, lonlat: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Row of the vectors of every place, and whether there is one."""
        if not len(self._keys):
            return np.zeros(len(lonlat), dtype=np.intp), np.zeros(len(lonlat), dtype=np.bool_)
        keys = _keys(lonlat + 0.0)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return self._rows[at], self._keys[at] == keys

    def _encode_block(self, lonlat: NDArray[np.float64]) -> Vectors:
        return self.values(lonlat)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.encoder.__reduce__()

    def _recipe(self) -> str:
        return self.encoder._recipe()

    def _bare(self) -> LocationEncoder:
        return self.encoder._bare()


def _keys(lonlat: NDArray[np.float64]) -> NDArray[np.complex128]:
    """One number a place, which NumPy sorts by longitude, then latitude."""
    return np.ascontiguousarray(lonlat).view(np.complex128).ravel()


def _digest(encoder: LocationEncoder, lonlat: NDArray[np.float64]) -> str:
    """Name of the file: everything that decides what is in it."""
    facts = {
        "encoder": encoder.name,
        "owner": encoder.spec.owner,
        "options": encoder.options(),
        "weights_sha256": encoder.weights_sha256,
        "dimension": encoder.dimension,
        "version": __version__,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(lonlat).tobytes())
    return f"{encoder.name}-{digest.hexdigest()[:32]}"


def _load(path: Path, encoder: LocationEncoder, lonlat: NDArray[np.float64]) -> Vectors | None:
    """Vectors in the file; None if it is missing, cut off or of another shape."""
    with suppress(OSError, ValueError, EOFError):
        found: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        if found.shape == (len(lonlat), encoder.dimension) and found.dtype == encoder.dtype:
            return found
    return None


@dataclass(frozen=True)
class _Making:
    """The vectors of some places, as they are made."""

    encoder: LocationEncoder
    lonlat: NDArray[np.float64]
    workers: PlaceWorkers
    progress: bool | None

    def in_memory(self) -> Vectors:
        """Make them in an array."""
        vectors = np.empty(self._shape, dtype=self.encoder.dtype)
        self._fill(vectors)
        return vectors

    def in_file(self, path: Path) -> tuple[Vectors, bool]:
        """Make them in a file, or find them there; say whether some were there before."""
        found = _load(path, self.encoder, self.lonlat)
        if found is not None:
            return found, True
        try:
            draft = Draft(path, self._shape, self.encoder.dtype, slice_rows(self.encoder))
        except BlockingIOError:
            # Another process is at it. Waiting for it would be as long as doing it.
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, self._fill_file)
            return self._opened(path), False
        found = _load(path, self.encoder, self.lonlat)
        if found is not None:  # made between the two looks
            draft.close()
            return found, True
        resumed = draft.done > 0
        try:
            self._encode(draft.missing, draft.keep, draft.done)
            draft.finish()
        except BaseException as error:
            if draft.done:
                error.add_note(
                    f"{draft.done:,} of {len(self.lonlat):,} vectors of {self.encoder.name!r} are "
                    f"done and kept in {path.parent}. The same request goes on from there."
                )
            draft.close()
            raise
        return self._opened(path), resumed

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.lonlat), self.encoder.dimension

    def _fill_file(self, path: Path) -> None:
        vectors = np.lib.format.open_memmap(
            path, mode="w+", dtype=self.encoder.dtype, shape=self._shape
        )
        self._fill(vectors)
        vectors.flush()

    def _fill(self, vectors: Vectors) -> None:
        def keep(start: int, some: Vectors) -> None:
            vectors[start : start + len(some)] = some

        self._encode(range(0, len(self.lonlat), slice_rows(self.encoder)), keep, 0)

    def _encode(
        self, starts: Sequence[int], keep: Callable[[int, Vectors], object], done: int
    ) -> None:
        text = f"embedding with {self.encoder.name}"
        total = len(self.lonlat)
        with progress_bar(self.progress, text=text, unit="place", total=total, done=done) as bar:

            def finished(start: int, some: Vectors) -> None:
                keep(start, some)
                bar.update(len(some))

            rows = slice_rows(self.encoder)
            self.workers.encode(self.encoder, self.lonlat, starts, rows, finished)

    def _opened(self, path: Path) -> Vectors:
        made: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        return made


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file written under another name, and give it its own when it is whole.

    Parameters
    ----------
    path : Path
        The file; replaced if it exists.
    write : callable
        Given the path of the draft, in the same folder.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        write(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
