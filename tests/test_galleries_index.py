"""Search: the exact index against plain numpy, ties, blocks, precisions, memory."""

import itertools
import shutil

import numpy as np
import pytest
import torch

from geoembed.errors import OptionError, TableError, UnknownNameError
from geoembed.galleries import Gallery
from geoembed.galleries import index as index_module
from geoembed.galleries.index import ExactIndex
from geoembed.galleries.index_files import staged_indexes
from geoembed.testing.galleries import check_index


def unit_vectors(rows, width=24, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def whole_numbers(rows, width=6, seed=0):
    """Vectors whose dot products are exact in float32, and often equal."""
    return np.random.default_rng(seed).integers(-2, 3, size=(rows, width)).astype(np.float32)


def brute(queries, vectors, k):
    """Every product in float64, sorted; of equal ones the lower row first."""
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows


def test_the_contract():
    check_index("exact")


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("rows", [1, 2, 255, 256, 257, 5000, 20_000])
def test_it_finds_what_sorting_all_products_finds(rows, dtype):
    vectors, queries = unit_vectors(rows).astype(dtype), unit_vectors(9, seed=1)
    for k in {1, min(rows, 10), min(rows, 300), rows if rows < 6000 else 1}:
        scores, found = ExactIndex(vectors).search(queries, k)
        expected, expected_rows = brute(queries, vectors, k)
        np.testing.assert_allclose(scores, expected, atol=1e-6)
        # Rows may change places only where their scores are one in float32.
        products = queries.astype(np.float64) @ vectors.astype(np.float64).T
        true = np.take_along_axis(products, found, axis=1)
        np.testing.assert_allclose(true, expected, atol=1e-6)
        assert np.mean(found != expected_rows) < 1e-3
        assert all(len(set(row)) == k for row in found.tolist())
        assert (scores.dtype, found.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("k", [1, 2, 7, 40, 399, 4000])
def test_of_equal_scores_the_lower_row_comes_first(k, dtype):
    vectors, queries = whole_numbers(4000).astype(dtype), whole_numbers(11, seed=1)
    scores, rows = ExactIndex(vectors).search(queries, k)
    expected, expected_rows = brute(queries, vectors, k)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_few_queries_find_what_they_find_among_many(dtype):
    """A few are multiplied the other way round."""
    vectors, queries = whole_numbers(4000).astype(dtype), whole_numbers(40, seed=1)
    index = ExactIndex(vectors)
    many = index.search(queries, 12)
    for count in range(1, 2 * index_module._FEW):
        for got, expected in zip(index.search(queries[:count], 12), many, strict=True):
            np.testing.assert_array_equal(got, expected[:count])


def test_where_all_are_equal_the_first_rows_are_found():
    vectors = np.ones((3000, 4), dtype=np.float32)
    _, rows = ExactIndex(vectors).search(np.ones((2, 4)), 5)
    assert rows.tolist() == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("held", [1, 3000, 40_000])
def test_blocks_change_nothing(monkeypatch, held, dtype):
    vectors, queries = whole_numbers(3000).astype(dtype), whole_numbers(11, seed=1)
    whole = ExactIndex(vectors).search(queries, 25)
    monkeypatch.setattr(index_module, "_SCORES", held)
    monkeypatch.setattr(index_module, "_VALUES", held)
    monkeypatch.setattr(index_module, "_QUERIES", 4)
    for got, expected in zip(ExactIndex(vectors).search(queries, 25), whole, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_many_queries_hold_no_matrix_of_all_products(monkeypatch):
    largest = 0
    plain = torch.Tensor.__matmul__

    def watched(self, other):
        nonlocal largest
        product = plain(self, other)
        largest = max(largest, product.numel())
        return product

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    vectors, queries = unit_vectors(60_000, 8), unit_vectors(3000, 8, seed=1)
    ExactIndex(vectors).search(queries, 5)
    assert 0 < largest <= index_module._SCORES < 60_000 * 3000


def test_a_file_is_searched_where_it_lies(tmp_path):
    vectors = unit_vectors(500).astype(np.float16)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="c")
    index = ExactIndex(mapped)
    assert index._table.data_ptr() == mapped.ctypes.data
    np.testing.assert_array_equal(index.search(vectors[:3], 1)[1], [[0], [1], [2]])


def test_queries_of_any_kind_of_number_are_taken():
    vectors = np.eye(4, dtype=np.float32)
    for queries in ([[0, 0, 1, 0]], np.array([[0, 0, 1, 0]], dtype=np.int8), torch.eye(4)[2:3]):
        assert ExactIndex(vectors).search(queries, 1)[1].tolist() == [[2]]


def test_no_queries_give_no_rows():
    scores, rows = ExactIndex(unit_vectors(10)).search(np.empty((0, 24)), 3)
    assert (scores.shape, rows.shape) == ((0, 3), (0, 3))


@pytest.mark.parametrize("k", [0, -1, 11, 2.0, True, None, "3"])
def test_a_k_that_does_not_fit_is_refused(k):
    with pytest.raises(OptionError, match="does not fit: the gallery has 10 places"):
        ExactIndex(unit_vectors(10)).search(unit_vectors(1), k)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_queries_that_are_not_finite_are_refused_and_counted(bad):
    queries = unit_vectors(5)
    queries[[2, 4], 3] = bad
    with pytest.raises(OptionError, match="2 of 5 queries .* the first is row 2"):
        ExactIndex(unit_vectors(10)).search(queries, 1)


@pytest.mark.parametrize("shape", [(24,), (2, 23), (2, 25), (1, 2, 24)])
def test_queries_of_another_shape_are_refused(shape):
    with pytest.raises(OptionError, match="the gallery's vectors have 24 values"):
        ExactIndex(unit_vectors(10)).search(np.zeros(shape), 1)


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(OptionError, match="device='abacus' is not a device"):
        ExactIndex(unit_vectors(10), device="abacus")


@pytest.fixture
def gallery(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path))
    lonlat = np.random.default_rng(0).uniform((-180, -90), (180, 90), size=(400, 2))
    return Gallery.from_lonlat(lonlat, encoder="xyz")


def test_a_gallery_is_searched_among_some_of_its_rows(gallery):
    queries = gallery.embeddings[:20]
    among = np.array([399, 3, 200, 17, 3])
    scores, rows = gallery.search(queries, 4, rows=among)
    assert set(rows[0]) == {3, 17, 200, 399}
    expected, positions = brute(queries, gallery.embeddings[[3, 17, 200, 399]], 4)
    np.testing.assert_array_equal(rows, np.array([3, 17, 200, 399])[positions])
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    mask = np.isin(np.arange(400), among)
    np.testing.assert_array_equal(gallery.search(queries, 4, rows=mask)[1], rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one"),
        (np.zeros(400, bool), "at least one"),
        (np.ones(399, bool), "mask of 400"),
        ([0.5], "must be positions"),
        ([400], "must lie between 0 and 399"),
        ([-1], "must lie between 0 and 399"),
    ],
)
def test_rows_that_are_none_are_refused(gallery, rows, message):
    with pytest.raises(OptionError, match=message):
        gallery.search(gallery.embeddings[:1], 1, rows=rows)


