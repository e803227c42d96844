"""Links in folders of Parquet files: what they lead to is read too, once, and not in circles."""

import os
from contextlib import nullcontext
from pathlib import Path

import geopandas as gpd
import pyarrow.dataset as ds
import pytest

import geoembed as ge
from geoembed.errors import TableError
from geoembed.scaling import embed_folder
from geoembed.scaling.folder_source import open_table
from geoembed.scaling.listing import finds, list_files, locate
from geoembed.scaling.walking import walk

CITIES = ge.data.load_cities()[["name", "geometry"]].head(60).reset_index(drop=True)


@pytest.fixture
def land(tmp_path, monkeypatch):
    """A folder with a file of 10 rows, and links to one of 20 and to a folder with one of 30."""
    monkeypatch.chdir(tmp_path)
    for name in ("land", "one", "many/year=2024", "empty"):
        Path(name).mkdir(parents=True)
    CITIES[:10].to_parquet("land/a.parquet")
    CITIES[10:30].to_parquet("one/b.parquet")
    CITIES[30:].to_parquet("many/year=2024/c.parquet")
    Path("land/b.parquet").symlink_to("../one/b.parquet")
    Path("land/more").symlink_to("../many/year=2024", target_is_directory=True)
    return Path("land")


def found(*sources):
    return [file.url.partition("/land/")[2] for file in list_files(sources)]


def test_what_links_lead_to_is_read_as_others_read_it(land):
    report = embed_folder("land", "out", encoder="xyz", workers=0)
    assert (report.rows, report.parts) == (60, 3)
    assert ds.dataset("land").count_rows() == 60
    assert sorted(gpd.read_parquet("out")["name"]) == sorted(CITIES["name"])
    assert open_table(land).rows == 60


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("land", ["a.parquet", "b.parquet", "more/c.parquet"]),
        ("land/", ["a.parquet", "b.parquet", "more/c.parquet"]),
        ("land/*", ["a.parquet", "b.parquet", "more/c.parquet"]),
        ("l*", ["a.parquet", "b.parquet", "more/c.parquet"]),
        ("land/**/*.parquet", ["a.parquet", "b.parquet", "more/c.parquet"]),
        ("land/*.parquet", ["a.parquet", "b.parquet"]),
        ("land/m*", ["more/c.parquet"]),
        ("*/more/c.parquet", ["more/c.parquet"]),
        ("land/more", ["more/c.parquet"]),
        ("land/m*/*.parquet", ["more/c.parquet"]),
    ],
)
def test_folders_and_patterns_find_the_same_through_links(land, pattern, files):
    assert found(pattern) == files


def test_links_in_a_circle_end(land):
    (land / "itself").symlink_to("itself")
    (land / "up").symlink_to("..", target_is_directory=True)
    (land / "here").symlink_to(".", target_is_directory=True)
    Path("many/year=2024/back").symlink_to("../../land", target_is_directory=True)
    for pair in (("left", "right"), ("right", "left")):
        (land / pair[0]).mkdir(exist_ok=True)
        (land / pair[0] / "across").symlink_to(f"../{pair[1]}", target_is_directory=True)
    CITIES[:5].to_parquet(land / "left" / "d.parquet")
    expected = ["a.parquet", "b.parquet", "left/d.parquet", "more/c.parquet"]
    for source in ("land", "land/*", "land/**"):
        assert found(source) == expected


def test_a_file_is_read_once_but_for_other_partition_values(land):
    (land / "again.parquet").symlink_to("a.parquet")
    (land / "twice").symlink_to("../many/year=2024", target_is_directory=True)
    assert found("land") == ["a.parquet", "b.parquet", "more/c.parquet"]
    assert found("land", "one/b.parquet", "land/twice") == found("land")
    Path("many/year=2025").symlink_to("year=2024", target_is_directory=True)
    assert [file.values for file in list_files(["many"])] == [{"year": "2024"}, {"year": "2025"}]


