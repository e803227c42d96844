"""The documentation: complete, connected, and true to the package it describes."""

import dataclasses
import fnmatch
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from geoembed.cli.app import build
from geoembed.extending.registry import (
    gallery_specs,
    image_encoder_specs,
    location_encoder_specs,
)
from geoembed.testing import isolated_plugins

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FILES = [*DOCS.glob("*.md"), *DOCS.glob("systems/*.md")]
PAGES = sorted(p.relative_to(ROOT).as_posix() for p in FILES if p.stem != "remarks")
TEXTS = [*PAGES, "README.md", "CHANGELOG.md"]
# Plain pages; those with code cells are executed by `make docs`, plugins.md by the test of the
# template that it quotes.
PAGES_WITH_CODE = [
    "docs/index.md",
    "docs/conventions.md",
    "docs/weights.md",
    "docs/files.md",
    "docs/rasters_to_targets.md",
    "docs/photos.md",
    "docs/responsible_use.md",
    "docs/onnx.md",
    *(page for page in PAGES if page.startswith("docs/systems/") and "results" not in page),
]


@pytest.fixture(scope="module")
def pages():
    """The module that makes pages at build time."""
    spec = importlib.util.spec_from_file_location("pages", DOCS / "_ext" / "geoembed_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- pages ----------------------------------------------------------------------------------------


def toctree_entries():
    """Every document that a toctree names, from the root of the docs."""
    found = set()
    for page in map(ROOT.joinpath, PAGES):
        folder = page.parent.relative_to(DOCS)
        for body in re.findall(r"```{toctree}\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            lines = [line for line in body.splitlines() if line and not line.startswith(":")]
            found |= {(folder / line).as_posix() for line in lines}
    return found


def test_every_page_is_in_a_toctree():
    documents = {page.removeprefix("docs/").removesuffix(".md") for page in PAGES} - {"index"}
    documents |= {f"api/{page.stem}" for page in (DOCS / "api").glob("*.rst")}
    scripts = (ROOT / "tutorials").glob("*.py")
    documents |= {f"_generated/tutorials/{script.stem}" for script in scripts}
    assert toctree_entries() == documents


@pytest.mark.parametrize("page", [*TEXTS, "tutorials/01_embed_your_points.py"])
def test_links_within_the_tree_lead_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [link.partition("#")[0] for link in links if not re.match(r"https?:|#", link)]
    for link in local:
        if "_generated/tutorials/" in link:
            link = ROOT / "tutorials" / f"{Path(link).name}.py"
        assert ((ROOT / page).parent / link).exists(), link


@pytest.mark.parametrize("page", TEXTS)
def test_no_path_of_a_machine_and_no_placeholder(page):
    text = (ROOT / page).read_text("utf-8")
    assert not re.search(r"/(?:work|home|Users)/|\bTODO\b|\bXXX\b", text)


# -- code and commands ----------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES_WITH_CODE)
def test_python_on_a_page_runs(page, fenced_blocks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = [body for language, body in fenced_blocks(page) if language == "python"]
    assert blocks
    names = {"__name__": "page"}
    for body in blocks:
        exec(compile(body, page, "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_a_page_exist(page, shell_commands, check_command):
    for words in shell_commands(page):
        check_command(words)


def test_shell_session_of_five_minutes_prints_what_it_shows(fenced_blocks, tmp_path):
    """Runs the session from ``cat`` on, which shows the file that the rest works with."""
    sessions = [body for language, body in fenced_blocks("docs/five_minutes.md") if language]
    (session,) = [body for body in sessions if body.startswith("$ cat towns.csv\n")]
    # Every command with the lines it prints.
    (_, table), *steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE)
    (tmp_path / "towns.csv").write_text(table)
    folder = str(Path(sys.executable).parent)
    env = {**os.environ, "PATH": folder + os.pathsep + os.environ["PATH"], "COLUMNS": "88"}
    assert len(steps) == 2
    for command, shown in steps:
        assert command.startswith("geoembed ")
        done = subprocess.run(
            [sys.executable, "-m", *command.split()],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert fnmatch.fnmatchcase(done.stderr + done.stdout, shown.replace("...", "*"))


# -- reference ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module",
    [
        "geoembed",
        "geoembed.data",
        "geoembed.errors",
        "geoembed.evaluation",
        "geoembed.evaluation.geolocation",
        "geoembed.extending",
        "geoembed.galleries",
        "geoembed.geodesy",
        "geoembed.geolocation",
        "geoembed.heads",
        "geoembed.images",
        "geoembed.plot",
        "geoembed.similar",
        "geoembed.splits",
        "geoembed.streaming",
        "geoembed.targets",
        "geoembed.testing",
        "geoembed.webmap",
        "geoembed.weights",
    ],
)
def test_every_public_name_is_in_the_reference(module):
    text = (DOCS / "api" / "index.rst").read_text("utf-8")
    listed = set(re.findall(r"^   ([\w.]+)$", text, re.MULTILINE))
    listed |= set(re.findall(r"``([\w.]+)``", text))
    short = {name.rpartition(".")[2] for name in listed}
    room = module.removeprefix("geoembed").lstrip(".")
    for name in importlib.import_module(module).__all__:
        if room:
            assert f"{room}.{name}" in listed
        elif not name.startswith("__"):
            assert name in short


def test_models_page_shows_every_field_of_every_spec(pages):
    text = pages.models_page()
    with isolated_plugins():
        specs = location_encoder_specs().values()
    for spec in specs:
        weights = spec.weights
        things = (spec,) if weights is None else (spec, weights, *weights.files)
        for thing in things:
            for field in dataclasses.fields(thing):
                value = getattr(thing, field.name)
                if isinstance(value, str | int | float) and not isinstance(value, bool):
                    shown = f"{value:,}" if field.name == "size" else str(value)
                    assert shown in text, field.name
        for key, value in spec.details.items():
            assert f"| {key} | {value} |" in text or f"| {key}, {spec.name} | {value} |" in text


def test_image_encoders_and_galleries_are_on_the_models_page(pages):
    text = pages.image_encoders_page()
    with isolated_plugins():
        encoders, galleries = image_encoder_specs().values(), gallery_specs().values()
    for spec in encoders:
        for value in (spec.summary, spec.licence, spec.paper, spec.architecture, spec.dimension):
            assert str(value) in text
        for key, value in spec.details.items():
            assert f"| {key} | {value} |" in text
        assert str(spec.preprocessing.mean) in text
    table = pages.gallery_specs_page()
    for spec in galleries:
        assert f"| `{spec.name}` | {spec.summary} | {spec.source} | {spec.licence} |" in table


def test_models_page_has_one_section_of_baselines(pages):
    trained, baselines = pages.models_page().split("\n## Baselines\n")
    assert trained.startswith("## geoclip.v1\n")
    assert "harmonics" not in trained
    assert "\n## " not in baselines
    assert "| `harmonics.l40` | 1681 | Real spherical harmonics" in baselines
    table = baselines.partition("\n### space2vec\n")[2].partition("\n### ")[0]
    # What both share stands once, what they differ in under the name of each.
    assert table.count("\n| paper |") == table.count("\n| seams |") == 1
    assert "\n| formula, space2vec.grid | scale by scale cos" in table
    assert "\n| formula, space2vec.theory | scale by scale cos" in table


def test_command_page_shows_the_help_of_every_command(pages):
    text = pages.cli_page()
    with isolated_plugins():
        names = list(build().commands)
    assert {"embed", "similar", "encoders", "plugins", "weights", "doctor"} <= set(names)
    for name in names:
        assert f"## geoembed {name}\n\n```text\nUsage: geoembed {name} " in text
    assert "geoembed weights pull" in text


# -- architecture ---------------------------------------------------------------------------------


def test_layers_are_those_of_the_import_contract(fenced_blocks):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    expected = [layer.replace("geoembed.", "") for layer in contract["layers"]]
    blocks = [body.split("\n")[:-1] for _, body in fenced_blocks("docs/architecture.md")]
    assert expected in blocks


def test_every_room_is_in_the_table_of_rooms():
    text = (DOCS / "architecture.md").read_text("utf-8")
    table = text.partition("## Rooms")[2].partition("```")[0]
    first_cells = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    described = set(re.findall(r"`(\w+)`", " ".join(first_cells)))
    rooms = {path.stem for path in (ROOT / "geoembed").glob("*.py")}
    rooms |= {path.parent.name for path in (ROOT / "geoembed").glob("*/__init__.py")}
    assert described == rooms - {"__init__", "__main__"}


def test_every_module_is_listed_with_what_it_does(pages):
    summaries = pages.module_summaries()
    files = {path.relative_to(ROOT) for path in (ROOT / "geoembed").rglob("*.py")}
    assert len(summaries) == len(files)
    assert [name for name, summary in summaries.items() if len(summary) < 20] == []
    assert "| `geoembed.encoders.seam` | Close the tears of a planar map" in pages.rooms_page()
