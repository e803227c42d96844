"""Trained image sides: what a model folder or a registered encoder holds above its tower."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from geoembed import weights
from geoembed.errors import OptionError, PluginError, WeightsError
from geoembed.extending.image_specs import ImageEncoderSpec, Preprocessing
from geoembed.extending.registry import image_encoder_spec, image_encoder_specs
from geoembed.extending.specs import WeightsSpec
from geoembed.images.convnet import ConvNet
from geoembed.images.head import load_temperature
from geoembed.images.network import ImageNetwork
from geoembed.scalars import is_whole
from geoembed.weights import ModelFolder, model_folder_of, read_model_folder

__all__ = ["ImageSide", "image_side_of", "read_image_side"]

_PREFIX: Final = "image_encoder."

# What the package geoclip puts its head on, and the registered encoder that has this tower.
_CLIP: Final = "openai/clip-vit-large-patch14"
_CLIP_NAME: Final = "geoclip.v1"


@dataclass(frozen=True, kw_only=True)
class ImageSide:
    """The trained part of an image encoder.

    Parameters
    ----------
    network : ImageNetwork
        The layers on top of the tower, and the tower where it was trained; float32, on the CPU.
    scale : float
        What cosines are multiplied by in the loss.
    preprocessing : Preprocessing or None
        What a trained tower takes; a backbone has its own.
    backbone : str
        Name of the image encoder whose frozen tower it needs; empty for a trained tower.
    backbone_sha256 : str
        Digest of that tower's weights; empty if it is not known.
    """

    network: ImageNetwork
    scale: float
    preprocessing: Preprocessing | None = None
    backbone: str = ""
    backbone_sha256: str = ""

    def config(self) -> dict[str, Any]:
        """Return the section ``"image"`` of a model folder's ``config.json``."""
        features, *head, output = self.network.widths
        above = {"features": features, "head": head, "output": output}
        tower = self.network.tower
        if tower is None:
            return {
                "tower": "backbone",
                "backbone": self.backbone,
                "backbone_sha256": self.backbone_sha256,
                **above,
            }
        assert self.preprocessing is not None
        fields = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self.preprocessing).items()
        }
        return {
            "tower": "convnet",
            "size": tower.size,
            "widths": list(tower.widths),
            **above,
            "preprocessing": fields,
        }


def image_side_of(name: str) -> ImageSide:
    """Return the trained image side of a registered encoder, or of a model folder.

    The tower of a frozen backbone is not needed for it.

    Parameters
    ----------
    name : str
        Registered, such as ``"geoclip.v1"``, or the path of a folder.

    Returns
    -------
    ImageSide
        Not shared with any encoder.

    Raises
    ------
    UnknownNameError
        If it is neither.
    OptionError
        If the encoder has no trained layers on top of a tower.
    MissingWeightsError
        If its weights are nowhere.
    WeightsError
        If they are not what they should be.

    Examples
    --------
    >>> side = image_side_of("geoclip.v1")
    >>> side.network.widths, round(side.scale, 2)
    ((768, 768, 512), 39.69)
    """
    if name not in image_encoder_specs() and Path(name).expanduser().exists():
        return read_image_side(read_model_folder(name))
    spec = image_encoder_spec(name)
    roles = {file.role for file in spec.weights.files} if spec.weights else set()
    if spec.weights is not None and {"config", "model"} <= roles:
        return read_image_side(model_folder_of(spec.weights))
    if spec.weights is not None and {"image_mlp", "logit_scale"} <= roles:
        return _registered_head(spec, spec.weights)
    raise OptionError(
        f"The image encoder {name!r} has no trained layers on top of its tower to start from."
    )


def read_image_side(folder: ModelFolder) -> ImageSide:
    """Read the image side of a model folder, strictly.

    Parameters
    ----------
    folder : ModelFolder
        Of `geoembed.weights.read_model_folder`.

    Returns
    -------
    ImageSide
        Weights that the file holds in half precision are float32.

    Raises
    ------
    WeightsError
        If the folder holds a location encoder alone, its description lacks something or says
        something impossible, or the tensors are not those it describes.
    """
    where = folder.path / "config.json"
    if not folder.has_images:
        raise WeightsError(
            f"The model in {folder.path} is a location encoder alone ({where.name} says "
            f"{folder.config['model_type']!r}): it reads no pictures."
        )
    tensors = folder.part(_PREFIX)
    scale = folder.temperature()
    if scale is None or not math.isfinite(scale):
        raise WeightsError(f"The model in {folder.path} has no temperature: logit_scale.")
    if folder.format == "geoclip":
        return _published(folder, tensors, scale)
    section = _Section(folder.config, where)
    kind = section.text("tower")
    features, head = section.count("features"), section.counts("head")
    output = section.count("output")
    if kind == "backbone":
        network = ImageNetwork(features, head, output)
        _fill(network, tensors, str(folder.path))
        return ImageSide(
            network=network,
            scale=scale,
            backbone=section.text("backbone"),
            backbone_sha256=section.text("backbone_sha256"),
        )
    if kind != "convnet":
        raise WeightsError(f"{where} declares image.tower {kind!r}: 'convnet' or 'backbone'.")
    preprocessing = section.preprocessing()
    try:
        tower = ConvNet(section.count("size"), section.counts("widths"))
    except OptionError as error:
        raise WeightsError(f"{where} describes no image tower: {error}") from error
    if tower.features != features or preprocessing.size != tower.size:
        raise WeightsError(
            f"{where} contradicts itself: a tower of widths {list(tower.widths)} gives "
            f"{tower.features} features of pictures of {tower.size} pixels, declared are "
            f"{features} features and {preprocessing.size} pixels."
        )
    network = ImageNetwork(features, head, output, tower)
    _fill(network, tensors, str(folder.path))
    return ImageSide(network=network, scale=scale, preprocessing=preprocessing)


