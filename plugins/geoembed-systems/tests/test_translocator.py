"""TransLocator: its loss by hand, its fusions by hand and by torch, worlds with known answers."""

import json
from math import erf

import numpy as np
import pytest
import torch
from geoembed_systems.cells.nesting import Hierarchy, nested_partitions
from geoembed_systems.networks.translocator_fusion import EncoderLayer, FusedLayers, GatedFusion
from geoembed_systems.networks.translocator_network import TransLocatorNetwork, moments
from geoembed_systems.networks.translocator_streams import sizes_of, with_segments
from geoembed_systems.pictures.features import Layout, Parts, PictureFeatures
from geoembed_systems.pictures.reading import read_picture_features
from geoembed_systems.translocator import TransLocator
from torch import nn

from geoembed.errors import OptionError, TableError, TrainingError
from geoembed.images import load_image_encoder
from geoembed.testing import tiny_clip_spec, write_tiny_clip

# Three regions of three towns, some 300 km apart within each; none on the border of two cells.
REGIONS = ((10.4, 50.7), (-61.0, -31.5), (140.0, 36.0))
TOWNS = np.array([[x + dx, y + dy] for x, y in REGIONS for dx, dy in ((0, 0), (3, 0), (0, 3))])
SCENES = np.array(["indoor", "natural", "urban"], dtype=object)
LIMITS = (160, 90, 60)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def towns(count=360, seed=0):
    """Return the town of each picture, and the place."""
    random = np.random.default_rng(seed)
    town = random.permutation(np.arange(count) % len(TOWNS))
    return town, TOWNS[town] + random.uniform(-0.02, 0.02, (count, 2))


def tell(town, seed=0):
    """Return features of length 12 that tell the town, and others that do not."""
    random = np.random.default_rng(seed)
    noise = random.normal(0.0, 0.25, (len(town), 12))
    return noise + np.eye(12)[town] * 2.0, random.permutation(noise)


def in_one_patch(telling, patches=3, seed=1):
    """Return tokens of which one, anywhere in the picture, tells the town."""
    random = np.random.default_rng(seed)
    tokens = random.normal(0.0, 0.25, (len(telling), patches, telling.shape[1]))
    tokens[np.arange(len(telling)), random.integers(patches, size=len(telling))] += telling
    return tokens


def system(**options):
    usual = {
        "t_max": LIMITS,
        "t_min": 10,
        "width": 32,
        "heads": 2,
        "layers": 2,
        "epochs": 12,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "device": "cpu",
        "progress": False,
    }
    return TransLocator(**usual | options)


def accuracy(fitted, features, lonlat):
    return fitted.score(features, lonlat, threshold_km=25.0)


@pytest.fixture(scope="module")
def gated():
    torch.set_num_threads(1)
    town, lonlat = towns()
    return system().fit(tell(town)[0], lonlat, SCENES[town % 3])


@pytest.fixture(scope="module")
def layered():
    torch.set_num_threads(1)
    town, lonlat = towns()
    telling, silent = tell(town)
    features = PictureFeatures(silent, tokens=in_one_patch(telling))
    return system(epochs=20).fit(features, lonlat)


# --- What it learns ------------------------------------------------------------------------------


def test_pooled_features_that_tell_the_town_are_learned_and_fusion_is_gated(gated):
    town, lonlat = towns(seed=5)
    assert gated.fusion_ == "gated"
    assert accuracy(gated, tell(town, seed=5)[0], lonlat) > 0.95


def test_patches_that_tell_the_town_are_learned_and_tokens_are_fused_after_every_layer(layered):
    town, lonlat = towns(seed=5)
    telling, silent = tell(town, seed=5)
    features = PictureFeatures(silent, tokens=in_one_patch(telling, seed=6))
    assert layered.fusion_ == "layers"
    assert accuracy(layered, features, lonlat) > 0.95


