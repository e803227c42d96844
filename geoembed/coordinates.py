"""The one boundary for coordinates: any input becomes (lon, lat), degrees, WGS 84.

Reference systems (`geoembed.crs`), column names and kinds of input (`geoembed.inputs`,
`geoembed.columns`) and invalid rows end here. Everything behind works on float64
arrays of shape (n, 2).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from geoembed.columns import COORDINATE_COLUMNS, find_coordinate_columns, name_rows
from geoembed.crs import in_degrees, name_crs, settle_crs, to_wgs84
from geoembed.errors import CoordinateError, OptionError
from geoembed.geodesy import wrap_longitude
from geoembed.geometries import (
    check_samples,
    geodesic_centroids,
    representative_points,
    sample_points,
)
from geoembed.inputs import Found, find_input

__all__ = ["COORDINATE_COLUMNS", "Places", "find_coordinate_columns", "read_places"]

GEOMETRY_CHOICES = ("point", "representative_point", "centroid", "sample")

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Codes = NDArray[np.uint8]

# Why a row is not a place; the position in this list is the code, 0 a good row.
_REASONS = (
    "",
    "missing",
    "empty geometry",
    "NaN in the geometry",
    "infinite",
    "outside the domain of the CRS",
)
_MISSING, _EMPTY, _NAN, _INFINITE, _UNREACHABLE = range(1, len(_REASONS))

# Projections return poles a rounding error beyond 90 degrees.
_OVERSHOOT = 1e-9

# No longitude or latitude gets near it, nearly every metre or foot does.
_LOOKS_PROJECTED = 1000.0


@dataclass(frozen=True, eq=False)
class Places:
    """Places read from any input, in its order.

    Parameters
    ----------
    lonlat : ndarray of float64, shape (m, 2), C-contiguous
        Longitude in [-180, 180] and latitude in [-90, 90], degrees, WGS 84;
        NaN where the place is invalid.
    valid : ndarray of bool, shape (n,)
        Whether each row of the input is a place.
    index : pandas.Index, length n
        Labels of the input's rows; a RangeIndex for arrays.
    owner : ndarray of intp, shape (m,), or None
        With ``geometry="sample"`` the row that each point belongs to, ascending, at
        least one point a row (a NaN point for an invalid row). None otherwise: m is n
        and every point is its own row.
    source : tuple of str
        Names of the columns that were read: ``("geometry",)``, ``("lon", "lat")``, or
        ``()`` where there are none.

    Examples
    --------
    >>> places = read_places([[-74.006, 40.7128], [190.0, -17.5]])
    >>> len(places), places.lonlat.tolist()
    (2, [[-74.006, 40.7128], [-170.0, -17.5]])
    """

    lonlat: Floats
    valid: Flags
    index: pd.Index
    owner: NDArray[np.intp] | None = None
    source: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.valid)


def read_places(
    data: Any = None,
    *,
    lon: Any = None,
    lat: Any = None,
    crs: Any = None,
    geometry: str = "point",
    samples: int = 32,
    on_invalid: str = "raise",
) -> Places:
    """Read places from frames, geometries or arrays; convert them to lon/lat on WGS 84.

    Parameters
    ----------
    data : optional
        One of: GeoDataFrame (its active geometry), GeoSeries, GeometryArray; a shapely
        geometry or a sequence of them; DataFrame or mapping with coordinate columns
        (`COORDINATE_COLUMNS`, any case); array or list of shape (n, 2), longitude first;
        Places, which are returned as they are.
    lon, lat : array_like of shape (n,), scalar or str, optional
        Coordinates instead of `data`, or the names of its columns that hold them.
        Longitude any turn, latitude in [-90, 90]. Nullable, Arrow and masked values may
        be missing.
    crs : anything pyproj takes, optional
        CRS of coordinates that do not carry one, easting or longitude first. Arrays,
        plain frames and bare shapely geometries are lon/lat on WGS 84 without it; a
        geopandas object without a CRS needs it; one with another CRS is refused.
    geometry : {"point", "representative_point", "centroid", "sample"}
        What stands for a geometry. ``"point"``: only Points and MultiPoints of one are
        taken. ``"representative_point"``: a point inside (planar, in lon/lat).
        ``"centroid"``: the centroid on the sphere. ``"sample"``: `samples` points spread
        over it. Points stay as they are in all four. Edges of lines and polygons are
        straight in lon/lat; one over 180 degrees long crosses the antimeridian.
    samples : int
        Points a geometry with ``geometry="sample"``.
    on_invalid : {"raise", "nan"}
        What becomes of rows that are missing, empty, NaN, infinite, or outside the domain
        of their CRS: an error, or a row of NaN.

    Returns
    -------
    Places
        As many rows as the input has, in its order. The input is never changed.

    Raises
    ------
    CoordinateError
        If there is nothing to read, or several columns could be meant; if lengths,
        shapes or indexes do not fit; if there is text, a boolean or a complex number among
        the coordinates; if a geopandas object has no CRS and `crs` does not state it, or the
        two differ, or the CRS is unknown or no horizontal one; if a latitude is outside
        [-90, 90] (whatever `on_invalid` says; swapped columns and projected coordinates
        are recognised); if ``geometry="point"`` meets lines, polygons or collections; with
        ``on_invalid="raise"`` if there are invalid rows. The messages name the first five
        rows by index label.
    OptionError
        If `geometry`, `samples` or `on_invalid` is none of the values above.

    Notes
    -----
    Conversion is pyproj's with ``always_xy=True``; heights are ignored; network access
    for transformation grids is left off, as pyproj has it by default.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"Lat": [51.5, None], "Lon": [-0.13, 2.35]}, index=["a", "b"])
    >>> places = read_places(frame, on_invalid="nan")
    >>> places.valid.tolist(), places.source
    ([True, False], ('Lon', 'Lat'))
    >>> read_places(lon=2600000, lat=1200000, crs="EPSG:2056").lonlat.round(5).tolist()
    [[7.43863, 46.95108]]
    """
    _check_options(geometry, samples, on_invalid)
    if isinstance(data, Places):
        if lon is not None or lat is not None or crs is not None:
            raise CoordinateError("Places are read already: lon=, lat= and crs= do not apply.")
        if on_invalid == "raise" and not data.valid.all():
            raise CoordinateError(
                f"{np.count_nonzero(~data.valid):,} of {len(data):,} places are invalid: "
                f"{name_rows(data.index, ~data.valid)}. Pass on_invalid='nan' to keep them as NaN."
            )
        return data
    found = find_input(data, lon, lat)
    source_crs = settle_crs(found.crs, crs, found.what, must_carry=found.carries_crs)
    owner = None
    if found.lonlat is not None:
        lonlat, reason = _convert(found.lonlat, found, source_crs)
    elif geometry == "point" or _only_points(found.geoms):
        lonlat, reason = _read_points(found.geoms, found, source_crs)
    else:
        lonlat, reason, owner = _reduce(found.geoms, found, source_crs, geometry, samples)
    if geometry == "sample" and owner is None:
        owner = np.arange(len(lonlat))
    valid = reason == 0
    if on_invalid == "raise" and not valid.all():
        raise _invalid_rows(found.index, reason)
    return Places(np.ascontiguousarray(lonlat), valid, found.index, owner, found.source)


def _check_options(geometry: str, samples: int, on_invalid: str) -> None:
    if geometry not in GEOMETRY_CHOICES:
        raise OptionError(
            f"geometry={geometry!r} is not offered: choose "
            f"{', '.join(map(repr, GEOMETRY_CHOICES[:-1]))} or {GEOMETRY_CHOICES[-1]!r}."
        )
    check_samples(samples)
    if on_invalid == "drop":
        raise OptionError(
            "on_invalid='drop' exists in geoembed.embed() only: places keep the number of rows. "
            "Choose 'raise' or 'nan'."
        )
    if on_invalid not in ("raise", "nan"):
        raise OptionError(f"on_invalid={on_invalid!r} is not offered: choose 'raise' or 'nan'.")


def _convert(coordinates: Floats, found: Found, crs: CRS | None) -> tuple[Floats, Codes]:
    """Bring coordinates (n, 2), one a row, to lon/lat; NaN and a reason where that fails."""
    rows = np.arange(len(coordinates))
    lonlat, reason = _to_lonlat(coordinates, rows, found, crs, turn_first=True)
    lonlat[:, 0] = wrap_longitude(lonlat[:, 0])
    lonlat[reason > 0] = np.nan
    return lonlat, reason


def _to_lonlat(
    coordinates: Floats,
    rows: NDArray[np.intp],
    found: Found,
    crs: CRS | None,
    *,
    turn_first: bool,
) -> tuple[Floats, Codes]:
    """Convert coordinates (m, 2) that belong to `rows`; longitudes come back in any turn.

    The second array tells for each row of the input why it cannot be used, 0 if it can.
    PROJ refuses longitudes of several turns: `turn_first` wraps them before it sees them.
    """
    reason = np.zeros(len(found.index), dtype=np.uint8)
    infinite, missing = np.isinf(coordinates).any(axis=1), np.isnan(coordinates).any(axis=1)
    reason[rows[infinite]] = _INFINITE
    reason[rows[missing]] = _MISSING if found.geoms is None else _NAN
    finite = ~(infinite | missing)
    if in_degrees(crs):
        beyond = finite & (np.abs(coordinates[:, 1]) > 90.0)
        if beyond.any():
            raise _out_of_range(coordinates[finite], coordinates[beyond], rows[beyond], found)
    if crs is None:
        return coordinates.copy(), reason
    lonlat = np.full_like(coordinates, np.nan)
    east, north = coordinates[finite].T
    if turn_first and in_degrees(crs):
        east = wrap_longitude(east)
    lonlat[finite] = to_wgs84(east, north, crs)
    lat = lonlat[:, 1]
    overshoot = (np.abs(lat) > 90.0) & (np.abs(lat) <= 90.0 + _OVERSHOOT)
    lat[overshoot] = np.copysign(90.0, lat[overshoot])
    reached = np.isfinite(lonlat).all(axis=1) & (np.abs(lat) <= 90.0)
    reason[rows[finite & ~reached]] = _UNREACHABLE
    return lonlat, reason


def _read_points(geoms: Any, found: Found, crs: CRS | None) -> tuple[Floats, Codes]:
    """Read Points and MultiPoints of one as they are; refuse everything else."""
    kind = shapely.get_type_id(geoms)
    single = (kind == shapely.GeometryType.MULTIPOINT) & (shapely.get_num_geometries(geoms) == 1)
    if single.any():
        geoms = np.where(single, shapely.get_geometry(geoms, 0), geoms)
        kind = shapely.get_type_id(geoms)
    void = shapely.is_missing(geoms) | shapely.is_empty(geoms)
    other = ~void & (kind != shapely.GeometryType.POINT)
    if other.any():
        rows = name_rows(found.index, other, lambda at: geoms[at].geom_type)
        raise CoordinateError(
            f"{other.sum():,} of {len(other):,} rows in {found.what} are no single points: {rows}. "
            "Choose what stands for them: geometry='representative_point' (a point inside), "
            "'centroid' (on the sphere) or 'sample' (points spread over each)."
        )
    coordinates = np.full((len(geoms), 2), np.nan)
    coordinates[~void] = shapely.get_coordinates(geoms[~void])
    lonlat, reason = _convert(coordinates, found, crs)
    return lonlat, _mark_void(reason, geoms)


def _only_points(geoms: Any) -> bool:
    """Whether there is nothing to reduce: Points and missing rows only."""
    return bool((shapely.get_type_id(geoms) <= shapely.GeometryType.POINT).all())


def _mark_void(reason: Codes, geoms: Any) -> Codes:
    reason[shapely.is_empty(geoms)] = _EMPTY
    reason[shapely.is_missing(geoms)] = _MISSING
    return reason


def _reduce(
    geoms: Any, found: Found, crs: CRS | None, geometry: str, samples: int
) -> tuple[Floats, Codes, NDArray[np.intp] | None]:
    """Reduce geometries of any type to one place each, or to many with their owners."""
    coordinates, rows = shapely.get_coordinates(geoms, return_index=True)
    # Corners of a polygon from 0 to 360 would lose their order if they were turned one by one.
    moved, reason = _to_lonlat(coordinates, rows, found, crs, turn_first=False)
    reason = _mark_void(reason, geoms)
    usable = np.flatnonzero(reason == 0)
    geoms = geoms[usable]
    if crs is not None:
        geoms = shapely.set_coordinates(geoms, moved[reason[rows] == 0])
    if geometry == "sample":
        owner, places = sample_points(geoms, samples)
        unusable = np.flatnonzero(reason > 0)
        owner = np.concatenate([usable[owner], unusable])
        order = np.argsort(owner, kind="stable")
        places = np.concatenate([places, np.full((len(unusable), 2), np.nan)])
        return places[order], reason, owner[order]
    reduce = representative_points if geometry == "representative_point" else geodesic_centroids
    lonlat = np.full((len(reason), 2), np.nan)
    lonlat[usable] = reduce(geoms)
    return lonlat, reason, None


def _invalid_rows(index: pd.Index, reason: Codes) -> CoordinateError:
    """Count the invalid rows by reason and name the first."""
    parts = [
        f"{(reason == code).sum():,} {_REASONS[code]} ({name_rows(index, reason == code)})"
        for code in range(1, len(_REASONS))
        if (reason == code).any()
    ]
    return CoordinateError(
        f"{np.count_nonzero(reason):,} of {len(reason):,} rows hold no usable place: "
        f"{'; '.join(parts)}. Remove or correct them, or pass on_invalid='nan' to keep them "
        "as rows of NaN."
    )


def _out_of_range(
    finite: Floats, beyond: Floats, rows: NDArray[np.intp], found: Found
) -> CoordinateError:
    """Say which latitudes are outside [-90, 90], and what that looks like."""
    bad = np.zeros(len(found.index), dtype=np.bool_)
    bad[rows] = True
    first = dict(zip(rows[::-1].tolist(), beyond[::-1, 1].tolist(), strict=True))
    named = name_rows(found.index, bad, lambda at: f"{first[at]:.10g}")
    kind = "columns" if found.geoms is None else "coordinates"
    if np.abs(beyond).max() > _LOOKS_PROJECTED:
        remedy = "Numbers this large look projected: state their CRS" + (
            f" with set_crs(..., allow_override=True) instead of {name_crs(found.crs)}."
            if found.crs is not None
            else ", for example crs='EPSG:3857'."
        )
    elif _would_swap(finite):
        remedy = f"The {kind} look swapped: every row is valid as (latitude, longitude)."
    elif _would_swap(beyond):
        remedy = "Correct them: in these rows longitude and latitude may be swapped."
    else:
        remedy = "Correct them first."
    return CoordinateError(
        f"{bad.sum():,} of {len(bad):,} rows have a latitude outside [-90, 90] in {found.what}: "
        f"{named}. {remedy}"
    )


def _would_swap(coordinates: Floats) -> bool:
    """Whether every row would be a place if its two numbers changed places."""
    return bool(
        (np.abs(coordinates[:, 0]) <= 90.0).all() and (np.abs(coordinates[:, 1]) <= 360.0).all()
    )
