"""Features in NumPy files of one size, written row after row."""

import errno
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["FeatureShards", "rows_per_shard"]

# Large enough that a batch of a large data set touches few files, small enough to be copied.
_SHARD_BYTES: Final = 2 * 2**30
_READ: Final = 2**22


def rows_per_shard(views: int, dimension: int) -> int:
    """Say how many rows a shard holds.

    Parameters
    ----------
    views : int
        Views of a row (K).
    dimension : int
        Length of a feature.

    Returns
    -------
    int
        About 2 GiB of float16.

    Examples
    --------
    >>> rows_per_shard(10, 768)
    139810
    """
    return max(1, _SHARD_BYTES // (2 * views * dimension))


class FeatureShards:
    """The shards of a folder: ``features-00000.npy`` and so on, float16.

    Parameters
    ----------
    folder : Path
        Where they are.
    rows, views, dimension : int
        Of all features.
    per_shard : int
        Rows of each shard; the last has the rest.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> shards = FeatureShards(folder, rows=3, views=1, dimension=2, per_shard=2)
    >>> shards.write(0, np.ones((3, 1, 2), np.float16))
    >>> shards.close()
    >>> [np.load(path).shape for path in shards.paths()]
    [(2, 1, 2), (1, 1, 2)]
    """

    def __init__(
        self, folder: Path, *, rows: int, views: int, dimension: int, per_shard: int
    ) -> None:
        self.folder = folder
        self.rows = rows
        self.per_shard = per_shard
        self._row = (views, dimension)
        self._row_bytes = 2 * views * dimension
        self._open: tuple[int, BinaryIO] | None = None

    def __len__(self) -> int:
        return -(-self.rows // self.per_shard)

    def paths(self) -> list[Path]:
        """Return the files, in order.

        Returns
        -------
        list of Path
            Whether they are there or not.
        """
        return [self.folder / f"features-{number:05d}.npy" for number in range(len(self))]

    def shape(self, number: int) -> tuple[int, int, int]:
        """Return the shape of a shard.

        Parameters
        ----------
        number : int
            From 0.

        Returns
        -------
        (int, int, int)
            Rows, views, dimension.
        """
        return min(self.per_shard, self.rows - number * self.per_shard), *self._row

    def size(self, number: int) -> int:
        """Return the size of the file of a shard.

        Parameters
        ----------
        number : int
            From 0.

        Returns
        -------
        int
            Bytes, the header among them.
        """
        return len(self._header(number)) + self.shape(number)[0] * self._row_bytes

    def first_lost(self) -> int:
        """Find the first shard that is not there, or has another size.

        Returns
        -------
        int
            Its first row; the number of all rows if there is none.
        """
        for number, path in enumerate(self.paths()):
            if not path.exists() or path.stat().st_size != self.size(number):
                return number * self.per_shard
        return self.rows

    def bytes_missing(self) -> int:
        """Say how much room the files still need.

        Returns
        -------
        int
            Bytes, without those of shards that are there.
        """
        there = [path.exists() and path.stat().st_size for path in self.paths()]
        return sum(self.size(at) for at, size in enumerate(there) if size != self.size(at))

    def write(self, row: int, features: NDArray[np.float16]) -> None:
        """Write features of rows that follow each other.

        Parameters
        ----------
        row : int
            The first.
        features : ndarray of float16, shape (n, K, dimension)
            They may go on in the next shard.

        Raises
        ------
        OSError
            If the disk is full.
        """
        while len(features):
            number, inside = divmod(row, self.per_shard)
            part = features[: self.per_shard - inside]
            file = self._file(number)
            file.seek(self.size(number) - (self.shape(number)[0] - inside) * self._row_bytes)
            file.write(np.ascontiguousarray(part, "<f2").tobytes())
            features, row = features[len(part) :], row + len(part)

    def sync(self) -> None:
        """Have the disk take what was written.

        Raises
        ------
        OSError
            If it cannot.
        """
        if self._open is not None:
            self._open[1].flush()
            os.fsync(self._open[1].fileno())

    def close(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            (_, file), self._open = self._open, None
            file.close()

    def digests(self) -> Iterator[str]:
        """Read every shard.

        Yields
        ------
        str
            Its SHA-256.
        """
        for path in self.paths():
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(_READ):
                    digest.update(block)
            yield digest.hexdigest()

    def _file(self, number: int) -> BinaryIO:
        if self._open is None or self._open[0] != number:
            self.sync()
            self.close()
            path = self.paths()[number]
            if not path.exists() or path.stat().st_size != self.size(number):
                self._reserve(path, number)
            self._open = number, path.open("r+b")
        return self._open[1]

    def _reserve(self, path: Path, number: int) -> None:
        """Make a shard of its full size, so that a full disk shows before its rows are computed."""
        with path.open("wb") as file:
            file.write(self._header(number))
            file.flush()
            try:
                os.posix_fallocate(file.fileno(), 0, self.size(number))
            except AttributeError:  # macOS and Windows have no such call
                file.truncate(self.size(number))
            except OSError as error:  # nor have some file systems
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                file.truncate(self.size(number))

    def _header(self, number: int) -> bytes:
        header = io.BytesIO()
        facts = {"descr": "<f2", "fortran_order": False, "shape": self.shape(number)}
        np.lib.format.write_array_header_1_0(header, facts)
        return header.getvalue()
