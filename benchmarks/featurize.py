"""Speed of the featurizer: against its matrix products, the published encoder, and repeats."""

import warnings
from collections.abc import Iterator
from statistics import median

import numpy as np
import torch
from figures import Figure, alternate, median_ratio

import geoembed as ge

SIZES = (10_000, 100_000, 1_000_000)
# Enough products for a steady rate; measured directly beside every timed run.
CEILING_POINTS = 40_960


def points(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct places evenly over the sphere."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-180, 180, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))


def matrix_products(count: int, block: int) -> None:
    """Run the matrix products of `count` points, and nothing else, in blocks of the same shapes."""
    narrow, wide = torch.ones(block, 512), torch.ones(block, 1024)
    first, hidden, head = torch.ones(1024, 512), torch.ones(1024, 1024), torch.ones(512, 1024)
    with torch.inference_mode():
        for _ in range(0, count, block):
            for _scale in range(3):
                narrow @ first.T
                wide @ hidden.T
                wide @ hidden.T
                wide @ head.T


def throughput(sizes: tuple[int, ...] = SIZES) -> Iterator[Figure]:
    """Measure the rate at each size beside the rate of the bare matrix products."""
    encoder = ge.load_encoder("geoclip.v1", device="cpu")
    block = encoder.blocks_of()
    for size in sizes:
        lon, lat = points(size)
        ceiling_points = min(CEILING_POINTS, -(-size // block) * block)
        ours, bare = alternate(
            lambda lon=lon, lat=lat: ge.encode(lon, lat, encoder=encoder, progress=False),
            lambda n=ceiling_points: matrix_products(n, block),
        )
        rate = size / median(ours)
        share = median_ratio([t / ceiling_points for t in bare], [t / size for t in ours])
        yield Figure(f"float32 rate, {size:,} points", rate, "points/s")
        yield Figure(f"share of the ceiling, {size:,} points", share, "x", 0.90, at_most=False)


def against_published(count: int = 100_000) -> Iterator[Figure]:
    """Compare with the published encoder called once on the same points."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from geoclip import LocationEncoder

        published = LocationEncoder().eval()
    lon, lat = points(count)
    latlon = torch.tensor(np.column_stack([lat, lon]), dtype=torch.float32)

    def theirs() -> None:
        with torch.inference_mode():
            published(latlon)

    encoder = ge.load_encoder("geoclip.v1", device="cpu")
    ours, other = alternate(lambda: ge.encode(lon, lat, encoder=encoder, progress=False), theirs)
    ratio = median_ratio(other, ours)
    yield Figure(
        f"times faster than geoclip.LocationEncoder, {count:,} points", ratio, "x", 1.2, False
    )


def repeats(count: int = 1_000_000, distinct: int = 10_000) -> Iterator[Figure]:
    """Compare many rows of few places with those places alone."""
    lon, lat = points(distinct)
    which = np.random.default_rng(1).integers(0, distinct, count)
    encoder = ge.load_encoder("geoclip.v1", device="cpu")
    few, many = alternate(
        lambda: ge.encode(lon, lat, encoder=encoder, progress=False),
        lambda: ge.encode(lon[which], lat[which], encoder=encoder, progress=False),
    )
    name = f"{count:,} rows of {distinct:,} places against {distinct:,} rows"
    yield Figure(name, median_ratio(many, few), "x", 3.0)


def single_point() -> Iterator[Figure]:
    """Time one point at a time, as a service would."""
    encoder = ge.load_encoder("geoclip.v1", device="cpu")
    (times,) = alternate(lambda: encoder.encode([2.35], [48.86]), rounds=50)
    yield Figure("one point, loaded encoder", 1000 * median(times), "ms")
