"""``geoembed data pack``."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from geoembed.cli.main import main
from geoembed.testing import isolated_plugins
from geoembed.training.shards import ShardPictures


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "cache"))
    with isolated_plugins():
        yield


@pytest.fixture
def photos(tmp_path):
    """Return a folder of six pictures, of which one is bad and one is missing."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(folder / f"{number}.png")
    (folder / "1.png").write_bytes(b"")
    (folder / "4.png").unlink()
    pd.DataFrame(
        {"snap": [f"{n}.png" for n in range(6)], "b": np.arange(6) + 45.5, "l": np.arange(6) + 5}
    ).to_csv(folder / "photos.csv", index=False)
    return folder


COLUMNS = ("--file-column", "snap", "--lon", "l", "--lat", "b")


def pack(folder, output, *more, code=0):
    arguments = ["data", "pack", folder / "photos.csv", "--images", folder, "-o", output, *more]
    assert main([str(argument) for argument in arguments]) == code


def test_pack_says_what_was_packed_and_what_was_not(photos, tmp_path, capsys):
    pack(photos, tmp_path / "shards", *COLUMNS, "--per-shard", 4)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("4 pictures in 2 shards, 0.0 MB: ")
    assert lines[1].startswith("2 bad, listed in ")
    assert lines[2:] == [
        "  row 1, 1.png: It is empty: 0 bytes.",
        "  row 4, 4.png: There is no such file.",
    ]
    assert err == ""
    pictures = ShardPictures(tmp_path / "shards")
    assert [pictures.picture(row).getpixel((0, 0))[0] for row in range(4)] == [0, 2, 3, 5]
    assert pictures.lonlat.tolist() == [[5, 45.5], [7, 47.5], [8, 48.5], [10, 50.5]]


def test_pack_goes_on_and_says_so(photos, tmp_path, capsys):
    pack(photos, tmp_path / "shards", *COLUMNS)
    assert capsys.readouterr().out.startswith("4 pictures in 1 shard, ")
    pack(photos, tmp_path / "shards", *COLUMNS)
    assert capsys.readouterr().out.startswith("4 pictures in 1 shard (1 there already), ")


def test_pack_as_json(photos, tmp_path, capsys):
    pack(photos, tmp_path / "shards", *COLUMNS, "--json", "--max-side", 10, "--workers", 0)
    facts = json.loads(capsys.readouterr().out)
    assert facts == {
        "folder": str(tmp_path / "shards"),
        "pictures": 4,
        "shards": 1,
        "bytes": (tmp_path / "shards" / "shard-000000.tar").stat().st_size,
        "bad": 2,
        "bad_pictures": str(tmp_path / "shards" / "bad_pictures.csv"),
        "found": 0,
        "notes": [],
    }
    assert ShardPictures(tmp_path / "shards").picture(0).size == (10, 7)


def test_pack_names_only_some_of_many_bad_pictures(photos, tmp_path, capsys):
    table = pd.read_csv(photos / "photos.csv")
    more = pd.DataFrame({"snap": [f"x{n}.png" for n in range(9)], "b": 45.5, "l": 5})
    pd.concat([table, more]).to_csv(photos / "photos.csv", index=False)
    pack(photos, tmp_path / "shards", *COLUMNS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("11 bad, listed in ")
    assert lines[-1] == "  and 6 more"
    assert len(lines) == 8


def test_pack_refuses_in_words_of_the_command_line(photos, tmp_path, capsys):
    pack(photos, tmp_path / "shards", "--lon", "l", "--lat", "b", code=1)
    err = capsys.readouterr().err
    assert "photos.csv has no column of pictures" in err
    assert "On the command line: --file-column NAME." in err
    pack(photos, tmp_path / "shards", *COLUMNS)
    capsys.readouterr()
    pack(photos, tmp_path / "shards", *COLUMNS, "--per-shard", 2, code=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "was packed from something else: per_shard was 10000 and is 2" in err
    assert "--force" in err
    pack(photos, tmp_path / "shards", *COLUMNS, "--per-shard", 2, "--force")
    assert "in 3 shards" in capsys.readouterr().out
    pack(photos, tmp_path / "shards", "--per-shard", 0, code=2)
    assert "--per-shard" in capsys.readouterr().err


def test_an_interrupted_pack_says_that_it_goes_on(photos, tmp_path, capsys, monkeypatch):
    def interrupted(path, max_side):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("geoembed.training.shard_writing._prepare", interrupted)
        pack(photos, tmp_path / "shards", *COLUMNS, "--workers", 0, code=130)
    assert "Finished shards stay in" in capsys.readouterr().err
    pack(photos, tmp_path / "shards", *COLUMNS)
    assert capsys.readouterr().out.startswith("4 pictures in 1 shard, ")


def test_notes_of_the_manifest_are_shown(photos, tmp_path, capsys):
    table = pd.read_csv(photos / "photos.csv")
    table.loc[0, "b"] = np.nan
    table.to_csv(photos / "photos.csv", index=False)
    pack(photos, tmp_path / "shards", *COLUMNS, code=1)
    assert "1 of 6 rows" in capsys.readouterr().err
    pack(photos, tmp_path / "shards", *COLUMNS, "--on-invalid", "drop")
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "left out of the manifest: 1 row without a place or a picture"


def test_the_group_shows_its_commands(capsys):
    assert main(["data", "--help"]) == 0
    out = capsys.readouterr().out
    assert "pack" in out
    assert "features" in out
