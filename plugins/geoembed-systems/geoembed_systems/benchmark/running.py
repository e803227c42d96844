"""Running a benchmark: each system, seed and share of the data in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any, Final

import numpy as np

import geoembed_systems
from geoembed.errors import OptionError, TableError, unknown_name
from geoembed.geodesy import spherical_mean
from geoembed.progress import progress_bar
from geoembed.scalars import is_whole
from geoembed_systems.benchmark.data import BenchmarkData, fraction_rows
from geoembed_systems.benchmark.measuring import machine_facts, score_places
from geoembed_systems.benchmark.presets import (
    CHOSEN,
    SYSTEMS,
    Preset,
    find_preset,
    options_for,
)
from geoembed_systems.benchmark.reading import BASELINES, FORMAT

__all__ = ["run_benchmark"]

_MODULE: Final = "geoembed_systems.benchmark.one_run"
_TITLES: Final = {"mean-point": "Mean of the training places", "chance": "A random training place"}
# Set by the benchmark itself.
_OWN: Final = ("random_state", "progress")
# Seconds that a process which was told to end may take.
_PATIENCE: Final = 10.0


def run_benchmark(
    data: BenchmarkData,
    *,
    folder: str | Path,
    systems: str | Sequence[str] = "all",
    seeds: Sequence[int] = (0,),
    fractions: Sequence[float] = (1.0,),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    resume: bool = True,
    threads: int = 2,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Train every system on the same pictures, and ask all about the same others.

    Parameters
    ----------
    data : BenchmarkData
        Of `blue_marble_data` or `manifest_data`.
    folder : str or Path
        Gets ``results.json``, ``test_lonlat.npy``, and a folder a run, with its predictions:
        ``runs/SYSTEM/f{percent}-s{seed}``.
    systems : "all" or sequence of str
        Names of `geoembed_systems.benchmark.presets.SYSTEMS`. The mean of the training places and
        a random one of them stand beside them.
    seeds : sequence of int
        Each decides weights, order, and which pictures a share below 1 holds.
    fractions : sequence of float
        Shares of the training pictures, in (0, 1]. Those of one seed are nested.
    options : mapping, optional
        System -> option -> value, above those of its preset.
    resume : bool
        Keep runs that are there, of the same data and options. What failed, or was stopped, is run
        again in any case.
    threads : int
        That each run computes with.
    progress : bool, optional
        Show a progress bar over the runs; None shows one on a terminal.

    Returns
    -------
    dict
        What ``results.json`` holds. A run that failed has ``"failed"`` with the reason, and does
        not keep the others from running.

    Raises
    ------
    OptionError
        If there is nothing to run, or an option is out of range or unknown; before anything runs.
    UnknownNameError
        If there is no such system or option.
    TableError
        If the folder cannot be written.

    Notes
    -----
    One run after the other, so that none takes time from another: memory is the largest of its own
    process, times are those of training and of answering alone.

    Examples
    --------
    >>> from geoembed_systems.pictures.features import PictureFeatures
    >>> rng = np.random.default_rng(0)
    >>> places = rng.uniform([-60, -40], [60, 60], (80, 2))
    >>> data = BenchmarkData(
    ...     name="toy",
    ...     title="Features that are places",
    ...     train=PictureFeatures(places[:60]),
    ...     test=PictureFeatures(places[60:]),
    ...     train_lonlat=places[:60],
    ...     test_lonlat=places[60:],
    ... )
    >>> record = run_benchmark(data, folder="toy", systems=["knn"], progress=False)
    >>> [(run["system"], run.get("failed")) for run in record["runs"]]
    [('knn', None), ('mean-point', None), ('chance', None)]
    """
    jobs = _plan(data, systems, seeds, fractions, options or {}, threads)
    room = Path(folder).expanduser().absolute()
    try:
        room.mkdir(parents=True, exist_ok=True)
        kept = data if data.folder is not None else data.save(room / "data")
        np.save(room / "test_lonlat.npy", data.test_lonlat)
        with progress_bar(progress, text="runs", unit="run", total=len(jobs)) as bar:
            for job in jobs:
                bar.set_postfix_str(_name(job), refresh=True)
                if not (resume and _finished(room, job)):
                    _run(room, {**job, "data": str(kept.folder)}, data)
                bar.update()
                _write_json(room / "results.json", _results(room, data, jobs, threads))
    except OSError as error:
        raise TableError(f"{room} cannot be written: {error.strerror or error}.") from error
    record: dict[str, Any] = json.loads((room / "results.json").read_text(encoding="utf-8"))
    return record


