"""Random numbers by counters: the same again, other streams for other names."""

import hashlib
import multiprocessing

import numpy as np
import pytest
from scipy import stats

from geoembed.errors import OptionError
from geoembed.training.randomness import generator


def draw(*arguments):
    return generator(*arguments).integers(0, 2**63, 4).tolist()


def test_key_is_the_head_of_sha256_of_what_was_given():
    digest = hashlib.sha256(b"geoembed 'view' 7 3 1").digest()
    key = np.frombuffer(digest[:16], dtype="<u8")
    expected = np.random.Generator(np.random.Philox(key=key))
    assert draw(7, "view", 3, 1) == expected.integers(0, 2**63, 4).tolist()


def test_same_names_give_the_same_numbers_in_another_process():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(draw, (5, "queue noise", 12))
    assert there == draw(5, "queue noise", 12)


def test_numpy_integers_count_as_integers():
    assert draw(0, "view", np.int64(9), np.int32(2)) == draw(0, "view", 9, 2)


def test_every_name_has_its_own_stream():
    names = [
        (0, "view"), (0, "view", 0), (0, "view", 0, 0), (0, "pick", 0, 0), (1, "view", 0, 0),
        (0, "view", 1, 0), (0, "view", 0, 1), (0, "view", 10), (0, "view", 1, 0, 0),
        (0, "view 1", 0), (0, "view", 2**70),
    ]  # fmt: skip
    assert len({tuple(draw(*name)) for name in names}) == len(names)


def test_neighbouring_counters_are_independent():
    first = np.array([generator(0, "view", row, 0).random() for row in range(4000)])
    second = np.array([generator(0, "view", row, 1).random() for row in range(4000)])
    assert stats.kstest(first, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.06


@pytest.mark.parametrize("name", [(-1, "view"), (0, "view", 3, -2)])
def test_negative_numbers_are_refused(name):
    with pytest.raises(OptionError, match="the seed and the counters must be at least 0"):
        generator(*name)
