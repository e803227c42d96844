"""Memory does not grow with the file."""

import os
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

CODE = """
import sys
import numpy as np
from geoembed.encoders.base import LocationEncoder
from geoembed.extending import LocationEncoderSpec
from geoembed.streaming import embed_file

class Waves(LocationEncoder):
    def _encode_block(self, lonlat):
        return np.sin(lonlat @ np.arange(1.0, 1025.0).reshape(2, 512))

spec = LocationEncoderSpec(name="waves", factory="m:a", dimension=512, summary="Sines")
# Small batches, so that the smaller file too is read in many.
embed_file(*sys.argv[1:], encoder=Waves(spec), batch_rows=2048, progress=False)
# The high-water mark of this process: that of getrusage begins with its parent's.
(line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(line.split()[1]) / 1024)
"""


# What is freed goes back at once. Else every thread's allocator keeps some of it, and how much
# depends on how the threads take turns: 40 MB between two runs of the same file.
ALLOCATORS = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
# Of the vectors that were written (0.6 GB for 300,000 rows), how much may add to the peak.
MAY_STAY = 0.1


def peak_mb(source, target):
    command = [sys.executable, "-c", CODE, str(source), str(target)]
    environment = {**os.environ, **ALLOCATORS}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    os.unlink(target)
    return float(done.stdout)


def write(rows, path):
    draw = np.random.default_rng(0)
    # Few distinct places, so that it is reading and writing that is measured.
    lon, lat = draw.uniform(-90, 90, (2, 500))[:, draw.integers(0, 500, rows)]
    table = pd.DataFrame({"n": np.arange(rows), "name": "somewhere", "lon": lon, "lat": lat})
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        frame = gpd.GeoDataFrame(table, geometry=gpd.points_from_xy(lon, lat), crs=4326)
        frame.drop(columns=["lon", "lat"]).to_parquet(path)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("source", "target"),
    [("t.parquet", "o.parquet"), ("t.csv", "o.parquet"), ("t.parquet", "o.npy")],
)
def test_ten_times_the_rows_take_the_same_memory(tmp_path, source, target):
    peaks = {}
    for rows in (30_000, 300_000):
        write(rows, tmp_path / source)
        peaks[rows] = peak_mb(tmp_path / source, tmp_path / target)
    vectors_mb = (300_000 - 30_000) * 512 * 4 / 2**20
    assert peaks[300_000] - peaks[30_000] < MAY_STAY * vectors_mb, peaks
