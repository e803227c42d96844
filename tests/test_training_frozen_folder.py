"""A trained model folder as frozen backbone: pixels, cached features, exports that stand alone."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from geoembed import GeoLocalizer, load_encoder
from geoembed.cli.main import main
from geoembed.errors import OptionError, TrainingError, UnknownNameError, WeightsError
from geoembed.galleries import Gallery
from geoembed.galleries.places import GalleryPlaces
from geoembed.images import load_image_encoder
from geoembed.images.frozen import frozen_tower
from geoembed.images.towers import tower_of
from geoembed.training.bluemarble import BlueMarble
from geoembed.training.export import export_run
from geoembed.training.feature_store import open_features
from geoembed.training.loop import train
from geoembed.training.model import build_model
from geoembed.training.model_folder import write_model_folder
from geoembed.training.opening import open_data
from geoembed.training.plan import plan_run
from geoembed.training.run_model import model_of_training
from geoembed.training.settings import TrainingSettings, ViewSettings
from geoembed.training.splitting import split_rows

WORLD = {"kind": "bluemarble", "crops": 24, "crop_size": 16, "validation": 0.3}


def settings(image, data=None, **sections):
    return TrainingSettings.model_validate(
        {
            "name": "small",
            "data": WORLD if data is None else data,
            "location": {"sigmas": [1.0], "frequencies": 8, "hidden": [16], "output": 10},
            "image": image,
            "objective": {"queue": 0},
            "loop": {"steps": 2, "batch": 6},
            **sections,
        }
    )


@pytest.fixture(autouse=True)
def quick_cards(monkeypatch):
    monkeypatch.setattr("geoembed.training.card.lowest_cosine", lambda *_: 1.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a model whose convnet was trained."""
    room = tmp_path_factory.mktemp("base")
    chosen = settings(
        {"tower": "convnet", "size": 16, "widths": [8, 16], "head": [12]},
        licence="CC-BY-4.0",
        training_data="The Earth from above",
    )
    train(chosen, room / "run", progress=False)
    export_run(room / "run", room / "My model", checkpoint="last", name="base.v1")
    return room / "My model"


@pytest.fixture(scope="module")
def features(base, tmp_path_factory):
    """Cached features of its tower, by the command."""
    folder = tmp_path_factory.mktemp("features") / "f"
    words = ["--encoder", str(base), "--views", "2", "--device", "cpu", "-o", str(folder)]
    given = [f"data.{key}={WORLD[key]}" for key in ("crops", "crop_size")]
    sets = [word for each in given for word in ("--set", each)]
    assert main(["data", "features", "bluemarble", *words, *sets]) == 0
    return folder


def on_features(features, base, **image):
    data = {"kind": "features", "path": str(features), "validation": 0.3}
    return settings({"backbone": str(base), "head": [7], **image}, data, views={"pool": 2})


def plan_of(chosen):
    data = open_data(chosen.data)
    return plan_run(chosen, data, split_rows(data.lonlat, chosen.data))


def test_a_plan_refuses_features_that_the_run_would_refuse(base, features):
    chosen = on_features(features, base)
    assert plan_of(chosen).steps == 2
    with pytest.raises(OptionError, match=r"drawn in another way: views.min_area = 0.5, features"):
        plan_of(chosen.model_copy(update={"views": ViewSettings(min_area=0.5)}))
    with pytest.raises(OptionError, match=r"views.pool = 3, but the features are of 2 views"):
        plan_of(chosen.model_copy(update={"views": ViewSettings(pool=3)}))


def check_export(folder, base):
    """It carries the tower, answers, and does not know the folder that it came from."""
    assert str(base) not in (folder / "config.json").read_text("utf-8")
    assert json.loads((folder / "config.json").read_text("utf-8"))["image"]["tower"] == "convnet"
    own, theirs = (load_file(each / "model.safetensors") for each in (folder, base))
    kept = {key for key in theirs if key.startswith("image_encoder.tower.")}
    assert kept
    for key in kept:
        assert torch.equal(own[key], theirs[key]), key
    encoder = load_image_encoder(folder, device="cpu")
    below = load_image_encoder(base, device="cpu")
    assert tower_of(encoder).sha256 == tower_of(below).sha256
    assert encoder.preprocessing == below.preprocessing
    card = (folder / "README.md").read_text("utf-8")
    assert "frozen, that of base.v1; licence: CC-BY-4.0; training data: The Earth from" in card
    return encoder


