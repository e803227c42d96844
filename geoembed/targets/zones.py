"""What a raster holds around points and inside polygons: shares of classes, and means."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from geoembed.errors import OptionError, TargetError
from geoembed.targets.areas import Areas, read_areas
from geoembed.targets.gathering import Totals, gather
from geoembed.targets.names import class_names
from geoembed.targets.raster import Raster, are_several, read_rasters
from geoembed.targets.sampling import band_labels, check_on_outside, report_outside

__all__ = ["class_fractions", "zonal_mean"]

Floats = NDArray[np.float64]

# A raster with more different values holds measurements, not classes.
_MOST_CLASSES = 1024
# Sums over cells and areas of whole shapes agree to this: their edges bend a little differently.
_ROUNDING = 1e-4


def class_fractions(
    places: Any,
    raster: Any,
    band: Any = 1,
    *,
    radius_m: ArrayLike | None = None,
    classes: Mapping[Any, str] | Iterable[Any] | None = None,
    rest: str | None = None,
    min_valid: float = 0.5,
    valid_column: str | None = None,
    crs: Any = None,
    raster_crs: Any = None,
    nodata: float | None = None,
    repair: bool = False,
    on_outside: str = "nan",
    on_invalid: str = "raise",
) -> pd.DataFrame:
    """Measure the share of each class around points or inside polygons.

    Parameters
    ----------
    places : points or polygons, any input of `geoembed.read_places`
        Points need `radius_m`; Polygons and MultiPolygons must come without it.
    raster : path, address, open rasterio dataset, or a list of them
        In any CRS and type. Of several, the first that has a value at a place gives it.
    band : int or str
        Number from 1, or description.
    radius_m : float or array_like of shape (n,), optional
        Radius in metres of the geodesic disc around each point, at most 5,000,000.
    classes : mapping of value to name, or iterable of values, optional
        Classes to report, in this order; values of one name are added up. Without it
        all classes that occur, by value, named as the file names them.
    rest : str, optional
        What to do with values that are not among `classes`: the name of a column that
        takes them, or ``"nodata"`` to leave them out as if there were no data. An error
        without it.
    min_valid : float
        Share of an area that must have data, from 0 to 1; rows with less are NaN.
    valid_column : str, optional
        Name of a last column with the share of each area that has data. None is added
        without it, so that all columns are fractions.
    crs : any
        CRS of places that do not carry one; lon/lat on WGS 84 without it.
    raster_crs : any
        CRS of rasters that do not carry one.
    nodata : float, optional
        Stored value that means no data, besides what the file says.
    repair : bool
        Make polygons that cross themselves valid, instead of refusing them.
    on_outside : {"nan", "raise"}
        What becomes of areas of which less than `min_valid` lies on the raster: NaN and an
        `OutsideRasterWarning` with their number, or an error.
    on_invalid : {"raise", "nan"}
        What becomes of rows without a place.

    Returns
    -------
    DataFrame
        float64, with the index of the places. Columns are names, or values where a class
        has no name (whole numbers as int). Rows sum to 1 over the part of the area that has
        data, or are NaN.

    Raises
    ------
    TargetError
        If the raster cannot be opened or read, has no CRS or georeference, or holds more than
        1,024 different values; if values are not among `classes` and `rest` does not say
        what to do; if polygons cross themselves; if areas are off the raster and
        ``on_outside="raise"``.
    CoordinateError
        If the places cannot be read.
    OptionError
        If an option or a band is not one of those offered, or points come without `radius_m`.
    OfflineError
        If the raster lies in the network and ``GEOEMBED_OFFLINE`` is set.

    Notes
    -----
    A cell counts with the area, on the ellipsoid, of that part of it which lies in the disc or
    polygon, computed exactly and not by whether its centre is inside: discs smaller
    than a cell are as right as large ones. Edges of polygons are straight in lon/lat.

    Areas are sorted by the tiles of the raster and measured many at a time; memory does not
    grow with the raster.

    Examples
    --------
    >>> import numpy as np, rasterio
    >>> land = np.repeat(np.array([[0, 1]], dtype="uint8"), 180, axis=1)  # west 0, east 1
    >>> profile = dict(driver="GTiff", dtype="uint8", count=1, width=360, height=1, crs=4326)
    >>> with rasterio.MemoryFile() as memory:
    ...     with memory.open(transform=rasterio.Affine(1, 0, -180, 0, -180, 90), **profile) as new:
    ...         new.write(land, 1)
    ...     with memory.open() as raster:
    ...         names = {0: "west", 1: "east"}
    ...         class_fractions([[0, 50], [-180, 0], [9, 9]], raster, radius_m=1e5, classes=names)
       west  east
    0   0.5   0.5
    1   0.5   0.5
    2   0.0   1.0
    """
    if are_several(band):
        raise OptionError("band= must be a single band: classes of several bands do not mix.")
    _check_options(min_valid, on_outside, rest, classes)
    rasters = read_rasters(raster, band, raster_crs=raster_crs, nodata=nodata)
    areas = read_areas(places, radius_m, crs=crs, repair=repair, on_invalid=on_invalid)
    totals = Totals(np.zeros(len(areas)), np.zeros(len(areas)))
    columns: dict[float, Floats] = {}
    for portion in gather(rasters, areas, totals):
        valid = ~np.isnan(portion.values[0])
        codes, which = _codes(portion.values[0, valid])
        row, area = portion.row[valid], portion.area[valid]
        if len(codes) + len(columns) > _MOST_CLASSES:
            raise TargetError(
                f"The raster {rasters[0].name} holds more than {_MOST_CLASSES:,} different values: "
                "these are measurements, no classes. Take zonal_mean()."
            )
        owners, owner = np.unique(row, return_inverse=True)
        sums = np.bincount(which * len(owners) + owner, area, len(codes) * len(owners))
        for code, added in zip(codes, sums.reshape(len(codes), -1), strict=True):
            columns.setdefault(float(code), np.zeros(len(areas)))[owners] += added
    names = _choose(columns, classes, rest, rasters)
    frame = _merge(columns, names, len(areas))
    valid_area = frame.sum(axis=1).to_numpy()
    enough = _settle(areas, totals, valid_area, min_valid, on_outside)
    shares = frame.to_numpy() / np.where(enough, valid_area, np.nan)[:, None]
    result = pd.DataFrame(shares, index=areas.index, columns=frame.columns)
    return _with_valid(result, valid_column, valid_area, totals)


def zonal_mean(
    places: Any,
    raster: Any,
    band: Any = 1,
    *,
    radius_m: ArrayLike | None = None,
    min_valid: float = 0.5,
    valid_column: str | None = None,
    crs: Any = None,
    raster_crs: Any = None,
    nodata: float | None = None,
    repair: bool = False,
    on_outside: str = "nan",
    on_invalid: str = "raise",
) -> pd.Series | pd.DataFrame:
    """Average a raster around points or inside polygons, weighted by area.

    Parameters
    ----------
    places : points or polygons, any input of `geoembed.read_places`
        Points need `radius_m`; Polygons and MultiPolygons must come without it.
    raster : path, address, open rasterio dataset, or a list of them
        In any CRS and type. Of several, the first that has a value at a place gives it.
    band : int, str, or a list of them
        Number from 1, or description; a list gives a DataFrame.
    radius_m : float or array_like of shape (n,), optional
        Radius in metres of the geodesic disc around each point, at most 5,000,000.
    min_valid : float
        Share of an area that must have data, from 0 to 1; rows with less are NaN.
    valid_column : str, optional
        Name of a last column with the share of each area that has data in the first of the
        bands; the result is a DataFrame then.
    crs : any
        CRS of places that do not carry one; lon/lat on WGS 84 without it.
    raster_crs : any
        CRS of rasters that do not carry one.
    nodata : float, optional
        Stored value that means no data, besides what the file says.
    repair : bool
        Make polygons that cross themselves valid, instead of refusing them.
    on_outside : {"nan", "raise"}
        What becomes of areas of which less than `min_valid` lies on the raster: NaN and an
        `OutsideRasterWarning` with their number, or an error.
    on_invalid : {"raise", "nan"}
        What becomes of rows without a place.

    Returns
    -------
    Series or DataFrame
        float64, with the index of the places, named like the bands; scaled by scale and offset.

    Raises
    ------
    TargetError
        If the raster cannot be opened or read, has no CRS or georeference, or its band has a
        colour table; if polygons cross themselves; if areas are off the raster and
        ``on_outside="raise"``.
    CoordinateError
        If the places cannot be read.
    OptionError
        If an option or a band is not one of those offered, or points come without `radius_m`.
    OfflineError
        If the raster lies in the network and ``GEOEMBED_OFFLINE`` is set.

    Notes
    -----
    Cells count as in `class_fractions`.

    Examples
    --------
    >>> import numpy as np, rasterio
    >>> lat = np.linspace(89.5, -89.5, 180)[:, None]
    >>> profile = dict(driver="GTiff", dtype="float64", count=1, width=360, height=180, crs=4326)
    >>> with rasterio.MemoryFile() as memory:
    ...     with memory.open(transform=rasterio.Affine(1, 0, -180, 0, -1, 90), **profile) as new:
    ...         new.write(np.tile(lat, 360), 1)
    ...     with memory.open() as raster:
    ...         zonal_mean([[180, 0], [20, -40]], raster, radius_m=500_000).round(1)
    0     0.0
    1   -40.0
    Name: band_1, dtype: float64
    """
    _check_options(min_valid, on_outside, None, None)
    rasters = read_rasters(raster, band, raster_crs=raster_crs, nodata=nodata)
    for one in rasters:
        if any(found.palette for found in one.bands):
            raise TargetError(
                f"The raster {one.name} has a colour table: its values are codes of classes, whose "
                "mean means nothing. Take class_fractions()."
            )
    areas = read_areas(places, radius_m, crs=crs, repair=repair, on_invalid=on_invalid)
    totals = Totals(np.zeros(len(areas)), np.zeros(len(areas)))
    sums, weights = np.zeros((2, len(rasters[0].bands), len(areas)))
    for portion in gather(rasters, areas, totals):
        for at, values in enumerate(portion.values):
            weight = np.where(np.isnan(values), 0.0, portion.area)
            weights[at] += np.bincount(portion.row, weight, len(areas))
            sums[at] += np.bincount(portion.row, np.nan_to_num(values) * weight, len(areas))
    _settle(areas, totals, weights[0], min_valid, on_outside)
    enough = (weights > 0.0) & (weights >= (min_valid - _ROUNDING) * totals.area)
    means = np.where(enough, sums / np.where(enough, weights, 1.0), np.nan)
    frame = pd.DataFrame(means.T, index=areas.index, columns=band_labels(rasters[0], band))
    frame = _with_valid(frame, valid_column, weights[0], totals)
    return frame if are_several(band) or valid_column is not None else frame.iloc[:, 0]


def _check_options(min_valid: float, on_outside: str, rest: Any, classes: Any) -> None:
    check_on_outside(on_outside)
    if not 0.0 <= min_valid <= 1.0:
        raise OptionError(f"min_valid={min_valid!r} must be a share from 0 to 1.")
    if rest is not None and classes is None:
        raise OptionError("rest= applies to values that are not among classes=: give classes=.")


def _codes(values: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Different values, and which of them each is; quick for the small whole numbers of classes."""
    low = values.min(initial=0.0)
    if len(values) and values.max() - low < 65536.0 and not np.any(values % 1.0):
        which = (values - low).astype(np.intp)
        counts = np.bincount(which)
        found = np.flatnonzero(counts)
        place = np.zeros(len(counts), dtype=np.intp)
        place[found] = np.arange(len(found))
        return found + low, place[which]
    return np.unique(values, return_inverse=True)


