"""Validation against a loop in float64; what is looked up, among what, and what cannot be read."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from geoembed.errors import OptionError, PictureError, TrainingError, UnknownNameError
from geoembed.galleries import Gallery
from geoembed.geodesy import distance_km
from geoembed.training.distributed import Processes
from geoembed.training.model import build_model
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import Split, split_rows
from geoembed.training.validation import SCORES, Validator, is_better, validate
from geoembed.training.validation_places import gallery_places, negatives, query_rows
from geoembed.training.validation_queries import Queries


def settings_of(validation=None, **sections):
    return TrainingSettings.model_validate(
        {
            "data": {"kind": "features", "path": "unused", "validation": 0.2},
            "location": {"frequencies": 8, "hidden": [16], "output": 8},
            "image": {"head": [12]},
            "objective": {"queue": 24},
            "loop": {"batch": 16},
            "validation": validation or {},
            **sections,
        }
    )


class Features:
    """Features of three views a place."""

    views, dimension, digest = 3, 6, "none"

    def __init__(self, count=90):
        rng = np.random.default_rng(3)
        self.lonlat = np.stack([rng.uniform(-180, 180, count), rng.uniform(-60, 70, count)], 1)
        self.names = [f"picture {row}" for row in range(count)]
        self.valid = np.ones(count, dtype=bool)
        self._features = rng.normal(size=(count, 3, 6)).astype(np.float32)
        self.asked = 0

    def __len__(self):
        return len(self.lonlat)

    def features(self, rows, views):
        self.asked += 1
        return self._features[rows[:, None], views]


class Pictures:
    """One colour a place, some of them unreadable."""

    digest = "none"

    def __init__(self, count=90, bad=()):
        rng = np.random.default_rng(4)
        self.lonlat = np.stack([rng.uniform(-180, 180, count), rng.uniform(-60, 70, count)], 1)
        self.names = [f"{row}.jpg" for row in range(count)]
        self._colours = rng.integers(0, 255, (count, 3), dtype=np.uint8)
        self.bad = set(bad)
        self.read = 0

    def __len__(self):
        return len(self.lonlat)

    def picture(self, row):
        self.read += 1
        if row in self.bad:
            raise PictureError(f"{row}.jpg is not whole.")
        return Image.new("RGB", (20, 16), tuple(self._colours[row].tolist()))


def picture_settings(**sections):
    tower = {"tower": "convnet", "size": 8, "widths": [4, 4], "head": [4]}
    data = {"kind": "bluemarble", "validation": 0.2, "max_bad": 0.1}
    return settings_of(**{"image": tower, "data": data, **sections})


def make(settings, data):
    split = split_rows(data.lonlat, settings.data)
    features = getattr(data, "dimension", None)
    model = build_model(settings, feature_dimension=features, backbone=features is None)
    return model, split


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def double(model):
    """The same weights; phases are formed in float64 in any case."""
    return model.double()


def test_scores_are_those_of_a_loop():
    settings, data = settings_of(), Features()
    model, split = make(settings, data)
    found = validate(model, data, split, settings)
    assert list(found) == list(SCORES)

    exact, km, losses = double(model), [], []
    with torch.no_grad():
        places = unit(exact.encode_places(data.lonlat).numpy())
        views = torch.from_numpy(data._features).double().flatten(0, 1)
        pictures = unit(unit(exact.encode_views(views).numpy()).reshape(90, 3, -1).mean(axis=1))
    scale = np.exp(exact.logit_scale.item())
    # As many negatives as in training: 15 of the batch and 24 of the queue.
    others, own = negatives(data.lonlat, split.validation, split, settings)
    assert len(others) == 39
    rows = [int(np.flatnonzero((data.lonlat == place).all(axis=1))[0]) for place in others]
    for row in split.validation:
        answer = max(split.train, key=lambda at, row=row: pictures[row] @ places[at])
        km.append(distance_km(*data.lonlat[row], *data.lonlat[answer]))
        logits = [scale * pictures[row] @ places[at] for at in rows if at != row]
        right = scale * pictures[row] @ places[row]
        losses.append(np.log(np.exp(logits).sum() + np.exp(right)) - right)
    assert (own >= 0).any()
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert found["median_km"] == pytest.approx(np.median(km), rel=1e-9)
    assert found["mean_km"] == pytest.approx(np.mean(km), rel=1e-9)
    for limit in (1, 25, 200, 750, 2500):
        assert found[f"within_{limit}"] == pytest.approx(100 * np.mean(np.array(km) <= limit))


def test_a_model_that_knows_finds_every_place():
    """Each picture has the vector of its own place; the gallery holds it."""
    settings, data = settings_of(), Features()
    model, split = make(settings, data)
    with torch.no_grad():
        known = model.encode_places(data.lonlat)

    class Knowing(torch.nn.Module):
        def __getattr__(self, name):
            return getattr(model, name)

        def encode_views(self, views):
            return known[torch.from_numpy(split.validation)].repeat_interleave(3, dim=0)

        def eval(self):
            return self

        def train(self, mode=True):
            return self

        training = True

    with_own = Split(np.arange(90), split.validation, split.left_out, split.unused)
    found = validate(Knowing(), data, with_own, settings)
    assert found["within_1"] == 100.0
    assert found["median_km"] == 0.0
    assert found["loss"] < np.log(40)


def test_pictures_are_seen_as_at_inference_and_read_once():
    settings, data = picture_settings(), Pictures()
    model, split = make(settings, data)
    validator = Validator(data, split, settings)
    first = validator(model)
    assert data.read == len(split.validation)
    assert validator(model) == first
    assert data.read == len(split.validation)
    assert model.training
    # Threads read the same.
    threads = picture_settings(loop={"batch": 16, "workers": 3})
    assert validate(model, data, split, threads) == first


def test_what_cannot_be_kept_is_read_again(monkeypatch):
    monkeypatch.setattr("geoembed.training.validation_queries._KEPT_BYTES", 1000)
    monkeypatch.setattr("geoembed.training.validation_queries._BLOCK", 4)
    settings, data = settings_of(), Features()
    model, split = make(settings, data)
    validator = Validator(data, split, settings)
    first, asked = validator(model), data.asked
    assert validator(model) == first
    assert asked < data.asked < 2 * asked  # some were kept


def test_unreadable_pictures_are_left_out_and_told():
    settings = picture_settings()
    split = split_rows(Pictures().lonlat, settings.data)
    bad = split.validation[3]
    data = Pictures(bad=[bad])
    model, _ = make(settings, data)
    validator = Validator(data, split, settings)
    found = validator(model)
    assert dict(validator.bad) == {bad: f"{bad}.jpg is not whole."}
    without = Split(split.train, np.delete(split.validation, 3), split.left_out, split.unused)
    expected = validate(model, data, without, settings)
    del found["loss"], expected["loss"]  # whose negatives still hold its place
    assert found == pytest.approx(expected)


def test_too_many_unreadable_pictures_stop_it():
    settings = picture_settings()
    data = Pictures(bad=range(90))
    model, split = make(settings, data)
    with pytest.raises(TrainingError, match="pictures cannot be looked up.* is not whole"):
        validate(model, data, split, settings)


@pytest.mark.parametrize(
    ("max_bad", "queries", "bad", "message"),
    [
        (0.2, 0, 4, None),
        (0.2, 0, 5, "5 of 20 .* more than data.max_bad = 0.2 allows: .*allow a larger share"),
        (0.2, 10, 4, None),  # of 10, and judged against all 20
        (0.2, 10, 5, "5 of 10 .* more than data.max_bad = 0.2 allows"),
        (1.0, 0, 10, None),
        (1.0, 0, 11, "11 of 20 .* more than half of them: .* take them out of the data"),
        (0.0, 0, 1, "1 of 20 .* more than data.max_bad = 0"),
    ],
)
def test_unreadable_pictures_are_judged_against_those_that_are_held_out(
    max_bad, queries, bad, message
):
    settings = picture_settings(
        data={"kind": "bluemarble", "max_bad": max_bad}, validation={"queries": queries}
    )
    split = Split(np.arange(20, 90), np.arange(20), np.arange(0), np.arange(0))
    rows = query_rows(split.validation, settings)
    data = Pictures(bad=rows[:bad].tolist())
    model, _ = make(settings, data)
    if message is None:
        assert validate(model, data, split, settings)["loss"] > 0.0
    else:
        with pytest.raises(TrainingError, match=message):
            validate(model, data, split, settings)


def test_many_held_out_pictures_are_judged_against_a_thousand():
    queries = Queries(Features(), np.arange(400), 0.01, 1, held_out=5000)
    valid = np.arange(400) >= 10
    queries._judge(valid)
    valid[10] = False
    with pytest.raises(TrainingError, match="11 of 400 held-out"):
        queries._judge(valid)


def test_rows_without_features_are_left_out():
    settings = settings_of(
        data={"kind": "features", "path": "unused", "validation": 0.2, "max_bad": 0.1}
    )
    data = Features()
    model, split = make(settings, data)
    row = split.validation[0]
    data.valid[row] = False
    data.bad = {row: "It was empty."}
    validator = Validator(data, split, settings)
    validator(model)
    assert dict(validator.bad) == {row: "It was empty."}


def test_weights_that_are_no_numbers_are_told():
    settings, data = settings_of(), Features()
    model, split = make(settings, data)
    with torch.no_grad():
        model.image_encoder.mlp[0].weight.fill_(np.nan)
    with pytest.raises(TrainingError, match="no numbers: the weights are bad"):
        validate(model, data, split, settings)


def test_nothing_held_out_is_told():
    data = Features()
    settings = settings_of(data={"kind": "features", "path": "unused", "validation": 0.0})
    with pytest.raises(OptionError, match="No place is held out"):
        Validator(data, split_rows(data.lonlat, settings.data), settings)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_work(world):
    """Threads that exchange what processes would."""
    settings, data = settings_of({"queries": 17}), Features()
    model, split = make(settings, data)
    expected = validate(model, data, split, settings)
    all_here, slots, seen = threading.Barrier(world), [None] * world, [0] * world

    class Together(Processes):
        def gather(self, tensor, count):
            part = self.share(count)
            assert len(tensor) == part.stop - part.start
            slots[self.rank] = tensor
            all_here.wait(timeout=30)
            whole = torch.cat(slots)
            all_here.wait(timeout=30)
            assert len(whole) == count
            return whole

        def broadcast_(self, tensors):
            seen[self.rank] += 1

    validators = [
        Validator(data, split, settings, Together(rank=rank, world=world)) for rank in range(world)
    ]
    models = [copy.deepcopy(model) for _ in range(world)]
    with ThreadPoolExecutor(world) as pool:
        found = list(pool.map(lambda one, its: one(its), validators, models))
    assert seen == [1] * world
    for scores in found:
        assert scores == pytest.approx(expected, rel=1e-5)


# -- places ----------------------------------------------------------------------------------------


def test_queries_and_gallery_are_those_of_the_split_not_of_the_run():
    asked = {"queries": 5, "gallery_size": 7}
    one, other = (settings_of(asked).model_copy(update={"seed": seed}) for seed in (0, 1))
    held, places = np.arange(100, 140), np.random.default_rng(0).uniform(-50, 50, (60, 2))
    rows = query_rows(held, one)
    assert len(rows) == 5
    assert set(rows) < set(held)
    assert (np.diff(rows) > 0).all()
    assert rows.tolist() == query_rows(held, other).tolist()
    assert gallery_places(places, one).shape == (7, 2)
    assert gallery_places(places, one).tolist() == gallery_places(places, other).tolist()
    elsewhere = one.model_copy(update={"data": one.data.model_copy(update={"split_seed": 3})})
    assert rows.tolist() != query_rows(held, elsewhere).tolist()


def test_zero_takes_all():
    settings = settings_of({"queries": 0, "gallery_size": 0})
    assert len(query_rows(np.arange(6000), settings)) == 6000
    assert len(gallery_places(np.random.default_rng(0).uniform(0, 9, (50, 2)), settings)) == 50


def test_galleries_of_land_by_name_and_in_folders(tmp_path):
    training = np.zeros((1, 2))
    land = gallery_places(training, settings_of({"gallery": "land", "spacing_km": 1000.0}))
    assert 100 < len(land) < 250  # 149 million km2 of land
    cities = gallery_places(training, settings_of({"gallery": "cities"}))
    assert len(cities) > 10_000
    Gallery.from_lonlat([[2.35, 48.86], [13.4, 52.5]], name="two").save(tmp_path / "two")
    folder = gallery_places(training, settings_of({"gallery": str(tmp_path / "two")}))
    assert folder.tolist() == [[2.35, 48.86], [13.4, 52.5]]
    with pytest.raises(UnknownNameError, match="no gallery named 'citys'. Close matches: 'cities'"):
        gallery_places(training, settings_of({"gallery": "citys"}))


def test_negatives_lie_as_training_and_held_out_places_do():
    none = np.empty(0, np.int64)
    split = Split(np.arange(0, 800), np.arange(800, 1000), none, none)
    lonlat = np.stack([np.arange(1000) / 10, np.zeros(1000)], 1)
    settings = settings_of(loop={"batch": 64}, objective={"queue": 237})
    places, own = negatives(lonlat, split.validation, split, settings)
    assert len(places) == 300
    held = np.count_nonzero(places[:, 0] >= 80.0)
    assert 40 <= held <= 80  # 60 expected, 6 is a standard deviation
    for row, at in zip(split.validation, own, strict=True):
        assert (at >= 0) == (lonlat[row] == places).all(axis=1).any()
        if at >= 0:
            assert places[at].tolist() == lonlat[row].tolist()


@pytest.mark.parametrize(
    ("metric", "value", "best", "better"),
    [
        ("median_km", 3.0, None, True),
        ("median_km", 3.0, 4.0, True),
        ("median_km", 4.0, 4.0, False),
        ("loss", 5.0, 4.0, False),
        ("within_25", 5.0, 4.0, True),
        ("within_25", 4.0, 5.0, False),
        ("loss", np.nan, None, False),
        ("loss", np.nan, 4.0, False),
    ],
)
def test_is_better(metric, value, best, better):
    assert is_better(metric, value, best) is better
