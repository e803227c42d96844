"""The small convolutional tower: shapes, rows that do not see each other, gradients, learning."""

import numpy as np
import pytest
import torch
from torch import nn

from geoembed.errors import OptionError
from geoembed.images.convnet import ConvNet
from geoembed.images.network import ImageNetwork


@pytest.fixture
def pixels():
    return torch.randn(6, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def network(*widths, size=48):
    torch.manual_seed(0)
    return ConvNet(size, widths or (8, 16))


@pytest.mark.parametrize(
    ("size", "widths"), [(48, (8, 16, 24)), (50, (8, 8)), (33, (17,)), (8, (4, 6))]
)
def test_any_size_that_is_large_enough_gives_one_feature_a_picture(size, widths):
    tower = network(*widths, size=size)
    got = tower(torch.zeros(2, 3, size, size))
    assert got.shape == (2, tower.features)
    assert torch.equal(got[0], got[1])


def test_every_stage_has_half_the_resolution_of_the_one_before(pixels):
    tower = network(8, 8, 16)
    sides = []
    for block in tower.blocks:
        block.register_forward_hook(lambda _, __, out: sides.append(out.shape[-1]))
    tower(pixels)
    assert sides == [12, 6, 3]


def test_a_row_does_not_depend_on_the_others_nor_on_the_mode(pixels):
    tower = network()
    together = tower(pixels)
    alone = torch.cat([tower(row[None]) for row in pixels])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert torch.equal(tower.eval()(pixels), together)


def test_the_layout_of_the_pixels_does_not_matter(pixels):
    tower = network()
    other = pixels.contiguous(memory_format=torch.channels_last)
    assert torch.equal(tower(other), tower(pixels))


def test_a_feature_is_mean_and_standard_deviation_over_the_map(pixels):
    tower = network(8, 16)
    maps = []
    tower.norm.register_forward_hook(lambda _, __, out: maps.append(out.detach().relu()))
    features = tower(pixels).detach().numpy()
    over = maps[0].flatten(2).double().numpy()
    np.testing.assert_allclose(features[:, :16], over.mean(axis=2), atol=1e-6)
    np.testing.assert_allclose(features[:, 16:] ** 2, over.var(axis=2) + 1e-5, atol=1e-5)


def test_even_pictures_have_gradients_that_are_numbers():
    tower = network(8, 16)
    tower(torch.zeros(2, 3, 48, 48)).sum().backward()
    assert all(p.grad.isfinite().all() for p in tower.parameters())


def test_autocast_rounds_layers_and_keeps_moments(pixels):
    tower = network(8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        got = tower(pixels)
    assert got.dtype == torch.float32
    cosine = torch.cosine_similarity(got, tower(pixels))
    assert cosine.min() > 0.9995
    assert cosine.max() < 1 - 1e-9


def test_gradients_reach_every_weight(pixels):
    tower = network(8, 16, 16)
    tower(pixels).square().mean().backward()
    still = [n for n, p in tower.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def test_gradients_are_those_of_finite_differences():
    tower = network(4, size=4).double()
    pixels = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(tower, pixels)


def test_it_learns_what_mean_colours_do_not_tell():
    # Stripes along or across: the same colours in both.
    torch.manual_seed(0)
    lines = (torch.arange(16) % 4 < 2).float().expand(3, 16, 16)
    pixels = torch.stack([lines if i % 2 else lines.transpose(1, 2) for i in range(32)])
    pixels = pixels + 0.3 * torch.randn(pixels.shape)
    labels = torch.arange(32) % 2
    tower = ConvNet(16, (8, 16))
    model = nn.Sequential(tower, nn.Linear(tower.features, 2))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(pixels), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.5
    assert losses[-1] < 0.1


def test_impossible_networks_are_refused():
    with pytest.raises(OptionError, match=r"size=15 is too small for 3 stages.*at least 16 pixels"):
        ConvNet(15, (8, 8, 8))
    with pytest.raises(OptionError, match=r"widths=\(\): give one or more"):
        ConvNet(48, ())
    with pytest.raises(OptionError, match=r"widths=\(8, 0\)"):
        ConvNet(48, (8, 0))


def test_the_image_network_names_its_layers_as_geoclip_does():
    head = ImageNetwork(12, [7, 5], 3)
    assert head.widths == (12, 7, 5, 3)
    assert {key.partition(".")[0] for key in head.state_dict()} == {"mlp"}
    assert isinstance(head.mlp[1], nn.ReLU)
    tower = network(8)
    whole = ImageNetwork(tower.features, [], 3, tower)
    assert whole.widths == (16, 3)
    assert whole(torch.zeros(2, 3, 48, 48)).shape == (2, 3)
    assert set(whole.state_dict()) >= {"mlp.0.weight", "tower.stem.weight"}
