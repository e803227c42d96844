"""`embed_folder` without workers: parts, resuming, and everything that is refused."""

import json
import os
import re
import sys

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import geoembed as ge
from geoembed.errors import CoordinateError, MissingExtraError, OptionError, TableError, WorkerError
from geoembed.scaling import embed_folder
from geoembed.scaling import part as part_module
from geoembed.scaling.loading import load_table
from geoembed.streaming import embed_file, made_by
from geoembed.streaming import run as run_module

CITIES = ge.data.load_cities()[["name", "iso_a2", "geometry"]].head(600).reset_index(drop=True)
EXPECTED = ge.LocationFeaturizer("xyz").fit_transform(CITIES)


def write_hive(folder):
    """Two folders, 8 row groups: 3 of 100 rows, and 5 of 60."""
    for name, rows, size in (("a", CITIES[:300], 100), ("b", CITIES[300:], 60)):
        place = folder / f"half={name}"
        place.mkdir(parents=True)
        rows.reset_index(drop=True).to_parquet(place / "data.parquet", row_group_size=size)
    (folder / "_SUCCESS").touch()
    return folder


@pytest.fixture
def source(tmp_path):
    return write_hive(tmp_path / "in")


def go(source, target, **options):
    return embed_folder(source, target, **{"encoder": "xyz", "workers": 0, **options})


