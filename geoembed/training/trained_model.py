"""A trained model in memory, wherever it comes from: what an export writes."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

import geoembed.weights as weights
from geoembed import __version__
from geoembed.encoders import load_encoder
from geoembed.encoders.architecture import LocationArchitecture
from geoembed.encoders.geoclip import GeoCLIPEncoder
from geoembed.encoders.network import LocationNetwork
from geoembed.errors import OptionError, PluginError
from geoembed.extending.registry import image_encoder_specs, location_encoder_specs
from geoembed.extending.specs import check_name
from geoembed.images.sides import ImageSide, image_side_of, read_image_side

__all__ = ["Story", "TrainedModel", "model_name", "model_of_folder", "model_of_name"]

_TOLD: Final = ("summary", "licence", "paper", "training_data", "best_layers")

# What a card tells of how a model came about: title of a section -> label -> text.
Story = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedModel:
    """A location encoder, with or without the image side that was trained with it.

    Parameters
    ----------
    name : str
        ``family`` or ``family.tag``.
    architecture : LocationArchitecture
        What the location encoder is made of.
    network : LocationNetwork
        Of that architecture, on the CPU.
    side : ImageSide, optional
        The image side.
    summary, licence, paper, training_data : str
        What the card says first.
    best_layers : str
        What the option ``layers="best"`` stands for; the preset of ``geoclip.v1`` if not given.
    story : mapping
        ``"data"``, ``"recipe"`` and ``"results"`` of the run: label to text.
    """

    name: str
    architecture: LocationArchitecture
    network: LocationNetwork
    side: ImageSide | None = None
    summary: str = ""
    licence: str = ""
    paper: str = ""
    training_data: str = ""
    best_layers: str = ""
    story: Story = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """Return all weights under the names of `geoembed.training.model.GeolocationModel`.

        Returns
        -------
        dict of str to Tensor
            float32, contiguous, on the CPU.
        """
        named: dict[str, Tensor] = {
            f"location_encoder.{key}": tensor for key, tensor in self.network.state_dict().items()
        }
        if self.side is not None:
            for key, tensor in self.side.network.state_dict().items():
                named[f"image_encoder.{key}"] = tensor
            # The exponential in float64 of a float32 number, and back, is that number.
            named["logit_scale"] = torch.tensor(math.log(self.side.scale))
        return {
            key: tensor.detach().to("cpu", torch.float32).contiguous()
            for key, tensor in named.items()
        }

    def renamed(self, name: str) -> "TrainedModel":
        """Return the same model under another name.

        Parameters
        ----------
        name : str
            ``family`` or ``family.tag``.

        Returns
        -------
        TrainedModel
            Sharing the weights.

        Raises
        ------
        OptionError
            If the name does not fit.
        """
        try:
            return replace(self, name=check_name(name))
        except PluginError as error:
            raise OptionError(str(error)) from error

    def facts(self) -> dict[str, Any]:
        """Return what a configuration says of the model whatever its format.

        Returns
        -------
        dict
            As JSON holds it.
        """
        return {
            "name": self.name,
            "summary": self.summary,
            "licence": self.licence,
            "paper": self.paper,
            "training_data": self.training_data,
            **({"best_layers": self.best_layers} if self.best_layers else {}),
            "geoembed_version": __version__,
            "story": {title: dict(rows) for title, rows in self.story.items()},
        }

    def location_sha256(self, tensors: Mapping[str, Tensor] | None = None) -> str:
        """Return the digest that a location encoder of these weights has as ``weights_sha256``.

        Parameters
        ----------
        tensors : mapping of str to Tensor, optional
            Weights as they stand in a file, of either format; those of the model if not given.

        Returns
        -------
        str
            64 hexadecimal digits.
        """
        made = self.architecture
        own = self.network.state_dict()
        if tensors is not None:
            own = {key: tensors.get(f"location_encoder.{key}", tensors.get(key)) for key in own}
        return weights.digest_location(own, made.projection, made.encoding)


def model_name(text: str) -> str:
    """Make a name out of what a run, a folder or a file is called.

    Parameters
    ----------
    text : str
        Anything.

    Returns
    -------
    str
        Lower case; letters, digits, ``-`` and ``_``, and a dot before a tag.

    Examples
    --------
    >>> model_name("bluemarble.v1"), model_name("My Alps (2nd try)"), model_name("2024")
    ('bluemarble.v1', 'my-alps-2nd-try', 'model-2024')
    """
    family, _, tag = re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).partition(".")
    parts = [part.strip("-_.").replace(".", "-") for part in (family, tag)]
    name = ".".join(part for part in parts if part) or "model"
    return name if name[0].isalpha() else f"model-{name}"


def model_of_name(name: str) -> TrainedModel:
    """Return the model of a registered location encoder.

    Parameters
    ----------
    name : str
        Such as ``"geoclip.v1"``.

    Returns
    -------
    TrainedModel
        With its image side where trained layers for it are registered.

    Raises
    ------
    UnknownNameError
        If it is not registered.
    OptionError
        If the encoder has no network.
    MissingWeightsError, WeightsError
        If its weights are not here, or damaged.

    Examples
    --------
    >>> model = model_of_name("geoclip.v1")
    >>> model.architecture.sigmas, model.side.network.widths
    ((1.0, 16.0, 256.0), (768, 768, 512))
    """
    encoder = _network_encoder(name)
    images = [
        spec.name
        for spec in image_encoder_specs().values()
        if spec.location_encoder == name and spec.weights is not None
    ]
    side = image_side_of(images[0]) if images else None
    trained = encoder.spec.weights
    folder = trained is not None and any(file.role == "config" for file in trained.files)
    config = weights.model_folder_of(trained).config if trained and folder else {}
    return TrainedModel(
        name=name,
        architecture=encoder.architecture,
        network=encoder.read_network(),
        side=side,
        **{key: getattr(encoder.spec, key) for key in _TOLD},
        story=_read_story(config.get("story")),
    )


def model_of_folder(path: str | Path) -> TrainedModel:
    """Read the model of a folder of `geoembed export` or the package geoclip, or of a file.

    Parameters
    ----------
    path : str or path
        A folder with ``config.json`` and ``model.safetensors``; or a ``.safetensors`` or ``.pth``
        file with a location encoder of GeoCLIP's kind.

    Returns
    -------
    TrainedModel
        With what its configuration says.

    Raises
    ------
    WeightsError
        If it is another kind of folder or file, or damaged.

    Examples
    --------
    >>> from geoembed.encoders.network import LocationNetwork
    >>> from safetensors.torch import save_file
    >>> network = LocationNetwork((1.0, 16.0), hidden=(8,), output=4)
    >>> save_file(network.state_dict(), "tiny.safetensors")
    >>> model = model_of_folder("tiny.safetensors")
    >>> model.name, model.architecture.output, model.side
    ('tiny', 4, None)
    """
    path = Path(path).expanduser()
    encoder = _network_encoder(path)
    made: dict[str, Any] = {"architecture": encoder.architecture, "network": encoder.read_network()}
    if not (path / "config.json").is_file():
        return TrainedModel(name=model_name(path.stem), **made)
    folder = weights.read_model_folder(path)
    told: dict[str, Any] = {key: folder.text(key) for key in _TOLD}
    return TrainedModel(
        name=model_name(folder.text("name") or path.name),
        **made,
        side=read_image_side(folder) if folder.has_images else None,
        **told,
        story=_read_story(folder.config.get("story")),
    )


def _network_encoder(source: str | Path) -> GeoCLIPEncoder:
    if isinstance(source, Path) and source.suffix.lower() == ".onnx":
        raise OptionError(
            f"{source} is an ONNX file, whose weights cannot be taken out again. Give what it was "
            "exported from: a run, a model folder, a weights file, or the registered name, which "
            f"'geoembed encoders {source}' tells."
        )
    encoder = load_encoder(source, device="cpu")
    if not isinstance(encoder, GeoCLIPEncoder):
        with_network = sorted(
            spec.name for spec in location_encoder_specs().values() if spec.weights is not None
        )
        raise OptionError(
            f"The encoder {encoder.name!r} has no network: only trained ones can be exported, such "
            f"as {', '.join(with_network)}."
        )
    return encoder


def _read_story(values: Any) -> Story:
    """Take from a configuration what is of the right form; a card is no reason to fail."""
    if not isinstance(values, dict):
        return {}
    return {
        str(title): {str(label): str(text) for label, text in rows.items()}
        for title, rows in values.items()
        if isinstance(rows, dict)
    }
