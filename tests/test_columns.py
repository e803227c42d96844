import datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from geoembed.columns import COORDINATE_COLUMNS, find_coordinate_columns, name_rows, read_numbers
from geoembed.errors import CoordinateError


@pytest.mark.parametrize("lon", COORDINATE_COLUMNS["lon"])
@pytest.mark.parametrize("lat", COORDINATE_COLUMNS["lat"])
def test_every_alias_is_found_in_any_case_and_order(lon, lat):
    assert find_coordinate_columns([lat, "name", lon]) == (lon, lat)
    assert find_coordinate_columns([lon.upper(), lat.title()]) == (lon.upper(), lat.title())
    assert find_coordinate_columns([f" {lon}", f"{lat} "]) == (f" {lon}", f"{lat} ")


@pytest.mark.parametrize("columns", [[], ["lon"], ["lat", "x"], [0, 1], ["longest", "flat"]])
def test_half_a_pair_is_none(columns):
    assert find_coordinate_columns(columns) is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["lon", "Longitude", "lat"], "could be the longitude: 'lon', 'Longitude'"),
        (["lon", "lat", "LAT"], "could be the latitude: 'lat', 'LAT'"),
        (["lng", "lng", "lat"], "could be the longitude: 'lng', 'lng'"),
    ],
)
def test_ambiguous_columns_are_refused_by_name(columns, message):
    with pytest.raises(CoordinateError, match=message):
        find_coordinate_columns(columns)


@pytest.mark.parametrize(
    "values",
    [
        [1, None],
        (1.0, float("nan")),
        np.array([1, None], dtype=object),
        np.array([1.0, np.nan], dtype=np.float32),
        np.ma.array([1, 2], mask=[False, True]),
        np.ma.array([1, "b"], mask=[False, True], dtype=object),
        pd.Series([1, pd.NA], dtype="Int64"),
        pd.Series([1.0, pd.NA], dtype="Float64"),
        pd.Series([1.0, None], dtype="category"),
        pd.Series([1.0, np.nan], dtype=pd.SparseDtype(float)),
        pd.Series([1, None], dtype=pd.ArrowDtype(pa.int32())),
        pd.Series([Decimal(1), None], dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
        pd.Series([Decimal(1), Decimal("NaN")]),
        [Fraction(1), pd.NaT],
    ],
    ids=lambda values: f"{type(values).__name__}-{getattr(values, 'dtype', '')}",
)
def test_numbers_of_any_kind_are_read_and_the_missing_are_nan(values):
    numbers = read_numbers(values, "lon=")
    assert numbers.dtype == np.float64
    np.testing.assert_array_equal(numbers, [1.0, np.nan])


def test_scalars_and_tables_keep_their_shape():
    assert read_numbers(3, "lon=").shape == ()
    assert read_numbers([[1, 2], [3, None]], "lon=").shape == (2, 2)
    assert read_numbers([], "lon=").shape == (0,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1.5", 2], r"Column 'lat' holds text .*: row 0 \('1.5'\).*pandas.to_numeric"),
        (pd.Series(["51N"]), r"holds text where numbers belong: row 0 \('51N'\)"),
        (pd.Series(["51N"], dtype="category"), r"holds text"),
        (np.array([b"1"]), r"holds text where numbers belong: row 0 \(b'1'\)"),
        ([True, False], r"holds bool where numbers belong: rows 0 \(True\), 1 \(False\)"),
        (pd.Series([True, None], dtype="boolean"), "holds bool"),
        (np.array([1.0, np.True_], dtype=object), "holds bool"),
        ([1j], r"holds complex where numbers belong: row 0 \(1j\)"),
        (np.array(["2020-01-01"], dtype="M8[ns]"), "holds Timestamp"),
        (pd.Series([datetime.date(2020, 1, 1)]), "holds date"),
        ({"a": 1}, "holds dict"),
        ([[1], [2, 3]], "cannot be read as an array of numbers"),
        ([10**400], "too large"),
        (
            np.zeros(2, dtype=[("lon", float), ("lat", float)]),
            r"array of records.*lon=array\['lon'\]",
        ),
    ],
)
def test_what_is_no_number_is_refused_and_named(values, message):
    with pytest.raises(CoordinateError, match=message):
        read_numbers(values, "Column 'lat'")


def test_text_is_named_by_index_label_and_shortened():
    values = pd.Series(["x" * 500, *"abcdef"], index=[f"id{k}" for k in range(7)])
    with pytest.raises(CoordinateError, match=r"rows 'id0' .*'id4' \('d'\) and 2 more") as caught:
        read_numbers(values, "lat=", values.index)
    assert len(str(caught.value)) < 400


def test_tensors_are_read():
    torch = pytest.importorskip("torch")
    assert read_numbers(torch.tensor([1.5, 2.5]), "lon=").tolist() == [1.5, 2.5]
    with pytest.raises(CoordinateError, match=r"cannot be read as an array of numbers: .*grad"):
        read_numbers(torch.tensor([1.5], requires_grad=True), "lon=")


def test_rows_are_named_by_label_and_counted():
    index = pd.Index([10, 20, 30, 40, 50, 60, 70])
    assert name_rows(index, np.arange(7) == 2) == "row 30"
    assert name_rows(index, np.arange(7) < 2, lambda at: at * at) == "rows 10 (0), 20 (1)"
    assert name_rows(index, np.ones(7, bool)) == "rows 10, 20, 30, 40, 50 and 2 more"
    assert name_rows(pd.MultiIndex.from_tuples([("a", 1)]), np.array([True])) == "row ('a', 1)"
