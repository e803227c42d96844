"""Galleries that outgrow memory and patience: built in pieces, killed, gone on with."""

import errno
import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
import warnings
from collections import namedtuple
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from geoembed.cli.main import main
from geoembed.encoders import load_encoder
from geoembed.errors import CoordinateError, OptionError, TableError
from geoembed.galleries import Gallery, GalleryPlaces, builders, growing, load_gallery, parts
from geoembed.galleries import store as store_module
from geoembed.galleries.builders import h3_places
from geoembed.galleries.growing import GrowingVectors
from geoembed.galleries.places import _hash
from geoembed.galleries.store import GalleryBuildWarning, publish_folder

COUNT = 4000
LONLAT = np.random.default_rng(7).uniform((-180, -90), (180, 90), size=(COUNT, 2))
BLOCK = 100


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "cache"))
    # Every block is a point that a build can go on from.
    monkeypatch.setattr(growing, "_SECONDS", 0.0)
    return tmp_path / "cache" / "galleries"


def encoder():
    return load_encoder("xyz", normalize=True, block_size=BLOCK)


def places(count=COUNT, name="random"):
    return GalleryPlaces.of(LONLAT[:count], name=name)


class StopError(Exception):
    """What ends a build in a test."""


def failing(rows, error):
    """Give an encoder that fails after so many rows, and counts those it has seen."""
    made = encoder()
    inner, seen = made.values, []

    def values(lonlat):
        if sum(seen) >= rows:
            raise error
        seen.append(len(lonlat))
        return inner(lonlat)

    made.values, made.seen = values, seen
    return made


def left_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def interrupted(folder, rows=1000, *, count=COUNT, error=None, **options):
    with pytest.raises((StopError, KeyboardInterrupt)) as caught:
        Gallery.build(
            places(count), folder, encoder=failing(rows, error or StopError("enough")), **options
        )
    return caught.value


# -- going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_build_goes_on_where_it_stopped_and_the_files_are_the_same_byte_by_byte(tmp_path, dtype):
    whole = Gallery.build(places(), tmp_path / "whole", encoder=encoder(), dtype=dtype)
    error = interrupted(tmp_path / "a" / "g", 1000, dtype=dtype)
    assert re.search(r"1,000 of 4,000 places are encoded and kept", error.__notes__[0])
    assert not (tmp_path / "a" / "g").exists()
    again = failing(10**9, StopError())
    made = Gallery.build(places(), tmp_path / "a" / "g", encoder=again, dtype=dtype)
    assert (made.resumed, sum(again.seen)) == (1000, 3000)
    for name in ("embeddings.npy", "lonlat.npy", "counts.npy", "gallery.json"):
        assert (made.folder / name).read_bytes() == (whole.folder / name).read_bytes(), name
    assert sorted(p.name for p in made.folder.iterdir()) == [
        *("counts.npy", "embeddings.npy", "gallery.json", "lonlat.npy")
    ]
    assert left_in(tmp_path / "a") == []
    # The file is what numpy writes.
    np.save(tmp_path / "numpy.npy", np.array(whole.embeddings))
    assert (tmp_path / "numpy.npy").read_bytes() == (whole.folder / "embeddings.npy").read_bytes()


def test_geoclip_goes_on_bit_by_bit(tmp_path):
    some = GalleryPlaces.of(LONLAT[:700], name="random")
    made = load_encoder("geoclip.v1", normalize=True, block_size=128)
    whole = np.array(Gallery.build(some, tmp_path / "whole", encoder=made).embeddings)
    inner, calls = made.values, []

    def values(lonlat):
        calls.append(len(lonlat))
        if len(calls) == 3:
            raise StopError
        return inner(lonlat)

    made.values = values
    with pytest.raises(StopError):
        Gallery.build(some, tmp_path / "g", encoder=made)
    gone_on = Gallery.build(some, tmp_path / "g", encoder=made)
    assert gone_on.resumed == 256
    np.testing.assert_array_equal(gone_on.embeddings, whole)


