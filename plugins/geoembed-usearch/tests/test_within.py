"""Searches among some rows, by many threads and of many queries."""

import threading

import numpy as np
import pytest
from geoembed_usearch.finding import Finder
from geoembed_usearch.index import UsearchIndex, UsearchInt8Index
from geoembed_usearch.recall import mixed_queries, noisy_queries
from geoembed_usearch.steps import Step
from usearch_vectors import brute, recall, unit_vectors

import geoembed as ge
from geoembed.galleries import Gallery


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


# -- many at a time --------------------------------------------------------------------------------


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
