"""The suites by name, each run in a process of its own.

As a script, ``python benchmarks/suites.py NAME SIZE FILE [RUN]`` measures one suite and appends a
line of JSON for every figure to a file; it ends with the process RUN that has started it, where
that is named. ``--about`` prints the facts of this machine.
"""

import importlib
import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from figures import Figure

__all__ = ["SIZES", "SUITES", "Part", "Suite", "about", "measure"]

SIZES = ("full", "quick", "tiny")

# Seconds between two looks for the run.
_LOOK: Final = 1.0


@dataclass(frozen=True)
class Part:
    """A function that yields figures, and what it is given at sizes other than the full one.

    Parameters
    ----------
    function : str
        ``"module:function"``; the module lies beside this one and is imported when it is measured.
    full, quick, tiny : dict or None
        Arguments at each size; None leaves the part out.
    """

    function: str
    full: dict[str, Any] | None
    quick: dict[str, Any] | None
    tiny: dict[str, Any] | None


@dataclass(frozen=True)
class Suite:
    """What is measured in one process.

    Parameters
    ----------
    says : str
        What it measures, for the list.
    minutes : float
        About how long the full size takes on two free cores; ten times as long is too long.
    parts : tuple of Part
        What is called, one after the other.
    """

    says: str
    minutes: float
    parts: tuple[Part, ...]


def _suite(says: str, minutes: float, *parts: Part) -> Suite:
    return Suite(says, minutes, parts)


SUITES: Final[dict[str, Suite]] = {
    "start-up": _suite(
        "importing geoembed, asking for help", 0.2, Part("startup:startup", {}, {}, {"rounds": 3})
    ),
    "featurize": _suite(
        "places to vectors in memory, against matrix products and the published encoder",
        4,
        Part(
            "featurize:featurize",
            {},
            {"sizes": (1_000, 10_000), "large": 100_000, "published": 10_000},
            {
                "sizes": (64, 128),
                "large": 256,
                "published": 64,
                "repeated": (1_000, 64),
                "rounds": 1,
            },
        ),
    ),
    "files": _suite(
        "files to files: memory, the featurizer, Parquet, the disk",
        3,
        Part(
            "files:files",
            {},
            {"rows": (30_000, 300_000), "distinct": 10_000, "repeated": 50_000},
            {"rows": (500, 1_000), "distinct": 64, "repeated": 500},
        ),
    ),
    "rasters": _suite(
        "targets from rasters and regions, against a loop over rasterio.mask",
        1,
        Part(
            "targets:targets",
            {"rounds": 1},
            {"count": 1_000, "width": 10_800, "labelled": 20_000, "rounds": 2},
            {"count": 20, "width": 1_200, "labelled": 100, "rounds": 1},
        ),
    ),
    "heads": _suite(
        "fitting heads: time, memory, and against scikit-learn",
        5,
        Part(
            "heads:heads",
            {},
            {"rows": (3_000, 10_000), "widths": (512,), "classes": 50, "penalised": 1_000},
            {"rows": (150,), "widths": (512,), "classes": 3, "penalised": 200},
        ),
    ),
    "maps": _suite(
        "predicting maps, against the featurizer",
        1,
        Part(
            "heads:maps",
            {},
            {"rows": 1_000, "chosen": ("final",), "size": (80, 40)},
            {"rows": 60, "chosen": ("final",), "size": (8, 4), "rounds": 1},
        ),
    ),
    "geolocate": _suite(
        "photographs to places beside the bare tower; evaluating against the reference",
        2,
        Part(
            "images:images",
            {},
            {"counts": (1,), "rounds": 2, "gallery": "cities"},
            {"counts": (), "gallery": "cities"},
        ),
        Part(
            "evaluation:evaluation",
            {},
            {"queries": 500, "slices": (32,)},
            {"queries": 20, "slices": (), "gallery": "cities"},
        ),
    ),
    "gallery": _suite(
        "exact search as the gallery and k grow; building, opening",
        1,
        Part(
            "galleries:galleries",
            {"large_rows": 1_000_000},
            {"rows": (1_000, 10_000, 100_000), "built": 4_096, "large_rows": 100_000},
            {
                "rows": (200, 1_000),
                "usual": 1_000,
                "built": 64,
                "large_rows": 1_000,
                "gallery": "cities",
            },
        ),
    ),
    "large gallery": _suite(
        "galleries built in a stream, killed and resumed",
        1,
        Part("large_gallery:large_gallery", {"rows": 1_000_000}, {"rows": 100_000}, None),
        # Fewer are built before they can be killed.
        Part("large_gallery:merging", {"rows": 10_000_000}, None, {"rows": 2_000}),
    ),
    "index": _suite(
        "approximate search against the exact one: recall, speed, opening",
        5,
        # Two minutes of these go into encoding a million places, where they are not in the cache.
        Part(
            "approximate:approximate",
            {"kinds": ("usearch",)},
            {"places": 50_000, "encoders": ("bluemarble.v1",), "kinds": ("usearch",)},
            None,
        ),
        Part(
            "approximate:approximate",
            {"places": 100_000, "encoders": ("geoclip.v1",)},
            None,
            None,
        ),
    ),
    "training step": _suite(
        "a step against the published loop and its matrix products",
        1,
        Part(
            "training:training",
            {},
            {"rounds": 3},
            {"rounds": 1, "batch": 8, "queue": 16, "pictures": 32},
        ),
    ),
    "feeds": _suite(
        "what feeds a training step: decoding, views, worker processes, stored features",
        0.5,
        Part("feeds:feeds", {}, {"rows": 10_000}, {"count": 2, "rows": 64, "workers": 0}),
    ),
    "onnx": _suite(
        'backend="onnx" against torch: one place, many, nearness, start',
        1.5,
        Part(
            "onnx_backend:onnx_backend",
            {},
            {"bulk": 4_096, "places": 4_096, "rounds": 3},
            {"bulk": 64, "places": 64, "singles": 2, "rounds": 1, "gallery": "cities"},
        ),
    ),
    "scaling": _suite(
        "workers of dask against one process; memory; a billion rows on paper",
        3,
        Part("workers:workers", {}, {"rows": 20_000}, {"rows": 400}),
        Part(
            "scaling:scaling",
            {"rows": 40_000, "file_rows": 600_000, "written": 50_000},
            None,
            None,
        ),
    ),
}


