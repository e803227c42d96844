"""Stored features, memory-mapped: what a frozen tower gave for fixed views of pictures."""

import json
import os
import warnings
from collections.abc import Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from geoembed.errors import OptionError, TableError
from geoembed.extending.image_specs import Preprocessing
from geoembed.training.feature_folder import BAD_PICTURES, FACTS, ROWS
from geoembed.training.feature_shards import FeatureShards
from geoembed.training.settings import ViewSettings

__all__ = ["FORMAT_VERSION", "StoredFeatures", "open_features"]

FORMAT_VERSION: Final = 1

_COLUMNS: Final = ["lon", "lat"]


class StoredFeatures:
    """Features of a folder, for `geoembed.training.feeds.FeatureFeed`.

    Parameters
    ----------
    folder : Path
        That `geoembed.training.features.write_features` wrote.
    facts : mapping
        Its ``features.json``.

    Attributes
    ----------
    lonlat : ndarray of float64, shape (n, 2)
        Degrees, WGS 84.
    valid : ndarray of bool, shape (n,)
        False where a picture could not be read.
    views : int
        Views of a picture (K).
    dimension : int
        Length of a feature.
    digest : str
        SHA-256 of the features and of what they were made of.
    view_settings : ViewSettings
        How views were drawn.
    seed : int
        Of the views: an image feed of this seed and a pool of K cuts the same ones.
    preprocessing : Preprocessing
        Of the tower.
    tower : str
        Name of the image encoder whose tower it was.
    tower_sha256 : str
        Digest of its weights.

    Examples
    --------
    `open_features` shows one.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder = folder
        self.facts = facts
        self.views = int(facts["views"])
        self.dimension = int(facts["dimension"])
        self.digest = str(facts["digest"])
        self.seed = int(facts["seed"])
        self.view_settings = ViewSettings.model_validate(facts["view_settings"])
        self.preprocessing = _preprocessing(facts["preprocessing"])
        self.tower = str(facts["tower"]["name"])
        self.tower_sha256 = str(facts["tower"]["sha256"])
        rows = pd.read_parquet(folder / ROWS, columns=["lon", "lat", "valid"])
        self.lonlat: NDArray[np.float64] = rows[_COLUMNS].to_numpy(np.float64)
        self.valid: NDArray[np.bool_] = rows["valid"].to_numpy(np.bool_)
        shards = FeatureShards(
            folder,
            rows=len(rows),
            views=self.views,
            dimension=self.dimension,
            per_shard=int(facts["shard_rows"]),
        )
        self._per_shard = shards.per_shard
        self._shards = [_map(path, shards.shape(at)) for at, path in enumerate(shards.paths())]

    def __len__(self) -> int:
        return len(self.lonlat)

    @property
    def bytes(self) -> int:
        """Size of the features on the disk."""
        return 2 * len(self) * self.views * self.dimension

    @cached_property
    def names(self) -> Sequence[str]:
        """What each row is called; read when first asked for."""
        names: list[str] = pd.read_parquet(self.folder / ROWS, columns=["name"])["name"].tolist()
        return names

    @cached_property
    def bad(self) -> dict[int, str]:
        """Why rows have no features, by row."""
        return {int(row): reason for row, _, reason in self._listed if row}

    @property
    def missing(self) -> list[str]:
        """Pictures that the data named and did not have: they are no rows."""
        return [name for row, name, _ in self._listed if not row]

    @property
    def reasons(self) -> list[str]:
        """Why each of them is missing."""
        return [reason for row, _, reason in self._listed if not row]

    @cached_property
    def _listed(self) -> list[tuple[str, str, str]]:
        table = pd.read_csv(self.folder / BAD_PICTURES, dtype=str, keep_default_na=False)
        return list(zip(table["row"], table["name"], table["reason"], strict=True))

    def features(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return features.

        Parameters
        ----------
        rows : ndarray of int64, shape (b,)
            Rows of the data.
        views : ndarray of int64, shape (b, P)
            Numbers of views, from 0 to K - 1.

        Returns
        -------
        ndarray of float32, shape (b, P, dimension)
            As they were rounded to float16; zeros where there are none.

        Raises
        ------
        OptionError
            If there is no such row or view.
        """
        for what, asked, count in (("row", rows, len(self)), ("view", views, self.views)):
            if asked.size and not (asked.min() >= 0 and asked.max() < count):
                raise OptionError(
                    f"There are {count:,} {what}s, and {what}s from {asked.min()} to "
                    f"{asked.max()} are asked for."
                )
        shard, inside = np.divmod(rows, self._per_shard)
        places = (inside[:, None] * self.views + views).ravel()
        if len(self._shards) == 1:
            found = self._shards[0].index_select(0, torch.from_numpy(places))
        else:
            found = torch.empty(len(places), self.dimension, dtype=torch.float16)
            of_place = np.repeat(shard, views.shape[1])
            for number in np.unique(shard):
                at = np.flatnonzero(of_place == number)
                part = self._shards[number].index_select(0, torch.from_numpy(places[at]))
                found[torch.from_numpy(at)] = part
        features: NDArray[np.float32] = found.float().numpy()
        return features.reshape(*views.shape, self.dimension)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # Another process maps the files itself.
        return open_features, (self.folder,)


