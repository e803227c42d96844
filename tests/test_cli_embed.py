"""The command ``geoembed embed``."""

import re

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely import box

import geoembed as ge
from geoembed.cli.main import main
from geoembed.streaming import made_by


@pytest.fixture
def source(tmp_path):
    cities = ge.data.load_cities().head(30)
    cities[["name", "geometry"]].to_file(tmp_path / "t.gpkg")
    return str(tmp_path / "t.gpkg")


def test_one_line_at_the_end(source, tmp_path, capsys):
    target = tmp_path / "o.parquet"
    assert main(["embed", source, "-o", str(target)]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"30 rows of 512 values, [\d,]+ rows/s, in {target}\n", out)
    assert err == ""
    table = gpd.read_parquet(target)
    cities = ge.data.load_cities().head(30)
    expected = ge.encode(lon=cities["lon"], lat=cities["lat"])
    np.testing.assert_allclose(np.stack(table["embedding"]), expected, atol=2e-6)


def test_every_option_reaches_its_place(source, tmp_path, capsys):
    target = tmp_path / "o.parquet"
    options = {
        "--encoder": "geoclip.v1", "--layers": "scales", "--layout": "columns",
        "--dtype": "float16", "--precision": "float64", "--device": "cpu", "--seam": "blend",
        "--geometry": "sample", "--samples": "3", "--on-invalid": "drop", "--layer": "t",
        "--crs": "EPSG:4326", "--prefix": "e", "--batch-rows": "7",
    }  # fmt: skip
    words = [word for pair in options.items() for word in pair]
    flags = ["--normalize", "--overwrite", "--force", "--resume", "--quiet"]
    assert main(["embed", source, "-o", str(target), *words, *flags]) == 0
    assert capsys.readouterr() == ("", "")
    made = made_by(target)
    assert made["options"] == {
        "layers": "scales",
        "normalize": True,
        "precision": "float64",
        "dtype": "float16",
        "seam": "blend",
    }
    assert (made["layout"], made["geometry"], made["samples"]) == ("columns", "sample", 3)
    table = gpd.read_parquet(target)
    assert table.columns[2] == "e_scale0_000"
    vectors = table.iloc[:, 2:].to_numpy("float64")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)


def test_columns_by_name(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("east,north\n10,20\n,\n-30,40\n")
    command = ["embed", str(tmp_path / "t.csv"), "-o", str(tmp_path / "o.npy")]
    names = ["--lon-column", "east", "--lat-column", "north", "--on-invalid", "drop"]
    assert main([*command, *names]) == 0
    assert capsys.readouterr().out.startswith("2 rows (1 dropped) of 512 values, ")
    expected = ge.encode(lon=[10, -30], lat=[20, 40])
    np.testing.assert_allclose(np.load(tmp_path / "o.npy"), expected, atol=2e-6)
    assert (
        main([*command, "--lon", "east", "--lat", "north", "--on-invalid", "nan", "--force"]) == 0
    )
    assert np.load(tmp_path / "o.npy").shape == (3, 512)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["t.gpkg"], 2, "--output"),
        (["nowhere.gpkg", "-o", "o.npy"], 1, "There is no file nowhere.gpkg"),
        (["t.gpkg", "-o", "o.xls"], 1, "the suffix does not say what to write"),
        (["t.gpkg", "-o", "t.gpkg"], 1, "the suffix does not say what to write"),
        (["t.gpkg", "-o", "there.npy"], 1, "there.npy exists already. Pass force=True (--force)"),
        (["t.gpkg", "-o", "o.npy", "--layer", "x"], 1, "no layer in t.gpkg named 'x'"),
        (["t.gpkg", "-o", "o.npy", "--encoder", "geoclip.v2"], 1, "Close matches: 'geoclip.v1'"),
        (["t.gpkg", "-o", "o.npy", "--device", "abacus"], 1, "abacus"),
        (["t.gpkg", "-o", "o.npy", "--layers", "first"], 1, "first"),
        (["t.gpkg", "-o", "o.npy", "--samples", "0"], 2, "--samples"),
    ],
)
def test_what_does_not_fit(source, tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.npy").touch()
    assert main(["embed", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.gpkg", "there.npy"]


@pytest.mark.parametrize(
    ("text", "arguments", "hint"),
    [
        ("lon,lat,embedding\n1,2,3\n", [], "--overwrite, --prefix NAME"),
        ("lon,lat\n1,2\n,3\n", [], "--on-invalid nan"),
        ("a,b\n1,2\n", [], "--lon-column NAME, --lat-column NAME"),
        ("a,b\n1,2\n", ["--lon", "a"], "--lat-column NAME"),
        ("lon,lat\n5e6,6e6\n", [], "--crs EPSG:3857"),
        ("lon,lat\n1,2\n", ["--crs", "none"], None),
        ("lon,lat\n1,2\n", ["--on-invalid", "skip"], None),
    ],
)
def test_messages_say_what_to_type(tmp_path, capsys, text, arguments, hint):
    (tmp_path / "t.csv").write_text(text)
    command = ["embed", str(tmp_path / "t.csv"), "-o", str(tmp_path / "o.parquet")]
    assert main([*command, *arguments]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("geoembed: error: ")
    assert lines[1:] == ([] if hint is None else [f"On the command line: {hint}."])


def test_geometries_and_layers_say_what_to_type(tmp_path, capsys):
    shapes = gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs=4326)
    shapes.to_file(tmp_path / "t.gpkg", layer="a")
    command = ["embed", str(tmp_path / "t.gpkg"), "-o", str(tmp_path / "o.npy")]
    assert main(command) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "On the command line: --geometry representative_point."
    shapes.to_file(tmp_path / "t.gpkg", layer="b")
    assert main(command) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "On the command line: --layer NAME."


def test_examples_of_the_help(tmp_path, monkeypatch, capsys):
    """Every line of the help's example runs; those for folders in test_cli_embed_folder.py."""
    monkeypatch.chdir(tmp_path)
    cities = ge.data.load_cities().head(5)
    cities[["name", "geometry"]].to_file("places.gpkg")
    pd.DataFrame({"x": cities["lon"], "y": cities["lat"]}).to_csv("places.csv", index=False)
    cities.to_crs(3857).buffer(1000).to_frame("geometry").to_file("regions.gpkg")
    cities[["name", "geometry"]].to_file("towns.gpkg")
    assert main(["embed", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    examples = [line.split()[1:] for line in lines if line.strip().startswith("geoembed embed")]
    examples = [words for words in examples if "--engine" not in words]
    assert len(examples) == 3
    for words in examples:
        assert main(words) == 0
    assert {"places.parquet", "vectors.npy", "regions.parquet"} <= {
        path.name for path in tmp_path.iterdir()
    }
