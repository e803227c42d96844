"""Find the systems' options for the Blue Marble, without a look at its test pictures.

Of the recipe's training crops, other blocks of 10 degrees are held out, again with a buffer. A
tower is trained by the recipe ``bluemarble`` on what is left, so that it has not seen them either:
the shipped one has, and would favour whoever trusts it most. Then the options of each system are
changed one at a time, and a change is kept if the held-out crops get a better mean GeoScore.

    python choose_presets.py FOLDER [SYSTEM ...]

What is found stands in ``geoembed_systems/benchmark/presets.py``. FOLDER keeps every run.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from geoembed_systems.benchmark.blue_marble import RECIPE, view_features
from geoembed_systems.benchmark.data import BenchmarkData
from geoembed_systems.benchmark.running import run_benchmark
from geoembed_systems.pictures.scenes import cluster_scenes

from geoembed.images import load_image_encoder
from geoembed.images.towers import tower_of
from geoembed.training import export_run, load_settings, train
from geoembed.training.bluemarble import BlueMarble
from geoembed.training.splitting import Split, split_rows

VIEWS = 4
SEEDS = (0,)
INNER_SEED = 1
CELLS = [{"t_max": 20, "t_min": 2}, {"t_max": 50, "t_min": 5}, {"t_max": 100, "t_min": 10}]
LEVELS = [
    {"t_max": [100, 50, 20], "t_min": 2},
    {"t_max": [250, 100, 50], "t_min": 5},
    {"t_max": [500, 200, 100], "t_min": 10},
]
LEARNING = [
    [{"smooth_km": km} for km in (200.0, 400.0, 800.0)],
    [{"epochs": n} for n in (60.0, 120.0)],
    [{"weight_decay": w} for w in (0.1, 1.0)],
    [{"learning_rate": 3e-3}],
]
SHORT = [
    [{"epochs": n} for n in (10.0, 20.0)],
    [{"weight_decay": 0.1}],
    [{"learning_rate": 3e-4}],
]
STEPS: dict[str, list[list[dict[str, Any]]]] = {
    "knn": [
        [{"neighbours": n} for n in (30, 300)],
        [{"sigma": s} for s in (2.0, 8.0)],
        [{"exponent": e} for e in (0.0, 2.0, 5.0)],
    ],
    "planet": [CELLS, *LEARNING, [{"hidden": 256}]],
    "geoclip": [
        [{"smooth_km": km} for km in (0.0, 200.0, 800.0)],
        [{"epochs": n} for n in (15.0, 60.0)],
        [{"weight_decay": w} for w in (0.05, 0.5)],
        [{"learning_rate": 3e-4}],
        [{"gallery": "train"}],
    ],
    "isns": [LEVELS, *LEARNING, [{"hidden": 256}], [{"scene_routing": "mixed"}]],
    "cplanet": [CELLS, *LEARNING, [{"hidden": 256}], [{"combine": "product"}]],
    "translocator": SHORT,
    "geodecoder": SHORT,
}
# The two that take longest start from the hierarchy and the targets that ISNs were found to want.
LIKE_ISNS = {"t_max": [500, 200, 100], "t_min": 10, "smooth_km": 400.0}
START: dict[str, dict[str, Any]] = {
    "geoclip": {"recipe": "bluemarble", "gallery": "land", "smooth_km": 400.0},
    "translocator": LIKE_ISNS,
    "geodecoder": LIKE_ISNS,
}


def main() -> None:
    """Make the data if they are not there, and go through the systems."""
    room = Path(sys.argv[1])
    names = sys.argv[2:] or list(STEPS)
    torch.set_num_threads(1)
    data = inner_data(room)
    say(json.dumps(data.describe(), indent=1))
    for name in names:
        say(f"\n{name}")
        best = START.get(name, {})
        top = look(data, room, name, best)
        for step in STEPS[name]:
            # Every value is tried beside the same others; the best of them goes on.
            tried = [(look(data, room, name, {**best, **change}), change) for change in step]
            score, change = max(tried, key=lambda one: one[0])
            if score > top:
                top, best = score, {**best, **change}
        say(f"{name}: {best} GeoScore {top:.0f}")


def say(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def inner_data(room: Path) -> BenchmarkData:
    """Hold out blocks of the training crops, and train a tower on the others."""
    if (room / "data" / "data.json").is_file():
        return BenchmarkData.load(room / "data")
    settings = load_settings(RECIPE)
    crops = BlueMarble(settings.data.crops, settings.data.crop_size)
    outer = split_rows(crops.lonlat, settings.data).train
    again = settings.data.model_copy(update={"split_seed": INNER_SEED})
    inner = split_rows(crops.lonlat[outer], again)
    rows, held = outer[inner.train], outer[inner.validation]
    rest = np.setdiff1d(np.arange(len(crops)), np.concatenate([rows, held]))
    split = Split(rows, held, rest, np.empty(0, np.int64))
    train(settings, room / "tower", resume=True, data=crops, split=split, progress=False)
    export_run(room / "tower", room / "encoder", checkpoint="last")
    tower = tower_of(load_image_encoder(str(room / "encoder")))
    learned, asked = (
        view_features(crops, some, tower, settings.views, views=count, tokens=True, progress=False)
        for some, count in ((rows, VIEWS), (held, 1))
    )
    return BenchmarkData(
        name="bluemarble-inner",
        title="Blocks held out of the training crops",
        train=learned,
        test=asked,
        train_lonlat=crops.lonlat[rows],
        test_lonlat=crops.lonlat[held],
        scenes=cluster_scenes(learned.pooled[:, 0], 3, 0),
    ).save(room / "data")


def look(data: BenchmarkData, room: Path, name: str, options: dict[str, Any]) -> float:
    """Return the mean GeoScore over the seeds."""
    label = "-".join(f"{key}={value}" for key, value in sorted(options.items())) or "class"
    record = run_benchmark(
        data,
        folder=room / "tried" / f"{name}-{label}".replace("/", "_").replace(" ", ""),
        systems=[name],
        seeds=SEEDS,
        options={name: options},
        threads=1,
        progress=False,
    )
    runs = [run for run in record["runs"] if run["system"] == name]
    if any("failed" in run for run in runs):
        say(f"  {options}: {runs[0].get('failed')}")
        return -1.0
    each = {
        score: np.mean([run["scores"][score] for run in runs])
        for score in ("geoscore", "median_km", "within_200", "within_750", "within_2500")
    }
    told = ", ".join(f"{score} {value:.1f}" for score, value in each.items())
    say(f"  {options}: {told}, fit {runs[0]['fit_s']:.0f} s")
    return float(each["geoscore"])


if __name__ == "__main__":
    main()
