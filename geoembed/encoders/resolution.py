"""What a vector can tell apart: similarity against distance."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from geoembed.coordinates import read_places
from geoembed.encoders.blocks import Computes, encode_blocks
from geoembed.errors import OptionError
from geoembed.geodesy import destination
from geoembed.scalars import check_count

__all__ = ["DISTANCES_KM", "profile"]

DISTANCES_KM: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)


def profile(
    encoder: Computes, lon: float, lat: float, distances_km: ArrayLike, bearings: int
) -> pd.DataFrame:
    """Cosine similarity to a place at given distances (see `LocationEncoder.resolution_profile`).

    Raises
    ------
    OptionError
        If a distance is negative or not finite, or `bearings` is below 1.
    CoordinateError
        If the place is not valid.
    """
    try:
        distances = np.atleast_1d(np.asarray(distances_km, dtype=np.float64))
    except (TypeError, ValueError):
        distances = np.array([np.nan])
    if distances.ndim != 1 or not np.isfinite(distances).all() or (distances < 0).any():
        raise OptionError(f"distances_km={distances_km!r}: give a list of km, none negative.")
    check_count("bearings", bearings)
    here = read_places(lon=lon, lat=lat).lonlat
    if len(here) != 1:
        raise OptionError(f"A profile is taken at one place, got {len(here)}.")
    azimuths = np.arange(bearings) * (360.0 / bearings)
    km, azimuth = (grid.ravel() for grid in np.meshgrid(distances, azimuths, indexing="ij"))
    there = np.column_stack(destination(here[0, 0], here[0, 1], azimuth, km))
    points = np.vstack([here, there])
    vectors = np.empty((len(points), encoder.dimension))
    encode_blocks(encoder, points, vectors, progress=False)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (vectors[1:] @ vectors[0]).reshape(len(distances), bearings)
    return pd.DataFrame(
        {
            "distance_km": distances,
            "mean": cosines.mean(axis=1),
            "min": cosines.min(axis=1),
            "max": cosines.max(axis=1),
        }
    )