def _choose(
    columns: dict[float, Floats], classes: Any, rest: str | None, rasters: tuple[Raster, ...]
) -> dict[float, Any]:
    """Value -> column that takes it, in the order of the columns."""
    if classes is None:
        named: dict[float, str] = {}
        for raster in reversed(rasters):
            named |= class_names(raster.source, raster.bands[0].number)
        return {code: named.get(code, _plain(code)) for code in sorted(columns)}
    chosen: dict[float, Any] = (
        {float(code): name for code, name in classes.items()}
        if isinstance(classes, Mapping)
        else {float(code): _plain(code) for code in classes}
    )
    unknown = [code for code in sorted(columns) if code not in chosen]
    if unknown and rest is None:
        share = sum(columns[code].sum() for code in unknown) / sum(map(np.sum, columns.values()))
        raise TargetError(
            f"The raster holds values that are not among classes=: "
            f"{', '.join(f'{code:g}' for code in unknown[:10])}"
            f"{', ...' if len(unknown) > 10 else ''} ({share:.2%} of the area). Add them, or pass "
            "rest='other' for a column of that name, or rest='nodata' to leave them out."
        )
    if rest is not None and rest != "nodata":
        if rest in chosen.values():
            raise OptionError(f"rest={rest!r} is the name of a class. Choose another.")
        # The key that no value has keeps the column, whether or not there is any rest.
        chosen |= dict.fromkeys(unknown or [np.inf], rest)
    return chosen


