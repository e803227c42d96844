"""Image encoders of trained model folders: both sides alike, pictures, pickles, damaged folders."""

import copy
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import geoembed
from geoembed.errors import (
    MissingWeightsError,
    OptionError,
    UnknownNameError,
    WeightsError,
)
from geoembed.extending import hookimpl
from geoembed.extending.specs import WeightsFile, WeightsSpec
from geoembed.images import load_image_encoder
from geoembed.images.sides import ImageSide, image_side_of, read_image_side
from geoembed.images.towers import tower_of
from geoembed.images.trained import TrainedImageEncoder
from geoembed.testing import (
    check_image_encoder,
    isolated_plugins,
    tiny_clip_spec,
    write_tiny_clip,
)
from geoembed.training.model import build_model
from geoembed.training.settings import TrainingSettings
from geoembed.weights import digest_file, read_model_folder

SMALL = {"sigmas": [1.0, 16.0], "frequencies": 8, "hidden": [16, 12], "output": 10}


def settings(**image):
    return TrainingSettings.model_validate(
        {"data": {"kind": "bluemarble"}, "location": SMALL, "image": image, "seed": 3}
    )


def write(model, folder, *, half=False, **changes):
    """Write a model folder as the contract says, `changes` in its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "geoembed-geolocation",
        "format_version": 1,
        "name": "small.v1",
        "summary": "A small pair",
        "licence": "CC0",
        "location": model.architecture.to_dict(),
        "image": model.image_side().config(),
    }
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    tensors = {
        key: tensor.half() if half and not key.endswith((".b", "logit_scale")) else tensor
        for key, tensor in model.state_dict().items()
    }
    save_file({k: t.contiguous() for k, t in tensors.items()}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def model():
    return build_model(settings(tower="convnet", size=16, widths=[8, 16], head=[12]))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return write(model, tmp_path_factory.mktemp("trained") / "My Pair.v2")


@pytest.fixture(scope="module")
def encoder(folder):
    return load_image_encoder(folder, device="cpu")


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def broken(folder, tmp_path):
    """A copy of the folder, and a way to change its configuration or tensors."""
    copied = Path(shutil.copytree(folder, tmp_path / "broken"))

    def change(image=None, tensors=None, **config):
        path = copied / "config.json"
        content = json.loads(path.read_text(encoding="utf-8")) | config
        if image is not None:
            content["image"] |= image
        path.write_text(json.dumps(content), encoding="utf-8")
        if tensors is not None:
            got = load_file(copied / "model.safetensors")
            tensors(got)
            save_file(got, copied / "model.safetensors")
        return copied

    return change


def test_a_folder_gives_the_vectors_of_the_model_that_was_written(model, encoder, pixels):
    with torch.no_grad():
        expected = model.encode_views(pixels).numpy()
    np.testing.assert_allclose(encoder.encode_pixels(pixels), expected, rtol=1e-5, atol=1e-6)
    assert encoder.dimension == 10
    assert encoder.logit_scale == pytest.approx(1 / 0.07)
    assert encoder.preprocessing == model.preprocessing
    assert encoder.preprocessing.size == 16
    assert (encoder.spec.licence, encoder.spec.summary) == ("CC0", "A small pair")


def test_it_keeps_the_contract_of_image_encoders(encoder):
    check_image_encoder(encoder)


def test_both_sides_of_a_folder_know_each_other(folder, encoder):
    places = geoembed.load_encoder(folder, device="cpu")
    assert encoder.location_encoder == encoder.name == places.name
    assert encoder.location_sha256 == places.weights_sha256
    assert places.dimension == encoder.dimension


def test_a_path_as_text_and_from_elsewhere(folder, encoder, pixels, monkeypatch, tmp_path):
    monkeypatch.chdir(folder.parent)
    got = load_image_encoder(folder.name, device="cpu")
    assert got.weights_sha256 == encoder.weights_sha256
    sent = pickle.dumps(got)
    monkeypatch.chdir(tmp_path)
    back = pickle.loads(sent)
    assert isinstance(back, TrainedImageEncoder)
    assert back.options == got.options
    np.testing.assert_array_equal(back.encode_pixels(pixels), encoder.encode_pixels(pixels))
    assert copy.deepcopy(got) is got
    assert len(sent) < 2000


def test_half_precision_in_the_file_is_float32_in_use(model, encoder, pixels, tmp_path):
    half = load_image_encoder(write(model, tmp_path / "half", half=True), device="cpu")
    got, expected = half.encode_pixels(pixels), encoder.encode_pixels(pixels)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0.02, atol=2e-3)
    assert half.weights_sha256 != encoder.weights_sha256
    assert half.location_sha256 == geoembed.load_encoder(tmp_path / "half").weights_sha256


def test_the_tower_in_half_precision_is_near_the_exact_one(folder, encoder, pixels):
    half = load_image_encoder(folder, device="cpu", precision="bfloat16")
    a, b = half.encode_pixels(pixels), encoder.encode_pixels(pixels)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert 0.995 < cosine.min() < 1 - 1e-9
    assert half.weights_sha256 == encoder.weights_sha256


def test_its_tower_is_the_trained_network(model, encoder, pixels):
    tower = tower_of(encoder)
    assert tower.dimension == model.image_encoder.tower.features == 32
    with torch.no_grad():
        expected = model.image_encoder.tower(pixels)
    torch.testing.assert_close(tower.features(pixels), expected, rtol=1e-5, atol=1e-6)
    assert tower.parameters == sum(p.numel() for p in model.image_encoder.tower.parameters())
    assert tower.sha256 not in ("", encoder.weights_sha256)


def test_it_reads_no_texts_and_takes_no_options_of_a_large_tower(folder, encoder, tmp_path):
    with pytest.raises(OptionError, match="'local.my-pair-v2' reads no texts"):
        encoder.encode_text(["a fjord"])
    with pytest.raises(OptionError, match="carries its own tower"):
        load_image_encoder(folder, weights=tmp_path)
    with pytest.raises(OptionError, match="compile=True.*carries its own tower"):
        load_image_encoder(folder, compile=True)
    with pytest.raises(OptionError, match="is loaded already and takes no further options: device"):
        load_image_encoder(encoder, device="cpu")


def test_unknown_folders_and_folders_of_other_things(folder, tmp_path):
    with pytest.raises(WeightsError, match=r"There is no folder .*no-such"):
        load_image_encoder(tmp_path / "no-such")
    with pytest.raises(WeightsError, match=r"There is no folder .*no-such"):
        load_image_encoder("./no-such")
    with pytest.raises(UnknownNameError, match="'no-such'"):
        load_image_encoder("no-such")
    with pytest.raises(WeightsError, match=r"has no config.json"):
        load_image_encoder(tmp_path)
    with pytest.raises(WeightsError, match=r"There is no folder .*model.safetensors"):
        load_image_encoder(folder / "model.safetensors")


def test_a_location_encoder_alone_reads_no_pictures(broken):
    path = broken(model_type="geoembed-location-encoder", image={})
    with pytest.raises(WeightsError, match="is a location encoder alone .*reads no pictures"):
        load_image_encoder(path)
    assert geoembed.load_encoder(path).dimension == 10


@pytest.mark.parametrize(
    ("image", "match"),
    [
        ({"tower": "vit"}, r"image.tower 'vit': 'convnet' or 'backbone'"),
        ({"tower": None}, r"image.tower = None, expected a text"),
        ({"features": 33}, r"contradicts itself: .* gives 32 features .* declared are 33"),
        ({"features": "32"}, r"image.features = '32', expected a whole number of at least 1"),
        ({"output": 0}, r"image.output = 0, expected a whole number"),
        ({"head": [12.5]}, r"image.head = \[12.5\], expected a list of whole numbers"),
        ({"widths": []}, r"describes no image tower: widths=\(\)"),
        ({"size": 4}, r"describes no image tower: size=4 is too small"),
        ({"size": 24}, r"contradicts itself: .* pictures of 24 pixels, .* 16 pixels"),
        ({"preprocessing": [1]}, r"image.preprocessing = \[1\], expected a table"),
        ({"preprocessing": {"size": 16}}, r"image.preprocessing cannot be used: .*'mean'"),
        ({"preprocessing": {"size": 16, "mean": [0] * 3, "std": [0] * 3}}, r"so not 0"),
        ({"widths": [8, 8], "features": 16}, r"not the image side that is described: .*tower"),
        ({"head": [13]}, r"not the image side that is described: .*mlp.0.weight"),
        ({"head": [12, 12]}, r"not the image side that is described: .*mlp.4.weight"),
        ({"output": 11}, r"not the image side that is described: .*mlp.2.weight"),
    ],
)
def test_a_description_that_does_not_fit_names_the_field(broken, image, match):
    with pytest.raises(WeightsError, match=match):
        load_image_encoder(broken(image=image))


def test_a_description_without_an_image_side(broken):
    path = broken()
    content = json.loads((path / "config.json").read_text(encoding="utf-8"))
    for value, shown in ((None, "None"), ("convnet", "'convnet'")):
        (path / "config.json").write_text(json.dumps({**content, "image": value}))
        with pytest.raises(WeightsError, match=f"no section 'image', it holds {shown}"):
            load_image_encoder(path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.pop("image_encoder.mlp.0.bias"), r"described: .*[Mm]issing.*mlp.0.bias"),
        (lambda t: t.update({"image_encoder.extra": torch.zeros(1)}), r"Unexpected.*extra"),
        (lambda t: t["image_encoder.mlp.0.bias"].fill_(np.nan), r"'mlp.0.bias' holds values that"),
        (lambda t: t.update({"image_encoder.mlp.0.bias": torch.zeros(12, dtype=torch.int32)}),
         r"'mlp.0.bias' .*int32"),
        (lambda t: t.pop("logit_scale"), r"has no temperature: logit_scale"),
        (lambda t: t["logit_scale"].fill_(np.nan), r"has no temperature: logit_scale"),
        (lambda t: t.update({"logit_scale": torch.zeros(2)}), r"temperature .* is not one number"),
    ],
)  # fmt: skip
def test_damaged_tensors_are_named(broken, change, match):
    with pytest.raises(WeightsError, match=match):
        load_image_encoder(broken(tensors=change))


def test_a_torn_file_of_tensors(broken):
    path = broken() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"model.safetensors cannot be read as tensors"):
        load_image_encoder(path.parent)


# With a frozen backbone.


class Plugin:
    __name__ = "geoembed-tiny"

    @hookimpl
    def register_image_encoders(self, register):
        register(tiny_clip_spec())


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def tiny():
    with isolated_plugins(Plugin()):
        yield


@pytest.fixture
def on_clip(tiny, clip, tmp_path):
    """A model on the tiny CLIP, and the folder that it is written to."""
    model = build_model(
        settings(tower="backbone", backbone="geoclip.tiny", weights=str(clip), head=[12])
    )
    return model, write(model, tmp_path / "on-clip")


def test_a_folder_on_a_backbone_loads_it_and_reads_texts_with_it(on_clip, clip):
    model, folder = on_clip
    encoder = load_image_encoder(folder, weights=clip, device="cpu")
    assert not any("CLIP" in key or "tower" in key for key in model.state_dict())
    pixels = torch.randn(3, 3, 224, 224)
    with torch.no_grad():
        expected = model.encode_views(pixels).numpy()
        texts = model.image_encoder(model.backbone.text_features(["a fjord"])).numpy()
    np.testing.assert_allclose(encoder.encode_pixels(pixels), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_text(["a fjord"]), texts, rtol=1e-5, atol=1e-6)
    assert encoder.preprocessing == tiny_clip_spec().preprocessing
    assert encoder.location_sha256 == geoembed.load_encoder(folder).weights_sha256
    assert tower_of(encoder).sha256 == model.backbone_sha256
    check_image_encoder(encoder)
    back = pickle.loads(pickle.dumps(encoder))
    assert back.weights_sha256 == encoder.weights_sha256


def test_the_digest_holds_the_backbone_too(on_clip, clip, tmp_path):
    _, folder = on_clip
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["image"]["backbone_sha256"] = ""
    path.write_text(json.dumps(content), encoding="utf-8")
    one = load_image_encoder(folder, weights=clip, device="cpu")
    other = load_image_encoder(folder, weights=write_tiny_clip(tmp_path / "clip", seed=1))
    assert one.weights_sha256 != other.weights_sha256


def test_another_backbone_than_the_one_trained_on_is_refused(on_clip, tmp_path):
    _, folder = on_clip
    other = write_tiny_clip(tmp_path / "other", seed=1)
    with pytest.raises(WeightsError, match=r"trained on other weights .* 'geoclip.tiny': .*PATH"):
        load_image_encoder(folder, weights=other, device="cpu")


def test_a_backbone_that_is_not_here(on_clip, clip):
    _, folder = on_clip
    with isolated_plugins(), pytest.raises(WeightsError, match="'geoclip.tiny', which is not reg"):
        load_image_encoder(folder, weights=clip)
    with pytest.raises((MissingWeightsError, OptionError), match="weights="):
        load_image_encoder(folder)


def test_a_backbone_with_features_of_another_length(on_clip, clip, tmp_path, monkeypatch):
    _, folder = on_clip
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["image"] |= {"features": 5, "head": []}
    path.write_text(json.dumps(content), encoding="utf-8")
    tensors = load_file(folder / "model.safetensors")
    kept = {k: t for k, t in tensors.items() if "mlp" not in k}
    kept |= {
        "image_encoder.mlp.0.weight": torch.zeros(10, 5),
        "image_encoder.mlp.0.bias": torch.zeros(10),
    }
    save_file(kept, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"take features of 5 values, .* gives 768"):
        load_image_encoder(folder, weights=clip)


# Registered, and as the package geoclip publishes them.


def weights_spec(folder):
    files = tuple(
        WeightsFile(
            role=role,
            path=name,
            sha256=digest_file(folder / name),
            size=(folder / name).stat().st_size,
            tensors_sha256=None,
        )
        for role, name in (("config", "config.json"), ("model", "model.safetensors"))
    )
    return WeightsSpec(
        name="small.v1",
        distribution="geoembed",
        version="0",
        files=files,
        licence="CC0",
        paper="",
        training_data="",
    )


def test_a_registered_folder_is_checked_against_its_spec(folder, encoder, pixels, monkeypatch):
    spec = replace(
        encoder.spec, name="small.v1", location_encoder="small.v1", weights=weights_spec(folder)
    )
    monkeypatch.setattr(
        "geoembed.weights.store.find",
        lambda spec: SimpleNamespace(
            kind="package", files={file.role: folder / file.path for file in spec.files}
        ),
    )
    got = load_image_encoder(spec, device="cpu")
    np.testing.assert_array_equal(got.encode_pixels(pixels), encoder.encode_pixels(pixels))
    assert (got.name, got.location_encoder) == ("small.v1", "small.v1")
    back = pickle.loads(pickle.dumps(got))
    assert back.spec == spec
    with pytest.raises(WeightsError, match="gives vectors of 10 values .* spec says 11"):
        load_image_encoder(replace(spec, dimension=11))
    with pytest.raises(WeightsError, match="declares no weights to load"):
        load_image_encoder(replace(spec, weights=None))
    damaged = (folder / "model.safetensors").read_bytes()
    try:
        (folder / "model.safetensors").write_bytes(damaged[:-4] + b"\0\0\0\1")
        with pytest.raises(WeightsError, match="is not the one 'small.v1' was published with"):
            load_image_encoder(spec)
    finally:
        (folder / "model.safetensors").write_bytes(damaged)


def test_what_the_package_geoclip_publishes_is_read(tmp_path):
    published = image_side_of("geoclip.v1")
    tensors = {f"image_encoder.{k}": t for k, t in published.network.state_dict().items()}
    tensors["logit_scale"] = torch.tensor(3.0)
    save_file(tensors, tmp_path / "model.safetensors")
    config = {
        "model_type": "geoclip-geolocation",
        "format_version": 1,
        "sigma": [1, 16, 256],
        "gallery_file": "gallery.csv",
        "backbone": {"repo_id": "openai/clip-vit-large-patch14", "revision": "x"},
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    side = read_image_side(read_model_folder(tmp_path))
    assert side.backbone == "geoclip.v1"
    assert side.scale == pytest.approx(np.exp(3.0))
    for key, tensor in side.network.state_dict().items():
        assert torch.equal(tensor, published.network.state_dict()[key])
    config["backbone"]["repo_id"] = "someone/other-clip"
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(WeightsError, match="on the tower 'someone/other-clip'; this version knows"):
        read_image_side(read_model_folder(tmp_path))


def test_a_side_says_of_itself_what_a_folder_needs(folder, model):
    side = read_image_side(read_model_folder(folder))
    assert isinstance(side, ImageSide)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert side.config() == config["image"]
    assert config["image"]["features"] == 32
    assert config["image"]["head"] == [12]
    assert side.scale == pytest.approx(model.logit_scale.exp().item())
