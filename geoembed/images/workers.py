"""Work on a stream in threads: in order, a bounded number ahead."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from geoembed.errors import OptionError
from geoembed.scalars import is_whole

__all__ = ["Ready", "check_workers", "map_ahead"]

T = TypeVar("T")

# More threads than this decode faster than one device can look at pictures.
_MOST: Final = 8


@dataclass(frozen=True)
class Ready(Generic[T]):
    """A job that was done when it was taken.

    Parameters
    ----------
    value : object
        What it gave.
    """

    value: T

    def result(self) -> T:
        """Return the value, as a future does."""
        return self.value


def check_workers(workers: int | None) -> int:
    """Return the number of threads to use.

    Parameters
    ----------
    workers : int or None
        None takes one for each core that this process may use, at most 8.

    Returns
    -------
    int
        0 or more.

    Raises
    ------
    OptionError
        If it is not a whole number of at least 0.

    Examples
    --------
    >>> check_workers(3)
    3
    """
    if workers is None:
        usable = getattr(os, "sched_getaffinity", None)
        return min(_MOST, len(usable(0)) if usable else os.cpu_count() or 1)
    if not is_whole(workers) or workers < 0:
        raise OptionError(
            f"workers={workers!r}: give the number of threads that decode pictures, or 0 to "
            "decode where they are asked for."
        )
    return workers


def map_ahead(
    jobs: Iterable[Callable[[], T] | Ready[T]], *, workers: int, ahead: int
) -> Iterator[T]:
    """Run jobs in threads and yield what they return, in order.

    Jobs are taken in the caller's thread, and only while something is asked for. If taking one
    raises, what was taken before is yielded first.

    Parameters
    ----------
    jobs : iterable of callables, or of Ready
        What is ready is yielded as soon as its turn comes.
    workers : int
        Number of threads; with 0 every job runs when its result is asked for.
    ahead : int
        How many jobs are taken beyond the one whose result is given.

    Yields
    ------
    object
        Results, in the order of the jobs.

    Examples
    --------
    >>> list(map_ahead([lambda: 1, Ready(2), lambda: 3], workers=2, ahead=4))
    [1, 2, 3]
    """
    if workers == 0:
        for job in jobs:
            yield job.value if isinstance(job, Ready) else job()
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="geoembed-pictures")
    waiting: deque[Future[T] | Ready[T]] = deque()
    failure: Exception | None = None
    source = iter(jobs)
    try:
        while failure is None:
            try:
                job = next(source)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            waiting.append(job if isinstance(job, Ready) else pool.submit(job))
            # Nothing is gained by holding back what is ready by its nature.
            while waiting and (len(waiting) > ahead or isinstance(waiting[0], Ready)):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
