"""The running mean of the weights against a loop in float64; what it holds, and where it goes."""

import numpy as np
import pytest
import torch

from geoembed.errors import TrainingError
from geoembed.training.ema import WeightAverage
from geoembed.training.model import build_model
from geoembed.training.settings import TrainingSettings


def make_model(**location):
    settings = TrainingSettings.model_validate(
        {
            "data": {"kind": "bluemarble"},
            "location": {"frequencies": 3, "hidden": [4], "output": 4, **location},
            "image": {"head": [3]},
        }
    )
    return build_model(settings, feature_dimension=2, backbone=False)


def move(model, rng):
    with torch.no_grad():
        for _, weight in model.trained():
            weight += torch.from_numpy(rng.normal(size=weight.shape).astype(np.float32))


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_it_is_the_mean_that_a_loop_makes(decay):
    model, rng = make_model(), np.random.default_rng(0)
    average = WeightAverage(model, decay)
    expected = {name: w.detach().double().numpy().copy() for name, w in model.trained()}
    for step in range(40):
        move(model, rng)
        average.update(step)
        keep = min(decay, (1 + step) / (10 + step))
        for name, weight in model.trained():
            new = weight.detach().double().numpy()
            expected[name] = keep * expected[name] + (1 - keep) * new
    state = average.state_dict()
    assert set(expected) < set(state)
    for name, mean in expected.items():
        np.testing.assert_allclose(state[name].numpy(), mean, rtol=1e-5, atol=1e-5)


def test_the_start_is_soon_forgotten():
    # With a decay of 0.9999 alone, 99 % of the mean of 100 steps would be the random start.
    model = make_model()
    average = WeightAverage(model, 0.9999)
    with torch.no_grad():
        model.logit_scale.fill_(1.0)
    start = average.state_dict()["logit_scale"].item()
    for step in range(100):
        average.update(step)
    share = (average.state_dict()["logit_scale"].item() - 1.0) / (start - 1.0)
    assert 0.0 < share < 1e-3


def test_it_is_in_place_for_a_block_and_the_weights_come_back():
    model, rng = make_model(), np.random.default_rng(1)
    average = WeightAverage(model, 0.9)
    move(model, rng)
    average.update(0)
    weights = {name: w.detach().clone() for name, w in model.trained()}
    means = average.state_dict()
    with average.in_place():
        for name, weight in model.trained():
            assert torch.equal(weight, means[name])
            assert not torch.equal(weight, weights[name])
    assert all(torch.equal(w, weights[name]) for name, w in model.trained())


def test_the_weights_come_back_after_an_error():
    model = make_model()
    average = WeightAverage(model, 0.9)
    move(model, np.random.default_rng(2))
    weights = {name: w.detach().clone() for name, w in model.trained()}

    def fail():
        with average.in_place():
            raise ValueError("no picture")

    with pytest.raises(ValueError, match="no picture"):
        fail()
    assert all(torch.equal(w, weights[name]) for name, w in model.trained())


def test_its_state_is_a_whole_model_and_goes_on_bit_for_bit():
    model, rng = make_model(train="none"), np.random.default_rng(3)
    average = WeightAverage(model, 0.9)
    move(model, rng)
    average.update(0)
    state = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    # What is not trained is there as well, as it is in the model.
    assert list(state) == list(model.state_dict())
    frozen = "location_encoder.LocEnc0.capsule.0.b"
    assert torch.equal(state[frozen], model.state_dict()[frozen])
    other = WeightAverage(model, 0.9)
    other.load_state_dict(state)
    move(model, rng)
    average.update(1)
    other.update(1)
    for name, tensor in average.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_none_is_kept_where_none_is_wanted():
    model = make_model()
    average = WeightAverage(model, 0.0)
    average.update(0)
    assert average.state_dict() is None
    before = model.logit_scale.item()
    with average.in_place():
        assert model.logit_scale.item() == before
    average.load_state_dict(None)


def test_a_checkpoint_without_a_mean_is_told():
    average = WeightAverage(make_model(), 0.9)
    with pytest.raises(TrainingError, match="optimiser.ema = 0.9 wants the running mean"):
        average.load_state_dict(None)