def measure(name: str, size: str) -> Iterator[Figure]:
    """Yield the figures of a suite at a size, each name once."""
    seen: set[str] = set()
    for part in SUITES[name].parts:
        arguments = getattr(part, size)
        if arguments is None:
            continue
        module, _, function = part.function.partition(":")
        for figure in getattr(importlib.import_module(module), function)(**arguments):
            if figure.name in seen:
                raise RuntimeError(f"two figures of {name} are called {figure.name!r}")
            seen.add(figure.name)
            # Tiny sizes show that it works: nothing is held against them.
            hold = size != "tiny" or figure.target is None
            yield figure if hold else replace(figure, target=None, better=figure.direction)


def about() -> dict[str, Any]:
    """Return the facts of this machine that seconds depend on, and versions."""
    import torch

    import geoembed as ge

    return {
        "geoembed": ge.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def _end_with(run: int) -> None:
    """End this process and those that it has started once a run is not its parent any more.

    A run that is killed cannot end them itself, and the next one would measure beside them.
    """
    while os.getppid() == run:
        time.sleep(_LOOK)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def main(arguments: list[str]) -> None:
    """Print what this machine is, or measure one suite into a file."""
    if arguments == ["--about"]:
        print(json.dumps(about()))
        return
    name, size, target, *run = arguments
    if run and os.name == "posix":
        threading.Thread(target=_end_with, args=(int(run[0]),), daemon=True).start()
    with Path(target).open("a", encoding="utf-8") as file:

        def tell(line: dict[str, Any]) -> None:
            # A line at a time: a process that dies leaves what it had found.
            file.write(json.dumps(line) + "\n")
            file.flush()

        try:
            for figure in measure(name, size):
                tell(figure.as_dict())
        except Exception as error:
            tell({"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]})
            raise


if __name__ == "__main__":
    # Under this name, so that what imports this module gets the same one.
    sys.modules.setdefault("suites", sys.modules["__main__"])
    main(sys.argv[1:])
