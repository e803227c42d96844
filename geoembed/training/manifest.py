"""Pictures of a manifest: a table that says which picture was taken where, and their folder."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.errors import OptionError, PictureError, TableError
from geoembed.evaluation.geolocation.manifests import Manifest, read_manifest
from geoembed.evaluation.geolocation.words import counted, first_of
from geoembed.images.decoding import MAX_PIXELS, decode

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FolderPictures", "digest_rows", "find_pictures"]

# Paths held in memory at a time.
_LOOKED_FOR = 10_000
_NO_FILE = "There is no such file."


class FolderPictures:
    """Pictures in a folder, and where a manifest says they were taken.

    Rows of the manifest without a file are no rows of the data: they are listed in `missing`.

    Parameters
    ----------
    manifest : str, path, DataFrame or Manifest
        As `geoembed.evaluation.geolocation.read_manifest` takes it: CSV, Parquet, GeoParquet and
        others, or a table.
    images : str or path
        Folder of the pictures. Empty takes the manifest's own folder.
    file, lon, lat : str, optional
        Names of the columns, where they are not the usual ones.
    on_invalid : {"raise", "drop"}
        What becomes of rows without a place or a picture's name.

    Attributes
    ----------
    lonlat : ndarray of float64, shape (n, 2)
        Degrees, WGS 84.
    names : tuple of str
        Pictures as the manifest calls them.
    digest : str
        SHA-256 of names and places.
    missing : list of str
        Pictures of the manifest that are not in the folder.
    reasons : list of str
        Why each of them is missing.
    rows : ndarray of int64, shape (n,)
        Which row of the manifest each row is.
    manifest : Manifest
        All of it.
    notes : tuple of str
        What was left out of it, and what stands in it more than once.

    Raises
    ------
    TableError
        If the manifest cannot be read, has no rows, or none of its pictures is in the folder.
    CoordinateError
        If places are missing, out of range, or look swapped.
    OptionError
        If there is no such folder.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> Image.new("RGB", (4, 3), "red").save(folder / "a.png")
    >>> table = pd.DataFrame({"IMG_FILE": ["a.png", "b.png"], "LAT": [48.9, 0], "LON": [2.4, 9]})
    >>> pictures = FolderPictures(table, folder)
    >>> len(pictures), pictures.missing, pictures.picture(0).getpixel((0, 0))
    (1, ['b.png'], (255, 0, 0))
    """

    def __init__(
        self,
        manifest: "str | PathLike[str] | pd.DataFrame | Manifest",
        images: "str | PathLike[str]" = "",
        *,
        file: str | None = None,
        lon: str | None = None,
        lat: str | None = None,
        on_invalid: str = "raise",
    ) -> None:
        read = read_manifest(manifest, file=file, lon=lon, lat=lat, on_invalid=on_invalid)
        self.folder = _folder(manifest, images)
        # Texts take a fifth of the room of paths.
        found = find_pictures(read, self.folder)
        paths = [None if path is None else str(path) for path in found]
        self.manifest, self.notes = read, read.notes
        self.rows: NDArray[np.int64] = np.flatnonzero([path is not None for path in paths])
        self.lonlat = read.lonlat[self.rows]
        self.names: Sequence[str] = tuple(read.files[row] for row in self.rows)
        self.missing = [name for name, path in zip(read.files, paths, strict=True) if path is None]
        self.reasons = [_NO_FILE] * len(self.missing)
        self._paths = tuple(path for path in paths if path is not None)
        if not self._paths:
            raise TableError(
                f"None of the {counted(len(read), 'picture')} of {read.name} is in {self.folder}: "
                f"{first_of(self.missing)}. Give the folder that the names start from."
            )
        self.digest = digest_rows(self.names, self.lonlat)

    def __len__(self) -> int:
        return len(self.lonlat)

    def read(self, row: int) -> bytes:
        """Return the file of a picture, not decoded.

        Parameters
        ----------
        row : int
            Its row.

        Returns
        -------
        bytes
            The whole file.

        Raises
        ------
        PictureError
            If it cannot be read, or there is no such row.
        """
        path = self._path(row)
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise PictureError(f"{path}: {_NO_FILE}") from None
        except OSError as error:
            raise PictureError(f"{path}: It cannot be read: {error.strerror}.") from error

    def picture(self, row: int) -> "Image.Image":
        """Read a picture.

        Parameters
        ----------
        row : int
            Its row.

        Returns
        -------
        PIL.Image.Image
            Upright, RGB.

        Raises
        ------
        PictureError
            If it cannot be read, or there is no such row.
        """
        path = self._path(row)
        try:
            return decode(path, max_pixels=MAX_PIXELS, copy=False)
        except PictureError as error:
            raise PictureError(f"{path}: {error}") from error

    def _path(self, row: int) -> str:
        if not 0 <= row < len(self):
            raise PictureError(f"There is no row {row}: they run from 0 to {len(self) - 1}.")
        return self._paths[row]


def find_pictures(manifest: Manifest, images: "str | PathLike[str]") -> Iterator[Path | None]:
    """Look for the pictures of a manifest, some at a time.

    Parameters
    ----------
    manifest : Manifest
        Of any length.
    images : str or path
        As `Manifest.find_files` takes it.

    Yields
    ------
    Path or None
        One a row; None where there is no such file.

    Raises
    ------
    OptionError
        If there is no such folder.

    Examples
    --------
    >>> manifest = Manifest(("no such picture.jpg",), np.zeros((1, 2)))
    >>> list(find_pictures(manifest, "."))
    [None]
    """
    for start in range(0, len(manifest), _LOOKED_FOR):
        rows = slice(start, start + _LOOKED_FOR)
        yield from Manifest(manifest.files[rows], manifest.lonlat[rows]).find_files(images)


def digest_rows(names: Sequence[str], lonlat: NDArray[np.float64]) -> str:
    """Return a SHA-256 of names and places.

    Parameters
    ----------
    names : sequence of str, length n
        What the rows are called.
    lonlat : ndarray of float64, shape (n, 2)
        Degrees, WGS 84.

    Returns
    -------
    str
        64 hexadecimal digits.

    Examples
    --------
    >>> digest_rows(["a"], np.array([[2.0, 48.0]]))[:16]
    '3ea061d39d6625cb'
    """
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape"))
    digest.update(b"\0\0")
    digest.update(np.ascontiguousarray(lonlat, dtype="<f8").tobytes())
    return digest.hexdigest()


def _folder(
    manifest: "str | PathLike[str] | pd.DataFrame | Manifest", images: "str | PathLike[str]"
) -> Path:
    if os.fspath(images):
        return Path(images).expanduser()
    if isinstance(manifest, pd.DataFrame | Manifest):
        raise OptionError("images= is needed where the manifest is a table: it has no folder.")
    return Path(manifest).expanduser().parent
