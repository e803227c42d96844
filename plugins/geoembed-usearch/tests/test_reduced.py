"""Reduced vectors, alone and in an index."""

import json
import shutil

import geoembed_usearch
import numpy as np
import pytest
import torch
from geoembed_usearch import opening, reduced
from geoembed_usearch.finding import Finder
from geoembed_usearch.index import UsearchIndex, UsearchInt8Index
from geoembed_usearch.recall import mixed_queries, noisy_queries
from geoembed_usearch.reduced import Reduced
from geoembed_usearch.scoring import best_of
from geoembed_usearch.steps import Step
from usearch_vectors import ask_fewer, recall

from geoembed.errors import OptionError, TableError
from geoembed.galleries import Gallery
from geoembed.galleries.index import ExactIndex
from geoembed.testing import isolated_plugins


@pytest.fixture(autouse=True)
def only_this_plugin(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    with isolated_plugins(geoembed_usearch):
        yield


@pytest.fixture
def few_are_enough(monkeypatch):
    """Reduced vectors for small galleries too, where they save little."""
    monkeypatch.setattr(opening, "_REDUCED", 1000)
    monkeypatch.setattr(opening, "_TIMES", 0.0)


@pytest.fixture(scope="module")
def vectors():
    """Directions of falling variance, the best rows of a query in many parts of them."""
    random = np.random.default_rng(0)
    made = random.normal(size=(9000, 160)) * np.linspace(1.0, 0.05, 160) + 0.1
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


# -- alone -----------------------------------------------------------------------------------------


def test_numbers_are_few_and_the_best_rows_are_among_the_candidates(vectors):
    parts = Reduced.build(vectors, progress=False)
    assert parts["table"].dtype == np.int8
    assert parts["table"].shape == (9000, 128)
    np.testing.assert_allclose(parts["basis"].T @ parts["basis"], np.eye(128), atol=1e-5)
    queries = np.concatenate([noisy_queries(vectors, 0.5, 60), mixed_queries(vectors, 16, 60)])
    candidates = Reduced(**parts).candidates(queries, 128)
    scores, _ = best_of(vectors, queries, candidates, 10)
    assert recall(vectors, queries, scores, 10) > 0.97
    counts = (candidates >= 0).sum(axis=1)
    assert 64 < counts.mean() < 200
    for line in candidates:
        assert len(set(line[line >= 0])) == (line >= 0).sum()


def test_products_in_float32_choose_the_same_rows(vectors, monkeypatch):
    queries = noisy_queries(vectors, 0.5, 40)
    made = Reduced(**Reduced.build(vectors, progress=False))
    found = []
    for whole in (True, False):
        monkeypatch.setattr(reduced, "_whole_is_fast", lambda whole=whole: whole)
        found.append(made.candidates(queries, 64))
    np.testing.assert_array_equal(*found)


def test_a_torch_without_whole_products_takes_others(vectors, monkeypatch):
    reduced._whole_is_fast.cache_clear()
    monkeypatch.delattr(torch, "_int_mm")
    assert not reduced._whole_is_fast()
    made = Reduced(**Reduced.build(vectors, progress=False))
    assert 5 in made.candidates(vectors[5:6], 64)
    reduced._whole_is_fast.cache_clear()


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 128, 1000])
@pytest.mark.parametrize("columns", [1, 3, 64])
def test_each_score_that_is_high_enough_is_found_once(rows, columns):
    random = np.random.default_rng(rows)
    scores = torch.from_numpy(random.integers(-50, 50, size=(rows, columns), dtype=np.int32))
    least = torch.from_numpy(random.integers(30, 52, size=columns, dtype=np.int32))
    found = {(int(r), int(c)) for r, c in zip(*reduced._at_least(scores, least), strict=True)}
    wanted = {(int(r), int(c)) for r, c in torch.nonzero(scores >= least)}
    assert found == wanted
    assert len(reduced._at_least(scores, least)[0]) == len(wanted)


@pytest.mark.parametrize("queries", [1, 2, 65, 700])
def test_blocks_do_not_change_what_is_found(vectors, monkeypatch, queries):
    asked = noisy_queries(vectors, 0.6, queries)
    made = Reduced(**Reduced.build(vectors, progress=False))
    whole = made.candidates(asked, 50)
    assert whole.shape[0] == queries
    monkeypatch.setattr(reduced, "_SCORES", 64 * queries * 3)
    again = made.candidates(asked, 50)
    for one, other in zip(whole, again, strict=True):
        # Which rows share a group, of which only the best tells, depends on the blocks.
        fewer, more = sorted((set(one[one >= 0]), set(other[other >= 0])), key=len)
        assert fewer <= more


def test_a_part_is_asked_like_a_gallery_of_its_own(vectors):
    made = Reduced(**Reduced.build(vectors, progress=False))
    rows = np.arange(0, 9000, 2)
    part = made.part(rows)
    assert (len(made), len(part)) == (9000, 4500)
    assert made.part(rows.copy()) is part
    assert made.part(rows[:100]) is not part
    assert 7 in part.candidates(vectors[14:15], 20)


