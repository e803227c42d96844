"""Where places fall on a raster's grid, and how large its cells are on the Earth.

Pixel coordinates are (column, row), real numbers counted from the outer corner of the first
cell, so cell (c, r) spans [c, c + 1) x [r, r + 1).
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from geoembed.crs import WGS84, in_degrees, name_crs, to_wgs84
from geoembed.errors import TargetError
from geoembed.geodesy import wrap_longitude
from geoembed.targets.raster import Raster

__all__ = ["EQUATOR_M", "FLATNESS", "Grid", "authalic_sine"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Cells = NDArray[np.int64]

# WGS 84: semi-major axis in metres, and eccentricity squared.
EQUATOR_M = 6378137.0
FLATNESS = 0.0066943799901413165
_E = FLATNESS**0.5

# Pixel coordinates this close to a whole number are that number: rounding of the transform.
_SNAP = 1e-7
# A projection that sends a place further than this from where it came has wrapped it.
_RETURNS = 1e-4
# Cells whose sizes are taken to be equal: this many degrees of the Earth across.
_EVEN = 0.05
# Methods that PROJ computes on the ellipsoid; its Mollweide and Eckert are those of the sphere.
_EQUAL_AREA = frozenset(
    {
        "Albers Equal Area",
        "Equal Earth",
        "Lambert Azimuthal Equal Area",
        "Lambert Cylindrical Equal Area",
        "Sinusoidal",
    }
)


def authalic_sine(lat: Floats) -> Floats:
    """Turn latitudes into q, in which areas on the ellipsoid are even.

    Parameters
    ----------
    lat : ndarray of float64
        Degrees.

    Returns
    -------
    ndarray of float64
        The area between two latitudes, over d radians of longitude, is a^2 d / 2 times the
        difference of their q.

    Notes
    -----
    Snyder, Map Projections: a Working Manual (1987), equation 3-12.

    Examples
    --------
    >>> round(float(np.diff(authalic_sine(np.array([-90.0, 90.0])))[0] * np.pi * EQUATOR_M**2))
    510065621724089
    """
    sine = np.sin(np.radians(np.clip(lat, -90.0, 90.0)))
    q: Floats = (1.0 - FLATNESS) * (
        sine / (1.0 - FLATNESS * sine**2)
        - np.log((1.0 - _E * sine) / (1.0 + _E * sine)) / (2.0 * _E)
    )
    return q


def _few(numbers: Cells) -> tuple[Cells, Cells]:
    """Whole numbers without repeats, and which of them each is; the range, where it is short."""
    low = numbers.min(initial=0)
    if numbers.max(initial=0) - low < len(numbers):
        return np.arange(low, numbers.max(initial=0) + 1), numbers - low
    return np.unique(numbers, return_inverse=True)


@lru_cache(maxsize=32)
def _from_wgs84(crs: CRS) -> Transformer:
    try:
        return Transformer.from_crs(WGS84, crs, always_xy=True)
    except ProjError as error:
        raise TargetError(f"There is no way from WGS 84 to {name_crs(crs)}: {error}.") from error


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid of a raster.

    Parameters
    ----------
    raster : Raster
        Whose grid it is.
    """

    raster: Raster

    @cached_property
    def degrees(self) -> bool:
        """Whether the CRS has longitudes and latitudes, so that 360 degrees on is the same."""
        crs = self.raster.crs
        return crs is None or (in_degrees(crs) and not crs.is_derived)

    @cached_property
    def straight(self) -> bool:
        """Whether rows are parallels and columns meridians."""
        return self.degrees and self.raster.transform.b == 0.0 == self.raster.transform.d

    @cached_property
    def turns(self) -> list[int]:
        """Whole turns that bring longitudes in [-180, 180] onto the raster."""
        if not self.degrees:
            return [0]
        width, height, transform = self.raster.width, self.raster.height, self.raster.transform
        corners = [(0, 0), (width, 0), (0, height), (width, height)]
        lon = [transform.a * column + transform.b * row + transform.c for column, row in corners]
        first, last = np.ceil((min(lon) - 180.0) / 360.0), np.floor((max(lon) + 180.0) / 360.0)
        return [int(turn) for turn in np.arange(first, last + 1.0)]

    @cached_property
    def period(self) -> int | None:
        """Columns in a whole turn, where the raster goes round the Earth; None elsewhere."""
        if not self.straight:
            return None
        period = 360.0 / abs(self.raster.transform.a)
        # Extents are written with few digits: half a cell of a gap is none.
        return round(period) if self.raster.width >= period - 0.5 else None

    @cached_property
    def columns(self) -> int:
        """Columns without those that repeat others a whole turn on."""
        return min(self.raster.width, self.period or self.raster.width)

    def to_crs(self, lonlat: Floats) -> Floats:
        """Convert places to the CRS of the raster; infinite where there is no way.

        Longitudes keep their turn where the CRS has longitudes.
        """
        crs = self.raster.crs
        if crs is None:
            return lonlat
        wrapped = wrap_longitude(lonlat[:, 0])
        moved = np.stack(_from_wgs84(crs).transform(wrapped, lonlat[:, 1]), axis=1)
        if self.degrees:
            moved[:, 0] = lonlat[:, 0] + wrap_longitude(moved[:, 0] - wrapped)
        return moved

    def to_pixels(self, lonlat: Floats, turn: int = 0) -> Floats:
        """Find pixel coordinates (n, 2), `turn` whole turns of longitude on; NaN for no place.

        Places off the raster have theirs too, but not those that the projection cannot take.
        """
        transform = ~self.raster.transform
        east, north = self.to_crs(lonlat).T
        east = np.where(np.isfinite(east), east, np.nan) + 360.0 * turn
        north = np.where(np.isfinite(north), north, np.nan)
        pixels = np.stack(
            [
                transform.a * east + transform.b * north + transform.c,
                transform.d * east + transform.e * north + transform.f,
            ],
            axis=1,
        )
        whole = np.round(pixels)
        pixels = np.where(np.abs(pixels - whole) < _SNAP, whole, pixels)
        if not self.degrees:
            self._forget_strays(pixels, lonlat)
        return pixels

    def _forget_strays(self, pixels: Floats, lonlat: Floats) -> None:
        """Far from their centre projections may fold places onto the raster: undo that."""
        near = np.flatnonzero(
            self._within(pixels, 0.5 * max(self.raster.width, self.raster.height))
        )
        if len(near):
            back = self.to_lonlat(pixels[near])
            apart = np.abs(wrap_longitude(back[:, 0] - lonlat[near, 0]))
            apart = apart * np.cos(np.radians(lonlat[near, 1])) + np.abs(
                back[:, 1] - lonlat[near, 1]
            )
            pixels[near[~(apart < _RETURNS)]] = np.nan

    def _within(self, pixels: Floats, margin: float = 0.0) -> Flags:
        column, row = pixels.T
        inside: Flags = (column >= -margin) & (column <= self.raster.width + margin)
        inside &= (row >= -margin) & (row <= self.raster.height + margin)
        return inside

    def locate(self, lonlat: Floats) -> tuple[Floats, Flags]:
        """Find places on the raster.

        Parameters
        ----------
        lonlat : ndarray of float64, shape (n, 2)
            Degrees, longitude in [-180, 180]; NaN allowed.

        Returns
        -------
        pixels : ndarray of float64, shape (n, 2)
            Column and row; NaN off the raster.
        inside : ndarray of bool, shape (n,)
            Whether the place is on the raster, its outer edge included.
        """
        pixels = np.full(lonlat.shape, np.nan)
        inside = np.zeros(len(lonlat), dtype=np.bool_)
        for turn in self.turns:
            left = np.flatnonzero(~inside)
            found = self.to_pixels(lonlat[left], turn)
            hit = self._within(found)
            pixels[left[hit]] = found[hit]
            inside[left[hit]] = True
        if self.period is not None:
            pixels[:, 0] = np.mod(pixels[:, 0], self.period)
        return pixels, inside

    def cells_at(self, pixels: Floats) -> tuple[Cells, Cells]:
        """Rows and columns of the cells that hold pixel coordinates on the raster.

        A place between two cells belongs to the one of the larger number, the outer edge to the
        cells inside.
        """
        column = np.minimum(np.floor(pixels[:, 0]), self.raster.width - 1).astype(np.int64)
        row = np.minimum(np.floor(pixels[:, 1]), self.raster.height - 1).astype(np.int64)
        return row, column

    def to_lonlat(self, pixels: Floats) -> Floats:
        """Find the places of pixel coordinates; infinite where the CRS has none."""
        transform = self.raster.transform
        column, row = pixels.T
        east = transform.a * column + transform.b * row + transform.c
        north = transform.d * column + transform.e * row + transform.f
        if self.raster.crs is None:
            return np.stack([east, north], axis=1)
        return to_wgs84(wrap_longitude(east) if self.degrees else east, north, self.raster.crs)

    def even_rows(self, lat: Floats) -> Floats:
        """Rows of latitudes on a straight grid, counted by area within each row."""
        f, e = self.raster.transform.f, self.raster.transform.e
        linear = (lat - f) / e
        row = np.floor(linear).astype(np.int64)
        rows, which = _few(row)
        start = authalic_sine(f + e * rows)[which]
        stop = authalic_sine(f + e * (rows + 1.0))[which]
        # Rows beyond a pole have no area.
        some = start != stop
        share = (authalic_sine(lat) - start) / np.where(some, stop - start, 1.0)
        even: Floats = np.where(some, row + share, linear)
        return even

    def cell_areas(self, row: Cells, column: Cells) -> Floats:
        """Areas of cells on the ellipsoid, in square metres.

        Exact where rows are parallels and on equal-area projections of the ellipsoid. Elsewhere
        from small parallelograms on the Earth: one for each square of about 0.05 degrees, nine
        for cells that are larger.
        """
        if self.straight:
            f, e = self.raster.transform.f, self.raster.transform.e
            first = row.min(initial=self.raster.height)
            edges = authalic_sine(f + e * np.arange(first, row.max(initial=0) + 2.0))
            strip = np.abs(np.diff(edges)) * EQUATOR_M**2 / 2.0
            areas: Floats = strip[row - first] * np.radians(abs(self.raster.transform.a))
            return areas
        if self._plane_area is not None:
            return np.full(len(row), self._plane_area)
        step = self._step
        across = -(-self.raster.width // step)
        square, which = np.unique(row // step * across + column // step, return_inverse=True)
        middle = np.stack([square % across, square // across], axis=1) * step + step / 2.0
        # The last squares may be cut, and their middle off the raster.
        middle = np.minimum(middle, [self.raster.width - 0.5, self.raster.height - 0.5])
        if step > 1:
            return self._areas_at(middle, 0.5)[which]
        thirds = [(x, y) for x in (-1 / 3, 0.0, 1 / 3) for y in (-1 / 3, 0.0, 1 / 3)]
        means = sum(self._areas_at(middle + np.array(third), 1 / 6) for third in thirds) / 9.0
        return np.asarray(means)[which]

    @cached_property
    def _plane_area(self) -> float | None:
        """Area of every cell on projections that keep areas; None on others."""
        crs = self.raster.crs
        if crs is None or not crs.is_projected or crs.coordinate_operation is None:
            return None
        ellipsoid = crs.ellipsoid
        if ellipsoid is None or abs(ellipsoid.semi_major_metre - EQUATOR_M) > 1.0:
            return None
        if abs(ellipsoid.inverse_flattening - 298.257) > 0.01:
            return None
        if crs.coordinate_operation.method_name not in _EQUAL_AREA:
            return None
        metre = crs.axis_info[0].unit_conversion_factor
        return float(abs(self.raster.transform.determinant)) * metre**2

    @cached_property
    def _step(self) -> int:
        middle = np.array([[self.raster.width / 2.0, self.raster.height / 2.0]])
        side = float(np.sqrt(self._areas_at(middle, 0.5)[0])) / 111_000.0
        return int(max(1.0, _EVEN / side)) if np.isfinite(side) and side > 0.0 else 1

    def _areas_at(self, pixels: Floats, half: float) -> Floats:
        """Areas of cells around pixel coordinates, from parallelograms of twice `half` a cell."""
        ends = [
            self._vectors(pixels + half * np.array(offset))
            for offset in ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))
        ]
        across, down = ends[0] - ends[1], ends[2] - ends[3]
        radius = EQUATOR_M**2 * authalic_sine(np.array([90.0]))[0] / 2.0
        areas: Floats = np.linalg.norm(np.cross(across, down), axis=1) * radius / (2 * half) ** 2
        finite = np.isfinite(areas)
        # Cells on the rim of a world map reach beyond the world: as large as the others.
        return np.where(finite, areas, np.median(areas[finite]) if finite.any() else 0.0)

    def _vectors(self, pixels: Floats) -> Floats:
        """Unit vectors on the sphere that has the ellipsoid's areas."""
        lon, lat = self.to_lonlat(pixels).T
        with np.errstate(invalid="ignore"):
            sine = authalic_sine(lat) / authalic_sine(np.array([90.0]))
            cosine = np.sqrt(np.maximum(1.0 - sine**2, 0.0))
            lon = np.radians(lon)
            return np.stack([cosine * np.cos(lon), cosine * np.sin(lon), sine], axis=1)
