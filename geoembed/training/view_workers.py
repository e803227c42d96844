"""Processes that read pictures and cut views out of them, in order, without copies in pipes."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any, Final

import numpy as np
import torch

from geoembed.errors import GeoembedError, OptionError, TrainingError
from geoembed.training.amounts import size_text
from geoembed.training.view_cutting import CutViews, Job, Pixels, ViewCutter, job_rows

__all__ = ["ViewWorkers", "cut_here"]

# Jobs that are handed out for each process: the one in its hands, and a few so that a picture
# that takes long does not hold up the others.
_JOBS: Final = 4
# Before those of multiprocessing itself, which would wait for the processes to end.
_EXIT_PRIORITY: Final = 10
_SECONDS_TO_END: Final = 5.0
_SHOWN: Final = 16


@dataclass(eq=False)
class _Ticket:
    job: Job
    slot: int
    worker: int
    bad: dict[int, str] | None = None


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: "Connection[Any, Any]"
    tickets: deque[_Ticket] = field(default_factory=deque)


def cut_here(cutter: ViewCutter, jobs: Iterator[Job]) -> Iterator[CutViews]:
    """Cut the views of jobs in this process.

    Parameters
    ----------
    cutter : ViewCutter
        Does it.
    jobs : iterator of Job
        What is to be done.

    Yields
    ------
    CutViews
        One a job, in order.

    Examples
    --------
    `geoembed.training.view_batches.cut_batches` shows it.
    """
    for job in jobs:
        out: Pixels = np.empty(cutter.shape(*job.numbers.shape), np.float32)
        yield CutViews(job, out, cutter.cut(job, out))


class ViewWorkers:
    """Processes that cut views.

    Pixels pass through memory that all of them share, texts through one pipe a process: a process
    that is killed holds no lock that others wait for. They ignore Ctrl-C and SIGTERM, which reach
    whole groups of processes, so that a run can end its step; they end with the process that
    started them.

    Parameters
    ----------
    cutter : ViewCutter
        Goes to every process, so its data must allow to be pickled.
    workers : int
        How many processes, at least 1.
    views : int
        Views of a picture (P).

    Raises
    ------
    OptionError
        If `workers` is below 1.
    TrainingError
        If the processes cannot be started.

    Examples
    --------
    `geoembed.training.view_batches.cut_batches` shows them.
    """

    def __init__(self, cutter: ViewCutter, *, workers: int, views: int) -> None:
        if workers < 1:
            raise OptionError(f"workers={workers!r}: give at least 1.")
        context = _context(cutter)
        shape = (workers * _JOBS, *cutter.shape(job_rows(views), views))
        memory = _shared(context, shape)
        self._slots: Pixels = np.frombuffer(memory, np.float32).reshape(shape)
        self._free = list(range(len(self._slots)))
        self._workers: list[_Worker] = []
        self.close = Finalize(self, _end, (self._workers,), exitpriority=_EXIT_PRIORITY)
        try:
            for _ in range(workers):
                self._workers.append(_start(context, cutter, memory, shape))
        except BaseException:
            self.close()
            raise

    def kill(self) -> None:
        """End the processes; what waits for them, in whatever thread, sees it."""
        for worker in self._workers:
            worker.process.kill()

    def cut(self, jobs: Iterator[Job]) -> Iterator[CutViews]:
        """Cut the views of jobs.

        Parameters
        ----------
        jobs : iterator of Job
            Taken as far ahead as there is room. Each has at most `job_rows` pictures.

        Yields
        ------
        CutViews
            One a job, in order.

        Raises
        ------
        TrainingError
            If a process ended, or failed for a reason that lies not in a picture.
        """
        waiting: deque[_Ticket] = deque()
        while True:
            while self._free and (job := next(jobs, None)) is not None:
                waiting.append(self._hand_out(job))
            if not waiting:
                return
            ticket = waiting[0]
            while ticket.bad is None:
                self._receive()
            waiting.popleft()
            yield CutViews(ticket.job, self._slots[ticket.slot, : len(ticket.job.rows)], ticket.bad)
            self._free.append(ticket.slot)

    def _hand_out(self, job: Job) -> _Ticket:
        at = min(range(len(self._workers)), key=lambda at: len(self._workers[at].tickets))
        worker = self._workers[at]
        ticket = _Ticket(job, self._free.pop(), at)
        try:
            worker.pipe.send((ticket.slot, job))
        except OSError as error:
            raise _ended(worker) from error
        worker.tickets.append(ticket)
        return ticket

    def _receive(self) -> None:
        """Wait for a process that says something, or has ended."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        for ready in wait(list(by_pipe)):
            worker = by_pipe[ready]  # type: ignore[index]
            try:
                answer = worker.pipe.recv()
            except (EOFError, OSError) as error:
                raise _ended(worker) from error
            if isinstance(answer, BaseException):
                raise answer
            worker.tickets.popleft().bad = answer


