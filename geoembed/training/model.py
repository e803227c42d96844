"""The model that is trained: a location encoder, an image side, and the temperature between."""

import math
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoembed.devices import has_float64
from geoembed.encoders.architecture import LocationArchitecture
from geoembed.encoders.network import LocationNetwork
from geoembed.errors import OptionError
from geoembed.extending.image_specs import Preprocessing
from geoembed.images import load_image_encoder
from geoembed.images.frozen import frozen_tower
from geoembed.images.sides import ImageSide
from geoembed.images.towers import Tower, tower_of
from geoembed.training.initialising import initial_image_side, initial_location
from geoembed.training.settings import TrainingSettings
from geoembed.training.tasks import LearningModel

__all__ = ["GeolocationModel", "build_model"]


class GeolocationModel(LearningModel):
    """A location encoder and an image side whose vectors are compared by their cosine.

    The keys of the state dict are those of GeoCLIP's full model (``location_encoder.*``,
    ``image_encoder.mlp.*``, ``logit_scale``), and ``image_encoder.tower.*`` for a trained tower.
    A frozen backbone is no part of it.

    Parameters
    ----------
    architecture : LocationArchitecture
        What the location encoder is made of.
    location_encoder : LocationNetwork
        Of that architecture.
    image_side : ImageSide
        The layers on top of a frozen backbone, or a trained tower with its layers; and the
        temperature.
    preprocessing : Preprocessing
        How pictures become the pixels that the tower takes.
    backbone : Tower, optional
        The frozen tower. Without one, and without a trained one, views are its features.

    Examples
    --------
    >>> from geoembed.images.network import ImageNetwork
    >>> architecture = LocationArchitecture(sigmas=(1.0,), hidden=(8,), output=4)
    >>> model = GeolocationModel(
    ...     architecture,
    ...     architecture.build(),
    ...     ImageSide(network=ImageNetwork(16, [8], 4), scale=14.0),
    ...     preprocessing=Preprocessing(size=8, mean=(0.5,) * 3, std=(0.5,) * 3),
    ... )
    >>> model.encode_places(np.array([[2.35, 48.86]])).shape
    torch.Size([1, 4])
    >>> model.encode_views(torch.zeros(3, 16)).shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        architecture: LocationArchitecture,
        location_encoder: LocationNetwork,
        image_side: ImageSide,
        *,
        preprocessing: Preprocessing,
        backbone: Tower | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.location_encoder = location_encoder
        self.image_encoder = image_side.network
        self.logit_scale = nn.Parameter(torch.tensor(math.log(image_side.scale)))
        self.preprocessing = preprocessing
        self.backbone = backbone
        self.backbone_name = image_side.backbone
        self.backbone_sha256 = image_side.backbone_sha256

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.logit_scale.device

    @property
    def feature_dimension(self) -> int:
        """Length of a feature of the tower."""
        return self.image_encoder.widths[0]

    def encode_places(self, lonlat: NDArray[np.float64]) -> Tensor:
        """Encode places, with gradients.

        Places are projected, and phases formed, in float64 whatever autocast the caller is under.

        Parameters
        ----------
        lonlat : array of shape (n, 2), float64
            Degrees, WGS 84.

        Returns
        -------
        Tensor of shape (n, output)
            Not normalised; float32, or float64 if the weights are.
        """
        points = torch.from_numpy(self.architecture.project(lonlat))
        if has_float64(self.device):
            points = points.to(self.device, non_blocking=True)
        return _at_least_float32(self.location_encoder(points))

    def encode_views(self, views: Tensor) -> Tensor:
        """Encode views of pictures, with gradients as far as something is trained.

        Parameters
        ----------
        views : Tensor of shape (n, 3, size, size) or (n, feature_dimension)
            Prepared pixels; or features of the frozen tower.

        Returns
        -------
        Tensor of shape (n, output)
            Not normalised; float32, or float64 if the weights are.

        Raises
        ------
        OptionError
            If the shape fits neither the tower nor the layers on top.
        """
        if views.ndim == 4 and self.image_encoder.tower is None:
            if self.backbone is None:
                raise OptionError(
                    f"views are pixels of the shape {tuple(views.shape)}, and the model was built "
                    "without its backbone: give features of the shape "
                    f"(n, {self.feature_dimension}), or build it with backbone=True."
                )
            views = self.backbone.features(views)
        size = self.preprocessing.size
        tower = self.image_encoder.tower is not None
        expected = (3, size, size) if tower else (self.feature_dimension,)
        if tuple(views.shape[1:]) != expected:
            raise OptionError(
                f"views have the shape {tuple(views.shape)}, expected "
                f"(n, {', '.join(map(str, expected))})."
            )
        views = views.to(self.device, self.logit_scale.dtype, non_blocking=True)
        return _at_least_float32(self.image_encoder(views))

    def image_side(self) -> ImageSide:
        """Return the image side as it is now, sharing its weights, for what a folder says of it."""
        trained = self.image_encoder.tower is not None
        return ImageSide(
            network=self.image_encoder,
            # In float64: float32 and back would move the last digit.
            scale=math.exp(self.logit_scale.item()),
            preprocessing=self.preprocessing if trained else None,
            backbone=self.backbone_name,
            backbone_sha256=self.backbone_sha256,
        )

    def describe(self) -> dict[str, Any]:
        """Return how many numbers each part has, those that are trained and those that are not.

        Returns
        -------
        dict of str to dict
            Part -> ``{"trained": ..., "frozen": ...}``; frequencies count as frozen, and so does
            the backbone, where it is loaded and says how many it has.
        """
        counts = {
            part: {"trained": 0, "frozen": 0}
            for part in ("location_encoder", "image_encoder", "logit_scale")
        }
        trained = {name for name, _ in self.trained()}
        for name, tensor in self.state_dict().items():
            kind = "trained" if name in trained else "frozen"
            counts[name.partition(".")[0]][kind] += tensor.numel()
        if self.backbone is not None:
            counts["backbone"] = {"trained": 0, "frozen": self.backbone.parameters}
        return counts


def build_model(
    settings: TrainingSettings,
    *,
    device: torch.device | str = "cpu",
    feature_dimension: int | None = None,
    backbone: bool = True,
    backbone_sha256: str = "",
    allow_download: bool = False,
) -> GeolocationModel:
    """Build the model that a run starts with.

    Parameters
    ----------
    settings : TrainingSettings
        Of the run. Weights are drawn from its seed, each part from its own stream, whatever
        torch's generator is at.
    device : device or str
        Where the networks and the frozen tower lie.
    feature_dimension : int, optional
        Length of the features, where `backbone` is False.
    backbone : bool
        Load the frozen tower of the image encoder or model folder that the settings name. Cached
        features need none.
    backbone_sha256 : str
        Digest of the tower that gave the cached features, where `backbone` is False.
    allow_download : bool
        Whether missing weights of the tower may be downloaded.

    Returns
    -------
    GeolocationModel
        In training mode; what is not to be trained needs no gradient.

    Raises
    ------
    OptionError
        If parts do not fit together, or `feature_dimension` is missing.
    UnknownNameError, WeightsError, MissingWeightsError
        If what it starts from is not here, or damaged.

    Examples
    --------
    >>> settings = TrainingSettings.model_validate(
    ...     {
    ...         "data": {"kind": "bluemarble"},
    ...         "location": {"sigmas": [1.0, 16.0], "hidden": [32], "output": 16},
    ...         "image": {"tower": "convnet", "widths": [8, 16], "head": [24]},
    ...     }
    ... )
    >>> model = build_model(settings)
    >>> model.encode_views(torch.zeros(2, 3, 48, 48)).shape
    torch.Size([2, 16])
    """
    image = settings.image
    device = torch.device(device)
    tower: Tower | None = None
    preprocessing: Preprocessing | None = None
    name = ""
    if image.tower == "backbone":
        if backbone:
            tower = _load_tower(settings, device, allow_download)
            feature_dimension, preprocessing = tower.dimension, tower.preprocessing
            backbone_sha256 = tower.sha256
            name = frozen_tower(image.backbone).backbone
        elif feature_dimension is None:
            raise OptionError("build_model(backbone=False) needs feature_dimension.")
        else:
            known = frozen_tower(image.backbone)
            name, preprocessing = known.backbone, known.preprocessing
            backbone_sha256 = backbone_sha256 or known.sha256
    architecture, network = initial_location(settings.location, settings.seed)
    side = initial_image_side(
        image,
        architecture.output,
        settings.seed,
        features=feature_dimension or 0,
        backbone_sha256=backbone_sha256,
        temperature=settings.objective.temperature,
    )
    if image.tower == "backbone":
        # A folder by its absolute path: an export takes its tower over from there.
        side = replace(side, backbone=name, backbone_sha256=backbone_sha256)
    preprocessing = preprocessing or side.preprocessing
    assert preprocessing is not None
    model = GeolocationModel(
        architecture, network, side, preprocessing=preprocessing, backbone=tower
    )
    model.logit_scale.requires_grad_(settings.objective.learn_temperature)
    return model.to(device)


def _load_tower(settings: TrainingSettings, device: torch.device, allow_download: bool) -> Tower:
    """Load the frozen tower, in the precision of the run if it offers that."""
    load = partial(
        load_image_encoder,
        settings.image.backbone,
        weights=settings.image.weights or None,
        allow_download=allow_download,
        device=str(device),
    )
    if settings.loop.precision != "float32":
        # Not every encoder offers half precision; whatever else is wrong is said below.
        with suppress(OptionError):
            return tower_of(load(precision=settings.loop.precision))
    return tower_of(load())


def _at_least_float32(vectors: Tensor) -> Tensor:
    return vectors.float() if vectors.dtype in (torch.bfloat16, torch.float16) else vectors
