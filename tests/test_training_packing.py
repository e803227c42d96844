"""Pictures packed into shards: checked, the same bytes each time, whatever stops it."""

import errno
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from geoembed.errors import CoordinateError, OptionError, TableError
from geoembed.training import packing, packing_folder, shard_writing
from geoembed.training.manifest import FolderPictures
from geoembed.training.packing import BadPicture, pack
from geoembed.training.shards import ShardPictures

KINDS = ("rgb.jpg", "l.jpg", "cmyk.jpg", "rgba.png", "palette.png", "deep.png", "turned.jpg")
KINDS += ("lossless.webp", "moving.gif", "old.bmp", "camera.tif", "plain.ppm", "wrong-name.jpg")


def noise(seed, width=24, height=16):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def table_of(names):
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(-170, 170, len(names)), rng.uniform(-60, 70, len(names))
    return pd.DataFrame({"IMG_FILE": names, "LAT": lat, "LON": lon})


@pytest.fixture
def photos(tmp_path):
    """Return a folder of ten pictures, of which two are bad and one is missing."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(10):
        noise(number).save(folder / f"{number}.jpg", quality=80)
    whole = (folder / "3.jpg").read_bytes()
    (folder / "3.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "5.jpg").write_bytes(b"<html>not here</html>")
    (folder / "8.jpg").unlink()
    return folder


@pytest.fixture
def table():
    return table_of([f"{number}.jpg" for number in range(10)])


@pytest.fixture
def all_kinds(tmp_path):
    """Return a folder with a picture of every kind and mode, and its table."""
    folder = tmp_path / "kinds"
    folder.mkdir()
    image, grey = noise(0), noise(1).convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "rgb.jpg")
    grey.save(folder / "l.jpg")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    see_through = image.convert("RGBA")
    see_through.putalpha(grey)
    see_through.save(folder / "rgba.png")
    image.quantize(16).save(folder / "palette.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 200).save(folder / "deep.png")
    image.save(folder / "turned.jpg", exif=exif)
    image.save(folder / "lossless.webp", lossless=True)
    image.save(folder / "moving.gif", save_all=True, append_images=[noise(2)])
    image.save(folder / "old.bmp")
    image.save(folder / "camera.tif")
    image.save(folder / "plain.ppm")
    image.save(folder / "wrong-name.jpg", "PNG")
    return folder, table_of(list(KINDS))


def content(folder):
    """Every file but the indexes, which know when their tar was written."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".index"}


def test_shards_give_the_same_pictures_as_the_folder(all_kinds, tmp_path):
    folder, table = all_kinds
    packed = pack(table, folder, tmp_path / "shards", per_shard=5)
    assert (packed.pictures, packed.shards, packed.bad) == (len(KINDS), 3, ())
    plain, shards = FolderPictures(table, folder), ShardPictures(tmp_path / "shards")
    assert tuple(shards.names) == plain.names == KINDS
    assert np.array_equal(shards.lonlat, plain.lonlat)
    for row, name in enumerate(KINDS):
        assert shards.read(row) == (folder / name).read_bytes(), name
        ours, theirs = shards.picture(row), plain.picture(row)
        assert ours.mode == theirs.mode == "RGB"
        assert ours.size == theirs.size
        assert ours.tobytes() == theirs.tobytes(), name


def test_bad_pictures_are_left_out_and_listed(photos, table, tmp_path):
    shards = tmp_path / "shards"
    packed = pack(table, photos, shards, per_shard=4)
    assert packed.pictures == 7
    assert [(bad.row, bad.name) for bad in packed.bad] == [(3, "3.jpg"), (5, "5.jpg"), (8, "8.jpg")]
    reasons = [bad.reason for bad in packed.bad]
    assert reasons[0].startswith("It is cut off")
    assert reasons[1:] == ["It is not a picture but a web page.", "There is no such file."]
    listed = pd.read_csv(shards / "bad_pictures.csv")
    assert [BadPicture(*row) for row in listed.itertuples(index=False)] == list(packed.bad)
    pictures = ShardPictures(shards)
    assert list(pictures.names) == [f"{n}.jpg" for n in range(10) if n not in (3, 5, 8)]
    expected = table[["LON", "LAT"]].drop([3, 5, 8]).to_numpy()
    assert np.array_equal(pictures.lonlat, expected)
    assert pictures.missing == []


