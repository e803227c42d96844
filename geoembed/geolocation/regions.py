"""Credible regions: the smallest part of the Earth that holds a share of the probability."""

from collections.abc import Sequence
from typing import Any, Final

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from geoembed.errors import OptionError
from geoembed.geolocation.cells import EarthCells
from geoembed.geolocation.density import EarthDensity

__all__ = ["credible_regions"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

# More than a whole turn, in degrees: what lies between two parallels in their order.
_TURN: Final = 1024.0

# Sums of a hundred thousand cells end a little beside 1.
_ROUNDING: Final = 1e-12


def credible_regions(
    density: EarthDensity,
    probabilities: ArrayLike,
    *,
    shares: Sequence[float] = (0.5, 0.9),
    names: Sequence[str] | None = None,
) -> gpd.GeoDataFrame:
    """Draw the highest-density regions of every query.

    Cells are taken from the densest on until they hold the share, and joined.

    Parameters
    ----------
    density : EarthDensity
        Where the cells lie.
    probabilities : array of shape (m, c)
        From `EarthDensity.probabilities`.
    shares : sequence of float
        Strictly between 0 and 1.
    names : sequence of m str, optional
        What the queries are called; their position if not given.

    Returns
    -------
    GeoDataFrame
        EPSG:4326, a row a query and share: ``query``, ``share`` as asked for, ``mass`` that the
        region holds (at least the share, one cell too much at most), ``area_km2`` and
        ``geometry``, valid polygons cut at the antimeridian.

    Raises
    ------
    OptionError
        If a shape or share does not fit.

    Examples
    --------
    >>> density = EarthDensity([[2.35, 48.86], [-58.4, -34.6]], cell_km=200)
    >>> found = credible_regions(density, density.probabilities([[0.9, 0.1]], tau=0.1))
    >>> found["share"].tolist(), bool(found.geometry.is_valid.all())
    ([0.5, 0.9], True)
    """
    mass = np.atleast_2d(np.asarray(probabilities, dtype=np.float64))
    if mass.ndim != 2 or mass.shape[1] != len(density):
        raise OptionError(
            f"probabilities have the shape {mass.shape}: give (m, {len(density):,}), one a cell."
        )
    if not all(0.0 < share < 1.0 for share in shares):
        raise OptionError(f"shares={shares!r}: give shares strictly between 0 and 1.")
    called = [str(i) for i in range(len(mass))] if names is None else list(names)
    if len(called) != len(mass):
        raise OptionError(f"names= has {len(called):,} entries for {len(mass):,} queries.")
    least = (1.0 - max(shares, default=0.0)) / 2.0 / density.areas_km2.sum()
    rows = []
    for name, row in zip(called, mass, strict=True):
        total, dense = float(row.sum()), row / density.areas_km2
        # Cells thinner than this hold half of what no region needs at most: they need no sorting.
        heavy = np.flatnonzero(dense >= least * total)
        order = heavy[np.argsort(-dense[heavy], kind="stable")]
        gathered = np.cumsum(row[order])
        for share in shares:
            count = int(np.searchsorted(gathered, share * total - _ROUNDING)) + 1
            chosen = np.sort(order[:count])
            rows.append(
                {
                    "query": name,
                    "share": float(share),
                    "mass": float(row[chosen].sum()),
                    "area_km2": float(density.areas_km2[chosen].sum()),
                    "geometry": _joined(density.cells, density.cell[chosen]),
                }
            )
    columns = ["query", "share", "mass", "area_km2", "geometry"]
    return gpd.GeoDataFrame(rows, columns=columns, geometry="geometry", crs="EPSG:4326")


def _joined(cells: EarthCells, chosen: Rows) -> shapely.MultiPolygon:
    """Join cells, ascending: neighbours in a band first, then bands along what they share."""
    bounds = cells.bounds(chosen)
    new = np.ones(len(chosen), dtype=np.bool_)
    new[1:] = (np.diff(chosen) != 1) | (bounds[1:, 1] != bounds[:-1, 1])
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(chosen)) - 1
    west, south, _, north = bounds[first].T
    runs = _with_corners(west, south, bounds[last, 2], north)
    return shapely.MultiPolygon(list(shapely.get_parts(shapely.coverage_union_all(runs))))


def _with_corners(west: Floats, south: Floats, east: Floats, north: Floats) -> Any:
    """Make boxes that have a corner wherever one above or below has one.

    Bands are cut at meridians of their own. With these corners boxes are a coverage, which is
    joined several times as fast as polygons that may overlap: edges that occur twice are dropped.
    """
    corners = np.unique(
        np.column_stack(
            [np.concatenate([south, south, north, north]), np.concatenate([west, east] * 2)]
        ),
        axis=0,
    )
    parallels, number = np.unique(corners[:, 0], return_inverse=True)
    # In the order of the corners: a parallel after the other, each from west to east.
    along = number * _TURN + corners[:, 1]

    def between(lat: Floats) -> tuple[Rows, Rows]:
        start = np.searchsorted(parallels, lat) * _TURN
        return np.searchsorted(along, start + west), np.searchsorted(along, start + east)

    (south_west, south_east), (north_west, north_east) = between(south), between(north)
    # Eastwards along the south, westwards along the north, and back to the first corner.
    there, back = south_east - south_west + 1, north_east - north_west + 1
    length = there + back + 1
    box = np.repeat(np.arange(len(west)), length)
    step = np.arange(len(box)) - np.repeat(np.cumsum(length) - length, length)
    turned = step - there[box]
    corner = np.where(turned < 0, south_west[box] + step, north_east[box] - turned)
    corner = np.where(turned == back[box], south_west[box], corner)
    return shapely.polygons(shapely.linearrings(corners[corner][:, ::-1], indices=box))
