"""Polygons of any input as valid parts in lon/lat, without jumps over the antimeridian."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from geoembed.columns import name_rows
from geoembed.crs import settle_crs, to_wgs84
from geoembed.errors import CoordinateError, OptionError, TargetError
from geoembed.inputs import find_input
from geoembed.parts import crosses, decompose, explode

__all__ = ["Polygons", "check_on_invalid", "read_polygons"]

Rows = NDArray[np.intp]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons read from any input, in its order.

    Parameters
    ----------
    geoms : ndarray of object, shape (n,)
        Polygons and MultiPolygons in lon/lat degrees, as they were drawn; None for invalid rows.
    valid : ndarray of bool, shape (n,)
        Whether the row has a polygon.
    index : pandas.Index, length n
        Labels of the input's rows.
    """

    geoms: NDArray[np.object_]
    valid: Flags
    index: pd.Index

    def __len__(self) -> int:
        return len(self.valid)

    def parts(self, rows: Rows) -> tuple[NDArray[np.object_], Rows]:
        """Simple polygons that make up the given rows, and the place in `rows` of each.

        Edges over 180 degrees long cross the antimeridian: longitudes of a part do not jump, and
        may leave [-180, 180].
        """
        parts, owner = decompose(self.geoms[rows])
        areal = shapely.get_dimensions(parts) == 2
        return parts[areal], owner[areal]


def check_on_invalid(on_invalid: str) -> None:
    """Raise OptionError unless `on_invalid` is one of the two that keep the number of rows."""
    if on_invalid not in ("raise", "nan"):
        raise OptionError(f"on_invalid={on_invalid!r} is not offered: choose 'raise' or 'nan'.")


def read_polygons(
    data: Any,
    *,
    crs: Any = None,
    repair: bool = False,
    on_invalid: str = "raise",
    what: str = "polygons",
) -> Polygons:
    """Read polygons; refuse what is none, and what crosses itself.

    Parameters
    ----------
    data : GeoDataFrame, GeoSeries, geometry or sequence of geometries
        Polygons and MultiPolygons.
    crs : anything pyproj takes, optional
        CRS of geometries that do not carry one; bare geometries are lon/lat without it.
    repair : bool
        Make polygons that cross themselves valid, instead of refusing them.
    on_invalid : {"raise", "nan"}
        What becomes of rows that are missing, empty or not finite.
    what : str
        Name of the argument, for messages.

    Returns
    -------
    Polygons
        As many rows as the input has.

    Raises
    ------
    CoordinateError
        If `data` has no geometries, or a geopandas object no CRS.
    TargetError
        If there are points or lines, rows without a polygon, or polygons that cross themselves.
    """
    check_on_invalid(on_invalid)
    found = find_input(data, None, None)
    if found.geoms is None:
        raise CoordinateError(f"{what} must be geometries, and here are numbers only.")
    source = settle_crs(found.crs, crs, found.what, must_carry=found.carries_crs)
    geoms = found.geoms.copy()
    _check_kinds(geoms, found.index, what)
    coordinates, row = shapely.get_coordinates(geoms, return_index=True)
    if source is not None:
        coordinates = to_wgs84(coordinates[:, 0], coordinates[:, 1], source)
        geoms = shapely.set_coordinates(geoms, coordinates)
    usable = ~(shapely.is_missing(geoms) | shapely.is_empty(geoms))
    usable[row[~np.isfinite(coordinates).all(axis=1)]] = False
    if not usable.all() and on_invalid == "raise":
        raise TargetError(
            f"{np.count_nonzero(~usable):,} of {len(usable):,} {what} are missing, empty or not "
            f"finite: {name_rows(found.index, ~usable)}. Remove or correct them"
            + (", or pass on_invalid='nan'." if what == "areas" else ".")
        )
    beyond = np.zeros(len(geoms), dtype=np.bool_)
    beyond[row[np.abs(coordinates[:, 1]) > 90.0 + 1e-9]] = True
    if (beyond & usable).any():
        raise CoordinateError(
            f"Latitudes outside [-90, 90] in {name_rows(found.index, beyond & usable)} of "
            f"{found.what}. State the CRS of projected coordinates; the order is lon, lat."
        )
    geoms[~usable] = None
    if not repair:
        _check_simple(geoms, found.index, what)
    return Polygons(geoms, usable, found.index)


def _check_kinds(geoms: NDArray[np.object_], index: pd.Index, what: str) -> None:
    kinds = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
    wrong = ~np.isin(shapely.get_type_id(geoms), [-1, *kinds]) & ~shapely.is_empty(geoms)
    if wrong.any():
        rows = name_rows(index, wrong, lambda at: geoms[at].geom_type)
        hint = " For points give radius_m=, the radius of a disc." if what == "areas" else ""
        raise TargetError(
            f"{wrong.sum():,} of {len(wrong):,} {what} are no polygons: {rows}.{hint}"
        )


def _check_simple(geoms: NDArray[np.object_], index: pd.Index, what: str) -> None:
    """Refuse polygons that cross themselves, told apart from those that cross the antimeridian."""
    wrong = np.zeros(len(geoms), dtype=np.bool_)
    jumping = crosses_antimeridian(geoms)
    plain = np.flatnonzero(~jumping)
    wrong[plain] = ~shapely.is_valid(geoms[plain]) & ~shapely.is_missing(geoms[plain])
    # Counted from 0 to 360 they do not jump, unless they enclose a pole: those are redrawn.
    for row in np.flatnonzero(jumping):
        turned = shapely.transform(geoms[row], lambda xy: np.stack([xy[:, 0] % 360, xy[:, 1]], 1))
        if not crosses_antimeridian(np.array([turned]))[0]:
            # Edges of 360 degrees are the rim of a map, right as they stand.
            wrong[row] = not (shapely.is_valid(turned) or shapely.is_valid(geoms[row]))
    if wrong.any():
        reason = shapely.is_valid_reason(geoms[np.argmax(wrong)])
        raise TargetError(
            f"{wrong.sum():,} of {len(wrong):,} {what} cross themselves: {name_rows(index, wrong)} "
            f"(the first: {reason}). Correct them, or pass repair=True to use what "
            "shapely.make_valid() makes of them."
        )


def crosses_antimeridian(geoms: NDArray[np.object_]) -> Flags:
    """Tell which geometries have an edge that may jump over the antimeridian."""
    parts, owner = explode(geoms)
    crossing = np.zeros(len(geoms), dtype=np.bool_)
    crossing[owner[crosses(parts)]] = True
    return crossing
