"""Train both sides from scratch on satellite pictures, and see how well they find places.

`make train-demo` runs the recipe ``bluemarble``: crops of NASA's Blue Marble against where they
are, in minutes on two cores. Places of held-out blocks of 10 degrees are then looked up, and the
answers held against the mean point, the nearest training pictures and a classifier of cells, all
on the features of the same image tower. With ``--ship`` the pair becomes ``bluemarble.v1``; with
``--model`` nothing is trained, and the pair in that folder, or of that name, is compared.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import geoembed as ge
from geoembed import plot
from geoembed.evaluation.geolocation import errors_km, evaluate_geolocation
from geoembed.geodesy import spherical_mean
from geoembed.images import load_image_encoder
from geoembed.images.towers import tower_of
from geoembed.splits.blocks import equal_area_blocks
from geoembed.training.config import load_settings
from geoembed.training.export import export_run
from geoembed.training.loop import train
from geoembed.training.opening import open_data
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import split_rows

matplotlib.use("Agg")

NEIGHBOURS = (1, 5, 10)
CELLS_KM = (500.0, 1000.0, 2000.0)
SPACING_KM = 100.0
SHOWN = 6
OURS = "trained pair"
DRAWS = 2000


def main() -> None:
    """Run every step and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("train-demo"), help="folder")
    parser.add_argument("--set", action="append", default=[], help="section.field=value")
    parser.add_argument("--ship", type=Path, help="folder that becomes the shipped pair")
    parser.add_argument("--model", help="compare this pair, and train none")
    given = parser.parse_args()
    start = time.perf_counter()

    # Layers so small gain nothing by a second thread, which the process that cuts views needs.
    torch.set_num_threads(1)
    settings = load_settings("bluemarble", given.set)
    folder = given.model or train_pair(settings, given.output)

    heading("Held-out blocks: who finds them best?")
    given.output.mkdir(parents=True, exist_ok=True)
    data = open_data(settings.data)
    split = split_rows(data.lonlat, settings.data)
    scores, localizer, answers = compare(data, split, folder)
    show(scores)
    (given.output / "scores.json").write_text(json.dumps(scores, indent=1), encoding="utf-8")
    (given.output / "scores.md").write_text(as_markdown(scores), encoding="utf-8")

    heading("Pictures")
    draw(data, split, localizer, answers, given.output)
    if given.ship:
        shutil.copytree(folder, given.ship, dirs_exist_ok=True)
        print(f"{given.ship}: the pair to ship")
    print(f"\nEverything took {time.perf_counter() - start:.0f} s.")


def train_pair(settings: TrainingSettings, output: Path) -> str:
    """Train, export, and return the model's folder."""
    start = time.perf_counter()
    heading("Training (the recipe 'bluemarble')")
    run = output / "run"
    train(settings, run, resume=run.is_dir(), progress=True)
    print(f"{time.perf_counter() - start:.0f} s, {run / 'curves.png'} shows how it went")

    heading("Exporting")
    folder = output / "bluemarble"
    shutil.rmtree(folder, ignore_errors=True)
    # Not the best by held-out places, on which it is scored below.
    export_run(run, folder, dtype="float16", checkpoint="last", name="bluemarble.v1")
    print(f"{folder}: {sum(f.stat().st_size for f in folder.iterdir()) / 1e6:.1f} MB")
    return str(folder)


