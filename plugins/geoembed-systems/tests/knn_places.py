"""Places and distances that the tests of the density of neighbours share."""

import math

import numpy as np
from pyproj import Geod

from geoembed.geodesy import EARTH_RADIUS_KM

SPHERE = Geod(a=EARTH_RADIUS_KM * 1000.0, b=EARTH_RADIUS_KM * 1000.0)
FOUR_DEGREES_KM = 4.0 * math.pi / 180.0 * EARTH_RADIUS_KM


def arc_km(a, b):
    """Great-circle distance, by another library."""
    return SPHERE.inv(a[0], a[1], b[0], b[1])[2] / 1000.0


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def anywhere(rng, count):
    """Places drawn evenly over the sphere."""
    return np.column_stack(
        [rng.uniform(-180, 180, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))]
    )
