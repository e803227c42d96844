"""``geoembed evaluate``: what it prints, writes and refuses."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import geoembed as ge
from geoembed.cli.main import main
from geoembed.galleries import Gallery


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest, features of its places, and a gallery of other places."""
    folder = tmp_path_factory.mktemp("evaluate")
    cities = ge.data.load_cities().head(160)
    queries, places = cities.iloc[:40], cities.iloc[30:]
    Gallery.from_frame(places, name="hundred").save(folder / "gallery")
    table = pd.DataFrame({"IMG_FILE": [f"{at}.jpg" for at in range(40)]})
    table[["LAT", "LON"]] = queries[["lat", "lon"]].to_numpy()
    table.to_csv(folder / "manifest.csv", index=False)
    np.save(folder / "features.npy", ge.encode(queries["lon"], queries["lat"], normalize=True))
    return folder


def evaluate(capsys: Any, made: Path, *arguments: str) -> tuple[int, str, str]:
    code = main(["evaluate", str(made / "manifest.csv"), *arguments])
    told = capsys.readouterr()
    return code, told.out, told.err


def features(made: Path) -> tuple[str, ...]:
    return "--features", str(made / "features.npy"), "--gallery", str(made / "gallery")


def test_prints_leaks_scores_and_where_the_files_are(
    made: Path, tmp_path: Path, capsys: Any
) -> None:
    pytest.importorskip("matplotlib")
    code, out, err = evaluate(capsys, made, *features(made), "-o", str(tmp_path / "out"))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    # Ten of the forty are places of the gallery.
    assert lines[0].startswith("Leakage: 10 of 40 queries (25.0 %) lie within 10 m of a place")
    assert " ".join(lines[3].split()) == "system 1 km 25 km 200 km 750 km 2500 km how"
    assert lines[4].split()[:3] == ["this", "run", "25.00"]
    assert lines[5].startswith("ceiling of its gallery")
    assert "40 of 40 pictures evaluated." in lines
    assert lines[-1] == f"Record, tables, curve and map are in {tmp_path / 'out'}."
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())["record"]
    assert record["features"]["name"] == "features.npy"
    assert len(record["features"]["sha256"]) == 64
    assert record["gallery"]["name"] == "hundred"


def test_protocol_json_and_quiet(made: Path, capsys: Any) -> None:
    options = ("--protocol", "im2gps3k", "--tta", "ten-crop", "--seed", "3")
    code, out, err = evaluate(capsys, made, *features(made), *options, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["record"]["protocol"]["deviations"] == [
        "the gallery is 'hundred' instead of 'geoclip.100k'"
    ]
    assert told["record"]["bootstrap"]["seed"] == 3
    assert {"system": "GeoCLIP", "within 1 km": 14.11}.items() <= told["published"][-2].items()
    code, out, err = evaluate(capsys, made, *features(made), *options)
    assert "Not as im2gps3k asks for: the gallery is 'hundred'" in out
    assert "Published rows are as printed; they were not run here." in out
    assert evaluate(capsys, made, *features(made), "-q") == (0, "", "")


def test_a_folder_of_parquet_is_one_manifest(made: Path, tmp_path: Path, capsys: Any) -> None:
    code, out, _ = evaluate(capsys, made, *features(made), "--json")
    expected = json.loads(out)
    assert code == 0
    rows = pd.read_csv(made / "manifest.csv").rename(columns={"LON": "x", "LAT": "y"})
    for at in (0, 1):
        part = rows.iloc[20 * at : 20 * at + 20].assign(embedding=[[0.0, 1.0]] * 20)
        part.to_parquet(tmp_path / f"{at}.parquet", index=False)
    named = ("--lon-column", "x", "--lat-column", "y")
    for source in (str(tmp_path), f"{tmp_path}/*.parquet"):
        assert main(["evaluate", source, *features(made), *named, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["scores"] == expected["scores"]
        assert told["record"]["manifest"]["name"].startswith(tmp_path.name)
    part.assign(x=part["x"] + 400.0).to_parquet(tmp_path / "1.parquet", index=False)
    assert main(["evaluate", str(tmp_path), *features(made), *named]) == 1
    err = capsys.readouterr().err
    assert "have a longitude outside [-180, 360] in column 'x'" in err


def test_other_thresholds(made: Path, capsys: Any) -> None:
    code, out, _ = evaluate(capsys, made, *features(made), "--thresholds", "10, 100")
    assert code == 0
    assert "within 100 km" in out
    assert "2500" not in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Give one of --images FOLDER and --features FILE"),
        (["--thresholds", "25,1"], 1, "thresholds_km=.* does not fit"),
        (["--thresholds", "a,b"], 1, "thresholds_km=.* does not fit"),
        (["--protocol", "im2gps"], 1, "no geolocation protocol named 'im2gps'"),
        (["--file-column", "photo"], 1, "has no column 'photo'"),
        (["--tta", "nine"], 1, "tta='nine' is not one of"),
        (["--gallery", "absent"], 1, "no gallery named 'absent'"),
    ],
)
def test_what_does_not_fit(
    made: Path, capsys: Any, arguments: list[str], code: int, message: str
) -> None:
    given = [] if not arguments else [*features(made), *arguments]
    found, out, err = evaluate(capsys, made, *given)
    assert (found, out) == (code, "")
    assert re.search(message, " ".join(err.split()))


def test_manifests_that_do_not_fit_are_told_before_the_gallery_is_made(
    made: Path, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("IMG_FILE,LAT,LON\n1.jpg,95,3\n2.jpg,5,3\n3.jpg,,3\n")
    code = main(["evaluate", str(path), *features(made)])
    assert code == 1
    assert "row 0 (95)" in capsys.readouterr().err
    path.write_text("IMG_FILE,LAT,LON\n1.jpg,9,3\n2.jpg,5,3\n3.jpg,,3\n")
    code = main(["evaluate", str(path), *features(made)])
    err = capsys.readouterr().err
    assert code == 1
    assert "1 of 3 rows of bad.csv have no place or no picture: row 2" in err
    assert "--on-invalid drop" in err


def test_pictures_without_the_weights_of_the_tower(
    made: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (8, 8)).save(tmp_path / "0.jpg")
    gallery = str(made / "gallery")
    code, out, err = evaluate(capsys, made, "--images", str(tmp_path), "--gallery", gallery)
    assert (code, out) == (1, "")
    assert "--allow-download" in err or "allow_download" in err
