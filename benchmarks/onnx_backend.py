"""backend="onnx" against torch: one point, many points, nearness, start-up and memory.

Not named ``onnx``: a script's folder comes first on the path, before the package of that name.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
from figures import Figure, Growth, alternate, ratios, seconds, timed

import geoembed as ge

__all__ = ["onnx_backend"]

BULK = 20_480
FRESH = """
import sys
import geoembed as ge
ge.encode(7.45, 46.95, **{options!r})
assert ("torch" in sys.modules) == {torch}
# Not ru_maxrss, which begins with that of the process that started this one.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) / 1024)
"""


def onnx_backend(
    bulk: int = BULK,
    places: int | None = None,
    singles: int = 50,
    rounds: int = 5,
    gallery: str = "geoclip.100k",
) -> Iterator[Figure]:
    """Measure geoclip.v1 in 8 bits and in float32, both sides in turn and on as many threads.

    Parameters
    ----------
    bulk : int
        Places of the gallery that are timed together.
    places : int, optional
        How many of them nearness is judged on; all if not given.
    singles : int
        Single places, one after the other, of which the median counts.
    rounds : int
        Rounds of everything.
    gallery : str
        Registered name of the gallery whose places are encoded.
    """
    int8 = ge.load_encoder("geoclip.v1", backend="onnx", precision="int8")
    float32 = ge.load_encoder("geoclip.v1", backend="onnx")
    torch = ge.load_encoder("geoclip.v1", device="cpu")
    featurizer = ge.LocationFeaturizer(backend="onnx", precision="int8")
    place = np.array([[7.45, 46.95]])
    # One after the other, as a service is asked: between other work its weights are not in cache.
    works = (
        lambda: int8.encode(7.45, 46.95),
        lambda: torch.encode(7.45, 46.95),
        lambda: featurizer.transform(place),
        lambda: float32.encode(7.45, 46.95),
    )
    turns = [[_of_many(work, singles) for work in works] for _ in range(2 * rounds - 1)]
    ours, theirs, whole, exact = zip(*turns, strict=True)
    for name, taken, most in (
        ("one point, int8", ours, 1.0),
        ("one point, int8, LocationFeaturizer.transform", whole, 1.0),
        ("one point, float32", exact, None),
    ):
        growth = Growth("encode, onnx int8", "rows", 1) if name == "one point, int8" else None
        yield timed(name, [1000 * t for t in taken], "ms", most, growth=growth)
    name = "one point, int8: times faster than torch"
    yield timed(name, ratios(theirs, ours), "x", better="more")

    lonlat = ge.load_gallery(gallery).lonlat
    lon, lat = np.random.default_rng(0).permutation(lonlat)[:bulk].T
    ours, theirs, exact = alternate(
        lambda: int8.encode(lon, lat),
        lambda: torch.encode(lon, lat),
        lambda: float32.encode(lon, lat),
        rounds=rounds,
    )
    for name, taken in (("float32 torch", theirs), ("int8", ours), ("float32", exact)):
        yield timed(f"{name}, {bulk:,} points", [bulk / t for t in taken], "points/s")
    growth = Growth("encode, onnx int8", "rows", bulk)
    yield timed(f"int8, {bulk:,} points, time", ours, "s", growth=growth)
    ratio, least = ratios(theirs, ours), 1.7 if bulk >= BULK else None
    yield timed("int8: times faster than float32 torch in bulk", ratio, "x", least, False)
    ratio = ratios(theirs, exact)
    yield timed("float32: times faster than float32 torch in bulk", ratio, "x", better="more")

    lonlat = np.random.default_rng(1).permutation(lonlat)[: places or len(lonlat)]
    theirs_all = torch.encode(*lonlat.T).astype(np.float64)
    for name, encoder, least in (("int8", int8, 0.999), ("float32", float32, None)):
        found = encoder.encode(*lonlat.T).astype(np.float64)
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(theirs_all, axis=1)
        cosines = (found * theirs_all).sum(axis=1) / norms
        apart = np.linalg.norm(found - theirs_all, axis=1) / np.linalg.norm(theirs_all, axis=1)
        rows = f"{len(lonlat):,} places of {gallery}"
        yield Figure(
            f"{name}: mean cosine, {rows}", cosines.mean(), "", least, False, better="more"
        )
        yield Figure(f"{name}: 1 - lowest cosine", 1 - cosines.min(), "", better="less")
        yield Figure(
            f"{name}: largest error of a row, of its length", apart.max(), "", better="less"
        )

    for name, options in (
        ("int8", {"backend": "onnx", "precision": "int8"}),
        ("torch", {"device": "cpu"}),
    ):
        code = FRESH.format(options=options, torch=name == "torch")
        peak: list[float] = []

        def fresh(code: str = code, peak: list[float] = peak) -> None:
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            )
            peak.append(float(done.stdout))

        taken = [seconds(fresh) for _ in range(min(3, rounds))]
        yield timed(f"{name}: a new process and its first vector", taken, "s")
        yield timed(f"{name}: memory of that process", peak, "MB")


def _of_many(work: Callable[[], object], count: int) -> float:
    """Median time of calls that follow each other."""
    return median(seconds(work) for _ in range(count))


if __name__ == "__main__":
    import os

    print("load:", *(round(load, 1) for load in os.getloadavg()), "of", os.cpu_count(), "cores")
    for figure in onnx_backend():
        shown = "" if figure.target is None else f"target {figure.target:g}, met: {figure.met}"
        print(f"{figure.name}: {figure.value:.6g} {figure.unit} {shown}", flush=True)
    print("load:", *(round(load, 1) for load in os.getloadavg()))
