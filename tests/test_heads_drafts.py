"""The file that predictions are written to: none that is read, now or the next time."""

import os
from pathlib import Path

import pytest

import geoembed as ge
from geoembed.errors import TableError
from geoembed.heads.files.drafts import check_target
from geoembed.heads.files.tables import predict_file

CITIES = ge.data.load_cities()[["name", "lat", "geometry"]].head(80).reset_index(drop=True)


@pytest.fixture
def land(tmp_path, monkeypatch):
    """A folder with two files, a folder that a link in it leads to, and one beside it."""
    monkeypatch.chdir(tmp_path)
    for name in ("land", "linked", "beside"):
        Path(name).mkdir()
    CITIES[:40].to_parquet("land/a.parquet")
    CITIES[40:].to_parquet("land/b.parquet")
    Path("land/more").symlink_to("../linked", target_is_directory=True)
    Path("land/file.parquet").symlink_to("../beside/file.parquet")
    return Path("land")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("land/*.parquet", "land/a.parquet"),
        ("land/[ab].parquet", "beside/../land/b.parquet"),
        ("land/*.parquet", "land/new.parquet"),
        ("land/*.parquet", "land/file.parquet"),
        ("land/*.parquet", "beside/file.parquet"),
        ("land/*", "land/new.csv"),
        ("l*", "linked/new.parquet"),
        ("land", "land/a.parquet"),
        ("land", "land/new.gpkg"),
        ("land", "land/more/new.parquet"),
        ("land", "linked/new.parquet"),
        ("land", "linked/new.csv"),
        ("land", "beside/file.parquet"),
        ("land/../land", "land/new.parquet"),
        (".", "new.parquet"),
    ],
)
def test_a_file_that_would_be_read_is_refused(land, source, target):
    for force in (False, True):
        with pytest.raises(TableError, match=r"lies in what is read, .*: it would be read with"):
            check_target(target, Path(source), force=force)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("land", "new.parquet"),
        ("land", "beside/new.gpkg"),
        ("land", "land/_new.parquet"),
        ("land/*.parquet", "land/new.csv"),
        ("land/*.parquet", "linked/new.parquet"),
        ("land/a*", "land/b.parquet"),
        ("land/a.parquet", "land/new.parquet"),
    ],
)
def test_a_file_that_would_not_be_read_is_taken(land, source, target):
    assert check_target(target, Path(source), force=True) == Path(target)


def test_a_source_is_not_replaced(land):
    os.remove("land/file.parquet")
    head = ge.heads.LocationRegressor("xyz").fit(CITIES, "lat")
    before = Path("land/a.parquet").read_bytes()
    with pytest.raises(TableError, match=r"land/a\.parquet lies in what is read, land/\*\.parquet"):
        predict_file(head, "land/*.parquet", "land/a.parquet", force=True)
    assert Path("land/a.parquet").read_bytes() == before
    for _ in range(2):
        assert predict_file(head, "land/*.parquet", "beside/o.parquet", force=True).rows == 80


def test_a_folder_that_cannot_be_listed_is_told(land, monkeypatch):
    def scandir(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(TableError, match="land cannot be listed: .*Permission denied"):
        check_target("new.parquet", land, force=False)
