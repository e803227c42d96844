"""Values of rasters at points."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from geoembed.columns import name_rows
from geoembed.coordinates import read_places
from geoembed.errors import OptionError, TargetError
from geoembed.targets.cells import read_cells
from geoembed.targets.grids import Grid
from geoembed.targets.raster import Raster, are_several, read_rasters

__all__ = ["OutsideRasterWarning", "report_outside", "sample_raster"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class OutsideRasterWarning(UserWarning):
    """Places that lie off the raster; their values are NaN."""


def sample_raster(
    points: Any,
    raster: Any,
    band: Any = 1,
    *,
    method: str = "nearest",
    classes: Mapping[Any, str] | None = None,
    crs: Any = None,
    raster_crs: Any = None,
    nodata: float | None = None,
    on_outside: str = "nan",
    on_invalid: str = "raise",
) -> pd.Series | pd.DataFrame:
    """Read the values of a raster at points.

    Parameters
    ----------
    points : any input of `geoembed.read_places`
        Points, in any CRS.
    raster : path, address, open rasterio dataset, or a list of them
        In any CRS and type. Of several, the first that has a value at a point gives it.
    band : int, str, or a list of them
        Number from 1, or description; a list gives a DataFrame.
    method : {"nearest", "bilinear"}
        The value of the cell that holds the point, or a mean of the four cells whose centres are
        around it, weighted by nearness.
    classes : mapping of value to name, optional
        Names to return instead of values; a value without one is an error.
    crs : any
        CRS of points that do not carry one; lon/lat on WGS 84 without it.
    raster_crs : any
        CRS of rasters that do not carry one.
    nodata : float, optional
        Stored value that means no data, besides what the file says.
    on_outside : {"nan", "raise"}
        What becomes of points off the raster: NaN and an `OutsideRasterWarning`
        with their number, or an error.
    on_invalid : {"raise", "nan"}
        What becomes of rows without a place, as in `geoembed.read_places`.

    Returns
    -------
    Series or DataFrame
        With the index of the points; float64, scaled by the band's scale and offset, or a
        Categorical of names with `classes`. NaN where the raster has no data. Named
        like the band: its description, or ``band_1``.

    Raises
    ------
    TargetError
        If the raster cannot be opened or read, has no CRS or georeference; if points are off the
        raster and ``on_outside="raise"``; if ``method="bilinear"`` meets a colour table; if
        a value has no name in `classes`.
    CoordinateError
        If the points cannot be read.
    OptionError
        If an option or a band is not one of those offered.
    OfflineError
        If the raster lies in the network and ``GEOEMBED_OFFLINE`` is set.

    Notes
    -----
    A point between two cells belongs to the one east or south of it (of the larger column and
    row), on the outer edge to the cell inside. Bilinear interpolation leaves cells without data
    out, gives NaN where the point's own cell has none, wraps over the antimeridian and the
    poles where the raster goes round the Earth, and repeats the outer cells elsewhere.

    Points are sorted by the tiles of the raster, so that each is read once. Memory is that of
    one tile and of the points.

    Examples
    --------
    >>> import numpy as np, rasterio
    >>> lat = np.linspace(89.5, -89.5, 180)[:, None]
    >>> profile = dict(driver="GTiff", dtype="float64", count=1, width=360, height=180, crs=4326)
    >>> with rasterio.MemoryFile() as memory:
    ...     with memory.open(transform=rasterio.Affine(1, 0, -180, 0, -1, 90), **profile) as new:
    ...         new.write(np.tile(lat, 360), 1)
    ...     with memory.open() as raster:
    ...         sample_raster([[7.3, 47.2], [-180, 12.75]], raster, method="bilinear").round(6)
    0    47.20
    1    12.75
    Name: band_1, dtype: float64
    """
    if method not in ("nearest", "bilinear"):
        raise OptionError(f"method={method!r} is not offered: choose 'nearest' or 'bilinear'.")
    check_on_outside(on_outside)
    rasters = read_rasters(raster, band, raster_crs=raster_crs, nodata=nodata)
    if method == "bilinear":
        _refuse_classes(rasters, classes)
    places = read_places(points, crs=crs, on_invalid=on_invalid)
    labels = band_labels(rasters[0], band)
    values = np.full((len(labels), len(places)), np.nan)
    covered = ~places.valid
    waiting = np.flatnonzero(places.valid)
    for one in rasters:
        found, inside = _sample(Grid(one), places.lonlat[waiting], method)
        values[:, waiting] = found
        covered[waiting[inside]] = True
        waiting = waiting[np.isnan(found).any(axis=0)]
    report_outside(~covered, places.index, on_outside, "points")
    frame = pd.DataFrame(dict(enumerate(values)), index=places.index)
    frame.columns = pd.Index(labels)
    if classes is not None:
        frame = frame.apply(lambda column: _name(column, classes))
    several = are_several(band)
    return frame if several else frame.iloc[:, 0]


def check_on_outside(on_outside: str) -> None:
    """Raise OptionError unless `on_outside` is one of the two offered."""
    if on_outside not in ("nan", "raise"):
        raise OptionError(f"on_outside={on_outside!r} is not offered: choose 'nan' or 'raise'.")


def band_labels(raster: Raster, band: Any) -> list[str]:
    """Names of the bands asked for; a name that occurs twice is followed by the number."""
    labels = [one.label for one in raster.bands]
    return [
        f"{one.label}_{one.number}" if labels.count(one.label) > 1 else one.label
        for one in raster.bands
    ]


def report_outside(
    outside: Flags, index: pd.Index, on_outside: str, what: str, *, stacklevel: int = 3
) -> None:
    """Warn of places off the raster with their number, or raise TargetError."""
    if outside.any():
        message = (
            f"{np.count_nonzero(outside):,} of {len(outside):,} {what} lie off the raster: "
            f"{name_rows(index, outside)}."
        )
        if on_outside == "raise":
            raise TargetError(
                f"{message} Leave them out, or pass on_outside='nan' to keep them as NaN."
            )
        warnings.warn(
            f"{message} Their values are NaN.", OutsideRasterWarning, stacklevel=stacklevel
        )


def _refuse_classes(rasters: tuple[Raster, ...], classes: Any) -> None:
    palette = any(band.palette for one in rasters for band in one.bands)
    if palette or classes is not None:
        raise TargetError(
            "method='bilinear' would average the codes of classes"
            + (" (the band has a colour table)" if palette else "")
            + ". Take method='nearest', or class_fractions() for the classes around."
        )


def _name(values: pd.Series, classes: Mapping[Any, str]) -> pd.Series:
    known = {float(value): name for value, name in classes.items()}
    unknown = values.notna() & ~values.isin(list(known))
    if unknown.any():
        found = ", ".join(f"{value:g}" for value in np.unique(values[unknown])[:10])
        raise TargetError(
            f"{unknown.sum():,} of {len(values):,} points have values that classes= does not "
            f"name: {found}. Name them too."
        )
    names = list(dict.fromkeys(known.values()))
    return pd.Series(pd.Categorical(values.map(known), names), index=values.index)


def _sample(grid: Grid, lonlat: Floats, method: str) -> tuple[Floats, Flags]:
    """Values (bands, n) at places, NaN where there are none, and which places are on the grid."""
    pixels, inside = grid.locate(lonlat)
    values = np.full((len(grid.raster.bands), len(lonlat)), np.nan)
    on = pixels[inside]
    own_row, own_column = grid.cells_at(on)
    if method == "nearest":
        values[:, inside] = read_cells(grid.raster, own_row, own_column)
        return values, inside
    row, column, weight = _corners(grid, on)
    # All five lookups of a point in one pass over the tiles.
    rows, columns = np.vstack([row, own_row[None]]), np.vstack([column, own_column[None]])
    read = read_cells(grid.raster, rows.ravel(), columns.ravel()).reshape(-1, *rows.shape)
    around, own = read[:, :4], read[:, 4]
    weights = np.where(np.isnan(around), 0.0, weight)
    total = weights.sum(axis=1)
    mean = (np.nan_to_num(around) * weights).sum(axis=1) / np.where(total > 0.0, total, 1.0)
    values[:, inside] = np.where(np.isnan(own) | (total == 0.0), np.nan, mean)
    return values, inside


def _corners(grid: Grid, pixels: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Rows, columns and weights (4, n) of the cells whose centres are around each place."""
    low = np.floor(pixels - 0.5)
    part = pixels - 0.5 - low
    rows, columns, weights = [], [], []
    for down in (0, 1):
        for across in (0, 1):
            columns.append(low[:, 0] + across)
            rows.append(low[:, 1] + down)
            weights.append(np.abs(1 - across - part[:, 0]) * np.abs(1 - down - part[:, 1]))
    row, column = np.array(rows), np.array(columns)
    height, width, period = grid.raster.height, grid.raster.width, grid.period
    beyond = (row < 0) | (row > height - 1)
    row = np.clip(row, 0, height - 1)
    if period is None:
        column = np.clip(column, 0, width - 1)
    else:
        if period % 2 == 0:
            # Over a pole lies the same row on the other side of the Earth.
            column = np.where(beyond & _at_pole(grid, row), column + period // 2, column)
        column = np.mod(column, period)
    return row.astype(np.int64), column.astype(np.int64), np.array(weights)


def _at_pole(grid: Grid, row: Floats) -> Flags:
    """Whether the outer edge of a first or last row is a pole."""
    transform = grid.raster.transform
    edge = transform.f + transform.e * np.where(row > 0, grid.raster.height, 0)
    at: Flags = np.abs(np.abs(edge) - 90.0) < 1e-6 * abs(transform.e)
    return at
