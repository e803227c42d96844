"""GeoDecoder's network against torch's own layers, and what its queries look at."""

import copy

import numpy as np
import pytest
import torch
from geoembed_systems.networks.geodecoder_learning import moments_of, with_scenes
from geoembed_systems.networks.geodecoder_network import Attention, DecoderLayer, GeoDecoderNetwork
from geoembed_systems.pictures.features import Layout, PictureFeatures
from geoembed_systems.pictures.scenes import Scenes
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTH, HEADS, HIDDEN = 16, 4, 24


def stirred(module, seed=0, scale=0.3):
    """Weights of any size in all layers, norms and biases included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def made(**changes):
    options = {
        "layout": Layout(5, tokens=(6, 7)),
        "see": "patches",
        "classes": [2, 3, 5],
        "scenes": 4,
        "names": ["coarse", "middle", "fine"],
        "layers": 3,
        "width": WIDTH,
        "heads": HEADS,
        "hidden": HIDDEN,
        "dropout": 0.0,
        **changes,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return stirred(GeoDecoderNetwork(options.pop("layout"), **options))


def some_rows(network, count=9, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, network.layout.width, generator=generator)


def into_torch(ours, theirs):
    """Copy the weights of our attention into torch's."""
    theirs.in_proj_weight.data = torch.cat([ours.query.weight, ours.key.weight, ours.value.weight])
    theirs.in_proj_bias.data = torch.cat([ours.query.bias, ours.key.bias, ours.value.bias])
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    return theirs.eval()


