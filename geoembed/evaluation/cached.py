"""Vectors of a table's places, computed once and looked up afterwards."""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoembed import __version__
from geoembed.coordinates import read_places
from geoembed.encoders.base import LocationEncoder
from geoembed.encoders.blocks import encode_blocks
from geoembed.errors import OptionError

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
        SHA-256 of the weights), the same places and the same version of geoembed.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.

    Attributes
    ----------
    encoder : LocationEncoder
        The wrapped one.
    path : Path or None
        File of the vectors; None where they are in memory.
    seconds : float
        Time that it took to compute them; NaN where the file was there.

    Raises
    ------
    OptionError
        If `encoder` is no LocationEncoder.
    CoordinateError
        If `places` cannot be read as places.

    Notes
    -----
    A vector is bit by bit the one that `geoembed.featurizer.encode_places` gives for all the
    places at once; in other blocks a matrix product may round its last bits differently. Two
    processes may make the same file: each writes its own and renames it when it is whole.
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
        start = time.perf_counter()
        if folder is None:
            vectors = np.empty((len(ordered), encoder.dimension), dtype=encoder.dtype)
            encode_blocks(encoder, ordered, vectors, progress=progress)
            self._vectors: Vectors = vectors
        else:
            self.path = Path(folder).expanduser() / f"{_digest(encoder, ordered)}.npy"
            found = _load(self.path, encoder, ordered)
            self._vectors = _make(self.path, encoder, ordered, progress) if found is None else found
            start = start if found is None else np.nan
        self.seconds = time.perf_counter() - start

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


def _make(
    path: Path, encoder: LocationEncoder, lonlat: NDArray[np.float64], progress: bool | None
) -> Vectors:
    shape = (len(lonlat), encoder.dimension)
    path.parent.mkdir(parents=True, exist_ok=True)

    def fill(draft: Path) -> None:
        vectors = np.lib.format.open_memmap(draft, mode="w+", dtype=encoder.dtype, shape=shape)
        encode_blocks(encoder, lonlat, vectors, progress=progress)
        vectors.flush()

    write_atomically(path, fill)
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
