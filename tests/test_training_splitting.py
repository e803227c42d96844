"""Splits of training data: whole blocks, a buffer, nested shares, nothing lost."""

import numpy as np
import pytest
from pyproj import Geod

from geoembed.errors import OptionError
from geoembed.splits.blocks import degree_blocks, equal_area_blocks
from geoembed.training.settings import DataSettings
from geoembed.training.splitting import split_rows


def settings(**fields):
    return DataSettings(path="x", **fields)


@pytest.fixture(scope="module")
def lonlat():
    rng = np.random.default_rng(0)
    lon = rng.uniform(-180, 180, 3000)
    return np.column_stack([lon, np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"validation": 0.0},
        {"validation": 0.3, "buffer_km": 300.0},
        {"block_deg": 10.0, "fraction": 0.2},
        {"buffer_km": 100.0, "fraction": 0.05, "split_seed": 3},
    ],
)
def test_every_row_is_in_exactly_one_part(lonlat, fields):
    split = split_rows(lonlat, settings(**fields))
    parts = [split.train, split.validation, split.left_out, split.unused]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lonlat)))
    assert all((np.diff(part) > 0).all() for part in parts)
    assert sum(split.sizes().values()) == len(lonlat)
    assert split.sizes()["train"] == len(split.train) > 0


@pytest.mark.parametrize(
    ("fields", "blocks"),
    [
        ({"block_km": 800.0}, lambda places: equal_area_blocks(places, 800.0)),
        ({"block_deg": 10.0}, lambda places: degree_blocks(places, 10.0)),
    ],
)
def test_blocks_are_held_out_whole(lonlat, fields, blocks):
    split = split_rows(lonlat, settings(validation=0.2, **fields))
    ids = blocks(lonlat)
    assert not set(ids[split.train]) & set(ids[split.validation])
    assert abs(len(split.validation) / len(lonlat) - 0.2) < 0.01


def test_the_buffer_keeps_training_away(lonlat):
    split = split_rows(lonlat, settings(validation=0.1, buffer_km=250.0))
    geod = Geod(ellps="WGS84")

    def nearest(rows):
        held = lonlat[split.validation]
        return np.array(
            [
                geod.inv(
                    *np.repeat(lonlat[row][:, None], len(held), axis=1), held[:, 0], held[:, 1]
                )[2].min()
                for row in rows
            ]
        )

    assert len(split.left_out) > 20
    assert (nearest(split.left_out) <= 250_000).all()
    assert (nearest(split.train[::10]) > 250_000).all()


def test_smaller_shares_are_parts_of_larger_ones(lonlat):
    shares = (0.05, 0.1, 0.2, 0.5, 1.0)
    splits = [split_rows(lonlat, settings(fraction=share)) for share in shares]
    whole = splits[-1]
    for share, small, large in zip(shares, splits, splits[1:], strict=False):
        assert set(small.train) < set(large.train)
        assert len(small.train) == round(share * len(whole.train))
        assert small.validation.tolist() == whole.validation.tolist()
    other = split_rows(lonlat, settings(fraction=0.05, split_seed=1))
    assert set(other.train) != set(splits[0].train)


def test_shares_are_spread_over_the_earth(lonlat):
    whole = split_rows(lonlat, settings())
    half = split_rows(lonlat, settings(fraction=0.5))
    assert abs((lonlat[half.train, 0] > 0).mean() - (lonlat[whole.train, 0] > 0).mean()) < 0.06


def test_the_same_seed_gives_the_same_split(lonlat):
    one, again, other = (
        split_rows(lonlat, settings(split_seed=seed)).validation.tolist() for seed in (4, 4, 5)
    )
    assert one == again != other


def test_no_validation_trains_on_everything(lonlat):
    split = split_rows(lonlat, settings(validation=0.0))
    assert split.sizes() == {"train": 3000, "validation": 0, "left_out": 0, "unused": 0}
    assert split.train.dtype == split.validation.dtype == np.int64


def test_a_tiny_share_keeps_one_row(lonlat):
    assert len(split_rows(lonlat[:20], settings(validation=0.0, fraction=1e-6)).train) == 1


@pytest.mark.parametrize(
    ("places", "fields", "message"),
    [
        (np.empty((0, 2)), {}, r"The data have no rows"),
        (
            np.array([[2.0, 48.0]]),
            {},
            r"The 1 place cannot be split .*validation = 0.1.*There are too few",
        ),
        (
            np.array([[2.0, 48.0], [2.1, 48.0]]),
            {},
            r"2 blocks at least, .* lie in 1 .*Choose smaller",
        ),
        (
            np.array([[2.0, 48.0], [12.1, 48.0]]),
            {"buffer_km": 5000.0},
            r"buffer_km=5000 leaves nothing to train on",
        ),
        (
            np.array([[2.0, 48.0], [12.1, 48.0]]),
            {"block_deg": 7.0},
            r"block_deg=7.0 does not divide 180",
        ),
        (np.array([[2.0, 48.0], [12.1, 48.0]]), {"validation": 1.0}, r"test_size=1.0 must be"),
    ],
)
def test_what_cannot_be_split_says_why(places, fields, message):
    with pytest.raises(OptionError, match=message):
        split_rows(places, settings(**fields))


def test_one_place_trains_without_validation():
    split = split_rows(np.array([[2.0, 48.0]]), settings(validation=0.0))
    assert split.train.tolist() == [0]
