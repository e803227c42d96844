import numpy as np
import pytest

import geoembed as ge
from geoembed.encoders.seam import SEAM_WIDTH

LAT = np.linspace(-90.0, 90.0, 721)
LON = np.linspace(-180.0, 180.0, 721)


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def both(**options):
    return (
        ge.load_encoder("geoclip.v1", device="cpu", seam="blend", **options),
        ge.load_encoder("geoclip.v1", device="cpu", **options),
    )


@pytest.mark.parametrize("options", [{}, {"layers": "scales"}, {"precision": "bfloat16"}])
def test_one_answer_at_the_antimeridian_for_every_latitude(options):
    blended, trained = both(**options)
    # CPUs without units for half precision are slow at it.
    lat = LAT[::6] if "precision" in options else LAT
    east, west = np.full_like(lat, 180.0), np.full_like(lat, -180.0)
    assert cosine(blended.encode(east, lat), blended.encode(west, lat)).min() >= 0.999
    torn = cosine(trained.encode(east, lat), trained.encode(west, lat))
    assert torn.min() < 0.9, "as trained, the two sides differ: else there is nothing to blend"


@pytest.mark.parametrize("pole", [90.0, -90.0])
@pytest.mark.parametrize("layers", ["final", "scales", "hidden0.2"])
def test_one_answer_at_a_pole_for_all_longitudes(pole, layers):
    blended, _ = both(layers=layers)
    vectors = blended.encode(LON, np.full_like(LON, pole))
    assert cosine(vectors, np.broadcast_to(vectors[0], vectors.shape)).min() >= 0.999


def test_norms_are_kept_where_a_plain_mean_would_shrink_them():
    blended, trained = both()
    east = trained.encode(np.full_like(LAT, 180.0), LAT)
    west = trained.encode(np.full_like(LAT, -180.0), LAT)
    expected = (np.linalg.norm(east, axis=1) + np.linalg.norm(west, axis=1)) / 2
    got = np.linalg.norm(blended.encode(np.full_like(LAT, 180.0), LAT), axis=1)
    inside = np.abs(LAT) <= 90 - SEAM_WIDTH
    np.testing.assert_allclose(got[inside], expected[inside], rtol=1e-5)
    plain = np.linalg.norm((east + west) / 2, axis=1)
    assert (plain / expected).min() < 0.8

    around = trained.encode(LON, np.full_like(LON, 90.0))
    at_pole = np.linalg.norm(blended.encode([12.0], [90.0]))
    assert at_pole == pytest.approx(np.linalg.norm(around, axis=1).mean(), rel=1e-3)


def test_nothing_changes_beyond_one_degree_bit_for_bit():
    blended, trained = both()
    rng = np.random.default_rng(3)
    lon, lat = rng.uniform(-178.99, 178.99, 3000), rng.uniform(-88.99, 88.99, 3000)
    lon[:4], lat[:4] = [178.999, -178.999, 0, 0], [0, 0, 88.999, -88.999]
    np.testing.assert_array_equal(blended.encode(lon, lat), trained.encode(lon, lat))


@pytest.mark.parametrize("lat", [0.0, 52.0, -80.0, 89.4])
def test_the_map_has_no_step_across_the_antimeridian(lat):
    blended, trained = both()
    lon = np.concatenate([np.linspace(178.5, 180, 600), np.linspace(-180, -178.5, 600)])
    steps = cosine(*(lambda v: (v[1:], v[:-1]))(blended.encode(lon, np.full_like(lon, lat))))
    usual = cosine(*(lambda v: (v[1:], v[:-1]))(trained.encode(lon, np.full_like(lon, lat))))
    usual = np.delete(usual, 599)  # the tear itself
    # No step is more than a little larger than those that the trained map takes anyway.
    assert 1 - steps.min() <= 2 * (1 - usual.min()) + 1e-6


def test_the_map_has_no_step_on_the_way_over_a_pole():
    blended, _ = both()
    down = np.linspace(90, 88.5, 1200)
    lat = np.concatenate([down[::-1], down[1:]])
    lon = np.concatenate([np.full(1200, 30.0), np.full(1199, -150.0)])
    vectors = blended.encode(lon, lat)
    assert cosine(vectors[1:], vectors[:-1]).min() >= 0.999


def test_corner_of_seam_and_pole_agrees_too():
    blended, _ = both()
    lat = np.linspace(89.0, 90.0, 50)
    east, west = blended.encode(np.full(50, 180.0), lat), blended.encode(np.full(50, -180.0), lat)
    assert cosine(east, west).min() >= 0.999


def test_zero_rows_and_block_size_do_not_matter():
    blended, _ = both()
    assert blended.encode([], []).shape == (0, 512)
    small, _ = both(block_size=7)
    lon, lat = np.linspace(179, 180, 40), np.linspace(80, 90, 40)
    np.testing.assert_allclose(small.encode(lon, lat), blended.encode(lon, lat), atol=2e-6)
