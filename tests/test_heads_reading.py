"""Targets from columns, arrays and frames; what is no target is refused, and rows are named."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.exceptions import DataConversionWarning

from geoembed.errors import TableError, TargetError
from geoembed.heads import GeoembedHeadWarning
from geoembed.heads.reading import check_names, read_labels, read_numbers, read_target
from geoembed.heads.shares import read_shares, warn_of_absent


@pytest.fixture
def towns():
    return gpd.GeoDataFrame(
        {"rain": [1.0, 2.0, 3.0], "wind": [5, 6, 7], "soil": ["clay", "sand", "clay"]},
        geometry=gpd.points_from_xy([0, 1, 2], [0, 1, 2]),
        crs=4326,
        index=["a", "b", "c"],
    )


# --- where targets come from ---------------------------------------------------------------------


def test_every_way_of_giving_targets_is_the_same(towns):
    expected = towns[["rain", "wind"]].to_numpy(dtype=float)
    for y in (
        ["rain", "wind"],
        ("rain", "wind"),
        towns[["rain", "wind"]],
        expected,
        expected.tolist(),
        towns[["rain", "wind"]].reset_index(drop=True),
    ):
        target = read_target(towns, y)
        np.testing.assert_array_equal(read_numbers(target), expected)
        assert (len(target), target.columns, list(target.index)) == (3, 2, ["a", "b", "c"])
    flat = [read_target(towns, y) for y in ("rain", towns["rain"], [1, 2, 3])]
    assert [target.values.ndim for target in flat] == [1, 1, 1]
    assert [target.names for target in flat] == [("rain",), ("rain",), ()]


def test_a_series_without_places_that_carry_an_index_brings_its_own(towns):
    target = read_target(np.zeros((3, 2)), towns["rain"])
    assert list(target.index) == ["a", "b", "c"]


def test_a_list_of_texts_is_names_beside_a_frame_and_labels_beside_an_array(towns):
    assert read_target(towns, ["rain"]).names == ("rain",)
    for X in (np.zeros((3, 2)), towns):
        target = read_target(X, ["wood", "water", "wood"])
        assert read_labels(target).tolist() == ["wood", "water", "wood"]


def test_targets_are_copies(towns):
    numbers = read_numbers(read_target(towns, "rain"))
    numbers[:] = -1
    assert towns["rain"].tolist() == [1.0, 2.0, 3.0]


def test_types_of_pandas_with_missing_values_of_their_own(towns):
    frame = pd.DataFrame({"x": pd.array([1, 2, 3], dtype="Int64"), "y": [0.5, 1.5, 2.5]})
    np.testing.assert_array_equal(
        read_numbers(read_target(None, frame)), [[1, 0.5], [2, 1.5], [3, 2.5]]
    )
    categories = pd.Series(["a", "b", "a"], dtype="category")
    assert read_labels(read_target(None, categories)).tolist() == ["a", "b", "a"]
    flags = pd.Series([True, False], dtype="boolean")
    assert read_labels(read_target(None, flags)).tolist() == [True, False]
    with pytest.raises(TargetError, match="have no label .*: row 1"):
        read_labels(read_target(None, pd.Series([True, pd.NA], dtype="boolean")))


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (None, TargetError, "requires y to be passed, but the target y is None"),
        ("rian", TableError, "There is no column named 'rian'. Close matches: 'rain'"),
        (["rain", "nope"], TableError, "There is no column named 'nope'"),
        ([1.0, 2.0], TargetError, "X has 3 rows and y 2: give one row of y for every place"),
        (np.zeros((3, 1, 1)), TargetError, r"1d array or a table, got the shape \(3, 1, 1\)"),
        (3.0, TargetError, r"got the shape \(\)"),
        (csr_array((3, 2)), TargetError, "y is a sparse matrix; give a dense array"),
    ],
)
def test_what_is_no_target_is_refused(towns, y, error, message):
    with pytest.raises(error, match=message):
        read_target(towns, y)


def test_a_column_name_without_columns_is_refused():
    with pytest.raises(TableError, match="y='rain' names columns, but X is ndarray"):
        read_target(np.zeros((3, 2)), "rain")


def test_columns_of_the_same_name_are_refused(towns):
    twice = pd.concat([towns, towns[["rain"]]], axis=1)
    with pytest.raises(TableError, match="several columns named 'rain'"):
        read_target(twice, "rain")


def test_rows_in_another_order_are_refused(towns):
    with pytest.raises(TargetError, match="same index labels in different orders"):
        read_target(towns, towns["rain"].iloc[::-1])
    assert read_target(towns, pd.Series([1.0, 2.0, 3.0], index=[7, 8, 9])).columns == 1


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, np.nan, np.inf], r"2 of 3 rows of target 'y' are missing or not finite: rows 'b' "),
        ([1.0, None, 2.0], r"1 of 3 rows of target 'y' .*: row 'b' \(nan\)"),
        (["1", "x", "2"], "y is no table of numbers: could not convert string to float: 'x'"),
        ([1j, 2j, 3j], "Complex data not supported"),
    ],
)
def test_what_is_no_number_is_refused_with_its_rows(values, message):
    with pytest.raises(TargetError, match=message):
        read_numbers(read_target(None, pd.Series(values, index=list("abc"), name="y")))


def test_a_target_without_a_name_is_called_by_its_column():
    with pytest.raises(TargetError, match=r"rows of column 1 of y are missing .*: row 0 \(nan\)"):
        read_numbers(read_target(None, [[1.0, np.nan], [2.0, 3.0]]))


def test_names_whose_columns_would_be_the_same_are_refused():
    check_names(["rain", "rain_low"])
    with pytest.raises(TargetError, match="'rain_lower' would be named 'predicted_rain_lower'"):
        check_names(["rain", "rain_lower"])
    with pytest.raises(TargetError, match="target 'rain' would be named 'predicted_rain', and so"):
        check_names(["rain", "rain"])
    with pytest.raises(TargetError, match="and so would a column of the head's own"):
        check_names(["class", "wood"], ["class"])


# --- labels --------------------------------------------------------------------------------------


def test_labels_of_every_kind():
    for labels in (["b", "a"], [2, 1], [True, False], [1.0, 2.0]):
        assert read_labels(read_target(None, labels)).tolist() == labels
    objects = read_labels(read_target(None, np.array(["b", "a"], dtype=object)))
    assert objects.dtype.kind == "U"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", None, "b"], r"1 of 3 rows of column 0 of y have no label \(NaN, None or infinite\)"),
        ([1.0, np.nan, 2.0], "have no label .*: row 1"),
        ([1.0, np.inf, 2.0], "have no label .*: row 1"),
        ([1.5, 2.25, 3.0], "holds no labels: Unknown label type"),
        (["a", 1, "b"], "holds no labels"),
        (["a", "a", "a"], "holds only one class, 'a': a classifier needs at least two"),
        ([[1, 2], [3, 4], [5, 6]], "1d array of labels, got 2 columns"),
    ],
)
def test_what_is_no_label_is_refused(labels, message):
    with pytest.raises(TargetError, match=message):
        read_labels(read_target(None, np.array(labels, dtype=object) if None in labels else labels))


def test_a_column_of_an_array_warns_and_a_named_one_does_not(towns):
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        read_labels(read_target(None, [["a"], ["b"]]))
    assert read_labels(read_target(towns, ["soil"])).tolist() == ["clay", "sand", "clay"]


# --- shares --------------------------------------------------------------------------------------


def shares(rows, **options):
    return read_shares(read_target(None, pd.DataFrame(rows, **options)))


def test_shares_within_a_thousandth_are_rescaled():
    got = shares([[0.3, 0.7], [0.3004, 0.7004], [0.0, 0.999], [1.0, -1e-17]])
    np.testing.assert_allclose(got.sum(axis=1), 1.0, rtol=0, atol=1e-15)
    assert (got >= 0).all()
    np.testing.assert_allclose(got[1], [0.3, 0.7], atol=1e-3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0.2, 0.8], [0.2, 0.9]], r"1 of 2 rows of y do not sum to 1 within 0.1%: row 'q' \(sum "),
        ([[20.0, 80.0], [10.0, 90.0]], "They look like percentages: divide by 100"),
        ([[0.2, 0.3], [0.2, 0.5]], "A class may be missing: add a column of the rest"),
        ([[0.0, 0.0], [0.5, 0.5]], r"row 'p' \(sum 0\). Leave those rows out"),
        ([[-0.1, 1.1], [0.5, 0.5]], r"1 of 2 rows of target 'wood' are negative: row 'p' \(-0.1\)"),
        ([[np.nan, 1.0], [0.5, 0.5]], "rows of target 'wood' are missing or not finite: row 'p'"),
    ],
)
def test_what_are_no_shares_is_refused_with_its_rows(rows, message):
    with pytest.raises(TargetError, match=message):
        shares(rows, columns=["wood", "water"], index=["p", "q"])


def test_one_class_is_no_shares():
    with pytest.raises(TargetError, match="at least two classes and y has 1"):
        shares([[1.0], [1.0]])


def test_a_class_that_is_nowhere_is_warned_of():
    with pytest.warns(GeoembedHeadWarning, match="The share of 'ice' is 0 in all 2 rows"):
        warn_of_absent(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array(["wood", "ice"]))
