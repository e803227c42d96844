"""Systems as folders: the same answers after loading, and clear errors for all else."""

import json
import os

import geoembed_systems
import numpy as np
import pandas as pd
import pytest
import torch
from geoembed_systems.isns import ISNs
from geoembed_systems.planet import PlaNet
from geoembed_systems.shared import saving
from geoembed_systems.shared.saving import load_system
from safetensors.numpy import load_file, save_file
from sklearn.exceptions import NotFittedError

from geoembed.errors import OptionError, SavedHeadError
from geoembed.heads.saving.folders import sha256
from geoembed.images import load_image_encoder
from geoembed.testing import isolated_plugins, tiny_clip_spec, write_tiny_clip

torch.set_num_threads(1)

TOWNS = np.array([[2.35, 48.86], [-58.4, -34.6], [139.7, 35.7], [28.0, -26.2]])
SCENES = np.array(["urban", "natural"], dtype=object)
FAST = {"t_min": 5, "epochs": 4, "learning_rate": 0.05, "device": "cpu", "progress": False}


@pytest.fixture(autouse=True)
def only_this_plugin():
    with isolated_plugins(geoembed_systems):
        yield


class Own(PlaNet):
    """A system that no plugin registers."""


def make_world(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    town = np.arange(rows) % 4
    features = np.eye(6)[town] * 3 + rng.normal(0, 0.5, (rows, 6))
    return (
        features.astype(np.float32),
        TOWNS[town] + rng.normal(0, 0.05, (rows, 2)),
        SCENES[rng.integers(2, size=rows)],
    )


def make_planet(**options):
    return PlaNet(**{"t_max": 60, **FAST, **options}).fit(*make_world()[:2])


@pytest.fixture
def saved(tmp_path):
    system = make_planet()
    return system, system.save(tmp_path / "planet")


def edit(folder, **changes):
    """Change what the configuration says."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def same_answers(system, twin, scenes=None):
    features = make_world(20, seed=1)[0]
    assert (twin.predict_proba(features, scenes) == system.predict_proba(features, scenes)).all()
    assert (twin.predict(features) == system.predict(features)).all()
    pd.testing.assert_frame_equal(twin.localize(features[:4]), system.localize(features[:4]))


def test_a_loaded_planet_answers_the_same_bit_for_bit(saved):
    system, folder = saved
    twin = load_system(folder)
    assert type(twin) is PlaNet
    same_answers(system, twin)
    assert twin.partition_.digest == system.partition_.digest
    assert twin.layout_ == system.layout_
    assert twin.rows_ == 200
    own = {
        name: value
        for name, value in system.get_params().items()
        if name not in ("device", "progress")
    }
    assert {name: twin.get_params()[name] for name in own} == own
    assert twin.device == "auto"


@pytest.mark.parametrize("routing", ["argmax", "mixed"])
def test_loaded_isns_answer_the_same_bit_for_bit(tmp_path, routing):
    features, lonlat, scenes = make_world()
    system = ISNs(t_max=(150, 90, 60), hidden=4, scene_routing=routing, **FAST)
    system.fit(features, lonlat, scenes)
    system.calibrate(*make_world(60, seed=3)[:2])
    twin = load_system(system.save(tmp_path / "isns"))
    same_answers(system, twin)
    same_answers(system, twin, np.resize(SCENES, 20))
    assert twin.t_max == (150, 90, 60)
    assert twin.scenes_ == system.scenes_
    assert twin.calibration_ == system.calibration_
    assert twin.localize(features[:1])["calibrated"].all()
    with pytest.raises(OptionError, match="Known scenes: 'natural', 'urban'"):
        twin.predict(features[:1], ["indoor"])
    with pytest.raises(OptionError, match="of length 5, and the system has learned from"):
        twin.predict(np.zeros((1, 5), np.float32))


def test_isns_without_scenes_come_back_without(tmp_path):
    system = ISNs(t_max=(150, 90, 60), **FAST).fit(*make_world()[:2])
    twin = ISNs.load(system.save(tmp_path / "isns"))
    assert twin.scenes_ is None
    same_answers(system, twin)


def test_a_loaded_system_can_be_fitted_and_saved_again(saved, tmp_path):
    system, folder = saved
    twin = load_system(folder).set_params(device="cpu").fit(*make_world()[:2])
    again = load_system(twin.save(tmp_path / "again"))
    same_answers(system, again)


def test_a_class_of_ones_own_is_loaded_by_itself(tmp_path):
    folder = Own(t_max=60, **FAST).fit(*make_world()[:2]).save(tmp_path / "own")
    assert type(Own.load(folder)) is Own
    with pytest.raises(
        SavedHeadError, match=r"not among the systems registered.*Own\.load\(folder"
    ):
        load_system(folder)
    with pytest.raises(SavedHeadError, match="holds a Own, not a PlaNet"):
        PlaNet.load(folder)


def test_the_description_can_be_read_by_people(saved):
    config = json.loads((saved[1] / "config.json").read_text())
    assert config["system"] == "planet"
    assert config["distribution"] == "geoembed_systems 0"
    assert config["parameters"]["t_max"] == 60
    assert "device" not in config["parameters"]
    assert sorted(path.name for path in saved[1].iterdir()) == ["config.json", "model.safetensors"]


def test_an_encoder_is_saved_by_its_name_and_cells_by_what_they_are(tmp_path):
    encoder = load_image_encoder(tiny_clip_spec(), weights=write_tiny_clip(tmp_path))
    system = make_planet(image_encoder=encoder)
    system.set_params(partition=system.partition_)
    twin = load_system(system.save(tmp_path / "planet"))
    assert twin.image_encoder == encoder.name
    assert twin.partition is None
    assert twin.partition_.digest == system.partition_.digest


def test_what_json_cannot_hold_is_refused_and_nothing_is_left(tmp_path):
    system = make_planet().set_params(weights=lambda: 0)
    with pytest.raises(SavedHeadError, match=r"weights=<function.*cannot be saved"):
        system.save(tmp_path / "planet")
    assert list(tmp_path.iterdir()) == []


def test_only_fitted_systems_are_saved(tmp_path):
    with pytest.raises(NotFittedError):
        PlaNet().save(tmp_path / "planet")


def test_nothing_that_is_there_is_lost(saved, tmp_path):
    system, folder = saved
    with pytest.raises(SavedHeadError, match="exists already. Pass overwrite=True"):
        system.save(folder)
    other = make_planet(random_state=1)
    other.save(folder, overwrite=True)
    same_answers(other, load_system(folder))
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(SavedHeadError, match=r"other things than a saved system: 'notes\.txt'"):
        system.save(folder, overwrite=True)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "geoembed-geolocation"}')
    with pytest.raises(SavedHeadError, match="other things than a saved system"):
        system.save(model, overwrite=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SavedHeadError, match="is a file"):
        system.save(tmp_path / "file")
    with pytest.raises(SavedHeadError, match="There is no folder"):
        system.save(tmp_path / "none" / "planet")


def test_a_save_that_fails_leaves_what_was_there(saved, tmp_path, monkeypatch):
    system, folder = saved
    before = (folder / "config.json").read_bytes()

    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(saving, "save_file", full)
    with pytest.raises(SavedHeadError, match="cannot be written: No space left"):
        system.save(folder, overwrite=True)
    assert (folder / "config.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["planet"]


def test_folders_of_something_else_are_refused(saved, tmp_path):
    with pytest.raises(SavedHeadError, match=r"holds no saved system: there is no config\.json"):
        load_system(tmp_path)
    edit(saved[1], format="geoembed head")
    with pytest.raises(SavedHeadError, match="describes no system"):
        load_system(saved[1])
    (saved[1] / "config.json").write_text("{")
    with pytest.raises(SavedHeadError, match="is damaged"):
        load_system(saved[1])


def test_the_state_of_another_version_is_refused(saved):
    edit(saved[1], format_version=2, geoembed="9.0")
    with pytest.raises(SavedHeadError, match=r"is in format 2, written by geoembed 9\.0; this"):
        load_system(saved[1])


def test_options_and_weights_of_another_version_are_refused(saved):
    config = json.loads((saved[1] / "config.json").read_text())
    edit(saved[1], parameters=config["parameters"] | {"warp": 9})
    with pytest.raises(SavedHeadError, match="warp.*are of another version"):
        load_system(saved[1])
    # A network of another size.
    edit(saved[1], parameters=config["parameters"] | {"hidden": 3})
    with pytest.raises(SavedHeadError, match="do not belong together"):
        load_system(saved[1])
    edit(saved[1], parameters=config["parameters"], layout={"pooled": 7})
    with pytest.raises(SavedHeadError, match="do not belong together"):
        load_system(saved[1])


def test_damaged_and_missing_files_are_refused(saved):
    model = saved[1] / "model.safetensors"
    bytes_ = bytearray(model.read_bytes())
    bytes_[-1] ^= 1
    model.write_bytes(bytes_)
    with pytest.raises(SavedHeadError, match="is not the file that was saved"):
        load_system(saved[1])
    model.unlink()
    with pytest.raises(SavedHeadError, match=r"there is no model\.safetensors"):
        load_system(saved[1])
    edit(saved[1], layout=None)
    with pytest.raises(SavedHeadError, match="'layout' is missing"):
        load_system(saved[1])


def test_a_partition_of_other_data_is_refused(saved):
    # The means of two cells are exchanged, and the file's digest is made to fit.
    model = saved[1] / "model.safetensors"
    tensors = load_file(model)
    tensors["partition.means"][[0, 1]] = tensors["partition.means"][[1, 0]]
    save_file(tensors, model)
    edit(saved[1], model={"bytes": model.stat().st_size, "sha256": sha256(model)})
    with pytest.raises(SavedHeadError, match="not those of its digest"):
        load_system(saved[1])


def test_nothing_that_a_folder_names_is_imported_unless_registered(saved):
    edit(saved[1], **{"class": "antigravity:Fly"})
    with pytest.raises(SavedHeadError, match="antigravity:Fly"):
        load_system(saved[1])
    import sys

    assert "antigravity" not in sys.modules
    # Registered, and no system.
    edit(saved[1], **{"class": "geoembed.heads.location:LocationRegressor"})
    with pytest.raises(SavedHeadError, match="not among the systems registered"):
        load_system(saved[1])
