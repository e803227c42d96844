"""Who does the parts: this process, workers of its own, or the workers of a dask cluster."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from geoembed.errors import OptionError, WorkerError
from geoembed.optional import import_optional
from geoembed.partitions import check_workers, thread_memory
from geoembed.scaling.part import Job, Part, PartDone, embed_part

__all__ = ["Cluster", "connect", "do_here"]

_PURPOSE: Final = "Working with dask"
# A scheduler that is there answers at once; one whose workers are starting takes a while.
_ANSWER_SECONDS: float = 10.0
_WORKERS_SECONDS: float = 60.0
_LOOK_SECONDS: Final = 2.0
# Of a batch: its vectors, their copy in Arrow, the copy that is written, what is read beside them.
_COPIES: Final = 6
# Parts given out beyond those at work, so that no worker waits.
_AHEAD: Final = 2


def do_here(parts: Sequence[Part], job: Job, done: Callable[[PartDone], object]) -> None:
    """Do the parts in this process, one after the other."""
    for part in parts:
        done(embed_part(part, job))


class Cluster:
    """The workers of a dask cluster.

    Parameters
    ----------
    client : distributed.Client
        Connected to it.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._distributed = import_optional("distributed", extra="dask", purpose=_PURPOSE)
        self._wait_for_workers()
        check_workers(client)

    def batch_bytes(self, least: int) -> int | None:
        """Return how large a batch of vectors may be for the smallest worker; None: no limits.

        Raises
        ------
        WorkerError
            If that is less than `least`.
        """
        rooms = self._client.run(thread_memory)
        known = [(int(room), address) for address, room in rooms.items() if room is not None]
        if not known:
            return None
        room, address = min(known)
        if room // _COPIES < least:
            raise WorkerError(
                f"The worker at {address} has {room / 1e9:.1f} GB a thread for data, and "
                f"{least * _COPIES / 1e9:.1f} GB are needed. Give workers more memory "
                "(--memory-limit: a gigabyte is taken by the libraries) or fewer threads."
            )
        return room // _COPIES

    def do(self, parts: Sequence[Part], job: Job, done: Callable[[PartDone], object]) -> None:
        """Have the workers do the parts; a part whose worker is lost is given to another.

        Raises
        ------
        WorkerError
            If workers are lost over a part again and again, all of them are lost and none comes
            back, or the scheduler is.
        """
        waiting = iter(parts)
        futures: dict[Any, Part] = {}
        try:
            while True:
                self._give(waiting, futures, job)
                if not futures:
                    return
                for future in self._wait(futures):
                    part = futures.pop(future)
                    done(self._result(future, part))
                    future.release()
        finally:
            # After a failure: what has not begun is not to begin.
            with suppress(Exception):
                self._client.cancel(list(futures))

    def _give(self, waiting: Iterator[Part], futures: dict[Any, Part], job: Job) -> None:
        room = _AHEAD + 2 * sum(self._client.nthreads().values())
        while len(futures) < room:
            part = next(waiting, None)
            if part is None:
                return
            future = self._client.submit(
                embed_part, part, job, key=f"embed-{job.id}-{part.name}", pure=False
            )
            futures[future] = part

    def _wait(self, futures: dict[Any, Part]) -> list[Any]:
        """Wait for parts to be done, for as long as there is somebody to do them."""
        lost = None
        while True:
            try:
                with self._client.as_current():
                    ended = self._distributed.wait(
                        list(futures), timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED"
                    )
                return list(ended.done)
            except TimeoutError:
                pass
            except Exception as error:
                raise self._gone(error) from error
            try:
                workers = len(self._client.nthreads())
            except Exception as error:
                raise self._gone(error) from error
            now = time.monotonic()
            lost = None if workers else lost or now
            if lost is not None and now - lost > _WORKERS_SECONDS:
                raise WorkerError("All workers of the cluster are gone, and none has come back.")

    def _result(self, future: Any, part: Part) -> PartDone:
        try:
            result: PartDone = future.result()
        except self._distributed.KilledWorker as error:
            raise WorkerError(
                f"Workers were lost again and again over {part.url}, row group {part.group}. Most "
                "likely it takes more memory than they have: give batch_rows= (--batch-rows), or "
                "workers with more memory."
            ) from error
        except self._distributed.client.FutureCancelledError as error:
            raise self._gone(error) from error
        return result

    def _gone(self, error: Exception) -> WorkerError:
        return WorkerError(f"The scheduler of the cluster cannot be reached any more: {error}.")

    def _wait_for_workers(self) -> None:
        try:
            self._client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
        except TimeoutError as error:
            raise WorkerError(
                f"The scheduler at {self._client.scheduler.address} has no workers. Start some: "
                f"dask worker {self._client.scheduler.address}"
            ) from error


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
        If both are given.
    """
    distributed = import_optional("distributed", extra="dask", purpose=_PURPOSE)
    if scheduler is not None and workers is not None:
        raise OptionError(
            "Give scheduler=, whose workers are used, or workers= to start, not both."
        )
    if isinstance(scheduler, distributed.Client):
        yield Cluster(scheduler)
    elif scheduler is not None:
        with _client(distributed, scheduler) as client:
            yield Cluster(client)
    else:
        with _local(distributed, workers) as cluster, _client(distributed, cluster) as client:
            yield Cluster(client)


def _client(distributed: Any, where: Any) -> Any:
    try:
        return distributed.Client(where, timeout=_ANSWER_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise WorkerError(
            f"No scheduler answers at {where}: {error}. Start one with 'dask scheduler', and "
            "workers with 'dask worker ADDRESS'; or leave the address out to use this machine."
        ) from error


def _local(distributed: Any, workers: int | None) -> Any:
    count = _cores() if workers is None else workers
    memory = distributed.system.MEMORY_LIMIT // count
    if os.name == "nt":
        return distributed.LocalCluster(
            n_workers=count, threads_per_worker=1, memory_limit=memory, dashboard_address=None
        )
    # Processes that are started afresh, not copies of this one: scripts need no guard around
    # what they do, and a worker that dies takes nothing with it.
    return distributed.SubprocessCluster(
        n_workers=count,
        threads_per_worker=1,
        dashboard_address=None,
        worker_kwargs={"memory_limit": memory},
        silence_logs=50,
    )


def _cores() -> int:
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
