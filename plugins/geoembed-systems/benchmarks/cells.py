"""Partitions and CPlaNet at size: 4.7 million places, 10,000 pictures at 10,000 cells.

Each case has a process of its own, so that its peak memory is its own.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

PLACES = 4_700_000
PICTURES = 10_000
CELLS = 10_000
WIDTH = 768


def towns(count: int, seed: int = 0) -> np.ndarray:
    """Return places as crowded as photographs: towns of all sizes, and some anywhere.

    Parameters
    ----------
    count : int
        How many.
    seed : int
        Of what is drawn.

    Returns
    -------
    array of shape (count, 2), float64
        Longitude and latitude.
    """
    rng = np.random.default_rng(seed)
    middles = np.column_stack(
        [rng.uniform(-180, 180, 20_000), np.degrees(np.arcsin(rng.uniform(-0.8, 0.95, 20_000)))]
    )
    sizes = rng.pareto(1.0, 20_000) + 0.1
    town = rng.choice(20_000, count, p=sizes / sizes.sum())
    spread = rng.choice([0.02, 0.2, 3.0], (count, 1), p=[0.5, 0.4, 0.1])
    places = middles[town] + rng.normal(0.0, 1.0, (count, 2)) * spread
    places[:, 1] = places[:, 1].clip(-89.9, 89.9)
    return places


def partition(count: int) -> str:
    """Time one adaptive partition, and three nested ones."""
    from geoembed_systems.cells.adaptive import adaptive_partition
    from geoembed_systems.cells.nesting import nested_partitions

    places = towns(count)
    begun = perf_counter()
    made = adaptive_partition(places, t_max=10_000, t_min=50)
    once = perf_counter() - begun
    begun = perf_counter()
    nested = nested_partitions(places, t_max=(5_000, 2_000, 1_000), t_min=50)
    thrice = perf_counter() - begun
    begun = perf_counter()
    made.locate(places)
    found = perf_counter() - begun
    return (
        f"{count:,} places: {len(made):,} cells in {once:.1f} s; {nested!r} in {thrice:.1f} s; "
        f"all located in {found:.1f} s"
    )


def combination(count: int) -> str:
    """Time combining cells to five partitions by features of 64 numbers."""
    from geoembed_systems.cells.merging import combine_partitions

    places = towns(count)
    looks = np.random.default_rng(0).normal(size=(count, 64)).astype(np.float32)
    begun = perf_counter()
    made = combine_partitions(places, looks, t_max=max(20, count // 3_500), t_min=2)
    return f"{count:,} places: {made!r} in {perf_counter() - begun:.1f} s"


def prediction(count: int) -> str:
    """Time CPlaNet's answers; its weights are random."""
    import torch
    from geoembed_systems.cells.merging import combine_partitions
    from geoembed_systems.cplanet import CPlaNet

    torch.set_num_threads(2)
    places = towns(400_000)
    made = combine_partitions(places, t_max=108, t_min=2)
    features = np.random.default_rng(0).normal(size=(count, WIDTH)).astype(np.float32)
    system = CPlaNet(progress=False)
    system.combination_, system.partition_ = made, made.fine
    system.layout_ = system._read(features, crops="none").layout
    system.network_ = system._build()
    seconds = {}
    for name in ("sum", "product"):
        system.combine = name
        begun, busy = perf_counter(), process_time()
        system.predict(features)
        seconds[name] = perf_counter() - begun, process_time() - busy
    # On a machine that does other things too, the second number is the one to look at.
    told = ", ".join(
        f"{name} {wall:.1f} s ({cpu:.1f} s of CPU)" for name, (wall, cpu) in seconds.items()
    )
    return f"{count:,} features of {WIDTH} at {made!r}: {told}"


CASES = {
    "partition": (partition, PLACES),
    "combination": (combination, 400_000),
    "prediction": (prediction, PICTURES),
}


def main() -> None:
    """Run one case, or each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="?", choices=CASES)
    parser.add_argument("--count", type=int)
    given = parser.parse_args()
    if given.case is None:
        for name in CASES:
            subprocess.run([sys.executable, __file__, name], check=True)
        return
    from geoembed_systems.benchmark.measuring import peak_mb

    run, usual = CASES[given.case]
    told = run(given.count or usual)
    peak = peak_mb()
    sys.stdout.write(f"{given.case}: {told}; peak {peak:,.0f} MB\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
