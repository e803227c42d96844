import numpy as np
import pytest

from geoembed.errors import CoordinateError, OptionError
from geoembed.geodesy import (
    EARTH_RADIUS_KM,
    destination,
    distance_km,
    from_unit_vectors,
    great_circle_km,
    spherical_mean,
    to_unit_vectors,
    wrap_longitude,
)

HALF_TURN_KM = np.pi * EARTH_RADIUS_KM


@pytest.mark.parametrize(
    ("lon", "wrapped"),
    [
        (190.0, -170.0),
        (-190.0, 170.0),
        (180.0, 180.0),
        (-180.0, -180.0),
        (360.0, 0.0),
        (540.0, 180.0),
        (-540.0, -180.0),
        (3600.25, 0.25),
        (1e6, -80.0),
        (359.0, -1.0),
    ],
)
def test_longitudes_wrap_to_known_values(lon, wrapped):
    assert wrap_longitude(lon) == wrapped


def test_longitudes_inside_are_untouched_bit_for_bit():
    lon = np.array(
        [-180.0, np.nextafter(-180.0, 0.0), -0.0, 5e-324, 0.1, 179.99999999999997, 180.0]
    )
    assert wrap_longitude(lon).tobytes() == lon.tobytes()


def test_wrapping_keeps_the_shape_and_marks_what_is_no_number():
    wrapped = wrap_longitude([[np.nan, np.inf], [-np.inf, 361.0]])
    np.testing.assert_array_equal(wrapped, [[np.nan, np.nan], [np.nan, 1.0]])


@pytest.mark.parametrize(
    ("start", "end", "km"),
    [
        # A degree along the equator is a / 57.29...; from equator to pole the quarter meridian.
        ((0.0, 0.0), (1.0, 0.0), np.radians(6378.137)),
        ((0.0, 0.0), (0.0, 90.0), 10001.9657293127),
        ((12.0, -90.0), (99.0, 90.0), 2 * 10001.9657293127),
        # Nearly antipodal, from Karney (2013), table 4.
        ((0.0, -30.0), (179.8, 29.9), 19989.832827610),
        ((179.5, 0.0), (-179.5, 0.0), np.radians(6378.137)),
    ],
)
def test_geodesic_distances_against_literals(start, end, km):
    assert distance_km(*start, *end) == pytest.approx(km, abs=1e-9)


def test_distances_broadcast_and_leave_their_arguments_alone():
    lon, lat = np.array([0.0, 10.0, 20.0]), np.array([[0.0], [45.0]])
    kept = lon.copy(), lat.copy()
    for distance in (distance_km, great_circle_km):
        table = distance(lon, lat, 0.0, 0.0)
        assert table.shape == (2, 3)
        assert table[0, 0] == 0.0
        assert table[1, 2] == pytest.approx(float(distance(20.0, 45.0, 0.0, 0.0)), rel=1e-15)
    np.testing.assert_array_equal(lon, kept[0])
    np.testing.assert_array_equal(lat, kept[1])


def test_a_distance_to_nowhere_is_nan():
    assert np.isnan(distance_km([np.nan, 0.0], [0.0, 91.0], 1.0, 1.0)).all()
    assert np.isnan(great_circle_km(np.nan, 0.0, 1.0, 1.0))


def test_great_circles_against_exact_angles():
    assert great_circle_km(0.0, 0.0, 90.0, 0.0) == pytest.approx(HALF_TURN_KM / 2, rel=1e-15)
    assert great_circle_km(-30.0, 60.0, 150.0, 60.0) == pytest.approx(HALF_TURN_KM / 3, rel=1e-14)
    # cos(c) = sin(lat1) sin(lat2) + cos(lat1) cos(lat2) cos(dlon) = 1/4 + 3/4 * 0
    assert great_circle_km(0.0, 30.0, 90.0, 30.0) == pytest.approx(
        EARTH_RADIUS_KM * np.arccos(0.25), rel=1e-15
    )


