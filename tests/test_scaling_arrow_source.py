"""What `embed_batches` makes of the schemas and geometries of streams that others give."""

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely

import geoembed as ge
from geoembed.errors import CoordinateError, TableError
from geoembed.scaling import embed_batches

CITIES = ge.data.load_cities()[["name", "geometry"]].head(200).reset_index(drop=True)
LONLAT = np.stack([CITIES.geometry.x, CITIES.geometry.y], axis=1)


def embed(batches, **options):
    """The places that were read, for the encoder 'lonlat' gives them back."""
    table = embed_batches(batches, encoder="lonlat", **options).read_all()
    return np.stack(table["embedding"].to_numpy(zero_copy_only=False))


def arrow(frame, encoding="WKB"):
    return pa.table(frame.to_arrow(geometry_encoding=encoding))


def is_lonlat(vectors, times=1):
    np.testing.assert_allclose(vectors, np.tile(LONLAT, (times, 1)), atol=1e-4)


@pytest.mark.parametrize("encoding", ["WKB", "geoarrow"])
@pytest.mark.parametrize(("first", "second"), [(3857, 4326), (4326, 4807), (4326, None)])
def test_tables_in_another_crs_are_refused(encoding, first, second):
    frames = [CITIES.to_crs(first), CITIES.set_crs(second, allow_override=True)]
    tables = [arrow(frame, encoding) for frame in frames]
    there = f"EPSG:{second}" if second else "no CRS"
    message = rf"Record batch 1 .*'geometry' geom.* in {there}, and the first .* in EPSG:{first}: "
    reader = embed_batches(tables, encoder="lonlat", batch_rows=200)
    reader.read_next_batch()
    with pytest.raises(TableError, match=message + "bring them to one CRS"):
        reader.read_next_batch()


def test_parquet_files_in_another_crs_are_refused(tmp_path):
    CITIES.to_crs(3857).to_parquet(tmp_path / "3857.parquet")
    CITIES.to_parquet(tmp_path / "4326.parquet")
    paths = sorted(tmp_path.iterdir())
    with pytest.raises(TableError, match="as WKB in EPSG:4326, and the first .* in EPSG:3857"):
        embed(pq.read_table(path) for path in paths)


def test_edges_are_compared():
    def table(edges):
        facts = {"ARROW:extension:name": "geoarrow.wkb", "ARROW:extension:metadata": edges}
        field = pa.field("g", pa.binary(), metadata=facts)
        wkb = pa.array(CITIES.geometry.to_wkb().to_list(), pa.binary())
        return pa.table([wkb], schema=pa.schema([field]))

    tables = [table('{"edges": "spherical"}'), table("{}")]
    with pytest.raises(TableError, match="in no CRS, and the first .* no CRS with spherical edges"):
        embed(tables, crs=4326)
    is_lonlat(embed(tables[:1] * 2, crs=4326), 2)


def test_other_metadata_may_differ(tmp_path):
    # Each piece says where its index starts, each file which extent it has.
    halves = [CITIES.iloc[:50], CITIES.iloc[50:]]
    is_lonlat(embed([arrow(half) for half in halves], batch_rows=120))
    for at, half in enumerate(halves):
        half.to_parquet(tmp_path / f"{at}.parquet", write_covering_bbox=True)
    paths = sorted(tmp_path.iterdir())
    is_lonlat(embed((pq.read_table(path) for path in paths), batch_rows=120))
    # The same places, whichever axis a CRS names first.
    turned = [arrow(CITIES), arrow(CITIES.to_crs("OGC:CRS84"))]
    is_lonlat(embed(turned), 2)


def test_geodataframes_are_taken():
    is_lonlat(embed(CITIES))
    is_lonlat(embed(CITIES.to_crs(3857)))
    is_lonlat(embed([CITIES.iloc[:50], CITIES.iloc[50:]]))
    table = embed_batches(CITIES.to_crs(3857), encoder="xyz").read_all()
    assert gpd.GeoDataFrame.from_arrow(table).crs == "EPSG:3857"
    mixed = CITIES.assign(name=[1, "x"] * 100)
    with pytest.raises(TableError, match="GeoDataFrame cannot be read as a stream.*convert"):
        embed(mixed)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([None, arrow(CITIES)], "something else: NoneType"),
        ([arrow(CITIES), None], "something else: NoneType"),
        ([CITIES.to_arrow()], "something else: ArrowTable.*pyarrow.table() makes one of it"),
        (pa.chunked_array([[1, 2]]), "ChunkedArray cannot be read as a stream of record batches"),
    ],
)
def test_what_is_no_batch_is_refused_wherever_it_stands(batches, message):
    with pytest.raises(TableError, match=message.replace("(", r"\(").replace(")", r"\)")):
        embed(batches)


