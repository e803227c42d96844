"""Feeds: the same batches for any number of workers and any start; and what can go wrong."""

import json
import math
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from itertools import islice
from multiprocessing.heap import BufferWrapper, Heap
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from geoembed.errors import OptionError, TrainingError
from geoembed.extending import Preprocessing
from geoembed.training.feeds import FeatureFeed, ImageFeed
from geoembed.training.manifest import FolderPictures
from geoembed.training.order import GlobalOrder
from geoembed.training.prefetching import prefetch
from geoembed.training.settings import ViewSettings
from geoembed.training.view_cutting import Job, split_job
from geoembed.training.views import make_views_of, view_numbers

TOWER = Preprocessing(size=24, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
ROWS, BATCH, BROKEN = 23, 10, 5


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Small pictures of several sizes and modes; row 5 is cut off in the middle."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    names = [f"p{row:02d}.{'png' if row % 3 else 'jpg'}" for row in range(ROWS)]
    for row, name in enumerate(names):
        values = rng.integers(0, 256, (30 + row, 41 - row % 7, 3), dtype=np.uint8)
        image = Image.fromarray(values)
        (image.convert("L") if row % 5 == 4 else image).save(folder / name)
    broken = folder / names[BROKEN]
    broken.write_bytes(broken.read_bytes()[:1000])
    table = pd.DataFrame(
        {"IMG_FILE": names, "LAT": np.linspace(-60, 60, ROWS), "LON": np.linspace(-170, 170, ROWS)}
    )
    return FolderPictures(table, folder)


def image_feed(pictures, *, views=None, seed=3, batch=BATCH, **options):
    order = GlobalOrder(np.arange(len(pictures.names)), batch, seed)
    return ImageFeed(
        pictures,
        order,
        views or ViewSettings(count=2),
        TOWER,
        seed=seed,
        **{"max_bad": 0.5, **options},
    )


def equal(one, other):
    return (
        np.array_equal(one.ids, other.ids)
        and np.array_equal(one.lonlat, other.lonlat)
        and np.array_equal(one.valid, other.valid)
        and torch.equal(one.views, other.views)
    )


def children():
    return [child for child in multiprocessing.active_children() if child.name == "geoembed-views"]


# --- pictures


def test_batches_are_the_orders_rows_and_their_views(pictures):
    feed = image_feed(pictures, views=ViewSettings(count=2, pool=5))
    for step, batch in enumerate(feed.batches(0, 4)):
        rows, epochs = feed.order.batch(step)
        assert np.array_equal(batch.ids, rows)
        assert np.array_equal(batch.lonlat, pictures.lonlat[rows])
        assert batch.views.shape == (BATCH, 2, 3, 24, 24)
        numbers = view_numbers(feed.settings, 3, rows, epochs)
        for at, row in enumerate(rows.tolist()):
            if row == BROKEN:
                assert not batch.valid[at]
                assert not batch.views[at].any()
                continue
            expected = make_views_of(
                pictures.picture(row), TOWER, feed.settings, seed=3, row=row, numbers=numbers[at]
            )
            assert torch.equal(batch.views[at], expected)
    assert list(feed.bad) == [BROKEN]
    assert "truncated" in feed.bad[BROKEN]


@pytest.mark.parametrize(
    "views",
    [ViewSettings(count=2), ViewSettings(count=3, pool=4), ViewSettings(augment="none")],
    ids=["new", "pool", "none"],
)
def test_batches_are_the_same_for_any_number_of_workers(pictures, views):
    here = list(image_feed(pictures, views=views).batches(0, 6))
    assert len(here) == 6
    for workers in (1, 2):
        feed = image_feed(pictures, views=views, workers=workers)
        there = list(feed.batches(0, 6))
        assert all(equal(one, two) for one, two in zip(here, there, strict=True))
        assert list(feed.bad) == [BROKEN]
    assert children() == []


def test_batches_are_the_same_from_every_start(pictures):
    whole = list(image_feed(pictures).batches(0, 8))
    for start in range(8):
        feed = image_feed(pictures, workers=2 * (start == 5))
        rest = list(feed.batches(start, 8))
        assert all(equal(one, two) for one, two in zip(whole[start:], rest, strict=True))
    one_feed = image_feed(pictures)
    in_turns = [*one_feed.batches(0, 3), *one_feed.batches(3, 3), *one_feed.batches(3, 8)]
    assert all(equal(one, two) for one, two in zip(whole, in_turns, strict=True))


@pytest.mark.parametrize("world", [2, 3])
def test_parts_of_processes_join_to_the_global_batch(pictures, world):
    whole = list(image_feed(pictures).batches(0, 3))
    parts = [
        list(image_feed(pictures, rank=rank, world=world).batches(0, 3)) for rank in range(world)
    ]
    for step, batch in enumerate(whole):
        ids = np.concatenate([part[step].ids for part in parts])
        views = torch.cat([part[step].views for part in parts])
        assert np.array_equal(ids, batch.ids)
        assert torch.equal(views, batch.views)


def test_epochs_show_other_views_of_a_picture(pictures):
    looks = {}
    for batch in image_feed(pictures).batches(0, 7):
        for row, views in zip(batch.ids.tolist(), batch.views, strict=True):
            looks.setdefault(row, []).extend(view.numpy().tobytes() for view in views)
    del looks[BROKEN]
    assert max(map(len, looks.values())) > 4
    assert all(len(set(views)) == len(views) for views in looks.values())


def test_jobs_hold_every_picture_once():
    for rows, views in ((1, 1), (17, 1), (17, 3), (5, 20)):
        job = Job(np.arange(rows), np.arange(rows * views).reshape(rows, views))
        parts = list(split_job(job))
        assert np.array_equal(np.concatenate([part.rows for part in parts]), job.rows)
        assert np.array_equal(np.concatenate([part.numbers for part in parts]), job.numbers)


# --- pictures that cannot be read


def test_more_bad_pictures_than_allowed_stop_the_run(pictures):
    feed = image_feed(pictures, max_bad=0.01)
    with pytest.raises(
        TrainingError, match=r"1 of the \d+ pictures .* data.max_bad = 0.01"
    ) as told:
        list(feed.batches(0, 4))
    assert pictures.names[BROKEN] in str(told.value)
    assert "truncated" in str(told.value)
    assert list(feed.bad) == [BROKEN]


def test_workers_stop_at_the_same_batch(pictures):
    reached = []
    for workers in (0, 2):
        batches = image_feed(pictures, max_bad=0.01, workers=workers).batches(0, 9)
        steps = []
        with pytest.raises(TrainingError, match="data.max_bad"):
            steps.extend(batch.ids for batch in batches)
        reached.append(len(steps))
    assert reached[0] == reached[1] < 3
    assert children() == []


def test_one_bad_picture_in_the_first_batch_of_many_is_no_sign():
    data = SimpleNamespace(names=["x"] * 1001, lonlat=np.zeros((1001, 2)))
    good = Image.new("RGB", (30, 30))

    def feed(bad):
        def picture(row):
            from geoembed.errors import PictureError

            if row < bad:
                raise PictureError("It is empty.")
            return good

        order = GlobalOrder(np.arange(1001), 7, 0)
        order.ids = np.arange(1001)
        order._permutations = {0: np.arange(1001, dtype=np.int32)}
        made = ImageFeed(
            SimpleNamespace(**vars(data), picture=picture),
            order,
            ViewSettings(augment="none"),
            Preprocessing(size=1, mean=(0.0,) * 3, std=(1.0,) * 3),
            seed=0,
            max_bad=0.002,
        )
        made.order._permutations = {0: np.arange(1001, dtype=np.int32)}
        return made

    assert len(list(feed(2).batches(0, 20))) == 20
    with pytest.raises(TrainingError, match="3 of the 7 pictures"):
        list(feed(3).batches(0, 20))


# --- processes that end


def test_a_killed_worker_ends_the_run_with_a_message(pictures):
    batches = image_feed(pictures, workers=2).batches(0, 10**6)
    next(batches)
    victim = children()[0]
    os.kill(victim.pid, signal.SIGKILL)
    start = time.monotonic()
    with pytest.raises(TrainingError, match=r"killed by signal 9.*loop.workers"):
        list(batches)
    assert time.monotonic() - start < 10
    assert children() == []


def test_an_error_that_lies_not_in_a_picture_comes_from_the_worker():
    # The square root of its row is no picture.
    data = SimpleNamespace(picture=math.sqrt, names=["a"] * 4, lonlat=np.zeros((4, 2)))
    feed = image_feed(data, batch=4, workers=1)
    with pytest.raises(TrainingError, match=r"Reading rows \d.* failed: AttributeError"):
        next(feed.batches(0, 2))
    assert children() == []


def test_data_that_cannot_be_sent_are_told_of():
    data = SimpleNamespace(picture=lambda row: None, names=["a"] * 4, lonlat=np.zeros((4, 2)))
    with pytest.raises(TrainingError, match=r"cannot be started: .*pickle"):
        next(image_feed(data, batch=4, workers=1).batches(0, 2))


def test_memory_that_workers_cannot_share_is_told_of(pictures, monkeypatch):
    # What earlier feeds have given back would do.
    monkeypatch.setattr(BufferWrapper, "_heap", Heap())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    told = r"share .*B of memory.*: File too large\. Make room"
    try:
        with pytest.raises(TrainingError, match=told):
            next(image_feed(pictures, workers=1).batches(0, 6))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert children() == []


def test_workers_outlive_signals_to_the_group_and_end_with_the_feed(pictures):
    expected = list(image_feed(pictures).batches(0, 6))
    batches = image_feed(pictures, workers=2).batches(0, 6)
    got = [next(batches)]
    processes = children()
    assert len(processes) == 2
    for process in processes:
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGTERM)
    got += list(islice(batches, 3))
    assert all(equal(one, two) for one, two in zip(expected, got, strict=False))
    batches.close()
    assert children() == []
    assert not any(thread.name == "geoembed-prefetch" for thread in threading.enumerate())


