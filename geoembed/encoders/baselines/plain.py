"""The plainest baselines: the coordinates themselves, their sines and cosines, the unit sphere."""

import numpy as np
from numpy.typing import NDArray

from geoembed.encoders.baselines.base import BaselineEncoder
from geoembed.geodesy import to_unit_vectors

__all__ = ["LonLatEncoder", "UnitSphereEncoder", "WrapEncoder"]


class LonLatEncoder(BaselineEncoder):
    """Longitude and latitude in degrees, as they are.

    Examples
    --------
    >>> import geoembed as ge
    >>> ge.load_encoder("lonlat").encode(lon=[-73.5], lat=[40.5]).tolist()
    [[-73.5, 40.5]]
    """

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        return lonlat


class WrapEncoder(BaselineEncoder):
    """Sines and cosines of the coordinates scaled to [-1, 1], times pi.

    Latitude runs through a whole turn from pole to pole, as in the published code: both poles
    get the same two values of latitude.

    Notes
    -----
    Mac Aodha, Cole and Perona, "Presence-only geographical priors for fine-grained image
    classification", ICCV 2019; the input of SINR (Cole et al., ICML 2023). The order is that of
    their code: sines of longitude and latitude, then the cosines.

    Examples
    --------
    >>> import geoembed as ge
    >>> encoder = ge.load_encoder("wrap", dtype="float64")
    >>> encoder.encode(lon=[90.0], lat=[45.0]).round(6).tolist()
    [[1.0, 1.0, 0.0, 0.0]]
    """

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        turned = np.pi * (lonlat / [180.0, 90.0])
        return np.hstack([np.sin(turned), np.cos(turned)])


class UnitSphereEncoder(BaselineEncoder):
    """The point on the unit sphere: axes towards (0, 0), (90, 0) and the north pole.

    Examples
    --------
    >>> import geoembed as ge
    >>> encoder = ge.load_encoder("xyz", dtype="float64")
    >>> encoder.encode(lon=[90.0], lat=[30.0]).round(6).tolist()
    [[0.0, 0.866025, 0.5]]
    """

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        return to_unit_vectors(lonlat)
