"""Feeds of pictures and of cached features: batches in the global order, from any step on."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from geoembed.errors import OptionError, PictureError, TrainingError
from geoembed.extending.image_specs import Preprocessing
from geoembed.training.batches import Batch, FeatureData, PictureData
from geoembed.training.order import GlobalOrder, rank_part
from geoembed.training.settings import ViewSettings
from geoembed.training.views import check_views, make_views_of, view_numbers

__all__ = ["FeatureFeed", "ImageFeed"]

Rows = NDArray[np.int64]

# A share of unreadable pictures is judged after so many: one in the first batch proves nothing.
_JUDGED: Final = 1000
_SHOWN: Final = 3


class ImageFeed:
    """Batches of views, cut out of pictures as they are read."""

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
        self.order = order
        self.settings = settings
        self.preprocessing = preprocessing
        self.seed = seed
        self.workers = workers
        self.max_bad = max_bad
        self.bad: dict[int, str] = {}
        self._part = rank_part(order.batch_size, rank, world)
        self._seen = self._failed = 0

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield this process's part of the global batches of steps `start` to `stop` - 1."""
        for step in range(start, stop):
            rows, epochs = (each[self._part] for each in self.order.batch(step))
            numbers = view_numbers(self.settings, self.seed, rows, epochs)
            size = self.preprocessing.size
            views = torch.zeros(len(rows), self.settings.count, 3, size, size)
            valid = np.ones(len(rows), np.bool_)
            for at, row in enumerate(rows.tolist()):
                try:
                    views[at] = make_views_of(
                        self.data.picture(row),
                        self.preprocessing,
                        self.settings,
                        seed=self.seed,
                        row=row,
                        numbers=numbers[at],
                    )
                except PictureError as error:
                    valid[at] = False
                    self.bad[row] = str(error)
            self._judge(valid)
            yield Batch(rows, self.data.lonlat[rows], views, valid)

    def _judge(self, valid: NDArray[np.bool_]) -> None:
        self._seen += len(valid)
        self._failed += int((~valid).sum())
        judged = max(self._seen, min(len(self.order), _JUDGED))
        if self._failed > self.max_bad * judged:
            shown = "; ".join(
                f"{self.data.names[row]}: {reason}"
                for row, reason in list(self.bad.items())[:_SHOWN]
            )
            raise TrainingError(
                f"{self._failed:,} of {self._seen:,} pictures could not be read, more than "
                f"data.max_bad = {self.max_bad:g} allows. Such as {shown}"
            )


class FeatureFeed:
    """Batches of features that a frozen tower gave once."""

    def __init__(
        self,
        data: FeatureData,
        order: GlobalOrder,
        settings: ViewSettings,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if settings.pool > data.views:
            raise OptionError(
                f"views.pool = {settings.pool}, but the features are of {data.views} views."
            )
        settings = settings.model_copy(update={"pool": settings.pool or data.views})
        check_views(settings)
        self.data = data
        self.order = order
        self.settings = settings
        self.seed = seed
        self.bad: dict[int, str] = {}
        self._part = rank_part(order.batch_size, rank, world)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield this process's part of the global batches of steps `start` to `stop` - 1."""
        for step in range(start, stop):
            rows, epochs = (each[self._part] for each in self.order.batch(step))
            numbers = view_numbers(self.settings, self.seed, rows, epochs)
            views = torch.from_numpy(self.data.features(rows, numbers))
            yield Batch(rows, self.data.lonlat[rows], views, self.data.valid[rows])
