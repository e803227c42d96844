"""Trained image sides behind the common interface: model folders, and those that are registered."""

import os
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from geoembed import weights
from geoembed.errors import OptionError, UnknownNameError, WeightsError
from geoembed.extending.image_specs import ImageEncoderSpec, Preprocessing
from geoembed.extending.registry import image_encoder_spec
from geoembed.images.base import ImageEncoder
from geoembed.images.sides import ImageSide, read_image_side
from geoembed.images.towers import Tower
from geoembed.weights import ModelFolder
from geoembed.weights.model_folders import local_name

__all__ = ["TrainedImageEncoder", "load", "load_folder"]

_FACTORY: Final = "geoembed.images.trained:load"
_TOLD: Final = ("summary", "licence", "paper", "training_data")


class TrainedImageEncoder(ImageEncoder):
    """The image side of a model folder.

    Made by `geoembed.images.load_image_encoder`, not directly.

    Parameters
    ----------
    spec : ImageEncoderSpec
        What it is called, and what it takes and gives.
    folder : ModelFolder
        Where it lies.
    side : ImageSide
        What was read from there.
    **options
        Those of `geoembed.images.load_image_encoder`. Those of the tower go to the frozen backbone,
        where there is one; else `weights` and `compile` are refused.
    """

    supports_precision = True

    def __init__(
        self, spec: ImageEncoderSpec, folder: ModelFolder, side: ImageSide, **options: Any
    ) -> None:
        super().__init__(spec, **options)
        self._folder = folder
        self._scale = side.scale
        self._backbone = side.backbone
        self._own_sha256 = weights.digest_tensors(side.network.state_dict())
        self._mlp = side.network.mlp.to(self.device)
        self._tower = self._load_backbone(side) if side.backbone else self._trained_tower(side)

    @property
    def tower(self) -> Tower:
        """What lies below the trained layers: the frozen backbone, or the trained network."""
        return self._tower

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by in the loss."""
        return self._scale

    @cached_property
    def weights_sha256(self) -> str:
        """Digest of the trained tensors, and of the frozen backbone if they lie on one."""
        if not self._backbone:
            return self._own_sha256
        return sha256(f"{self._tower.sha256}\0{self._own_sha256}".encode()).hexdigest()

    @cached_property
    def location_sha256(self) -> str:
        """Digest of the location encoder that it was trained with, its ``weights_sha256``."""
        return self._folder.location_sha256()

    @property
    def batch_rows(self) -> int:
        """Rows of pixels computed at a time unless another number is asked for."""
        return self._tower.rows

    def _encode_pixels(self, pixels: Tensor) -> Tensor:
        vectors: Tensor = self._mlp(self._tower.compute(pixels).float())
        return vectors

    def _encode_texts(self, texts: list[str]) -> Tensor:
        vectors: Tensor = self._mlp(self._tower.text_features(texts))
        return vectors

    def _trained_tower(self, side: ImageSide) -> Tower:
        for option in ("weights", "compile"):
            if self.options[option]:
                raise OptionError(
                    f"{option}={self.options[option]!r}: the image encoder {self.name!r} carries "
                    "its own tower, a small one, and takes no such option."
                )
        network = side.network.tower
        assert network is not None
        parameters = sum(parameter.numel() for parameter in network.parameters())
        digest = weights.digest_tensors(network.state_dict())
        return Tower(
            name=self.name,
            compute=network.to(self.device, self.dtype),
            patches=network.patches,
            dimension=network.features,
            preprocessing=self.preprocessing,
            digest=lambda: digest,
            device=self.device,
            dtype=self.dtype,
            # Of pictures of 48 pixels a core computes the most in such a number.
            rows=64 if self.device.type == "cpu" else 1024,
            parameters=parameters,
        )

    def _load_backbone(self, side: ImageSide) -> Tower:
        from geoembed.images import load_image_encoder

        tower = load_image_encoder(side.backbone, **self.options).tower
        expected = side.network.widths[0]
        if tower.dimension != expected:
            raise WeightsError(
                f"The layers in {self._folder.path} take features of {expected} values, the tower "
                f"of {side.backbone!r} gives {tower.dimension}."
            )
        if side.backbone_sha256 and tower.sha256 != side.backbone_sha256:
            raise WeightsError(
                f"The model in {self._folder.path} was trained on other weights of the tower of "
                f"{side.backbone!r}: their digest is {tower.sha256}, expected "
                f"{side.backbone_sha256}. Give the right ones with weights=PATH."
            )
        return tower

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        if self._folder.spec is not None:
            return super().__reduce__()
        return _reload, (str(self._folder.path), self.options)


def load(spec: ImageEncoderSpec, **options: Any) -> TrainedImageEncoder:
    """Make the encoder of a registered model folder; the factory of its spec.

    Parameters
    ----------
    spec : ImageEncoderSpec
        Its weights have files of the roles ``"config"`` and ``"model"``.
    **options
        Those of `geoembed.images.load_image_encoder`.

    Returns
    -------
    TrainedImageEncoder
        Checked against the spec.

    Raises
    ------
    MissingWeightsError
        If the weights are nowhere.
    WeightsError
        If they are damaged, or not what the spec says.
    """
    if spec.weights is None:
        raise WeightsError(f"The image encoder {spec.name!r} declares no weights to load.")
    folder = weights.model_folder_of(spec.weights)
    side = read_image_side(folder)
    found = (side.network.widths[-1], _preprocessing(folder, side))
    if found != (spec.dimension, spec.preprocessing):
        raise WeightsError(
            f"The model of {spec.name!r} gives vectors of {found[0]} values from {found[1]}; its "
            f"spec says {spec.dimension} from {spec.preprocessing}."
        )
    return TrainedImageEncoder(spec, folder, side, **options)


def load_folder(path: str | Path, **options: Any) -> TrainedImageEncoder:
    """Make the encoder of the image side of a model folder.

    Parameters
    ----------
    path : str or Path
        A folder with ``config.json`` and ``model.safetensors``, as `geoembed export` and the
        package geoclip write and read them.
    **options
        Those of `geoembed.images.load_image_encoder`.

    Returns
    -------
    TrainedImageEncoder
        Named after the folder, as its location encoder is by `geoembed.load_encoder`.

    Raises
    ------
    WeightsError
        If there is no such folder, it holds no image side, or it is damaged.
    """
    path = Path(os.path.abspath(Path(path).expanduser()))
    folder = weights.read_model_folder(path)
    side = read_image_side(folder)
    name = local_name(path)
    told: dict[str, Any] = {key: folder.text(key) for key in _TOLD}
    spec = ImageEncoderSpec(
        name=name,
        factory=_FACTORY,
        dimension=side.network.widths[-1],
        preprocessing=_preprocessing(folder, side),
        summary=told.pop("summary") or f"Image side read from {path.name}",
        location_encoder=name,
        reads_text=bool(side.backbone) and _backbone_spec(folder, side).reads_text,
        **told,
    )
    return TrainedImageEncoder(spec, folder, side, **options)


def _preprocessing(folder: ModelFolder, side: ImageSide) -> Preprocessing:
    return side.preprocessing or _backbone_spec(folder, side).preprocessing


def _backbone_spec(folder: ModelFolder, side: ImageSide) -> ImageEncoderSpec:
    try:
        return image_encoder_spec(side.backbone)
    except UnknownNameError as error:
        raise WeightsError(
            f"The model in {folder.path} needs the tower of the image encoder {side.backbone!r}, "
            f"which is not registered here: install the plugin that has it; or, if that is a model "
            f"folder, export the run again, which takes its tower over. {error}"
        ) from error


def _reload(path: str, options: dict[str, Any]) -> TrainedImageEncoder:
    return load_folder(path, **options)
