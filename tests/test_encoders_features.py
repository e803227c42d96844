import math
from fractions import Fraction

import pytest
import torch

from geoembed.encoders.features import fourier_features


def exact_phase(point, frequency):
    """The phase in turns by rational arithmetic, where nothing is rounded."""
    turns = sum(Fraction(p) * Fraction(f) for p, f in zip(point, frequency, strict=True))
    return 2 * math.pi * float(turns - round(turns))


@pytest.fixture
def setting():
    generator = torch.Generator().manual_seed(7)
    points = torch.rand(50, 2, dtype=torch.float64, generator=generator) * 2 - 1
    frequencies = torch.randn(16, 2, generator=generator) * 256
    phases = torch.tensor(
        [[exact_phase(p, f) for f in frequencies.tolist()] for p in points.tolist()],
        dtype=torch.float64,
    )
    return points, frequencies, torch.cat([phases.cos(), phases.sin()], dim=1)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float64, 1e-11),
        (torch.float32, 3e-7),
        (torch.float16, 6e-4),
        (torch.bfloat16, 4.5e-3),
    ],
)
def test_phases_are_exact_at_sigma_256_in_every_precision(setting, dtype, tolerance):
    points, frequencies, truth = setting
    got = fourier_features(points, frequencies, dtype)
    assert got.dtype == dtype
    assert got.shape == (50, 32)
    assert (got.double() - truth).abs().max() <= tolerance


def test_autocast_does_not_touch_phases(setting):
    points, frequencies, _ = setting
    plain = fourier_features(points, frequencies, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = fourier_features(points, frequencies, torch.float32)
    assert under.dtype == torch.float32
    assert torch.equal(plain, under)


def test_a_float32_phase_would_not_do(setting):
    # What the elementwise float64 phase is for: the obvious way is a thousand times worse.
    points, frequencies, truth = setting
    phases = 2 * math.pi * points.float() @ frequencies.T
    naive = torch.cat([phases.cos(), phases.sin()], dim=1)
    assert (naive.double() - truth).abs().max() > 1e-4
