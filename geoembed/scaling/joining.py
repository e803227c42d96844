"""Find the workers of a dask cluster: those that a scheduler has, or processes of our own."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final

from geoembed.errors import OptionError, WorkerError
from geoembed.optional import import_optional
from geoembed.scalars import is_whole
from geoembed.scaling.engine import PURPOSE, Cluster
from geoembed.scaling.processes import own_processes

__all__ = ["check_hands", "connect", "usual_workers"]

# A scheduler that is there answers at once, unless it is busy.
_ANSWER_SECONDS: float = 10.0
# One that is just being started refuses connections for a moment.
_REFUSED_SECONDS: float = 2.0
_START: Final = (
    "Start one with 'dask scheduler', and workers with 'dask worker ADDRESS'; or leave the address "
    "out to use this machine."
)
_LOGGERS: Final = ("distributed.client", "distributed.core", "distributed.comm.core")


def _is_news(record: logging.LogRecord) -> bool:
    """Tell what asyncio logs from requests of dask's that were given up, which say nothing."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__module__ != "distributed.client"


@contextmanager
def connect(scheduler: Any, workers: int | None) -> Iterator[Cluster]:
    """Connect to a scheduler, or start one and workers in processes of their own.

    Parameters
    ----------
    scheduler : str, distributed.Client or None
        Address, such as ``"tcp://10.0.0.5:8786"``; a client is used and left open.
    workers : int or None
        How many to start without a scheduler; None starts one a core. Each has one thread and an
        equal share of the memory.

    Yields
    ------
    Cluster

    Raises
    ------
    WorkerError
        If nothing answers at that address, there are no workers, or they are not fit.
    OptionError
        If both are given, or the address is none.
    """
    distributed = import_optional("distributed", extra="dask", purpose=PURPOSE)
    check_hands(scheduler, workers)
    with _quiet():
        if isinstance(scheduler, distributed.Client):
            yield Cluster(scheduler)
        elif scheduler is not None:
            if isinstance(scheduler, str):
                _look_for(distributed, scheduler)
            with _client(distributed, scheduler) as client:
                yield Cluster(client)
        else:
            with _local(distributed, workers) as where, _client(distributed, where) as client:
                yield Cluster(client)


def check_hands(scheduler: Any, workers: object) -> None:
    """Refuse what says of no workers who they are.

    Parameters
    ----------
    scheduler : str, distributed.Client or None
        Whose workers are meant.
    workers : int or None
        How many are to be started; 0 for none.

    Raises
    ------
    OptionError
        If `workers` is no number of workers, or both are given.

    Examples
    --------
    >>> check_hands("tcp://10.0.0.5:8786", 0)
    Traceback (most recent call last):
    ...
    geoembed.errors.OptionError: Give scheduler=, whose workers are used, or workers=, not both.
    """
    if workers is not None and (not is_whole(workers) or workers < 0):
        raise OptionError(f"workers={workers!r} is not a number of workers.")
    if scheduler is not None and workers is not None:
        raise OptionError("Give scheduler=, whose workers are used, or workers=, not both.")


def usual_workers() -> int:
    """Return how many workers are started where nobody says: one for each core we may use."""
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep dask from printing tracebacks of what our own errors say in a sentence."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    # For good: such requests are found when memory is cleaned up, at any time later.
    logging.getLogger("asyncio").addFilter(_is_news)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _look_for(distributed: Any, where: str) -> None:
    """See that a scheduler answers, before a client is made, which is slow to give up."""
    comm = distributed.comm
    try:
        address = comm.normalize_address(where)
        scheme, _ = comm.parse_address(address)
        if scheme == "inproc":
            return
        host, port = comm.get_address_host_port(address)
    except ValueError as error:
        raise OptionError(
            f"scheduler={where!r} is no address of a scheduler: {error}. Addresses look like "
            "tcp://10.0.0.5:8786."
        ) from error
    _knock(where, host, port)
    security = distributed.Security()

    async def greet() -> None:
        arguments = security.get_connection_args("client")
        reached = await comm.connect(address, timeout=_ANSWER_SECONDS, **arguments)
        await reached.close()

    async def greet_soon() -> None:
        await asyncio.wait_for(greet(), _ANSWER_SECONDS)

    try:
        # On a thread of its own: the caller may be inside an event loop, as notebooks are.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, greet_soon()).result()
    except TimeoutError as error:
        raise WorkerError(
            f"What listens at {where} has not answered in {_ANSWER_SECONDS:g} s: it is too busy, "
            f"or no scheduler of dask. {_START}"
        ) from error
    # What others answer is read as if it were dask's, and fails in any way.
    except Exception as error:
        raise WorkerError(
            f"What answers at {where} is no scheduler of dask, or one of another version "
            f"({type(error).__name__}: {str(error) or 'no reason given'}). {_START}"
        ) from error


def _knock(where: str, host: str, port: int) -> None:
    """See that somebody listens there; raise WorkerError soon if nobody does."""
    end = time.monotonic() + _REFUSED_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=_ANSWER_SECONDS).close()
            return
        except OSError as error:
            # Names that are not known will not be known in a second.
            if isinstance(error, ConnectionRefusedError) and time.monotonic() < end:
                time.sleep(0.1)
                continue
            reason = error.strerror or str(error)
            raise WorkerError(f"No scheduler answers at {where}: {reason}. {_START}") from error


def _client(distributed: Any, where: Any) -> Any:
    try:
        return distributed.Client(where, timeout=_ANSWER_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise WorkerError(f"No scheduler answers at {where}: {error}. {_START}") from error


@contextmanager
def _local(distributed: Any, workers: int | None) -> Iterator[Any]:
    """Start workers here; give what clients connect to."""
    count = usual_workers() if workers is None else workers
    memory = distributed.system.MEMORY_LIMIT // count
    if os.name != "nt":
        with own_processes(count, memory) as address:
            yield address
        return
    with distributed.LocalCluster(
        n_workers=count, threads_per_worker=1, memory_limit=memory, dashboard_address=None
    ) as cluster:
        yield cluster
