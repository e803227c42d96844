"""Galleries of ten million places: merged, built, killed and gone on with, opened, searched.

Run as a script with the name of a case, a number of places and a folder, it prints one line of
JSON: each case has a process of its own, so that nothing else is counted.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from figures import Figure
from memory import peak_mb, reset_peak

ROWS = 10_000_000
# What an encoder costs is measured on so many.
ENCODED = 50_000
ENCODER = "bluemarble.v1"
WIDTH = 512
# What a place may take besides its vector while it is built: two coordinates, a count, and as much
# again while equal ones are looked for.
MOST_BYTES_A_PLACE = 80
# Beside what grows with the places: the encoder's blocks, and buffers.
MOST_FIXED_MB = 400
# Parts of a second between looks at a process.
_LOOK = 0.02


def large_gallery(
    rows: int = ROWS, encoded: int = ENCODED, encoder: str = ENCODER
) -> Iterator[Figure]:
    """Measure everything about galleries of so many places."""
    yield from merging(rows)
    # 20 GB for ten million places: where temporary files lie in memory, name a folder on a disk.
    with tempfile.TemporaryDirectory(dir=os.environ.get("GEOEMBED_BENCH_FOLDER")) as folder:
        yield from encoding(encoded, Path(folder), encoder)
        yield from building(rows, Path(folder))
        yield from searching(rows, Path(folder))


def merging(rows: int) -> Iterator[Figure]:
    """Merge equal places, a tenth of them repeated."""
    for kind in ("distinct", "repeated"):
        found = run_case("merge", rows, kind)
        name = f"{rows:,} places, {'all distinct' if kind == 'distinct' else 'a tenth repeated'}"
        yield Figure(f"merging {name}", found["seconds"], "s")
        yield Figure(f"merging {name}: bytes a place above them", found["bytes"], "bytes")


def encoding(rows: int, folder: Path, encoder: str) -> Iterator[Figure]:
    """Compare a build with the encoder alone."""
    found = run_case("build", rows, folder / "encoded", encoder)
    name = f"building {rows:,} places with {encoder}"
    yield Figure(name, rows / found["seconds"], "places/s")
    yield Figure(f"{name}, against the encoder alone", found["against"], "x", 1.15)


def building(rows: int, folder: Path, encoder: str = "cheap") -> Iterator[Figure]:
    """Build a gallery whole, and one that is killed midway and gone on with.

    Its vectors cost next to nothing: what is measured is everything else.
    """
    begun = perf_counter()
    whole = run_case("build", rows, folder / "whole", encoder)
    once = perf_counter() - begun
    name = f"writing {rows:,} places of {WIDTH} values in float16"
    yield Figure(name, rows / whole["seconds"], "places/s")
    most = MOST_FIXED_MB + MOST_BYTES_A_PLACE * rows / 1e6
    yield Figure(f"{name}: peak above the encoder", whole["peak_mb"], "MB", most)
    yield Figure(f"{name}: vectors on the disk", whole["vectors_mb"], "MB")

    begun = perf_counter()
    process = subprocess.Popen(command("build", rows, folder / "killed", encoder))
    done = wait_for_rows(process, folder, rows // 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    after = run_case("build", rows, folder / "killed", encoder)
    twice = perf_counter() - begun
    yield Figure(f"{name}: done when it was killed", 100 * done / rows, "%")
    yield Figure(f"{name}: kept of that", 100 * after["resumed"] / max(done, 1), "%", 99.0, False)
    # Starting a process twice tells only in small galleries.
    most = 1.25 if rows >= ROWS else None
    yield Figure(f"{name}: killed and gone on with, against in one go", twice / once, "x", most)
    vectors = [(folder / way / "embeddings.npy") for way in ("whole", "killed")]
    yield Figure(f"{name}: files that differ", float(not same_bytes(*vectors)), "", 0.0)
    vectors[1].unlink()


def searching(rows: int, folder: Path) -> Iterator[Figure]:
    """Open and search the gallery where it lies."""
    found = run_case("search", rows, folder / "whole")
    yield Figure(f"opening {rows:,} places", found["opening"], "s")
    name = f"search of {rows:,} places in float16"
    yield Figure(f"{name}, 1 query", found["one"], "s")
    yield Figure(f"{name}, 64 queries", found["many"], "s")
    yield Figure(f"{name}: memory that is no file's, above the start", found["own_mb"], "MB")


# -- cases, each in a process of its own ----------------------------------------------------------


def merge_case(rows: int, kind: str) -> dict[str, float]:
    """Merge random places."""
    from geoembed.galleries import GalleryPlaces

    table = np.random.default_rng(0).uniform((-180, -90), (180, 90), (rows, 2))
    if kind == "repeated":
        table[-rows // 10 :] = table[: rows // 10]
    reset_peak()
    before, begun = peak_mb(), perf_counter()
    GalleryPlaces.of(table, name="merged")
    return {"seconds": perf_counter() - begun, "bytes": (peak_mb() - before) * 1e6 / rows}


def build_case(rows: int, folder: str, encoder: str) -> dict[str, float]:
    """Build a gallery of an even grid; say how much of the time is the encoder's."""
    from geoembed.encoders import load_encoder
    from geoembed.galleries.builders import grid_places
    from geoembed.galleries.gallery import Gallery
    from geoembed.galleries.lattice import SPHERE_KM2

    cheap = encoder == "cheap"
    loaded = load_encoder("xyz" if cheap else encoder, normalize=True, device="cpu")
    if cheap:
        make_cheap(loaded, rows)
    loaded.encode(*np.zeros((2, 1)))
    inside = [0.0]
    for method in ("values", "finish"):
        setattr(loaded, method, timed_by(getattr(loaded, method), inside))
    reset_peak()
    before = peak_mb()
    places = grid_places(float((SPHERE_KM2 / rows) ** 0.5), land_only=False)
    begun = perf_counter()
    made = Gallery.build(places, folder, encoder=loaded, dtype="float16", progress=False)
    seconds = perf_counter() - begun
    return {
        "seconds": seconds,
        # A build that is gone on with may have found every row done.
        "against": seconds / inside[0] if inside[0] else float("nan"),
        "peak_mb": peak_mb() - before,
        "vectors_mb": made.embeddings.nbytes / 1e6,
        "resumed": made.resumed,
    }


