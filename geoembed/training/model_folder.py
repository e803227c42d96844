"""Model folders in geoembed's own format: it holds whatever can be trained here."""

import json
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from geoembed import __version__
from geoembed.errors import OptionError
from geoembed.training.card import write_card
from geoembed.training.trained_model import TrainedModel

__all__ = [
    "DTYPES",
    "FILES",
    "own_config",
    "save_tensors",
    "stored",
    "write_config",
    "write_model_folder",
]

DTYPES: Final = ("float32", "float16")

# Whatever an exported folder holds, in both formats.
FILES: Final = ("config.json", "model.safetensors", "README.md", "gallery.csv")


def write_model_folder(model: TrainedModel, folder: Path, *, dtype: str = "float32") -> None:
    """Write a model into an empty folder, which then stands wherever an encoder's name does.

    Parameters
    ----------
    model : TrainedModel
        With or without an image side.
    folder : Path
        Empty.
    dtype : {"float32", "float16"}
        Of the weights in the file; frequencies and temperature stay float32.

    Raises
    ------
    OptionError
        If there is no such type, or a weight is too large for it.

    Examples
    --------
    >>> from geoembed.encoders import load_encoder
    >>> from geoembed.encoders.architecture import LocationArchitecture
    >>> architecture = LocationArchitecture(projection="sphere", hidden=(8,), output=4)
    >>> model = TrainedModel(
    ...     name="tiny.v1", architecture=architecture, network=architecture.build()
    ... )
    >>> Path("tiny").mkdir()
    >>> write_model_folder(model, Path("tiny"))
    >>> load_encoder("tiny").architecture == architecture
    True
    """
    tensors = stored(model.tensors(), dtype)
    save_tensors(tensors, folder, model)
    write_config(own_config(model), folder)
    write_card(model, folder, tensors, format="geoembed")


def own_config(model: TrainedModel) -> dict[str, Any]:
    """Return what ``config.json`` holds in geoembed's format.

    Parameters
    ----------
    model : TrainedModel
        Whose.

    Returns
    -------
    dict
        As JSON holds it.
    """
    alone = model.side is None
    return {
        "model_type": "geoembed-location-encoder" if alone else "geoembed-geolocation",
        "format_version": 1,
        **model.facts(),
        "location": model.architecture.to_dict(),
        "image": None if model.side is None else model.side.config(),
    }


def stored(tensors: dict[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """Return weights in the type that a file keeps them in.

    Parameters
    ----------
    tensors : dict of str to Tensor
        float32.
    dtype : {"float32", "float16"}
        Of all but frequencies, whose rounding would move every phase, and the temperature.

    Returns
    -------
    dict of str to Tensor
        Under the same names.

    Raises
    ------
    OptionError
        If there is no such type, or a weight is too large for it.

    Examples
    --------
    >>> tensors = {"a.capsule.0.b": torch.ones(2, 2), "a.head.0.bias": torch.ones(2)}
    >>> kept = stored(tensors, "float16")
    >>> [tensor.dtype for tensor in kept.values()]
    [torch.float32, torch.float16]
    """
    if dtype not in DTYPES:
        raise OptionError(f"dtype={dtype!r} is not one of: {', '.join(DTYPES)}.")
    if dtype == "float32":
        return dict(tensors)
    halves = {}
    for key, tensor in tensors.items():
        exact = key.endswith(".capsule.0.b") or key == "logit_scale"
        halves[key] = tensor if exact else tensor.half()
        if not torch.isfinite(halves[key]).all():
            raise OptionError(
                f"dtype='float16' cannot hold {key!r}: its largest weight is "
                f"{float(tensor.abs().max()):.3g}. Use dtype='float32'."
            )
    return halves


def save_tensors(tensors: dict[str, Tensor], folder: Path, model: TrainedModel) -> None:
    """Write ``model.safetensors``, whose metadata say what it is.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Of the file.
    folder : Path
        Where it is written.
    model : TrainedModel
        What they belong to.
    """
    facts = {
        # What transformers and the hub look for.
        "format": "pt",
        "name": model.name,
        "licence": model.licence,
        "training_data": model.training_data,
        "location_sha256": model.location_sha256(tensors),
        "geoembed_version": __version__,
    }
    path = folder / "model.safetensors"
    save_file(tensors, path, {key: text for key, text in facts.items() if text})
    _order_header(path)
    # It is written for its owner alone.
    path.chmod(0o644)


def _order_header(path: Path) -> None:
    """Put the metadata of a safetensors file in order, so that equal exports are equal files."""
    with path.open("rb+") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        # The format allows spaces at the end. Were it ever longer, the order would stay as it is.
        if len(text) <= size:
            file.seek(8)
            file.write(text.ljust(size))


def write_config(config: dict[str, Any], folder: Path) -> None:
    """Write ``config.json``.

    Parameters
    ----------
    config : dict
        As JSON holds it.
    folder : Path
        Where it is written.
    """
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
