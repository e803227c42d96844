"""Paths, patterns, folders and columns stand for the pictures one would expect, in order."""

import os
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from geoembed.errors import PictureError, TableError
from geoembed.images.listing import find_inputs, find_pictures


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "c.heic", "notes.txt", ".hidden.jpg", "._c.jpg", "inner/d.webp"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def names(paths, folder):
    return [Path(path).relative_to(folder).as_posix() for path in paths]


def test_a_folder_stands_for_its_pictures(folder):
    assert names(find_pictures(folder), folder) == ["a.PNG", "b.jpg", "c.heic"]
    assert names(find_pictures(str(folder)), folder) == ["a.PNG", "b.jpg", "c.heic"]
    deep = names(find_pictures(folder, recursive=True), folder)
    assert deep == ["a.PNG", "b.jpg", "c.heic", "inner/d.webp"]


def test_a_folder_without_a_picture_says_what_is_there(folder):
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").touch()
    with pytest.raises(PictureError, match=r"holds no picture.*found 1 other files.$"):
        find_pictures(folder / "texts")
    above = folder.parent / "above"
    above.mkdir()
    folder.rename(above / "photos")
    with pytest.raises(PictureError, match=r"recursive=True looks into its 1 folders too"):
        find_pictures(above)
    assert len(find_pictures(above, recursive=True)) == 4


def test_a_folder_inside_that_cannot_be_read_is_not_left_out(folder, monkeypatch):
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("inner"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PictureError, match=r"inner' cannot be read: Permission denied"):
        find_pictures(folder, recursive=True)


def test_patterns(folder):
    assert names(find_pictures(f"{folder}/*.jpg"), folder) == ["b.jpg"]
    assert names(find_pictures(f"{folder}/**/*.webp"), folder) == ["inner/d.webp"]
    # A pattern says itself what it wants.
    assert names(find_pictures(f"{folder}/*.txt"), folder) == ["notes.txt"]
    with pytest.raises(PictureError, match=r"The pattern '.*\*.tif' matches no file"):
        find_pictures(f"{folder}/*.tif")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder):
    odd = folder / "b[1].jpg"
    odd.touch()
    assert find_pictures(odd) == [str(odd)]


def test_a_missing_file_is_one_picture_for_the_reader_to_complain_of():
    assert find_pictures("missing.jpg") == ["missing.jpg"]


def test_home_is_understood(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert len(find_pictures("~")) == 3
    assert len(find_pictures("~/*.jpg")) == 1


# -- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["IMG_FILE", "image", "Photo", "path", "filename"])
def test_the_usual_columns_are_found(column):
    frame = pd.DataFrame({"LAT": [1.0, 2.0], column: ["a.jpg", "b.jpg"]}, index=["x", "y"])
    inputs = find_inputs(frame)
    assert inputs.total == 2
    assert list(inputs) == [("a.jpg", "a.jpg"), ("b.jpg", "b.jpg")]


def test_a_geodataframe_and_a_series_name_rows_by_label():
    points = gpd.points_from_xy([0, 1], [0, 1])
    frame = gpd.GeoDataFrame({"picture": [b"1", None]}, geometry=points, index=["x", 7])
    assert [name for name, _ in find_inputs(frame)] == ["row x", "row 7"]
    assert [name for name, _ in find_inputs(frame["picture"])] == ["row x", "row 7"]


def test_columns_that_cannot_be_told_are_asked_for():
    frame = pd.DataFrame({"path": ["a"], "image": ["b"], "n": [1]})
    with pytest.raises(TableError, match=r"found 2 of that kind. Name it with column='...'"):
        find_inputs(frame)
    assert list(find_inputs(frame, column="path")) == [("a", "a")]
    with pytest.raises(TableError, match=r"found none. .* Columns: 'n'"):
        find_inputs(frame[["n"]])
    with pytest.raises(TableError, match=r"There is no column named 'q'. Columns: 'path', 'image'"):
        find_inputs(frame, column="q")
    with pytest.raises(TableError, match=r"There are 2 columns named 'path'"):
        find_inputs(pd.concat([frame, frame], axis=1), column="path")
    with pytest.raises(TableError, match=r"column='path' names a column of a table.*type list"):
        find_inputs(["a.jpg"], column="path")


# -- other sources --------------------------------------------------------------------------------


def test_single_pictures_and_batches():
    assert find_inputs(np.zeros((4, 5, 3), np.uint8)).total == 1
    assert find_inputs(np.zeros((4, 5), np.uint8)).total == 1
    assert find_inputs(np.zeros((7, 4, 5, 3), np.uint8)).total == 7
    assert find_inputs(torch.zeros(3, 4, 5)).total == 1
    assert find_inputs(torch.zeros(6, 3, 4, 5)).total == 6
    assert find_inputs(b"encoded").total == 1
    assert find_inputs(Image.new("L", (2, 2))).total == 1
    assert find_inputs(np.array(["a.jpg", "b.jpg"])).total == 2
    assert find_inputs([]).total == 0


def test_names(tmp_path):
    path = tmp_path / "kept.png"
    Image.new("L", (2, 2)).save(path)
    with open(path, "rb") as file, Image.open(path) as image:
        items = [path, "a.jpg", file, image, b"1", np.zeros((2, 2)), ""]
        found = [name for name, _ in find_inputs(items)]
    expected = [str(path), "a.jpg", str(path), str(path), "picture 4", "picture 5", "picture 6"]
    assert found == expected
    assert list(find_inputs({"north": "a.jpg", 3: "b.jpg"})) == [("north", "a.jpg"), ("3", "b.jpg")]


def test_a_generator_is_not_run_ahead():
    def source():
        yield "a.jpg"
        raise AssertionError("nobody asked for a second one")

    inputs = find_inputs(source())
    assert inputs.total is None
    assert next(iter(inputs)) == ("a.jpg", "a.jpg")
    assert find_inputs(inputs) is inputs


@pytest.mark.parametrize("source", [None, 3, 2.5, object()])
def test_what_no_picture_can_be_read_from_is_refused_at_once(source):
    with pytest.raises(PictureError, match=r"cannot be read from an object of type .*Give a path"):
        find_inputs(source)
