"""PlaNet: cross-entropy and answers by hand, options, and a world that it must learn."""

import numpy as np
import pytest
import torch
from geoembed_systems.cells.adaptive import adaptive_partition
from geoembed_systems.learning import estimator as learning
from geoembed_systems.learning.heads_network import HeadsNetwork, column_statistics
from geoembed_systems.learning.task import HeadsModel
from geoembed_systems.pictures.features import Layout, PictureFeatures
from geoembed_systems.planet import PlaNet

from geoembed.errors import OptionError, TrainingError
from geoembed.geodesy import distance_km, spherical_mean

torch.set_num_threads(1)

TOWNS = np.random.default_rng(5).uniform([-170, -50], [170, 65], (12, 2))
LOOKS = np.random.default_rng(6).normal(size=(12, 16))


def make_world(rows=480, seed=0, noise=0.4):
    """Twelve towns that look different; features far from zero, of very unequal columns."""
    rng = np.random.default_rng(seed)
    town = np.concatenate([np.arange(12), rng.integers(12, size=rows - 12)])
    features = LOOKS[town] + rng.normal(0, noise, (rows, 16))
    features = 40.0 + features * np.geomspace(0.1, 30.0, 16)
    return features.astype(np.float32), TOWNS[town] + rng.normal(0, 0.01, (rows, 2)), town


def make_planet(**options):
    given = {"t_max": 60, "t_min": 8, "epochs": 12, "batch_size": 64, "learning_rate": 0.05}
    return PlaNet(**{**given, "device": "cpu", "progress": False, **options})


@pytest.fixture(scope="module")
def fitted():
    features, lonlat, _ = make_world()
    return make_planet().fit(features, lonlat)


def logits_by_hand(system, features):
    """The classifier in float64, without torch."""
    state = {name: value.numpy().astype(np.float64) for name, value in
             system.network_.state_dict().items()}  # fmt: skip
    rows = (features.astype(np.float64) - state["mean"]) / state["scale"]
    return rows @ state["heads.0.0.weight"].T + state["heads.0.0.bias"]


def test_a_world_of_towns_is_learned(fitted):
    features, lonlat, town = make_world(seed=1)
    away = distance_km(*fitted.predict(features).T, *TOWNS[town].T)
    assert (away < 25).mean() > 0.95
    assert fitted.score(features, lonlat) > 0.95


def test_probabilities_are_the_softmax_of_the_classifier(fitted):
    features, _, _ = make_world(50, seed=1)
    logits = logits_by_hand(fitted, features)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert fitted.predict_proba(features) == pytest.approx(p, rel=1e-3, abs=1e-6)
    assert (fitted.predict_cells(features) == logits.argmax(axis=1)).all()


def test_it_answers_with_the_mean_of_the_cells_pictures(fitted):
    _, lonlat, _ = make_world()
    features, _, _ = make_world(50, seed=1)
    held = fitted.partition_.locate(lonlat)
    cells = logits_by_hand(fitted, features).argmax(axis=1)
    expected = np.stack([spherical_mean(lonlat[held == cell]) for cell in cells])
    assert fitted.predict(features) == pytest.approx(expected, abs=1e-9)


def test_the_loss_is_the_cross_entropy_of_the_cells(monkeypatch):
    seen = {}

    def train_heads(name, network, features, lonlat, heads, **other):
        seen.update(name=name, heads=heads, **other)
        return real(name, network, features, lonlat, heads, **other)

    real = learning.train_heads
    monkeypatch.setattr(learning, "train_heads", train_heads)
    features, lonlat, _ = make_world()
    # A hermit near a town that is cut into small cells: his own is dropped.
    lonlat[0] = TOWNS[0] + 1.0
    system = make_planet(epochs=1, t_max=30).fit(features, lonlat)
    [head] = seen["heads"]
    assert head.weight == 1.0
    assert (head.targets == system.partition_.locate(lonlat)).all()
    assert head.targets[0] == -1
    model = HeadsModel(system.network_, [head], seen["answer"], 0.0)
    assert (model.has_terms(np.arange(480))[:, 0] == (head.targets >= 0)).all()
    rows = np.flatnonzero(head.targets >= 0)[:39]
    losses, right = model.terms(torch.from_numpy(features[rows]), rows)
    logits = logits_by_hand(system, features[rows])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -log_p[np.arange(39), head.targets[rows]]
    assert losses[:, 0].detach().numpy() == pytest.approx(expected, abs=1e-4)
    assert (right.numpy() == (logits.argmax(axis=1) == head.targets[rows])).all()
    answered = seen["answer"]({"cell": torch.from_numpy(logits)})
    assert answered == pytest.approx(system.partition_.means[logits.argmax(axis=1)])


def test_views_of_a_picture_are_pooled_as_probabilities(fitted):
    features, _, _ = make_world(60, seed=1)
    views = features.reshape(20, 3, 16)
    single = np.stack([fitted.predict_proba(views[:, view]) for view in range(3)])
    assert fitted.predict_proba(views) == pytest.approx(single.mean(axis=0), abs=1e-6)
    expected = fitted.partition_.means[single.mean(axis=0).argmax(axis=1)]
    assert fitted.predict(views).tolist() == expected.tolist()


def test_columns_are_shifted_and_scaled_by_the_training_pictures(fitted):
    features, _, _ = make_world()
    state = fitted.network_.state_dict()
    assert state["mean"].numpy() == pytest.approx(features.mean(axis=0), rel=1e-5)
    assert state["scale"].numpy() == pytest.approx(features.std(axis=0), rel=1e-4)


