"""The model that is trained: its keys, where it starts, what of it is trained, exact phases."""

import copy
import json
from dataclasses import replace

import geoclip
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import geoembed
from geoembed import weights
from geoembed.errors import OptionError, UnknownNameError, WeightsError
from geoembed.extending import hookimpl
from geoembed.extending.registry import image_encoder_spec, location_encoder_specs
from geoembed.images import load_image_encoder
from geoembed.images.towers import tower_of
from geoembed.testing import isolated_plugins, tiny_clip_spec, write_tiny_clip
from geoembed.training.model import build_model
from geoembed.training.settings import TrainingSettings

SMALL = {"sigmas": [1.0, 16.0], "frequencies": 8, "hidden": [16, 12], "output": 10}
RELEASED = {"init": "geoclip.v1"}
CONVNET = {"tower": "convnet", "size": 16, "widths": [8, 16], "head": [12]}


def settings(location=None, image=None, **sections):
    return TrainingSettings.model_validate(
        {
            "data": {"kind": "bluemarble"},
            "location": SMALL if location is None else location,
            "image": CONVNET if image is None else image,
            **sections,
        }
    )


def on_features(location=None, dimension=768, **image):
    """A model on cached features."""
    return build_model(
        settings(location, {"head": [12], **image}), backbone=False, feature_dimension=dimension
    )


@pytest.fixture(scope="module")
def places():
    random = np.random.default_rng(0)
    return np.column_stack([random.uniform(-180, 180, 300), random.uniform(-90, 90, 300)])


@pytest.fixture(scope="module")
def released(places):
    encoder = geoembed.load_encoder("geoclip.v1", device="cpu")
    return encoder.encode(places[:, 0], places[:, 1])


def cosines(a, b):
    return torch.cosine_similarity(a.double(), torch.as_tensor(b).double())


def test_the_state_dict_has_the_keys_and_shapes_of_geoclip(monkeypatch):
    # The reference without its CLIP, which is not here.
    monkeypatch.setattr("geoclip.model.image_encoder.CLIPModel", lambda config: torch.nn.Identity())
    monkeypatch.setattr("geoclip.model.image_encoder.CLIPImageProcessor", lambda: None)
    image = geoclip.ImageEncoder(from_pretrained=False)
    location = geoclip.LocationEncoder(from_pretrained=False)
    expected = {f"location_encoder.{k}": v.shape for k, v in location.state_dict().items()}
    expected |= {f"image_encoder.mlp.{k}": v.shape for k, v in image.mlp.state_dict().items()}
    expected["logit_scale"] = torch.Size([])
    model = on_features({}, head=[768])
    assert {k: v.shape for k, v in model.state_dict().items()} == expected
    location.load_state_dict(model.location_encoder.state_dict(), strict=True)
    image.mlp.load_state_dict(model.image_encoder.mlp.state_dict(), strict=True)


def test_a_trained_tower_adds_its_own_keys():
    keys = set(build_model(settings()).state_dict())
    assert {k.partition(".")[0] for k in keys} == {
        "location_encoder",
        "image_encoder",
        "logit_scale",
    }
    assert {k.split(".")[1] for k in keys if k.startswith("image")} == {"mlp", "tower"}


def test_started_from_the_released_encoder_it_gives_its_vectors(places, released):
    model = on_features(RELEASED, init="geoclip.v1")
    with torch.no_grad():
        np.testing.assert_array_equal(model.encode_places(places).numpy(), released)
    head = weights.load_tensors(image_encoder_spec("geoclip.v1").weights, "image_mlp")
    for key, tensor in model.image_encoder.mlp.state_dict().items():
        assert torch.equal(tensor, head[key])
    (scale,) = weights.load_tensors(
        image_encoder_spec("geoclip.v1").weights, "logit_scale"
    ).values()
    assert model.logit_scale.item() == scale.item()
    # What is trained is not what others of the process use.
    with torch.no_grad():
        next(model.parameters()).add_(1)
        for parameter in model.location_encoder.parameters():
            parameter.zero_()
    again = geoembed.load_encoder("geoclip.v1", device="cpu")
    np.testing.assert_array_equal(again.encode(places[:, 0], places[:, 1]), released)


