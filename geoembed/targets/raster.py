"""Rasters as their files describe them: grid, CRS, bands, missing values."""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import DatasetReader, DatasetWriter
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from geoembed.crs import settle_crs
from geoembed.errors import CoordinateError, OfflineError, OptionError, TargetError
from geoembed.weights.pulling import is_offline

__all__ = ["Band", "Raster", "are_several", "band_numbers", "opened", "read_rasters", "values_of"]

# Cells of a tile, the unit of reading: whole blocks, as many as make a read worth its call.
_TILE = 2**18
# Blocks larger than this (files without tiles or strips) are cut, which bounds the memory.
_LARGEST = 2**24

_REMOTE = re.compile(
    r"/vsi(curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)|(\w+\+)*(https?|ftp|s3|gs|az|oss)://"
)


@dataclass(frozen=True)
class Band:
    """One band of a raster.

    Parameters
    ----------
    number : int
        Counted from 1.
    label : str
        Its description in the file, ``band_1`` without one.
    nodata : tuple of float
        Stored values that mean no data.
    masked : bool
        Whether a mask band or an alpha band tells what is valid.
    scale, offset : float
        Value = stored value x scale + offset.
    palette : bool
        Whether the values are codes of a colour table.
    """

    number: int
    label: str
    nodata: tuple[float, ...]
    masked: bool
    scale: float
    offset: float
    palette: bool


@dataclass(frozen=True, eq=False)
class Raster:
    """A raster that can be opened when its cells are needed.

    Parameters
    ----------
    name : str
        What messages call it.
    source : str or rasterio dataset
        Path or address, or a dataset that its owner keeps open.
    crs : pyproj.CRS or None
        None for longitude and latitude on WGS 84.
    transform : Affine
        From (column, row) to coordinates of the CRS.
    height, width : int
        Rows and columns.
    tile : (int, int)
        Rows and columns that are read at once.
    bands : tuple of Band
        Those asked for, in that order.
    """

    name: str
    source: Any
    crs: CRS | None
    transform: Affine
    height: int
    width: int
    tile: tuple[int, int]
    bands: tuple[Band, ...]

    @contextmanager
    def open(self) -> Iterator[Any]:
        """Open the dataset, or hand out the one that was given and leave it open."""
        if isinstance(self.source, str):
            with rasterio.open(self.source) as dataset:
                yield dataset
        else:
            yield self.source


def read_rasters(
    raster: Any, band: Any = 1, *, raster_crs: Any = None, nodata: float | None = None
) -> tuple[Raster, ...]:
    """Describe one raster or several, or say what is wrong with them.

    Parameters
    ----------
    raster : path, address, open rasterio dataset, or a sequence of them
        Anything that rasterio opens.
    band : int, str, or a sequence of them
        Number from 1, or description.
    raster_crs : anything pyproj takes, optional
        CRS of rasters that do not carry one.
    nodata : float, optional
        Stored value that means no data, besides what the file says.

    Returns
    -------
    tuple of Raster
        In the order given.

    Raises
    ------
    TargetError
        If a raster cannot be opened, has no CRS and `raster_crs` does not state it, has no
        georeference, or holds complex numbers.
    OptionError
        If there is no raster, or no such band.
    OfflineError
        If a raster lies in the network and ``GEOEMBED_OFFLINE`` is set.
    """
    sources = list(raster) if are_several(raster) else [raster]
    if not sources:
        raise OptionError("raster= is an empty list: give at least one raster.")
    return tuple(_describe(source, band, raster_crs, nodata) for source in sources)


def are_several(given: Any) -> bool:
    """Whether an argument lists rasters or bands, instead of being one."""
    return isinstance(given, Sequence) and not isinstance(given, str | bytes)


def _describe(source: Any, band: Any, raster_crs: Any, nodata: float | None) -> Raster:
    with opened(source) as dataset:
        kept = str(source) if isinstance(source, str | PathLike) else source
        return _of_dataset(dataset, kept, band, raster_crs, nodata)


@contextmanager
def opened(source: Any) -> Iterator[Any]:
    """Open a path or an address, or check an open dataset; say what is wrong with either."""
    if isinstance(source, str | PathLike):
        source = str(source)
        if _REMOTE.match(source) and is_offline():
            raise OfflineError(
                f"GEOEMBED_OFFLINE is set, so the raster {source!r} was not opened. Unset it, or "
                "give a local file."
            )
        try:
            with warnings.catch_warnings():
                # What it warns of is an error of ours, with more to say.
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                dataset = rasterio.open(source)
        except RasterioIOError as error:
            raise TargetError(
                f"The raster {source!r} cannot be opened: {error}. Give a path or address that "
                "GDAL reads, such as a GeoTIFF or a VRT."
            ) from error
        with dataset:
            yield dataset
        return
    if not isinstance(source, DatasetReader | DatasetWriter | WarpedVRT):
        raise OptionError(
            f"raster= must be a path, an open rasterio dataset, or a list of them, got an object "
            f"of type {type(source).__name__}."
        )
    if source.closed:
        raise TargetError(f"The dataset {source.name!r} is closed. Open it, or give its path.")
    if source.mode not in ("r", "r+"):
        raise TargetError(f"The dataset {source.name!r} is being written. Close it, give its path.")
    yield source


