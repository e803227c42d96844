"""Frames of dask: told from others, mapped partition by partition, on workers that fit."""

import importlib
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from geoembed import __version__
from geoembed.errors import TableError, WorkerError

__all__ = [
    "Outline",
    "check_workers",
    "is_lazy",
    "limit_threads",
    "map_frames",
    "thread_memory",
    "worker_address",
]

# What is asked of a worker, in words that need nothing of ours there. Nothing is raised, so that
# no worker writes a traceback into its log.
_ASK_VERSION: Final = (
    "(lambda found: found.find_spec('geoembed') and __import__('geoembed').__version__)"
    "(__import__('importlib.util', fromlist=['find_spec']))"
)
# Dask has a worker pause at 80 % of its limit, and that counts what a process takes before it has
# seen a row: 0.95 GB for torch, pyarrow, geopandas and the weights.
_USABLE: Final = 0.75
_BASE_BYTES: Final = 1_000_000_000
# Vectors are made in one array and are copied once, when they become columns of a frame.
_COPIES: Final = 2


def is_lazy(data: Any) -> bool:
    """Tell frames of dask and dask-geopandas from all else, without importing either.

    Parameters
    ----------
    data : any
        What was given as a table.

    Returns
    -------
    bool
        Whether it is a DataFrame, GeoDataFrame, Series or GeoSeries of theirs.

    Examples
    --------
    >>> is_lazy([1, 2])
    False
    """
    return hasattr(data, "__dask_graph__") and hasattr(data, "map_partitions")


class Outline:
    """A frame without rows, as dask can name it: what is done to alike ones is done once.

    Dask names what it computes by what goes into it, and dask-geopandas gives every column of
    geometries a name of its own, one without rows too.

    Parameters
    ----------
    frame : DataFrame, GeoDataFrame, Series or GeoSeries
        Without rows.

    Examples
    --------
    >>> import pandas as pd
    >>> list(Outline(pd.DataFrame({"a": []})).frame.columns)
    ['a']
    """

    def __init__(self, frame: Any) -> None:
        from dask.dataframe.dispatch import make_meta_dispatch

        self.frame = frame
        # Again wherever one arrives: the scheduler, too, asks what the frame looks like.
        make_meta_dispatch.register(Outline, _unwrapped)

    def __reduce__(self) -> tuple[type["Outline"], tuple[Any]]:
        return Outline, (self.frame,)

    def __dask_tokenize__(self) -> Any:
        from dask.base import normalize_token

        table = self.frame.to_frame() if self.frame.ndim == 1 else self.frame
        active, crs = _geometry(table)
        return normalize_token(
            [
                type(self.frame),
                list(table.columns),
                list(table.dtypes),
                list(table.index.names),
                table.index.dtype,
                active,
                None if crs is None else crs.to_wkt(),
            ]
        )


def map_frames(
    frame: Any, function: Callable[[Any], Any], *, meta: Any, bytes_a_row: int, name: str
) -> Any:
    """Apply a function to every partition, lazily; keep what is known about the partitions.

    Parameters
    ----------
    frame : dask or dask-geopandas frame
        Places.
    function : callable
        Takes a partition and returns its rows, in order, with its index; some may be missing.
        It travels to the workers by its name.
    meta : DataFrame, GeoDataFrame or array
        What the function returns, without rows. Given, so that dask never tries the function on
        rows that it makes up: the lines it invents for geometries are no places.
    bytes_a_row : int
        What a row of the result takes in memory, for the check that a partition fits a worker.
    name : str
        What is done, for dask's own displays.

    Returns
    -------
    dask frame or array
        Of the kind of `meta`, with the divisions and the spatial partitions of `frame`.

    Raises
    ------
    WorkerError
        If there are workers already and geoembed is missing on one of them, or is another
        version.

    Examples
    --------
    >>> import dask.dataframe as dd, pandas as pd
    >>> table = dd.from_pandas(pd.DataFrame({"a": [1, 2]}), npartitions=2)
    >>> map_frames(table, pd.DataFrame.abs, meta=table._meta, bytes_a_row=8, name="abs").divisions
    (0, 1, 1)
    """
    client = _client()
    if client is not None:
        check_workers(client)
    # Whoever calls has loaded what computes: without torch here, the work needs none there.
    needs_torch = "torch" in sys.modules
    result = frame.map_partitions(
        _on_partition,
        function,
        Outline(frame._meta),
        bytes_a_row,
        __version__,
        needs_torch,
        meta=Outline(meta) if hasattr(meta, "dtypes") else meta,
        token=name,
    )
    if getattr(frame, "spatial_partitions", None) is not None and hasattr(meta, "crs"):
        result.spatial_partitions = frame.spatial_partitions
    return result


def check_workers(client: Any) -> None:
    """Refuse a cluster on which geoembed is missing somewhere, or is another version.

    Parameters
    ----------
    client : distributed.Client
        Connected.

    Raises
    ------
    WorkerError
        The message says which version is where.

    Examples
    --------
    >>> class Client:
    ...     def run(self, *_):
    ...         return {"tcp://10.0.0.5:1": "0.0.1"}
    ...     run_on_scheduler = lambda self, *_: None
    >>> check_workers(Client())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    geoembed.errors.WorkerError: All parts of a cluster need the same geoembed, ...
    """
    found: dict[str, str | None] = dict(client.run(eval, _ASK_VERSION))
    # The scheduler reads the graph, in which functions of ours are named.
    found["scheduler"] = client.run_on_scheduler(eval, _ASK_VERSION)
    wrong: dict[str | None, list[str]] = {}
    for address, version in found.items():
        if version != __version__:
            wrong.setdefault(version, []).append(address)
    if wrong:
        raise WorkerError(_differing(wrong))


