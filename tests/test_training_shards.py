"""Pictures in tars: ours and others', whole and damaged, in any process."""

import io
import json
import multiprocessing
import os
import pickle
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image

from geoembed.errors import CoordinateError, OptionError, PictureError, TableError
from geoembed.training import shard_files
from geoembed.training.opening import open_data
from geoembed.training.settings import DataSettings
from geoembed.training.shard_index import ShardWarning, index_of
from geoembed.training.shards import ShardPictures


def png(value, size=(6, 4)):
    file = io.BytesIO()
    Image.new("RGB", size, (value, 255 - value, 7)).save(file, "PNG")
    return file.getvalue()


def jpeg(value):
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (value, value, value)).save(file, "JPEG")
    return file.getvalue()


def place(lon, lat, **more):
    return json.dumps({"lon": lon, "lat": lat, **more}).encode()


def write(path, members, **options):
    """Write a tar as other tools do, with times and owners in it."""
    with tarfile.open(path, options.pop("mode", "w"), **options) as tar:
        for at, (name, data) in enumerate(members):
            member = tarfile.TarInfo(name)
            if data is None:
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
                continue
            member.size, member.mtime, member.uname = len(data), 1_700_000_000 + at, "someone"
            tar.addfile(member, io.BytesIO(data))


def sample(number, lon=None, lat=None):
    lon, lat = (10.0 + number, 47.0) if lon is None else (lon, lat)
    return [(f"{number:04d}.png", png(number)), (f"{number:04d}.json", place(lon, lat))]


@pytest.fixture
def folder(tmp_path):
    """Return a folder with three tars of 4, 1 and 3 pictures."""
    shards = tmp_path / "shards"
    shards.mkdir()
    for tar, numbers in enumerate([range(4), range(4, 5), range(5, 8)]):
        members = [member for number in numbers for member in sample(number)]
        write(shards / f"train-{tar:03d}.tar", members)
    return shards


def colours(pictures):
    return [pictures.picture(row).getpixel((3, 2)) for row in range(len(pictures))]


EXPECTED = [(number, 255 - number, 7) for number in range(8)]


def test_rows_are_the_samples_of_all_tars(folder):
    pictures = ShardPictures(folder)
    assert len(pictures) == 8
    assert colours(pictures) == EXPECTED
    assert pictures.lonlat.tolist() == [[10.0 + n, 47.0] for n in range(8)]
    assert list(pictures.names) == [f"{n:04d}" for n in range(8)]
    assert pictures.names[-2:] == ["0006", "0007"]
    assert pictures.read(5) == png(5)
    assert pictures.missing == pictures.reasons == []
    alone = ShardPictures(folder / "train-002.tar")
    assert colours(alone) == EXPECTED[5:]


def test_rows_beyond_the_last_are_refused(folder):
    pictures = ShardPictures(folder)
    for row in (8, -1):
        with pytest.raises(PictureError, match=rf"There is no row {row}: they run from 0 to 7"):
            pictures.picture(row)
    with pytest.raises(IndexError, match="row 8 of 8"):
        pictures.names[8]


def test_samples_of_other_tools(tmp_path):
    long = "folder/" + "x" * 150 + "/" + "y" * 120
    members = [
        (".", None),
        ("notes.txt", b"read me"),
        ("a.cls", b"17"),
        ("a.JPG", jpeg(10)),
        ("a.json", json.dumps({"LAT": 1, "LON": "20.5", "file": "flickr/a.jpg"}).encode()),
        ("deep/", None),
        ("deep/a.json", json.dumps({"latitude": 2.0, "Longitude": 190.0}).encode()),
        ("deep/a.txt", b"a caption"),
        ("deep/a.jpeg", jpeg(20)),
        ("deep/a.seg.png", png(99)),
        ("both.webp", b"not looked at"),
        ("both.png", png(30)),
        ("both.json", place(3.0, 4.0)),
        ("._both.png", b"what a Mac writes"),
        ("__MACOSX/._both.json", b"the same"),
        (f"{long}.jpg", jpeg(40)),
        (f"{long}.json", json.dumps({"lng": 5.0, "lat": 6.0}).encode()),
        ("ümlaut.gif", b"GIF89a"),
        ("ümlaut.json", place(7.0, 8.0)),
    ]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        write(tmp_path / "x.tar", members, format=form)
        pictures = ShardPictures(tmp_path, on_invalid="drop")
        assert list(pictures.names) == ["flickr/a.jpg", "deep/a", "both", long, "ümlaut"]
        assert pictures.lonlat.tolist() == [[20.5, 1], [-170, 2], [3, 4], [5, 6], [7, 8]]
        assert pictures.read(0) == jpeg(10)
        assert pictures.read(1) == jpeg(20)
        assert pictures.read(2) == png(30)
        assert pictures.read(3) == jpeg(40)
        assert dict(zip(pictures.missing, pictures.reasons, strict=True)) == {
            "notes": "It has no picture, only .txt."
        }