def test_a_gallery_in_the_cache_goes_on_as_well(cache):
    with pytest.raises(StopError):
        Gallery.of(places(), encoder=failing(1500, StopError()))
    again = failing(10**9, StopError())
    made = Gallery.of(places(), encoder=again)
    assert sum(again.seen) == COUNT - 1500
    np.testing.assert_array_equal(made.embeddings, encoder().encode(*LONLAT.T))
    assert [path.name for path in cache.iterdir()] == [made.folder.name]


def test_the_bar_begins_where_it_goes_on(tmp_path, capsys):
    interrupted(tmp_path / "g", 3000)
    Gallery.build(places(), tmp_path / "g", encoder=encoder(), progress=True)
    err = capsys.readouterr().err
    assert re.search(r"embedding:\s+75%.*3\.00k/4\.00k", err.split("\r")[1])


def test_rows_behind_the_last_record_are_not_trusted(tmp_path):
    interrupted(tmp_path / "g", 1000)
    (part,) = tmp_path.glob(".g~*.part")
    with (part / "embeddings.npy").open("ab") as file:
        file.write(b"torn" * 33)
    made = Gallery.build(places(), tmp_path / "g", encoder=encoder())
    assert made.resumed == 1000
    np.testing.assert_array_equal(made.embeddings, encoder().encode(*LONLAT.T))


@pytest.mark.parametrize("how", ["shorter", "no record", "half a record"])
def test_a_torn_part_is_begun_anew(tmp_path, how):
    interrupted(tmp_path / "g", 1000)
    (part,) = tmp_path.glob(".g~*.part")
    record = part / "progress.json"
    if how == "shorter":
        os.truncate(part / "embeddings.npy", 5000)
    elif how == "no record":
        record.unlink()
    else:
        record.write_text(record.read_text()[:40])
    made = Gallery.build(places(), tmp_path / "g", encoder=encoder())
    assert made.resumed == 0
    np.testing.assert_array_equal(made.embeddings, encoder().encode(*LONLAT.T))
    assert left_in(tmp_path) == []


# -- other builds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["places", "block", "dtype", "encoder"])
def test_another_build_for_the_same_folder_begins_anew_and_says_so(tmp_path, change):
    interrupted(tmp_path / "g", 1000)
    (part,) = tmp_path.glob(".g~*.part")
    options = {"encoder": encoder()}
    if change == "block":
        options["encoder"] = load_encoder("xyz", normalize=True, block_size=50)
    elif change == "dtype":
        options["dtype"] = "float16"
    elif change == "encoder":
        options["encoder"] = load_encoder("geoclip.v1", normalize=True, block_size=BLOCK)
    some = places(300) if change in ("places", "encoder") else places()
    with pytest.warns(GalleryBuildWarning, match=rf"lies in {re.escape(str(part))}.*begins anew"):
        made = Gallery.build(some, tmp_path / "g", **options)
    assert made.resumed == 0
    expected = options["encoder"].encode(*some.lonlat.T)
    np.testing.assert_allclose(made.embeddings, expected, atol=1e-3 * (change == "dtype"))
    # The first one is still there for its owner.
    back = Gallery.build(places(), tmp_path / "g", encoder=encoder(), force=True)
    assert back.resumed == 1000
    assert left_in(tmp_path) == []


def test_what_nobody_came_back_for_is_removed_after_a_week(tmp_path):
    interrupted(tmp_path / "g", 1000)
    (part,) = tmp_path.glob(".g~*.part")
    for days, there in ((6, True), (8, False)):
        then = time.time() - days * 24 * 3600
        os.utime(part, (then, then))
        Gallery.build(places(200), tmp_path / "other", encoder=encoder(), force=True)
        assert part.exists() == there