def _context(cutter: ViewCutter) -> BaseContext:
    """Choose how processes start: forking this one would copy threads' locks, and CUDA's state."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # The server imports once what all need; its processes then start in milliseconds.
    context.set_forkserver_preload([__name__, type(cutter.data).__module__])
    return context


def _shared(context: BaseContext, shape: tuple[int, ...]) -> Any:
    """Get memory that all processes share; it lies in a file of a file system in memory."""
    count = int(np.prod(shape))
    try:
        return context.RawArray("f", count)
    except OSError as error:
        raise TrainingError(
            f"Processes that read pictures share {size_text(4 * count)} of memory, which cannot "
            f"be had: {error.strerror or error}. Make room in /dev/shm or the folder of temporary "
            "files, or take fewer processes with loop.workers, or 0."
        ) from error


def _start(
    context: BaseContext, cutter: ViewCutter, memory: Any, shape: tuple[int, ...]
) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(  # type: ignore[attr-defined]
        target=_serve, args=(theirs, cutter, memory, shape), name="geoembed-views", daemon=True
    )
    try:
        process.start()
    except Exception as error:
        ours.close()
        raise TrainingError(
            f"A process that reads pictures cannot be started: {error}. Take fewer with "
            "loop.workers, or 0."
        ) from error
    finally:
        theirs.close()
    return _Worker(process, ours)


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.join()
        worker.process.close()
        worker.pipe.close()
    workers.clear()


def _ended(worker: _Worker) -> TrainingError:
    worker.process.join(timeout=_SECONDS_TO_END)
    code = worker.process.exitcode or 0
    rows = [row for ticket in worker.tickets for row in ticket.job.rows.tolist()]
    held = f" with rows {', '.join(map(str, rows[:_SHOWN]))} in hand" if rows else ""
    if code < 0:
        return TrainingError(
            f"A process that reads pictures was killed by signal {-code}{held}. Systems kill "
            "processes when memory is short: take fewer of them with loop.workers."
        )
    return TrainingError(
        f"A process that reads pictures ended with code {code}{held}; what it wrote to stderr "
        "says why. A program that starts a run has to do so under if __name__ == '__main__'."
    )


def _serve(
    pipe: "Connection[Any, Any]", cutter: ViewCutter, memory: Any, shape: tuple[int, ...]
) -> None:
    """Cut views until the other end of the pipe is closed."""
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    # One core each; threads of all processes would get in each other's way.
    torch.set_num_threads(1)
    slots = np.frombuffer(memory, np.float32).reshape(shape)
    while True:
        try:
            slot, job = pipe.recv()
        except (EOFError, OSError):
            return
        answer: Any
        try:
            answer = cutter.cut(job, slots[slot, : len(job.rows)])
        except Exception as error:
            answer = _told(error, job)
        try:
            pipe.send(answer)
        except OSError:
            return


def _told(error: Exception, job: Job) -> Exception:
    rows = ", ".join(map(str, job.rows.tolist()))
    if isinstance(error, GeoembedError):
        return error
    return TrainingError(f"Reading rows {rows} failed: {type(error).__name__}: {error}")
