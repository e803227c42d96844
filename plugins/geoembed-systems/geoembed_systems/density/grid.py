"""The density of neighbours as it was first published: on a grid of degrees, blurred."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from geoembed_systems.density.sphere import Neighbours, snap

__all__ = ["grid_peaks"]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

# Steps of the two grids and half the side of the finer one, degrees.
_COARSE: Final = 1.0
_FINE: Final = 0.1
_WINDOW: Final = 20.0
# Values of the grids held at a time (64 MB).
_VALUES: Final = 2**23


def grid_peaks(found: Neighbours, *, sigma: float, pooling: str, snap_km: float) -> Floats:
    """Find where the neighbours are densest, on grids of degrees.

    Weights are summed in squares of 1 degree and blurred by a Gaussian; around the largest sum,
    within 20 degrees, the same is done in squares of 0.1 degrees. The faults of the original are
    kept: a degree is a degree at every latitude, and the grid ends at the antimeridian.

    Parameters
    ----------
    found : Neighbours
        Of some pictures.
    sigma : float
        Standard deviation of the Gaussian, degrees of longitude and of latitude. It is not cut off.
    pooling : {"mean", "max"}
        How the grids of a picture's views become one.
    snap_km : float
        The answer is the most similar neighbour that lies within this distance of the maximum,
        and the maximum where there is none.

    Returns
    -------
    array of shape (m, 2), float64
        Longitude and latitude, degrees.

    Examples
    --------
    >>> places = np.array([[[0.0, 0.0], [90.0, 0.0], [90.0, 1.0]]])
    >>> found = Neighbours(np.arange(3)[None], places, np.array([[[0.4, 0.3, 0.3]]]))
    >>> grid_peaks(found, sigma=4.0, pooling="mean", snap_km=100.0).tolist()
    [[90.0, 0.0]]
    """
    peak = np.empty((len(found), 2))
    fine = round(2.0 * _WINDOW / _FINE)
    for some in np.array_split(
        np.arange(len(found)), 1 + len(found) * found.views * fine**2 // _VALUES
    ):
        part = found.take(some)
        corner = np.tile([-180.0, -90.0], (len(some), 1))
        rough = _densest(part, corner, (360, 180), _COARSE, sigma, pooling)
        # The finer squares lie within the coarse ones: their edges are whole degrees.
        corner = np.floor(rough) - _WINDOW
        peak[some] = _densest(part, corner, (fine, fine), _FINE, sigma, pooling)
    return snap(found, peak, snap_km)


def _densest(
    found: Neighbours,
    corner: Floats,
    shape: tuple[int, int],
    step: float,
    sigma: float,
    pooling: str,
) -> Floats:
    """Return the middle of the square that holds most after blurring, (m, 2).

    The Gaussian of a sum of squares is the product of one along longitude and one along latitude:
    blurring the grid is a product of two tables.
    """
    at = np.floor((found.lonlat - corner[:, None]) / step + 1e-9)
    if step == _COARSE:
        # 180 degrees east and the north pole belong to the last squares.
        at = np.minimum(at, np.array(shape) - 1.0)
    inside = np.asarray(((at >= 0.0) & (at < shape)).all(axis=2))
    across, along = (
        torch.from_numpy(
            np.exp(-0.5 * ((at[:, :, axis, None] - np.arange(count)) * step / sigma) ** 2)
        )
        for axis, count in enumerate(shape)
    )
    weights = torch.from_numpy(found.weights * inside[:, None])
    # Longitude runs along the last axis, as on a map.
    grids = [(along * weights[:, view, :, None]).mT @ across for view in range(found.views)]
    stacked = torch.stack(grids)
    grid = stacked.mean(dim=0) if pooling == "mean" else stacked.amax(dim=0)
    best = grid.flatten(1).argmax(dim=1).numpy()
    row, column = np.divmod(best, shape[0])
    return np.asarray(corner + (np.stack([column, row], axis=1) + 0.5) * step)