def test_places_that_are_all_alike_give_no_candidates():
    alike = np.full((3000, 16), 0.25, dtype=np.float32)
    made = Reduced(**Reduced.build(alike, progress=False))
    assert made.candidates(alike[:3], 20).shape == (3, 0)
    # A query along which all of them are alike, beside one that tells them apart.
    vectors = np.zeros((3000, 16), dtype=np.float32)
    vectors[:, 0] = np.linspace(-1.0, 1.0, 3000)
    made = Reduced(**Reduced.build(vectors, progress=False))
    found = made.candidates(np.eye(16, dtype=np.float32)[:2], 20)
    assert (found[1] < 0).all() or (found[0] >= 0).any()
    assert 2999 in found[0]


def test_parts_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="do not belong together"):
        Reduced(np.zeros((5, 4), dtype=np.int8), np.zeros((8, 3), dtype=np.float32))


def test_more_rows_take_more_candidates():
    step = Step(0, 0, reduced=100)
    assert [step.count(k) for k in (1, 10, 40, 1000)] == [100, 100, 200, 2000]


# -- in an index -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [UsearchIndex, UsearchInt8Index])
def test_where_lists_are_not_enough_reduced_vectors_are(few_are_enough, vectors, kind):
    index = kind(vectors)
    assert index.facts["reached"]
    assert index.facts["graph_of"] == "guides"
    assert index.facts["reduced_search"] > 0
    assert index.facts["bytes"] > vectors.shape[0] * 128
    for queries in (noisy_queries(vectors, 0.4, 90, seed=5), mixed_queries(vectors, 16, 90, 5)):
        for k in (1, 10, 60):
            scores, rows = index.search(queries, k)
            assert recall(vectors, queries, scores, k) >= 0.97
            exact = np.einsum("md,mkd->mk", queries, vectors[rows])
            np.testing.assert_allclose(scores, exact, atol=1e-5)
    assert index.answered["index"] > 0
    # From where it lies, nothing is built.
    again = kind(vectors)
    assert again.facts == index.facts
    np.testing.assert_array_equal(again.search(queries, 5)[1], index.search(queries, 5)[1])


def test_among_some_rows_as_much_is_found(few_are_enough, vectors, monkeypatch):
    monkeypatch.setattr("geoembed_usearch.index._FEW", 500)
    index = UsearchIndex(vectors)
    queries = noisy_queries(vectors, 0.5, 80, seed=5)
    for rows in (np.arange(3000, 9000), np.arange(0, 9000, 3)):
        scores, found = index.search(queries, 10, rows=rows)
        assert np.isin(found, rows).all()
        assert recall(vectors, queries, scores, 10, rows) >= 0.97
    assert index.answered["index"] > 0


def test_poor_matches_among_some_rows_are_found_too():
    random = np.random.default_rng(0)
    made = random.normal(size=(9000, 320)) * np.linspace(1.0, 0.4, 320) + 0.02
    made = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    finder = Finder(made, "float16", 1, None, Reduced.build(made, progress=False))
    rows = np.arange(0, 9000, 2)
    queries = noisy_queries(made[1::2], 0.1, 100, seed=7)
    candidates, _ = finder.find(queries, 10, Step(0, 0, reduced=64), rows)
    assert (candidates % 2 == 0)[candidates >= 0].all()
    scores, _ = best_of(made, queries, candidates, 10)
    assert recall(made, queries, scores, 10, rows) > 0.99


def test_so_many_rows_that_nothing_is_saved_are_searched_exactly(few_are_enough, vectors):
    index = UsearchIndex(vectors)
    scores, rows = index.search(vectors[:3], 1000)
    wanted, exact = ExactIndex(vectors).search(vectors[:3], 1000)
    np.testing.assert_allclose(scores, wanted, atol=1e-6)
    np.testing.assert_array_equal(rows, exact)
    assert index.answered == {"index": 0, "exact": 3}


def test_equal_places_in_their_thousands_are_answered(few_are_enough, vectors):
    crowd = np.concatenate([vectors[:5000], np.repeat(vectors[:1], 4000, axis=0)])
    index = UsearchIndex(crowd)
    scores, rows = index.search(vectors[:2], 5)
    np.testing.assert_allclose(scores[0], 1.0, atol=1e-5)
    assert rows[1, 0] == 1


