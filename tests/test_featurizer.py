"""embed(), encode() and LocationFeaturizer on frames, geometries and arrays."""

import pickle

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import MultiPoint, Point, Polygon, box
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import geoembed as ge
from geoembed.errors import CoordinateError, OptionError, TableError

LON, LAT = [13.4, 2.35, -74.0, 151.2], [52.5, 48.86, 40.7, -33.9]


@pytest.fixture
def towns():
    frame = gpd.GeoDataFrame(
        {"name": list("abcd"), "people": [3, 1, 4, 1]},
        geometry=gpd.points_from_xy(LON, LAT),
        crs="EPSG:4326",
        index=[7, 7, 2, 9],
    )
    frame.attrs["source"] = "test"
    return frame


@pytest.fixture
def expected():
    return ge.encode(LON, LAT)


# --- embed ---------------------------------------------------------------------------


def test_columns_are_added_and_everything_else_stays(towns, expected):
    before = towns.copy(deep=True)
    got = ge.embed(towns)
    assert isinstance(got, gpd.GeoDataFrame)
    assert list(got.columns[:3]) == ["name", "people", "geometry"]
    assert list(got.columns[3:]) == [f"geoclip.v1_{i:03d}" for i in range(512)]
    assert list(got.index) == [7, 7, 2, 9]
    assert got.crs == towns.crs
    assert got.attrs == {"source": "test"}
    np.testing.assert_array_equal(got.iloc[:, 3:].to_numpy(), expected)
    assert (got.dtypes.iloc[3:] == np.float32).all()
    pd.testing.assert_frame_equal(towns, before)


def test_one_vector_column(towns, expected):
    got = ge.embed(towns, layout="vector")
    assert list(got.columns) == ["name", "people", "geometry", "embedding"]
    np.testing.assert_array_equal(np.stack(got["embedding"]), expected)
    assert got["embedding"].iloc[0].dtype == np.float32
    assert list(ge.embed(towns, layout="vector", prefix="vec").columns)[-1] == "vec"


def test_a_projected_frame_keeps_its_crs_and_gets_the_same_vectors(towns, expected):
    got = ge.embed(towns.to_crs(3857))
    assert got.crs.to_epsg() == 3857
    errors = np.linalg.norm(got.iloc[:, 3:].to_numpy() - expected, axis=1)
    assert errors.max() < 1e-4 * np.linalg.norm(expected, axis=1).min()


def test_plain_frames_by_column_names(expected):
    frame = pd.DataFrame({"Latitude": LAT, "LNG": LON})
    np.testing.assert_array_equal(ge.embed(frame).iloc[:, 2:], expected)
    other = pd.DataFrame({"east": LON, "north": LAT})
    np.testing.assert_array_equal(ge.embed(other, lon="east", lat="north").iloc[:, 2:], expected)
    assert type(ge.embed(frame)) is pd.DataFrame
    metres = gpd.GeoSeries.from_xy(LON, LAT, crs=4326).to_crs(3857)
    projected = pd.DataFrame({"lon": metres.x, "lat": metres.y})
    got = ge.embed(projected, crs=3857).iloc[:, 2:].to_numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_geoseries_becomes_a_frame(towns, expected):
    got = ge.embed(towns.geometry)
    assert isinstance(got, gpd.GeoDataFrame)
    assert got.crs == towns.crs
    np.testing.assert_array_equal(got.iloc[:, 1:], expected)


def test_another_name_of_the_geometry_column(towns, expected):
    got = ge.embed(towns.rename_geometry("where"))
    assert got.geometry.name == "where"
    np.testing.assert_array_equal(got.drop(columns=["name", "people", "where"]), expected)


@pytest.mark.parametrize("layout", ["columns", "vector"])
def test_zero_rows_give_an_empty_result_with_the_right_columns(towns, layout):
    got = ge.embed(towns.iloc[:0], layout=layout)
    assert len(got) == 0
    assert list(got.columns) == list(ge.embed(towns, layout=layout).columns)
    assert got.crs == towns.crs


