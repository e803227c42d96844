"""File to file: memory, and speed against the featurizer, Parquet alone and the disk."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from featurize import points
from figures import Figure, Growth, alternate, ratios, timed
from memory import FILE_PLACES, run_case

import geoembed as ge
from geoembed.streaming import embed_file

__all__ = ["files"]

ROWS = (30_000, 300_000, 3_000_000)
DISTINCT = 20_000
REPEATED = 200_000
_GROUP = 50_000


def files(
    rows: Sequence[int] = ROWS, distinct: int = DISTINCT, repeated: int = REPEATED
) -> Iterator[Figure]:
    """Measure files.

    Parameters
    ----------
    rows : sequence of int
        Rows of files of few places, whose time and memory are watched; the last two are compared.
    distinct : int
        Rows of a file whose places all differ: the network takes the time.
    repeated : int
        Rows of a file of few places: writing takes the time.
    """
    yield from against_the_featurizer(distinct)
    yield from against_writing(repeated)
    peaks = []
    for count in rows:
        found = run_case("file", str(count))
        peaks.append(found["peak_mb"])
        growth = Growth(f"file to file, {FILE_PLACES:,} places", "rows", count)
        yield Figure(f"file to file, {count:,} rows", found["seconds"], "s", growth=growth)
        most = 1500.0 if count >= 3_000_000 else None
        yield Figure(f"file to file, peak, {count:,} rows", peaks[-1], "MB", most)
    # Small files have small batches: how their peak grows says nothing.
    held = 1.10 if rows[-2] >= 300_000 else None
    yield Figure("file to file, ratio of the peaks", peaks[-1] / peaks[-2], "x", held)


def against_the_featurizer(rows: int = DISTINCT) -> Iterator[Figure]:
    """Compare a file of distinct places with encoding the same places in memory."""
    lon, lat = points(rows)
    encoder = ge.load_encoder("geoclip.v1", device="cpu")
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name, "in.parquet"), Path(name, "out.parquet")
        pq.write_table(pa.table({"id": np.arange(rows), "lon": lon, "lat": lat}), source)
        whole, bare = alternate(
            lambda: embed_file(source, target, force=True, progress=False),
            lambda: ge.encode(lon, lat, encoder=encoder, progress=False),
        )
    name = f"file to file, {rows:,} distinct places"
    yield timed(name, [rows / t for t in whole], "rows/s")
    ceiling = "encoding the same places in memory"
    yield timed(f"{name}: share of the ceiling", ratios(bare, whole), "x", ceiling=ceiling)


def against_writing(rows: int = REPEATED) -> Iterator[Figure]:
    """Compare a file of few places with writing its vectors, as Parquet and as plain bytes."""
    which = np.random.default_rng(0).integers(0, FILE_PLACES, rows)
    lon, lat = (each[which] for each in points(FILE_PLACES))
    vectors = ge.encode(lon, lat, progress=False)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    table = pa.table({"id": np.arange(rows), "lon": lon, "lat": lat, "embedding": column})
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name, "in.parquet"), Path(name, "out.parquet")
        other, plain = Path(name, "bare.parquet"), Path(name, "plain")
        pq.write_table(table.drop_columns("embedding"), source)

        def write() -> None:
            # As the library writes vectors: nothing looks for repetition where there is none.
            pq.write_table(
                table,
                other,
                compression="zstd",
                row_group_size=_GROUP,
                use_dictionary=["id", "lon", "lat"],
                write_statistics=["id", "lon", "lat"],
                column_encoding={"embedding.list.element": "BYTE_STREAM_SPLIT"},
            )

        def dump() -> None:
            with plain.open("wb") as file:
                file.write(vectors.data)
                file.flush()
                os.fsync(file.fileno())

        whole, parquet, disk = alternate(
            lambda: embed_file(source, target, force=True, progress=False, dtype="float32"),
            write,
            dump,
            rounds=3,
        )
    name = f"file to file, {rows:,} rows of {FILE_PLACES:,} places"
    yield timed(name, [rows / t for t in whole], "rows/s")
    ceiling = "writing the same vectors as Parquet (zstd), and nothing else"
    yield timed(f"{name}: share of the ceiling", ratios(parquet, whole), "x", ceiling=ceiling)
    rates = [vectors.nbytes / t / 1e6 for t in disk]
    yield timed("disk: the same vectors as plain bytes, synced", rates, "MB/s")
    ceiling = "the disk: the same vectors as plain bytes, synced"
    yield timed(f"{name}: share of the disk", ratios(disk, whole), "x", ceiling=ceiling)