def test_added_scales_change_nothing_at_the_start_and_are_trained_alone(places, released):
    model = on_features(RELEASED | {"add_sigmas": [4096.0], "train": "added"}, train="none")
    assert model.architecture.sigmas == (1.0, 16.0, 256.0, 4096.0)
    got = model.encode_places(places)
    np.testing.assert_array_equal(got.detach().numpy(), released)
    deviation = model.location_encoder.LocEnc3.capsule[0].b.std().item()
    assert deviation == pytest.approx(4096.0, rel=0.1)
    trained = [name for name, _ in model.trained()]
    assert {name.split(".")[1] for name in trained if "." in name} == {"LocEnc3"}
    # The head of zeros learns first, what lies before it from the second step on.
    optimiser = torch.optim.SGD([p for _, p in model.trained()], 1e-3)
    moved = {}
    for step in range(2):
        optimiser.zero_grad()
        model.encode_places(places).square().mean().backward()
        moved[step] = {name for name, p in model.trained() if p.grad is not None and p.grad.any()}
        optimiser.step()
    assert moved[0] == {
        "location_encoder.LocEnc3.head.0.weight",
        "location_encoder.LocEnc3.head.0.bias",
    }
    assert moved[1] == set(trained) - {"logit_scale"}
    frozen = geoembed.load_encoder("geoclip.v1", device="cpu").network.state_dict()
    now = model.location_encoder.state_dict()
    assert all(torch.equal(now[key], tensor) for key, tensor in frozen.items())


@pytest.mark.parametrize("projection", ["equal-earth", "plate-carree", "sphere"])
@pytest.mark.parametrize("encoding", ["rff", "none"])
def test_places_are_encoded_by_the_architecture_that_is_set(places, projection, encoding):
    model = build_model(settings(SMALL | {"projection": projection, "encoding": encoding}))
    got = model.encode_places(places)
    # The network written out, in float64.
    points = model.architecture.project(places)
    expected = np.zeros((len(places), 10))
    for capsule in model.location_encoder.capsules:
        values = points
        if encoding == "rff":
            phases = 2 * np.pi * points @ capsule.capsule[0].b.double().numpy().T
            values = np.hstack([np.cos(phases), np.sin(phases)])
        for layer in (*capsule.capsule[1::2], capsule.head[0]):
            weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
            values = values @ weight.T + bias
            values = values if layer is capsule.head[0] else np.maximum(values, 0)
        expected += values
    np.testing.assert_allclose(got.detach().numpy(), expected, atol=2e-6)
    double = copy.deepcopy(model).double().encode_places(places)
    assert double.dtype == torch.float64
    np.testing.assert_allclose(double.detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_phases_exact(places, released, dtype):
    model = on_features(RELEASED, init="geoclip.v1")
    features = torch.randn(50, 768, generator=torch.Generator().manual_seed(0))
    exact = model.encode_views(features)
    with torch.autocast("cpu", dtype), torch.no_grad():
        got, pictures = model.encode_places(places), model.encode_views(features)
    assert got.dtype == pictures.dtype == torch.float32
    assert not np.array_equal(got.numpy(), released)  # it was on
    assert cosines(got, released).mean() >= 0.9995
    assert cosines(pictures, exact.detach()).mean() >= 0.9995


@pytest.mark.parametrize(
    ("location", "image", "expected"),
    [
        ("all", "all", {"location_encoder", "tower", "mlp", "logit_scale"}),
        ("none", "all", {"tower", "mlp", "logit_scale"}),
        ("all", "head", {"location_encoder", "mlp", "logit_scale"}),
        ("none", "none", {"logit_scale"}),
    ],
)
def test_what_is_trained(location, image, expected):
    model = build_model(settings(SMALL | {"train": location}, CONVNET | {"train": image}))
    parts = {name.replace("image_encoder.", "").split(".")[0] for name, _ in model.trained()}
    assert parts == expected
    counts = model.describe()
    total = sum(p.numel() for _, p in model.trained())
    assert sum(part["trained"] for part in counts.values()) == total
    everything = sum(t.numel() for t in model.state_dict().values())
    assert sum(sum(part.values()) for part in counts.values()) == everything
    assert counts["location_encoder"]["frozen"] >= 2 * 8 * 2  # the frequencies


def test_the_temperature_is_trained_by_choice():
    fixed = settings(objective={"temperature": 0.05, "learn_temperature": False})
    model = build_model(fixed)
    assert "logit_scale" not in dict(model.trained())
    assert model.logit_scale.exp().item() == pytest.approx(20.0)
    assert "logit_scale" in dict(build_model(settings()).trained())


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    one = build_model(settings(seed=5)).state_dict()
    before = torch.get_rng_state()
    two = build_model(settings(seed=5)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[key], two[key]) for key in one)
    other = build_model(settings(seed=6)).state_dict()
    assert not any(torch.equal(one[k], other[k]) for k in one if k.endswith("capsule.1.weight"))
    # Runs that differ on one side start from the same weights on the other.
    wider = build_model(settings(SMALL | {"hidden": [20]}, seed=5)).state_dict()
    assert all(torch.equal(one[k], wider[k]) for k in one if k.startswith("image_encoder"))
    first = one["location_encoder.LocEnc0.capsule.1.weight"].flatten()[:64]
    assert not torch.equal(first, one["image_encoder.mlp.0.weight"].flatten()[:64])