def _plan(
    data: BenchmarkData,
    systems: str | Sequence[str],
    seeds: Sequence[int],
    fractions: Sequence[float],
    options: Mapping[str, Mapping[str, Any]],
    threads: int,
) -> list[dict[str, Any]]:
    """Return everything that is to run, checked."""
    names = [preset.name for preset in SYSTEMS] if systems == "all" else systems
    names = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    chosen = [find_preset(name) for name in names]
    if not chosen:
        raise OptionError("systems= names none: give 'all', or some of their names.")
    for name in options:
        if name not in names:
            raise unknown_name("system among those that run", name, names)
    if not seeds or any(not _whole(seed, 0) for seed in seeds):
        raise OptionError(f"seeds={list(seeds)!r}: give whole numbers of 0 or more.")
    if not _whole(threads, 1):
        raise OptionError(f"threads={threads!r} is no whole number of at least 1.")
    if not fractions:
        raise OptionError("fractions= names none: give shares above 0 and at most 1.")
    for fraction in fractions:
        fraction_rows(len(data.train), fraction)
    jobs = []
    for fraction in sorted(set(map(float, fractions)), reverse=True):
        for seed in dict.fromkeys(map(int, seeds)):
            for preset in chosen:
                given = _options(preset, data.name, options.get(preset.name, {}))
                jobs.append(_job(preset.name, preset.title, given, seed, fraction, data, threads))
            jobs += [
                _job(name, _TITLES[name], {}, seed, fraction, data, threads) for name in BASELINES
            ]
    return jobs


def _job(
    system: str,
    title: str,
    options: Mapping[str, Any],
    seed: int,
    fraction: float,
    data: BenchmarkData,
    threads: int,
) -> dict[str, Any]:
    facts = {
        "system": system,
        "options": options,
        "seed": seed,
        "fraction": fraction,
        "data": data.digest,
    }
    return {
        "system": system,
        "title": title,
        "options": options,
        "seed": seed,
        "fraction": fraction,
        "threads": threads,
        "facts": facts,
    }


