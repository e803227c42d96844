"""Frames of dask and dask-geopandas: embedded lazily, nothing known about them lost."""

import pickle
import threading
from decimal import Decimal

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from shapely import box

import geoembed as ge
from geoembed.encoders import sharing
from geoembed.errors import CoordinateError, OptionError, TableError, WorkerError
from geoembed.partitions import Outline

dd = pytest.importorskip("dask.dataframe")
dask_geopandas = pytest.importorskip("dask_geopandas")
dask = pytest.importorskip("dask")
tokenize = dask.base.tokenize

CITIES = ge.data.load_cities()[["name", "population", "geometry"]].head(400)


@pytest.fixture
def lazy():
    frame = dask_geopandas.from_geopandas(CITIES, npartitions=4)
    frame.calculate_spatial_partitions()
    return frame


@pytest.fixture(scope="module")
def fitted():
    """A head for numbers and one for labels, before anything is forbidden."""
    north = CITIES.geometry.y.rename("north")
    half = np.where(north > 0, "north", "south")
    return (
        ge.LocationRegressor("xyz", "knn").fit(CITIES, north),
        ge.RegionClassifier("xyz").fit(CITIES, half),
    )


@pytest.fixture
def nothing_computes(monkeypatch):
    """Fail as soon as an encoder computes anything."""

    def compute(self, lonlat):
        raise AssertionError("computed")

    monkeypatch.setattr("geoembed.encoders.base.LocationEncoder.values", compute)


def test_embed_stays_lazy_and_keeps_what_is_known(lazy, nothing_computes):
    result = ge.embed(lazy, "xyz")
    assert isinstance(result, dask_geopandas.GeoDataFrame)
    assert result.divisions == lazy.divisions
    assert result.known_divisions
    assert result.crs == CITIES.crs
    assert result.spatial_partitions is lazy.spatial_partitions
    assert result.columns.tolist() == [*CITIES.columns, "xyz_000", "xyz_001", "xyz_002"]
    assert result._meta.dtypes["xyz_000"] == np.float32
    assert result._meta.geometry.name == "geometry"


def test_the_rows_are_those_of_a_single_process_bit_by_bit(lazy):
    # Block by block: what a matrix product gives depends on its shape in the last digit.
    got = ge.embed(lazy).compute()
    blocks = [lazy.partitions[i].compute() for i in range(lazy.npartitions)]
    expected = pd.concat([ge.embed(block) for block in blocks])
    assert isinstance(got, gpd.GeoDataFrame)
    pd.testing.assert_frame_equal(pd.DataFrame(got), pd.DataFrame(expected), check_exact=True)
    assert got.index.equals(CITIES.index)
    assert got.crs == CITIES.crs
    whole = ge.embed(CITIES).filter(like="geoclip")
    np.testing.assert_allclose(got.filter(like="geoclip"), whole, atol=5e-6)


def test_what_is_known_is_true_of_what_is_computed(lazy):
    for layout in ("columns", "vector"):
        result = ge.embed(lazy, "xyz", layout=layout)
        part = result.partitions[1].compute()
        assert part.columns.tolist() == result.columns.tolist()
        assert part.dtypes.to_dict() == result._meta.dtypes.to_dict()
        assert (part.index[0], part.index[-1] + 1) == result.divisions[1:3]
        assert result.cx[-20:60, -40:70].compute().shape[0] > 0, "spatial partitions are used"


def test_dask_never_tries_it_on_geometries_that_it_makes_up(lazy):
    # Its dummies are lines, which geometry="point" refuses.
    result = ge.embed(lazy, "xyz")
    more = result.assign(north=result["xyz_002"] > 0)[["north", "geometry"]]
    np.testing.assert_array_equal(more.compute()["north"], CITIES.geometry.y > 0)