def test_pixels_features_and_shapes_that_do_not_fit():
    model = build_model(settings())
    assert model.encode_views(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
    assert (model.feature_dimension, model.preprocessing.size) == (32, 16)
    for shape in ((2, 3, 15, 16), (2, 32), (2, 1, 16, 16)):
        with pytest.raises(OptionError, match=r"expected \(n, 3, 16, 16\)"):
            model.encode_views(torch.zeros(shape))
    cached = on_features()
    assert cached.encode_views(torch.zeros(2, 768)).shape == (2, 10)
    assert cached.preprocessing == image_encoder_spec("geoclip.v1").preprocessing
    with pytest.raises(OptionError, match=r"expected \(n, 768\)"):
        cached.encode_views(torch.zeros(2, 767))
    with pytest.raises(OptionError, match=r"built without its backbone: give .*\(n, 768\)"):
        cached.encode_views(torch.zeros(2, 3, 224, 224))


def test_gradients_reach_all_that_is_trained(places):
    model = build_model(settings())
    pixels = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    a, b = model.encode_views(pixels), model.encode_places(places[:8])
    logits = (
        model.logit_scale.exp()
        * torch.nn.functional.normalize(a)
        @ (torch.nn.functional.normalize(b).T)
    )
    torch.nn.functional.cross_entropy(logits, torch.arange(8)).backward()
    still = [name for name, p in model.trained() if p.grad is None or not p.grad.any()]
    assert still == []


def test_features_of_other_types_are_taken_as_they_are():
    model = on_features(dimension=4)
    half = torch.tensor([[1.0, 0.5, -2.0, 0.25]], dtype=torch.float16)
    assert torch.equal(model.encode_views(half), model.encode_views(half.float()))


# Starting from a model folder.


def write(model, folder):
    folder.mkdir()
    config = {
        "model_type": "geoembed-geolocation",
        "format_version": 1,
        "name": "small.v1",
        "location": model.architecture.to_dict(),
        "image": model.image_side().config(),
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(
        {k: t.detach().contiguous() for k, t in model.state_dict().items()},
        folder / "model.safetensors",
    )
    return str(folder)


def test_a_folder_of_a_trained_pair_is_started_from(places, tmp_path):
    location = SMALL | {"projection": "sphere"}
    model = build_model(settings(location, seed=1, objective={"temperature": 0.03}))
    folder = write(model, tmp_path / "pair")
    image = {"tower": "convnet", "init": folder, "train": "head"}
    again = build_model(settings({"init": folder, "add_sigmas": [64.0]}, image, seed=2))
    assert again.architecture == replace(model.architecture, sigmas=(1.0, 16.0, 64.0))
    assert again.preprocessing == model.preprocessing
    pixels = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(again.encode_places(places), model.encode_places(places))
        torch.testing.assert_close(again.encode_views(pixels), model.encode_views(pixels))
    assert again.logit_scale.item() == pytest.approx(model.logit_scale.item(), abs=1e-7)
    assert not any(".tower." in name for name, _ in again.trained())
    assert any(".mlp." in name for name, _ in again.trained())


def test_a_temperature_that_would_not_hold_is_refused(tmp_path):
    folder = write(build_model(settings(objective={"temperature": 0.03})), tmp_path / "pair")
    image = CONVNET | {"init": folder}
    told = r"objective.temperature = 0.05, and image.init = '.*pair' was trained to 0.03, .*leave"
    with pytest.raises(OptionError, match=told):
        build_model(settings(image=image, objective={"temperature": 0.05}))
    for temperature in (0.03, 0.0302, 0.07):  # that of the folder, rounded, and the default
        again = build_model(settings(image=image, objective={"temperature": temperature}))
        assert again.image_side().scale == pytest.approx(1 / 0.03)
    with pytest.raises(OptionError, match=r"temperature = 0.0304, and .*set it to 0.03\."):
        build_model(settings(image=image, objective={"temperature": 0.0304}))


def test_sides_that_do_not_fit_say_what_to_set(tmp_path):
    folder = write(build_model(settings()), tmp_path / "pair")
    with pytest.raises(OptionError, match=r"image.init = .* has the tower 'convnet', image.tower"):
        on_features(init=folder)
    with pytest.raises(OptionError, match=r"has the tower 'backbone', image.tower is 'convnet'"):
        build_model(settings(image=CONVNET | {"init": "geoclip.v1"}))
    with pytest.raises(OptionError, match=r"gives vectors of 10 values, the location encoder of 9"):
        build_model(settings(SMALL | {"output": 9}, CONVNET | {"init": folder}))
    with pytest.raises(OptionError, match=r"takes features of 768 values, .* 'geoclip.v1' have 5"):
        on_features(RELEASED, dimension=5, init="geoclip.v1")
    with pytest.raises(OptionError, match=r"backbone=False\) needs feature_dimension"):
        build_model(settings(image={}), backbone=False)


def test_encoders_that_cannot_be_started_from(tmp_path):
    known = location_encoder_specs().values()
    baseline = next(spec.name for spec in known if spec.weights is None)
    with pytest.raises(OptionError, match=rf"location.init = '{baseline}' is a .*: only networks"):
        build_model(settings({"init": baseline}))
    with pytest.raises(UnknownNameError, match="'geoclip.v9'"):
        build_model(settings({"init": "geoclip.v9"}))
    with pytest.raises(UnknownNameError, match="'geoclip.v9'"):
        on_features(init="geoclip.v9")
    with pytest.raises(WeightsError, match="no-such"):
        build_model(settings({"init": str(tmp_path / "no-such")}))
    with pytest.raises(WeightsError, match="has no config.json"):
        on_features(init=str(tmp_path))


# On a frozen backbone.


class Plugin:
    __name__ = "geoembed-tiny"

    @hookimpl
    def register_image_encoders(self, register):
        register(tiny_clip_spec())
        register(replace(tiny_clip_spec(), name="tiny.bare", weights=None, dimension=768))


@pytest.fixture
def tiny(tmp_path):
    with isolated_plugins(Plugin()):
        yield {"backbone": "geoclip.tiny", "weights": str(write_tiny_clip(tmp_path / "clip"))}


def test_pixels_and_cached_features_of_a_backbone_give_the_same(tiny):
    model = build_model(settings(image=tiny | {"head": [12]}))
    encoder = load_image_encoder("geoclip.tiny", weights=tiny["weights"], device="cpu")
    pixels = torch.randn(5, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    features = tower_of(encoder).features(pixels)
    got = model.encode_views(pixels)
    assert torch.equal(got, model.encode_views(features))
    assert model.preprocessing == encoder.preprocessing
    assert model.backbone_sha256 == tower_of(encoder).sha256
    assert model.describe()["backbone"]["frozen"] == tower_of(encoder).parameters
    got.sum().backward()
    assert model.image_encoder.mlp[0].weight.grad.any()
    assert not any(p.requires_grad for p in encoder.network.parameters())
    assert copy.deepcopy(model).backbone is model.backbone
    cached = build_model(
        settings(image=tiny | {"head": [12]}),
        backbone=False,
        feature_dimension=768,
        backbone_sha256=model.backbone_sha256,
    )
    assert cached.image_side().config() == model.image_side().config()
    assert torch.equal(cached.encode_views(features), got)


def test_layers_trained_on_another_tower_are_not_started_from(tiny, tmp_path):
    model = build_model(settings(image=tiny | {"head": [12]}))
    folder = write(model, tmp_path / "pair")
    again = build_model(settings(image=tiny | {"init": folder}, seed=9))
    features = torch.randn(3, 768)
    assert torch.equal(again.encode_views(features), model.encode_views(features))
    other = tiny | {"init": folder, "weights": str(write_tiny_clip(tmp_path / "other", seed=1))}
    with pytest.raises(OptionError, match=r"was trained on the tower of 'geoclip.tiny' with the"):
        build_model(settings(image=other))


def test_the_backbone_computes_in_the_precision_of_the_run(tiny):
    half = build_model(settings(image=tiny, loop={"precision": "bfloat16"}))
    assert half.backbone.dtype == torch.bfloat16
    assert half.logit_scale.dtype == torch.float32
    pixels = torch.randn(2, 3, 224, 224)
    assert half.encode_views(pixels).dtype == torch.float32


def test_a_tower_without_a_head_gets_one(tiny):
    model = build_model(settings(image=tiny | {"backbone": "tiny.bare", "head": [7]}))
    assert model.image_encoder.widths == (768, 7, 10)
    with pytest.raises(OptionError, match="'tiny.bare' has no trained layers on top of its tower"):
        on_features(init="tiny.bare")
