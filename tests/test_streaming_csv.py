"""CSV: cells stay as they are spelled; numbers only where nothing is lost by it."""

import csv

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import geoembed as ge
from geoembed.errors import CoordinateError, TableError
from geoembed.streaming import csv_source, embed_file

TEXT = """\
lat,lon,zip,phone,id,share,flag,late,note,empty
10,20.5,01234,+4930123,12345678901234567890,1.5,true,1,"say ""hi"", twice",
-5.25,180,99999,0,1,NA,False,2,"two
lines",
 7.0 ,-1e1,00000,1,2,1e-05,TRUE,3.5, padded ,
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(TEXT, encoding="utf-8")
    return path


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("batch_rows", [1, 2, None])
def test_every_cell_stays_as_it_is_spelled(source, tmp_path, batch_rows):
    embed_file(source, tmp_path / "o.csv", batch_rows=batch_rows)
    before, after = read(source), read(tmp_path / "o.csv")
    assert [row[:10] for row in after] == before
    assert {len(row) for row in after} == {10 + 512}
    expected = ge.encode(lon=[20.5, 180, -10], lat=[10, -5.25, 7])
    values = np.array([row[10:] for row in after[1:]], dtype="float32")
    np.testing.assert_allclose(values, expected, atol=2e-6)


def test_values_read_back_as_the_same_numbers(source, tmp_path):
    embed_file(source, tmp_path / "o.csv")
    embed_file(source, tmp_path / "o.npy")
    values = pd.read_csv(tmp_path / "o.csv").iloc[:, 10:].to_numpy("float32")
    np.testing.assert_array_equal(values, np.load(tmp_path / "o.npy"))


def test_half_floats(source, tmp_path):
    embed_file(source, tmp_path / "o.csv", dtype="float16")
    embed_file(source, tmp_path / "o.npy", dtype="float16")
    array = np.load(tmp_path / "o.npy")
    assert array.dtype == np.float16
    values = pd.read_csv(tmp_path / "o.csv").iloc[:, 10:].to_numpy("float16")
    np.testing.assert_array_equal(values, array)


def test_types_in_parquet_are_those_of_the_whole_column(source, tmp_path):
    embed_file(source, tmp_path / "o.parquet", batch_rows=1)
    schema = pq.read_schema(tmp_path / "o.parquet")
    kinds = {name: str(schema.field(name).type) for name in schema.names[:-2]}
    assert kinds == {
        "lat": "string",  # one cell has blanks around
        "lon": "double",
        "zip": "string",
        "phone": "string",
        "id": "string",
        "share": "double",
        "flag": "bool",
        "late": "double",
        "note": "string",
        "empty": "string",
    }
    table = gpd.read_parquet(tmp_path / "o.parquet")
    assert table["zip"].tolist() == ["01234", "99999", "00000"]
    assert table["id"].iloc[0] == "12345678901234567890"
    assert table["late"].tolist() == [1.0, 2.0, 3.5]
    assert table["share"].isna().tolist() == [False, True, False]
    assert table["note"].iloc[1] == "two\nlines"
    assert table.geometry.x.tolist() == [20.5, 180.0, -10.0]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["12.5", "13", "7.25"], "double"),
        (["-0.5", "13.0", "0", "-0.0"], "double"),
        (["0.1", "0.30000000000000004", "1.7976931348623157e+308", "1e-07"], "double"),
        (["0.00001", "0.0000123456789012345"], "double"),
        (["123456789012345", "0.5"], "double"),
        (["5", "-5", "123456789012345678"], "int64"),
        (["1.10", "1.9"], "string"),
        (["2.50", "1.90"], "string"),
        (["1e5", "2e5"], "string"),
        (["1e-3"], "string"),
        (["1E-07"], "string"),
        (["1e-400", "0.5"], "string"),
        (["1e+400", "0.5"], "string"),
        (["0.12345678901234567890123"], "string"),
        (["12345678901234567.5"], "string"),
        (["1234567890123456", "0.5"], "string"),
        ([".5"], "string"),
        (["5."], "string"),
        (["-0"], "string"),
        (["01.5"], "string"),
        (["+1.5"], "string"),
    ],
)
def test_numbers_that_come_back_as_they_are_spelled(tmp_path, cells, kind):
    table = pd.DataFrame({"lon": 1, "lat": 2, "a": cells})
    table.to_csv(tmp_path / "t.csv", index=False)
    embed_file(tmp_path / "t.csv", tmp_path / "o.parquet")
    column = pq.read_table(tmp_path / "o.parquet").column("a")
    assert str(column.type) == kind
    convert = {"double": float, "int64": int, "string": str}[kind]
    assert column.to_pylist() == list(map(convert, cells))


def test_coordinates_are_numbers_however_they_are_spelled(tmp_path):
    (tmp_path / "t.csv").write_text("east,north,a\n1.10,2e1,1.10\n-.5,30,2.5\n")
    embed_file(tmp_path / "t.csv", tmp_path / "o.parquet", lon="east", lat="north")
    table = pq.read_table(tmp_path / "o.parquet")
    assert table.column("east").to_pylist() == [1.1, -0.5]
    assert table.column("north").to_pylist() == [20.0, 30.0]
    assert table.column("a").to_pylist() == ["1.10", "2.5"]


@pytest.mark.parametrize("target", ["o.parquet", "o.csv"])
def test_a_large_cell(tmp_path, target):
    """Larger than the blocks that Arrow reads; behind rows that fill several of them."""
    lines = ["lon,lat,n,note", *(f"{i % 90},5,{i},{'x' * 400}" for i in range(9000))]
    lines[8001] = f'7,5,7999.5,"{"y" * 5_000_000}"'
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    assert embed_file(tmp_path / "t.csv", tmp_path / target).rows == 9000
    if target == "o.csv":
        table = pd.read_csv(tmp_path / target, usecols=["n", "note"])
    else:
        table = pq.read_table(tmp_path / target, columns=["n", "note"]).to_pandas()
    numbers = np.arange(9000.0)
    numbers[8000] = 7999.5
    np.testing.assert_array_equal(table["n"], numbers)
    assert table["note"].str.len().tolist() == [400] * 8000 + [5_000_000] + [400] * 999


def test_a_quotation_mark_that_is_never_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_source, "_BLOCKS", (1 << 12, 1 << 20))
    lines = ["lon,lat,note", *["1,2,x"] * 5000, '3,4,"open', *["5,6,y" * 10] * 50_000]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    message = r"after [\d,]+ rows, a row of more than 1 MB. Most likely a quotation mark is never"
    with pytest.raises(TableError, match=message):
        embed_file(tmp_path / "t.csv", tmp_path / "o.csv")


def test_a_separator_inside_quotes_does_not_count(tmp_path):
    (tmp_path / "t.csv").write_text('lon;lat;"a, b, c, d"\n1;2;3\n')
    embed_file(tmp_path / "t.csv", tmp_path / "o.csv")
    assert read(tmp_path / "o.csv")[0][:3] == ["lon", "lat", "a, b, c, d"]


def test_a_number_that_turns_up_late_is_found(tmp_path):
    # More than a mebibyte, so that the reader works in several blocks.
    rows = 60_000
    table = pd.DataFrame({"lon": 1, "lat": 2, "a": 7, "b": 1, "pad": "x" * 20}, index=range(rows))
    table["a"] = table["a"].astype(object)
    table.loc[rows - 1, "a"] = "none of your business"
    table.loc[rows - 1, "b"] = 0
    table["b"] = table["b"].astype(float)
    table.loc[rows - 2, "b"] = 0.5
    table.to_csv(tmp_path / "t.csv", index=False)
    embed_file(tmp_path / "t.csv", tmp_path / "o.parquet")
    schema = pq.read_schema(tmp_path / "o.parquet")
    assert str(schema.field("a").type) == "string"
    assert str(schema.field("b").type) == "double"
    assert pq.read_metadata(tmp_path / "o.parquet").num_rows == rows


def test_only_a_header(tmp_path):
    (tmp_path / "t.csv").write_text("name,lon,lat\n")
    for target in ("o.parquet", "o.csv", "o.npy"):
        assert embed_file(tmp_path / "t.csv", tmp_path / target).rows == 0
    assert gpd.read_parquet(tmp_path / "o.parquet").columns.tolist() == [
        "name", "lon", "lat", "geometry", "embedding",
    ]  # fmt: skip
    assert pd.read_csv(tmp_path / "o.csv").shape == (0, 515)
    assert np.load(tmp_path / "o.npy").shape == (0, 512)


def test_byte_order_mark(tmp_path):
    (tmp_path / "t.csv").write_text("lon,lat,name\n1,2,a\n", encoding="utf-8-sig")
    embed_file(tmp_path / "t.csv", tmp_path / "o.csv")
    assert read(tmp_path / "o.csv")[0][:3] == ["lon", "lat", "name"]


def test_names_that_need_quotes(tmp_path):
    (tmp_path / "t.csv").write_text('lon,lat,"a ""b"", c"\n1,2,3\n')
    embed_file(tmp_path / "t.csv", tmp_path / "o.csv", prefix="e, f")
    assert read(tmp_path / "o.csv")[0][2:4] == ['a "b", c', "e, f_000"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lon,lat\n1,2\n3,4,5\n", "cannot be read as CSV: .*Expected 2 columns, got 3"),
        ("lon,lat,lat\n1,2,3\n", "several columns named 'lat'"),
        ("\n1,2\n", "has no header"),
        ("a,b\n1,2\n", "Looked for lon/.*found 'a', 'b'"),
        ("lon,lat,lng\n1,2,3\n", "Several columns could be the longitude: 'lon', 'lng'"),
    ],
)
def test_files_that_do_not_fit(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises((TableError, CoordinateError), match=message):
        embed_file(tmp_path / "t.csv", tmp_path / "o.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes("lon,lat,name\n1,2,Århus\n".encode("latin-1"))
    with pytest.raises(TableError, match="is not in UTF-8. Convert it first"):
        embed_file(tmp_path / "t.csv", tmp_path / "o.csv")


def test_a_torn_gzip_file(tmp_path):
    table = pd.DataFrame({"lon": np.arange(5000) % 90 + 0.125, "lat": 1.0})
    table.to_csv(tmp_path / "t.csv.gz", index=False)
    whole = (tmp_path / "t.csv.gz").read_bytes()
    (tmp_path / "t.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TableError, match=r"t.csv.gz cannot be read as CSV"):
        embed_file(tmp_path / "t.csv.gz", tmp_path / "o.npy")


@pytest.mark.parametrize("target", ["o.parquet", "o.csv", "o.npy"])
def test_text_where_numbers_belong(tmp_path, target):
    lines = ["lon,lat,id", *(f"{i},{i},{i}" for i in range(20))]
    lines[18] = "seventeen,17,17"
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    message = (
        r"t.csv, rows 15 to 19 \(the first is 0\): Column 'lon' holds text where numbers belong: "
        r"row 17 \('seventeen'\)"
    )
    with pytest.raises(CoordinateError, match=message):
        embed_file(tmp_path / "t.csv", tmp_path / target, batch_rows=5, on_invalid="drop")
    assert not (tmp_path / target).exists()
