"""What passes between data, feeds and the training step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Batch", "FeatureData", "Feed", "PictureData", "TrainingData"]


@dataclass(frozen=True)
class Batch:
    """One process's part of a global batch.

    Parameters
    ----------
    ids : array of shape (b,), int64
        Rows of the data.
    lonlat : array of shape (b, 2), float64
        Degrees, WGS 84, as they stand in the data: noise comes later.
    views : Tensor of shape (b, P, 3, size, size) or (b, P, d)
        Prepared pixels, float32; or features of the frozen tower, float32.
    valid : array of shape (b,), bool
        False where the picture could not be read: its views are zeros, it is no query, and its
        place still is a negative.
    """

    ids: NDArray[np.int64]
    lonlat: NDArray[np.float64]
    views: Tensor
    valid: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


class TrainingData(Protocol):
    """Places of a data set, and what it is called by."""

    lonlat: NDArray[np.float64]
    """(n, 2), degrees, WGS 84."""
    names: Sequence[str]
    """What each row is called."""
    digest: str
    """SHA-256 of what the data are: names, places, and for shards and features their content."""

    def __len__(self) -> int: ...


class PictureData(TrainingData, Protocol):
    """Data whose pictures are read one at a time; it can be sent to a worker process."""

    def picture(self, row: int) -> "Image.Image":
        """Return one picture, upright and RGB; raises PictureError if it cannot be read."""
        ...


class FeatureData(TrainingData, Protocol):
    """Data whose features lie in memory-mapped files."""

    views: int
    """Views of a picture that there are (K)."""
    dimension: int
    """Length of a feature."""
    valid: NDArray[np.bool_]
    """(n,), False where there is no feature."""

    def features(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return features (b, P, dimension) for rows (b,) and views (b, P)."""
        ...


class Feed(Protocol):
    """Gives batches in the global order, from any step on."""

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield this process's part of the global batches of steps `start` to `stop` - 1."""
        ...
