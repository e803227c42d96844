"""Conversion to WGS 84, against literal places."""

import geopandas as gpd
import numpy as np
import pyproj
import pytest
from shapely import Point

from geoembed.coordinates import read_places
from geoembed.errors import CoordinateError

GREENWICH = Point(0.0, 51.4779)


@pytest.mark.parametrize(
    ("crs", "east", "north", "lon", "lat", "degrees"),
    [
        # Spherical Mercator: lon = x / a, and the pole of the square at a * pi.
        ("EPSG:3857", 20037508.342789244, 0.0, 180.0, 0.0, 1e-12),
        ("EPSG:3857", -8238310.235647, 4970071.579142, -74.006, 40.7128, 1e-10),
        # The old observatory in Bern, origin of the Swiss grid (swisstopo).
        ("EPSG:2056", 2600000.0, 1200000.0, 7.438632495, 46.951082877, 2e-7),
        # Caister water tower (Ordnance Survey); without its grid the datum shift is good to 5 m.
        ("EPSG:27700", 651409.903, 313177.270, 1.71607397, 52.65800783, 7e-5),
        # NAD 83 is WGS 84 to PROJ, at the metre.
        ("EPSG:4269", -74.006, 40.7128, -74.006, 40.7128, 1e-12),
        ("EPSG:4326", -74.006, 40.7128, -74.006, 40.7128, 0.0),
        ("OGC:CRS84", -74.006, 40.7128, -74.006, 40.7128, 0.0),
        # Axes declared (north, east): easting still comes first.
        ("EPSG:2193", 1600000.0, 5430000.0, 173.0, -41.28, 0.01),
        # Grads east of Paris: 100 grads are 90 degrees; datum shift of some hundred metres.
        ("EPSG:4807", 0.0, 50.0, 2.33722917, 45.0, 0.003),
        # Longitudes beyond a turn, geographic but not WGS 84.
        ("EPSG:4269", 650.0, 10.0, -70.0, 10.0, 1e-9),
        # A height system beside the plane does not matter.
        ("EPSG:4326+5773", 7.0, 46.0, 7.0, 46.0, 1e-9),
    ],
)
def test_places_in_any_crs(crs, east, north, lon, lat, degrees):
    arrays = read_places(lon=east, lat=north, crs=crs)
    np.testing.assert_allclose(arrays.lonlat, [[lon, lat]], rtol=0, atol=degrees)
    frame = gpd.GeoDataFrame(geometry=[Point(east, north, 99.0)], crs=crs)
    np.testing.assert_array_equal(read_places(frame).lonlat, arrays.lonlat)


@pytest.mark.parametrize("crs", [3857, "epsg:3857", pyproj.CRS(3857), pyproj.CRS(3857).to_wkt()])
def test_a_crs_in_any_notation(crs):
    assert read_places([[0.0, 0.0]], crs=crs).lonlat.tolist() == [[0.0, 0.0]]


def test_the_network_stays_off():
    read_places([[651409.0, 313177.0]], crs=27700)
    assert not pyproj.network.is_network_enabled()


def test_a_frame_without_a_crs_says_how_to_state_it():
    frame = gpd.GeoDataFrame(geometry=[GREENWICH])
    for data in (frame, frame.geometry, frame.geometry.array):
        with pytest.raises(CoordinateError, match=r"no CRS .*'geometry'.*set_crs\(4326\) or crs="):
            read_places(data)
        assert read_places(data, crs=4326).lonlat.tolist() == [[0.0, 51.4779]]


def test_a_crs_that_contradicts_the_frame_is_refused():
    frame = gpd.GeoDataFrame(geometry=[GREENWICH], crs=4326)
    with pytest.raises(
        CoordinateError, match=r"crs=EPSG:3857 contradicts .*'geometry', EPSG:4326.*to_crs"
    ):
        read_places(frame, crs=3857)
    assert len(read_places(frame, crs="OGC:CRS84")) == 1


def test_a_crs_that_is_none_is_refused():
    with pytest.raises(CoordinateError, match="crs='atlantis' is no CRS that pyproj knows"):
        read_places([[0, 0]], crs="atlantis")


@pytest.mark.parametrize(("crs", "kind"), [(4978, "Geocentric CRS"), (5773, "Vertical CRS")])
def test_a_crs_that_is_not_horizontal_is_refused(crs, kind):
    with pytest.raises(CoordinateError, match=f"EPSG:{crs} is a {kind}: places need a geographic"):
        read_places([[0, 0]], crs=crs)


@pytest.mark.parametrize(
    ("mars", "name"),
    [("ESRI:104905", "ESRI:104905"), ("+proj=longlat +R=3396190 +no_defs", r"\+proj=longlat")],
)
def test_a_crs_without_a_way_to_wgs84_is_refused(mars, name):
    with pytest.raises(CoordinateError, match=f"There is no way from {name}.* to WGS 84"):
        read_places([[0, 0]], crs=mars)


def test_what_a_projection_cannot_reach_is_an_invalid_row():
    east, north = [651409.903, 1e30], [313177.270, 1.0]
    with pytest.raises(CoordinateError, match=r"1 outside the domain of the CRS \(row 1\)"):
        read_places(lon=east, lat=north, crs=27700)
    assert read_places(lon=east, lat=north, crs=27700, on_invalid="nan").valid.tolist() == [
        True,
        False,
    ]


def test_the_poles_survive_projections():
    places = gpd.GeoSeries([Point(0, 90), Point(40, 89.999999)], crs=4326).to_crs(3995)
    lat = read_places(places).lonlat[:, 1]
    np.testing.assert_allclose(lat, [90, 89.999999], atol=1e-9)
    assert lat.max() <= 90


def test_latitudes_are_checked_before_a_datum_shift_too():
    with pytest.raises(
        CoordinateError, match=r"latitude outside \[-90, 90\] in lat=: row 0 \(95\)"
    ):
        read_places(lon=[10.0], lat=[95.0], crs=4269)