@pytest.mark.filterwarnings("ignore:The index finds less than")
@pytest.mark.parametrize(
    ("of_reduced", "of_graph", "kept"),
    [
        (([], 9.0), None, "guides"),
        ((["cosine 0.4"], 9.0), None, "guides"),
        (([], 2.0), ([], 4.0), "places"),
        (([], 2.0), ([], 0.5), "guides"),
        (([], 2.0), (["cosine 0.4"], 4.0), "guides"),
        ((["cosine 0.4"], 2.0), (["cosine 0.4"], 4.0), "places"),
    ],
)
def test_where_they_are_not_much_faster_the_better_of_them_and_a_graph_is_kept(
    few_are_enough, vectors, monkeypatch, of_reduced, of_graph, kept
):
    monkeypatch.setattr(opening, "_TIMES", 3.0)
    asked = []

    def calibrated(graph, parts):
        asked.append(graph is not None)
        lists = (["cosine 0.9"], 9.0)
        missed, times = of_graph if graph is not None else of_reduced if "table" in parts else lists
        found = {"missed": missed, "reached": not missed, "times_exact": times}
        return {**found, "target": 0.98, "far_below": 0.5, "reduced": "table" in parts}

    opener = opening.Opener(
        vectors[:4200],
        "float16",
        {"connectivity": 4, "expansion_add": 8},
        target=None,
        whole=False,
        threads=1,
        checkpoint=120.0,
        progress=False,
    )
    graph, parts, facts = opener._built(None, calibrated)
    assert (facts["graph_of"], facts["reduced"]) == (kept, kept == "guides")
    assert set(parts) == ({"lists", "table", "basis"} if kept == "guides" else {"lists"})
    assert len(graph) == (4200 if kept == "places" else 4200 // 64)
    assert asked == ([False, False] if of_graph is None else [False, False, True])


@pytest.mark.filterwarnings("ignore:The index finds less than")
def test_a_graph_that_is_asked_for_has_no_reduced_vectors(few_are_enough, vectors):
    index = UsearchIndex(vectors[:4200], graph="always", expansion_search=64)
    assert (index.facts["graph_of"], index.facts["reduced_search"]) == ("places", 0)


def test_room_for_a_graph_is_not_asked_for_where_none_is_built(
    few_are_enough, vectors, monkeypatch
):
    usage = shutil.disk_usage(".")
    # 9,000 places: 1.7 MB beside a graph of guides, 8 MB twice a graph of all.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3_000_000))
    assert UsearchIndex(vectors).path is not None


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A gallery with an index, once for all: most of the time goes into measuring what it finds."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch, isolated_plugins(geoembed_usearch):
        patch.setenv("GEOEMBED_CACHE", str(folder / "cache"))
        patch.setattr(opening, "_REDUCED", 1000)
        patch.setattr(opening, "_TIMES", 0.0)
        ask_fewer(patch, 40)
        Gallery.cities(encoder="geoclip.v1").save(folder / "mine")
        assert Gallery.load(folder / "mine").index("usearch").facts["reduced_search"] > 0
    return folder / "mine"


@pytest.fixture
def kept(few_are_enough, made, tmp_path):
    """The same in a folder of its user."""
    return shutil.copytree(made, tmp_path / "user" / "mine")


def test_its_files_go_where_the_gallery_goes(kept, monkeypatch):
    gallery = Gallery.load(kept)
    names = {path.name.split("-")[-1].split(".", 1)[-1] for path in (kept / "indexes").glob("*-*")}
    assert names == {"usearch", "lists.npy", "table.npy", "basis.npy"}
    gallery.index("usearch")
    gallery.save(kept.with_name("copy"))
    monkeypatch.setattr(opening.Lists, "build", None)  # nothing is built
    copy = Gallery.load(kept.with_name("copy"))
    queries = gallery.embeddings[:20]
    found = [one.search(queries, 3, index="usearch")[1] for one in (gallery, copy)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", ["table", "basis", "lists"])
def test_a_part_that_is_damaged_or_missing_is_refused(kept, name):
    described = json.loads((kept / "indexes" / "usearch.float16.json").read_text())
    path = kept / "indexes" / described["parts"][name]["file"]
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 8)
        file.write(b"\xff\x01\xff\x01\xff\x01\xff\x01")
    with pytest.raises(TableError, match=f"{name}.npy is not what was written"):
        Gallery.load(kept).index("usearch")
    path.unlink()
    with pytest.raises(TableError, match=rf"there is no .*\.{name}\.npy beside it"):
        Gallery.load(kept).index("usearch")


def test_the_index_of_another_gallery_is_told(kept):
    other = kept.with_name("other")
    Gallery.load(kept).take(np.arange(5000)).save(other)
    shutil.copytree(kept / "indexes", other / "indexes")
    with pytest.raises(OptionError, match="built of other vectors"):
        Gallery.load(other).index("usearch")


def test_a_part_so_small_that_many_candidates_are_most_of_it_is_searched_exactly(
    few_are_enough, vectors, monkeypatch
):
    monkeypatch.setattr("geoembed_usearch.index._FEW", 100)
    index = UsearchIndex(vectors)
    assert {step.reduced for step in index.steps} <= set(range(64, 1025))
    index.search(vectors[:5], 3, rows=np.arange(1000))
    assert index.answered == {"index": 0, "exact": 5}