def timed_by(function: Callable[..., Any], total: list[float]) -> Callable[..., Any]:
    """Add up the time that a function takes."""

    def timed(*arguments: Any) -> Any:
        begun = perf_counter()
        try:
            return function(*arguments)
        finally:
            total[0] += perf_counter() - begun

    return timed


def make_cheap(encoder: Any, rows: int) -> None:
    """Have an encoder look vectors up in a small table."""
    from geoembed.galleries import growing

    table = np.random.default_rng(0).standard_normal((4096, WIDTH), dtype=np.float32)
    # Small galleries are slowed down and recorded more often, so that there is time to kill them.
    pause = 0.0 if rows >= 1_000_000 else 2.0 * encoder.blocks_of() / rows
    growing._SECONDS *= min(1.0, rows / ROWS)

    def values(lonlat: np.ndarray) -> np.ndarray:
        time.sleep(pause)
        return table[(lonlat[:, 0] * 1e6).astype(np.int64) % len(table)]

    type(encoder).dimension = property(lambda _: WIDTH)
    encoder.values = values


def search_case(folder: str) -> dict[str, float]:
    """Open a gallery and search it."""
    from geoembed.galleries.gallery import Gallery
    from geoembed.galleries.index import ExactIndex

    ExactIndex(np.eye(2, dtype=np.float16), device="cpu").search([[1.0, 0.0]], 1)
    with own_memory() as own:
        begun = perf_counter()
        gallery = Gallery.load(folder, device="cpu")
        opening = perf_counter() - begun
        queries = np.array(gallery.embeddings[:: max(1, len(gallery) // 64)][:64], np.float32)
        found = {"opening": opening}
        for name, count in (("one", 1), ("many", 64)):
            begun = perf_counter()
            gallery.search(queries[:count], 10)
            found[name] = perf_counter() - begun
    return found | {"own_mb": max(own) - own[0]}


def run_case(*case: object) -> dict[str, float]:
    """Run a case in a fresh process."""
    done = subprocess.run(command(*case), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, case))} failed: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def command(*case: object) -> list[str]:
    """Return how a case is run."""
    return [sys.executable, __file__, *map(str, case)]


def wait_for_rows(process: "subprocess.Popen[bytes]", folder: Path, rows: int) -> int:
    """Wait until a build has so many rows on the disk; return how many it has."""
    while process.poll() is None:
        for record in folder.glob(".killed~*.part/progress.json"):
            try:
                done = int(json.loads(record.read_text())["rows"])
            except (OSError, ValueError):
                continue  # it is being replaced
            if done >= rows:
                return done
        time.sleep(_LOOK)
    raise RuntimeError("The build ended before it could be killed: measure more places.")


@contextmanager
def own_memory() -> Iterator[list[float]]:
    """Look all the time at the memory of this process that no file backs, in MB."""
    found, over = [anonymous_mb()], threading.Event()

    def look() -> None:
        while not over.wait(_LOOK):
            found.append(anonymous_mb())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def anonymous_mb() -> float:
    """Return the memory of this process without pages of files (Linux), else its peak."""
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_mb()
    line = next(li for li in status.read_text().splitlines() if li.startswith("RssAnon"))
    return int(line.split()[1]) / 1e3


def same_bytes(one: Path, other: Path) -> bool:
    """Compare two files byte by byte."""
    with one.open("rb") as a, other.open("rb") as b:
        while True:
            left, right = a.read(1 << 24), b.read(1 << 24)
            if left != right:
                return False
            if not left:
                return True


CASES = {
    "merge": lambda rows, kind: merge_case(int(rows), kind),
    "build": lambda rows, folder, encoder: build_case(int(rows), folder, encoder),
    "search": lambda rows, folder: search_case(folder),
}

if __name__ == "__main__":
    print(json.dumps(CASES[sys.argv[1]](*sys.argv[2:])))
