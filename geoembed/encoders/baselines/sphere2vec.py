"""Sphere2Vec: points of the unit sphere at many scales."""

import numpy as np
from numpy.typing import NDArray

from geoembed.encoders.baselines.base import BaselineEncoder, geometric_scales
from geoembed.extending.baselines import SPHERE2VEC_SCALES

__all__ = ["SphereCEncoder", "SphereMEncoder"]


class SphereCEncoder(BaselineEncoder):
    """Sphere2Vec "sphereC": both angles divided by a scale, then onto the unit sphere.

    Scale by scale, each ``sin(lat_s), cos(lat_s) cos(lon_s), cos(lat_s) sin(lon_s)``. The last
    scale is 1 radian: the point on the unit sphere itself.

    Notes
    -----
    Mai et al., "Sphere2Vec: A general-purpose location representation learning over a spherical
    surface for large-scale geospatial predictions", ISPRS Journal 202, 2023.

    Examples
    --------
    >>> import geoembed as ge
    >>> encoder = ge.load_encoder("sphere2vec.c", dtype="float64")
    >>> encoder.encode(lon=[90.0], lat=[30.0])[0, -3:].round(6).tolist()
    [0.5, 0.0, 0.866025]
    """

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        lon, lat = _scaled(lonlat)
        cos_lat = np.cos(lat)
        parts = [np.sin(lat), cos_lat * np.cos(lon), cos_lat * np.sin(lon)]
        return np.stack(parts, axis=2).reshape(len(lonlat), -1)


class SphereMEncoder(BaselineEncoder):
    """Sphere2Vec "sphereM": one angle divided by a scale, the other as it is, and both ways round.

    Scale by scale, each ``sin(lat_s), cos(lat_s) cos(lon), cos(lat) cos(lon_s), cos(lat_s)
    sin(lon), cos(lat) sin(lon_s)``.

    Notes
    -----
    Mai et al., ISPRS Journal 202, 2023.

    Examples
    --------
    >>> import geoembed as ge
    >>> encoder = ge.load_encoder("sphere2vec.m", dtype="float64")
    >>> encoder.encode(lon=[90.0], lat=[30.0])[0, -5:].round(6).tolist()
    [0.5, 0.0, 0.0, 0.866025, 0.866025]
    """

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        lon, lat = np.radians(lonlat).T[:, :, None]
        lon_s, lat_s = _scaled(lonlat)
        cos_lat_s = np.cos(lat_s)
        parts = [
            np.sin(lat_s),
            cos_lat_s * np.cos(lon),
            np.cos(lat) * np.cos(lon_s),
            cos_lat_s * np.sin(lon),
            np.cos(lat) * np.sin(lon_s),
        ]
        return np.stack(parts, axis=2).reshape(len(lonlat), -1)


def _scaled(lonlat: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude in radians over every scale, each (m, scales)."""
    scales = geometric_scales(*SPHERE2VEC_SCALES)
    lon, lat = np.radians(lonlat).T[:, :, None]
    return lon / scales, lat / scales
