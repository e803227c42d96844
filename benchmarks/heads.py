"""Speed, memory and convergence of heads as they are by default, on real embeddings of land.

Run as a script with a case, a matrix of features and labels, it prints one line of JSON: every
case has a process of its own, so that nothing else is counted.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pandas as pd
from figures import Figure, Growth, alternate, ratios, timed
from memory import peak_mb, reset_peak

import geoembed as ge
from geoembed.heads.models.softmax import PathSoftmax

__all__ = ["against_scikit_learn", "heads", "maps"]

ROWS = (10_000, 100_000)
CLASSES = 200
# Columns: layers, and seconds and megabytes that a fit and a prediction may take.
WIDTHS = {512: ("final", 60.0, 3000.0), 4096: ("best", 300.0, 6000.0)}
CEILING = "the featurizer alone, on the same places"
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


def heads(
    rows: Sequence[int] = ROWS,
    widths: Sequence[int] = tuple(WIDTHS),
    classes: int = CLASSES,
    penalised: int = 6_000,
) -> Iterator[Figure]:
    """Measure a fit and a prediction of every case, each in a fresh process.

    Parameters
    ----------
    rows : sequence of int
        Numbers of rows; the narrowest vectors are fitted at each, wider ones at the last.
    widths : sequence of int
        Lengths of the vectors, of `WIDTHS`.
    classes : int
        Classes of the classifier.
    penalised : int
        Rows of the comparison with scikit-learn; 0 leaves it out.
    """
    most = max(rows)
    lon, lat = land_points(most)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels = {
            "regress": shares(lon, lat),
            "landcover": shares(lon, lat),
            "classify": regions(lon, lat, classes),
        }
        for width in widths:
            vectors = ge.LocationFeaturizer(layers=WIDTHS[width][0], progress=False).transform(
                np.column_stack([lon, lat])
            )
            if vectors.shape != (most, width):
                raise AssertionError(f"vectors of shape {vectors.shape}, not {(most, width)}")
            for count in sorted(rows) if width == min(widths) else [most]:
                np.save(folder / "places.npy", np.column_stack([lon, lat])[:count])
                np.save(folder / "features.npy", vectors[:count])
                for case, targets in labels.items():
                    np.save(folder / f"{case}.npy", targets[:count])
                yield from _fits(folder, count, width, classes)
            del vectors
    if penalised:
        yield from against_scikit_learn(penalised)


def _fits(folder: Path, rows: int, width: int, classes: int) -> Iterator[Figure]:
    """Fit every case on what lies in a folder; targets hold for the most rows."""
    titles = {
        "regress": "regress, 9 targets",
        "landcover": "landcover, 9 shares",
        "classify": f"classify, {classes} classes",
    }
    held = rows >= max(ROWS)
    _, longest, most = WIDTHS[width]
    for case, title in titles.items():
        files = [str(folder / f"{file}.npy") for file in ("places", "features", case)]
        command = [sys.executable, __file__, case, *files]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        what = f"{title}, {rows:,} x {width:,}"
        yield Figure(
            f"fit and predict, {what}",
            found["wall"],
            "s",
            longest if held else None,
            growth=Growth(f"{title}, {width:,} wide", "rows", rows),
        )
        yield Figure(f"processor time, {what}", found["cpu"], "s")
        name, bound = f"peak memory, vectors included, {what}", most if held else None
        yield Figure(name, found["peak"], "MB", bound)


def maps(
    rows: int = 3_000,
    chosen: Sequence[str] = ("final", "best"),
    size: tuple[int, int] = MAP,
    rounds: int = 3,
) -> Iterator[Figure]:
    """Compare the pixels a second of `predict_raster` with the places a second of the featurizer.

    At least 0.8 of it is asked for: the featurizer is what takes the time.

    Parameters
    ----------
    rows : int
        Places that the heads learn from.
    chosen : sequence of str
        Layers of the featurizer.
    size : tuple of 2 ints
        Columns and rows of the map.
    rounds : int
        Rounds of each.
    """
    lon, lat = land_points(rows)
    table = pd.DataFrame({"lon": lon, "lat": lat})
    targets = {
        "regress": np.sin(np.radians(lat)),
        "landcover": shares(lon, lat),
        "classify": regions(lon, lat, 20),
    }
    width, height = size
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
                rounds=rounds,
            )
        name = f"featurizer, layers {layers}"
        yield timed(name, [len(cells) / t for t in bare], "places/s")
        held = 0.8 if size == MAP else None
        for name, times in zip(made, drawn, strict=True):
            what = f"predict_raster, {name}, layers {layers}: share of the ceiling"
            yield timed(what, ratios(bare, times), "x", held, False, ceiling=CEILING)


def against_scikit_learn(rows: int = 6_000, rounds: int = 3) -> Iterator[Figure]:
    """Compare with LogisticRegression at the same penalty: time, and how far apart they end.

    Each with a tolerance at which it ends near the minimum; the two are not of one kind. By default
    ours ends earlier, where held-out rows gain no more, and takes half as long.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    lon, lat = land_points(rows + 2_000)
    X = ge.encode(lon, lat, progress=False)
    y = regions(lon, lat, 30)
    learned = slice(rows)
    # A class without a row to learn from has no probability.
    held = rows + np.flatnonzero(np.isin(y[rows:], y[learned]))
    alpha = PathSoftmax(scale_floor=0.0).fit(X[learned], y[learned]).alpha_
    ours = PathSoftmax(alpha, scale_floor=0.0, tol=1e-7)
    other = make_pipeline(
        StandardScaler(), LogisticRegression(C=1.0 / alpha, tol=1e-6, max_iter=10_000)
    )
    fast, slow = alternate(
        lambda: ours.fit(X[learned], y[learned]),
        lambda: other.fit(X[learned], y[learned]),
        rounds=rounds,
    )
    losses = [
        log_loss(y[held], m.predict_proba(X[held]), labels=ours.classes_) for m in (ours, other)
    ]
    name = f"30 classes, {rows:,} x 512, one penalty"
    what = f"{name}: times faster than LogisticRegression"
    yield timed(what, ratios(slow, fast), "x", better="more")
    yield Figure(f"{name}: held-out log-loss, ours", losses[0], "nats")
    yield Figure(f"{name}: held-out log-loss, LogisticRegression", losses[1], "nats")
    most = 2e-3 if rows >= 6_000 else None
    apart = abs(losses[0] / losses[1] - 1)
    yield Figure(f"{name}: relative difference", apart, "x", most, better="less")


if __name__ == "__main__":
    os.environ.setdefault("GEOEMBED_OFFLINE", "1")
    run_case(*sys.argv[1:])
