"""Files that hold a CLIP: every format gives the same tower, everything else is refused."""

import json
import pickle
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from geoembed.errors import OptionError, WeightsError
from geoembed.extending.image_specs import Preprocessing
from geoembed.images import load_image_encoder
from geoembed.images.backbone import ClipTensors, clip_bytes
from geoembed.images.checkpoints import open_checkpoint
from geoembed.images.declared import compare_preprocessing, from_hugging_face, from_open_clip
from geoembed.images.hugging_face import hugging_face_names
from geoembed.images.shapes import architecture_shape, shape_from_hugging_face, shape_from_open_clip
from geoembed.testing import tiny_clip_spec, write_tiny_clip

SPEC = tiny_clip_spec()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def tensors(folder):
    return load_file(folder / "open_clip_model.safetensors")


@pytest.fixture(scope="module")
def config(folder):
    return json.loads((folder / "open_clip_config.json").read_text("utf-8"))


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the folder that a test may spoil; big files are linked."""
    target = tmp_path / "copy"
    target.mkdir()
    (target / "open_clip_config.json").write_bytes((folder / "open_clip_config.json").read_bytes())
    (target / "open_clip_model.safetensors").hardlink_to(folder / "open_clip_model.safetensors")
    return target


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def expected(folder, pixels):
    return load_image_encoder(SPEC, weights=folder, device="cpu").encode_pixels(pixels)


@pytest.fixture(scope="module")
def architecture(config, tmp_path_factory):
    """The tiny CLIP as one of open_clip's named architectures: bare files need one."""
    path = tmp_path_factory.mktemp("configs") / "tiny-for-tests.json"
    path.write_text(json.dumps(config["model_cfg"]), "utf-8")
    open_clip.add_model_config(path)
    return "tiny-for-tests"


@pytest.fixture(scope="module")
def hugging_face(tensors, tmp_path_factory):
    """The same weights in Hugging Face's layout, turned around by hand."""
    target = tmp_path_factory.mktemp("hf")
    shape = open_checkpoint_shape(tensors)
    found = {}
    for ours, theirs in hugging_face_names(shape).items():
        tensor = tensors[ours]
        if ours in {"visual.proj", "text_projection"}:
            tensor = tensor.t()
        parts = tensor.chunk(len(theirs)) if len(theirs) > 1 else [tensor]
        found |= {name: part.contiguous() for name, part in zip(theirs, parts, strict=True)}
    save_file(found, target / "model.safetensors")
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2}
    text = {**vision, "num_attention_heads": 2, "eos_token_id": 2}
    content = {
        "model_type": "clip",
        "projection_dim": 768,
        "text_config": text,
        "vision_config": {**vision, "num_attention_heads": 2, "patch_size": 32},
    }
    (target / "config.json").write_text(json.dumps(content), "utf-8")
    # As openai/clip-vit-large-patch14 spells it.
    preprocessing = {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "resample": 3,
        "size": 224,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    (target / "preprocessor_config.json").write_text(json.dumps(preprocessing), "utf-8")
    return target


def open_checkpoint_shape(tensors):
    layers = len([name for name in tensors if name.endswith("visual.ln_post.weight")])
    assert layers == 1
    return shape_from_open_clip(
        {
            "embed_dim": 768,
            "quick_gelu": True,
            "vision_cfg": {"layers": 2, "width": 128, "patch_size": 32},
            "text_cfg": {"width": 128, "heads": 2, "layers": 2},
        },
        "a test",
    )


@pytest.fixture
def hf_copy(hugging_face, tmp_path):
    target = tmp_path / "hf"
    target.mkdir()
    for file in hugging_face.iterdir():
        if file.suffix == ".json":
            (target / file.name).write_bytes(file.read_bytes())
        else:
            (target / file.name).hardlink_to(file)
    return target


def change(path, **changes):
    """Change values in a JSON file; a dot in a name goes down one level (written ``__``)."""
    content = json.loads(path.read_text("utf-8"))
    for name, value in changes.items():
        *parents, key = name.split("__")
        part = content
        for parent in parents:
            part = part[parent]
        part[key] = value
    path.write_text(json.dumps(content), "utf-8")


def encode(weights, pixels, spec=SPEC):
    return load_image_encoder(spec, weights=weights, device="cpu").encode_pixels(pixels)


# Formats that hold the same weights.


def _module(tensors):
    """A module whose state dict has these names, for an archive of TorchScript."""
    root = torch.nn.Module()
    for name, tensor in tensors.items():
        *parents, key = name.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, torch.nn.Module())
            module = getattr(module, parent)
        module.register_parameter(key, torch.nn.Parameter(tensor, requires_grad=False))
    for key, value in (("input_resolution", 224), ("context_length", 77), ("vocab_size", 49408)):
        root.register_buffer(key, torch.tensor(value))
    return root


