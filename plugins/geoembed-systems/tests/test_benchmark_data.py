"""Data of the benchmark: shares that nest, folders that keep, splits that hold apart."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from geoembed_systems.benchmark.blue_marble import blue_marble_data
from geoembed_systems.benchmark.data import BenchmarkData, fraction_rows
from geoembed_systems.benchmark.leaking import LeakWarning, same_features, same_files
from geoembed_systems.benchmark.manifests import manifest_data
from geoembed_systems.pictures.features import PictureFeatures

from geoembed.errors import OptionError, TableError, UnknownNameError
from geoembed.geodesy import distance_km
from geoembed.images import load_image_encoder, prepare
from geoembed.images.towers import tower_of
from geoembed.training import load_settings, split_rows
from geoembed.training.bluemarble import BlueMarble, crop

pytestmark = pytest.mark.usefixtures("one_thread")

CROPS = 160


@pytest.fixture(scope="module")
def marble(tmp_path_factory) -> BenchmarkData:
    return blue_marble_data(
        tmp_path_factory.mktemp("marble") / "data", crops=CROPS, views=2, progress=False
    )


def toy(**changes: object) -> BenchmarkData:
    rng = np.random.default_rng(0)
    given = {
        "name": "toy",
        "title": "Toy",
        "train": PictureFeatures(
            rng.normal(size=(6, 2, 3)),
            rng.normal(size=(6, 2, 4, 5)),
            errors=["", "", "gone", "", "", ""],
        ),
        "test": PictureFeatures(rng.normal(size=(3, 1, 3)), rng.normal(size=(3, 1, 4, 5))),
        "train_lonlat": rng.uniform(-50, 50, (6, 2)),
        "test_lonlat": rng.uniform(-50, 50, (3, 2)),
        "scenes": np.array(["a", "b", None, "a", "b", "a"], dtype=object),
        "facts": {"of": "nothing"},
    }
    return BenchmarkData(**{**given, **changes})


# -- shares ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7])
def test_smaller_shares_are_parts_of_larger_ones(seed):
    shares = (0.05, 0.1, 0.2, 0.5, 1.0)
    rows = [fraction_rows(1000, share, seed) for share in shares]
    assert [len(each) for each in rows] == [50, 100, 200, 500, 1000]
    for few, many in pairwise(rows):
        assert set(few) < set(many)
    assert all((np.diff(each) > 0).all() for each in rows)


def test_seeds_choose_other_rows_and_a_share_is_no_stretch_of_them():
    first, other = fraction_rows(1000, 0.2, 0), fraction_rows(1000, 0.2, 1)
    assert 0.1 < len(set(first) & set(other)) / 200 < 0.35
    assert np.histogram(first, bins=5, range=(0, 1000))[0].min() > 20


@pytest.mark.parametrize("fraction", [0.0, 1.5, -0.1, float("nan"), True, "half"])
def test_a_share_out_of_range_is_refused(fraction):
    with pytest.raises(OptionError, match="give a share above 0 and at most 1"):
        fraction_rows(10, fraction)


# -- folders -----------------------------------------------------------------------------------


def test_what_is_saved_is_read_again(tmp_path):
    data = toy()
    kept = data.save(tmp_path / "kept")
    assert kept.folder == tmp_path / "kept"
    for part in ("train", "test"):
        ours, theirs = getattr(data, part), getattr(kept, part)
        np.testing.assert_array_equal(ours.pooled, theirs.pooled)
        np.testing.assert_array_equal(ours.tokens, theirs.tokens)
        assert (ours.names, ours.errors) == (theirs.names, theirs.errors)
        assert (getattr(data, f"{part}_lonlat") == getattr(kept, f"{part}_lonlat")).all()
    assert kept.scenes.tolist() == ["a", "b", None, "a", "b", "a"]
    assert kept.digest == data.digest
    assert kept.describe() == data.describe()
    assert kept.describe()["train_rows"] == 5
    assert kept.without_tokens().train.tokens is None


def test_the_digest_is_of_everything_that_results_depend_on():
    data = toy()
    moved = data.test_lonlat + np.array([0.0, 1e-9])
    brighter = PictureFeatures(
        data.train.pooled + 1e-3, data.train.tokens, errors=data.train.errors
    )
    others = [
        replace(data, test_lonlat=moved),
        replace(data, train=brighter),
        replace(data, scenes=data.scenes[::-1]),
        data.without_tokens(),
    ]
    assert len({each.digest for each in (data, *others)}) == 5
    assert replace(data, title="Another", facts={}).digest == data.digest


def test_other_data_replace_those_of_a_benchmark_and_nothing_else(tmp_path):
    toy().save(tmp_path / "kept")
    scenes = np.array(["c"] * 6, dtype=object)
    assert toy(scenes=scenes).save(tmp_path / "kept").scenes.tolist() == ["c"] * 6
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("dear diary")
    with pytest.raises(OptionError, match="holds no data of a benchmark"):
        toy().save(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "dear diary"


def test_kept_data_are_taken_up_only_if_they_are_the_ones(tmp_path):
    folder = tmp_path / "kept"
    assert BenchmarkData.kept(folder, {"of": "nothing"}) is None
    data = toy().save(folder)
    assert BenchmarkData.kept(folder, {"of": "nothing"}).digest == data.digest
    assert BenchmarkData.kept(folder, {"of": "something"}) is None
    (folder / "train_pooled.npy").unlink()
    assert BenchmarkData.kept(folder, {"of": "nothing"}) is None
    with pytest.raises(TableError, match=r"train_pooled\.npy"):
        BenchmarkData.load(folder)


def test_a_folder_of_another_version_is_refused(tmp_path):
    folder = toy().save(tmp_path / "kept").folder
    record = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(TableError, match="have the format 99, this version reads 1"):
        BenchmarkData.load(folder)
    (folder / "data.json").write_text("{")
    with pytest.raises(TableError, match="holds no whole data of a benchmark"):
        BenchmarkData.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_lonlat": np.zeros((2, 2))}, r"test_lonlat has the shape \(2, 2\) for 3 pictures"),
        ({"train_lonlat": np.full((6, 2), np.nan)}, "give one place a picture, finite"),
        ({"test": PictureFeatures(np.zeros((3, 9)))}, "features of the same image encoder"),
        ({"scenes": np.array(["a"], dtype=object)}, "There are 1 scenes for 6 pictures"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(OptionError, match=message):
        toy(**changes)


# -- the Blue Marble ---------------------------------------------------------------------------


def test_crops_are_split_as_the_recipe_splits_them(marble):
    settings = load_settings("bluemarble")
    world = BlueMarble(settings.data.crops, settings.data.crop_size)
    split = split_rows(world.lonlat, settings.data)
    train, test = (rows[rows < CROPS] for rows in (split.train, split.validation))
    np.testing.assert_array_equal(marble.train_lonlat, world.lonlat[train])
    np.testing.assert_array_equal(marble.test_lonlat, world.lonlat[test])
    assert marble.train.names == [f"bluemarble-{row:06d}" for row in train]
    apart = [
        distance_km(*np.broadcast_to(place, marble.train_lonlat.shape).T, *marble.train_lonlat.T)
        for place in marble.test_lonlat
    ]
    assert np.min(apart) > 360.0


def test_the_first_view_is_what_the_tower_makes_of_the_crop(marble):
    encoder = load_image_encoder("bluemarble.v1")
    for features, places in (
        (marble.train, marble.train_lonlat),
        (marble.test, marble.test_lonlat),
    ):
        pixels = torch.stack([prepare(crop(*p, 48), encoder.preprocessing) for p in places[:3]])
        tower = tower_of(encoder)
        np.testing.assert_allclose(features.pooled[:3, 0], tower.features(pixels), atol=1e-5)
        found = tower.patch_tokens(pixels)[1]
        np.testing.assert_allclose(features.tokens[:3, 0], found, atol=1e-5)


def test_training_crops_have_other_views_and_test_crops_have_none(marble):
    assert (marble.train.views, marble.test.views) == (2, 1)
    first, second = marble.train.pooled[:, 0], marble.train.pooled[:, 1]
    near = np.linalg.norm(first - second, axis=1)
    far = np.linalg.norm(first - np.roll(first, 1, axis=0), axis=1)
    assert near.min() > 0.0
    assert np.median(near) < 0.8 * np.median(far)
    assert set(marble.scenes) == {"cluster-1", "cluster-2", "cluster-3"}


def test_features_are_computed_once(marble, monkeypatch):
    import geoembed_systems.benchmark.blue_marble as room

    def never(*_args: object, **_options: object) -> None:
        raise AssertionError

    monkeypatch.setattr(room, "view_features", never)
    again = blue_marble_data(marble.folder, crops=CROPS, views=2, progress=False)
    assert again.digest == marble.digest
    with pytest.raises(AssertionError):
        blue_marble_data(marble.folder, crops=CROPS, views=1, progress=False)


@pytest.mark.parametrize(
    "options", [{"crops": 99}, {"crops": 10_001}, {"views": 0}, {"crops": 1e3}]
)
def test_options_of_the_blue_marble_that_do_not_fit_are_refused(tmp_path, options):
    with pytest.raises(OptionError, match="does not fit: give a whole number from"):
        blue_marble_data(tmp_path / "data", progress=False, **options)


# -- manifests ---------------------------------------------------------------------------------


def table(n: int = 80, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "IMG_FILE": [f"{seed}-{row}.png" for row in range(n)],
            "LAT": rng.uniform(-50, 60, n),
            "LON": rng.uniform(-170, 170, n),
            "look": rng.choice(["indoor", "urban"], n),
        }
    )


def test_features_of_a_manifest_are_split_by_blocks(tmp_path):
    pictures = table()
    looks = np.random.default_rng(1).normal(size=(80, 6)).astype(np.float32)
    data = manifest_data(
        pictures, features=looks, folder=tmp_path / "data", block_km=1500.0, buffer_km=300.0,
        scenes="look",
    )  # fmt: skip
    row_of = {name: row for row, name in enumerate(pictures["IMG_FILE"])}
    train = [row_of[name] for name in data.train.names]
    test = [row_of[name] for name in data.test.names]
    assert not set(train) & set(test)
    assert 8 <= len(test) <= 24
    np.testing.assert_array_equal(data.train.pooled[:, 0], looks[train])
    np.testing.assert_array_equal(data.test.pooled[:, 0], looks[test])
    np.testing.assert_array_equal(data.train_lonlat, pictures[["LON", "LAT"]].to_numpy()[train])
    assert data.scenes.tolist() == pictures["look"].iloc[train].tolist()
    for place in data.test_lonlat:
        away = distance_km(*np.broadcast_to(place, data.train_lonlat.shape).T, *data.train_lonlat.T)
        assert away.min() > 300.0
    assert data.describe()["test_within_1_km"] == 0
    assert data.describe()["test_same_file"] == 0


def test_a_manifest_of_its_own_is_asked_about_whole(tmp_path):
    known, asked = table(40), table(15, seed=1)
    asked.loc[0, ["LON", "LAT"]] = known.loc[3, ["LON", "LAT"]].to_numpy()
    named = pd.DataFrame(np.eye(15, 5)).assign(IMG_FILE=asked["IMG_FILE"])[1:][::-1]
    data = manifest_data(
        known, features=np.ones((40, 5)) + np.eye(40, 5), test=asked, test_features=named,
        folder=tmp_path / "data",
    )  # fmt: skip
    assert (len(data.train), len(data.test)) == (40, 15)
    assert data.test.errors[0] == "it has no features"
    np.testing.assert_array_equal(data.test.pooled[1:, 0], np.eye(15, 5, dtype=np.float32)[1:])
    assert data.leaks == {"test_same_features": 0, "test_within_1_km": 1}


def test_pictures_of_a_manifest_are_looked_at_and_missing_ones_are_told(tmp_path):
    pictures = table(12)
    pictures["LON"], pictures["LAT"] = np.linspace(10, 30, 12), np.linspace(-10, 10, 12)
    folder = tmp_path / "images"
    folder.mkdir()
    for name, lon, lat in pictures[["IMG_FILE", "LON", "LAT"]].to_numpy()[:-1]:
        crop(lon, lat, 40).save(folder / name)
    with pytest.warns(LeakWarning, match=r"LEAK: 5 of 6 test pictures \(83.3 %\) have the file"):
        data = manifest_data(
            pictures, images=folder, test=pictures[6:], image_encoder="bluemarble.v1",
            folder=tmp_path / "data", crops="five", progress=False,
        )  # fmt: skip
    assert data.train.errors[-1]
    assert data.train.errors[:-1] == [""] * 11
    assert (data.train.views, data.test.views) == (1, 5)
    assert data.train.tokens.shape[2:] == data.test.tokens.shape[2:] == (4, 128)
    encoder = load_image_encoder("bluemarble.v1")
    lon, lat = pictures.loc[0, ["LON", "LAT"]]
    pixels = prepare(crop(lon, lat, 40), encoder.preprocessing)[None]
    np.testing.assert_allclose(data.train.pooled[0], tower_of(encoder).features(pixels), atol=1e-4)
    with pytest.warns(LeakWarning, match="have the file of a training picture"):
        again = manifest_data(
            pictures, images=tmp_path / "images", test=pictures[6:], image_encoder="bluemarble.v1",
            folder=tmp_path / "data", crops="five", progress=False,
        )  # fmt: skip
    assert again.digest == data.digest
    assert again.describe() == data.describe()


def test_features_of_training_pictures_are_found_whatever_the_view_and_the_rounding():
    rng = np.random.default_rng(3)
    train = rng.normal(size=(500, 3, 16)).astype(np.float32)
    train[7] = np.nan
    train[20:400, 1] = train[20, 1]  # many that are alike
    errors = ["gone" if row == 7 else "" for row in range(500)]
    test = rng.normal(size=(60, 2, 16)).astype(np.float32)
    truth = np.zeros(60, dtype=bool)
    for row, view, of in [(0, 1, (3, 2)), (1, 0, (450, 0)), (2, 0, (33, 1)), (59, 1, (499, 1))]:
        test[row, view] = train[of] * (1.0 + 1e-6 * rng.normal(size=16))
        truth[row] = True
    test[5] = train[11, 0] * (1.0 + 1e-3 * rng.normal(size=16))  # near, and another picture
    found = same_features(PictureFeatures(train, errors=errors), PictureFeatures(test))
    np.testing.assert_array_equal(found, truth)


def test_copies_of_training_files_are_found_by_what_they_hold(tmp_path):
    for name, text in [("a", "one"), ("b", "two"), ("c", "six"), ("d", "seven"), ("e", "one")]:
        (tmp_path / name).write_text(text)
    a, b, c, d, e = (tmp_path / name for name in "abcde")
    assert same_files([a, b, None], [e, c, d, None]) == 1
    assert same_files([a, b], [tmp_path / "x" / ".." / "b", e, c]) == 2
    assert same_files([], [a]) == same_files([a], []) == 0


def test_words_told_of_data_do_not_make_them_other_data(tmp_path):
    first = {"of": "nothing", "disclosure": ["One."]}
    data = toy(facts={**first, "test_same_file": 2}).save(tmp_path / "kept")
    again = BenchmarkData.kept(tmp_path / "kept", {"of": "nothing", "disclosure": ["Two."]})
    assert again.facts == {"of": "nothing", "disclosure": ["Two."], "test_same_file": 2}
    assert again.digest == data.digest
    assert "disclosure" not in BenchmarkData.kept(tmp_path / "kept", {"of": "nothing"}).facts
    assert BenchmarkData.kept(tmp_path / "kept", {**first, "of": "all"}) is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, OptionError, "Give one of images= and features=: neither was given"),
        ({"features": np.ones((20, 3)), "images": "x"}, OptionError, "both were given"),
        ({"features": np.ones((19, 3))}, TableError, "19 rows and no names"),
        (
            {"features": np.ones((20, 3)), "test_features": np.ones((2, 3))},
            OptionError,
            "are of the manifest test=",
        ),
        (
            {"features": np.ones((20, 3)), "test": table(5, seed=1)},
            OptionError,
            "Give one of test_images= and test_features=: neither",
        ),
        ({"features": np.eye(20, 3), "scenes": "looks"}, UnknownNameError, "named 'looks'"),
        ({"features": np.eye(20, 3), "scenes": ["a"]}, TableError, "1 scenes for the 20 pictures"),
        ({"features": np.eye(20, 3), "held_out": 1.0}, OptionError, "must be a share"),
        ({"features": np.eye(20, 3), "crops": "six"}, OptionError, "six"),
    ],
)
def test_manifests_that_do_not_fit_are_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        manifest_data(table(20), folder=tmp_path / "data", **options)