@pytest.mark.parametrize("kind", ["gated", "gated with patches", "layers", "layers of pictures"])
def test_segments_that_alone_tell_the_town_are_learned(kind):
    def given(seed):
        town, lonlat = towns(seed=seed)
        _, silent = tell(town, seed=seed)
        shares = np.eye(9)[town] * 0.6 + 0.4 / 9
        patches = np.repeat(shares[:, None], 3, axis=1)
        tokens = in_one_patch(silent, seed=seed + 1) if kind.startswith("layers") else None
        alone = kind in ("gated", "layers of pictures")
        return PictureFeatures(silent, tokens, shares if alone else patches), lonlat

    features, lonlat = given(0)
    fitted = system().fit(features, lonlat)
    assert fitted.fusion_ == kind.split()[0]
    assert fitted.segments_ is None
    unseen, there = given(5)
    assert accuracy(fitted, unseen, there) > 0.95
    # And without them nothing would be.
    blind = PictureFeatures(unseen.pooled, unseen.tokens, unseen.segments[::-1])
    assert accuracy(fitted, blind, there) < 0.5


def test_answers_are_the_mean_place_of_the_likeliest_fine_cell(gated):
    town, lonlat = towns()
    features = tell(town)[0]
    finest = nested_partitions(lonlat, t_max=LIMITS, t_min=10).partitions[-1]
    assert gated.partition_.digest == finest.digest
    cells = gated.predict_cells(features)
    np.testing.assert_array_equal(gated.predict(features), finest.means[cells])
    np.testing.assert_allclose(gated.predict_proba(features).sum(axis=1), 1.0, atol=1e-5)
    assert len(gated.hierarchy_.partitions[0]) < len(finest)


def test_it_says_how_the_streams_are_fused(gated, layered):
    assert "pooled features fused by a gate" in repr(gated)
    assert "fused after every layer" in repr(layered)
    assert "fitted" not in repr(system())
    assert gated.notes_ == (
        "pooled features fused by a gate, no patch tokens",
        "segments derived from the features, 16 classes",
        "a scene head of 3 scenes",
    )
    assert layered.notes_[0] == "class tokens fused after every layer"
    assert layered.notes_[2] == "no scene head"


def test_the_scene_head_tells_what_pictures_show(gated, layered):
    town, _ = towns(seed=5)
    features = tell(town, seed=5)[0]
    features[7] = np.nan
    found = gated.predict_scenes(features)
    assert found[7] is None
    assert np.mean(np.delete(found == SCENES[town % 3], 7)) > 0.95
    twice = gated.predict_scenes(np.stack([features, features], axis=1))
    assert twice.tolist() == found.tolist()
    with pytest.raises(OptionError, match="learned without scenes"):
        layered.predict_scenes(PictureFeatures(features[:2], tokens=np.zeros((2, 3, 12))))


# --- Its loss ------------------------------------------------------------------------------------


def cross_entropy(logits, targets):
    known = targets >= 0
    exact = logits.astype(np.float64)[known]
    logs = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    return -logs[np.arange(len(logs)), targets[known]].mean()


@pytest.mark.parametrize("with_scenes", [True, False])
def test_the_loss_is_the_weighted_sum_of_its_heads(with_scenes, tmp_path):
    town, lonlat = towns(60)
    # Two pictures far from all others: in no cell, and no part of the losses of cells.
    lonlat[:2] = [[-150.0, 70.0], [80.0, -60.0]]
    features = tell(town)[0]
    scenes = SCENES[town % 3]
    scenes[5:9] = None
    # One step over all pictures, so small that the weights stay what they were.
    fitted = system(
        t_max=(40, 20, 10),
        t_min=3,
        dropout=0.0,
        epochs=1,
        batch_size=60,
        learning_rate=1e-12,
        run_folder=tmp_path / "run",
        training={"loop.log_every": 1},
    ).fit(features, lonlat, scenes if with_scenes else None)
    rows = with_segments(PictureFeatures(features), fitted.segments_).flat()[:, 0]
    with torch.no_grad():
        logits = {
            name: each.numpy() for name, each in fitted.network_(torch.from_numpy(rows)).items()
        }
    targets = fitted.hierarchy_.locate(lonlat)
    assert (targets < 0).any()
    expected = (
        0.5 * cross_entropy(logits["coarse"], targets[:, 0])
        + 0.3 * cross_entropy(logits["middle"], targets[:, 1])
        + 0.2 * cross_entropy(logits["fine"], targets[:, 2])
    )
    assert ("scene" in logits) == with_scenes
    if with_scenes:
        number = {"indoor": 0, "natural": 1, "urban": 2, None: -1}
        expected += 1.0 * cross_entropy(logits["scene"], np.array([number[s] for s in scenes]))
    [line] = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["loss"] == pytest.approx(expected, rel=1e-5)


