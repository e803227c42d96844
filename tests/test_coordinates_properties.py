"""What holds for every place: properties of the coordinate boundary."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapely import Point

from geoembed.coordinates import read_places
from geoembed.errors import CoordinateError
from geoembed.geodesy import (
    distance_km,
    from_unit_vectors,
    great_circle_km,
    to_unit_vectors,
    wrap_longitude,
)
from geoembed.geometries import geodesic_centroids, sample_points

# No deadline: the first example of a test also imports and prepares.
often = settings(deadline=None, max_examples=60)

LONGITUDES = st.floats(-1e5, 1e5)
LATITUDES = st.floats(-90, 90)
INSIDE = st.tuples(st.floats(-180, 180), LATITUDES)
PLACES = st.lists(st.tuples(LONGITUDES, LATITUDES), min_size=1, max_size=20)
HOLES = [None, Point(), Point(np.nan, 0), Point(0, np.inf), Point(-np.inf, 95)]


def frame_of(places):
    return pd.DataFrame(places, columns=["lon", "lat"], dtype=float)


@often
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_wrapping_ends_inside_and_is_idempotent(lon):
    wrapped = wrap_longitude(lon)
    assert -180 <= wrapped <= 180
    assert wrap_longitude(wrapped).tobytes() == wrapped.tobytes()


@often
@given(st.floats(-180, 180), st.integers(-1000, 1000))
def test_wrapping_is_periodic(lon, turns):
    turned = lon + 360.0 * turns
    apart = abs(wrap_longitude(turned) - lon)
    # The sum rounds, by one unit in the last place; at the seam both ends are right.
    assert min(apart, abs(apart - 360.0)) <= np.spacing(abs(turned))


@often
@given(PLACES)
def test_every_input_gives_the_same_places(places):
    frame = frame_of(places)
    lon, lat = frame["lon"].to_numpy(), frame["lat"].to_numpy()
    expected = read_places(frame).lonlat
    points = gpd.GeoSeries.from_xy(lon, lat, crs=4326)
    for found in (
        read_places(frame.to_numpy()),
        read_places(places),
        read_places(lon=lon, lat=lat),
        read_places(points),
        read_places(gpd.GeoDataFrame(geometry=points)),
        read_places(points.tolist()),
        read_places(points, geometry="centroid"),
        read_places(points, geometry="sample"),
    ):
        assert found.lonlat.tobytes() == expected.tobytes()
    assert (np.abs(expected[:, 0]) <= 180).all()
    assert expected[:, 1].tobytes() == lat.tobytes()


@often
@given(PLACES, st.randoms(use_true_random=False))
def test_the_index_and_the_order_survive(places, random):
    labels = [f"id{k}" for k in range(len(places))]
    random.shuffle(labels)
    frame = frame_of(places).set_index(pd.Index(labels, name="id"))
    found = read_places(frame)
    assert found.index.equals(frame.index)
    np.testing.assert_array_equal(
        found.lonlat, [read_places([place]).lonlat[0] for place in places]
    )


@often
@given(PLACES, st.lists(st.tuples(st.integers(0, 19), st.integers(0, len(HOLES) - 1))))
def test_invalid_rows_are_exactly_those_put_in(places, holes):
    points = [Point(*place) for place in places]
    bad = {row: HOLES[kind] for row, kind in holes if row < len(points)}
    for row, hole in bad.items():
        points[row] = hole
    found = read_places(points, on_invalid="nan")
    assert set(np.flatnonzero(~found.valid)) == set(bad)
    np.testing.assert_array_equal(np.isnan(found.lonlat).all(axis=1), ~found.valid)
    np.testing.assert_array_equal(
        found.lonlat[found.valid], read_places(places).lonlat[found.valid]
    )
    if bad:
        with pytest.raises(
            CoordinateError, match=f"{len(bad)} of {len(points)} rows hold no usable"
        ):
            read_places(points)


@often
@given(st.lists(INSIDE, min_size=1, max_size=20))
def test_swapped_columns_are_recognised_or_valid(places):
    frame = frame_of(places)
    swapped = {"lon": frame["lat"], "lat": frame["lon"]}
    if (frame["lon"].abs() <= 90).all():
        assert read_places(swapped).valid.all()
    else:
        with pytest.raises(CoordinateError, match="The columns look swapped"):
            read_places(swapped)


@often
@given(st.lists(st.tuples(st.floats(-179.9, 179.9), st.floats(-84, 84)), min_size=1, max_size=20))
@pytest.mark.parametrize(
    # PROJ's series for authalic latitudes (Equal Earth, EASE grid) come back to 1.5e-8 degrees.
    ("crs", "degrees"),
    [(3857, 1e-9), (4269, 1e-9), (8857, 2e-8), (6933, 2e-8)],
)
def test_round_trips_through_a_crs_come_back(crs, degrees, places):
    points = gpd.GeoSeries.from_xy(*np.array(places).T, crs=4326).to_crs(crs)
    np.testing.assert_allclose(read_places(points).lonlat, places, rtol=0, atol=degrees)


@often
@given(INSIDE, INSIDE)
def test_distances_are_symmetric_and_near_the_sphere(one, other):
    there, back = distance_km(*one, *other), distance_km(*other, *one)
    assert there == pytest.approx(back, abs=1e-9)
    assert great_circle_km(*one, *other) == pytest.approx(there, rel=0.0057, abs=1e-9)


@often
@given(INSIDE)
def test_unit_vectors_go_there_and_back(place):
    back = from_unit_vectors(to_unit_vectors([place]))
    assert great_circle_km(*place, *back[0]) < 1e-11


@often
@given(
    st.lists(
        st.tuples(st.floats(-30, 30), st.floats(-30, 30)), min_size=4, max_size=12, unique=True
    ),
    st.sampled_from([0.0, 150.0, 180.0, -170.0]),
    st.floats(-50, 50),
)
def test_convex_polygons_hold_their_centroid_and_samples_wherever_they_lie(points, lon, lat):
    hull = gpd.GeoSeries([Point(*p) for p in points]).union_all().convex_hull
    assume(hull.geom_type == "Polygon" and hull.area > 1e-3 * hull.length**2)
    moved = gpd.GeoSeries([hull]).translate(lon, lat).item()
    jumping = gpd.GeoSeries([moved]).transform(
        lambda c: np.stack([wrap_longitude(c[:, 0]), c[:, 1]], axis=1)
    )
    # Straight edges in lon/lat bend outwards on the sphere by some degrees at most.
    around = moved.buffer(5)
    for polygon in (moved, jumping.item()):
        owner, lonlat = sample_points([polygon], 16)
        assert len(owner) == 16
        for place in (geodesic_centroids([polygon])[0], *lonlat):
            assert any(around.covers(Point(place[0] + turn, place[1])) for turn in (-360, 0, 360))
