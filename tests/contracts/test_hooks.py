"""Every hook has a test named after it and is documented with its exact signature."""

import ast
import inspect
import math
import re
from pathlib import Path

import pytest
import typer

from geoembed.cli.main import main
from geoembed.errors import OptionError
from geoembed.extending import (
    GallerySpec,
    HeadSpec,
    ImageEncoderSpec,
    IndexSpec,
    LocationEncoderSpec,
    Preprocessing,
    hookimpl,
    hookspecs,
)
from geoembed.extending.baselines import BASELINES
from geoembed.extending.host import SPEC_HOOKS
from geoembed.extending.registry import (
    gallery_specs,
    head_spec,
    head_specs,
    image_encoder_specs,
    index_specs,
    location_encoder_specs,
    resolve_factory,
)
from geoembed.testing import isolated_plugins

ROOT = Path(__file__).parents[2]
HOOKS = {
    name: hook
    for name, hook in vars(hookspecs).items()
    if getattr(hook, f"{hookspecs.PROJECT}_spec", None) is not None
}


def signature(hook):
    notes = dict(hook.__annotations__)
    returns = notes.pop("return")
    parameters = ", ".join(f"{name}: {note}" for name, note in notes.items())
    return f"{hook.__name__}({parameters}) -> {returns}"


def test_there_are_hooks():
    assert sorted(HOOKS) == [
        "register_commands",
        "register_galleries",
        "register_heads",
        "register_image_encoders",
        "register_indexes",
        "register_location_encoders",
    ]


def test_hook_register_location_encoders():
    class Plugin:
        @hookimpl
        def register_location_encoders(self, register):
            facts = {"factory": "math:hypot", "dimension": 2, "summary": "s"}
            register(LocationEncoderSpec(name="first.v1", **facts))
            register(LocationEncoderSpec(name="second.v1", **facts))

    with isolated_plugins(Plugin()):
        specs = location_encoder_specs()
    built_in = ["geoclip.v1", *(spec.name for spec in BASELINES), "bluemarble.v1"]
    assert list(specs) == [*built_in, "first.v1", "second.v1"]
    assert specs["second.v1"].owner == "Plugin 0"
    assert resolve_factory(specs["first.v1"].factory) is math.hypot


def test_hook_register_image_encoders():
    pixels = Preprocessing(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    class Plugin:
        @hookimpl
        def register_image_encoders(self, register):
            facts = {"factory": "math:hypot", "dimension": 3, "summary": "s"}
            register(ImageEncoderSpec(name="mean.colour", preprocessing=pixels, **facts))

    with isolated_plugins(Plugin()):
        specs = image_encoder_specs()
    assert list(specs) == ["geoclip.v1", "bluemarble.v1", "mean.colour"]
    assert specs["mean.colour"].owner == "Plugin 0"
    assert specs["mean.colour"].location_encoder == ""


def test_hook_register_galleries():
    class Plugin:
        @hookimpl
        def register_galleries(self, register):
            register(GallerySpec(name="airports+more", factory="math:hypot", summary="s"))

    with isolated_plugins(Plugin()):
        specs = gallery_specs()
    built_in = ["geoclip.100k", "geoclip.100k+land45", "cities", "bluemarble.land"]
    assert list(specs) == [*built_in, "airports+more"]
    assert specs["airports+more"].owner == "Plugin 0"
    assert specs["airports+more"].encoder == "geoclip.v1"


def test_hook_register_indexes():
    class Plugin:
        @hookimpl
        def register_indexes(self, register):
            register(IndexSpec(name="graph", factory="math:hypot", summary="s"))

    with isolated_plugins(Plugin()):
        specs = index_specs()
    assert list(specs) == ["exact", "graph"]
    assert specs["graph"].owner == "Plugin 0"
    assert not specs["graph"].exact


def test_hook_register_heads():
    class Plugin:
        @hookimpl
        def register_heads(self, register):
            facts = {"factory": "math:hypot", "task": "regression", "summary": "s"}
            register(HeadSpec(name="forest", **facts))
            facts |= {"task": "geolocation", "input_kind": "pictures"}
            register(HeadSpec(name="cells", **facts))

    with isolated_plugins(Plugin()):
        specs = head_specs()
        assert head_spec("cells", takes="pictures") is specs["cells"]
        with pytest.raises(OptionError, match="'cells' takes pictures, and these are places"):
            head_spec("cells", takes="places")
    assert list(specs) == ["regress", "classify", "landcover", "region", "forest", "cells"]
    assert specs["forest"].owner == "Plugin 0"
    assert specs["forest"].input_kind == "places"


def test_hook_register_commands(capsys):
    class Plugin:
        @hookimpl
        def register_commands(self, cli):
            @cli.command()
            def greet(name: str) -> None:
                """Greet somebody.

                Example:
                    geoembed greet Ada
                    geoembed greet Grace
                """
                typer.echo(f"Hello {name}")

    with isolated_plugins(Plugin()):
        assert main(["greet", "Ada"]) == 0
        assert capsys.readouterr().out == "Hello Ada\n"
        assert main(["greet", "--help"]) == 0
        expected = "  Example:\n      geoembed greet Ada\n      geoembed greet Grace\n"
        assert expected in capsys.readouterr().out
        assert main(["--help"]) == 0
        assert re.search(r"greet +Greet somebody\.", capsys.readouterr().out)


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_has_a_test_named_after_it(name):
    trees = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "tests").rglob("test_*.py")]
    tests = {n.name for tree in trees for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    assert f"test_hook_{name}" in tests


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented_with_its_signature(name):
    text = (ROOT / "docs" / "plugins.md").read_text("utf-8")
    assert f"```python\n{signature(HOOKS[name])}\n```" in text


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_says_what_it_takes_what_happens_on_errors_and_how_to_use_it(name):
    sections = inspect.getdoc(HOOKS[name])
    for section in ("Parameters", "Raises", "Notes", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in sections


def test_every_hook_that_registers_specs_is_wired():
    assert set(SPEC_HOOKS) == set(HOOKS) - {"register_commands"}


def test_the_built_in_registrations_use_every_hook():
    from geoembed.cli import builtin as commands
    from geoembed.extending import builtin as encoders
    from geoembed.extending import geolocation, heads

    marked = {
        name
        for module in (commands, encoders, geolocation, heads)
        for name, value in vars(module).items()
        if getattr(value, f"{hookspecs.PROJECT}_impl", None) is not None
    }
    assert marked == set(HOOKS)
