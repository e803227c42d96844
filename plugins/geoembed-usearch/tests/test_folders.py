"""Indexes in the folder of a gallery: they go where it goes, and are refused elsewhere."""

import json
import shutil

import numpy as np
import pytest
from geoembed_usearch.recall import noisy_queries

from geoembed.errors import OptionError, TableError
from geoembed.galleries import Gallery


@pytest.fixture
def kept(tmp_path, own_cache):
    """A gallery in a folder of its user."""
    gallery = Gallery.cities(300_000, encoder="wrap")
    gallery.save(tmp_path / "user" / "kept")
    return tmp_path / "user" / "kept"


def test_the_index_lies_in_the_gallerys_folder_and_goes_where_it_goes(kept, monkeypatch):
    gallery = Gallery.load(kept)
    first = gallery.index("usearch")
    assert first.path.parent == kept / "indexes"
    gallery.save(kept.parent / "copy")
    shutil.move(kept.parent / "copy", kept.parent / "moved")
    shutil.rmtree(kept)
    monkeypatch.setattr("geoembed_usearch.opening.build_graph", None)  # nothing is built
    again = Gallery.load(kept.parent / "moved").index("usearch")
    assert again.path.parent == kept.parent / "moved" / "indexes"
    queries = noisy_queries(np.asarray(again.embeddings), 0.6, 5)
    np.testing.assert_array_equal(again.search(queries, 3)[1], first.search(queries, 3)[1])


def test_a_gallery_whose_folder_holds_another_by_now_takes_no_index_from_there(kept):
    old = Gallery.load(kept)
    vectors = np.array(old.embeddings)
    other = Gallery.cities(300_000, encoder="xyz")
    assert len(other) == len(old)
    Gallery(other.places, vectors[::-1].copy(), other.facts).save(kept, force=True)
    assert Gallery.load(kept).index("usearch").path.is_relative_to(kept)
    index = old.index("usearch", threads=1)
    assert not index.path.is_relative_to(kept)
    assert index.search(vectors[:9], 1)[1][:, 0].tolist() == list(range(9))


def test_a_gallery_saved_onto_itself_keeps_its_index(kept, monkeypatch):
    gallery = Gallery.load(kept)
    gallery.index("usearch")
    gallery.save(kept, force=True)
    monkeypatch.setattr("geoembed_usearch.opening.build_graph", None)
    assert Gallery.load(kept).index("usearch").path.is_relative_to(kept)
    assert [p.name for p in kept.parent.iterdir()] == ["kept"]


def test_the_index_of_a_gallery_in_memory_is_saved_with_it(tmp_path, own_cache, monkeypatch):
    part = Gallery.cities(300_000, encoder="wrap").take(np.arange(600))
    assert part.folder is None
    part.index("usearch")
    part.save(tmp_path / "part")
    monkeypatch.setattr("geoembed_usearch.opening.build_graph", None)
    loaded = Gallery.load(tmp_path / "part").index("usearch")
    assert loaded.path.parent == tmp_path / "part" / "indexes"


def test_an_index_that_is_built_again_while_the_gallery_is_saved_is_saved_whole(kept, monkeypatch):
    old = Gallery.load(kept).index("usearch").path
    gallery = Gallery.load(kept)
    copyfile = shutil.copyfile

    def meanwhile(source, target):
        monkeypatch.setattr(shutil, "copyfile", copyfile)
        Gallery.load(kept).index("usearch", connectivity=8, rebuild=True)  # as another process does
        assert not old.exists()
        return copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", meanwhile)
    gallery.save(kept.with_name("copy"))
    monkeypatch.setattr("geoembed_usearch.opening.build_graph", None)
    index = Gallery.load(kept.with_name("copy")).index("usearch")
    assert index.path.parent == kept.with_name("copy") / "indexes"
    assert index.facts["connectivity"] == 8
    assert len(list(index.path.parent.glob("*.usearch"))) == 1


def test_the_index_of_a_gallery_in_memory_that_was_built_again_meanwhile_is_saved_with_it(
    tmp_path, own_cache, monkeypatch
):
    part = Gallery.cities(300_000, encoder="wrap").take(np.arange(600))
    old = part.index("usearch").path
    same = Gallery.cities(300_000, encoder="wrap").take(np.arange(600))
    same.index("usearch", connectivity=8, rebuild=True)  # as another process does
    assert not old.exists()
    part.save(tmp_path / "part")
    monkeypatch.setattr("geoembed_usearch.opening.build_graph", None)
    assert Gallery.load(tmp_path / "part").index("usearch").facts["connectivity"] == 8


def test_an_index_of_another_gallery_is_refused(kept):
    Gallery.load(kept).index("usearch")
    other = kept.with_name("other")
    Gallery.load(kept).take(np.arange(0, 900, 2)).save(other)
    shutil.copytree(kept / "indexes", other / "indexes")
    with pytest.raises(OptionError, match="it was built of other vectors. Build it again: geoemb"):
        Gallery.load(other).search(np.ones((1, 16)), 1, index="usearch")
    rebuilt = Gallery.load(other).index("usearch", rebuild=True)
    assert rebuilt.path.parent == other / "indexes"
    Gallery.load(other).index("usearch")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"metric": "l2"}, "metric='l2', not 'cosine'"),
        ({"dtype": "int8"}, "dtype='int8', not 'float16'"),
        ({"format": 1}, "has the format 1, this plugin reads 4"),
        ({"graph": "../x.usearch"}, "there is no ../x.usearch beside it"),
    ],
)
def test_an_index_that_says_it_is_something_else_is_refused(kept, change, problem):
    Gallery.load(kept).index("usearch")
    path = kept / "indexes" / "usearch.float16.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises((OptionError, TableError), match=problem):
        Gallery.load(kept).index("usearch")


def test_a_graph_under_the_name_of_another_is_refused_by_its_header(kept):
    gallery = Gallery.load(kept)
    wrong = gallery.index("usearch.int8")
    right = gallery.index("usearch")
    shutil.copyfile(wrong.path, right.path)
    path = kept / "indexes" / "usearch.float16.json"
    facts = {"parts_sha256": wrong.facts["parts_sha256"]}
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    with pytest.raises(TableError, match="kind_scalar is I8, expected f16"):
        Gallery.load(kept).index("usearch")


def test_other_options_than_those_of_a_folders_index_are_refused(kept):
    Gallery.load(kept).index("usearch", connectivity=8)
    with pytest.raises(OptionError, match="built with connectivity=8, not 32"):
        Gallery.load(kept).index("usearch", connectivity=32)
    assert Gallery.load(kept).index("usearch").facts["connectivity"] == 8


@pytest.mark.filterwarnings("ignore:The index finds less than")
def test_the_remedy_that_an_error_tells_is_one(kept):
    kept = kept.rename(kept.with_name("two words"))
    Gallery.load(kept).index("usearch")
    for options, told in (
        ({"connectivity": 8}, "--set connectivity=8 --force"),
        ({"target": 0.9}, "--set target=0.9 --force"),
    ):
        with pytest.raises(OptionError, match=rf"index '{kept}' --index usearch {told}\.$"):
            Gallery.load(kept).index("usearch", **options)
        Gallery.load(kept).index("usearch", rebuild=True, **options)
        Gallery.load(kept).index("usearch", **options)


def test_a_folder_that_cannot_be_written_leaves_the_index_in_the_cache(kept, own_cache):
    (kept / "indexes").write_text("in the way")
    index = Gallery.load(kept).index("usearch")
    assert index.path.is_relative_to(own_cache / "indexes")
