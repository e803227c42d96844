"""The global order: every row once an epoch, the same at any step, rank and worker."""

import itertools
import pickle

import numpy as np
import pytest

from geoembed.errors import OptionError
from geoembed.training.order import GlobalOrder, rank_part

# Of seed 0, ten rows, epochs 0 and 3: runs of other machines and times go on in the same order.
GOLDEN = [5, 9, 1, 8, 3, 4, 7, 6, 0, 2]
GOLDEN_3 = [9, 5, 2, 8, 0, 6, 4, 7, 1, 3]

IDS = np.array([3, 1, 4, 15, 9, 2, 6, 5, 35, 8])


def stream(order, steps):
    rows, epochs = zip(*(order.batch(step) for step in range(steps)), strict=True)
    return np.concatenate(rows), np.concatenate(epochs)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 10])
def test_each_row_comes_exactly_once_in_each_epoch(batch):
    n, epochs = len(IDS), 6
    rows, epoch = stream(GlobalOrder(IDS, batch, seed=5), steps=-(-epochs * n // batch))
    for number in range(epochs):
        part = slice(number * n, (number + 1) * n)
        assert sorted(rows[part].tolist()) == sorted(IDS.tolist())
        assert (epoch[part] == number).all()


def test_batches_are_full_and_cut_one_stream():
    order = GlobalOrder(IDS, 4, seed=1)
    rows, epochs = stream(order, 10)
    assert len(rows) == 40
    # The same stream whatever the size of the batch it is cut into.
    again, epochs_again = stream(GlobalOrder(IDS, 5, seed=1), 8)
    assert rows.tolist() == again.tolist()
    assert epochs.tolist() == epochs_again.tolist()
    # The third batch begins in epoch 0 and ends in epoch 1.
    assert order.batch(2)[1].tolist() == [0, 0, 1, 1]


def test_the_order_of_a_seed_is_what_it_always_was():
    rows, _ = GlobalOrder(range(10), 10, seed=0).batch(0)
    assert rows.tolist() == GOLDEN
    rows, _ = GlobalOrder(range(10), 10, seed=0).batch(3)
    assert rows.tolist() == GOLDEN_3


def test_any_step_can_be_asked_for_at_any_time():
    straight = GlobalOrder(IDS, 4, seed=2)
    expected = [straight.batch(step)[0].tolist() for step in range(30)]
    jumping = GlobalOrder(IDS, 4, seed=2)
    for step in [29, 0, 13, 14, 2, 29, 7]:
        assert jumping.batch(step)[0].tolist() == expected[step]
    copy = pickle.loads(pickle.dumps(jumping))
    assert copy.batch(13)[0].tolist() == expected[13]


def test_epochs_and_seeds_differ():
    order = GlobalOrder(range(50), 50, seed=0)
    seen = [tuple(order.batch(step)[0].tolist()) for step in range(5)]
    seen += [tuple(GlobalOrder(range(50), 50, seed=seed).batch(0)[0].tolist()) for seed in (1, 2)]
    assert len(set(seen)) == 7


def test_all_permutations_are_as_likely():
    order = GlobalOrder(range(3), 3, seed=9)
    counts = dict.fromkeys(itertools.permutations(range(3)), 0)
    for step in range(3000):
        counts[tuple(order.batch(step)[0].tolist())] += 1
    expected = 3000 / 6
    chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi2 < 20.5  # 99.9 % quantile for 5 degrees of freedom


def test_two_permutations_at_most_are_kept_and_none_is_pickled():
    order = GlobalOrder(range(10_000), 10, seed=0)
    bare = len(pickle.dumps(order))
    for step in (0, 1500, 2500, 3500):
        order.batch(step)
    assert len(order._permutations) == 2
    assert len(pickle.dumps(order)) == bare


def test_steps_and_epochs():
    order = GlobalOrder(IDS, 4, seed=0)
    assert len(order) == 10
    assert order.steps_per_epoch == 2.5
    assert [order.epoch(step) for step in (0, 1, 5)] == [0.0, 0.4, 2.0]


def test_steps_of_long_runs_do_not_overflow():
    step = 2**60
    rows, epochs = GlobalOrder(IDS, 10, seed=0).batch(step)
    assert sorted(rows.tolist()) == sorted(IDS.tolist())
    assert (epochs == step).all()


def test_digest_tells_orders_apart():
    digests = {
        GlobalOrder(ids, batch, seed).digest
        for ids, batch, seed in [
            (range(10), 2, 0),
            (range(11), 2, 0),
            (range(10), 3, 0),
            (range(10), 2, 1),
            (range(9, -1, -1), 2, 0),
        ]
    }
    assert len(digests) == 5
    assert GlobalOrder(range(10), 2, 0).digest == GlobalOrder(np.arange(10), 2, 0).digest


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
def test_ranks_take_parts_that_join_to_the_batch(world):
    rows, _ = GlobalOrder(IDS, 10, seed=0).batch(1)
    parts = [rows[rank_part(10, rank, world)] for rank in range(world)]
    assert np.concatenate(parts).tolist() == rows.tolist()
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_the_callers_rows_are_not_held():
    ids = np.arange(10)
    order = GlobalOrder(ids, 10, seed=0)
    before = order.batch(0)[0].tolist()
    ids[:] = 0
    assert order.batch(0)[0].tolist() == before


@pytest.mark.parametrize(
    ("ids", "batch", "message"),
    [
        (range(3), 4, r"A batch of 4 needs as many training rows, and there are 3: .*loop.batch"),
        ([], 1, r"A batch of 1 needs .* there are 0"),
        ([1, 2, 1], 2, r"ids= holds row 1 twice"),
        (range(3), 0, r"batch=0 must be 1 or more"),
    ],
)
def test_what_makes_no_order_is_refused(ids, batch, message):
    with pytest.raises(OptionError, match=message):
        GlobalOrder(ids, batch, seed=0)


def test_steps_below_zero_are_refused():
    with pytest.raises(OptionError, match=r"step=-1 is below 0"):
        GlobalOrder(range(3), 2, seed=0).batch(-1)
