"""label_regions(): against GeoPandas, brute force, and rules one by one."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import MultiPolygon, Polygon, box

import geoembed as ge
from geoembed.errors import CoordinateError, OptionError, TargetError
from geoembed.targets import label_regions
from geoembed.targets.nearest import nearest_parts


def places(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack(
        [rng.uniform(-180, 180, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))], axis=1
    )


def frame(shapes, labels=None, crs=4326, **columns):
    labels = list("abcdefgh"[: len(shapes)]) if labels is None else labels
    return gpd.GeoDataFrame({"label": labels} | columns, geometry=shapes, crs=crs)


# --- inside --------------------------------------------------------------------------


def test_cities_as_geopandas_joins_them():
    cities, countries = ge.data.load_cities(), ge.data.load_countries()
    got = label_regions(cities, countries, "name")
    joined = gpd.sjoin(cities, countries[["name", "geometry"]], predicate="intersects")
    first = joined.groupby(level=0)["index_right"].min()
    expected = countries["name"].iloc[first].set_axis(first.index).reindex(cities.index)
    pd.testing.assert_series_equal(got, expected, check_index_type=False, check_names=False)
    assert got.name == "name"


def test_places_everywhere_as_the_shipped_lookup_labels_them():
    lonlat = np.concatenate([places(20_000), [[180, 65.5], [-180, 65.5], [30, -90], [180, 0]]])
    got = label_regions(lonlat, ge.data.load_countries(), "iso_a3")
    expected = ge.data.label_country(*lonlat.T)
    assert np.array_equal(got.fillna("-"), pd.Series(expected).fillna("-"))


def test_several_columns_at_once():
    points = pd.DataFrame({"lat": [-1.3, 0.0], "lon": [36.8, -30.0]}, index=["nairobi", "sea"])
    got = label_regions(points, ge.data.load_countries(), ["continent", "iso_a2"])
    assert list(got.columns) == ["continent", "iso_a2"]
    assert got.loc["nairobi"].tolist() == ["Africa", "KE"]
    assert got.loc["sea"].isna().all()


@pytest.mark.parametrize("crs", [3857, 6933])
def test_any_crs_on_both_sides(crs):
    countries = ge.data.load_countries().query("continent == 'Africa'")
    cities = ge.data.load_cities().head(800)
    expected = label_regions(cities, countries, "name")
    moved = label_regions(cities.to_crs(3395), countries.to_crs(crs), "name")
    assert (expected.fillna("") == moved.fillna("")).mean() > 0.998
    assert label_regions(
        [[0, 0]], frame([box(-1, -1, 1, 1)], crs=None), "label", polygons_crs=4326
    )[0]


@pytest.mark.parametrize(
    "fiji",
    [
        Polygon([(177, -19), (-178, -19), (-178, -16), (177, -16)]),
        Polygon([(177, -19), (182, -19), (182, -16), (177, -16)]),
        Polygon([(-183, -19), (-178, -19), (-178, -16), (-183, -16)]),
        MultiPolygon([box(177, -19, 180, -16), box(-180, -19, -178, -16)]),
    ],
)
def test_polygons_over_the_antimeridian(fiji):
    lonlat = [[178, -17], [-179, -17], [180, -17], [-180, -17], [540, -17], [0, -17], [176, -17]]
    got = label_regions(lonlat, frame([fiji]), "label", overlap="first")
    assert got.notna().tolist() == [True] * 5 + [False] * 2


def test_polygons_round_a_pole():
    arctic = Polygon([(-150, 70), (-60, 70), (30, 70), (120, 70)])
    got = label_regions([[5, 80], [-179, 89], [77, 60]], frame([arctic]), "label")
    assert got.notna().tolist() == [True, True, False]


# --- boundaries and overlaps -----------------------------------------------------------


def test_a_boundary_belongs_to_the_first_row():
    halves = [box(0, 0, 1, 1), box(1, 0, 2, 1)]
    at = [[1, 0.5], [0, 0], [1, 1], [2, 1]]
    assert label_regions(at, frame(halves), "label").tolist() == ["a", "a", "a", "b"]
    assert label_regions(at, frame(halves[::-1]), "label").tolist() == ["a", "b", "a", "a"]
    for overlap in ("first", "smallest"):
        got = label_regions(at, frame(halves), "label", overlap=overlap)
        assert got.tolist() == ["a", "a", "a", "b"]


def test_inside_one_and_on_the_boundary_of_another_is_inside():
    shapes = [box(0, 0, 1, 1), box(0.5, -1, 3, 2)]
    assert label_regions([[1, 0.5]], frame(shapes), "label").tolist() == ["b"]


def test_overlaps_are_refused_or_settled():
    shapes = frame([box(0, 0, 9, 9), box(2, 2, 3, 3), box(2, 2, 4, 4)], index=[1, 2, 3])
    shapes = shapes.set_index("index")
    points = pd.DataFrame({"lon": [2.5, 8, 3.5], "lat": [2.5, 8, 3.5]}, index=list("xyz"))
    with pytest.raises(
        TargetError,
        match="2 of 3 points lie in several polygons with different labels: rows 'x', 'z'. "
        "The first lies in rows 1, 2, 3 of the polygons.*overlap='smallest'",
    ):
        label_regions(points, shapes, "label")
    got = label_regions(points, shapes, "label", overlap="first")
    assert got.to_dict() == {"x": "a", "y": "a", "z": "a"}
    got = label_regions(points, shapes, "label", overlap="smallest")
    assert got.to_dict() == {"x": "b", "y": "a", "z": "c"}
    with pytest.raises(OptionError, match="overlap='last' is not one of: raise, first, smallest"):
        label_regions(points, shapes, "label", overlap="last")


def test_overlaps_with_one_label_are_none():
    shapes = frame([box(0, 0, 2, 2), box(1, 1, 3, 3)], labels=["a", "a"])
    assert label_regions([[1.5, 1.5]], shapes, "label").tolist() == ["a"]


# --- nearest -------------------------------------------------------------------------


def test_the_nearest_country_as_all_their_vertices_measure_it():
    countries = ge.data.load_countries()
    parts, owner = shapely.get_parts(countries.geometry.array, return_index=True)
    lonlat = np.concatenate([places(80, seed=2), [[179.9, -30], [-179.9, 50], [10, 89], [0, -50]]])
    lonlat = lonlat[pd.isna(ge.data.label_country(*lonlat.T, column="name"))]
    got = nearest_parts(lonlat, parts, owner, 3000.0)
    assert (got >= 0).all()
    vertices, of = shapely.get_coordinates(shapely.segmentize(parts, 0.1), return_index=True)
    for (lon, lat), row in zip(lonlat, got, strict=True):
        km = ge.geodesy.great_circle_km(lon, lat, *vertices.T)
        # The sphere and the spacing of the vertices decide between neighbours as near.
        assert km[owner[of] == row].min() <= 1.006 * km.min() + 1.0


def test_distances_to_edges_are_geodesic():
    """A point beside a long edge, beyond its vertices, at the limit."""
    square = frame([box(10, 50, 20, 60)])
    way = Transformer.from_crs(4326, "+proj=aeqd +lon_0=9 +lat_0=55 +datum=WGS84", always_xy=True)
    edge = shapely.segmentize(square.geometry[0].exterior, 0.01)
    true = shapely.transform(edge, lambda xy: np.stack(way.transform(*xy.T), 1)).distance(
        shapely.Point(0, 0)
    )
    assert 63 < true / 1000 < 65
    for factor, found in ((1.0002, True), (0.9998, False)):
        got = label_regions([[9, 55]], square, "label", nearest_km=true / 1000 * factor)
        assert got.notna().tolist() == [found]


def test_nearest_counts_only_outside_and_over_the_antimeridian():
    shapes = frame([box(170, 0, 179, 10), box(-179, 0, -170, 10), box(0, 80, 40, 85)])
    at = [[179.9, 5], [-179.9, 5], [179.2, 5], [175, 5], [100, 5], [-160, 89.9]]
    got = label_regions(at, shapes, "label", nearest_km=600)
    assert got.fillna("-").tolist() == ["a", "b", "a", "a", "-", "c"]
    got = label_regions(at, shapes, "label", nearest_km=90)
    assert got.fillna("-").tolist() == ["-", "-", "a", "a", "-", "-"]
    for km in (0, -1, np.nan, np.inf):
        with pytest.raises(OptionError, match="must be kilometres above 0"):
            label_regions(at, shapes, "label", nearest_km=km)


def test_of_polygons_equally_near_the_first_row_counts():
    shapes = [box(1, -1, 2, 1), box(-2, -1, -1, 1)]
    assert label_regions([[0, 0]], frame(shapes), "label", nearest_km=500).tolist() == ["a"]
    assert label_regions([[0, 0]], frame(shapes[::-1]), "label", nearest_km=500).tolist() == ["a"]


# --- labels --------------------------------------------------------------------------


def test_labels_keep_their_type():
    shapes = frame([box(0, 0, 1, 1)], number=[7], flag=[True], share=[0.5], kind=["x"])
    shapes["kind"] = shapes["kind"].astype("category")
    hit = label_regions([[0.5, 0.5]], shapes, ["number", "flag", "share", "kind"])
    assert hit.dtypes.astype(str).tolist() == ["int64", "bool", "float64", "category"]
    both = label_regions([[0.5, 0.5], [5, 5]], shapes, ["number", "flag", "share", "kind"])
    assert both.dtypes.astype(str).tolist() == ["Int64", "boolean", "float64", "category"]
    assert both.iloc[0].tolist() == [7, True, 0.5, "x"]
    assert both.iloc[1].isna().all()


def test_input_is_not_changed_and_rows_may_be_empty():
    shapes = frame([box(0, 0, 1, 1)], number=[7])
    before = shapes.copy(deep=True)
    assert label_regions(np.empty((0, 2)), shapes, "number").shape == (0,)
    label_regions([[9, 9]], shapes, "number", nearest_km=5)
    pd.testing.assert_frame_equal(shapes, before)


def test_points_without_a_place():
    shapes = frame([box(0, 0, 1, 1)])
    with pytest.raises(CoordinateError, match="1 of 2 rows hold no usable place"):
        label_regions([[np.nan, 0], [0.5, 0.5]], shapes, "label")
    got = label_regions([[np.nan, 0], [0.5, 0.5]], shapes, "label", on_invalid="nan")
    assert got.isna().tolist() == [True, False]


# --- polygons that cannot be used ------------------------------------------------------


def test_columns_that_are_not_there():
    shapes = frame([box(0, 0, 1, 1)])
    with pytest.raises(TargetError, match="have no column named 'lable'. Close matches: 'label'"):
        label_regions([[0, 0]], shapes, "lable")
    with pytest.raises(TargetError, match="no column named 'xyz'. Columns: 'label', 'geometry'"):
        label_regions([[0, 0]], shapes, ["label", "xyz"])
    with pytest.raises(TargetError, match="must be a GeoDataFrame .* type GeoSeries"):
        label_regions([[0, 0]], shapes.geometry, "label")


def test_polygons_without_a_crs():
    with pytest.raises(TargetError, match="no CRS .* or polygons_crs='EPSG:4326'"):
        label_regions([[0, 0]], frame([box(0, 0, 1, 1)], crs=None), "label")


def test_rows_that_are_no_polygons():
    shapes = frame([box(0, 0, 1, 1), None, Polygon()], index=["p", "q", "r"]).set_index("index")
    with pytest.raises(TargetError, match="2 of 3 polygons are missing, empty .*: rows 'q', 'r'"):
        label_regions([[0, 0]], shapes, "label")
    with pytest.raises(TargetError, match=r"no polygons: row 0 \(Point\)\."):
        label_regions([[0, 0]], frame([shapely.Point(0, 0)]), "label")


def test_polygons_that_cross_themselves():
    bow = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    shapes = frame([box(5, 5, 6, 6), bow], index=["p", "q"]).set_index("index")
    with pytest.raises(
        TargetError, match="1 of 2 polygons cross themselves: row 'q' .*Self-intersection.*repair="
    ):
        label_regions([[0.5, 1]], shapes, "label")
    got = label_regions([[1.8, 1], [1, 0.5], [1, 1]], shapes, "label", repair=True)
    assert got.fillna("-").tolist() == ["b", "-", "b"]


def test_no_polygons_are_no_labels():
    none = ge.data.load_countries().iloc[:0]
    with pytest.raises(TargetError, match="polygons= has no rows"):
        label_regions([[0.0, 0.0]], none, "name")
