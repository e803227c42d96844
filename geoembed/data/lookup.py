"""Ask the shipped tables about places: land or sea, which country, which city is near."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from pyproj import Geod
from scipy.spatial import KDTree

from geoembed.data import loaders
from geoembed.errors import CoordinateError, OptionError

__all__ = ["check_extent", "is_land", "label_country", "land_grid", "nearest_city"]

Degrees = npt.NDArray[np.float64]

# Points looked up at once: bounds the memory of the candidate pairs to about 50 MB.
_BLOCK = 250_000
_COUNTRY_COLUMNS = ("name", "iso_a2", "iso_a3", "iso_n3", "continent")


def is_land(lon: npt.ArrayLike, lat: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Tell which places lie on land at 1:50 million.

    Parameters
    ----------
    lon, lat : array_like
        Degrees, WGS 84, of shapes that broadcast together; longitude any turn, latitude in
        [-90, 90].

    Returns
    -------
    ndarray of bool
        True on land or its coastline; False at sea and where a coordinate is not finite. Islands
        too small for the scale count as sea, most lakes as land.

    Raises
    ------
    CoordinateError
        If the shapes do not fit together or a latitude is outside [-90, 90].

    Examples
    --------
    >>> is_land([2.35, -30.0], [48.86, 0.0])
    array([ True, False])
    """
    return _search(*_degrees(lon, lat)) >= 0


def label_country(
    lon: npt.ArrayLike, lat: npt.ArrayLike, *, column: str = "iso_a3"
) -> npt.NDArray[np.object_]:
    """Name the country that each place lies in.

    Parameters
    ----------
    lon, lat : array_like
        Degrees, WGS 84, of shapes that broadcast together; longitude any turn, latitude in
        [-90, 90].
    column : {"iso_a3", "iso_a2", "iso_n3", "name", "continent"}
        What to answer with, a column of `load_countries`. Territories without an ISO code of
        their own, such as Somaliland, have a name only.

    Returns
    -------
    ndarray of object
        Text, or None at sea, where the territory has no such code and where a coordinate is not
        finite. On a border the country that comes first by name is taken.

    Raises
    ------
    OptionError
        If `column` is not one of the five.
    CoordinateError
        If the shapes do not fit together or a latitude is outside [-90, 90].

    Examples
    --------
    >>> label_country([36.8, -30.0], [-1.3, 0.0], column="name")
    array(['Kenya', None], dtype=object)
    """
    if column not in _COUNTRY_COLUMNS:
        raise OptionError(
            f"column={column!r} is not a label of countries: choose one of "
            f"{', '.join(map(repr, _COUNTRY_COLUMNS))}."
        )
    values = loaders.load_countries()[column].astype(object)
    # The last label serves row -1, which says that no country is there.
    labels = np.append(values.where(values.notna(), None).to_numpy(), [None])
    return labels[_search(*_degrees(lon, lat))]


def nearest_city(
    lon: npt.ArrayLike, lat: npt.ArrayLike, *, min_population: int = 0
) -> pd.DataFrame:
    """Find the city of `load_cities` nearest to each place.

    Parameters
    ----------
    lon, lat : array_like
        Degrees, WGS 84, of shapes that broadcast together, flattened; longitude any turn,
        latitude in [-90, 90].
    min_population : int, default 0
        Consider only cities with so many people; 500,000 gives names that most readers know.

    Returns
    -------
    DataFrame
        One row a place, in order, with the columns of `load_cities` except the geometry, and
        ``distance_km``, measured on the ellipsoid.

    Raises
    ------
    CoordinateError
        If the shapes do not fit together, a latitude is outside [-90, 90], or a coordinate is
        not finite.
    OptionError
        If no city has `min_population` people.

    Examples
    --------
    >>> nearest_city(2.3, 48.9, min_population=500_000)[["name", "iso_a2"]].values.tolist()
    [['Paris', 'FR']]
    """
    lon, lat = (values.ravel() for values in _degrees(lon, lat))
    finite = np.isfinite(lon) & np.isfinite(lat)
    if not finite.all():
        raise CoordinateError(
            f"nearest_city needs finite coordinates: {np.count_nonzero(~finite)} of {lon.size} "
            f"are missing or infinite, the first at position {np.argmin(finite)}. Leave them out."
        )
    # Order on the sphere and on the ellipsoid differ by less than cities are apart.
    _, nearest = _city_tree(min_population).query(_unit_vectors(lon, lat))
    cities = loaders.load_cities().drop(columns="geometry")
    rows = pd.DataFrame(cities.iloc[nearest]).reset_index(drop=True)
    _, _, metres = Geod(ellps="WGS84").inv(lon, lat, rows["lon"], rows["lat"])
    rows["distance_km"] = np.asarray(metres) / 1000
    return rows


