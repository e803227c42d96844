"""TransLocator's network: its fusions by hand and by torch, its loss by hand."""

import json
from math import erf

import numpy as np
import pytest
import torch
from geoembed_systems.networks.translocator_fusion import EncoderLayer, FusedLayers, GatedFusion
from geoembed_systems.networks.translocator_network import TransLocatorNetwork, moments
from geoembed_systems.networks.translocator_streams import sizes_of, with_segments
from geoembed_systems.pictures.features import Layout, Parts, PictureFeatures
from torch import nn
from translocator_towns import SCENES, system, tell, towns

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_widths_follow_the_features():
    def width(layout, heads=4):
        return sizes_of(layout, width="auto", heads=heads, layers=1, dropout=0.0)["width"]

    assert width(Layout(16)) == 128
    assert width(Layout(768)) == 512
    assert width(Layout(768, tokens=(256, 1024))) == 256
    assert width(Layout(768, tokens=(16, 128))) == 128
    assert width(Layout(8, tokens=(16, 8))) == 64
    assert width(Layout(768), heads=12) % 12 == 0


# -- the loss --------------------------------------------------------------------------------------


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
