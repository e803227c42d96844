"""Bad input and bad places to write: a clear error, and nothing lost or left behind."""

import os
import subprocess
import zipfile
from contextlib import contextmanager

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shapely import Point, Polygon, box

from geoembed.errors import CoordinateError, OptionError, TableError, UnknownNameError
from geoembed.streaming import embed_file, made_by, read_frames


@pytest.fixture
def frame():
    points = [Point(i, i / 2) for i in range(12)]
    return gpd.GeoDataFrame({"n": range(12)}, geometry=points, crs=4326)


@pytest.fixture
def source(frame, tmp_path):
    frame.to_parquet(tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def left(folder):
    return sorted(path.name for path in folder.iterdir())


# --- what is read --------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix", [".gpkg", ".geojson", ".fgb", ".shp", ".zip", ".parquet", ".csv"]
)
def test_an_empty_file(tmp_path, suffix):
    (tmp_path / f"t{suffix}").touch()
    with pytest.raises(TableError, match=f"t{suffix} is empty: it has 0 bytes"):
        embed_file(tmp_path / f"t{suffix}", tmp_path / "o.parquet")


@pytest.mark.parametrize(
    "suffix", [".gpkg", ".geojson", ".fgb", ".shp", ".zip", ".parquet", ".csv"]
)
def test_noise(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    path.write_bytes(np.random.default_rng(0).bytes(4000))
    with pytest.raises(TableError, match=str(path)):
        embed_file(path, tmp_path / "o.parquet")
    assert left(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".fgb", ".shp", ".parquet"])
