"""The tables behind every map of answers: one form, and nothing bad passes in silence."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from geoembed.errors import CoordinateError, OptionError, TableError
from geoembed.found import check_found, check_pictures, check_regions


def table(**changes):
    columns = {
        "query": ["a", 7, "b"],
        "rank": pd.array([1, 1, pd.NA], dtype="Int64"),
        "score": [0.5, 0.25, np.nan],
        "lon": [541.0, -180.0, np.nan],
        "lat": [90.0, -90.0, np.nan],
    }
    return pd.DataFrame({**columns, **changes}, index=[10, 20, 30])


def test_columns_get_one_form():
    checked = check_found(table())
    assert checked["query"].tolist() == ["a", "7", "b"]
    assert checked["lon"].tolist()[:2] == [-179.0, -180.0]
    assert checked["rank"].tolist()[:2] == [1.0, 1.0]
    assert checked["rank"].isna().tolist() == [False, False, True]
    assert checked["place"].tolist() == [None, None, None]
    assert checked["error"].tolist() == ["", "", "no place was found"]
    assert checked[["place_km", "radius_50_km", "radius_90_km"]].isna().all(axis=None)
    assert checked.index.tolist() == [0, 1, 2]


def test_errors_stay_with_their_rows_and_remarks_make_no_error():
    checked = check_found(table(error=["a remark", None, "cannot be read"], place=["P", "", None]))
    assert checked["error"].tolist() == ["", "", "cannot be read"]
    assert checked["place"].tolist() == ["P", None, None]


def test_numbers_of_extension_types_are_numbers():
    radii = pd.array([1.5, pd.NA, pd.NA], dtype="Float64")
    checked = check_found(table(radius_50_km=radii))
    assert checked["radius_50_km"].tolist()[0] == 1.5
    assert checked["radius_50_km"].dtype == np.float64


def test_the_table_given_is_not_changed():
    given = table()
    before = given.copy()
    check_found(given)
    pd.testing.assert_frame_equal(given, before)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"score": [0.5, np.inf, np.nan]}, TableError, "1 of 2 candidates .* first at row 20"),
        ({"lat": [91.0, 0.0, np.nan]}, CoordinateError, r"first at row 10 \(91.0\).*lon, lat"),
        ({"lon": ["x", "y", "z"]}, TableError, "'lon' does not hold numbers"),
        ({"radius_90_km": ["x", "y", "z"]}, TableError, "'radius_90_km' does not hold numbers"),
    ],
)
def test_what_is_no_answer_is_refused(changes, error, words):
    with pytest.raises(error, match=words):
        check_found(table(**changes))


def test_missing_columns_and_rows_are_named():
    with pytest.raises(TableError, match="no column 'rank', 'lon'"):
        check_found(table().drop(columns=["rank", "lon"]))
    with pytest.raises(TableError, match="has no row"):
        check_found(table()[:0])


def test_regions_come_in_degrees_the_largest_first():
    shapes = [shapely.box(0, 0, 1, 1), shapely.box(0, 0, 9, 9), shapely.Polygon(), None]
    given = gpd.GeoDataFrame(
        {"query": [7, 7, 7, 7], "share": [0.5, 0.9, 0.7, 0.8]}, geometry=shapes, crs="EPSG:4326"
    ).to_crs("EPSG:3857")
    checked = check_regions(given, {"7"})
    assert checked["query"].tolist() == ["7", "7"]
    assert checked["share"].tolist() == [0.9, 0.5]
    assert checked.crs == "EPSG:4326"
    assert checked.total_bounds == pytest.approx([0, 0, 9, 9], abs=1e-9)


def test_the_share_asked_for_counts_and_a_mass_stands_in_for_it():
    shapes = [shapely.box(0, 0, 1, 1)]
    held = gpd.GeoDataFrame({"query": ["a"], "mass": [1.0]}, geometry=shapes, crs="EPSG:4326")
    assert check_regions(held.assign(share=0.9), {"a"})["share"].tolist() == [0.9]
    assert check_regions(held.assign(mass=0.7), {"a"})["share"].tolist() == [0.7]
    with pytest.raises(TableError, match="'mass' lies between 0 and 1"):
        check_regions(held, {"a"})
    with pytest.raises(TableError, match="got list with none"):
        check_regions([], {"a"})


def test_what_no_flag_says_is_none():
    flags = pd.array([True, pd.NA, False], dtype="boolean")
    assert check_found(table(no_signal=flags))["no_signal"].tolist() == [True, None, False]
    assert check_found(table())["calibrated"].tolist() == [None, None, None]


def test_no_regions_and_no_pictures_are_none():
    assert len(check_regions(None, {"a"})) == 0
    assert check_pictures(None, {"a"}) == {}
    with pytest.raises(OptionError, match="'b', which is no query"):
        check_pictures({"b": None}, {"a"})