def test_plain_frames_series_and_other_crs():
    table = pd.DataFrame({"LON": CITIES.geometry.x, "Lat": CITIES.geometry.y})
    plain = ge.embed(dd.from_pandas(table, npartitions=3), "xyz", layout="vector")
    assert type(plain) is dd.DataFrame
    expected = np.stack(ge.embed(CITIES, "xyz", layout="vector")["embedding"])
    np.testing.assert_array_equal(np.stack(plain.compute()["embedding"]), expected)
    named = ge.embed(dd.from_pandas(table.set_axis(["a", "b"], axis=1)), "xyz", lon="a", lat="b")
    np.testing.assert_array_equal(named.compute().iloc[:, 2:], expected)
    points = dask_geopandas.from_geopandas(CITIES.to_crs("EPSG:3857"), npartitions=2).geometry
    series = ge.embed(points, "xyz")
    assert series.crs == "EPSG:3857"
    np.testing.assert_allclose(series.compute().iloc[:, 1:], expected, atol=1e-6)


def test_empty_partitions_are_nothing_special(lazy):
    one = lazy[lazy["name"] == CITIES["name"].iloc[0]]
    got = ge.embed(one, "xyz").compute()
    assert len(got) == 1
    assert got.dtypes["xyz_000"] == np.float32
    none = lazy[lazy["name"] == "nowhere"]
    assert (
        ge.embed(none, "xyz").compute().columns.tolist() == ge.embed(none, "xyz").columns.tolist()
    )


def test_what_is_asked_for_twice_is_computed_once(lazy, fitted, monkeypatch):
    featurizer = ge.LocationFeaturizer("xyz")
    plain = dd.from_pandas(pd.DataFrame({"lon": [1.0, 2.0], "lat": [3.0, 4.0]}), npartitions=2)
    ways = [
        lambda frame: ge.embed(frame, "xyz"),
        lambda frame: ge.embed(frame, "xyz", layout="vector", on_invalid="nan", crs=4326),
        lambda frame: ge.embed(frame, ge.load_encoder("xyz")),
        # Not that of the nearest neighbours, whose tree of scikit-learn counts what it is asked.
        fitted[1].predict_frame,
        lambda frame: fitted[1].predict_frame(frame, on_invalid="nan"),
    ]
    for frame in (lazy, lazy.geometry, plain):
        names = [way(frame)._name for _ in range(2) for way in ways]
        assert names[: len(ways)] == names[len(ways) :]
        assert len(set(names)) == len(ways)
        assert featurizer.transform(frame).name == featurizer.transform(frame).name
    values = "geoembed.encoders.base.LocationEncoder.values"
    compute, calls = ge.LocationEncoder.values, []
    monkeypatch.setattr(values, lambda self, lonlat: calls.append(1) or compute(self, lonlat))
    one, two = dask.compute(ge.embed(lazy, "xyz"), ge.embed(lazy, "xyz"), scheduler="synchronous")
    assert len(calls) == lazy.npartitions
    pd.testing.assert_frame_equal(one, two)


def test_frames_that_differ_have_different_tokens():
    places = CITIES.assign(other=CITIES.geometry, kind=pd.Categorical(["a"] * 400))[:0]
    frames = [
        places,
        pd.DataFrame(places),
        places.geometry,
        places.set_geometry("other"),
        places.set_crs(4258, allow_override=True),
        places.rename(columns={"name": "label"}),
        places.astype({"population": float}),
        places.astype({"kind": pd.CategoricalDtype(["b"])}),
        places.set_index("name"),
        places.rename_axis("row"),
    ]
    tokens = [tokenize(Outline(frame)) for frame in frames]
    assert tokens == [tokenize(pickle.loads(pickle.dumps(Outline(frame)))) for frame in frames]
    assert len(set(tokens)) == len(frames)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda part: part.to_crs("EPSG:3857"), "is in EPSG:3857, and its frame says EPSG:4326"),
        (lambda part: part.drop(columns="name"), "has the columns 'population', 'geometry', and"),
        (pd.DataFrame, "has no active geometry, and its frame says the active geometry 'geometry'"),
    ],
)
def test_partitions_that_are_not_alike_are_refused(change, message):
    parts = [dask.delayed(CITIES[:200]), dask.delayed(change)(CITIES[200:])]
    frame = dd.from_delayed(parts, meta=CITIES[:0], verify_meta=False)
    with pytest.raises(TableError, match=message):
        ge.embed(frame, "xyz").compute(scheduler="synchronous")


