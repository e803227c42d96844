"""The baselines against their formulas, written out a place and a scale at a time."""

import hashlib
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

import geoembed as ge
from geoembed.encoders.baselines.base import geometric_scales, number_in_tag
from geoembed.encoders.baselines.fourier import RandomFourierEncoder, random_frequencies
from geoembed.encoders.baselines.harmonics import HarmonicsEncoder
from geoembed.encoders.projections import GEOCLIP_SCALE, equal_earth
from geoembed.errors import OptionError, PluginError
from geoembed.extending import LocationEncoderSpec
from geoembed.extending.baselines import (
    BASELINES,
    SPACE2VEC_SCALES,
    SPHERE2VEC_SCALES,
    fourier_spec,
    harmonics_spec,
)
from geoembed.extending.registry import location_encoder_spec
from geoembed.geodesy import to_unit_vectors
from geoembed.testing import check_location_encoder

NAMES = [spec.name for spec in BASELINES]

# Start of the SHA-256 of the frequencies of a sigma, as integers of 8 bytes.
FROZEN = {1: "23b79e4aea5ac534", 16: "c55d1d5a57d34187", 256: "e9d4baac1940c258"}


@pytest.fixture(scope="module")
def lonlat():
    rng = np.random.default_rng(3)
    anywhere = np.column_stack(
        [rng.uniform(-180, 180, 40), np.degrees(np.arcsin(rng.uniform(-1, 1, 40)))]
    )
    edges = [[0, 0], [180, 12], [-180, 12], [33, 90], [-120, 90], [5, -90], [90, 0], [-0.0, -0.0]]
    return np.vstack([anywhere, edges])


def exact(name, lonlat):
    return ge.load_encoder(name, dtype="float64").encode(*lonlat.T)


# -- all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_baseline_keeps_the_contract(name):
    check_location_encoder(name)


@pytest.mark.parametrize("spec", BASELINES, ids=lambda spec: spec.name)
def test_spec_says_what_it_is(spec):
    assert (spec.licence, spec.training_data, spec.weights) == ("", "", None)
    assert {"formula", "seams"} <= set(spec.details)
    assert ("arxiv.org" in spec.paper) == (spec.name not in {"lonlat", "xyz"})


def test_baselines_need_no_torch():
    code = "import sys, geoembed as ge\n"
    code += f"for name in {NAMES}:\n    ge.load_encoder(name).encode(lon=[1.0], lat=[2.0])\n"
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["xyz", "harmonics.l10", "harmonics.l20", "harmonics.l40"])
def test_one_place_has_one_vector_at_the_antimeridian_and_the_poles(name):
    lon = np.array([180.0, -180.0, 0.0, 77.0, -133.0, 0.0, 180.0])
    lat = np.array([-41.0, -41.0, 90.0, 90.0, 90.0, -90.0, -90.0])
    vectors = exact(name, np.column_stack([lon, lat]))
    for rows in (slice(0, 2), slice(2, 5), slice(5, 7)):
        assert np.ptp(vectors[rows], axis=0).max() < 1e-12
    assert location_encoder_spec(name).details["seams"] == "none"


@pytest.mark.parametrize("spec", BASELINES, ids=lambda spec: spec.name)
def test_torn_baselines_say_so_and_can_be_mended(spec):
    step = 1e-9
    across = np.array([[180.0 - step, 40.0], [-180.0 + step, 40.0]])

    def gap(**options):
        vectors = ge.load_encoder(spec.name, dtype="float64", **options).encode(*across.T)
        return np.abs(vectors[0] - vectors[1]).max() / np.abs(vectors).max()

    assert (gap() > 1e-3) == spec.details["seams"].startswith("torn at the antimeridian")
    assert gap(seam="blend") < 1e-6


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_baselines_have_no_low_precision(precision):
    with pytest.raises(OptionError, match="'xyz' offers float32 and float64"):
        ge.load_encoder("xyz", precision=precision)


def test_encoder_of_a_degree_nobody_registered_pickles():
    encoder = HarmonicsEncoder(harmonics_spec(5), normalize=True, dtype="float64")
    again = pickle.loads(pickle.dumps(encoder))
    assert (again.name, again.dimension) == ("harmonics.l5", 36)
    np.testing.assert_array_equal(again.encode(3.0, 4.0), encoder.encode(3.0, 4.0))


@pytest.mark.parametrize("name", ["mine", "mine.40", "mine.l", "mine.l0", "mine.l05", "mine.l4x"])
def test_names_without_a_number_are_refused(name):
    spec = LocationEncoderSpec(name=name, factory="m:a", dimension=4, summary="s")
    with pytest.raises(PluginError, match=rf"'{name}' has no number in its tag.*'family\.l8'"):
        number_in_tag(spec, "l")


def test_dimension_that_is_not_of_the_degree_is_found():
    spec = LocationEncoderSpec(name="mine.l4", factory="m:a", dimension=24, summary="s")
    with pytest.raises(PluginError, match=r"shape \(1, 25\) for 1 places, expected \(1, 24\)"):
        HarmonicsEncoder(spec).encode(0.0, 0.0)


def test_scales_run_from_end_to_end():
    scales = geometric_scales(0.5, 32.0, 7)
    np.testing.assert_allclose(scales, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0], rtol=1e-15)


# -- plain ----------------------------------------------------------------------------------------


def test_lonlat_is_the_input(lonlat):
    np.testing.assert_array_equal(exact("lonlat", lonlat), lonlat)


