"""Pages made from the package itself at build time, so that they cannot grow stale.

Written into ``docs/_generated`` before Sphinx looks for its sources: the models page from the
registered specs, the command-line page from the commands' own help, the modules from their
docstrings, and copies of the tutorials, which Sphinx wants inside its folder.
"""

import ast
import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geoembed.cli.app import build
from geoembed.cli.main import main
from geoembed.extending.registry import (
    gallery_specs,
    image_encoder_specs,
    location_encoder_specs,
)
from geoembed.extending.specs import LocationEncoderSpec, WeightsFile, WeightsSpec
from geoembed.testing import isolated_plugins
from geoembed.training.config import list_recipes, load_settings
from geoembed.training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "docs" / "_generated"

# Settings of the kernels that run pages, so that nobody's own IPython profile has a part in them.
KERNEL_SETTINGS = """c = get_config()
c.Application.log_level = "ERROR"  # not a warning a page that its sockets are not encrypted
c.InlineBackend.figure_formats = {"retina"}
"""

BASELINES = """Closed formulas that have learned nothing: what every claim about a trained encoder
has to beat. They need no weights and no torch, and are computed in float64; `dtype="float64"`
keeps all of it. `geoembed.extending.baselines` makes the specs of other degrees and scales."""

LABELS = {
    "sha256": "SHA-256",
    "tensors_sha256": "digest of the tensors",
    "training_data": "training data",
    "path": "file",
    "size": "size",
}


def setup(app: Any) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("builder-inited", lambda _: write_pages())
    return {"parallel_read_safe": True}


def write_pages() -> None:
    """Write every generated page; untouched where nothing changed, so that rebuilds are quick."""
    pages = {
        "models.md": models_page(),
        "image_encoders.md": image_encoders_page(),
        "gallery_specs.md": gallery_specs_page(),
        "cli.md": cli_page(),
        "rooms.md": rooms_page(),
        "settings.md": settings_page(),
        "recipes.md": recipes_page(),
    }
    for tutorial in sorted((ROOT / "tutorials").glob("[0-9]*.py")):
        # Links in the scripts lead from where they lie to the pages beside them.
        text = tutorial.read_text("utf-8").replace("](../docs/", "](../../")
        pages[f"tutorials/{tutorial.name}"] = text
    pages["ipython/profile_default/ipython_kernel_config.py"] = KERNEL_SETTINGS
    os.environ["IPYTHONDIR"] = str(GENERATED / "ipython")
    for name, text in pages.items():
        path = GENERATED / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


# -- models -------------------------------------------------------------------------------------


def models_page() -> str:
    """Describe every built-in encoder by all fields of its spec."""
    with isolated_plugins():
        specs = list(location_encoder_specs().values())
    sections = [_encoder_section(spec, spec.weights) for spec in specs if spec.weights]
    return "\n".join([*sections, _baselines_section([s for s in specs if s.weights is None])])


def image_encoders_page() -> str:
    """Describe every built-in image encoder by all fields of its spec."""
    with isolated_plugins():
        specs = list(image_encoder_specs().values())
    sections = []
    for spec in specs:
        fields = _fields(spec, leave_out={"name", "summary", "details", "weights", "preprocessing"})
        fields |= _fields(spec.preprocessing, leave_out=set()) | dict(spec.details)
        weights = spec.weights.name if spec.weights else "none"
        fields["trained head"] = f"the role image_mlp of the weights {weights}"
        table = _table({key: value for key, value in fields.items() if value})
        sections.append("\n".join([f"### {spec.name}", "", f"{spec.summary}.", "", *table, ""]))
    return "\n".join(sections)


def gallery_specs_page() -> str:
    """Describe every built-in gallery by its spec."""
    with isolated_plugins():
        specs = list(gallery_specs().values())
    lines = ["| name | what it is | places from | licence |", "|---|---|---|---|"]
    lines += [f"| `{s.name}` | {s.summary} | {s.source} | {s.licence} |" for s in specs]
    return "\n".join([*lines, ""])


def _encoder_section(spec: LocationEncoderSpec, weights: WeightsSpec) -> str:
    lines = [f"## {spec.name}", "", f"{spec.summary}.", "", *_table(_facts(spec)), ""]
    return "\n".join([*lines, *_weights_section(weights)])


def _baselines_section(specs: list[LocationEncoderSpec]) -> str:
    lines = [
        "## Baselines",
        "",
        BASELINES,
        "",
        "| name | values | what they are |",
        "|---|---|---|",
    ]
    lines += [f"| `{spec.name}` | {spec.dimension} | {spec.summary} |" for spec in specs]
    families: dict[str, list[LocationEncoderSpec]] = {}
    for spec in specs:
        families.setdefault(spec.name.partition(".")[0], []).append(spec)
    for family, members in families.items():
        lines += ["", f"### {family}", "", *_table(_family_facts(members))]
    return "\n".join([*lines, ""])