def check_answers(encoder, folder):
    """The localizer gives the places whose vectors are nearest to those of the pictures."""
    world = BlueMarble(crops=24, crop_size=16)
    gallery = Gallery.of(GalleryPlaces.of(world.lonlat, name="w"), encoder=folder, device="cpu")
    localizer = GeoLocalizer(gallery, image_encoder=str(folder), device="cpu").fit()
    pictures = [np.asarray(world.picture(row)) for row in range(3)]
    found = localizer.localize(pictures, top_k=1)
    places = load_encoder(folder, device="cpu").encode(*world.lonlat.T)
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    nearest = (encoder.encode_images(pictures).vectors @ places.T).argmax(axis=1)
    np.testing.assert_allclose(found[["lon", "lat"]], world.lonlat[nearest])


def test_train_export_features_train_export_answer(base, features, tmp_path):
    stored = open_features(features)
    known = frozen_tower(str(base))
    assert (stored.tower_sha256, stored.preprocessing) == (known.sha256, known.preprocessing)
    run = tmp_path / "run"
    train(on_features(features, base), run, progress=False)
    export_run(run, tmp_path / "out", checkpoint="last")
    encoder = check_export(tmp_path / "out", base)
    # The head on the stored features is the exported encoder on the pictures.
    pixels = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    below = tower_of(load_image_encoder(base, device="cpu")).features(pixels)
    own = load_file(tmp_path / "out" / "model.safetensors")
    hidden = torch.relu(
        below @ own["image_encoder.mlp.0.weight"].T + own["image_encoder.mlp.0.bias"]
    )
    expected = hidden @ own["image_encoder.mlp.2.weight"].T + own["image_encoder.mlp.2.bias"]
    np.testing.assert_allclose(
        encoder.encode_pixels(pixels), expected.numpy(), rtol=1e-4, atol=1e-5
    )
    check_answers(encoder, tmp_path / "out")


def test_a_run_on_pictures_by_a_relative_path(base, tmp_path, monkeypatch):
    monkeypatch.chdir(base.parent)
    train(settings({"backbone": base.name, "head": [7]}), tmp_path / "run", progress=False)
    monkeypatch.chdir(tmp_path)
    export_run(tmp_path / "run", tmp_path / "out", checkpoint="last")
    encoder = check_export(tmp_path / "out", base)
    check_answers(encoder, tmp_path / "out")


def test_an_export_needs_the_folder_as_it_was(base, tmp_path):
    copied = shutil.copytree(base, tmp_path / "copied")
    run = tmp_path / "run"
    train(settings({"backbone": str(copied), "head": [7]}), run, progress=False)
    moved = copied.rename(tmp_path / "moved")
    with pytest.raises(WeightsError, match=r"model in .*copied, which is not there any more\. Br"):
        export_run(run, tmp_path / "out", checkpoint="last")
    text = (run / "config.toml").read_text("utf-8").replace(str(copied), str(moved))
    (run / "config.toml").write_text(text, "utf-8")
    export_run(run, tmp_path / "out", checkpoint="last")
    check_export(tmp_path / "out", base)
    other = settings({"tower": "convnet", "size": 16, "widths": [8, 16], "head": [12]}, seed=4)
    train(other, tmp_path / "other-run", progress=False)
    export_run(tmp_path / "other-run", copied, checkpoint="last")
    with pytest.raises(WeightsError, match=r"another tower than .*copied: its digest is .*expec"):
        export_run(run, tmp_path / "again", checkpoint="last")
    assert not (tmp_path / "again").exists()