def test_a_part_of_another_machine_is_taken_only_when_nothing_happens_there(tmp_path):
    interrupted(tmp_path / "g", 1000)
    (part,) = tmp_path.glob(".g~*.part")
    there = part.rename(tmp_path / ".g~elsewhere~1~aa.part")
    assert Gallery.build(places(), tmp_path / "g", encoder=encoder()).resumed == 0
    assert there.exists()
    then = time.time() - 3600
    os.utime(there, (then, then))
    made = Gallery.build(places(), tmp_path / "g", encoder=encoder(), force=True)
    assert made.resumed == 1000
    assert not there.exists()


def test_a_part_that_is_locked_is_left_alone(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    interrupted(tmp_path / "g", 1000)
    (part,) = tmp_path.glob(".g~*.part")
    with (part / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = Gallery.build(places(), tmp_path / "g", encoder=encoder())
        assert made.resumed == 0
        assert part.exists()
    assert Gallery.build(places(), tmp_path / "g", encoder=encoder(), force=True).resumed == 1000


def test_without_locks_the_name_tells_whose_a_part_is(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    interrupted(tmp_path / "g", 1000)
    (part,) = tmp_path.glob(".g~*.part")
    assert not (part / "lock").exists()
    # Its process, this one, is alive: it may be at work in another thread.
    assert Gallery.build(places(), tmp_path / "g", encoder=encoder()).resumed == 0
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    part.rename(tmp_path / part.name.replace(f"~{os.getpid()}~", f"~{gone.pid}~"))
    made = Gallery.build(places(), tmp_path / "g", encoder=encoder(), force=True)
    assert made.resumed == 1000


def test_a_gallery_that_was_put_there_meanwhile_is_not_replaced_in_silence(tmp_path):
    slow = encoder()
    inner = slow.values

    def values(lonlat):
        if not (tmp_path / "g").exists():
            Gallery.build(places(200), tmp_path / "g", encoder=encoder())
        return inner(lonlat)

    slow.values = values
    with pytest.raises(TableError, match="another gallery was put there in the meantime.*kept"):
        Gallery.build(places(), tmp_path / "g", encoder=slow)
    assert len(load_gallery(tmp_path / "g")) == 200
    again = failing(0, StopError("nothing is left to encode"))
    made = Gallery.build(places(), tmp_path / "g", encoder=again, force=True)
    assert (made.resumed, len(load_gallery(tmp_path / "g"))) == (COUNT, COUNT)


def test_indexes_belong_to_a_gallery_and_go_when_it_is_replaced(tmp_path):
    made = Gallery.build(places(), tmp_path / "g", encoder=encoder())
    (made.folder / "indexes").mkdir()
    (made.folder / "indexes" / "graph").write_text("graph")
    assert len(load_gallery(tmp_path / "g")) == COUNT
    Gallery.build(places(100), tmp_path / "g", encoder=encoder(), force=True)
    assert not (tmp_path / "g" / "indexes").exists()
    # A folder that holds nothing else is none of ours.
    (tmp_path / "mine" / "indexes").mkdir(parents=True)
    with pytest.raises(OptionError, match="holds other things than a gallery"):
        Gallery.build(places(100), tmp_path / "mine", encoder=encoder(), force=True)


def test_a_replacement_that_was_killed_between_its_two_renames_loses_nothing(tmp_path):
    Gallery.build(places(300), tmp_path / "g", encoder=encoder())
    # As a process that is gone leaves it: the old gallery moved away, the new one not there yet.
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old = tmp_path / f".g~{parts.gethostname()}~{gone.pid}~aa.old"
    old.mkdir()
    (tmp_path / "g").rename(old / "old")
    with pytest.raises(OptionError, match="is there already"):
        Gallery.build(places(), tmp_path / "g", encoder=encoder())
    assert len(load_gallery(tmp_path / "g")) == 300


def test_a_gallery_moved_away_comes_back_when_its_neighbour_is_built(tmp_path):
    Gallery.build(places(300), tmp_path / "g", encoder=encoder())
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old = tmp_path / f".g~{parts.gethostname()}~{gone.pid}~aa.old"
    old.mkdir()
    (tmp_path / "g").rename(old / "old")
    Gallery.build(places(200), tmp_path / "other", encoder=encoder())
    assert len(load_gallery(tmp_path / "g")) == 300
    assert left_in(tmp_path) == []


def test_ctrl_c_between_the_two_renames_loses_neither_gallery(tmp_path, monkeypatch):
    folder, rename = tmp_path / "g", Path.rename
    Gallery.build(places(300), folder, encoder=encoder())

    def stopped(path, target):
        if path.suffix == ".part" and target == folder:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stopped)
        with pytest.raises(KeyboardInterrupt):
            Gallery.build(places(), folder, encoder=encoder(), force=True)
    assert len(load_gallery(folder)) == 300
    made = Gallery.build(places(), folder, encoder=encoder(), force=True)
    assert (made.resumed, len(load_gallery(folder))) == (COUNT, COUNT)
    assert left_in(tmp_path) == []


def test_tidying_up_for_one_gallery_never_holds_the_part_of_another(tmp_path, monkeypatch):
    interrupted(tmp_path / "g", 1000)
    held = []
    inner = parts._held
    monkeypatch.setattr(parts, "_held", lambda left: (held.append(left.name), inner(left))[1])
    parts.sweep(tmp_path / "other")
    assert held == []


# -- real processes, killed at any moment ---------------------------------------------------------


def build_slowly(folder, seconds, tell=None):
    slow = encoder()
    inner = slow.values
    slow.values = lambda lonlat: (time.sleep(seconds), inner(lonlat))[1]
    made = Gallery.build(places(), folder, encoder=slow, force=True, progress=False)
    if tell is not None:
        tell.send(made.resumed)


def start(*arguments, target=build_slowly):
    """Fork a process, which begins at once: there is time for many kills."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
        process.start()
    return process


def test_killed_at_random_moments_it_gets_there_in_the_end(tmp_path):
    folder, chance, kills = tmp_path / "g", random.Random(3), 0
    for _ in range(100):
        process = start(folder, 0.01)
        process.join(chance.uniform(0.02, 0.3))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        # There is no gallery, or a whole one; and no second part is ever begun.
        if folder.exists():
            break
        assert len(list(tmp_path.glob(".g~*.part"))) <= 1
    assert kills >= 3
    expected = encoder().encode(*LONLAT.T)
    np.testing.assert_array_equal(load_gallery(folder).embeddings, expected)
    Gallery.build(places(), folder, encoder=encoder(), force=True)
    assert left_in(tmp_path) == []


def end_at(moment, folder):
    """Replace a gallery, in a process that is killed at some moment after the last vector."""
    rename, unlink = Path.rename, Path.unlink

    def end(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def renaming(path, target):
        if moment == "between the renames" and path.suffix == ".part" and target == folder:
            end()
        return rename(path, target)

    def unlinking(path, **options):
        if moment == "after the renames" and path.parent == folder:
            end()
        return unlink(path, **options)

    Path.rename, Path.unlink = renaming, unlinking
    if moment == "while digests are made":
        store_module.digest_array = end
    elif moment == "before the renames":
        store_module._rename = end
    build_slowly(folder, 0.0)


@pytest.mark.parametrize(
    "moment",
    [
        "while digests are made",
        "before the renames",
        "between the renames",
        "after the renames",
    ],
)
def test_a_replacement_killed_at_the_end_loses_neither_the_old_gallery_nor_the_new(
    tmp_path, moment
):
    folder = tmp_path / "g"
    Gallery.build(places(300), folder, encoder=encoder())
    process = start(moment, folder, target=end_at)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(OptionError, match="is there already"):
        Gallery.build(places(), folder, encoder=encoder())
    new = moment == "after the renames"
    assert len(load_gallery(folder)) == (COUNT if new else 300)
    made = Gallery.build(places(), folder, encoder=encoder(), force=True)
    assert made.resumed == (0 if new else COUNT)
    np.testing.assert_array_equal(made.embeddings, encoder().encode(*LONLAT.T))
    assert left_in(tmp_path) == []


def test_two_processes_at_once_each_do_their_own_and_one_that_is_killed_is_followed(tmp_path):
    folder, expected = tmp_path / "g", encoder().encode(*LONLAT.T)
    ours, theirs = multiprocessing.Pipe()
    first, second = start(folder, 0.05), start(folder, 0.05, theirs)
    deadline = time.monotonic() + 60
    while True:
        found = [parts._progress(part)[1] for part in tmp_path.glob(".g~*.part")]
        if len(found) == 2 and min(found) >= 300:
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    third = start(folder, 0.0, theirs)
    third.join(60)
    # It went on with the part of the dead one, and left the other's alone.
    assert ours.recv() >= 300
    np.testing.assert_array_equal(load_gallery(folder).embeddings, expected)
    second.join(60)
    assert (second.exitcode, ours.recv()) == (0, 0)
    np.testing.assert_array_equal(load_gallery(folder).embeddings, expected)
    assert left_in(tmp_path) == []


def test_ctrl_c_keeps_what_is_done_and_says_so(tmp_path):
    error = interrupted(tmp_path / "g", 700, error=KeyboardInterrupt())
    assert "700 of 4,000 places are encoded and kept for a week" in error.__notes__[0]
    assert Gallery.build(places(), tmp_path / "g", encoder=encoder()).resumed == 700


# -- full disks -----------------------------------------------------------------------------------


def full_after(monkeypatch, size):
    """Have the system refuse to write files beyond so many bytes, as a full disk does."""
    resource = pytest.importorskip("resource")
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def test_a_disk_that_fills_up_midway_keeps_what_is_done(tmp_path, monkeypatch):
    room = full_after(monkeypatch, 100_000)
    try:
        with pytest.raises(TableError, match=r"File too large\. [\d,]+ of 4,000 places are enco"):
            Gallery.build(places(), tmp_path / "g", encoder=load_encoder(
                "geoclip.v1", normalize=True, block_size=20))  # fmt: skip
        (part,) = tmp_path.glob(".g~*.part")
    finally:
        room()
    done = parts._progress(part)[1]
    assert 20 <= done <= 48
    assert done % 20 == 0
    some = np.load(tmp_path / part / "lonlat.npy")
    np.testing.assert_array_equal(some, LONLAT)


def test_a_disk_without_room_is_told_before_anything_is_encoded(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(growing.shutil, "disk_usage", lambda _: usage(10, 10, 10_000))
    idle = failing(0, StopError("it began to encode"))
    with pytest.raises(TableError, match=r"No space left.* 0\.\d\d GB are needed and 0\.00 GB"):
        Gallery.build(places(), tmp_path / "g", encoder=idle)
    assert list(tmp_path.iterdir()) == []


def test_vectors_that_fit_neither_the_cache_nor_memory_are_an_error(monkeypatch, cache):
    from geoembed.galleries import cache as cache_module

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    made = encoder()
    inner, seen = made.values, []

    def values(lonlat):
        seen.append(len(lonlat))
        if sum(seen) > 500:
            full()
        return inner(lonlat)

    made.values = values
    monkeypatch.setattr(cache_module, "_free_memory", lambda: 1000)
    with pytest.raises(TableError, match=r"do not fit into the 0\.0 GB.*500 of 4,000 places"):
        Gallery.of(places(), encoder=made)
    assert sum(seen) == 600


# -- memory ---------------------------------------------------------------------------------------

MEMORY = """
import sys
from pathlib import Path
import geopandas as gpd
import numpy as np
from geoembed.encoders import load_encoder
from geoembed.galleries import Gallery, GalleryPlaces
encoder = load_encoder("xyz", normalize=True, block_size=5_000)
wide = np.ones((1, 512), np.float32) / np.float32(512) ** 0.5
encoder.values = lambda lonlat: np.repeat(wide, len(lonlat), axis=0)
type(encoder).dimension = property(lambda self: 512)
def peak():
    line = next(li for li in open("/proc/self/status") if li.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3
for rows in (50_000, 150_000):
    lonlat = np.random.default_rng(0).uniform(-80, 80, (rows, 2))
    places = GalleryPlaces.of(lonlat, name="many")
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    Gallery.build(places, Path(sys.argv[1], str(rows)), encoder=encoder, dtype="float16")
    print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
def test_memory_does_not_grow_with_the_vectors(tmp_path):
    command = [sys.executable, "-c", MEMORY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    few, many = map(float, done.stdout.split())
    # 102 MB of vectors more.
    assert many < few + 30
    assert many < 90


# -- the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assigned", "said"),
    [
        ([slice(0, 1), slice(2, 3)], r"Rows 2 to 3 .* do not follow the 1 rows"),
        ([slice(0, 1), slice(0, 1)], r"Rows 0 to 1 .* do not follow the 1 rows"),
        ([slice(0, 2)], r"values \(1, 2\) do not follow"),
        ([slice(0, 1)], "1 of 3 rows were written"),
    ],
)
def test_rows_are_taken_in_order_and_all_of_them(tmp_path, assigned, said):
    def write():
        with GrowingVectors(tmp_path / "a.npy", (3, 2), "float32") as rows:
            for some in assigned:
                rows[some] = np.zeros((1, 2))

    with pytest.raises(ValueError, match=said):
        write()


def test_a_whole_array_is_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "_PIECE", 64)
    table = np.random.default_rng(0).random((1000, 3))
    for dtype in ("float16", "float32"):
        with GrowingVectors(tmp_path / "a.npy", table.shape, dtype) as rows:
            rows[:] = table
        np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), table.astype(dtype))