def lonlat(nullable=True, values=(1.0,), more=()):
    fields = [pa.field("lon", pa.float64(), nullable=nullable), ("lat", pa.float64()), *more]
    return pa.table([values, [2.0], *[["a"]] * len(more)], schema=pa.schema(fields))


def test_whether_a_column_may_have_gaps_is_no_difference():
    for tables in ([lonlat(), lonlat(False)], [lonlat(False), lonlat()]):
        reader = embed_batches(tables, encoder="lonlat")
        assert reader.schema.field("lon").nullable == tables[0].schema.field("lon").nullable
        assert reader.read_all().num_rows == 2
    with pytest.raises(TableError, match="Record batch 1 .* 1 missing values in .*'lon'"):
        embed([lonlat(False), lonlat(values=[None])], on_invalid="nan")


def test_what_differs_is_said_and_no_more():
    wide = lonlat(more=[(f"c{i}", pa.string()) for i in range(3000)])
    with pytest.raises(TableError, match="lacks 'c0', 'c1', 'c2', 'c3', 'c4' and 2,995 more.$"):
        embed([wide, lonlat()])
    with pytest.raises(TableError, match="another order: 'lat' stands where the first has 'lon'"):
        embed([lonlat(), lonlat().select(["lat", "lon"])])
    whole = lonlat().set_column(0, "lon", pa.array([1]))
    with pytest.raises(TableError, match="first: 'lon' as int64 and not as double.$"):
        embed([lonlat(), whole])
    twice = pa.table([[1.0], [2.0], [3.0]], names=["lon", "lat", "lon"])
    with pytest.raises(TableError, match="Record batch 1 .*several columns named 'lon'"):
        embed([lonlat(), twice])


def broken_wkb():
    wkb = CITIES.geometry.to_wkb().to_list() * 25
    wkb[4321] = b"\x01\x01"
    wkb[4400] = None
    return pa.table({"g": pa.array(wkb, pa.binary())}), {"geometry_column": "g", "crs": 4326}


def test_bytes_that_are_no_geometry_are_named_by_row():
    table, reading = broken_wkb()
    message = (
        r"the stream, rows 4,000 to 4,999 .*'g' holds something else .* as WKB in 1 of 1,000 rows, "
        r"row 4321: .*Unexpected EOF.* or pass on_invalid='nan'"
    )
    with pytest.raises(TableError, match=message):
        embed(table.to_batches(max_chunksize=100), batch_rows=1000, **reading)


def test_bytes_that_are_no_geometry_are_rows_without_a_place():
    table, reading = broken_wkb()
    for rows in (1000, 1):
        batches = table.slice(4300, 200).to_batches(max_chunksize=100)
        vectors = embed(batches, batch_rows=rows, on_invalid="nan", **reading)
        assert np.flatnonzero(np.isnan(vectors).all(axis=1)).tolist() == [21, 100]
    kept = embed_batches(table, encoder="lonlat", on_invalid="drop", **reading).read_all()
    assert kept.num_rows == 4998
    assert b"\x01\x01" not in kept["g"].to_pylist()


@pytest.mark.parametrize(
    ("crs", "srid"),
    [
        ("+proj=utm +zone=32 +ellps=GRS80 +units=m", 25832),
        (pyproj.CRS(31467).to_wkt("WKT1_ESRI"), 31467),
        ("OGC:CRS84", 4979),
        ("EPSG:4979", 4326),
    ],
)
def test_an_srid_of_the_same_crs_in_other_words_is_no_contradiction(crs, srid):
    places = gpd.GeoSeries.from_xy([8.0, 9.5], [48.0, 51.5], crs=4326)
    geoms = shapely.set_srid(places.to_crs(crs).to_numpy(), srid)
    table = pa.table({"g": shapely.to_wkb(geoms, include_srid=True)})
    vectors = embed(table, geometry_column="g", crs=crs)
    np.testing.assert_allclose(vectors, shapely.get_coordinates(places), atol=2e-3)


def ewkb(srids):
    geoms = shapely.set_srid(CITIES.geometry.to_numpy()[: len(srids)], srids)
    return pa.table({"g": shapely.to_wkb(geoms, include_srid=True)})


def test_geometries_that_say_that_they_are_in_another_crs():
    message = r"rows 0 to 4 .*2 of 5 rows in column 'g' .* another CRS than EPSG:4326: rows 1 "
    with pytest.raises(CoordinateError, match=message + r"\(SRID 3857\), 4 \(SRID 2056\). State"):
        embed(ewkb([4326, 3857, 0, 4326, 2056]), geometry_column="g", crs="EPSG:4326")
    # 0 is no SRID, and of 990000 nobody knows what it is.
    table = ewkb([4326, 0, 990000])
    for crs in (4326, "OGC:CRS84"):
        np.testing.assert_allclose(embed(table, geometry_column="g", crs=crs), LONLAT[:3], 1e-5)