BAD = {
    "no-json": ({"png": png(1)}, r"It has no .json"),
    "no-picture": ({"json": place(1, 2), "txt": b""}, r"It has no picture, only .json, .txt"),
    "no-object": ({"png": png(1), "json": b"[1, 2]"}, r"cannot be read as an object"),
    "torn": ({"png": png(1), "json": b'{"lon": 1'}, r"cannot be read as an object"),
    "no-place": ({"png": png(1), "json": b'{"x": 1}'}, r"no longitude and latitude"),
    "two-places": (
        {"png": png(1), "json": b'{"lon": 1, "lng": 2, "lat": 3}'},
        r"Several columns could be the longitude: 'lon', 'lng'",
    ),
    "null": ({"png": png(1), "json": b'{"lon": null, "lat": 3}'}, r"no pair of numbers"),
    "true": ({"png": png(1), "json": b'{"lon": true, "lat": 3}'}, r"no pair of numbers"),
    "nan": ({"png": png(1), "json": b'{"lon": NaN, "lat": 3}'}, r"out of range: lon nan"),
    "far": ({"png": png(1), "json": place(3, 95)}, r"out of range: lon 3, lat 95"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_samples_are_refused_or_listed(tmp_path, name):
    parts, reason = BAD[name]
    members = [*sample(0), *((f"{name}.{kind}", data) for kind, data in parts.items()), *sample(1)]
    write(tmp_path / "x.tar", members)
    with pytest.raises(TableError, match=rf"1 sample of .* cannot be used, and 2 can: {name}: .*"):
        ShardPictures(tmp_path)
    for _ in range(2):  # read from the tar, then from its index
        pictures = ShardPictures(tmp_path, on_invalid="drop")
        assert list(pictures.names) == ["0000", "0001"]
        assert pictures.missing == [name]
        with pytest.raises(TableError, match=reason):
            raise TableError(pictures.reasons[0])


def test_a_member_twice_is_told(tmp_path):
    members = [*sample(0), ("0000.png", png(200)), *sample(1)]
    write(tmp_path / "x.tar", members)
    with pytest.raises(TableError, match=r"0000: It has .png twice: the first one is read"):
        ShardPictures(tmp_path)
    pictures = ShardPictures(tmp_path, on_invalid="drop")
    assert colours(pictures) == EXPECTED[:2]


def test_a_run_stops_above_the_share_of_bad_samples(tmp_path):
    members = [*sample(0), *sample(1), ("x.png", png(1)), *sample(2)]
    write(tmp_path / "x.tar", members)
    settings = DataSettings(kind="shards", path=str(tmp_path), on_invalid="drop", max_bad=0.25)
    assert len(open_data(settings)) == 3
    with pytest.raises(TableError, match=r"1 of 4 pictures \(25 %\) .*max_bad = 0.1: x: It has no"):
        open_data(settings.model_copy(update={"max_bad": 0.1}))


def test_tars_without_any_picture(tmp_path):
    write(tmp_path / "x.tar", [])
    with pytest.raises(TableError, match=r"hold no picture with a place"):
        ShardPictures(tmp_path)
    write(tmp_path / "x.tar", [("a.txt", b"text"), ("a.json", place(1, 2))])
    with pytest.raises(TableError, match=r"hold no picture with a place: a: It has no picture"):
        ShardPictures(tmp_path, on_invalid="drop")


def test_an_empty_tar_among_others_is_fine(folder):
    write(folder / "train-003.tar", [])
    assert len(ShardPictures(folder)) == 8


def test_folders_without_tars(tmp_path):
    with pytest.raises(OptionError, match=r"There is no folder .*nowhere"):
        ShardPictures(tmp_path / "nowhere")
    with pytest.raises(TableError, match=r"There are no tars \(\*.tar\) in"):
        ShardPictures(tmp_path)
    write(tmp_path / "x.tar.gz", sample(0), mode="w:gz")
    with pytest.raises(TableError, match=r"x.tar.gz is compressed: unpack it"):
        ShardPictures(tmp_path)
    with pytest.raises(OptionError, match=r"on_invalid='keep' is not one of"):
        ShardPictures(tmp_path, on_invalid="keep")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_compressed_tars_under_a_plain_name(tmp_path, mode):
    write(tmp_path / "x.tar", sample(0), mode=mode)
    with pytest.raises(TableError, match=r"x.tar is compressed: its pictures cannot be found"):
        ShardPictures(tmp_path)


def test_a_tar_cut_off_anywhere_is_never_read_as_a_shorter_one(tmp_path):
    tar = tmp_path / "x.tar"
    write(tar, [member for number in range(3) for member in sample(number)])
    whole = tar.read_bytes()
    # The end of the data: behind it there are zeros only.
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    cuts = [*range(0, end + 1, 512), *range(100, end, 777), end + 512, end + 1000]
    for cut in cuts:
        tar.write_bytes(whole[:cut])
        with pytest.raises(TableError, match=rf"x.tar is cut off or damaged: .* of {cut:,} bytes"):
            ShardPictures(tmp_path)
    tar.write_bytes(whole[: end + 1024])
    assert len(ShardPictures(tmp_path)) == 3


def test_a_damaged_header_is_told(tmp_path):
    tar = tmp_path / "x.tar"
    write(tar, [member for number in range(3) for member in sample(number)])
    whole = bytearray(tar.read_bytes())
    whole[2048 + 150] ^= 0xFF  # the check sum of the third header
    tar.write_bytes(whole)
    with pytest.raises(TableError, match=r"x.tar is cut off or damaged: there is no end mark"):
        ShardPictures(tmp_path)
    tar.write_bytes(b"\xff" * 5000)
    with pytest.raises(TableError, match=r"x.tar is cut off or damaged"):
        ShardPictures(tmp_path)


def test_a_shard_that_was_there_is_missed(folder):
    ShardPictures(folder)
    (folder / "train-001.tar").unlink()
    with pytest.raises(TableError, match=r"1 shard of .* is missing, .*: train-001.tar. Bring"):
        ShardPictures(folder)
    (folder / "train-001.tar.index").unlink()
    with pytest.warns(ShardWarning, match=r"numbers of train-\*.tar run from 0 to 2 without 1"):
        assert len(ShardPictures(folder)) == 7


def test_dates_are_no_numbers_with_gaps(tmp_path):
    write(tmp_path / "20230101.tar", sample(0))
    write(tmp_path / "20240101.tar", sample(1))
    assert len(ShardPictures(tmp_path)) == 2


def test_the_index_is_kept_beside_the_tar_and_made_anew_with_it(folder, monkeypatch):
    first = ShardPictures(folder)
    assert (folder / "train-000.tar.index").is_file()
    with monkeypatch.context() as patch:
        patch.setattr("geoembed.training.shard_index.read_tar", None)
        again = ShardPictures(folder)
    assert again.digest == first.digest
    assert colours(again) == EXPECTED
    write(folder / "train-000.tar", sample(77))
    assert colours(ShardPictures(folder)) == [(77, 178, 7), *EXPECTED[4:]]
    # Equal in size, of another time.
    write(folder / "train-000.tar", sample(78))
    os.utime(folder / "train-000.tar", ns=(1, 1))
    changed = ShardPictures(folder)
    assert colours(changed) == [(78, 177, 7), *EXPECTED[4:]]
    assert changed.digest != first.digest


def test_no_bit_of_an_index_can_turn_unseen(folder):
    expected = ShardPictures(folder)
    index = folder / "train-000.tar.index"
    whole = index.read_bytes()
    for at in range(0, len(whole), 61):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        index.write_bytes(damaged)
        found = ShardPictures(folder)
        assert index.read_bytes() == whole
        assert (found.digest, list(found.names)) == (expected.digest, list(expected.names))
        assert np.array_equal(found.lonlat, expected.lonlat)


@pytest.mark.parametrize("content", [b"", b"no parquet", None])
def test_a_damaged_index_is_made_anew(folder, content):
    expected = ShardPictures(folder)
    index = folder / "train-000.tar.index"
    index.write_bytes(index.read_bytes()[:300] if content is None else content)
    assert ShardPictures(folder).digest == expected.digest
    assert colours(ShardPictures(folder)) == EXPECTED


def test_the_index_goes_to_the_cache_where_the_folder_cannot_be_written(
    folder, own_cache, monkeypatch
):
    # A folder in its place: not even the administrator writes there.
    (folder / "train-000.tar.index" / "x").mkdir(parents=True)
    first = ShardPictures(folder)
    kept = list((own_cache / "shards").iterdir())
    assert len(kept) == 1
    assert (folder / "train-001.tar.index").is_file()
    monkeypatch.setattr("geoembed.training.shard_index.read_tar", None)
    assert ShardPictures(folder).digest == first.digest
    assert not list(folder.glob("*.part"))


def test_an_index_that_can_be_kept_nowhere_is_told(folder, own_cache):
    (folder / "train-000.tar.index" / "x").mkdir(parents=True)
    (own_cache / "shards").write_text("in the way")
    with pytest.warns(ShardWarning, match=r"index of a shard can be kept nowhere"):
        pictures = ShardPictures(folder)
    assert colours(pictures) == EXPECTED


def test_the_digest_stands_for_names_places_and_pictures(folder, tmp_path):
    before = ShardPictures(folder).digest
    copied = tmp_path / "copied"
    copied.mkdir()
    for tar in folder.glob("*.tar"):
        (copied / tar.name).write_bytes(tar.read_bytes())
    assert ShardPictures(copied).digest == before
    tar = copied / "train-001.tar"
    for members in (
        sample(4, 14.0, 47.5),
        [("0009.png", png(4)), ("0009.json", place(14.0, 47.0))],
        [("0004.png", png(4, (70, 40))), ("0004.json", place(14.0, 47.0))],
    ):
        write(tar, members)
        changed = ShardPictures(copied)
        assert changed.digest != before
        assert ShardPictures(copied).digest == changed.digest


def read_all(pictures, queue):
    queue.put([pictures.read(row) for row in range(len(pictures))])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_each_process_opens_files_for_itself(folder):
    pictures = ShardPictures(folder)
    expected = [pictures.read(row) for row in range(8)]  # handles are open when it is forked
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=read_all, args=(pictures, queue)) for _ in range(3)]
    with pictures._files._lock:  # as if another thread was reading just then
        for process in processes:
            process.start()
    found = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert found == [expected] * 3


