"""Views: what is drawn, what is cut, and which of them are looked at."""

from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import ColorJitter, RandomResizedCrop
from torchvision.transforms import functional as reference

from geoembed.errors import OptionError
from geoembed.extending import Preprocessing
from geoembed.extending.geolocation import OPENAI_CLIP_224
from geoembed.images import prepare
from geoembed.images.preprocessing import normalise
from geoembed.training.augmenting import ViewDraw, cut_view, draw_view
from geoembed.training.hue import turn_hue
from geoembed.training.randomness import generator
from geoembed.training.settings import ViewSettings
from geoembed.training.views import check_views, make_view, make_views_of, view_numbers

SMALL = Preprocessing(size=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
DRAWS = 3000
PLAIN = ViewSettings(jitter=0.0, greyscale=0.0)


def scene(width, height, seed=0):
    """A picture with broad shapes and fine noise, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    values = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    values = values + rng.integers(-12, 13, values.shape)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def draws(size, settings, count=DRAWS):
    return [draw_view(size, settings, generator(0, "view", row, 0)) for row in range(count)]


def same(one, other):
    return np.array_equal(np.asarray(one), np.asarray(other))


# --- cut: pixel for pixel what torchvision makes of Pillow's pictures


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("box", [(0, 0, 200, 150), (13, 7, 90, 111), (150, 20, 170, 45)])
def test_crop_is_torchvisions(box, interpolation):
    image = scene(200, 150)
    tower = Preprocessing(size=64, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation=interpolation)
    left, top, right, bottom = box
    expected = reference.resized_crop(
        image,
        top,
        left,
        bottom - top,
        right - left,
        [64, 64],
        reference.InterpolationMode(interpolation),
    )
    assert same(cut_view(image, ViewDraw(box), tower), expected)


@pytest.mark.parametrize(
    ("change", "function"),
    [
        (("brightness", 0.6), reference.adjust_brightness),
        (("brightness", 1.4), reference.adjust_brightness),
        (("contrast", 0.6), reference.adjust_contrast),
        (("contrast", 1.37), reference.adjust_contrast),
        (("saturation", 0.63), reference.adjust_saturation),
        (("saturation", 1.4), reference.adjust_saturation),
        (("hue", 0.0999), reference.adjust_hue),
        (("hue", -0.1), reference.adjust_hue),
        (("hue", 0.5), reference.adjust_hue),
    ],
)
def test_colour_changes_are_torchvisions(change, function):
    image = scene(64, 64)
    got = cut_view(image, ViewDraw((0, 0, 64, 64), changes=(change,)), SMALL)
    assert same(got, function(image, change[1]))


def test_changes_are_made_in_their_order_then_the_colours_go():
    image = scene(64, 64, seed=3)
    changes = (("hue", 0.08), ("contrast", 1.3), ("brightness", 0.8), ("saturation", 1.2))
    expected = reference.adjust_contrast(reference.adjust_hue(reference.hflip(image), 0.08), 1.3)
    expected = reference.adjust_saturation(reference.adjust_brightness(expected, 0.8), 1.2)
    draw = ViewDraw((0, 0, 64, 64), flip=True, changes=changes)
    assert same(cut_view(image, draw, SMALL), expected)
    grey = ViewDraw((0, 0, 64, 64), flip=True, changes=changes, grey=True)
    assert same(cut_view(image, grey, SMALL), reference.to_grayscale(expected, 3))


@pytest.mark.parametrize("levels", [0, 1, 25, -25, 128, 255])
def test_hue_is_pillows_for_every_kind_of_colour(levels):
    # Every fifth red with all greens and blues: each sixth of the wheel, greys, black and white.
    reds = [np.full(65536, red, np.uint8) for red in [*range(0, 256, 15)]]
    others = np.arange(65536)
    flat = np.stack(
        [
            np.concatenate(reds),
            *(np.tile((others >> shift).astype(np.uint8), len(reds)) for shift in (8, 0)),
        ],
        axis=-1,
    )
    image = Image.fromarray(flat.reshape(-1, 256, 3))
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point([(level + levels) % 256 for level in range(256)])
    expected = Image.merge("HSV", (turned, saturation, value)).convert("RGB")
    assert same(turn_hue(image, levels), expected)


# --- drawn: the distributions of torchvision


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (900, 120)])
def test_crops_are_distributed_as_torchvisions(size):
    image = Image.new("RGB", size)
    torch.manual_seed(0)
    theirs = [
        RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(DRAWS)
    ]
    theirs = np.array([(left, top, left + w, top + h) for top, left, h, w in theirs])
    ours = np.array([draw.box for draw in draws(size, PLAIN)])

    def facts(boxes):
        left, top, right, bottom = boxes.T
        wide, high = right - left, bottom - top
        return {
            "area": wide * high / (size[0] * size[1]),
            "ratio": np.log(wide / high),
            "left": left,
            "top": top,
        }

    for (name, one), two in zip(facts(ours).items(), facts(theirs).values(), strict=True):
        assert stats.ks_2samp(one, two).pvalue > 1e-3, name


def test_areas_are_even_and_shapes_even_in_the_logarithm():
    # So small crops of a large picture that every draw fits.
    settings = PLAIN.model_copy(update={"min_area": 0.01})
    boxes = np.array([draw.box for draw in draws((4000, 4000), settings)])
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    fits = wide * high / 4000**2 < 0.7  # beyond, long crops do not fit and are drawn again
    area, ratio = (wide * high / 4000**2)[fits], np.log(wide / high)[fits] / np.log(4 / 3)
    assert stats.kstest(area, stats.uniform(0.01, 0.69).cdf).pvalue > 1e-3
    assert stats.kstest(ratio, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    left = (boxes[:, 0] / np.maximum(4000 - wide, 1))[fits]
    assert stats.kstest(left, stats.uniform(0, 1).cdf).pvalue > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (700, 3), (31, 457)])
def test_every_crop_lies_in_the_picture(size):
    for draw in draws(size, ViewSettings(), 200):
        left, top, right, bottom = draw.box
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]


@pytest.mark.parametrize("size", [(1000, 10), (10, 1000), (100, 100)])
def test_what_fits_in_no_try_is_torchvisions_centre(size):
    # Areas above all that fit into so long a picture.
    settings = PLAIN.model_copy(update={"min_area": 1.0})
    top, left, high, wide = RandomResizedCrop.get_params(
        Image.new("RGB", size), [1.0 + 1e-9, 1.0 + 1e-9], [3 / 4, 4 / 3]
    )
    boxes = {draw.box for draw in draws(size, settings, 50)}
    assert boxes == {(left, top, left + wide, top + high)}


def test_jitter_has_torchvisions_ranges_and_orders():
    settings = ViewSettings(jitter=1.0, brightness=0.4, contrast=0.3, saturation=1.5, hue=0.1)
    drawn = [draw.changes for draw in draws((100, 100), settings)]
    jitter = ColorJitter(0.4, 0.3, 1.5, 0.1)
    for name in ("brightness", "contrast", "saturation", "hue"):
        low, high = getattr(jitter, name)
        values = [dict(changes)[name] for changes in drawn]
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3, name
    orders = [tuple(name for name, _ in changes) for changes in drawn]
    counts = [orders.count(order) for order in permutations(dict(drawn[0]))]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_shares_are_those_of_the_settings():
    settings = ViewSettings(flip=True, jitter=0.8, greyscale=0.2)
    drawn = draws((100, 100), settings)
    for share, found in (
        (0.5, sum(draw.flip for draw in drawn)),
        (0.8, sum(bool(draw.changes) for draw in drawn)),
        (0.2, sum(draw.grey for draw in drawn)),
    ):
        assert stats.binomtest(found, DRAWS, share).pvalue > 1e-3


def test_what_is_off_is_never_drawn_and_moves_nothing_else():
    everything = draws((100, 80), ViewSettings(flip=True), 300)
    less = draws((100, 80), ViewSettings(hue=0.0, greyscale=0.0), 300)
    assert not any(draw.flip or draw.grey or "hue" in dict(draw.changes) for draw in less)
    assert [draw.box for draw in everything] == [draw.box for draw in less]
    for one, two in zip(everything, less, strict=True):
        assert tuple(change for change in one.changes if change[0] != "hue") == two.changes


# --- views: a function of the seed, the row and the number


def test_view_is_the_crop_normalised():
    image = scene(120, 90)
    got = make_view(image, SMALL, ViewSettings(), generator(4, "view", 7, 2))
    draw = draw_view(image.size, ViewSettings(), generator(4, "view", 7, 2))
    assert torch.equal(got, normalise([cut_view(image, draw, SMALL)], SMALL)[0])
    assert got.shape == (3, 64, 64)
    assert got.dtype == torch.float32
    [again] = make_views_of(image, SMALL, ViewSettings(), seed=4, row=7, numbers=np.array([2]))
    assert torch.equal(again, got)


def test_statistics_are_the_backbones_own():
    white = Image.new("RGB", (300, 200), "white")
    view = make_view(white, OPENAI_CLIP_224, PLAIN, generator(0, "view", 0, 0))
    expected = (1 - np.array(OPENAI_CLIP_224.mean)) / np.array(OPENAI_CLIP_224.std)
    assert view.shape == (3, 224, 224)
    np.testing.assert_allclose(view[:, 100, 100].numpy(), expected, rtol=1e-6)


def test_without_augmentation_a_view_is_what_the_tower_sees():
    image, none = scene(120, 90), ViewSettings(augment="none")
    expected = prepare(image, SMALL)
    assert torch.equal(make_view(image, SMALL, none, generator(0, "view", 0, 0)), expected)
    both = make_views_of(image, SMALL, none, seed=0, row=0, numbers=np.array([0, 5]))
    assert torch.equal(both, torch.stack([expected, expected]))


def test_other_modes_and_turned_pictures_are_made_upright_first():
    image = scene(60, 40)
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    straight, views = (
        make_view(picture, SMALL, ViewSettings(), generator(0, "view", 1, 1))
        for picture in (image, turned)
    )
    assert torch.equal(straight, views)
    grey = make_view(image.convert("L"), SMALL, PLAIN, generator(0, "view", 1, 1))
    assert grey.shape == (3, 64, 64)


def test_views_differ_by_seed_row_and_number():
    image = scene(120, 90)
    looks = {
        make_views_of(image, SMALL, ViewSettings(), seed=seed, row=row, numbers=np.array([number]))
        .numpy()
        .tobytes()
        for seed in (0, 1)
        for row in (0, 1)
        for number in (0, 1)
    }
    assert len(looks) == 8


# --- which views


def test_without_a_pool_each_view_is_seen_once():
    rows = np.arange(5)
    seen = [view_numbers(ViewSettings(count=3), 0, rows, np.full(5, epoch)) for epoch in range(4)]
    seen = np.concatenate(seen, axis=1)
    assert (np.sort(seen, axis=1) == np.arange(12)).all()


def test_picks_are_different_ones_evenly_and_of_seed_epoch_and_row():
    rows, settings = np.arange(4000), ViewSettings(count=3, pool=10)
    epochs = np.where(rows < 2000, 4, 5)
    picked = view_numbers(settings, 0, rows, epochs)
    assert picked.shape == (4000, 3)
    assert all(len(set(row)) == 3 for row in picked.tolist())
    assert stats.chisquare(np.bincount(picked.ravel(), minlength=10)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(picked[:, 0], minlength=10)).pvalue > 1e-3
    # Neighbouring rows and following epochs have nothing to do with each other.
    both = np.bincount(picked[:-1, 0] * 10 + picked[1:, 0], minlength=100)
    assert stats.chisquare(both).pvalue > 1e-3
    later = view_numbers(settings, 0, rows, epochs + 1)[:, 0]
    both = np.bincount(picked[:, 0] * 10 + later, minlength=100)
    assert stats.chisquare(both).pvalue > 1e-3
    # In another order, and without the others, the same.
    some = np.array([3999, 17, 2500])
    assert np.array_equal(view_numbers(settings, 0, some, epochs[some]), picked[some])
    assert not np.array_equal(view_numbers(settings, 1, rows, epochs), picked)


def test_a_whole_pool_is_taken_as_a_whole():
    picked = view_numbers(ViewSettings(count=4, pool=4), 0, np.arange(50), np.zeros(50, int))
    assert (np.sort(picked, axis=1) == np.arange(4)).all()
    assert len(np.unique(picked, axis=0)) > 10
    one = view_numbers(ViewSettings(count=1, pool=1), 0, np.arange(50), np.zeros(50, int))
    assert (one == 0).all()


def test_more_views_than_there_are_in_the_pool_are_refused():
    with pytest.raises(OptionError, match=r"views.count = 3 .* pool of views.pool = 2"):
        check_views(ViewSettings(count=3, pool=2))
    with pytest.raises(OptionError, match="different ones"):
        view_numbers(ViewSettings(count=3, pool=2), 0, np.arange(2), np.zeros(2, int))