def open_features(folder: "str | PathLike[str]") -> StoredFeatures:
    """Open the features of a folder.

    Parameters
    ----------
    folder : str or path
        That `geoembed.training.features.write_features` wrote.

    Returns
    -------
    StoredFeatures
        Memory-mapped: nothing is read before it is asked for.

    Raises
    ------
    TableError
        If it holds no features, not all of them, those of another version, or files are missing
        or damaged.

    Examples
    --------
    >>> import tempfile
    >>> from geoembed.testing import tiny_clip_spec, write_tiny_clip
    >>> from geoembed.images import load_image_encoder
    >>> from geoembed.training.bluemarble import BlueMarble
    >>> from geoembed.training.features import write_features
    >>> folder = Path(tempfile.mkdtemp())
    >>> clip = load_image_encoder(tiny_clip_spec(), weights=write_tiny_clip(folder / "clip"))
    >>> world = BlueMarble(crops=2, crop_size=32)
    >>> stored = write_features(world, clip, folder / "features", views=ViewSettings(pool=3))
    >>> open_features(folder / "features").features(np.array([1]), np.array([[2, 0]])).shape
    (1, 2, 768)
    """
    # Where another process finds it, whatever folder it works in.
    folder = Path(os.path.abspath(os.path.expanduser(folder)))
    path = folder / FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        version = facts["version"]
    except FileNotFoundError:
        raise TableError(
            f"{folder} holds no features: there is no {FACTS}. 'geoembed data features' writes it."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(f"{path} cannot be read: {error}. Write the features anew.") from error
    if version != FORMAT_VERSION:
        raise TableError(
            f"{path} is of version {version!r}, and this geoembed reads version "
            f"{FORMAT_VERSION}: write the features anew, or use the geoembed that wrote them."
        )
    if "digest" not in facts:
        raise TableError(
            f"The features in {folder} are not complete: run 'geoembed data features' again as "
            "before, and it goes on."
        )
    try:
        return StoredFeatures(folder, facts)
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise TableError(
            f"The features in {folder} are damaged: {error}. Write them anew."
        ) from error


def _map(path: Path, shape: tuple[int, int, int]) -> Tensor:
    """Map a shard as a tensor of one row a view."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.shape != shape or array.dtype != np.float16:
        raise ValueError(f"{path.name} is {array.dtype} {array.shape}, expected float16 {shape}")
    with warnings.catch_warnings():
        # Tensors cannot be read-only, and torch says so of every array that is; nobody writes here.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array).flatten(0, 1)


def _preprocessing(facts: dict[str, Any]) -> Preprocessing:
    lists = {key: tuple(facts[key]) for key in ("mean", "std")}
    return Preprocessing(**{**facts, **lists})