def test_xyz_is_the_unit_vector(lonlat):
    np.testing.assert_array_equal(exact("xyz", lonlat), to_unit_vectors(lonlat))


def test_wrap_in_words(lonlat):
    expected = []
    for lon, lat in lonlat:
        u, v = lon / 180, lat / 90
        wrapped = [math.sin(math.pi * u), math.sin(math.pi * v)]
        expected.append([*wrapped, math.cos(math.pi * u), math.cos(math.pi * v)])
    np.testing.assert_allclose(exact("wrap", lonlat), expected, atol=1e-15)


# -- Space2Vec and Sphere2Vec ---------------------------------------------------------------------


def scales_of(settings):
    smallest, largest, count = settings
    return [smallest * (largest / smallest) ** (s / (count - 1)) for s in range(count)]


def test_space2vec_grid_is_its_formula(lonlat):
    expected = [
        [
            wave(coordinate / scale)
            for scale in scales_of(SPACE2VEC_SCALES)
            for coordinate in place
            for wave in (math.cos, math.sin)
        ]
        for place in lonlat
    ]
    # A phase of 18,000 radians knows 11 digits of its sine.
    np.testing.assert_allclose(exact("space2vec.grid", lonlat), expected, atol=5e-11)


def test_space2vec_theory_is_its_formula(lonlat):
    directions = [(math.cos(a), math.sin(a)) for a in np.radians([0.0, 120.0, 240.0])]
    expected = [
        [
            wave((lon * a + lat * b) / scale)
            for scale in scales_of(SPACE2VEC_SCALES)
            for a, b in directions
            for wave in (math.cos, math.sin)
        ]
        for lon, lat in lonlat
    ]
    np.testing.assert_allclose(exact("space2vec.theory", lonlat), expected, atol=5e-11)


def test_theory_waves_add_up_to_hexagons():
    """Turning the plane by 60 degrees around the origin leaves the sum of cosines as it is."""
    place = np.array([[31.0, 17.0]])
    angle = np.radians(60.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    cosines = exact("space2vec.theory", np.vstack([place, place @ turn.T])).reshape(2, 64, 3, 2)
    sums = cosines[..., 0].sum(axis=2)
    np.testing.assert_allclose(sums[0], sums[1], atol=1e-10)


@pytest.mark.parametrize("name", ["sphere2vec.c", "sphere2vec.m"])
def test_sphere2vec_is_its_formula(name, lonlat):
    expected = []
    for lon, lat in np.radians(lonlat):
        row = []
        for scale in scales_of(SPHERE2VEC_SCALES):
            lon_s, lat_s = lon / scale, lat / scale
            row.append(math.sin(lat_s))
            if name == "sphere2vec.c":
                row += [math.cos(lat_s) * math.cos(lon_s), math.cos(lat_s) * math.sin(lon_s)]
            else:
                row += [math.cos(lat_s) * math.cos(lon), math.cos(lat) * math.cos(lon_s)]
                row += [math.cos(lat_s) * math.sin(lon), math.cos(lat) * math.sin(lon_s)]
        expected.append(row)
    np.testing.assert_allclose(exact(name, lonlat), expected, atol=5e-11)


def test_last_scale_of_sphere_c_is_the_unit_sphere(lonlat):
    north, *equator = exact("sphere2vec.c", lonlat)[:, -3:].T
    np.testing.assert_allclose(np.stack([*equator, north]).T, to_unit_vectors(lonlat), atol=1e-15)


# -- random Fourier features ----------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [1, 16, 256])
def test_fourier_features_are_cos_and_sin_of_two_pi_v_b(sigma, lonlat):
    frequencies = random_frequencies(sigma, 256)
    phases = 2 * np.pi * (equal_earth(lonlat) * GEOCLIP_SCALE) @ frequencies.T
    expected = np.hstack([np.cos(phases), np.sin(phases)])
    np.testing.assert_allclose(exact(f"rff.s{sigma}", lonlat), expected, atol=1e-11)


@pytest.mark.parametrize("sigma", [1, 16, 256])
def test_frequencies_are_normal(sigma):
    many = random_frequencies(sigma, 20_000)
    # Four standard errors of a mean, of a deviation, and of a correlation.
    np.testing.assert_allclose(many.mean(axis=0) / sigma, 0.0, atol=4 / 20_000**0.5)
    np.testing.assert_allclose(many.std(axis=0) / sigma, 1.0, atol=4 / 40_000**0.5)
    assert abs(np.corrcoef(many.T)[0, 1]) < 4 / 20_000**0.5


def test_frequencies_are_frozen():
    """Bit for bit, on every platform: integers after multiplication by 2 ** 24."""
    digests = {}
    for sigma in (1, 16, 256):
        steps = (random_frequencies(sigma, 256) / sigma * 2.0**24).astype("<i8")
        np.testing.assert_array_equal(steps * 2.0**-24 * sigma, random_frequencies(sigma, 256))
        digests[sigma] = hashlib.sha256(steps.tobytes()).hexdigest()[:16]
    assert digests == FROZEN


def test_frequencies_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        random_frequencies(16, 256)[0, 0] = 1.0


def test_fourier_features_of_another_scale():
    vectors = RandomFourierEncoder(fourier_spec(4), dtype="float64").encode([3.0, 3.01], [4.0, 4.0])
    np.testing.assert_allclose(np.sum(vectors**2, axis=1), 256.0, rtol=1e-14)
