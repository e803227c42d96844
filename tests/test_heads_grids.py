import geopandas as gpd
import numpy as np
import pytest
import rasterio.transform
import shapely
from pyproj import Transformer

from geoembed.errors import CoordinateError, OptionError
from geoembed.heads.files.grids import make_grid, make_mask


def test_grid_lines_lie_on_multiples_of_the_resolution_and_hold_the_bounds():
    grid = make_grid((5.93, 45.82, 10.49, 47.81), None, 4326, 0.1)
    assert (grid.width, grid.height) == (46, 21)
    assert grid.west == pytest.approx(5.9)
    assert grid.north == pytest.approx(47.9)
    other = make_grid((7.01, 46.3, 8.0, 47.0), None, 4326, 0.1)
    # Two maps of one resolution fit together.
    offset = (other.west - grid.west) / 0.1
    assert offset == pytest.approx(round(offset), abs=1e-6)


def test_bounds_on_grid_lines_get_no_cell_more():
    grid = make_grid((0.3, -0.6, 0.9, 0.0), None, 4326, 0.1)
    assert (grid.width, grid.height) == (6, 6)


def test_centres_are_those_of_rasterio():
    grid = make_grid((5.9, 45.8, 10.5, 47.8), None, 4326, (0.2, 0.1))
    rows, columns = np.divmod(np.arange(grid.height * grid.width), grid.width)
    lon, lat = rasterio.transform.xy(grid.transform, rows, columns)
    np.testing.assert_allclose(grid.centres(0, grid.height), np.column_stack([lon, lat]), atol=1e-9)


def test_centres_of_a_projected_grid_are_converted():
    grid = make_grid((2_500_000, 1_100_000, 2_600_000, 1_150_000), None, 2056, 10_000)
    assert (grid.width, grid.height) == (10, 5)
    to_swiss = Transformer.from_crs(4326, 2056, always_xy=True)
    east, north = to_swiss.transform(*grid.centres(0, 1).T)
    np.testing.assert_allclose(east, 2_505_000 + 10_000 * np.arange(10), atol=0.01)
    np.testing.assert_allclose(north, 1_145_000, atol=0.01)


def test_cells_off_the_earth_have_no_place():
    # The corners of a world map in Equal Earth lie outside its outline.
    grid = make_grid((-17_300_000, -8_400_000, 17_300_000, 8_400_000), None, 8857, 400_000)
    lonlat = grid.centres(0, grid.height).reshape(grid.height, grid.width, 2)
    known = np.isfinite(lonlat).all(axis=2)
    assert not known[0, 0]
    assert not known[-1, -1]
    assert known[grid.height // 2, 1:-1].all()
    # The Earth has 5.1e14 square metres, and the projection keeps areas.
    assert known.sum() * 400_000.0**2 == pytest.approx(5.1e14, rel=0.02)


def test_a_grid_crosses_the_antimeridian():
    grid = make_grid((170.0, -20.0, -170.0, -10.0), None, 4326, 1.0)
    assert (grid.width, grid.height) == (20, 10)
    lon = grid.centres(0, 1)[:, 0]
    assert lon.tolist() == [*np.arange(170.5, 180), *np.arange(-179.5, -170)]


def test_the_world_ends_at_the_poles():
    grid = make_grid((-180, -90, 180, 90), None, 4326, 0.7)
    assert grid.north <= 90.0
    assert grid.north - grid.height * 0.7 >= -90.0 - 1e-9
    assert np.isfinite(grid.centres(0, grid.height)).all()


def test_bounds_come_from_polygons():
    switzerland = gpd.GeoSeries([shapely.box(6, 46, 10, 48)], crs=4326)
    assert make_grid(None, switzerland, 4326, 1.0).width == 4
    grid = make_grid(None, switzerland.to_crs(2056), 2056, 10_000)
    assert 25 < grid.width < 40
    fiji = shapely.box(177, -19, 182, -16)
    assert make_grid(None, fiji, 4326, 1.0).width == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs bounds="),
        ({"bounds": (0, 0, 0, 1)}, "hold no cell"),
        ({"bounds": (0, 2, 1, 1)}, "hold no cell"),
        ({"bounds": (0, 0, 1)}, "are not four numbers"),
        ({"bounds": (0, 0, 1, "north")}, "are not four numbers"),
        ({"bounds": (0, -100, 1, 1)}, "reach beyond the Earth"),
        ({"bounds": (-180, 0, 200, 1)}, "reach beyond the Earth"),
        ({"bounds": (0, 0, 1, 1), "resolution": 0}, "is not a positive number"),
        ({"bounds": (0, 0, 1, 1), "resolution": (1, 2, 3)}, "is not a positive number"),
        ({"bounds": (0, 0, 90, 90), "resolution": 1e-5}, "in units of .*degrees"),
    ],
)
def test_bounds_and_resolutions_that_do_not_fit(options, message):
    given = {"bounds": None, "resolution": 0.1} | options
    with pytest.raises(OptionError, match=message):
        make_grid(given["bounds"], None, 4326, given["resolution"])


def test_a_mask_knows_the_antimeridian_and_other_crs():
    # From 177 to -178, by the rule that an edge longer than 180 degrees crosses.
    fiji = shapely.Polygon([(177, -19), (-178, -19), (-178, -16), (177, -16)])
    places = np.array([[179.0, -17.0], [-179.0, -17.0], [0.0, -17.0], [np.nan, np.nan]])
    assert make_mask(fiji).contains(places).tolist() == [True, True, False, False]
    bern = gpd.GeoSeries([shapely.box(7, 46, 8, 47)], crs=4326).to_crs(2056)
    assert make_mask(bern).contains(np.array([[7.5, 46.5], [9.0, 46.5]])).tolist() == [True, False]
    assert make_mask(None) is None


@pytest.mark.parametrize(
    ("within", "message"),
    [
        (shapely.Point(0, 0), "holds no polygon"),
        ([], "holds no polygon"),
        (gpd.GeoSeries([shapely.box(0, 0, 1, 1)]), "has no CRS"),
    ],
)
def test_a_mask_needs_polygons(within, message):
    with pytest.raises(CoordinateError, match=message):
        make_mask(within)
