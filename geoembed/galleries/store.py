"""Galleries in folders: places, vectors and a description, written whole or not at all."""

import errno
import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError, TableError
from geoembed.galleries.growing import GrowingVectors
from geoembed.galleries.parts import (
    OWN_FILES,
    Part,
    restore_folder,
    sweep,
    take_part,
    temporary_folder,
)
from geoembed.galleries.places import GalleryPlaces

__all__ = [
    "FORMAT",
    "INDEXES",
    "Fill",
    "GalleryBuildWarning",
    "Stored",
    "digest_array",
    "publish_folder",
    "read_folder",
    "write_folder",
]

FORMAT: Final = 1

INDEXES: Final = "indexes"
"""Folder in a gallery's folder where the files of approximate indexes lie."""

_DESCRIPTION: Final = "gallery.json"
_ARRAYS: Final = ("lonlat", "counts", "embeddings")
# Facts that may differ where the vectors are the same.
_WHERE: Final = frozenset({"encoder_path"})
# Up to so many bytes every one of them is checked when a folder is opened (a third of a second);
# of larger files so many parts of so many bytes, spread evenly, the ends among them.
_WHOLE: Final = 512 * 2**20
_PARTS: Final = 128
_PART: Final = 2**20

Fill = Callable[[Any], None]
"""Assigns rows to a `GrowingVectors`, or to an array: ``out[first:last] = vectors``."""

# Facts of a folder, and its arrays by name.
Stored = tuple[dict[str, Any], dict[str, NDArray[Any]]]


class GalleryBuildWarning(UserWarning):
    """An unfinished build of another gallery lies where a gallery is to be written."""


def write_folder(
    folder: Path,
    facts: dict[str, Any],
    places: GalleryPlaces,
    shape: tuple[int, int],
    dtype: str,
    fill: Fill,
    *,
    replace: bool = False,
    resume: bool = False,
) -> None:
    """Write a gallery under a temporary name, then rename the whole folder.

    Parameters
    ----------
    folder : Path
        What it becomes.
    facts : dict
        Written into its description.
    places : GalleryPlaces
        Its places.
    shape, dtype
        Of its vectors.
    fill : callable
        Assigns the vectors to the `GrowingVectors` that it is given, row after row from its
        `done` on.
    replace : bool
        Put it in the place of a folder that is there. If it is not to be replaced and somebody
        else has put the same gallery there in the meantime, theirs stays.
    resume : bool
        `facts` decide the vectors bit by bit: go on with what a killed build with the same facts
        left, and keep what is done if this one fails.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written. What is done is kept with `resume`,
        and a note of the error says so; else nothing is left behind.

    Warns
    -----
    GalleryBuildWarning
        If a killed build of another gallery for the same folder is left there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    part, others = take_part(folder, _identity(facts, shape, dtype) if resume else None)
    try:
        _warn_of(others, folder, part)
        np.save(part.path / "lonlat.npy", places.lonlat)
        np.save(part.path / "counts.npy", places.counts)
        target = part.path / "embeddings.npy"
        with GrowingVectors(target, shape, dtype, done=part.done, record=part.record) as vectors:
            fill(vectors)
        arrays = {name: digest_array(part.path / f"{name}.npy") for name in _ARRAYS}
        sizes = {name: (part.path / f"{name}.npy").stat().st_size for name in _ARRAYS}
        document = {"format": FORMAT, **facts, "sha256": arrays, "bytes": sizes}
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (part.path / _DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        part.path.chmod(0o755)
        _rename(part.path, folder, replace)
        for name in OWN_FILES:
            (folder / name).unlink(missing_ok=True)
    except BaseException as error:
        if part.keeps():
            error.add_note(
                f"{part.done:,} of {shape[0]:,} places are encoded and kept for a week, in "
                f"{part.path}: the same call goes on from there."
            )
        raise
    finally:
        part.close()


def read_folder(folder: Path) -> Stored:
    """Open a gallery, its vectors memory-mapped; everything is checked.

    Parameters
    ----------
    folder : Path
        Written by `write_folder`.

    Returns
    -------
    facts : dict
        Its description.
    arrays : dict of str to array
        ``"lonlat"``, ``"counts"`` and ``"embeddings"``.

    Raises
    ------
    TableError
        If the folder is none, is damaged, or was written by a newer geoembed; says what differs.
    """
    facts = _read_description(folder)
    arrays = {}
    for name in _ARRAYS:
        path = folder / f"{name}.npy"
        try:
            size = path.stat().st_size
        except OSError as error:
            raise TableError(f"The gallery {folder} has no {path.name}.") from error
        if size != facts["bytes"].get(name):
            raise TableError(
                f"The gallery {folder} is damaged: {path.name} has {size:,} bytes, expected "
                f"{facts['bytes'].get(name)}."
            )
        if digest_array(path) != facts["sha256"].get(name):
            raise TableError(
                f"The gallery {folder} is damaged: {path.name} is not what was written."
            )
        # Copy on write: torch wants memory that could be written, and nothing here writes.
        arrays[name] = np.load(path, mmap_mode="c" if name == "embeddings" else None)
    return facts, arrays


def publish_folder(
    folder: str | Path,
    facts: dict[str, Any],
    places: GalleryPlaces,
    shape: tuple[int, int],
    dtype: str,
    fill: Fill,
    *,
    force: bool,
    resume: bool = False,
) -> Path:
    """Write a gallery where its user wants it.

    Parameters
    ----------
    folder : str or Path
        What it becomes.
    facts, places, shape, dtype, fill, resume
        As in `write_folder`.
    force : bool
        Replace a gallery that is there, with the indexes in its folder.

    Returns
    -------
    Path
        The folder, absolute.

    Raises
    ------
    OptionError
        If the folder is there and is not to be replaced, or is no gallery.
    TableError
        If it cannot be written, or the disk is full; says what is kept.
    """
    path = Path(folder).expanduser().absolute()
    restore_folder(path)
    if path.exists() and not force:
        raise OptionError(f"{path} is there already. Say so if it may be replaced: force=True.")
    if path.exists() and not _holds_gallery(path):
        raise OptionError(f"{path} holds other things than a gallery, and is left as it is.")
    try:
        write_folder(path, facts, places, shape, dtype, fill, replace=force, resume=resume)
    except OSError as error:
        told = " ".join([f"{error.strerror or error}.", *getattr(error, "__notes__", ())])
        raise TableError(f"The gallery cannot be written to {path}: {told}") from error
    return path


def _holds_gallery(path: Path) -> bool:
    """Tell whether a folder is empty or holds a gallery and nothing else, damaged or not."""
    if not path.is_dir():
        return False
    found = {child.name for child in path.iterdir()}
    known = {_DESCRIPTION, *(f"{name}.npy" for name in _ARRAYS), *OWN_FILES}
    return found <= known or (_DESCRIPTION in found and found <= known | {INDEXES})


def digest_array(path: Path) -> str:
    """Return a SHA-256 of a file: of every byte, or of parts of one that is large."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE:
            while block := file.read(_PART):
                digest.update(block)
        else:
            digest.update(str(size).encode())
            for position in np.linspace(0, size - _PART, _PARTS, dtype=np.int64).tolist():
                file.seek(position)
                digest.update(file.read(_PART))
    return digest.hexdigest()


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / _DESCRIPTION
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TableError(f"{folder} is no gallery: it has no {_DESCRIPTION}.") from error
    except ValueError as error:
        raise TableError(f"{path} is not JSON: {error}.") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        found = facts.get("format") if isinstance(facts, dict) else None
        raise TableError(
            f"The gallery {folder} has the format {found!r}; this geoembed reads {FORMAT}. Build "
            "it again, or update geoembed."
        )
    if not all(isinstance(facts.get(key), dict) for key in ("sha256", "bytes")):
        raise TableError(f"{path} is damaged: it says nothing of the files beside it.")
    return facts


