"""The step in one process: parts, precision, bounds, what stops it, and going on from a state."""

import copy
import math
import shutil

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from geoembed.errors import OptionError, TrainingError
from geoembed.geodesy import great_circle_km
from geoembed.images.towers import Tower
from geoembed.training.anchoring import Anchor
from geoembed.training.batches import Batch
from geoembed.training.model import build_model
from geoembed.training.noise import add_noise
from geoembed.training.objective import Contrast, contrastive_loss
from geoembed.training.queue import uniform_places
from geoembed.training.randomness import generator
from geoembed.training.settings import ObjectiveSettings, TrainingSettings
from geoembed.training.step import TrainingStep

BATCH, FEATURES = 8, 6


def settings(**sections):
    """A small run on features; sections replace or add fields."""
    table = {
        "seed": 3,
        "data": {"kind": "features", "path": "unused"},
        "location": {"frequencies": 6, "hidden": [12, 12], "output": 5, "sigmas": [1.0, 16.0]},
        "image": {"head": [7]},
        "objective": {"queue": 11},
        "loop": {"batch": BATCH},
    }
    for name, fields in sections.items():
        table[name] = {**table.get(name, {}), **fields}
    return TrainingSettings.model_validate(table)


def make_step(run=None, *, double=True, **arguments):
    run = run or settings()
    model = build_model(run, feature_dimension=FEATURES, backbone=False)
    return TrainingStep(model.double() if double else model, run, **arguments)


def batch(number=0, views=1, invalid=()):
    rng = np.random.default_rng(number)
    valid = np.ones(BATCH, dtype=bool)
    valid[list(invalid)] = False
    features = torch.from_numpy(rng.normal(size=(BATCH, views, FEATURES)).astype(np.float32))
    return Batch(np.arange(BATCH) + 10 * number, uniform_places(BATCH, rng), features, valid)


def gradients(step):
    return torch.cat([p.grad.double().flatten() for _, p in step.model.trained()])


def weights(step):
    return {name: tensor.clone() for name, tensor in step.model.state_dict().items()}


