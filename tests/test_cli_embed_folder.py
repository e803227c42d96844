"""`geoembed embed --engine dask`: folders of Parquet, on workers."""

import os
import re
import signal
import subprocess
import sys
import time

import geopandas as gpd
import numpy as np
import pytest

import geoembed as ge
from geoembed.cli.main import main
from geoembed.scaling import embed_folder

CITIES = ge.data.load_cities()[["name", "geometry"]].head(600).reset_index(drop=True)
EXPECTED = ge.LocationFeaturizer("xyz").fit_transform(CITIES)
HERE = ["--engine", "dask", "--workers", "0", "--encoder", "xyz"]


@pytest.fixture
def source(tmp_path, monkeypatch):
    """6 files of 100 rows in the folder the command runs in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for number in range(6):
        part = CITIES[number * 100 : number * 100 + 100]
        part.to_parquet(tmp_path / "in" / f"{number}.parquet")
    return "in"


def vectors():
    return np.stack(gpd.read_parquet("out")["embedding"])


def test_one_line_at_the_end_and_the_same_command_goes_on(source, capsys):
    command = ["embed", source, "-o", "out/", *HERE]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"600 rows of 3 values in 6 parts, [\d,]+ rows/s, in .*out\n", out)
    assert err == ""
    np.testing.assert_array_equal(vectors(), EXPECTED)
    os.truncate("out/part-000002.parquet", 100)
    os.remove("out/part-000004.parquet")
    assert main(command) == 0
    out, _ = capsys.readouterr()
    assert "600 rows (400 done before) of 3 values in 6 parts, 1 torn parts made again" in out
    np.testing.assert_array_equal(vectors(), EXPECTED)
    assert main(command) == 0
    out, _ = capsys.readouterr()
    told = r"nothing was left to do: 600 rows of 3 values in 6 parts were there, in .*out\n"
    assert re.fullmatch(told, out)
    assert main([*command, "--quiet", "--normalize", "--force"]) == 0
    assert capsys.readouterr() == ("", "")


def test_several_files_and_every_option_reach_their_place(source, monkeypatch):
    pytest.importorskip("distributed")
    seen = {}

    def noted(sources, target, **options):
        seen.update(options, sources=sources, target=target)
        raise KeyboardInterrupt

    monkeypatch.setattr("geoembed.scaling.embed_folder", noted)
    options = {
        "--encoder": "wrap", "--layers": "final", "--layout": "columns", "--dtype": "float64",
        "--precision": "float64", "--device": "cpu", "--seam": "blend", "--geometry": "sample",
        "--samples": "3", "--on-invalid": "drop", "--crs": "EPSG:4326", "--prefix": "e",
        "--batch-rows": "7", "--lon": "x", "--lat": "y", "--scheduler": "tcp://h:1",
        "--backend": "torch",
    }  # fmt: skip
    words = [word for pair in options.items() for word in pair]
    main(["embed", "in/0.parquet", "in/1.parquet", "-o", "out", "--engine", "dask", *words])
    assert seen["sources"] == ["in/0.parquet", "in/1.parquet"]
    assert (seen["target"], seen["scheduler"], seen["workers"]) == ("out", "tcp://h:1", None)
    expected = {
        "encoder": "wrap", "layout": "columns", "dtype": "float64", "precision": "float64",
        "seam": "blend", "geometry": "sample", "samples": 3, "on_invalid": "drop",
        "crs": "EPSG:4326", "prefix": "e", "batch_rows": 7, "lon": "x", "lat": "y",
        "device": "cpu", "layers": "final", "overwrite": False, "force": False,
        "backend": "torch",
    }  # fmt: skip
    assert {name: seen[name] for name in expected} == expected


def test_the_examples_of_the_help_run(source, capsys):
    os.rename("in", "places")
    assert main(["embed", "--help"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    here, there = [words[1:] for words in lines if "--engine" in words and words[0] == "geoembed"]
    assert here[-2:] == ["--workers", "4"]
    assert there[-2] == "--scheduler"
    assert main([*here[:-1], "0"]) == 0
    assert len(os.listdir("embedded")) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in", "-o", "o.parquet"], "in: only one file at a time becomes a file.*--engine dask"),
        (["in/0.parquet", "in/1.parquet", "-o", "o.npy"], "2 sources: only one file at a time"),
        (["s3://bucket/in", "-o", "o.npy"], "s3://bucket/in: only one file"),
        (["in/0.parquet", "-o", "o.npy", "--workers", "2"], "--workers are for --engine dask"),
        (["in", "-o", "out", "--engine", "flink"], "--engine flink is not one of: dask"),
        (["in", "-o", "out", *HERE, "--layer", "a"], "--layer a: Parquet files have no layers"),
        (["nowhere", "-o", "out", *HERE], "There is no file or folder nowhere"),
        (["in", "-o", "in", *HERE], "in holds a file to read"),
        (
            ["in", "-o", "out", "--engine", "dask", "--scheduler", "tcp://h:1", "--workers", "2"],
            "Give scheduler=.*\nOn the command line: --scheduler ADDRESS, --workers N",
        ),
    ],
)
def test_errors_are_one_line_and_exit_code_1(source, capsys, arguments, message):
    if "--scheduler" in arguments:
        pytest.importorskip("distributed")
    assert main(["embed", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(f"^geoembed: error: .*{message}", err, re.MULTILINE), err
    assert "Traceback" not in err


def test_a_run_of_two_workers_that_is_terminated_goes_on(source, tmp_path):
    pytest.importorskip("distributed")
    CITIES.to_parquet("many.parquet", row_group_size=5)
    command = [sys.executable, "-m", "geoembed", "embed", "many.parquet", "-o", "out"]
    command += ["--engine", "dask", "--workers", "2", "--encoder", "xyz"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while len(list((tmp_path / "out").glob("part-*"))) < 5 and time.monotonic() < end:
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 143, err
    told = re.search(r"(\d+) of 120 parts are done and kept in .*out\. The same call goes on", err)
    assert told, err
    done = int(told[1])
    assert 5 <= done < 120, "it was stopped after the end"
    report = embed_folder("many.parquet", "out", encoder="xyz", workers=0)
    assert report.resumed >= 5 * done
    assert not report.redone
    np.testing.assert_array_equal(vectors(), EXPECTED)


# Its standard input is what is typed in the terminal of the command.
TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


@pytest.mark.skipif(os.name == "nt", reason="no terminals of this kind")
def test_ctrl_c_in_a_terminal_ends_a_run_of_two_workers_in_seconds(source, tmp_path):
    """It goes to the scheduler and the workers too, which the run still has to talk to."""
    pytest.importorskip("distributed")
    CITIES.to_parquet("many.parquet", row_group_size=5)
    command = [sys.executable, "-c", TERMINAL, sys.executable, "-m", "geoembed"]
    command += ["embed", "many.parquet", "-o", "out", "--encoder", "xyz"]
    command += ["--engine", "dask", "--workers", "2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        end = time.monotonic() + 60
        while len(list((tmp_path / "out").glob("part-*"))) < 5 and time.monotonic() < end:
            time.sleep(0.02)
        typed = time.monotonic()
        out, _ = run.communicate(b"\x03", timeout=60)
        seconds = time.monotonic() - typed
    told = out.decode().partition("^C")[2]
    assert run.returncode == 130, told
    last = r"(\d+) of 120 parts are done .*goes on from there\.\s+geoembed: interrupted\s+$"
    assert re.search(last, told), told
    assert "distributed" not in told
    assert "Error" not in told
    assert seconds < 10, "that is not in seconds"