def land_grid(
    step: float, *, extent: Sequence[float] = (-180.0, -90.0, 180.0, 90.0)
) -> tuple[Degrees, Degrees]:
    """Lay a regular grid over the land, for maps.

    Parameters
    ----------
    step : float
        Size of a cell in degrees, both ways; above 0 and at most 90.
    extent : sequence of 4 floats, default the whole globe
        West, south, east and north in degrees. An east that is not larger than west is taken one
        turn further on, across the antimeridian.

    Returns
    -------
    lon, lat : ndarray of shape (n,)
        Centres of those cells whose centre is on land, degrees, row by row from south to north;
        longitudes in [-180, 180).

    Raises
    ------
    OptionError
        If `step` or `extent` is outside its range.

    Examples
    --------
    >>> lon, lat = land_grid(5)
    >>> len(lon), float(lat.min()), float(lat.max())
    (867, -87.5, 82.5)
    """
    if not 0 < step <= 90:
        raise OptionError(f"step={step!r} does not fit: give degrees above 0 and at most 90.")
    west, south, east, north = check_extent(extent)
    lon = west + step * (np.arange(_cells(east - west, step)) + 0.5)
    lat = south + step * (np.arange(_cells(north - south, step)) + 0.5)
    grid_lon, grid_lat = (values.ravel() for values in np.meshgrid(lon, lat))
    land = is_land(grid_lon, grid_lat)
    return (grid_lon[land] + 180) % 360 - 180, grid_lat[land]


def check_extent(extent: Sequence[float]) -> tuple[float, float, float, float]:
    """Return west, south, east and north with west < east <= west + 360, or raise OptionError."""
    try:
        west, south, east, north = (float(value) for value in extent)
    except (TypeError, ValueError):
        raise OptionError(
            f"extent={extent!r} does not fit: give four numbers, (west, south, east, north)."
        ) from None
    if not (-180 <= west <= 360 and -360 <= east <= 540 and -90 <= south < north <= 90):
        raise OptionError(
            f"extent={extent!r} does not fit: it reads (west, south, east, north) in degrees, "
            "longitudes from -180, south below north, both within [-90, 90]."
        )
    if east <= west:
        east += 360
    if not west < east <= west + 360:
        raise OptionError(f"extent={extent!r} does not fit: it is more than one turn wide.")
    return west, south, east, north


def _cells(width: float, step: float) -> int:
    # Rounding first, so that 360 / 0.1 gives 3,600 cells and not one less.
    return int(np.floor(round(width / step + 0.5, 6)))


def _degrees(lon: npt.ArrayLike, lat: npt.ArrayLike) -> tuple[Degrees, Degrees]:
    """Check, broadcast and wrap into [-180, 180]."""
    try:
        lon, lat = np.broadcast_arrays(np.asarray(lon, float), np.asarray(lat, float))
    except (TypeError, ValueError) as error:
        raise CoordinateError(f"lon and lat must be numbers of fitting shapes: {error}.") from error
    outside = np.abs(lat) > 90
    if outside.any():
        first = np.flatnonzero(outside.ravel())[0]
        raise CoordinateError(
            f"Latitudes must lie in [-90, 90]: {np.count_nonzero(outside)} of {lat.size} do not, "
            f"the first at position {first} ({lat.ravel()[first]!r}). The order is lon, lat."
        )
    with np.errstate(invalid="ignore"):  # infinities become NaN here and match nothing later
        wrapped = (lon + 180) % 360 - 180
    # Left alone where it fits: the sum costs the last digits, which move a place off a border.
    return np.where(np.abs(lon) <= 180, lon, wrapped), lat


def _search(lon: Degrees, lat: Degrees) -> npt.NDArray[np.intp]:
    """Row of the country at each place, -1 where there is none."""
    found = np.full(lon.size, -1, np.intp)
    for start in range(0, lon.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        found[block] = _search_block(lon.ravel()[block], lat.ravel()[block])
    return found.reshape(lon.shape)


def _search_block(lon: Degrees, lat: Degrees) -> npt.NDArray[np.intp]:
    tree, parts, rows = _country_parts()
    found = np.full(len(lon), -1, np.intp)
    finite = np.flatnonzero(np.isfinite(lon) & np.isfinite(lat))
    place, part = tree.query(shapely.points(lon[finite], lat[finite]))
    order = np.argsort(part, kind="stable")
    place, part = finite[place[order]], part[order]
    candidates, starts = np.unique(part, return_index=True)
    ends = np.append(starts, len(part))[1:]
    # Last part first, so that on a shared border the earlier country keeps the place.
    for candidate, start, end in zip(candidates[::-1], starts[::-1], ends[::-1], strict=True):
        near = place[start:end]
        inside = shapely.intersects_xy(parts[candidate], lon[near], lat[near])
        found[near[inside]] = rows[candidate]
    return found


@cache
def _country_parts() -> tuple[Any, Any, npt.NDArray[np.intp]]:
    """Search tree over the polygons of all countries, the polygons, and their rows."""
    parts, rows = shapely.get_parts(loaders.load_countries().geometry.array, return_index=True)
    shapely.prepare(parts)
    return shapely.STRtree(parts), parts, rows


def _unit_vectors(lon: Degrees, lat: Degrees) -> Degrees:
    lam, phi = np.radians(lon), np.radians(lat)
    return np.column_stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])


@lru_cache(maxsize=8)
def _city_tree(min_population: int) -> KDTree:
    cities = loaders.load_cities()
    # The table is ordered by population: row numbers of the tree are row numbers of the table.
    cities = cities[cities["population"] >= min_population]
    if cities.empty:
        raise OptionError(f"min_population={min_population!r}: no city has so many people.")
    return KDTree(_unit_vectors(cities["lon"].to_numpy(), cities["lat"].to_numpy()))