def reference_layer(ours):
    """Torch's decoder layer with our weights; its three steps can be called one by one."""
    theirs = nn.TransformerDecoderLayer(
        WIDTH, HEADS, HIDDEN, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    into_torch(ours.across, theirs.multihead_attn)
    into_torch(ours.among, theirs.self_attn)
    theirs.linear1.load_state_dict(ours.expand.state_dict())
    theirs.linear2.load_state_dict(ours.contract.state_dict())
    # In the order of our steps: to the tokens, among queries, alone.
    theirs.norm2.load_state_dict(ours.norms[0].state_dict())
    theirs.norm1.load_state_dict(ours.norms[1].state_dict())
    theirs.norm3.load_state_dict(ours.norms[2].state_dict())
    return theirs.eval()


def reference_steps(theirs, queries, tokens):
    queries = queries + theirs._mha_block(theirs.norm2(queries), tokens, None, None)
    queries = queries + theirs._sa_block(theirs.norm1(queries), None, None)
    return queries + theirs._ff_block(theirs.norm3(queries))


def test_attention_is_that_of_torch():
    ours = stirred(Attention(WIDTH, HEADS))
    theirs = into_torch(ours, nn.MultiheadAttention(WIDTH, HEADS, batch_first=True))
    queries, seen = torch.randn(3, 5, WIDTH), torch.randn(3, 7, WIDTH)
    expected, _ = theirs(queries, seen, seen)
    torch.testing.assert_close(ours(queries, seen), expected, rtol=1e-5, atol=1e-6)


def test_queries_that_all_pictures_share_need_no_copies():
    ours = stirred(Attention(WIDTH, HEADS))
    queries, seen = torch.randn(1, 5, WIDTH), torch.randn(3, 7, WIDTH)
    torch.testing.assert_close(ours(queries, seen), ours(queries.expand(3, -1, -1), seen))


def test_a_layer_is_the_steps_of_torchs_decoder_layer_in_the_papers_order():
    ours = stirred(DecoderLayer(WIDTH, HEADS, HIDDEN, 0.0))
    queries, tokens = torch.randn(3, 5, WIDTH), torch.randn(3, 7, WIDTH)
    theirs = reference_layer(ours)
    expected = reference_steps(theirs, queries, tokens)
    torch.testing.assert_close(ours(queries, tokens), expected, rtol=1e-5, atol=1e-5)
    # Torch's own order, queries among themselves first, is another function.
    assert not torch.allclose(ours(queries, tokens), theirs(queries, tokens), atol=1e-2)


def test_the_decoder_goes_through_all_layers_one_after_the_other():
    network = made()
    rows = some_rows(network)
    with torch.no_grad():
        tokens = network.patches(network.layout.unpack(rows).tokens)
        queries = network.queries.expand(len(rows), -1, -1)
        for layer in network.layers:
            queries = reference_steps(reference_layer(layer), queries, tokens)
        torch.testing.assert_close(
            network.decode(rows), network.norm(queries), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_every_layer_counts(changed):
    network = made()
    rows = some_rows(network)
    before = {name: values.detach() for name, values in network(rows).items()}
    other = copy.deepcopy(network)
    stirred(other.layers[changed], seed=5, scale=0.1)
    after = other(rows)
    for name, values in before.items():
        assert (values - after[name]).abs().max() > 1e-3, name


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_every_layer_learns(layer):
    network = made().train()
    logits = network(some_rows(network))
    loss = sum(values.square().mean() for values in logits.values())
    loss.backward()
    for name, parameter in network.layers[layer].named_parameters():
        if name.endswith("key.bias"):
            continue  # adds the same to all scores of a query, and softmax takes it away
        assert parameter.grad.abs().max() > 1e-7, name


def test_scenes_are_told_by_the_mean_over_partitions_and_choose_whose_queries_are_read():
    network = made()
    rows = some_rows(network, 40)
    with torch.no_grad():
        logits = network(rows)
        vectors = network.decode(rows)
        assert vectors.shape == (40, 4 * 3, WIDTH)
        chosen = set()
        for row in range(40):
            by_hand = [
                sum(network.scene(vectors[row, 3 * scene + level]) for level in range(3)) / 3
                for scene in range(4)
            ]
            best = int(torch.stack(by_hand).argmax())
            chosen.add(best)
            torch.testing.assert_close(logits["scene"][row], torch.cat(by_hand))
            for level, name in enumerate(("coarse", "middle", "fine")):
                expected = network.heads[level](vectors[row, 3 * best + level])
                torch.testing.assert_close(logits[name][row], expected, rtol=1e-4, atol=1e-5)
    assert len(chosen) > 1


def test_known_scenes_choose_the_queries_and_unknown_ones_do_not():
    network = made()
    rows = some_rows(network, 12)
    with torch.no_grad():
        free = network.answer(rows)
        told = network.answer(rows, torch.arange(12) % 4)
        vectors = network.decode(rows)
        unknown = network.answer(rows, torch.full((12,), -1))
    for row in range(12):
        expected = network.heads[2](vectors[row, 3 * (row % 4) + 2])
        torch.testing.assert_close(told["fine"][row], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(told["scene"], free["scene"])
    torch.testing.assert_close(unknown["fine"], free["fine"])


def test_the_true_scene_behind_the_features_is_looked_at_only_while_learning():
    network = made()
    rows = some_rows(network, 8)
    numbers = np.array([0, 1, 2, 3, -1, -1, 2, 0])
    pooled, tokens = rows[:, :5].numpy(), rows[:, 5:].reshape(-1, 6, 7).numpy()
    scenes = Scenes(("a", "b", "c", "d"))
    told = with_scenes(PictureFeatures(pooled, tokens), numbers, scenes)
    given = torch.from_numpy(told.flat()[:, 0])
    with torch.no_grad():
        free = network.answer(rows)
        torch.testing.assert_close(network.eval()(given)["fine"], free["fine"])
        learning = network.train()(given)["fine"]  # there is no dropout
        expected = network.answer(rows, torch.from_numpy(numbers))["fine"]
    torch.testing.assert_close(learning, expected)
    assert not torch.allclose(expected, free["fine"], atol=1e-3)


def test_without_scenes_there_is_one_query_a_partition_and_no_scene_head():
    network = made(scenes=1)
    assert network.queries.shape == (1, 3, WIDTH)
    assert set(network(some_rows(network))) == {"coarse", "middle", "fine"}


@pytest.mark.parametrize(("see", "counts"), [("patches", 0), ("pooled", 1), ("both", 2)])
def test_what_is_not_looked_at_does_not_matter(see, counts):
    network = made(see=see)
    rows = some_rows(network)
    other = rows.clone()
    changed = slice(0, 5) if see == "patches" else slice(5, None)
    other[:, changed] += 1
    same = torch.equal(network(rows)["fine"], network(other)["fine"])
    assert same is (see != "both")
    assert (network.patches is not None) + (network.whole is not None) == max(1, counts)


def test_patches_are_told_apart_by_where_they_are():
    network = made()
    rows = some_rows(network)
    shuffled = torch.cat(
        [rows[:, :5], rows[:, 5:].reshape(-1, 6, 7).flip(1).reshape(len(rows), -1)], dim=1
    )
    assert not torch.allclose(network(rows)["fine"], network(shuffled)["fine"], atol=1e-3)


def test_the_size_of_channels_does_not_matter_once_they_are_standardised():
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.uniform(-3, 3, 7)
    shift = 3 * scale * rng.normal(size=7)
    even = rng.normal(size=(50, 6, 7))
    features = PictureFeatures(np.ones((50, 5)), tokens=even)
    odd = PictureFeatures(np.ones((50, 5)), tokens=even * scale + shift)
    plain = made(moments=moments_of(features))
    other = made(moments=moments_of(odd))
    expected = plain(torch.from_numpy(features.flat()[:, 0]))["fine"]
    got = other(torch.from_numpy(odd.flat()[:, 0]))["fine"]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_true_scenes_are_told_of_every_view_and_of_no_picture_whose_scene_is_not_known():
    features = PictureFeatures(np.zeros((3, 2, 4)), segments=np.ones((3, 2, 5)))
    told = with_scenes(features, np.array([2, -1, 0]), Scenes(("a", "b", "c"))).flat()
    expected = [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert told.shape == (3, 2, 7)
    for view in range(2):
        assert told[:, view, 4:].tolist() == expected