_RUN = """
import json, multiprocessing, sys
import numpy as np
from geoembed.extending import Preprocessing
from geoembed.training.bluemarble import BlueMarble
from geoembed.training.feeds import ImageFeed
from geoembed.training.order import GlobalOrder
from geoembed.training.settings import ViewSettings

if __name__ == "__main__":
    tower = Preprocessing(size=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    order = GlobalOrder(np.arange(20), 10, 0)
    feed = ImageFeed(BlueMarble(20, 16), order, ViewSettings(), tower, seed=0, workers=2)
    batches = feed.batches(0, 10**9)
    next(batches)
    print(json.dumps([child.pid for child in multiprocessing.active_children()]), flush=True)
    if sys.argv[1] == "leave":
        raise SystemExit(3)  # with the generator still open
    for batch in batches:
        pass
"""


def test_workers_end_with_the_process_that_started_them(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(_RUN)
    runs = {
        how: subprocess.Popen([sys.executable, script, how], stdout=subprocess.PIPE)
        for how in ("killed", "leave")
    }
    for how, run in runs.items():
        with run:
            workers = json.loads(run.stdout.readline())
            assert len(workers) == 2
            if how == "killed":
                run.kill()
            assert run.wait(timeout=30) == {"killed": -signal.SIGKILL, "leave": 3}[how]
        deadline = time.monotonic() + 20
        while any(map(is_running, workers)):
            assert time.monotonic() < deadline, f"{how}: workers are left"
            time.sleep(0.05)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- prefetching


def test_prefetching_keeps_order_and_raises_in_its_place():
    def source():
        yield from range(5)
        raise ValueError("five")

    taken = []
    with pytest.raises(ValueError, match="five"):
        taken.extend(prefetch(source(), ahead=2))
    assert taken == [0, 1, 2, 3, 4]


def test_prefetching_runs_ahead_no_further_than_told():
    made, closed = [], threading.Event()

    def source():
        try:
            for item in range(100):
                made.append(item)
                yield item
        finally:
            closed.set()

    items = prefetch(source(), ahead=2)
    assert next(items) == 0
    time.sleep(0.3)
    assert len(made) == 4  # one given, two waiting, one in hand
    items.close()
    assert closed.is_set()


# --- features


class Features(SimpleNamespace):
    """Feature (row, view) is row + view / 100, everywhere."""

    def features(self, rows, views):
        return np.repeat((rows[:, None] + views / 100)[..., None], 4, axis=2).astype(np.float32)


def feature_data(n=30, views=6, **more):
    return Features(
        lonlat=np.arange(2.0 * n).reshape(n, 2),
        names=[f"p{row}" for row in range(n)],
        digest="",
        views=views,
        dimension=4,
        **{"valid": np.ones(n, np.bool_), **more},
    )


def feature_feed(data, views=None, **options):
    order = GlobalOrder(np.arange(len(data.names)), 8, 0)
    return FeatureFeed(data, order, views or ViewSettings(count=2), seed=1, **options)


def test_features_are_of_the_views_that_an_image_feed_would_show():
    data = feature_data()
    feed = feature_feed(data)
    for step, batch in enumerate(feed.batches(0, 6)):
        rows, epochs = feed.order.batch(step)
        numbers = view_numbers(ViewSettings(count=2, pool=6), 1, rows, epochs)
        assert np.array_equal(batch.ids, rows)
        assert np.array_equal(batch.lonlat, data.lonlat[rows])
        assert batch.views.dtype == torch.float32
        assert np.array_equal(batch.views.numpy(), data.features(rows, numbers))
        assert batch.valid.all()


def test_a_smaller_pool_takes_the_first_views():
    numbers = [
        np.round(100 * (batch.views[..., 0].numpy() - batch.ids[:, None])).astype(int)
        for batch in feature_feed(feature_data(), ViewSettings(count=2, pool=3)).batches(0, 20)
    ]
    assert set(np.concatenate(numbers).ravel().tolist()) == {0, 1, 2}


def test_feature_batches_are_the_same_from_any_start_and_in_parts():
    whole = list(feature_feed(feature_data()).batches(0, 6))
    rest = list(feature_feed(feature_data()).batches(4, 6))
    assert all(equal(one, two) for one, two in zip(whole[4:], rest, strict=True))
    parts = [
        list(feature_feed(feature_data(), rank=rank, world=3).batches(0, 6)) for rank in range(3)
    ]
    for step, batch in enumerate(whole):
        assert torch.equal(torch.cat([part[step].views for part in parts]), batch.views)


def test_rows_without_features_are_no_queries():
    valid = np.ones(30, np.bool_)
    valid[[3, 7]] = False
    feed = feature_feed(feature_data(valid=valid, bad={3: "It is empty."}), max_bad=0.1)
    seen = {
        int(row): bool(good)
        for batch in feed.batches(0, 4)
        for row, good in zip(batch.ids, batch.valid, strict=True)
    }
    assert [row for row, good in seen.items() if not good] == [row for row in seen if row in (3, 7)]
    assert feed.bad == {3: "It is empty.", 7: "It has no features."}
    with pytest.raises(TrainingError, match="more than data.max_bad = 0.05 allows"):
        list(feature_feed(feature_data(valid=valid), max_bad=0.05).batches(0, 4))


def test_impossible_pools_are_refused():
    with pytest.raises(OptionError, match=r"views.pool = 9, but the features are of 6 views"):
        feature_feed(feature_data(), ViewSettings(pool=9))
    with pytest.raises(OptionError, match=r"views.count = 7 .*views.pool = 6"):
        feature_feed(feature_data(), ViewSettings(count=7))
    with pytest.raises(OptionError, match=r"views.count = 3 .*views.pool = 2"):
        image_feed(feature_data(), views=ViewSettings(count=3, pool=2))


def test_views_that_were_drawn_otherwise_are_refused():
    drawn = ViewSettings(pool=6, min_area=0.2, hue=0.0)
    data = feature_data(view_settings=drawn)
    with pytest.raises(OptionError, match=r"views.min_area = 0.08, features 0.2; views.hue = 0.1"):
        feature_feed(data)
    feature_feed(data, ViewSettings(count=3, min_area=0.2, hue=0.0))
    centre = feature_data(view_settings=ViewSettings(augment="none", pool=1), views=1)
    with pytest.raises(OptionError, match=r"views.augment = 'simclr', features 'none'"):
        feature_feed(centre, ViewSettings())
    # What is not used need not be the same.
    feature_feed(centre, ViewSettings(augment="none", min_area=0.5))
