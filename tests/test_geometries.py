import numpy as np
import pyproj
import pytest
import shapely
from shapely import (
    GeometryCollection,
    LinearRing,
    LineString,
    MultiLineString,
    MultiPoint,
    MultiPolygon,
    Point,
    Polygon,
    box,
)

from geoembed.errors import OptionError
from geoembed.geodesy import (
    from_unit_vectors,
    great_circle_km,
    spherical_mean,
    to_unit_vectors,
    wrap_longitude,
)
from geoembed.geometries import geodesic_centroids, representative_points, sample_points
from geoembed.parts import as_array, polygon_areas

FIJI_UNCUT = Polygon([(177, -19), (-178, -19), (-178, -16), (177, -16)])
FIJI_CUT = MultiPolygon([box(177, -19, 180, -16), box(-180, -19, -178, -16)])
FIJI_EASTWARD = box(177, -19, 182, -16)


def stars(n, vertices=60, radius=5.0, seed=0):
    """Star-like polygons of all shapes, away from poles and antimeridian."""
    rng = np.random.default_rng(seed)
    turn = np.sort(rng.uniform(0, 2 * np.pi, (n, vertices)), axis=1)
    reach = radius * (1 + 0.4 * np.sin(3 * turn + rng.uniform(0, 6, (n, 1))))
    ring = np.stack([reach * np.cos(turn), reach * np.sin(turn)], axis=-1)
    return shapely.polygons(ring + rng.uniform(-60, 60, (n, 1, 2)))


def ring_at(lat, count=36, start=-180.0):
    return [(float(wrap_longitude(start + 360.0 * k / count)), lat) for k in range(count)]


def box_centroid(west, south, east, north):
    """Integrate the unit normal over a box by hand."""
    lam, (lo, hi) = np.radians([west, east]), np.radians([south, north])
    meridian = (hi - lo) / 2 + (np.sin(2 * hi) - np.sin(2 * lo)) / 4
    vector = [
        meridian * (np.sin(lam[1]) - np.sin(lam[0])),
        meridian * (np.cos(lam[0]) - np.cos(lam[1])),
        (lam[1] - lam[0]) * (np.sin(hi) ** 2 - np.sin(lo) ** 2) / 2,
    ]
    return from_unit_vectors([vector])[0]


def great_circle_polygon_centroid(polygon):
    """Sum theta * n over great-circle edges, after Brock (1975), on a dense ring."""
    ring = shapely.get_coordinates(shapely.segmentize(polygon.exterior, 0.002))
    a, b = to_unit_vectors(ring[:-1]), to_unit_vectors(ring[1:])
    cross = np.cross(a, b)
    sine = np.linalg.norm(cross, axis=1, keepdims=True)
    angle = np.arctan2(sine, (a * b).sum(axis=1, keepdims=True))
    total = (angle * cross / sine).sum(axis=0)
    return from_unit_vectors([total * np.sign(total @ a.mean(axis=0))])[0]


def km_apart(one, other):
    one, other = np.atleast_2d(one), np.atleast_2d(other)
    return great_circle_km(one[:, 0], one[:, 1], other[:, 0], other[:, 1])


# --- centroids -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "corners",
    [
        (10, 40, 20, 50),
        (0, 60, 90, 90),
        (-100, -35, 70, 80),
        (100, -89, 260, -10),
    ],
)
def test_centroids_of_boxes_against_the_integral(corners):
    assert km_apart(geodesic_centroids([box(*corners)]), box_centroid(*corners))[0] < 1e-8


def test_centroids_of_any_polygon_against_great_circle_edges():
    polygons = stars(6)
    expected = np.array([great_circle_polygon_centroid(polygon) for polygon in polygons])
    assert km_apart(geodesic_centroids(polygons), expected).max() < 1e-5


