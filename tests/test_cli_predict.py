"""The command ``geoembed predict``, and `predict_file` behind it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge

import geoembed as ge
from geoembed.cli.main import main
from geoembed.errors import OptionError, TableError
from geoembed.heads import LocationClassifier, LocationRegressor, make_head
from geoembed.heads.files.tables import predict_file


def glob_of(pattern):
    return sorted(Path().glob(pattern))


NUMBERS = ["predicted_height", "predicted_height_lower", "predicted_height_upper"]


@pytest.fixture(scope="module")
def cities():
    table = ge.data.load_cities().iloc[::9].head(150)[["name", "population", "geometry"]]
    table = table.reset_index(drop=True)
    lon, lat = np.radians(table.geometry.x), np.radians(table.geometry.y)
    table["height"] = 100.0 * np.sin(lat)
    table["side"] = np.where(np.cos(lat) * np.sin(lon) > 0.5, "east", "west")
    table["part"] = table["side"].str[:1] + np.where(np.sin(lat) > 0.4, "n", "s")
    table["code"] = (np.sin(lat) > 0.4).astype(np.int64)
    return table


@pytest.fixture(scope="module")
def models(cities, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    made = {
        "numbers": (LocationRegressor("xyz"), "height"),
        "extras": (LocationRegressor("xyz", extra_columns=["population", "side"]), "height"),
        "labels": (LocationClassifier("xyz"), "code"),
        "levels": (make_head("region", featurizer="xyz"), ["side", "part"]),
        "shapes": (
            LocationRegressor(ge.LocationFeaturizer("xyz", geometry="centroid")),
            "height",
        ),
    }
    for name, (head, target) in made.items():
        head.fit(cities, target).save(folder / name)
    return folder


@pytest.fixture(autouse=True)
def here(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for model in models.iterdir():
        (tmp_path / model.name).symlink_to(model)


def read(path):
    return gpd.read_parquet(path) if str(path).endswith(".parquet") else gpd.read_file(path)


def write(table, name):
    if name.endswith(".parquet"):
        table.to_parquet(name)
    elif name.endswith(".csv"):
        plain = pd.DataFrame(table.drop(columns="geometry"))
        plain.assign(lon=table.geometry.x, lat=table.geometry.y).to_csv(name, index=False)
    else:
        table.to_file(name)
    return name


@pytest.mark.parametrize("source", ["t.gpkg", "t.parquet", "t.csv"])
@pytest.mark.parametrize("target", ["o.gpkg", "o.parquet", "o.csv", "o.geojson", "o.fgb"])
def test_every_kind_to_every_kind(cities, capsys, source, target):
    """The source's rows and columns in order, and what the head predicts for them."""
    write(cities[["name", "population", "geometry"]], source)
    assert main(["predict", "numbers", source, "-o", target, "--batch-rows", "40"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.fullmatch(rf"150 rows, [\d,]+ rows/s, in {target}:\n{', '.join(NUMBERS)}\n", out)
    found = pd.read_csv(target) if target.endswith(".csv") else read(target)
    if target.endswith(".fgb"):
        # It orders rows by place.
        found = found.set_index("name").loc[cities["name"]].reset_index()
    names = [name for name in found.columns if name not in ("geometry", "lon", "lat")]
    assert names == ["name", "population", *NUMBERS]
    assert found["name"].tolist() == cities["name"].tolist()
    assert found["population"].tolist() == cities["population"].tolist()
    expected = ge.load_head("numbers").predict_columns(cities)
    np.testing.assert_allclose(found[NUMBERS], expected, rtol=1e-6)
    if target.endswith(".csv"):
        np.testing.assert_array_equal(found["lon"], cities.geometry.x)
    else:
        assert found.crs.equals(cities.crs, ignore_axis_order=True)
        assert found.to_crs(4326).geometry.geom_equals_exact(cities.geometry, 1e-9).all()


def test_a_geopackage_keeps_its_crs_and_kind(cities, capsys):
    write(cities[["geometry"]].to_crs(3857), "t.gpkg")
    assert main(["predict", "numbers", "t.gpkg", "-o", "fields.gpkg", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    info = pyogrio.read_info("fields.gpkg")
    assert (info["layer_name"], info["crs"], info["geometry_type"]) == (
        "fields", "EPSG:3857", "Point",
    )  # fmt: skip
    write(cities[["geometry"]], "t.csv")
    assert main(["predict", "numbers", "t.csv", "-o", "csv.gpkg", "-q"]) == 0
    info = pyogrio.read_info("csv.gpkg")
    assert (info["crs"], info["geometry_type"]) == ("EPSG:4326", "Point")


def test_shapes_stay_shapes(cities, capsys):
    table = cities[["geometry"]].to_crs(3857)
    table["geometry"] = table.buffer(1000.0, quad_segs=2)
    write(table, "t.gpkg")
    assert main(["predict", "numbers", "t.gpkg", "-o", "o.gpkg"]) == 1
    assert "Polygon" in capsys.readouterr().err
    assert main(["predict", "shapes", "t.gpkg", "-o", "o.gpkg"]) == 0
    found = read("o.gpkg")
    assert found.geometry.geom_equals_exact(table.geometry, 1e-6).all()
    assert pyogrio.read_info("o.gpkg")["geometry_type"] in {"Polygon", "Unknown"}
    expected = ge.load_head("numbers").predict(cities)
    np.testing.assert_allclose(found["predicted_height"], expected, atol=0.05)


def test_labels_and_their_sets_are_text(cities):
    write(cities[["name", "geometry"]], "t.gpkg")
    for target in ("o.gpkg", "o.parquet"):
        assert main(["predict", "levels", "t.gpkg", "-o", target, "-q"]) == 0
        found = read(target)
        expected = ge.load_head("levels").predict_columns(cities)
        for name in ("predicted_side", "predicted_part", "predicted_part_set"):
            assert found[name].tolist() == expected[name].tolist()
        np.testing.assert_allclose(
            found["predicted_part_probability"], expected["predicted_part_probability"], rtol=1e-6
        )


def test_whole_numbers_stay_whole_beside_rows_without_a_place(cities, capsys):
    table = cities[["name", "geometry"]].copy()
    # The whole first batch and one row of the last.
    table.loc[[*range(20), 149], "geometry"] = None
    write(table, "t.parquet")
    command = ["predict", "labels", "t.parquet", "--batch-rows", "20", "-o"]
    assert main([*command, "o.parquet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "t.parquet, rows 0 to 19 (the first is 0)" in err
    assert err.endswith("On the command line: --on-invalid nan.\n")
    assert main([*command, "o.parquet", "--on-invalid", "nan"]) == 0
    assert capsys.readouterr().err == (
        "geoembed: note: 21 rows have no place, and no predictions.\n"
    )
    written = pq.read_table("o.parquet")
    assert written.schema.field("predicted_code").type == pa.int64()
    assert written.column("predicted_code").null_count == 21
    expected = ge.load_head("labels").predict(cities[20:149]).tolist()
    assert written.column("predicted_code").to_pylist()[20:149] == expected
    assert main([*command, "o.gpkg", "--on-invalid", "nan", "-q"]) == 0
    found = read("o.gpkg")
    assert len(found) == 150
    assert found["predicted_code"].isna().sum() == found.geometry.isna().sum() == 21
    assert main([*command, "o.csv", "--on-invalid", "nan", "-q"]) == 0
    assert pd.read_csv("o.csv")["predicted_code"].isna().sum() == 21


def test_a_parquet_file_says_what_made_it(cities):
    write(cities[["name", "geometry"]], "t.gpkg")
    main(["predict", "numbers", "t.gpkg", "-o", "o.parquet", "-q"])
    made = json.loads(pq.read_metadata("o.parquet").metadata[b"geoembed_head"])
    assert made["columns"] == NUMBERS
    assert "LocationRegressor" in made["head"]
    # Batches are row groups, as those of embeddings are.
    main(
        ["predict", "numbers", "t.gpkg", "-o", "p.parquet", "-q", "--batch-rows", "50"],
    )
    assert pq.read_metadata("p.parquet").num_row_groups == 3


def test_extra_columns(cities, capsys):
    table = cities[["population", "side", "geometry"]]
    expected = ge.load_head("extras").predict(cities)
    for source in ("t.gpkg", "t.csv"):
        write(table, source)
        assert main(["predict", "extras", source, "-o", "o.csv", "-q", "--force"]) == 0
        np.testing.assert_allclose(pd.read_csv("o.csv")["predicted_height"], expected, rtol=1e-6)
    write(table.drop(columns="side"), "u.gpkg")
    assert main(["predict", "extras", "u.gpkg", "-o", "u.csv"]) == 1
    assert "no column in u.gpkg named 'side'" in capsys.readouterr().err
    table = table.assign(population=table["population"].where(table.index != 130))
    write(table, "v.gpkg")
    assert main(["predict", "extras", "v.gpkg", "-o", "v.csv", "--batch-rows", "100"]) == 1
    assert "extra column 'population' are missing or not finite: row 130" in capsys.readouterr().err


def test_cells_of_csv_stay_as_they_are_spelled(capsys):
    with open("t.csv", "w", encoding="utf-8") as file:
        file.write('code,lon,lat\n007,10.50,20\n"a,b",1e1,-3.0\n')
    assert main(["predict", "numbers", "t.csv", "-o", "o.csv"]) == 0
    with open("o.csv", encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert lines[0] == f"code,lon,lat,{','.join(NUMBERS)}"
    assert lines[1].startswith("007,10.50,20,")
    assert lines[2].startswith('"a,b",1e1,-3.0,')


def test_columns_by_name_and_crs(cities):
    mercator = cities.to_crs(3857).geometry
    pd.DataFrame({"x": mercator.x, "y": mercator.y}).to_csv("t.csv", index=False)
    names = ["--lon-column", "x", "--lat-column", "y", "--crs", "EPSG:3857"]
    assert main(["predict", "numbers", "t.csv", "-o", "o.gpkg", "-q", *names]) == 0
    expected = ge.load_head("numbers").predict(cities)
    np.testing.assert_allclose(read("o.gpkg")["predicted_height"], expected, rtol=1e-6)


def test_columns_that_are_there_already(cities, capsys):
    write(cities[["name", "geometry"]].assign(predicted_height="old"), "t.gpkg")
    command = ["predict", "numbers", "t.gpkg", "-o", "o.gpkg"]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert "The table already has the column 'predicted_height'" in err
    assert "--overwrite" in err
    assert "rename what is there" in " ".join(err.split())
    assert "prefix" not in err
    assert main([*command, "--overwrite"]) == 0
    assert read("o.gpkg").columns.tolist() == ["name", *NUMBERS, "geometry"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["numbers"], 2, "--output"),
        (["numbers", "-o", "o.gpkg"], 2, "geoembed heads numbers"),
        (["nowhere", "t.gpkg", "-o", "o.gpkg"], 1, "There is no folder nowhere"),
        (["t.gpkg", "t.gpkg", "-o", "o.gpkg"], 1, "t.gpkg is a file, and a saved head is a folder"),
        (["numbers", "u.gpkg", "-o", "o.gpkg"], 1, "There is no file u.gpkg"),
        (["numbers", "t.gpkg", "-o", "o.shp"], 1, "o.shp: the suffix does not say what to write"),
        (["numbers", "t.gpkg", "-o", "o.npy"], 1, "o.npy: the suffix does not say what to write"),
        (["numbers", "t.gpkg", "-o", "t.gpkg"], 1, "t.gpkg is the file to read"),
        (["numbers", "t.gpkg", "-o", "there.gpkg"], 1, "exists already. Pass force=True (--force)"),
        (["numbers", "t.gpkg", "-o", "no/o.gpkg"], 1, "There is no folder no to write o.gpkg to"),
        (["numbers", "t.gpkg", "-o", "o.csv", "--layer", "x"], 1, "no layer in t.gpkg named 'x'"),
        (["numbers", "t.gpkg", "-o", "o.csv", "--on-invalid", "drop"], 1, "not one of: raise, nan"),
        (["numbers", "t.gpkg", "-o", "o.csv", "--encoder", "abc"], 1, "no encoder named 'abc'"),
        (["numbers", "none.gpkg", "-o", "o.csv"], 1, "None of the 0 rows of none.gpkg has a place"),
    ],
)
def test_what_does_not_fit(cities, tmp_path, capsys, arguments, code, message):
    write(cities[["name", "geometry"]], "t.gpkg")
    write(cities[["name", "geometry"]].head(0), "none.gpkg")
    (tmp_path / "there.gpkg").touch()
    before = sorted(tmp_path.iterdir())
    assert main(["predict", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_is_replaced_only_when_the_new_one_is_whole(cities, capsys, monkeypatch, tmp_path):
    table = cities[["name", "geometry"]].copy()
    write(table, "t.gpkg")
    for target in ("o.gpkg", "o.parquet", "o.csv"):
        (tmp_path / target).write_text("old")
        table.loc[140, "geometry"] = None
        write(table, "u.gpkg")
        command = ["predict", "numbers", "u.gpkg", "-o", target, "--force", "--batch-rows", "30"]
        assert main(command) == 1
        assert "rows 120 to 149" in capsys.readouterr().err
        assert (tmp_path / target).read_text() == "old"
        assert not list(tmp_path.glob("*.draft"))
        assert main(["predict", "numbers", "t.gpkg", "-o", target, "--force", "-q"]) == 0
        assert (tmp_path / target).stat().st_size > 1000

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geoembed.streaming.csv_sink.CsvSink._append", full)
    assert main(["predict", "numbers", "t.gpkg", "-o", "p.csv"]) == 1
    assert "p.csv cannot be written: No space left on device." in capsys.readouterr().err
    assert not list(tmp_path.glob("*p.csv*"))


def test_ctrl_c_leaves_nothing(cities, monkeypatch, tmp_path, capsys):
    write(cities[["name", "geometry"]], "t.gpkg")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(LocationRegressor, "predict_columns", stop)
    for target in ("o.gpkg", "o.csv"):
        assert main(["predict", "numbers", "t.gpkg", "-o", target]) == 130
        assert not list(tmp_path.glob("o.*"))


def test_types_that_need_trust(cities, tmp_path, monkeypatch, capsys):
    (tmp_path / "own_ridges.py").write_text(
        "from sklearn.linear_model import Ridge\nclass OwnRidge(Ridge):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import own_ridges

    head = LocationRegressor("xyz", own_ridges.OwnRidge()).fit(cities, "height")
    with pytest.warns(UserWarning, match="load only if they are trusted"):
        head.save("own")
    write(cities[["geometry"]], "t.gpkg")
    command = ["predict", "own", "t.gpkg", "-o", "o.gpkg", "-q"]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert "types that are not trusted: own_ridges.OwnRidge" in err
    assert err.endswith("On the command line: --trust TYPE.\n")
    assert main([*command, "--trust", "own_ridges.OwnRidge"]) == 0
    del sys.modules["own_ridges"]


def test_in_python(cities):
    write(cities[["name", "geometry"]], "t.gpkg")
    head = LocationRegressor("xyz", Ridge(), coverage=None)
    with pytest.raises(NotFittedError, match="not fitted"):
        predict_file(head, "t.gpkg", "o.csv")
    head.fit(cities, "height")
    report = predict_file(head, "t.gpkg", "o.geojsonl", progress=False)
    assert (report.rows, report.empty, report.columns) == (150, 0, ("predicted_height",))
    assert len(read("o.geojsonl")) == 150
    with pytest.raises(OptionError, match="batch_rows=0 is no whole number"):
        predict_file(head, "t.gpkg", "p.csv", batch_rows=0)
    with pytest.raises(TableError, match="The target is the path of a file, not a int"):
        predict_file(head, "t.gpkg", 3)
    write(cities[["name", "geometry"]].assign(geometry=None), "u.gpkg")
    with pytest.raises(TableError, match="None of the 150 rows of u.gpkg has a place"):
        predict_file(head, "u.gpkg", "p.csv", on_invalid="nan")


def test_columns_that_a_format_cannot_hold(cities):
    table = cities[["geometry"]].assign(lasted=pd.Timedelta("1h"))
    table.to_parquet("t.parquet")
    head = ge.load_head("numbers")
    assert predict_file(head, "t.parquet", "o.parquet").rows == 150
    with pytest.raises(TableError, match="cannot be written as .gpkg.*Write .parquet"):
        predict_file(head, "t.parquet", "o.gpkg")


def test_as_a_user_types_it(cities):
    write(cities[["name", "geometry"]], "t.gpkg")
    run = [sys.executable, "-W", "error", "-m", "geoembed", "predict", "levels", "t.gpkg"]
    done = subprocess.run([*run, "-o", "o.gpkg"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("150 rows, ")
    assert len(read("o.gpkg")) == 150


# -- wall to wall ----------------------------------------------------------------------------------


def test_a_raster_is_written_wall_to_wall(capsys):
    import rasterio

    words = ["--bounds", "-1,45.8,1.5,47.8", "--resolution", "0.25"]
    assert main(["predict", "numbers", "--raster", *words, "-o", "map.tif"]) == 0
    out = capsys.readouterr().out
    assert re.match(r"10 x 9 cells, 90 predicted, \d+ s, in map.tif. Bands:\n", out)
    assert out.splitlines()[1] == ", ".join(NUMBERS)
    with rasterio.open("map.tif") as raster:
        assert raster.descriptions == tuple(NUMBERS)
        assert np.isfinite(raster.read()).all()
    assert main(["predict", "numbers", "--raster", *words, "-o", "map.tif"]) == 1
    assert "exists. Replace it with force=True (--force)" in capsys.readouterr().err


def test_a_raster_within_polygons_with_extra_columns_from_rasters(cities, capsys):
    import rasterio
    import shapely

    gpd.GeoSeries([shapely.box(0, 40, 10, 50)], crs=4326).to_file("area.gpkg")
    profile = {"driver": "GTiff", "width": 36, "height": 18, "count": 1, "dtype": "float32"}
    where = {"crs": "EPSG:4326", "transform": rasterio.Affine(10, 0, -180, 0, -10, 90)}
    with rasterio.open("people.tif", "w", **profile, **where) as raster:
        raster.write(np.full((1, 18, 36), 1e6, dtype=np.float32))
    head = LocationRegressor("xyz", extra_columns="population").fit(cities, "height")
    head.save("peopled")
    words = ["predict", "peopled", "--raster", "--within", "area.gpkg", "--resolution", "2.5"]
    assert main([*words, "-o", "a.tif"]) == 1
    assert "--extra-raster NAME=FILE" in capsys.readouterr().err
    assert main([*words, "--extra-raster", "population=people.tif", "-o", "a.tif", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    with rasterio.open("a.tif") as raster:
        assert raster.shape == (4, 4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bounds", "0,0,1,1"], "Say how large a cell is"),
        (["--bounds", "here", "--resolution", "1"], "are not four numbers"),
        (["--bounds", "0,0,1", "--resolution", "1"], "are not four numbers"),
        (["--resolution", "1"], "needs bounds="),
        (["--within", "no.gpkg", "--resolution", "1"], "There is no file no.gpkg"),
        (["--bounds", "0,0,1,1", "--resolution", "1", "--extra-raster", "x"], "is not NAME=FILE"),
        (["t.gpkg", "--bounds", "0,0,1,1", "--resolution", "1"], "takes no table"),
    ],
)
def test_rasters_that_do_not_fit(words, message, capsys):
    assert main(["predict", "numbers", "--raster", *words, "-o", "map.tif"]) in {1, 2}
    assert message in " ".join(capsys.readouterr().err.split())
    assert not glob_of("map.tif*")


def test_a_folder_is_one_table(cities, models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for side in ("east", "west"):
        place = tmp_path / "in" / f"side={side}" / "part.parquet"
        place.parent.mkdir(parents=True)
        cities[cities["side"] == side].drop(columns="side").to_parquet(place)
    ordered = cities.sort_values("side", kind="stable").reset_index(drop=True)
    ordered.to_parquet("one.parquet")
    model = str(models / "extras")
    for source, target in (("in", "folder"), ("in/**/*.parquet", "glob"), ("one.parquet", "all")):
        assert main(["predict", model, source, "-o", f"{target}.parquet"]) == 0
    expected = gpd.read_parquet("one.parquet")["height"]
    found = {name: gpd.read_parquet(f"{name}.parquet") for name in ("folder", "glob", "all")}
    assert found["folder"]["height"].tolist() == expected.tolist()
    for name in ("folder", "glob"):
        np.testing.assert_array_equal(found[name][NUMBERS], found["all"][NUMBERS])
        assert found[name]["side"].tolist() == ordered["side"].tolist()
    capsys.readouterr()
    assert main(["predict", model, "in", "-o", "in/side=east/more.parquet"]) == 1
    assert "lies in what is read, in: " in capsys.readouterr().err