def _write_archive(tensors, path):
    torch.jit.script(_module(tensors)).save(str(path))


WRITERS = {
    "clip.safetensors": save_file,
    "clip.pt": torch.save,
    "legacy.pt": lambda t, path: torch.save(t, path, _use_new_zipfile_serialization=False),
    "training.pt": lambda t, path: torch.save(
        {"epoch": 3, "name": "run", "state_dict": {f"module.{k}": v for k, v in t.items()}}, path
    ),
    "archive.pt": _write_archive,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.filterwarnings("ignore:`torch.jit.*deprecated")
def test_files_of_every_format_give_the_same_vectors(
    name, tensors, architecture, pixels, expected, tmp_path
):
    path = tmp_path / name
    WRITERS[name](tensors, path)
    spec = replace(SPEC, architecture=architecture)
    np.testing.assert_array_equal(encode(path, pixels, spec), expected)


def test_half_precision_files_are_computed_in_float32(tensors, architecture, pixels, tmp_path):
    # OpenAI publishes float16.
    half = {name: tensor.half() for name, tensor in tensors.items()}
    save_file(half, tmp_path / "half.safetensors")
    save_file({name: t.float() for name, t in half.items()}, tmp_path / "full.safetensors")
    spec = replace(SPEC, architecture=architecture)
    one, other = (
        load_image_encoder(spec, weights=tmp_path / name, device="cpu")
        for name in ("half.safetensors", "full.safetensors")
    )
    np.testing.assert_array_equal(one.encode_pixels(pixels), other.encode_pixels(pixels))
    assert one.weights_sha256 == other.weights_sha256


def test_hugging_face_and_open_clip_layouts_are_equal(folder, hugging_face, pixels, expected):
    ours = load_image_encoder(SPEC, weights=folder, device="cpu")
    theirs = load_image_encoder(SPEC, weights=hugging_face, device="cpu")
    np.testing.assert_array_equal(theirs.encode_pixels(pixels), expected)
    texts = ["a fjord", "a desert road"]
    np.testing.assert_array_equal(theirs.encode_text(texts), ours.encode_text(texts))
    assert theirs.weights_sha256 == ours.weights_sha256


def test_shards_and_pickles_of_hugging_face(hf_copy, pixels, expected):
    whole = load_file(hf_copy / "model.safetensors")
    (hf_copy / "model.safetensors").unlink()
    torch.save(whole, hf_copy / "pytorch_model.bin")
    np.testing.assert_array_equal(encode(hf_copy, pixels), expected)
    (hf_copy / "pytorch_model.bin").unlink()
    names = sorted(whole)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: whole[name] for name in part}, hf_copy / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (hf_copy / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    np.testing.assert_array_equal(encode(hf_copy, pixels), expected)
    (hf_copy / "b.safetensors").unlink()
    with pytest.raises(WeightsError, match="names the shard 'b.safetensors', which is not there"):
        encode(hf_copy, pixels)
    index["weight_map"][names[0]] = "../a.safetensors"
    (hf_copy / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(WeightsError, match="not a file of its own folder"):
        encode(hf_copy, pixels)


def test_saved_positions_of_older_releases_are_ignored(hf_copy, pixels, expected):
    whole = load_file(hf_copy / "model.safetensors")
    (hf_copy / "model.safetensors").unlink()
    whole["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    whole["vision_model.embeddings.position_ids"] = torch.arange(50)[None]
    save_file(whole, hf_copy / "model.safetensors")
    np.testing.assert_array_equal(encode(hf_copy, pixels), expected)


def test_the_file_of_a_folder_stands_for_the_folder(hugging_face, pixels, expected):
    np.testing.assert_array_equal(encode(hugging_face / "model.safetensors", pixels), expected)


def test_only_the_image_tower_is_read_for_pictures(copy, pixels, monkeypatch):
    read = []
    checkpoint = open_checkpoint(copy)
    plain = checkpoint.read
    monkeypatch.setattr(
        "geoembed.images.geoclip.open_checkpoint",
        lambda path: replace(checkpoint, read=lambda name: (read.append(name), plain(name))[1]),
    )
    encoder = load_image_encoder(SPEC, weights=copy, device="cpu")
    encoder.encode_pixels(pixels)
    assert read
    assert all(name.startswith("visual.") for name in read)
    encoder.encode_text(["a fjord"])
    assert "token_embedding.weight" in read


# What does not fit.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_config__hidden_act": "gelu"}, "sets text_config.hidden_act to 'quick_gelu'"),
        ({"vision_config__layer_norm_eps": 1e-6}, "layer_norm_eps to 1e-06, expected 1e-05"),
        ({"text_config__eos_token_id": 3}, "eos_token_id to 3, expected 2 or 49407"),
        ({"model_type": "siglip"}, "model_type 'siglip', expected 'clip'"),
        ({"vision_config__image_size": 336}, "image size 336, expected 224"),
        ({"vision_config__hidden_size": 256}, "does not hold the CLIP that is expected"),
        ({"vision_config__num_hidden_layers": 3}, "layers.2.* is missing"),
        ({"vision_config__num_hidden_layers": 1}, "layers.1.* is left over"),
        ({"projection_dim": 512}, "visual_projection.weight is 768 x 128, expected 512 x 128"),
        ({"vision_config": "large"}, "sets vision_config to str, expected a table"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(hf_copy, changes, message):
    change(hf_copy / "config.json", **changes)
    with pytest.raises(WeightsError, match=message):
        load_image_encoder(SPEC, weights=hf_copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 336, "crop_size": 336}, "size 336, expected 224"),
        ({"size": {"shortest_edge": 256}}, "resizes to 256 before it crops 224"),
        ({"resample": 2}, "interpolation bilinear, expected bicubic"),
        ({"image_mean": [0.5, 0.5, 0.5]}, r"mean \(0.5, 0.5, 0.5\), expected \(0.48145466"),
        ({"image_std": [0.5, 0.5]}, r"std \(0.5, 0.5\), expected"),
        ({"do_center_crop": False}, "fit squash, expected crop"),
        ({"do_normalize": False}, "sets do_normalize to False"),
        ({"rescale_factor": 1.0}, "rescales by 1.0 instead of 1/255"),
        ({"size": "large"}, "the size 'large' is not square"),
        ({"image_mean": ["red", 0, 0]}, "preprocessing that cannot be used"),
    ],
)
def test_another_preprocessing_is_an_error(hf_copy, changes, message):
    change(hf_copy / "preprocessor_config.json", **changes)
    with pytest.raises(WeightsError, match=message):
        load_image_encoder(SPEC, weights=hf_copy)


def test_the_preprocessing_of_transformers_5_is_read(hf_copy):
    old = hf_copy / "preprocessor_config.json"
    content = json.loads(old.read_text("utf-8"))
    old.unlink()
    content["size"] = {"shortest_edge": 224}
    content["crop_size"] = {"height": 224, "width": 224}
    path = hf_copy / "processor_config.json"
    path.write_text(json.dumps({"image_processor": content}), "utf-8")
    assert load_image_encoder(SPEC, weights=hf_copy).dimension == 512
    change(path, image_processor__resample=0)
    with pytest.raises(WeightsError, match="interpolation nearest, expected bicubic"):
        load_image_encoder(SPEC, weights=hf_copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preprocess_cfg__resize_mode": "squash"}, "fit squash, expected crop"),
        ({"preprocess_cfg__resize_mode": "longest"}, "fit longest, expected crop"),
        ({"preprocess_cfg__size": [224, 336]}, "is not square"),
        ({"preprocess_cfg__size": 336}, "size 336, expected 224"),
        ({"preprocess_cfg__interpolation": "random"}, "interpolation random, expected bicubic"),
        ({"model_cfg__custom_text": True}, "sets custom_text. Towers of other kinds"),
        ({"model_cfg__vision_cfg__timm_model_name": "vit"}, "sets timm_model_name"),
        ({"model_cfg__text_cfg": {"width": 64}}, "is no configuration of an open_clip CLIP"),
        ({"model_cfg": 3}, "has no table 'model_cfg'"),
    ],
)
def test_an_open_clip_configuration_that_does_not_fit_is_refused(copy, changes, message):
    change(copy / "open_clip_config.json", **changes)
    with pytest.raises(WeightsError, match=message):
        load_image_encoder(SPEC, weights=copy)


