"""One randomly initialised CLIP for both libraries, and the published GeoCLIP around it."""

import gzip
import json
import os
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pyproj
import pytest
import torch
from geoclip import GeoCLIP
from geoclip import LocationEncoder as PublishedLocationEncoder
from open_clip.tokenizer import default_bpe
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from geoembed import weights
from geoembed.encoders.projections import GEOCLIP_SCALE
from geoembed.extending.registry import image_encoder_spec, weights_specs
from geoembed.testing import tiny_clip_spec

# Set it to compare a CLIP of ViT-L/14's size as well: 4 GB on disk, 13 GB of memory, two minutes.
FULL = "GEOEMBED_TEST_FULL"

REPOSITORY = "openai/clip-vit-large-patch14"
REVISION = "32bd64288804d66eefd0ccbe215aa642df71cc41"

SIZES = {
    "small": {
        "projection_dim": 768,
        "text_config": {
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "projection_dim": 768,
            "eos_token_id": 2,
        },
        "vision_config": {
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "patch_size": 32,
            "projection_dim": 768,
        },
    },
    "large": {
        "projection_dim": 768,
        "text_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "projection_dim": 768,
            "eos_token_id": 2,
        },
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 14,
            "projection_dim": 768,
        },
    },
}


@dataclass(frozen=True)
class Both:
    """The published GeoCLIP on a CLIP, and what loads the same in geoembed."""

    reference: GeoCLIP
    folder: Path  # the Hugging Face folder of the CLIP
    hub: Path  # the cache folder that it lies in
    spec: object  # ImageEncoderSpec
    size: str


def _randomise(model):
    """Draw weights so that every one of them matters: no zero biases, no tiny embeddings."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "logit_scale":
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name or "layrnorm" in name:
                parameter.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))
            elif name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            elif "embedding" in name and "patch" not in name:
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)


def write_hugging_face_clip(folder, size="small"):
    """Write a random CLIP as transformers does, with a tokenizer made of open_clip's vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    model = CLIPModel(CLIPConfig(**SIZES[size])).eval()
    _randomise(model)
    model.save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    config = json.loads((folder / "preprocessor_config.json").read_text("utf-8"))
    config["processor_class"] = "CLIPProcessor"
    (folder / "preprocessor_config.json").write_text(json.dumps(config), "utf-8")
    merges = gzip.decompress(Path(default_bpe()).read_bytes()).decode("utf-8").split("\n")
    merges = merges[1 : 49152 - 256 - 2 + 1]
    letters = [chr(code) for code in _byte_letters()]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [merge.replace(" ", "") for merge in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")
    tokenizer = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "do_lower_case": True,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), "utf-8")
    return folder


def _byte_letters():
    """Code points that stand for the 256 bytes: printable ones for themselves, others from 256."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return printable + [256 + index for index in range(len(hidden))]


def write_release(folder):
    """Write the trained weights in the folder format that the published package reads."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = weights_specs()["geoclip.v1"]
    tensors = {"logit_scale": next(iter(weights.load_tensors(spec, "logit_scale").values()))}
    for role, prefix in (
        ("location_encoder", "location_encoder."),
        ("image_mlp", "image_encoder.mlp."),
    ):
        for name, tensor in weights.load_tensors(spec, role).items():
            tensors[prefix + name] = tensor.contiguous()
    save_file(tensors, folder / "model.safetensors")
    gallery = weights.checked_path(spec, "gallery")
    (folder / "gallery.csv").write_bytes(gallery.read_bytes())
    config = {
        "model_type": "geoclip-geolocation",
        "format_version": 1,
        "sigma": [1, 16, 256],
        "gallery_file": "gallery.csv",
        "backbone": {"repo_id": REPOSITORY, "revision": REVISION},
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.fixture(scope="session", params=["small", pytest.param("large", marks=pytest.mark.slow)])
def both(request, tmp_path_factory):
    """The published GeoCLIP with its backbone from a local hub cache, and our spec for it."""
    if request.param == "large" and not os.environ.get(FULL):
        pytest.skip(f"a CLIP of ViT-L/14's size is compared only with {FULL}=1")
    hub = tmp_path_factory.mktemp("hub")
    repository = hub / f"models--{REPOSITORY.replace('/', '--')}"
    folder = write_hugging_face_clip(repository / "snapshots" / REVISION, request.param)
    release = write_release(tmp_path_factory.mktemp("release") / "geoclip")
    reference = GeoCLIP.from_pretrained(release, cache_dir=hub, local_files_only=True)
    large = request.param == "large"
    spec = image_encoder_spec("geoclip.v1") if large else tiny_clip_spec()
    return Both(reference, folder, hub, spec, request.param)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    """A folder with the small random CLIP in Hugging Face's layout, tokenizer included.

    ``load_image_encoder(tiny_clip_spec(), weights=tiny_clip)`` loads it with the trained head.
    """
    return write_hugging_face_clip(tmp_path_factory.mktemp("tiny") / "clip")


@pytest.fixture(scope="session")
def sample_photo():
    """The photograph that the published package ships, as it opens it."""
    path = distribution("geoclip").locate_file("geoclip/images/Kauai.png")
    with Image.open(path) as image:
        return image.convert("RGB")


@pytest.fixture(scope="session")
def published_in_float64():
    """A function: lonlat (n, 2) to the published capsules in float64, on points PROJ projected."""
    published = PublishedLocationEncoder().eval()
    exact = PublishedLocationEncoder().double().eval()
    exact.load_state_dict(published.state_dict())
    project = pyproj.Transformer.from_pipeline(
        "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=eqearth +R=1"
    )

    def encode(lonlat):
        points = torch.from_numpy(np.column_stack(project.transform(*lonlat.T)) * GEOCLIP_SCALE)
        with torch.inference_mode():
            blocks = [
                sum(exact._modules[f"LocEnc{i}"](block) for i in range(exact.n))
                for block in points.split(4096)
            ]
        return torch.cat(blocks).numpy()

    return encode
