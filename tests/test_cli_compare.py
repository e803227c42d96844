"""``geoembed compare`` on small tables: what it prints, writes, resumes and refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import geoembed as ge
from geoembed.cli.main import main
from geoembed.errors import MissingExtraError

FILES = ["cells", "comparison.csv", "comparison.json", "comparison.md", "comparison.png"]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    cities = ge.data.load_cities().sample(300, random_state=2)
    cities["sine"] = np.sin(np.radians(cities["lat"]))
    cities["half"] = np.where(cities["lat"] > 15, "north", "south")
    cities["east"] = (cities["lon"] + 180) / 360
    cities["west"] = 1 - cities["east"]
    path = tmp_path / "cities.csv"
    cities.drop(columns="geometry").to_csv(path, index=False)
    return path


def compare(capsys: Any, *arguments: str) -> tuple[int, str, str]:
    code = main(["compare", "cities.csv", *arguments])
    told = capsys.readouterr()
    return code, told.out, told.err


QUICK = ("--encoders", "xyz,wrap", "--baselines", "mean", "--folds", "3", "-o", "out")


def test_prints_a_table_and_a_sentence_and_writes_the_files(table: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib")
    code, out, err = compare(capsys, "--target", "sine", *QUICK)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == [
        "encoder",
        "values",
        "random",
        "R2",
        "spatial",
        "R2",
        "encode",
        "s",
        "fit",
        "s",
    ]
    assert {line.split()[0] for line in lines[1:4]} == {"xyz", "wrap", "mean"}
    assert "spatial: 3 folds of blocks of 500 km." in lines
    assert lines[-2].startswith("On spatial blocks, ")
    assert lines[-1] == "Tables, chart and map are in out."
    assert sorted(path.name for path in Path("out").iterdir()) == [*FILES, "errors.png"]
    assert lines[-2] in Path("out/comparison.md").read_text(encoding="utf-8")


def test_goes_on_adds_encoders_and_starts_anew(table: Path, capsys: Any) -> None:
    assert compare(capsys, "--target", "sine", *QUICK)[0] == 0
    cell = next(Path("out/cells").glob("xyz-*/random-000-000.json"))
    before = cell.stat().st_mtime_ns
    more = [*QUICK[:1], "xyz,lonlat", *QUICK[2:]]
    code, out, _ = compare(capsys, "--target", "sine", *more, "--resume")
    assert code == 0
    assert "lonlat" in out
    assert cell.stat().st_mtime_ns == before
    code, _, err = compare(capsys, "--target", "east", *QUICK)
    assert code == 1
    assert "target was ['sine'] and is ['east']" in err
    assert compare(capsys, "--target", "east", *QUICK, "--force")[0] == 0
    assert pd.read_csv("out/comparison.csv").shape[0] == 6


def test_labels_shares_and_json(table: Path, capsys: Any) -> None:
    code, out, _ = compare(capsys, "-t", "half", *QUICK, "--model", "knn", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["metric"] == "accuracy"
    assert {row["split"] for row in found["table"]} == {"random", "spatial"}
    options = [*QUICK[:-1], "shares"]
    code, out, _ = compare(capsys, "-t", "east", "-t", "west", *options, "--model", "knn", "-q")
    assert (code, out) == (0, "")
    page = Path("shares/comparison.md").read_text(encoding="utf-8")
    assert "| encoder | east | west |" in page


def test_protocol_and_seeds(table: Path, capsys: Any) -> None:
    options = ["--encoders", "xyz", "--baselines", "none", "-o", "out"]
    code, out, _ = compare(capsys, "-t", "sine", *options, "--protocol", "range-v1", "--seeds", "2")
    assert code == 0
    assert "random: rows divided at random: 80% train, 20% test; seeds 42 to 43." in out
    assert "On the random split, xyz is first with" in out
    code, _, err = compare(capsys, "-t", "sine", *options, "--protocol", "range-v2")
    assert code == 1
    assert "no protocol named 'range-v2'. Close matches: 'range-v1'" in err


def test_without_matplotlib_tables_are_written(
    table: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> None:
        raise MissingExtraError("Drawing maps needs the package 'matplotlib'.", name="matplotlib")

    monkeypatch.setattr("geoembed.plot.axes.import_optional", missing)
    monkeypatch.setattr("geoembed.plot.axes.import_matplotlib", missing)
    code, out, _ = compare(capsys, "-t", "sine", *QUICK)
    assert code == 0
    assert "No pictures: Drawing maps needs the package 'matplotlib'." in out
    assert sorted(path.name for path in Path("out").iterdir()) == FILES[:-1]


def test_rows_that_are_missing_are_named_or_dropped(table: Path, capsys: Any) -> None:
    rows = pd.read_csv(table)
    rows.loc[[3, 5], "sine"] = np.nan
    rows.to_csv(table, index=False)
    code, _, err = compare(capsys, "-t", "sine", *QUICK)
    assert code == 1
    assert "2 of 300 rows of the target 'sine' are missing" in err
    assert "--on-invalid drop" in err
    code, out, _ = compare(capsys, "-t", "sine", *QUICK, "--on-invalid", "drop")
    assert code == 0
    assert "2 rows without a place or a target are left out." in out


def test_a_folder_is_one_table_with_workers_and_without(
    table: Path, tmp_path: Path, capsys: Any
) -> None:
    pytest.importorskip("distributed")
    rows = pd.read_csv(table)
    for at in range(3):
        place = tmp_path / "in" / f"part={at}" / "data.parquet"
        place.parent.mkdir(parents=True)
        rows.iloc[100 * at : 100 * at + 100].to_parquet(place, index=False)
    found = {}
    for source, *options in (["cities.csv"], ["in", "--engine", "dask", "--workers", "1"]):
        command = ["compare", source, "-t", "sine", *QUICK, "--force", "--json", *options]
        assert main(command) == 0
        told = json.loads(capsys.readouterr().out)
        timed = {"seconds", "seconds_encode"}
        found[source] = [{k: v for k, v in row.items() if k not in timed} for row in told["table"]]
    assert found["in"] == found["cities.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-t", "sin"], "no column in cities.csv named 'sin'. Close matches: 'sine'"),
        (["-t", "sine", "--encoders", "xzy"], "no encoder named 'xzy'"),
        (["-t", "sine", "--block-km", "40000"], "Choose smaller blocks"),
        (["-t", "sine", "--baselines", "kriging"], "'kriging' is not one of: knn, gp, mean"),
        (["-t", "iso_a2"], "On the command line: --on-absent wrong"),
        (["-t", "sine", "--head", "classify"], "target 'sine' holds no labels"),
    ],
)
def test_what_does_not_fit_is_said(
    table: Path, capsys: Any, arguments: list[str], said: str
) -> None:
    code, out, err = compare(capsys, *QUICK, *arguments)
    assert (code, out) == (1, "")
    assert said in err
    assert not Path("out/comparison.csv").exists()