def test_more_than_there_is_among_the_rows_is_refused(gallery):
    with pytest.raises(OptionError, match="k=3 does not fit: rows= holds 2 places"):
        gallery.search(gallery.embeddings[:1], 3, rows=[1, 2])


def test_an_unknown_index_is_named(gallery):
    with pytest.raises(UnknownNameError, match="There is no index named 'exakt'.*'exact'"):
        gallery.search(gallery.embeddings[:1], 1, index="exakt")


# -- parts, and what an index keeps ----------------------------------------------------------------


@pytest.mark.parametrize("bytes_kept", [0, 2**30])
def test_a_part_is_searched_as_if_it_were_all_there_is(bytes_kept, monkeypatch):
    monkeypatch.setattr(index_module, "_PART", bytes_kept)
    monkeypatch.setattr(index_module, "_GATHERED", 17)
    vectors, queries = whole_numbers(400), whole_numbers(9, seed=1)
    index = ExactIndex(vectors)
    for rows in (np.arange(0, 400, 3), np.arange(5, 30), np.array([7])):
        for k in {1, min(4, len(rows)), len(rows)}:
            scores, found = index.search(queries, k, rows=rows)
            expected, positions = brute(queries, vectors[rows], k)
            np.testing.assert_array_equal(found, rows[positions])
            np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("rows", [[3, 2], [1, 1], [-1, 2], [4, 400], [0.5], [[1, 2]], []])
def test_rows_that_do_not_ascend_are_refused_by_an_index(rows):
    with pytest.raises(OptionError, match="rows= must"):
        ExactIndex(unit_vectors(400)).search(unit_vectors(1), 1, rows=rows)


def test_an_index_is_made_once_and_again_with_options(gallery):
    exact = gallery.index("exact")
    assert gallery.index() is exact
    gallery.search(gallery.embeddings[:1], 1)
    assert gallery.index() is exact
    assert exact.facts == {}
    with pytest.raises(TypeError, match="nonsense"):
        gallery.index("exact", nonsense=1)


def test_files_of_indexes_are_saved_with_the_gallery(gallery, tmp_path):
    gallery.save(tmp_path / "one")
    loaded = Gallery.load(tmp_path / "one")
    (tmp_path / "one" / "indexes").mkdir()
    (tmp_path / "one" / "indexes" / "graph").write_text("a graph")
    (tmp_path / "one" / "indexes" / ".unfinished").write_text("half of one")
    loaded.save(tmp_path / "two")
    loaded.save(tmp_path / "one", force=True)
    for folder in ("one", "two"):
        assert [p.name for p in (tmp_path / folder / "indexes").iterdir()] == ["graph"]
        Gallery.load(tmp_path / folder)
    gallery.save(tmp_path / "two", force=True)  # which has none
    assert not (tmp_path / "two" / "indexes").exists()
    assert sorted(p.name for p in tmp_path.iterdir() if p.name[0] == ".") == []


