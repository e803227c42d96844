"""Blocks, equal points, order, means: on a cheap encoder whose answers are known."""

import numpy as np
import pytest

import geoembed as ge
from geoembed.encoders.base import LocationEncoder
from geoembed.encoders.blocks import encode_blocks, encode_means
from geoembed.errors import PluginError
from geoembed.extending.specs import LocationEncoderSpec

SPEC = LocationEncoderSpec(
    name="counting", factory="tests:none", dimension=3, summary="lon, lat and their sum"
)


class Counting(LocationEncoder):
    """Gives lon, lat and their sum; remembers every block it was asked for."""

    def __init__(self, **options):
        super().__init__(SPEC, **options)
        self.blocks = []

    def _encode_block(self, lonlat):
        assert not np.isnan(lonlat).any(), "no encoder ever sees NaN"
        assert lonlat.flags.c_contiguous
        self.blocks.append(len(lonlat))
        return np.column_stack([lonlat, lonlat.sum(axis=1)])


def run(lonlat, **options):
    encoder = Counting(**options)
    out = np.full((len(lonlat), 3), -1.0)
    encode_blocks(encoder, np.asarray(lonlat, float), out, progress=False)
    return encoder, out


def test_rows_come_back_in_their_order_whatever_the_block_size():
    lonlat = np.random.default_rng(0).uniform(-80, 80, (1000, 2))
    for block_size in (1, 7, 999, 1000, 5000):
        encoder, out = run(lonlat, block_size=block_size)
        np.testing.assert_array_equal(out, np.column_stack([lonlat, lonlat.sum(axis=1)]))
        assert max(encoder.blocks) <= block_size


def test_equal_points_are_computed_once_and_fill_all_their_rows():
    distinct = np.random.default_rng(1).uniform(-80, 80, (10, 2))
    which = np.random.default_rng(2).integers(0, 10, 5000)
    encoder, out = run(distinct[which], block_size=4)
    assert sum(encoder.blocks) == 10
    np.testing.assert_array_equal(out[:, :2], distinct[which])


def test_both_sides_of_the_antimeridian_stay_apart_and_zeros_do_not():
    encoder, _ = run([[180.0, 5.0], [-180.0, 5.0], [0.0, 1.0], [-0.0, 1.0]])
    assert sum(encoder.blocks) == 3


def test_nan_rows_give_nan_and_are_never_computed():
    lonlat = np.array([[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0], [np.nan, np.nan], [1.0, 2.0]])
    encoder, out = run(lonlat, block_size=2)
    assert sum(encoder.blocks) == 2
    assert np.isnan(out[[1, 3]]).all()
    np.testing.assert_array_equal(out[[0, 2, 4]], [[1, 2, 3], [3, 4, 7], [1, 2, 3]])


def test_only_nan_rows_and_no_rows():
    assert np.isnan(run([[np.nan, np.nan]] * 3)[1]).all()
    assert run(np.empty((0, 2)))[1].shape == (0, 3)


@pytest.mark.parametrize("block_size", [1, 3, 8, 100])
def test_means_over_owners(block_size):
    owner = np.array([0, 0, 0, 2, 3, 3, 3, 3, 3])
    lonlat = np.arange(18.0).reshape(9, 2)
    out = np.zeros((5, 3))
    encode_means(Counting(block_size=block_size), lonlat, owner, out, progress=False)
    np.testing.assert_allclose(out[0, :2], lonlat[:3].mean(axis=0))
    np.testing.assert_allclose(out[2, :2], lonlat[3])
    np.testing.assert_allclose(out[3, :2], lonlat[4:].mean(axis=0))
    assert np.isnan(out[[1, 4]]).all(), "rows that own no point have no mean"


def test_rows_that_own_equal_points_are_computed_once():
    kinds = [np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([[2.0, 3.0], [0.0, 1.0]])]
    kinds += [np.array([[5.0, 5.0]]), np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])]
    which = np.random.default_rng(0).integers(0, 4, 500)
    owner = np.repeat(np.arange(500), [len(kinds[k]) for k in which])
    lonlat = np.concatenate([kinds[k] for k in which])
    out = np.zeros((500, 3))
    encoder = Counting(block_size=3)
    encode_means(encoder, lonlat, owner, out, progress=False)
    assert sum(encoder.blocks) == 2 + 2 + 1 + 3
    np.testing.assert_allclose(out[:, :2], [kinds[k].mean(axis=0) for k in which])


