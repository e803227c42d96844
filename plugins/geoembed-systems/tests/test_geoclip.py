"""GeoCLIP as a system: it learns through the core, answers through it, and its cells add up."""

import pickle

import geopandas as gpd
import numpy as np
import pytest
import torch
from geoembed_systems.geoclip import GeoCLIP
from geoembed_systems.pair.training import geoclip_settings
from geoembed_systems.pictures.features import PictureFeatures

from geoembed import Gallery, GeoLocalizer, load_encoder
from geoembed.errors import CoordinateError, OptionError, SavedHeadError, UnknownNameError
from geoembed.galleries import GalleryPlaces
from geoembed.geodesy import distance_km
from geoembed.geolocation.queries import Queries
from geoembed.training import export_run

pytestmark = pytest.mark.usefixtures("one_thread")

TOWNS = np.array(
    [[2.3, 48.9], [-58.4, -34.6], [151.2, -33.9], [139.7, 35.7], [31.2, 30.0], [-99.1, 19.4]]
)
SMALL = {
    "location.projection": "sphere",
    "location.sigmas": [1.0, 4.0],
    "location.frequencies": 32,
    "location.hidden": [64],
    "location.output": 32,
    "image.head": [32],
}


def world(n: int, seed: int, d: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures of six towns: features say which, with noise; places lie within 20 km."""
    rng = np.random.default_rng(seed)
    town = rng.integers(len(TOWNS), size=n)
    looks = np.random.default_rng(99).normal(size=(len(TOWNS), d))
    features = looks[town] + rng.normal(0, 0.3, (n, d))
    return features.astype(np.float32), TOWNS[town] + rng.normal(0, 0.1, (n, 2)), town


def small(**options: object) -> GeoCLIP:
    defaults = {"epochs": 12, "batch_size": 64, "learning_rate": 3e-3, "training": SMALL}
    return GeoCLIP(**{**defaults, "progress": False, **options})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> GeoCLIP:
    features, places, _ = world(360, seed=0)
    folder = tmp_path_factory.mktemp("geoclip") / "run"
    return small(run_folder=folder, t_max=40, t_min=2).fit(features, places)


@pytest.fixture(scope="module")
def asked() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return world(120, seed=1)


def cosines(system: GeoCLIP, features: np.ndarray) -> np.ndarray:
    """Cosines of features (n, d) with the gallery, from the saved tensors alone."""
    tensors, config = system._state()
    weights = {key: np.asarray(value, np.float64) for key, value in tensors.items()}
    hidden = (
        features @ weights["image_encoder.mlp.0.weight"].T + weights["image_encoder.mlp.0.bias"]
    )
    out = np.maximum(hidden, 0) @ weights["image_encoder.mlp.2.weight"].T
    out += weights["image_encoder.mlp.2.bias"]
    radians = np.radians(weights["gallery.lonlat"])
    point = np.column_stack(
        [
            np.cos(radians[:, 1]) * np.cos(radians[:, 0]),
            np.cos(radians[:, 1]) * np.sin(radians[:, 0]),
            np.sin(radians[:, 1]),
        ]
    )
    place = 0.0
    # One unit of every projection is about 20,000 km: half a turn of the sphere.
    for scale in range(len(config["location"]["sigmas"])):
        name = f"location_encoder.LocEnc{scale}."
        phase = 2 * np.pi * (point / np.pi) @ weights[name + "capsule.0.b"].T
        wave = np.column_stack([np.cos(phase), np.sin(phase)])
        first = wave @ weights[name + "capsule.1.weight"].T + weights[name + "capsule.1.bias"]
        place = place + np.maximum(first, 0) @ weights[name + "head.0.weight"].T
        place = place + weights[name + "head.0.bias"]
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    place /= np.linalg.norm(place, axis=1, keepdims=True)
    return out @ place.T


def test_a_world_of_six_towns_is_learned(fitted, asked):
    features, places, town = asked
    found = fitted.predict(features)
    assert (distance_km(*found.T, *places.T) < 200).mean() > 0.95
    in_cell = fitted.partition_.means[fitted.predict_cells(features)]
    nearest = ((in_cell[:, None] - TOWNS) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == town).mean() > 0.95


def test_features_of_pure_noise_are_answered_by_chance(asked):
    rng = np.random.default_rng(5)
    _, places, _ = world(200, seed=0)
    system = small(epochs=3).fit(rng.normal(size=(200, 12)), places)
    found = system.predict(rng.normal(size=(120, 12)))
    assert (distance_km(*found.T, *asked[1].T) < 200).mean() < 0.5


def test_the_answer_is_the_place_of_the_largest_cosine(fitted, asked):
    scores = cosines(fitted, asked[0])
    found = fitted.predict(asked[0])
    best = fitted.gallery_.lonlat[scores.argmax(axis=1)]
    sure = np.diff(np.sort(scores, axis=1)[:, -2:])[:, 0] > 1e-5
    assert sure.sum() > 60
    np.testing.assert_array_equal(found[sure], best[sure])


def test_answers_are_those_of_the_core_with_the_exported_model(fitted, asked, tmp_path):
    features, _places, _ = asked
    folder = tmp_path / "model"
    export_run(fitted.run_.folder, folder, checkpoint="last")
    encoder = load_encoder(folder, normalize=True)
    gallery = Gallery.of(GalleryPlaces.of(fitted.gallery_.lonlat, name="same"), encoder=encoder)
    core = GeoLocalizer(gallery, image_encoder=str(folder)).fit()
    vectors = fitted.sides_.vectors(features[:, None])[:, 0]
    asking = Queries([str(row) for row in range(len(vectors))], vectors, [""] * len(vectors))
    for options in ({"top_k": 3}, {"top_k": 2, "refine": True}):
        ours, theirs = fitted.localize(features, **options), core.localize(asking, **options)
        assert list(ours.columns) == list(theirs.columns)
        assert ours.crs == theirs.crs
        for column in ("query", "rank", "place"):
            assert ours[column].tolist() == theirs[column].tolist()
        for column in ("score", "lon", "lat", "radius_50_km", "radius_90_km"):
            np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-4, atol=1e-5)
    ours, theirs = fitted.regions(features[:3]), core.regions(vectors=vectors[:3])
    np.testing.assert_allclose(ours["area_km2"], theirs["area_km2"], rtol=1e-4)
    assert ours["calibrated"].tolist() == [False] * 6


def test_cells_hold_what_the_density_holds_in_them(fitted, asked):
    features = asked[0][:5]
    density = fitted._localizer.density_
    tau = 1.0 / fitted.sides_.scale
    mass = density.probabilities(cosines(fitted, features), tau=tau)
    centres = density.cells.centres(density.cell)
    home = fitted.partition_.locate(centres)
    far = home < 0
    home[far] = fitted.partition_.nearest(centres[far])
    expected = np.zeros((5, len(fitted.partition_)))
    for cell, column in zip(home, mass.T, strict=True):
        expected[:, cell] += column
    found = fitted.predict_proba(features)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(fitted.predict_cells(features), found.argmax(axis=1))


def test_crops_are_scored_by_the_mean_or_the_largest_cosine(fitted, asked):
    rng = np.random.default_rng(0)
    views = np.stack([asked[0], rng.permutation(asked[0]), rng.permutation(asked[0])], axis=1)
    each = np.stack([cosines(fitted, views[:, view]) for view in range(3)], axis=1)
    places = fitted.gallery_.lonlat
    for pooling, pooled in (("mean", each.mean(axis=1)), ("max", each.max(axis=1))):
        found = fitted.set_params(crop_pooling=pooling).predict(views)
        sure = np.diff(np.sort(pooled, axis=1)[:, -2:])[:, 0] > 1e-5
        assert sure.sum() > 60
        np.testing.assert_array_equal(found[sure], places[pooled.argmax(axis=1)][sure])
    fitted.set_params(crop_pooling="mean")
    frame = fitted.localize(views, top_k=1, radii=False)
    np.testing.assert_allclose(frame["score"], each.mean(axis=1).max(axis=1), atol=1e-5)


def test_calibration_is_the_cores_and_goes_with_the_system(fitted, asked, tmp_path):
    features, places, _ = asked
    before = fitted.localize(features[:2], top_k=1)
    learned = fitted.calibrate(features, places)
    after = fitted.localize(features[:2], top_k=1)
    assert before["calibrated"].tolist() == [False, False]
    assert after["calibrated"].tolist() == [True, True]
    assert fitted.regions(features[:1])["calibrated"].all()
    again = GeoCLIP.load(fitted.save(tmp_path / "kept"))
    assert again.calibration_ == learned
    assert again.localize(features[:2], top_k=1).equals(after)
    del fitted.calibration_
    assert not fitted.localize(features[:1], top_k=1)["calibrated"].any()


def test_it_answers_the_same_after_saving_and_after_pickling(fitted, asked, tmp_path):
    saved = GeoCLIP.load(fitted.save(tmp_path / "kept"))
    pickled = pickle.loads(pickle.dumps(fitted))
    for again in (saved, pickled):
        np.testing.assert_array_equal(again.predict(asked[0]), fitted.predict(asked[0]))
        np.testing.assert_array_equal(again.predict_proba(asked[0]), fitted.predict_proba(asked[0]))
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "config.json",
        "model.safetensors",
    }


def test_a_saved_gallery_that_is_not_whole_is_refused(fitted):
    tensors, config = fitted._state()
    with pytest.raises(CoordinateError, match=r"saved gallery has .* it is damaged"):
        fitted.__class__()._restore(
            {**tensors, "gallery.counts": tensors["gallery.counts"][1:]}, config
        )


def test_a_picture_without_features_keeps_its_row(fitted, asked):
    pooled = asked[0][:3].copy()
    features = PictureFeatures(pooled, errors=["", "no such file", ""], names=["a", "b", "c"])
    with pytest.warns(UserWarning, match="b: no such file"):
        found = fitted.predict(features)
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2]]).all()
    frame = fitted.localize(features, top_k=1)
    assert frame["query"].tolist() == ["a", "b", "c"]
    assert frame["error"].tolist() == ["", "no such file", ""]
    with pytest.warns(UserWarning, match="b: no such file"):
        assert fitted.predict_cells(features)[1] == -1


def test_answers_come_from_the_places_that_were_asked_for(asked):
    features, places, _ = world(200, seed=0)
    own = GalleryPlaces.of(TOWNS[:2], name="two")
    for gallery, count in ((own, 2), ("land", None), ("train", 200), ("cities", None)):
        system = small(gallery=gallery, epochs=1, spacing_km=1500.0).fit(features, places)
        found = system.predict(asked[0])
        there = {tuple(place) for place in system.gallery_.lonlat}
        assert {tuple(place) for place in found} <= there
        assert count is None or len(system.gallery_) == count
    drawn = small(gallery_size=50, epochs=1).fit(features, places).gallery_.lonlat
    assert len(drawn) == 50
    assert {tuple(place) for place in drawn} <= {tuple(place) for place in places}


def test_a_map_and_a_part_of_the_earth_can_be_asked_for(fitted, asked):
    import matplotlib

    matplotlib.use("Agg")
    from shapely.geometry import box

    assert fitted.probability_map(asked[0][:1]).figure is not None
    france = gpd.GeoSeries([box(-5, 42, 8, 51)], crs="EPSG:4326")
    frame = fitted.localize(asked[0][:4], top_k=1, within=france, radii=False)
    assert frame["lon"].between(-5, 8).all()
    assert frame["lat"].between(42, 51).all()


def test_options_stand_above_the_recipe_and_training_above_them():
    own = {"loop.epochs": 3.0, "optimiser.lr": None, "loop.batch": 256}
    plain = geoclip_settings("geoclip-mp16", own, {}, 5000)
    assert (plain.loop.epochs, plain.optimiser.lr, plain.objective.queue) == (3.0, 3e-5, 4096)
    assert plain.data.validation == 0.0
    assert plain.objective.mask_own
    above = geoclip_settings("geoclip-mp16", own, {"loop.epochs": 7.0}, 5000)
    assert above.loop.epochs == 7.0
    few = geoclip_settings("geoclip-mp16", own, {}, 100)
    assert (few.loop.batch, few.objective.queue) == (100, 0)
    assert geoclip_settings("bluemarble", {}, {}, 9000).image.tower == "backbone"


def test_a_finished_run_is_taken_up_where_it_ended(fitted, asked):
    features, places, _ = world(360, seed=0)
    again = small(run_folder=fitted.run_folder, resume=True, t_max=40, t_min=2)
    np.testing.assert_array_equal(
        again.fit(features, places).predict(asked[0]), fitted.predict(asked[0])
    )


def test_the_seed_decides_and_nothing_else(asked):
    features, places, _ = world(150, seed=0)
    first, same, other = (
        small(epochs=2, random_state=seed).fit(features, places).sides_.state()[0]
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["image_encoder.mlp.0.weight"], other["image_encoder.mlp.0.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gallery": "nowhere"}, r"gallery='nowhere' is none of: 'train', 'land'"),
        ({"resume": True}, r"resume=True goes on with the run in run_folder="),
        ({"training": {"loop.batchs": 3}}, r"no field of \[loop\] named 'batchs'"),
        ({"learning_rate": -1.0}, r"optimiser.lr"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    features, places, _ = world(60, seed=0)
    with pytest.raises(OptionError, match=message):
        small(**options).fit(features, places)


def test_a_recipe_that_is_not_there_is_told_with_the_one_that_is():
    with pytest.raises(UnknownNameError, match="Close matches: 'geoclip-mp16'"):
        geoclip_settings("geoclip-mp61", {}, {}, 100)


def test_scenes_and_features_of_another_size_are_refused(fitted, asked):
    features = asked[0][:2]
    for ask in (fitted.predict, fitted.localize, fitted.regions, fitted.predict_proba):
        with pytest.raises(OptionError, match="does not choose by scene"):
            ask(features, ["urban", "urban"])
        with pytest.raises(OptionError, match="pooled features of length 5"):
            ask(features[:, :5])


def test_a_gallery_in_memory_is_no_option_that_json_holds(tmp_path):
    features, places, _ = world(60, seed=0)
    own = GalleryPlaces.of(TOWNS, name="towns")
    system = small(gallery=own, epochs=1).fit(features, places)
    with pytest.raises(SavedHeadError, match=r"(?s)gallery=.* cannot be saved"):
        system.save(tmp_path / "no")
    again = GeoCLIP.load(system.set_params(gallery="train").save(tmp_path / "yes"))
    assert len(again.gallery_) == len(TOWNS)
