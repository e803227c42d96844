"""Spherical harmonics against SciPy, quadrature, the addition theorem and closed forms."""

import numpy as np
import pytest
from scipy import special

import geoembed as ge
from geoembed.encoders.baselines.harmonics import spherical_harmonics
from geoembed.geodesy import from_unit_vectors, to_unit_vectors


def places(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack(
        [rng.uniform(-180, 180, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))]
    )


def scipy_harmonics(lonlat, degree):
    """Real harmonics made from SciPy's complex ones, whose Condon-Shortley phase is undone."""
    lon, colatitude = np.radians(lonlat[:, 0]), np.radians(90.0 - lonlat[:, 1])
    columns = []
    for n in range(degree + 1):
        for m in range(-n, n + 1):
            order = abs(m)
            if hasattr(special, "sph_harm_y"):
                value = special.sph_harm_y(n, order, colatitude, lon)
            else:  # SciPy before 1.15
                value = special.sph_harm(order, n, lon, colatitude)
            part = value.imag if m < 0 else value.real
            columns.append(part * (np.sqrt(2.0) * (-1) ** order if m else 1.0))
    return np.column_stack(columns)


@pytest.mark.parametrize("degree", [0, 1, 2, 10, 40, 100])
def test_harmonics_are_those_of_scipy(degree):
    lonlat = np.vstack([places(60), [[0, 90], [0, -90], [180, 0], [-180, 30], [90, 89.999]]])
    got = spherical_harmonics(lonlat, degree)
    assert got.shape == (65, (degree + 1) ** 2)
    np.testing.assert_allclose(got, scipy_harmonics(lonlat, degree), atol=1e-12)


def test_first_harmonics_in_closed_form():
    x, y, z = to_unit_vectors(places(50)).T
    half = np.sqrt(1 / np.pi) / 2
    expected = [
        np.full(50, half),
        *(half * np.sqrt(3) * axis for axis in (y, z, x)),
        half * np.sqrt(15) * x * y,
        half * np.sqrt(15) * y * z,
        half * np.sqrt(5) / 2 * (3 * z**2 - 1),
        half * np.sqrt(15) * x * z,
        half * np.sqrt(15) / 2 * (x**2 - y**2),
    ]
    got = spherical_harmonics(places(50), 2)
    np.testing.assert_allclose(got, np.column_stack(expected), atol=1e-15)


@pytest.mark.parametrize("degree", [10, 40])
def test_harmonics_are_orthonormal(degree):
    """Gauss-Legendre in the sine of latitude, equal steps in longitude: exact for products."""
    sines, weights = np.polynomial.legendre.leggauss(degree + 1)
    steps = 2 * degree + 2
    lon, lat = np.meshgrid(np.arange(steps) * 360 / steps - 180, np.degrees(np.arcsin(sines)))
    values = spherical_harmonics(np.column_stack([lon.ravel(), lat.ravel()]), degree)
    share = np.repeat(weights, steps) * 2 * np.pi / steps
    products = values.T @ (values * share[:, None])
    np.testing.assert_allclose(products, np.eye(len(products)), atol=1e-12)


@pytest.mark.parametrize("degree", [40, 200, 600])
def test_addition_theorem(degree):
    """The sum over the orders is a Legendre polynomial of the cosine of the arc."""
    here, there = places(20, seed=1), places(20, seed=2)
    here[:2, 1] = 90.0, -89.9999  # where the recursion would break first
    ours = spherical_harmonics(np.vstack([here, there]), degree)
    cosines = np.sum(to_unit_vectors(here) * to_unit_vectors(there), axis=1)
    for n in (0, 1, degree // 2, degree):
        columns = slice(n * n, (n + 1) ** 2)
        one, other = ours[:20, columns], ours[20:, columns]
        expected = (2 * n + 1) / (4 * np.pi) * special.eval_legendre(n, cosines)
        # Errors grow with the degree: at 600 the angles themselves are known to n * 2e-16.
        np.testing.assert_allclose(np.sum(one * other, axis=1), expected, atol=(n + 1) * 1e-12)
        norms = np.sum(one**2, axis=1) / ((2 * n + 1) / (4 * np.pi))
        np.testing.assert_allclose(norms, 1.0, rtol=1e-11)


def test_a_rotation_mixes_only_the_orders_of_a_degree():
    """Cosines between places depend on their distance alone, wherever on the Earth they are."""
    rng = np.random.default_rng(5)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    lonlat = places(12)
    turned = from_unit_vectors(to_unit_vectors(lonlat) @ rotation.T)
    one, other = spherical_harmonics(lonlat, 20), spherical_harmonics(turned, 20)
    np.testing.assert_allclose(one @ one.T, other @ other.T, atol=1e-11)


def test_lower_degrees_are_the_first_columns():
    lonlat = places(30)
    np.testing.assert_array_equal(
        spherical_harmonics(lonlat, 12)[:, :121], spherical_harmonics(lonlat, 10)
    )


def test_encoder_is_the_function_whatever_the_block():
    lonlat = places(700)
    expected = spherical_harmonics(lonlat, 20)
    for block_size in (None, 1, 299):
        encoder = ge.load_encoder("harmonics.l20", dtype="float64", block_size=block_size)
        np.testing.assert_allclose(encoder.encode(*lonlat.T), expected, atol=1e-14)
    assert ge.load_encoder("harmonics.l20").encode(*lonlat.T).dtype == np.float32


def test_no_places():
    assert spherical_harmonics(np.empty((0, 2)), 4).shape == (0, 25)
