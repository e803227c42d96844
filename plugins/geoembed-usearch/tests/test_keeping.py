"""Indexes in the cache: opened, replaced, damaged."""

import json
import os
from time import perf_counter

import numpy as np
import pytest
from geoembed_usearch import keeping
from geoembed_usearch.graph import Shape
from geoembed_usearch.index import UsearchIndex, UsearchInt8Index
from geoembed_usearch.lists import Lists
from usearch_vectors import unit_vectors

from geoembed.galleries import GalleryCacheWarning


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


def test_another_target_than_the_one_it_was_built_for_is_not_passed_over(own_cache):
    vectors = unit_vectors(500)
    assert UsearchIndex(vectors).facts["target"] == 0.98
    with pytest.warns(GalleryCacheWarning, match="target=0.98, not 0.9. It is built again"):
        assert UsearchIndex(vectors, target=0.9).facts["target"] == 0.9
    # Whoever asks for nothing takes what is there.
    assert UsearchIndex(vectors).facts["target"] == 0.9


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


def test_an_index_that_is_replaced_while_it_is_opened_is_opened_all_the_same(
    own_cache, monkeypatch
):
    vectors = unit_vectors(500)
    first = UsearchIndex(vectors, connectivity=5).path
    digest = keeping._sampled_digest

    def replaced(path):
        monkeypatch.setattr(keeping, "_sampled_digest", digest)
        UsearchIndex(vectors, connectivity=6, rebuild=True)  # as another process does
        assert not first.exists()
        return digest(path)

    monkeypatch.setattr(keeping, "_sampled_digest", replaced)
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
