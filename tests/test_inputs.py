"""Every kind of input that holds places, and everything that does not."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from shapely import MultiPoint, Point

from geoembed.coordinates import read_places
from geoembed.errors import CoordinateError

LON, LAT = [10.5, 190.0, -74.006], [20.25, -30.0, 40.7128]
EXPECTED = [[10.5, 20.25], [-170.0, -30.0], [-74.006, 40.7128]]
LABELS = ["a", "b", "c"]

POINTS = [Point(*place) for place in zip(LON, LAT, strict=True)]
FRAME = pd.DataFrame({"city": ["x", "y", "z"], "LAT": LAT, "Lng": LON}, index=LABELS)
PLACED = gpd.GeoDataFrame({"lat": [0, 0, 0]}, geometry=POINTS, crs=4326, index=LABELS)
RENAMED = PLACED.rename_geometry("place")


@pytest.mark.parametrize(
    ("arguments", "source", "labelled"),
    [
        ({"data": PLACED}, ("geometry",), True),
        ({"data": RENAMED}, ("place",), True),
        ({"data": PLACED.geometry}, ("geometry",), True),
        ({"data": gpd.GeoSeries(POINTS, crs=4326)}, ("geometry",), False),
        ({"data": PLACED.geometry.array}, ("geometry",), False),
        ({"data": pd.DataFrame(PLACED)[["geometry"]]}, ("geometry",), True),
        ({"data": pd.Series(POINTS, index=LABELS, dtype=object)}, (), True),
        ({"data": POINTS}, (), False),
        ({"data": tuple(POINTS)}, (), False),
        ({"data": np.array(POINTS, dtype=object)}, (), False),
        ({"data": PLACED[["geometry"]].to_numpy()}, (), False),
        ({"data": [MultiPoint([point]) for point in POINTS]}, (), False),
        ({"data": FRAME}, ("Lng", "LAT"), True),
        ({"data": FRAME.convert_dtypes()}, ("Lng", "LAT"), True),
        ({"data": FRAME.convert_dtypes(dtype_backend="pyarrow")}, ("Lng", "LAT"), True),
        ({"data": FRAME.astype(object)}, ("Lng", "LAT"), True),
        (
            {"data": FRAME.rename(columns={"LAT": "y", "Lng": "x"}), "lon": "x", "lat": "y"},
            ("x", "y"),
            True,
        ),
        ({"data": {"longitude": LON, "latitude": LAT}}, ("longitude", "latitude"), False),
        ({"data": {"x": LON, "y": LAT}, "lon": "x", "lat": "y"}, ("x", "y"), False),
        ({"data": np.array([LON, LAT]).T}, (), False),
        ({"data": np.array([LON, LAT], dtype=object).T}, (), False),
        ({"data": list(zip(LON, LAT, strict=True))}, (), False),
        ({"lon": LON, "lat": tuple(LAT)}, (), False),
        ({"lon": np.array(LON), "lat": np.array(LAT)}, (), False),
        ({"lon": FRAME["Lng"], "lat": FRAME["LAT"]}, (), True),
        ({"lon": FRAME["Lng"], "lat": LAT}, (), True),
        ({"lon": LON, "lat": FRAME["LAT"]}, (), True),
    ],
)
def test_places_are_the_same_from_every_input(arguments, source, labelled):
    places = read_places(**arguments)
    np.testing.assert_array_equal(places.lonlat, EXPECTED)
    assert places.lonlat.dtype == np.float64
    assert places.lonlat.flags.c_contiguous
    assert places.valid.tolist() == [True] * 3
    assert places.index.tolist() == (LABELS if labelled else [0, 1, 2])
    assert places.source == source
    assert places.owner is None
    assert len(places) == 3


def test_one_place():
    for one in (
        {"data": Point(1, 2)},
        {"lon": 1, "lat": 2},
        {"data": {"lon": 1.0, "lat": np.float32(2)}},
    ):
        assert read_places(**one).lonlat.tolist() == [[1.0, 2.0]]


def test_tensors_hold_places():
    torch = pytest.importorskip("torch")
    pairs = torch.tensor(EXPECTED, dtype=torch.float64)
    np.testing.assert_array_equal(read_places(pairs).lonlat, EXPECTED)
    np.testing.assert_array_equal(read_places(lon=pairs[:, 0], lat=pairs[:, 1]).lonlat, EXPECTED)


@pytest.mark.parametrize(
    "data",
    [
        [],
        np.empty((0, 2)),
        FRAME.iloc[:0],
        FRAME.iloc[:0].astype(object),
        PLACED.iloc[:0],
        gpd.GeoSeries([], crs=4326),
        {"lon": [], "lat": []},
    ],
)
@pytest.mark.parametrize("geometry", ["point", "centroid", "representative_point", "sample"])
@pytest.mark.parametrize("crs", [None, 4326])
def test_no_rows_are_no_places(data, geometry, crs):
    places = read_places(data, geometry=geometry, crs=crs)
    assert places.lonlat.shape == (0, 2)
    assert len(places) == 0
    assert len(places.index) == 0


def test_the_active_geometry_goes_before_columns():
    moved = PLACED.assign(lon=0.0, other=gpd.points_from_xy([1, 1, 1], [1, 1, 1], crs=4326))
    assert read_places(moved).lonlat[0].tolist() == EXPECTED[0]
    assert read_places(moved.set_geometry("other")).source == ("other",)
    assert read_places(moved, lon="lon", lat="lat").lonlat.tolist() == [[0.0, 0.0]] * 3


def test_a_geodataframe_without_active_geometry_is_read_by_its_columns():
    frame = gpd.GeoDataFrame({"lon": [1.0], "lat": [2.0]})
    assert read_places(frame).source == ("lon", "lat")


def test_places_are_read_once():
    places = read_places(PLACED)
    assert read_places(places, on_invalid="nan") is places
    with pytest.raises(CoordinateError, match="Places are read already: lon=, lat= and crs="):
        read_places(places, crs=4326)


def test_the_input_is_left_alone():
    frame, placed = FRAME.copy(), PLACED.copy()
    array = np.array([LON, LAT]).T
    geoms = np.array([None, MultiPoint([(1, 2)])], dtype=object)
    kept = array.copy(), geoms.copy()
    read_places(frame)
    read_places(placed)
    read_places(array).lonlat[:] = 0
    read_places(geoms, on_invalid="nan", crs=3857)
    pd.testing.assert_frame_equal(frame, FRAME)
    assert placed.geometry.tolist() == POINTS
    np.testing.assert_array_equal(array, kept[0])
    assert geoms.tolist() == kept[1].tolist()


DUPLICATED = pd.DataFrame([[1, 2, 3]], columns=["x", "x", "y"])
BARE = pd.DataFrame({"geometry": np.array(POINTS, dtype=object)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "nothing to read: give data, or lon= and lat="),
        ({"lon": LON}, "lon= was given without lat=: give both"),
        ({"data": FRAME, "lat": "LAT"}, "lat= was given without lon=: give both"),
        ({"lon": "x", "lat": "y"}, "name columns, but there is no data"),
        ({"lon": [1, 2], "lat": [1]}, "lon= has 2 values and lat= 1: they must be equally long"),
        ({"lon": [1, 2], "lat": 1}, "lon= has 2 values and lat= 1"),
        ({"lon": [[1]], "lat": [[1]]}, r"lon= must be one-dimensional, got the shape \(1, 1\)"),
        ({"lon": FRAME["Lng"], "lat": FRAME["LAT"][::-1]}, "different indexes. Align them"),
        ({"lon": ["1"], "lat": [2]}, r"lon= holds text where numbers belong: row 0 \('1'\)"),
        ({"lon": [True], "lat": [2]}, "lon= holds bool"),
        ({"lon": [1], "lat": [2j]}, "lat= holds complex"),
        (
            {"data": FRAME.assign(LAT=["1", "n", "2"])},
            r"Column 'LAT' holds text .*rows 'a' \('1'\), 'b'",
        ),
        ({"data": FRAME, "lon": LON, "lat": LAT}, "must be names of its columns"),
        ({"data": POINTS, "lon": "x", "lat": "y"}, "only name columns of a table.*type list"),
        (
            {"data": FRAME, "lon": "x", "lat": "LAT"},
            "no column named 'x'. Columns: 'city', 'LAT', 'Lng'",
        ),
        ({"data": FRAME, "lon": "LAT", "lat": "LAT"}, "both name the column 'LAT'"),
        ({"data": DUPLICATED, "lon": "x", "lat": "y"}, "There is 2 columns named 'x'"),
        ({"data": FRAME.assign(lon=1)}, "could be the longitude: 'Lng', 'lon'"),
        ({"data": FRAME[["city"]]}, "No pair of coordinate columns.*lon/longitude.*found 'city'"),
        ({"data": FRAME[[]]}, "found no columns at all"),
        ({"data": BARE}, r"'geometry', but has no active geometry.*GeoDataFrame\(frame, geometry="),
        (
            {"data": PLACED.assign(b=PLACED.geometry).drop(columns="lat").pipe(pd.DataFrame)},
            "no active",
        ),
        ({"data": {"x": LON, "y": LAT}}, "mapping has no pair of coordinates.*found 'x', 'y'"),
        ({"data": {}}, "found nothing"),
        ({"data": [1.0, 2.0]}, r"got \(2,\). One place is \[\[lon, lat\]\], of shape \(1, 2\)"),
        ({"data": [1.0, 2.0, 3.0]}, r"shape \(n, 2\), got \(3,\). Each row is one place"),
        ({"data": np.zeros((4, 3))}, r"got \(4, 3\). Leave the third column out"),
        ({"data": np.zeros((2, 5))}, r"got \(2, 5\). Transpose it"),
        ({"data": 5}, r"shape \(n, 2\), got \(\)"),
        ({"data": [(1, "north")]}, r"second column \(latitude\) holds text .*row 0 \('north'\)"),
        ({"data": [(1, 2), (3,)]}, "The array of places cannot be read as an array of numbers"),
        ({"data": np.array([[True, False]])}, "first column .* holds bool"),
        ({"data": "cities.gpkg"}, r"'cities.gpkg' is not a table.*geopandas.read_file"),
        ({"data": {1, 2}}, "Places cannot be read from an object of type set. Give a GeoDataFrame"),
        ({"data": (p for p in POINTS)}, "an object of type generator"),
        ({"data": [POINTS[0], 3, "here"]}, r"other things: rows 1 \(int\), 2 \(str\)"),
        ({"data": pd.Series(["POINT (1 2)"])}, r"shape \(n, 2\), got \(1,\)"),
    ],
)
def test_what_holds_no_places_is_refused(arguments, message):
    with pytest.raises(CoordinateError, match=message):
        read_places(**arguments)


def test_missing_geometries_of_any_kind():
    series = pd.Series([None, np.nan, pd.NA, POINTS[0]], dtype=object)
    places = read_places(series, on_invalid="nan")
    assert places.valid.tolist() == [False, False, False, True]
    assert shapely.is_geometry(series[3])
    assert read_places([None, None], on_invalid="nan").valid.tolist() == [False, False]
    with pytest.raises(CoordinateError, match=r"shape \(n, 2\), got \(2,\)"):
        read_places([np.nan, np.nan], on_invalid="nan")
