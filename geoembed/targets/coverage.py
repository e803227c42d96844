"""How much of each cell of a grid polygons cover: exact areas, many polygons at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoembed.parts import ranks, sums

__all__ = ["Edges", "Windows", "cover", "cut_windows"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

# Coverage below this is rounding of the sums.
_NOTHING = 1e-9
# Cells of the largest window; polygons over more cells are worked through in several.
_WINDOW = 2**18


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges of shapes in pixel coordinates, those of one shape side by side.

    Parameters
    ----------
    start, stop : ndarray of float64, shape (e, 2)
        Column and row of both ends; shells and holes run opposite ways round.
    first : ndarray of intp, shape (s + 1,)
        Where the edges of each shape begin, and the number of edges.
    """

    start: Floats
    stop: Floats
    first: Rows

    def boxes(self) -> Floats:
        """Least column and row, largest column and row of each shape, (s, 4)."""
        least = np.minimum.reduceat(np.minimum(self.start, self.stop), self.first[:-1])
        most = np.maximum.reduceat(np.maximum(self.start, self.stop), self.first[:-1])
        return np.concatenate([least, most], axis=1)

    def ways_round(self) -> Floats:
        """1 for shapes whose shells turn so that the area to their right counts, else -1."""
        shape = np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))
        # Around the first vertex, where the products are small.
        origin = self.start[self.first[:-1]][shape]
        middle = (self.start[:, 0] + self.stop[:, 0]) / 2.0 - origin[:, 0]
        area = sums([middle * (self.stop - self.start)[:, 1]], shape, len(self.first) - 1)[0]
        return np.where(area > 0.0, -1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Windows:
    """Pieces of the grid, each with one shape to be measured in it.

    Parameters
    ----------
    shape : ndarray of intp, shape (w,)
        Number of the shape.
    row, column, height, width : ndarray of intp, shape (w,)
        First cell and extent.
    """

    shape: Rows
    row: Rows
    column: Rows
    height: Rows
    width: Rows

    def __len__(self) -> int:
        return len(self.shape)

    def take(self, chosen: Rows) -> "Windows":
        """Return some of them."""
        return Windows(*(values[chosen] for values in vars(self).values()))


def cut_windows(boxes: Floats, height: int, width: int, tile: tuple[int, int]) -> Windows:
    """Find the windows that hold shapes: one each, or several where a shape is large.

    Parameters
    ----------
    boxes : ndarray of float64, shape (s, 4)
        As `Edges.boxes` gives them; NaN for none.
    height, width : int
        Extent of the grid; what lies beyond is cut off.
    tile : (int, int)
        Rows and columns of the tiles that large shapes are cut along.

    Returns
    -------
    Windows
        Shapes off the grid have none.
    """
    with np.errstate(invalid="ignore"):
        low = np.clip(np.floor(boxes[:, 1::-1]), 0, [height, width])
        high = np.clip(np.ceil(boxes[:, :1:-1]), 0, [height, width])
        on = np.flatnonzero((high > low).all(axis=1))
    low, high = low[on].astype(np.intp), high[on].astype(np.intp)
    # Windows of about _WINDOW cells on the lines between tiles.
    times = max(1, int((_WINDOW / (tile[0] * tile[1])) ** 0.5))
    size = np.array([min(tile[0] * times, height), min(tile[1] * times, width)])
    small = (high - low).prod(axis=1) <= size.prod()
    first = np.where(small[:, None], 0, low // size)
    count = np.where(small[:, None], 1, -(-high // size) - first)
    shape = np.repeat(np.arange(len(on)), count.prod(axis=1))
    rank = ranks(count.prod(axis=1))
    at = np.stack([rank // count[shape, 1], rank % count[shape, 1]], axis=1) + first[shape]
    whole = small[shape][:, None]
    start = np.where(whole, low[shape], np.maximum(low[shape], at * size))
    stop = np.where(whole, high[shape], np.minimum(high[shape], (at + 1) * size))
    extent = stop - start
    return Windows(on[shape], start[:, 0], start[:, 1], extent[:, 0], extent[:, 1])


def cover(edges: Edges, windows: Windows) -> tuple[Rows, Rows, Rows, Floats]:
    """Measure which part of each cell its window's shape covers.

    Parameters
    ----------
    edges : Edges
        Of all shapes.
    windows : Windows
        Where to measure; their cells are all in memory at once.

    Returns
    -------
    window, row, column : ndarray of intp, shape (m,)
        Covered cells, window by window, row by row.
    share : ndarray of float64, shape (m,)
        Covered share of the cell's area in the plane of the grid, in (0, 1].

    Notes
    -----
    Green's theorem cell by cell, as rasterizers of fonts do it: an edge adds its climb to all
    cells on its right in that row, and in the cell that it crosses the part right of it. Running
    sums along the rows finish the job. It is exact for straight edges.
    """
    base = np.concatenate([[0], np.cumsum(windows.height * (windows.width + 1))]).astype(np.intp)
    window, row, column, climb, along = _pieces(edges, windows)
    # Each row of a window has one place more, for what lies right of it.
    place = base[window] + row * (windows.width[window] + 1) + column
    change = np.bincount(place, climb * (1.0 - along), base[-1] + 1)
    change += np.bincount(place + 1, climb * along, base[-1] + 1)
    # The climbs of closed shapes in a row add up to nothing, so rows need not be told apart.
    total = np.cumsum(change[:-1])
    covered = np.flatnonzero(np.abs(total) > _NOTHING)
    window = np.searchsorted(base, covered, side="right") - 1
    row, column = np.divmod(covered - base[window], windows.width[window] + 1)
    inside = column < windows.width[window]
    covered, window, row, column = covered[inside], window[inside], row[inside], column[inside]
    share = total[covered] * edges.ways_round()[windows.shape[window]]
    np.minimum(share, 1.0, out=share)
    return window, row + windows.row[window], column + windows.column[window], share


def _pieces(edges: Edges, windows: Windows) -> tuple[Rows, Rows, Rows, Floats, Floats]:
    """Cut edges along the lines of the grid; give each piece's window, cell, climb and place.

    The place is the mean share of the cell left of the piece. Pieces left of the window
    are put on its left rim, those right of it into the column behind the last.
    """
    count = np.diff(edges.first)[windows.shape]
    window = np.repeat(np.arange(len(windows)), count)
    edge = np.repeat(edges.first[windows.shape], count) + ranks(count)
    origin = np.stack([windows.column, windows.row], axis=1)
    height, width = windows.height.astype(np.float64), windows.width.astype(np.float64)
    start = edges.start[edge] - origin[window]
    stop = edges.stop[edge] - origin[window]
    low, high = np.minimum(start[:, 1], stop[:, 1]), np.maximum(start[:, 1], stop[:, 1])
    crossing = np.flatnonzero((low < high) & (high > 0.0) & (low < height[window]))
    window, start, stop = window[crossing], start[crossing], stop[crossing]
    low = np.maximum(low[crossing], 0.0)
    high = np.minimum(high[crossing], height[window])
    sign = np.sign(stop[:, 1] - start[:, 1])
    slope = (stop[:, 0] - start[:, 0]) / (stop[:, 1] - start[:, 1])

    # Along the rows.
    first = np.floor(low).astype(np.intp)
    count = np.maximum(np.ceil(high).astype(np.intp) - first, 1)
    edge = np.repeat(np.arange(len(first)), count)
    row = first[edge] + ranks(count)
    top = np.maximum(low[edge], row)
    climb = np.minimum(high[edge], row + 1) - top
    x_top = start[edge, 0] + (top - start[edge, 1]) * slope[edge]
    x_end = x_top + climb * slope[edge]
    window, climb = window[edge], climb * sign[edge]

    # Along the columns; -1 and the window's width stand for all that lies outside.
    left, right = np.minimum(x_top, x_end), np.maximum(x_top, x_end)
    first = np.clip(np.floor(left), -1.0, width[window]).astype(np.intp)
    last = np.clip(np.floor(right), -1.0, width[window]).astype(np.intp)
    count = last - first + 1
    piece = np.repeat(np.arange(len(first)), count)
    column = first[piece] + ranks(count)
    outside = (column < 0) | (column >= width[window[piece]])
    start_x = np.where(column == first[piece], left[piece], column)
    stop_x = np.where(column == last[piece], right[piece], column + 1.0)
    reach = (right - left)[piece]
    whole = count[piece] == 1
    share = np.where(whole, 1.0, (stop_x - start_x) / np.where(whole, 1.0, reach))
    along = np.where(outside, 0.0, np.clip((start_x + stop_x) / 2.0 - column, 0.0, 1.0))
    window = window[piece]
    return window, row[piece], np.maximum(column, 0), climb[piece] * share, along
