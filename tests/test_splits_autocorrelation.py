"""Ranges of random fields whose range is known, and the blocks that follow from them."""

import numpy as np
import pandas as pd
import pytest

from geoembed.errors import OptionError, TableError, TargetError
from geoembed.geodesy import great_circle_km
from geoembed.splits import autocorrelation_range_km, suggest_block_km
from geoembed.splits.blocks import equal_area_blocks


def field(range_km, seed, *, n=600, nugget=0.1):
    """Places in a window across the antimeridian, and an exponential field of that range."""
    rng = np.random.default_rng(seed)
    lon = rng.uniform(150, 210, n)
    lonlat = np.column_stack([lon, np.degrees(np.arcsin(rng.uniform(-0.5, 0.5, n)))])
    apart = great_circle_km(
        lonlat[:, None, 0], lonlat[:, None, 1], lonlat[None, :, 0], lonlat[None, :, 1]
    )
    covariance = (1 - nugget) * np.exp(-3 * apart / range_km) + (nugget + 1e-9) * np.eye(n)
    return lonlat, np.linalg.cholesky(covariance) @ rng.normal(size=n)


@pytest.mark.parametrize("range_km", [500.0, 1000.0, 2500.0])
def test_a_known_range_is_found(range_km):
    found = [autocorrelation_range_km(*field(range_km, seed)) for seed in range(5)]
    # One realisation in a window of 6,000 km says only so much about the field.
    assert np.median(found) == pytest.approx(range_km, rel=0.25)


def test_ranks_make_it_deaf_to_outliers_and_to_scale():
    lonlat, values = field(1000, 0)
    found = autocorrelation_range_km(lonlat, values)
    assert autocorrelation_range_km(lonlat, np.exp(9 * values)) == found
    assert autocorrelation_range_km(lonlat, np.column_stack([values, 3 - values])) == found
    constant_beside = np.column_stack([values, np.ones(600)])
    assert autocorrelation_range_km(lonlat, constant_beside) == found


def test_noise_has_no_range():
    lonlat, _ = field(1000, 0)
    found = [
        autocorrelation_range_km(lonlat, np.random.default_rng(seed).normal(size=600))
        for seed in range(10)
    ]
    assert np.median(found) == 0.0
    noise = np.random.default_rng(0).normal(size=600)
    # Blocks then need only hold more than one place: places are about 130 km apart.
    assert 150 < suggest_block_km(lonlat, noise) < 400


def test_labels_have_a_range_as_well():
    lonlat, values = field(1000, 3)
    labels = pd.Series(np.where(values > 0, "forest", "steppe"))
    found = autocorrelation_range_km(lonlat, labels)
    assert 500 < found < 2000
    assert autocorrelation_range_km(lonlat, labels == "forest") == found
    frame = pd.DataFrame(lonlat, columns=["lon", "lat"]).assign(cover=labels.to_numpy())
    assert autocorrelation_range_km(frame, "cover") == found


def test_a_suggestion_is_the_range_where_enough_blocks_hold_places():
    lonlat, values = field(500, 1)
    found = autocorrelation_range_km(lonlat, values)
    assert suggest_block_km(lonlat, values) == pytest.approx(found, rel=0.05)
    trend = lonlat[:, 1]
    assert autocorrelation_range_km(lonlat, trend) > 2000
    for n_splits in (2, 5, 10):
        block_km = suggest_block_km(lonlat, trend, n_splits=n_splits)
        assert len(np.unique(equal_area_blocks(lonlat, block_km))) >= 4 * n_splits


def test_a_large_table_is_sampled_by_the_seed():
    rng = np.random.default_rng(0)
    lonlat = np.column_stack([rng.uniform(-180, 180, 30000), rng.uniform(-60, 60, 30000)])
    values = np.sin(np.radians(6 * lonlat[:, 0])) + 0.1 * rng.normal(size=30000)
    first = autocorrelation_range_km(lonlat, values, random_state=1)
    assert autocorrelation_range_km(lonlat, values, random_state=1) == first
    other = autocorrelation_range_km(lonlat, values, random_state=2)
    assert other == pytest.approx(first, rel=0.25)


FRAME = pd.DataFrame({"lon": range(60), "lat": range(60)}, index=[f"p{k}" for k in range(60)])


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ("rain", TableError, "y='rain' is no column"),
        (np.ones(60), TargetError, "y is the same everywhere"),
        (["a"] * 60, TargetError, "y is the same everywhere"),
        (np.arange(59), TargetError, "y holds 59 values for 60 places"),
        (
            np.where(np.arange(60) == 7, np.nan, 1.5 * np.arange(60)),
            TargetError,
            "missing or infinite in 1 of 60 rows: row 'p7'",
        ),
        (np.where(np.arange(60) == 7, np.inf, 0), TargetError, "missing or infinite in 1"),
        ([None, *"ab" * 29, "c"], TargetError, "missing or infinite in 1 of 60 rows: row 'p0'"),
        (pd.DataFrame({"a": ["x"] * 60, "b": ["y"] * 60}), TargetError, "one column of labels"),
    ],
)
def test_values_that_do_not_fit_are_refused(y, error, message):
    for function in (autocorrelation_range_km, suggest_block_km):
        with pytest.raises(error, match=message):
            function(FRAME, y)


def test_too_few_places_are_refused_and_one_place():
    with pytest.raises(TargetError, match="No range can be seen in 3 places, 50 are needed"):
        suggest_block_km([[0, 0], [1, 1], [2, 2]], [1, 2, 3])
    with pytest.raises(OptionError, match="n_splits=0 must be"):
        suggest_block_km(FRAME, np.arange(60), n_splits=0)
    with pytest.raises(TargetError, match="All 60 places are one and the same"):
        autocorrelation_range_km(np.zeros((60, 2)), np.arange(60))


def test_places_at_two_distances_show_none():
    places = np.repeat([[0.0, 0.0], [10.0, 0.0]], 30, axis=0)
    assert autocorrelation_range_km(places, np.arange(60)) == 0.0
