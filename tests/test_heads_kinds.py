"""What kind of target a column is: the commands that guess it guess alike."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from geoembed.cli.fit_table import guess_head
from geoembed.errors import TargetError
from geoembed.evaluation.tasks import read_task
from geoembed.heads.kinds import are_shares, guess_kind, may_be_codes
from geoembed.heads.reading import read_target
from geoembed.heads.shares import read_shares

COLUMNS = {
    "integers": ([1, 2, 3], "numbers"),
    "floats": (np.array([1.0, 2.5, 3.0], dtype=np.float32), "numbers"),
    "nullable": (pd.array([1, 2, 3], dtype="Int64"), "numbers"),
    "numbers as objects": (pd.Series([1, 2.5, 3], dtype=object), "numbers"),
    "numpy's as objects": (pd.Series([np.float32(1), np.int8(2), 3], dtype=object), "numbers"),
    "truth": ([True, False, True], "labels"),
    "nullable truth": (pd.array([True, False, True], dtype="boolean"), "labels"),
    "truth as objects": (pd.Series([True, False, True], dtype=object), "labels"),
    "text": (["a", "b", "a"], "labels"),
    "text as objects": (pd.Series(["a", "b", "a"], dtype=object), "labels"),
    "nullable text": (pd.array(["a", "b", "a"], dtype="string"), "labels"),
    "digits": (["1", "2", "1"], "labels"),
    "categories of text": (pd.Categorical(["a", "b", "a"]), "labels"),
    "categories of numbers": (pd.Categorical([1, 2, 1]), "labels"),
    "categories of truth": (pd.Categorical([True, False, True]), "labels"),
    "text and numbers": (pd.Series(["a", 1, "a"], dtype=object), "labels"),
    "decimals": (pd.Series([decimal.Decimal(n) for n in "123"], dtype=object), "numbers"),
    "arrow's decimals": (pd.array([1, 2, 3], dtype=pd.ArrowDtype(pa.decimal128(9, 2))), "numbers"),
    "decimals and text": (pd.Series([decimal.Decimal(1), "a", "b"], dtype=object), "labels"),
}


def frame(**columns):
    return pd.DataFrame({"lon": [0.0, 1.0, 2.0], "lat": [0.0, 1.0, 2.0], **columns})


@pytest.mark.parametrize("name", COLUMNS)
def test_fit_and_compare_guess_alike(name):
    values, kind = COLUMNS[name]
    table = frame(y=values)
    assert guess_kind(table["y"], "target 'y'") == kind
    assert guess_head(table, ["y"])[0] == {"numbers": "regress", "labels": "classify"}[kind]
    if name in ("text and numbers", "decimals and text"):
        with pytest.raises(TargetError, match="target 'y' holds "):
            read_task(table, "y")
        return
    expected = {"numbers": "regression", "labels": "classification"}[kind]
    for target in ("y", ["y"], table["y"], table[["y"]]):
        assert read_task(table, target).kind == expected


@pytest.mark.parametrize(
    "values",
    [
        pd.date_range("2026-01-01", periods=3),
        pd.to_timedelta([1, 2, 3], unit="h"),
        pd.period_range("2026", periods=3, freq="Y"),
    ],
)
def test_times_are_refused_by_both(values):
    table = frame(y=values)
    for guess in (lambda: guess_head(table, ["y"]), lambda: read_task(table, "y")):
        with pytest.raises(TargetError, match="The target 'y' holds .* neither numbers nor labels"):
            guess()
    with pytest.raises(TargetError, match="column 0 of y holds datetime64.* neither numbers"):
        read_task(np.zeros((3, 2)), np.array(["2026-01-01"] * 3, dtype="datetime64[s]"))
    assert guess_kind(pd.Series([datetime.date(2026, 1, 1)] * 3), "target") == "labels"


@pytest.mark.parametrize("dtype", [np.complex64, object])
def test_complex_numbers_are_refused_by_both(dtype):
    table = frame(y=np.array([1j, 2.0, 3.0]).astype(dtype))
    for guess in (lambda: guess_head(table, ["y"]), lambda: read_task(table, "y")):
        with pytest.raises(TargetError, match="The target 'y' holds complex numbers, which no"):
            guess()


def test_gaps_among_decimals_are_named():
    assert guess_kind(pd.Series([decimal.Decimal(1), None]), "target") == "numbers"
    table = frame(y=[decimal.Decimal(1), None, decimal.Decimal("NaN")])
    with pytest.raises(TargetError, match="2 of 3 rows of target 'y' are missing .*: rows 1"):
        read_task(table, "y")


@pytest.mark.parametrize(
    ("sums", "head", "task"),
    [
        ([1.0, 1.0005, 0.9995], "landcover", "fractions"),
        ([1.0, 1.0, 1.1], "regress", "regression"),
        ([100.0, 100.0, 100.0], "regress", "regression"),
    ],
)
def test_rows_that_sum_to_one_are_shares(sums, head, task):
    table = frame(a=np.array([0.25, 0.5, 0.75]), b=np.array(sums) - [0.25, 0.5, 0.75])
    assert guess_head(table, ["a", "b"])[0] == head
    assert read_task(table, ["a", "b"]).kind == task
    numbers = table[["a", "b"]].to_numpy()
    assert are_shares(numbers) == (head == "landcover")
    assert are_shares(numbers, whole=100.0) == (sums[0] == 100.0)


@pytest.mark.parametrize("off", [0.0, -0.9e-3, 1e-3, -1e-3, 1e-3 + 5e-10, 1.1e-3, -1.1e-3])
def test_what_is_guessed_to_be_shares_is_read_as_shares(off):
    numbers = np.array([[0.5, 0.5 + off]])
    few = abs(off) < 1.05e-3
    assert are_shares(numbers) == few
    assert are_shares(100.0 * numbers, whole=100.0) == few
    if few:
        assert read_shares(read_target(None, numbers)).sum() == pytest.approx(1.0, abs=1e-15)
    else:
        with pytest.raises(TargetError, match="do not sum to 1 within"):
            read_shares(read_target(None, numbers))
    with pytest.raises(TargetError, match="divide by 100" if few else "divide every row"):
        read_shares(read_target(None, 100.0 * numbers))


def test_one_row_of_five_may_be_a_mistake():
    numbers = np.array([[0.5, 0.5]] * 4 + [[0.5, 0.6]])
    assert are_shares(numbers)
    assert not are_shares(numbers[1:])


def test_codes_are_few_whole_numbers():
    assert may_be_codes(np.arange(20))
    assert not may_be_codes(np.arange(21))
    assert not may_be_codes(np.array([1.0, 1.5]))
    # A file tells integers from measurements, pandas often does not.
    whole = frame(y=[1.0, 2.0, 3.0])
    assert guess_head(whole, ["y"]) == ("regress", "it holds numbers")
    assert read_task(whole, "y").holds_codes
    assert "--head classify" in guess_head(whole.astype({"y": int}), ["y"])[1]
    assert not read_task(frame(y=["a", "b", "c"]), "y").holds_codes
