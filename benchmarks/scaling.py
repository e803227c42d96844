"""Workers against one process, memory of large files through workers, and a billion rows on paper.

Run as a script it measures all of it, on two free cores in about ten minutes:
``python benchmarks/scaling.py [--rows N] [--file-rows N]``.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from figures import Figure

ROWS, PARTITIONS = 1_000_000, 8
FILE_ROWS, FILE_PLACES, GROUP = 3_000_000, 5_000, 250_000
ROUNDS = 3
BILLION = 1_000_000_000
WORKERS = 16
# A vector of 512 float32 as it lies in Parquet: compression takes a sixth.
BYTES_A_ROW = 512 * 4 * 5 / 6


def write(path: Path, rows: int, group: int, places: int | None = None) -> None:
    """Write a Parquet file of places: all distinct, or so many that repeat."""
    from featurize import points

    rng = np.random.default_rng(0)
    lon, lat = points(places or rows)
    schema = pa.schema([("id", pa.int64()), ("lon", pa.float64()), ("lat", pa.float64())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, group):
            ids = np.arange(start, min(start + group, rows))
            which = ids if places is None else rng.integers(0, places, len(ids))
            writer.write_table(pa.table([ids, lon[which], lat[which]], schema=schema))


@contextmanager
def two_workers():
    """Start a scheduler and two workers of one thread, and have them load the weights."""
    from distributed import Client, SubprocessCluster

    with (
        SubprocessCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            worker_kwargs={"memory_limit": "4GB"},
            silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(2, timeout=120)
        client.run(eval, "__import__('geoembed').encode([0.0], [0.0]) is None")
        yield client


def workers_of(client) -> list[int]:
    """Return the process numbers of the workers."""
    return list(client.run(eval, "__import__('os').getpid()").values())


def one_process(rows: int, source: Path) -> float:
    """Rows a second of one process with two threads, over the same partitions."""
    code = (
        "import sys, time, torch, numpy as np, pyarrow.parquet as pq, geoembed as ge\n"
        "torch.set_num_threads(2)\n"
        "ge.encode([0.0], [0.0])\n"
        "started = time.perf_counter()\n"
        "file = pq.ParquetFile(sys.argv[1])\n"
        "for group in range(file.num_row_groups):\n"
        "    table = file.read_row_group(group)\n"
        "    ge.encode(table['lon'].to_numpy(), table['lat'].to_numpy(), progress=False)\n"
        "print(time.perf_counter() - started)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(source)],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    return rows / float(done.stdout)


def two_processes(client, rows: int, source: Path) -> float:
    """Rows a second of two workers of one thread, through a frame of dask."""
    import dask.dataframe as dd

    import geoembed as ge

    with client.as_current():
        frame = dd.read_parquet(source, split_row_groups=True)
        # The sum is made where the vectors are: they are not sent here.
        work = ge.embed(frame, layout="columns")["geoclip.v1_000"].sum()
        started = time.perf_counter()
        work.compute()
        return rows / (time.perf_counter() - started)


def throughput(rows: int = ROWS) -> list[Figure]:
    """Two workers of one thread against one process of two, in turn; file to file beside them."""
    from geoembed.scaling import embed_folder
    from geoembed.streaming import embed_file

    with tempfile.TemporaryDirectory() as name, two_workers() as client:
        source = Path(name) / "in.parquet"
        write(source, rows, rows // PARTITIONS)
        one, two, file, folder = [], [], [], []
        for number in range(ROUNDS):
            one.append(one_process(rows, source))
            two.append(two_processes(client, rows, source))
            started = time.perf_counter()
            embed_folder(source, Path(name) / f"out-{number}", scheduler=client)
            folder.append(rows / (time.perf_counter() - started))
            started = time.perf_counter()
            embed_file(source, Path(name) / "o.parquet", force=True, progress=False)
            file.append(rows / (time.perf_counter() - started))
        ratios = [b / a for a, b in zip(one, two, strict=True)]
        files = [b / a for a, b in zip(file, folder, strict=True)]
    return [
        Figure("one process of two threads, in memory", median(one), "rows/s"),
        Figure("two workers of one thread, frame of dask", median(two), "rows/s"),
        Figure("two workers of one thread to one process of two", median(ratios), "x", 0.85, False),
        Figure("two workers of one thread, folder to folder", median(folder), "rows/s"),
        Figure("folder on two workers to file in one process", median(files), "x", 0.85, False),
    ]


def equality(rows: int = ROWS) -> list[Figure]:
    """The largest difference to one process at equal block composition: none."""
    import pyarrow.dataset as ds

    import geoembed as ge
    from geoembed.scaling import embed_folder

    with tempfile.TemporaryDirectory() as name, two_workers() as client:
        source, out = Path(name) / "in.parquet", Path(name) / "out"
        group = rows // PARTITIONS
        write(source, rows, group)
        pids = workers_of(client)
        killed = threading.Thread(target=_kill_midway, args=(out, pids[0]))
        killed.start()
        report = embed_folder(source, out, scheduler=client, batch_rows=32_768)
        killed.join()
        assert (report.parts, report.rows) == (PARTITIONS, rows)
        file = pq.ParquetFile(source)
        worst = 0.0
        parts = sorted(ds.dataset(out, format="parquet").files)
        for number, part in enumerate(parts):
            table = file.read_row_group(number)
            got = pq.ParquetFile(part)
            start = 0
            for batch in range(got.num_row_groups):
                column = got.read_row_group(batch)["embedding"].combine_chunks()
                vectors = column.flatten().to_numpy().reshape(-1, 512)
                rest = table.slice(start, len(vectors))
                start += len(vectors)
                expected = ge.encode(rest["lon"].to_numpy(), rest["lat"].to_numpy(), progress=False)
                worst = max(worst, float(np.abs(vectors - expected).max()))
    return [Figure("two workers, one killed midway, to one process", worst, "difference", 0.0)]


def _kill_midway(out: Path, process: int) -> None:

    while len(list(out.glob("part-*"))) < 2:
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)


def memory(rows: int = FILE_ROWS) -> list[Figure]:
    """Peak memory of the largest worker, 3 M rows file to file."""
    from geoembed.scaling import embed_folder

    with tempfile.TemporaryDirectory() as name, two_workers() as client:
        source = Path(name) / "in.parquet"
        write(source, rows, GROUP, FILE_PLACES)
        report = embed_folder(source, Path(name) / "out", scheduler=client)
        assert report.rows == rows
        peaks = [
            int(line.split()[1]) / 1e3
            for pid in workers_of(client)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        ]
    return [Figure(f"{rows / 1e6:g} M rows on workers, the larger's peak", max(peaks), "MB", 1500)]


def on_paper(rate: float, price: float = 0.05) -> list[Figure]:
    """What a billion rows take on 16 workers of one core at a rate measured here.

    Parameters
    ----------
    rate : float
        Rows a second of a worker of one thread, file to file.
    price : float
        Of a core for an hour, in dollars; what providers ask differs by more than the rest.
    """
    hours = BILLION / rate / WORKERS / 3600
    return [
        Figure(f"a billion rows on {WORKERS} cores", hours, "h"),
        Figure("the same, core hours", hours * WORKERS, "h"),
        Figure(f"the same at {price} dollars an hour a core", hours * WORKERS * price, "dollars"),
        Figure("the same, written", BILLION * BYTES_A_ROW / 1e12, "TB"),
        Figure("the same, written a second", BYTES_A_ROW * rate * WORKERS / 1e6, "MB/s"),
    ]


def scaling(rows: int = ROWS, file_rows: int = FILE_ROWS) -> list[Figure]:
    """Everything."""
    found = throughput(rows)
    folder = next(f.value for f in found if "folder to folder" in f.name)
    return [*found, *equality(rows), *memory(file_rows), *on_paper(folder / 2)]


def main() -> None:
    """Measure, and print a line a figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--file-rows", type=int, default=FILE_ROWS)
    arguments = parser.parse_args()
    for figure in scaling(arguments.rows, arguments.file_rows):
        verdict = {None: "", True: "  met", False: "  MISSED"}[figure.met]
        print(f"{figure.name:<55} {figure.value:>14,.3f} {figure.unit}{verdict}", flush=True)


if __name__ == "__main__":
    main()
