"""Where the places of galleries come from: published lists, cities, grids, cells of H3."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from geoembed import weights
from geoembed.containing import inside_of, polygons_of
from geoembed.data import is_land, load_cities
from geoembed.errors import CoordinateError, OptionError, PluginError
from geoembed.extending.gallery_specs import GallerySpec
from geoembed.extending.registry import weights_specs
from geoembed.galleries.land import land_grid_places
from geoembed.galleries.lattice import lattice_blocks, lattice_size
from geoembed.galleries.places import GalleryPlaces
from geoembed.optional import import_optional

__all__ = [
    "city_places",
    "geoclip_100k",
    "geoclip_100k_land45",
    "grid_places",
    "h3_places",
    "land_places",
]

_LAND_GRID_KM: Final = 45.0
_BLUE_MARBLE_KM: Final = 100.0
# Those of `geoembed.training.bluemarble`: further south lies only ice.
_BLUE_MARBLE_LATITUDES: Final = (-56.0, 75.0)
_H3_FINEST: Final = 15
# Degrees of longitude.
_STRIP: Final = 60


def geoclip_100k(spec: GallerySpec) -> GalleryPlaces:
    """Read GeoCLIP's gallery: 100,000 rows, of which equal ones become one place with a count."""
    return GalleryPlaces.of(
        _published_lonlat(), name=spec.name, source=spec.source, version=spec.version
    )


def geoclip_100k_land45(spec: GallerySpec) -> GalleryPlaces:
    """Read the same and add a grid over all land, one place a square of 45 km."""
    land = grid_places(_LAND_GRID_KM)
    return GalleryPlaces.of(
        np.concatenate([_published_lonlat(), land.lonlat]),
        name=spec.name,
        source=spec.source,
        version=spec.version,
    )


def land_places(spec: GallerySpec) -> GalleryPlaces:
    """Lay a grid over the land where crops of the Blue Marble were learned from, 100 km apart."""
    lonlat = land_grid_places(_BLUE_MARBLE_KM)
    south, north = _BLUE_MARBLE_LATITUDES
    kept = lonlat[(lonlat[:, 1] >= south) & (lonlat[:, 1] <= north)]
    return GalleryPlaces.of(kept, name=spec.name, source=spec.source, version=spec.version)


def city_places(spec: GallerySpec) -> GalleryPlaces:
    """Take the cities that ship with geoembed."""
    return cities_from(0, spec.name, spec.source, spec.version)


def cities_from(
    min_population: int, name: str, source: str = "GeoNames", version: str = "1"
) -> GalleryPlaces:
    """Take the cities with so many people."""
    cities = load_cities()
    cities = cities[cities["population"] >= min_population]
    if cities.empty:
        raise OptionError(f"min_population={min_population!r}: no city has so many people.")
    return GalleryPlaces.of(cities[["lon", "lat"]], name=name, source=source, version=version)


def grid_places(spacing_km: float, within: Any = None, *, land_only: bool = True) -> GalleryPlaces:
    """Lay an even grid over the land, or over polygons.

    Parameters
    ----------
    spacing_km : float
        Each place stands for the area of a square of that side; the nearest neighbour is at 0.87
        to 1.00 of it, and no point of the Earth is further than 0.70 of it from a place.
    within : polygons, optional
        Where places may lie (`geoembed.containing.inside_of`); all land if not given.
    land_only : bool
        Leave out the sea, at 1:50 million: islands too small for that scale count as sea.

    Returns
    -------
    GalleryPlaces
        From north to south.

    Raises
    ------
    OptionError
        If `spacing_km` is not between 0.1 and 5000, or `within` holds no polygons.
    CoordinateError
        If no place of the grid lies there.

    Examples
    --------
    >>> grid_places(500, land_only=False).lonlat.shape
    (2040, 2)
    """
    if within is None and land_only:
        lonlat = land_grid_places(spacing_km)
    else:
        lonlat = _grid_within(lattice_size(spacing_km), within, land_only)
    where = " ".join(["on land"] * land_only + ["within the polygons"] * (within is not None))
    if not len(lonlat):
        raise CoordinateError(
            f"No place of a grid of {spacing_km:g} km lies {where}: take a finer one"
            f"{', or land_only=False' if land_only else ''}."
        )
    label = f"{spacing_km:g}".replace(".", "-")
    source = f"Fibonacci lattice of {spacing_km:g} km"
    return GalleryPlaces.of(lonlat, name=f"grid.{label}km", source=source)


def _grid_within(count: int, within: Any, land_only: bool) -> NDArray[np.float64]:
    inside, (south, north) = inside_of(within), _latitudes(within)
    kept = []
    for block in lattice_blocks(count, south, north):
        block = block if inside is None else block[inside(block)]
        kept.append(block[is_land(*block.T)] if land_only else block)
    return np.concatenate([np.empty((0, 2)), *kept])


