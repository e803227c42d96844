"""Measure how well places are found again from their own vectors, made worse by noise.

No photograph is needed: a query is the unit vector of a place drawn evenly over land, turned away
from itself in a random direction until their cosine is the stated one. Galleries are compared
alone and with refinement. Writes ``docs/figures/known_truth.json`` and ``.md``; what is already in
the JSON with as many queries is not measured again, so that a run may be interrupted.

    python tools/known_truth.py --queries 300 --noisy 300
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoembed.data import is_land
from geoembed.encoders import load_encoder
from geoembed.evaluation.geolocation import bootstrap_intervals, errors_km, summarise
from geoembed.galleries import load_gallery
from geoembed.geodesy import from_unit_vectors
from geoembed.geolocation.candidates import thin
from geoembed.geolocation.refining import refine

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "figures"
COSINES = (1.0, 0.95, 0.8, 0.6, 0.4)
GALLERIES = ("100K", "land45", "100K+land45")
REFINED = ("100K", "100K+land45")
THRESHOLDS = (1.0, 25.0, 200.0, 750.0, 2500.0)
STARTS, DISTINCT_KM, BLOCK = 12, 25.0, 20
# Galleries alone cost nothing: they are always measured on so many queries.
LEAST = 300


def land_places(count: int, seed: int = 20) -> np.ndarray:
    """Draw places evenly over the land's area."""
    rng = np.random.default_rng(seed)
    drawn = from_unit_vectors(rng.normal(size=(8 * count, 3)))
    return drawn[is_land(*drawn.T)][:count]


def noisy_queries(vectors: np.ndarray, cosine: float, seed: int = 21) -> np.ndarray:
    """Turn unit vectors in random directions to a given cosine with what they were."""
    noise = np.random.default_rng(seed).normal(size=vectors.shape)
    noise -= (noise * vectors).sum(axis=1, keepdims=True) * vectors
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    return cosine * vectors + np.sqrt(1.0 - cosine**2) * noise


