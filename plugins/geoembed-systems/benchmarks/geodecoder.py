"""How long GeoDecoder takes to answer 10,000 pictures at 10,000 cells; run by hand.

Type ``python benchmarks/geodecoder.py [pictures] [cells] [tokens] [length]``. Nothing is trained:
the time does not depend on what the weights are.
"""

import sys
from time import perf_counter, process_time

import numpy as np
from geoembed_systems.benchmark.measuring import peak_mb
from geoembed_systems.cells.nesting import Hierarchy, nested_partitions
from geoembed_systems.geodecoder import GeoDecoder
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.pictures.scenes import Scenes


def untaught(hierarchy: Hierarchy, features: PictureFeatures, scenes: int) -> GeoDecoder:
    """Return a GeoDecoder that nothing was taught."""
    made = GeoDecoder(device="cpu")
    made.hierarchy_, made.partition_ = hierarchy, hierarchy.finest
    made.layout_ = features.layout
    names = tuple(f"scene {number:02d}" for number in range(scenes))
    made.scenes_ = Scenes(names) if scenes > 1 else None
    made.sizes_ = made._sizes(made.layout_)
    made.network_ = made._build().eval()
    return made


def main(pictures: int = 10_000, cells: int = 10_000, tokens: int = 16, length: int = 128) -> None:
    """Ask networks of 1, 3 and 16 scenes."""
    rng = np.random.default_rng(0)
    towns = rng.uniform([-180, -60], [180, 75], (cells // 2, 2))
    places = towns[rng.integers(len(towns), size=30 * cells)]
    places = places + rng.normal(0, 0.3, places.shape)
    hierarchy = nested_partitions(places, t_max=(285, 114, 57), t_min=5)
    features = PictureFeatures(
        rng.normal(size=(pictures, 2 * length)), rng.normal(size=(pictures, tokens, length))
    )
    sys.stdout.write(f"{hierarchy!r}, {pictures:,} pictures of {tokens} x {length}\n")
    for scenes in (1, 3, 16):
        system = untaught(hierarchy, features, scenes)
        system.predict(features.take(slice(100)))
        before = peak_mb()
        begun, busy = perf_counter(), process_time()
        system.predict(features)
        took, busy = perf_counter() - begun, process_time() - busy
        more = peak_mb() - before
        sys.stdout.write(
            f"{scenes:2d} scenes: {took:5.2f} s, {busy:5.2f} s of processors, {more:4.0f} MB more\n"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
