"""Space2Vec: sines and cosines of planar coordinates at many scales."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from geoembed.encoders.baselines.base import BaselineEncoder, geometric_scales
from geoembed.extending.baselines import SPACE2VEC_SCALES

__all__ = ["GridEncoder", "TheoryEncoder"]

# Unit vectors 120 degrees apart, whose waves add up to hexagons as those of grid cells do.
_DIRECTIONS: Final = np.array([[1.0, -0.5, -0.5], [0.0, np.sqrt(0.75), -np.sqrt(0.75)]])


class GridEncoder(BaselineEncoder):
    """Space2Vec "grid": each coordinate at every scale.

    Scale by scale, each a cosine and a sine of longitude, then of latitude.

    Notes
    -----
    Mai et al., "Multi-scale representation learning for spatial feature distributions using
    grid cells", ICLR 2020; longitude and latitude in degrees are taken as a plane, as in the
    published code for places on the globe. That code has the sine before the cosine.

    Examples
    --------
    >>> import geoembed as ge
    >>> encoder = ge.load_encoder("space2vec.grid", dtype="float64")
    >>> encoder.encode(lon=[0.0], lat=[0.0])[0, :4].tolist()
    [1.0, 0.0, 1.0, 0.0]
    """

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        return _waves(lonlat)


class TheoryEncoder(BaselineEncoder):
    """Space2Vec "theory": the coordinates along three directions, at every scale.

    Scale by scale, each a cosine and a sine along 0, 120 and 240 degrees from the axis of
    longitude.

    Notes
    -----
    Mai et al., ICLR 2020; after Gao, Xie, Zhu and Wu, "Learning grid cells as vector
    representation of self-position coupled with matrix representation of self-motion", ICLR 2019.

    Examples
    --------
    >>> import geoembed as ge
    >>> encoder = ge.load_encoder("space2vec.theory", dtype="float64")
    >>> encoder.encode(lon=[0.0], lat=[0.0])[0, ::2].sum().tolist()
    192.0
    """

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        along = lonlat[:, :1] * _DIRECTIONS[0] + lonlat[:, 1:] * _DIRECTIONS[1]
        return _waves(along)


def _waves(along: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine and sine of every column (m, k) over every scale: (m, scales * k * 2)."""
    phases = along[:, None, :] / geometric_scales(*SPACE2VEC_SCALES)[:, None]
    waves = np.empty((*phases.shape, 2))
    np.cos(phases, out=waves[..., 0])
    np.sin(phases, out=waves[..., 1])
    return waves.reshape(len(along), -1)