def both_galleries() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places and vectors of the large gallery, and which of them are in the 100K one."""
    large = load_gallery("geoclip.100k+land45")
    small = load_gallery("geoclip.100k")
    known = pd.MultiIndex.from_arrays(small.lonlat.T)
    inside = pd.MultiIndex.from_arrays(large.lonlat.T).isin(known)
    return large.lonlat, np.asarray(large.embeddings), np.asarray(inside)


def starts_of(queries: np.ndarray, vectors: np.ndarray, lonlat: np.ndarray) -> list[np.ndarray]:
    """Find the best places of a gallery for every query, none close to a better one."""
    found = []
    for at in range(0, len(queries), BLOCK):
        for scores in queries[at : at + BLOCK].astype(np.float32) @ vectors.T:
            best = np.argpartition(-scores, 1000)[:1000]
            best = best[np.argsort(-scores[best])]
            found.append(lonlat[best[thin(lonlat[best], STARTS, DISTINCT_KM)]])
    return found


def measure(
    galleries: tuple[np.ndarray, np.ndarray, np.ndarray], clean: int, noisy: int, out: Path
) -> list[dict[str, Any]]:
    """Measure all that is not in the file yet."""
    lonlat, vectors, small = galleries
    rows = {"100K": small, "land45": ~small, "100K+land45": np.ones(len(small), dtype=bool)}
    parts = {name: (lonlat[rows[name]], vectors[rows[name]]) for name in GALLERIES}
    encoder = load_encoder("geoclip.v1", normalize=True)
    truth = land_places(max(clean, noisy, LEAST))
    exact = encoder.encode(*truth.T).astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    done = json.loads(out.read_text(encoding="utf-8"))["rows"] if out.is_file() else []
    order = [(c, g) for c in COSINES for g in reversed(GALLERIES)]
    for cosine, name in order:
        queries = noisy_queries(exact, cosine)
        count = clean if cosine == 1.0 else noisy
        have = {
            r["refined"]: r["queries"]
            for r in done
            if r["cosine"] == cosine and r["gallery"] == name
        }
        if have.get(False, 0) < len(queries):
            starts = starts_of(queries, parts[name][1], parts[name][0])
            first = np.stack([one[0] for one in starts])
            done = _replace(done, cosine, name, False, errors_km(truth, first), None, None)
        if name in REFINED and have.get(True, 0) < count:
            starts = starts_of(queries[:count], parts[name][1], parts[name][0])
            began = time.process_time()
            answers = []
            for at in range(0, count, BLOCK):
                some = slice(at, min(at + BLOCK, count))
                found = refine(queries[some], starts[some], encoder)
                answers += [one.lonlat[0] for one in found]
            seconds = (time.process_time() - began) / count
            found_km = errors_km(truth[:count], np.stack(answers))
            alone = errors_km(truth[:count], np.stack([one[0] for one in starts]))
            done = _replace(done, cosine, name, True, found_km, seconds, alone)
        _write(done, out)
    return done


def _replace(
    rows: list[dict[str, Any]],
    cosine: float,
    gallery: str,
    refined: bool,
    km: np.ndarray,
    seconds: float | None,
    alone: np.ndarray | None,
) -> list[dict[str, Any]]:
    row: dict[str, Any] = {
        "cosine": cosine,
        "gallery": gallery,
        "refined": refined,
        "queries": len(km),
        **summarise(km, THRESHOLDS),
        "intervals": {k: list(v) for k, v in bootstrap_intervals(km, THRESHOLDS).items()},
    }
    if seconds is not None and alone is not None:
        row["seconds"] = seconds
        row["gain"] = _paired(alone, km)
    key = (cosine, gallery, refined)
    kept = [r for r in rows if (r["cosine"], r["gallery"], r["refined"]) != key]
    print(key, {k: v for k, v in row.items() if k not in ("intervals", "gain")}, flush=True)
    return [*kept, row]


def _paired(before: np.ndarray, after: np.ndarray, resamples: int = 2000) -> dict[str, list[float]]:
    """Return change in every share, on the same queries, with its 95 % bootstrap interval."""
    rng = np.random.default_rng(22)
    change = (after[:, None] <= THRESHOLDS).astype(float) - (before[:, None] <= THRESHOLDS)
    draws = change[rng.integers(len(change), size=(resamples, len(change)))].mean(axis=1)
    ends = np.percentile(draws, [2.5, 97.5], axis=0)
    return {
        f"within {km:g} km": [float(change[:, i].mean()), *map(float, ends[:, i])]
        for i, km in enumerate(THRESHOLDS)
    }


def _write(rows: list[dict[str, Any]], out: Path) -> None:
    rank = {name: at for at, name in enumerate(GALLERIES)}
    rows = sorted(rows, key=lambda r: (-r["cosine"], rank[r["gallery"]], r["refined"]))
    facts = {"starts": STARTS, "distinct_km": DISTINCT_KM, "rows": rows}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(table(rows), encoding="utf-8")


def table(rows: list[dict[str, Any]]) -> str:
    """Lay the rows out as Markdown."""
    head = ["cosine", "gallery", "queries"] + [f"{km:g} km" for km in THRESHOLDS]
    head += ["median km", "CPU s a query"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [f"{row['cosine']:g}", row["gallery"] + (" + refined" if row["refined"] else "")]
        cells.append(str(row["queries"]))
        for km in THRESHOLDS:
            name = f"within {km:g} km"
            low, high = row["intervals"][name]
            cells.append(f"{row[name]:.1f} ({low:.0f} to {high:.0f})")
        cells.append(f"{_median(row):.3g}")
        cells.append(f"{row['seconds']:.2f}" if "seconds" in row else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _median(row: dict[str, Any]) -> float:
    return next(float(value) for name, value in row.items() if name.startswith("median"))


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=300, help="without noise")
    parser.add_argument("--noisy", type=int, default=300, help="at each other cosine, refined")
    parser.add_argument("--out", type=Path, default=FOLDER / "known_truth.json")
    options = parser.parse_args()
    measure(both_galleries(), options.queries, options.noisy, options.out)


if __name__ == "__main__":
    main()
