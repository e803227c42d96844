"""Approximate search: rate and recall against the exact search, with filters, opening, building.

Queries are vectors of real pictures (crops of the Blue Marble that no training saw) against a grid
of `bluemarble.v1`, and noisy rows against a grid of `geoclip.v1`; none of them is a row.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from figures import Figure, Growth, alternate, median_ratio, seconds
from numpy.typing import NDArray

from geoembed.galleries.gallery import Gallery
from geoembed.galleries.index import ExactIndex
from geoembed.testing import isolated_plugins

PLACES = 1_000_000
LEAST_RECALL = 0.98
LEAST_TIMES = 10.0
MOST_OPENING_MS = 50.0
# A seed that no training of bluemarble.v1 took its crops from.
_CROPS_SEED = 987_654
_QUERIES = 320
_BATCH = 64
_SAME = 1e-6
# Of these the growth is shown.
_GROWS = "cosine 0.6"

Queries = NDArray[np.float32]


def approximate(
    places: int = PLACES,
    encoders: tuple[str, ...] = ("bluemarble.v1", "geoclip.v1"),
    kinds: tuple[str, ...] = ("usearch", "usearch.int8"),
) -> Iterator[Figure]:
    """Measure everything about approximate search; the plugin need not be installed."""
    with _plugin():
        for encoder in encoders:
            measure = of_pictures if encoder == "bluemarble.v1" else of_noise
            yield from measure(places, kinds)


@contextmanager
def _plugin() -> Iterator[None]:
    """Register the plugin of the source tree, and no other."""
    source = str(Path(__file__).parents[1] / "plugins" / "geoembed-usearch")
    if source not in sys.path:
        sys.path.append(source)
    import geoembed_usearch

    with isolated_plugins(geoembed_usearch):
        yield


def of_pictures(places: int, kinds: tuple[str, ...]) -> Iterator[Figure]:
    """Search a grid of `bluemarble.v1` for vectors of pictures."""
    gallery = grid(places, "bluemarble.v1")
    queries = picture_vectors()
    for kind in kinds:
        yield from _case(gallery, kind, {"pictures": queries}, "bluemarble.v1")


def of_noise(places: int, kinds: tuple[str, ...]) -> Iterator[Figure]:
    """Search a grid of `geoclip.v1` for rows with noise."""
    gallery = grid(places, "geoclip.v1")
    asked = {f"cosine {cosine:g}": noisy(gallery.embeddings, cosine) for cosine in (0.9, 0.6, 0.4)}
    for kind in kinds:
        yield from _case(gallery, kind, asked, "geoclip.v1")


def grid(places: int, encoder: str) -> Gallery:
    """Return a grid over land of about so many places, from geoembed's cache if it is there."""
    # 149 million square kilometres of land, a place for each square of the spacing.
    spacing = round(float(np.sqrt(1.49e8 / places)), 2)
    return Gallery.grid(spacing, encoder=encoder, device="cpu")


def picture_vectors(count: int = _QUERIES) -> Queries:
    """Return vectors of crops, of length 1."""
    from geoembed.images import load_image_encoder
    from geoembed.training.bluemarble import BlueMarble

    world = BlueMarble(crops=count, crop_size=48, seed=_CROPS_SEED)
    encoder = load_image_encoder("bluemarble.v1", device="cpu")
    vectors = encoder.encode_images([world.picture(row) for row in range(count)]).vectors
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def noisy(embeddings: NDArray[Any], cosine: float, count: int = _QUERIES) -> Queries:
    """Return vectors at an angle to random rows, in directions that no row has."""
    random = np.random.default_rng(round(cosine * 1000) + 17)
    rows = np.asarray(embeddings[np.sort(random.choice(len(embeddings), count, replace=False))])
    noise = random.standard_normal(rows.shape)
    noise -= np.einsum("ij,ij->i", noise, rows)[:, None] * rows
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    return np.asarray(cosine * rows + np.sqrt(1 - cosine**2) * noise, dtype=np.float32)