def test_hidden_names_stay_hidden_and_what_links_to_them_is_read(land):
    Path("land/_store").mkdir()
    CITIES.to_parquet("land/_store/d.parquet")
    assert "_store/d.parquet" not in found("land")
    (land / "d").symlink_to("_store", target_is_directory=True)
    assert found("land")[-2:] == ["d/d.parquet", "more/c.parquet"]
    (land / "_d").symlink_to("../one", target_is_directory=True)
    assert found("land/_d/*") == ["_d/b.parquet"]
    assert found("land/_*") == ["_d/b.parquet", "_store/d.parquet"]


def test_a_link_to_nothing_is_told(land):
    (land / "gone.parquet").symlink_to("nowhere")
    with pytest.raises(TableError, match=r"There is no file .*land/gone\.parquet"):
        list_files(["land"])


@pytest.mark.parametrize("source", ["land", "land/*", "land/**", "l*"])
@pytest.mark.parametrize("target", ["empty/out", "land/to/out", "new", "land/new/out"])
def test_an_output_folder_that_a_link_leads_to_is_refused(land, source, target):
    """Its parts would be read with the rest the next time."""
    (land / "to").symlink_to("../empty", target_is_directory=True)
    # To where nothing is yet.
    (land / "new").symlink_to("../new", target_is_directory=True)
    with pytest.raises(TableError, match=f"{target} lies in what is read, "):
        embed_folder(source, target, encoder="xyz", workers=0)
    assert not Path(target).exists()
    report = embed_folder(source, "beside", encoder="xyz", workers=0)
    assert report.rows == 60


def test_an_output_folder_that_no_pattern_comes_to_is_taken(land):
    (land / "to").symlink_to("../empty", target_is_directory=True)
    report = embed_folder("land/*.parquet", "empty/out", encoder="xyz", workers=0)
    assert report.rows == 30


@pytest.fixture
def opened(monkeypatch):
    """Which folders are opened, as they are called from here; none called private can be."""
    called = []
    scandir = os.scandir

    def watched(folder):
        called.append(os.path.relpath(folder).replace(os.sep, "/"))
        if os.path.basename(folder) == "private":
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", watched)
    return called


@pytest.mark.parametrize(
    ("pattern", "folders"),
    [
        ("land/run-*/*.parquet", ["land", "land/run-1", "land/run-2"]),
        ("land/run-1*/*.parquet", ["land", "land/run-1"]),
        ("land/*.parquet", ["land"]),
        ("land/run-*/deep/*", ["land", "land/run-1", "land/run-1/deep", "land/run-2"]),
        ("land/[r]un-?/**/*.parquet", ["land", "land/run-1", "land/run-1/deep", "land/run-2"]),
        ("l*/run-1/**/deep/*.parquet", [".", "land", "land/run-1", "land/run-1/deep"]),
    ],
)
def test_folders_in_which_a_pattern_finds_nothing_are_not_opened(land, opened, pattern, folders):
    for name in ("run-1/deep", "run-2", "private"):
        (land / name).mkdir(parents=True)
    for name in ("a", "run-1/b", "run-1/deep/c"):
        CITIES[:5].to_parquet(land / f"{name}.parquet")
    assert list_files([pattern])
    assert opened == folders
    system, path = locate("land/run-1/deep/new.parquet")
    assert finds(pattern, system, [path]) == ("deep" in pattern or "**" in pattern)
    with pytest.raises(TableError, match="land cannot be listed: .*Permission denied"):
        list_files([land])


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("land/**/x/*.parquet", ["x/1.parquet", "x/x/2.parquet", "y/x/3.parquet"]),
        ("land/**/x/**/*.parquet", ["x/1.parquet", "x/x/2.parquet", "y/x/3.parquet"]),
        ("land/x/**/x/*.parquet", ["x/x/2.parquet"]),
        ("land/**/x", ["x/1.parquet", "x/x/2.parquet", "y/x/3.parquet"]),
        ("land/**/y/**", ["y/x/3.parquet"]),
        ("land/?/?/**", ["x/x/2.parquet", "y/x/3.parquet"]),
    ],
)
def test_two_stars_stand_for_any_folders_or_none(land, pattern, files):
    for name in ("x/1", "x/x/2", "y/x/3"):
        (land / name).parent.mkdir(parents=True, exist_ok=True)
        CITIES[:5].to_parquet(land / f"{name}.parquet")
    assert found(pattern) == files


