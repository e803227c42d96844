"""Views are those of the published protocol, as torchvision cuts them."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from geoembed.errors import OptionError
from geoembed.extending import Preprocessing
from geoembed.extending.geolocation import OPENAI_CLIP_224
from geoembed.images.preprocessing import prepare, resized_size
from geoembed.images.views import VIEWS, make_views, view_count

PLAIN = Preprocessing(size=224, mean=(0, 0, 0), std=(1, 1, 1))
SIZES = [(640, 480), (480, 640), (641, 479), (333, 500), (500, 333), (256, 256), (90, 60), (60, 61)]
# Margins of 37 and 39 pixels: half of them rounds to even, down and up.
SIZES += [(261, 256), (263, 256)]


def scene(width, height, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def published(size, crop, views):
    """Resize the shorter side, cut crops, stack them: the transforms of the protocol."""
    to_tensor = transforms.ToTensor()
    return transforms.Compose(
        [
            transforms.Resize(size, transforms.InterpolationMode.BICUBIC),
            {5: transforms.FiveCrop, 10: transforms.TenCrop}[views](crop),
            lambda crops: torch.stack([to_tensor(each) for each in crops]),
        ]
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tta", ["five", "ten-crop"])
def test_crops_equal_torchvisions_bit_for_bit(size, tta):
    image = scene(*size)
    expected = published(256, 224, VIEWS[tta])(image)
    assert torch.equal(make_views(image, PLAIN, tta), expected)


def test_margins_of_these_sizes_round_either_way():
    margins = {(side - 224) % 4 for size in SIZES for side in resized_size(size, 256)}
    assert margins >= {0, 1, 3}


@pytest.mark.parametrize(("size", "resized"), [(224, 256), (336, 384), (384, 439), (32, 37)])
def test_other_sizes_keep_the_ratio(size, resized):
    spec = Preprocessing(size=size, mean=(0, 0, 0), std=(1, 1, 1))
    image = scene(600, 450)
    assert torch.equal(make_views(image, spec, "ten-crop"), published(resized, size, 10)(image))


def test_one_view_is_the_centre():
    image = scene(300, 200)
    assert torch.equal(make_views(image, PLAIN), prepare(image, PLAIN)[None])
    assert torch.equal(
        make_views(image, OPENAI_CLIP_224, "none")[0], prepare(image, OPENAI_CLIP_224)
    )


def test_ten_are_five_and_their_mirror_images():
    image = scene(448, 300)
    five, ten = make_views(image, PLAIN, "five"), make_views(image, PLAIN, "ten-crop")
    assert torch.equal(ten[:5], five)
    left_right = [1, 0, 3, 2]
    # The left corners of the mirrored picture are the right ones of this, mirrored.
    assert torch.equal(ten[5:9], five[left_right].flip(-1))


def test_views_are_normalised_like_the_centre():
    image = scene(300, 200)
    plain, normal = make_views(image, PLAIN, "five"), make_views(image, OPENAI_CLIP_224, "five")
    mean, std = (
        torch.tensor(each)[:, None, None] for each in (OPENAI_CLIP_224.mean, OPENAI_CLIP_224.std)
    )
    assert float((normal - (plain - mean) / std).abs().max()) < 1e-6


def test_squashed_views_cut_a_square():
    spec = Preprocessing(size=224, mean=(0, 0, 0), std=(1, 1, 1), fit="squash")
    image = scene(640, 300)
    square = image.resize((256, 256), Image.Resampling.BICUBIC)
    expected = published(256, 224, 10)(square)
    assert torch.equal(make_views(image, spec, "ten-crop"), expected)


def test_views_of_a_strip():
    views = make_views(scene(1, 60_000), PLAIN, "ten-crop")
    assert views.shape == (10, 3, 224, 224)
    # Upper and lower end are far apart.
    assert not torch.equal(views[0], views[2])


def test_what_is_not_upright_is_turned_before_it_is_cut():
    exif = Image.Exif()
    exif[0x0112] = 8
    stored = scene(300, 200)
    turned = stored.copy()
    turned.info["exif"] = exif.tobytes()
    expected = make_views(stored.transpose(Image.Transpose.ROTATE_90), PLAIN, "five")
    assert torch.equal(make_views(turned, PLAIN, "five"), expected)


def test_counts_and_names():
    assert [view_count(tta) for tta in ("none", "five", "ten-crop")] == [1, 5, 10]
    for wrong in ("ten", None, 10, ""):
        with pytest.raises(OptionError, match=r"tta=.*: use one of 'none', 'five', 'ten-crop'"):
            view_count(wrong)
        with pytest.raises(OptionError, match="use one of"):
            make_views(scene(9, 9), PLAIN, wrong)
