"""Features of a frozen tower for K views of every picture, computed once and stored."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from geoembed.errors import OptionError, WeightsError
from geoembed.images import load_image_encoder
from geoembed.images.towers import Tower, tower_of
from geoembed.progress import progress_bar
from geoembed.training.amounts import size_text, time_text
from geoembed.training.batches import PictureData
from geoembed.training.feature_folder import FeatureFolder
from geoembed.training.feature_shards import FeatureShards, rows_per_shard
from geoembed.training.feature_store import FORMAT_VERSION, StoredFeatures, open_features
from geoembed.training.settings import ViewSettings
from geoembed.training.unreadable import UnreadableRows
from geoembed.training.view_batches import cut_batches
from geoembed.training.view_cutting import CutViews, Job, ViewCutter

if TYPE_CHECKING:
    from tqdm import tqdm

    from geoembed.images.base import ImageEncoder

__all__ = ["FeaturePlan", "plan_features", "write_features"]

# What is written is noted so often: at most so much work is done twice.
_KEEP_SECONDS: Final = 20.0
_AHEAD: Final = 2


@dataclass(frozen=True)
class FeaturePlan:
    """What it takes to compute and store features.

    Parameters
    ----------
    rows, views, dimension : int
        Pictures, views of each, length of a feature.
    bytes : int
        Size of the files.
    seconds_per_view : float
        Measured on a few views.
    """

    rows: int
    views: int
    dimension: int
    bytes: int
    seconds_per_view: float

    @property
    def seconds(self) -> float:
        """Time for all views, at the measured rate."""
        return self.rows * self.views * self.seconds_per_view

    def to_dict(self) -> dict[str, Any]:
        """Return the plan for JSON.

        Returns
        -------
        dict
            Its parts and `seconds`.
        """
        return {**asdict(self), "seconds": self.seconds}

    def __str__(self) -> str:
        return (
            f"{self.rows:,} pictures x {self.views} views x {self.dimension} values: "
            f"{size_text(self.bytes)}, about {time_text(self.seconds)} at "
            f"{1 / self.seconds_per_view:,.3g} views a second"
        )


def plan_features(
    data: PictureData,
    encoder: "str | ImageEncoder | Tower",
    *,
    views: ViewSettings,
    workers: int = 0,
) -> FeaturePlan:
    """Say how large features will be, and measure how long they will take.

    Parameters
    ----------
    data : PictureData
        The pictures.
    encoder : str, ImageEncoder or Tower
        Whose tower looks at them.
    views : ViewSettings
        With the pool of views of a picture (K).
    workers : int
        Processes that will read pictures beside the tower.

    Returns
    -------
    FeaturePlan
        A few views are cut and computed for it.

    Raises
    ------
    OptionError
        If `views` has no pool, or one of equal views.

    Examples
    --------
    >>> import tempfile
    >>> from geoembed.testing import tiny_clip_spec, write_tiny_clip
    >>> from geoembed.training.bluemarble import BlueMarble
    >>> clip = load_image_encoder(
    ...     tiny_clip_spec(), weights=write_tiny_clip(tempfile.mkdtemp()), device="cpu"
    ... )
    >>> plan = plan_features(BlueMarble(8, 32), clip, views=ViewSettings(pool=2))
    >>> plan.rows, plan.views, plan.dimension, plan.bytes
    (8, 2, 768, 24704)
    """
    _check_pool(views)
    tower = _tower(encoder)
    cutter = ViewCutter(data, tower.preprocessing, views, 0)
    shards = FeatureShards(
        Path(),
        rows=len(data),
        views=views.pool,
        dimension=tower.dimension,
        per_shard=rows_per_shard(views.pool, tower.dimension),
    )
    pictures = min(len(data), max(1, tower.rows // views.pool))
    # Spread evenly: the first pictures may all be of one camera.
    rows = np.linspace(0, len(data) - 1, pictures).astype(np.int64)
    job = Job(rows, np.tile(np.arange(views.pool), (pictures, 1)))
    start = time.perf_counter()
    [cut] = cut_batches(cutter, iter([job]), views=views.pool, workers=0)
    cutting = time.perf_counter() - start
    pixels = torch.from_numpy(cut.views).flatten(0, 1)
    tower.features(pixels[:1]).cpu()  # the first call of a device is slow
    start = time.perf_counter()
    tower.features(pixels).cpu()
    looking = time.perf_counter() - start
    total = max(cutting / workers, looking) if workers else cutting + looking
    return FeaturePlan(
        rows=len(data),
        views=views.pool,
        dimension=tower.dimension,
        bytes=sum(shards.size(number) for number in range(len(shards))),
        seconds_per_view=total / len(pixels),
    )


def write_features(
    data: PictureData,
    encoder: "str | ImageEncoder | Tower",
    folder: "str | PathLike[str]",
    *,
    views: ViewSettings,
    seed: int = 0,
    batch_size: int | None = None,
    workers: int = 0,
    max_bad: float = 0.01,
    progress: bool | None = None,
) -> StoredFeatures:
    """Compute the features of K views of every picture, and store them.

    An interrupted run, by whatever, is gone on with by calling it again. Features that are there
    already are opened.

    Parameters
    ----------
    data : PictureData
        The pictures.
    encoder : str, ImageEncoder or Tower
        Whose frozen tower looks at them.
    folder : str or path
        Where they are stored: ``features-00000.npy`` and so on, of shape (rows, K, dimension) and
        float16; ``rows.parquet`` with names and places; ``bad_pictures.csv``; ``features.json``,
        which says what they are of.
    views : ViewSettings
        With the pool of views of a picture (K), and how they are drawn; `count` says nothing here.
    seed : int
        Of the views.
    batch_size : int, optional
        Views computed at a time. Default: what suits the tower's device.
    workers : int
        Processes that read pictures beside the tower; with 0 this one reads them.
    max_bad : float
        Share of unreadable pictures at which it stops.
    progress : bool or None
        Show a progress bar; None shows it on a terminal.

    Returns
    -------
    StoredFeatures
        Opened.

    Raises
    ------
    OptionError
        If `views` has no pool, or one of equal views; or `batch_size` is below 1.
    TableError
        If the folder holds something else, or features of something else (the differences are
        listed), if another run is writing into it, or the disk is full: what is there stays.
    TrainingError
        If more pictures than `max_bad` allows cannot be read, or a process of `workers` was killed.
    WeightsError
        If a feature is not finite, or too large for float16.

    Notes
    -----
    Views are those that an image feed of the same seed cuts with a pool of K. Rounding to float16
    changes a value by at most one part in 2,048.

    Examples
    --------
    `geoembed.training.feature_store.open_features` shows one.
    """
    _check_pool(views)
    tower = _tower(encoder)
    if batch_size is not None and batch_size < 1:
        raise OptionError(f"batch_size={batch_size!r}: give at least 1.")
    pictures = max(1, (batch_size or tower.rows) // views.pool)
    into = FeatureFolder(Path(folder).expanduser(), _facts(data, tower, views, seed))
    with into.taken():
        if not into.finished:
            into.check_room()
            unreadable = UnreadableRows(data, rows=len(data), max_bad=max_bad)
            unreadable.add(into.bad, seen=into.done)
            cutter = ViewCutter(data, tower.preprocessing, views, seed)
            jobs = _jobs(into.done, len(data), pictures, views.pool)
            made = cut_batches(cutter, jobs, views=views.pool, workers=workers, ahead=_AHEAD)
            bar = progress_bar(
                progress, text="features", unit="picture", total=len(data), done=into.done
            )
            with closing(made), bar:
                _write_all(made, tower, into, unreadable, bar)
            into.finish(data)
    return open_features(folder)


def _write_all(
    made: Iterator[CutViews],
    tower: Tower,
    into: FeatureFolder,
    unreadable: UnreadableRows,
    bar: "tqdm[Any]",
) -> None:
    kept = time.monotonic()
    for cut in made:
        bad = {int(cut.job.rows[at]): reason for at, reason in cut.bad.items()}
        unreadable.add(bad, seen=len(cut.job.rows))
        into.write(_features(tower, cut), bad)
        bar.update(len(cut.job.rows))
        if time.monotonic() - kept > _KEEP_SECONDS:
            into.keep()
            kept = time.monotonic()


def _features(tower: Tower, cut: CutViews) -> NDArray[np.float16]:
    """Features of a batch; zeros where a picture could not be read."""
    good = np.ones(len(cut.views), np.bool_)
    good[list(cut.bad)] = False
    features = np.zeros((*cut.views.shape[:2], tower.dimension), np.float16)
    if good.any():
        pixels = torch.from_numpy(cut.views[good] if cut.bad else cut.views)
        found = tower.features(pixels.flatten(0, 1)).half().cpu().numpy()
        features[good] = found.reshape(-1, cut.views.shape[1], tower.dimension)
    if not np.isfinite(features).all():
        rows = cut.job.rows[~np.isfinite(features).all(axis=(1, 2))]
        raise WeightsError(
            f"The tower of {tower.name!r} gives features of rows "
            f"{', '.join(map(str, rows[:5]))} that are not finite, or too large for float16."
        )
    return features


def _jobs(start: int, stop: int, pictures: int, pool: int) -> Iterator[Job]:
    for first in range(start, stop, pictures):
        rows = np.arange(first, min(first + pictures, stop))
        yield Job(rows, np.tile(np.arange(pool), (len(rows), 1)))


def _facts(data: PictureData, tower: Tower, views: ViewSettings, seed: int) -> dict[str, Any]:
    """Everything that decides what the features are."""
    return {
        "version": FORMAT_VERSION,
        "data": data.digest,
        "rows": len(data),
        "views": views.pool,
        "dimension": tower.dimension,
        "shard_rows": rows_per_shard(views.pool, tower.dimension),
        "seed": seed,
        "view_settings": views.model_copy(update={"count": 1}).model_dump(),
        "preprocessing": asdict(tower.preprocessing),
        "tower": {
            "name": tower.name,
            "sha256": tower.sha256,
            "dtype": str(tower.dtype).removeprefix("torch."),
        },
    }


def _tower(encoder: "str | ImageEncoder | Tower") -> Tower:
    return encoder if isinstance(encoder, Tower) else tower_of(load_image_encoder(encoder))


def _check_pool(views: ViewSettings) -> None:
    if views.pool < 1:
        raise OptionError("views.pool = 0: say how many views of a picture are to be computed.")
    if views.augment == "none" and views.pool > 1:
        raise OptionError(
            f"views.pool = {views.pool} with views.augment = 'none': all of them would be the "
            "same. Take 1, or augment."
        )
