"""Speed of the featurizer: against its matrix products, the published encoder, and repeats."""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from figures import Figure, Growth, alternate, ratios, timed
from memory import run_case

import geoembed as ge

__all__ = ["featurize", "matrix_products", "points"]

ROUNDS, _LONG_ROUNDS = 5, 3
SIZES = (1_000, 10_000, 100_000)
LARGE = 1_000_000
PUBLISHED = 20_000
REPEATS, DISTINCT = 1_000_000, 10_000
# Enough products for a steady rate; measured directly beside every timed run.
CEILING_POINTS = 40_960
CEILING = "the matrix products of the same shapes, and nothing else"


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


def featurize(
    sizes: Sequence[int] = SIZES,
    large: int = LARGE,
    published: int = PUBLISHED,
    repeated: tuple[int, int] = (REPEATS, DISTINCT),
    rounds: int = ROUNDS,
) -> Iterator[Figure]:
    """Measure everything about featurizing arrays.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of points that are encoded in rounds.
    large : int
        A number that is encoded once, in a process of its own whose memory is watched.
    published : int
        Points given to the published encoder.
    repeated : tuple of 2 ints
        Rows, and the different places among them.
    rounds : int
        Rounds of everything but the large number; fewer where a round takes long.
    """
    yield from throughput(sizes, rounds)
    yield from at_once(large)
    yield from against_published(published, min(rounds, _LONG_ROUNDS))
    yield from repeats(*repeated, rounds)
    yield from single_point(10 * rounds)


def throughput(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> Iterator[Figure]:
    """Measure the rate at each size beside the rate of the bare matrix products."""
    encoder = ge.load_encoder("geoclip.v1", device="cpu")
    block = encoder.blocks_of()
    ge.encode(*points(block), encoder=encoder, progress=False)
    for size in sizes:
        lon, lat = points(size)
        products = min(CEILING_POINTS, -(-size // block) * block)
        ours, bare = alternate(
            lambda lon=lon, lat=lat: ge.encode(lon, lat, encoder=encoder, progress=False),
            lambda n=products: matrix_products(n, block),
            rounds=min(rounds, _LONG_ROUNDS) if size >= 100_000 else rounds,
        )
        share = ratios([t / products for t in bare], [t / size for t in ours])
        yield from _rate(size, ours, share, held=size >= block)


def at_once(size: int = LARGE) -> Iterator[Figure]:
    """Encode many points in a process of its own: rate, share of the ceiling, peak of memory."""
    found = run_case("array", str(size))
    products = min(CEILING_POINTS, size)
    # The products are timed before and after: the run between them is one round.
    share = [t / products / (found["seconds"] / size) for t in found["products"]]
    yield from _rate(size, [found["seconds"]], [sum(share) / 2], held=size >= CEILING_POINTS)
    yield Figure(f"peak memory above the output, {size:,} points", found["peak_mb"], "MB", 600.0)


def against_published(count: int = PUBLISHED, rounds: int = _LONG_ROUNDS) -> Iterator[Figure]:
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
    ours, other = alternate(
        lambda: ge.encode(lon, lat, encoder=encoder, progress=False), theirs, rounds=rounds
    )
    name = f"times faster than geoclip.LocationEncoder, {count:,} points"
    yield timed(name, ratios(other, ours), "x", 1.2, False)


def repeats(
    count: int = REPEATS, distinct: int = DISTINCT, rounds: int = ROUNDS
) -> Iterator[Figure]:
    """Compare many rows of few places with those places alone."""
    lon, lat = points(distinct)
    which = np.random.default_rng(1).integers(0, distinct, count)
    encoder = ge.load_encoder("geoclip.v1", device="cpu")
    few, many = alternate(
        lambda: ge.encode(lon, lat, encoder=encoder, progress=False),
        lambda: ge.encode(lon[which], lat[which], encoder=encoder, progress=False),
        rounds=rounds,
    )
    name = f"{count:,} rows of {distinct:,} places against {distinct:,} rows"
    yield timed(name, ratios(many, few), "x", 3.0)


def single_point(rounds: int = 50) -> Iterator[Figure]:
    """Time one point at a time, as a service would."""
    encoder = ge.load_encoder("geoclip.v1", device="cpu")
    encoder.encode([2.35], [48.86])
    (times,) = alternate(lambda: encoder.encode([2.35], [48.86]), rounds=rounds)
    growth = Growth("encode", "rows", 1)
    yield timed("one point, loaded encoder", [1000 * t for t in times], "ms", growth=growth)


def _rate(
    size: int, taken: list[float], share: list[float], *, held: bool = True
) -> Iterator[Figure]:
    """Yield the seconds, the rate and the share of the ceiling.

    A few points do not fill a block of the products: their share is reported, not held to a target.
    """
    growth = Growth("encode", "rows", size)
    yield timed(f"encode, {size:,} points", taken, "s", growth=growth)
    yield timed(f"float32 rate, {size:,} points", [size / t for t in taken], "points/s")
    name = f"share of the ceiling, {size:,} points"
    yield timed(name, share, "x", 0.90 if held else None, False, ceiling=CEILING)
