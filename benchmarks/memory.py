"""Peak memory, each case in a process of its own so that nothing else is counted.

Run as a script with the name of a case, it prints one number in megabytes.
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from figures import Figure

POINTS = 1_000_000
FILE_ROWS = (300_000, 3_000_000)
# Few distinct places keep the run short; memory depends on rows and blocks, not on places.
FILE_PLACES = 5_000


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


def array_case() -> float:
    """Peak above the output array while 1 M distinct points are encoded."""
    from featurize import points

    import geoembed as ge

    lon, lat = points(POINTS)
    encoder = ge.load_encoder("geoclip.v1", device="cpu")
    ge.encode(lon[:5000], lat[:5000], encoder=encoder)
    reset_peak()
    before = peak_mb()
    vectors = ge.encode(lon, lat, encoder=encoder, progress=False)
    return peak_mb() - before - vectors.nbytes / 1e6


def file_case(rows: int) -> float:
    """Peak of a process that embeds a file of so many rows into GeoParquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from featurize import points

    from geoembed.streaming import embed_file

    lon, lat = points(FILE_PLACES)
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "in.parquet", Path(name) / "out.parquet"
        rng = np.random.default_rng(0)
        schema = pa.schema([("id", pa.int64()), ("lon", pa.float64()), ("lat", pa.float64())])
        with pq.ParquetWriter(source, schema) as writer:
            for start in range(0, rows, 100_000):
                which = rng.integers(0, FILE_PLACES, 100_000)
                ids = np.arange(start, start + 100_000)
                writer.write_table(pa.table([ids, lon[which], lat[which]], schema=schema))
        reset_peak()
        report = embed_file(source, target, dtype="float32", progress=False)
        assert report.rows == rows
        return peak_mb()


def run_case(*case: str) -> float:
    """Run a case in a fresh process."""
    command = [sys.executable, __file__, *case]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def memory() -> Iterator[Figure]:
    """Measure arrays and files."""
    above = run_case("array")
    yield Figure(f"peak memory above the output, {POINTS:,} points", above, "MB", 600.0)
    small, large = (run_case("file", str(rows)) for rows in FILE_ROWS)
    yield Figure(f"file to file, peak, {FILE_ROWS[0]:,} rows", small, "MB")
    yield Figure(f"file to file, peak, {FILE_ROWS[1]:,} rows", large, "MB")
    yield Figure("file to file, ratio of the peaks", large / small, "x", 1.10)


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    print(array_case() if kind == "array" else file_case(int(rest[0])))
