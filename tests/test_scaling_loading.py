"""Tables read into memory: a folder of Parquet files, or a pattern of them, is one table."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import geoembed as ge
from geoembed.errors import CoordinateError, OptionError, TableError
from geoembed.scaling import embed_folder
from geoembed.scaling.folder_source import open_table
from geoembed.scaling.loading import describe_table, load_table, table_name
from geoembed.streaming import read_frames

CITIES = ge.data.load_cities()[["name", "iso_a2", "geometry"]].head(90).reset_index(drop=True)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def folder(here):
    """Three files of 30 rows in folders of two levels, and what readers pass over."""
    for at, place in enumerate(
        ("country=FR/year=2023", "country=FR/year=2024", "country=KE/year=9")
    ):
        (here / "in" / place).mkdir(parents=True)
        CITIES[30 * at : 30 * at + 30].to_parquet(here / "in" / place / "data.parquet")
    (here / "in" / "_SUCCESS").touch()
    (here / "in" / "README.md").write_text("Not a table.")
    for hidden in ("_old/data.parquet", ".tmp/data.parquet", "country=FR/_data.parquet"):
        (here / "in" / hidden).parent.mkdir(exist_ok=True)
        CITIES.head(1).to_parquet(here / "in" / hidden)
    return here / "in"


def test_a_folder_is_one_table_with_the_columns_of_its_folders(folder):
    table = load_table("in")
    assert table.columns.tolist() == ["name", "iso_a2", "country", "year", "geometry"]
    assert table["name"].tolist() == CITIES["name"].tolist()
    assert table.geometry.geom_equals(CITIES.geometry).all()
    assert table.crs == CITIES.crs
    assert table.index.equals(pd.RangeIndex(90))
    assert table["country"].tolist() == ["FR"] * 60 + ["KE"] * 30
    assert table["year"].dtype == np.int64
    assert table["year"].tolist() == [2023] * 30 + [2024] * 30 + [9] * 30
    assert open_table(folder).rows == 90


def test_a_file_is_read_as_read_frames_reads_it(here):
    plain = pd.DataFrame(CITIES.drop(columns="geometry"))
    plain = plain.assign(lon=CITIES.geometry.x, lat=CITIES.geometry.y)
    plain.loc[3, "lat"] = None
    plain.to_csv("c.csv", index=False)
    CITIES.to_file("c.gpkg")
    CITIES.to_parquet("c.parquet")
    for name in ("c.csv", "c.gpkg", "c.parquet"):
        expected = pd.concat(read_frames(name))
        pd.testing.assert_frame_equal(load_table(name), expected)
        few = load_table(name, ["iso_a2"])
        pd.testing.assert_frame_equal(few, expected[["iso_a2", "geometry"]])


@pytest.mark.parametrize(
    ("pattern", "rows", "name"),
    [
        ("in/country=FR/**/*.parquet", 60, "country=FR/**/*.parquet"),
        ("in/**/*.parquet", 90, "in/**/*.parquet"),
        ("in/country=?R/year=*4/*", 30, "in/country=?R/year=*4/*"),
        ("in/country=F*", 60, "in/country=F*"),
        ("in/*", 90, "in/*"),
        ("in/**", 90, "in/**"),
        ("in/_old/*.parquet", 1, "_old/*.parquet"),
        ("in/_*/*.parquet", 1, "in/_*/*.parquet"),
        ("in/country=KE", 30, "country=KE"),
        (".", 90, None),
        ("in/country=KE/year=9/data.parquet", 30, "data.parquet"),
    ],
)
def test_patterns_and_folders_within(folder, pattern, rows, name):
    table = load_table(pattern)
    assert len(table) == rows
    assert table_name(folder.parent / pattern) == (name or folder.parent.name)
    if pattern == "in/country=KE":
        assert table.columns[-3:].tolist() == ["country", "year", "geometry"]


def test_a_geometry_that_cannot_be_read_is_named_by_its_row(folder):
    source = folder / "country=KE" / "year=9" / "data.parquet"
    table = pq.ParquetFile(source).read()
    at = table.schema.get_field_index("geometry")
    cells = table.column(at).to_pylist()
    cells[7] = cells[7][:9]
    pq.write_table(table.set_column(at, table.field(at), pa.array(cells, pa.binary())), source)
    with pytest.raises(TableError, match="row 67"):
        load_table(folder)


def test_geometries_beside_the_places_are_left_out(here):
    table = CITIES.assign(
        area=CITIES.geometry.translate(1), x=CITIES.geometry.x, y=CITIES.geometry.y
    )
    table.to_parquet("t.parquet")
    assert load_table("t.parquet").columns.tolist() == ["name", "iso_a2", "x", "y", "geometry"]
    by_columns = load_table("t.parquet", ["name"], lon="x", lat="y")
    assert by_columns.columns.tolist() == ["name", "geometry"]
    np.testing.assert_allclose(by_columns.geometry.x, CITIES.geometry.x)


def test_a_column_named_geometry_is_kept_beside_coordinates(here):
    pd.DataFrame({"lon": [1.0], "lat": [2.0], "geometry": ["flat"]}).to_csv("t.csv", index=False)
    table = load_table("t.csv")
    assert table.columns.tolist() == ["lon", "lat", "geometry", "geometry_"]
    assert table.active_geometry_name == "geometry_"
    (frame,) = read_frames("t.csv")
    pd.testing.assert_frame_equal(frame, table)


def test_only_the_columns_that_are_needed_are_read(folder, monkeypatch):
    embed_folder(folder, "embedded", encoder="xyz", workers=0)
    embed_folder(folder, "wide", encoder="xyz", workers=0, layout="columns")
    seen = []
    table_of = ge.streaming.parquet_source.ParquetSource.tables

    def tables(self):
        for table in table_of(self):
            seen.append(table.schema.names)
            yield table

    monkeypatch.setattr(ge.streaming.parquet_source.ParquetSource, "tables", tables)
    for name in ("embedded", "wide"):
        table = load_table(name, ["iso_a2", "year"])
        assert table.columns.tolist() == ["iso_a2", "year", "geometry"]
        assert table["iso_a2"].tolist() == CITIES["iso_a2"].tolist()
    assert seen == [["iso_a2", "geometry"]] * 6
    # Without a choice all but lists.
    names = ["name", "iso_a2", "country", "year", "geometry"]
    assert load_table("embedded").columns.tolist() == names
    assert load_table("wide").columns.tolist() == [
        *names[:2], "xyz_000", "xyz_001", "xyz_002", *names[2:]
    ]  # fmt: skip


def test_files_of_other_column_order_types_of_text_and_no_rows(here):
    (here / "in").mkdir()
    kinds = pd.Categorical(["wood"] * 10), pd.Categorical(["water"] * 10)
    CITIES[:10].assign(kind=kinds[0]).to_parquet("in/a.parquet")
    turned = CITIES[10:20].assign(kind=kinds[1])[["kind", "geometry", "iso_a2", "name"]]
    turned.to_parquet("in/b.parquet")
    CITIES[:0].assign(kind=kinds[0][:0]).to_parquet("in/c.parquet")
    table = load_table("in")
    assert table["kind"].tolist() == ["wood"] * 10 + ["water"] * 10
    assert table["name"].tolist() == CITIES["name"][:20].tolist()
    assert table.columns.tolist() == ["name", "iso_a2", "kind", "geometry"]


def test_places_in_columns_and_values_that_folders_leave_open(here):
    for value in ("01", "__HIVE_DEFAULT_PARTITION__", "C%C3%B4te%20d'Ivoire"):
        (here / "in" / f"code={value}" / "n=1").mkdir(parents=True)
        frame = pd.DataFrame({"x": [1.0, None], "y": [2.0, 3.0], "n": [7, 8]})
        frame.to_parquet(here / "in" / f"code={value}" / "n=1" / "p.parquet", index=False)
    table = load_table("in", ["code", "n"], lon="x", lat="y")
    assert sorted(table["code"].dropna().unique()) == ["01", "Côte d'Ivoire"]
    assert table["code"].isna().sum() == 2
    # The files' own column has a type, and may say more.
    assert table["n"].tolist() == [7, 8] * 3
    assert table.geometry.isna().tolist() == [False, True] * 3
    assert table.crs == "OGC:CRS84"
    with pytest.raises(CoordinateError, match="in has neither geometries nor coordinate columns"):
        load_table("in")


def test_the_extent_of_one_file_is_not_told_of_all(folder):
    facts = open_table(folder).geometries[0].facts
    assert facts["encoding"] == "WKB"
    assert not {"bbox", "geometry_types"} & set(facts)


def test_what_is_read_is_described(folder):
    found = describe_table(folder)
    assert (found["table"], found["files"]) == ("in", 3)
    assert found["size"] == sum(p.stat().st_size for p in folder.rglob("data.parquet")) - sum(
        (folder / hidden).stat().st_size for hidden in ("_old/data.parquet", ".tmp/data.parquet")
    )
    assert describe_table(folder) == found
    (folder / "country=KE" / "year=9").rename(folder / "country=KE" / "year=8")
    assert describe_table(folder)["sha256_of_ends"] != found["sha256_of_ends"]
    one = describe_table(folder / "country=KE" / "year=8" / "data.parquet")
    assert set(one) == {"table", "size", "sha256_of_ends"}


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (CITIES.drop(columns="iso_a2"), "year=9/data.parquet lacks 'iso_a2', unlike .*year=2023"),
        (CITIES.assign(more=1), "year=9/data.parquet has 'more' besides, unlike"),
        (CITIES.assign(name=1), "year=9/data.parquet has 'name' as int64 and not as (large_)?str"),
        (CITIES.to_crs(3857), "year=9/data.parquet has geometries .* EPSG:3857, and .* EPSG:4326"),
    ],
)
def test_files_that_are_not_of_one_table(folder, change, message):
    change.to_parquet(folder / "country=KE" / "year=9" / "data.parquet")
    with pytest.raises(TableError, match=message):
        load_table("in", ["name"])


def test_tables_of_other_kinds_beside_parquet(folder):
    (folder / "country=KE" / "more.csv").write_text("lon,lat\n1,2\n")
    for source in ("in", "in/**"):
        with pytest.raises(
            TableError, match=r"beside Parquet, such as more.csv: .*/in/\*\*/\*.parq"
        ):
            load_table(source)
    assert len(load_table("in/**/*.parquet")) == 90
    # Folders that are embedded part by part pass over them, as ever.
    assert embed_folder(folder, "embedded", encoder="xyz", workers=0).rows == 90


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("empty", "empty holds no Parquet file. Names must end in .parquet, .geoparquet, .pq"),
        ("text", "text holds no Parquet file"),
        ("text/*.csv", r"text/\*.csv holds no Parquet file"),
        ("nowhere/*.parquet", r"nowhere/\*.parquet holds no Parquet file"),
        ("nowhere", "There is no file nowhere"),
    ],
)
def test_sources_without_parquet(here, source, message):
    (here / "empty").mkdir()
    (here / "text").mkdir()
    (here / "text" / "a.csv").write_text("lon,lat\n1,2\n")
    with pytest.raises(TableError, match=message):
        load_table(source)


def test_columns_and_layers_that_are_not_there(folder):
    with pytest.raises(TableError, match="no column in in named 'countri'. Close matches: 'coun"):
        load_table("in", ["countri"])
    with pytest.raises(TableError, match=r"no column in in/\*\*/\*.parquet named 'geometry'"):
        load_table("in/**/*.parquet", ["geometry"])
    with pytest.raises(OptionError, match="layer='a': Parquet files have no layers"):
        load_table("in", layer="a")
    with pytest.raises(TableError, match="has no column 'x'"):
        load_table("in", lon="x", lat="y")


def test_a_name_with_brackets_is_a_file_where_it_is_there(here):
    CITIES[:5].to_parquet("b[1].parquet")
    assert len(load_table("b[1].parquet")) == 5
    gpd.GeoDataFrame(CITIES[:3]).to_parquet("b1.parquet")
    assert len(load_table("b[0-9].parquet")) == 3


@pytest.mark.parametrize("first", ["whole", "open"])
def test_a_column_may_have_gaps_if_it_may_in_one_of_the_files(here, first):
    (here / "in").mkdir()
    for kind, values in (("whole", [1, 2]), ("open", [3, None])):
        fields = [pa.field(name, pa.float64()) for name in ("lon", "lat")]
        code = pa.field("k", pa.int64(), nullable=kind == "open", metadata={"unit": "none"})
        fixed = pa.field("n", pa.int64(), nullable=False)
        table = pa.table(
            [[1.0, 2.0], [3.0, 4.0], values, [5, 6]], schema=pa.schema([*fields, code, fixed])
        )
        pq.write_table(table, here / "in" / f"{'a' if kind == first else 'b'}.parquet")
    source = open_table(here / "in")
    assert [source.schema.field(name).nullable for name in ("k", "n")] == [True, False]
    assert source.schema.field("k").metadata[b"unit"] == b"none"
    rows = pa.concat_tables(source.tables())["k"].to_pylist()
    assert rows == ([1, 2, 3, None] if first == "whole" else [3, None, 1, 2])
    assert len(load_table("in")) == 4
