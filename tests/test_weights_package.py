"""Weights that ship inside geoembed itself: found, checked, used under their registered name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import geoembed as ge
from geoembed import weights
from geoembed.cli.main import main
from geoembed.encoders import geoclip
from geoembed.errors import MissingWeightsError, OptionError, WeightsError
from geoembed.extending import hookimpl, trained
from geoembed.extending.sources import built_in_source
from geoembed.extending.specs import WeightsSpec
from geoembed.galleries import load_gallery
from geoembed.images import load_image_encoder
from geoembed.testing import check_image_encoder, check_location_encoder, isolated_plugins
from geoembed.testing.galleries import check_gallery
from geoembed.training.model import build_model
from geoembed.training.settings import TrainingSettings
from geoembed.weights import store

ROOT = Path(ge.__file__).parents[1]
FOLDER = "geoembed/trained/standin.v1"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Where geoembed is thought to lie, with a pair of random weights in it."""
    root = tmp_path_factory.mktemp("site-packages")
    settings = TrainingSettings.model_validate(
        {
            "data": {"kind": "bluemarble"},
            "location": {"sigmas": [1, 4], "frequencies": 8, "hidden": [16, 12], "output": 10},
            "image": {"tower": "convnet", "size": 16, "widths": [8, 16], "head": [12]},
        }
    )
    model = build_model(settings)
    folder = root / FOLDER
    folder.mkdir(parents=True)
    config = {
        "model_type": "geoembed-geolocation",
        "format_version": 1,
        "name": "standin.v1",
        "location": model.architecture.to_dict(),
        "image": model.image_side().config(),
    }
    (folder / "config.json").write_text(json.dumps(config))
    exact = (".b", "logit_scale")
    state = {k: v if k.endswith(exact) else v.half() for k, v in model.state_dict().items()}
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "model.safetensors")
    return root


@pytest.fixture
def own(package, monkeypatch):
    monkeypatch.setattr(store, "_OWN_ROOT", package)
    geoclip._network.cache_clear()
    return package / FOLDER


@pytest.fixture
def spec(own):
    files = tuple(
        replace(
            file,
            path=f"{FOLDER}/{Path(file.path).name}",
            size=(own / Path(file.path).name).stat().st_size,
            sha256=weights.digest_file(own / Path(file.path).name),
            tensors_sha256=None,
        )
        for file in trained.BLUEMARBLE_V1_WEIGHTS.files
    )
    return replace(trained.BLUEMARBLE_V1_WEIGHTS, name="standin.v1", files=files)


@pytest.fixture
def pair(spec):
    """The registered pair and its gallery, under another name and with the stand-in's weights."""
    place = replace(trained.BLUEMARBLE_V1, name="standin.v1", dimension=10, weights=spec)
    eye = replace(
        trained.BLUEMARBLE_V1_IMAGES,
        name="standin.v1",
        dimension=10,
        preprocessing=replace(trained.BLUEMARBLE_V1_IMAGES.preprocessing, size=16),
        location_encoder="standin.v1",
        weights=spec,
    )
    land = replace(trained.BLUEMARBLE_LAND, name="standin.land", encoder="standin.v1")

    class Standin:
        __name__ = "standin"

        @hookimpl
        def register_location_encoders(self, register):
            register(place)

        @hookimpl
        def register_image_encoders(self, register):
            register(eye)

        @hookimpl
        def register_galleries(self, register):
            register(land)

    with isolated_plugins(Standin()):
        yield spec


def test_they_are_found_in_the_package_and_never_in_the_cache(spec, own, own_cache):
    found = weights.find(spec)
    assert found.kind == "package"
    assert found.files == {"config": own / "config.json", "model": own / "model.safetensors"}
    # Whoever writes into the cache does not replace what is shipped.
    (own_cache / "weights" / "standin.v1").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (own_cache / "weights" / "standin.v1" / name).write_text("other")
    assert weights.find(spec).kind == "package"
    assert weights.model_folder_of(spec).path == own


def test_the_real_package_is_the_one_that_is_imported(spec, monkeypatch):
    monkeypatch.undo()
    shipped = replace(spec.files[0], path="geoembed/py.typed")
    found = weights.find(replace(spec, files=(shipped,)))
    assert found.files == {"config": ROOT / "geoembed" / "py.typed"}


