"""Speed, memory and convergence of the default models of heads, on real embeddings of land points.

Run as a script with a case, a matrix of features and labels, it prints one line of JSON: every
case has a process of its own, so that nothing else is counted.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
from figures import Figure, alternate
from memory import peak_mb, reset_peak

import geoembed as ge
from geoembed.heads.ridge import PathRidge
from geoembed.heads.softmax import PathSoftmax

ROWS = 100_000
CLASSES = 200
# Columns: seconds and megabytes that a fit and a prediction may take.
WIDTHS = {512: (60.0, 3000.0), 3072: (300.0, 6000.0)}
CASES = {
    "ridge": "ridge, 9 targets",
    "fractions": "softmax, 9 shares",
    "classes": f"softmax, {CLASSES} classes",
}


def land_points(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return random places on land, evenly over its area."""
    rng = np.random.default_rng(seed)
    lon = rng.uniform(-180, 180, 5 * count)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, 5 * count)))
    land = np.flatnonzero(ge.data.is_land(lon, lat))[:count]
    return lon[land], lat[land]


def regions(lon: np.ndarray, lat: np.ndarray, classes: int) -> np.ndarray:
    """Label places by the nearest of some centres, which are as crowded as cities are.

    Sizes differ as those of countries do: the largest class has thousands of rows, some a few.
    """
    rng = np.random.default_rng(1)
    cities = ge.data.load_cities()
    centres = cities.iloc[rng.choice(len(cities), classes, replace=False)]
    seeds = ge.geodesy.to_unit_vectors(centres[["lon", "lat"]])
    places = ge.geodesy.to_unit_vectors(np.column_stack([lon, lat]))
    return np.concatenate([(part @ seeds.T).argmax(axis=1) for part in np.array_split(places, 50)])


def shares(lon: np.ndarray, lat: np.ndarray, classes: int = 9) -> np.ndarray:
    """Make shares of classes that vary smoothly in space, many of them 0."""
    rng = np.random.default_rng(2)
    places = ge.geodesy.to_unit_vectors(np.column_stack([lon, lat]))
    waves = rng.normal(size=(3, 60)) * rng.choice([2.0, 8.0, 30.0], 60)
    scores = np.sin(places @ waves + rng.uniform(0, 6, 60)) @ rng.normal(size=(60, classes)) / 3
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return rng.multinomial(20, expected) / 20.0


def run_case(case: str, features: str, targets: str) -> None:
    """Fit and predict in this process; print seconds, processor seconds, megabytes and more."""
    X, y = np.load(features), np.load(targets)
    reset_peak()
    start, spent = perf_counter(), process_time()
    if case == "ridge":
        model = PathRidge().fit(X, y)
        model.predict(X)
    elif case == "fractions":
        model = PathSoftmax().fit_fractions(X, y)
        model.predict_proba(X)
    else:
        model = PathSoftmax().fit(X, y)
        model.predict_proba(X)
    steps = int(getattr(model, "n_iter_", 0))
    figures = {"wall": perf_counter() - start, "cpu": process_time() - spent, "peak": peak_mb()}
    penalties = len(model.path_["alphas"])
    print(json.dumps({**figures, "steps": steps, "penalties": penalties}))


def heads(rows: int = ROWS, widths: tuple[int, ...] = tuple(WIDTHS)) -> Iterator[Figure]:
    """Measure a fit and a prediction of every case at every width, each in a fresh process."""
    lon, lat = land_points(rows)
    with tempfile.TemporaryDirectory() as folder:
        targets = {name: Path(folder) / f"{name}.npy" for name in CASES}
        np.save(targets["ridge"], shares(lon, lat))
        np.save(targets["fractions"], shares(lon, lat))
        np.save(targets["classes"], regions(lon, lat, CLASSES))
        for width in widths:
            layers = {512: "final", 3072: "hidden.2"}[width]
            features = Path(folder) / "features.npy"
            np.save(features, ge.encode(lon, lat, layers=layers, progress=False))
            longest, most = WIDTHS[width]
            for case, title in CASES.items():
                command = [sys.executable, __file__, case, str(features), str(targets[case])]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                name = f"fit and predict, {title}, {rows:,} x {width}"
                yield Figure(name, found["wall"], "s", longest)
                yield Figure(f"{name}: processor time", found["cpu"], "s")
                yield Figure(f"{name}: peak memory, X included", found["peak"], "MB", most)


def against_scikit_learn(rows: int = 6_000) -> Iterator[Figure]:
    """Compare with LogisticRegression at the same penalty: time, and how far apart they end."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    lon, lat = land_points(rows + 2_000)
    X = ge.encode(lon, lat, progress=False)
    y = regions(lon, lat, 30)
    learned, held = slice(rows), slice(rows, None)
    alpha = PathSoftmax(scale_floor=0.0).fit(X[learned], y[learned]).alpha_
    ours = PathSoftmax(alpha, scale_floor=0.0)
    other = make_pipeline(
        StandardScaler(), LogisticRegression(C=1.0 / alpha, tol=1e-6, max_iter=10_000)
    )
    fast, slow = alternate(
        lambda: ours.fit(X[learned], y[learned]),
        lambda: other.fit(X[learned], y[learned]),
        rounds=3,
    )
    losses = [
        log_loss(y[held], m.predict_proba(X[held]), labels=ours.classes_) for m in (ours, other)
    ]
    name = f"30 classes, {rows:,} x 512, one penalty"
    yield Figure(f"{name}: times faster than LogisticRegression", median(slow) / median(fast), "x")
    yield Figure(f"{name}: held-out log-loss, ours", losses[0], "nats")
    yield Figure(f"{name}: held-out log-loss, LogisticRegression", losses[1], "nats")
    yield Figure(f"{name}: relative difference", abs(losses[0] / losses[1] - 1), "x", 2e-3)


if __name__ == "__main__":
    os.environ.setdefault("GEOEMBED_OFFLINE", "1")
    run_case(*sys.argv[1:])
