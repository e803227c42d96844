"""Arrays and tensors become pictures only where their values have one meaning."""

import numpy as np
import pytest
import torch

from geoembed.errors import PictureError
from geoembed.images.arrays import image_from_array, image_from_tensor, is_tensor

LIMIT = 10**6


def read(array):
    return np.asarray(image_from_array(array, max_pixels=LIMIT))


def test_bytes_are_kept_as_they_are_and_copied():
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    image = image_from_array(array, max_pixels=LIMIT)
    expected = array.copy()
    array[:] = 0
    assert (np.asarray(image) == expected).all()


@pytest.mark.parametrize(
    "shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)], ids=["grey", "one", "rgb", "rgba"]
)
def test_layouts(shape):
    image = image_from_array(np.zeros(shape, np.uint8), max_pixels=LIMIT)
    assert image.size == (5, 4)
    assert (
        image.mode
        == {2: "L", 1: "L", 3: "RGB", 4: "RGBA"}[len(shape[:2]) if len(shape) == 2 else shape[2]]
    )


def test_views_with_strides_are_read_right():
    array = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert (read(array[::-1, ::2]) == array[::-1, ::2]).all()
    assert (read(array.transpose(1, 0, 2)) == array.transpose(1, 0, 2)).all()


def test_every_16_bit_level_is_rounded_to_the_nearest():
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.floor(levels / 257 + 0.5)
    assert (read(levels) == expected).all()
    assert (read(levels.astype(">u2")) == expected).all()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_every_level_survives_as_a_float(kind):
    levels = np.arange(256).reshape(16, 16)
    assert (read((levels / 255).astype(kind)) == levels).all()


def test_rounding_beyond_the_range_is_forgiven_and_no_more():
    assert read(np.array([[-1e-6, 1 + 1e-6]])).tolist() == [[0, 255]]
    with pytest.raises(PictureError, match=r"run from 0 to 255, and floats must lie in \[0, 1\]"):
        read(np.array([[0.0, 255.0]]))
    with pytest.raises(PictureError, match="run from -1 to 1"):
        read(np.array([[-1.0, 1.0]]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value):
    array = np.zeros((2, 3, 3))
    array[1, 2, 0] = value
    with pytest.raises(PictureError, match="1 of its 18 values are NaN or infinite"):
        read(array)


def test_masked_values_are_refused_and_masks_without_any_are_not():
    array = np.ma.zeros((2, 2), np.uint8)
    assert (read(array) == 0).all()
    array[0, 0] = np.ma.masked
    with pytest.raises(PictureError, match="1 of its 4 values are masked"):
        read(array)


@pytest.mark.parametrize("kind", [bool, np.int16, np.int32, np.int64, np.uint32, complex, object])
def test_types_without_a_known_range_are_refused(kind):
    with pytest.raises(PictureError, match="whose range is not known. Use uint8"):
        read(np.zeros((2, 2), kind))


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), (2, 2, 5), (2, 2, 2, 3), ()])
def test_wrong_shapes_are_named(shape):
    with pytest.raises(PictureError, match="The array has the shape"):
        read(np.zeros(shape, np.uint8))


def test_channels_first_gets_the_remedy():
    with pytest.raises(PictureError, match=r"np.moveaxis\(array, 0, -1\)"):
        read(np.zeros((3, 8, 9), np.uint8))


def test_no_pixels_and_too_many():
    with pytest.raises(PictureError, match="has no pixels"):
        read(np.zeros((0, 5, 3), np.uint8))
    # Broadcast: it takes no memory, and must be refused before it does.
    huge = np.broadcast_to(np.uint8(0), (10**6, 10**6))
    with pytest.raises(PictureError, match="1000000 x 1000000 pixels, more than the limit"):
        read(huge)


# -- tensors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_of_floats(kind):
    tensor = torch.zeros(3, 2, 4, dtype=kind)
    tensor[0] = 1.0
    image = image_from_tensor(tensor, max_pixels=LIMIT)
    assert image.size == (4, 2)
    assert image.getpixel((3, 1)) == (255, 0, 0)


def test_tensors_of_bytes_with_gradients_and_of_one_channel():
    tensor = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4)
    image = image_from_tensor(tensor, max_pixels=LIMIT)
    assert (np.asarray(image) == tensor.permute(1, 2, 0).numpy()).all()
    assert image_from_tensor(torch.zeros(1, 2, 4), max_pixels=LIMIT).mode == "L"
    assert image_from_tensor(torch.zeros(2, 4), max_pixels=LIMIT).mode == "L"
    graded = torch.zeros(3, 2, 4, requires_grad=True)
    assert image_from_tensor(graded, max_pixels=LIMIT).mode == "RGB"


def test_tensors_of_other_shapes_get_the_remedy():
    with pytest.raises(PictureError, match="looks like channels last: use .permute"):
        image_from_tensor(torch.zeros(8, 9, 3), max_pixels=LIMIT)
    with pytest.raises(PictureError, match=r"batch of tensors, of shape \(2, 3, 8, 9\)"):
        image_from_tensor(torch.zeros(2, 3, 8, 9), max_pixels=LIMIT)
    with pytest.raises(PictureError, match=r"The tensor has the shape \(5, 8, 9\)"):
        image_from_tensor(torch.zeros(5, 8, 9), max_pixels=LIMIT)
    tensor = torch.zeros(3, 2, 3)
    tensor[0, 0, 0] = torch.nan
    with pytest.raises(PictureError, match="1 of its 18 values are NaN"):
        image_from_tensor(tensor, max_pixels=LIMIT)
    with pytest.raises(PictureError, match="more than the limit"):
        image_from_tensor(torch.zeros(3, 2, 3), max_pixels=5)


def test_a_tensor_is_known_by_its_kind():
    assert is_tensor(torch.zeros(1))
    assert is_tensor(torch.nn.Parameter(torch.zeros(1)))
    assert not is_tensor(np.zeros(1))
