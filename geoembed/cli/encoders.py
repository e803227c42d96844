"""``geoembed encoders``: the registered location encoders, without importing any."""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import typer

from geoembed.cli.output import print_json, table
from geoembed.errors import unknown_name
from geoembed.extending.specs import LocationEncoderSpec

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["encoders"]


def encoders(
    pattern: str = typer.Argument(
        "*", help="Only names that match, with * and ? as in a shell; or a model's folder or file."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON with every fact of the specs."),
) -> None:
    """List the location encoders.

    Shows name, dimension, where the trained weights are, licence and summary.

    Example:
        geoembed encoders
        geoembed encoders 'geo*' --json
        geoembed encoders exported/
        geoembed encoders encoder.onnx
    """
    from pathlib import Path

    from geoembed.extending.registry import location_encoder_specs

    specs = location_encoder_specs()
    given = False
    found = [spec for name, spec in specs.items() if fnmatchcase(name, pattern.lower())]
    if not found and Path(pattern).exists():
        found, given = [_read(Path(pattern))], True
    if not found:
        raise unknown_name("encoder", pattern, specs)
    if as_json:
        print_json([_facts(spec, given) for spec in found])
        return
    rows = [[s.name, s.dimension, _state(s, given), s.licence or "-", s.summary] for s in found]
    print(table(["name", "dimension", "weights", "licence", "summary"], rows))


def _read(path: "Path") -> LocationEncoderSpec:
    """Return the spec of a model's folder or file."""
    if path.suffix.lower() == ".onnx":
        from geoembed.encoders.onnx_encoder import describe_onnx

        return describe_onnx(path)
    from geoembed.encoders import load_encoder

    return load_encoder(path).spec


def _state(spec: LocationEncoderSpec, given: bool) -> str:
    from geoembed.weights import find

    if given:
        return "where you said"
    if spec.weights is None:
        return "none needed"
    found = find(spec.weights)
    return f"in the {found.kind}" if found is not None else "missing"


def _facts(spec: LocationEncoderSpec, given: bool) -> dict[str, Any]:
    return {
        "name": spec.name,
        "dimension": spec.dimension,
        "summary": spec.summary,
        "owner": spec.owner,
        "factory": spec.factory,
        "licence": spec.licence,
        "paper": spec.paper,
        "training_data": spec.training_data,
        "tolerance": spec.tolerance,
        "weights": spec.weights.name if spec.weights is not None else None,
        "weights_state": _state(spec, given),
        "details": dict(spec.details),
    }
