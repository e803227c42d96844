"""Numbers of S2 cells, against s2geometry."""

import numpy as np
import pytest
import s2geometry
from geoembed_systems.cells import s2

from geoembed.errors import CoordinateError, OptionError


def theirs(lonlat: np.ndarray, level: int) -> np.ndarray:
    """Return the cells that s2geometry gives."""
    leaves = (s2geometry.S2CellId(s2geometry.S2LatLng.FromDegrees(y, x)) for x, y in lonlat)
    return np.array([leaf.parent(level).id() for leaf in leaves], dtype=np.uint64)


@pytest.fixture(scope="module")
def anywhere() -> np.ndarray:
    """Return places all over the sphere, and tiny steps from one another."""
    rng = np.random.default_rng(0)
    lat = np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, 20_000)))
    places = np.column_stack([rng.uniform(-180.0, 180.0, 20_000), lat])
    return np.concatenate([places, places[:500] + rng.normal(0.0, 1e-7, (500, 2)).clip(-1, 1)])


# The corners of faces are where all three coordinates are equal in size.
CORNER = float(np.degrees(np.arctan(1.0 / np.sqrt(2.0))))
EDGES = np.array(
    [
        (lon, lat)
        for lon in (-180.0, -135.0, -90.0, -45.0, 0.0, 45.0, 90.0, 135.0, 180.0, 179.9999999999)
        for lat in (-90.0, -CORNER, -1e-12, 0.0, 1e-12, CORNER, 45.0, 89.9999999, 90.0)
    ]
)


@pytest.mark.parametrize("level", [0, 1, 9, 20, 30])
def test_ids_are_those_of_s2_anywhere(anywhere: np.ndarray, level: int) -> None:
    assert np.array_equal(s2.cell_ids(anywhere, level), theirs(anywhere, level))


def test_ids_at_poles_antimeridian_and_edges_of_faces_are_those_of_s2_or_of_a_cell_beside() -> None:
    got = s2.cell_ids(EDGES)
    # On an edge two sines that differ in the last bit choose two cells; both hold the place.
    for (lon, lat), ours, other in zip(EDGES, got.tolist(), theirs(EDGES, 30), strict=True):
        point = s2geometry.S2LatLng.FromDegrees(lat, lon).ToPoint()
        away = s2geometry.S2Cell(s2geometry.S2CellId(ours)).GetDistance(point).ToAngle().radians()
        assert ours == other or away < 1e-15
    assert (s2.levels(got) == 30).all()


def test_levels_parents_children_and_tokens_are_those_of_s2(anywhere: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    depth = rng.integers(1, 30, 300)
    leaves = s2.cell_ids(anywhere[:300])
    for leaf, level in zip(leaves.tolist(), depth.tolist(), strict=True):
        cell = s2geometry.S2CellId(leaf).parent(level)
        ours = s2.parents(np.array([leaf], dtype=np.uint64), level)
        assert ours[0] == cell.id()
        assert s2.levels(ours)[0] == level
        assert s2.tokens(ours) == [cell.ToToken()]
        assert s2.children(ours)[0].tolist() == [cell.child(k).id() for k in range(4)]
        assert s2.first_leaves(ours)[0] == cell.range_min().id()
        assert s2.last_leaves(ours)[0] == cell.range_max().id()
        assert s2.parents(ours, level - 1)[0] == cell.parent(level - 1).id()


def test_blocks_leave_no_seam(anywhere: np.ndarray) -> None:
    many = np.concatenate([anywhere, anywhere])
    assert len(many) > 2**15
    assert np.array_equal(s2.cell_ids(many)[: len(anywhere)], s2.cell_ids(anywhere))
    assert np.array_equal(s2.cell_ids(many)[len(anywhere) :], s2.cell_ids(anywhere))


def test_no_place_has_no_cell() -> None:
    assert s2.cell_ids(np.empty((0, 2))).shape == (0,)


def test_bad_places_and_levels_are_refused() -> None:
    with pytest.raises(CoordinateError, match=r"shape \(n, 2\), got \(3,\)"):
        s2.cell_ids(np.zeros(3))
    for bad in ([np.nan, 0.0], [0.0, np.inf], [0.0, 90.1]):
        with pytest.raises(CoordinateError, match="finite, with latitudes in"):
            s2.cell_ids([bad])
    for level in (-1, 31, 2.0, True):
        with pytest.raises(OptionError, match=rf"level={level!r} is no level of S2 cells"):
            s2.cell_ids([[0.0, 0.0]], level)
    cell = s2.cell_ids([[0.0, 0.0]], 5)
    with pytest.raises(OptionError, match="some of the cells are coarser"):
        s2.parents(cell, 6)
    with pytest.raises(OptionError, match="Leaf cells have no children"):
        s2.children(s2.cell_ids([[0.0, 0.0]]))
