"""Fine-tuning on a region: what it lifts, what it leaves, and what it refuses."""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from geoembed.encoders import load_encoder
from geoembed.encoders.architecture import LocationArchitecture
from geoembed.errors import CoordinateError, OptionError, PictureError, TableError, TrainingError
from geoembed.extending.image_specs import Preprocessing
from geoembed.geodesy import EARTH_RADIUS_KM, great_circle_km, to_unit_vectors
from geoembed.images.convnet import ConvNet
from geoembed.images.network import ImageNetwork
from geoembed.images.sides import ImageSide
from geoembed.training.fine_tuning import fine_tune
from geoembed.training.fine_tuning_measures import Away
from geoembed.training.memory_data import features_of, pictures_of
from geoembed.training.model import build_model
from geoembed.training.model_folder import write_model_folder
from geoembed.training.run_model import model_of_run
from geoembed.training.settings import TrainingSettings
from geoembed.training.trained_model import TrainedModel

BOX = (0.0, 44.0, 6.0, 50.0)


def places(n, seed, box=BOX):
    west, south, east, north = box
    return np.random.default_rng(seed).uniform((west, south), (east, north), (n, 2))


def landscape(lonlat, dimension, wave_km=250.0, seed=3):
    """A smooth random field on the sphere: what pictures show that the encoder does not know."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(64, 3)) * 2.0 * np.pi / wave_km
    phases = EARTH_RADIUS_KM * to_unit_vectors(lonlat) @ waves.T + rng.uniform(0, 2 * np.pi, 64)
    field = np.cos(phases) @ rng.normal(size=(64, dimension))
    return field / np.linalg.norm(field, axis=1, keepdims=True)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def photographs(encoder, lonlat, seed, local=True):
    """Features: the encoder's own vector, with noise, and in the region a landscape."""
    vectors = unit(np.asarray(encoder.encode(*lonlat.T), dtype=np.float64))
    noise = np.random.default_rng(seed).normal(size=vectors.shape) / np.sqrt(vectors.shape[1])
    shown = 4.0 * landscape(lonlat, vectors.shape[1]) if local else 0.0
    return (vectors + shown + (4.0 if local else 6.0) * noise).astype(np.float32)


def write_pair(folder, architecture, *, pixels=0):
    """A model folder whose image side hands features on as they are."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = architecture.build()
        tower = ConvNet(pixels, (4, 4)) if pixels else None
        width = tower.features if tower else architecture.output
        head = ImageNetwork(width, [], architecture.output, tower)
    preprocessing = None
    if tower is None:
        with torch.no_grad():
            head.mlp[0].weight.copy_(torch.eye(architecture.output))
            head.mlp[0].bias.zero_()
    else:
        preprocessing = Preprocessing(size=pixels, mean=(0.5,) * 3, std=(0.25,) * 3)
    side = ImageSide(
        network=head,
        scale=40.0,
        preprocessing=preprocessing,
        backbone="" if tower else "geoclip.v1",
    )
    folder.mkdir()
    model = TrainedModel(name="pair.v1", architecture=architecture, network=network, side=side)
    write_model_folder(model, folder)
    return str(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small pair, photographs of a region, and settings that train it in no time."""
    architecture = LocationArchitecture(sigmas=(1.0, 64.0), frequencies=32, hidden=(64,), output=32)
    pair = write_pair(tmp_path_factory.mktemp("pair") / "pair", architecture)
    lonlat = places(200, 0)
    frame = gpd.GeoDataFrame(
        {"name": [f"p{i}" for i in range(200)]},
        geometry=gpd.points_from_xy(*lonlat.T),
        crs=4326,
    )
    overrides = [
        "loop.batch=40",
        "loop.epochs=3",
        "loop.device=cpu",
        "objective.queue=16",
        "objective.anchor_places=16",
        "data.block_km=60",
        "optimiser.warmup_steps=0",
    ]
    features = photographs(load_encoder(pair), lonlat, 1)
    return {
        "frame": frame,
        "features": features,
        "encoder": pair,
        "overrides": overrides,
        "progress": False,
        "away_places": 200,
    }


