"""The command ``geoembed similar``."""

import json
import re

import pytest

import geoembed as ge
from geoembed import similar
from geoembed.cli.main import main
from geoembed.streaming import embed_file


@pytest.fixture(autouse=True)
def few_cities(monkeypatch):
    """Encode a few hundred cities instead of all, in every test."""
    cities = ge.data.load_cities()
    few = cities[(cities.index < 300) | cities["name"].isin(["London", "Quito", "Misato, Saitama"])]
    monkeypatch.setattr(similar, "load_cities", few.copy)


@pytest.fixture
def towns(tmp_path):
    cities = ge.data.load_cities().iloc[:200][["name", "iso_a2", "geometry"]]
    cities.to_parquet(tmp_path / "towns.parquet")
    return tmp_path / "towns.parquet"


def test_a_table_of_cities(capsys):
    assert main(["similar", "Quito", "--min-km", "1000", "--top", "4"]) == 0
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Most similar to Quito, EC \([\d,]+ people\):", title)
    assert header.split() == ["rank", "score", "name", "iso_a2", "km"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3", "4"]
    assert all(float(row.split()[-1]) >= 1000 for row in rows)
    scores = [float(row.split()[1]) for row in rows]
    assert scores == sorted(scores, reverse=True)


def test_others_of_the_name_are_named(capsys):
    assert main(["similar", "london", "--top", "1"]) == 0
    title = capsys.readouterr().out.splitlines()[0]
    assert "London, GB (8,961,989 people; there is also 'London, CA'):" in title
    assert main(["similar", "London, CA", "--top", "1"]) == 0
    assert "to London, CA" in capsys.readouterr().out


def test_negative_coordinates(capsys):
    assert main(["similar", "--lon", "-74.006", "--lat", "-33.4", "--top", "2"]) == 0
    assert capsys.readouterr().out.startswith("Most similar to lon -74.006, lat -33.4:\n")


def test_json(capsys):
    assert main(["similar", "Paris", "--top", "2", "--min-km", "500", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["place"]["name"] == "Paris"
    assert [list(row) for row in answer["similar"]] == [
        ["rank", "score", "name", "iso_a2", "km"]
    ] * 2
    found = ge.similar_places("Paris", top=2, min_km=500)
    assert [row["name"] for row in answer["similar"]] == found["name"].tolist()
    assert answer["similar"][0]["score"] == pytest.approx(found["score"].iloc[0])


@pytest.mark.parametrize("option", ["--among", "--in"])
def test_among_the_rows_of_a_file(towns, capsys, option):
    assert main(["similar", "Quito", option, str(towns), "--top", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["similar"]
    cities = ge.data.load_cities().iloc[:200]
    expected = ge.similar_places("Quito", among=cities, top=3)
    assert [row["name"] for row in rows] == expected["name"].tolist()


def test_the_encoder_that_made_the_file_is_used(towns, tmp_path, capsys):
    target = tmp_path / "o.parquet"
    embed_file(towns, target, layers="scales", prefix="wide", normalize=True)
    assert main(["similar", "Quito", "--among", str(target), "--top", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["similar"]
    cities = ge.data.load_cities().iloc[:200]
    expected = ge.similar_places("Quito", among=cities, top=3, layers="scales")
    assert [row["name"] for row in rows] == expected["name"].tolist()
    assert [r["score"] for r in rows] == pytest.approx(expected["score"].tolist(), abs=1e-5)


def test_options_that_contradict_the_file(towns, tmp_path, capsys):
    target = tmp_path / "o.parquet"
    embed_file(towns, target, layers="scales")
    command = ["similar", "Quito", "--among", str(target), "--top", "1"]
    assert main([*command, "--layers", "final"]) == 1
    assert "o.parquet were made by geoclip.v1, layers scales, which is" in capsys.readouterr().err
    assert main([*command, "--layers", "nonsense"]) == 1
    assert "nonsense" in capsys.readouterr().err
    assert main([*command, "--layers", "scales", "--encoder", "geoclip.v1"]) == 0
    # A file without embeddings takes any.
    assert main(["similar", "Quito", "--among", str(towns), "--layers", "scales"]) == 0


def test_no_match_is_a_sentence(towns, tmp_path, capsys):
    ge.data.load_cities().head(0).to_parquet(tmp_path / "none.parquet")
    assert main(["similar", "Quito", "--among", str(tmp_path / "none.parquet")]) == 0
    title, sentence = capsys.readouterr().out.splitlines()
    assert title.startswith("Most similar to Quito")
    assert sentence == "There is no other place to choose from."
    assert main(["similar", "Quito", "--among", str(towns), "--min-km", "20100"]) == 0
    sentence = capsys.readouterr().out.splitlines()[1]
    assert sentence == "There is no other place at least 20100 km away to choose from."
    assert main(["similar", "Quito", "--among", str(towns), "--min-km", "20100", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["similar"] == []


def test_only_names_that_can_be_typed_are_offered(capsys, monkeypatch):
    all_cities = ge.data.load_cities()
    cities = all_cities[all_cities["name"].isin(["Springfield", "San Fernando"])]
    monkeypatch.setattr(similar, "load_cities", cities.copy)
    assert (cities.loc[cities["name"] == "Springfield", "iso_a2"] == "US").sum() > 1
    assert main(["similar", "Springfield", "--top", "1"]) == 0
    assert "there is also" not in capsys.readouterr().out.splitlines()[0]
    assert main(["similar", "San Fernando", "--top", "1"]) == 0
    title = capsys.readouterr().out.splitlines()[0]
    offered = title.split("there is also ")[1].rstrip("):").replace("'", "").split(", ")
    assert len(offered) // 2 == len(set(offered[1::2]))


def test_a_file_without_names(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("lon,lat\n10,10\n20,20\n")
    assert main(["similar", "Quito", "--among", str(tmp_path / "t.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["rank", "score", "row", "km"]
    assert sorted(line.split()[2] for line in lines[2:]) == ["0", "1"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["Parris"], 1, "There is no city named 'parris'. Close matches: 'paris'"),
        ([], 2, "Say which place is meant: the name of a city, or both --lon and --lat"),
        (["--lon", "5"], 2, "Say which place is meant"),
        (["Paris", "--lat", "5"], 2, "Say which place is meant"),
        (["Paris", "--layers", "frist"], 1, "frist"),
        (["--lon", "5", "--lat", "95"], 1, "latitude outside"),
        (["Paris", "--top", "0"], 2, "--top"),
        (["Paris", "--among", "nowhere.csv"], 1, "There is no file nowhere.csv"),
        (["Paris", "--encoder", "geoclip.v7"], 1, "no encoder named 'geoclip.v7'"),
    ],
)
def test_what_does_not_fit(capsys, arguments, code, message):
    assert main(["similar", *arguments]) == code
    assert message in capsys.readouterr().err
