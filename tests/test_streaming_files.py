"""Every kind of file in, every kind out: columns, order, CRS, geometries and vectors survive."""

import json
import shutil
import zipfile
from pathlib import Path

import duckdb
import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from shapely import LineString, Point, box

import geoembed as ge
from geoembed.streaming import embed_file, made_by, read_frames

ROWS = 23
# A batch that does not divide the rows, so that batches, parts and row groups all have seams.
BATCH = 5


@pytest.fixture(scope="module")
def frame():
    draw = np.random.default_rng(3)
    return gpd.GeoDataFrame(
        {
            "name": [f'town "{i}", at sea' if i % 4 else f"Ålesund {i}" for i in range(ROWS)],
            "zip": [f"{i:05d}" for i in range(ROWS)],
            "count": np.arange(ROWS) * 7,
            "share": draw.normal(size=ROWS),
        },
        geometry=gpd.points_from_xy(draw.uniform(-179, 179, ROWS), draw.uniform(-80, 80, ROWS)),
        crs=4326,
    )


@pytest.fixture(scope="module")
def vectors(frame):
    return ge.encode(lon=frame.geometry.x, lat=frame.geometry.y)


@pytest.fixture(scope="module")
def sources(frame, tmp_path_factory):
    """The same table in every format, by the name that the tests give it."""
    folder = tmp_path_factory.mktemp("sources")
    table = pd.DataFrame(frame.drop(columns="geometry"))
    table = table.assign(Longitude=frame.geometry.x, LAT=frame.geometry.y)
    frame.to_file(folder / "t.gpkg")
    frame.to_file(folder / "t.geojson")
    frame.to_file(folder / "t.geojsonl", driver="GeoJSONSeq")
    # Without its index FlatGeobuf keeps the order of the rows.
    frame.to_file(folder / "t.fgb", SPATIAL_INDEX="NO")
    frame.to_file(folder / "t.shp", encoding="utf-8")
    with zipfile.ZipFile(folder / "t.zip", "w") as archive:
        for suffix in ("shp", "shx", "dbf", "prj", "cpg"):
            archive.write(folder / f"t.{suffix}", f"t.{suffix}")
    frame.to_parquet(folder / "t.parquet")
    frame.to_parquet(folder / "native.parquet", geometry_encoding="geoarrow")
    frame.to_crs(3857).to_parquet(folder / "mercator.parquet")
    frame.to_crs(3857).to_file(folder / "mercator.gpkg")
    table.to_parquet(folder / "plain.parquet")
    table.to_csv(folder / "t.csv", index=False)
    table.to_csv(folder / "t.csv.gz", index=False)
    table.to_csv(folder / "t.tsv", index=False, sep="\t")
    table.to_csv(folder / "semicolon.csv", index=False, sep=";")
    return folder


WITH_GEOMETRY = (
    "t.gpkg", "t.geojson", "t.geojsonl", "t.fgb", "t.shp", "t.zip", "t.parquet",
    "native.parquet", "mercator.parquet", "mercator.gpkg",
)  # fmt: skip
WITH_COLUMNS = ("plain.parquet", "t.csv", "t.csv.gz", "t.tsv", "semicolon.csv")
ALL = WITH_GEOMETRY + WITH_COLUMNS


def near(found, vectors, source):
    """Coordinates in text or metres come back a rounding error away."""
    exact = source in {"t.gpkg", "t.fgb", "t.parquet", "native.parquet", "plain.parquet"}
    np.testing.assert_allclose(found, vectors, atol=2e-6 if exact else 2e-4)


@pytest.mark.parametrize("source", ALL)
def test_into_geoparquet(sources, frame, vectors, tmp_path, source):
    report = embed_file(sources / source, tmp_path / "o.parquet", batch_rows=BATCH)
    assert (report.rows, report.dropped, report.dimension) == (ROWS, 0, 512)
    table = gpd.read_parquet(tmp_path / "o.parquet")
    own = ["Longitude", "LAT"] if source in WITH_COLUMNS else []
    assert table.columns.tolist() == [
        "name", "zip", "count", "share", *own, "geometry", "embedding",
    ]  # fmt: skip
    for column in ("name", "zip", "count"):
        assert table[column].tolist() == frame[column].tolist()
    np.testing.assert_allclose(table["share"], frame["share"], rtol=1e-12)
    near(np.stack(table["embedding"]), vectors, source)
    assert list(tmp_path.iterdir()) == [tmp_path / "o.parquet"]