def _family_facts(specs: list[LocationEncoderSpec]) -> dict[str, str]:
    """Facts of several specs: once what they share, else under the name of each."""
    rows = {}
    for key in _facts(specs[0]):
        values = [_facts(spec)[key] for spec in specs]
        if len(set(values)) == 1:
            rows[key] = values[0]
        else:
            rows |= {f"{key}, {s.name}": v for s, v in zip(specs, values, strict=True)}
    return {key: value for key, value in rows.items() if value}


def _facts(spec: LocationEncoderSpec) -> dict[str, str]:
    fields = _fields(spec, leave_out={"name", "summary", "details", "weights"})
    return {**fields, **spec.details}


def _weights_section(weights: WeightsSpec) -> list[str]:
    fields = _fields(weights, leave_out={"name", "files"})
    fields["size"] = _megabytes(weights.size)
    lines = [f"### Weights of {weights.name}", "", *_table(fields), ""]
    for file in weights.files:
        lines += [f"**{file.role}**", "", *_table(_file_rows(file)), ""]
    return lines


def _file_rows(file: WeightsFile) -> dict[str, str]:
    rows = _fields(file, leave_out={"role", "size"})
    rows["size"] = f"{file.size:,} bytes ({_megabytes(file.size)})"
    for key in ("path", "sha256", "tensors_sha256"):
        rows[key] = f"`{rows[key]}`" if rows[key] else "none: the file holds no tensors"
    return rows


def _fields(spec: Any, *, leave_out: set[str]) -> dict[str, str]:
    values = {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)}
    return {k: "" if v is None else str(v) for k, v in values.items() if k not in leave_out}


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size} bytes"


def _table(rows: dict[str, str]) -> list[str]:
    lines = ["| field | value |", "|---|---|"]
    for key, value in rows.items():
        label = LABELS.get(key, key.replace("_", " "))
        # A bar inside a cell would end it.
        lines.append(f"| {label} | {value.replace('|', chr(92) + '|') or '-'} |")
    return lines


# -- command line -------------------------------------------------------------------------------


def cli_page() -> str:
    """Show the help of every built-in command as the command prints it."""
    with isolated_plugins():
        commands = list(_walk(build(), ()))
        return "\n".join(_command_section(names) for names in commands)


def _walk(command: Any, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield names
    for name, child in getattr(command, "commands", {}).items():
        yield from _walk(child, (*names, name))


def _command_section(names: tuple[str, ...]) -> str:
    title = " ".join(["geoembed", *names])
    level = "#" * min(2 + max(len(names) - 1, 0), 3)
    return f"{level} {title}\n\n```text\n{help_text(names)}\n```\n"


def help_text(names: tuple[str, ...]) -> str:
    """Return what ``geoembed NAMES --help`` prints, in lines of 88 characters."""
    printed = io.StringIO()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "90"
    try:
        with contextlib.redirect_stdout(printed):
            code = main([*names, "--help"])
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    if code != 0:
        raise RuntimeError(f"geoembed {' '.join(names)} --help ends with {code}")
    return printed.getvalue().strip()


# -- rooms --------------------------------------------------------------------------------------


def rooms_page() -> str:
    """List every module with the first sentence of its docstring."""
    rows = [f"| `{name}` | {text} |" for name, text in module_summaries().items()]
    return "\n".join(["| module | what it does |", "|---|---|", *rows]) + "\n"


def module_summaries() -> dict[str, str]:
    """Return dotted name -> first line of the docstring, for every module of the package."""
    found = {}
    for path in sorted((ROOT / "geoembed").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        # Docstrings are reStructuredText, the page is Markdown.
        found[name] = doc.partition("\n")[0].replace("``", "`").replace("|", "\\|")
    return found


# -- training -----------------------------------------------------------------------------------


def settings_page() -> str:
    """Every setting of a training run: section, field, default, meaning."""
    parts = ["| field | default | meaning |", "|---|---|---|"]
    sections = [("", TrainingSettings)] + [
        (f"{name}.", field.annotation)
        for name, field in TrainingSettings.model_fields.items()
        if hasattr(field.annotation, "model_fields")
    ]
    for prefix, model in sections:
        for name, field in model.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                continue
            default = repr(field.default).replace("|", "\\|")
            meaning = " ".join((field.description or "").split()).replace("``", "`")
            parts.append(f"| `{prefix}{name}` | `{default}` | {meaning} |")
    return "\n".join(parts) + "\n"


def recipes_page() -> str:
    """Every recipe by name with its line."""
    rows = [f"| `{name}` | {load_settings(name).summary} |" for name in list_recipes()]
    return "\n".join(["| recipe | what it trains |", "|---|---|", *rows]) + "\n"
