"""The recipes of docs/scale.md, run as they stand, where their engines are installed."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest

import geoembed as ge

PAGE = (Path(__file__).parents[1] / "docs" / "scale.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
# What stands before a recipe here: small engines that ask nobody outside.
BEFORE = {
    "pyspark": "",
    "ray": "import ray\nray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)\n",
}
AFTER = {"pyspark": "", "ray": "ray.shutdown()\n"}


def recipe(engine):
    (block,) = [block for block in BLOCKS if re.search(rf"^(from|import) {engine}\b", block, re.M)]
    return block


def needs(engine):
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    if engine == "pyspark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java, and there is none")


@pytest.mark.parametrize("engine", BEFORE)
def test_recipes_are_short(engine):
    lines = [line for line in recipe(engine).splitlines() if line]
    assert len(lines) <= 25


def test_blocks_of_the_page_run(tmp_path, monkeypatch):
    for engine in ("dask_geopandas", "duckdb"):
        needs(engine)
    monkeypatch.chdir(tmp_path)
    names = {}
    others = [block for block in BLOCKS if block not in {recipe(engine) for engine in BEFORE}]
    assert len(others) == 3
    for block in others:
        exec(compile(block, "docs/scale.md", "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize("engine", BEFORE)
def test_recipe_runs(engine, tmp_path):
    needs(engine)
    cities = ge.data.load_cities().head(300)
    lon, lat = cities["lon"].to_numpy(), cities["lat"].to_numpy()
    (tmp_path / "places").mkdir()
    table = pd.DataFrame({"id": range(300), "lon": lon, "lat": lat})
    for part in range(3):
        table[part::3].to_parquet(tmp_path / "places" / f"{part}.parquet", index=False)
    (tmp_path / "recipe.py").write_text(BEFORE[engine] + recipe(engine) + AFTER[engine])
    environment = {
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    done = subprocess.run(
        [sys.executable, "recipe.py"],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    back = ds.dataset(tmp_path / "embedded", format="parquet").to_table().to_pandas()
    back = back.sort_values("id")
    assert back["id"].tolist() == list(range(300))
    np.testing.assert_allclose(np.stack(back["embedding"]), ge.encode(lon, lat), atol=5e-6)
