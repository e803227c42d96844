"""`embed_batches`: record batches in, record batches with vectors out."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from shapely import box

import geoembed as ge
from geoembed.errors import CoordinateError, OptionError, TableError
from geoembed.scaling import embed_batches
from geoembed.streaming import embed_file

CITIES = ge.data.load_cities()[["name", "geometry"]].head(500).reset_index(drop=True)
LON, LAT = CITIES.geometry.x.to_numpy(), CITIES.geometry.y.to_numpy()


def unit_vectors(lon, lat):
    """What the encoder 'xyz' is defined as."""
    lon, lat = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def stack(table, name="embedding"):
    return np.stack(table[name].to_numpy(zero_copy_only=False))


def lonlat_table(rows=500):
    return pa.table({"n": np.arange(rows), "lon": LON[:rows], "lat": LAT[:rows]})


@pytest.mark.parametrize("encoding", ["WKB", "geoarrow"])
def test_geometries_are_read_as_geoarrow_marks_them(encoding):
    projected = CITIES[CITIES.geometry.y.abs() < 80].to_crs("EPSG:3857")
    stream = projected.to_arrow(geometry_encoding=encoding)
    table = embed_batches(stream, encoder="xyz").read_all()
    assert table.column_names == ["name", "geometry", "embedding"]
    known = CITIES[CITIES.geometry.y.abs() < 80].geometry
    expected = unit_vectors(known.x, known.y)
    np.testing.assert_allclose(stack(table), expected, atol=1e-6)
    back = gpd.GeoDataFrame.from_arrow(table)
    assert back.crs == "EPSG:3857"


def test_geoparquet_metadata_is_followed(tmp_path):
    import pyarrow.parquet as pq

    CITIES.to_parquet(tmp_path / "c.parquet")
    table = embed_batches(pq.read_table(tmp_path / "c.parquet"), encoder="xyz").read_all()
    np.testing.assert_allclose(stack(table), unit_vectors(LON, LAT), atol=1e-6)
    assert b"geo" in table.schema.metadata


def test_a_column_of_wkb_takes_its_name_and_crs():
    wkb = pa.table({"shape": CITIES.geometry.to_wkb().to_list()})
    asked = {"encoder": "xyz", "geometry_column": "shape", "crs": "EPSG:4326"}
    table = embed_batches(wkb, **asked).read_all()
    np.testing.assert_allclose(stack(table), unit_vectors(LON, LAT), atol=1e-6)
    with pytest.raises(CoordinateError, match="does not say which CRS.*State it"):
        embed_batches(wkb, encoder="xyz", geometry_column="shape")
    with pytest.raises(CoordinateError, match="If 'shape' holds geometries as WKB: geometry_col"):
        embed_batches(wkb, encoder="xyz")
    with pytest.raises(TableError, match="has no column 'form'. Its columns: 'shape'"):
        embed_batches(wkb, encoder="xyz", geometry_column="form")


def test_it_is_the_same_as_a_file_bit_by_bit_at_equal_batches(tmp_path):
    CITIES.to_parquet(tmp_path / "c.parquet")
    embed_file(tmp_path / "c.parquet", tmp_path / "o.parquet", batch_rows=128, progress=False)
    expected = np.stack(gpd.read_parquet(tmp_path / "o.parquet")["embedding"])
    # However the rows come: in one batch, or in many of other sizes.
    whole = lonlat_table()
    for size in (500, 70, 1):
        batches = whole.to_batches(max_chunksize=size)
        table = embed_batches(batches, batch_rows=128).read_all()
        assert np.array_equal(stack(table), expected)


def test_batches_go_out_as_they_come_in():
    asked = []

    def source():
        for batch in lonlat_table().to_batches(max_chunksize=50):
            asked.append(len(batch))
            yield batch

    reader = embed_batches(source(), encoder="xyz", batch_rows=100)
    assert asked == [50], "only the first is looked at, for its schema"
    first = reader.read_next_batch()
    assert len(first) == 100
    assert sum(asked) <= 150, "no more is read than is needed"
    assert [len(batch) for batch in reader] == [100] * 4


def test_large_batches_are_cut_and_rows_are_named_through_the_stream():
    table = lonlat_table().to_pandas()
    table.loc[412, "lat"] = np.nan
    batches = pa.Table.from_pandas(table, preserve_index=False)
    reader = embed_batches(batches, encoder="xyz", batch_rows=200)
    assert [len(reader.read_next_batch()) for _ in range(2)] == [200, 200]
    with pytest.raises(CoordinateError, match=r"the stream, rows 400 to 499.*row 412"):
        reader.read_next_batch()
    kept = embed_batches(batches, encoder="xyz", on_invalid="nan").read_all()
    assert np.flatnonzero(np.isnan(stack(kept)).any(axis=1)).tolist() == [412]
    left = embed_batches(batches, encoder="xyz", on_invalid="drop", batch_rows=200).read_all()
    assert left["n"].to_pylist() == [n for n in range(500) if n != 412]
    np.testing.assert_allclose(stack(left)[412], unit_vectors(LON, LAT)[413], atol=1e-6)


def test_the_schema_is_known_before_anything_is_computed():
    reader = embed_batches(lonlat_table(), encoder="geoclip.v1", dtype="float16", prefix="v")
    assert reader.schema.field("v").type == pa.list_(
        pa.field("element", pa.float16(), nullable=False), 512
    )
    made = json.loads(reader.schema.metadata[b"geoembed"])
    assert (made["encoder"], made["options"]["dtype"]) == ("geoclip.v1", "float16")
    columns = embed_batches(lonlat_table(), encoder="xyz", layout="columns")
    assert columns.schema.names == ["n", "lon", "lat", "xyz_000", "xyz_001", "xyz_002"]
    assert columns.read_all()["xyz_002"].to_numpy() == pytest.approx(np.sin(np.radians(LAT)))


def test_engines_may_call_it_for_nothing():
    assert list(embed_batches(iter(()), encoder="xyz")) == []
    assert embed_batches(lonlat_table(0), encoder="xyz").read_all().num_rows == 0


def test_polygons_and_extension_types_of_other_packages():
    squares = gpd.GeoDataFrame(geometry=[box(0, 0, 2, 2), box(10, 10, 12, 12)], crs=4326)
    with pytest.raises(CoordinateError, match="2 of 2 rows.*Choose what stands"):
        embed_batches(squares.to_arrow(), encoder="xyz").read_all()
    table = embed_batches(squares.to_arrow(), encoder="lonlat", geometry="centroid").read_all()
    np.testing.assert_allclose(stack(table), [[1, 1], [11, 11]], atol=0.01)

    class Registered(pa.ExtensionType):
        def __init__(self):
            super().__init__(pa.binary(), "geoarrow.wkb")

        def __arrow_ext_serialize__(self):
            return b'{"crs": "OGC:CRS84"}'

        @classmethod
        def __arrow_ext_deserialize__(cls, storage, serialized):
            return cls()

    wkb = pa.array(CITIES.geometry.to_wkb().to_list(), pa.binary())
    table = pa.table({"g": pa.ExtensionArray.from_storage(Registered(), wkb)})
    embedded = embed_batches(table, encoder="xyz").read_all()
    assert isinstance(embedded.schema.field("g").type, Registered)
    np.testing.assert_allclose(stack(embedded), unit_vectors(LON, LAT), atol=1e-6)


def test_duckdb_reads_through_it(tmp_path):
    import duckdb

    CITIES.to_parquet(tmp_path / "c.parquet")
    # One connection gives the rows while the other takes them.
    with duckdb.connect() as one, duckdb.connect() as two:
        rows = one.sql(f"SELECT * FROM '{tmp_path / 'c.parquet'}' WHERE name LIKE 'B%'")
        two.register("embedded", embed_batches(rows.to_arrow_reader(100), encoder="xyz"))
        counted = two.sql("SELECT count(*), max(len(embedding)) FROM embedded").fetchall()
    assert counted == [(CITIES.name.str.startswith("B").sum(), 3)]


@pytest.mark.parametrize(
    ("batches", "options", "error", "message"),
    [
        ("no.parquet", {}, TableError, "takes record batches of Arrow.*got str"),
        (7, {}, TableError, "takes record batches of Arrow.*got int"),
        ([pd.DataFrame()], {}, TableError, "something else: DataFrame"),
        (pa.table({"a": [1]}), {}, CoordinateError, "the stream has neither geometries nor coord"),
        (lonlat_table(), {"layout": "wide"}, OptionError, "layout='wide' is not one of: vector"),
        (lonlat_table(), {"batch_rows": 0}, OptionError, "batch_rows=0 is no whole number"),
        (lonlat_table(), {"layers": ["scales"]}, OptionError, r"layers=\['scales'\]: the encoder"),
        (lonlat_table(), {"normalize": np.ones(2)}, OptionError, "normalize="),
        (lonlat_table(), {"prefix": 3}, OptionError, "prefix=3 is not text such as 'embedding'"),
        (lonlat_table(), {"prefix": "n"}, TableError, "already has the column 'n'"),
        (lonlat_table(), {"lon": "x", "lat": "lat"}, TableError, "has no column 'x'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_read(batches, options, error, message):
    with pytest.raises(error, match=message):
        embed_batches(batches, encoder="xyz", **options)


def test_a_batch_with_other_columns_is_refused():
    batches = [lonlat_table(2), lonlat_table(2).rename_columns(["m", "lon", "lat"])]
    reader = embed_batches(batches, encoder="xyz", batch_rows=1)
    with pytest.raises(TableError, match=r"Record batch 1 .* lacks 'n' and has 'm' besides"):
        reader.read_all()


def test_two_columns_of_geometries_need_a_choice():
    point = pa.field("a", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"})
    wkb = pa.array(CITIES.geometry.head(3).to_wkb().to_list(), pa.binary())
    table = pa.table([wkb, wkb], schema=pa.schema([point, point.with_name("b")]))
    with pytest.raises(CoordinateError, match="several columns of geometries: 'a', 'b'"):
        embed_batches(table, encoder="xyz")
    chosen = embed_batches(table, encoder="xyz", geometry_column="b", crs="EPSG:4326")
    assert chosen.read_all().num_rows == 3
    with pytest.raises(TableError, match="cannot replace the geometry column 'b'"):
        embed_batches(
            table, encoder="xyz", geometry_column="b", crs=4326, prefix="b", overwrite=True
        )


def small_dictionaries(batches, nested):
    """Batches of 100 rows, each with 100 categories of its own: int8 can count 128."""
    for at in range(batches):
        values = pa.array([f"{at} {i}" for i in range(100)])
        column = pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int8()), values)
        if nested:
            column = pa.StructArray.from_arrays([column], ["c"])
        places = lonlat_table(100).drop_columns("n").to_batches()[0]
        yield places.append_column("c", column)


@pytest.mark.parametrize("nested", [False, True])
def test_dictionaries_keep_their_type_and_values(nested):
    expected = pa.Table.from_batches(small_dictionaries(4, nested))["c"]
    reader = embed_batches(small_dictionaries(4, nested), encoder="xyz")
    table = reader.read_all()
    assert table.schema.field("c").type == expected.type
    assert table["c"].to_pylist() == expected.to_pylist()
    np.testing.assert_allclose(stack(table), np.tile(unit_vectors(LON, LAT)[:100], (4, 1)), 1e-5)


def test_dictionaries_cut_no_finer_than_they_must():
    # The first two have one dictionary, and so have the last two.
    one, two = small_dictionaries(2, nested=False)
    reader = embed_batches([one, one, two, two], encoder="xyz")
    assert [len(batch) for batch in reader] == [200, 200]


def test_what_slices_share_is_not_what_they_hold():
    # 70 MB, of which every batch has all: more than a batch may weigh.
    words = pa.array(["x" * 1000] * 70_000, pa.large_string())
    indices = pa.array(np.zeros(50, np.int32))
    column = pa.DictionaryArray.from_arrays(indices, words)
    listed = pa.ListArray.from_arrays(pa.array(range(51), pa.int32()), column)
    places = lonlat_table(50).to_batches()[0]
    for shared in (column, pa.StructArray.from_arrays([listed], ["k"])):
        batches = [places.append_column("k", shared)] * 10
        reader = embed_batches(batches, encoder="xyz", batch_rows=200)
        assert [len(batch) for batch in reader] == [200, 200, 100]
    # The same of polars' texts: a view of each in buffers that all slices have.
    texts = words[:66_000].cast(pa.string_view())
    batches = [places.append_column("k", texts.slice(at * 50, 50)) for at in range(10)]
    reader = embed_batches(batches, encoder="xyz", batch_rows=200)
    assert [len(batch) for batch in reader] == [200, 200, 100]


def test_dictionaries_that_differ_count():
    places = lonlat_table(50).to_batches()[0]
    indices = pa.array(np.zeros(50, np.int32))
    batches = [
        places.append_column("k", pa.DictionaryArray.from_arrays(indices, [f"{at}" * 30_000_000]))
        for at in range(5)
    ]
    # 30 MB each, the first for nothing.
    reader = embed_batches(batches, encoder="xyz", batch_rows=250)
    assert len(reader.read_next_batch()) == 200
