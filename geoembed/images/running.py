"""Pictures through an encoder as a stream: views in threads, batches, bad rows kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoembed.images.sources import MAX_PIXELS, Picture, find_inputs, map_pictures
from geoembed.images.views import make_views, view_count
from geoembed.progress import progress_bar
from geoembed.scalars import check_count

if TYPE_CHECKING:
    from geoembed.images.base import ImageEncoder

__all__ = ["ImageEmbeddings", "check_batch_size", "run_pictures"]


@dataclass(frozen=True, eq=False)
class ImageEmbeddings:
    """Vectors of pictures, one row a picture, in order.

    Parameters
    ----------
    names : list of str
        What each picture is called.
    vectors : array of shape (n, d), float32
        Means of normalised features over the views of a picture: norm 1 with one view, less with
        several. NaN where there is an error.
    errors : list of str
        Why a picture has no vector; empty where it has one.
    """

    names: list[str]
    vectors: NDArray[np.float32]
    errors: list[str]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def good(self) -> NDArray[np.bool_]:
        """Which rows have a vector, array of shape (n,)."""
        return np.array([not error for error in self.errors], dtype=bool)

    @classmethod
    def joined(cls, batches: Sequence["ImageEmbeddings"], dimension: int) -> Self:
        """Join batches in order.

        Parameters
        ----------
        batches : sequence of ImageEmbeddings
            May be empty.
        dimension : int
            Length of a vector, for when there is none.

        Returns
        -------
        ImageEmbeddings
            All their rows.
        """
        empty = np.empty((0, dimension), dtype=np.float32)
        return cls(
            names=[name for batch in batches for name in batch.names],
            vectors=np.concatenate([empty, *(batch.vectors for batch in batches)]),
            errors=[error for batch in batches for error in batch.errors],
        )


@dataclass(frozen=True, eq=False)
class _Prepared:
    name: str
    views: Tensor | None  # (v, 3, size, size)
    error: str


def run_pictures(
    encoder: "ImageEncoder",
    source: Any,
    *,
    tta: str = "none",
    batch_size: int | None = None,
    progress: bool | None = None,
    max_pixels: int | None = None,
    column: str | None = None,
    recursive: bool = False,
    workers: int | None = None,
) -> Iterator[ImageEmbeddings]:
    """Run pictures through an encoder, batch by batch.

    Parameters
    ----------
    encoder : ImageEncoder
        Whose `encode_pixels` and `preprocessing` are used.
    source : object
        What `geoembed.images.sources.read_pictures` reads.
    tta : str
        Which views are averaged.
    batch_size : int, optional
        Views at a time. Default: `batch_rows` of the encoder.
    progress : bool or None
        As in `geoembed.progress.progress_bar`.
    max_pixels, column, recursive, workers
        As for `read_pictures`.

    Returns
    -------
    iterator of ImageEmbeddings
        One a batch.

    Raises
    ------
    PictureError, OptionError
        At once, before the first picture is read.
    """
    rows = check_batch_size(batch_size, encoder.batch_rows)
    size = max(1, rows // view_count(tta))

    def prepare(picture: Picture) -> _Prepared:
        if picture.image is None:
            return _Prepared(picture.name, None, picture.error)
        try:
            prepared = make_views(picture.image, encoder.preprocessing, tta)
        # Whatever a resizer trips over is this picture's, and must not stop the others.
        except Exception as error:
            return _Prepared(picture.name, None, f"It cannot be prepared: {error}")
        return _Prepared(picture.name, prepared, "")

    inputs = find_inputs(source, column=column, recursive=recursive)
    stream = map_pictures(
        inputs,
        prepare,
        # One batch waits ready while the tower computes another.
        ahead=2 * size,
        max_pixels=MAX_PIXELS if max_pixels is None else max_pixels,
        workers=workers,
    )
    return _batches(encoder, stream, size, rows, inputs.total, progress)


def check_batch_size(batch_size: int | None, default: int) -> int:
    """Return the number of rows to compute at a time.

    Parameters
    ----------
    batch_size : int or None
        None takes the default.
    default : int
        What suits the device.

    Returns
    -------
    int
        1 or more.

    Raises
    ------
    OptionError
        If it is not a whole number of at least 1.

    Examples
    --------
    >>> check_batch_size(None, 8)
    8
    """
    if batch_size is None:
        return default
    return check_count("batch_size", batch_size)


def _batches(
    encoder: "ImageEncoder",
    stream: Iterator[_Prepared],
    size: int,
    rows: int,
    total: int | None,
    progress: bool | None,
) -> Iterator[ImageEmbeddings]:
    with progress_bar(progress, text="encoding", unit="picture", total=total) as bar:
        while batch := list(islice(stream, size)):
            yield _encode(encoder, batch, rows)
            bar.update(len(batch))


def _encode(encoder: "ImageEncoder", batch: list[_Prepared], rows: int) -> ImageEmbeddings:
    vectors = np.full((len(batch), encoder.dimension), np.nan, dtype=np.float32)
    errors = [prepared.error for prepared in batch]
    good = [(row, one.views) for row, one in enumerate(batch) if one.views is not None]
    if good:
        pixels = torch.cat([views for _, views in good])
        features = encoder.encode_pixels(pixels, batch_size=rows)
        ends = np.cumsum([len(views) for _, views in good])
        for (row, _), part in zip(good, np.split(features, ends[:-1]), strict=True):
            if np.isfinite(part).all():
                vectors[row] = _mean_direction(part)
            else:
                # float16 overflows for some networks.
                errors[row] = f"The encoder gave values that are not finite ({encoder.precision})."
    return ImageEmbeddings([prepared.name for prepared in batch], vectors, errors)


def _mean_direction(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean of normalised rows. It is not normalised again: that is the protocol."""
    exact = features.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    directions: NDArray[np.float64] = exact / np.where(norms == 0.0, 1.0, norms)
    mean: NDArray[np.float64] = directions.mean(axis=0)
    return mean
