"""backend="onnx" against torch: one point, many points, nearness, start-up and memory.

Not named ``onnx``: a script's folder comes first on the path, before the package of that name.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
from figures import Figure, alternate, median_ratio, seconds

import geoembed as ge

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


def onnx_backend() -> Iterator[Figure]:
    """Measure geoclip.v1 in 8 bits and in float32, both sides in turn and on as many threads."""
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
    rounds = [[_of_many(work) for work in works] for _ in range(9)]
    ours, theirs, whole, exact = zip(*rounds, strict=True)
    yield Figure("one point, int8", 1000 * median(ours), "ms", 1.0)
    yield Figure("one point, int8, LocationFeaturizer.transform", 1000 * median(whole), "ms", 1.0)
    yield Figure("one point, float32", 1000 * median(exact), "ms")
    yield Figure("one point, int8: times faster than torch", median_ratio(theirs, ours), "x")

    lonlat = ge.load_gallery("geoclip.100k").lonlat
    lon, lat = np.random.default_rng(0).permutation(lonlat)[:BULK].T
    ours, theirs, exact = alternate(
        lambda: int8.encode(lon, lat),
        lambda: torch.encode(lon, lat),
        lambda: float32.encode(lon, lat),
    )
    yield Figure(f"float32 torch, {BULK:,} points", BULK / median(theirs), "points/s")
    yield Figure(f"int8, {BULK:,} points", BULK / median(ours), "points/s")
    ratio = median_ratio(theirs, ours)
    yield Figure("int8: times faster than float32 torch in bulk", ratio, "x", 1.7, at_most=False)
    ratio = median_ratio(theirs, exact)
    yield Figure("float32: times faster than float32 torch in bulk", ratio, "x")

    theirs_all = torch.encode(*lonlat.T).astype(np.float64)
    for name, encoder, least in (("int8", int8, 0.999), ("float32", float32, None)):
        found = encoder.encode(*lonlat.T).astype(np.float64)
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(theirs_all, axis=1)
        cosines = (found * theirs_all).sum(axis=1) / norms
        apart = np.linalg.norm(found - theirs_all, axis=1) / np.linalg.norm(theirs_all, axis=1)
        rows = f"{len(lonlat):,} places of geoclip.100k"
        yield Figure(f"{name}: mean cosine, {rows}", cosines.mean(), "", least, at_most=False)
        yield Figure(f"{name}: 1 - lowest cosine", 1 - cosines.min(), "")
        yield Figure(f"{name}: largest error of a row, of its length", apart.max(), "")

    for name, options in (
        ("int8", {"backend": "onnx", "precision": "int8"}),
        ("torch", {"device": "cpu"}),
    ):
        code = FRESH.format(options=options, torch=name == "torch")
        peak = []

        def fresh(code: str = code, peak: list[float] = peak) -> None:
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            )
            peak.append(float(done.stdout))

        taken = median(seconds(fresh) for _ in range(3))
        yield Figure(f"{name}: a new process and its first vector", taken, "s")
        yield Figure(f"{name}: memory of that process", median(peak), "MB")


def _of_many(work: Callable[[], object], count: int = 100) -> float:
    """Median time of calls that follow each other."""
    return median(seconds(work) for _ in range(count))


if __name__ == "__main__":
    import os

    print("load:", *(round(load, 1) for load in os.getloadavg()), "of", os.cpu_count(), "cores")
    for figure in onnx_backend():
        shown = "" if figure.target is None else f"target {figure.target:g}, met: {figure.met}"
        print(f"{figure.name}: {figure.value:.6g} {figure.unit} {shown}", flush=True)
    print("load:", *(round(load, 1) for load in os.getloadavg()))
