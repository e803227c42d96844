"""Rows of picture data become views, or a reason why there are none."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import PictureError
from geoembed.extending.image_specs import Preprocessing
from geoembed.training.batches import PictureData
from geoembed.training.settings import ViewSettings
from geoembed.training.views import make_views_of

__all__ = ["CutViews", "Job", "ViewCutter", "job_rows", "split_job"]

Rows = NDArray[np.int64]
Pixels = NDArray[np.float32]

# Pictures are handed out in jobs of about so many views: few enough that the processes end
# together, enough that handing them out costs nothing.
_VIEWS_OF_JOB: Final = 8


@dataclass(frozen=True, eq=False)
class Job:
    """Pictures to cut views out of.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the data.
    numbers : ndarray of int64, shape (n, P)
        Numbers of the views, as `geoembed.training.views.view_numbers` gives them.
    """

    rows: Rows
    numbers: Rows


@dataclass(frozen=True, eq=False)
class CutViews:
    """Views of the pictures of a job.

    Parameters
    ----------
    job : Job
        Which.
    views : ndarray of float32, shape (n, P, 3, size, size)
        Normalised pixels; zeros where a picture could not be read. What worker processes cut
        is overwritten after the next job's views are asked for.
    bad : mapping of int to str
        Why, by position in the job.
    """

    job: Job
    views: Pixels
    bad: dict[int, str]


@dataclass(frozen=True, eq=False)
class ViewCutter:
    """Reads pictures and cuts views out of them; it can be sent to another process.

    Parameters
    ----------
    data : PictureData
        The pictures.
    preprocessing : Preprocessing
        Of the tower.
    settings : ViewSettings
        How views are drawn.
    seed : int
        Of the views.
    """

    data: PictureData
    preprocessing: Preprocessing
    settings: ViewSettings
    seed: int

    def shape(self, rows: int, views: int) -> tuple[int, ...]:
        """Return the shape of the views of so many pictures.

        Parameters
        ----------
        rows : int
            Pictures.
        views : int
            Views of each.

        Returns
        -------
        tuple of int
            (rows, views, 3, size, size).
        """
        return rows, views, 3, self.preprocessing.size, self.preprocessing.size

    def cut(self, job: Job, out: Pixels) -> dict[int, str]:
        """Fill an array with the views of a job.

        Parameters
        ----------
        job : Job
            Which.
        out : ndarray of float32, shape (n, P, 3, size, size)
            All of it is written.

        Returns
        -------
        dict of int to str
            Why pictures could not be read, by position.
        """
        bad: dict[int, str] = {}
        for at, (row, numbers) in enumerate(zip(job.rows.tolist(), job.numbers, strict=True)):
            try:
                out[at] = make_views_of(
                    self.data.picture(row),
                    self.preprocessing,
                    self.settings,
                    seed=self.seed,
                    row=row,
                    numbers=numbers,
                ).numpy()
            except PictureError as error:
                bad[at] = str(error)
                out[at] = 0.0
        return bad


def split_job(job: Job) -> Iterator[Job]:
    """Cut a job into those that are handed out.

    Parameters
    ----------
    job : Job
        Of a batch.

    Yields
    ------
    Job
        Parts of about eight views, in order; at least one picture each.

    Examples
    --------
    >>> whole = Job(np.arange(5), np.zeros((5, 4), np.int64))
    >>> [len(part.rows) for part in split_job(whole)]
    [2, 2, 1]
    """
    size = job_rows(job.numbers.shape[1])
    # One even of an empty job, so that each batch has a part.
    for start in range(0, max(len(job.rows), 1), size):
        part = slice(start, start + size)
        yield Job(job.rows[part], job.numbers[part])


def job_rows(views: int) -> int:
    """Say how many pictures make a job that is handed out.

    Parameters
    ----------
    views : int
        Views of a picture.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> job_rows(1), job_rows(3), job_rows(10)
    (8, 2, 1)
    """
    return max(1, _VIEWS_OF_JOB // views)
