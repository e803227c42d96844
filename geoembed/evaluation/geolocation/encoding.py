"""Pictures of a manifest become vectors; finished ones are kept, so that a stopped run goes on."""

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed import __version__
from geoembed.errors import CoordinateError, PictureError
from geoembed.evaluation.geolocation.manifests import Manifest
from geoembed.evaluation.geolocation.store import VectorStore, stamp
from geoembed.evaluation.geolocation.words import counted
from geoembed.images.gps import read_gps
from geoembed.progress import progress_bar

__all__ = ["Encoded", "count_gps", "encode_pictures", "predict_pictures"]

Vectors = NDArray[np.float32]

MISSING: Final = "there is no such file"
# A part is written when it has so many pictures, or so many seconds have passed.
_PART_ROWS: Final = 256
_PART_SECONDS: Final = 60.0


@dataclass(frozen=True, eq=False)
class Encoded:
    """What came of the pictures of a manifest, row by row.

    Parameters
    ----------
    values : ndarray, shape (n, d) or (n, 2)
        Vectors, or places where the localizer gives no vectors; NaN where there is an error.
    errors : list of str
        Why a picture has none; empty where it has one.
    kept : int
        How many were taken from an earlier run.
    """

    values: NDArray[Any]
    errors: list[str]
    kept: int = 0


def encode_pictures(
    manifest: Manifest,
    paths: Sequence[Path | None],
    encoder: Any,
    *,
    tta: str,
    folder: Path | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> Encoded:
    """Encode pictures, those apart that an earlier run has encoded.

    Parameters
    ----------
    manifest : Manifest
        What the pictures are called.
    paths : sequence of (Path or None)
        Where they lie, one a row.
    encoder : ImageEncoder
        What encodes: `iterate_images`, `name`, `weights_sha256` and `precision` are used.
    tta : {"none", "five", "ten-crop"}
        Views of every picture.
    folder : Path, optional
        Where vectors are kept, part by part.
    batch_size, workers
        Of `iterate_images`.
    progress : bool or None
        Show a progress bar; None shows one on a terminal when the work is long.

    Returns
    -------
    Encoded

    Raises
    ------
    TableError
        If `folder` cannot be written to.

    Notes
    -----
    A picture's vector is kept under its name, its size and the time of its last change, and under
    what encoded it. Pictures that could not be read are tried again.
    """
    rows = [at for at, path in enumerate(paths) if path is not None]
    marks = {at: stamp(path) for at, path in enumerate(paths) if path is not None}
    store = None if folder is None else VectorStore(folder, _key(encoder, tta))
    known = {} if store is None else store.load()
    vectors: dict[int, Vectors] = {}
    for at in rows:
        mark, vector = known.get(manifest.files[at], ("", np.empty(0, np.float32)))
        if mark == marks[at]:
            vectors[at] = vector
    kept = len(vectors)
    waiting = [at for at in rows if at not in vectors]
    errors = ["" if path is not None else MISSING for path in paths]
    parts = _Parts(store, manifest.files, marks)
    bar = progress_bar(progress, text="encoding", unit="picture", total=len(rows), done=kept)
    with bar, parts:
        given = [paths[at] for at in waiting]
        for at, vector, error in _encoded(encoder, waiting, given, tta, batch_size, workers):
            bar.update(1)
            errors[at] = error
            if not error:
                vectors[at] = vector
                parts.add(at, vector)
    width = len(next(iter(vectors.values()))) if vectors else 0
    values = np.full((len(paths), width), np.nan, dtype=np.float32)
    for at, vector in vectors.items():
        values[at] = vector
    return Encoded(values, errors, kept)


def predict_pictures(paths: Sequence[Path | None], localizer: Any) -> Encoded:
    """Ask a localizer that gives no vectors for the places of pictures.

    Parameters
    ----------
    paths : sequence of (Path or None)
        Where they lie, one a row.
    localizer : object
        With ``predict(paths)``, which returns an array of shape (n, 2), lon and lat in degrees,
        NaN where a picture cannot be read.

    Returns
    -------
    Encoded
    """
    rows = [at for at, path in enumerate(paths) if path is not None]
    values = np.full((len(paths), 2), np.nan)
    if rows:
        values[rows] = localizer.predict([paths[at] for at in rows])
    errors = ["" if path is not None else MISSING for path in paths]
    for at in rows:
        if not np.isfinite(values[at]).all():
            errors[at] = "no place was predicted"
    return Encoded(values, errors)


def count_gps(paths: Sequence[Path | None]) -> int:
    """Count the pictures whose EXIF tells where they were taken, and warn if there are any.

    Parameters
    ----------
    paths : sequence of (Path or None)
        Where they lie.

    Returns
    -------
    int
        Nothing else is done with what was read.
    """
    carrying = 0
    for path in paths:
        try:
            carrying += path is not None and read_gps(path) is not None
        except (CoordinateError, PictureError):
            # Damaged metadata gives nothing away; damaged pictures are told of elsewhere.
            continue
    if carrying:
        warnings.warn(gps_note(carrying), UserWarning, stacklevel=3)
    return carrying


def gps_note(carrying: int) -> str:
    """Say how many pictures carry their place, and that nobody has looked at it."""
    verb = "picture carries its" if carrying == 1 else "pictures carry their"
    return (
        f"{carrying:,} {verb} place in EXIF. It is not used here; another system could read it, "
        "so strip it before comparing systems"
    )


def _key(encoder: Any, tta: str) -> dict[str, Any]:
    return {
        "encoder": str(encoder.name),
        "weights_sha256": str(encoder.weights_sha256),
        "precision": str(getattr(encoder, "precision", "")),
        "tta": tta,
        "geoembed": __version__,
    }


def _encoded(
    encoder: Any,
    rows: Sequence[int],
    paths: Sequence[Path | None],
    tta: str,
    batch_size: int | None,
    workers: int | None,
) -> Iterator[tuple[int, Vectors, str]]:
    if not rows:
        return
    waiting = iter(rows)
    batches = encoder.iterate_images(
        list(paths), tta=tta, batch_size=batch_size, workers=workers, progress=False
    )
    for batch in batches:
        for vector, error in zip(batch.vectors, batch.errors, strict=True):
            yield next(waiting), vector, error


class _Parts:
    """Collects vectors and writes them from time to time, and at the end, whatever ends it."""

    def __init__(
        self, store: VectorStore | None, names: Sequence[str], marks: dict[int, str]
    ) -> None:
        self.store, self.names, self.marks = store, names, marks
        self.rows: list[int] = []
        self.vectors: list[Vectors] = []
        self.since = time.monotonic()
        self.written = 0

    def __enter__(self) -> "_Parts":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.write()
        if error is not None and self.store is not None and self.written:
            error.add_note(
                f"{counted(self.written, 'picture')} encoded in this run are kept in "
                f"{self.store.folder}: the same call goes on from there."
            )

    def add(self, row: int, vector: Vectors) -> None:
        if self.store is None:
            return
        self.rows.append(row)
        self.vectors.append(vector)
        if len(self.rows) >= _PART_ROWS or time.monotonic() - self.since > _PART_SECONDS:
            self.write()

    def write(self) -> None:
        if self.store is not None and self.rows:
            names = [self.names[row] for row in self.rows]
            self.store.add(names, [self.marks[row] for row in self.rows], np.stack(self.vectors))
        self.written += len(self.rows)
        self.rows, self.vectors, self.since = [], [], time.monotonic()
