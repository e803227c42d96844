"""Fixed features of coordinates: what stands between a projection and the first trained layer."""

import math

import torch
from torch import Tensor

__all__ = ["fourier_features"]


def fourier_features(points: Tensor, frequencies: Tensor, dtype: torch.dtype) -> Tensor:
    """Random Fourier features whose phases stay exact at every frequency.

    Phases are formed elementwise in float64 and reduced by whole turns before they are cast.
    A matrix product in their place would be rounded to 8 bits of mantissa under autocast, and
    at sigma = 256 a phase of a thousand turns cast as it is loses three digits.

    Parameters
    ----------
    points : Tensor of shape (n, a), float64
        Projected coordinates. Where the device has no float64, keep them on the CPU and move
        the result.
    frequencies : Tensor of shape (m, a)
        Turns per unit along each axis, drawn from N(0, sigma^2) when the encoder was made.
    dtype : torch.dtype
        Of the result; the cosine and sine are taken in it, but never below float32.

    Returns
    -------
    Tensor of shape (n, 2 m)
        Cosines first, then sines.

    Notes
    -----
    Tancik et al., "Fourier features let networks learn high frequency functions in low
    dimensional domains", NeurIPS 2020: cos and sin of 2 pi v B^T.

    Examples
    --------
    >>> point = torch.tensor([[0.25, 3.0]], dtype=torch.float64)
    >>> fourier_features(point, torch.tensor([[1.0, 7.0]]), torch.float64).round(decimals=9)
    tensor([[0., 1.]], dtype=torch.float64)
    """
    exact = frequencies.to(torch.float64)
    turns = points[:, :1] * exact[:, 0]
    for axis in range(1, points.shape[1]):
        turns.addcmul_(points[:, axis : axis + 1], exact[:, axis])
    turns -= turns.round()
    working = torch.promote_types(dtype, torch.float32)
    phases = turns.to(working).mul_(2.0 * math.pi)
    count = len(frequencies)
    features = phases.new_empty((len(points), 2 * count))
    torch.cos(phases, out=features[:, :count])
    torch.sin(phases, out=features[:, count:])
    return features.to(dtype)
