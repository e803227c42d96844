"""How long TransLocator takes to answer 10,000 pictures at 10,000 cells; run by hand.

Type ``python benchmarks/predicting_translocator.py [pictures] [cells] [width]``. It answers from
pooled features, and from 16 tokens of 128. Nothing is trained: the time does not depend on what
the weights are.
"""

import sys
from time import perf_counter, process_time

import numpy as np
from geoembed_systems.benchmark.measuring import peak_mb
from geoembed_systems.cells.nesting import Hierarchy, nested_partitions
from geoembed_systems.networks.translocator_streams import first_stream, sizes_of
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.pictures.segments import SegmentModel
from geoembed_systems.translocator import TransLocator


def untaught(features: PictureFeatures, hierarchy: Hierarchy) -> TransLocator:
    """Return a TransLocator that nothing was taught but what segments are."""
    made = TransLocator(device="cpu")
    made.hierarchy_, made.partition_ = hierarchy, hierarchy.finest
    made.layout_, made.scenes_ = features.layout, None
    made.sizes_ = sizes_of(features.layout, width="auto", heads=4, layers=2, dropout=0.1)
    made.fusion_ = made.sizes_["fusion"]
    made.segments_ = SegmentModel.fit(first_stream(features))
    made.network_ = made._build().eval()
    return made


def main(pictures: int = 10_000, cells: int = 10_000, width: int = 768) -> None:
    """Ask for the places of both kinds of features."""
    rng = np.random.default_rng(0)
    towns = rng.uniform([-180, -60], [180, 75], (cells // 2, 2))
    places = towns[rng.integers(len(towns), size=30 * cells)]
    hierarchy = nested_partitions(
        places + rng.normal(0, 0.3, places.shape), t_max=(285, 114, 57), t_min=5
    )
    pooled = PictureFeatures(rng.normal(size=(pictures, width)))
    patches = PictureFeatures(pooled.pooled[:, 0], tokens=rng.normal(size=(pictures, 16, 128)))
    sys.stdout.write(f"{len(hierarchy.finest):,} cells, {pictures:,} pictures\n")
    for features in (pooled, patches):
        system = untaught(features, hierarchy)
        system.predict(features.take(slice(50)))
        before, begun, busy = peak_mb(), perf_counter(), process_time()
        system.predict(features)
        took, busy = perf_counter() - begun, process_time() - busy
        sys.stdout.write(
            f"{system.fusion_:8s} {took:6.2f} s, {busy:6.2f} s of processors, "
            f"{peak_mb() - before:,.0f} MB on top\n"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
