"""Galleries in folders: places, vectors and a description, written whole or not at all."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from socket import gethostname
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError, TableError
from geoembed.galleries.places import GalleryPlaces

__all__ = ["FORMAT", "Stored", "digest_array", "publish_folder", "read_folder", "write_folder"]

FORMAT: Final = 1

_DESCRIPTION: Final = "gallery.json"
_ARRAYS: Final = ("lonlat", "counts", "embeddings")
# Up to so many bytes every one of them is checked when a folder is opened (a third of a second);
# of larger files so many parts of so many bytes, spread evenly, the ends among them.
_WHOLE: Final = 512 * 2**20
_STALE_SECONDS: Final = 24 * 3600
_PARTS: Final = 128
_PART: Final = 2**20

# Facts of a folder, and its arrays by name.
Stored = tuple[dict[str, Any], dict[str, NDArray[Any]]]


def write_folder(
    folder: Path,
    facts: dict[str, Any],
    lonlat: NDArray[np.float64],
    counts: NDArray[np.int64],
    shape: tuple[int, int],
    dtype: str,
    fill: Callable[[NDArray[Any]], None],
    *,
    replace: bool = False,
) -> None:
    """Write a gallery under a temporary name, then rename the whole folder.

    Parameters
    ----------
    folder : Path
        What it becomes.
    facts : dict
        Written into its description.
    lonlat, counts : array
        Its places.
    shape, dtype
        Of its vectors.
    fill : callable
        Writes the vectors into the array that it is given, which lies in the file.
    replace : bool
        Put it in the place of a folder that is there. If it is not to be replaced and somebody
        else has put one there in the meantime, theirs stays.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    part = _temporary(folder, ".part")
    try:
        np.save(part / "lonlat.npy", lonlat)
        np.save(part / "counts.npy", counts)
        # The disk's space is asked for at once: a full disk must not end the process by a signal,
        # which is what writing to a hole in a mapped file does.
        target = part / "embeddings.npy"
        vectors = np.lib.format.open_memmap(target, mode="w+", dtype=dtype, shape=shape)
        _reserve(target)
        fill(vectors)
        vectors.flush()
        del vectors
        arrays = {name: digest_array(part / f"{name}.npy") for name in _ARRAYS}
        sizes = {name: (part / f"{name}.npy").stat().st_size for name in _ARRAYS}
        document = {"format": FORMAT, **facts, "sha256": arrays, "bytes": sizes}
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (part / _DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        part.chmod(0o755)
        _rename(part, folder, replace)
    finally:
        shutil.rmtree(part, ignore_errors=True)


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
    fill: Callable[[NDArray[Any]], None],
    *,
    force: bool,
) -> Path:
    """Write a gallery where its user wants it.

    Parameters
    ----------
    folder : str or Path
        What it becomes.
    facts, shape, dtype, fill
        As in `write_folder`.
    places : GalleryPlaces
        Its places.
    force : bool
        Replace a gallery that is there.

    Returns
    -------
    Path
        The folder, absolute.

    Raises
    ------
    OptionError
        If the folder is there and is not to be replaced, or is no gallery.
    TableError
        If it cannot be written, or the disk is full; nothing is left behind.
    """
    path = Path(folder).expanduser().absolute()
    if path.exists() and not force:
        raise OptionError(f"{path} is there already. Say so if it may be replaced: force=True.")
    if path.exists() and not _holds_gallery(path):
        raise OptionError(f"{path} holds other things than a gallery, and is left as it is.")
    try:
        write_folder(path, facts, places.lonlat, places.counts, shape, dtype, fill, replace=force)
    except OSError as error:
        raise TableError(
            f"The gallery cannot be written to {path}: {error.strerror or error}."
        ) from error
    return path


def _holds_gallery(path: Path) -> bool:
    """Tell whether a folder is empty or holds a gallery and nothing else, damaged or not."""
    known = {_DESCRIPTION, *(f"{name}.npy" for name in _ARRAYS)}
    return path.is_dir() and {child.name for child in path.iterdir()} <= known


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


def _temporary(folder: Path, suffix: str) -> Path:
    """Make a folder beside another one, whose name says which process works in it."""
    prefix = f".{folder.name}~{gethostname()}~{os.getpid()}~"
    return Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=folder.parent))


def _sweep(folder: Path) -> None:
    """Remove what killed processes left beside a folder."""
    for left in folder.parent.glob(".*~*~*~*"):
        if left.suffix in (".part", ".old") and _is_left(left):
            shutil.rmtree(left, ignore_errors=True)


def _is_left(path: Path) -> bool:
    """Whether nobody works in a temporary folder: its process is gone, or it is a day old."""
    _, host, process, _ = path.name.rsplit("~", 3)
    try:
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            return True
        if os.name == "posix" and host == gethostname() and process.isdecimal():
            os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # another user's process, or somebody else has just removed the folder
    return False


def _reserve(path: Path) -> None:
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _rename(part: Path, folder: Path, replace: bool) -> None:
    if replace and folder.exists():
        old = _temporary(folder, ".old")
        with suppress(FileNotFoundError):  # somebody else may have replaced it just now
            folder.rename(old / "old")
        shutil.rmtree(old, ignore_errors=True)
    try:
        part.rename(folder)
    except OSError:
        # Another process built the same one meanwhile: theirs is as good.
        if not (folder / _DESCRIPTION).is_file():
            raise