# --- Its network ---------------------------------------------------------------------------------


def test_an_encoder_layer_is_torchs_own():
    torch.manual_seed(0)
    ours = EncoderLayer(12, heads=3, dropout=0.0)
    theirs = nn.TransformerEncoderLayer(
        12, 3, 24, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(0.0, 0.3)
        theirs.self_attn.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        for one, other in (
            (theirs.self_attn.out_proj, ours.mixed),
            (theirs.norm1, ours.before),
            (theirs.norm2, ours.between),
            (theirs.linear1, ours.dense[0]),
            (theirs.linear2, ours.dense[2]),
        ):
            one.load_state_dict(other.state_dict())
        tokens = torch.randn(4, 5, 12)
        expected = theirs(tokens)
        torch.testing.assert_close(ours(tokens), expected)
        # Those that nothing looks at are not computed; the others are as they were.
        torch.testing.assert_close(ours(tokens, 1), expected[:, :1])


def streams(layers, seed=0):
    torch.manual_seed(seed)
    layout = Layout(5, tokens=(4, 6), segments=(3, 7))
    fused = FusedLayers(layout, width=8, heads=2, layers=layers, dropout=0.0).double().eval()
    parts = Parts(*(torch.randn(2, *shape).double() for shape in ((5,), (4, 6), (3, 7))))
    return fused, parts


def moved(fused, parts, **other):
    """Tell which class tokens another stream moves, (image, segments) after each layer."""
    with torch.no_grad():
        before = list(fused.class_tokens(parts))
        after = list(fused.class_tokens(Parts(**{**vars(parts), **other})))
    return [
        tuple(bool((one - two).abs().max() > 1e-9) for one, two in zip(first, last, strict=True))
        for first, last in zip(before, after, strict=True)
    ]


def test_each_stream_moves_the_class_token_of_the_other_from_the_first_layer_on():
    fused, parts = streams(layers=3)
    assert moved(fused, parts) == [(False, False)] * 3
    for other in ({"tokens": parts.tokens + 0.1}, {"segments": parts.segments + 0.1}):
        assert moved(fused, parts, **other) == [(True, True)] * 3


@pytest.mark.parametrize("only", [0, 1, 2])
def test_there_is_a_fusion_after_every_layer(only):
    fused, parts = streams(layers=3)
    for number, exchange in enumerate(fused.exchanges):
        if number != only:
            for parameter in (*exchange.to_image.parameters(), *exchange.to_segments.parameters()):
                nn.init.zeros_(parameter)
    crossed = [number >= only for number in range(3)]
    found = moved(fused, parts, segments=parts.segments + 0.1)
    assert found == [(each, True) for each in crossed]
    found = moved(fused, parts, tokens=parts.tokens + 0.1)
    assert found == [(True, each) for each in crossed]


def test_what_a_class_token_learned_from_the_other_reaches_its_own_next_layer():
    fused, parts = streams(layers=2)
    nn.init.zeros_(fused.exchanges[1].to_image.weight)
    with torch.no_grad():
        *_, (before, _) = fused.class_tokens(parts)
        shift = torch.randn(8).double()
        fused.exchanges[0].to_image.bias += shift
        *_, (after, _) = fused.class_tokens(parts)
    # More than the shift itself: the second layer has looked at it.
    assert ((after - before) - shift).abs().max() > 1e-3


def test_patches_have_places():
    fused, parts = streams(layers=1)
    assert moved(fused, parts, tokens=parts.tokens.flip(1)) == [(True, True)]


def test_gated_fusion_is_its_formula():
    torch.manual_seed(1)
    fusion = GatedFusion(Layout(5, segments=(3, 7)), width=4, layers=1, dropout=0.0).double()
    pooled, segments = torch.randn(6, 5).double(), torch.rand(6, 3, 7).double()
    with torch.no_grad():
        got = fusion(Parts(pooled, None, segments)).numpy()

    def dense(layer, values):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        return values @ weight.T + bias

    def gelu(values):
        return values * 0.5 * (1.0 + np.vectorize(erf)(values / np.sqrt(2.0)))

    a = gelu(dense(fusion.image[0], pooled.numpy()))
    b = gelu(dense(fusion.segments[0], segments.numpy().mean(axis=1)))
    g = 1.0 / (1.0 + np.exp(-dense(fusion.gate, np.hstack([a, b]))))
    np.testing.assert_allclose(got, g * a + (1.0 - g) * b, rtol=1e-10)
    assert g.min() > 0.2
    assert g.max() < 0.8


@pytest.mark.parametrize("fusion", ["layers", "gated"])
def test_one_head_alone_scores_as_it_does_among_all(fusion):
    layout = Layout(5, tokens=(4, 6) if fusion == "layers" else None, segments=(7,))
    sizes = {"width": 8, "heads": 2, "layers": 2, "dropout": 0.0}
    network = TransLocatorNetwork(layout, {"coarse": 3, "fine": 5}, fusion=fusion, **sizes)
    rows = torch.randn(4, layout.width)
    with torch.no_grad():
        torch.testing.assert_close(network.scores(rows, "fine"), network(rows)["fine"])


def test_features_are_standardised_by_those_of_training(monkeypatch):
    random = np.random.default_rng(0)
    features = PictureFeatures(
        random.normal(7.0, 3.0, (50, 4)), tokens=random.normal(-2.0, 0.1, (50, 3, 2))
    )
    monkeypatch.setattr("geoembed_systems.networks.translocator_network._BLOCK", 40)
    found = moments(features)
    assert set(found) == {"pooled", "tokens"}
    for name, (mean, scale) in found.items():
        rows = getattr(features, name).astype(np.float64).reshape(-1, len(mean))
        np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(scale, rows.std(axis=0), rtol=1e-5)


def test_a_shift_and_a_scale_of_features_change_nothing(gated):
    town, lonlat = towns()
    features = tell(town)[0] * 64.0 + 256.0
    again = system().fit(features, lonlat, SCENES[town % 3])
    unseen = tell(towns(seed=5)[0], seed=5)[0]
    share = np.mean(gated.predict_cells(unseen) == again.predict_cells(unseen * 64.0 + 256.0))
    assert share > 0.98


# --- Answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gated", "layered"])
def test_blocks_of_rows_make_no_difference(kind, request, monkeypatch):
    fitted = request.getfixturevalue(kind)
    telling, silent = tell(towns(40)[0])
    tokens = in_one_patch(telling) if kind == "layered" else None
    features = PictureFeatures(silent, tokens)
    whole = fitted.predict_proba(features)
    monkeypatch.setattr("geoembed_systems.translocator._BLOCK", 1)
    np.testing.assert_allclose(fitted.predict_proba(features), whole, atol=1e-6)


def test_views_are_pooled_as_probabilities(gated):
    one, other = tell(towns(20, seed=1)[0])[0], tell(towns(20, seed=2)[0])[0]
    alone = [gated.predict_proba(each) for each in (one, other)]
    both = gated.predict_proba(np.stack([one, other], axis=1))
    np.testing.assert_allclose(both, np.mean(alone, axis=0), atol=1e-6)


def test_pictures_without_features_are_answered_with_nothing(gated):
    features = tell(towns(9)[0])[0]
    features[4] = np.nan
    with pytest.warns(UserWarning, match="not finite"):
        found = gated.predict(features)
    assert np.isnan(found[4]).all()
    assert np.isfinite(np.delete(found, 4, axis=0)).all()


def test_the_same_seed_gives_the_same_system(gated):
    town, lonlat = towns()
    features = tell(town)[0]
    again = system().fit(features, lonlat, SCENES[town % 3])
    np.testing.assert_array_equal(again.predict_proba(features), gated.predict_proba(features))


@pytest.mark.parametrize("kind", ["gated", "layered"])
def test_a_saved_system_answers_the_same(kind, request, tmp_path):
    fitted = request.getfixturevalue(kind)
    telling, silent = tell(towns(40)[0])
    features = PictureFeatures(silent, in_one_patch(telling) if kind == "layered" else None)
    again = TransLocator.load(fitted.save(tmp_path / "system"))
    np.testing.assert_array_equal(again.predict_proba(features), fitted.predict_proba(features))
    assert again.fusion_ == fitted.fusion_
    assert again.notes_ == fitted.notes_
    assert again.scenes_ == fitted.scenes_
    assert again.hierarchy_.digest == fitted.hierarchy_.digest


def test_a_system_whose_segments_were_supplied_is_saved_without_a_model_of_them(tmp_path):
    town, lonlat = towns(90)
    features = PictureFeatures(tell(town)[0], segments=np.eye(9)[town])
    fitted = system(epochs=1, t_max=(40, 20, 15), t_min=5).fit(features, lonlat)
    again = TransLocator.load(fitted.save(tmp_path / "system"))
    assert again.segments_ is None
    np.testing.assert_array_equal(again.predict(features), fitted.predict(features))


def test_a_saved_system_with_the_cells_of_another_is_refused(gated):
    town, lonlat = towns(90)
    other = system(epochs=1, t_max=(40, 20, 15), t_min=5).fit(tell(town)[0], lonlat)
    tensors, config = gated._state()
    arrays = {name: np.asarray(each) for name, each in tensors.items()}
    with pytest.raises(OptionError, match="partition of other data"):
        other._restore(arrays, config)


def test_training_goes_on_in_its_folder(tmp_path):
    town, lonlat = towns(90)
    features = PictureFeatures(tell(town)[0], tokens=in_one_patch(tell(town)[0]))
    options = {"t_max": (40, 20, 15), "t_min": 5, "run_folder": tmp_path / "run", "epochs": 2}
    first = system(**options).fit(features, lonlat)
    again = system(**options, resume=True).fit(features, lonlat)
    np.testing.assert_array_equal(again.predict_proba(features), first.predict_proba(features))
    with pytest.raises(TrainingError, match="dropout"):
        system(**options, resume=True, dropout=0.5).fit(features, lonlat)


# --- Pictures ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    weights = write_tiny_clip(tmp_path_factory.mktemp("clip"))
    return load_image_encoder(tiny_clip_spec(), weights=weights)


def coloured(town, seed=0):
    """Return pictures whose colour tells the town."""
    random = np.random.default_rng(seed)
    colours = np.random.default_rng(1).integers(0, 256, (len(TOWNS), 3))
    return [
        np.clip(colours[each] + random.normal(0, 4, (48, 64, 3)), 0, 255).astype(np.uint8)
        for each in town
    ]


def test_pictures_are_learned_with_the_tokens_of_their_tower(clip):
    town, lonlat = towns(54)
    options = {"t_max": (30, 15, 8), "t_min": 2, "epochs": 15, "batch_size": 16}
    fitted = system(**options, image_encoder=clip).fit(coloured(town), lonlat)
    assert fitted.fusion_ == "layers"
    unseen, there = towns(18, seed=3)
    assert accuracy(fitted, coloured(unseen, seed=3), there) > 0.95


def test_a_system_that_learned_from_pooled_features_reads_pictures_without_their_tokens(clip):
    town, lonlat = towns(54)
    pooled = clip_features(clip, coloured(town))
    options = {"t_max": (30, 15, 8), "t_min": 2, "epochs": 40, "batch_size": 16}
    fitted = system(**options, image_encoder=clip).fit(pooled, lonlat)
    assert fitted.fusion_ == "gated"
    unseen, there = towns(18, seed=3)
    assert accuracy(fitted, coloured(unseen, seed=3), there) > 0.95


def clip_features(clip, pictures):
    return read_picture_features(pictures, image_encoder=clip, progress=False).pooled


# --- Bad input -----------------------------------------------------------------------------------


def test_features_without_the_tokens_it_was_trained_with_are_refused(layered):
    with pytest.raises(OptionError, match="Patch tokens are needed"):
        layered.predict(np.zeros((3, 12)))


def test_features_of_another_size_are_refused(gated, layered):
    with pytest.raises(OptionError, match="length 13, and the system .* length 12"):
        gated.predict(np.zeros((3, 13)))
    with pytest.raises(OptionError, match="4 tokens of length 12"):
        layered.predict(PictureFeatures(np.zeros((3, 12)), tokens=np.zeros((3, 4, 12))))


def test_tokens_are_left_out_where_pooled_features_were_learned_from(gated):
    telling = tell(towns(9)[0])[0]
    features = PictureFeatures(telling, tokens=np.zeros((9, 2, 5)))
    np.testing.assert_array_equal(gated.predict(features), gated.predict(telling))


def test_tokens_are_left_out_where_gated_fusion_is_asked_for():
    town, lonlat = towns(90)
    features = PictureFeatures(tell(town)[0], tokens=np.zeros((90, 2, 5)))
    fitted = system(fusion="gated", epochs=1, t_max=(40, 20, 15), t_min=5).fit(features, lonlat)
    assert fitted.fusion_ == "gated"
    assert fitted.layout_.tokens is None


def test_fusion_after_every_layer_needs_tokens():
    town, lonlat = towns(90)
    with pytest.raises(OptionError, match="Patch tokens are needed"):
        system(fusion="layers").fit(tell(town)[0], lonlat)


def test_scenes_nobody_knows_are_refused(gated):
    town, lonlat = towns()
    features = tell(town)[0]
    with pytest.raises(TableError, match="3 scenes for 360 pictures"):
        system().fit(features, lonlat, ["urban", "indoor", "natural"])
    with pytest.raises(OptionError, match=r"'desert', first in row 2.*Known scenes: 'indoor'"):
        gated.scenes_.encode(["urban", "indoor", "desert"])
    with pytest.raises(OptionError, match="does not choose by scene"):
        gated.predict(features, scenes=SCENES[town % 3])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fusion": "late"}, "fusion='late' is not offered"),
        ({"layers": 0}, "layers=0 is no whole number"),
        ({"heads": 2.5}, "heads=2.5 is no whole number"),
        ({"width": 33}, "width=33 is no multiple of heads=2"),
        ({"width": "wide"}, "width='wide' is no whole number"),
        ({"dropout": 1.0}, "dropout=1.0 is no share"),
        ({"segment_classes": 0}, "classes=0 is neither"),
        ({"segment_classes": 500}, "segment_classes=500 are more than"),
        ({"t_max": (100, 50)}, "makes 2 partitions"),
        ({"training": {"name": "x"}}, "training= has 'name'"),
    ],
)
def test_options_that_do_not_fit_are_refused_and_nothing_is_lost(options, told, gated):
    town, lonlat = towns()
    features = tell(town)[0]
    before = gated.predict(features[:5])
    usual = gated.get_params()
    try:
        with pytest.raises(OptionError, match=told):
            gated.set_params(**options).fit(features, lonlat)
    finally:
        gated.set_params(**usual)
    np.testing.assert_array_equal(gated.predict(features[:5]), before)