def test_rows_that_own_one_point_each_are_points():
    lonlat = np.array([[1.0, 2.0], [1.0, 2.0], [np.nan, np.nan]])
    out = np.zeros((3, 3))
    encoder = Counting()
    encode_means(encoder, lonlat, np.arange(3), out, progress=False)
    assert sum(encoder.blocks) == 1
    np.testing.assert_array_equal(out, [[1, 2, 3], [1, 2, 3], [np.nan] * 3])


def test_an_encoder_cannot_change_the_places_it_is_given():
    class Careless(Counting):
        def _encode_block(self, lonlat):
            vectors = super()._encode_block(lonlat)
            lonlat[:] = 0.0
            return vectors

    lonlat = np.array([[1.0, 2.0], [3.0, 4.0]])
    encode_blocks(Careless(), lonlat, np.zeros((2, 3)), progress=False)
    np.testing.assert_array_equal(lonlat, [[1, 2], [3, 4]])


@pytest.mark.parametrize("answer", [None, [[1.0, 2.0, 3.0]], np.ones((1, 3), complex)])
def test_an_encoder_that_returns_no_real_array_is_named(answer):
    class Odd(Counting):
        def _encode_block(self, lonlat):
            return answer

    with pytest.raises(PluginError, match=r"'counting' \(Odd\) returned .*an array of real"):
        Odd().encode([1.0], [2.0])


def test_the_mean_of_an_owner_with_a_missing_point_is_missing():
    out = np.zeros((2, 3))
    lonlat = np.array([[1.0, 1.0], [np.nan, np.nan], [2.0, 2.0]])
    encode_means(Counting(), lonlat, np.array([0, 0, 1]), out, progress=False)
    assert np.isnan(out[0]).all()
    np.testing.assert_array_equal(out[1], [2, 2, 4])


def test_normalising_comes_after_the_mean():
    out = np.zeros((1, 3))
    lonlat = np.array([[0.0, 30.0], [30.0, 0.0]])
    encode_means(Counting(normalize=True), lonlat, np.array([0, 0]), out, progress=False)
    np.testing.assert_allclose(out[0], np.array([15, 15, 30]) / np.linalg.norm([15, 15, 30]))


def test_values_are_cast_to_the_output_type():
    encoder = Counting(dtype="float16")
    assert encoder.encode([10.0], [20.0]).dtype == np.float16


def test_a_zero_vector_stays_zero_when_normalised():
    np.testing.assert_array_equal(Counting(normalize=True).encode([0.0], [0.0]), [[0, 0, 0]])


def test_an_encoder_that_returns_the_wrong_shape_is_named():
    class Short(Counting):
        def _encode_block(self, lonlat):
            return lonlat[:, :1]

    with pytest.raises(
        PluginError, match=r"'counting' \(Short\).*\(2, 1\) for 2 places, expected \(2, 3\)"
    ):
        Short().encode([1.0, 2.0], [3.0, 4.0])


def test_a_bar_is_drawn_only_if_asked_in_a_pipe(capsys):
    lonlat = np.random.default_rng(0).uniform(-80, 80, (50, 2))
    encode_blocks(Counting(), lonlat, np.empty((50, 3)), progress=None)
    assert capsys.readouterr().err == ""
    encode_blocks(Counting(), lonlat, np.empty((50, 3)), progress=True)
    assert "50.0/50.0" in capsys.readouterr().err


@pytest.mark.parametrize("block_size", [1, 100, 2048, 5000])
def test_block_size_and_row_order_change_the_trained_vectors_within_tolerance(block_size):
    rng = np.random.default_rng(5)
    lon, lat = rng.uniform(-180, 180, 300), rng.uniform(-90, 90, 300)
    whole = ge.encode(lon, lat, device="cpu")
    other = ge.encode(lon[::-1], lat[::-1], device="cpu", block_size=block_size)[::-1]
    errors = np.linalg.norm(whole - other, axis=1) / np.linalg.norm(whole, axis=1)
    # Matrix products of other shapes sum in another order: 3e-6 was the most ever seen.
    assert errors.max() <= 5e-6
