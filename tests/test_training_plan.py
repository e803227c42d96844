"""The plan of a run: counts by hand, and estimates against what they estimate."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from geoembed.errors import OptionError, PictureError
from geoembed.training.bluemarble import BlueMarble
from geoembed.training.config import load_settings
from geoembed.training.model import build_model
from geoembed.training.order import GlobalOrder
from geoembed.training.plan import plan_run
from geoembed.training.plan_measuring import measure_costs
from geoembed.training.settings import DataSettings
from geoembed.training.splitting import split_rows

SMALL = [
    "location.projection=equal-earth",
    "location.sigmas=[1.0]",
    "location.frequencies=8",
    "location.hidden=[16, 12]",
    "location.output=10",
    "image.size=48",
    "image.widths=[8, 16]",
    "image.head=[20]",
    "loop.batch=32",
    "objective.queue=64",
]


@pytest.fixture(scope="module")
def world():
    data = BlueMarble(200, 48)
    return data, split_rows(data.lonlat, DataSettings(kind="bluemarble", validation=0.2))


@pytest.fixture(scope="module")
def costs(world):
    """Measured once: most tests are about what is made of it."""
    settings = settings_of()
    return measure_costs(build_model(settings), settings, world[0], world[1].train)


@pytest.fixture
def measured(costs, monkeypatch):
    monkeypatch.setattr("geoembed.training.plan.measure_costs", lambda *_: costs)


def settings_of(*overrides):
    return load_settings("bluemarble", [*SMALL, *overrides])


class Features:
    """Features in memory."""

    def __init__(self, n, dimension, views=3):
        rng = np.random.default_rng(0)
        self.lonlat = rng.uniform((-180, -60), (180, 60), (n, 2))
        self.names, self.digest = [str(i) for i in range(n)], "0" * 64
        self.views, self.dimension = views, dimension
        self.valid = np.ones(n, np.bool_)
        self._values = rng.normal(size=(n, views, dimension)).astype(np.float32)

    def __len__(self):
        return len(self.lonlat)

    def features(self, rows, views):
        return self._values[rows[:, None], views]


@pytest.mark.usefixtures("measured")
def test_steps_and_epochs_are_those_of_the_order(world):
    data, split = world
    plan = plan_run(settings_of("loop.epochs=3"), data, split)
    order = GlobalOrder(split.train, 32, 0)
    assert order.epoch(plan.steps - 1) < 3.0 <= order.epoch(plan.steps)
    assert plan.epochs == pytest.approx(order.epoch(plan.steps))
    assert plan_run(settings_of("loop.steps=7"), data, split).steps == 7


@pytest.mark.usefixtures("measured")
def test_parameters_are_counted_by_part(world):
    data, split = world
    parameters = plan_run(settings_of(), data, split).parameters
    # Two linear layers on 2 x 8 features, and the head; the 8 x 2 frequencies are frozen.
    location = (16 * 16 + 16) + (16 * 12 + 12) + (12 * 10 + 10)
    assert parameters["location_encoder"] == {"trained": location, "frozen": 16}
    assert parameters["logit_scale"] == {"trained": 1, "frozen": 0}
    frozen = plan_run(settings_of("image.train=none"), data, split).parameters["image_encoder"]
    assert frozen == {"trained": 0, "frozen": parameters["image_encoder"]["trained"]}


def test_bytes_kept_for_gradients_are_those_of_the_layers(costs):
    # Features and both hidden layers of a place, in float32.
    assert costs.place_bytes == 4 * (2 * 8 + 16 + 12)
    assert costs.view_bytes > 4 * (8 * 12 * 12 + 16 * 6 * 6)


@pytest.mark.usefixtures("measured")
def test_memory_follows_from_counts(world):
    data, split = world
    plan = plan_run(settings_of(), data, split)
    trained = sum(part["trained"] for part in plan.parameters.values())
    held = trained + sum(part["frozen"] for part in plan.parameters.values())
    assert plan.memory["weights"] == 4 * held
    assert plan.memory["gradients and optimiser"] == 12 * trained
    assert plan.memory["logits"] == 3 * 4 * 32 * (32 + 64)
    assert plan.memory["pictures"] == 4 * 32 * 3 * 48 * 48
    parts = plan_run(settings_of("loop.accumulate=4"), data, split)
    assert parts.memory["activations"] == pytest.approx(plan.memory["activations"] / 4, rel=0.01)


@pytest.mark.usefixtures("measured")
def test_two_processes_share_a_batch(world):
    data, split = world
    one = plan_run(settings_of("loop.steps=1"), data, split)
    two = plan_run(settings_of("loop.steps=1"), data, split, processes=2)
    assert two.memory["activations"] == pytest.approx(one.memory["activations"] / 2, rel=0.01)
    assert two.memory["logits"] == one.memory["logits"] // 2
    assert two.memory["weights"] == one.memory["weights"]
    assert "16 of them on each of 2 processes" in two.to_text()


def test_time_is_that_of_the_encoders_within_a_factor(world, costs):
    data, split = world
    model = build_model(settings_of())
    lonlat = np.tile(data.lonlat[split.train], (4, 1))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        model.encode_places(lonlat).sum().backward()
        seconds.append(time.perf_counter() - start)
    # The machine is shared with others.
    assert 0.1 < costs.place_s * len(lonlat) / min(seconds) < 10.0
    assert 0.0 < costs.place_forward_s < costs.place_s * 1.5


def test_measuring_leaves_the_model_as_it_is(world):
    data, split = world
    settings = settings_of()
    model = build_model(settings)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    measure_costs(model, settings, data, split.train)
    assert all(weight.grad is None for weight in model.parameters())
    assert all((before[name] == weight).all() for name, weight in model.state_dict().items())


def test_cached_features_need_no_backbone():
    data = Features(60, 24)
    table = {
        "data": {"kind": "features", "path": "x", "validation": 0.0},
        "location": {"sigmas": [1.0], "frequencies": 8, "hidden": [16], "output": 10},
        "image": {"head": [20]},
        "views": {"count": 2},
        "loop": {"batch": 16, "device": "cpu"},
        "objective": {"queue": 0},
    }
    settings = load_settings(table)
    plan = plan_run(settings, data, split_rows(data.lonlat, settings.data))
    assert plan.parameters["image_encoder"]["trained"] == 24 * 20 + 20 + 20 * 10 + 10
    assert plan.memory["logits"] == 3 * 4 * (16 * 2) * 16
    assert (plan.validations, plan.notes[0][:22]) == (0, "no places are held out")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["loop.epochs=6", "validation.every=2"], 3),
        (["loop.epochs=6", "validation.every=0"], 1),
        (["loop.steps=1", "validation.every=2"], 1),
    ],
)
@pytest.mark.usefixtures("measured")
def test_validations_are_counted(world, overrides, expected):
    assert plan_run(settings_of(*overrides), *world).validations == expected


@pytest.mark.usefixtures("measured")
def test_gallery_whose_size_is_not_known_is_left_out_and_said(world):
    plan = plan_run(settings_of("validation.gallery=my.gallery"), *world)
    assert plan.notes == ("the time leaves out encoding the gallery 'my.gallery'",)
    assert "note" in plan.to_text()


@pytest.mark.usefixtures("measured")
def test_a_plan_says_what_was_left_out_of_the_data(world, monkeypatch):
    data, split = world
    monkeypatch.setattr(data, "notes", ("left out: 7 rows",), raising=False)
    assert "note     left out: 7 rows" in plan_run(settings_of(), data, split).to_text()


@pytest.mark.usefixtures("measured")
def test_a_queue_that_holds_the_own_places_is_said(world):
    data, split = world
    rows = len(split.train)
    few = ["objective.smooth_km=0", f"objective.queue={rows - 31}"]
    (said,) = plan_run(settings_of(*few), data, split).notes
    assert f"hold {rows + 1} places, and there are {rows} to train on" in said
    assert "objective.mask_own = true or objective.mask_km" in said
    for change in (
        f"objective.queue={rows - 32}", "objective.queue=0", "objective.mask_own=true",
        "objective.mask_km=1", "objective.smooth_km=400",
    ):  # fmt: skip
        assert plan_run(settings_of(*few, change), data, split).notes == (), change


@pytest.mark.usefixtures("measured")
def test_reading_counts_unless_workers_have_processors_of_their_own(world, monkeypatch):
    monkeypatch.setattr("geoembed.training.plan.os", SimpleNamespace(cpu_count=lambda: 64))
    alone = plan_run(settings_of("loop.workers=0"), *world)
    beside = plan_run(settings_of("loop.workers=8"), *world)
    assert alone.seconds_a_step == pytest.approx(sum(alone.step_s.values()))
    rest = sum(s for part, s in beside.step_s.items() if part != "reading")
    assert beside.seconds_a_step == pytest.approx(max(rest, beside.step_s["reading"]))
    monkeypatch.setattr("geoembed.training.plan.os", SimpleNamespace(cpu_count=lambda: 1))
    assert not plan_run(settings_of("loop.workers=8"), *world).reading_beside


@pytest.mark.usefixtures("measured")
def test_plan_reads_as_text_and_as_json(world):
    data, split = world
    plan = plan_run(settings_of("data.fraction=0.5"), data, split)
    text = plan.to_text()
    for part in (
        "run      bluemarble: Crops",
        f"{len(split.train):,} training places, {len(split.validation):,} held out",
        "trained  ",
        "activations",
        "ms on ",
    ):
        assert part in text
    assert plan.to_dict()["rows"] == split.sizes()


def test_batch_that_does_not_fit_is_refused(world):
    with pytest.raises(OptionError, match="A batch of 300 needs as many training rows"):
        plan_run(settings_of("loop.batch=300"), *world)
    with pytest.raises(OptionError, match="loop.batch = 2 pictures cannot be shared by 3"):
        plan_run(settings_of("loop.batch=2"), *world, processes=3)


def test_pictures_that_cannot_be_read_are_told(world):
    data, split = world

    class Broken:
        lonlat = data.lonlat

        def picture(self, row):
            raise PictureError(f"row {row} is no picture")

    with pytest.raises(PictureError, match="None of the first pictures can be read: row"):
        plan_run(settings_of(), Broken(), split)