def test_indexes_that_cannot_be_copied_leave_the_folder_as_it_was(gallery, tmp_path, monkeypatch):
    home = tmp_path / "user"  # apart from the cache, whose folders are no concern here
    gallery.save(home / "one")
    (home / "one" / "indexes").mkdir()
    (home / "one" / "indexes" / "graph").write_text("a graph")
    before = sorted(home.rglob("*"))

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geoembed.galleries.index_files.shutil.copyfile", full)
    with pytest.raises(TableError, match="indexes .* cannot be copied .* No space left"):
        Gallery.load(home / "one").save(home / "two")
    with pytest.raises(TableError, match="indexes .* cannot be copied .* No space left"):
        Gallery.load(home / "one").save(home / "one", force=True)
    assert sorted(home.rglob("*")) == before


def test_indexes_that_somebody_put_there_meanwhile_are_no_crash(gallery, tmp_path):
    home = tmp_path / "user"
    (home / "one" / "indexes").mkdir(parents=True)
    (home / "one" / "indexes" / "graph").write_text("a graph")
    with staged_indexes(home / "one", home / "two") as move:
        (home / "two" / "indexes").mkdir(parents=True)
        (home / "two" / "indexes" / "theirs").write_text("another")
        with pytest.raises(TableError, match="saved to .*two, its indexes cannot be put there"):
            move(home / "two")
    assert sorted(p.name for p in home.iterdir()) == ["one", "two"]


# -- indexes that are built again while they are copied --------------------------------------------


def put_index(folder, build):
    """Put an index there as a plugin does: its graph, a description that names it, nothing old."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"graph-{build}").write_text(f"a graph of build {build}")
    (folder / ".new").write_text(f"graph-{build}")
    (folder / ".new").replace(folder / "graph.json")
    for old in set(folder.glob("graph-*")) - {folder / f"graph-{build}"}:
        old.unlink()


def before_copy(monkeypatch, happens, *, of):
    """Have something happen right before a file is copied, as if another process had done it."""
    copyfile, names = shutil.copyfile, []

    def meanwhile(source, target):
        names.append(source.name)
        if len(names) - 1 == of:
            happens()
        return copyfile(source, target)

    monkeypatch.setattr("geoembed.galleries.index_files.shutil.copyfile", meanwhile)
    return names


@pytest.mark.parametrize("of", [0, 1, 2])
@pytest.mark.parametrize("onto", ["one", "two"])
def test_an_index_that_is_built_again_while_it_is_copied_is_saved_whole(
    gallery, tmp_path, monkeypatch, of, onto
):
    home = tmp_path / "user"
    gallery.save(home / "one")
    put_index(home / "one" / "indexes", 1)
    (home / "one" / "indexes" / "other").write_text("another index")
    loaded = Gallery.load(home / "one")
    names = before_copy(monkeypatch, lambda: put_index(home / "one" / "indexes", 2), of=of)
    loaded.save(home / onto, force=True)
    saved = home / onto / "indexes"
    assert sorted(path.name for path in saved.iterdir()) == ["graph-2", "graph.json", "other"]
    assert (saved / "graph.json").read_text() == "graph-2"
    assert (saved / "graph-2").read_text() == "a graph of build 2"
    # What has not changed is not copied again.
    assert names.count("other") == 1
    assert [path.name for path in home.iterdir() if path.name[0] == "."] == []


def test_indexes_that_are_removed_while_they_are_copied_are_passed_over(
    gallery, tmp_path, monkeypatch
):
    home = tmp_path / "user"
    gallery.save(home / "one")
    put_index(home / "one" / "indexes", 1)
    before_copy(monkeypatch, lambda: shutil.rmtree(home / "one" / "indexes"), of=1)
    Gallery.load(home / "one").save(home / "two")
    assert not (home / "two" / "indexes").exists()
    assert sorted(path.name for path in home.iterdir()) == ["one", "two"]


def test_indexes_that_never_stay_as_they_are_are_said_to_be_so(gallery, tmp_path, monkeypatch):
    home = tmp_path / "user"
    gallery.save(home / "one")
    put_index(home / "one" / "indexes", 0)
    before = sorted(home.glob("*"))
    builds = itertools.count(1)
    copyfile = shutil.copyfile

    def meanwhile(source, target):
        put_index(home / "one" / "indexes", next(builds))
        return copyfile(source, target)

    monkeypatch.setattr("geoembed.galleries.index_files._WAIT", 0.0)
    monkeypatch.setattr("geoembed.galleries.index_files.shutil.copyfile", meanwhile)
    with pytest.raises(TableError, match="cannot be copied .* changes them all the time"):
        Gallery.load(home / "one").save(home / "two")
    assert sorted(home.glob("*")) == before