def test_activation_is_compared_with_the_architecture(copy, architecture):
    spec = replace(SPEC, architecture=architecture)
    assert load_image_encoder(spec, weights=copy).dimension == 512
    change(copy / "open_clip_config.json", model_cfg__quick_gelu=False)
    with pytest.raises(WeightsError, match="activation gelu, expected quick_gelu"):
        load_image_encoder(spec, weights=copy)


def test_another_activation_gives_other_vectors(copy, pixels, expected):
    # Which is why it is compared: nothing else would tell.
    change(copy / "open_clip_config.json", model_cfg__quick_gelu=False)
    got = encode(copy, pixels)
    assert np.abs(got - expected).max() > 1e-5


def test_the_published_encoder_takes_no_other_clip(folder, hugging_face, tensors, tmp_path):
    for path in (folder, hugging_face):
        with pytest.raises(WeightsError, match="image width 128, expected 1024"):
            load_image_encoder("geoclip.v1", weights=path)
    save_file(tensors, tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match="visual.class_embedding is 128, expected 1024"):
        load_image_encoder("geoclip.v1", weights=tmp_path / "bare.safetensors")


def test_missing_and_left_over_tensors_are_named(copy, tensors):
    path = copy / "open_clip_model.safetensors"
    path.unlink()
    save_file({name: t for name, t in tensors.items() if name != "visual.proj"}, path)
    with pytest.raises(WeightsError, match="visual.proj is missing"):
        load_image_encoder(SPEC, weights=copy)
    path.unlink()
    save_file({**tensors, "visual.extra": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="visual.extra is left over"):
        load_image_encoder(SPEC, weights=copy)


def test_a_head_for_other_features_is_refused(config, tmp_path):
    # Width 512, as ViT-B/32 has.
    small = write_tiny_clip(tmp_path / "small")
    tensors = load_file(small / "open_clip_model.safetensors")
    tensors["visual.proj"] = torch.zeros(128, 512)
    tensors["text_projection"] = torch.zeros(128, 512)
    save_file(tensors, small / "open_clip_model.safetensors")
    change(small / "open_clip_config.json", model_cfg__embed_dim=512)
    with pytest.raises(WeightsError, match="takes features of 768 values, the tower gives 512"):
        load_image_encoder(SPEC, weights=small)
    with pytest.raises(WeightsError, match="vectors of 512 values, the spec says 300"):
        load_image_encoder(replace(SPEC, weights=None, dimension=300), weights=small)
    assert load_image_encoder(replace(SPEC, weights=None, dimension=512), weights=small)


def test_bare_files_need_an_architecture(tensors, hugging_face, tmp_path):
    save_file(tensors, tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match="names no architecture: sizes and activation"):
        load_image_encoder(SPEC, weights=tmp_path / "bare.safetensors")
    target = tmp_path / "alone.safetensors"
    target.hardlink_to(hugging_face / "model.safetensors")
    with pytest.raises(WeightsError, match="in Hugging Face's layout, without the config.json"):
        load_image_encoder(SPEC, weights=target)


# What is no checkpoint.


def _lfs(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n", "utf-8")


def _cut(path, content):
    path.write_bytes(content[: len(content) // 2])


class Hostile:
    def __reduce__(self):
        return print, ("this must not be run",)


SPOILT = {
    "pointer": ("clip.safetensors", lambda path, _: _lfs(path), "is a Git LFS pointer"),
    "empty": ("clip.pt", lambda path, _: path.write_bytes(b""), "is empty"),
    "noise": ("clip.safetensors", lambda path, _: path.write_bytes(b"x" * 99), "cannot be read as"),
    "cut safetensors": (
        "clip.safetensors",
        lambda path, t: (save_file(t, path), _cut(path, path.read_bytes())),
        "cannot be read as CLIP weights.*Fetch it again if it was cut off",
    ),
    "cut pickle": (
        "clip.pt",
        lambda path, t: (torch.save(t, path), _cut(path, path.read_bytes())),
        "cannot be read as CLIP weights",
    ),
    "code": (
        "clip.pt",
        lambda path, _: path.write_bytes(pickle.dumps({"a": Hostile()}, protocol=2)),
        "it is damaged, or holds objects that need code to be run",
    ),
    "a list": ("clip.pt", lambda path, _: torch.save([1, 2], path), "holds list instead of names"),
    "numbers": ("clip.pt", lambda path, _: torch.save({"a": 3}, path), "no tensors, such as 'a'"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_no_checkpoint_is_refused(case, tensors, architecture, tmp_path, capsys):
    name, spoil, message = SPOILT[case]
    small = {key: tensor for key, tensor in tensors.items() if key.startswith("visual.ln")}
    spoil(tmp_path / name, small)
    with pytest.raises(WeightsError, match=message):
        load_image_encoder(replace(SPEC, architecture=architecture), weights=tmp_path / name)
    assert capsys.readouterr().out == ""


def test_folders_without_a_checkpoint_are_refused(hf_copy, tmp_path):
    with pytest.raises(WeightsError, match="holds no config.json .* and no open_clip_config.json"):
        load_image_encoder(SPEC, weights=tmp_path)
    (hf_copy / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="holds a config.json but none of model.safetensors"):
        load_image_encoder(SPEC, weights=hf_copy)
    (hf_copy / "config.json").write_text("{", "utf-8")
    with pytest.raises(WeightsError, match="cannot be read as JSON"):
        load_image_encoder(SPEC, weights=hf_copy)
    (hf_copy / "config.json").write_text("[]", "utf-8")
    with pytest.raises(WeightsError, match="holds list, expected a table"):
        load_image_encoder(SPEC, weights=hf_copy)
    with pytest.raises(WeightsError, match="There is no file or folder .*nowhere"):
        load_image_encoder(SPEC, weights=tmp_path / "nowhere")
    with pytest.raises(WeightsError, match="There is no file or folder .*nowhere"):
        open_checkpoint(tmp_path / "nowhere")


def test_a_file_that_was_replaced_is_read_again(copy, pixels, expected):
    np.testing.assert_array_equal(encode(copy, pixels), expected)
    other = write_tiny_clip(copy.parent / "other", seed=1)
    (copy / "open_clip_model.safetensors").unlink()
    (other / "open_clip_model.safetensors").rename(copy / "open_clip_model.safetensors")
    assert np.abs(encode(copy, pixels) - expected).max() > 1e-3


# Shapes and words.


def test_the_shape_of_the_published_clip():
    shape = architecture_shape("ViT-L-14-quickgelu")
    assert (shape.dimension, shape.activation) == (768, "quick_gelu")
    assert (shape.image.layers, shape.image.heads, shape.image.mlp) == (24, 16, 4096)
    assert (shape.text.context, shape.text.width, shape.text.heads) == (77, 768, 12)
    # 427,616,513 parameters, as openai/clip-vit-large-patch14 has.
    assert clip_bytes(shape) == 4 * 427_616_513
    # Its config.json says the same, in the spelling of 2022 with two tables for each tower.
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
    config = {
        "model_type": "clip",
        "projection_dim": 768,
        "text_config": None,
        "text_config_dict": {**text, "num_hidden_layers": 12, "projection_dim": 768},
        "vision_config": {"hidden_act": "quick_gelu", "eos_token_id": 2, "num_beams": 1},
        "vision_config_dict": {**vision, "num_hidden_layers": 24, "patch_size": 14},
    }
    assert shape_from_hugging_face(config, "a test") == shape


def test_architectures_of_other_kinds_are_refused():
    with pytest.raises(OptionError, match="sets custom_text.*timm_model_name.*come as plugins"):
        architecture_shape("ViT-B-16-SigLIP")
    with pytest.raises(OptionError, match="open_clip has no architecture named 'ViT-Z'"):
        architecture_shape("ViT-Z")


def test_declared_preprocessing_in_our_terms():
    spec = Preprocessing(size=384, mean=(0.5,) * 3, std=(0.5,) * 3, fit="squash")
    siglip = {"size": {"height": 384, "width": 384}, "resample": 3, "image_mean": [0.5] * 3}
    declared = from_hugging_face({**siglip, "do_center_crop": False}, "a test")
    assert compare_preprocessing(declared, spec) == []
    declared = from_open_clip({"size": [384, 384], "resize_mode": "squash"}, "a test")
    assert compare_preprocessing(declared, spec) == []
    assert compare_preprocessing({}, spec) == []


def test_every_tensor_has_one_rule(folder, tensors):
    shape = ClipTensors(open_checkpoint(folder), None, SPEC.preprocessing).shape
    names = hugging_face_names(shape)
    assert set(names) == set(tensors)
    theirs = [name for parts in names.values() for name in parts]
    assert len(theirs) == len(set(theirs))
    with safe_open(folder / "open_clip_model.safetensors", framework="pt") as opened:
        assert set(names) == set(opened.keys())
