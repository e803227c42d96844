"""A location encoder as a program of torch.export: it runs where torch is, without geoembed."""

import json
from pathlib import Path
from typing import Any

import torch

from geoembed import __version__
from geoembed.encoders.base import LocationEncoder
from geoembed.training.graph import graph_of
from geoembed.training.graph_parity import Parity, check_parity
from geoembed.training.publishing import check_target, draft_file

__all__ = ["PROVENANCE", "export_program", "provenance", "trace_arguments"]

# Name of the file inside a program that says where it comes from.
PROVENANCE = "geoembed.json"


def export_program(
    encoder: LocationEncoder, path: str | Path, *, overwrite: bool = False, name: str = ""
) -> Parity:
    """Write an encoder as a program of torch.export, and compare the two.

    Parameters
    ----------
    encoder : LocationEncoder
        With a network, see `geoembed.training.graph.graph_of`.
    path : str or path
        The file, usually ``.pt2``. It appears when it is whole and compared.
    overwrite : bool
        Replace a file that is there.
    name : str
        What the file says it is; the encoder's name if not given.

    Returns
    -------
    Parity
        How near the file's vectors are to the encoder's, over 2,000 places.

    Raises
    ------
    OptionError
        If the encoder cannot be exported, or the file is there.
    TrainingError
        If the vectors differ by more than rounding, or the file cannot be written.

    Notes
    -----
    The program takes ``lon`` and ``lat``, float64, of shape (n,), degrees, WGS 84, longitude of any
    turn, and gives vectors (n, d): rows of NaN where a place is none. ``geoembed.json`` inside
    says where it comes from; `torch.export.load` reads it as an extra file.

    Examples
    --------
    >>> from geoembed.encoders import load_encoder
    >>> from geoembed.encoders.network import LocationNetwork
    >>> from safetensors.torch import save_file
    >>> network = LocationNetwork((1.0, 16.0), hidden=(8,), output=4)
    >>> save_file(network.state_dict(), "tiny.safetensors")
    >>> encoder = load_encoder("tiny.safetensors", device="cpu")
    >>> parity = export_program(encoder, "tiny.pt2")
    >>> place = torch.tensor([[2.35], [48.86]], dtype=torch.float64)
    >>> torch.export.load("tiny.pt2").module()(*place).shape
    torch.Size([1, 4])
    """
    target = check_target(path, overwrite=overwrite)
    program = torch.export.export(graph_of(encoder), **trace_arguments())
    with draft_file(target) as draft:
        facts = json.dumps(provenance(encoder, name), ensure_ascii=False)
        torch.export.save(program, draft, extra_files={PROVENANCE: facts})
        module = torch.export.load(draft).module()

        def run(lon: Any, lat: Any) -> Any:
            with torch.inference_mode():
                return module(torch.from_numpy(lon), torch.from_numpy(lat)).numpy()

        return check_parity(encoder, run, f"The program {target.name}")


def trace_arguments() -> dict[str, Any]:
    """Return what the exporters of torch are told: some places, and that any number may come.

    Returns
    -------
    dict of str to Any
        ``args`` and ``dynamic_shapes``.
    """
    # Three: lengths of 0 and 1 would be taken for constants.
    place = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    count = torch.export.Dim("n", min=1)
    return {"args": (place, place.clone()), "dynamic_shapes": ({0: count},) * 2}


def provenance(encoder: LocationEncoder, name: str = "") -> dict[str, str]:
    """Return what an exported file says of itself.

    Parameters
    ----------
    encoder : LocationEncoder
        What it is made of.
    name : str
        What it is called; the encoder's name if not given.

    Returns
    -------
    dict of str to str
        Name, weights, options, licence, training data, and what it takes and gives.

    Examples
    --------
    >>> from geoembed.encoders import load_encoder
    >>> provenance(load_encoder("geoclip.v1", device="cpu"))["input"]
    'lon, lat: degrees, WGS 84, float64, shape (n,); longitude of any turn'
    """
    facts = {
        "encoder": name or encoder.name,
        "weights_sha256": encoder.weights_sha256,
        "layers": encoder.layers,
        "normalize": str(encoder.normalize).lower(),
        "licence": encoder.spec.licence,
        "paper": encoder.spec.paper,
        "training_data": encoder.spec.training_data,
        "input": "lon, lat: degrees, WGS 84, float64, shape (n,); longitude of any turn",
        "output": f"embedding: {encoder.precision}, shape (n, {encoder.dimension}); NaN where a "
        "latitude is outside [-90, 90] or a coordinate is not finite",
        "geoembed_version": __version__,
    }
    return {key: value for key, value in facts.items() if value}