def test_centroids_of_small_polygons_against_an_equal_area_projection():
    for polygon in stars(5, radius=0.05, seed=3):
        found = geodesic_centroids([polygon])[0]
        plane = pyproj.Transformer.from_crs(
            "+proj=longlat +R=6371008.8",
            f"+proj=laea +lat_0={found[1]} +lon_0={found[0]} +R=6371008.8",
            always_xy=True,
        )
        dense = shapely.segmentize(polygon, 0.001)
        flat = shapely.transform(dense, lambda c, to=plane: np.stack(to.transform(*c.T), axis=1))
        assert np.hypot(flat.centroid.x, flat.centroid.y) < 0.01  # metres, of polygons 10 km wide


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9])
def test_centroids_of_tiny_polygons_keep_their_digits(size):
    place = geodesic_centroids([box(10, 60, 10 + size, 60 + size)])[0]
    np.testing.assert_allclose((place - [10, 60]) / size, 0.5, atol=1e-5)


def test_the_antimeridian_makes_no_difference_to_centroids():
    uncut, cut, eastward = geodesic_centroids([FIJI_UNCUT, FIJI_CUT, FIJI_EASTWARD])
    np.testing.assert_allclose(uncut, box_centroid(177, -19, 182, -16), atol=1e-12)
    np.testing.assert_allclose(cut, uncut, atol=1e-12)
    np.testing.assert_allclose(eastward, uncut, atol=1e-12)


def test_vertices_on_the_antimeridian_may_lie_on_either_side_of_it():
    rounded = np.nextafter(-180.0, 0.0)
    rings = [
        [(177, -19), (one, -19), (other, -16), (177, -16)]
        for one in (180.0, -180.0, rounded)
        for other in (180.0, -180.0, rounded)
    ]
    places = geodesic_centroids([Polygon(ring) for ring in rings])
    np.testing.assert_allclose(places, [box_centroid(177, -19, 180, -16)] * 9, atol=1e-12)


@pytest.mark.parametrize("east", [180.0, np.nextafter(180.0, 0.0)])
def test_the_rim_of_a_map_is_taken_the_long_way(east):
    band = box(-180, 0, east, 30)
    _, lonlat = sample_points([band], 400)
    assert np.histogram(lonlat[:, 0], 4, (-180, 180))[0].tolist() == pytest.approx([100] * 4, abs=3)
    assert polygon_areas(as_array([band]))[0] == pytest.approx(np.pi)


@pytest.mark.parametrize("pole", [90.0, -90.0])
@pytest.mark.parametrize("direction", [1, -1])
def test_rings_round_a_pole_enclose_it_whichever_way_they_run(pole, direction):
    ring = ring_at(np.sign(pole) * 70.0)[::direction]
    planar = box(-180, min(70 * np.sign(pole), pole), 180, max(70 * np.sign(pole), pole))
    assert geodesic_centroids([Polygon(ring)])[0, 1] == pytest.approx(pole)
    assert geodesic_centroids([planar])[0, 1] == pytest.approx(pole)


def test_half_a_cap_lies_where_the_integral_says():
    ring = [*ring_at(70.0, start=0.0)[:19], (180.0, 90.0), (0.0, 90.0)]
    assert km_apart(geodesic_centroids([Polygon(ring)]), box_centroid(0, 70, 180, 90))[0] < 1e-8


def test_ring_orientation_makes_no_difference():
    hole = box(12, 42, 14, 44).exterior
    shell = box(10, 40, 20, 50).exterior
    ways = [
        Polygon(shell.coords[::outer], [hole.coords[::inner]])
        for outer in (1, -1)
        for inner in (1, -1)
    ]
    places = geodesic_centroids(ways)
    np.testing.assert_allclose(places, np.broadcast_to(places[0], (4, 2)), atol=1e-12)
    solid, missing = geodesic_centroids([box(10, 40, 20, 50), box(12, 42, 14, 44)])
    assert km_apart(places[0], missing)[0] > km_apart(solid, missing)[0] + 10


