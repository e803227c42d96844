import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import geoembed as ge
from geoembed.errors import OptionError, TargetError
from geoembed.heads.base import GeoembedHeadWarning
from geoembed.heads.labels.hierarchy import join_paths, name_levels, read_levels, read_regions
from geoembed.heads.labels.rare import merge_levels, rare_depths, settle_rare
from geoembed.heads.labels.sets import label_sets
from geoembed.heads.labels.tree import SEPARATOR, LabelTree, find_codes, find_level
from geoembed.heads.reading import Target


def target(values, names=()):
    values = np.asarray(values, dtype=object)
    return Target(values, names, pd.RangeIndex(len(values)))


# Few names, so that one stands under several parents; blanks and signs sort before letters.
names = st.sampled_from(["a", "b", "c", "A b", "a!", "É", "a-b"])


@st.composite
def trees(draw):
    depth = draw(st.integers(1, 4))
    rows = draw(st.lists(st.tuples(*[names] * depth), min_size=1, max_size=25))
    levels = tuple(np.array(column) for column in zip(*rows, strict=True))
    _, first = np.unique(join_paths(levels), return_index=True)
    tree = LabelTree(tuple(level[first] for level in levels))
    seed = draw(st.integers(0, 2**16))
    shares = np.random.default_rng(seed).dirichlet(np.full(len(first), 0.3), 6)
    return tree, shares


@given(trees())
@settings(max_examples=80, deadline=None)
def test_probabilities_add_up_and_predictions_and_sets_fit_together_down_the_tree(drawn):
    tree, shares = drawn
    classes = list(zip(*tree.paths, strict=True))
    chosen = tree.choose(shares)
    lowest = label_sets(shares, 0.7, chosen[-1])
    for level in range(len(tree)):
        nodes = [tuple(path.split(SEPARATOR)) for path in tree.prefixes(level)]
        assert len(set(nodes)) == len(nodes) == len(set(tree.names(level)))
        under = np.array([[path[: level + 1] == node for path in classes] for node in nodes])
        # Each class has exactly one label at each level.
        assert (under.sum(axis=0) == 1).all()
        assert (under[tree.nodes(level), np.arange(len(classes))]).all()
        sums = tree.sums(shares, level)
        np.testing.assert_allclose(sums, shares @ under.T, atol=1e-12)
        assert tree.labels(level).tolist() == [node[-1] for node in nodes]
        np.testing.assert_array_equal(tree.widen(lowest, level), lowest.astype(int) @ under.T > 0)
        for row, node in enumerate(chosen[level]):
            # The rule: the most probable of the labels under the one chosen above.
            parent = nodes[node][:-1]
            if level:
                above = tree.prefixes(level - 1)[chosen[level - 1][row]]
                assert SEPARATOR.join(parent) == above
            siblings = [at for at, other in enumerate(nodes) if other[:-1] == parent]
            assert sums[row, node] == max(sums[row, siblings])
            assert tree.widen(lowest, level)[row, node]
    taken = tree.take(chosen).reshape(len(shares), -1)
    assert {tuple(path) for path in taken.tolist()} <= set(classes)


def test_a_name_under_two_parents_is_two_classes():
    tree = LabelTree(
        (np.array(["America", "America", "Asia"]), np.array(["Georgia", "Peru", "Georgia"]))
    )
    assert tree.labels(1).tolist() == ["Georgia", "Peru", "Georgia"]
    assert tree.names(1) == ["America > Georgia", "Peru", "Asia > Georgia"]


def test_the_top_decides_even_where_a_leaf_elsewhere_is_more_probable():
    tree = LabelTree((np.array(["a", "a", "b"]), np.array(["x", "y", "z"])))
    chosen = tree.choose(np.array([[0.35, 0.25, 0.4]]))
    assert tree.take(chosen).tolist() == [["a", "x"]]


def test_labels_of_other_kinds_keep_them():
    levels = read_levels(target([[True, 1], [False, 2], [True, 1]]))
    assert [level.dtype.kind for level in levels] == ["b", "i"]
    tree = LabelTree(tuple(level[[1, 0]] for level in levels))
    taken = tree.take([np.array([0]), np.array([0])])
    assert taken.tolist() == [[False, 2]]
    assert join_paths(levels).tolist() == ["True > 1", "False > 2", "True > 1"]


def test_missing_labels_are_named_with_their_level():
    with pytest.raises(TargetError, match=r"1 of 2 rows of target 'country' have no label.*row.*1"):
        read_levels(target([["Asia", "Nepal"], ["Asia", None]], ("continent", "country")))
    with pytest.raises(TargetError, match=r"target '1' have no label"):
        read_levels(target([["Asia", np.nan]]))