def test_a_column_that_exists_is_refused_unless_told(towns, expected):
    once = ge.embed(towns)
    with pytest.raises(
        TableError,
        match=r"already has the columns 'geoclip.v1_000', .* and 509 more.*overwrite=True",
    ):
        ge.embed(once)
    again = ge.embed(once, overwrite=True)
    assert list(again.columns) == list(once.columns)
    assert ge.embed(once, prefix="other").shape[1] == 3 + 1024
    vector = ge.embed(towns, layout="vector")
    with pytest.raises(TableError, match="already has the column 'embedding'"):
        ge.embed(vector, layout="vector")
    with pytest.raises(TableError, match="cannot replace the geometry column"):
        ge.embed(towns, layout="vector", prefix="geometry", overwrite=True)


def test_invalid_rows_are_named_or_kept_or_dropped(towns, expected):
    broken = towns.copy()
    broken.loc[2, "geometry"] = None
    with pytest.raises(
        CoordinateError, match=r"1 of 4 rows hold no usable place: 1 missing \(row 2\)"
    ):
        ge.embed(broken)
    kept = ge.embed(broken, on_invalid="nan").iloc[:, 3:].to_numpy()
    assert np.isnan(kept[2]).all()
    np.testing.assert_allclose(kept[[0, 1, 3]], expected[[0, 1, 3]], atol=1e-6)
    dropped = ge.embed(broken, on_invalid="drop")
    assert list(dropped.index) == [7, 7, 9]
    assert dropped.crs == towns.crs
    np.testing.assert_allclose(dropped.iloc[:, 3:], expected[[0, 1, 3]], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layout": "wide"}, OptionError, "layout='wide' is not one of: columns, vector"),
        (
            {"on_invalid": "ignore"},
            OptionError,
            "on_invalid='ignore' is not one of: raise, nan, drop",
        ),
        ({"layers": "x"}, OptionError, "'x' is not a layer"),
        ({"geometry": "middle"}, OptionError, "geometry='middle' is not offered"),
        ({"encoder": "geoclip.v9"}, ge.GeoembedError, "no encoder named 'geoclip.v9'"),
        ({"lon": "x", "lat": "y"}, CoordinateError, "no column named 'x'"),
    ],
)
def test_options_that_are_not_offered(towns, arguments, error, message):
    with pytest.raises(error, match=message):
        ge.embed(towns, **arguments)


@pytest.mark.parametrize(
    "thing", [[[1.0, 2.0]], np.zeros((3, 2)), "places.gpkg", None, Point(0, 0)]
)
def test_embed_takes_tables_only(thing):
    with pytest.raises(TableError, match=r"embed\(\) takes a GeoDataFrame.*geoembed.encode"):
        ge.embed(thing)


def test_frames_that_cannot_be_places():
    with pytest.raises(CoordinateError, match="found no columns at all"):
        ge.embed(pd.DataFrame(index=range(3)))
    with pytest.raises(CoordinateError, match=r"There is no CRS.*set_crs\(4326\)"):
        ge.embed(gpd.GeoDataFrame(geometry=[Point(1, 2)]))
    with pytest.raises(CoordinateError, match="look swapped"):
        ge.embed(pd.DataFrame({"lon": [52.5, 48.9], "lat": [113.4, 102.3]}))
    with pytest.raises(CoordinateError, match="holds text where numbers belong"):
        ge.embed(pd.DataFrame({"lon": ["1", "east"], "lat": [1.0, 2.0]}))


# --- geometries ----------------------------------------------------------------------


def test_polygons_only_by_explicit_choice():
    areas = gpd.GeoSeries([box(0, 0, 4, 2), Point(10, 10)], crs=4326)
    with pytest.raises(
        CoordinateError, match=r"no single points: row 0 \(Polygon\).*representative_point"
    ):
        ge.embed(areas)
    inside = ge.embed(areas, geometry="representative_point").iloc[:, 1:].to_numpy()
    np.testing.assert_allclose(inside, ge.encode([2.0, 10.0], [1.0, 10.0]), atol=1e-6)
    middle = ge.embed(areas, geometry="centroid").iloc[:, 1:].to_numpy()
    np.testing.assert_allclose(middle[0], ge.encode([2.0], [1.0])[0], atol=1e-3)


