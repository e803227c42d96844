"""From arrays to what is drawn: checked rows, the grid they lie on, the filled picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from geoembed.data.lookup import check_extent, is_land
from geoembed.errors import CoordinateError, OptionError

__all__ = ["Grid", "Rows", "all_on_land", "check_rows", "find_grid", "fitting_extent", "raster"]

Floats = npt.NDArray[np.float64]

KINDS: Final = ("auto", "grid", "points")
# Share of the cells that must hold a row, so that scattered places are not taken for a grid.
_FILLED: Final = 0.05
# Cells at sea that the nearest cell on land fills, so that colours reach the coastline.
_REACH: Final = 2.0


@dataclass(frozen=True)
class Rows:
    """Usable rows, and how many were left out."""

    lon: Floats
    lat: Floats
    embedding: npt.NDArray[Any]
    left_out: int


@dataclass(frozen=True)
class Grid:
    """A regular grid, and the cell of each row: centres are ``west + column * lon_step``."""

    west: float
    south: float
    lon_step: float
    lat_step: float
    column: npt.NDArray[np.intp]
    line: npt.NDArray[np.intp]
    shape: tuple[int, int]

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """West, east, south and north of the outer cells' outer edges."""
        west, south = self.west - self.lon_step / 2, self.south - self.lat_step / 2
        lines, columns = self.shape
        return west, west + columns * self.lon_step, south, south + lines * self.lat_step


def check_rows(lon: npt.ArrayLike, lat: npt.ArrayLike, embedding: npt.ArrayLike) -> Rows:
    """Check shapes and ranges, wrap longitudes, and leave out rows that cannot be drawn."""
    vectors = np.asarray(embedding)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise OptionError(
            f"embedding must be numbers of shape (n, d): got {vectors.dtype} of {vectors.shape}."
        )
    lam, phi = _numbers("lon", lon, len(vectors)), _numbers("lat", lat, len(vectors))
    outside = np.flatnonzero(np.abs(phi) > 90)
    if len(outside):
        raise CoordinateError(
            f"Latitudes must lie in [-90, 90]: {len(outside)} of {len(phi)} do not, the first at "
            f"position {outside[0]} ({float(phi[outside[0]])!r}). The order is lon, lat."
        )
    with np.errstate(invalid="ignore"):
        # A sum is finite only if its terms are, and needs no array of n times d flags.
        usable = np.isfinite(lam + phi + vectors.sum(axis=1, dtype=np.float64))
    if np.count_nonzero(usable) < 3:
        raise OptionError(
            "A map needs at least 3 rows without missing values: got "
            f"{np.count_nonzero(usable)} of {len(usable)}."
        )
    if not usable.all():
        lam, phi, vectors = lam[usable], phi[usable], vectors[usable]
    lam = np.where(np.abs(lam) <= 180, lam, (lam + 180) % 360 - 180)
    return Rows(lam, phi, vectors, int(np.count_nonzero(~usable)))


def _numbers(name: str, values: npt.ArrayLike, count: int) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CoordinateError(f"{name} must be numbers, in degrees: {error}.") from error
    if array.shape != (count,):
        raise OptionError(
            f"{name} must have one value a row of the embedding: got shape {array.shape} for "
            f"{count} rows."
        )
    return array


def fitting_extent(rows: Rows, extent: Sequence[float] | None) -> tuple[float, float, float, float]:
    """Return the extent asked for, or one around the rows; the whole width if they span half."""
    if extent is not None:
        return check_extent(extent)
    west, east = float(rows.lon.min()), float(rows.lon.max())
    south, north = float(rows.lat.min()), float(rows.lat.max())
    margin = min(max(0.04 * max(east - west, north - south), 0.5), 4.0)
    south, north = max(south - margin, -90.0), min(north + margin, 90.0)
    if east - west > 180:
        return -180.0, south, 180.0, north
    return max(west - margin, -180.0), south, east + margin, north


def find_grid(lon: Floats, lat: Floats, kind: str) -> Grid | None:
    """Find the regular grid that the places lie on, or return None to draw points."""
    if kind not in KINDS:
        raise OptionError(f"kind={kind!r} is not one of {', '.join(map(repr, KINDS))}.")
    if kind == "points":
        return None
    columns, lines = _regular(lon), _regular(lat)
    if columns is not None and lines is not None:
        (west, lon_step, column), (south, lat_step, line) = columns, lines
        shape = (int(line.max()) + 1, int(column.max()) + 1)
        cells = shape[0] * shape[1]
        single = cells * _FILLED <= len(lon) and len(lon) == len(
            np.unique(line * shape[1] + column)
        )
        if single:
            return Grid(west, south, lon_step, lat_step, column, line, shape)
    if kind == "grid":
        raise OptionError(
            "kind='grid': the places are not the centres of a regular grid of which at least "
            f"{_FILLED:.0%} is filled, once each. Use kind='points'."
        )
    return None


def _regular(values: Floats) -> tuple[float, float, npt.NDArray[np.intp]] | None:
    """First value, step and every value's number of steps, if all lie on one ladder."""
    rungs = np.unique(np.round(values, 6))
    if len(rungs) < 2:
        return None
    width = float(values.max() - values.min())
    steps = round(width / float(np.diff(rungs).min()))
    number = (values - values.min()) / width * steps
    if steps > 1e6 or np.abs(number - np.round(number)).max() > 0.02:
        return None
    return float(values.min()), width / steps, np.round(number).astype(np.intp)


def raster(grid: Grid, values: Floats, *, over_land: bool) -> npt.NDArray[Any]:
    """Lay values of shape (n,) or (n, 3) into the grid; cells without any are masked.

    With `over_land`, empty cells near filled ones take the nearest value, because the picture is
    cut along the coast afterwards.
    """
    filled = np.zeros(grid.shape, dtype=bool)
    filled[grid.line, grid.column] = True
    picture = np.zeros((*grid.shape, *values.shape[1:]))
    picture[grid.line, grid.column] = values
    if over_land:
        distance, nearest = distance_transform_edt(~filled, return_indices=True)
        picture = picture[tuple(nearest)]
        filled = distance <= _REACH
    if values.ndim == 1:
        return np.ma.masked_array(picture, ~filled)
    return np.concatenate([picture, filled[..., None].astype(float)], axis=-1)


def all_on_land(rows: Rows) -> bool:
    """Tell whether the places keep to the land, but for a few on coasts and small islands."""
    return bool(is_land(rows.lon, rows.lat).mean() > 0.98)
