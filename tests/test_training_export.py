"""Model folders: what is written is what is read, in both formats, whole or not at all."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import geoembed
from geoembed.encoders import load_encoder
from geoembed.errors import OptionError, TrainingError, UnknownNameError, WeightsError
from geoembed.extending import hookimpl
from geoembed.extending.specs import LocationEncoderSpec, WeightsFile, WeightsSpec
from geoembed.galleries import Gallery
from geoembed.images import load_image_encoder
from geoembed.images.finding import _PUBLISHED
from geoembed.testing import isolated_plugins
from geoembed.training import card_measures, geoclip_format, publishing
from geoembed.training import export as exporting
from geoembed.training.checkpoint import checkpoint_path, list_checkpoints, read_checkpoint
from geoembed.training.export import export_graph, export_run, read_model
from geoembed.training.geoclip_format import check_expressible, write_geoclip_folder
from geoembed.training.graph_parity import parity_places
from geoembed.training.loop import train
from geoembed.training.model import build_model
from geoembed.training.model_folder import write_model_folder
from geoembed.training.run_model import model_of_training
from geoembed.training.settings import TrainingSettings
from geoembed.training.trained_model import model_name
from geoembed.weights import digest_file

PLACES = parity_places(100)
PLACES = PLACES[np.abs(PLACES[:, 0]) <= 180.0]
SMALL = {"sigmas": [1.0, 16.0], "frequencies": 8, "hidden": [16, 12], "output": 10}


@pytest.fixture(autouse=True)
def quick_cards(monkeypatch):
    """Cards measure at 200 cities; their own tests do."""
    monkeypatch.setattr(card_measures, "PLACES", 10)


def settings(location=None, image=None, **others):
    convnet = {"tower": "convnet", "size": 16, "widths": [8, 16], "head": [12]}
    values = {
        "name": "small.v1",
        "summary": "A small pair",
        "licence": "CC0-1.0",
        "training_data": "Random pictures",
        "data": {"kind": "bluemarble"},
        "location": SMALL | (location or {}),
        "image": image or convnet,
        "seed": 3,
    }
    return TrainingSettings.model_validate(values | others)


def shaken(model):
    """Weights that differ from any initial ones; the temperature too."""
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=_generator(index)))
    return model.eval()


def _generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pair():
    """A model of both sides as it is trained, and as it is exported."""
    chosen = settings()
    model = shaken(build_model(chosen))
    return model, model_of_training(model, chosen, {"recipe": {"steps": "12"}})


@pytest.fixture
def folder(pair, tmp_path):
    target = tmp_path / "small"
    target.mkdir()
    write_model_folder(pair[1], target)
    return target


def test_a_folder_holds_the_very_weights(pair, folder):
    model, exported = pair
    state = model.state_dict()
    kept = load_file(folder / "model.safetensors")
    assert set(kept) == set(state)
    for key, tensor in state.items():
        assert torch.equal(kept[key], tensor), key
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["model_type"] == "geoembed-geolocation"
    assert config["format_version"] == 1
    assert config["name"] == "small.v1"
    assert config["location"] == model.architecture.to_dict()
    assert config["image"]["tower"] == "convnet"
    assert config["image"]["head"] == [12]
    assert config["geoembed_version"] == geoembed.__version__
    with safe_open(folder / "model.safetensors", "pt") as file:
        facts = file.metadata()
    assert facts["format"] == "pt"
    assert facts["licence"] == "CC0-1.0"
    assert facts["location_sha256"] == load_encoder(folder).weights_sha256
    assert exported.location_sha256() == facts["location_sha256"]
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_both_sides_compute_what_the_trained_model_computes(pair, folder):
    model, _ = pair
    with torch.inference_mode():
        expected = model.encode_places(PLACES).numpy()
        pixels = torch.randn(3, 3, 16, 16, generator=_generator(0))
        views = model.encode_views(pixels).numpy()
    assert np.array_equal(load_encoder(folder, device="cpu").encode(*PLACES.T), expected)
    images = load_image_encoder(folder, device="cpu")
    assert np.abs(images.encode_pixels(pixels.numpy()) - views).max() <= 1e-6
    assert images.logit_scale == pytest.approx(model.logit_scale.exp().item(), rel=1e-6)
    assert images.location_sha256 == load_encoder(folder).weights_sha256


@pytest.mark.parametrize("projection", ["plate-carree", "sphere"])
@pytest.mark.parametrize("encoding", ["rff", "none"])
def test_every_architecture_goes_out_and_in(tmp_path, projection, encoding):
    chosen = settings({"projection": projection, "encoding": encoding})
    model = shaken(build_model(chosen))
    target = tmp_path / "model"
    target.mkdir()
    write_model_folder(model_of_training(model, chosen), target)
    with torch.inference_mode():
        expected = model.encode_places(PLACES[:10]).numpy()
    assert np.array_equal(load_encoder(target, device="cpu").encode(*PLACES[:10].T), expected)
    again = read_model(target)
    assert again.architecture == model.architecture
    assert {k: t.tolist() for k, t in again.tensors().items()} == {
        k: t.tolist() for k, t in model.state_dict().items()
    }


def test_float16_leaves_frequencies_and_temperature_alone(pair, tmp_path):
    model, exported = pair
    target = tmp_path / "half"
    target.mkdir()
    write_model_folder(exported, target, dtype="float16")
    state = model.state_dict()
    exact = {key for key in state if key.endswith(".capsule.0.b")} | {"logit_scale"}
    for key, tensor in load_file(target / "model.safetensors").items():
        assert tensor.dtype == (torch.float32 if key in exact else torch.float16), key
        assert torch.equal(tensor, state[key] if key in exact else state[key].half()), key
    with safe_open(target / "model.safetensors", "pt") as file:
        digest = file.metadata()["location_sha256"]
    half = load_encoder(target, device="cpu")
    assert digest == half.weights_sha256 != exported.location_sha256()
    # A float16 file goes on as float32 without further loss.
    again = tmp_path / "again"
    export_run(target, again)
    assert np.array_equal(
        load_encoder(again, device="cpu").encode(*PLACES.T), half.encode(*PLACES.T)
    )


def test_a_weight_too_large_for_float16_is_named(pair, tmp_path):
    chosen = settings()
    model = build_model(chosen)
    with torch.no_grad():
        model.location_encoder.LocEnc1.head[0].bias[2] = 1e5
    match = r"cannot hold 'location_encoder\.LocEnc1\.head\.0\.bias'.*1e\+05.*dtype='float32'"
    with pytest.raises(OptionError, match=match):
        write_model_folder(model_of_training(model, chosen), tmp_path, dtype="float16")


def test_a_folder_is_exported_again_bit_for_bit(pair, folder, tmp_path):
    export_run(folder, tmp_path / "copy")
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "copy" / name).read_bytes() == (folder / name).read_bytes()


def test_the_released_encoder_keeps_its_very_weights(tmp_path):
    export_run("geoclip.v1", tmp_path / "mine", name="mine.v2")
    released = load_encoder("geoclip.v1", device="cpu")
    mine = load_encoder(tmp_path / "mine", device="cpu")
    assert mine.weights_sha256 == released.weights_sha256
    assert np.array_equal(mine.encode(*PLACES.T), released.encode(*PLACES.T))
    assert mine.spec.licence == "MIT"
    config = json.loads((tmp_path / "mine" / "config.json").read_text("utf-8"))
    assert config["name"] == "mine.v2"
    assert config["image"]["backbone"] == "geoclip.v1"


def test_a_weights_file_is_exported(tmp_path):
    source = tmp_path / "my alps.safetensors"
    save_file(load_encoder("geoclip.v1", device="cpu").network.state_dict(), source)
    model = export_run(source, tmp_path / "out")
    assert model.name == "my-alps"
    assert model.side is None
    config = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))
    assert config["model_type"] == "geoembed-location-encoder"
    assert config["location"]["sigmas"] == [1.0, 16.0, 256.0]


class Registers:
    """A plugin that registers a model folder for places and pictures."""

    def __init__(self, folder):
        files = tuple(
            WeightsFile(role=role, path=name, size=1, sha256=digest_file(folder / name))
            for role, name in (("config", "config.json"), ("model", "model.safetensors"))
        )
        told = {"licence": "CC0-1.0", "training_data": "Random pictures"}
        weights = WeightsSpec(
            name="reg.v1", distribution="geoembed", version="0", files=files, paper="", **told
        )
        images = load_image_encoder(folder, device="cpu").spec
        self.location = LocationEncoderSpec(
            name="reg.v1",
            factory="geoembed.encoders.geoclip:load",
            dimension=10,
            summary="A registered pair",
            weights=weights,
            **told,
        )
        self.images = replace(images, name="reg.v1", location_encoder="reg.v1", weights=weights)

    @hookimpl
    def register_location_encoders(self, register):
        register(self.location)

    @hookimpl
    def register_image_encoders(self, register):
        register(self.images)


def test_a_registered_folder_is_exported_with_its_pictures_and_story(folder, tmp_path, monkeypatch):
    plugin = Registers(folder)
    there = {"config": folder / "config.json", "model": folder / "model.safetensors"}
    found = SimpleNamespace(kind="package", files=there)
    monkeypatch.setattr("geoembed.weights.store.find", lambda spec: found)
    with isolated_plugins(plugin):
        export_run("reg.v1", tmp_path / "out")
    kept, expected = (load_file(path / "model.safetensors") for path in (tmp_path / "out", folder))
    assert set(kept) == set(expected)
    assert all(torch.equal(kept[key], expected[key]) for key in kept)
    config = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))
    assert (config["name"], config["summary"]) == ("reg.v1", "A registered pair")
    assert config["image"]["tower"] == "convnet"
    assert config["story"] == {"recipe": {"steps": "12"}}


# -- the format of the package geoclip -------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "field"),
    [
        ({"projection": "sphere"}, "location.projection is 'sphere', it computes 'equal-earth'"),
        ({"encoding": "none"}, "location.encoding is 'none', it computes 'rff' only"),
        ({"frequencies": 8}, "location.frequencies is 8, it computes 256 only"),
        ({"hidden": [16]}, r"location.hidden is \[16\], it computes \[1024, 1024, 1024\] only"),
        ({"output": 8}, "location.output is 8, it computes 512 only"),
    ],
)
def test_what_the_geoclip_format_cannot_hold_is_named(location, field):
    published = {"sigmas": [1.0], "frequencies": 256, "hidden": [1024] * 3, "output": 512}
    chosen = settings(published | location)
    model = model_of_training(build_model(chosen), chosen)
    with pytest.raises(OptionError, match=rf"geoclip cannot hold.*\n  {field}.*\nUse format='geo"):
        check_expressible(model, images=False)


def test_all_fields_that_do_not_fit_are_named_at_once(pair, tmp_path):
    with pytest.raises(OptionError, match="geoclip cannot hold") as caught:
        export_run_of(pair[1], tmp_path / "out", format="geoclip", gallery=PLACES)
    for field in ("frequencies", "hidden", "output", "image.tower is 'convnet'"):
        assert field in str(caught.value)
    assert not (tmp_path / "out").exists()


def export_run_of(model, folder, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "read_model", lambda *args, **kwargs: model)
        return export_run("anything", folder, **options)


def test_image_sides_that_geoclip_cannot_hold_are_named(pair):
    released = read_model("geoclip.v1")
    for changes, match in (
        ({"side": None}, "image is missing: a gallery goes with a model that has an image side"),
        ({"side": pair[1].side}, "image.tower is 'convnet'"),
        ({"side": replace(released.side, backbone="other.clip")}, "image.backbone is 'other.clip'"),
    ):
        model = replace(released, **changes)
        check_expressible(model, images=False)
        with pytest.raises(OptionError, match=match):
            check_expressible(model, images=True)


def test_the_head_has_the_published_widths():
    chosen = settings(image={"tower": "backbone", "head": [64]}, location={"output": 512})
    model = build_model(chosen, backbone=False, feature_dimension=768)
    released = read_model("geoclip.v1")
    other = replace(released, side=model_of_training(model, chosen).side)
    with pytest.raises(OptionError, match=r"image.head has the widths \[768, 64, 512\]"):
        check_expressible(other, images=True)


def test_the_backbone_is_the_one_that_is_loaded_here():
    published = _PUBLISHED[geoclip_format._CLIP]
    assert {
        "repo_id": published.repository,
        "revision": published.revision,
    } == geoclip_format._BACKBONE


def test_a_gallery_is_taken_as_name_folder_table_or_places(tmp_path):
    lonlat = np.array([[2.35, 48.86], [-180.0, -90.0], [0.1 + 0.2, 1 / 3]])
    gallery = Gallery.from_lonlat(lonlat, encoder="xyz", name="three")
    gallery.save(tmp_path / "three")
    rows = ["LAT,LON", *(f"{lat!r},{lon!r}" for lon, lat in lonlat.tolist())]
    (tmp_path / "three.csv").write_text("\n".join(rows))
    for given in (lonlat, gallery, tmp_path / "three", str(tmp_path / "three.csv")):
        assert np.array_equal(exporting._gallery_places(given), lonlat)
    assert len(exporting._gallery_places("geoclip.100k")) == 94_123
    with pytest.raises(UnknownNameError, match=r"no gallery named 'geoclip.100'.*geoclip.100k"):
        exporting._gallery_places("geoclip.100")


def test_geoclip_folders_come_back(tmp_path):
    lonlat = np.array([[2.35, 48.86], [0.1 + 0.2, 1 / 3]])
    released = load_encoder("geoclip.v1", device="cpu")
    for name, gallery in (("alone", None), ("whole", lonlat)):
        export_run("geoclip.v1", tmp_path / name, format="geoclip", gallery=gallery)
        model = read_model(tmp_path / name)
        assert model.architecture == released.architecture
        assert (model.side is None) == (gallery is None)
        loaded = load_encoder(tmp_path / name, device="cpu")
        assert loaded.weights_sha256 == released.weights_sha256
    text = (tmp_path / "whole" / "gallery.csv").read_text("utf-8").splitlines()
    assert text[0] == "LAT,LON"
    read = np.array([[float(value) for value in row.split(",")] for row in text[1:]])
    assert np.array_equal(read[:, ::-1], lonlat)
    # And out again in our own format, the temperature to the last bit.
    export_run(tmp_path / "whole", tmp_path / "own")
    both = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "own")]
    assert set(both[0]) == set(both[1])
    assert all(torch.equal(both[0][key], both[1][key]) for key in both[0])


# -- sources and targets ---------------------------------------------------------------------------


def test_sources_that_are_none_are_named(tmp_path):
    with pytest.raises(UnknownNameError, match=r"geoclip.v2.*geoclip.v1"):
        export_run("geoclip.v2", tmp_path / "out")
    with pytest.raises(OptionError, match="'xyz' has no network"):
        export_run("xyz", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"empty holds no model\.safetensors"):
        export_run(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(OptionError, match="checkpoint='last': geoclip.v1 is no run"):
        export_run("geoclip.v1", tmp_path / "out", checkpoint="last")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"format": "pickle"}, "format='pickle' is not one of: geoembed, geoclip"),
        ({"dtype": "int8"}, "dtype='int8' is not one of: float32, float16"),
        ({"gallery": "cities"}, "gallery= belongs to format='geoclip'"),
        ({"name": "No Name"}, "'No Name' does not fit"),
    ],
)
def test_bad_options_are_named(folder, tmp_path, options, match):
    with pytest.raises(OptionError, match=match):
        export_run(folder, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_replaced_only_if_told_and_only_a_model(pair, folder, tmp_path):
    with pytest.raises(OptionError, match=r"small is there already.*overwrite=True"):
        export_run(folder, folder)
    (folder / "README.md").write_text("mine")
    export_run(folder, folder, overwrite=True)
    assert "small.v1" in (folder / "README.md").read_text("utf-8")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match=r"other things than an exported model: 'notes\.txt'"):
        export_run(folder, folder, overwrite=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OptionError, match="is a file; this export is a folder"):
        export_run(folder, tmp_path / "file", overwrite=True)
    (tmp_path / "empty").mkdir()
    export_run(folder, tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()


def test_a_failed_export_leaves_what_was_there(folder, tmp_path, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "write_model_folder", full)
    with pytest.raises(TrainingError, match=r"small cannot be written: No space left on device"):
        export_run(folder, folder, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small"]


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch):
    target = tmp_path / "model"
    target.mkdir()
    (target / "config.json").write_text("old")
    rename = publishing.Path.rename

    def refuse(self, to):
        if self.name == "new":
            raise OSError(13, "Permission denied")
        return rename(self, to)

    monkeypatch.setattr(publishing.Path, "rename", refuse)
    with (
        pytest.raises(TrainingError, match="Permission denied"),
        publishing.draft_folder(target) as draft,
    ):
        (draft / "config.json").write_text("new")
    assert (target / "config.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


KILLED = """
import os, signal, sys
from geoembed.training import publishing
rename = publishing.Path.rename
def killed(self, to):
    if self.name == "new":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, to)
