"""Feeds of pictures and of cached features: batches in the global order, from any step on."""

from collections.abc import Iterator
from contextlib import closing
from copy import copy
from typing import Final

import numpy as np
import torch

from geoembed.extending.image_specs import Preprocessing
from geoembed.images.workers import check_workers
from geoembed.training.batches import Batch, PictureData
from geoembed.training.feature_feed import FeatureFeed
from geoembed.training.order import GlobalOrder, rank_part
from geoembed.training.settings import ViewSettings
from geoembed.training.unreadable import UnreadableRows
from geoembed.training.view_batches import cut_batches
from geoembed.training.view_cutting import Job, ViewCutter
from geoembed.training.views import check_views, view_numbers

__all__ = ["FeatureFeed", "ImageFeed"]

# Whole batches that wait for the step; another is being put together.
_AHEAD: Final = 1


class ImageFeed:
    """Batches of views that are cut out of pictures as they are read.

    Parameters
    ----------
    data : PictureData
        The pictures; with `workers` it has to allow to be pickled.
    order : GlobalOrder
        Which rows make up the batch of a step.
    settings : ViewSettings
        Views of a picture, and how they are drawn.
    preprocessing : Preprocessing
        Of the tower that looks at them.
    seed : int
        Of the run.
    rank, world : int
        Which of how many processes of a run this is; it gives this process's part of each batch.
    workers : int
        Processes that read and cut; with 0 this one does, when a batch is asked for. The batches
        are bit for bit the same for any number.
    max_bad : float
        Share of unreadable pictures at which it stops.

    Attributes
    ----------
    bad : dict of int to str
        Why pictures could not be read, by row, of the batches given so far.

    Raises
    ------
    OptionError
        If more views a batch are wanted than are in the pool, or `workers` is below 0.

    Examples
    --------
    >>> from geoembed.extending import Preprocessing
    >>> from geoembed.training.bluemarble import BlueMarble
    >>> world = BlueMarble(crops=6, crop_size=32, seed=0)
    >>> tower = Preprocessing(size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    >>> order = GlobalOrder(np.arange(6), batch=4, seed=0)
    >>> feed = ImageFeed(world, order, ViewSettings(count=2), tower, seed=0)
    >>> [tuple(batch.views.shape) for batch in feed.batches(0, 2)]
    [(4, 2, 3, 16, 16), (4, 2, 3, 16, 16)]
    """

    def __init__(
        self,
        data: PictureData,
        order: GlobalOrder,
        settings: ViewSettings,
        preprocessing: Preprocessing,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        max_bad: float = 0.01,
    ) -> None:
        check_views(settings)
        self.data = data
        # Workers' batches are made in a thread: it looks into an order of its own.
        self.order = copy(order)
        self.settings = settings
        self.seed = seed
        self.workers = check_workers(workers)
        self._cutter = ViewCutter(data, preprocessing, settings, seed)
        self._part = rank_part(order.batch_size, rank, world)
        self._unreadable = UnreadableRows(data, rows=len(order), max_bad=max_bad)

    @property
    def bad(self) -> dict[int, str]:
        """Why pictures could not be read, by row."""
        return self._unreadable.reasons

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield this process's part of the global batches of steps `start` to `stop` - 1.

        Parameters
        ----------
        start, stop : int
            Steps; the batch of a step does not depend on which others are asked for.

        Yields
        ------
        Batch
            With pixels, float32. A picture that cannot be read is not valid, and is put down in
            `bad`.

        Raises
        ------
        TrainingError
            If more pictures than `max_bad` allows cannot be read, or a process of `workers` was
            killed.
        """
        jobs = map(self._job, range(start, stop))
        made = cut_batches(
            self._cutter, jobs, views=self.settings.count, workers=self.workers, ahead=_AHEAD
        )
        # Closed at once, even where an error still holds this generator.
        with closing(made):
            for cut in made:
                rows = cut.job.rows
                reasons = {int(rows[position]): reason for position, reason in cut.bad.items()}
                self._unreadable.add(reasons, seen=len(rows))
                valid = np.ones(len(rows), np.bool_)
                valid[list(cut.bad)] = False
                yield Batch(rows, self.data.lonlat[rows], torch.from_numpy(cut.views), valid)

    def _job(self, step: int) -> Job:
        rows, epochs = (each[self._part] for each in self.order.batch(step))
        return Job(rows, view_numbers(self.settings, self.seed, rows, epochs))
