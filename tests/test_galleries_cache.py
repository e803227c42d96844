"""Galleries are encoded once: the key, the folder, damage, crowds, full disks."""

import json
import os
import pickle
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from geoembed.encoders import load_encoder
from geoembed.errors import OptionError, TableError, WeightsError
from geoembed.galleries import Gallery, GalleryCacheWarning, GalleryPlaces, load_gallery
from geoembed.galleries import cache as cache_module
from geoembed.galleries import store as store_module
from geoembed.galleries.cache import gallery_facts

LONLAT = np.random.default_rng(0).uniform((-180, -90), (180, 90), size=(300, 2))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "galleries"


def make(**options):
    return Gallery.from_lonlat(LONLAT, name="random", **{"encoder": "xyz", **options})


def folders(cache):
    return sorted(path.name for path in cache.iterdir())


def test_the_second_gallery_is_read_and_not_encoded(cache, monkeypatch):
    first = make(encoder="geoclip.v1")
    monkeypatch.setattr(cache_module, "encode_rows", lambda *a, **k: pytest.fail("encoded"))
    second = make(encoder="geoclip.v1")
    assert isinstance(second.embeddings, np.memmap)
    np.testing.assert_array_equal(first.embeddings, second.embeddings)
    assert len(folders(cache)) == 1


def test_cached_and_fresh_vectors_are_bit_equal_and_what_the_encoder_gives():
    places = GalleryPlaces.of(LONLAT, name="random")
    encoder = load_encoder("geoclip.v1", normalize=True)
    cached = make(encoder="geoclip.v1").embeddings
    np.testing.assert_array_equal(cached, encoder.encode(*places.lonlat.T))
    lengths = np.linalg.norm(cached.astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-6)


def test_float16_is_rounded_from_float32():
    half = make(encoder="geoclip.v1", dtype="float16").embeddings
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, make(encoder="geoclip.v1").embeddings.astype(np.float16))


def key_of(cache, places=None, **options):
    places = GalleryPlaces.of(LONLAT, name="random") if places is None else places
    before = set(folders(cache)) if cache.exists() else set()
    dtype = options.pop("dtype", "float32")
    encoder = load_encoder(options.pop("encoder", "geoclip.v1"), normalize=True, **options)
    Gallery.of(places, encoder=encoder, dtype=dtype)
    return set(folders(cache)) - before


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": "xyz"},
        {"layers": "scales"},
        {"precision": "float64"},
        {"seam": "blend"},
        {"block_size": 100},
        {"dtype": "float16"},
    ],
)
def test_the_key_changes_with_how_the_places_are_encoded(cache, change):
    assert len(key_of(cache)) == 1
    assert not key_of(cache)
    assert len(key_of(cache, **change)) == 1


@pytest.mark.parametrize("what", ["place", "count", "name", "version", "order"])
def test_the_key_changes_with_the_places(cache, what):
    assert len(key_of(cache, encoder="xyz")) == 1
    lonlat, counts, name, version = LONLAT.copy(), np.ones(len(LONLAT), int), "random", "1"
    if what == "place":
        lonlat[7, 1] = np.nextafter(lonlat[7, 1], 0)
    elif what == "count":
        counts[7] = 2
    elif what == "order":
        lonlat = lonlat[::-1]
    name, version = ("other" if what == "name" else name), ("2" if what == "version" else version)
    places = GalleryPlaces.of(lonlat, counts, name=name, version=version)
    assert len(key_of(cache, places, encoder="xyz")) == 1


def test_the_key_changes_with_weights_device_and_release(monkeypatch):
    encoder = load_encoder("geoclip.v1", normalize=True)
    facts = gallery_facts(GalleryPlaces.of(LONLAT, name="random"), encoder, "float32")
    assert facts["weights_sha256"] == encoder.weights_sha256 != ""
    assert facts["device"] == "cpu"
    assert facts["encoder_owner"].startswith("geoembed ")
    local = {"name", "source"}
    assert set(facts) - local == {
        "version", "places_sha256", "encoder", "encoder_owner", "weights_sha256", "layers", "seam",
        "dtype", "precision", "device", "block_size",
    }  # fmt: skip


def test_other_weights_get_a_cache_of_their_own(cache, tmp_path):
    import torch

    from geoembed.extending.registry import weights_specs
    from geoembed.weights import load_tensors

    tensors = load_tensors(weights_specs()["geoclip.v1"], "location_encoder")
    changed = {name: tensor + 1e-3 * name.endswith("bias") for name, tensor in tensors.items()}
    for name, state in (("a", tensors), ("b", changed)):
        torch.save(state, tmp_path / f"{name}.pth")
    digests = set()
    for name in ("a", "b"):
        gallery = make(encoder=tmp_path / f"{name}.pth")
        digests.add(gallery.weights_sha256)
    assert len(digests) == 2
    assert len(folders(cache)) == 2


