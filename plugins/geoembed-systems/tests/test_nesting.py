"""Nested partitions: every finer cell lies in one cell of each coarser partition."""

import numpy as np
import pytest
import s2geometry
from geoembed_systems.cells import s2
from geoembed_systems.cells.adaptive import Partition, adaptive_partition
from geoembed_systems.cells.nesting import Hierarchy, nested_partitions

from geoembed.errors import OptionError, SavedHeadError


@pytest.fixture(scope="module")
def places() -> np.ndarray:
    """Return places in crowds."""
    rng = np.random.default_rng(0)
    towns = np.column_stack([rng.uniform(-180, 180, 60), rng.uniform(-60, 70, 60)])
    town = rng.choice(60, 12_000, p=rng.dirichlet(np.full(60, 0.6)))
    found = towns[town] + rng.normal(0.0, 2.0, (12_000, 2))
    found[:, 0] = (found[:, 0] + 180.0) % 360.0 - 180.0
    return found


@pytest.fixture(scope="module")
def nested(places: np.ndarray) -> Hierarchy:
    """Return three partitions of them."""
    return nested_partitions(places, t_max=(1_000, 400, 200), t_min=10)


def test_each_finest_cell_lies_in_the_cell_that_parents_name(nested: Hierarchy) -> None:
    assert len(nested) == 3
    assert [len(parent) for parent in nested.parents] == [len(nested.finest)] * 2
    for coarser, parent in zip(nested.partitions[:-1], nested.parents, strict=True):
        for fine, coarse in zip(nested.finest.ids, coarser.ids[parent], strict=True):
            outer = s2geometry.S2CellId(int(coarse))
            assert outer.contains(s2geometry.S2CellId(int(fine)))


def test_partitions_are_those_made_one_by_one(nested: Hierarchy, places: np.ndarray) -> None:
    for made, limit in zip(nested.partitions, (1_000, 400, 200), strict=True):
        assert made.digest == adaptive_partition(places, t_max=limit, t_min=10).digest


def test_counts_of_a_coarse_class_are_at_least_those_of_the_fine_ones_in_it(
    nested: Hierarchy,
) -> None:
    for coarser, parent in zip(nested.partitions[:-1], nested.parents, strict=True):
        inside = np.bincount(parent, nested.finest.counts, minlength=len(coarser))
        assert (coarser.counts >= inside).all()


def test_a_place_with_a_fine_class_has_its_parents(nested: Hierarchy, places: np.ndarray) -> None:
    classes = nested.locate(places)
    assert classes.shape == (len(places), 3)
    held = classes[:, 2] >= 0
    assert 0 < (~held).sum() < len(places) // 10
    for level, parent in enumerate(nested.parents):
        assert np.array_equal(classes[held, level], parent[classes[held, 2]])
    # A class that the fine partition has dropped may be kept by a coarser one; never the reverse.
    assert (classes[:, 0] >= 0).sum() >= (classes[:, 1] >= 0).sum() >= held.sum()


def test_limits_that_are_not_given_keep_the_published_ratios(places: np.ndarray) -> None:
    # 12,000 / 400 = 30 places in a fine cell at most.
    auto = nested_partitions(places)
    limits = [partition.options["t_max"] for partition in auto.partitions]
    assert limits == [150, 60, 30]
    assert {partition.options["t_min"] for partition in auto.partitions} == {3}
    one = nested_partitions(places, t_max=30, t_min=3)
    assert one.digest == auto.digest
    assert len(auto.partitions[0]) < len(auto.partitions[1]) < len(auto.partitions[2])


def test_a_saved_hierarchy_is_the_same(nested: Hierarchy) -> None:
    arrays, config = nested.to_state()
    again = Hierarchy.from_state(arrays, config)
    assert again.digest == nested.digest
    assert all(np.array_equal(*pair) for pair in zip(again.parents, nested.parents, strict=True))
    with pytest.raises(SavedHeadError, match="hierarchy is damaged: 1 partition is no hierarchy"):
        Hierarchy.from_state(arrays, {"partitions": config["partitions"][:1]})
    newer = [own | {"format": 7} for own in config["partitions"]]
    with pytest.raises(SavedHeadError, match="saved in format 7"):
        Hierarchy.from_state(arrays, {"partitions": newer})


def test_partitions_of_other_data_do_not_nest(nested: Hierarchy, places: np.ndarray) -> None:
    other = adaptive_partition(-places, t_max=1_000, t_min=10)
    with pytest.raises(OptionError, match=r"lie in no cell of partition 0 .* other data"):
        Hierarchy([other, nested.finest])
    with pytest.raises(OptionError, match="lie in no cell of partition 0"):
        Hierarchy(nested.partitions[::-1])
    cells = nested.finest.ids[:2]
    joined = Partition(cells, np.zeros((1, 2)), [5], places=5, owner=[0, 0])
    with pytest.raises(OptionError, match="single cells"):
        Hierarchy([joined, nested.finest])


def test_limits_that_do_not_fit_are_refused(places: np.ndarray) -> None:
    for falling in ((200, 400), (400, 400, 200)):
        with pytest.raises(OptionError, match="does not fall: give the coarse limit first"):
            nested_partitions(places, t_max=falling, t_min=10)
    with pytest.raises(OptionError, match="give two limits or more"):
        nested_partitions(places, t_max=(200,))
    with pytest.raises(OptionError, match=r"t_max=0 does not fit"):
        nested_partitions(places, t_max=(200, 0))
    with pytest.raises(OptionError, match="t_min=300 is more than t_max=200"):
        nested_partitions(places, t_max=(400, 200), t_min=300)
    near = np.random.default_rng(0).normal([10.0, 10.0], 0.5, (300, 2))
    with pytest.raises(OptionError, match=r"The partition with t_max=5,000: All 300 places"):
        nested_partitions(near, t_max=(5_000, 100), t_min=5)
    assert s2.levels(nested_partitions(near, t_max=(200, 100), t_min=5).finest.ids).max() > 3
