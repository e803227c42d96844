"""Galleries and localizers of encoders that lie in folders: remembered, found again, compared."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import geoembed as ge
from geoembed import weights
from geoembed.cli.main import main
from geoembed.encoders.architecture import LocationArchitecture
from geoembed.errors import OptionError, UnknownNameError, WeightsError
from geoembed.extending.image_specs import ImageEncoderSpec, Preprocessing
from geoembed.galleries import Gallery, GalleryPlaces, load_gallery
from geoembed.geodesy import distance_km
from geoembed.images import ImageEncoder

LONLAT = np.random.default_rng(0).uniform((-180, -60), (180, 70), size=(300, 2))
SMALL = {"sigmas": (1.0, 4.0), "frequencies": 16, "hidden": (32, 16), "output": 8}


def write_model(path, projection="sphere", seed=0):
    """Write a folder with both sides of a model, its image side of no use."""
    architecture = LocationArchitecture(projection=projection, **SMALL)
    torch.manual_seed(seed)
    state = {f"location_encoder.{k}": v for k, v in architecture.build().state_dict().items()}
    state["logit_scale"] = torch.tensor(np.log(20.0))
    path.mkdir()
    config = {"model_type": "geoembed-geolocation", "format_version": 1, "name": "test.v1"}
    text = json.dumps({**config, "location": architecture.to_dict()})
    (path / "config.json").write_text(text)
    save_file(state, path / "model.safetensors")
    return path


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "alps")


@pytest.fixture
def gallery(model):
    return Gallery.from_lonlat(LONLAT, name="some", encoder=model)


class Sighted(ImageEncoder):
    """Stands in for the image side of a folder: pictures carry a place in their mean colour."""

    weights_sha256 = "0" * 64

    def __init__(self, folder, location_encoder="local.alps"):
        half = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        super().__init__(
            ImageEncoderSpec(
                name="local.sighted",
                factory="tests:none",
                dimension=8,
                preprocessing=Preprocessing(size=8, mean=half[0], std=half[1]),
                summary="",
                location_encoder=location_encoder,
            )
        )
        self.location_source = str(folder)
        self.location_sha256 = weights.read_model_folder(folder).location_sha256()

    @property
    def logit_scale(self):
        return 20.0

    def _encode_pixels(self, pixels):
        red, green, _ = pixels.mean(dim=(2, 3)).double().numpy().T
        place = red * 360.0 - 180.0, green * 180.0 - 90.0
        return torch.from_numpy(ge.encode(*place, encoder=self.location_source))


def picture(lon, lat):
    colour = np.array([(lon + 180) / 360 * 255, (lat + 90) / 180 * 255, 0])
    return np.zeros((8, 8, 3), np.uint8) + colour.round().astype(np.uint8)


# -- galleries ------------------------------------------------------------------------------------


def test_a_gallery_remembers_the_path_and_the_digest(gallery, model):
    encoder = ge.load_encoder(model, normalize=True)
    assert (gallery.encoder, gallery.encoder_path) == ("local.alps", str(model))
    assert gallery.weights_sha256 == encoder.weights_sha256
    np.testing.assert_array_equal(gallery.embeddings, encoder.encode(*LONLAT.T))
    assert Gallery.from_lonlat(LONLAT, encoder="xyz").encoder_path == ""


def test_saved_and_opened_it_finds_its_encoder_by_path(gallery, tmp_path):
    gallery.save(tmp_path / "kept")
    again = load_gallery(tmp_path / "kept")
    again_encoder = again.load_encoder()
    assert again_encoder.normalize
    np.testing.assert_array_equal(again_encoder.encode(*LONLAT.T), gallery.embeddings)


def test_pickled_it_is_encoded_again_where_its_folder_is_gone(gallery):
    kept = pickle.dumps(gallery)
    before = np.array(gallery.embeddings)
    shutil.rmtree(gallery.folder)
    np.testing.assert_array_equal(pickle.loads(kept).embeddings, before)


def test_the_cache_knows_models_by_digest_wherever_they_lie(gallery, model, tmp_path, own_cache):
    moved = shutil.move(model, tmp_path / "elsewhere" / "alps")
    again = Gallery.from_lonlat(LONLAT, name="some", encoder=moved)
    assert again.folder == gallery.folder
    assert again.encoder_path == str(moved)
    write_model(tmp_path / "other", "equal-earth").rename(model)
    others = Gallery.from_lonlat(LONLAT, name="some", encoder=model)
    assert others.folder != gallery.folder
    # Networks of equal tensors that look at places through other maps.
    write_model(tmp_path / "flat", "plate-carree")
    shutil.rmtree(model)
    flat = Gallery.from_lonlat(LONLAT, name="some", encoder=(tmp_path / "flat").rename(model))
    assert flat.folder != others.folder
    assert np.abs(flat.embeddings - others.embeddings).max() > 0.01


def test_a_model_that_is_gone_or_another_one_is_told(gallery, model, tmp_path):
    model.rename(tmp_path / "away")
    with pytest.raises(WeightsError, match=r"'some' was encoded with 'local.alps' from .*not here"):
        gallery.load_encoder()
    write_model(model, seed=1)
    with pytest.raises(WeightsError, match=r"encoded with other weights than .*alps has here"):
        gallery.load_encoder()
    with pytest.raises(WeightsError, match="encoded with 'nowhere.v1' which is not here"):
        Gallery(
            GalleryPlaces.of(LONLAT, name="x"),
            gallery.embeddings,
            {**Gallery.from_lonlat(LONLAT, encoder="xyz").facts, "encoder": "nowhere.v1"},
        ).load_encoder()


def test_registered_galleries_take_a_folder(model):
    cities = load_gallery("cities", encoder=str(model))
    assert cities.weights_sha256 == ge.load_encoder(model).weights_sha256
    assert cities.embeddings.shape[1] == 8


# -- localizers -----------------------------------------------------------------------------------


def test_pictures_are_located_in_the_space_of_a_folder(gallery, model):
    localizer = ge.GeoLocalizer(gallery, image_encoder=Sighted(model)).fit()
    place = gallery.lonlat[17]
    found = localizer.localize([picture(*place)], top_k=1)
    away = distance_km(*place, found["lon"][0], found["lat"][0])
    assert away < 500
    refined = localizer.localize([picture(*place)], top_k=1, refine=True, radii=False)
    assert refined["score"][0] >= found["score"][0]
    towns = ge.data.load_cities().head(5)
    vector = ge.encode(towns["lon"], towns["lat"], encoder=model)[2]
    scored = localizer.similarity(vectors=vector, gdf=towns)
    assert int(np.argmax(scored["score"])) == 2


def test_refinement_finds_places_between_those_of_the_gallery(model):
    # The unit sphere has three axes, and no map to stretch grids along.
    gallery = Gallery.grid(50, within=_box(0, 42, 15, 53), land_only=False, encoder=model)
    localizer = ge.GeoLocalizer(gallery, image_encoder=model).fit()
    rng = np.random.default_rng(1)
    truth = rng.uniform((1, 43), (14, 52), size=(6, 2))
    vectors = ge.encode(*truth.T, encoder=model)
    plain, refined = (
        localizer.localize(vectors=vectors, top_k=1, refine=refine, radii=False)
        for refine in (False, True)
    )
    before, after = (
        distance_km(*truth.T, found["lon"].to_numpy(), found["lat"].to_numpy())
        for found in (plain, refined)
    )
    assert np.median(after) < 0.05 * np.median(before)


def test_the_pair_is_checked_by_its_weights_and_not_by_its_name(gallery, model, tmp_path):
    localizer = ge.GeoLocalizer(gallery, image_encoder=Sighted(model, "local.renamed")).fit()
    assert localizer.predict([picture(10, 50)]).shape == (1, 2)
    other = Sighted(write_model(tmp_path / "other", seed=1))
    with pytest.raises(OptionError, match=r"goes with local.alps of the weights \w{12}\.\.\., and"):
        ge.GeoLocalizer(gallery, image_encoder=other).fit().predict([picture(10, 50)])
    untold = Sighted(model, "xyz")
    untold.location_sha256 = ""
    with pytest.raises(OptionError, match="goes with xyz, and the gallery 'some' is encoded with"):
        ge.GeoLocalizer(gallery, image_encoder=untold).fit().predict([picture(10, 50)])


@pytest.mark.parametrize("how", ["loaded", "path", "text"])
def test_registered_galleries_are_encoded_for_the_image_side(model, how):
    given = {"loaded": Sighted(model), "path": model, "text": str(model)}[how]
    localizer = ge.GeoLocalizer("cities", image_encoder=given).fit()
    assert localizer.gallery_.weights_sha256 == ge.load_encoder(model).weights_sha256
    berlin = ge.encode([13.4], [52.5], encoder=model)
    found = localizer.localize(vectors=berlin, top_k=1)
    assert distance_km(13.4, 52.5, found["lon"][0], found["lat"][0]) < 10
    # The temperature of the folder, which is read without its tower.
    assert localizer._known(None).temperature.tau == pytest.approx(1 / 20.0)
    assert not localizer._known(None).calibrated


def test_what_is_no_name_and_no_folder_is_told_when_it_is_needed(gallery):
    # Registered galleries are then encoded as they were registered.
    assert ge.GeoLocalizer("cities", image_encoder="geoclip.v7")._gallery_encoder is None
    assert ge.GeoLocalizer("cities")._gallery_encoder == "geoclip.v1"
    localizer = ge.GeoLocalizer(gallery, image_encoder="geoclip.v7").fit()
    with pytest.raises(UnknownNameError, match=r"no image encoder named 'geoclip\.v7'"):
        localizer.localize(vectors=gallery.embeddings[:1])


def test_another_gallery_brings_its_own_encoder(gallery, model):
    localizer = ge.GeoLocalizer(gallery, image_encoder=model).fit()
    assert localizer._location_encoder.name == "local.alps"
    few = Gallery.from_lonlat(LONLAT[:20], encoder="geoclip.v1")
    localizer.set_params(gallery=few, image_encoder="geoclip.v1").fit()
    assert localizer._location_encoder.name == "geoclip.v1"


# -- what is calibrated ---------------------------------------------------------------------------


def _box(west, south, east, north):
    import shapely

    return shapely.box(west, south, east, north)


def _calibrated(localizer, model, refine=False):
    rng = np.random.default_rng(3)
    truth = rng.uniform((-20, 30), (30, 60), size=(60, 2))
    vectors = ge.encode(*truth.T, encoder=model, normalize=True)
    noisy = vectors + rng.normal(0, 0.05, vectors.shape)
    localizer.calibrate(vectors=noisy, truth=truth, refine=refine)
    return noisy[:3]


def test_answers_and_regions_agree_on_what_is_calibrated(gallery, model):
    localizer = ge.GeoLocalizer(gallery, image_encoder=model).fit()
    vectors = _calibrated(localizer, model)
    europe = _box(-20, 30, 40, 65)
    for within, expected in ((None, True), (europe, False)):
        answers = localizer.localize(vectors=vectors, within=within, top_k=1)
        regions = localizer.regions(vectors=vectors, within=within)
        assert set(answers["calibrated"]) == set(regions["calibrated"]) == {expected}


def test_a_calibration_belongs_to_the_weights_of_the_gallery(gallery, model, tmp_path):
    localizer = ge.GeoLocalizer(gallery, image_encoder=model).fit()
    vectors = _calibrated(localizer, model)
    other = write_model(tmp_path / "other", seed=1)
    again = Gallery.from_lonlat(LONLAT, name="some", encoder=other)
    assert again.digest == gallery.digest
    taken = ge.GeoLocalizer(again, image_encoder=other, calibration=localizer.calibration_).fit()
    with pytest.raises(OptionError, match="another gallery than 'some', or with other weights"):
        taken.localize(vectors=vectors)


# -- the command line -----------------------------------------------------------------------------


def test_commands_take_a_folder(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("towns.csv").write_text("lon,lat\n2.35,48.86\n13.4,52.5\n")
    assert main(["gallery", "build", "towns.csv", "-o", "towns", "--encoder", "alps"]) == 0
    assert main(["embed", "towns.csv", "-o", "out.csv", "--encoder", "alps"]) == 0
    capsys.readouterr()
    assert main(["gallery", "info", "towns"]) == 0
    assert f"\nencoder_path  {model}\n" in capsys.readouterr().out
    assert load_gallery("towns").encoder_path == str(model)
    assert "local.alps_007" in Path("out.csv").read_text().splitlines()[0]
