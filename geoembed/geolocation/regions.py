"""Credible regions: the smallest part of the Earth that holds a share of the probability."""

from collections.abc import Sequence
from typing import Final

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
    rows = []
    for name, row in zip(called, mass, strict=True):
        order = np.argsort(-row / density.areas_km2, kind="stable")
        gathered = np.cumsum(row[order])
        for share in shares:
            count = int(np.searchsorted(gathered, share * gathered[-1] - _ROUNDING)) + 1
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
    """Join cells, ascending: neighbours in a band first, which leaves few boxes to unite."""
    bounds = cells.bounds(chosen)
    new = np.ones(len(chosen), dtype=np.bool_)
    new[1:] = (np.diff(chosen) != 1) | (bounds[1:, 1] != bounds[:-1, 1])
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(chosen)) - 1
    west, south, _, north = bounds[first].T
    boxes = shapely.box(west, south, bounds[last, 2], north)
    return shapely.MultiPolygon(list(shapely.get_parts(shapely.union_all(boxes))))
