"""Numbers of S2 cells, computed for whole arrays at once."""

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoembed.errors import CoordinateError, OptionError
from geoembed.geodesy import to_unit_vectors
from geoembed.scalars import is_whole

__all__ = [
    "MAX_LEVEL",
    "cell_ids",
    "check_level",
    "children",
    "first_leaves",
    "last_leaves",
    "levels",
    "parents",
    "tokens",
]

Floats = NDArray[np.float64]
Ids = NDArray[np.uint64]
Ints = NDArray[np.int64]

MAX_LEVEL: Final = 30
"""Level of leaf cells, about a centimetre wide."""

# The curve that numbers the four quarters of a cell has four orientations: bit 0 swaps the two
# axes, bit 1 turns both round. For each, the position of quarter 2 i + j along the curve, and what
# the orientation of the quarter at each position differs by (S2's choice of Hilbert curve).
_POSITION: Final = np.array(
    [[0, 1, 3, 2], [0, 3, 1, 2], [2, 3, 1, 0], [2, 1, 3, 0]], dtype=np.uint8
)
_TURN: Final = np.array([1, 0, 0, 3], np.uint8)

# Places worked on at once: what one step of the curve touches stays in the cache.
_BLOCK: Final = 2**15


def cell_ids(lonlat: ArrayLike, level: int = MAX_LEVEL) -> Ids:
    """Return the S2 cell of every place.

    Parameters
    ----------
    lonlat : array of shape (n, 2)
        Longitude and latitude, degrees, finite; latitude in [-90, 90].
    level : int
        From 0 (the six faces of a cube around the Earth) to 30.

    Returns
    -------
    array of shape (n,), uint64
        The ids that S2 gives (quadratic projection, latitude taken for that of the sphere).

    Raises
    ------
    CoordinateError
        If `lonlat` has another shape, a coordinate is not finite or a latitude out of range.
    OptionError
        If `level` does not fit.

    Notes
    -----
    About three million places a second. Where a place lies on an edge to within rounding, S2
    itself may choose either cell, by how its sine was compiled.

    Examples
    --------
    >>> ids = cell_ids([[2.3522, 48.8566], [-74.0060, 40.7128]], level=10)
    >>> tokens(ids)
    ['47e66f', '89c25b']
    """
    level = check_level("level", level)
    places = np.asarray(lonlat, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 2:
        raise CoordinateError(f"Places must have the shape (n, 2), got {places.shape}.")
    if not (np.isfinite(places).all() and (np.abs(places[:, 1]) <= 90.0).all()):
        raise CoordinateError(
            "Places must be finite, with latitudes in [-90, 90]: read them with "
            "geoembed.read_places, which names the rows that are not."
        )
    ids = np.empty(len(places), dtype=np.uint64)
    for start in range(0, len(places), _BLOCK):
        block = slice(start, start + _BLOCK)
        ids[block] = _leaves(places[block])
    return ids if level == MAX_LEVEL else parents(ids, level)


def _leaves(places: Floats) -> Ids:
    """Return the leaf cells of a block of places."""
    face, u, v = _on_cube(to_unit_vectors(places))
    i, j = _steps(u), _steps(v)
    orientation = (face & 1).astype(np.uint8)
    along = np.zeros(len(places), dtype=np.uint64)
    for bit in range(MAX_LEVEL - 1, -1, -1):
        quarter = ((i >> bit) & 1) * 2 + ((j >> bit) & 1)
        position = _POSITION[orientation, quarter]
        along = (along << np.uint64(2)) | position
        orientation ^= _TURN[position]
    marked: Ids = (face.astype(np.uint64) << np.uint64(61)) | (along << np.uint64(1))
    return marked | np.uint64(1)


def _on_cube(units: Floats) -> tuple[Ints, Floats, Floats]:
    """Project the sphere onto a cube: the face, and where on it, in [-1, 1]."""
    sizes = np.abs(units)
    # Ties go to the later axis, as in S2.
    first, second, third = sizes.T
    axis = np.where(first > second, np.where(first > third, 0, 2), np.where(second > third, 1, 2))
    rows = np.arange(len(units))
    face = axis + 3 * (units[rows, axis] < 0.0)
    x, y, z = units.T
    u, v = np.empty(len(units)), np.empty(len(units))
    ratios: tuple[tuple[Floats, Floats, Floats], ...] = (
        (y, z, x), (-x, z, y), (-x, -y, z), (z, y, x), (z, -x, y), (-y, -x, z),
    )  # fmt: skip
    for number, (across, up, depth) in enumerate(ratios):
        on = face == number
        u[on], v[on] = across[on] / depth[on], up[on] / depth[on]
    return face, u, v


def _steps(u: Floats) -> Ints:
    """Turn a coordinate on a face into the row or column of a leaf cell."""
    root = 0.5 * np.sqrt(1.0 + 3.0 * np.abs(u))
    share = np.where(u >= 0.0, root, 1.0 - root)
    cells = 1 << MAX_LEVEL
    return np.clip(np.floor(share * cells), 0, cells - 1).astype(np.int64)


def check_level(name: str, level: Any) -> int:
    """Refuse what is no level.

    Parameters
    ----------
    name : str
        Of the option, for the error.
    level : int
        From 0 to 30.

    Returns
    -------
    int
        The level.

    Raises
    ------
    OptionError
        If it is no whole number, or out of range.

    Examples
    --------
    >>> check_level("max_level", 20)
    20
    """
    if not is_whole(level) or not 0 <= level <= MAX_LEVEL:
        raise OptionError(f"{name}={level!r} is no level of S2 cells: give 0 to {MAX_LEVEL}.")
    return int(level)


def _marks(ids: Ids) -> Ids:
    """Return the lowest bit that is set; it tells the level."""
    return ids & (~ids + np.uint64(1))


def levels(ids: ArrayLike) -> Ints:
    """Return the level of every cell.

    Parameters
    ----------
    ids : array of uint64
        Of S2 cells.

    Returns
    -------
    array of int64, shape of `ids`
        From 0 to 30.

    Examples
    --------
    >>> levels(cell_ids([[2.35, 48.86]], level=7)).tolist()
    [7]
    """
    marks = _marks(np.asarray(ids, dtype=np.uint64))
    # Powers of two are exact in float64.
    found: Ints = MAX_LEVEL - (np.log2(marks.astype(np.float64)) / 2.0).astype(np.int64)
    return found


def parents(ids: ArrayLike, level: int) -> Ids:
    """Return the cell of a coarser level that holds each.

    Parameters
    ----------
    ids : array of uint64
        Of S2 cells, none coarser than `level`.
    level : int
        From 0 to 30.

    Returns
    -------
    array of uint64, shape of `ids`
        Their ids.

    Raises
    ------
    OptionError
        If `level` does not fit, or a cell is coarser.

    Examples
    --------
    >>> tokens(parents(cell_ids([[2.35, 48.86]], level=10), 3))
    ['47c']
    """
    level = check_level("level", level)
    numbers = np.asarray(ids, dtype=np.uint64)
    mark = np.uint64(1 << 2 * (MAX_LEVEL - level))
    if (_marks(numbers) > mark).any():
        raise OptionError(f"level={level}: some of the cells are coarser and have no such parent.")
    return (numbers & (~mark + np.uint64(1))) | mark


def children(ids: ArrayLike) -> Ids:
    """Return the four quarters of every cell.

    Parameters
    ----------
    ids : array of uint64, shape (n,)
        Of S2 cells, none of them leaves.

    Returns
    -------
    array of uint64, shape (n, 4)
        Along S2's curve, ascending.

    Raises
    ------
    OptionError
        If a cell is a leaf.

    Examples
    --------
    >>> tokens(children(cell_ids([[2.35, 48.86]], level=3))[0])
    ['479', '47b', '47d', '47f']
    """
    numbers = np.asarray(ids, dtype=np.uint64)
    marks = _marks(numbers)
    if (marks == 1).any():
        raise OptionError("Leaf cells have no children.")
    quarter = marks >> np.uint64(2)
    steps = np.arange(4, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    found: Ids = (numbers - marks)[:, None] + quarter[:, None] * steps
    return found


def first_leaves(ids: ArrayLike) -> Ids:
    """Return the lowest leaf cell in every cell.

    Parameters
    ----------
    ids : array of uint64
        Of S2 cells.

    Returns
    -------
    array of uint64, shape of `ids`
        A cell holds the leaves from the first to the last, both included.

    Examples
    --------
    >>> tokens(first_leaves(cell_ids([[2.35, 48.86]], level=3)))
    ['4780000000000001']
    """
    numbers = np.asarray(ids, dtype=np.uint64)
    return numbers - (_marks(numbers) - np.uint64(1))


def last_leaves(ids: ArrayLike) -> Ids:
    """Return the highest leaf cell in every cell.

    Parameters
    ----------
    ids : array of uint64
        Of S2 cells.

    Returns
    -------
    array of uint64, shape of `ids`
        A cell holds the leaves from the first to the last, both included.

    Examples
    --------
    >>> tokens(last_leaves(cell_ids([[2.35, 48.86]], level=3)))
    ['47ffffffffffffff']
    """
    numbers = np.asarray(ids, dtype=np.uint64)
    return numbers + (_marks(numbers) - np.uint64(1))


def tokens(ids: ArrayLike) -> list[str]:
    """Write cells as S2 does: in hexadecimal, without the zeros at the end.

    Parameters
    ----------
    ids : array of uint64, shape (n,)
        Of S2 cells.

    Returns
    -------
    list of str
        Such as ``"47e66f"``, by which other programs know them.

    Examples
    --------
    >>> tokens(cell_ids([[2.3522, 48.8566]], level=0))
    ['5']
    """
    return [f"{number:016x}".rstrip("0") or "X" for number in np.asarray(ids).tolist()]
