"""ISNs: the hierarchical product by enumeration, experts, routing, and worlds that they learn."""

import numpy as np
import pytest
import torch
from geoembed_systems.cells.nesting import nested_partitions
from geoembed_systems.isns import ISNs
from geoembed_systems.learning import estimator as learning
from geoembed_systems.learning.product import hierarchical_logits

from geoembed.errors import OptionError
from geoembed.geodesy import distance_km

torch.set_num_threads(1)

# Three lands of four towns each, 100 km apart and more.
LANDS = np.array([[5.0, 45.0], [-60.0, -30.0], [140.0, -25.0]])
TOWNS = np.concatenate(
    [land + np.array([[0, 0], [3, 1], [1, -3], [-3, 2]]) for land in LANDS]
).astype(np.float64)
LOOKS = np.random.default_rng(6).normal(size=(12, 16))
SCENES = np.array(["urban", "natural"])


def make_world(rows=600, seed=0):
    rng = np.random.default_rng(seed)
    town = np.arange(rows) % 12
    features = LOOKS[town] + rng.normal(0, 0.3, (rows, 16))
    return features.astype(np.float32), TOWNS[town] + rng.normal(0, 0.01, (rows, 2)), town


def make_two_sided_world(rows=600, seed=0):
    """What a look means depends on the scene: no linear classifier learns both at once."""
    rng = np.random.default_rng(seed)
    look, scene = rng.integers(4, size=rows), rng.integers(2, size=rows)
    town = np.where(scene == 0, look, (look + 1) % 4)
    features = np.concatenate([np.eye(4)[look], np.eye(2)[scene]], axis=1)
    features = features * 3 + rng.normal(0, 0.2, (rows, 6))
    lonlat = TOWNS[:4][town] + rng.normal(0, 0.01, (rows, 2))
    return features.astype(np.float32), lonlat, SCENES[scene].astype(object)


def make_isns(**options):
    given = {"t_max": (250, 120, 60), "t_min": 8, "epochs": 12, "batch_size": 64}
    given |= {"learning_rate": 0.05, "device": "cpu", "progress": False}
    return ISNs(**{**given, **options})


@pytest.fixture(scope="module")
def fitted():
    features, lonlat, _ = make_world()
    return make_isns().fit(features, lonlat)


@pytest.fixture(scope="module")
def routed():
    options = {"t_max": (500, 300, 200), "epochs": 20}
    return make_isns(**options).fit(*make_two_sided_world())