@pytest.mark.parametrize("source", ALL)
def test_into_csv(sources, frame, vectors, tmp_path, source):
    embed_file(sources / source, tmp_path / "o.csv", batch_rows=BATCH)
    table = pd.read_csv(tmp_path / "o.csv", dtype={"zip": str})
    place = ["Longitude", "LAT"] if source in WITH_COLUMNS else ["lon", "lat"]
    assert table.columns[:6].tolist() == ["name", "zip", "count", "share", *place]
    assert table.columns[6] == "geoclip.v1_000"
    assert table.columns[-1] == "geoclip.v1_511"
    assert table["name"].tolist() == frame["name"].tolist()
    assert table["zip"].tolist() == frame["zip"].tolist()
    np.testing.assert_allclose(table[place[0]], frame.geometry.x, atol=1e-9)
    np.testing.assert_allclose(table[place[1]], frame.geometry.y, atol=1e-9)
    near(table.iloc[:, 6:].to_numpy(), vectors, source)


@pytest.mark.parametrize("source", ALL)
def test_into_npy(sources, vectors, tmp_path, source):
    embed_file(sources / source, tmp_path / "o.npy", batch_rows=BATCH)
    array = np.load(tmp_path / "o.npy", mmap_mode="r")
    assert (array.dtype, array.shape) == (np.float32, (ROWS, 512))
    near(array, vectors, source)


def test_geometry_and_crs_stay_what_they_are(sources, frame, tmp_path):
    for source in ("mercator.parquet", "mercator.gpkg"):
        embed_file(sources / source, tmp_path / "o.parquet", batch_rows=BATCH, force=True)
        table = gpd.read_parquet(tmp_path / "o.parquet")
        assert table.crs == "EPSG:3857"
        assert table.geometry.geom_equals(frame.to_crs(3857).geometry).all()


def test_tables_without_geometry_get_one(sources, frame, tmp_path):
    for source in ("plain.parquet", "t.csv"):
        embed_file(sources / source, tmp_path / "o.parquet", batch_rows=BATCH, force=True)
        table = gpd.read_parquet(tmp_path / "o.parquet")
        assert table.crs == "OGC:CRS84"
        assert shapely.equals_exact(table.geometry.array, frame.geometry.array, 1e-12).all()


def test_geoparquet_metadata(sources, frame, tmp_path):
    embed_file(sources / "t.gpkg", tmp_path / "o.parquet", batch_rows=BATCH)
    geo = json.loads(pq.read_schema(tmp_path / "o.parquet").metadata[b"geo"])
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    column = geo["columns"]["geometry"]
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["Point"])
    assert column["bbox"] == pytest.approx(frame.total_bounds.tolist())
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 4326}


def test_native_geometries_stay_native(sources, frame, tmp_path):
    embed_file(sources / "native.parquet", tmp_path / "o.parquet", batch_rows=BATCH)
    schema = pq.read_schema(tmp_path / "o.parquet")
    assert json.loads(schema.metadata[b"geo"])["columns"]["geometry"]["encoding"] == "point"
    assert pa.types.is_struct(schema.field("geometry").type)
    table = gpd.read_parquet(tmp_path / "o.parquet")
    assert table.geometry.geom_equals(frame.geometry).all()


def test_metadata_says_who_made_it(sources, tmp_path):
    embed_file(sources / "t.gpkg", tmp_path / "o.parquet", layers="scales", normalize=True)
    made = made_by(tmp_path / "o.parquet")
    encoder = ge.load_encoder("geoclip.v1")
    assert (made["encoder"], made["dimension"]) == ("geoclip.v1", 1536)
    assert made["weights_sha256"] == encoder.weights_sha256
    assert made["weights_sha256"] != ""
    assert made["version"] == ge.__version__
    assert made["options"] == {
        "layers": "scales",
        "normalize": True,
        "precision": "float32",
        "dtype": "float32",
        "seam": "as-trained",
    }
    assert made_by(sources / "t.parquet") is None
    assert made_by(sources / "t.csv") is None


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_reader_reads_every_dtype(sources, vectors, tmp_path, dtype):
    target = tmp_path / "o.parquet"
    embed_file(sources / "t.parquet", target, dtype=dtype, batch_rows=BATCH)
    expected = vectors.astype(dtype) if dtype == "float16" else vectors
    tolerance = 2e-3 if dtype == "float16" else 2e-6
    kind = pq.read_schema(target).field("embedding").type
    assert pa.types.is_fixed_size_list(kind)
    assert (kind.list_size, kind.value_type) == (512, pa.from_numpy_dtype(dtype))
    arrow = pq.read_table(target)["embedding"].combine_chunks()
    flat = np.asarray(arrow.values).reshape(-1, 512)
    assert flat.dtype == dtype
    for read in (gpd.read_parquet(target), pd.read_parquet(target)):
        cells = np.stack(read["embedding"])
        assert cells.dtype == dtype
        np.testing.assert_array_equal(cells, flat)
    np.testing.assert_allclose(flat, expected, atol=tolerance)
    with duckdb.connect() as connection:
        rows = connection.sql(f"SELECT embedding FROM '{target}'").fetchall()
    # DuckDB has no half floats: it reads them as single ones, which hold the same value.
    np.testing.assert_array_equal(np.array([row[0] for row in rows]), flat.astype("float64"))


