"""Land-cover fractions told from every encoder, class by class: `docs/figures/landcover.md`.

    python tools/landcover_table.py ../shared/data

10,327 cells of 1.25 x 1.875 degrees (ESA CCI), blocks of 10 degrees held out in five folds. Every
encoder meets the same folds and the same two models of `LandCoverRegressor`, "kernel" and
"logistic", whose penalties are chosen on blocks inside the training part; beside them stand the
nearest neighbours on the sphere, their number chosen on the same blocks. R2 is that of all cells
together, each predicted by a model that has not seen its block.

What is done is kept in the JSON file beside the table: a run that was stopped goes on from there.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from probes import COVER
from sklearn.metrics import r2_score

import geoembed as ge
from geoembed.evaluation import CachedEncoder, adapt_encoder
from geoembed.heads import GeoembedHeadWarning

CLASSES = list(COVER)
# Urban is next to nothing in cells of this size, and does not count in the mean.
COUNTED = [name for name in CLASSES if name != "urban"]
CELL = (1.875, 1.25)
TRAINED = ("final", "scales", "hidden.2", "best")


class CellMean:
    """The mean vector over a grid of 4 x 4 places in the cell around every place."""

    def __init__(self, encoder: ge.LocationEncoder) -> None:
        self.encoder = encoder

    def encode(self, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        """Return the mean vector of every cell."""
        steps = (np.arange(4) - 1.5) / 4
        total = np.zeros((len(lon), self.encoder.dimension))
        for east in steps * CELL[0]:
            for north in steps * CELL[1]:
                wrapped = (lon + east + 180.0) % 360.0 - 180.0
                total += self.encoder.encode(wrapped, np.clip(lat + north, -90.0, 90.0))
        return total / 16


def contenders() -> dict[str, tuple[str, str | None]]:
    """Return label -> (name of the encoder, its layers)."""
    named: dict[str, tuple[str, str | None]] = {
        f"geoclip.v1:{layers}": ("geoclip.v1", layers) for layers in TRAINED
    }
    named["geoclip.v1:best, mean of the cell"] = ("geoclip.v1", "best")
    for name in ge.list_encoders():
        if name != "geoclip.v1":
            named[name] = (name, None)
    return named


def encoder_of(label: str, name: str, layers: str | None, lonlat: np.ndarray) -> CachedEncoder:
    """Load an encoder, with its vectors at all cells."""
    encoder = ge.load_encoder(name, **({} if layers is None else {"layers": layers}))
    if label.endswith("cell"):
        return CachedEncoder(adapt_encoder(CellMean(encoder), "cell"), lonlat)
    return CachedEncoder(encoder, lonlat)


def measure(data: Path, kept: Path, only: list[str] | None) -> dict[str, dict[str, object]]:
    """Fit and score what is not in the file yet."""
    table = pd.read_csv(data / "landcover_cci" / "landcover_fractions.csv")
    shares = table[CLASSES].div(table[CLASSES].sum(axis=1), axis=0)
    lonlat = np.column_stack([(table["lon"] + 180.0) % 360.0 - 180.0, table["lat"]])
    folds = list(ge.SpatialBlockKFold(5, block_deg=10).split(lonlat))
    done = json.loads(kept.read_text()) if kept.exists() else {}

    runs = [(label, model) for model in ("kernel", "logistic") for label in contenders()]
    for label, model in [("xyz", "knn"), *runs]:
        key = f"{label} | {model}"
        if key in done or (only and key not in only):
            continue
        encoder = encoder_of(label, *contenders()[label], lonlat)
        link = "identity" if model == "knn" else "softmax"
        head = ge.LandCoverRegressor(encoder, model, link=link, coverage=None)
        predicted, alphas, began = np.empty(shares.shape), [], time.perf_counter()
        for train, test in folds:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", GeoembedHeadWarning)
                head.fit(lonlat[train], shares.iloc[train])
            predicted[test] = head.predict(lonlat[test])
            alphas.append(getattr(head.model_, "alpha_", None))
        r2 = r2_score(shares, predicted, multioutput="raw_values")
        by_fold = [
            float(
                np.mean(
                    r2_score(shares.iloc[test], predicted[test], multioutput="raw_values")[
                        [CLASSES.index(name) for name in COUNTED]
                    ]
                )
            )
            for _, test in folds
        ]
        done[key] = {
            "label": label,
            "model": model,
            "values": encoder.dimension,
            "R2": dict(zip(CLASSES, r2.tolist(), strict=True)),
            "mean": float(np.mean([r2[CLASSES.index(name)] for name in COUNTED])),
            "folds": by_fold,
            "alphas": alphas,
            "seconds": round(time.perf_counter() - began, 1),
        }
        kept.write_text(json.dumps(done, indent=1) + "\n")
        print(f"{key:45s} {done[key]['mean']:.4f}  {done[key]['seconds']} s", flush=True)
    return done


def markdown(done: dict[str, dict[str, object]]) -> str:
    """Write a table a model, the best encoder first."""
    heads = ["encoder", "values", "**mean of 8**", *(name.replace("_", " ") for name in CLASSES)]
    lines = []
    for model, told in (
        ("kernel", "`LandCoverRegressor()`: softmax regression by a kernel"),
        ("logistic", '`LandCoverRegressor(model="logistic")`: linear softmax regression'),
    ):
        lines += [f"### {told}", "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
        rows = [run for run in done.values() if run["model"] in (model, "knn")]
        for run in sorted(rows, key=lambda run: -run["mean"]):
            label = "xyz + kNN" if run["model"] == "knn" else run["label"]
            cells = [f"{run['mean']:.3f}", *(f"{run['R2'][name]:.3f}" for name in CLASSES)]
            lines.append(f"| {label} | {run['values']:,} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder of shared data")
    parser.add_argument("--output", type=Path, default=Path("docs/figures"))
    parser.add_argument("--only", action="append", help="'LABEL | MODEL', may be repeated")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    done = measure(options.data, options.output / "landcover.json", options.only)
    (options.output / "landcover.md").write_text(markdown(done))


if __name__ == "__main__":
    main()
