"""Training data that are in memory already: features or pictures beside a table of places."""

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from geoembed.columns import name_rows
from geoembed.coordinates import read_places
from geoembed.errors import OptionError, PictureError, TableError, unknown_name
from geoembed.images.decoding import MAX_PIXELS, decode, upright_rgb
from geoembed.training.manifest import digest_rows

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FeatureArray", "PictureList", "features_of", "pictures_of"]

Floats = NDArray[np.float64]


class FeatureArray:
    """Features in an array, for `geoembed.training.feeds.FeatureFeed`.

    Parameters
    ----------
    lonlat : array of shape (n, 2), float64
        Degrees, WGS 84.
    names : sequence of str
        What each row is called.
    values : array of shape (n, K, d)
        Features of K views of each picture.

    Attributes
    ----------
    views, dimension : int
        K and d.
    valid : ndarray of bool, shape (n,)
        True: what has no features is no row.
    digest : str
        SHA-256 of places, names and features.
    digests : dict of str to str
        Of each of them.

    Examples
    --------
    >>> data = FeatureArray(np.zeros((2, 2)), ["a", "b"], np.ones((2, 3, 4)))
    >>> data.features(np.array([1]), np.array([[0, 2]])).shape
    (1, 2, 4)
    """

    def __init__(self, lonlat: Floats, names: Sequence[str], values: ArrayLike) -> None:
        self.lonlat, self.names = lonlat, names
        self._values: NDArray[np.float32] = np.ascontiguousarray(values, dtype=np.float32)
        _, self.views, self.dimension = self._values.shape
        self.valid = np.ones(len(lonlat), dtype=np.bool_)
        features = hashlib.sha256(self._values.astype("<f4").tobytes()).hexdigest()
        self.digests = {**_digests(names, lonlat), "features": features}
        self.digest = hashlib.sha256((digest_rows(names, lonlat) + features).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.lonlat)

    def features(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return features.

        Parameters
        ----------
        rows : ndarray of int64, shape (b,)
            Rows of the data.
        views : ndarray of int64, shape (b, P)
            Numbers of views, from 0 to K - 1.

        Returns
        -------
        ndarray of float32, shape (b, P, dimension)
            A copy.
        """
        found: NDArray[np.float32] = self._values[rows[:, None], views]
        return found


class PictureList:
    """Pictures in a list: opened, or files.

    Parameters
    ----------
    lonlat : array of shape (n, 2), float64
        Degrees, WGS 84.
    names : sequence of str
        What each row is called.
    pictures : sequence of PIL.Image.Image or path
        One a row.

    Attributes
    ----------
    digest : str
        SHA-256 of places and names; pictures are not read for it.
    digests : dict of str to str
        Of each of them.

    Examples
    --------
    >>> from PIL import Image
    >>> data = PictureList(np.zeros((1, 2)), ["a"], [Image.new("L", (4, 3))])
    >>> data.picture(0).mode
    'RGB'
    """

    def __init__(self, lonlat: Floats, names: Sequence[str], pictures: Sequence[Any]) -> None:
        self.lonlat, self.names = lonlat, names
        self._pictures = pictures
        self.digest, self.digests = digest_rows(names, lonlat), _digests(names, lonlat)

    def __len__(self) -> int:
        return len(self.lonlat)

    def picture(self, row: int) -> "Image.Image":
        """Return one picture.

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
            If it cannot be read.
        """
        found = self._pictures[row]
        if hasattr(found, "getexif"):
            return upright_rgb(found)
        try:
            return decode(os.fspath(found), max_pixels=MAX_PIXELS)
        except (PictureError, TypeError) as error:
            raise PictureError(f"{self.names[row]}: {error}") from error


def features_of(
    frame: pd.DataFrame, features: ArrayLike | Sequence[str], **places: Any
) -> FeatureArray:
    """Read a table of places and its features.

    Parameters
    ----------
    frame : GeoDataFrame or DataFrame
        A row a picture.
    features : array of shape (n, d) or (n, K, d), or sequence of str
        What a frozen tower gave for each picture, or for K views of it; or the columns of the
        frame that hold it.
    **places
        Of `geoembed.read_places`: ``lon``, ``lat``, ``crs``.

    Returns
    -------
    FeatureArray
        In the order of the frame.

    Raises
    ------
    TableError
        If the table has no rows, a column is not there, shapes do not fit, or features are not
        finite; the message names the first rows.
    CoordinateError
        If places cannot be read, or some are missing.

    Examples
    --------
    >>> frame = pd.DataFrame({"lon": [1.0, 2.0], "lat": [3.0, 4.0], "f0": [0.1, 0.2]})
    >>> features_of(frame, ["f0"]).dimension
    1
    """
    _check_rows(frame)
    values = _values(frame, features)
    if values.ndim == 2:
        values = values[:, None]
    if values.ndim != 3 or len(values) != len(frame) or not values.size:
        raise TableError(
            f"The features have the shape {values.shape}, and the table has {len(frame):,} rows: "
            "give (n, d), or (n, K, d) for K views of each picture."
        )
    bad = np.logical_not(np.isfinite(values).all(axis=(1, 2), keepdims=True)).reshape(-1)
    if bad.any():
        raise TableError(
            f"{bad.sum():,} of {len(bad):,} rows have features that are missing or not finite: "
            f"{name_rows(frame.index, bad)}. Leave those rows out."
        )
    return FeatureArray(read_places(frame, **places).lonlat, _names(frame), values)


def pictures_of(frame: pd.DataFrame, pictures: Sequence[Any], **places: Any) -> PictureList:
    """Read a table of places whose pictures are at hand.

    Parameters
    ----------
    frame : GeoDataFrame or DataFrame
        A row a picture.
    pictures : sequence of PIL.Image.Image or path
        One a row.
    **places
        Of `geoembed.read_places`: ``lon``, ``lat``, ``crs``.

    Returns
    -------
    PictureList
        In the order of the frame.

    Raises
    ------
    TableError
        If the table has no rows, or not as many as there are pictures.
    CoordinateError
        If places cannot be read, or some are missing.

    Examples
    --------
    >>> from PIL import Image
    >>> frame = pd.DataFrame({"lon": [1.0], "lat": [3.0]})
    >>> len(pictures_of(frame, [Image.new("RGB", (4, 4))]))
    1
    """
    _check_rows(frame)
    if len(pictures) != len(frame):
        raise TableError(
            f"There are {len(pictures):,} pictures, and the table has {len(frame):,} rows: give "
            "one a row."
        )
    return PictureList(read_places(frame, **places).lonlat, _names(frame), list(pictures))


def _check_rows(frame: pd.DataFrame) -> None:
    if not len(frame):
        raise TableError("The table of pictures has no rows: give one a picture.")


def _values(frame: pd.DataFrame, features: Any) -> NDArray[np.float32]:
    named = isinstance(features, Sequence) and all(isinstance(each, str) for each in features)
    if named and len(features):
        for column in features:
            if column not in frame.columns:
                known = map(str, frame.columns)
                raise TableError(str(unknown_name("column of features", column, known)))
        features = frame[list(features)]
    try:
        return np.asarray(features, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise OptionError(f"The features are no numbers: {error}.") from error


def _digests(names: Sequence[str], lonlat: Floats) -> dict[str, str]:
    """Of names and of places alone, so that a run that is resumed can say which differ."""
    return {
        "names": digest_rows(names, np.empty((0, 2))),
        "places": digest_rows([], lonlat),
    }


def _names(frame: pd.DataFrame) -> list[str]:
    return [str(label) for label in frame.index]
