"""``geoembed weights list | pull``: trained weights, their provenance and where they lie."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from geoembed.cli.output import print_json
from geoembed.errors import unknown_name
from geoembed.extending.specs import WeightsSpec

if TYPE_CHECKING:
    from geoembed.weights import FoundWeights

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def weights() -> None:
    """List or fetch trained weights.

    Example:
        geoembed weights list
        geoembed weights pull geoclip.v1
    """


@app.command("list")
def list_weights(
    as_json: bool = typer.Option(False, "--json", help="Print JSON, with one entry a file."),
) -> None:
    """List the trained weights.

    Shows source, size, SHA-256, licence, paper, training data and where they were found.

    Example:
        geoembed weights list
        geoembed weights list --json
    """
    from geoembed.extending.registry import weights_specs
    from geoembed.weights import find

    pairs = [(spec, find(spec)) for spec in weights_specs().values()]
    if as_json:
        print_json([_facts(spec, found) for spec, found in pairs])
        return
    print("\n\n".join(_text(spec, found) for spec, found in pairs) or "No encoder has weights.")


@app.command()
def pull(
    name: str = typer.Argument(
        metavar="NAME", help="Name of the weights, as 'geoembed weights list' shows it."
    ),
    wheel: Path | None = typer.Option(
        None, "--from", metavar="FILE.whl", help="Take them from this wheel; no network is used."
    ),
    force: bool = typer.Option(False, "--force", help="Fetch them even if the cache has them."),
) -> None:
    """Fetch weights into the cache.

    Prints size and licence first, asks pip for the one wheel that ships them, and checks every
    SHA-256.

    Example:
        geoembed weights pull geoclip.v1
        geoembed weights pull geoclip.v1 --from geoclip-1.3.0-py3-none-any.whl
    """
    from geoembed.extending.registry import weights_specs
    from geoembed.weights import pull as fetch

    specs = weights_specs()
    if name not in specs:
        raise unknown_name("set of weights", name, specs)
    fetch(specs[name], wheel=wheel, force=force)


def _text(spec: WeightsSpec, found: "FoundWeights | None") -> str:
    lines = [
        spec.name,
        f"  source         {spec.distribution} {spec.version} (a wheel)",
        f"  size           {spec.size / 1e6:.1f} MB",
        f"  licence        {spec.licence}",
        f"  paper          {spec.paper}",
        f"  training data  {spec.training_data}",
        f"  found          {_place(spec, found)}",
        "  files",
    ]
    for file in spec.files:
        lines += [f"    {file.role}: {file.path}, {file.size:,} bytes", f"      {file.sha256}"]
    return "\n".join(lines)


def _place(spec: WeightsSpec, found: "FoundWeights | None") -> str:
    if found is None:
        from geoembed.weights.store import remedy

        return f"nowhere; type: {remedy(spec).removesuffix(' --force')}"
    return f"in the {found.kind}: {_folder(found)}"


def _folder(found: "FoundWeights") -> Path:
    return Path(os.path.commonpath([path.parent for path in found.files.values()]))


def _facts(spec: WeightsSpec, found: "FoundWeights | None") -> dict[str, Any]:
    paths = found.files if found is not None else {}
    return {
        "name": spec.name,
        "source": f"{spec.distribution} {spec.version}",
        "size": spec.size,
        "licence": spec.licence,
        "paper": spec.paper,
        "training_data": spec.training_data,
        "found": found.kind if found is not None else None,
        "files": [
            {
                "role": file.role,
                "path_in_source": file.path,
                "size": file.size,
                "sha256": file.sha256,
                "path": str(paths[file.role]) if file.role in paths else None,
            }
            for file in spec.files
        ],
    }
