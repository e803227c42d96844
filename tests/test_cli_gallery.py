"""``geoembed gallery``."""

import json
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

import geoembed as ge
from geoembed.cli.main import main
from geoembed.data import is_land, load_countries
from geoembed.galleries import Gallery, load_gallery
from geoembed.galleries.builders import grid_places
from geoembed.testing import isolated_plugins


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "cache"))
    with isolated_plugins():
        yield tmp_path / "cache"


@pytest.fixture
def kenya(tmp_path):
    path = tmp_path / "kenya.gpkg"
    load_countries().query("iso_a2 == 'KE'").to_file(path)
    return str(path)


def complaint(capsys, *arguments, code=1):
    assert main(["gallery", *map(str, arguments)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_list(capsys):
    assert main(["gallery", "list"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "encoder", "licence", "summary"]
    assert [row.split()[0] for row in rows] == [
        *("geoclip.100k", "geoclip.100k+land45", "cities", "bluemarble.land")
    ]
    main(["gallery", "list", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["owner"].startswith("geoembed ")


def test_a_registered_gallery_is_built_into_the_cache(cache, capsys):
    assert main(["gallery", "build", "cities", "--encoder", "xyz"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("cities: 13,")
    assert str(cache) in out
    assert len(list((cache / "galleries").iterdir())) == 1


def test_a_grid_within_polygons_is_built_into_a_folder(tmp_path, kenya, cache, capsys):
    folder = tmp_path / "kenya50"
    arguments = ["--grid", "50", "--within", kenya, "-o", str(folder), "--dtype", "float16"]
    assert main(["gallery", "build", *arguments]) == 0
    gallery = load_gallery(folder)
    assert capsys.readouterr().out.startswith(f"grid.50km: {len(gallery)} places, 0.2 MB")
    expected = grid_places(50.0, gpd.read_file(kenya)).lonlat
    np.testing.assert_array_equal(gallery.lonlat, expected)
    vectors = ge.encode(*expected.T, normalize=True).astype(np.float16)
    np.testing.assert_array_equal(gallery.embeddings, vectors)
    # Straight into the folder: nothing is kept twice.
    assert not (cache / "galleries").exists()


def test_cells_of_h3_at_sea_as_well(tmp_path, kenya, capsys):
    pacific = tmp_path / "pacific.parquet"
    box = shapely.segmentize(shapely.box(-175, -5, -165, 5), 5)
    gpd.GeoDataFrame(geometry=[box], crs=4326).to_parquet(pacific)
    arguments = ["build", "--h3", "3", "--within", str(pacific), "--encoder", "xyz"]
    arguments += ["-o", str(tmp_path / "a")]
    assert "land_only=False" in complaint(capsys, *arguments)
    assert main(["gallery", *arguments, "--sea"]) == 0
    assert not is_land(*load_gallery(tmp_path / "a").lonlat.T).any()


def test_a_table_becomes_a_gallery(tmp_path, kenya, capsys):
    table = tmp_path / "my shops (new).csv"
    rows = [[36.8, -1.3], [36.8, -1.3], [39.7, -4.0], [2.35, 48.86]]
    pd.DataFrame(rows, columns=["lon", "lat"]).to_csv(table, index=False)
    arguments = ["build", str(table), "-o", str(tmp_path / "shops"), "--encoder", "xyz"]
    assert main(["gallery", *arguments, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    gallery = load_gallery(tmp_path / "shops")
    assert (facts["name"], facts["places"]) == ("my-shops-new", 3)
    assert (facts["folder"], facts["digest"]) == (str(tmp_path / "shops"), gallery.digest)
    assert gallery.counts.tolist() == [2, 1, 1]
    assert main(["gallery", *arguments, "--within", kenya, "--force"]) == 0
    assert load_gallery(tmp_path / "shops").lonlat.tolist() == [[36.8, -1.3], [39.7, -4.0]]


def test_polygons_of_a_table_by_what_stands_for_them(tmp_path, kenya, capsys):
    arguments = ["build", kenya, "-o", tmp_path / "a", "--encoder", "xyz"]
    assert "no single points" in complaint(capsys, *arguments)
    assert "makes many places of a row" in complaint(capsys, *arguments, "--geometry", "sample")
    assert main(["gallery", *map(str, arguments), "--geometry", "centroid"]) == 0
    assert len(load_gallery(tmp_path / "a")) == 1


def test_info_of_a_registered_gallery_encodes_nothing(cache, capsys):
    assert main(["gallery", "info", "geoclip.100k"]) == 0
    out = capsys.readouterr().out
    assert "94,123 places (of 100,000 rows)" in out
    assert "South America" in out
    assert "MIT" in out
    assert not cache.exists()


def test_info_as_json_with_a_ceiling(tmp_path, capsys):
    Gallery.from_lonlat([[0.0, 0.0], [0.0, 1.0]], name="two", encoder="xyz").save(tmp_path / "two")
    pd.DataFrame({"lon": [0.0, 0.1, 90.0], "lat": [0.0, 0.1, 0.0]}).to_csv(
        tmp_path / "truth.csv", index=False
    )
    arguments = ["info", str(tmp_path / "two"), "--truth", str(tmp_path / "truth.csv"), "--json"]
    assert main(["gallery", *arguments]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["name"], facts["encoder"], facts["places"], facts["truths"]) == (
        "two",
        "xyz",
        2,
        3,
    )
    assert facts["spacing_km"]["50 %"] == pytest.approx(110.574, abs=1e-3)
    third = pytest.approx(1 / 3)
    assert list(facts["ceiling"].values()) == [third, 2 * third.expected, *[2 * third.expected] * 3]
    assert facts["continents"]["at sea"]["places"] == 2
    assert facts["continents"]["at sea"]["per_1000_km2"] is None


def test_info_of_a_folder(tmp_path, capsys):
    Gallery.from_lonlat([[0.0, 0.0]], name="one", encoder="xyz").save(tmp_path / "one")
    assert main(["gallery", "info", str(tmp_path / "one")]) == 0
    out = capsys.readouterr().out
    assert "vectors  0.0 MB, float32" in out
    assert "1 places (of 1 rows)" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build"], "Give a NAME or TABLE, or --grid KM"),
        (["build", "cities", "--grid", "5"], "Give a NAME or TABLE, or --grid KM"),
        (["build", "shops.csv", "--sea", "-o", "new"], "--sea: with --grid or --h3 only"),
        (["build", "--grid", "5", "--lon", "x", "-o", "new"], "--lon-column: for a TABLE only"),
        (["build", "cities", "--crs", "EPSG:3857"], "--crs: for a TABLE only"),
        (["build", "cities", "--force"], "--force: with -o FOLDER only"),
    ],
)
def test_usage(capsys, arguments, said):
    # Words are wrapped where the terminal ends.
    assert said in " ".join(complaint(capsys, *arguments, code=2).split())


def test_a_place_that_is_missing_is_named_with_what_can_be_done_here(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("lon,lat\n1,2\n3,\n")
    err = complaint(capsys, "build", tmp_path / "a.csv", "-o", tmp_path / "new")
    assert "1 missing (row 1). Remove or correct them." in err
    assert "invalid" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "citys"], "no gallery named 'citys'. Close matches: 'cities'"),
        (["build", "citys", "-o", "new"], "no gallery named 'citys'. Close matches: 'cities'"),
        (["build", "missing.csv", "-o", "new"], "missing.csv"),
        (["build", "--grid", "5"], "-o FOLDER"),
        (["build", "--grid", "0", "-o", "new"], "between 0.1 and 5000"),
        (["build", "--h3", "12", "-o", "new"], "too many cells"),
        (["build", "cities", "--within", "missing.gpkg", "-o", "new"], "no file missing.gpkg"),
        (["build", "cities", "--dtype", "float8", "-o", "new"], "dtype='float8' is not one of"),
        (["build", "cities", "--encoder", "geo", "-o", "new"], "no encoder named 'geo'"),
        (["info", "citys"], "no gallery named 'citys'. Close matches: 'cities'"),
        (["info", "no/folder"], "no folder of a gallery no/folder"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    err = complaint(capsys, *arguments)
    assert err.startswith("geoembed: error: ")
    assert err.count("\n") == 1
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_file_of_polygons(tmp_path, capsys):
    (tmp_path / "a.gpkg").write_text("no polygons")
    err = complaint(
        capsys, "build", "cities", "--within", tmp_path / "a.gpkg", "-o", tmp_path / "b"
    )
    assert "a.gpkg cannot be read as a file of polygons" in err


def test_what_is_there_is_not_replaced_unasked(tmp_path, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").write_text("")
    arguments = ["build", "--grid", "2000", "--encoder", "xyz", "-o", tmp_path / "thesis"]
    assert "is there already. Say so if it may be replaced: --force" in complaint(
        capsys, *arguments
    )
    assert "other things than a gallery" in complaint(capsys, *arguments, "--force")
    assert (tmp_path / "thesis" / "text").exists()


def test_a_damaged_folder(tmp_path, capsys):
    Gallery.from_lonlat([[0.0, 0.0]], name="one", encoder="xyz").save(tmp_path / "one")
    (tmp_path / "one" / "counts.npy").write_bytes(b"")
    assert "damaged: counts.npy has 0 bytes" in complaint(capsys, "info", tmp_path / "one")


def test_an_index_that_is_not_installed_says_where_it_is(capsys):
    with isolated_plugins():
        assert main(["gallery", "index", "cities"]) == 1
    told = capsys.readouterr().err
    assert "There is no index named 'usearch'" in told
    assert "pip install plugins/geoembed-usearch" in told


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from geoembed.cli.main import main
sys.exit(main(["gallery", *sys.argv[1:]]))
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["build", "places.csv", "-o", "g", "--encoder", "xyz"], 1), (["build", "--help"], 0)],
)
def test_where_torch_is_missing_a_gallery_says_so(tmp_path, arguments, code):
    (tmp_path / "places.csv").write_text("lon,lat\n1,2\n")
    command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    if code:
        assert done.stderr == (
            "geoembed: error: Galleries are searched with torch, also those of an encoder that "
            "needs none, and torch is not installed here. Install it with: pip install torch\n"
        )