def test_holes_subtract_and_parts_add():
    whole = box(0, 0, 30, 20)
    frame = Polygon(whole.exterior, [box(10, 5, 20, 15).exterior])
    pieces = MultiPolygon(
        [box(0, 0, 10, 20), box(20, 0, 30, 20), box(10, 0, 20, 5), box(10, 15, 20, 20)]
    )
    framed, pieced = geodesic_centroids([frame, pieces])
    np.testing.assert_allclose(framed, pieced, atol=1e-11)


def test_a_hole_across_the_antimeridian():
    shell = [(170, -30), (-170, -30), (-170, -10), (170, -10)]
    hole = [(-179, -25), (179, -25), (179, -15), (-179, -15)]
    eastward = Polygon(box(170, -30, 190, -10).exterior, [box(179, -25, 181, -15).exterior])
    jumping, plain = geodesic_centroids([Polygon(shell, [hole]), eastward])
    np.testing.assert_allclose(jumping, plain, atol=1e-11)
    _, inside = sample_points([Polygon(shell, [hole])], 200)
    turned = np.stack([inside[:, 0] % 360.0, inside[:, 1]], axis=1)
    assert shapely.contains_xy(eastward, turned).all()


def test_a_ring_round_the_pole_with_a_hole_round_the_pole():
    band = Polygon(ring_at(60.0), [ring_at(80.0, start=-175.0)[::-1]])
    _, places = sample_points([band], 100)
    assert len(places) == 100
    assert (places[:, 1] > 60).all()
    assert (places[:, 1] < 80).all()
    assert abs(spherical_mean(places)[1]) > 89


def test_areas_on_the_sphere():
    areas = polygon_areas(
        as_array([box(0, 0, 90, 90), box(-180, -90, 180, 90), box(0, -30, 360, 30)])
    )
    np.testing.assert_allclose(areas, [np.pi / 2, 4 * np.pi, 2 * np.pi], rtol=1e-13)


def test_centroids_of_lines_and_points():
    quarter, meridian, pair, ring = geodesic_centroids(
        [
            LineString([(179, 0), (-179, 0)]),
            MultiLineString([[(0, 0), (0, 45)], [(0, 45), (0, 90)]]),
            MultiPoint([(170, 60), (-170, 60)]),
            LinearRing(ring_at(80.0)),
        ]
    )
    assert abs(quarter[0]) == pytest.approx(180.0)
    np.testing.assert_allclose(meridian, [0, 45], atol=1e-12)
    np.testing.assert_allclose(abs(pair), [180, spherical_mean([[170, 60], [190, 60]])[1]])
    assert ring[1] == pytest.approx(90.0)


def test_points_stay_as_they_are_but_for_whole_turns():
    for reduce in (geodesic_centroids, representative_points):
        places = reduce([Point(0.1, 0.2), MultiPoint([(0.3, 0.4)]), Point(190, 5)])
        assert places.tolist() == [[0.1, 0.2], [0.3, 0.4], [-170.0, 5.0]]


def test_of_a_collection_the_highest_dimension_counts():
    collection = GeometryCollection(
        [Point(50, 50), GeometryCollection([box(0, 0, 2, 2), LineString([(9, 9), (8, 8)])])]
    )
    np.testing.assert_array_equal(
        geodesic_centroids([collection]), geodesic_centroids([box(0, 0, 2, 2)])
    )
    assert shapely.contains_xy(box(0, 0, 2, 2), sample_points([collection], 16)[1]).all()


