"""What a run came to: its scores, what was learned, the machine and the memory of a process."""

import os
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from geoembed.evaluation.geolocation import errors_km, summarise
from geoembed.evaluation.geolocation.metrics import THRESHOLDS_KM, name_threshold
from geoembed_systems.benchmark.reading import FARTHEST_KM
from geoembed_systems.shared.base import System

__all__ = ["learned_numbers", "machine_facts", "peak_mb", "score_places"]

Floats = NDArray[np.float64]

_PACKAGES: Final = ("geoembed", "numpy", "scikit-learn", "torch")


def score_places(truth: Floats, predicted: Floats) -> dict[str, float]:
    """Score predictions.

    Parameters
    ----------
    truth, predicted : array of shape (m, 2), float64
        Longitude and latitude, degrees, WGS 84; NaN where there is no prediction.

    Returns
    -------
    dict
        ``"within_1"`` to ``"within_2500"`` in percent, ``"median_km"``, ``"mean_km"`` and
        ``"geoscore"``. What has no prediction is charged half the Earth's girth.

    Examples
    --------
    >>> scores = score_places(np.array([[0.0, 0.0]]), np.array([[0.0, 1.0]]))
    >>> scores["within_25"], scores["within_200"], round(scores["median_km"])
    (0.0, 100.0, 111)
    """
    km = errors_km(truth, predicted)
    found = summarise(np.where(np.isnan(km), FARTHEST_KM, km))
    shares = {f"within_{each:g}": found.pop(name_threshold(each)) for each in THRESHOLDS_KM}
    return {name: float(value) for name, value in {**shares, **found}.items()}


def learned_numbers(system: System) -> int | None:
    """Count the numbers that a fitted system has learned.

    Parameters
    ----------
    system : System
        Fitted.

    Returns
    -------
    int or None
        Weights of its networks, without what they keep of the data; None where it has none.
    """
    count = 0
    for value in vars(system).values():
        if isinstance(value, nn.Module):
            count += sum(each.numel() for each in value.parameters())
        elif isinstance(getattr(value, "parameters", None), int):
            count += value.parameters
    return count or None


def peak_mb() -> float:
    """Return the largest memory of this process so far, in megabytes; NaN where not known."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux counts in ru_maxrss what the process that started this one took.
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1.024 / 1e3
    try:
        import resource
    except ImportError:  # not on this system
        return float("nan")
    # Kilobytes, but bytes on macOS.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def machine_facts(threads: int) -> dict[str, Any]:
    """Say what runs take place on.

    Parameters
    ----------
    threads : int
        That each run computes with.

    Returns
    -------
    dict
        Processor, cores, threads, memory, system and versions.
    """
    facts: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        facts["memory_gb"] = round(pages / 1e9, 1)
    return facts | {name: version(name) for name in _PACKAGES}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
