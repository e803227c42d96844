"""One system, trained and asked once, in a process of its own: ``python -m`` with a job's file."""

import json
import os
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from geoembed.errors import GeoembedError

__all__ = ["main", "run_job"]


def run_job(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train a system on a share of the data, ask it about the test pictures, and measure that.

    Parameters
    ----------
    job : dict
        ``"data"`` (folder), ``"system"``, ``"seed"``, ``"fraction"``, ``"options"`` and
        ``"threads"``.
    folder : Path
        Gets ``predictions.npy``.

    Returns
    -------
    dict
        What ``results.json`` says of a run, but for its title.

    Raises
    ------
    GeoembedError
        Whatever is wrong with options or data.
    """
    import torch

    from geoembed_systems.benchmark.data import BenchmarkData, fraction_rows
    from geoembed_systems.benchmark.measuring import (
        learned_numbers,
        machine_facts,
        peak_mb,
        score_places,
    )
    from geoembed_systems.benchmark.presets import find_preset

    torch.set_num_threads(int(job["threads"]))
    preset = find_preset(job["system"])
    data = BenchmarkData.load(job["data"])
    if not preset.tokens:
        data = data.without_tokens()
    rows = fraction_rows(len(data.train), job["fraction"], job["seed"])
    train = data.train if len(rows) == len(data.train) else data.train.take(rows)
    scenes = None if data.scenes is None else data.scenes[rows]
    system = preset.load()(**job["options"], random_state=job["seed"], progress=False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        start = time.perf_counter()
        system.fit(train, data.train_lonlat[rows], scenes)
        fitted = time.perf_counter()
        found = system.predict(data.test)
        asked = time.perf_counter()
    _write(folder / "predictions.npy", lambda path: np.save(path, found))
    gallery = getattr(system, "gallery_", None)
    notes = []
    if gallery is not None:
        notes.append(f"answers from {len(gallery):,} places (gallery={gallery.name!r})")
    notes += dict.fromkeys(str(each.message) for each in told)
    return {
        "system": job["system"],
        "seed": job["seed"],
        "fraction": job["fraction"],
        "train_rows": int(train.good.sum()),
        "test_rows": len(data.test),
        "fit_s": fitted - start,
        "predict_s": asked - fitted,
        "parameters": learned_numbers(system),
        "cells": len(system.partition_) if preset.cells else None,
        "peak_mb": peak_mb(),
        "options": job["options"],
        "machine": machine_facts(int(job["threads"])),
        "notes": notes,
        "scores": score_places(data.test_lonlat, found),
    }


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone, however that ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write(path: Path, write: Any) -> None:
    """Write a file that appears when it is whole."""
    draft = path.with_name(f"part-{path.name}")
    write(draft)
    os.replace(draft, path)


def main(arguments: list[str]) -> int:
    """Run the job in a file, and write what it came to beside it.

    Parameters
    ----------
    arguments : list of str
        Path of ``job.json``. Its folder gets ``run.json``, or ``failed.json`` with a message.

    Returns
    -------
    int
        0, or 1 if it failed.
    """
    file = Path(arguments[0])
    job = json.loads(file.read_text(encoding="utf-8"))
    if job.get("parent"):
        _end_with(job["parent"])
    name, record = "run.json", dict[str, Any]()
    try:
        record = run_job(job, file.parent)
    except Exception as error:
        told = (
            str(error) if isinstance(error, GeoembedError) else f"{type(error).__name__}: {error}"
        )
        name, record = "failed.json", {"message": told, "traceback": traceback.format_exc()}
    text = json.dumps({"facts": job["facts"], **record}, indent=1)
    _write(file.parent / name, lambda path: path.write_text(text + "\n", encoding="utf-8"))
    return int(name == "failed.json")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