def test_partitions_with_another_active_geometry_are_refused(tmp_path):
    places = CITIES.assign(other=CITIES.translate(20))
    places[:200].to_parquet(tmp_path / "a.parquet")
    places[200:].set_geometry("other").to_parquet(tmp_path / "b.parquet")
    frame = dask_geopandas.read_parquet(tmp_path)
    featurizer = ge.LocationFeaturizer("xyz")
    head = ge.LocationRegressor(featurizer).fit(CITIES, CITIES.geometry.y)
    for lazily in (ge.embed(frame, "xyz"), featurizer.transform(frame), head.predict_frame(frame)):
        with pytest.raises(TableError, match=r"the active geometry 'other', and .* 'geometry'"):
            lazily.compute(scheduler="synchronous")
    one = frame.set_geometry("geometry")
    got = ge.embed(one, "xyz").compute(scheduler="synchronous")
    pd.testing.assert_frame_equal(
        got.filter(like="xyz"), ge.embed(CITIES, "xyz").filter(like="xyz")
    )


def test_a_column_named_crs_is_a_column():
    table = pd.DataFrame({"lon": [1.0, 2.0], "lat": [3.0, 4.0], "crs": [5, 6]})
    got = ge.embed(dd.from_pandas(table, npartitions=2), "xyz").compute(scheduler="synchronous")
    pd.testing.assert_frame_equal(got, ge.embed(table, "xyz"))


def test_rows_without_a_place(lazy):
    broken = CITIES.copy()
    broken.loc[CITIES.index[[7, 250]], "geometry"] = None
    frame = dask_geopandas.from_geopandas(broken, npartitions=4)
    asked = ge.embed(frame, "xyz")
    with pytest.raises(CoordinateError, match="1 of 100 rows hold no usable place"):
        asked.compute(scheduler="synchronous")
    kept = ge.embed(frame, "xyz", on_invalid="nan").compute()
    assert np.flatnonzero(kept["xyz_000"].isna()).tolist() == [7, 250]
    left = ge.embed(frame, "xyz", on_invalid="drop")
    assert left.divisions == frame.divisions
    assert left.compute().index.equals(CITIES.index.delete([7, 250]))


def test_polygons(lazy):
    squares = gpd.GeoDataFrame(geometry=[box(i, 0, i + 2, 2) for i in range(6)], crs=4326)
    frame = dask_geopandas.from_geopandas(squares, npartitions=2)
    for choice in ("centroid", "sample"):
        got = ge.embed(frame, "xyz", geometry=choice, samples=8).compute()
        expected = ge.embed(squares, "xyz", geometry=choice, samples=8)
        np.testing.assert_array_equal(got.iloc[:, 1:], expected.iloc[:, 1:])