def _identity(facts: dict[str, Any], shape: tuple[int, int], dtype: str) -> dict[str, Any]:
    """Return what two builds must share for one to go on with the other's work."""
    matter = {fact: value for fact, value in facts.items() if fact not in _WHERE}
    width = shape[1] * np.dtype(dtype).itemsize
    found = {"format": FORMAT, **matter, "shape": shape, "dtype": dtype, "bytes_a_row": width}
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def _warn_of(others: list[Path], folder: Path, part: Part) -> None:
    for other in others:
        begun = "This one goes on with its own" if part.done else "This one begins anew"
        warnings.warn(
            f"An unfinished build of another gallery for {folder}, with other places, encoder or "
            f"options, lies in {other}. {begun}; that one is kept for a week. Remove it if it is "
            "not to be gone on with.",
            GalleryBuildWarning,
            stacklevel=5,
        )


def _rename(part: Path, folder: Path, replace: bool) -> None:
    old = temporary_folder(folder, ".old") if replace and folder.exists() else None
    try:
        if old is not None:
            with suppress(FileNotFoundError):  # somebody else may have replaced it just now
                folder.rename(old / "old")
        part.rename(folder)
    except BaseException as error:
        # After Ctrl-C as well: what was moved away comes back before anything is removed.
        if old is not None and not folder.exists() and (old / "old").exists():
            (old / "old").rename(folder)
        if not isinstance(error, OSError) or not (folder / _DESCRIPTION).is_file():
            raise
        theirs, ours = (_read_description(path) for path in (folder, part))
        if any(theirs.get(fact) != ours[fact] for fact in ours.keys() - _WHERE):
            told = "another gallery was put there in the meantime"
            raise FileExistsError(errno.EEXIST, told) from None
        # Another process built the same one meanwhile: theirs is as good.
        shutil.rmtree(part, ignore_errors=True)
    finally:
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
