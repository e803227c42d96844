"""Threads that work ahead keep the order, a bound, and what the source raises in its place."""

import threading
import time

import pytest

from geoembed.errors import OptionError
from geoembed.images.workers import Ready, check_workers, map_ahead


@pytest.mark.parametrize("workers", [0, 1, 2, 7])
def test_order_is_kept_whichever_ends_first(workers):
    def job(number):
        def run():
            time.sleep(0.002 * (number % 3 == 0))
            return number

        return Ready(number) if number % 5 == 4 else run

    assert list(map_ahead(map(job, range(40)), workers=workers, ahead=6)) == list(range(40))


def test_no_more_than_the_bound_is_taken_ahead():
    taken = 0

    def source():
        nonlocal taken
        for number in range(100):
            taken += 1
            yield lambda number=number: number

    for number, at in enumerate(map_ahead(source(), workers=2, ahead=5)):
        assert number == at
        assert taken <= number + 1 + 5
    assert taken == 100


def test_without_workers_nothing_is_taken_ahead():
    taken = []

    def source():
        for number in range(5):
            taken.append(number)
            yield lambda number=number: number

    stream = map_ahead(source(), workers=0, ahead=99)
    assert (next(stream), taken) == (0, [0])
    assert (next(stream), taken) == (1, [0, 1])


def test_what_is_ready_is_not_held_back():
    taken = []

    def source():
        for number in range(5):
            taken.append(number)
            yield Ready(number)

    stream = map_ahead(source(), workers=2, ahead=4)
    assert (next(stream), taken) == (0, [0])


def test_jobs_run_side_by_side():
    both = threading.Barrier(2, timeout=5)
    assert sorted(map_ahead([both.wait, both.wait], workers=2, ahead=2)) == [0, 1]


def test_a_source_that_fails_gives_what_it_gave_before():
    def source():
        yield lambda: 1
        yield lambda: 2
        raise RuntimeError("the disk is gone")

    stream = map_ahead(source(), workers=2, ahead=8)
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(RuntimeError, match="the disk is gone"):
        next(stream)


def test_closing_the_stream_stops_the_threads():
    started = []

    def job():
        started.append(1)
        time.sleep(0.01)

    stream = map_ahead([job] * 1000, workers=1, ahead=100)
    next(stream)
    stream.close()
    assert len(started) < 50
    assert not [t for t in threading.enumerate() if t.name.startswith("geoembed-pictures")]


def test_the_number_of_workers_is_checked():
    assert check_workers(0) == 0
    assert 1 <= check_workers(None) <= 8
    for wrong in (-1, 1.5, "2", True):
        with pytest.raises(OptionError, match=r"workers=.*number of threads"):
            check_workers(wrong)
