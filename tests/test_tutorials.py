"""The tutorials run as they stand, in a folder of their own, and soon enough."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "tutorials").glob("*.py"))
# What each leaves in the folder it runs in.
WRITES = {
    "01_embed_your_points": {"cities.parquet", "world.png", "like_marrakesh.png", "resolution.png"},
    "02_write_a_plugin": {"site", "like_la_paz.png", "profiles.png"},
    "03_land_cover": {
        "land_cover.tif",
        *(
            f"{head}_{data}.tif{suffix}"
            for head in ("embedding", "neighbours")
            for data in ("all_places", "none_of_Africa")
            for suffix in ("", ".aux.xml")
        ),
        "classes.png",
        "africa.png",
        "intervals.png",
    },
    "04_why_spatial_validation": {
        "altitude.tif",
        "folds.png",
        "errors.png",
        "altitude.png",
        "distance.png",
    },
    "06_geolocate": {"radius.png", "answers.png", "answers.html", "andes.png", "evaluation"},
    "05_region_classification": {
        "zones.tif",
        "climate",
        "predicted.tif",
        "predicted.tif.aux.xml",
        "calibration.png",
        "zones.png",
        "sets.png",
    },
    "07_train_on_blue_marble": {
        *("run", "model", "whole", "stopped"),
        *("crops.png", "errors.png", "where.png", "answers.png", "scores.png", "world.png"),
    },
    "08_fine_tune_a_region": {
        *("world-run", "anchored-run", "free-run", "scale-anchored-run", "scale-free-run"),
        *("world", "anchored", "free", "scale-anchored", "scale-free"),
        *("pictures.png", "errors.png", "before_and_after.png", "moved.png"),
    },
    "09_compare_geolocalizers": {
        *("pictures", "train.csv", "test.csv", "features", "benchmark", "report", "system"),
        *("split.png", "curves.png", "density.png", "regions.png"),
    },
    "10_large_table_on_a_cluster": {"land", "embedded", "like_marrakesh.png"},
}
# Bundled plugins run as they lie here, installed or not.
PLUGINS = os.pathsep.join(str(p.parent) for p in ROOT.glob("plugins/*/pyproject.toml"))
# A minute on two cores, whatever else runs beside it.
CPU_SECONDS = 120


def test_the_tutorials_are_here():
    assert {path.stem for path in TUTORIALS} == set(WRITES)


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": PLUGINS},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < CPU_SECONDS, f"{used:.0f} CPU seconds"
    assert {file.name for file in tmp_path.iterdir()} == WRITES[path.stem]
    for picture in tmp_path.glob("*.png"):
        assert picture.stat().st_size > 20_000, f"{picture.name} looks empty"


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_opens_as_a_notebook_with_text_and_code(path):
    notebook = jupytext.read(path, fmt="py:percent")
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    # Told, not only shown: no run of code without a word.
    assert kinds.count("markdown") >= 8
    assert kinds.count("code") >= 10
