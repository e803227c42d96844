"""Layers go one way: every import anywhere in the syntax tree, functions included."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "geoembed"


def read_layers():
    """Module prefix -> height; 0 is the lowest. Modules of one line share a height."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    lines = [[name.strip() for name in line.split("|")] for line in contract["layers"]]
    return {name: height for height, line in enumerate(reversed(lines)) for name in line}


LAYERS = read_layers()


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(module):
    """The layer entry a module belongs to, or None for the package's own front door."""
    return next((name for name in LAYERS if module == name or module.startswith(f"{name}.")), None)


def imports(path):
    """Every geoembed module imported in a file, with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "geoembed":
                    yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            if node.module and node.module.partition(".")[0] == "geoembed":
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    yield (full if full in MODULES else node.module), node.lineno


def test_every_module_stands_in_a_layer():
    front_doors = {"geoembed", "geoembed.__main__"}
    assert {name for name in MODULES if room(name) is None} == front_doors
    assert {room(name) for name in MODULES} - {None} == set(LAYERS), "a layer without modules"


@pytest.mark.parametrize("module", [name for name in MODULES if room(name)])
def test_a_module_imports_only_from_lower_layers(module):
    for imported, line in imports(MODULES[module]):
        if room(imported) is None:
            assert imported == "geoembed", f"{module}:{line} imports {imported}"
            names = {
                a.name
                for n in ast.walk(ast.parse(MODULES[module].read_text()))
                if isinstance(n, ast.ImportFrom) and n.module == "geoembed"
                for a in n.names
            }
            assert names <= {"__version__"}, (
                f"{module}:{line} imports {names} through the front door"
            )
        elif room(imported) != room(module):
            assert LAYERS[room(imported)] < LAYERS[room(module)], (
                f"{module}:{line} imports {imported}, which is not below it"
            )


def test_no_module_is_past_400_lines():
    long = {n: c for n, p in MODULES.items() if (c := len(p.read_text().splitlines())) > 400}
    assert not long


def test_names_of_package_registry_hosts_and_paths_of_machines_are_nowhere():
    tracked = [*PACKAGE.rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    hosts = ["pypi" + ".org", "npmjs" + ".com", "npmjs" + ".org", "files.python" + "hosted"]
    for path in tracked:
        text = path.read_text(encoding="utf-8")
        assert not [host for host in hosts if host in text], path
