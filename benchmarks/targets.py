"""Speed and memory of raster targets, on a world of 43200 x 21600 classes.

Run as a script with the path of such a raster, it prints the peak memory of one run in megabytes.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.mask
from figures import Figure, alternate, ratios, timed
from memory import peak_mb, reset_peak
from pyproj import Geod
from rasterio.windows import Window
from shapely.geometry import Polygon

from geoembed.data import load_countries
from geoembed.targets import class_fractions, label_regions, sample_raster

__all__ = ["targets"]

WIDTH, HEIGHT = 43_200, 21_600
RADIUS_M = 1000.0
POINTS = 10_000
ROUNDS = 3
# Most megabytes of GDAL's own cache of blocks while memory is measured.
CACHE_MB = 64


def points(count: int = POINTS, seed: int = 0) -> np.ndarray:
    """Return places evenly over the sphere, away from the seams that the loop cannot cross."""
    rng = np.random.default_rng(seed)
    lat = np.degrees(np.arcsin(rng.uniform(-0.99, 0.99, count)))
    return np.stack([rng.uniform(-179.8, 179.8, count), lat], axis=1)


def write_world(path: Path, width: int = WIDTH) -> None:
    """Write nine classes in patches with some noise, as land cover has them: tiles, deflate."""
    height = width // 2
    rng = np.random.default_rng(0)
    profile = {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": 1,
        "dtype": "uint8",
        "crs": "EPSG:4326",
        "transform": rasterio.Affine(360 / width, 0, -180, 0, -360 / width, 90),
        "nodata": 255,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "zlevel": 1,
    }
    with rasterio.open(path, "w", **profile) as world:
        for row in range(0, height, 1280):
            patches = rng.integers(0, 9, (32, width // 40), dtype="uint8")
            rows = patches.repeat(40, axis=0).repeat(40, axis=1)[: height - row]
            noise = rng.integers(0, 256, rows.shape, dtype="uint8")
            rows = np.where(noise < 12, noise % 9, rows).astype("uint8")
            world.write(rows, 1, window=Window(0, row, width, len(rows)))


def loop(path: Path, lonlat: np.ndarray) -> np.ndarray:
    """Count classes in discs one by one with rasterio.mask, as scripts do."""
    geod, azimuth = Geod(ellps="WGS84"), np.linspace(0, 360, 65)
    counts = np.zeros((len(lonlat), 9))
    with rasterio.open(path) as dataset:
        for row, (lon, lat) in enumerate(lonlat):
            ring = geod.fwd(np.full(65, lon), np.full(65, lat), azimuth, np.full(65, RADIUS_M))
            disc = Polygon(np.column_stack(ring[:2]))
            values, _ = rasterio.mask.mask(dataset, [disc], crop=True, all_touched=True)
            counts[row] = np.bincount(values[values != 255], minlength=9)
    return counts


def targets(
    count: int = POINTS, width: int = WIDTH, labelled: int = 100_000, rounds: int = ROUNDS
) -> Iterator[Figure]:
    """Measure on a world written for the purpose.

    Parameters
    ----------
    count : int
        Places whose targets are made.
    width : int
        Columns of the world, a multiple of 40; it has half as many rows.
    labelled : int
        Places labelled with countries.
    rounds : int
        Rounds of each.
    """
    lonlat, full = points(count), (count, width) == (POINTS, WIDTH)
    most = 10.0 if full else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "world.tif"
        write_world(path, width)
        name = f"{count:,} points of {width:,} x {width // 2:,}"
        for method in ("nearest", "bilinear"):
            (times,) = alternate(
                lambda m=method: sample_raster(lonlat, path, method=m), rounds=rounds
            )
            yield timed(f"sample_raster, {method}, {name}", times, "s", most)
        ours, theirs = alternate(
            lambda: class_fractions(lonlat, path, radius_m=RADIUS_M),
            lambda: loop(path, lonlat),
            rounds=rounds,
        )
        yield timed(f"class_fractions, 1 km around {name}", ours, "s", most)
        what = f"times faster than a loop over rasterio.mask, {name}"
        yield timed(what, ratios(theirs, ours), "x", most, False, better="more")
        (times,) = alternate(lambda: class_fractions(large_country(), path), rounds=rounds)
        yield timed(f"class_fractions, Russia as one polygon of {width:,} columns", times, "s")
        name = f"peak memory above the imports, class_fractions around {name}"
        yield Figure(name, memory_of(path, count), "MB", 600.0)
    yield from regions(labelled, rounds)


def large_country() -> gpd.GeoDataFrame:
    """Return Russia, which covers some 40 million of the world's cells."""
    countries = load_countries()
    return countries[countries["name"] == "Russia"]


def regions(count: int = 100_000, rounds: int = ROUNDS) -> Iterator[Figure]:
    """Label places everywhere with the shipped countries."""
    lonlat, countries = points(count), load_countries()
    inside, near = alternate(
        lambda: label_regions(lonlat, countries, "name"),
        lambda: label_regions(lonlat, countries, "name", nearest_km=50),
        rounds=rounds,
    )
    name = f"label_regions, {count:,} points, 241 countries"
    yield timed(name, inside, "s")
    yield timed(f"{name}, with nearest_km=50", near, "s")


def memory_of(path: Path, count: int = POINTS) -> float:
    """Peak of a fresh process that runs class_fractions, above what it had before."""
    done = subprocess.run(
        [sys.executable, __file__, str(path), str(count)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "GDAL_CACHEMAX": str(CACHE_MB)},
    )
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    reset_peak()
    before = peak_mb()
    class_fractions(points(int(sys.argv[2])), sys.argv[1], radius_m=RADIUS_M)
    print(peak_mb() - before)
