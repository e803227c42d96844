"""Speed of a training step on cached features, at the published sizes.

As a script it measures on the CPU, or with ``--gpu`` what a GPU makes of the pictures' feed:
images a second, share of the peak arithmetic, memory, against the frozen tower's own rate.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from statistics import median

import numpy as np
import torch
from figures import Figure, alternate, median_ratio
from torch import nn

from geoembed.training.batches import Batch
from geoembed.training.model import build_model
from geoembed.training.queue import uniform_places
from geoembed.training.settings import TrainingSettings
from geoembed.training.step import TrainingStep

BATCH, QUEUE, FEATURES, LR = 512, 4096, 768, 3e-5


def settings(**sections: dict[str, object]) -> TrainingSettings:
    """Return the published run from the released weights; sections replace fields."""
    return TrainingSettings.model_validate(
        {
            "data": {"kind": "features", "path": "unused"},
            "location": {"init": "geoclip.v1"},
            "image": {"init": "geoclip.v1"},
            "objective": {"queue": QUEUE},
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


def published_step(batch: Batch) -> Callable[[], None]:
    """One step of the published loop on the same tensors."""
    import geoclip
    from geoclip.train import train

    sys.modules["geoclip.model.GeoCLIP"].ImageEncoder = Head  # type: ignore[attr-defined]
    model = geoclip.GeoCLIP(queue_size=QUEUE)
    optimiser = torch.optim.Adam(model.parameters(), lr=LR, weight_decay=1e-6)
    latlon = torch.from_numpy(batch.lonlat[:, ::-1].astype(np.float32))
    loader = [(batch.views[:, 0], latlon)]

    def step() -> None:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            train(loader, model, optimiser, 0, len(batch), "cpu")

    return step


def matrix_products() -> None:
    """Run the matrix products of a step, forward and both ways back, and nothing else."""
    rows = BATCH + QUEUE
    for _scale in range(3):
        _layer(rows, 512, 1024, first=True)
        _layer(rows, 1024, 1024)
        _layer(rows, 1024, 1024)
        _layer(rows, 1024, 512)
    _layer(BATCH, FEATURES, 768, first=True)
    _layer(BATCH, 768, 512)
    _layer(BATCH, 512, rows)


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


def training(rounds: int = 5) -> Iterator[Figure]:
    """Compare a step with the published one and with its bare matrix products."""
    batch = make_batch(torch.randn(BATCH, 1, FEATURES))
    step = TrainingStep(build_model(settings(), feature_dimension=FEATURES, backbone=False),
                        settings())  # fmt: skip
    works = (lambda: step(batch, 0, LR), published_step(batch), matrix_products)
    for work in works:
        work()
    ours, theirs, products = alternate(*works, rounds=rounds)
    yield Figure("training step, cached features", median(ours), "s")
    yield Figure(
        "times faster than geoclip.train", median_ratio(theirs, ours), "x", 1.0, at_most=False
    )
    yield Figure(
        "training step, share of the ceiling", median_ratio(products, ours), "x", 0.85, False
    )