def test_only_whole_blocks_are_recorded_however_small_the_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "_PIECE", 64)
    monkeypatch.setattr(growing, "_BYTES", 200)
    table, safe = np.random.default_rng(0).random((300, 3)), []
    target = tmp_path / "a.npy"

    class Torn(np.ndarray):
        def __getitem__(self, rows):
            if isinstance(rows, slice) and rows.start == 50:
                raise KeyboardInterrupt
            return super().__getitem__(rows)

    def write():
        with GrowingVectors(target, table.shape, "float32", record=safe.append) as rows:
            rows[0:100] = table[:100]
            rows[100:200] = table[100:200].view(Torn)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert set(safe) == {100}
    with GrowingVectors(target, table.shape, "float32", done=100, record=safe.append) as rows:
        rows[100:200] = table[100:200]
        rows[200:300] = table[200:]
    np.testing.assert_array_equal(np.load(target), table.astype("float32"))


def test_a_gallery_saved_is_begun_anew_and_leaves_nothing_when_it_fails(tmp_path, monkeypatch):
    gallery = Gallery.of(places(), encoder=encoder())

    def torn(out):
        out[0:100] = gallery.embeddings[:100]
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(TableError, match=r"cannot be written to .*: Input/output error\.$"):
        publish_folder(
            tmp_path / "g", gallery.facts, gallery.places, gallery.embeddings.shape,
            gallery.dtype, torn, force=False,
        )  # fmt: skip
    assert left_in(tmp_path) == []


