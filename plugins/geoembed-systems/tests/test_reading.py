"""Pictures and features in, whatever they come as; nothing lost on the way."""

import numpy as np
import pandas as pd
import pytest
import torch
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.pictures.reading import read_picture_features
from PIL import Image

from geoembed.errors import OptionError, PictureError, TableError
from geoembed.extending.image_specs import ImageEncoderSpec, Preprocessing
from geoembed.images import ImageEncoder, load_image_encoder, make_views
from geoembed.images.towers import tower_of

NAME = "bluemarble.v1"


@pytest.fixture(scope="module")
def encoder():
    return load_image_encoder(NAME, device="cpu")


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), dtype=np.uint8)


def read(given, **options):
    # No encoder of that name: what is features already must not look for one.
    return read_picture_features(given, **{"image_encoder": "none.such", **options})


def expected(encoder, picture, crops="none"):
    """One picture by hand: its views through the tower."""
    views = make_views(Image.fromarray(picture), encoder.preprocessing, crops)
    return tower_of(encoder).features(views).numpy()


class Odd(ImageEncoder):
    """The mean colour, and NaN for what is black."""

    weights_sha256 = ""

    def _encode_pixels(self, pixels):
        colour = pixels.mean(dim=(2, 3))
        return colour / (colour > 0)


@pytest.fixture
def odd():
    spec = ImageEncoderSpec(
        name="odd.colour",
        factory="tests:none",
        dimension=3,
        preprocessing=Preprocessing(size=8, mean=(0.0,) * 3, std=(1.0,) * 3),
        summary="A mean colour",
    )
    return Odd(spec, device="cpu")


def test_features_that_are_there_are_given_back_as_they_are():
    features = PictureFeatures(np.ones((3, 4)), tokens=np.ones((3, 2, 5)))
    assert read(features) is features
    assert read(features, tokens=True) is features


@pytest.mark.parametrize(
    "given",
    [
        np.arange(12.0).reshape(3, 4),
        np.arange(12).reshape(3, 4),
        np.arange(12, dtype=np.uint32).reshape(3, 4),
        torch.arange(12.0).reshape(3, 4),
        torch.arange(12.0).reshape(3, 4).to(torch.bfloat16),
        np.arange(12.0).reshape(3, 4).tolist(),
        list(np.arange(12.0).reshape(3, 4)),
        pd.DataFrame(np.arange(12.0).reshape(3, 4)),
    ],
    ids=["floats", "ints", "uint32", "tensor", "bfloat16", "lists", "rows", "table"],
)
def test_numbers_are_features_one_row_a_picture(given):
    features = read(given)
    np.testing.assert_array_equal(features.pooled[:, 0], np.arange(12.0).reshape(3, 4))
    assert features.pooled.dtype == np.float32
    assert features.names == ["0", "1", "2"]


def test_features_of_several_views_keep_their_axis():
    views = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    np.testing.assert_array_equal(read(views).pooled, views)
    np.testing.assert_array_equal(read(torch.from_numpy(views)).pooled, views)


def test_a_table_of_features_names_pictures_by_its_index():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4]}, index=["tower", "bridge"])
    features = read(frame)
    assert features.names == ["tower", "bridge"]
    assert features.pooled[:, 0].tolist() == [[1.0, 3.0], [2.0, 4.0]]


def test_rows_that_are_not_finite_are_kept_with_an_error():
    features = read(np.array([[1.0, 2.0], [np.nan, 0.0], [1e300, 1.0]]))
    assert features.errors == ["", "its features are not finite", "its features are not finite"]
    assert len(features) == 3


def test_vectors_of_an_encoder_keep_their_names_and_errors(encoder, pictures):
    vectors = encoder.encode_images({"one": pictures[0], "two": "nowhere.jpg"})
    features = read(vectors)
    assert features.names == ["one", "two"]
    assert features.errors == ["", "There is no such file."]
    np.testing.assert_array_equal(features.pooled[0, 0], vectors.vectors[0])


def test_features_that_cannot_be_a_table_are_refused():
    with pytest.raises(TableError, match="list of rows cannot be read.*all of one length"):
        read([[1.0, 2.0], [1.0]])
    with pytest.raises(TableError, match=r"shape \(0, 4\)"):
        read(np.zeros((0, 4)))
    with pytest.raises(TableError, match=r"shape \(4,\): give \(n, d\)"):
        read(np.zeros(4))


def test_pictures_are_read_through_the_frozen_tower_without_its_head(encoder, pictures):
    features = read_picture_features(pictures, image_encoder=NAME, device="cpu")
    assert features.pooled.shape == (5, 1, tower_of(encoder).dimension)
    for row, picture in enumerate(pictures):
        np.testing.assert_allclose(
            features.pooled[row], expected(encoder, picture), rtol=1e-4, atol=1e-5
        )
    assert features.tokens is None


def test_a_loaded_encoder_is_taken_as_it_is(encoder, pictures):
    named = read_picture_features(pictures, image_encoder=NAME, device="cpu")
    loaded = read_picture_features(pictures, image_encoder=encoder, device="auto")
    np.testing.assert_array_equal(loaded.pooled, named.pooled)