def test_it_can_be_pickled(folder):
    pictures = ShardPictures(folder)
    pictures.picture(0)
    copy = pickle.loads(pickle.dumps(pictures))
    assert colours(copy) == EXPECTED
    assert copy.digest == pictures.digest


def test_many_threads_and_few_open_files(folder, monkeypatch):
    monkeypatch.setattr(shard_files, "_OPEN", 1)
    pictures = ShardPictures(folder)
    expected = [pictures.read(row) for row in range(8)]
    wrong = []

    def read(seed):
        rows = np.random.default_rng(seed).integers(0, 8, 300)
        wrong.extend(row for row in rows if pictures.read(row) != expected[row])

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(pictures._files._handles) == 1


def test_files_are_closed_when_they_are_done_with(folder):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("open files cannot be counted on this system")

    def count():
        total = 0
        for fd in os.listdir("/proc/self/fd"):
            try:
                total += str(folder) in os.readlink(f"/proc/self/fd/{fd}")
            except OSError:  # the listing's own
                continue
        return total

    pictures = ShardPictures(folder)
    colours(pictures)
    assert count() == 3
    del pictures
    assert count() == 0


def test_a_shard_that_goes_away_during_a_run_ends_it(folder):
    pictures = ShardPictures(folder)
    (folder / "train-001.tar").unlink()
    # No PictureError: a picture that cannot be read is only counted.
    with pytest.raises(TableError, match=r"train-001.tar cannot be read: No such file"):
        pictures.picture(4)
    tar = folder / "train-002.tar"
    tar.write_bytes(tar.read_bytes()[:600])
    with pytest.raises(TableError, match=r"train-002.tar has become shorter .* picture 0006"):
        pictures.picture(6)


