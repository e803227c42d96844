"""The encoder itself: imported only when ``template.xyz`` is first used."""

# --8<-- [start:encoder]
import numpy as np
from numpy.typing import NDArray

from geoembed import LocationEncoder


class UnitSphereEncoder(LocationEncoder):
    """Each place as x, y, z on the unit sphere; cosine similarity is the cosine of the arc.

    x points to (lon, lat) = (0, 0), y to (90, 0), z to the north pole.
    """

    def _encode_block(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        lon, lat = np.radians(lonlat).T
        return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


# --8<-- [end:encoder]