@pytest.fixture(scope="module")
def begun(small, tmp_path_factory):
    """The folder of a run to resume."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    fine_tune(**small, folder=folder)
    return folder


@pytest.mark.slow
def test_released_encoder_learns_a_region_and_stays_what_it_was_elsewhere(tmp_path):
    released = load_encoder("geoclip.v1")
    # The image side of the test hands features on; the encoder itself is the released one.
    side = write_pair(tmp_path / "side", LocationArchitecture(hidden=(4,), output=512))
    here, there = places(500, 0), places(60, 5, (100.0, 10.0, 130.0, 45.0))
    tables = [gpd.GeoDataFrame(geometry=gpd.points_from_xy(*p.T), crs=4326) for p in (here, there)]
    done = fine_tune(
        tables[0],
        photographs(released, here, 1),
        folder=tmp_path / "run",
        image_encoder=side,
        elsewhere=(tables[1], photographs(released, there, 2, local=False)),
        away_places=600,
        progress=False,
        overrides=[
            "data.block_km=50",
            "loop.batch=48",
            "loop.epochs=3.5",
            "loop.device=cpu",
            "objective.queue=0",
            "objective.anchor_places=48",
            "optimiser.warmup_steps=5",
        ],
    )
    # Places 25 km apart: the median error falls to less than half.
    assert done.after["median_km"] < 0.5 * done.before["median_km"]
    assert done.after["within_200"] > done.before["within_200"] + 20.0
    # The stated loss elsewhere: cosines above 0.99 on average, and pictures found as before.
    assert done.moved.mean < 0.01
    assert done.moved.mean_land < 0.01
    assert done.moved.kept > 99.0
    elsewhere = done.elsewhere
    assert elsewhere["after"]["within_25"] >= elsewhere["before"]["within_25"] - 5.0
    assert elsewhere["before"]["within_25"] > 50.0


def test_report_and_files_hold_what_it_did(small, tmp_path):
    there = places(30, 9, (100.0, 10.0, 130.0, 45.0))
    table = pd.DataFrame({"lon": there[:, 0], "lat": there[:, 1]})
    known = photographs(load_encoder(small["encoder"]), there, 2, local=False)
    done = fine_tune(**small, folder=tmp_path / "run", elsewhere=(table, known))
    assert done.run.step == 12  # 159 places, 3 epochs, 40 a step
    told = json.loads((done.run.folder / "fine_tuning.json").read_text())
    assert told["after"] == dict(done.after) == done.run.metrics
    assert told["moved"]["mean"] == done.moved.mean
    assert told["report"] == done.report
    assert set(told["elsewhere"]["before"]) == set(done.after) - {"loss"}
    for part in (
        "fine-tuned on 159 pictures; 41 were held out, in blocks of 60 km",
        "200 random places 100 km or more from every picture",
        f"1 - cosine = {done.moved.mean:.2g}",
        "Pictures of elsewhere",
    ):
        assert part in done.report


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("names", "What differs: names. Bring"),
        ("places", "What differs: places. Bring"),
        ("features", "What differs: features. Bring"),
        ("names and features", "What differs: names and features. Bring"),
        ("rows", "What differs: names, places and features. Bring"),
    ],
)
def test_other_data_on_a_resume_are_named(small, begun, what, said):
    frame, features = small["frame"].copy(), small["features"].copy()
    if "names" in what:
        frame.index = [f"photograph {i}" for i in range(len(frame))]
    if "places" in what:
        frame.geometry = frame.geometry.translate(1e-9)
    if "features" in what:
        features[3, 0] += 1.0
    if what == "rows":
        frame, features = frame[:-1], features[:-1]
    with pytest.raises(TrainingError, match=f"is of other data: .*{said}"):
        fine_tune(**{**small, "frame": frame, "features": features}, folder=begun, resume=True)


def test_anchor_keeps_the_encoder_where_it_was(small, tmp_path):
    weak = [*small["overrides"], "optimiser.lr=3e-3", "loop.epochs=8"]
    moved = [
        fine_tune(
            **{**small, "overrides": [*weak, f"objective.anchor={anchor}"]},
            folder=tmp_path / f"{anchor}",
        ).moved
        for anchor in (0, 30)
    ]
    assert moved[1].mean < 0.5 * moved[0].mean
    assert moved[1].kept >= moved[0].kept


def test_picture_side_stays_and_location_side_moves(small, tmp_path):
    done = fine_tune(**small, folder=tmp_path / "run")
    start = load_encoder(small["encoder"]).network.state_dict()
    trained = model_of_run(done.run.folder, "last")
    end = trained.network.state_dict()
    assert all(
        torch.equal(start[key], end[key]) == key.endswith(".b") for key in start
    )  # frequencies are no weights
    assert torch.equal(trained.side.network.mlp[0].weight, torch.eye(32))
    assert trained.side.scale == pytest.approx(40.0)


def test_settings_are_those_of_the_recipe_and_what_it_starts_from(small, tmp_path):
    done = fine_tune(**small, folder=tmp_path / "run")
    config = (done.run.folder / "config.toml").read_text()
    assert f'init = "{small["encoder"]}"' in config
    assert 'path = "(given in Python)"' in config
    assert "anchor = 10.0" in config
    assert "mask_own = true" in config
    # Not the recipe's, which is that of the released encoder.
    assert "temperature = 0.025\n" in config
    assert model_of_run(done.run.folder, "last").side.scale == pytest.approx(40.0)
    asked = small | {"overrides": [*small["overrides"], "objective.temperature=0.1"]}
    with pytest.raises(OptionError, match=r"temperature = 0.1, and .* trained to 0.025, .*leave"):
        fine_tune(**asked, folder=tmp_path / "other")


def test_columns_and_several_views_are_features_too(small):
    frame = small["frame"].assign(a=1.0, b=np.arange(200.0))
    data = features_of(frame, ["a", "b"])
    assert (data.dimension, data.views) == (2, 1)
    rows, views = np.array([3, 7]), np.zeros((2, 1), np.int64)
    assert data.features(rows, views)[:, 0].tolist() == [[1.0, 3.0], [1.0, 7.0]]
    many = features_of(frame, np.arange(200 * 3 * 2.0).reshape(200, 3, 2))
    assert many.features(np.array([1]), np.array([[2, 0]])).tolist() == [[[10.0, 11.0], [6.0, 7.0]]]


def test_places_are_read_in_any_crs_and_names_are_the_index(small):
    frame = small["frame"].set_index("name")
    there = features_of(frame.to_crs(3857), small["features"])
    here = features_of(frame, small["features"])
    assert np.abs(there.lonlat - here.lonlat).max() < 1e-9
    assert here.names[:2] == ["p0", "p1"]
    other = features_of(frame, small["features"] + 1.0)
    assert other.digest != here.digest


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((199, 32)), r"have the shape \(199, 1, 32\), and the table has 200 rows"),
        (np.zeros(200), r"have the shape \(200,\)"),
        (
            np.where(np.arange(200)[:, None] == 3, np.nan, np.zeros((200, 32))),
            "finite: row 3",
        ),
        (["nam"], "no column of features named 'nam'. Close matches: 'name'"),
    ],
)
def test_features_that_do_not_fit_are_refused(small, tmp_path, features, message):
    with pytest.raises(TableError, match=message):
        fine_tune(**{**small, "features": features}, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": None}, "Give one of features= and pictures="),
        ({"pictures": []}, "Give one of features= and pictures="),
        ({"overrides": ["data.validation=0"]}, "holds out no place of the region"),
        ({"features": np.zeros((200, 7))}, "takes features of 32 values.*have 7"),
        ({"encoder": "xyz"}, "No image encoder was trained with encoder='xyz'"),
        ({"overrides": ["objective.ancor=0"]}, "Close matches: 'anchor'"),
        ({"overrides": ["objective.anchor_away_km=21000"]}, "Hardly any place on Earth is 21000"),
    ],
)
def test_what_cannot_be_fine_tuned_is_refused(small, tmp_path, changes, message):
    overrides = [*small["overrides"], *changes.get("overrides", [])]
    with pytest.raises(OptionError, match=message):
        fine_tune(**{**small, **changes, "overrides": overrides}, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rows", "features", "message"),
    [
        (0, [], "elsewhere=: The table of pictures has no rows: give one a picture"),
        (3, np.zeros((2, 32)), r"elsewhere=: The features have the shape \(2, 1, 32\).* 3 rows"),
        (3, np.zeros((3, 9)), "elsewhere=: its features have 9 values, those of the region 32"),
    ],
)
def test_what_is_wrong_with_the_pictures_of_elsewhere_is_said_of_them(
    small, tmp_path, rows, features, message
):
    elsewhere = (small["frame"].head(rows), features)
    with pytest.raises((TableError, OptionError), match=message):
        fine_tune(**small, elsewhere=elsewhere, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("features", "pictures"), [([], None), (None, [])])
def test_a_table_without_rows_is_refused(small, tmp_path, features, pictures):
    given = {**small, "frame": small["frame"].head(0), "features": features, "pictures": pictures}
    with pytest.raises(TableError, match="^The table of pictures has no rows"):
        fine_tune(**given, folder=tmp_path / "run")


def test_missing_places_are_refused(small, tmp_path):
    frame = small["frame"].copy()
    frame.loc[4, "geometry"] = None
    with pytest.raises(CoordinateError, match="4"):
        fine_tune(**{**small, "frame": frame}, folder=tmp_path / "run")


def test_encoder_that_sees_pixels_is_given_pictures(small, tmp_path):
    architecture = LocationArchitecture(sigmas=(1.0,), frequencies=8, hidden=(8,), output=6)
    pair = write_pair(tmp_path / "pair", architecture, pixels=8)
    given = {**small, "encoder": pair, "overrides": [*small["overrides"], "loop.epochs=1"]}
    with pytest.raises(OptionError, match="give pictures= in place of features="):
        fine_tune(**given, folder=tmp_path / "run")
    rng = np.random.default_rng(0)
    shots = [Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)) for _ in range(200)]
    done = fine_tune(**{**given, "features": None}, pictures=shots, folder=tmp_path / "run")
    assert done.run.step == 4


def test_new_layers_are_trained_on_features_of_another_tower(small, tmp_path):
    done = fine_tune(
        **{
            **small,
            "features": np.random.default_rng(0).normal(size=(200, 9)),
            "overrides": [*small["overrides"], "image.train=all", "image.head=[12]"],
        },
        image_encoder="",
        folder=tmp_path / "run",
    )
    assert model_of_run(done.run.folder, "last").side.network.widths == (9, 12, 32)


def test_pictures_are_opened_ones_or_files(tmp_path):
    frame = pd.DataFrame({"lon": [1.0, 2.0, 3.0], "lat": [1.0, 2.0, 3.0]}, index=["a", "b", "c"])
    Image.new("RGB", (5, 4), (255, 0, 0)).save(tmp_path / "red.png")
    data = pictures_of(frame, [Image.new("L", (2, 3)), tmp_path / "red.png", tmp_path / "no.png"])
    assert (data.picture(0).size, data.picture(0).mode) == ((2, 3), "RGB")
    assert data.picture(1).getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(PictureError, match=r"^c: "):
        data.picture(2)
    with pytest.raises(TableError, match="There are 1 pictures, and the table has 3 rows"):
        pictures_of(frame, ["x"])


@pytest.fixture(scope="module")
def model():
    settings = TrainingSettings(
        data={"kind": "bluemarble"},
        location={"sigmas": [4.0], "frequencies": 16, "hidden": [16], "output": 12},
        image={"head": [8]},
    )
    return build_model(settings, feature_dimension=4, backbone=False)


def test_places_away_are_as_far_as_asked_and_measured_by_cosines(model):
    lonlat = places(50, 0)
    away = Away(model, lonlat, away_km=2000.0, count=100, seed=0)
    km = [great_circle_km(*place, *lonlat.T).min() for place in away.lonlat]
    assert len(km) == 100
    assert min(km) >= 2000.0
    still = away.moved(model)
    assert (still.mean, still.kept) == (pytest.approx(0.0, abs=1e-6), 100.0)

    with torch.no_grad():
        before = model.encode_places(away.lonlat)
        weight = model.location_encoder.capsules[0].head[0].weight
        kept = weight.clone()
        weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        after = model.encode_places(away.lonlat)
    cosines = torch.nn.functional.cosine_similarity(before.double(), after.double())
    moved = away.moved(model)
    weight.data.copy_(kept)
    drift = (1.0 - cosines).numpy()
    assert moved.mean == pytest.approx(drift.mean(), rel=1e-4)
    assert moved.mean_land == pytest.approx(drift[away.land].mean(), rel=1e-4)
    assert moved.high_land == pytest.approx(np.percentile(drift[away.land], 95), rel=1e-4)
    assert 0 < away.land.sum() < 100
