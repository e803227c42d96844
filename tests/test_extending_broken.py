"""Broken plugins, installed for real, must harm nobody but themselves."""

import json
import os
import subprocess
import sys

import pytest

from geoembed.extending.baselines import BASELINES
from geoembed.testing import fake_distribution

BUILT_IN = ["geoclip.v1", *(spec.name for spec in BASELINES), "bluemarble.v1"]
HEAD = "from geoembed.extending import LocationEncoderSpec, hookimpl\n"
SPEC = "LocationEncoderSpec(name={!r}, factory='m:a', dimension=3, summary='s')"


def encoder_hook(*lines: str) -> str:
    body = "".join(f"\n    {line}" for line in lines)
    return f"{HEAD}\n@hookimpl\ndef register_location_encoders(register):{body}\n"


def command_hook(*lines: str) -> str:
    body = "".join(f"\n    {line}" for line in lines)
    return f"{HEAD}\n@hookimpl\ndef register_commands(cli):{body}\n"


def register(name: str) -> str:
    return f"register({SPEC.format(name)})"


# Name of the case -> source of the plugin's module, and what the report must say about it.
BROKEN = {
    "import-error": (
        "import no_such_module",
        "ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "syntax-error": ("def broken(:", "SyntaxError: invalid syntax"),
    "system-exit": ("import sys; sys.exit('good bye')", "SystemExit: good bye"),
    "asks-too-early": (
        "import geoembed.extending.registry as r; r.location_encoder_specs()",
        "a plugin asked for registered names while plugins were being loaded",
    ),
    "no-hooks": ("x = 1", "no_hooks has no function marked with @hookimpl"),
    "unknown-hook": (
        HEAD + "@hookimpl\ndef register_encoders(register): pass",
        "unknown hook 'register_encoders'",
    ),
    "wrong-arguments": (
        HEAD + "@hookimpl\ndef register_location_encoders(add): pass",
        "Argument(s) {'add'} are declared in the hookimpl but can not be found in the hookspec. "
        "The hooks of this geoembed: register_commands, register_galleries, register_heads, "
        "register_image_encoders, register_indexes, register_location_encoders",
    ),
    "no-spec": (
        encoder_hook("register('an encoder')"),
        "register() was given 'an encoder'; a location encoder is registered as a "
        "LocationEncoderSpec",
    ),
    "bad-name": (encoder_hook(register("Bad Name")), "The name 'Bad Name' does not fit"),
    "bad-dimension": (
        encoder_hook(register("bad").replace("dimension=3", "dimension=0")),
        "declares the dimension 0: it must be a positive whole number",
    ),
    "duplicate": (
        encoder_hook(register("duplicate.fine"), register("geoclip.v1")),
        "the location encoder name 'geoclip.v1' belongs to geoembed 0.1.0, and "
        "geoembed-duplicate 1.0 wants it too; choose another name",
    ),
    "same-name-twice": (
        encoder_hook(register("twice.v1"), register("twice.v1")),
        "geoembed-same-name-twice 1.0 registers the location encoder name 'twice.v1' twice",
    ),
    "fails-late": (
        encoder_hook(register("late.v1"), "raise ValueError('too late')"),
        "ValueError: too late",
    ),
    "command-clash": (
        command_hook("@cli.command()", "def encoders(): pass")
        + encoder_hook(register("clash.v1")).removeprefix(HEAD),
        "the command 'geoembed encoders' belongs to geoembed 0.1.0, and geoembed-command-clash "
        "1.0 wants it too; choose another name",
    ),
    "same-command-twice": (
        command_hook("cli.command('one')(lambda: None)", "cli.command('one')(lambda: None)"),
        "two of its commands have one name, or a group is empty; the names: one",
    ),
    "impossible-command": (
        command_hook("@cli.command()", "def strange(x: 'no_such_type'): pass"),
        "NameError: name 'no_such_type' is not defined",
    ),
    "takes-over": (
        command_hook("cli.callback()(lambda: None)"),
        "it sets a callback for the whole command line; a plugin may only add commands",
    ),
    "unshowable": (
        "class E(Exception):\n    def __str__(self): raise RuntimeError\nraise E",
        "E: (its message cannot be shown)",
    ),
}
HEALTHY = encoder_hook(register("healthy.v1")) + command_hook(
    "@cli.command()", "def hello(): print('hello')"
).removeprefix(HEAD)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    for case, (source, _) in BROKEN.items():
        fake_distribution(folder, f"geoembed-{case}", {case.replace("-", "_"): source})
    both = "[geoembed]\none = module_twice\ntwo = module_twice\n"
    fake_distribution(folder, "geoembed-module-twice", {"module_twice": HEALTHY}, entry_points=both)
    damaged = "[geoembed]\nno equals sign\n"
    fake_distribution(folder, "geoembed-damaged", {"damaged": ""}, entry_points=damaged)
    fake_distribution(folder, "not-ours", {"not_ours": ""}, entry_points="[x]\nno equals sign\n")
    fake_distribution(folder, "geoembed-healthy", {"healthy": HEALTHY}, version="2.5")
    return folder


def run(folder, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "geoembed", *arguments],
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def report(folder):
    code, out, err = run(folder, "plugins", "--json")
    assert code == 0, err
    return {row["name"]: row for row in json.loads(out)}, err.splitlines()


CAUSES = {
    **{case: cause for case, (_, cause) in BROKEN.items()},
    "module-twice": "it registers twice: module_twice is already loaded by geoembed-module-twice",
    "damaged": "its entry_points.txt cannot be read",
}


@pytest.mark.parametrize("case", CAUSES)
def test_broken_plugin_is_left_out_with_one_warning(report, case):
    rows, warnings = report
    row = rows[f"geoembed-{case}"]
    assert row["status"] == "failed"
    assert CAUSES[case] in row["error"]
    assert row["registered"] == {}
    assert row["hooks"] == []
    mine = [line for line in warnings if f"The plugin geoembed-{case} 1.0 was left out" in line]
    assert len(mine) == 1
    assert mine[0].startswith("geoembed: warning: ")
    assert CAUSES[case] in mine[0]


def test_everything_else_works(report, folder):
    rows, warnings = report
    assert len(warnings) == len(CAUSES)
    healthy = rows["geoembed-healthy"]
    assert healthy["status"] == "loaded"
    assert healthy["version"] == "2.5"
    assert healthy["hooks"] == ["register_commands", "register_location_encoders"]
    assert healthy["registered"] == {"location encoder": ["healthy.v1"], "command": ["hello"]}
    code, out, _ = run(folder, "hello")
    assert (code, out) == (0, "hello\n")


def test_nothing_of_a_failed_plugin_stays(folder):
    code, out, _ = run(folder, "encoders", "--json")
    assert code == 0
    assert {row["name"] for row in json.loads(out)} == {*BUILT_IN, "healthy.v1"}


def test_built_ins_come_first_and_plugins_by_name(report):
    names = list(report[0])
    assert names[0] == "geoembed"
    assert names[1:] == sorted(names[1:])
    assert "not-ours" not in names


def test_strict_plugins_raise(folder):
    selected = {"GEOEMBED_STRICT_PLUGINS": "1", "GEOEMBED_LOAD_PLUGINS": "geoembed-fails-late"}
    code, out, err = run(folder, "encoders", **selected)
    assert (code, out) == (1, "")
    expected = "geoembed: error: The plugin geoembed-fails-late 1.0 failed: ValueError: too late\n"
    assert err == expected


def test_strict_plugins_raise_for_commands(folder):
    selected = {"GEOEMBED_STRICT_PLUGINS": "1", "GEOEMBED_LOAD_PLUGINS": "geoembed-command-clash"}
    code, _, err = run(folder, "encoders", **selected)
    assert code == 1
    assert err.startswith("geoembed: error: The plugin geoembed-command-clash 1.0 failed: ")


def test_load_plugins_selects_by_distribution_name(folder):
    code, out, err = run(
        folder, "plugins", "--json", GEOEMBED_LOAD_PLUGINS="Geoembed_Healthy, geoembed-no-spec"
    )
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["geoembed-healthy"]["status"] == "loaded"
    assert rows["geoembed-no-spec"]["status"] == "failed"
    assert rows["geoembed-duplicate"]["status"] == "not selected"
    assert len(err.splitlines()) == 1


def test_load_plugins_empty_loads_none(folder):
    code, out, err = run(folder, "encoders", "--json", GEOEMBED_LOAD_PLUGINS="")
    assert (code, err) == (0, "")
    assert [row["name"] for row in json.loads(out)] == BUILT_IN


def test_load_plugins_names_nobody(folder):
    _, _, err = run(folder, "encoders", GEOEMBED_LOAD_PLUGINS="geoembed-helthy")
    assert "GEOEMBED_LOAD_PLUGINS names 'geoembed-helthy', but no installed" in err
    assert len(err.splitlines()) == 1


def test_trace_plugins_writes_hook_calls_to_stderr(folder):
    environment = {"GEOEMBED_TRACE_PLUGINS": "1", "GEOEMBED_LOAD_PLUGINS": ""}
    code, out, err = run(folder, "encoders", "--json", **environment)
    assert code == 0
    assert "register_location_encoders [hook]" in err
    assert json.loads(out)
