"""Views of whole batches, cut here or by worker processes, in order."""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing

import numpy as np

from geoembed.training.prefetching import prefetch
from geoembed.training.view_cutting import CutViews, Job, ViewCutter, split_job
from geoembed.training.view_workers import ViewWorkers, cut_here

__all__ = ["cut_batches"]


def cut_batches(
    cutter: ViewCutter, jobs: Iterator[Job], *, views: int, workers: int, ahead: int = 1
) -> Generator[CutViews, None, None]:
    """Cut the views of whole batches.

    Parameters
    ----------
    cutter : ViewCutter
        Does it.
    jobs : iterator of Job
        One a batch, of any size. With `workers` it is used in a thread, ahead of what is given.
    views : int
        Views of each picture (P), of all jobs.
    workers : int
        Processes; with 0 this one cuts a batch when it is asked for.
    ahead : int
        Batches that may wait, with `workers`; another is being put together.

    Yields
    ------
    CutViews
        One a batch, in order, with pixels of its own; the same for any number of workers.

    Raises
    ------
    TrainingError
        If a process was killed, or failed for a reason that lies not in a picture.

    Examples
    --------
    >>> from geoembed.extending import Preprocessing
    >>> from geoembed.training.bluemarble import BlueMarble
    >>> from geoembed.training.settings import ViewSettings
    >>> tower = Preprocessing(size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    >>> cutter = ViewCutter(BlueMarble(crops=12, crop_size=16), tower, ViewSettings(), seed=0)
    >>> job = Job(np.arange(12), np.zeros((12, 1), np.int64))
    >>> [cut.views.shape for cut in cut_batches(cutter, iter([job]), views=1, workers=0)]
    [(12, 1, 3, 8, 8)]
    """
    begun: deque[Job] = deque()

    def parts() -> Iterator[Job]:
        for job in jobs:
            begun.append(job)
            yield from split_job(job)

    if not workers:
        yield from _join(cutter, cut_here(cutter, parts()), begun)
        return
    pool = ViewWorkers(cutter, workers=workers, views=views)
    made = prefetch(_join(cutter, pool.cut(parts()), begun), ahead=ahead, cancel=pool.kill)
    # Closed at once, even where an error still holds this generator; the pool when nothing in the
    # thread waits for its pipes any longer.
    with closing(pool), closing(made):
        yield from made


def _join(cutter: ViewCutter, cut: Iterator[CutViews], begun: deque[Job]) -> Iterator[CutViews]:
    for part in cut:
        job = begun.popleft()
        pixels = np.empty(cutter.shape(*job.numbers.shape), np.float32)
        bad: dict[int, str] = {}
        at = 0
        while True:
            pixels[at : at + len(part.views)] = part.views
            bad |= {at + position: reason for position, reason in part.bad.items()}
            at += len(part.views)
            if at == len(job.rows):
                break
            part = next(cut)
        yield CutViews(job, pixels, bad)