def test_a_part_is_never_taken_for_a_gallery(tmp_path):
    interrupted(tmp_path / "g", 1000)
    (part,) = tmp_path.glob(".g~*.part")
    with pytest.raises(TableError, match=r"is no gallery: it has no gallery\.json"):
        Gallery.load(part)


# -- places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["distinct", "few equal", "most equal", "all equal", "zeros"])
def test_equal_places_are_merged_as_a_dictionary_does(kind):
    rng = np.random.default_rng(1)
    table = rng.uniform((-180, -90), (180, 90), size=(3000, 2))
    if kind == "few equal":
        table[rng.integers(0, 3000, 90)] = table[rng.integers(0, 3000, 90)]
    elif kind == "most equal":
        table = table[rng.integers(0, 50, 3000)]
    elif kind == "all equal":
        table[:] = table[0]
    elif kind == "zeros":
        table = rng.choice([-0.0, 0.0, 1.0, -180.0, 180.0], size=(3000, 2)) * [1.0, 0.5]
    counts = rng.integers(1, 9, len(table))
    expected = {}
    for place, count in zip(map(tuple, table.tolist()), counts.tolist(), strict=True):
        expected[place] = expected.get(place, 0) + count
    before = table.copy()
    found = GalleryPlaces.of(table, counts, name="some")
    assert [tuple(place) for place in found.lonlat.tolist()] == list(expected)
    assert found.counts.tolist() == list(expected.values())
    assert not np.signbit(found.lonlat[found.lonlat == 0.0]).any()
    np.testing.assert_array_equal(table, before)
    assert not np.shares_memory(found.lonlat, table)