@pytest.mark.parametrize("share", [0.95, 0.5])
def test_a_truncated_file(tmp_path, suffix, share):
    path = tmp_path / f"t{suffix}"
    points = gpd.points_from_xy(np.arange(3000) % 170, np.arange(3000) % 80)
    frame = gpd.GeoDataFrame({"name": ["x" * 20] * 3000}, geometry=points, crs=4326)
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_file(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    # Rows without a place must not pass for the rows that are lost.
    with pytest.raises(TableError, match=str(path)):
        embed_file(path, tmp_path / "o.parquet", on_invalid="nan", batch_rows=100_000)
    assert not (tmp_path / "o.parquet").exists()


def test_a_shapefile_with_a_truncated_table(frame, tmp_path):
    frame.to_file(tmp_path / "t.shp")
    table = (tmp_path / "t.dbf").read_bytes()
    (tmp_path / "t.dbf").write_bytes(table[: len(table) // 2])
    with pytest.raises(TableError, match="announces 12 rows, and .* can be read"):
        embed_file(tmp_path / "t.shp", tmp_path / "o.npy")


def test_no_file_and_folders(tmp_path):
    with pytest.raises(TableError, match=r"There is no file .*t\.gpkg"):
        embed_file(tmp_path / "t.gpkg", tmp_path / "o.npy")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(TableError, match="folder.parquet is a folder"):
        embed_file(tmp_path / "folder.parquet", tmp_path / "o.npy")


@pytest.mark.parametrize("thing", [None, 5, pd.DataFrame({"lon": [1], "lat": [2]})])
def test_what_is_no_path(source, tmp_path, thing):
    kind = type(thing).__name__
    with pytest.raises(TableError, match=f"The source is the path of a file, not a {kind}"):
        embed_file(thing, tmp_path / "o.npy")
    with pytest.raises(TableError, match=f"The target is the path of a file, not a {kind}"):
        embed_file(source, thing)
    with pytest.raises(TableError, match=f"The source is the path of a file, not a {kind}"):
        next(read_frames(thing))
    with pytest.raises(TableError, match=f"The source is the path of a file, not a {kind}"):
        made_by(thing)


def test_an_archive_without_a_table(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("t.csv", "lon,lat\n1,2\n")
    with pytest.raises(TableError, match=r"t.zip holds no shapefile, but 't.csv'. Unpack it"):
        embed_file(tmp_path / "t.zip", tmp_path / "o.npy")


@pytest.mark.skipif(os.name != "posix", reason="needs names that are bytes")
def test_names_that_are_not_in_utf_8(source, tmp_path):
    odd = tmp_path / os.fsdecode(b"caf\xe9.parquet")
    with pytest.raises(TableError, match=r"caf\\xe9.parquet' is not in UTF-8. Rename it"):
        embed_file(odd, tmp_path / "o.npy")
    with pytest.raises(TableError, match=r"caf\\xe9.parquet' is not in UTF-8. Rename it"):
        embed_file(source, odd)


def test_an_unknown_suffix(tmp_path):
    (tmp_path / "t.txt").write_text("lon,lat\n1,2\n")
    with pytest.raises(TableError, match="suffix does not say what it is. Known: .gpkg, .*read it"):
        embed_file(tmp_path / "t.txt", tmp_path / "o.npy")


def test_no_crs(frame, tmp_path):
    frame.set_crs(None, allow_override=True).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(CoordinateError, match="does not say which CRS .* crs='EPSG:4326'"):
        embed_file(tmp_path / "t.parquet", tmp_path / "o.npy")
    with pytest.raises(CoordinateError, match="crs='EPSG:0' is no CRS that pyproj knows"):
        embed_file(tmp_path / "t.parquet", tmp_path / "o.npy", crs="EPSG:0")
    assert embed_file(tmp_path / "t.parquet", tmp_path / "o.npy", crs=4326).rows == 12


def test_a_crs_that_contradicts_the_file(source, tmp_path):
    with pytest.raises(CoordinateError, match="EPSG:3857 contradicts the CRS .*EPSG:4326"):
        embed_file(source, tmp_path / "o.npy", crs=3857)


def test_no_row_is_blamed_for_an_option(tmp_path, source):
    (tmp_path / "t.csv").write_text("lon,lat\n1,2\n")
    for path in (tmp_path / "t.csv", source):
        with pytest.raises(CoordinateError, match=r"^crs='nonsense' is no CRS that pyproj knows"):
            embed_file(path, tmp_path / "o.npy", crs="nonsense")
        with pytest.raises(OptionError, match=r"^samples=.* is no whole number of at least 1"):
            embed_file(path, tmp_path / "o.npy", samples=0)
    with pytest.raises(CoordinateError, match=r"^EPSG:5773 is a Vertical CRS"):
        embed_file(tmp_path / "t.csv", tmp_path / "o.npy", crs=5773)
    with pytest.raises(CoordinateError, match=r"^crs=EPSG:3857 contradicts .* of t.parquet"):
        embed_file(source, tmp_path / "o.npy", crs=3857)


def test_layers(frame, source, tmp_path):
    frame.to_file(tmp_path / "t.gpkg", layer="villages")
    frame.to_file(tmp_path / "t.gpkg", layer="towns")
    with pytest.raises(TableError, match="has 2 layers: 'villages', 'towns'. Choose one"):
        embed_file(tmp_path / "t.gpkg", tmp_path / "o.npy")
    with pytest.raises(UnknownNameError, match="no layer in t.gpkg named 'tows'.*'towns'"):
        embed_file(tmp_path / "t.gpkg", tmp_path / "o.npy", layer="tows")
    with pytest.raises(OptionError, match="layer='a': t.parquet has no layers"):
        embed_file(source, tmp_path / "o.npy", layer="a")


def test_missing_columns(source, tmp_path):
    with pytest.raises(TableError, match="has no column 'x'. Its columns: 'n', 'geometry'"):
        embed_file(source, tmp_path / "o.npy", lon="x", lat="y")
    with pytest.raises(OptionError, match="lon= was given without lat="):
        embed_file(source, tmp_path / "o.npy", lon="n")


def test_a_table_without_places(tmp_path):
    pd.DataFrame({"a": [1], "b": [2]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(CoordinateError, match="neither geometries nor coordinate columns"):
        embed_file(tmp_path / "t.parquet", tmp_path / "o.npy")


def test_metadata_that_is_none(source, tmp_path):
    table = pq.read_table(source)
    for text, message in (
        ("{", "GeoParquet metadata of t.parquet cannot be understood"),
        ('{"primary_column": "g", "columns": {}}', "names 'g' as its geometry column"),
    ):
        pq.write_table(table.replace_schema_metadata({"geo": text}), source)
        with pytest.raises(TableError, match=message):
            embed_file(source, tmp_path / "o.npy")


def test_geometries_that_are_none(source, tmp_path):
    table = pq.read_table(source)
    broken = table.set_column(1, "geometry", pa.array([b"\x01\x02"] * 12))
    pq.write_table(broken.replace_schema_metadata(table.schema.metadata), source)
    with pytest.raises(TableError, match="'geometry' holds something else than geometries"):
        embed_file(source, tmp_path / "o.npy")
    wkb = table["geometry"].to_pylist()
    wkb[9] = wkb[9][:7]
    one = table.set_column(1, "geometry", pa.array(wkb, pa.binary()))
    pq.write_table(one.replace_schema_metadata(table.schema.metadata), source)
    with pytest.raises(TableError, match=r"rows 8 to 11 .*1 of 4 rows, row 9: "):
        embed_file(source, tmp_path / "o.npy", batch_rows=4)
    with pytest.raises(TableError, match="1 of 4 rows, row 9: .*Remove or correct them.$"):
        list(read_frames(source, batch_rows=4))
    report = embed_file(source, tmp_path / "p.npy", batch_rows=4, on_invalid="drop")
    assert (report.rows, report.dropped) == (11, 1)
    embed_file(source, tmp_path / "p.parquet", batch_rows=4, on_invalid="nan")
    back = gpd.read_parquet(tmp_path / "p.parquet")
    assert back.index[back.geometry.isna()].tolist() == [9]
    assert np.isnan(back["embedding"][9]).all()
    assert back.geometry.drop(9).to_wkb().tolist() == wkb[:9] + wkb[10:]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_a_geometry_that_is_none_is_left_empty_whatever_the_column(source, tmp_path, kind):
    table = pq.read_table(source)
    at = table.schema.get_field_index("geometry")
    wkb = table["geometry"].to_pylist()
    wkb[9] = b"no"
    field = pa.field("geometry", kind, nullable=False)
    table = table.set_column(at, field, pa.array(wkb, kind))
    pq.write_table(table, source)
    embed_file(source, tmp_path / "p.parquet", encoder="xyz", on_invalid="nan")
    written = pq.read_table(tmp_path / "p.parquet")["geometry"]
    assert written.is_valid().to_pylist() == [row != 9 for row in range(12)]


def test_rows_without_a_place(tmp_path):
    geometry = [Point(1, 1), None, Point(), Point(2, 2), Point(np.nan, 3), Point(3, 3)]
    frame = gpd.GeoDataFrame({"n": range(6)}, geometry=geometry, crs=4326)
    frame.to_parquet(tmp_path / "t.parquet")
    frame.drop([1, 2]).to_parquet(tmp_path / "one.parquet")
    with pytest.raises(CoordinateError, match=r"rows 2 to 3 .*\(row 2\)"):
        embed_file(tmp_path / "one.parquet", tmp_path / "o.parquet", batch_rows=2)
    with pytest.raises(CoordinateError, match=r"rows 0 to 1 .*1 missing \(row 1\)"):
        embed_file(tmp_path / "t.parquet", tmp_path / "p.parquet", batch_rows=2)
    report = embed_file(
        tmp_path / "t.parquet", tmp_path / "nan.parquet", batch_rows=2, on_invalid="nan"
    )
    assert (report.rows, report.dropped) == (6, 0)
    table = gpd.read_parquet(tmp_path / "nan.parquet")
    missing = np.isnan(np.stack(table["embedding"])).all(axis=1)
    assert missing.tolist() == [False, True, True, False, True, False]
    assert table.geometry.isna().tolist() == [False, True, False, False, False, False]
    for target in ("drop.parquet", "drop.csv", "drop.npy"):
        report = embed_file(
            tmp_path / "t.parquet", tmp_path / target, batch_rows=2, on_invalid="drop"
        )
        assert (report.rows, report.dropped) == (3, 3)
    assert gpd.read_parquet(tmp_path / "drop.parquet")["n"].tolist() == [0, 3, 5]
    assert pd.read_csv(tmp_path / "drop.csv")["n"].tolist() == [0, 3, 5]
    array = np.load(tmp_path / "drop.npy")
    np.testing.assert_allclose(array, np.stack(table["embedding"])[[0, 3, 5]], atol=2e-6)
    embed_file(tmp_path / "t.parquet", tmp_path / "nan.csv", on_invalid="nan")
    flat = pd.read_csv(tmp_path / "nan.csv")
    assert flat.iloc[:, 1:].isna().all(axis=1).tolist() == missing.tolist()


def test_mixed_geometries(tmp_path):
    shapes = [Point(1, 1), box(0, 0, 1, 1), Polygon()]
    gpd.GeoDataFrame(geometry=shapes, crs=4326).to_file(tmp_path / "t.gpkg")
    message = r"1 of 3 rows in column 'geometry' are no single points: row 1 \(Polygon\)"
    with pytest.raises(CoordinateError, match=message):
        embed_file(tmp_path / "t.gpkg", tmp_path / "o.npy")


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".shp", ".parquet"])
def test_zero_rows(frame, tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    none = frame.head(0)
    none.to_parquet(path) if suffix == ".parquet" else none.to_file(path)
    for target in ("o.parquet", "o.csv", "o.npy"):
        assert embed_file(path, tmp_path / target).rows == 0
    table = gpd.read_parquet(tmp_path / "o.parquet")
    assert table.columns.tolist() == ["n", "geometry", "embedding"]
    assert (len(table), table.crs.to_epsg()) == (0, 4326)
    assert pq.read_schema(tmp_path / "o.parquet").field("embedding").type.list_size == 512
    assert pd.read_csv(tmp_path / "o.csv").shape == (0, 515)
    assert np.load(tmp_path / "o.npy").shape == (0, 512)
    assert list(read_frames(path)) == []


def test_every_row_dropped(tmp_path):
    frame = gpd.GeoDataFrame({"n": [1, 2]}, geometry=[None, Point()], crs=4326)
    frame.to_parquet(tmp_path / "t.parquet")
    report = embed_file(tmp_path / "t.parquet", tmp_path / "o.parquet", on_invalid="drop")
    assert (report.rows, report.dropped) == (0, 2)
    assert len(gpd.read_parquet(tmp_path / "o.parquet")) == 0


# --- columns that are there already --------------------------------------------------


def test_a_column_that_exists(source, tmp_path):
    first = tmp_path / "first.parquet"
    embed_file(source, first)
    with pytest.raises(TableError, match="already has the column 'embedding'. Pass overwrite=True"):
        embed_file(first, tmp_path / "o.parquet")
    embed_file(first, tmp_path / "o.parquet", layers="scales", overwrite=True)
    assert gpd.read_parquet(tmp_path / "o.parquet").columns.tolist() == [
        "n", "geometry", "embedding",
    ]  # fmt: skip
    assert made_by(tmp_path / "o.parquet")["dimension"] == 1536
    with pytest.raises(TableError, match="cannot replace the geometry column 'geometry'"):
        embed_file(source, tmp_path / "p.parquet", prefix="geometry", overwrite=True)


def test_columns_of_coordinates_that_a_csv_file_needs(frame, tmp_path):
    frame.assign(lon="west", lat="north").to_parquet(tmp_path / "t.parquet")
    with pytest.raises(TableError, match="already has the columns 'lon', 'lat'"):
        embed_file(tmp_path / "t.parquet", tmp_path / "o.csv")
    embed_file(tmp_path / "t.parquet", tmp_path / "o.csv", overwrite=True)
    assert pd.read_csv(tmp_path / "o.csv")["lon"].tolist() == frame.geometry.x.tolist()


def test_a_geometry_gets_a_free_name(tmp_path):
    (tmp_path / "t.csv").write_text("lon,lat,geometry\n1,2,round\n")
    embed_file(tmp_path / "t.csv", tmp_path / "o.parquet")
    table = gpd.read_parquet(tmp_path / "o.parquet")
    assert table["geometry"].tolist() == ["round"]
    assert table.active_geometry_name == "geometry_"


# --- options -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "wide"}, "layout='wide' is not one of: vector, columns"),
        ({"on_invalid": "skip"}, "on_invalid='skip' is not one of: raise, nan, drop"),
        ({"geometry": "middle"}, "geometry='middle' is not one of: point, "),
        ({"batch_rows": 0}, "batch_rows=0 is no whole number"),
        ({"precision": "int8"}, "precision='int8' is offered by onnxruntime only"),
        ({"color": "red"}, "Unknown option of a location encoder: color"),
    ],
)
def test_options_that_are_none(source, tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        embed_file(source, tmp_path / "o.parquet", **options)
    assert left(tmp_path) == ["t.parquet"]


def test_targets_of_unknown_kind(source, tmp_path):
    with pytest.raises(OptionError, match=r"o.xls: the suffix .* Known: .parquet, .*\.npy"):
        embed_file(source, tmp_path / "o.xls")
    with pytest.raises(OptionError, match=r"layout='vector' is for Parquet; \.csv holds"):
        embed_file(source, tmp_path / "o.csv", layout="vector")


# --- where it is written -------------------------------------------------------------


def test_a_target_that_exists(source, tmp_path):
    target = tmp_path / "o.npy"
    target.write_text("precious")
    with pytest.raises(TableError, match="o.npy exists already. Pass force=True"):
        embed_file(source, target)
    assert target.read_text() == "precious"
    embed_file(source, target, force=True)
    assert np.load(target).shape == (12, 512)


def test_a_target_that_exists_stays_until_the_new_one_is_whole(source, tmp_path):
    target = tmp_path / "o.npy"
    target.write_text("precious")
    table = gpd.read_parquet(source)
    table.loc[11, "geometry"] = None
    table.to_parquet(source)
    with pytest.raises(CoordinateError, match="row 11"):
        embed_file(source, target, force=True, batch_rows=5)
    assert target.read_text() == "precious"


def test_the_same_file(source, tmp_path):
    whole = source.read_bytes()
    with pytest.raises(TableError, match="is the file to read"):
        embed_file(source, source, force=True)
    os.link(source, tmp_path / "link.parquet")
    with pytest.raises(TableError, match="is the file to read"):
        embed_file(source, tmp_path / "link.parquet", force=True)
    assert source.read_bytes() == whole


def test_places_that_are_not_there(source, tmp_path):
    with pytest.raises(TableError, match="There is no folder .*nowhere to write o.npy to"):
        embed_file(source, tmp_path / "nowhere" / "o.npy")
    (tmp_path / "o.npy").mkdir()
    with pytest.raises(TableError, match="o.npy is a folder"):
        embed_file(source, tmp_path / "o.npy", force=True)


def test_a_folder_in_the_way_is_not_touched(source, tmp_path):
    (tmp_path / "o.npy.part").mkdir()
    (tmp_path / "o.npy.part" / "diary.txt").write_text("mine")
    with pytest.raises(TableError, match="holds other things: 'diary.txt'. Move it"):
        embed_file(source, tmp_path / "o.npy", force=True)
    assert left(tmp_path / "o.npy.part") == ["diary.txt"]


def test_a_file_in_the_way_is_not_touched(source, tmp_path):
    (tmp_path / "o.npy.part").write_text("mine")
    with pytest.raises(TableError, match=r"o.npy.part is a file, and a folder of that name is"):
        embed_file(source, tmp_path / "o.npy", force=True)
    assert (tmp_path / "o.npy.part").read_text() == "mine"


@pytest.mark.parametrize("there", [True, False])
def test_a_target_that_is_a_link(source, tmp_path, there):
    (tmp_path / "disk").mkdir()
    if there:
        (tmp_path / "disk" / "vectors").write_text("old")
    link = tmp_path / "o.npy"
    link.symlink_to(tmp_path / "disk" / "vectors")
    assert embed_file(source, link, force=there).target == link
    assert link.is_symlink()
    assert np.load(tmp_path / "disk" / "vectors").shape == (12, 512)
    assert left(tmp_path) == ["disk", "o.npy", "t.parquet"]
    assert left(tmp_path / "disk") == ["vectors"]


def test_the_home_folder(source, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert embed_file("~/t.parquet", "~/o.parquet").target == tmp_path / "o.parquet"
    assert made_by("~/o.parquet")["encoder"] == "geoclip.v1"
    assert len(next(read_frames("~/o.parquet"))) == 12
    with pytest.raises(TableError, match="There is no file ~nobody-of-that-name/t.parquet"):
        embed_file("~nobody-of-that-name/t.parquet", "~/p.parquet")


@contextmanager
def small_disk(folder, *options):
    """Mount a file system of its own in a folder, where this process may."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this process may not mount file systems")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("target", ["o.parquet", "o.csv", "o.npy"])
def test_a_full_disk(tmp_path, target):
    points = gpd.points_from_xy(np.arange(1500) % 170, np.arange(1500) % 80)
    source = tmp_path / "t.parquet"
    gpd.GeoDataFrame(geometry=points, crs=4326).to_parquet(source)
    disk = tmp_path / "disk"
    with small_disk(disk, "size=2m"):
        message = f"{target} cannot be written: No space left on device"
        with pytest.raises(TableError, match=message) as caught:
            embed_file(source, disk / target, batch_rows=100)
        assert left(disk) == [f"{target}.part"]
        assert "rows are done and kept in" in caught.value.__notes__[0]
        subprocess.run(["mount", "-o", "remount,size=30m", str(disk)], check=True)
        report = embed_file(source, disk / target, batch_rows=100, resume=True)
        assert (report.rows, left(disk)) == (1500, [target])
        assert report.resumed >= 100
        embed_file(source, tmp_path / target, batch_rows=100)
        if target.endswith(".parquet"):
            assert pq.read_table(disk / target).equals(pq.read_table(tmp_path / target))
        else:
            assert (disk / target).read_bytes() == (tmp_path / target).read_bytes()


def test_a_read_only_disk(source, tmp_path):
    message = "is read-only: o.npy cannot be written there"
    with small_disk(tmp_path / "disk", "ro"), pytest.raises(TableError, match=message):
        embed_file(source, tmp_path / "disk" / "o.npy")


@pytest.mark.parametrize("rows", [0, -1, 1.5, True])
def test_frames_of_no_rows_are_refused(tmp_path, rows):
    path = tmp_path / "t.csv"
    path.write_text("lon,lat\n1,2\n")
    with pytest.raises(OptionError, match=rf"batch_rows={rows} is no whole number of at least 1"):
        next(read_frames(path, batch_rows=rows))
