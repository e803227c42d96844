"""Even grids over all land, kept in geoembed's cache: looking up the land takes the time."""

import hashlib
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from geoembed.data import is_land
from geoembed.galleries.lattice import lattice_blocks, lattice_size
from geoembed.progress import progress_bar
from geoembed.weights import cache_dir
from geoembed.weights.drafts import draft_room

__all__ = ["land_grid_places"]

# Changed when the lattice or the way of looking up land changes.
_VERSION: Final = 1
# Coarser grids are quicker laid than read; larger ones are not worth their room.
_FEWEST, _MOST = 50_000, 40_000_000


def land_grid_places(spacing_km: float) -> NDArray[np.float64]:
    """Lay an even grid over all land, or find it in geoembed's cache.

    Parameters
    ----------
    spacing_km : float
        Side of the square that each place stands for.

    Returns
    -------
    array of shape (n, 2), float64
        Longitude and latitude, degrees, from north to south.

    Raises
    ------
    OptionError
        If `spacing_km` is not between 0.1 and 5000.

    Examples
    --------
    >>> land_grid_places(1000).shape
    (146, 2)
    """
    count = lattice_size(spacing_km)
    path = _path(count) if _FEWEST <= count <= _MOST else None
    kept = None if path is None else _read(path)
    if kept is not None:
        return kept
    blocks = [np.empty((0, 2))]
    with progress_bar(None, text="looking up land", unit="place", total=count) as bar:
        for block in lattice_blocks(count):
            blocks.append(block[is_land(*block.T)])
            bar.update(len(block))
    lonlat: NDArray[np.float64] = np.concatenate(blocks)
    if path is not None:
        # Without room for it, it is laid anew next time: nothing is lost.
        with suppress(OSError):
            _write(path, lonlat)
    return lonlat


def _path(count: int) -> Path:
    """Name the file by all that decides what is in it: the lattice and the outlines of land."""
    outlines = files("geoembed.data").joinpath("countries.parquet").read_bytes()
    key = hashlib.sha256(f"{_VERSION} {count} ".encode() + outlines).hexdigest()
    return cache_dir() / "grids" / f"land-{count}-{key[:16]}.npz"


def _read(path: Path) -> NDArray[np.float64] | None:
    """Read a grid; None if there is none, or it is damaged, which the file's checksums tell."""
    try:
        with path.open("rb") as stream, np.load(stream) as stored:
            lonlat: NDArray[np.float64] = stored["lonlat"]
    # Damaged files fail in many ways; all of them mean the same.
    except Exception:
        return None
    return lonlat


def _write(path: Path, lonlat: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name for all grids: what was left of another one is cleared with this one.
    with draft_room(path.with_name("making")) as room:
        draft = room / path.name
        with draft.open("wb") as stream:
            np.savez(stream, lonlat=lonlat)
        draft.replace(path)
