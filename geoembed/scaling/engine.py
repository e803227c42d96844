"""Who does the parts: this process, or the workers of a dask cluster."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from geoembed.errors import WorkerError
from geoembed.optional import import_optional
from geoembed.partitions import check_workers, thread_memory

__all__ = ["PURPOSE", "Cluster", "Task", "do_here"]

PURPOSE: Final = "Working with dask"
_WORKERS_SECONDS: float = 60.0
_LOOK_SECONDS: Final = 2.0
# Of a batch: its vectors, their copy in Arrow, the copy that is written, what is read beside them.
_COPIES: Final = 6
# Tasks given out beyond those at work, so that no worker waits.
_AHEAD: Final = 2


@dataclass(frozen=True)
class Task:
    """Something for a worker to do.

    Parameters
    ----------
    key : str
        Tells it from all others of a cluster.
    told : str
        What it works on, in the words of errors.
    arguments : tuple
        Of the function that does it.
    """

    key: str
    told: str
    arguments: tuple[Any, ...]


def do_here(
    function: Callable[..., Any], tasks: Iterable[Task], done: Callable[[Any], object]
) -> None:
    """Do tasks in this process, one after the other."""
    for task in tasks:
        done(function(*task.arguments))


class Cluster:
    """The workers of a dask cluster.

    Parameters
    ----------
    client : distributed.Client
        Connected to it.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._distributed = import_optional("distributed", extra="dask", purpose=PURPOSE)
        self._address = str(client.scheduler.address)
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

    def do(
        self, function: Callable[..., Any], tasks: Iterable[Task], done: Callable[[Any], object]
    ) -> None:
        """Have the workers do tasks; one whose worker is lost is given to another.

        Parameters
        ----------
        function : callable
            Does a task, on a worker: takes its arguments.
        tasks : iterable of Task
            What to do; taken as workers become free.
        done : callable
            Told what came of every task, here, as they end.

        Raises
        ------
        WorkerError
            If workers are lost over a task again and again, all of them are lost and none comes
            back, or the scheduler is.
        """
        waiting = iter(tasks)
        futures: dict[Any, Task] = {}
        try:
            while True:
                self._give(function, waiting, futures)
                if not futures:
                    return
                for future in self._wait(futures):
                    done(self._result(future, futures[future]))
                    # What comes of it may be large: the worker is to let go of it.
                    del futures[future]
                    future.release()
        finally:
            # After a failure: what has not begun is not to begin.
            if futures and self._client.status == "running":
                with suppress(Exception):
                    self._client.cancel(list(futures))

    def _give(
        self, function: Callable[..., Any], waiting: Iterator[Task], futures: dict[Any, Task]
    ) -> None:
        room = _AHEAD + 2 * sum(self._asked(self._client.nthreads).values())
        while len(futures) < room:
            task = next(waiting, None)
            if task is None:
                return
            future = self._asked(
                self._client.submit, function, *task.arguments, key=task.key, pure=False
            )
            futures[future] = task

    def _wait(self, futures: dict[Any, Task]) -> list[Any]:
        """Wait for tasks to be done, for as long as there is somebody to do them."""
        patience = self._patience()
        while True:
            try:
                with self._client.as_current():
                    ended = self._asked(
                        self._distributed.wait,
                        list(futures),
                        timeout=_LOOK_SECONDS,
                        return_when="FIRST_COMPLETED",
                    )
                return list(ended.done)
            except TimeoutError:
                patience()

    def _result(self, future: Any, task: Task) -> Any:
        """Fetch what came of a task; where its worker is gone by now, wait for another's."""
        patience = self._patience()
        while True:
            # A failure of the task itself may be a TimeoutError too, and is there at once.
            seconds = None if future.status == "error" else _LOOK_SECONDS
            try:
                return future.result(timeout=seconds)
            except self._distributed.KilledWorker as error:
                raise WorkerError(
                    f"Workers were lost again and again over {task.told}. Most likely it takes "
                    "more memory than they have: give batch_rows= (--batch-rows), or workers with "
                    "more memory."
                ) from error
            except (
                self._distributed.client.FutureCancelledError,
                self._distributed.comm.CommClosedError,
            ) as error:
                raise self._gone(error) from error
            except TimeoutError:
                if seconds is None:
                    raise
                patience()

    def _patience(self) -> Callable[[], None]:
        """Make something to call now and then: it raises when all workers are gone for long."""
        lost: float | None = None

        def look() -> None:
            nonlocal lost
            if self._asked(self._client.nthreads):
                lost = None
                return
            now = time.monotonic()
            lost = now if lost is None else lost
            if now - lost > _WORKERS_SECONDS:
                raise WorkerError(
                    f"All workers of the scheduler at {self._address} are gone, and none has come "
                    f"back in {_WORKERS_SECONDS:g} s. Start some: dask worker {self._address}"
                )

        return look

    def _asked(self, ask: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Ask the scheduler something; raise WorkerError if it is there no more."""
        try:
            return ask(*arguments, **options)
        except TimeoutError:
            raise
        except Exception as error:
            raise self._gone(error) from error

    def _gone(self, error: Exception) -> WorkerError:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return WorkerError(
            f"The scheduler at {self._address} cannot be reached any more: {reason[0]}"
        )

    def _wait_for_workers(self) -> None:
        try:
            self._client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
        except TimeoutError as error:
            raise WorkerError(
                f"The scheduler at {self._address} has no workers. Start some: "
                f"dask worker {self._address}"
            ) from error
