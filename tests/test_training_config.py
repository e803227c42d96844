"""Settings from recipes, files, tables and command lines: what holds, and what is refused how."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoembed.errors import OptionError, UnknownNameError
from geoembed.training.config import load_settings, merge_tables
from geoembed.training.settings import TrainingSettings
from geoembed.training.settings_text import differences, flat_settings, settings_toml

SMALL = {"data": {"kind": "bluemarble"}}


def write(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_table_gives_settings_and_leaves_defaults():
    settings = load_settings({**SMALL, "loop": {"batch": 64}})
    assert settings.loop.batch == 64
    assert settings.loop.accumulate == TrainingSettings(**SMALL).loop.accumulate


def test_file_lies_over_its_bases_and_overrides_over_all(tmp_path):
    write(
        tmp_path, "a.toml", 'seed = 1\n[data]\nkind = "bluemarble"\ncrops = 10\n[loop]\nbatch = 4'
    )
    write(tmp_path, "b.toml", 'base = "a.toml"\nseed = 2\n[loop]\nsteps = 7')
    source = write(tmp_path, "c.toml", 'base = "b.toml"\n[data]\ncrops = 30')
    settings = load_settings(source, ["loop.steps=9"])
    assert (settings.seed, settings.data.crops) == (2, 30)
    assert (settings.loop.batch, settings.loop.steps) == (4, 9)


def test_base_is_found_beside_the_file_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    write(tmp_path / "inner", "base.toml", 'seed = 5\n[data]\nkind = "bluemarble"')
    source = write(tmp_path, "own.toml", 'base = "inner/base.toml"')
    monkeypatch.chdir(tmp_path / "inner")
    assert load_settings(source).seed == 5


def test_base_says_nothing_of_data_that_are_not_its_own(tmp_path):
    write(tmp_path, "a.toml", 'base = "geoclip-mp16"\nseed = 2')
    assert load_settings(tmp_path / "a.toml").training_data.startswith("MP-16")
    own = write(tmp_path, "b.toml", 'base = "a.toml"\n[data]\nkind = "manifest"\npath = "x.csv"')
    assert (load_settings(own).training_data, load_settings(own).seed) == ("", 2)
    assert load_settings(own).summary == ""
    told = {"base": "bluemarble", "licence": "mine", "data": {"kind": "shards", "path": "x"}}
    assert (load_settings(told).licence, load_settings(told).training_data) == ("mine", "")


def test_data_of_the_command_line_make_training_data_the_words_of_the_recipe():
    words = load_settings("geoclip-mp16").training_data
    given = ["data.path=shards"]
    doubted = load_settings("geoclip-mp16", given)
    assert doubted.training_data == f"{words} (as the recipe says)"
    # The settings that a run keeps are read again, by the same command too.
    kept = json.loads(doubted.model_dump_json())
    assert load_settings(kept, ["data.path=elsewhere"]).training_data == doubted.training_data
    assert load_settings("geoclip-mp16", ["data.validation=0.1"]).training_data == words
    own = load_settings("geoclip-mp16", [*given, "training_data=mine"])
    assert own.training_data == "mine"
    none = load_settings({"data": {"kind": "bluemarble"}}, ["data.kind=shards", "data.path=x"])
    assert none.training_data == ""


def test_table_takes_a_base_too_and_stays_as_it_is():
    table = {"base": "bluemarble", "seed": 3}
    assert load_settings(table).image.tower == "convnet"
    assert table == {"base": "bluemarble", "seed": 3}


def test_lists_are_replaced_and_tables_are_merged():
    assert merge_tables({"a": {"b": [1, 2], "c": 1}}, {"a": {"b": [3]}}) == {
        "a": {"b": [3], "c": 1}
    }


@pytest.mark.parametrize("chain", [["a.toml"], ["b.toml", "a.toml"]])
def test_circle_of_bases_is_refused(tmp_path, chain):
    for name, base in zip(["a.toml", *chain], chain, strict=False):
        write(tmp_path, name, f'base = "{base}"')
    with pytest.raises(OptionError, match=r"runs in a circle: .*a\.toml -> .*a\.toml"):
        load_settings(str(tmp_path / "a.toml"))


def test_base_that_is_no_name_is_refused():
    with pytest.raises(OptionError, match="base = 3 must be the name of a recipe or a file"):
        load_settings({"base": 3})


def test_unknown_recipe_names_close_ones():
    with pytest.raises(UnknownNameError, match="no recipe named 'bluemarbel'.*'bluemarble'"):
        load_settings("bluemarbel")


def test_matrix_is_no_recipe():
    with pytest.raises(OptionError, match="is a matrix of runs, not one: geoembed train --matrix"):
        load_settings("matrix-bluemarble")


def test_missing_file_and_broken_toml_are_told(tmp_path):
    with pytest.raises(OptionError, match=r"recipe file .*none\.toml cannot be read"):
        load_settings(str(tmp_path / "none.toml"))
    with pytest.raises(OptionError, match=r"bad\.toml is no TOML"):
        load_settings(write(tmp_path, "bad.toml", "seed = = 1"))


@pytest.mark.parametrize(
    ("override", "section", "field", "expected"),
    [
        ("loop.batch=32", "loop", "batch", 32),
        ("loop.device=cpu", "loop", "device", "cpu"),
        ('loop.device="cpu"', "loop", "device", "cpu"),
        ("loop.compile=true", "loop", "compile", True),
        ("optimiser.lr=1e-3", "optimiser", "lr", 1e-3),
        ("optimiser.betas=[0.8, 0.9]", "optimiser", "betas", (0.8, 0.9)),
        ("location.sigmas=[1, 4.5]", "location", "sigmas", [1.0, 4.5]),
        ("data.path=a b=c", "data", "path", "a b=c"),
        ("data.path=2024", "data", "path", "2024"),
        ("data.path=", "data", "path", ""),
        (" loop . batch = 8 ", "loop", "batch", 8),
    ],
)
def test_overrides_are_read_as_toml_and_bare_words_as_text(override, section, field, expected):
    got = getattr(getattr(load_settings(SMALL, [override]), section), field)
    assert got == expected
    assert type(got) is type(expected)


def test_last_override_wins():
    assert load_settings(SMALL, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loop.batch", "'loop.batch' is no setting: write section.field=value"),
        ("=3", "'=3' is no setting"),
        ("loop.batch=1", "loop.batch = 1 must be at least 2"),
        ("loop.batch=2.0", "loop.batch = 2.0 must be a whole number"),
        ("loop.batch=many", "loop.batch = 'many' must be a whole number"),
        ("loop.epochs=true", "loop.epochs = True must be a number"),
        ("loop.epochs=inf", "loop.epochs = inf must be a finite number|must be a number"),
        ("loop.compile=1", "loop.compile = 1 must be true or false"),
        ("optimiser.lr=0", "optimiser.lr = 0 must be above 0"),
        ("optimiser.ema=1", "optimiser.ema = 1 must be at most 0.99999"),
        ("location.sigmas=1,16", "location.sigmas = '1,16' must be a list"),
        ("location.sigmas=[1, -2]", r"location.sigmas\[1\] = -2 must be above 0"),
        ("optimiser.betas=[0.9]", r"optimiser.betas\[1\] must be there"),
        ("loop=3", "loop = 3 must be a table"),
        ("data.kind=tar", "data.kind = 'tar' must be one of 'manifest', 'shards', 'features'"),
        ("loop.bath=3", r"no field of \[loop\] named 'bath'. Close matches: 'batch'"),
        ("lop.batch=3", "no section or field named 'lop'. Close matches: 'loop'"),
        (
            "optimiser.batch=3",
            r"no field of \[optimiser\] named 'batch'. It stands elsewhere: loop",
        ),
        ("batch=3", "no section or field named 'batch'. It stands elsewhere: loop.batch"),
        ("loop.batch.x=3", "loop.batch = {'x': 3} must be a whole number"),
        ("loop.accumulate=3", "loop.batch = 512 cannot be cut into loop.accumulate = 3"),
        ("data.kind=manifest", "data.kind = 'manifest' needs data.path"),
        ("location.add_sigmas=[4]", "location.add_sigmas needs location.init"),
        ("objective.anchor=1", "objective.anchor needs location.init"),
        ("location.sigmas=[]", r"location.sigmas = \[\] must hold at least one number"),
        ("loop.epochs=0", "loop.epochs = 0 and loop.steps = 0: there is nothing to do"),
        ("optimiser.betas=[0.9, 1.0]", r"optimiser.betas = \[0.9, 1.0\] must be at least 0"),
        ("objective.temperature=0.001", "starts at the scale 1000, above objective.max_scale"),
    ],
)
def test_problems_name_the_field_what_was_found_and_what_is_allowed(override, message):
    with pytest.raises(OptionError, match=message):
        load_settings(SMALL, [override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["views.pool=2", "views.count=3"], "views.count = 3 and views.pool = 2"),
        (
            ["location.train=none", "image.train=none", "objective.learn_temperature=false"],
            "nothing would be trained",
        ),
        (["image.tower=convnet", "image.train=head"], "needs image.init: its tower"),
        (["image.tower=convnet", "image.widths=[]"], r"image.widths = \[\] must hold"),
    ],
)
def test_impossible_combinations_are_refused(overrides, message):
    with pytest.raises(OptionError, match=message):
        load_settings(SMALL, overrides)


def test_all_problems_are_told_at_once():
    with pytest.raises(OptionError, match="4 problems in the settings") as caught:
        load_settings(SMALL, ["loop.batch=1", "loop.bath=3", "seed=-1", "no"])
    said = str(caught.value)
    assert all(part in said for part in ("'no'", "'bath'", "loop.batch = 1", "seed = -1"))


@given(
    name=st.text(st.characters(exclude_categories=["Cs"])),
    path=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    lr=st.floats(min_value=1e-300, max_value=1e300),
    sigmas=st.lists(st.floats(min_value=1e-10, max_value=1e22), min_size=1, max_size=4),
    flip=st.booleans(),
)
def test_settings_survive_their_toml(name, path, lr, sigmas, flip):
    table = {
        "name": name,
        "data": {"path": path},
        "optimiser": {"lr": lr},
        "location": {"sigmas": sigmas},
        "views": {"flip": flip},
    }
    settings = load_settings(table)
    assert load_settings(tomllib.loads(settings_toml(settings))) == settings


def test_toml_holds_every_field():
    settings = TrainingSettings(**SMALL)
    table = tomllib.loads(settings_toml(settings))
    assert set(table) == set(TrainingSettings.model_fields)
    assert set(table["loop"]) == set(type(settings.loop).model_fields)


def test_differences_name_fields_and_both_values():
    first, second = load_settings(SMALL), load_settings(SMALL, ["loop.batch=64", "name=x"])
    assert differences(first, first) == []
    assert differences(first, second) == ['name: "run" -> "x"', "loop.batch: 512 -> 64"]
    assert flat_settings(second)["optimiser.betas"] == [0.9, 0.999]
