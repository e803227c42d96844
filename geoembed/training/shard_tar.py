"""What is in a tar of pictures: where each begins, how long it is, and where it was taken.

Tars are those of the WebDataset convention: members of one sample share a name up to the first
dot of its last part, such as ``0001.jpg`` and ``0001.json``.
"""

import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from geoembed.columns import find_coordinate_columns
from geoembed.errors import CoordinateError, TableError
from geoembed.geodesy import wrap_longitude
from geoembed.images.kinds import PICTURE_SUFFIXES

__all__ = ["ShardIndex", "read_tar"]

_BLOCK: Final = 512
# The preferred kinds first: one that every reader of such tars knows wins.
_PICTURES: Final = tuple(suffix[1:] for suffix in PICTURE_SUFFIXES)


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The pictures of one tar, in its order.

    Parameters
    ----------
    offsets, sizes : ndarray of int64, shape (n,)
        Where in the tar the file of each picture begins, and how long it is, bytes.
    lonlat : ndarray of float64, shape (n, 2)
        Degrees, WGS 84.
    names : pyarrow.StringArray, length n
        What each picture is called.
    digest : str
        SHA-256 of all this, and of the first and last bytes of each picture.
    bad : tuple of (str, str)
        Samples that are no rows, and why: without a picture, or without a place.
    """

    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    lonlat: NDArray[np.float64]
    names: pa.StringArray
    digest: str
    bad: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.offsets)


def read_tar(tar: Path) -> ShardIndex:
    """Read what is in a tar, by its headers and its ``.json`` members.

    Parameters
    ----------
    tar : Path
        Not compressed.

    Returns
    -------
    ShardIndex
        Samples with a picture and a place, in the order in which they begin.

    Raises
    ------
    TableError
        If it is cut off, damaged, compressed, or no tar.
    """
    samples: dict[str, _Sample] = {}
    with tar.open("rb") as file:
        for member in _members(tar, file):
            folder, slash, base = member.name.rpartition("/")
            stem, dot, kind = base.partition(".")
            if stem and dot and member.isfile():
                key = folder + slash + stem
                samples.setdefault(key, _Sample()).add(member, kind.lower(), file)
    good: list[_Row] = []
    bad: list[tuple[str, str]] = []
    for key, sample in samples.items():
        try:
            good.append(sample.row(key))
        except _UnusableError as error:
            bad.append((sample.name or key, str(error)))
        bad += [(key, f"It has .{kind} twice: the first one is read.") for kind in sample.twice]
    return _pack(good, bad)


class _UnusableError(Exception):
    """A sample that is no row of the data."""


# Offset, size, mark, longitude, latitude, name.
_Row = tuple[int, int, int, float, float, str]


@dataclass
class _Sample:
    """Members of one name."""

    pictures: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    facts: Any = None
    name: str = ""

    def add(self, member: tarfile.TarInfo, kind: str, file: IO[bytes]) -> None:
        if kind in self.kinds:
            self.twice.append(kind)
            return
        self.kinds.append(kind)
        if kind in _PICTURES:
            mark = _mark(file, member.offset_data, member.size)
            self.pictures[kind] = (member.offset_data, member.size, mark)
        elif kind == "json":
            file.seek(member.offset_data)
            with suppress(ValueError):
                self.facts = json.loads(file.read(member.size))
            if isinstance(self.facts, dict) and isinstance(self.facts.get("file"), str):
                self.name = self.facts["file"]

    def row(self, key: str) -> _Row:
        kind = min(self.pictures, key=_PICTURES.index, default=None)
        if kind is None:
            found = ", ".join(f".{kind}" for kind in self.kinds)
            raise _UnusableError(f"It has no picture, only {found}.")
        lon, lat = self.place()
        return *self.pictures[kind], lon, lat, self.name or key

    def place(self) -> tuple[float, float]:
        if "json" not in self.kinds:
            raise _UnusableError("It has no .json that says where it was taken.")
        if not isinstance(self.facts, dict):
            raise _UnusableError("Its .json cannot be read as an object of JSON.")
        columns = _coordinate_keys(tuple(self.facts))
        if isinstance(columns, str):
            raise _UnusableError(columns)
        values = [self.facts[column] for column in columns]
        try:
            # float() would take True for 1.
            lon, lat = (float(str(value)) for value in values)
        except ValueError:
            raise _UnusableError(f"Its place is no pair of numbers: {values!r}.") from None
        if not (-180.0 <= lon <= 360.0 and -90.0 <= lat <= 90.0):
            raise _UnusableError(f"Its place is out of range: lon {lon:g}, lat {lat:g}.")
        return lon, lat


@lru_cache(maxsize=256)
def _coordinate_keys(keys: tuple[str, ...]) -> tuple[str, str] | str:
    try:
        found = find_coordinate_columns(keys)
    except CoordinateError as error:
        return str(error)
    return found or "Its .json has no longitude and latitude, such as 'lon' and 'lat'."


def _members(tar: Path, file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar, and check that it goes on to its end."""
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as opened:
            for member in opened:
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                yield member
    except (tarfile.TarError, EOFError) as error:
        raise TableError(_damaged(tar, end, str(error))) from error
    file.seek(end)
    # Two empty blocks end a tar; what reads tars stops in silence where a header makes no sense.
    if file.read(2 * _BLOCK) != bytes(2 * _BLOCK):
        raise TableError(_damaged(tar, end, "there is no end mark"))


def _damaged(tar: Path, end: int, what: str) -> str:
    size = tar.stat().st_size
    with tar.open("rb") as file:
        head = file.read(6)
    packed = head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))
    if packed:
        return f"Shard {tar} is compressed: its pictures cannot be found by offset. Unpack it."
    return (
        f"Shard {tar} is cut off or damaged: {what} after {end:,} of {size:,} bytes. Copy it again "
        "from where it came from."
    )


def _mark(file: IO[bytes], offset: int, size: int) -> int:
    """Sum up both ends of a picture: they lie in pages that the headers have read anyway."""
    file.seek(offset)
    head = zlib.crc32(file.read(min(size, _BLOCK)))
    file.seek(offset + max(0, size - _BLOCK))
    return head << 32 | zlib.crc32(file.read(min(size, _BLOCK)))


def _pack(good: list[_Row], bad: list[tuple[str, str]]) -> ShardIndex:
    offsets, sizes, marks, lon, lat, names = zip(*good, strict=True) if good else ((),) * 6
    lonlat = np.column_stack([wrap_longitude(np.array(lon, float)), np.array(lat, float)])
    texts = [_text(name) for name in names]
    digest = hashlib.sha256("\0".join(texts).encode())
    whole = [np.array(values, "<u8") for values in (offsets, sizes, marks)]
    for array in (*whole, lonlat.astype("<f8")):
        digest.update(array.tobytes())
    return ShardIndex(
        whole[0].astype(np.int64),
        whole[1].astype(np.int64),
        lonlat,
        pa.array(texts, pa.string()),
        digest.hexdigest(),
        tuple((_text(name), reason) for name, reason in bad),
    )


def _text(name: str) -> str:
    # Bytes of a name that are no UTF-8 come as half characters, which no table can hold.
    return name.encode("utf-8", "backslashreplace").decode()
