"""Credible regions: what they hold, and that maps can show them."""

import geopandas as gpd
import numpy as np
import pytest
import shapely

from geoembed.errors import OptionError
from geoembed.geolocation.density import EarthDensity
from geoembed.geolocation.regions import credible_regions


@pytest.fixture(scope="module")
def density():
    rng = np.random.default_rng(0)
    places = np.column_stack([rng.uniform(-180, 180, 300), rng.uniform(-70, 75, 300)])
    return EarthDensity(places, cell_km=200.0, support="sphere")


@pytest.fixture(scope="module")
def mass(density):
    # A hill on the antimeridian, one at the pole, and nothing at all.
    lon, lat = density.cells.centres(density.cell).T
    away = np.minimum(np.abs(lon - 180.0), np.abs(lon + 180.0))
    hills = [np.exp(-((away / 6.0) ** 2) - (lat / 6.0) ** 2), np.exp((lat - 90.0) / 3.0)]
    rows = np.stack([*hills, np.ones(len(lon))]) * density.areas_km2
    return rows / rows.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def regions(density, mass):
    return credible_regions(density, mass, names=["seam", "pole", "flat"])


def test_columns_and_order(regions):
    assert list(regions.columns) == ["query", "share", "mass", "area_km2", "geometry"]
    assert regions["query"].tolist() == ["seam", "seam", "pole", "pole", "flat", "flat"]
    assert regions["share"].tolist() == [0.5, 0.9] * 3
    assert regions.crs.to_epsg() == 4326


def test_they_hold_what_they_say(regions, density, mass):
    largest = np.repeat(mass.max(axis=1), 2)
    over = regions["mass"].to_numpy() - regions["share"].to_numpy()
    assert (over >= -1e-12).all()
    assert (over <= largest).all()
    # Summed again from the cells whose middle lies in the polygons.
    middles = density.cells.centres(density.cell)
    for row, region in enumerate(regions.itertuples()):
        inside = shapely.contains_xy(region.geometry, *middles.T)
        assert mass[row // 2, inside].sum() == pytest.approx(region.mass, abs=1e-12)
        assert density.areas_km2[inside].sum() == pytest.approx(region.area_km2, rel=1e-12)


def test_no_smaller_region_would_do(regions, density, mass):
    heights = mass / density.areas_km2
    middles = density.cells.centres(density.cell)
    for row, region in enumerate(regions.itertuples()):
        inside = shapely.contains_xy(region.geometry, *middles.T)
        assert heights[row // 2, inside].min() >= heights[row // 2, ~inside].max() - 1e-18


def test_polygons_are_valid_and_cut(regions):
    assert regions.geometry.is_valid.all()
    assert set(regions.geom_type) == {"MultiPolygon"}
    west, south, east, north = regions.total_bounds
    assert (west, east) == (-180.0, 180.0)
    assert south >= -90.0
    assert north == 90.0
    seam = regions.geometry.iloc[0]
    # Two sides of one hill, and no stripe around the world between them.
    assert not shapely.intersects(seam, shapely.box(-150, -90, 150, 90))


def test_nested(regions):
    for at in (0, 2, 4):
        small, large = regions.geometry.iloc[[at, at + 1]]
        assert small.difference(large).area < 1e-9


def test_cells_are_joined(regions):
    # Joined cells leave few polygons; a hill at the pole is one piece.
    assert len(regions.geometry.iloc[2].geoms) == 1
    assert len(regions.geometry.iloc[0].geoms) == 2


def test_they_can_be_written(regions, tmp_path):
    path = tmp_path / "regions.gpkg"
    regions.to_file(path)
    again = gpd.read_file(path)
    np.testing.assert_allclose(again["area_km2"], regions["area_km2"])


def test_unnamed_queries_are_numbered(density, mass):
    assert credible_regions(density, mass[:2], shares=(0.5,))["query"].tolist() == ["0", "1"]


def test_bad_input(density, mass):
    with pytest.raises(OptionError, match="one a cell"):
        credible_regions(density, mass[:, :5])
    with pytest.raises(OptionError, match="strictly between 0 and 1"):
        credible_regions(density, mass, shares=(0.5, 1.0))
    with pytest.raises(OptionError, match="2 entries for 3 queries"):
        credible_regions(density, mass, names=["a", "b"])
