"""Tests of the plugin, run against geoembed itself."""

import json
from time import perf_counter

import geoembed_usearch
import numpy as np
import pytest
from geoembed_usearch.index import UsearchIndex

import geoembed as ge
from geoembed.errors import OptionError
from geoembed.extending.registry import index_spec
from geoembed.galleries import Gallery, GalleryCacheWarning
from geoembed.galleries.index import ExactIndex
from geoembed.testing import check_light_import, isolated_plugins
from geoembed.testing.galleries import check_index


@pytest.fixture(autouse=True)
def only_this_plugin(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    with isolated_plugins(geoembed_usearch):
        yield


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path))
    return tmp_path


def unit_vectors(rows, width=32, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def cities():
    """Embeddings of the cities of the world, and noisy ones of some of them as queries."""
    lon, lat = ge.data.load_cities()[["lon", "lat"]].to_numpy()[:6000].T
    vectors = ge.encode(lon=lon, lat=lat, normalize=True, progress=False)
    random = np.random.default_rng(1)
    queries = vectors[random.choice(len(vectors), 200, replace=False)]
    queries = queries + random.normal(scale=0.02, size=queries.shape).astype(np.float32)
    return vectors, queries


def test_the_index_is_known_by_its_name_and_keeps_the_contract():
    assert index_spec("usearch").owner == "geoembed_usearch 0"
    assert not index_spec("usearch").exact
    check_index("usearch")


def test_nearly_all_of_the_best_ten_are_found(cities):
    vectors, queries = cities
    _, best = ExactIndex(vectors).search(queries, 10)
    _, rows = UsearchIndex(vectors).search(queries, 10)
    found = [len(set(a) & set(b)) / 10 for a, b in zip(best, rows, strict=True)]
    assert np.mean(found) > 0.98


def test_scores_are_those_of_the_exact_search(cities):
    vectors, queries = cities
    scores, rows = UsearchIndex(vectors).search(queries, 5)
    exact = np.einsum("md,mkd->mk", queries, vectors[rows])
    np.testing.assert_allclose(scores, exact, rtol=0, atol=1e-6)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_a_gallery_is_searched_by_name(cities):
    gallery = Gallery.cities(500_000)
    scores, rows = gallery.search(gallery.embeddings[:20], 3, index="usearch")
    np.testing.assert_array_equal(rows[:, 0], np.arange(20))
    np.testing.assert_allclose(scores[:, 0], 1.0, atol=1e-5)


def test_half_precision_galleries_are_taken(cities):
    vectors, queries = cities
    _, best = ExactIndex(vectors.astype(np.float16)).search(queries, 1)
    _, rows = UsearchIndex(vectors.astype(np.float16)).search(queries, 1)
    assert np.mean(best == rows) > 0.98


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
    _, rows = UsearchIndex(vectors).search(vectors[7:8], 3)
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
    assert sorted(p.suffix for p in (own_cache / "indexes").iterdir()) == [".json", ".usearch"]


def test_other_vectors_and_other_options_have_graphs_of_their_own(own_cache):
    vectors = unit_vectors(500)
    other = vectors.copy()
    other[-1, -1] += 1e-3
    paths = {
        UsearchIndex(vectors).path,
        UsearchIndex(other).path,
        UsearchIndex(vectors, connectivity=8).path,
        UsearchIndex(vectors, expansion_add=64).path,
        UsearchIndex(vectors.astype(np.float16)).path,
    }
    assert len(paths) == 5
    assert UsearchIndex(vectors, expansion_search=32).path in paths


@pytest.mark.parametrize("damage", ["cut", "changed", "no description"])
def test_a_damaged_graph_is_built_again(own_cache, damage):
    vectors = unit_vectors(500)
    path = UsearchIndex(vectors).path
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.with_suffix(".json").unlink()
    with pytest.warns(GalleryCacheWarning, match="is damaged .* It is built again"):
        again = UsearchIndex(vectors)
    np.testing.assert_array_equal(again.search(vectors[:5], 1)[1][:, 0], np.arange(5))
    assert json.loads(path.with_suffix(".json").read_text())["bytes"] == path.stat().st_size


def test_a_cache_that_cannot_be_written_leaves_the_graph_in_memory(own_cache):
    (own_cache / "indexes").write_text("in the way")
    vectors = unit_vectors(500)
    with pytest.warns(GalleryCacheWarning, match="cannot be kept in .* in memory only"):
        index = UsearchIndex(vectors)
    assert index.path is None
    np.testing.assert_array_equal(index.search(vectors[:5], 1)[1][:, 0], np.arange(5))


@pytest.mark.parametrize(
    "option",
    [{"connectivity": 1}, {"expansion_add": 0}, {"expansion_search": 1.5}, {"threads": -1}],
)
def test_nonsense_is_refused(option):
    with pytest.raises(OptionError, match="is no whole number of at least"):
        UsearchIndex(unit_vectors(50), **option)


def test_importing_the_plugin_is_light():
    check_light_import("geoembed_usearch")