def test_both_sides_and_the_gallery_go_by_their_names(pair, own):
    check_location_encoder("standin.v1")
    check_image_encoder(load_image_encoder("standin.v1"))
    check_gallery("standin.land")
    encoder = ge.load_encoder("standin.v1")
    assert encoder.weights_sha256 == load_image_encoder("standin.v1").location_sha256
    assert encoder.weights_sha256 == ge.load_encoder(own).weights_sha256
    assert encoder.architecture.sigmas == (1.0, 4.0)
    assert next(encoder.network.parameters()).dtype == torch.float32


def test_pictures_are_located_offline(pair):
    localizer = ge.GeoLocalizer("standin.land", image_encoder="standin.v1").fit()
    assert localizer.gallery_.encoder == "standin.v1"
    # The temperature of training, which is that of the settings.
    assert localizer._known(None).temperature.tau == pytest.approx(0.07, rel=1e-5)
    picture = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    found = localizer.localize([picture], top_k=2)
    assert found["lon"].between(-180, 180).all()
    # Other registered galleries are encoded for it; one of another space is refused.
    assert load_gallery("standin.land", encoder="standin.v1").folder == localizer.gallery_.folder
    other = ge.Gallery.from_lonlat([[0.0, 0.0]], encoder="xyz")
    with pytest.raises(OptionError, match="goes with standin.v1 of the weights .* 'xyz'"):
        ge.GeoLocalizer(other, image_encoder="standin.v1").fit().predict([picture])


def test_damaged_and_missing_files_are_told(pair, own):
    file = own / "model.safetensors"
    content = file.read_bytes()
    try:
        file.write_bytes(content[:-1] + b"\0")
        message = "not the one 'standin.v1' was published with.*pip install --force-reinstall"
        for load in (ge.load_encoder, load_image_encoder):
            geoclip._network.cache_clear()
            with pytest.raises(WeightsError, match=message):
                load("standin.v1")
        file.unlink()
        for load in (ge.load_encoder, load_image_encoder):
            with pytest.raises(MissingWeightsError, match="(?s)come with geoembed.*reinstall"):
                load("standin.v1")
        with pytest.raises(MissingWeightsError, match="come with geoembed"):
            weights.pull(pair)
    finally:
        file.write_bytes(content)


def test_nothing_is_to_be_pulled(pair, own, capsys):
    said = []
    assert weights.pull(pair, say=said.append, force=True).kind == "package"
    assert said == ["standin.v1: comes with geoembed, nothing is to be fetched"]
    assert main(["weights", "list"]) == 0
    assert f"found          in the package: {own}" in capsys.readouterr().out
    assert main(["encoders", "standin*"]) == 0
    assert "in the package" in capsys.readouterr().out


def test_what_is_pinned_is_what_ships():
    listed = any(part.label == trained.__name__ for part in built_in_source().parts)
    spec: WeightsSpec = trained.BLUEMARBLE_V1_WEIGHTS
    shipped = [ROOT / file.path for file in spec.files]
    # Registered and shipped, or neither.
    assert [path.is_file() for path in shipped] == [listed] * len(shipped)
    if not listed:
        return
    for file, path in zip(spec.files, shipped, strict=True):
        assert (file.size, file.sha256) == (path.stat().st_size, weights.digest_file(path))
    tensors = weights.load_tensors(spec, "model")
    assert weights.digest_tensors(tensors) == spec.file("model").tensors_sha256
    assert spec.size < 10e6
    assert (shipped[0].parent / "README.md").is_file()
    check_location_encoder("bluemarble.v1")
    check_image_encoder("bluemarble.v1")
    check_gallery("bluemarble.land")


def test_the_three_go_together():
    places, images, land = (
        trained.BLUEMARBLE_V1,
        trained.BLUEMARBLE_V1_IMAGES,
        trained.BLUEMARBLE_LAND,
    )
    assert places.name == images.location_encoder == land.encoder == "bluemarble.v1"
    assert places.dimension == images.dimension
    assert places.weights == images.weights == trained.BLUEMARBLE_V1_WEIGHTS