def test_pictures_that_cannot_be_decoded_say_which(tmp_path):
    whole = png(5, (64, 64))
    members = [("a.png", whole[: len(whole) // 2]), ("a.json", place(1.0, 45.0)), *sample(1)]
    write(tmp_path / "x.tar", members)
    pictures = ShardPictures(tmp_path)
    with pytest.raises(PictureError, match=r"^a: It is (cut off|damaged)"):
        pictures.picture(0)
    assert pictures.picture(1).getpixel((0, 0)) == EXPECTED[1]


def test_swapped_places_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    # Inland Brazil; the other way round it is the South Atlantic.
    lon, lat = rng.uniform(-56, -46, 40), rng.uniform(-14, -6, 40)
    write(tmp_path / "x.tar", [m for n in range(40) for m in sample(n, lon[n], lat[n])])
    assert len(ShardPictures(tmp_path)) == 40
    write(tmp_path / "x.tar", [m for n in range(40) for m in sample(n, lat[n], lon[n])])
    with pytest.raises(CoordinateError, match=r"in the .json members of .* look swapped"):
        ShardPictures(tmp_path)


def test_an_index_of_no_tar(tmp_path):
    with pytest.raises(TableError, match=r"Shard .*x.tar cannot be read: No such file"):
        index_of(tmp_path / "x.tar")