def test_geopandas_can_write_again_what_it_read(sources, tmp_path):
    embed_file(sources / "t.parquet", tmp_path / "o.parquet")
    table = gpd.read_parquet(tmp_path / "o.parquet")
    table.to_parquet(tmp_path / "again.parquet")
    again = gpd.read_parquet(tmp_path / "again.parquet")
    np.testing.assert_array_equal(np.stack(again["embedding"]), np.stack(table["embedding"]))


def test_one_column_a_value_in_parquet(sources, vectors, tmp_path):
    target = tmp_path / "o.parquet"
    embed_file(sources / "t.parquet", target, layout="columns", prefix="e", batch_rows=BATCH)
    table = gpd.read_parquet(target)
    assert table.columns[-512:].tolist() == [f"e_{i:03d}" for i in range(512)]
    np.testing.assert_allclose(table.iloc[:, -512:], vectors, atol=2e-6)
    assert made_by(target)["columns"] == ["e_000", "e_511"]


def test_an_index_of_pandas_survives(frame, tmp_path):
    frame.set_index("zip").to_parquet(tmp_path / "t.parquet")
    embed_file(tmp_path / "t.parquet", tmp_path / "o.parquet")
    table = gpd.read_parquet(tmp_path / "o.parquet")
    assert table.index.name == "zip"
    assert table.index.tolist() == frame["zip"].tolist()


def test_further_geometry_columns_survive(frame, tmp_path):
    area = gpd.GeoSeries(shapely.buffer(frame.geometry.array, 1.0), crs=4326)
    frame.assign(area=area).to_parquet(tmp_path / "t.parquet")
    embed_file(tmp_path / "t.parquet", tmp_path / "o.parquet", batch_rows=BATCH)
    table = gpd.read_parquet(tmp_path / "o.parquet")
    assert table.active_geometry_name == "geometry"
    assert table["area"].geom_equals(area).all()
    assert table["area"].crs == "EPSG:4326"


def test_types_of_a_geopackage_survive(tmp_path):
    frame = gpd.GeoDataFrame(
        {
            "flag": [True, False, True],
            "when": pd.to_datetime(["2020-01-01T10:00:00", None, "2021-06-01T00:00:00"]),
            "day": [None, "x", "y"],
            "n": pd.array([1, None, 3], dtype="Int64"),
        },
        geometry=[Point(1, 2), Point(3, 4), Point(5, 6)],
        crs=4326,
    )
    frame.to_file(tmp_path / "t.gpkg")
    embed_file(tmp_path / "t.gpkg", tmp_path / "o.parquet")
    table = gpd.read_parquet(tmp_path / "o.parquet")
    assert table["flag"].tolist() == [True, False, True]
    assert table["when"].isna().tolist() == [False, True, False]
    # The GeoPackage standard says that times are in UTC.
    assert table["when"].iloc[0] == pd.Timestamp("2020-01-01T10:00:00", tz="UTC")
    assert table["n"].isna().tolist() == [False, True, False]
    embed_file(tmp_path / "t.gpkg", tmp_path / "o.csv")
    lines = (tmp_path / "o.csv").read_text().splitlines()
    assert lines[1].startswith("true,2020-01-01 10:00:00.000Z,,1,1,2,")
    assert lines[2].startswith("false,,x,,3,4,")


@pytest.mark.parametrize(
    ("choice", "beside"),
    [
        ("representative_point", ["lon", "lat"]),
        ("centroid", ["lon", "lat"]),
        ("sample", ["geometry"]),
    ],
)
def test_polygons_need_a_choice(tmp_path, choice, beside):
    shapes = [box(0, 0, 10, 10), box(100, 40, 101, 41), LineString([(0, 0), (3, 3)]), Point(5, 5)]
    frame = gpd.GeoDataFrame({"id": range(4)}, geometry=shapes, crs=4326)
    frame.to_file(tmp_path / "t.gpkg")
    embed_file(tmp_path / "t.gpkg", tmp_path / "o.parquet", geometry=choice, batch_rows=3)
    table = gpd.read_parquet(tmp_path / "o.parquet")
    expected = np.stack(ge.embed(frame, layout="vector", geometry=choice)["embedding"])
    np.testing.assert_allclose(np.stack(table["embedding"]), expected, atol=2e-6)
    assert table.geometry.geom_equals(frame.geometry).all()
    geo = json.loads(pq.read_schema(tmp_path / "o.parquet").metadata[b"geo"])
    assert geo["columns"]["geometry"]["geometry_types"] == ["LineString", "Point", "Polygon"]
    embed_file(tmp_path / "t.gpkg", tmp_path / "o.csv", geometry=choice)
    flat = pd.read_csv(tmp_path / "o.csv")
    assert flat.columns[1:-512].tolist() == beside
    if choice == "sample":
        assert shapely.equals(shapely.from_wkt(flat["geometry"]), frame.geometry.array).all()
    else:
        assert flat[["lon", "lat"]].iloc[3].tolist() == [5.0, 5.0]


