"""Speed, memory and convergence of heads as they are by default, on real embeddings of land.

Run as a script with a case, a matrix of features and labels, it prints one line of JSON: every
case has a process of its own, so that nothing else is counted.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pandas as pd
from figures import Figure, alternate, median_ratio
from memory import peak_mb, reset_peak

import geoembed as ge
from geoembed.heads.softmax import PathSoftmax

ROWS = 100_000
CLASSES = 200
# Columns: layers, and seconds and megabytes that a fit and a prediction may take.
WIDTHS = {512: ("final", 60.0, 3000.0), 4096: ("best", 300.0, 6000.0)}
CASES = {
    "regress": "regress, 9 targets",
    "landcover": "landcover, 9 shares",
    "classify": f"classify, {CLASSES} classes",
}
# A map of so many columns and rows.
MAP = (160, 80)


class ReadyFeaturizer(ge.LocationFeaturizer):
    """A featurizer of places whose vectors are there: what is timed is the head."""

    def prepare(self, vectors: np.ndarray) -> "ReadyFeaturizer":
        """Take the vectors of places by their row labels, which count from 0."""
        self._vectors = vectors
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the vectors of rows."""
        whole = len(X) == len(self._vectors)
        return self._vectors if whole else self._vectors[X.index[0] : X.index[-1] + 1]

    def __sklearn_clone__(self) -> "ReadyFeaturizer":
        return self


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


def run_case(case: str, places: str, features: str, targets: str) -> None:
    """Fit and predict in this process; print seconds, processor seconds, megabytes and more."""
    lonlat, vectors, y = np.load(places), np.load(features), np.load(targets)
    table = pd.DataFrame(lonlat, columns=["lon", "lat"])
    kinds = {
        "regress": ge.LocationRegressor,
        "landcover": ge.LandCoverRegressor,
        "classify": ge.LocationClassifier,
    }
    head = kinds[case](ReadyFeaturizer("xyz").prepare(vectors))
    reset_peak()
    start, spent = perf_counter(), process_time()
    head.fit(table, y)
    fitted = perf_counter() - start
    head.predict(table)
    figures = {"wall": perf_counter() - start, "cpu": process_time() - spent, "peak": peak_mb()}
    steps, penalties = int(getattr(head.model_, "n_iter_", 0)), len(head.model_.path_["alphas"])
    print(json.dumps({**figures, "fit": fitted, "steps": steps, "penalties": penalties}))


def heads(rows: int = ROWS, widths: tuple[int, ...] = tuple(WIDTHS)) -> Iterator[Figure]:
    """Measure a fit and a prediction of every case at every width, each in a fresh process."""
    lon, lat = land_points(rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "places.npy", np.column_stack([lon, lat]))
        np.save(folder / "regress.npy", shares(lon, lat))
        np.save(folder / "landcover.npy", shares(lon, lat))
        np.save(folder / "classify.npy", regions(lon, lat, CLASSES))
        for width in widths:
            layers, longest, most = WIDTHS[width]
            vectors = ge.LocationFeaturizer(layers=layers, progress=False).transform(
                np.column_stack([lon, lat])
            )
            assert vectors.shape == (rows, width)
            np.save(folder / "features.npy", vectors)
            del vectors
            for case, title in CASES.items():
                files = [str(folder / f"{file}.npy") for file in ("places", "features", case)]
                command = [sys.executable, __file__, case, *files]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found = json.loads(done.stdout.splitlines()[-1])
                what = f"{title}, {rows:,} x {width:,}"
                yield Figure(f"fit and predict, {what}", found["wall"], "s", longest)
                yield Figure(f"processor time, {what}", found["cpu"], "s")
                yield Figure(f"peak memory, vectors included, {what}", found["peak"], "MB", most)


def maps(rows: int = 3_000, chosen: tuple[str, ...] = ("final", "best")) -> Iterator[Figure]:
    """Compare the pixels a second of `predict_raster` with the places a second of the featurizer.

    At least 0.8 of it is asked for: the featurizer is what takes the time.
    """
    lon, lat = land_points(rows)
    table = pd.DataFrame({"lon": lon, "lat": lat})
    targets = {
        "regress": np.sin(np.radians(lat)),
        "landcover": shares(lon, lat),
        "classify": regions(lon, lat, 20),
    }
    width, height = MAP
    east, north = 5.05 + 0.1 * np.arange(width), 54.95 - 0.1 * np.arange(height)
    cells = np.column_stack([np.tile(east, height), np.repeat(north, width)])
    bounds = (5.0, 55.0 - 0.1 * height, 5.0 + 0.1 * width, 55.0)
    for layers in chosen:
        featurizer = ge.LocationFeaturizer(layers=layers, progress=False)
        made = {
            "regress": ge.LocationRegressor(featurizer),
            "landcover": ge.LandCoverRegressor(featurizer),
            "classify": ge.LocationClassifier(featurizer),
        }
        with tempfile.TemporaryDirectory() as folder:
            draw = partial(
                ge.predict_raster,
                output=Path(folder) / "map.tif",
                bounds=bounds,
                resolution=0.1,
                force=True,
                progress=False,
            )
            fitted = [head.fit(table, targets[name]) for name, head in made.items()]
            bare, *drawn = alternate(
                lambda f=featurizer: f.transform(cells),
                *(partial(draw, head) for head in fitted),
                rounds=3,
            )
        yield Figure(f"featurizer, layers {layers}", len(cells) / median(bare), "places/s")
        for name, times in zip(made, drawn, strict=True):
            share = median_ratio(bare, times)
            what = f"predict_raster, {name}, layers {layers}: share of the featurizer's rate"
            yield Figure(what, share, "x", 0.8, at_most=False)


def against_scikit_learn(rows: int = 6_000) -> Iterator[Figure]:
    """Compare with LogisticRegression at the same penalty: time, and how far apart they end.

    Both descend as far as they can: the default tolerance stops where held-out rows gain no more.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    lon, lat = land_points(rows + 2_000)
    X = ge.encode(lon, lat, progress=False)
    y = regions(lon, lat, 30)
    learned, held = slice(rows), slice(rows, None)
    alpha = PathSoftmax(scale_floor=0.0).fit(X[learned], y[learned]).alpha_
    ours = PathSoftmax(alpha, scale_floor=0.0, tol=1e-6)
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