def limit_threads() -> None:
    """Have torch use one thread for what the calling thread computes, on a thread of a pool.

    A worker of dask counts on one core a thread. Torch by itself uses all of them, and its own
    setting holds for the thread that makes it: so every task makes it. On the main thread, where
    dask's synchronous scheduler works, nothing is changed; nor where nobody has imported torch.

    Examples
    --------
    >>> limit_threads()
    """
    if threading.current_thread() is threading.main_thread():
        return
    if "torch" not in sys.modules:
        return
    # Another thread may be in the middle of importing it: this waits.
    torch = importlib.import_module("torch")
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def thread_memory(dask_worker: Any = None) -> int | None:
    """Return what the data of a thread of the worker that this runs on may take, in bytes.

    Parameters
    ----------
    dask_worker : distributed.Worker, optional
        What dask gives functions that are run beside the tasks; found by itself within one.

    Returns
    -------
    int or None
        Three quarters of the worker's limit, less the gigabyte that the libraries and the
        weights take, divided by its threads. None outside of workers and where there is no limit.

    Examples
    --------
    >>> thread_memory() is None
    True
    """
    worker = dask_worker or _worker()
    limit = None if worker is None else worker.memory_manager.memory_limit
    if worker is None or limit is None:
        return None
    return max(0, int(_USABLE * limit - _BASE_BYTES)) // int(worker.state.nthreads)


def worker_address() -> str | None:
    """Return the address of the worker that this runs on; None outside of workers.

    Examples
    --------
    >>> worker_address() is None
    True
    """
    worker = _worker()
    return None if worker is None else str(worker.address)


def _unwrapped(outline: Outline, index: Any = None) -> Any:
    return outline.frame


def _on_partition(
    part: Any,
    function: Callable[[Any], Any],
    like: Outline,
    bytes_a_row: int,
    version: str,
    needs_torch: bool,
) -> Any:
    if version != __version__:
        # A worker that came after the check.
        raise WorkerError(_differing({__version__: [worker_address() or "here"]}, version))
    _check_alike(part, like.frame)
    if needs_torch:
        importlib.import_module("torch")
    limit_threads()
    memory = thread_memory()
    needed = _COPIES * bytes_a_row * len(part)
    if memory is not None and needed > memory:
        raise WorkerError(
            f"A partition of {len(part):,} rows takes {needed / 1e9:,.1f} GB with its vectors, and "
            f"the worker at {worker_address()} has {memory / 1e9:,.1f} GB a thread for data. Give "
            "workers more memory, or make smaller partitions: frame.repartition(npartitions=...)."
        )
    return function(part)


def _check_alike(part: Any, like: Any) -> None:
    """Refuse a partition that is not what its frame says that all are."""
    columns, expected = (list(getattr(frame, "columns", ())) for frame in (part, like))
    if columns != expected:
        raise TableError(
            f"A partition has the columns {', '.join(map(repr, columns[:10]))}, and its frame says "
            f"{', '.join(map(repr, expected[:10]))}. Bring all partitions to the same columns."
        )
    (active, here), (expected_active, there) = (_geometry(frame) for frame in (part, like))
    if active != expected_active:
        raise TableError(
            f"A partition has {_active(active)}, and its frame says {_active(expected_active)}. "
            "Bring all partitions to one first, with set_geometry()."
        )
    if here != there:
        raise TableError(
            f"A partition is in {_named(here)}, and its frame says {_named(there)}. Bring all "
            "partitions to one CRS first, with to_crs()."
        )


def _geometry(frame: Any) -> tuple[Any, Any]:
    """The name of the active geometry and its CRS; None where there is none."""
    # Columns of a plain frame may be named "crs": only geopandas is asked. It is loaded by now.
    from geopandas import GeoDataFrame, GeoSeries

    if isinstance(frame, GeoSeries):
        return None, frame.crs
    if not isinstance(frame, GeoDataFrame) or frame.active_geometry_name not in frame.columns:
        return None, None
    return frame.active_geometry_name, frame.crs


def _active(name: Any) -> str:
    return "no active geometry" if name is None else f"the active geometry {name!r}"


def _named(crs: Any) -> str:
    return "no CRS" if crs is None else str(crs.to_string())


def _differing(wrong: dict[str | None, list[str]], asked: str = __version__) -> str:
    parts = []
    for version, addresses in wrong.items():
        shown = ", ".join(addresses[:5]) + (
            f" and {len(addresses) - 5:,} more" if len(addresses) > 5 else ""
        )
        parts.append(f"{'none' if version is None else version} at {shown}")
    return (
        f"All parts of a cluster need the same geoembed, {asked} as here; there is "
        f"{'; '.join(parts)}. Install geoembed {asked} there, and start those workers again."
    )


def _client() -> Any:
    """The client of a cluster that dask would compute on, if there is one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        client = default_client()
    except ValueError:
        return None
    # One inside an event loop cannot be waited for.
    return None if client.asynchronous else client


def _worker() -> Any:
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None
