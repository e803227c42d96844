"""Made-up runs whose scores and winners are known, and the report of them."""

import itertools
import json

import numpy as np
from geoembed_systems.benchmark.comparing import SCORES
from geoembed_systems.benchmark.reading import Results, Run
from geoembed_systems.benchmark.report import BenchmarkReport
from pyproj import Geod

TITLES = {
    "knn": "[L]kNN",
    "planet": "PlaNet",
    "cplanet": "CPlaNet",
    "isns": "ISNs",
    "translocator": "TransLocator",
    "geodecoder": "GeoDecoder",
    "geoclip": "GeoCLIP",
    "mean-point": "Mean of the training places",
    "chance": "A random training place",
}
GEOD = Geod(ellps="WGS84")
MEDIAN = SCORES.index("median_km")


def made(km, *, system="planet", seed=0, fraction=1.0, **more):
    title = TITLES.get(system, system)
    return Run(system=system, title=title, seed=seed, fraction=fraction, km=km, **more)


def report_of(runs, **options):
    m = max(len(run.km) for run in runs)
    return BenchmarkReport(
        Results({"name": "toy", "title": "Toy"}, {"cores": 2}, np.zeros((m, 2)), tuple(runs)),
        **{"resamples": 300, **options},
    )


def whole_benchmark(m=120, seeds=(0, 1, 2), fractions=(0.05, 0.2, 1.0)):
    """All systems; the factor of each is known, GeoCLIP's is the least."""
    factors = dict(zip(TITLES, (1.2, 1.6, 1.5, 1.4, 1.3, 1.1, 0.6, 4.0, 5.0), strict=True))
    hard = np.random.default_rng(0).lognormal(7.0, 0.8, m)
    runs = []
    for (system, factor), fraction, seed in itertools.product(factors.items(), fractions, seeds):
        noise = np.random.default_rng([seed, round(100 * fraction), len(system)]).lognormal(
            0, 0.1, m
        )
        grown = factor * (1.0 if system in ("mean-point", "chance") else fraction**-0.1)
        km = np.minimum(hard * noise * grown, 19_000.0)
        more = {"fit_s": 3.0 + seed, "predict_s": 0.6, "parameters": 1200, "peak_mb": 800.0 + seed}
        more |= {"train_rows": round(4000 * fraction), "cells": None if system == "knn" else 50}
        runs.append(made(km, system=system, seed=seed, fraction=fraction, **more))
    return runs


def write_folder(folder, *, change=None):
    """Write the files of one run of PlaNet and one that failed; errors are 100, 200 and 1000 km."""
    truth = np.array([[0.0, 0.0], [100.0, 40.0], [-70.0, -30.0]])
    lon, lat, _ = GEOD.fwd(*truth.T, [90.0, 10.0, 200.0], [100e3, 200e3, 1000e3])
    predicted = np.stack([lon, lat], axis=1)
    run = {"system": "planet", "title": "PlaNet", "seed": 0, "fraction": 1.0, "train_rows": 9}
    failed = {**run, "seed": 1, "failed": "TrainingError: the loss\nis not finite"}
    scores = {"median_km": 200.0}
    good = {**run, "fit_s": 2.5, "parameters": 10, "scores": scores, "predictions": "p.npy"}
    record = {"format": 1, "data": {"name": "three"}, "machine": {}, "test_lonlat": "t.npy"}
    record["runs"] = [good, failed]
    if change:
        change(record, predicted)
    np.save(folder / "t.npy", truth)
    np.save(folder / "p.npy", predicted)
    (folder / "results.json").write_text(json.dumps(record))
    return folder
