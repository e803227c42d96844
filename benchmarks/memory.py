"""Peak memory, each case in a process of its own so that nothing else is counted.

Run as a script with the name of a case and its size, it prints what it found as a line of JSON.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

__all__ = ["FILE_PLACES", "array_case", "file_case", "peak_mb", "reset_peak", "run_case"]

# Few distinct places keep the run short; memory depends on rows and blocks, not on places.
FILE_PLACES = 5_000
_ROWS_AT_A_TIME = 100_000


def peak_mb() -> float:
    """Return the largest resident memory of this process since it was last reset."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(li for li in status.read_text().splitlines() if li.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def reset_peak() -> None:
    """Forget the peak so far, where the system can (Linux)."""
    refs = Path("/proc/self/clear_refs")
    if refs.exists():
        refs.write_text("5")


def array_case(size: int) -> dict[str, Any]:
    """Encode many distinct points: seconds, peak above the output, and the products around it."""
    from featurize import CEILING_POINTS, matrix_products, points
    from figures import seconds

    import geoembed as ge

    lon, lat = points(size)
    encoder = ge.load_encoder("geoclip.v1", device="cpu")
    block, products = encoder.blocks_of(), min(CEILING_POINTS, size)
    ge.encode(lon[:5000], lat[:5000], encoder=encoder, progress=False)
    around = [seconds(lambda: matrix_products(products, block))]
    reset_peak()
    before, started = peak_mb(), perf_counter()
    vectors = ge.encode(lon, lat, encoder=encoder, progress=False)
    taken, peak = perf_counter() - started, peak_mb() - before - vectors.nbytes / 1e6
    around.append(seconds(lambda: matrix_products(products, block)))
    return {"seconds": taken, "peak_mb": peak, "products": around}


def file_case(rows: int) -> dict[str, Any]:
    """Embed a file of so many rows, of few places, into GeoParquet: seconds and peak."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from featurize import points

    import geoembed as ge
    from geoembed.streaming import embed_file

    ge.encode([0.0], [0.0], progress=False)  # weights are loaded once, whatever a file's size
    lon, lat = points(FILE_PLACES)
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "in.parquet", Path(name) / "out.parquet"
        rng = np.random.default_rng(0)
        schema = pa.schema([("id", pa.int64()), ("lon", pa.float64()), ("lat", pa.float64())])
        with pq.ParquetWriter(source, schema) as writer:
            for start in range(0, rows, _ROWS_AT_A_TIME):
                ids = np.arange(start, min(start + _ROWS_AT_A_TIME, rows))
                which = rng.integers(0, FILE_PLACES, len(ids))
                writer.write_table(pa.table([ids, lon[which], lat[which]], schema=schema))
        reset_peak()
        started = perf_counter()
        report = embed_file(source, target, dtype="float32", progress=False)
        taken, peak = perf_counter() - started, peak_mb()
        if report.rows != rows:
            raise AssertionError(f"{report.rows:,} rows were written of {rows:,}")
        return {"seconds": taken, "peak_mb": peak}


def run_case(*case: str) -> dict[str, Any]:
    """Run a case in a fresh process."""
    command = [sys.executable, __file__, *case]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    kind, size = sys.argv[1], int(sys.argv[2])
    print(json.dumps(array_case(size) if kind == "array" else file_case(size)))
