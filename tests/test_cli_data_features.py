"""``geoembed data features``."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from geoembed.cli.main import main
from geoembed.extending.registry import image_encoder_spec
from geoembed.images import load_image_encoder
from geoembed.testing import isolated_plugins, write_tiny_clip
from geoembed.training.feature_store import open_features
from geoembed.training.manifest import FolderPictures
from geoembed.training.settings import ViewSettings


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A table of pictures, one of which is missing and one broken, and their folder."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    names = [f"p{row}.jpg" for row in range(6)]
    for name in names[:-1]:
        values = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / name)
    (folder / "p2.jpg").write_bytes(b"\xff\xd8\xff nothing")
    table = folder / "photos.csv"
    places = {"LAT": np.linspace(-50, 50, 6), "LON": np.linspace(0, 170, 6)}
    pd.DataFrame({"IMG_FILE": names, **places}).to_csv(table, index=False)
    return table


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def run(clip, photos, monkeypatch):
    """Run the command with a small CLIP in the place of the large one."""
    module = "geoembed.images.load_image_encoder"
    from dataclasses import replace

    small = replace(image_encoder_spec("geoclip.v1"), architecture="", pretrained="")

    def load(name, **options):
        return load_image_encoder(small if name == "geoclip.v1" else name, **options)

    monkeypatch.setattr(module, load)

    def features(*arguments, source=photos, code=0):
        with isolated_plugins():
            words = ["data", "features", str(source), "--device", "cpu", "--weights", str(clip)]
            assert main([*words, *map(str, arguments)]) == code

    return features


def test_features_of_a_table_are_written_and_told_of(run, photos, tmp_path, capsys):
    folder = tmp_path / "f"
    options = ["--views", 2, "--seed", 7, "--set", "views.hue=0.05", "--max-bad", "0.5"]
    run("-o", folder, *options)
    out = capsys.readouterr().out
    plan, written, listed, *names = out.splitlines()
    assert plan.startswith("5 pictures x 2 views x 768 values: 15.5 kB, about ")
    assert plan.endswith("views a second on cpu")
    assert written == f"4 pictures x 2 views x 768 values, 15.4 kB: {folder}"
    assert listed == f"1 missing and 1 bad, listed in {folder / 'bad_pictures.csv'}:"
    assert names[0] == "  p5.jpg: There is no such file."
    assert names[1].startswith("  p2.jpg: ")
    stored = open_features(folder)
    assert stored.seed == 7
    assert stored.view_settings == ViewSettings(pool=2, hue=0.05)
    assert stored.tower == "geoclip.v1"
    assert stored.valid.tolist() == [True, True, False, True, True]
    assert stored.missing == ["p5.jpg"]
    assert np.array_equal(stored.lonlat, FolderPictures(photos).lonlat)
    # Once more: all is there, nothing is measured or computed.
    run("-o", folder, *options, "--json")
    facts = json.loads(capsys.readouterr().out)
    assert facts == {
        "folder": str(folder),
        "pictures": 5,
        "views": 2,
        "dimension": 768,
        "bytes": 15360,
        "bad": 1,
        "missing": 1,
        "notes": [],
        "seconds_per_view": None,
        "digest": stored.digest,
    }


def test_rows_that_were_left_out_are_told_of(run, photos, tmp_path, capsys):
    table = pd.read_csv(photos)
    table.loc[1, "LAT"] = None
    table.to_csv(tmp_path / "gap.csv", index=False)
    options = ["--images", photos.parent, "--views", 1, "--max-bad", "0.5"]
    dropped = ["--set", "data.on_invalid=drop"]
    run("-o", tmp_path / "f", *options, *dropped, source=tmp_path / "gap.csv")
    told = "left out of the manifest: 1 row without a place or a picture"
    assert capsys.readouterr().out.splitlines()[0] == told
    run("-o", tmp_path / "f", *options, *dropped, "--json", source=tmp_path / "gap.csv")
    assert json.loads(capsys.readouterr().out)["notes"] == [told]
    run("-o", tmp_path / "g", *options, source=tmp_path / "gap.csv", code=1)
    assert "or pass data.on_invalid='drop' to leave them out" in capsys.readouterr().err


def test_too_many_bad_pictures_stop_it(run, tmp_path, capsys):
    run("-o", tmp_path / "f", code=1)
    err = capsys.readouterr().err
    assert "1 of 6 pictures (16.7 %) cannot be used, more than data.max_bad = 0.01" in err


def test_a_dry_run_writes_nothing(run, tmp_path, capsys):
    folder = tmp_path / "f"
    run("-o", folder, "--dry-run", "--json", "--max-bad", 1, "--augment", "none")
    plan = json.loads(capsys.readouterr().out)
    assert (plan["rows"], plan["views"], plan["bytes"]) == (5, 1, 5 * 768 * 2 + 128)
    assert plan["seconds"] == pytest.approx(5 * plan["seconds_per_view"])
    assert not folder.exists()
    run("-o", folder, "--dry-run", "--max-bad", 1)
    assert capsys.readouterr().out.startswith("5 pictures x 10 views x 768 values")


def test_views_and_encoder_come_from_a_recipe(run, tmp_path, capsys):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('base = "geoclip-mp16"\nseed = 4\n[views]\nmin_area = 0.3\npool = 3\n')
    run("-o", tmp_path / "f", "--recipe", recipe, "--max-bad", 1)
    stored = open_features(tmp_path / "f")
    assert (stored.views, stored.seed, stored.view_settings.min_area) == (3, 4, 0.3)


def test_shards_and_the_blue_marble_are_sources_too(run, photos, tmp_path, capsys):
    shards = tmp_path / "shards"
    assert (
        main(["data", "pack", str(photos), "--images", str(photos.parent), "-o", str(shards)]) == 0
    )
    run("-o", tmp_path / "f", "--views", 1, source=shards)
    assert len(open_features(tmp_path / "f")) == 4
    run("-o", tmp_path / "g", "--views", 1, "--set", "data.crops=3", source="bluemarble")
    assert open_features(tmp_path / "g").names[0] == "bluemarble-000000"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--augment", "wild"], "views.augment"),
        (["--set", "views.hues=1"], "There is no field of [views] named 'hues'"),
        (["--augment", "none", "--views", "3"], "views.pool = 3 with views.augment = 'none'"),
        (["--recipe", "geoclip-mp61"], "Close matches: 'geoclip-mp16'"),
    ],
)
def test_what_makes_no_sense_is_refused(run, tmp_path, capsys, arguments, told):
    run("-o", tmp_path / "f", "--max-bad", 1, *arguments, code=1)
    assert told in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_a_source_that_is_not_there_is_told_of(run, tmp_path, capsys):
    run("-o", tmp_path / "f", source=tmp_path / "photo.csv", code=1)
    assert "SOURCE: there is no file or folder" in capsys.readouterr().err
