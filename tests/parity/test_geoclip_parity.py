"""Our GeoCLIP against the published one, and against that in float64 on PROJ's projection."""

import numpy as np
import pandas as pd
import pyproj
import pytest
import torch
from geoclip import LocationEncoder as ReferenceEncoder

import geoembed as ge
from geoembed import weights
from geoembed.encoders.projections import GEOCLIP_SCALE
from geoembed.extending import registry


def relative_rows(got, truth):
    """Norm of the difference over norm of the truth, row by row, in float64."""
    got, truth = np.asarray(got, np.float64), np.asarray(truth, np.float64)
    return np.linalg.norm(got - truth, axis=1) / np.linalg.norm(truth, axis=1)


def gallery():
    spec = registry.location_encoder_spec("geoclip.v1").weights
    table = pd.read_csv(weights.checked_path(spec, "gallery"))
    return table[["LON", "LAT"]].to_numpy(np.float64)


def globe(count=20_000):
    """Points evenly over the sphere, with poles, the antimeridian and duplicates among them."""
    rng = np.random.default_rng(2023)
    lonlat = np.column_stack(
        [rng.uniform(-180, 180, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))]
    )
    lonlat[:200, 1] = 90.0
    lonlat[200:400, 1] = -90.0
    lonlat[400:600, 0] = 180.0
    lonlat[600:800, 0] = -180.0
    lonlat[800:900] = lonlat[900:1000]
    lonlat[1000] = 0.0
    return lonlat


@pytest.fixture(scope="module")
def reference():
    return ReferenceEncoder().eval()


def truth_of(reference, lonlat):
    """The published capsules in float64, on points that PROJ projected."""
    project = pyproj.Transformer.from_pipeline(
        "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=eqearth +R=1"
    )
    points = torch.from_numpy(np.column_stack(project.transform(*lonlat.T)) * GEOCLIP_SCALE)
    exact = ReferenceEncoder().double().eval()
    exact.load_state_dict(reference.state_dict())
    with torch.inference_mode():
        blocks = [
            sum(exact._modules[f"LocEnc{i}"](block) for i in range(exact.n))
            for block in points.split(4096)
        ]
    return torch.cat(blocks).numpy()


@pytest.fixture(scope="module")
def places():
    return globe()


@pytest.fixture(scope="module")
def truth(reference, places):
    return truth_of(reference, places)


def test_float32_is_within_2e_6_of_the_truth_on_the_worst_row(places, truth):
    assert relative_rows(ge.encode(*places.T, device="cpu"), truth).max() <= 2e-6


def test_float64_is_within_1e_9_of_the_truth_on_the_worst_row(places, truth):
    got = ge.encode(*places.T, precision="float64", dtype="float64", device="cpu")
    assert relative_rows(got, truth).max() <= 1e-9


def test_float32_is_within_1e_3_of_the_published_float32_run(reference, places):
    with torch.inference_mode():
        theirs = reference(torch.tensor(places[:, ::-1].copy(), dtype=torch.float32)).numpy()
    assert relative_rows(ge.encode(*places.T, device="cpu"), theirs).max() <= 1e-3


@pytest.mark.slow
def test_a_quarter_of_the_gallery_is_within_2e_6_of_the_truth(reference):
    # From west to east; the truth in float64 takes minutes for all rows, which passed as well.
    lonlat = np.unique(gallery(), axis=0)
    assert len(lonlat) == 94_123
    some = lonlat[::4]
    assert relative_rows(ge.encode(*some.T, device="cpu"), truth_of(reference, some)).max() <= 2e-6


@pytest.mark.parametrize(("precision", "mean_cosine"), [("bfloat16", 0.9999), ("float16", 0.9999)])
def test_half_precision_keeps_phases_exact(places, truth, precision, mean_cosine):
    # Some at a seam; CPUs without units for these types are slow.
    some = slice(700, 1500)
    got = ge.encode(*places[some].T, precision=precision, device="cpu").astype(np.float64)
    cosine = (got * truth[some]).sum(1) / (
        np.linalg.norm(got, axis=1) * np.linalg.norm(truth[some], axis=1)
    )
    assert cosine.mean() >= mean_cosine


def test_autocast_of_the_caller_changes_nothing(places):
    plain = ge.encode(*places[:500].T, device="cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = ge.encode(*places[:500].T, device="cpu")
    np.testing.assert_array_equal(plain, under)


def test_the_network_itself_is_safe_under_autocast(places, truth):
    encoder = ge.load_encoder("geoclip.v1", device="cpu")
    points = torch.from_numpy(encoder.project(places[:2000]))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        got = encoder.network(points).double().numpy()
    cosine = (got * truth[:2000]).sum(1) / (
        np.linalg.norm(got, axis=1) * np.linalg.norm(truth[:2000], axis=1)
    )
    # Autocast of the published encoder measures 0.55 here, since its phases are a matrix product.
    assert cosine.mean() >= 0.9999


def test_scales_sum_to_final_and_hidden_layers_are_the_published_ones(reference, places):
    some = places[:300]
    final = ge.encode(*some.T, precision="float64", dtype="float64", device="cpu")
    scales = ge.encode(*some.T, layers="scales", precision="float64", dtype="float64", device="cpu")
    np.testing.assert_allclose(scales.reshape(-1, 3, 512).sum(1), final, atol=1e-12)

    encoder = ge.load_encoder("geoclip.v1", precision="float64", dtype="float64", device="cpu")
    exact = ReferenceEncoder().double().eval()
    exact.load_state_dict(reference.state_dict())
    point = torch.from_numpy(encoder.project(some))
    with torch.inference_mode():
        second_of_scale_1 = exact.LocEnc1.capsule[:5](point).numpy()
    got = ge.encode(*some.T, layers="hidden1.1", precision="float64", dtype="float64", device="cpu")
    np.testing.assert_allclose(got, second_of_scale_1, atol=1e-10)
