import numpy as np
import pyproj
import pytest

from geoembed.encoders.projections import GEOCLIP_SCALE, equal_earth


def test_equal_earth_is_projs_to_1e_12():
    rng = np.random.default_rng(1)
    lonlat = np.column_stack([rng.uniform(-180, 180, 50_000), rng.uniform(-90, 90, 50_000)])
    lonlat[:6] = [[180, 90], [-180, -90], [180, 0], [0, 90], [0, 0], [-180, 45]]
    project = pyproj.Transformer.from_pipeline(
        "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=eqearth +R=1"
    )
    theirs = np.column_stack(project.transform(*lonlat.T))
    np.testing.assert_allclose(equal_earth(lonlat), theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("lon", "lat", "easting", "northing"),
    [
        (0.0, 0.0, 0.0, 0.0),
        (180.0, 0.0, 2.7066299836, 0.0),
        (0.0, 90.0, 0.0, 1.3173627592),
        (-180.0, -90.0, -1.6035886490, -1.3173627592),
    ],
)
def test_corners_of_the_map(lon, lat, easting, northing):
    got = equal_earth(np.array([[lon, lat]]))[0]
    np.testing.assert_allclose(got, [easting, northing], atol=5e-10)


def test_the_map_keeps_areas():
    # A cell's area on the sphere is the Jacobian of the projection times its size in the plane.
    lat = np.linspace(-85, 85, 35)
    step = 1e-4
    east = equal_earth(np.column_stack([np.full(35, 20 + step), lat]))
    west = equal_earth(np.column_stack([np.full(35, 20 - step), lat]))
    north = equal_earth(np.column_stack([np.full(35, 20.0), lat + step]))
    south = equal_earth(np.column_stack([np.full(35, 20.0), lat - step]))
    along, up = (east - west), (north - south)
    plane = along[:, 0] * up[:, 1] - along[:, 1] * up[:, 0]
    sphere = np.deg2rad(2 * step) ** 2 * np.cos(np.deg2rad(lat))
    np.testing.assert_allclose(plane / sphere, 1.0, rtol=1e-6)


def test_scale_is_the_published_one():
    assert pytest.approx(0.36946311, abs=1e-8) == GEOCLIP_SCALE
