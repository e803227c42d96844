"""Speed of a training step at the published sizes: 512 pictures, 4096 places in the queue.

As a script it measures on the CPU; with ``--gpu`` on a GPU: images a second, share of the peak
arithmetic, and memory, from features and from pictures, against the frozen tower's own rate.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from figures import Figure, alternate, as_table, ratios, seconds, timed
from images import random_clip
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from geoembed.devices import PRECISIONS
from geoembed.extending.image_specs import Preprocessing
from geoembed.images.towers import Tower
from geoembed.training.batches import Batch
from geoembed.training.feature_feed import FeatureFeed
from geoembed.training.features import write_features
from geoembed.training.model import GeolocationModel, build_model
from geoembed.training.order import GlobalOrder
from geoembed.training.queue import uniform_places
from geoembed.training.settings import TrainingSettings, ViewSettings
from geoembed.training.step import TrainingStep

__all__ = ["training", "training_on"]

BATCH, QUEUE, FEATURES, LR = 512, 4096, 768, 3e-5
CEILING = "the matrix products of a step, forward and back, and nothing else"


def settings(
    *, published: bool = True, queue: int = QUEUE, **sections: dict[str, object]
) -> TrainingSettings:
    """Return the published run, from the published weights or from new ones."""
    init = {"init": "geoclip.v1"} if published else {}
    return TrainingSettings.model_validate(
        {
            "data": {"kind": "features", "path": "unused"},
            "location": init,
            "image": init,
            "objective": {"queue": queue},
            "loop": {"batch": BATCH},
            **sections,
        }
    )


def make_batch(views: torch.Tensor) -> Batch:
    """Return a batch of random places with these views."""
    lonlat = uniform_places(len(views), np.random.default_rng(0))
    valid = np.ones(len(views), dtype=bool)
    return Batch(np.arange(len(views)), lonlat, views, valid)


class Head(nn.Module):
    """The published image encoder behind its CLIP."""

    def __init__(self, **_: object) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(768, 768), nn.ReLU(), nn.Linear(768, 512))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return vectors (n, 512)."""
        vectors: torch.Tensor = self.mlp(features)
        return vectors


def published_step(batch: Batch, model: GeolocationModel, queue: int = QUEUE) -> Callable[[], None]:
    """One step of the published loop on the same tensors, from the same weights."""
    import geoclip
    from geoclip.train import train

    sys.modules["geoclip.model.GeoCLIP"].ImageEncoder = Head  # type: ignore[attr-defined]
    theirs = geoclip.GeoCLIP(queue_size=queue)
    theirs.load_state_dict(model.state_dict(), strict=False)
    optimiser = torch.optim.Adam(theirs.parameters(), lr=LR, weight_decay=1e-6)
    latlon = torch.from_numpy(batch.lonlat[:, ::-1].astype(np.float32))
    loader = [(batch.views[:, 0], latlon)]

    def step() -> None:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            train(loader, theirs, optimiser, 0, len(batch), "cpu")

    return step


def matrix_products(batch: int = BATCH, queue: int = QUEUE) -> None:
    """Run the matrix products of a step, forward and both ways back, and nothing else."""
    rows = batch + queue
    for _scale in range(3):
        _layer(rows, 512, 1024, first=True)
        _layer(rows, 1024, 1024)
        _layer(rows, 1024, 1024)
        _layer(rows, 1024, 512)
    _layer(batch, FEATURES, 768, first=True)
    _layer(batch, 768, 512)
    _layer(batch, 512, rows)


_TENSORS: dict[tuple[int, int], torch.Tensor] = {}


def _ones(rows: int, columns: int) -> torch.Tensor:
    """The same memory each time; filling it is not part of the products."""
    return _TENSORS.setdefault((rows, columns), torch.ones(rows, columns))


def _layer(rows: int, into: int, out: int, *, first: bool = False) -> None:
    inputs, weight, gradient = _ones(rows, into), _ones(out, into), _ones(rows, out)
    inputs @ weight.T
    gradient.T @ inputs
    if not first:  # nothing before the first layer is trained
        gradient @ weight


def training(
    rounds: int = 5, batch: int = BATCH, queue: int = QUEUE, pictures: int = 4096
) -> Iterator[Figure]:
    """Compare a step with the published one and with its bare matrix products.

    Parameters
    ----------
    rounds : int
        Rounds of each.
    batch, queue, pictures : int
        Pictures a step, places in the queue, and pictures of the feed.
    """
    full = (batch, queue) == (BATCH, QUEUE)
    given = make_batch(torch.randn(batch, 1, FEATURES))
    for published in (False, True):
        run = settings(published=published, queue=queue, loop={"batch": batch})
        model = build_model(run, feature_dimension=FEATURES, backbone=False)
        # Before the step drops what slows both down.
        theirs = published_step(given, model, queue)
        step = TrainingStep(model, run)
        works = (
            lambda step=step: step(given, 1, LR),
            theirs,
            lambda: matrix_products(batch, queue),
        )
        for work in works:
            work()
        ours, other, products = alternate(*works, rounds=rounds)
        which = "the published weights" if published else "new weights"
        yield timed(f"training step, features, {which}", ours, "s")
        name = f"times faster than geoclip.train, {which}"
        yield timed(name, ratios(other, ours), "x", 1.0 if full else None, False, better="more")
        if not published:
            share = ratios(products, ours)
            name, target = "training step, share of the ceiling", 0.85 if full else None
            yield timed(name, share, "x", target, False, ceiling=CEILING)
    share = [waiting(pictures, batch=batch) / median(ours)]
    name, target = "feed of cached features, share of the step", 0.05 if full else None
    yield timed(name, share, "x", target, better="less")


