"""Table files that are read front to back: what they all offer, and which suffix is which."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyproj import CRS

from geoembed.coordinates import (
    COORDINATE_COLUMNS,
    Places,
    find_coordinate_columns,
    read_places,
)
from geoembed.crs import settle_crs
from geoembed.errors import CoordinateError, OptionError, TableError
from geoembed.streaming.geoparquet import GeoColumn, check_srids, decode_geometries

__all__ = ["Source", "check_names", "check_path", "open_source"]

VECTOR_SUFFIXES: Final = (
    ".gpkg",
    ".geojson",
    ".json",
    ".geojsonl",
    ".fgb",
    ".shp",
    ".zip",
)
PARQUET_SUFFIXES: Final = (".parquet", ".geoparquet", ".pq")
TEXT_SUFFIXES: Final = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


class Source(ABC):
    """A table file. Subclasses set the attributes and write `tables`.

    Attributes
    ----------
    path : Path
        Of the file.
    schema : pyarrow.Schema
        Columns of `tables`; its metadata is what goes along into a Parquet file.
    geometries : list of GeoColumn
        Its geometry columns, the one to read places from first.
    lonlat : (str, str) or None
        Names of the coordinate columns that places are read from instead of geometries.
    rows : int or None
        Number of rows, where the file tells without being read.
    """

    path: Path
    schema: pa.Schema
    geometries: list[GeoColumn]
    lonlat: tuple[str, str] | None = None
    rows: int | None = None

    def files(self) -> list[Path]:
        """Return the files that the table is in."""
        return [self.path]

    def close(self) -> None:  # noqa: B027 - most sources keep nothing open
        """Close the file, where it is kept open."""

    @abstractmethod
    def select(self, columns: list[str]) -> None:
        """Give only these columns."""

    @abstractmethod
    def tables(self) -> Iterator[pa.Table]:
        """Read the rows in order, in tables of any size that memory can bear."""

    def coordinates(self, table: pa.Table) -> pd.DataFrame:
        """Return the two coordinate columns as they are to be read."""
        assert self.lonlat is not None
        frame: pd.DataFrame = table.select(list(self.lonlat)).to_pandas()
        return frame

    def settle(self, lon: str | None, lat: str | None, crs: Any) -> None:
        """Decide which columns hold the places, and in which CRS; called once after opening.

        Raises CoordinateError if that cannot be decided: before any row is read, so that no row
        is blamed for an option.
        """
        if (lon is None) != (lat is None):
            missing, given = ("lon", "lat") if lon is None else ("lat", "lon")
            raise OptionError(f"{given}= was given without {missing}=: name both columns.")
        if lon is not None and lat is not None:
            self._check_columns(lon, lat)
            self.lonlat = (lon, lat)
        elif not self.geometries:
            self.lonlat = find_coordinate_columns(self.schema.names)
        if self.lonlat is None and not self.geometries:
            looked = " and ".join("/".join(names) for names in COORDINATE_COLUMNS.values())
            raise CoordinateError(
                f"{self.path} has neither geometries nor coordinate columns. Looked for {looked} "
                f"in any case, found {self._listed()}. Name the columns: lon='...', lat='...'."
            )
        if self.lonlat is None:
            self._settle_crs(crs)
        else:
            lon, lat = self.lonlat
            settle_crs(None, crs, f"columns {lon!r} and {lat!r}", must_carry=False)

    def _check_columns(self, *names: str) -> None:
        for name in names:
            if name not in self.schema.names:
                raise TableError(
                    f"{self.path} has no column {name!r}. Its columns: {self._listed()}."
                )

    def _listed(self) -> str:
        names = list(map(repr, self.schema.names))
        return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") or "no columns"

    def _settle_crs(self, stated: Any) -> None:
        geometry = self.geometries[0]
        if geometry.crs is None and stated is None:
            raise CoordinateError(
                f"{self.path} does not say which CRS its geometries are in. State it, for "
                "example crs='EPSG:4326' for longitude and latitude on WGS 84."
            )
        what = f"column {geometry.name!r} of {self.path.name}"
        settle_crs(geometry.crs, stated, what, must_carry=True)
        if geometry.crs is None:
            self.geometries[0] = replace(geometry, crs=CRS.from_user_input(stated))

    def read_geometries(
        self, table: pa.Table, first_row: int, on_invalid: str | None = None
    ) -> NDArray[np.object_]:
        """Read the geometries of some rows, None where there is none.

        Rows of well-known binary that are none are an error, or None with ``on_invalid="nan"``.
        """
        geometry = self.geometries[0]
        geoms = decode_geometries(
            table.column(geometry.name), geometry, first_row=first_row, on_invalid=on_invalid
        )
        check_srids(geoms, geometry, first_row)
        return geoms

    def read_places(
        self, table: pa.Table, first_row: int, *, crs: Any, **options: Any
    ) -> tuple[Places, NDArray[np.object_] | None]:
        """Read the places of some rows, and the geometries they were read from.

        Errors name rows as geopandas labels them: counted from 0 through the whole file.
        """
        index = pd.RangeIndex(first_row, first_row + len(table))
        try:
            if self.lonlat is not None:
                frame = self.coordinates(table).set_axis(index)
                lon, lat = self.lonlat
                return read_places(frame, lon=lon, lat=lat, crs=crs, **options), None
            geometry = self.geometries[0]
            geoms = self.read_geometries(table, first_row, options.get("on_invalid"))
            series = gpd.GeoSeries(geoms, index=index, crs=geometry.crs, name=geometry.name)
            return read_places(series, crs=crs, **options), geoms
        except (CoordinateError, TableError) as error:
            last = max(first_row, index.stop - 1)
            raise type(error)(
                f"{self.path.name}, rows {first_row:,} to {last:,} (the first is 0): {error}"
            ) from error


def open_source(
    path: Path,
    *,
    layer: str | None = None,
    lon: str | None = None,
    lat: str | None = None,
    crs: Any = None,
    places_only: bool = False,
    typed: bool = True,
) -> Source:
    """Open a table file for reading.

    Parameters
    ----------
    path : Path
        Its suffix says what it is.
    layer : str, optional
        Of a file that can hold several.
    lon, lat : str, optional
        Names of the coordinate columns, where they are not found by name.
    crs : any
        CRS of geometries or coordinates that do not carry one.
    places_only : bool
        Leave out all columns that places are not read from.
    typed : bool
        Make numbers of the text in a CSV file where a whole column can be read as such; false
        keeps every cell as it is spelled.

    Returns
    -------
    Source

    Raises
    ------
    TableError
        If there is no such file, its suffix is unknown, it is empty or damaged, or a layer or
        column is not there.
    CoordinateError
        If places cannot be read from it, or their CRS is unknown.
    """
    # Imported late: a run needs one of them, and each brings a library of its own.
    check_path(path)
    name = path.name.lower()
    if not path.exists():
        raise TableError(f"There is no file {path}.")
    if path.is_dir():
        raise TableError(f"{path} is a folder. Give a file.")
    if path.stat().st_size == 0:
        raise TableError(f"{path} is empty: it has 0 bytes.")
    if layer is not None and not name.endswith(VECTOR_SUFFIXES):
        raise OptionError(f"layer={layer!r}: {path.name} has no layers.")
    source: Source
    if name.endswith(VECTOR_SUFFIXES):
        from geoembed.streaming.vector_source import VectorSource

        source = VectorSource(path, layer)
    elif name.endswith(PARQUET_SUFFIXES):
        from geoembed.streaming.parquet_source import ParquetSource

        source = ParquetSource(path)
    elif name.endswith(TEXT_SUFFIXES):
        from geoembed.streaming.csv_source import CsvSource

        source = CsvSource(path, typed=typed)
    else:
        known = ", ".join((*VECTOR_SUFFIXES, *PARQUET_SUFFIXES, *TEXT_SUFFIXES))
        raise TableError(
            f"{path.name}: the suffix does not say what it is. Known: {known}. Convert it first, "
            "or read it with geopandas and call geoembed.embed()."
        )
    check_names(path, source.schema.names)
    source.settle(lon, lat, crs)
    if places_only:
        source.select(list(source.lonlat or [source.geometries[0].name]))
    return source


def check_path(path: Path) -> None:
    """Refuse a name that no library but Python's own can open."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise TableError(f"The name {os.fsencode(path)!r} is not in UTF-8. Rename it.") from error


def check_names(path: Path, names: Sequence[str]) -> None:
    """Refuse a file whose columns cannot be told apart."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise TableError(
            f"{path} has several columns named {', '.join(map(repr, repeated))}. Rename them."
        )