@pytest.mark.parametrize("label", ["a > b", "a >", "> b", ">"])
def test_labels_that_would_tear_paths_apart_are_refused(label):
    with pytest.raises(TargetError, match=r"must not hold ' > '"):
        join_paths((np.array(["x", label]), np.array(["y", "y"])))
    assert join_paths((np.array([label, "y"]),)).tolist() == [label, "y"]


def test_names_of_levels_and_of_their_columns():
    assert name_levels(target([["a"]])) == ()
    assert name_levels(target([["a", "b"]])) == ("0", "1")
    with pytest.raises(TargetError, match=r"'predicted_a_set': rename a level"):
        name_levels(target([["x", "y"]], ("a", "a_set")))
    with pytest.raises(TargetError, match=r"'predicted_a_2': rename a level"):
        name_levels(target([["x", "y"]], ("a", "a_2")), top_k=2)
    assert name_levels(target([["x", "y"]], ("a", "a_2")), top_k=1) == ("a", "a_2")


def test_levels_are_found_by_name_and_number():
    assert [find_level(level, ("a", "b"), 2) for level in (None, "a", "b", 0, -1)] == [
        1,
        0,
        1,
        0,
        1,
    ]
    with pytest.raises(OptionError, match=r"level='c' is not one of the 2 levels: choose 'a', 'b'"):
        find_level("c", ("a", "b"), 2)
    with pytest.raises(OptionError, match=r"level=1 is not one of the 1 levels\."):
        find_level(1, (), 1)


def test_rare_classes_are_merged_under_the_finest_label_that_is_common():
    rows = [("a", "x")] * 5 + [("a", "y")] * 2 + [("b", "z")] + [("c", "x"), ("c", "y")]
    levels = tuple(np.array(column) for column in zip(*rows, strict=True))
    assert rare_depths(levels, 2).tolist() == [2] * 7 + [0] + [1, 1]
    with pytest.warns(GeoembedHeadWarning, match=r"3 classes of fewer than 2 rows \(3 of 10 rows"):
        merged, kept, told = settle_rare(levels, "merge", 2, "other")
    assert list(map(tuple, np.column_stack(merged)[7:])) == [
        ("other", "other"),
        ("c", "other"),
        ("c", "other"),
    ]
    assert kept.tolist() == list(range(10))
    assert told == {"b > z": 1, "c > x": 1, "c > y": 1}
    with pytest.warns(GeoembedHeadWarning, match=r"left out: 'b > z' \(1\), 'c > x' \(1\)"):
        left, kept, _ = settle_rare(levels, "drop", 2, "other")
    assert kept.tolist() == list(range(7))
    assert len(left[0]) == len(left[1]) == 7
    assert settle_rare(levels, "keep", 2, "other")[2] == {}
    with pytest.raises(TargetError, match="All classes have fewer than min_rows=9 rows"):
        settle_rare(levels, "drop", 9, "other")


def test_longer_names_of_merged_classes_are_not_cut():
    merged = merge_levels((np.array(["a", "b"]),), np.array([1, 0]), "everything else")
    assert merged[0].tolist() == ["a", "everything else"]
    with pytest.raises(TargetError, match=r"other_label='other' does not fit labels such as 1"):
        merge_levels((np.array([1, 2]),), np.array([1, 0]), "other")


def test_true_labels_are_found_as_far_down_as_they_are_known():
    tree = LabelTree((np.array(["a", "a", "b"]), np.array(["other", "x", "x"])))
    rows = [("a", "x"), ("a", "rare"), ("a", "new"), ("b", "new"), ("c", "x"), ("c", "y")]
    levels = tuple(np.array(column) for column in zip(*rows, strict=True))
    coarse, fine = find_codes(tree, levels, {"a > rare": 3}, "other")
    assert coarse.tolist() == [0, 0, 0, 1, -1, -1]
    assert fine[:2].tolist() == [1, 0]
    assert (fine[2:] < 0).all()
    assert len(set(fine[2:].tolist())) == 4


def test_polygons_need_the_name_of_their_labels_and_places_inside():
    countries = ge.data.load_countries()
    places = [[36.8, -1.3], [-30.0, 0.0]]
    with pytest.raises(OptionError, match=r"name the column of their labels.*label='name'"):
        read_regions(places, countries, None, None, None)
    with pytest.raises(TargetError, match=r"1 of 2 places lie in no polygon.*nearest_km="):
        read_regions(places, countries, None, "name", None)
    read = read_regions(places[:1], countries, None, ["continent", "name"], None)
    assert (read.names, read.values.tolist()) == (("continent", "name"), [["Africa", "Kenya"]])
    # Easting and northing, which only the featurizer knows.
    projected = ge.LocationFeaturizer("xyz", crs="EPSG:3857")
    metres = [[4_096_557.0, -144_728.0]]
    assert read_regions(metres, countries, projected, "name", None).values.tolist() == ["Kenya"]