class Colours:
    """Pictures of one colour each."""

    def __init__(self, count: int) -> None:
        self.lonlat = uniform_places(count, np.random.default_rng(1))
        self.names = [str(row) for row in range(count)]
        self.digest = "colours"

    def __len__(self) -> int:
        return len(self.lonlat)

    def picture(self, row: int) -> Image.Image:
        """Return a picture."""
        return Image.new("RGB", (8, 8), (row % 256, row // 256 % 256, 0))


def waiting(pictures: int = 4096, batches: int = 20, batch: int = BATCH) -> float:
    """Seconds that a batch of stored features takes, its pages in memory."""
    half = (0.5, 0.5, 0.5)
    tower = Tower(
        name="random",
        compute=lambda pixels: torch.randn(len(pixels), FEATURES),
        dimension=FEATURES,
        preprocessing=Preprocessing(size=8, mean=half, std=half),
        digest=str,
        device=torch.device("cpu"),
    )
    views = ViewSettings(augment="none", pool=1)
    with tempfile.TemporaryDirectory() as folder:
        data = write_features(Colours(pictures), tower, folder, views=views, progress=False)
        order = GlobalOrder(np.arange(pictures), batch=batch, seed=0)
        feed = FeatureFeed(data, order, views, seed=0)
        list(feed.batches(0, batches))
        return seconds(lambda: list(feed.batches(0, batches))) / batches


def training_on(
    device: torch.device, precision: str, batch: int = BATCH, rounds: int = 5
) -> Iterator[Figure]:
    """Measure steps from features and from pictures on a device, with a CLIP of random weights.

    The share of the peak is of what this device makes of a large matrix product in the same
    precision, not of what its data sheet says.
    """
    peak = _peak(device, precision)
    yield Figure(f"{precision}, peak of matrix products", peak / 1e12, "TFLOP/s")
    with tempfile.TemporaryDirectory() as folder:
        run = settings(
            data={"kind": "manifest", "path": "unused"},
            image={"init": "geoclip.v1", "weights": str(random_clip(Path(folder)))},
            loop={"batch": batch, "precision": precision, "device": str(device)},
        )
        model = build_model(run, device=device)
    tower = model.backbone
    assert tower is not None
    step = TrainingStep(model, run)
    pixels = torch.randn(batch, 1, 3, 224, 224)
    features = torch.randn(batch, 1, FEATURES)
    here = pixels[:, 0].to(device)

    def alone() -> None:
        tower.features(here)

    rates = {}
    for what, work in {
        "tower alone": alone,
        "step from pictures": lambda: step(make_batch(pixels), 1, LR),
        "step from features": lambda: step(make_batch(features), 1, LR),
    }.items():
        time, flop, memory = _measure(work, device, rounds)
        rates[what] = batch / time
        name = f"{precision}, {what}"
        yield Figure(f"{name}: rate", batch / time, "images/s")
        yield Figure(f"{name}: share of the peak", flop / time / peak, "x")
        if device.type == "cuda":
            yield Figure(f"{name}: memory at most", memory / 2**30, "GiB")
    share = rates["step from pictures"] / rates["tower alone"]
    yield Figure(f"{precision}, step from pictures: share of the tower's own rate", share, "x")


def _measure(
    work: Callable[[], object], device: torch.device, rounds: int
) -> tuple[float, int, int]:
    """Median seconds, operations and peak memory of a work."""
    with FlopCounterMode(display=False) as counter:
        work()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    for _ in range(rounds):
        _wait(device)
        start = perf_counter()
        work()
        _wait(device)
        times.append(perf_counter() - start)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return median(times), counter.get_total_flops(), memory


def _peak(device: torch.device, precision: str, rounds: int = 10) -> float:
    """Operations a second of a large matrix product."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = torch.randn(2, side, side, device=device, dtype=PRECISIONS[precision])
    time, flop, _ = _measure(lambda: a @ b, device, rounds)
    return flop / time


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Print the figures of the CPU, or of a GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", action="store_true", help="measure on the first CUDA device")
    parser.add_argument("--rounds", type=int, default=5, help="repeats of which the median counts")
    arguments = parser.parse_args()
    if arguments.gpu and not torch.cuda.is_available():
        sys.exit(
            "There is no CUDA device that this torch can use: run this on a machine with one and "
            "with a torch built for it, or leave --gpu out to measure on the CPU."
        )
    figures = []
    if arguments.gpu:
        device = torch.device("cuda", 0)
        print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}", flush=True)
        for precision in ("bfloat16", "float32"):
            figures += list(training_on(device, precision, rounds=arguments.rounds))
    else:
        print(f"{torch.get_num_threads()} threads, torch {torch.__version__}", flush=True)
        figures += list(training(arguments.rounds))
    print(as_table(figures))


if __name__ == "__main__":
    main()