publishing.Path.rename = killed
with publishing.draft_folder(publishing.Path(sys.argv[1])) as draft:
    (draft / "config.json").write_text("new")
"""


def test_a_folder_that_a_killed_export_had_moved_away_is_put_back_by_the_next_one(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "config.json").write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED, target], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    with pytest.raises(TrainingError, match="disk"), publishing.draft_folder(target):
        raise OSError("no room on the disk")
    assert (target / "config.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_graph_of_a_folder_says_its_name(folder, tmp_path):
    path = tmp_path / "small.pt2"
    parity = export_graph(folder, path, format="torch", layers="scale1", normalize=True)
    assert parity.worst < 1e-5
    extra = {"geoembed.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    facts = json.loads(extra["geoembed.json"])
    assert facts["encoder"] == "small.v1"
    assert facts["layers"] == "scale1"
    vector = program(torch.tensor([2.0]).double(), torch.tensor([48.0]).double())
    assert float(vector.norm()) == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(OptionError, match="format='tflite' is not one of: onnx, torch"):
        export_graph(folder, tmp_path / "x", format="tflite")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("bluemarble.v1", "bluemarble.v1"),
        ("Run 7 (alps)", "run-7-alps"),
        ("2024.06.01", "model-2024.06-01"),
        ("...", "model"),
        ("ÄÖ", "model"),
        ("a..b", "a.b"),
    ],
)
def test_names_are_made_to_fit(text, name):
    assert model_name(text) == name


def test_geoclip_folders_take_added_scales(tmp_path):
    chosen = settings({"init": "geoclip.v1", "add_sigmas": [4096.0], "output": 512})
    model = build_model(chosen)
    tmp_path.joinpath("out").mkdir()
    write_geoclip_folder(model_of_training(model, chosen), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))
    assert config["sigma"] == [1, 16, 256, 4096]
    assert load_encoder(tmp_path / "out").architecture == model.architecture


# -- runs ------------------------------------------------------------------------------------------


class Features:
    """Random features of 40 places in memory."""

    views, dimension = 2, 12
    digest = "f" * 64
    tower_sha256 = "a" * 64

    def __init__(self):
        random = np.random.default_rng(0)
        self.lonlat = random.uniform([-120.0, -60.0], [120.0, 60.0], (40, 2))
        self.names = [f"{row}.jpg" for row in range(40)]
        self.valid = np.ones(40, bool)
        self._features = random.normal(size=(40, 2, 12)).astype(np.float32)

    def __len__(self):
        return 40

    def features(self, rows, views):
        return self._features[rows[:, None], views]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of ten steps with a mean of the weights, and what it came to."""
    chosen = settings(
        image={"head": [12], "init": ""},
        data={"kind": "features", "path": "/home/jane/features", "validation": 0.3},
        loop={"steps": 10, "batch": 8, "save_every": 3, "keep_last": 9},
        objective={"queue": 16},
        optimiser={"ema": 0.9, "lr": 0.01},
        validation={"every": 1.0},
    )
    folder = tmp_path_factory.mktemp("runs") / "small"
    return folder, train(chosen, folder, data=Features(), progress=False)


