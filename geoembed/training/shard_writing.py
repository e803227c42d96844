"""Writing one shard: pictures checked in threads, a tar whose bytes depend on them alone."""

import hashlib
import io
import json
import os
import secrets
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import GeoembedError, TableError
from geoembed.evaluation.geolocation.manifests import Manifest
from geoembed.images.decoding import MAX_PIXELS, decode
from geoembed.images.kinds import HEAD_BYTES, picture_format
from geoembed.images.workers import map_ahead
from geoembed.optional import import_optional
from geoembed.training.manifest import find_pictures

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["BadPicture", "Rows", "TarWriter", "write_shard"]

_BLOCK: Final = 512
# What tar programs write at once; a tar's length is a multiple of it.
_RECORD: Final = 20 * _BLOCK
# Names that readers of such tars go by, for each format as Pillow calls it.
_SUFFIXES: Final = {
    "JPEG": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "JPEG2000": "jp2",
    "PPM": "ppm",
    "AVIF": "avif",
    "HEIF": "heic",
}
# No loss that shows at the sizes that towers see.
_QUALITY: Final = 95
# Pictures read ahead of the one that is written, for each thread.
_AHEAD: Final = 4


@dataclass(frozen=True)
class BadPicture:
    """A picture that is not packed.

    Parameters
    ----------
    row : int
        Of the manifest, from 0.
    name : str
        As the manifest calls it.
    reason : str
        What is wrong with it.
    """

    row: int
    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a manifest that make up a shard.

    Parameters
    ----------
    first : int
        The number of the first of them.
    names : sequence of str
        As the manifest calls them.
    images : str
        Folder that they start from.
    lonlat : ndarray of float64, shape (n, 2)
        Degrees, WGS 84.
    """

    first: int
    names: Sequence[str]
    images: str
    lonlat: NDArray[np.float64]


class TarWriter:
    """Writes a tar without anything of the moment or the machine in it.

    Parameters
    ----------
    file : binary file object
        Open for writing, empty.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> writer = TarWriter(file)
    >>> writer.add("a.txt", b"text")
    >>> writer.close()
    10240
    >>> tarfile.open(fileobj=io.BytesIO(file.getvalue())).getnames()
    ['a.txt']
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._length = 0

    def add(self, name: str, data: bytes) -> None:
        """Add a member.

        Parameters
        ----------
        name : str
            What it is called.
        data : bytes
            What is in it.
        """
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self._write(member.tobuf(tarfile.USTAR_FORMAT))
        self._write(data)
        self._write(bytes(-len(data) % _BLOCK))

    def close(self) -> int:
        """Write the end mark; the file stays open.

        Returns
        -------
        int
            Bytes of the tar.
        """
        self._write(bytes(2 * _BLOCK))
        self._write(bytes(-self._length % _RECORD))
        return self._length

    def sha256(self) -> str:
        """Return the SHA-256 of what was written.

        Returns
        -------
        str
            64 hexadecimal digits.
        """
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._length += len(data)


def write_shard(
    rows: Rows,
    target: Path,
    *,
    max_side: int,
    workers: int,
    done: Callable[[], object],
) -> dict[str, Any]:
    """Write a shard under its name, whole or not at all.

    Parameters
    ----------
    rows : Rows
        What goes into it.
    target : Path
        The tar. None is written if no picture is good.
    max_side : int
        Pictures with a longer side are made smaller and stored as JPEG; 0 keeps all as they are.
    workers : int
        Threads that read and check pictures.
    done : callable
        Called after each row.

    Returns
    -------
    dict
        Report for JSON: ``file``, ``pictures``, ``bytes``, ``sha256`` and ``bad``.

    Raises
    ------
    TableError
        If it cannot be written, on a full disk for example.
    """
    draft = target.with_name(f"{target.name}.{secrets.token_hex(8)}.part")
    bad: list[tuple[int, str, str]] = []
    count = 0
    try:
        with draft.open("wb") as file:
            writer = TarWriter(file)
            for at, (suffix, data) in enumerate(_prepared(rows, max_side, workers)):
                row = rows.first + at
                if suffix:
                    facts = dict(zip(("lon", "lat"), rows.lonlat[at].tolist(), strict=True))
                    facts |= {"file": rows.names[at], "row": row}
                    writer.add(f"{row:09d}.{suffix}", data)
                    writer.add(f"{row:09d}.json", json.dumps(facts).encode())
                    count += 1
                else:
                    bad.append((row, rows.names[at], data.decode()))
                done()
            size = writer.close()
            file.flush()
            os.fsync(file.fileno())
        if count:
            draft.replace(target)
    except OSError as error:
        raise TableError(
            f"Shard {target} cannot be written: {error.strerror}. Finished shards stay: pack "
            "again when that is mended, and it goes on."
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return {
        "file": target.name,
        "pictures": count,
        "bytes": size if count else 0,
        "sha256": writer.sha256() if count else "",
        "bad": bad,
    }


def _prepared(rows: Rows, max_side: int, workers: int) -> Iterator[tuple[str, bytes]]:
    paths = find_pictures(Manifest(tuple(rows.names), rows.lonlat), rows.images)
    jobs = (partial(_prepare, path, max_side) for path in paths)
    yield from map_ahead(jobs, workers=workers, ahead=_AHEAD * workers)


def _prepare(path: Path | None, max_side: int) -> tuple[str, bytes]:
    """Return suffix and bytes of a picture that was checked; or no suffix, and what is wrong."""
    try:
        if path is None:
            return "", b"There is no such file."
        data = path.read_bytes()
        image = decode(data, max_pixels=MAX_PIXELS, copy=False)
        if max_side and max(image.size) > max_side:
            return "jpg", _shrink(image, max_side)
        return _SUFFIXES[picture_format(data[:HEAD_BYTES])], data
    except GeoembedError as error:
        return "", str(error).encode()
    except OSError as error:
        return "", f"It cannot be read: {error.strerror}.".encode()


def _shrink(image: "Image.Image", max_side: int) -> bytes:
    module = import_optional("PIL.Image", extra="image", purpose="Packing pictures")
    scale = max_side / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    file = io.BytesIO()
    image.resize((width, height), module.Resampling.LANCZOS).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
