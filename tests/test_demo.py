"""`make demo` as a person runs it: what it prints, what it writes, how much work it is."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
# A little over a minute on two cores, whatever else runs beside it.
CPU_SECONDS = 150


@pytest.mark.slow
def test_the_demo_embeds_probes_and_draws(tmp_path):
    command = [sys.executable, str(ROOT / "tools" / "demo.py"), "--output", str(tmp_path)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < CPU_SECONDS, f"{used:.0f} CPU seconds"
    said = done.stdout

    rows = int(re.search(r"rows +([\d,]+)", said)[1].replace(",", ""))
    assert rows > 30_000
    assert re.search(r"dimension +512", said)
    assert re.search(r"speed +[\d,]+ points per second", said)
    assert re.search(r"peak memory +[\d,]+ MB", said)
    assert re.search(r"Everything took \d+ s", said)

    table = gpd.read_parquet(tmp_path / "cities.parquet")
    assert len(table) == rows
    assert table.crs.to_epsg() == 4326
    assert np.isfinite(np.stack(table["embedding"].head(1000))).all()

    shares = {name: float(share) for name, share in re.findall(r"  (\S.+?) +([\d.]+)% right", said)}
    linear = shares["plain lon/lat, linear"]
    assert shares["embedding, layers='final', linear"] > linear + 25
    assert shares["embedding, layers='scales', linear"] > linear + 25

    crops = sorted((ROOT / "tools" / "demo_crops").glob("*.png"))
    away = [float(km.replace(",", "")) for km in re.findall(r"off by ([\d,]+) km", said)]
    assert len(away) == len(crops) >= 5
    # Chance is 8,000 km.
    assert np.median(away) < 5000

    for name in ("embedding_map.png", "similarity_map.png", "satellite_pictures.png"):
        assert (tmp_path / name).stat().st_size > 50_000
    for name in ("Venice, IT", "Nairobi, KE", "Vancouver, CA"):
        assert re.search(rf"{name} +\S+.*\(0\.\d\d\)", said)
