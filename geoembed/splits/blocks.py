"""Blocks of the Earth that are held out whole: of equal area, of degrees, or H3 cells.

Which block a place lies in depends on the place and the size of the blocks alone,
never on the other places or on a seed.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import OptionError
from geoembed.geodesy import EARTH_RADIUS_KM
from geoembed.optional import import_optional
from geoembed.scalars import is_number, is_whole

__all__ = ["Blocks", "choose_blocks", "degree_blocks", "equal_area_blocks", "h3_blocks"]

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

DEFAULT_BLOCK_KM = 500.0

# The table of bands grows as the blocks shrink: 200,000 of them at this size.
_LEAST_KM = 0.1

# Bands start their blocks at longitudes that follow the golden ratio, so that no meridian, the
# antimeridian included, is a border in many of them.
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True)
class Blocks:
    """A way to cut the Earth into blocks, checked.

    Parameters
    ----------
    kind : {"km", "deg", "h3"}
        Blocks of equal area, of degrees, or H3 cells.
    size : float
        Kilometres, degrees, or the H3 resolution.
    """

    kind: str
    size: float

    def __str__(self) -> str:
        if self.kind == "h3":
            return f"H3 cells of resolution {self.size:g}"
        return f"blocks of {self.size:g} {'km' if self.kind == 'km' else 'degrees'}"

    def ids(self, lonlat: Floats) -> Ids:
        """Say which block each place lies in.

        Parameters
        ----------
        lonlat : ndarray of float64, shape (n, 2)
            Longitude in [-180, 180] and latitude, degrees.

        Returns
        -------
        ndarray of int64, shape (n,)
            Numbers of blocks; equal numbers, equal block.
        """
        if self.kind == "km":
            return equal_area_blocks(lonlat, self.size)
        if self.kind == "deg":
            return degree_blocks(lonlat, self.size)
        return h3_blocks(lonlat, int(self.size))


def choose_blocks(
    block_km: float | None, block_deg: float | None, h3_resolution: int | None
) -> Blocks:
    """Check the three options that choose blocks, of which at most one is given.

    Parameters
    ----------
    block_km : float or None
        Side of blocks of equal area, km; at least 0.1.
    block_deg : float or None
        Side of blocks of degrees; 180 must be a multiple of it.
    h3_resolution : int or None
        Resolution of H3 cells, 0 to 15.

    Returns
    -------
    Blocks
        Blocks of equal area of 500 km if none is given.

    Raises
    ------
    OptionError
        If several are given, or one is not what it must be.

    Examples
    --------
    >>> print(choose_blocks(None, 10, None))
    blocks of 10 degrees
    """
    given = {
        name: value
        for name, value in (
            ("block_km", block_km),
            ("block_deg", block_deg),
            ("h3_resolution", h3_resolution),
        )
        if value is not None
    }
    if len(given) > 1:
        raise OptionError(f"{' and '.join(f'{name}=' for name in given)} exclude each other.")
    if h3_resolution is not None:
        if not is_whole(h3_resolution) or not 0 <= h3_resolution <= 15:
            raise OptionError(
                f"h3_resolution={h3_resolution!r} must be a whole number from 0 (cells about "
                "2,100 km across) to 15 (about 1 m)."
            )
        return Blocks("h3", int(h3_resolution))
    if block_deg is not None:
        return Blocks("deg", _check_degrees(block_deg))
    size = DEFAULT_BLOCK_KM if block_km is None else block_km
    if not is_number(size) or not np.isfinite(size) or size < _LEAST_KM:
        raise OptionError(f"block_km={size!r} must be a number of kilometres, 0.1 or more.")
    return Blocks("km", float(size))


def equal_area_blocks(lonlat: Floats, block_km: float) -> Ids:
    """Say which block of a partition of the sphere into equal areas each place lies in.

    Parameters
    ----------
    lonlat : ndarray of float64, shape (n, 2)
        Longitude in [-180, 180] and latitude, degrees.
    block_km : float
        Side of a square of about the area of a block, km.

    Returns
    -------
    ndarray of int64, shape (n,)
        Numbers of blocks, from the south pole to the north pole.

    Notes
    -----
    A cap at each pole and bands of latitude between them, each cut into as many blocks as
    make all areas the same, after the zones of P. Leopardi (2006), "A partition of the unit
    sphere into regions of equal area and small diameter". There are as many blocks as
    squares of the side fit on the sphere, rounded; latitudes are taken as those of a
    sphere, so areas on the ellipsoid differ by less than 1 %. Blocks cross the antimeridian
    like any other meridian.

    Examples
    --------
    >>> places = np.array([[179.99, -16.5], [-179.99, -16.5], [0.0, 90.0], [120.0, 90.0]])
    >>> a, b, c, d = equal_area_blocks(places, 500)
    >>> bool(a == b), bool(c == d)
    (True, True)
    """
    edges, counts = _bands(block_km)
    band = np.searchsorted(edges[1:-1], lonlat[:, 1], side="right")
    start = 360.0 * np.mod(_GOLDEN * np.arange(len(counts)), 1.0)
    turned = np.mod(_one_seam(lonlat) - start[band], 360.0)
    # The remainder of a tiny negative number is 360 itself.
    column = np.minimum((turned * counts[band] / 360.0).astype(np.int64), counts[band] - 1)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    ids: Ids = first[band] + column
    return ids


def degree_blocks(lonlat: Floats, block_deg: float) -> Ids:
    """Say which square of a grid in degrees each place lies in, as published set-ups do.

    Parameters
    ----------
    lonlat : ndarray of float64, shape (n, 2)
        Longitude in [-180, 180] and latitude, degrees.
    block_deg : float
        Side in degrees; 180 is a multiple of it.

    Returns
    -------
    ndarray of int64, shape (n,)
        Numbers of blocks, row by row from the south-west. The lower edges belong to a block;
        a pole is one place, whatever its longitude.

    Notes
    -----
    A block of 10 degrees covers 1.23 million square km at the equator and 0.11 at a pole.
    Borders lie on multiples of the side, the antimeridian among them.

    Examples
    --------
    >>> degree_blocks(np.array([[-180.0, -90.0], [15.0, 47.0], [180.0, -90.0]]), 10).tolist()
    [0, 487, 0]
    """
    rows = round(180.0 / block_deg)
    lon = np.where(np.abs(lonlat[:, 1]) == 90.0, -180.0, _one_seam(lonlat))
    column = np.floor((lon + 180.0) / block_deg).astype(np.int64)
    row = np.floor((lonlat[:, 1] + 90.0) / block_deg).astype(np.int64)
    ids: Ids = np.minimum(row, rows - 1) * (2 * rows) + np.minimum(column, 2 * rows - 1)
    return ids


def h3_blocks(lonlat: Floats, resolution: int) -> Ids:
    """Say which H3 cell each place lies in.

    Parameters
    ----------
    lonlat : ndarray of float64, shape (n, 2)
        Longitude and latitude in degrees.
    resolution : int
        0 (122 cells of about 4.4 million square km) to 15.

    Returns
    -------
    ndarray of int64, shape (n,)
        H3 indexes. Areas of cells differ by a factor of two.

    Raises
    ------
    MissingExtraError
        If the package `h3` is not installed.

    Examples
    --------
    >>> import h3
    >>> (cell,) = h3_blocks(np.array([[2.35, 48.86]]), 3)
    >>> h3.int_to_str(cell)
    '831fb4fffffffff'
    """
    h3 = import_optional("h3.api.basic_int", extra="h3", purpose="h3_resolution=")
    cell = h3.latlng_to_cell
    lon, lat = lonlat.T.tolist()
    return np.fromiter(
        (cell(phi, lam, resolution) for lam, phi in zip(lon, lat, strict=True)), np.int64, len(lon)
    )


def _one_seam(lonlat: Floats) -> Floats:
    """Longitudes with one name for the antimeridian."""
    return np.where(lonlat[:, 0] == 180.0, -180.0, lonlat[:, 0])


@lru_cache(maxsize=8)
def _bands(block_km: float) -> tuple[Floats, Ids]:
    """Latitudes between the bands, poles included, and the number of blocks in each."""
    area = (block_km / EARTH_RADIUS_KM) ** 2
    total = round(4.0 * np.pi / area)
    if total < 2:
        return np.array([-90.0, 90.0]), np.array([1])
    area = 4.0 * np.pi / total
    cap = 2.0 * np.arcsin(np.sqrt(1.0 / total))
    collars = max(round((np.pi - 2.0 * cap) / np.sqrt(area)), 1) if total > 2 else 0
    # How many blocks lie south of each edge if collars were equally high, then rounded: whole
    # numbers, whose edges follow from the area.
    colatitude = np.linspace(cap, np.pi - cap, collars + 1)
    south = np.rint(total * np.sin(colatitude / 2.0) ** 2).astype(np.int64)
    south = np.concatenate([[0], south, [total]])
    # Half angles keep their digits at both poles.
    edges = -90.0 + np.degrees(
        2.0 * np.arctan2(np.sqrt(south.astype(float)), np.sqrt((total - south).astype(float)))
    )
    counts: Ids = np.diff(south)
    return edges, counts


def _check_degrees(block_deg: Any) -> float:
    if not is_number(block_deg) or not 1e-4 <= block_deg <= 180:
        raise OptionError(f"block_deg={block_deg!r} must be a number of degrees in [0.0001, 180].")
    rows = round(180.0 / block_deg)
    if abs(rows * block_deg - 180.0) > 1e-9 * 180.0:
        raise OptionError(
            f"block_deg={block_deg!r} does not divide 180 degrees, so some blocks would be cut: "
            f"take {180.0 / rows:.6g}, or blocks of equal area with block_km=."
        )
    return float(block_deg)