@pytest.mark.parametrize("degrees", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("lat", [0.0, 51.3, -89.0])
def test_great_circles_keep_their_digits_near_zero_and_near_the_antipode(lat, degrees):
    step = np.radians(degrees) * EARTH_RADIUS_KM
    # Only the stored latitude rounds: one unit in the last place of 90 degrees.
    rounding = 1.5e-14 * EARTH_RADIUS_KM
    assert great_circle_km(7.0, lat, 7.0, lat + degrees) == pytest.approx(step, abs=rounding)
    gap = HALF_TURN_KM - great_circle_km(7.0, lat, -173.0, -lat - degrees)
    assert gap == pytest.approx(step, abs=rounding + 4e-12)


def test_the_sphere_stays_within_its_promise_of_the_ellipsoid():
    rng = np.random.default_rng(0)
    lon, lat = (
        rng.uniform(-180, 180, (2, 5000)),
        np.degrees(np.arcsin(rng.uniform(-1, 1, (2, 5000)))),
    )
    ratio = great_circle_km(lon[0], lat[0], lon[1], lat[1]) / distance_km(
        lon[0], lat[0], lon[1], lat[1]
    )
    assert np.abs(ratio - 1).max() < 0.0056


def test_destinations_are_undone_by_distances():
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(-180, 180, 500), rng.uniform(-90, 90, 500)
    bearing, km = rng.uniform(-180, 180, 500), rng.uniform(0, 19900, 500)
    end_lon, end_lat = destination(lon, lat, bearing, km)
    assert np.abs(end_lon).max() <= 180
    np.testing.assert_allclose(distance_km(lon, lat, end_lon, end_lat), km, atol=1e-8)


def test_destinations_broadcast_and_cross_the_antimeridian():
    lon, lat = destination(179.5, 0.0, [90.0, -90.0], np.radians(6378.137))
    np.testing.assert_allclose(lon, [-179.5, 178.5], atol=1e-12)
    np.testing.assert_allclose(lat, 0.0, atol=1e-12)
    back, _ = destination(0.0, 0.0, 90.0, -np.radians(6378.137))
    assert back == pytest.approx(-1.0, abs=1e-12)


def test_unit_vectors_point_where_they_should():
    places = [[0, 0], [90, 0], [-180, 0], [0, 90], [45, -45]]
    vectors = to_unit_vectors(places)
    expected = [[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, 0, 1], [0.5, 0.5, -np.sqrt(0.5)]]
    np.testing.assert_allclose(vectors, expected, atol=1e-15)
    np.testing.assert_allclose(
        from_unit_vectors(3.0 * vectors)[[0, 1, 4]], [[0, 0], [90, 0], [45, -45]]
    )


def test_unit_vectors_of_nothing():
    assert to_unit_vectors(np.empty((0, 2))).shape == (0, 3)
    assert np.isnan(from_unit_vectors([[0.0, 0.0, 0.0]])).all()


@pytest.mark.parametrize("places", [[1.0, 2.0], [[1.0, 2.0, 3.0]], np.zeros((2, 2, 2))])
def test_places_of_another_shape_are_refused(places):
    with pytest.raises(CoordinateError, match=r"must have the shape \(n, 2\), got \("):
        to_unit_vectors(places)


def test_vectors_of_another_shape_are_refused():
    with pytest.raises(CoordinateError, match=r"must have the shape \(n, 3\), got \(1, 2\)"):
        from_unit_vectors([[1.0, 2.0]])


def test_means_on_the_sphere():
    np.testing.assert_allclose(spherical_mean([[170, 10], [-170, 10]])[0] % 360, 180.0)
    ring = np.stack([np.arange(0, 360, 30.0), np.full(12, 80.0)], axis=1)
    assert spherical_mean(ring)[1] == pytest.approx(90.0)
    assert spherical_mean([[0, 0], [90, 0]], weights=[1.0, np.sqrt(3.0)])[0] == pytest.approx(60.0)


@pytest.mark.parametrize(
    ("places", "weights"),
    [
        (np.empty((0, 2)), None),
        ([[0, 0], [180, 0]], None),
        ([[5, 5]], [0.0]),
        ([[0, 0], [np.nan, 1]], None),
    ],
)
def test_where_no_mean_exists_it_is_nan(places, weights):
    assert np.isnan(spherical_mean(places, weights)).all()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"weights= must have the shape \(2,\), got \(1,\)"),
        ([1.0, -1.0], "finite and not negative"),
        ([1.0, np.inf], "finite and not negative"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(OptionError, match=message):
        spherical_mean([[0, 0], [1, 1]], weights)