def linked_together(folder, number, name):
    """Make folders that each hold a file and links to all the others."""
    for at in range(number):
        (folder / f"d{at}").mkdir()
        CITIES[at : at + 1].to_parquet(folder / f"d{at}" / "f.parquet")
        for to in range(number):
            if to != at:
                link = folder / f"d{at}" / name.format(to)
                link.symlink_to(f"../d{to}", target_is_directory=True)


@pytest.mark.parametrize("source", ["land", "land/**/*.parquet", "land/**", "l*"])
def test_folders_that_link_to_each_other_are_opened_once(land, opened, source):
    linked_together(land, 9, "to{}")
    list_files([source])
    assert len(opened) < 200
    opened.clear()
    assert len({os.path.realpath(locate(file.url)[1]) for file in list_files([source])}) == 12
    opened.clear()
    system, path = locate("elsewhere/f.parquet")
    assert not finds(source, system, [path])
    assert len(opened) < 200
    for at in range(9):
        path = locate(f"land/d{at}/new/f.parquet")[1]
        assert finds(source, system, [path])


@pytest.mark.parametrize(
    ("pattern", "number"),
    [("land/**/to1/*.parquet", 1), ("land/**/to1/**/*.parquet", 4), ("land/**/to1/to2/f*", 1)],
)
def test_a_folder_is_opened_again_where_a_pattern_looks_for_more(land, pattern, number):
    linked_together(land, 4, "to{}")
    files = list_files([pattern])
    assert len({os.path.realpath(locate(file.url)[1]) for file in files}) == number
    system, path = locate("land/d1/new.parquet")
    assert finds(pattern, system, [path]) == ("to2" not in pattern)
    for file in files:
        assert finds(pattern, system, [os.path.realpath(locate(file.url)[1])])


def test_a_folder_is_opened_for_each_of_its_partition_values(land):
    linked_together(land, 3, "k={}")
    files = [place.path for place in walk("land") if place.path.endswith("/f.parquet")]
    assert {os.path.realpath(path) for path in files} == {
        os.path.realpath(f"land/d{at}/f.parquet") for at in range(3)
    }
    assert {"land/d0/f.parquet", "land/d0/k=1/f.parquet", "land/d0/k=2/f.parquet"} <= set(files)
    assert len(files) < 16


class Junction:
    """What Python 3.12 says of a junction on Windows, on a link."""

    def __init__(self, entry):
        self.name, self.is_dir, self.is_junction = entry.name, entry.is_dir, entry.is_symlink

    def is_symlink(self):
        return False


def test_junctions_are_links(land, monkeypatch):
    (land / "here").symlink_to(".", target_is_directory=True)
    Path("beside").symlink_to("land", target_is_directory=True)
    (land / "again").symlink_to("../many/year=2024", target_is_directory=True)
    scandir = os.scandir

    def junctions(folder):
        with scandir(folder) as entries:
            return nullcontext([Junction(entry) for entry in entries])

    monkeypatch.setattr(os, "scandir", junctions)
    assert [place.path for place in walk("land")] == [
        "land/a.parquet",
        "land/again",
        "land/again/c.parquet",
        "land/b.parquet",
        "land/more",
    ]
    system, path = locate("many/year=2024/new.parquet")
    assert finds("land", system, [path])