def parts_of(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.parquet"))


def vectors_of(table):
    return np.stack(table["embedding"].to_numpy())


# -- the result -----------------------------------------------------------------------------------


def test_a_row_group_in_a_part_out_and_folders_kept(source, tmp_path):
    out = tmp_path / "out"
    report = go(source, out)
    assert (report.parts, report.rows, report.dropped, report.resumed) == (8, 600, 0, 0)
    names = [f"half={'a' if i < 3 else 'b'}/part-{i:06d}.parquet" for i in range(8)]
    assert parts_of(out) == names
    assert [pq.read_metadata(out / n).num_rows for n in names] == [100] * 3 + [60] * 5
    assert sorted(p.name for p in (out / "_geoembed").iterdir()) == ["lock", "manifest.json"]
    manifest = json.loads((out / "_geoembed" / "manifest.json").read_text())
    assert manifest["finished"]
    assert [p["name"] for p in manifest["parts"]] == names
    assert sum(p["rows"] for p in manifest["parts"]) == 600
    assert all((out / p["name"]).stat().st_size == p["size"] for p in manifest["parts"])
    assert made_by(out / names[4])["job"] == manifest["job"]


def test_it_reads_back_as_one_table_with_every_reader(source, tmp_path):
    import duckdb

    out = tmp_path / "out"
    go(source, out)
    geo = gpd.read_parquet(out)
    assert geo.crs == CITIES.crs
    assert geo.columns.tolist() == ["name", "iso_a2", "geometry", "embedding", "half"]
    pd.testing.assert_frame_equal(
        pd.DataFrame(geo[["name", "iso_a2"]]), pd.DataFrame(CITIES[["name", "iso_a2"]])
    )
    assert geo.geometry.geom_equals(CITIES.geometry).all()
    np.testing.assert_array_equal(vectors_of(geo), EXPECTED)
    arrow = ds.dataset(out, partitioning="hive").to_table()
    assert arrow.schema.field("embedding").type.list_size == 3
    np.testing.assert_array_equal(vectors_of(arrow.to_pandas()), EXPECTED)
    with duckdb.connect() as connection:
        counted = connection.sql(
            f"SELECT half, count(*), sum(embedding[3]) FROM '{out}/**/*.parquet' "
            "GROUP BY half ORDER BY half"
        ).fetchall()
    assert [row[:2] for row in counted] == [("a", 300), ("b", 300)]
    assert counted[0][2] == pytest.approx(EXPECTED[:300, 2].sum(), abs=1e-3)
    dask_geopandas = pytest.importorskip("dask_geopandas")
    lazy = dask_geopandas.read_parquet(out)
    assert (lazy.npartitions, lazy.crs) == (8, CITIES.crs)
    bounds = lazy.spatial_partitions.total_bounds
    np.testing.assert_allclose(bounds, CITIES.total_bounds)
    np.testing.assert_array_equal(vectors_of(lazy.compute(scheduler="synchronous")), EXPECTED)


def test_it_is_a_file_bit_by_bit_at_equal_batches(source, tmp_path):
    CITIES[:300].to_parquet(tmp_path / "one.parquet")
    embed_file(tmp_path / "one.parquet", tmp_path / "o.parquet", batch_rows=100, progress=False)
    go(source / "half=a", tmp_path / "out", encoder="geoclip.v1", batch_rows=100)
    expected = vectors_of(gpd.read_parquet(tmp_path / "o.parquet"))
    np.testing.assert_array_equal(vectors_of(gpd.read_parquet(tmp_path / "out")), expected)


def test_files_patterns_and_columns_in_another_order(source, tmp_path):
    turned = pq.read_table(source / "half=b" / "data.parquet")
    turned = turned.select(["geometry", "iso_a2", "name"])
    pq.write_table(turned, source / "half=b" / "data.parquet")
    pattern = str(source / "*" / "*.parquet")
    go([pattern, source / "half=a" / "data.parquet"], tmp_path / "out")
    back = gpd.read_parquet(tmp_path / "out")
    assert back["name"].tolist() == CITIES["name"].tolist()
    np.testing.assert_array_equal(vectors_of(back), EXPECTED)


def test_places_in_columns_become_geoparquet(tmp_path):
    table = pd.DataFrame({"n": range(600), "x": CITIES.geometry.x, "y": CITIES.geometry.y})
    (tmp_path / "in").mkdir()
    for part in (0, 1):
        table[part::2].to_parquet(tmp_path / "in" / f"{part}.parquet", index=False)
    go(tmp_path / "in", tmp_path / "out", lon="x", lat="y", layout="columns", prefix="e")
    back = gpd.read_parquet(tmp_path / "out")
    assert back.columns.tolist() == ["n", "x", "y", "geometry", "e_000", "e_001", "e_002"]
    np.testing.assert_array_equal(back.sort_values("n").iloc[:, 4:], EXPECTED)


def test_empty_row_groups_and_files_make_no_parts(source, tmp_path):
    CITIES[:0].to_parquet(source / "half=a" / "empty.parquet")
    schema = pq.read_schema(source / "half=b" / "data.parquet")
    with pq.ParquetWriter(source / "half=b" / "gap.parquet", schema) as writer:
        rows = pq.read_table(source / "half=b" / "data.parquet", schema=schema)
        for piece in (rows[:0], rows[:10], rows[:0]):
            writer.write_table(piece)
    report = go(source, tmp_path / "out")
    assert (report.parts, report.rows) == (9, 610)
    assert gpd.read_parquet(tmp_path / "out").shape == (610, 5)


def test_a_table_without_a_row_keeps_its_columns(tmp_path):
    CITIES[:0].to_parquet(tmp_path / "empty.parquet")
    report = go(tmp_path / "empty.parquet", tmp_path / "out")
    assert (report.parts, report.rows, report.made) == (1, 0, 1)
    assert report.rows_per_second == 0
    back = gpd.read_parquet(tmp_path / "out")
    assert back.columns.tolist() == [*CITIES.columns, "embedding"]


def test_rows_without_a_place_are_dropped_or_kept(source, tmp_path):
    broken = CITIES.copy()
    broken.loc[[7, 250], "geometry"] = None
    broken[:300].to_parquet(source / "half=a" / "data.parquet", row_group_size=100)
    report = go(source, tmp_path / "left", on_invalid="drop")
    assert (report.rows, report.dropped) == (598, 2)
    again = go(source, tmp_path / "left", on_invalid="drop")
    assert (again.rows, again.dropped, again.resumed) == (598, 2, 600)
    go(source, tmp_path / "kept", on_invalid="nan")
    missing = np.isnan(vectors_of(gpd.read_parquet(tmp_path / "kept"))).any(axis=1)
    assert np.flatnonzero(missing).tolist() == [7, 250]


def test_object_stores_are_read_and_written(source):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(f"{source}/", "/bucket/in/", recursive=True)
    try:
        report = go("memory://bucket/in", "memory://bucket/out")
        assert (report.parts, report.rows) == (8, 600)
        assert memory.exists("/bucket/out/half=b/part-000007.parquet")
        memory.pipe_file("/bucket/out/half=a/part-000001.parquet", b"PAR1 torn")
        again = go("memory://bucket/in", "memory://bucket/out")
        assert again.redone == ("half=a/part-000001.parquet",)
        back = gpd.read_parquet("memory://bucket/out/half=a/part-000001.parquet")
        np.testing.assert_array_equal(vectors_of(back), EXPECTED[100:200])
    finally:
        memory.rm("/bucket", recursive=True)


# -- going on -------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """Names of the parts that are done, in order."""
    names = []
    publish = part_module._publish

    def counting(file, job, part):
        publish(file, job, part)
        names.append(part.name)

    monkeypatch.setattr(part_module, "_publish", counting)
    return names


def test_a_stopped_run_goes_on_with_what_is_missing(source, tmp_path, counted, monkeypatch):
    out = tmp_path / "out"
    publish = part_module._publish

    def stop(file, job, part):
        if len(counted) == 3:
            raise KeyboardInterrupt
        publish(file, job, part)

    monkeypatch.setattr(part_module, "_publish", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        go(source, out)
    assert re.match(
        r"3 of 8 parts are done and kept in .*out\. The same call", stopped.value.__notes__[0]
    )
    assert len(parts_of(out)) == 3
    monkeypatch.setattr(part_module, "_publish", publish)
    report = go(source, out)
    assert (report.resumed, report.rows, report.made, len(counted)) == (300, 600, 5, 8)
    assert report.rows_per_second == pytest.approx(300 / report.seconds)
    np.testing.assert_array_equal(vectors_of(gpd.read_parquet(out)), EXPECTED)
    idle = go(source, out)
    assert (idle.resumed, idle.made) == (600, 0)
    assert np.isnan(idle.rows_per_second), "what had nothing to do has no speed"
    assert len(counted) == 8, "a finished job is not done again"


def test_torn_missing_and_foreign_parts_are_found_and_redone(source, tmp_path, counted):
    out = tmp_path / "out"
    go(source, out)
    counted.clear()
    names = parts_of(out)
    torn, missing, foreign = (out / names[at] for at in (1, 4, 6))
    os.truncate(torn, torn.stat().st_size - 100)
    missing.unlink()
    foreign.write_bytes((out / names[7]).read_bytes())
    # What an attempt leaves that is killed.
    left = out / "_geoembed" / "work" / "0123"
    left.mkdir(parents=True)
    (left / "part.parquet").touch()
    report = go(source, out)
    assert counted == [names[1], names[4], names[6]]
    assert report.redone == (names[1], names[6])
    assert not left.parent.exists()
    np.testing.assert_array_equal(vectors_of(gpd.read_parquet(out)), EXPECTED)


def test_a_part_that_fails_leaves_the_others_and_names_its_rows(source, tmp_path):
    broken = CITIES[300:].reset_index(drop=True)
    broken.loc[130, "geometry"] = None
    broken.to_parquet(source / "half=b" / "data.parquet", row_group_size=60)
    with pytest.raises(CoordinateError, match=r"data.parquet, rows 120 to 179.*row 130") as failed:
        go(source, tmp_path / "out")
    notes = failed.value.__notes__
    assert re.match(r"In .*half=b/data.parquet, row group 2, on this machine", notes[0])
    assert "5 of 8 parts are done and kept" in notes[1]
    assert len(parts_of(tmp_path / "out")) == 5


@pytest.mark.parametrize("kind", [KeyboardInterrupt, CoordinateError])
@pytest.mark.parametrize("batch", [3, 4])
def test_what_is_told_to_be_kept_are_parts(source, tmp_path, monkeypatch, kind, batch):
    """The draft of a part, whole batches in it or none, goes with the run."""
    batches, whole = [], run_module.encode_places

    def encode(*arguments, **options):
        batches.append(1)
        if len(batches) == batch + 1:
            raise kind("stopped")
        return whole(*arguments, **options)

    monkeypatch.setattr(run_module, "encode_places", encode)
    with pytest.raises(kind, match="stopped") as stopped:
        go(source, tmp_path / "out", batch_rows=50)
    notes = [note for note in stopped.value.__notes__ if not note.startswith("In ")]
    done = batch // 2
    assert notes == [
        f"{done} of 8 parts are done and kept in {tmp_path / 'out'}. The same call goes on from "
        "there."
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "wrap"}, "encoder name was 'xyz' and is 'wrap'"),
        ({"normalize": True}, "encoder normalize was False and is True"),
        ({"prefix": "v"}, "prefix was None and is 'v'"),
    ],
)
def test_another_job_is_refused_unless_told_to_replace(source, tmp_path, change, message):
    out = tmp_path / "out"
    go(source, out)
    with pytest.raises(TableError, match=f"out holds the parts of another job: {message}"):
        go(source, out, **change)
    assert go(source, out, force=True, **change).resumed == 0