def test_shards_are_webdataset_tars(photos, table, tmp_path):
    pack(table, photos, tmp_path / "shards", per_shard=4)
    with tarfile.open(tmp_path / "shards" / "shard-000001.tar") as tar:
        members = tar.getmembers()
        names = [member.name for member in members]
        assert names == [f"{n:09d}.{kind}" for n in (4, 6, 7) for kind in ("jpg", "json")]
        assert {(member.mtime, member.uid, member.uname) for member in members} == {(0, 0, "")}
        assert tar.extractfile(members[2]).read() == (photos / "6.jpg").read_bytes()
        facts = json.loads(tar.extractfile(members[3]).read())
    lon, lat = table.loc[6, ["LON", "LAT"]]
    assert facts == {"lon": lon, "lat": lat, "file": "6.jpg", "row": 6}
    assert (tmp_path / "shards" / "shard-000001.tar").stat().st_size % 10240 == 0


def test_the_list_of_shards_has_their_sizes_and_digests(photos, table, tmp_path):
    import hashlib

    packed = pack(table, photos, tmp_path / "shards", per_shard=4)
    facts = json.loads((tmp_path / "shards" / "shards.json").read_text())
    assert (facts["pictures"], facts["bad"], facts["bytes"]) == (7, 3, packed.bytes)
    for shard in facts["shards"]:
        data = (tmp_path / "shards" / shard["file"]).read_bytes()
        assert shard["bytes"] == len(data)
        assert shard["sha256"] == hashlib.sha256(data).hexdigest()
    assert packed.to_dict()["bad"] == 3
    json.dumps(packed.to_dict())


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_the_bytes_do_not_depend_on_workers(photos, table, tmp_path, workers):
    pack(table, photos, tmp_path / "a", per_shard=3)
    pack(table, photos, tmp_path / "b", per_shard=3, workers=workers)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_larger_pictures_are_made_smaller(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(0, 300, 200).save(folder / "wide.jpg")
    noise(1, 300, 200).save(folder / "turned.jpg", exif=exif)
    noise(2, 100, 30).save(folder / "small.png")
    noise(3, 2000, 3).save(folder / "thin.png")
    names = ["wide.jpg", "turned.jpg", "small.png", "thin.png"]
    pack(table_of(names), folder, tmp_path / "shards", max_side=100)
    pictures = ShardPictures(tmp_path / "shards")
    sizes = [pictures.picture(row).size for row in range(4)]
    assert sizes == [(100, 67), (67, 100), (100, 30), (100, 1)]
    assert pictures.read(2) == (folder / "small.png").read_bytes()
    with Image.open(io.BytesIO(pictures.read(0))) as image:
        assert image.format == "JPEG"
    smaller = FolderPictures(table_of(names), folder).picture(0).resize((100, 67), Image.LANCZOS)
    # Noise is what JPEG keeps worst, colours above all; brightness stays.
    grey = [np.asarray(image.convert("L")) for image in (pictures.picture(0), smaller)]
    assert np.corrcoef(grey[0].ravel(), grey[1].ravel())[0, 1] > 0.98


def test_a_second_run_finds_all_shards(photos, table, tmp_path, monkeypatch):
    first = pack(table, photos, tmp_path / "shards", per_shard=4)
    before = content(tmp_path / "shards")
    monkeypatch.setattr(packing, "write_shard", None)
    again = pack(table, photos, tmp_path / "shards", per_shard=4)
    assert (first.found, again.found) == (0, 3)
    assert (again.pictures, again.bad, again.bytes) == (first.pictures, first.bad, first.bytes)
    assert content(tmp_path / "shards") == before


def test_a_shard_that_went_away_is_packed_again(photos, table, tmp_path):
    shards = tmp_path / "shards"
    pack(table, photos, shards, per_shard=4)
    before = content(shards)
    (shards / "shard-000001.tar").unlink()
    (shards / "shard-000002.tar").write_bytes(b"cut off")
    with pytest.raises(TableError, match=r"shard-000001.tar is missing; shard-000002.tar has 7 by"):
        ShardPictures(shards)
    assert pack(table, photos, shards, per_shard=4).found == 1
    assert content(shards) == before
    write = shards / "other.tar"
    write.write_bytes((shards / "shard-000000.tar").read_bytes())
    with pytest.raises(TableError, match=r"other.tar is none of them"):
        ShardPictures(shards)


def test_an_interrupted_run_goes_on(photos, table, tmp_path, monkeypatch):
    pack(table, photos, tmp_path / "whole", per_shard=3)
    shards, prepare, seen = tmp_path / "shards", shard_writing._prepare, []

    def interrupted(path, max_side):
        seen.append(path)
        if len(seen) == 8:
            raise KeyboardInterrupt
        return prepare(path, max_side)

    with monkeypatch.context() as patch:
        patch.setattr(shard_writing, "_prepare", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pack(table, photos, shards, per_shard=3, workers=0)
    assert not list(shards.glob("*.part"))
    with pytest.raises(TableError, match=r"packing of .* is not finished"):
        ShardPictures(shards)
    assert pack(table, photos, shards, per_shard=3).found == 2
    assert content(shards) == content(tmp_path / "whole")


def test_a_full_disk_keeps_the_finished_shards(photos, table, tmp_path, monkeypatch):
    pack(table, photos, tmp_path / "whole", per_shard=3)
    shards, write, written = tmp_path / "shards", shard_writing.TarWriter._write, []

    def full(self, data):
        written.append(len(data))
        if sum(written) > 25_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(shard_writing.TarWriter, "_write", full)
        message = r"shard-000002.tar cannot be written: No space left .* Finished shards stay"
        with pytest.raises(TableError, match=message):
            pack(table, photos, shards, per_shard=3)
    assert sorted(path.name for path in shards.glob("*.tar")) == [
        "shard-000000.tar",
        "shard-000001.tar",
    ]
    assert not list(shards.glob("*.part"))
    with monkeypatch.context() as patch:
        patch.setattr(packing_folder.os, "fsync", lambda handle: full(None, bytes(30_000)))
        with pytest.raises(TableError, match=r"cannot be written: No space left"):
            pack(table, photos, shards, per_shard=3)
    assert pack(table, photos, shards, per_shard=3).found == 2
    assert content(shards) == content(tmp_path / "whole")


DRIVER = """
import os, pathlib, random, signal, sys, threading, time
import pandas as pd
import tqdm
from geoembed.training import packing_folder, shard_writing
from geoembed.training.packing import pack

root = pathlib.Path(sys.argv[1])
table = pd.read_csv(root / "manifest.csv")

def run(folder, per_shard):
    pack(table, root / "photos", root / folder, per_shard=per_shard, workers=1, progress=False)

# Its own lock goes through forks: a child that is killed while it holds it would stop the others.
tqdm.tqdm.set_lock(threading.RLock())
# What is imported here need not be imported by every child.
pack(table, root / "photos", root / "warm", workers=0, progress=False)

def child(folder, per_shard, before=lambda: None):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            before()
            run(folder, per_shard)
            code = 0
        finally:
            os._exit(code)
    return pid

def code(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""

AT_RANDOM = """
prepare = shard_writing._prepare

def slowly():
    def prepared(path, max_side):
        time.sleep(0.005)
        return prepare(path, max_side)
    shard_writing._prepare = prepared

def tars():
    return len(list((root / "shards").glob("*.tar")))

assert code(child("whole", 2)) == 0
rng, killed, partly, status = random.Random(0), 0, 0, None
while status != 0:
    pid, wanted, ended = child("shards", 2, slowly), tars() + rng.randint(0, 4), 0
    while not ended and tars() < wanted:
        time.sleep(0.001)
        ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        time.sleep(rng.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), status
    killed += status != 0
    partly += status != 0 and 0 < tars() < 20
print(killed, partly)
"""

AT_MANY_POINTS = """
def dying(point, after):
    left = [point]
    def wrap(function):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0 and not after:
                os._exit(9)
            result = function(*args, **kwargs)
            if left[0] < 0:
                os._exit(9)
            return result
        return wrapped
    def patch():
        for owner, name in (
            (pathlib.Path, "replace"), (pathlib.Path, "unlink"), (pathlib.Path, "open"),
            (pathlib.Path, "mkdir"), (os, "fsync"), (shard_writing.TarWriter, "add"),
        ):
            setattr(owner, name, wrap(getattr(owner, name)))
    return patch

assert code(child("whole", 2)) == 0
point, died = 0, 0
while True:
    folder = f"shards-{point}"
    first = code(child(folder, 2, dying(point, after=point % 4 == 2)))
    assert first in (0, 9), first
    if first == 0:
        break
    died += 1
    assert code(child(folder, 2)) == 0
    point += 2
print(died, died)
"""


@pytest.mark.parametrize(("script", "least"), [(AT_RANDOM, 2), (AT_MANY_POINTS, 15)])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, script, least):
    photos = tmp_path / "photos"
    photos.mkdir()
    count = 40 if script is AT_RANDOM else 4
    for number in range(count):
        noise(number, 8, 8).save(photos / f"{number}.jpg")
    (photos / "3.jpg").write_bytes(b"bad")
    table_of([f"{n}.jpg" for n in range(count)]).to_csv(tmp_path / "manifest.csv", index=False)
    done = subprocess.run(
        [sys.executable, "-c", DRIVER + script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    killed, partly = map(int, done.stdout.split())
    assert killed >= least
    assert partly >= 1
    expected = content(tmp_path / "whole")
    made = [path for path in tmp_path.iterdir() if path.name.startswith("shards")]
    assert made
    for folder in made:
        assert content(folder) == expected, folder


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"per_shard": 5}, r"per_shard was 4 and is 5"),
        ({"max_side": 10}, r"max_side was 0 and is 10"),
        ({"rows": 9}, r"manifest was '.*' and is '.*'; rows was 10 and is 9"),
    ],
)
def test_another_packing_is_not_mixed_in(photos, table, tmp_path, changes, difference):
    pack(table, photos, tmp_path / "shards", per_shard=4)
    rows = table.head(changes.pop("rows", 10))
    options = {"per_shard": 4} | changes
    message = rf"was packed from something else: {difference}\. Ask for the same"
    with pytest.raises(TableError, match=message):
        pack(rows, photos, tmp_path / "shards", **options)
    pack(rows, photos, tmp_path / "shards", **options, force=True)
    pack(rows, photos, tmp_path / "new", **options)
    assert content(tmp_path / "shards") == content(tmp_path / "new")


def test_pictures_that_were_brought_are_packed_with_force(photos, table, tmp_path):
    pack(table, photos, tmp_path / "shards")
    noise(8).save(photos / "8.jpg")
    assert len(pack(table, photos, tmp_path / "shards").bad) == 3
    assert len(pack(table, photos, tmp_path / "shards", force=True).bad) == 2


def test_tars_of_others_are_not_touched(photos, table, tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "shard-000000.tar").write_bytes(b"precious")
    for force in (False, True):
        with pytest.raises(TableError, match=r"holds tars that this command did not write"):
            pack(table, photos, shards, force=force)
    assert (shards / "shard-000000.tar").read_bytes() == b"precious"


def test_two_runs_at_once_are_refused(photos, table, tmp_path, monkeypatch):
    prepare, messages = shard_writing._prepare, []

    def meanwhile(path, max_side):
        with pytest.raises(TableError, match=r"Another run is packing in .*: wait for it") as info:
            pack(table, photos, tmp_path / "shards")
        messages.append(str(info.value))
        return prepare(path, max_side)

    monkeypatch.setattr(shard_writing, "_prepare", meanwhile)
    pack(table, photos, tmp_path / "shards", workers=0)
    assert len(messages) == 10


def test_a_shard_of_bad_pictures_only_is_no_tar(photos, table, tmp_path):
    rows = table.iloc[[0, 3, 5, 6]]
    packed = pack(rows, photos, tmp_path / "shards", per_shard=1)
    assert (packed.pictures, packed.shards) == (2, 2)
    tars = sorted(path.name for path in (tmp_path / "shards").glob("*.tar"))
    assert tars == ["shard-000000.tar", "shard-000003.tar"]
    assert list(ShardPictures(tmp_path / "shards").names) == ["0.jpg", "6.jpg"]
    assert pack(rows, photos, tmp_path / "shards", per_shard=1).found == 4


def test_nothing_to_pack_is_an_error(photos, table, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match=r"has no rows"):
        pack(table.head(0), photos, tmp_path / "shards")
    with pytest.raises(TableError, match=r"None of the 10 pictures of the manifest is in .*empty"):
        pack(table, tmp_path / "empty", tmp_path / "shards")
    with pytest.raises(OptionError, match=r"is no folder"):
        pack(table, tmp_path / "nowhere", tmp_path / "shards")
    assert not (tmp_path / "shards").exists()
    message = r"None of the 2 pictures .* can be packed: 3.jpg: It is cut off.*lists all of them"
    with pytest.raises(TableError, match=message):
        pack(table.iloc[[3, 5]], photos, tmp_path / "shards")
    assert len(pd.read_csv(tmp_path / "shards" / "bad_pictures.csv")) == 2
    with pytest.raises(TableError, match=r"There are no tars"):
        ShardPictures(tmp_path / "shards")


def test_one_row_is_packed(photos, table, tmp_path):
    assert pack(table.head(1), photos, tmp_path / "shards").pictures == 1
    assert len(ShardPictures(tmp_path / "shards")) == 1


def test_wrong_coordinates_stop_it_before_anything_is_written(photos, table, tmp_path):
    with pytest.raises(CoordinateError, match=r"\[-90, 90\]"):
        pack(table.rename(columns={"LON": "LAT", "LAT": "LON"}), photos, tmp_path / "shards")
    with pytest.raises(CoordinateError, match=r"have no place or no picture"):
        pack(table.assign(LAT=[None] + [1.0] * 9), photos, tmp_path / "shards")
    assert not (tmp_path / "shards").exists()
    packed = pack(
        table.assign(LAT=[None] + [1.0] * 9), photos, tmp_path / "shards", on_invalid="drop"
    )
    assert packed.pictures == 6
    assert packed.notes == ("left out of the manifest: 1 row without a place or a picture",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_shard": 0}, r"per_shard=0 must be a whole number, 1 or more"),
        ({"per_shard": 2.5}, r"per_shard=2.5 must be a whole number"),
        ({"max_side": -1}, r"max_side=-1 must be a whole number, 0 or more"),
        ({"workers": -1}, r"workers=-1"),
    ],
)
def test_options_out_of_range_are_refused(photos, table, tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        pack(table, photos, tmp_path / "shards", **options)


def test_a_damaged_request_is_told(photos, table, tmp_path):
    shards = tmp_path / "shards"
    pack(table, photos, shards)
    (shards / "packing.json").write_text("{")
    with pytest.raises(TableError, match=r"packing.json is damaged.*--force"):
        pack(table, photos, shards)
    assert pack(table, photos, shards, force=True).pictures == 7
    (shards / "shards.json").write_text("{}")
    with pytest.raises(TableError, match=r"shards.json is damaged \(KeyError"):
        ShardPictures(shards)


def test_a_folder_that_cannot_be_made(photos, table, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TableError, match=r"cannot be written: (Not a directory|File exists)"):
        pack(table, photos, tmp_path / "file" / "shards")


def test_names_of_any_script_and_bytes(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    names = ["größe, breite.jpg", "写真.jpg", 'quo"te.jpg']
    for number, name in enumerate(names):
        noise(number).save(folder / name)
    table = table_of([*names, "名前.jpg"])
    packed = pack(table, folder, tmp_path / "shards")
    assert list(ShardPictures(tmp_path / "shards").names) == names
    assert pd.read_csv(tmp_path / "shards" / "bad_pictures.csv")["name"].tolist() == ["名前.jpg"]
    assert packed.bad[0].name == "名前.jpg"


def test_paths_are_taken_as_text_too(photos, table, tmp_path):
    table.to_csv(photos / "m.csv", index=False)
    packed = pack(str(photos / "m.csv"), str(photos), str(tmp_path / "shards"))
    assert packed.folder == Path(tmp_path / "shards")
