"""A benchmark on one's own pictures: manifests with images, or with features computed elsewhere."""

import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError, TableError, unknown_name
from geoembed.evaluation.geolocation import Manifest, read_features, read_manifest
from geoembed.images import ImageEncoder, load_image_encoder
from geoembed.images.towers import tower_of
from geoembed.images.views import view_count
from geoembed.splits import spatial_holdout
from geoembed.streaming import read_frames
from geoembed_systems.benchmark.blue_marble import SCENES_TOLD
from geoembed_systems.benchmark.data import BenchmarkData
from geoembed_systems.benchmark.leaking import LeakWarning, leaks_told, same_files
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.pictures.reading import read_picture_features
from geoembed_systems.pictures.scenes import cluster_scenes

__all__ = ["manifest_data"]

Source = "str | PathLike[str]"

_SCENES: Final = 3
# Patch tokens of all pictures that are kept unless somebody asks for more.
_TOKEN_BYTES: Final = 2 * 2**30


def manifest_data(
    manifest: Any,
    *,
    folder: str | Path,
    images: str | Path | None = None,
    features: Any = None,
    test: Any = None,
    test_images: str | Path | None = None,
    test_features: Any = None,
    held_out: float = 0.2,
    block_km: float = 500.0,
    buffer_km: float = 0.0,
    split_seed: int = 0,
    image_encoder: Any = "geoclip.v1",
    weights: str | Path | None = None,
    allow_download: bool = False,
    crops: str = "none",
    tokens: bool | None = None,
    scenes: Any = None,
    file: str | None = None,
    lon: str | None = None,
    lat: str | None = None,
    on_invalid: str = "raise",
    id_column: str | None = None,
    name: str | None = None,
    device: str = "auto",
    progress: bool | None = None,
) -> BenchmarkData:
    """Read pictures, or features of them, and where they were taken.

    Parameters
    ----------
    manifest : str, path, DataFrame or Manifest
        As `geoembed.evaluation.geolocation.read_manifest` takes it.
    folder : str or Path
        Where features are kept. If it holds those of the same manifests and options they are read;
        others are replaced.
    images : str or path, optional
        Folder of the pictures.
    features : str, path, array or DataFrame, optional
        Features of a frozen tower in place of pictures, as
        `geoembed.evaluation.geolocation.read_features` takes them.
    test, test_images, test_features : optional
        The same of the pictures that systems are asked about; `images` serves both if only that is
        given. Without a `test`, whole blocks of the manifest are held out.
    held_out : float
        Share of the places that is held out.
    block_km : float
        Side of the blocks.
    buffer_km : float
        Pictures to learn from that are nearer to one held out are left out.
    split_seed : int
        Which blocks.
    image_encoder : str or ImageEncoder
        Whose frozen tower looks at pictures; of features, whose they are.
    weights, allow_download, device
        Of `geoembed.images.load_image_encoder`.
    crops : {"none", "five", "ten-crop"}
        Test-time crops of the pictures that systems are asked about.
    tokens : bool, optional
        Whether to keep patch tokens of pictures, which some systems need. If not given, they are
        where the tower has them and they take no more than 2 GB.
    scenes : str or array of shape (n,), optional
        Column of the manifest, or labels, one a row: what each picture shows. Clusters of the
        features stand in for them if not given.
    file, lon, lat, on_invalid
        Of `read_manifest`, for both manifests.
    id_column : str, optional
        Of `read_features`.
    name : str, optional
        What the data are called; as the manifest if not given.
    progress : bool, optional
        Show a progress bar; None shows one on a terminal when the work is long.

    Returns
    -------
    BenchmarkData
        Pictures without features are among it, each with an error: nothing is learned from them,
        and asked about they count as missed. What it says of itself counts test pictures that
        have the file or the features of a training picture, or were taken within 1 km of one.

    Warns
    -----
    LeakWarning
        If a test picture has the file or the features of a training picture.

    Raises
    ------
    OptionError
        If not exactly one of images and features is given for a manifest, the split does not fit,
        or features of the two manifests differ in kind.
    TableError, CoordinateError
        If a manifest or features cannot be read.
    MissingWeightsError
        If pictures are given and the tower's weights are not on this machine.

    Examples
    --------
    >>> import geoembed as ge
    >>> towns = ge.data.load_cities().head(60)[["name", "lon", "lat"]]
    >>> towns = towns.rename(columns={"name": "file"})
    >>> looks = np.random.default_rng(0).normal(size=(60, 8))
    >>> data = manifest_data(towns, features=looks, folder="towns", block_km=2000.0)
    >>> len(data.train) + len(data.test), data.train.pooled.shape[2]
    (60, 8)
    """
    view_count(crops)
    options: dict[str, Any] = {"file": file, "lon": lon, "lat": lat, "on_invalid": on_invalid}
    known = read_manifest(manifest, **options)
    asked = None if test is None else read_manifest(test, **options)
    if asked is None and (test_images is not None or test_features is not None):
        raise OptionError("test_images= and test_features= are of the manifest test=: give it too.")
    _check_one("images=", images, "features=", features)
    if asked is not None:
        test_images = images if test_images is None and test_features is None else test_images
        _check_one("test_images=", test_images, "test_features=", test_features)
    labels = None if scenes is None else _labels(scenes, manifest, known, options)
    if asked is None:
        train_rows, test_rows = _held_out(known, held_out, block_km, buffer_km, split_seed)
    else:
        train_rows, test_rows = np.arange(len(known)), np.arange(len(asked))
    encoder = _Encoder(image_encoder, weights, allow_download, device, tokens, progress)
    facts: dict[str, Any] = {
        "manifest": known.name,
        "manifest_sha256": known.sha256,
        "test": known.name if asked is None else asked.name,
        "test_sha256": known.sha256 if asked is None else asked.sha256,
        "split": _split_told(asked is None, held_out, block_km, buffer_km, split_seed),
        "crops": crops,
        "scenes": SCENES_TOLD if labels is None else "labels that came with the pictures",
    }
    pictures = {"images": images is not None, "test_images": (test_images or images) is not None}
    whole = all(pictures.values()) and folder is not None
    facts["notes"] = [*known.notes, *(() if asked is None else asked.notes)]
    facts["tower"] = encoder.name
    facts["patch_tokens"] = "as they fit" if tokens is None else tokens
    other = known if asked is None else asked
    kept = BenchmarkData.kept(folder, facts) if whole and labels is None else None
    if kept is not None:
        return _warned(kept)
    train = _take(known, train_rows, images, features, "none", encoder, id_column)
    asked_features = (
        _take(known, test_rows, images, features, crops, encoder, id_column)
        if asked is None
        else _take(asked, test_rows, test_images, test_features, crops, encoder, id_column)
    )
    facts["test_same_file"] = _same_files(
        (known, train_rows, images), (other, test_rows, images if asked is None else test_images)
    )
    found = cluster_scenes(train, _SCENES) if labels is None else labels[train_rows]
    data = BenchmarkData(
        name=name or known.name,
        title=name or known.name,
        train=train,
        test=asked_features,
        train_lonlat=known.lonlat[train_rows],
        test_lonlat=other.lonlat[test_rows],
        image_encoder=encoder.name,
        scenes=found,
        facts=facts,
    ).save(folder)
    return _warned(data)


