"""Test pictures that training pictures give away: the same file, features or spot."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.splits.separation import nearest_km
from geoembed_systems.pictures.features import PictureFeatures

__all__ = ["LeakWarning", "count_leaks", "leaks_told", "same_features", "same_files"]

Floats = NDArray[np.float64]

_NEAR_KM: Final = 1.0
# Features of one picture that was encoded twice differ by rounding, relative to their length.
_ROUNDING: Final = 1e-5
# Training rows that are projected at once.
_BLOCK: Final = 65_536


class LeakWarning(UserWarning):
    """Pictures that systems are asked about are among those they have learned from."""


def count_leaks(
    train: PictureFeatures, test: PictureFeatures, train_lonlat: Floats, test_lonlat: Floats
) -> dict[str, int]:
    """Count test pictures that training pictures give away.

    Parameters
    ----------
    train, test : PictureFeatures
        Of the same tower.
    train_lonlat, test_lonlat : ndarray of float64, shapes (n, 2) and (m, 2)
        Where they were taken, degrees, WGS 84.

    Returns
    -------
    dict
        ``"test_same_features"``: how many have the features of a training picture.
        ``"test_within_1_km"``: how many were taken within 1 km of one. Training pictures without
        features do not count.

    Examples
    --------
    >>> known, asked = PictureFeatures(np.eye(3)), PictureFeatures(np.eye(3)[[1, 1]] * [[1], [2]])
    >>> places = np.array([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]])
    >>> count_leaks(known, asked, places, places[:2] + 0.001)
    {'test_same_features': 1, 'test_within_1_km': 2}
    """
    near = nearest_km(test_lonlat, train_lonlat[train.good], within_km=2.0 * _NEAR_KM) <= _NEAR_KM
    return {
        "test_same_features": int(same_features(train, test).sum()),
        "test_within_1_km": int(near.sum()),
    }


def same_features(train: PictureFeatures, test: PictureFeatures) -> NDArray[np.bool_]:
    """Find test pictures whose pooled features are those of a training picture.

    Parameters
    ----------
    train, test : PictureFeatures
        Of the same tower.

    Returns
    -------
    ndarray of bool, shape (m,)
        Whether a view of the test picture is a view of a training picture, up to rounding: both
        are the same picture, or the tower sees no difference.

    Notes
    -----
    Vectors that are alike lie beside each other on any line, so only those that do are compared.

    Examples
    --------
    >>> same_features(PictureFeatures(np.eye(3)), PictureFeatures([[0, 1, 0], [0, 1, 1]])).tolist()
    [True, False]
    """
    drawn: Floats = np.random.default_rng(0).normal(size=(train.pooled.shape[2],))
    line = drawn / np.sqrt(drawn @ drawn)
    views = train.views
    at = np.concatenate(
        [
            train.pooled[start : start + _BLOCK].reshape(-1, len(line)) @ line
            for start in range(0, len(train), _BLOCK)
        ]
    )
    rows = np.flatnonzero(np.repeat(train.good, views))
    rows = rows[np.argsort(at[rows], kind="stable")]
    at = at[rows]
    # One row a view of a test picture that has features.
    whose = np.repeat(np.arange(len(test)), test.views)[np.repeat(test.good, test.views)]
    asked = test.pooled[test.good].reshape(-1, len(line)).astype(np.float64)
    reach = _ROUNDING * np.linalg.norm(asked, axis=1)
    middle = asked @ line
    first = np.searchsorted(at, middle - reach, side="left")
    last = np.searchsorted(at, middle + reach, side="right")
    found = np.zeros(len(test), dtype=np.bool_)
    open_ = np.flatnonzero(first < last)
    while len(open_):
        row = rows[first[open_]]
        gaps = train.pooled[row // views, row % views] - asked[open_]
        found[whose[open_[np.linalg.norm(gaps, axis=1) <= reach[open_]]]] = True
        first[open_] += 1
        open_ = open_[(first[open_] < last[open_]) & ~found[whose[open_]]]
    return found


def same_files(train: Sequence[Path | None], test: Sequence[Path | None]) -> int:
    """Count test files that are training files, or copies of one.

    Parameters
    ----------
    train, test : sequence of (Path or None)
        Files of the pictures; None where there is none.

    Returns
    -------
    int
        How many of `test` have the path or the content of one of `train`.

    Examples
    --------
    >>> for name, text in {"a": "sea", "b": "sea", "c": "hill"}.items():
    ...     _ = Path(name).write_text(text)
    >>> same_files([Path("a"), None], [Path("a"), Path("b"), Path("c"), None])
    2
    """
    known = [path.resolve() for path in train if path is not None]
    asked = [path.resolve() for path in test if path is not None]
    paths = set(known)
    others = [path for path in asked if path not in paths]
    # Copies are of one size: hardly any file need be read.
    sizes = {path.stat().st_size for path in others}
    digests = {_digest(path) for path in paths if path.stat().st_size in sizes}
    sizes = {path.stat().st_size for path in paths}
    copies = sum(path.stat().st_size in sizes and _digest(path) in digests for path in others)
    return len(asked) - len(others) + copies


def leaks_told(facts: Mapping[str, Any]) -> list[str]:
    """Say how many test pictures training pictures give away.

    Parameters
    ----------
    facts : mapping
        Of the data, with the numbers of `count_leaks`, and ``"test_same_file"`` where files are
        known.

    Returns
    -------
    list of str
        Sentences; none where there is nothing to tell.

    Examples
    --------
    >>> print(*leaks_told({"test_rows": 50, "test_same_features": 2, "test_within_1_km": 9}))
    LEAK: 2 of 50 test pictures (4.0 %) have the features of a training picture. Scores are better \
than they should be: take such pictures out of one of the two. 9 of 50 test pictures (18.0 %) were \
taken within 1 km of a training picture: a system that knows that spot again need not know the \
Earth.
    """
    rows = int(facts.get("test_rows") or 0)
    counts = {name: _count(facts, name) for name in ("same_features", "same_file", "within_1_km")}
    told = []
    same = []
    if counts["same_features"]:
        same.append(f"{_share(counts['same_features'], rows)} have the features")
    if counts["same_file"]:
        same.append(f"{_share(counts['same_file'], rows)} the file" if same else
                    f"{_share(counts['same_file'], rows)} have the file")  # fmt: skip
    if same:
        told.append(
            f"LEAK: {' and '.join(same)} of a training picture. Scores are better than they "
            "should be: take such pictures out of one of the two."
        )
    if counts["within_1_km"]:
        told.append(
            f"{_share(counts['within_1_km'], rows)} were taken within 1 km of a training picture: "
            "a system that knows that spot again need not know the Earth."
        )
    return told


def _count(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(f"test_{name}")
    # Records of earlier versions hold a sentence.
    return value if isinstance(value, int) else 0


def _share(count: int, rows: int) -> str:
    if not rows:
        return f"{count:,} test pictures"
    return f"{count:,} of {rows:,} test pictures ({100.0 * count / rows:.1f} %)"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
