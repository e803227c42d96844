"""Stored features: the same as the tower's, whole after any interruption, never mixed up."""

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from geoembed.errors import OptionError, PictureError, TableError, TrainingError, WeightsError
from geoembed.extending import Preprocessing
from geoembed.images import load_image_encoder
from geoembed.images.towers import Tower, tower_of
from geoembed.testing import tiny_clip_spec, write_tiny_clip
from geoembed.training import feature_folder, features
from geoembed.training.bluemarble import BlueMarble
from geoembed.training.feature_shards import FeatureShards, rows_per_shard
from geoembed.training.feature_store import open_features
from geoembed.training.features import plan_features, write_features
from geoembed.training.feeds import FeatureFeed, ImageFeed
from geoembed.training.model import build_model
from geoembed.training.order import GlobalOrder
from geoembed.training.settings import TrainingSettings, ViewSettings
from geoembed.training.step import TrainingStep
from geoembed.training.views import make_views_of

SIZE = Preprocessing(size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
VIEWS = ViewSettings(pool=4)
DIMENSION, ROWS = 6, 11


class Pictures:
    """Noise of several shapes; some rows cannot be read."""

    def __init__(self, rows=ROWS, bad=()):
        self.lonlat = np.random.default_rng(0).uniform(-80, 80, (rows, 2))
        self.names = [f"p{row:03d}.jpg" for row in range(rows)]
        self.digest = f"pictures {rows}"
        self.broken = bad
        self.asked = []

    def __len__(self):
        return len(self.names)

    def picture(self, row):
        self.asked.append(row)
        if row in self.broken:
            raise PictureError(f"{self.names[row]}: It is empty.")
        rng = np.random.default_rng(row)
        return Image.fromarray(rng.integers(0, 256, (30 + row, 25, 3), dtype=np.uint8))


def tower(*, seed=0, scale=1.0, sha256="a" * 64, fail_after=None, **more):
    """A linear tower; it can be made to fail after so many pictures."""
    weights = torch.randn(3 * 16 * 16, DIMENSION, generator=torch.Generator().manual_seed(seed))
    seen = [0]

    def compute(pixels):
        seen[0] += len(pixels)
        if fail_after is not None and seen[0] > fail_after:
            raise KeyboardInterrupt
        # One row at a time, so that values do not depend on the batch.
        rows = [pixel.flatten() @ weights for pixel in pixels]
        return torch.stack(rows) * scale / 30

    facts = {"name": "linear", "rows": 8, "device": torch.device("cpu"), **more}
    return Tower(
        compute=compute, dimension=DIMENSION, preprocessing=SIZE, digest=lambda: sha256, **facts
    )


def all_features(stored):
    rows = np.arange(len(stored))
    return stored.features(rows, np.tile(np.arange(stored.views), (len(rows), 1)))


def rounded(one, other):
    """Whether values of `one` are those of `other` within half a unit of float16."""
    return np.all(np.abs(one - other) <= 2.0**-11 * np.abs(other) * (1 + 1e-4) + 2.0**-25)


@pytest.fixture
def small_shards(monkeypatch):
    """Four rows a shard, so that a few rows make several."""
    monkeypatch.setattr(features, "rows_per_shard", lambda views, dimension: 4)


# --- what is stored


def test_stored_features_are_the_towers_of_the_numbered_views(tmp_path, small_shards):
    pictures, linear = Pictures(), tower()
    stored = write_features(pictures, linear, tmp_path / "f", views=VIEWS, seed=5)
    got = all_features(stored)
    assert got.shape == (ROWS, 4, DIMENSION)
    assert got.dtype == np.float32
    for row in range(ROWS):
        pixels = make_views_of(
            pictures.picture(row), SIZE, VIEWS, seed=5, row=row, numbers=np.arange(4)
        )
        assert rounded(got[row], linear.features(pixels).numpy())
    assert len(list((tmp_path / "f").glob("features-*.npy"))) == 3
    assert np.array_equal(stored.lonlat, pictures.lonlat)
    assert stored.names == pictures.names
    assert stored.valid.all()
    assert stored.bad == {}


def test_any_rows_and_views_come_in_their_order(tmp_path, small_shards):
    stored = write_features(Pictures(), tower(), tmp_path / "f", views=VIEWS)
    whole = all_features(stored)
    rng = np.random.default_rng(1)
    rows, views = rng.integers(0, ROWS, 50), rng.integers(0, 4, (50, 3))
    assert np.array_equal(stored.features(rows, views), whole[rows[:, None], views])
    assert stored.features(rows[:0], views[:0]).shape == (0, 3, DIMENSION)


def test_rows_and_views_that_are_not_there_are_refused(tmp_path):
    stored = write_features(Pictures(), tower(), tmp_path / "f", views=VIEWS)
    with pytest.raises(OptionError, match="There are 11 rows, and rows from -1 to 3"):
        stored.features(np.array([-1, 3]), np.zeros((2, 1), int))
    with pytest.raises(OptionError, match="There are 4 views, and views from 0 to 4"):
        stored.features(np.array([1]), np.array([[0, 4]]))


def test_pictures_that_cannot_be_read_are_listed_and_stay_zero(tmp_path, small_shards):
    pictures = Pictures(bad=(3, 9))
    stored = write_features(pictures, tower(), tmp_path / "f", views=VIEWS, max_bad=0.2)
    assert np.flatnonzero(~stored.valid).tolist() == [3, 9]
    assert stored.bad == {3: "p003.jpg: It is empty.", 9: "p009.jpg: It is empty."}
    whole = write_features(Pictures(), tower(), tmp_path / "g", views=VIEWS)
    expected = all_features(whole)
    expected[[3, 9]] = 0
    assert np.array_equal(all_features(stored), expected)
    listed = pd.read_csv(tmp_path / "f" / "bad_pictures.csv")
    assert listed.to_dict("list") == {
        "row": [3, 9],
        "name": ["p003.jpg", "p009.jpg"],
        "reason": list(stored.bad.values()),
    }
    assert stored.digest != whole.digest


def test_more_bad_pictures_than_allowed_stop_it(tmp_path):
    pictures = Pictures(bad=(7,))
    with pytest.raises(TrainingError, match=r"1 of the 8 pictures .*p007.jpg: It is empty"):
        write_features(pictures, tower(), tmp_path / "f", views=VIEWS)
    # What was computed stays; allowed, it goes on from there.
    pictures.asked.clear()
    stored = write_features(pictures, tower(), tmp_path / "f", views=VIEWS, max_bad=0.1)
    assert pictures.asked == [6, 7, 8, 9, 10]
    assert np.flatnonzero(~stored.valid).tolist() == [7]


@pytest.mark.parametrize("broken", [np.nan, 1e9])
def test_features_that_float16_does_not_hold_are_refused(tmp_path, broken):
    with pytest.raises(WeightsError, match=r"rows 0, 1 that are not finite, or too large"):
        write_features(Pictures(), tower(scale=broken), tmp_path / "f", views=VIEWS)


def test_features_are_the_same_with_workers_and_by_other_batches(tmp_path):
    world = BlueMarble(crops=10, crop_size=20)
    one = write_features(world, tower(), tmp_path / "a", views=VIEWS)
    two = write_features(world, tower(), tmp_path / "b", views=VIEWS, workers=2)
    three = write_features(world, tower(), tmp_path / "c", views=VIEWS, batch_size=1)
    assert one.digest == two.digest == three.digest
    assert np.array_equal(all_features(one), all_features(two))


# --- both feeds show the same


@pytest.mark.parametrize("workers", [0, 2])
def test_both_feeds_give_the_same_views(tmp_path, workers):
    folder = tmp_path / "features"
    clip = load_image_encoder(tiny_clip_spec(), weights=write_tiny_clip(tmp_path), device="cpu")
    world, seed = BlueMarble(crops=14, crop_size=40), 11
    stored = write_features(world, clip, folder, views=VIEWS, seed=seed)
    assert stored.tower_sha256 == tower_of(clip).sha256
    assert stored.preprocessing == clip.preprocessing
    order = GlobalOrder(np.arange(14), 9, seed)
    views = VIEWS.model_copy(update={"count": 2})
    images = ImageFeed(world, order, views, clip.preprocessing, seed=seed, workers=workers)
    cached = FeatureFeed(stored, order, views.model_copy(update={"pool": 0}), seed=seed)
    compute = tower_of(clip).features
    for pixels, found in zip(images.batches(0, 3), cached.batches(0, 3), strict=True):
        assert np.array_equal(pixels.ids, found.ids)
        assert np.array_equal(pixels.lonlat, found.lonlat)
        exact = compute(pixels.views.flatten(0, 1)).unflatten(0, (9, 2))
        difference = (found.views - exact).abs()
        # Half a unit of float16, and the rounding of sums in another order.
        assert (difference <= 2.0**-11 * exact.abs() + 2e-6).all()
        # Another view of the same picture would be far off.
        assert difference.mean() < 0.01 * (exact[:, 0] - exact[:, 1]).abs().mean()


def test_training_on_cached_features_is_training_on_the_pictures(tmp_path):
    """The loss of every step is the same, to the rounding of float16."""
    folder = tmp_path / "features"
    clip = load_image_encoder(tiny_clip_spec(), weights=write_tiny_clip(tmp_path), device="cpu")
    world = BlueMarble(crops=10, crop_size=40)
    stored = write_features(world, clip, folder, views=VIEWS, seed=2)
    settings = TrainingSettings(
        seed=2,
        data={"kind": "bluemarble"},
        views={"pool": 4, "count": 2},
        location={"frequencies": 16, "hidden": [32], "output": 16},
        image={"head": [32]},
        objective={"queue": 20},
        loop={"batch": 6},
    )
    order = GlobalOrder(np.arange(10), 6, 2)
    feeds = [
        ImageFeed(world, order, settings.views, clip.preprocessing, seed=2),
        FeatureFeed(stored, order, settings.views, seed=2),
    ]
    losses = []
    for feed in feeds:
        model = build_model(settings, device="cpu", feature_dimension=768, backbone=False)
        model.backbone = tower_of(clip)
        step = TrainingStep(model, settings)
        batches = enumerate(feed.batches(0, 5))
        losses.append([float(step(batch, number, lr=1e-2).loss) for number, batch in batches])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert len({round(loss, 2) for loss in losses[0]}) == 5


def test_other_seeds_pick_others_of_the_same_views(tmp_path):
    stored = write_features(Pictures(), tower(), tmp_path / "f", views=VIEWS, seed=5)
    order = GlobalOrder(np.arange(ROWS), ROWS, 0)
    picks = [
        next(FeatureFeed(stored, order, ViewSettings(), seed=seed).batches(0, 1)).views
        for seed in (0, 1)
    ]
    assert not torch.equal(*picks)
    assert {row.numpy().tobytes() for row in picks[1][:, 0]} <= {
        view.tobytes() for view in all_features(stored).reshape(-1, DIMENSION)
    }


# --- interruptions


def test_it_goes_on_after_an_interruption(tmp_path, small_shards):
    pictures = Pictures()
    whole = write_features(Pictures(), tower(), tmp_path / "whole", views=VIEWS)
    with pytest.raises(KeyboardInterrupt):
        write_features(pictures, tower(fail_after=26), tmp_path / "f", views=VIEWS)
    with pytest.raises(TableError, match="are not complete: run 'geoembed data features' again"):
        open_features(tmp_path / "f")
    pictures.asked.clear()
    stored = write_features(pictures, tower(), tmp_path / "f", views=VIEWS)
    assert pictures.asked == [6, 7, 8, 9, 10]
    assert stored.digest == whole.digest
    assert np.array_equal(all_features(stored), all_features(whole))
    pictures.asked.clear()
    assert write_features(pictures, tower(), tmp_path / "f", views=VIEWS).digest == whole.digest
    assert pictures.asked == []


def test_a_torn_note_and_a_lost_shard_are_made_good(tmp_path, small_shards):
    whole = write_features(Pictures(), tower(), tmp_path / "whole", views=VIEWS)
    folder = tmp_path / "f"
    with pytest.raises(KeyboardInterrupt):
        write_features(Pictures(), tower(fail_after=34), folder, views=VIEWS)
    notes = folder / "progress.jsonl"
    assert json.loads(notes.read_text().splitlines()[-1])["rows"] == 8
    with notes.open("a") as file:
        file.write('{"rows": 11, "ba')
    (folder / "features-00001.npy").unlink()
    # Killed right after the shard was made anew: its zeros must not count as done.
    with pytest.raises(KeyboardInterrupt):
        write_features(Pictures(), tower(fail_after=0), folder, views=VIEWS)
    pictures = Pictures()
    stored = write_features(pictures, tower(), folder, views=VIEWS)
    assert pictures.asked[0] == 4
    assert stored.digest == whole.digest
    assert not notes.exists()


_SLOW = """
import sys, time
from dataclasses import replace
sys.path.insert(0, sys.argv[2])
from test_training_features import *
slow = tower()
compute = slow.compute
def slowly(pixels):
    time.sleep(0.02)
    return compute(pixels)
features._KEEP_SECONDS = 0.05
features.rows_per_shard = lambda views, dimension: 30
print("ready", flush=True)
write_features(Pictures(100), replace(slow, compute=slowly), sys.argv[1], views=VIEWS)
"""


def test_it_goes_on_after_sigkill(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "rows_per_shard", lambda views, dimension: 30)
    folder = tmp_path / "f"
    run = subprocess.Popen(
        [sys.executable, "-c", _SLOW, folder, Path(__file__).parent], stdout=subprocess.PIPE
    )
    with run:
        assert run.stdout.readline() == b"ready\n"
        notes = folder / "progress.jsonl"
        while not (notes.exists() and notes.read_text().count("\n") > 2):
            assert run.poll() is None
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
    done = json.loads(notes.read_text().splitlines()[-1])["rows"]
    assert 0 < done < 100
    pictures = Pictures(100)
    stored = write_features(pictures, tower(), folder, views=VIEWS)
    assert pictures.asked == list(range(done, 100))
    whole = write_features(Pictures(100), tower(), tmp_path / "whole", views=VIEWS)
    assert stored.digest == whole.digest


# --- folders of something else


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"views": ViewSettings(pool=3)}, "views was 4 and is 3"),
        ({"views": ViewSettings(pool=4, hue=0.2)}, r"view_settings.hue was 0.1 and is 0.2"),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"data": Pictures(12)}, "data was 'pictures 11' and is 'pictures 12'; rows was 11"),
        ({"encoder": tower(sha256="b" * 64)}, r"tower.sha256 was 'a+' and is 'b+'"),
        ({"encoder": tower(dtype=torch.bfloat16)}, "tower.dtype was 'float32' and is 'bfloat16'"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_features_of_something_else_are_never_mixed_in(tmp_path, change, told, whole):
    asked = {"data": Pictures(), "encoder": tower(), "views": VIEWS, "seed": 0}
    if whole:
        write_features(folder=tmp_path, **asked)
    else:
        with pytest.raises(KeyboardInterrupt):
            write_features(folder=tmp_path, **{**asked, "encoder": tower(fail_after=20)})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TableError, match=f"holds features of something else: .*{told}"):
        write_features(folder=tmp_path, **{**asked, **change})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_takes_no_part_may_differ(tmp_path):
    one = write_features(Pictures(), tower(), tmp_path, views=VIEWS)
    two = write_features(
        Pictures(), tower(rows=3), tmp_path, views=VIEWS.model_copy(update={"count": 3})
    )
    assert one.digest == two.digest


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(TableError, match="holds something else already"):
        write_features(Pictures(), tower(), tmp_path, views=VIEWS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_runs_do_not_write_at_once(tmp_path):
    inside = []

    class Nested(Pictures):
        def picture(self, row):
            if not inside:
                inside.append(row)
                with pytest.raises(TableError, match="Another run is writing features in"):
                    write_features(Pictures(), tower(), tmp_path, views=VIEWS)
            return super().picture(row)

    write_features(Nested(), tower(), tmp_path, views=VIEWS)
    assert inside == [0]


@pytest.mark.parametrize(
    ("views", "told"),
    [
        (ViewSettings(), "views.pool = 0: say how many"),
        (ViewSettings(pool=3, augment="none"), "views.pool = 3 with views.augment = 'none'"),
    ],
)
def test_pools_that_make_no_sense_are_refused(tmp_path, views, told):
    with pytest.raises(OptionError, match=told):
        write_features(Pictures(), tower(), tmp_path, views=views)
    with pytest.raises(OptionError, match=told):
        plan_features(Pictures(), tower(), views=views)
    with pytest.raises(OptionError, match="batch_size=0"):
        write_features(Pictures(), tower(), tmp_path, views=VIEWS, batch_size=0)


# --- full disks


@pytest.fixture
def file_limit():
    """No file may grow beyond a limit that the test sets."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_of_and_leaves_what_is_there(tmp_path, small_shards, monkeypatch):
    whole = write_features(Pictures(), tower(), tmp_path / "whole", views=VIEWS)
    reserve = os.posix_fallocate

    def full(handle, start, size):
        if (tmp_path / "f" / "features-00001.npy").exists():
            raise OSError(28, "No space left on device")
        reserve(handle, start, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(TableError, match=r"f cannot be written: No space left .* goes on"):
        write_features(Pictures(), tower(), tmp_path / "f", views=VIEWS)
    monkeypatch.setattr(os, "posix_fallocate", reserve)
    pictures = Pictures()
    stored = write_features(pictures, tower(), tmp_path / "f", views=VIEWS)
    assert pictures.asked[0] == 4
    assert stored.digest == whole.digest


def test_a_file_that_may_not_grow_is_told_of(tmp_path, file_limit):
    whole = write_features(Pictures(), tower(), tmp_path / "whole", views=VIEWS)
    file_limit(400)
    with pytest.raises(TableError, match=r"f cannot be written: File too large"):
        write_features(Pictures(), tower(), tmp_path / "f", views=VIEWS)
    file_limit(resource.RLIM_INFINITY)
    for part in (tmp_path / "f").glob("*.part"):
        part.unlink()
    stored = write_features(Pictures(), tower(), tmp_path / "f", views=VIEWS)
    assert stored.digest == whole.digest


def test_too_little_room_is_seen_before_anything_is_computed(tmp_path, monkeypatch):
    pictures = Pictures()
    usage = shutil.disk_usage(tmp_path)._replace(free=200)
    monkeypatch.setattr(feature_folder.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(TableError, match=r"need 656 B more, and 200 B are free"):
        write_features(pictures, tower(), tmp_path / "f", views=VIEWS)
    assert pictures.asked == []


# --- damaged folders


def damage_nothing(folder):
    shutil.rmtree(folder)


def damage_version(folder):
    facts = json.loads((folder / "features.json").read_text())
    (folder / "features.json").write_text(json.dumps({**facts, "version": 99}))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (damage_nothing, "holds no features: there is no features.json"),
        (damage_version, "is of version 99, and this geoembed reads version 1"),
        (lambda folder: (folder / "features.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "features.json").write_text("[]"), "cannot be read"),
        (lambda folder: os.truncate(folder / "features-00001.npy", 150), "are damaged: .*mmap"),
        (lambda folder: (folder / "features-00001.npy").unlink(), "are damaged: .*00001.npy"),
        (lambda folder: (folder / "rows.parquet").write_bytes(b"PAR1"), "are damaged"),
        (
            lambda folder: np.save(folder / "features-00001.npy", np.zeros((4, 4, 5), np.float16)),
            r"features-00001.npy is float16 \(4, 4, 5\), expected float16 \(4, 4, 6\)",
        ),
    ],
)
def test_damaged_folders_are_told_of(tmp_path, small_shards, damage, told):
    write_features(Pictures(), tower(), tmp_path / "f", views=VIEWS)
    damage(tmp_path / "f")
    with pytest.raises(TableError, match=told):
        open_features(tmp_path / "f")


# --- the rest


def test_stored_features_travel_to_other_processes_by_their_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored = write_features(Pictures(), tower(), "f", views=VIEWS)
    sent = pickle.dumps(stored)
    assert len(sent) < 1000
    monkeypatch.chdir("/")
    assert np.array_equal(all_features(pickle.loads(sent)), all_features(stored))


def test_the_plan_says_the_size_to_the_byte(tmp_path):
    pictures = Pictures()
    plan = plan_features(pictures, tower(), views=VIEWS)
    assert sorted(pictures.asked) == [0, 10]  # one batch of the tower, spread over the data
    write_features(Pictures(), tower(), tmp_path, views=VIEWS)
    assert plan.bytes == sum(path.stat().st_size for path in tmp_path.glob("features-*.npy"))
    assert plan.seconds == pytest.approx(ROWS * 4 * plan.seconds_per_view)
    assert plan.seconds_per_view > 0


def test_shards_are_of_two_gibibytes():
    per_shard = rows_per_shard(10, 768)
    shards = FeatureShards(Path(), rows=4_700_000, views=10, dimension=768, per_shard=per_shard)
    assert len(shards) == 34
    assert shards.size(0) == pytest.approx(2 * 2**30, rel=1e-4)
    assert sum(shards.shape(at)[0] for at in range(34)) == 4_700_000
