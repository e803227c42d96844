"""Our image side against the published GeoCLIP on transformers' CLIP: same weights, same photo."""

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoProcessor

from geoembed.extending.registry import image_encoder_spec
from geoembed.images import load_image_encoder
from geoembed.images.backbone import ClipTensors
from geoembed.images.checkpoints import open_checkpoint
from geoembed.images.preprocessing import prepare
from geoembed.images.texts import tokenize

TEXTS = [
    "a photo of a fjord in winter",
    "Desert road, Nevada!",
    "São Paulo's skyline at night -- 23:45",
    "  double   spaces\tand\nlines ",
    "the year 1984, 50% off & 3.14159",
    "東京タワー и Красная площадь",
    "mountain " * 75,
]


@pytest.fixture(scope="module")
def encoder(both):
    return load_image_encoder(both.spec, weights=both.folder, device="cpu")


@pytest.fixture(scope="module")
def pixels(both, sample_photo):
    """The sample photo in sizes that round in every way, prepared by the published package."""
    sizes = [(517, 301), (333, 1000), (81, 100)] if both.size == "small" else []
    photos = [sample_photo, *(sample_photo.resize(size) for size in sizes)]
    if sizes:
        photos.append(sample_photo.crop((10, 200, 234, 424)))
    prepared = [both.reference.image_encoder.preprocess_image(photo) for photo in photos]
    return photos, torch.cat(prepared)


def relative(got, expected):
    """Worst error of a row, relative to its length."""
    got, expected = (np.asarray(rows, dtype=np.float64) for rows in (got, expected))
    errors = np.linalg.norm(got - expected, axis=1)
    return (errors / np.linalg.norm(expected, axis=1)).max()


def reference_features(both, prepared):
    with torch.inference_mode():
        return both.reference.image_encoder(prepared).numpy()


def reference_texts(both, texts):
    tokenizer = AutoProcessor.from_pretrained(both.folder).tokenizer
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    encoder = both.reference.image_encoder
    with torch.inference_mode():
        features = encoder.CLIP.get_text_features(**tokens)
        features = getattr(features, "pooler_output", features)
        return encoder.mlp(features).numpy()


def test_image_features_from_the_same_pixels_agree(both, encoder, pixels):
    expected = reference_features(both, pixels[1])
    assert relative(encoder.encode_pixels(pixels[1]), expected) < 1e-5
    # The comparison means something: pictures differ by far more than that.
    assert both.size == "large" or relative(np.roll(expected, 1, axis=0), expected) > 0.05


def test_another_activation_would_be_seen(both, encoder, pixels):
    tower = encoder.network
    kept = [block.mlp.gelu for block in tower.transformer.resblocks]
    try:
        for block in tower.transformer.resblocks:
            block.mlp.gelu = torch.nn.GELU()
        wrong = encoder.encode_pixels(pixels[1])
    finally:
        for block, activation in zip(tower.transformer.resblocks, kept, strict=True):
            block.mlp.gelu = activation
    assert relative(wrong, reference_features(both, pixels[1])) > 1e-3


def test_text_features_agree(both, encoder):
    expected = reference_texts(both, TEXTS)
    assert relative(encoder.encode_text(TEXTS), expected) < 1e-5
    assert relative(np.roll(expected, 1, axis=0), expected) > 0.05


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_those_of_transformers(tiny_clip, text):
    tokenizer = AutoProcessor.from_pretrained(tiny_clip).tokenizer
    expected = tokenizer([text])["input_ids"][0]
    got = tokenize(text)[0].tolist()
    assert got[: len(expected)] == expected
    assert set(got[len(expected) :]) <= {0}


def test_preprocessing_is_within_one_grey_level(encoder, pixels):
    photos, expected = pixels
    std = torch.tensor(encoder.preprocessing.std).view(3, 1, 1)
    for photo, theirs in zip(photos, expected, strict=True):
        levels = ((prepare(photo, encoder.preprocessing) - theirs) * std * 255).abs()
        # transformers resizes with torchvision, which rounds between its two passes as well: in
        # pictures scaled by odd ratios one pixel in 10,000 is off by two.
        assert levels.max() < (1.01 if photo is photos[0] else 2.01)
        assert (levels > 1.01).float().mean() < 1e-4


def test_end_to_end_difference(both, encoder, pixels, sample_photo):
    expected = reference_features(both, pixels[1][:1])
    got = encoder.encode_images([sample_photo], progress=False).vectors
    unit = expected / np.linalg.norm(expected)
    # What the grey levels of the test above make of it; measured: a cosine of 1 - 1.1e-7, and a
    # difference of 4e-4 of the vector's length.
    assert 1 - float(unit[0].astype(np.float64) @ got[0].astype(np.float64)) < 1e-6
    assert 0 < relative(got, unit) < 2e-3


def test_temperature_is_the_published_one(both, encoder):
    assert encoder.logit_scale == pytest.approx(both.reference.logit_scale.exp().item(), rel=1e-6)


def test_both_layouts_of_the_same_weights_are_equal(both, encoder, pixels, tmp_path):
    spec = both.spec
    source = open_checkpoint(both.folder)
    tensors = ClipTensors(source, None, spec.preprocessing)
    image, text = tensors.shape.image, tensors.shape.text
    model = open_clip.CLIP(
        embed_dim=768,
        quick_gelu=True,
        vision_cfg={
            "image_size": image.size,
            "layers": image.layers,
            "width": image.width,
            "patch_size": image.patch,
        },
        text_cfg={"width": text.width, "heads": text.heads, "layers": text.layers},
    ).eval()
    model.load_state_dict(dict(tensors), strict=True)
    if both.size == "large":
        path = tmp_path / "clip.safetensors"
        save_file(model.state_dict(), path)
    else:
        path = tmp_path / "open_clip"
        path.mkdir()
        save_file(model.state_dict(), path / "open_clip_model.safetensors")
        config = open_clip_config(image, text)
        (path / "open_clip_config.json").write_text(config, "utf-8")
    ours = load_image_encoder(spec, weights=path, device="cpu")
    assert ours.weights_sha256 == encoder.weights_sha256
    np.testing.assert_array_equal(ours.encode_pixels(pixels[1]), encoder.encode_pixels(pixels[1]))
    np.testing.assert_array_equal(ours.encode_text(TEXTS), encoder.encode_text(TEXTS))
    # And open_clip's own forward pass is the same function.
    with torch.inference_mode():
        features = both.reference.image_encoder.mlp(model.encode_image(pixels[1])).numpy()
    assert relative(ours.encode_pixels(pixels[1]), features) < 1e-5


def open_clip_config(image, text):
    import json

    return json.dumps(
        {
            "model_cfg": {
                "embed_dim": 768,
                "quick_gelu": True,
                "vision_cfg": {
                    "image_size": image.size,
                    "layers": image.layers,
                    "width": image.width,
                    "patch_size": image.patch,
                },
                "text_cfg": {"width": text.width, "heads": text.heads, "layers": text.layers},
            },
            "preprocess_cfg": {
                "mean": [0.48145466, 0.4578275, 0.40821073],
                "std": [0.26862954, 0.26130258, 0.27577711],
            },
        }
    )


def test_a_small_clip_is_refused_where_the_published_one_is_asked_for(tiny_clip):
    from geoembed.errors import WeightsError

    assert image_encoder_spec("geoclip.v1").architecture == "ViT-L-14-quickgelu"
    with pytest.raises(WeightsError, match="image width 192, expected 1024"):
        load_image_encoder("geoclip.v1", weights=tiny_clip)