class _Encoder:
    """An image encoder that is loaded when the first picture is met."""

    def __init__(
        self,
        given: Any,
        weights: Any,
        allow_download: bool,
        device: str,
        tokens: bool | None,
        progress: bool | None,
    ) -> None:
        self.given, self.tokens, self.progress = given, tokens, progress
        self._options = {"weights": weights, "allow_download": allow_download, "device": device}

    @property
    def name(self) -> str:
        return str(getattr(self.given, "name", self.given))

    def read(self, files: list[Any], crops: str) -> PictureFeatures:
        if not isinstance(self.given, ImageEncoder):
            self.given = load_image_encoder(self.given, **self._options)
        if self.tokens is None:
            # One picture says how much all would take.
            self.tokens = self._fit(files)
        return read_picture_features(
            files,
            image_encoder=self.given,
            crops=crops,
            tokens=self.tokens,
            progress=self.progress,
        )

    def _fit(self, files: list[Any]) -> bool:
        tower = tower_of(self.given)
        if tower.patches is None:
            return False
        size = tower.preprocessing.size
        import torch

        _, patches = tower.patch_tokens(torch.zeros(1, 3, size, size))
        return patches.numel() * 4 * len(files) <= _TOKEN_BYTES


def _check_one(first: str, one: Any, second: str, other: Any) -> None:
    if (one is None) == (other is None):
        got = "neither was" if one is None else "both were"
        raise OptionError(f"Give one of {first} and {second}: {got} given.")