def heading(text: str) -> None:
    """Print a line that stands out."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def compare(
    data: Any, split: Any, folder: str
) -> tuple[list[dict[str, Any]], ge.GeoLocalizer, np.ndarray]:
    """Score the trained pair and three simpler systems on the held-out places."""
    truth, known = data.lonlat[split.validation], data.lonlat[split.train]
    encoder = load_image_encoder(folder)
    tower = tower_of(encoder)
    features = {name: _features(data, rows, encoder, tower) for name, rows in _parts(split)}
    vectors = encoder.encode_images([data.picture(row) for row in split.validation]).vectors
    gallery = ge.Gallery.grid(SPACING_KM, encoder=folder, progress=False)
    localizer = ge.GeoLocalizer(gallery, image_encoder=encoder, progress=False).fit()
    found = localizer.localize(vectors=vectors, top_k=1)
    systems = {"mean point": np.broadcast_to(spherical_mean(known), truth.shape)}
    cosines = _unit(features["held out"]) @ _unit(features["train"]).T
    for count in NEIGHBOURS:
        nearest = np.argsort(-cosines, axis=1)[:, :count]
        name = f"{count} nearest pictures" if count > 1 else "nearest picture"
        systems[name] = np.array([spherical_mean(known[n]) for n in nearest])
    for side in CELLS_KM:
        systems[f"cells of {side:.0f} km"] = _classify(features, known, side)
    systems[OURS] = found[["lon", "lat"]].to_numpy()
    km = {name: errors_km(truth, predicted) for name, predicted in systems.items()}
    blocks = np.unique(np.floor(truth / 10.0), axis=0, return_inverse=True)[1].reshape(-1)
    scores = []
    for name, predicted in systems.items():
        report = evaluate_geolocation(truth, predicted, gallery=gallery)
        row = {score["score"]: score["value"] for score in report.scores.to_dict("records")}
        low, high = report.scores.set_index("score").loc["median_km", ["low", "high"]]
        scores.append({"system": name, **row, "median_low": low, "median_high": high})
        if name != OURS:
            scores[-1]["behind"], scores[-1]["behind_low"], scores[-1]["behind_high"] = _behind(
                km[name], km[OURS], blocks
            )
    return scores, localizer, systems[OURS]


def _behind(theirs: np.ndarray, ours: np.ndarray, blocks: np.ndarray) -> tuple[float, float, float]:
    """How much larger their median is, with its 95 % interval over draws of whole blocks."""
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(blocks == block) for block in range(blocks.max() + 1)]
    draws = []
    for _ in range(DRAWS):
        drawn = np.concatenate([rows[block] for block in rng.integers(0, len(rows), len(rows))])
        draws.append(np.median(theirs[drawn]) - np.median(ours[drawn]))
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(np.median(theirs) - np.median(ours)), float(low), float(high)


def _parts(split: Any) -> list[tuple[str, Any]]:
    return [("train", split.train), ("held out", split.validation)]


def _features(data: Any, rows: Any, encoder: Any, tower: Any) -> np.ndarray:
    """What the tower makes of pictures, before the layers that were trained for places."""
    from geoembed.images import prepare

    out = []
    for block in np.array_split(rows, max(1, len(rows) // 256)):
        pixels = torch.stack([prepare(data.picture(row), encoder.preprocessing) for row in block])
        with torch.inference_mode():
            out.append(tower.features(pixels).float().numpy())
    return np.concatenate(out)


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def _classify(features: dict[str, np.ndarray], known: np.ndarray, side_km: float) -> np.ndarray:
    """Predict the mean place of the most probable cell."""
    cells = equal_area_blocks(known, side_km)
    names, cells = np.unique(cells, return_inverse=True)
    centres = np.array([spherical_mean(known[cells == cell]) for cell in range(len(names))])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    model.fit(features["train"], cells)
    return centres[model.predict(features["held out"])]


def show(scores: list[dict[str, Any]]) -> None:
    """Print the table."""
    limits = (200, 750, 2500)
    print(f"{'':24}" + "".join(f"{limit:>8} km" for limit in limits) + f"{'median km':>26}")
    for row in scores:
        shares = "".join(f"{row[f'within {limit} km']:>10.1f}%" for limit in limits)
        interval = f"({row['median_low']:,.0f} to {row['median_high']:,.0f})"
        print(f"{row['system']:24}{shares}{row['median_km']:>10,.0f} {interval:>15}")


def as_markdown(scores: list[dict[str, Any]]) -> str:
    """Return the table as the documentation has it."""
    lines = [
        "| system | 750 km | 2500 km | median km | behind the trained pair by |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in scores:
        behind = "-"
        if "behind" in row:
            low, high = row["behind_low"], row["behind_high"]
            behind = f"{row['behind']:,.0f} ({low:,.0f} to {high:,.0f})"
        median = f"{row['median_km']:,.0f} ({row['median_low']:,.0f} to {row['median_high']:,.0f})"
        shares = " | ".join(f"{row[f'within {limit} km']:.1f} %" for limit in (750, 2500))
        lines.append(f"| {row['system']} | {shares} | {median} | {behind} |")
    return "\n".join(lines) + "\n"


def draw(
    data: Any, split: Any, localizer: ge.GeoLocalizer, places: np.ndarray, folder: Path
) -> None:
    """Show answers for some held-out crops, and where errors are large."""
    rows = split.validation[:: max(1, len(split.validation) // SHOWN)][:SHOWN]
    pictures = {f"crop {row}": data.picture(row) for row in rows}
    answers = localizer.localize(list(pictures.values()), top_k=3, distinct_km=500.0)
    for row, (lon, lat) in zip(rows, data.lonlat[rows], strict=True):
        best = answers[answers["query"] == answers["query"].unique()[list(rows).index(row)]].iloc[0]
        away = errors_km([[lon, lat]], [[best["lon"], best["lat"]]])[0]
        print(f"crop {row}: at {lon:.1f}, {lat:.1f}; best answer {away:,.0f} km away")
    truth = data.lonlat[split.validation]
    km = errors_km(truth, places)
    axes = plot.distance_error_map(*truth.T, km, title="Held-out crops: how far off")
    axes.figure.savefig(folder / "errors.png", dpi=150, bbox_inches="tight")
    print(f"{folder / 'errors.png'}: how far off each held-out crop is")


if __name__ == "__main__":
    main()
