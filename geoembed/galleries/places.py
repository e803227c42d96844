"""The places of a gallery, before they are encoded."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from geoembed.containing import inside_of
from geoembed.errors import CoordinateError, OptionError

__all__ = ["GalleryPlaces"]


@dataclass(frozen=True, eq=False)
class GalleryPlaces:
    """Distinct places, how often each was there, and where they come from.

    Made by `of`, which merges duplicates; a factory of a plugin returns one.

    Parameters
    ----------
    lonlat : array of shape (n, 2), float64
        Longitude in [-180, 180] and latitude in [-90, 90], degrees, WGS 84; no two rows are equal.
    counts : array of shape (n,), int64
        How many rows of the source each place stands for.
    name : str
        What the gallery is called.
    source : str
        Where the places come from.
    version : str
        Of the places.

    Examples
    --------
    >>> places = GalleryPlaces.of([[2.35, 48.86], [13.4, 52.5], [2.35, 48.86]], name="twice")
    >>> places.lonlat.tolist(), places.counts.tolist()
    ([[2.35, 48.86], [13.4, 52.5]], [2, 1])
    """

    lonlat: NDArray[np.float64]
    counts: NDArray[np.int64]
    name: str
    source: str = ""
    version: str = "1"

    def __len__(self) -> int:
        return len(self.lonlat)

    @classmethod
    def of(
        cls,
        lonlat: ArrayLike,
        counts: ArrayLike | None = None,
        *,
        name: str,
        source: str = "",
        version: str = "1",
    ) -> "GalleryPlaces":
        """Check places and merge those that are equal, in the order of first appearance.

        Parameters
        ----------
        lonlat : array_like of shape (n, 2)
            Longitude and latitude, degrees, WGS 84.
        counts : array_like of shape (n,), optional
            How many each row stands for; 1 if not given.
        name, source, version : str
            See the class.

        Returns
        -------
        GalleryPlaces
            Distinct places.

        Raises
        ------
        CoordinateError
            If there is no place, or one is not finite or out of range.
        OptionError
            If a count is no positive whole number.
        """
        table = np.ascontiguousarray(lonlat, dtype=np.float64)
        if table.ndim != 2 or table.shape[1:] != (2,) or not len(table):
            raise CoordinateError(
                f"The gallery {name!r} needs places of shape (n, 2), at least one; got "
                f"{np.shape(lonlat)}."
            )
        limits = np.array([180.0, 90.0])
        # A NaN fails both; the costly look at every row is for the error alone.
        if not ((table.min(axis=0) >= -limits).all() and (table.max(axis=0) <= limits).all()):
            bad = ~(np.abs(table) <= limits).all(axis=1)
            first = int(np.argmax(bad))
            raise CoordinateError(
                f"{bad.sum():,} of {len(table):,} places of the gallery {name!r} are missing or "
                f"out of range, the first at position {first}: {table[first].tolist()}. The order "
                "is longitude, latitude, in degrees."
            )
        # A copy, in which -0.0 and 0.0 are one.
        return cls(*_merge(table + 0.0, _read_counts(counts, len(table))), name, source, version)

    def rows_within(self, within: Any) -> NDArray[np.int64]:
        """Find the places that lie in polygons.

        Parameters
        ----------
        within : GeoDataFrame, GeoSeries, shapely polygons, callable or None
            See `geoembed.containing.inside_of`; None is everywhere.

        Returns
        -------
        array of int64
            Positions, ascending, at least one.

        Raises
        ------
        CoordinateError
            If no place lies there.
        OptionError
            If `within` holds no polygons.
        """
        inside = inside_of(within)
        rows = np.arange(len(self)) if inside is None else np.flatnonzero(inside(self.lonlat))
        if not len(rows):
            raise CoordinateError(
                f"None of the {len(self):,} places of the gallery {self.name!r} lies in within=. "
                "Take a denser gallery, such as Gallery.grid(spacing_km, within=...), or check "
                "that the polygons are where you think: the order is longitude, latitude."
            )
        return rows

    def take(self, rows: NDArray[np.int64]) -> "GalleryPlaces":
        """Return the places in some rows, in their order.

        Parameters
        ----------
        rows : array of int64
            Positions, each once.

        Returns
        -------
        GalleryPlaces
            With the same name, source and version.
        """
        return replace(self, lonlat=self.lonlat[rows], counts=self.counts[rows])

    @property
    def digest(self) -> str:
        """SHA-256 of the places and their counts."""
        digest = hashlib.sha256()
        for array, kind in ((self.lonlat, "<f8"), (self.counts, "<i8")):
            digest.update(np.ascontiguousarray(array, dtype=kind).data)
        return digest.hexdigest()


def _merge(
    lonlat: NDArray[np.float64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Merge equal places in the order of first appearance, and add their counts up.

    Sorted hashes of 64 bits tell at once whether there can be equal ones, and which rows to look
    at: of ten million distinct places that takes a second, and no memory beyond two numbers a row.
    """
    hashes = _hash(lonlat)
    ascending = np.sort(hashes)
    several = np.unique(ascending[1:][ascending[1:] == ascending[:-1]])
    del ascending
    if not len(several):
        return lonlat, counts
    rows = np.arange(len(lonlat))
    if len(several) < len(lonlat) // 8:
        rows = rows[pd.Series(hashes).isin(several).to_numpy()]
    del hashes
    # A complex number holds both coordinates, and pandas hashes those in linear time.
    codes, distinct = pd.factorize(lonlat[rows].view(np.complex128).ravel())
    firsts = np.empty(len(distinct), dtype=np.int64)
    # Written backwards, so that the first occurrence is the one that stays.
    firsts[codes[::-1]] = rows[::-1]
    totals = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(totals, codes, counts[rows])
    kept = np.ones(len(lonlat), dtype=bool)
    kept[rows] = False
    kept[firsts] = True
    merged = counts.copy()
    merged[firsts] = totals
    return lonlat[kept], merged[kept]


def _hash(lonlat: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Hash every place; equal ones have equal hashes."""
    hashes = pd.util.hash_array(lonlat[:, 0]) * np.uint64(3)
    hashes += pd.util.hash_array(lonlat[:, 1])
    return hashes


def _read_counts(counts: Any, rows: int) -> NDArray[np.int64]:
    if counts is None:
        return np.ones(rows, dtype=np.int64)
    array = np.asarray(counts)
    if array.shape != (rows,) or array.dtype.kind not in "iu" or (array < 1).any():
        raise OptionError(
            f"counts= must be {rows:,} whole numbers of at least 1, one a place; got "
            f"{array.dtype} of shape {array.shape}."
        )
    return array.astype(np.int64)