def test_a_column_without_any_geometry_is_not_one_of_invalid_rows():
    texts = pa.table({"g": CITIES["name"].to_list()})
    reading = {"geometry_column": "g", "crs": 4326}
    for on_invalid in ("raise", "nan", "drop"):
        with pytest.raises(
            TableError, match="something else .* in 200 of 200 rows.*correct them.$"
        ):
            embed(texts, on_invalid=on_invalid, **reading)


# --- where the geometries are ----------------------------------------------------------


def marked(cells, name, facts='{"crs": "EPSG:4326"}', more=()):
    marks = {"ARROW:extension:name": name, "ARROW:extension:metadata": facts}
    field = pa.field("g", cells.type, metadata=marks)
    table = pa.table([cells], schema=pa.schema([field]))
    for key, values in more:
        table = table.append_column(key, pa.array(values))
    return table


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_well_known_text_is_read(kind):
    metres = CITIES.to_crs(3857)
    wkt = pa.array(metres.geometry.to_wkt().to_list(), kind)
    is_lonlat(embed(marked(wkt, "geoarrow.wkt", '{"crs": "EPSG:3857"}')))
    is_lonlat(embed(marked(wkt, "geoarrow.wkt", '{"crs": "EPSG:3857"}'), geometry_column="g"))
    broken = pa.array(["POINT (1 2)", None, "POINT", "POINT (3 4)"], kind)
    with pytest.raises(TableError, match="encoded as geoarrow.wkt in 1 of 4 rows, row 2: .*Parse"):
        embed(marked(broken, "geoarrow.wkt"))
    vectors = embed(marked(broken, "geoarrow.wkt"), on_invalid="nan")
    assert np.isnan(vectors[:, 0]).tolist() == [False, True, True, False]


def boxes():
    lon, lat = map(pa.array, LONLAT.T)
    return pa.StructArray.from_arrays([lon, lat, lon, lat], ["xmin", "ymin", "xmax", "ymax"])


def test_encodings_that_are_not_read_are_named():
    message = "Column 'g' of the stream holds geometries as geoarrow.box, which is not read. Make"
    for options in ({}, {"geometry_column": "g"}):
        with pytest.raises(CoordinateError, match=message):
            embed(marked(boxes(), "geoarrow.box"), **options)
    lon, lat = LONLAT.T
    is_lonlat(embed(marked(boxes(), "geoarrow.box", more=[("lon", lon), ("lat", lat)])))
    is_lonlat(
        embed(marked(boxes(), "geoarrow.box", more=[("x", lon), ("y", lat)]), lon="x", lat="y")
    )
    both = marked(boxes(), "geoarrow.box").append_column(
        arrow(CITIES).schema.field("geometry"), arrow(CITIES)["geometry"]
    )
    is_lonlat(embed(both))
    # Bytes under a mark that is not theirs: well-known binary, if somebody says so.
    wkb = pa.array(CITIES.geometry.to_wkb().to_list(), pa.binary())
    with pytest.raises(CoordinateError, match="as geoarrow.geometry, which is not read"):
        embed(marked(wkb, "geoarrow.geometry"))
    is_lonlat(embed(marked(wkb, "geoarrow.geometry"), geometry_column="g"))


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_columns_of_bytes_are_pointed_to(kind):
    table = pa.table({"g": pa.array(CITIES.geometry.to_wkb().to_list(), kind)})
    with pytest.raises(
        CoordinateError, match="If 'g' holds geometries as WKB: geometry_column='g'"
    ):
        embed(table)
    is_lonlat(embed(table, geometry_column="g", crs=4326))


@pytest.fixture
def parquet(tmp_path):
    """A table with coordinate columns, and two of geometries."""
    frame = CITIES.assign(lon=LONLAT[:, 0], lat=LONLAT[:, 1], other=CITIES.geometry)
    frame.to_parquet(tmp_path / "c.parquet")
    return pq.read_table(tmp_path / "c.parquet")


def test_metadata_of_columns_that_are_gone_says_nothing(parquet):
    gone = parquet.drop_columns(["geometry", "other"])
    is_lonlat(embed(gone))
    is_lonlat(embed(gone, lon="lon", lat="lat"))
    is_lonlat(embed([gone, gone.replace_schema_metadata()]), 2)
    wkb = pa.array(CITIES.geometry.to_wkb().to_list(), pa.binary())
    two = gone.append_column(marked(wkb, "geoarrow.wkb").field("g"), wkb)
    is_lonlat(embed(two))
    with pytest.raises(CoordinateError, match="several columns of geometries: 'g', 'h'"):
        embed(two.append_column(two.field("g").with_name("h"), wkb))


def test_metadata_whose_first_column_is_gone_needs_a_choice(parquet):
    gone = parquet.drop_columns("geometry")
    with pytest.raises(TableError, match="names 'geometry' .* no such column. Choose another with"):
        embed(gone)
    is_lonlat(embed(gone, lon="lon", lat="lat"))
    is_lonlat(embed(gone, geometry_column="other"))