def _plain(code: Any) -> int | float:
    return int(code) if float(code).is_integer() else float(code)


def _merge(columns: dict[float, Floats], names: dict[float, Any], count: int) -> pd.DataFrame:
    merged: dict[Any, Floats] = {name: np.zeros(count) for name in names.values()}
    for code, name in names.items():
        if code in columns:
            merged[name] += columns[code]
    return pd.DataFrame(merged, index=pd.RangeIndex(count))


def _settle(
    areas: Areas, totals: Totals, valid_area: Floats, min_valid: float, on_outside: str
) -> NDArray[np.bool_]:
    """Report areas off the raster; say which have enough data."""
    least = (min_valid - _ROUNDING) * totals.area
    outside = areas.valid & ((totals.inside <= 0.0) | (totals.inside < least))
    report_outside(outside, areas.index, on_outside, "areas", stacklevel=4)
    enough: NDArray[np.bool_] = (valid_area > 0.0) & (valid_area >= least)
    return enough


def _with_valid(
    frame: pd.DataFrame, name: str | None, valid_area: Floats, totals: Totals
) -> pd.DataFrame:
    if name is None:
        return frame
    if name in frame.columns:
        raise OptionError(f"valid_column={name!r} is the name of another column. Choose another.")
    known = totals.area > 0.0
    share = np.where(known, valid_area / np.where(known, totals.area, 1.0), np.nan)
    # A hundredth of a percent is no gap.
    return frame.assign(**{name: np.where(share > 1.0 - _ROUNDING, 1.0, share)})
