"""Combinatorial partitions, against merging from scratch and listing intersections."""

import numpy as np
import pytest
import s2geometry
from geoembed_systems.cells.adaptive import Partition, adaptive_partition
from geoembed_systems.cells.adjacency import neighbouring_cells
from geoembed_systems.cells.greedy import Regions, merge_greedily
from geoembed_systems.cells.merging import Combination, combine_partitions

from geoembed.errors import CoordinateError, OptionError, SavedHeadError, TableError
from geoembed.geodesy import great_circle_km, spherical_mean, to_unit_vectors


def world(count: int = 3_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return places in crowds on two continents and an island, and what pictures look like."""
    rng = np.random.default_rng(seed)
    middles = np.array([[-60.0, -10.0], [30.0, 40.0], [-157.0, 20.0]])
    where = rng.choice(3, count, p=[0.55, 0.4, 0.05])
    places = (
        middles[where] + rng.normal(0.0, 1.0, (count, 2)) * np.array([20.0, 12.0, 1.0])[where, None]
    )
    waves = rng.normal(size=(2, 6)) / 20.0
    looks = np.concatenate([np.sin(places @ waves), np.cos(places @ waves)], axis=1)
    return places, looks + rng.normal(0.0, 0.3, looks.shape)


@pytest.fixture(scope="module")
def base() -> Partition:
    """Return cells."""
    return adaptive_partition(world()[0], t_max=60, t_min=5)


def test_cells_that_share_an_edge_are_neighbours(base: Partition) -> None:
    pairs = {tuple(pair) for pair in neighbouring_cells(base).tolist()}
    shapes = [s2geometry.S2Cell(s2geometry.S2CellId(cell)) for cell in base.ids.tolist()]
    corners = [[shape.GetVertex(k) for k in range(4)] for shape in shapes]
    missed = 0
    for one in range(len(base)):
        for other in range(one + 1, len(base)):
            # Of cells with an edge in common, two corners of the smaller lie on the larger.
            small, large = (one, other) if base.levels[one] >= base.levels[other] else (other, one)
            away = [shapes[large].GetDistance(corner).ToAngle() for corner in corners[small]]
            if sum(angle.radians() < 1e-12 for angle in away) >= 2:
                missed += (one, other) not in pairs
    assert missed == 0


def test_neighbours_are_pairs_in_order_and_connect_everything(base: Partition) -> None:
    pairs = neighbouring_cells(base)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert np.array_equal(pairs, np.unique(pairs, axis=0))
    reached, edge = {0}, [0]
    while edge:
        here = edge.pop()
        for one, other in pairs[(pairs == here).any(axis=1)].tolist():
            beside = other if one == here else one
            if beside not in reached:
                reached.add(beside)
                edge.append(beside)
    assert reached == set(range(len(base)))


def test_islands_hang_together_by_the_shortest_link() -> None:
    rng = np.random.default_rng(0)
    spots = np.array([[0.0, 0.0], [100.0, 10.0]])
    places = np.concatenate([spot + rng.normal(0.0, 0.5, (600, 2)) for spot in spots])
    made = adaptive_partition(places, t_max=60, t_min=5)
    east = made.means[:, 0] > 50.0
    pairs = neighbouring_cells(made)
    links = pairs[east[pairs[:, 0]] != east[pairs[:, 1]]]
    assert len(links) == 1
    one, other = np.meshgrid(np.flatnonzero(~east), np.flatnonzero(east))
    away = great_circle_km(*made.means[one.ravel()].T, *made.means[other.ravel()].T)
    best = away.argmin()
    assert sorted(links[0].tolist()) == sorted([one.ravel()[best], other.ravel()[best]])


def from_scratch(
    sums: np.ndarray,
    looks: np.ndarray | None,
    pairs: np.ndarray,
    sizes: np.ndarray,
    classes: int,
    share: float,
    together: np.ndarray,
) -> list[int]:
    """Merge with lists of cells only; everything is worked out anew at each step."""

    def km(one: list[int], other: list[int]) -> float:
        return float(
            great_circle_km(*lonlat(sums[one].sum(axis=0)), *lonlat(sums[other].sum(axis=0)))
        )

    def lonlat(vector: np.ndarray) -> tuple[float, float]:
        x, y, z = vector
        return float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arctan2(z, np.hypot(x, y))))

    def unlike(one: list[int], other: list[int]) -> float:
        if looks is None:
            return 0.0
        a, b = looks[one].sum(axis=0), looks[other].sum(axis=0)
        return 1.0 - float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    scale_km = np.median([km([a], [b]) for a, b in pairs])
    scale_looks = np.median([unlike([a], [b]) for a, b in pairs]) or 1.0
    regions = [[cell] for cell in range(len(sums))]
    joined = {(a, b) for a, b in pairs.tolist()} | {(b, a) for a, b in pairs.tolist()}
    while len(regions) > classes:
        regions.sort(key=lambda cells: cells[0])
        small = min(regions, key=lambda cells: sum(sizes[cell] for cell in sorted(cells)))
        beside = [
            other
            for other in regions
            if other is not small and any((a, b) in joined for a in small for b in other)
        ]
        numbers = set(together[small].tolist())
        free = [other for other in beside if numbers.isdisjoint(together[other].tolist())]
        nearest = min(
            free or beside,
            key=lambda other: (
                (1.0 - share) * km(small, other) / scale_km
                + share * unlike(small, other) / scale_looks
            ),
        )
        regions = [r for r in regions if r is not small and r is not nearest]
        regions.append(sorted(small + nearest))
    regions.sort(key=lambda cells: cells[0])
    owner = {cell: number for number, cells in enumerate(regions) for cell in cells}
    return [owner[cell] for cell in range(len(sums))]


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("classes", [1, 3, 12])
def test_greedy_merging_is_that_of_lists_worked_out_anew(share: float, classes: int) -> None:
    rng = np.random.default_rng(classes)
    places, looks = world(600, seed=classes)
    cells = adaptive_partition(places, t_max=30, t_min=5)
    home = cells.locate(places)
    sums = np.stack([to_unit_vectors(places[home == c]).sum(axis=0) for c in range(len(cells))])
    unit = looks / np.linalg.norm(looks, axis=1, keepdims=True)
    seen = np.stack([unit[home == c].sum(axis=0) for c in range(len(cells))])
    pairs = neighbouring_cells(cells)
    sizes = rng.lognormal(0.0, 1.0, len(cells))
    regions = Regions(sums, seen, pairs)
    free = np.arange(len(cells))
    got = merge_greedily(regions, sizes, classes, share)
    assert got.tolist() == from_scratch(sums, seen, pairs, sizes, classes, share, free)
    apart = merge_greedily(regions, sizes, classes, share, together=free // 3)
    assert apart.tolist() == from_scratch(sums, seen, pairs, sizes, classes, share, free // 3)
    assert np.array_equal(regions.sums, sums)
    assert len(np.unique(got)) == classes


def test_small_regions_are_merged_first_so_that_classes_are_even(base: Partition) -> None:
    places, looks = world()
    made = combine_partitions(
        places, looks, partitions=2, classes=12, jitter=0.0, t_max=60, t_min=5
    )
    assert made.base.digest == base.digest
    for groups in made.groups:
        counts = np.bincount(groups, made.base.counts)
        assert counts.min() > len(places) / 12 / 4
        assert counts.max() < len(places) / 12 * 4


def test_fine_classes_are_the_intersections(base: Partition) -> None:
    places, looks = world()
    made = combine_partitions(places, looks, partitions=3, classes=10, t_max=60, t_min=5)
    assert made.sizes == (10, 10, 10)
    told = {}
    for cell in range(len(made.base)):
        told.setdefault(tuple(made.groups[:, cell].tolist()), []).append(cell)
    assert 10 < len(told) < len(made.base)
    assert len(made.fine) == len(told)
    for number, (key, cells) in enumerate(sorted(told.items(), key=lambda item: item[1][0])):
        assert made.classes[:, number].tolist() == list(key)
        assert np.flatnonzero(made.fine.owner == number).tolist() == cells
        assert made.fine.counts[number] == made.base.counts[cells].sum()
    home = made.fine.locate(places)
    assert np.array_equal(made.base.locate(places) >= 0, home >= 0)
    for number in range(len(made.fine)):
        mean = spherical_mean(places[home == number])
        assert great_circle_km(*mean, *made.fine.means[number]) < 1e-6
    assert made.fine.to_frame().geometry.is_valid.all()


def test_intersections_of_single_cells_are_the_base_itself() -> None:
    places, looks = world(600)
    made = combine_partitions(
        places, looks, partitions=4, jitter=2.0, classes=18, t_max=30, t_min=5
    )
    cells = len(made.base)
    groups = np.stack([np.arange(cells), np.minimum(np.arange(cells), 5)])
    both = Combination(made.base, groups, made.base)
    assert both.fine.digest == made.base.digest
    assert not both.fine.joined


def test_scores_are_those_of_enumerating_the_intersections() -> None:
    places, looks = world()
    made = combine_partitions(places, looks, partitions=3, classes=9, t_max=60, t_min=5)
    rng = np.random.default_rng(0)
    given = [rng.dirichlet(np.ones(size), 7) for size in made.sizes]
    got = made.scores(given)
    cells = [set(np.flatnonzero(groups == c)) for groups in made.groups for c in range(9)]
    fine = 0
    for a in range(9):
        for b in range(9):
            for c in range(9):
                common = cells[a] & cells[9 + b] & cells[18 + c]
                if not common:
                    continue
                fine += 1
                number = made.fine.owner[next(iter(common))]
                assert set(np.flatnonzero(made.fine.owner == number)) == common
                assert np.allclose(got[:, number], given[0][:, a] + given[1][:, b] + given[2][:, c])
    assert fine == got.shape[1] == len(made.fine)
    held = made.scores([np.eye(9)[:1]] * 3)
    assert got.flags.owndata
    assert held.dtype == np.float64
    assert made.scores([each.astype(np.float32) for each in given]).dtype == np.float32


def test_places_get_the_class_of_their_cell_in_each_partition() -> None:
    places, looks = world()
    made = combine_partitions(places, looks, partitions=3, classes=9, t_max=60, t_min=5)
    classes, cells = made.locate(places), made.base.locate(places)
    for place in range(0, len(places), 37):
        wanted = made.groups[:, cells[place]].tolist() if cells[place] >= 0 else [-1] * 3
        assert classes[place].tolist() == wanted
    assert (made.locate([[0.0, -89.0]]) == -1).all()
    for number in range(3):
        means = made.means(number)
        for group in range(9):
            mean = spherical_mean(places[classes[:, number] == group])
            # Means of means of cells: a little beside those of the places.
            assert great_circle_km(*mean, *means[group]) < 30.0


def test_partitions_differ_by_what_they_look_at_and_by_chance() -> None:
    places, looks = world()
    options = {"classes": 10, "t_max": 60, "t_min": 5}
    two = {"partitions": 2, "jitter": 0.0} | options
    # The first partition is free of those before it.
    near = combine_partitions(places, looks, visual=(0.0, 0.5), **two)
    alike = combine_partitions(places, looks, visual=(1.0, 0.5), **two)
    blind = combine_partitions(places, **two)
    assert np.array_equal(near.groups[0], blind.groups[0])
    assert not np.array_equal(near.groups[0], alike.groups[0])
    assert combine_partitions(places, looks, visual=(0.0, 0.5), **two).digest == near.digest
    one, other = (combine_partitions(places, looks, seed=seed, **options) for seed in (0, 1))
    assert one.digest != other.digest


@pytest.mark.parametrize("seen", [True, False])
def test_partitions_tell_nearly_all_cells_apart(seen: bool) -> None:
    places, looks = world(6_000)
    made = combine_partitions(places, looks if seen else None, t_max=30, t_min=3)
    assert len(made.base) > 200
    assert made.sizes == (len(made.base) // 4,) * 5
    assert len(made.fine) > 0.97 * len(made.base)
    # Each class is of cells near one another: smaller by far than a continent.
    for number, groups in enumerate(made.groups):
        away = great_circle_km(*made.base.means.T, *made.means(number)[groups].T)
        assert np.average(away, weights=made.base.counts) < 600.0


def test_visual_distance_draws_the_border_between_what_looks_alike() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform([0.0, 0.0], [20.0, 10.0], (4_000, 2))
    # The north looks unlike the south, and the box is wider than high.
    north = places[:, 1] > 5.0
    looks = np.eye(2)[north.astype(int)] + rng.normal(0.0, 0.05, (4_000, 2))
    made = combine_partitions(
        places, looks, partitions=2, classes=2, visual=(0.0, 1.0), jitter=0.0, t_max=100, t_min=5
    )
    classes = made.locate(places)
    held = classes[:, 0] >= 0

    def agree(partition: int) -> float:
        same = classes[held, partition] == north[held]
        return float(max(same.mean(), 1.0 - same.mean()))

    assert agree(1) > 0.9
    assert agree(0) < 0.8


def test_a_saved_combination_is_the_same() -> None:
    places, looks = world()
    made = combine_partitions(places, looks, partitions=3, classes=9, t_max=60, t_min=5)
    arrays, config = made.to_state()
    again = Combination.from_state(arrays, config)
    assert again.digest == made.digest
    assert np.array_equal(again.classes, made.classes)
    wrong = arrays | {"groups": arrays["groups"][:, ::-1]}
    with pytest.raises(SavedHeadError, match="combination is damaged: fine= is not"):
        Combination.from_state(wrong, config)
    with pytest.raises(SavedHeadError, match="combination is damaged: 'groups'"):
        Combination.from_state({k: v for k, v in arrays.items() if k != "groups"}, config)
    with pytest.raises(SavedHeadError, match="format None"):
        Combination.from_state(arrays, {})


def test_what_cannot_be_combined_is_refused() -> None:
    places, looks = world(600)
    for bad in (1, 0, 2.0, "five"):
        with pytest.raises(OptionError, match=r"partitions=.*: give 2 or more"):
            combine_partitions(places, partitions=bad)
    for visual in ((0.0, 1.0), (0.0, 0.5, 1.1), (0.0, np.nan, 1.0)):
        with pytest.raises(OptionError, match=r"visual=.* give a share in \[0, 1\]"):
            combine_partitions(places, looks, partitions=3, visual=visual)
    for classes in (1, 10_000, 2.5, "many"):
        with pytest.raises(OptionError, match=r"classes=.* does not fit: give 2 to"):
            combine_partitions(places, classes=classes)
    for jitter in (-0.1, np.inf, np.nan):
        with pytest.raises(OptionError, match=r"jitter=.* does not fit"):
            combine_partitions(places, jitter=jitter)
    with pytest.raises(TableError, match=r"features= have the shape \(599, 12\)"):
        combine_partitions(places, looks[:-1])
    looks[3] = np.nan
    with pytest.raises(TableError, match="not finite"):
        combine_partitions(places, looks)
    with pytest.raises(CoordinateError, match="no usable place"):
        combine_partitions([[np.nan, 0.0]])


def test_scores_and_groups_of_another_shape_are_refused() -> None:
    places, looks = world()
    made = combine_partitions(places, looks, partitions=2, classes=9, t_max=60, t_min=5)
    with pytest.raises(OptionError, match="one row a picture for each partition, of 9, 9 classes"):
        made.scores([np.zeros((3, 9)), np.zeros((3, 8))])
    with pytest.raises(OptionError, match="one row a picture"):
        made.scores([np.zeros((3, 9)), np.zeros((4, 9))])
    with pytest.raises(OptionError, match="one row a picture"):
        made.scores([np.zeros((3, 9))])
    with pytest.raises(OptionError, match="give a class of each of the"):
        Combination(made.base, made.groups[:, :-1], made.fine)
    with pytest.raises(OptionError, match="number the classes of each partition from 0"):
        Combination(made.base, made.groups + 1, made.fine)
    with pytest.raises(OptionError, match="give the partition they are from"):
        neighbouring_cells(made.fine)
