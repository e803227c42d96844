"""The rules of the boundary: ranges, invalid rows, geometry types."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely import GeometryCollection, LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from geoembed.coordinates import read_places
from geoembed.errors import CoordinateError, OptionError
from geoembed.geodesy import spherical_mean
from geoembed.geometries import geodesic_centroids

NAN = [np.nan, np.nan]


# --- ranges --------------------------------------------------------------------------


def test_the_corners_of_the_world_are_places():
    corners = [[-180.0, -90.0], [180.0, 90.0], [-180.0, 90.0], [0.0, -0.0]]
    assert read_places(corners).lonlat.tolist() == corners


@pytest.mark.parametrize("on_invalid", ["raise", "nan"])
@pytest.mark.parametrize(
    ("lon", "lat", "message"),
    [
        ([0, 160], [90.000001, 20], r"1 of 2 rows .* in lat=: row 0 \(90.000001\). Correct them:"),
        ([100, 160], [-95, 20], r"row 0 \(-95\). Correct them first"),
        ([2.35, -0.1], [148.9, 51.5], "The columns look swapped: every row is valid as"),
        (
            [35.7, -33.9, 40.7],
            [139.7, 151.2, -74.0],
            r"2 of 3 rows .*rows 0 \(139.7\), 1 \(151.2\).*The columns look swapped",
        ),
        ([35.7, 151.2], [139.7, -33.9], "in these rows longitude and latitude may be swapped"),
        ([-60.5, 10], [300.0, 5], "The columns look swapped"),
        ([500000, 2], [4649776, 3], "Numbers this large look projected: .*crs='EPSG:3857'"),
        (
            [0] * 8,
            range(91, 99),
            r"rows 0 \(91\), 1 \(92\), 2 \(93\), 3 \(94\), 4 \(95\) and 3 more",
        ),
    ],
)
def test_latitudes_beyond_the_poles_are_an_error_whatever_becomes_of_invalid_rows(
    lon, lat, message, on_invalid
):
    with pytest.raises(CoordinateError, match=message):
        read_places(lon=lon, lat=list(lat), on_invalid=on_invalid)


def test_swapped_columns_are_named_by_label():
    frame = pd.DataFrame({"lon": [40.7, 51.5], "lat": [-174.0, -0.1]}, index=["NYC", "LON"])
    with pytest.raises(
        CoordinateError, match=r"in column 'lat': row 'NYC' \(-174\). The columns look swapped"
    ):
        read_places(frame)
    with pytest.raises(CoordinateError, match=r"in the second column: row 0 \(-174\). The columns"):
        read_places(frame.to_numpy())


def test_swapped_geometries_are_recognised():
    frame = gpd.GeoDataFrame(geometry=[Point(40.7, -174.0)], crs=4326, index=["NYC"])
    with pytest.raises(
        CoordinateError, match=r"column 'geometry': row 'NYC' .*coordinates look swapped"
    ):
        read_places(frame)
    shape = box(40.0, 150.0, 41.0, 151.0)
    with pytest.raises(
        CoordinateError, match=r"the geometries: row 0 \(150\).*coordinates look swapped"
    ):
        read_places([shape], geometry="centroid")


def test_a_wrongly_declared_crs_is_recognised():
    frame = gpd.GeoDataFrame(geometry=[Point(500000, 4649776)], crs=4326)
    with pytest.raises(CoordinateError, match=r"look projected: .*set_crs\(.*instead of EPSG:4326"):
        read_places(frame)


def test_invalid_rows_do_not_hide_or_cause_range_errors():
    with pytest.raises(CoordinateError, match="The columns look swapped"):
        read_places(lon=[np.nan, 40.0, 200.0], lat=[0.0, 150.0, np.inf])
    places = read_places(lon=[np.inf, np.nan, 1.0], lat=[95.0, 95.0, 2.0], on_invalid="nan")
    np.testing.assert_array_equal(places.lonlat, [NAN, NAN, [1.0, 2.0]])


# --- invalid rows --------------------------------------------------------------------

PATCHY = gpd.GeoSeries(
    [Point(0, 0), None, Point(), Point(np.nan, 1), Point(np.inf, 1), MultiPoint([(1, 2)]), None],
    index=list("abcdefg"),
    crs=4326,
)


def test_invalid_rows_are_counted_by_reason_and_named():
    expected = (
        r"5 of 7 rows hold no usable place: 2 missing \(rows 'b', 'g'\); "
        r"1 empty geometry \(row 'c'\); 1 NaN in the geometry \(row 'd'\); "
        r"1 infinite \(row 'e'\). Remove or correct them, or pass on_invalid='nan'"
    )
    with pytest.raises(CoordinateError, match=expected):
        read_places(PATCHY)


@pytest.mark.parametrize("crs", [4326, 4269, 3857])
@pytest.mark.parametrize("geometry", ["point", "representative_point", "centroid"])
def test_invalid_rows_are_kept_as_nan(crs, geometry):
    series = PATCHY.set_crs(crs, allow_override=True)
    places = read_places(series, geometry=geometry, on_invalid="nan")
    good = [True, False, False, False, False, True, False]
    assert places.valid.tolist() == good
    assert np.isfinite(places.lonlat).all(axis=1).tolist() == good
    assert np.isnan(places.lonlat).any(axis=1).tolist() == [not row for row in good]
    assert places.index.tolist() == list("abcdefg")


def test_missing_numbers_are_missing_rows():
    columns = {"lon": [1, None, 3, np.inf], "lat": [pd.NA, 2, 3, 4]}
    frame = pd.DataFrame(columns, index=pd.Index([7, 8, 9, 10]))
    with pytest.raises(
        CoordinateError, match=r"3 of 4 .*2 missing \(rows 7, 8\); 1 infinite \(row 10\)"
    ):
        read_places(frame)
    places = read_places(frame, on_invalid="nan")
    np.testing.assert_array_equal(places.lonlat, [NAN, NAN, [3, 3], NAN])


def test_masked_places_are_missing():
    masked = np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[False, False], [False, True]])
    assert read_places(masked, on_invalid="nan").valid.tolist() == [True, False]


def test_the_first_five_invalid_rows_are_named():
    with pytest.raises(CoordinateError, match=r"rows 0, 1, 2, 3, 4 and 1,995 more"):
        read_places(np.full((2000, 2), np.nan))


# --- geometry types ------------------------------------------------------------------

SQUARE = box(10, 40, 20, 50)
MIXED = gpd.GeoSeries(
    [
        Point(0.1, 0.2),
        SQUARE,
        LineString([(0, 0), (4, 0)]),
        MultiPoint([(0, 0), (1, 1)]),
        GeometryCollection([Point(1, 1)]),
        MultiPolygon([box(177, -19, 180, -16), box(-180, -19, -178, -16)]),
        None,
    ],
    index=list("abcdefg"),
    crs=4326,
)


def test_only_points_are_taken_without_a_choice():
    expected = (
        r"5 of 7 rows in column 'geometry' are no single points: rows 'b' \(Polygon\), "
        r"'c' \(LineString\), 'd' \(MultiPoint\), 'e' \(GeometryCollection\), "
        r"'f' \(MultiPolygon\). Choose .*'representative_point'.*'centroid'.*'sample'"
    )
    for on_invalid in ("raise", "nan"):
        with pytest.raises(CoordinateError, match=expected):
            read_places(MIXED, on_invalid=on_invalid)


def test_centroids_and_representative_points_of_everything():
    centroid = read_places(MIXED, geometry="centroid", on_invalid="nan")
    np.testing.assert_array_equal(centroid.lonlat, geodesic_centroids(MIXED.tolist()))
    assert centroid.lonlat[0].tolist() == [0.1, 0.2]
    assert centroid.lonlat[5, 0] == pytest.approx(179.5)
    inside = read_places(MIXED, geometry="representative_point", on_invalid="nan")
    assert inside.lonlat[:2].tolist() == [[0.1, 0.2], [15.0, 45.0]]
    for places in (centroid, inside):
        assert places.valid.tolist() == [True] * 6 + [False]
        assert places.owner is None


def test_samples_know_their_rows_and_every_row_has_one():
    places = read_places(MIXED, geometry="sample", samples=8, on_invalid="nan")
    assert places.owner.tolist() == sorted(places.owner)
    assert np.bincount(places.owner).tolist() == [1, 8, 8, 2, 1, 8, 1]
    np.testing.assert_array_equal(np.isnan(places.lonlat[:, 0]), places.owner == 6)
    assert len(places) == 7
    means = [spherical_mean(places.lonlat[places.owner == row]) for row in (1, 5)]
    np.testing.assert_allclose(means, geodesic_centroids(MIXED.iloc[[1, 5]].tolist()), atol=1)


@pytest.mark.parametrize("data", [[Point(1, 2), Point(3, 4)], np.array([[1, 2], [3, 4]])])
def test_samples_of_points_are_the_points(data):
    places = read_places(data, geometry="sample")
    assert places.lonlat.tolist() == [[1, 2], [3, 4]]
    assert places.owner.tolist() == [0, 1]


@pytest.mark.parametrize("geometry", ["representative_point", "centroid", "sample"])
def test_projected_geometries_are_converted_before_they_are_reduced(geometry):
    degrees = gpd.GeoSeries([SQUARE, Point(5, 6), None, Polygon(), box(1, 1, 2, 2)], crs=4326)
    expected = read_places(degrees, geometry=geometry, on_invalid="nan")
    for crs in (3857, 4269, 3035):
        # A square in degrees is not one in EPSG:3035, but its corners are.
        found = read_places(degrees.to_crs(crs), geometry=geometry, on_invalid="nan")
        np.testing.assert_allclose(found.lonlat, expected.lonlat, atol=1e-6)
        np.testing.assert_array_equal(found.valid, expected.valid)


def test_a_polygon_that_crosses_the_antimeridian_in_its_own_crs():
    pacific = gpd.GeoSeries([box(177, -19, 182, -16)], crs=4326).to_crs(3832)
    place = read_places(pacific, geometry="centroid").lonlat
    np.testing.assert_allclose(place, geodesic_centroids([box(177, -19, 182, -16)]), atol=1e-9)


@pytest.mark.parametrize("crs", [4326, 4269])
def test_polygons_from_0_to_360_degrees_keep_their_shape(crs):
    band, strait = box(0, 60, 360, 70), box(170, 60, 200, 70)
    places = read_places([band, strait], geometry="centroid", crs=crs).lonlat
    assert places[0, 1] == pytest.approx(90, abs=0.01)
    np.testing.assert_allclose(places[1] % 360, geodesic_centroids([strait])[0] % 360, atol=0.01)


def test_heights_are_ignored():
    solid = Polygon([(0, 0, 5), (2, 0, 9), (2, 2, 1), (0, 2, np.nan)])
    for crs in (None, 4269):
        place = read_places([solid], geometry="centroid", crs=crs).lonlat
        np.testing.assert_allclose(place, geodesic_centroids([box(0, 0, 2, 2)]), atol=1e-12)


def test_a_polygon_with_one_bad_corner_is_one_invalid_row():
    broken = Polygon([(0, 0), (np.inf, 1), (1, 1)])
    with pytest.raises(CoordinateError, match=r"1 of 2 .* 1 infinite \(row 1\)"):
        read_places([SQUARE, broken], geometry="centroid")
    far = Polygon([(0, 0), (1e30, 1), (1e30, 2)])
    with pytest.raises(CoordinateError, match=r"1 outside the domain of the CRS \(row 0\)"):
        read_places([far], geometry="sample", crs=27700)


# --- options -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"geometry": "middle"},
            "geometry='middle' is not offered: choose 'point', .* or 'sample'",
        ),
        ({"on_invalid": "drop"}, r"on_invalid='drop' exists in geoembed.embed\(\) only"),
        ({"on_invalid": "skip"}, "on_invalid='skip' is not offered: choose 'raise' or 'nan'"),
        ({"samples": 0}, "samples=0 is no whole number of at least 1"),
        ({"samples": 1.5}, "samples=1.5 is no whole number of at least 1"),
    ],
)
def test_options_that_do_not_exist_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        read_places([[0, 0]], **options)