def _take(
    manifest: Manifest,
    rows: NDArray[np.int64],
    images: Any,
    features: Any,
    crops: str,
    encoder: _Encoder,
    id_column: str | None,
) -> PictureFeatures:
    if features is not None:
        found = read_features(features, manifest, id_column=id_column)
        read = PictureFeatures(found.vectors, errors=found.errors, names=list(manifest.files))
        return read.take(rows)
    root = Path(images).expanduser()
    there = manifest.find_files(root)
    # A file that is not there gets the reader's error, in its row.
    files = [str(there[row] or root / manifest.files[row]) for row in rows.tolist()]
    read = encoder.read(files, crops)
    names = [manifest.files[row] for row in rows.tolist()]
    return PictureFeatures(
        read.pooled, read.tokens, read.segments, errors=list(read.errors), names=names
    )


def _held_out(
    manifest: Manifest, share: float, block_km: float, buffer_km: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    train, test = spatial_holdout(
        manifest.lonlat, share, block_km=block_km, buffer_km=buffer_km, random_state=seed
    )
    return train.astype(np.int64), test.astype(np.int64)


def _split_told(own: bool, share: float, block_km: float, buffer_km: float, seed: int) -> str:
    if not own:
        return "a manifest of its own"
    return (
        f"{share:.0%} held out in blocks of {block_km:g} km, training pictures within "
        f"{buffer_km:g} km of one left out, seed {seed}"
    )


def _same_files(*sides: tuple[Manifest, NDArray[np.int64], Any]) -> int | None:
    """Count test pictures whose file is a training picture's; None where files are not known."""
    (known, train, images), (asked, test, test_images) = sides
    if images is not None and test_images is not None:
        files = known.find_files(images), asked.find_files(test_images)
        return same_files([files[0][row] for row in train], [files[1][row] for row in test])
    if known is not asked:
        # One name in two manifests need not be one file: there, features say it.
        return None
    names = {known.files[row] for row in train.tolist()}
    return sum(known.files[row] in names for row in test.tolist())


def _warned(data: BenchmarkData) -> BenchmarkData:
    """Warn of test pictures that are training pictures too."""
    facts = {**data.describe(), "test_within_1_km": 0}
    for sentence in leaks_told(facts):
        warnings.warn(sentence, LeakWarning, stacklevel=3)
    return data


def _labels(
    scenes: Any, source: Any, manifest: Manifest, options: Mapping[str, Any]
) -> NDArray[np.object_]:
    values = scenes
    if isinstance(scenes, str):
        if isinstance(source, str | PathLike):
            parts = list(read_frames(source, lon=options["lon"], lat=options["lat"]))
            columns: Any = {name: [v for p in parts for v in p[name]] for name in parts[0].columns}
        else:
            columns = source if hasattr(source, "columns") else {}
        if scenes not in columns:
            raise unknown_name("column of scenes", scenes, map(str, columns))
        values = list(columns[scenes])
    labels = np.asarray(list(values), dtype=object)
    if len(labels) != len(manifest):
        raise TableError(
            f"There are {len(labels):,} scenes for the {len(manifest):,} pictures of "
            f"{manifest.name}: give one a row, and leave no row out (on_invalid='raise')."
        )
    return labels
