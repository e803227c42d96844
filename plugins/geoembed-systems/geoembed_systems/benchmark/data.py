"""What a benchmark runs on: features to learn from and to be asked with, and their places."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError, TableError
from geoembed.scalars import is_number
from geoembed.training.randomness import generator
from geoembed_systems.benchmark.leaking import count_leaks
from geoembed_systems.pictures.features import PictureFeatures

__all__ = ["BenchmarkData", "fraction_rows"]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

_FORMAT: Final = 1
_FILE: Final = "data.json"
_PARTS: Final = ("pooled", "tokens", "segments")
# Facts that are told of data once they are there, and do not make them other data.
_TOLD: Final = ("disclosure", "test_same_file")


@dataclass(frozen=True, eq=False, kw_only=True)
class BenchmarkData:
    """Pictures to learn from and pictures to be asked with, as features of one frozen tower.

    Parameters
    ----------
    name, title : str
        A short name, and what stands beside results.
    train, test : PictureFeatures
        Of the same tower. Views of `train` are looked at in turn while systems learn, those of
        `test` are pooled when they answer.
    train_lonlat, test_lonlat : array of shape (n, 2), float64
        Where they were taken, longitude and latitude, degrees, WGS 84.
    image_encoder : str
        Whose tower it is: a registered name, or the folder of a model; empty where not known.
    scenes : array of shape (n,), optional
        What each picture of `train` shows.
    facts : mapping
        What people should know of the data, fit for JSON. ``"disclosure"`` is a list of sentences
        that the report prints as they are: who has seen the test pictures before, say.
    folder : Path, optional
        Where it is kept.

    Raises
    ------
    OptionError
        If features of the two differ in kind, there is nothing in one of them, or there is not one
        place (or scene) a picture.

    Examples
    --------
    >>> data = BenchmarkData(
    ...     name="three",
    ...     title="Three pictures",
    ...     train=PictureFeatures(np.eye(2)),
    ...     test=PictureFeatures(np.eye(1, 2)),
    ...     train_lonlat=np.array([[2.0, 48.0], [13.0, 52.0]]),
    ...     test_lonlat=np.array([[2.1, 48.1]]),
    ... )
    >>> data.describe()["train_rows"], len(data.digest)
    (2, 64)
    """

    name: str
    title: str
    train: PictureFeatures
    test: PictureFeatures
    train_lonlat: Floats
    test_lonlat: Floats
    image_encoder: str = ""
    scenes: NDArray[np.object_] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            features, lonlat = getattr(self, part), getattr(self, f"{part}_lonlat")
            if lonlat.shape != (len(features), 2) or not np.isfinite(lonlat).all():
                raise OptionError(
                    f"{part}_lonlat has the shape {lonlat.shape} for {len(features):,} pictures: "
                    "give one place a picture, finite."
                )
            if not features.good.any():
                raise OptionError(
                    f"No picture of {part} has features. The first: {features.errors[0]}"
                )
        self.test.check(self.train.layout)
        if self.scenes is not None and len(self.scenes) != len(self.train):
            raise OptionError(
                f"There are {len(self.scenes):,} scenes for {len(self.train):,} pictures to learn "
                "from: give one a picture."
            )

    @property
    def digest(self) -> str:
        """SHA-256 of everything that results depend on; of kept data as it was written."""
        known = self.__dict__.get("_digest")
        if known is None:
            known = _digest(self)
            object.__setattr__(self, "_digest", known)
        return str(known)

    @property
    def leaks(self) -> dict[str, int]:
        """Numbers of `geoembed_systems.benchmark.leaking.count_leaks`."""
        known: dict[str, int] | None = self.__dict__.get("_leaks")
        if known is None:
            known = count_leaks(self.train, self.test, self.train_lonlat, self.test_lonlat)
            object.__setattr__(self, "_leaks", known)
        return dict(known)

    def describe(self) -> dict[str, Any]:
        """Return what results say of the data.

        Returns
        -------
        dict
            As JSON holds it; with the numbers of `leaks`.
        """
        layout = self.train.layout
        return {
            "name": self.name,
            "title": self.title,
            "train_rows": int(self.train.good.sum()),
            "test_rows": len(self.test),
            "image_encoder": self.image_encoder,
            "features": layout.pooled,
            "tokens": list(layout.tokens) if layout.tokens else None,
            "train_views": self.train.views,
            "test_views": self.test.views,
            **self.facts,
            **self.leaks,
            "digest": self.digest,
        }

    def without_tokens(self) -> Self:
        """Return the same with pooled features alone, for systems that look at nothing else."""
        if self.train.tokens is None and self.train.segments is None:
            return self
        train, test = (
            PictureFeatures(each.pooled, errors=each.errors, names=each.names)
            for each in (self.train, self.test)
        )
        return replace(self, train=train, test=test)

    def save(self, folder: str | Path) -> Self:
        """Write everything into a folder, which appears when it is whole.

        Parameters
        ----------
        folder : str or Path
            To be made; data of a benchmark that is there is replaced.

        Returns
        -------
        BenchmarkData
            Read from there, its arrays mapped from the files.

        Raises
        ------
        OptionError
            If something else is there.
        TableError
            If it cannot be written.
        """
        target = Path(folder).expanduser().absolute()
        if target.exists() and not (target / _FILE).is_file():
            raise OptionError(f"{target} is there and holds no data of a benchmark.")
        draft = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
        try:
            draft.mkdir(parents=True)
            record = self._write(draft)
            (draft / _FILE).write_text(json.dumps(record, indent=1), encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)
            os.replace(draft, target)
        except OSError as error:
            raise TableError(f"{target} cannot be written: {error.strerror or error}.") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return type(self).load(target)

    def _write(self, folder: Path) -> dict[str, Any]:
        for part in ("train", "test"):
            features = getattr(self, part)
            np.save(folder / f"{part}_lonlat.npy", getattr(self, f"{part}_lonlat"))
            for name in _PARTS:
                values = getattr(features, name)
                if values is not None:
                    np.save(folder / f"{part}_{name}.npy", values)
        return {
            "format": _FORMAT,
            "digest": self.digest,
            "name": self.name,
            "title": self.title,
            "image_encoder": self.image_encoder,
            "scenes": None if self.scenes is None else [_label(one) for one in self.scenes],
            "facts": dict(self.facts),
            "train": {"names": list(self.train.names), "errors": list(self.train.errors)},
            "test": {"names": list(self.test.names), "errors": list(self.test.errors)},
        }

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        folder : str or Path
            Of the data.

        Returns
        -------
        BenchmarkData
            Its arrays mapped from the files: what is not looked at takes no memory.

        Raises
        ------
        TableError
            If there are no such data, or they are damaged or of another version.
        """
        path = Path(folder).expanduser().absolute()
        try:
            record = json.loads((path / _FILE).read_text(encoding="utf-8"))
            if record["format"] != _FORMAT:
                raise TableError(
                    f"The data in {path} have the format {record['format']!r}, this version reads "
                    f"{_FORMAT}: delete the folder and make them again."
                )
            scenes = record["scenes"]
            data = cls(
                name=record["name"],
                title=record["title"],
                image_encoder=record["image_encoder"],
                scenes=None if scenes is None else np.array(scenes, dtype=object),
                facts=record["facts"],
                train=_read_features(path, "train", record["train"]),
                test=_read_features(path, "test", record["test"]),
                train_lonlat=np.load(path / "train_lonlat.npy"),
                test_lonlat=np.load(path / "test_lonlat.npy"),
                folder=path,
            )
            object.__setattr__(data, "_digest", str(record["digest"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, TableError):
                raise
            raise TableError(
                f"{path} holds no whole data of a benchmark ({error!r}): delete it and make them "
                "again."
            ) from error
        return data

    @classmethod
    def kept(cls, folder: str | Path, facts: Mapping[str, Any]) -> Self | None:
        """Return what was computed before, if it is of the same kind.

        Parameters
        ----------
        folder : str or Path
            Where it may be.
        facts : mapping
            Of the data that are wanted. A ``"disclosure"`` may have other words: they are taken up.

        Returns
        -------
        BenchmarkData or None
            None where there is nothing, it has other facts, or it is damaged.
        """
        path = Path(folder).expanduser()
        try:
            known = json.loads((path / _FILE).read_text(encoding="utf-8"))
            wanted = json.loads(json.dumps(dict(facts)))
            if _of_data(known["facts"]) != _of_data(wanted):
                return None
            data = cls.load(path)
            facts = {name: text for name, text in data.facts.items() if name != "disclosure"}
            object.__setattr__(data, "facts", {**facts, **wanted})
            return data
        except (OSError, ValueError, KeyError, TypeError):
            # TableError is a ValueError: what is damaged is made again.
            return None


def fraction_rows(rows: int, fraction: float, seed: int = 0) -> Rows:
    """Choose a share of the rows; those of a smaller share are among those of a larger one.

    Parameters
    ----------
    rows : int
        How many there are.
    fraction : float
        Share, in (0, 1].
    seed : int
        Which rows; shares of one seed are nested.

    Returns
    -------
    ndarray of int64
        Ascending, at least one.

    Raises
    ------
    OptionError
        If there are no rows, or `fraction` is out of range.

    Examples
    --------
    >>> few, many = fraction_rows(100, 0.05), fraction_rows(100, 0.2)
    >>> len(few), len(many), set(few) <= set(many)
    (5, 20, True)
    """
    if rows < 1 or not is_number(fraction) or not 0.0 < fraction <= 1.0:
        raise OptionError(
            f"fraction={fraction!r} of {rows:,} rows: give a share above 0 and at most 1 of one "
            "row or more."
        )
    if fraction == 1.0:
        return np.arange(rows, dtype=np.int64)
    # One key a row, whatever the share: the lowest are taken.
    keys = generator(seed, "benchmark fraction").bit_generator.random_raw(rows)
    chosen = np.argsort(keys, kind="stable")[: max(round(fraction * rows), 1)]
    return np.sort(chosen).astype(np.int64)


def _read_features(folder: Path, part: str, told: Mapping[str, Any]) -> PictureFeatures:
    arrays: dict[str, Any] = {}
    for name in _PARTS:
        file = folder / f"{part}_{name}.npy"
        arrays[name] = np.load(file, mmap_mode="r") if file.is_file() else None
    if arrays["pooled"] is None:
        raise TableError(f"{folder} has no {part}_pooled.npy: delete it and make it again.")
    return PictureFeatures(**arrays, errors=told["errors"], names=told["names"])


def _digest(data: BenchmarkData) -> str:
    digest = hashlib.sha256()
    scenes = None if data.scenes is None else [_label(one) for one in data.scenes]
    told = [scenes, list(data.train.errors), list(data.test.errors)]
    digest.update(json.dumps(told).encode())
    for part, lonlat in ((data.train, data.train_lonlat), (data.test, data.test_lonlat)):
        digest.update(np.ascontiguousarray(lonlat, dtype="<f8").data)
        for name in _PARTS:
            values = getattr(part, name)
            if values is not None:
                digest.update(f"{name} {values.shape} ".encode())
                digest.update(np.ascontiguousarray(values, dtype="<f4").data)
    return digest.hexdigest()


def _of_data(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in _TOLD}


def _label(scene: Any) -> str | None:
    return None if scene is None or scene != scene else str(scene)