def test_cells_may_be_given_and_those_of_other_data_are_refused(gated):
    town, lonlat = towns(90)
    features = tell(town)[0]
    fitted = system(hierarchy=gated.hierarchy_, epochs=1).fit(features, lonlat)
    assert fitted.hierarchy_.digest == gated.hierarchy_.digest
    with pytest.raises(OptionError, match="hierarchy= is a partition of other data"):
        system(hierarchy=gated.hierarchy_).fit(features, lonlat - 40.0)
    with pytest.raises(OptionError, match="is no Hierarchy"):
        system(hierarchy=gated.partition_).fit(features, lonlat)
    two = Hierarchy(gated.hierarchy_.partitions[:2])
    with pytest.raises(OptionError, match="hierarchy= makes 2 partitions"):
        system(hierarchy=two).fit(features, lonlat)


def test_too_few_places_and_places_in_one_cell_are_refused():
    with pytest.raises(OptionError, match="fewer"):
        system(t_min=10).fit(np.eye(5), TOWNS[:5])
    with pytest.raises(OptionError, match="one class is nothing to learn"):
        system(t_min=10).fit(np.eye(30), np.repeat(TOWNS[:1], 30, axis=0))


def test_widths_follow_the_features():
    def width(layout, heads=4):
        return sizes_of(layout, width="auto", heads=heads, layers=1, dropout=0.0)["width"]

    assert width(Layout(16)) == 128
    assert width(Layout(768)) == 512
    assert width(Layout(768, tokens=(256, 1024))) == 256
    assert width(Layout(768, tokens=(16, 128))) == 128
    assert width(Layout(8, tokens=(16, 8))) == 64
    assert width(Layout(768), heads=12) % 12 == 0