def _options(preset: Preset, data: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a system as JSON holds them."""
    known = [name for name in signature(preset.load()).parameters if name not in _OWN]
    for name in given:
        if name not in known:
            raise unknown_name(f"option of {preset.name}", name, known)
    try:
        whole: dict[str, Any] = json.loads(json.dumps({**options_for(preset, data), **given}))
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"The options of {preset.name} are written down with the results, and JSON cannot hold "
            f"them: {error}."
        ) from error
    return whole


def _run(room: Path, job: dict[str, Any], data: BenchmarkData) -> None:
    """Run one job; what it came to, or why it failed, then lies in its folder."""
    folder = _folder(room, job)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("run.json", "failed.json", "predictions.npy"):
        (folder / name).unlink(missing_ok=True)
    if job["system"] in BASELINES:
        _guess(folder, job, data)
        return
    _write_json(folder / "job.json", {**job, "parent": os.getpid()})
    environment = {
        **os.environ,
        # It need not be installed: found where this process has found it.
        "PYTHONPATH": os.pathsep.join(
            [str(Path(geoembed_systems.__file__).parents[1]), *filter(None, sys.path)]
        ),
        "OMP_NUM_THREADS": str(job["threads"]),
    }
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, str(folder / "job.json")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            code = process.wait()
        except BaseException:
            _end(process)
            raise
    if not (folder / "run.json").is_file() and not (folder / "failed.json").is_file():
        _write_json(
            folder / "failed.json",
            {"facts": job["facts"], "message": f"{_why(code)}; {folder / 'log.txt'} may say more"},
        )


def _guess(folder: Path, job: dict[str, Any], data: BenchmarkData) -> None:
    """Answer without looking at a picture."""
    rows = fraction_rows(len(data.train), job["fraction"], job["seed"])
    known = data.train_lonlat[rows[data.train.good[rows]]]
    count = len(data.test)
    if job["system"] == "mean-point":
        found = np.broadcast_to(spherical_mean(known), (count, 2))
    else:
        found = known[np.random.default_rng(job["seed"]).integers(len(known), size=count)]
    np.save(folder / "predictions.npy", found)
    run = {
        "system": job["system"],
        "seed": job["seed"],
        "fraction": job["fraction"],
        "train_rows": len(known),
        "test_rows": count,
        "options": {},
        "notes": [],
        "scores": score_places(data.test_lonlat, found),
    }
    _write_json(folder / "run.json", {"facts": job["facts"], **run})


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
        return
    process.kill()
    process.wait()


def _why(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        memory = ", as where memory runs out" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{memory}"
    return f"its process ended with {code} and said nothing"


def _results(
    room: Path, data: BenchmarkData, jobs: Sequence[Mapping[str, Any]], threads: int
) -> dict[str, Any]:
    """Put together what there is: runs asked for now, and earlier ones beside which they fit."""
    asked = {_name(job): job for job in jobs}
    options = {job["system"]: job["options"] for job in jobs}
    found = []
    for path, told in _runs_in(room):
        facts = told.get("facts", {})
        name = f"{facts.get('system')}/{path.parent.name}"
        same = facts == asked[name]["facts"] if name in asked else _beside(facts, data, options)
        if not same:
            continue
        told = {key: value for key, value in told.items() if key not in ("facts", "traceback")}
        run = {"title": _title(facts["system"]), **told}
        if path.name == "failed.json":
            run = {
                "system": facts["system"],
                "title": _title(facts["system"]),
                "seed": facts["seed"],
                "fraction": facts["fraction"],
                "train_rows": len(fraction_rows(len(data.train), facts["fraction"], facts["seed"])),
                "test_rows": len(data.test),
                "options": facts["options"],
                "failed": told["message"],
            }
        else:
            run["predictions"] = str((path.parent / "predictions.npy").relative_to(room).as_posix())
        found.append(run)
    order = [*(preset.name for preset in SYSTEMS), *BASELINES]
    found.sort(key=lambda run: (order.index(run["system"]), -run["fraction"], run["seed"]))
    return {
        "format": FORMAT,
        "data": data.describe(),
        "machine": machine_facts(threads),
        "chosen": CHOSEN if data.name == "bluemarble" else "",
        "test_lonlat": "test_lonlat.npy",
        "runs": found,
    }


def _beside(
    facts: Mapping[str, Any], data: BenchmarkData, options: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Tell whether an earlier run is of the same data, and not of options that have changed."""
    system = facts.get("system")
    known = (*(preset.name for preset in SYSTEMS), *BASELINES)
    return (
        facts.get("data") == data.digest
        and system in known
        and facts.get("options") == options.get(str(system), facts.get("options"))
    )


def _runs_in(room: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for name in ("run.json", "failed.json"):
        for path in sorted((room / "runs").glob(f"*/*/{name}")):
            told = _read_json(path)
            if told is not None:
                yield path, told


def _finished(room: Path, job: Mapping[str, Any]) -> bool:
    folder = _folder(room, job)
    told = _read_json(folder / "run.json")
    there = (folder / "predictions.npy").is_file()
    return told is not None and there and told.get("facts") == job["facts"]


def _folder(room: Path, job: Mapping[str, Any]) -> Path:
    return room / "runs" / _name(job)


def _name(job: Mapping[str, Any]) -> str:
    return f"{job['system']}/f{100.0 * job['fraction']:g}-s{job['seed']}"


def _title(system: str) -> str:
    return _TITLES.get(system) or find_preset(system).title


def _whole(value: Any, least: int) -> bool:
    return bool(is_whole(value) and value >= least)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Missing or cut short: it is run again.
        return None
    return found if isinstance(found, dict) else None


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    draft = path.with_name(f"part-{path.name}")
    draft.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, path)