@pytest.mark.parametrize("accumulate", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_parts_give_the_gradients_of_the_whole_batch(accumulate, symmetric):
    objective = {"symmetric": symmetric, "smooth_km": 500.0}
    one = batch(views=3, invalid=(2,))
    whole = make_step(settings(objective=objective))
    parts = make_step(
        settings(objective=objective, loop={"batch": BATCH, "accumulate": accumulate})
    )
    assert parts(one, 7, 1e-3).loss == pytest.approx(whole(one, 7, 1e-3).loss, rel=1e-12)
    difference = (gradients(parts) - gradients(whole)).norm()
    assert difference < 1e-12 * gradients(whole).norm()


def test_equals_the_loss_and_gradients_of_autograd_on_everything_at_once():
    step = make_step(settings(objective={"symmetric": True, "mask_km": 300.0}))
    one = batch(views=2, invalid=(5,))
    model = copy.deepcopy(step.model)
    before = step.queue.lonlat
    result = step(one, 4, 1e-3)
    noisy = np.concatenate(
        [
            add_noise(one.lonlat, 150.0, generator(3, "batch noise", 4)),
            add_noise(before, 1000.0, generator(3, "queue noise", 4)),
        ]
    )
    loss = contrastive_loss(
        model.encode_views(one.views.flatten(0, 1)),
        model.encode_places(noisy),
        model.logit_scale,
        Contrast(one.ids, np.concatenate([one.lonlat, before]), one.valid),
        step.settings.objective,
    )
    truth = torch.autograd.grad(loss.value, [p for _, p in model.trained()])
    truth = torch.cat([gradient.flatten() for gradient in truth])
    assert result.loss == pytest.approx(loss.value.item(), rel=1e-12)
    assert result.accuracy == pytest.approx(int(loss.correct) / 14)
    assert result.grad_norm == pytest.approx(truth.norm().item(), rel=1e-12)
    assert (gradients(step) - truth).norm() < 1e-12 * truth.norm()


def test_the_queue_takes_the_places_as_they_stand_in_the_data():
    step = make_step()
    one, two = batch(0), batch(1, invalid=(0,))
    step(one, 0, 1e-3)
    np.testing.assert_array_equal(step.queue.lonlat[:BATCH], one.lonlat)
    step(two, 1, 1e-3)
    np.testing.assert_array_equal(step.queue.lonlat[BATCH:], two.lonlat[:3])
    np.testing.assert_array_equal(step.queue.lonlat[:5], two.lonlat[3:])


def test_noise_belongs_to_the_number_of_the_step():
    losses = [make_step()(batch(), number, 1e-3).loss for number in (4, 5, 4)]
    assert losses[0] == losses[2]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_weights_move_as_the_optimiser_says(name):
    run = settings(optimiser={"name": name, "weight_decay": 0.1, "betas": (0.8, 0.95)})
    step = make_step(run)
    truth = copy.deepcopy(step.model)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    optimiser = kind([p for _, p in truth.trained()], betas=(0.8, 0.95), weight_decay=0.1)
    for number, lr in enumerate((1e-3, 5e-3, 0.0, 2e-3)):
        step(batch(number), number, lr)
        for (_, ours), (_, theirs) in zip(step.model.trained(), truth.trained(), strict=True):
            theirs.grad = ours.grad.clone()
        optimiser.param_groups[0]["lr"] = lr
        optimiser.step()
    for (key, ours), (_, theirs) in zip(step.model.trained(), truth.trained(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12, msg=key)


def test_a_long_gradient_is_clipped_and_its_length_told():
    free, clipped = make_step(), make_step(settings(optimiser={"clip_norm": 0.01}))
    one = batch()
    told = [step(one, 0, 1e-3).grad_norm for step in (free, clipped)]
    assert told[0] == told[1] > 0.01
    assert float(gradients(clipped).norm()) == pytest.approx(0.01)
    direction = cosine_similarity(gradients(free), gradients(clipped), dim=0)
    assert float(direction) == pytest.approx(1.0)


def test_the_temperature_stays_in_its_bounds():
    step = make_step(settings(objective={"temperature": 0.011, "max_scale": 90.0}))
    told = step(batch(), 0, 1e-3).scale
    assert told == pytest.approx(1 / 0.011, rel=1e-6)
    assert step(batch(1), 1, 0.0).scale == pytest.approx(90.0)


def test_a_temperature_that_is_not_learned_stays():
    step = make_step(settings(objective={"learn_temperature": False, "temperature": 0.05}))
    for number in range(3):
        told = step(batch(number), number, 1e-2)
    assert told.scale == pytest.approx(20.0)
    assert "logit_scale" not in dict(step.model.trained())


@pytest.mark.parametrize(("side", "other"), [("location", "image"), ("image", "location")])
def test_a_frozen_side_stays(side, other):
    step = make_step(settings(**{side: {"train": "none"}, "loop": {"accumulate": 2}}))
    before = weights(step)
    step(batch(), 0, 1e-2)
    after = weights(step)
    moved = {name.partition(".")[0] for name in after if not after[name].equal(before[name])}
    assert moved == {f"{other}_encoder", "logit_scale"}


def test_nothing_to_train_is_refused():
    run = settings(
        location={"train": "none"}, image={"train": "none"}, objective={"learn_temperature": False}
    )
    with pytest.raises(OptionError, match="Nothing is trained"):
        make_step(run)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_frozen_backbone_sees_every_view_once_and_gets_no_graph(accumulate):
    run = settings(
        data={"kind": "manifest", "path": "x"}, loop={"batch": BATCH, "accumulate": accumulate}
    )
    seen = []

    def features(pixels):
        assert not torch.is_grad_enabled()
        seen.append(len(pixels))
        return pixels.mean(dim=(2, 3)).repeat(1, FEATURES // 3)

    step = make_step(run, double=False)
    step.model.backbone = Tower(
        name="means",
        compute=features,
        dimension=FEATURES,
        preprocessing=step.model.preprocessing,
        digest=str,
        device=torch.device("cpu"),
    )
    pixels = torch.rand(BATCH, 2, 3, 4, 4)
    one = batch()
    result = step(Batch(one.ids, one.lonlat, pixels, one.valid), 0, 1e-3)
    assert sum(seen) == 2 * BATCH
    cached = make_step(settings(loop={"batch": BATCH, "accumulate": accumulate}), double=False)
    views = features_of(pixels)
    told = cached(Batch(one.ids, one.lonlat, views, one.valid), 0, 1e-3)
    assert result.loss == pytest.approx(told.loss, rel=1e-6)
    assert gradients(step).allclose(gradients(cached), rtol=1e-4, atol=1e-7)


def features_of(pixels):
    return pixels.mean(dim=(3, 4)).repeat(1, 1, FEATURES // 3)


def test_a_trained_tower_learns_in_parts_as_in_one():
    sections = {
        "data": {"kind": "bluemarble", "path": ""},
        "image": {"tower": "convnet", "size": 16, "widths": [4, 8], "head": [7]},
    }
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.normal(size=(BATCH, 2, 3, 16, 16)))
    one = batch()
    got = []
    for accumulate in (1, 4):
        run = settings(**sections, loop={"batch": BATCH, "accumulate": accumulate})
        step = TrainingStep(build_model(run).double(), run)
        step(Batch(one.ids, one.lonlat, pixels, one.valid), 0, 1e-3)
        got.append(gradients(step))
    assert any("tower" in name for name, _ in step.model.trained())
    assert (got[0] - got[1]).norm() < 1e-12 * got[0].norm()


def broken_batch(kind):
    one = batch(2)
    if kind == "no number":
        one.views[3, 0, 1] = float("nan")
    if kind == "nothing readable":
        one.valid[:] = False
    return one


@pytest.mark.parametrize(
    ("kind", "loop", "message"),
    [
        ("no number", {}, "The loss of step 9 is nan; no weight has moved"),
        ("nothing readable", {}, "No picture of the batch could be read"),
        ("too large", {"max_loss": 0.1}, "larger than loop.max_loss = 0.1"),
    ],
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_bad_batch_stops_before_anything_moves(kind, loop, message, accumulate):
    step = make_step(settings(loop={"batch": BATCH, "accumulate": accumulate, **loop}))
    before = copy.deepcopy(step.state_dict())
    one = broken_batch(kind)
    with pytest.raises(TrainingError, match=message) as caught:
        step(one, 9, 1e-3)
    np.testing.assert_array_equal(caught.value.ids, one.ids)
    torch.testing.assert_close(step.state_dict(), before, rtol=0, atol=0)


def test_a_gradient_that_is_no_number_stops_too(monkeypatch):
    step = make_step()
    before = weights(step)
    # A vector of length zero has a loss; the derivative of its length may be anything.
    monkeypatch.setattr(step.model, "encode_views", lambda views: _spoilt(views, step.model))
    with pytest.raises(TrainingError, match="The gradient of step 0 has the length nan"):
        step(batch(), 0, 1e-3)
    for name, tensor in weights(step).items():
        assert tensor.equal(before[name])


def _spoilt(views, model):
    vectors = model.image_encoder(views.double())
    vectors.register_hook(lambda gradient: gradient * float("nan"))
    return vectors


def test_a_state_goes_on_bit_for_bit(tmp_path):
    run = settings(optimiser={"clip_norm": 0.5})
    step = make_step(run, double=False)
    told = []
    for number in range(6):
        if number == 3:
            torch.save(step.state_dict(), tmp_path / "state.pt")
        told.append(step(batch(number), number, 1e-3))
    resumed = make_step(run, double=False)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for number in range(3, 6):
        assert resumed(batch(number), number, 1e-3) == told[number]
    torch.testing.assert_close(resumed.state_dict(), step.state_dict(), rtol=0, atol=0)


def test_few_places_are_learned_where_their_copies_are_masked():
    sections = {"location": {"hidden": [64, 64], "output": 32}, "image": {"head": [64]}}
    told = {}
    for mask_own in (False, True):
        objective = {"queue": 6 * BATCH, "mask_own": mask_own}
        step = make_step(settings(**sections, objective=objective), double=False)
        for number in range(60):
            told[mask_own] = step(batch(), number, 3e-3)
    # Seven places are the same place, but for noise: no loss is lower.
    assert told[False].loss > 0.9 * math.log(7)
    assert told[False].accuracy < 0.6
    assert told[True].loss < 0.3
    assert told[True].accuracy == 1.0


def test_the_queue_remembers_rows_and_a_state_without_them_is_read():
    step = make_step(settings(objective={"queue": 11, "mask_own": True}))
    one = batch()
    step(one, 0, 1e-3)
    assert step.queue.ids.tolist() == [*one.ids.tolist(), -1, -1, -1]
    state = step.state_dict()
    del state["queue"]["ids"]
    step.load_state_dict(state)
    assert set(step.queue.ids.tolist()) == {-1}


def test_it_learns_which_picture_belongs_where():
    # The queue soon holds the same places, which a mask keeps from being their own negatives.
    sections = {
        "location": {"hidden": [64, 64], "output": 32},
        "image": {"head": [64]},
        "objective": {"queue": 11, "mask_km": 1.0},
    }
    step = make_step(settings(**sections), double=False)
    told = [step(batch(), number, 3e-3) for number in range(60)]
    assert told[0].accuracy < 0.6
    assert told[-1].accuracy == 1.0
    assert told[-1].loss < 0.3 * told[0].loss
    assert told[-1].scale > told[0].scale


def test_bfloat16_leaves_coordinates_and_phases_alone():
    sections = {"location": {"sigmas": [256.0], "frequencies": 64, "hidden": [64], "output": 32}}
    exact = make_step(settings(**sections), double=False)
    half = make_step(settings(**sections, loop={"batch": BATCH, "precision": "bfloat16"}),
                     double=False)  # fmt: skip
    lonlat = uniform_places(200, np.random.default_rng(0))
    with torch.no_grad(), half._networks():
        rounded = half.model.encode_places(lonlat)
    with torch.no_grad():
        truth = exact.model.encode_places(lonlat)
    # Phases in bfloat16 would leave 0.5.
    assert rounded.dtype == torch.float32
    assert float(cosine_similarity(rounded, truth).min()) > 0.999
    one = batch(views=2)
    told, whole = half(one, 0, 1e-3), exact(one, 0, 1e-3)
    assert told.loss == pytest.approx(whole.loss, rel=1e-2)
    assert told.loss != whole.loss
    assert float(cosine_similarity(gradients(half), gradients(exact), dim=0)) > 0.999
    assert all(p.dtype == torch.float32 for p in half.model.parameters())


def test_float16_scales_its_gradients_and_skips_what_overflows():
    step = make_step(settings(loop={"batch": BATCH, "precision": "float16"}), double=False)
    exact = make_step(double=False)
    one = batch()
    state = step.state_dict()
    state["scaler"]["scale"] = 1024.0
    step.load_state_dict(copy.deepcopy(state))
    told, truth = step(one, 0, 1e-3), exact(one, 0, 1e-3)
    assert not told.skipped
    assert told.grad_norm == pytest.approx(truth.grad_norm, rel=2e-2)
    state = step.state_dict()
    state["scaler"]["scale"] = 2.0**100
    step.load_state_dict(copy.deepcopy(state))
    before = weights(step)
    assert step(batch(1), 1, 1e-3).skipped
    for name, tensor in weights(step).items():
        assert tensor.equal(before[name])
    assert step.mover.scaler.get_scale() == 2.0**99
    np.testing.assert_array_equal(step.queue.lonlat[BATCH:], batch(1).lonlat[:3])


def anchored(*, double=True, training_lonlat=None, **fields):
    """A step with an anchor, on a small model in the place of the named one."""
    model = build_model(settings(), feature_dimension=FEATURES, backbone=False)
    loop = {"batch": BATCH, "accumulate": fields.pop("accumulate", 1)}
    objective = {"anchor": 2.0, "anchor_places": 6, "anchor_away_km": 500.0, **fields}
    run = settings(location={"init": "geoclip.v1"}, objective=objective, loop=loop)
    model = model.double() if double else model
    return TrainingStep(model, run, training_lonlat=training_lonlat)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_anchor_adds_how_far_the_encoder_has_gone(accumulate):
    home = np.array([[10.0, 50.0], [12.0, 51.0]])
    step, free = anchored(accumulate=accumulate, training_lonlat=home), make_step()
    start = copy.deepcopy(step.model.location_encoder)
    one = batch()
    # At the start there is nothing to add.
    assert step(one, 0, 1e-3).loss == pytest.approx(free(one, 0, 1e-3).loss, rel=1e-9)
    anchor = Anchor(step.model, step.settings.objective, 3, home)
    places = anchor.places(1)
    assert great_circle_km(*places.T[:, :, None], *home.T[:, None]).min() >= 500.0
    project = step.model.architecture.project
    points = torch.from_numpy(project(places))
    with torch.no_grad():
        now, before = step.model.location_encoder(points), start(points)
        cosines = (normalize(now, dim=1) * normalize(before, dim=1)).sum(dim=1)
    free.load_state_dict(copy.deepcopy(step.state_dict()))
    truth = free(batch(1), 1, 1e-3).loss + 2.0 * float((1.0 - cosines).mean())
    assert float((1.0 - cosines).mean()) > 1e-6
    assert step(batch(1), 1, 1e-3).loss == pytest.approx(truth, rel=1e-9)
    assert not gradients(step).allclose(gradients(free), rtol=1e-3)


def test_the_anchor_goes_through_a_checkpoint():
    step = anchored(double=False, anchor_away_km=0.0)
    for number in range(2):
        step(batch(number), number, 1e-3)
    resumed = anchored(double=False, anchor_away_km=0.0)
    with torch.no_grad():
        resumed._anchor.network.get_parameter("LocEnc0.head.0.bias").fill_(9.0)
    resumed.load_state_dict(copy.deepcopy(step.state_dict()))
    assert resumed(batch(2), 2, 1e-3) == step(batch(2), 2, 1e-3)


def test_an_anchor_without_room_says_so():
    with pytest.raises(OptionError, match="needs the training places"):
        anchored()
    step = anchored(training_lonlat=uniform_places(30_000, np.random.default_rng(0)))
    with pytest.raises(TrainingError, match="lower objective.anchor_away_km"):
        step(batch(), 0, 1e-3)


def test_anchor_places_differ_by_step_and_not_by_history():
    model = build_model(settings(), feature_dimension=FEATURES, backbone=False)
    options = ObjectiveSettings(anchor_places=50, anchor_away_km=3000.0)
    anchor = Anchor(model, options, 0, np.array([[0.0, 0.0], [100.0, 40.0]]))
    first, second = anchor.places(1), anchor.places(2)
    np.testing.assert_array_equal(anchor.places(1), first)
    assert len(first) == len(second) == 50
    assert not np.array_equal(first, second)


def test_weights_that_have_decayed_to_nothing_are_dropped():
    run = settings()
    model = build_model(run, feature_dimension=FEATURES, backbone=False)
    weight = model.location_encoder.get_parameter("LocEnc0.capsule.1.weight")
    with torch.no_grad():
        weight[0, :3] = torch.tensor([1e-39, -1e-31, 1e-20])
    step = TrainingStep(model, run)
    assert weight[0, :3].tolist() == [0.0, 0.0, pytest.approx(1e-20)]
    for number, kept in ((99, True), (100, False)):
        with torch.no_grad():
            weight[0, 0] = 1e-35
        step(batch(), number, 0.0)
        assert bool(weight[0, 0]) is kept


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about its own inside
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_networks_give_the_same_gradients_under_the_same_names(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    fine = {"sigmas": [256.0]}
    plain = make_step(settings(location=fine), double=False)
    fast = make_step(settings(location=fine, loop={"batch": BATCH, "compile": True}), double=False)
    for number in range(2):
        truth, told = plain(batch(number), number, 1e-3), fast(batch(number), number, 1e-3)
        assert told.loss == pytest.approx(truth.loss, rel=1e-5)
        assert (gradients(fast) - gradients(plain)).norm() < 1e-5 * gradients(plain).norm()
    assert list(weights(fast)) == list(weights(plain))