def test_polygons_without_area_count_as_lines_and_lines_without_length_as_points():
    flat = Polygon([(0, 0), (2, 2), (0, 0), (0, 0)])
    speck, dot = Polygon([(3, 4)] * 4), LineString([(5, 6), (5, 6)])
    sliver = Polygon([(0, 0), (5, 5), (5, 5 + 1e-12)])
    places = geodesic_centroids([flat, speck, dot, sliver])
    np.testing.assert_allclose(places, [[1, 1], [3, 4], [5, 6], [2.5, 2.5]], atol=0.005)
    owner, lonlat = sample_points([flat, speck, dot, sliver], 8)
    assert np.bincount(owner).tolist() == [8, 1, 1, 8]
    np.testing.assert_allclose(lonlat[owner == 3, 0], lonlat[owner == 3, 1], atol=1e-9)


def test_a_bow_tie_is_made_valid_first():
    tie = Polygon([(0, 0), (1, 1), (1, 0), (0, 1.01)])
    assert not tie.is_valid
    assert shapely.contains_xy(box(0, 0, 1, 1), geodesic_centroids([tie])).all()
    assert len(sample_points([tie], 20)[1]) == 20


def test_where_the_integral_has_no_direction_the_planar_centroid_serves():
    places = geodesic_centroids(
        [box(-180, -90, 180, 90), MultiPoint([(0, 0), (180, 0)]), LineString([(-180, 0), (180, 0)])]
    )
    np.testing.assert_allclose(places, [[0, 0], [90, 0], [0, 0]], atol=1e-9)


@pytest.mark.parametrize("reduce", [geodesic_centroids, representative_points])
def test_nothing_has_no_place(reduce):
    places = reduce([None, Polygon(), Point(), GeometryCollection(), Point(1, 2)])
    np.testing.assert_array_equal(np.isnan(places[:, 0]), [True, True, True, True, False])
    assert reduce([]).shape == (0, 2)


def test_centroids_do_not_depend_on_neighbours_or_blocks(monkeypatch):
    polygons = stars(50)
    together = geodesic_centroids(polygons)
    monkeypatch.setattr("geoembed.parts._BLOCK", 100)
    np.testing.assert_array_equal(geodesic_centroids(polygons), together)
    owner, lonlat = sample_points(polygons, 5)
    assert owner.tolist() == np.repeat(np.arange(50), 5).tolist()
    alone = np.concatenate([sample_points([polygon], 5)[1] for polygon in polygons])
    np.testing.assert_array_equal(alone, lonlat)


# --- representative points -----------------------------------------------------------


def test_representative_points_lie_inside():
    polygons = stars(200)
    assert shapely.contains_xy(polygons, representative_points(polygons)).all()


def test_representative_points_across_the_antimeridian_and_round_poles():
    uncut, cut, cap = representative_points([FIJI_UNCUT, FIJI_CUT, Polygon(ring_at(-70.0))])
    for place in (uncut, cut):
        assert shapely.intersects_xy(FIJI_CUT, *place)
    assert cap[1] < -70


def test_the_input_is_left_alone():
    geoms = np.array([FIJI_UNCUT, None], dtype=object)
    for reduce in (representative_points, geodesic_centroids, lambda g: sample_points(g, 3)):
        reduce(geoms)
    assert geoms[0] is FIJI_UNCUT
    assert geoms[1] is None


# --- samples -------------------------------------------------------------------------


def test_samples_lie_inside_and_are_as_many_as_asked():
    polygons = stars(200, seed=5)
    owner, lonlat = sample_points(polygons, 32)
    assert np.bincount(owner).tolist() == [32] * 200
    assert shapely.contains_xy(polygons[owner], lonlat).all()


def test_the_mean_of_samples_is_the_centroid():
    polygons = stars(100, seed=6)
    owner, lonlat = sample_points(polygons, 256)
    means = np.array([spherical_mean(lonlat[owner == row]) for row in range(100)])
    # Polygons of some 1,000 km: 256 random points would be off by 20 km.
    assert np.median(km_apart(means, geodesic_centroids(polygons))) < 6