def test_places_whose_hashes_are_equal_stay_apart(monkeypatch):
    from geoembed.galleries import places as module

    monkeypatch.setattr(module, "_hash", lambda lonlat: _hash(lonlat) % np.uint64(97))
    found = GalleryPlaces.of(np.concatenate([LONLAT, LONLAT[:5]]), name="some")
    np.testing.assert_array_equal(found.lonlat, LONLAT)
    assert found.counts[:6].tolist() == [2, 2, 2, 2, 2, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 180.5])
def test_a_place_that_is_none_is_named(bad):
    table = LONLAT.copy()
    table[[17, 40], 0] = bad
    with pytest.raises(CoordinateError, match="2 of 4,000 places .* the first at position 17"):
        GalleryPlaces.of(table, name="some")


# -- the command ----------------------------------------------------------------------------------


def table_in(folder, rows=COUNT, files=1):
    frame = pd.DataFrame({"lon": LONLAT[:, 0], "lat": LONLAT[:, 1]})[:rows]
    frame["what"] = "a text that nobody reads"
    folder.mkdir()
    for number in range(files):
        part = folder / f"kind={number}"
        part.mkdir()
        frame[number::files].to_parquet(part / "rows.parquet")
    return folder


def test_a_hive_folder_of_parquet_becomes_a_gallery(tmp_path, capsys):
    source = table_in(tmp_path / "shops", files=3)
    arguments = ["gallery", "build", str(source), "-o", str(tmp_path / "g"), "--encoder", "xyz"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("shops: 4,000 places, ")
    expected = np.concatenate([LONLAT[number::3] for number in range(3)])
    np.testing.assert_array_equal(load_gallery(tmp_path / "g").lonlat, expected)


def test_of_a_table_only_the_places_are_read(tmp_path, monkeypatch, capsys):
    from geoembed.streaming import parquet_source

    seen = set()
    inner = parquet_source.ParquetSource.tables

    def tables(self):
        for table in inner(self):
            seen.update(table.schema.names)
            yield table

    monkeypatch.setattr(parquet_source.ParquetSource, "tables", tables)
    source = table_in(tmp_path / "shops") / "kind=0" / "rows.parquet"
    arguments = ["gallery", "build", str(source), "-o", str(tmp_path / "g"), "--encoder", "xyz"]
    assert main(arguments) == 0
    assert seen == {"lon", "lat"}


def test_columns_and_crs_of_a_table_can_be_named(tmp_path, capsys):
    frame = pd.DataFrame({"east": [111_319.490793], "north": [0.0]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    arguments = ["gallery", "build", str(tmp_path / "a.csv"), "-o", str(tmp_path / "g")]
    arguments += ["--encoder", "xyz"]
    assert main(arguments) == 1
    assert "On the command line: --lon-column NAME" in capsys.readouterr().err
    arguments += ["--lon-column", "east", "--lat-column", "north", "--crs", "EPSG:3857"]
    assert main(arguments) == 0
    np.testing.assert_allclose(load_gallery(tmp_path / "g").lonlat, [[1.0, 0.0]], atol=1e-9)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_tells_what_is_kept_and_what_was_done_before(
    tmp_path, monkeypatch, capsys, sent, code
):
    from geoembed.galleries import making

    arguments = ["gallery", "build", "--grid", "500", "--encoder", "xyz", "-o", str(tmp_path / "g")]
    with monkeypatch.context() as patch:

        def stopping(made, lonlat, out, *, start, progress):
            out[start : start + 100] = made.finish(made.values(lonlat[start : start + 100]))
            os.kill(os.getpid(), sent)
            time.sleep(10)

        patch.setattr(making, "encode_rows", stopping)
        assert main(arguments) == code
    err = capsys.readouterr().err
    assert re.search(r"100 of [\d,]+ places are encoded and kept for a week, in ", err)
    assert main(arguments) == 0
    assert re.search(r"places \(100 done before\), ", capsys.readouterr().out)


def test_backend_and_precision_reach_the_encoder_and_are_remembered(tmp_path):
    pytest.importorskip("onnxruntime")
    some = places(50)
    options = {"backend": "onnx", "precision": "int8"}
    made = Gallery.build(some, tmp_path / "g", encoder="bluemarble.v1", dtype="float16", **options)
    assert (made.facts["backend"], made.facts["precision"]) == ("onnx", "int8")
    exact = load_encoder("bluemarble.v1", normalize=True).encode(*some.lonlat.T)
    cosines = np.sum(made.embeddings.astype(np.float32) * exact, axis=1)
    assert 0.99 < cosines.min() < 0.9999999
    assert load_gallery(tmp_path / "g").load_encoder().precision == "int8"
    with pytest.raises(OptionError, match="is loaded already and takes no precision or backend"):
        Gallery.of(some, encoder=encoder(), **options)


def test_the_description_says_what_the_vectors_are(tmp_path):
    made = Gallery.build(places(), tmp_path / "g", encoder=encoder())
    facts = json.loads((made.folder / "gallery.json").read_text())
    assert facts["sha256"]["embeddings"] == store_module.digest_array(
        made.folder / "embeddings.npy"
    )
    assert made.facts["sha256"] == facts["sha256"]


@pytest.mark.parametrize("resolution", [0, 2])
def test_cells_of_h3_come_in_the_order_of_their_numbers(resolution):
    h3 = pytest.importorskip("h3")
    cells = sorted(
        cell for root in h3.get_res0_cells() for cell in h3.cell_to_children(root, resolution)
    )
    expected = np.array([h3.cell_to_latlng(cell)[::-1] for cell in cells])
    np.testing.assert_array_equal(h3_places(resolution, land_only=False).lonlat, expected)


def test_cells_of_h3_in_polygons_are_each_there_once(monkeypatch):
    h3 = pytest.importorskip("h3")
    # The two boxes share cells, and 500 cells are a block.
    boxes = gpd.GeoSeries([shapely.box(10, 40, 14, 44), shapely.box(13, 40, 17, 44)], crs=4326)
    monkeypatch.setattr(builders, "_H3_BLOCK", 500)
    found = h3_places(5, boxes, land_only=False).lonlat
    cells = {cell for box in boxes for cell in h3.geo_to_cells(box, 5)}
    assert len(cells) > 600
    expected = np.array([h3.cell_to_latlng(cell)[::-1] for cell in sorted(cells)])
    np.testing.assert_array_equal(found, expected)