def test_a_layer_is_chosen(frame, tmp_path):
    frame.head(3).to_file(tmp_path / "t.gpkg", layer="few")
    frame.to_file(tmp_path / "t.gpkg", layer="all")
    assert embed_file(tmp_path / "t.gpkg", tmp_path / "o.npy", layer="few").rows == 3
    assert embed_file(tmp_path / "t.gpkg", tmp_path / "p.npy", layer="all").rows == ROWS


def test_columns_of_other_names(sources, vectors, tmp_path):
    table = pd.read_csv(sources / "t.csv").rename(columns={"Longitude": "east", "LAT": "north"})
    table.to_csv(tmp_path / "t.csv", index=False)
    embed_file(tmp_path / "t.csv", tmp_path / "o.npy", lon="east", lat="north")
    near(np.load(tmp_path / "o.npy"), vectors, "t.csv")


def test_coordinates_in_another_crs(frame, vectors, tmp_path):
    metres = frame.to_crs(3857).geometry
    pd.DataFrame({"lon": metres.x, "lat": metres.y}).to_csv(tmp_path / "t.csv", index=False)
    embed_file(tmp_path / "t.csv", tmp_path / "o.parquet", crs="EPSG:3857")
    table = gpd.read_parquet(tmp_path / "o.parquet")
    assert shapely.equals_exact(table.geometry.array, frame.geometry.array, 1e-9).all()
    near(np.stack(table["embedding"]), vectors, "t.csv")


def test_a_crs_stated_for_a_file_without_one_is_written(frame, vectors, tmp_path):
    bare = frame.set_crs(None, allow_override=True)
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        bare.to_file(tmp_path / "t.shp", encoding="utf-8")
    assert not (tmp_path / "t.prj").exists()
    embed_file(tmp_path / "t.shp", tmp_path / "o.parquet", crs="EPSG:4326")
    table = gpd.read_parquet(tmp_path / "o.parquet")
    assert table.crs == "EPSG:4326"
    near(np.stack(table["embedding"]), vectors, "t.shp")


def test_equal_to_embedding_the_frame_in_memory(sources, frame, tmp_path):
    embed_file(sources / "t.parquet", tmp_path / "o.parquet")
    table = gpd.read_parquet(tmp_path / "o.parquet")
    expected = ge.embed(frame, layout="vector")
    assert table.columns.tolist() == expected.columns.tolist()
    np.testing.assert_array_equal(np.stack(table["embedding"]), np.stack(expected["embedding"]))


@pytest.mark.parametrize("source", ["t.gpkg", "t.parquet", "t.csv", "native.parquet"])
def test_frames_of_a_file(sources, frame, source):
    parts = list(read_frames(sources / source, batch_rows=BATCH))
    assert [len(part) for part in parts] == [5, 5, 5, 5, 3]
    whole = pd.concat(parts)
    assert whole.index.tolist() == list(range(ROWS))
    assert whole["name"].tolist() == frame["name"].tolist()
    assert shapely.equals_exact(whole.geometry.array, frame.geometry.array, 1e-12).all()
    assert parts[0].crs.to_string() == ("OGC:CRS84" if source == "t.csv" else "EPSG:4326")


def test_an_embedded_file_can_be_embedded_again(sources, tmp_path):
    embed_file(sources / "t.parquet", tmp_path / "o.parquet", batch_rows=BATCH)
    embed_file(
        tmp_path / "o.parquet",
        tmp_path / "p.parquet",
        layers="scales",
        prefix="scales",
        batch_rows=4,
    )
    table = gpd.read_parquet(tmp_path / "p.parquet")
    assert table.columns[-2:].tolist() == ["embedding", "scales"]
    assert [np.stack(table[name]).shape[1] for name in ("embedding", "scales")] == [512, 1536]


def test_sources_are_left_as_they_are(sources, tmp_path):
    for source in ("t.gpkg", "t.shp", "t.csv"):
        copies = [shutil.copy(f, tmp_path) for f in sources.glob(f"{Path(source).stem}.*")]
        before = {copy: Path(copy).read_bytes() for copy in copies}
        embed_file(tmp_path / source, tmp_path / "o.npy", force=True)
        assert {copy: Path(copy).read_bytes() for copy in copies} == before
