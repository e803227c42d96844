"""How much is found for queries that are no rows, and the steps that are taken for them."""

import numpy as np
import pytest
from geoembed_usearch.index import UsearchIndex, UsearchInt8Index
from geoembed_usearch.recall import mixed_queries, noisy_queries, share_found
from geoembed_usearch.steps import Step, choose_steps, least_cosine
from usearch_vectors import recall, unit_vectors

from geoembed.galleries import Gallery, GalleryCacheWarning


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
