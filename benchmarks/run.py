"""`make bench`: measure speed and memory, print a table, write JSON.

Both sides of a ratio are measured in one process, in turn; figures are medians of rounds.
It takes over an hour on two free cores. ``--quick`` leaves the million points, the world raster
and the heads out; ``--only`` measures what it names.
"""

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch
from evaluation import evaluation
from featurize import SIZES, against_published, repeats, single_point, throughput
from feeds import feeds
from figures import Figure, as_table
from galleries import galleries
from heads import against_scikit_learn, heads, maps
from images import images
from memory import memory
from onnx_backend import onnx_backend
from scaling import scaling
from startup import startup
from targets import targets
from training import training

import geoembed as ge


def main() -> None:
    """Run every benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("bench"), help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="leave out what takes long")
    parser.add_argument("--only", nargs="+", metavar="SUITE", help="measure these suites alone")
    arguments = parser.parse_args()
    suites = {
        "start-up": startup,
        "throughput": lambda: throughput(SIZES[:2] if arguments.quick else SIZES),
        "published encoder": against_published,
        "repeats": repeats,
        "one point": single_point,
        "memory": memory,
    }
    if not arguments.quick:
        suites |= {
            "targets": targets,
            "heads": heads,
            "maps": maps,
            "scikit-learn": against_scikit_learn,
            "galleries": galleries,
            "images": images,
            "evaluation": evaluation,
            "feeds": feeds,
            "training": training,
            "onnx": onnx_backend,
            "scaling": scaling,
        }
    if arguments.only:
        unknown = sorted(set(arguments.only) - set(suites))
        if unknown:
            parser.error(f"no suite {', '.join(unknown)}: choose from {', '.join(suites)}")
        suites = {name: suites[name] for name in arguments.only}
    about = {
        "geoembed": ge.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "load before": round(os.getloadavg()[0], 1),
        "date": datetime.now(UTC).date().isoformat(),
    }
    figures: list[Figure] = []
    for name, suite in suites.items():
        print(f"measuring {name} ...", flush=True)
        for figure in suite():
            figures.append(figure)
            print(as_table([figure]).splitlines()[-1], flush=True)
    table = as_table(figures)
    print(f"\n{table}\n")
    arguments.output.mkdir(parents=True, exist_ok=True)
    document = {"about": about, "figures": [figure.as_dict() for figure in figures]}
    (arguments.output / "bench.json").write_text(json.dumps(document, indent=2) + "\n")
    caption = ", ".join(f"{key} {value}" for key, value in about.items())
    (arguments.output / "bench.md").write_text(
        f"Measured with `make bench` ({caption}).\n\n{table}\n"
    )
    print(f"written to {arguments.output / 'bench.json'} and {arguments.output / 'bench.md'}")
    missed = [figure.name for figure in figures if figure.met is False]
    if missed:
        print(f"targets not met: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
