"""Adaptive partitions: what must hold of them, whatever the places."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import s2geometry
import shapely
from geoembed_systems.cells import s2
from geoembed_systems.cells.adaptive import Partition, adaptive_partition, auto_limits
from geoembed_systems.cells.outlines import cell_polygons
from safetensors.numpy import load_file, save_file

from geoembed.errors import CoordinateError, OptionError, SavedHeadError
from geoembed.geodesy import great_circle_km, spherical_mean

STATIONS = Path(__file__).parents[4] / "shared" / "data" / "airtemp_stations" / "stations.csv"


def crowds(count: int, seed: int = 0) -> np.ndarray:
    """Return places in towns of all sizes, some at poles and at the antimeridian."""
    rng = np.random.default_rng(seed)
    towns = np.column_stack(
        [rng.uniform(-180, 180, 40), np.degrees(np.arcsin(rng.uniform(-1, 1, 40)))]
    )
    towns[:4] = [[180.0, 10.0], [-180.0, -40.0], [0.0, 90.0], [77.0, -90.0]]
    town = rng.choice(40, count, p=rng.dirichlet(np.full(40, 0.7)))
    places = towns[town] + rng.normal(0.0, 1.0, (count, 2)) * rng.choice(
        [0.01, 1.0, 5.0], (count, 1)
    )
    # Over a pole and down again.
    places[:, 1] = 90.0 - np.abs(180.0 - np.abs(places[:, 1] + 90.0))
    places[:, 0] = (places[:, 0] + 180.0) % 360.0 - 180.0
    return places


def brute_force(places: np.ndarray, t_max: int, t_min: int, top: int, deepest: int) -> dict:
    """Cut cells one by one, with s2geometry: token -> rows."""
    leaves = [s2geometry.S2CellId(s2geometry.S2LatLng.FromDegrees(y, x)) for x, y in places]
    found = {}

    def cut(cell: s2geometry.S2CellId, rows: list[int]) -> None:
        if len(rows) > t_max and cell.level() < deepest:
            for k in range(4):
                quarter = cell.child(k)
                cut(quarter, [row for row in rows if quarter.contains(leaves[row])])
        elif len(rows) >= t_min:
            found[cell.ToToken()] = rows

    for token in {leaf.parent(top).ToToken() for leaf in leaves}:
        cell = s2geometry.S2CellId.FromToken(token)
        cut(cell, [row for row, leaf in enumerate(leaves) if cell.contains(leaf)])
    return found


@pytest.mark.parametrize(
    ("t_max", "t_min", "top", "deepest"),
    [(100, 10, 0, 20), (50, 1, 3, 20), (30, 30, 0, 6), (1, 1, 0, 12)],
)
def test_cells_are_those_of_cutting_one_by_one(
    t_max: int, t_min: int, top: int, deepest: int
) -> None:
    places = crowds(1_500)
    made = adaptive_partition(places, t_max=t_max, t_min=t_min, min_level=top, max_level=deepest)
    truth = brute_force(places, t_max, t_min, top, deepest)
    assert s2.tokens(made.ids) == sorted(truth)
    home = made.locate(places)
    for number, token in enumerate(s2.tokens(made.ids)):
        assert np.flatnonzero(home == number).tolist() == truth[token]
        assert made.counts[number] == len(truth[token])
        mean = spherical_mean(places[truth[token]])
        assert great_circle_km(*mean, *made.means[number]) < 1e-6
    kept = sorted(row for rows in truth.values() for row in rows)
    assert np.flatnonzero(home >= 0).tolist() == kept
    assert made.places == len(places)


@pytest.mark.parametrize("t_max", [20, 200, 1_000])
def test_classes_are_disjoint_cover_what_is_kept_and_hold_as_many_as_allowed(t_max: int) -> None:
    places = crowds(20_000, seed=t_max)
    made = adaptive_partition(places, t_max=t_max, t_min=5)
    assert (s2.last_leaves(made.ids)[:-1] < s2.first_leaves(made.ids)[1:]).all()
    assert (made.counts >= 5).all()
    assert (made.counts <= t_max).all()
    home = made.locate(places)
    assert np.array_equal(np.bincount(home[home >= 0], minlength=len(made)), made.counts)
    # What lies in no class lies in a cell that holds fewer than 5 with its whole crowd.
    lost = s2.parents(s2.cell_ids(places[home < 0]), 20)
    assert np.unique(lost, return_counts=True)[1].max(initial=0) < 5
    assert np.array_equal(made.locate(made.means), np.arange(len(made)))
    assert np.array_equal(made.nearest(made.means), np.arange(len(made)))


def test_nearest_is_the_nearest_mean_on_the_sphere() -> None:
    made = adaptive_partition(crowds(3_000), t_max=100, t_min=5)
    asked = crowds(300, seed=9)
    away = great_circle_km(asked[:, None, 0], asked[:, None, 1], *made.means.T)
    assert np.array_equal(made.nearest(asked), away.argmin(axis=1))


def test_order_of_places_and_kind_of_input_do_not_matter() -> None:
    places = crowds(5_000)
    made = adaptive_partition(places, t_max=100, t_min=5)
    shuffled = np.random.default_rng(1).permutation(places)
    frame = pd.DataFrame(shuffled, columns=["lon", "lat"])
    again = adaptive_partition(frame, t_max=100, t_min=5)
    assert again.digest == made.digest
    assert again.digest != adaptive_partition(places[:-1], t_max=100, t_min=5).digest


@pytest.mark.parametrize("source", ["synthetic", "stations"])
def test_classes_become_more_as_they_may_hold_less(source: str) -> None:
    # The form of the published numbers: t_max of 5,000, 2,000 and 1,000 gave 3,298, 7,202 and
    # 12,893 cells on MP-16: more cells the less each may hold, but fewer than in proportion.
    if source == "stations":
        if not STATIONS.exists():
            pytest.skip("the table of weather stations is not on this machine")
        places = pd.read_csv(STATIONS)[["lon", "lat"]].to_numpy()
    else:
        places = crowds(30_000)
    share = len(places) // 400
    counts = [
        len(adaptive_partition(places, t_max=factor * share, t_min=max(1, share // 20)))
        for factor in (5, 2, 1)
    ]
    assert counts[0] < counts[1] < counts[2]
    assert counts[2] / counts[0] < 5.5
    assert counts[2] > 400 * 0.5


def test_limits_that_are_not_given_follow_the_number_of_places() -> None:
    assert auto_limits(100) == (20, 2)
    assert auto_limits(40_000) == (100, 10)
    assert auto_limits(10**9) == (10_000, 50)
    assert auto_limits(100, t_min=7) == (20, 7)
    made = adaptive_partition(crowds(4_000))
    assert made.options == {"t_max": 20, "t_min": 2, "min_level": 0, "max_level": 20}


def test_crowds_in_one_spot_stay_together_at_the_last_level() -> None:
    places = np.concatenate([np.tile([2.35, 48.86], (500, 1)), crowds(500)])
    made = adaptive_partition(places, t_max=50, t_min=1, max_level=10)
    there = made.locate([[2.35, 48.86]])[0]
    assert made.counts[there] >= 500
    assert made.levels[there] == 10


def test_polygons_are_valid_and_hold_the_places_of_their_class() -> None:
    places = crowds(5_000)
    made = adaptive_partition(places, t_max=200, t_min=1)
    frame = made.to_frame()
    assert frame.crs.to_epsg() == 4326
    assert list(frame.columns) == ["cell", "s2", "level", "places", "lon", "lat", "geometry"]
    assert frame.geometry.is_valid.all()
    west, south, east, north = frame.total_bounds
    assert min(west + 180.0, south + 90.0, 180.0 - east, 90.0 - north) >= 0.0
    assert frame["s2"].tolist() == s2.tokens(made.ids)
    home = made.locate(places)
    held = shapely.contains_xy(frame.geometry.to_numpy()[home], *places.T)
    # Straight pieces stand for great circles: a few places on the rim fall to a neighbour.
    assert held.mean() > 0.995


@pytest.mark.parametrize("level", [0, 1, 3])
def test_polygons_of_all_cells_tile_the_map(level: int) -> None:
    cells = np.array([(face << 61) | (1 << 60) for face in range(6)], dtype=np.uint64)
    for _ in range(level):
        cells = s2.children(cells).ravel()
    drawn = cell_polygons(cells)
    assert shapely.is_valid(drawn).all()
    assert shapely.area(drawn).sum() == pytest.approx(360.0 * 180.0, rel=1e-9)
    assert shapely.area(shapely.union_all(drawn)) == pytest.approx(360.0 * 180.0, rel=1e-9)
    middles = [s2geometry.S2CellId(cell).ToLatLng() for cell in cells.tolist()]
    lonlat = [(middle.lng().degrees(), middle.lat().degrees()) for middle in middles]
    assert all(
        shape.distance(shapely.Point(place)) < 1e-9
        for shape, place in zip(drawn, lonlat, strict=True)
    )


def test_a_saved_partition_is_the_same(tmp_path: Path) -> None:
    made = adaptive_partition(crowds(2_000), t_max=100, t_min=5)
    read = Partition.load(made.save(tmp_path / "cells.safetensors"))
    assert read.digest == made.digest
    assert np.array_equal(read.counts, made.counts)
    assert (read.places, read.options) == (made.places, made.options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.safetensors"]


def test_saved_partitions_of_another_version_or_damaged_are_refused(tmp_path: Path) -> None:
    path = adaptive_partition(crowds(2_000), t_max=100, t_min=5).save(tmp_path / "a.safetensors")
    arrays = load_file(path)
    config = adaptive_partition(crowds(2_000), t_max=100, t_min=5).to_state()[1]
    newer = {"partition": json.dumps(config | {"format": 9})}
    save_file(arrays, tmp_path / "newer.safetensors", metadata=newer)
    with pytest.raises(SavedHeadError, match="saved in format 9, and this version reads 1"):
        Partition.load(tmp_path / "newer.safetensors")
    moved = arrays | {"means": arrays["means"] + 1e-9}
    same = {"partition": json.dumps(config)}
    save_file(moved, tmp_path / "moved.safetensors", metadata=same)
    with pytest.raises(SavedHeadError, match="not those of its digest"):
        Partition.load(tmp_path / "moved.safetensors")
    short = arrays | {"counts": arrays["counts"][1:]}
    save_file(short, tmp_path / "short.safetensors", metadata=same)
    with pytest.raises(SavedHeadError, match="damaged: Cells, means and counts"):
        Partition.load(tmp_path / "short.safetensors")
    save_file(arrays, tmp_path / "plain.safetensors")
    with pytest.raises(SavedHeadError, match="cannot be read as a partition"):
        Partition.load(tmp_path / "plain.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    for name in ("text.safetensors", "missing.safetensors"):
        with pytest.raises(SavedHeadError, match="cannot be read as a partition"):
            Partition.load(tmp_path / name)


def test_a_partition_of_other_data_is_refused() -> None:
    made = adaptive_partition(crowds(2_000), t_max=100, t_min=5)
    other = adaptive_partition(crowds(2_000, seed=3), t_max=100, t_min=5)
    made.check(made.digest)
    with pytest.raises(OptionError, match="partition of other data"):
        made.check(other.digest)


def test_what_makes_no_classes_is_refused() -> None:
    places = crowds(300)
    with pytest.raises(OptionError, match=r"300 places and t_min=400: fewer points than"):
        adaptive_partition(places, t_max=500, t_min=400)
    with pytest.raises(OptionError, match="lie in one cell, and one class is nothing to learn"):
        adaptive_partition(np.tile([2.35, 48.86], (50, 1)), t_max=10, t_min=1)
    with pytest.raises(OptionError, match="No cell is left: 300 places lie so far apart"):
        adaptive_partition(places, t_max=250, t_min=250)
    with pytest.raises(OptionError, match="t_min=20 is more than t_max=10"):
        adaptive_partition(places, t_max=10, t_min=20)
    for bad in (0, -5, 2.5, True, "all", None):
        with pytest.raises(OptionError, match=r"t_max=.* does not fit: give a number of places"):
            adaptive_partition(places, t_max=bad)
        with pytest.raises(OptionError, match=r"t_min=.* does not fit: give a number of places"):
            adaptive_partition(places, t_min=bad)
    with pytest.raises(OptionError, match="min_level=9 is above max_level=5"):
        adaptive_partition(places, min_level=9, max_level=5)
    with pytest.raises(OptionError, match="max_level=31 is no level"):
        adaptive_partition(places, max_level=31)
    with pytest.raises(CoordinateError, match="hold no usable place"):
        adaptive_partition([[0.0, 0.0], [np.nan, 1.0]])


def test_a_partition_that_does_not_hold_together_is_refused() -> None:
    cells = s2.cell_ids([[0.0, 0.0], [90.0, 0.0]], 5)
    means, counts = np.zeros((2, 2)), np.ones(2)
    with pytest.raises(OptionError, match="do not fit together"):
        Partition(cells, means[:1], counts, places=2)
    with pytest.raises(OptionError, match="overlap or do not ascend"):
        Partition(cells[::-1], means, counts, places=2)
    with pytest.raises(OptionError, match="overlap or do not ascend"):
        Partition([cells[0], s2.parents(cells, 3)[0]], means, counts, places=2)
    with pytest.raises(OptionError, match="must number the classes from 0"):
        Partition(cells, means, counts, places=2, owner=[1, 0])


def test_classes_of_several_cells_have_all_of_them_and_the_coarsest_level(tmp_path: Path) -> None:
    cells = np.sort(
        np.concatenate([s2.cell_ids([[179.9, 0.1]], 6), s2.cell_ids([[-179.9, 0.1], [20, 0]], 5)])
    )
    owner = [0, 1, 1] if s2.tokens(cells)[0].startswith("1") else [0, 1, 0]
    made = Partition(
        cells, [[20.0, 0.0], [180.0, 0.1]], [5, 9], places=20, owner=owner, options={"t_max": 9}
    )
    assert (made.joined, len(made)) == (True, 2)
    asked = [[179.9, 0.1], [-179.9, 0.1], [20.0, 0.0], [50.0, 50.0]]
    assert made.locate(asked).tolist() == [1, 1, 0, -1]
    assert made.levels.tolist() == [5, 5]
    frame = made.to_frame()
    assert frame.geometry.is_valid.all()
    assert frame["s2"].str.split(" ").str.len().tolist() == [1, 2]
    assert frame.geometry[1].geom_type == "MultiPolygon"
    read = Partition.load(made.save(tmp_path / "joined.safetensors"))
    assert (read.joined, read.digest) == (True, made.digest)
    assert read.locate(asked).tolist() == [1, 1, 0, -1]
    plain = Partition(cells, np.zeros((3, 2)), np.ones(3), places=20)
    assert not plain.joined
