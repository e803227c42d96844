"""Tests of the plugin, run against geoembed itself."""

from importlib.metadata import version

import airportsdata
import geoembed_airports
import numpy as np
import pytest

import geoembed as ge
from geoembed.extending.registry import gallery_spec
from geoembed.galleries import load_gallery
from geoembed.geodesy import distance_km
from geoembed.testing import check_light_import, isolated_plugins
from geoembed.testing.galleries import check_gallery


@pytest.fixture(autouse=True)
def only_this_plugin(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    with isolated_plugins(geoembed_airports):
        yield


@pytest.mark.parametrize("name", ["airports", "airports.all"])
def test_the_contract_of_a_gallery_is_kept(name):
    check_gallery(name)


def test_every_airport_is_there_once():
    table = airportsdata.load("IATA").values()
    gallery = load_gallery("airports", encoder="xyz")
    assert gallery.counts.sum() == len(table)
    assert len(gallery) == len({(row["lon"], row["lat"]) for row in table})
    heathrow = airportsdata.load("IATA")["LHR"]
    assert distance_km(*gallery.lonlat.T, heathrow["lon"], heathrow["lat"]).min() == 0.0


def test_the_release_of_the_data_is_the_version_of_the_places():
    assert gallery_spec("airports").owner == "geoembed_airports 0"
    assert load_gallery("airports", encoder="xyz").places.version == version("airportsdata")


def test_places_are_found_by_their_vectors():
    gallery = load_gallery("airports", encoder="xyz")
    narita = ge.encode(lon=[140.386], lat=[35.765], encoder="xyz", normalize=True)
    _, rows = gallery.search(narita, 1)
    assert distance_km(*gallery.lonlat[rows[0, 0]], 140.386, 35.765) < 2.0
    assert np.isfinite(gallery.embeddings).all()


def test_importing_the_plugin_is_light():
    check_light_import("geoembed_airports")
