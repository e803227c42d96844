"""Pixels are those that the published preprocessing gives."""

import importlib.metadata
import os

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_clip import CLIPImageProcessor

from geoembed.extending import Preprocessing
from geoembed.extending.geolocation import OPENAI_CLIP_224
from geoembed.images import preprocessing as module
from geoembed.images.preprocessing import make_cropper, normalise, prepare, resized_size
from geoembed.images.sources import read_pictures

LEVEL = 1 / 255
STD = torch.tensor(OPENAI_CLIP_224.std)[:, None, None]
SIGLIP = Preprocessing(size=256, mean=(0.5,) * 3, std=(0.5,) * 3, fit="squash")
SIZES = [
    *[(640, 480), (480, 640), (641, 479), (224, 224), (225, 224), (100, 80), (31, 457)],
    *[(1, 1), (224, 1000), (333, 500), (1000, 667), (2, 300)],
]


def scene(width, height, seed=0):
    """A picture with broad shapes and fine noise, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    values = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    values = values + rng.integers(-12, 13, values.shape)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def levels_apart(one, other):
    """Largest difference of two normalised pictures, in grey levels."""
    return float(((one - other) * STD / LEVEL).abs().max())


@pytest.fixture(scope="module")
def sample_photo():
    """The photograph that comes with the reference package; it is RGBA and opaque."""
    files = importlib.metadata.files("geoclip") or []
    [path] = [file.locate() for file in files if file.name == "Kauai.png"]
    [picture] = read_pictures(os.fspath(path))
    assert picture.error == ""
    return picture.image


@pytest.fixture(scope="module")
def pillow_processor():
    """Hugging Face's processor on Pillow, which all of its releases have under some name."""
    try:
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    except ImportError:
        return CLIPImageProcessor()
    return CLIPImageProcessorPil()


def run(processor, image):
    return processor(images=image, return_tensors="pt")["pixel_values"][0]


@pytest.mark.parametrize("size", SIZES)
def test_pixels_equal_those_of_hugging_face_on_pillow(size, pillow_processor):
    image = scene(*size)
    ours = prepare(image, OPENAI_CLIP_224)
    assert ours.shape == (3, 224, 224)
    assert ours.dtype == torch.float32
    assert levels_apart(ours, run(pillow_processor, image)) < 1e-4


def test_the_reference_sample_photo(sample_photo, pillow_processor):
    ours = prepare(sample_photo, OPENAI_CLIP_224)
    assert levels_apart(ours, run(pillow_processor, sample_photo)) < 1e-4
    # What the reference runs, on the installed transformers: resizing by torchvision there.
    theirs = run(CLIPImageProcessor(), sample_photo)
    assert levels_apart(ours, theirs) < 1.001
    assert float((ours - theirs).abs().gt(1e-3).float().mean()) < 0.01


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (333, 500), (224, 224)])
def test_pixels_are_within_a_level_of_hugging_face_on_torchvision(size):
    image = scene(*size)
    assert levels_apart(prepare(image, OPENAI_CLIP_224), run(CLIPImageProcessor(), image)) < 1.001


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (224, 224), (448, 1000)])
def test_pixels_equal_those_of_open_clip_where_the_margins_are_even(size):
    transform = open_clip.transform.image_transform(
        224,
        is_train=False,
        mean=OPENAI_CLIP_224.mean,
        std=OPENAI_CLIP_224.std,
        interpolation="bicubic",
        resize_mode="shortest",
    )
    image = scene(*size)
    assert all((side - 224) % 2 == 0 for side in resized_size(size, 224))
    assert levels_apart(prepare(image, OPENAI_CLIP_224), transform(image)) < 1e-4


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_squashing_equals_open_clip(interpolation):
    spec = Preprocessing(**{**vars(SIGLIP), "interpolation": interpolation})
    transform = open_clip.transform.image_transform(
        256,
        is_train=False,
        mean=spec.mean,
        std=spec.std,
        interpolation=interpolation,
        resize_mode="squash",
    )
    for size in [(640, 480), (31, 457), (256, 256)]:
        image = scene(*size)
        ours = prepare(image, spec)
        assert ours.shape == (3, 256, 256)
        assert float((ours - transform(image)).abs().max()) < 1e-6


def test_bilinear_and_other_sizes_against_torchvision():
    from torchvision import transforms

    spec = Preprocessing(size=96, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear")
    image = scene(400, 300)
    bilinear = transforms.InterpolationMode.BILINEAR
    steps = [transforms.Resize(96, bilinear), transforms.CenterCrop(96), transforms.ToTensor()]
    assert torch.equal(prepare(image, spec), transforms.Compose(steps)(image))


def test_what_is_not_rgb_or_not_upright_is_made_so():
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = scene(300, 200)
    turned = stored.copy()
    turned.info["exif"] = exif.tobytes()
    expected = prepare(stored.transpose(Image.Transpose.ROTATE_270), OPENAI_CLIP_224)
    assert torch.equal(prepare(turned, OPENAI_CLIP_224), expected)
    grey = stored.convert("L")
    assert torch.equal(
        prepare(grey, OPENAI_CLIP_224), prepare(grey.convert("RGB"), OPENAI_CLIP_224)
    )


def test_normalising_is_exact_to_float32():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(np.stack([values] * 3, axis=-1))
    found = normalise([image], OPENAI_CLIP_224)[0].numpy()
    for channel, (mean, std) in enumerate(
        zip(OPENAI_CLIP_224.mean, OPENAI_CLIP_224.std, strict=True)
    ):
        assert (found[channel] == ((values / 255 - mean) / std).astype(np.float32)).all()


def test_sizes_round_the_longer_side_down():
    assert resized_size((640, 480), 224) == (298, 224)
    assert resized_size((480, 640), 224) == (224, 298)
    assert resized_size((7, 7), 224) == (224, 224)
    assert resized_size((1, 3), 2) == (2, 6)


def test_a_strip_does_not_exhaust_the_memory():
    strip = scene(1, 60_000)
    assert resized_size(strip.size, 224) == (224, 13_440_000)
    pixels = prepare(strip, OPENAI_CLIP_224)
    assert pixels.shape == (3, 224, 224)
    assert torch.isfinite(pixels).all()


@pytest.mark.parametrize("size", [(40, 400), (400, 40), (64, 640)])
def test_windows_of_a_strip_are_those_of_the_whole(size, monkeypatch):
    # Noise, to be moved by no pixel, and far from black and white, to be clipped nowhere.
    values = np.random.default_rng(3).integers(80, 170, (size[1], size[0], 3), dtype=np.uint8)
    noise = Image.fromarray(values)
    target = resized_size(size, 224)
    corners = [(0, 0), ((target[0] - 224) // 2, (target[1] - 224) // 2)]
    whole = [np.asarray(make_cropper(noise, target, OPENAI_CLIP_224)(*at)) for at in corners]
    monkeypatch.setattr(module, "_LONGEST_SIDES", 1)
    parts = [np.asarray(make_cropper(noise, target, OPENAI_CLIP_224)(*at)) for at in corners]
    for one, other in zip(whole, parts, strict=True):
        # Which way is resized first is Pillow's choice, and between the two it rounds.
        assert np.abs(one.astype(int) - other).max() <= 2


@pytest.mark.shared
def test_pixels_of_real_photographs_equal_those_of_hugging_face(shared_data, pillow_processor):
    pictures = list(read_pictures(shared_data / "photos_world" / "images"))
    assert len(pictures) == 108
    apart = [
        levels_apart(prepare(p.image, OPENAI_CLIP_224), run(pillow_processor, p.image))
        for p in pictures
    ]
    assert max(apart) < 1e-4