def h3_places(resolution: int, within: Any = None, *, land_only: bool = True) -> GalleryPlaces:
    """Take the centres of H3's cells.

    Parameters
    ----------
    resolution : int
        0 to 15: cells of 1,107 km, of 22.6 km at 4, of 8.5 km at 5, of 3.2 km at 6 (edges).
    within, land_only
        As in `grid_places`; a cell counts by its centre.

    Returns
    -------
    GalleryPlaces
        In the order of the cells' numbers.

    Raises
    ------
    MissingExtraError
        If h3 is not installed.
    OptionError
        If `resolution` is not one of those, or too fine for the whole Earth.
    CoordinateError
        If no centre lies there.

    Examples
    --------
    >>> h3_places(1, land_only=False).lonlat.shape
    (842, 2)
    """
    import_optional("h3", extra="h3", purpose="A gallery of H3 cells")
    # The same with arrays of numbers for lists of text: a tenth of the memory.
    h3 = import_optional("h3.api.numpy_int", extra="h3", purpose="A gallery of H3 cells")
    whole = isinstance(resolution, int) and not isinstance(resolution, bool)
    if not whole or not 0 <= resolution <= _H3_FINEST:
        raise OptionError(f"resolution={resolution!r} is no whole number from 0 to {_H3_FINEST}.")
    inside = inside_of(within)
    kept = [np.empty((0, 2))]
    for cells in _h3_cells(h3, resolution, within):
        lonlat = _h3_centres(h3, cells)
        if inside is not None:
            lonlat = lonlat[inside(lonlat)]
        kept.append(lonlat[is_land(*lonlat.T)] if land_only else lonlat)
    lonlat = np.concatenate(kept)
    del kept
    if not len(lonlat):
        raise CoordinateError(
            f"No cell of H3 at resolution {resolution} has its centre there: take a finer one"
            f"{', or land_only=False' if land_only else ''}."
        )
    return GalleryPlaces.of(lonlat, name=f"h3.r{resolution}", source=f"H3 cells, r{resolution}")


def _published_lonlat() -> NDArray[np.float64]:
    spec = weights_specs().get("geoclip.v1")
    if spec is None:
        raise PluginError("The weights 'geoclip.v1', which the gallery comes with, are not known.")
    table = pd.read_csv(weights.checked_path(spec, "gallery"))
    lonlat: NDArray[np.float64] = table[["LON", "LAT"]].to_numpy(np.float64)
    return lonlat


def _latitudes(within: Any) -> tuple[float, float]:
    """Return the southernmost and northernmost latitude of polygons, widened by rounding."""
    if within is None or callable(within):
        return -90.0, 90.0
    _, south, _, north = shapely.total_bounds(polygons_of(within))
    return max(-90.0, south - 1e-9), min(90.0, north + 1e-9)


# About 99 million cells of resolution 7, 29 million of them on land; each finer one has seven times
# as many.
_H3_WORLD_FINEST: Final = 7
# Cells whose centres are looked up at a time.
_H3_BLOCK: Final = 500_000


def _h3_cells(h3: Any, resolution: int, within: Any) -> Iterator[NDArray[np.uint64]]:
    """Yield the numbers of cells, ascending, in blocks."""
    if within is None or callable(within):
        if resolution > _H3_WORLD_FINEST:
            raise OptionError(
                f"resolution={resolution} has too many cells for the whole Earth: give within=, "
                f"or a resolution of at most {_H3_WORLD_FINEST}."
            )
        # Numbers of children follow those of their roots.
        for root in np.sort(h3.get_res0_cells()):
            yield np.sort(h3.cell_to_children(root, resolution))
        return
    found = [h3.geo_to_cells(polygon, resolution) for polygon in _strips(polygons_of(within))]
    cells = np.unique(np.concatenate([np.empty(0, np.uint64), *found]))
    del found
    for start in range(0, len(cells), _H3_BLOCK):
        yield cells[start : start + _H3_BLOCK]


def _h3_centres(h3: Any, cells: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return longitudes and latitudes (n, 2) of the centres of cells."""
    latlon = np.array([h3.cell_to_latlng(cell) for cell in cells.tolist()]).reshape(-1, 2)
    return np.ascontiguousarray(latlon[:, ::-1])


def _strips(polygons: NDArray[np.object_]) -> NDArray[np.object_]:
    """Cut polygons along every 60th meridian, into longitudes from -180 to 180.

    H3 takes a polygon that is wider than half a turn for one that crosses the antimeridian.
    """
    found = []
    for west in range(-540, 540, _STRIP):
        strip = shapely.intersection(polygons, shapely.box(west, -90.0, west + _STRIP, 90.0))
        turn = -360.0 * np.floor((west + 180.0) / 360.0)
        moved = shapely.transform(strip, lambda lonlat, turn=turn: lonlat + np.array([turn, 0.0]))
        found.append(shapely.get_parts(moved))
    parts = np.concatenate(found)
    inside: NDArray[np.object_] = parts[shapely.area(parts) > 0.0]
    return inside
