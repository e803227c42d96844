"""Galleries: search against a bare matrix product, memory at ten million places, rate of building.

Run as a script with a number of rows and a folder, it searches synthetic rows that lie in a file
and prints one line of JSON: that case has a process of its own, so that nothing else is counted.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest.mock import patch

import numpy as np
import torch
from featurize import points
from figures import Figure, alternate, median_ratio
from memory import peak_mb, reset_peak

import geoembed as ge
from geoembed.galleries import GalleryPlaces, load_gallery
from geoembed.galleries.gallery import Gallery
from geoembed.galleries.index import ExactIndex

ROWS = 100_000
WIDTH = 512
LARGE_ROWS = 10_000_000
MOST_GB = 12.0
# Rows made at a time.
_BLOCK = 100_000


def unit_rows(count: int, seed: int = 0) -> np.ndarray:
    """Return random unit vectors."""
    rows = np.random.default_rng(seed).standard_normal((count, WIDTH), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def search(rows: int = ROWS, k: int = 10) -> Iterator[Figure]:
    """Compare a search with a matrix product and `torch.topk` of the same shapes."""
    vectors = unit_rows(rows)
    table = torch.from_numpy(vectors)
    index = ExactIndex(vectors, device="cpu")
    for count in (1, 64):
        queries = unit_rows(count, seed=1)
        asked = torch.from_numpy(queries)

        def bare(asked: torch.Tensor = asked) -> object:
            with torch.inference_mode():
                return torch.topk(asked @ table.T, k, dim=1)

        ours, theirs = alternate(lambda queries=queries: index.search(queries, k), bare, rounds=30)
        label = f"search of {rows:,} x {WIDTH}, {count} quer{'y' if count == 1 else 'ies'}"
        yield Figure(label, 1000 * median(ours), "ms")
        ratio = median_ratio(ours, theirs)
        yield Figure(f"{label}, against matmul + topk", ratio, "x", 1.2)


def large(rows: int = LARGE_ROWS) -> Iterator[Figure]:
    """Measure the peak of a process that searches many rows of float16 in a file."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, str(rows), folder],
            capture_output=True,
            text=True,
            check=True,
        )
    found = json.loads(done.stdout)
    most = MOST_GB if rows >= LARGE_ROWS else None
    yield Figure(f"peak, {rows:,} places in float16", found["peak_gb"], "GB", most)
    yield Figure(f"search of {rows:,} places in float16, 1 query", found["one"], "s")
    yield Figure(f"search of {rows:,} places in float16, 64 queries", found["many"], "s")


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


def building(count: int = 20_480) -> Iterator[Figure]:
    """Compare building a gallery, files and digests included, with the featurizer alone."""
    lon, lat = points(count)
    places = GalleryPlaces.of(np.column_stack([lon, lat]), name="bench")
    encoder = ge.load_encoder("geoclip.v1", device="cpu", normalize=True)
    with tempfile.TemporaryDirectory() as cache, patch.dict(os.environ, GEOEMBED_CACHE=cache):
        folder = Path(cache, "built")

        def build() -> None:
            Gallery.build(places, folder, encoder=encoder, progress=False, force=True)

        ours, theirs = alternate(
            build, lambda: ge.encode(lon, lat, encoder=encoder, progress=False)
        )
    yield Figure(f"building a gallery of {count:,} places", count / median(ours), "places/s")
    ratio = median_ratio(ours, theirs)
    yield Figure("building a gallery, against the featurizer", ratio, "x", 1.1)


def opening() -> Iterator[Figure]:
    """Time opening the gallery of 100,000 places from the cache, every byte checked."""
    load_gallery("geoclip.100k", progress=False)
    (times,) = alternate(lambda: load_gallery("geoclip.100k"))
    yield Figure("opening geoclip.100k from the cache", median(times), "s")


def galleries(rows: int = ROWS, large_rows: int = LARGE_ROWS) -> Iterator[Figure]:
    """Measure everything about galleries."""
    yield from search(rows)
    yield from building()
    yield from opening()
    yield from large(large_rows)


if __name__ == "__main__":
    print(json.dumps(large_case(int(sys.argv[1]), sys.argv[2])))