def test_a_job_that_failed_before_its_first_part_does_not_keep_the_folder(source, tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(WorkerError, match="No scheduler answers"):
        go(source, tmp_path / "out", workers=None, scheduler="tcp://127.0.0.1:9")
    report = go(source, tmp_path / "out", layout="columns")
    assert (report.rows, report.redone) == (600, ())
    with pytest.raises(TableError, match="holds the parts of another job: layout was 'columns'"):
        go(source, tmp_path / "out")


def test_a_changed_source_is_another_job(source, tmp_path):
    go(source, tmp_path / "out")
    os.utime(source / "half=a" / "data.parquet", (1, 1))
    with pytest.raises(TableError, match=r"source file://.*half=a/data.parquet stamp was"):
        go(source, tmp_path / "out")


def test_two_runs_do_not_fill_one_folder(source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    seen = []

    def second(*_):
        with pytest.raises(TableError, match="Another run is filling .*out right now"):
            go(source, out)
        seen.append(True)
        raise KeyboardInterrupt

    monkeypatch.setattr(part_module, "_publish", second)
    with pytest.raises(KeyboardInterrupt):
        go(source, out)
    assert seen


# -- what is refused ------------------------------------------------------------------------------


def test_files_of_different_columns_types_and_crs_are_refused(source, tmp_path):
    place = source / "half=b" / "data.parquet"
    for change, message in [
        (CITIES.drop(columns="iso_a2"), "half=b/data.parquet lacks 'iso_a2', unlike"),
        (CITIES.assign(more=1), "half=b/data.parquet has 'more' besides, unlike"),
        (CITIES.assign(name=1), "has 'name' as int64 and not as (large_)?string"),
        (CITIES.to_crs("EPSG:3395"), "in 'geometry' as WKB in EPSG:3395, and .*4326.*with to_crs"),
        (pd.DataFrame(CITIES).assign(geometry=b""), "has no geometries, and .* in 'geometry'. Wri"),
    ]:
        change.to_parquet(place)
        with pytest.raises(TableError, match=f"not of one table.*{message}"):
            go(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_of_other_geometries_with_the_same_columns_are_refused(tmp_path):
    """What is told is what differs, which is not always the CRS."""
    (tmp_path / "in").mkdir()
    both = CITIES.assign(other=CITIES.geometry)
    for number in (0, 1):
        both.to_parquet(tmp_path / "in" / f"{number}.parquet")
    for change, message in [
        (
            both.set_geometry("other"),
            "has 'other' as its primary geometry column, and .*0.parquet has 'geometry' as its pri",
        ),
        (
            both.assign(other=both["other"].to_wkb()),
            "has geometries in 'geometry', and .* in 'geometry', 'other'. Write the same columns",
        ),
        (
            both.assign(other=both["other"].to_crs("EPSG:3395")),
            "has geometries in 'other' as WKB in EPSG:3395, and .* in EPSG:4326. Bring them",
        ),
    ]:
        change.to_parquet(tmp_path / "in" / "1.parquet")
        with pytest.raises(TableError, match=f"not of one table.*1.parquet {message}"):
            go(tmp_path / "in", tmp_path / "out")
    table = pq.read_table(tmp_path / "in" / "0.parquet")
    told = table.schema.metadata[b"geo"].replace(b"WKB", b"WKT", 1)
    pq.write_table(table.replace_schema_metadata({b"geo": told}), tmp_path / "in" / "1.parquet")
    with pytest.raises(TableError, match="as WKT in EPSG:4326, and .* as WKB in .*with one encodi"):
        go(tmp_path / "in", tmp_path / "out")


def test_folders_of_different_partition_columns_are_refused(source, tmp_path):
    (source / "year=1").mkdir()
    CITIES.to_parquet(source / "year=1" / "data.parquet")
    with pytest.raises(TableError, match=r"partition columns \['year'\], and .* \['half'\]"):
        go(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("key", "options"),
    [("embedding", {}), ("v", {"prefix": "v"}), ("xyz_001", {"layout": "columns"})],
)
def test_a_partition_column_of_the_name_of_the_embedding_is_refused(tmp_path, key, options):
    (tmp_path / "in" / f"{key}=1").mkdir(parents=True)
    CITIES.to_parquet(tmp_path / "in" / f"{key}=1" / "data.parquet")
    with pytest.raises(TableError, match=rf"partition column '{key}'.*Pass another prefix="):
        go(tmp_path / "in", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    go(tmp_path / "in", tmp_path / "out", prefix="other")
    assert len(gpd.read_parquet(tmp_path / "out")) == 600


def test_a_partition_column_that_the_files_have_too_is_refused(tmp_path):
    """What would come of it neither geopandas nor pyarrow reads; nor the folder itself."""
    (tmp_path / "in" / "name=x").mkdir(parents=True)
    CITIES.to_parquet(tmp_path / "in" / "name=x" / "data.parquet")
    with pytest.raises(Exception, match="name"):
        gpd.read_parquet(tmp_path / "in")
    told = r"in/name=x/data.parquet the partition column 'name', and it has a column .*Drop the col"
    with pytest.raises(TableError, match=told):
        go(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # As one table that is read here, theirs is taken.
    table = load_table(tmp_path / "in")
    assert table["name"].tolist() == CITIES["name"].tolist()


def test_a_folder_with_other_things_is_never_touched(source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(TableError, match="out is not empty: it holds 'thesis.txt'"):
            go(source, out, force=force)
    (out / "thesis.txt").rename(tmp_path / "thesis.txt")
    go(source, out)
    (out / "half=a" / "notes.txt").touch()
    for force in (False, True):
        with pytest.raises(TableError, match="holds 'half=a/notes.txt', besides the parts of a"):
            go(source, out, force=force)
    assert len(parts_of(out)) == 8


@pytest.mark.parametrize(
    ("sources", "target", "options", "error", "message"),
    [
        ("nowhere", "out", {}, TableError, "There is no file or folder nowhere"),
        ("no*where", "out", {}, TableError, r"no\*where holds no Parquet file"),
        ("text", "out", {}, TableError, "text holds no Parquet file. Names must end in .parquet"),
        ("text/a.txt", "out", {}, TableError, "a.txt is no readable Parquet file"),
        ([], "out", {}, TableError, "There is nothing to read"),
        ("in", "in", {}, TableError, "in holds a file to read"),
        ("in", "in/out", {}, TableError, "out lies in what is read, .*in: .*a folder beside it"),
        ("in", "text/../in/c", {}, TableError, "c lies in what is read"),
        ("in", "link/c", {}, TableError, "c lies in what is read"),
        ("in/**/*.parquet", "in/c", {}, TableError, "c lies in what is read, in/"),
        ("in", "out", {"scheduler": "tcp://127.0.0.1:9"}, OptionError, "scheduler=.*not both"),
        ("in/*", "in/c", {}, TableError, "c lies in what is read, in/"),
        ("in", "text/a.txt", {}, TableError, "a.txt is a file. Give the name of a folder"),
        ("in", "", {}, TableError, "The target is the path or address of a folder, not ''"),
        ("in", "ftpx://h/out", {}, TableError, "ftpx://h/out cannot be reached.*ftpx"),
        ("in", "out", {"layout": "wide"}, OptionError, "layout='wide'"),
        ("in", "out", {"batch_rows": 0}, OptionError, "batch_rows=0"),
        ("in", "out", {"workers": -1}, OptionError, "workers=-1 is not a number of workers"),
        ("in", "out", {"prefix": "name"}, TableError, "already has the column 'name'"),
        ("in", "out", {"lon": "x", "lat": "y"}, TableError, "has no column 'x'"),
        ("in", "out", {"crs": "EPSG:3857"}, CoordinateError, "EPSG:3857"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    source, tmp_path, monkeypatch, sources, target, options, error, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("no Parquet")
    (tmp_path / "link").symlink_to(source, target_is_directory=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message):
        go(sources, target, **options)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_torn_manifest_is_made_again_for_the_same_job_and_no_other(source, tmp_path, counted):
    out = tmp_path / "out"
    go(source, out)
    manifest = out / "_geoembed" / "manifest.json"
    whole = manifest.read_text()
    for change in (dict.fromkeys(["encoder"], "wrap"), {"force": True, "encoder": "wrap"}):
        manifest.write_text("{")
        with pytest.raises(TableError, match="The manifest .*manifest.json is damaged"):
            go(source, out, **change)
    torn = out / parts_of(out)[5]
    os.truncate(torn, 50)
    counted.clear()
    report = go(source, out)
    assert (report.redone, counted) == ((parts_of(out)[5],), [parts_of(out)[5]])
    assert json.loads(manifest.read_text())["request"] == json.loads(whole)["request"]
    manifest.write_text("")
    (out / "thesis.txt").touch()
    with pytest.raises(TableError, match="is damaged"):
        go(source, out)


def test_names_that_look_like_patterns_are_names_where_they_are_there(tmp_path):
    CITIES[:20].to_parquet(tmp_path / "b1.parquet")
    CITIES[20:50].to_parquet(tmp_path / "b[1].parquet")
    assert go(tmp_path / "b[1].parquet", tmp_path / "file").rows == 30
    folder = tmp_path / "a[1]"
    folder.mkdir()
    CITIES[:10].to_parquet(folder / "c.parquet")
    assert go(folder, tmp_path / "folder").rows == 10
    assert go(tmp_path / "b[0-9].parquet", tmp_path / "pattern").rows == 20


def test_an_output_folder_that_readers_pass_over_may_lie_in_what_is_read(source):
    for _ in range(2):
        assert go(source, source / "_embedded").rows == 600


def test_a_damaged_source_is_named(source, tmp_path):
    data = source / "half=a" / "data.parquet"
    os.truncate(data, data.stat().st_size // 2)
    with pytest.raises(TableError, match="half=a/data.parquet is no readable Parquet file"):
        go(source, tmp_path / "new")


def test_an_empty_folder_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match="empty holds no Parquet file. Names must end in"):
        go(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_parquet_reader_of_the_manifest_sees_no_part(source, tmp_path):
    # Spark, pyarrow and dask pass over names that begin with an underscore.
    go(source, tmp_path / "out")
    files = ds.dataset(tmp_path / "out", format="parquet").files
    assert len(files) == 8


def test_packages_that_are_missing_are_named(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r'pip install "geoembed\[dask\]"'):
        go(source, tmp_path / "out", workers=2)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtraError, match="s3://bucket/in cannot be reached.*s3fs"):
        go("s3://bucket/in", tmp_path / "new")
