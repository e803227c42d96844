"""The README: its code runs, its commands exist, its picture is there."""

import re
from pathlib import Path

import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[2]


def test_python_runs(fenced_blocks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = fenced_blocks("README.md")
    first, second, third = [body for language, body in blocks if language == "python"]
    names = {"__name__": "readme"}
    exec(compile(first, "README.md", "exec"), names)
    plt.close("all")
    assert names["table"].shape == (1000, len(names["cities"].columns) + 512)
    assert names["vectors"].shape == (1, 512)
    assert names["features"].shape == (1000, 1536)
    assert names["profile"]["mean"].iloc[0] > 0.999

    exec(compile(second, "README.md", "exec"), names)
    assert list(names["table"].columns[-3:]) == [
        "predicted_big",
        "predicted_big_probability",
        "predicted_big_set",
    ]
    assert names["scores"].shape == (5,)
    assert (tmp_path / "map.tif").is_file()

    exec(compile(third, "README.md", "exec"), names)
    assert names["places"]["rank"].tolist() == [1, 2, 3]
    assert names["places"]["place"].iloc[0].endswith("United States of America")


def test_commands_exist(shell_commands, check_command):
    commands = shell_commands("README.md")
    for words in commands:
        check_command(words)
    programs = [words[:2] for words in commands]
    assert programs[:2] == [["make", "demo"], ["make", "test"]]
    assert {"embed", "similar", "weights", "doctor"} <= {words[1] for words in programs}


def test_targets_named_in_the_text_exist(check_command):
    text = (ROOT / "README.md").read_text("utf-8")
    assert (
        "`make help` lists the others: `train-demo`, `check`, `check-full`, `bench`, `docs`."
        in text
    )
    named = re.findall(r"`make ([a-z]+)`", text)
    assert {"help", "docs"} <= set(named)
    check_command(["make", *named, "check", "bench"])


def test_picture_is_there_and_small():
    picture = ROOT / "docs" / "_static" / "readme_map.png"
    assert "](docs/_static/readme_map.png)" in (ROOT / "README.md").read_text("utf-8")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert 50_000 < picture.stat().st_size < 400_000
