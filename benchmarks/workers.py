"""How the rate grows with workers: one folder, embedded on one worker of a thread and on two."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from featurize import points
from figures import Figure, Growth, ratios, timed

__all__ = ["workers"]

ROWS, PARTITIONS, ROUNDS = 40_000, 4, 3


def workers(
    rows: int = ROWS, counts: Sequence[int] = (1, 2), rounds: int = ROUNDS
) -> Iterator[Figure]:
    """Embed a folder on clusters of one thread a worker, which take turns.

    Parameters
    ----------
    rows : int
        Distinct places, in four row groups.
    counts : sequence of int
        How many workers; the first is what the others are compared with.
    rounds : int
        Rounds of each.
    """
    from geoembed.scaling import embed_folder

    taken: dict[int, list[float]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        source = Path(name, "in.parquet")
        lon, lat = points(rows)
        table = pa.table({"id": np.arange(rows), "lon": lon, "lat": lat})
        pq.write_table(table, source, row_group_size=-(-rows // PARTITIONS))
        clients = {count: stack.enter_context(_Cluster(count)) for count in counts}
        for number in range(rounds):
            for count, client in clients.items():
                started = time.perf_counter()
                embed_folder(
                    source, Path(name, f"out-{count}-{number}"), scheduler=client, progress=False
                )
                taken[count].append(time.perf_counter() - started)
    for count, times in taken.items():
        what = "1 worker" if count == 1 else f"{count} workers"
        growth = Growth("folder to folder on workers of one thread", "workers", count)
        yield timed(f"{what}, folder of {rows:,} rows", times, "s", growth=growth)
        if count != counts[0]:
            gain = ratios(taken[counts[0]], times)
            yield timed(f"{what}: times as fast as {counts[0]}", gain, "x", better="more")


class _Cluster:
    """A scheduler and workers as processes, weights loaded, as long as the context lasts."""

    def __init__(self, count: int) -> None:
        self.count, self.stack = count, ExitStack()

    def __enter__(self) -> Any:
        from distributed import Client, SubprocessCluster

        cluster = self.stack.enter_context(
            SubprocessCluster(
                n_workers=self.count,
                threads_per_worker=1,
                dashboard_address=None,
                worker_kwargs={"memory_limit": "4GB"},
                silence_logs=50,
            )
        )
        client = self.stack.enter_context(Client(cluster, set_as_default=False))
        client.wait_for_workers(self.count, timeout=120)
        client.run(eval, "__import__('geoembed').encode([0.0], [0.0]) is None")
        return client

    def __exit__(self, *error: object) -> None:
        self.stack.close()
