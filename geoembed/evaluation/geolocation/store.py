"""Vectors of pictures kept in a folder, part by part, so that a stopped evaluation goes on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import TableError
from geoembed.evaluation.cached import write_atomically

__all__ = ["VectorStore", "stamp"]

_FOLDER: Final = "vectors"
_KEY: Final = "key.json"


def stamp(path: Path) -> str:
    """Describe a file so that a change of it shows: its size and the time of its last change.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        Equal for equal files, as far as these two tell.
    """
    found = path.stat()
    return f"{found.st_size}-{found.st_mtime_ns}"


class VectorStore:
    """Vectors of pictures under one key: what encoded them, and how.

    Parameters
    ----------
    folder : Path
        Of the evaluation; the vectors lie below it, in ``vectors``, a folder a key.
    key : mapping
        What decides about the vectors: weights, crops, precision, version. Fit for JSON.

    Notes
    -----
    Each part is written under another name and renamed when it is whole. A part that cannot be
    read is passed over, and its pictures are encoded again. Where a picture stands in several
    parts, the last one counts.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        text = json.dumps(key, sort_keys=True)
        self.folder = folder / _FOLDER / hashlib.sha256(text.encode()).hexdigest()[:16]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(
                self.folder / _KEY,
                lambda draft: draft.write_text(json.dumps(key, indent=1, sort_keys=True) + "\n"),
            )
        except OSError as error:
            raise TableError(f"{folder} cannot be written to: {error.strerror}.") from error

    def load(self) -> dict[str, tuple[str, NDArray[np.float32]]]:
        """Read what is there.

        Returns
        -------
        dict
            Name of a picture -> its stamp when it was encoded, and its vector.
        """
        found: dict[str, tuple[str, NDArray[np.float32]]] = {}
        for path in sorted(self.folder.glob("part-*.npz")):
            with (
                suppress(OSError, ValueError, KeyError, EOFError, BadZipFile),
                # From memory: NumPy leaves a damaged archive open.
                np.load(BytesIO(path.read_bytes()), allow_pickle=False) as part,
            ):
                names, stamps, vectors = part["names"], part["stamps"], part["vectors"]
                whole = len(names) == len(stamps) == len(vectors) and vectors.ndim == 2
                if whole and vectors.dtype == np.float32:
                    rows = zip(names.tolist(), stamps.tolist(), vectors, strict=True)
                    found.update((name, (mark, vector)) for name, mark, vector in rows)
        return found

    def add(
        self, names: Sequence[str], stamps: Sequence[str], vectors: NDArray[np.float32]
    ) -> None:
        """Write one more part.

        Parameters
        ----------
        names, stamps : sequence of str
            Of the pictures.
        vectors : array of shape (n, d), float32
            One a picture.

        Raises
        ------
        TableError
            If it cannot be written.
        """
        if not len(names):
            return
        taken = [int(path.stem.split("-")[1]) for path in self.folder.glob("part-*.npz")]
        path = self.folder / f"part-{max(taken, default=-1) + 1:06d}.npz"

        def write(draft: Path) -> None:
            with draft.open("wb") as file:
                np.savez(file, names=np.array(names), stamps=np.array(stamps), vectors=vectors)

        try:
            write_atomically(path, write)
        except OSError as error:
            raise TableError(f"{path} cannot be written: {error.strerror}.") from error
