"""Polygons that answers must lie in: any CRS, the antimeridian, the poles."""

import geopandas as gpd
import numpy as np
import pytest
import shapely

from geoembed.containing import inside_of, polygons_of
from geoembed.errors import CoordinateError, OptionError
from geoembed.geodesy import distance_km

FIJI = np.array([[179.0, -17.0], [-179.0, -17.0], [0.0, -17.0], [170.0, -17.0]])


@pytest.mark.parametrize(
    "polygon",
    [
        shapely.Polygon([(177, -19), (-178, -19), (-178, -16), (177, -16)]),
        shapely.box(177, -19, 182, -16),
        shapely.box(-183, -19, -178, -16),
        shapely.MultiPolygon([shapely.box(177, -19, 180, -16), shapely.box(-180, -19, -178, -16)]),
    ],
)
def test_a_polygon_over_the_antimeridian_is_one_however_it_is_written(polygon):
    assert inside_of(polygon)(FIJI).tolist() == [True, True, False, False]


def test_a_circle_round_a_pole_in_a_polar_projection():
    pole = gpd.GeoSeries([shapely.Point(0, 0).buffer(2_000_000, quad_segs=64)], crs="EPSG:3413")
    lat = np.repeat([89.9, 80.0, 73.0, 70.0, 60.0], 24)
    lon = np.tile(np.arange(-180.0, 180.0, 15.0), 5)
    inside = inside_of(pole)(np.column_stack([lon, lat]))
    # The projection is true to scale at 70 degrees north: 2,000 km on it end near 71.8.
    np.testing.assert_array_equal(inside, lat > 71.8)


def test_long_edges_keep_the_course_that_they_have_in_their_crs():
    # A square of four corners: in the plane of the projection, the middle of an edge lies nearer
    # to the pole than its ends, which a straight line in degrees would not.
    square = gpd.GeoSeries([shapely.box(-2e6, -2e6, 2e6, 2e6)], crs="EPSG:3413")
    middle = gpd.GeoSeries([shapely.Point(0, -1.99e6), shapely.Point(0, -2.01e6)], crs="EPSG:3413")
    lonlat = shapely.get_coordinates(middle.to_crs(4326).array)
    assert inside_of(square)(lonlat).tolist() == [True, False]


def test_a_projected_crs_is_brought_to_degrees():
    zone = gpd.GeoSeries([shapely.Point(600_000, 200_000).buffer(50_000)], crs="EPSG:21781")
    bern, paris = [7.44, 46.95], [2.35, 48.86]
    assert inside_of(zone)(np.array([bern, paris])).tolist() == [True, False]
    assert distance_km(*bern, *shapely.get_coordinates(polygons_of(zone)).mean(axis=0)) < 5


def test_a_polygon_that_crosses_itself_is_mended():
    bow = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    assert inside_of(bow)(np.array([[1.5, 1.0], [1.0, 1.8]])).tolist() == [True, False]


def test_a_function_is_taken_as_it_is_and_none_is_none():
    def north(lonlat):
        return lonlat[:, 1] > 0

    assert inside_of(north) is north
    assert inside_of(None) is None


@pytest.mark.parametrize(
    ("within", "message"),
    [
        ([], "at least one"),
        (shapely.Polygon(), "at least one"),
        (shapely.Point(0, 0), "must hold polygons"),
        ([shapely.box(0, 0, 1, 1), shapely.Point(0, 0)], "nothing else"),
        (shapely.Polygon([(0, 0), (1, 1), (2, 2)]), "without any area"),
        ("Kenya", "holds no polygons"),
        (7, "holds no polygons"),
    ],
)
def test_what_holds_no_polygons_is_refused(within, message):
    with pytest.raises(OptionError, match=message):
        inside_of(within)


def test_a_crs_that_cannot_be_left_is_named():
    local = gpd.GeoSeries([shapely.box(0, 0, 1, 1)], crs='LOCAL_CS["yard",UNIT["metre",1]]')
    with pytest.raises(CoordinateError, match="within= cannot be brought to lon/lat"):
        inside_of(local)