def test_a_run_gives_its_best_last_and_any_checkpoint(run, tmp_path):
    folder, result = run
    steps = list(list_checkpoints(folder / "checkpoints"))
    assert result.best["step"] in steps
    for which, step in (("best", result.best["step"]), ("last", 10), (3, 3), ("3", 3)):
        export_run(folder, tmp_path / "out", checkpoint=which, overwrite=True)
        state = read_checkpoint(checkpoint_path(folder / "checkpoints", step))
        kept = load_file(tmp_path / "out" / "model.safetensors")
        assert set(kept) == set(state["ema"])
        for key, tensor in state["ema"].items():
            assert torch.equal(kept[key], tensor), (which, key)
        moved = state["training"]["model"]["location_encoder.LocEnc0.head.0.weight"]
        assert not torch.equal(moved, kept["location_encoder.LocEnc0.head.0.weight"])
    with pytest.raises(
        TrainingError, match=r"no checkpoint 99.*'best', 'last', and the steps: .*3"
    ):
        export_run(folder, tmp_path / "other", checkpoint=99)
    assert not (tmp_path / "other").exists()


def test_a_run_without_a_mean_gives_its_weights(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    path = checkpoint_path(folder / "checkpoints", 10)
    torch.save(read_checkpoint(path) | {"ema": None}, path)
    tensors = read_model(folder, checkpoint="last").tensors()
    for key, tensor in read_checkpoint(path)["training"]["model"].items():
        assert torch.equal(tensors[key], tensor), key


def test_the_card_of_a_run_tells_data_recipe_and_results(run, tmp_path):
    folder, result = run
    export_run(folder, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    data = json.loads((folder / "data.json").read_text("utf-8"))
    for line in (
        "# small.v1",
        "A small pair",
        "Random pictures",
        f"| trained on | {data['split']['train']} |",
        f"| digest | `{'f' * 64}` |",
        "| optimiser.lr | 0.01 |",
        "| objective.queue | 16 |",
        "| weights | running mean over the steps, decay 0.9 |",
        f"| steps | {result.best['step']}, each with a batch of 8 pictures |",
        f"| median distance | {result.best['scores']['median_km']:,.0f} km |",
        f"| within 2500 km | {result.best['scores']['within_2500']:.1f} % |",
        "looked up among the training places |",
    ):
        assert line in card, line
    assert "jane" not in card
    assert str(tmp_path) not in card
    # It is told again by what is exported from the folder.
    export_run(tmp_path / "out", tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text("utf-8") == card


def test_words_may_be_mended_in_a_run_after_it(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    text = (folder / "config.toml").read_text("utf-8")
    (folder / "config.toml").write_text(text.replace('"CC0-1.0"', '"MIT"'), "utf-8")
    assert read_model(folder).licence == "MIT"
    assert read_model(folder).side.backbone_sha256 == "a" * 64


def test_a_damaged_checkpoint_is_named(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    path = checkpoint_path(folder / "checkpoints", 10)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TrainingError, match=r"step-00000010\.pt cannot be read"):
        export_run(folder, tmp_path / "out", checkpoint="last")
    torch.save({"format": 99}, path)
    with pytest.raises(TrainingError, match=r"has the format 99, this geoembed reads 1"):
        export_run(folder, tmp_path / "out", checkpoint="last")
    assert not (tmp_path / "out").exists()


def test_a_run_becomes_a_graph(run, tmp_path):
    parity = export_graph(run[0], tmp_path / "run.pt2", format="torch", checkpoint="last")
    assert parity.worst < 1e-5


def test_an_export_may_become_the_start_of_a_run(run, tmp_path):
    """The same weights go in again as initial ones."""
    export_run(run[0], tmp_path / "out")
    chosen = settings(
        {"init": str(tmp_path / "out")},
        image={"head": [12], "init": str(tmp_path / "out")},
        data={"kind": "features", "path": "none"},
    )
    model = build_model(chosen, backbone=False, feature_dimension=12)
    kept = load_file(tmp_path / "out" / "model.safetensors")
    for key, tensor in model.state_dict().items():
        if key != "logit_scale":
            assert torch.equal(tensor, kept[key]), key
