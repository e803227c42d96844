"""Columns that join the embedding, against scikit-learn's scaler and one-hot by hand."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from geoembed.errors import OptionError, TableError
from geoembed.heads.extras import check_extra_columns, encode_extras, fit_extras


@pytest.fixture
def table():
    return gpd.GeoDataFrame(
        {
            "height": [0.0, 10.0, 50.0, 20.0],
            "people": pd.array([3, 1, 2, 5], dtype="Int64"),
            "soil": ["clay", "sand", "clay", "rock"],
            "coast": [True, False, True, True],
            "zone": pd.Categorical(["x", "y", "x", "x"]),
        },
        geometry=gpd.points_from_xy([0, 1, 2, 3], [0, 1, 2, 3]),
        crs=4326,
        index=[5, 6, 7, 8],
    )


def test_numbers_are_standardised_and_others_become_a_column_a_value(table):
    names = ["soil", "height", "coast", "people", "zone"]
    kept = table.copy(deep=True)
    got = encode_extras(fit_extras(table, names), table, names)
    pd.testing.assert_frame_equal(pd.DataFrame(table), pd.DataFrame(kept))
    numbers = table[["height", "people"]].to_numpy(dtype=float)
    np.testing.assert_allclose(got[:, :2], StandardScaler().fit_transform(numbers), atol=1e-6)
    soil = [[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]]
    coast = [[0, 1], [1, 0], [0, 1], [0, 1]]
    zone = [[1, 0], [0, 1], [1, 0], [1, 0]]
    np.testing.assert_array_equal(got[:, 2:], np.hstack([soil, coast, zone]))
    assert got.dtype == np.float32


def test_new_values_get_zeros_and_scales_stay_those_of_training(table):
    names = ["height", "soil"]
    encoder = fit_extras(table, names)
    other = pd.DataFrame({"soil": ["peat"], "height": [20.0]})
    mean, deviation = table["height"].mean(), table["height"].std(ddof=0)
    np.testing.assert_allclose(
        encode_extras(encoder, other, names), [[(20 - mean) / deviation, 0, 0, 0]], atol=1e-6
    )


def test_a_constant_column_becomes_zeros(table):
    table["one"] = 1.0
    np.testing.assert_array_equal(encode_extras(fit_extras(table, ["one"]), table, ["one"]), 0.0)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["height", "height"], "no list of different column names"),
        ([1, 2], "no list of different column names"),
    ],
)
def test_what_are_no_names_is_refused(names, message):
    with pytest.raises(OptionError, match=message):
        check_extra_columns(names)
    assert check_extra_columns(None) == []
    assert check_extra_columns(("a", "b")) == ["a", "b"]


def test_columns_that_are_not_there_are_refused(table):
    with pytest.raises(TableError, match="extra_columns: There is no column named 'hieght'"):
        fit_extras(table, ["hieght"])
    with pytest.raises(TableError, match="names columns of X .'height'., but X is ndarray"):
        fit_extras(np.zeros((3, 2)), ["height"])
    encoder = fit_extras(table, ["height"])
    with pytest.raises(TableError, match="There is no column named 'height'"):
        encode_extras(encoder, table.drop(columns="height"), ["height"])


@pytest.mark.parametrize("column", ["height", "people", "soil", "coast"])
def test_missing_values_are_refused_with_their_rows(table, column):
    table[column] = table[column].astype("Int64" if column == "people" else object)
    table.loc[[6, 8], column] = None if column != "height" else np.nan
    if column == "height":
        table[column] = table[column].astype(float)
    with pytest.raises(
        TableError, match=f"2 of 4 rows of the extra column '{column}' .*: rows 6, 8"
    ):
        fit_extras(table, [column])


def test_infinite_numbers_are_refused(table):
    table.loc[7, "height"] = np.inf
    with pytest.raises(TableError, match="missing or not finite: row 7"):
        fit_extras(table, ["height"])


def test_a_column_that_changed_its_kind_is_refused(table):
    encoder = fit_extras(table, ["height"])
    with pytest.raises(TableError, match="'height' held numbers when the head was fitted"):
        encode_extras(encoder, pd.DataFrame({"height": ["tall"]}), ["height"])
    encoder = fit_extras(table, ["soil"])
    with pytest.raises(TableError, match="'soil' held text or categories .* holds float64 now"):
        encode_extras(encoder, pd.DataFrame({"soil": [3.0]}), ["soil"])


def test_text_among_numbers_is_refused(table):
    table["mixed"] = ["a", 1, "b", 2]
    with pytest.raises(TableError, match="Columns 'mixed' cannot be read as categories"):
        fit_extras(table, ["mixed"])
