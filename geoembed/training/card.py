"""The card of an exported model: what it is, what it learned from, how good it is, its limits."""

import json
from collections.abc import Mapping
from math import floor
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from geoembed import __version__
from geoembed.training.card_measures import PLACES, lowest_cosine, similarity_by_distance
from geoembed.training.trained_model import TrainedModel

__all__ = ["card_text", "write_card"]

# Identifiers of the hub for licences as they are written here.
_LICENCES: Final = {
    "MIT": "mit",
    "Apache-2.0": "apache-2.0",
    "BSD-3-Clause": "bsd-3-clause",
    "CC0-1.0": "cc0-1.0",
    "CC BY 4.0": "cc-by-4.0",
}


def write_card(
    model: TrainedModel,
    folder: Path,
    tensors: Mapping[str, Tensor],
    *,
    format: str,
    images: bool | None = None,
) -> None:
    """Write ``README.md`` of a folder.

    Parameters
    ----------
    model, tensors, format, images
        As for `card_text`.
    folder : Path
        Where it is written.
    """
    text = card_text(model, tensors, format=format, images=images)
    (folder / "README.md").write_text(text, encoding="utf-8")


def card_text(
    model: TrainedModel,
    tensors: Mapping[str, Tensor],
    *,
    format: str,
    images: bool | None = None,
) -> str:
    """Return the card of a model, Markdown with the hub's head.

    Parameters
    ----------
    model : TrainedModel
        Whose.
    tensors : mapping of str to Tensor
        As they stand in the file.
    format : {"geoembed", "geoclip"}
        Of the folder.
    images : bool, optional
        Whether the image side is in the folder; if there is one, unless given.

    Returns
    -------
    str
        How similar places at several distances are, and what half precision costs, is measured
        for it.

    Examples
    --------
    >>> from geoembed.training.trained_model import model_of_name
    >>> model = model_of_name("geoclip.v1")
    >>> text = card_text(model, model.tensors(), format="geoembed")
    >>> [line[3:] for line in text.splitlines() if line.startswith("## ")]
    ['What it is', 'How to load it', 'Data', 'Recipe', 'Results', 'Licence', 'Limits']
    """
    images = model.side is not None if images is None else images
    sections = {
        "What it is": _what(model, tensors, images),
        "How to load it": _loading(format, images),
        "Data": _data(model),
        "Recipe": _rows(model.story.get("recipe", {}), "Not recorded."),
        "Results": _results(model, tensors),
        "Licence": model.licence or "Not stated. Ask whoever trained it before you use it.",
        "Limits": _limits(model),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    summary = model.summary or "A location encoder."
    return f"{_head(model, format, images)}\n# {model.name}\n\n{summary}\n\n{body}\n"


def _head(model: TrainedModel, format: str, images: bool) -> str:
    identifier = _LICENCES.get(model.licence, "other")
    lines = [f"license: {identifier}"]
    if identifier == "other" and model.licence:
        lines.append(f"license_name: {json.dumps(model.licence, ensure_ascii=False)}")
    tags = ["geospatial", "location-encoder", *(["image-geolocation"] if images else [])]
    lines += [f"library_name: {format}", "tags:", *(f"- {tag}" for tag in tags)]
    return "\n".join(["---", *lines, "---", ""])


def _what(model: TrainedModel, tensors: Mapping[str, Tensor], images: bool) -> str:
    made, encoded = model.architecture, model.architecture.encoding == "rff"
    scales = ", ".join(f"{sigma:g}" for sigma in made.sigmas)
    widths = "-".join(map(str, made.hidden))
    rows = {
        "location encoder": "longitude and latitude (degrees, WGS 84) to "
        f"{made.output} values, not normalised",
        "projection": made.projection,
        "encoding": f"random Fourier features, {made.frequencies} frequencies a scale, "
        f"sigma = {scales}"
        if encoded
        else "none: projected numbers as they are",
        "network": f"{len(made.sigmas)} capsules with hidden layers {widths}, outputs summed",
        "parameters of the location encoder": f"{_count(model.network):,}",
    }
    side = model.side
    if images and side is not None:
        tower = side.network.tower
        rows["image side"] = (
            f"layers {'-'.join(map(str, side.network.widths))} on the frozen tower of "
            f"{side.backbone}, which is not in this folder"
            if tower is None
            else f"a convolutional network of {_count(tower):,} parameters for pictures of "
            f"{tower.size} pixels, layers {'-'.join(map(str, side.network.widths))} on top"
        )
        rows["temperature"] = f"cosines are multiplied by {side.scale:.4g}"
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    rows["weights"] = " and ".join(kinds)
    rows["SHA-256 of the location encoder's weights"] = f"`{model.location_sha256(tensors)}`"
    if model.paper:
        rows["paper"] = model.paper
    rows["written by"] = f"geoembed {__version__}"
    return _rows(rows, "")


def _count(module: torch.nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())


def _loading(format: str, images: bool) -> str:
    lines = [
        "import geoembed",
        "",
        'encoder = geoembed.load_encoder("path/to/this/folder")',
        "vectors = encoder.encode(lon=[2.35], lat=[48.86])",
    ]
    if images:
        lines += [
            "",
            "from geoembed.geolocation import GeoLocalizer",
            "from geoembed.galleries import Gallery",
            "",
            'gallery = Gallery.grid(100, encoder="path/to/this/folder")',
            'localizer = GeoLocalizer(gallery, image_encoder="path/to/this/folder").fit()',
            'answers = localizer.localize(["picture.jpg"])',
        ]
    own = "```python\n" + "\n".join(lines) + "\n```"
    if format != "geoclip":
        return own
    # The package takes (lat, lon).
    theirs = (
        [
            "from geoclip import GeoCLIP",
            "",
            'model = GeoCLIP.from_pretrained("path/to/this/folder")',
        ]
        if images
        else [
            "import torch",
            "from geoclip import LocationEncoder",
            "",
            'encoder = LocationEncoder.from_pretrained("path/to/this/folder")',
            "vectors = encoder(torch.tensor([[48.86, 2.35]]))  # latitude first",
        ]
    )
    return f"{own}\n\nWith the package geoclip:\n\n```python\n" + "\n".join(theirs) + "\n```"


def _data(model: TrainedModel) -> str:
    words = model.training_data or "Not stated."
    rows = model.story.get("data", {})
    return f"{words}\n\n{_rows(rows, '')}".rstrip()


def _results(model: TrainedModel, tensors: Mapping[str, Tensor]) -> str:
    measured = _rows(model.story.get("results", {}), "Not measured on held-out places.")
    cosines = similarity_by_distance(model)
    table = "\n".join(
        [
            "| km apart | mean cosine similarity |",
            "|---|---|",
            *(f"| {km:g} | {cosine:.3f} |" for km, cosine in cosines.items()),
        ]
    )
    text = (
        f"{measured}\n\nHow similar two places are, around {PLACES} cities of the world; places "
        f"nearer than where this is near 1 are not told apart:\n\n{table}"
    )
    if any(tensor.dtype == torch.float16 for tensor in tensors.values()):
        # Rounded down, so that it is no more than was found.
        cosine = floor(1e6 * lowest_cosine(model, tensors)) / 1e6
        text += (
            "\n\nWeights are kept in float16. At the same cities the cosine similarity with the "
            f"vectors of float32 weights is {cosine} or more."
        )
    return text


def _limits(model: TrainedModel) -> str:
    told = [
        "It knows of a place what pictures of the training data show there. Where there were "
        "none it fills in from elsewhere, and nothing in a vector says so.",
        "Similarities are cosines, not probabilities. A radius or a share of confidence has to be "
        "calibrated on pictures of one's own.",
        "It is not for finding people: where somebody lives, works or stays.",
    ]
    if model.architecture.projection != "sphere":
        told.insert(
            1,
            "Its map is torn at the antimeridian and at the poles: vectors of longitude 180 and "
            "-180 differ. geoembed mends that with seam='blend'.",
        )
    if model.side is not None and model.side.network.tower is None:
        told.append(
            f"Pictures need the tower of {model.side.backbone}, which has a licence of its own."
        )
    return "\n".join(f"- {text}" for text in told)


def _rows(rows: Mapping[str, str], otherwise: str) -> str:
    if not rows:
        return otherwise
    lines = [f"| {_cell(label)} | {_cell(text)} |" for label, text in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
