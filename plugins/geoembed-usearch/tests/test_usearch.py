"""Tests of the plugin, run against geoembed itself."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from time import perf_counter

import geoembed_usearch
import numpy as np
import pytest
from geoembed_usearch import calibrating, keeping
from geoembed_usearch.building import insertion_blocks
from geoembed_usearch.finding import Finder
from geoembed_usearch.graph import Shape
from geoembed_usearch.index import UsearchIndex, UsearchInt8Index
from geoembed_usearch.lists import Lists
from geoembed_usearch.recall import mixed_queries, noisy_queries, share_found
from geoembed_usearch.scoring import best_of
from geoembed_usearch.steps import Step, choose_steps, least_cosine

import geoembed as ge
from geoembed.errors import OptionError, TableError
from geoembed.extending.registry import index_spec
from geoembed.galleries import Gallery, GalleryCacheWarning
from geoembed.galleries.index import ExactIndex
from geoembed.testing import check_light_import, isolated_plugins
from geoembed.testing.galleries import check_index


@pytest.fixture(autouse=True)
def only_this_plugin(request, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    # Fewer queries than the 256 of each kind that a build measures with: most of its time here.
    count = 128 if "grid" in request.fixturenames else 40
    for make in (noisy_queries, mixed_queries):
        monkeypatch.setattr(calibrating, make.__name__, partial(make, count=count))
    with isolated_plugins(geoembed_usearch):
        yield


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def unit_vectors(rows, width=32, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def grid():
    """A dense lattice on the sphere in random Fourier features: many rows as good as the best."""
    random = np.random.default_rng(0)
    step = np.arange(6000)
    z = 1 - 2 * (step + 0.5) / len(step)
    around = step * np.pi * (3 - np.sqrt(5))
    xyz = np.stack([np.sqrt(1 - z**2) * np.cos(around), np.sqrt(1 - z**2) * np.sin(around), z], 1)
    phase = xyz @ random.normal(scale=4.0, size=(3, 16))
    vectors = np.concatenate([np.cos(phase), np.sin(phase)], axis=1).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute(vectors, queries, k, rows=None):
    """Scores of the best by float64 products and sorting."""
    among = np.arange(len(vectors)) if rows is None else rows
    scores = queries.astype(np.float64) @ vectors[among].astype(np.float64).T
    return -np.sort(-scores, axis=1)[:, :k]


def recall(vectors, queries, scores, k, rows=None):
    return float(np.mean(scores >= brute(vectors, queries, k, rows)[:, -1:] - 1e-5))


@pytest.fixture(scope="module")
def cities():
    """Embeddings of the cities of the world, and noisy ones of some of them as queries."""
    lon, lat = ge.data.load_cities()[["lon", "lat"]].to_numpy()[:2000].T
    vectors = ge.encode(lon=lon, lat=lat, normalize=True, progress=False)
    random = np.random.default_rng(1)
    queries = vectors[random.choice(len(vectors), 200, replace=False)]
    queries = queries + random.normal(scale=0.02, size=queries.shape).astype(np.float32)
    return vectors, queries


@pytest.mark.parametrize("name", ["usearch", "usearch.int8"])
def test_the_index_is_known_by_its_name_and_keeps_the_contract(name):
    assert index_spec(name).owner == "geoembed_usearch 0"
    assert not index_spec(name).exact
    check_index(name)


@pytest.mark.parametrize("kind", [UsearchIndex, UsearchInt8Index])
def test_nearly_all_of_the_best_ten_are_found(cities, kind):
    vectors, queries = cities
    _, best = ExactIndex(vectors).search(queries, 10)
    _, rows = kind(vectors).search(queries, 10)
    found = [len(set(a) & set(b)) / 10 for a, b in zip(best, rows, strict=True)]
    assert np.mean(found) > 0.98


def test_scores_are_those_of_the_exact_search(cities):
    vectors, queries = cities
    scores, rows = UsearchIndex(vectors).search(queries, 5)
    exact = np.einsum("md,mkd->mk", queries, vectors[rows])
    np.testing.assert_allclose(scores, exact, rtol=0, atol=1e-6)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_a_gallery_is_searched_by_name():
    gallery = Gallery.cities(500_000, encoder="wrap")
    scores, rows = gallery.search(gallery.embeddings[:20], 3, index="usearch")
    np.testing.assert_array_equal(rows[:, 0], np.arange(20))
    np.testing.assert_allclose(scores[:, 0], 1.0, atol=1e-5)


def test_half_precision_galleries_are_taken(cities):
    vectors, queries = cities
    _, best = ExactIndex(vectors.astype(np.float16)).search(queries, 1)
    _, rows = UsearchIndex(vectors.astype(np.float16)).search(queries, 1)
    assert np.mean(best == rows) > 0.98


def test_vectors_that_lie_column_by_column_are_taken(own_cache):
    vectors = unit_vectors(5000, 16)
    index = UsearchIndex(np.asfortranarray(vectors), graph="always")
    assert index.search(vectors[:9], 1)[1][:, 0].tolist() == list(range(9))


def test_large_shares_of_the_gallery_are_searched_exactly():
    vectors = unit_vectors(400)
    queries = unit_vectors(3, seed=1)
    for k in (1, 45, 400):
        exact = ExactIndex(vectors).search(queries, k)
        got = UsearchIndex(vectors).search(queries, k)
        if k > 40:
            np.testing.assert_array_equal(got[1], exact[1])
        np.testing.assert_allclose(got[0], exact[0], atol=1e-6)


def test_equal_rows_come_in_the_order_of_the_gallery(own_cache):
    vectors = unit_vectors(2000)
    vectors[[7, 300, 1500]] = vectors[7]
    _, rows = UsearchIndex(vectors, threads=1).search(vectors[7:8], 3)
    assert rows.tolist() == [[7, 300, 1500]]


def test_the_graph_is_built_once_and_mapped_from_then_on(own_cache):
    vectors = unit_vectors(4000, 64)
    start = perf_counter()
    first = UsearchIndex(vectors)
    built = perf_counter() - start
    stamp = first.path.stat().st_mtime_ns
    start = perf_counter()
    second = UsearchIndex(vectors.copy())
    opened = perf_counter() - start
    assert (second.path, second.path.stat().st_mtime_ns) == (first.path, stamp)
    assert opened < built / 3
    queries = unit_vectors(10, 64, seed=2)
    np.testing.assert_array_equal(first.search(queries, 5)[1], second.search(queries, 5)[1])
    names = {path.suffix for path in first.path.parent.iterdir() if path.name[0] != "."}
    assert names <= {".json", ".npy", ".usearch"}


def test_other_vectors_have_graphs_of_their_own(own_cache):
    vectors = unit_vectors(500)
    other = vectors.copy()
    other[-1, -1] += 1e-3
    paths = {
        UsearchIndex(vectors).path,
        UsearchIndex(other).path,
        UsearchInt8Index(vectors).path,
        UsearchIndex(vectors.astype(np.float16)).path,
    }
    assert len(paths) == 4
    assert UsearchIndex(vectors, expansion_search=32).path in paths


def test_a_graph_in_the_cache_with_other_options_is_built_again_and_that_is_said(own_cache):
    vectors = unit_vectors(500)
    UsearchIndex(vectors)
    with pytest.warns(GalleryCacheWarning, match="connectivity=16, not 8. It is built again"):
        again = UsearchIndex(vectors, connectivity=8)
    assert again.facts["connectivity"] == 8
    # Whoever asks for nothing takes what is there.
    assert UsearchIndex(vectors).path == again.path


@pytest.mark.parametrize("damage", ["cut", "changed", "torn description", "format"])
def test_a_damaged_graph_is_built_again(own_cache, damage):
    vectors = unit_vectors(500)
    path = UsearchIndex(vectors, threads=1).path
    description = path.with_name("usearch.float16.json")
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "format":
        description.write_text(json.dumps(json.loads(description.read_text()) | {"format": 99}))
    else:
        description.write_text(description.read_text()[:100])
    with pytest.warns(GalleryCacheWarning, match="cannot be used: .* It is built again"):
        again = UsearchIndex(vectors, threads=1)
    np.testing.assert_array_equal(again.search(vectors[:5], 1)[1][:, 0], np.arange(5))
    described = json.loads(description.read_text())
    assert described["bytes"] == again.path.stat().st_size


def test_a_cache_that_cannot_be_written_leaves_the_graph_in_memory(own_cache):
    (own_cache / "indexes").write_text("in the way")
    vectors = unit_vectors(500)
    with pytest.warns(GalleryCacheWarning, match="cannot be kept in .* in memory only"):
        index = UsearchIndex(vectors, threads=1)
    assert index.path is None
    np.testing.assert_array_equal(index.search(vectors[:5], 1)[1][:, 0], np.arange(5))


@pytest.mark.parametrize(
    "option",
    [{"connectivity": 1}, {"expansion_add": 0}, {"expansion_search": 1.5}, {"threads": -1}],
)
def test_nonsense_is_refused(option):
    with pytest.raises(OptionError, match="is no whole number of at least"):
        UsearchIndex(unit_vectors(50), **option)


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ({"far": "no"}, "far='no' is not one of"),
        ({"target": 98}, "give a share between 0 and 1"),
        ({"checkpoint": "soon"}, "checkpoint='soon' does not fit: give seconds"),
        ({"checkpoint": float("nan")}, "checkpoint=nan does not fit: give seconds"),
        ({"rebuild": "false"}, "rebuild='false' is not one of: True, False"),
        ({"queries": np.zeros((2, 32))}, "not finite or zero"),
        ({"queries": np.ones((2, 3))}, "have the shape"),
        ({"queries": "photos.npy"}, "queries= is no array of numbers"),
    ],
)
def test_other_nonsense_is_refused(option, problem):
    with pytest.raises(OptionError, match=problem):
        UsearchIndex(unit_vectors(50), **option)


# -- queries that are no rows ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [UsearchIndex, UsearchInt8Index])
@pytest.mark.parametrize("k", [1, 10, 60])
def test_noisy_and_ambiguous_queries_find_nearly_all_on_a_dense_grid(monkeypatch, grid, kind, k):
    # Of so few places the exact search would answer for 60 rows.
    monkeypatch.setattr("geoembed_usearch.index._MOST", 1.0)
    index = kind(grid)
    assert index.facts["reached"]
    for queries in (
        noisy_queries(grid, 0.9, 100, seed=5),
        noisy_queries(grid, 0.6, 100, seed=5),
        mixed_queries(grid, 16, 100, seed=5),
    ):
        scores, _ = index.search(queries, k)
        assert recall(grid, queries, scores, k) >= 0.97
    assert index.answered["index"] > 0


def test_where_lists_are_enough_only_their_guides_are_in_the_graph(own_cache, grid):
    small = UsearchIndex(grid)
    assert (small.facts["graph_of"], small.facts["expansion_search"]) == ("guides", 0)
    with pytest.warns(GalleryCacheWarning, match="graph_of='guides', not 'places'"):
        whole = UsearchIndex(grid, graph="always")
    assert whole.facts["graph_of"] == "places"
    assert len(whole._finder.graph) == len(grid)
    assert UsearchIndex(grid).path == whole.path


def test_what_is_found_is_measured_when_it_is_built_and_kept_beside_it(own_cache, grid):
    facts = UsearchIndex(grid).facts
    table = {one["queries"]: one for one in facts["recall"]}
    assert table["cosine 0.9 to a row"]["best"] == pytest.approx(0.9, abs=0.02)
    assert all(0.0 <= one["recall@10"] <= 1.0 for one in table.values())
    again = UsearchIndex(grid)
    assert again.facts == facts
    # The same by another way: brute force over the same queries, all of them by the graph.
    queries = noisy_queries(grid, 0.4, 128)
    again.far = "index"
    scores, _ = again.search(queries, 10)
    measured = table["cosine 0.4 to a row"]["recall@10"]
    assert recall(grid, queries, scores, 10) == pytest.approx(measured, abs=0.002)


@pytest.mark.filterwarnings("ignore:The index finds less than")
def test_queries_that_are_too_far_off_are_answered_exactly():
    vectors = unit_vectors(8000, 48)
    index = UsearchIndex(vectors, expansion_search=64)
    queries = noisy_queries(vectors, 0.0, 40, seed=3)
    scores, _ = index.search(queries, 10)
    assert recall(vectors, queries, scores, 10) > 0.98
    assert index.answered["exact"] > 30
    index = UsearchIndex(vectors, expansion_search=64, far="index")
    scores, _ = index.search(queries, 10)
    assert index.answered["exact"] == 0
    assert recall(vectors, queries, scores, 10) < 0.95
    assert index.search(np.zeros((2, 48)), 3)[1].tolist() == [[0, 1, 2]] * 2


def test_a_target_that_is_not_reached_is_said(own_cache):
    vectors = unit_vectors(8000, 48)
    with pytest.warns(GalleryCacheWarning, match="finds less than 98% of the ten best"):
        index = UsearchIndex(vectors, expansion_search=10, expansion_add=8, connectivity=2)
    assert not index.facts["reached"]


def test_given_queries_are_measured_and_held_to_the_target(own_cache, grid):
    given = 3.0 * mixed_queries(grid, 3, 50, seed=9)
    index = UsearchIndex(grid, queries=given)
    (row,) = [one for one in index.facts["recall"] if one["queries"] == "given"]
    assert (row["count"], row["recall@10"] >= 0.98) == (50, True)
    assert index.measure(given)["recall@10"] >= 0.98


def test_the_share_found_counts_any_of_equal_rows():
    wanted = np.array([[0.9, 0.8], [0.5, 0.5]])
    assert share_found(np.array([[0.9, 0.8], [0.5, 0.5]]), wanted) == 1.0
    assert share_found(np.array([[0.9, 0.7], [0.5, 0.4]]), wanted) == 0.5


def test_the_order_of_insertion_holds_every_row_once_and_goes_on_anywhere():
    whole = np.concatenate(list(insertion_blocks(40_007)))
    assert sorted(whole.tolist()) == list(range(40_007))
    for done in (0, 1, 16_383, 16_384, 39_999, 40_007):
        rest = [*insertion_blocks(40_007, done), np.empty(0, np.int64)]
        np.testing.assert_array_equal(np.concatenate(rest), whole[done:])


def test_a_small_graph_finds_every_row_however_many_threads_wait_for_cores(own_cache):
    vectors = unit_vectors(3000, 24)
    index = UsearchIndex(vectors, threads=16, expansion_search=256)
    np.testing.assert_array_equal(index.search(vectors, 1)[1][:, 0], np.arange(3000))


def test_every_row_is_in_one_list_and_lists_hold_what_is_near(grid):
    table, guides = Lists.build(grid, Shape(), threads=1, progress=False)
    lists = Lists(grid, table)
    assert len(guides) == len(grid) // 64
    everything = lists.candidates(grid[:1], 10_000)[0]
    assert sorted(everything.tolist()) == list(range(len(grid)))
    queries = noisy_queries(grid, 0.9, 50, seed=1)
    found = lists.candidates(queries, 8)
    best = np.argmax(queries @ grid.T, axis=1)
    assert np.mean([b in f for b, f in zip(best, found, strict=True)]) > 0.95


# -- among some rows -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [UsearchIndex, UsearchInt8Index])
def test_among_rows_as_much_is_found_as_without(monkeypatch, grid, kind):
    monkeypatch.setattr("geoembed_usearch.index._FEW", 500)
    index = kind(grid)
    random = np.random.default_rng(2)
    parts = {
        "half the earth": np.arange(2000, 6000),
        "every third": np.arange(0, 6000, 3),
        "by chance": np.sort(random.choice(6000, 1500, replace=False)),
    }
    for name, rows in parts.items():
        # Some of these resemble places outside of the part.
        queries = np.concatenate(
            [noisy_queries(grid, 0.6, 60, seed=4), mixed_queries(grid, 16, 60, seed=4)]
        )
        scores, found = index.search(queries, 10, rows=rows)
        assert np.isin(found, rows).all(), name
        assert recall(grid, queries, scores, 10, rows) >= 0.97, name
        exact = np.einsum("md,mkd->mk", queries, grid[found])
        np.testing.assert_allclose(scores, exact, atol=1e-5)
    assert index.answered["index"] > 0


def test_queries_that_belong_elsewhere_find_the_best_of_a_part_all_the_same(grid, monkeypatch):
    monkeypatch.setattr("geoembed_usearch.index._FEW", 500)
    index = UsearchIndex(grid)
    rows, others = np.arange(3000), np.arange(3000, 6000)
    # Whatever cosine the poor matches inside have: it may be as high as that of good ones.
    index.steps = [Step(0, 8, -1.0)]
    for cosine in (0.9, 0.6):
        queries = noisy_queries(grid[others], cosine, 120, seed=6)
        scores, _ = index.search(queries, 10, rows=rows)
        assert recall(grid, queries, scores, 10, rows) >= 0.98
    answered = dict(index.answered)
    assert answered["exact"] > 60
    queries = noisy_queries(grid[rows], 0.6, 120, seed=6)
    scores, _ = index.search(10.0 * queries, 10, rows=rows)
    assert recall(grid, queries, scores / 10.0, 10, rows) >= 0.98
    assert index.answered["index"] - answered["index"] > 100


def test_among_few_rows_each_is_looked_at(grid):
    index = UsearchIndex(grid)
    rows = np.arange(100, 140)
    queries = noisy_queries(grid, 0.4, 9, seed=8)
    scores, found = index.search(queries, 40, rows=rows)
    np.testing.assert_allclose(scores, brute(grid, queries, 40, rows), atol=1e-5)
    assert (np.sort(found, axis=1) == rows).all()


def test_a_localizer_asks_the_gallerys_one_graph_for_a_part(own_cache, monkeypatch):
    import shapely

    monkeypatch.setattr("geoembed_usearch.index._FEW", 10)
    gallery = Gallery.cities(encoder="wrap")
    africa = shapely.box(-20, -35, 50, 35)
    vectors = noisy_queries(np.asarray(gallery.embeddings), 0.9, 5, seed=1)
    options = {"vectors": vectors, "within": africa, "radii": False, "top_k": 3}
    asked = ge.GeoLocalizer(gallery, index="usearch").fit().localize(**options)
    assert list(gallery._indexes) == ["usearch"]
    exact = ge.GeoLocalizer(gallery).fit().localize(**options)
    np.testing.assert_allclose(asked[["lon", "lat"]], exact[["lon", "lat"]])


@pytest.mark.filterwarnings("ignore:The index finds less than")
def test_threads_that_search_one_index_find_what_each_finds_alone(own_cache, monkeypatch):
    monkeypatch.setattr("geoembed_usearch.index._FEW", 500)
    vectors = unit_vectors(4000)
    index = UsearchIndex(vectors, graph="always", expansion_search=64, far="index", threads=1)
    # Other depths and other parts, so that what one sets would be wrong for the other.
    asked = [
        {"k": 5, "rows": np.arange(0, 4000, 2)},
        {"k": 60},
        {"k": 5, "rows": np.arange(1, 4000, 2)},
    ]
    queries = unit_vectors(60, seed=4)
    alone = [index.search(queries, **options)[1] for options in asked]
    wrong = []

    def ask(options, expected):
        found = [index.search(queries, **options)[1] for _ in range(15)]
        wrong.extend(rows for rows in found if not np.array_equal(rows, expected))

    threads = [threading.Thread(target=ask, args=one) for one in zip(asked, alone, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_many_queries_are_answered_some_at_a_time(monkeypatch, grid):
    index = UsearchIndex(grid)
    queries = noisy_queries(grid, 0.6, 100, seed=5)
    whole = index.search(queries, 5)
    part = index.search(queries, 5, rows=np.arange(3000))
    most, find = [], Finder.find

    def watched(finder, some, *arguments):
        most.append(len(some))
        return find(finder, some, *arguments)

    monkeypatch.setattr(Finder, "find", watched)
    monkeypatch.setattr("geoembed_usearch.index._FEW", 500)
    monkeypatch.setattr("geoembed_usearch.index._SCORES", 7 * len(index._finder.lists))
    for got, expected in (
        (index.search(queries, 5), whole),
        (index.search(queries, 5, rows=np.arange(3000)), part),
    ):
        np.testing.assert_allclose(got[0], expected[0], atol=1e-6)
    # Some are followed in several steps.
    assert (max(most), sum(most) >= 200) == (7, True)


@pytest.mark.filterwarnings("ignore:The index finds less than")
def test_queries_with_many_candidates_are_fewer_at_a_time(own_cache, monkeypatch):
    # All places but some are alike, so nearly all of them are in one list.
    vectors = np.concatenate([unit_vectors(4000, 8), np.repeat(unit_vectors(1, 8), 4000, axis=0)])
    index = UsearchIndex(vectors)
    sizes, find = [], Finder.find

    def watched(finder, *arguments):
        found = find(finder, *arguments)
        sizes.append(found[0].size)
        return found

    monkeypatch.setattr(Finder, "find", watched)
    monkeypatch.setattr("geoembed_usearch.index._CANDIDATES", 50_000)
    queries = noisy_queries(vectors, 0.9, 200, seed=3)
    scores, _ = index.search(queries, 5)
    assert recall(vectors, queries, scores, 5) >= 0.97
    assert len(sizes) > 1
    assert max(sizes) <= 50_000


def test_so_many_rows_that_they_lie_in_many_lists_are_searched_exactly(grid):
    index = UsearchIndex(grid)
    queries = noisy_queries(grid, 0.6, 9, seed=5)
    scores, rows = index.search(queries, 300)
    wanted, exact = ExactIndex(grid).search(queries, 300)
    np.testing.assert_allclose(scores, wanted, atol=1e-6)
    np.testing.assert_array_equal(rows, exact)
    assert index.answered == {"index": 0, "exact": 9}


def test_equal_rows_have_equal_scores_wherever_they_are_among_the_candidates():
    random = np.random.default_rng(0)
    for width in (32, 100, 512):
        alike = np.repeat(unit_vectors(1, width), 400, axis=0)
        for count in (*range(2, 40), 399):
            rows = np.sort(random.choice(400, count, replace=False))[None]
            scores, found = best_of(alike, unit_vectors(1, width, seed=count), rows, count)
            assert len(set(scores[0].tolist())) == 1
            np.testing.assert_array_equal(found, rows)


def test_lists_are_the_same_however_many_threads_build_them():
    vectors = unit_vectors(9000, 24)
    tables = [Lists.build(vectors, Shape(), threads=n, progress=False)[0] for n in (1, 8, 8, 8)]
    for table in tables[1:]:
        np.testing.assert_array_equal(table, tables[0])


# -- with the gallery ------------------------------------------------------------------------------


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


def test_another_target_than_the_one_it_was_built_for_is_not_passed_over(own_cache):
    vectors = unit_vectors(500)
    assert UsearchIndex(vectors).facts["target"] == 0.98
    with pytest.warns(GalleryCacheWarning, match="target=0.98, not 0.9. It is built again"):
        assert UsearchIndex(vectors, target=0.9).facts["target"] == 0.9
    # Whoever asks for nothing takes what is there.
    assert UsearchIndex(vectors).facts["target"] == 0.9


def test_an_index_that_is_replaced_while_it_is_opened_is_opened_all_the_same(
    own_cache, monkeypatch
):
    vectors = unit_vectors(500)
    first = UsearchIndex(vectors, connectivity=5).path
    digest = keeping._parts_digest

    def replaced(path):
        monkeypatch.setattr(keeping, "_parts_digest", digest)
        UsearchIndex(vectors, connectivity=6, rebuild=True)  # as another process does
        assert not first.exists()
        return digest(path)

    monkeypatch.setattr(keeping, "_parts_digest", replaced)
    index = UsearchIndex(vectors)
    assert index.facts["connectivity"] == 6
    assert index.search(vectors[:9], 1)[1][:, 0].tolist() == list(range(9))


def test_a_writer_that_ends_early_leaves_the_index_that_was_there(own_cache, monkeypatch):
    vectors = unit_vectors(5000, 8)
    home = keeping.Home(own_cache / "home")
    table, guides = Lists.build(vectors, Shape(), threads=1, progress=False)
    identity = {"shape": list(vectors.shape)}
    facts = {"graph_of": "guides"}
    home.publish(guides, {"lists": table}, identity, Shape(), facts)
    names = sorted(path.name for path in home.folder.iterdir())
    # The same guides, and other lists of the same size.
    other = table.copy()
    other[-5000:] = other[-5000:][::-1]
    replace = os.replace

    def full(source, target):
        if str(target).endswith(".json"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        home.publish(guides, {"lists": other}, identity, Shape(), facts)
    _, _, parts, _ = home.open(identity, "float16", {})
    np.testing.assert_array_equal(parts["lists"], table)
    assert sorted(path.name for path in home.folder.iterdir()) == names


def test_a_folder_that_cannot_be_written_leaves_the_index_in_the_cache(kept, own_cache):
    (kept / "indexes").write_text("in the way")
    index = Gallery.load(kept).index("usearch")
    assert index.path.is_relative_to(own_cache / "indexes")


# -- builds that end early -------------------------------------------------------------------------

BUILD = """
import json, sys, threading
import numpy as np
from geoembed_usearch import building, calibrating
from geoembed_usearch.index import UsearchIndex
building._ROWS = 1024
begun, bar, save = [], building.progress_bar, building._Unfinished.save
def watched(*arguments, **options):
    begun.append(options["done"])
    return bar(*arguments, **options)
