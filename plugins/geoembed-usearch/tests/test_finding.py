"""What is found, and its scores, against the exact search."""

import numpy as np
import pytest
from geoembed_usearch.index import UsearchIndex, UsearchInt8Index
from geoembed_usearch.recall import noisy_queries
from geoembed_usearch.scoring import best_of
from usearch_vectors import unit_vectors

import geoembed as ge
from geoembed.extending.registry import index_spec
from geoembed.galleries import Gallery
from geoembed.galleries.index import ExactIndex
from geoembed.testing import check_light_import
from geoembed.testing.galleries import check_index


@pytest.fixture(scope="module")
def cities():
    """Embeddings of the cities of the world, and noisy ones of some of them as queries."""
    lon, lat = ge.data.load_cities()[["lon", "lat"]].to_numpy()[:2000].T
    vectors = ge.encode(lon=lon, lat=lat, normalize=True, progress=False)
    random = np.random.default_rng(1)
    queries = vectors[random.choice(len(vectors), 200, replace=False)]
    queries = queries + random.normal(scale=0.02, size=queries.shape).astype(np.float32)
    return vectors, queries


def test_importing_the_plugin_is_light():
    check_light_import("geoembed_usearch")


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


def test_queries_of_no_length_are_answered_in_the_order_of_the_gallery(grid):
    scores, rows = UsearchIndex(grid).search(np.zeros((2, grid.shape[1])), 3)
    assert rows.tolist() == [[0, 1, 2]] * 2
    assert not scores.any()
