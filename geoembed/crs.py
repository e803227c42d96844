"""Coordinate reference systems: which one applies, and the way from it to WGS 84."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from geoembed.errors import CoordinateError

__all__ = ["WGS84", "in_degrees", "name_crs", "settle_crs", "to_wgs84"]

WGS84 = CRS.from_epsg(4326)


def settle_crs(carried: CRS | None, stated: Any, what: str, *, must_carry: bool) -> CRS | None:
    """Decide which CRS coordinates are in.

    Parameters
    ----------
    carried : pyproj.CRS or None
        The CRS that the input carries.
    stated : anything pyproj takes, or None
        The CRS that the caller states.
    what : str
        Where the coordinates are, for messages: ``"column 'geometry'"``.
    must_carry : bool
        Whether it is an error if neither is there.

    Returns
    -------
    pyproj.CRS or None
        None for longitude and latitude on WGS 84, which need no conversion.

    Raises
    ------
    CoordinateError
        If the two differ (axis order aside), if pyproj does not know `stated`, if the CRS is
        neither geographic nor projected, or if there is none and `must_carry` is true.

    Examples
    --------
    >>> settle_crs(None, "OGC:CRS84", "lat=", must_carry=False) is None
    True
    >>> settle_crs(None, 3857, "lat=", must_carry=False).name
    'WGS 84 / Pseudo-Mercator'
    """
    given = None if stated is None else _parse_crs(stated)
    if carried is not None and given is not None and not _same(carried, given):
        raise CoordinateError(
            f"crs={name_crs(given)} contradicts the CRS of {what}, {name_crs(carried)}. Leave "
            "crs= out; to convert the frame use to_crs(), to correct a wrong declaration "
            "set_crs(..., allow_override=True)."
        )
    crs = given if carried is None else carried
    if crs is None:
        if must_carry:
            raise CoordinateError(
                f"There is no CRS to tell what {what} means. State it: gdf.set_crs(4326) "
                "or crs='EPSG:4326' for longitude and latitude on WGS 84, or the CRS that applies."
            )
        return None
    if not (crs.is_geographic or crs.is_projected):
        raise CoordinateError(
            f"{name_crs(crs)} is a {crs.type_name}: places need a geographic or projected CRS."
        )
    return None if _same(crs, WGS84) else crs


def _parse_crs(stated: Any) -> CRS:
    try:
        return CRS.from_user_input(stated)
    except CRSError as error:
        raise CoordinateError(
            f"crs={stated!r} is no CRS that pyproj knows. Give an EPSG code such as "
            "'EPSG:3857', WKT or a PROJ string."
        ) from error


def _same(one: CRS, other: CRS) -> bool:
    return bool(one.equals(other, ignore_axis_order=True))


def name_crs(crs: CRS) -> str:
    """Name a CRS for messages: its authority's code, or its own name."""
    authority = crs.to_authority()
    if authority:
        return ":".join(authority)
    return crs.name if crs.name != "unknown" else crs.to_string()


def in_degrees(crs: CRS | None) -> bool:
    """Tell whether coordinates are longitudes and latitudes in degrees."""
    if crs is None:
        return True
    return crs.is_geographic and crs.axis_info[0].unit_name.startswith("degree")


@lru_cache(maxsize=32)
def _transformer(crs: CRS) -> Transformer:
    try:
        return Transformer.from_crs(crs, WGS84, always_xy=True)
    except ProjError as error:
        raise CoordinateError(
            f"There is no way from {name_crs(crs)} to WGS 84: {error}."
        ) from error


def to_wgs84(
    east: NDArray[np.float64], north: NDArray[np.float64], crs: CRS
) -> NDArray[np.float64]:
    """Convert coordinates to longitude and latitude.

    Parameters
    ----------
    east, north : ndarray of float64, shape (n,)
        Easting or longitude, and northing or latitude, whatever order the CRS declares.
    crs : pyproj.CRS
        Geographic or projected.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        Degrees; infinite where there is no way to WGS 84.

    Raises
    ------
    CoordinateError
        If PROJ knows no operation from `crs` to WGS 84.

    Examples
    --------
    >>> to_wgs84(np.array([2600000.0]), np.array([1200000.0]), CRS(2056)).round(4).tolist()
    [[7.4386, 46.9511]]
    """
    return np.stack(_transformer(crs).transform(east, north), axis=1)
