"""Workers against one process, memory of large files through workers, and a billion rows on paper.

Run as a script it measures all of it, on two free cores in about ten minutes:
``python benchmarks/scaling.py [--rows N] [--file-rows N] [--rounds N]``.
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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from figures import Figure, ratios, timed

ROWS, PARTITIONS = 1_000_000, 8
FILE_ROWS, FILE_PLACES, GROUP = 3_000_000, 5_000, 250_000
ROUNDS = 3
BILLION = 1_000_000_000
WORKERS = 16
DIMENSION = 512
# Of the network of geoclip.v1: three times 512-1024-1024-1024-512, a product and a sum each.
FLOPS_A_POINT = 3 * 2 * (512 * 1024 + 1024 * 1024 + 1024 * 1024 + 1024 * 512)
# Peaks of GPUs as their maker's data sheets give them, without sparsity: 10^12 operations a second
# in float32, and in float16 with sums in float32.
GPUS = {"T4": (8.1, 65.0), "L4": (30.3, 121.0), "H100 SXM": (67.0, 989.0)}
# Share of the peak that a chain of small products reaches: assumed. A link of 10 Gbit/s: assumed.
GPU_SHARE, LINK_BYTES = 0.4, 1.25e9


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


def throughput(rows: int = ROWS, rounds: int = ROUNDS) -> list[Figure]:
    """Two workers of one thread against one process of two, in turn; file to file beside them."""
    from geoembed.scaling import embed_folder
    from geoembed.streaming import embed_file

    with tempfile.TemporaryDirectory() as name, two_workers() as client:
        source = Path(name) / "in.parquet"
        write(source, rows, rows // PARTITIONS)
        one, two, file, folder = [], [], [], []
        for number in range(rounds):
            one.append(one_process(rows, source))
            two.append(two_processes(client, rows, source))
            out = Path(name) / f"out-{number}"
            started = time.perf_counter()
            embed_folder(source, out, scheduler=client, progress=False)
            folder.append(rows / (time.perf_counter() - started))
            started = time.perf_counter()
            embed_file(source, Path(name) / "o.parquet", force=True, progress=False)
            file.append(rows / (time.perf_counter() - started))
        size = sum(part.stat().st_size for part in out.glob("part-*")) / rows
    target = {"target": 0.85, "at_most": False}
    gain, files = ratios(two, one), ratios(folder, file)
    return [
        timed("one process of two threads, in memory", one, "rows/s"),
        timed("two workers of one thread, frame of dask", two, "rows/s"),
        timed("two workers of one thread to one process of two", gain, "x", **target),
        timed("two workers of one thread, folder to folder", folder, "rows/s"),
        timed("folder on two workers to file in one process", files, "x", **target),
        Figure("a row in a part file", size, "bytes"),
    ]


def writing(rows: int = 200_000, rounds: int = ROUNDS, dtype: str = "float32") -> Figure:
    """Rows a second of one core from file to file where vectors cost nothing: all but the network.

    Parameters
    ----------
    rows : int
        Distinct places.
    rounds : int
        How often.
    dtype : str
        Of the values.
    """
    from geoembed.streaming import embed_file

    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "in.parquet"
        write(source, rows, rows)
        rates = []
        for _ in range(rounds):
            started = time.perf_counter()
            embed_file(
                source, Path(name) / "o.parquet", encoder=_ready(dtype), force=True, progress=False
            )
            rates.append(rows / (time.perf_counter() - started))
    return timed(f"file to file with vectors that cost nothing, {dtype}", rates, "rows/s")


def _ready(dtype: str):
    """An encoder of 512 values that looks like one to the disk, and computes next to nothing."""
    from geoembed.encoders.base import LocationEncoder
    from geoembed.extending.specs import LocationEncoderSpec

    made = np.random.default_rng(0).normal(size=(8192, DIMENSION)).astype(np.float32)

    class Ready(LocationEncoder):
        def _encode_block(self, lonlat):
            return made[: len(lonlat)]

    spec = LocationEncoderSpec(
        name="ready.v1", factory="scaling:Ready", dimension=DIMENSION, summary="Vectors at hand"
    )
    return Ready(spec, dtype=dtype, block_size=len(made))


def equality(rows: int = ROWS) -> list[Figure]:
    """The largest difference to one process at equal block composition, a worker killed: none."""
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
        report = embed_folder(source, out, scheduler=client, batch_rows=32_768, progress=False)
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
        report = embed_folder(source, Path(name) / "out", scheduler=client, progress=False)
        assert report.rows == rows
        peaks = [
            int(line.split()[1]) / 1e3
            for pid in workers_of(client)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        ]
    return [Figure(f"{rows / 1e6:g} M rows on workers, the larger's peak", max(peaks), "MB", 1500)]


def on_paper(
    rate: float, bytes_a_row: float, price: float = 0.05, workers: int = WORKERS
) -> list[Figure]:
    """What a billion rows take on workers of one core, at a rate measured here.

    Parameters
    ----------
    rate : float
        Rows a second of a worker of one thread, file to file.
    bytes_a_row : float
        In a part file.
    price : float
        Of a core for an hour, in dollars; what providers ask differs by more than the rest.
    workers : int
        How many.
    """
    hours = BILLION / rate / workers / 3600
    return [
        Figure(f"a billion rows on {workers} cores", hours, "h"),
        Figure("the same, core hours", hours * workers, "h"),
        Figure(f"the same at {price} dollars an hour a core", hours * workers * price, "dollars"),
        Figure("the same, written", BILLION * bytes_a_row / 1e12, "TB"),
        Figure("the same, written a second", bytes_a_row * rate * workers / 1e6, "MB/s"),
    ]


def on_paper_gpu(
    bytes_a_row: float, writing_rate: float, workers: int = WORKERS, cores: int = 4
) -> list[Figure]:
    """What a billion rows would take on workers of one GPU: of data sheets, nothing is measured.

    Parameters
    ----------
    bytes_a_row : float
        In a part file.
    writing_rate : float
        Rows a second of one core, file to file, where vectors cost nothing; measured here.
    workers : int
        How many GPUs, each with its own link.
    cores : int
        Beside each GPU, to read, compress and write; four are what providers give with a T4 or L4.
    """
    sides = {
        "its link": LINK_BYTES / bytes_a_row,
        f"its {cores} cores": writing_rate * cores,
    }
    found = []
    for name, (float32, float16) in GPUS.items():
        for kind, peak in (("float32", float32), ("float16", float16)):
            rate = GPU_SHARE * peak * 1e12 / FLOPS_A_POINT
            what = f"on paper, not measured: a billion rows on {workers} {name} in {kind}"
            hours = BILLION / workers / 3600
            found.append(Figure(f"{what}, the network", hours / rate, "h"))
            for side, limit in sides.items():
                if kind == "float32":
                    found.append(Figure(f"{what}, {side}", hours / limit, "h"))
    return found


def scaling(
    rows: int = ROWS, file_rows: int = FILE_ROWS, rounds: int = ROUNDS, written: int = 200_000
) -> list[Figure]:
    """Everything."""
    found = throughput(rows, rounds)
    values = {figure.name: figure.value for figure in found}
    size = values["a row in a part file"]
    folder = values["two workers of one thread, folder to folder"]
    ready = [writing(written, rounds, dtype) for dtype in ("float32", "float16")]
    return [
        *found,
        *equality(rows),
        *memory(file_rows),
        *ready,
        *on_paper(folder / 2, size),
        *on_paper_gpu(size, ready[0].value),
    ]


def main() -> None:
    """Measure, and print a line a figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--file-rows", type=int, default=FILE_ROWS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    for figure in scaling(arguments.rows, arguments.file_rows, arguments.rounds):
        verdict = {None: "", True: "  met", False: "  MISSED"}[figure.met]
        print(f"{figure.name:<75} {figure.value:>14,.3f} {figure.unit}{verdict}", flush=True)


if __name__ == "__main__":
    main()