def stopped(kept, graph):
    save(kept, graph)
    print(len(graph), flush=True)
    threading.Event().wait()
building.progress_bar = watched
if sys.argv[2] == "stop":
    building._Unfinished.save = stopped
vectors = np.load(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
index = UsearchIndex(vectors, graph="always", checkpoint=0.0, threads=1, progress=False)
print(json.dumps({"path": str(index.path), "begun": begun}), flush=True)
"""


@pytest.fixture
def build(own_cache, tmp_path):
    """Start processes that build a graph of some vectors; they are killed at the end."""
    package = str(Path(geoembed_usearch.__file__).parents[1])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    started = []

    def start(vectors, mode):
        np.save(tmp_path / "vectors.npy", vectors)
        command = [sys.executable, "-c", BUILD, str(tmp_path / "vectors.npy"), mode]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, env=environment, text=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_killed_build_is_gone_on_with_by_one_of_two_processes_and_taken_by_the_other(
    own_cache, build
):
    vectors = unit_vectors(3000, 24)
    killed = build(vectors, "stop")
    killed.stdin.write("go\n")
    killed.stdin.flush()
    assert killed.stdout.readline() == "ready\n"
    done = int(killed.stdout.readline())
    assert 0 < done < 3000
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (folder,) = (own_cache / "indexes").iterdir()
    assert list(folder.glob("*.part.json"))
    assert not list(folder.glob("*.usearch"))  # nothing half is ever found
    # As if another one had been killed while it wrote the whole graph.
    (folder / ".usearch.float16-abc.new").write_bytes(b"half")

    both = [build(vectors, "go on") for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [json.loads(process.stdout.readline()) for process in both]
    assert sorted(one["begun"] for one in told) == [[], [done]]
    assert told[0]["path"] == told[1]["path"]

    index = UsearchIndex(vectors)
    assert str(index.path) == told[0]["path"]
    assert len(index._finder.graph) == 3000
    np.testing.assert_array_equal(index.search(vectors, 1)[1][:, 0], np.arange(3000))
    left = [p.name for p in folder.iterdir() if ".part" in p.name or p.name.endswith(".new")]
    assert left == []


def test_the_part_of_another_build_is_not_taken_up(own_cache, tmp_path, monkeypatch):
    from geoembed_usearch.building import build_graph
    from geoembed_usearch.keeping import Home

    home = Home(tmp_path / "home")
    home.folder.mkdir()
    monkeypatch.setattr("geoembed_usearch.building._ROWS", 512)
    vectors = unit_vectors(2000, 8)
    options = {"threads": 1, "progress": False, "checkpoint": 0.0}
    shape = Shape(connectivity=4, expansion_add=8)
    build_graph(vectors, {"of": "these"}, shape, home, **options)
    assert list(home.folder.glob("*.part.json"))
    for identity, other in (({"of": "others"}, shape), ({"of": "these"}, Shape(connectivity=5))):
        graph = build_graph(vectors[:500], identity, other, home, **options)
        assert len(graph) == 500
    # A torn part begins anew.
    for part in home.folder.glob("*.part.[01]"):
        part.write_bytes(part.read_bytes()[:1000])
    assert len(build_graph(vectors, {"of": "these"}, shape, home, **options)) == 2000


def test_a_full_disk_leaves_the_graph_in_memory_and_nothing_behind(own_cache, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geoembed_usearch.keeping.save_graph", full)
    with pytest.warns(GalleryCacheWarning, match="No space left on device"):
        index = UsearchIndex(unit_vectors(500))
    assert index.path is None
    assert [
        p for p in (own_cache / "indexes").rglob("*") if p.is_file() and p.suffix != ".lock"
    ] == []


def test_too_little_room_is_met_before_anything_is_built(own_cache, monkeypatch):
    usage = shutil.disk_usage(own_cache)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.warns(GalleryCacheWarning, match="GB are needed, 0.0 GB are free"):
        index = UsearchIndex(unit_vectors(500))
    assert index.path is None


def test_importing_the_plugin_is_light():
    check_light_import("geoembed_usearch")


# -- steps -----------------------------------------------------------------------------------------


def test_queries_that_match_a_row_well_are_followed_less_far_than_others(own_cache):
    vectors = Gallery.cities(300_000, encoder="wrap").embeddings
    index = UsearchIndex(vectors, threads=1)
    steps = index.steps
    assert len(steps) > 1
    assert [step.least for step in steps] == sorted((s.least for s in steps), reverse=True)
    assert [(step.expansion, step.lists) for step in steps] == sorted(
        (step.expansion, step.lists) for step in steps
    )
    asked = []
    follow = index._step

    def counted(queries, k, step, rows):
        asked.append((step, len(queries)))
        return follow(queries, k, step, rows)

    index._step = counted
    near = noisy_queries(vectors, 0.95, 100, seed=8)
    scores, _ = index.search(near, 10)
    assert asked[0] == (steps[0], 100)
    assert recall(vectors, near, scores, 10) >= 0.97
    asked.clear()
    far = noisy_queries(vectors, 0.4, 200, seed=8)
    scores, _ = index.search(far, 10)
    assert sum(count for step, count in asked if step != steps[0]) > 0
    assert recall(vectors, far, scores, 10) >= 0.97


def test_queries_of_no_length_are_answered_in_the_order_of_the_gallery(grid):
    scores, rows = UsearchIndex(grid).search(np.zeros((2, grid.shape[1])), 3)
    assert rows.tolist() == [[0, 1, 2]] * 2
    assert not scores.any()


def test_a_step_that_was_not_seen_to_answer_the_nearest_queries_well_is_left_out():
    tried = [Step(0, 8, 0.91), Step(64, 8, 0.88), Step(512, 32, 0.4)]
    assert choose_steps(tried, nearest=0.9) == tried[1:]
    (only,) = choose_steps(tried[:1], nearest=0.9)
    assert only.least == 0.91
    (only,) = choose_steps([Step(0, 8, 2.0)], nearest=0.9)
    assert only.least == 2.0


@pytest.mark.parametrize("seed", range(20))
def test_the_least_cosine_leaves_a_mean_that_reaches_the_target(seed):
    random = np.random.default_rng(seed)
    kinds = [
        (
            random.normal(centre, 0.1, 200),
            random.choice([0.6, 0.9, 1.0], 200, p=[far, 0.1, 0.9 - far]),
        )
        for centre, far in ((0.8, 0.0), (0.5, 0.05), (0.3, 0.4))
    ]
    least = least_cosine(kinds, 0.98)
    for best, share in kinds:
        above = share[best >= least]
        assert len(above) <= 4 or above.mean() >= 0.98
