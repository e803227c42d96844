"""Places for ``geoembed gallery``: of table files and folders, read in batches."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoembed.errors import CoordinateError, OptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from geoembed.galleries import GalleryPlaces
    from geoembed.streaming.sources import Source

__all__ = ["read_lonlat", "table_places"]


def table_places(source: str, **options: Any) -> "GalleryPlaces":
    """Make places of a table, called like it.

    Parameters
    ----------
    source : str
        As in `read_lonlat`.
    **options
        Those of `read_lonlat`.

    Returns
    -------
    GalleryPlaces
        Equal places are one.
    """
    from geoembed.galleries import GalleryPlaces

    path = Path(source)
    # The folders of partitions are called "key=value".
    stem = path.name if path.is_dir() else path.stem
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", stem).strip("-") or "places"
    return GalleryPlaces.of(read_lonlat(source, **options), name=name, source=path.name)


def read_lonlat(
    source: "str | Path",
    *,
    geometry: str = "point",
    lon: str | None = None,
    lat: str | None = None,
    crs: str | None = None,
) -> "NDArray[np.float64]":
    """Read the places of a table; of all its columns no others are read.

    Parameters
    ----------
    source : str or Path
        A table file, or a folder or pattern of Parquet files, also in hive partitions.
    geometry : str
        What stands for lines and polygons.
    lon, lat : str, optional
        Coordinate columns, where they are not found by name.
    crs : str, optional
        Of coordinates that do not carry one.

    Returns
    -------
    array of shape (n, 2), float64
        Longitude and latitude of every row, degrees, WGS 84.

    Raises
    ------
    TableError
        If there is no such table, or it is damaged.
    CoordinateError
        If places cannot be read from it, or some are missing.
    OptionError
        If `geometry` would make several places of a row.
    """
    import numpy as np

    if geometry == "sample":
        raise OptionError("--geometry sample makes many places of a row: choose another.")
    blocks = [np.empty((0, 2))]
    for opened in _open_tables(str(source), lon, lat, crs):
        first = 0
        with closing(opened):
            for table in opened.tables():
                try:
                    places, _ = opened.read_places(table, first, crs=crs, geometry=geometry)
                except CoordinateError as error:
                    # Nor is there an option that keeps them: a place is there, or it is none.
                    told = re.sub(r", or pass on_invalid='nan'[^.]*", "", str(error))
                    raise CoordinateError(told) from error
                blocks.append(places.lonlat)
                first += len(table)
    return np.concatenate(blocks)


def _open_tables(
    source: str, lon: str | None, lat: str | None, crs: str | None
) -> "Iterator[Source]":
    from geoembed.streaming.sources import open_source

    path = Path(source).expanduser()
    if not path.is_dir() and not any(mark in source for mark in ("*", "?", "://")):
        yield open_source(path, lon=lon, lat=lat, crs=crs, places_only=True, typed=False)
        return
    from geoembed.scaling.listing import list_files, locate, open_parquet
    from geoembed.streaming.parquet_source import ParquetSource

    for file in list_files([source]):
        system, found = locate(file.url)
        opened = ParquetSource(Path(found), open_parquet(system, found))
        opened.settle(lon, lat, crs)
        opened.select(list(opened.lonlat or [opened.geometries[0].name]))
        yield opened
