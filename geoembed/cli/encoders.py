"""``geoembed encoders``: the registered location encoders, without importing any."""

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import typer

from geoembed.cli.output import print_json, table
from geoembed.errors import unknown_name
from geoembed.extending.specs import LocationEncoderSpec

if TYPE_CHECKING:
    from pathlib import Path

    from geoembed.encoders.onnx_file import FileFacts

__all__ = ["encoders"]


def encoders(
    pattern: str = typer.Argument(
        "*", help="Only names that match, with * and ? as in a shell; or a model's folder or file."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON with every fact of the specs."),
) -> None:
    """List the location encoders.

    Shows name, dimension, where the trained weights are, licence and summary; of an ONNX file also
    what it computes in, and which layers it has.

    Example:
        geoembed encoders
        geoembed encoders 'geo*' --json
        geoembed encoders exported/
        geoembed encoders encoder.onnx
    """
    from pathlib import Path

    from geoembed.extending.registry import location_encoder_specs

    specs = location_encoder_specs()
    given, file = False, None
    found = [spec for name, spec in specs.items() if fnmatchcase(name, pattern.lower())]
    if not found and Path(pattern).exists():
        spec, file = _read(Path(pattern))
        found, given = [spec], True
    if not found:
        raise unknown_name("encoder", pattern, specs)
    if as_json:
        print_json([_facts(spec, given) | _facts_of_file(file) for spec in found])
        return
    rows = [[s.name, s.dimension, _state(s, given), s.licence or "-", s.summary] for s in found]
    print(table(["name", "dimension", "weights", "licence", "summary"], rows))
    if file is not None:
        print(f"\nONNX file, computes in {file.precision}, layers {file.layers}")


def _read(path: "Path") -> tuple[LocationEncoderSpec, "FileFacts | None"]:
    """Return the spec of a model's folder or file, and what an ONNX file says of itself."""
    if path.suffix.lower() == ".onnx":
        from geoembed.encoders.onnx_encoder import describe_onnx
        from geoembed.encoders.onnx_file import open_onnx

        spec, facts = describe_onnx(path), open_onnx(path).facts
        return replace(spec, dimension=facts.dimension), facts
    from geoembed.encoders import load_encoder

    return load_encoder(path).spec, None


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


def _facts_of_file(file: "FileFacts | None") -> dict[str, Any]:
    """What is not as the spec of the encoder says, and what only ONNX files have."""
    if file is None:
        return {}
    return {
        "factory": "geoembed.encoders.onnx_encoder:load_onnx",
        # These are of the encoder in torch, with all its layers.
        "tolerance": None,
        "details": {},
        "backend": "onnx",
        "precision": file.precision,
        "layers": file.layers,
        "weights_sha256": file.weights_sha256,
        "geoembed_version": file.version,
    }
