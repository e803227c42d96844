"""One training step: ours, the published one in float64 on PROJ's projection, and `geoclip.train`.

The published step, restated: places of the batch, then of the queue, through the encoder; cosines
times the inverse temperature; cross-entropy with each picture's own place; Adam.
"""

import sys

import geoclip
import numpy as np
import pyproj
import pytest
import torch
from geoclip.train import train
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from geoembed.encoders.projections import GEOCLIP_SCALE
from geoembed.training.batches import Batch
from geoembed.training.model import build_model
from geoembed.training.precision import drop_tiny
from geoembed.training.queue import uniform_places
from geoembed.training.settings import TrainingSettings
from geoembed.training.step import TrainingStep

BATCH, QUEUE, LR = 12, 20, 3e-5


def settings(batch=BATCH, queue=QUEUE, **loop):
    return TrainingSettings.model_validate(
        {
            "data": {"kind": "features", "path": "unused"},
            "location": {"init": "geoclip.v1"},
            "image": {"init": "geoclip.v1"},
            "objective": {"queue": queue, "batch_noise_m": 0.0, "queue_noise_m": 0.0},
            "loop": {"batch": batch, **loop},
        }
    )


def our_step(*, double=False, **sizes):
    """Our step from the released weights."""
    run = settings(**sizes)
    model = build_model(run, feature_dimension=768, backbone=False)
    return TrainingStep(model.double() if double else model, run)


def batches(count, size=BATCH):
    """Places that float32 holds, and features of the length that CLIP gives."""
    rng = np.random.default_rng(11)
    for number in range(count):
        lonlat = uniform_places(size, rng).astype(np.float32).astype(np.float64)
        features = rng.normal(size=(size, 1, 768)).astype(np.float32)
        ids = np.arange(size) + number * size
        yield Batch(ids, lonlat, torch.from_numpy(features), np.ones(size, dtype=bool))


class Head(nn.Module):
    """The published image encoder without its CLIP: features in."""

    def __init__(self, **_):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(768, 768), nn.ReLU(), nn.Linear(768, 512))

    def forward(self, features):
        return self.mlp(features)


@pytest.fixture
def published(monkeypatch):
    """A function: queue size to the published model with the released weights and no CLIP."""
    monkeypatch.setattr(sys.modules["geoclip.model.GeoCLIP"], "ImageEncoder", Head)
    return lambda queue=QUEUE: geoclip.GeoCLIP(queue_size=queue)


def norm_relative(ours, theirs):
    """Length of the difference of all gradients together, over that of the truth."""
    difference = torch.cat([(ours[name] - theirs[name]).double().flatten() for name in theirs])
    truth = torch.cat([theirs[name].double().flatten() for name in theirs])
    return float(difference.norm() / truth.norm())


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


class Exact:
    """The published step in float64, on points that PROJ projects."""

    def __init__(self, model, queue):
        self.model = model.double()
        self.queue = queue.copy()
        self.position = 0
        self.optimiser = torch.optim.Adam(
            [p for p in model.parameters() if p.requires_grad], lr=LR, weight_decay=1e-6
        )
        self.project = pyproj.Transformer.from_pipeline(
            "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=eqearth +R=1"
        )

    def __call__(self, batch):
        self.optimiser.zero_grad()
        lonlat = np.concatenate([batch.lonlat, self.queue])
        for place in batch.lonlat:
            self.queue[self.position % QUEUE] = place
            self.position += 1
        points = np.column_stack(self.project.transform(*lonlat.T)) * GEOCLIP_SCALE
        encoder = self.model.location_encoder
        places = sum(
            encoder.get_submodule(f"LocEnc{scale}")(torch.from_numpy(points)) for scale in range(3)
        )
        images = self.model.image_encoder(batch.views[:, 0].double())
        cosines = normalize(images, dim=1) @ normalize(places, dim=1).T
        loss = cross_entropy(self.model.logit_scale.exp() * cosines, torch.arange(BATCH))
        loss.backward()
        self.optimiser.step()
        return loss.item()


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 2), (4, 1)])
def test_loss_gradients_and_weights_equal_the_published_step_in_float64(
    published, accumulate, steps
):
    ours = our_step(double=True, accumulate=accumulate)
    exact = Exact(published(), ours.queue.lonlat)
    for number, batch in enumerate(batches(steps)):
        result = ours(batch, number, LR)
        assert result.loss == pytest.approx(exact(batch), rel=1e-9)
        theirs, own = gradients(exact.model), gradients(ours.model)
        assert set(own) == set(theirs)
        assert norm_relative(own, theirs) < 1e-9
        for name, truth in theirs.items():
            assert (own[name] - truth).norm() < 1e-9 * truth.norm(), name
        np.testing.assert_array_equal(ours.queue.lonlat, exact.queue)
    for name, parameter in ours.model.trained():
        # A first step of Adam moves each weight by about lr; gradients of rounding's size, which
        # it scales up too, are the few that differ.
        apart = (parameter - exact.model.get_parameter(name)).detach().abs()
        assert float(apart.mean()) < 1e-6 * LR, name


@pytest.mark.parametrize(
    ("batch", "queue", "tolerance"),
    [
        (64, 256, {"rel": 1e-5}),
        # Each picture's error is its phases'; at the paper's size their mean is small enough.
        pytest.param(512, 4096, {"abs": 1e-5}, marks=pytest.mark.slow),
    ],
)
def test_loss_and_gradients_are_near_those_of_the_published_loop(
    published, capsys, batch, queue, tolerance
):
    ours, theirs = our_step(batch=batch, queue=queue), published(queue)
    drop_tiny(theirs.parameters())  # else theirs takes five times as long, for the same numbers
    start = ours.queue.lonlat.astype(np.float32)
    ours.queue.load_state_dict({"lonlat": torch.from_numpy(start).double(), "position": 0})
    theirs.gps_queue = torch.from_numpy(start[:, ::-1].T.copy())
    told = []

    def criterion(logits, targets):
        told.append(cross_entropy(logits, targets))
        return told[-1]

    optimiser = torch.optim.Adam(theirs.parameters(), lr=LR, weight_decay=1e-6)
    (one,) = batches(1, batch)
    latlon = torch.from_numpy(one.lonlat[:, ::-1].astype(np.float32))
    train([(one.views[:, 0], latlon)], theirs, optimiser, 0, batch, "cpu", criterion=criterion)
    assert "Starting Epoch" in capsys.readouterr().out
    result = ours(one, 0, LR)
    assert result.loss == pytest.approx(told[-1].item(), **tolerance)
    assert norm_relative(gradients(ours.model), gradients(theirs)) < 2e-2
    np.testing.assert_array_equal(
        ours.queue.lonlat[:, ::-1].T.astype(np.float32), theirs.gps_queue.numpy()
    )


def test_names_of_trained_weights_are_the_published_ones(published):
    ours = {name for name, _ in our_step().model.trained()}
    assert ours == {name for name, p in published().named_parameters() if p.requires_grad}