@pytest.mark.usefixtures("nothing_computes")
@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({}, {"layout": "wide"}, OptionError, "layout='wide'"),
        ({}, {"seam": "torn"}, OptionError, "seam='torn'"),
        ({}, {"prefix": "name", "layout": "vector"}, TableError, "already has the column 'name'"),
        ({}, {"lon": "x", "lat": "y"}, CoordinateError, "There is no column named 'x'"),
        ({"crs": None}, {}, CoordinateError, "CRS"),
        ({"crs": "EPSG:3857"}, {"crs": "EPSG:4326"}, CoordinateError, "EPSG:3857"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(change, options, error, message):
    places = CITIES.set_crs(**change, allow_override=True) if change else CITIES
    frame = dask_geopandas.from_geopandas(places, npartitions=2)
    with pytest.raises(error, match=message):
        ge.embed(frame, "xyz", **options)


def test_the_featurizer_makes_arrays_of_dask(lazy, nothing_computes):
    featurizer = ge.LocationFeaturizer("xyz", dtype="float64")
    array = featurizer.fit(lazy).transform(lazy)
    assert (array.dtype, array.chunks[1], array.numblocks) == (np.float64, (3,), (4, 1))
    assert featurizer.feature_names_in_.tolist() == ["geometry"]


def test_the_featurizer_gives_the_same_values(lazy):
    featurizer = ge.LocationFeaturizer("xyz")
    expected = featurizer.fit_transform(CITIES)
    array = featurizer.fit_transform(lazy)
    np.testing.assert_array_equal(array.compute(), expected)
    with pytest.raises(OptionError, match=r"set_output\(\) makes no frames of dask"):
        ge.LocationFeaturizer("xyz").set_output(transform="pandas").fit_transform(lazy)


def test_weights_are_loaded_once_however_many_threads_ask(monkeypatch):
    loads = []
    load = sharing.load_encoder

    def counted(name, **options):
        loads.append(name)
        return load(name, **options)

    monkeypatch.setattr(sharing, "load_encoder", counted)
    sharing._loaded.cache_clear()
    frame = dask_geopandas.from_geopandas(CITIES, npartitions=8)
    ge.embed(frame, "sphere2vec.c").compute(scheduler="threads", num_workers=8)
    assert loads == ["sphere2vec.c"]


def test_threads_of_a_pool_have_one_thread_of_torch_each_and_others_are_left_alone(lazy):
    import torch

    from geoembed.partitions import limit_threads

    seen = {}

    def look():
        limit_threads()
        seen["pool"] = torch.get_num_threads()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        limit_threads()
        assert (seen["pool"], torch.get_num_threads()) == (1, 2)
    finally:
        torch.set_num_threads(before)


def test_a_partition_that_does_not_fit_its_worker_is_refused_in_words(lazy, monkeypatch):
    monkeypatch.setattr("geoembed.partitions.thread_memory", lambda: 2000)
    monkeypatch.setattr("geoembed.partitions.worker_address", lambda: "tcp://10.0.0.5:1")
    with pytest.raises(WorkerError, match=r"100 rows takes.*tcp://10.0.0.5:1 has.*repartition"):
        ge.embed(lazy, "xyz").compute(scheduler="synchronous")


@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_parquet_written_by_dask_reads_back(lazy, tmp_path):
    # Without schema=None dask would guess the type of vectors from objects that it makes up.
    result = ge.embed(lazy, "xyz", layout="vector")
    with dask.config.set(scheduler="synchronous"):
        result.to_parquet(tmp_path / "o", schema=None)
    back = gpd.read_parquet(tmp_path / "o")
    expected = np.stack(ge.embed(CITIES, "xyz", layout="vector")["embedding"])
    np.testing.assert_array_equal(np.stack(back["embedding"]), expected)


def test_a_head_predicts_for_lazy_frames(lazy):
    head = ge.LocationRegressor(ge.LocationFeaturizer("xyz")).fit(
        CITIES, np.log10(CITIES["population"] + 1)
    )
    expected = head.predict_frame(CITIES)
    result = head.predict_frame(lazy)
    assert isinstance(result, dask_geopandas.GeoDataFrame)
    assert (result.divisions, result.crs) == (lazy.divisions, CITIES.crs)
    assert result.spatial_partitions is lazy.spatial_partitions
    assert result.columns.tolist() == expected.columns.tolist()
    got = result.compute()
    assert got.dtypes.to_dict() == result._meta.dtypes.to_dict()
    added = [name for name in expected.columns if name not in CITIES.columns]
    np.testing.assert_allclose(got[added], expected[added], rtol=1e-6)
    one = head.predict_frame(lazy[lazy["name"] == CITIES["name"].iloc[0]]).compute()
    assert len(one) == 1
    projected = dask_geopandas.from_geopandas(CITIES.to_crs("EPSG:3857"), npartitions=2)
    there = head.predict_frame(projected).compute()
    np.testing.assert_allclose(there[added], expected[added], rtol=1e-5)


def test_a_classifier_gives_texts_for_lazy_frames(lazy):
    labels = np.where(CITIES.geometry.y > 0, "north", "south")
    head = ge.LocationClassifier(ge.LocationFeaturizer("xyz")).fit(CITIES, labels)
    expected = head.predict_frame(CITIES)
    got = head.predict_frame(lazy).compute()
    added = [name for name in expected.columns if name not in CITIES.columns]
    for name in added:
        if pd.api.types.is_numeric_dtype(expected[name]):
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-5)
        else:
            assert got[name].tolist() == expected[name].tolist()


