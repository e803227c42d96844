"""Exact coverage of cells, against areas of intersections computed one by one."""

import numpy as np
import pytest
import shapely

from geoembed.targets import coverage
from geoembed.targets.coverage import Edges, cover, cut_windows


def edges_of(polygons):
    """Edges of oriented polygons in the plane of the grid."""
    starts, stops, first = [], [], [0]
    for polygon in polygons:
        for ring, ccw in [(polygon.exterior, True), *((hole, False) for hole in polygon.interiors)]:
            corners = np.array(ring.coords)
            corners = corners if ring.is_ccw == ccw else corners[::-1]
            starts.append(corners[:-1])
            stops.append(corners[1:])
        first.append(sum(map(len, starts)))
    return Edges(np.concatenate(starts), np.concatenate(stops), np.array(first))


def measured(polygons, height, width, tile=(64, 64)):
    edges = edges_of(polygons)
    windows = cut_windows(edges.boxes(), height, width, tile)
    window, row, column, share = cover(edges, windows)
    result = np.zeros((len(polygons), height, width))
    np.add.at(result, (windows.shape[window], row, column), share)
    return result


def expected(polygons, height, width):
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    cells = shapely.box(column, row, column + 1, row + 1)
    return np.stack([shapely.area(shapely.intersection(cells, p)) for p in polygons])


def stars(count, seed, reach):
    """Polygons with many corners and one hole, some far over the rim of the grid."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 23))
        radius = rng.uniform(0.5, 1, 23) * rng.uniform(0.05, reach)
        x, y = rng.uniform(-2, 14, 2)
        corners = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)
        star = shapely.make_valid(shapely.Polygon(corners))
        star = max(shapely.get_parts(star), key=shapely.area)
        hole = shapely.Point(star.representative_point()).buffer(0.05 * reach, 3)
        star = shapely.difference(star, hole)
        found.append(max(shapely.get_parts(star), key=shapely.area))
    return found


@pytest.mark.parametrize("reach", [0.6, 4.0, 30.0])
def test_shares_equal_areas_of_intersections(reach):
    polygons = stars(25, seed=1, reach=reach)
    np.testing.assert_allclose(
        measured(polygons, 9, 13), expected(polygons, 9, 13), rtol=0, atol=1e-9
    )


def test_polygons_on_the_lines_of_the_grid_cover_whole_cells():
    got = measured([shapely.box(2, 1, 5, 4), shapely.box(-3, -3, 20, 20)], 6, 7)
    assert got[0].sum() == 9
    assert set(np.unique(got)) == {0.0, 1.0}
    assert (got[1] == 1.0).all()


def test_either_way_round_gives_the_same():
    polygons = stars(5, seed=3, reach=4.0)
    mirrored = [shapely.transform(p, lambda xy: xy * [1, -1] + [0, 9]) for p in polygons]
    np.testing.assert_allclose(
        measured(polygons, 9, 13), measured(mirrored, 9, 13)[:, ::-1], atol=1e-12
    )


def test_large_shapes_are_measured_window_by_window(monkeypatch):
    polygons = stars(6, seed=5, reach=20.0)
    monkeypatch.setattr(coverage, "_WINDOW", 12)
    edges = edges_of(polygons)
    windows = cut_windows(edges.boxes(), 9, 13, (3, 4))
    assert len(windows) > 20
    assert (windows.height * windows.width).max() <= 12
    np.testing.assert_allclose(
        measured(polygons, 9, 13, (3, 4)), expected(polygons, 9, 13), rtol=0, atol=1e-9
    )


def test_shapes_off_the_grid_have_no_window():
    boxes = np.array([[-5, -5, -1, -1], [3, 20, 4, 30], [np.nan] * 4, [12.5, 8.5, 99, 99]])
    windows = cut_windows(boxes, 9, 13, (64, 64))
    assert windows.shape.tolist() == [3]
    assert (windows.row[0], windows.column[0]) == (8, 12)
