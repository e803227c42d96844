"""The recipes that come with geoembed, against what is published of GeoCLIP's training."""

import tomllib
from importlib.resources import files

import pytest

from geoembed.training.config import RECIPES_PACKAGE, list_recipes, load_settings
from geoembed.training.settings_text import differences, flat_settings, settings_toml

# Facts of the published recipe, each by its field: code, weights and text of the authors.
PUBLISHED = {
    "location.projection": "equal-earth",
    "location.encoding": "rff",
    "location.sigmas": [2.0**0, 2.0**4, 2.0**8],
    "location.frequencies": 256,
    "location.hidden": [1024, 1024, 1024],
    "location.output": 512,
    "image.tower": "backbone",
    "image.backbone": "geoclip.v1",
    "image.head": [768],
    "objective.symmetric": False,
    "objective.learn_temperature": True,
    "objective.queue": 4096,
    "views.augment": "simclr",
    "views.flip": True,
    "views.jitter": 0.8,
    "views.brightness": 0.4,
    "views.contrast": 0.4,
    "views.saturation": 0.4,
    "views.hue": 0.1,
    "views.greyscale": 0.2,
    "validation.gallery": "train",
    "validation.gallery_size": 100_000,
}
# Repeated by others; never to be shown as the paper's.
SECONDARY = {
    "objective.batch_noise_m": 150.0,
    "objective.queue_noise_m": 1000.0,
    "optimiser.name": "adam",
    "optimiser.lr": 3e-5,
    "optimiser.weight_decay": 1e-6,
    "optimiser.schedule": "step",
    "optimiser.gamma": 0.87,
    "loop.epochs": 10.0,
    "loop.batch": 512,
}
NOT_CHECKED = {
    "objective.temperature": 0.07,
    "views.min_area": 0.08,
    "views.max_ratio": 4 / 3,
}


def lines_of(name):
    """`section.field` -> the line of a recipe that gives it."""
    text = files(RECIPES_PACKAGE).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    section, found = "", {}
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]") + "."
        elif "=" in line and not line.startswith("#"):
            found[section + line.partition("=")[0].strip()] = line
    return found


@pytest.mark.parametrize("name", list_recipes())
def test_recipe_is_valid_named_and_survives_its_toml(name):
    settings = load_settings(name)
    assert settings.name == name
    assert settings.summary
    assert not settings.summary.endswith(".")
    assert load_settings(tomllib.loads(settings_toml(settings))) == settings


@pytest.mark.parametrize(("field", "value"), [*PUBLISHED.items(), *SECONDARY.items()])
def test_mp16_recipe_holds_the_fact(field, value):
    assert flat_settings(load_settings("geoclip-mp16"))[field] == value


@pytest.mark.parametrize(("field", "value"), NOT_CHECKED.items())
def test_mp16_recipe_holds_what_was_not_checked(field, value):
    assert flat_settings(load_settings("geoclip-mp16"))[field] == pytest.approx(value)


@pytest.mark.parametrize(
    ("fields", "word"), [(PUBLISHED, "# paper"), (SECONDARY, "# secondary"), (NOT_CHECKED, "# not")]
)
def test_mp16_recipe_says_where_each_number_comes_from(fields, word):
    lines = lines_of("geoclip-mp16")
    assert [field for field in fields if word not in lines[field]] == []


def test_every_other_number_of_the_mp16_recipe_is_marked_as_ours():
    known = {*PUBLISHED, *SECONDARY, *NOT_CHECKED}
    words = {"name", "summary", "training_data", "data.kind", "data.path", "image.train"}
    lines = lines_of("geoclip-mp16")
    others = {k: v for k, v in lines.items() if k not in known | words}
    assert [field for field, line in others.items() if "# ours" not in line] == []


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("plate-carree", {"location.projection": "plate-carree"}),
        ("sphere", {"location.projection": "sphere"}),
        ("no-rff", {"location.encoding": "none", "location.sigmas": [1.0]}),
        ("one-scale", {"location.sigmas": [16.0]}),
        ("two-scales", {"location.sigmas": [1.0, 16.0]}),
        ("four-scales", {"location.sigmas": [2.0 ** (8 * i / 3) for i in range(4)]}),
        ("narrow", {"location.hidden": [512, 512, 512]}),
        ("no-queue", {"objective.queue": 0}),
        ("short-queue", {"objective.queue": 512}),
        ("no-noise", {"objective.batch_noise_m": 0.0, "objective.queue_noise_m": 0.0}),
        ("views", {"views.count": 2}),
        ("no-augment", {"views.augment": "none"}),
        ("backbone", {"image.backbone": "timm.dinov2-b14"}),
        ("symmetric", {"objective.symmetric": True}),
        ("mask", {"objective.mask_km": 25.0}),
        ("smooth", {"objective.smooth_km": 75.0}),
        # Batches of 256 on reduced data are secondary.
        ("fraction-5", {"data.fraction": 0.05, "loop.batch": 256}),
        ("fraction-10", {"data.fraction": 0.1, "loop.batch": 256}),
        ("fraction-20", {"data.fraction": 0.2, "loop.batch": 256}),
        ("fraction-50", {"data.fraction": 0.5, "loop.batch": 256}),
    ],
)
def test_ablation_changes_only_what_it_is_about(name, changed):
    base, ablation = load_settings("geoclip-mp16"), load_settings(f"ablation-{name}")
    fields = {line.partition(":")[0] for line in differences(base, ablation)}
    assert fields == {"name", "summary", *changed}
    flat = flat_settings(ablation)
    assert {key: flat[key] for key in changed} == changed


def test_every_ablation_is_tested():
    tested = {case[0] for case in test_ablation_changes_only_what_it_is_about.pytestmark[0].args[1]}
    shipped = {n.removeprefix("ablation-") for n in list_recipes() if n.startswith("ablation-")}
    assert tested == shipped


def test_seamless_is_the_published_recipe_on_the_sphere():
    fields = differences(load_settings("geoclip-mp16"), load_settings("seamless"))
    assert {f.partition(":")[0] for f in fields} == {"name", "summary", "location.projection"}


def test_add_scale_trains_the_new_capsule_only():
    settings = load_settings("add-scale")
    assert settings.location.init == settings.image.init == "geoclip.v1"
    assert settings.location.add_sigmas == [2.0**12]
    assert (settings.location.train, settings.image.train) == ("added", "none")
    assert not settings.objective.learn_temperature
    # A wave of the new scale is about 20,015 km / 2^12 long.
    assert settings.objective.batch_noise_m < 0.05 * 20_015e3 / 2**12


def test_finetuning_starts_from_the_release_and_is_anchored():
    settings = load_settings("finetune-region")
    assert settings.location.init == settings.image.init == "geoclip.v1"
    assert settings.objective.anchor > 0
    assert settings.objective.mask_own
    assert settings.data.kind == "features"


def test_bluemarble_trains_both_sides_from_scratch_on_held_out_blocks_of_ten_degrees():
    settings = load_settings("bluemarble")
    assert settings.image.tower == "convnet"
    assert settings.location.init == settings.image.init == ""
    assert settings.image.size <= settings.data.crop_size
    assert settings.data.block_deg == 10.0
    # No pixel of a held-out crop is trained on: a crop is 3.2 degrees high and as wide.
    assert settings.data.buffer_km > 3.2 * 111.2
    assert settings.data.validation > 0
    assert settings.licence
    assert settings.training_data