def _case(gallery: Gallery, kind: str, asked: dict[str, Queries], name: str) -> Iterator[Figure]:
    label = f"{kind}, {len(gallery):,} places of {name}"
    built = seconds(lambda: gallery.index(kind, progress=None))
    index = gallery.index(kind)
    exact = ExactIndex(gallery.embeddings, device="cpu")
    yield Figure(f"{label}: built or opened first", built, "s")
    yield Figure(f"{label}: build", float(index.facts["seconds"]), "s")
    yield Figure(f"{label}: file", float(index.facts["bytes"]) / 1e6, "MB")
    for what, queries in asked.items():
        found = _recall(exact.search(queries, 10)[0], index.search(queries, 10)[0])
        yield Figure(f"{label}: recall@10, {what}", found, "", LEAST_RECALL, at_most=False)
        batch = queries[:_BATCH]
        ours, theirs = alternate(partial(index.search, batch, 10), partial(exact.search, batch, 10))
        ratio = median_ratio(theirs, ours)
        growth = Growth(f"{kind}, {name}, {_BATCH} queries", "places", len(gallery))
        yield Figure(
            f"{label}: {what}, {_BATCH} queries",
            1000 * median(ours),
            "ms",
            growth=growth if what == _GROWS else None,
        )
        goal = LEAST_TIMES if len(gallery) >= 0.9 * PLACES else None
        yield Figure(f"{label}: {what}, against exact", ratio, "x", goal, at_most=False)
        yield from _within(gallery, index, exact, queries, f"{label}: {what}")
    yield Figure(f"{label}: opening", 1000 * _opening(gallery, kind), "ms", MOST_OPENING_MS)


def _within(
    gallery: Gallery, index: Any, exact: ExactIndex, queries: Queries, label: str
) -> Iterator[Figure]:
    """Search among the places of a box, for queries from everywhere and for those of the box."""
    lon, lat = gallery.lonlat.T
    for what, (west, east, south, north) in {
        "Africa": (-20.0, 52.0, -35.0, 37.0),
        "Kenya": (34.0, 42.0, -5.0, 5.0),
    }.items():
        rows = np.flatnonzero((lon > west) & (lon < east) & (lat > south) & (lat < north))
        if len(rows) < 100:
            continue
        best = exact.search(queries, 10)[1][:, 0]
        there = np.isin(best, rows)
        for who, some in (("all", queries), ("from there", queries[there])):
            if len(some) < 8:
                continue
            truth = exact.search(some, 10, rows)[0]
            found = _recall(truth, index.search(some, 10, rows)[0])
            where = f"{label} within {what} ({len(rows):,} places), {who}"
            yield Figure(f"{where}: recall@10", found, "", LEAST_RECALL, at_most=False)
            batch = some[:_BATCH]
            ours, whole = alternate(
                partial(index.search, batch, 10, rows),
                partial(exact.search, batch, 10),
                rounds=3,
            )
            yield Figure(f"{where}: against exact on all", median_ratio(whole, ours), "x")


def _recall(truth: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    return float(np.mean(found >= truth[:, -1:] - _SAME))


def _opening(gallery: Gallery, kind: str) -> float:
    """Time opening an index whose gallery is open, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        # A gallery in the cache is found by its folder as well.
        where = gallery.folder
        if where is None:
            where = Path(folder, "gallery")
            gallery.save(where)
        done = subprocess.run(
            [sys.executable, __file__, str(where), kind],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ,
        )
    return float(json.loads(done.stdout)["seconds"])


def opening_case(folder: str, kind: str) -> dict[str, float]:
    """Open a gallery, then its index; say how long the latter took."""
    import usearch.index  # noqa: F401 - the package's own import is not what is timed

    from geoembed.extending.registry import index_spec, resolve_factory

    with _plugin():
        gallery = Gallery.load(folder, device="cpu")
        spec = index_spec(kind)
        resolve_factory(spec.factory, owner=spec.owner)
        return {"seconds": seconds(lambda: gallery.index(kind))}


if __name__ == "__main__":
    print(json.dumps(opening_case(sys.argv[1], sys.argv[2])))
