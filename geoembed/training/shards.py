"""Pictures in tars, read one at a time by where they lie: any order, nothing unpacked."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.errors import CoordinateError, OptionError, PictureError, TableError
from geoembed.evaluation.geolocation.manifests import read_manifest
from geoembed.evaluation.geolocation.words import counted
from geoembed.images.decoding import MAX_PIXELS, decode
from geoembed.training.shard_files import ShardFiles, ShardNames
from geoembed.training.shard_folder import find_tars
from geoembed.training.shard_index import index_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ShardPictures"]

# So many places tell whether longitude and latitude are swapped.
_LOOKED_AT: Final = 20_000
_SHOWN: Final = 5


class ShardPictures:
    """Pictures in WebDataset tars, and where they were taken.

    Rows are the samples of all tars, the tars in the order of their names. A sample is a picture
    (``.jpg``, ``.jpeg``, ``.png``, ``.webp``, or another kind that `geoembed.images` reads) and a
    ``.json`` of the same name with ``lon`` and ``lat``, in any case, or ``longitude`` and
    ``latitude``. Where each lies in its tar is read once, and kept beside the tar or in
    geoembed's cache.

    Parameters
    ----------
    folder : str or path
        Folder with the tars, or one tar.
    on_invalid : {"raise", "drop"}
        What becomes of samples without a picture or a place: an error that names them, or they
        are listed in `missing`.

    Attributes
    ----------
    lonlat : ndarray of float64, shape (n, 2)
        Degrees, WGS 84.
    names : sequence of str
        The ``file`` of a sample's ``.json``, or its name in the tar.
    digest : str
        SHA-256 of names, places, and of where each picture lies and how it begins and ends.
    missing : list of str
        Samples that are no rows.
    reasons : list of str
        Why.

    Raises
    ------
    OptionError
        If there is no such folder, or `on_invalid` is not one of those offered.
    TableError
        If there are no tars, one is missing, cut off or compressed, the packing is not finished,
        or samples are invalid.
    CoordinateError
        If longitude and latitude look swapped.

    Warns
    -----
    ShardWarning
        If numbers in the names of the tars have a gap.

    Notes
    -----
    Handles are opened by each process for itself, so an object may be sent to workers, or be there
    when they are forked. In memory a row takes about 60 bytes.

    Examples
    --------
    >>> import io, tarfile, tempfile
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (4, 3), "red").save(file, "PNG")
    >>> with tarfile.open(folder / "0.tar", "w") as tar:
    ...     place = b'{"lon": 2.4, "lat": 48.9}'
    ...     for name, data in [("a.png", file.getvalue()), ("a.json", place)]:
    ...         member = tarfile.TarInfo(name)
    ...         member.size = len(data)
    ...         tar.addfile(member, io.BytesIO(data))
    >>> pictures = ShardPictures(folder)
    >>> pictures.names[0], pictures.lonlat.tolist(), pictures.picture(0).getpixel((0, 0))
    ('a', [[2.4, 48.9]], (255, 0, 0))
    """

    def __init__(self, folder: "str | os.PathLike[str]", *, on_invalid: str = "raise") -> None:
        if on_invalid not in ("raise", "drop"):
            raise OptionError(f"on_invalid={on_invalid!r} is not one of: raise, drop.")
        self.folder = Path(folder).expanduser().absolute()
        self.tars = find_tars(self.folder)
        indexes = [index_of(tar) for tar in self.tars]
        self._starts = np.cumsum([0, *map(len, indexes)])
        self._offsets = np.concatenate([index.offsets for index in indexes])
        self._sizes = np.concatenate([index.sizes for index in indexes])
        self.lonlat: NDArray[np.float64] = np.concatenate([index.lonlat for index in indexes])
        self.names: Sequence[str] = ShardNames([index.names for index in indexes], self._starts)
        bad = [pair for index in indexes for pair in index.bad]
        self.missing = [name for name, _ in bad]
        self.reasons = [reason for _, reason in bad]
        digest = hashlib.sha256()
        for index in indexes:
            digest.update(index.digest.encode())
        self.digest = digest.hexdigest()
        self._check(on_invalid)
        self._files = ShardFiles()

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
            If there is no such row.
        TableError
            If the shard is gone, or shorter than it was.
        """
        if not 0 <= row < len(self):
            raise PictureError(f"There is no row {row}: they run from 0 to {len(self) - 1}.")
        tar = self.tars[int(np.searchsorted(self._starts, row, side="right")) - 1]
        size = int(self._sizes[row])
        try:
            data = self._files.read(tar, size, int(self._offsets[row]))
        except OSError as error:
            raise TableError(
                f"Shard {tar} cannot be read: {error.strerror}. Bring it back; a run goes on from "
                "its last checkpoint."
            ) from error
        if len(data) < size:
            raise TableError(
                f"Shard {tar} has become shorter than it was when the run began: picture "
                f"{self.names[row]} is not whole. Copy it again; a run goes on from its last "
                "checkpoint."
            )
        return data

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
            If it cannot be decoded, or there is no such row.
        TableError
            If the shard is gone, or shorter than it was.
        """
        data = self.read(row)
        try:
            return decode(data, max_pixels=MAX_PIXELS, copy=False)
        except PictureError as error:
            raise PictureError(f"{self.names[row]}: {error}") from error

    def _check(self, on_invalid: str) -> None:
        bad = len(self.missing)
        if bad and on_invalid == "raise":
            shown = "; ".join(
                f"{name}: {reason.rstrip('.')}"
                for name, reason in zip(self.missing[:_SHOWN], self.reasons[:_SHOWN], strict=True)
            )
            more = f"; and {bad - _SHOWN:,} more" if bad > _SHOWN else ""
            raise TableError(
                f"{counted(bad, 'sample')} of {self.folder} cannot be used, and "
                f"{len(self):,} can: {shown}{more}. Correct them, or leave them out with "
                "on_invalid='drop'."
            )
        if not len(self):
            why = f": {self.missing[0]}: {self.reasons[0]}" if bad else "."
            raise TableError(f"The tars of {self.folder} hold no picture with a place{why}")
        _check_order(self.lonlat, self.folder)


def _check_order(lonlat: NDArray[np.float64], folder: Path) -> None:
    """Look whether longitude and latitude are swapped, as is done with manifests."""
    some = lonlat[:: -(-len(lonlat) // _LOOKED_AT)]
    frame = pd.DataFrame({"file": "x", "lon": some[:, 0], "lat": some[:, 1]})
    try:
        read_manifest(frame)
    except CoordinateError as error:
        raise CoordinateError(
            f"Longitude and latitude in the .json members of {folder} look swapped: far more "
            f"of {len(some):,} places would be on land if the two changed places. Correct the "
            "members, or pack the pictures again from a manifest."
        ) from error