def test_a_run_does_not_go_on_with_another_tower_at_the_same_place(base, tmp_path):
    below = shutil.copytree(base, tmp_path / "below")
    chosen = settings({"backbone": str(below), "head": [7]})
    more = settings({"backbone": str(below), "head": [7]}, loop={"steps": 3, "batch": 6})
    train(chosen, tmp_path / "run", progress=False)
    weights = load_file(below / "model.safetensors")
    key = next(key for key in weights if key.startswith("image_encoder.tower."))
    save_file({**weights, key: weights[key] + 1e-3}, below / "model.safetensors")
    with pytest.raises(TrainingError, match=r"another frozen tower: the digest .* was \w{12} and"):
        train(more, tmp_path / "run", resume=True, progress=False)
    save_file(weights, below / "model.safetensors")
    assert train(more, tmp_path / "run", resume=True, progress=False).step == 3


def test_features_of_another_tower_are_refused_whatever_its_name(base, features, tmp_path):
    other = settings({"tower": "convnet", "size": 16, "widths": [8, 16], "head": [12]}, seed=4)
    train(other, tmp_path / "other-run", progress=False)
    same_name = tmp_path / base.name
    export_run(tmp_path / "other-run", same_name, checkpoint="last")
    for backbone, told in (
        (str(same_name), r"'local.my-model', and .*\(the digest .* set image.backbone to the fold"),
        ("geoclip.v1", r"image.backbone = 'geoclip.v1': set image.backbone to the folder"),
    ):
        with pytest.raises(OptionError, match=told):
            train(on_features(features, backbone), tmp_path / "run", progress=False)
        with pytest.raises(OptionError, match=told):
            plan_of(on_features(features, backbone))
    with pytest.raises(UnknownNameError, match="'local.my-model'"):
        train(on_features(features, "local.my-model"), tmp_path / "run", progress=False)
    # The same tower from elsewhere is the same.
    copied = shutil.copytree(base, tmp_path / "elsewhere")
    train(on_features(features, copied), tmp_path / "run", progress=False)


def test_features_of_pictures_prepared_otherwise_are_refused(base, features, tmp_path):
    copied = shutil.copytree(base, tmp_path / "copied")
    config = json.loads((copied / "config.json").read_text("utf-8"))
    config["image"]["preprocessing"]["mean"] = [0.4, 0.4, 0.4]
    (copied / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(OptionError, match=r"prepared as .*0\.5.* takes .*0\.4.* write the feat"):
        train(on_features(features, copied), tmp_path / "run", progress=False)


def test_a_model_in_memory_stands_alone_and_stays_in_training(base):
    chosen = settings({"backbone": str(base), "head": [7]})
    model = build_model(chosen)
    assert model.backbone_name == str(base)
    exported = model_of_training(model, chosen)
    assert exported.side.backbone == ""
    assert exported.side.network.tower is not None
    assert "base.v1" in exported.story["recipe"]["Picture tower"]
    assert model.image_encoder.tower is None
    assert all(parameter.requires_grad for parameter in model.image_encoder.parameters())


def test_layers_on_a_registered_tower_lend_that_tower(tmp_path):
    chosen = settings({"head": [7]})
    model = build_model(chosen, backbone=False, feature_dimension=768, backbone_sha256="a" * 64)
    (tmp_path / "pair").mkdir()
    write_model_folder(model_of_training(model, chosen), tmp_path / "pair")
    known = frozen_tower(str(tmp_path / "pair"))
    assert (known.backbone, known.sha256, known.network) == ("geoclip.v1", "a" * 64, None)
    again = build_model(
        settings({"backbone": str(tmp_path / "pair")}), backbone=False, feature_dimension=768
    )
    assert (again.backbone_name, again.backbone_sha256) == ("geoclip.v1", "a" * 64)
    assert again.preprocessing.size == 224


def test_a_registered_model_folder_tells_its_digest():
    name = "bluemarble.v1"
    encoder = load_image_encoder(name, device="cpu")
    assert frozen_tower(name).sha256 == tower_of(encoder).sha256 != ""
    assert frozen_tower("geoclip.v1").sha256 == ""