@pytest.mark.parametrize("crops", ["five", "ten-crop"])
def test_crops_lie_on_the_axis_of_views_in_order(encoder, pictures, crops):
    features = read_picture_features(
        pictures[:2], image_encoder=encoder, crops=crops, tokens=True, batch_size=3
    )
    count = {"five": 5, "ten-crop": 10}[crops]
    assert features.pooled.shape[:2] == features.tokens.shape[:2] == (2, count)
    for row in range(2):
        np.testing.assert_allclose(
            features.pooled[row], expected(encoder, pictures[row], crops), rtol=1e-4, atol=1e-5
        )
    # Tokens belong to the views beside them: their mean is half of the feature.
    half = features.tokens.shape[3]
    np.testing.assert_allclose(
        features.tokens.mean(axis=2), features.pooled[:, :, :half], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 2, 4, 64])
def test_batches_do_not_change_what_is_read(encoder, pictures, batch_size):
    mixed = [pictures[0], "nowhere.jpg", *pictures[1:], "nor-here.jpg"]
    whole = read_picture_features(mixed, image_encoder=encoder, tokens=True)
    parts = read_picture_features(mixed, image_encoder=encoder, tokens=True, batch_size=batch_size)
    np.testing.assert_allclose(parts.pooled, whole.pooled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(parts.tokens, whole.tokens, rtol=1e-4, atol=1e-5)
    assert parts.errors == whole.errors
    assert [bool(error) for error in whole.errors] == [False, True, *[False] * 4, True]
    assert whole.names[1] == "nowhere.jpg"


def test_a_stream_of_unknown_length_is_read_whole(encoder, pictures):
    many = 300  # more than there is room for at first
    stream = (pictures[number % 5] if number % 7 else "gone.jpg" for number in range(many))
    features = read_picture_features(stream, image_encoder=encoder, workers=0)
    listed = read_picture_features(pictures, image_encoder=encoder)
    assert len(features) == many
    assert [bool(error) for error in features.errors] == [n % 7 == 0 for n in range(many)]
    for row in (1, 255, 256, 257, 299):
        np.testing.assert_allclose(
            features.pooled[row], listed.pooled[row % 5], rtol=1e-4, atol=1e-5
        )


def test_pictures_none_of_which_can_be_read_still_have_a_row_and_the_right_shape(encoder):
    features = read_picture_features(
        ["a.jpg", "b.jpg"], image_encoder=encoder, tokens=True, crops="five"
    )
    good = read_picture_features(
        [np.zeros((9, 9, 3), np.uint8)], image_encoder=encoder, tokens=True, crops="five"
    )
    assert features.layout == good.layout
    assert len(features) == 2
    assert all(features.errors)
    assert np.isnan(features.pooled).all()


def test_a_picture_whose_features_are_not_finite_gets_an_error(odd):
    black, grey = np.zeros((9, 9, 3), np.uint8), np.full((9, 9, 3), 100, np.uint8)
    features = read_picture_features([grey, black, grey], image_encoder=odd)
    assert features.errors == ["", "its features are not finite", ""]


def test_files_arrays_and_images_are_pictures(encoder, pictures, tmp_path):
    Image.fromarray(pictures[0]).save(tmp_path / "a.png")
    pixels = torch.from_numpy(pictures[0]).permute(2, 0, 1)
    kinds = [
        tmp_path,
        tmp_path / "a.png",
        [Image.fromarray(pictures[0])],
        pictures[0],
        pictures[:1] / 255.0,
        [pictures[0] / 255.0],
        pixels,
        pixels[None] / 255.0,
        pd.DataFrame({"image": [str(tmp_path / "a.png")], "size": [3]}),
    ]
    for given in kinds:
        features = read_picture_features(given, image_encoder=encoder)
        assert features.errors == [""]
        np.testing.assert_allclose(
            features.pooled[0], expected(encoder, pictures[0]), rtol=1e-4, atol=1e-5
        )


def test_no_picture_at_all_is_an_error(encoder, tmp_path):
    with pytest.raises(PictureError, match="There is no picture"):
        read_picture_features([], image_encoder=encoder)
    with pytest.raises(PictureError, match="holds no picture"):
        read_picture_features(tmp_path, image_encoder=encoder)
    with pytest.raises(PictureError, match="cannot be read from an object of type NoneType"):
        read_picture_features(None, image_encoder=encoder)


def test_features_without_tokens_are_refused_where_tokens_are_needed():
    for given in (np.ones((3, 4)), PictureFeatures(np.ones((3, 4)))):
        with pytest.raises(OptionError, match=r"these features have none.*tokens=True"):
            read(given, tokens=True)


def test_a_tower_without_patches_is_refused_before_pictures_are_read(odd):
    def stream():
        raise AssertionError("a picture was read")
        yield

    with pytest.raises(OptionError, match=r"'odd.colour' gives none"):
        read_picture_features(stream(), image_encoder=odd, tokens=True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"crops": "nine"}, "crops='nine'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"workers": -1}, "workers=-1"),
        ({"weights": "elsewhere"}, "loaded already"),
    ],
)
def test_options_that_do_not_fit_are_refused(encoder, pictures, options, told):
    with pytest.raises(OptionError, match=told):
        read_picture_features(pictures, image_encoder=encoder, **options)


def test_crops_are_checked_for_features_too():
    with pytest.raises(OptionError, match="nine"):
        read(np.ones((3, 4)), crops="nine")