def softmax(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def shares_by_hand(system, features, expert):
    """Softmax of each level in float64, without torch: [(n, classes)] coarse to fine."""
    state = {name: value.numpy().astype(np.float64) for name, value in
             system.network_.state_dict().items()}  # fmt: skip
    rows = (features.astype(np.float64) - state["mean"]) / state["scale"]
    heads = [f"heads.{expert}.{level}" for level in range(len(system.hierarchy_))]
    return [softmax(rows @ state[f"{h}.weight"].T + state[f"{h}.bias"]) for h in heads]


def enumerate_product(hierarchy, shares):
    """p(i) = p_fine(i) p_middle(parent) p_coarse(grandparent), cell by cell, place by place."""
    finest = hierarchy.partitions[-1]
    product = np.empty_like(shares[-1])
    for cell in range(len(finest)):
        p = shares[-1][:, cell].copy()
        for partition, level in zip(hierarchy.partitions[:-1], shares[:-1], strict=True):
            # The coarse cell that holds the mean of the fine one.
            [holds] = partition.locate(finest.means[[cell]])
            p *= level[:, holds]
        product[:, cell] = p
    return product / product.sum(axis=1, keepdims=True)


def test_the_product_of_logits_is_that_of_probabilities():
    rng = np.random.default_rng(0)
    hierarchy = nested_partitions(rng.uniform(0, 30, (2000, 2)), t_max=(900, 300, 100), t_min=5)
    logits = [rng.normal(0, 3, (5, len(each))) for each in hierarchy.partitions]
    found = hierarchical_logits([torch.from_numpy(each) for each in logits], hierarchy.parents)
    expected = enumerate_product(hierarchy, [softmax(each) for each in logits])
    assert torch.softmax(found, dim=1).numpy() == pytest.approx(expected, rel=1e-9)
    assert len({len(each) for each in hierarchy.partitions}) == 3


def test_logits_are_left_as_they_are():
    fine = torch.zeros(1, 3)
    hierarchical_logits([torch.ones(1, 2), fine], [np.array([0, 0, 1])])
    assert fine.tolist() == [[0.0, 0.0, 0.0]]


def test_a_world_of_towns_is_learned(fitted):
    features, _, town = make_world(seed=1)
    away = distance_km(*fitted.predict(features).T, *TOWNS[town].T)
    assert (away < 25).mean() > 0.95
    assert len(fitted.hierarchy_.partitions[0]) < len(fitted.partition_)


def test_probabilities_are_the_hierarchical_product(fitted):
    features, _, _ = make_world(60, seed=1)
    # Half way between looks, so that the levels disagree.
    features = (features + features[::-1]) / 2
    expected = enumerate_product(fitted.hierarchy_, shares_by_hand(fitted, features, 0))
    assert fitted.predict_proba(features) == pytest.approx(expected, rel=2e-3, abs=1e-6)
    assert (fitted.predict_cells(features) == expected.argmax(axis=1)).all()
    means = fitted.partition_.means[expected.argmax(axis=1)]
    assert fitted.predict(features) == pytest.approx(means)


def capture(monkeypatch, *fit, **options):
    seen = {}

    def train_heads(name, network, features, lonlat, heads, **other):
        seen.update(name=name, heads={head.name: head for head in heads}, **other)
        return real(name, network, features, lonlat, heads, **other)

    real = learning.train_heads
    monkeypatch.setattr(learning, "train_heads", train_heads)
    return make_isns(epochs=1, **options).fit(*fit), seen


def test_losses_are_added_as_they_are(monkeypatch):
    features, lonlat, _ = make_world()
    system, seen = capture(monkeypatch, features, lonlat)
    classes = system.hierarchy_.locate(lonlat)
    assert list(seen["heads"]) == ["0.0", "0.1", "0.2"]
    for level, head in enumerate(seen["heads"].values()):
        assert head.weight == 1.0
        assert head.classes == len(system.hierarchy_.partitions[level])
        assert (head.targets == classes[:, level]).all()


def test_an_expert_learns_its_own_scene_and_pictures_without_one(monkeypatch):
    features, lonlat, scenes = make_two_sided_world()
    scenes[:50] = None
    options = {"t_max": (500, 300, 200)}
    system, seen = capture(monkeypatch, features, lonlat, scenes, **options)
    assert system.scenes_.names == ("natural", "urban")
    fine = system.partition_.locate(lonlat)
    for expert, scene in enumerate(system.scenes_.names):
        own = (scenes == scene) | (np.arange(600) < 50)
        assert (seen["heads"][f"{expert}.2"].targets == np.where(own, fine, -1)).all()
    codes = seen["heads"]["scene"].targets
    assert (codes[:50] == -1).all()
    assert (codes[50:] == (scenes[50:] == "urban")).all()
    # The log counts answers of cells, not of scenes.
    assert list(seen["heads"])[-1] == "1.2"


def test_experts_learn_what_one_classifier_cannot(routed):
    features, lonlat, scenes = make_two_sided_world(seed=1)
    alone = make_isns(t_max=(500, 300, 200), epochs=20).fit(*make_two_sided_world()[:2])
    assert alone.scenes_ is None
    assert alone.score(features, lonlat) < 0.8
    assert routed.score(features, lonlat) > 0.95
    told = np.array(routed.scenes_.names)[routed.scene_probabilities(features).argmax(axis=1)]
    assert (told == scenes).mean() > 0.95


def test_held_out_pictures_are_answered_by_the_expert_of_their_scene(routed):
    features, _, _ = make_two_sided_world(100, seed=1)
    with torch.inference_mode():
        logits = routed.network_(torch.from_numpy(features))
    assert routed._answer(logits) == pytest.approx(routed.predict(features))


def test_the_expert_of_the_likeliest_scene_answers(routed):
    features, _, _ = make_two_sided_world(80, seed=1)
    features[:, 4:] = features[:, 4:] / 3  # less sure of the scene
    scene = routed.scene_probabilities(features).argmax(axis=1)
    experts = [
        enumerate_product(routed.hierarchy_, shares_by_hand(routed, features, expert))
        for expert in range(2)
    ]
    expected = np.where(scene[:, None] == 0, experts[0], experts[1])
    assert routed.predict_proba(features) == pytest.approx(expected, rel=2e-3, abs=1e-6)


def test_mixed_routing_weighs_experts_by_their_scenes(routed):
    # Looks of all kinds, half way between the scenes: experts are sure to different degrees.
    features = np.random.default_rng(0).uniform(0, 3, (200, 6)).astype(np.float32)
    features[:, 4:] = 1.5
    weights = routed.scene_probabilities(features)
    assert weights.min(axis=1).mean() > 0.02
    expected = sum(
        weights[:, [expert]]
        * enumerate_product(routed.hierarchy_, shares_by_hand(routed, features, expert))
        for expert in range(2)
    )
    routed.set_params(scene_routing="mixed")
    try:
        found = routed.predict_proba(features)
        predicted = routed.predict(features)
    finally:
        routed.set_params(scene_routing="argmax")
    assert found == pytest.approx(expected, rel=2e-3, abs=1e-5)
    assert predicted == pytest.approx(routed.partition_.means[found.argmax(axis=1)])
    assert (found.argmax(axis=1) != routed.predict_cells(features)).mean() > 0.02


@pytest.mark.parametrize("routing", ["argmax", "mixed"])
def test_scenes_that_are_known_choose_the_expert(routed, routing):
    features, _, scenes = make_two_sided_world(60, seed=1)
    wrong = np.where(scenes == "urban", "natural", "urban").astype(object)
    wrong[0] = None
    routed.set_params(scene_routing=routing)
    try:
        told = routed.predict_proba(features, wrong)
        usual = routed.predict_proba(features)
        predicted = routed.predict(features, wrong)
        cells = routed.predict_cells(features, wrong)
        table = routed.localize(features, wrong, top_k=1, radii=False)
    finally:
        routed.set_params(scene_routing="argmax")
    expert = np.where(wrong == "natural", 0, 1)
    for row in range(1, 60):
        shares = [each[[row]] for each in shares_by_hand(routed, features, expert[row])]
        [expected] = enumerate_product(routed.hierarchy_, shares)
        assert told[row] == pytest.approx(expected, rel=2e-3, abs=1e-6)
    assert told[0] == pytest.approx(usual[0])
    assert (cells == told.argmax(axis=1)).all()
    assert predicted == pytest.approx(routed.partition_.means[cells])
    assert table[["lon", "lat"]].to_numpy() == pytest.approx(predicted)
    assert (told[1:].argmax(axis=1) != usual[1:].argmax(axis=1)).mean() > 0.9


def test_views_of_a_picture_share_one_scene(routed):
    features, _, _ = make_two_sided_world(60, seed=1)
    views = np.stack([features, features + 0.3], axis=1)
    each = [routed.scene_probabilities(views[:, view]) for view in range(2)]
    shares = routed.scene_probabilities(views)
    assert shares == pytest.approx(np.mean(each, axis=0), abs=1e-6)
    names = np.array(routed.scenes_.names, dtype=object)[shares.argmax(axis=1)]
    single = [routed.predict_proba(views[:, view], names) for view in range(2)]
    found = routed.predict_proba(views)
    assert found == pytest.approx(np.mean(single, axis=0), abs=1e-5)
    assert routed.predict(views) == pytest.approx(routed.partition_.means[found.argmax(axis=1)])


def test_unseen_scenes_are_refused(routed, fitted):
    features, _, scenes = make_two_sided_world(10, seed=1)
    scenes[3] = "indoor"
    for ask in ("predict", "predict_proba", "predict_cells", "localize", "regions"):
        with pytest.raises(OptionError, match="'indoor', first in row 3.*'natural', 'urban'"):
            getattr(routed, ask)(features, scenes)
    with pytest.raises(OptionError, match="learned from pictures without scenes"):
        fitted.predict(make_world(2)[0], ["urban", "urban"])
    with pytest.raises(OptionError, match="No scenes were learned"):
        fitted.scene_probabilities(make_world(2)[0])


def test_what_cannot_be_learned_is_refused():
    features, lonlat, _ = make_world()
    with pytest.raises(OptionError, match="scene_routing='best'"):
        make_isns(scene_routing="best").fit(features, lonlat)
    with pytest.raises(OptionError, match="does not fall"):
        make_isns(t_max=(60, 120, 250)).fit(features, lonlat)
    with pytest.raises(OptionError, match="fewer points than one cell needs"):
        make_isns().fit(features[:7], lonlat[:7])
    with pytest.raises(OptionError, match="in one cell"):
        make_isns().fit(features, np.tile(LANDS[0], (600, 1)))
    other = nested_partitions(
        np.random.default_rng(0).uniform([-3, 80], [3, 85], (900, 2)), t_max=(300, 100), t_min=5
    )
    with pytest.raises(OptionError, match="hierarchy= is a partition of other data: only 0 of 600"):
        make_isns(hierarchy=other).fit(features, lonlat)


def test_a_hierarchy_that_is_there_already_is_used(fitted):
    features, lonlat, _ = make_world(seed=2)
    system = make_isns(hierarchy=fitted.hierarchy_, t_max=(9, 8)).fit(features, lonlat)
    assert system.partition_ is fitted.partition_
    assert system.score(features, lonlat) > 0.95


def test_two_levels_do_too():
    features, lonlat, _ = make_world()
    system = make_isns(t_max=(250, 60)).fit(features, lonlat)
    assert len(system.hierarchy_) == 2
    assert system.score(features, lonlat) > 0.95
