"""Pictures or features in, as one container: what every system is given."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoembed.errors import OptionError, PictureError, TableError
from geoembed.images import ImageEmbeddings, ImageEncoder, Picture, load_image_encoder, make_views
from geoembed.images.arrays import is_tensor
from geoembed.images.running import check_batch_size
from geoembed.images.sources import Inputs, find_inputs, map_pictures
from geoembed.images.towers import Tower, tower_of
from geoembed.images.views import view_count
from geoembed.progress import progress_bar
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.pictures.tokens import features_and_tokens, needs_patches
from geoembed_systems.shared.pooling import check_crops

__all__ = ["read_picture_features"]

Floats = NDArray[np.float32]

_NOT_FINITE: Final = "its features are not finite"

# Rows of a result whose length is not known before.
_FIRST_ROWS: Final = 256


def read_picture_features(
    given: Any,
    *,
    image_encoder: str | Path | ImageEncoder,
    weights: str | Path | None = None,
    allow_download: bool = False,
    device: str = "auto",
    crops: str = "none",
    tokens: bool = False,
    instead: str = "",
    progress: bool | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
) -> PictureFeatures:
    """Read pictures as features of a frozen tower, or take features that are there already.

    Parameters
    ----------
    given : PictureFeatures, ImageEmbeddings, array, table or pictures
        `PictureFeatures` are returned as they are. Numbers are features, one row a picture: an
        array or tensor of shape (n, d) or (n, V, d) for V views of each picture, of floats or of
        integers that are no pixels; a table of nothing but numbers; a list of rows. Vectors of
        `geoembed.images.ImageEncoder.encode_images` are features too. Anything else is pictures,
        as `geoembed.images.read_pictures` takes them: so is an array of uint8 or uint16, and any
        array with four dimensions. One picture of floats, (h, w, 3), must stand in a list.
    image_encoder : str, Path or ImageEncoder
        Whose frozen tower turns pictures into features: a registered name, the folder of a trained
        model, or a loaded encoder. Loaded for pictures only.
    weights : str or Path, optional
        File or folder with the weights of its tower.
    allow_download : bool
        Whether those weights may be downloaded if they are not on this machine.
    device : str
        ``"auto"`` (CUDA, else MPS, else the CPU) or a device name; a loaded encoder stays where it
        is.
    crops : {"none", "five", "ten-crop"}
        Views of each picture, see `geoembed.images.views.make_views`; of pictures only. They lie
        on the axis V, and are not averaged.
    tokens : bool
        Whether patch tokens are needed too.
    instead : str
        A sentence for the error where they are needed and not there: what the caller does without.
    progress : bool, optional
        Show a progress bar; None shows one on a terminal when the work is long.
    batch_size : int, optional
        Views computed at a time. Default: what suits the device.
    workers : int, optional
        Threads that read and prepare pictures; with 0 none. Default: one for each core, at most 8.

    Returns
    -------
    PictureFeatures
        One row a picture, in order. A picture that cannot be read, or whose features are not
        finite, has NaN and an error text; the others have features of the tower as it gives them,
        not normalised, the head of the encoder not applied.

    Raises
    ------
    OptionError
        If tokens are needed and neither given nor given by the tower, or an option does not fit.
    PictureError
        If there is no picture at all.
    TableError
        If features have another shape than those above.
    MissingWeightsError, WeightsError, UnknownNameError
        As `geoembed.images.load_image_encoder`.

    Examples
    --------
    >>> features = read_picture_features(
    ...     np.array([[0.1, 0.2], [np.nan, 0.3]]), image_encoder="geoclip.v1"
    ... )
    >>> features.pooled.shape, features.errors
    ((2, 1, 2), ['', 'its features are not finite'])
    """
    check_crops(crops)
    features = _given_features(given)
    if features is None:
        tower = _tower(image_encoder, weights, allow_download, device)
        if tokens:
            needs_patches(tower, instead)
        rows = check_batch_size(batch_size, tower.rows)
        reader = _Reader(tower, crops, tokens, rows)
        return reader.read(find_inputs(given), workers=workers, progress=progress)
    if tokens and features.tokens is None:
        told = (
            "Patch tokens are needed, and these features have none. Give pictures, whose tokens "
            "are computed; or PictureFeatures(pooled, tokens=...), as "
            "read_picture_features(pictures, image_encoder=..., tokens=True) makes them. "
        )
        raise OptionError((told + instead).rstrip())
    return features


def _given_features(given: Any) -> PictureFeatures | None:
    """Return what is features already; None for pictures."""
    if isinstance(given, PictureFeatures):
        return given
    if isinstance(given, ImageEmbeddings):
        return PictureFeatures(given.vectors, errors=given.errors, names=given.names)
    names: list[str] = []
    if isinstance(given, pd.DataFrame):
        numbers = all(pd.api.types.is_numeric_dtype(kind) for kind in given.dtypes)
        if not numbers or not given.shape[1]:
            return None
        names = [str(label) for label in given.index]
        array = given.to_numpy(dtype=np.float64)
    elif is_tensor(given):
        if not given.is_floating_point():
            return None
        array = given.detach().to("cpu", torch.float32).numpy()
    elif isinstance(given, list | tuple) and len(given) and _is_row(given[0]):
        array = _rows(given)
    else:
        array = given
    if not isinstance(array, np.ndarray) or not _is_features(array):
        return None
    with np.errstate(over="ignore"):  # what is too large becomes an error of its row
        array = array.astype(np.float32)
    fine = np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    errors = ["" if good else _NOT_FINITE for good in np.atleast_1d(fine)]
    return PictureFeatures(array, errors=errors, names=names)


def _is_features(array: NDArray[Any]) -> bool:
    # Pixels are uint8 or uint16; a count or a quantised feature is not.
    pixels = array.dtype.kind == "u" and array.dtype.itemsize <= 2
    # One row of numbers is no picture: as features it is told what is missing.
    return array.dtype.kind in "fiu" and not pixels and array.ndim in (1, 2, 3)


def _is_row(item: Any) -> bool:
    if isinstance(item, np.ndarray):
        return item.ndim == 1 and item.dtype.kind in "fiu"
    plain = isinstance(item, list | tuple) and len(item) > 0
    return plain and all(isinstance(value, int | float) for value in item)


def _rows(given: Any) -> NDArray[np.float32]:
    try:
        return np.array([np.asarray(row, dtype=np.float32) for row in given], dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise TableError(
            f"Features as a list of rows cannot be read: {error}. Give rows of numbers, all of one "
            "length."
        ) from error


def _tower(
    image_encoder: Any, weights: str | Path | None, allow_download: bool, device: str
) -> Tower:
    # A loaded encoder is where it is: the device of a system is also that of its own network.
    where = None if isinstance(image_encoder, ImageEncoder) else device
    encoder = load_image_encoder(
        image_encoder, weights=weights, allow_download=allow_download, device=where
    )
    return tower_of(encoder)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """One picture, on its way through a tower."""

    name: str
    error: str
    views: Tensor | None = None  # (V, 3, size, size)


class _Reader:
    """Pictures through one tower."""

    def __init__(self, tower: Tower, crops: str, tokens: bool, rows: int) -> None:
        self._tower = tower
        self._crops = crops
        self._tokens = tokens
        self._rows = rows

    def read(
        self, inputs: Inputs, *, workers: int | None, progress: bool | None
    ) -> PictureFeatures:
        views = view_count(self._crops)
        size = max(1, self._rows // views)
        # One batch waits ready while the tower computes another.
        stream = map_pictures(inputs, self._prepare, ahead=2 * size, workers=workers)
        pooled = _Growing(inputs.total, (views, self._tower.dimension))
        tokens = _Growing(inputs.total, (views, *self._patches())) if self._tokens else None
        names: list[str] = []
        errors: list[str] = []
        with progress_bar(progress, text="encoding", unit="picture", total=inputs.total) as bar:
            while batch := list(islice(stream, size)):
                good = [at for at, one in enumerate(batch, len(names)) if one.views is not None]
                names += [one.name for one in batch]
                errors += [one.error for one in batch]
                if good:
                    parts = self._compute([one.views for one in batch if one.views is not None])
                    for row, features, patches in zip(good, *parts, strict=True):
                        pooled.set(row, features)
                        finite = np.isfinite(features).all()
                        if tokens is not None:
                            tokens.set(row, patches)
                            finite &= np.isfinite(patches).all()
                        # float16 overflows for some networks.
                        errors[row] = "" if finite else _NOT_FINITE
                bar.update(len(batch))
        if not names:
            raise PictureError("There is no picture: the list or stream that was given is empty.")
        return PictureFeatures(
            pooled.rows(len(names)),
            None if tokens is None else tokens.rows(len(names)),
            errors=errors,
            names=names,
        )

    def _prepare(self, picture: Picture) -> _Prepared:
        if picture.image is None:
            return _Prepared(picture.name, picture.error)
        try:
            views = make_views(picture.image, self._tower.preprocessing, self._crops)
        # Whatever a resizer trips over is this picture's, and must not stop the others.
        except Exception as error:
            return _Prepared(picture.name, f"It cannot be prepared: {error}")
        return _Prepared(picture.name, "", views)

    def _patches(self) -> tuple[int, int]:
        """How many tokens a picture has, and their length."""
        size = self._tower.preprocessing.size
        _, tokens = features_and_tokens(self._tower, torch.zeros(1, 3, size, size))
        return tokens.shape[1], tokens.shape[2]

    def _compute(self, pictures: list[Tensor]) -> tuple[Floats, Floats]:
        """Return features (k, V, d) and tokens (k, V, T, c) of so many pictures; none where T=0."""
        features, tokens = [], []
        for block in torch.split(torch.cat(pictures), self._rows):
            if self._tokens:
                rows, patches = features_and_tokens(self._tower, block)
            else:
                rows, patches = self._tower.features(block), torch.empty(len(block), 0, 1)
            features.append(rows.cpu())
            tokens.append(patches.cpu())
        rows, patches = torch.cat(features), torch.cat(tokens)
        shape = (len(pictures), len(rows) // len(pictures))
        return (
            rows.reshape(*shape, *rows.shape[1:]).numpy(),
            patches.reshape(*shape, *patches.shape[1:]).numpy(),
        )


class _Growing:
    """Rows of one shape, their number known or not; NaN where none was set."""

    def __init__(self, total: int | None, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._values = self._empty(_FIRST_ROWS if total is None else total)

    def set(self, row: int, values: Floats) -> None:
        self._reach(row + 1)
        self._values[row] = values

    def rows(self, count: int) -> Floats:
        """Return so many rows."""
        self._reach(count)
        return self._values[:count]

    def _reach(self, count: int) -> None:
        missing = count - len(self._values)
        if missing > 0:
            more = self._empty(max(len(self._values), missing))
            self._values = np.concatenate([self._values, more])

    def _empty(self, count: int) -> Floats:
        return np.full((count, *self._shape), np.nan, dtype=np.float32)