def test_heads_are_fitted_in_memory():
    classes = CITIES.assign(half=np.where(CITIES.geometry.y > 0, "north", "south"))
    frame = dask_geopandas.from_geopandas(classes, npartitions=2)
    fits = [
        (ge.LocationRegressor("xyz", "knn"), frame, frame["population"], "X and y are frames"),
        (ge.LocationRegressor("xyz", "knn"), frame, "population", "X is a frame"),
        (ge.LocationRegressor("xyz", "knn"), CITIES, frame["population"], "y is a frame"),
        (ge.LocationRegressor("xyz", extra_columns="population"), frame, "population", "X is a"),
        (ge.LocationClassifier("xyz"), frame, "half", "X is a frame"),
        (ge.LandCoverRegressor("xyz"), frame, ["population", "half"], "X is a frame"),
        (ge.RegionClassifier("xyz"), frame, ["half"], "X is a frame"),
        (ge.RegionClassifier("xyz", label="half"), frame, classes, "X is a frame"),
    ]
    for head, X, y, message in fits:
        with pytest.raises(TableError, match=rf"{message}.* of dask.*in memory: call compute\(\)"):
            head.fit(X, y)


@pytest.mark.parametrize("rows", [400, 20_000])
def test_only_predict_frame_of_a_head_takes_lazy_frames(rows, fitted, nothing_computes):
    # Above the rows of a block dask has words of its own.
    frame = dd.from_pandas(pd.DataFrame({"lon": np.zeros(rows), "lat": 0.0}), npartitions=2)
    regressor, classifier = fitted
    ways = [
        regressor.predict,
        regressor.predict_columns,
        regressor.predict_interval,
        classifier.predict_proba,
        classifier.predict_set,
        lambda X: regressor.score(X, np.zeros(rows)),
        lambda X: classifier.report(X, np.zeros(rows)),
    ]
    for way in ways:
        with pytest.raises(TableError, match=r"X is a frame of dask.*Only predict_frame\(\) takes"):
            way(frame)


@pytest.mark.filterwarnings("ignore:The inplace keyword")
@pytest.mark.parametrize("labels", ["whole numbers", "booleans", "texts", "categories of numbers"])
def test_types_of_predictions_do_not_depend_on_the_invalid_rows_of_a_partition(labels, tmp_path):
    north = CITIES.geometry.y > 0
    target = {
        "whole numbers": north.astype(int) + 7,
        "booleans": north,
        "texts": north.map({True: "north", False: "south"}),
        "categories of numbers": (north.astype(int) + 7).astype("category"),
    }[labels]
    head = ge.LocationClassifier("xyz", top_k=2).fit(CITIES, target.rename("half"))
    broken = CITIES[["geometry"]].copy()
    broken.loc[CITIES.index[[7, 8]], "geometry"] = None
    broken.loc[CITIES.index[200:300], "geometry"] = None
    expected = head.predict_frame(broken, on_invalid="nan")
    asked = head.predict_frame(dask_geopandas.from_geopandas(broken, 4), on_invalid="nan")
    assert asked.dtypes.to_dict() == expected.dtypes.to_dict()
    for part in asked.partitions:
        assert part.compute().dtypes.to_dict() == expected.dtypes.to_dict()
    got = asked.compute(scheduler="synchronous")
    for name in ("predicted_half", "predicted_half_2"):
        pd.testing.assert_series_equal(got[name], expected[name])
    with dask.config.set(scheduler="synchronous"):
        asked.to_parquet(tmp_path / "o")
    written = gpd.read_parquet(tmp_path / "o")["predicted_half"]
    assert written.isna().tolist() == expected["predicted_half"].isna().tolist()
    assert written.dropna().tolist() == expected["predicted_half"].dropna().tolist()
    places = CITIES[["geometry"]]
    whole = head.predict_frame(dask_geopandas.from_geopandas(places, 4))
    assert whole.dtypes.to_dict() == head.predict_frame(places).dtypes.to_dict()


