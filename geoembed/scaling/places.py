"""Vectors of many places, slice by slice: in this process, or on the workers of a dask cluster."""

import hashlib
import pickle
import threading
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from geoembed import __version__
from geoembed.encoders.base import LocationEncoder
from geoembed.errors import GeoembedError, OptionError, WorkerError
from geoembed.partitions import limit_threads, worker_address
from geoembed.scaling.engine import Cluster, Task
from geoembed.scaling.joining import check_hands, connect

__all__ = ["PlaceWorkers", "slice_rows"]

Vectors = NDArray[np.floating[Any]]

# Vectors of a slice travel at once, so a cluster holds a few times this for each of its threads.
_SLICE_BYTES: Final = 16 << 20
_MOST_ROWS: Final = 65_536
_LOADING: Final = threading.Lock()


@dataclass(frozen=True)
class _Recipe:
    """What a worker needs to make an encoder, and to see that it is the same one."""

    pickled: bytes
    name: str
    weights_sha256: str
    step: int
    version: str = __version__


class PlaceWorkers:
    """Who turns places into vectors: this process, or workers, found when there is work.

    Parameters
    ----------
    scheduler : str or distributed.Client, optional
        Address of a dask scheduler whose workers are to do it.
    workers : int, optional
        Workers to start on this machine, each with one thread. Without either, or with 0, this
        process does it.

    Raises
    ------
    OptionError
        If `workers` is no number of workers, or both are given.

    Examples
    --------
    >>> import numpy as np, geoembed as ge
    >>> xyz, places = ge.load_encoder("xyz"), np.array([[0.0, 0.0], [90.0, 0.0]])
    >>> with PlaceWorkers() as hands:
    ...     hands.encode(xyz, places, [0], 2, lambda start, vectors: print(start, vectors.shape))
    0 (2, 3)
    """

    def __init__(self, scheduler: Any = None, workers: int | None = None) -> None:
        check_hands(scheduler, workers)
        self._scheduler = scheduler
        self._workers = None if workers is None else int(workers)
        self._cluster: Cluster | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Return itself; nothing is started yet."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let go of the workers."""
        self._cluster = None
        self._stack.close()

    def encode(
        self,
        encoder: LocationEncoder,
        lonlat: NDArray[np.float64],
        starts: Iterable[int],
        rows: int,
        done: Callable[[int, Vectors], object],
    ) -> None:
        """Encode slices of an array of places.

        Parameters
        ----------
        encoder : LocationEncoder
            What encodes. To workers it goes as its pickle.
        lonlat : array of shape (n, 2), float64
            Valid places, degrees, WGS 84, longitude in [-180, 180].
        starts : iterable of int
            First rows of the slices.
        rows : int
            Of a slice, from `slice_rows`.
        done : callable
            Given the first row and the vectors of every slice, as they are done.

        Raises
        ------
        WorkerError
            If no scheduler answers, its workers are not fit, or they are lost again and again.
        OptionError
            If the encoder cannot be pickled.
        """
        step = encoder.blocks_of()
        if self._scheduler is None and not self._workers:
            for start in starts:
                done(start, _in_blocks(encoder, lonlat[start : start + rows], step))
            return
        recipe = _Recipe(_pickled(encoder), encoder.name, encoder.weights_sha256, step)
        cluster = self._connected()
        cluster.batch_bytes(rows * encoder.dimension * np.dtype(encoder.dtype).itemsize)
        # What an earlier request has left on the scheduler is never taken for this one's.
        run = uuid.uuid4().hex[:12]

        def task(start: int) -> Task:
            part = np.ascontiguousarray(lonlat[start : start + rows])
            told = f"places {start:,} to {start + len(part) - 1:,} with {encoder.name!r}"
            return Task(f"encode-{run}-{start}", told, (recipe, start, part))

        cluster.do(_encode_slice, map(task, starts), lambda found: done(*found))

    def _connected(self) -> Cluster:
        if self._cluster is None:
            self._cluster = self._stack.enter_context(connect(self._scheduler, self._workers))
        return self._cluster


def slice_rows(encoder: LocationEncoder) -> int:
    """Return how many places go to a worker at once: whole blocks of the encoder.

    So vectors are those that one process computes, bit by bit.

    Parameters
    ----------
    encoder : LocationEncoder
        What encodes.

    Returns
    -------
    int
        A multiple of the encoder's block; about 16 MB of vectors.

    Examples
    --------
    >>> import geoembed as ge
    >>> slice_rows(ge.load_encoder("geoclip.v1", device="cpu"))
    8192
    """
    step = encoder.blocks_of()
    fitting = _SLICE_BYTES // (encoder.dimension * np.dtype(encoder.dtype).itemsize)
    return step * max(1, min(fitting, _MOST_ROWS) // step)


def _in_blocks(encoder: LocationEncoder, lonlat: NDArray[np.float64], step: int) -> Vectors:
    out = np.empty((len(lonlat), encoder.dimension), dtype=encoder.dtype)
    for start in range(0, len(lonlat), step):
        block = np.array(lonlat[start : start + step], order="C")
        out[start : start + step] = encoder.finish(encoder.values(block))
    return out


def _pickled(encoder: LocationEncoder) -> bytes:
    from distributed.protocol.pickle import dumps

    try:
        # Also what is defined in a script or a notebook, by value.
        made: bytes = dumps(encoder, protocol=pickle.HIGHEST_PROTOCOL)
    # Pickling runs code of the encoder's own, which may fail in any way.
    except Exception as error:
        raise OptionError(
            f"The encoder {encoder.name!r} cannot be sent to workers: {error}. Leave scheduler= "
            "and workers= out to compute its vectors here."
        ) from error
    return made


def _encode_slice(recipe: _Recipe, start: int, lonlat: NDArray[np.float64]) -> tuple[int, Vectors]:
    """Encode a slice, on a worker."""
    where = f"the worker at {worker_address()}" if worker_address() else "this machine"
    if recipe.version != __version__:
        raise WorkerError(
            f"The work was started with geoembed {recipe.version}, and {where} has {__version__}. "
            f"Install geoembed {recipe.version} there, and start the worker again."
        )
    try:
        with _LOADING:
            encoder = _loaded(hashlib.sha256(recipe.pickled).digest(), recipe.pickled)
    except GeoembedError as error:
        error.add_note(f"Loading the encoder {recipe.name!r} on {where}.")
        raise
    except (AttributeError, ImportError) as error:
        raise WorkerError(
            f"The encoder {recipe.name!r} cannot be made on {where}: {error}. Install there what "
            "it comes from."
        ) from error
    # After the encoder, which has imported torch by now if it needs it.
    limit_threads()
    if encoder.weights_sha256 != recipe.weights_sha256:
        raise WorkerError(
            f"The encoder {recipe.name!r} has other weights on {where} (SHA-256 "
            f"{encoder.weights_sha256[:12]}...) than where the work was started "
            f"({recipe.weights_sha256[:12]}...). Put the same file on all workers."
        )
    return start, _in_blocks(encoder, lonlat, recipe.step)


@lru_cache(maxsize=2)
def _loaded(digest: bytes, pickled: bytes) -> LocationEncoder:
    """Make an encoder of its pickle, once a worker."""
    from distributed.protocol.pickle import loads

    encoder: LocationEncoder = loads(pickled)
    return encoder
