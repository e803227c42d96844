"""What a gallery covers: spacing, density by continent, the ceiling of any search."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from geoembed.data import label_country, load_countries
from geoembed.errors import CoordinateError
from geoembed.extending.registry import gallery_spec
from geoembed.galleries import Gallery
from geoembed.galleries import coverage as coverage_module
from geoembed.galleries.builders import geoclip_100k, grid_places
from geoembed.galleries.coverage import THRESHOLDS_KM, coverage_of
from geoembed.geodesy import destination, distance_km


def covered(lonlat, counts=None, truth=None):
    lonlat = np.asarray(lonlat, dtype=np.float64)
    counts = np.ones(len(lonlat), dtype=np.int64) if counts is None else counts
    return coverage_of(lonlat, counts, None if truth is None else np.asarray(truth, np.float64))


def test_spacing_is_the_geodesic_to_the_nearest_other_place():
    random = np.random.default_rng(0)
    lonlat = np.column_stack([random.uniform(-180, 180, 200), random.uniform(-90, 90, 200)])
    lon, lat = lonlat.T
    every = distance_km(lon[:, None], lat[:, None], lon[None], lat[None])
    np.fill_diagonal(every, np.inf)
    expected = np.percentile(every.min(axis=1), [5, 50, 95])
    np.testing.assert_allclose(list(covered(lonlat).spacing_km.values()), expected, rtol=5e-3)


def test_neighbours_across_the_antimeridian_and_over_a_pole_are_neighbours():
    assert covered([[179.9, 0], [-179.9, 0]]).spacing_km[50] == pytest.approx(22.264, abs=1e-3)
    assert covered([[0, 89.9], [180, 89.9]]).spacing_km[50] == pytest.approx(22.339, abs=1e-3)


def test_a_single_place_has_no_spacing():
    assert np.isnan(covered([[0.0, 0.0]]).spacing_km[50])


def test_an_even_grid_is_equally_dense_on_every_continent():
    found = covered(grid_places(50.0).lonlat).continents
    land = found.drop(index="at sea")
    # One place a square of 50 km is 0.4 a 1,000 square kilometres. The grid is even on the sphere,
    # areas are measured on the ellipsoid: that makes 0.9 % less at the poles.
    np.testing.assert_allclose(land["per_1000_km2"], 0.4, rtol=0.015)
    assert found.loc["at sea", "places"] == 0
    assert found["share"].sum() == pytest.approx(1.0)


def test_continents_are_counted_as_places_are_labelled():
    places = geoclip_100k(gallery_spec("geoclip.100k"))
    found = coverage_of(places.lonlat, places.counts)
    labels = label_country(*places.lonlat.T, column="continent")
    for name, row in found.continents.iterrows():
        expected = (
            sum(label is None for label in labels) if name == "at sea" else (labels == name).sum()
        )
        assert row["places"] == expected
    assert (found.places, found.rows) == (94_123, 100_000)
    assert list(found.continents.index[:-1]) == sorted(set(load_countries()["continent"]))


def test_the_ceiling_is_the_share_of_truths_with_a_place_so_near():
    bearings = np.linspace(0, 360, 100, endpoint=False)
    for km in (0.9, 1.1, 24.9, 25.1, 199, 201, 749, 751, 2499, 2501):
        truth = np.column_stack(destination(30.0, 60.0, bearings, km))
        found = covered([[30.0, 60.0]], truth=truth)
        assert found.ceiling == {t: float(km <= t) for t in THRESHOLDS_KM}
        assert found.truths == 100
    mixed = covered([[0.0, 0.0]], truth=[[0, 0], [0, 0.1], [0, 1], [0, 90]])
    assert mixed.ceiling == {1.0: 0.25, 25.0: 0.5, 200.0: 0.75, 750.0: 0.75, 2500.0: 0.75}
    assert covered([[0.0, 0.0]]).ceiling == {}


def test_of_a_gallery_with_truths_in_any_crs(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path))
    gallery = Gallery.cities(1_000_000, encoder="xyz")
    truth = gallery.frame().geometry
    report = gallery.coverage_report(truth.to_crs(3857))
    assert report.ceiling[1.0] == 1.0
    assert report.places == len(gallery)
    assert "ceiling for" in str(report)
    assert "South America" in str(report)
    with pytest.raises(CoordinateError, match="no usable place"):
        gallery.coverage_report(gpd.GeoSeries([None], crs=4326))


@pytest.mark.parametrize("count", [1, 2, 7, 8, 100])
def test_looking_block_by_block_changes_nothing(monkeypatch, count):
    lonlat = np.random.default_rng(5).uniform((-180, -90), (180, 90), size=(count, 2))
    whole = coverage_of(lonlat, np.ones(count, np.int64))
    monkeypatch.setattr(coverage_module, "_BLOCK", 7)
    parts = coverage_of(lonlat, np.ones(count, np.int64))
    np.testing.assert_equal(parts.spacing_km, whole.spacing_km)
    pd.testing.assert_frame_equal(parts.continents, whole.continents)
    assert whole.continents["places"].sum() == count