def damage(folder, how):
    path = folder / "embeddings.npy"
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[:-100])
    elif how == "one bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "gone":
        path.unlink()
    elif how == "places":
        np.save(folder / "lonlat.npy", LONLAT[::-1])
    elif how == "no description":
        (folder / "gallery.json").unlink()
    elif how == "half a description":
        text = (folder / "gallery.json").read_text()
        (folder / "gallery.json").write_text(text[: len(text) // 2])
    elif how == "empty description":
        (folder / "gallery.json").write_text("{}")
    elif how == "stale":
        facts = json.loads((folder / "gallery.json").read_text())
        (folder / "gallery.json").write_text(json.dumps(facts | {"weights_sha256": "0" * 64}))
    elif how == "newer":
        facts = json.loads((folder / "gallery.json").read_text())
        (folder / "gallery.json").write_text(json.dumps(facts | {"format": 99}))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cut", "embeddings.npy has .* bytes, expected"),
        ("one bit", "embeddings.npy is not what was written"),
        ("gone", "has no embeddings.npy"),
        ("places", "lonlat.npy is not what was written"),
        ("no description", "has no gallery.json"),
        ("half a description", "is not JSON"),
        ("empty description", "has the format None"),
        ("stale", "is another one: weights_sha256 differ"),
        ("newer", "has the format 99"),
    ],
)
def test_a_damaged_or_stale_cache_is_built_again(cache, how, said):
    before = np.array(make().embeddings)
    (name,) = folders(cache)
    damage(cache / name, how)
    with pytest.warns(GalleryCacheWarning, match=f"(?s){said}.*built again"):
        after = make()
    np.testing.assert_array_equal(after.embeddings, before)
    assert folders(cache) == [name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make()


def test_of_large_files_the_size_and_spread_parts_are_checked(cache, monkeypatch):
    monkeypatch.setattr(store_module, "_WHOLE", 100)
    monkeypatch.setattr(store_module, "_PART", 64)
    monkeypatch.setattr(store_module, "_PARTS", 4)
    before = np.array(make().embeddings)
    (name,) = folders(cache)
    path = cache / name / "embeddings.npy"
    for position in (0, path.stat().st_size - 1):
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)
        with pytest.warns(GalleryCacheWarning, match="is not what was written"):
            np.testing.assert_array_equal(make().embeddings, before)


def test_a_cache_that_cannot_be_written_gives_a_gallery_in_memory(cache):
    cache.parent.mkdir()
    cache.write_text("in the way")
    with pytest.warns(GalleryCacheWarning, match="cannot be kept in .* GEOEMBED_CACHE"):
        gallery = make()
    assert gallery.folder is None
    np.testing.assert_array_equal(gallery.search(gallery.embeddings[:3], 1)[1], [[0], [1], [2]])


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_cache_gives_a_gallery_in_memory(cache):
    cache.mkdir(parents=True)
    cache.chmod(0o500)
    with pytest.warns(GalleryCacheWarning, match="cannot be kept in .* Permission denied"):
        assert make().folder is None


SCRIPT = """
import sys, time, warnings
import numpy as np
from geoembed.galleries import Gallery
from geoembed.encoders import load_encoder

encoder = load_encoder("xyz", normalize=True, block_size=10)
inner = encoder.values
def slow(lonlat):
    time.sleep(float(sys.argv[2]))
    return inner(lonlat)
encoder.values = slow
lonlat = np.load(sys.argv[1])
{before}
gallery = Gallery.from_lonlat(lonlat, name="random", encoder=encoder)
print(gallery.folder, float(gallery.embeddings.astype(float).sum()))
"""


