"""``geoembed geolocate``: photographs and texts to tables and maps."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

import geoembed as ge
from geoembed.cli.main import main
from geoembed.extending import hookimpl
from geoembed.testing import isolated_plugins, tiny_clip_spec, write_tiny_clip


class TinyClip:
    """Registers a small CLIP that knows nothing, so that the command has something to run."""

    @hookimpl
    def register_image_encoders(self, register):
        register(tiny_clip_spec())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three photographs, a gallery and a CLIP."""
    folder = tmp_path_factory.mktemp("geolocate")
    rng = np.random.default_rng(0)
    (folder / "trip").mkdir()
    for number in range(3):
        noise = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC)
        picture.save(folder / "trip" / f"photo{number}.jpg")
    write_tiny_clip(folder / "clip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOEMBED_CACHE", str(folder / "cache"))
        ge.Gallery.grid(400, device="cpu").save(folder / "gallery")
    return folder


@pytest.fixture
def geolocate(files, monkeypatch):
    """Run the command with the small CLIP and gallery, in the folder of the files."""
    monkeypatch.chdir(files)

    def run(*arguments):
        fixed = ["--gallery", "./gallery", "--encoder", "geoclip.tiny", "--weights", "clip"]
        with isolated_plugins(TinyClip()):
            return main(["geolocate", *map(str, arguments), *fixed, "--device", "cpu"])

    return run


def test_answers_are_printed(geolocate, capsys):
    assert geolocate("trip/photo0.jpg", "--top", "2") == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].split()[:6] == ["query", "rank", "score", "lon", "lat", "place"]
    assert len(lines) >= 3
    assert "trip/photo0.jpg" in lines[1]
    # Nothing was calibrated, and it is said.
    assert "not calibrated" in out


@pytest.mark.parametrize("ending", ["geojson", "gpkg", "parquet", "csv"])
def test_answers_go_into_a_file(geolocate, capsys, ending, tmp_path):
    path = tmp_path / f"out.{ending}"
    assert geolocate("trip", "--top", "2", "-o", path) == 0
    assert f"written to {path}" in capsys.readouterr().out
    read = {"parquet": gpd.read_parquet, "csv": pd.read_csv}.get(ending, gpd.read_file)
    found = read(path)
    assert len(found) == 6
    assert found["rank"].tolist() == [1, 2] * 3
    if ending != "csv":
        np.testing.assert_allclose(found.geometry.x, found["lon"])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert geolocate("trip", "-o", path) == 2
    assert "exists. Give --force" in capsys.readouterr().err
    assert geolocate("trip", "-o", path, "--force", "--top", "1") == 0


@pytest.mark.parametrize("name", ["map.html", "map.png"])
def test_a_map_is_drawn(geolocate, capsys, name, tmp_path):
    path = tmp_path / name
    assert geolocate("trip", "--map", path) == 0
    assert path.stat().st_size > 30_000
    if name.endswith("html"):
        text = path.read_text("utf-8")
        assert text.count("data:image/jpeg;base64") == 3
        assert "photo2.jpg" in text
    else:
        with Image.open(path) as picture:
            assert picture.width > 800
    assert geolocate("--text", "a fjord in winter", "--map", path, "--force") == 0


def test_files_folders_and_patterns_are_joined(geolocate, capsys, files):
    (files / "more").mkdir(exist_ok=True)
    (files / "more" / "one.jpg").write_bytes((files / "trip" / "photo1.jpg").read_bytes())
    assert geolocate("more", "trip/photo0.jpg", "trip/*[12].jpg", "--json", "--top", "1") == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    names = ["more/one.jpg", "trip/photo0.jpg", "trip/photo1.jpg", "trip/photo2.jpg"]
    assert [answer["query"] for answer in answers] == names
    assert answers[0]["score"] == pytest.approx(answers[2]["score"], abs=1e-5)


def test_texts_and_json(geolocate, capsys):
    assert geolocate("--text", "a desert road", "--text", "a temple", "--json", "--top", "1") == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert [answer["query"] for answer in answers] == ["a desert road", "a temple"]
    assert set(answers[0]) >= {"rank", "score", "lon", "lat", "place", "radius_50_km", "error"}
    assert answers[0]["error"] == ""
    assert answers[0]["no_signal"] is None


def test_answers_stay_within_polygons(geolocate, capsys, tmp_path):
    brazil = shapely.box(-60, -20, -45, 0)
    gpd.GeoSeries([brazil], crs="EPSG:4326").to_file(tmp_path / "brazil.gpkg")
    for more in ([], ["--refine"]):
        code = geolocate("trip", "--within", tmp_path / "brazil.gpkg", "--json", *more)
        assert code == 0
        answers = json.loads(capsys.readouterr().out)["answers"]
        assert all(-60 <= a["lon"] <= -45 and -20 <= a["lat"] <= 0 for a in answers)


def test_one_bad_picture_is_named_and_the_others_go_on(geolocate, capsys, files):
    (files / "bad.jpg").write_text("no picture")
    assert geolocate("trip/photo0.jpg", "bad.jpg", "none.jpg", "--json", "--top", "1") == 0
    captured = capsys.readouterr()
    answers = json.loads(captured.out)["answers"]
    assert [bool(answer["error"]) for answer in answers] == [False, True, True]
    assert "warning: bad.jpg" in captured.err
    assert "warning: none.jpg" in captured.err
    assert geolocate("bad.jpg") == 1
    assert "The picture could not be read" in capsys.readouterr().err
    # A map of nothing is not drawn, and the reason is not lost.
    assert geolocate("bad.jpg", "none.jpg", "--map", "bad.html") == 1
    said = capsys.readouterr().err
    assert "warning: bad.jpg: It is not" in said
    assert "None of 2 pictures could be read" in said
    assert not (files / "bad.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Give photographs, or --text, and not both"),
        (["trip", "--text", "a"], 2, "Give photographs, or --text, and not both"),
        (["trip", "-o", "out.xlsx"], 2, "must end in .geojson, .gpkg, .parquet, .csv"),
        (["trip", "--map", "out.pdf"], 2, "must end in .png, .html"),
        (["trip", "-o", "no/such/out.csv"], 2, "there is no folder"),
        (["trip", "--tta", "twenty"], 1, "tta='twenty'"),
        (["empty"], 1, "empty"),
        (["trip", "--within", "none.gpkg"], 1, "none.gpkg"),
        (["--text", "word " * 90], 1, "tokens"),
    ],
)
def test_what_cannot_be_done_is_said(geolocate, capsys, files, arguments, code, message):
    (files / "empty").mkdir(exist_ok=True)
    assert geolocate(*arguments) == code
    err = capsys.readouterr().err
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_without_the_weights_of_clip_the_ways_to_get_them_are_named(
    files, capsys, monkeypatch, tmp_path
):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(files)
    assert main(["geolocate", "trip", "--gallery", "./gallery", "--device", "cpu"]) == 1
    err = capsys.readouterr().err
    for way in ("allow", "weights", "1.7 GB"):
        assert way in err
