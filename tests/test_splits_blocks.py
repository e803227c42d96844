"""Blocks of the Earth: equal areas, no border along the antimeridian, one block at a pole."""

import sys

import h3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoembed.coordinates import read_places
from geoembed.errors import MissingExtraError, OptionError
from geoembed.geodesy import EARTH_RADIUS_KM, destination, great_circle_km
from geoembed.splits.blocks import (
    choose_blocks,
    degree_blocks,
    equal_area_blocks,
    h3_blocks,
)

often = settings(deadline=None, max_examples=60)
SPHERE = 4 * np.pi * EARTH_RADIUS_KM**2
# Multiples of 1/64 keep every digit when turns are added.
LONGITUDES = st.integers(-180 * 64, 180 * 64).map(lambda k: k / 64)
LATITUDES = st.integers(-90 * 64, 90 * 64).map(lambda k: k / 64)
SIZES = st.sampled_from([30.0, 250.0, 500.0, 1000.0, 5000.0, 12000.0, 16000.0, 40000.0])


@pytest.mark.parametrize("block_km", [500.0, 1000.0, 3000.0, 8000.0, 12000.0, 16000.0])
def test_areas_are_equal_by_integration_on_a_fine_grid(block_km):
    step = 0.1 if block_km <= 1000 else 0.25
    lon = np.arange(-180 + step / 2, 180, step)
    areas = {}
    for lat in np.arange(-90 + step / 2, 90, step):
        # The exact area between two parallels, per cell of the grid.
        strip = np.sin(np.radians(lat + step / 2)) - np.sin(np.radians(lat - step / 2))
        cell = strip * np.radians(step) * EARTH_RADIUS_KM**2
        ids = equal_area_blocks(np.column_stack([lon, np.full_like(lon, lat)]), block_km)
        for block, count in zip(*np.unique(ids, return_counts=True), strict=True):
            areas[block] = areas.get(block, 0.0) + cell * count
    found = np.array(list(areas.values()))
    wanted = SPHERE / round(SPHERE / block_km**2)
    assert sorted(areas) == list(range(len(areas)))
    assert len(areas) == round(SPHERE / block_km**2)
    # Only the grid is at fault: a block of 500 km is 45 of its cells wide.
    tolerance = 0.06 if block_km == 500 else 0.03
    np.testing.assert_allclose(found, wanted, rtol=tolerance)
    assert found.sum() == pytest.approx(SPHERE, rel=1e-9)


def test_blocks_are_compact():
    rng = np.random.default_rng(0)
    lonlat = np.column_stack(
        [rng.uniform(-180, 180, 20000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20000)))]
    )
    ids = equal_area_blocks(lonlat, 1000.0)
    for block in np.unique(ids)[::10]:
        lon, lat = lonlat[ids == block].T
        across = great_circle_km(lon[:, None], lat[:, None], lon, lat).max()
        assert across < 2.0 * 1000.0


@pytest.mark.parametrize("block_km", [250.0, 500.0, 1000.0])
def test_neighbours_across_the_antimeridian_are_parted_no_more_often_than_elsewhere(block_km):
    lat = np.linspace(-89, 89, 4001)
    parted = {}
    for lon in (180.0, 0.0, 77.7):
        west = np.column_stack(destination(lon, lat, -90.0, 0.5))
        east = np.column_stack(destination(lon, lat, 90.0, 0.5))
        parted[lon] = (
            equal_area_blocks(west, block_km) != equal_area_blocks(east, block_km)
        ).mean()
    assert max(parted.values()) < 0.1


@often
@given(LONGITUDES, LATITUDES, st.integers(-3, 3), SIZES)
def test_both_names_of_a_place_give_one_block(lon, lat, turns, block_km):
    places = read_places([[lon, lat], [lon + 360.0 * turns, lat]]).lonlat
    seam = np.array([[180.0, lat], [-180.0, lat]])
    poles = np.array([[lon, 90.0], [0.0, 90.0], [lon, -90.0], [0.0, -90.0]])
    for blocks in (lambda p: equal_area_blocks(p, block_km), lambda p: degree_blocks(p, 10)):
        assert np.ptp(blocks(places)) == 0
        assert np.ptp(blocks(seam)) == 0
        assert blocks(poles)[0] == blocks(poles)[1]
        assert blocks(poles)[2] == blocks(poles)[3]


def test_a_few_ulps_from_the_start_of_a_band_stay_inside_the_band():
    lonlat = np.column_stack([np.full(100, -1e-300), np.linspace(-90, 90, 100)])
    ids = equal_area_blocks(lonlat, 1000.0)
    assert ids.min() == 0
    assert ids.max() == 509
    south = equal_area_blocks(np.array([[0.0, -90.0]]), 1000.0)
    assert (ids == south).sum() < 5


def test_degree_blocks_are_those_of_the_published_set_ups():
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(-180, 180, 2000), rng.uniform(-90, 90, 2000)
    published = np.floor(lat / 10) * 1000 + np.floor(lon / 10)
    ids = degree_blocks(np.column_stack([lon, lat]), 10)
    pairs = np.unique(np.column_stack([published, ids]), axis=0)
    assert len(pairs) == len(np.unique(published)) == len(np.unique(ids))
    assert ids.max() < 36 * 18


def test_h3_blocks_are_h3s_own():
    cells = [h3.latlng_to_cell(lat, lon, 2) for lon, lat in [(180, -17), (-180, -17), (0, 90)]]
    found = h3_blocks(np.array([[180.0, -17.0], [-180.0, -17.0], [0.0, 90.0]]), 2)
    assert [h3.int_to_str(int(cell)) for cell in found] == cells
    assert found[0] == found[1]


def test_without_h3_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "h3.api.basic_int", None)
    with pytest.raises(MissingExtraError, match=r"h3_resolution= needs .*geoembed\[h3\]"):
        h3_blocks(np.array([[0.0, 0.0]]), 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((500, 10, None), "block_km= and block_deg= exclude each other"),
        ((None, 10, 3), "block_deg= and h3_resolution= exclude each other"),
        ((0, None, None), "block_km=0 must be a number of kilometres, 0.1 or more"),
        ((np.nan, None, None), "block_km=nan must be"),
        ((np.inf, None, None), "block_km=inf must be"),
        (("500", None, None), "block_km='500' must be"),
        ((True, None, None), "block_km=True must be"),
        ((None, 7, None), r"block_deg=7 does not divide 180 degrees.*take 6\.92308"),
        ((None, 0, None), "block_deg=0 must be a number of degrees"),
        ((None, 360, None), "block_deg=360 must be a number of degrees"),
        ((None, None, 16), "h3_resolution=16 must be a whole number from 0"),
        ((None, None, 2.5), "h3_resolution=2.5 must be a whole number"),
        ((None, None, True), "h3_resolution=True must be a whole number"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        choose_blocks(*options)


def test_blocks_name_themselves():
    assert str(choose_blocks(None, None, None)) == "blocks of 500 km"
    assert str(choose_blocks(None, 0.5, None)) == "blocks of 0.5 degrees"
    assert str(choose_blocks(None, None, 3)) == "H3 cells of resolution 3"
