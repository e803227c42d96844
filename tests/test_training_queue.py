"""The queue of places, against the published one and a list of Python's."""

from collections import deque

import numpy as np
import pytest
import torch
from geoclip import GeoCLIP
from scipy import stats

from geoembed.errors import TrainingError
from geoembed.training.queue import PlaceQueue, uniform_places


def batches(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [uniform_places(size, rng) for size in sizes]


def rows(batch):
    """Numbers that belong to places."""
    return np.floor(batch[:, 0] * 1e6).astype(np.int64)


class PublishedQueue(torch.nn.Module):
    """Only the queue of the published model."""

    _initialize_gps_queue = GeoCLIP._initialize_gps_queue
    dequeue_and_enqueue = GeoCLIP.dequeue_and_enqueue

    def __init__(self, queue):
        super().__init__()
        self._initialize_gps_queue(len(queue))
        self.gps_queue = torch.from_numpy(queue[:, ::-1].T.copy())


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3, 3), (4, 1, 5, 2, 7), (10, 3), (23, 4), (9, 1, 1)])
def test_same_order_as_the_published_queue(sizes):
    queue = PlaceQueue(10, seed=4)
    published = PublishedQueue(queue.lonlat)
    for batch in batches(sizes):
        queue.enqueue(batch, rows(batch))
        published.dequeue_and_enqueue(torch.from_numpy(batch[:, ::-1].copy()))
        np.testing.assert_array_equal(queue.lonlat[:, ::-1], published.gps_queue.T.numpy())


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3, 3), (4, 1, 5, 2, 7), (10, 3, 8), (23, 4, 9)])
def test_the_oldest_leave_first(sizes):
    queue = PlaceQueue(10, seed=4)
    truth = deque(map(tuple, queue.lonlat), maxlen=10)
    assert queue.ids.tolist() == [-1] * 10
    seen = 0
    for batch in batches(sizes):
        queue.enqueue(batch, rows(batch))
        truth.extend(map(tuple, batch))
        assert sorted(map(tuple, queue.lonlat)) == sorted(truth)
        # The places that it started with are of no row.
        seen += len(batch)
        known = queue.ids >= 0
        known[rows(queue.lonlat) == queue.ids] = True
        assert known.sum() == min(seen, 10)
        np.testing.assert_array_equal(queue.ids[known], rows(queue.lonlat[known]))
        assert set(queue.ids[~known].tolist()) <= {-1}


def test_starts_evenly_over_the_sphere():
    lon, lat = PlaceQueue(20_000, seed=0).lonlat.T
    assert stats.kstest(lon / 360.0 + 0.5, "uniform").pvalue > 1e-3
    assert stats.kstest(0.5 + 0.5 * np.sin(np.radians(lat)), "uniform").pvalue > 1e-3


def test_the_seed_decides_the_start():
    np.testing.assert_array_equal(PlaceQueue(5, 1).lonlat, PlaceQueue(5, 1).lonlat)
    assert not np.array_equal(PlaceQueue(5, 1).lonlat, PlaceQueue(5, 2).lonlat)


def test_what_was_read_before_stays_as_it_was():
    queue = PlaceQueue(5, seed=0)
    before = queue.lonlat
    copy = before.copy()
    queue.enqueue(np.zeros((3, 2)), np.arange(3))
    np.testing.assert_array_equal(before, copy)
    batch = np.ones((5, 2))
    queue.enqueue(batch, rows(batch))
    batch[:] = 7.0
    assert queue.lonlat.max() == 1.0


def test_no_queue_takes_and_gives_nothing():
    queue = PlaceQueue(0, seed=0)
    queue.enqueue(np.ones((4, 2)), np.arange(4))
    assert queue.lonlat.shape == (0, 2)


def test_state_goes_through_a_checkpoint_bit_for_bit(tmp_path):
    first, *rest = batches((7, 4, 9, 30, 2))
    queue, resumed = PlaceQueue(10, seed=0), PlaceQueue(10, seed=99)
    queue.enqueue(first, rows(first))
    torch.save(queue.state_dict(), tmp_path / "queue.pt")
    resumed.load_state_dict(torch.load(tmp_path / "queue.pt", weights_only=True))
    for batch in rest:
        queue.enqueue(batch, rows(batch))
        resumed.enqueue(batch, rows(batch))
        np.testing.assert_array_equal(queue.lonlat, resumed.lonlat)
        np.testing.assert_array_equal(queue.ids, resumed.ids)
        assert resumed.ids.dtype == np.int64


def test_a_checkpoint_without_rows_has_places_of_none():
    queue, resumed = PlaceQueue(4, seed=0), PlaceQueue(4, seed=0)
    queue.enqueue(np.ones((3, 2)), np.arange(3))
    state = queue.state_dict()
    del state["ids"]
    resumed.enqueue(np.ones((2, 2)), np.arange(2))
    resumed.load_state_dict(state)
    np.testing.assert_array_equal(resumed.lonlat, queue.lonlat)
    assert resumed.ids.tolist() == [-1] * 4
    resumed.enqueue(np.ones((2, 2)), np.array([7, 8]))
    assert resumed.ids.tolist() == [8, -1, -1, 7]


def test_state_of_another_size_is_refused():
    with pytest.raises(TrainingError, match="resume with objective.queue = 8"):
        PlaceQueue(10, seed=0).load_state_dict(PlaceQueue(8, seed=0).state_dict())