class _Section:
    """The section ``"image"`` of a configuration; a field that is missing or odd is named."""

    def __init__(self, config: Mapping[str, Any], where: Path) -> None:
        self._where = where
        self._values = config.get("image")
        if not isinstance(self._values, dict):
            raise WeightsError(f"{where} has no section 'image', it holds {self._values!r:.60}.")

    def text(self, key: str) -> str:
        return str(self._checked(key, "a text", lambda value: isinstance(value, str)))

    def count(self, key: str) -> int:
        return int(self._checked(key, "a whole number of at least 1", _is_count))

    def counts(self, key: str) -> tuple[int, ...]:
        def are_counts(value: object) -> bool:
            return isinstance(value, list) and all(map(_is_count, value))

        return tuple(self._checked(key, "a list of whole numbers of at least 1", are_counts))

    def preprocessing(self) -> Preprocessing:
        values = self._checked("preprocessing", "a table", lambda value: isinstance(value, dict))
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        try:
            return Preprocessing(**fields)
        except (PluginError, TypeError) as error:
            raise WeightsError(f"{self._where}: image.preprocessing cannot be used: {error}") from (
                error
            )

    def _checked(self, key: str, expected: str, fits: Callable[[object], bool]) -> Any:
        assert self._values is not None
        value = self._values.get(key)
        if not fits(value):
            raise WeightsError(
                f"{self._where} declares image.{key} = {value!r:.60}, expected {expected}."
            )
        return value


def _is_count(value: object) -> bool:
    return is_whole(value) and value >= 1


def _published(folder: ModelFolder, tensors: dict[str, Tensor], scale: float) -> ImageSide:
    """Read what the package geoclip reads: two layers on the CLIP that it names."""
    where = folder.path / "config.json"
    backbone = folder.config.get("backbone")
    repository = backbone.get("repo_id") if isinstance(backbone, dict) else None
    if repository != _CLIP:
        raise WeightsError(
            f"{where} puts its head on the tower {repository!r}; this version knows {_CLIP!r}."
        )
    return ImageSide(
        network=_head(tensors, "mlp.", str(folder.path)), scale=scale, backbone=_CLIP_NAME
    )


def _registered_head(spec: ImageEncoderSpec, trained: WeightsSpec) -> ImageSide:
    where = f"the weights {trained.name!r}"
    scale = load_temperature(spec)
    assert scale is not None
    network = _head(weights.load_tensors(trained, "image_mlp"), "", where)
    return ImageSide(network=network, scale=scale, backbone=spec.name)


def _head(tensors: Mapping[str, Tensor], prefix: str, where: str) -> ImageNetwork:
    """Build the layers on top of a tower from their tensors alone."""
    layers = [tensors[key] for key in sorted(tensors) if key.endswith(".weight")]
    if not layers or any(layer.ndim != 2 for layer in layers):
        raise WeightsError(f"The tensors of {where} are not layers: {sorted(tensors)[:4]}.")
    network = ImageNetwork(
        layers[0].shape[1], [len(layer) for layer in layers[:-1]], len(layers[-1])
    )
    known = {f"mlp.{key.removeprefix(prefix)}": tensor for key, tensor in tensors.items()}
    _fill(network, known, where)
    return network


def _fill(network: ImageNetwork, tensors: Mapping[str, Tensor], where: str) -> None:
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise WeightsError(
                f"The tensors of {where} cannot be used: {key!r} holds values that are not finite "
                f"numbers ({tensor.dtype})."
            )
    try:
        network.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise WeightsError(
            f"The tensors of {where} are not the image side that is described: {problem}"
        ) from error
    network.eval().requires_grad_(False)
