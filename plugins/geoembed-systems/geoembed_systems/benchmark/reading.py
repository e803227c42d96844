"""The folder of a benchmark, read and checked: data, machine, and what every run came to."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.errors import GeoembedError, TableError
from geoembed.evaluation.geolocation import errors_km
from geoembed.splits.blocks import Blocks, choose_blocks

__all__ = ["BASELINES", "FARTHEST_KM", "FORMAT", "Results", "Run", "blocks_of", "read_results"]

Floats = NDArray[np.float64]

FORMAT: Final = 1
"""Of ``results.json``."""
FARTHEST_KM: Final = 20_004.0
"""Half the Earth's girth over the poles, km: what a picture without a prediction is charged."""
BASELINES: Final = ("mean-point", "chance")
"""Systems that do not look at the picture: the mean of the training places, and one of them."""
# A median that is stated and one that is computed again from the predictions agree to this.
_AGREE: Final = 1e-3


@dataclass(frozen=True, eq=False, kw_only=True)
class Run:
    """One system, trained once on one share of the pictures and asked once.

    Parameters
    ----------
    system, title : str
        Its short name, and what people call it.
    seed : int
        Of weights, order and whatever else is drawn.
    fraction : float
        Share of the training pictures, in (0, 1].
    train_rows : int
        How many those are.
    km : ndarray of float64, shape (m,)
        Error of every test picture, geodesic, km; `FARTHEST_KM` where there is no prediction.
        Empty where the run failed.
    missing : int
        Test pictures without a prediction.
    fit_s, predict_s : float
        Time to train, and to answer all test pictures, seconds; NaN where not known.
    parameters, cells : int or None
        Numbers that were learned, and cells that answers come from; None where there are none.
    peak_mb : float
        Largest memory of its process, MB; NaN where not known.
    options : mapping
        Of its constructor.
    machine : mapping
        That it took place on; empty where its record does not say.
    notes : tuple of str
        What the reader should know.
    failed : str
        Why it failed; empty if it did not.
    """

    system: str
    title: str
    seed: int
    fraction: float
    train_rows: int = 0
    km: Floats = field(default_factory=lambda: np.empty(0))
    missing: int = 0
    fit_s: float = np.nan
    predict_s: float = np.nan
    parameters: int | None = None
    cells: int | None = None
    peak_mb: float = np.nan
    options: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failed: str = ""


@dataclass(frozen=True, eq=False)
class Results:
    """All runs of a benchmark.

    Parameters
    ----------
    data, machine : mapping
        What it ran on: facts of the data, and the machine of the last start.
    lonlat : ndarray of float64, shape (m, 2)
        Where the test pictures were taken, degrees, WGS 84.
    runs : tuple of Run
        In the order of the record, failed ones too.
    chosen : str
        How options were found; empty where nobody has looked for them.
    """

    data: Mapping[str, Any]
    machine: Mapping[str, Any]
    lonlat: Floats
    runs: tuple[Run, ...]
    chosen: str = ""


def blocks_of(facts: Mapping[str, Any]) -> Blocks | None:
    """Return the blocks of the Earth that were held out whole, if the data say so.

    Parameters
    ----------
    facts : mapping
        Of the data; ``"split"`` says in words how it was divided.

    Returns
    -------
    Blocks or None
        None where single pictures were held out, or it is not known.

    Examples
    --------
    >>> print(blocks_of({"split": "blocks of 10 degrees held out"}))
    blocks of 10 degrees
    >>> blocks_of({"split": "a manifest of its own"}) is None
    True
    """
    # Blocks are called in words what they are called by geoembed.
    found = re.search(r"blocks of ([\d.]+) (degrees|km)", str(facts.get("split", "")))
    if found is None:
        return None
    size = float(found[1])
    return (
        choose_blocks(None, size, None)
        if found[2] == "degrees"
        else choose_blocks(size, None, None)
    )


def read_results(folder: str | Path) -> Results:
    """Read the folder that `geoembed_systems.benchmark.running.run_benchmark` has written.

    Parameters
    ----------
    folder : str or Path
        With ``results.json``, the places of the test pictures and the predictions.

    Returns
    -------
    Results
        Errors are computed again from the predictions.

    Raises
    ------
    TableError
        If a file is missing or is not what it should be, or a run's scores are not those of its
        predictions.
    """
    path = Path(folder).expanduser()
    record = _read_json(path / "results.json")
    if record.get("format") != FORMAT:
        raise TableError(
            f"{path / 'results.json'} has the format {record.get('format')!r}, and this version "
            f"reads {FORMAT}: run the benchmark again."
        )
    runs = record.get("runs")
    if not isinstance(runs, list) or not runs:
        raise TableError(f"{path / 'results.json'} holds no runs: run the benchmark first.")
    lonlat = _read_array(path / str(record.get("test_lonlat", "test_lonlat.npy")))
    return Results(
        data=dict(record.get("data") or {}),
        machine=dict(record.get("machine") or {}),
        lonlat=lonlat,
        runs=tuple(_read_run(path, run, lonlat) for run in runs),
        chosen=str(record.get("chosen") or ""),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TableError(
            f"There is no {path}: give the folder of a benchmark that has run."
        ) from error
    except (OSError, ValueError) as error:
        raise TableError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise TableError(f"{path} holds no record of a benchmark.")
    return found


def _read_array(path: Path) -> Floats:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TableError(
            f"{path} cannot be read ({error}): run the benchmark again, it makes what is missing."
        ) from error
    if found.ndim != 2 or found.shape[1] != 2:
        raise TableError(f"{path} has the shape {found.shape}, not (pictures, 2).")
    return np.asarray(found, dtype=np.float64)


def _read_run(folder: Path, given: Any, lonlat: Floats) -> Run:
    try:
        facts: dict[str, Any] = {
            "system": str(given["system"]),
            "title": str(given.get("title") or given["system"]),
            "seed": int(given["seed"]),
            "fraction": float(given["fraction"]),
            "train_rows": int(given.get("train_rows") or 0),
            "options": dict(given.get("options") or {}),
            "machine": dict(given.get("machine") or {}),
            "notes": tuple(map(str, given.get("notes") or ())),
        }
        for name in ("fit_s", "predict_s", "peak_mb"):
            facts[name] = _number(given.get(name))
        for name in ("parameters", "cells"):
            facts[name] = None if given.get(name) is None else int(given[name])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TableError(f"results.json has a run that cannot be read ({error!r}).") from error
    failed = given.get("failed") or given.get("error")
    if failed:
        return Run(**facts, failed=" ".join(str(failed).split()))
    predicted = _read_array(folder / str(given["predictions"]))
    where = f"{facts['system']}, seed {facts['seed']}, {100 * facts['fraction']:g} %"
    try:
        km = errors_km(lonlat, predicted)
    except GeoembedError as error:
        raise TableError(f"The predictions of {where} do not fit: {error}") from error
    missing = np.isnan(km)
    km = np.where(missing, FARTHEST_KM, km)
    _check_scores(where, given.get("scores") or {}, km)
    return Run(**facts, km=km, missing=int(missing.sum()))


def _check_scores(where: str, scores: Mapping[str, Any], km: Floats) -> None:
    """Refuse a record beside predictions of another run."""
    stated = _number(scores.get("median_km"))
    if not np.isfinite(stated):
        return
    found = float(np.median(km))
    if abs(stated - found) > _AGREE * max(found, 1.0):
        raise TableError(
            f"results.json says that the median error of {where} is {stated:,.1f} km, and its "
            f"predictions that it is {found:,.1f} km: the files are of different runs. Run the "
            "benchmark again in a new folder."
        )


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)
