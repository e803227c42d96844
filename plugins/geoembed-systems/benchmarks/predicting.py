"""How long PlaNet and ISNs take to answer 10,000 pictures at 10,000 cells; run by hand.

Type ``python benchmarks/predicting.py [pictures] [cells] [width]``. Nothing is trained: the time
does not depend on what the weights are.
"""

import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter, process_time
from typing import Any

import numpy as np
from geoembed_systems.cells.adaptive import adaptive_partition
from geoembed_systems.cells.nesting import nested_partitions
from geoembed_systems.isns import ISNs
from geoembed_systems.pictures.features import Layout
from geoembed_systems.pictures.scenes import Scenes
from geoembed_systems.planet import PlaNet


def measure(what: str, ask: Callable[[], Any]) -> None:
    """Tell how long the second of two calls takes, on the clock and of all processors."""
    ask()
    begun, busy = perf_counter(), process_time()
    ask()
    took, busy = perf_counter() - begun, process_time() - busy
    sys.stdout.write(f"{what:36s} {took:6.2f} s, {busy:6.2f} s of processors\n")


def planet(places: np.ndarray, width: int) -> PlaNet:
    """Return a PlaNet that nothing was taught."""
    made = PlaNet(device="cpu")
    made.partition_ = adaptive_partition(places, t_max=57, t_min=5)
    made.layout_ = Layout(width)
    made.network_ = made._build().eval()
    return made


def isns(places: np.ndarray, width: int, scenes: Scenes | None, routing: str = "argmax") -> ISNs:
    """Return ISNs that nothing was taught."""
    made = ISNs(device="cpu", scene_routing=routing)
    made.hierarchy_ = nested_partitions(places, t_max=(285, 114, 57), t_min=5)
    made.partition_, made.layout_, made.scenes_ = made.hierarchy_.finest, Layout(width), scenes
    made.network_ = made._build().eval()
    return made


def main(pictures: int = 10_000, cells: int = 10_000, width: int = 768) -> None:
    """Ask all of them."""
    rng = np.random.default_rng(0)
    towns = rng.uniform([-180, -60], [180, 75], (cells // 2, 2))
    places = towns[rng.integers(len(towns), size=30 * cells)]
    places = places + rng.normal(0, 0.3, places.shape)
    features = rng.normal(size=(pictures, width)).astype(np.float32)
    scenes = Scenes(("indoor", "natural", "urban"))
    systems = {
        "PlaNet": planet(places, width),
        "ISNs": isns(places, width, None),
        "ISNs, three experts": isns(places, width, scenes),
        "ISNs, three experts, mixed": isns(places, width, scenes, "mixed"),
    }
    sys.stdout.write(f"{len(systems['PlaNet'].partition_):,} cells, {pictures:,} pictures\n")
    for name, system in systems.items():
        measure(f"{name}: predict", partial(system.predict, features))
    measure("PlaNet: predict_cells", partial(systems["PlaNet"].predict_cells, features))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
