"""The held-out pictures of a validation, read once where memory allows."""

from collections.abc import Callable
from functools import partial
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from geoembed.errors import PictureError, TrainingError
from geoembed.images import prepare
from geoembed.images.workers import map_ahead
from geoembed.training.batches import FeatureData, PictureData
from geoembed.training.distributed import Processes
from geoembed.training.model import GeolocationModel

__all__ = ["Queries"]

Rows = NDArray[np.int64]

_BLOCK: Final = 256
# Prepared pixels, or features, up to so many bytes are kept for the next validation.
_KEPT_BYTES: Final = 512 * 2**20
# A share of unreadable pictures is judged against at least so many, or against all that are held
# out if they are fewer, as in the feeds.
_JUDGED: Final = 1000
_SHOWN: Final = 3


class Queries:
    """Pictures that are looked up again and again.

    Parameters
    ----------
    data : PictureData or FeatureData
        Of the run.
    rows : ndarray of int64, shape (q,)
        Which of them.
    max_bad : float
        Share of pictures that may be unreadable.
    workers : int
        Threads that read pictures.
    held_out : int
        Pictures that `rows` are some of.
    """

    def __init__(
        self,
        data: PictureData | FeatureData,
        rows: Rows,
        max_bad: float,
        workers: int,
        held_out: int,
    ) -> None:
        self.data, self.rows, self.max_bad, self.workers = data, rows, max_bad, workers
        self._least = min(held_out, _JUDGED)
        self.bad: dict[int, str] = {}
        # A block's number -> what its pictures gave, and which of them could be read.
        self._kept: dict[int, tuple[Tensor, NDArray[np.bool_]]] = {}
        self._bytes = 0

    def encode(
        self, model: GeolocationModel, processes: Processes
    ) -> tuple[NDArray[np.bool_], Tensor]:
        """Return the unit vectors of the pictures that can be read.

        Parameters
        ----------
        model : GeolocationModel
            As it is now.
        processes : Processes
            Each encodes its share.

        Returns
        -------
        valid : ndarray of bool, shape (q,)
            Which could be read.
        vectors : Tensor of shape (valid.sum(), output)
            Of those, on the model's device.

        Raises
        ------
        TrainingError
            If more than the allowed share cannot be read, or more than half.
        """
        mine = self.rows[processes.share(len(self.rows))]
        vectors = [torch.empty(0, model.architecture.output, device=model.device)]
        valid = [np.empty(0, np.bool_)]
        for start in range(0, len(mine), _BLOCK):
            views, readable = self._views(model, mine[start : start + _BLOCK], start)
            count = views.shape[1]
            each = normalize(model.encode_views(views.flatten(0, 1)))
            vectors.append(normalize(each.view(len(views), count, -1).mean(dim=1)))
            valid.append(readable)
        whole = processes.gather(torch.from_numpy(np.concatenate(valid)), len(self.rows)).numpy()
        every = processes.gather(torch.cat(vectors), len(self.rows))
        self._judge(whole)
        return whole, every[torch.from_numpy(whole).to(every.device)]

    def _views(
        self, model: GeolocationModel, rows: Rows, start: int
    ) -> tuple[Tensor, NDArray[np.bool_]]:
        """Views (b, P, ...) of a block: features of a frozen tower where there is one."""
        if start in self._kept:
            return self._kept[start]
        if hasattr(self.data, "features"):
            views, valid = self._features(cast("FeatureData", self.data), rows)
        else:
            views, valid = self._pixels(self.data, rows, model)
        size = views.numel() * views.element_size()
        if self._bytes + size <= _KEPT_BYTES:
            self._kept[start] = views, valid
            self._bytes += size
        return views, valid

    def _features(self, data: FeatureData, rows: Rows) -> tuple[Tensor, NDArray[np.bool_]]:
        known: dict[int, str] = getattr(data, "bad", {})
        valid = data.valid[rows]
        for row in rows[~valid].tolist():
            self.bad[row] = known.get(row, "It has no features.")
        numbers = np.tile(np.arange(data.views), (len(rows), 1))
        return torch.from_numpy(data.features(rows, numbers)), valid

    def _pixels(
        self, data: PictureData, rows: Rows, model: GeolocationModel
    ) -> tuple[Tensor, NDArray[np.bool_]]:
        preprocessing = model.preprocessing
        size = preprocessing.size
        pixels = torch.zeros(len(rows), 3, size, size)
        valid = np.ones(len(rows), np.bool_)

        def read(row: int) -> Tensor | PictureError:
            try:
                return prepare(data.picture(row), preprocessing)
            except PictureError as error:
                return error

        jobs: list[Callable[[], Tensor | PictureError]] = [
            partial(read, row) for row in rows.tolist()
        ]
        for at, got in enumerate(map_ahead(jobs, workers=self.workers, ahead=2 * self.workers)):
            if isinstance(got, PictureError):
                valid[at] = False
                self.bad[int(rows[at])] = str(got)
            else:
                pixels[at] = got
        if model.backbone is not None and model.image_encoder.tower is None:
            # A frozen tower gives the same every time.
            return model.backbone.features(pixels)[:, None], valid
        return pixels[:, None], valid

    def _judge(self, valid: NDArray[np.bool_]) -> None:
        failed, count = int(np.count_nonzero(~valid)), len(valid)
        # Scores of the lesser half say little, whatever the setting allows.
        half = 2 * failed > count
        if not half and failed <= self.max_bad * max(count, self._least):
            return
        limit = "half of them" if half else f"data.max_bad = {self.max_bad:g} allows"
        shown = "; ".join(
            f"{self.data.names[row]}: {reason.rstrip('.')}"
            for row, reason in list(self.bad.items())[:_SHOWN]
        )
        raise TrainingError(
            f"{failed:,} of {count:,} held-out pictures cannot be looked up, more than {limit}: "
            f"{shown}. Mend them, take them out of the data"
            + ("." if half else ", or allow a larger share.")
        )