def run(tmp_path, seconds, before=""):
    np.save(tmp_path / "lonlat.npy", LONLAT)
    command = [sys.executable, "-c", SCRIPT.format(before=before), tmp_path / "lonlat.npy"]
    return subprocess.Popen(
        [*map(str, command), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_part(cache):
    for _ in range(1200):
        if any(cache.glob(".*.part/embeddings.npy")):
            return
        time.sleep(0.05)
    pytest.fail("no process began to build")


def test_two_processes_that_build_the_same_gallery_at_once(cache, tmp_path):
    processes = [run(tmp_path, 0.1) for _ in range(2)]
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    assert [err for _, err in ended] == ["", ""]
    assert ended[0][0] == ended[1][0]
    assert len(folders(cache)) == 1


def test_a_process_that_is_killed_leaves_no_half_cache(cache, tmp_path):
    process = run(tmp_path, 1.0)
    wait_for_part(cache)
    process.kill()
    process.communicate()
    (left,) = folders(cache)
    assert left.startswith(".random-")
    assert left.endswith(".part")
    encoder = load_encoder("xyz", normalize=True, block_size=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gallery = Gallery.from_lonlat(LONLAT, name="random", encoder=encoder)
    np.testing.assert_array_equal(gallery.embeddings, encoder.encode(*LONLAT.T))
    # And what it left is cleared away.
    assert folders(cache) == [gallery.folder.name]


def test_what_others_are_building_is_left_alone(cache, tmp_path):
    process = run(tmp_path, 0.2)
    wait_for_part(cache)
    make()
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.startswith(str(cache))
    assert len(folders(cache)) == 2


def test_leavings_a_day_old_are_cleared_away_whoever_made_them(cache):
    cache.mkdir(parents=True)
    for name, hours in ((".other-1~elsewhere~1~x.part", 25), (".other-2~elsewhere~1~x.part", 23)):
        (cache / name).mkdir()
        then = time.time() - 3600 * hours
        os.utime(cache / name, (then, then))
    make()
    assert folders(cache)[0] == ".other-2~elsewhere~1~x.part"
    assert len(folders(cache)) == 2


def test_a_full_disk_gives_a_gallery_in_memory_and_leaves_nothing(cache, tmp_path):
    # The system refuses what goes beyond this size, as it does what no longer fits a disk.
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    before = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (3000, {most}))\n"
        "warnings.simplefilter('always')"
    )
    process = run(tmp_path, 0.0, before)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "cannot be kept in" in err
    assert out.startswith("None ")
    assert folders(cache) == []


def test_a_gallery_is_pickled_without_its_vectors(cache):
    gallery = make(encoder="geoclip.v1")
    data = pickle.dumps(gallery)
    assert len(data) < 0.1 * gallery.embeddings.nbytes
    again = pickle.loads(data)
    assert isinstance(again.embeddings, np.memmap)
    np.testing.assert_array_equal(again.embeddings, gallery.embeddings)


def test_where_there_is_no_such_folder_it_is_encoded_again(tmp_path, monkeypatch):
    gallery = make(encoder="geoclip.v1")
    expected, data = np.array(gallery.embeddings), pickle.dumps(gallery)
    store_module.shutil.rmtree(gallery.folder)
    monkeypatch.setenv("GEOEMBED_CACHE", str(tmp_path / "elsewhere"))
    again = pickle.loads(data)
    np.testing.assert_array_equal(again.embeddings, expected)
    assert Path(again.folder).is_relative_to(tmp_path / "elsewhere")


def test_vectors_of_another_precision_in_its_folder_are_not_taken_for_its_own(tmp_path):
    places = GalleryPlaces.of(LONLAT[:50], name="random")
    gallery = Gallery.build(places, tmp_path / "g", encoder="geoclip.v1", precision="float64")
    expected, data = np.array(gallery.embeddings), pickle.dumps(gallery)
    Gallery.build(places, tmp_path / "g", encoder="geoclip.v1", force=True)
    again = pickle.loads(data)
    assert again.folder != gallery.folder
    np.testing.assert_array_equal(again.embeddings, expected)


def test_a_damaged_gallery_whose_replacement_was_killed_is_built_again(cache):
    gallery = make()
    with (gallery.folder / "embeddings.npy").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"torn")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old = cache / f".{gallery.folder.name}~{os.uname().nodename}~{gone.pid}~aa.old"
    old.mkdir()
    gallery.folder.rename(old / "old")
    with pytest.warns(GalleryCacheWarning, match="is built again"):
        again = make()
    assert again.folder == gallery.folder
    assert folders(cache) == [gallery.folder.name]


def test_other_weights_of_the_same_name_are_no_substitute():
    gallery = make(encoder="geoclip.v1")
    gallery.facts["weights_sha256"] = "0" * 64
    with pytest.raises(WeightsError, match="encoded with other weights than 'geoclip.v1'"):
        pickle.loads(pickle.dumps(gallery))


def test_a_part_without_a_folder_is_pickled_whole():
    part = make().take(np.arange(10))
    again = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(again.embeddings, part.embeddings)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    gallery = make(encoder="geoclip.v1", dtype="float16")
    gallery.save(tmp_path / "saved")
    loaded = load_gallery(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.embeddings, gallery.embeddings)
    np.testing.assert_array_equal(loaded.lonlat, gallery.lonlat)
    np.testing.assert_array_equal(loaded.counts, gallery.counts)
    facts = ("name", "encoder", "weights_sha256", "layers", "dtype", "digest")
    assert [getattr(loaded, f) for f in facts] == [getattr(gallery, f) for f in facts]
    assert load_gallery(str(tmp_path / "saved")).digest == gallery.digest


@pytest.mark.parametrize("how", ["cut", "one bit", "gone", "places", "no description", "newer"])
def test_a_damaged_folder_is_not_loaded(tmp_path, how):
    make().save(tmp_path / "saved")
    damage(tmp_path / "saved", how)
    with pytest.raises(TableError, match="damaged|has no|no gallery|has the format 99"):
        Gallery.load(tmp_path / "saved")


def test_a_folder_is_replaced_only_if_asked_and_if_it_is_a_gallery(tmp_path):
    make().save(tmp_path / "saved")
    with pytest.raises(OptionError, match="is there already.*force=True"):
        make().save(tmp_path / "saved")
    make().take([1, 2]).save(tmp_path / "saved", force=True)
    assert len(Gallery.load(tmp_path / "saved")) == 2
    (tmp_path / "saved" / "thesis.txt").write_text("years of work")
    with pytest.raises(OptionError, match="holds other things than a gallery"):
        make().save(tmp_path / "saved", force=True)
    assert (tmp_path / "saved" / "thesis.txt").read_text() == "years of work"


def test_what_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TableError, match="cannot be written to .*file/saved"):
        make().save(tmp_path / "file" / "saved")