def test_a_column_that_never_moves_is_harmless():
    features, lonlat, _ = make_world()
    features[:, 3] = 7.0
    mean, scale = column_statistics(PictureFeatures(features))
    assert mean[3] == 7.0
    assert scale.min() > 0
    other = make_world(50, seed=1)[0]
    other[:, 3] = 7.0
    assert np.isfinite(make_planet(epochs=1).fit(features, lonlat).predict_proba(other)).all()
    assert column_statistics(PictureFeatures(np.ones((3, 2))))[1].tolist() == [1.0, 1.0]


def test_equal_seeds_learn_equal_weights(fitted):
    features, lonlat, _ = make_world()
    again = make_planet().fit(features, lonlat)
    other = make_planet(random_state=1, epochs=1).fit(features, lonlat)
    asked = make_world(20, seed=1)[0]
    assert (again.predict_proba(asked) == fitted.predict_proba(asked)).all()
    assert not (other.predict_proba(asked) == fitted.predict_proba(asked)).all()


def test_a_hidden_layer_tells_apart_what_no_line_can():
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 2, (400, 2))
    features = (corner * 2 - 1 + rng.normal(0, 0.2, (400, 2))).astype(np.float32)
    lonlat = TOWNS[np.logical_xor(*corner.T).astype(int)]
    options = {"t_max": 350, "t_min": 5, "epochs": 30}
    straight = make_planet(**options).fit(features, lonlat)
    bent = make_planet(hidden=16, **options).fit(features, lonlat)
    assert straight.score(features, lonlat) < 0.8
    assert bent.score(features, lonlat) > 0.95


def test_smoothed_targets_make_neighbours_likelier():
    # Six towns along a parallel, 71 km apart, and what they look like says nothing.
    rng = np.random.default_rng(0)
    town = np.arange(240) % 6
    lonlat = np.column_stack([town * 1.0, np.full(240, 50.0)]) + rng.normal(0, 0.01, (240, 2))
    features = (np.eye(6)[town] + rng.normal(0, 0.05, (240, 6))).astype(np.float32)
    options = {"t_max": 45, "t_min": 5, "epochs": 40}
    sharp, smooth = (
        make_planet(smooth_km=km, **options).fit(features, lonlat) for km in (0.0, 75.0)
    )
    found = smooth.predict_proba(features[:1])[0]
    km = distance_km(*smooth.partition_.means.T, *smooth.predict(features[:1])[0])
    wanted = np.exp(-km / 75.0)
    assert found == pytest.approx(wanted / wanted.sum(), abs=0.05)
    assert sharp.predict_proba(features[:1]).max() > found.max() + 0.2


def test_cells_that_are_there_already_are_used(fitted):
    features, lonlat, _ = make_world(300, seed=2)
    system = make_planet(partition=fitted.partition_, t_max=1).fit(features, lonlat)
    assert system.partition_ is fitted.partition_
    assert system.score(features, lonlat) > 0.95


def test_a_partition_of_other_data_is_refused():
    features, lonlat, _ = make_world()
    rng = np.random.default_rng(0)
    other = adaptive_partition(rng.uniform([-3, 80], [3, 85], (200, 2)), t_max=50, t_min=5)
    with pytest.raises(OptionError, match="partition= is a partition of other data: only 0 of 480"):
        make_planet(partition=other).fit(features, lonlat)


@pytest.mark.parametrize(
    ("options", "rows", "match"),
    [
        ({"t_min": 600, "t_max": 700}, 480, "fewer points than one cell needs"),
        ({"t_max": 480, "max_rows": 1}, 40, "in one cell"),
        ({"hidden": -1}, 480, "hidden=-1"),
        ({"hidden": 2.5}, 480, "hidden=2.5"),
        ({"epochs": 0}, 480, "epochs"),
        ({"precision": "int3"}, 480, "precision"),
        ({"training": {"objective.queue": 3}}, 480, "training= has 'objective.queue'"),
    ],
)
def test_what_cannot_be_learned_is_refused(options, rows, match):
    features, lonlat, _ = make_world()
    if options.pop("max_rows", None):
        lonlat[:] = TOWNS[0]
    with pytest.raises(OptionError, match=match):
        make_planet(**options).fit(features[:rows], lonlat[:rows])


def test_a_run_goes_on_where_it_stopped_and_only_with_its_own_cells(tmp_path):
    features, lonlat, _ = make_world()
    constant = {"training": {"optimiser.schedule": "constant"}}
    whole = make_planet(epochs=4, **constant).fit(features, lonlat)
    folder = {"run_folder": tmp_path / "run", **constant}
    make_planet(epochs=2, **folder).fit(features, lonlat)
    rest = make_planet(epochs=4, resume=True, **folder).fit(features, lonlat)
    asked = make_world(20, seed=1)[0]
    assert (rest.predict_proba(asked) == whole.predict_proba(asked)).all()
    with pytest.raises(TrainingError, match="partition"):
        make_planet(epochs=6, resume=True, t_max=30, **folder).fit(features, lonlat)


def test_the_network_has_names_and_sizes_as_asked():
    network = HeadsNetwork(Layout(4, tokens=(2, 3)), [{"a": 2, "b": 5}, {"c": 3}], hidden=8)
    found = network(torch.randn(7, 10))
    assert {name: tuple(logits.shape) for name, logits in found.items()} == {
        "a": (7, 2),
        "b": (7, 5),
        "c": (7, 3),
    }
    # Groups share nothing but the input.
    found["c"].sum().backward()
    assert all(weight.grad is None for weight in network.heads[0].parameters())
    assert all(weight.grad is None for weight in network.trunks[0].parameters())