def test_samples_are_even_by_area_on_the_sphere():
    _, lonlat = sample_points([box(0, 0, 40, 90)], 4000)
    # Half the area of a hemisphere lies below 30 degrees.
    assert (lonlat[:, 1] < 30).mean() == pytest.approx(0.5, abs=0.002)
    assert (lonlat[:, 0] < 10).mean() == pytest.approx(0.25, abs=0.002)


def test_samples_of_a_cap_reach_the_pole_evenly():
    _, lonlat = sample_points([Polygon(ring_at(60.0))], 2000)
    share = (1 - np.sin(np.radians(80))) / (1 - np.sin(np.radians(60)))
    assert (lonlat[:, 1] > 80).mean() == pytest.approx(share, abs=0.005)
    assert np.histogram(lonlat[:, 0], 4, (-180, 180))[0].tolist() == pytest.approx(
        [500] * 4, abs=10
    )


def test_parts_get_their_shares_on_both_sides_of_the_antimeridian():
    owner, lonlat = sample_points([FIJI_CUT, FIJI_UNCUT], 50)
    for row in (0, 1):
        assert (lonlat[owner == row, 0] > 0).sum() == pytest.approx(30, abs=1)
    assert shapely.contains_xy(FIJI_CUT, lonlat).all()


def test_many_small_parts_share_the_points_by_area():
    islands = MultiPolygon([box(k, 0, k + 0.5, 0.5) for k in range(100)])
    _, lonlat = sample_points([islands], 10)
    assert len(lonlat) == 10
    assert len(set(np.floor(lonlat[:, 0] / 10))) == 10


def test_slivers_get_all_their_points():
    road = Polygon([(0, 0), (5, 5), (5, 5.0001)])
    owner, lonlat = sample_points([road, box(0, 0, 1, 1)], 12)
    assert np.bincount(owner).tolist() == [12, 12]
    assert shapely.dwithin(shapely.points(lonlat[owner == 0]), road, 1e-9).all()


def test_samples_along_lines_are_even_by_length():
    owner, lonlat = sample_points(
        [
            LineString([(179, 0), (-179, 0)]),
            MultiLineString([[(0, 0), (1, 0)], [(50, 0), (53, 0)]]),
            LineString([(0, 60), (4, 60), (4, 62)]),
        ],
        4,
    )
    np.testing.assert_allclose(lonlat[owner == 0, 0], [179.25, 179.75, -179.75, -179.25])
    np.testing.assert_allclose(lonlat[owner == 1, 0], [0.5, 50.5, 51.5, 52.5])
    # 4 degrees of longitude at 60 degrees are as long as 2 degrees of latitude.
    np.testing.assert_allclose(
        lonlat[owner == 2], [[1, 60], [3, 60], [4, 60.5], [4, 61.5]], atol=2e-4
    )


def test_samples_of_points():
    members = MultiPoint([(k, 0) for k in range(10)])
    owner, lonlat = sample_points([Point(190, 1), members, MultiPoint([(1, 1), (2, 2)])], 4)
    assert np.bincount(owner).tolist() == [1, 4, 2]
    assert lonlat[0].tolist() == [-170.0, 1.0]
    assert lonlat[owner == 1, 0].tolist() == [2.0, 4.0, 7.0, 9.0]
    assert lonlat[owner == 2].tolist() == [[1.0, 1.0], [2.0, 2.0]]


def test_samples_of_nothing():
    owner, lonlat = sample_points([None, Polygon(), Point(1, 2)], 3)
    assert owner.tolist() == [2]
    owner, lonlat = sample_points([], 3)
    assert (owner.shape, lonlat.shape) == ((0,), (0, 2))


def test_samples_are_the_same_every_time():
    first, second = (sample_points(stars(20, seed=9), 16)[1] for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("samples", [0, -1, 2.0, True, "8", None])
def test_a_number_of_samples_that_is_none_is_refused(samples):
    with pytest.raises(OptionError, match="samples=.* is no whole number of at least 1"):
        sample_points([Point(0, 0)], samples)
