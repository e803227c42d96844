"""Galleries: search against a bare matrix product, memory at ten million places, rate of building.

Run as a script with a number of rows and a folder, it searches synthetic rows that lie in a file
and prints one line of JSON: that case has a process of its own, so that nothing else is counted.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import numpy as np
import torch
from featurize import points
from figures import Figure, Growth, alternate, ratios, timed
from memory import peak_mb, reset_peak

import geoembed as ge
from geoembed.galleries import GalleryPlaces, load_gallery
from geoembed.galleries.gallery import Gallery
from geoembed.galleries.index import ExactIndex

__all__ = ["galleries"]

ROWS = (1_000, 10_000, 100_000, 1_000_000)
# Rows at which k grows, and the comparison with a bare product is held to its target.
USUAL = 100_000
KS = (1, 10, 100)
WIDTH = 512
BUILT = 20_480
LARGE_ROWS = 10_000_000
MOST_GB = 12.0
# Rows made at a time.
_BLOCK = 100_000


def unit_rows(count: int, seed: int = 0) -> np.ndarray:
    """Return random unit vectors."""
    rows = np.random.default_rng(seed).standard_normal((count, WIDTH), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def search(
    rows: Sequence[int] = ROWS, ks: Sequence[int] = KS, usual: int = USUAL
) -> Iterator[Figure]:
    """Compare searches with a matrix product and `torch.topk` of the same shapes.

    One query reads every row once and does little with it: its ceiling is how fast memory is read.
    """
    for count in rows:
        vectors = unit_rows(count)
        table = torch.from_numpy(vectors)
        index = ExactIndex(vectors, device="cpu")
        rounds = 30 if count <= 100_000 else 7
        for asked in (1, 64):
            yield from _search(index, table, asked, 10, rounds, held=count == usual)
        if count != usual:
            continue
        for k in ks:
            queries = unit_rows(64, seed=1)
            (taken,) = alternate(partial(index.search, queries, k), rounds=10)
            growth = Growth(f"64 queries of {count:,} places", "k", k)
            name = f"search of {count:,} x {WIDTH}, 64 queries, k = {k}"
            yield timed(name, [1000 * t for t in taken], "ms", growth=growth)


def _search(
    index: ExactIndex, table: torch.Tensor, count: int, k: int, rounds: int, *, held: bool
) -> Iterator[Figure]:
    """Compare one search with its bare product, and one query with reading the rows."""
    queries = unit_rows(count, seed=1)
    asked = torch.from_numpy(queries)

    def bare() -> None:
        with torch.inference_mode():
            torch.topk(asked @ table.T, k, dim=1)

    def read() -> None:
        with torch.inference_mode():
            table.sum()

    index.search(queries, k)
    ours, theirs, reading = alternate(lambda: index.search(queries, k), bare, read, rounds=rounds)
    what = "1 query" if count == 1 else f"{count} queries"
    label = f"search of {len(table):,} x {WIDTH}, {what}"
    growth = Growth(f"search, {what}", "places", len(table))
    yield timed(label, [1000 * t for t in ours], "ms", growth=growth)
    most = 1.2 if held else None
    yield timed(f"{label}, against matmul + topk", ratios(ours, theirs), "x", most, better="less")
    if held:
        ceiling = "a matrix product and topk of the same shapes"
        yield timed(f"{label}: share of the ceiling", ratios(theirs, ours), "x", ceiling=ceiling)
    if held and count == 1:
        ceiling = "reading the same rows from memory once (a sum over them)"
        share = ratios(reading, ours)
        yield timed(f"{label}: share of the memory's rate", share, "x", ceiling=ceiling)
        rate = [table.nbytes / t / 1e9 for t in reading]
        yield timed("memory: reading the same rows", rate, "GB/s")


def large(rows: int = LARGE_ROWS) -> Iterator[Figure]:
    """Measure the peak of a process that searches many rows of float16 in a file."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, str(rows), folder],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found = json.loads(done.stdout.splitlines()[-1])
    most = MOST_GB if rows >= LARGE_ROWS else None
    yield Figure(f"peak, {rows:,} places in float16", found["peak_gb"], "GB", most)
    for name, what in (("one", "1 query"), ("many", "64 queries")):
        yield Figure(f"search of {rows:,} places in float16, {what}", found[name], "s")


def large_case(rows: int, folder: str) -> dict[str, float]:
    """Write rows into a file, search them where they lie, and say what it took."""
    path = Path(folder, "rows.npy")
    table = np.lib.format.open_memmap(path, "w+", np.float16, (rows, WIDTH))
    base = unit_rows(_BLOCK)
    for start in range(0, rows, _BLOCK):
        count = min(_BLOCK, rows - start)
        # Blocks differ by a shift: random numbers for all would take longer than everything else.
        table[start : start + count] = np.roll(base[:count], start // _BLOCK, axis=1)
    table.flush()
    del table, base
    reset_peak()
    # Pages of a file that is mapped are counted, though the system may drop them at any time.
    index = ExactIndex(np.load(path, mmap_mode="c"), device="cpu")
    found = {}
    for name, count in (("one", 1), ("many", 64)):
        queries = unit_rows(count, seed=2)
        start_time = perf_counter()
        index.search(queries, 10)
        found[name] = perf_counter() - start_time
    return {**found, "peak_gb": peak_mb() / 1e3}


def building(count: int = BUILT) -> Iterator[Figure]:
    """Compare building a gallery, files and digests included, with the featurizer alone."""
    lon, lat = points(count)
    places = GalleryPlaces.of(np.column_stack([lon, lat]), name="bench")
    encoder = ge.load_encoder("geoclip.v1", device="cpu", normalize=True)
    with tempfile.TemporaryDirectory() as cache, patch.dict(os.environ, GEOEMBED_CACHE=cache):
        folder = Path(cache, "built")

        def build() -> None:
            Gallery.build(places, folder, encoder=encoder, progress=False, force=True)

        ours, theirs = alternate(
            build,
            lambda: ge.encode(lon, lat, encoder=encoder, progress=False),
            rounds=3,
        )
    name = f"building a gallery of {count:,} places"
    yield timed(name, [count / t for t in ours], "places/s")
    most = 1.1 if count >= BUILT else None
    yield timed(f"{name}, against the featurizer", ratios(ours, theirs), "x", most, better="less")
    ceiling = "the featurizer alone, on the same places"
    yield timed(f"{name}: share of the ceiling", ratios(theirs, ours), "x", ceiling=ceiling)


def opening(name: str = "geoclip.100k") -> Iterator[Figure]:
    """Time opening a registered gallery from the cache, every byte checked."""
    load_gallery(name, progress=False)
    (times,) = alternate(lambda: load_gallery(name))
    yield timed(f"opening {name} from the cache", times, "s")


def galleries(
    rows: Sequence[int] = ROWS,
    usual: int = USUAL,
    built: int = BUILT,
    large_rows: int = LARGE_ROWS,
    gallery: str = "geoclip.100k",
) -> Iterator[Figure]:
    """Measure everything about galleries.

    Parameters
    ----------
    rows : sequence of int
        Places that are searched.
    usual : int
        Which of them k grows at.
    built : int
        Places that a gallery is built of.
    large_rows : int
        Places in float16 in a file, whose search is watched for memory.
    gallery : str
        Registered name of the gallery that is opened.
    """
    yield from search(rows, usual=usual)
    yield from building(built)
    yield from opening(gallery)
    yield from large(large_rows)


if __name__ == "__main__":
    print(json.dumps(large_case(int(sys.argv[1]), sys.argv[2])))