def test_a_polygon_sampled_is_the_mean_over_its_points():
    area = Polygon([(5, 44), (9, 44), (9, 47), (5, 47)])
    places = ge.read_places([area], geometry="sample", samples=50)
    assert len(places.lonlat) == 50
    mean = ge.encode(*places.lonlat.T, dtype="float64").mean(axis=0)
    frame = gpd.GeoDataFrame(geometry=[area, Point(1, 2), None], crs=4326)
    got = ge.embed(frame, geometry="sample", samples=50, on_invalid="nan").iloc[:, 1:].to_numpy()
    np.testing.assert_allclose(got[0], mean, atol=1e-7)
    np.testing.assert_allclose(got[1], ge.encode([1], [2])[0], atol=1e-7)
    assert np.isnan(got[2]).all()


def test_multipoints_of_one_are_points():
    got = ge.embed(gpd.GeoSeries([MultiPoint([(13.4, 52.5)])], crs=4326)).iloc[:, 1:]
    np.testing.assert_array_equal(got, ge.encode([13.4], [52.5]))


# --- LocationFeaturizer --------------------------------------------------------------


def test_it_takes_what_the_boundary_takes(towns, expected):
    featurizer = ge.LocationFeaturizer()
    for X in (
        towns,
        towns.geometry,
        towns.to_crs(4269),
        list(towns.geometry),
        np.column_stack([LON, LAT]),
        pd.DataFrame({"lat": LAT, "lon": LON}),
        {"lon": LON, "lat": LAT},
    ):
        np.testing.assert_allclose(featurizer.fit_transform(X), expected, atol=1e-5)
        np.testing.assert_allclose(featurizer.transform(X), expected, atol=1e-5)


def test_it_transforms_without_being_fitted_and_stays_light(towns, expected):
    featurizer = ge.LocationFeaturizer()
    np.testing.assert_array_equal(featurizer.transform(towns), expected)
    assert set(vars(featurizer)) == set(featurizer.get_params()), "transform writes nothing"
    featurizer.fit(towns)
    assert len(pickle.dumps(featurizer)) < 2000, "pickled by recipe, never with tensors"
    again = pickle.loads(pickle.dumps(featurizer))
    np.testing.assert_array_equal(again.transform(towns), expected)


def test_fitted_names_are_those_of_the_columns_read(towns):
    featurizer = ge.LocationFeaturizer().fit(towns)
    assert (featurizer.n_features_in_, list(featurizer.feature_names_in_)) == (1, ["geometry"])
    featurizer.fit(pd.DataFrame({"Lat": LAT, "Lon": LON}))
    assert list(featurizer.feature_names_in_) == ["Lon", "Lat"]
    featurizer.fit(np.column_stack([LON, LAT]))
    assert featurizer.n_features_in_ == 2
    assert not hasattr(featurizer, "feature_names_in_")


def test_set_output_names_the_columns_and_keeps_the_index(towns):
    got = (
        ge.LocationFeaturizer(layers="scale0", prefix="e")
        .set_output(transform="pandas")
        .fit_transform(towns)
    )
    assert list(got.columns[:2]) == ["e_scale0_000", "e_scale0_001"]
    assert list(got.index) == [7, 7, 2, 9]


def test_in_a_column_transformer_on_the_geometry(towns, expected):
    columns = ColumnTransformer(
        [("place", ge.LocationFeaturizer(), ["geometry"]), ("rest", "passthrough", ["people"])]
    )
    got = columns.fit_transform(towns)
    np.testing.assert_array_equal(got[:, :512].astype(np.float32), expected)
    assert list(columns.get_feature_names_out()[[0, -1]]) == [
        "place__geoclip.v1_000",
        "rest__people",
    ]


def test_in_a_column_transformer_on_coordinate_columns(expected):
    frame = pd.DataFrame({"lon": LON, "lat": LAT, "people": [1, 2, 3, 4]})
    columns = ColumnTransformer(
        [("place", ge.LocationFeaturizer(), ["lon", "lat"])], remainder="drop"
    )
    np.testing.assert_array_equal(columns.fit_transform(frame), expected)


def test_in_a_grid_search_over_its_parameters():
    rng = np.random.default_rng(0)
    X = rng.uniform(-60, 60, (40, 2))
    pipeline = make_pipeline(ge.LocationFeaturizer(), Ridge())
    search = GridSearchCV(
        pipeline,
        {
            "locationfeaturizer__layers": ["final", "scales"],
            "locationfeaturizer__normalize": [True, False],
        },
        cv=2,
    ).fit(X, X[:, 1])
    assert search.best_params_["locationfeaturizer__layers"] in {"final", "scales"}
    assert search.n_features_in_ == 2