def _of_dataset(
    dataset: Any, source: Any, band: Any, raster_crs: Any, nodata: float | None
) -> Raster:
    name = repr(dataset.name)
    bands = tuple(
        _band(dataset, number, name, nodata) for number in band_numbers(dataset, band, name)
    )
    transform = dataset.transform
    if transform == Affine.identity() or transform.is_degenerate:
        points = " It has ground control points: warp it first." if dataset.gcps[0] else ""
        raise TargetError(
            f"The raster {name} has no georeference, so no cell has a place.{points} Write its "
            "transform and CRS, for example with rasterio.transform.from_bounds()."
        )
    return Raster(
        name,
        source,
        _crs(dataset, raster_crs, name),
        transform,
        dataset.height,
        dataset.width,
        _tile(dataset, bands[0].number),
        bands,
    )


def band_numbers(dataset: Any, band: Any, name: str) -> list[int]:
    """Numbers of bands that are given by number or description; OptionError for others."""
    wanted = list(band) if are_several(band) else [band]
    if not wanted:
        raise OptionError("band= is an empty list: give at least one band.")
    numbers = []
    for one in wanted:
        if isinstance(one, str) and dataset.descriptions.count(one) == 1:
            numbers.append(dataset.descriptions.index(one) + 1)
        elif (
            isinstance(one, int | np.integer)
            and not isinstance(one, bool)
            and 1 <= one <= dataset.count
        ):
            numbers.append(int(one))
        else:
            named = [repr(text) for text in dataset.descriptions if text]
            raise OptionError(
                f"band={one!r}: the raster {name} has "
                + ("one band, 1" if dataset.count == 1 else f"the bands 1 to {dataset.count}")
                + (f", named {', '.join(named)}." if named else ", without names.")
            )
    return numbers


def _band(dataset: Any, number: int, name: str, nodata: float | None) -> Band:
    at = number - 1
    kind = np.dtype(dataset.dtypes[at].replace("complex_int16", "complex64")).kind
    if kind not in "fiu":
        raise TargetError(
            f"Band {number} of {name} holds {dataset.dtypes[at]}: only real numbers can be used."
        )
    flags = set(dataset.mask_flag_enums[at])
    return Band(
        number=number,
        label=dataset.descriptions[at] or f"band_{number}",
        nodata=tuple(float(v) for v in (dataset.nodatavals[at], nodata) if v is not None),
        masked=not flags & {MaskFlags.all_valid, MaskFlags.nodata},
        scale=dataset.scales[at],
        offset=dataset.offsets[at],
        palette=dataset.colorinterp[at] == ColorInterp.palette,
    )


def _crs(dataset: Any, raster_crs: Any, name: str) -> CRS | None:
    carried = None
    if dataset.crs:
        try:
            carried = CRS.from_user_input(dataset.crs)
        except CRSError as error:
            raise TargetError(f"The CRS of the raster {name} is none pyproj knows.") from error
    elif raster_crs is None:
        raise TargetError(
            f"The raster {name} has no CRS. State it: raster_crs='EPSG:4326' for longitude and "
            "latitude on WGS 84, or the CRS that applies."
        )
    try:
        return settle_crs(carried, raster_crs, f"the raster {name}", must_carry=False)
    except CoordinateError as error:
        raise TargetError(str(error).replace("crs=", "raster_crs=", 1)) from error


def _tile(dataset: Any, number: int) -> tuple[int, int]:
    """Rows and columns of the unit of reading: whole blocks, if they are not too large."""
    rows, columns = dataset.block_shapes[number - 1]
    if rows * columns > _LARGEST:
        columns = min(columns, 4096)
        rows = min(rows, _LARGEST // columns)
    if columns == dataset.width:
        return min(dataset.height, rows * max(1, _TILE // (rows * columns))), columns
    times = max(1, round((_TILE / (rows * columns)) ** 0.5)) if rows * columns < _TILE // 4 else 1
    return rows * times, columns * times


def values_of(stored: NDArray[Any], band: Band) -> NDArray[np.float64]:
    """Turn stored values into float64, scaled; NaN where they mean no data or are not finite."""
    values = stored.astype(np.float64)
    for nodata in band.nodata:
        # In the type of the band: a float32 nodata is rarely the float64 it is written as.
        with np.errstate(over="ignore"):
            missing = np.float32(nodata) if stored.dtype == np.float32 else nodata
        values[stored == missing] = np.nan
    values[~np.isfinite(values)] = np.nan
    if (band.scale, band.offset) != (1.0, 0.0):
        values = values * band.scale + band.offset
    return values