@pytest.mark.parametrize(
    ("extra", "dtype"),
    [
        ([1, 2, 3, 4], "Int64"),
        ([1.5, 2.5, 3.5, 4.5], "Float64"),
        ([1, 0, 1, 0], "boolean"),
        (["a", "b", "a", "b"], "string"),
        (["a", "b", "a", "b"], "category"),
        (["a", "b", "a", "b"], object),
        ([Decimal(1), Decimal(2)] * 2, pd.ArrowDtype(pa.decimal128(9, 2))),
        (["2024-01-01", "2025-01-01"] * 2, "date32[day][pyarrow]"),
    ],
)
def test_extra_columns_of_any_type_are_read_in_lazy_frames(extra, dtype):
    places = CITIES[["geometry"]].head(60).assign(extra=pd.Series(extra * 15).astype(dtype))
    head = ge.LocationRegressor("xyz", "knn", extra_columns="extra", calibration=None)
    head.fit(places, places.geometry.y)
    expected = head.predict_frame(places)
    with dask.config.set({"dataframe.convert-string": False}):
        got = head.predict_frame(dask_geopandas.from_geopandas(places, npartitions=3))
        np.testing.assert_allclose(got.compute()["predicted"], expected["predicted"])
    assert got._meta.dtypes.to_dict() == expected.dtypes.to_dict()


def test_what_is_refused_of_lazy_frames_is_there(fitted):
    table = pd.DataFrame({"lon": ["4.5", "7.25"], "lat": [1.0, 2.0]})
    asked = fitted[0].predict_frame(dd.from_pandas(table, npartitions=1))
    with pytest.raises(CoordinateError, match=r"'lon' holds text.*rows 0 \('4.5'\), 1 \('7.25'\)"):
        asked.compute(scheduler="synchronous")
    with pytest.raises(CoordinateError, match="No pair of coordinate columns"):
        fitted[0].predict_frame(dd.from_pandas(table[["lat"]], npartitions=1))
    without = dask_geopandas.from_geopandas(CITIES.set_crs(None, allow_override=True), 2)
    with pytest.raises(CoordinateError, match="no CRS"):
        fitted[0].predict_frame(without)


def test_plans_of_buildings_are_refused_as_places_and_kept_beside_them(fitted):
    plan = (
        'ENGCRS["the plan",EDATUM["a corner"],CS[Cartesian,2],AXIS["a",east],AXIS["b",north],'
        'LENGTHUNIT["metre",1]]'
    )
    # Dask has a type of its own for texts.
    frame = CITIES.head(5)[["geometry"]].copy()
    frame["desk"] = gpd.GeoSeries(frame.geometry.to_numpy(), index=frame.index, crs=plan)
    expected = fitted[0].predict_frame(frame)
    got = fitted[0].predict_frame(dask_geopandas.from_geopandas(frame, npartitions=2)).compute()
    pd.testing.assert_frame_equal(got, expected)
    desks = frame.set_geometry("desk")
    for table in (desks, dask_geopandas.from_geopandas(desks, npartitions=2)):
        with pytest.raises(CoordinateError, match="the plan is a Engineering CRS: places need a"):
            fitted[0].predict_frame(table)


def test_a_head_predicts_wherever_embed_reads(fitted):
    table = pd.DataFrame({"lon": CITIES.geometry.x, "lat": CITIES.geometry.y}).head(60)
    expected = fitted[0].predict_frame(table)["predicted_north"]
    for change in (
        lambda part: part.round(9).map(lambda value: Decimal(str(value))),
        lambda part: part.astype("Float64"),
        lambda part: part.assign(a=1, b=2).set_axis(["lon", "lat", "a", "a"], axis=1),
        lambda part: part.assign(list=[[1]] * len(part), when=pd.Period("2024")),
    ):
        with dask.config.set({"dataframe.convert-string": False}):
            frame = dd.from_pandas(change(table), npartitions=2)
            got = fitted[0].predict_frame(frame).compute()
        np.testing.assert_allclose(got["predicted_north"], expected)
    # An area of use across the antimeridian, whose bounds have no middle by themselves.
    places = gpd.GeoDataFrame(geometry=gpd.points_from_xy([175, 177], [-40, -18]), crs=4326)
    for crs in ("EPSG:2193", "EPSG:3460", "EPSG:3832"):
        moved = places.to_crs(crs)
        series = dask_geopandas.from_geopandas(moved, npartitions=2).geometry
        got = fitted[0].predict_frame(series).compute()
        np.testing.assert_allclose(
            got["predicted_north"], fitted[0].predict_frame(moved)["predicted_north"]
        )
