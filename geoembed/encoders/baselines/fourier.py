"""Random Fourier features of the map that GeoCLIP starts from, at one scale."""

from functools import lru_cache
from random import Random
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.encoders.baselines.base import BaselineEncoder, number_in_tag
from geoembed.encoders.projections import GEOCLIP_SCALE, equal_earth
from geoembed.extending.specs import LocationEncoderSpec

__all__ = ["RandomFourierEncoder", "random_frequencies"]

# Normal draws are rounded to this, far above the last digits in which the logarithms of C
# libraries differ.
_STEP: Final = 2.0**-24


class RandomFourierEncoder(BaselineEncoder):
    """Cosines and sines of random waves over the Equal Earth map.

    The standard deviation sigma of the frequencies is the number in the tag of the spec's name.

    Notes
    -----
    Tancik et al., "Fourier features let networks learn high frequency functions in low
    dimensional domains", NeurIPS 2020: cos and sin of 2 pi v B^T, here with the map, the scales
    and the number of frequencies of GeoCLIP (Vivanco Cepeda et al., NeurIPS 2023). The
    frequencies are our own draws, not those that GeoCLIP was trained with.

    Examples
    --------
    >>> import geoembed as ge
    >>> features = ge.load_encoder("rff.s16").encode(lon=[0.0], lat=[0.0])
    >>> features[0, [0, 255, 256, 511]].tolist()
    [1.0, 1.0, 0.0, 0.0]
    """

    def __init__(self, spec: LocationEncoderSpec, **options: Any) -> None:
        super().__init__(spec, **options)
        self._frequencies = random_frequencies(number_in_tag(spec, "s"), spec.dimension // 2)

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        east, north = (equal_earth(lonlat) * GEOCLIP_SCALE).T[:, :, None]
        turns = east * self._frequencies[:, 0] + north * self._frequencies[:, 1]
        # By whole turns, which is exact, so that no digit of a large phase is lost in 2 pi.
        turns -= np.rint(turns)
        turns *= 2.0 * np.pi
        return np.hstack([np.cos(turns), np.sin(turns)])


@lru_cache(maxsize=8)
def random_frequencies(sigma: int, count: int) -> NDArray[np.float64]:
    """Draw frequencies that are the same, bit for bit, on every platform.

    Parameters
    ----------
    sigma : int
        Standard deviation, in turns over a unit of the map; also the seed.
    count : int
        How many.

    Returns
    -------
    array of shape (count, 2), float64, read-only
        Along the easting and the northing.

    Notes
    -----
    NumPy may change the streams of its generators between releases, and normal draws pass
    through the platform's logarithm. The uniform draws are Python's Mersenne Twister, whose
    sequence the language promises; they become normal by the inverse distribution function
    (Wichura's AS 241), rounded to 2 ** -24.

    Examples
    --------
    >>> random_frequencies(16, 256).shape
    (256, 2)
    """
    uniform, normal = Random(sigma), NormalDist()
    draws = [normal.inv_cdf(uniform.random()) for _ in range(2 * count)]
    frequencies = np.rint(np.array(draws) / _STEP) * _STEP * sigma
    frequencies.flags.writeable = False
    return frequencies.reshape(count, 2)