def test_clone_keeps_parameters_and_forgets_the_fit(towns):
    featurizer = ge.LocationFeaturizer("geoclip.v1", layers="scales", seam="blend").fit(towns)
    copy = clone(featurizer)
    assert copy.get_params() == featurizer.get_params()
    assert not hasattr(copy, "n_features_in_")


def test_a_loaded_encoder_brings_its_options(towns):
    encoder = ge.load_encoder("geoclip.v1", layers="scales")
    featurizer = clone(ge.LocationFeaturizer(encoder))
    assert featurizer.fit_transform(towns).shape == (4, 1536)
    with pytest.raises(
        OptionError, match="is loaded already and takes no further options: normalize"
    ):
        ge.LocationFeaturizer(encoder, normalize=True).fit(towns)


def test_rows_are_never_dropped_by_a_transformer(towns):
    with pytest.raises(
        OptionError, match="exists in geoembed.embed.. only: places keep the number of rows"
    ):
        ge.LocationFeaturizer(on_invalid="drop").fit(towns)
    with pytest.raises(
        OptionError, match="exists in geoembed.embed.. only: places keep the number of rows"
    ):
        ge.LocationFeaturizer(on_invalid="drop").transform(towns)
    towns.loc[2, "geometry"] = None
    got = ge.LocationFeaturizer(on_invalid="nan").fit_transform(towns)
    assert got.shape == (4, 512)
    assert np.isnan(got[2]).all()


def test_options_are_checked_when_fitted_not_when_made():
    featurizer = ge.LocationFeaturizer(layers="nonsense")
    with pytest.raises(OptionError, match="'nonsense' is not a layer"):
        featurizer.fit(np.zeros((1, 2)))


# --- encode --------------------------------------------------------------------------


def test_encode_takes_scalars_turns_and_options():
    assert ge.encode(13.4, 52.5).shape == (1, 512)
    np.testing.assert_array_equal(
        ge.encode([373.4 - 720], [52.5]), ge.encode([373.4 - 720], [52.5])
    )
    np.testing.assert_allclose(
        ge.encode([13.4 + 360], [52.5]), ge.encode([13.4], [52.5]), atol=1e-5
    )
    assert np.linalg.norm(ge.encode(13.4, 52.5, normalize=True)) == pytest.approx(1, abs=1e-6)
    assert ge.encode([], []).shape == (0, 512)


@pytest.mark.parametrize(
    ("lon", "lat", "message"),
    [
        ([0.0], [95.0], "latitude outside"),
        ([np.nan], [0.0], "hold no usable place"),
        ([0.0], [np.inf], "hold no usable place"),
        ([0.0, 1.0], [0.0], "equally long"),
        (["east"], [0.0], "text where numbers belong"),
    ],
)
def test_encode_refuses_what_is_no_coordinate(lon, lat, message):
    with pytest.raises(CoordinateError, match=message):
        ge.encode(lon, lat)


def test_encode_keeps_labels_and_order_of_series():
    lon = pd.Series([1.0, None, 3.0], index=["x", "y", "z"])
    lat = pd.Series([1.0, 2.0, 3.0], index=["x", "y", "z"])
    with pytest.raises(CoordinateError, match="row 'y'"):
        ge.encode(lon, lat)
    kept = ge.encode(lon, lat, on_invalid="nan")
    assert np.isnan(kept[1]).all()
    assert np.isfinite(kept[[0, 2]]).all()
    with pytest.raises(CoordinateError, match="different indexes"):
        ge.encode(lon, lat.set_axis(["x", "z", "y"]))


def test_places_with_invalid_rows_are_judged_again():
    places = ge.read_places([[1.0, 2.0], [np.nan, 3.0]], on_invalid="nan")
    with pytest.raises(CoordinateError, match="1 of 2 places are invalid: row 1"):
        ge.LocationFeaturizer().transform(places)
    assert np.isnan(ge.LocationFeaturizer(on_invalid="nan").transform(places)[1]).all()
