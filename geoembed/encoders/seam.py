"""Close the tears of a planar map: the antimeridian and the poles."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["SEAM_WIDTH", "SeamBlender"]

Block = NDArray[np.floating[Any]]

# Degrees of longitude from the antimeridian, and of latitude from a pole, within which vectors
# are blended. At the equator this is 111 km on either side.
SEAM_WIDTH: Final = 1.0

# Enough that neighbouring longitudes at a pole are as close as the finest scale can tell.
_POLE_LONGITUDES: Final = 720


class SeamBlender:
    """Blend vectors near the antimeridian and the poles, so that the map is continuous.

    An encoder that starts from a planar map has two answers at the antimeridian (cosine 0.15 to
    0.6 between them for GeoCLIP) and infinitely many at a pole. Within `SEAM_WIDTH` degrees of
    longitude of the antimeridian, a vector is turned towards the *seam vector* of its latitude:
    the mean direction of the vectors at exactly +180 and -180, with the mean of their norms.
    Within `SEAM_WIDTH` degrees of latitude of a pole it is then turned towards the pole's one
    vector, made in the same way from the vectors at 720 longitudes. The weight is a quintic
    smooth step that is 1 at the seam and 0, with zero slope, at the edge of the band; outside
    the bands vectors are returned untouched, bit for bit. Directions and norms are blended
    apart, since a plain mean of unlike vectors is shorter than any (down to 0.57 times here).
    Every part of a vector (each scale, each hidden layer) is blended on its own.

    Parameters
    ----------
    encode : callable
        lon/lat (m, 2) to vectors (m, d), as trained.
    widths : sequence of int
        Lengths of the parts, summing to d.

    Examples
    --------
    >>> encode = lambda lonlat: np.column_stack([np.cos(lonlat[:, 0] / 99), np.ones(len(lonlat))])
    >>> blend = SeamBlender(encode, [2])
    >>> seam = np.array([[180.0, 10.0], [-180.0, 10.0]])
    >>> bool(np.ptp(blend(seam, encode(seam)), axis=0).max() < 1e-12)
    True
    """

    def __init__(self, encode: Callable[[NDArray[np.float64]], Block], widths: Sequence[int]):
        self._encode = encode
        self._edges = np.concatenate([[0], np.cumsum(widths)])
        self._poles: dict[float, Block] = {}

    def __call__(self, lonlat: NDArray[np.float64], vectors: Block) -> Block:
        """Return `vectors` (m, d) of lon/lat (m, 2) with the seams closed; a copy if any change."""
        from_seam = 180.0 - np.abs(lonlat[:, 0])
        from_pole = 90.0 - np.abs(lonlat[:, 1])
        near_seam = np.flatnonzero(from_seam < SEAM_WIDTH)
        near_pole = np.flatnonzero(from_pole < SEAM_WIDTH)
        if not len(near_seam) and not len(near_pole):
            return vectors
        blended = vectors.copy()
        if len(near_seam):
            target = self._seam_vectors(lonlat[near_seam, 1])
            weight = _smooth_step(1.0 - from_seam[near_seam] / SEAM_WIDTH)
            blended[near_seam] = self._turn(blended[near_seam], target, weight)
        for pole in (-90.0, 90.0):
            rows = near_pole[np.sign(lonlat[near_pole, 1]) == np.sign(pole)]
            if len(rows):
                target = np.broadcast_to(self._pole_vector(pole), (len(rows), blended.shape[1]))
                weight = _smooth_step(1.0 - from_pole[rows] / SEAM_WIDTH)
                blended[rows] = self._turn(blended[rows], target, weight)
        return blended

    def _seam_vectors(self, lat: NDArray[np.float64]) -> Block:
        distinct, place = np.unique(lat, return_inverse=True)
        east = self._encode(np.column_stack([np.full(len(distinct), 180.0), distinct]))
        west = self._encode(np.column_stack([np.full(len(distinct), -180.0), distinct]))
        return self._mean(np.stack([east, west]))[place]

    def _pole_vector(self, pole: float) -> Block:
        if pole not in self._poles:
            lon = np.linspace(-180.0, 180.0, _POLE_LONGITUDES + 1)
            around = self._encode(np.column_stack([lon, np.full(len(lon), pole)]))
            self._poles[pole] = self._mean(around[:, None, :])
        return self._poles[pole]

    def _mean(self, stack: Block) -> Block:
        """Mean direction and mean norm over the first axis of (k, m, d), part by part."""
        mean = np.empty(stack.shape[1:], dtype=stack.dtype)
        for part in self._slices():
            directions, norms = _split(stack[..., part])
            mean[:, part] = _split(directions.mean(axis=0))[0] * norms.mean(axis=0)
        return mean

    def _turn(self, vectors: Block, target: Block, weight: NDArray[np.float64]) -> Block:
        """Move `vectors` towards `target` by `weight` (m,), directions and norms apart."""
        turned = np.empty_like(vectors)
        share = weight[:, None].astype(vectors.dtype)
        for part in self._slices():
            direction, norm = _split(vectors[:, part])
            goal, goal_norm = _split(target[:, part])
            mixed = _split((1 - share) * direction + share * goal)[0]
            turned[:, part] = mixed * ((1 - share) * norm + share * goal_norm)
        return turned

    def _slices(self) -> list[slice]:
        return [slice(a, b) for a, b in zip(self._edges[:-1], self._edges[1:], strict=True)]


def _split(vectors: Block) -> tuple[Block, Block]:
    """Unit vectors and norms; a zero vector keeps the zero direction."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norms == 0, 1, norms), norms


def _smooth_step(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Perlin's quintic: 0 at 0, 1 at 1, first and second derivatives zero at both ends."""
    smooth: NDArray[np.float64] = t * t * t * (t * (t * 6.0 - 15.0) + 10.0)
    return smooth
