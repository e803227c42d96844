"""The feed of cached features: what a frozen tower gave once, picked view by view."""

from collections.abc import Iterator
from typing import Final

import torch

from geoembed.errors import OptionError
from geoembed.training.batches import Batch, FeatureData
from geoembed.training.order import GlobalOrder, rank_part
from geoembed.training.settings import ViewSettings
from geoembed.training.unreadable import UnreadableRows
from geoembed.training.views import check_views, view_numbers

__all__ = ["FeatureFeed"]

# Settings that say what a view shows, not which one is taken.
_NOT_SHOWN: Final = {"count", "pool"}


class FeatureFeed:
    """Batches of features of views that are fixed.

    Parameters
    ----------
    data : FeatureData
        Of K views a picture.
    order : GlobalOrder
        Which rows make up the batch of a step.
    settings : ViewSettings
        `count` views of the first `pool` are taken; a `pool` of 0 takes all K. Where the data
        know how their views were drawn, the other fields must say the same.
    seed : int
        Of the run; it decides which views are picked.
    rank, world : int
        Which of how many processes of a run this is; it gives this process's part of each batch.
    max_bad : float
        Share of the rows that may have no features.

    Attributes
    ----------
    bad : dict of int to str
        Why rows have no features, of the batches given so far.

    Raises
    ------
    OptionError
        If `pool` or `count` is above K, or the views were drawn in another way.

    Examples
    --------
    >>> import numpy as np
    >>> class Memory:
    ...     lonlat, names, digest = np.zeros((3, 2)), ["a", "b", "c"], ""
    ...     views, dimension, valid = 1, 4, np.ones(3, bool)
    ...
    ...     def features(self, rows, views):
    ...         return np.zeros((*views.shape, 4), np.float32) + rows[:, None, None]
    >>> order = GlobalOrder([0, 1, 2], batch=2, seed=0)
    >>> feed = FeatureFeed(Memory(), order, ViewSettings(), seed=0)
    >>> [tuple(batch.views.shape) for batch in feed.batches(0, 2)]
    [(2, 1, 4), (2, 1, 4)]
    """

    def __init__(
        self,
        data: FeatureData,
        order: GlobalOrder,
        settings: ViewSettings,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        max_bad: float = 0.01,
    ) -> None:
        if settings.pool > data.views:
            raise OptionError(
                f"views.pool = {settings.pool}, but the features are of {data.views} views of a "
                "picture. Lower it, set it to 0, or write features of more views."
            )
        _check_drawn(getattr(data, "view_settings", None), settings)
        self.data = data
        self.order = order
        self.settings = settings.model_copy(update={"pool": settings.pool or data.views})
        self.seed = seed
        check_views(self.settings)
        self._part = rank_part(order.batch_size, rank, world)
        self._unreadable = UnreadableRows(data, rows=len(order), max_bad=max_bad)

    @property
    def bad(self) -> dict[int, str]:
        """Why rows have no features, by row."""
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
            With features, float32. A row without them is not valid, and is put down in `bad`.

        Raises
        ------
        TrainingError
            If more rows than `max_bad` allows have no features.
        """
        known: dict[int, str] = getattr(self.data, "bad", {})
        for step in range(start, stop):
            rows, epochs = (each[self._part] for each in self.order.batch(step))
            numbers = view_numbers(self.settings, self.seed, rows, epochs)
            valid = self.data.valid[rows]
            failed = rows[~valid].tolist()
            reasons = {row: known.get(row, "It has no features.") for row in failed}
            self._unreadable.add(reasons, seen=len(rows))
            views = torch.from_numpy(self.data.features(rows, numbers))
            yield Batch(rows, self.data.lonlat[rows], views, valid)


def _check_drawn(drawn: ViewSettings | None, settings: ViewSettings) -> None:
    if drawn is None:
        return
    fields = ["augment"] if drawn.augment == settings.augment == "none" else settings.model_dump()
    differences = [
        f"views.{name} = {getattr(settings, name)!r}, features {getattr(drawn, name)!r}"
        for name in fields
        if name not in _NOT_SHOWN and getattr(settings, name) != getattr(drawn, name)
    ]
    if differences:
        raise OptionError(
            f"The views of the features were drawn in another way: {'; '.join(differences)}. Say "
            "the same, or write features anew with 'geoembed data features'."
        )
